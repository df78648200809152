package certificate

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestParse(t *testing.T) {
	t.Parallel()
	ca := newDemoCA(t, ECDSAP256)
	dir := t.TempDir()
	all := []*x509.Certificate{ca.root, ca.leaf, ca.intermediate}
	write(t, dir, "all.pem", certificatesPEM(all...))
	openssl(t, dir, "crl2pkcs7", "-nocrl", "-certfile", "all.pem", "-out", "all.p7b.pem")
	openssl(t, dir, "crl2pkcs7", "-nocrl", "-certfile", "all.pem", "-outform", "DER", "-out", "all.p7b")
	concatenated := slices.Concat(ca.root.Raw, ca.leaf.Raw, ca.intermediate.Raw)
	uploads := map[string][]byte{
		"PEM":               certificatesPEM(all...),
		"PEM, text, CRLF":   append([]byte("\xef\xbb\xbfsubject=CN=x\r\n"), bytes.ReplaceAll(certificatesPEM(all...), []byte("\n"), []byte("\r\n"))...),
		"PEM with key":      append(keyPEM(t, ca.key), certificatesPEM(all...)...),
		"PEM, duplicates":   append(certificatesPEM(all...), certificatesPEM(all...)...),
		"DER":               concatenated,
		"PKCS#7 PEM":        read(t, dir, "all.p7b.pem"),
		"PKCS#7 DER":        read(t, dir, "all.p7b"),
		"PKCS#7 and PEM":    append(read(t, dir, "all.p7b.pem"), certificatesPEM(ca.leaf)...),
		"PKCS#7 unlabelled": pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: read(t, dir, "all.p7b")}),
	}
	for what, upload := range uploads {
		got, err := Parse(upload)
		if err != nil {
			t.Errorf("%s: %v", what, err)
			continue
		}
		if len(got) != 3 {
			t.Errorf("%s: %d certificates", what, len(got))
		}
		for _, public := range []any{ca.key.Public(), nil} {
			chain, err := Chain(public, got, nil)
			if err != nil || !same(chain, []*x509.Certificate{ca.leaf, ca.intermediate, ca.root}) {
				t.Errorf("%s: %v, or another order", what, err)
			}
		}
	}

	for what, bad := range map[string]struct {
		data []byte
		want error
	}{
		"empty":         {nil, ErrBroken},
		"text":          {[]byte("hello"), ErrBroken},
		"key only":      {keyPEM(t, ca.key), ErrBroken},
		"cut PEM":       {certificatesPEM(ca.leaf)[:300], ErrBroken},
		"cut DER":       {concatenated[:len(concatenated)-1], ErrBroken},
		"trailing":      {append(bytes.Clone(ca.leaf.Raw), 0), ErrBroken},
		"cut PKCS#7":    {read(t, dir, "all.p7b")[:500], ErrBroken},
		"BER":           {[]byte{0x30, 0x80, 6, 9}, ErrUnsupported},
		"enveloped":     {[]byte{0x30, 15, 6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 7, 3, 0xa0, 2, 0x30, 0}, ErrUnsupported},
		"too large":     {make([]byte, maxUpload+1), ErrBroken},
		"not a cert":    {pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte{0x30, 3, 2, 1, 1}}), ErrBroken},
		"PKCS#7, empty": {pkcs7Empty(t), ErrBroken},
	} {
		if got, err := Parse(bad.data); !errors.Is(err, bad.want) || got != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// pkcs7Empty is a SignedData with neither certificate nor signer.
func pkcs7Empty(t *testing.T) []byte {
	t.Helper()
	dir := t.TempDir()
	ca := newDemoCA(t, Ed25519)
	write(t, dir, "ca.pem", certificatesPEM(ca.root))
	write(t, dir, "ca.key", keyPEM(t, ca.rootKey))
	write(t, dir, "index", nil)
	write(t, dir, "ca.cnf", []byte("[ca]\ndefault_ca=d\n[d]\ndatabase=index\ndefault_md=sha256\ndefault_crl_days=1\n"))
	openssl(t, dir, "ca", "-config", "ca.cnf", "-gencrl", "-cert", "ca.pem", "-keyfile", "ca.key", "-out", "crl.pem")
	openssl(t, dir, "crl2pkcs7", "-in", "crl.pem", "-outform", "DER", "-out", "crl.p7b")
	return read(t, dir, "crl.p7b")
}

func TestParseBounds(t *testing.T) {
	t.Parallel()
	key := newKey(t, ECDSAP256)
	var many []*x509.Certificate
	for range maxCertificates + 1 {
		many = append(many, must[*x509.Certificate](t)(SelfSign(key, Template{Subject: name(t, "CN=x"), NotAfter: time.Now()})))
	}
	if _, err := Parse(certificatesPEM(many...)); !errors.Is(err, ErrBroken) {
		t.Errorf("%v", err)
	}
	// A key of 16,384 bits, which takes long to make, is imitated.
	huge := &rsa.PublicKey{N: new(big.Int).SetBit(big.NewInt(1), 16383, 1), E: 65537}
	template := &x509.Certificate{SerialNumber: big.NewInt(1)}
	der := must[[]byte](t)(x509.CreateCertificate(rand.Reader, template, template, huge, key))
	if _, err := Parse(der); !errors.Is(err, ErrUnsupported) {
		t.Errorf("%v", err)
	}
	if got, err := Parse(certificatesPEM(many[1:]...)); err != nil || len(got) != maxCertificates {
		t.Errorf("%d, %v", len(got), err)
	}
}

func TestChain(t *testing.T) {
	t.Parallel()
	ca, other := newDemoCA(t, ECDSAP256), newDemoCA(t, ECDSAP256) // the same names, other keys
	now := time.Now()
	renewed := must[*x509.Certificate](t)(Issue(ca.intermediate, ca.caKey, ca.key.Public(), Template{Subject: name(t, "CN=Renewed"), NotBefore: now, NotAfter: ca.leaf.NotAfter.Add(-time.Hour)}))
	type list = []*x509.Certificate
	full := list{ca.leaf, ca.intermediate, ca.root}
	for what, test := range map[string]struct {
		key        any
		given      list
		pool, want list
	}{
		"leaf alone":             {ca.key.Public(), list{ca.leaf}, nil, list{ca.leaf}},
		"completed":              {ca.key.Public(), list{ca.leaf}, list{other.root, other.intermediate, ca.root, ca.intermediate}, full},
		"half completed":         {nil, list{ca.intermediate, ca.leaf}, list{ca.root}, full},
		"gap":                    {ca.key.Public(), list{ca.root, ca.leaf}, nil, list{ca.leaf}},
		"namesakes":              {ca.key.Public(), list{other.intermediate, other.root, other.leaf, ca.root, ca.intermediate, ca.leaf}, nil, full},
		"strays":                 {nil, list{other.root, ca.root, ca.intermediate, ca.leaf}, nil, full},
		"renewed with same key":  {ca.key.Public(), list{renewed, ca.leaf, ca.intermediate, ca.root}, nil, full},
		"authority as leaf":      {ca.caKey.Public(), list{ca.leaf, ca.intermediate, ca.root}, nil, list{ca.intermediate, ca.root}},
		"root alone":             {nil, list{ca.root}, nil, list{ca.root}},
		"key of another":         {newKey(t, ECDSAP256).Public(), full, nil, nil},
		"key only in the pool":   {ca.key.Public(), list{ca.root}, full, nil},
		"two signers":            {nil, list{ca.leaf, ca.tsa, ca.root}, nil, nil},
		"nothing":                {nil, nil, full, nil},
		"nothing, though a key ": {ca.key.Public(), nil, full, nil},
	} {
		got, err := Chain(test.key, test.given, test.pool)
		if (err == nil) != (test.want != nil) || !same(got, test.want) {
			t.Errorf("%s: %d certificates, %v", what, len(got), err)
		}
	}
}

func TestWarnings(t *testing.T) {
	t.Parallel()
	ca := newDemoCA(t, ECDSAP256)
	chain := []*x509.Certificate{ca.leaf, ca.intermediate, ca.root}
	now := time.Now()
	weak := must[*x509.Certificate](t)(SelfSign(newKey(t, RSA2048), Template{Subject: name(t, "CN=x"), NotBefore: now, NotAfter: now.Add(1000 * time.Hour)}))
	sha1 := *ca.intermediate
	sha1.SignatureAlgorithm = x509.SHA1WithRSA
	for what, test := range map[string]struct {
		chain []*x509.Certificate
		at    time.Time
		want  []WarningKind
	}{
		"good":        {chain, now, nil},
		"none":        {nil, now, nil},
		"soon":        {chain, ca.leaf.NotAfter.Add(-29 * 24 * time.Hour), []WarningKind{WarnExpiresSoon}},
		"not so soon": {chain, ca.leaf.NotAfter.Add(-31 * 24 * time.Hour), nil},
		"expired":     {chain, ca.leaf.NotAfter.Add(time.Second), []WarningKind{WarnExpired}},
		"early":       {chain, ca.leaf.NotBefore.Add(-time.Second), []WarningKind{WarnNotYetValid}},
		"time stamps": {[]*x509.Certificate{ca.tsa, ca.root}, now, []WarningKind{WarnUsage}},
		"RSA-2048":    {[]*x509.Certificate{weak}, now, []WarningKind{WarnWeakKey}},
		"incomplete":  {chain[:1], now, []WarningKind{WarnIncomplete}},
		"SHA-1":       {[]*x509.Certificate{ca.leaf, &sha1, ca.root}, now, []WarningKind{WarnWeakHash}},
	} {
		var got []WarningKind
		for _, warning := range Warnings(test.chain, test.at) {
			got = append(got, warning.Kind)
			if !strings.HasSuffix(warning.Message, ".") {
				t.Errorf("%s: %q", what, warning.Message)
			}
		}
		if !slices.Equal(got, test.want) {
			t.Errorf("%s: got %v, want %v", what, got, test.want)
		}
	}
}

func FuzzParse(f *testing.F) {
	ca := newDemoCA(f, Ed25519)
	f.Add(certificatesPEM(ca.leaf, ca.root))
	f.Add(ca.leaf.Raw)
	f.Add([]byte{0x30, 0x82, 0, 23, 6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 7, 2, 0xa0, 10, 0x30, 8, 2, 1, 1, 0x31, 0, 0x30, 0, 0xa0})
	f.Fuzz(func(t *testing.T, data []byte) {
		certificates, err := Parse(data)
		if err != nil {
			if !errors.Is(err, ErrBroken) && !errors.Is(err, ErrUnsupported) {
				t.Errorf("untyped error %v", err)
			}
			return
		}
		if len(certificates) == 0 {
			t.Error("neither certificate nor error")
		}
		if chain, err := Chain(nil, certificates, certificates); err == nil {
			Warnings(chain, time.Unix(0, 0))
		}
	})
}
