package spool

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"testing/iotest"
)

// TestRandomWrites compares spools in memory, in a file and between with a slice.
func TestRandomWrites(t *testing.T) {
	t.Parallel()
	for name, o := range map[string]Options{
		"memory":    {},
		"file":      {Threshold: -1},
		"threshold": {Threshold: 3000},
		"budget":    {Budget: NewBudget(2000)},
		"no budget": {Budget: NewBudget(0)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o.Dir = t.TempDir()
			for seed := range uint64(30) {
				r := rand.New(rand.NewPCG(seed, 0))
				s := New(o)
				var want []byte
				for range 40 {
					p := make([]byte, r.IntN(400))
					for i := range p {
						p[i] = byte(r.Uint32())
					}
					off := int64(len(want))
					if r.IntN(2) == 0 {
						off = r.Int64N(int64(len(want)) + 100)
						if n, err := s.WriteAt(p, off); n != len(p) || err != nil {
							t.Fatal(n, err)
						}
					} else if n, err := s.Write(p); n != len(p) || err != nil {
						t.Fatal(n, err)
					}
					if len(p) > 0 {
						want = append(want, make([]byte, max(0, int(off)+len(p)-len(want)))...)
						copy(want[off:], p)
					}
				}
				if s.Size() != int64(len(want)) {
					t.Fatalf("size %d, want %d", s.Size(), len(want))
				}
				if err := iotest.TestReader(s.Reader(), want); err != nil {
					t.Fatal(err)
				}
				for range 2 {
					if err := s.Close(); err != nil {
						t.Fatal(err)
					}
				}
			}
			if used := o.Budget.Used(); used != 0 {
				t.Errorf("%d bytes of the budget are lost", used)
			}
			if left, _ := os.ReadDir(o.Dir); len(left) > 0 {
				t.Errorf("files are left: %v", left)
			}
		})
	}
}

func TestBudgetIsShared(t *testing.T) {
	t.Parallel()
	budget := NewBudget(64 << 10)
	o := Options{Dir: t.TempDir(), Budget: budget}
	var group sync.WaitGroup
	for range 20 {
		group.Go(func() {
			s := New(o)
			defer s.Close()
			for range 100 {
				if _, err := s.Write(make([]byte, 1000)); err != nil {
					t.Error(err)
				}
				if used := budget.Used(); used > 64<<10 {
					t.Errorf("%d bytes are used", used)
				}
			}
			if s.file == nil {
				t.Error("100 kB stay in a budget of 64 KiB")
			}
		})
	}
	group.Wait()
	if budget.Used() != 0 {
		t.Errorf("%d bytes are lost", budget.Used())
	}
}

func TestMisuse(t *testing.T) {
	t.Parallel()
	s := New(Options{})
	if _, err := s.WriteAt([]byte("x"), -1); err == nil {
		t.Error("a negative offset can be written to")
	}
	if _, err := s.WriteAt([]byte("xy"), 1<<63-2); err == nil {
		t.Error("an offset behind the last can be written to")
	}
	if _, err := s.ReadAt(make([]byte, 1), -1); err == nil {
		t.Error("a negative offset can be read")
	}
	if _, err := s.ReadAt(make([]byte, 1), 5); !errors.Is(err, io.EOF) {
		t.Error(err)
	}
	s.Close()
	if _, err := s.Write([]byte("x")); !errors.Is(err, os.ErrClosed) {
		t.Error(err)
	}
	if _, err := s.ReadAt(make([]byte, 1), 0); !errors.Is(err, os.ErrClosed) {
		t.Error(err)
	}
	if _, err := CopyRange(io.Discard, s, 0, 0); !errors.Is(err, os.ErrClosed) {
		t.Error(err)
	}
	nowhere := New(Options{Dir: filepath.Join(t.TempDir(), "missing"), Threshold: -1})
	if _, err := nowhere.Write([]byte("x")); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
}

