package store

import (
	"context"
	"time"

	"github.com/countersign-dev/countersign/internal/signing"
)

const tokenColumns = "id, organization_id, kind, owner_id, name, prefix, hash, created_at, expires_at, last_used_at, revoked_at"

func scanToken(s scanner) (*signing.APIToken, error) {
	t := &signing.APIToken{}
	return t, s.Scan(&t.ID, &t.OrganizationID, &t.Kind, &t.OwnerID, &t.Name, &t.Prefix, hashColumn{&t.Hash},
		timeColumn{&t.CreatedAt}, optionalTimeColumn{&t.ExpiresAt}, optionalTimeColumn{&t.LastUsedAt}, optionalTimeColumn{&t.RevokedAt})
}

func (x *tx) TokenByHash(ctx context.Context, hash [32]byte) (*signing.APIToken, error) {
	return one(ctx, x.q, "API token", scanToken, "SELECT "+tokenColumns+" FROM api_tokens WHERE hash = $1", hash[:])
}

func (x *tx) Tokens(ctx context.Context, org, owner signing.ID) ([]*signing.APIToken, error) {
	return list(ctx, x.q, scanToken, "SELECT "+tokenColumns+" FROM api_tokens WHERE organization_id = $1 AND owner_id = $2 "+
		"ORDER BY created_at DESC, id DESC", text(org), text(owner))
}

func (x *tx) InsertToken(ctx context.Context, t *signing.APIToken) error {
	return x.q.insert(ctx, "This API token exists.",
		"INSERT INTO api_tokens ("+tokenColumns+") VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
		text(t.ID), text(t.OrganizationID), text(t.Kind), text(t.OwnerID), t.Name, t.Prefix, t.Hash[:],
		micros(t.CreatedAt), optional(t.ExpiresAt), optional(t.LastUsedAt), optional(t.RevokedAt))
}

// RevokeToken implements signing.CredentialTx. A token that was revoked before keeps its time.
func (x *tx) RevokeToken(ctx context.Context, org, id signing.ID, at time.Time) error {
	n, err := x.q.exec(ctx, "UPDATE api_tokens SET revoked_at = COALESCE(revoked_at, $1) WHERE id = $2 AND organization_id = $3",
		micros(at), text(id), text(org))
	if err == nil && n == 0 {
		err = signing.Errorf(signing.KindNotFound, "No such API token.")
	}
	return err
}

func (x *tx) TouchToken(ctx context.Context, id signing.ID, at time.Time) error {
	_, err := x.q.exec(ctx, "UPDATE api_tokens SET last_used_at = $1 WHERE id = $2", micros(at), text(id))
	return err
}

// Credential implements signing.CredentialTx. It locks the user's row, because there may be no credential yet, and by a
// statement of its own: at READ COMMITTED the next one sees what was committed while this one waited.
func (x *tx) Credential(ctx context.Context, user signing.ID) (*signing.Credential, error) {
	if x.write {
		if err := x.hold(ctx, "credential", "SELECT id FROM users WHERE id = $1", user); err != nil {
			return nil, err
		}
	}
	return one(ctx, x.q, "credential", func(s scanner) (*signing.Credential, error) {
		c := &signing.Credential{}
		return c, s.Scan(&c.UserID, &c.PasswordHash, &c.Passkeys, timeColumn{&c.UpdatedAt})
	}, "SELECT user_id, password_hash, passkeys, updated_at FROM credentials WHERE user_id = $1", text(user))
}

func (x *tx) PutCredential(ctx context.Context, c *signing.Credential) error {
	_, err := x.q.exec(ctx, "INSERT INTO credentials (user_id, password_hash, passkeys, updated_at) VALUES ($1, $2, $3, $4) "+
		"ON CONFLICT (user_id) DO UPDATE SET password_hash = excluded.password_hash, passkeys = excluded.passkeys, "+
		"updated_at = excluded.updated_at", text(c.UserID), c.PasswordHash, c.Passkeys, micros(c.UpdatedAt))
	return err
}

const invitationColumns = "hash, organization_id, user_id, expires_at, used_at"

func scanInvitation(s scanner) (*signing.Invitation, error) {
	i := &signing.Invitation{}
	return i, s.Scan(hashColumn{&i.Hash}, &i.OrganizationID, &i.UserID, timeColumn{&i.ExpiresAt}, optionalTimeColumn{&i.UsedAt})
}

