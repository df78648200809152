package ziparchive

import (
	"bufio"
	"fmt"
	"hash/crc32"
	"io"
	"sync"

	"github.com/klauspost/compress/flate"
)

// inflater is a reusable deflate decompressor.
type inflater struct {
	input  *bufio.Reader
	stream io.ReadCloser // reads input
}

var inflaters = sync.Pool{New: func() any {
	input := bufio.NewReaderSize(nil, 32<<10)
	return &inflater{input, flate.NewReader(input)}
}}

// content reads and checks what an entry holds.
type content struct {
	entry    *Entry
	inflater *inflater // nil for stored entries and after Close
	source   io.Reader // content, without check
	data     *io.SectionReader
	left     int64 // bytes not yet read, by declaration
	crc      uint32
	err      error // what all further reads return
}

// Open returns the content, inflated. Reading it to the end fails with an
// *Error of kind Corrupt if size or CRC-32 are not the declared ones; it never
// yields more bytes than declared. An encrypted entry or an unknown method
// gives UnsupportedMethod. The reader must be closed.
func (e *Entry) Open() (io.ReadCloser, error) {
	switch {
	case e.Flags&flagsEncrypted != 0:
		return nil, e.unsupported("the content is encrypted")
	case e.Flags&flagPatched != 0:
		return nil, e.unsupported("the content is compressed patched data (4.4.4 bit 5)")
	case e.Method != Stored && e.Method != Deflated:
		return nil, e.unsupported(fmt.Sprintf("method %d; content can be read if it is stored (0) or deflated (8)", e.Method))
	}
	c := &content{entry: e, data: e.Raw(), left: e.Size}
	c.source = c.data
	if e.Method == Deflated {
		c.inflater = inflaters.Get().(*inflater)
		c.inflater.input.Reset(c.data)
		if err := c.inflater.stream.(flate.Resetter).Reset(c.inflater.input, nil); err != nil {
			return nil, err
		}
		c.source = c.inflater.stream
	}
	return c, nil
}

func (c *content) Read(p []byte) (int, error) {
	if c.err != nil {
		return 0, c.err
	}
	if len(p) == 0 {
		return 0, nil
	}
	if c.left == 0 {
		c.err = c.finish()
		return 0, c.err
	}
	n, err := c.source.Read(p[:min(int64(len(p)), c.left)])
	c.left -= int64(n)
	c.crc = crc32.Update(c.crc, crc32.IEEETable, p[:n])
	switch {
	case err == nil || err == io.EOF && c.left == 0:
	case err == io.EOF:
		c.err = c.corrupt(fmt.Sprintf("it ends %d bytes before its declared size of %d", c.left, c.entry.Size), nil)
	default:
		c.err = c.corrupt(fmt.Sprintf("after %d bytes of content", c.entry.Size-c.left), err)
	}
	return n, c.err
}

// finish checks, after all declared bytes, that there are no more and that they
// are the right ones. It returns io.EOF if so.
func (c *content) finish() error {
	var more [1]byte
	if n, err := io.ReadFull(c.source, more[:]); n > 0 {
		return c.corrupt(fmt.Sprintf("it is larger than its declared size of %d", c.entry.Size), nil)
	} else if err != io.EOF {
		return c.corrupt("at its end", err)
	}
	if c.inflater != nil {
		rest := int64(c.inflater.input.Buffered())
		if at, err := c.data.Seek(0, io.SeekCurrent); err == nil {
			rest += c.data.Size() - at
		}
		if rest > 0 {
			return c.corrupt(fmt.Sprintf("%d bytes follow the end of the compressed data", rest), nil)
		}
	}
	if c.crc != c.entry.CRC32 {
		return c.corrupt(fmt.Sprintf("CRC-32 is %08x, declared is %08x", c.crc, c.entry.CRC32), nil)
	}
	return io.EOF
}

func (c *content) corrupt(detail string, err error) error {
	e := c.entry.fail(Corrupt, c.entry.DataOffset, "content", detail)
	e.Err = err
	return e
}

func (c *content) Close() error {
	if c.inflater != nil {
		inflaters.Put(c.inflater)
		c.inflater = nil
	}
	c.err = io.ErrClosedPipe
	return nil
}
