package httpapi

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"net/textproto"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/countersign-dev/countersign/api"
	"github.com/countersign-dev/countersign/internal/signing"
)

// dialectArtifact is the file in every recorded form: it holds what looks like a boundary.
const dialectArtifact = "MZ\x90\x00\r\n--not-the-boundary\r\n\x00\xff"

// readRecorded splits a recorded body from its Content-Type.
func readRecorded(t testing.TB, name string) (contentType string, body []byte) {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join("testdata", "forms", name+".http"))
	if err != nil {
		t.Fatal(err)
	}
	header, body, ok := bytes.Cut(raw, []byte("\r\n\r\n"))
	if !ok {
		t.Fatalf("%s has no header", name)
	}
	return strings.TrimPrefix(string(header), "Content-Type: "), body
}

// keep returns a sink that stores files as "name: bytes".
func keep(into map[string]string) fileSink {
	return func(file filePart, content io.Reader) error {
		b, err := io.ReadAll(content)
		into[file.field] = file.name + ": " + string(b)
		return err
	}
}

func TestReadFormDialects(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name                      string
		fields, parameters, files map[string]string
	}{
		{
			name: "okhttp",
			fields: map[string]string{"projectslug": "demo", "signingpolicyslug": "test-signing",
				"artifactconfigurationslug": "exe", "description": "Release 1.4"},
			parameters: map[string]string{"app.version": "1.4.0"},
			files:      map[string]string{"artifact": "setup.exe: " + dialectArtifact},
		},
		{
			name:   "jsign",
			fields: map[string]string{"projectslug": "demo", "signingpolicyslug": "test-signing", "isfastsigningrequest": "true"},
			files:  map[string]string{"artifact": "Artifact.data: " + dialectArtifact},
		},
		{
			name: "dotnet",
			fields: map[string]string{"projectslug": "demo", "signingpolicyslug": "test-signing",
				"description": "Größe geprüft"},
			parameters: map[string]string{"version": "1.4.0", "build.number": "77"},
			files: map[string]string{
				"artifact":                           "Größe.exe: " + dialectArtifact,
				"origin.buildData.buildSettingsFile": "Jenkins file: pipeline {}",
			},
		},
		{
			name:       "curl",
			fields:     map[string]string{"projectslug": "demo", "signingpolicyslug": "test-signing"},
			parameters: map[string]string{"app.version": "1.4.0"},
			files:      map[string]string{"artifact": "Größe.exe: " + dialectArtifact},
		},
		{
			name:   "node",
			fields: map[string]string{"projectslug": "demo", "signingpolicyslug": "test-signing", "unknown": "ignored"},
			files:  map[string]string{"artifact": "setup.exe: " + dialectArtifact},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			contentType, body := readRecorded(t, tt.name)
			_, params, err := mime.ParseMediaType(contentType)
			if err != nil {
				t.Fatal(err)
			}
			files := map[string]string{}
			got, err := readForm(multipart.NewReader(bytes.NewReader(body), params["boundary"]), map[string]fileSink{
				"artifact":                           keep(files),
				"origin.buildData.buildSettingsFile": keep(files),
			})
			if err != nil {
				t.Fatal(err)
			}
			if tt.parameters == nil {
				tt.parameters = map[string]string{}
			}
			if diff := cmp.Diff(tt.fields, got.fields); diff != "" {
				t.Errorf("fields (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(tt.parameters, got.parameters); diff != "" {
				t.Errorf("parameters (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(tt.files, files); diff != "" {
				t.Errorf("files (-want +got):\n%s", diff)
			}
			if !got.hasFile("Artifact") {
				t.Error("hasFile(Artifact) = false")
			}
		})
	}
}

// raw builds a body with boundary "b" from parts of header and content.
func raw(parts ...string) string {
	var s strings.Builder
	for i := 0; i < len(parts); i += 2 {
		s.WriteString("--b\r\n" + parts[i] + "\r\n\r\n" + parts[i+1] + "\r\n")
	}
	return s.String() + "--b--\r\n"
}

