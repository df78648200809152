package ziparchive

import (
	"bytes"
	"fmt"
	"io/fs"
	mathrand "math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/countersign-dev/countersign/artifact/spool"

	"github.com/countersign-dev/countersign/internal/oracle"
)

// TestPackers takes archives of other programs through an unchanged rewrite,
// which has to be the same bytes, and through one with a replaced, a removed and
// two added entries, which everybody has to read and of which Diff has to find
// exactly that.
func TestPackers(t *testing.T) {
	t.Parallel()
	python := func(body string) func(t *testing.T, root, out string) {
		return func(t *testing.T, root, out string) {
			run(t, root, "python3", "-c", `
import io, os, sys, zipfile
names = sorted(os.path.relpath(os.path.join(d, f), ".") for d, _, files in os.walk(".") for f in files)
class Stream(io.RawIOBase):
    def __init__(self, f): self.f = f
    def writable(self): return True
    def write(self, b): return self.f.write(b)
    def flush(self): self.f.flush()
out = sys.argv[1]
`+body, out)
		}
	}
	for name, pack := range map[string]func(t *testing.T, root, out string){
		"zip":          func(t *testing.T, root, out string) { run(t, root, "zip", "-qry", out, ".") },
		"zip stored":   func(t *testing.T, root, out string) { run(t, root, "zip", "-qry0X", out, ".") },
		"zip streamed": func(t *testing.T, root, out string) { run(t, root, "sh", "-c", "zip -qr - . | cat > "+out) },
		"zip zip64":    func(t *testing.T, root, out string) { run(t, root, "zip", "-qry", "-fz", out, ".") },
		"zip comment": func(t *testing.T, root, out string) {
			run(t, root, "sh", "-c", "zip -qry "+out+" . && echo 'the comment' | zip -qz "+out)
		},
		"self-extracting": func(t *testing.T, root, out string) {
			run(t, root, "sh", "-c", "zip -qr p.zip . && (echo '#!/bin/stub'; cat p.zip) > "+out)
		},
		"self-extracting adjusted": func(t *testing.T, root, out string) {
			run(t, root, "sh", "-c", "zip -qr p.zip . && (echo '#!/bin/stub'; cat p.zip) > "+out+" && zip -qA "+out)
		},
		"jar":    func(t *testing.T, root, out string) { run(t, root, "jar", "cf", out, ".") },
		"jar 0":  func(t *testing.T, root, out string) { run(t, root, "jar", "c0f", out, ".") },
		"python": python("with zipfile.ZipFile(out, 'w', zipfile.ZIP_DEFLATED) as z:\n  [z.write(n) for n in names]"),
		"python streamed": python(`
with open(out, "wb") as f, zipfile.ZipFile(Stream(f), "w", zipfile.ZIP_DEFLATED) as z:
  [z.write(n) for n in names]`),
		"python zip64": python(`
with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as z:
  for n in names:
    with z.open(n, "w", force_zip64=True) as f: f.write(open(n, "rb").read())`),
		"python streamed zip64": python(`
with open(out, "wb") as f, zipfile.ZipFile(Stream(f), "w") as z:
  for n in names:
    with z.open(n, "w", force_zip64=True) as f: f.write(open(n, "rb").read())`),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			root := sampleTree(t)
			path := filepath.Join(t.TempDir(), "in.zip")
			pack(t, root, path)
			original, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			a := openBytes(t, original)
			if got := patched(t, NewPatch(a)); !bytes.Equal(got, original) {
				t.Fatal("an unchanged archive is rewritten as other bytes")
			}
			find := func(a *Archive, name string) *Entry {
				t.Helper()
				for _, e := range a.Entries {
					if strings.TrimPrefix(e.Name, "./") == name {
						return e
					}
				}
				t.Fatalf("no entry %q", name)
				return nil
			}
			find(a, "doc/Grüße.txt")
			find(a, "doc/日本.txt")
			if strings.HasPrefix(name, "zip") && !strings.Contains(name, "streamed") {
				if link := find(a, "bin/link"); link.Mode()&fs.ModeSymlink == 0 || string(contentOf(t, link)) != "tool.exe" {
					t.Errorf("bin/link has mode %v", link.Mode())
				}
				if tool := find(a, "bin/tool.exe"); tool.Mode() != 0o755 {
					t.Errorf("bin/tool.exe has mode %v", tool.Mode())
				}
			}
			for _, e := range a.Entries {
				if e.IsDir() || e.Mode()&fs.ModeSymlink != 0 {
					continue
				}
				want, err := os.ReadFile(filepath.Join(root, e.Name))
				if os.IsNotExist(err) && strings.HasPrefix(e.Name, "META-INF/") {
					continue
				}
				if err != nil || !bytes.Equal(contentOf(t, e), want) {
					t.Errorf("%s: content differs (%v)", e.Name, err)
				}
			}

			tool, readme := find(a, "bin/tool.exe"), find(a, "readme.txt")
			p := NewPatch(a)
			changed := bytes.Repeat([]byte("signed"), 5000)
			for _, err := range []error{
				p.Replace(tool, prepared(t, changed, tool.Method)),
				p.Remove(readme),
				p.Insert(a.Entries[0], Header{Name: "META-INF/SIG.txt", Modified: time.Unix(1e9, 0), Comment: "c"}, prepared(t, []byte("signature"), Deflated)),
				p.Insert(nil, Header{Name: "größe.p7s"}, prepared(t, []byte("stored"), Stored)),
			} {
				if err != nil {
					t.Fatal(err)
				}
			}
			output := patched(t, p)
			if again := patched(t, p); !bytes.Equal(output, again) {
				t.Error("two runs differ")
			}
			b := openBytes(t, output)
			if name == "self-extracting" {
				// Info-ZIP corrects such offsets itself and exits with a warning.
				checkWithGo(t, output)
				run(t, "", "python3", "-m", "zipfile", "-t", writeFile(t, output))
				run(t, "", "jar", "tf", writeFile(t, output))
			} else {
				acceptedByOthers(t, output)
			}
			if !bytes.Equal(contentOf(t, find(b, "bin/tool.exe")), changed) {
				t.Error("the replaced content is not there")
			}
			differences, err := Diff(a, b, DiffOptions{})
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, d := range differences {
				got = append(got, fmt.Sprintf("%s %t %t %v", strings.TrimPrefix(d.Name, "./"), d.A != nil, d.B != nil, d.Aspects))
			}
			slices.Sort(got)
			want := []string{"META-INF/SIG.txt false true []", "bin/tool.exe true true [content]", "größe.p7s false true []", "readme.txt true false []"}
			if !slices.Equal(got, want) {
				t.Errorf("differences:\n got %q\nwant %q", got, want)
			}
		})
	}
}

