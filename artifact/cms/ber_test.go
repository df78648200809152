package cms

import (
	"bytes"
	"errors"
	"testing"
)

func TestNormalize(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name           string
		in, want, rest []byte
	}{
		{"DER", []byte{0x30, 3, 2, 1, 5}, []byte{0x30, 3, 2, 1, 5}, nil},
		{"DER and more", []byte{0x30, 0, 1, 2}, []byte{0x30, 0}, []byte{1, 2}},
		{"indefinite", []byte{0x30, 0x80, 2, 1, 5, 0, 0, 9}, []byte{0x30, 3, 2, 1, 5}, []byte{9}},
		{"nested indefinite", []byte{0x30, 0x80, 0x31, 0x80, 0, 0, 0, 0}, []byte{0x30, 2, 0x31, 0}, nil},
		{"long form", []byte{0x30, 0x83, 0, 0, 3, 2, 0x81, 0}, []byte{0x30, 2, 2, 0}, nil},
		{"segments", []byte{0x24, 0x80, 4, 1, 'a', 0x24, 4, 4, 2, 'b', 'c', 0, 0}, []byte{4, 3, 'a', 'b', 'c'}, nil},
		{"segments of definite length", []byte{0x24, 3, 4, 1, 'a'}, []byte{4, 1, 'a'}, nil},
	} {
		got, rest, err := normalize(test.in)
		if err != nil || !bytes.Equal(got, test.want) || !bytes.Equal(rest, test.rest) {
			t.Errorf("%s: % x and % x, %v", test.name, got, rest, err)
		}
	}
	for name, in := range map[string][]byte{
		"nothing":                 nil,
		"half a header":           {0x30},
		"too long":                {0x30, 2, 5},
		"length of many octets":   {0x30, 0x85, 0, 0, 0, 0, 0},
		"primitive indefinite":    {4, 0x80, 0, 0},
		"no end":                  {0x30, 0x80, 5, 0},
		"half an end":             {0x30, 0x80, 0},
		"child too long":          {0x30, 3, 4, 5, 0},
		"multi-octet tag":         {0x30, 3, 0x1f, 0x81, 0},
		"too deep":                bytes.Repeat([]byte{0x30, 0x80}, 1000),
		"an integer as a segment": {0x24, 3, 2, 1, 1},
		"many elements":           append([]byte{0x30, 0x84, 0, 0x40, 0, 0}, make([]byte, 4<<20)...),
	} {
		_, _, err := normalize(in)
		var parseErr *ParseError
		if !errors.As(err, &parseErr) {
			t.Errorf("%s: error %v", name, err)
		}
	}
}
