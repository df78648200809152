package ziparchive

import (
	"archive/zip"
	"bytes"
	"fmt"
	"io"
	mathrand "math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"testing"

	"github.com/countersign-dev/countersign/artifact/spool"
)

// benchmarkArchive writes a file of entries that together are about total
// bytes, half of them compressible, and returns it open.
func benchmarkArchive(b *testing.B, entries int, total int64, method uint16) (*os.File, int64) {
	b.Helper()
	file, err := os.Create(filepath.Join(b.TempDir(), "in.zip"))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { file.Close() })
	content := randomBytes(mathrand.New(mathrand.NewPCG(1, 1)), int(total)/entries)
	z := zip.NewWriter(file)
	for i := range entries {
		w, err := z.CreateHeader(&zip.FileHeader{Name: fmt.Sprintf("dir%d/file%d.dll", i%50, i), Method: method})
		if err != nil {
			b.Fatal(err)
		}
		if _, err := w.Write(content); err != nil {
			b.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		b.Fatal(err)
	}
	size, err := file.Seek(0, io.SeekCurrent)
	if err != nil {
		b.Fatal(err)
	}
	return file, size
}

// output creates the file to write to, over and over.
func output(b *testing.B) *os.File {
	b.Helper()
	file, err := os.Create(filepath.Join(b.TempDir(), "out.zip"))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { file.Close() })
	return file
}

func rewind(b *testing.B, file *os.File) {
	b.Helper()
	if err := file.Truncate(0); err != nil {
		b.Fatal(err)
	}
	if _, err := file.Seek(0, io.SeekStart); err != nil {
		b.Fatal(err)
	}
}

// BenchmarkCopyUnchanged rewrites 1 GB of 1,000 entries, next to what the
// operating system needs to copy the file. Both include truncating the output.
func BenchmarkCopyUnchanged(b *testing.B) {
	in, size := benchmarkArchive(b, 1000, 1_000_000_000, Stored)
	b.Run("patch", func(b *testing.B) {
		out := output(b)
		b.SetBytes(size)
		b.ReportAllocs()
		for b.Loop() {
			rewind(b, out)
			a, err := Open(in, size, Options{})
			if err != nil {
				b.Fatal(err)
			}
			if _, err := NewPatch(a).WriteTo(out); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("copy", func(b *testing.B) {
		out := output(b)
		b.SetBytes(size)
		for b.Loop() {
			rewind(b, out)
			if _, err := in.Seek(0, io.SeekStart); err != nil {
				b.Fatal(err)
			}
			if _, err := io.Copy(out, in); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkReplace replaces 500 of 4,000 deflated entries of 100 MB together:
// inflates them, compresses what comes out with some bytes more, in parallel,
// and writes the archive.
func BenchmarkReplace(b *testing.B) {
	in, size := benchmarkArchive(b, 4000, 100_000_000, Deflated)
	out := output(b)
	budget := spool.NewBudget(64 << 20)
	b.SetBytes(size)
	b.ReportAllocs()
	for b.Loop() {
		rewind(b, out)
		a, err := Open(in, size, Options{})
		if err != nil {
			b.Fatal(err)
		}
		ready := make([]*Prepared, 500)
		var group sync.WaitGroup
		for worker := range runtime.GOMAXPROCS(0) {
			group.Go(func() {
				for i := worker; i < len(ready); i += runtime.GOMAXPROCS(0) {
					r, err := a.Entries[8*i].Open()
					if err != nil {
						b.Error(err)
						return
					}
					content := io.MultiReader(r, bytes.NewReader(make([]byte, 1000)))
					if ready[i], err = Prepare(content, Deflated, spool.Options{Budget: budget}); err != nil {
						b.Error(err)
						return
					}
					r.Close()
				}
			})
		}
		group.Wait()
		p := NewPatch(a)
		for i, c := range ready {
			if err := p.Replace(a.Entries[8*i], c); err != nil {
				b.Fatal(err)
			}
		}
		if _, err := p.WriteTo(out); err != nil {
			b.Fatal(err)
		}
		for _, c := range ready {
			c.Close()
		}
	}
}

// BenchmarkOpen reads the structure of an archive of 100,000 entries.
func BenchmarkOpen(b *testing.B) {
	in, size := benchmarkArchive(b, 100_000, 1_000_000, Stored)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Open(in, size, Options{}); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkPrepare compresses 20 MB, half of them compressible.
func BenchmarkPrepare(b *testing.B) {
	content := bytes.Repeat(randomBytes(mathrand.New(mathrand.NewPCG(1, 1)), 200_000), 100)
	b.SetBytes(int64(len(content)))
	for b.Loop() {
		c, err := Prepare(bytes.NewReader(content), Deflated, spool.Options{})
		if err != nil {
			b.Fatal(err)
		}
		c.Close()
	}
}
