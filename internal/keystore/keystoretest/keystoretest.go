// Package keystoretest is the suite that every key store must pass.
package keystoretest

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"sync"
	"testing"

	"github.com/countersign-dev/countersign/internal/certificate"
	"github.com/countersign-dev/countersign/internal/keystore"
)

// Options describe a store under test.
type Options struct {
	// Algorithms that the store offers; certificate.KeyAlgorithms when nil.
	Algorithms []certificate.KeyAlgorithm
}

// Run checks a store against the contract of keystore.Store. open returns an
// empty store, or one whose keys do not matter.
func Run(t *testing.T, open func(t *testing.T) keystore.Store, options Options) {
	if options.Algorithms == nil {
		options.Algorithms = certificate.KeyAlgorithms()
	}
	store := open(t)
	for _, algorithm := range options.Algorithms {
		t.Run(string(algorithm), func(t *testing.T) {
			t.Parallel()
			t.Run("Generate", func(t *testing.T) {
				t.Parallel()
				keyID, public, err := store.Generate(t.Context(), algorithm)
				if err != nil {
					t.Fatal(err)
				}
				checkKey(t, store, keyID, public, algorithm)
				checkDelete(t, store, keyID)
			})
			t.Run("Import", func(t *testing.T) {
				t.Parallel()
				key, err := certificate.GenerateKey(algorithm)
				if err != nil {
					t.Fatal(err)
				}
				keyID, public, err := store.Import(t.Context(), key)
				if err != nil {
					t.Fatal(err)
				}
				if !equal(public, key.Public()) {
					t.Error("Import returned another public key")
				}
				checkKey(t, store, keyID, public, algorithm)
				checkDelete(t, store, keyID)
			})
		})
	}
	t.Run("UnknownKey", func(t *testing.T) {
		t.Parallel()
		for _, keyID := range []string{"", "unknown", "../../etc/passwd", "00000000000000000000000000000000"} {
			checkUnknown(t, store, keyID)
		}
	})
	t.Run("UnsupportedAlgorithm", func(t *testing.T) {
		t.Parallel()
		checkUnsupported(t, store)
	})
	t.Run("Context", func(t *testing.T) {
		t.Parallel()
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, _, err := store.Generate(ctx, options.Algorithms[0]); !errors.Is(err, context.Canceled) {
			t.Errorf("Generate with a canceled context: %v", err)
		}
	})
}

func equal(a, b crypto.PublicKey) bool {
	key, ok := a.(interface{ Equal(crypto.PublicKey) bool })
	return ok && key.Equal(b)
}

var keyIDPattern = regexp.MustCompile(`^[a-z0-9-]{1,64}$`)

// checkKey checks the public half and signatures, many at once.
func checkKey(t *testing.T, store keystore.Store, keyID string, public crypto.PublicKey, algorithm certificate.KeyAlgorithm) {
	t.Helper()
	if !keyIDPattern.MatchString(keyID) {
		t.Errorf("key identifier %q", keyID)
	}
	if actual, err := certificate.AlgorithmOf(public); err != nil || actual != algorithm {
		t.Fatalf("the key is of algorithm %s, not %s", actual, algorithm)
	}
	again, err := store.Public(t.Context(), keyID)
	if err != nil || !equal(public, again) {
		t.Fatalf("Public: %v, or another key", err)
	}
	signer, err := store.Signer(t.Context(), keyID)
	if err != nil {
		t.Fatal(err)
	}
	if !equal(public, signer.Public()) {
		t.Fatal("Signer has another public key")
	}
	if _, ok := signer.(interface{ Equal(crypto.PrivateKey) bool }); ok {
		t.Error("Signer gives the private key out")
	}

	var wait sync.WaitGroup
	for i := range 8 {
		wait.Go(func() {
			message := fmt.Appendf(nil, "message %d", i)
			signer, err := store.Signer(t.Context(), keyID)
			if err != nil {
				t.Error(err)
				return
			}
			for _, hash := range []crypto.Hash{crypto.SHA256, crypto.SHA384, crypto.SHA512} {
				checkSignatures(t, signer, message, hash)
			}
		})
	}
	wait.Wait()
	checkOpenSSL(t, signer)
}