// TestManyEntries has more entries than fit in 16 bits, in archive and in patch.
func TestManyEntries(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "many.zip")
	run(t, "", "python3", "-c", `
import sys, zipfile
with zipfile.ZipFile(sys.argv[1], "w") as z:
    for i in range(65535): z.writestr(f"d/{i}", b"")
`, path)
	small, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	a := openBytes(t, small)
	if !bytes.Equal(patched(t, NewPatch(a)), small) {
		t.Fatal("an unchanged archive is rewritten as other bytes")
	}
	p := NewPatch(a)
	for i := range 10 {
		if err := p.Insert(a.Entries[i], Header{Name: fmt.Sprintf("new/%d", i)}, prepared(t, []byte("x"), Deflated)); err != nil {
			t.Fatal(err)
		}
	}
	large := patched(t, p)
	countedByOthers(t, large, 65545)
	b := openBytes(t, large)
	if len(b.Entries) != 65545 {
		t.Fatalf("%d entries", len(b.Entries))
	}
	p = NewPatch(b)
	if !bytes.Equal(patched(t, p), large) {
		t.Fatal("an unchanged archive is rewritten as other bytes")
	}
	for i := range 20 {
		if err := p.Remove(b.Entries[i]); err != nil {
			t.Fatal(err)
		}
	}
	countedByOthers(t, patched(t, p), 65525)
}

