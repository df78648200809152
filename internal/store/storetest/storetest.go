// Package storetest checks that a database keeps the contract of signing.Store, gives tests a store to work on, and
// breaks its steps on purpose.
package storetest

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/countersign-dev/countersign/internal/signing"
	"github.com/countersign-dev/countersign/internal/store"
)

// SQLite returns a new, migrated SQLite database in a temporary directory, which is closed when the test ends.
func SQLite(t testing.TB) *store.DB {
	t.Helper()
	ctx := context.Background()
	db, err := store.Open(ctx, store.Config{URL: filepath.Join(t.TempDir(), "countersign.db")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Errorf("close database: %v", err)
		}
	})
	if err := db.Migrate(ctx); err != nil {
		t.Fatal(err)
	}
	return db
}

// Run checks the contract of signing.Store on stores that open makes, each new and empty.
func Run(t *testing.T, open func(t testing.TB) signing.Store) {
	for _, c := range []struct {
		name string
		test func(t *testing.T, e *env)
	}{
		{"Organizations", testOrganizations},
		{"Users", testUsers},
		{"Groups", testGroups},
		{"TrustedBuildSystems", testTrustedBuildSystems},
		{"Tokens", testTokens},
		{"Credentials", testCredentials},
		{"Sessions", testSessions},
		{"Projects", testProjects},
		{"Configurations", testConfigurations},
		{"Policies", testPolicies},
		{"Certificates", testCertificates},
		{"Requests", testRequests},
		{"RequestLists", testRequestLists},
		{"RequestParts", testRequestParts},
		{"Webhooks", testWebhooks},
		{"Deliveries", testDeliveries},
		{"Due", testDue},
		{"Retention", testRetention},
		{"Audit", testAudit},
		{"Transactions", testTransactions},
		{"Concurrency", testConcurrency},
		{"Races", testRaces},
		{"BadText", testBadText},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			c.test(t, &env{T: t, store: open(t)})
		})
	}
}

// env runs one-line transactions that must succeed.
type env struct {
	*testing.T
	store signing.Store
}

var (
	ctx  = context.Background()
	base = time.Date(2026, 2, 3, 4, 5, 6, 789012000, time.UTC)
)

func at(d time.Duration) time.Time { return base.Add(d) }
func pointer[T any](v T) *T        { return &v }
func hash(b byte) (h [32]byte)     { h[0], h[31] = b, 1; return h }
func subject(id signing.ID) signing.Subject {
	return signing.Subject{Kind: signing.SubjectUser, ID: id}
}

// do runs a read-write transaction that must succeed.
func (e *env) do(fn func(tx signing.Tx) error) {
	e.Helper()
	if err := e.store.Tx(ctx, fn); err != nil {
		e.Fatal(err)
	}
}

// see runs a read-only transaction that must succeed.
func (e *env) see(fn func(tx signing.Tx) error) {
	e.Helper()
	if err := e.store.View(ctx, fn); err != nil {
		e.Fatal(err)
	}
}

// want runs a read-write transaction that must fail with the kind.
func (e *env) want(kind signing.Kind, fn func(tx signing.Tx) error) {
	e.Helper()
	if err := e.store.Tx(ctx, fn); signing.KindOf(err) != kind {
		e.Errorf("got kind %d (%v), want %d", signing.KindOf(err), err, kind)
	}
}

// equal compares two values.
func (e *env) equal(got, want any) {
	e.Helper()
	if d := cmp.Diff(want, got); d != "" {
		e.Errorf("difference (-want +got):\n%s", d)
	}
}

// get reads one value in a view.
func get[T any](e *env, fn func(tx signing.Tx) (T, error)) T {
	e.Helper()
	var v T
	e.see(func(tx signing.Tx) (err error) {
		v, err = fn(tx)
		return err
	})
	return v
}

// kindOf reads in a view and returns the kind of the error.
func kindOf[T any](e *env, fn func(tx signing.Tx) (T, error)) signing.Kind {
	e.Helper()
	err := e.store.View(ctx, func(tx signing.Tx) error {
		_, err := fn(tx)
		return err
	})
	if err == nil {
		return 0
	}
	if signing.KindOf(err) == 0 {
		e.Errorf("untyped error: %v", err)
	}
	return signing.KindOf(err)
}

// World is an organization with one of everything that a signing request refers to.
type World struct {
	Organization  *signing.Organization
	User          *signing.User // active, CI
	Certificate   *signing.Certificate
	Project       *signing.Project
	Configuration *signing.Configuration
	Policy        *signing.Policy
}

