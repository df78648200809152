package artifact

import (
	"archive/zip"
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	mathrand "math/rand/v2"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// randomArchive makes a tree of files, with PE images, texts and archives in it,
// and returns their paths from the top, in which archives are directories.
func randomArchive(t testing.TB, random *mathrand.Rand, depth int, base string, pes map[string]bool) []byte {
	var files []zipFile
	seen := make(map[string]bool)
	for range 1 + random.IntN(6) {
		name := fmt.Sprintf("%c%d", 'a'+random.IntN(3), random.IntN(9))
		for range random.IntN(3) {
			name = fmt.Sprintf("d%d/", random.IntN(2)) + name
		}
		f := zipFile{stored: random.IntN(3) == 0}
		switch kind := random.IntN(4); {
		case kind == 0:
			f.name, f.content = name+".txt", []byte(strings.Repeat(name, random.IntN(2000)))
		case kind == 1 && depth < 3:
			f.name = name + ".zip"
			if !seen[f.name] {
				f.content = randomArchive(t, random, depth+1, joinPath(base, f.name), pes)
			}
		default:
			f.name, f.content = name+".exe", makePE(1000+random.IntN(4000), random.Uint64(), nil)
			pes[joinPath(base, f.name)] = true
		}
		if !seen[f.name] {
			seen[f.name] = true
			files = append(files, f)
		}
	}
	return makeZIP(t, files...)
}

// randomRules makes rules for any archive: each PE image matches one at most.
func randomRules(random *mathrand.Rand, depth int) string {
	var b strings.Builder
	const many = `min-matches="0" max-matches="unbounded"`
	steps := []string{"<authenticode-sign/>", `<authenticode-sign hash-algorithm="sha384"/><authenticode-sign append="true"/>`, ""}
	for _, letter := range []string{"[a]", "[!a-b]", "b"}[:1+random.IntN(3)] {
		step := steps[random.IntN(len(steps))]
		path := fmt.Sprintf("**/%s*.exe", letter)
		switch random.IntN(3) {
		case 0:
			fmt.Fprintf(&b, `<pe-file path=%q %s>%s</pe-file>`, path, many, step)
		case 1:
			fmt.Fprintf(&b, `<pe-file-set><include path=%q %s/><for-each>%s</for-each></pe-file-set>`, path, many, step)
		case 2:
			fmt.Fprintf(&b, `<directory path="d*" %s><pe-file path=%q %s>%s</pe-file></directory>`, many, letter+"*.exe", many, step)
		}
	}
	if depth < 3 {
		fmt.Fprintf(&b, `<zip-file path="**/*.zip" %s>%s</zip-file>`, many, randomRules(random, depth+1))
	}
	return b.String()
}

// contents lists all files of an archive and of those in it, by path from the
// top; archives themselves are left out.
func contents(t testing.TB, archive []byte, base string, to map[string][]byte) {
	t.Helper()
	r, err := zip.NewReader(bytes.NewReader(archive), int64(len(archive)))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range r.File {
		stream, err := f.Open()
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(stream)
		if err != nil {
			t.Fatal(err)
		}
		p := joinPath(base, f.Name)
		if strings.HasSuffix(f.Name, ".zip") {
			contents(t, content, p, to)
			continue
		}
		to[p] = content
	}
}

// planned collects the paths that a plan signs.
func planned(f *PlannedFile, at string, to map[string]bool) {
	if f.Action == ActionSign {
		to[at] = true
	}
	for _, nested := range f.Files {
		planned(nested, joinPath(at, nested.Path), to)
	}
}

// TestSignChangesOnlyWhatIsPlanned signs random trees by random configurations
// and compares them file by file, with the standard library's reader.
func TestSignChangesOnlyWhatIsPlanned(t *testing.T) {
	t.Parallel()
	for seed := range uint64(40) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			random := mathrand.New(mathrand.NewPCG(seed, 7))
			pes := make(map[string]bool)
			archive := randomArchive(t, random, 0, "", pes)
			text := configure(`<zip-file>` + randomRules(random, 0) + `</zip-file>`)
			c := mustParse(t, text)
			src := bytesSource("a.zip", archive)
			plan, err := c.Plan(t.Context(), src, PlanOptions{Hashes: Hashes(seed % 3)})
			if err != nil {
				t.Fatal(err)
			}
			if len(plan.Violations) > 0 {
				t.Fatalf("%+v\n%s", plan.Violations[0], text)
			}
			who := ecdsaIdentity()
			out := outputFile(t)
			carried := plan
			if !plan.hashless() {
				carried, src = roundTrip(t, plan), bytesSource("a.zip", archive)
			}
			_, err = Sign(t.Context(), carried, src, out, SignOptions{
				// Little memory: whatever does not fit has to go to files.
				Workspace: Workspace{Memory: 4096, TempDir: t.TempDir(), Parallelism: 3},
				Key:       who.key, Chain: who.chain,
			})
			if err != nil {
				t.Fatal(err)
			}
			signed, err := os.ReadFile(out.Name())
			if err != nil {
				t.Fatal(err)
			}
			before, after, want := map[string][]byte{}, map[string][]byte{}, map[string]bool{}
			contents(t, archive, "", before)
			contents(t, signed, "", after)
			planned(plan.Root, "", want)
			changed := make(map[string]bool)
			for p := range before {
				if !bytes.Equal(before[p], after[p]) {
					changed[p] = true
				}
			}
			if diff := cmp.Diff(want, changed); diff != "" || len(before) != len(after) {
				t.Errorf("%d files became %d; planned -, changed +:\n%s", len(before), len(after), diff)
			}
			for p := range want {
				report, err := Verify(t.Context(), bytesSource(p, after[p]), VerifyOptions{Trust: Trust{Roots: who.pool()}})
				if err != nil || report.Status != "valid" {
					t.Errorf("%s: %v, %+v", p, err, report)
				}
			}
			if len(want) == 0 && !bytes.Equal(archive, signed) {
				t.Error("nothing was to be signed, but the archive changed")
			}
		})
	}
}

