package certificate

import (
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

const maxSubject = 4096 // octets of a distinguished name's string form

var (
	oidEmail           = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 1}
	oidDomainComponent = asn1.ObjectIdentifier{0, 9, 2342, 19200300, 100, 1, 25}
	oidCountry         = asn1.ObjectIdentifier{2, 5, 4, 6}
)

// attributeTypes are the short names of RFC 4514 section 3, and those that
// Windows, OpenSSL and the extended validation of code signers use.
var attributeTypes = map[string]asn1.ObjectIdentifier{
	"CN": {2, 5, 4, 3}, "SN": {2, 5, 4, 4}, "SERIALNUMBER": {2, 5, 4, 5}, "C": oidCountry, "L": {2, 5, 4, 7},
	"ST": {2, 5, 4, 8}, "S": {2, 5, 4, 8}, "STREET": {2, 5, 4, 9}, "O": {2, 5, 4, 10}, "OU": {2, 5, 4, 11},
	"T": {2, 5, 4, 12}, "TITLE": {2, 5, 4, 12}, "BUSINESSCATEGORY": {2, 5, 4, 15}, "POSTALCODE": {2, 5, 4, 17},
	"GN": {2, 5, 4, 42}, "G": {2, 5, 4, 42}, "DC": oidDomainComponent, "UID": {0, 9, 2342, 19200300, 100, 1, 1},
	"E": oidEmail, "EMAIL": oidEmail, "EMAILADDRESS": oidEmail,
	"JURISDICTIONL": {1, 3, 6, 1, 4, 1, 311, 60, 2, 1, 1}, "JURISDICTIONST": {1, 3, 6, 1, 4, 1, 311, 60, 2, 1, 2}, "JURISDICTIONC": {1, 3, 6, 1, 4, 1, 311, 60, 2, 1, 3},
}

// ParseSubject reads a distinguished name in its string form (RFC 4514), such as
// "CN=Acme Release,O=Acme GmbH,C=DE". Spaces around separators and values in
// quotation marks (RFC 1779) are accepted. The result is in the order of a
// certificate: the string's last RDN comes first.
func ParseSubject(name string) (pkix.RDNSequence, error) {
	if len(name) > maxSubject {
		return nil, fmt.Errorf("certificate: the subject has more than %d octets", maxSubject)
	}
	if !utf8.ValidString(name) {
		return nil, errors.New("certificate: the subject is not valid UTF-8")
	}
	p := &subjectParser{rest: name}
	var sequence pkix.RDNSequence
	for more := true; more; {
		var rdn pkix.RelativeDistinguishedNameSET
		for {
			attribute, err := p.attribute()
			if err != nil {
				return nil, fmt.Errorf("certificate: subject %q, at octet %d: %w", name, len(name)-len(p.rest), err)
			}
			rdn = append(rdn, attribute)
			if !p.take('+') {
				break
			}
		}
		sequence = append(sequence, rdn)
		if more = p.take(',') || p.take(';'); !more && p.rest != "" {
			return nil, fmt.Errorf("certificate: subject %q, at octet %d: expected ',' or '+'", name, len(name)-len(p.rest))
		}
	}
	slices.Reverse(sequence)
	return sequence, nil
}

type subjectParser struct{ rest string }

func (p *subjectParser) skipSpace() { p.rest = strings.TrimLeft(p.rest, " \t\r\n") }

func (p *subjectParser) take(c byte) bool {
	p.skipSpace()
	if p.rest == "" || p.rest[0] != c {
		return false
	}
	p.rest = p.rest[1:]
	return true
}

