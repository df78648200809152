package signing_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/countersign-dev/countersign/internal/signing"
)

func TestPredefinedBuildSystems(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	seen := map[string]bool{}
	for _, p := range signing.PredefinedBuildSystems {
		n := signing.NewPredefinedBuildSystem{Type: strings.ToUpper(p.Type)}
		if p.OwnServer {
			n.Slug, n.Name, n.BuildHost = "our-"+p.Slug, "Ours", "CI.acme.example:8443"
		}
		system, err := w.AddPredefinedBuildSystem(t.Context(), w.Admin, n)
		if err != nil {
			t.Fatalf("%s: %v", p.Type, err)
		}
		if system.Type != p.Type || seen[system.Slug] || len(system.BuildHosts()) == 0 {
			t.Errorf("%s: %+v, builds on %v", p.Type, system, system.BuildHosts())
		}
		seen[system.Slug] = true
		if got := w.events(t, system.ID); !slices.Equal(got, []string{"TrustedBuildSystem.PredefinedAdded"}) {
			t.Errorf("%s: audit log %v", p.Type, got)
		}
	}
	if _, err := w.AddPredefinedBuildSystem(t.Context(), w.Admin, signing.NewPredefinedBuildSystem{Type: "TeamCity", BuildHost: "tc.acme.example"}); err != nil {
		t.Errorf("a second server of one product: %v", err)
	}
	for _, c := range []struct {
		name  string
		n     signing.NewPredefinedBuildSystem
		field string
	}{
		{"unknown type", signing.NewPredefinedBuildSystem{Type: "Bamboo"}, "Type"},
		{"a service twice", signing.NewPredefinedBuildSystem{Type: "GitHub.com"}, "Slug"},
		{"a service's slug", signing.NewPredefinedBuildSystem{Type: "GitHub.com", Slug: "x"}, "Slug"},
		{"a service's name", signing.NewPredefinedBuildSystem{Type: "GitHub.com", Name: "x"}, "Name"},
		{"a service's host", signing.NewPredefinedBuildSystem{Type: "GitHub.com", BuildHost: "github.com"}, "BuildHost"},
		{"no host", signing.NewPredefinedBuildSystem{Type: "Jenkins"}, "BuildHost"},
		{"an address", signing.NewPredefinedBuildSystem{Type: "Jenkins", BuildHost: "https://ci.example"}, "BuildHost"},
		{"a path", signing.NewPredefinedBuildSystem{Type: "Jenkins", BuildHost: "ci.example/jenkins"}, "BuildHost"},
		{"a user", signing.NewPredefinedBuildSystem{Type: "Jenkins", BuildHost: "me@ci.example"}, "BuildHost"},
		{"the scheme's port", signing.NewPredefinedBuildSystem{Type: "Jenkins", BuildHost: "ci.example:443"}, "BuildHost"},
	} {
		_, err := w.AddPredefinedBuildSystem(t.Context(), w.Admin, c.n)
		wantField(t, c.name, err, c.field)
	}
	_, err := w.EditTrustedBuildSystem(t.Context(), w.Admin, "github.com", signing.TrustedBuildSystemEdit{Slug: ptr("gh"), Name: ptr("Hub")})
	wantField(t, "edit", err, "Slug")
	wantField(t, "edit", err, "Name")
	if _, err := w.EditTrustedBuildSystem(t.Context(), w.Admin, "GITHUB.com", signing.TrustedBuildSystemEdit{Description: ptr("cloud")}); err != nil {
		t.Error(err)
	}
	if _, err := w.EditTrustedBuildSystem(t.Context(), w.Admin, "our-jenkins", signing.TrustedBuildSystemEdit{Name: ptr("Farm")}); err != nil {
		t.Error(err)
	}
	_, err = w.AddPredefinedBuildSystem(t.Context(), w.CI, signing.NewPredefinedBuildSystem{Type: "GitLab.com"})
	wantKind(t, err, signing.KindForbidden)
}

// TestWithIsPartOfIt: what fails with a new object leaves no object.
func TestWithIsPartOfIt(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	broken := errors.New("broken")
	if _, err := w.CreateUser(t.Context(), w.Admin, signing.NewUser{Kind: signing.CI, Name: "halfway"}, func(signing.Tx, *signing.User) error { return broken }); !errors.Is(err, broken) {
		t.Error(err)
	}
	if _, err := w.AddTrustedBuildSystem(t.Context(), w.Admin, signing.TrustedBuildSystemEdit{Slug: ptr("halfway"), Name: ptr("halfway")}, func(signing.Tx, *signing.TrustedBuildSystem) error { return broken }); !errors.Is(err, broken) {
		t.Error(err)
	}
	users, err := w.Users(t.Context(), w.Admin, signing.CI)
	if err != nil || len(users) != 1 {
		t.Errorf("%d CI users, want the one of before: %v", len(users), err)
	}
	systems, err := w.TrustedBuildSystems(t.Context(), w.Admin)
	if err != nil || len(systems) != 1 {
		t.Errorf("%d trusted build systems, want the one of before: %v", len(systems), err)
	}
}

