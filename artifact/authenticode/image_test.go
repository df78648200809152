package authenticode_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/countersign-dev/countersign/artifact/authenticode"
	"github.com/countersign-dev/countersign/artifact/authenticode/petest"
	"github.com/countersign-dev/countersign/artifact/cms/cmstest"
)

const (
	coffAt     = petest.OffsetPE + 4
	optionalAt = petest.OffsetPE + 24
	sectionsAt = optionalAt + 112 + 16*8
)

// TestLyingHeaders has images refused whose headers contradict the file.
func TestLyingHeaders(t *testing.T) {
	t.Parallel()
	root := cmstest.Root(t, "Test Root")
	signer := root.Signer(t, "p256")
	two := petest.Image{Sections: [][]byte{bytes.Repeat([]byte{1}, 0x400), bytes.Repeat([]byte{2}, 0x400)}}.Bytes()
	signed := rawSign(t, two, options(signer))
	put := func(file []byte, at int, value uint32) []byte {
		file = slices.Clone(file)
		binary.LittleEndian.PutUint32(file[at:], value)
		return file
	}
	put16 := func(file []byte, at int, value uint16) []byte {
		file = slices.Clone(file)
		binary.LittleEndian.PutUint16(file[at:], value)
		return file
	}
	tableAt := uint32(len(signed) - len(table(signed)))
	for _, test := range []struct {
		name  string
		file  []byte
		field string
		at    int64
	}{
		{"empty", nil, "file", 0},
		{"text", bytes.Repeat([]byte("This is no image. "), 100), "e_magic", 0},
		{"DOS program", put(two, 60, 0), "e_lfanew", 60},
		{"e_lfanew behind the end", put(two, 60, 1<<31), "e_lfanew", 60},
		{"e_lfanew elsewhere", put(two, 60, 0x90), "Signature", 0x90},
		{"no optional header", put16(two, coffAt+16, 0), "SizeOfOptionalHeader", coffAt + 16},
		{"short optional header", put16(two, coffAt+16, 100), "SizeOfOptionalHeader", coffAt + 16},
		{"optional header behind the end", put16(two, coffAt+16, 0xffff), "SizeOfOptionalHeader", coffAt + 16},
		{"ROM image", put16(two, optionalAt, 0x107), "Magic", optionalAt},
		{"no security directory", put(two, optionalAt+108, 4), "NumberOfRvaAndSizes", optionalAt + 108},
		{"too many directories", put(two, optionalAt+108, 1<<31), "NumberOfRvaAndSizes", optionalAt + 108},
		{"headers behind the end", put(two, optionalAt+60, 1<<20), "SizeOfHeaders", optionalAt + 60},
		{"too many sections", put16(two, coffAt+2, 0xffff), "NumberOfSections", coffAt + 2},
		{"truncated", two[:len(two)-1], "SizeOfRawData", sectionsAt + 40 + 16},
		{"section behind the end", put(two, sectionsAt+20, 0xfffffe00), "SizeOfRawData", sectionsAt + 16},
		{"section in the headers", put(two, sectionsAt+20, 0x100), "PointerToRawData", sectionsAt + 20},
		{"overlapping sections", put(two, sectionsAt+40+20, 0x400), "PointerToRawData", sectionsAt + 40 + 20},
		{"table without offset", put(signed, securityAt, 0), "security directory", securityAt},
		{"table without size", put(signed, securityAt+4, 0), "security directory", securityAt},
		{"table behind the end", put(signed, securityAt, 0xfffffff8), "security directory", securityAt},
		{"table in the headers", put(put(signed, securityAt, 8), securityAt+4, uint32(len(signed))-8), "security directory", securityAt},
		{"table in a section", put(put(signed, securityAt, tableAt-8), securityAt+4, uint32(len(signed))-tableAt+8), "security directory", securityAt},
		{"data behind the table", append(slices.Clone(signed), "hidden"...), "certificate table", int64(len(signed))},
		{"truncated signature", signed[:len(signed)-8], "security directory", securityAt},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			var out authenticode.Buffer
			_, signErr := authenticode.SignPE(t.Context(), &out, bytes.NewReader(test.file), int64(len(test.file)), options(signer))
			_, verifyErr := authenticode.VerifyPE(t.Context(), bytes.NewReader(test.file), int64(len(test.file)), authenticode.VerifyOptions{})
			_, versionErr := authenticode.ReadVersion(bytes.NewReader(test.file), int64(len(test.file)))
			for _, err := range []error{signErr, verifyErr, versionErr} {
				var formatErr *authenticode.FormatError
				if !errors.As(err, &formatErr) || formatErr.Field != test.field || formatErr.Offset != test.at {
					t.Errorf("error %v, want one of %s at offset 0x%x", err, test.field, test.at)
				}
			}
			if out.Size() != 0 {
				t.Errorf("%d octets were written", out.Size())
			}
		})
	}
}