func named(name string) string { return `Content-Disposition: form-data; name="` + name + `"` }

func TestReadFormRefuses(t *testing.T) {
	t.Parallel()
	file := `Content-Disposition: form-data; name="Artifact"; filename="a.exe"`
	tests := []struct{ name, body, field, message string }{
		{"empty body", "", "", "ends before its closing boundary"},
		{"no closing boundary", "--b\r\n" + named("x") + "\r\n\r\nvalue", "", "ends before"},
		{"cut in a file", "--b\r\n" + file + "\r\n\r\nMZ", "", "ends before"},
		{"other boundary", "--c\r\n" + named("x") + "\r\n\r\nvalue\r\n--c--\r\n", "", "ends before"},
		{"bad header", "--b\r\nno colon\r\n\r\nvalue\r\n--b--\r\n", "", "malformed"},
		{"no disposition", raw("Content-Type: text/plain", "v"), "", "Content-Disposition"},
		{"attachment", raw(`Content-Disposition: attachment; name="x"`, "v"), "", "Content-Disposition"},
		{"broken disposition", raw(`Content-Disposition: form-data; name="x`, "v"), "", "Content-Disposition"},
		{"no name", raw(`Content-Disposition: form-data`, "v"), "", "field name"},
		{"empty name", raw(named(""), "v"), "", "field name"},
		{"control character in name", raw(named("a\x01b"), "v"), "", ""},
		{"long name", raw(named(strings.Repeat("n", maxFieldName+1)), "v"), "", "field name"},
		{"long header", raw(named("x")+"\r\nX-Pad: "+strings.Repeat("p", maxPartHeader), "v"), "", "header of a form part"},
		{"long value", raw(named("projectSlug"), strings.Repeat("v", maxFieldBytes+1)), "ProjectSlug", "too long"},
		{"not UTF-8", raw(named("description"), "\xff\xfe"), "Description", "UTF-8"},
		{"NUL", raw(named("description"), "a\x00b"), "Description", "UTF-8"},
		{"contradicting duplicates", raw(named("projectSlug"), "a", named("ProjectSlug"), "b"), "ProjectSlug", "more than once"},
		{"two artifacts", raw(file, "MZ", file, "MZ"), "Artifact", "more than once"},
		{"artifact as text", raw(named("artifact"), "MZ"), "Artifact", "must be a file"},
		{"parameter without name", raw(named("parameters."), "v"), "Parameters", "no name"},
		{"parameter with empty brackets", raw(named("Parameters[]"), "v"), "Parameters", "no name"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, err := readForm(multipart.NewReader(strings.NewReader(tt.body), "b"),
				map[string]fileSink{"artifact": func(_ filePart, r io.Reader) error { _, err := io.Copy(io.Discard, r); return err }})
			var e *signing.Error
			if !errors.As(err, &e) || e.Kind != signing.KindInvalid {
				t.Fatalf("error = %v, want an invalid request", err)
			}
			if len(e.Fields[tt.field]) != 1 || !strings.Contains(e.Fields[tt.field][0], tt.message) {
				t.Errorf("fields = %q, want %q under %q", e.Fields, tt.message, tt.field)
			}
		})
	}
}

func TestReadFormBounds(t *testing.T) {
	t.Parallel()
	var many, big []string
	for i := range maxParts + 1 {
		many = append(many, named(fmt.Sprint("x", i)), "v")
	}
	for i := range maxFormText/maxFieldBytes + 1 {
		big = append(big, named(fmt.Sprint("x", i)), strings.Repeat("v", maxFieldBytes))
	}
	for name, body := range map[string]string{"too many parts": raw(many...), "too much text": raw(big...)} {
		if _, err := readForm(multipart.NewReader(strings.NewReader(body), "b"), nil); signing.KindOf(err) != signing.KindInvalid {
			t.Errorf("%s: error = %v, want an invalid request", name, err)
		}
	}
	if _, err := readForm(multipart.NewReader(strings.NewReader(raw(many[:2*maxParts]...)), "b"), nil); err != nil {
		t.Errorf("exactly %d parts: %v", maxParts, err)
	}
}

