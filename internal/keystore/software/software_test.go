package software

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"gocloud.dev/secrets"
	"gocloud.dev/secrets/localsecrets"

	"github.com/countersign-dev/countersign/internal/certificate"
	"github.com/countersign-dev/countersign/internal/keystore"
	"github.com/countersign-dev/countersign/internal/keystore/keystoretest"
)

func newKeeper(t testing.TB) *secrets.Keeper {
	t.Helper()
	key, err := localsecrets.NewRandomKey()
	if err != nil {
		t.Fatal(err)
	}
	keeper := localsecrets.NewKeeper(key)
	t.Cleanup(func() { _ = keeper.Close() })
	return keeper
}

func TestConformance(t *testing.T) {
	t.Parallel()
	t.Run("Memory", func(t *testing.T) {
		t.Parallel()
		keystoretest.Run(t, func(t *testing.T) keystore.Store { return New(newKeeper(t), NewMemory()) }, keystoretest.Options{})
	})
	t.Run("Directory", func(t *testing.T) {
		t.Parallel()
		keystoretest.Run(t, func(t *testing.T) keystore.Store {
			directory, err := NewDirectory(filepath.Join(t.TempDir(), "keys"))
			if err != nil {
				t.Fatal(err)
			}
			return New(newKeeper(t), directory)
		}, keystoretest.Options{Algorithms: []certificate.KeyAlgorithm{certificate.ECDSAP256, certificate.Ed25519}})
	})
}

// Keys outlive the process: another store with the same master key and storage
// has them, one with another master key says so.
func TestRestart(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	open := func(master string) *Store {
		keeper, err := OpenKeeper(t.Context(), "file://"+filepath.Join(dir, master), nil)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = keeper.Close() })
		directory, err := NewDirectory(filepath.Join(dir, "keys"))
		if err != nil {
			t.Fatal(err)
		}
		return New(keeper, directory)
	}
	store := open("master.key")
	key, err := certificate.GenerateKey(certificate.RSA2048)
	if err != nil {
		t.Fatal(err)
	}
	keyID, public, err := store.Import(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	again, err := open("master.key").Public(t.Context(), keyID)
	if err != nil || !public.(interface{ Equal(crypto.PublicKey) bool }).Equal(again) {
		t.Errorf("after a restart: %v, or another key", err)
	}
	_, err = open("other.key").Signer(t.Context(), keyID)
	if !errors.Is(err, keystore.ErrSealBroken) || !strings.Contains(err.Error(), "master key") || !strings.Contains(err.Error(), keyID) {
		t.Errorf("with another master key: %v", err)
	}

	// Nothing of the key is readable at rest, and nobody else may read the file.
	path := filepath.Join(dir, "keys", keyID+".key")
	sealed, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(sealed, der[:16]) || bytes.Contains(sealed, der[len(der)-16:]) || bytes.Contains(sealed, []byte("RSA")) {
		t.Error("the stored key is not sealed")
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}

	// A second process deletes it: this one, which has it open, notices.
	if _, err := store.Signer(t.Context(), keyID); err != nil {
		t.Fatal(err)
	}
	if err := open("master.key").Delete(t.Context(), keyID); err != nil {
		t.Fatal(err)
	}
	if _, err := store.Signer(t.Context(), keyID); !errors.Is(err, keystore.ErrKeyNotFound) {
		t.Errorf("after deletion elsewhere: %v", err)
	}
	left, err := os.ReadDir(filepath.Join(dir, "keys"))
	if err != nil || len(left) != 0 {
		t.Errorf("files are left behind: %v, %v", left, err)
	}
}

func TestChangedStorage(t *testing.T) {
	t.Parallel()
	keeper, storage := newKeeper(t), NewMemory()
	store := New(keeper, storage)
	first, _, err := store.Generate(t.Context(), certificate.ECDSAP256)
	if err != nil {
		t.Fatal(err)
	}
	second, _, err := store.Generate(t.Context(), certificate.ECDSAP256)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := store.Signer(t.Context(), first); err != nil { // now it is open
		t.Fatal(err)
	}
	good := storage.keys[first]
	flipped := bytes.Clone(good)
	flipped[len(flipped)-1] ^= 1
	sealed := func(envelope string) []byte {
		octets, err := keeper.Encrypt(t.Context(), []byte(envelope))
		if err != nil {
			t.Fatal(err)
		}
		return octets
	}
	ecDER := func() string {
		key, err := certificate.GenerateKey(certificate.ECDSAP256)
		if err != nil {
			t.Fatal(err)
		}
		der, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			t.Fatal(err)
		}
		return string(der)
	}()
	for name, octets := range map[string][]byte{
		"swapped rows":      storage.keys[second],
		"flipped bit":       flipped,
		"cut off":           good[:len(good)/2],
		"empty":             {},
		"no envelope":       sealed("hello"),
		"no key":            sealed(string(envelopeHeader(first, certificate.ECDSAP256)) + "hello"),
		"another algorithm": sealed(string(envelopeHeader(first, certificate.RSA2048)) + ecDER),
		"another version":   sealed(fmt.Sprintf("countersign key 2\n%s\nECDSA-P256\n%s", first, ecDER)),
	} {
		storage.keys[first] = octets
		if _, err := store.Signer(t.Context(), first); !errors.Is(err, keystore.ErrSealBroken) {
			t.Errorf("%s: %v", name, err)
		}
	}
	storage.keys[first] = good
	if _, err := store.Signer(t.Context(), first); err != nil {
		t.Errorf("restored: %v", err)
	}
}

