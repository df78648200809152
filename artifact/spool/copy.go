package spool

import (
	"fmt"
	"io"
	"os"
	"sync"
)

// buffers for copies that the kernel cannot do by itself.
var buffers = sync.Pool{New: func() any { return new([256 << 10]byte) }}

// CopyRange writes the n bytes of src from offset off to dst and returns how
// many it wrote. Files and spools, also behind an io.SectionReader, are copied
// without a detour where that is possible: from file to file inside the kernel,
// from memory in one Write. The file offset of src is neither used nor moved.
// A src that ends early gives io.ErrUnexpectedEOF.
func CopyRange(dst io.Writer, src io.ReaderAt, off, n int64) (int64, error) {
	if off < 0 || n < 0 {
		return 0, fmt.Errorf("spool: copy of %d bytes from offset %d is out of range", n, off)
	}
	src, off, n, short := unwrap(src, off, n)
	written, err := copyRange(dst, src, off, n)
	if err == nil && short {
		err = io.ErrUnexpectedEOF
	}
	return written, err
}

// unwrap follows sections to what they are sections of. short tells that a
// section ends before the range does; n is then what there is.
func unwrap(src io.ReaderAt, off, n int64) (inner io.ReaderAt, innerOff, innerN int64, short bool) {
	for {
		section, ok := src.(*io.SectionReader)
		if !ok {
			return src, off, n, short
		}
		outer, base, size := section.Outer()
		if size-off < n {
			n, short = max(size-off, 0), true
		}
		src, off = outer, base+off
	}
}

func copyRange(dst io.Writer, src io.ReaderAt, off, n int64) (int64, error) {
	if s, ok := src.(*Spool); ok {
		memory, file, err := s.content()
		if err != nil {
			return 0, err
		}
		if file == nil {
			if end := off + n; end > int64(len(memory)) || end < off {
				return 0, io.ErrUnexpectedEOF
			}
			written, err := dst.Write(memory[off : off+n])
			return int64(written), err
		}
		src = file
	}
	var written int64
	if from, ok := src.(*os.File); ok {
		if to, ok := dst.(*os.File); ok {
			var err error
			if written, err = copyFileRange(to, from, off, n); err != nil || written == n {
				return written, err
			}
		}
	}
	buffer := buffers.Get().(*[256 << 10]byte)
	defer buffers.Put(buffer)
	for written < n {
		chunk := buffer[:min(n-written, int64(len(buffer)))]
		got, err := src.ReadAt(chunk, off+written)
		if got == len(chunk) {
			err = nil
		}
		put, werr := dst.Write(chunk[:got])
		written += int64(put)
		switch {
		case werr != nil:
			return written, werr
		case put < got:
			return written, io.ErrShortWrite
		case err == io.EOF:
			return written, io.ErrUnexpectedEOF
		case err != nil:
			return written, err
		}
	}
	return written, nil
}