func TestReadFormKeepsSinkErrors(t *testing.T) {
	t.Parallel()
	full := errors.New("disk full")
	body := raw(`Content-Disposition: form-data; name="artifact"; filename="a"`, "MZ")
	_, err := readForm(multipart.NewReader(strings.NewReader(body), "b"),
		map[string]fileSink{"artifact": func(filePart, io.Reader) error { return full }})
	if !errors.Is(err, full) {
		t.Errorf("error = %v, want the sink's own", err)
	}
	// A body over its limit stays recognisable although the sink wraps what it reads.
	limited := http.MaxBytesReader(nil, io.NopCloser(strings.NewReader(body)), int64(strings.Index(body, "MZ")+1))
	_, err = readForm(multipart.NewReader(limited, "b"), map[string]fileSink{
		"artifact": func(_ filePart, r io.Reader) error {
			_, err := io.ReadAll(r)
			return fmt.Errorf("store: %w", err)
		}})
	var tooLarge *http.MaxBytesError
	if !errors.As(err, &tooLarge) {
		t.Errorf("error = %v, want *http.MaxBytesError", err)
	}
}

func TestReadFormSkipsUnreadFiles(t *testing.T) {
	t.Parallel()
	body := raw(`Content-Disposition: form-data; name="artifact"; filename="a"`, strings.Repeat("x", 1<<16),
		`Content-Disposition: form-data; name="logo"; filename=""`, "",
		named("projectSlug"), "demo")
	f, err := readForm(multipart.NewReader(strings.NewReader(body), "b"),
		map[string]fileSink{"artifact": func(filePart, io.Reader) error { return nil }, "logo": func(filePart, io.Reader) error {
			return errors.New("an empty file input is no file")
		}})
	if err != nil {
		t.Fatal(err)
	}
	if f.text("PROJECTSLUG") != "demo" || f.hasFile("logo") {
		t.Errorf("fields %v, files %v", f.fields, f.files)
	}
}

func TestFormValues(t *testing.T) {
	t.Parallel()
	f := &form{fields: map[string]string{"yes": "TRUE", "no": "False", "n": "600", "bad": "-1", "id": "01939C5E-7A10-7C3F-8A55-0D9A4D3C2B1A"}}
	if b, err := f.boolean("Yes"); !b || err != nil {
		t.Errorf("boolean(Yes) = %v, %v", b, err)
	}
	if b, err := f.boolean("no"); b || err != nil {
		t.Errorf("boolean(no) = %v, %v", b, err)
	}
	if b, err := f.boolean("absent"); b || err != nil {
		t.Errorf("boolean(absent) = %v, %v", b, err)
	}
	if _, err := f.boolean("n"); signing.KindOf(err) != signing.KindInvalid {
		t.Errorf("boolean(n): %v", err)
	}
	if n, err := f.number("n", 600); n != 600 || err != nil {
		t.Errorf("number(n) = %d, %v", n, err)
	}
	for _, name := range []string{"bad", "yes"} {
		if _, err := f.number(name, 600); signing.KindOf(err) != signing.KindInvalid {
			t.Errorf("number(%s): %v", name, err)
		}
	}
	if _, err := f.number("n", 599); signing.KindOf(err) != signing.KindInvalid {
		t.Errorf("number over its maximum: %v", err)
	}
	if id, err := f.id("Id"); id != "01939c5e-7a10-7c3f-8a55-0d9a4d3c2b1a" || err != nil {
		t.Errorf("id = %q, %v", id, err)
	}
	if _, err := f.id("n"); signing.KindOf(err) != signing.KindInvalid {
		t.Errorf("id(n): %v", err)
	}
}

