// Package spool holds bytes between two steps of signing: in memory while they
// are few, in a temporary file once they are many, so that any number of files
// of any size can be worked on in parallel within a fixed amount of memory.
package spool

import (
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"sync"
	"sync/atomic"
)

// Budget is an amount of memory that several spools share. It is safe for
// concurrent use. A nil Budget is unlimited.
type Budget struct {
	limit int64
	used  atomic.Int64
}

// NewBudget returns a budget of the given number of bytes. With zero or less,
// every spool goes to a file with its first byte.
func NewBudget(bytes int64) *Budget {
	return &Budget{limit: bytes}
}

// Used returns the number of bytes that spools hold in memory now.
func (b *Budget) Used() int64 {
	if b == nil {
		return 0
	}
	return b.used.Load()
}

// reserve takes n bytes and reports whether they were there to take.
func (b *Budget) reserve(n int64) bool {
	if b == nil {
		return true
	}
	for {
		used := b.used.Load()
		if n > b.limit-used {
			return false
		}
		if b.used.CompareAndSwap(used, used+n) {
			return true
		}
	}
}

func (b *Budget) release(n int64) {
	if b != nil {
		b.used.Add(-n)
	}
}

// DefaultThreshold is how many bytes a spool keeps in memory when
// Options.Threshold is zero.
const DefaultThreshold = 4 << 20

// Options say where a spool keeps its bytes. The zero value is usable.
type Options struct {
	// Dir is where temporary files are made; empty means os.TempDir.
	Dir string
	// Threshold is the largest size in bytes that stays in memory: zero means
	// DefaultThreshold, a negative value means that nothing does.
	Threshold int64
	// Budget bounds the memory of all spools that share it. A spool that finds
	// the budget spent goes to a file early.
	Budget *Budget
}

// Spool is a temporary store of bytes that grows as it is written. One
// goroutine may write while several read what it has written. Close must be
// called, once nobody uses the spool, or memory of the budget and a file are lost.
type Spool struct {
	options Options
	mutex   sync.RWMutex // of all below
	size    int64
	memory  []byte   // the content while file is nil; len is size
	file    *os.File // the content once it has grown too large
	path    string   // set when the file could not be unlinked while open
	closed  bool
}

// New returns an empty spool. Nothing is allocated until it is written to.
func New(o Options) *Spool {
	if o.Threshold == 0 {
		o.Threshold = DefaultThreshold
	}
	return &Spool{options: o}
}

// Size returns the number of bytes: one more than the highest offset written.
func (s *Spool) Size() int64 {
	s.mutex.RLock()
	defer s.mutex.RUnlock()
	return s.size
}

// Write appends p at the end.
func (s *Spool) Write(p []byte) (int, error) {
	return s.WriteAt(p, s.Size())
}

// WriteAt writes p at offset off, over what was there. A gap between the
// former end and off reads as zeros.
func (s *Spool) WriteAt(p []byte, off int64) (int, error) {
	if off < 0 || off > math.MaxInt64-int64(len(p)) {
		return 0, fmt.Errorf("spool: write of %d bytes at offset %d is out of range", len(p), off)
	}
	file, err := s.writeMemory(p, off)
	switch {
	case err != nil:
		return 0, err
	case file == nil:
		return len(p), nil
	}
	n, err := file.WriteAt(p, off) // readers need not wait for the disk
	s.mutex.Lock()
	defer s.mutex.Unlock()
	s.size = max(s.size, off+int64(n))
	return n, err
}

// writeMemory writes to memory, or returns the file to write to.
func (s *Spool) writeMemory(p []byte, off int64) (*os.File, error) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	if s.closed {
		return nil, os.ErrClosed
	}
	if len(p) == 0 {
		return nil, nil
	}
	end := off + int64(len(p))
	if s.file == nil && !s.growMemory(end) {
		if err := s.spill(); err != nil {
			return nil, err
		}
	}
	if s.file == nil {
		copy(s.memory[off:end], p)
	}
	return s.file, nil
}

