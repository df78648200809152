package artifact

import (
	"flag"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write golden files anew")

// golden compares text with a file below testdata.
func golden(t *testing.T, name, got string) {
	t.Helper()
	name = filepath.Join("testdata", name)
	if *update {
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (want -, got +; -update writes it anew):\n%s", name, diff)
	}
}

func TestAnalyze(t *testing.T) {
	t.Parallel()
	vendor := vendorIdentity()
	signPE := func(seed uint64) []byte {
		c := mustParse(t, configure(`<pe-file><authenticode-sign/></pe-file>`))
		signed, _, _ := signBytes(t, c, "x.dll", makePE(3000, seed, nil), vendor, PlanOptions{})
		return signed
	}
	component := func(n string, seed uint64) []zipFile {
		return []zipFile{
			{name: n + "/main.exe", content: makePE(3000, seed, nil)},
			{name: n + "/de.resource.dll", content: makePE(3000, seed+1, nil)},
			{name: n + "/readme.txt", content: []byte("text")},
		}
	}
	var files []zipFile
	files = append(files, zipFile{name: "setup-1.2.3.exe", content: makePE(3000, 10, nil)})
	files = append(files, zipFile{name: "strange [x] ${y}.exe", content: makePE(3000, 11, nil)})
	files = append(files, zipFile{name: "noextension", content: makePE(3000, 12, nil)})
	files = append(files, zipFile{name: "fake.exe", content: []byte("no PE image")})
	files = append(files, zipFile{name: "driver.msi", content: []byte("\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1 not more")})
	files = append(files, component("component1", 20)...)
	files = append(files, component("component2", 30)...)
	files = append(files, zipFile{name: "vendor/trusted.dll", content: signPE(40)})
	files = append(files, zipFile{name: "plugins/tool-2.0.zip", content: makeZIP(t,
		zipFile{name: "tool-2.0/bin/tool.exe", content: makePE(3000, 50, nil)})})
	sample := makeZIP(t, files...)
	for name, trust := range map[string]Trust{"trusted": {Roots: vendor.pool()}, "untrusted": {}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			text, err := Analyze(t.Context(), bytesSource("sample-1.0.zip", sample), AnalyzeOptions{Trust: trust})
			if err != nil {
				t.Fatal(err)
			}
			golden(t, "analyze/"+name+".xml", string(text))
			xmllint(t, text, true)
			plan, err := mustParse(t, string(text)).Plan(t.Context(), bytesSource("sample-1.1.zip", sample), PlanOptions{Trust: trust})
			if err != nil {
				t.Fatal(err)
			}
			for _, v := range plan.Violations {
				t.Errorf("the sample does not fit: %+v", v)
			}
		})
	}
}

// Where a wildcard for a version would match another file too, there is none.
func TestAnalyzeFallsBack(t *testing.T) {
	t.Parallel()
	sample := makeZIP(t,
		zipFile{name: "app-1.0.exe", content: makePE(3000, 1, nil)},
		zipFile{name: "app-helper.exe", content: makePE(3000, 2, nil)})
	text, err := Analyze(t.Context(), bytesSource("a.zip", sample), AnalyzeOptions{})
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "analyze/fallback.xml", string(text))
}

func TestAnalyzeRefuses(t *testing.T) {
	t.Parallel()
	for name, content := range map[string][]byte{
		"nothing to sign": []byte("text"),
		"empty":           nil,
		"damaged archive": []byte("PK\x03\x04 and no more"),
	} {
		if text, err := Analyze(t.Context(), bytesSource("x.dat", content), AnalyzeOptions{}); err == nil {
			t.Errorf("%s: no error, but %s", name, text)
		}
	}
}

func TestTemplates(t *testing.T) {
	t.Parallel()
	names := make(map[string]bool)
	available := 0
	var documents [][]byte
	for _, template := range Templates() {
		if names[template.Name] {
			t.Errorf("two templates are called %s", template.Name)
		}
		names[template.Name] = true
		if _, err := ParseConfiguration([]byte(template.XML)); err != nil {
			t.Errorf("%s: %v\n%s", template.Name, err, template.XML)
		}
		documents = append(documents, []byte(template.XML))
		if template.Available {
			available++
		}
	}
	for i, valid := range validate(t, documents...) {
		if !valid {
			t.Errorf("the schema refuses\n%s", documents[i])
		}
	}
	for _, name := range []string{"pe-file", "pe-file-in-zip", "pe-file-set-in-zip", "directory", "file-in-zip"} {
		if !names[name] {
			t.Errorf("there is no template %s", name)
		}
	}
	if available < 3 {
		t.Errorf("%d templates can be carried out, want 3 or more", available)
	}
}
