package cms

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"slices"
	"time"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// Content is what a SignedData signs. Make one with Attached, Detached or PKCS7.
type Content struct {
	contentType asn1.ObjectIdentifier
	octets      []byte // attached: the octets; PKCS#7: the DER element
	digest      []byte // detached
	shape       contentShape
}

type contentShape int

const (
	shapeAttached contentShape = iota
	shapeDetached
	shapePKCS7
)

// Attached is content carried in the SignedData as an OCTET STRING
// (RFC 5652 section 5.2). The type is OIDData unless the caller knows better.
func Attached(contentType asn1.ObjectIdentifier, data []byte) Content {
	return Content{contentType: contentType, octets: data, shape: shapeAttached}
}

// Detached is content kept elsewhere, of which the caller has the digest
// under the hash function of SignOptions.Hash.
func Detached(contentType asn1.ObjectIdentifier, digest []byte) Content {
	return Content{contentType: contentType, digest: digest, shape: shapeDetached}
}

// PKCS7 is content carried as the ASN.1 value itself, not as an OCTET STRING,
// as PKCS#7 1.5 has it and Authenticode requires (Authenticode_PE.docx, "PKCS #7
// SignedData"). der is one DER element; its contents octets, without tag and
// length, are what is digested. The SignedData has version 1.
func PKCS7(contentType asn1.ObjectIdentifier, der []byte) Content {
	return Content{contentType: contentType, octets: der, shape: shapePKCS7}
}

// sum returns the digest of the content.
func (c Content) sum(h crypto.Hash) ([]byte, error) {
	switch c.shape {
	case shapeDetached:
		if len(c.digest) != h.Size() {
			return nil, fmt.Errorf("cms: digest of the content has %d octets; %v has %d", len(c.digest), h, h.Size())
		}
		return c.digest, nil
	case shapePKCS7:
		inner, err := contents(c.octets)
		if err != nil {
			return nil, err
		}
		return sum(h, inner), nil
	default:
		return sum(h, c.octets), nil
	}
}

// contents strips tag and length from a DER element.
func contents(der []byte) ([]byte, error) {
	s := cryptobyte.String(der)
	var inner cryptobyte.String
	var tag cbasn1.Tag
	if !s.ReadAnyASN1(&inner, &tag) || !s.Empty() {
		return nil, &ParseError{Field: "content", Reason: "not one DER element"}
	}
	return inner, nil
}

// SignOptions says who signs, and how. Key and Chain are required.
type SignOptions struct {
	Key   crypto.Signer       // asked for one signature; may be a token or a remote service
	Chain []*x509.Certificate // leaf first, then intermediates in any order, root optional

	// Hash digests content and signed attributes: SHA-1, SHA-256, SHA-384 or
	// SHA-512. When zero it is SHA-256, or SHA-512 with an Ed25519 key, which
	// allows no other (RFC 8419 section 3.1).
	Hash crypto.Hash
	PSS  bool // RSASSA-PSS (RFC 4056) in place of PKCS#1 v1.5; for RSA keys only

	// SigningTime is put in a signed attribute, unless zero.
	SigningTime time.Time
	// Attributes are further signed attributes, beside content type, message
	// digest and signing time.
	Attributes Attributes
	// UnsignedAttributes are put beside the signature.
	UnsignedAttributes Attributes

	// IncludeRoot embeds the self-signed root when Chain has it. A self-signed
	// leaf is always embedded.
	IncludeRoot bool

	// Timestamper stamps the signature; nil for none. When it fails, Sign fails.
	Timestamper Timestamper
	// TimestampAttribute is the unsigned attribute that carries the token,
	// OIDAttributeTimestampToken when nil.
	TimestampAttribute asn1.ObjectIdentifier
	// TimestampHash digests the signature for the timestamper. When zero it is
	// Hash, or SHA-256 if Hash is SHA-1.
	TimestampHash crypto.Hash
}

