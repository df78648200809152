package powershell_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// documented is one command of testdata/commands.json, which tells the commands as the documentation of the REST dialect's
// public module does.
type documented struct {
	Name       string      `json:"name"`
	DefaultSet string      `json:"defaultSet"`
	Output     string      `json:"output"`
	Parameters []parameter `json:"parameters"`
}

// parameter belongs to the parameter sets in which it is mandatory or optional, * being all; without any it is optional in
// all.
type parameter struct {
	Name      string   `json:"name"`
	Type      string   `json:"type"`
	Mandatory []string `json:"mandatory"`
	Optional  []string `json:"optional"`
	Aliases   []string `json:"aliases"`
	Default   string   `json:"default"`
	Range     []string `json:"range"`
}

// described returns a command as its text declares it.
func described(t *testing.T, fn function) documented {
	t.Helper()
	d := documented{Name: fn.Text}
	for _, a := range fn.Attributes {
		switch a.Name {
		case "CmdletBinding":
			d.DefaultSet = a.Named["DefaultParameterSetName"]
			if a.Named["PositionalBinding"] != "$false" {
				t.Errorf("%s takes parameters by position", fn.Text)
			}
		case "OutputType":
			d.Output = strings.Trim(a.Values[0], "[]")
		}
	}
	for _, declared := range fn.Parameters {
		p := parameter{Name: declared.Name, Type: declared.Type, Default: declared.Default}
		var notEmpty bool
		for _, a := range declared.Attributes {
			set := a.Named["ParameterSetName"]
			switch {
			case a.Name == "Alias":
				p.Aliases = a.Values
			case a.Name == "ValidateRange":
				p.Range = a.Values
			case a.Name == "ValidateNotNullOrEmpty", a.Name == "ValidatePattern":
				notEmpty = true
			case a.Name != "Parameter":
				t.Errorf("%s -%s has the attribute %s", fn.Text, p.Name, a.Name)
			case a.Named["Mandatory"] == "$true" && set == "":
				p.Mandatory = append(p.Mandatory, "*")
			case a.Named["Mandatory"] == "$true":
				p.Mandatory = append(p.Mandatory, set)
			case set != "":
				p.Optional = append(p.Optional, set)
			}
		}
		if p.Type == "string" && p.Mandatory != nil && !notEmpty {
			t.Errorf("%s -%s is mandatory and may be empty", fn.Text, p.Name)
		}
		slices.Sort(p.Mandatory)
		slices.Sort(p.Optional)
		d.Parameters = append(d.Parameters, p)
	}
	return d
}

