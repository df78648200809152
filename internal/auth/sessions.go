package auth

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/countersign-dev/countersign/internal/signing"
)

const (
	viaSession   = "session"
	cookieLength = 43 // base64url of 32 bytes
	maxUserAgent = 300
	maxAddress   = 100
	maxSessions  = 50               // of one user; a further one ends the one that was unused for longest
	freshFor     = 15 * time.Minute // how long after signing in a user may change how to sign in

	sessionEnded = "You are not signed in, or the session has ended: sign in again."
)

// Client is where a browser's request comes from, for the session list and the audit log, which keep the address without its
// port. Address also bounds how often somebody may try to sign in: it has to be the true peer's, with or without port, not
// what any header claims.
type Client struct {
	Address   string
	UserAgent string
	Known     string // what an earlier SignedIn in this browser gave to keep, if anything
}

func (c Client) bounded() Client {
	return Client{Address: bounded(host(c.Address), maxAddress), UserAgent: bounded(c.UserAgent, maxUserAgent)}
}

// host returns an address without its port, which says nothing about who it is.
func host(address string) string {
	if withPort, err := netip.ParseAddrPort(address); err == nil {
		return withPort.Addr().String()
	}
	return address
}

// bounded cuts text that a client sent to a length in bytes, at a character's boundary, without what is not UTF-8 text.
func bounded(s string, length int) string {
	s = strings.ToValidUTF8(strings.ReplaceAll(s, "\x00", ""), "")
	if len(s) <= length {
		return s
	}
	return strings.ToValidUTF8(s[:length], "")
}

// SignedIn is the result of a successful sign-in.
type SignedIn struct {
	// Cookie is the value of the session cookie, 43 characters of base64url. It is a secret: the cookie is to be HttpOnly,
	// Secure, and SameSite=Lax or Strict.
	Cookie  string
	Expires time.Time // the session's end, used or not
	Actor   signing.Actor
	// Known is for a cookie like the session's which outlives it, until KnownUntil: in a browser that brings it along, attempts of
	// others to sign in as this user do not keep the user out.
	Known      string
	KnownUntil time.Time
}

const (
	purposeKnown = "know a browser again"
	knownLife    = 180 * 24 * time.Hour
)

// knows reports whether the user of the account signed in in the client's browser before, since the password was chosen.
func (s *Service) knows(c Client, a account) bool {
	var user signing.ID
	begun, err := s.sealer.open(purposeKnown, c.Known, &user, s.now())
	return err == nil && user == a.user.ID && !a.cred.UpdatedAt.After(begun)
}

// sessionEntry is what a session's cookie stands for.
type sessionEntry struct {
	session signing.Session
	actor   signing.Actor
	active  bool // the user is
}

// Session makes the actor for a browser's request from its session cookie. Groups and roles are those of now, within
// Config.CacheFor. The actor's slices are shared with other requests: do not change their elements.
//
// Errors: KindUnauthenticated when the session is unknown, was revoked or ended, or when its user is deactivated. Other
// errors come from the store.
func (s *Service) Session(ctx context.Context, cookie string) (signing.Actor, error) {
	entry, err := s.session(ctx, cookie)
	return entry.actor, err
}

func (s *Service) session(ctx context.Context, cookie string) (sessionEntry, error) {
	none := sessionEntry{}
	if len(cookie) != cookieLength {
		return none, unauthenticated(sessionEnded)
	}
	now, hash := s.now(), hashOf(cookie)
	entry, err := s.loadSession(ctx, hash, now)
	switch {
	case signing.KindOf(err) == signing.KindNotFound:
		return none, unauthenticated(sessionEnded)
	case err != nil:
		return none, err
	case !entry.active:
		return none, unauthenticated("This user is deactivated: ask an administrator.")
	case !now.Before(entry.session.ExpiresAt):
		return none, unauthenticated(sessionEnded)
	case now.Sub(entry.session.LastSeenAt) >= s.conf.SessionIdle:
		return none, unauthenticated("The session ended because it was not used for %s: sign in again.", s.conf.SessionIdle)
	}
	s.later.touchSession(hash, now)
	return entry, nil
}

// freshSession is session for changing how the user signs in: whoever finds an unlocked browser shall not be able to.
func (s *Service) freshSession(ctx context.Context, cookie string) (sessionEntry, error) {
	entry, err := s.session(ctx, cookie)
	if err == nil && s.now().Sub(entry.session.CreatedAt) > freshFor {
		return sessionEntry{}, signing.Errorf(signing.KindForbidden, "You signed in more than %d minutes ago: sign in again before changing how you sign in.", int(freshFor.Minutes()))
	}
	return entry, err
}

