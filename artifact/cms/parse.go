package cms

import (
	"bytes"
	"crypto"
	"crypto/rsa"
	"crypto/x509"
	"encoding/asn1"
	"fmt"
	"math/big"
	"slices"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// Limits of what a parsed SignedData may hold; real ones stay far below.
const (
	maxCertificates = 256
	maxSigners      = 64
	maxAttributes   = 256  // of one signer, signed or unsigned
	maxValues       = 1024 // of one attribute
	maxRSABits      = 16384
)

// SignedData is a parsed CMS or PKCS#7 SignedData (RFC 5652 section 5.1).
type SignedData struct {
	Raw         []byte // the whole ContentInfo, in DER unless its SETs are unsorted
	Version     int
	ContentType asn1.ObjectIdentifier
	Detached    bool   // there is no content inside
	Content     []byte // contents octets of the content element: what its digest covers
	ContentDER  []byte // the content element with tag and length

	// Certificates are those that can be used; Unparsed counts the others, which
	// are malformed or have an RSA key of more than 16384 bits.
	Certificates []*x509.Certificate
	Unparsed     int
	Signers      []*SignerInfo

	head []byte // encoded fields of SignedData before signerInfos
}

// SignerInfo is one signature of a SignedData (RFC 5652 section 5.3).
type SignerInfo struct {
	Version int
	// The signer is named by Issuer (DER Name) and Serial, or by SubjectKeyID.
	Issuer       []byte
	Serial       *big.Int
	SubjectKeyID []byte

	Hash               crypto.Hash // of digestAlgorithm; zero when not known
	SignatureAlgorithm SignatureAlgorithm
	SignedAttributes   Attributes
	UnsignedAttributes Attributes
	Signature          []byte

	hashOID  asn1.ObjectIdentifier
	signed   []byte // signedAttrs as a SET, which is what the signature covers; nil without
	head     []byte // encoded fields before unsignedAttrs
	encoding []byte // the whole element
}

// Parse reads a ContentInfo of type id-signedData. BER with indefinite lengths
// is accepted. Octets after the ContentInfo are an error; see ParsePrefix.
func Parse(data []byte) (*SignedData, error) {
	sd, rest, err := ParsePrefix(data)
	if err != nil {
		return nil, err
	}
	if len(rest) != 0 {
		return nil, &ParseError{Field: "contentInfo", Reason: fmt.Sprintf("followed by %d more octets", len(rest))}
	}
	return sd, nil
}

// ParsePrefix is Parse for a ContentInfo followed by other octets, such as the
// padding of a certificate table, which it returns. The result shares memory with data.
func ParsePrefix(data []byte) (sd *SignedData, rest []byte, err error) {
	der, rest, err := normalize(data)
	if err != nil {
		return nil, nil, err
	}
	s := cryptobyte.String(der)
	var info, content cryptobyte.String
	var contentType asn1.ObjectIdentifier
	if !s.ReadASN1(&info, cbasn1.SEQUENCE) || !info.ReadASN1ObjectIdentifier(&contentType) {
		return nil, nil, &ParseError{Field: "contentInfo", Reason: "no ContentInfo"}
	}
	if !contentType.Equal(OIDSignedData) {
		return nil, nil, &ParseError{Field: "contentInfo.contentType", Reason: fmt.Sprintf("is %v, not id-signedData", contentType)}
	}
	if !info.ReadASN1(&content, explicit(0)) || !info.Empty() {
		return nil, nil, &ParseError{Field: "contentInfo.content", Reason: "is missing or malformed"}
	}
	sd = &SignedData{Raw: der}
	if err := sd.parse(content); err != nil {
		return nil, nil, err
	}
	return sd, rest, nil
}

func (sd *SignedData) parse(s cryptobyte.String) error {
	var body, algorithms, signers cryptobyte.String
	if !s.ReadASN1(&body, cbasn1.SEQUENCE) || !s.Empty() {
		return &ParseError{Field: "signedData", Reason: "is not a SEQUENCE"}
	}
	start := body
	if !body.ReadASN1Integer(&sd.Version) || sd.Version < 1 || sd.Version > 5 {
		return &ParseError{Field: "signedData.version", Reason: "is not between 1 and 5"}
	}
	if !body.ReadASN1(&algorithms, cbasn1.SET) {
		return &ParseError{Field: "signedData.digestAlgorithms", Reason: "is not a SET"}
	}
	if err := sd.parseContent(&body); err != nil {
		return err
	}
	if err := sd.parseCertificates(&body); err != nil {
		return err
	}
	if !body.SkipOptionalASN1(explicit(1)) { // crls
		return &ParseError{Field: "signedData.crls", Reason: "is malformed"}
	}
	sd.head = start[:len(start)-len(body)]
	if !body.ReadASN1(&signers, cbasn1.SET) || !body.Empty() {
		return &ParseError{Field: "signedData.signerInfos", Reason: "is not a SET"}
	}
	for !signers.Empty() {
		field := fmt.Sprintf("signerInfos[%d]", len(sd.Signers))
		if len(sd.Signers) == maxSigners {
			return &ParseError{Field: field, Reason: fmt.Sprintf("more than %d signers", maxSigners)}
		}
		var element cryptobyte.String
		if !signers.ReadASN1Element(&element, cbasn1.SEQUENCE) {
			return &ParseError{Field: field, Reason: "is not a SEQUENCE"}
		}
		si, err := parseSignerInfo(element, field)
		if err != nil {
			return err
		}
		sd.Signers = append(sd.Signers, si)
	}
	return nil
}

func (sd *SignedData) parseContent(body *cryptobyte.String) error {
	var encapsulated, explicitContent, content, element cryptobyte.String
	var tag cbasn1.Tag
	var present bool
	if !body.ReadASN1(&encapsulated, cbasn1.SEQUENCE) ||
		!encapsulated.ReadASN1ObjectIdentifier(&sd.ContentType) ||
		!encapsulated.ReadOptionalASN1(&explicitContent, &present, explicit(0)) || !encapsulated.Empty() {
		return &ParseError{Field: "signedData.encapContentInfo", Reason: "is malformed"}
	}
	sd.Detached = !present
	if sd.Detached {
		return nil
	}
	if !explicitContent.ReadAnyASN1Element(&element, &tag) || !explicitContent.Empty() {
		return &ParseError{Field: "signedData.encapContentInfo.eContent", Reason: "is not one element"}
	}
	sd.ContentDER = element
	if !element.ReadAnyASN1(&content, &tag) {
		return &ParseError{Field: "signedData.encapContentInfo.eContent", Reason: "is malformed"}
	}
	sd.Content = content
	return nil
}

func (sd *SignedData) parseCertificates(body *cryptobyte.String) error {
	var set cryptobyte.String
	var present bool
	if !body.ReadOptionalASN1(&set, &present, explicit(0)) {
		return &ParseError{Field: "signedData.certificates", Reason: "is malformed"}
	}
	for n := 0; !set.Empty(); n++ {
		var element cryptobyte.String
		var tag cbasn1.Tag
		if n == maxCertificates {
			return &ParseError{Field: "signedData.certificates", Reason: fmt.Sprintf("has more than %d certificates", maxCertificates)}
		}
		if !set.ReadAnyASN1Element(&element, &tag) {
			return &ParseError{Field: fmt.Sprintf("signedData.certificates[%d]", n), Reason: "is malformed"}
		}
		// One odd certificate, of which nothing may depend, is no reason to give
		// the signature up.
		if c, err := x509.ParseCertificate(element); err == nil && bearable(c) {
			sd.Certificates = append(sd.Certificates, c)
		} else {
			sd.Unparsed++
		}
	}
	return nil
}

// bearable tells whether a key can be used in reasonable time: with an RSA key of
// a million bits, one signature takes minutes to check.
func bearable(c *x509.Certificate) bool {
	key, isRSA := c.PublicKey.(*rsa.PublicKey)
	return !isRSA || key.N.BitLen() <= maxRSABits
}

// parseSignerInfo reads one SignerInfo element.
func parseSignerInfo(element cryptobyte.String, field string) (*SignerInfo, error) {
	fail := func(name, reason string) (*SignerInfo, error) {
		return nil, &ParseError{Field: field + name, Reason: reason}
	}
	si := &SignerInfo{encoding: element}
	var body cryptobyte.String
	if !element.ReadASN1(&body, cbasn1.SEQUENCE) || !element.Empty() {
		return fail("", "is not a SEQUENCE")
	}
	start := body
	if !body.ReadASN1Integer(&si.Version) {
		return fail(".version", "is not an INTEGER")
	}
	if body.PeekASN1Tag(cbasn1.SEQUENCE) {
		var sid, name cryptobyte.String
		si.Serial = new(big.Int)
		if !body.ReadASN1(&sid, cbasn1.SEQUENCE) || !sid.ReadASN1Element(&name, cbasn1.SEQUENCE) ||
			!sid.ReadASN1Integer(si.Serial) || !sid.Empty() {
			return fail(".sid", "is no IssuerAndSerialNumber")
		}
		si.Issuer = name
	} else {
		var id cryptobyte.String
		if !body.ReadASN1(&id, cbasn1.Tag(0).ContextSpecific()) {
			return fail(".sid", "is neither IssuerAndSerialNumber nor SubjectKeyIdentifier")
		}
		si.SubjectKeyID = id
	}
	var err error
	if si.hashOID, _, err = readAlgorithm(&body); err != nil {
		return fail(".digestAlgorithm", err.Error())
	}
	si.Hash, _ = hashByOID(si.hashOID)

	if body.PeekASN1Tag(explicit(0)) {
		var attributes, contents cryptobyte.String
		if !body.ReadASN1Element(&attributes, explicit(0)) {
			return fail(".signedAttrs", "is malformed")
		}
		si.signed = bytes.Clone(attributes)
		si.signed[0] = byte(cbasn1.SET) // RFC 5652 section 5.4
		if !attributes.ReadASN1(&contents, explicit(0)) {
			return fail(".signedAttrs", "is malformed")
		}
		if si.SignedAttributes, err = parseAttributes(contents, field+".signedAttrs"); err != nil {
			return nil, err
		}
	}
	if si.SignatureAlgorithm, err = parseSignatureAlgorithm(&body, si.Hash); err != nil {
		return nil, fmt.Errorf("cms: %s.signatureAlgorithm: %w", field, err)
	}
	if !body.ReadASN1Bytes(&si.Signature, cbasn1.OCTET_STRING) {
		return fail(".signature", "is not an OCTET STRING")
	}
	si.head = start[:len(start)-len(body)]
	if !body.Empty() {
		var attributes cryptobyte.String
		if !body.ReadASN1(&attributes, explicit(1)) || !body.Empty() {
			return fail(".unsignedAttrs", "is malformed")
		}
		if si.UnsignedAttributes, err = parseAttributes(attributes, field+".unsignedAttrs"); err != nil {
			return nil, err
		}
	}
	return si, nil
}

func parseAttributes(s cryptobyte.String, field string) (Attributes, error) {
	var all Attributes
	for !s.Empty() {
		var body, values cryptobyte.String
		var a Attribute
		at := fmt.Sprintf("%s[%d]", field, len(all))
		if len(all) == maxAttributes {
			return nil, &ParseError{Field: at, Reason: fmt.Sprintf("more than %d attributes", maxAttributes)}
		}
		if !s.ReadASN1(&body, cbasn1.SEQUENCE) || !body.ReadASN1ObjectIdentifier(&a.Type) ||
			!body.ReadASN1(&values, cbasn1.SET) || !body.Empty() {
			return nil, &ParseError{Field: at, Reason: "is no Attribute"}
		}
		for !values.Empty() {
			var value cryptobyte.String
			var tag cbasn1.Tag
			if len(a.Values) == maxValues {
				return nil, &ParseError{Field: at, Reason: fmt.Sprintf("more than %d values", maxValues)}
			}
			if !values.ReadAnyASN1Element(&value, &tag) {
				return nil, &ParseError{Field: at, Reason: "has a malformed value"}
			}
			a.Values = append(a.Values, value)
		}
		all = append(all, a)
	}
	return all, nil
}

// AddUnsignedAttribute returns the DER of the ContentInfo with one more value of
// an unsigned attribute on the first signer. The value comes after those that the
// attribute has: readers number nested signatures in that order, and no signature
// covers it. Nothing else changes.
func (sd *SignedData) AddUnsignedAttribute(oid asn1.ObjectIdentifier, value []byte) ([]byte, error) {
	if len(sd.Signers) == 0 {
		return nil, &ParseError{Field: "signedData.signerInfos", Reason: "is empty; there is no signature to add an attribute to"}
	}
	first := sd.Signers[0]
	attributes := make(Attributes, len(first.UnsignedAttributes), len(first.UnsignedAttributes)+1)
	copy(attributes, first.UnsignedAttributes)
	found := false
	for i, a := range attributes {
		if a.Type.Equal(oid) && !found {
			attributes[i].Values = slices.Concat(a.Values, [][]byte{value})
			found = true
		}
	}
	if !found {
		attributes = append(attributes, Attribute{Type: oid, Values: [][]byte{value}})
	}
	var b cryptobyte.Builder
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1ObjectIdentifier(OIDSignedData)
		b.AddASN1(explicit(0), func(b *cryptobyte.Builder) {
			b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
				b.AddBytes(sd.head)
				b.AddASN1(cbasn1.SET, func(b *cryptobyte.Builder) {
					b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
						b.AddBytes(first.head)
						attributes.addSet(b, explicit(1))
					})
					for _, other := range sd.Signers[1:] {
						b.AddBytes(other.encoding)
					}
				})
			})
		})
	})
	return b.Bytes()
}
