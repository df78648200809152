package authenticode

import (
	"errors"
	"io"
	"sync"
)

// Buffer is a file in memory: an io.WriterAt and io.ReaderAt that grows as it is
// written. The zero value is empty and ready for use. One goroutine may write
// while others read what it has written.
type Buffer struct {
	mutex sync.RWMutex
	b     []byte
}

// NewBuffer returns an empty buffer with room for capacity octets.
func NewBuffer(capacity int) *Buffer { return &Buffer{b: make([]byte, 0, capacity)} }

// Bytes returns what was written, valid until the next write.
func (b *Buffer) Bytes() []byte { return b.b }

// Size returns the length of the file.
func (b *Buffer) Size() int64 { return int64(len(b.b)) }

// WriteAt implements io.WriterAt. A gap before at reads as zeroes.
func (b *Buffer) WriteAt(p []byte, at int64) (int, error) {
	b.mutex.Lock()
	defer b.mutex.Unlock()
	if at < 0 {
		return 0, errors.New("authenticode: negative offset")
	}
	if end := at + int64(len(p)); end > int64(len(b.b)) {
		if end > int64(cap(b.b)) {
			grown := make([]byte, len(b.b), max(end, 2*int64(cap(b.b))))
			copy(grown, b.b)
			b.b = grown
		}
		b.b = b.b[:end]
	}
	return copy(b.b[at:], p), nil
}

// ReadAt implements io.ReaderAt.
func (b *Buffer) ReadAt(p []byte, at int64) (int, error) {
	b.mutex.RLock()
	defer b.mutex.RUnlock()
	if at < 0 {
		return 0, errors.New("authenticode: negative offset")
	}
	if at >= int64(len(b.b)) {
		return 0, io.EOF
	}
	n := copy(p, b.b[at:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}
