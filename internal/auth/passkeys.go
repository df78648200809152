package auth

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/go-webauthn/webauthn/protocol"
	"github.com/go-webauthn/webauthn/webauthn"
	"github.com/google/uuid"

	"github.com/countersign-dev/countersign/internal/signing"
)

const (
	maxPasskeys     = 20 // per user
	maxPasskeyName  = 100
	maxResponse     = 64 << 10 // bytes of a browser's response
	purposeRegister = "register a passkey"
	purposeSignIn   = "sign in by passkey"
	methodPasskey   = "passkey"

	passkeyRefused = "The passkey was not accepted: it is unknown here or was removed, or its answer could not be verified."
)

// Ceremony is the first half of a WebAuthn ceremony (Web Authentication Level 3, section 7).
type Ceremony struct {
	// Options is the JSON object {"publicKey": {...}}, whose member PublicKeyCredential.parseCreationOptionsFromJSON or
	// parseRequestOptionsFromJSON takes in the browser; the result goes to navigator.credentials.create or get.
	Options json.RawMessage
	// State is kept by the browser or form, and comes back with the response within five minutes. It is encrypted; at most 4096 characters.
	State string
}

// NewPasskey ends the ceremony that registers a passkey.
type NewPasskey struct {
	State    string
	Response []byte // the JSON of the browser's PublicKeyCredential (its toJSON)
	Name     string // at most 100 characters; default "Passkey"
}

// Passkey describes a registered passkey.
type Passkey struct {
	ID         string // base64url
	Name       string
	CreatedAt  time.Time
	LastUsedAt *time.Time
	Synced     bool // it is backed up by its provider, and so may live on several devices
	Blocked    bool // its signature counter went back, as if it had been copied; it can only be removed
}

// extras is the JSON in signing.Credential.Passkeys.
type extras struct {
	Passkeys []passkey `json:"passkeys,omitempty"`
}

type passkey struct {
	Name       string     `json:"name"`
	CreatedAt  time.Time  `json:"createdAt"`
	LastUsedAt *time.Time `json:"lastUsedAt,omitempty"`
	// LastBegun is when the last ceremony with this passkey was begun. Only ceremonies begun later are accepted, so that no
	// answer works twice, in whichever process.
	LastBegun  time.Time           `json:"lastBegun"`
	Credential webauthn.Credential `json:"credential"`
}

func decodeExtras(c *signing.Credential) (*extras, error) {
	e := &extras{}
	if len(c.Passkeys) == 0 {
		return e, nil
	}
	if err := json.Unmarshal(c.Passkeys, e); err != nil {
		return nil, fmt.Errorf("auth: stored passkeys of user %s: %w", c.UserID, err)
	}
	return e, nil
}

// userAndExtras is userAndCredential with the credential's extras, which are not nil.
func userAndExtras(ctx context.Context, tx signing.Tx, org, user signing.ID) (*signing.User, *signing.Credential, *extras, error) {
	u, cred, err := userAndCredential(ctx, tx, org, user)
	if err != nil {
		return nil, nil, nil, err
	}
	e, err := decodeExtras(cred)
	return u, cred, e, err
}

func (e *extras) encode(c *signing.Credential) (err error) {
	c.Passkeys, err = json.Marshal(e)
	return err
}

func (e *extras) find(id []byte) int {
	return slices.IndexFunc(e.Passkeys, func(p passkey) bool { return bytes.Equal(p.Credential.ID, id) })
}

// newRelyingParty returns nil when browsers cannot use passkeys on the origins.
func newRelyingParty(origins []string, name string) (*webauthn.WebAuthn, error) {
	var id string
	for i, origin := range origins {
		u, err := url.Parse(origin)
		if err != nil || u.Hostname() == "" || u.Scheme != "https" && u.Scheme != "http" || u.Path != "" && u.Path != "/" {
			return nil, fmt.Errorf("auth: origin %q is not of the form https://host[:port]", origin)
		}
		if i == 0 {
			id = strings.ToLower(u.Hostname())
		}
	}
	// Passkeys are bound to a domain: an address is none, nor is the single name of a machine on a local network.
	if _, err := netip.ParseAddr(id); id == "" || err == nil || protocol.ValidateRPID(id) != nil {
		return nil, nil
	}
	w, err := webauthn.New(&webauthn.Config{
		RPID: id, RPDisplayName: name, RPOrigins: origins,
		AttestationPreference: protocol.PreferNoAttestation,
		AuthenticatorSelection: protocol.AuthenticatorSelection{
			ResidentKey: protocol.ResidentKeyRequirementRequired, RequireResidentKey: protocol.ResidentKeyRequired(),
			UserVerification: protocol.VerificationRequired,
		},
		// Some password managers answer extensions that nobody asked for; none is used here.
		ExtensionsUnsolicitedOutputPolicy: protocol.UnsolicitedOutputPolicyIgnore,
	})
	if err != nil {
		return nil, fmt.Errorf("auth: passkeys for %s: %w", id, err)
	}
	return w, nil
}

