package signing_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/countersign-dev/countersign/artifact/authenticode/petest"
	"github.com/countersign-dev/countersign/internal/keystore/software"
	"github.com/countersign-dev/countersign/internal/signing"
	"github.com/countersign-dev/countersign/internal/store"
	"github.com/countersign-dev/countersign/internal/store/pgtest"
)

// world is a seeded organization on a real embedded database.
type world struct {
	*signing.Service
	db    *store.DB
	blobs signing.Blobs
	clock *clock
	dir   string // of the database

	Admin, CI, Approver, Second, Stranger, Foreigner signing.Actor
	BuildSystem                                      signing.ID
}

// clock is set by hand.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

const exeConfiguration = `<artifact-configuration xmlns="http://signpath.io/artifact-configuration/v1">
  <parameters><parameter name="version" default-value="1.0"/></parameters>
  <pe-file><authenticode-sign/></pe-file>
</artifact-configuration>`

// template is a migrated and seeded installation, made once and copied for each test.
var template struct {
	once sync.Once
	dir  string
	keys *software.Memory
	w    world // actors and ids
	err  error
}

func TestMain(m *testing.M) {
	code := m.Run()
	if template.dir != "" {
		_ = os.RemoveAll(template.dir)
	}
	os.Exit(code)
}

// option changes how a world's service is made.
type option func(*signing.Config)

// newWorld returns an installation of its own.
func newWorld(t *testing.T, options ...option) *world {
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
	w, err := openWorld(t.Context(), dir, options...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := w.db.Close(); err != nil {
			t.Error(err)
		}
	})
	return w
}

func openWorld(ctx context.Context, dir string, options ...option) (*world, error) {
	w := template.w
	w.dir = dir
	w.clock = &clock{now: time.Now().UTC().Truncate(time.Microsecond)}
	var err error
	if w.db, err = store.Open(ctx, store.Config{URL: filepath.Join(dir, "db")}); err != nil {
		return nil, err
	}
	if w.blobs, err = store.OpenFileBlobs(filepath.Join(dir, "blobs")); err != nil {
		return nil, err
	}
	c, err := w.config(ctx)
	if err != nil {
		return nil, err
	}
	c.TempDir = dir
	for _, o := range options {
		o(&c)
	}
	w.Service = signing.New(c)
	return &w, nil
}

func (w *world) config(ctx context.Context) (signing.Config, error) {
	keeper, err := software.OpenKeeper(ctx, "base64key://MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=", nil)
	return signing.Config{Store: w.db, Blobs: w.blobs, Keys: software.New(keeper, template.keys), Clock: w.clock}, err
}

// another returns another server on the same installation, without this one's options.
func (w *world) another() (*signing.Service, error) {
	c, err := w.config(context.Background())
	return signing.New(c), err
}

func ptr[T any](v T) *T { return &v }

func makeTemplate() (err error) {
	ctx := context.Background()
	template.keys = software.NewMemory()
	if template.dir, err = os.MkdirTemp("", "countersign-signing-test-"); err != nil {
		return err
	}
	db, err := store.Open(ctx, store.Config{URL: filepath.Join(template.dir, "db")})
	if err != nil {
		return err
	}
	if err := errors.Join(db.Migrate(ctx), db.Close()); err != nil {
		return err
	}
	w, err := openWorld(ctx, template.dir)
	if err != nil {
		return err
	}
	if err := w.seed(ctx); err != nil {
		return errors.Join(err, w.db.Close())
	}
	template.w = world{Admin: w.Admin, CI: w.CI, Approver: w.Approver, Second: w.Second, Stranger: w.Stranger, Foreigner: w.Foreigner, BuildSystem: w.BuildSystem}
	return w.db.Close()
}

func actorOf(u *signing.User) signing.Actor {
	return signing.Actor{OrganizationID: u.OrganizationID, UserID: u.ID, Kind: u.Kind, Name: u.Name, Roles: u.Roles, Via: "test"}
}

