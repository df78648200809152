// Package software keeps private keys encrypted at rest and signs with them in
// this process.
//
// A key is sealed, as PKCS#8 together with its identifier and algorithm, by a
// secrets.Keeper: that of a local master key by default, of a cloud KMS or Vault
// where the wiring opens one. Sealed keys go to a Storage, which may be read by
// anyone: without the master key they are worth nothing, and a sealed key that was
// changed or put in the place of another one is noticed.
package software

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"

	"gocloud.dev/gcerrors"
	"gocloud.dev/secrets"

	"github.com/countersign-dev/countersign/internal/certificate"
	"github.com/countersign-dev/countersign/internal/keystore"
)

// Store is a keystore.Store.
type Store struct {
	keeper  *secrets.Keeper
	storage Storage
	cache   cache
}

var _ keystore.Store = (*Store)(nil)

// New returns the store of the keys in storage, sealed by keeper. The caller
// closes keeper when it is done with the store.
//
// The store keeps the keys used last unsealed in memory. Each use still reads the
// sealed key, so that what another process deletes is gone here, too.
func New(keeper *secrets.Keeper, storage Storage) *Store {
	return &Store{keeper: keeper, storage: storage}
}

// Generate implements keystore.Store.
func (s *Store) Generate(ctx context.Context, algorithm certificate.KeyAlgorithm) (string, crypto.PublicKey, error) {
	if _, err := certificate.ParseKeyAlgorithm(string(algorithm)); err != nil {
		return "", nil, unsupported(string(algorithm))
	}
	key, err := certificate.GenerateKey(algorithm)
	if err != nil {
		return "", nil, fmt.Errorf("keystore: %w", err)
	}
	return s.seal(ctx, key, algorithm)
}

// Import implements keystore.Store. The key must be consistent in itself.
func (s *Store) Import(ctx context.Context, key crypto.PrivateKey) (string, crypto.PublicKey, error) {
	signer, ok := key.(crypto.Signer)
	if !ok {
		return "", nil, unsupported(fmt.Sprintf("%T", key))
	}
	algorithm, err := certificate.AlgorithmOf(signer.Public())
	if err != nil {
		return "", nil, unsupported(string(algorithm))
	}
	if rsaKey, ok := key.(*rsa.PrivateKey); ok {
		if err := rsaKey.Validate(); err != nil {
			return "", nil, fmt.Errorf("keystore: the RSA key is damaged: %w", err)
		}
	}
	return s.seal(ctx, signer, algorithm)
}

func unsupported(algorithm string) error {
	return &keystore.UnsupportedAlgorithmError{Algorithm: algorithm, Supported: certificate.KeyAlgorithms()}
}

// seal stores a new key.
func (s *Store) seal(ctx context.Context, key crypto.Signer, algorithm certificate.KeyAlgorithm) (string, crypto.PublicKey, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return "", nil, unsupported(fmt.Sprintf("%T", key))
	}
	defer clear(der)
	var random [16]byte
	_, _ = rand.Read(random[:]) // never fails
	keyID := hex.EncodeToString(random[:])

	header := envelopeHeader(keyID, algorithm)
	envelope := make([]byte, 0, len(header)+len(der))
	envelope = append(append(envelope, header...), der...)
	defer clear(envelope)
	sealed, err := s.keeper.Encrypt(ctx, envelope)
	if err != nil {
		return "", nil, fmt.Errorf("keystore: sealing a new key: %w", err)
	}
	if err := s.storage.Put(ctx, keyID, sealed); err != nil {
		return "", nil, fmt.Errorf("keystore: storing a new key: %w", err)
	}
	return keyID, key.Public(), nil
}

// envelopeHeader is what precedes the PKCS#8 of a key before sealing: it binds
// the key to its identifier, and the identifier to an algorithm.
func envelopeHeader(keyID string, algorithm certificate.KeyAlgorithm) []byte {
	return fmt.Appendf(nil, "countersign key 1\n%s\n%s\n", keyID, algorithm)
}

