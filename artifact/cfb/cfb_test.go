package cfb

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"unicode/utf16"
)

// TestForeignFiles reads files that other programs wrote: msibuild (plain.msi)
// and wixl (wix.msi) of msitools 0.101, with libgsf.
func TestForeignFiles(t *testing.T) {
	t.Parallel()
	for name, want := range map[string][2]string{
		"plain.msi": {"Product 1.4", "ACME Inc."},
		"wix.msi":   {"Example 1.4 installer", "ACME Inc."},
	} {
		b, err := os.ReadFile(filepath.Join("testdata", name))
		if err != nil {
			t.Fatal(err)
		}
		s, err := ReadSummary(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			t.Fatal(err)
		}
		if s.Subject == nil || s.Author == nil || *s.Subject != want[0] || *s.Author != want[1] {
			t.Errorf("%s: got %+v, want %q", name, s, want)
		}
	}
}

// stream is one of a file that build makes.
type stream struct {
	name    string
	content []byte
}

// build makes a compound file with streams in the root storage: each of less
// than 4096 bytes in the mini stream.
func build(shift uint, streams ...stream) []byte {
	size := 1 << shift
	var sectors [][]byte
	fat := map[int]uint32{}
	put := func(content []byte) uint32 {
		first := len(sectors)
		for len(content) > 0 {
			sector := make([]byte, size)
			content = content[copy(sector, content):]
			fat[len(sectors)] = uint32(len(sectors) + 1)
			sectors = append(sectors, sector)
		}
		if len(sectors) == first {
			return endOfChain
		}
		fat[len(sectors)-1] = endOfChain
		return uint32(first)
	}
	var mini, miniFAT, directory []byte
	entry := func(name string, kind byte, right, child, start uint32, length int) {
		raw := make([]byte, entrySize)
		units := utf16.Encode([]rune(name))
		for i, u := range units {
			le.PutUint16(raw[2*i:], u)
		}
		le.PutUint16(raw[64:], uint16(2*len(units)+2))
		raw[66], raw[67] = kind, 1
		le.PutUint32(raw[68:], 1<<32-1)
		le.PutUint32(raw[72:], right)
		le.PutUint32(raw[76:], child)
		le.PutUint32(raw[116:], start)
		le.PutUint32(raw[120:], uint32(length))
		directory = append(directory, raw...)
	}
	entry("Root Entry", typeRoot, 1<<32-1, 1, 0, 0) // start and length follow
	for i, s := range streams {
		right := uint32(i + 2)
		if i+1 == len(streams) {
			right = 1<<32 - 1
		}
		var start uint32
		if len(s.content) < miniCutoff {
			start = uint32(len(mini) >> miniShift)
			for n := 0; n < len(s.content); n += 1 << miniShift {
				mini = append(mini, make([]byte, 1<<miniShift)...)
				copy(mini[len(mini)-1<<miniShift:], s.content[n:])
				next := uint32(len(mini) >> miniShift)
				if n+1<<miniShift >= len(s.content) {
					next = endOfChain
				}
				miniFAT = le.AppendUint32(miniFAT, next)
			}
		} else {
			start = put(s.content)
		}
		entry(s.name, typeStream, right, 1<<32-1, start, len(s.content))
	}
	miniFATStart := put(miniFAT)
	miniFATSectors := (len(miniFAT) + size - 1) / size
	le.PutUint32(directory[116:], put(mini))
	le.PutUint32(directory[120:], uint32(len(mini)))
	directoryStart := put(directory)

	// Sectors of FAT and DIFAT describe themselves, too.
	perSector := size / 4
	data, fats, difats := len(sectors), 0, 0
	for {
		f := (data + fats + difats + perSector - 1) / perSector
		d := max(0, (f-inHeader+perSector-2)/(perSector-1))
		if f == fats && d == difats {
			break
		}
		fats, difats = f, d
	}
	header := make([]byte, size)
	copy(header, signature)
	version := uint16(3)
	if shift == 12 {
		version = 4
	}
	le.PutUint16(header[26:], version)
	le.PutUint16(header[28:], 0xfffe)
	le.PutUint16(header[30:], uint16(shift))
	le.PutUint16(header[32:], miniShift)
	le.PutUint32(header[44:], uint32(fats))
	le.PutUint32(header[48:], directoryStart)
	le.PutUint32(header[56:], miniCutoff)
	le.PutUint32(header[60:], miniFATStart)
	le.PutUint32(header[64:], uint32(miniFATSectors))
	le.PutUint32(header[68:], endOfChain)
	if difats > 0 {
		le.PutUint32(header[68:], uint32(data+fats))
	}
	le.PutUint32(header[72:], uint32(difats))
	table := bytes.Repeat([]byte{0xff}, fats*size)
	for s, next := range fat {
		le.PutUint32(table[4*s:], next)
	}
	for i := range inHeader {
		le.PutUint32(header[76+4*i:], 1<<32-1)
	}
	difat := bytes.Repeat([]byte{0xff}, difats*size)
	for i := range fats {
		if i < inHeader {
			le.PutUint32(header[76+4*i:], uint32(data+i))
			continue
		}
		n := i - inHeader
		le.PutUint32(difat[n/(perSector-1)*size+n%(perSector-1)*4:], uint32(data+i))
	}
	for i := range difats {
		next := uint32(data + fats + i + 1)
		if i+1 == difats {
			next = endOfChain
		}
		le.PutUint32(difat[(i+1)*size-4:], next)
	}
	return bytes.Join(append(append([][]byte{header}, sectors...), table, difat), nil)
}

