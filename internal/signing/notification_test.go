package signing_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/countersign-dev/countersign/internal/keystore/software"
	"github.com/countersign-dev/countersign/internal/signing"
)

// outside is everybody who gets messages: mailboxes and webhook receivers.
type outside struct {
	mu    sync.Mutex
	mail  []signing.Mail
	calls []signing.WebhookCall
	// answer decides how a delivery ends; nil takes everything.
	answer func(id signing.ID) (signing.Receipt, error)
}

func (o *outside) take(id signing.ID, keep func()) (signing.Receipt, error) {
	o.mu.Lock()
	answer := o.answer
	keep()
	o.mu.Unlock()
	if answer != nil {
		return answer(id)
	}
	return signing.Receipt{Status: 200, Response: "thanks"}, nil
}

func (o *outside) SendMail(_ context.Context, m signing.Mail) (signing.Receipt, error) {
	return o.take(m.ID, func() { o.mail = append(o.mail, m) })
}

func (o *outside) Check(url string) error {
	if !strings.HasPrefix(url, "https://") {
		return errors.New("use https")
	}
	return nil
}

func (o *outside) Call(_ context.Context, c signing.WebhookCall) (signing.Receipt, error) {
	return o.take(c.ID, func() { o.calls = append(o.calls, c) })
}

// letters returns the mails since the last call, as "receiver: event (why)", sorted.
func (o *outside) letters() []string {
	o.mu.Lock()
	defer o.mu.Unlock()
	var list []string
	for _, m := range o.mail {
		name, _, _ := strings.Cut(m.To, "@")
		list = append(list, fmt.Sprintf("%s: %s (%s)", name, m.Notice.Event, m.Notice.Why))
	}
	o.mail = nil
	slices.Sort(list)
	return list
}

func withMessages(o *outside) option {
	return func(c *signing.Config) {
		keeper, err := software.OpenKeeper(context.Background(), "base64key://MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=", nil)
		if err != nil {
			panic(err)
		}
		c.Mail, c.Webhooks, c.Secrets = o, o, keeper
	}
}

// deliveries returns the organization's messages, oldest first.
func (w *world) deliveries(t *testing.T, q signing.DeliveryQuery) []*signing.Delivery {
	t.Helper()
	q.Limit = 200
	page, err := w.Deliveries(t.Context(), w.Admin, q)
	if err != nil {
		t.Fatal(err)
	}
	slices.Reverse(page.Items)
	return page.Items
}

// deliverAll lets workers make every delivery that is due.
func (w *world) deliverAll(t *testing.T) {
	t.Helper()
	for _, d := range w.deliveries(t, signing.DeliveryQuery{State: signing.DeliveryPending}) {
		if err := w.Deliver(t.Context(), d.ID); err != nil {
			t.Error(err)
		}
	}
}

