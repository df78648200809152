package ziparchive

import (
	"bufio"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"sync"

	"github.com/klauspost/compress/flate"

	"github.com/countersign-dev/countersign/artifact/spool"
)

// Prepared is content that is ready to be written into an archive. Close frees
// its spool.
type Prepared struct {
	method     uint16
	crc        uint32
	size       int64 // of the content
	data       io.ReaderAt
	compressed int64 // bytes of data
	spool      *spool.Spool
}

// deflater is a reusable compressor.
type deflater struct {
	output *bufio.Writer
	stream *flate.Writer // writes to output
}

// deflateLevel is a compromise: programs get about 4% larger than with zlib's
// default level, in a fifth of its time (measured on ELF files).
const deflateLevel = 5

var deflaters = sync.Pool{New: func() any {
	output := bufio.NewWriterSize(nil, 64<<10)
	stream, err := flate.NewWriter(output, deflateLevel)
	if err != nil {
		panic(err) // the level is a constant that exists
	}
	return &deflater{output, stream}
}}

var copyBuffers = sync.Pool{New: func() any { return new([64 << 10]byte) }}

// Prepare reads content to its end, compresses it with method (Stored or
// Deflated, else the error is UnsupportedMethod) and keeps the result in a
// spool. Contents are independent of each other: prepare as many at a time as
// there are processors.
func Prepare(content io.Reader, method uint16, o spool.Options) (_ *Prepared, err error) {
	p := &Prepared{method: method, spool: spool.New(o)}
	defer func() {
		if err != nil {
			err = errors.Join(err, p.spool.Close())
		}
	}()
	buffer := copyBuffers.Get().(*[64 << 10]byte)
	defer copyBuffers.Put(buffer)
	counted := io.TeeReader(content, (*checksum)(p))
	switch method {
	case Stored:
		_, err = io.CopyBuffer(onlyWriter{p.spool}, counted, buffer[:])
	case Deflated:
		d := deflaters.Get().(*deflater)
		defer deflaters.Put(d)
		d.output.Reset(p.spool)
		d.stream.Reset(d.output)
		if _, err = io.CopyBuffer(onlyWriter{d.stream}, counted, buffer[:]); err == nil {
			if err = d.stream.Close(); err == nil {
				err = d.output.Flush()
			}
		}
	default:
		err = &Error{Kind: UnsupportedMethod, Offset: -1, Detail: fmt.Sprintf("method %d; content can be written stored (0) or deflated (8)", method)}
	}
	if err != nil {
		return nil, err
	}
	p.spool.Trim()
	p.data, p.compressed = p.spool, p.spool.Size()
	return p, nil
}

// PrepareStored reads the size bytes of content once, for their CRC-32, and
// refers to them instead of copying: content must stay as it is until the
// archive is written.
func PrepareStored(content io.ReaderAt, size int64) (*Prepared, error) {
	p := &Prepared{method: Stored, data: content}
	if _, err := spool.CopyRange((*checksum)(p), content, 0, size); err != nil {
		return nil, err
	}
	p.compressed = p.size
	return p, nil
}

// Size returns the number of bytes of the content.
func (p *Prepared) Size() int64 { return p.size }

// CompressedSize returns how many bytes it takes in the archive.
func (p *Prepared) CompressedSize() int64 { return p.compressed }

// Close frees what Prepare keeps. It may be called more than once.
func (p *Prepared) Close() error {
	if p.spool == nil {
		return nil
	}
	return p.spool.Close()
}

// checksum counts and checks what is written to it into a Prepared.
type checksum Prepared

func (c *checksum) Write(b []byte) (int, error) {
	c.crc = crc32.Update(c.crc, crc32.IEEETable, b)
	c.size += int64(len(b))
	return len(b), nil
}

// onlyWriter hides ReadFrom, so that the buffer is used.
type onlyWriter struct{ io.Writer }
