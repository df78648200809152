package ziparchive

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"
)

// maxRefused is how many problems one archive is told about at once.
const maxRefused = 50

// check reads the structure of an archive and collects what is wrong with it.
type check struct {
	archive *Archive
	limits  Limits
	allow   []Kind
	refused []error
}

// tolerable are the kinds that Options.Allow may name.
var tolerable = []Kind{Gap, DirectoryGap, Encrypted, DuplicateName, CaseCollision, Traversal, AbsolutePath, Backslash, InvalidName}

func (c *check) report(e *Error) {
	switch {
	case slices.Contains(c.allow, e.Kind) && slices.Contains(tolerable, e.Kind):
		c.archive.problems = append(c.archive.problems, e)
	case len(c.refused) < maxRefused:
		c.refused = append(c.refused, e)
	}
}

func exceeded(offset int64, field string, have, limit int64) *Error {
	return &Error{Kind: LimitExceeded, Offset: offset, Field: field, Detail: fmt.Sprintf("%d, the limit is %d", have, limit)}
}

// readDirectory reads the central directory (4.3.12), which has count headers.
func (c *check) readDirectory(count uint64) error {
	a := c.archive
	size := a.tail - a.directory
	switch {
	case size > c.limits.DirectorySize:
		return exceeded(a.directory, "size of the central directory", size, c.limits.DirectorySize)
	case count > uint64(c.limits.Entries):
		return exceeded(a.directory, "number of entries", int64(min(count, 1<<62)), int64(c.limits.Entries))
	case count > uint64(size)/centralSize:
		return malformed(a.directory, "number of entries", "%d entries do not fit in a central directory of %d bytes", count, size)
	}
	rest, err := a.read(a.directory, size)
	if err != nil {
		return err
	}
	entries := make([]Entry, count)
	a.Entries = make([]*Entry, count)
	var total int64
	for i := range entries {
		at := a.tail - int64(len(rest))
		if len(rest) < centralSize || le.Uint32(rest) != centralSignature {
			return malformed(at, "central directory header", "number %d of %d is not here or is cut off", i+1, count)
		}
		length := centralSize + int(le.Uint16(rest[28:])) + int(le.Uint16(rest[30:])) + int(le.Uint16(rest[32:]))
		if length > len(rest) {
			return malformed(at, "central directory header", "number %d of %d has %d bytes, the directory ends after %d", i+1, count, length, len(rest))
		}
		e := &entries[i]
		a.Entries[i] = e
		e.archive, e.index, e.record = a, i, rest[:length:length]
		rest = rest[length:]
		if err := c.readEntry(e, at); err != nil {
			return err
		}
		if total += e.Size; total < 0 || total > c.limits.Uncompressed {
			return exceeded(at, "uncompressed size of all entries", total, c.limits.Uncompressed)
		}
	}
	if len(rest) > 0 {
		return malformed(a.tail-int64(len(rest)), "size of the central directory", "%d bytes follow its %d headers", len(rest), count)
	}
	return nil
}

// readEntry fills e from its central directory header, which lies at offset at.
func (c *check) readEntry(e *Entry, at int64) error {
	raw := e.RawName()
	if len(raw) > c.limits.NameLength {
		return exceeded(at, "bytes of a name", int64(len(raw)), int64(c.limits.NameLength))
	}
	e.Flags, e.Method, e.CRC32 = le.Uint16(e.record[8:]), le.Uint16(e.record[10:]), le.Uint32(e.record[16:])
	name, ok := decodeName(raw, e.Flags, e.host(), e.Extra())
	e.Name = name
	w, disk, field, complete := readWide(e.record, e.Extra())
	switch {
	case !complete:
		return e.fail(Malformed, at, field, "the ZIP64 extra field is missing, too short or out of range")
	case disk != 0:
		return e.fail(MultiDisk, at, "disk number start", "this is one part of a split archive; join the parts first (zip -s 0)")
	case w.offset > e.archive.directory-e.archive.base-localSize:
		return e.fail(Malformed, at, "local header offset", fmt.Sprintf("%d is not before the central directory at offset %d", w.offset, e.archive.directory))
	}
	e.Size, e.CompressedSize, e.HeaderOffset = w.size, w.compressed, w.offset+e.archive.base

	if e.Flags&flagsEncrypted != 0 {
		c.report(e.fail(Encrypted, e.HeaderOffset, "general purpose flags", "its content can be neither read nor signed; remove the encryption"))
	} else if e.Method == Stored && e.Size != e.CompressedSize {
		return e.fail(Mismatch, at, "compressed size", fmt.Sprintf("stored content has %d bytes, its data %d", e.Size, e.CompressedSize))
	}
	if e.Size > c.limits.RatioFloor && e.Size/c.limits.Ratio >= max(e.CompressedSize, 1) {
		return e.fail(LimitExceeded, at, "compression ratio", fmt.Sprintf("%d bytes of data become %d, more than %d times as many", e.CompressedSize, e.Size, c.limits.Ratio))
	}
	if !ok {
		c.report(e.fail(InvalidName, at, "file name", "it is declared as UTF-8 and is not"))
	}
	problems := checkName(name)
	if string(raw) != name && isASCII(raw) { // a program that ignores the Unicode Path field takes this one
		problems = append(problems, checkName(string(raw))...)
	}
	for _, p := range problems {
		c.report(e.fail(p.kind, at, "file name", p.detail))
	}
	return nil
}

