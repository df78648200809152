package cms

import (
	"crypto"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"math/big"
)

// SignedData is a parsed CMS or PKCS#7 SignedData.
type SignedData struct {
	Version      int
	ContentType  asn1.ObjectIdentifier
	Content      []byte // octets that the digest covers; nil when Detached
	Detached     bool
	PKCS7Content bool // content is an ASN.1 value, not an OCTET STRING; ContentDER has it whole
	ContentDER   []byte
	Certificates []*x509.Certificate
	Signers      []*SignerInfo
}

// SignerInfo is one signature of a SignedData (RFC 5652 section 5.3).
type SignerInfo struct {
	Version            int
	Issuer             []byte   // DER Name; nil when the signer is named by key identifier
	Serial             *big.Int // nil when the signer is named by key identifier
	SubjectKeyID       []byte
	Hash               crypto.Hash // of digestAlgorithm
	SignatureAlgorithm SignatureAlgorithm
	SignedAttributes   []Attribute
	UnsignedAttributes []Attribute
	Signature          []byte
}

// SignatureAlgorithm says how a signature value was made.
type SignatureAlgorithm struct {
	Name string // for people, such as "RSA-PSS with SHA-256"
}

// Parse reads a ContentInfo of type id-signedData. BER with indefinite lengths
// is accepted and normalised. Octets after the ContentInfo are an error; see
// ParsePrefix.
func Parse(der []byte) (*SignedData, error) { return nil, errors.New("cms: not implemented") }

// ParsePrefix is Parse for a ContentInfo followed by other octets, such as the
// padding of a certificate table, which it returns.
func ParsePrefix(der []byte) (sd *SignedData, rest []byte, err error) {
	return nil, nil, errors.New("cms: not implemented")
}

// AddUnsignedAttribute returns the DER of the ContentInfo with one more value of
// an unsigned attribute on the first signer. Nothing else changes.
func (sd *SignedData) AddUnsignedAttribute(oid asn1.ObjectIdentifier, value []byte) ([]byte, error) {
	return nil, errors.New("cms: not implemented")
}
