package auth

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"time"

	"github.com/countersign-dev/countersign/internal/audit"
	"github.com/countersign-dev/countersign/internal/signing"
)

const (
	maxTokenName    = 200
	maxUsableTokens = 100 // per owner
	maxTokenLength  = 512
	minImported     = 32 // characters of a token that was made elsewhere
	shownCharacters = 8  // of a token's start, to tell tokens apart
)

// TokenOptions are what the caller chooses about a new token.
type TokenOptions struct {
	Name      string     // at most 200 characters; default "API token"
	ExpiresAt *time.Time // nil: never
	// Import gives the token instead of making one: one that was made elsewhere and is known to clients already. It takes at
	// least 32 characters of letters, digits and "-._~+/=", and must not be in use.
	Import string
}

// IssueToken issues a token for a user (kind [signing.UserToken]) or a trusted build system
// ([signing.BuildSystemToken]) and returns it; it is shown this once. Personal tokens are issued by their owners only,
// those of CI users by who may manage users, those of trusted build systems by who may manage these.
//
// Errors: KindForbidden; KindNotFound for an unknown owner; KindConflict for a deactivated user, an owner with 100 usable
// tokens, or an imported token that is in use; KindInvalid naming "Name", "ExpiresAt" or "Token".
func (s *Service) IssueToken(ctx context.Context, by signing.Actor, kind signing.TokenKind, owner signing.ID, o TokenOptions) (string, *signing.APIToken, error) {
	var token string
	var record *signing.APIToken
	err := s.store.Tx(ctx, func(tx signing.Tx) (err error) {
		if err := tx.LockOrganization(ctx, by.OrganizationID); err != nil {
			return err
		}
		token, record, err = s.IssueTokenTx(ctx, tx, by, kind, owner, o)
		return err
	})
	if err != nil {
		return "", nil, err
	}
	return token, record, nil
}

// IssueTokenTx is IssueToken as a part of the caller's transaction, for a user or trusted build system that is created in
// it. It comes last in the transaction, because it appends to the audit log.
func (s *Service) IssueTokenTx(ctx context.Context, tx signing.Tx, by signing.Actor, kind signing.TokenKind, owner signing.ID, o TokenOptions) (string, *signing.APIToken, error) {
	if err := mayIssue(ctx, tx, by, kind, owner); err != nil {
		return "", nil, err
	}
	token, record, object, err := s.insertToken(ctx, tx, by, kind, owner, o)
	if err != nil {
		return "", nil, err
	}
	return token, record, s.record(ctx, tx, by, EventTokenIssued, object, tokenData{Token: describe(record)})
}

// RegenerateToken revokes a token and issues a new one in its place, under the same conditions as IssueToken. An empty id
// stands for every token of the owner. Without a name in the options the new token has the old one's, without an expiry it is
// valid for as long as the old one was when it was issued; of several tokens the newest counts.
// Errors: those of IssueToken, and KindNotFound for an unknown or revoked token.
func (s *Service) RegenerateToken(ctx context.Context, by signing.Actor, kind signing.TokenKind, owner, id signing.ID, o TokenOptions) (string, *signing.APIToken, error) {
	var token string
	var record *signing.APIToken
	err := s.store.Tx(ctx, func(tx signing.Tx) error {
		if err := tx.LockOrganization(ctx, by.OrganizationID); err != nil {
			return err
		}
		if err := mayIssue(ctx, tx, by, kind, owner); err != nil {
			return err
		}
		tokens, err := tx.Tokens(ctx, by.OrganizationID, owner)
		if err != nil {
			return err
		}
		now, o := s.now(), o
		var replaced []tokenInfo
		for _, t := range tokens {
			if t.Kind != kind || t.RevokedAt != nil || id != "" && t.ID != id {
				continue
			}
			if err := tx.RevokeToken(ctx, by.OrganizationID, t.ID, now); err != nil {
				return err
			}
			if len(replaced) == 0 { // the newest
				o.Name = cmp.Or(o.Name, t.Name)
				if o.ExpiresAt == nil && t.ExpiresAt != nil {
					expires := now.Add(t.ExpiresAt.Sub(t.CreatedAt))
					o.ExpiresAt = &expires
				}
			}
			replaced = append(replaced, describe(t))
		}
		if id != "" && len(replaced) == 0 {
			return tokenNotFound()
		}
		var object audit.Object
		if token, record, object, err = s.insertToken(ctx, tx, by, kind, owner, o); err != nil {
			return err
		}
		return s.record(ctx, tx, by, EventTokenRegenerated, object, tokenData{Token: describe(record), Replaces: replaced})
	})
	if err != nil {
		return "", nil, err
	}
	s.Forget(by.OrganizationID)
	return token, record, nil
}

