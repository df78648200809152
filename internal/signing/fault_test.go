package signing_test

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/countersign-dev/countersign/internal/signing"
	"github.com/countersign-dev/countersign/internal/store/storetest"
)

// TestFaults breaks every write and every commit of the release scenario, in every way, goes on as a client and a worker
// would, and checks that nothing is lost, done twice or left open.
func TestFaults(t *testing.T) {
	t.Parallel()
	for _, fault := range storetest.Faults {
		t.Run(fault.String(), func(t *testing.T) {
			t.Parallel()
			for step := 1; ; step++ {
				if !scenarioWithFault(t, step, fault) {
					if step < 30 {
						t.Errorf("the scenario has only %d steps", step-1)
					}
					return
				}
				if t.Failed() {
					t.Fatalf("after breaking step %d", step)
				}
			}
		})
	}
}

// scenarioWithFault reports whether the step came.
func scenarioWithFault(t *testing.T, step int, fault storetest.Fault) bool {
	var faulty *storetest.Faulty
	w := newWorld(t, func(c *signing.Config) {
		faulty = storetest.NewFaulty(c.Store)
		c.Store = faulty
	})
	faulty.Break(step, fault)
	ctx := t.Context()
	again := func(what string, fn func() error) {
		t.Helper()
		var err error
		for range 3 {
			if err = fn(); err == nil {
				return
			}
			if signing.KindOf(err) == 0 && !errors.Is(err, storetest.ErrInjected) {
				break
			}
		}
		t.Errorf("%s: %v (steps %v)", what, err, faulty.Steps())
	}
	// reach lets workers look at the request, after their leases and pauses, until it is in the state.
	reach := func(id signing.ID, want signing.WorkflowStatus) {
		t.Helper()
		for range 8 {
			if w.status(t, id).Workflow == want {
				return
			}
			if err := w.Advance(ctx, id); err != nil && !errors.Is(err, storetest.ErrInjected) {
				t.Error(err)
			}
			w.clock.advance(2 * time.Minute)
			if err := w.Sweep(ctx); err != nil && !errors.Is(err, storetest.ErrInjected) {
				t.Error(err)
			}
		}
		r := w.status(t, id)
		t.Errorf("request is %s (%+v), want %s; steps %v", r.Workflow, r.Failure, want, faulty.Steps())
	}

	var test, release *signing.Request
	again("submit", func() error {
		st := w.stage(t, w.CI)
		r, created, err := w.Submit(ctx, w.CI, signing.Submission{Target: signing.Target{ProjectSlug: "app", PolicySlug: "test-signing"}, Artifact: st, IdempotencyKey: "build 1"})
		if err != nil || !created {
			st.Discard(ctx)
		}
		test = r
		return err
	})
	if t.Failed() {
		return true
	}
	reach(test.ID, signing.WorkflowCompleted)
	again("resubmit", func() error {
		if v, err := w.Request(ctx, w.CI, test.ID); err != nil || len(v.Resubmits) > 0 {
			if err == nil {
				release = &v.Resubmits[0].Request
			}
			return err
		}
		r, err := w.Resubmit(ctx, w.CI, signing.Resubmission{OriginalID: test.ID, PolicySlug: "release-signing"})
		release = r
		return err
	})
	if t.Failed() {
		return true
	}
	reach(release.ID, signing.WorkflowWaitingForApproval)
	again("approve", func() error {
		_, err := w.Approve(ctx, w.Approver, release.ID, "ok")
		if signing.KindOf(err) == signing.KindConflict { // it was counted although it was reported as failed
			return nil
		}
		return err
	})
	reach(release.ID, signing.WorkflowCompleted)

	w.checkInvariants(t, test.ID, release.ID)
	return faulty.Fired()
}

// checkInvariants checks what must hold of completed requests whatever happened on the way.
func (w *world) checkInvariants(t *testing.T, requests ...signing.ID) {
	t.Helper()
	ctx := t.Context()
	for _, id := range requests {
		events := w.events(t, id)
		for _, once := range []string{"Submitted", "Completed", "ApprovalRequested", "Approved"} {
			if n := count(events, once); n > 1 || (once == "Submitted" || once == "Completed") && n != 1 {
				t.Errorf("request %s has %d audit entries %s: %v", id, n, once, events)
			}
		}
		sum := sha256.Sum256(w.signed(t, id))
		if r := w.status(t, id); hex.EncodeToString(sum[:]) != r.Signed.SHA256 || r.LeaseUntil != nil || r.WakeAt != nil {
			t.Errorf("completed request %+v does not fit its signed artifact", r)
		}
		err := w.db.View(ctx, func(tx signing.Tx) error {
			grants, err := tx.Grants(ctx, id)
			completed := 0
			for _, g := range grants {
				if g.EndedAt == nil {
					t.Errorf("grant %+v is still open", g)
				}
				if g.Outcome == "Completed" {
					completed++
				}
			}
			if completed != 1 {
				t.Errorf("%d grants completed, want 1", completed)
			}
			return err
		})
		if err != nil {
			t.Error(err)
		}
	}
	// No bytes are left that nobody refers to: the program twice at most (idempotent submission), and a signed one each.
	orphans := 0
	err := w.blobs.List(ctx, time.Now().Add(time.Hour), func(id signing.BlobID) error {
		return w.db.View(ctx, func(tx signing.Tx) error {
			used, err := tx.BlobInUse(ctx, id)
			if !used {
				orphans++
			}
			return err
		})
	})
	if err != nil || orphans != 0 {
		t.Errorf("%d blobs are orphans, %v", orphans, err)
	}
}

func count(list []string, item string) (n int) {
	for _, s := range list {
		if s == item {
			n++
		}
	}
	return n
}

// TestTwoWorkers lets workers race for the same requests.
func TestTwoWorkers(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var ids []signing.ID
	for range 8 {
		ids = append(ids, w.submit(t, "test-signing").ID)
	}
	done := make(chan error)
	for range 4 {
		go func() {
			for _, id := range slices.Concat(ids, ids) {
				if err := w.Advance(t.Context(), id); err != nil {
					done <- fmt.Errorf("advance %s: %w", id, err)
					return
				}
			}
			done <- nil
		}()
	}
	for range 4 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	for _, id := range ids {
		w.advance(t, id)
	}
	w.checkInvariants(t, ids...)
}
