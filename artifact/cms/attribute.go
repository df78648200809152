package cms

import (
	"bytes"
	"encoding/asn1"
	"slices"
	"time"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// Attribute is one attribute (RFC 5652 section 5.3) with its values, each the
// DER of one element.
type Attribute struct {
	Type   asn1.ObjectIdentifier
	Values [][]byte
}

// Attributes is a set of attributes.
type Attributes []Attribute

// Values returns the values of all attributes of a type.
func (as Attributes) Values(oid asn1.ObjectIdentifier) [][]byte {
	var values [][]byte
	for _, a := range as {
		if a.Type.Equal(oid) {
			values = append(values, a.Values...)
		}
	}
	return values
}

// single returns the value of an attribute that must occur once, with one value.
func (as Attributes) single(oid asn1.ObjectIdentifier) (cryptobyte.String, bool) {
	values := as.Values(oid)
	if len(values) != 1 {
		return nil, false
	}
	return cryptobyte.String(values[0]), true
}

// marshal returns the DER of the attribute. The values keep their order.
func (a Attribute) marshal() ([]byte, error) {
	var b cryptobyte.Builder
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1ObjectIdentifier(a.Type)
		b.AddASN1(cbasn1.SET, func(b *cryptobyte.Builder) {
			for _, value := range a.Values {
				b.AddBytes(value)
			}
		})
	})
	return b.Bytes()
}

// addSet appends attributes as a DER SET OF under the given tag: the encodings
// in ascending order (X.690 section 11.6).
func (as Attributes) addSet(b *cryptobyte.Builder, tag cbasn1.Tag) {
	encoded := make([][]byte, len(as))
	for i, a := range as {
		var err error
		if encoded[i], err = a.marshal(); err != nil {
			b.SetError(err)
			return
		}
	}
	addSetOf(b, tag, encoded)
}

// addSetOf appends elements, each in DER, as a SET OF. It sorts elements in place.
func addSetOf(b *cryptobyte.Builder, tag cbasn1.Tag, elements [][]byte) {
	slices.SortFunc(elements, bytes.Compare)
	b.AddASN1(tag, func(b *cryptobyte.Builder) {
		for _, element := range elements {
			b.AddBytes(element)
		}
	})
}

// addTime appends a Time (RFC 5652 section 11.3): UTCTime until 2049.
func addTime(b *cryptobyte.Builder, t time.Time) {
	if t = t.UTC(); t.Year() >= 1950 && t.Year() < 2050 {
		b.AddASN1UTCTime(t)
	} else {
		b.AddASN1GeneralizedTime(t)
	}
}

func readTime(s *cryptobyte.String) (time.Time, bool) {
	var t time.Time
	if s.PeekASN1Tag(cbasn1.UTCTime) {
		return t, s.ReadASN1UTCTime(&t)
	}
	return t, s.ReadASN1GeneralizedTime(&t)
}
