package ziparchive

import (
	"bufio"
	"io"
	"io/fs"

	"github.com/countersign-dev/countersign/artifact/spool"
)

// Versions needed to extract (4.4.3.2).
const (
	versionDeflate = 20
	versionZIP64   = 45
)

// madeBy is "version made by" of entries that are added: Unix, and the version
// of the specification (4.4.2).
const madeBy = hostUnix<<8 | 63

// writer is one run of WriteTo.
type writer struct {
	patch   *Patch
	archive *Archive
	dst     io.Writer
	small   *bufio.Writer // before dst, for what is not worth a call
	n       int64         // bytes written to both
	from    int64         // bytes of the archive that were not yet copied: the run that
	to      int64         // ends with the latest unchanged entry
	offsets []int64
	added   map[*Entry][][]byte // central directory headers of insertions, by the entry behind them
}

// WriteTo writes the changed archive to w, entries in the order in which their
// data lies in the original. The output depends on nothing but the archive and
// the changes; without changes it is the original, byte for byte. Runs of
// unchanged entries are one copy, made by the kernel when w and the archive are
// both an *os.File. What it writes into changed entries is stated in front of
// their data: they have no data descriptor.
func (p *Patch) WriteTo(dst io.Writer) (int64, error) {
	a := p.archive
	w := &writer{
		patch: p, archive: a, dst: dst, small: bufio.NewWriterSize(dst, bufferSize), to: a.first,
		offsets: make([]int64, len(a.Entries)),
		added:   make(map[*Entry][][]byte),
	}
	err := w.writeEntries()
	if err == nil {
		err = w.writeDirectory()
	}
	if err == nil {
		err = w.small.Flush()
	}
	return w.n - int64(w.small.Buffered()), err
}

const bufferSize = 64 << 10

func (w *writer) write(b []byte) error {
	n, err := w.small.Write(b)
	w.n += int64(n)
	return err
}

func (w *writer) copyFrom(src io.ReaderAt, off, n int64) error {
	if n == 0 {
		return nil
	}
	var dst io.Writer = w.small
	if n > bufferSize/2 {
		if err := w.small.Flush(); err != nil {
			return err
		}
		dst = w.dst // the kernel may do it
	}
	written, err := spool.CopyRange(dst, src, off, n)
	w.n += written
	return err
}

// flush copies the pending run.
func (w *writer) flush() error {
	err := w.copyFrom(w.archive.reader, w.from, w.to-w.from)
	w.from = w.to
	return err
}

// keep adds the bytes from one offset of the archive to another to the pending
// run.
func (w *writer) keep(from, to int64) error {
	if from != w.to {
		if err := w.flush(); err != nil {
			return err
		}
		w.from = from
	}
	w.to = to
	return nil
}

// position is where in the output the next byte comes to lie.
func (w *writer) position() int64 { return w.n + w.to - w.from }

func (w *writer) writeEntries() error {
	p := w.patch
	for _, e := range w.archive.physical {
		if err := w.insertBefore(e); err != nil {
			return err
		}
		if p.removed[e] {
			continue
		}
		w.offsets[e.index] = w.position()
		var err error
		if content := p.replaced[e]; content != nil {
			err = w.writeReplaced(e, content)
		} else if alignment := w.alignment(e.Name, e.Method); alignment > 1 && (w.position()+e.DataOffset-e.HeaderOffset)%alignment != 0 {
			err = w.writeAligned(e, alignment)
		} else {
			err = w.keep(e.HeaderOffset, e.next)
		}
		if err != nil {
			return err
		}
	}
	if err := w.insertBefore(nil); err != nil {
		return err
	}
	if !p.gapSet {
		if err := w.keep(w.archive.last, w.archive.directory); err != nil {
			return err
		}
		return w.flush()
	}
	if err := w.flush(); err != nil {
		return err
	}
	if len(p.gap) == 0 {
		return nil
	}
	return w.write(p.gap)
}

func (w *writer) alignment(name string, method uint16) int64 {
	if w.patch.Align == nil || method != Stored {
		return 1
	}
	return w.patch.Align(name)
}

// localHeader returns a copy of e's local header with name and extra field.
func (e *Entry) localHeader() ([]byte, error) {
	return e.archive.read(e.HeaderOffset, e.DataOffset-e.HeaderOffset)
}

// localExtra returns the extra field of a whole local header.
func localExtra(header []byte) []byte {
	return header[len(header)-int(le.Uint16(header[28:])):]
}

