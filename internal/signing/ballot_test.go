package signing_test

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/countersign-dev/countersign/artifact/authenticode/petest"
	"github.com/countersign-dev/countersign/internal/signing"
)

// stricter changes of the policy "two-eyes" what approvers decide on.
func (w *world) stricter(t *testing.T) {
	p, err := w.Project(t.Context(), w.Admin, "app")
	if err == nil {
		i := slices.IndexFunc(p.Policies, func(p *signing.Policy) bool { return p.Slug == "two-eyes" })
		rules := p.Policies[i].Rules
		rules.StrictConfiguration = !rules.StrictConfiguration
		_, err = w.EditPolicy(t.Context(), w.Admin, "app", "two-eyes", signing.PolicyEdit{Rules: &rules})
	}
	if err != nil {
		t.Error(err)
	}
}

// TestWhatWaitsForMe: the list of what waits for an approver has exactly what she can decide on.
func TestWhatWaitsForMe(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := t.Context()
	waits := func(a signing.Actor, limit int) (ids []signing.ID) {
		t.Helper()
		for q := (signing.RequestQuery{AwaitingMe: true, Limit: limit}); ; {
			page, err := w.Requests(ctx, a, q)
			if err != nil {
				t.Fatal(err)
			}
			if len(page.Items) > limit {
				t.Fatalf("%d requests on a page of %d", len(page.Items), limit)
			}
			for _, r := range page.Items {
				view, err := w.Request(ctx, a, r.ID)
				if err != nil || !view.May.Approve {
					t.Errorf("%s is in the list, and its page does not offer to decide: %v", r.ID, err)
				}
				ids = append(ids, r.ID)
			}
			if q.After = page.Next; q.After == "" {
				return ids
			}
		}
	}
	var all []signing.ID // newest first
	for range 7 {
		r := w.submit(t, "two-eyes")
		w.advance(t, r.ID)
		all = slices.Insert(all, 0, r.ID)
	}
	ownRelease := w.submit(t, "release-signing") // whose submitter, an approver, may not approve
	w.advance(t, ownRelease.ID)
	timed := w.submit(t, "two-eyes", func(s *signing.Submission) { s.CancellationTimeout = time.Minute })
	w.advance(t, timed.ID)
	w.clock.advance(2 * time.Minute)
	withRelease := slices.Insert(slices.Clone(all), 0, ownRelease.ID)
	if d := cmp.Diff(withRelease, waits(w.Approver, 3)); d != "" {
		t.Errorf("approver (-want +got):\n%s", d)
	}
	if d := cmp.Diff(all, waits(w.CI, 100)); d != "" {
		t.Errorf("CI user (-want +got):\n%s", d)
	}
	if got := waits(w.Stranger, 3); len(got) != 0 {
		t.Errorf("a stranger is asked about %v", got)
	}
	decided := slices.Concat(all[1:5], all[6:])
	for _, id := range decided {
		if _, err := w.Approve(ctx, w.CI, id, ""); err != nil {
			t.Fatal(err)
		}
	}
	for limit := range 3 {
		if d := cmp.Diff([]signing.ID{all[0], all[5]}, waits(w.CI, limit+1)); d != "" {
			t.Errorf("after decisions, pages of %d (-want +got):\n%s", limit+1, d)
		}
	}
	w.stricter(t)
	if d := cmp.Diff(all, waits(w.CI, 2)); d != "" {
		t.Errorf("after the decisions fell (-want +got):\n%s", d)
	}
}

