package httpapi

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/countersign-dev/countersign/api"
	"github.com/countersign-dev/countersign/client"
)

// connect returns the public client, with somebody's token.
func (w *world) connect(t *testing.T, who string, opts ...client.Option) *client.Client {
	t.Helper()
	server := httptest.NewServer(w.handler)
	t.Cleanup(server.Close)
	c, err := client.New(server.URL, w.people[who].token, w.org, opts...)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// TestClientSubmitsOtherwise: the public client sends an artifact afterwards, and has one retrieved.
func TestClientSubmitsOtherwise(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.fetcher.header, w.fetcher.value = "X-Token", "secret"
	c := w.connect(t, ciUser, client.WithTrustedBuildSystem(w.buildSystem))
	sum := sha256.Sum256(examplePE)
	digest := hex.EncodeToString(sum[:])
	artifact := client.Upload{Name: "app.exe", Content: bytes.NewReader(examplePE), Size: int64(len(examplePE))}
	settings := client.Upload{Name: "build.yml", Content: strings.NewReader("steps"), Size: 5}
	s := client.Submission{ProjectSlug: "demo", PolicySlug: "verified", Artifact: artifact, Parameters: map[string]string{"version": "7"},
		Origin: client.Origin{RepositoryURL: "https://github.com/acme/app", Branch: "main", Commit: "0123abc", BuildSettings: &settings}}
	later, err := c.SubmitForUpload(t.Context(), s, digest)
	if err != nil {
		t.Fatal(err)
	}
	other := client.Upload{Name: "app.exe", Content: strings.NewReader("other"), Size: 5}
	if err := c.Upload(t.Context(), later.SigningRequestID, other); statusOf(err) != http.StatusBadRequest {
		t.Errorf("another artifact: %v", err)
	}
	if err := c.Upload(t.Context(), later.SigningRequestID, artifact); err != nil {
		t.Fatal(err)
	}
	if err := c.Upload(t.Context(), later.SigningRequestID, artifact); err != nil {
		t.Errorf("the same upload again: %v", err)
	}
	if err := c.Upload(t.Context(), later.SigningRequestID, other); statusOf(err) != http.StatusConflict {
		t.Errorf("a second upload: %v", err)
	}
	linked, err := c.SubmitLink(t.Context(), s, client.Link{URL: "https://ci.example/app.exe", FileName: "app.exe", SHA256: digest, Header: http.Header{"X-Other": {"1"}, "X-Token": {"secret"}}})
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{later.SigningRequestID, linked.SigningRequestID} {
		w.advance(t, id)
		r, err := c.Get(t.Context(), id)
		if err != nil || r.Status != "Completed" || r.Parameters["version"] != "7" || r.Origin.RepositoryData.CommitID != "0123abc" || r.Origin.BuildData.BuildSettingsFile.FileName != "build.yml" {
			t.Errorf("%+v, %v", r, err)
		}
	}
}

func statusOf(err error) int {
	var e *client.Error
	if !errors.As(err, &e) {
		return 0
	}
	return e.Status
}

// TestClientManages sets up a project with the public client, as a declaration of it would.
func TestClientManages(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := t.Context()
	c := w.connect(t, globalAdmin)
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	invited, err := c.CreateInteractiveUser(ctx, api.CreateInteractiveUser{Name: "Rita", Email: "rita@acme.example"})
	must(err)
	ci, err := c.CreateCIUser(ctx, api.CreateCIUser{Name: "builder"})
	must(err)
	issued, err := c.RegenerateCIUserToken(ctx, ci.UserID, api.RegenerateToken{Name: "again"})
	must(err)
	if !strings.HasPrefix(issued.APIToken, "csc_") || issued.APIToken == ci.APIToken {
		t.Errorf("the token was not replaced")
	}
	people, err := c.InteractiveUsers(ctx)
	must(err)
	machines, err := c.CIUsers(ctx)
	must(err)
	if !slices.ContainsFunc(people, func(u api.InteractiveUser) bool { return u.UserID == invited.UserID }) || len(machines) != 2 {
		t.Errorf("%d people, %d CI users", len(people), len(machines))
	}

	g, err := c.CreateGroup(ctx, api.CreateUserGroup{Name: "approvers"})
	must(err)
	rita := []api.Subject{{Kind: "User", ID: invited.UserID}}
	g, err = c.ModifyGroupMembers(ctx, g.UserGroupID, api.ModifyMembers{Add: rita})
	must(err)
	groups, err := c.Groups(ctx)
	must(err)
	if len(g.Members) != 1 || !slices.ContainsFunc(groups, func(other api.UserGroup) bool { return other.UserGroupID == g.UserGroupID }) {
		t.Errorf("group %+v of %d", g, len(groups))
	}

	_, err = c.CreateProject(ctx, api.CreateProject{Slug: "app", Name: "App"})
	must(err)
	p, err := c.EditProject(ctx, "app", api.EditProject{Description: ptr("d"), Repositories: &[]string{"https://github.com/acme/app"}})
	must(err)
	custom, err := c.AddTrustedBuildSystem(ctx, api.AddCustomTrustedBuildSystem{Slug: "farm", Name: "Farm"})
	must(err)
	known, err := c.AddPredefinedBuildSystem(ctx, api.AddPredefinedTrustedBuildSystem{Type: "GitHub.com"})
	must(err)
	_, err = c.LinkTrustedBuildSystem(ctx, "app", custom.TrustedBuildSystem.Slug)
	must(err)
	links, err := c.LinkTrustedBuildSystem(ctx, "app", known.TrustedBuildSystem.Slug)
	must(err)
	systems, err := c.TrustedBuildSystems(ctx)
	must(err)
	if p.Description != "d" || len(links) != 2 || len(systems) != 3 {
		t.Errorf("project %+v, %d links, %d systems", p, len(links), len(systems))
	}

	policy, err := c.CreatePolicy(ctx, "app", api.CreateSigningPolicy{Slug: "release", Name: "Release", CertificateSlug: "release",
		Approvers: &[]api.Subject{{Kind: "Group", ID: g.UserGroupID}}, RequiredApprovals: ptr(1)})
	must(err)
	if policy, err = c.EditPolicy(ctx, "app", "release", api.EditSigningPolicy{RetentionDays: ptr(9), Version: policy.Version}); err != nil || policy.RetentionDays != 9 || policy.RequiredApprovals != 1 {
		t.Errorf("%+v, %v", policy, err)
	}
	if _, err := c.DeactivateInteractiveUser(ctx, invited.UserID, false); statusOf(err) != http.StatusConflict || !strings.Contains(err.Error(), "app/release") {
		t.Errorf("the only approver: %v", err)
	}
	_, err = c.DeactivateInteractiveUser(ctx, invited.UserID, true)
	must(err)
	if policy, err = c.Policy(ctx, "app", "release"); err != nil || len(policy.Problems) != 1 {
		t.Errorf("without its only approver: %+v, %v", policy, err)
	}
	if err := c.DeleteGroup(ctx, g.UserGroupID); statusOf(err) != http.StatusConflict {
		t.Errorf("a group in use: %v", err)
	}
	_, err = c.EditPolicy(ctx, "app", "release", api.EditSigningPolicy{Approvers: &[]api.Subject{}, RequiredApprovals: ptr(0)})
	must(err)
	must(c.DeleteGroup(ctx, g.UserGroupID))
	if _, err := c.DeactivateCertificate(ctx, "test", false); statusOf(err) != http.StatusConflict {
		t.Errorf("a certificate in use: %v", err)
	}
	_, err = c.DeactivateCertificate(ctx, "test", true)
	must(err)

	hook, err := c.CreateWebhook(ctx, api.CreateWebhook{Name: "ci", URL: "https://hooks.example"})
	must(err)
	hooks, err := c.Webhooks(ctx)
	must(err)
	id := hook.Webhook.WebhookID
	if off, err := c.EditWebhook(ctx, id, api.EditWebhook{IsActive: ptr(false)}); err != nil || off.IsActive {
		t.Errorf("%+v, %v", off, err)
	}
	d, err := c.TestWebhook(ctx, id)
	must(err)
	if d.DeliveryID == "" || hook.WebhookSecret == "" || len(hooks) != 1 {
		t.Errorf("%+v, %+v", d, hook)
	}
	must(c.DeleteWebhook(ctx, id))
}
