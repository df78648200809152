package timestamp

import (
	"bytes"
	"context"
	"crypto"
	"crypto/elliptic"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"io"
	"math/big"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/countersign-dev/countersign/artifact/cms"
)

func TestClientAndAuthority(t *testing.T) {
	t.Parallel()
	tsa := newTSA(t, ecKey(t, elliptic.P256()), nil)
	moment := time.Now().UTC().Truncate(time.Second)
	server := httptest.NewServer(tsa.authority(t, AuthorityOptions{
		Clock: func() time.Time { return moment }, Accuracy: 2*time.Second + 30*time.Millisecond + 4*time.Microsecond,
	}))
	defer server.Close()
	client := must[*Client](t)(NewClient(server.URL, server.Client(), ClientOptions{Roots: tsa.roots(), Policy: testPolicy}))
	serials := make(map[string]bool)
	for _, hash := range []crypto.Hash{crypto.SHA256, crypto.SHA384, crypto.SHA512} {
		digest := imprint(hash, "x")
		der, err := client.Timestamp(t.Context(), digest, hash)
		if err != nil {
			t.Fatal(err)
		}
		token := must[*cms.Token](t)(cms.ParseToken(der))
		if !token.Time.Equal(moment) || token.Accuracy != 2030004*time.Microsecond || token.Hash != hash || !bytes.Equal(token.Imprint, digest) {
			t.Errorf("%+v", token)
		}
		if serials[token.Serial.String()] || token.Serial.BitLen() != 127 {
			t.Errorf("serial %v", token.Serial)
		}
		serials[token.Serial.String()] = true
	}

	var rejected *RejectedError
	if _, err := client.Timestamp(t.Context(), imprint(crypto.SHA1, "x"), crypto.SHA1); !errors.As(err, &rejected) || rejected.Failure != BadAlgorithm {
		t.Errorf("SHA-1: %v", err)
	}
	if _, err := client.Timestamp(t.Context(), make([]byte, 20), crypto.SHA256); err == nil || errors.As(err, &rejected) {
		t.Errorf("short digest: %v", err)
	}
	if _, err := client.Timestamp(t.Context(), make([]byte, 16), crypto.MD5); err == nil {
		t.Error("MD5 accepted")
	}
	other := must[*Client](t)(NewClient(server.URL, server.Client(), ClientOptions{Policy: asn1.ObjectIdentifier{1, 2, 3}}))
	if _, err := other.Timestamp(t.Context(), imprint(crypto.SHA256, "x"), crypto.SHA256); !errors.As(err, &rejected) || rejected.Failure != UnacceptedPolicy {
		t.Errorf("policy: %v", err)
	}
	strangers := newTSA(t, ecKey(t, elliptic.P256()), nil)
	other = must[*Client](t)(NewClient(server.URL, server.Client(), ClientOptions{Roots: strangers.roots()}))
	if _, err := other.Timestamp(t.Context(), imprint(crypto.SHA256, "x"), crypto.SHA256); err == nil || !strings.Contains(err.Error(), "not trusted") {
		t.Errorf("foreign root: %v", err)
	}
}

