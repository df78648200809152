package httpapi

import (
	"context"
	"encoding/hex"
	"time"

	"github.com/countersign-dev/countersign/api"
	"github.com/countersign-dev/countersign/internal/auth"
	"github.com/countersign-dev/countersign/internal/signing"
)

// RevokeInvitation makes a person's invitation void.
func (s *service) RevokeInvitation(ctx context.Context, r api.RevokeInvitationRequestObject) (api.RevokeInvitationResponseObject, error) {
	u, err := s.user(ctx, signing.Interactive, r.UserID)
	if err != nil {
		return nil, err
	}
	return reply[api.RevokeInvitationResponseObject](api.RevokeInvitation204Response{}, s.auth.RevokeInvitation(ctx, actorOf(ctx), u.ID))
}

// ListSessions lists the browsers in which a person is signed in.
func (s *service) ListSessions(ctx context.Context, r api.ListSessionsRequestObject) (api.ListSessionsResponseObject, error) {
	u, err := s.user(ctx, signing.Interactive, r.UserID)
	if err != nil {
		return nil, err
	}
	list, err := s.auth.Sessions(ctx, actorOf(ctx), u.ID)
	if err != nil {
		return nil, err
	}
	answer := api.ListSessions200JSONResponse{}
	for _, e := range list {
		answer = append(answer, api.Session{SessionID: hex.EncodeToString(e.Hash[:]), Address: e.Address, UserAgent: e.UserAgent,
			CreatedAt: e.CreatedAt, LastSeenAt: e.LastSeenAt, ExpiresAt: e.ExpiresAt})
	}
	return answer, nil
}

// RevokeSession signs a person out of one browser.
func (s *service) RevokeSession(ctx context.Context, r api.RevokeSessionRequestObject) (api.RevokeSessionResponseObject, error) {
	u, err := s.user(ctx, signing.Interactive, r.UserID)
	if err != nil {
		return nil, err
	}
	hash, _ := auth.ParseSessionHash(r.SessionID) // what is none names none
	return reply[api.RevokeSessionResponseObject](api.RevokeSession204Response{}, s.auth.RevokeSession(ctx, actorOf(ctx), u.ID, hash))
}

// RevokeSessions signs a person out of all browsers but at most one.
func (s *service) RevokeSessions(ctx context.Context, r api.RevokeSessionsRequestObject) (api.RevokeSessionsResponseObject, error) {
	u, err := s.user(ctx, signing.Interactive, r.UserID)
	if err != nil {
		return nil, err
	}
	var keep [32]byte
	if r.Body != nil && r.Body.ExceptSessionID != "" {
		var ok bool
		if keep, ok = auth.ParseSessionHash(r.Body.ExceptSessionID); !ok {
			return nil, signing.Invalid("ExceptSessionId", "A session's id has 64 hexadecimal digits.")
		}
	}
	n, err := s.auth.RevokeSessions(ctx, actorOf(ctx), u.ID, keep)
	return reply[api.RevokeSessionsResponseObject](api.RevokeSessions200JSONResponse{Revoked: n}, err)
}

// apiTokens lists a user's tokens.
func (s *service) apiTokens(ctx context.Context, kind signing.UserKind, id string) ([]api.APIToken, error) {
	u, err := s.user(ctx, kind, id)
	if err != nil {
		return nil, err
	}
	list, err := s.auth.Tokens(ctx, actorOf(ctx), signing.UserToken, u.ID)
	if err != nil {
		return nil, err
	}
	answer, now := []api.APIToken{}, time.Now()
	for _, t := range list {
		answer = append(answer, api.APIToken{APITokenID: string(t.ID), Name: t.Name, Prefix: t.Prefix, IsUsable: t.Usable(now), CreatedAt: t.CreatedAt,
			ExpiresAt: optionalTime(t.ExpiresAt), LastUsedAt: optionalTime(t.LastUsedAt), RevokedAt: optionalTime(t.RevokedAt)})
	}
	return answer, nil
}

