package signing_test

import (
	"archive/zip"
	"bytes"
	"strings"
	"sync"
	"testing"

	"github.com/countersign-dev/countersign/internal/signing"
	"github.com/countersign-dev/countersign/internal/store/pgtest"
)

// TestRestrictions: each rule that a certificate may want is wanted of every policy that uses it, whichever of the two changes.
func TestRestrictions(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := t.Context()
	approvers := &[]signing.Subject{user(w.Approver.UserID), user(w.Second.UserID)}
	for name, tt := range map[string]struct {
		wants signing.CertificateRestrictions
		has   signing.PolicyRules
		says  string
	}{
		"approvals":     {signing.CertificateRestrictions{MinimumApprovals: 2}, signing.PolicyRules{RequiredApprovals: 2}, "at least 2 approvals"},
		"submitter":     {signing.CertificateRestrictions{SubmitterMayNotApprove: true}, signing.PolicyRules{SubmitterMayNotApprove: true}, "submitter may not approve"},
		"build-systems": {signing.CertificateRestrictions{RequireTrustedBuildSystem: true}, signing.PolicyRules{RequireTrustedBuildSystem: true}, "only trusted build systems"},
		"origin":        {signing.CertificateRestrictions{VerifyOrigin: true}, signing.PolicyRules{VerifyOrigin: true}, "verified origin"},
		"strict":        {signing.CertificateRestrictions{StrictConfiguration: true}, signing.PolicyRules{StrictConfiguration: true}, "strict configuration"},
		"timestamp":     {signing.CertificateRestrictions{RequireTimestamp: true}, signing.PolicyRules{RequireTimestamp: true}, "require timestamp"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := w.CreateSelfSigned(ctx, w.Admin, signing.NewCertificate{Slug: name, Subject: "CN=x", KeyAlgorithm: "ECDSA-P256", Restrictions: tt.wants}); err != nil {
				t.Fatal(err)
			}
			weak := signing.PolicyRules{}
			create := func(rules signing.PolicyRules, certificate string) error {
				_, err := w.CreatePolicy(ctx, w.Admin, "app", signing.PolicyEdit{Slug: &name, Name: &name, CertificateSlug: &certificate, Rules: &rules, Approvers: approvers})
				return err
			}
			edit := func(e signing.PolicyEdit) error {
				_, err := w.EditPolicy(ctx, w.Admin, "app", name, e)
				return err
			}
			restrict := func(r signing.CertificateRestrictions) error {
				_, err := w.EditCertificate(ctx, w.Admin, name, signing.CertificateEdit{Restrictions: &r})
				return err
			}
			refused := func(what string, err error, field string) {
				t.Helper()
				wantField(t, what, err, field)
				if err != nil && !strings.Contains(err.Error(), tt.says) {
					t.Errorf("%s: %v does not say %q", what, err, tt.says)
				}
			}
			refused("a weak policy", create(weak, name), "CertificateSlug")
			if err := create(weak, "test"); err != nil {
				t.Fatal(err)
			}
			refused("a weak policy takes the certificate", edit(signing.PolicyEdit{CertificateSlug: &name}), "CertificateSlug")
			if err := edit(signing.PolicyEdit{CertificateSlug: &name, Rules: &tt.has}); err != nil {
				t.Fatalf("both at once: %v", err)
			}
			refused("the policy becomes weak", edit(signing.PolicyEdit{Rules: &weak}), "CertificateSlug")
			if err := restrict(signing.CertificateRestrictions{}); err != nil {
				t.Fatal(err)
			}
			if err := edit(signing.PolicyEdit{Rules: &weak}); err != nil {
				t.Fatal(err)
			}
			refused("the certificate is restricted again", restrict(tt.wants), "Restrictions")
			if err := edit(signing.PolicyEdit{Active: ptr(false)}); err != nil {
				t.Fatal(err)
			}
			if err := restrict(tt.wants); err != nil {
				t.Fatalf("beside a deactivated policy: %v", err)
			}
			refused("the weak policy is activated", edit(signing.PolicyEdit{Active: ptr(true)}), "CertificateSlug")
			if err := edit(signing.PolicyEdit{Active: ptr(true), Rules: &tt.has}); err != nil {
				t.Errorf("activated with the rule: %v", err)
			}
		})
	}
}