// A lying authority must not get through.
func TestClientRefusesLies(t *testing.T) {
	t.Parallel()
	key := ecKey(t, elliptic.P256())
	tsa := newTSA(t, key, nil)
	good := tsa.authority(t, AuthorityOptions{})
	// sign answers with a token of the authority for a changed request.
	sign := func(change func(*request)) func(t *testing.T, query []byte) []byte {
		return func(t *testing.T, query []byte) []byte {
			r := must[*request](t)(parseRequest(query))
			change(r)
			token := must[[]byte](t)(good.issue(t.Context(), r))
			return must[[]byte](t)(marshalGranted(token))
		}
	}
	usage := func(critical bool, oids ...asn1.ObjectIdentifier) func(*x509.Certificate) {
		return func(c *x509.Certificate) {
			value, _ := asn1.Marshal(oids)
			c.ExtraExtensions = []pkix.Extension{{Id: oidExtKeyUsage, Critical: critical, Value: value}}
		}
	}
	// spoiled answers with an authority whose certificate NewAuthority would refuse.
	spoiled := func(change func(*x509.Certificate)) func(t *testing.T, query []byte) []byte {
		return func(t *testing.T, query []byte) []byte {
			bad := newTSA(t, key, change)
			authority := *good
			authority.options.Chain = bad.chain()
			authority.options.Clock = time.Now
			authority.certificates = bad.leaf.Raw
			authority.essCertID = must[[]byte](t)(signingCertificateV2(bad.leaf))
			r := must[*request](t)(parseRequest(query))
			token := must[[]byte](t)(authority.sign(r, time.Now().UTC()))
			return must[[]byte](t)(marshalGranted(token))
		}
	}
	tests := []struct {
		name   string
		answer func(t *testing.T, query []byte) []byte
		want   string
	}{
		{"other imprint", sign(func(r *request) { r.digest = imprint(crypto.SHA256, "y") }), "another message imprint"},
		{"other hash", sign(func(r *request) { r.hash, r.digest = crypto.SHA512, imprint(crypto.SHA512, "x") }), "another message imprint"},
		{"other nonce", sign(func(r *request) { r.nonce = big.NewInt(42) }), "nonce"},
		{"no nonce", sign(func(r *request) { r.nonce = nil }), "nonce"},
		{"no certificate", sign(func(r *request) { r.certificates = false }), "certificate is not embedded"},
		{"changed content", func(t *testing.T, query []byte) []byte {
			response := must[[]byte](t)(good.Respond(t.Context(), query))
			// The serial number is the INTEGER that follows the imprint.
			at := bytes.Index(response, imprint(crypto.SHA256, "x")) + crypto.SHA256.Size() + 5
			response[at] ^= 1
			return response
		}, "content is not what was signed"},
		{"changed signature", func(t *testing.T, query []byte) []byte {
			response := must[[]byte](t)(good.Respond(t.Context(), query))
			response[len(response)-1] ^= 1
			return response
		}, "signature"},
		{"swapped certificate", func(t *testing.T, query []byte) []byte {
			// Same key, issuer and serial number, another certificate.
			authority := *good
			authority.certificates = newTSA(t, key, nil).leaf.Raw
			return must[[]byte](t)(authority.Respond(t.Context(), query))
		}, "names another certificate"},
		{"usage not critical", spoiled(usage(false, asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 3, 8})), "not critical"},
		{"usage code signing", spoiled(usage(true, asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 3, 3})), "not for time stamping alone"},
		{"usage both", spoiled(usage(true, asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 3, 8}, asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 3, 3})), "not for time stamping alone"},
		{"usage missing", spoiled(func(c *x509.Certificate) { c.ExtraExtensions = nil }), "not for time stamping alone"},
		{"key usage", spoiled(func(c *x509.Certificate) { c.KeyUsage |= x509.KeyUsageKeyEncipherment }), "keyUsage"},
		{"expired", spoiled(func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) }), "validity"},
		{"garbage", func(*testing.T, []byte) []byte { return []byte("<html>no</html>") }, "response"},
		{"nothing", func(*testing.T, []byte) []byte { return nil }, "response"},
		{"granted without token", func(*testing.T, []byte) []byte { return []byte{0x30, 5, 0x30, 3, 2, 1, 0} }, "timeStampToken"},
		{"cut off", func(t *testing.T, query []byte) []byte {
			response := must[[]byte](t)(good.Respond(t.Context(), query))
			return response[:len(response)-20]
		}, "response"},
		{"endless", func(*testing.T, []byte) []byte { return make([]byte, 300<<10) }, "more than"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				query, _ := io.ReadAll(r.Body)
				w.Header().Set("Content-Type", replyType)
				_, _ = w.Write(test.answer(t, query))
			}))
			defer server.Close()
			client := must[*Client](t)(NewClient(server.URL, server.Client(), ClientOptions{}))
			token, err := client.Timestamp(t.Context(), imprint(crypto.SHA256, "x"), crypto.SHA256)
			if err == nil || token != nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %d octets, error %v, want %q", len(token), err, test.want)
			}
		})
	}
}

