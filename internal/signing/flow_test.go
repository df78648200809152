package signing_test

import (
	"bytes"
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/countersign-dev/countersign/artifact/authenticode"
	"github.com/countersign-dev/countersign/internal/audit"
	"github.com/countersign-dev/countersign/internal/signing"
	"github.com/countersign-dev/countersign/internal/store"
)

func (w *world) eventsUnchecked(t *testing.T, object signing.ID) []string {
	t.Helper()
	leaves, err := w.AuditEntries(t.Context(), w.Admin, signing.AuditFilter{ObjectID: object, Limit: 100})
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, l := range leaves {
		e, err := audit.Decode(l.Data)
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, strings.TrimPrefix(e.Event, "SigningRequest."))
	}
	return names
}

func TestReleaseScenario(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := t.Context()

	test := w.submit(t, "test-signing", func(s *signing.Submission) {
		s.Description = "candidate"
		s.Parameters = map[string]string{"VERSION": "2.1"}
	})
	if got := test.Workflow.Status(); got != signing.InProgress {
		t.Errorf("after submission the status is %s", got)
	}
	_, err := w.SignedArtifact(ctx, w.CI, test.ID)
	wantKind(t, err, signing.KindInvalid)
	if got := w.advance(t, test.ID); got.Workflow != signing.WorkflowCompleted || got.Parameters["version"] != "2.1" {
		t.Fatalf("test-signing ended as %s (%+v) with parameters %v", got.Workflow, got.Failure, got.Parameters)
	}
	if want := []string{"Submitted", "SigningStarted", "Completed"}; !slices.Equal(w.events(t, test.ID), want) {
		t.Errorf("audit entries %v, want %v", w.events(t, test.ID), want)
	}

	release, err := w.Resubmit(ctx, w.CI, signing.Resubmission{OriginalID: test.ID, PolicySlug: "RELEASE-signing"})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(test.Unsigned, release.Unsigned); diff != "" || release.OriginalID != test.ID || release.Description != "candidate" ||
		release.ConfigurationVersion != test.ConfigurationVersion || release.Parameters["version"] != "2.1" {
		t.Errorf("the resubmit is not the very same artifact: %s %+v", diff, release)
	}
	if got := w.advance(t, release.ID); got.Workflow != signing.WorkflowWaitingForApproval {
		t.Fatalf("release-signing is %s, %+v", got.Workflow, got.Failure)
	}
	if got := w.advance(t, release.ID); got.Workflow != signing.WorkflowWaitingForApproval {
		t.Fatalf("advancing a waiting request made it %s", got.Workflow)
	}
	if resolved, err := w.Resolved(ctx, w.Approver, release.ID); err != nil || !bytes.Contains(resolved.Plan, []byte("authenticode-sign")) {
		t.Errorf("an approver sees the plan %s, %v", resolved.Plan, err)
	}
	approved, err := w.Approve(ctx, w.Approver, release.ID, "tested")
	if err != nil || approved.Workflow != signing.WorkflowQueuedForProcessing {
		t.Fatalf("approval: %v, %v", approved, err)
	}
	if got := w.advance(t, release.ID); got.Workflow != signing.WorkflowCompleted {
		t.Fatalf("release-signing ended as %s, %+v", got.Workflow, got.Failure)
	}
	if want := []string{"Submitted", "ApprovalRequested", "Approved", "SigningStarted", "Completed"}; !slices.Equal(w.events(t, release.ID), want) {
		t.Errorf("audit entries %v, want %v", w.events(t, release.ID), want)
	}
	for id, subject := range map[signing.ID]string{test.ID: "CN=test", release.ID: "CN=release"} {
		raw := w.signed(t, id)
		report, err := authenticode.VerifyPE(ctx, bytes.NewReader(raw), int64(len(raw)), authenticode.VerifyOptions{})
		if err != nil || len(report.Signatures) != 1 || report.Signatures[0].Signer.Subject != subject {
			t.Errorf("signed artifact: %+v, %v; want one signature of %s", report, err, subject)
		}
	}
	view, err := w.Request(ctx, w.CI, test.ID)
	if err != nil || len(view.Resubmits) != 1 || view.Resubmits[0].ID != release.ID || !view.May.Resubmit || view.May.Approve || view.May.Cancel {
		t.Errorf("view of the original: %+v, %v", view, err)
	}
}

