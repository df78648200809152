package timestamp

import (
	"crypto"
	"crypto/elliptic"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/countersign-dev/countersign/artifact/cms"
)

// OpenSSL must accept the tokens and the responses of an Authority.
func TestOpenSSLVerifiesAuthority(t *testing.T) {
	t.Parallel()
	keys := map[string]crypto.Signer{
		"RSA":  rsaKey(t),
		"P256": ecKey(t, elliptic.P256()), "P384": ecKey(t, elliptic.P384()), "P521": ecKey(t, elliptic.P521()),
	}
	for name, key := range keys {
		tsa := newTSA(t, key, nil)
		authority := tsa.authority(t, AuthorityOptions{AllowSHA1: true})
		for _, hash := range []crypto.Hash{crypto.SHA1, crypto.SHA256, crypto.SHA384, crypto.SHA512} {
			t.Run(fmt.Sprintf("%s/%v", name, hash), func(t *testing.T) {
				t.Parallel()
				dir := t.TempDir()
				writeFile(t, dir, "root.pem", certificatesPEM(tsa.root))
				digest := imprint(hash, "signature")
				token := must[[]byte](t)(authority.Timestamp(t.Context(), digest, hash))
				writeFile(t, dir, "token.der", token)
				openssl(t, dir, "ts", "-verify", "-token_in", "-in", "token.der", "-digest", hex.EncodeToString(digest), "-CAfile", "root.pem")

				// A query that OpenSSL made, without and with certReq.
				writeFile(t, dir, "data", []byte("data"))
				flag := map[crypto.Hash]string{crypto.SHA1: "-sha1", crypto.SHA256: "-sha256", crypto.SHA384: "-sha384", crypto.SHA512: "-sha512"}[hash]
				writeFile(t, dir, "leaf.pem", certificatesPEM(tsa.leaf))
				for i, extra := range [][]string{{"-cert"}, {}, {"-cert", "-no_nonce", "-tspolicy", testPolicy.String()}} {
					openssl(t, dir, append([]string{"ts", "-query", "-data", "data", flag, "-out", "query.tsq"}, extra...)...)
					response, err := authority.Respond(t.Context(), readFile(t, dir, "query.tsq"))
					if err != nil {
						t.Fatal(i, err)
					}
					writeFile(t, dir, "response.tsr", response)
					openssl(t, dir, "ts", "-verify", "-queryfile", "query.tsq", "-in", "response.tsr", "-CAfile", "root.pem", "-untrusted", "leaf.pem")
				}
			})
		}
	}
}

// A Client must accept what OpenSSL's authority answers.
func TestClientAcceptsOpenSSL(t *testing.T) {
	t.Parallel()
	for name, key := range map[string]crypto.Signer{"RSA": rsaKey(t), "P384": ecKey(t, elliptic.P384())} {
		tsa := newTSA(t, key, nil)
		for _, ess := range []string{"sha1", "sha256", "sha512"} {
			for _, digest := range []string{"sha256", "sha512"} {
				t.Run(name+"/"+ess+"/"+digest, func(t *testing.T) {
					t.Parallel()
					dir := t.TempDir()
					writeFile(t, dir, "tsa.cnf", []byte(`[tsa]
default_tsa = t
[t]
serial = serial
certs = chain.pem
signer_cert = leaf.pem
signer_key = key.pem
signer_digest = `+digest+`
default_policy = 1.2.3.4
digests = sha1, sha256, sha384, sha512
accuracy = secs:1, millisecs:500, microsecs:100
clock_precision_digits = 3
ordering = yes
tsa_name = yes
ess_cert_id_chain = yes
ess_cert_id_alg = `+ess+"\n"))
					writeFile(t, dir, "chain.pem", certificatesPEM(tsa.leaf, tsa.root))
					writeFile(t, dir, "leaf.pem", certificatesPEM(tsa.leaf))
					writeFile(t, dir, "key.pem", keyPEM(t, tsa.key))
					server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
						query, _ := io.ReadAll(r.Body)
						_ = os.WriteFile(filepath.Join(dir, "query.tsq"), query, 0o600)
						openssl(t, dir, "ts", "-reply", "-config", "tsa.cnf", "-queryfile", "query.tsq", "-out", "response.tsr")
						w.Header().Set("Content-Type", replyType)
						_, _ = w.Write(readFile(t, dir, "response.tsr"))
					}))
					defer server.Close()
					client := must[*Client](t)(NewClient(server.URL, server.Client(), ClientOptions{Roots: tsa.roots()}))
					for _, hash := range []crypto.Hash{crypto.SHA1, crypto.SHA256, crypto.SHA384, crypto.SHA512} {
						der, err := client.Timestamp(t.Context(), imprint(hash, "x"), hash)
						if err != nil {
							t.Fatalf("%v: %v", hash, err)
						}
						token := must[*cms.Token](t)(cms.ParseToken(der))
						if token.Accuracy.String() != "1.5001s" || token.Policy.String() != "1.2.3.4" {
							t.Errorf("accuracy %v, policy %v", token.Accuracy, token.Policy)
						}
					}
				})
			}
		}
	}
}

