package cms_test

import (
	"bytes"
	"crypto"
	"encoding/asn1"
	"errors"
	"testing"
	"time"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"

	"github.com/countersign-dev/countersign/artifact/cms"
	"github.com/countersign-dev/countersign/artifact/cms/cmstest"
)

// forgery is a SignedData that a test assembles field by field.
type forgery struct {
	contentType asn1.ObjectIdentifier
	content     []byte
	signer      *cmstest.Identity
	omitSigner  bool                  // leave the certificate out
	hash        asn1.ObjectIdentifier // SHA-256 when nil
	attributes  []byte                // contents of signedAttrs; nil for none
	signature   []byte
}

var oidSHA256 = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 1}

func (f forgery) der() []byte {
	explicit := cbasn1.Tag(0).ContextSpecific().Constructed()
	if f.hash == nil {
		f.hash = oidSHA256
	}
	algorithm := func(b *cryptobyte.Builder, oid asn1.ObjectIdentifier) {
		b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) { b.AddASN1ObjectIdentifier(oid) })
	}
	var b cryptobyte.Builder
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1ObjectIdentifier(cms.OIDSignedData)
		b.AddASN1(explicit, func(b *cryptobyte.Builder) {
			b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
				b.AddASN1Int64(3)
				b.AddASN1(cbasn1.SET, func(b *cryptobyte.Builder) { algorithm(b, f.hash) })
				b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
					b.AddASN1ObjectIdentifier(f.contentType)
					b.AddASN1(explicit, func(b *cryptobyte.Builder) { b.AddASN1OctetString(f.content) })
				})
				b.AddASN1(explicit, func(b *cryptobyte.Builder) {
					if !f.omitSigner {
						b.AddBytes(f.signer.Certificate.Raw)
					}
				})
				b.AddASN1(cbasn1.SET, func(b *cryptobyte.Builder) {
					b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
						b.AddASN1Int64(1)
						b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
							b.AddBytes(f.signer.Certificate.RawIssuer)
							b.AddASN1BigInt(f.signer.Certificate.SerialNumber)
						})
						algorithm(b, f.hash)
						if f.attributes != nil {
							b.AddASN1(explicit, func(b *cryptobyte.Builder) { b.AddBytes(f.attributes) })
						}
						algorithm(b, asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 2}) // ecdsa-with-SHA256
						b.AddASN1OctetString(f.signature)
					})
				})
			})
		})
	})
	return b.BytesOrPanic()
}

func attribute(oid asn1.ObjectIdentifier, values ...[]byte) []byte {
	var b cryptobyte.Builder
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1ObjectIdentifier(oid)
		b.AddASN1(cbasn1.SET, func(b *cryptobyte.Builder) {
			for _, v := range values {
				b.AddBytes(v)
			}
		})
	})
	return b.BytesOrPanic()
}

func element(add func(b *cryptobyte.Builder)) []byte {
	var b cryptobyte.Builder
	add(&b)
	return b.BytesOrPanic()
}

