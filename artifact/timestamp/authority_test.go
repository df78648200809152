package timestamp

import (
	"crypto"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"io"
	"math/big"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

func TestAuthorityRefuses(t *testing.T) {
	t.Parallel()
	tsa := newTSA(t, ecKey(t, elliptic.P256()), nil)
	authority := tsa.authority(t, AuthorityOptions{})
	query := func(change func(*request)) []byte {
		r := &request{hash: crypto.SHA256, digest: imprint(crypto.SHA256, "x"), nonce: big.NewInt(7)}
		change(r)
		return must[[]byte](t)(r.marshal())
	}
	good := query(func(*request) {})
	extension := append([]byte{}, good...)
	extension[1] += 4
	extension = append(extension, 0xa0, 2, 0x30, 0)
	version := append([]byte{}, good...)
	version[4] = 2
	md5 := append([]byte{}, good...)
	md5[19] = 9 // the last arc of the hash function
	for name, test := range map[string]struct {
		query []byte
		want  Failure
	}{
		"garbage":   {[]byte("hello"), BadDataFormat},
		"empty":     {nil, BadDataFormat},
		"trailing":  {append(append([]byte{}, good...), 0), BadDataFormat},
		"version":   {version, BadDataFormat},
		"length":    {query(func(r *request) { r.digest = r.digest[:20] }), BadDataFormat},
		"sha1":      {query(func(r *request) { r.hash, r.digest = crypto.SHA1, r.digest[:20] }), BadAlgorithm},
		"algorithm": {md5, BadAlgorithm},
		"policy":    {query(func(r *request) { r.policy = oidRSA }), UnacceptedPolicy},
		"extension": {extension, UnacceptedExtension},
		"big nonce": {query(func(r *request) { r.nonce = new(big.Int).Lsh(big.NewInt(1), 1000) }), BadDataFormat},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			response, err := authority.Respond(t.Context(), test.query)
			var rejected *RejectedError
			if !errors.As(err, &rejected) || rejected.Failure != test.want {
				t.Fatalf("got %v, want %v", err, test.want)
			}
			// What was said is what a client reads, and OpenSSL too.
			if _, err := parseResponse(response); !errors.As(err, &rejected) || rejected.Failure != test.want || rejected.Text == "" {
				t.Errorf("response says %v", err)
			}
			dir := t.TempDir()
			writeFile(t, dir, "response.tsr", response)
			openssl(t, dir, "ts", "-reply", "-in", "response.tsr", "-text")
		})
	}
}

func TestAuthorityHTTP(t *testing.T) {
	t.Parallel()
	tsa := newTSA(t, ecKey(t, elliptic.P256()), nil)
	authority := tsa.authority(t, AuthorityOptions{})
	for _, test := range []struct {
		method, mediaType string
		length, want      int
	}{
		{http.MethodGet, "", 0, http.StatusMethodNotAllowed},
		{http.MethodPost, "text/plain", 10, http.StatusUnsupportedMediaType},
		{http.MethodPost, queryType, maxRequest + 1, http.StatusRequestEntityTooLarge},
		{http.MethodPost, queryType + "; charset=binary", 10, http.StatusOK},
	} {
		r := httptest.NewRequest(test.method, "/", strings.NewReader(strings.Repeat("x", test.length)))
		r.Header.Set("Content-Type", test.mediaType)
		w := httptest.NewRecorder()
		authority.ServeHTTP(w, r)
		if w.Code != test.want {
			t.Errorf("%+v: got %d", test, w.Code)
		}
	}
}

type brokenKey struct{ crypto.Signer }

func (brokenKey) Sign(io.Reader, []byte, crypto.SignerOpts) ([]byte, error) {
	return nil, errors.New("token unplugged in slot 7")
}

func TestAuthorityKeyFails(t *testing.T) {
	t.Parallel()
	tsa := newTSA(t, brokenKey{ecKey(t, elliptic.P256())}, nil)
	authority := tsa.authority(t, AuthorityOptions{})
	query := must[[]byte](t)((&request{hash: crypto.SHA256, digest: imprint(crypto.SHA256, "x")}).marshal())
	response, err := authority.Respond(t.Context(), query)
	if err == nil || !strings.Contains(err.Error(), "slot 7") || strings.Contains(string(response), "slot 7") {
		t.Errorf("error %v, response %q", err, response)
	}
	var rejected *RejectedError
	if _, err := parseResponse(response); !errors.As(err, &rejected) || rejected.Failure != SystemFailure {
		t.Errorf("response says %v", err)
	}
}

func TestNewAuthorityRefuses(t *testing.T) {
	t.Parallel()
	key := ecKey(t, elliptic.P256())
	good := newTSA(t, key, nil)
	_, edKey, _ := ed25519.GenerateKey(rand.Reader)
	expired := newTSA(t, key, func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) })
	for name, options := range map[string]AuthorityOptions{
		"no key":       {Chain: good.chain(), Policy: testPolicy},
		"no chain":     {Key: key, Policy: testPolicy},
		"no policy":    {Key: key, Chain: good.chain()},
		"other key":    {Key: ecKey(t, elliptic.P256()), Chain: good.chain(), Policy: testPolicy},
		"not for time": {Key: key, Chain: newTSA(t, key, func(c *x509.Certificate) { c.ExtraExtensions = nil }).chain(), Policy: testPolicy},
		"Ed25519":      {Key: edKey, Chain: newTSA(t, edKey, nil).chain(), Policy: testPolicy},
	} {
		if _, err := NewAuthority(options); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	var rejected *RejectedError
	if _, err := expired.authority(t, AuthorityOptions{}).Timestamp(t.Context(), imprint(crypto.SHA256, "x"), crypto.SHA256); !errors.As(err, &rejected) || rejected.Failure != TimeNotAvailable {
		t.Errorf("expired: %v", err)
	}
}

func BenchmarkAuthority(b *testing.B) {
	for name, key := range map[string]crypto.Signer{"RSA2048": rsaKey(b), "P256": ecKey(b, elliptic.P256())} {
		authority := newTSA(b, key, nil).authority(b, AuthorityOptions{})
		digest := imprint(crypto.SHA256, "x")
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := authority.Timestamp(b.Context(), digest, crypto.SHA256); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
