package signing_test

import (
	"context"
	"crypto"
	"errors"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/countersign-dev/countersign/internal/signing"
)

// stamper is a timestamp authority that fails, or hangs until the context ends.
type stamper struct {
	hang    bool
	started chan struct{}
	asked   int
}

func (s *stamper) Timestamp(ctx context.Context, _ []byte, _ crypto.Hash) ([]byte, error) {
	s.asked++
	if s.hang {
		close(s.started)
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return nil, errors.New("timestamp authority tsa.example does not answer")
}

func withStamper(s *stamper) option { return func(c *signing.Config) { c.Timestamper = s } }

func TestRetriesThenFails(t *testing.T) {
	t.Parallel()
	tsa := &stamper{}
	w := newWorld(t, withStamper(tsa))
	r := w.submit(t, "test-signing")
	for try := 1; try < 5; try++ {
		if got := w.advance(t, r.ID); got.Workflow != signing.WorkflowProcessing || got.Tries != try || got.LeaseUntil != nil {
			t.Fatalf("try %d: %s, tries %d, lease %v", try, got.Workflow, got.Tries, got.LeaseUntil)
		}
	}
	got := w.advance(t, r.ID)
	if got.Workflow != signing.WorkflowProcessingFailed || got.Failure.Code != "Internal" || !strings.Contains(got.Failure.Message, "tsa.example does not answer") {
		t.Errorf("after the last try: %s, %+v", got.Workflow, got.Failure)
	}
	if tsa.asked != 5 {
		t.Errorf("the authority was asked %d times", tsa.asked)
	}
	if events := w.events(t, r.ID); events[len(events)-1] != "Failed" {
		t.Errorf("audit entries %v", events)
	}
}

// TestDeadWorker kills a worker in the middle of signing, as far as the database can tell.
func TestDeadWorker(t *testing.T) {
	t.Parallel()
	tsa := &stamper{hang: true, started: make(chan struct{})}
	w := newWorld(t, withStamper(tsa))
	r := w.submit(t, "test-signing")
	ctx, kill := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- w.Advance(ctx, r.ID) }()
	<-tsa.started
	if got := w.advance(t, r.ID); got.Attempt != 1 { // another worker keeps its hands off
		t.Errorf("attempt %d began while the first held the lease", got.Attempt)
	}
	// The lease runs out without a heartbeat: the worker is dead, a second one takes over and finishes.
	w.clock.advance(time.Minute)
	if err := w.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	second, err := w.another()
	if err != nil {
		t.Fatal(err)
	}
	if err := second.Advance(t.Context(), r.ID); err != nil {
		t.Fatal(err)
	}
	if got := w.status(t, r.ID); got.Workflow != signing.WorkflowCompleted || got.Attempt != 2 {
		t.Fatalf("%s, attempt %d", got.Workflow, got.Attempt)
	}
	before := w.status(t, r.ID).Signed
	// The first one was only slow: what it still does changes nothing.
	kill()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if after := w.status(t, r.ID).Signed; after != before {
		t.Errorf("the dead worker replaced the signed artifact: %+v, was %+v", after, before)
	}
	w.checkInvariants(t, r.ID)
}

func TestInterruptionIsNoTry(t *testing.T) {
	t.Parallel()
	tsa := &stamper{hang: true, started: make(chan struct{})}
	w := newWorld(t, withStamper(tsa))
	r := w.submit(t, "test-signing")
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- w.Advance(ctx, r.ID) }()
	<-tsa.started
	stop() // a graceful shutdown
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if got := w.status(t, r.ID); got.Tries != 0 || got.LeaseUntil != nil || got.Workflow.Status() != signing.InProgress {
		t.Errorf("after a shutdown: %s, tries %d, lease %v", got.Workflow, got.Tries, got.LeaseUntil)
	}
}

func TestCancelWhileSigning(t *testing.T) {
	t.Parallel()
	tsa := &stamper{hang: true, started: make(chan struct{})}
	w := newWorld(t, withStamper(tsa), func(c *signing.Config) { c.Limits.Lease = 30 * time.Millisecond })
	r := w.submit(t, "test-signing")
	done := make(chan error)
	go func() { done <- w.Advance(t.Context(), r.ID) }()
	<-tsa.started
	if _, err := w.Cancel(t.Context(), w.CI, r.ID, ""); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil { // the heartbeat notices and ends the work
		t.Fatal(err)
	}
	if got := w.status(t, r.ID); got.Workflow != signing.WorkflowCanceled || got.Signed.BlobID != "" {
		t.Errorf("%s, signed artifact %+v", got.Workflow, got.Signed)
	}
}

