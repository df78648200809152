package httpapi

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/countersign-dev/countersign/api"
	"github.com/countersign-dev/countersign/artifact/authenticode/petest"
	"github.com/countersign-dev/countersign/internal/auth"
	"github.com/countersign-dev/countersign/internal/keystore/software"
	"github.com/countersign-dev/countersign/internal/signing"
	"github.com/countersign-dev/countersign/internal/store"
)

// people of the seeded organization, by what they may. Each has a token.
const (
	globalAdmin      = "global administrator"
	certificateAdmin = "certificate administrator"
	userAdmin        = "user administrator"
	projectAdmin     = "project administrator"
	globalReader     = "global reader"
	regular          = "regular user"
	directory        = "directory synchronizer"
	projectReader    = "project reader"
	configurator     = "configurator"
	submitter        = "submitter"
	approver         = "approver"
	requester        = "request's submitter" // of the requests that the world makes, without any other permission
	ciUser           = "CI user"             // submitter of every policy
	foreigner        = "other organization's administrator"
	deactivated      = "deactivated administrator" // and approver
)

// standIns have their permissions through a group in a group, otherwise they are like those whom they stand in for.
var standIns = map[string]string{
	"nested project reader": projectReader, "nested configurator": configurator, "nested submitter": submitter, "nested approver": approver,
}

var members = []string{
	globalAdmin, certificateAdmin, userAdmin, projectAdmin, globalReader, regular, directory,
	projectReader, configurator, submitter, approver, requester, ciUser,
}

// person is somebody who asks.
type person struct {
	actor signing.Actor
	token string
}

// world is the API in front of a seeded installation on an embedded database.
type world struct {
	handler http.Handler
	logs    *logBuffer
	signing *signing.Service
	auth    *auth.Service
	db      *store.DB
	blobs   signing.Blobs
	fetcher fetcher
	hooks   receiver
	seeded
}

// seeded is what the template of all worlds holds.
type seeded struct {
	people      map[string]person
	org, other  string
	group       signing.ID // empty group of submitters
	buildSystem string     // its token
	// Tokens of the global administrator that no longer count.
	expired, revoked string
}

var template struct {
	once sync.Once
	dir  string
	keys *software.Memory
	seeded
	err error
}

func TestMain(m *testing.M) {
	code := m.Run()
	if template.dir != "" {
		_ = os.RemoveAll(template.dir)
	}
	os.Exit(code)
}

// newWorld returns an installation of its own.
func newWorld(t testing.TB) *world {
	t.Helper()
	template.once.Do(func() { template.err = makeTemplate() })
	if template.err != nil {
		t.Fatal(template.err)
	}
	dir := t.TempDir()
	raw, err := os.ReadFile(filepath.Join(template.dir, "db"))
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "db"), raw, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	w, err := openWorld(t.Context(), dir, template.keys.Clone())
	if err != nil {
		t.Fatal(err)
	}
	w.seeded = template.seeded
	t.Cleanup(func() {
		if err := errors.Join(w.auth.Close(context.Background()), w.db.Close()); err != nil {
			t.Error(err)
		}
	})
	return w
}

func openWorld(ctx context.Context, dir string, keys *software.Memory) (*world, error) {
	w := &world{logs: &logBuffer{}}
	log := slog.New(slog.NewJSONHandler(w.logs, nil))
	var err error
	if w.db, err = store.Open(ctx, store.Config{URL: filepath.Join(dir, "db")}); err != nil {
		return nil, err
	}
	if w.blobs, err = store.OpenFileBlobs(filepath.Join(dir, "blobs")); err != nil {
		return nil, err
	}
	keeper, err := software.OpenKeeper(ctx, "base64key://MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=", nil)
	if err != nil {
		return nil, err
	}
	if w.auth, err = auth.New(auth.Config{Store: w.db, Key: bytes.Repeat([]byte{7}, 32)}); err != nil {
		return nil, err
	}
	w.signing = signing.New(signing.Config{Store: w.db, Blobs: w.blobs, Keys: software.New(keeper, keys), TempDir: dir,
		Secrets: keeper, Fetcher: &w.fetcher, Webhooks: &w.hooks, Limits: signing.Limits{ArtifactBytes: 4 << 20}})
	operations := New(Config{Signing: w.signing, Auth: w.auth, Version: "1.2.3", Ready: w.db.Ping, Log: log})
	w.handler, err = NewHandler(operations, Options{Log: log, MaxArtifactBytes: 4 << 20})
	return w, err
}

// fetcher serves the example program at every https URL, to who sends the right header if it wants one.
type fetcher struct{ header, value string }