// TestApproversWhoLeave: an approval counts as long as who gave it is an approver, and active.
func TestApproversWhoLeave(t *testing.T) {
	t.Parallel()
	o := &outside{}
	w := newWorld(t, withMessages(o))
	ctx := t.Context()
	g, err := w.CreateGroup(ctx, w.Admin, signing.GroupEdit{Name: ptr("releasers"), Members: ptr([]signing.Subject{user(w.Approver.UserID), user(w.Stranger.UserID)})})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.EditPolicy(ctx, w.Admin, "app", "two-eyes", signing.PolicyEdit{Approvers: ptr([]signing.Subject{group(g.ID), user(w.Second.UserID)})}); err != nil {
		t.Fatal(err)
	}
	w.Approver.Groups = []signing.ID{g.ID}
	r := w.submit(t, "two-eyes")
	w.advance(t, r.ID)
	w.deliverAll(t)
	o.letters()
	approve := func(a signing.Actor) {
		t.Helper()
		if _, err := w.Approve(ctx, a, r.ID, "fine"); err != nil {
			t.Fatal(err)
		}
	}
	members := func(ids ...signing.ID) {
		t.Helper()
		var list []signing.Subject
		for _, id := range ids {
			list = append(list, user(id))
		}
		if _, err := w.EditGroup(ctx, w.Admin, g.ID, signing.GroupEdit{Members: &list}); err != nil {
			t.Fatal(err)
		}
	}
	active := func(id signing.ID, active bool) {
		t.Helper()
		if _, err := w.EditUser(ctx, w.Admin, id, signing.UserEdit{Active: &active, EvenIfInUse: true}); err != nil {
			t.Fatal(err)
		}
	}
	given := func(what string, want int, letters ...string) {
		t.Helper()
		v, err := w.Request(ctx, w.Admin, r.ID)
		if err != nil || v.GivenApprovals != want {
			t.Errorf("%s: %d approvals count, want %d, %v", what, v.GivenApprovals, want, err)
		}
		w.deliverAll(t)
		if d := cmp.Diff(letters, o.letters()); d != "" {
			t.Errorf("%s: mails (-want +got):\n%s", what, d)
		}
	}
	approve(w.Approver)
	given("approved", 1)
	members(w.Approver.UserID)
	given("somebody else left", 1)
	members(w.Stranger.UserID)
	given("she left", 0, "second: ApprovalsFell (Approver)", "stranger: ApprovalsFell (Approver)")
	if events := w.events(t, r.ID); events[len(events)-1] != "ApprovalsFell" {
		t.Errorf("audit entries %v", events)
	}
	is := func(what string, want signing.WorkflowStatus, got *signing.Request) {
		t.Helper()
		if got.Workflow != want {
			t.Fatalf("%s: %s, want %s", what, got.Workflow, want)
		}
	}
	approve(w.Second)
	is("one approval counts", signing.WorkflowWaitingForApproval, w.status(t, r.ID))
	given("another approved", 1)
	members(w.Stranger.UserID, w.Approver.UserID)
	given("she came back", 2)
	is("two approvals count again", signing.WorkflowQueuedForProcessing, w.status(t, r.ID))
	active(w.Approver.UserID, false) // between the last approval and the signature
	is("signed with the approval of somebody who was deactivated", signing.WorkflowWaitingForApproval, w.advance(t, r.ID))
	given("she was deactivated", 1, "stranger: ApprovalsFell (Approver)")
	w.Stranger.Groups = []signing.ID{g.ID}
	approve(w.Stranger)
	is("another approved", signing.WorkflowQueuedForProcessing, w.status(t, r.ID))
	active(w.Second.UserID, false)
	is("the other was deactivated", signing.WorkflowWaitingForApproval, w.advance(t, r.ID))
	given("sent back", 1) // nobody is left to ask
	active(w.Approver.UserID, true)
	is("she is active again", signing.WorkflowCompleted, w.advance(t, r.ID))

	// Directly, too.
	r = w.submit(t, "two-eyes")
	w.advance(t, r.ID)
	approve(w.Approver)
	w.deliverAll(t)
	o.letters()
	if _, err := w.EditPolicy(ctx, w.Admin, "app", "two-eyes", signing.PolicyEdit{Approvers: ptr([]signing.Subject{user(w.Stranger.UserID), user(w.CI.UserID)})}); err != nil {
		t.Fatal(err)
	}
	given("the policy has other approvers", 0, "stranger: ApprovalsFell (Approver)")
}

// TestDecisionRaces makes decisions at the same time, and changes of what is decided on.
func TestDecisionRaces(t *testing.T) {
	t.Parallel()
	onBothDatabases(t, func(t *testing.T, w *world) {
		for round := range 12 {
			w.raceDecisions(t, round)
		}
	})
}

