package artifact

import (
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/countersign-dev/countersign/artifact/authenticode"
)

// AnalyzeOptions say how to analyze. The zero value is usable.
type AnalyzeOptions struct {
	Workspace
	Trust Trust // a signature that is valid under it becomes a verify directive
}

// Analyze writes a configuration for artifacts like the sample: signable files
// found by their content, those that others signed to be verified, version
// numbers as wildcards, similar directories as sets. It is a proposal for
// people to read: comments say what was guessed. The sample fits it.
func Analyze(ctx context.Context, src Source, opts AnalyzeOptions) ([]byte, error) {
	report, err := Verify(ctx, src, VerifyOptions{Workspace: opts.Workspace, Trust: opts.Trust})
	if err != nil {
		return nil, err
	}
	if report.Type == "" {
		return nil, fmt.Errorf("artifact: %s is of no type that can be signed", report.Path)
	}
	if report.Status == authenticode.StatusBroken && report.Report == nil {
		return nil, fmt.Errorf("artifact: %s: %s", report.Path, report.Problems[0])
	}
	root := newFinding(report)
	var violation error
	// A wildcard may match what it was not made for, and a guess may be wrong: then
	// the next, plainer proposal is tried.
	for _, a := range []proposal{{wildcards: true, sets: true}, {sets: true}, {}} {
		text := a.document(root)
		c, err := ParseConfiguration(text)
		if err != nil {
			return nil, fmt.Errorf("artifact: the proposed configuration is wrong: %w", err)
		}
		plan, err := c.Plan(ctx, src, PlanOptions{Workspace: opts.Workspace, Trust: opts.Trust})
		if err != nil {
			return nil, err
		}
		if len(plan.Violations) == 0 {
			return text, nil
		}
		violation = errors.New(plan.Violations[0].Message)
	}
	return nil, fmt.Errorf("artifact: no configuration was found that the sample fits: %w", violation)
}

// finding is a file worth mentioning.
type finding struct {
	directory, name string
	spec            *fileSpec
	directives      []string // elements
	notes           []string
	inner           []*finding
}

// newFinding turns what Verify found into what a configuration should say.
func newFinding(r *VerifyReport) *finding {
	f := &finding{name: r.Path, spec: fileSpecByName(r.Type)}
	if cut := strings.LastIndexByte(r.Path, '/'); cut >= 0 {
		f.directory, f.name = r.Path[:cut], r.Path[cut+1:]
	}
	for _, method := range f.spec.methods {
		spec := methodSpecByName(method)
		if spec.kind != methodSign || !f.spec.signable {
			continue
		}
		if methodOf(method, f.spec.name) == nil {
			f.notes = append(f.notes, "<"+method+"/> for this file type is "+notAvailable)
			continue
		}
		switch signer := signerOf(r); {
		case r.Status == authenticode.StatusValid:
			f.notes = append(f.notes, "already signed by "+signer)
			f.directives = append(f.directives, strings.TrimSuffix(method, "-sign")+"-verify")
		case r.Status == authenticode.StatusNotSigned:
			f.directives = append(f.directives, method)
		case len(r.Problems) > 0:
			f.notes = append(f.notes, "left alone: "+r.Problems[0])
		default:
			f.notes = append(f.notes, fmt.Sprintf("left alone: signed by %s, but the signature is %s here", signer, r.Status))
		}
	}
	for _, nested := range r.Files {
		if nested.Type != "" {
			f.inner = append(f.inner, newFinding(nested))
		}
	}
	return f
}

func signerOf(r *VerifyReport) string {
	if r.Report != nil {
		for _, s := range r.Report.Signatures {
			if s.Signer != nil {
				return s.Signer.Subject
			}
		}
	}
	return "an unknown signer"
}

// proposal says how much is guessed.
type proposal struct {
	wildcards bool // for version numbers
	sets      bool // of files and directories that are treated alike
}

func (p proposal) document(root *finding) []byte {
	w := &xmlWriter{}
	w.line(`<?xml version="1.0" encoding="utf-8"?>`)
	w.line(rootExample)
	w.depth++
	w.comment("Proposed from the sample " + root.name + ". Check which files are yours to sign.")
	w.notes(root.notes)
	w.open(root.spec.name)
	p.files(w, root.inner)
	w.directives(root.directives)
	w.close(root.spec.name)
	w.depth--
	w.line(`</artifact-configuration>`)
	return []byte(w.b.String())
}

