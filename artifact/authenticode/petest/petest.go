// Package petest makes small PE images for tests.
package petest

import (
	"bytes"
	"encoding/binary"
	"slices"
	"unicode/utf16"
)

// Values of Image.Machine and Image.Subsystem ("PE Format").
const (
	MachineI386  = 0x14c
	MachineAMD64 = 0x8664
	MachineARM64 = 0xaa64

	SubsystemNative  = 1
	SubsystemConsole = 3
	SubsystemEFI     = 10
)

// Image says what image to make. The zero value is a valid PE32+ console program
// with one section.
type Image struct {
	PE32      bool   // PE32, not PE32+
	Machine   uint16 // MachineAMD64, or MachineI386 for PE32, when zero
	Subsystem uint16 // SubsystemConsole when zero
	Sections  [][]byte
	Gap       int               // octets between headers and the first section
	Version   map[string]string // makes a version resource with these strings
	Overlay   []byte            // behind the last section
}

const (
	// OffsetPE is e_lfanew of all images made here.
	OffsetPE      = 0x80
	fileAlignment = 0x200
	pageSize      = 0x1000
)

// Bytes returns the image.
func (image Image) Bytes() []byte {
	sections := slices.Clone(image.Sections)
	if len(sections) == 0 {
		sections = [][]byte{bytes.Repeat([]byte{0xc3}, 100)} // ret
	}
	resourceAt := uint32(0)
	if image.Version != nil {
		resourceAt = uint32(pageSize)
		for _, s := range sections {
			resourceAt += uint32(align(len(s), pageSize))
		}
		sections = append(sections, resource(resourceAt, image.Version))
	}
	directories, magic, machine := 112, uint16(0x20b), uint16(MachineAMD64)
	if image.PE32 {
		directories, magic, machine = 96, 0x10b, MachineI386
	}
	if image.Machine != 0 {
		machine = image.Machine
	}
	subsystem := image.Subsystem
	if subsystem == 0 {
		subsystem = SubsystemConsole
	}
	optional := make([]byte, directories+16*8)
	headersSize := align(OffsetPE+24+len(optional)+40*len(sections), fileAlignment)

	le := binary.LittleEndian
	file := make([]byte, headersSize+image.Gap)
	copy(file, "MZ")
	le.PutUint32(file[60:], OffsetPE)
	copy(file[OffsetPE:], "PE\x00\x00")
	le.PutUint16(file[OffsetPE+4:], machine)
	le.PutUint16(file[OffsetPE+6:], uint16(len(sections)))
	le.PutUint16(file[OffsetPE+20:], uint16(len(optional)))
	le.PutUint16(file[OffsetPE+22:], 0x22) // executable, large addresses

	table := OffsetPE + 24 + len(optional)
	address := uint32(pageSize)
	for i, s := range sections {
		raw := make([]byte, align(len(s), fileAlignment))
		copy(raw, s)
		header := file[table+40*i:]
		copy(header[:8], ".s"+string(rune('0'+i)))
		le.PutUint32(header[8:], uint32(len(s)))
		le.PutUint32(header[12:], address)
		le.PutUint32(header[16:], uint32(len(raw)))
		le.PutUint32(header[20:], uint32(len(file)))
		le.PutUint32(header[36:], 0x60000020)
		file = append(file, raw...)
		address += uint32(align(len(s), pageSize))
	}

	le.PutUint16(optional, magic)
	le.PutUint32(optional[16:], pageSize)
	le.PutUint32(optional[32:], pageSize)
	le.PutUint32(optional[36:], fileAlignment)
	le.PutUint16(optional[40:], 6)
	le.PutUint16(optional[48:], 6)
	le.PutUint32(optional[56:], address)
	le.PutUint32(optional[60:], uint32(headersSize))
	le.PutUint16(optional[68:], subsystem)
	le.PutUint32(optional[directories-4:], 16)
	if resourceAt != 0 {
		le.PutUint32(optional[directories+16:], resourceAt)
		le.PutUint32(optional[directories+20:], uint32(len(sections[len(sections)-1])))
	}
	copy(file[OffsetPE+24:], optional)
	return append(file, image.Overlay...)
}

func align(n, to int) int { return (n + to - 1) / to * to }

// resource makes a resource section with one version resource.
func resource(address uint32, values map[string]string) []byte {
	le := binary.LittleEndian
	var b []byte
	directory := func(id, child uint32) {
		b = append(b, make([]byte, 14)...)
		b = le.AppendUint16(b, 1) // entries by number
		b = le.AppendUint32(b, id)
		b = le.AppendUint32(b, child)
	}
	directory(16, 1<<31|24) // RT_VERSION
	directory(1, 1<<31|48)
	directory(1033, 72)
	version := versionInfo(values)
	b = le.AppendUint32(b, address+88)
	b = le.AppendUint32(b, uint32(len(version)))
	b = append(b, make([]byte, 8)...)
	return append(b, version...)
}

func versionInfo(values map[string]string) []byte {
	fixed := make([]byte, 52)
	le := binary.LittleEndian
	le.PutUint32(fixed, 0xfeef04bd)
	le.PutUint32(fixed[8:], 1<<16|2)
	le.PutUint32(fixed[12:], 3<<16|4)
	le.PutUint32(fixed[16:], 5<<16|6)
	le.PutUint32(fixed[20:], 7<<16|8)
	var table []byte
	names := make([]string, 0, len(values))
	for name := range values {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		value := utf16Bytes(values[name])
		table = pad(append(table, node(name, true, value, nil)...))
	}
	info := node("StringFileInfo", true, nil, node("040904b0", true, nil, table))
	return node("VS_VERSION_INFO", false, fixed, info)
}

// node makes one block of a version resource.
func node(key string, text bool, value, children []byte) []byte {
	le := binary.LittleEndian
	b := make([]byte, 6)
	if text {
		le.PutUint16(b[2:], uint16(len(value)/2))
		le.PutUint16(b[4:], 1)
	} else {
		le.PutUint16(b[2:], uint16(len(value)))
	}
	b = pad(append(b, utf16Bytes(key)...))
	b = append(b, value...)
	if len(children) > 0 {
		b = append(pad(b), children...)
	}
	le.PutUint16(b, uint16(len(b)))
	return b
}

func pad(b []byte) []byte { return append(b, make([]byte, -len(b)&3)...) }

// utf16Bytes encodes text with a NUL behind it.
func utf16Bytes(text string) []byte {
	var b []byte
	for _, unit := range append(utf16.Encode([]rune(text)), 0) {
		b = binary.LittleEndian.AppendUint16(b, unit)
	}
	return b
}