// PasskeysAvailable reports whether browsers can use passkeys here; see Config.Origins.
func (s *Service) PasskeysAvailable() bool { return s.webauthn != nil }

var errNoPasskeys = signing.Errorf(signing.KindConflict, "There are no passkeys on this server: they need an address with a host name, over HTTPS.")

// relyingUser is the user in go-webauthn's terms. Its handle is the organization's id and the user's, 16 bytes each: what a
// discoverable credential returns, so that the user is found without naming anybody first.
type relyingUser struct {
	user        *signing.User
	handle      []byte
	credentials []webauthn.Credential
}

func newRelyingUser(u *signing.User, e *extras) (*relyingUser, error) {
	org, err := uuid.Parse(string(u.OrganizationID))
	if err != nil {
		return nil, fmt.Errorf("auth: organization id %q: %w", u.OrganizationID, err)
	}
	id, err := uuid.Parse(string(u.ID))
	if err != nil {
		return nil, fmt.Errorf("auth: user id %q: %w", u.ID, err)
	}
	r := &relyingUser{user: u, handle: append(org[:], id[:]...)}
	for _, p := range e.Passkeys {
		r.credentials = append(r.credentials, p.Credential)
	}
	return r, nil
}

func parseHandle(handle []byte) (org, user signing.ID, ok bool) {
	if len(handle) != 32 {
		return "", "", false
	}
	return signing.ID(uuid.UUID(handle[:16]).String()), signing.ID(uuid.UUID(handle[16:]).String()), true
}

func (r *relyingUser) WebAuthnID() []byte                         { return r.handle }
func (r *relyingUser) WebAuthnName() string                       { return r.user.Email }
func (r *relyingUser) WebAuthnDisplayName() string                { return r.user.Name }
func (r *relyingUser) WebAuthnCredentials() []webauthn.Credential { return r.credentials }

// BeginPasskey begins to register a passkey for the cookie's user, who signed in less than 15 minutes ago. The passkey is
// discoverable and verifies its user. Errors: KindUnauthenticated, KindForbidden for an older session, KindConflict when
// there are no passkeys here or the user has 20.
func (s *Service) BeginPasskey(ctx context.Context, cookie string) (Ceremony, error) {
	entry, err := s.freshSession(ctx, cookie)
	if err != nil {
		return Ceremony{}, err
	}
	var ceremony Ceremony
	err = s.store.View(ctx, func(tx signing.Tx) error {
		u, _, e, err := userAndExtras(ctx, tx, entry.actor.OrganizationID, entry.actor.UserID)
		if err != nil {
			return err
		}
		if len(e.Passkeys) >= maxPasskeys {
			return tooManyPasskeys()
		}
		ceremony, err = s.beginRegistration(u, e)
		return err
	})
	return ceremony, err
}

// BeginInvitedPasskey begins to register a passkey for an invited user; AcceptInvitation ends it. Errors: those of
// Invitation, and KindConflict when there are no passkeys here.
func (s *Service) BeginInvitedPasskey(ctx context.Context, code string) (Ceremony, error) {
	invited, err := s.Invitation(ctx, code)
	if err != nil {
		return Ceremony{}, err
	}
	return s.beginRegistration(invited.User, &extras{})
}

