package cms_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/countersign-dev/countersign/artifact/cms"
	"github.com/countersign-dev/countersign/artifact/cms/cmstest"
	"github.com/countersign-dev/countersign/internal/oracle"
)

var content = []byte("what is signed\r\n")

func digestOf(h crypto.Hash, data []byte) []byte {
	d := h.New()
	d.Write(data)
	return d.Sum(nil)
}

func run(t *testing.T, program string, arguments ...string) string {
	t.Helper()
	output, err := exec.Command(program, arguments...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", program, strings.Join(arguments, " "), err, output)
	}
	return string(output)
}

func writeFile(t *testing.T, name string, data []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestSign makes signatures of every kind, has OpenSSL verify them and verifies
// them here.
func TestSign(t *testing.T) {
	t.Parallel()
	openssl := oracle.Need(t, "openssl", "3.0")
	root := cmstest.Root(t, "Test Root")
	rootFile := root.WriteCertificate(t)
	contentFile := writeFile(t, "content", content)
	type test struct {
		kind string
		hash crypto.Hash
		pss  bool
	}
	var tests []test
	for _, h := range []crypto.Hash{crypto.SHA1, crypto.SHA256, crypto.SHA384, crypto.SHA512} {
		for _, kind := range []string{"rsa2048", "p256", "p384", "p521"} {
			tests = append(tests, test{kind, h, false})
		}
		tests = append(tests, test{"rsa2048", h, true})
	}
	tests = append(tests, test{"ed25519", crypto.SHA512, false})
	for _, test := range tests {
		for _, detached := range []bool{false, true} {
			name := test.kind + "/" + test.hash.String()
			if test.pss {
				name += "/PSS"
			}
			if detached {
				name += "/detached"
			}
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				signer := root.Signer(t, test.kind)
				c := cms.Attached(cms.OIDData, content)
				if detached {
					c = cms.Detached(cms.OIDData, digestOf(test.hash, content))
				}
				der, err := cms.Sign(t.Context(), c, cms.SignOptions{
					Key: signer.Key, Chain: signer.Chain, Hash: test.hash, PSS: test.pss, SigningTime: time.Now(),
				})
				if err != nil {
					t.Fatal(err)
				}

				file := writeFile(t, "signature.der", der)
				run(t, openssl, "asn1parse", "-inform", "DER", "-in", file)
				if test.kind != "ed25519" { // which OpenSSL 3.0 does not verify in CMS
					arguments := []string{"cms", "-verify", "-binary", "-inform", "DER", "-in", file, "-CAfile", rootFile, "-purpose", "any"}
					if detached {
						arguments = append(arguments, "-content", contentFile)
					}
					output := run(t, openssl, arguments...)
					if !strings.Contains(output, string(content)) {
						t.Errorf("openssl cms -verify gave other content: %q", output)
					}
				}

				sd, err := cms.Parse(der)
				if err != nil {
					t.Fatal(err)
				}
				if sd.Detached != detached || len(sd.Signers) != 1 || len(sd.Certificates) != 2 {
					t.Errorf("detached %v, %d signers, %d certificates", sd.Detached, len(sd.Signers), len(sd.Certificates))
				}
				leaf, err := sd.CheckSignature(sd.Signers[0], func(h crypto.Hash) ([]byte, error) { return digestOf(h, content), nil })
				if err != nil {
					t.Fatal(err)
				}
				if !leaf.Equal(signer.Certificate) {
					t.Errorf("signed by %v", leaf.Subject)
				}
				chain, err := cms.Chain(leaf, sd.Certificates, cms.ChainOptions{Roots: root.Pool(), Usage: x509.ExtKeyUsageCodeSigning})
				if err != nil || len(chain) != 3 {
					t.Errorf("chain of %d: %v", len(chain), err)
				}
			})
		}
	}
}