// Tokens of authorities that sign in other ways, here by OpenSSL's CMS: RSASSA-PSS
// and signers named by key identifier.
func TestVerifiesOtherSignatures(t *testing.T) {
	t.Parallel()
	tsa := newTSA(t, rsaKey(t), func(c *x509.Certificate) { c.SubjectKeyId = []byte{1, 2, 3, 4} })
	authority := tsa.authority(t, AuthorityOptions{})
	dir := t.TempDir()
	writeFile(t, dir, "leaf.pem", certificatesPEM(tsa.leaf))
	writeFile(t, dir, "key.pem", keyPEM(t, tsa.key))
	info := must[[]byte](t)(authority.info(&request{hash: crypto.SHA256, digest: imprint(crypto.SHA256, "x")}, time.Now().UTC()))
	writeFile(t, dir, "info.der", info)
	pss := []string{"-keyopt", "rsa_padding_mode:pss", "-keyopt", "rsa_pss_saltlen:digest"}
	for name, args := range map[string][]string{
		"PKCS#1": {"-md", "sha512"}, "key identifier": {"-md", "sha256", "-keyid"},
		"PSS, SHA-256": append(pss, "-md", "sha256"), "PSS, SHA-384": append(pss, "-md", "sha384"), "PSS, SHA-512": append(pss, "-md", "sha512"),
	} {
		openssl(t, dir, append([]string{
			"cms", "-sign", "-cades", "-binary", "-nodetach", "-econtent_type", cms.OIDTSTInfo.String(),
			"-in", "info.der", "-signer", "leaf.pem", "-inkey", "key.pem", "-outform", "DER", "-out", "token.der",
		}, args...)...)
		der := readFile(t, dir, "token.der")
		if _, signer, err := parseToken(der); err != nil || !signer.Equal(tsa.leaf) {
			t.Errorf("%s: %v", name, err)
		}
		der[len(der)-10] ^= 1
		if _, _, err := parseToken(der); err == nil {
			t.Errorf("%s: a changed signature was accepted", name)
		}
	}
	// RSA with SHA-1 is refused, and said to be why.
	openssl(t, dir, "cms", "-sign", "-cades", "-binary", "-nodetach", "-econtent_type", cms.OIDTSTInfo.String(), "-md", "sha1",
		"-in", "info.der", "-signer", "leaf.pem", "-inkey", "key.pem", "-outform", "DER", "-out", "token.der")
	if _, _, err := parseToken(readFile(t, dir, "token.der")); err == nil || !strings.Contains(err.Error(), "is signed with SHA-1") {
		t.Errorf("SHA-1: %v", err)
	}
}
