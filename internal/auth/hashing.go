package auth

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync/atomic"
	"unicode/utf8"

	"golang.org/x/crypto/argon2"
	"golang.org/x/text/unicode/norm"

	"github.com/countersign-dev/countersign/internal/signing"
)

// Hashing holds the parameters of Argon2id (RFC 9106). Raising them upgrades each password when its owner next signs in.
type Hashing struct {
	MemoryKiB uint32 // 8 per lane to 262,144
	Passes    uint32 // 1 to 16
	Lanes     uint8  // 1 to 16
}

// DefaultHashing costs an attacker 32 MiB and three passes per guess; on one core of a server that is below 100 ms.
var DefaultHashing = Hashing{MemoryKiB: 32 * 1024, Passes: 3, Lanes: 1}

const (
	maxMemoryKiB = 256 * 1024
	maxPasses    = 16
	maxLanes     = 16
	saltLength   = 16
	tagLength    = 32
	maxWaiting   = 100 // sign-ins waiting for a hashing slot

	minPasswordLength = 12   // characters
	maxPasswordLength = 1024 // bytes
)

func (h Hashing) check() error {
	switch {
	case h.Lanes < 1 || h.Lanes > maxLanes:
		return fmt.Errorf("%d lanes are not between 1 and %d", h.Lanes, maxLanes)
	case h.Passes < 1 || h.Passes > maxPasses:
		return fmt.Errorf("%d passes are not between 1 and %d", h.Passes, maxPasses)
	case h.MemoryKiB < 8*uint32(h.Lanes) || h.MemoryKiB > maxMemoryKiB:
		return fmt.Errorf("memory of %d KiB is not between %d and %d KiB", h.MemoryKiB, 8*h.Lanes, maxMemoryKiB)
	}
	return nil
}

// passwordHash is a parsed PHC string: $argon2id$v=19$m=32768,t=3,p=1$<salt>$<tag>, salt and tag in base64 without padding.
type passwordHash struct {
	Hashing
	salt, tag []byte
}

func (p passwordHash) String() string {
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version, p.MemoryKiB, p.Passes, p.Lanes,
		base64.RawStdEncoding.EncodeToString(p.salt), base64.RawStdEncoding.EncodeToString(p.tag))
}

// parsePasswordHash reads a PHC string. It refuses parameters out of bounds, which could exhaust memory.
func parsePasswordHash(s string) (p passwordHash, err error) {
	parts := strings.Split(s, "$")
	if len(parts) != 6 || parts[0] != "" || parts[1] != "argon2id" {
		return p, errors.New("auth: stored password hash is not a PHC string of argon2id")
	}
	if parts[2] != "v="+strconv.Itoa(argon2.Version) {
		return p, fmt.Errorf("auth: stored password hash has version %q, not 19", parts[2])
	}
	parameters := strings.Split(parts[3], ",")
	if len(parameters) != 3 {
		return p, fmt.Errorf("auth: stored password hash has parameters %q, not m, t and p", parts[3])
	}
	var values [3]uint64
	for i, name := range [...]string{"m=", "t=", "p="} {
		digits, ok := strings.CutPrefix(parameters[i], name)
		if values[i], err = strconv.ParseUint(digits, 10, 31); !ok || err != nil || digits != strconv.FormatUint(values[i], 10) {
			return p, fmt.Errorf("auth: stored password hash has parameters %q, not m, t and p", parts[3])
		}
	}
	if values[2] > maxLanes {
		return p, fmt.Errorf("auth: stored password hash has %d lanes", values[2])
	}
	p.Hashing = Hashing{MemoryKiB: uint32(values[0]), Passes: uint32(values[1]), Lanes: uint8(values[2])}
	if err = p.check(); err != nil {
		return p, fmt.Errorf("auth: stored password hash: %w", err)
	}
	encoding := base64.RawStdEncoding.Strict()
	if p.salt, err = encoding.DecodeString(parts[4]); err != nil || len(p.salt) < 8 || len(p.salt) > 64 {
		return p, errors.New("auth: stored password hash has no salt of 8 to 64 bytes")
	}
	if p.tag, err = encoding.DecodeString(parts[5]); err != nil || len(p.tag) < 16 || len(p.tag) > 64 {
		return p, errors.New("auth: stored password hash has no tag of 16 to 64 bytes")
	}
	return p, nil
}

// hasher hashes passwords, few at a time, because each one takes its full memory.
type hasher struct {
	Hashing
	slots   chan struct{}
	waiting atomic.Int32
	dummy   passwordHash // of no password
}

func newHasher(h Hashing, slots int) *hasher {
	dummy := passwordHash{Hashing: h, salt: make([]byte, saltLength), tag: make([]byte, tagLength)}
	rand.Read(dummy.salt)
	rand.Read(dummy.tag)
	return &hasher{Hashing: h, slots: make(chan struct{}, slots), dummy: dummy}
}

// derive computes the tag of a password (in Unicode form C, RFC 8265, section 4.2) under the parameters and salt of p.
func (h *hasher) derive(ctx context.Context, password string, p passwordHash) ([]byte, error) {
	if h.waiting.Add(1) > maxWaiting {
		h.waiting.Add(-1)
		return nil, signing.Errorf(signing.KindUnavailable, "Too many people are signing in at this moment: try again in some seconds.")
	}
	defer h.waiting.Add(-1)
	select {
	case h.slots <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	defer func() { <-h.slots }()
	return argon2.IDKey([]byte(norm.NFC.String(password)), p.salt, p.Passes, p.MemoryKiB, p.Lanes, uint32(len(p.tag))), nil
}

// hash returns the PHC string of a new password.
func (h *hasher) hash(ctx context.Context, password string) (string, error) {
	p := passwordHash{Hashing: h.Hashing, salt: make([]byte, saltLength), tag: make([]byte, tagLength)}
	rand.Read(p.salt)
	var err error
	if p.tag, err = h.derive(ctx, password, p); err != nil {
		return "", err
	}
	return p.String(), nil
}

// verify reports whether the password is the one of the PHC string. The empty string takes as long as any and matches no password.
// Outdated tells that the string should be replaced by a new hash.
func (h *hasher) verify(ctx context.Context, password, stored string) (ok, outdated bool, err error) {
	p := h.dummy
	if stored != "" {
		if p, err = parsePasswordHash(stored); err != nil {
			return false, false, err
		}
	}
	tag, err := h.derive(ctx, password, p)
	if err != nil {
		return false, false, err
	}
	ok = subtle.ConstantTimeCompare(tag, p.tag) == 1 && stored != ""
	return ok, p.MemoryKiB < h.MemoryKiB || p.Passes < h.Passes || len(p.tag) < tagLength, nil
}

// checkNewPassword says why a user may not choose the password.
func checkNewPassword(password string, u *signing.User) error {
	switch {
	case len(password) > maxPasswordLength:
		return signing.Invalid("Password", "The password takes at most %d bytes.", maxPasswordLength)
	case !utf8.ValidString(password):
		return signing.Invalid("Password", "The password is not valid UTF-8 text.")
	}
	normal := norm.NFC.String(password)
	if utf8.RuneCountInString(normal) < minPasswordLength {
		return signing.Invalid("Password", "The password takes at least %d characters; several words together make a good one.", minPasswordLength)
	}
	mailbox, _, _ := strings.Cut(u.Email, "@")
	for _, known := range [...]string{u.Email, mailbox, u.Name} {
		if known != "" && strings.EqualFold(strings.TrimSpace(normal), norm.NFC.String(known)) {
			return signing.Invalid("Password", "The password must not be the name or the e-mail address.")
		}
	}
	return nil
}
