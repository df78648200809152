package signing

import (
	"context"
	"crypto"
	"crypto/x509"
	"fmt"
	"io"
	"sync"
	"sync/atomic"

	"github.com/countersign-dev/countersign/internal/certificate"
)

// Keys is what the domain needs of a key store. Keys never leave it.
type Keys interface {
	// Generate makes a key pair and returns its id.
	Generate(ctx context.Context, algorithm certificate.KeyAlgorithm) (id string, public crypto.PublicKey, err error)
	// Import takes a private key over.
	Import(ctx context.Context, key crypto.PrivateKey) (id string, public crypto.PublicKey, err error)
	// Signer opens a key for use. Only the gate calls it.
	Signer(ctx context.Context, id string) (crypto.Signer, error)
	// Delete destroys a key. One that is gone is no error: deleting may be repeated.
	Delete(ctx context.Context, id string) error
}

// grant is the permission to use one key a limited number of times, once. Evaluating a signing policy for a request
// yields one (see evaluate); creating a certificate yields one for the new certificate's own first signature. It
// cannot be made outside this package, and the gate accepts it once.
type grant struct {
	record GrantRecord
	keyID  string
	leaf   *x509.Certificate // nil for a certificate's first own signature
	used   atomic.Bool
}

// gate is the only way to a private key.
type gate struct{ keys Keys }

// open redeems the grant and returns its signer. The signer refuses to make more signatures than were granted, and
// every signature after close was called.
func (g gate) open(ctx context.Context, grant *grant) (s crypto.Signer, close func(), err error) {
	if grant == nil || grant.record.Signatures <= 0 || grant.keyID == "" {
		return nil, nil, Errorf(KindForbidden, "Signing was not granted.")
	}
	if grant.used.Swap(true) {
		return nil, nil, Errorf(KindForbidden, "Grant %s was used before; each grant opens a key once.", grant.record.ID)
	}
	key, err := g.keys.Signer(ctx, grant.keyID)
	if err != nil {
		return nil, nil, fmt.Errorf("open key %s: %w", grant.keyID, err)
	}
	if grant.leaf != nil {
		public, ok := key.Public().(interface{ Equal(crypto.PublicKey) bool })
		if !ok || !public.Equal(grant.leaf.PublicKey) {
			return nil, nil, Errorf(KindConflict, "The key store's key does not belong to certificate %q; repair the certificate before signing with it.", grant.leaf.Subject)
		}
	}
	c := &countedSigner{key: key, left: grant.record.Signatures}
	return c, c.revoke, nil
}

// countedSigner makes a limited number of signatures.
type countedSigner struct {
	key crypto.Signer

	mu   sync.Mutex
	left int
}

func (c *countedSigner) Public() crypto.PublicKey { return c.key.Public() }

func (c *countedSigner) Sign(random io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	c.mu.Lock()
	left := c.left
	c.left--
	c.mu.Unlock()
	if left <= 0 {
		return nil, Errorf(KindForbidden, "The grant's signatures are used up.")
	}
	return c.key.Sign(random, digest, opts)
}

func (c *countedSigner) revoke() {
	c.mu.Lock()
	c.left = 0
	c.mu.Unlock()
}
