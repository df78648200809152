package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/google/uuid"

	"github.com/countersign-dev/countersign/internal/signing"
)

// FileBlobs keeps blobs as files in a directory. It implements signing.Blobs.
//
// A blob's id is 32 hexadecimal digits of a UUID of version 7; the blob is the file DIR/abc/ID, where abc are the last three
// digits, which are random: a store of millions has some hundred files in each directory, and a new one has soon made them all,
// which takes longer than a small blob. New bytes are written to DIR/new and moved when they are committed, so a blob is
// whole or absent. Directories have mode 0700, files 0600.
type FileBlobs struct {
	dir     string
	writes  string
	durable sync.Map // directories whose own entries are known to be on the disk
}

// abandonedAfter is the age at which a file in DIR/new is taken for the leftover of a process that died. Other
// processes may share the directory, so younger ones stay.
const abandonedAfter = 24 * time.Hour

// OpenFileBlobs opens a directory of blobs, creating it when it is absent, and removes what processes that died more
// than a day ago left half-written.
func OpenFileBlobs(dir string) (*FileBlobs, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("blobs: %w", err)
	}
	b := &FileBlobs{dir: dir, writes: filepath.Join(dir, "new")}
	if err := os.MkdirAll(b.writes, 0o700); err != nil {
		return nil, fmt.Errorf("blobs: %w", err)
	}
	entries, err := os.ReadDir(b.writes)
	if err != nil {
		return nil, fmt.Errorf("blobs: %w", err)
	}
	for _, e := range entries {
		if info, err := e.Info(); err == nil && time.Since(info.ModTime()) > abandonedAfter {
			if err := os.Remove(filepath.Join(b.writes, e.Name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return nil, fmt.Errorf("blobs: %w", err)
			}
		}
	}
	return b, nil
}

// path returns the file of a blob, and false when the id is not one that Create gave out.
func (b *FileBlobs) path(id signing.BlobID) (string, bool) {
	if len(id) != 32 || strings.Trim(string(id), "0123456789abcdef") != "" {
		return "", false
	}
	return filepath.Join(b.dir, string(id[29:]), string(id)), true
}

// Create implements signing.Blobs. The writer also implements io.ReaderFrom, which lets the kernel copy between files.
func (b *FileBlobs) Create(ctx context.Context) (signing.BlobWriter, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	u := uuid.Must(uuid.NewV7())
	id := signing.BlobID(strings.ReplaceAll(u.String(), "-", ""))
	f, err := os.OpenFile(filepath.Join(b.writes, string(id)), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, blobError(err)
	}
	return &fileWriter{blobs: b, id: id, f: f}, nil
}

// Open implements signing.Blobs. The blob is also an io.ReadSeeker and an io.WriterTo, which let a download be sent by
// the kernel.
func (b *FileBlobs) Open(ctx context.Context, id signing.BlobID) (signing.Blob, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	path, ok := b.path(id)
	if !ok {
		return nil, errNoBlob
	}
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, errNoBlob
	}
	if err != nil {
		return nil, blobError(err)
	}
	info, err := f.Stat()
	if err != nil {
		f.Close()
		return nil, blobError(err)
	}
	return &fileBlob{File: f, size: info.Size()}, nil
}

// Delete implements signing.Blobs.
func (b *FileBlobs) Delete(ctx context.Context, id signing.BlobID) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	path, ok := b.path(id)
	if !ok {
		return nil
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return blobError(err)
	}
	return nil
}

// List implements signing.Blobs. A blob's age is that of its last write.
func (b *FileBlobs) List(ctx context.Context, olderThan time.Time, fn func(signing.BlobID) error) error {
	return filepath.WalkDir(b.dir, func(path string, e fs.DirEntry, err error) error {
		switch {
		case errors.Is(err, fs.ErrNotExist) && path != b.dir:
			return nil // deleted since its directory was read
		case err != nil:
			return blobError(err)
		case ctx.Err() != nil:
			return ctx.Err()
		case e.IsDir():
			if path == b.writes {
				return fs.SkipDir
			}
			return nil
		}
		id := signing.BlobID(e.Name())
		if want, ok := b.path(id); !ok || want != path {
			return nil // not ours
		}
		info, err := e.Info()
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return blobError(err)
		}
		if !info.ModTime().Before(olderThan) {
			return nil
		}
		return fn(id)
	})
}