// NewWorld inserts an organization with one of everything that a signing request refers to.
func NewWorld(ctx context.Context, tx signing.Tx, name string, now time.Time) (*World, error) {
	w := &World{Organization: &signing.Organization{ID: signing.NewID(), Name: name, CreatedAt: now}}
	org := w.Organization.ID
	w.User = &signing.User{ID: signing.NewID(), OrganizationID: org, Kind: signing.CI, Name: "Build server",
		Roles: []signing.Role{signing.RegularUser}, Active: true, CreatedAt: now}
	w.Certificate = &signing.Certificate{ID: signing.NewID(), OrganizationID: org, Slug: "release", Name: "Release", Type: "X509",
		CreationMethod: signing.SelfSigned, Active: true, KeyStore: "software", KeyID: "key", KeyAlgorithm: "ECDSA-P256",
		Chain: [][]byte{{0x30, 0}}, Subject: "CN=Acme", Issuer: "CN=Acme", SerialNumber: "01", NotBefore: now,
		NotAfter: now.AddDate(1, 0, 0), CreatedAt: now}
	w.Project = &signing.Project{ID: signing.NewID(), OrganizationID: org, Slug: "app", Name: "App", Active: true, CreatedAt: now}
	w.Configuration = &signing.Configuration{ID: signing.NewID(), OrganizationID: org, ProjectID: w.Project.ID, Slug: "exe",
		Name: "EXE", Active: true, Latest: 1, CreatedAt: now}
	w.Policy = w.NewPolicy("release-signing", now)
	return w, errors.Join(
		tx.InsertOrganization(ctx, w.Organization), tx.InsertUser(ctx, w.User), tx.InsertCertificate(ctx, w.Certificate),
		tx.InsertProject(ctx, w.Project), tx.InsertConfiguration(ctx, w.Configuration), tx.InsertPolicy(ctx, w.Policy))
}

// NewPolicy returns another policy of the project, not yet inserted.
func (w *World) NewPolicy(slug string, now time.Time) *signing.Policy {
	return &signing.Policy{ID: signing.NewID(), OrganizationID: w.Organization.ID, ProjectID: w.Project.ID, Slug: slug, Name: slug,
		Active: true, CertificateID: w.Certificate.ID, Submitters: []signing.Subject{{Kind: signing.SubjectUser, ID: w.User.ID}},
		CreatedAt: now}
}

// NewRequest returns a request of the world's user under its policy, not yet inserted.
func (w *World) NewRequest(created time.Time) *signing.Request {
	return &signing.Request{ID: signing.NewID(), OrganizationID: w.Organization.ID, ProjectID: w.Project.ID, PolicyID: w.Policy.ID,
		ConfigurationID: w.Configuration.ID, ConfigurationVersion: 1, Workflow: signing.WorkflowSubmitted, SubmitterID: w.User.ID,
		SubmittedVia: "token csp_ab12", Unsigned: signing.Artifact{FileName: "setup.exe"}, CreatedAt: created}
}

func (e *env) world(name string) *World {
	e.Helper()
	var w *World
	e.do(func(tx signing.Tx) (err error) {
		w, err = NewWorld(ctx, tx, name, base)
		return err
	})
	return w
}

// slugs are compared without regard to case: each pair is one slug.
var sameSlugs = [][2]string{{"release", "RELEASE"}, {"Straße-ſ", "STRAßE-S"}, {"Größe", "GRÖẞE"}, {"\u212Aelvin", "kELVIN"}, {"Σίσυφος", "ΣΊΣΥΦΟΣ"}}

// checkSlugs checks that slugs that differ only in case collide on insert and on update, and are found.
func (e *env) checkSlugs(insert func(tx signing.Tx, slug string) error, find func(tx signing.Tx, slug string) error) {
	e.Helper()
	for i, pair := range sameSlugs {
		first, second := fmt.Sprintf("s%d-%s", i, pair[0]), fmt.Sprintf("S%d-%s", i, pair[1])
		e.do(func(tx signing.Tx) error { return insert(tx, first) })
		e.want(signing.KindConflict, func(tx signing.Tx) error { return insert(tx, second) })
		e.see(func(tx signing.Tx) error { return find(tx, second) })
		// A conflict is no failed statement: the transaction may go on.
		e.do(func(tx signing.Tx) error {
			if err := insert(tx, second); signing.KindOf(err) != signing.KindConflict {
				return errors.Join(errors.New("want a conflict"), err)
			}
			return find(tx, first)
		})
	}
}

// checkUpdate checks optimistic locking of an object that was just inserted: load, update, and update with the version
// of before.
func checkUpdate[T any](e *env, load func(tx signing.Tx) (*T, error), version func(*T) *int, change func(*T), update func(signing.Tx, *T) error) {
	e.Helper()
	v, stale := get(e, load), get(e, load)
	if n := *version(v); n != 1 {
		e.Errorf("inserted with version %d, want 1", n)
	}
	change(v)
	e.do(func(tx signing.Tx) error { return update(tx, v) })
	if n := *version(v); n != 2 {
		e.Errorf("the update left version %d, want 2", n)
	}
	e.equal(get(e, load), v)
	e.want(signing.KindConflict, func(tx signing.Tx) error { return update(tx, stale) })
	e.equal(get(e, load), v)
}