// TestVerifyOpenSSL verifies what OpenSSL signs, streamed in BER among it.
func TestVerifyOpenSSL(t *testing.T) {
	t.Parallel()
	openssl := oracle.Need(t, "openssl", "3.0")
	root := cmstest.Root(t, "Test Root")
	big := bytes.Repeat(content, 10000)
	contentFile := writeFile(t, "content", big)
	for _, test := range []struct {
		name string
		kind string
		arg  []string
	}{
		{"attached", "rsa2048", []string{"-nodetach"}},
		{"streamed", "rsa2048", []string{"-nodetach", "-stream"}},
		{"detached", "p256", []string{"-md", "sha384"}},
		{"no attributes", "rsa2048", []string{"-noattr", "-nodetach"}},
		{"key identifier", "p384", []string{"-keyid", "-nodetach"}},
		{"PSS", "rsa2048", []string{"-nodetach", "-keyopt", "rsa_padding_mode:pss", "-md", "sha512"}},
		{"PSS automatic salt", "rsa2048", []string{"-nodetach", "-keyopt", "rsa_padding_mode:pss", "-keyopt", "rsa_pss_saltlen:20"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			signer := root.Signer(t, test.kind)
			certificates, key := signer.WriteFiles(t)
			file := filepath.Join(t.TempDir(), "signature.der")
			run(t, openssl, append([]string{"cms", "-sign", "-binary", "-in", contentFile, "-signer", certificates, "-inkey", key, "-outform", "DER", "-out", file}, test.arg...)...)
			der, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if test.name == "streamed" && der[1] != 0x80 {
				t.Fatalf("openssl did not stream: % x", der[:8])
			}
			sd, err := cms.Parse(der)
			if err != nil {
				t.Fatal(err)
			}
			detached := func(h crypto.Hash) ([]byte, error) { return digestOf(h, big), nil }
			leaf, err := sd.CheckSignature(sd.Signers[0], detached)
			if err != nil || !leaf.Equal(signer.Certificate) {
				t.Errorf("signer %v: %v", leaf, err)
			}
			if sd.Detached {
				sd.Signers[0].Signature[5] ^= 1
			} else {
				sd.Content[5] ^= 1
			}
			if _, err := sd.CheckSignature(sd.Signers[0], detached); err == nil {
				t.Error("a changed one is accepted")
			}
		})
	}
}