// roundTrip sends a plan through JSON, as a store does.
func roundTrip(t testing.TB, plan *Plan) *Plan {
	t.Helper()
	encoded, err := json.Marshal(plan)
	if err != nil {
		t.Fatal(err)
	}
	var decoded Plan
	if err := json.Unmarshal(encoded, &decoded); err != nil {
		t.Fatal(err)
	}
	if decoded.Digest() != plan.Digest() {
		t.Error("the digest of the plan changed on its way through JSON")
	}
	return &decoded
}

func TestPlanDigestBinds(t *testing.T) {
	t.Parallel()
	one, other := makePE(2000, 1, nil), makePE(2000, 2, nil)
	const sign = `<pe-file%s><authenticode-sign/></pe-file>`
	base := configure(fmt.Sprintf(`<parameters><parameter name="p" default-value="1"/></parameters>`+sign, ""))
	digests := make(map[[32]byte]string)
	for name, c := range map[string]struct {
		text    string
		content []byte
		options PlanOptions
	}{
		"base":          {text: base, content: one},
		"artifact":      {text: base, content: other},
		"configuration": {text: strings.Replace(base, "/>", "  />", 1), content: one},
		"parameters":    {text: base, content: one, options: PlanOptions{Parameters: map[string]string{"P": "2"}}},
		"strict":        {text: base, content: one, options: PlanOptions{Strict: true}},
	} {
		plan, err := mustParse(t, c.text).Plan(t.Context(), bytesSource("a.exe", c.content), c.options)
		if err != nil {
			t.Fatal(err)
		}
		if same, ok := digests[plan.Digest()]; ok {
			t.Errorf("%s and %s have the same digest", same, name)
		}
		digests[plan.Digest()] = name
		again, err := mustParse(t, c.text).Plan(t.Context(), bytesSource("a.exe", c.content), c.options)
		if err != nil || again.Digest() != plan.Digest() {
			t.Errorf("%s: planning again gives another digest (%v)", name, err)
		}
	}
}