func (w *world) seed(ctx context.Context) error {
	_, admin, err := w.Bootstrap(ctx, "Acme", "Ada", "ada@acme.example")
	if err != nil {
		return err
	}
	w.Admin = actorOf(admin)
	_, foreigner, err := w.CreateOrganization(ctx, "Umbrella", "Uwe", "uwe@umbrella.example")
	if err != nil {
		return err
	}
	w.Foreigner = actorOf(foreigner)
	for _, p := range []struct {
		kind  signing.UserKind
		name  string
		actor *signing.Actor
	}{
		{signing.CI, "ci", &w.CI}, {signing.Interactive, "approver", &w.Approver},
		{signing.Interactive, "second", &w.Second}, {signing.Interactive, "stranger", &w.Stranger},
	} {
		n := signing.NewUser{Kind: p.kind, Name: p.name}
		if p.kind == signing.Interactive {
			n.Email = p.name + "@acme.example"
		}
		u, err := w.CreateUser(ctx, w.Admin, n)
		if err != nil {
			return err
		}
		*p.actor = actorOf(u)
	}
	build, err := w.AddTrustedBuildSystem(ctx, w.Admin, signing.TrustedBuildSystemEdit{Slug: ptr("jenkins"), Name: ptr("Jenkins")})
	if err != nil {
		return err
	}
	w.BuildSystem = build.ID
	for _, slug := range []string{"test", "release"} {
		if _, err := w.CreateSelfSigned(ctx, w.Admin, signing.NewCertificate{Slug: slug, Subject: "CN=" + slug, KeyAlgorithm: "ECDSA-P256"}); err != nil {
			return err
		}
	}
	for _, slug := range []string{"app", "other"} {
		if _, err := w.CreateProject(ctx, w.Admin, signing.ProjectEdit{
			Slug: ptr(slug), Name: ptr(slug), Repositories: ptr([]string{"https://github.com/acme/app"}), TrustedBuildSystems: ptr([]signing.ID{build.ID}),
		}); err != nil {
			return err
		}
		if _, err := w.CreateConfiguration(ctx, w.Admin, slug, signing.ConfigurationEdit{Slug: ptr("exe"), Name: ptr("exe"), XML: ptr(exeConfiguration)}); err != nil {
			return err
		}
	}
	submitters := ptr([]signing.Subject{{Kind: signing.SubjectUser, ID: w.CI.UserID}})
	approvers := ptr([]signing.Subject{{Kind: signing.SubjectUser, ID: w.Approver.UserID}, {Kind: signing.SubjectUser, ID: w.Second.UserID}, {Kind: signing.SubjectUser, ID: w.CI.UserID}})
	for _, p := range []signing.PolicyEdit{
		{Slug: ptr("test-signing"), CertificateSlug: ptr("test"), Rules: &signing.PolicyRules{}},
		{Slug: ptr("release-signing"), CertificateSlug: ptr("release"), Rules: &signing.PolicyRules{RequiredApprovals: 1, SubmitterMayNotApprove: true}},
		{Slug: ptr("two-eyes"), CertificateSlug: ptr("release"), Rules: &signing.PolicyRules{RequiredApprovals: 2}},
		{Slug: ptr("verified"), CertificateSlug: ptr("release"), Rules: &signing.PolicyRules{
			VerifyOrigin: true, RequireTrustedBuildSystem: true, AllowedBranches: []string{"main", "release/*"}}},
	} {
		p.Name, p.Submitters, p.Approvers = p.Slug, submitters, approvers
		if _, err := w.CreatePolicy(ctx, w.Admin, "app", p); err != nil {
			return err
		}
	}
	_, err = w.CreatePolicy(ctx, w.Admin, "other", signing.PolicyEdit{Slug: ptr("test-signing"), Name: ptr("t"), CertificateSlug: ptr("test"), Rules: &signing.PolicyRules{}, Submitters: submitters})
	return err
}

var examplePE = petest.Image{Version: map[string]string{"ProductName": "Acme"}}.Bytes()

// stage stages a small program.
func (w *world) stage(t *testing.T, a signing.Actor) *signing.Staged {
	t.Helper()
	st, err := w.Stage(t.Context(), a, "app.exe", bytes.NewReader(examplePE))
	if err != nil {
		t.Fatal(err)
	}
	return st
}

// submit submits a small program as the CI user.
func (w *world) submit(t *testing.T, policy string, change ...func(*signing.Submission)) *signing.Request {
	t.Helper()
	return w.submitAs(t, w.CI, policy, change...)
}

func (w *world) submitAs(t *testing.T, a signing.Actor, policy string, change ...func(*signing.Submission)) *signing.Request {
	t.Helper()
	sub := signing.Submission{Target: signing.Target{ProjectSlug: "app", PolicySlug: policy}, Artifact: w.stage(t, a)}
	for _, c := range change {
		c(&sub)
	}
	r, _, err := w.Submit(t.Context(), a, sub)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// advance lets a worker look at the request once and returns its state.
func (w *world) advance(t *testing.T, id signing.ID) *signing.Request {
	t.Helper()
	if err := w.Advance(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	return w.status(t, id)
}

func (w *world) status(t *testing.T, id signing.ID) *signing.Request {
	t.Helper()
	r, err := w.RequestStatus(t.Context(), w.Admin, id)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// signed returns the signed artifact's bytes.
func (w *world) signed(t *testing.T, id signing.ID) []byte {
	t.Helper()
	d, err := w.SignedArtifact(t.Context(), w.CI, id)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Blob.Close()
	raw, err := io.ReadAll(io.NewSectionReader(d.Blob, 0, d.Blob.Size()))
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// events returns the names of the audit entries about an object, oldest first, after checking the whole chain.
func (w *world) events(t *testing.T, object signing.ID) []string {
	t.Helper()
	if _, err := w.VerifyAudit(t.Context(), w.Admin.OrganizationID); err != nil {
		t.Error(err)
	}
	return w.eventsUnchecked(t, object)
}

func wantKind(t *testing.T, err error, kind signing.Kind) {
	t.Helper()
	if signing.KindOf(err) != kind {
		t.Errorf("error %v is of kind %d, want %d", err, signing.KindOf(err), kind)
	}
}

// onBothDatabases runs a test in a world on SQLite, and in one on PostgreSQL.
func onBothDatabases(t *testing.T, test func(t *testing.T, w *world)) {
	t.Run("SQLite", func(t *testing.T) {
		t.Parallel()
		test(t, newWorld(t))
	})
	t.Run("PostgreSQL", func(t *testing.T) {
		t.Parallel()
		db := pgtest.Open(t)
		w := newWorld(t, func(c *signing.Config) { c.Store = db })
		if err := w.seed(t.Context()); err != nil {
			t.Fatal(err)
		}
		test(t, w)
	})
}
