package auth

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"slices"
	"testing"
)

// authenticator is a platform authenticator together with its browser (Web Authentication Level 3, sections 5 and 6): it holds
// discoverable ES256 credentials and speaks the JSON of navigator.credentials. Its fields let tests misbehave.
type authenticator struct {
	t      testing.TB
	origin string
	rpID   string // of which it claims to be; empty: what the options say
	flags  byte   // user present 0x01, user verified 0x04, backup eligible 0x08, backed up 0x10
	count  uint32 // signature counter; it stays zero when still is set
	still  bool

	id     []byte
	handle []byte
	key    *ecdsa.PrivateKey
}

const (
	userPresent    = 0x01
	userVerified   = 0x04
	backupEligible = 0x08
	backedUp       = 0x10
	hasCredential  = 0x40
)

func newAuthenticator(t testing.TB) *authenticator {
	return &authenticator{t: t, origin: "https://sign.example.com", flags: userPresent | userVerified | backupEligible | backedUp}
}

var b64 = base64.RawURLEncoding

type descriptor struct{ ID, Type string }

// create answers navigator.credentials.create.
func (a *authenticator) create(options []byte) ([]byte, error) {
	a.t.Helper()
	var o struct {
		PublicKey struct {
			RP   struct{ ID, Name string }
			User struct {
				ID, Name, DisplayName string
			}
			Challenge        string
			PubKeyCredParams []struct {
				Type string
				Alg  int
			}
			ExcludeCredentials     []descriptor
			AuthenticatorSelection struct{ ResidentKey, UserVerification string }
			Attestation            string
		}
	}
	if err := json.Unmarshal(options, &o); err != nil {
		return nil, err
	}
	p := o.PublicKey
	switch {
	case p.AuthenticatorSelection.ResidentKey != "required" || p.AuthenticatorSelection.UserVerification != "required":
		return nil, errors.New("options want no discoverable credential, or no user verification")
	case p.RP.ID == "" || p.RP.Name == "" || p.User.Name == "" || p.User.DisplayName == "":
		return nil, errors.New("options lack a required name")
	case !slices.ContainsFunc(p.PubKeyCredParams, func(c struct {
		Type string
		Alg  int
	}) bool {
		return c.Type == "public-key" && c.Alg == -7
	}):
		return nil, errors.New("options do not offer ES256")
	}
	handle, err := b64.DecodeString(p.User.ID)
	if err != nil || len(handle) == 0 || len(handle) > 64 {
		return nil, errors.New("options have no user handle of 1 to 64 bytes")
	}
	if challenge, err := b64.DecodeString(p.Challenge); err != nil || len(challenge) < 16 {
		return nil, errors.New("options have no challenge of 16 bytes or more")
	}
	for _, known := range p.ExcludeCredentials {
		if a.id != nil && known.ID == b64.EncodeToString(a.id) {
			return nil, errors.New("InvalidStateError: the credential is excluded")
		}
	}
	if a.key == nil {
		a.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			return nil, err
		}
		a.id = make([]byte, 32)
		rand.Read(a.id)
	}
	a.handle = handle
	public, err := a.key.PublicKey.Bytes() // 0x04 || x || y
	if err != nil {
		return nil, err
	}
	cose := cborMap(cborInt(1), cborInt(2), cborInt(3), cborInt(-7), cborInt(-1), cborInt(1), cborInt(-2), cborBytes(public[1:33]), cborInt(-3), cborBytes(public[33:]))
	data := a.data(p.RP.ID, hasCredential)
	data = append(data, make([]byte, 16)...) // AAGUID
	data = binary.BigEndian.AppendUint16(data, uint16(len(a.id)))
	data = append(append(data, a.id...), cose...)
	attestation := cborMap(cborText("fmt"), cborText("none"), cborText("attStmt"), cborMap(), cborText("authData"), cborBytes(data))
	return a.credential(map[string]any{
		"clientDataJSON":    b64.EncodeToString(a.clientData("webauthn.create", p.Challenge)),
		"attestationObject": b64.EncodeToString(attestation),
		"transports":        []string{"internal", "hybrid"},
	}), nil
}

// get answers navigator.credentials.get.
func (a *authenticator) get(options []byte) ([]byte, error) {
	a.t.Helper()
	var o struct {
		PublicKey struct {
			RPID             string `json:"rpId"`
			Challenge        string
			UserVerification string
			AllowCredentials []descriptor
		}
	}
	if err := json.Unmarshal(options, &o); err != nil {
		return nil, err
	}
	p := o.PublicKey
	if p.UserVerification != "required" || len(p.AllowCredentials) != 0 || p.RPID == "" {
		return nil, errors.New("options want no discoverable credential, or no user verification")
	}
	if !a.still {
		a.count++
	}
	data, client := a.data(p.RPID, 0), a.clientData("webauthn.get", p.Challenge)
	clientHash := sha256.Sum256(client)
	digest := sha256.Sum256(append(slices.Clone(data), clientHash[:]...))
	signature, err := ecdsa.SignASN1(rand.Reader, a.key, digest[:])
	if err != nil {
		return nil, err
	}
	return a.credential(map[string]any{
		"clientDataJSON":    b64.EncodeToString(client),
		"authenticatorData": b64.EncodeToString(data),
		"signature":         b64.EncodeToString(signature),
		"userHandle":        b64.EncodeToString(a.handle),
	}), nil
}

// data is the authenticator data without attested credential data (section 6.1).
func (a *authenticator) data(rpID string, flags byte) []byte {
	if a.rpID != "" {
		rpID = a.rpID
	}
	hash := sha256.Sum256([]byte(rpID))
	return binary.BigEndian.AppendUint32(append(hash[:], a.flags|flags), a.count)
}

func (a *authenticator) clientData(kind, challenge string) []byte {
	raw, err := json.Marshal(map[string]any{"type": kind, "challenge": challenge, "origin": a.origin, "crossOrigin": false})
	if err != nil {
		a.t.Fatal(err)
	}
	return raw
}

func (a *authenticator) credential(response map[string]any) []byte {
	raw, err := json.Marshal(map[string]any{
		"id": b64.EncodeToString(a.id), "rawId": b64.EncodeToString(a.id), "type": "public-key",
		"authenticatorAttachment": "platform", "clientExtensionResults": map[string]any{"credProps": map[string]any{"rk": true}},
		"response": response,
	})
	if err != nil {
		a.t.Fatal(err)
	}
	return raw
}

// The CBOR (RFC 8949) that an authenticator writes.

func cborHead(major byte, n uint64) []byte {
	switch {
	case n < 24:
		return []byte{major<<5 | byte(n)}
	case n < 1<<8:
		return []byte{major<<5 | 24, byte(n)}
	default:
		return binary.BigEndian.AppendUint16([]byte{major<<5 | 25}, uint16(n))
	}
}

func cborInt(n int) []byte {
	if n < 0 {
		return cborHead(1, uint64(-1-n))
	}
	return cborHead(0, uint64(n))
}

func cborBytes(b []byte) []byte { return append(cborHead(2, uint64(len(b))), b...) }
func cborText(s string) []byte  { return append(cborHead(3, uint64(len(s))), s...) }

func cborMap(pairs ...[]byte) []byte {
	return append(cborHead(5, uint64(len(pairs)/2)), slices.Concat(pairs...)...)
}
