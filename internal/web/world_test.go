package web

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/countersign-dev/countersign/artifact/authenticode/petest"
	"github.com/countersign-dev/countersign/internal/auth"
	"github.com/countersign-dev/countersign/internal/egress"
	"github.com/countersign-dev/countersign/internal/keystore/software"
	"github.com/countersign-dev/countersign/internal/notify"
	"github.com/countersign-dev/countersign/internal/signing"
	"github.com/countersign-dev/countersign/internal/store"
)

const password = "correct horse battery"

// world is a seeded installation on a real embedded database, served over HTTP.
type world struct {
	*signing.Service
	db     *store.DB
	auth   *auth.Service
	server *httptest.Server
	logged *logBuffer

	// Sam submits, Rita approves, Rob reads the project, Stan sees nothing, Ada administers; Uwe belongs to another organization.
	Ada, Sam, Rita, Rob, Stan, CI, Uwe signing.Actor
	cookies                            map[signing.ID]string
	App                                *signing.Project
	Test, Release, Verified            *signing.Policy
}

// seedNames are what the seed calls things; a hostile world has other ones.
type seedNames struct {
	organization, project, policy, configuration, description, user string
}

var plainNames = seedNames{"Acme", "Acme App", "Release signing", "Windows program", "What customers install.", "Sam Submitter"}

// template is a seeded installation for each set of names, made once and copied for each test.
type template struct {
	once sync.Once
	dir  string
	keys *software.Memory
	w    world
	err  error
}

var (
	plain   template
	hostile template
)

func TestMain(m *testing.M) {
	code := m.Run()
	for _, t := range []*template{&plain, &hostile} {
		if t.dir != "" {
			_ = os.RemoveAll(t.dir)
		}
	}
	os.Exit(code)
}

var discard = slog.New(slog.DiscardHandler)

var authKey = bytes.Repeat([]byte{7}, 32)

func newWorld(t testing.TB) *world {
	t.Helper()
	return plain.open(t, plainNames)
}

func (tpl *template) open(t testing.TB, n seedNames) *world {
	t.Helper()
	tpl.once.Do(func() { tpl.err = tpl.make(n) })
	if tpl.err != nil {
		t.Fatal(tpl.err)
	}
	dir := t.TempDir()
	raw, err := os.ReadFile(filepath.Join(tpl.dir, "db"))
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "db"), raw, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	w := tpl.w
	w.cookies = maps.Clone(w.cookies)
	w.server = httptest.NewUnstartedServer(nil)
	// Passkeys need a host name, and cookies are kept by name.
	_, port, _ := strings.Cut(w.server.Listener.Addr().String(), ":")
	address := "http://localhost:" + port
	if err := w.start(t.Context(), dir, tpl.keys, address); err != nil {
		t.Fatal(err)
	}
	w.logged = &logBuffer{}
	h, err := New(Config{Signing: w.Service, Auth: w.auth, Log: slog.New(slog.NewTextHandler(w.logged, &slog.HandlerOptions{Level: slog.LevelDebug})), Version: "test"})
	if err != nil {
		t.Fatal(err)
	}
	w.server.Config.Handler = h
	w.server.Start()
	w.server.URL = address
	t.Cleanup(func() {
		w.server.Close()
		if err := errors.Join(w.auth.Close(context.WithoutCancel(t.Context())), w.db.Close()); err != nil {
			t.Error(err)
		}
	})
	return &w
}

func (w *world) start(ctx context.Context, dir string, keys *software.Memory, address string) error {
	var err error
	if w.db, err = store.Open(ctx, store.Config{URL: filepath.Join(dir, "db")}); err != nil {
		return err
	}
	blobs, err := store.OpenFileBlobs(filepath.Join(dir, "blobs"))
	if err != nil {
		return err
	}
	keeper, err := software.OpenKeeper(ctx, "base64key://MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=", nil)
	if err != nil {
		return err
	}
	w.Service = signing.New(signing.Config{Store: w.db, Blobs: blobs, Keys: software.New(keeper, keys), Secrets: keeper,
		Webhooks: notify.NewWebhooks(egress.Policy{AllowPrivate: true, AllowHTTP: true}), TempDir: dir, Limits: signing.Limits{ArtifactBytes: 64 << 20}})
	w.auth, err = auth.New(auth.Config{
		Store: w.db, Key: authKey, Origins: []string{address}, Hashing: auth.Hashing{MemoryKiB: 8, Passes: 1, Lanes: 1}, CacheFor: -1,
	})
	return err
}

