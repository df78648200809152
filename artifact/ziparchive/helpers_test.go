package ziparchive

import (
	"archive/zip"
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	mathrand "math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/countersign-dev/countersign/artifact/spool"
	"github.com/countersign-dev/countersign/internal/oracle"
)

func openBytes(t testing.TB, b []byte, allow ...Kind) *Archive {
	t.Helper()
	a, err := Open(bytes.NewReader(b), int64(len(b)), Options{Allow: allow})
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func patched(t testing.TB, p *Patch) []byte {
	t.Helper()
	var out bytes.Buffer
	n, err := p.WriteTo(&out)
	if err != nil {
		t.Fatal(err)
	}
	if n != int64(out.Len()) {
		t.Fatalf("WriteTo returned %d, wrote %d bytes", n, out.Len())
	}
	return out.Bytes()
}

func prepared(t testing.TB, content []byte, method uint16) *Prepared {
	t.Helper()
	p, err := Prepare(bytes.NewReader(content), method, spool.Options{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	return p
}

func contentOf(t testing.TB, e *Entry) []byte {
	t.Helper()
	r, err := e.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	b, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// run runs a program in dir and returns what it prints; it has to succeed.
func run(t testing.TB, dir, program string, args ...string) string {
	t.Helper()
	cmd := exec.Command(oracle.Need(t, program), args...)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %v: %v\n%s", program, args, err, out)
	}
	return string(out)
}

// sampleTree writes a directory of files that a packer packs.
func sampleTree(t testing.TB) string {
	t.Helper()
	root := filepath.Join(t.TempDir(), "tree")
	random := make([]byte, 20_000)
	rand.Read(random)
	for name, content := range map[string][]byte{
		"readme.txt":        []byte(strings.Repeat("A line that compresses well.\n", 500)),
		"bin/tool.exe":      random,
		"bin/empty":         nil,
		"lib/a/b/c.dll":     append(bytes.Repeat([]byte{0}, 4000), random[:100]...),
		"doc/Grüße.txt":     []byte("Hallo"),
		"doc/日本.txt":        []byte("こんにちは"),
		"META/manifest.xml": []byte("<x/>"),
	} {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, content, 0o640); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(filepath.Join(root, "bin", "tool.exe"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("tool.exe", filepath.Join(root, "bin", "link")); err != nil {
		t.Fatal(err)
	}
	return root
}

// acceptedByOthers has every other implementation at hand read an archive.
func acceptedByOthers(t *testing.T, archive []byte) {
	t.Helper()
	path := writeFile(t, archive)
	for _, c := range []struct {
		program string
		args    []string
	}{
		{"unzip", []string{"-tqq", path}},
		{"zipinfo", []string{"-v", path}},
		{"python3", []string{"-c", `
import sys, zipfile
z = zipfile.ZipFile(sys.argv[1])
assert z.testzip() is None
`, path}},
		{"jar", []string{"tf", path}},
		{"zip", []string{"-T", path}},
	} {
		t.Run(c.program, func(t *testing.T) { run(t, "", c.program, c.args...) })
	}
	checkWithGo(t, archive)
}

// checkWithGo reads all of an archive with archive/zip.
func checkWithGo(t testing.TB, archive []byte) {
	t.Helper()
	z, err := zip.NewReader(bytes.NewReader(archive), int64(len(archive)))
	if err != nil && !errors.Is(err, zip.ErrInsecurePath) {
		t.Fatal(err)
	}
	for _, f := range z.File {
		if f.Method != zip.Store && f.Method != zip.Deflate || f.Flags&1 != 0 {
			continue
		}
		r, err := f.Open()
		if err != nil {
			t.Fatalf("%s: %v", f.Name, err)
		}
		if _, err := io.Copy(io.Discard, r); err != nil {
			t.Fatalf("%s: %v", f.Name, err)
		}
		r.Close()
	}
}

// randomArchive returns an archive of n entries, made by archive/zip with data
// descriptors or, for raw entries, without.
func randomArchive(t testing.TB, r *mathrand.Rand, n int) []byte {
	t.Helper()
	var out bytes.Buffer
	z := zip.NewWriter(&out)
	if r.IntN(3) == 0 {
		stub := randomBytes(r, r.IntN(200)+1)
		out.Write(stub)
		if r.IntN(2) == 0 {
			z.SetOffset(int64(len(stub)))
		}
	}
	for i := range n {
		h := &zip.FileHeader{Name: fmt.Sprintf("d%d/file-%d", r.IntN(4), i), Method: zip.Deflate}
		if r.IntN(3) == 0 {
			h.Method = zip.Store
		}
		if r.IntN(4) == 0 {
			h.Comment = "a comment"
			h.Extra = []byte{0xfe, 0xca, 0, 0}
		}
		h.SetMode(0o755)
		content := randomBytes(r, r.IntN(5000))
		var w io.Writer
		var err error
		if h.Method == zip.Store && r.IntN(2) == 0 {
			p := prepared(t, content, Stored)
			h.CRC32, h.CompressedSize64, h.UncompressedSize64 = p.crc, uint64(p.size), uint64(p.size)
			w, err = z.CreateRaw(h)
		} else {
			w, err = z.CreateHeader(h)
		}
		if err != nil {
			t.Fatal(err)
		}
		w.Write(content)
	}
	if r.IntN(2) == 0 {
		z.SetComment("comment of the archive")
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// randomBytes are half compressible.
func randomBytes(r *mathrand.Rand, n int) []byte {
	b := make([]byte, n)
	for i := 0; i < n/2; i++ {
		b[i] = byte(r.Uint32())
	}
	return b
}

func writeFile(t testing.TB, b []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "out.zip")
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