func testOrganizations(t *testing.T, e *env) {
	o := &signing.Organization{ID: signing.NewID(), Name: "Acme", CreatedAt: at(time.Second),
		Settings: signing.OrganizationSettings{RetentionDays: 30, AuthenticodeRootsPEM: "PEM"}}
	older := &signing.Organization{ID: signing.NewID(), Name: "Beta", CreatedAt: base}
	e.do(func(tx signing.Tx) error {
		return errors.Join(tx.InsertOrganization(ctx, o), tx.InsertOrganization(ctx, older))
	})
	load := func(tx signing.Tx) (*signing.Organization, error) { return tx.Organization(ctx, o.ID) }
	e.equal(get(e, load), o)
	e.equal(get(e, func(tx signing.Tx) ([]*signing.Organization, error) { return tx.Organizations(ctx) }),
		[]*signing.Organization{older, o})
	e.equal(kindOf(e, func(tx signing.Tx) (*signing.Organization, error) { return tx.Organization(ctx, signing.NewID()) }), signing.KindNotFound)
	e.want(signing.KindConflict, func(tx signing.Tx) error { return tx.InsertOrganization(ctx, o) })
	checkUpdate(e, load, func(o *signing.Organization) *int { return &o.Version },
		func(o *signing.Organization) { o.Name, o.Settings.RetentionDays = "Acme Ltd", 0 },
		func(tx signing.Tx, o *signing.Organization) error { return tx.UpdateOrganization(ctx, o) })
}

func testUsers(t *testing.T, e *env) {
	w, other := e.world("Acme"), e.world("Other")
	org := w.Organization.ID
	user := func(org signing.ID, name, email string) *signing.User {
		return &signing.User{ID: signing.NewID(), OrganizationID: org, Kind: signing.Interactive, Name: name, Email: email, Active: true,
			Roles: []signing.Role{signing.GlobalReader, signing.UserAdministrator}, Description: "d", CreatedAt: base,
			NotificationLevel: signing.NotifyAll}
	}
	bob, alice := user(org, "bob", "Bob@Example.com"), user(org, "Alice", "alice@example.com")
	e.do(func(tx signing.Tx) error { return errors.Join(tx.InsertUser(ctx, bob), tx.InsertUser(ctx, alice)) })
	load := func(tx signing.Tx) (*signing.User, error) { return tx.User(ctx, org, bob.ID) }
	e.equal(get(e, load), bob)
	e.equal(kindOf(e, func(tx signing.Tx) (*signing.User, error) { return tx.User(ctx, other.Organization.ID, bob.ID) }), signing.KindNotFound)
	e.equal(get(e, func(tx signing.Tx) ([]*signing.User, error) { return tx.Users(ctx, org, signing.Interactive) }), []*signing.User{alice, bob})
	e.equal(get(e, func(tx signing.Tx) ([]*signing.User, error) { return tx.Users(ctx, org, "") }), []*signing.User{alice, bob, w.User})
	active := func(org signing.ID) map[signing.ID]bool {
		found := map[signing.ID]bool{}
		for _, id := range get(e, func(tx signing.Tx) ([]signing.ID, error) { return tx.ActiveUsers(ctx, org) }) {
			found[id] = true
		}
		return found
	}
	e.equal(active(org), map[signing.ID]bool{alice.ID: true, bob.ID: true, w.User.ID: true})

	e.want(signing.KindConflict, func(tx signing.Tx) error { return tx.InsertUser(ctx, user(org, "Robert", "bOB@eXAMPLE.COM")) })
	elsewhere := user(other.Organization.ID, "Bob", "BOB@EXAMPLE.COM")
	e.do(func(tx signing.Tx) error { return tx.InsertUser(ctx, elsewhere) })
	e.equal(len(get(e, func(tx signing.Tx) ([]*signing.User, error) { return tx.UserByEmail(ctx, "bob@example.com") })), 2)
	e.equal(len(get(e, func(tx signing.Tx) ([]*signing.User, error) { return tx.UserByEmail(ctx, "nobody@example.com") })), 0)
	e.equal(len(get(e, func(tx signing.Tx) ([]*signing.User, error) { return tx.UserByEmail(ctx, "") })), 0)

	// CI users have no address: their names are unique.
	e.want(signing.KindConflict, func(tx signing.Tx) error {
		u := user(org, "BUILD SERVER", "")
		u.Kind = signing.CI
		return tx.InsertUser(ctx, u)
	})
	checkUpdate(e, load, func(u *signing.User) *int { return &u.Version },
		func(u *signing.User) {
			u.Name, u.Email, u.Roles, u.Active, u.Description = "Bobby", "bobby@example.com", nil, false, ""
			u.NotificationLevel = signing.NotifyNone
		},
		func(tx signing.Tx, u *signing.User) error { return tx.UpdateUser(ctx, u) })
	e.equal(active(org), map[signing.ID]bool{alice.ID: true, w.User.ID: true})
	e.want(signing.KindConflict, func(tx signing.Tx) error {
		u, err := tx.User(ctx, org, alice.ID)
		if err != nil {
			return err
		}
		u.Email = "BOBBY@example.com"
		return tx.UpdateUser(ctx, u)
	})
}

