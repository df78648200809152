package certificate

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

func must[T any](t testing.TB) func(T, error) T {
	return func(value T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return value
	}
}

// rsaKeys are made once: that takes seconds.
var rsaKeys = map[KeyAlgorithm]func() (crypto.Signer, error){
	RSA2048: sync.OnceValues(func() (crypto.Signer, error) { return GenerateKey(RSA2048) }),
	RSA3072: sync.OnceValues(func() (crypto.Signer, error) { return GenerateKey(RSA3072) }),
	RSA4096: sync.OnceValues(func() (crypto.Signer, error) { return GenerateKey(RSA4096) }),
}

// newKey returns a key, which is a new one unless it is RSA.
func newKey(t testing.TB, algorithm KeyAlgorithm) crypto.Signer {
	t.Helper()
	if shared, ok := rsaKeys[algorithm]; ok {
		return must[crypto.Signer](t)(shared())
	}
	return must[crypto.Signer](t)(GenerateKey(algorithm))
}

func name(t testing.TB, text string) pkix.RDNSequence {
	t.Helper()
	return must[pkix.RDNSequence](t)(ParseSubject(text))
}

// demoCA is what the demo has: a root, a code signing and a time-stamping
// certificate, here with an intermediate authority.
type demoCA struct {
	root, intermediate, leaf, tsa *x509.Certificate
	rootKey, caKey, key, tsaKey   crypto.Signer
}

func newDemoCA(t testing.TB, algorithm KeyAlgorithm) *demoCA {
	t.Helper()
	now := time.Now().Truncate(time.Second)
	template := func(subject string, usage Usage) Template {
		return Template{Subject: name(t, subject), NotBefore: now.Add(-time.Hour), NotAfter: now.Add(1000 * time.Hour), Usage: usage}
	}
	issue := must[*x509.Certificate](t)
	ca := &demoCA{rootKey: newKey(t, ECDSAP384), caKey: newKey(t, ECDSAP256), key: newKey(t, algorithm), tsaKey: newKey(t, ECDSAP256)}
	ca.root = issue(SelfSign(ca.rootKey, template("CN=Demo Root,O=Acme", Authority)))
	ca.intermediate = issue(Issue(ca.root, ca.rootKey, ca.caKey.Public(), template("CN=Demo CA,O=Acme", Authority)))
	ca.leaf = issue(Issue(ca.intermediate, ca.caKey, ca.key.Public(), template("CN=Acme Release,O=Acme\\, Inc.,C=US", CodeSigning)))
	ca.tsa = issue(Issue(ca.root, ca.rootKey, ca.tsaKey.Public(), template("CN=Demo TSA", Timestamping)))
	return ca
}

// openssl runs OpenSSL, the second implementation, and returns what it prints.
func openssl(t testing.TB, dir string, args ...string) string {
	t.Helper()
	program, err := exec.LookPath("openssl")
	if err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal("openssl is missing")
		}
		t.Skip("openssl is missing: certificates are not checked by a second implementation")
	}
	command := exec.CommandContext(t.Context(), program, args...)
	command.Dir = dir
	command.Env = append(os.Environ(), "LC_ALL=C.UTF-8")
	out, err := command.CombinedOutput()
	if err != nil {
		t.Fatalf("openssl %v: %v\n%s", args, err, out)
	}
	return string(out)
}

func write(t testing.TB, dir, file string, data []byte) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, file), data, 0o600); err != nil {
		t.Fatal(err)
	}
}

func read(t testing.TB, dir, file string) []byte {
	t.Helper()
	return must[[]byte](t)(os.ReadFile(filepath.Join(dir, file)))
}

func certificatesPEM(certificates ...*x509.Certificate) []byte {
	var b bytes.Buffer
	for _, c := range certificates {
		_ = pem.Encode(&b, &pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})
	}
	return b.Bytes()
}

func keyPEM(t testing.TB, key crypto.Signer) []byte {
	t.Helper()
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: must[[]byte](t)(x509.MarshalPKCS8PrivateKey(key))})
}

func same(a, b []*x509.Certificate) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if !a[i].Equal(b[i]) {
			return false
		}
	}
	return true
}

func sameKey(a, b crypto.Signer) bool {
	return a != nil && a.(interface{ Equal(crypto.PrivateKey) bool }).Equal(b)
}