// people makes a signing policy "mails" whose submitter is the stranger, and whose approvers are the approver and, through
// two groups that contain each other, the second, the stranger and a deactivated user.
func (w *world) people(t *testing.T, rules signing.PolicyRules) {
	t.Helper()
	ctx := t.Context()
	gone, err := w.CreateUser(ctx, w.Admin, signing.NewUser{Kind: signing.Interactive, Name: "gone", Email: "gone@acme.example"})
	if err == nil {
		_, err = w.EditUser(ctx, w.Admin, gone.ID, signing.UserEdit{Active: ptr(false)})
	}
	if err != nil {
		t.Fatal(err)
	}
	user := func(id signing.ID) signing.Subject { return signing.Subject{Kind: signing.SubjectUser, ID: id} }
	inner, err := w.CreateGroup(ctx, w.Admin, signing.GroupEdit{Name: ptr("inner"), Members: ptr([]signing.Subject{user(w.Second.UserID), user(gone.ID), user(w.CI.UserID)})})
	if err != nil {
		t.Fatal(err)
	}
	outer, err := w.CreateGroup(ctx, w.Admin, signing.GroupEdit{Name: ptr("outer"), Members: ptr([]signing.Subject{{Kind: signing.SubjectGroup, ID: inner.ID}, user(w.Stranger.UserID), user(w.Approver.UserID)})})
	if err != nil {
		t.Fatal(err)
	}
	members := append(slices.Clone(inner.Members), signing.Subject{Kind: signing.SubjectGroup, ID: outer.ID})
	err = w.db.Tx(ctx, func(tx signing.Tx) error { // edits refuse it; whatever is stored must do no harm
		inner.Members = members
		return tx.UpdateGroup(ctx, inner)
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.CreatePolicy(ctx, w.Admin, "app", signing.PolicyEdit{
		Slug: ptr("mails"), Name: ptr("Mails"), CertificateSlug: ptr("release"), Rules: &rules,
		Submitters: ptr([]signing.Subject{user(w.Stranger.UserID), user(w.CI.UserID)}),
		Approvers:  ptr([]signing.Subject{user(w.Approver.UserID), {Kind: signing.SubjectGroup, ID: outer.ID}}),
	}); err != nil {
		t.Fatal(err)
	}
	w.Second.Groups, w.Stranger.Groups = []signing.ID{inner.ID, outer.ID}, []signing.ID{outer.ID, inner.ID}
}

// TestWhoGetsMail walks through the life of requests.
func TestWhoGetsMail(t *testing.T) {
	t.Parallel()
	o := &outside{}
	w := newWorld(t, withMessages(o))
	ctx := t.Context()
	w.people(t, signing.PolicyRules{RequiredApprovals: 2, SubmitterMayNotApprove: true})
	told := func(what string, want ...string) {
		t.Helper()
		w.deliverAll(t)
		if d := cmp.Diff(want, o.letters()); d != "" {
			t.Errorf("%s (-want +got):\n%s", what, d)
		}
	}
	r := w.submitAs(t, w.Stranger, "mails", func(s *signing.Submission) { s.Description = "please" })
	told("submitted")
	w.advance(t, r.ID)
	told("waits", "approver: ApprovalRequested (Approver)", "second: ApprovalRequested (Approver)") // not the submitter, nor the deactivated, nor CI
	approve := func(actors ...signing.Actor) {
		t.Helper()
		for _, a := range actors {
			if _, err := w.Approve(ctx, a, r.ID, "fine"); err != nil {
				t.Fatal(err)
			}
		}
	}
	approve(w.Approver)
	told("one approval")
	for _, strict := range []bool{true, false} { // the second time, no approval is left to fall
		rules := signing.PolicyRules{RequiredApprovals: 2, SubmitterMayNotApprove: true, StrictConfiguration: strict}
		if _, err := w.EditPolicy(ctx, w.Admin, "app", "mails", signing.PolicyEdit{Rules: &rules}); err != nil {
			t.Fatal(err)
		}
	}
	told("approval fell while waiting", "approver: ApprovalsFell (Approver)", "second: ApprovalsFell (Approver)")
	approve(w.Approver, w.Second)
	told("approved")
	if _, err := w.EditPolicy(ctx, w.Admin, "app", "mails", signing.PolicyEdit{Rules: &signing.PolicyRules{RequiredApprovals: 2, SubmitterMayNotApprove: true, StrictConfiguration: true}}); err != nil {
		t.Fatal(err)
	}
	if got := w.advance(t, r.ID); got.Workflow != signing.WorkflowWaitingForApproval {
		t.Fatalf("%s", got.Workflow)
	}
	told("approvals fell", "approver: ApprovalsFell (Approver)", "second: ApprovalsFell (Approver)")
	if events := w.events(t, r.ID); count(events, "ApprovalsFell") != 2 {
		t.Errorf("audit entries %v", events)
	}
	approve(w.Second, w.Approver)
	w.advance(t, r.ID)
	told("completed", "stranger: Completed (Submitter)")

	// CI resubmits the person's request: both submitters are told, as far as they have an address.
	again, err := w.Resubmit(ctx, w.CI, signing.Resubmission{OriginalID: r.ID, PolicySlug: "mails"})
	if err != nil {
		t.Fatal(err)
	}
	w.advance(t, again.ID)
	told("resubmit waits", "approver: ApprovalRequested (Approver)", "second: ApprovalRequested (Approver)", "stranger: ApprovalRequested (Approver)")
	if _, err := w.Deny(ctx, w.Approver, again.ID, "not tested"); err != nil {
		t.Fatal(err)
	}
	w.deliverAll(t)
	if n := o.mail[0].Notice; n.By != "approver" || n.Reason != "not tested" || n.Description != "please" || n.OriginalID != r.ID || n.FileName != "app.exe" ||
		n.Project != "app" || n.Policy != "Mails" || n.Organization != "Acme" || n.Submitter != "ci" || n.SHA256 != r.Unsigned.SHA256 {
		t.Errorf("notice %+v", n)
	}
	told("denied", "stranger: Denied (OriginalSubmitter)")

	// Under a policy that the original's submitter has nothing to do with, she is told nothing.
	if _, err := w.EditPolicy(ctx, w.Admin, "app", "mails", signing.PolicyEdit{Submitters: ptr([]signing.Subject{{Kind: signing.SubjectUser, ID: w.CI.UserID}}), Approvers: ptr([]signing.Subject{}), Rules: &signing.PolicyRules{}}); err != nil {
		t.Fatal(err)
	}
	foreign, err := w.Resubmit(ctx, w.CI, signing.Resubmission{OriginalID: r.ID, PolicySlug: "test-signing"})
	if err != nil {
		t.Fatal(err)
	}
	w.advance(t, foreign.ID)
	told("resubmit out of sight")
}

// TestApprovalsFallWithTheCertificate renews a certificate while a request waits with one of two approvals.
func TestApprovalsFallWithTheCertificate(t *testing.T) {
	t.Parallel()
	o := &outside{}
	w := newWorld(t, withMessages(o))
	ctx := t.Context()
	c, err := w.CreateRequest(ctx, w.Admin, signing.NewCertificate{Slug: "issued", Subject: "CN=Acme", KeyAlgorithm: "ECDSA-P256"})
	if err != nil {
		t.Fatal(err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	issue := func(serial int64) []byte {
		t.Helper()
		csr, err := x509.ParseCertificateRequest(c.CSR)
		if err != nil {
			t.Fatal(err)
		}
		ca := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "CA"}, IsCA: true, BasicConstraintsValid: true, NotBefore: w.clock.Now().Add(-time.Hour), NotAfter: w.clock.Now().Add(48 * time.Hour)}
		leaf := &x509.Certificate{SerialNumber: big.NewInt(serial), Subject: csr.Subject, NotBefore: w.clock.Now().Add(-time.Hour), NotAfter: w.clock.Now().Add(24 * time.Hour),
			KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning}}
		root, err := x509.CreateCertificate(rand.Reader, ca, ca, key.Public(), key)
		if err != nil {
			t.Fatal(err)
		}
		der, err := x509.CreateCertificate(rand.Reader, leaf, ca, csr.PublicKey, key)
		if err != nil {
			t.Fatal(err)
		}
		return append(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: root})...)
	}
	upload := func(file []byte) {
		t.Helper()
		if _, err := w.UploadCertificate(ctx, w.Admin, "issued", file); err != nil {
			t.Fatal(err)
		}
	}
	first := issue(2)
	upload(first)
	w.people(t, signing.PolicyRules{RequiredApprovals: 2})
	if _, err := w.EditPolicy(ctx, w.Admin, "app", "mails", signing.PolicyEdit{CertificateSlug: ptr("issued")}); err != nil {
		t.Fatal(err)
	}
	r := w.submitAs(t, w.CI, "mails")
	w.advance(t, r.ID)
	if _, err := w.Approve(ctx, w.Approver, r.ID, ""); err != nil {
		t.Fatal(err)
	}
	w.deliverAll(t)
	o.letters()
	upload(first) // the same again changes nothing
	w.deliverAll(t)
	if got := o.letters(); len(got) != 0 {
		t.Errorf("mails %q", got)
	}
	upload(issue(3))
	w.deliverAll(t)
	if d := cmp.Diff([]string{"approver: ApprovalsFell (Approver)", "second: ApprovalsFell (Approver)", "stranger: ApprovalsFell (Approver)"}, o.letters()); d != "" {
		t.Error(d)
	}
	if v, err := w.Request(ctx, w.Admin, r.ID); err != nil || v.GivenApprovals != 0 || v.Workflow != signing.WorkflowWaitingForApproval {
		t.Errorf("%+v, %v", v, err)
	}
}