func TestClientStatus(t *testing.T) {
	t.Parallel()
	tsa := newTSA(t, ecKey(t, elliptic.P256()), nil)
	authority := tsa.authority(t, AuthorityOptions{})
	answer := func(status int, body func(query []byte) []byte) *Client {
		rt := transport(func(r *http.Request) (*http.Response, error) {
			query, _ := io.ReadAll(r.Body)
			return &http.Response{StatusCode: status, Header: http.Header{"Content-Type": {"text/html"}}, Body: io.NopCloser(bytes.NewReader(body(query)))}, nil
		})
		return must[*Client](t)(NewClient("https://user:secret@tsa.example/x", &http.Client{Transport: rt}, ClientOptions{}))
	}
	digest := imprint(crypto.SHA256, "x")

	// granted-with-mods carries a token that is checked like any other.
	withMods := answer(200, func(query []byte) []byte {
		response := must[[]byte](t)(authority.Respond(t.Context(), query))
		return bytes.Replace(response, []byte{0x30, 3, 2, 1, 0}, []byte{0x30, 3, 2, 1, 1}, 1)
	})
	if _, err := withMods.Timestamp(t.Context(), digest, crypto.SHA256); err != nil {
		t.Errorf("granted with modifications: %v", err)
	}

	for _, want := range []RejectedError{
		{Rejection, BadRequest, "go away"}, {Waiting, FailureNone, ""}, {Rejection, SystemFailure, "ünwell"}, {RevocationWarning, BadAlgorithm, ""},
	} {
		rejecting := answer(200, func([]byte) []byte { return must[[]byte](t)(marshalRejected(&want)) })
		_, err := rejecting.Timestamp(t.Context(), digest, crypto.SHA256)
		var got *RejectedError
		if !errors.As(err, &got) || *got != want {
			t.Errorf("got %v, want %v", err, &want)
		}
	}

	_, err := answer(503, func([]byte) []byte { return nil }).Timestamp(t.Context(), digest, crypto.SHA256)
	if err == nil || !strings.Contains(err.Error(), "503") || strings.Contains(err.Error(), "secret") {
		t.Errorf("503: %v", err)
	}
	_, err = answer(200, func([]byte) []byte { return []byte("<html>") }).Timestamp(t.Context(), digest, crypto.SHA256)
	if err == nil || !strings.Contains(err.Error(), "text/html") {
		t.Errorf("page: %v", err)
	}
	failing := transport(func(*http.Request) (*http.Response, error) { return nil, errors.New("no route") })
	client := must[*Client](t)(NewClient("http://user:secret@tsa.example/x", &http.Client{Transport: failing}, ClientOptions{}))
	if _, err := client.Timestamp(t.Context(), digest, crypto.SHA256); err == nil || strings.Contains(err.Error(), "secret") || !strings.Contains(err.Error(), "no route") {
		t.Errorf("no route: %v", err)
	}
	for _, bad := range []string{"", "tsa.example", "ftp://tsa.example", "http://", "http://user:secret@h:x:y/"} {
		if _, err := NewClient(bad, http.DefaultClient, ClientOptions{}); err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func TestClientTimeout(t *testing.T) {
	t.Parallel()
	hang := transport(func(r *http.Request) (*http.Response, error) {
		<-r.Context().Done()
		return nil, r.Context().Err()
	})
	client := must[*Client](t)(NewClient("http://tsa.example", &http.Client{Transport: hang}, ClientOptions{Timeout: time.Millisecond}))
	if _, err := client.Timestamp(t.Context(), imprint(crypto.SHA256, "x"), crypto.SHA256); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
}
