package ziparchive

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"math"
)

// Signatures and fixed sizes of the records.
const (
	localSignature      = 0x04034b50 // 4.3.7
	descriptorSignature = 0x08074b50 // 4.3.9.3
	centralSignature    = 0x02014b50 // 4.3.12
	end64Signature      = 0x06064b50 // 4.3.14
	locatorSignature    = 0x07064b50 // 4.3.15
	endSignature        = 0x06054b50 // 4.3.16

	localSize   = 30
	centralSize = 46
	end64Size   = 56
	locatorSize = 20
	endSize     = 22

	max16 = math.MaxUint16 // "see the ZIP64 record" in fields of 16 bits (4.4.1.4)
	max32 = math.MaxUint32 // the same in fields of 32 bits
)

var le = binary.LittleEndian

// layout is where the parts of an archive lie, in bytes from its start:
//
//	0 ... prefix | first entry ... last entry | gap | directory | tail | [end64, locator] end, comment
type layout struct {
	reader io.ReaderAt
	size   int64

	// base is added to the offsets that the archive's records give. It is not
	// zero when data was put in front without correcting them.
	base      int64
	first     int64    // the first local header; before it lies the prefix
	last      int64    // where the last entry ends
	directory int64    // the central directory
	tail      int64    // where the central directory ends
	end64     []byte   // the ZIP64 end of central directory record, or nil
	locator   []byte   // the ZIP64 end of central directory locator, or nil
	end       []byte   // the end of central directory record without comment
	physical  []*Entry // by HeaderOffset
}

func malformed(offset int64, field, format string, args ...any) *Error {
	return &Error{Kind: Malformed, Offset: offset, Field: field, Detail: fmt.Sprintf(format, args...)}
}

// read returns n bytes at offset off, which the caller knows to be in range.
func (l *layout) read(off, n int64) ([]byte, error) {
	b := make([]byte, n)
	if err := readFull(l.reader, b, off); err != nil {
		return nil, err
	}
	return b, nil
}

func readFull(r io.ReaderAt, b []byte, off int64) error {
	n, err := r.ReadAt(b, off)
	if n == len(b) {
		return nil
	}
	if err == nil || err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return fmt.Errorf("zip: reading %d bytes at offset %d: %w", len(b), off, err)
}

// locate finds the end of central directory record (4.3.16) and, with the ZIP64
// records (4.3.14, 4.3.15), the central directory. It returns the number of
// entries and the comment.
func (l *layout) locate() (entries uint64, comment []byte, err error) {
	endOffset, comment, err := l.locateEnd()
	if err != nil {
		return 0, nil, err
	}
	entries = uint64(le.Uint16(l.end[10:]))
	size, offset := uint64(le.Uint32(l.end[12:])), uint64(le.Uint32(l.end[16:]))
	disk, directoryDisk, here := uint32(le.Uint16(l.end[4:])), uint32(le.Uint16(l.end[6:])), uint64(le.Uint16(l.end[8:]))

	end64Offset, err := l.locateEnd64(endOffset)
	if err != nil {
		return 0, nil, err
	}
	limit := endOffset // what the central directory has to lie before
	if l.end64 != nil {
		limit = end64Offset
		wide := l.end64
		for _, field := range []struct {
			name     string
			old      uint64
			sentinel uint64
			new      uint64
		}{
			{"number of this disk", uint64(disk), max16, uint64(le.Uint32(wide[16:]))},
			{"disk of the central directory", uint64(directoryDisk), max16, uint64(le.Uint32(wide[20:]))},
			{"number of entries on this disk", here, max16, le.Uint64(wide[24:])},
			{"number of entries", entries, max16, le.Uint64(wide[32:])},
			{"size of the central directory", size, max32, le.Uint64(wide[40:])},
			{"offset of the central directory", offset, max32, le.Uint64(wide[48:])},
		} {
			if field.old != field.new && field.old != field.sentinel {
				return 0, nil, &Error{Kind: Mismatch, Offset: endOffset, Field: field.name, Detail: fmt.Sprintf(
					"the end of central directory record says %d, the ZIP64 record at offset %d says %d", field.old, end64Offset, field.new)}
			}
		}
		disk, directoryDisk = le.Uint32(wide[16:]), le.Uint32(wide[20:])
		here, entries, size, offset = le.Uint64(wide[24:]), le.Uint64(wide[32:]), le.Uint64(wide[40:]), le.Uint64(wide[48:])
	}
	if disk != 0 || directoryDisk != 0 || here != entries {
		return 0, nil, &Error{Kind: MultiDisk, Offset: endOffset, Detail: "this is one part of a split archive; join the parts first (zip -s 0)"}
	}
	if offset > uint64(limit) || size > uint64(limit)-offset {
		return 0, nil, malformed(endOffset, "central directory", "%d bytes at offset %d do not lie before offset %d", size, offset, limit)
	}
	if err := l.placeDirectory(int64(offset), int64(size), limit); err != nil {
		return 0, nil, err
	}
	return entries, comment, nil
}