// RevokeToken makes a token unusable, at once. A user's tokens are revoked by the user and by who may manage users, those of
// trusted build systems by who may manage these. Errors: KindForbidden; KindNotFound; revoking a revoked token is none.
func (s *Service) RevokeToken(ctx context.Context, by signing.Actor, kind signing.TokenKind, owner, id signing.ID) error {
	err := s.store.Tx(ctx, func(tx signing.Tx) error {
		if err := tx.LockOrganization(ctx, by.OrganizationID); err != nil {
			return err
		}
		object, err := mayRevoke(ctx, tx, by, kind, owner)
		if err != nil {
			return err
		}
		tokens, err := tx.Tokens(ctx, by.OrganizationID, owner)
		if err != nil {
			return err
		}
		i := slices.IndexFunc(tokens, func(t *signing.APIToken) bool { return t.ID == id && t.Kind == kind })
		switch {
		case i < 0:
			return tokenNotFound()
		case tokens[i].RevokedAt != nil:
			return nil
		}
		if err := tx.RevokeToken(ctx, by.OrganizationID, id, s.now()); err != nil {
			return err
		}
		return s.record(ctx, tx, by, EventTokenRevoked, object, tokenData{Token: describe(tokens[i])})
	})
	if err != nil {
		return err
	}
	s.Forget(by.OrganizationID)
	return nil
}

// Tokens lists the tokens of a user or trusted build system, newest first, revoked ones too. The records do not contain the
// tokens. It takes the permission to read users or trusted build systems, or being the user.
func (s *Service) Tokens(ctx context.Context, by signing.Actor, kind signing.TokenKind, owner signing.ID) ([]*signing.APIToken, error) {
	op := signing.OpReadUsers
	switch {
	case kind == signing.BuildSystemToken:
		op = signing.OpReadBuildSystems
	case by.UserID == owner:
		op = signing.OpManageOwnAccount
	}
	if !by.Allowed(op) {
		return nil, forbidden(op)
	}
	var tokens []*signing.APIToken
	err := s.store.View(ctx, func(tx signing.Tx) (err error) {
		if _, _, err = ownerOf(ctx, tx, by.OrganizationID, kind, owner); err != nil {
			return err
		}
		tokens, err = tx.Tokens(ctx, by.OrganizationID, owner)
		return err
	})
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(tokens, func(t *signing.APIToken) bool { return t.Kind != kind }), nil
}

// insertToken makes, checks and stores a token; the caller records it.
func (s *Service) insertToken(ctx context.Context, tx signing.Tx, by signing.Actor, kind signing.TokenKind, owner signing.ID, o TokenOptions) (string, *signing.APIToken, audit.Object, error) {
	none := audit.Object{}
	object, user, err := ownerOf(ctx, tx, by.OrganizationID, kind, owner)
	if err != nil {
		return "", nil, none, err
	}
	prefix := prefixBuildSystem
	if user != nil {
		if !user.Active {
			return "", nil, none, signing.Errorf(signing.KindConflict, "User %q is deactivated: activate the user before issuing a token.", user.Name)
		}
		prefix = prefixCI
		if user.Kind == signing.Interactive {
			prefix = prefixPersonal
		}
	}
	now := s.now()
	if err := o.check(now); err != nil {
		return "", nil, none, err
	}
	existing, err := tx.Tokens(ctx, by.OrganizationID, owner)
	if err != nil {
		return "", nil, none, err
	}
	usable := 0
	for _, t := range existing {
		if t.Usable(now) {
			usable++
		}
	}
	if usable >= maxUsableTokens {
		return "", nil, none, signing.Errorf(signing.KindConflict, "%s %q has %d usable tokens, which is the limit: revoke one first.", object.Type, object.Name, usable)
	}
	token := o.Import
	if token == "" {
		token = mint(prefix)
	} else if _, err := tx.TokenByHash(ctx, hashOf(token)); signing.KindOf(err) != signing.KindNotFound {
		if err != nil {
			return "", nil, none, err
		}
		return "", nil, none, signing.Errorf(signing.KindConflict, "This token is in use.")
	}
	record := &signing.APIToken{
		ID: signing.NewID(), OrganizationID: by.OrganizationID, Kind: kind, OwnerID: owner,
		Name: o.Name, Prefix: token[:shownCharacters], Hash: hashOf(token), CreatedAt: now,
	}
	if record.Name == "" {
		record.Name = "API token"
	}
	if o.ExpiresAt != nil {
		at := o.ExpiresAt.UTC().Truncate(time.Microsecond)
		record.ExpiresAt = &at
	}
	return token, record, object, tx.InsertToken(ctx, record)
}