func (w *world) raceDecisions(t *testing.T, round int) {
	ctx := t.Context()
	r := w.submit(t, "two-eyes")
	w.advance(t, r.ID)
	decide := func(f func() error) func() bool {
		return func() bool {
			err := f()
			if kind := signing.KindOf(err); err != nil && kind != signing.KindConflict {
				t.Errorf("round %d: %v", round, err)
			}
			return err == nil
		}
	}
	approve := func(a signing.Actor) func() bool {
		return decide(func() error { _, err := w.Approve(ctx, a, r.ID, ""); return err })
	}
	deny := decide(func() error { _, err := w.Deny(ctx, w.CI, r.ID, "no"); return err })
	cancel := decide(func() error { _, err := w.Cancel(ctx, w.CI, r.ID, "no"); return err })
	change := func() bool { w.stricter(t); return true }
	contenders := [][]func() bool{
		{approve(w.Approver), approve(w.Second), approve(w.Approver), approve(w.Second)},
		{approve(w.Approver), approve(w.Second), deny},
		{approve(w.Approver), approve(w.Second), cancel},
		{approve(w.Approver), approve(w.Second), change},
	}[round%4]
	done := make([]bool, len(contenders))
	var wg sync.WaitGroup
	for i, f := range contenders {
		wg.Go(func() { done[i] = f() })
	}
	wg.Wait()
	w.advance(t, r.ID)
	view, err := w.Request(ctx, w.Approver, r.ID)
	if err != nil {
		t.Fatal(err)
	}
	state := fmt.Sprintf("round %d: %v, it is %s with %d approvals that count, audit log %v", round, done, view.Workflow, view.GivenApprovals, w.events(t, r.ID))
	switch round % 4 {
	case 0:
		if done[0] == done[2] || done[1] == done[3] || view.Workflow != signing.WorkflowCompleted || len(view.Approvals) != 2 {
			t.Errorf("two approvers, twice each: %s", state)
		}
	case 1, 2:
		ended := map[int]signing.WorkflowStatus{1: signing.WorkflowDenied, 2: signing.WorkflowCanceled}[round%4]
		if done[2] != (view.Workflow == ended) || !done[2] && view.Workflow != signing.WorkflowCompleted {
			t.Errorf("approvals and an end: %s", state)
		}
	case 3:
		// Whether it was signed or waits, what counts was decided on the policy as it was at that time, and who was not
		// heard is told.
		told := count(w.events(t, r.ID), "ApprovalsFell")
		switch {
		case view.Workflow == signing.WorkflowCompleted && view.GivenApprovals == 2:
		case view.Workflow == signing.WorkflowWaitingForApproval && view.GivenApprovals+told > 0 && view.GivenApprovals < 2:
		default:
			t.Errorf("approvals and a change: %s", state)
		}
		if !done[0] || !done[1] {
			t.Errorf("a change kept somebody from deciding: %s", state)
		}
	}
}

// TestOnlyWhatWasApprovedIsSigned: the configuration version is the request's own, and other bytes are not signed.
func TestOnlyWhatWasApprovedIsSigned(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := t.Context()
	waiting := func() *signing.Request {
		t.Helper()
		r := w.submit(t, "two-eyes")
		w.advance(t, r.ID)
		if _, err := w.Approve(ctx, w.Approver, r.ID, ""); err != nil {
			t.Fatal(err)
		}
		return r
	}
	changed, tampered := waiting(), waiting()
	xml := strings.Replace(exeConfiguration, "<authenticode-sign/>", `<authenticode-sign description="new"/>`, 1)
	if _, err := w.EditConfiguration(ctx, w.Admin, "app", "exe", signing.ConfigurationEdit{XML: &xml}); err != nil {
		t.Fatal(err)
	}
	replaced := 0
	err := filepath.WalkDir(filepath.Join(w.dir, "blobs"), func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.Contains(path, string(tampered.Unsigned.BlobID)) {
			return err
		}
		replaced++
		if err := os.Chmod(path, 0o600); err != nil {
			return err
		}
		return os.WriteFile(path, petest.Image{Version: map[string]string{"ProductName": "Evil"}}.Bytes(), 0o600)
	})
	if err != nil || replaced != 1 {
		t.Fatalf("%d files replaced, %v", replaced, err)
	}
	for _, r := range []*signing.Request{changed, tampered} {
		if _, err := w.Approve(ctx, w.Second, r.ID, ""); err != nil {
			t.Fatal(err)
		}
	}
	if got := w.advance(t, changed.ID); got.Workflow != signing.WorkflowCompleted || got.ConfigurationVersion != 1 || bytes.Contains(w.signed(t, changed.ID), []byte("\x00n\x00e\x00w")) {
		t.Errorf("after the configuration changed: %s with version %d, %+v", got.Workflow, got.ConfigurationVersion, got.Failure)
	}
	if got := w.advance(t, tampered.ID); got.Workflow != signing.WorkflowProcessingFailed || got.Failure == nil || got.Failure.Code != "Integrity" {
		t.Errorf("after the bytes changed: %s, %+v", got.Workflow, got.Failure)
	}
	if events := w.events(t, tampered.ID); slices.Contains(events, "SigningStarted") {
		t.Errorf("a key was used: %v", events)
	}
}
