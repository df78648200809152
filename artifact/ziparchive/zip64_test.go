package ziparchive

import (
	"bytes"
	"errors"
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

// sparse is a file in memory of which zeros take no space. Reading 4 GiB of them
// takes a fraction of what it takes a file system.
type sparse struct {
	parts []part // what was written and is not zeros, in order
	size  int64
}

type part struct {
	off  int64
	data []byte
}

var zeroBlock = make([]byte, 256<<10)

func (s *sparse) Write(p []byte) (int, error) {
	if len(p) > len(zeroBlock) || !bytes.Equal(p, zeroBlock[:len(p)]) {
		s.parts = append(s.parts, part{s.size, bytes.Clone(p)})
	}
	s.size += int64(len(p))
	return len(p), nil
}

func (s *sparse) ReadAt(p []byte, off int64) (int, error) {
	n := int(max(0, min(int64(len(p)), s.size-off)))
	p = p[:n]
	clear(p)
	for _, part := range s.parts {
		if from := part.off - off; from < int64(n) && from+int64(len(part.data)) > 0 {
			copy(p[max(0, from):], part.data[max(0, -from):])
		}
	}
	if n == 0 {
		return 0, io.EOF
	}
	return n, nil
}

// within reports whether other has all that s has.
func (s *sparse) within(other *sparse) bool {
	for _, part := range s.parts {
		got := make([]byte, len(part.data))
		if _, err := other.ReadAt(got, part.off); err != nil || !bytes.Equal(got, part.data) {
			return false
		}
	}
	return s.size == other.size
}

// file writes a file of as few blocks for other programs.
func (s *sparse) file(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "large.zip")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, part := range s.parts {
		if _, err := f.WriteAt(part.data, part.off); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(f.Truncate(s.size), f.Close()); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestLargerThan32Bits has an entry of 4 GiB come and go, so that sizes, the
// offsets of what follows and the place of the central directory need ZIP64
// records that were not there before.
func TestLargerThan32Bits(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("reads 4 GiB of zeros several times")
	}
	write := func(p *Patch) (*sparse, *Archive) {
		out := &sparse{}
		if _, err := p.WriteTo(out); err != nil {
			t.Fatal(err)
		}
		a, err := Open(out, out.size, Options{})
		if err != nil {
			t.Fatal(err)
		}
		return out, a
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
	first, large := write(p)
	file := first.file(t)
	for _, e := range []string{"first", "replaced", "last"} {
		want := map[string]string{"first": "1", "replaced": "changed", "last": "3"}[e]
		if got := string(contentOf(t, large.Lookup(e))); got != want {
			t.Errorf("%s: %q, want %q", e, got, want)
		}
		if got := run(t, "", "unzip", "-p", file, e); got != want {
			t.Errorf("unzip: %s: %q, want %q", e, got, want)
		}
	}
	run(t, "", "zipinfo", "-v", file)
	run(t, "", "jar", "tf", file)
	run(t, "", "python3", "-c", `
import sys, zipfile
z = zipfile.ZipFile(sys.argv[1])
assert z.namelist() == ["first", "huge", "replaced", "last"], z.namelist()
assert z.getinfo("huge").file_size == 4 << 30
assert z.read("last") == b"3" and z.read("replaced") == b"changed"
`, file)

	if again, _ := write(NewPatch(large)); !first.within(again) || !again.within(first) {
		t.Error("an unchanged archive is rewritten as other bytes")
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
	differences, err := Diff(a, openBytes(t, patched(t, p)), DiffOptions{})
	if err != nil || len(differences) != 1 || differences[0].Name != "replaced" {
		t.Errorf("differences: %v, %v", differences, err)
	}
}
