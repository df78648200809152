package software

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"io"
	"sync"
)

// maxOpen bounds the keys that are kept unsealed. A key of RSA-4096 takes about
// 10 KB.
const maxOpen = 256

// cache keeps the unsealed keys that were used last. The zero value is empty.
type cache struct {
	mu   sync.Mutex
	keys map[string]*openKey
	tick uint64
}

// get returns the key if it was unsealed from these octets.
func (c *cache) get(keyID string, sealed []byte) *openKey {
	c.mu.Lock()
	defer c.mu.Unlock()
	k := c.keys[keyID]
	if k == nil || !bytes.Equal(k.sealed, sealed) {
		return nil
	}
	c.tick++
	k.used = c.tick
	return k
}

// add keeps a key and gives up the one that was used least recently when there
// are too many. If another request was faster to unseal the same key, it returns
// that one, so that there is one to destroy.
func (c *cache) add(k *openKey) *openKey {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.keys == nil {
		c.keys = make(map[string]*openKey)
	}
	c.tick++
	if same := c.keys[k.keyID]; same != nil && bytes.Equal(same.sealed, k.sealed) {
		same.used = c.tick
		return same
	}
	k.used = c.tick
	c.keys[k.keyID] = k
	if len(c.keys) > maxOpen {
		oldest := k
		for _, other := range c.keys {
			if other.used < oldest.used {
				oldest = other
			}
		}
		delete(c.keys, oldest.keyID)
	}
	return k
}

func (c *cache) remove(keyID string) *openKey {
	c.mu.Lock()
	defer c.mu.Unlock()
	k := c.keys[keyID]
	delete(c.keys, keyID)
	return k
}

// openKey is an unsealed key. It is the crypto.Signer that the store hands out.
type openKey struct {
	keyID  string
	sealed []byte
	public crypto.PublicKey
	used   uint64 // guarded by cache.mu

	mu  sync.RWMutex
	key crypto.Signer // nil when destroyed
}

// Public implements crypto.Signer.
func (k *openKey) Public() crypto.PublicKey { return k.public }

// Sign implements crypto.Signer as the keys of the standard library do.
func (k *openKey) Sign(random io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	if opts == nil {
		return nil, errNoOptions
	}
	k.mu.RLock()
	defer k.mu.RUnlock()
	if k.key == nil {
		return nil, errDeleted
	}
	return k.key.Sign(random, digest, opts)
}

// destroy makes further signatures impossible and overwrites the secret numbers.
// Copies that the standard library keeps for its own computations stay until the
// garbage collector takes them.
func (k *openKey) destroy() {
	k.mu.Lock()
	defer k.mu.Unlock()
	switch key := k.key.(type) {
	case *rsa.PrivateKey:
		clear(key.D.Bits())
		for _, prime := range key.Primes {
			clear(prime.Bits())
		}
	case *ecdsa.PrivateKey:
		clear(key.D.Bits()) //nolint:staticcheck // to overwrite it, not to compute with it
	case ed25519.PrivateKey:
		clear(key)
	}
	k.key = nil
}
