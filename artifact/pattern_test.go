package artifact

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

// referenceMatch is the simplest matcher of one segment there is; its time is
// exponential. Case is folded rune by rune.
func referenceMatch(pattern, text []rune) bool {
	if len(pattern) == 0 {
		return len(text) == 0
	}
	switch pattern[0] {
	case '*':
		return referenceMatch(pattern[1:], text) || len(text) > 0 && referenceMatch(pattern, text[1:])
	case '?':
		return len(text) > 0 && referenceMatch(pattern[1:], text[1:])
	case '[':
		end := slices.Index(pattern, ']')
		body := pattern[1:end]
		negated := body[0] == '!'
		if negated {
			body = body[1:]
		}
		if len(text) == 0 {
			return false
		}
		found := false
		for i := 0; i < len(body); i++ {
			low, high := body[i], body[i]
			if i+2 < len(body) && body[i+1] == '-' {
				high = body[i+2]
				i += 2
			}
			for _, variant := range variants(text[0]) {
				found = found || low <= variant && variant <= high
			}
		}
		return found != negated && referenceMatch(pattern[end+1:], text[1:])
	}
	return len(text) > 0 && foldRune(pattern[0]) == foldRune(text[0]) && referenceMatch(pattern[1:], text[1:])
}

// variants are all runes that fold alike.
func variants(r rune) []rune {
	var all []rune
	for _, c := range "aAbBcCxXkK\u212asSſéÉ-.x*?[]!^$" {
		if c != r && foldRune(c) == foldRune(r) {
			all = append(all, c)
		}
	}
	return append(all, r)
}

// referencePath is referenceMatch for paths.
func referencePath(pattern, path []string) bool {
	if len(pattern) == 0 {
		return len(path) == 0
	}
	if pattern[0] == "**" {
		if len(pattern) == 1 {
			return len(path) > 0
		}
		return referencePath(pattern[1:], path) || len(path) > 0 && referencePath(pattern, path[1:])
	}
	return len(path) > 0 && referenceMatch([]rune(pattern[0]), []rune(path[0])) && referencePath(pattern[1:], path[1:])
}

func FuzzPattern(f *testing.F) {
	for _, seed := range [][2]string{
		{"*.dll", "a.dll"}, {"m*y", "my first pony"}, {"th?s", "ths"}, {"[fb]oo", "BOO"}, {"[!0-9]", "x"},
		{"**/*.exe", "a/b/c.exe"}, {"lib/**", "lib"}, {"*a*b*c*", "xaxbxc"}, {"a/**/b/**/c", "a/b/x/b/c"},
		{"*?*", "é"}, {"[K]", "\u212a"}, {"a*[x]?", "aaax."}, {"**/**/x", "x"},
	} {
		f.Add(seed[0], seed[1])
	}
	f.Fuzz(func(t *testing.T, pattern, path string) {
		if len(pattern) > 20 || len(path) > 20 || !utf8.ValidString(pattern) || !utf8.ValidString(path) {
			return
		}
		p, err := compilePath([]patternPart{{text: pattern}})
		if err != nil || path == "" || strings.Contains("/"+path+"/", "//") {
			return
		}
		// The reference knows some variants of case only.
		for _, r := range pattern + path {
			if r >= utf8.RuneSelf && !strings.ContainsRune("\u212aſéÉ", r) || 'd' <= r && r <= 'z' && !strings.ContainsRune("ksx", r) || 'D' <= r && r <= 'Z' && !strings.ContainsRune("KS", r) {
				return
			}
		}
		var segments []string
		for segment := range strings.SplitSeq(strings.TrimSuffix(strings.ReplaceAll(pattern, `\`, "/"), "/"), "/") {
			if segment != "." {
				segments = append(segments, segment)
			}
		}
		if want, got := referencePath(segments, strings.Split(path, "/")), p.match(path); got != want {
			t.Errorf("%q matches %q: %v, want %v", pattern, path, got, want)
		}
	})
}

// Patterns that make others go back and forth take no time here.
func TestPatternIsLinear(t *testing.T) {
	t.Parallel()
	text := strings.Repeat("a", 4000)
	for _, pattern := range []string{
		strings.Repeat("*a", 1000) + "b", strings.Repeat("a*", 1000) + "b", strings.Repeat("*?", 1000) + "b",
		strings.Repeat("[a]*", 1000) + "b",
	} {
		p, err := compilePath([]patternPart{{text: pattern}})
		if err != nil {
			t.Fatal(err)
		}
		if p.match(text) {
			t.Errorf("%.20s... matches", pattern)
		}
	}
	deep := strings.Repeat("a/", 2000) + "a"
	p, err := compilePath([]patternPart{{text: strings.Repeat("**/a/", 500) + "b"}})
	if err != nil {
		t.Fatal(err)
	}
	if p.match(deep) {
		t.Error("** matches too much")
	}
}

func FuzzParseConfiguration(f *testing.F) {
	f.Add([]byte(configure(`<pe-file><authenticode-sign/></pe-file>`)))
	f.Add([]byte(configure(`<parameters><parameter name="v" default-value="1"/></parameters><zip-file path="a${v}"><pe-file-set product-name="${v}"><include path="*.dll" max-matches="unbounded"/><for-each><authenticode-sign append="true"/></for-each></pe-file-set></zip-file>`)))
	f.Add([]byte(configure(`<zip-file><directory path="."><clickonce-sign/></directory></zip-file>`)))
	f.Add([]byte("<!DOCTYPE x><x/>"))
	f.Add([]byte("\xef\xbb\xbf<?xml version='1.0'?><c:artifact-configuration xmlns:c='" + Namespace + "'><c:pe-file/></c:artifact-configuration>"))
	f.Fuzz(func(t *testing.T, text []byte) {
		c, err := ParseConfiguration(text)
		if err != nil {
			errs, ok := errors.AsType[ConfigurationErrors](err)
			if !ok || len(errs) == 0 {
				t.Fatalf("the error is %T", err)
			}
			lines := strings.Count(string(text), "\n") + 1
			for i, e := range errs {
				if e.Line < 1 || e.Line > lines || e.Column < 1 || e.Message == "" {
					t.Errorf("%+v in %d lines", e, lines)
				}
				if i > 0 && e.Line < errs[i-1].Line {
					t.Error("the errors are not sorted")
				}
			}
			return
		}
		// What was parsed can be planned, or refused, without a panic.
		parameters := make(map[string]string)
		for _, p := range c.Parameters() {
			parameters[p.Name] = "1"
		}
		plan, err := c.Plan(t.Context(), bytesSource("a.zip", []byte("PK\x05\x06"+strings.Repeat("\x00", 18))), PlanOptions{Parameters: parameters, Strict: true})
		if err == nil {
			plan.Digest()
			plan.SignatureCount()
		}
	})
}