func TestCommands(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("testdata/commands.json")
	if err != nil {
		t.Fatal(err)
	}
	var want []documented
	if err := json.Unmarshal(text, &want); err != nil {
		t.Fatal(err)
	}
	var got []documented
	for _, fn := range sources(t)[commands].Functions {
		if slices.Contains(exported, fn.Text) {
			got = append(got, described(t, fn))
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// section is a section of comment-based help: a dot and a keyword on a line of its own, perhaps with a name.
var section = regexp.MustCompile(`(?m)^[ \t]*\.([A-Z]+)(?:[ \t]+(\S+))?[ \t]*$`)

// help returns the texts of a help comment by keyword, or by keyword and name.
func help(comment string) map[string][]string {
	body := strings.TrimSuffix(strings.TrimPrefix(comment, "<#"), "#>")
	found := map[string][]string{}
	at := section.FindAllStringSubmatchIndex(body, -1)
	for i, m := range at {
		end := len(body)
		if i+1 < len(at) {
			end = at[i+1][0]
		}
		key := body[m[2]:m[3]]
		if m[4] >= 0 {
			key += " " + body[m[4]:m[5]]
		}
		found[key] = append(found[key], strings.TrimSpace(body[m[1]:end]))
	}
	return found
}

func TestHelp(t *testing.T) {
	t.Parallel()
	for _, fn := range sources(t)[commands].Functions {
		if !slices.Contains(exported, fn.Text) {
			continue
		}
		h := help(fn.Help)
		want := []string{"SYNOPSIS", "DESCRIPTION", "INPUTS", "OUTPUTS", "EXAMPLE", "LINK"}
		for _, p := range fn.Parameters {
			want = append(want, "PARAMETER "+p.Name)
		}
		slices.Sort(want)
		if diff := cmp.Diff(want, slices.Sorted(maps.Keys(h))); diff != "" {
			t.Errorf("%s: sections of the help: %s", fn.Text, diff)
		}
		for key, texts := range h {
			for _, text := range texts {
				if len(text) < 5 || strings.Contains(text, "\n.") {
					t.Errorf("%s: %s is %q", fn.Text, key, text)
				}
			}
		}
	}
}

// fence is a block of PowerShell in a page of the documentation.
var fence = regexp.MustCompile("(?s)```powershell\n(.*?)```")

// TestExamples parses the examples of the help and of the documentation, and has each call only commands and parameters
// that exist.
func TestExamples(t *testing.T) {
	t.Parallel()
	parameters := map[string][]string{}
	for _, fn := range sources(t)[commands].Functions {
		for _, p := range fn.Parameters {
			parameters[fn.Text] = append(parameters[fn.Text], "-"+p.Name)
		}
	}
	dir := t.TempDir()
	about := map[string]string{} // files
	for _, fn := range sources(t)[commands].Functions {
		for i, example := range help(fn.Help)["EXAMPLE"] {
			code, explanation, ok := strings.Cut(example, "\n\n")
			if !ok || strings.TrimSpace(explanation) == "" {
				t.Errorf("%s: example %d is not explained", fn.Text, i+1)
			}
			file := filepath.Join(dir, fmt.Sprintf("%s-%d.ps1", fn.Text, i+1))
			if err := os.WriteFile(file, []byte(code), 0o600); err != nil {
				t.Fatal(err)
			}
			about[file] = fn.Text
		}
	}
	page, err := os.ReadFile("../docs/powershell.md")
	if err != nil {
		t.Fatal(err)
	}
	blocks := fence.FindAllSubmatch(page, -1)
	if len(blocks) < 6 {
		t.Errorf("the documentation has %d examples", len(blocks))
	}
	for i, block := range blocks {
		file := filepath.Join(dir, fmt.Sprintf("page-%d.ps1", i+1))
		if err := os.WriteFile(file, block[1], 0o600); err != nil {
			t.Fatal(err)
		}
		about[file] = ""
	}
	all, err := parse(slices.Collect(maps.Keys(about))...)
	if err != nil {
		t.Fatal(err)
	}
	for file, f := range all {
		name := filepath.Base(file)
		for _, o := range objections(f) {
			t.Errorf("%s: %s", name, o)
		}
		if about[file] != "" && !slices.ContainsFunc(f.Commands, func(c command) bool { return c.Text == about[file] }) {
			t.Errorf("%s does not show its command", name)
		}
		for _, c := range f.Commands {
			if !slices.Contains(exported, c.Text) {
				continue
			}
			for _, p := range c.Own {
				if !slices.Contains(parameters[c.Text], p) {
					t.Errorf("%s: %s has no %s", name, c.Text, p)
				}
			}
		}
	}
}

func TestManifest(t *testing.T) {
	t.Parallel()
	table := sources(t)[manifest].Table
	for key, want := range map[string][]string{
		"RootModule": {"Countersign.psm1"}, "PowerShellVersion": {"5.1"}, "CompatiblePSEditions": {"Desktop", "Core"},
		"FunctionsToExport": exported, "CmdletsToExport": {}, "VariablesToExport": {}, "AliasesToExport": {},
	} {
		if diff := cmp.Diff(want, table[key]); diff != "" {
			t.Errorf("%s: %s", key, diff)
		}
	}
	for _, name := range table["FileList"] {
		if _, err := os.Stat(filepath.Join("Countersign", filepath.FromSlash(name))); err != nil {
			t.Error(err)
		}
	}
	for name := range sources(t) {
		if !slices.Contains(table["FileList"], filepath.Base(name)) {
			t.Errorf("the FileList lacks %s", name)
		}
	}
}