// growMemory makes room for size bytes in memory, if threshold and budget
// allow it.
func (s *Spool) growMemory(size int64) bool {
	if size > s.options.Threshold {
		return false
	}
	if size <= int64(cap(s.memory)) {
		if size > s.size {
			s.memory = s.memory[:size]
			clear(s.memory[s.size:])
			s.size = size
		}
		return true
	}
	capacity := min(max(size, 2*int64(cap(s.memory)), smallSize), s.options.Threshold)
	if !s.options.Budget.reserve(capacity) {
		return false
	}
	grown := allocate(capacity)[:size]
	clear(grown[copy(grown, s.memory):])
	s.dropMemory()
	s.memory, s.size = grown, size
	return true
}

// smallSize is what a spool takes at once. Most files in archives are small, and so
// is what they are compressed to: their memory is used again.
const smallSize = 32 << 10

var small = sync.Pool{New: func() any { return new([smallSize]byte) }}

func allocate(capacity int64) []byte {
	if capacity == smallSize {
		return small.Get().(*[smallSize]byte)[:]
	}
	return make([]byte, capacity)
}

// spill moves the content from memory to a file.
func (s *Spool) spill() error {
	file, err := os.CreateTemp(s.options.Dir, "countersign-spool-*")
	if err != nil {
		return fmt.Errorf("spool: %w", err)
	}
	path := file.Name()
	// Without a name the file is gone when the process ends, however it ends.
	// Where an open file cannot be removed, Close does it.
	if os.Remove(path) == nil {
		path = ""
	}
	if _, err := file.WriteAt(s.memory, 0); err != nil {
		err = errors.Join(err, file.Close())
		if path != "" {
			err = errors.Join(err, os.Remove(path))
		}
		return fmt.Errorf("spool: %w", err)
	}
	s.file, s.path = file, path
	s.dropMemory()
	return nil
}

func (s *Spool) dropMemory() {
	s.options.Budget.release(int64(cap(s.memory)))
	if cap(s.memory) == smallSize {
		small.Put((*[smallSize]byte)(s.memory[:smallSize]))
	}
	s.memory = nil
}

// ReadAt implements io.ReaderAt.
func (s *Spool) ReadAt(p []byte, off int64) (int, error) {
	s.mutex.RLock()
	defer s.mutex.RUnlock()
	switch {
	case s.closed:
		return 0, os.ErrClosed
	case off < 0:
		return 0, fmt.Errorf("spool: read at negative offset %d", off)
	case s.file != nil:
		return s.file.ReadAt(p, off)
	case off >= s.size:
		if len(p) == 0 {
			return 0, nil
		}
		return 0, io.EOF
	}
	n := copy(p, s.memory[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// Trim gives back memory that was taken for more bytes than there are now. It is
// for what stays for a while.
func (s *Spool) Trim() {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	if s.file != nil || s.size == int64(cap(s.memory)) || !s.options.Budget.reserve(s.size) {
		return
	}
	trimmed := make([]byte, s.size)
	copy(trimmed, s.memory)
	s.dropMemory()
	s.memory = trimmed
}

// content returns where the bytes are.
func (s *Spool) content() (memory []byte, file *os.File, err error) {
	s.mutex.RLock()
	defer s.mutex.RUnlock()
	if s.closed {
		return nil, nil, os.ErrClosed
	}
	return s.memory, s.file, nil
}

// Reader returns a reader of all bytes that the spool holds now.
func (s *Spool) Reader() *io.SectionReader {
	return io.NewSectionReader(s, 0, s.Size())
}

// Close frees the memory or removes the file. Closing twice is not an error.
func (s *Spool) Close() error {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	if s.closed {
		return nil
	}
	s.closed = true
	s.dropMemory()
	if s.file == nil {
		return nil
	}
	err := s.file.Close()
	if s.path != "" {
		err = errors.Join(err, os.Remove(s.path))
	}
	return err
}