func (o TokenOptions) check(now time.Time) error {
	if err := checkName("Name", o.Name, maxTokenName); err != nil {
		return err
	}
	switch {
	case o.ExpiresAt != nil && !o.ExpiresAt.After(now):
		return signing.Invalid("ExpiresAt", "The token would be expired already: choose a time in the future.")
	case o.Import == "":
		return nil
	case len(o.Import) < minImported || len(o.Import) > maxTokenLength || !isTokenText(o.Import):
		return signing.Invalid("Token", "A token from elsewhere takes %d to %d letters, digits and characters of \"-._~+/=\".", minImported, maxTokenLength)
	case hasOwnPrefix(o.Import) && (!wellFormed(o.Import) || strings.HasPrefix(o.Import, prefixInvitation)):
		return signing.Invalid("Token", "The token starts like one of Countersign but its checksum is wrong: it was mistyped or cut off.")
	}
	return nil
}

// ownerOf finds a token's owner; the user is nil for a trusted build system.
func ownerOf(ctx context.Context, tx signing.Tx, org signing.ID, kind signing.TokenKind, owner signing.ID) (audit.Object, *signing.User, error) {
	switch kind {
	case signing.UserToken:
		u, err := tx.User(ctx, org, owner)
		if err != nil {
			return audit.Object{}, nil, err
		}
		return userObject(u), u, nil
	case signing.BuildSystemToken:
		t, err := tx.TrustedBuildSystem(ctx, org, owner)
		if err != nil {
			return audit.Object{}, nil, err
		}
		return audit.Object{Type: "TrustedBuildSystem", ID: string(t.ID), Name: t.Name}, nil, nil
	}
	return audit.Object{}, nil, signing.Invalid("Kind", "There is no kind of token %q.", kind)
}

func mayIssue(ctx context.Context, tx signing.Tx, by signing.Actor, kind signing.TokenKind, owner signing.ID) error {
	if kind != signing.UserToken {
		if !by.Allowed(signing.OpManageBuildSystems) {
			return forbidden(signing.OpManageBuildSystems)
		}
		return nil
	}
	if op := accountOperation(by, owner); !by.Allowed(op) {
		return forbidden(op) // before anything tells whether there is such a user
	}
	u, err := tx.User(ctx, by.OrganizationID, owner)
	switch {
	case err != nil:
		return err
	case u.Kind != signing.Interactive:
		return signing.MayIssueCredentials(ctx, tx, by, u)
	case !isSelf(by, u):
		return signing.Errorf(signing.KindForbidden, "A personal API token is issued by its owner only; for a build system, create a CI user.")
	}
	return nil
}

func mayRevoke(ctx context.Context, tx signing.Tx, by signing.Actor, kind signing.TokenKind, owner signing.ID) (audit.Object, error) {
	op := accountOperation(by, owner)
	if kind == signing.BuildSystemToken {
		op = signing.OpManageBuildSystems
	}
	if !by.Allowed(op) {
		return audit.Object{}, forbidden(op)
	}
	object, _, err := ownerOf(ctx, tx, by.OrganizationID, kind, owner)
	return object, err
}

func tokenNotFound() error {
	return signing.Errorf(signing.KindNotFound, "There is no such token, or it was revoked.")
}

// tokenInfo is what the audit log says of a token.
type tokenInfo struct {
	ID        signing.ID `json:"id"`
	Name      string     `json:"name"`
	Prefix    string     `json:"prefix"`
	ExpiresAt *time.Time `json:"expiresAt,omitempty"`
}

// tokenData is the data of the token events.
type tokenData struct {
	Token    tokenInfo   `json:"token"`
	Replaces []tokenInfo `json:"replaces,omitempty"`
}

func describe(t *signing.APIToken) tokenInfo {
	return tokenInfo{ID: t.ID, Name: t.Name, Prefix: t.Prefix, ExpiresAt: t.ExpiresAt}
}
