package cms

import (
	"fmt"
)

const (
	maxDepth    = 64      // of nested elements; real signatures have some 15 levels
	maxElements = 1 << 20 // in one input; each costs at least two octets
)

// berError reports at which octet an encoding is malformed.
func berError(offset int, format string, args ...any) error {
	return &ParseError{Field: fmt.Sprintf("encoding at offset %d", offset), Reason: fmt.Sprintf(format, args...)}
}

// normalize returns the first element of data in an encoding with definite,
// minimal lengths and no constructed octet strings, and the octets after it.
// BER that streaming writers produce (X.690 section 8.1.3.6 indefinite lengths,
// section 8.7.3 segmented octet strings) becomes DER in these respects; data that
// is so already is returned as it is, not copied. The order of SET OF is kept.
func normalize(data []byte) (der, rest []byte, err error) {
	r := berReader{data: data}
	end, err := r.scan(0, 0)
	if err != nil {
		return nil, nil, err
	}
	if r.definite {
		return data[:end], data[end:], nil
	}
	der, err = r.rewrite(make([]byte, 0, end), 0)
	return der, data[end:], err
}

type berReader struct {
	data     []byte
	elements int
	definite bool // all lengths definite and minimal, all octet strings primitive
}

// header reads the identifier and length octets at offset. For an indefinite
// length, length is -1.
func (r *berReader) header(offset, limit int) (identifier byte, body, length int, minimal bool, err error) {
	if limit-offset < 2 {
		return 0, 0, 0, false, berError(offset, "truncated element")
	}
	identifier = r.data[offset]
	if identifier&0x1f == 0x1f {
		return 0, 0, 0, false, berError(offset, "multi-octet tag")
	}
	first := r.data[offset+1]
	body = offset + 2
	switch {
	case first < 0x80:
		length, minimal = int(first), true
	case first == 0x80:
		if identifier&0x20 == 0 {
			return 0, 0, 0, false, berError(offset, "primitive element of indefinite length")
		}
		return identifier, body, -1, false, nil
	default:
		n := int(first & 0x7f)
		if n > 4 || limit-body < n {
			return 0, 0, 0, false, berError(offset, "length of %d octets", n)
		}
		for _, c := range r.data[body : body+n] {
			length = length<<8 | int(c)
		}
		minimal = r.data[body] != 0 && length >= 0x80
		body += n
	}
	if length > limit-body {
		return 0, 0, 0, false, berError(offset, "element of %d octets, but %d are left", length, limit-body)
	}
	return identifier, body, length, minimal, nil
}

// scan walks the element at offset and returns where it ends.
func (r *berReader) scan(offset, depth int) (end int, err error) {
	if depth == 0 {
		r.definite = true
	}
	return r.walk(offset, len(r.data), depth)
}

func (r *berReader) walk(offset, limit, depth int) (end int, err error) {
	if depth > maxDepth {
		return 0, berError(offset, "more than %d levels", maxDepth)
	}
	if r.elements++; r.elements > maxElements {
		return 0, berError(offset, "more than %d elements", maxElements)
	}
	identifier, body, length, minimal, err := r.header(offset, limit)
	if err != nil {
		return 0, err
	}
	r.definite = r.definite && minimal && identifier != 0x24
	if length >= 0 {
		if end = body + length; identifier&0x20 == 0 {
			return end, nil
		}
		for at := body; at < end; {
			if at, err = r.walk(at, end, depth+1); err != nil {
				return 0, err
			}
		}
		return end, nil
	}
	for at := body; ; {
		if limit-at >= 2 && r.data[at] == 0 && r.data[at+1] == 0 {
			return at + 2, nil
		}
		if at, err = r.walk(at, limit, depth+1); err != nil {
			return 0, err
		}
	}
}

// rewrite appends the definite encoding of the element at offset, which walk
// has found well-formed and bounded.
func (r *berReader) rewrite(out []byte, offset int) ([]byte, error) {
	out, _, err := r.copyElement(out, offset, len(r.data))
	return out, err
}

func (r *berReader) copyElement(out []byte, offset, limit int) (_ []byte, end int, err error) {
	identifier, body, length, _, err := r.header(offset, limit)
	if err != nil {
		return nil, 0, err
	}
	if identifier&0x20 == 0 {
		end = body + length
		out = appendHeader(out, identifier, length)
		return append(out, r.data[body:end]...), end, nil
	}
	var content []byte
	if identifier == 0x24 {
		identifier = 0x04
		content, end, err = r.joinSegments(nil, body, length, limit)
	} else {
		content, end, err = r.copyAll(body, length, limit)
	}
	if err != nil {
		return nil, 0, err
	}
	out = appendHeader(out, identifier, len(content))
	return append(out, content...), end, nil
}

func (r *berReader) copyAll(body, length, limit int) (content []byte, end int, err error) {
	for at := body; ; {
		if next, done := r.contentEnd(at, body, length); done {
			return content, next, nil
		}
		if content, at, err = r.copyElement(content, at, limit); err != nil {
			return nil, 0, err
		}
	}
}

// joinSegments appends the octets of a constructed OCTET STRING's segments.
func (r *berReader) joinSegments(content []byte, body, length, limit int) (_ []byte, end int, err error) {
	for at := body; ; {
		if next, done := r.contentEnd(at, body, length); done {
			return content, next, nil
		}
		identifier, inner, n, _, err := r.header(at, limit)
		if err != nil {
			return nil, 0, err
		}
		switch identifier {
		case 0x04:
			content = append(content, r.data[inner:inner+n]...)
			at = inner + n
		case 0x24:
			if content, at, err = r.joinSegments(content, inner, n, limit); err != nil {
				return nil, 0, err
			}
		default:
			return nil, 0, berError(at, "tag 0x%02x in a segmented octet string", identifier)
		}
	}
}

// contentEnd tells whether at is behind the last element of a constructed
// element, and where the next element begins.
func (r *berReader) contentEnd(at, body, length int) (next int, done bool) {
	if length >= 0 {
		return at, at == body+length
	}
	return at + 2, r.data[at] == 0 && r.data[at+1] == 0
}

func appendHeader(out []byte, identifier byte, length int) []byte {
	out = append(out, identifier)
	switch {
	case length < 0x80:
		return append(out, byte(length))
	case length < 1<<8:
		return append(out, 0x81, byte(length))
	case length < 1<<16:
		return append(out, 0x82, byte(length>>8), byte(length))
	case length < 1<<24:
		return append(out, 0x83, byte(length>>16), byte(length>>8), byte(length))
	}
	return append(out, 0x84, byte(length>>24), byte(length>>16), byte(length>>8), byte(length))
}
