package certificate

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"regexp"
	"strings"
	"testing"
	"time"
)

// OpenSSL accepts what is issued, for its purpose and no other.
func TestOpenSSLVerifiesIssued(t *testing.T) {
	t.Parallel()
	for _, algorithm := range KeyAlgorithms() {
		t.Run(string(algorithm), func(t *testing.T) {
			t.Parallel()
			ca := newDemoCA(t, algorithm)
			dir := t.TempDir()
			write(t, dir, "root.pem", certificatesPEM(ca.root))
			write(t, dir, "ca.pem", certificatesPEM(ca.intermediate))
			write(t, dir, "leaf.pem", certificatesPEM(ca.leaf))
			write(t, dir, "tsa.pem", certificatesPEM(ca.tsa))
			openssl(t, dir, "verify", "-x509_strict", "-CAfile", "root.pem", "-untrusted", "ca.pem", "leaf.pem")
			openssl(t, dir, "verify", "-x509_strict", "-purpose", "timestampsign", "-CAfile", "root.pem", "tsa.pem")
			text := openssl(t, dir, "x509", "-in", "leaf.pem", "-noout", "-text", "-nameopt", "RFC2253")
			for _, want := range []string{"CA:FALSE", "Digital Signature", "Code Signing", "Subject Key Identifier", "Authority Key Identifier", `Subject: CN=Acme Release,O=Acme\, Inc.,C=US`} {
				if !strings.Contains(text, want) {
					t.Errorf("%q is missing in\n%s", want, text)
				}
			}
			if regexp.MustCompile("Certificate Sign|TLS|Time Stamping").MatchString(text) {
				t.Errorf("the certificate allows too much:\n%s", text)
			}
			if text := openssl(t, dir, "x509", "-in", "tsa.pem", "-noout", "-ext", "extendedKeyUsage"); !strings.Contains(text, "critical") || !strings.Contains(text, "Time Stamping") {
				t.Error(text)
			}

			key := newKey(t, algorithm)
			now := time.Now()
			own := must[*x509.Certificate](t)(SelfSign(key, Template{Subject: name(t, "CN=Test"), NotBefore: now.Add(-time.Minute), NotAfter: now.Add(time.Hour)}))
			write(t, dir, "own.pem", certificatesPEM(own))
			openssl(t, dir, "verify", "-CAfile", "own.pem", "own.pem")
			if own.SerialNumber.BitLen() != 127 || own.IsCA || len(own.SubjectKeyId) != 20 {
				t.Errorf("serial %v, CA %v, key identifier %x", own.SerialNumber, own.IsCA, own.SubjectKeyId)
			}
			if got := openssl(t, dir, "x509", "-in", "own.pem", "-noout", "-fingerprint", "-sha1"); strings.ReplaceAll(strings.TrimSpace(got[strings.Index(got, "=")+1:]), ":", "") != ThumbprintSHA1(own) {
				t.Errorf("%s is not %s", got, ThumbprintSHA1(own))
			}
			if got := openssl(t, dir, "x509", "-in", "own.pem", "-noout", "-fingerprint", "-sha256"); strings.ReplaceAll(strings.TrimSpace(got[strings.Index(got, "=")+1:]), ":", "") != ThumbprintSHA256(own) {
				t.Errorf("%s is not %s", got, ThumbprintSHA256(own))
			}
		})
	}
}

// OpenSSL issues for our request, and the result fits the key.
func TestRequest(t *testing.T) {
	t.Parallel()
	for _, algorithm := range KeyAlgorithms() {
		t.Run(string(algorithm), func(t *testing.T) {
			t.Parallel()
			ca := newDemoCA(t, ECDSAP256)
			key := newKey(t, algorithm)
			dir := t.TempDir()
			write(t, dir, "request.der", must[[]byte](t)(CreateRequest(key, name(t, "CN=Zoë,O=Acme,E=sign@acme.example"))))
			write(t, dir, "ca.pem", certificatesPEM(ca.intermediate))
			write(t, dir, "ca.key", keyPEM(t, ca.caKey))
			openssl(t, dir, "req", "-inform", "DER", "-in", "request.der", "-verify", "-noout")
			openssl(t, dir, "x509", "-req", "-inform", "DER", "-in", "request.der", "-CA", "ca.pem", "-CAkey", "ca.key", "-copy_extensions", "copy", "-days", "40", "-out", "leaf.pem")
			upload := append(certificatesPEM(ca.root, ca.intermediate), read(t, dir, "leaf.pem")...)
			chain, err := Chain(key.Public(), must[[]*x509.Certificate](t)(Parse(upload)), nil)
			if err != nil || len(chain) != 3 || !chain[1].Equal(ca.intermediate) || !chain[2].Equal(ca.root) {
				t.Fatalf("%d certificates, %v", len(chain), err)
			}
			leaf := chain[0]
			if leaf.Subject.CommonName != "Zoë" || len(leaf.ExtKeyUsage) != 1 || leaf.ExtKeyUsage[0] != x509.ExtKeyUsageCodeSigning || leaf.KeyUsage != x509.KeyUsageDigitalSignature {
				t.Errorf("%v %v %v", leaf.Subject, leaf.ExtKeyUsage, leaf.KeyUsage)
			}
			if algorithm == RSA2048 == (len(Warnings(chain, time.Now())) == 0) {
				t.Errorf("%v", Warnings(chain, time.Now()))
			}
			if text := openssl(t, dir, "asn1parse", "-inform", "DER", "-in", "request.der"); !strings.Contains(text, "IA5STRING         :sign@acme.example") {
				t.Errorf("the mail address is no IA5String:\n%s", text)
			}
		})
	}
}