// TestFinalMails covers the other ends of a request.
func TestFinalMails(t *testing.T) {
	t.Parallel()
	o := &outside{}
	w := newWorld(t, withMessages(o))
	ctx := t.Context()
	w.people(t, signing.PolicyRules{RequiredApprovals: 1})
	r := w.submitAs(t, w.Stranger, "mails")
	if _, err := w.Cancel(ctx, w.Stranger, r.ID, "my mistake"); err != nil {
		t.Fatal(err)
	}
	st, err := w.Stage(ctx, w.Stranger, "bad.exe", strings.NewReader("not a program"))
	if err != nil {
		t.Fatal(err)
	}
	r = w.submitAs(t, w.Stranger, "mails", func(s *signing.Submission) { s.Artifact = st })
	w.advance(t, r.ID)
	// Refused on arrival.
	if _, err := w.EditPolicy(ctx, w.Admin, "app", "mails", signing.PolicyEdit{Rules: &signing.PolicyRules{VerifyOrigin: true}}); err != nil {
		t.Fatal(err)
	}
	vouched := w.Stranger
	vouched.TrustedBuildSystemID = w.BuildSystem
	w.submitAs(t, vouched, "mails") // with no origin
	w.deliverAll(t)
	reasons := []string{o.mail[0].Notice.Reason, o.mail[1].Notice.Reason, o.mail[2].Notice.Reason}
	if reasons[0] != "my mistake" || !strings.Contains(reasons[1], "bad.exe") || !strings.Contains(reasons[2], "The signing policy refuses") {
		t.Errorf("reasons %q", reasons)
	}
	if d := cmp.Diff([]string{"stranger: Canceled (Submitter)", "stranger: Failed (Submitter)", "stranger: Failed (Submitter)"}, o.letters()); d != "" {
		t.Error(d)
	}
}

