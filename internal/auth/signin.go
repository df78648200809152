package auth

import (
	"context"
	"slices"
	"strings"

	"github.com/countersign-dev/countersign/internal/signing"
)

const (
	maxAccounts   = 8 // of one e-mail address, in different organizations
	maxEmail      = 320
	purposeChoose = "choose an organization"
	methodPass    = "password"
	wrongPassword = "The e-mail address or the password is wrong."
)

// Choice asks a person whose e-mail address and password open accounts in several organizations for one of them.
type Choice struct {
	Organizations []*signing.Organization
	State         string // for ChooseOrganization, within five minutes; the browser may keep it
}

// account is a user that an e-mail address names, with its credential.
type account struct {
	user *signing.User
	cred *signing.Credential
}

// reasonAgainst says why the account cannot be entered by password at all; empty: it can.
func (a account) reasonAgainst() string {
	switch {
	case !a.user.Active:
		return "the user is deactivated"
	case a.cred.PasswordHash == "":
		return "the user has no password"
	}
	return ""
}

// SignIn signs in an interactive user by e-mail address (without regard to case) and password. When these open accounts in
// several organizations it returns a Choice instead of a session. A password whose hash is weaker than Config.Hashing is
// hashed anew.
//
// Errors: KindUnauthenticated, with one message and, for an address with at most one account, after the same time,
// whatever is wrong; KindUnavailable with a [RateLimitError] in its chain after too many attempts for the account or from the address.
func (s *Service) SignIn(ctx context.Context, email, password string, c Client) (SignedIn, *Choice, error) {
	email = strings.TrimSpace(email)
	if err := s.limits.arrive(c, s.now()); err != nil {
		return SignedIn{}, nil, err
	}
	if checkName("Email", email, maxEmail) != nil || email == "" || len(password) > maxPasswordLength {
		return SignedIn{}, nil, unauthenticated(wrongPassword)
	}
	accounts, err := s.accountsOf(ctx, email)
	if err != nil {
		return SignedIn{}, nil, err
	}
	var known signing.ID
	if len(accounts) == 1 && s.knows(c, accounts[0]) {
		known = accounts[0].user.ID
	}
	right, err := s.limits.guess(email, known, c, s.now())
	if err != nil {
		return SignedIn{}, nil, err
	}
	if len(accounts) == 0 {
		if _, _, err := s.hasher.verify(ctx, password, ""); err != nil {
			return SignedIn{}, nil, err
		}
		s.log.Info("sign-in failed: no such user", "address", c.Address)
		return SignedIn{}, nil, unauthenticated(wrongPassword)
	}
	var open []account
	var upgrade bool
	for _, a := range accounts {
		stored, reason := a.cred.PasswordHash, a.reasonAgainst()
		if reason != "" {
			stored = "" // takes as long, and fails
		}
		ok, outdated, err := s.hasher.verify(ctx, password, stored)
		switch {
		case err != nil:
			return SignedIn{}, nil, err
		case ok:
			open = append(open, a)
			upgrade = outdated
		case reason == "":
			reason = "wrong password"
			fallthrough
		default:
			s.failSignIn(a.user, methodPass, reason, c)
		}
	}
	if len(open) == 0 {
		return SignedIn{}, nil, unauthenticated(wrongPassword)
	}
	s.limits.welcome(c)
	if len(open) == len(accounts) { // or it was a guess at somebody's password, whatever else it opened
		right()
	}
	if len(open) > 1 {
		choice, err := s.choice(ctx, open)
		return SignedIn{}, choice, err
	}
	in, err := s.enterByPassword(ctx, open[0], password, upgrade, c)
	return in, nil, err
}