func TestIssueRefuses(t *testing.T) {
	t.Parallel()
	ca := newDemoCA(t, ECDSAP256)
	good := Template{Subject: name(t, "CN=x"), NotBefore: ca.root.NotBefore, NotAfter: ca.root.NotAfter}
	change := func(f func(*Template)) Template {
		changed := good
		f(&changed)
		return changed
	}
	public := newKey(t, Ed25519).Public()
	if _, err := Issue(ca.root, ca.rootKey, public, good); err != nil {
		t.Fatal(err)
	}
	for what, template := range map[string]Template{
		"no subject": change(func(c *Template) { c.Subject = nil }),
		"outlives":   change(func(c *Template) { c.NotAfter = c.NotAfter.Add(time.Second) }),
		"too early":  change(func(c *Template) { c.NotBefore = c.NotBefore.Add(-time.Second) }),
		"backwards":  change(func(c *Template) { c.NotBefore, c.NotAfter = c.NotAfter, c.NotBefore }),
		"usage":      change(func(c *Template) { c.Usage = 9 }),
	} {
		if _, err := Issue(ca.root, ca.rootKey, public, template); err == nil {
			t.Errorf("%s: issued", what)
		}
	}
	if _, err := Issue(ca.leaf, ca.key, public, good); err == nil {
		t.Error("issued by a certificate that is no authority")
	}
	if _, err := Issue(ca.root, ca.caKey, public, good); err == nil {
		t.Error("issued by another key")
	}
	if _, err := Issue(ca.root, ca.rootKey, "no key", good); err == nil {
		t.Error("issued for no key")
	}
}

func TestParseSubject(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"CN=Acme":                          "CN=Acme",
		"CN=Acme Release,O=Acme GmbH,C=DE": "CN=Acme Release,O=Acme GmbH,C=DE",
		" cn = Acme , o = Acme GmbH ;C=DE": "CN=Acme,O=Acme GmbH,C=DE",
		`CN=Acme\, Inc.,O="a+b;c\"d"`:      `CN=Acme\, Inc.,O=a\+b\;c\"d`,
		`CN=Z\C3\BCrich\ `:                 `CN=Zürich\ `,
		"CN=a+OU=b,O=c":                    "CN=a+OU=b,O=c",
		"1.2.3.4=x,OID.2.5.4.3=y":          "1.2.3.4=#130178,CN=y",
		"CN=日本":                            "CN=日本",
	} {
		got, err := ParseSubject(text)
		if err != nil || got.String() != want {
			t.Errorf("%q: got %q, %v; want %q", text, got, err, want)
			continue
		}
		if again, err := ParseSubject(want); err == nil && again.String() != want {
			t.Errorf("%q does not survive: %q", want, again)
		}
	}
	for _, bad := range []string{
		"", "CN", "CN=", "=x", "CN=a,", "CN=a,,O=b", "CN=a+", "XYZ=a", "1=a", "9.9.9=a", "CN=\\", "CN=\\x", "CN=\\FF", "CN=\"a", `CN="a"b`, `CN=a"b`,
		"CN=#04024869", "C=Germany", "CN=\xff", "CN=\\00", strings.Repeat("CN=a,", 2000) + "CN=a", "CN=a=b,O",
	} {
		if got, err := ParseSubject(bad); err == nil {
			t.Errorf("%q: got %q", bad, got)
		}
	}
	fields := pkix.Name{CommonName: "Acme", Organization: []string{"Acme GmbH"}, Country: []string{"DE"}}
	if got := fields.ToRDNSequence().String(); got != "CN=Acme,O=Acme GmbH,C=DE" {
		t.Error(got)
	}
}

func TestKeyAlgorithm(t *testing.T) {
	t.Parallel()
	for _, algorithm := range KeyAlgorithms() {
		if got, err := ParseKeyAlgorithm(strings.ToLower(string(algorithm))); err != nil || got != algorithm {
			t.Errorf("%s: %s, %v", algorithm, got, err)
		}
		if got, err := AlgorithmOf(newKey(t, algorithm).Public()); err != nil || got != algorithm {
			t.Errorf("%s: %s, %v", algorithm, got, err)
		}
	}
	if _, err := ParseKeyAlgorithm("RSA-1024"); err == nil {
		t.Error("RSA-1024 is known")
	}
	if _, err := GenerateKey("RSA-1024"); err == nil {
		t.Error("RSA-1024 was generated")
	}
	if got, err := AlgorithmOf("text"); err == nil || got != "string" {
		t.Errorf("%s, %v", got, err)
	}
}

func FuzzParseSubject(f *testing.F) {
	f.Add(`CN=Acme\, Inc.+OU="a;b",O=Z\C3\BCrich,1.2.3=x`)
	f.Fuzz(func(t *testing.T, text string) {
		subject, err := ParseSubject(text)
		if err != nil {
			return
		}
		if _, err := marshalSubject(subject); err != nil {
			t.Errorf("%q cannot be encoded: %v", text, err)
		}
	})
}