// TestNotificationLevels is the table of levels: what a user chose, what the policy says, and what an approver and a
// submitter then get of the two kinds of event.
func TestNotificationLevels(t *testing.T) {
	t.Parallel()
	const (
		asked    = "ApprovalRequested"
		finished = "Completed"
	)
	all, none := asked+" "+finished, ""
	for _, c := range []struct {
		user, policy        signing.NotificationLevel
		approver, submitter string
	}{
		{"", "", asked, finished},
		{signing.NotifyDefault, signing.NotifyDefault, asked, finished},
		{signing.NotifyDefault, signing.NotifyAll, all, all},
		{signing.NotifyDefault, signing.NotifyNone, none, none},
		{signing.NotifyAll, "", all, all},
		{signing.NotifyAll, signing.NotifyAll, all, all},
		{signing.NotifyAll, signing.NotifyNone, all, all},
		{signing.NotifyNone, "", none, none},
		{signing.NotifyNone, signing.NotifyAll, none, none},
		{signing.NotifyNone, signing.NotifyNone, none, none},
	} {
		t.Run(fmt.Sprintf("user %q, policy %q", c.user, c.policy), func(t *testing.T) {
			t.Parallel()
			o := &outside{}
			w := newWorld(t, withMessages(o))
			w.people(t, signing.PolicyRules{RequiredApprovals: 1, SubmitterMayNotApprove: true, Notifications: c.policy})
			for _, a := range []signing.Actor{w.Approver, w.Stranger} {
				if _, err := w.SetNotificationLevel(t.Context(), a, c.user); err != nil {
					t.Fatal(err)
				}
			}
			if _, err := w.EditUser(t.Context(), w.Admin, w.Second.UserID, signing.UserEdit{NotificationLevel: ptr(signing.NotifyNone)}); err != nil {
				t.Fatal(err)
			}
			r := w.submitAs(t, w.Stranger, "mails")
			w.advance(t, r.ID)
			if _, err := w.Approve(t.Context(), w.Approver, r.ID, ""); err != nil {
				t.Fatal(err)
			}
			w.advance(t, r.ID)
			w.deliverAll(t)
			got := map[string][]string{}
			for _, m := range o.mail {
				got[m.To] = append(got[m.To], string(m.Notice.Event))
			}
			want := map[string][]string{}
			for to, events := range map[string]string{"approver@acme.example": c.approver, "stranger@acme.example": c.submitter} {
				if events != "" {
					want[to] = strings.Fields(events)
				}
			}
			if d := cmp.Diff(want, got); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
		})
	}
}

