package auth

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/countersign-dev/countersign/internal/signing"
)

const (
	methodInvitation  = "invitation"
	invitationInvalid = "This invitation is unknown, was used, or was replaced by a newer one: ask an administrator for a new one."
)

// Invite makes an invitation for an interactive user and returns its code, which is shown this once: 53 letters, digits and
// underscores for the link in the mail. With the code, the user sets up sign-in once; the invitation replaces an earlier one. It serves
// new users and those who lost their password or passkey.
//
// It takes the permission to manage users, and each role that the user has. Errors: KindForbidden, KindNotFound, KindConflict
// for a CI user or a deactivated one.
func (s *Service) Invite(ctx context.Context, by signing.Actor, user signing.ID) (code string, expires time.Time, err error) {
	if !by.Allowed(signing.OpManageUsers) {
		return "", time.Time{}, forbidden(signing.OpManageUsers)
	}
	err = s.store.Tx(ctx, func(tx signing.Tx) (err error) {
		code, expires, err = s.InviteTx(ctx, tx, by, user)
		return err
	})
	if err != nil {
		return "", time.Time{}, err
	}
	return code, expires, nil
}

// InviteTx is Invite as a part of the caller's transaction, for a user who is created in it. [signing.Countersign] may invite,
// too: the first administrator. It comes last in the transaction.
func (s *Service) InviteTx(ctx context.Context, tx signing.Tx, by signing.Actor, user signing.ID) (code string, expires time.Time, err error) {
	u, _, err := userAndCredential(ctx, tx, by.OrganizationID, user)
	if err != nil {
		return "", time.Time{}, err
	}
	if by.Kind != signing.System {
		if err := signing.MayIssueCredentials(ctx, tx, by, u); err != nil {
			return "", time.Time{}, err
		}
	}
	switch {
	case u.Kind != signing.Interactive:
		return "", time.Time{}, signing.Errorf(signing.KindConflict, "User %q does not sign in: only interactive users are invited.", u.Name)
	case !u.Active:
		return "", time.Time{}, signing.Errorf(signing.KindConflict, "User %q is deactivated: activate the user before the invitation.", u.Name)
	}
	code, expires = mint(prefixInvitation), s.now().Add(s.conf.InvitationLife)
	if err := tx.DeleteInvitationsOf(ctx, u.ID); err != nil {
		return "", time.Time{}, err
	}
	if err := tx.InsertInvitation(ctx, &signing.Invitation{Hash: hashOf(code), OrganizationID: u.OrganizationID, UserID: u.ID, ExpiresAt: expires}); err != nil {
		return "", time.Time{}, err
	}
	return code, expires, s.record(ctx, tx, by, EventInvited, userObject(u), struct {
		ExpiresAt time.Time `json:"expiresAt"`
	}{expires})
}

// InviteByOperator is Invite by whoever operates the installation, for the active interactive user with the e-mail address; the
// organization may be empty when the address has one account. Errors: KindNotFound, KindConflict for several accounts or a
// deactivated user.
func (s *Service) InviteByOperator(ctx context.Context, org signing.ID, email string) (u *signing.User, code string, expires time.Time, err error) {
	err = s.store.Tx(ctx, func(tx signing.Tx) error {
		users, err := tx.UserByEmail(ctx, strings.TrimSpace(email))
		if err != nil {
			return err
		}
		users = slices.DeleteFunc(users, func(u *signing.User) bool { return org != "" && u.OrganizationID != org })
		switch len(users) {
		case 0:
			return signing.Errorf(signing.KindNotFound, "There is no account with the e-mail address %q.", email)
		case 1:
			u = users[0]
		default:
			return signing.Errorf(signing.KindConflict, "The e-mail address has accounts in %d organizations: name one of them.", len(users))
		}
		by := signing.Countersign(u.OrganizationID)
		by.Via = "command line"
		code, expires, err = s.InviteTx(ctx, tx, by, u.ID)
		return err
	})
	if err != nil {
		return nil, "", time.Time{}, err
	}
	return u, code, expires, nil
}

// RevokeInvitation makes the user's open invitation void, such as one that went to a wrong address. What was set up before stays.
// It takes the permission to manage users. Errors: KindForbidden, KindNotFound, KindConflict when no invitation is open.
func (s *Service) RevokeInvitation(ctx context.Context, by signing.Actor, user signing.ID) error {
	if !by.Allowed(signing.OpManageUsers) {
		return forbidden(signing.OpManageUsers)
	}
	return s.store.Tx(ctx, func(tx signing.Tx) error {
		u, _, err := userAndCredential(ctx, tx, by.OrganizationID, user)
		if err != nil {
			return err
		}
		open, err := tx.InvitationsOf(ctx, u.ID)
		if err != nil {
			return err
		}
		if !slices.ContainsFunc(open, func(i *signing.Invitation) bool { return i.UsedAt == nil && s.now().Before(i.ExpiresAt) }) {
			return signing.Errorf(signing.KindConflict, "User %q has no open invitation.", u.Name)
		}
		if err := tx.DeleteInvitationsOf(ctx, u.ID); err != nil {
			return err
		}
		return s.record(ctx, tx, by, EventInvitationRevoked, userObject(u), nil)
	})
}

