package signing_test

import (
	"bytes"
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

// TestFaults breaks every write and every commit of the release scenario, and of artifacts that come later, in every way, goes on
// as a client and a worker would, and checks that nothing is lost, done twice or left open.
func TestFaults(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		scenario func(*faultyWorld)
		steps    int // at least
	}{"release": {releaseWithFault, 30}, "upload": {uploadWithFault, 15}, "link": {linkWithFault, 15}} {
		for _, fault := range storetest.Faults {
			t.Run(name+", "+fault.String(), func(t *testing.T) {
				t.Parallel()
				for step := 1; ; step++ {
					w := &faultyWorld{t: t}
					f := &fetcher{content: examplePE}
					w.world = newWorld(t, withFetcher(f), func(c *signing.Config) {
						w.faulty = storetest.NewFaulty(c.Store)
						c.Store = w.faulty
					})
					w.faulty.Break(step, fault)
					c.scenario(w)
					if t.Failed() {
						t.Fatalf("after breaking step %d", step)
					}
					if !w.faulty.Fired() {
						if step < c.steps {
							t.Errorf("the scenario has only %d steps", step-1)
						}
						return
					}
				}
			})
		}
	}
}

// faultyWorld is a world in which one step breaks.
type faultyWorld struct {
	*world
	t      *testing.T
	faulty *storetest.Faulty
}

// again does what a client does, again when it failed.
func (w *faultyWorld) again(what string, fn func() error) {
	w.t.Helper()
	var err error
	for range 3 {
		if err = fn(); err == nil {
			return
		}
		if signing.KindOf(err) == 0 && !errors.Is(err, storetest.ErrInjected) {
			break
		}
	}
	w.t.Fatalf("%s: %v (steps %v)", what, err, w.faulty.Steps())
}

// reach lets workers look at the request, after their leases and pauses, until it is in the state.
func (w *faultyWorld) reach(id signing.ID, want signing.WorkflowStatus) {
	w.t.Helper()
	for range 8 {
		if w.status(w.t, id).Workflow == want {
			return
		}
		if err := w.Advance(w.t.Context(), id); err != nil && !errors.Is(err, storetest.ErrInjected) {
			w.t.Error(err)
		}
		w.clock.advance(2 * time.Minute)
		if err := w.Sweep(w.t.Context()); err != nil && !errors.Is(err, storetest.ErrInjected) {
			w.t.Error(err)
		}
	}
	r := w.status(w.t, id)
	w.t.Errorf("request is %s (%+v), want %s; steps %v", r.Workflow, r.Failure, want, w.faulty.Steps())
}

// uploadWithFault submits without an artifact and uploads it afterwards.
func uploadWithFault(w *faultyWorld) {
	w.complete(func(s *signing.Submission) {
		s.Upload = &signing.Upload{FileName: "app.exe", SHA256: hexSum(examplePE)}
	}, func(id signing.ID) {
		w.again("upload", func() error {
			_, err := w.UploadArtifact(w.t.Context(), w.CI, id, bytes.NewReader(examplePE))
			return err
		})
	})
}

// linkWithFault submits with a retrieval link.
func linkWithFault(w *faultyWorld) {
	w.complete(func(s *signing.Submission) {
		s.Link = &signing.Link{URL: "https://ci.example/app.exe", FileName: "app.exe", SHA256: hexSum(examplePE)}
	}, func(signing.ID) {})
}

// complete submits what brings no artifact along, and waits until it is signed.
func (w *faultyWorld) complete(change func(*signing.Submission), then func(signing.ID)) {
	var r *signing.Request
	w.again("submit", func() (err error) {
		sub := signing.Submission{Target: signing.Target{ProjectSlug: "app", PolicySlug: "test-signing"}, IdempotencyKey: "build 1"}
		change(&sub)
		r, _, err = w.Submit(w.t.Context(), w.CI, sub)
		return err
	})
	then(r.ID)
	w.reach(r.ID, signing.WorkflowCompleted)
	if v := w.verification(w.t, r.ID, "ArtifactDigest"); v.Result != signing.Passed {
		w.t.Errorf("the announced hash: %+v", v)
	}
	if n := count(w.events(w.t, r.ID), "ArtifactReceived"); n != 1 {
		w.t.Errorf("the artifact was received %d times", n)
	}
	w.checkInvariants(w.t, r.ID)
}

// releaseWithFault signs for a test, and resubmits for the release.
func releaseWithFault(w *faultyWorld) {
	t, ctx, again, reach := w.t, w.t.Context(), w.again, w.reach
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