// readLocals compares every local header (4.3.7) with the central directory and
// sees to it that each byte belongs to one entry.
func (c *check) readLocals() error {
	a := c.archive
	a.physical = slices.Clone(a.Entries)
	slices.SortStableFunc(a.physical, func(x, y *Entry) int { return cmp.Compare(x.HeaderOffset, y.HeaderOffset) })
	a.first, a.last = a.directory, a.directory
	if len(a.physical) > 0 {
		a.first = a.physical[0].HeaderOffset
	}
	w := &window{layout: &a.layout}
	for i, e := range a.physical {
		limit, following := a.directory, "the central directory"
		if i+1 < len(a.physical) {
			limit, following = a.physical[i+1].HeaderOffset, fmt.Sprintf("entry %q", a.physical[i+1].Name)
		}
		if err := e.readLocal(w, limit, following); err != nil {
			return err
		}
		e.next = limit
		gap := limit - e.End
		if i+1 == len(a.physical) {
			a.last, e.next = e.End, e.End
			if gap > 0 {
				c.report(&Error{Kind: DirectoryGap, Offset: e.End, Detail: fmt.Sprintf("%d bytes belong to no entry", gap)})
			}
		} else if gap > 0 {
			c.report(&Error{Kind: Gap, Offset: e.End, Detail: fmt.Sprintf("%d bytes between the entries %q and %q belong to nothing", gap, e.Name, a.physical[i+1].Name)})
		}
	}
	return nil
}