// writeHeader writes a local header whose extra field is replaced by extra, and
// which is padded so that what follows it is aligned.
func (w *writer) writeHeader(name string, header, extra []byte, alignment int64) error {
	header = header[:localSize+int(le.Uint16(header[26:]))]
	if alignment > 1 {
		const least = 6 // header of the field, and the alignment in it
		extra = setExtra(extra, alignmentExtra, nil)
		if alignment > max16 {
			return invalid(name, "alignment %d is more than %d", alignment, max16)
		}
		if start := w.n + int64(len(header)+len(extra)); start%alignment != 0 {
			padding := make([]byte, 2+(alignment-(start+least)%alignment)%alignment)
			le.PutUint16(padding, uint16(alignment))
			extra = setExtra(extra, alignmentExtra, padding)
		}
	}
	if len(extra) > max16 {
		return invalid(name, "its extra field would have %d bytes, more than %d", len(extra), max16)
	}
	le.PutUint16(header[28:], uint16(len(extra)))
	return w.write(append(header[:len(header):len(header)], extra...))
}

// writeAligned writes an unchanged entry with other padding.
func (w *writer) writeAligned(e *Entry, alignment int64) error {
	if err := w.flush(); err != nil {
		return err
	}
	header, err := e.localHeader()
	if err != nil {
		return err
	}
	if err := w.writeHeader(e.Name, header, localExtra(header), alignment); err != nil {
		return err
	}
	return w.keep(e.DataOffset, e.next)
}

// describe sets what local and central header say alike about new content: the
// fields of 20 bytes from "version needed to extract" to "uncompressed size".
func describe(fields []byte, c *Prepared) {
	version := uint16(versionDeflate)
	if c.size >= max32 || c.compressed >= max32 {
		version = versionZIP64
	}
	le.PutUint16(fields, max(le.Uint16(fields), version))
	le.PutUint16(fields[2:], le.Uint16(fields[2:])&^(flagDescriptor|flagLevel|flagPatched))
	le.PutUint16(fields[4:], c.method)
	le.PutUint32(fields[10:], c.crc)
	le.PutUint32(fields[14:], uint32(min(c.compressed, max32)))
	le.PutUint32(fields[18:], uint32(min(c.size, max32)))
}

func (w *writer) writeReplaced(e *Entry, c *Prepared) error {
	if err := w.flush(); err != nil {
		return err
	}
	header, err := e.localHeader()
	if err != nil {
		return err
	}
	extra := localExtra(header)
	describe(header[4:], c)
	if _, count := findExtra(extra, zip64Extra); count > 0 || c.size >= max32 || c.compressed >= max32 {
		extra = setExtra(extra, zip64Extra, wideSizes(header, c))
	}
	if err := w.writeHeader(e.Name, header, extra, w.alignment(e.Name, c.method)); err != nil {
		return err
	}
	return w.copyFrom(c.data, 0, c.compressed)
}

// wideSizes moves the sizes of a local header to its ZIP64 extra field, whose
// data it returns.
func wideSizes(header []byte, c *Prepared) []byte {
	le.PutUint16(header[4:], max(le.Uint16(header[4:]), versionZIP64))
	le.PutUint32(header[18:], max32)
	le.PutUint32(header[22:], max32)
	return le.AppendUint64(le.AppendUint64(nil, uint64(c.size)), uint64(c.compressed))
}

// insertBefore writes what is inserted in front of e.
func (w *writer) insertBefore(e *Entry) error {
	for _, in := range w.patch.inserted[e] {
		if err := w.flush(); err != nil {
			return err
		}
		record, err := w.writeInserted(in)
		if err != nil {
			return err
		}
		w.added[e] = append(w.added[e], record)
	}
	return nil
}

// writeInserted writes a new entry and returns its central directory header.
func (w *writer) writeInserted(in insertion) ([]byte, error) {
	offset := w.n - w.archive.base
	var flags uint16
	if !isASCII(in.Name) || !isASCII(in.Comment) {
		flags = flagUTF8
	}
	date, clock := toDOSTime(in.Modified)
	local := make([]byte, localSize, localSize+len(in.Name))
	le.PutUint32(local, localSignature)
	le.PutUint16(local[6:], flags)
	le.PutUint16(local[10:], clock)
	le.PutUint16(local[12:], date)
	le.PutUint16(local[26:], uint16(len(in.Name)))
	describe(local[4:], in.content)
	local = append(local, in.Name...)

	mode := in.Mode
	isDirectory := in.Name[len(in.Name)-1] == '/'
	if isDirectory {
		mode |= fs.ModeDir
	}
	if mode.Perm() == 0 {
		mode |= 0o644
		if isDirectory {
			mode |= 0o755
		}
	}
	attributes := toUnixMode(mode) << 16
	if isDirectory {
		attributes |= 0x10 // MS-DOS directory
	}
	record := make([]byte, centralSize, centralSize+len(in.Name)+len(in.Comment))
	le.PutUint32(record, centralSignature)
	le.PutUint16(record[4:], madeBy)
	copy(record[6:28], local[4:26])
	le.PutUint16(record[28:], uint16(len(in.Name)))
	le.PutUint16(record[32:], uint16(len(in.Comment)))
	le.PutUint32(record[38:], attributes)
	record = append(append(record, in.Name...), in.Comment...)
	record, _ = appendCentral(nil, record, wideFields{in.content.size, in.content.compressed, offset}, true)

	var extra []byte
	if in.content.size >= max32 || in.content.compressed >= max32 {
		extra = setExtra(nil, zip64Extra, wideSizes(local, in.content))
	}
	if err := w.writeHeader(in.Name, local, extra, w.alignment(in.Name, in.content.method)); err != nil {
		return nil, err
	}
	return record, w.copyFrom(in.content.data, 0, in.content.compressed)
}

