package authenticode

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"io"
	"math"
	"slices"
)

// FormatError reports a file that is not the PE image it should be, or whose
// headers contradict the file.
type FormatError struct {
	Offset int64  // in octets from the file's beginning
	Field  string // name in the PE format specification, such as "SizeOfOptionalHeader"
	Reason string // what is wrong and what was expected
}

func (e *FormatError) Error() string {
	return fmt.Sprintf("pe: %s at offset 0x%x: %s", e.Field, e.Offset, e.Reason)
}

// Sizes and positions of the PE format ("PE Format", sections "MS-DOS Stub",
// "COFF File Header", "Optional Header" and "Section Table").
const (
	dosHeaderSize     = 64
	coffHeaderSize    = 24 // with the signature "PE\0\0"
	sectionHeaderSize = 40
	checksumField     = 64 // within the optional header
	directories32     = 96
	directories64     = 112
	magic32           = 0x10b
	magic64           = 0x20b
	directoryResource = 2
	directorySecurity = 4

	subsystemEFIApplication = 10 // the first and the last of those for EFI
	subsystemEFIROM         = 13

	// minLfanew is the least e_lfanew that leaves the DOS header's own fields alone.
	minLfanew = 44
)

// image is what signing needs to know of a PE image.
type image struct {
	size        int64
	checksumAt  int64 // offset of OptionalHeader.CheckSum
	checksum    uint32
	securityAt  int64 // offset of the security directory entry
	tableAt     int64 // offset of the certificate table; size when there is none
	tableSize   int64
	subsystem   uint16
	headersSize int64
	resource    directory
	sections    []section // those with data in the file, by their place in it
}

type directory struct{ address, size uint32 }

type section struct {
	name        string
	headerAt    int64 // offset of its header
	address     int64 // relative virtual
	from, to    int64 // raw data in the file
	virtualSize int64
}

// IsPE tells whether a file that begins with header is a PE image. 4 KiB decide
// for images met in practice, of which the PE header comes early; when header
// ends before the PE header, it is taken for none.
func IsPE(header []byte) bool {
	if len(header) < dosHeaderSize || header[0] != 'M' || header[1] != 'Z' {
		return false
	}
	at := int64(binary.LittleEndian.Uint32(header[60:]))
	return at+4 <= int64(len(header)) && string(header[at:at+4]) == "PE\x00\x00"
}

// parseImage reads and checks the headers.
func parseImage(src io.ReaderAt, size int64) (*image, error) {
	var dos [dosHeaderSize]byte
	if size < dosHeaderSize {
		return nil, &FormatError{0, "file", fmt.Sprintf("has %d octets; a PE image has at least a DOS header of %d", size, dosHeaderSize)}
	}
	if size > math.MaxUint32 {
		return nil, &FormatError{0, "file", fmt.Sprintf("has %d octets; offsets in a PE image end at 4 GiB", size)}
	}
	if err := readFull(src, dos[:], 0, "DOS header"); err != nil {
		return nil, err
	}
	if dos[0] != 'M' || dos[1] != 'Z' {
		return nil, &FormatError{0, "e_magic", `is not "MZ"; this is no PE image`}
	}
	lfanew := int64(binary.LittleEndian.Uint32(dos[60:]))
	if lfanew < minLfanew || lfanew+coffHeaderSize > size {
		return nil, &FormatError{60, "e_lfanew", fmt.Sprintf("is 0x%x in a file of 0x%x octets; it points to no PE header", lfanew, size)}
	}
	var coff [coffHeaderSize]byte
	if err := readFull(src, coff[:], lfanew, "PE header"); err != nil {
		return nil, err
	}
	if string(coff[:4]) != "PE\x00\x00" {
		return nil, &FormatError{lfanew, "Signature", `is not "PE\0\0"; this is no PE image`}
	}
	img := &image{size: size}
	optionalAt := lfanew + coffHeaderSize
	optionalSize := int64(binary.LittleEndian.Uint16(coff[20:]))
	if err := img.parseOptionalHeader(src, optionalAt, optionalSize, lfanew+20); err != nil {
		return nil, err
	}
	count := int(binary.LittleEndian.Uint16(coff[6:]))
	if err := img.parseSections(src, optionalAt+optionalSize, count, lfanew+6); err != nil {
		return nil, err
	}
	return img, img.checkTable()
}