func testGroups(t *testing.T, e *env) {
	w, other := e.world("Acme"), e.world("Other")
	org := w.Organization.ID
	group := func(name string, members ...signing.Subject) *signing.Group {
		return &signing.Group{ID: signing.NewID(), OrganizationID: org, Name: name, Description: "d",
			Members: append([]signing.Subject{}, members...), CreatedAt: base}
	}
	nested := func(g *signing.Group) signing.Subject { return signing.Subject{Kind: signing.SubjectGroup, ID: g.ID} }
	devs := group("Developers", subject(w.User.ID))
	leads := group("leads", nested(devs), subject(signing.NewID()))
	all := group("All", nested(leads))
	lone := group("Lone")
	e.do(func(tx signing.Tx) error {
		return errors.Join(tx.InsertGroup(ctx, devs), tx.InsertGroup(ctx, leads), tx.InsertGroup(ctx, all), tx.InsertGroup(ctx, lone))
	})
	load := func(tx signing.Tx) (*signing.Group, error) { return tx.Group(ctx, org, leads.ID) }
	e.equal(get(e, load), leads)
	e.equal(get(e, func(tx signing.Tx) ([]*signing.Group, error) { return tx.Groups(ctx, org) }), []*signing.Group{all, devs, leads, lone})
	e.equal(kindOf(e, func(tx signing.Tx) (*signing.Group, error) { return tx.Group(ctx, other.Organization.ID, leads.ID) }), signing.KindNotFound)
	e.want(signing.KindConflict, func(tx signing.Tx) error { return tx.InsertGroup(ctx, group("DEVELOPERS")) })

	groupsOf := func(org signing.ID) map[signing.ID]bool {
		found := map[signing.ID]bool{}
		for _, id := range get(e, func(tx signing.Tx) ([]signing.ID, error) { return tx.GroupsOf(ctx, org, w.User.ID) }) {
			found[id] = true
		}
		return found
	}
	e.equal(groupsOf(org), map[signing.ID]bool{devs.ID: true, leads.ID: true, all.ID: true})
	e.equal(groupsOf(other.Organization.ID), map[signing.ID]bool{})
	checkUpdate(e, load, func(g *signing.Group) *int { return &g.Version },
		func(g *signing.Group) {
			g.Name, g.Members = "Leads", append([]signing.Subject{nested(all)}, g.Members...)
		}, // a cycle
		func(tx signing.Tx, g *signing.Group) error { return tx.UpdateGroup(ctx, g) })
	e.equal(groupsOf(org), map[signing.ID]bool{devs.ID: true, leads.ID: true, all.ID: true})

	e.want(signing.KindNotFound, func(tx signing.Tx) error { return tx.DeleteGroup(ctx, other.Organization.ID, leads.ID) })
	e.do(func(tx signing.Tx) error { return tx.DeleteGroup(ctx, org, leads.ID) })
	e.want(signing.KindNotFound, func(tx signing.Tx) error { return tx.DeleteGroup(ctx, org, leads.ID) })
	e.equal(groupsOf(org), map[signing.ID]bool{devs.ID: true})
	e.equal(get(e, func(tx signing.Tx) (*signing.Group, error) { return tx.Group(ctx, org, all.ID) }).Members, []signing.Subject{})
}

func testTrustedBuildSystems(t *testing.T, e *env) {
	w, other := e.world("Acme"), e.world("Other")
	org := w.Organization.ID
	system := func(slug string) *signing.TrustedBuildSystem {
		return &signing.TrustedBuildSystem{ID: signing.NewID(), OrganizationID: org, Slug: slug, Name: slug, Type: "Custom", CreatedAt: base}
	}
	s := system("Jenkins")
	e.do(func(tx signing.Tx) error { return tx.InsertTrustedBuildSystem(ctx, s) })
	load := func(tx signing.Tx) (*signing.TrustedBuildSystem, error) { return tx.TrustedBuildSystem(ctx, org, s.ID) }
	e.equal(get(e, load), s)
	e.equal(kindOf(e, func(tx signing.Tx) (*signing.TrustedBuildSystem, error) {
		return tx.TrustedBuildSystem(ctx, other.Organization.ID, s.ID)
	}), signing.KindNotFound)
	e.equal(kindOf(e, func(tx signing.Tx) (*signing.TrustedBuildSystem, error) {
		return tx.TrustedBuildSystemBySlug(ctx, other.Organization.ID, s.Slug)
	}), signing.KindNotFound)
	checkUpdate(e, load, func(s *signing.TrustedBuildSystem) *int { return &s.Version },
		func(s *signing.TrustedBuildSystem) {
			s.Name, s.Slug, s.Type, s.BuildHost = "Main", "main", "Jenkins", "ci.example"
		},
		func(tx signing.Tx, s *signing.TrustedBuildSystem) error { return tx.UpdateTrustedBuildSystem(ctx, s) })
	e.checkSlugs(func(tx signing.Tx, slug string) error { return tx.InsertTrustedBuildSystem(ctx, system(slug)) },
		func(tx signing.Tx, slug string) error {
			_, err := tx.TrustedBuildSystemBySlug(ctx, org, slug)
			return err
		})
	e.equal(len(get(e, func(tx signing.Tx) ([]*signing.TrustedBuildSystem, error) { return tx.TrustedBuildSystems(ctx, org) })), 1+len(sameSlugs))

	e.do(func(tx signing.Tx) error {
		return tx.InsertToken(ctx, &signing.APIToken{ID: signing.NewID(), OrganizationID: org, Kind: signing.BuildSystemToken, OwnerID: s.ID, Hash: [32]byte{1}, CreatedAt: base})
	})
	e.want(signing.KindNotFound, func(tx signing.Tx) error { return tx.DeleteTrustedBuildSystem(ctx, other.Organization.ID, s.ID) })
	e.equal(len(get(e, func(tx signing.Tx) ([]*signing.APIToken, error) { return tx.Tokens(ctx, org, s.ID) })), 1)
	e.do(func(tx signing.Tx) error { return tx.DeleteTrustedBuildSystem(ctx, org, s.ID) })
	e.want(signing.KindNotFound, func(tx signing.Tx) error { return tx.DeleteTrustedBuildSystem(ctx, org, s.ID) })
	e.equal(kindOf(e, load), signing.KindNotFound)
	e.equal(len(get(e, func(tx signing.Tx) ([]*signing.APIToken, error) { return tx.Tokens(ctx, org, s.ID) })), 0)
}

