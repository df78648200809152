package storetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/countersign-dev/countersign/internal/audit"
	"github.com/countersign-dev/countersign/internal/signing"
)

func entry(org signing.ID, event string, object, actor signing.ID, when time.Time) *audit.Entry {
	return &audit.Entry{OrganizationID: string(org), Time: when, Event: event, Actor: audit.Actor{ID: string(actor), Kind: "CI", Name: "Build"},
		Object: audit.Object{Type: "Project", ID: string(object)}, Data: []byte(`{"after":{"name":"<A&B>"}}`)}
}

func testAudit(t *testing.T, e *env) {
	w, other := e.world("Acme"), e.world("Other")
	org := w.Organization.ID
	e.equal(get(e, func(tx signing.Tx) (audit.Head, error) { return tx.AuditHead(ctx, org) }), audit.Start(string(org)))
	e.want(signing.KindNotFound, func(tx signing.Tx) error { return tx.AppendAudit(ctx, entry(signing.NewID(), "X", "", "", base)) })
	objects := []signing.ID{signing.NewID(), signing.NewID()}
	events := []string{"A", "B", "C"}
	for i := range 12 {
		e.do(func(tx signing.Tx) error {
			a := entry(org, events[i%3], objects[i%2], w.User.ID, at(time.Duration(i)*time.Second))
			b := entry(other.Organization.ID, "A", objects[0], w.User.ID, base)
			err := errors.Join(tx.AppendAudit(ctx, a), tx.AppendAudit(ctx, b))
			e.equal(a.Sequence, int64(i+1))
			return err
		})
	}
	// What is rolled back leaves no gap.
	errStop := errors.New("stop")
	err := e.store.Tx(ctx, func(tx signing.Tx) error {
		return errors.Join(tx.AppendAudit(ctx, entry(org, "A", "", "", base)), errStop)
	})
	if !errors.Is(err, errStop) {
		t.Errorf("got %v", err)
	}
	e.do(func(tx signing.Tx) error { return tx.AppendAudit(ctx, entry(org, "D", "", "", at(time.Hour))) })
	for _, about := range []string{"Policy", "policy", "PolicyX", "Policy"} {
		e.do(func(tx signing.Tx) error {
			a := entry(org, "Project.Edited", objects[0], "", at(2*time.Hour))
			a.Object.Type = about
			return tx.AppendAudit(ctx, a)
		})
	}
	e.verifyAudit(org, 17)
	e.verifyAudit(other.Organization.ID, 12)

	sequences := func(f signing.AuditFilter) (all []int64) {
		for _, l := range get(e, func(tx signing.Tx) ([]audit.Leaf, error) { return tx.AuditLeaves(ctx, org, f) }) {
			all = append(all, l.Sequence)
		}
		return all
	}
	for _, c := range []struct {
		filter signing.AuditFilter
		want   []int64
	}{
		{signing.AuditFilter{}, []int64{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17}},
		{signing.AuditFilter{Limit: 2}, []int64{1, 2}},
		{signing.AuditFilter{Limit: 2, AfterSeq: 2}, []int64{3, 4}},
		{signing.AuditFilter{Limit: 3, Descending: true}, []int64{17, 16, 15}},
		{signing.AuditFilter{Limit: 3, Descending: true, BeforeSeq: 11}, []int64{10, 9, 8}},
		{signing.AuditFilter{Events: []string{"A"}}, []int64{1, 4, 7, 10}},
		{signing.AuditFilter{Events: []string{"C", "A", "D"}, Limit: 5}, []int64{1, 3, 4, 6, 7}},
		{signing.AuditFilter{Events: []string{"C", "A", "D"}, Descending: true, Limit: 3}, []int64{13, 12, 10}},
		{signing.AuditFilter{ObjectID: objects[1], Events: []string{"A"}}, []int64{4, 10}},
		{signing.AuditFilter{ObjectID: objects[1], ActorID: signing.NewID()}, nil},
		{signing.AuditFilter{ActorID: w.User.ID, Events: []string{"B", "D"}}, []int64{2, 5, 8, 11}},
		{signing.AuditFilter{From: pointer(at(3 * time.Second)), To: pointer(at(5 * time.Second))}, []int64{4, 5}},
		{signing.AuditFilter{Events: []string{"none"}}, nil},
		{signing.AuditFilter{ObjectType: "Policy"}, []int64{14, 17}},
		{signing.AuditFilter{ObjectType: "Policy", Descending: true, Limit: 1}, []int64{17}},
		{signing.AuditFilter{ObjectType: "Policy", ObjectID: objects[0], AfterSeq: 14}, []int64{17}},
		{signing.AuditFilter{ObjectType: "Policy", ActorID: w.User.ID}, nil},
		{signing.AuditFilter{ObjectType: "Project", Events: []string{"Project.Edited", "A"}}, []int64{1, 4, 7, 10}},
		{signing.AuditFilter{ObjectType: "%"}, nil},
	} {
		e.equal(sequences(c.filter), c.want)
	}
}

