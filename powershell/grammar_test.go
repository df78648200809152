package powershell_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/countersign-dev/countersign/internal/oracle"
)

// What test/syntax.mjs tells of a file.
type (
	facts struct {
		Broken, Chains, Strings, LooseFormats, Members []place
		Functions                                      []function
		Commands                                       []command
		Variables                                      variables
		Table                                          map[string][]string
	}
	variables struct {
		Set   []string
		Named []place
	}
	place struct {
		Line int
		Text string
	}
	function struct {
		place
		Help       string
		Variables  variables
		Attributes []attribute
		Parameters []declaration
	}
	declaration struct {
		Name, Type, Default string
		Attributes          []attribute
	}
	attribute struct {
		Name   string
		Values []string
		Named  map[string]string
	}
	command struct {
		place
		Source                string
		Parameters, Variables []string
		Own                   []string // parameters, without those of commands inside
	}
)

func (d declaration) mandatory() bool {
	return slices.ContainsFunc(d.Attributes, func(a attribute) bool { return a.Name == "Parameter" && a.Named["Mandatory"] == "$true" })
}

// parse returns the facts of files. The grammar is the only judge of the module's syntax on machines without PowerShell, so a test
// without it fails.
func parse(files ...string) (map[string]facts, error) {
	output, err := oracle.ParsePowerShell(context.Background(), files...)
	if err != nil {
		return nil, err
	}
	var all map[string]facts
	return all, json.Unmarshal(output, &all)
}