// Sign makes a SignedData with one signer and returns the DER ContentInfo.
// It asks opts.Key for exactly one signature, over the signed attributes.
//
// Options that do not fit together (a key that is not the leaf's, Ed25519 with
// SHA-256) are refused before the key is used. A time stamp is checked against
// the signature before it is embedded; whether its authority is trusted is not
// asked here.
func Sign(ctx context.Context, content Content, opts SignOptions) ([]byte, error) {
	opts, algorithm, err := opts.complete()
	if err != nil {
		return nil, err
	}
	digest, err := content.sum(opts.Hash)
	if err != nil {
		return nil, err
	}
	signed, err := opts.signedAttributes(content.contentType, digest)
	if err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	input, signerOpts := algorithm.input(signed)
	signature, err := opts.Key.Sign(rand.Reader, input, signerOpts)
	if err != nil {
		return nil, fmt.Errorf("cms: signing with the key of %q: %w", opts.Chain[0].Subject, err)
	}
	unsigned := opts.UnsignedAttributes
	if opts.Timestamper != nil {
		stamp, err := opts.timestamp(ctx, signature)
		if err != nil {
			return nil, err
		}
		unsigned = slices.Concat(unsigned, Attributes{stamp})
	}

	null := content.shape == shapePKCS7 // of that age: parameters are NULL, not absent
	var b cryptobyte.Builder
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1ObjectIdentifier(OIDSignedData)
		b.AddASN1(explicit(0), func(b *cryptobyte.Builder) {
			b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
				b.AddASN1Int64(content.version())
				b.AddASN1(cbasn1.SET, func(b *cryptobyte.Builder) { AddHashAlgorithm(b, opts.Hash, null) })
				content.add(b)
				addSetOf(b, explicit(0), opts.embedded())
				b.AddASN1(cbasn1.SET, func(b *cryptobyte.Builder) {
					b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
						b.AddASN1Int64(1) // issuerAndSerialNumber, RFC 5652 section 5.3
						b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
							b.AddBytes(opts.Chain[0].RawIssuer)
							b.AddASN1BigInt(opts.Chain[0].SerialNumber)
						})
						AddHashAlgorithm(b, opts.Hash, null)
						// The attributes were signed as a SET; here their tag is [0] IMPLICIT.
						b.AddUint8(uint8(explicit(0)))
						b.AddBytes(signed[1:])
						algorithm.add(b)
						b.AddASN1OctetString(signature)
						if len(unsigned) > 0 {
							unsigned.addSet(b, explicit(1))
						}
					})
				})
			})
		})
	})
	return b.Bytes()
}

// Validate tells, without using the key, whether Sign would refuse the options.
func (o SignOptions) Validate() error {
	_, _, err := o.complete()
	return err
}

// complete fills the defaults in and refuses what cannot be.
func (o SignOptions) complete() (SignOptions, SignatureAlgorithm, error) {
	fail := func(err error) (SignOptions, SignatureAlgorithm, error) { return o, SignatureAlgorithm{}, err }
	if o.Key == nil {
		return fail(errors.New("cms: no signing key"))
	}
	if len(o.Chain) == 0 || o.Chain[0] == nil {
		return fail(errors.New("cms: no certificate to sign with"))
	}
	public := o.Key.Public()
	if own, ok := o.Chain[0].PublicKey.(interface{ Equal(crypto.PublicKey) bool }); !ok || !own.Equal(public) {
		return fail(fmt.Errorf("cms: the signing key is not that of the certificate %q; the chain begins with the signer's own certificate", o.Chain[0].Subject))
	}
	if _, isEd25519 := public.(ed25519.PublicKey); o.Hash == 0 && isEd25519 {
		o.Hash = crypto.SHA512
	} else if o.Hash == 0 {
		o.Hash = crypto.SHA256
	}
	if _, err := HashOID(o.Hash); err != nil {
		return fail(err)
	}
	algorithm, err := signatureAlgorithmFor(public, o.Hash, o.PSS)
	if err != nil {
		return fail(err)
	}
	if o.TimestampAttribute == nil {
		o.TimestampAttribute = OIDAttributeTimestampToken
	}
	if o.TimestampHash == 0 {
		// Time-stamping authorities refuse SHA-1.
		if o.TimestampHash = o.Hash; o.Hash == crypto.SHA1 {
			o.TimestampHash = crypto.SHA256
		}
	}
	_, err = HashOID(o.TimestampHash)
	return o, algorithm, err
}