// files writes elements for the files of one container.
func (p proposal) files(w *xmlWriter, files []*finding) {
	byDirectory := make(map[string][]*finding)
	var directories []string
	for _, f := range files {
		if byDirectory[f.directory] == nil {
			directories = append(directories, f.directory)
		}
		byDirectory[f.directory] = append(byDirectory[f.directory], f)
	}
	p.elements(w, byDirectory[""])
	// Directories with the same content are one set, at the place of the first.
	type set struct {
		content     string
		directories []string
	}
	var sets []*set
	for _, d := range directories {
		if d == "" {
			continue
		}
		inner := &xmlWriter{depth: w.depth + 1}
		p.elements(inner, byDirectory[d])
		content := inner.b.String()
		i := slices.IndexFunc(sets, func(s *set) bool { return p.sets && s.content == content })
		if i < 0 {
			sets = append(sets, &set{content: content})
			i = len(sets) - 1
		}
		sets[i].directories = append(sets[i].directories, d)
	}
	for _, s := range sets {
		patterns := p.patterns(w, s.directories)
		if len(patterns) == 1 {
			w.open("directory", patterns[0].attributes()...)
			w.b.WriteString(s.content)
			w.close("directory")
			continue
		}
		w.open("directory-set")
		for _, pattern := range patterns {
			w.empty("include", pattern.attributes()...)
		}
		inner := strings.ReplaceAll("\n"+s.content, "\n", "\n  ")
		w.open("for-each")
		w.b.WriteString(strings.TrimSuffix(inner[1:], "  "))
		w.close("for-each")
		w.close("directory-set")
	}
}

// elements writes elements for the files of one directory.
func (p proposal) elements(w *xmlWriter, files []*finding) {
	for len(files) > 0 {
		first := files[0]
		alike := files[:1:1]
		var rest []*finding
		for _, f := range files[1:] {
			if p.sets && f.spec == first.spec && len(f.inner) == 0 && len(first.inner) == 0 &&
				slices.Equal(f.directives, first.directives) && slices.Equal(f.notes, first.notes) {
				alike = append(alike, f)
			} else {
				rest = append(rest, f)
			}
		}
		files = rest
		names := make([]string, len(alike))
		for i, f := range alike {
			names[i] = f.name
		}
		w.notes(first.notes)
		patterns := p.patterns(w, names)
		if len(patterns) == 1 {
			w.open(first.spec.name, patterns[0].attributes()...)
			p.files(w, first.inner)
			w.directives(first.directives)
			w.close(first.spec.name)
			continue
		}
		w.open(first.spec.name + "-set")
		for _, pattern := range patterns {
			w.empty("include", pattern.attributes()...)
		}
		w.open("for-each")
		w.directives(first.directives)
		w.close("for-each")
		w.close(first.spec.name + "-set")
	}
}

// versionNumber finds what looks like one in a name.
var versionNumber = regexp.MustCompile(`\d+(\.\d+)+([-+][0-9A-Za-z.]*[0-9A-Za-z])?`)

// proposedPattern is a path and how many of the sample's names it stands for.
type proposedPattern struct {
	path  string
	count int
}

func (p proposedPattern) attributes() []string {
	attributes := []string{"path", p.path}
	if p.count > 1 {
		attributes = append(attributes, "max-matches", "unbounded")
	}
	return attributes
}

// patterns makes patterns of names, with a comment about what was guessed.
func (p proposal) patterns(w *xmlWriter, names []string) []proposedPattern {
	var patterns []proposedPattern
	for _, name := range names {
		path := escapeName(name)
		if p.wildcards {
			if general := versionNumber.ReplaceAllString(path, "*"); general != path && !strings.Contains(general, "**") {
				w.comment("the version in " + name + " became a wildcard")
				path = general
			}
		}
		i := slices.IndexFunc(patterns, func(each proposedPattern) bool { return each.path == path })
		if i < 0 {
			patterns = append(patterns, proposedPattern{path: path})
			i = len(patterns) - 1
		}
		patterns[i].count++
	}
	return patterns
}

// escapeName makes a pattern that matches exactly a name. In [$]{ there is no
// reference to a parameter.
func escapeName(name string) string {
	return strings.ReplaceAll(wildcardEscaper.Replace(name), "${", "[$]{")
}

// xmlWriter writes indented elements.
type xmlWriter struct {
	b     strings.Builder
	depth int
}

func (w *xmlWriter) line(s string) {
	w.b.WriteString(strings.Repeat("  ", w.depth))
	w.b.WriteString(s)
	w.b.WriteByte('\n')
}

func (w *xmlWriter) comment(s string) {
	s = strings.ReplaceAll(printable(s), "--", "- -")
	w.line("<!-- " + strings.TrimSuffix(s, "-") + " -->")
}

func (w *xmlWriter) notes(notes []string) {
	for _, note := range notes {
		w.comment(note)
	}
}

// tag formats a start tag; attributes alternate between name and value.
func tag(name string, attributes []string) string {
	var b strings.Builder
	b.WriteString(name)
	for pair := range slices.Chunk(attributes, 2) {
		b.WriteString(" " + pair[0] + `="`)
		_ = xml.EscapeText(&b, []byte(pair[1])) // a strings.Builder does not fail
		b.WriteByte('"')
	}
	return b.String()
}

func (w *xmlWriter) open(name string, attributes ...string) {
	w.line("<" + tag(name, attributes) + ">")
	w.depth++
}

func (w *xmlWriter) close(name string) {
	w.depth--
	w.line("</" + name + ">")
}

func (w *xmlWriter) empty(name string, attributes ...string) {
	w.line("<" + tag(name, attributes) + "/>")
}

func (w *xmlWriter) directives(names []string) {
	for _, name := range names {
		w.empty(name)
	}
}
