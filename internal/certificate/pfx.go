package certificate

import (
	"crypto"
	"crypto/x509"
	"errors"
)

var (
	// ErrWrongPassword says that a file is sound but the password is not its own.
	ErrWrongPassword = errors.New("certificate: the password is wrong")
	// ErrPasswordNeeded says that a file is encrypted and no password was given.
	ErrPasswordNeeded = errors.New("certificate: the file is encrypted; give its password")
	// ErrBroken says that a file is not what it should be, or is damaged.
	ErrBroken = errors.New("certificate: the file is damaged or of another kind")
	// ErrUnsupported says that a file is sound but of a kind that cannot be read.
	ErrUnsupported = errors.New("certificate: the file's format is not supported")
)

// PFX is the content of a PKCS#12 file.
type PFX struct {
	Key   crypto.Signer       // *rsa.PrivateKey, *ecdsa.PrivateKey or ed25519.PrivateKey
	Chain []*x509.Certificate // leaf first, ordered as by Chain
}

// ParsePFX reads a PKCS#12 file (RFC 7292) with one private key and its
// certificates, as OpenSSL and Windows make them. Errors wrap ErrWrongPassword,
// ErrBroken or ErrUnsupported.
func ParsePFX(data []byte, password string) (*PFX, error) { return nil, errSkeleton }

// ParsePrivateKey reads a PEM or DER private key: PKCS#8, encrypted PKCS#8 with
// PBES2 (RFC 8018), PKCS#1 or SEC 1. The password is for encrypted keys only.
// Other PEM blocks, such as certificates, are skipped. Errors wrap
// ErrWrongPassword, ErrPasswordNeeded, ErrBroken or ErrUnsupported.
func ParsePrivateKey(data []byte, password string) (crypto.Signer, error) { return nil, errSkeleton }