func (*fetcher) Check(url string) error {
	if !strings.HasPrefix(url, "https://") {
		return errors.New("The URL must begin with https://.")
	}
	return nil
}

func (f *fetcher) Fetch(_ context.Context, _ string, headers map[string]string) (io.ReadCloser, error) {
	if headers[f.header] != f.value {
		return nil, &signing.FetchError{Message: "the server answered 401"}
	}
	return io.NopCloser(bytes.NewReader(examplePE)), nil
}

// receiver takes what is sent to every https URL, unless it is out of order.
type receiver struct {
	fetcher    // Check
	outOfOrder bool
	calls      []signing.WebhookCall
}

func (r *receiver) Call(_ context.Context, c signing.WebhookCall) (signing.Receipt, error) {
	r.calls = append(r.calls, c)
	if r.outOfOrder {
		return signing.Receipt{Status: 500, Response: "out of order"}, errors.New("the server answered 500")
	}
	return signing.Receipt{Status: 204}, nil
}

func ptr[T any](v T) *T { return &v }

func makeTemplate() (err error) {
	ctx := context.Background()
	template.keys = software.NewMemory()
	if template.dir, err = os.MkdirTemp("", "countersign-httpapi-test-"); err != nil {
		return err
	}
	db, err := store.Open(ctx, store.Config{URL: filepath.Join(template.dir, "db")})
	if err != nil {
		return err
	}
	if err := errors.Join(db.Migrate(ctx), db.Close()); err != nil {
		return err
	}
	w, err := openWorld(ctx, template.dir, template.keys)
	if err != nil {
		return err
	}
	err = errors.Join(w.seed(ctx), w.auth.Close(ctx), w.db.Close())
	template.seeded = w.seeded
	return err
}

const exeConfiguration = `<artifact-configuration xmlns="http://signpath.io/artifact-configuration/v1">
  <parameters><parameter name="app.version" default-value="1.0"/><parameter name="build.number" default-value="1"/>
    <parameter name="version" default-value="1.0"/></parameters>
  <pe-file><authenticode-sign/></pe-file>
</artifact-configuration>`

const zipConfiguration = `<artifact-configuration xmlns="http://signpath.io/artifact-configuration/v1">
  <zip-file><pe-file path="bin/*.exe"><authenticode-sign/></pe-file></zip-file>
</artifact-configuration>`