func TestCancel(t *testing.T) {
	t.Parallel()
	c := mustParse(t, configure(`<zip-file><pe-file path="*.exe" max-matches="unbounded"><authenticode-sign/></pe-file></zip-file>`))
	content := makeZIP(t, zipFile{name: "a.exe", content: makePE(3000, 1, nil)}, zipFile{name: "b.exe", content: makePE(3000, 2, nil)})
	plan, err := c.Plan(t.Context(), bytesSource("a.zip", content), PlanOptions{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := c.Plan(ctx, bytesSource("a.zip", content), PlanOptions{}); !errors.Is(err, context.Canceled) {
		t.Errorf("Plan: got error %v", err)
	}
	who := ecdsaIdentity()
	if _, err := Sign(ctx, plan, bytesSource("a.zip", content), outputFile(t), SignOptions{Key: who.key, Chain: who.chain}); !errors.Is(err, context.Canceled) {
		t.Errorf("Sign: got error %v", err)
	}
	if _, err := Verify(ctx, bytesSource("a.zip", content), VerifyOptions{}); !errors.Is(err, context.Canceled) {
		t.Errorf("Verify: got error %v", err)
	}
}

func FuzzPlanZip(f *testing.F) {
	f.Add(makeZIP(f, zipFile{name: "a.exe", content: makePE(1000, 1, nil)}, zipFile{name: "x/b.zip", content: makeZIP(f, zipFile{name: "c.exe", content: makePE(1000, 2, nil)})}))
	f.Add(makeZIP(f, zipFile{name: "a.exe", content: []byte("MZ")}, zipFile{name: "l", content: []byte("a.exe"), link: true}))
	f.Add([]byte("PK\x05\x06"))
	bomb := makeZIP(f, zipFile{name: "bomb.zip", content: make([]byte, 1<<16)})
	binary.LittleEndian.PutUint32(bomb[22:], 1<<30)
	f.Add(bomb)
	c := mustParse(f, configure(`<zip-file>
		<pe-file path="**/*.exe" min-matches="0" max-matches="unbounded" product-name="*"><authenticode-verify/><authenticode-sign append="true"/></pe-file>
		<zip-file path="**/*.zip" min-matches="0" max-matches="unbounded"><pe-file path="*.exe" min-matches="0" max-matches="3"><authenticode-sign/></pe-file></zip-file>
	</zip-file>`))
	signing := mustParse(f, configure(`<zip-file><pe-file path="**" min-matches="0" max-matches="unbounded"><authenticode-sign/></pe-file></zip-file>`))
	who := ecdsaIdentity()
	f.Fuzz(func(t *testing.T, archive []byte) {
		workspace := Workspace{Limits: Limits{TotalSize: 1 << 24, Files: 1000}}
		opts := PlanOptions{Workspace: workspace, Strict: true, Hashes: HashAll}
		plan, err := c.Plan(t.Context(), bytesSource("a.zip", archive), opts)
		if err != nil {
			t.Fatalf("an artifact, however bad, is no error of the engine: %v", err)
		}
		roundTrip(t, plan)
		var b strings.Builder
		if err := plan.WriteText(&b, true); err != nil {
			t.Fatal(err)
		}
		if _, err := Verify(t.Context(), bytesSource("a.zip", archive), VerifyOptions{Workspace: workspace}); err != nil {
			t.Fatalf("an artifact, however bad, is no error of the engine: %v", err)
		}
		plan, err = signing.Plan(t.Context(), bytesSource("a.zip", archive), PlanOptions{Workspace: workspace})
		if err != nil || len(plan.Violations) > 0 {
			return
		}
		out := outputFile(t)
		// Signing may still refuse an image, but what it does not refuse verifies.
		result, err := Sign(t.Context(), plan, bytesSource("a.zip", archive), out, SignOptions{Workspace: workspace, Key: who.key, Chain: who.chain})
		if err != nil {
			return
		}
		report, err := Verify(t.Context(), Source{"a.zip", out, result.Size}, VerifyOptions{Workspace: workspace, Trust: Trust{Roots: who.pool()}})
		if err != nil || plan.SignatureCount() > 0 && report.Worst != "valid" {
			t.Errorf("signed, but it does not verify: %v %+v", err, report)
		}
	})
}
