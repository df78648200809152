package timestamp

import (
	"bytes"
	"crypto"
	"crypto/elliptic"
	"testing"

	"github.com/countersign-dev/countersign/artifact/cms"
)

// Whatever an authority answers, the client neither panics nor takes a token
// that was not signed.
func FuzzResponse(f *testing.F) {
	tsa := newTSA(f, ecKey(f, elliptic.P256()), nil)
	authority := tsa.authority(f, AuthorityOptions{})
	query := must[[]byte](f)((&request{hash: crypto.SHA256, digest: testDigest, certificates: true}).marshal())
	response := must[[]byte](f)(authority.Respond(f.Context(), query))
	good := must[*cms.Token](f)(cms.ParseToken(must[[]byte](f)(parseResponse(response))))
	f.Add(response)
	f.Add(must[[]byte](f)(marshalRejected(&RejectedError{Status: Rejection, Failure: SystemFailure, Text: "no"})))
	f.Fuzz(func(t *testing.T, der []byte) {
		inner, err := parseResponse(der)
		if err != nil {
			_ = err.Error()
			return
		}
		token, authority, err := parseToken(inner)
		if err == nil && authority.Equal(tsa.leaf) && !bytes.Equal(token.SignedData.Content, good.SignedData.Content) {
			t.Errorf("a changed token was accepted: %x", der)
		}
	})
}

// Whatever a client asks, the authority answers with a response that can be read.
func FuzzRequest(f *testing.F) {
	authority := newTSA(f, ecKey(f, elliptic.P256()), nil).authority(f, AuthorityOptions{})
	f.Add(must[[]byte](f)((&request{hash: crypto.SHA256, digest: testDigest, certificates: true, policy: testPolicy, nonce: newSerial()}).marshal()))
	f.Add([]byte{0x30, 0})
	f.Fuzz(func(t *testing.T, der []byte) {
		response, err := authority.Respond(t.Context(), der)
		inner, parseErr := parseResponse(response)
		if (err == nil) != (parseErr == nil) {
			t.Fatalf("answered %v, read %v", err, parseErr)
		}
		if err != nil {
			return
		}
		if _, err := cms.ParseToken(inner); err != nil {
			t.Error(err)
		}
	})
}
