package ziparchive

import (
	"archive/zip"
	"bytes"
	"errors"
	"hash/crc32"
	"io"
	"io/fs"
	"slices"
	"strings"
	"testing"
	"time"
)

func is(err error, kind Kind) bool {
	var e *Error
	return errors.As(err, &e) && errors.Is(err, kind)
}

// entry is one entry of an archive that a test makes byte by byte.
type entry struct {
	name       string
	data       string // as stored
	size       int    // of the content; that of data if zero
	method     uint16
	flags      uint16
	crc        uint32 // that of data if zero
	extra      string
	madeBy     uint16
	descriptor string // behind the data; local CRC-32 and sizes are then zero
	behind     string // after all that
}

// build makes an archive of entries; change may spoil the result, of which it
// gets the offsets of the local headers and of the central directory.
func build(entries []entry, change func(b []byte, locals []int, directory int) []byte) []byte {
	var b, central []byte
	var locals []int
	for _, e := range entries {
		if e.size == 0 {
			e.size = len(e.data)
		}
		if e.crc == 0 {
			e.crc = crc32.ChecksumIEEE([]byte(e.data))
		}
		locals = append(locals, len(b))
		fields := make([]byte, 26) // from "version needed" to "extra field length"
		le.PutUint16(fields, 20)
		le.PutUint16(fields[2:], e.flags)
		le.PutUint16(fields[4:], e.method)
		le.PutUint32(fields[10:], e.crc)
		le.PutUint32(fields[14:], uint32(len(e.data)))
		le.PutUint32(fields[18:], uint32(e.size))
		le.PutUint16(fields[22:], uint16(len(e.name)))
		le.PutUint16(fields[24:], uint16(len(e.extra)))
		record := le.AppendUint16(le.AppendUint32(nil, centralSignature), e.madeBy)
		record = append(append(record, fields...), make([]byte, 16-2)...)
		le.PutUint32(record[42:], uint32(len(b)))
		central = append(append(append(central, record...), e.name...), e.extra...)
		if e.descriptor != "" {
			clear(fields[10:22])
		}
		b = append(append(le.AppendUint32(b, localSignature), fields...), e.name...)
		b = append(append(append(append(b, e.extra...), e.data...), e.descriptor...), e.behind...)
	}
	directory := len(b)
	b = append(b, central...)
	end := make([]byte, endSize)
	le.PutUint32(end, endSignature)
	le.PutUint16(end[8:], uint16(len(entries)))
	le.PutUint16(end[10:], uint16(len(entries)))
	le.PutUint32(end[12:], uint32(len(central)))
	le.PutUint32(end[16:], uint32(directory))
	b = append(b, end...)
	if change != nil {
		b = change(b, locals, directory)
	}
	return b
}

// put16 and put32 return changes that overwrite a field.
func put16(local, offset int, v uint16) func([]byte, []int, int) []byte {
	return func(b []byte, locals []int, directory int) []byte {
		le.PutUint16(b[place(b, locals, directory, local)+offset:], v)
		return b
	}
}

func put32(local, offset int, v uint32) func([]byte, []int, int) []byte {
	return func(b []byte, locals []int, directory int) []byte {
		le.PutUint32(b[place(b, locals, directory, local)+offset:], v)
		return b
	}
}

// inDirectory and inEnd stand for the first central directory header and the
// end record, where put16 and put32 take the number of a local header.
const inDirectory, inEnd = -1, -2

func place(b []byte, locals []int, directory, local int) int {
	switch local {
	case inDirectory:
		return directory
	case inEnd:
		return len(b) - endSize
	}
	return locals[local]
}