// revokeToken revokes one of a user's tokens.
func (s *service) revokeToken(ctx context.Context, kind signing.UserKind, id, token string) error {
	u, err := s.user(ctx, kind, id)
	if err != nil {
		return err
	}
	known, _ := signing.ParseID(token) // what is none names none
	return s.auth.RevokeToken(ctx, actorOf(ctx), signing.UserToken, u.ID, known)
}

// regenerateToken replaces a user's tokens by a new one.
func (s *service) regenerateToken(ctx context.Context, kind signing.UserKind, id string, body *api.RegenerateToken) (api.IssuedToken, error) {
	u, err := s.user(ctx, kind, id)
	if err != nil {
		return api.IssuedToken{}, err
	}
	var o auth.TokenOptions
	if body != nil {
		o.Name, o.ExpiresAt = body.Name, timePointer(body.ExpiresAt)
	}
	token, record, err := s.auth.RegenerateToken(ctx, actorOf(ctx), signing.UserToken, u.ID, "", o)
	if err != nil {
		return api.IssuedToken{}, err
	}
	return api.IssuedToken{APIToken: token, ExpiresAt: optionalTime(record.ExpiresAt)}, nil
}

// ListInteractiveUserTokens lists a person's tokens.
func (s *service) ListInteractiveUserTokens(ctx context.Context, r api.ListInteractiveUserTokensRequestObject) (api.ListInteractiveUserTokensResponseObject, error) {
	list, err := s.apiTokens(ctx, signing.Interactive, r.UserID)
	return reply[api.ListInteractiveUserTokensResponseObject](api.ListInteractiveUserTokens200JSONResponse(list), err)
}

// RevokeInteractiveUserToken revokes one of a person's tokens.
func (s *service) RevokeInteractiveUserToken(ctx context.Context, r api.RevokeInteractiveUserTokenRequestObject) (api.RevokeInteractiveUserTokenResponseObject, error) {
	return reply[api.RevokeInteractiveUserTokenResponseObject](api.RevokeInteractiveUserToken204Response{}, s.revokeToken(ctx, signing.Interactive, r.UserID, r.APITokenID))
}

// RegenerateInteractiveUserToken replaces the caller's own tokens.
func (s *service) RegenerateInteractiveUserToken(ctx context.Context, r api.RegenerateInteractiveUserTokenRequestObject) (api.RegenerateInteractiveUserTokenResponseObject, error) {
	body, err := s.regenerateToken(ctx, signing.Interactive, r.UserID, r.Body)
	return reply[api.RegenerateInteractiveUserTokenResponseObject](api.RegenerateInteractiveUserToken200JSONResponse(body), err)
}

// ListCIUserTokens lists a CI user's tokens.
func (s *service) ListCIUserTokens(ctx context.Context, r api.ListCIUserTokensRequestObject) (api.ListCIUserTokensResponseObject, error) {
	list, err := s.apiTokens(ctx, signing.CI, r.UserID)
	return reply[api.ListCIUserTokensResponseObject](api.ListCIUserTokens200JSONResponse(list), err)
}

// RevokeCIUserToken revokes one of a CI user's tokens.
func (s *service) RevokeCIUserToken(ctx context.Context, r api.RevokeCIUserTokenRequestObject) (api.RevokeCIUserTokenResponseObject, error) {
	return reply[api.RevokeCIUserTokenResponseObject](api.RevokeCIUserToken204Response{}, s.revokeToken(ctx, signing.CI, r.UserID, r.APITokenID))
}

// RegenerateCIUserToken replaces a CI user's tokens.
func (s *service) RegenerateCIUserToken(ctx context.Context, r api.RegenerateCIUserTokenRequestObject) (api.RegenerateCIUserTokenResponseObject, error) {
	body, err := s.regenerateToken(ctx, signing.CI, r.UserID, r.Body)
	return reply[api.RegenerateCIUserTokenResponseObject](api.RegenerateCIUserToken200JSONResponse(body), err)
}