// readLocal reads the local header of e, compares it, and finds where the
// entry's data and data descriptor lie. All of it has to lie before limit, where
// something else starts.
func (e *Entry) readLocal(w *window, limit int64, following string) error {
	overlap := func(what string, end int64) error {
		return e.fail(Overlap, e.HeaderOffset, what, fmt.Sprintf("it reaches to offset %d, %s starts at offset %d", end, following, limit))
	}
	if limit-e.HeaderOffset < localSize {
		return overlap("local header", e.HeaderOffset+localSize)
	}
	header, err := w.at(e.HeaderOffset, localSize)
	if err != nil {
		return err
	}
	if le.Uint32(header) != localSignature {
		return e.fail(Malformed, e.HeaderOffset, "local header", "there is none at the offset that the central directory gives")
	}
	length := localSize + int64(le.Uint16(header[26:])) + int64(le.Uint16(header[28:]))
	e.DataOffset = e.HeaderOffset + length
	if e.DataOffset > limit {
		return overlap("local header", e.DataOffset)
	}
	if e.CompressedSize > limit-e.DataOffset {
		return overlap("data", e.DataOffset+e.CompressedSize)
	}
	if header, err = w.at(e.HeaderOffset, length); err != nil {
		return err
	}
	mismatch := func(field string, local, central any) error {
		return e.fail(Mismatch, e.HeaderOffset, field, fmt.Sprintf("the local header says %v, the central directory %v", local, central))
	}
	name, extra := header[localSize:][:le.Uint16(header[26:])], header[length-int64(le.Uint16(header[28:])):]
	flags, method := le.Uint16(header[6:]), le.Uint16(header[8:])
	compare := uint16(flagsEncrypted)
	if !isASCII(name) {
		compare |= flagUTF8
	}
	switch {
	case !bytes.Equal(name, e.RawName()):
		return mismatch("file name", fmt.Sprintf("%q", name), fmt.Sprintf("%q", e.RawName()))
	case method != e.Method:
		return mismatch("compression method", method, e.Method)
	case (flags^e.Flags)&compare != 0:
		return mismatch("general purpose flags", fmt.Sprintf("%#04x", flags), fmt.Sprintf("%#04x", e.Flags))
	}

	crc, compressed, size := le.Uint32(header[14:]), uint64(le.Uint32(header[18:])), uint64(le.Uint32(header[22:]))
	wide, count := findExtra(extra, zip64Extra)
	if compressed == max32 || size == max32 {
		if count != 1 || len(wide) < 16 {
			// A local header with sizes in the ZIP64 field has both of them there (4.5.3).
			return e.fail(Malformed, e.HeaderOffset, "ZIP64 extra field of the local header", "it is missing, too short or there are two")
		}
		if size == max32 {
			size = le.Uint64(wide)
		}
		if compressed == max32 {
			compressed = le.Uint64(wide[8:])
		}
	}
	known := crc == e.CRC32 && compressed == uint64(e.CompressedSize) && size == uint64(e.Size)
	end := e.DataOffset + e.CompressedSize
	if flags&flagDescriptor == 0 {
		switch {
		case known || flags&flagMasked != 0:
		case crc != e.CRC32:
			return mismatch("CRC-32", fmt.Sprintf("%08x", crc), fmt.Sprintf("%08x", e.CRC32))
		case compressed != uint64(e.CompressedSize):
			return mismatch("compressed size", compressed, e.CompressedSize)
		default:
			return mismatch("uncompressed size", size, e.Size)
		}
		e.End = end
		return nil
	}
	// With a data descriptor to follow the values here are zero (4.4.4), but
	// some programs know and write them.
	if crc != 0 && crc != e.CRC32 || compressed != 0 && compressed != uint64(e.CompressedSize) || size != 0 && size != uint64(e.Size) {
		return mismatch("CRC-32 and sizes", fmt.Sprintf("%08x, %d, %d", crc, compressed, size),
			fmt.Sprintf("%08x, %d, %d", e.CRC32, e.CompressedSize, e.Size))
	}
	tail, err := w.at(end, min(24, limit-end))
	if err != nil {
		return err
	}
	n, ok := e.descriptor(tail, count > 0, known, limit-end)
	if !ok {
		return e.fail(Mismatch, end, "data descriptor", fmt.Sprintf("there is none that repeats CRC-32 %08x, compressed size %d and size %d of the central directory", e.CRC32, e.CompressedSize, e.Size))
	}
	e.End = end + n
	return nil
}

// descriptor returns how long the data descriptor (4.3.9) at the start of tail
// is: with or without signature, with sizes of 32 or 64 bits, and left out by a
// few programs that wrote the values (known) into the local header. Only one
// that repeats the values counts, and of those preferably the one that ends at
// room, where the next thing starts.
func (e *Entry) descriptor(tail []byte, zip64, known bool, room int64) (length int64, ok bool) {
	narrow := le.AppendUint32(le.AppendUint32(le.AppendUint32(nil, e.CRC32), uint32(e.CompressedSize)), uint32(e.Size))
	wide := le.AppendUint64(le.AppendUint64(le.AppendUint32(nil, e.CRC32), uint64(e.CompressedSize)), uint64(e.Size))
	forms := [][]byte{narrow, wide}
	if zip64 { // 4.3.9.2
		slices.Reverse(forms)
	}
	signature := le.AppendUint32(nil, descriptorSignature)
	for _, prefix := range [][]byte{signature, nil} {
		for _, form := range forms {
			if len(form) == len(narrow) && (e.CompressedSize > max32 || e.Size > max32) {
				continue
			}
			candidate := slices.Concat(prefix, form)
			if !bytes.HasPrefix(tail, candidate) {
				continue
			}
			n := int64(len(candidate))
			if n == room {
				return n, true
			}
			if !ok {
				length, ok = n, true
			}
		}
	}
	if !ok && room == 0 && known {
		return 0, true
	}
	return length, ok
}

// window reads the archive forward in pieces that are not too small.
type window struct {
	layout *layout
	start  int64
	buffer []byte
	held   []byte
}

const windowSize = 16 << 10

// at returns n bytes at offset off. They are valid until the next call.
func (w *window) at(off, n int64) ([]byte, error) {
	if off < w.start || off+n > w.start+int64(len(w.held)) {
		want := min(max(n, windowSize), w.layout.size-off)
		if int64(cap(w.buffer)) < want {
			w.buffer = make([]byte, want)
		}
		w.held, w.start = w.buffer[:want], off
		if err := readFull(w.layout.reader, w.held, off); err != nil {
			w.held = nil
			return nil, err
		}
	}
	return w.held[off-w.start:][:n], nil
}