// signedAttributes returns the DER SET OF Attribute, which is what is signed
// (RFC 5652 section 5.4).
func (o SignOptions) signedAttributes(contentType asn1.ObjectIdentifier, digest []byte) ([]byte, error) {
	attribute := func(oid asn1.ObjectIdentifier, add func(b *cryptobyte.Builder)) Attribute {
		var b cryptobyte.Builder
		add(&b)
		return Attribute{Type: oid, Values: [][]byte{b.BytesOrPanic()}}
	}
	all := Attributes{
		attribute(OIDAttributeContentType, func(b *cryptobyte.Builder) { b.AddASN1ObjectIdentifier(contentType) }),
		attribute(OIDAttributeMessageDigest, func(b *cryptobyte.Builder) { b.AddASN1OctetString(digest) }),
	}
	if !o.SigningTime.IsZero() {
		all = append(all, attribute(OIDAttributeSigningTime, func(b *cryptobyte.Builder) { addTime(b, o.SigningTime) }))
	}
	all = append(all, o.Attributes...)
	for i, a := range all {
		for _, b := range all[:i] {
			if a.Type.Equal(b.Type) {
				return nil, fmt.Errorf("cms: signed attribute %v occurs twice", a.Type)
			}
		}
	}
	var b cryptobyte.Builder
	all.addSet(&b, cbasn1.SET)
	return b.Bytes()
}

// embedded returns the certificates that go into the SignedData.
func (o SignOptions) embedded() [][]byte {
	var certificates [][]byte
	for i, c := range o.Chain {
		if i == 0 || o.IncludeRoot || !isRoot(c) {
			certificates = append(certificates, c.Raw)
		}
	}
	return certificates
}

// isRoot tells self-signed certificates from those that a rolled-over key of the
// same authority signed. It goes by names and key identifiers (RFC 5280 section
// 4.2.1.1): this is done for each signature, and nothing depends on it but size.
func isRoot(c *x509.Certificate) bool {
	return bytes.Equal(c.RawIssuer, c.RawSubject) &&
		(len(c.AuthorityKeyId) == 0 || bytes.Equal(c.AuthorityKeyId, c.SubjectKeyId))
}

// timestamp gets a token for a signature value.
func (o SignOptions) timestamp(ctx context.Context, signature []byte) (Attribute, error) {
	digest := sum(o.TimestampHash, signature)
	der, err := o.Timestamper.Timestamp(ctx, digest, o.TimestampHash)
	if err != nil {
		return Attribute{}, fmt.Errorf("cms: time stamp: %w", err)
	}
	token, err := ParseToken(der)
	if err == nil {
		_, err = token.Check(signature)
	}
	if err != nil {
		return Attribute{}, fmt.Errorf("cms: the time-stamping authority answered with an unusable token: %w", err)
	}
	return Attribute{Type: o.TimestampAttribute, Values: [][]byte{token.Raw}}, nil
}

// version is that of the SignedData: 3 for content other than id-data (RFC 5652
// section 5.1), always 1 in the PKCS#7 shape.
func (c Content) version() int64 {
	if c.shape == shapePKCS7 || c.contentType.Equal(OIDData) {
		return 1
	}
	return 3
}

// add appends the EncapsulatedContentInfo.
func (c Content) add(b *cryptobyte.Builder) {
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1ObjectIdentifier(c.contentType)
		switch c.shape {
		case shapeAttached:
			b.AddASN1(explicit(0), func(b *cryptobyte.Builder) { b.AddASN1OctetString(c.octets) })
		case shapePKCS7:
			b.AddASN1(explicit(0), func(b *cryptobyte.Builder) { b.AddBytes(c.octets) })
		case shapeDetached:
		}
	})
}