func (w *world) seed(ctx context.Context) error {
	w.people = map[string]person{}
	o, admin, err := w.signing.Bootstrap(ctx, "Acme", globalAdmin, "ada@acme.example")
	if err != nil {
		return err
	}
	o2, uwe, err := w.signing.CreateOrganization(ctx, "Umbrella", foreigner, "uwe@umbrella.example")
	if err != nil {
		return err
	}
	w.org, w.other = string(o.ID), string(o2.ID)
	for _, u := range []*signing.User{admin, uwe} {
		if err := w.add(ctx, u); err != nil {
			return err
		}
	}
	by := w.people[globalAdmin].actor
	for name, role := range map[string]signing.Role{
		certificateAdmin: signing.CertificateAdministrator, userAdmin: signing.UserAdministrator, projectAdmin: signing.ProjectAdministrator,
		globalReader: signing.GlobalReader, regular: signing.RegularUser, directory: signing.DirectorySynchronizer,
		projectReader: signing.RegularUser, configurator: signing.RegularUser, submitter: signing.RegularUser,
		approver: signing.RegularUser, requester: signing.RegularUser, ciUser: signing.RegularUser,
		deactivated: signing.GlobalAdministrator,
	} {
		n := signing.NewUser{Kind: signing.Interactive, Name: name, Email: url.PathEscape(strings.ReplaceAll(name, "'", "")) + "@acme.example", Roles: []signing.Role{role}}
		if name == ciUser {
			n.Kind, n.Email = signing.CI, ""
		}
		n.Email = strings.ReplaceAll(n.Email, "%20", ".")
		u, err := w.signing.CreateUser(ctx, by, n)
		if err != nil {
			return err
		}
		if err := w.add(ctx, u); err != nil {
			return err
		}
	}
	nested := map[string][]signing.Subject{} // by the one who is stood in for
	for name, like := range standIns {
		u, err := w.signing.CreateUser(ctx, by, signing.NewUser{Kind: signing.Interactive, Name: name, Email: strings.ReplaceAll(name, " ", ".") + "@acme.example"})
		if err != nil {
			return err
		}
		if err := w.add(ctx, u); err != nil {
			return err
		}
		members := w.subjects(name)
		for _, kind := range []string{"inner", "outer"} {
			g, err := w.signing.CreateGroup(ctx, by, signing.GroupEdit{Name: ptr(kind + " " + like), Members: &members})
			if err != nil {
				return err
			}
			members = []signing.Subject{{Kind: signing.SubjectGroup, ID: g.ID}}
		}
		nested[like] = members
	}
	group, err := w.signing.CreateGroup(ctx, by, signing.GroupEdit{Name: ptr("former submitters"), Members: ptr([]signing.Subject{})})
	if err != nil {
		return err
	}
	w.group = group.ID
	system, err := w.signing.AddTrustedBuildSystem(ctx, by, signing.TrustedBuildSystemEdit{Slug: ptr("jenkins"), Name: ptr("Jenkins")})
	if err != nil {
		return err
	}
	if w.buildSystem, _, err = w.auth.IssueToken(ctx, by, signing.BuildSystemToken, system.ID, auth.TokenOptions{}); err != nil {
		return err
	}
	for _, slug := range []string{"test", "release"} {
		if _, err := w.signing.CreateSelfSigned(ctx, by, signing.NewCertificate{Slug: slug, Subject: "CN=" + slug, KeyAlgorithm: "ECDSA-P256"}); err != nil {
			return err
		}
	}
	if _, err := w.signing.CreateProject(ctx, by, signing.ProjectEdit{
		Slug: ptr("demo"), Name: ptr("Demo"), Repositories: ptr([]string{"https://github.com/acme/app"}), TrustedBuildSystems: ptr([]signing.ID{system.ID}),
		Readers: ptr(append(w.subjects(projectReader), nested[projectReader]...)), Configurators: ptr(append(w.subjects(configurator), nested[configurator]...)),
	}); err != nil {
		return err
	}
	for slug, xml := range map[string]string{"exe": exeConfiguration, "zip": zipConfiguration} {
		if _, err := w.signing.CreateConfiguration(ctx, by, "demo", signing.ConfigurationEdit{Slug: ptr(slug), Name: ptr(slug), XML: ptr(xml)}); err != nil {
			return err
		}
	}
	if _, err := w.signing.EditProject(ctx, by, "demo", signing.ProjectEdit{DefaultConfigurationSlug: ptr("exe")}); err != nil {
		return err
	}
	submitters := append(append(w.subjects(submitter, ciUser), signing.Subject{Kind: signing.SubjectGroup, ID: w.group}), nested[submitter]...)
	approvers := append(w.subjects(approver, deactivated), nested[approver]...)
	for slug, rules := range map[string]signing.PolicyRules{
		"test-signing": {}, "release-signing": {RequiredApprovals: 1}, "verified": {RequireTrustedBuildSystem: true, VerifyOrigin: true, AllowedBranches: []string{"main"}},
	} {
		certificate := "release"
		if slug == "test-signing" {
			certificate = "test"
		}
		if _, err := w.signing.CreatePolicy(ctx, by, "demo", signing.PolicyEdit{Slug: ptr(slug), Name: ptr(slug), CertificateSlug: ptr(certificate),
			Rules: &rules, Submitters: &submitters, Approvers: &approvers}); err != nil {
			return err
		}
	}
	w.expired = "a-token-from-elsewhere-that-expired-long-ago"
	err = w.db.Tx(ctx, func(tx signing.Tx) error {
		return tx.InsertToken(ctx, &signing.APIToken{ID: signing.NewID(), OrganizationID: o.ID, Kind: signing.UserToken, OwnerID: by.UserID,
			Name: "old", Prefix: "a-token-", Hash: sha256.Sum256([]byte(w.expired)), CreatedAt: time.Now().Add(-2 * time.Hour), ExpiresAt: ptr(time.Now().Add(-time.Hour))})
	})
	if err != nil {
		return err
	}
	var revoked *signing.APIToken
	if w.revoked, revoked, err = w.auth.IssueToken(ctx, by, signing.UserToken, by.UserID, auth.TokenOptions{}); err != nil {
		return err
	}
	if err := w.auth.RevokeToken(ctx, by, signing.UserToken, by.UserID, revoked.ID); err != nil {
		return err
	}
	_, err = w.signing.EditUser(ctx, by, w.people[deactivated].actor.UserID, signing.UserEdit{Active: ptr(false)})
	return err
}

// add gives a user a token. Personal tokens are issued by their owners.
func (w *world) add(ctx context.Context, u *signing.User) error {
	p := person{actor: signing.Actor{OrganizationID: u.OrganizationID, UserID: u.ID, Kind: u.Kind, Name: u.Name, Roles: u.Roles, Via: "test"}}
	by := p.actor
	if u.Kind == signing.CI {
		by = w.people[globalAdmin].actor
	}
	token, _, err := w.auth.IssueToken(ctx, by, signing.UserToken, u.ID, auth.TokenOptions{})
	p.token = token
	w.people[u.Name] = p
	return err
}