// countedByOthers has other implementations find all entries of an archive. It
// has them print totals: a page for each entry takes them longer than all else.
func countedByOthers(t *testing.T, archive []byte, entries int) {
	t.Helper()
	path := writeFile(t, archive)
	run(t, "", "unzip", "-tqq", path)
	if got := run(t, "", "zipinfo", "-h", path); !strings.Contains(got, fmt.Sprintf("number of entries: %d", entries)) {
		t.Errorf("zipinfo: %s, want %d entries", got, entries)
	}
	if got := strings.Count(run(t, "", "jar", "tf", path), "\n"); got != entries {
		t.Errorf("jar: %d entries, want %d", got, entries)
	}
	count := "import sys, zipfile; print(len(zipfile.ZipFile(sys.argv[1]).namelist()))"
	if got := strings.TrimSpace(run(t, "", "python3", "-c", count, path)); got != fmt.Sprint(entries) {
		t.Errorf("python3: %s entries, want %d", got, entries)
	}
	checkWithGo(t, archive)
}

// TestRandomReplacements: whatever is replaced, only that differs.
func TestRandomReplacements(t *testing.T) {
	t.Parallel()
	for seed := range uint64(150) {
		r := mathrand.New(mathrand.NewPCG(seed, 1))
		a := openBytes(t, randomArchive(t, r, r.IntN(20)))
		p := NewPatch(a)
		var want []string
		for _, e := range a.Entries {
			if r.IntN(4) > 0 {
				continue
			}
			content := append(randomBytes(r, r.IntN(5000)), "changed"...)
			if err := p.Replace(e, prepared(t, content, e.Method)); err != nil {
				t.Fatal(err)
			}
			want = append(want, e.Name)
		}
		if r.IntN(2) == 0 {
			p.Align = func(string) int64 { return 4096 }
		}
		output := patched(t, p)
		checkWithGo(t, output)
		b := openBytes(t, output)
		differences, err := Diff(a, b, DiffOptions{})
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, d := range differences {
			if !slices.Equal(d.Aspects, []Aspect{Content}) {
				t.Errorf("seed %d: %s differs in %v", seed, d.Name, d.Aspects)
			}
			got = append(got, d.Name)
		}
		if !slices.Equal(got, want) {
			t.Errorf("seed %d: %q differ, replaced were %q", seed, got, want)
		}
		for _, e := range b.Entries {
			if c := contentOf(t, e); p.replaced[a.Entries[e.index]] != nil != bytes.HasSuffix(c, []byte("changed")) {
				t.Errorf("seed %d: %s has the wrong content", seed, e.Name)
			}
			if p.Align != nil && e.Method == Stored && e.DataOffset%4096 != 0 {
				t.Errorf("seed %d: %s is at offset %d", seed, e.Name, e.DataOffset)
			}
		}
	}
}

// TestFileToFile writes from a file to a file, the way the kernel copies.
func TestFileToFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	original := randomArchive(t, mathrand.New(mathrand.NewPCG(7, 7)), 50)
	if err := os.WriteFile(filepath.Join(dir, "in.zip"), original, 0o600); err != nil {
		t.Fatal(err)
	}
	in, err := os.Open(filepath.Join(dir, "in.zip"))
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	a, err := Open(in, int64(len(original)), Options{})
	if err != nil {
		t.Fatal(err)
	}
	p := NewPatch(a)
	for i, e := range a.Entries {
		if i%7 == 0 {
			c, err := Prepare(strings.NewReader("other"), e.Method, spool.Options{Dir: dir, Threshold: -1})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { c.Close() })
			if err := p.Replace(e, c); err != nil {
				t.Fatal(err)
			}
		}
	}
	out, err := os.Create(filepath.Join(dir, "out.zip"))
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	if _, err := p.WriteTo(out); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(out.Name())
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, patched(t, p)) {
		t.Error("a file gets other bytes than a buffer")
	}
	checkWithGo(t, got)
}

