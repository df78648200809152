package powershell_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"testing"

	"github.com/countersign-dev/countersign/artifact/authenticode/petest"
	"github.com/countersign-dev/countersign/internal/auth"
	"github.com/countersign-dev/countersign/internal/httpapi"
	"github.com/countersign-dev/countersign/internal/keystore/software"
	"github.com/countersign-dev/countersign/internal/signing"
	"github.com/countersign-dev/countersign/internal/store"
)

// world is a server with a seeded organization: the project app, and a CI user who may submit to each of its policies.
type world struct {
	handler http.Handler
	signing *signing.Service

	organization, token, buildSystem string
	testPolicy, configuration        signing.ID
}

const configuration = `<artifact-configuration xmlns="http://signpath.io/artifact-configuration/v1">
  <parameters><parameter name="version" default-value="1.0"/></parameters>
  <pe-file><authenticode-sign/></pe-file>
</artifact-configuration>`

func newWorld(t *testing.T) *world {
	t.Helper()
	ctx, dir := t.Context(), t.TempDir()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	db, err := store.Open(ctx, store.Config{URL: filepath.Join(dir, "db")})
	must(err)
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	must(db.Migrate(ctx))
	blobs, err := store.OpenFileBlobs(filepath.Join(dir, "blobs"))
	must(err)
	keeper, err := software.OpenKeeper(ctx, "base64key://MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=", nil)
	must(err)
	people, err := auth.New(auth.Config{Store: db, Key: bytes.Repeat([]byte{7}, 32)})
	must(err)
	t.Cleanup(func() {
		if err := people.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	w := &world{signing: signing.New(signing.Config{Store: db, Blobs: blobs, Keys: software.New(keeper, software.NewMemory()), TempDir: dir,
		Secrets: keeper, Fetcher: shelf{"https://files.example.com/my+program.exe", "Bearer files", examplePE}})}
	log := slog.New(slog.DiscardHandler)
	w.handler, err = httpapi.NewHandler(
		httpapi.New(httpapi.Config{Signing: w.signing, Auth: people, Version: "1.2.3", Ready: db.Ping, Log: log}), httpapi.Options{Log: log})
	must(err)

	organization, ada, err := w.signing.Bootstrap(ctx, "Acme", "Ada", "ada@acme.example")
	must(err)
	w.organization = string(organization.ID)
	admin := signing.Actor{OrganizationID: ada.OrganizationID, UserID: ada.ID, Kind: ada.Kind, Name: ada.Name, Roles: ada.Roles, Via: "test"}
	ci, err := w.signing.CreateUser(ctx, admin, signing.NewUser{Kind: signing.CI, Name: "ci"})
	must(err)
	w.token, _, err = people.IssueToken(ctx, admin, signing.UserToken, ci.ID, auth.TokenOptions{})
	must(err)
	system, err := w.signing.AddTrustedBuildSystem(ctx, admin, signing.TrustedBuildSystemEdit{Slug: new("jenkins"), Name: new("Jenkins")})
	must(err)
	w.buildSystem, _, err = people.IssueToken(ctx, admin, signing.BuildSystemToken, system.ID, auth.TokenOptions{})
	must(err)
	_, err = w.signing.CreateSelfSigned(ctx, admin, signing.NewCertificate{Slug: "test", Subject: "CN=test", KeyAlgorithm: "ECDSA-P256"})
	must(err)
	_, err = w.signing.CreateProject(ctx, admin, signing.ProjectEdit{
		Slug: new("app"), Name: new("App"), Repositories: &[]string{"https://github.com/acme/app"}, TrustedBuildSystems: &[]signing.ID{system.ID},
	})
	must(err)
	exe, err := w.signing.CreateConfiguration(ctx, admin, "app", signing.ConfigurationEdit{Slug: new("exe"), Name: new("exe"), XML: new(configuration)})
	must(err)
	w.configuration = exe.ID
	for slug, rules := range map[string]signing.PolicyRules{
		"test-signing": {}, "release-signing": {},
		"release-verified": {RequireTrustedBuildSystem: true, VerifyOrigin: true, AllowedBranches: []string{"main"}},
	} {
		policy, err := w.signing.CreatePolicy(ctx, admin, "app", signing.PolicyEdit{
			Slug: new(slug), Name: new(slug), CertificateSlug: new("test"), Rules: &rules,
			Submitters: &[]signing.Subject{{Kind: signing.SubjectUser, ID: ci.ID}},
		})
		must(err)
		if slug == "test-signing" {
			w.testPolicy = policy.ID
		}
	}
	return w
}

var examplePE = petest.Image{Version: map[string]string{"ProductName": "Acme"}}.Bytes()

// shelf has one artifact behind a link.
type shelf struct {
	url, authorization string
	artifact           []byte
}

func (s shelf) Check(url string) error {
	if url != s.url {
		return fmt.Errorf("%s is not on the shelf", url)
	}
	return nil
}

func (s shelf) Fetch(_ context.Context, url string, headers map[string]string) (io.ReadCloser, error) {
	if err := s.Check(url); err != nil {
		return nil, err
	}
	if got := headers["Authorization"]; got != s.authorization {
		return nil, fmt.Errorf("the Authorization header is %q", got)
	}
	return io.NopCloser(bytes.NewReader(s.artifact)), nil
}

// serve starts the server on the loopback interface, with a worker's part done before a submission is answered. It
// returns the address of the API.
func (w *world) serve(t *testing.T) string {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		recorder := httptest.NewRecorder()
		w.handler.ServeHTTP(recorder, r)
		if id := idPattern(t).FindStringSubmatch(recorder.Header().Get("Location")); id != nil {
			if err := w.signing.Advance(r.Context(), signing.ID(id[1])); err != nil {
				t.Error(err)
			}
		}
		for name, values := range recorder.Header() {
			rw.Header()[name] = values
		}
		rw.WriteHeader(recorder.Code)
		if _, err := rw.Write(recorder.Body.Bytes()); err != nil {
			t.Error(err)
		}
	}))
	t.Cleanup(server.Close)
	return server.URL + "/Api"
}
