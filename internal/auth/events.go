package auth

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/countersign-dev/countersign/internal/audit"
	"github.com/countersign-dev/countersign/internal/signing"
)

// The events that this package appends to the audit log. Their object is the user, or the trusted build system for its tokens.
// No event carries a secret or a hash of one.
const (
	EventTokenIssued        = "ApiToken.Issued"      // data: token{id, name, prefix, expiresAt}
	EventTokenRegenerated   = "ApiToken.Regenerated" // data: token, replaces[]
	EventTokenRevoked       = "ApiToken.Revoked"     // data: token
	EventSignedIn           = "User.SignedIn"        // data: method, address, userAgent
	EventSignInFailed       = "User.SignInFailed"    // data: method, address, userAgent, reason; at most as many as the rate limits let pass
	EventInvited            = "User.Invited"         // data: expiresAt
	EventInvitationRevoked  = "User.InvitationRevoked"
	EventInvitationAccepted = "User.InvitationAccepted"
	EventPasswordChanged    = "User.PasswordChanged"
	EventPasskeyAdded       = "User.PasskeyAdded"   // data: id, name
	EventPasskeyRemoved     = "User.PasskeyRemoved" // data: id, name
	EventSessionRevoked     = "User.SessionRevoked" // data: count
)

// record appends an event to the audit log of the transaction. Call it last: it serialises an organization's writers.
func (s *Service) record(ctx context.Context, tx signing.Tx, by signing.Actor, event string, object audit.Object, data any) error {
	return recordAt(ctx, tx, s.now(), by, event, object, data)
}

func recordAt(ctx context.Context, tx signing.Tx, at time.Time, by signing.Actor, event string, object audit.Object, data any) error {
	var raw json.RawMessage
	if data != nil {
		var err error
		if raw, err = json.Marshal(data); err != nil {
			return fmt.Errorf("auth: encode audit data of %s: %w", event, err)
		}
	}
	return tx.AppendAudit(ctx, &audit.Entry{
		OrganizationID: string(by.OrganizationID),
		Time:           at,
		Event:          event,
		Actor:          audit.Actor{ID: string(by.UserID), Kind: string(by.Kind), Name: by.Name, Via: by.Via},
		Object:         object,
		Data:           raw,
	})
}

func userObject(u *signing.User) audit.Object {
	return audit.Object{Type: string(u.Kind) + "User", ID: string(u.ID), Name: u.Name}
}