func (tpl *template) make(n seedNames) (err error) {
	ctx := context.Background()
	tpl.keys = software.NewMemory()
	if tpl.dir, err = os.MkdirTemp("", "countersign-web-test-"); err != nil {
		return err
	}
	db, err := store.Open(ctx, store.Config{URL: filepath.Join(tpl.dir, "db")})
	if err != nil {
		return err
	}
	if err := errors.Join(db.Migrate(ctx), db.Close()); err != nil {
		return err
	}
	w := world{cookies: map[signing.ID]string{}}
	if err := w.start(ctx, tpl.dir, tpl.keys, "http://localhost"); err != nil {
		return err
	}
	err = w.seed(ctx, n)
	err = errors.Join(err, w.auth.Close(ctx), w.db.Close())
	tpl.w = w
	return err
}

// logBuffer keeps what the pages logged.
type logBuffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

// log returns what was logged so far.
func (w *world) log(t *testing.T) string {
	t.Helper()
	w.logged.mu.Lock()
	defer w.logged.mu.Unlock()
	return w.logged.text.String()
}

func ptr[T any](v T) *T { return &v }

func actorOf(u *signing.User) signing.Actor {
	return signing.Actor{OrganizationID: u.OrganizationID, UserID: u.ID, Kind: u.Kind, Name: u.Name, Roles: u.Roles, Via: "test"}
}

const exeConfiguration = `<artifact-configuration xmlns="http://signpath.io/artifact-configuration/v1">
  <parameters><parameter name="version" default-value="1.0"/></parameters>
  <pe-file><authenticode-sign/></pe-file>
</artifact-configuration>`

const zipConfiguration = `<artifact-configuration xmlns="http://signpath.io/artifact-configuration/v1">
  <zip-file ui-multifile-upload="on">
    <pe-file-set><include path="*.exe" max-matches="unbounded"/><for-each><authenticode-sign/></for-each></pe-file-set>
  </zip-file>
</artifact-configuration>`

