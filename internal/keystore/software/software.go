// Package software keeps private keys encrypted at rest and signs with them in
// this process.
//
// A key is sealed (PKCS#8 together with its identifier and algorithm) by a
// secrets.Keeper: a local master key by default, a cloud KMS or Vault where the
// wiring opens one. Sealed keys go to a Storage that may be read by anyone.
package software

import (
	"context"
	"crypto"

	"gocloud.dev/secrets"

	"github.com/countersign-dev/countersign/internal/certificate"
)

// Store is a keystore.Store.
type Store struct {
	keeper  *secrets.Keeper
	storage Storage
}

// New returns the store of the keys in storage, sealed by keeper. The caller
// closes keeper when it is done with the store.
func New(keeper *secrets.Keeper, storage Storage) *Store {
	return &Store{keeper: keeper, storage: storage}
}

// Generate implements keystore.Store.
func (s *Store) Generate(ctx context.Context, algorithm certificate.KeyAlgorithm) (string, crypto.PublicKey, error) {
	return "", nil, errSkeleton
}

// Import implements keystore.Store.
func (s *Store) Import(ctx context.Context, key crypto.PrivateKey) (string, crypto.PublicKey, error) {
	return "", nil, errSkeleton
}

// Public implements keystore.Store.
func (s *Store) Public(ctx context.Context, keyID string) (crypto.PublicKey, error) {
	return nil, errSkeleton
}

// Signer implements keystore.Store.
func (s *Store) Signer(ctx context.Context, keyID string) (crypto.Signer, error) {
	return nil, errSkeleton
}

// Delete implements keystore.Store.
func (s *Store) Delete(ctx context.Context, keyID string) error { return errSkeleton }
