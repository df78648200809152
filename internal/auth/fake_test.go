package auth

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/countersign-dev/countersign/internal/audit"
	"github.com/countersign-dev/countersign/internal/signing"
)

// fakeStore keeps the contract of signing.Store in memory and is strict about the callers' side of it: it runs every
// read-write transaction twice, first on a copy that is thrown away, as after a conflict; it fails a test that writes in a
// View, uses a transaction after its end, or writes after AppendAudit.
type fakeStore struct {
	t     testing.TB
	mu    sync.Mutex
	state state
	views atomic.Int64
	txs   atomic.Int64
	fail  atomic.Pointer[error] // when set, every transaction fails with it
	held  chan chan struct{}    // when set, the next View waits, having read, for the channel in it to be closed
}

type state struct {
	orgs        map[signing.ID]signing.Organization
	users       map[signing.ID]signing.User
	groups      map[signing.ID][]signing.ID // by user
	systems     map[signing.ID]signing.TrustedBuildSystem
	tokens      map[signing.ID]signing.APIToken
	creds       map[signing.ID]signing.Credential
	invitations map[[32]byte]signing.Invitation
	sessions    map[[32]byte]signing.Session
	policies    []signing.Policy
	audit       []audit.Entry
}

func (s state) clone() state {
	return state{
		orgs: maps.Clone(s.orgs), users: maps.Clone(s.users), groups: maps.Clone(s.groups), systems: maps.Clone(s.systems),
		tokens: maps.Clone(s.tokens), creds: maps.Clone(s.creds), invitations: maps.Clone(s.invitations),
		sessions: maps.Clone(s.sessions), policies: slices.Clone(s.policies), audit: slices.Clone(s.audit),
	}
}

func newFakeStore(t testing.TB) *fakeStore {
	return &fakeStore{t: t, state: state{
		orgs: map[signing.ID]signing.Organization{}, users: map[signing.ID]signing.User{}, groups: map[signing.ID][]signing.ID{},
		systems: map[signing.ID]signing.TrustedBuildSystem{}, tokens: map[signing.ID]signing.APIToken{},
		creds: map[signing.ID]signing.Credential{}, invitations: map[[32]byte]signing.Invitation{}, sessions: map[[32]byte]signing.Session{},
	}}
}