// TestBuildSystemHosts: a system that belongs to certain hosts vouches for nothing elsewhere, under whatever policy.
func TestBuildSystemHosts(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	add := func(n signing.NewPredefinedBuildSystem) signing.ID {
		system, err := w.AddPredefinedBuildSystem(t.Context(), w.Admin, n)
		if err != nil {
			t.Fatal(err)
		}
		return system.ID
	}
	github := add(signing.NewPredefinedBuildSystem{Type: "GitHub.com"})
	azure := add(signing.NewPredefinedBuildSystem{Type: "AzureDevOps.com"})
	ours := add(signing.NewPredefinedBuildSystem{Type: "Jenkins", Slug: "ours", Name: "Ours", BuildHost: "ci.acme.example:8443"})
	unlinked := add(signing.NewPredefinedBuildSystem{Type: "TeamCity", BuildHost: "tc.acme.example"})
	if _, err := w.EditProject(t.Context(), w.Admin, "app", signing.ProjectEdit{TrustedBuildSystems: &[]signing.ID{w.BuildSystem, github, azure, ours}}); err != nil {
		t.Fatal(err)
	}
	const repository = "https://github.com/acme/app"
	for _, c := range []struct {
		name       string
		system     signing.ID
		repository string
		build      string
		policy     string
		failed     string // name of the verification that fails
		names      string // the system, as the verification TrustedBuildSystem names it
	}{
		{"custom", w.BuildSystem, repository, "https://anywhere.example/1", "verified", "", "Jenkins (jenkins)"},
		{"service", github, "git@github.com:acme/app.git", "https://GitHub.com/acme/app/actions/runs/1", "verified", "", "GitHub.com (github.com, predefined type GitHub.com)"},
		{"service, no build", github, repository, "", "verified", "", "GitHub.com (github.com"},
		{"service, other build", github, repository, "https://github.com.evil.example/1", "verified", "BuildSystemHosts", "GitHub.com"},
		{"service, user info", github, repository, "https://github.com@evil.example/1", "test-signing", "BuildSystemHosts", "GitHub.com"},
		{"service, other port", github, repository, "https://github.com:444/1", "test-signing", "BuildSystemHosts", "GitHub.com"},
		{"service, other repository", github, "https://gitlab.com/acme/app", "", "test-signing", "BuildSystemHosts", "GitHub.com"},
		{"service, nonsense", github, "nonsense", "", "test-signing", "BuildSystemHosts", "GitHub.com"},
		{"subdomain", azure, repository, "https://acme.visualstudio.com/app/_build/1", "verified", "", "AzureDevOps.com"},
		{"no subdomain", azure, repository, "https://evilvisualstudio.com/1", "verified", "BuildSystemHosts", "AzureDevOps.com"},
		{"own server", ours, repository, "https://CI.acme.example:8443/job/1", "verified", "", "Ours (ours, predefined type Jenkins)"},
		{"own server, other port", ours, repository, "https://ci.acme.example/job/1", "verified", "BuildSystemHosts", "Ours"},
		{"not linked", unlinked, repository, "https://tc.acme.example/1", "verified", "TrustedBuildSystem", "TeamCity (teamcity"},
		{"not linked, not asked for", unlinked, repository, "https://tc.acme.example/1", "test-signing", "", "TeamCity (teamcity"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			a := w.CI
			a.TrustedBuildSystemID = c.system
			r := w.submitAs(t, a, c.policy, func(s *signing.Submission) {
				s.Origin = &signing.Origin{RepositoryURL: c.repository, BranchName: "main", CommitID: "0123abc", BuildURL: c.build}
			})
			w.advance(t, r.ID)
			view, err := w.Request(t.Context(), w.CI, r.ID)
			if err != nil {
				t.Fatal(err)
			}
			failed := ""
			for _, v := range view.Verifications {
				if v.Result == signing.NotPassed && (failed == "" || v.Name == c.failed) {
					failed = v.Name
				}
				if v.Name == "TrustedBuildSystem" && (len(v.Inputs) == 0 || !strings.HasPrefix(v.Inputs[0].Value, c.names)) {
					t.Errorf("the verification does not name %s: %+v", c.names, v)
				}
			}
			if want := map[bool]signing.Status{true: signing.Completed, false: signing.Failed}[c.failed == ""]; failed != c.failed || view.Workflow.Status() != want {
				t.Errorf("verification %q failed, want %q; ended as %s, want %s", failed, c.failed, view.Workflow, want)
			}
		})
	}
}

