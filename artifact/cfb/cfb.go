// Package cfb reads OLE compound files, the container of Windows Installer
// packages and binary Office documents ([MS-CFB] of Microsoft's Open
// Specifications), and the summary information in them ([MS-OLEPS]).
//
// It trusts no file: what it reads and holds is bounded, whatever the file says.
package cfb

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf16"
)

// Error says what is wrong with a file, and where.
type Error struct {
	Offset int64 // in bytes from the start, or -1
	Detail string
}

func (e *Error) Error() string {
	if e.Offset < 0 {
		return "compound file: " + e.Detail
	}
	return fmt.Sprintf("compound file: at offset %d: %s", e.Offset, e.Detail)
}

// ErrNoStream is returned for a stream that the file does not have.
var ErrNoStream = errors.New("compound file: there is no such stream")

const (
	signature  = "\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" // 2.2
	headerSize = 512
	entrySize  = 128 // of a directory entry (2.6.1)
	miniCutoff = 4096
	miniShift  = 6

	maxRegular   = 0xfffffffa // highest sector number (2.1)
	endOfChain   = 0xfffffffe
	inHeader     = 109     // entries of the DIFAT that the header has
	maxEntries   = 1 << 16 // of the directory
	maxMiniChain = 1 << 18 // sectors of the mini FAT and of the mini stream

	typeStream = 2
	typeRoot   = 5
)

var le = binary.LittleEndian

// File is an opened compound file. It is safe for concurrent use.
type File struct {
	r     io.ReaderAt
	size  int64
	shift uint     // a sector has 1<<shift bytes
	fat   []uint32 // sectors in which the FAT lies (2.3, 2.5)

	entries   []entry
	miniFAT   []uint32 // sectors of the mini FAT (2.4)
	miniChain []uint32 // sectors of the mini stream
}

// entry is a directory entry (2.6.1).
type entry struct {
	name               string
	kind               byte
	left, right, child uint32
	start              uint32
	size               int64
}

// Open reads header and directory. Errors are *Error, or those of r.
func Open(r io.ReaderAt, size int64) (*File, error) {
	f := &File{r: r, size: size}
	header := make([]byte, headerSize)
	if err := f.read(header, 0); err != nil {
		return nil, err
	}
	version, shift := le.Uint16(header[26:]), le.Uint16(header[30:])
	switch {
	case string(header[:8]) != signature:
		return nil, &Error{0, "the signature is not that of a compound file"}
	case le.Uint16(header[28:]) != 0xfffe:
		return nil, &Error{28, "the byte order is not little-endian"}
	case version == 3 && shift != 9, version == 4 && shift != 12, version != 3 && version != 4:
		return nil, &Error{26, fmt.Sprintf("major version %d with sectors of 2^%d bytes is not known", version, shift)}
	case le.Uint16(header[32:]) != miniShift, le.Uint32(header[56:]) != miniCutoff:
		return nil, &Error{32, "the size of mini sectors or of streams in them is not the standard one"}
	}
	f.shift = uint(shift)
	if err := f.readFAT(header); err != nil {
		return nil, err
	}
	if err := f.readDirectory(le.Uint32(header[48:])); err != nil {
		return nil, err
	}
	root := &f.entries[0]
	sectors := f.sectors(root.size)
	if sectors == 0 {
		return f, nil
	}
	var err error
	if f.miniFAT, err = f.chain(le.Uint32(header[60:]), int64(le.Uint32(header[64:])), maxMiniChain); err != nil {
		return nil, err
	}
	f.miniChain, err = f.chain(root.start, sectors, maxMiniChain)
	return f, err
}

// read fills b from an offset.
func (f *File) read(b []byte, offset int64) error {
	if offset < 0 || offset > f.size-int64(len(b)) {
		return &Error{offset, fmt.Sprintf("%d bytes should be here; the file ends at %d", len(b), f.size)}
	}
	n, err := f.r.ReadAt(b, offset)
	if n == len(b) {
		return nil
	}
	if err == nil || errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return fmt.Errorf("compound file: reading at offset %d: %w", offset, err)
}