func TestResubmitRules(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := t.Context()
	pending := w.submit(t, "release-signing")
	done := w.submit(t, "test-signing")
	if got := w.advance(t, done.ID); got.Workflow != signing.WorkflowCompleted {
		t.Fatalf("%s %+v", got.Workflow, got.Failure)
	}
	resubmit := func(a signing.Actor, original signing.ID, policy string) error {
		_, err := w.Resubmit(ctx, a, signing.Resubmission{OriginalID: original, PolicySlug: policy})
		return err
	}
	wantKind(t, resubmit(w.CI, pending.ID, "test-signing"), signing.KindInvalid) // not completed
	wantKind(t, resubmit(w.CI, done.ID, "nonsense"), signing.KindInvalid)
	wantKind(t, resubmit(w.CI, signing.NewID(), "test-signing"), signing.KindInvalid)
	wantKind(t, resubmit(w.CI, done.ID, ""), signing.KindInvalid)
	wantKind(t, resubmit(w.Approver, done.ID, "release-signing"), signing.KindForbidden) // sees it, is no submitter of the new policy
	wantKind(t, resubmit(w.Admin, done.ID, "release-signing"), signing.KindForbidden)    // no role submits
	if known, unknown := resubmit(w.Stranger, done.ID, "release-signing"), resubmit(w.Stranger, signing.NewID(), "release-signing"); known == nil || strings.ReplaceAll(known.Error(), string(done.ID), "") == "" || signing.KindOf(known) != signing.KindOf(unknown) {
		t.Errorf("a stranger learns that the request exists: %v, %v", known, unknown)
	}
	if known, unknown := resubmit(w.Foreigner, done.ID, "release-signing"), resubmit(w.Foreigner, signing.NewID(), "release-signing"); signing.KindOf(known) != signing.KindOf(unknown) || signing.KindOf(known) != signing.KindInvalid {
		t.Errorf("another organization learns that the request exists: %v, %v", known, unknown)
	}
	_, err := w.Resubmit(ctx, w.CI, signing.Resubmission{OriginalID: done.ID, PolicyID: w.policyID(t, "other", "test-signing")})
	wantKind(t, err, signing.KindInvalid) // a policy of another project
	if _, err := w.Resubmit(ctx, w.CI, signing.Resubmission{OriginalID: done.ID, PolicyID: w.policyID(t, "app", "release-signing")}); err != nil {
		t.Errorf("resubmit by policy id: %v", err)
	}
	if _, err := w.EditConfiguration(ctx, w.Admin, "app", "exe", signing.ConfigurationEdit{XML: ptr(strings.Replace(exeConfiguration, "<authenticode-sign/>", `<authenticode-sign description="new"/>`, 1))}); err != nil {
		t.Fatal(err)
	}
	again, err := w.Resubmit(ctx, w.CI, signing.Resubmission{OriginalID: done.ID, PolicySlug: "test-signing"})
	if err != nil || again.ConfigurationVersion != 1 {
		t.Errorf("a resubmit after a configuration change uses version %+v, want 1: %v", again, err)
	}
}

// TestResubmitChain: a resubmit of a resubmit takes over the first one's bytes, configuration version, parameters and origin, is
// judged by its own policy, and the chain is shown both ways. The artifact stays as long as one of them holds it.
func TestResubmitChain(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := t.Context()
	build := w.CI
	build.TrustedBuildSystemID = w.BuildSystem
	origin := signing.Origin{RepositoryURL: "https://github.com/acme/app", BranchName: "release/1", CommitID: "1", BuildURL: "https://ci.example/1"}
	first := w.submitAs(t, build, "test-signing", func(s *signing.Submission) {
		s.Origin, s.Parameters, s.Description = &origin, map[string]string{"version": "2.1"}, "candidate"
	})
	w.advance(t, first.ID)
	if _, err := w.EditConfiguration(ctx, w.Admin, "app", "exe", signing.ConfigurationEdit{XML: ptr(strings.Replace(exeConfiguration, "1.0", "1.1", 1))}); err != nil {
		t.Fatal(err)
	}
	chain := []*signing.Request{first}
	for _, policy := range []string{"test-signing", "verified", "two-eyes"} {
		last := chain[len(chain)-1]
		again, err := w.Resubmit(ctx, w.CI, signing.Resubmission{OriginalID: last.ID, PolicySlug: policy})
		if err != nil {
			t.Fatal(err)
		}
		got := w.advance(t, again.ID)
		if want := map[bool]signing.WorkflowStatus{true: signing.WorkflowWaitingForApproval, false: signing.WorkflowCompleted}[policy == "two-eyes"]; got.Workflow != want {
			t.Fatalf("%s: %s, %+v", policy, got.Workflow, got.Failure)
		}
		if diff := cmp.Diff(*first.Origin, *got.Origin) + cmp.Diff(first.Unsigned, got.Unsigned) + cmp.Diff(first.Parameters, got.Parameters); diff != "" ||
			got.ConfigurationVersion != 1 || got.TrustedBuildSystemID != w.BuildSystem || got.Description != "candidate" {
			t.Errorf("%s: %s", policy, diff)
		}
		chain = append(chain, again)
	}
	for i, r := range chain {
		view, err := w.Request(ctx, w.CI, r.ID)
		if err != nil {
			t.Fatal(err)
		}
		if i > 0 && view.OriginalID != chain[i-1].ID {
			t.Errorf("link %d resubmits %s", i, view.OriginalID)
		}
		if last := i == len(chain)-1; last != (len(view.Resubmits) == 0) || !last && view.Resubmits[0].ID != chain[i+1].ID {
			t.Errorf("link %d is resubmitted by %v", i, view.Resubmits)
		}
	}
	// The artifacts of those that ended go; the last one still has its bytes.
	if _, err := w.EditOrganization(ctx, w.Admin, signing.OrganizationEdit{Settings: &signing.OrganizationSettings{RetentionDays: 1}}); err != nil {
		t.Fatal(err)
	}
	w.clock.advance(48 * time.Hour)
	if err := w.Retain(ctx); err != nil {
		t.Fatal(err)
	}
	_, err := w.Resubmit(ctx, w.CI, signing.Resubmission{OriginalID: first.ID, PolicySlug: "test-signing"})
	wantField(t, "artifact deleted", err, "OriginalSigningRequestId")
	d, err := w.UnsignedArtifact(ctx, w.CI, chain[3].ID)
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Blob.Close(); err != nil {
		t.Error(err)
	}
	for _, a := range []signing.Actor{w.Approver, w.Second} {
		if _, err := w.Approve(ctx, a, chain[3].ID, ""); err != nil {
			t.Fatal(err)
		}
	}
	if got := w.advance(t, chain[3].ID); got.Workflow != signing.WorkflowCompleted {
		t.Errorf("%s, %+v", got.Workflow, got.Failure)
	}
}