// TestLyingTable has certificate tables reported that are no WIN_CERTIFICATE entries.
func TestLyingTable(t *testing.T) {
	t.Parallel()
	root := cmstest.Root(t, "Test Root")
	signer := root.Signer(t, "p256")
	file := petest.Image{}.Bytes()
	signed := rawSign(t, file, options(signer))
	good := table(signed)
	change := func(at int, value byte) []byte {
		changed := slices.Clone(good)
		changed[at] = value
		return changed
	}
	for name, bad := range map[string][]byte{
		"short":        {0, 0, 0},
		"length zero":  append(make([]byte, 8), good...),
		"too long":     change(2, 0xff),
		"revision":     change(5, 1),
		"type":         change(6, 1),
		"second short": append(slices.Clone(good), 9, 0, 0, 0),
	} {
		image := withTable(file, bad)
		_, err := authenticode.VerifyPE(t.Context(), bytes.NewReader(image), int64(len(image)), authenticode.VerifyOptions{})
		var formatErr *authenticode.FormatError
		if !errors.As(err, &formatErr) || formatErr.Offset < int64(len(file)) {
			t.Errorf("%s: error %v", name, err)
		}
		opts := options(signer)
		opts.Append = true
		if _, err := authenticode.SignPE(t.Context(), &authenticode.Buffer{}, bytes.NewReader(image), int64(len(image)), opts); !errors.As(err, &formatErr) {
			t.Errorf("%s: appending: error %v", name, err)
		}
		// In place of a broken signature a new one may come.
		if resigned := rawSign(t, image, options(signer)); verify(t, resigned, root).Status != authenticode.StatusValid {
			t.Errorf("%s: signing again does not help", name)
		}
	}

	// Garbage in a well-formed entry is a broken signature, and nothing to append to.
	image := withTable(file, winCertificate([]byte("garbage, not DER")))
	if report := verify(t, image, root); report.Status != authenticode.StatusBroken {
		t.Errorf("garbage: %s", indent(report))
	}
	opts := options(signer)
	opts.Append = true
	if _, err := authenticode.SignPE(t.Context(), &authenticode.Buffer{}, bytes.NewReader(image), int64(len(image)), opts); err == nil {
		t.Error("a signature was appended to garbage")
	}

	// Data behind the signature, within its entry.
	blob := append(slices.Clone(good[8:]), "hidden payload"...)
	report := verify(t, withTable(file, winCertificate(blob)), root)
	if !slices.Contains(codes(report, true), authenticode.ProblemHiddenData) {
		t.Errorf("hidden data: %s", indent(report))
	}
}

// TestUnalignedTable signs an image whose certificate table is not where Windows
// has it today: signing again is possible, appending is not.
func TestUnalignedTable(t *testing.T) {
	t.Parallel()
	root := cmstest.Root(t, "Test Root")
	signer := root.Signer(t, "p256")
	file := petest.Image{Overlay: []byte("abc")}.Bytes()
	image := withTable(file, winCertificate([]byte("old")))
	opts := options(signer)
	if _, report := signUntrusted(t, image, root, opts); report.Status != authenticode.StatusValid {
		t.Errorf("signed again: %s", indent(report))
	}
	opts.Append = true
	var formatErr *authenticode.FormatError
	if _, err := authenticode.SignPE(t.Context(), &authenticode.Buffer{}, bytes.NewReader(image), int64(len(image)), opts); !errors.As(err, &formatErr) {
		t.Errorf("error %v", err)
	}
}

// TestFailingIO passes errors of source and destination on.
func TestFailingIO(t *testing.T) {
	t.Parallel()
	root := cmstest.Root(t, "Test Root")
	signer := root.Signer(t, "p256")
	file := petest.Image{Overlay: make([]byte, 3<<20)}.Bytes()
	for _, limit := range []int64{10, 0x90, 1 << 20, 3 << 20} {
		if _, err := authenticode.SignPE(t.Context(), &authenticode.Buffer{}, failing{bytes.NewReader(file), limit}, int64(len(file)), options(signer)); !errors.Is(err, errFailing) {
			t.Errorf("source: error %v", err)
		}
	}
	for _, limit := range []int64{0, 1 << 20, 3 << 20} {
		if _, err := authenticode.SignPE(t.Context(), &failingFile{limit: limit}, bytes.NewReader(file), int64(len(file)), options(signer)); !errors.Is(err, errFailing) {
			t.Errorf("destination: error %v", err)
		}
	}
	opts := options(signer)
	opts.Timestamper = &cmstest.TSA{Err: errFailing}
	if _, err := authenticode.SignPE(t.Context(), &authenticode.Buffer{}, bytes.NewReader(file), int64(len(file)), opts); !errors.Is(err, errFailing) {
		t.Errorf("time stamp: error %v", err)
	}
	// A file that is shorter than was said.
	var formatErr *authenticode.FormatError
	if _, err := authenticode.SignPE(t.Context(), &authenticode.Buffer{}, bytes.NewReader(file[:2<<20]), int64(len(file)), options(signer)); !errors.As(err, &formatErr) {
		t.Errorf("shorter: error %v", err)
	}
}

