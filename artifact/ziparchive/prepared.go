package ziparchive

import (
	"io"

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

// Prepare reads content to its end, compresses it with method (Stored or
// Deflated) and keeps the result in a spool. Contents are independent of each
// other: prepare as many at a time as there are processors.
func Prepare(content io.Reader, method uint16, o spool.Options) (*Prepared, error) {
	return prepare(content, method, o)
}

// PrepareStored reads the size bytes of content once, for their CRC-32, and
// stores them without a copy: content must stay as it is until the archive is
// written.
func PrepareStored(content io.ReaderAt, size int64) (*Prepared, error) {
	return prepareStored(content, size)
}

// Size returns the number of bytes of the content.
func (p *Prepared) Size() int64 { return p.size }

// Close frees what Prepare keeps. It may be called more than once.
func (p *Prepared) Close() error {
	if p.spool == nil {
		return nil
	}
	return p.spool.Close()
}
