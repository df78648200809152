package artifact

import (
	"bufio"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode"
)

// ANSI colours.
const (
	plain  = "\x1b[0m"
	green  = "\x1b[32m"
	cyan   = "\x1b[36m"
	red    = "\x1b[31m"
	yellow = "\x1b[33m"
	dim    = "\x1b[2m"
)

// WriteText writes the plan for people, as a tree, with ANSI colours or without.
// Files that are left alone because no rule matches them are counted, not listed.
func (p *Plan) WriteText(w io.Writer, colour bool) error {
	t := &textWriter{w: bufio.NewWriter(w), colour: colour}
	t.file(p.Root, "", "")
	for _, v := range p.Violations {
		t.violation(v)
	}
	counts := make(map[Action]int)
	p.Root.count(counts)
	if len(p.Violations) > 0 {
		fmt.Fprintf(t.w, "%s: nothing will be signed\n", t.paint(red, plural(len(p.Violations), "violation")))
	} else {
		fmt.Fprintf(t.w, "%d signed with %s, %d verified, %d left alone\n",
			counts[ActionSign], plural(p.SignatureCount(), "signature"), counts[ActionVerify], counts[ActionLeave])
	}
	return t.w.Flush()
}

func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

func (f *PlannedFile) count(counts map[Action]int) {
	counts[f.Action]++
	for _, nested := range f.Files {
		nested.count(counts)
	}
}

type textWriter struct {
	w      *bufio.Writer
	colour bool
}

func (t *textWriter) paint(colour, s string) string {
	if !t.colour {
		return s
	}
	return colour + s + plain
}

var actionColours = map[Action]string{ActionSign: green, ActionVerify: cyan, ActionContainer: yellow, ActionLeave: dim}

func (t *textWriter) file(f *PlannedFile, first, rest string) {
	fmt.Fprintf(t.w, "%s%s  %s", first, printable(f.Path), t.paint(actionColours[f.Action], string(f.Action)))
	if f.Rule != nil {
		fmt.Fprintf(t.w, "  %s", t.paint(dim, fmt.Sprintf("line %d", f.Rule.Line)))
	} else if f.Reason != "" {
		fmt.Fprintf(t.w, "  %s", t.paint(dim, f.Reason))
	}
	fmt.Fprintln(t.w)
	var shown []*PlannedFile
	hidden := 0
	for _, nested := range f.Files {
		if nested.Action == ActionLeave && nested.Rule == nil {
			hidden++
		} else {
			shown = append(shown, nested)
		}
	}
	// Steps are carried out after those of the files inside.
	lines := len(shown) + len(f.Directives)
	if hidden > 0 {
		lines++
	}
	branch := func() (string, string) {
		if lines--; lines > 0 {
			return rest + "├─ ", rest + "│  "
		}
		return rest + "└─ ", rest + "   "
	}
	for _, nested := range shown {
		first, rest := branch()
		t.file(nested, first, rest)
	}
	if hidden > 0 {
		first, _ := branch()
		fmt.Fprintf(t.w, "%s%s\n", first, t.paint(dim, plural(hidden, "more file")+", which no rule matches"))
	}
	for _, d := range f.Directives {
		first, _ := branch()
		fmt.Fprintf(t.w, "%s%s%s\n", first, t.paint(actionColours[f.Action], d.Method), optionText(d.Options))
	}
}

func optionText(options map[string]string) string {
	var b strings.Builder
	names := make([]string, 0, len(options))
	for name := range options {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		fmt.Fprintf(&b, " %s=%q", name, options[name])
	}
	return b.String()
}

func (t *textWriter) violation(v Violation) {
	where := printable(v.Path)
	if v.Line > 0 {
		if where != "" {
			where += ", "
		}
		where += fmt.Sprintf("line %d", v.Line)
		if v.Rule != "" {
			where += " " + v.Rule
		}
	}
	if where != "" {
		where += ": "
	}
	fmt.Fprintf(t.w, "%s %s%s", t.paint(red, "✗"), where, printable(v.Message))
	if v.Hint != "" {
		fmt.Fprintf(t.w, " %s", t.paint(dim, "("+v.Hint+")"))
	}
	fmt.Fprintln(t.w)
}

// printable keeps names from steering the terminal.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) {
			return unicode.ReplacementChar
		}
		return r
	}, s)
}