func (s *Service) beginRegistration(u *signing.User, e *extras) (Ceremony, error) {
	if s.webauthn == nil {
		return Ceremony{}, errNoPasskeys
	}
	user, err := newRelyingUser(u, e)
	if err != nil {
		return Ceremony{}, err
	}
	known := webauthn.Credentials(user.credentials).CredentialDescriptors()
	options, session, err := s.webauthn.BeginRegistration(user, webauthn.WithExclusions(known))
	if err != nil {
		return Ceremony{}, fmt.Errorf("auth: begin to register a passkey: %w", err)
	}
	return s.ceremony(purposeRegister, options, session)
}

func (s *Service) ceremony(purpose string, options any, session *webauthn.SessionData) (c Ceremony, err error) {
	if c.Options, err = json.Marshal(options); err != nil {
		return Ceremony{}, fmt.Errorf("auth: encode the options: %w", err)
	}
	now := s.now()
	if c.State, err = s.sealer.seal(purpose, session, now, now.Add(ceremonyLife)); err != nil {
		return Ceremony{}, err
	}
	return c, nil
}

// newPasskey verifies the browser's response (Web Authentication Level 3, section 7.1).
func (s *Service) newPasskey(u *signing.User, n NewPasskey) (passkey, error) {
	if s.webauthn == nil {
		return passkey{}, errNoPasskeys
	}
	if err := checkName("Name", n.Name, maxPasskeyName); err != nil {
		return passkey{}, err
	}
	var session webauthn.SessionData
	begun, err := s.sealer.open(purposeRegister, n.State, &session, s.now())
	if err != nil {
		return passkey{}, ceremonyError(err)
	}
	if len(n.Response) > maxResponse {
		return passkey{}, signing.Invalid("Passkey", "The browser's response has more than %d bytes.", maxResponse)
	}
	response, err := protocol.ParseCredentialCreationResponseBytes(n.Response)
	if err != nil {
		return passkey{}, s.refusePasskey(err)
	}
	user, err := newRelyingUser(u, &extras{})
	if err != nil {
		return passkey{}, err
	}
	created, err := s.webauthn.CreateCredential(user, session, response)
	if err != nil {
		return passkey{}, s.refusePasskey(err)
	}
	created.Attestation = webauthn.CredentialAttestation{} // nobody asked for it
	name := strings.TrimSpace(n.Name)
	if name == "" {
		name = "Passkey"
	}
	return passkey{Name: name, CreatedAt: s.now(), LastBegun: begun, Credential: *created}, nil
}

func (s *Service) refusePasskey(err error) error {
	s.logPasskey(err)
	return signing.Invalid("Passkey", "The browser's response could not be verified: begin again, and use this site's own address.")
}

func (s *Service) logPasskey(err error) {
	detail := ""
	var e *protocol.Error
	if errors.As(err, &e) {
		detail = e.DevInfo
	}
	s.log.Info("passkey refused", "error", err, "detail", detail)
}

// AddPasskey ends what BeginPasskey began. Errors: those of BeginPasskey; KindInvalid naming "Passkey" or "Name"; KindConflict
// when the passkey is registered already.
func (s *Service) AddPasskey(ctx context.Context, cookie string, n NewPasskey) (Passkey, error) {
	entry, err := s.freshSession(ctx, cookie)
	if err != nil {
		return Passkey{}, err
	}
	var added passkey
	err = s.store.Tx(ctx, func(tx signing.Tx) error {
		u, cred, e, err := userAndExtras(ctx, tx, entry.actor.OrganizationID, entry.actor.UserID)
		if err != nil {
			return err
		}
		if added, err = s.newPasskey(u, n); err != nil {
			return err
		}
		if e.find(added.Credential.ID) >= 0 {
			return signing.Errorf(signing.KindConflict, "This passkey is registered already.")
		}
		if len(e.Passkeys) >= maxPasskeys {
			return tooManyPasskeys()
		}
		e.Passkeys = append(e.Passkeys, added)
		if err := s.putExtras(ctx, tx, cred, e); err != nil {
			return err
		}
		return s.record(ctx, tx, entry.actor, EventPasskeyAdded, userObject(u), added.data())
	})
	if err != nil {
		return Passkey{}, err
	}
	return added.describe(), nil
}

func (s *Service) putExtras(ctx context.Context, tx signing.Tx, cred *signing.Credential, e *extras) error {
	if err := e.encode(cred); err != nil {
		return fmt.Errorf("auth: encode passkeys: %w", err)
	}
	if cred.UpdatedAt.IsZero() {
		cred.UpdatedAt = s.now()
	}
	return tx.PutCredential(ctx, cred)
}