func (p *subjectParser) attribute() (pkix.AttributeTypeAndValue, error) {
	p.skipSpace()
	end := strings.IndexAny(p.rest, `=,+;"\`)
	if end < 0 || p.rest[end] != '=' {
		return pkix.AttributeTypeAndValue{}, errors.New("expected an attribute such as CN=Name")
	}
	name := strings.TrimSpace(p.rest[:end])
	oid, err := attributeType(name)
	if err != nil {
		return pkix.AttributeTypeAndValue{}, err
	}
	p.rest = p.rest[end+1:]
	value, err := p.value()
	if err != nil {
		return pkix.AttributeTypeAndValue{}, err
	}
	if value == "" {
		return pkix.AttributeTypeAndValue{}, fmt.Errorf("attribute %s is empty", name)
	}
	if oid.Equal(oidCountry) && len(value) != 2 {
		return pkix.AttributeTypeAndValue{}, fmt.Errorf("country %q is not a code of two letters", value)
	}
	return pkix.AttributeTypeAndValue{Type: oid, Value: value}, nil
}

func attributeType(name string) (asn1.ObjectIdentifier, error) {
	upper := strings.ToUpper(name)
	if oid, ok := attributeTypes[upper]; ok {
		return oid, nil
	}
	var oid asn1.ObjectIdentifier
	for arc := range strings.SplitSeq(strings.TrimPrefix(upper, "OID."), ".") {
		n, err := strconv.ParseUint(arc, 10, 31)
		if err != nil {
			return nil, fmt.Errorf("attribute type %q is not known; use its object identifier", name)
		}
		oid = append(oid, int(n))
	}
	if len(oid) < 2 || oid[0] > 2 || oid[0] < 2 && oid[1] > 39 {
		return nil, fmt.Errorf("%q is not an object identifier", name)
	}
	return oid, nil
}

// value reads up to an unescaped separator (RFC 4514 section 2.4).
func (p *subjectParser) value() (string, error) {
	p.skipSpace()
	if strings.HasPrefix(p.rest, "#") {
		return "", errors.New("values in hexadecimal BER are not supported; write the text")
	}
	quoted := p.take('"')
	var b strings.Builder
	kept := 0 // length up to the last octet that is not an unescaped space
	for p.rest != "" {
		c := p.rest[0]
		switch {
		case c == '\\':
			octet, length, err := unescape(p.rest)
			if err != nil {
				return "", err
			}
			b.WriteByte(octet)
			p.rest = p.rest[length:]
			kept = b.Len()
			continue
		case quoted && c == '"':
			p.rest = p.rest[1:]
			return validText(b.String())
		case !quoted && (c == ',' || c == '+' || c == ';'):
			return validText(b.String()[:kept])
		case !quoted && c == '"':
			return "", errors.New(`'"' must be escaped as '\"'`)
		}
		b.WriteByte(c)
		p.rest = p.rest[1:]
		if c != ' ' || quoted {
			kept = b.Len()
		}
	}
	if quoted {
		return "", errors.New("the closing quotation mark is missing")
	}
	return validText(b.String()[:kept])
}

// unescape reads '\' and a special character or two hexadecimal digits.
func unescape(s string) (octet byte, length int, err error) {
	if len(s) >= 3 {
		if octets, err := hex.DecodeString(s[1:3]); err == nil {
			return octets[0], 3, nil
		}
	}
	if len(s) >= 2 && strings.IndexByte(` "#+,;<=>\`, s[1]) >= 0 {
		return s[1], 2, nil
	}
	return 0, 0, errors.New(`'\' must be followed by a special character or two hexadecimal digits`)
}

func validText(value string) (string, error) {
	if !utf8.ValidString(value) || strings.ContainsRune(value, 0) {
		return "", errors.New("the value is not valid UTF-8 text")
	}
	return value, nil
}

// marshalSubject returns the DER of a name, with the string types that RFC 5280
// appendix A wants: IA5String for mail addresses and domain components,
// PrintableString or UTF8String for the rest.
func marshalSubject(subject pkix.RDNSequence) ([]byte, error) {
	if len(subject) == 0 {
		return nil, errors.New("certificate: the subject is empty")
	}
	encoded := make(pkix.RDNSequence, len(subject))
	for i, rdn := range subject {
		encoded[i] = slices.Clone(rdn)
		for j, attribute := range rdn {
			text, ok := attribute.Value.(string)
			if ok && (attribute.Type.Equal(oidEmail) || attribute.Type.Equal(oidDomainComponent)) && isASCII(text) {
				encoded[i][j].Value = asn1.RawValue{Tag: asn1.TagIA5String, Bytes: []byte(text)}
			}
		}
	}
	der, err := asn1.Marshal(encoded)
	if err != nil {
		return nil, fmt.Errorf("certificate: the subject cannot be encoded: %w", err)
	}
	return der, nil
}

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= utf8.RuneSelf {
			return false
		}
	}
	return true
}
