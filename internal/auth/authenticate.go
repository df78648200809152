package auth

import (
	"context"
	"strconv"
	"strings"
	"time"

	"github.com/countersign-dev/countersign/internal/signing"
)

const (
	loadLimit       = 10 * time.Second // reading a token and its user from the store
	maxHeaderLength = len("Bearer ") + 2*maxTokenLength + 1 + 64
)

// tokenEntry is what a token stands for.
type tokenEntry struct {
	token  signing.APIToken
	actor  signing.Actor // of a user's token
	active bool          // the user is; true for a trusted build system
}

// Authenticate makes the actor for a REST request from its Authorization header: "Bearer <apiToken>", or
// "Bearer <apiToken>:<trustedBuildSystemToken>" when a trusted build system vouches for the artifact's origin; the latter is
// accepted wherever the former is. The scheme is matched without regard to case. The organization is the one that the request is about;
// empty: a request about none. The actor's slices are shared with other requests: do not change their elements.
//
// Errors: KindUnauthenticated, saying what is wrong with the header or token; KindForbidden when a usable token belongs to
// another organization. Other errors come from the store.
func (s *Service) Authenticate(ctx context.Context, authorization string, org signing.ID) (signing.Actor, error) {
	user, build, err := parseAuthorization(authorization)
	if err != nil {
		return signing.Actor{}, err
	}
	entry, err := s.usableToken(ctx, user, "API token")
	if err != nil {
		return signing.Actor{}, err
	}
	if entry.token.Kind != signing.UserToken {
		return signing.Actor{}, unauthenticated("This is the token of a trusted build system, which does not authenticate alone: send \"Bearer <API token>:<trusted build system token>\".")
	}
	actor := entry.actor
	if build != "" {
		system, err := s.usableToken(ctx, build, "trusted build system token")
		switch {
		case err != nil:
			return signing.Actor{}, err
		case system.token.Kind != signing.BuildSystemToken:
			return signing.Actor{}, unauthenticated("The token after the colon is not that of a trusted build system: send \"Bearer <API token>:<trusted build system token>\".")
		case system.token.OrganizationID != actor.OrganizationID:
			return signing.Actor{}, unauthenticated("The trusted build system token belongs to another organization than the API token.")
		}
		actor.TrustedBuildSystemID = system.token.OwnerID
		actor.Via += " with " + system.token.Prefix
	}
	if org != "" && org != actor.OrganizationID {
		return signing.Actor{}, signing.Errorf(signing.KindForbidden, "This API token does not belong to organization %s: check the organization id in the address.", org)
	}
	return actor, nil
}

// parseAuthorization splits an Authorization header. The build system's token is empty when there is none. Tokens have the
// characters of RFC 6750, section 2.1 (b64token), in any order, so that tokens which were made elsewhere work.
func parseAuthorization(header string) (user, build string, err error) {
	if header == "" {
		return "", "", unauthenticated("There is no Authorization header: send \"Authorization: Bearer <API token>\".")
	}
	if len(header) > maxHeaderLength {
		return "", "", unauthenticated("The Authorization header is too long: a token has at most %d characters.", maxTokenLength)
	}
	scheme, value, _ := strings.Cut(strings.Trim(header, " \t"), " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return "", "", unauthenticated("The Authorization header is not of the scheme Bearer: send \"Authorization: Bearer <API token>\".")
	}
	value = strings.Trim(value, " \t")
	if value == "" {
		return "", "", unauthenticated("The Authorization header has no token after \"Bearer\": is the variable that should hold it empty?")
	}
	user, build, both := strings.Cut(value, ":")
	if strings.Contains(build, ":") {
		return "", "", unauthenticated("The Authorization header has more than one colon: send \"Bearer <API token>:<trusted build system token>\".")
	}
	if err := checkToken(user, "API token"); err != nil {
		return "", "", err
	}
	if both {
		if err := checkToken(build, "trusted build system token"); err != nil {
			return "", "", err
		}
	}
	return user, build, nil
}

// checkToken tells what can be told without the store.
func checkToken(token, what string) error {
	switch {
	case token == "":
		return unauthenticated("The %s is empty: is the variable that should hold it empty?", what)
	case len(token) > maxTokenLength:
		return unauthenticated("The %s is malformed: it has more than %d characters.", what, maxTokenLength)
	case !isTokenText(token):
		return unauthenticated("The %s is malformed: it contains a character that no token has.", what)
	case hasOwnPrefix(token) && !wellFormed(token):
		return unauthenticated("The %s is malformed (its checksum is wrong): it was mistyped or cut off.", what)
	}
	return nil
}

func isTokenText(s string) bool {
	for i := range len(s) {
		switch c := s[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', strings.IndexByte("-._~+/=", c) >= 0:
		default:
			return false
		}
	}
	return true
}

// usableToken returns what a token stands for, or says why it cannot be used, and notes its use.
func (s *Service) usableToken(ctx context.Context, token, what string) (tokenEntry, error) {
	now := s.now()
	entry, err := s.token(ctx, hashOf(token), now)
	t := &entry.token
	switch {
	case signing.KindOf(err) == signing.KindNotFound:
		return tokenEntry{}, unauthenticated("The %s is unknown: check that it is complete and belongs to this installation.", what)
	case err != nil:
		return tokenEntry{}, err
	case t.RevokedAt != nil:
		return tokenEntry{}, unauthenticated("The %s %q was revoked on %s: ask for a new one.", what, t.Name, day(*t.RevokedAt))
	case !t.Usable(now):
		return tokenEntry{}, unauthenticated("The %s %q expired on %s: issue a new one.", what, t.Name, day(*t.ExpiresAt))
	case !entry.active:
		return tokenEntry{}, unauthenticated("The user of this %s is deactivated.", what)
	}
	s.later.touchToken(t.ID, now)
	return entry, nil
}

func day(t time.Time) string { return t.UTC().Format("2006-01-02 15:04 UTC") }

// token finds a token in the cache or the store. Concurrent requests for one token share one reading, unless something was
// forgotten since it began.
func (s *Service) token(ctx context.Context, hash [32]byte, now time.Time) (tokenEntry, error) {
	entry, ok, generation := s.tokens.get(hash, now)
	if ok {
		return entry, nil
	}
	return share(ctx, s, "token", hash, generation, func(ctx context.Context) (tokenEntry, error) {
		entry := tokenEntry{active: true}
		err := s.store.View(ctx, func(tx signing.Tx) error {
			t, err := tx.TokenByHash(ctx, hash)
			if err != nil {
				return err
			}
			entry.token = *t
			if t.Kind != signing.UserToken {
				_, err := tx.TrustedBuildSystem(ctx, t.OrganizationID, t.OwnerID)
				return err
			}
			u, err := tx.User(ctx, t.OrganizationID, t.OwnerID)
			if err != nil {
				return err
			}
			entry.active = u.Active
			entry.actor, err = actorOf(ctx, tx, u, "token "+t.Prefix)
			return err
		})
		if err == nil {
			s.tokens.put(hash, entry, now, generation)
		}
		return entry, err
	})
}

// share runs load once for all callers that want the same at the same time. The load goes on when its first caller leaves.
func share[V any](ctx context.Context, s *Service, what string, hash [32]byte, generation uint64, load func(context.Context) (V, error)) (V, error) {
	key := what + string(hash[:]) + strconv.FormatUint(generation, 10)
	done := s.flights.DoChan(key, func() (any, error) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), loadLimit)
		defer cancel()
		return load(ctx)
	})
	select {
	case r := <-done:
		return r.Val.(V), r.Err
	case <-ctx.Done():
		var none V
		return none, ctx.Err()
	}
}