func (f *fakeStore) Tx(ctx context.Context, fn func(signing.Tx) error) error {
	f.txs.Add(1)
	if err := ctx.Err(); err != nil { // as a database would
		return err
	}
	if err := f.fail.Load(); err != nil {
		return *err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, commit := range []bool{false, true} {
		copied := f.state.clone()
		tx := &fakeTx{store: f, state: &copied, write: true}
		err := fn(tx)
		tx.ended = true
		if commit {
			if err == nil {
				f.state = copied
			}
			return err
		}
	}
	panic("unreachable")
}

func (f *fakeStore) View(ctx context.Context, fn func(signing.Tx) error) error {
	f.views.Add(1)
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := f.fail.Load(); err != nil {
		return *err
	}
	f.mu.Lock()
	tx := &fakeTx{store: f, state: &f.state}
	err := fn(tx)
	tx.ended = true
	f.mu.Unlock()
	select {
	case release := <-f.held:
		<-release
	default:
	}
	return err
}

// edit changes the state as another process would.
func (f *fakeStore) edit(fn func(*state)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	fn(&f.state)
}

func (f *fakeStore) snapshot() state {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.state.clone()
}

// events returns the names of the audit entries so far.
func (f *fakeStore) events() (names []string) {
	for _, e := range f.snapshot().audit {
		names = append(names, e.Event)
	}
	return names
}

type fakeTx struct {
	signing.Tx // the methods that this package has no business with: calling one panics
	store      *fakeStore
	state      *state
	write      bool
	ended      bool
	recorded   bool
}

func (x *fakeTx) reads() {
	if x.ended {
		x.store.t.Error("transaction used after its end")
	}
}

func (x *fakeTx) writes() {
	x.reads()
	if !x.write {
		x.store.t.Error("write in a View")
	}
	if x.recorded {
		x.store.t.Error("write after AppendAudit")
	}
}

func notFound(what string) error { return signing.Errorf(signing.KindNotFound, "no such %s", what) }

func (x *fakeTx) Organization(_ context.Context, id signing.ID) (*signing.Organization, error) {
	x.reads()
	if o, ok := x.state.orgs[id]; ok {
		return &o, nil
	}
	return nil, notFound("organization")
}

func (x *fakeTx) User(_ context.Context, org, id signing.ID) (*signing.User, error) {
	x.reads()
	if u, ok := x.state.users[id]; ok && u.OrganizationID == org {
		return &u, nil
	}
	return nil, notFound("user")
}

func (x *fakeTx) UserByEmail(_ context.Context, email string) (found []*signing.User, _ error) {
	x.reads()
	for _, u := range x.state.users {
		if u.Email != "" && strings.EqualFold(u.Email, email) {
			found = append(found, &u)
		}
	}
	slices.SortFunc(found, func(a, b *signing.User) int { return strings.Compare(string(a.ID), string(b.ID)) })
	return found, nil
}

func (x *fakeTx) GroupsOf(_ context.Context, org, user signing.ID) ([]signing.ID, error) {
	x.reads()
	return slices.Clone(x.state.groups[user]), nil
}

func (x *fakeTx) TrustedBuildSystem(_ context.Context, org, id signing.ID) (*signing.TrustedBuildSystem, error) {
	x.reads()
	if b, ok := x.state.systems[id]; ok && b.OrganizationID == org {
		return &b, nil
	}
	return nil, notFound("trusted build system")
}

func (x *fakeTx) TokenByHash(_ context.Context, hash [32]byte) (*signing.APIToken, error) {
	x.reads()
	for _, t := range x.state.tokens {
		if t.Hash == hash {
			return &t, nil
		}
	}
	return nil, notFound("token")
}

func (x *fakeTx) Tokens(_ context.Context, org, owner signing.ID) (found []*signing.APIToken, _ error) {
	x.reads()
	for _, t := range x.state.tokens {
		if t.OrganizationID == org && t.OwnerID == owner {
			found = append(found, &t)
		}
	}
	slices.SortFunc(found, func(a, b *signing.APIToken) int { return strings.Compare(string(b.ID), string(a.ID)) })
	return found, nil
}

func (x *fakeTx) InsertToken(ctx context.Context, t *signing.APIToken) error {
	x.writes()
	if _, err := x.TokenByHash(ctx, t.Hash); err == nil {
		return signing.Errorf(signing.KindConflict, "token exists")
	}
	x.state.tokens[t.ID] = *t
	return nil
}

func (x *fakeTx) RevokeToken(_ context.Context, org, id signing.ID, at time.Time) error {
	x.writes()
	t, ok := x.state.tokens[id]
	if !ok || t.OrganizationID != org {
		return notFound("token")
	}
	t.RevokedAt = &at
	x.state.tokens[id] = t
	return nil
}

func (x *fakeTx) TouchToken(_ context.Context, id signing.ID, at time.Time) error {
	x.writes()
	t, ok := x.state.tokens[id]
	if !ok {
		return notFound("token")
	}
	t.LastUsedAt = &at
	x.state.tokens[id] = t
	return nil
}

func (x *fakeTx) LockOrganization(context.Context, signing.ID) error {
	if !x.write {
		x.store.t.Error("lock outside of a read-write transaction")
	}
	return nil // one transaction runs at a time
}

func (x *fakeTx) Credential(_ context.Context, user signing.ID) (*signing.Credential, error) {
	x.reads()
	if c, ok := x.state.creds[user]; ok {
		return &c, nil
	}
	return nil, notFound("credential")
}

func (x *fakeTx) PutCredential(_ context.Context, c *signing.Credential) error {
	x.writes()
	if c.UpdatedAt.IsZero() {
		x.store.t.Error("credential without UpdatedAt")
	}
	x.state.creds[c.UserID] = *c
	return nil
}

func (x *fakeTx) InvitationByHash(_ context.Context, hash [32]byte) (*signing.Invitation, error) {
	x.reads()
	if i, ok := x.state.invitations[hash]; ok {
		return &i, nil
	}
	return nil, notFound("invitation")
}

func (x *fakeTx) InsertInvitation(_ context.Context, i *signing.Invitation) error {
	x.writes()
	x.state.invitations[i.Hash] = *i
	return nil
}

func (x *fakeTx) UseInvitation(_ context.Context, hash [32]byte, at time.Time) error {
	x.writes()
	i, ok := x.state.invitations[hash]
	if !ok {
		return notFound("invitation")
	}
	if i.UsedAt != nil {
		return signing.Errorf(signing.KindConflict, "used")
	}
	i.UsedAt = &at
	x.state.invitations[hash] = i
	return nil
}

func (x *fakeTx) InvitationsOf(_ context.Context, user signing.ID) (found []*signing.Invitation, _ error) {
	x.reads()
	for _, i := range x.state.invitations {
		if i.UserID == user {
			found = append(found, &i)
		}
	}
	return found, nil
}

func (x *fakeTx) DeleteInvitationsOf(_ context.Context, user signing.ID) error {
	x.writes()
	maps.DeleteFunc(x.state.invitations, func(_ [32]byte, i signing.Invitation) bool { return i.UserID == user })
	return nil
}

func (x *fakeTx) Policies(_ context.Context, org signing.ID, _ signing.PolicyFilter) (found []*signing.Policy, _ error) {
	x.reads()
	for _, p := range x.state.policies {
		if p.OrganizationID == org {
			found = append(found, &p)
		}
	}
	return found, nil
}

func (x *fakeTx) SessionByHash(_ context.Context, hash [32]byte) (*signing.Session, error) {
	x.reads()
	if e, ok := x.state.sessions[hash]; ok {
		return &e, nil
	}
	return nil, notFound("session")
}

func (x *fakeTx) Sessions(_ context.Context, user signing.ID) (found []*signing.Session, _ error) {
	x.reads()
	for _, e := range x.state.sessions {
		if e.UserID == user {
			found = append(found, &e)
		}
	}
	slices.SortFunc(found, func(a, b *signing.Session) int { return b.LastSeenAt.Compare(a.LastSeenAt) })
	return found, nil
}

func (x *fakeTx) InsertSession(_ context.Context, e *signing.Session) error {
	x.writes()
	x.state.sessions[e.Hash] = *e
	return nil
}

func (x *fakeTx) TouchSession(_ context.Context, hash [32]byte, at time.Time) error {
	x.writes()
	e, ok := x.state.sessions[hash]
	if !ok {
		return notFound("session")
	}
	e.LastSeenAt = at
	x.state.sessions[hash] = e
	return nil
}

func (x *fakeTx) DeleteSession(_ context.Context, hash [32]byte) error {
	x.writes()
	if _, ok := x.state.sessions[hash]; !ok {
		return notFound("session")
	}
	delete(x.state.sessions, hash)
	return nil
}

func (x *fakeTx) DeleteSessionsOf(_ context.Context, user signing.ID) error {
	x.writes()
	maps.DeleteFunc(x.state.sessions, func(_ [32]byte, e signing.Session) bool { return e.UserID == user })
	return nil
}

func (x *fakeTx) DeleteExpiredSessions(_ context.Context, now time.Time) error {
	x.writes()
	maps.DeleteFunc(x.state.sessions, func(_ [32]byte, e signing.Session) bool { return !now.Before(e.ExpiresAt) })
	return nil
}

func (x *fakeTx) AppendAudit(_ context.Context, e *audit.Entry) error {
	x.writes()
	x.recorded = true
	x.state.audit = append(x.state.audit, *e)
	return nil
}

// world is a service on a fake store with two organizations and their people.
type world struct {
	testing.TB
	*Service
	store *fakeStore
	log   *bytes.Buffer

	org, foreign              signing.ID
	admin, userAdmin, regular *signing.User // interactive users of org
	reader, ci                *signing.User
	stranger, strangeCI       *signing.User // of foreign; stranger has regular's e-mail address
	system, strangeSystem     signing.ID    // trusted build systems
	group                     signing.ID    // regular and ci are in it
}

// lightHashing keeps tests fast; TestDefaultHashing shows the real one.
var lightHashing = Hashing{MemoryKiB: 64, Passes: 1, Lanes: 1}

func newWorld(t testing.TB, change ...func(*Config)) *world {
	t.Helper()
	w := &world{TB: t, store: newFakeStore(t), log: &bytes.Buffer{}, org: signing.NewID(), foreign: signing.NewID(), group: signing.NewID()}
	add := func(org signing.ID, kind signing.UserKind, name, email string, roles ...signing.Role) *signing.User {
		u := signing.User{ID: signing.NewID(), OrganizationID: org, Kind: kind, Name: name, Email: email, Roles: roles, Active: true}
		w.store.state.users[u.ID] = u
		return &u
	}
	w.store.state.orgs[w.org] = signing.Organization{ID: w.org, Name: "Acme"}
	w.store.state.orgs[w.foreign] = signing.Organization{ID: w.foreign, Name: "Zeta"}
	w.admin = add(w.org, signing.Interactive, "Ada Admin", "ada@acme.example", signing.GlobalAdministrator)
	w.userAdmin = add(w.org, signing.Interactive, "Ursula", "ursula@acme.example", signing.UserAdministrator)
	w.regular = add(w.org, signing.Interactive, "Rita Regular", "rita@acme.example", signing.RegularUser)
	w.reader = add(w.org, signing.Interactive, "Gil", "gil@acme.example", signing.GlobalReader)
	w.ci = add(w.org, signing.CI, "Jenkins", "")
	w.stranger = add(w.foreign, signing.Interactive, "Rita Elsewhere", "Rita@acme.example", signing.GlobalAdministrator)
	w.strangeCI = add(w.foreign, signing.CI, "Runner", "")
	w.store.state.groups[w.regular.ID] = []signing.ID{w.group}
	w.store.state.groups[w.ci.ID] = []signing.ID{w.group}
	for _, s := range []struct {
		id  *signing.ID
		org signing.ID
	}{{&w.system, w.org}, {&w.strangeSystem, w.foreign}} {
		*s.id = signing.NewID()
		w.store.state.systems[*s.id] = signing.TrustedBuildSystem{ID: *s.id, OrganizationID: s.org, Name: "Build farm"}
	}
	c := Config{
		Store: w.store, Key: bytes.Repeat([]byte{7}, 32), Origins: []string{"https://sign.example.com"}, Hashing: lightHashing,
		Log: slog.New(slog.NewJSONHandler(w.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
	}
	for _, f := range change {
		f(&c)
	}
	s, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	w.Service = s
	t.Cleanup(func() {
		if err := s.Close(context.Background()); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return w
}

// actor returns a user as an actor.
func (w *world) actor(u *signing.User) signing.Actor {
	return signing.Actor{OrganizationID: u.OrganizationID, UserID: u.ID, Kind: u.Kind, Name: u.Name, Roles: u.Roles, Groups: w.store.snapshot().groups[u.ID], Via: viaSession}
}

// issue issues a token, as who may do so.
func (w *world) issue(kind signing.TokenKind, owner signing.ID, o TokenOptions) (string, *signing.APIToken) {
	w.Helper()
	by := w.actor(w.admin)
	if owner == w.strangeCI.ID || owner == w.stranger.ID || owner == w.strangeSystem {
		by = w.actor(w.stranger)
	}
	if u, ok := w.store.snapshot().users[owner]; ok && u.Kind == signing.Interactive {
		by = w.actor(&u)
	}
	token, record, err := w.IssueToken(context.Background(), by, kind, owner, o)
	if err != nil {
		w.Fatalf("IssueToken: %v", err)
	}
	return token, record
}

// setPassword gives a user a password as an accepted invitation does.
func (w *world) setPassword(u *signing.User, password string) {
	w.Helper()
	hash, err := w.hasher.hash(context.Background(), password)
	if err != nil {
		w.Fatal(err)
	}
	w.store.edit(func(s *state) {
		s.creds[u.ID] = signing.Credential{UserID: u.ID, PasswordHash: hash, UpdatedAt: time.Now()}
	})
}

// assertSecret fails when the secret, or its hash, is in the audit log or the program's log.
func (w *world) assertSecret(secrets ...string) {
	w.Helper()
	entries, err := json.Marshal(w.store.snapshot().audit)
	if err != nil {
		w.Fatal(err)
	}
	text := string(entries) + w.log.String()
	for _, secret := range secrets {
		hash := hashOf(secret)
		for _, form := range []string{secret, hex.EncodeToString(hash[:]), base64.StdEncoding.EncodeToString(hash[:])} {
			if form != "" && strings.Contains(text, form) {
				w.Errorf("the logs contain the secret %q or its hash", secret)
			}
		}
	}
}

func wantKind(t testing.TB, err error, kind signing.Kind, text string) {
	t.Helper()
	if err == nil {
		t.Fatalf("no error; want kind %d and %q", kind, text)
	}
	if signing.KindOf(err) != kind || !strings.Contains(err.Error(), text) {
		t.Fatalf("error of kind %d: %v; want kind %d and %q", signing.KindOf(err), err, kind, text)
	}
}