// property is a typed value of a property set.
type property struct {
	id, kind uint32
	value    []byte
}

func text(id uint32, s string) property {
	return property{id, typeText, append(le.AppendUint32(nil, uint32(len(s)+1)), s+"\x00"...)}
}

func wide(id uint32, s string) property {
	units := append(utf16.Encode([]rune(s)), 0)
	b := le.AppendUint32(nil, uint32(len(units)))
	for _, u := range units {
		b = le.AppendUint16(b, u)
	}
	return property{id, typeWide, b}
}

func codePage(n uint16) property {
	return property{propertyCodePage, typeInteger, le.AppendUint32(nil, uint32(n))}
}

func summary(properties ...property) []byte {
	b := make([]byte, 48)
	le.PutUint16(b, 0xfffe)
	copy(b[28:], summaryFormat)
	le.PutUint32(b[24:], 1)
	le.PutUint32(b[44:], 48)
	var values []byte
	index := le.AppendUint32(nil, 0)
	index = le.AppendUint32(index, uint32(len(properties)))
	for _, p := range properties {
		index = le.AppendUint32(index, p.id)
		index = le.AppendUint32(index, uint32(8+8*len(properties)+len(values)))
		values = append(le.AppendUint32(values, p.kind), p.value...)
		values = append(values, make([]byte, -len(values)&3)...)
	}
	return append(append(b, index...), values...)
}

// TestLayouts reads files of both versions, with the stream in the mini stream
// and not, and with so much before it that the FAT needs sectors of its own list.
func TestLayouts(t *testing.T) {
	t.Parallel()
	small := summary(codePage(1252), text(propertySubject, "Pr\xfcfung"), text(propertyAuthor, "ACME"))
	large := slices.Concat(small, make([]byte, 5000))
	for _, shift := range []uint{9, 12} {
		for _, content := range [][]byte{small, large} {
			for _, before := range []int{0, 100, 9 << 20} {
				b := build(shift, stream{"before", make([]byte, before)}, stream{"tables", make([]byte, 3000)}, stream{summaryName, content})
				s, err := ReadSummary(bytes.NewReader(b), int64(len(b)))
				if err != nil || *s.Subject != "Prüfung" || *s.Author != "ACME" {
					t.Errorf("sectors of 2^%d bytes, %d bytes after %d others: %+v, %v", shift, len(content), before, s, err)
				}
			}
		}
	}
	b := build(9, stream{"other", []byte("x")})
	if s, err := ReadSummary(bytes.NewReader(b), int64(len(b))); err != nil || s.Subject != nil || s.Author != nil {
		t.Errorf("without summary information: %+v, %v", s, err)
	}
}