// locateEnd finds the end of central directory record: the one whose comment
// reaches to the end of the archive.
func (l *layout) locateEnd() (int64, []byte, error) {
	n := min(l.size, endSize+max16)
	window, err := l.read(l.size-n, n)
	if err != nil {
		return 0, nil, err
	}
	signature := le.AppendUint32(nil, endSignature)
	found, near := -1, -1
	for i := len(window); ; {
		if i = bytes.LastIndex(window[:i], signature); i < 0 {
			break
		}
		if len(window)-i < endSize {
			continue
		}
		near = max(near, i)
		if i+endSize+int(le.Uint16(window[i+20:])) != len(window) {
			continue
		}
		if found >= 0 {
			return 0, nil, &Error{Kind: Mismatch, Offset: l.size - n + int64(i), Field: "end of central directory",
				Detail: fmt.Sprintf("there is a second one at offset %d, and programs disagree on which counts", l.size-n+int64(found))}
		}
		found = i
	}
	switch {
	case found >= 0:
		l.end = window[found : found+endSize : found+endSize]
		return l.size - n + int64(found), window[found+endSize:], nil
	case near >= 0:
		return 0, nil, malformed(l.size-n+int64(near), "comment length", "the comment of %d bytes does not reach to the end of the archive, which has %d bytes left: it is cut off or something was added behind it",
			le.Uint16(window[near+20:]), len(window)-near-endSize)
	}
	return 0, nil, &Error{Kind: NotArchive, Offset: -1, Detail: "no end of central directory record in the last 64 KiB: another format, or cut off"}
}

// locateEnd64 reads the ZIP64 records, if a locator lies in front of the end of
// central directory record, and returns the offset of the first.
func (l *layout) locateEnd64(endOffset int64) (int64, error) {
	at := endOffset - locatorSize
	if at < 0 {
		return 0, nil
	}
	locator, err := l.read(at, locatorSize)
	if err != nil {
		return 0, err
	}
	if le.Uint32(locator) != locatorSignature {
		return 0, nil
	}
	if le.Uint32(locator[4:]) != 0 || le.Uint32(locator[16:]) > 1 {
		return 0, &Error{Kind: MultiDisk, Offset: at, Field: "ZIP64 locator", Detail: "this is one part of a split archive; join the parts first (zip -s 0)"}
	}
	stated := le.Uint64(locator[8:])
	// Where data was put in front, the record is not where the locator says but
	// directly before the locator, without the extensible data sector that
	// nobody writes.
	for _, offset := range []uint64{stated, uint64(at) - end64Size} {
		if offset > uint64(at) || uint64(at)-offset < end64Size {
			continue
		}
		record, err := l.read(int64(offset), end64Size)
		if err != nil {
			return 0, err
		}
		if le.Uint32(record) != end64Signature || le.Uint64(record[4:]) != uint64(at)-offset-12 {
			continue
		}
		if length := uint64(at) - offset; length > end64Size {
			if length > max16 {
				return 0, malformed(int64(offset), "size of the ZIP64 end of central directory record", "%d bytes are more than the %d that are allowed", length, max16)
			}
			if record, err = l.read(int64(offset), int64(length)); err != nil {
				return 0, err
			}
		}
		if offset < stated {
			break
		}
		l.end64, l.locator, l.base = record, locator, int64(offset-stated)
		return int64(offset), nil
	}
	return 0, malformed(at, "ZIP64 locator", "there is no ZIP64 end of central directory record at offset %d that reaches to the locator", stated)
}

// placeDirectory decides where the central directory of size bytes lies whose
// offset is stated. It should reach to limit; if it does not, either data was
// put in front of the archive, or there is something behind the directory.
func (l *layout) placeDirectory(stated, size, limit int64) error {
	if l.end64 == nil && size > 0 {
		slack := limit - size - stated
		atStated, err := l.hasDirectory(stated)
		if err != nil {
			return err
		}
		atLimit, err := l.hasDirectory(limit - size)
		if err != nil {
			return err
		}
		if slack > 0 && atStated && atLimit {
			return &Error{Kind: Mismatch, Offset: stated, Field: "central directory",
				Detail: fmt.Sprintf("there is a second one at offset %d, and programs disagree on which counts", limit-size)}
		}
		if !atStated {
			l.base = slack
		}
	}
	if l.end64 == nil && size == 0 {
		l.base = limit - stated
	}
	l.directory = l.base + stated
	l.tail = l.directory + size
	if l.tail > limit {
		return malformed(l.directory, "central directory", "%d bytes do not lie before offset %d", size, limit)
	}
	return nil
}

func (l *layout) hasDirectory(at int64) (bool, error) {
	if at+4 > l.size {
		return false, nil
	}
	b, err := l.read(at, 4)
	return err == nil && le.Uint32(b) == centralSignature, err
}

// endOffset is where the first of the end records starts.
func (l *layout) endOffset(comment []byte) int64 {
	return l.size - int64(len(comment)+len(l.end)+len(l.locator)+len(l.end64))
}

// Prefix returns the bytes before the first entry, such as the program of a
// self-extracting archive.
func (a *Archive) Prefix() *io.SectionReader { return io.NewSectionReader(a.reader, 0, a.first) }

// DirectoryGap returns the bytes between the last entry and the central
// directory, such as an APK Signing Block.
func (a *Archive) DirectoryGap() *io.SectionReader {
	return io.NewSectionReader(a.reader, a.last, a.directory-a.last)
}

// DirectoryOffset returns where the central directory starts, in bytes from the
// archive's start.
func (a *Archive) DirectoryOffset() int64 { return a.directory }

// EndOffset returns where the central directory and what may lie behind it ends
// and the end of central directory records start.
func (a *Archive) EndOffset() int64 { return a.endOffset(a.Comment) }

// Size returns the number of bytes of the archive.
func (a *Archive) Size() int64 { return a.size }