// parseModule parses the module's files and the counterexamples.
var parseModule = sync.OnceValues(func() (map[string]facts, error) {
	files := []string{broken, forbidden, live}
	err := filepath.WalkDir("Countersign", func(path string, _ fs.DirEntry, err error) error {
		if slices.Contains([]string{".ps1", ".psm1", ".psd1", ".ps1xml"}, filepath.Ext(path)) {
			files = append(files, path)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return parse(files...)
})

const (
	broken    = "testdata/syntax/broken.ps1"
	forbidden = "testdata/syntax/forbidden.ps1"
	live      = "test/live.ps1"
	commands  = "Countersign/Countersign.psm1"
	manifest  = "Countersign/Countersign.psd1"
)

// sources returns the facts of the module's files.
func sources(t *testing.T) map[string]facts {
	t.Helper()
	all, err := parseModule()
	if err != nil {
		t.Fatal(err)
	}
	own := maps.Clone(all)
	for _, other := range []string{broken, forbidden, live} {
		delete(own, other)
	}
	if len(own) < 4 {
		t.Fatalf("found %d files", len(own))
	}
	return own
}

var (
	commandName = regexp.MustCompile(`^[A-Z][A-Za-z]*-[A-Z][A-Za-z0-9]*$`)
	output      = regexp.MustCompile(`^Write-(Verbose|Warning|Progress|Debug|Information|Output|Error)$`)
	secret      = regexp.MustCompile(`(?i)^[$@]\{?(script:)?(ApiToken|token|settings|HttpHeaders|ArtifactRetrievalLinkHttpHeaders|PSBoundParameters|handler|client)\}?$`)
)

// objections returns what the house rules say against a file: it must be the language of Windows PowerShell 5.1 (the
// grammar itself knows no ternary and no null operators), without aliases, code in strings, or secrets in messages.
func objections(f facts) []string {
	var found []string
	object := func(p place, format string, args ...any) {
		found = append(found, fmt.Sprintf("line %d: ", p.Line)+fmt.Sprintf(format, args...))
	}
	for _, p := range f.Broken {
		object(p, "not the grammar's: %s", p.Text)
	}
	for _, p := range f.Chains {
		object(p, "&& and || are PowerShell 7's")
	}
	for _, p := range f.LooseFormats {
		object(p, "put -f in parentheses: %s", p.Text)
	}
	for _, c := range f.Commands {
		switch {
		case c.Text == "":
			if !strings.HasPrefix(c.Source, ". (Join-Path -Path $PSScriptRoot ") {
				object(c.place, "the command's name is not in the text")
			}
		case !commandName.MatchString(c.Text):
			object(c.place, "%s is an alias or no command", c.Text)
		case c.Text == "Invoke-Expression", c.Text == "Write-Host":
			object(c.place, "%s", c.Text)
		}
		if slices.ContainsFunc(c.Parameters, func(p string) bool { return strings.EqualFold(p, "-Parallel") }) {
			object(c.place, "-Parallel is PowerShell 7's")
		}
		if output.MatchString(c.Text) {
			for _, v := range c.Variables {
				if secret.MatchString(v) {
					object(c.place, "%s shows %s", c.Text, v)
				}
			}
		}
	}
	return found
}

func TestGrammar(t *testing.T) {
	t.Parallel()
	defined := map[string]bool{}
	called := map[string]place{}
	for file, f := range sources(t) {
		for _, o := range objections(f) {
			t.Errorf("%s: %s", file, o)
		}
		if text, err := os.ReadFile(file); err != nil || bytes.ContainsFunc(text, func(r rune) bool { return r > 126 }) {
			t.Errorf("%s: Windows PowerShell reads a file without BOM as ANSI, so it must be ASCII (%v)", file, err)
		}
		for _, fn := range f.Functions {
			defined[fn.Text] = true
		}
		for _, c := range f.Commands {
			called[c.Text] = c.place
		}
	}
	for name, p := range called {
		if name != "" && !defined[name] && builtIn[name] == nil {
			t.Errorf("line %d: %s is neither the module's nor one of PowerShell's that the module may use", p.Line, name)
		}
	}
	for name := range defined {
		if _, ok := called[name]; !ok && !slices.Contains(exported, name) {
			t.Errorf("%s is never called", name)
		}
	}
}

// TestLiveScript keeps the script that only machines with PowerShell run in the language.
func TestLiveScript(t *testing.T) {
	t.Parallel()
	all, err := parseModule()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range all[live].Broken {
		t.Errorf("%s:%d: not the grammar's: %s", live, p.Line, p.Text)
	}
}

var exported = []string{"Submit-SigningRequest", "Get-SignedArtifact", "Get-CertificateByMicrosoftTemplateId"}

// TestNames finds what only running the module would tell otherwise: variables that are never set, which strict mode
// refuses, and parameters that a called function does not have, or has to have.
func TestNames(t *testing.T) {
	t.Parallel()
	all := sources(t)
	global := map[string]bool{}
	functions := map[string]function{}
	for _, f := range all {
		for _, name := range f.Variables.Set {
			if strings.HasPrefix(name, "script:") {
				global[strings.ToLower(name)] = true
			}
		}
		for _, fn := range f.Functions {
			functions[fn.Text] = fn
		}
	}
	for _, name := range automatic {
		global[strings.ToLower(name)] = true
	}
	for file, f := range all {
		for _, fn := range f.Functions {
			known := maps.Clone(global)
			for _, p := range fn.Parameters {
				known[strings.ToLower(p.Name)] = true
			}
			for _, name := range fn.Variables.Set {
				known[strings.ToLower(name)] = true
			}
			for _, v := range fn.Variables.Named {
				if !known[strings.ToLower(v.Text)] {
					t.Errorf("%s:%d: $%s is never set in %s", file, v.Line, v.Text, fn.Text)
				}
			}
		}
		for _, c := range f.Commands {
			called, ok := functions[c.Text]
			if !ok {
				continue
			}
			splatted := slices.ContainsFunc(c.Variables, func(v string) bool { return strings.HasPrefix(v, "@") })
			for _, given := range c.Own {
				if !slices.ContainsFunc(called.Parameters, func(p declaration) bool { return "-"+p.Name == given }) {
					t.Errorf("%s:%d: %s has no %s", file, c.Line, c.Text, given)
				}
			}
			for _, p := range called.Parameters {
				if p.mandatory() && !splatted && !slices.Contains(c.Own, "-"+p.Name) {
					t.Errorf("%s:%d: %s needs -%s", file, c.Line, c.Text, p.Name)
				}
			}
		}
	}
}

// automatic are the variables that PowerShell sets.
var automatic = []string{"_", "true", "false", "null", "ExecutionContext", "PSBoundParameters", "PSScriptRoot", "PSVersionTable"}

// TestObjections proves that every rule can fail.
func TestObjections(t *testing.T) {
	t.Parallel()
	all, err := parseModule()
	if err != nil {
		t.Fatal(err)
	}
	if found := all[broken].Broken; len(found) < 3 {
		t.Errorf("the ternary, the null operators and the missing brace are %d errors: %v", len(found), found)
	}
	want := []string{
		"line 1: && and || are PowerShell 7's",
		"line 2: && and || are PowerShell 7's",
		"line 8: put -f in parentheses: '{0}{1}' -f 'a'",
		"line 3: -Parallel is PowerShell 7's",
		"line 4: iex is an alias or no command",
		"line 5: Invoke-Expression",
		"line 6: Write-Host",
		"line 7: Write-Verbose shows $ApiToken",
		"line 9: the command's name is not in the text",
	}
	if diff := cmp.Diff(want, objections(all[forbidden])); diff != "" {
		t.Error(diff)
	}
}
