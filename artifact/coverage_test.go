package artifact

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// coverage says what of the language occurs in conformance cases: elements,
// attributes as element@attribute, and values as element@attribute=value.
type coverage map[string]bool

func (c coverage) element(e *element) {
	c[e.name] = true
	for _, a := range e.attributes {
		c[e.name+"@"+a.name] = true
		c[e.name+"@"+a.name+"="+a.value] = true
	}
	for _, child := range e.children {
		c.element(child)
	}
}

// mistakes adds the elements and attributes at which there are mistakes.
func (c coverage) mistakes(e *element, at map[position]bool) {
	for _, a := range e.attributes {
		if at[a.at] {
			c[e.name+"@"+a.name] = true
			at[e.at] = true
		}
	}
	for _, child := range e.children {
		c.mistakes(child, at)
		// A mistake in <include> is one of its set.
		if child.name == "include" && at[child.at] {
			at[e.at] = true
		}
	}
	if at[e.at] {
		c[e.name] = true
	}
}

// TestConformanceCovers holds the conformance cases against the tables of the
// language: each element, attribute and value occurs in a valid configuration,
// and each element and attribute is wrong in some way in another case.
func TestConformanceCovers(t *testing.T) {
	t.Parallel()
	right, wrong := coverage{}, coverage{}
	folders, err := filepath.Glob("testdata/conformance/*/config.xml")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range folders {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		var errs complaints
		document := readDocument(text, &errs)
		if document == nil {
			continue
		}
		at := make(map[position]bool)
		c, err := ParseConfiguration(text)
		if err == nil {
			right.element(document)
		}
		mistakes, _ := errors.AsType[ConfigurationErrors](err)
		for _, m := range mistakes {
			at[position{m.Line, m.Column}] = true
		}
		if err == nil && c.CheckAvailable() == nil {
			violated(t, filepath.Dir(name), c, wrong, at)
		}
		wrong.mistakes(document, at)
	}
	lacks := func(c coverage, what, name string) {
		if !c[name] {
			t.Errorf("no case with %s %s", what, name)
		}
	}
	attributes := func(element string, list []attributeSpec) {
		for _, a := range list {
			name := element + "@" + a.name
			lacks(right, "a right", name)
			for _, value := range a.values {
				lacks(right, "the value", name+"="+value)
			}
			if a.kind != kindText || a.values != nil || a.required { // else any text is right
				lacks(wrong, "a wrong", name)
			}
		}
	}
	for _, spec := range fileSpecs {
		for _, name := range []string{spec.name, spec.name + "-set"} {
			lacks(right, "a right", name)
			lacks(wrong, "a wrong", name)
		}
		attributes(spec.name, spec.restrictions)
		attributes(spec.name, spec.attributes)
	}
	for _, spec := range methodSpecs {
		lacks(right, "a right", spec.name)
		lacks(wrong, "a wrong", spec.name)
		attributes(spec.name, spec.attributes)
	}
	attributes("pe-file", matchAttributes)
	attributes("include", matchAttributes)
	attributes("artifact-configuration", []attributeSpec{{name: "strict", kind: kindBoolean}})
	attributes("parameter", []attributeSpec{{name: "name", required: true}, {name: "default-value"}, {name: "required", kind: kindBoolean}})
}

// violated notes what a case's artifact violates.
func violated(t *testing.T, folder string, c *Configuration, wrong coverage, at map[position]bool) {
	t.Helper()
	recipeText, err := os.ReadFile(filepath.Join(folder, "artifact.txt"))
	if err != nil {
		t.Fatal(err)
	}
	r := parseRecipe(t, string(recipeText))
	plan, err := c.Plan(t.Context(), bytesSource(r.root.name, r.root.build(t)), PlanOptions{
		Workspace: Workspace{Limits: r.limits}, Parameters: r.parameters, Strict: r.strict, Trust: Trust{Roots: vendorIdentity().pool()},
	})
	if err != nil {
		return // a parameter is wrong
	}
	for _, v := range plan.Violations {
		at[position{v.Line, v.Column}] = true
		var element, attribute string
		if v.Code == ViolationRestriction {
			attribute, _, _ = strings.Cut(v.Message, " ")
		}
		if fmt.Sscanf(strings.TrimRight(v.Rule, ">"), "<%s", &element); attribute != "" {
			wrong[strings.TrimSuffix(element, "-set")+"@"+attribute] = true
		}
		for _, method := range methodSpecs {
			if strings.Contains(v.Message, "<"+method.name+">") {
				wrong[method.name] = true
			}
		}
	}
}
