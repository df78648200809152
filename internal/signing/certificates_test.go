package signing_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"strings"
	"testing"
	"time"

	"software.sslmate.com/src/go-pkcs12"

	"github.com/countersign-dev/countersign/internal/signing"
)

func anyKey(t *testing.T) crypto.Signer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// authorities is a root with an issuing authority below it.
type authorities struct {
	root, issuing *x509.Certificate
	key           crypto.Signer // the issuing authority's
}

func newAuthorities(t *testing.T, w *world, name string) *authorities {
	t.Helper()
	rootKey, issuingKey := anyKey(t), anyKey(t)
	template := func(name string) *x509.Certificate {
		return &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true,
			KeyUsage: x509.KeyUsageCertSign, NotBefore: w.clock.Now().Add(-time.Hour), NotAfter: w.clock.Now().AddDate(5, 0, 0)}
	}
	root := create(t, template(name+" root"), template(name+" root"), rootKey.Public(), rootKey)
	return &authorities{root: root, issuing: create(t, template(name+" issuing"), root, issuingKey.Public(), rootKey), key: issuingKey}
}

func create(t *testing.T, template, parent *x509.Certificate, public crypto.PublicKey, key crypto.Signer) *x509.Certificate {
	t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, template, parent, public, key)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// issue issues a certificate for a key, changed as the caller likes.
func (a *authorities) issue(t *testing.T, w *world, public crypto.PublicKey, change func(*x509.Certificate)) *x509.Certificate {
	t.Helper()
	leaf := &x509.Certificate{SerialNumber: big.NewInt(7), Subject: pkix.Name{CommonName: "Acme"}, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning}, NotBefore: w.clock.Now().Add(-time.Hour), NotAfter: w.clock.Now().AddDate(1, 0, 0)}
	if change != nil {
		change(leaf)
	}
	return create(t, leaf, a.issuing, public, a.key)
}

func asPEM(list ...*x509.Certificate) (text []byte) {
	for _, c := range list {
		text = append(text, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})...)
	}
	return text
}

func TestUploadCertificate(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := t.Context()
	ca, other := newAuthorities(t, w, "Acme"), newAuthorities(t, w, "Other")
	csr := w.newCSR(t, "issued")
	request, err := x509.ParseCertificateRequest(csr.CSR)
	if err != nil {
		t.Fatal(err)
	}
	leaf := ca.issue(t, w, request.PublicKey, nil)
	upload := func(slug string, file []byte) (*signing.Certificate, error) {
		return w.UploadCertificate(ctx, w.Admin, slug, file)
	}
	refused := func(what string, file []byte, says string) {
		t.Helper()
		_, err := upload("issued", file)
		wantField(t, what, err, "CertificateFile")
		if err != nil && (!strings.Contains(err.Error(), says) || strings.Contains(err.Error(), "certificate: ")) {
			t.Errorf("%s: %v does not say %q", what, err, says)
		}
	}
	refused("nothing", nil, "neither PEM nor DER")
	refused("wrong key", asPEM(ca.issue(t, w, anyKey(t).Public(), nil)), "No certificate is for the key")
	refused("issuers only", asPEM(ca.issuing, ca.root), "No certificate is for the key")
	refused("expired", asPEM(ca.issue(t, w, request.PublicKey, func(c *x509.Certificate) { c.NotAfter = w.clock.Now() })), "expired on")
	refused("for servers", asPEM(ca.issue(t, w, request.PublicKey, func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} })), "codeSigning")
	refused("an authority's", asPEM(ca.issue(t, w, request.PublicKey, func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageCertSign })), "digitalSignature")
	if got, err := w.Certificate(ctx, w.Admin, "issued"); err != nil || len(got.Chain) != 0 {
		t.Fatalf("a refused upload left %d certificates, %v", len(got.Chain), err)
	}

	// A chain that is not whole is taken, and said to be incomplete.
	alone, err := upload("issued", leaf.Raw)
	if err != nil || len(alone.Chain) != 1 {
		t.Fatalf("%d certificates, %v", len(alone.Chain), err)
	}
	if got := strings.Join(alone.Warnings(w.clock.Now()), " "); !strings.Contains(got, "Acme issuing") || !strings.Contains(got, "is missing") {
		t.Errorf("warnings %q", got)
	}
	whole, err := upload("issued", asPEM(other.root, ca.root, leaf, other.issuing, ca.issuing))
	if err != nil || len(whole.Chain) != 3 || len(whole.Warnings(w.clock.Now())) != 0 {
		t.Fatalf("in any order, with strays: %d certificates, %v, %q", len(whole.Chain), err, whole.Warnings(w.clock.Now()))
	}

	// Now the issuers are known, and complete other chains of the organization. Another organization's do not learn of them.
	for actor, want := range map[*signing.Actor]int{&w.Admin: 3, &w.Foreigner: 1} {
		c, err := w.CreateRequest(ctx, *actor, signing.NewCertificate{Slug: "second", Subject: "CN=Acme", KeyAlgorithm: "ECDSA-P384"})
		if err != nil {
			t.Fatal(err)
		}
		request, err := x509.ParseCertificateRequest(c.CSR)
		if err != nil {
			t.Fatal(err)
		}
		got, err := w.UploadCertificate(ctx, *actor, "second", asPEM(ca.issue(t, w, request.PublicKey, nil)))
		if err != nil || len(got.Chain) != want {
			t.Errorf("%s: a chain of %d, want %d; %v", actor.Name, len(got.Chain), want, err)
		}
	}

	// Odd ones that can sign.
	early, err := upload("issued", asPEM(ca.issue(t, w, request.PublicKey, func(c *x509.Certificate) {
		c.NotBefore, c.NotAfter, c.ExtKeyUsage, c.KeyUsage = w.clock.Now().Add(time.Hour), w.clock.Now().AddDate(2, 0, 0), nil, 0
	})))
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(early.Warnings(w.clock.Now()), " "); !strings.Contains(got, "valid only from") || !strings.Contains(got, "lacks the extended key usage codeSigning") {
		t.Errorf("warnings %q", got)
	}
	w.newPolicy(t, "early", "issued")
	r := w.submit(t, "early")
	if r.Failure == nil || !strings.Contains(r.Failure.Message, "not valid yet") {
		t.Errorf("signed before the certificate is valid: %s %+v", r.Workflow, r.Failure)
	}
}