// wantField checks that an error is about a request field.
func wantField(t *testing.T, what string, err error, field string) {
	t.Helper()
	var e *signing.Error
	if !errors.As(err, &e) || e.Kind != signing.KindInvalid || len(e.Fields[field]) == 0 {
		t.Errorf("%s: error %v names no field %q", what, err, field)
	}
}

// TestWhoSubmitsWithoutBuildSystem: people cannot submit to a policy that wants a trusted build system, with one they can, and
// they can resubmit what one vouched for.
func TestWhoSubmitsWithoutBuildSystem(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	both := &[]signing.Subject{{Kind: signing.SubjectUser, ID: w.CI.UserID}, {Kind: signing.SubjectUser, ID: w.Second.UserID}}
	rules := map[string]signing.PolicyRules{
		"only-systems": {RequireTrustedBuildSystem: true},
		"only-origins": {VerifyOrigin: true},
		"free":         {},
	}
	for slug, r := range rules {
		if _, err := w.CreatePolicy(t.Context(), w.Admin, "app", signing.PolicyEdit{Slug: &slug, Name: &slug, CertificateSlug: ptr("test"), Submitters: both, Rules: &r}); err != nil {
			t.Fatal(err)
		}
	}
	vouched, plain := w.Second, w.submitAs(t, w.Second, "free")
	vouched.TrustedBuildSystemID = w.BuildSystem
	origin := signing.Origin{RepositoryURL: "https://github.com/acme/app", CommitID: "0123abc"}
	w.advance(t, plain.ID)
	for slug := range rules {
		if slug == "free" {
			continue
		}
		for _, c := range []struct {
			actor signing.Actor
			says  string
		}{{w.Second, "Interactive users cannot submit"}, {w.CI, "only from a trusted build system"}} {
			_, _, err := w.Submit(t.Context(), c.actor, signing.Submission{Target: signing.Target{ProjectSlug: "app", PolicySlug: slug}, Artifact: w.stage(t, c.actor)})
			wantKind(t, err, signing.KindForbidden)
			if !strings.Contains(err.Error(), c.says) || !strings.Contains(err.Error(), slug) {
				t.Errorf("%s user to %s: %v", c.actor.Kind, slug, err)
			}
		}
		_, err := w.Resubmit(t.Context(), w.Second, signing.Resubmission{OriginalID: plain.ID, PolicySlug: slug})
		wantKind(t, err, signing.KindForbidden)
		r := w.submitAs(t, vouched, slug, func(s *signing.Submission) { s.Origin = &origin })
		if got := w.advance(t, r.ID); got.Workflow != signing.WorkflowCompleted {
			t.Errorf("a person's token with the build system's to %s: %s %+v", slug, got.Workflow, got.Failure)
		}
		again, err := w.Resubmit(t.Context(), w.Second, signing.Resubmission{OriginalID: r.ID, PolicySlug: slug})
		if err != nil {
			t.Fatal(err)
		}
		if got := w.advance(t, again.ID); got.Workflow != signing.WorkflowCompleted {
			t.Errorf("a person's resubmit under %s: %s %+v", slug, got.Workflow, got.Failure)
		}
	}
}

// TestVerificationsAreComplete: each check is kept, under whatever rules and whatever came of it, with what it looked at and,
// where it failed, what would make it pass.
func TestVerificationsAreComplete(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	build := w.CI
	build.TrustedBuildSystemID = w.BuildSystem
	want := []string{"Active", "Certificate", "CertificateRestrictions", "Timestamp", "TrustedBuildSystem", "BuildSystemHosts", "Repository", "Branch", "Commit"}
	good := signing.Origin{RepositoryURL: "https://github.com/acme/app", BranchName: "main", CommitID: "1"}
	for _, r := range []*signing.Request{
		w.submit(t, "test-signing"),
		w.submitAs(t, build, "test-signing"),
		w.submitAs(t, build, "verified"), // fails
		w.submitAs(t, build, "verified", func(s *signing.Submission) { s.Origin = &good }),
	} {
		for range 2 { // as submitted and as signed
			view, err := w.Request(t.Context(), w.CI, r.ID)
			if err != nil {
				t.Fatal(err)
			}
			var names []string
			for _, v := range view.Verifications {
				names = append(names, v.Name)
				if v.Explanation == "" || v.At.IsZero() || (v.Result == signing.NotPassed) != (v.Remedy != "") || v.Result != signing.NotRequired && len(v.Inputs) == 0 {
					t.Errorf("%+v", v)
				}
			}
			if !slices.Equal(names, want) {
				t.Errorf("verifications %v, want %v", names, want)
			}
			w.advance(t, r.ID)
		}
	}
}