func testTokens(t *testing.T, e *env) {
	w, other := e.world("Acme"), e.world("Other")
	org := w.Organization.ID
	token := func(b byte, created time.Time) *signing.APIToken {
		return &signing.APIToken{ID: signing.NewID(), OrganizationID: org, Kind: signing.UserToken, OwnerID: w.User.ID, Name: "ci",
			Prefix: "csp_ab12", Hash: hash(b), CreatedAt: created, ExpiresAt: pointer(at(time.Hour))}
	}
	a, b := token(1, base), token(2, at(time.Second))
	e.do(func(tx signing.Tx) error { return errors.Join(tx.InsertToken(ctx, a), tx.InsertToken(ctx, b)) })
	e.equal(get(e, func(tx signing.Tx) (*signing.APIToken, error) { return tx.TokenByHash(ctx, hash(1)) }), a)
	e.equal(kindOf(e, func(tx signing.Tx) (*signing.APIToken, error) { return tx.TokenByHash(ctx, hash(9)) }), signing.KindNotFound)
	tokens := func(tx signing.Tx) ([]*signing.APIToken, error) { return tx.Tokens(ctx, org, w.User.ID) }
	e.equal(get(e, tokens), []*signing.APIToken{b, a})
	e.want(signing.KindConflict, func(tx signing.Tx) error { return tx.InsertToken(ctx, token(1, base)) })
	e.want(signing.KindNotFound, func(tx signing.Tx) error { return tx.RevokeToken(ctx, other.Organization.ID, a.ID, base) })
	e.do(func(tx signing.Tx) error {
		return errors.Join(tx.RevokeToken(ctx, org, a.ID, at(time.Minute)), tx.RevokeToken(ctx, org, a.ID, at(time.Hour)),
			tx.TouchToken(ctx, b.ID, at(2*time.Minute)))
	})
	a.RevokedAt, b.LastUsedAt = pointer(at(time.Minute)), pointer(at(2*time.Minute))
	e.equal(get(e, tokens), []*signing.APIToken{b, a})
}

