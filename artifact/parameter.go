package artifact

import (
	"errors"
	"fmt"
	"slices"
	"sort"
	"strings"
	"unicode"
	"unicode/utf8"
)

// ParameterDefinition declares a parameter of signing requests.
type ParameterDefinition struct {
	Name     string  `json:"name"`
	Default  *string `json:"default,omitempty"` // nil for none
	Required bool    `json:"required"`          // a request must give a value, unless there is a default
}

// ParameterError is a parameter of a request that does not fit the configuration.
type ParameterError struct {
	Name    string `json:"name"`
	Message string `json:"message"`
}

func (e ParameterError) Error() string { return "parameter " + e.Name + ": " + e.Message }

// ParameterErrors are all of them, sorted by name.
type ParameterErrors []ParameterError

func (e ParameterErrors) Error() string {
	lines := make([]string, len(e))
	for i := range e {
		lines[i] = e[i].Error()
	}
	return strings.Join(lines, "\n")
}

// Parameters lists the parameters in the order of the document.
func (c *Configuration) Parameters() []ParameterDefinition { return slices.Clone(c.parameters) }

// ResolveParameters returns a value for each declared parameter: the given one,
// or else the default, or else the empty string when the parameter is not
// required. Names are matched without regard to case; the result has them as
// declared. Unknown, ambiguous, missing and malformed ones are ParameterErrors.
func (c *Configuration) ResolveParameters(given map[string]string) (map[string]string, error) {
	var errs ParameterErrors
	resolved := make(map[string]string, len(c.parameters))
	for name, value := range given {
		definition := c.parameter(name)
		if definition == nil {
			errs = append(errs, ParameterError{name, "the artifact configuration has no such parameter" + didYouMean(name, c.parameterNames())})
			continue
		}
		if _, twice := resolved[definition.Name]; twice {
			errs = append(errs, ParameterError{name, "given twice, in different spelling"})
			continue
		}
		if problem := checkParameterValue(value); problem != "" {
			errs = append(errs, ParameterError{name, problem})
		}
		resolved[definition.Name] = value
	}
	for _, definition := range c.parameters {
		if resolved[definition.Name] != "" {
			continue
		}
		_, isGiven := resolved[definition.Name]
		switch {
		case definition.Default != nil && !isGiven:
			resolved[definition.Name] = *definition.Default
		case definition.Required:
			errs = append(errs, ParameterError{definition.Name, "a value is required"})
		case !isGiven:
			resolved[definition.Name] = ""
		}
	}
	if len(errs) > 0 {
		sort.Slice(errs, func(i, j int) bool { return errs[i].Name < errs[j].Name })
		return nil, errs
	}
	return resolved, nil
}

func (c *Configuration) parameter(name string) *ParameterDefinition {
	for i := range c.parameters {
		if strings.EqualFold(c.parameters[i].Name, name) {
			return &c.parameters[i]
		}
	}
	return nil
}

func (c *Configuration) parameterNames() []string {
	names := make([]string, len(c.parameters))
	for i := range c.parameters {
		names[i] = c.parameters[i].Name
	}
	return names
}

// checkParameterValue says what is wrong with a value, if anything.
func checkParameterValue(value string) string {
	if len(value) > maxValueLength {
		return fmt.Sprintf("the value is longer than %d bytes", maxValueLength)
	}
	if !utf8.ValidString(value) {
		return "the value is not UTF-8"
	}
	if strings.ContainsFunc(value, unicode.IsControl) {
		return "the value has control characters"
	}
	return ""
}

// fileNameReference is what ${file.name} refers to: the name of the matched file.
const fileNameReference = "file.name"

// template is an attribute's value with references to parameters in it.
type template []templatePart

// templatePart is text as written, or a reference.
type templatePart struct {
	text      string
	reference string // name of a parameter as declared, or fileNameReference
}

// parseTemplate reads a value. A dollar sign without an opening brace is text.
func (c *Configuration) parseTemplate(value string) (template, error) {
	var t template
	for value != "" {
		start := strings.Index(value, "${")
		if start < 0 {
			break
		}
		if start > 0 {
			t = append(t, templatePart{text: value[:start]})
		}
		value = value[start+2:]
		end := strings.IndexByte(value, '}')
		if end < 0 {
			return nil, errors.New("${ has no closing }")
		}
		name := value[:end]
		value = value[end+1:]
		if name == fileNameReference {
			t = append(t, templatePart{reference: name})
			continue
		}
		definition := c.parameter(name)
		if definition == nil {
			return nil, fmt.Errorf("${%s} is not declared in <parameters>%s", name, didYouMean(name, append(c.parameterNames(), fileNameReference)))
		}
		t = append(t, templatePart{reference: definition.Name})
	}
	if value != "" || len(t) == 0 {
		t = append(t, templatePart{text: value})
	}
	return t, nil
}

// constant reports whether the template has no references.
func (t template) constant() bool {
	return !slices.ContainsFunc(t, func(p templatePart) bool { return p.reference != "" })
}

// usesFileName reports whether ${file.name} is in it.
func (t template) usesFileName() bool {
	return slices.ContainsFunc(t, func(p templatePart) bool { return p.reference == fileNameReference })
}

// parts fills references in. What comes from a reference is literal: whoever
// submits a request must not be able to widen a pattern.
func (t template) parts(parameters map[string]string, fileName string) []patternPart {
	parts := make([]patternPart, len(t))
	for i, p := range t {
		switch p.reference {
		case "":
			parts[i] = patternPart{text: p.text}
		case fileNameReference:
			parts[i] = patternPart{text: fileName, literal: true}
		default:
			parts[i] = patternPart{text: parameters[p.reference], literal: true}
		}
	}
	return parts
}

// expand is parts as one text.
func (t template) expand(parameters map[string]string, fileName string) string {
	return segmentSource(t.parts(parameters, fileName))
}

// didYouMean names the candidate that is most like a misspelt word, if one is.
func didYouMean(word string, candidates []string) string {
	if best := closest(word, candidates); best != "" {
		return "; did you mean " + best + "?"
	}
	return ""
}

func closest(word string, candidates []string) string {
	if len(word) > 100 {
		return ""
	}
	best, least := "", max(len(word)/3, 1)+1
	for _, candidate := range candidates {
		d := editDistance(strings.ToLower(word), strings.ToLower(candidate))
		if d < least {
			best, least = candidate, d
		}
	}
	return best
}

// editDistance is the least number of bytes inserted, removed, replaced or
// swapped with their neighbour that makes b of a.
func editDistance(a, b string) int {
	before, last, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := range len(a) {
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			row[j+1] = min(row[j]+1, last[j+1]+1, last[j]+cost)
			if i > 0 && j > 0 && a[i] == b[j-1] && a[i-1] == b[j] {
				row[j+1] = min(row[j+1], before[j-1]+1)
			}
		}
		before, last, row = last, row, before
	}
	return last[len(b)]
}