func TestTexts(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		properties []property
		want       string // of the subject; empty for an error
	}{
		"ASCII":                {[]property{text(propertySubject, "a")}, "a"},
		"Cyrillic":             {[]property{codePage(1251), text(propertySubject, "\xcf\xf0")}, "Пр"},
		"UTF-8":                {[]property{codePage(65001), text(propertySubject, "ü")}, "ü"},
		"UTF-8, not declared":  {[]property{text(propertySubject, "ü")}, "ü"},
		"wide":                 {[]property{wide(propertySubject, "日本")}, "日本"},
		"not UTF-8":            {[]property{codePage(65001), text(propertySubject, "\xff")}, ""},
		"unknown code page":    {[]property{codePage(932), text(propertySubject, "\x93\xfa")}, ""},
		"ASCII in any":         {[]property{codePage(932), text(propertySubject, "a")}, "a"},
		"twice":                {[]property{text(propertySubject, "a"), text(propertySubject, "b")}, ""},
		"number":               {[]property{{propertySubject, typeInteger, make([]byte, 4)}}, ""},
		"code page is a text":  {[]property{text(propertyCodePage, "1252"), text(propertySubject, "a")}, ""},
		"longer than its room": {[]property{{propertySubject, typeText, []byte{255, 0, 0, 0, 'a', 0, 0, 0}}}, ""},
	} {
		b := build(9, stream{summaryName, summary(test.properties...)})
		s, err := ReadSummary(bytes.NewReader(b), int64(len(b)))
		var typed *Error
		switch {
		case test.want == "" && !errors.As(err, &typed):
			t.Errorf("%s: got %+v, %v, want an error", name, s, err)
		case test.want != "" && (err != nil || s.Subject == nil || *s.Subject != test.want):
			t.Errorf("%s: got %+v, %v, want %q", name, s, err, test.want)
		}
	}
}

// TestRefused damages a file: each gives an error that says where.
func TestRefused(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(b []byte) []byte{
		"empty":                  func([]byte) []byte { return nil },
		"cut off":                func(b []byte) []byte { return b[:len(b)-600] },
		"other signature":        func(b []byte) []byte { b[0] = 0; return b },
		"big-endian":             func(b []byte) []byte { b[28] = 0xff; return b },
		"version 5":              func(b []byte) []byte { b[26] = 5; return b },
		"mini sectors of 2^7":    func(b []byte) []byte { b[32] = 7; return b },
		"too large a FAT":        func(b []byte) []byte { le.PutUint32(b[44:], 1<<31); return b },
		"no FAT":                 func(b []byte) []byte { le.PutUint32(b[44:], 0); return b },
		"directory elsewhere":    func(b []byte) []byte { le.PutUint32(b[48:], 1<<30); return b },
		"directory is data":      func(b []byte) []byte { le.PutUint32(b[48:], 0); return b },
		"endless directory":      func(b []byte) []byte { return redirect(b, le.Uint32(b[48:]), le.Uint32(b[48:])) },
		"mini FAT too long":      func(b []byte) []byte { le.PutUint32(b[64:], 1<<31); return b },
		"mini stream is cut off": func(b []byte) []byte { return redirect(b, le.Uint32(b[60:]), 1<<32-1) },
	} {
		good := build(9, stream{"large", make([]byte, 5000)}, stream{"fill", make([]byte, 4000)}, stream{"tables", make([]byte, 4000)},
			stream{"more", make([]byte, 4000)}, stream{summaryName, summary(text(propertySubject, "x"))})
		b := change(good)
		_, err := ReadSummary(bytes.NewReader(b), int64(len(b)))
		var typed *Error
		if !errors.As(err, &typed) {
			t.Errorf("%s: got error %v", name, err)
		}
	}
	twice := build(9, stream{summaryName, summary()}, stream{"\x05SUMMARYINFORMATION", summary()})
	if _, err := ReadSummary(bytes.NewReader(twice), int64(len(twice))); err == nil {
		t.Error("the stream is there twice")
	}
}

// redirect changes the FAT's entry of a sector.
func redirect(b []byte, sector, next uint32) []byte {
	le.PutUint32(b[(int(le.Uint32(b[76:]))+1)*512+4*int(sector):], next)
	return b
}

// FuzzReadSummary: whatever the input, there is a result or a typed error.
func FuzzReadSummary(f *testing.F) {
	for _, name := range []string{"plain.msi", "wix.msi"} {
		b, err := os.ReadFile(filepath.Join("testdata", name))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Add(build(9, stream{"tables", make([]byte, 100)}, stream{summaryName, summary(codePage(1252), wide(propertyAuthor, "x"))}))
	f.Add(build(12, stream{summaryName, append(summary(text(propertySubject, "x")), make([]byte, 5000)...)}))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := ReadSummary(bytes.NewReader(b), int64(len(b)))
		var typed *Error
		if err != nil && !errors.As(err, &typed) {
			t.Fatalf("untyped error %v", err)
		}
		_ = fmt.Sprint(s)
	})
}