func (w *world) policyID(t *testing.T, project, policy string) signing.ID {
	t.Helper()
	p, err := w.Project(t.Context(), w.Admin, project)
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(p.Policies, func(p *signing.Policy) bool { return p.Slug == policy })
	return p.Policies[i].ID
}

func TestApprovals(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := t.Context()
	r := w.submit(t, "two-eyes")
	_, err := w.Approve(ctx, w.Approver, r.ID, "")
	wantKind(t, err, signing.KindConflict) // not examined yet
	w.advance(t, r.ID)
	_, err = w.Approve(ctx, w.Admin, r.ID, "")
	wantKind(t, err, signing.KindForbidden)
	_, err = w.Approve(ctx, w.Stranger, r.ID, "")
	wantKind(t, err, signing.KindNotFound)
	_, err = w.Approve(ctx, w.Foreigner, r.ID, "")
	wantKind(t, err, signing.KindNotFound)
	if got, err := w.Approve(ctx, w.Approver, r.ID, "one"); err != nil || got.Workflow != signing.WorkflowWaitingForApproval {
		t.Fatalf("first of two approvals: %+v, %v", got, err)
	}
	_, err = w.Approve(ctx, w.Approver, r.ID, "again")
	wantKind(t, err, signing.KindConflict)
	_, err = w.Deny(ctx, w.Approver, r.ID, "changed my mind")
	wantKind(t, err, signing.KindConflict)

	// The policy changes: the approval falls, and the same approver may decide again.
	if _, err := w.EditPolicy(ctx, w.Admin, "app", "two-eyes", signing.PolicyEdit{Rules: &signing.PolicyRules{RequiredApprovals: 2, StrictConfiguration: true}}); err != nil {
		t.Fatal(err)
	}
	view, err := w.Request(ctx, w.Approver, r.ID)
	if err != nil || view.GivenApprovals != 0 || len(view.Approvals) != 1 || view.Approvals[0].Counts || !view.May.Approve {
		t.Errorf("after the policy changed: %+v, %v", view, err)
	}
	for i, a := range []signing.Actor{w.Approver, w.Second} {
		if _, err := w.Approve(ctx, a, r.ID, ""); err != nil {
			t.Fatalf("approval %d: %v", i, err)
		}
	}
	if got := w.advance(t, r.ID); got.Workflow != signing.WorkflowCompleted {
		t.Errorf("ended as %s, %+v", got.Workflow, got.Failure)
	}
	// What it was decided on stays so when the policy changes once more.
	if _, err := w.EditPolicy(ctx, w.Admin, "app", "two-eyes", signing.PolicyEdit{Rules: &signing.PolicyRules{RequiredApprovals: 2}}); err != nil {
		t.Fatal(err)
	}
	view, err = w.Request(ctx, w.Approver, r.ID)
	if err != nil || view.GivenApprovals != 2 || len(view.Approvals) != 3 {
		t.Fatalf("after it ended: %+v, %v", view, err)
	}
	for i, counts := range []bool{false, true, true} {
		if view.Approvals[i].Counts != counts {
			t.Errorf("approval %d counts: %t", i, view.Approvals[i].Counts)
		}
	}

	denied := w.submit(t, "two-eyes")
	w.advance(t, denied.ID)
	if _, err := w.Approve(ctx, w.Approver, denied.ID, ""); err != nil {
		t.Fatal(err)
	}
	if got, err := w.Deny(ctx, w.Second, denied.ID, "no"); err != nil || got.Workflow != signing.WorkflowDenied {
		t.Errorf("one deny does not end it: %+v, %v", got, err)
	}
	if got := w.advance(t, denied.ID); got.Workflow != signing.WorkflowDenied {
		t.Errorf("a denied request became %s", got.Workflow)
	}
	_, err = w.SignedArtifact(ctx, w.CI, denied.ID)
	wantKind(t, err, signing.KindNotFound)
	_, err = w.Cancel(ctx, w.CI, denied.ID, "")
	wantKind(t, err, signing.KindConflict)
}

