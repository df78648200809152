package certificate

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"slices"
	"strings"
	"testing"
)

// Files that OpenSSL makes, in its own ways and in those of Windows.
func TestParsePFX(t *testing.T) {
	t.Parallel()
	ca := newDemoCA(t, RSA2048)
	ec := newDemoCA(t, ECDSAP384)
	ed := newDemoCA(t, Ed25519)
	windows := []string{"-name", "te-4c9dce0a-Größe", "-caname", "Demo CA", "-caname", "Demo Root", "-CSP", "Microsoft Enhanced RSA and AES Cryptographic Provider", "-LMK"}
	tests := []struct {
		name, password string
		ca             *demoCA
		args           []string
	}{
		{"OpenSSL 3", "secret", ca, nil},
		{"OpenSSL 3, ECDSA", "secret", ec, nil},
		{"OpenSSL 3, Ed25519", "secret", ed, nil},
		{"OpenSSL 1 RC2 and 3DES", "secret", ca, []string{"-legacy"}},
		{"Windows 3DES and SHA-1", "secret", ca, append([]string{"-legacy", "-keypbe", "PBE-SHA1-3DES", "-certpbe", "PBE-SHA1-3DES", "-macalg", "sha1", "-iter", "2000"}, windows...)},
		{"Windows AES-256 and SHA-256", "secret", ca, append([]string{"-keypbe", "AES-256-CBC", "-certpbe", "AES-256-CBC", "-macalg", "sha256", "-iter", "2000"}, windows...)},
		{"AES-128, SHA-512", "secret", ca, []string{"-keypbe", "AES-128-CBC", "-certpbe", "AES-128-CBC", "-macalg", "sha512"}},
		{"key encrypted only", "secret", ca, []string{"-certpbe", "NONE"}},
		{"empty password", "", ca, nil},
		{"empty password, 3DES", "", ca, []string{"-legacy", "-keypbe", "PBE-SHA1-3DES", "-certpbe", "PBE-SHA1-3DES", "-macalg", "sha1"}},
		{"password in Latin-1 range", "Schlüßel", ca, nil},
		{"password in Latin-1 range, 3DES", "Schlüßel", ca, []string{"-legacy", "-keypbe", "PBE-SHA1-3DES", "-certpbe", "PBE-SHA1-3DES", "-macalg", "sha1"}},
		{"password in Cyrillic", "пароль", ca, nil},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			write(t, dir, "leaf.pem", certificatesPEM(test.ca.leaf))
			write(t, dir, "rest.pem", certificatesPEM(test.ca.root, test.ca.intermediate))
			write(t, dir, "key.pem", keyPEM(t, test.ca.key))
			openssl(t, dir, append([]string{"pkcs12", "-export", "-inkey", "key.pem", "-in", "leaf.pem", "-certfile", "rest.pem", "-passout", "pass:" + test.password, "-out", "file.pfx"}, test.args...)...)
			data := read(t, dir, "file.pfx")
			got, err := ParsePFX(data, test.password)
			if err != nil {
				t.Fatal(err)
			}
			if !sameKey(got.Key, test.ca.key) || !same(got.Chain, []*x509.Certificate{test.ca.leaf, test.ca.intermediate, test.ca.root}) {
				t.Error("another key or chain")
			}

			for _, wrong := range []string{"Secret", "x", test.password + " "} {
				if _, err := ParsePFX(data, wrong); !errors.Is(err, ErrWrongPassword) {
					t.Errorf("password %q: %v", wrong, err)
				}
			}
			for _, broken := range [][]byte{data[:len(data)-1], data[:len(data)/2], append(bytes.Clone(data), 0), data[4:]} {
				if _, err := ParsePFX(broken, test.password); !errors.Is(err, ErrBroken) {
					t.Errorf("damaged: %v", err)
				}
			}
		})
	}
}