// die lets the process die that works on these requests: what a claim leaves behind, and then a start.
func (w *world) die(t *testing.T, requests ...*signing.Request) {
	t.Helper()
	for _, r := range requests {
		err := w.db.Tx(t.Context(), func(tx signing.Tx) error {
			r, err := tx.LockRequest(t.Context(), r.OrganizationID, r.ID)
			if err != nil {
				return err
			}
			r.Attempt, r.Tries, r.Unfinished, r.LeaseUntil = r.Attempt+1, r.Tries+1, r.Unfinished+1, ptr(w.clock.Now().Add(30*time.Second))
			return tx.UpdateRequest(t.Context(), r)
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Recover(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// TestPoisonedArtifact: each attempt takes its process down before it can say anything, and with it what the process worked on
// besides.
func TestPoisonedArtifact(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	poisoned, neighbour := w.submit(t, "test-signing"), w.submit(t, "test-signing")
	w.die(t, poisoned, neighbour)
	w.die(t, poisoned, neighbour)
	for range 3 { // from now on alone
		w.die(t, poisoned)
	}
	got := w.advance(t, poisoned.ID)
	if got.Workflow != signing.WorkflowProcessingFailed {
		t.Fatalf("%s, %+v", got.Workflow, got.Failure)
	}
	for _, text := range []string{"started 5 times and never finished", "process ended 5 times", "the last 3 times with no other artifact beside it"} {
		if !strings.Contains(got.Failure.Message, text) {
			t.Errorf("the failure does not say %q: %s", text, got.Failure.Message)
		}
	}
	if got := w.advance(t, neighbour.ID); got.Workflow != signing.WorkflowCompleted || got.Tries != 3 {
		t.Errorf("its neighbour: %s after %d tries, %+v", got.Workflow, got.Tries, got.Failure)
	}
	w.checkInvariants(t, neighbour.ID)
}

// turnstile is a timestamp authority that lets nobody pass until it is opened, and counts who is inside.
type turnstile struct {
	entered chan struct{}
	open    chan struct{}
	inside  atomic.Int32
	most    atomic.Int32
}

func (s *turnstile) Timestamp(ctx context.Context, _ []byte, _ crypto.Hash) ([]byte, error) {
	if n := s.inside.Add(1); n > s.most.Load() {
		s.most.Store(n)
	}
	defer s.inside.Add(-1)
	s.entered <- struct{}{}
	select {
	case <-s.open:
	case <-ctx.Done():
	}
	return nil, errors.New("closed")
}

// TestSuspectsRunAlone: a request under which processes died is advanced with no other beside it.
func TestSuspectsRunAlone(t *testing.T) {
	t.Parallel()
	gate := &turnstile{entered: make(chan struct{}, 10), open: make(chan struct{})}
	w := newWorld(t, func(c *signing.Config) { c.Timestamper = gate })
	suspects := []*signing.Request{w.submit(t, "test-signing"), w.submit(t, "test-signing")}
	bystander := w.submit(t, "test-signing")
	w.die(t, suspects...)
	w.die(t, suspects...)
	var wg sync.WaitGroup
	advance := func(id signing.ID) {
		wg.Go(func() {
			if err := w.Advance(t.Context(), id); err != nil {
				t.Error(err)
			}
		})
	}
	advance(suspects[0].ID)
	<-gate.entered
	advance(bystander.ID)
	advance(suspects[1].ID)
	for range 200 {
		if got := w.status(t, bystander.ID); got.Attempt != 0 {
			t.Fatal("a request was begun beside one that may take the process down")
		}
	}
	close(gate.open)
	wg.Wait()
	if n := gate.most.Load(); n != 1 {
		t.Errorf("%d requests were processed at a time", n)
	}
	for _, r := range suspects { // their attempts ended with errors, but nothing died
		if got := w.status(t, r.ID); got.Unfinished != 2 || got.LeaseUntil != nil {
			t.Errorf("%d attempts count as unfinished, want the 2 of before", got.Unfinished)
		}
	}
}

// TestErrorsAreNoDeaths: attempts that failed in an orderly way do not make a request suspect.
func TestErrorsAreNoDeaths(t *testing.T) {
	t.Parallel()
	w := newWorld(t, withStamper(&stamper{}))
	r := w.submit(t, "test-signing")
	for range 3 {
		if got := w.advance(t, r.ID); got.Unfinished != 0 {
			t.Fatalf("%d attempts count as unfinished after %d errors", got.Unfinished, got.Tries)
		}
	}
}

func TestRequireTimestamp(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	if _, err := w.EditPolicy(t.Context(), w.Admin, "app", "test-signing", signing.PolicyEdit{Rules: &signing.PolicyRules{RequireTimestamp: true}}); err != nil {
		t.Fatal(err)
	}
	r := w.submit(t, "test-signing")
	if got := w.advance(t, r.ID); got.Workflow != signing.WorkflowProcessingFailed || got.Failure.Code != "Policy" || !strings.Contains(got.Failure.Message, "--timestamp") {
		t.Errorf("signed without the timestamp that the policy requires: %s, %+v", got.Workflow, got.Failure)
	}
}

func TestRetention(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := t.Context()
	if _, err := w.EditPolicy(ctx, w.Admin, "app", "test-signing", signing.PolicyEdit{Rules: &signing.PolicyRules{RetentionDays: 10}}); err != nil {
		t.Fatal(err)
	}
	settings, err := w.Stage(ctx, w.CI, "Jenkinsfile", strings.NewReader("pipeline {}"))
	if err != nil {
		t.Fatal(err)
	}
	build := w.CI
	build.TrustedBuildSystemID = w.BuildSystem
	origin := signing.Origin{RepositoryURL: "https://github.com/acme/app", CommitID: "0123abc", SettingsFileName: "Jenkinsfile", SettingsBlobID: settings.Artifact().BlobID}
	short := w.submitAs(t, build, "test-signing", func(s *signing.Submission) { s.Origin = &origin })
	w.advance(t, short.ID)
	canceled := w.submit(t, "test-signing")
	if _, err := w.Cancel(ctx, w.CI, canceled.ID, ""); err != nil {
		t.Fatal(err)
	}
	long, err := w.Resubmit(ctx, w.CI, signing.Resubmission{OriginalID: short.ID, PolicySlug: "release-signing"})
	if err != nil {
		t.Fatal(err)
	}
	w.advance(t, long.ID)
	orphan := w.stage(t, w.CI) // an upload that no request refers to
	gone := func(when string, id signing.ID) {
		t.Helper()
		for _, open := range []func(context.Context, signing.Actor, signing.ID) (*signing.Download, error){w.UnsignedArtifact, w.SignedArtifact} {
			_, err := open(ctx, w.CI, id)
			if signing.KindOf(err) == signing.KindNotFound && w.status(t, id).Workflow != signing.WorkflowCompleted {
				continue // there never was one
			}
			wantKind(t, err, signing.KindGone)
			if err != nil && !strings.Contains(err.Error(), w.status(t, id).ArtifactsDeletedAt.Format(time.RFC1123)) {
				t.Errorf("%s: %v does not say when", when, err)
			}
		}
	}
	kept := func(when string, id signing.ID) {
		t.Helper()
		d, err := w.UnsignedArtifact(ctx, w.CI, id)
		if err == nil {
			_, err = io.Copy(io.Discard, io.NewSectionReader(d.Blob, 0, d.Blob.Size()))
			err = errors.Join(err, d.Blob.Close())
		}
		if err != nil {
			t.Errorf("%s: %v", when, err)
		}
	}
	retain := func() {
		t.Helper()
		other, err := w.another()
		if err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		for _, s := range []*signing.Service{w.Service, other} { // two processes do it at the same time
			wg.Go(func() {
				if err := s.Retain(ctx); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
	}
	w.clock.advance(9 * 24 * time.Hour)
	retain()
	kept("before its time", short.ID)
	w.clock.advance(2 * 24 * time.Hour)
	retain()
	gone("after its time", short.ID)
	gone("canceled", canceled.ID)
	kept("of a request that still waits", long.ID)
	_, err = w.Resubmit(ctx, w.CI, signing.Resubmission{OriginalID: short.ID, PolicySlug: "release-signing"})
	wantKind(t, err, signing.KindInvalid)
	if err == nil || !strings.Contains(err.Error(), "deleted on "+w.status(t, short.ID).ArtifactsDeletedAt.Format(time.RFC1123)) {
		t.Errorf("resubmit: %v", err)
	}
	if r := w.status(t, short.ID); r.Unsigned.SHA256 == "" || r.Signed.SHA256 == "" || r.ArtifactsDeletedAt == nil {
		t.Errorf("hashes went with the bytes: %+v", r)
	}
	if n := count(w.events(t, short.ID), "ArtifactsDeleted"); n != 1 {
		t.Errorf("%d audit entries", n)
	}
	if d, err := w.BuildSettingsFile(ctx, w.CI, short.ID); err != nil {
		t.Errorf("the origin lost its build settings: %v", err)
	} else if err := d.Blob.Close(); err != nil {
		t.Error(err)
	}
	_, err = w.blobs.Open(ctx, orphan.Artifact().BlobID)
	wantKind(t, err, signing.KindNotFound)

	// The resubmit is signed from the bytes that it shares; the organization's retention time then ends these, too.
	if _, err := w.Approve(ctx, w.Approver, long.ID, ""); err != nil {
		t.Fatal(err)
	}
	if got := w.advance(t, long.ID); got.Workflow != signing.WorkflowCompleted {
		t.Fatalf("%s, %+v", got.Workflow, got.Failure)
	}
	w.clock.advance(1000 * 24 * time.Hour)
	retain()
	kept("without a retention time", long.ID)
	if _, err := w.EditOrganization(ctx, w.Admin, signing.OrganizationEdit{Settings: &signing.OrganizationSettings{RetentionDays: 999}}); err != nil {
		t.Fatal(err)
	}
	shared := w.status(t, long.ID).Unsigned.BlobID
	retain()
	gone("after the organization's time", long.ID)
	_, err = w.blobs.Open(ctx, shared)
	wantKind(t, err, signing.KindNotFound)
}