func TestCleanFileName(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"setup.exe":                            "setup.exe",
		`C:\fakepath\setup.exe`:                "setup.exe",
		"../../etc/passwd":                     "passwd",
		"..":                                   "artifact",
		"":                                     "artifact",
		"a/":                                   "a",
		"/":                                    "artifact",
		"x\r\nSet-Cookie: a=b.exe":             "xSet-Cookie: a=b.exe",
		"\u202egpj.exe":                        "gpj.exe",
		"bad\xffbyte.exe":                      "bad_byte.exe",
		"=?utf-8?B?R3LDtsOfZS5leGU=?=":         "Größe.exe",
		"=?utf-8?Q?..=2F..=2Fx?=":              "x",
		"=?unknown?B?R3Jv?=":                   "=?unknown?B?R3Jv?=",
		strings.Repeat("ä", 200) + ".exe":      strings.Repeat("ä", 125) + ".exe",
		strings.Repeat("n", 300):               strings.Repeat("n", 255),
		"n." + strings.Repeat("e", 300):        "n." + strings.Repeat("e", 253),
		"keeps \"quotes\" and spaces; yes.exe": "keeps \"quotes\" and spaces; yes.exe",
	} {
		if got := cleanFileName(in); got != want {
			t.Errorf("cleanFileName(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestReadResubmit(t *testing.T) {
	t.Parallel()
	want := api.Resubmit{OriginalSigningRequestID: "o", SigningPolicySlug: "release-signing", Description: "Release"}
	body := raw(named("OriginalSigningRequestId"), "o", named("SigningPolicySlug"), "release-signing", named("Description"), "Release")
	for name, r := range map[string]api.ResubmitSigningRequestRequestObject{
		"json":       {JSONBody: &want},
		"urlencoded": {FormdataBody: &want},
		"multipart":  {MultipartBody: multipart.NewReader(strings.NewReader(body), "b")},
	} {
		if got, err := readResubmit(r); err != nil || got != want {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
}

func FuzzReadForm(f *testing.F) {
	for _, name := range []string{"okhttp", "jsign", "dotnet", "curl", "node"} {
		contentType, body := readRecorded(f, name)
		_, params, err := mime.ParseMediaType(contentType)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(bytes.ReplaceAll(body, []byte(params["boundary"]), []byte("b")))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		var received int
		got, err := readForm(multipart.NewReader(bytes.NewReader(body), "b"), map[string]fileSink{
			"artifact": func(file filePart, r io.Reader) error {
				if n := cleanFileName(file.name); n != file.name || len(n) > maxFileNameLen || !utf8.ValidString(n) {
					t.Errorf("file name %q is not clean", file.name)
				}
				n, err := io.Copy(io.Discard, r)
				received += int(n)
				return err
			}})
		if err != nil {
			if signing.KindOf(err) != signing.KindInvalid {
				t.Errorf("error without a kind: %v", err)
			}
			return
		}
		if received > len(body) || len(got.fields)+len(got.parameters) > maxParts {
			t.Errorf("%d bytes in, %d out, %d fields", len(body), received, len(got.fields))
		}
		for name, value := range got.fields {
			if !utf8.ValidString(value) || value == "" || !validFieldName(name) {
				t.Errorf("field %q = %q", name, value)
			}
		}
	})
}

// BenchmarkReadForm streams 64 MiB as an artifact.
func BenchmarkReadForm(b *testing.B) {
	const size = 64 << 20
	var head bytes.Buffer
	mw := multipart.NewWriter(&head)
	mw.WriteField("projectSlug", "demo")
	mw.CreatePart(textproto.MIMEHeader{"Content-Disposition": {`form-data; name="artifact"; filename="a"`}})
	tail := "\r\n--" + mw.Boundary() + "--\r\n"
	b.SetBytes(size)
	b.ReportAllocs()
	for b.Loop() {
		body := io.MultiReader(bytes.NewReader(head.Bytes()), io.LimitReader(zeros{}, size), strings.NewReader(tail))
		_, err := readForm(multipart.NewReader(body, mw.Boundary()), map[string]fileSink{
			"artifact": func(_ filePart, r io.Reader) error { _, err := io.Copy(io.Discard, r); return err }})
		if err != nil {
			b.Fatal(err)
		}
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }
