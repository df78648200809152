package authenticode

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"unicode/utf16"
)

// ErrNoVersion says that the image has no version resource.
var ErrNoVersion = errors.New("pe: the image has no version resource")

// Version is the version resource (VS_VERSIONINFO) of an image. An image may have
// several, for several languages; what differs between them is all here.
type Version struct {
	FileVersion    [4]uint16 // VS_FIXEDFILEINFO.dwFileVersion of the first, major first
	ProductVersion [4]uint16 // VS_FIXEDFILEINFO.dwProductVersion of the first, major first
	Tables         []StringTable
}

// StringTable is one StringTable of a StringFileInfo.
type StringTable struct {
	Language string            // eight hexadecimal digits: language and code page
	Strings  map[string]string // ProductName, ProductVersion, FileVersion, CompanyName, LegalCopyright, OriginalFilename, ...
}

// Lookup returns the different values that the tables have for a name, such as
// "ProductName". Most images have one. Who restricts a value should ask for that
// of all of them: which one Windows shows depends on the user's language.
func (v *Version) Lookup(name string) []string {
	var values []string
	for _, t := range v.Tables {
		if value, ok := t.Strings[name]; ok && !slices.Contains(values, value) {
			values = append(values, value)
		}
	}
	return values
}

// Limits of what is read of a resource section.
const (
	resourceVersion      = 16 // RT_VERSION
	maxResourceEntries   = 4096
	maxVersionResources  = 32
	maxVersionSize       = 64 << 10 // its length field has 16 bits
	maxVersionStrings    = 1024     // of all tables
	resourceDirectoryLen = 16
	resourceEntryLen     = 8
	fixedInfoSignature   = 0xfeef04bd
)

// ReadVersion reads the version resources of an image. Without any it returns
// ErrNoVersion; when they are malformed, a *FormatError.
func ReadVersion(src io.ReaderAt, size int64) (*Version, error) {
	img, err := parseImage(src, size)
	if err != nil {
		return nil, err
	}
	if img.resource.size == 0 || img.resource.address == 0 {
		return nil, ErrNoVersion
	}
	r := resourceReader{src: src, img: img}
	if r.base, err = r.locate(int64(img.resource.address), resourceDirectoryLen, img.securityAt-16); err != nil {
		return nil, err
	}
	if err := r.walk(0, 0); err != nil {
		return nil, err
	}
	if len(r.found) == 0 {
		return nil, ErrNoVersion
	}
	version := &Version{}
	for i, blob := range r.found {
		p := versionParser{version: version, first: i == 0, at: blob.at}
		if err := p.parse(blob.data); err != nil {
			return nil, err
		}
	}
	return version, nil
}

type resourceReader struct {
	src     io.ReaderAt
	img     *image
	base    int64 // file offset of the root directory
	entries int
	found   []versionBlob
}

type versionBlob struct {
	at   int64 // file offset
	data []byte
}

// locate translates a virtual address of length octets to a file offset.
func (r *resourceReader) locate(address, length, fieldAt int64) (int64, error) {
	for _, s := range r.img.sections {
		if into := address - s.address; into >= 0 && into+length <= s.to-s.from {
			return s.from + into, nil
		}
	}
	return 0, &FormatError{fieldAt, "resource", fmt.Sprintf("%d octets at virtual address 0x%x are in no section", length, address)}
}

// walk visits a directory of the resource tree ("PE Format", "Resource Directory
// Table"); the levels are type, name and language.
func (r *resourceReader) walk(offset int64, level int) error {
	at := r.base + offset
	var header [resourceDirectoryLen]byte
	if err := readFull(r.src, header[:], at, "resource directory"); err != nil {
		return err
	}
	count := int(binary.LittleEndian.Uint16(header[12:])) + int(binary.LittleEndian.Uint16(header[14:]))
	if r.entries += count; r.entries > maxResourceEntries {
		return &FormatError{at, "resource directory", fmt.Sprintf("more than %d entries", maxResourceEntries)}
	}
	table := make([]byte, count*resourceEntryLen)
	if err := readFull(r.src, table, at+resourceDirectoryLen, "resource directory"); err != nil {
		return err
	}
	for i := range count {
		id := binary.LittleEndian.Uint32(table[i*resourceEntryLen:])
		child := binary.LittleEndian.Uint32(table[i*resourceEntryLen+4:])
		entryAt := at + resourceDirectoryLen + int64(i)*resourceEntryLen
		isDirectory := child&(1<<31) != 0
		child &^= 1 << 31
		switch {
		case level == 0 && id != resourceVersion:
			continue
		case level < 2 && isDirectory:
			if err := r.walk(int64(child), level+1); err != nil {
				return err
			}
		case level == 2 && !isDirectory:
			if err := r.read(int64(child)); err != nil {
				return err
			}
		default:
			return &FormatError{entryAt, "resource directory entry", "the resource tree does not have the three levels type, name and language"}
		}
	}
	return nil
}

// read reads a Resource Data Entry and the version resource that it points to.
func (r *resourceReader) read(offset int64) error {
	at := r.base + offset
	var entry [16]byte
	if err := readFull(r.src, entry[:], at, "resource data entry"); err != nil {
		return err
	}
	address, length := int64(binary.LittleEndian.Uint32(entry[:])), int64(binary.LittleEndian.Uint32(entry[4:]))
	if length > maxVersionSize {
		return &FormatError{at + 4, "resource data entry", fmt.Sprintf("version resource of %d octets; %d are possible", length, maxVersionSize)}
	}
	if len(r.found) == maxVersionResources {
		return &FormatError{at, "resource data entry", fmt.Sprintf("more than %d version resources", maxVersionResources)}
	}
	from, err := r.locate(address, length, at)
	if err != nil {
		return err
	}
	data := make([]byte, length)
	if err := readFull(r.src, data, from, "version resource"); err != nil {
		return err
	}
	r.found = append(r.found, versionBlob{from, data})
	return nil
}

// versionParser reads the tree of blocks of a version resource: VS_VERSIONINFO,
// StringFileInfo, StringTable and String of the Windows reference have one layout.
type versionParser struct {
	version *Version
	first   bool
	at      int64 // file offset of the resource
	strings int
}

// block is one node: a key, a value and, behind it, children.
type block struct {
	key      string
	text     bool // wType is 1; the value's length counts UTF-16 units
	value    []byte
	children []byte
	offset   int64 // in the file
	inner    int64 // offset of children in the file
}

// next takes the block at the front of data, which begins at the given file
// offset, and returns what is behind it.
func (p *versionParser) next(data []byte, offset int64) (b block, rest []byte, restAt int64, err error) {
	fail := func(reason string) (block, []byte, int64, error) {
		return b, nil, 0, &FormatError{offset, "version resource", reason}
	}
	if len(data) < 6 {
		return fail("ends within a block header")
	}
	length := int(binary.LittleEndian.Uint16(data))
	valueLength := int(binary.LittleEndian.Uint16(data[2:]))
	b.text, b.offset = binary.LittleEndian.Uint16(data[4:]) == 1, offset
	if length < 6 || length > len(data) {
		return fail(fmt.Sprintf("block of %d octets, with %d left", length, len(data)))
	}
	body := data[:length]
	var units []uint16
	at := 6
	for ; ; at += 2 {
		if at+2 > length {
			return fail("block without an end of its key")
		}
		unit := binary.LittleEndian.Uint16(body[at:])
		if unit == 0 {
			break
		}
		units = append(units, unit)
	}
	b.key = string(utf16.Decode(units))
	at = min(p.align(at+2, offset), length)
	if b.text {
		valueLength *= 2
	}
	// Some resource compilers count octets in place of UTF-16 units here.
	end := min(at+valueLength, length)
	b.value = body[at:end]
	end = min(p.align(end, offset), length)
	b.children, b.inner = body[end:], offset+int64(end)
	end = min(p.align(length, offset), len(data))
	return b, data[end:], offset + int64(end), nil
}

// align rounds an index up so that it is a multiple of 4 from the resource's beginning.
func (p *versionParser) align(i int, offset int64) int {
	return i + int(-(int64(i)+offset-p.at)&3)
}

// each calls visit for all blocks in data.
func (p *versionParser) each(data []byte, offset int64, visit func(block) error) error {
	for len(data) >= 6 && binary.LittleEndian.Uint16(data) != 0 {
		b, rest, restAt, err := p.next(data, offset)
		if err != nil {
			return err
		}
		if err := visit(b); err != nil {
			return err
		}
		data, offset = rest, restAt
	}
	return nil
}

func (p *versionParser) parse(data []byte) error {
	root, _, _, err := p.next(data, p.at)
	if err != nil {
		return err
	}
	if root.key != "VS_VERSION_INFO" {
		return &FormatError{p.at, "version resource", fmt.Sprintf("its key is %q, not VS_VERSION_INFO", root.key)}
	}
	if p.first && len(root.value) >= 24 && binary.LittleEndian.Uint32(root.value) == fixedInfoSignature {
		p.version.FileVersion = quad(root.value[8:])
		p.version.ProductVersion = quad(root.value[16:])
	}
	return p.each(root.children, root.inner, func(info block) error {
		if info.key != "StringFileInfo" {
			return nil // VarFileInfo
		}
		return p.each(info.children, info.inner, p.table)
	})
}

func (p *versionParser) table(b block) error {
	t := StringTable{Language: b.key, Strings: map[string]string{}}
	err := p.each(b.children, b.inner, func(s block) error {
		if p.strings++; p.strings > maxVersionStrings {
			return &FormatError{s.offset, "version resource", fmt.Sprintf("more than %d strings", maxVersionStrings)}
		}
		t.Strings[s.key] = text(s.value)
		return nil
	})
	p.version.Tables = append(p.version.Tables, t)
	return err
}

// text decodes UTF-16 up to a NUL.
func text(b []byte) string {
	var units []uint16
	for ; len(b) >= 2; b = b[2:] {
		unit := binary.LittleEndian.Uint16(b)
		if unit == 0 {
			break
		}
		units = append(units, unit)
	}
	return string(utf16.Decode(units))
}

// quad splits a version of two 32-bit halves, the upper first.
func quad(b []byte) [4]uint16 {
	le := binary.LittleEndian
	return [4]uint16{le.Uint16(b[2:]), le.Uint16(b), le.Uint16(b[6:]), le.Uint16(b[4:])}
}