// TestRestrictionRaces restricts a certificate while policies become weak, where the database runs transactions one after
// another and where it runs them side by side.
func TestRestrictionRaces(t *testing.T) {
	t.Parallel()
	onBothDatabases(t, restrictionRaces)
}

func restrictionRaces(t *testing.T, w *world) {
	ctx := t.Context()
	strong, weak := signing.PolicyRules{StrictConfiguration: true}, signing.PolicyRules{}
	wants := signing.CertificateRestrictions{StrictConfiguration: true}
	if _, err := w.CreateSelfSigned(ctx, w.Admin, signing.NewCertificate{Slug: "raced", Subject: "CN=x", KeyAlgorithm: "ECDSA-P256"}); err != nil {
		t.Fatal(err)
	}
	w.newPolicy(t, "raced", "raced")
	restrict := func(r signing.CertificateRestrictions) error {
		_, err := w.EditCertificate(ctx, w.Admin, "raced", signing.CertificateEdit{Restrictions: &r})
		return err
	}
	edit := func(e signing.PolicyEdit) error {
		_, err := w.EditPolicy(ctx, w.Admin, "app", "raced", e)
		return err
	}
	for what, tt := range map[string]struct{ before, change signing.PolicyEdit }{
		"rules":       {signing.PolicyEdit{Rules: &strong, CertificateSlug: ptr("raced"), Active: ptr(true)}, signing.PolicyEdit{Rules: &weak}},
		"certificate": {signing.PolicyEdit{Rules: &weak, CertificateSlug: ptr("test"), Active: ptr(true)}, signing.PolicyEdit{CertificateSlug: ptr("raced")}},
		"activation":  {signing.PolicyEdit{Rules: &weak, CertificateSlug: ptr("raced"), Active: ptr(false)}, signing.PolicyEdit{Active: ptr(true)}},
	} {
		for range 8 {
			if err := restrict(signing.CertificateRestrictions{}); err != nil {
				t.Fatal(err)
			}
			if err := edit(tt.before); err != nil {
				t.Fatal(err)
			}
			var restricted, changed error
			var wg sync.WaitGroup
			wg.Go(func() { restricted = restrict(wants) })
			wg.Go(func() { changed = edit(tt.change) })
			wg.Wait()
			if (restricted == nil) == (changed == nil) || signing.KindOf(restricted) != 0 && signing.KindOf(restricted) != signing.KindInvalid ||
				signing.KindOf(changed) != 0 && signing.KindOf(changed) != signing.KindInvalid {
				t.Errorf("%s: restriction %v, policy %v; want exactly one refused", what, restricted, changed)
			}
		}
	}
}

// TestFirstConfigurations makes the first configurations of a project at the same time: one becomes the default, none is refused.
func TestFirstConfigurations(t *testing.T) {
	t.Parallel()
	db := pgtest.Open(t)
	w := newWorld(t, func(c *signing.Config) { c.Store = db })
	ctx := t.Context()
	if err := w.seed(ctx); err != nil {
		t.Fatal(err)
	}
	p, err := w.CreateProject(ctx, w.Admin, signing.ProjectEdit{Slug: ptr("fresh"), Name: ptr("Fresh")})
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for _, slug := range []string{"a", "b", "c", "d"} {
		wg.Go(func() {
			if _, err := w.CreateConfiguration(ctx, w.Admin, "fresh", signing.ConfigurationEdit{Slug: &slug, Name: &slug, XML: ptr(exeConfiguration)}); err != nil {
				t.Errorf("%s: %v", slug, err)
			}
		})
	}
	wg.Wait()
	v, err := w.Project(ctx, w.Admin, "fresh")
	if err != nil || len(v.Configurations) != 4 || v.DefaultConfigurationID == "" || v.Version != 2 {
		t.Errorf("%+v, %v", v, err)
	}
	if got := strings.Join(w.eventsUnchecked(t, p.ID), " "); got != "Project.Created Project.Edited" {
		t.Errorf("audit log %s", got)
	}
}

