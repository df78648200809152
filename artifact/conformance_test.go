package artifact

import (
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestConformance runs the cases in testdata/conformance. Each has a
// configuration, a recipe for an artifact, and the expected plan as text, or the
// expected errors. See testdata/conformance/README.md for how recipes are written.
func TestConformance(t *testing.T) {
	t.Parallel()
	folders, err := filepath.Glob("testdata/conformance/*/config.xml")
	if err != nil || len(folders) == 0 {
		t.Fatal("there are no cases", err)
	}
	type document struct {
		name  string
		xml   []byte
		valid bool
	}
	var documents []document
	for _, name := range folders {
		folder := filepath.Dir(name)
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		recipeText, err := os.ReadFile(filepath.Join(folder, "artifact.txt"))
		if err != nil {
			t.Fatal(err)
		}
		r := parseRecipe(t, string(recipeText))
		_, err = ParseConfiguration(text)
		documents = append(documents, document{filepath.Base(folder), text, err == nil || r.beyondSchema})
		t.Run(filepath.Base(folder), func(t *testing.T) {
			t.Parallel()
			golden(t, filepath.Join("conformance", filepath.Base(folder), "plan.golden"), conform(t, text, r))
		})
	}
	texts := make([][]byte, len(documents))
	for i := range documents {
		texts[i] = documents[i].xml
	}
	for i, valid := range validate(t, texts...) {
		if valid != documents[i].valid {
			t.Errorf("%s: valid by the schema: %v, want %v", documents[i].name, valid, documents[i].valid)
		}
	}
}

// conform returns the plan, or what went wrong, as text.
func conform(t *testing.T, text []byte, r recipe) string {
	c, err := ParseConfiguration(text)
	if err != nil {
		return "refused\n" + err.Error() + "\n"
	}
	artifact := r.root.build(t)
	plan, err := c.Plan(t.Context(), bytesSource(r.root.name, artifact), PlanOptions{
		Workspace:  Workspace{Limits: r.limits},
		Parameters: r.parameters,
		Strict:     r.strict,
		Trust:      Trust{Roots: vendorIdentity().pool()},
	})
	if err != nil {
		return "not planned\n" + err.Error() + "\n"
	}
	for i, v := range plan.Violations {
		if rule, problem, ok := strings.Cut(v.Message, ">"); ok && v.Code == ViolationVerification {
			// How package authenticode words a problem is not the language's business.
			words := strings.Fields(problem)
			plan.Violations[i].Message = rule + "> " + strings.Join(words[:min(len(words), 6)], " ") + " ..."
		}
	}
	var b strings.Builder
	if err := plan.WriteText(&b, false); err != nil {
		t.Fatal(err)
	}
	if len(plan.Violations) > 0 {
		return b.String()
	}
	// A plan without violations can be carried out.
	who := ecdsaIdentity()
	out := outputFile(t)
	if _, err := Sign(t.Context(), plan, bytesSource(r.root.name, artifact), out, SignOptions{Key: who.key, Chain: who.chain}); err != nil {
		t.Errorf("signing: %v", err)
	}
	return b.String()
}

// recipe is a parsed artifact.txt.
type recipe struct {
	root         *ingredient
	parameters   map[string]string
	strict       bool
	beyondSchema bool
	limits       Limits
}

// ingredient is a file of the artifact.
type ingredient struct {
	name, kind string
	options    map[string]string
	files      []*ingredient
}

func parseRecipe(t *testing.T, text string) recipe {
	t.Helper()
	r := recipe{parameters: map[string]string{}}
	var open []*ingredient // by depth
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\n")
		trimmed := strings.TrimLeft(line, " ")
		if trimmed == "" || trimmed[0] == '#' {
			continue
		}
		word, rest, _ := strings.Cut(trimmed, " ")
		switch word {
		case "strict:":
			r.strict = true
			continue
		case "beyond-schema:":
			r.beyondSchema = true
			continue
		case "depth:":
			fmt.Sscan(rest, &r.limits.Depth)
			continue
		case "files:":
			fmt.Sscan(rest, &r.limits.Files)
			continue
		case "parameter:":
			name, value, _ := strings.Cut(rest, "=")
			r.parameters[name] = value
			continue
		}
		depth := (len(line) - len(trimmed)) / 2
		fields := splitQuoted(trimmed)
		i := &ingredient{name: fields[0], options: map[string]string{}}
		if len(fields) > 1 {
			i.kind = fields[1]
			for _, field := range fields[2:] {
				name, value, _ := strings.Cut(field, "=")
				i.options[name] = value
			}
		}
		open = append(open[:depth:depth], i)
		if depth == 0 {
			r.root = i
		} else {
			open[depth-1].files = append(open[depth-1].files, i)
		}
	}
	if r.root == nil {
		r.root = &ingredient{name: "artifact", kind: "text"}
	}
	return r
}

// splitQuoted splits at spaces that are not between quotation marks.
func splitQuoted(s string) []string {
	var fields []string
	var b strings.Builder
	quoted := false
	for _, c := range s {
		switch {
		case c == '"':
			quoted = !quoted
		case c == ' ' && !quoted:
			if b.Len() > 0 {
				fields = append(fields, b.String())
			}
			b.Reset()
		default:
			b.WriteRune(c)
		}
	}
	return append(fields, b.String())
}

func (i *ingredient) build(t *testing.T) []byte {
	t.Helper()
	switch i.kind {
	case "", "link":
		return []byte(i.options["to"])
	case "text":
		return []byte("text " + i.name)
	case "xml":
		return []byte(i.options["content"])
	case "hex":
		content, err := hex.DecodeString(i.options["content"])
		if err != nil {
			t.Fatal(err)
		}
		return content
	case "msi":
		content, err := os.ReadFile("cfb/testdata/plain.msi")
		if err != nil {
			t.Fatal(err)
		}
		return content
	case "cfb":
		return []byte("\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1")
	case "pe":
		var version map[string]string
		for name, value := range i.options {
			if name != "signed" {
				if version == nil {
					version = map[string]string{}
				}
				version[name] = value
			}
		}
		image := makePE(2000, uint64(len(i.name)), version)
		switch i.options["signed"] {
		case "":
			return image
		case "other":
			return presign(t, image, ecdsaIdentity())
		case "broken":
			signed := presign(t, image, vendorIdentity())
			signed[0x300] ^= 1
			return signed
		}
		return presign(t, image, vendorIdentity())
	case "zip":
		var files []zipFile
		for _, f := range i.files {
			files = append(files, zipFile{name: f.name, content: f.build(t), stored: f.options["stored"] != "", link: f.kind == "link"})
		}
		return makeZIP(t, files...)
	}
	t.Fatalf("unknown kind %q", i.kind)
	return nil
}

func presign(t testing.TB, image []byte, who identity) []byte {
	c := mustParse(t, configure(`<pe-file><authenticode-sign/></pe-file>`))
	signed, _, _ := signBytes(t, c, "x.exe", image, who, PlanOptions{})
	return signed
}
