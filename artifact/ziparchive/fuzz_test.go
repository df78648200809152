package ziparchive

import (
	"archive/zip"
	"bytes"
	"errors"
	"io"
	mathrand "math/rand/v2"
	"testing"

	"github.com/countersign-dev/countersign/artifact/spool"
)

// fuzzLimits keep an input from costing more than a moment.
var fuzzLimits = Limits{Entries: 1000, DirectorySize: 1 << 20, Uncompressed: 16 << 20}

func seeds(f *testing.F) {
	for seed := range uint64(6) {
		f.Add(randomArchive(f, mathrand.New(mathrand.NewPCG(seed, 2)), int(seed)))
	}
	narrow := "PK\x07\x08\x63\xf3\xf3\xad\x04\x00\x00\x00\x04\x00\x00\x00"
	f.Add(build([]entry{{name: "a", data: "data", flags: flagDescriptor, descriptor: narrow, behind: "gap"}, {name: "A", extra: "\xfe\xca\x01\x00x"}}, nil))
	f.Add(build([]entry{{name: `..\C:`, flags: flagEncrypted}, {name: "ü"}, {name: "ü", flags: flagUTF8}}, nil))
	wide := NewPatch(openBytes(f, build(nil, nil)))
	w := &writer{patch: wide, archive: wide.archive}
	f.Add(w.endRecords(1<<17, 0, 0))
}

// FuzzReader: whatever the input, Open and reading all contents end with a
// result or a typed error, and an accepted archive is rewritten as it is.
func FuzzReader(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, b []byte) { checkReading(t, b) })
}

func checkReading(t *testing.T, b []byte) {
	for _, o := range []Options{{Limits: fuzzLimits}, {Limits: fuzzLimits, Allow: tolerable}} {
		a, err := Open(bytes.NewReader(b), int64(len(b)), o)
		if err != nil {
			var typed *Error
			if !errors.As(err, &typed) {
				t.Fatalf("untyped error %v", err)
			}
			continue
		}
		var total int64
		for _, e := range a.Entries {
			e.Mode()
			e.Modified()
			e.Comment()
			r, err := e.Open()
			if err != nil {
				continue
			}
			n, _ := io.Copy(io.Discard, r)
			r.Close()
			total += n
		}
		if total > fuzzLimits.Uncompressed {
			t.Fatalf("%d bytes were inflated", total)
		}
		if !bytes.Equal(patched(t, NewPatch(a)), b) {
			t.Fatal("an unchanged archive is rewritten as other bytes")
		}
		if d, err := Diff(a, a, DiffOptions{}); err == nil && len(d) > 0 {
			t.Fatalf("an archive differs from itself in %v", d)
		}
	}
}

// FuzzPatch: what Open accepts and WriteTo changes, archive/zip and Open read,
// and Diff finds the change and nothing else.
func FuzzPatch(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, b []byte) { checkPatching(t, b) })
}

func checkPatching(t *testing.T, b []byte) {
	a, err := Open(bytes.NewReader(b), int64(len(b)), Options{Limits: fuzzLimits})
	if err != nil {
		return
	}
	p := NewPatch(a)
	p.Align = func(string) int64 { return 4 }
	replaced := make(map[string]bool)
	removed := 0
	for i, e := range a.Entries {
		switch {
		case i%3 == 1:
			c, err := Prepare(bytes.NewReader([]byte("replaced by the fuzz target")), Deflated, spool.Options{})
			if err != nil {
				t.Fatal(err)
			}
			if err := p.Replace(e, c); err != nil {
				t.Fatal(err)
			}
			replaced[e.Name] = true
		case i%5 == 3:
			if err := p.Remove(e); err != nil {
				t.Fatal(err)
			}
			removed++
		}
	}
	var out bytes.Buffer
	if _, err := p.WriteTo(&out); err != nil {
		if is(err, InvalidPatch) {
			return // an extra field without room for the padding
		}
		t.Fatal(err)
	}
	if _, err := zip.NewReader(bytes.NewReader(out.Bytes()), int64(out.Len())); err != nil && !errors.Is(err, zip.ErrInsecurePath) {
		if _, was := zip.NewReader(bytes.NewReader(b), int64(len(b))); was == nil {
			t.Fatalf("archive/zip: %v", err)
		}
	}
	changed, err := Open(bytes.NewReader(out.Bytes()), int64(out.Len()), Options{Limits: fuzzLimits})
	if err != nil {
		t.Fatal(err)
	}
	differences, err := Diff(a, changed, DiffOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range differences {
		if d.B != nil && d.A != nil && !replaced[d.Name] {
			t.Fatalf("%q differs in %v", d.Name, d.Aspects)
		}
	}
	if len(changed.Entries) != len(a.Entries)-removed {
		t.Fatalf("%d of %d entries are left, %d were removed", len(changed.Entries), len(a.Entries), removed)
	}
}

// TestMutants has both look at archives that are nearly right: the headers of a
// good one with a few bytes changed.
func TestMutants(t *testing.T) {
	t.Parallel()
	r := mathrand.New(mathrand.NewPCG(11, 11))
	accepted := 0
	for range 40 {
		good := randomArchive(t, r, 1+r.IntN(6))
		a := openBytes(t, good)
		var headers []int // offsets of all bytes that are not content
		for i, next := 0, 0; i < len(good); i++ {
			if next < len(a.physical) && i == int(a.physical[next].DataOffset) {
				i += int(a.physical[next].CompressedSize)
				next++
			}
			headers = append(headers, i)
		}
		for range 400 {
			mutant := bytes.Clone(good)
			for range 1 + r.IntN(3) {
				mutant[headers[r.IntN(len(headers))]] = []byte{0, 1, 8, 0xff, byte(r.Uint32())}[r.IntN(5)]
			}
			checkReading(t, mutant)
			checkPatching(t, mutant)
			if _, err := Open(bytes.NewReader(mutant), int64(len(mutant)), Options{}); err == nil {
				accepted++
			}
		}
	}
	if accepted < 1000 {
		t.Errorf("only %d mutants were accepted", accepted)
	}
}