// sectors is how many sectors hold so many bytes.
func (f *File) sectors(size int64) int64 { return (size + 1<<f.shift - 1) >> f.shift }

// offset is where a sector lies: the header takes the place of one (2.2).
func (f *File) offset(sector uint32) int64 { return (int64(sector) + 1) << f.shift }

// readFAT lists the sectors of the FAT: those in the header, and those in the
// chain of DIFAT sectors (2.5).
func (f *File) readFAT(header []byte) error {
	count := int64(le.Uint32(header[44:]))
	perSector := int64(1) << f.shift / 4
	if count > f.sectors(f.size)/perSector+1 {
		return &Error{44, fmt.Sprintf("%d FAT sectors are more than the file can need", count)}
	}
	f.fat = make([]uint32, 0, count)
	add := func(list []byte) {
		for ; len(list) >= 4 && int64(len(f.fat)) < count; list = list[4:] {
			f.fat = append(f.fat, le.Uint32(list))
		}
	}
	add(header[76:])
	next := le.Uint32(header[68:])
	for sector := make([]byte, 1<<f.shift); int64(len(f.fat)) < count; next = le.Uint32(sector[len(sector)-4:]) {
		// Each turn adds to fat: a cycle ends, too.
		if err := f.read(sector, f.offset(next)); err != nil {
			return err
		}
		add(sector[:len(sector)-4])
	}
	return nil
}

// next returns the sector that follows one in its chain.
func (f *File) next(sector uint32) (uint32, error) {
	perSector := uint32(1) << f.shift / 4
	if int64(sector/perSector) >= int64(len(f.fat)) {
		return 0, &Error{-1, fmt.Sprintf("sector %d is not in the FAT", sector)}
	}
	var b [4]byte
	if err := f.read(b[:], f.offset(f.fat[sector/perSector])+4*int64(sector%perSector)); err != nil {
		return 0, err
	}
	return le.Uint32(b[:]), nil
}

// chain lists the sectors of a chain of known length, of which there are at most
// limit. What a chain has beyond that is ignored.
func (f *File) chain(start uint32, length, limit int64) ([]uint32, error) {
	if length > limit || length > f.sectors(f.size) {
		return nil, &Error{-1, fmt.Sprintf("a chain of %d sectors is longer than the file can need", length)}
	}
	sectors := make([]uint32, 0, length)
	for sector := start; int64(len(sectors)) < length; {
		if sector > maxRegular {
			return nil, &Error{-1, fmt.Sprintf("a chain of sectors ends after %d of %d", len(sectors), length)}
		}
		sectors = append(sectors, sector)
		if int64(len(sectors)) == length {
			break
		}
		var err error
		if sector, err = f.next(sector); err != nil {
			return nil, err
		}
	}
	return sectors, nil
}

// readDirectory reads the directory, whose length only its chain tells (2.6).
func (f *File) readDirectory(start uint32) error {
	sector := make([]byte, 1<<f.shift)
	for at := start; at != endOfChain; {
		if at > maxRegular {
			return &Error{48, "the chain of the directory is broken"}
		}
		if n := len(f.entries); n >= maxEntries || int64(n)*entrySize > f.size {
			return &Error{f.offset(at), fmt.Sprintf("the directory has more than the %d entries that are allowed, or is a cycle", n)}
		}
		if err := f.read(sector, f.offset(at)); err != nil {
			return err
		}
		for raw := sector; len(raw) > 0; raw = raw[entrySize:] {
			f.entries = append(f.entries, f.parseEntry(raw))
		}
		var err error
		if at, err = f.next(at); err != nil {
			return err
		}
	}
	if len(f.entries) == 0 || f.entries[0].kind != typeRoot {
		return &Error{f.offset(start), "the directory does not begin with the root"}
	}
	return nil
}

func (f *File) parseEntry(raw []byte) entry {
	length := min(le.Uint16(raw[64:]), 64) // in bytes, with a terminating zero
	units := make([]uint16, 0, 32)
	for i := 0; i+2 < int(length); i += 2 {
		units = append(units, le.Uint16(raw[i:]))
	}
	e := entry{
		name: string(utf16.Decode(units)), kind: raw[66],
		left: le.Uint32(raw[68:]), right: le.Uint32(raw[72:]), child: le.Uint32(raw[76:]),
		start: le.Uint32(raw[116:]), size: int64(le.Uint32(raw[120:])),
	}
	if f.shift != 9 { // the upper half is undefined in version 3
		e.size |= int64(le.Uint32(raw[124:])&0x7fffffff) << 32
	}
	return e
}

// Stream reads a stream of the root storage; upper and lower case are the same.
// It has at most limit bytes. Errors are ErrNoStream, *Error, or those of
// reading.
func (f *File) Stream(name string, limit int64) ([]byte, error) {
	e, err := f.find(name)
	if err != nil {
		return nil, err
	}
	if e.size > limit {
		return nil, &Error{-1, fmt.Sprintf("the stream %q has %d bytes; at most %d are read", name, e.size, limit)}
	}
	if e.size < miniCutoff {
		return f.miniStream(e)
	}
	chain, err := f.chain(e.start, f.sectors(e.size), 1<<32)
	if err != nil {
		return nil, err
	}
	content := make([]byte, e.size)
	for i, sector := range chain {
		start := int64(i) << f.shift
		if err := f.read(content[start:min(start+1<<f.shift, e.size)], f.offset(sector)); err != nil {
			return nil, err
		}
	}
	return content, nil
}

// find walks the tree of the root storage's entries (2.6.4). It is not searched
// in its order, so that a name that is there twice is found out.
func (f *File) find(name string) (found *entry, err error) {
	visited := make([]bool, len(f.entries))
	for open := []uint32{f.entries[0].child}; len(open) > 0; {
		i := open[len(open)-1]
		open = open[:len(open)-1]
		if int64(i) >= int64(len(f.entries)) || visited[i] { // noStream, or damaged
			continue
		}
		visited[i] = true
		e := &f.entries[i]
		if e.kind == typeStream && strings.EqualFold(e.name, name) {
			if found != nil {
				return nil, &Error{-1, fmt.Sprintf("the stream %q is there twice", name)}
			}
			found = e
		}
		open = append(open, e.left, e.right)
	}
	if found == nil {
		return nil, ErrNoStream
	}
	return found, nil
}

// miniStream reads a stream whose sectors lie in the mini stream (2.4).
func (f *File) miniStream(e *entry) ([]byte, error) {
	content := make([]byte, 0, e.size)
	sector := e.start
	for int64(len(content)) < e.size {
		at := int64(sector) << miniShift
		if i := at >> f.shift; sector > maxRegular || i >= int64(len(f.miniChain)) {
			return nil, &Error{-1, fmt.Sprintf("the stream %q ends after %d of %d bytes", e.name, len(content), e.size)}
		}
		piece := make([]byte, min(1<<miniShift, e.size-int64(len(content))))
		if err := f.read(piece, f.offset(f.miniChain[at>>f.shift])+at&(1<<f.shift-1)); err != nil {
			return nil, err
		}
		content = append(content, piece...)
		entry := int64(sector) * 4
		if entry>>f.shift >= int64(len(f.miniFAT)) {
			return nil, &Error{-1, fmt.Sprintf("mini sector %d is not in the mini FAT", sector)}
		}
		var next [4]byte
		if err := f.read(next[:], f.offset(f.miniFAT[entry>>f.shift])+entry&(1<<f.shift-1)); err != nil {
			return nil, err
		}
		sector = le.Uint32(next[:])
	}
	return content, nil
}