// TestRestrictionsAtSigning: the rules are compared once more when a request is signed, however policy and certificate came
// to differ.
func TestRestrictionsAtSigning(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := t.Context()
	r := w.submit(t, "test-signing")
	err := w.db.Tx(ctx, func(tx signing.Tx) error { // behind the service's back
		c, err := tx.CertificateBySlug(ctx, w.Admin.OrganizationID, "test")
		if err != nil {
			return err
		}
		c.Restrictions.VerifyOrigin = true
		return tx.UpdateCertificate(ctx, c)
	})
	if err != nil {
		t.Fatal(err)
	}
	got := w.advance(t, r.ID)
	if got.Workflow != signing.WorkflowProcessingFailed || got.Failure.Code != "Policy" || !strings.Contains(got.Failure.Message, "lacks rules that its certificate wants: verified origin") {
		t.Errorf("%s %+v", got.Workflow, got.Failure)
	}
	if events := w.events(t, r.ID); strings.Join(events, " ") != "Submitted Failed" {
		t.Errorf("audit log %v", events)
	}
	if r := w.submit(t, "test-signing"); r.Workflow != signing.WorkflowProcessingFailed {
		t.Errorf("submitted beside it: %s", r.Workflow)
	}
}

// TestConfigurationIsPinned edits the artifact configuration, makes another the default and deactivates it while a request waits.
func TestConfigurationIsPinned(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := t.Context()
	r := w.submit(t, "release-signing")
	w.advance(t, r.ID)
	none := strings.Replace(exeConfiguration, "<authenticode-sign/>", "", 1)
	if c, err := w.EditConfiguration(ctx, w.Admin, "app", "exe", signing.ConfigurationEdit{XML: &none}); err != nil || c.Latest != 2 {
		t.Fatalf("%+v, %v", c, err)
	}
	if _, err := w.CreateConfiguration(ctx, w.Admin, "app", signing.ConfigurationEdit{Slug: ptr("new"), Name: ptr("new"), XML: &none}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.EditProject(ctx, w.Admin, "app", signing.ProjectEdit{DefaultConfigurationSlug: ptr("new")}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.EditConfiguration(ctx, w.Admin, "app", "exe", signing.ConfigurationEdit{Active: ptr(false)}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Approve(ctx, w.Approver, r.ID, ""); err != nil {
		t.Fatal(err)
	}
	if got := w.advance(t, r.ID); got.Workflow != signing.WorkflowCompleted || got.ConfigurationVersion != 1 {
		t.Errorf("%s by version %d: %+v", got.Workflow, got.ConfigurationVersion, got.Failure)
	}
	if later := w.submit(t, "test-signing"); later.ConfigurationID == r.ConfigurationID {
		t.Error("a later request uses the deactivated configuration")
	}
}

// TestStrictConfiguration: a policy that wants it fails an artifact with a program that the configuration does not mention.
func TestStrictConfiguration(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := t.Context()
	xml := `<artifact-configuration xmlns="http://signpath.io/artifact-configuration/v1"><zip-file><pe-file path="app.exe"><authenticode-sign/></pe-file></zip-file></artifact-configuration>`
	if _, err := w.CreateConfiguration(ctx, w.Admin, "app", signing.ConfigurationEdit{Slug: ptr("zip"), Name: ptr("zip"), XML: &xml}); err != nil {
		t.Fatal(err)
	}
	var archive bytes.Buffer
	z := zip.NewWriter(&archive)
	for _, name := range []string{"app.exe", "lib/other.exe"} {
		f, err := z.Create(name)
		if err == nil {
			_, err = f.Write(examplePE)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	submit := func() *signing.Request {
		t.Helper()
		staged, err := w.Stage(ctx, w.CI, "app.zip", bytes.NewReader(archive.Bytes()))
		if err != nil {
			t.Fatal(err)
		}
		r, _, err := w.Submit(ctx, w.CI, signing.Submission{Target: signing.Target{ProjectSlug: "app", PolicySlug: "test-signing", ConfigurationSlug: "zip"}, Artifact: staged})
		if err != nil {
			t.Fatal(err)
		}
		return w.advance(t, r.ID)
	}
	if got := submit(); got.Workflow != signing.WorkflowCompleted {
		t.Errorf("%s %+v", got.Workflow, got.Failure)
	}
	if _, err := w.EditPolicy(ctx, w.Admin, "app", "test-signing", signing.PolicyEdit{Rules: &signing.PolicyRules{StrictConfiguration: true}}); err != nil {
		t.Fatal(err)
	}
	if got := submit(); got.Workflow != signing.WorkflowProcessingFailed || !strings.Contains(got.Failure.Message, "lib/other.exe: strict mode: no rule mentions this PE image; sign it") {
		t.Errorf("%s %+v", got.Workflow, got.Failure)
	}
}