// BeginPasskeySignIn begins a sign-in; the browser lets the person choose among the passkeys for this site. Errors:
// KindConflict when there are no passkeys here.
func (s *Service) BeginPasskeySignIn() (Ceremony, error) {
	if s.webauthn == nil {
		return Ceremony{}, errNoPasskeys
	}
	options, session, err := s.webauthn.BeginDiscoverableLogin(webauthn.WithUserVerification(protocol.VerificationRequired))
	if err != nil {
		return Ceremony{}, fmt.Errorf("auth: begin to sign in by passkey: %w", err)
	}
	return s.ceremony(purposeSignIn, options, session)
}

// SignInWithPasskey ends what BeginPasskeySignIn began. response is the JSON of the browser's PublicKeyCredential. A
// passkey whose signature counter did not grow is blocked from then on, because a copy of it may exist.
//
// Errors: KindUnauthenticated; KindUnavailable with a [RateLimitError] in its chain after too many attempts.
func (s *Service) SignInWithPasskey(ctx context.Context, state string, response []byte, c Client) (SignedIn, error) {
	if s.webauthn == nil {
		return SignedIn{}, errNoPasskeys
	}
	if err := s.limits.arrive(c, s.now()); err != nil {
		return SignedIn{}, err
	}
	var session webauthn.SessionData
	begun, err := s.sealer.open(purposeSignIn, state, &session, s.now())
	if err != nil {
		return SignedIn{}, ceremonyError(err)
	}
	if len(response) > maxResponse {
		return SignedIn{}, unauthenticated(passkeyRefused)
	}
	parsed, err := protocol.ParseCredentialRequestResponseBytes(response)
	if err != nil {
		s.logPasskey(err)
		return SignedIn{}, unauthenticated(passkeyRefused)
	}
	org, id, ok := parseHandle(parsed.Response.UserHandle)
	if !ok {
		return SignedIn{}, unauthenticated(passkeyRefused)
	}
	var in SignedIn
	var refused error
	var u *signing.User
	err = s.store.Tx(ctx, func(tx signing.Tx) error {
		in, refused = SignedIn{}, nil
		var cred *signing.Credential
		var e *extras
		var err error
		u, cred, e, err = userAndExtras(ctx, tx, org, id)
		if err != nil {
			return err
		}
		i, err := s.verifyAssertion(u, e, session, begun, parsed)
		if err != nil {
			refused = err
			if i < 0 {
				return nil
			}
			return s.putExtras(ctx, tx, cred, e) // the passkey is blocked
		}
		if err := s.putExtras(ctx, tx, cred, e); err != nil {
			return err
		}
		in, err = s.startSession(ctx, tx, u, EventSignedIn, methodPasskey, c)
		return err
	})
	switch {
	case signing.KindOf(err) == signing.KindNotFound:
		return SignedIn{}, unauthenticated(passkeyRefused)
	case err != nil:
		return SignedIn{}, err
	case refused != nil:
		s.logPasskey(refused)
		s.failSignIn(u, methodPasskey, refused.Error(), c)
		return SignedIn{}, unauthenticated(passkeyRefused)
	}
	s.limits.welcome(c)
	return in, nil
}

// verifyAssertion verifies a response (Web Authentication Level 3, section 7.2) and updates the passkey in e. With an error, the
// index is not negative when the passkey has changed nevertheless. The error's text is for the audit log.
func (s *Service) verifyAssertion(u *signing.User, e *extras, session webauthn.SessionData, begun time.Time, response *protocol.ParsedCredentialAssertionData) (int, error) {
	i := e.find(response.RawID)
	switch {
	case !u.Active:
		return -1, errors.New("the user is deactivated")
	case i < 0:
		return -1, errors.New("the passkey is not registered")
	case !e.Passkeys[i].usable():
		return -1, errors.New("the passkey is blocked, because its signature counter went back earlier")
	case !begun.After(e.Passkeys[i].LastBegun):
		return -1, errors.New("the answer was used before, or a sign-in begun later has ended")
	}
	user, err := newRelyingUser(u, e)
	if err != nil {
		return -1, err
	}
	updated, err := s.webauthn.ValidateDiscoverableLogin(func(_, _ []byte) (webauthn.User, error) { return user, nil }, session, response)
	if err != nil {
		return -1, fmt.Errorf("the answer was not verified: %w", err)
	}
	now := s.now()
	p := &e.Passkeys[i]
	p.Credential, p.LastUsedAt, p.LastBegun = *updated, &now, begun
	if updated.Authenticator.CloneWarning {
		return i, errors.New("the passkey's signature counter went back: it is blocked, a copy may exist")
	}
	return i, nil
}

