package artifact

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"strings"

	"github.com/countersign-dev/countersign/artifact/spool"
	"github.com/countersign-dev/countersign/artifact/ziparchive"
)

// source is a file before it is read.
type source struct {
	random io.ReaderAt                   // for random access, or nil
	open   func() (io.ReadCloser, error) // reads it; the last Read fails if it is seen to be damaged
	size   int64
	plain  bool // nothing tells whether it is damaged
}

// source is the artifact itself.
func (s Source) source() source {
	return source{s.Content, func() (io.ReadCloser, error) {
		return io.NopCloser(io.NewSectionReader(s.Content, 0, s.Size)), nil
	}, s.Size, true}
}

func memberSource(c container, member int, size int64) source {
	return source{c.inPlace(member), func() (io.ReadCloser, error) { return c.open(member) }, size, false}
}

// loaded is a file's content, as far as it was needed.
type loaded struct {
	file          // without content, unless random access was asked for or comes for nothing
	head   []byte // the first bytes
	whole  []byte // all of a small file that had to be unpacked
	sha256 string // if asked for
}

// wholeSize is up to which size a file is read at once. Unpacking its beginning
// would take as long.
const wholeSize = 64 << 10

// load reads the beginning of a file, and the rest if need, which is given the
// beginning, says that its hash or random access is wanted. Reading is done once,
// and to the end, because only there damage is found.
func (w *workspace) load(ctx context.Context, src source, need func(head []byte) (hashed, kept bool)) (c loaded, release func(), err error) {
	c.file = file{src.random, src.size}
	stream, err := src.open()
	if err != nil {
		return c, nil, err
	}
	defer stream.Close()
	whole := src.random == nil && src.size <= wholeSize
	c.head = make([]byte, headSize)
	if whole {
		c.head = make([]byte, src.size)
	}
	n, err := io.ReadFull(stream, c.head)
	c.head = c.head[:n]
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return c, nil, err
	}
	hashed, kept := need(c.head[:min(n, headSize)])
	if !hashed && !whole && (!kept || src.plain) {
		return c, nil, nil
	}
	to := io.Discard
	if whole {
		c.content, c.whole = bytes.NewReader(c.head), c.head
	} else if kept && src.random == nil {
		var s *spool.Spool
		s, release = w.spool()
		c.content, to = s, s
	}
	var digest hash.Hash
	if hashed {
		digest = sha256.New()
		to = io.MultiWriter(digest, to)
	}
	if _, err := to.Write(c.head); err != nil {
		return c, release, err
	}
	if _, err := copyContext(ctx, to, stream); err != nil {
		return c, release, err
	}
	if hashed {
		c.sha256 = hex.EncodeToString(digest.Sum(nil))
	}
	return c, release, nil
}

// canOpen tells whether this version can go into files of a type.
func canOpen(spec *fileSpec) bool {
	if spec == nil {
		return false
	}
	f := formatOf(spec.name)
	return f != nil && f.open != nil
}

// admit counts the files of a container that was opened, and says which limit
// is exceeded, if one is.
func (w *workspace) admit(members []member) string {
	size := int64(0)
	for _, m := range members {
		size += m.size
	}
	switch {
	case w.files.Add(int64(len(members))) > int64(w.Limits.Files):
		return fmt.Sprintf("the artifact has more than %d files", w.Limits.Files)
	case w.bytes.Add(size) > w.Limits.TotalSize:
		return fmt.Sprintf("the artifact has more than %d bytes of files", w.Limits.TotalSize)
	}
	return ""
}

// isArchiveError tells an archive that is bad from a disk that is.
func isArchiveError(err error) bool {
	_, ok := errors.AsType[*ziparchive.Error](err)
	return ok
}

func archiveViolation(err error) string {
	if errors.Is(err, ziparchive.LimitExceeded) {
		return ViolationLimit
	}
	return ViolationUnreadable
}

// archiveMessage puts an archive's problems on one line.
func archiveMessage(err error) string { return strings.ReplaceAll(err.Error(), "\n", "; ") }

// nameFile says which file an error is about.
func nameFile(at string, err error) error {
	if at == "" {
		return err
	}
	return fmt.Errorf("%s: %w", at, err)
}

// copyContext is io.Copy that can be cancelled.
func copyContext(ctx context.Context, dst io.Writer, src io.Reader) (int64, error) {
	buffer := copyBuffers.Get().(*[128 << 10]byte)
	defer copyBuffers.Put(buffer)
	var written int64
	for {
		if err := ctx.Err(); err != nil {
			return written, err
		}
		n, err := src.Read(buffer[:])
		if n > 0 {
			if _, err := dst.Write(buffer[:n]); err != nil {
				return written, err
			}
			written += int64(n)
		}
		if err == io.EOF {
			return written, nil
		}
		if err != nil {
			return written, err
		}
	}
}