// accountsOf finds the interactive users of an e-mail address. It reads a credential in any case, so that unknown
// addresses take as long as known ones.
func (s *Service) accountsOf(ctx context.Context, email string) (accounts []account, err error) {
	err = s.store.View(ctx, func(tx signing.Tx) error {
		accounts = nil
		users, err := tx.UserByEmail(ctx, email)
		if err != nil {
			return err
		}
		users = slices.DeleteFunc(users, func(u *signing.User) bool { return u.Kind != signing.Interactive })
		if len(users) == 0 {
			_, err := credential(ctx, tx, signing.NewID())
			return err
		}
		for _, u := range users[:min(len(users), maxAccounts)] {
			cred, err := credential(ctx, tx, u.ID)
			if err != nil {
				return err
			}
			accounts = append(accounts, account{u, cred})
		}
		return nil
	})
	return accounts, err
}

// credential returns a user's credential, or a new empty one.
func credential(ctx context.Context, tx signing.Tx, user signing.ID) (*signing.Credential, error) {
	c, err := tx.Credential(ctx, user)
	if signing.KindOf(err) == signing.KindNotFound {
		return &signing.Credential{UserID: user}, nil
	}
	return c, err
}

// enterByPassword starts the session of an account whose password was right, unless the account changed meanwhile.
func (s *Service) enterByPassword(ctx context.Context, a account, password string, upgrade bool, c Client) (in SignedIn, err error) {
	var better string
	if upgrade {
		if better, err = s.hasher.hash(ctx, password); err != nil {
			return SignedIn{}, err
		}
	}
	err = s.store.Tx(ctx, func(tx signing.Tx) error {
		u, cred, err := userAndCredential(ctx, tx, a.user.OrganizationID, a.user.ID)
		if err != nil {
			return err
		}
		if !u.Active || cred.PasswordHash != a.cred.PasswordHash {
			return unauthenticated(wrongPassword)
		}
		if upgrade {
			// UpdatedAt stays: it tells when the password was chosen.
			cred.PasswordHash = better
			if err := tx.PutCredential(ctx, cred); err != nil {
				return err
			}
		}
		in, err = s.startSession(ctx, tx, u, EventSignedIn, methodPass, c)
		return err
	})
	if err != nil {
		return SignedIn{}, err
	}
	return in, nil
}

// userAndCredential reads the credential first, which in a read-write transaction holds the user until its end.
func userAndCredential(ctx context.Context, tx signing.Tx, org, user signing.ID) (*signing.User, *signing.Credential, error) {
	cred, err := credential(ctx, tx, user)
	if err != nil {
		return nil, nil, err
	}
	u, err := tx.User(ctx, org, user)
	if err != nil {
		return nil, nil, err
	}
	return u, cred, nil
}

// chosen is the sealed state of a Choice: the users whose password was right, by organization.
type chosen map[signing.ID]signing.ID