// Public implements keystore.Store.
func (s *Store) Public(ctx context.Context, keyID string) (crypto.PublicKey, error) {
	k, err := s.open(ctx, keyID)
	if err != nil {
		return nil, err
	}
	return k.public, nil
}

// Signer implements keystore.Store.
func (s *Store) Signer(ctx context.Context, keyID string) (crypto.Signer, error) {
	k, err := s.open(ctx, keyID)
	if err != nil {
		return nil, err
	}
	return k, nil
}

// Delete implements keystore.Store. Signers that other processes obtained before
// work until they are given up.
func (s *Store) Delete(ctx context.Context, keyID string) error {
	if _, err := s.storage.Delete(ctx, keyID); err != nil {
		return fmt.Errorf("keystore: deleting key %s: %w", keyID, err)
	}
	if k := s.cache.remove(keyID); k != nil {
		k.destroy()
	}
	return nil
}

// open returns an unsealed key.
func (s *Store) open(ctx context.Context, keyID string) (*openKey, error) {
	sealed, found, err := s.storage.Get(ctx, keyID)
	if err != nil {
		return nil, fmt.Errorf("keystore: reading key %s: %w", keyID, err)
	}
	if !found {
		if k := s.cache.remove(keyID); k != nil {
			k.destroy()
		}
		return nil, fmt.Errorf("%w: %s", keystore.ErrKeyNotFound, keyID)
	}
	if k := s.cache.get(keyID, sealed); k != nil {
		return k, nil
	}
	k, err := s.unseal(ctx, keyID, sealed)
	if err != nil {
		return nil, err
	}
	return s.cache.add(k), nil
}

func (s *Store) unseal(ctx context.Context, keyID string, sealed []byte) (*openKey, error) {
	envelope, err := s.keeper.Decrypt(ctx, sealed)
	if err != nil {
		return nil, explainUnseal(ctx, keyID, err)
	}
	defer clear(envelope)
	broken := func(why string) error { return fmt.Errorf("%w (key %s: %s)", keystore.ErrSealBroken, keyID, why) }

	// The header's three lines end before the DER, which has octets of all values.
	parts := bytes.SplitN(envelope, []byte("\n"), 4)
	if len(parts) != 4 {
		return nil, broken("it is not an envelope of this store")
	}
	algorithm := certificate.KeyAlgorithm(parts[2])
	if !bytes.HasPrefix(envelope, envelopeHeader(keyID, algorithm)) {
		return nil, broken("it was sealed for another identifier or by another version")
	}
	parsed, err := x509.ParsePKCS8PrivateKey(parts[3])
	if err != nil {
		return nil, broken("it does not hold a PKCS#8 key")
	}
	key, ok := parsed.(crypto.Signer)
	if !ok {
		return nil, broken("it does not hold a signing key")
	}
	if actual, err := certificate.AlgorithmOf(key.Public()); err != nil || actual != algorithm {
		return nil, broken("the key is not of the algorithm that it was sealed with")
	}
	return &openKey{keyID: keyID, sealed: sealed, public: key.Public(), key: key}, nil
}

// explainUnseal tells a keeper that cannot be reached from one that refuses.
func explainUnseal(ctx context.Context, keyID string, err error) error {
	if ctx.Err() != nil {
		return fmt.Errorf("keystore: unsealing key %s: %w", keyID, ctx.Err())
	}
	// Local keepers report Unknown, cloud ones InvalidArgument.
	if code := gcerrors.Code(err); code == gcerrors.Unknown || code == gcerrors.InvalidArgument {
		return fmt.Errorf("%w (key %s: %w)", keystore.ErrSealBroken, keyID, err)
	}
	return fmt.Errorf("keystore: unsealing key %s: %w", keyID, err)
}

// errDeleted is what a signer returns after its key was deleted.
var errDeleted = fmt.Errorf("%w: it was deleted", keystore.ErrKeyNotFound)

var errNoOptions = errors.New("keystore: signing needs crypto.SignerOpts")