// TestFewerApprovals: an edit of the policy lets nothing go that waits; an approver does.
func TestFewerApprovals(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	for required := range 2 {
		w := newWorld(t)
		r := w.submit(t, "two-eyes")
		w.advance(t, r.ID)
		if _, err := w.Approve(ctx, w.Approver, r.ID, ""); err != nil {
			t.Fatal(err)
		}
		if _, err := w.EditPolicy(ctx, w.Admin, "app", "two-eyes", signing.PolicyEdit{Rules: &signing.PolicyRules{RequiredApprovals: required}}); err != nil {
			t.Fatal(err)
		}
		if err := w.Sweep(ctx); err != nil {
			t.Fatal(err)
		}
		if got := w.advance(t, r.ID); got.Workflow != signing.WorkflowWaitingForApproval {
			t.Fatalf("%d approvals are required now: %s", required, got.Workflow)
		}
		if _, err := w.Approve(ctx, w.Approver, r.ID, ""); err != nil {
			t.Fatal(err)
		}
		if got := w.advance(t, r.ID); got.Workflow != signing.WorkflowCompleted {
			t.Errorf("%d approvals are required, one was given: %s, %+v", required, got.Workflow, got.Failure)
		}
	}
}

func TestSubmitterMayNotApprove(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	r := w.submit(t, "release-signing")
	w.advance(t, r.ID)
	_, err := w.Approve(t.Context(), w.CI, r.ID, "") // the CI user is an approver, too
	wantKind(t, err, signing.KindForbidden)
	if view, err := w.Request(t.Context(), w.CI, r.ID); err != nil || view.May.Approve {
		t.Errorf("the submitter is offered to approve: %v", err)
	}
}

// TestApprovalsFallBeforeSigning: the certificate changes between the last approval and the signature.
func TestApprovalsFallBeforeSigning(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	r := w.submit(t, "release-signing")
	w.advance(t, r.ID)
	if _, err := w.Approve(t.Context(), w.Approver, r.ID, ""); err != nil {
		t.Fatal(err)
	}
	if _, err := w.EditPolicy(t.Context(), w.Admin, "app", "release-signing", signing.PolicyEdit{CertificateSlug: ptr("test")}); err != nil {
		t.Fatal(err)
	}
	if got := w.advance(t, r.ID); got.Workflow != signing.WorkflowWaitingForApproval {
		t.Errorf("signed with a certificate that nobody approved: %s", got.Workflow)
	}
	if want := []string{"Submitted", "ApprovalRequested", "Approved", "ApprovalsFell"}; !slices.Equal(w.events(t, r.ID), want) {
		t.Errorf("audit entries %v, want %v", w.events(t, r.ID), want)
	}
}