func TestNotificationLevelIsChecked(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	_, err := w.SetNotificationLevel(t.Context(), w.Approver, "Loud")
	wantKind(t, err, signing.KindInvalid)
	_, err = w.EditPolicy(t.Context(), w.Admin, "app", "test-signing", signing.PolicyEdit{Rules: &signing.PolicyRules{Notifications: "Loud"}})
	wantKind(t, err, signing.KindInvalid)
	_, err = w.EditUser(t.Context(), w.Admin, w.Second.UserID, signing.UserEdit{NotificationLevel: ptr(signing.NotificationLevel("all"))})
	wantKind(t, err, signing.KindInvalid)
	_, err = w.SetNotificationLevel(t.Context(), signing.Actor{}, signing.NotifyAll)
	if err == nil {
		t.Error("nobody chose a level")
	}
	u, err := w.SetNotificationLevel(t.Context(), w.Approver, signing.NotifyNone)
	if err != nil || u.NotificationLevel != signing.NotifyNone || u.ID != w.Approver.UserID {
		t.Errorf("%+v, %v", u, err)
	}
}

// TestNoMailServer: without one, nothing is stored for anybody.
func TestNoMailServer(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	r := w.submit(t, "release-signing")
	w.advance(t, r.ID)
	if list := w.deliveries(t, signing.DeliveryQuery{}); len(list) != 0 {
		t.Errorf("deliveries %+v", list)
	}
}