// TestOriginOfOthers: an origin that comes without a trusted build system's token is not kept, and that is said, before and
// after signing; what a build system sends is kept without the secrets in its URLs.
func TestOriginOfOthers(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	origin := func(s *signing.Submission) {
		s.Origin = &signing.Origin{RepositoryURL: "https://ci-token:hunter2@github.com/acme/app.git", BranchName: "main", CommitID: "1", BuildURL: "https://me:hunter2@ci.example/1"}
	}
	r := w.submit(t, "test-signing", origin)
	for range 2 {
		if v := w.verification(t, r.ID, "Origin"); r.Origin != nil || v.Result != signing.NotRequired || v.Remedy == "" || len(v.Inputs) > 0 {
			t.Errorf("a claimed origin: %+v, %+v", r.Origin, v)
		}
		w.advance(t, r.ID)
	}
	if v := w.verification(t, w.submit(t, "test-signing").ID, "Origin"); v.Name != "" {
		t.Errorf("without an origin: %+v", v)
	}
	build := w.CI
	build.TrustedBuildSystemID = w.BuildSystem
	r = w.submitAs(t, build, "verified", origin)
	if got := w.advance(t, r.ID); got.Workflow != signing.WorkflowCompleted || got.Origin.RepositoryURL != "https://github.com/acme/app.git" || got.Origin.BuildURL != "https://ci.example/1" {
		t.Errorf("%s, %+v", got.Workflow, got.Origin)
	}
	v, err := w.Request(t.Context(), w.CI, r.ID)
	if err != nil {
		t.Fatal(err)
	}
	for _, h := range v.History {
		if strings.Contains(string(h.Data), "hunter2") {
			t.Errorf("the audit log holds a secret: %s", h.Data)
		}
	}
	if !strings.Contains(string(v.History[0].Data), `"trustedBuildSystem":"Jenkins (jenkins)"`) {
		t.Errorf("the audit log does not name the build system: %s", v.History[0].Data)
	}
}

// TestBuildSystemGoesBeforeSigning: what held at submission is judged again when it is signed, as things are then; a build system
// that is gone is still named.
func TestBuildSystemGoesBeforeSigning(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := t.Context()
	build := w.CI
	build.TrustedBuildSystemID = w.BuildSystem
	submit := func() *signing.Request {
		return w.submitAs(t, build, "verified", func(s *signing.Submission) {
			s.Origin = &signing.Origin{RepositoryURL: "https://github.com/acme/app", BranchName: "main", CommitID: "1"}
		})
	}
	refused := func(r *signing.Request, check string, says ...string) {
		t.Helper()
		got := w.advance(t, r.ID)
		v := w.verification(t, r.ID, check)
		if got.Workflow != signing.WorkflowProcessingFailed || got.Failure.Code != "Policy" || v.Result != signing.NotPassed {
			t.Errorf("%s: %s, %+v", check, got.Workflow, v)
		}
		for _, text := range says {
			if !strings.Contains(got.Failure.Message, text) {
				t.Errorf("%q does not say %q", got.Failure.Message, text)
			}
		}
	}
	edit := func(e signing.ProjectEdit) {
		t.Helper()
		if _, err := w.EditProject(ctx, w.Admin, "app", e); err != nil {
			t.Fatal(err)
		}
	}
	done := submit()
	if got := w.advance(t, done.ID); got.Workflow != signing.WorkflowCompleted {
		t.Fatal(got.Workflow)
	}
	r := submit()
	edit(signing.ProjectEdit{Repositories: &[]string{"https://github.com/acme/other"}})
	refused(r, "Repository", "none of the project's")
	edit(signing.ProjectEdit{Repositories: &[]string{"https://github.com/acme/app"}})
	r = submit()
	edit(signing.ProjectEdit{TrustedBuildSystems: &[]signing.ID{}})
	refused(r, "TrustedBuildSystem", "Jenkins (jenkins)", "not linked")
	edit(signing.ProjectEdit{TrustedBuildSystems: &[]signing.ID{w.BuildSystem}})
	r = submit()
	edit(signing.ProjectEdit{TrustedBuildSystems: &[]signing.ID{}})
	if _, err := w.EditProject(ctx, w.Admin, "other", signing.ProjectEdit{TrustedBuildSystems: &[]signing.ID{}}); err != nil {
		t.Fatal(err)
	}
	if err := w.DeleteTrustedBuildSystem(ctx, w.Admin, "jenkins"); err != nil {
		t.Fatal(err)
	}
	refused(r, "TrustedBuildSystem", "Jenkins (deleted)")
	// A resubmit of what was signed is judged by the same.
	again, err := w.Resubmit(ctx, w.CI, signing.Resubmission{OriginalID: done.ID, PolicySlug: "verified"})
	if err != nil {
		t.Fatal(err)
	}
	refused(again, "TrustedBuildSystem", "Jenkins (deleted)")
}
