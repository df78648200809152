package storetest

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/countersign-dev/countersign/internal/signing"
)

func testRequests(t *testing.T, e *env) {
	w, other := e.world("Acme"), e.world("Other")
	org := w.Organization.ID
	minimal, full := w.NewRequest(base), w.NewRequest(at(time.Second))
	full.Workflow, full.Description, full.TrustedBuildSystemID = signing.WorkflowProcessing, "d", signing.NewID()
	full.Unsigned = signing.Artifact{FileName: "ä.exe", BlobID: "b1", Size: 1 << 40, SHA256: strings.Repeat("a", 64)}
	full.Signed = signing.Artifact{FileName: "ä signed.exe", BlobID: "b2", Size: 5, SHA256: strings.Repeat("b", 64)}
	full.Retrieval = &signing.Retrieval{SHA256: "ab", SealedTarget: []byte{1, 2}}
	full.Parameters = map[string]string{"version": "1.0"}
	full.Origin = &signing.Origin{BranchName: "main", SettingsBlobID: "b3"}
	full.OriginalID, full.IdempotencyKey = minimal.ID, "job-1"
	full.FinalAt, full.CancelAt, full.ArtifactsDeletedAt = pointer(at(1)), pointer(at(time.Minute)), pointer(at(time.Hour))
	full.FinalAt = pointer(at(time.Millisecond))
	full.Failure = &signing.Failure{Code: "Plan", Message: "m", Details: []string{"a"}}
	full.Attempt, full.Tries, full.Unfinished, full.LeaseUntil, full.WakeAt = 3, 2, 1, pointer(at(time.Minute)), pointer(at(time.Hour))
	e.do(func(tx signing.Tx) error {
		return errors.Join(tx.InsertRequest(ctx, minimal), tx.InsertRequest(ctx, full), tx.EnqueueAdvance(ctx, full.ID, time.Time{}))
	})
	request := func(tx signing.Tx) (*signing.Request, error) { return tx.Request(ctx, org, full.ID) }
	e.equal(get(e, request), full)
	e.equal(get(e, func(tx signing.Tx) (*signing.Request, error) { return tx.Request(ctx, org, minimal.ID) }), minimal)
	e.do(func(tx signing.Tx) error {
		r, err := tx.LockRequest(ctx, org, full.ID)
		e.equal(r, full)
		return err
	})
	e.do(func(tx signing.Tx) error {
		found, err := tx.RequestForWorker(ctx, full.ID)
		e.equal(found, &signing.RequestForWorker{OrganizationID: org, Workflow: full.Workflow, Unfinished: full.Unfinished})
		return err
	})
	e.want(signing.KindNotFound, func(tx signing.Tx) error {
		_, err := tx.RequestForWorker(ctx, signing.NewID())
		return err
	})
	e.equal(get(e, func(tx signing.Tx) (*signing.RequestRow, error) { return tx.RequestRow(ctx, org, full.ID) }), &signing.RequestRow{
		Request: *full, ProjectSlug: "app", ProjectName: "App", PolicySlug: "release-signing", PolicyName: "release-signing",
		ConfigurationSlug: "exe", ConfigurationName: "EXE", SubmitterName: "Build server"})
	foreign := other.Organization.ID
	e.equal(kindOf(e, func(tx signing.Tx) (*signing.Request, error) { return tx.Request(ctx, foreign, full.ID) }), signing.KindNotFound)
	e.equal(kindOf(e, func(tx signing.Tx) (*signing.RequestRow, error) { return tx.RequestRow(ctx, foreign, full.ID) }), signing.KindNotFound)
	e.want(signing.KindNotFound, func(tx signing.Tx) error {
		_, err := tx.LockRequest(ctx, foreign, full.ID)
		return err
	})

	checkUpdate(e, func(tx signing.Tx) (*signing.Request, error) { return tx.Request(ctx, org, minimal.ID) },
		func(r *signing.Request) *int { return &r.Version },
		func(r *signing.Request) {
			copied := *full
			copied.ID, copied.CreatedAt, copied.IdempotencyKey, copied.Version = r.ID, r.CreatedAt, "job-1", r.Version
			*r = copied
		}, func(tx signing.Tx, r *signing.Request) error { return tx.UpdateRequest(ctx, r) })
	checkUpdate(e, request, func(r *signing.Request) *int { return &r.Version },
		func(r *signing.Request) {
			r.Retrieval, r.Origin, r.Failure, r.FinalAt, r.LeaseUntil, r.WakeAt = nil, nil, nil, nil, nil, nil
			r.Parameters, r.Signed = nil, signing.Artifact{}
		}, func(tx signing.Tx, r *signing.Request) error { return tx.UpdateRequest(ctx, r) })

	byKey := func(org, policy signing.ID, key string) func(tx signing.Tx) (*signing.Request, error) {
		return func(tx signing.Tx) (*signing.Request, error) {
			return tx.RequestByIdempotencyKey(ctx, org, policy, key)
		}
	}
	e.equal(get(e, byKey(org, w.Policy.ID, "job-1")).ID, full.ID) // the newest of two
	for _, find := range []func(tx signing.Tx) (*signing.Request, error){
		byKey(org, w.Policy.ID, "job-2"), byKey(org, signing.NewID(), "job-1"), byKey(foreign, w.Policy.ID, "job-1"), byKey(org, w.Policy.ID, ""),
	} {
		e.equal(kindOf(e, find), signing.KindNotFound)
	}
	e.want(signing.KindInvalid, func(tx signing.Tx) error {
		r := w.NewRequest(base)
		r.PolicyID = signing.NewID()
		return tx.InsertRequest(ctx, r)
	})
}

