package artifact

import (
	"flag"
	"fmt"
	mathrand "math/rand/v2"
	"os"
	"path/filepath"
	"strings"
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

// What stands for a version becomes a wildcard, and no more than that, unless the
// wildcard would match something else, too.
func TestAnalyzeVersions(t *testing.T) {
	t.Parallel()
	var files []zipFile
	for i, name := range []string{
		"MyApp-1.2.3-x64.exe", "setup-1.2.3-beta.1+build5.exe", "Setup_v2.0rc1.exe", "Acme.Core.4.0.1.dll", "v1.2/tool.exe",
		"app-1.0.exe", "app-helper.exe", // app-*.exe would match both
		"plain-1.0.exe", "plain-readme.exe", // the second is no PE image
		"lib/net6.0/a.dll", "lib/netstandard2.0/a.dll", // not versions of a product
		"old-1.0/x.exe", "old-notes/readme.txt", // old-* would match both directories
		"multi-1.0.dll", "multi-2.0.dll",
		"odd---name-1.0---.dll", "not\uFFFFinXML.dll",
	} {
		content := makePE(3000, uint64(i), nil)
		if strings.Contains(name, "readme") {
			content = []byte("text")
		}
		files = append(files, zipFile{name: name, content: content})
	}
	text, err := Analyze(t.Context(), bytesSource("a.zip", makeZIP(t, files...)), AnalyzeOptions{})
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "analyze/versions.xml", string(text))
}

// TestAnalyzeFits proposes configurations for random archives, with names that
// look like versions, patterns and references: each sample fits its own, in
// strict mode, too, and each image in it is mentioned.
func TestAnalyzeFits(t *testing.T) {
	t.Parallel()
	names := []string{"a", "a-1.0", "a-2.0", "a-2.0-x64", "A b", "[x]", "${y}", "v1.2.3", "1.2", "x---y", "a-b", "\u00e9-1.0"}
	who := vendorIdentity()
	var archive func(random *mathrand.Rand, depth int) []byte
	archive = func(random *mathrand.Rand, depth int) []byte {
		var files []zipFile
		seen := make(map[string]bool)
		for range 1 + random.IntN(12) {
			f := zipFile{stored: random.IntN(3) == 0}
			for range random.IntN(3) {
				f.name += "d" + names[random.IntN(len(names))] + "/"
			}
			f.name += names[random.IntN(len(names))]
			switch kind := random.IntN(6); {
			case kind == 0:
				f.name, f.content = f.name+".txt", []byte("text")
			case kind == 1:
				f.name, f.content = f.name+".exe", []byte("no image")
			case kind == 2 && depth < 2:
				f.name, f.content = f.name+".zip", archive(random, depth+1)
			case kind == 3:
				f.name, f.content = f.name+".dll", presign(t, makePE(2000, random.Uint64(), nil), who)
			default:
				f.name, f.content = f.name+".exe", makePE(2000, random.Uint64(), nil)
			}
			if !seen[strings.ToLower(f.name)] {
				seen[strings.ToLower(f.name)] = true
				files = append(files, f)
			}
		}
		return makeZIP(t, files...)
	}
	for seed := range uint64(60) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			random := mathrand.New(mathrand.NewPCG(seed, 3))
			sample := bytesSource("a-1.0.zip", archive(random, 0))
			trust := Trust{}
			if random.IntN(2) == 0 {
				trust.Roots = who.pool()
			}
			text, err := Analyze(t.Context(), sample, AnalyzeOptions{Trust: trust})
			if err != nil {
				t.Fatal(err)
			}
			plan, err := mustParse(t, string(text)).Plan(t.Context(), sample, PlanOptions{Trust: trust, Strict: true})
			if err != nil {
				t.Fatal(err)
			}
			for _, v := range plan.Violations {
				t.Errorf("the sample does not fit: %+v\n%s", v, text)
			}
		})
	}
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

// FuzzAnalyze: whatever an archive holds and however its files are called, what
// is proposed is a configuration that the parser takes.
func FuzzAnalyze(f *testing.F) {
	f.Add("app-1.0.exe", "lib/net6.0/[x] ${y}.dll", "a---b/--.zip")
	f.Add("\uFFFE", "*?", "1.2.3/1.2.3")
	who := vendorIdentity()
	content := presign(f, makePE(1000, 1, nil), who)
	f.Fuzz(func(t *testing.T, a, b, c string) {
		var files []zipFile
		for i, name := range []string{a, b, c} {
			if name == "" || len(name) > 1000 || strings.HasSuffix(name, "/") {
				return
			}
			files = append(files, zipFile{name: name, content: [][]byte{content, makePE(1000, uint64(i), nil)}[i%2]})
		}
		text, err := Analyze(t.Context(), bytesSource(a, makeZIP(t, files...)), AnalyzeOptions{Trust: Trust{Roots: who.pool()}})
		if err != nil && strings.Contains(err.Error(), "proposed configuration is wrong") {
			t.Fatal(err)
		}
		if err == nil {
			mustParse(t, string(text))
		}
	})
}