func testCredentials(t *testing.T, e *env) {
	w := e.world("Acme")
	c := &signing.Credential{UserID: w.User.ID, PasswordHash: "$argon2id$", UpdatedAt: base}
	load := func(tx signing.Tx) (*signing.Credential, error) { return tx.Credential(ctx, w.User.ID) }
	e.equal(kindOf(e, load), signing.KindNotFound)
	e.do(func(tx signing.Tx) error { return tx.PutCredential(ctx, c) })
	e.equal(get(e, load), c)
	c.PasswordHash, c.Passkeys, c.UpdatedAt = "", []byte(`[1]`), at(time.Second)
	e.do(func(tx signing.Tx) error { return tx.PutCredential(ctx, c) })
	e.equal(get(e, load), c)
	e.want(signing.KindInvalid, func(tx signing.Tx) error {
		return tx.PutCredential(ctx, &signing.Credential{UserID: signing.NewID(), UpdatedAt: base})
	})

	i := &signing.Invitation{Hash: hash(1), OrganizationID: w.Organization.ID, UserID: w.User.ID, ExpiresAt: at(time.Hour)}
	e.do(func(tx signing.Tx) error { return tx.InsertInvitation(ctx, i) })
	e.equal(get(e, func(tx signing.Tx) (*signing.Invitation, error) { return tx.InvitationByHash(ctx, hash(1)) }), i)
	e.equal(kindOf(e, func(tx signing.Tx) (*signing.Invitation, error) { return tx.InvitationByHash(ctx, hash(2)) }), signing.KindNotFound)
	e.want(signing.KindNotFound, func(tx signing.Tx) error { return tx.UseInvitation(ctx, hash(2), base) })
	e.do(func(tx signing.Tx) error { return tx.UseInvitation(ctx, hash(1), at(time.Second)) })
	e.want(signing.KindConflict, func(tx signing.Tx) error { return tx.UseInvitation(ctx, hash(1), at(time.Minute)) })
	i.UsedAt = pointer(at(time.Second))
	e.equal(get(e, func(tx signing.Tx) (*signing.Invitation, error) { return tx.InvitationByHash(ctx, hash(1)) }), i)
	invitations := func(tx signing.Tx) ([]*signing.Invitation, error) { return tx.InvitationsOf(ctx, w.User.ID) }
	e.equal(get(e, invitations), []*signing.Invitation{i})
	e.do(func(tx signing.Tx) error { return tx.DeleteInvitationsOf(ctx, signing.NewID()) })
	e.want(signing.KindConflict, func(tx signing.Tx) error { return tx.UseInvitation(ctx, hash(1), base) })
	e.do(func(tx signing.Tx) error { return tx.DeleteInvitationsOf(ctx, w.User.ID) })
	e.equal(get(e, invitations), []*signing.Invitation(nil))
	e.want(signing.KindNotFound, func(tx signing.Tx) error { return tx.UseInvitation(ctx, hash(1), base) })
}

func testSessions(t *testing.T, e *env) {
	w := e.world("Acme")
	session := func(b byte, seen time.Duration) *signing.Session {
		return &signing.Session{Hash: hash(b), OrganizationID: w.Organization.ID, UserID: w.User.ID, CreatedAt: base, LastSeenAt: at(seen),
			ExpiresAt: at(time.Duration(b) * time.Hour), UserAgent: "Firefox", Address: "::1"}
	}
	a, b, c := session(1, 1), session(2, 3*time.Second), session(3, 2*time.Second)
	e.do(func(tx signing.Tx) error {
		return errors.Join(tx.InsertSession(ctx, a), tx.InsertSession(ctx, b), tx.InsertSession(ctx, c))
	})
	e.equal(get(e, func(tx signing.Tx) (*signing.Session, error) { return tx.SessionByHash(ctx, hash(2)) }), b)
	sessions := func(tx signing.Tx) ([]*signing.Session, error) { return tx.Sessions(ctx, w.User.ID) }
	a.LastSeenAt = at(time.Minute)
	e.do(func(tx signing.Tx) error { return tx.TouchSession(ctx, hash(1), a.LastSeenAt) })
	e.equal(get(e, sessions), []*signing.Session{a, b, c})
	e.do(func(tx signing.Tx) error { return tx.DeleteExpiredSessions(ctx, at(time.Hour)) })
	e.equal(get(e, sessions), []*signing.Session{b, c})
	e.do(func(tx signing.Tx) error { return tx.DeleteSession(ctx, hash(2)) })
	e.equal(kindOf(e, func(tx signing.Tx) (*signing.Session, error) { return tx.SessionByHash(ctx, hash(2)) }), signing.KindNotFound)
	e.want(signing.KindNotFound, func(tx signing.Tx) error { return tx.DeleteSession(ctx, hash(2)) })
	e.do(func(tx signing.Tx) error { return tx.DeleteSessionsOf(ctx, w.User.ID) })
	e.equal(len(get(e, sessions)), 0)
}

func testProjects(t *testing.T, e *env) {
	w, other := e.world("Acme"), e.world("Other")
	org := w.Organization.ID
	project := func(slug string) *signing.Project {
		return &signing.Project{ID: signing.NewID(), OrganizationID: org, Slug: slug, Name: slug, Description: "ä", Active: true,
			Repositories: []string{"https://github.com/acme/app"}, Readers: []signing.Subject{subject(w.User.ID)},
			TrustedBuildSystems: []signing.ID{signing.NewID()}, CreatedAt: base}
	}
	p := project("aaa")
	e.do(func(tx signing.Tx) error { return tx.InsertProject(ctx, p) })
	load := func(tx signing.Tx) (*signing.Project, error) { return tx.Project(ctx, org, p.ID) }
	e.equal(get(e, load), p)
	e.equal(get(e, func(tx signing.Tx) ([]*signing.Project, error) { return tx.Projects(ctx, org) }), []*signing.Project{p, w.Project})
	e.equal(kindOf(e, func(tx signing.Tx) (*signing.Project, error) { return tx.Project(ctx, other.Organization.ID, p.ID) }), signing.KindNotFound)
	e.equal(kindOf(e, func(tx signing.Tx) (*signing.Project, error) {
		return tx.ProjectBySlug(ctx, other.Organization.ID, p.Slug)
	}), signing.KindNotFound)
	checkUpdate(e, load, func(p *signing.Project) *int { return &p.Version },
		func(p *signing.Project) {
			p.Slug, p.Name, p.Active, p.Repositories, p.Readers = "bbb", "B", false, nil, nil
			p.Configurators, p.DefaultConfigurationID = []signing.Subject{{Kind: signing.SubjectGroup, ID: signing.NewID()}}, w.Configuration.ID
		},
		func(tx signing.Tx, p *signing.Project) error { return tx.UpdateProject(ctx, p) })
	e.want(signing.KindConflict, func(tx signing.Tx) error {
		p, err := tx.Project(ctx, org, w.Project.ID)
		if err != nil {
			return err
		}
		p.Slug = "BBB"
		return tx.UpdateProject(ctx, p)
	})
	e.checkSlugs(func(tx signing.Tx, slug string) error { return tx.InsertProject(ctx, project(slug)) },
		func(tx signing.Tx, slug string) error {
			_, err := tx.ProjectBySlug(ctx, org, slug)
			return err
		})
}

