package cms

import "encoding/asn1"

// Attribute is one attribute (RFC 5652 section 5.3) with its values, each the
// DER of one element.
type Attribute struct {
	Type   asn1.ObjectIdentifier
	Values [][]byte
}