// writeDirectory writes the central directory and what follows it.
func (w *writer) writeDirectory() error {
	a := w.archive
	start := w.n
	count := uint64(0)
	var scratch []byte
	emit := func(record []byte) error {
		count++
		return w.write(record)
	}
	for i := 0; i <= len(a.Entries); i++ {
		var e *Entry
		if i < len(a.Entries) {
			e = a.Entries[i]
		}
		for _, record := range w.added[e] {
			if err := emit(record); err != nil {
				return err
			}
		}
		if e == nil || w.patch.removed[e] {
			continue
		}
		var fits bool
		if scratch, fits = w.centralRecord(scratch[:0], e); !fits {
			return invalid(e.Name, "its extra field has no room for the ZIP64 field that it needs")
		}
		if err := emit(scratch); err != nil {
			return err
		}
	}
	size := w.n - start
	if err := w.copyFrom(a.reader, a.tail, a.EndOffset()-a.tail); err != nil {
		return err
	}
	return w.write(w.endRecords(count, uint64(size), uint64(start-a.base)))
}

// centralRecord appends the central directory header of an entry of the
// original archive, if it fits in one.
func (w *writer) centralRecord(dst []byte, e *Entry) ([]byte, bool) {
	wide := wideFields{e.Size, e.CompressedSize, w.offsets[e.index] - w.archive.base}
	c := w.patch.replaced[e]
	if c == nil {
		return appendCentral(dst, e.record, wide, false)
	}
	// Its sizes stay in the ZIP64 extra field if they were there, because the
	// marks are in the header that appendCentral reads.
	record := append([]byte(nil), e.record...)
	compressed, size := le.Uint32(record[20:]), le.Uint32(record[24:])
	describe(record[6:], c)
	le.PutUint32(record[20:], compressed)
	le.PutUint32(record[24:], size)
	wide.size, wide.compressed = c.size, c.compressed
	return appendCentral(dst, record, wide, true)
}

// endRecords returns the end of central directory record with the comment, and
// before it the ZIP64 records if the original has them or a value needs them
// (4.3.14 to 4.3.16).
func (w *writer) endRecords(count, size, offset uint64) []byte {
	a := w.archive
	end64, locator := a.end64, a.locator
	if end64 == nil && (count > max16 || size >= max32 || offset >= max32) {
		end64, locator = make([]byte, end64Size), make([]byte, locatorSize)
		le.PutUint32(end64, end64Signature)
		le.PutUint64(end64[4:], end64Size-12)
		le.PutUint16(end64[12:], hostUnix<<8|versionZIP64)
		le.PutUint16(end64[14:], versionZIP64)
		le.PutUint32(locator, locatorSignature)
		le.PutUint32(locator[16:], 1)
	}
	var out []byte
	if end64 != nil {
		out = append(out, end64...)
		le.PutUint64(out[24:], count)
		le.PutUint64(out[32:], count)
		le.PutUint64(out[40:], size)
		le.PutUint64(out[48:], offset)
		at := len(out)
		out = append(out, locator...)
		le.PutUint64(out[at+8:], uint64(w.n-a.base))
	}
	at := len(out)
	out = append(out, a.end...)
	end := out[at:]
	// A field that refers to the ZIP64 record goes on doing so.
	set16 := func(field []byte, value uint64) {
		if a.end64 == nil || le.Uint16(field) != max16 {
			le.PutUint16(field, uint16(min(value, max16)))
		}
	}
	set32 := func(field []byte, value uint64) {
		if a.end64 == nil || le.Uint32(field) != max32 {
			le.PutUint32(field, uint32(min(value, max32)))
		}
	}
	set16(end[8:], count)
	set16(end[10:], count)
	set32(end[12:], size)
	set32(end[16:], offset)
	return append(out, a.Comment...)
}

var _ io.WriterTo = (*Patch)(nil)
