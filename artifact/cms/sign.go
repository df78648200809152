package cms

import (
	"context"
	"crypto"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"time"
)

// Content is what a SignedData signs. Make one with Attached, Detached or PKCS7.
type Content struct {
	oid      asn1.ObjectIdentifier
	encoding []byte // DER of the element inside [0] EXPLICIT; nil when detached
	octets   []byte // what is digested; nil when digest is given
	digest   []byte
	pkcs7    bool
}

// Attached is content carried in the SignedData as an OCTET STRING
// (RFC 5652 section 5.2). The type is OIDData unless the caller knows better.
func Attached(contentType asn1.ObjectIdentifier, data []byte) Content { return Content{} }

// Detached is content kept elsewhere, of which the caller has the digest
// under the hash function of SignOptions.Hash.
func Detached(contentType asn1.ObjectIdentifier, digest []byte) Content { return Content{} }

// PKCS7 is content carried as the ASN.1 value itself, not as an OCTET STRING,
// as PKCS#7 1.5 has it and Authenticode requires (Authenticode_PE.docx, "PKCS #7
// SignedData"). der is one DER element; its contents octets, without tag and
// length, are what is digested. The SignedData has version 1.
func PKCS7(contentType asn1.ObjectIdentifier, der []byte) Content { return Content{} }

// SignOptions says who signs, and how. Key and Chain are required.
type SignOptions struct {
	Key   crypto.Signer       // asked for one signature; may be a token or a remote service
	Chain []*x509.Certificate // leaf first, then intermediates in any order, root optional

	Hash crypto.Hash // SHA-256 when zero; SHA-1, SHA-256, SHA-384 and SHA-512 are known
	PSS  bool        // RSASSA-PSS (RFC 4056) in place of PKCS#1 v1.5; for RSA keys only

	// SigningTime is put in a signed attribute, unless zero.
	SigningTime time.Time
	// Attributes are further signed attributes, beside content type, message
	// digest and signing time.
	Attributes []Attribute
	// UnsignedAttributes are put beside the signature.
	UnsignedAttributes []Attribute

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
func Sign(ctx context.Context, content Content, opts SignOptions) ([]byte, error) {
	return nil, errors.New("cms: not implemented")
}
