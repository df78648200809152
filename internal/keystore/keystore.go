// Package keystore is the contract of the stores that hold private signing keys.
//
// A store makes keys, or takes them in, and signs with them. It never gives a
// private key out. What a store knows is an opaque key identifier and the key;
// certificates, organizations and permissions are kept elsewhere.
package keystore

import (
	"context"
	"crypto"
	"errors"
	"fmt"

	"github.com/countersign-dev/countersign/internal/certificate"
)

// Store keeps private keys. All methods may be called concurrently. The suite
// in keystoretest checks every implementation against this contract.
type Store interface {
	// Generate makes a key and returns its identifier, which is unique in the
	// store and made of lower-case letters, digits and '-'. An algorithm that the
	// store does not offer gives an *UnsupportedAlgorithmError.
	Generate(ctx context.Context, algorithm certificate.KeyAlgorithm) (keyID string, public crypto.PublicKey, err error)

	// Import takes in a private key (*rsa.PrivateKey, *ecdsa.PrivateKey or
	// ed25519.PrivateKey) and returns its identifier in the store. A key of
	// another type, size or curve gives an *UnsupportedAlgorithmError.
	Import(ctx context.Context, key crypto.PrivateKey) (keyID string, public crypto.PublicKey, err error)

	// Public returns the public half of a key: *rsa.PublicKey, *ecdsa.PublicKey
	// or ed25519.PublicKey.
	Public(ctx context.Context, keyID string) (crypto.PublicKey, error)

	// Signer returns the means to sign with a key. The signer may be used
	// concurrently, and must not be kept: a later Delete stops it.
	//
	// Only the one function that spends a signing grant may call Signer.
	Signer(ctx context.Context, keyID string) (crypto.Signer, error)

	// Delete destroys a key. Signers obtained before fail from then on. A key that
	// is gone is no error: deleting may be repeated.
	Delete(ctx context.Context, keyID string) error
}

var (
	// ErrKeyNotFound says that the store has no key of that identifier. Every
	// method that uses a key returns an error that wraps it.
	ErrKeyNotFound = errors.New("keystore: no such key")

	// ErrSealBroken says that a stored key could not be unsealed: the master key
	// is another one than the key was sealed with, or the stored bytes were
	// changed or belong to another key.
	ErrSealBroken = errors.New("keystore: the stored key cannot be unsealed; start with the master key that it was sealed with, or restore the key from a backup")
)

// UnsupportedAlgorithmError says that a store cannot hold a key.
type UnsupportedAlgorithmError struct {
	Algorithm string                     // what was asked for, such as "RSA-1024"
	Supported []certificate.KeyAlgorithm // what the store offers
}

func (e *UnsupportedAlgorithmError) Error() string {
	return fmt.Sprintf("keystore: key algorithm %s is not supported; use one of %v", e.Algorithm, e.Supported)
}