func TestTimestamp(t *testing.T) {
	t.Parallel()
	openssl := oracle.Need(t, "openssl", "3.0")
	root := cmstest.Root(t, "Test Root")
	signer := root.Signer(t, "p256")
	tsa := cmstest.NewTSA(t, root)
	tsa.Time = time.Now().Add(-time.Minute).Truncate(time.Second)
	opts := cms.SignOptions{Key: signer.Key, Chain: signer.Chain, Timestamper: tsa}
	der, err := cms.Sign(t.Context(), cms.Attached(cms.OIDData, content), opts)
	if err != nil {
		t.Fatal(err)
	}
	sd, err := cms.Parse(der)
	if err != nil {
		t.Fatal(err)
	}
	stamp, err := sd.Timestamp(sd.Signers[0])
	if err != nil || stamp.Kind != cms.TimestampRFC3161 || !stamp.Time.Equal(tsa.Time) || !stamp.Authority.Equal(tsa.Identity.Certificate) {
		t.Errorf("time stamp %+v: %v", stamp, err)
	}

	// OpenSSL's judgement of the token.
	token := sd.Signers[0].UnsignedAttributes.Values(cms.OIDAttributeTimestampToken)[0]
	run(t, openssl, "ts", "-verify", "-token_in", "-in", writeFile(t, "token.der", token),
		"-data", writeFile(t, "signature", sd.Signers[0].Signature), "-CAfile", root.WriteCertificate(t))

	t.Run("for other data", func(t *testing.T) {
		parsed, err := cms.ParseToken(token)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := parsed.Check([]byte("other")); !errors.Is(err, cms.ErrDigestMismatch) {
			t.Errorf("error %v", err)
		}
	})
	t.Run("unusable answers", func(t *testing.T) {
		for name, bad := range map[string]cms.Timestamper{
			"error":            &cmstest.TSA{Err: io.ErrUnexpectedEOF},
			"not a TSA":        &cmstest.TSA{Identity: signer},
			"garbage":          answer("garbage"),
			"other data":       answer(token),
			"no token at all":  answer(""),
			"not a time stamp": answer(der),
		} {
			opts.Timestamper = bad
			if _, err := cms.Sign(t.Context(), cms.Attached(cms.OIDData, content), opts); err == nil {
				t.Errorf("%s: accepted", name)
			}
		}
	})
	t.Run("made by openssl ts", func(t *testing.T) {
		certificates, key := tsa.Identity.WriteFiles(t)
		dir := t.TempDir()
		config := writeFile(t, "ts.cnf", []byte("[tsa]\ndefault_tsa = a\n[a]\nserial = "+dir+"/serial\ndefault_policy = 1.2.3.4\nsigner_digest = sha256\ndigests = sha1,sha256,sha384,sha512\nordering = yes\naccuracy = secs:1, millisecs:500\nclock_precision_digits = 3\nsigner_cert = "+certificates+"\nsigner_key = "+key+"\ness_cert_id_alg = sha1\n"))
		data := writeFile(t, "data", content)
		run(t, openssl, "ts", "-query", "-data", data, "-sha384", "-cert", "-out", dir+"/query")
		run(t, openssl, "ts", "-reply", "-config", config, "-section", "a", "-queryfile", dir+"/query", "-token_out", "-out", dir+"/token")
		der, err := os.ReadFile(dir + "/token")
		if err != nil {
			t.Fatal(err)
		}
		token, err := cms.ParseToken(der)
		if err != nil {
			t.Fatal(err)
		}
		if token.Hash != crypto.SHA384 || token.Nonce == nil || time.Since(token.Time).Abs() > time.Hour || !token.Policy.Equal(asn1.ObjectIdentifier{1, 2, 3, 4}) {
			t.Errorf("token %+v", token)
		}
		if c, err := token.Check(content); err != nil || !c.Equal(tsa.Identity.Certificate) {
			t.Errorf("signed by %v: %v", c, err)
		}
	})
}

type answer string

func (a answer) Timestamp(context.Context, []byte, crypto.Hash) ([]byte, error) {
	return []byte(a), nil
}