// testRequestLists compares every filter with a plain filtering of the same requests.
func testRequestLists(t *testing.T, e *env) {
	w, other := e.world("Acme"), e.world("Other")
	org := w.Organization.ID
	random := rand.New(rand.NewPCG(1, 2)) //nolint:gosec // G404: the same requests in every run
	second := w.NewPolicy("test-signing", base)
	project := &signing.Project{ID: signing.NewID(), OrganizationID: org, Slug: "lib", Name: "Lib", Active: true, CreatedAt: base}
	third := w.NewPolicy("lib-signing", base)
	third.ProjectID = project.ID
	person := &signing.User{ID: signing.NewID(), OrganizationID: org, Kind: signing.Interactive, Name: "Ann", Email: "a@b.c", CreatedAt: base}
	workflows := []signing.WorkflowStatus{signing.WorkflowSubmitted, signing.WorkflowProcessing, signing.WorkflowWaitingForApproval,
		signing.WorkflowCompleted, signing.WorkflowCompleted, signing.WorkflowProcessingFailed, signing.WorkflowDenied, signing.WorkflowCanceled}
	names := []string{"Setup.exe", "100%_done.zip", "Größe.msi", `a\b.exe`}
	var all []*signing.Request
	var partly []signing.ID
	// What the person decided on, by the ruling under which she did.
	what, rulings, decided := strings.Repeat("0", 64), []string{"one", "two", "three"}, map[string][]signing.ID{}
	e.do(func(tx signing.Tx) error {
		if err := errors.Join(tx.InsertPolicy(ctx, second), tx.InsertProject(ctx, project), tx.InsertPolicy(ctx, third), tx.InsertUser(ctx, person),
			tx.InsertRequest(ctx, other.NewRequest(base))); err != nil {
			return err
		}
		for i := range 300 {
			r := w.NewRequest(at(time.Duration(i/3) * time.Second)) // three of each time: the id decides
			switch random.IntN(4) {
			case 0:
				r.PolicyID = second.ID
			case 1:
				r.PolicyID, r.ProjectID = third.ID, project.ID
			}
			if random.IntN(3) == 0 {
				r.SubmitterID = person.ID
			}
			r.Workflow = workflows[random.IntN(len(workflows))]
			r.Unsigned.FileName = names[random.IntN(len(names))]
			r.Unsigned.SHA256 = fmt.Sprintf("%064x", random.IntN(20))
			if r.Workflow == signing.WorkflowCompleted {
				r.Signed.SHA256 = fmt.Sprintf("%064x", random.IntN(20))
			}
			if len(all) > 0 && random.IntN(5) == 0 {
				r.OriginalID = all[random.IntN(min(len(all), 3))].ID
			}
			if err := tx.InsertRequest(ctx, r); err != nil {
				return err
			}
			if random.IntN(2) == 0 {
				ruling := rulings[random.IntN(len(rulings))]
				decided[ruling] = append(decided[ruling], r.ID)
				if r.Workflow == signing.WorkflowWaitingForApproval {
					partly = append(partly, r.ID)
				}
				if err := tx.InsertApproval(ctx, &signing.Approval{
					ID: signing.NewID(), RequestID: r.ID, UserID: person.ID, Binding: what + ruling, At: base,
				}); err != nil {
					return err
				}
			}
			all = append(all, r)
		}
		return nil
	})
	slices.SortFunc(all, func(a, b *signing.Request) int {
		return cmp.Or(b.CreatedAt.Compare(a.CreatedAt), cmp.Compare(b.ID, a.ID))
	})

	matches := func(f signing.RequestFilter, r *signing.Request) bool {
		if v := f.Visible; v != nil && !slices.Contains(v.Projects, r.ProjectID) && !slices.Contains(v.Policies, r.PolicyID) && v.UserID != r.SubmitterID {
			return false
		}
		if u := f.Undecided; u != nil && u.UserID == person.ID && slices.ContainsFunc(u.Rulings, func(ruling string) bool {
			return slices.Contains(decided[ruling], r.ID)
		}) {
			return false
		}
		return (f.ProjectID == "" || f.ProjectID == r.ProjectID) &&
			(len(f.PolicyIDs) == 0 || slices.Contains(f.PolicyIDs, r.PolicyID)) &&
			(len(f.Statuses) == 0 || slices.Contains(f.Statuses, r.Workflow.Status())) &&
			(f.SubmitterID == "" || f.SubmitterID == r.SubmitterID) &&
			(f.ArtifactSHA256 == "" || f.ArtifactSHA256 == r.Unsigned.SHA256 || f.ArtifactSHA256 == r.Signed.SHA256) &&
			(f.OriginalID == "" || f.OriginalID == r.OriginalID) &&
			(f.CreatedFrom == nil || !r.CreatedAt.Before(*f.CreatedFrom)) &&
			(f.CreatedBefore == nil || r.CreatedAt.Before(*f.CreatedBefore)) &&
			(f.FileName == "" || strings.Contains(strings.ToLower(r.Unsigned.FileName), strings.ToLower(f.FileName)))
	}
	check := func(f signing.RequestFilter) {
		t.Helper()
		var want, got []signing.ID
		for _, r := range all {
			if matches(f, r) {
				want = append(want, r.ID)
			}
		}
		for { // all pages
			page := get(e, func(tx signing.Tx) (page []*signing.RequestRow, err error) {
				page, f.After, err = tx.RequestRows(ctx, org, f)
				return page, err
			})
			if len(page) > f.Limit {
				t.Fatalf("%d rows, the limit is %d", len(page), f.Limit)
			}
			for _, r := range page {
				got = append(got, r.ID)
			}
			if f.After == "" {
				break
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("filter %+v: got %d rows, want %d\n%v\n%v", f, len(got), len(want), got, want)
		}
	}
	manyPolicies := []signing.ID{second.ID}
	for range 150 { // more than there are branches for
		manyPolicies = append(manyPolicies, signing.NewID())
	}
	check(signing.RequestFilter{Limit: 7})
	check(signing.RequestFilter{Limit: 50, Visible: &signing.Visibility{}})
	check(signing.RequestFilter{Limit: 50, Visible: &signing.Visibility{UserID: person.ID}})
	check(signing.RequestFilter{Limit: 50, Visible: &signing.Visibility{UserID: person.ID, Policies: manyPolicies}})
	check(signing.RequestFilter{Limit: 50, PolicyIDs: manyPolicies})
	for range 400 {
		f := signing.RequestFilter{Limit: 1 + random.IntN(60)}
		maybe := func(n int, set func()) {
			if random.IntN(n) == 0 {
				set()
			}
		}
		maybe(3, func() {
			f.Visible = &signing.Visibility{}
			maybe(2, func() { f.Visible.UserID = person.ID })
			maybe(2, func() { f.Visible.Projects = []signing.ID{project.ID} })
			maybe(2, func() { f.Visible.Policies = []signing.ID{second.ID, third.ID} })
		})
		maybe(4, func() { f.ProjectID = w.Project.ID })
		maybe(4, func() { f.PolicyIDs = []signing.ID{w.Policy.ID, third.ID} })
		maybe(3, func() { f.Statuses = []signing.Status{signing.Completed, signing.WaitingForApproval} })
		maybe(4, func() { f.SubmitterID = person.ID })
		maybe(6, func() { f.ArtifactSHA256 = fmt.Sprintf("%064x", random.IntN(20)) })
		maybe(6, func() { f.OriginalID = all[len(all)-1-random.IntN(3)].ID })
		maybe(5, func() { f.CreatedFrom = pointer(at(time.Duration(random.IntN(100)) * time.Second)) })
		maybe(5, func() { f.CreatedBefore = pointer(at(time.Duration(random.IntN(100)) * time.Second)) })
		maybe(5, func() { f.FileName = []string{"SETUP", "%_", "größe", `\`, "e"}[random.IntN(5)] })
		maybe(3, func() {
			f.Undecided = &signing.Undecided{UserID: []signing.ID{person.ID, w.User.ID}[random.IntN(2)], Rulings: rulings[:random.IntN(3)]}
		})
		maybe(2, func() { f.Look = 1 + random.IntN(40) })
		check(f)
	}

	e.equal(kindOf(e, func(tx signing.Tx) ([]*signing.RequestRow, error) {
		rows, _, err := tx.RequestRows(ctx, org, signing.RequestFilter{After: signing.NewID()})
		return rows, err
	}), signing.KindNotFound)
	slices.Sort(partly)
	var approvals []*signing.Approval
	waiting := get(e, func(tx signing.Tx) (requests []*signing.Request, err error) {
		requests, approvals, err = tx.PartlyApproved(ctx, org)
		return requests, err
	})
	if !slices.EqualFunc(waiting, partly, func(r *signing.Request, id signing.ID) bool { return r.ID == id }) || len(partly) == 0 {
		t.Errorf("%d requests are partly approved, not %d", len(waiting), len(partly))
	}
	var approved []signing.ID
	for _, a := range approvals {
		approved = append(approved, a.RequestID)
	}
	slices.Sort(approved)
	e.equal(approved, partly)

	// Another organization finds nothing by what is not its own, and is told of nothing where a page ends.
	for _, f := range []signing.RequestFilter{
		{ProjectID: w.Project.ID}, {PolicyIDs: []signing.ID{w.Policy.ID}}, {SubmitterID: person.ID}, {ArtifactSHA256: fmt.Sprintf("%064x", 1)},
		{Visible: &signing.Visibility{UserID: person.ID, Projects: []signing.ID{project.ID}, Policies: []signing.ID{second.ID}}},
	} {
		for _, f.FileName = range []string{"", "e", "nowhere"} {
			f.Look, f.Limit = 1, 1
			var next signing.ID
			rows := get(e, func(tx signing.Tx) (rows []*signing.RequestRow, err error) {
				rows, next, err = tx.RequestRows(ctx, other.Organization.ID, f)
				return rows, err
			})
			if len(rows) > 0 || next != "" {
				t.Errorf("another organization finds %d requests, and %q, by %+v", len(rows), next, f)
			}
		}
	}
	var resubmits []signing.ID
	original := all[len(all)-1]
	for _, r := range slices.Backward(all) {
		if r.OriginalID == original.ID {
			resubmits = append(resubmits, r.ID)
		}
	}
	var got []signing.ID
	for _, r := range get(e, func(tx signing.Tx) ([]*signing.RequestRow, error) { return tx.Resubmits(ctx, org, original.ID) }) {
		got = append(got, r.ID)
	}
	e.equal(got, resubmits)
	e.equal(len(get(e, func(tx signing.Tx) ([]*signing.RequestRow, error) {
		return tx.Resubmits(ctx, other.Organization.ID, original.ID)
	})), 0)
}

func testRequestParts(t *testing.T, e *env) {
	w := e.world("Acme")
	r := w.NewRequest(base)
	e.do(func(tx signing.Tx) error { return tx.InsertRequest(ctx, r) })

	approval := func(user signing.ID, binding string, d time.Duration) *signing.Approval {
		return &signing.Approval{ID: signing.NewID(), RequestID: r.ID, UserID: user, UserName: "Ann", Decision: signing.Approved,
			Comment: "ok", Binding: binding, At: at(d)}
	}
	a, b := approval(w.User.ID, "x", time.Minute), approval(signing.NewID(), "x", time.Second)
	again := approval(w.User.ID, "y", time.Hour) // what was approved has changed: the user decides anew
	e.do(func(tx signing.Tx) error {
		return errors.Join(tx.InsertApproval(ctx, a), tx.InsertApproval(ctx, b), tx.InsertApproval(ctx, again))
	})
	e.want(signing.KindConflict, func(tx signing.Tx) error { return tx.InsertApproval(ctx, approval(w.User.ID, "x", 0)) })
	e.equal(get(e, func(tx signing.Tx) ([]*signing.Approval, error) { return tx.Approvals(ctx, r.ID) }), []*signing.Approval{b, a, again})

	verifications := func(tx signing.Tx) ([]signing.Verification, error) { return tx.Verifications(ctx, r.ID) }
	e.equal(len(get(e, verifications)), 0)
	v := []signing.Verification{{Name: "Branch", Result: signing.Passed, Inputs: []signing.VerificationInput{{Name: "n", Value: "v"}}, At: base}}
	e.do(func(tx signing.Tx) error { return tx.PutVerifications(ctx, r.ID, append(v, v...)) })
	e.do(func(tx signing.Tx) error { return tx.PutVerifications(ctx, r.ID, v) })
	e.equal(get(e, verifications), v)

	resolved := func(tx signing.Tx) (*signing.ResolvedArtifact, error) { return tx.ResolvedArtifact(ctx, r.ID) }
	e.equal(kindOf(e, resolved), signing.KindNotFound)
	plan := &signing.ResolvedArtifact{Plan: json.RawMessage(`{"a": 1}`)}
	e.do(func(tx signing.Tx) error { return tx.PutResolvedArtifact(ctx, r.ID, plan) })
	e.equal(get(e, resolved), plan)
	plan.Result = json.RawMessage(`[ 2 ]`)
	e.do(func(tx signing.Tx) error { return tx.PutResolvedArtifact(ctx, r.ID, plan) })
	e.equal(get(e, resolved), plan)

	grant := func(attempt int) *signing.GrantRecord {
		return &signing.GrantRecord{ID: signing.NewID(), RequestID: r.ID, Attempt: attempt, CertificateID: w.Certificate.ID,
			PlanDigest: "ab", Signatures: 4, IssuedAt: at(time.Duration(attempt) * time.Second)}
	}
	first, second := grant(1), grant(2)
	e.do(func(tx signing.Tx) error {
		return errors.Join(tx.InsertGrant(ctx, first), tx.EndGrants(ctx, r.ID, "Failed", at(time.Minute)), tx.InsertGrant(ctx, second))
	})
	first.EndedAt, first.Outcome = pointer(at(time.Minute)), "Failed"
	e.equal(get(e, func(tx signing.Tx) ([]*signing.GrantRecord, error) { return tx.Grants(ctx, r.ID) }), []*signing.GrantRecord{first, second})
}

func testDue(t *testing.T, e *env) {
	w, other := e.world("Acme"), e.world("Other")
	insert := func(w *World, wake, lease *time.Time) signing.RequestKey {
		r := w.NewRequest(base)
		r.WakeAt, r.LeaseUntil = wake, lease
		e.do(func(tx signing.Tx) error { return tx.InsertRequest(ctx, r) })
		return signing.RequestKey{OrganizationID: r.OrganizationID, ID: r.ID}
	}
	late := insert(w, pointer(at(time.Minute)), pointer(at(time.Hour)))
	early := insert(other, pointer(at(time.Second)), nil)
	insert(w, nil, nil)
	future := insert(w, pointer(at(time.Hour)), pointer(at(time.Minute)))
	due := func(now time.Time, limit int) []signing.RequestKey {
		return get(e, func(tx signing.Tx) ([]signing.RequestKey, error) { return tx.DueRequests(ctx, now, limit) })
	}
	e.equal(due(at(time.Minute), 10), []signing.RequestKey{early, late})
	e.equal(due(at(time.Hour), 10), []signing.RequestKey{early, late, future})
	e.equal(due(at(time.Hour), 1), []signing.RequestKey{early})
	e.equal(len(due(base, 10)), 0)
	e.equal(get(e, func(tx signing.Tx) ([]signing.RequestKey, error) { return tx.LeasedRequests(ctx) }), []signing.RequestKey{future, late})
}

func testRetention(t *testing.T, e *env) {
	w, other := e.world("Acme"), e.world("Other")
	var held []signing.ID
	insert := func(w *World, final *time.Time, change func(r *signing.Request)) *signing.Request {
		r := w.NewRequest(base)
		r.FinalAt, r.Unsigned.BlobID = final, "unsigned-"+signing.BlobID(r.ID)
		if change != nil {
			change(r)
		}
		e.do(func(tx signing.Tx) error { return tx.InsertRequest(ctx, r) })
		return r
	}
	for range 3 {
		held = append(held, insert(w, pointer(at(time.Hour)), func(r *signing.Request) {
			r.Signed.BlobID, r.Origin = "signed-"+signing.BlobID(r.ID), &signing.Origin{SettingsBlobID: "origin-" + signing.BlobID(r.ID)}
		}).ID)
	}
	insert(w, nil, nil)
	insert(w, pointer(at(2*time.Hour)), nil)
	insert(w, pointer(at(time.Minute)), func(r *signing.Request) { r.Unsigned.BlobID = "" })
	insert(other, pointer(at(time.Minute)), nil)
	expired := func(after signing.ID, limit int) (ids []signing.ID) {
		for _, r := range get(e, func(tx signing.Tx) ([]*signing.Request, error) {
			return tx.ExpiredArtifacts(ctx, w.Organization.ID, at(2*time.Hour), after, limit)
		}) {
			ids = append(ids, r.ID)
		}
		return ids
	}
	e.equal(expired("", 10), held)
	e.equal(expired(held[0], 1), held[1:2])
	for blob, want := range map[signing.BlobID]bool{
		"unsigned-" + signing.BlobID(held[0]): true, "signed-" + signing.BlobID(held[0]): true, "origin-" + signing.BlobID(held[0]): true,
		"unsigned": false, "": false,
	} {
		e.equal(get(e, func(tx signing.Tx) (bool, error) { return tx.BlobInUse(ctx, blob) }), want)
	}
}