// TestForgeries has structures refused whose signature value is right, but not
// over what they pretend.
func TestForgeries(t *testing.T) {
	t.Parallel()
	root := cmstest.Root(t, "Test Root")
	signer, other := root.Signer(t, "p256"), root.Signer(t, "rsa2048")
	contentType := attribute(cms.OIDAttributeContentType, element(func(b *cryptobyte.Builder) { b.AddASN1ObjectIdentifier(cms.OIDData) }))
	octets := func(d []byte) []byte { return element(func(b *cryptobyte.Builder) { b.AddASN1OctetString(d) }) }
	good, bad := octets(digestOf(crypto.SHA256, content)), octets(digestOf(crypto.SHA256, []byte("other")))
	digest := attribute(cms.OIDAttributeMessageDigest, good)
	// signed makes the contents of signedAttrs and the signature over them.
	signed := func(f forgery, attributes ...[]byte) forgery {
		f.attributes = bytes.Join(attributes, nil)
		set := element(func(b *cryptobyte.Builder) {
			b.AddASN1(cbasn1.SET, func(b *cryptobyte.Builder) { b.AddBytes(f.attributes) })
		})
		f.signature = ecdsaSign(t, signer, set)
		f.signer, f.content = signer, content
		if f.contentType == nil {
			f.contentType = cms.OIDData
		}
		return f
	}
	genuine := signed(forgery{}, contentType, digest)
	set := element(func(b *cryptobyte.Builder) {
		b.AddASN1(cbasn1.SET, func(b *cryptobyte.Builder) { b.AddBytes(genuine.attributes) })
	})
	otherSigner := signed(forgery{}, contentType, digest)
	otherSigner.signer = other

	for _, test := range []struct {
		name string
		f    forgery
		want error
	}{
		{"genuine", genuine, nil},
		{"genuine, without attributes", forgery{contentType: cms.OIDData, content: content, signer: signer, signature: ecdsaSign(t, signer, content)}, nil},
		{"attributes passed off as content", forgery{contentType: cms.OIDTSTInfo, content: set, signer: signer, signature: genuine.signature}, cms.ErrBadSignature},
		{"other content type", signed(forgery{contentType: cms.OIDTSTInfo}, contentType, digest), cms.ErrBadSignature},
		{"no content type", signed(forgery{}, digest), cms.ErrBadSignature},
		{"no digest", signed(forgery{}, contentType), cms.ErrBadSignature},
		{"two digests", signed(forgery{}, contentType, digest, attribute(cms.OIDAttributeMessageDigest, bad)), cms.ErrBadSignature},
		{"digest of two values", signed(forgery{}, contentType, attribute(cms.OIDAttributeMessageDigest, good, bad)), cms.ErrBadSignature},
		{"digest of other content", signed(forgery{}, contentType, attribute(cms.OIDAttributeMessageDigest, bad)), cms.ErrDigestMismatch},
		{"no certificate", signed(forgery{omitSigner: true}, contentType, digest), cms.ErrNoSigner},
		{"unknown hash", signed(forgery{hash: asn1.ObjectIdentifier{1, 2, 3}}, contentType, digest), cms.ErrUnsupported},
		{"key of another kind", otherSigner, cms.ErrBadSignature},
	} {
		sd, err := cms.Parse(test.f.der())
		if err != nil {
			t.Errorf("%s: %v", test.name, err)
			continue
		}
		if _, err := sd.CheckSignature(sd.Signers[0], nil); !errors.Is(err, test.want) {
			t.Errorf("%s: error %v, want %v", test.name, err, test.want)
		}
	}
}

func ecdsaSign(t *testing.T, signer *cmstest.Identity, message []byte) []byte {
	t.Helper()
	signature, err := signer.Key.Sign(nil, digestOf(crypto.SHA256, message), crypto.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	return signature
}

// TestSigningTime is encoded as UTCTime until 2049, then as GeneralizedTime.
func TestSigningTime(t *testing.T) {
	t.Parallel()
	root := cmstest.Root(t, "Test Root")
	signer := root.Signer(t, "p256")
	for _, want := range []time.Time{
		time.Date(2026, 11, 22, 20, 48, 16, 0, time.UTC),
		time.Date(2049, 12, 31, 23, 59, 59, 0, time.UTC),
		time.Date(2050, 1, 1, 0, 0, 0, 0, time.UTC),
		time.Date(2030, 6, 1, 2, 0, 0, 0, time.FixedZone("CEST", 7200)),
	} {
		der, err := cms.Sign(t.Context(), cms.Attached(cms.OIDData, content), cms.SignOptions{Key: signer.Key, Chain: signer.Chain, SigningTime: want})
		if err != nil {
			t.Fatal(err)
		}
		sd, err := cms.Parse(der)
		if err != nil {
			t.Fatal(err)
		}
		if got, ok := sd.Signers[0].SigningTime(); !ok || !got.Equal(want) {
			t.Errorf("got %v, want %v", got, want)
		}
	}
}

// TestPKCS7Content is digested without tag and length.
func TestPKCS7Content(t *testing.T) {
	t.Parallel()
	root := cmstest.Root(t, "Test Root")
	signer := root.Signer(t, "rsa2048")
	oid := asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 311, 2, 1, 4}
	value := []byte{0x30, 6, 2, 1, 5, 2, 1, 6}
	der, err := cms.Sign(t.Context(), cms.PKCS7(oid, value), cms.SignOptions{Key: signer.Key, Chain: signer.Chain})
	if err != nil {
		t.Fatal(err)
	}
	sd, err := cms.Parse(der)
	if err != nil {
		t.Fatal(err)
	}
	if sd.Version != 1 || !bytes.Equal(sd.ContentDER, value) || !bytes.Equal(sd.Content, value[2:]) {
		t.Errorf("version %d, content % x", sd.Version, sd.ContentDER)
	}
	if got, err := sd.Signers[0].MessageDigest(); err != nil || !bytes.Equal(got, digestOf(crypto.SHA256, value[2:])) {
		t.Errorf("digest %x: %v", got, err)
	}
	if _, err := sd.CheckSignature(sd.Signers[0], nil); err != nil {
		t.Error(err)
	}
	for name, bad := range map[string][]byte{"nothing": nil, "two": {5, 0, 5, 0}, "truncated": {0x30, 5}} {
		if _, err := cms.Sign(t.Context(), cms.PKCS7(oid, bad), cms.SignOptions{Key: signer.Key, Chain: signer.Chain}); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}