func TestParsePFXRefuses(t *testing.T) {
	t.Parallel()
	ca := newDemoCA(t, ECDSAP256)
	dir := t.TempDir()
	write(t, dir, "leaf.pem", certificatesPEM(ca.leaf))
	write(t, dir, "key.pem", keyPEM(t, ca.key))
	export := func(args ...string) []byte {
		openssl(t, dir, append([]string{"pkcs12", "-export", "-passout", "pass:p", "-out", "file.pfx"}, args...)...)
		return read(t, dir, "file.pfx")
	}
	good := []string{"-inkey", "key.pem", "-in", "leaf.pem"}
	slow := export(append(good, "-iter", "65537")...)
	slowKey := export(append(good, "-iter", "65537", "-certpbe", "NONE")...)
	for what, test := range map[string]struct {
		data []byte
		want error
		text string
	}{
		"no key":          {export("-nokeys", "-in", "leaf.pem"), ErrBroken, "private key missing"},
		"no certificate":  {export("-inkey", "key.pem", "-nocerts"), ErrBroken, "certificate missing"},
		"much work, safe": {spoil(t, slow, bytes.Index(slow, iterations65537)), ErrUnsupported, "iterations"},
		"much work, key":  {spoil(t, slowKey, bytes.Index(slowKey, iterations65537)), ErrUnsupported, "iterations"},
		"much work, MAC":  {spoil(t, slow, bytes.LastIndex(slow, iterations65537)), ErrUnsupported, "iterations"},
		"Camellia":        {export(append(good, "-keypbe", "CAMELLIA-256-CBC", "-certpbe", "CAMELLIA-256-CBC")...), ErrUnsupported, "openssl pkcs12"},
		"BER":             {[]byte{0x30, 0x80, 2, 1, 3}, ErrUnsupported, "openssl pkcs12"},
		"a certificate":   {ca.leaf.Raw, ErrBroken, "not a PKCS#12"},
		"PEM":             {certificatesPEM(ca.leaf), ErrBroken, "not a PKCS#12"},
		"empty":           {nil, ErrBroken, "not a PKCS#12"},
		"too large":       {make([]byte, maxUpload+1), ErrBroken, "octets"},
		"nothing in safe": {[]byte{0x30, 20, 2, 1, 3, 0x30, 15, 6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 7, 1, 0xa0, 2, 4, 0}, ErrBroken, ""},
	} {
		_, err := ParsePFX(test.data, "p")
		if !errors.Is(err, test.want) || !strings.Contains(err.Error(), test.text) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if _, err := ParsePFX(export(good...), "🔑"); !errors.Is(err, ErrUnsupported) {
		t.Errorf("%v", err)
	}
}

// An iteration count that testing can afford, and one that is refused, of the
// same length.
var (
	iterations65537   = []byte{2, 3, 1, 0, 1}
	iterations8388607 = []byte{2, 3, 0x7f, 0xff, 0xff}
)

// spoil replaces the occurrence of the iterations at an index.
func spoil(t *testing.T, der []byte, at int) []byte {
	t.Helper()
	if at < 0 {
		t.Fatal("the iterations are not where they were expected")
	}
	return slices.Concat(der[:at], iterations8388607, der[at+len(iterations8388607):])
}

func TestParsePrivateKey(t *testing.T) {
	t.Parallel()
	for _, algorithm := range KeyAlgorithms() {
		t.Run(string(algorithm), func(t *testing.T) {
			t.Parallel()
			key := newKey(t, algorithm)
			dir := t.TempDir()
			write(t, dir, "key.pem", keyPEM(t, key))
			check := func(what, file, password string) {
				t.Helper()
				got, err := ParsePrivateKey(read(t, dir, file), password)
				if err != nil || !sameKey(got, key) {
					t.Errorf("%s: %v, or another key", what, err)
				}
			}
			check("PKCS#8", "key.pem", "")
			openssl(t, dir, "pkcs8", "-topk8", "-nocrypt", "-in", "key.pem", "-outform", "DER", "-out", "key.der")
			check("PKCS#8 DER", "key.der", "")
			if algorithm != Ed25519 {
				openssl(t, dir, "pkey", "-traditional", "-in", "key.pem", "-out", "traditional.pem")
				check("traditional", "traditional.pem", "")
				openssl(t, dir, "pkey", "-traditional", "-in", "key.pem", "-outform", "DER", "-out", "traditional.der")
				check("traditional DER", "traditional.der", "")
				openssl(t, dir, "pkey", "-traditional", "-in", "key.pem", "-aes128", "-passout", "pass:geheim", "-out", "old.pem")
				if _, err := ParsePrivateKey(read(t, dir, "old.pem"), "geheim"); !errors.Is(err, ErrUnsupported) || !strings.Contains(err.Error(), "openssl pkcs8 -topk8") {
					t.Errorf("old encryption: %v", err)
				}
			}
			for _, args := range [][]string{
				{"-v2", "aes-256-cbc"}, {"-v2", "aes-128-cbc", "-v2prf", "hmacWithSHA1"}, {"-v2", "aes-192-cbc", "-v2prf", "hmacWithSHA512", "-iter", "10000"}, {"-v2", "des3"},
			} {
				openssl(t, dir, append([]string{"pkcs8", "-topk8", "-in", "key.pem", "-passout", "pass:gehéim", "-out", "encrypted.pem"}, args...)...)
				check(strings.Join(args, " "), "encrypted.pem", "gehéim")
				encrypted := read(t, dir, "encrypted.pem")
				if _, err := ParsePrivateKey(encrypted, ""); !errors.Is(err, ErrPasswordNeeded) {
					t.Errorf("no password: %v", err)
				}
				if _, err := ParsePrivateKey(encrypted, "geheim"); !errors.Is(err, ErrWrongPassword) {
					t.Errorf("wrong password: %v", err)
				}
			}
			openssl(t, dir, "pkcs8", "-topk8", "-in", "key.pem", "-passout", "pass:p", "-iter", "65537", "-outform", "DER", "-out", "encrypted.der")
			check("encrypted DER", "encrypted.der", "p")
			encrypted := read(t, dir, "encrypted.der")
			if _, err := ParsePrivateKey(spoil(t, encrypted, bytes.Index(encrypted, iterations65537)), "p"); !errors.Is(err, ErrUnsupported) {
				t.Errorf("much work: %v", err)
			}
			for _, args := range [][]string{{"-scrypt"}, {"-v1", "PBE-SHA1-3DES"}, {"-v2", "camellia-256-cbc"}} {
				openssl(t, dir, append([]string{"pkcs8", "-topk8", "-in", "key.pem", "-passout", "pass:p", "-out", "unsupported.pem"}, args...)...)
				if _, err := ParsePrivateKey(read(t, dir, "unsupported.pem"), "p"); !errors.Is(err, ErrUnsupported) {
					t.Errorf("%v: %v", args, err)
				}
			}
		})
	}
	for what, test := range map[string]struct {
		data []byte
		want error
	}{
		"empty":       {nil, ErrBroken},
		"text":        {[]byte("hello"), ErrBroken},
		"certificate": {certificatesPEM(newDemoCA(t, Ed25519).leaf), ErrBroken},
		"damaged":     {pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: []byte{0x30, 0}}), ErrBroken},
		"encrypted":   {pem.EncodeToMemory(&pem.Block{Type: "ENCRYPTED PRIVATE KEY", Bytes: []byte{0x30, 0}}), ErrBroken},
		"OpenSSH":     {pem.EncodeToMemory(&pem.Block{Type: "OPENSSH PRIVATE KEY", Bytes: []byte("x")}), ErrUnsupported},
		"too large":   {make([]byte, maxUpload+1), ErrBroken},
	} {
		if _, err := ParsePrivateKey(test.data, "p"); !errors.Is(err, test.want) {
			t.Errorf("%s: %v", what, err)
		}
	}
	// A certificate before the key in one file is usual.
	key := newKey(t, Ed25519)
	if got, err := ParsePrivateKey(append(certificatesPEM(newDemoCA(t, Ed25519).leaf), keyPEM(t, key)...), ""); err != nil || !sameKey(got, key) {
		t.Errorf("%v", err)
	}
}

func typed(err error) bool {
	for _, kind := range []error{ErrWrongPassword, ErrPasswordNeeded, ErrBroken, ErrUnsupported} {
		if errors.Is(err, kind) {
			return true
		}
	}
	return false
}

func FuzzParsePrivateKey(f *testing.F) {
	f.Add(keyPEM(f, newKey(f, Ed25519)))
	f.Add([]byte("-----BEGIN ENCRYPTED PRIVATE KEY-----\nMAA=\n-----END ENCRYPTED PRIVATE KEY-----\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		if key, err := ParsePrivateKey(data, "p"); (key == nil) != typed(err) {
			t.Errorf("key %v, error %v", key != nil, err)
		}
	})
}

// The walk that bounds the work of a PFX; the decoder behind it is another's.
func FuzzCheckWork(f *testing.F) {
	f.Add([]byte{0x30, 20, 2, 1, 3, 0x30, 15, 6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 7, 1, 0xa0, 2, 4, 0})
	f.Fuzz(func(t *testing.T, data []byte) {
		if err := checkWork(data); err != nil && !typed(err) {
			t.Errorf("untyped error %v", err)
		}
	})
}
