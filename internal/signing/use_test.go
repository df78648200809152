package signing_test

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/countersign-dev/countersign/internal/signing"
)

func user(id signing.ID) signing.Subject { return signing.Subject{Kind: signing.SubjectUser, ID: id} }

func group(id signing.ID) signing.Subject {
	return signing.Subject{Kind: signing.SubjectGroup, ID: id}
}

// wantConflict checks that a change is refused, and that the refusal says all of the texts.
func wantConflict(t *testing.T, err error, says ...string) {
	t.Helper()
	wantKind(t, err, signing.KindConflict)
	for _, text := range says {
		if err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("error %v does not say %q", err, text)
		}
	}
}

func TestWhatIsInUseStays(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := t.Context()
	group1, err := w.CreateGroup(ctx, w.Admin, signing.GroupEdit{Name: ptr("builders"), Members: &[]signing.Subject{user(w.Stranger.UserID)}})
	if err != nil {
		t.Fatal(err)
	}

	t.Run("certificate", func(t *testing.T) {
		off := signing.CertificateEdit{Active: ptr(false)}
		_, err := w.EditCertificate(ctx, w.Admin, "release", off)
		wantConflict(t, err, "signing policy 'app/release-signing', signing policy 'app/two-eyes', signing policy 'app/verified'", "evenIfInUse")
		if _, err := w.EditCertificate(ctx, w.Admin, "release", signing.CertificateEdit{Name: ptr("Release")}); err != nil {
			t.Errorf("another change: %v", err)
		}
		off.EvenIfInUse = true
		if c, err := w.EditCertificate(ctx, w.Admin, "release", off); err != nil || c.Active {
			t.Errorf("all the same: %v", err)
		}
		if _, err := w.EditCertificate(ctx, w.Admin, "release", signing.CertificateEdit{Name: ptr("Old")}); err != nil {
			t.Errorf("a change of a deactivated one: %v", err)
		}
		v, err := w.Project(ctx, w.Admin, "app")
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range v.Policies {
			if got, want := len(v.Problems[p.ID]), map[bool]int{true: 0, false: 1}[p.Slug == "test-signing"]; got != want {
				t.Errorf("policy %s: problems %q", p.Slug, v.Problems[p.ID])
			}
		}
		if _, err := w.EditCertificate(ctx, w.Admin, "release", signing.CertificateEdit{Active: ptr(true)}); err != nil {
			t.Fatal(err)
		}
	})
	t.Run("artifact configuration", func(t *testing.T) {
		_, err := w.EditConfiguration(ctx, w.Admin, "app", "exe", signing.ConfigurationEdit{Active: ptr(false)})
		wantConflict(t, err, "default artifact configuration of project 'app'")
	})
	t.Run("project", func(t *testing.T) {
		r := w.submit(t, "release-signing")
		off := signing.ProjectEdit{Active: ptr(false)}
		_, err := w.EditProject(ctx, w.Admin, "app", off)
		wantConflict(t, err, "signing policy 'app/release-signing' has 1 signing requests that are not final")
		off.EvenIfInUse = true
		if _, err := w.EditProject(ctx, w.Admin, "app", off); err != nil {
			t.Error(err)
		}
		if _, err := w.EditProject(ctx, w.Admin, "app", signing.ProjectEdit{Active: ptr(true)}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Cancel(ctx, w.CI, r.ID, ""); err != nil {
			t.Fatal(err)
		}
		for _, active := range []bool{false, true} {
			if _, err := w.EditProject(ctx, w.Admin, "app", signing.ProjectEdit{Active: &active}); err != nil {
				t.Errorf("without open requests: %v", err)
			}
		}
	})
	t.Run("signing policy", func(t *testing.T) {
		r := w.submit(t, "test-signing")
		off := signing.PolicyEdit{Active: ptr(false)}
		_, err := w.EditPolicy(ctx, w.Admin, "app", "test-signing", off)
		wantConflict(t, err, "Signing policy 'test-signing' is in use: signing policy 'app/test-signing' has 1 signing requests that are not final", "evenIfInUse")
		off.EvenIfInUse = true
		if _, err := w.EditPolicy(ctx, w.Admin, "app", "test-signing", off); err != nil {
			t.Error(err)
		}
		if got := w.advance(t, r.ID); got.Workflow != signing.WorkflowProcessingFailed || !strings.Contains(got.Failure.Message, "deactivated") {
			t.Errorf("%s %+v", got.Workflow, got.Failure)
		}
		for _, active := range []bool{true, false, true} {
			if _, err := w.EditPolicy(ctx, w.Admin, "app", "test-signing", signing.PolicyEdit{Active: &active}); err != nil {
				t.Errorf("without open requests: %v", err)
			}
		}
	})
	t.Run("group", func(t *testing.T) {
		if _, err := w.EditProject(ctx, w.Admin, "app", signing.ProjectEdit{Readers: &[]signing.Subject{group(group1.ID)}, Configurators: &[]signing.Subject{group(group1.ID)}}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.EditPolicy(ctx, w.Admin, "app", "two-eyes", signing.PolicyEdit{
			Submitters: &[]signing.Subject{group(group1.ID)}, Approvers: &[]signing.Subject{group(group1.ID), user(w.Second.UserID)},
		}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.CreateGroup(ctx, w.Admin, signing.GroupEdit{Name: ptr("everybody"), Members: &[]signing.Subject{group(group1.ID)}}); err != nil {
			t.Fatal(err)
		}
		err := w.DeleteGroup(ctx, w.Admin, group1.ID)
		wantConflict(t, err, "reader of project 'app'", "configurator of project 'app'", "submitter of signing policy 'app/two-eyes'",
			"approver of signing policy 'app/two-eyes'", "member of group 'everybody'")
		wantKind(t, w.DeleteGroup(ctx, w.CI, group1.ID), signing.KindForbidden)
		wantKind(t, w.DeleteGroup(ctx, w.Foreigner, group1.ID), signing.KindNotFound)
		unused, err := w.CreateGroup(ctx, w.Admin, signing.GroupEdit{Name: ptr("unused"), Members: &[]signing.Subject{user(w.CI.UserID)}})
		if err != nil {
			t.Fatal(err)
		}
		if err := w.DeleteGroup(ctx, w.Admin, unused.ID); err != nil {
			t.Error(err)
		}
		wantKind(t, w.DeleteGroup(ctx, w.Admin, unused.ID), signing.KindNotFound)
		if got := w.events(t, unused.ID); len(got) != 2 || got[1] != "UserGroup.Deleted" {
			t.Errorf("audit log %v", got)
		}
	})
	t.Run("user", func(t *testing.T) { // two-eyes has the approvers Second and, through the group, Stranger
		off := signing.UserEdit{Active: ptr(false)}
		_, err := w.EditUser(ctx, w.Admin, w.Stranger.UserID, off)
		wantConflict(t, err, "User 'stranger'", "signing policy 'app/two-eyes' requires 2 approvals and would have 1 approvers", "signing policy 'app/two-eyes' would have no submitter")
		_, err = w.EditUser(ctx, w.Admin, w.CI.UserID, off)
		wantConflict(t, err, "signing policy 'other/test-signing' would have no submitter")
		if _, err := w.EditUser(ctx, w.Admin, w.Approver.UserID, off); err != nil {
			t.Errorf("an approver whom others can stand in for: %v", err)
		}
		off.EvenIfInUse = true
		if _, err := w.EditUser(ctx, w.Admin, w.Stranger.UserID, off); err != nil {
			t.Fatal(err)
		}
		views, err := w.Projects(ctx, w.Admin)
		if err != nil {
			t.Fatal(err)
		}
		found := ""
		for _, v := range views {
			for _, list := range v.Problems {
				found += v.Slug + ": " + strings.Join(list, "; ") + "\n"
			}
		}
		if found != "app: 2 approvals are required, but there are only 1 active approvers, members of groups included: add approvers, or require fewer approvals.\n" {
			t.Errorf("problems %q", found)
		}
	})
	t.Run("trusted build system", func(t *testing.T) {
		wantConflict(t, w.DeleteTrustedBuildSystem(ctx, w.Admin, "JENKINS"), "linked to project 'app', linked to project 'other'")
		wantKind(t, w.DeleteTrustedBuildSystem(ctx, w.CI, "jenkins"), signing.KindForbidden)
		build := w.CI
		build.TrustedBuildSystemID = w.BuildSystem
		r := w.submitAs(t, build, "test-signing", func(s *signing.Submission) {
			s.Origin = &signing.Origin{RepositoryURL: "https://github.com/acme/app", BranchName: "main", CommitID: "0123abc"}
		})
		for _, p := range []string{"app", "other"} {
			if _, err := w.EditProject(ctx, w.Admin, p, signing.ProjectEdit{TrustedBuildSystems: &[]signing.ID{}}); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.DeleteTrustedBuildSystem(ctx, w.Admin, "jenkins"); err != nil {
			t.Fatal(err)
		}
		if got := w.advance(t, r.ID); got.Workflow != signing.WorkflowCompleted {
			t.Errorf("a policy that asks for none: %s %+v", got.Workflow, got.Failure)
		}
		again, err := w.Resubmit(ctx, w.CI, signing.Resubmission{OriginalID: r.ID, PolicySlug: "verified"})
		if err != nil {
			t.Fatal(err)
		}
		if again.Failure == nil || !strings.Contains(again.Failure.Message, "was deleted") {
			t.Errorf("a resubmit under a policy that asks for one: %+v", again.Failure)
		}
	})
}

func TestApproversSuffice(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := t.Context()
	inner, err := w.CreateGroup(ctx, w.Admin, signing.GroupEdit{Name: ptr("inner"), Members: &[]signing.Subject{user(w.Second.UserID), user(w.Approver.UserID)}})
	if err != nil {
		t.Fatal(err)
	}
	outer, err := w.CreateGroup(ctx, w.Admin, signing.GroupEdit{Name: ptr("outer"), Members: &[]signing.Subject{group(inner.ID), user(w.Second.UserID)}})
	if err != nil {
		t.Fatal(err)
	}
	create := func(slug string, approvals int, approvers ...signing.Subject) error {
		_, err := w.CreatePolicy(ctx, w.Admin, "app", signing.PolicyEdit{Slug: &slug, Name: &slug, CertificateSlug: ptr("test"),
			Rules: &signing.PolicyRules{RequiredApprovals: approvals}, Approvers: &approvers})
		return err
	}
	wantField(t, "nobody", create("nobody", 1), "RequiredApprovals")
	wantField(t, "counted once", create("once", 3, group(outer.ID), user(w.Second.UserID)), "RequiredApprovals")
	if err := create("groups", 2, group(outer.ID)); err != nil {
		t.Errorf("two through groups: %v", err)
	}
	_, err = w.EditPolicy(ctx, w.Admin, "app", "groups", signing.PolicyEdit{Rules: &signing.PolicyRules{RequiredApprovals: 3}})
	wantField(t, "an edit", err, "RequiredApprovals")
	_, err = w.EditPolicy(ctx, w.Admin, "app", "groups", signing.PolicyEdit{Approvers: &[]signing.Subject{user(w.Second.UserID)}})
	wantField(t, "an edit of the approvers", err, "RequiredApprovals")
	if _, err := w.EditPolicy(ctx, w.Admin, "app", "groups", signing.PolicyEdit{Active: ptr(false), Rules: &signing.PolicyRules{RequiredApprovals: 3}}); err != nil {
		t.Errorf("a deactivated policy may be incomplete: %v", err)
	}
	_, err = w.EditPolicy(ctx, w.Admin, "app", "groups", signing.PolicyEdit{Active: ptr(true)})
	wantField(t, "activation", err, "RequiredApprovals")
}

func TestGroupCycles(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	make := func(name string, members ...signing.Subject) signing.ID {
		g, err := w.CreateGroup(t.Context(), w.Admin, signing.GroupEdit{Name: &name, Members: &members})
		if err != nil {
			t.Fatal(err)
		}
		return g.ID
	}
	a := make("a")
	b := make("b", group(a))
	c := make("c", user(w.CI.UserID), group(b), group(a))
	make("d", group(c), group(a)) // reached twice, no cycle
	for _, cycle := range []struct {
		members []signing.Subject
		path    string
	}{{[]signing.Subject{group(a)}, "a > a."}, {[]signing.Subject{group(b)}, "a > b > a."}, {[]signing.Subject{user(w.CI.UserID), group(c)}, "a > c > b > a."}} {
		_, err := w.EditGroup(t.Context(), w.Admin, a, signing.GroupEdit{Members: &cycle.members})
		wantField(t, cycle.path, err, "Members")
		if err != nil && !strings.Contains(err.Error(), cycle.path) {
			t.Errorf("%v does not show the path %s", err, cycle.path)
		}
	}
}

func TestPolicyProblems(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	none := &[]signing.ID{}
	if _, err := w.EditProject(t.Context(), w.Admin, "app", signing.ProjectEdit{TrustedBuildSystems: none, Repositories: &[]string{}}); err != nil {
		t.Fatal(err)
	}
	problems := func() map[string]string {
		t.Helper()
		v, err := w.Project(t.Context(), w.Admin, "app")
		if err != nil {
			t.Fatal(err)
		}
		found := map[string]string{}
		for _, p := range v.Policies {
			if list := v.Problems[p.ID]; list != nil {
				found[p.Slug] = strings.Join(list, " ")
			}
		}
		return found
	}
	if got := problems(); len(got) != 1 || !strings.Contains(got["verified"], "link one") || !strings.Contains(got["verified"], "names no repository") {
		t.Errorf("%q", got)
	}
	if _, err := w.EditPolicy(t.Context(), w.Admin, "app", "verified", signing.PolicyEdit{Active: ptr(false)}); err != nil {
		t.Fatal(err)
	}
	if got := problems(); len(got) != 0 {
		t.Errorf("of deactivated policies: %q", got)
	}
}

// TestExpiryIsLogged: the log tells operators of certificates in use that expire soon, and of no others.
func TestExpiryIsLogged(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	w := newWorld(t, func(c *signing.Config) { c.Log = slog.New(slog.NewTextHandler(&log, nil)) })
	for _, slug := range []string{"short-unused", "short-used"} {
		if _, err := w.CreateSelfSigned(t.Context(), w.Admin, signing.NewCertificate{Slug: slug, Subject: "CN=x", KeyAlgorithm: "ECDSA-P256", Validity: 48 * time.Hour}); err != nil {
			t.Fatal(err)
		}
	}
	w.newPolicy(t, "short", "short-used")
	if err := w.Retain(t.Context()); err != nil {
		t.Fatal(err)
	}
	if text := log.String(); strings.Count(text, "level=WARN") != 1 || !strings.Contains(text, "certificate=short-used") {
		t.Errorf("log %q", text)
	}
}

func TestExpiryWarning(t *testing.T) {
	t.Parallel()
	end := time.Date(2027, 3, 31, 12, 0, 0, 0, time.UTC)
	c := &signing.Certificate{NotAfter: end}
	if got := c.ExpiryWarning(end); got != "" {
		t.Errorf("before it was issued: %q", got)
	}
	c.Chain = [][]byte{{1}}
	for before, want := range map[time.Duration]string{
		31 * 24 * time.Hour: "", 30 * 24 * time.Hour: "expires on 2027-03-31, in 30 days", time.Hour: "in 0 days", 0: "expired on 2027-03-31", -time.Hour: "expired on",
	} {
		if got := c.ExpiryWarning(end.Add(-before)); !strings.Contains(got, want) || (want == "") != (got == "") {
			t.Errorf("%s before its end: %q, want %q", before, got, want)
		}
	}
}
