package signing_test

import (
	"testing"

	"github.com/countersign-dev/countersign/internal/signing"
)

// TestWhatApprovalsAreBoundTo edits a policy while a request waits with one of two approvals.
func TestWhatApprovalsAreBoundTo(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := t.Context()
	rules := func(change func(*signing.PolicyRules)) *signing.PolicyRules {
		r := signing.PolicyRules{RequiredApprovals: 2}
		change(&r)
		return &r
	}
	approvers := []signing.Subject{user(w.Approver.UserID), user(w.Second.UserID), user(w.CI.UserID)}
	before := signing.PolicyEdit{Name: ptr("two-eyes"), Description: ptr(""), CertificateSlug: ptr("release"), Active: ptr(true),
		Submitters: &[]signing.Subject{user(w.CI.UserID)}, Approvers: &approvers, Rules: rules(func(*signing.PolicyRules) {})}
	for what, tt := range map[string]struct {
		edit  signing.PolicyEdit
		stand bool
	}{
		"name":             {signing.PolicyEdit{Name: ptr("Two pairs of eyes")}, true},
		"description":      {signing.PolicyEdit{Description: ptr("x")}, true},
		"submitters":       {signing.PolicyEdit{Submitters: &[]signing.Subject{user(w.CI.UserID), user(w.Stranger.UserID)}}, true},
		"an approver more": {signing.PolicyEdit{Approvers: ptr(append(approvers[:3:3], user(w.Stranger.UserID)))}, true},
		"retention":        {signing.PolicyEdit{Rules: rules(func(r *signing.PolicyRules) { r.RetentionDays = 7 })}, true},
		"mail":             {signing.PolicyEdit{Rules: rules(func(r *signing.PolicyRules) { r.Notifications = signing.NotifyAll })}, true},

		"certificate":   {signing.PolicyEdit{CertificateSlug: ptr("test")}, false},
		"deactivation":  {signing.PolicyEdit{Active: ptr(false), EvenIfInUse: true}, false},
		"approvals":     {signing.PolicyEdit{Rules: rules(func(r *signing.PolicyRules) { r.RequiredApprovals = 3 })}, false},
		"submitter":     {signing.PolicyEdit{Rules: rules(func(r *signing.PolicyRules) { r.SubmitterMayNotApprove = true })}, false},
		"build systems": {signing.PolicyEdit{Rules: rules(func(r *signing.PolicyRules) { r.RequireTrustedBuildSystem = true })}, false},
		"origin":        {signing.PolicyEdit{Rules: rules(func(r *signing.PolicyRules) { r.VerifyOrigin = true })}, false},
		"branches":      {signing.PolicyEdit{Rules: rules(func(r *signing.PolicyRules) { r.VerifyOrigin, r.AllowedBranches = true, []string{"main"} })}, false},
		"strict":        {signing.PolicyEdit{Rules: rules(func(r *signing.PolicyRules) { r.StrictConfiguration = true })}, false},
		"timestamp":     {signing.PolicyEdit{Rules: rules(func(r *signing.PolicyRules) { r.RequireTimestamp = true })}, false},
	} {
		r := w.submit(t, "two-eyes")
		w.advance(t, r.ID)
		if _, err := w.Approve(ctx, w.Approver, r.ID, ""); err != nil {
			t.Fatal(err)
		}
		given := func(when string, want int) {
			t.Helper()
			v, err := w.Request(ctx, w.Admin, r.ID)
			if err != nil || v.GivenApprovals != want || v.Workflow != signing.WorkflowWaitingForApproval {
				t.Errorf("%s, %s: %d approvals count, want %d; %s, %v", what, when, v.GivenApprovals, want, v.Workflow, err)
			}
		}
		for _, e := range []struct {
			when string
			edit signing.PolicyEdit
		}{{"edited", tt.edit}, {"set back", before}} {
			if _, err := w.EditPolicy(ctx, w.Admin, "app", "two-eyes", e.edit); err != nil {
				t.Fatalf("%s: %v", what, err)
			}
			given(e.when, map[bool]int{true: 1, false: 0}[tt.stand])
		}
		if _, err := w.Cancel(ctx, w.CI, r.ID, ""); err != nil {
			t.Fatal(err)
		}
	}
}