func (x *tx) InvitationByHash(ctx context.Context, hash [32]byte) (*signing.Invitation, error) {
	return one(ctx, x.q, "invitation", scanInvitation, "SELECT "+invitationColumns+" FROM invitations WHERE hash = $1", hash[:])
}

func (x *tx) InvitationsOf(ctx context.Context, user signing.ID) ([]*signing.Invitation, error) {
	return list(ctx, x.q, scanInvitation, "SELECT "+invitationColumns+" FROM invitations WHERE user_id = $1 ORDER BY expires_at DESC", text(user))
}

func (x *tx) InsertInvitation(ctx context.Context, i *signing.Invitation) error {
	return x.q.insert(ctx, "This invitation exists.",
		"INSERT INTO invitations ("+invitationColumns+") VALUES ($1, $2, $3, $4, $5)",
		i.Hash[:], text(i.OrganizationID), text(i.UserID), micros(i.ExpiresAt), optional(i.UsedAt))
}

func (x *tx) UseInvitation(ctx context.Context, hash [32]byte, at time.Time) error {
	n, err := x.q.exec(ctx, "UPDATE invitations SET used_at = $1 WHERE hash = $2 AND used_at IS NULL", micros(at), hash[:])
	if err != nil || n == 1 {
		return err
	}
	if _, err := x.InvitationByHash(ctx, hash); err != nil {
		return err
	}
	return signing.Errorf(signing.KindConflict, "The invitation was used before.")
}

func (x *tx) DeleteInvitationsOf(ctx context.Context, user signing.ID) error {
	_, err := x.q.exec(ctx, "DELETE FROM invitations WHERE user_id = $1", text(user))
	return err
}

const sessionColumns = "hash, organization_id, user_id, created_at, last_seen_at, expires_at, user_agent, address"

func scanSession(s scanner) (*signing.Session, error) {
	e := &signing.Session{}
	return e, s.Scan(hashColumn{&e.Hash}, &e.OrganizationID, &e.UserID, timeColumn{&e.CreatedAt}, timeColumn{&e.LastSeenAt},
		timeColumn{&e.ExpiresAt}, &e.UserAgent, &e.Address)
}

func (x *tx) SessionByHash(ctx context.Context, hash [32]byte) (*signing.Session, error) {
	return one(ctx, x.q, "session", scanSession, "SELECT "+sessionColumns+" FROM sessions WHERE hash = $1", hash[:])
}

func (x *tx) Sessions(ctx context.Context, user signing.ID) ([]*signing.Session, error) {
	return list(ctx, x.q, scanSession,
		"SELECT "+sessionColumns+" FROM sessions WHERE user_id = $1 ORDER BY last_seen_at DESC, created_at DESC", text(user))
}

func (x *tx) InsertSession(ctx context.Context, s *signing.Session) error {
	return x.q.insert(ctx, "This session exists.",
		"INSERT INTO sessions ("+sessionColumns+") VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
		s.Hash[:], text(s.OrganizationID), text(s.UserID), micros(s.CreatedAt), micros(s.LastSeenAt), micros(s.ExpiresAt),
		s.UserAgent, s.Address)
}

func (x *tx) TouchSession(ctx context.Context, hash [32]byte, at time.Time) error {
	_, err := x.q.exec(ctx, "UPDATE sessions SET last_seen_at = $1 WHERE hash = $2", micros(at), hash[:])
	return err
}

func (x *tx) DeleteSession(ctx context.Context, hash [32]byte) error {
	n, err := x.q.exec(ctx, "DELETE FROM sessions WHERE hash = $1", hash[:])
	if err == nil && n == 0 {
		err = signing.Errorf(signing.KindNotFound, "No such session.")
	}
	return err
}

func (x *tx) DeleteSessionsOf(ctx context.Context, user signing.ID) error {
	_, err := x.q.exec(ctx, "DELETE FROM sessions WHERE user_id = $1", text(user))
	return err
}

func (x *tx) DeleteExpiredSessions(ctx context.Context, now time.Time) error {
	_, err := x.q.exec(ctx, "DELETE FROM sessions WHERE expires_at <= $1", micros(now))
	return err
}
