package store_test

import (
	"context"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/countersign-dev/countersign/internal/signing"
	"github.com/countersign-dev/countersign/internal/store"
	"github.com/countersign-dev/countersign/internal/store/blobtest"
)

func openBlobs(t testing.TB, dir string) *store.FileBlobs {
	t.Helper()
	b, err := store.OpenFileBlobs(dir)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestFileBlobs(t *testing.T) {
	t.Parallel()
	blobtest.Run(t, func(t testing.TB) signing.Blobs { return openBlobs(t, filepath.Join(t.TempDir(), "blobs")) })
}

// TestFileBlobsLeftovers checks what a process that died leaves behind, and the modes of everything.
func TestFileBlobsLeftovers(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	dir := filepath.Join(t.TempDir(), "blobs")
	b := openBlobs(t, dir)
	for range 2 {
		if _, err := b.Create(ctx); err != nil {
			t.Fatal(err)
		}
	}
	w, err := b.Create(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Commit(ctx); err != nil {
		t.Fatal(err)
	}
	written := func() []string {
		files, err := filepath.Glob(filepath.Join(dir, "new", "*"))
		if err != nil {
			t.Fatal(err)
		}
		return files
	}
	old := written()[0]
	if err := os.Chtimes(old, time.Time{}, time.Now().Add(-25*time.Hour)); err != nil {
		t.Fatal(err)
	}
	openBlobs(t, dir)
	if left := written(); len(left) != 1 || left[0] == old {
		t.Errorf("left: %q, abandoned was %q", left, old)
	}
	files := 0
	err = filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		want := fs.FileMode(0o600)
		if e.IsDir() {
			want = 0o700 | fs.ModeDir
		} else {
			files++
		}
		if info.Mode() != want {
			t.Errorf("%s has mode %s", path, info.Mode())
		}
		return nil
	})
	if err != nil || files != 2 {
		t.Errorf("%d files, %v", files, err)
	}
}

// TestFileBlobsOffer checks what the kernel needs for copying and sending files.
func TestFileBlobsOffer(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	b := openBlobs(t, t.TempDir())
	w, err := b.Create(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := w.(io.ReaderFrom); !ok {
		t.Error("the writer is no io.ReaderFrom")
	}
	id, err := w.Commit(ctx)
	if err != nil {
		t.Fatal(err)
	}
	r, err := b.Open(ctx, id)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if _, ok := r.(io.ReadSeeker); !ok {
		t.Error("the blob is no io.ReadSeeker")
	}
}