// TestCopyRange copies from every kind of source to every kind of destination.
func TestCopyRange(t *testing.T) {
	t.Parallel()
	content := make([]byte, 700_000)
	for i := range content {
		content[i] = byte(rand.Uint32())
	}
	dir := t.TempDir()
	path := filepath.Join(dir, "source")
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	memory, spilled := New(Options{}), New(Options{Dir: dir, Threshold: -1})
	defer memory.Close()
	defer spilled.Close()
	memory.Write(content)
	spilled.Write(content)
	for name, source := range map[string]io.ReaderAt{
		"file": file, "memory": memory, "spilled": spilled, "reader": bytes.NewReader(content),
		"section of a file":   io.NewSectionReader(io.NewSectionReader(file, 0, 700_000), 0, 700_000),
		"section of a spool":  io.NewSectionReader(spilled, 0, 700_000),
		"section of a reader": io.NewSectionReader(bytes.NewReader(content), 0, 700_000),
	} {
		for _, r := range []struct{ off, n, want int64 }{
			{0, 700_000, 700_000}, {0, 0, 0}, {5, 1, 1}, {300_000, 300_001, 300_001}, {699_999, 1, 1},
			{699_999, 2, 1}, {700_000, 1, 0}, {900_000, 10, 0},
		} {
			appended, err := os.OpenFile(filepath.Join(t.TempDir(), "append"), os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o600)
			if err != nil {
				t.Fatal(err)
			}
			created, err := os.Create(filepath.Join(t.TempDir(), "create"))
			if err != nil {
				t.Fatal(err)
			}
			var buffer bytes.Buffer
			for _, dst := range []io.Writer{appended, created, &buffer} {
				io.WriteString(dst, "<")
				n, err := CopyRange(dst, source, r.off, r.n)
				short := r.want < r.n
				if short != errors.Is(err, io.ErrUnexpectedEOF) || !short && (err != nil || n != r.n) {
					t.Fatalf("%s: %d bytes from %d: copied %d, %v", name, r.n, r.off, n, err)
				}
				if !short {
					io.WriteString(dst, ">")
					got := buffer.Bytes()
					if f, ok := dst.(*os.File); ok {
						got, _ = os.ReadFile(f.Name())
					}
					if want := "<" + string(content[r.off:r.off+r.n]) + ">"; string(got) != want {
						t.Fatalf("%s: %d bytes from %d are wrong", name, r.n, r.off)
					}
				}
			}
			appended.Close()
			created.Close()
		}
	}
	if at, _ := file.Seek(0, io.SeekCurrent); at != 0 {
		t.Errorf("the source's file offset moved to %d", at)
	}
	if _, err := CopyRange(io.Discard, file, -1, 1); err == nil {
		t.Error("a negative offset can be copied")
	}
}

// TestTrim gives back what is not needed, and takes nothing for what is in a file.
func TestTrim(t *testing.T) {
	t.Parallel()
	for _, size := range []int{0, 1, 700, 32 << 10, 40_000, 90_000} {
		budget := NewBudget(1 << 20)
		s := New(Options{Dir: t.TempDir(), Threshold: 64 << 10, Budget: budget})
		content := bytes.Repeat([]byte{7, 8, 9}, size/3+1)[:size]
		if _, err := s.Write(content); err != nil {
			t.Fatal(err)
		}
		s.Trim()
		want := int64(size)
		if size > 64<<10 {
			want = 0
		}
		if budget.Used() != want {
			t.Errorf("%d bytes take %d of the budget, not %d", size, budget.Used(), want)
		}
		if got, err := io.ReadAll(s.Reader()); err != nil || !bytes.Equal(got, content) {
			t.Errorf("%d bytes are read back as %d, %v", size, len(got), err)
		}
		if _, err := s.Write(content); err != nil || s.Size() != int64(2*size) {
			t.Errorf("after %d more bytes the size is %d, %v", size, s.Size(), err)
		}
		if err := s.Close(); err != nil || budget.Used() != 0 {
			t.Errorf("closed with %d bytes of the budget, %v", budget.Used(), err)
		}
	}
}