var errNoBlob = signing.Errorf(signing.KindNotFound, "No such stored artifact.")

// blobError tells users when it is the disk that is full, and keeps other causes for the log.
func blobError(err error) error {
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return errors.Join(signing.Errorf(signing.KindUnavailable,
			"The disk for artifacts is full. Ask the administrator to free space, then try again."), err)
	}
	return fmt.Errorf("blobs: %w", err)
}

// fileWriter receives a new blob.
type fileWriter struct {
	blobs *FileBlobs
	id    signing.BlobID
	f     *os.File // nil after Commit or Abort
}

var errWriterEnded = errors.New("blobs: the writer was committed or aborted")

func (w *fileWriter) Write(p []byte) (int, error) {
	if w.f == nil {
		return 0, errWriterEnded
	}
	n, err := w.f.Write(p)
	return n, orBlobError(err)
}

func (w *fileWriter) WriteAt(p []byte, off int64) (int, error) {
	if w.f == nil {
		return 0, errWriterEnded
	}
	n, err := w.f.WriteAt(p, off)
	return n, orBlobError(err)
}

// ReadFrom appends at the position of Write, like io.Copy; from a file the kernel copies, or shares the extents.
func (w *fileWriter) ReadFrom(r io.Reader) (int64, error) {
	if w.f == nil {
		return 0, errWriterEnded
	}
	n, err := w.f.ReadFrom(r)
	if pathErr, ok := errors.AsType[*fs.PathError](err); ok {
		return n, blobError(pathErr)
	}
	return n, err // the reader's own
}

func (w *fileWriter) ReadAt(p []byte, off int64) (int, error) {
	if w.f == nil {
		return 0, errWriterEnded
	}
	n, err := w.f.ReadAt(p, off)
	if err == io.EOF {
		return n, err
	}
	return n, orBlobError(err)
}

func orBlobError(err error) error {
	if err == nil {
		return nil
	}
	return blobError(err)
}

func (w *fileWriter) Commit(ctx context.Context) (signing.BlobID, error) {
	if w.f == nil {
		return "", errWriterEnded
	}
	if err := ctx.Err(); err != nil {
		return "", err
	}
	written := w.f.Name()
	path, _ := w.blobs.path(w.id)
	err := w.f.Sync()
	if err == nil {
		err = w.f.Close()
	}
	if err == nil {
		err = w.blobs.makeDirectory(filepath.Dir(path))
	}
	if err == nil {
		err = os.Rename(written, path)
	}
	if err != nil {
		w.Abort()
		return "", blobError(err)
	}
	w.f = nil
	if err := syncDirectory(filepath.Dir(path)); err != nil {
		return "", blobError(errors.Join(err, os.Remove(path)))
	}
	return w.id, nil
}

func (w *fileWriter) Abort() {
	if w.f == nil {
		return
	}
	// What cannot be removed is removed as a leftover at a later start.
	w.f.Close()
	_ = os.Remove(w.f.Name())
	w.f = nil
}

// makeDirectory makes a blob's directory. One that is new is durable before anything is put into it.
func (b *FileBlobs) makeDirectory(dir string) error {
	if _, ok := b.durable.Load(dir); ok {
		return nil
	}
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	// Also one that exists: the process that made it may have died before it was durable.
	if err := syncDirectory(b.dir); err != nil {
		return err
	}
	b.durable.Store(dir, nil)
	return nil
}

// syncDirectory makes a directory's entries durable. Windows knows no such call.
func syncDirectory(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := f.Sync(); err != nil && !errors.Is(err, syscall.EINVAL) && os.PathSeparator == '/' {
		return err
	}
	return nil
}

// fileBlob is a stored blob, opened for reading.
type fileBlob struct {
	*os.File
	size int64
}

func (b *fileBlob) Size() int64 { return b.size }