func TestRefusedOptions(t *testing.T) {
	t.Parallel()
	root := cmstest.Root(t, "Test Root")
	signer, other, edwards := root.Signer(t, "p256"), root.Signer(t, "p384"), root.Signer(t, "ed25519")
	for name, opts := range map[string]cms.SignOptions{
		"no key":             {Chain: signer.Chain},
		"no chain":           {Key: signer.Key},
		"other key":          {Key: other.Key, Chain: signer.Chain},
		"MD5":                {Key: signer.Key, Chain: signer.Chain, Hash: crypto.MD5},
		"PSS with ECDSA":     {Key: signer.Key, Chain: signer.Chain, PSS: true},
		"Ed25519 with SHA-1": {Key: edwards.Key, Chain: edwards.Chain, Hash: crypto.SHA1},
		"attribute twice":    {Key: signer.Key, Chain: signer.Chain, Attributes: cms.Attributes{{Type: cms.OIDAttributeMessageDigest, Values: [][]byte{{5, 0}}}}},
	} {
		if _, err := cms.Sign(t.Context(), cms.Attached(cms.OIDData, content), opts); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if _, err := cms.Sign(t.Context(), cms.Detached(cms.OIDData, []byte("short")), cms.SignOptions{Key: signer.Key, Chain: signer.Chain}); err == nil {
		t.Error("a digest of wrong length is accepted")
	}
}

func TestEmbeddedCertificates(t *testing.T) {
	t.Parallel()
	root := cmstest.Root(t, "Test Root")
	signer, self := root.Signer(t, "p256"), cmstest.SelfSigned(t, "Self", "p256")
	for _, test := range []struct {
		name string
		opts cms.SignOptions
		want int
	}{
		{"without root", cms.SignOptions{Key: signer.Key, Chain: signer.Chain}, 2},
		{"with root", cms.SignOptions{Key: signer.Key, Chain: signer.Chain, IncludeRoot: true}, 3},
		{"self-signed leaf", cms.SignOptions{Key: self.Key, Chain: self.Chain}, 1},
	} {
		der, err := cms.Sign(t.Context(), cms.Attached(cms.OIDData, content), test.opts)
		if err != nil {
			t.Fatal(err)
		}
		sd, err := cms.Parse(der)
		if err != nil || len(sd.Certificates) != test.want {
			t.Errorf("%s: %d certificates, want %d: %v", test.name, len(sd.Certificates), test.want, err)
		}
	}
}

func TestAddUnsignedAttribute(t *testing.T) {
	t.Parallel()
	root := cmstest.Root(t, "Test Root")
	signer := root.Signer(t, "p256")
	der, err := cms.Sign(t.Context(), cms.Attached(cms.OIDData, content), cms.SignOptions{Key: signer.Key, Chain: signer.Chain})
	if err != nil {
		t.Fatal(err)
	}
	values := [][]byte{{4, 1, 9}, {4, 1, 1}, {4, 1, 5}}
	for _, value := range values {
		sd, err := cms.Parse(der)
		if err != nil {
			t.Fatal(err)
		}
		if der, err = sd.AddUnsignedAttribute(cms.OIDAttributeNestedSignature, value); err != nil {
			t.Fatal(err)
		}
	}
	sd, err := cms.Parse(der)
	if err != nil {
		t.Fatal(err)
	}
	if got := sd.Signers[0].UnsignedAttributes.Values(cms.OIDAttributeNestedSignature); !bytes.Equal(bytes.Join(got, nil), bytes.Join(values, nil)) {
		t.Errorf("values % x", got)
	}
	if _, err := sd.CheckSignature(sd.Signers[0], nil); err != nil {
		t.Error(err)
	}
}

func TestChainProblems(t *testing.T) {
	t.Parallel()
	now := time.Now()
	root := cmstest.Root(t, "Test Root")
	issue := func(template cmstest.Template) *cmstest.Identity {
		template.Name = "Leaf"
		if template.Usage == nil {
			template.Usage = []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning}
		}
		return root.Issue(t, template)
	}
	for _, test := range []struct {
		name  string
		leaf  *cmstest.Identity
		roots *x509.CertPool
		want  cms.ChainProblem
	}{
		{"expired", issue(cmstest.Template{NotBefore: now.Add(-50 * time.Minute), NotAfter: now.Add(-time.Minute)}), root.Pool(), cms.ChainExpired},
		{"not yet valid", issue(cmstest.Template{NotBefore: now.Add(time.Hour)}), root.Pool(), cms.ChainNotYetValid},
		{"other root", issue(cmstest.Template{}), cmstest.Root(t, "Other").Pool(), cms.ChainUntrustedRoot},
		{"no roots", issue(cmstest.Template{}), nil, cms.ChainUntrustedRoot},
		{"for mail", issue(cmstest.Template{Usage: []x509.ExtKeyUsage{x509.ExtKeyUsageEmailProtection}}), root.Pool(), cms.ChainWrongUsage},
	} {
		_, err := cms.Chain(test.leaf.Certificate, nil, cms.ChainOptions{Roots: test.roots, Usage: x509.ExtKeyUsageCodeSigning})
		var chainErr *cms.ChainError
		if !errors.As(err, &chainErr) || chainErr.Problem != test.want {
			t.Errorf("%s: %v", test.name, err)
		}
	}
}
