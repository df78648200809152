package authenticode_test

import (
	"crypto"
	"crypto/sha256"
	"encoding/asn1"
	"errors"
	"io"
	"slices"
	"testing"

	"github.com/countersign-dev/countersign/artifact/authenticode"
	"github.com/countersign-dev/countersign/artifact/cms"
	"github.com/countersign-dev/countersign/artifact/cms/cmstest"
)

// TestOtherSubject signs and judges something that is no PE image.
func TestOtherSubject(t *testing.T) {
	t.Parallel()
	root := cmstest.Root(t, "Test Root")
	signer := root.Signer(t, "p256")
	sipInfo := asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 311, 2, 1, 30}
	subject := authenticode.Subject{Type: sipInfo, Value: []byte{0x30, 3, 2, 1, 1}}
	digest := sha256.Sum256([]byte("a script"))
	same := func(crypto.Hash) ([]byte, error) { return digest[:], nil }
	opts := authenticode.VerifyOptions{Roots: root.Pool()}

	one, err := authenticode.Sign(t.Context(), subject, digest[:], options(signer))
	if err != nil {
		t.Fatal(err)
	}
	if found, err := authenticode.Verify(one, sipInfo, same, opts); err != nil || len(found) != 1 || found[0].Status != authenticode.StatusValid {
		t.Errorf("found %s: %v", indent(found), err)
	}
	if found, err := authenticode.Verify(one, authenticode.PEImage().Type, same, opts); err != nil || found[0].Problems[0].Code != authenticode.ProblemSubjectMismatch {
		t.Errorf("as another subject: %s: %v", indent(found), err)
	}
	if _, err := authenticode.Verify(one, sipInfo, func(crypto.Hash) ([]byte, error) { return nil, io.ErrClosedPipe }, opts); !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("error %v", err)
	}
	if _, err := authenticode.Sign(t.Context(), subject, digest[:20], options(signer)); err == nil {
		t.Error("a digest of wrong length is signed")
	}

	// Side by side, as Windows numbers them.
	nest := func(outer, inner []byte) []byte {
		sd, err := cms.Parse(outer)
		if err != nil {
			t.Fatal(err)
		}
		der, err := authenticode.Nest(sd, inner)
		if err != nil {
			t.Fatal(err)
		}
		return der
	}
	many := one
	for range 5 {
		many = nest(many, one)
	}
	found, err := authenticode.Verify(many, sipInfo, same, opts)
	if err != nil || len(found) != 6 || slices.ContainsFunc(found, func(s authenticode.Signature) bool { return s.Status != authenticode.StatusValid }) {
		t.Errorf("found %s: %v", indent(found), err)
	}
	// Too deep, and too many.
	deep := one
	for range 10 {
		deep = nest(one, deep)
	}
	for range 100 {
		many = nest(many, one)
	}
	for name, blob := range map[string][]byte{"deep": deep, "many": many} {
		found, err := authenticode.Verify(blob, sipInfo, same, opts)
		if err != nil || len(found) > 64 || !slices.ContainsFunc(found, func(s authenticode.Signature) bool { return s.Status == authenticode.StatusBroken }) {
			t.Errorf("%s: %d found, none broken: %v", name, len(found), err)
		}
	}
}