func TestDirectoryGap(t *testing.T) {
	t.Parallel()
	a := openBytes(t, randomArchive(t, mathrand.New(mathrand.NewPCG(3, 3)), 5))
	p := NewPatch(a)
	p.SetDirectoryGap([]byte("a signing block"))
	with := patched(t, p)
	checkWithGo(t, with)
	if _, err := Open(bytes.NewReader(with), int64(len(with)), Options{}); !is(err, DirectoryGap) {
		t.Errorf("strict: %v", err)
	}
	b := openBytes(t, with, DirectoryGap)
	if len(b.Problems()) != 1 {
		t.Errorf("problems: %v", b.Problems())
	}
	if !bytes.Equal(patched(t, NewPatch(b)), with) {
		t.Error("an unchanged archive is rewritten as other bytes")
	}
	p = NewPatch(b)
	p.SetDirectoryGap(nil)
	without := openBytes(t, patched(t, p))
	if d, err := Diff(a, without, DiffOptions{}); err != nil || len(d) > 0 {
		t.Errorf("differences %v, %v", d, err)
	}
}

func TestInvalidChanges(t *testing.T) {
	t.Parallel()
	raw := randomArchive(t, mathrand.New(mathrand.NewPCG(3, 3)), 5)
	a, other := openBytes(t, raw), openBytes(t, raw)
	p, c := NewPatch(a), prepared(t, []byte("x"), Stored)
	if err := p.Remove(a.Entries[4]); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		err  error
		kind Kind
	}{
		{p.Replace(other.Entries[0], c), InvalidPatch},
		{p.Replace(a.Entries[4], c), InvalidPatch},
		{p.Remove(a.Entries[4]), InvalidPatch},
		{p.Insert(other.Entries[0], Header{Name: "x"}, c), InvalidPatch},
		{p.Insert(nil, Header{Name: a.Entries[0].Name}, c), DuplicateName},
		{p.Insert(nil, Header{Name: "../x"}, c), Traversal},
		{p.Insert(nil, Header{Name: ""}, c), InvalidName},
		{p.Insert(nil, Header{Name: "x", Comment: strings.Repeat("c", 1<<16)}, c), InvalidPatch},
	} {
		if !is(test.err, test.kind) {
			t.Errorf("got %v, want %v", test.err, test.kind)
		}
	}
	if err := p.Insert(nil, Header{Name: a.Entries[4].Name}, c); err != nil {
		t.Error(err)
	}
	if _, err := Prepare(strings.NewReader("x"), 12, spool.Options{}); !is(err, UnsupportedMethod) {
		t.Errorf("method 12: %v", err)
	}
}

// TestGoSamples reads the archives that archive/zip is tested with, odd ones
// among them: whatever is accepted is rewritten as it is, and the others are
// refused for the reason they were made for.
func TestGoSamples(t *testing.T) {
	t.Parallel()
	root := strings.TrimSpace(run(t, "", "go", "env", "GOROOT"))
	paths, err := filepath.Glob(filepath.Join(root, "src", "archive", "zip", "testdata", "*.zip"))
	if err != nil {
		t.Fatal(err)
	}
	if len(paths) < 10 {
		oracle.Missing(t, "%s has no test data", root)
	}
	refused := map[string]Kind{
		"comment-truncated.zip":  Malformed,
		"dupdir.zip":             DuplicateName,
		"readme.zip":             Malformed, // a byte behind the comment
		"test-badbase.zip":       Mismatch,  // two central directories
		"test-baddirsz.zip":      Malformed,
		"test-prefix.zip":        Malformed, // bytes behind the comment
		"test-trailing-junk.zip": Malformed,
	}
	for _, path := range paths {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		name := filepath.Base(path)
		a, err := Open(bytes.NewReader(b), int64(len(b)), Options{})
		if kind, bad := refused[name]; bad || err != nil {
			if !is(err, kind) {
				t.Errorf("%s: got %v, want %q", name, err, kind)
			}
			continue
		}
		if !bytes.Equal(patched(t, NewPatch(a)), b) {
			t.Errorf("%s: an unchanged archive is rewritten as other bytes", name)
		}
	}
}
