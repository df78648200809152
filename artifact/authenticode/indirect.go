package authenticode

import (
	"crypto"
	"encoding/asn1"
	"fmt"
	"unicode/utf16"
	"unicode/utf8"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"

	"github.com/countersign-dev/countersign/artifact/cms"
)

var (
	oidIndirectData          = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 311, 2, 1, 4}
	oidStatementType         = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 311, 2, 1, 11}
	oidOpusInfo              = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 311, 2, 1, 12}
	oidPEImageData           = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 311, 2, 1, 15}
	oidIndividualCodeSigning = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 311, 2, 1, 21}
	oidCommercialCodeSigning = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 311, 2, 1, 22}
)

// maxOpusText bounds the program name and the URL, in characters.
const maxOpusText = 4096

// Subject says what kind of thing a digest is of: SpcAttributeTypeAndOptionalValue
// of the specification.
type Subject struct {
	Type  asn1.ObjectIdentifier
	Value []byte // DER of one element, or nil
}

// PEImage is the subject of a PE image without page hashes: SpcPeImageData with
// the file link "<<<Obsolete>>>" that the specification prescribes.
func PEImage() Subject {
	var b cryptobyte.Builder
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1(cbasn1.BIT_STRING, func(b *cryptobyte.Builder) { b.AddUint8(0) }) // flags: none
		b.AddASN1(explicit(0), func(b *cryptobyte.Builder) {
			b.AddASN1(explicit(2), func(b *cryptobyte.Builder) { addString(b, "<<<Obsolete>>>") })
		})
	})
	return Subject{Type: oidPEImageData, Value: b.BytesOrPanic()}
}

// IndirectData is SpcIndirectDataContent: what an Authenticode signature covers.
type IndirectData struct {
	Subject Subject
	Hash    crypto.Hash
	Digest  []byte
}

func (d IndirectData) marshal() ([]byte, error) {
	var b cryptobyte.Builder
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddASN1ObjectIdentifier(d.Subject.Type)
			b.AddBytes(d.Subject.Value)
		})
		b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
			cms.AddHashAlgorithm(b, d.Hash, true)
			b.AddASN1OctetString(d.Digest)
		})
	})
	return b.Bytes()
}

// ParseIndirectData reads the SpcIndirectDataContent of a parsed signature.
func ParseIndirectData(sd *cms.SignedData) (*IndirectData, error) {
	fail := func(field, reason string) (*IndirectData, error) {
		return nil, &cms.ParseError{Field: "spcIndirectDataContent" + field, Reason: reason}
	}
	if !sd.ContentType.Equal(oidIndirectData) {
		return fail("", fmt.Sprintf("content type is %v, not SPC_INDIRECT_DATA", sd.ContentType))
	}
	s := cryptobyte.String(sd.ContentDER)
	var body, data, digestInfo, value cryptobyte.String
	d := &IndirectData{}
	if !s.ReadASN1(&body, cbasn1.SEQUENCE) || !body.ReadASN1(&data, cbasn1.SEQUENCE) ||
		!data.ReadASN1ObjectIdentifier(&d.Subject.Type) {
		return fail(".data", "is malformed")
	}
	if !data.Empty() {
		var tag cbasn1.Tag
		if !data.ReadAnyASN1Element(&value, &tag) {
			return fail(".data.value", "is malformed")
		}
		d.Subject.Value = value
	}
	if !body.ReadASN1(&digestInfo, cbasn1.SEQUENCE) {
		return fail(".messageDigest", "is malformed")
	}
	var err error
	if d.Hash, err = cms.ParseHashAlgorithm(&digestInfo); err != nil {
		return nil, fmt.Errorf("authenticode: spcIndirectDataContent.messageDigest.digestAlgorithm: %w", err)
	}
	if !digestInfo.ReadASN1Bytes(&d.Digest, cbasn1.OCTET_STRING) || len(d.Digest) != d.Hash.Size() {
		return fail(".messageDigest.digest", fmt.Sprintf("is no digest of %v", d.Hash))
	}
	return d, nil
}

// marshalOpusInfo makes SpcSpOpusInfo; both fields are optional.
func marshalOpusInfo(description, url string) ([]byte, error) {
	if !utf8.ValidString(description) || utf8.RuneCountInString(description) > maxOpusText {
		return nil, fmt.Errorf("authenticode: description: not UTF-8, or more than %d characters", maxOpusText)
	}
	if len(url) > maxOpusText {
		return nil, fmt.Errorf("authenticode: URL: more than %d characters", maxOpusText)
	}
	for _, c := range []byte(url) {
		if c <= ' ' || c > '~' { // SpcLink.url is an IA5String
			return nil, fmt.Errorf("authenticode: URL %q: only printable ASCII is possible; percent-encode the rest", url)
		}
	}
	var b cryptobyte.Builder
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		if description != "" {
			b.AddASN1(explicit(0), func(b *cryptobyte.Builder) { addString(b, description) })
		}
		if url != "" {
			b.AddASN1(explicit(1), func(b *cryptobyte.Builder) {
				b.AddASN1(implicit(0), func(b *cryptobyte.Builder) { b.AddBytes([]byte(url)) })
			})
		}
	})
	return b.Bytes()
}

// parseOpusInfo reads SpcSpOpusInfo. What it cannot read stays empty.
func parseOpusInfo(der []byte) (description, url string) {
	s := cryptobyte.String(der)
	var body, name, link, text cryptobyte.String
	var present bool
	if !s.ReadASN1(&body, cbasn1.SEQUENCE) {
		return "", ""
	}
	if body.ReadOptionalASN1(&name, &present, explicit(0)) && present {
		description = readString(name)
	}
	if body.ReadOptionalASN1(&link, &present, explicit(1)) && present {
		if link.PeekASN1Tag(implicit(0)) && link.ReadASN1(&text, implicit(0)) {
			url = string(text)
		} else if link.ReadASN1(&text, explicit(2)) { // a file in place of a URL
			url = readString(text)
		}
	}
	return description, url
}

// addString appends an SpcString as its unicode alternative, a BMPString.
func addString(b *cryptobyte.Builder, text string) {
	b.AddASN1(implicit(0), func(b *cryptobyte.Builder) {
		for _, unit := range utf16.Encode([]rune(text)) {
			b.AddUint16(unit)
		}
	})
}

// readString reads an SpcString.
func readString(s cryptobyte.String) string {
	var text cryptobyte.String
	if s.PeekASN1Tag(implicit(1)) && s.ReadASN1(&text, implicit(1)) {
		return string(text)
	}
	if !s.ReadASN1(&text, implicit(0)) {
		return ""
	}
	units := make([]uint16, 0, len(text)/2)
	for len(text) >= 2 {
		var unit uint16
		text.ReadUint16(&unit)
		units = append(units, unit)
	}
	return string(utf16.Decode(units))
}

func implicit(n uint8) cbasn1.Tag { return cbasn1.Tag(n).ContextSpecific() }

func explicit(n uint8) cbasn1.Tag { return implicit(n).Constructed() }