func (img *image) parseOptionalHeader(src io.ReaderAt, at, length, lengthAt int64) error {
	if length < directories32 || at+length > img.size {
		return &FormatError{lengthAt, "SizeOfOptionalHeader", fmt.Sprintf("is %d, with 0x%x octets in the file behind it; an image has at least %d", length, img.size-at, directories32)}
	}
	header := make([]byte, length)
	if err := readFull(src, header, at, "optional header"); err != nil {
		return err
	}
	le := binary.LittleEndian
	var directories int64
	switch magic := le.Uint16(header); magic {
	case magic32:
		directories = directories32
	case magic64:
		directories = directories64
	default:
		return &FormatError{at, "Magic", fmt.Sprintf("is 0x%x; only PE32 (0x10b) and PE32+ (0x20b) can be signed", magic)}
	}
	if length < directories {
		return &FormatError{lengthAt, "SizeOfOptionalHeader", fmt.Sprintf("is %d; PE32+ has at least %d", length, directories)}
	}
	count := int64(le.Uint32(header[directories-4:]))
	if count <= directorySecurity {
		return &FormatError{at + directories - 4, "NumberOfRvaAndSizes", fmt.Sprintf("is %d: there is no security directory to put a signature in", count)}
	}
	if directories+8*count > length {
		return &FormatError{at + directories - 4, "NumberOfRvaAndSizes", fmt.Sprintf("is %d, which a SizeOfOptionalHeader of %d has no room for", count, length)}
	}
	img.headersSize = int64(le.Uint32(header[60:]))
	if img.headersSize > img.size {
		return &FormatError{at + 60, "SizeOfHeaders", fmt.Sprintf("is 0x%x in a file of 0x%x octets; the file is truncated", img.headersSize, img.size)}
	}
	img.subsystem = le.Uint16(header[68:])
	img.checksumAt, img.checksum = at+checksumField, le.Uint32(header[checksumField:])
	img.securityAt = at + directories + 8*directorySecurity
	entry := func(n int64) directory {
		return directory{le.Uint32(header[directories+8*n:]), le.Uint32(header[directories+8*n+4:])}
	}
	img.resource = entry(directoryResource)
	security := entry(directorySecurity) // its address is a file offset, not virtual
	img.tableAt, img.tableSize = int64(security.address), int64(security.size)
	return nil
}

func (img *image) parseSections(src io.ReaderAt, at int64, count int, countAt int64) error {
	end := at + int64(count)*sectionHeaderSize
	if end > img.size {
		return &FormatError{countAt, "NumberOfSections", fmt.Sprintf("is %d, but the file ends within the section table at 0x%x", count, at)}
	}
	table := make([]byte, end-at)
	if err := readFull(src, table, at, "section table"); err != nil {
		return err
	}
	le := binary.LittleEndian
	for i := range count {
		header := table[i*sectionHeaderSize:][:sectionHeaderSize]
		s := section{
			name:        sectionName(header[:8]),
			headerAt:    at + int64(i)*sectionHeaderSize,
			virtualSize: int64(le.Uint32(header[8:])),
			address:     int64(le.Uint32(header[12:])),
			from:        int64(le.Uint32(header[20:])),
		}
		s.to = s.from + int64(le.Uint32(header[16:]))
		if s.from == 0 || s.to == s.from {
			continue // nothing in the file
		}
		if s.to > img.size {
			return &FormatError{s.headerAt + 16, "SizeOfRawData", fmt.Sprintf("section %q ends at 0x%x in a file of 0x%x octets; the file is truncated", s.name, s.to, img.size)}
		}
		if s.from < end {
			return &FormatError{s.headerAt + 20, "PointerToRawData", fmt.Sprintf("section %q at 0x%x overlaps the headers, which end at 0x%x", s.name, s.from, end)}
		}
		img.sections = append(img.sections, s)
	}
	slices.SortStableFunc(img.sections, func(a, b section) int { return int(a.from - b.from) })
	// Verifiers that go by sections and those that go by the file would hash
	// overlapping sections differently.
	for i := 1; i < len(img.sections); i++ {
		if a, b := img.sections[i-1], img.sections[i]; b.from < a.to {
			return &FormatError{b.headerAt + 20, "PointerToRawData", fmt.Sprintf("section %q at 0x%x overlaps section %q, which ends at 0x%x", b.name, b.from, a.name, a.to)}
		}
	}
	return nil
}