func (w *world) seed(ctx context.Context, n seedNames) error {
	_, ada, err := w.Bootstrap(ctx, n.organization, "Ada Admin", "ada@acme.example")
	if err != nil {
		return err
	}
	w.Ada = actorOf(ada)
	_, uwe, err := w.CreateOrganization(ctx, "Umbrella", "Uwe", "uwe@umbrella.example")
	if err != nil {
		return err
	}
	w.Uwe = actorOf(uwe)
	for _, p := range []struct {
		kind        signing.UserKind
		name, email string
		actor       *signing.Actor
	}{
		{signing.Interactive, n.user, "sam@acme.example", &w.Sam}, {signing.Interactive, "Rita Release", "rita@acme.example", &w.Rita},
		{signing.Interactive, "Rob Reader", "rob@acme.example", &w.Rob}, {signing.Interactive, "Stan Stranger", "stan@acme.example", &w.Stan},
		{signing.CI, "Build server", "", &w.CI},
	} {
		u, err := w.CreateUser(ctx, w.Ada, signing.NewUser{Kind: p.kind, Name: p.name, Email: p.email})
		if err != nil {
			return err
		}
		*p.actor = actorOf(u)
	}
	build, err := w.AddTrustedBuildSystem(ctx, w.Ada, signing.TrustedBuildSystemEdit{Slug: ptr("jenkins"), Name: ptr("Jenkins")})
	if err != nil {
		return err
	}
	w.CI.TrustedBuildSystemID = build.ID
	for slug, name := range map[string]string{"test": "Test certificate", "release": "Release certificate 2026"} {
		if _, err := w.CreateSelfSigned(ctx, w.Ada, signing.NewCertificate{Slug: slug, Name: name, Subject: "CN=" + name + ",O=Acme", KeyAlgorithm: "ECDSA-P256"}); err != nil {
			return err
		}
	}
	user := func(a ...signing.Actor) *[]signing.Subject {
		var s []signing.Subject
		for _, a := range a {
			s = append(s, signing.Subject{Kind: signing.SubjectUser, ID: a.UserID})
		}
		return &s
	}
	w.App, err = w.CreateProject(ctx, w.Ada, signing.ProjectEdit{
		Slug: ptr("app"), Name: ptr(n.project), Description: ptr(n.description), Repositories: ptr([]string{"https://github.com/acme/app"}),
		TrustedBuildSystems: ptr([]signing.ID{build.ID}), Readers: user(w.Rob),
	})
	if err != nil {
		return err
	}
	for _, c := range []signing.ConfigurationEdit{
		{Slug: ptr("exe"), Name: ptr(n.configuration), Description: ptr(n.description), XML: ptr(exeConfiguration)},
		{Slug: ptr("zip"), Name: ptr("Several programs"), XML: ptr(zipConfiguration)},
	} {
		if _, err := w.CreateConfiguration(ctx, w.Ada, "app", c); err != nil {
			return err
		}
	}
	for _, p := range []struct {
		slug, name, certificate string
		rules                   signing.PolicyRules
		made                    **signing.Policy
	}{
		{"test-signing", "Test signing", "test", signing.PolicyRules{}, &w.Test},
		{"release-signing", n.policy, "release", signing.PolicyRules{RequiredApprovals: 1, SubmitterMayNotApprove: true}, &w.Release},
		{"release-verified", "Release with verified origin", "release", signing.PolicyRules{
			RequiredApprovals: 1, VerifyOrigin: true, RequireTrustedBuildSystem: true, AllowedBranches: []string{"main", "release/*"}}, &w.Verified},
	} {
		*p.made, err = w.CreatePolicy(ctx, w.Ada, "app", signing.PolicyEdit{
			Slug: &p.slug, Name: &p.name, Description: ptr(n.description), CertificateSlug: &p.certificate, Rules: &p.rules,
			Submitters: user(w.Sam, w.CI), Approvers: user(w.Rita),
		})
		if err != nil {
			return err
		}
	}
	for _, a := range []signing.Actor{w.Ada, w.Sam, w.Rita, w.Rob, w.Stan, w.Uwe} {
		admin := w.Ada
		if a.OrganizationID == w.Uwe.OrganizationID {
			admin = w.Uwe
		}
		code, _, err := w.auth.Invite(ctx, admin, a.UserID)
		if err != nil {
			return err
		}
		in, err := w.auth.AcceptInvitation(ctx, code, auth.SignInSetup{Password: password}, auth.Client{Address: "192.0.2." + fmt.Sprint(len(w.cookies)+1), UserAgent: "Mozilla/5.0 (X11; Linux x86_64) Firefox/140.0"})
		if err != nil {
			return err
		}
		w.cookies[a.UserID] = in.Cookie
	}
	return nil
}

var examplePE = petest.Image{Version: map[string]string{"ProductName": "Acme"}}.Bytes()

// request makes a signing request in the name of somebody and lets a worker look at it.
func (w *world) request(t testing.TB, a signing.Actor, p *signing.Policy, change ...func(*signing.Submission)) *signing.Request {
	t.Helper()
	sub := signing.Submission{Target: signing.Target{PolicyID: p.ID}, Description: "Candidate 3"}
	for _, c := range change {
		c(&sub)
	}
	if sub.Artifact == nil {
		st, err := w.Stage(t.Context(), a, "setup.exe", bytes.NewReader(examplePE))
		if err != nil {
			t.Fatal(err)
		}
		sub.Artifact = st
	}
	r, _, err := w.Submit(t.Context(), a, sub)
	if err != nil {
		t.Fatal(err)
	}
	return w.advance(t, r.ID)
}