// checkSignatures checks every scheme of a key by the standard library.
func checkSignatures(t *testing.T, signer crypto.Signer, message []byte, hash crypto.Hash) {
	h := hash.New()
	h.Write(message)
	digest := h.Sum(nil)
	sign := func(digest []byte, opts crypto.SignerOpts) []byte {
		signature, err := signer.Sign(rand.Reader, digest, opts)
		if err != nil {
			t.Errorf("Sign: %v", err)
		}
		return signature
	}
	switch public := signer.Public().(type) {
	case *rsa.PublicKey:
		if err := rsa.VerifyPKCS1v15(public, hash, digest, sign(digest, hash)); err != nil {
			t.Errorf("PKCS#1 v1.5 with %v: %v", hash, err)
		}
		pss := &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: hash}
		if err := rsa.VerifyPSS(public, hash, digest, sign(digest, pss), pss); err != nil {
			t.Errorf("PSS with %v: %v", hash, err)
		}
		if _, err := signer.Sign(rand.Reader, digest[1:], hash); err == nil {
			t.Error("a digest of the wrong length was signed")
		}
	case *ecdsa.PublicKey:
		if !ecdsa.VerifyASN1(public, digest, sign(digest, hash)) {
			t.Errorf("ECDSA with %v is wrong", hash)
		}
	case ed25519.PublicKey:
		if !ed25519.Verify(public, message, sign(message, crypto.Hash(0))) {
			t.Error("Ed25519 is wrong")
		}
	default:
		t.Errorf("public key of type %T", public)
	}
}

// checkOpenSSL has a second implementation verify a signature.
func checkOpenSSL(t *testing.T, signer crypto.Signer) {
	t.Helper()
	program, err := exec.LookPath("openssl")
	if err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal("openssl is missing")
		}
		t.Log("openssl is missing: signatures are not verified by a second implementation")
		return
	}
	der, err := x509.MarshalPKIXPublicKey(signer.Public())
	if err != nil {
		t.Fatal(err)
	}
	message := []byte("signed by a key store")
	input, opts := message, crypto.SignerOpts(crypto.Hash(0))
	arguments := []string{"pkeyutl", "-verify", "-pubin", "-inkey", "public.pem", "-rawin", "-in", "message", "-sigfile", "signature"}
	if _, pure := signer.Public().(ed25519.PublicKey); !pure {
		digest := sha256.Sum256(message)
		input, opts = digest[:], crypto.SHA256
		arguments = append(arguments, "-digest", "sha256")
	}
	signature, err := signer.Sign(rand.Reader, input, opts)
	if err != nil {
		t.Fatal(err)
	}
	directory := t.TempDir()
	for name, data := range map[string][]byte{
		"public.pem": pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), "message": message, "signature": signature,
	} {
		if err := os.WriteFile(filepath.Join(directory, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	command := exec.CommandContext(t.Context(), program, arguments...)
	command.Dir = directory
	if out, err := command.CombinedOutput(); err != nil {
		t.Errorf("openssl %v: %v\n%s", arguments, err, out)
	}
}

func checkDelete(t *testing.T, store keystore.Store, keyID string) {
	t.Helper()
	signer, err := store.Signer(t.Context(), keyID)
	if err != nil {
		t.Fatal(err)
	}
	if err := store.Delete(t.Context(), keyID); err != nil {
		t.Fatal(err)
	}
	digest := sha256.Sum256(nil)
	if _, err := signer.Sign(rand.Reader, digest[:], crypto.SHA256); !errors.Is(err, keystore.ErrKeyNotFound) {
		t.Errorf("a signer of a deleted key signs: %v", err)
	}
	checkUnknown(t, store, keyID)
}

func checkUnknown(t *testing.T, store keystore.Store, keyID string) {
	t.Helper()
	if _, err := store.Public(t.Context(), keyID); !errors.Is(err, keystore.ErrKeyNotFound) {
		t.Errorf("Public of unknown key %q: %v", keyID, err)
	}
	if _, err := store.Signer(t.Context(), keyID); !errors.Is(err, keystore.ErrKeyNotFound) {
		t.Errorf("Signer of unknown key %q: %v", keyID, err)
	}
	if err := store.Delete(t.Context(), keyID); err != nil {
		t.Errorf("Delete of unknown key %q: %v", keyID, err)
	}
}

func checkUnsupported(t *testing.T, store keystore.Store) {
	t.Helper()
	var unsupported *keystore.UnsupportedAlgorithmError
	for _, algorithm := range []certificate.KeyAlgorithm{"", "RSA-1024", "DSA-1024", "rsa-2048x"} {
		if _, _, err := store.Generate(t.Context(), algorithm); !errors.As(err, &unsupported) || unsupported.Algorithm != string(algorithm) {
			t.Errorf("Generate %q: %v", algorithm, err)
		}
	}
	p224, err := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	small, err := rsa.GenerateKey(rand.Reader, 1024) //nolint:gosec // too small on purpose
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range []crypto.PrivateKey{p224, small, nil, "a key"} {
		if _, _, err := store.Import(t.Context(), key); !errors.As(err, &unsupported) {
			t.Errorf("Import of %T: %v", key, err)
		}
	}
}
