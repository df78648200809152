package artifact

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/countersign-dev/countersign/api"
	"github.com/countersign-dev/countersign/internal/oracle"
)

// validate has xmllint validate documents, all at once, against the schema and
// returns which are valid.
func validate(t testing.TB, documents ...[]byte) []bool {
	t.Helper()
	program := oracle.Need(t, "xmllint")
	dir := t.TempDir()
	schema := filepath.Join(dir, "schema.xsd")
	if err := os.WriteFile(schema, api.ArtifactConfigurationXSD, 0o600); err != nil {
		t.Fatal(err)
	}
	args := []string{"--nonet", "--noout", "--schema", schema}
	for i, document := range documents {
		name := filepath.Join(dir, fmt.Sprintf("document%d.xml", i))
		if err := os.WriteFile(name, document, 0o600); err != nil {
			t.Fatal(err)
		}
		args = append(args, name)
	}
	out, _ := exec.Command(program, args...).CombinedOutput()
	if strings.Contains(string(out), "failed to compile") {
		t.Fatalf("the schema is wrong:\n%s", out)
	}
	valid := make([]bool, len(documents))
	for i := range documents {
		valid[i] = strings.Contains(string(out), fmt.Sprintf("document%d.xml validates\n", i))
	}
	if testing.Verbose() {
		t.Logf("%s", out)
	}
	return valid
}

// xmllint fails the test unless the schema accepts a document, or refuses it.
func xmllint(t testing.TB, document []byte, want bool) {
	t.Helper()
	if validate(t, document)[0] != want {
		t.Errorf("valid by the schema: %v, want %v\n%s", !want, want, document)
	}
}

// values are two for each kind of attribute, of which the first is right.
var values = map[attributeKind][2]string{
	kindText:     {"text", ""},
	kindPath:     {"a/**/*.x", "/absolute"},
	kindPattern:  {"value*", ""},
	kindFileName: {"${file.name}", ""},
	kindOutput:   {"${file.name}.sig", "../escape"},
	kindMinimum:  {"0", "some"},
	kindMaximum:  {"unbounded", "endless"},
	kindBoolean:  {"true", "perhaps"},
	kindNumber:   {"21", "some"},
	kindURL:      {"https://example.com/", "example"},
}

func right(a attributeSpec) string {
	if a.values != nil {
		return a.values[len(a.values)-1]
	}
	return values[a.kind][0]
}

// TestSchemaKnowsTheLanguage writes each element, directive and attribute, in
// each place, and each attribute once with a wrong value: the parser and the
// schema have to be of one opinion.
func TestSchemaKnowsTheLanguage(t *testing.T) {
	t.Parallel()
	type document struct {
		text  string
		valid bool
	}
	var documents []document
	add := func(valid bool, format string, args ...any) {
		documents = append(documents, document{configure(fmt.Sprintf(format, args...)), valid})
	}
	directive := func(m *methodSpec, changed *attributeSpec, value string) string {
		var b strings.Builder
		b.WriteString("<" + m.name)
		for i := range m.attributes {
			a := &m.attributes[i]
			switch {
			case changed != nil && a.name == changed.name:
				fmt.Fprintf(&b, ` %s=%q`, a.name, value)
			case a.required:
				fmt.Fprintf(&b, ` %s=%q`, a.name, right(*a))
			}
		}
		b.WriteString("/>")
		return b.String()
	}
	for i := range fileSpecs {
		s := &fileSpecs[i]
		if !s.directory {
			add(true, `<%s/>`, s.name)
			add(true, `<%s path="name-*"/>`, s.name)
			add(false, `<%s path="directory/name"/>`, s.name)
			add(false, `<%s min-matches="1"/>`, s.name)
		} else {
			add(false, `<%s/>`, s.name)
		}
		add(false, `<%s unknown="x"/>`, s.name)
		add(false, `<%s-set/>`, s.name)
		add(true, `<zip-file><%s path="x" min-matches="0" max-matches="unbounded"/></zip-file>`, s.name)
		add(false, `<zip-file><%s/></zip-file>`, s.name)
		add(false, `<zip-file><%s path="x" max-matches="many"/></zip-file>`, s.name)
		add(true, `<zip-file><%[1]s-set><include path="x" max-matches="3"/><for-each/></%[1]s-set></zip-file>`, s.name)
		add(false, `<zip-file><%[1]s-set><for-each/></%[1]s-set></zip-file>`, s.name)
		add(false, `<zip-file><%[1]s-set><include path="x"/></%[1]s-set></zip-file>`, s.name)
		add(false, `<zip-file><%[1]s-set><for-each/><include path="x"/></%[1]s-set></zip-file>`, s.name)
		add(s.container, `<zip-file><%[1]s path="x"><file path="y"/></%[1]s></zip-file>`, s.name)
		for _, a := range s.restrictions {
			add(true, `<%s %s=%q/>`, s.name, a.name, right(a))
			add(true, `<zip-file><%[1]s-set %[2]s="x"><include path="x" %[2]s="${file.name}"/><for-each/></%[1]s-set></zip-file>`, s.name, a.name)
		}
		for j := range methodSpecs {
			m := &methodSpecs[j]
			allowed := false
			for _, name := range s.methods {
				allowed = allowed || name == m.name
			}
			inner := directive(m, nil, "")
			add(allowed && !m.rootOnly, `<zip-file><%[1]s path="x">%[2]s</%[1]s></zip-file>`, s.name, inner)
			if s.directory {
				continue
			}
			add(allowed && (!m.inZIP || s.name == "zip-file"), `<%[1]s>%[2]s</%[1]s>`, s.name, inner)
			if !allowed || m.inZIP {
				continue
			}
			for k := range m.attributes {
				a := &m.attributes[k]
				if a.name == "append" {
					continue // depends on the file type
				}
				add(true, `<%[1]s>%[2]s</%[1]s>`, s.name, directive(m, a, right(*a)))
				if wrong := values[a.kind][1]; wrong != "" || a.values != nil || a.required {
					add(false, `<%[1]s>%[2]s</%[1]s>`, s.name, directive(m, a, wrong))
				}
			}
		}
	}
	for i := range methodSpecs {
		m := &methodSpecs[i]
		if !m.inZIP || m.rootOnly {
			continue
		}
		for k := range m.attributes {
			a := &m.attributes[k]
			add(true, `<zip-file><file path="x">%s</file></zip-file>`, directive(m, a, right(*a)))
			if wrong := values[a.kind][1]; wrong != "" || a.values != nil {
				add(false, `<zip-file><file path="x">%s</file></zip-file>`, directive(m, a, wrong))
			}
		}
	}
	texts := make([][]byte, len(documents))
	for i := range documents {
		texts[i] = []byte(documents[i].text)
	}
	valid := validate(t, texts...)
	for i, d := range documents {
		_, err := ParseConfiguration(texts[i])
		if (err == nil) != d.valid {
			t.Errorf("the parser says %v of\n%s", err, d.text)
		}
		if valid[i] != d.valid {
			t.Errorf("by the schema valid: %v, want %v:\n%s", valid[i], d.valid, d.text)
		}
	}
	t.Logf("%d documents", len(documents))
}