func (w *world) subjects(names ...string) []signing.Subject {
	var out []signing.Subject
	for _, n := range names {
		out = append(out, signing.Subject{Kind: signing.SubjectUser, ID: w.people[n].actor.UserID})
	}
	return out
}

var examplePE = petest.Image{Version: map[string]string{"ProductName": "Acme"}}.Bytes()

// submitted makes a request of the requester.
func (w *world) submitted(t testing.TB, policy string) signing.ID {
	t.Helper()
	a := w.people[requester].actor
	a.Groups = []signing.ID{w.group} // since then the requester left the group
	st, err := w.signing.Stage(t.Context(), a, "app.exe", bytes.NewReader(examplePE))
	if err != nil {
		t.Fatal(err)
	}
	r, _, err := w.signing.Submit(t.Context(), a, signing.Submission{Target: signing.Target{ProjectSlug: "demo", PolicySlug: policy}, Artifact: st})
	if err != nil {
		t.Fatal(err)
	}
	return r.ID
}

// advanced makes a request of the requester and lets a worker look at it: test-signing completes, release-signing waits
// for its approver.
func (w *world) advanced(t testing.TB, policy string) signing.ID {
	t.Helper()
	id := w.submitted(t, policy)
	w.advance(t, string(id))
	return id
}

func (w *world) advance(t testing.TB, id string) {
	t.Helper()
	if err := w.signing.Advance(t.Context(), signing.ID(id)); err != nil {
		t.Fatal(err)
	}
}

// as sends a request below the organization's address with somebody's token; path begins behind the organization.
func (w *world) as(t testing.TB, who, method, path string, b body) *http.Response {
	t.Helper()
	return w.send(t, "Bearer "+w.people[who].token, method, "/Api/v1/"+w.org+path, b)
}

// body is a request's body with its type and further headers, in pairs.
type body struct {
	contentType string
	content     string
	header      []string
}

func (w *world) send(t testing.TB, authorization, method, target string, b body) *http.Response {
	t.Helper()
	r := httptest.NewRequest(method, "https://sign.example"+target, strings.NewReader(b.content))
	if authorization != "" {
		r.Header.Set("Authorization", authorization)
	}
	if b.contentType != "" {
		r.Header.Set("Content-Type", b.contentType)
	}
	for i := 0; i < len(b.header); i += 2 {
		r.Header.Set(b.header[i], b.header[i+1])
	}
	rec := httptest.NewRecorder()
	w.handler.ServeHTTP(rec, r)
	return rec.Result()
}

// jsonBody is a JSON body.
func jsonBody(content string) body { return body{contentType: mediaJSON, content: content} }

// formBody is a multipart body of fields in pairs of name and value. A value of the form "@name:content" is a file.
func formBody(fields ...string) body {
	var b bytes.Buffer
	w := multipart.NewWriter(&b)
	for i := 0; i < len(fields); i += 2 {
		if file, ok := strings.CutPrefix(fields[i+1], "@"); ok {
			name, content, _ := strings.Cut(file, ":")
			part, _ := w.CreateFormFile(fields[i], name) // writes to memory
			_, _ = io.WriteString(part, content)
		} else {
			_ = w.WriteField(fields[i], fields[i+1])
		}
	}
	_ = w.Close()
	return body{contentType: w.FormDataContentType(), content: b.String()}
}

// submission is a form that a submitter may send.
func submissionForm(more ...string) body {
	return formBody(append([]string{"projectSlug", "demo", "signingPolicySlug", "test-signing", "artifact", "@app.exe:" + string(examplePE)}, more...)...)
}

// decodeBody reads a JSON answer strictly: the contract must name every member.
func decodeBody[T any](t testing.TB, resp *http.Response, status int) T {
	t.Helper()
	var out T
	text := readBody(t, resp)
	if resp.StatusCode != status {
		t.Fatalf("status %d, want %d: %s", resp.StatusCode, status, text)
	}
	dec := json.NewDecoder(strings.NewReader(text))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&out); err != nil {
		t.Fatalf("%v in %s", err, text)
	}
	return out
}

// submit submits the form and returns the request's id.
func (w *world) submit(t testing.TB, who string, form body) string {
	t.Helper()
	return decodeBody[api.SubmittedSigningRequest](t, w.as(t, who, "POST", "/SigningRequests/SubmitWithArtifact", form), http.StatusCreated).SigningRequestID
}
