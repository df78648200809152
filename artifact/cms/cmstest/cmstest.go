// Package cmstest makes certificates, keys and time stamps for tests.
package cmstest

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"

	"github.com/countersign-dev/countersign/artifact/cms"
)

// Kinds are the kinds of keys that Key makes.
var Kinds = []string{"rsa2048", "rsa3072", "rsa4096", "p256", "p384", "p521", "ed25519"}

var keys sync.Map // by kind: func() crypto.Signer

// Key returns a private key of one of the Kinds. It is made once in a process, since
// RSA keys take long: certificates of one kind share it.
func Key(t testing.TB, kind string) crypto.Signer {
	t.Helper()
	made, _ := keys.LoadOrStore(kind, sync.OnceValues(func() (crypto.Signer, error) {
		switch kind {
		case "rsa2048":
			return rsa.GenerateKey(rand.Reader, 2048)
		case "rsa3072":
			return rsa.GenerateKey(rand.Reader, 3072)
		case "rsa4096":
			return rsa.GenerateKey(rand.Reader, 4096)
		case "p256":
			return ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		case "p384":
			return ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
		case "p521":
			return ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
		case "ed25519":
			_, key, err := ed25519.GenerateKey(rand.Reader)
			return key, err
		}
		return nil, fmt.Errorf("no kind of key: %q", kind)
	}))
	key, err := made.(func() (crypto.Signer, error))()
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// Identity is a key with its certificate.
type Identity struct {
	Key         crypto.Signer
	Certificate *x509.Certificate
	Chain       []*x509.Certificate // Certificate first, up to the root
}

// Template says what certificate to make. Only Name is required.
type Template struct {
	Name                string
	Kind                string // of the key; "p256" when empty
	CA                  bool
	Usage               []x509.ExtKeyUsage
	NotBefore, NotAfter time.Time // an hour ago, and in a year, when zero
}

// Root makes a certificate authority.
func Root(t testing.TB, name string) *Identity {
	t.Helper()
	return issue(t, nil, Template{Name: name, CA: true, Kind: "rsa2048"})
}

// SelfSigned makes a self-signed certificate for code signing.
func SelfSigned(t testing.TB, name, kind string) *Identity {
	t.Helper()
	return issue(t, nil, Template{Name: name, Kind: kind, Usage: []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning}})
}

// Issue makes a certificate that the identity, an authority, signs.
func (i *Identity) Issue(t testing.TB, template Template) *Identity {
	t.Helper()
	return issue(t, i, template)
}

// Signer makes a code signing certificate of an intermediate authority.
func (i *Identity) Signer(t testing.TB, kind string) *Identity {
	t.Helper()
	intermediate := i.Issue(t, Template{Name: "Test Code Signing CA", CA: true, Kind: "rsa2048"})
	return intermediate.Issue(t, Template{Name: "Test Publisher " + kind, Kind: kind, Usage: []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning}})
}

// Pool returns a pool with the identity's certificate as a root.
func (i *Identity) Pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(i.Certificate)
	return pool
}

// WriteFiles writes certificate (leaf and intermediates) and key as PEM files into
// a temporary directory.
func (i *Identity) WriteFiles(t testing.TB) (certificates, key string) {
	t.Helper()
	dir := t.TempDir()
	der, err := x509.MarshalPKCS8PrivateKey(i.Key)
	if err != nil {
		t.Fatal(err)
	}
	certificates, key = filepath.Join(dir, "certificates.pem"), filepath.Join(dir, "key.pem")
	var all []byte
	for n, c := range i.Chain {
		if n == 0 || n < len(i.Chain)-1 {
			all = append(all, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})...)
		}
	}
	write(t, certificates, all)
	write(t, key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
	return certificates, key
}

// WriteCertificate writes the identity's own certificate as a PEM file.
func (i *Identity) WriteCertificate(t testing.TB) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "ca.pem")
	write(t, path, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: i.Certificate.Raw}))
	return path
}