func testConfigurations(t *testing.T, e *env) {
	w, other := e.world("Acme"), e.world("Other")
	org := w.Organization.ID
	configuration := func(slug string) *signing.Configuration {
		return &signing.Configuration{ID: signing.NewID(), OrganizationID: org, ProjectID: w.Project.ID, Slug: slug, Name: slug, Active: true,
			Latest: 1, CreatedAt: base}
	}
	c := configuration("aaa")
	e.do(func(tx signing.Tx) error { return tx.InsertConfiguration(ctx, c) })
	load := func(tx signing.Tx) (*signing.Configuration, error) { return tx.Configuration(ctx, org, c.ID) }
	e.equal(get(e, load), c)
	e.equal(get(e, func(tx signing.Tx) ([]*signing.Configuration, error) {
		return tx.Configurations(ctx, org, w.Project.ID)
	}),
		[]*signing.Configuration{c, w.Configuration})
	e.equal(get(e, func(tx signing.Tx) ([]*signing.Configuration, error) { return tx.Configurations(ctx, org, "") }),
		[]*signing.Configuration{c, w.Configuration})
	e.equal(len(get(e, func(tx signing.Tx) ([]*signing.Configuration, error) {
		return tx.Configurations(ctx, other.Organization.ID, w.Project.ID)
	})), 0)
	e.equal(kindOf(e, func(tx signing.Tx) (*signing.Configuration, error) {
		return tx.ConfigurationBySlug(ctx, other.Organization.ID, w.Project.ID, c.Slug)
	}), signing.KindNotFound)
	checkUpdate(e, load, func(c *signing.Configuration) *int { return &c.Version },
		func(c *signing.Configuration) { c.Name, c.Slug, c.Latest, c.Active = "B", "bbb", 2, false },
		func(tx signing.Tx, c *signing.Configuration) error { return tx.UpdateConfiguration(ctx, c) })
	e.checkSlugs(func(tx signing.Tx, slug string) error { return tx.InsertConfiguration(ctx, configuration(slug)) },
		func(tx signing.Tx, slug string) error {
			_, err := tx.ConfigurationBySlug(ctx, org, w.Project.ID, slug)
			return err
		})

	version := func(n int) *signing.ConfigurationVersion {
		return &signing.ConfigurationVersion{ConfigurationID: c.ID, Number: n, XML: fmt.Sprintf("<v%d/>", n), CreatedAt: base, CreatedBy: w.User.ID}
	}
	listed := func(n int) *signing.ConfigurationVersion {
		v := version(n)
		v.XML = ""
		return v
	}
	e.do(func(tx signing.Tx) error {
		return errors.Join(tx.InsertConfigurationVersion(ctx, version(1)), tx.InsertConfigurationVersion(ctx, version(2)))
	})
	e.want(signing.KindConflict, func(tx signing.Tx) error { return tx.InsertConfigurationVersion(ctx, version(2)) })
	e.equal(get(e, func(tx signing.Tx) (*signing.ConfigurationVersion, error) {
		return tx.ConfigurationVersion(ctx, org, c.ID, 1)
	}), version(1))
	e.equal(get(e, func(tx signing.Tx) ([]*signing.ConfigurationVersion, error) {
		return tx.ConfigurationVersions(ctx, org, c.ID)
	}),
		[]*signing.ConfigurationVersion{listed(2), listed(1)})
	e.equal(kindOf(e, func(tx signing.Tx) (*signing.ConfigurationVersion, error) {
		return tx.ConfigurationVersion(ctx, other.Organization.ID, c.ID, 1)
	}), signing.KindNotFound)
}