func (s *Service) choice(ctx context.Context, open []account) (*Choice, error) {
	users, choice := chosen{}, &Choice{}
	err := s.store.View(ctx, func(tx signing.Tx) error {
		choice.Organizations = nil
		for _, a := range open {
			o, err := tx.Organization(ctx, a.user.OrganizationID)
			if err != nil {
				return err
			}
			users[o.ID] = a.user.ID
			choice.Organizations = append(choice.Organizations, o)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	slices.SortFunc(choice.Organizations, func(a, b *signing.Organization) int { return strings.Compare(a.Name, b.Name) })
	now := s.now()
	choice.State, err = s.sealer.seal(purposeChoose, users, now, now.Add(ceremonyLife))
	return choice, err
}

// ChooseOrganization ends a sign-in that SignIn answered with a Choice. Errors: KindUnauthenticated when the state is
// not from SignIn, is older than five minutes, or the account changed since.
func (s *Service) ChooseOrganization(ctx context.Context, state string, org signing.ID, c Client) (SignedIn, error) {
	var users chosen
	begun, err := s.sealer.open(purposeChoose, state, &users, s.now())
	if err != nil {
		return SignedIn{}, ceremonyError(err)
	}
	user, ok := users[org]
	if !ok {
		return SignedIn{}, unauthenticated("Your password does not open an account in this organization.")
	}
	var in SignedIn
	err = s.store.Tx(ctx, func(tx signing.Tx) error {
		u, cred, err := userAndCredential(ctx, tx, org, user)
		if err != nil {
			return err
		}
		if !u.Active || cred.PasswordHash == "" || cred.UpdatedAt.After(begun) {
			return unauthenticated("The account changed in the meantime: sign in again.")
		}
		in, err = s.startSession(ctx, tx, u, EventSignedIn, methodPass, c)
		return err
	})
	if err != nil {
		return SignedIn{}, err
	}
	return in, nil
}

// ChangePassword sets the password of the cookie's user, who names the current one, or, having none, signed in less than 15
// minutes ago. All sessions of the user end, and an invitation that is open; the result is a new session.
//
// Errors: KindUnauthenticated for the session; KindInvalid naming "CurrentPassword" or "Password"; KindForbidden;
// KindUnavailable after too many attempts.
func (s *Service) ChangePassword(ctx context.Context, cookie, current, password string, c Client) (SignedIn, error) {
	entry, err := s.session(ctx, cookie)
	if err != nil {
		return SignedIn{}, err
	}
	var a account
	err = s.store.View(ctx, func(tx signing.Tx) (err error) {
		a.user, a.cred, err = userAndCredential(ctx, tx, entry.actor.OrganizationID, entry.actor.UserID)
		return err
	})
	if err != nil {
		return SignedIn{}, err
	}
	if a.cred.PasswordHash == "" {
		if _, err := s.freshSession(ctx, cookie); err != nil {
			return SignedIn{}, err
		}
	} else if err := s.checkCurrent(ctx, a, current, c); err != nil {
		return SignedIn{}, err
	}
	if err := checkNewPassword(password, a.user); err != nil {
		return SignedIn{}, err
	}
	hash, err := s.hasher.hash(ctx, password)
	if err != nil {
		return SignedIn{}, err
	}
	var in SignedIn
	err = s.store.Tx(ctx, func(tx signing.Tx) error {
		u, cred, err := userAndCredential(ctx, tx, a.user.OrganizationID, a.user.ID)
		if err != nil {
			return err
		}
		if !u.Active || cred.PasswordHash != a.cred.PasswordHash {
			return signing.Errorf(signing.KindConflict, "The account changed in the meantime: reload the page and try again.")
		}
		cred.PasswordHash, cred.UpdatedAt = hash, s.now()
		if err := tx.PutCredential(ctx, cred); err != nil {
			return err
		}
		if err := tx.DeleteSessionsOf(ctx, u.ID); err != nil {
			return err
		}
		if err := tx.DeleteInvitationsOf(ctx, u.ID); err != nil { // which could replace the password
			return err
		}
		in, err = s.startSession(ctx, tx, u, EventPasswordChanged, methodPass, c)
		return err
	})
	if err != nil {
		return SignedIn{}, err
	}
	s.forgetSessionsOf(a.user.ID)
	return in, nil
}

func (s *Service) checkCurrent(ctx context.Context, a account, current string, c Client) error {
	right, err := s.limits.guessKnown(a.user.ID, s.now())
	if err != nil {
		return err
	}
	if len(current) > maxPasswordLength {
		return signing.Invalid("CurrentPassword", "This is not the current password.")
	}
	ok, _, err := s.hasher.verify(ctx, current, a.cred.PasswordHash)
	if err != nil {
		return err
	}
	if !ok {
		s.failSignIn(a.user, methodPass, "wrong current password while changing it", c)
		return signing.Invalid("CurrentPassword", "This is not the current password.")
	}
	right()
	return nil
}

// failSignIn has a failed sign-in of an existing user recorded.
func (s *Service) failSignIn(u *signing.User, method, reason string, c Client) {
	c = c.bounded()
	s.fail(failure{
		// Nobody was authenticated, so the system is the actor.
		actor:  signing.Countersign(u.OrganizationID),
		object: userObject(u),
		data:   signInData{Method: method, Address: host(c.Address), UserAgent: c.UserAgent, Reason: reason},
		at:     s.now(),
	})
}

// ceremonyError makes an error of a sealed state fit for users.
func ceremonyError(err error) error {
	if signing.KindOf(err) != 0 {
		return err
	}
	return unauthenticated("This step does not belong to one that was begun here: begin again.")
}