// checkTable sets tableAt to where the signed content ends. Data behind the
// certificate table would be covered by no signature; since MS12-024 Windows
// takes such files for broken, and so do signtool and osslsigncode.
func (img *image) checkTable() error {
	at, size := img.tableAt, img.tableSize
	if at == 0 && size == 0 {
		img.tableAt = img.size
		return nil
	}
	field := "security directory"
	switch {
	case at == 0 || size == 0:
		return &FormatError{img.securityAt, field, fmt.Sprintf("has offset 0x%x and size 0x%x; both are zero, or none", at, size)}
	case at+size > img.size:
		return &FormatError{img.securityAt, field, fmt.Sprintf("says that the certificate table ends at 0x%x in a file of 0x%x octets; the file is truncated", at+size, img.size)}
	case at+size < img.size:
		return &FormatError{at + size, "certificate table", fmt.Sprintf("is followed by %d octets that no signature covers; remove them", img.size-at-size)}
	case at < img.securityAt+8:
		return &FormatError{img.securityAt, field, fmt.Sprintf("puts the certificate table at 0x%x, into the headers", at)}
	}
	if n := len(img.sections); n > 0 && img.sections[n-1].to > at {
		last := img.sections[n-1]
		return &FormatError{img.securityAt, field, fmt.Sprintf("puts the certificate table at 0x%x, into section %q, which ends at 0x%x", at, last.name, last.to)}
	}
	return nil
}

func (img *image) signed() bool { return img.tableSize != 0 }

func (img *image) efi() bool {
	return img.subsystem >= subsystemEFIApplication && img.subsystem <= subsystemEFIROM
}

// checksumField and securityField are where signing changes the headers.
func (img *image) checksumField() span { return span{img.checksumAt, 4} }

func (img *image) securityField() span { return span{img.securityAt, 8} }

// digest is a sink that computes the Authenticode digest ("Calculating the PE
// Image Hash" of the specification): all octets but the CheckSum field and the
// security directory entry. Like Windows it goes by the file, not by the section
// table, so that what lies between sections is covered.
func (img *image) digest(h hash.Hash) sink {
	return hashWithout(h, img.checksumField(), img.securityField())
}

// gap returns the first place between headers and sections that belongs to none of them.
func (img *image) gap() (from, to int64, ok bool) {
	end := img.headersSize
	for _, s := range img.sections {
		if s.from > end {
			return end, s.from, true
		}
		end = max(end, s.to)
	}
	return 0, 0, false
}

func sectionName(b []byte) string {
	if i := slices.Index(b, 0); i >= 0 {
		b = b[:i]
	}
	return string(b)
}

// readFull reads len(p) octets. A file that is shorter than it was said to be is
// a *FormatError.
func readFull(src io.ReaderAt, p []byte, at int64, field string) error {
	n, err := src.ReadAt(p, at)
	if n == len(p) {
		return nil
	}
	if err == nil || errors.Is(err, io.EOF) {
		return &FormatError{at + int64(n), field, "the file ends here; it is truncated"}
	}
	return fmt.Errorf("pe: reading %s at offset 0x%x: %w", field, at, err)
}
