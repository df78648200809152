package cfb

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf16"
	"unicode/utf8"

	"golang.org/x/text/encoding/charmap"
)

// Summary is what the summary information of a file says. A field that it does
// not have is nil.
type Summary struct {
	Subject, Author *string
}

const (
	summaryName = "\x05SummaryInformation"
	maxSummary  = 1 << 18

	// FMTID_SummaryInformation ([MS-OLEPS] 2.21, 3.1.2).
	summaryFormat = "\xe0\x85\x9f\xf2\xf9\x4f\x68\x10\xab\x91\x08\x00\x2b\x27\xb3\xd9"

	// Properties ([MS-OLEPS] 3.1.4, 3.1.5; Windows Installer, "Summary Information Stream").
	propertyCodePage = 1
	propertySubject  = 3
	propertyAuthor   = 4

	typeInteger = 2  // VT_I2 (2.15)
	typeText    = 30 // VT_LPSTR
	typeWide    = 31 // VT_LPWSTR
)

// ReadSummary reads the summary information. A file without it has an empty one.
// Errors are *Error, or those of r.
func ReadSummary(r io.ReaderAt, size int64) (*Summary, error) {
	f, err := Open(r, size)
	if err != nil {
		return nil, err
	}
	stream, err := f.Stream(summaryName, maxSummary)
	if errors.Is(err, ErrNoStream) {
		return &Summary{}, nil
	}
	if err != nil {
		return nil, err
	}
	return parseSummary(stream)
}

// parseSummary reads a property set stream ([MS-OLEPS] 2.21, 2.20).
func parseSummary(b []byte) (*Summary, error) {
	if len(b) < 48 || le.Uint16(b) != 0xfffe || string(b[28:44]) != summaryFormat {
		return nil, summaryError("it is no property set of this kind")
	}
	start := le.Uint32(b[44:])
	if int64(start)+8 > int64(len(b)) {
		return nil, summaryError("the property set begins behind its end")
	}
	set := b[start:]
	count := le.Uint32(set[4:])
	if int64(count) > int64(len(set)-8)/8 {
		return nil, summaryError("it has more properties than room")
	}
	offsets := make(map[uint32]uint32, count)
	for i := range count {
		id := le.Uint32(set[8+8*i:])
		if _, twice := offsets[id]; twice {
			return nil, summaryError(fmt.Sprintf("it has property %d twice", id))
		}
		offsets[id] = le.Uint32(set[12+8*i:])
	}
	value := func(id uint32) ([]byte, error) {
		offset, found := offsets[id]
		switch {
		case !found:
			return nil, nil
		case int64(offset)+8 > int64(len(set)):
			return nil, summaryError(fmt.Sprintf("property %d lies behind its end", id))
		}
		return set[offset:], nil
	}
	codePage := -1
	page, err := value(propertyCodePage)
	switch {
	case err != nil:
		return nil, err
	case page != nil && le.Uint16(page) != typeInteger:
		return nil, summaryError("the code page is no number")
	case page != nil:
		codePage = int(le.Uint16(page[4:]))
	}
	s := &Summary{}
	for _, field := range []struct {
		id uint32
		to **string
	}{{propertySubject, &s.Subject}, {propertyAuthor, &s.Author}} {
		v, err := value(field.id)
		if err != nil {
			return nil, err
		}
		if v == nil {
			continue
		}
		text, err := parseText(v, codePage)
		if err != nil {
			return nil, err
		}
		*field.to = &text
	}
	return s, nil
}

func summaryError(detail string) error { return &Error{-1, "summary information: " + detail} }

// parseText reads a text, in a code page if it is narrow ([MS-OLEPS] 2.5, 2.6).
func parseText(v []byte, codePage int) (string, error) {
	kind, length, rest := le.Uint16(v), int64(le.Uint32(v[4:])), v[8:]
	if kind == typeWide || codePage == 1200 {
		if kind == typeWide {
			length *= 2 // it counts characters
		}
		if length > int64(len(rest)) {
			return "", summaryError("a text is cut off")
		}
		var units []uint16
		for i := int64(0); i+1 < length; i += 2 {
			units = append(units, le.Uint16(rest[i:]))
		}
		text, _, _ := strings.Cut(string(utf16.Decode(units)), "\x00")
		return text, nil
	}
	if kind != typeText {
		return "", summaryError(fmt.Sprintf("a text has the type %d", kind))
	}
	if length > int64(len(rest)) {
		return "", summaryError("a text is cut off")
	}
	text, _, _ := strings.Cut(string(rest[:length]), "\x00")
	ascii := strings.IndexFunc(text, func(r rune) bool { return r >= utf8.RuneSelf }) < 0
	switch decoder := codePages[codePage]; {
	case ascii:
		return text, nil
	case decoder != nil:
		return decoder.NewDecoder().String(text)
	// Without a code page, some programs write UTF-8.
	case (codePage == 65001 || codePage <= 0) && utf8.ValidString(text):
		return text, nil
	}
	return "", summaryError(fmt.Sprintf("a text is not valid in code page %d, or that is not known", codePage))
}

// codePages are those with one byte for each character.
var codePages = map[int]*charmap.Charmap{
	437: charmap.CodePage437, 850: charmap.CodePage850, 874: charmap.Windows874,
	1250: charmap.Windows1250, 1251: charmap.Windows1251, 1252: charmap.Windows1252, 1253: charmap.Windows1253, 1254: charmap.Windows1254,
	1255: charmap.Windows1255, 1256: charmap.Windows1256, 1257: charmap.Windows1257, 1258: charmap.Windows1258,
}