func testPolicies(t *testing.T, e *env) {
	w, other := e.world("Acme"), e.world("Other")
	org := w.Organization.ID
	p := w.NewPolicy("aaa", base)
	p.Rules = signing.PolicyRules{RequiredApprovals: 2, AllowedBranches: []string{"release/*"}, VerifyOrigin: true}
	e.do(func(tx signing.Tx) error { return tx.InsertPolicy(ctx, p) })
	load := func(tx signing.Tx) (*signing.Policy, error) { return tx.Policy(ctx, org, p.ID) }
	e.equal(get(e, load), p)
	policies := func(f signing.PolicyFilter) []*signing.Policy {
		return get(e, func(tx signing.Tx) ([]*signing.Policy, error) { return tx.Policies(ctx, org, f) })
	}
	e.equal(policies(signing.PolicyFilter{}), []*signing.Policy{p, w.Policy})
	e.equal(policies(signing.PolicyFilter{ProjectID: w.Project.ID, CertificateID: w.Certificate.ID}), []*signing.Policy{p, w.Policy})
	e.equal(len(policies(signing.PolicyFilter{ProjectID: other.Project.ID})), 0)
	e.equal(len(policies(signing.PolicyFilter{CertificateID: signing.NewID()})), 0)
	e.equal(kindOf(e, func(tx signing.Tx) (*signing.Policy, error) { return tx.Policy(ctx, other.Organization.ID, p.ID) }), signing.KindNotFound)
	e.equal(kindOf(e, func(tx signing.Tx) (*signing.Policy, error) {
		return tx.PolicyBySlug(ctx, other.Organization.ID, w.Project.ID, p.Slug)
	}), signing.KindNotFound)
	checkUpdate(e, load, func(p *signing.Policy) *int { return &p.Version },
		func(p *signing.Policy) {
			p.Slug, p.Active, p.Rules, p.Approvers, p.Submitters, p.ApprovalVersion = "bbb", false, signing.PolicyRules{}, p.Submitters, nil, 7
		},
		func(tx signing.Tx, p *signing.Policy) error { return tx.UpdatePolicy(ctx, p) })
	e.want(signing.KindInvalid, func(tx signing.Tx) error {
		p := w.NewPolicy("unknown-certificate", base)
		p.CertificateID = signing.NewID()
		return tx.InsertPolicy(ctx, p)
	})
	e.checkSlugs(func(tx signing.Tx, slug string) error { return tx.InsertPolicy(ctx, w.NewPolicy(slug, base)) },
		func(tx signing.Tx, slug string) error {
			_, err := tx.PolicyBySlug(ctx, org, w.Project.ID, slug)
			return err
		})
}

func testCertificates(t *testing.T, e *env) {
	w, other := e.world("Acme"), e.world("Other")
	org := w.Organization.ID
	c := w.Certificate
	load := func(tx signing.Tx) (*signing.Certificate, error) { return tx.Certificate(ctx, org, c.ID) }
	e.equal(get(e, load), c)
	e.equal(kindOf(e, func(tx signing.Tx) (*signing.Certificate, error) {
		return tx.Certificate(ctx, other.Organization.ID, c.ID)
	}), signing.KindNotFound)
	checkUpdate(e, load, func(c *signing.Certificate) *int { return &c.Version },
		func(c *signing.Certificate) {
			c.Chain, c.CSR, c.NotBefore, c.NotAfter = nil, []byte{0x30}, time.Time{}.UTC(), time.Time{}.UTC()
			c.Restrictions.MinimumApprovals, c.Active, c.Slug = 2, false, "zzz"
			c.KeyID, c.KeyDeletedAt = "", pointer(at(time.Minute))
		},
		func(tx signing.Tx, c *signing.Certificate) error { return tx.UpdateCertificate(ctx, c) })
	certificate := func(slug string) *signing.Certificate {
		copied := *w.Certificate
		copied.ID, copied.Slug, copied.Name = signing.NewID(), slug, slug
		return &copied
	}
	e.checkSlugs(func(tx signing.Tx, slug string) error { return tx.InsertCertificate(ctx, certificate(slug)) },
		func(tx signing.Tx, slug string) error {
			_, err := tx.CertificateBySlug(ctx, org, slug)
			return err
		})
	e.equal(len(get(e, func(tx signing.Tx) ([]*signing.Certificate, error) { return tx.Certificates(ctx, org) })), 1+len(sameSlugs))

	granted := func(tx signing.Tx) (bool, error) { return tx.CertificateGranted(ctx, c.ID) }
	e.equal(get(e, granted), false)
	r := w.NewRequest(base)
	e.do(func(tx signing.Tx) error {
		return errors.Join(tx.InsertRequest(ctx, r), tx.InsertGrant(ctx, &signing.GrantRecord{ID: signing.NewID(), RequestID: r.ID, CertificateID: c.ID, IssuedAt: base}))
	})
	e.equal(get(e, granted), true)
	unused := certificate("unused")
	e.do(func(tx signing.Tx) error { return tx.InsertCertificate(ctx, unused) })
	remove := func(org, id signing.ID) func(signing.Tx) error {
		return func(tx signing.Tx) error { return tx.DeleteCertificate(ctx, org, id) }
	}
	e.want(signing.KindNotFound, remove(other.Organization.ID, unused.ID))
	e.do(remove(org, unused.ID))
	e.want(signing.KindNotFound, remove(org, unused.ID))
	e.want(signing.KindInvalid, remove(org, c.ID)) // a policy and a grant refer to it
}
