// Package auth proves who is calling and makes the [signing.Actor] that permissions are judged on: API tokens of people,
// CI users and trusted build systems; passwords and passkeys; sessions of signed-in browsers; invitations.
//
// The package speaks no HTTP: it takes and returns header and cookie values, and the JSON that a browser's
// navigator.credentials speaks. Secrets are shown once and stored only as hashes. Every refusal is a *[signing.Error]
// whose message is safe to show; an address or account that does not exist is answered like a wrong password.
//
// What it knows of a token or session is kept in memory for Config.CacheFor, so that thousands of clients that poll cost
// no database work. A change made through this package, or followed by [Service.Forget], takes effect at once in this process;
// in other processes on the same database it takes effect within Config.CacheFor.
package auth

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/go-webauthn/webauthn/webauthn"
	"golang.org/x/sync/singleflight"

	"github.com/countersign-dev/countersign/internal/signing"
)

// Config is what a [Service] is made of. Store and Key are required; other zero values mean the defaults.
type Config struct {
	Store signing.Store
	Clock signing.Clock // nil: the system's clock
	Log   *slog.Logger  // nil: discard

	// Key is a secret of the installation: 32 random bytes, the same in all processes. It seals what browsers keep
	// between two steps of a ceremony and authenticates form tokens. Changing it interrupts ceremonies, no sessions.
	Key []byte

	// Origins are the addresses under which browsers reach the pages, such as "https://sign.example.com". The host of
	// the first is the passkeys' relying party id. Without origins, or when that host is an IP address, there are no passkeys.
	Origins []string
	// ProductName is what authenticators show beside a passkey; default "Countersign".
	ProductName string

	Hashing        Hashing       // default [DefaultHashing]
	HashingSlots   int           // passwords hashed at the same time, each taking Hashing.MemoryKiB; default 2
	CacheFor       time.Duration // how long a token's or session's actor is believed; default 10 s, at most 1 min; negative: never
	CacheEntries   int           // at most this many; default 10,000
	SessionIdle    time.Duration // a session unused for that long ends; default 8 h, at least 5 min
	SessionLife    time.Duration // a session ends after that long in any case; default 7 days
	InvitationLife time.Duration // default 7 days
}

// The defaults of [Config] and fixed bounds.
const (
	defaultCacheFor       = 10 * time.Second
	maxCacheFor           = time.Minute
	defaultCacheEntries   = 10_000
	defaultSessionIdle    = 8 * time.Hour
	minSessionIdle        = 5 * time.Minute
	defaultSessionLife    = 7 * 24 * time.Hour
	defaultInvitationLife = 7 * 24 * time.Hour
	ceremonyLife          = 5 * time.Minute
)

// Service authenticates. It is safe for concurrent use. Call Close at the end.
type Service struct {
	store signing.Store
	clock signing.Clock
	log   *slog.Logger
	conf  Config

	sealer   *sealer
	csrfKey  []byte
	hasher   *hasher
	webauthn *webauthn.WebAuthn // nil: no passkeys
	limits   limits

	tokens   *cache[tokenEntry]
	sessions *cache[sessionEntry]
	flights  singleflight.Group

	later later
}