func (s *Service) loadSession(ctx context.Context, hash [32]byte, now time.Time) (sessionEntry, error) {
	entry, ok, generation := s.sessions.get(hash, now)
	if ok {
		return entry, nil
	}
	return share(ctx, s, "session", hash, generation, func(ctx context.Context) (sessionEntry, error) {
		var entry sessionEntry
		err := s.store.View(ctx, func(tx signing.Tx) error {
			session, err := tx.SessionByHash(ctx, hash)
			if err != nil {
				return err
			}
			u, err := tx.User(ctx, session.OrganizationID, session.UserID)
			if err != nil {
				return err
			}
			entry = sessionEntry{session: *session, active: u.Active}
			entry.actor, err = actorOf(ctx, tx, u, viaSession)
			return err
		})
		if err == nil {
			s.sessions.put(hash, entry, now, generation)
		}
		return entry, err
	})
}

// newCookie returns a cookie's value with 256 random bits.
func newCookie() string {
	var raw [32]byte
	rand.Read(raw[:])
	return base64.RawURLEncoding.EncodeToString(raw[:])
}

// startSession signs the user in, in the caller's transaction. method is for the audit log. It comes last in the transaction.
func (s *Service) startSession(ctx context.Context, tx signing.Tx, u *signing.User, event, method string, c Client) (SignedIn, error) {
	now := s.now()
	open, err := tx.Sessions(ctx, u.ID)
	if err != nil {
		return SignedIn{}, err
	}
	for _, old := range open[min(len(open), maxSessions-1):] {
		if err := tx.DeleteSession(ctx, old.Hash); err != nil && signing.KindOf(err) != signing.KindNotFound {
			return SignedIn{}, err
		}
	}
	cookie, c := newCookie(), c.bounded()
	session := &signing.Session{
		Hash: hashOf(cookie), OrganizationID: u.OrganizationID, UserID: u.ID,
		CreatedAt: now, LastSeenAt: now, ExpiresAt: now.Add(s.conf.SessionLife), UserAgent: c.UserAgent, Address: c.Address,
	}
	if err := tx.InsertSession(ctx, session); err != nil {
		return SignedIn{}, err
	}
	in := SignedIn{Cookie: cookie, Expires: session.ExpiresAt, KnownUntil: now.Add(knownLife)}
	if in.Known, err = s.sealer.seal(purposeKnown, u.ID, now, in.KnownUntil); err != nil {
		return SignedIn{}, err
	}
	if in.Actor, err = actorOf(ctx, tx, u, viaSession); err != nil {
		return SignedIn{}, err
	}
	return in, s.record(ctx, tx, in.Actor, event, userObject(u), signInData{Method: method, Address: c.Address, UserAgent: c.UserAgent})
}

// signInData is the data of the sign-in events.
type signInData struct {
	Method    string `json:"method"` // "password", "passkey"
	Address   string `json:"address,omitempty"`
	UserAgent string `json:"userAgent,omitempty"`
	Reason    string `json:"reason,omitempty"`
}

// SignOut ends the session of the cookie. It is no error when there is none.
func (s *Service) SignOut(ctx context.Context, cookie string) error {
	return s.endSession(ctx, hashOf(cookie))
}

func (s *Service) endSession(ctx context.Context, hash [32]byte) error {
	err := s.store.Tx(ctx, func(tx signing.Tx) error {
		if err := tx.DeleteSession(ctx, hash); signing.KindOf(err) != signing.KindNotFound {
			return err
		}
		return nil
	})
	s.sessions.forget(func(e sessionEntry) bool { return e.session.Hash == hash })
	return err
}

// RotateSession replaces a session's cookie by a new value. The session's age and end stay. Call it when what the
// session may do has grown.
func (s *Service) RotateSession(ctx context.Context, cookie string) (SignedIn, error) {
	entry, err := s.session(ctx, cookie)
	if err != nil {
		return SignedIn{}, err
	}
	value, old := newCookie(), entry.session.Hash
	err = s.store.Tx(ctx, func(tx signing.Tx) error {
		// Held, so that whoever ends the user's sessions meanwhile finds the new one.
		if _, _, err := userAndCredential(ctx, tx, entry.actor.OrganizationID, entry.actor.UserID); err != nil {
			return err
		}
		session, err := tx.SessionByHash(ctx, old)
		if signing.KindOf(err) == signing.KindNotFound {
			return unauthenticated(sessionEnded)
		}
		if err != nil {
			return err
		}
		session.Hash, session.LastSeenAt = hashOf(value), s.now()
		if err := tx.DeleteSession(ctx, old); signing.KindOf(err) == signing.KindNotFound {
			return unauthenticated(sessionEnded) // ended since it was read
		} else if err != nil {
			return err
		}
		return tx.InsertSession(ctx, session)
	})
	if err != nil {
		return SignedIn{}, err
	}
	s.sessions.forget(func(e sessionEntry) bool { return e.session.Hash == old })
	return SignedIn{Cookie: value, Expires: entry.session.ExpiresAt, Actor: entry.actor}, nil
}