var errFailing = errors.New("disk on fire")

type failing struct {
	io.ReaderAt
	limit int64
}

func (f failing) ReadAt(p []byte, at int64) (int, error) {
	if at+int64(len(p)) > f.limit {
		return 0, errFailing
	}
	return f.ReaderAt.ReadAt(p, at)
}

// failingFile takes nothing behind a limit.
type failingFile struct {
	authenticode.Buffer
	limit int64
}

func (f *failingFile) WriteAt(p []byte, at int64) (int, error) {
	if at+int64(len(p)) > f.limit {
		return 0, errFailing
	}
	return f.Buffer.WriteAt(p, at)
}

// lyingFile changes one octet of whatever is written there, or with the last
// writes only, which are the patches.
type lyingFile struct {
	authenticode.Buffer
	at      int64
	patches bool
	written int64
}

func (f *lyingFile) WriteAt(p []byte, at int64) (int, error) {
	n, err := f.Buffer.WriteAt(p, at)
	patch := at < f.written
	f.written = max(f.written, at+int64(n))
	if err == nil && at <= f.at && f.at < at+int64(n) && patch == f.patches {
		_, err = f.Buffer.WriteAt([]byte{p[f.at-at] ^ 1}, f.at)
	}
	return n, err
}

// TestSignPEProves writes to a file that does not keep what is written.
func TestSignPEProves(t *testing.T) {
	t.Parallel()
	signer := cmstest.Root(t, "Test Root").Signer(t, "p256")
	for _, size := range []int{2000, 600_001} {
		image := petest.Image{Sections: [][]byte{make([]byte, size)}}.Bytes()
		var honest lyingFile
		honest.at = -1
		signed, err := authenticode.SignPE(t.Context(), &honest, bytes.NewReader(image), int64(len(image)), options(signer))
		if err != nil {
			t.Fatal(err)
		}
		security := int64(binary.LittleEndian.Uint32(image[60:])) + 24 + 112 + 4*8
		for _, lie := range []*lyingFile{
			{at: 70}, {at: int64(len(image)) / 2}, {at: int64(len(image)) - 1}, // the copy
			{at: signed.Size - 300}, {at: int64(len(image)) + 9}, // the certificate table
			{at: security, patches: true}, {at: security + 4, patches: true}, // the header's fields
		} {
			var proof *authenticode.ProofError
			if _, err := authenticode.SignPE(t.Context(), lie, bytes.NewReader(image), int64(len(image)), options(signer)); !errors.As(err, &proof) {
				t.Errorf("%d octets, a lie at %d: error %v", size, lie.at, err)
			}
		}
	}
}

func TestReadVersion(t *testing.T) {
	t.Parallel()
	want := map[string]string{
		"ProductName": "Countersign", "ProductVersion": "5.6.7-beta", "FileVersion": "1.2.3.4",
		"CompanyName": "Ünïcode GmbH 🖋", "LegalCopyright": "©", "OriginalFilename": "",
	}
	for _, pe32 := range []bool{false, true} {
		file := petest.Image{PE32: pe32, Version: want}.Bytes()
		version, err := authenticode.ReadVersion(bytes.NewReader(file), int64(len(file)))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(&authenticode.Version{
			FileVersion: [4]uint16{1, 2, 3, 4}, ProductVersion: [4]uint16{5, 6, 7, 8},
			Tables: []authenticode.StringTable{{Language: "040904b0", Strings: want}},
		}, version); diff != "" {
			t.Error(diff)
		}
		if got := version.Lookup("ProductName"); !slices.Equal(got, []string{"Countersign"}) {
			t.Errorf("ProductName %q", got)
		}
	}
	file := petest.Image{}.Bytes()
	if _, err := authenticode.ReadVersion(bytes.NewReader(file), int64(len(file))); !errors.Is(err, authenticode.ErrNoVersion) {
		t.Errorf("without: error %v", err)
	}
}

func TestIsPE(t *testing.T) {
	t.Parallel()
	file := petest.Image{}.Bytes()
	for _, test := range []struct {
		name   string
		header []byte
		want   bool
	}{
		{"image", file, true},
		{"its beginning", file[:0x100], true},
		{"less", file[:100], false},
		{"nothing", nil, false},
		{"text", bytes.Repeat([]byte("MZ"), 100), false},
	} {
		if got := authenticode.IsPE(test.header); got != test.want {
			t.Errorf("%s: %v", test.name, got)
		}
	}
}