// TestNoticesSayWhatIsDecidedOn: an approver decides by her mail.
func TestNoticesSayWhatIsDecidedOn(t *testing.T) {
	t.Parallel()
	o := &outside{}
	w := newWorld(t, withMessages(o))
	ctx := t.Context()
	w.people(t, signing.PolicyRules{RequiredApprovals: 2, VerifyOrigin: true, RequireTrustedBuildSystem: true, AllowedBranches: []string{"main"}})
	if _, err := w.CreatePolicy(ctx, w.Admin, "app", signing.PolicyEdit{
		Slug: ptr("lenient"), Name: ptr("Lenient"), CertificateSlug: ptr("release"), Rules: &signing.PolicyRules{RequiredApprovals: 2},
		Submitters: ptr([]signing.Subject{user(w.CI.UserID)}), Approvers: ptr([]signing.Subject{user(w.Approver.UserID), user(w.Second.UserID)}),
	}); err != nil {
		t.Fatal(err)
	}
	notice := func() signing.Notice {
		t.Helper()
		w.deliverAll(t)
		o.mu.Lock()
		defer o.mu.Unlock()
		i := slices.IndexFunc(o.mail, func(m signing.Mail) bool { return m.To == "second@acme.example" })
		if i < 0 {
			t.Fatal("no mail for the second approver")
		}
		n := o.mail[i].Notice
		o.mail = nil
		return n
	}
	checks := func(n signing.Notice) (list []string) {
		for _, v := range n.OriginChecks {
			list = append(list, v.Name+" "+string(v.Result))
			if v.Explanation == "" || len(v.Inputs) != 0 {
				t.Errorf("check %+v", v)
			}
		}
		return list
	}
	build := w.CI
	build.TrustedBuildSystemID = w.BuildSystem
	origin := signing.Origin{RepositoryURL: "https://github.com/acme/app", SourceControlType: "git", BranchName: "main", CommitID: "0123abc", BuildURL: "https://ci.example/1"}
	original := w.submitAs(t, build, "test-signing", func(s *signing.Submission) { s.Origin = &origin })
	w.advance(t, original.ID)
	again, err := w.Resubmit(ctx, w.CI, signing.Resubmission{OriginalID: original.ID, PolicySlug: "mails"})
	if err != nil {
		t.Fatal(err)
	}
	w.advance(t, again.ID)
	n := notice()
	if !n.OriginVerified || n.Origin == nil || n.Origin.CommitID != "0123abc" || n.OriginalID != original.ID || n.OriginalPolicy != "test-signing" ||
		n.Certificate != "release" || n.CertificateSubject != "CN=release" || n.CertificateUntil.IsZero() || n.Configuration != "exe" || n.ConfigurationVersion != 1 ||
		n.SubmitterKind != signing.CI || !n.SubmittedAt.Equal(again.CreatedAt) || n.GivenApprovals != 0 || n.RequiredApprovals != 2 {
		t.Errorf("notice %+v", n)
	}
	for _, want := range []string{"TrustedBuildSystem Passed", "Repository Passed", "Branch Passed", "Commit Passed"} {
		if !slices.Contains(checks(n), want) {
			t.Errorf("%s is missing in %v", want, checks(n))
		}
	}
	unproven := w.submitAs(t, build, "lenient", func(s *signing.Submission) { s.Origin = &origin })
	w.advance(t, unproven.ID)
	if n := notice(); n.OriginVerified || n.Origin == nil || len(n.OriginChecks) == 0 {
		t.Errorf("an origin that nothing asks for: %+v", n)
	}
	if _, err := w.Approve(ctx, w.Approver, unproven.ID, ""); err != nil {
		t.Fatal(err)
	}
	// The policy now asks for what was not checked.
	if _, err := w.EditPolicy(ctx, w.Admin, "app", "lenient", signing.PolicyEdit{Rules: &signing.PolicyRules{RequiredApprovals: 2, VerifyOrigin: true, RequireTrustedBuildSystem: true}}); err != nil {
		t.Fatal(err)
	}
	if n := notice(); n.Event != signing.EventApprovalsFell || n.OriginVerified || n.By != "Ada" || n.Reason == "" {
		t.Errorf("an origin that was not checked: %+v", n)
	}
	if _, err := w.Approve(ctx, w.Approver, unproven.ID, ""); err != nil {
		t.Fatal(err)
	}
	if _, err := w.SetNotificationLevel(ctx, w.Second, signing.NotifyAll); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Approve(ctx, w.Second, unproven.ID, ""); err != nil {
		t.Fatal(err)
	}
	w.advance(t, unproven.ID)
	if n := notice(); n.Event != signing.EventCompleted || n.SignedSHA256 == "" || n.GivenApprovals != 2 || !n.OriginVerified {
		t.Errorf("completed: %+v", n)
	}
}
