package cms_test

import (
	"bytes"
	"testing"

	"github.com/countersign-dev/countersign/artifact/cms"
	"github.com/countersign-dev/countersign/artifact/cms/cmstest"
)

func FuzzParseSignedData(f *testing.F) {
	root := cmstest.Root(f, "Test Root")
	signer := root.Signer(f, "p256")
	for _, opts := range []cms.SignOptions{
		{Key: signer.Key, Chain: signer.Chain},
		{Key: signer.Key, Chain: signer.Chain, Timestamper: cmstest.NewTSA(f, root)},
	} {
		der, err := cms.Sign(f.Context(), cms.Attached(cms.OIDData, content), opts)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(der)
		// The outermost length made indefinite.
		f.Add(append(append([]byte{0x30, 0x80}, der[4:]...), 0, 0))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		sd, rest, err := cms.ParsePrefix(data)
		if err != nil {
			return
		}
		if len(rest) > len(data) || len(sd.Raw) > 2*len(data) {
			t.Errorf("%d octets became %d, with %d left", len(data), len(sd.Raw), len(rest))
		}
		// What was parsed parses again, to the same.
		again, err := cms.Parse(sd.Raw)
		if err != nil || !bytes.Equal(again.Raw, sd.Raw) {
			t.Errorf("not stable: %v", err)
		}
		for _, si := range sd.Signers {
			// Must not panic; only an untouched signature holds.
			_, _ = sd.CheckSignature(si, nil)
			_, _ = sd.Timestamp(si)
		}
		if len(sd.Signers) > 0 {
			added, err := sd.AddUnsignedAttribute(cms.OIDAttributeNestedSignature, []byte{5, 0})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := cms.Parse(added); err != nil {
				t.Errorf("with an attribute more: %v", err)
			}
		}
	})
}
