package ziparchive

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"testing"
)

// zeros is content of any size that costs nothing.
type zeros struct{}

func (zeros) ReadAt(p []byte, _ int64) (int, error) {
	clear(p)
	return len(p), nil
}

// sparseWriter writes a file whose zeros take no space on the disk.
type sparseWriter struct {
	file *os.File
	n    int64
}

var zeroBlock = make([]byte, 256<<10)

func (s *sparseWriter) Write(p []byte) (int, error) {
	if len(p) <= len(zeroBlock) && bytes.Equal(p, zeroBlock[:len(p)]) {
		s.n += int64(len(p))
		return len(p), nil
	}
	n, err := s.file.WriteAt(p, s.n)
	s.n += int64(n)
	return n, err
}

// TestLargerThan32Bits has an entry of 4 GiB come and go, so that sizes, the
// offsets of what follows and the place of the central directory need ZIP64
// records that were not there before.
func TestLargerThan32Bits(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("reads and writes 4 GiB of zeros several times")
	}
	write := func(p *Patch) (*os.File, *Archive) {
		file, err := os.Create(filepath.Join(t.TempDir(), "large.zip"))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { file.Close() })
		w := &sparseWriter{file: file}
		if _, err := p.WriteTo(w); err != nil {
			t.Fatal(err)
		}
		if err := file.Truncate(w.n); err != nil {
			t.Fatal(err)
		}
		a, err := Open(file, w.n, Options{})
		if err != nil {
			t.Fatal(err)
		}
		return file, a
	}
	small := build([]entry{{name: "first", data: "1"}, {name: "replaced", data: "2"}, {name: "last", data: "3", extra: "\xfe\xca\x00\x00"}}, nil)
	a := openBytes(t, small)
	huge, err := PrepareStored(zeros{}, 4<<30)
	if err != nil {
		t.Fatal(err)
	}
	p := NewPatch(a)
	for _, err := range []error{
		p.Insert(a.Entries[1], Header{Name: "huge"}, huge),
		p.Replace(a.Entries[1], prepared(t, []byte("changed"), Stored)),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	file, large := write(p)
	for _, e := range []string{"first", "replaced", "last"} {
		want := map[string]string{"first": "1", "replaced": "changed", "last": "3"}[e]
		if got := string(contentOf(t, large.Lookup(e))); got != want {
			t.Errorf("%s: %q, want %q", e, got, want)
		}
		if got := run(t, "", "unzip", "-p", file.Name(), e); got != want {
			t.Errorf("unzip: %s: %q, want %q", e, got, want)
		}
	}
	run(t, "", "zipinfo", "-v", file.Name())
	run(t, "", "jar", "tf", file.Name())
	run(t, "", "python3", "-c", `
import sys, zipfile
z = zipfile.ZipFile(sys.argv[1])
assert z.namelist() == ["first", "huge", "replaced", "last"], z.namelist()
assert z.getinfo("huge").file_size == 4 << 30
assert z.read("last") == b"3" and z.read("replaced") == b"changed"
`, file.Name())

	_, again := write(NewPatch(large))
	if again.Size() != large.Size() {
		t.Fatal("an unchanged archive is rewritten with another size")
	}
	for _, off := range []int64{0, large.Lookup("replaced").HeaderOffset} {
		same, err := sameBytes(io.NewSectionReader(large.reader, off, min(1<<20, large.Size()-off)), io.NewSectionReader(again.reader, off, min(1<<20, again.Size()-off)))
		if err != nil || !same {
			t.Errorf("an unchanged archive is rewritten as other bytes (%v)", err)
		}
	}

	p = NewPatch(large)
	if err := p.Replace(large.Lookup("huge"), prepared(t, []byte("no longer"), Stored)); err != nil {
		t.Fatal(err)
	}
	shrunk := patched(t, p)
	acceptedByOthers(t, shrunk)
	p = NewPatch(openBytes(t, shrunk))
	if err := p.Remove(p.archive.Lookup("huge")); err != nil {
		t.Fatal(err)
	}
	differences, err := Diff(a, openBytes(t, patched(t, p)))
	if err != nil || len(differences) != 1 || differences[0].Name != "replaced" {
		t.Errorf("differences: %v, %v", differences, err)
	}
}