func write(t testing.TB, path string, data []byte) {
	t.Helper()
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

func issue(t testing.TB, issuer *Identity, template Template) *Identity {
	t.Helper()
	if template.Kind == "" {
		template.Kind = "p256"
	}
	if template.NotBefore.IsZero() {
		template.NotBefore = time.Now().Add(-time.Hour)
	}
	if template.NotAfter.IsZero() {
		template.NotAfter = time.Now().AddDate(1, 0, 0)
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{Organization: []string{"Countersign Test"}, CommonName: template.Name},
		NotBefore: template.NotBefore, NotAfter: template.NotAfter,
		KeyUsage: x509.KeyUsageDigitalSignature, BasicConstraintsValid: true,
	}
	if template.CA {
		c.IsCA, c.KeyUsage = true, x509.KeyUsageCertSign|x509.KeyUsageCRLSign
	}
	if len(template.Usage) > 0 {
		c.ExtraExtensions = []pkix.Extension{usageExtension(t, template.Usage)}
	}
	made := &Identity{Key: Key(t, template.Kind)}
	parent, signer := c, made.Key
	if issuer != nil {
		parent, signer = issuer.Certificate, issuer.Key
	}
	// The key is shared, so the key identifier must not be what tells certificates apart.
	c.SubjectKeyId = serial.Bytes()
	der, err := x509.CreateCertificate(rand.Reader, c, parent, made.Key.Public(), signer)
	if err != nil {
		t.Fatal(err)
	}
	if made.Certificate, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	made.Chain = []*x509.Certificate{made.Certificate}
	if issuer != nil {
		made.Chain = append(made.Chain, issuer.Chain...)
	}
	return made
}

// usageExtension makes a critical extended key usage, which time stamping needs
// (RFC 3161 section 2.3) and crypto/x509 does not make.
func usageExtension(t testing.TB, usages []x509.ExtKeyUsage) pkix.Extension {
	t.Helper()
	var oids []asn1.ObjectIdentifier
	for _, usage := range usages {
		switch usage {
		case x509.ExtKeyUsageCodeSigning:
			oids = append(oids, asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 3, 3})
		case x509.ExtKeyUsageTimeStamping:
			oids = append(oids, asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 3, 8})
		case x509.ExtKeyUsageEmailProtection:
			oids = append(oids, asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 3, 4})
		default:
			t.Fatalf("no object identifier for key usage %v", usage)
		}
	}
	value, err := asn1.Marshal(oids)
	if err != nil {
		t.Fatal(err)
	}
	return pkix.Extension{Id: asn1.ObjectIdentifier{2, 5, 29, 37}, Critical: true, Value: value}
}

// TSA is a time-stamping authority. It implements cms.Timestamper.
type TSA struct {
	Identity *Identity
	Time     time.Time // that it stamps; now when zero
	Err      error     // that it answers with, when set
}

// NewTSA makes a time-stamping authority with a certificate of root.
func NewTSA(t testing.TB, root *Identity) *TSA {
	t.Helper()
	return &TSA{Identity: root.Issue(t, Template{Name: "Test TSA", Kind: "rsa2048", Usage: []x509.ExtKeyUsage{x509.ExtKeyUsageTimeStamping}})}
}

// Timestamp implements cms.Timestamper (RFC 3161 section 2.4.2).
func (tsa *TSA) Timestamp(ctx context.Context, digest []byte, hash crypto.Hash) ([]byte, error) {
	if tsa.Err != nil {
		return nil, tsa.Err
	}
	at := tsa.Time
	if at.IsZero() {
		at = time.Now()
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 60))
	if err != nil {
		return nil, err
	}
	var info cryptobyte.Builder
	info.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1Int64(1)
		b.AddASN1ObjectIdentifier(asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 99999, 1})
		b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
			cms.AddHashAlgorithm(b, hash, true)
			b.AddASN1OctetString(digest)
		})
		b.AddASN1BigInt(serial)
		b.AddASN1GeneralizedTime(at.UTC())
	})
	content, err := info.Bytes()
	if err != nil {
		return nil, err
	}
	certificateHash := crypto.SHA256.New()
	certificateHash.Write(tsa.Identity.Certificate.Raw)
	var id cryptobyte.Builder // SigningCertificateV2, RFC 5035 section 3
	id.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) { b.AddASN1OctetString(certificateHash.Sum(nil)) })
		})
	})
	return cms.Sign(ctx, cms.Attached(cms.OIDTSTInfo, content), cms.SignOptions{
		Key: tsa.Identity.Key, Chain: tsa.Identity.Chain, SigningTime: at,
		Attributes: cms.Attributes{{Type: cms.OIDAttributeSigningCertificateV2, Values: [][]byte{id.BytesOrPanic()}}},
	})
}