// New makes a service and starts its background work.
func New(c Config) (*Service, error) {
	if c.Store == nil {
		return nil, errors.New("auth: Config.Store is required")
	}
	if len(c.Key) != 32 {
		return nil, fmt.Errorf("auth: Config.Key has %d bytes, it takes 32 random ones", len(c.Key))
	}
	if c.Hashing == (Hashing{}) {
		c.Hashing = DefaultHashing
	}
	if err := c.Hashing.check(); err != nil {
		return nil, fmt.Errorf("auth: Config.Hashing: %w", err)
	}
	c.HashingSlots = cmp.Or(max(c.HashingSlots, 0), 2)
	c.CacheFor = cmp.Or(c.CacheFor, defaultCacheFor)
	c.CacheEntries = cmp.Or(max(c.CacheEntries, 0), defaultCacheEntries)
	c.SessionIdle = cmp.Or(c.SessionIdle, defaultSessionIdle)
	c.SessionLife = cmp.Or(c.SessionLife, defaultSessionLife)
	c.InvitationLife = cmp.Or(c.InvitationLife, defaultInvitationLife)
	if c.CacheFor > maxCacheFor {
		return nil, fmt.Errorf("auth: Config.CacheFor is %s, more than %s", c.CacheFor, maxCacheFor)
	}
	if c.SessionIdle < minSessionIdle {
		return nil, fmt.Errorf("auth: Config.SessionIdle is %s, less than %s", c.SessionIdle, minSessionIdle)
	}
	if c.SessionLife < 0 || c.InvitationLife < 0 {
		return nil, errors.New("auth: Config.SessionLife and Config.InvitationLife must be positive")
	}
	s := &Service{
		store: c.Store, clock: c.Clock, log: c.Log, conf: c,
		limits:   newLimits(),
		tokens:   newCache[tokenEntry](c.CacheEntries, c.CacheFor),
		sessions: newCache[sessionEntry](c.CacheEntries, c.CacheFor),
	}
	if s.clock == nil {
		s.clock = systemClock{}
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	var err error
	if s.sealer, s.csrfKey, err = deriveKeys(c.Key); err != nil {
		return nil, err
	}
	s.hasher = newHasher(c.Hashing, c.HashingSlots)
	if s.webauthn, err = newRelyingParty(c.Origins, cmp.Or(c.ProductName, "Countersign")); err != nil {
		return nil, err
	}
	s.startLater()
	return s, nil
}

// Close writes what is still to be written, within the context's time, and stops the background work.
func (s *Service) Close(ctx context.Context) error { return s.stopLater(ctx) }

// Forget drops what is remembered of the organization's tokens and sessions. Call it after a transaction that changed
// users, roles or groups, so that the change takes effect at once in this process.
func (s *Service) Forget(org signing.ID) {
	s.tokens.forget(func(e tokenEntry) bool { return e.token.OrganizationID == org })
	s.sessions.forget(func(e sessionEntry) bool { return e.session.OrganizationID == org })
}

type systemClock struct{}

func (systemClock) Now() time.Time { return time.Now() }

// now is the time at the database's resolution, so that what is returned equals what is read back.
func (s *Service) now() time.Time { return s.clock.Now().UTC().Truncate(time.Microsecond) }

// actorOf gathers all that permissions depend on. The user must be active.
func actorOf(ctx context.Context, tx signing.Tx, u *signing.User, via string) (signing.Actor, error) {
	groups, err := tx.GroupsOf(ctx, u.OrganizationID, u.ID)
	if err != nil {
		return signing.Actor{}, err
	}
	return signing.Actor{
		OrganizationID: u.OrganizationID, UserID: u.ID, Kind: u.Kind, Name: u.Name,
		Roles: u.Roles[:len(u.Roles):len(u.Roles)], Groups: groups[:len(groups):len(groups)], Via: via,
	}, nil
}

// accountOperation is what seeing or ending a user's credentials is: managing one's own account, or managing users.
func accountOperation(by signing.Actor, user signing.ID) signing.Operation {
	if by.UserID == user {
		return signing.OpManageOwnAccount
	}
	return signing.OpManageUsers
}

func forbidden(op signing.Operation) error {
	return signing.Errorf(signing.KindForbidden, "You do not have the permission to %s.", op)
}

func unauthenticated(format string, args ...any) error {
	return signing.Errorf(signing.KindUnauthenticated, format, args...)
}

// isSelf reports whether the actor is the user.
func isSelf(by signing.Actor, u *signing.User) bool {
	return by.UserID != "" && by.OrganizationID == u.OrganizationID && by.UserID == u.ID
}
