package artifact

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// TestDocumentation parses each example of the user documentation, has the schema
// validate it, and checks that no part of the language is missing there.
func TestDocumentation(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../docs/artifact-configuration.md")
	if err != nil {
		t.Fatal(err)
	}
	var examples [][]byte
	for _, block := range regexp.MustCompile("(?s)```xml\n(.*?)```").FindAllSubmatch(text, -1) {
		examples = append(examples, block[1])
		if _, err := ParseConfiguration(block[1]); err != nil {
			t.Errorf("%v\n%s", err, block[1])
		}
	}
	if len(examples) < 10 {
		t.Fatalf("there are %d examples", len(examples))
	}
	for i, valid := range validate(t, examples...) {
		if !valid {
			t.Errorf("the schema refuses\n%s", examples[i])
		}
	}
	mentioned := func(name string) bool { return strings.Contains(string(text), name) }
	for _, spec := range fileSpecs {
		for _, name := range append([]string{"<" + spec.name + ">"}, spec.methods...) {
			if !mentioned(name) {
				t.Errorf("%s is not documented", name)
			}
		}
		for _, a := range append(spec.restrictions, spec.attributes...) {
			if !mentioned(a.name) {
				t.Errorf("the attribute %s of <%s> is not documented", a.name, spec.name)
			}
		}
	}
	for _, spec := range methodSpecs {
		for _, a := range spec.attributes {
			for _, name := range append(a.values, a.name) {
				if !mentioned(name) {
					t.Errorf("%s of <%s> is not documented", name, spec.name)
				}
			}
		}
	}
	// What the page says that this version can do is what it can do.
	for _, m := range methods {
		if !strings.Contains(string(text), "`"+m.name+"`") || !mentioned("`<"+m.element+">`") {
			t.Errorf("%s for <%s> is not documented as available", m.name, m.element)
		}
	}
}