// verifyAudit checks an organization's whole chain and its length.
func (e *env) verifyAudit(org signing.ID, length int64) {
	e.Helper()
	VerifyAudit(e.T, e.store, org, length)
}

// VerifyAudit checks an organization's whole audit chain against its head, and its length.
func VerifyAudit(t testing.TB, s signing.Store, org signing.ID, length int64) {
	t.Helper()
	err := s.View(context.Background(), func(tx signing.Tx) error {
		head := audit.Start(string(org))
		for {
			page, err := tx.AuditLeaves(ctx, org, signing.AuditFilter{AfterSeq: head.Sequence, Limit: 500})
			if err != nil {
				return err
			}
			for _, l := range page {
				if head, err = audit.Verify(head, string(org), l); err != nil {
					return err
				}
			}
			if len(page) == 0 {
				break
			}
		}
		stored, err := tx.AuditHead(ctx, org)
		if err != nil {
			return err
		}
		if stored != head || head.Sequence != length {
			return fmt.Errorf("head is %d %s, the leaves end at %d %s, want %d", stored.Sequence, stored.Chain, head.Sequence, head.Chain, length)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

func testTransactions(t *testing.T, e *env) {
	w := e.world("Acme")
	org := w.Organization.ID
	errStop := errors.New("stop")
	project := func(slug string) *signing.Project {
		return &signing.Project{ID: signing.NewID(), OrganizationID: org, Slug: slug, Name: slug, CreatedAt: base}
	}
	find := func(slug string) signing.Kind {
		return kindOf(e, func(tx signing.Tx) (*signing.Project, error) { return tx.ProjectBySlug(ctx, org, slug) })
	}

	// An error of fn comes back unchanged and undoes everything, jobs too.
	if err := e.store.Tx(ctx, func(tx signing.Tx) error {
		if err := errors.Join(tx.InsertProject(ctx, project("p1")), tx.EnqueueAdvance(ctx, signing.NewID(), time.Time{})); err != nil {
			return err
		}
		return errStop
	}); !errors.Is(err, errStop) {
		t.Errorf("got %v", err)
	}
	e.equal(find("p1"), signing.KindNotFound)

	// A panic undoes everything and goes on; the store stays usable.
	func() {
		defer func() { e.equal(recover(), any("boom")) }()
		_ = e.store.Tx(ctx, func(tx signing.Tx) error {
			if err := tx.InsertProject(ctx, project("p2")); err != nil {
				return err
			}
			panic("boom")
		})
	}()
	e.equal(find("p2"), signing.KindNotFound)

	// A failed statement undoes everything, even when fn ignores it.
	if err := e.store.Tx(ctx, func(tx signing.Tx) error {
		if err := tx.InsertProject(ctx, project("p3")); err != nil {
			return err
		}
		wrong := w.NewPolicy("wrong", base)
		wrong.CertificateID = signing.NewID()
		if err := tx.InsertPolicy(ctx, wrong); signing.KindOf(err) != signing.KindInvalid {
			t.Errorf("got %v", err)
		}
		if err := tx.InsertProject(ctx, project("p4")); err == nil {
			t.Error("a statement followed a failed one")
		}
		return nil
	}); err == nil {
		t.Error("a transaction with a failed statement committed")
	}
	e.equal(find("p3"), signing.KindNotFound)
	e.equal(find("p4"), signing.KindNotFound)

	// A view does not write.
	if err := e.store.View(ctx, func(tx signing.Tx) error { return tx.InsertProject(ctx, project("p5")) }); err == nil {
		t.Error("a view wrote")
	}
	e.equal(find("p5"), signing.KindNotFound)

	// A view sees one state, whatever commits meanwhile.
	e.see(func(tx signing.Tx) error {
		before, err := tx.Projects(ctx, org)
		if err != nil {
			return err
		}
		e.do(func(tx signing.Tx) error { return tx.InsertProject(ctx, project("p6")) })
		after, err := tx.Projects(ctx, org)
		e.equal(after, before)
		return err
	})
	e.equal(find("p6"), signing.Kind(0))

	// A context that ended runs nothing and commits nothing.
	ended, cancel := context.WithCancel(ctx)
	cancel()
	if err := e.store.Tx(ended, func(tx signing.Tx) error { return tx.InsertProject(ended, project("p7")) }); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	e.equal(find("p7"), signing.KindNotFound)
}

// testConcurrency runs 200 transactions at a time that read, write what they read, and append to one audit log.
func testConcurrency(t *testing.T, e *env) {
	w := e.world("Acme")
	org := w.Organization.ID
	const n, requests = 200, 5
	var ids []signing.ID
	for range requests {
		r := w.NewRequest(base)
		e.do(func(tx signing.Tx) error { return tx.InsertRequest(ctx, r) })
		ids = append(ids, r.ID)
	}
	var wg sync.WaitGroup
	errs := make([]error, n)
	for i := range n {
		wg.Go(func() {
			errs[i] = e.store.Tx(ctx, func(tx signing.Tx) error {
				// Readers that write what others read, in both orders: deadlocks on PostgreSQL are run again.
				r, err := tx.LockRequest(ctx, org, ids[i%requests])
				if err != nil {
					return err
				}
				if i%10 == 0 {
					if _, err := tx.LockRequest(ctx, org, ids[(i*7+3)%requests]); err != nil {
						return err
					}
				}
				r.Attempt++
				return errors.Join(tx.UpdateRequest(ctx, r), tx.EnqueueAdvance(ctx, r.ID, time.Time{}),
					tx.AppendAudit(ctx, entry(org, "SigningRequest.Advanced", r.ID, w.User.ID, base)))
			})
		})
		if i%4 == 0 {
			wg.Go(func() {
				if err := e.store.View(ctx, func(tx signing.Tx) error {
					_, _, err := tx.RequestRows(ctx, org, signing.RequestFilter{})
					return err
				}); err != nil {
					t.Error(err)
				}
			})
		}
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	total := 0
	for _, id := range ids {
		r := get(e, func(tx signing.Tx) (*signing.Request, error) { return tx.Request(ctx, org, id) })
		e.equal(r.Version, r.Attempt+1)
		total += r.Attempt
	}
	e.equal(total, n)
	e.verifyAudit(org, n)
}

// testRaces runs transactions at the same time whose writes rest on what they read, and on there being nothing to read.
func testRaces(t *testing.T, e *env) {
	w := e.world("Acme")
	const n = 16
	race := func(fn func(i int, tx signing.Tx) error) {
		t.Helper()
		start, errs := make(chan struct{}), make(chan error, n)
		for i := range n {
			go func() {
				<-start
				errs <- e.store.Tx(ctx, func(tx signing.Tx) error { return fn(i, tx) })
			}()
		}
		close(start)
		for range n {
			if err := <-errs; err != nil {
				t.Error(err)
			}
		}
	}

	// A credential that all change, each in its own place, and that is not there at first.
	race(func(i int, tx signing.Tx) error {
		c, err := tx.Credential(ctx, w.User.ID)
		if signing.KindOf(err) == signing.KindNotFound {
			c, err = &signing.Credential{UserID: w.User.ID, Passkeys: make([]byte, n), UpdatedAt: base}, nil
		}
		if err != nil {
			return err
		}
		c.Passkeys[i]++
		return tx.PutCredential(ctx, c)
	})
	c := get(e, func(tx signing.Tx) (*signing.Credential, error) { return tx.Credential(ctx, w.User.ID) })
	e.equal(c.Passkeys, bytes.Repeat([]byte{1}, n))

	// The user that is read after the credential is the one that the transactions before left.
	race(func(_ int, tx signing.Tx) error {
		if _, err := tx.Credential(ctx, w.User.ID); err != nil {
			return err
		}
		u, err := tx.User(ctx, w.Organization.ID, w.User.ID)
		if err != nil {
			return err
		}
		return tx.UpdateUser(ctx, u)
	})
	e.equal(get(e, func(tx signing.Tx) (*signing.User, error) { return tx.User(ctx, w.Organization.ID, w.User.ID) }).Version, w.User.Version+n)

	// At most three projects, the world's among them.
	race(func(i int, tx signing.Tx) error {
		if err := tx.LockOrganization(ctx, w.Organization.ID); err != nil {
			return err
		}
		all, err := tx.Projects(ctx, w.Organization.ID)
		if err != nil || len(all) >= 3 {
			return err
		}
		slug := fmt.Sprintf("race-%d", i)
		return tx.InsertProject(ctx, &signing.Project{ID: signing.NewID(), OrganizationID: w.Organization.ID, Slug: slug, Name: slug, CreatedAt: base})
	})
	e.equal(len(get(e, func(tx signing.Tx) ([]*signing.Project, error) { return tx.Projects(ctx, w.Organization.ID) })), 3)
	e.want(signing.KindNotFound, func(tx signing.Tx) error { return tx.LockOrganization(ctx, signing.NewID()) })

	// One further organization.
	race(func(_ int, tx signing.Tx) error {
		if err := tx.LockOrganizations(ctx); err != nil {
			return err
		}
		all, err := tx.Organizations(ctx)
		if err != nil || len(all) > 1 {
			return err
		}
		return tx.InsertOrganization(ctx, &signing.Organization{ID: signing.NewID(), Name: "Second", CreatedAt: base})
	})
	e.equal(len(get(e, func(tx signing.Tx) ([]*signing.Organization, error) { return tx.Organizations(ctx) })), 2)

	// A session ends once.
	e.do(func(tx signing.Tx) error {
		return tx.InsertSession(ctx, &signing.Session{Hash: hash(1), OrganizationID: w.Organization.ID, UserID: w.User.ID,
			CreatedAt: base, LastSeenAt: base, ExpiresAt: at(time.Hour)})
	})
	var ended atomic.Int32
	race(func(_ int, tx signing.Tx) error {
		err := tx.DeleteSession(ctx, hash(1))
		if signing.KindOf(err) == signing.KindNotFound {
			return nil
		}
		ended.Add(1)
		return err
	})
	e.equal(ended.Load(), int32(1))
}

func testBadText(t *testing.T, e *env) {
	w := e.world("Acme")
	for _, bad := range []string{"a\x00b", "\xff", strings.Repeat("x", 1000) + "\xc3"} {
		e.want(signing.KindInvalid, func(tx signing.Tx) error {
			r := w.NewRequest(base)
			r.Description = bad
			return tx.InsertRequest(ctx, r)
		})
		if kindOf(e, func(tx signing.Tx) (*signing.Project, error) { return tx.ProjectBySlug(ctx, w.Organization.ID, bad) }) == 0 {
			t.Errorf("found a project with the slug %.10q", bad)
		}
	}
}