func TestRefused(t *testing.T) {
	t.Parallel()
	two := []entry{{name: "a", data: "content a"}, {name: "b", data: "content b"}}
	deflated := string(contentDeflated(t, []byte("some content")))
	for name, test := range map[string]struct {
		entries []entry
		change  func([]byte, []int, int) []byte
		limits  Limits
		kind    Kind
		entry   string
	}{
		"empty file":     {nil, func([]byte, []int, int) []byte { return nil }, Limits{}, NotArchive, ""},
		"something else": {nil, func([]byte, []int, int) []byte { return bytes.Repeat([]byte("x"), 1<<17) }, Limits{}, NotArchive, ""},
		"cut off":        {two, func(b []byte, _ []int, _ int) []byte { return b[:len(b)-30] }, Limits{}, NotArchive, ""},
		"trailing bytes": {two, func(b []byte, _ []int, _ int) []byte { return append(b, "junk"...) }, Limits{}, Malformed, ""},
		"two ends": {two, func(b []byte, _ []int, _ int) []byte {
			end := slices.Clone(b[len(b)-endSize:])
			le.PutUint16(b[len(b)-2:], endSize)
			return append(b, end...)
		}, Limits{}, Mismatch, ""},
		"another disk":            {two, put16(inEnd, 4, 1), Limits{}, MultiDisk, ""},
		"entry on another disk":   {two, put16(inDirectory, 34, 1), Limits{}, MultiDisk, "a"},
		"more entries than there": {two, func(b []byte, l []int, d int) []byte { return put16(inEnd, 8, 3)(put16(inEnd, 10, 3)(b, l, d), l, d) }, Limits{}, Malformed, ""},
		"fewer entries than there": {two, func(b []byte, l []int, d int) []byte {
			return put16(inEnd, 8, 1)(put16(inEnd, 10, 1)(b, l, d), l, d)
		}, Limits{}, Malformed, ""},
		"directory out of range":      {two, put32(inEnd, 16, 1<<30), Limits{}, Malformed, ""},
		"wide offset without record":  {two, put32(inEnd, 16, max32), Limits{}, Malformed, ""},
		"directory size out of range": {two, put32(inEnd, 12, 1<<30), Limits{}, Malformed, ""},
		"directory signature":         {two, put32(inDirectory, 0, 7), Limits{}, Malformed, ""},
		"name beyond the directory":   {two, put16(inDirectory, 28, 9000), Limits{}, Malformed, ""},
		"header offset out of range":  {two, put32(inDirectory, 42, 1<<30), Limits{}, Malformed, "a"},
		"header offset elsewhere":     {two, put32(inDirectory, 42, 3), Limits{}, Malformed, "a"},
		"same header twice":           {two, func(b []byte, l []int, d int) []byte { return put32(inDirectory, 42+47, 0)(b, l, d) }, Limits{}, Overlap, "a"},
		"data over the next entry":    {two, put32(inDirectory, 20, 40), Limits{}, Mismatch, "a"},
		"data beyond the next entry": {[]entry{{name: "a", data: "x", method: Deflated}, {name: "b"}},
			put32(inDirectory, 20, 40), Limits{}, Overlap, "a"},
		"local header over the next": {two, put16(0, 28, 60), Limits{}, Overlap, "a"},
		"another name":               {two, func(b []byte, l []int, _ int) []byte { b[l[1]+localSize] = 'c'; return b }, Limits{}, Mismatch, "b"},
		"another method":             {two, put16(0, 8, 8), Limits{}, Mismatch, "a"},
		"another CRC-32":             {two, put32(0, 14, 1), Limits{}, Mismatch, "a"},
		"another compressed size":    {two, put32(1, 18, 1), Limits{}, Mismatch, "b"},
		"another size":               {two, put32(1, 22, 1), Limits{}, Mismatch, "b"},
		"hidden encryption":          {two, put16(0, 6, 1), Limits{}, Mismatch, "a"},
		"encrypted":                  {[]entry{{name: "a", data: "x", flags: 1}}, nil, Limits{}, Encrypted, "a"},
		"stored with two sizes":      {[]entry{{name: "a", data: "x", size: 2}}, nil, Limits{}, Mismatch, "a"},
		"wide size without field":    {two, put32(inDirectory, 24, max32), Limits{}, Malformed, "a"},
		"two ZIP64 fields": {[]entry{{name: "a", data: "x", extra: "\x01\x00\x00\x00\x01\x00\x00\x00"}},
			nil, Limits{}, Malformed, "a"},
		"no descriptor": {[]entry{{name: "a", data: "x", flags: flagDescriptor, descriptor: "a descriptor, not"}},
			nil, Limits{}, Mismatch, "a"},
		"gap between entries":         {[]entry{{name: "a", data: "x", behind: "hidden"}, {name: "b"}}, nil, Limits{}, Gap, ""},
		"gap before the directory":    {[]entry{{name: "a", data: "x", behind: "hidden"}}, nil, Limits{}, DirectoryGap, ""},
		"duplicate name":              {[]entry{{name: "a"}, {name: "b"}, {name: "a"}}, nil, Limits{}, DuplicateName, "a"},
		"file and directory":          {[]entry{{name: "a/"}, {name: "a"}}, nil, Limits{}, DuplicateName, "a/"},
		"file as directory":           {[]entry{{name: "a"}, {name: "a.b"}, {name: "a/b"}}, nil, Limits{}, DuplicateName, "a/b"},
		"same after cleaning":         {[]entry{{name: "a/b"}, {name: "a/./b"}}, nil, Limits{}, CaseCollision, "a/b"},
		"names in other case":         {[]entry{{name: "dir/File"}, {name: "DIR/file"}}, nil, Limits{}, CaseCollision, "dir/File"},
		"names in other case, umlaut": {[]entry{{name: "Ä", flags: flagUTF8}, {name: "ä", flags: flagUTF8}}, nil, Limits{}, CaseCollision, "ä"},
		"names normalized otherwise":  {[]entry{{name: "\u00e4", flags: flagUTF8}, {name: "a\u0308", flags: flagUTF8}}, nil, Limits{}, CaseCollision, "\u00e4"},
		"dot at the end":              {[]entry{{name: "a.exe"}, {name: "a.exe."}}, nil, Limits{}, CaseCollision, "a.exe."},
		"space before a slash":        {[]entry{{name: "a/b"}, {name: "a ./b"}}, nil, Limits{}, CaseCollision, "a/b"},
		"content as a stream":         {[]entry{{name: "app"}, {name: "APP::$data"}}, nil, Limits{}, CaseCollision, "app"},
		"directory with backslash":    {[]entry{{name: `a\`}}, nil, Limits{}, Backslash, `a\`},
		"traversal":                   {[]entry{{name: "a/../../b"}}, nil, Limits{}, Traversal, "a/../../b"},
		"traversal with backslash":    {[]entry{{name: `..\b`}}, nil, Limits{}, Traversal, `..\b`},
		"traversal with space":        {[]entry{{name: `.. /b`}}, nil, Limits{}, Traversal, `.. /b`},
		"traversal in the raw name": {[]entry{{name: "../b", extra: "\x75\x70\x06\x00\x01" +
			string(le.AppendUint32(nil, crc32.ChecksumIEEE([]byte("../b")))) + "b"}}, nil, Limits{}, Traversal, "b"},
		"absolute":            {[]entry{{name: "/etc/passwd"}}, nil, Limits{}, AbsolutePath, "/etc/passwd"},
		"drive letter":        {[]entry{{name: "C:x"}}, nil, Limits{}, AbsolutePath, "C:x"},
		"backslash":           {[]entry{{name: `a\b`}}, nil, Limits{}, Backslash, `a\b`},
		"called a dot":        {[]entry{{name: "a/."}}, nil, Limits{}, InvalidName, "a/."},
		"no name":             {[]entry{{name: ""}}, nil, Limits{}, InvalidName, ""},
		"zero in name":        {[]entry{{name: "a\x00b"}}, nil, Limits{}, InvalidName, "a\x00b"},
		"not UTF-8":           {[]entry{{name: "\xff", flags: flagUTF8}}, nil, Limits{}, InvalidName, "\u00a0"},
		"too many entries":    {two, nil, Limits{Entries: 1}, LimitExceeded, ""},
		"too long a name":     {[]entry{{name: "abcd"}}, nil, Limits{NameLength: 3}, LimitExceeded, ""},
		"too large directory": {two, nil, Limits{DirectorySize: 93}, LimitExceeded, ""},
		"too much content":    {two, nil, Limits{Uncompressed: 17}, LimitExceeded, ""},
		"bomb": {[]entry{{name: "a", data: deflated, method: Deflated, size: 1 << 30}},
			nil, Limits{}, LimitExceeded, "a"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := build(test.entries, test.change)
			_, err := Open(bytes.NewReader(b), int64(len(b)), Options{Limits: test.limits})
			var e *Error
			if !is(err, test.kind) || !errors.As(err, &e) || e.Entry != test.entry {
				t.Fatalf("got %v, want %v of %q", err, test.kind, test.entry)
			}
			if !slices.Contains(tolerable, test.kind) {
				if _, err := Open(bytes.NewReader(b), int64(len(b)), Options{Limits: test.limits, Allow: []Kind{test.kind}}); err == nil {
					t.Error("it can be allowed")
				}
				return
			}
			a := openBytes(t, b, tolerable...)
			if len(a.Problems()) == 0 || a.Problems()[0].Kind != test.kind {
				t.Errorf("problems: %v", a.Problems())
			}
			if !bytes.Equal(patched(t, NewPatch(a)), b) {
				t.Error("an unchanged archive is rewritten as other bytes")
			}
		})
	}
	good := build(two, nil)
	for n := range len(good) {
		if _, err := Open(bytes.NewReader(good), int64(n), Options{}); !is(err, NotArchive) && !is(err, Malformed) {
			t.Errorf("cut off after %d bytes: %v", n, err)
		}
	}
}

func contentDeflated(t testing.TB, content []byte) []byte {
	t.Helper()
	b, err := io.ReadAll(prepared(t, content, Deflated).spool.Reader())
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestCorruptContent opens entries whose data is not what the headers say, alike
// in both places.
func TestCorruptContent(t *testing.T) {
	t.Parallel()
	plain := bytes.Repeat([]byte("0123456789"), 100_000)
	deflated := string(contentDeflated(t, plain))
	crc := crc32.ChecksumIEEE(plain)
	for name, test := range map[string]struct {
		entry entry
		kind  Kind
	}{
		"good":             {entry{data: deflated, size: len(plain), crc: crc, method: Deflated}, ""},
		"larger":           {entry{data: deflated, size: len(plain) - 1, crc: crc, method: Deflated}, Corrupt},
		"smaller":          {entry{data: deflated, size: len(plain) + 1, crc: crc, method: Deflated}, Corrupt},
		"CRC-32":           {entry{data: deflated, size: len(plain), crc: crc + 1, method: Deflated}, Corrupt},
		"CRC-32 stored":    {entry{data: "x", crc: 1}, Corrupt},
		"cut off":          {entry{data: deflated[:len(deflated)-3], size: len(plain), crc: crc, method: Deflated}, Corrupt},
		"data behind":      {entry{data: deflated + "hidden", size: len(plain), crc: crc, method: Deflated}, Corrupt},
		"no deflate":       {entry{data: "\xff\xff\xff", size: len(plain), crc: crc, method: Deflated}, Corrupt},
		"another method":   {entry{data: "x", method: 12}, UnsupportedMethod},
		"patched data":     {entry{data: "x", flags: flagPatched}, UnsupportedMethod},
		"encrypted":        {entry{data: "x", flags: flagEncrypted}, UnsupportedMethod},
		"empty, one byte":  {entry{data: "\x03\x00", size: 0, crc: 5, method: Deflated}, Corrupt},
		"strong encrypted": {entry{data: "x", flags: flagEncrypted | flagStrongEncrypted}, UnsupportedMethod},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test.entry.name = "name"
			b := build([]entry{test.entry}, nil)
			e := openBytes(t, b, Encrypted).Entries[0]
			r, err := e.Open()
			var got []byte
			if err == nil {
				defer r.Close()
				got, err = io.ReadAll(r)
			}
			if test.kind == "" {
				if err != nil || !bytes.Equal(got, plain) {
					t.Errorf("%d bytes, %v", len(got), err)
				}
				return
			}
			if !is(err, test.kind) || !strings.Contains(err.Error(), `"name"`) {
				t.Errorf("got %v, want %v", err, test.kind)
			}
			if int64(len(got)) > e.Size {
				t.Errorf("%d bytes, declared are %d", len(got), e.Size)
			}
		})
	}
}

func TestDescriptors(t *testing.T) {
	t.Parallel()
	crc := le.AppendUint32(nil, crc32.ChecksumIEEE([]byte("data")))
	narrow := string(crc) + "\x04\x00\x00\x00\x04\x00\x00\x00"
	wide := string(crc) + "\x04\x00\x00\x00\x00\x00\x00\x00\x04\x00\x00\x00\x00\x00\x00\x00"
	for name, descriptor := range map[string]string{
		"32 bits": narrow, "64 bits": wide, "32 bits, signature": "PK\x07\x08" + narrow, "64 bits, signature": "PK\x07\x08" + wide,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := build([]entry{{name: "a", data: "data", flags: flagDescriptor, descriptor: descriptor}, {name: "b", data: "more"}}, nil)
			a := openBytes(t, b)
			p := NewPatch(a)
			if !bytes.Equal(patched(t, p), b) {
				t.Error("an unchanged archive is rewritten as other bytes")
			}
			if err := p.Replace(a.Entries[0], prepared(t, []byte("changed"), Stored)); err != nil {
				t.Fatal(err)
			}
			b = patched(t, p)
			checkWithGo(t, b)
			if e := openBytes(t, b).Entries[0]; e.Flags&flagDescriptor != 0 || string(contentOf(t, e)) != "changed" {
				t.Errorf("flags %#x", e.Flags)
			}
		})
	}
}

func TestNames(t *testing.T) {
	t.Parallel()
	unicodePath := func(raw, name string) string {
		field := string(le.AppendUint32([]byte{1}, crc32.ChecksumIEEE([]byte(raw)))) + name
		return "\x75\x70" + string(le.AppendUint16(nil, uint16(len(field)))) + field
	}
	for name, test := range map[string]struct {
		entry entry
		want  string
	}{
		"ASCII":                        {entry{name: "dir/file"}, "dir/file"},
		"code page 437":                {entry{name: "gr\x81\xe1e"}, "grüße"},
		"code page 437, UTF8":          {entry{name: "ü"}, "├╝"},
		"flag":                         {entry{name: "ü", flags: flagUTF8}, "ü"},
		"Unix without flag":            {entry{name: "ü", madeBy: 3 << 8}, "ü"},
		"Unicode path":                 {entry{name: "gr#U00fc", extra: unicodePath("gr#U00fc", "grü")}, "grü"},
		"Unicode path of another name": {entry{name: "name", extra: unicodePath("other", "grü")}, "name"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := openBytes(t, build([]entry{test.entry}, nil))
			if got := a.Entries[0].Name; got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
			if a.Lookup(test.want) != a.Entries[0] || string(a.Entries[0].RawName()) != test.entry.name {
				t.Error("not found by its name")
			}
		})
	}
}

func TestMetadata(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	z := zip.NewWriter(&out)
	want := time.Date(2024, 2, 29, 13, 59, 58, 0, time.UTC)
	for _, mode := range []fs.FileMode{0o640, 0o755 | fs.ModeSetuid, 0o777 | fs.ModeSymlink, 0o755 | fs.ModeDir} {
		h := &zip.FileHeader{Name: mode.String(), Comment: "about it"}
		if mode.IsDir() {
			h.Name += "/"
		}
		h.SetMode(mode)
		h.Modified = want
		if _, err := z.CreateHeader(h); err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	a := openBytes(t, out.Bytes())
	for _, e := range a.Entries {
		if got := e.Mode().String(); got != strings.TrimSuffix(e.Name, "/") {
			t.Errorf("%s: mode %s", e.Name, got)
		}
		if !e.Modified().Equal(want) || string(e.Comment()) != "about it" {
			t.Errorf("%s: modified %v, comment %q", e.Name, e.Modified(), e.Comment())
		}
	}
	if date, clock := toDOSTime(want); !fromDOSTime(date, clock).Equal(want) {
		t.Error("a time is not what it was")
	}
}