// TestApproveSeen: an approver looked at the request before its certificate changed.
func TestApproveSeen(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := t.Context()
	r := w.submit(t, "release-signing")
	w.advance(t, r.ID)
	seen := func() string {
		v, err := w.Request(ctx, w.Approver, r.ID)
		if err != nil {
			t.Fatal(err)
		}
		return v.Binding
	}
	before := seen()
	if _, err := w.EditPolicy(ctx, w.Admin, "app", "release-signing", signing.PolicyEdit{CertificateSlug: ptr("test")}); err != nil {
		t.Fatal(err)
	}
	_, err := w.ApproveSeen(ctx, w.Approver, r.ID, "", before)
	wantKind(t, err, signing.KindConflict)
	if v, err := w.Request(ctx, w.Approver, r.ID); err != nil || len(v.Approvals) > 0 {
		t.Errorf("an approval of what was not seen is kept: %+v, %v", v.Approvals, err)
	}
	if got, err := w.ApproveSeen(ctx, w.Approver, r.ID, "", seen()); err != nil || got.Workflow != signing.WorkflowQueuedForProcessing {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestCancel(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := t.Context()
	r := w.submit(t, "release-signing")
	_, err := w.Cancel(ctx, w.Approver, r.ID, "")
	wantKind(t, err, signing.KindForbidden)
	_, err = w.Cancel(ctx, w.Stranger, r.ID, "")
	wantKind(t, err, signing.KindNotFound)
	if got, err := w.Cancel(ctx, w.CI, r.ID, "wrong build"); err != nil || got.Workflow != signing.WorkflowCanceled {
		t.Fatalf("%+v, %v", got, err)
	}
	if got := w.advance(t, r.ID); got.Workflow != signing.WorkflowCanceled {
		t.Errorf("a canceled request became %s", got.Workflow)
	}

	timed := w.submit(t, "release-signing", func(s *signing.Submission) { s.CancellationTimeout = time.Minute })
	w.advance(t, timed.ID)
	w.clock.advance(59 * time.Second)
	if err := w.Sweep(ctx); err != nil || w.status(t, timed.ID).Workflow != signing.WorkflowWaitingForApproval {
		t.Errorf("canceled too early: %s, %v", w.status(t, timed.ID).Workflow, err)
	}
	w.clock.advance(2 * time.Second)
	_, err = w.Approve(ctx, w.Approver, timed.ID, "")
	wantKind(t, err, signing.KindConflict)
	if err := w.Sweep(ctx); err != nil || w.status(t, timed.ID).Workflow != signing.WorkflowCanceled {
		t.Errorf("not canceled after its timeout: %s, %v", w.status(t, timed.ID).Workflow, err)
	}
	if got := w.events(t, timed.ID); got[len(got)-1] != "Canceled" {
		t.Errorf("audit entries %v", got)
	}
}

// TestNextDue: whoever sweeps learns of a cancellation timeout that passes before the next sweep.
func TestNextDue(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	nextDue := func() time.Time {
		t.Helper()
		at, err := w.NextDue(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return at
	}
	r := w.submit(t, "release-signing", func(s *signing.Submission) { s.CancellationTimeout = 12 * time.Second })
	w.advance(t, r.ID)
	if got := nextDue(); !got.IsZero() {
		t.Errorf("12 s before: %v", got)
	}
	w.clock.advance(8 * time.Second)
	if got := nextDue(); !got.Equal(*r.CancelAt) {
		t.Errorf("4 s before: %v, want %v", got, r.CancelAt)
	}
	w.clock.advance(4 * time.Second)
	if err := w.Sweep(t.Context()); err != nil || w.status(t, r.ID).Workflow != signing.WorkflowCanceled || !nextDue().IsZero() {
		t.Errorf("when it is due: %s, then %v, %v", w.status(t, r.ID).Workflow, nextDue(), err)
	}
}

// TestShortTimeout: a job cancels what times out before a sweep can learn of it.
func TestShortTimeout(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(c *signing.Config) { c.Clock = nil })
	r, err := w.submitLate(t, func(s *signing.Submission) {
		s.Upload, s.CancellationTimeout = &signing.Upload{FileName: "never.exe"}, time.Second
	})
	if err != nil {
		t.Fatal(err)
	}
	advanced := make(chan error, 10)
	q, err := store.NewQueue(w.db, func(ctx context.Context, job store.Job) error {
		err := w.Advance(ctx, job.Subject)
		advanced <- err
		return err
	}, store.QueueConfig{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- q.Run(ctx) }()
	if err := <-advanced; err != nil {
		t.Error(err)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if got := w.status(t, r.ID); got.Workflow != signing.WorkflowCanceled || got.FinalAt.Before(*r.CancelAt) {
		t.Errorf("%s at %v, due at %v", got.Workflow, got.FinalAt, r.CancelAt)
	}
}

func TestSubmissionErrors(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, c := range []struct {
		name   string
		actor  signing.Actor
		change func(*signing.Submission)
		kind   signing.Kind
		field  string
	}{
		{"no project", w.CI, func(s *signing.Submission) { s.ProjectSlug = "" }, signing.KindInvalid, "ProjectSlug"},
		{"unknown project", w.CI, func(s *signing.Submission) { s.ProjectSlug = "nope" }, signing.KindInvalid, "ProjectSlug"},
		{"unknown policy", w.CI, func(s *signing.Submission) { s.PolicySlug = "nope" }, signing.KindInvalid, "SigningPolicySlug"},
		{"unknown policy id", w.CI, func(s *signing.Submission) { s.Target = signing.Target{PolicyID: signing.NewID()} }, signing.KindInvalid, "SigningPolicyId"},
		{"id and slug", w.CI, func(s *signing.Submission) { s.PolicyID = signing.NewID() }, signing.KindInvalid, "SigningPolicyId"},
		{"unknown configuration", w.CI, func(s *signing.Submission) { s.ConfigurationSlug = "nope" }, signing.KindInvalid, "ArtifactConfigurationSlug"},
		{"long description", w.CI, func(s *signing.Submission) { s.Description = strings.Repeat("ä", 4001) }, signing.KindInvalid, "Description"},
		{"unknown parameter", w.CI, func(s *signing.Submission) { s.Parameters = map[string]string{"nope": "1"} }, signing.KindInvalid, "Parameters.nope"},
		{"parameter twice", w.CI, func(s *signing.Submission) { s.Parameters = map[string]string{"version": "1", "Version": "2"} }, signing.KindInvalid, "Parameters.version"},
		{"line feed in a branch", w.CI, func(s *signing.Submission) { s.Origin = &signing.Origin{BranchName: "main\n"} }, signing.KindInvalid, "Origin.RepositoryData.BranchName"},
		{"script as build", w.CI, func(s *signing.Submission) { s.Origin = &signing.Origin{BuildURL: "javascript:alert(1)"} }, signing.KindInvalid, "Origin.BuildData.Url"},
		{"negative timeout", w.CI, func(s *signing.Submission) { s.CancellationTimeout = -1 }, signing.KindInvalid, "CancellationTimeoutInSeconds"},
		{"no artifact", w.CI, func(s *signing.Submission) { s.Artifact = nil }, signing.KindInvalid, "Artifact"},
		{"not a submitter", w.Approver, func(*signing.Submission) {}, signing.KindForbidden, ""},
		{"administrator", w.Admin, func(*signing.Submission) {}, signing.KindForbidden, ""},
		{"other organization", w.Foreigner, func(*signing.Submission) {}, signing.KindInvalid, "ProjectSlug"},
		{"nobody", signing.Actor{}, func(s *signing.Submission) {}, signing.KindInvalid, "ProjectSlug"},
		{"no trusted build system", w.CI, func(s *signing.Submission) { s.PolicySlug = "verified" }, signing.KindForbidden, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			sub := signing.Submission{Target: signing.Target{ProjectSlug: "app", PolicySlug: "test-signing"}, Artifact: w.stage(t, w.CI)}
			c.change(&sub)
			_, _, err := w.Submit(t.Context(), c.actor, sub)
			wantKind(t, err, c.kind)
			var e *signing.Error
			if c.field != "" && (!errors.As(err, &e) || len(e.Fields[c.field]) == 0) {
				t.Errorf("error %v does not name the field %s", err, c.field)
			}
		})
	}
}

// TestParameters: what is declared gets the given value or its default; each mistake names its parameter.
func TestParameters(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	xml := strings.Replace(exeConfiguration, `<parameter name="version" default-value="1.0"/>`,
		`<parameter name="version" default-value="1.0"/><parameter name="build" required="true"/><parameter name="note"/>`, 1)
	if _, err := w.EditConfiguration(t.Context(), w.Admin, "app", "exe", signing.ConfigurationEdit{XML: &xml}); err != nil {
		t.Fatal(err)
	}
	r := w.submit(t, "test-signing", func(s *signing.Submission) { s.Parameters = map[string]string{"BUILD": "ä 7"} })
	if want := map[string]string{"version": "1.0", "build": "ä 7", "note": ""}; !maps.Equal(r.Parameters, want) {
		t.Errorf("parameters %v, want %v", r.Parameters, want)
	}
	for name, c := range map[string]struct {
		given map[string]string
		field string
	}{
		"missing":   {nil, "Parameters.build"},
		"empty":     {map[string]string{"build": ""}, "Parameters.build"},
		"line feed": {map[string]string{"build": "1\n2"}, "Parameters.build"},
		"unknown":   {map[string]string{"build": "1", "buidl": "2"}, "Parameters.buidl"},
		"ambiguous": {map[string]string{"build": "1", "Build": "2"}, "Parameters.build"},
		"name":      {map[string]string{"a b": "1"}, "Parameters"},
	} {
		_, _, err := w.Submit(t.Context(), w.CI, signing.Submission{Target: signing.Target{ProjectSlug: "app", PolicySlug: "test-signing"}, Parameters: c.given, Artifact: w.stage(t, w.CI)})
		wantField(t, name, err, c.field)
	}
}

func TestFailedArtifact(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	st, err := w.Stage(t.Context(), w.CI, `C:\build\read me.exe`, strings.NewReader("not a program"))
	if err != nil {
		t.Fatal(err)
	}
	for _, policy := range []string{"test-signing", "release-signing"} {
		r := w.submit(t, policy, func(s *signing.Submission) { s.Artifact = st })
		got := w.advance(t, r.ID)
		if got.Workflow != signing.WorkflowProcessingFailed || got.Failure == nil || got.Failure.Code != "Plan" || !strings.Contains(got.Failure.Message, "read me.exe") {
			t.Errorf("%s: %s, %+v", policy, got.Workflow, got.Failure)
		}
	}
	for _, tc := range []struct{ in, want string }{
		{"../../etc/passwd", "passwd"}, {"a\x00b\nc.exe", "abc.exe"}, {"", "artifact"}, {"..", "artifact"}, {"x/", "x"},
		{"evil\u202eexe.txt", "evilexe.txt"}, {strings.Repeat("ä", 200) + ".exe", strings.Repeat("ä", 125) + ".exe"},
	} {
		st, err := w.Stage(t.Context(), w.CI, tc.in, strings.NewReader("x"))
		if err != nil || st.Artifact().FileName != tc.want {
			t.Errorf("file name %q became %q, want %q (%v)", tc.in, st.Artifact().FileName, tc.want, err)
		}
	}
	_, err = w.Stage(t.Context(), w.CI, "x", strings.NewReader(""))
	wantKind(t, err, signing.KindInvalid)
}

func TestArtifactLimit(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(c *signing.Config) { c.Limits.ArtifactBytes = 10 })
	if _, err := w.Stage(t.Context(), w.CI, "x", strings.NewReader("0123456789")); err != nil {
		t.Error(err)
	}
	_, err := w.Stage(t.Context(), w.CI, "x", strings.NewReader("0123456789a"))
	wantKind(t, err, signing.KindTooLarge)
}

func TestOrigin(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	build := w.CI
	build.TrustedBuildSystemID = w.BuildSystem
	origin := signing.Origin{RepositoryURL: "git@github.com:Acme/app.git", SourceControlType: "git", BranchName: "release/2.0", CommitID: "0123abc"}
	for _, c := range []struct {
		name   string
		change func(*signing.Origin)
		failed string // name of the verification that fails
	}{
		{"good", func(*signing.Origin) {}, ""},
		{"main", func(o *signing.Origin) { o.BranchName = "main"; o.RepositoryURL = "https://github.com/acme/app/" }, ""},
		{"branch", func(o *signing.Origin) { o.BranchName = "feature/x" }, "Branch"},
		{"nested branch", func(o *signing.Origin) { o.BranchName = "release/2/evil" }, "Branch"},
		{"fork", func(o *signing.Origin) { o.RepositoryURL = "https://github.com/mallory/app" }, "Repository"},
		{"other host", func(o *signing.Origin) { o.RepositoryURL = "https://github.com.evil.example/acme/app" }, "Repository"},
		{"user info", func(o *signing.Origin) { o.RepositoryURL = "https://github.com@evil.example/acme/app" }, "Repository"},
		{"no commit", func(o *signing.Origin) { o.CommitID = "" }, "Commit"},
		{"nothing", func(o *signing.Origin) { *o = signing.Origin{} }, "Repository"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			o := origin
			c.change(&o)
			r := w.submitAs(t, build, "verified", func(s *signing.Submission) { s.Origin = &o })
			got := w.advance(t, r.ID)
			view, err := w.Request(t.Context(), w.CI, r.ID)
			if err != nil {
				t.Fatal(err)
			}
			failed := ""
			for _, v := range view.Verifications {
				if v.Result == signing.NotPassed {
					failed = v.Name
					if v.Remedy == "" || len(v.Inputs) == 0 {
						t.Errorf("verification %s does not say what was checked and what would make it pass: %+v", v.Name, v)
					}
					break
				}
			}
			if failed != c.failed {
				t.Errorf("verification %q failed, want %q", failed, c.failed)
			}
			if want := map[bool]signing.WorkflowStatus{true: signing.WorkflowCompleted, false: signing.WorkflowProcessingFailed}[c.failed == ""]; got.Workflow != want {
				t.Errorf("ended as %s (%+v), want %s", got.Workflow, got.Failure, want)
			}
		})
	}
	t.Run("plain token claims an origin", func(t *testing.T) {
		t.Parallel()
		r := w.submit(t, "test-signing", func(s *signing.Submission) { s.Origin = &origin })
		if r.Origin != nil {
			t.Errorf("an unverified origin was kept: %+v", r.Origin)
		}
		if got := w.advance(t, r.ID); got.Workflow != signing.WorkflowCompleted {
			t.Fatal(got.Workflow)
		}
		_, err := w.Resubmit(t.Context(), build, signing.Resubmission{OriginalID: r.ID, PolicySlug: "verified"})
		wantKind(t, err, signing.KindForbidden) // the resubmitter's build system does not vouch for the original's build
	})
	t.Run("resubmit keeps the verified origin", func(t *testing.T) {
		t.Parallel()
		r := w.submitAs(t, build, "test-signing", func(s *signing.Submission) { s.Origin = &origin })
		w.advance(t, r.ID)
		again, err := w.Resubmit(t.Context(), w.CI, signing.Resubmission{OriginalID: r.ID, PolicySlug: "verified"})
		if err != nil {
			t.Fatal(err)
		}
		if got := w.advance(t, again.ID); got.Workflow != signing.WorkflowCompleted || got.Origin == nil || got.Origin.CommitID != "0123abc" {
			t.Errorf("%s %+v %+v", got.Workflow, got.Failure, got.Origin)
		}
		other := origin
		other.BranchName = "feature/x"
		r = w.submitAs(t, build, "test-signing", func(s *signing.Submission) { s.Origin = &other })
		w.advance(t, r.ID)
		if again, err = w.Resubmit(t.Context(), w.CI, signing.Resubmission{OriginalID: r.ID, PolicySlug: "verified"}); err != nil {
			t.Fatal(err)
		}
		if got := w.advance(t, again.ID); got.Workflow != signing.WorkflowProcessingFailed || got.Failure.Code != "Policy" {
			t.Errorf("the new policy's branch rule did not hold: %s", got.Workflow)
		}
	})
}

func TestIdempotentSubmission(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	key := func(s *signing.Submission) { s.IdempotencyKey = "job-17" }
	first := w.submit(t, "test-signing", key)
	if again := w.submit(t, "test-signing", key); again.ID != first.ID {
		t.Errorf("the same submission made a second request")
	}
	if other := w.submit(t, "release-signing", key); other.ID == first.ID {
		t.Errorf("another policy's submission found this one")
	}
	build := w.CI
	build.TrustedBuildSystemID = w.BuildSystem
	vouched := w.submitAs(t, build, "test-signing", key, func(s *signing.Submission) { s.Origin = &signing.Origin{CommitID: "1"} })
	for name, other := range map[string]*signing.Request{
		"other artifact": w.submit(t, "test-signing", key, func(s *signing.Submission) {
			var err error
			if s.Artifact, err = w.Stage(t.Context(), w.CI, "app.exe", bytes.NewReader(append(bytes.Clone(examplePE), make([]byte, 8)...))); err != nil {
				t.Fatal(err)
			}
		}),
		"other parameters":      w.submit(t, "test-signing", key, func(s *signing.Submission) { s.Parameters = map[string]string{"version": "2"} }),
		"other key":             w.submit(t, "test-signing", func(s *signing.Submission) { s.IdempotencyKey = "job-18" }),
		"a build system's word": w.submitAs(t, build, "test-signing", key),
		"other origin":          w.submitAs(t, build, "test-signing", key, func(s *signing.Submission) { s.Origin = &signing.Origin{CommitID: "2"} }),
	} {
		if other.ID == first.ID || other.ID == vouched.ID {
			t.Errorf("%s: found an earlier request", name)
		}
	}
	if again := w.submitAs(t, build, "test-signing", key, func(s *signing.Submission) { s.Origin = &signing.Origin{CommitID: "1"} }); again.ID != vouched.ID {
		t.Error("the same origin made a second request")
	}
	if _, err := w.Cancel(t.Context(), w.CI, first.ID, ""); err != nil {
		t.Fatal(err)
	}
	if again := w.submit(t, "test-signing", key); again.ID == first.ID {
		t.Errorf("a canceled request was returned for a new attempt")
	}
}

// TestSameJob: a CI job that runs again finds its pending request, although it sends no idempotency key.
func TestSameJob(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	build := w.CI
	build.TrustedBuildSystemID = w.BuildSystem
	job := func(change func(*signing.Submission)) *signing.Request {
		return w.submitAs(t, build, "two-eyes", func(s *signing.Submission) {
			s.Origin = &signing.Origin{RepositoryURL: "https://github.com/acme/app", BranchName: "main", CommitID: "1", BuildURL: "https://ci.example/1"}
			change(s)
		})
	}
	first := job(func(*signing.Submission) {})
	if again := job(func(*signing.Submission) {}); again.ID != first.ID {
		t.Error("the same job made a second request")
	}
	for name, change := range map[string]func(*signing.Submission){
		"other build":      func(s *signing.Submission) { s.Origin.BuildURL = "https://ci.example/2" },
		"other commit":     func(s *signing.Submission) { s.Origin.CommitID = "2" },
		"other parameters": func(s *signing.Submission) { s.Parameters = map[string]string{"version": "2"} },
		"no build":         func(s *signing.Submission) { s.Origin.BuildURL = "" },
		"other policy":     func(s *signing.Submission) { s.PolicySlug = "test-signing" },
	} {
		if other := job(change); other.ID == first.ID {
			t.Errorf("%s: found the first request", name)
		}
	}
	done := job(func(s *signing.Submission) { s.PolicySlug = "test-signing" })
	if got := w.advance(t, done.ID); got.Workflow != signing.WorkflowCompleted {
		t.Fatal(got.Workflow)
	}
	if again := job(func(s *signing.Submission) { s.PolicySlug = "test-signing" }); again.ID == done.ID {
		t.Error("a completed request was returned for a job that runs again")
	}
}
