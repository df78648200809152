package auth

import (
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"golang.org/x/crypto/chacha20poly1305"
)

const maxSealed = 4096 // characters; browsers store no larger cookie

// sealer encrypts and authenticates what the browser keeps between two steps, so that any process of the installation can
// take the second one (XChaCha20-Poly1305, random nonces). A sealed text opens for its purpose and until its expiry only.
type sealer struct{ aead cipher.AEAD }

// errSealed answers every sealed text that does not open; which reason it was would help nobody but a forger.
var errSealed = errors.New("sealed state is not ours, damaged, or for another purpose")

func deriveKeys(key []byte) (*sealer, []byte, error) {
	sealing, err := hkdf.Key(sha256.New, key, nil, "countersign auth seal", chacha20poly1305.KeySize)
	if err != nil {
		return nil, nil, fmt.Errorf("auth: derive the sealing key: %w", err)
	}
	csrf, err := hkdf.Key(sha256.New, key, nil, "countersign auth form token", 32)
	if err != nil {
		return nil, nil, fmt.Errorf("auth: derive the form token key: %w", err)
	}
	aead, err := chacha20poly1305.NewX(sealing)
	if err != nil {
		return nil, nil, fmt.Errorf("auth: make the sealing cipher: %w", err)
	}
	return &sealer{aead}, csrf, nil
}

// sealedText is the plaintext of a sealed text.
type sealedText struct {
	Begun   time.Time       `json:"begun"`
	Expires time.Time       `json:"expires"`
	Value   json.RawMessage `json:"value"`
}

// seal returns base64url(nonce || ciphertext) of the value's JSON.
func (s *sealer) seal(purpose string, value any, now, expires time.Time) (string, error) {
	raw, err := json.Marshal(value)
	if err != nil {
		return "", fmt.Errorf("auth: encode state: %w", err)
	}
	plain, err := json.Marshal(sealedText{Begun: now, Expires: expires, Value: raw})
	if err != nil {
		return "", fmt.Errorf("auth: encode state: %w", err)
	}
	nonce := make([]byte, s.aead.NonceSize(), s.aead.NonceSize()+len(plain)+s.aead.Overhead())
	rand.Read(nonce)
	sealed := base64.RawURLEncoding.EncodeToString(s.aead.Seal(nonce, nonce, plain, []byte(purpose)))
	if len(sealed) > maxSealed {
		return "", fmt.Errorf("auth: sealed state has %d characters, the limit is %d", len(sealed), maxSealed)
	}
	return sealed, nil
}

// open reads a sealed text into value and returns when it was sealed.
func (s *sealer) open(purpose, sealed string, value any, now time.Time) (begun time.Time, err error) {
	if len(sealed) > maxSealed {
		return begun, errSealed
	}
	raw, err := base64.RawURLEncoding.DecodeString(sealed)
	if err != nil || len(raw) < s.aead.NonceSize() {
		return begun, errSealed
	}
	nonce, ciphertext := raw[:s.aead.NonceSize()], raw[s.aead.NonceSize():]
	plain, err := s.aead.Open(nil, nonce, ciphertext, []byte(purpose))
	if err != nil {
		return begun, errSealed
	}
	var text sealedText
	if err := json.Unmarshal(plain, &text); err != nil {
		return begun, errSealed
	}
	if !now.Before(text.Expires) {
		return begun, unauthenticated("This took too long: begin again.")
	}
	if err := json.Unmarshal(text.Value, value); err != nil {
		return begun, errSealed
	}
	return text.Begun, nil
}

// FormToken returns a token for the forms of a session (cookie as from [SignedIn]): a page of another site does not know it, so a form that brings
// it comes from our page. Each call returns another text, so that compressed pages do not give it away.
func (s *Service) FormToken(cookie string) string {
	var out [2 * sha256.Size]byte
	mask, masked := out[:sha256.Size], out[sha256.Size:]
	rand.Read(mask)
	subtle.XORBytes(masked, mask, s.formMAC(cookie))
	return base64.RawURLEncoding.EncodeToString(out[:])
}

// CheckFormToken reports whether the token was made for the session.
func (s *Service) CheckFormToken(cookie, token string) bool {
	if cookie == "" || len(token) > 128 {
		return false
	}
	raw, err := base64.RawURLEncoding.DecodeString(token)
	if err != nil || len(raw) != 2*sha256.Size {
		return false
	}
	var mac [sha256.Size]byte
	subtle.XORBytes(mac[:], raw[:sha256.Size], raw[sha256.Size:])
	return hmac.Equal(mac[:], s.formMAC(cookie))
}

func (s *Service) formMAC(cookie string) []byte {
	m := hmac.New(sha256.New, s.csrfKey)
	m.Write([]byte(cookie))
	return m.Sum(nil)
}
