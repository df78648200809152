package store_test

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/countersign-dev/countersign/internal/signing"
	"github.com/countersign-dev/countersign/internal/store"
	"github.com/countersign-dev/countersign/internal/store/pgtest"
	"github.com/countersign-dev/countersign/internal/store/storetest"
)

// go test -run '^$' -bench Requests -requests 1000000 ./internal/store
var size = flag.Int("requests", 20000, "signing requests in the benchmarks' database")

// big is an organization with many requests: 20 policies, 50 submitters, nearly all requests completed.
type big struct {
	org, rare  signing.ID // rare: a submitter of ten requests
	submitters []signing.ID
	project    signing.ID
	policies   []signing.ID
	ids        []signing.ID
	created    time.Time
}

func seed(t testing.TB, db *store.DB, n int) *big {
	t.Helper()
	ctx, random := context.Background(), rand.New(rand.NewPCG(1, 2))
	s := &big{created: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), rare: signing.NewID()}
	var w *storetest.World
	if err := db.Tx(ctx, func(tx signing.Tx) (err error) {
		if w, err = storetest.NewWorld(ctx, tx, "Acme", s.created); err != nil {
			return err
		}
		for i := range 20 {
			p := w.NewPolicy(fmt.Sprintf("policy-%d", i), s.created)
			if err := tx.InsertPolicy(ctx, p); err != nil {
				return err
			}
			s.policies = append(s.policies, p.ID)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	s.org, s.project = w.Organization.ID, w.Project.ID
	for range 50 {
		s.submitters = append(s.submitters, signing.NewID())
	}
	for len(s.ids) < n {
		if err := db.Tx(ctx, func(tx signing.Tx) error {
			for range min(5000, n-len(s.ids)) {
				i := len(s.ids)
				r := w.NewRequest(s.created.Add(time.Duration(i) * time.Second))
				r.PolicyID, r.SubmitterID = s.policies[random.IntN(20)], s.submitters[random.IntN(50)]
				if i%(n/10+1) == 0 {
					r.SubmitterID = s.rare
				}
				r.Unsigned = signing.Artifact{FileName: fmt.Sprintf("setup-%d.exe", i), SHA256: fmt.Sprintf("%064x", i), BlobID: signing.BlobID(r.ID), Size: 1}
				r.Signed = signing.Artifact{FileName: r.Unsigned.FileName, SHA256: fmt.Sprintf("%064x", i+1<<40), BlobID: "s" + signing.BlobID(r.ID), Size: 2}
				r.Origin = &signing.Origin{RepositoryURL: "https://github.com/acme/app", BranchName: "main", CommitID: fmt.Sprintf("%040x", i)}
				r.Workflow, r.FinalAt = signing.WorkflowCompleted, &r.CreatedAt
				if i%1000 == 999 {
					r.Workflow, r.FinalAt = signing.WorkflowWaitingForApproval, nil
				}
				if err := tx.InsertRequest(ctx, r); err != nil {
					return err
				}
				s.ids = append(s.ids, r.ID)
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

// filters are the lists that pages and clients ask for.
func (s *big) filters() map[string]signing.RequestFilter {
	middle := s.ids[len(s.ids)/2]
	from, before := s.created.Add(time.Hour), s.created.Add(2*time.Hour)
	waiting := []signing.Status{signing.WaitingForApproval}
	return map[string]signing.RequestFilter{
		"all":                {},
		"deep page":          {After: middle},
		"waiting":            {Statuses: waiting},
		"failed: none":       {Statuses: []signing.Status{signing.Failed, signing.Denied}},
		"policy":             {PolicyIDs: s.policies[:1]},
		"policies, waiting":  {PolicyIDs: s.policies[:10], Statuses: waiting},
		"project, completed": {ProjectID: s.project, Statuses: []signing.Status{signing.Completed}, After: middle},
		"rare submitter":     {SubmitterID: s.rare},
		"visible to a user":  {Visible: &signing.Visibility{UserID: s.rare, Policies: s.policies[:3]}},
		"visible: own alone": {Visible: &signing.Visibility{UserID: s.rare}},
		"my approvals":       {Visible: &signing.Visibility{UserID: s.rare, Policies: s.policies[:5]}, Statuses: waiting, Undecided: &signing.Undecided{UserID: s.rare, Rulings: []string{"a", "b"}}},
		"day":                {CreatedFrom: &from, CreatedBefore: &before},
		"artifact":           {ArtifactSHA256: fmt.Sprintf("%064x", len(s.ids)/3)},
		"resubmits":          {OriginalID: middle},
		"file name, common":  {FileName: "SETUP"},
	}
}

var scan = regexp.MustCompile(`(?m)^SCAN (r|requests|approvals|a|l|audit_leaves|u|users|p|o|c)\b.*$`)

// readsRows finds a lookup in an index that goes on to the row.
var readsRows = regexp.MustCompile(`SEARCH r USING INDEX requests_`)

// TestListsUseIndexes asks SQLite how it runs each list and lookup: none reads a whole table, and lists that indexes serve
// read no rows but those that they show.
func TestListsUseIndexes(t *testing.T) {
	t.Parallel()
	db := storetest.SQLite(t)
	ctx, s := context.Background(), seed(t, db, 2000)
	for name, f := range s.filters() {
		plan, err := store.Plan(ctx, db, s.org, f)
		if err != nil {
			t.Fatal(err)
		}
		if scan.MatchString(plan) || !strings.Contains(plan, "SEARCH r USING INDEX") && !strings.Contains(plan, "SEARCH r USING COVERING INDEX") {
			t.Errorf("%s reads a whole table:\n%s", name, plan)
		}
		if few := f.ArtifactSHA256 != "" || f.OriginalID != ""; !few && readsRows.MatchString(plan) {
			t.Errorf("%s reads rows that it does not show:\n%s", name, plan)
		}
	}
	for name, fn := range map[string]func(tx signing.Tx) error{
		"row": func(tx signing.Tx) error { _, err := tx.RequestRow(ctx, s.org, s.ids[0]); return err },
		"key": func(tx signing.Tx) error {
			_, err := tx.RequestByIdempotencyKey(ctx, s.org, s.policies[0], "k")
			return err
		},
		"due":  func(tx signing.Tx) error { _, err := tx.DueRequests(ctx, s.created, 10); return err },
		"blob": func(tx signing.Tx) error { _, err := tx.BlobInUse(ctx, "b"); return err },
		"retention": func(tx signing.Tx) error {
			_, err := tx.ExpiredArtifacts(ctx, s.org, s.created, "", 10)
			return err
		},
		"partly approved": func(tx signing.Tx) error { _, _, err := tx.PartlyApproved(ctx, s.org); return err },
		"approvals":       func(tx signing.Tx) error { _, err := tx.Approvals(ctx, s.ids[0]); return err },
		"resubmits":       func(tx signing.Tx) error { _, err := tx.Resubmits(ctx, s.org, s.ids[0]); return err },
		"e-mail":          func(tx signing.Tx) error { _, err := tx.UserByEmail(ctx, "a@b.c"); return err },
		"audit by type": func(tx signing.Tx) error {
			_, err := tx.AuditLeaves(ctx, s.org, signing.AuditFilter{ObjectType: "SigningRequest", Descending: true})
			return err
		},
		"audit": func(tx signing.Tx) error {
			_, err := tx.AuditLeaves(ctx, s.org, signing.AuditFilter{Events: []string{"A", "B"}, Descending: true})
			return err
		},
	} {
		plan, err := store.Explain(ctx, db, fn)
		if err != nil {
			t.Fatal(err)
		}
		if scan.MatchString(plan) || plan == "" {
			t.Errorf("%s reads a whole table:\n%s", name, plan)
		}
	}
}

func onEach(b *testing.B, run func(b *testing.B, db *store.DB)) {
	b.Run("SQLite", func(b *testing.B) { run(b, storetest.SQLite(b)) })
	b.Run("PostgreSQL", func(b *testing.B) { run(b, pgtest.Open(b)) })
}

// BenchmarkRequests measures lists and lookups among -requests requests.
func BenchmarkRequests(b *testing.B) {
	onEach(b, func(b *testing.B, db *store.DB) {
		ctx, s := context.Background(), seed(b, db, *size)
		measure := func(name string, fn func(tx signing.Tx) error) {
			b.Run(name, func(b *testing.B) {
				var all []time.Duration
				for b.Loop() {
					began := time.Now()
					if err := db.View(ctx, fn); err != nil {
						b.Fatal(err)
					}
					all = append(all, time.Since(began))
				}
				slices.Sort(all)
				b.ReportMetric(float64(all[len(all)*95/100].Microseconds()), "µs-p95")
			})
		}
		for name, f := range s.filters() {
			f.Limit = 50
			measure("list/"+name, func(tx signing.Tx) error { _, _, err := tx.RequestRows(ctx, s.org, f); return err })
		}
		var i atomic.Int64
		measure("row", func(tx signing.Tx) error {
			_, err := tx.RequestRow(ctx, s.org, s.ids[i.Add(7919)%int64(len(s.ids))])
			return err
		})
	})
}

// BenchmarkTx measures transactions that update a row, append an audit leaf and enqueue a job, alone and 16 at a time.
func BenchmarkTx(b *testing.B) {
	onEach(b, func(b *testing.B, db *store.DB) {
		ctx, s := context.Background(), seed(b, db, 16)
		var n atomic.Int64
		step := func() error {
			id := s.ids[n.Add(1)%16]
			return db.Tx(ctx, func(tx signing.Tx) error {
				r, err := tx.LockRequest(ctx, s.org, id)
				if err != nil {
					return err
				}
				if err := tx.UpdateRequest(ctx, r); err != nil {
					return err
				}
				if err := tx.EnqueueAdvance(ctx, id, time.Time{}); err != nil {
					return err
				}
				return appendEntry(tx, s.org)
			})
		}
		b.Run("alone", func(b *testing.B) {
			for b.Loop() {
				if err := step(); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run("16 at a time", func(b *testing.B) {
			b.SetParallelism(8)
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					if err := step(); err != nil {
						b.Error(err)
					}
				}
			})
		})
	})
}