func TestCacheIsBounded(t *testing.T) {
	t.Parallel()
	store := New(newKeeper(t), NewMemory())
	var first crypto.Signer
	for i := range maxOpen + 10 {
		keyID, _, err := store.Generate(t.Context(), certificate.Ed25519)
		if err != nil {
			t.Fatal(err)
		}
		signer, err := store.Signer(t.Context(), keyID)
		if err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			first = signer
		}
	}
	if len(store.cache.keys) != maxOpen {
		t.Errorf("%d keys are open", len(store.cache.keys))
	}
	if _, err := first.Sign(rand.Reader, []byte("m"), crypto.Hash(0)); err != nil {
		t.Errorf("a signer stopped because others were opened: %v", err)
	}
}

func TestMasterKeyFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "data", "master.key")
	if _, err := OpenMasterKeyFile(path); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("%v, %v", info, err)
	}
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := OpenMasterKeyFile(path); err != nil {
		t.Fatal(err)
	}
	if after, err := os.ReadFile(path); err != nil || !bytes.Equal(before, after) {
		t.Errorf("the master key changed: %v", err)
	}
	for _, mode := range []os.FileMode{0o644, 0o604, 0o660, 0o602} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		if _, err := OpenMasterKeyFile(path); err == nil || !strings.Contains(err.Error(), "chmod 600") {
			t.Errorf("mode %o: %v", mode, err)
		}
	}
	if err := os.Chmod(path, 0o440); err != nil { // a mounted secret
		t.Fatal(err)
	}
	if _, err := OpenMasterKeyFile(path); err != nil {
		t.Error(err)
	}
	for name, content := range map[string]string{"empty": "", "short": "AAAA\n", "text": "my secret master key!\n", "long": strings.Repeat("A", 5000)} {
		bad := filepath.Join(dir, name)
		if err := os.WriteFile(bad, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := OpenMasterKeyFile(bad); err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v", name, err)
		}
		if after, err := os.ReadFile(bad); err != nil || string(after) != content {
			t.Errorf("%s: the file was changed: %v", name, err)
		}
	}
	if _, err := OpenMasterKeyFile(dir); err == nil {
		t.Error("a directory was accepted")
	}
}

func TestOpenKeeper(t *testing.T) {
	t.Parallel()
	key, err := localsecrets.NewRandomKey()
	if err != nil {
		t.Fatal(err)
	}
	var mux secrets.URLMux
	mux.RegisterKeeper("fake", &localsecrets.URLOpener{})
	dir := t.TempDir()
	for _, good := range []string{
		"base64key://" + base64.URLEncoding.EncodeToString(key[:]), "base64key://" + base64.RawURLEncoding.EncodeToString(key[:]),
		"fake://" + base64.URLEncoding.EncodeToString(key[:]), "file://" + dir + "/a.key",
	} {
		keeper, err := OpenKeeper(t.Context(), good, &mux)
		if err != nil {
			t.Errorf("%v", err)
			continue
		}
		if err := keeper.Close(); err != nil {
			t.Error(err)
		}
	}
	for _, bad := range []string{"", "master.key", "base64key://", "base64key://Sesame!", "base64key://U2VzYW1l", "awskms://x", "file://host/x", "file://", "fake://Sesame", ":Sesame"} {
		if _, err := OpenKeeper(t.Context(), bad, &mux); err == nil || strings.Contains(err.Error(), "Sesame") || strings.Contains(err.Error(), "U2Vz") {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

// failing is a Storage that cannot be reached.
type failing struct{ Storage }

var errDown = errors.New("database is down")

func (failing) Put(context.Context, string, []byte) error         { return errDown }
func (failing) Get(context.Context, string) ([]byte, bool, error) { return nil, false, errDown }
func (failing) Delete(context.Context, string) (bool, error)      { return false, errDown }

func TestStorageFails(t *testing.T) {
	t.Parallel()
	store := New(newKeeper(t), failing{})
	_, _, err := store.Generate(t.Context(), certificate.Ed25519)
	_, signerErr := store.Signer(t.Context(), "x")
	for _, err := range []error{err, signerErr, store.Delete(t.Context(), "x")} {
		if !errors.Is(err, errDown) || errors.Is(err, keystore.ErrKeyNotFound) {
			t.Errorf("got %v", err)
		}
	}
}

// Signatures per second through the store, with the lookup of the signer for each
// as the domain does it, and with the bare key.
func BenchmarkSign(b *testing.B) {
	digest := sha256.Sum256([]byte("x"))
	for _, algorithm := range []certificate.KeyAlgorithm{certificate.RSA3072, certificate.ECDSAP256} {
		key, err := certificate.GenerateKey(algorithm)
		if err != nil {
			b.Fatal(err)
		}
		store := New(newKeeper(b), NewMemory())
		keyID, _, err := store.Import(b.Context(), key)
		if err != nil {
			b.Fatal(err)
		}
		run := func(name string, sign func() error) {
			b.Run(string(algorithm)+"/"+name, func(b *testing.B) {
				b.RunParallel(func(p *testing.PB) {
					for p.Next() {
						if err := sign(); err != nil {
							b.Error(err)
						}
					}
				})
				b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "signatures/s")
			})
		}
		run("key", func() error {
			_, err := key.Sign(rand.Reader, digest[:], crypto.SHA256)
			return err
		})
		run("store", func() error {
			signer, err := store.Signer(b.Context(), keyID)
			if err != nil {
				return err
			}
			_, err = signer.Sign(rand.Reader, digest[:], crypto.SHA256)
			return err
		})
	}
}
