package authenticode

import (
	"context"
	"encoding/binary"
	"hash"
	"io"
	"math/bits"
	"slices"
	"sync"
	"sync/atomic"
)

const (
	chunkSize  = 256 << 10 // of one read; a multiple of 8, for checksum
	chunkCount = 8         // under way at once: 2 MiB
)

// A sink consumes a file's octets, in order. It must not change p nor keep it.
type sink func(p []byte, at int64) error

type chunk struct {
	buf   []byte
	data  []byte
	at    int64
	users atomic.Int32
}

var chunkPool = sync.Pool{New: func() any { return &chunk{buf: make([]byte, chunkSize)} }}

// A line is a row of sinks, each of which gets a chunk after the one before it.
type line []sink

// stream reads src from 0 to end once, and gives each chunk to all lines. All
// sinks run side by side; prepare may change a chunk before. The first error ends it.
func stream(ctx context.Context, src io.ReaderAt, end int64, prepare func(p []byte, at int64), lines ...line) error {
	read := func(c *chunk, at int64) error {
		c.at, c.data = at, c.buf[:min(chunkSize, end-at)]
		if err := readFull(src, c.data, at, "file"); err != nil {
			return err
		}
		if prepare != nil {
			prepare(c.data, at)
		}
		return ctx.Err()
	}
	if end <= chunkSize { // not worth a goroutine
		c := chunkPool.Get().(*chunk)
		defer chunkPool.Put(c)
		if err := read(c, 0); err != nil {
			return err
		}
		for _, consume := range slices.Concat(lines...) {
			if err := consume(c.data, 0); err != nil {
				return err
			}
		}
		return nil
	}

	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	free := make(chan *chunk, chunkCount)
	for range chunkCount {
		free <- chunkPool.Get().(*chunk)
	}
	var running sync.WaitGroup
	// run starts a sink, which hands on what it is done with.
	run := func(consume sink, done func(*chunk), end func()) chan<- *chunk {
		queue := make(chan *chunk, chunkCount)
		running.Go(func() {
			defer end()
			for c := range queue {
				// After a failure the queue is still emptied, so that nobody waits.
				if ctx.Err() == nil {
					if err := consume(c.data, c.at); err != nil {
						cancel(err)
					}
				}
				done(c)
			}
		})
		return queue
	}
	queues := make([]chan<- *chunk, len(lines))
	for i, sinks := range lines {
		done, end := func(c *chunk) {
			if c.users.Add(-1) == 0 {
				free <- c
			}
		}, func() {}
		for _, consume := range slices.Backward(sinks) {
			queue := run(consume, done, end)
			done, end = func(c *chunk) { queue <- c }, func() { close(queue) }
			queues[i] = queue
		}
	}
	for at := int64(0); at < end && ctx.Err() == nil; at += chunkSize {
		c := <-free
		if err := read(c, at); err != nil {
			cancel(err)
			free <- c
			break
		}
		c.users.Store(int32(len(queues)))
		for _, queue := range queues {
			queue <- c
		}
	}
	for _, queue := range queues {
		close(queue)
	}
	running.Wait()
	for range chunkCount {
		chunkPool.Put(<-free)
	}
	return context.Cause(ctx)
}

// span is a range of a file.
type span struct{ at, length int64 }

// mask is a preparation that zeroes fields.
func mask(fields ...span) func(p []byte, at int64) {
	return func(p []byte, at int64) {
		for _, f := range fields {
			from, to := max(f.at-at, 0), min(f.at+f.length-at, int64(len(p)))
			if from < to {
				clear(p[from:to])
			}
		}
	}
}

// hashWithout is a sink that hashes all octets but those of two fields, given in
// the order in which they are in the file.
func hashWithout(h hash.Hash, first, second span) sink {
	return func(p []byte, at int64) error {
		for _, skip := range [...]span{first, second} {
			if at >= skip.at+skip.length || at+int64(len(p)) <= skip.at {
				continue
			}
			if before := skip.at - at; before > 0 {
				h.Write(p[:before])
			}
			behind := min(skip.at+skip.length-at, int64(len(p)))
			p, at = p[behind:], at+behind
		}
		h.Write(p)
		return nil
	}
}

// readBack is a sink, to stand behind one that writes to a file, that gives to
// another what the file then holds. It uses buffer, of chunkSize octets.
func readBack(file io.ReaderAt, buffer []byte, to sink) sink {
	return func(p []byte, at int64) error {
		q := buffer[:len(p)]
		if err := readFull(file, q, at, "file"); err != nil {
			return err
		}
		return to(q, at)
	}
}

// checksum computes the PE checksum: the one's complement sum of all 16-bit
// words, plus the length of the file. Sums of 64-bit words with end-around carry
// fold to the same value, since 2^16-1 divides 2^64-1.
type checksum uint64

// add sums octets at an offset that is a multiple of 8. Only the last piece may
// have a length that is not.
func (c *checksum) add(p []byte) {
	sum, carry := uint64(*c), uint64(0)
	for ; len(p) >= 32; p = p[32:] {
		sum, carry = bits.Add64(sum, binary.LittleEndian.Uint64(p), carry)
		sum, carry = bits.Add64(sum, binary.LittleEndian.Uint64(p[8:]), carry)
		sum, carry = bits.Add64(sum, binary.LittleEndian.Uint64(p[16:]), carry)
		sum, carry = bits.Add64(sum, binary.LittleEndian.Uint64(p[24:]), carry)
	}
	for ; len(p) > 0; p = p[min(8, len(p)):] {
		var word [8]byte
		copy(word[:], p)
		sum, carry = bits.Add64(sum, binary.LittleEndian.Uint64(word[:]), carry)
	}
	// Adding the last carry may carry once more, but never twice.
	sum, carry = bits.Add64(sum, 0, carry)
	*c = checksum(sum + carry)
}

// addAt sums octets at any offset, where zeroes were summed before.
func (c *checksum) addAt(p []byte, at int64) {
	padded := make([]byte, at%8, 24)
	c.add(append(padded, p...))
}

// value returns the checksum of a file of the given size.
func (c checksum) value(size int64) uint32 {
	sum := uint64(c)
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return uint32(sum) + uint32(size)
}
