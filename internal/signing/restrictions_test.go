package signing_test

import (
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
	t.Run("SQLite", func(t *testing.T) {
		t.Parallel()
		restrictionRaces(t, newWorld(t))
	})
	t.Run("PostgreSQL", func(t *testing.T) {
		t.Parallel()
		db := pgtest.Open(t)
		w := newWorld(t, func(c *signing.Config) { c.Store = db })
		if err := w.seed(t.Context()); err != nil {
			t.Fatal(err)
		}
		restrictionRaces(t, w)
	})
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
		"rules":       {signing.PolicyEdit{Rules: &strong, CertificateSlug: ptr("raced")}, signing.PolicyEdit{Rules: &weak}},
		"certificate": {signing.PolicyEdit{Rules: &weak, CertificateSlug: ptr("test")}, signing.PolicyEdit{CertificateSlug: ptr("raced")}},
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
