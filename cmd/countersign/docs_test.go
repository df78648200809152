package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/alecthomas/kong"
	"github.com/google/go-cmp/cmp"
)

// TestDocs keeps docs/cli.md in step with the command line; "go test ./cmd/countersign -update" writes it anew.
func TestDocs(t *testing.T) {
	t.Parallel()
	parser, err := newParser(nil)
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	b.WriteString(`# Command line

Each command tells the same with --help. Flags may also be set with the environment variables that are named, and those of
the server with a YAML file (--config) whose keys are the flags' names.

The exit codes are the same everywhere: 0 success, 1 what was asked for did not happen, 2 wrong flags or input, 3 access
denied, 4 timed out, 5 interrupted.

With --json a command writes one JSON value to standard output, and nothing else; progress and errors go to standard error.
Fields may be added in later versions; those that are documented stay.

`)
	for _, n := range parser.Model.Leaves(true) {
		fmt.Fprintf(&b, "- [%s](#%s)\n", n.FullPath(), strings.ReplaceAll(n.FullPath(), " ", "-"))
	}
	group := ""
	for _, n := range parser.Model.Leaves(true) {
		if g := groupOf(n); g != group {
			group = g
			fmt.Fprintf(&b, "\n## %s\n", group)
		}
		documentCommand(&b, n)
	}
	path := filepath.Join("..", "..", "docs", "cli.md")
	if *update {
		if err := os.WriteFile(path, b.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	have, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(have), b.String()); diff != "" {
		t.Errorf("docs/cli.md is stale; run: go test ./cmd/countersign -run TestDocs -update\n%s", diff)
	}
}

func groupOf(n *kong.Node) string {
	for ; n != nil; n = n.Parent {
		if n.Group != nil {
			return n.Group.Title
		}
	}
	return ""
}

func documentCommand(b *bytes.Buffer, n *kong.Node) {
	fmt.Fprintf(b, "\n### %s\n\n%s\n", n.FullPath(), n.Help)
	if n.Detail != "" {
		fmt.Fprintf(b, "\n%s\n", n.Detail)
	}
	fmt.Fprintf(b, "\n```\ncountersign %s\n```\n", n.Summary())
	if len(n.Positional) > 0 {
		b.WriteString("\n| argument | |\n|---|---|\n")
		for _, p := range n.Positional {
			fmt.Fprintf(b, "| `%s` | %s |\n", p.Summary(), cell(p.Help))
		}
	}
	flags := n.AllFlags(true)
	b.WriteString("\n| flag | | default | environment |\n|---|---|---|---|\n")
	for _, group := range flags {
		for _, f := range group {
			if f.Name == "help" || f.Name == "version" {
				continue
			}
			value := f.Default
			if f.IsBool() {
				value = ""
			}
			if value != "" {
				value = "`" + value + "`"
			}
			env := strings.Join(f.Envs, ", ")
			if env != "" {
				env = "`" + env + "`"
			}
			fmt.Fprintf(b, "| `%s` | %s | %s | %s |\n", flagName(f), cell(f.Help), value, env)
		}
	}
}

func flagName(f *kong.Flag) string {
	name := "--" + f.Name
	if f.Short != 0 {
		name = "-" + string(f.Short) + ", " + name
	}
	if !f.IsBool() {
		name += "=" + f.FormatPlaceHolder()
	}
	return name
}

// cell escapes text for a table cell.
func cell(s string) string { return strings.ReplaceAll(s, "|", `\|`) }

// TestHelp: each command explains itself, and each that a user starts has an example or says its exit codes.
func TestHelp(t *testing.T) {
	t.Parallel()
	parser, err := newParser(nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range parser.Model.Leaves(true) {
		var out bytes.Buffer
		args := strings.Fields(n.FullPath() + " --help")[1:]
		if code := run(t.Context(), args, console{out: &out, err: &out}); code != exitOK {
			t.Errorf("%s: exit code %d", n.FullPath(), code)
		}
		if !strings.Contains(out.String(), "Usage: "+n.FullPath()) || !strings.Contains(out.String(), "    countersign ") && !strings.Contains(out.String(), "Exit codes:") {
			t.Errorf("%s --help teaches nothing:\n%s", n.FullPath(), out.String())
		}
		for _, group := range n.AllFlags(true) {
			for _, f := range group {
				if f.Help == "" {
					t.Errorf("%s: --%s has no help", n.FullPath(), f.Name)
				}
			}
		}
	}
}