// Passkeys lists a user's passkeys, oldest first. It takes the permission to manage users, or being the user.
func (s *Service) Passkeys(ctx context.Context, by signing.Actor, user signing.ID) ([]Passkey, error) {
	if err := maySeeSignIn(by, user); err != nil {
		return nil, err
	}
	var list []Passkey
	err := s.store.View(ctx, func(tx signing.Tx) error {
		_, _, e, err := userAndExtras(ctx, tx, by.OrganizationID, user)
		if err != nil {
			return err
		}
		list = nil
		for _, p := range e.Passkeys {
			list = append(list, p.describe())
		}
		return nil
	})
	return list, err
}

// RemovePasskey removes a passkey by its id, and ends the user's sessions but one (the zero hash keeps none): whoever has the
// lost device may have signed in with it. It takes the permission to manage users, or being the user, who keeps at least one way
// to sign in. Errors: KindForbidden, KindNotFound, KindConflict for the user's last way to sign in.
func (s *Service) RemovePasskey(ctx context.Context, by signing.Actor, user signing.ID, id string, keep [32]byte) error {
	if err := maySeeSignIn(by, user); err != nil {
		return err
	}
	raw, err := base64.RawURLEncoding.DecodeString(id)
	if err != nil {
		return passkeyNotFound()
	}
	err = s.store.Tx(ctx, func(tx signing.Tx) error {
		u, cred, e, err := userAndExtras(ctx, tx, by.OrganizationID, user)
		if err != nil {
			return err
		}
		i := e.find(raw)
		if i < 0 {
			return passkeyNotFound()
		}
		removed := e.Passkeys[i]
		e.Passkeys = slices.Delete(e.Passkeys, i, i+1)
		if isSelf(by, u) && cred.PasswordHash == "" && !slices.ContainsFunc(e.Passkeys, passkey.usable) {
			return signing.Errorf(signing.KindConflict, "This passkey is the only way in which you sign in: set a password or add another passkey first.")
		}
		if err := s.putExtras(ctx, tx, cred, e); err != nil {
			return err
		}
		if _, err := endSessions(ctx, tx, u.ID, func(h [32]byte) bool { return h != keep }); err != nil {
			return err
		}
		return s.record(ctx, tx, by, EventPasskeyRemoved, userObject(u), removed.data())
	})
	s.forgetSessionsOf(user)
	return err
}

// usable reports whether one can sign in with the passkey: no copy of it was seen.
func (p passkey) usable() bool { return !p.Credential.Authenticator.CloneWarning }

func (p passkey) describe() Passkey {
	return Passkey{
		ID: base64.RawURLEncoding.EncodeToString(p.Credential.ID), Name: p.Name, CreatedAt: p.CreatedAt, LastUsedAt: p.LastUsedAt,
		Synced: p.Credential.Flags.BackupState, Blocked: !p.usable(),
	}
}

func (p passkey) data() any {
	return struct {
		ID   string `json:"id"`
		Name string `json:"name"`
	}{p.describe().ID, p.Name}
}

func passkeyNotFound() error {
	return signing.Errorf(signing.KindNotFound, "There is no such passkey, or it was removed.")
}

func tooManyPasskeys() error {
	return signing.Errorf(signing.KindConflict, "You have %d passkeys, which is the limit: remove one first.", maxPasskeys)
}

// checkName checks a name that people give.
func checkName(field, name string, limit int) error {
	if !utf8.ValidString(name) || utf8.RuneCountInString(name) > limit || strings.ContainsFunc(name, unicode.IsControl) {
		return signing.Invalid(field, "The name takes at most %d characters, without control characters.", limit)
	}
	return nil
}