// Sessions lists a user's sessions that have not ended, latest seen first (last uses are written once a minute). A
// session's Hash names it to RevokeSession, and equals [SessionHash] of its cookie. It takes the permission to manage
// users, or being the user.
func (s *Service) Sessions(ctx context.Context, by signing.Actor, user signing.ID) ([]*signing.Session, error) {
	if err := maySeeSignIn(by, user); err != nil {
		return nil, err
	}
	var sessions []*signing.Session
	err := s.store.View(ctx, func(tx signing.Tx) (err error) {
		if _, err = tx.User(ctx, by.OrganizationID, user); err != nil {
			return err
		}
		sessions, err = tx.Sessions(ctx, user)
		return err
	})
	now := s.now()
	return slices.DeleteFunc(sessions, func(e *signing.Session) bool {
		return !now.Before(e.ExpiresAt) || now.Sub(e.LastSeenAt) >= s.conf.SessionIdle
	}), err
}

// SessionHash returns the hash under which the session of a cookie is listed.
func SessionHash(cookie string) [32]byte { return hashOf(cookie) }

// ParseSessionHash reads a session's hash from 64 hexadecimal digits.
func ParseSessionHash(text string) (hash [32]byte, ok bool) {
	raw, err := hex.DecodeString(text)
	if err != nil || len(raw) != len(hash) {
		return hash, false
	}
	return [32]byte(raw), true
}

// RevokeSession ends one session of a user. It takes the permission to manage users, or being the user. Errors: KindForbidden,
// KindNotFound.
func (s *Service) RevokeSession(ctx context.Context, by signing.Actor, user signing.ID, hash [32]byte) error {
	ended, err := s.revokeSessions(ctx, by, user, func(h [32]byte) bool { return h == hash })
	if err == nil && ended == 0 {
		err = signing.Errorf(signing.KindNotFound, "There is no such session, or it has ended.")
	}
	return err
}

// RevokeSessions ends all sessions of a user but one, and returns how many there were; the zero hash keeps none. It takes what
// RevokeSession takes.
func (s *Service) RevokeSessions(ctx context.Context, by signing.Actor, user signing.ID, keep [32]byte) (ended int, err error) {
	return s.revokeSessions(ctx, by, user, func(h [32]byte) bool { return h != keep })
}

func (s *Service) revokeSessions(ctx context.Context, by signing.Actor, user signing.ID, which func([32]byte) bool) (ended int, err error) {
	if err := maySeeSignIn(by, user); err != nil {
		return 0, err
	}
	err = s.store.Tx(ctx, func(tx signing.Tx) error {
		u, _, err := userAndCredential(ctx, tx, by.OrganizationID, user) // held: no session appears meanwhile
		if err != nil {
			return err
		}
		if ended, err = endSessions(ctx, tx, user, which); err != nil || ended == 0 {
			return err
		}
		return s.record(ctx, tx, by, EventSessionRevoked, userObject(u), struct {
			Count int `json:"count"`
		}{ended})
	})
	s.forgetSessionsOf(user)
	if err != nil {
		return 0, err
	}
	return ended, nil
}

// endSessions ends those of a user's sessions that which reports, and returns how many there were.
func endSessions(ctx context.Context, tx signing.Tx, user signing.ID, which func([32]byte) bool) (ended int, err error) {
	sessions, err := tx.Sessions(ctx, user)
	if err != nil {
		return 0, err
	}
	for _, e := range sessions {
		if !which(e.Hash) {
			continue
		}
		switch err := tx.DeleteSession(ctx, e.Hash); {
		case err == nil:
			ended++
		case signing.KindOf(err) != signing.KindNotFound:
			return 0, err
		}
	}
	return ended, nil
}

func (s *Service) forgetSessionsOf(user signing.ID) {
	s.sessions.forget(func(e sessionEntry) bool { return e.session.UserID == user })
}

// maySeeSignIn checks that the actor may see and end, but not set up, how the user signs in.
func maySeeSignIn(by signing.Actor, user signing.ID) error {
	if op := accountOperation(by, user); !by.Allowed(op) {
		return forbidden(op)
	}
	return nil
}