func (w *world) advance(t testing.TB, id signing.ID) *signing.Request {
	t.Helper()
	if err := w.Advance(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	r, err := w.RequestStatus(t.Context(), w.Ada, id)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// browser is a client with cookies that does not follow redirects.
type browser struct {
	*http.Client
	w *world
}

// browser returns one in which the actor is signed in; nobody for the zero actor.
func (w *world) browser(t *testing.T, a signing.Actor) *browser {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	if a.UserID != "" {
		u, err := url.Parse(w.server.URL)
		if err != nil {
			t.Fatal(err)
		}
		jar.SetCookies(u, []*http.Cookie{{Name: sessionCookie, Value: w.cookies[a.UserID], Path: "/"}})
	}
	return &browser{&http.Client{Jar: jar, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}, w}
}

func (b *browser) do(t *testing.T, r *http.Request) *answer {
	t.Helper()
	got, err := b.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer got.Body.Close()
	body, err := io.ReadAll(got.Body)
	if err != nil {
		t.Fatal(err)
	}
	return &answer{Response: got, body: string(body)}
}

// get fetches a page.
func (b *browser) get(t *testing.T, path string, header ...string) *answer {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, b.w.server.URL+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	return b.do(t, r)
}

// post sends a form as it is, without a token of its own.
func (b *browser) post(t *testing.T, path string, form url.Values) *answer {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, b.w.server.URL+path, strings.NewReader(form.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Header.Set("Sec-Fetch-Site", "same-origin")
	return b.do(t, r)
}

// send sends a form with the token of a page that the browser loaded, and with what else the page hid in that form.
func (b *browser) send(t *testing.T, from, path string, form url.Values) *answer {
	t.Helper()
	page := b.get(t, from)
	sent := page.form(t, path)
	maps.Copy(sent, form)
	sent.Set(tokenField, page.token(t))
	return b.post(t, path, sent)
}

func cloneValues(v url.Values) url.Values {
	c := url.Values{}
	for k, list := range v {
		c[k] = append([]string(nil), list...)
	}
	return c
}

// path returns the address of a page of the actor's organization.
func (w *world) path(segments ...string) string {
	return "/Web/" + strings.Join(append([]string{string(w.Ada.OrganizationID)}, segments...), "/")
}

func (w *world) requestPath(id signing.ID, part ...string) string {
	return w.path(append([]string{"SigningRequests", string(id)}, part...)...)
}

// answer is a response with its body read.
type answer struct {
	*http.Response
	body string
}

func (a *answer) wantStatus(t *testing.T, status int) *answer {
	t.Helper()
	if a.StatusCode != status {
		t.Fatalf("%s %s: status %d, want %d; %s", a.Request.Method, a.Request.URL, a.StatusCode, status, a.text(t))
	}
	return a
}

func (a *answer) wantText(t *testing.T, texts ...string) *answer {
	t.Helper()
	got := a.text(t)
	for _, want := range texts {
		if !strings.Contains(got, want) {
			t.Errorf("%s %s: the page does not say %q:\n%s", a.Request.Method, a.Request.URL, want, got)
		}
	}
	return a
}

func (a *answer) wantNoText(t *testing.T, texts ...string) *answer {
	t.Helper()
	got := a.text(t)
	for _, bad := range texts {
		if strings.Contains(got, bad) {
			t.Errorf("%s %s: the page says %q", a.Request.Method, a.Request.URL, bad)
		}
	}
	return a
}

func (a *answer) wantRedirect(t *testing.T, to string) *answer {
	t.Helper()
	a.wantStatus(t, http.StatusSeeOther)
	if got := a.Header.Get("Location"); got != to {
		t.Errorf("%s %s: redirected to %s, want %s", a.Request.Method, a.Request.URL, got, to)
	}
	return a
}

// soon bounds what waits for something to happen.
const soon = 30 * time.Second