func TestImportPFX(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ca := newAuthorities(t, w, "Acme")
	_, edwards, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	short, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	pfx := func(key crypto.Signer, change func(*x509.Certificate)) []byte {
		t.Helper()
		raw, err := pkcs12.Modern.Encode(key, ca.issue(t, w, key.Public(), change), []*x509.Certificate{ca.root, ca.issuing}, "geheim")
		if err != nil {
			t.Fatal(err)
		}
		return raw
	}
	good := pfx(anyKey(t), nil)
	for what, tt := range map[string]struct {
		file            []byte
		password, field string
		says            string
	}{
		"wrong password": {good, "Geheim", "Password", "The password is wrong"},
		"no password":    {good, "", "Password", "The password is wrong"},
		"no PFX":         {asPEM(ca.root), "geheim", "CertificateFile", "not a PKCS#12 file"},
		"Ed25519":        {pfx(edwards, nil), "geheim", "CertificateFile", "The key is Ed25519"},
		"RSA-1024":       {pfx(short, nil), "geheim", "CertificateFile", "The key is RSA-1024"},
		"expired":        {pfx(anyKey(t), func(c *x509.Certificate) { c.NotAfter = w.clock.Now() }), "geheim", "CertificateFile", "expired on"},
		"for servers": {pfx(anyKey(t), func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} }), "geheim",
			"CertificateFile", "codeSigning"},
	} {
		_, err := w.ImportPFX(t.Context(), w.Admin, signing.NewCertificate{Slug: "pfx"}, tt.file, tt.password)
		wantField(t, what, err, tt.field)
		if err != nil && (!strings.Contains(err.Error(), tt.says) || strings.Contains(err.Error(), "certificate: ")) {
			t.Errorf("%s: %v does not say %q", what, err, tt.says)
		}
	}
	c, err := w.ImportPFX(t.Context(), w.Admin, signing.NewCertificate{Slug: "pfx"}, good, "geheim")
	if err != nil || len(c.Chain) != 3 || c.CreationMethod != signing.PfxImport || !w.hasKey(t, c.KeyID) {
		t.Fatalf("%+v, %v", c, err)
	}
	w.newPolicy(t, "pfx", "pfx")
	if got := w.advance(t, w.submit(t, "pfx").ID); got.Workflow != signing.WorkflowCompleted {
		t.Errorf("%s %+v", got.Workflow, got.Failure)
	}
}