// Invited is whom an invitation is for.
type Invited struct {
	Organization *signing.Organization
	User         *signing.User
	ExpiresAt    time.Time
}

// Invitation looks an invitation up, for the page that accepts it. Errors: KindUnauthenticated for a code that is malformed, unknown, used, replaced or
// expired, or whose user is deactivated.
func (s *Service) Invitation(ctx context.Context, code string) (Invited, error) {
	var in Invited
	err := s.store.View(ctx, func(tx signing.Tx) (err error) {
		u, _, expires, err := s.openInvitation(ctx, tx, code)
		if err != nil {
			return err
		}
		in = Invited{User: u, ExpiresAt: expires}
		in.Organization, err = tx.Organization(ctx, u.OrganizationID)
		return err
	})
	return in, err
}

// openInvitation returns the user of an invitation that can be accepted, with the credential.
func (s *Service) openInvitation(ctx context.Context, tx signing.Tx, code string) (*signing.User, *signing.Credential, time.Time, error) {
	none := time.Time{}
	if !wellFormed(code) || code[:len(prefixInvitation)] != prefixInvitation {
		return nil, nil, none, unauthenticated("The code of the invitation is malformed: it was mistyped or cut off. Open the complete link.")
	}
	i, err := tx.InvitationByHash(ctx, hashOf(code))
	if signing.KindOf(err) == signing.KindNotFound {
		return nil, nil, none, unauthenticated(invitationInvalid)
	} else if err != nil {
		return nil, nil, none, err
	}
	u, cred, err := userAndCredential(ctx, tx, i.OrganizationID, i.UserID)
	if err != nil {
		return nil, nil, none, err
	}
	switch {
	case i.UsedAt != nil:
		return nil, nil, none, unauthenticated(invitationInvalid)
	case !s.now().Before(i.ExpiresAt):
		return nil, nil, none, unauthenticated("This invitation expired on %s: ask an administrator for a new one.", day(i.ExpiresAt))
	case !u.Active:
		return nil, nil, none, unauthenticated("The user of this invitation is deactivated: ask an administrator.")
	}
	return u, cred, i.ExpiresAt, nil
}

// SignInSetup is how an invited user wants to sign in: by a password or by a passkey. Exactly one is set.
type SignInSetup struct {
	Password string
	Passkey  *NewPasskey // for the ceremony of BeginInvitedPasskey
}

// AcceptInvitation sets up the invited user's sign-in, once, and signs the user in. An earlier password, earlier passkeys and
// all sessions of the user end; API tokens stay.
//
// Errors: KindUnauthenticated as for Invitation; KindInvalid naming "Password" or "Passkey"; KindUnavailable after too many attempts.
func (s *Service) AcceptInvitation(ctx context.Context, code string, setup SignInSetup, c Client) (SignedIn, error) {
	if (setup.Password == "") == (setup.Passkey == nil) {
		return SignedIn{}, signing.Invalid("Password", "Choose a password or a passkey.")
	}
	if err := s.limits.arrive(c, s.now()); err != nil {
		return SignedIn{}, err
	}
	invited, err := s.Invitation(ctx, code)
	if err != nil {
		return SignedIn{}, err
	}
	var hash string
	var added passkey
	if setup.Passkey != nil {
		added, err = s.newPasskey(invited.User, *setup.Passkey)
	} else if err = checkNewPassword(setup.Password, invited.User); err == nil {
		hash, err = s.hasher.hash(ctx, setup.Password)
	}
	if err != nil {
		return SignedIn{}, err
	}
	var in SignedIn
	err = s.store.Tx(ctx, func(tx signing.Tx) error {
		u, cred, _, err := s.openInvitation(ctx, tx, code)
		if err != nil {
			return err
		}
		switch err := tx.UseInvitation(ctx, hashOf(code), s.now()); signing.KindOf(err) {
		case signing.KindConflict, signing.KindNotFound: // used or replaced since it was read
			return unauthenticated(invitationInvalid)
		default:
			if err != nil {
				return err
			}
		}
		fresh := &extras{}
		if setup.Passkey != nil {
			fresh.Passkeys = []passkey{added}
		}
		if err := fresh.encode(cred); err != nil {
			return err
		}
		cred.PasswordHash, cred.UpdatedAt = hash, s.now()
		if err := tx.PutCredential(ctx, cred); err != nil {
			return err
		}
		if err := tx.DeleteSessionsOf(ctx, u.ID); err != nil {
			return err
		}
		in, err = s.startSession(ctx, tx, u, EventInvitationAccepted, methodInvitation, c)
		return err
	})
	if err != nil {
		return SignedIn{}, err
	}
	s.forgetSessionsOf(invited.User.ID)
	return in, nil
}
