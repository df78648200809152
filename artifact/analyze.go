package artifact

import (
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"sync"

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
	// A wildcard may match what it was not made for: then there are none.
	for _, p := range []proposal{{wildcards: true}, {}} {
		text := p.document(root)
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
	directives      []string // tags
	notes           []string
	inner           []*finding
	files           map[string][]string // of a container: the names of all files, by directory
}

// newFinding turns what Verify found into what a configuration should say.
func newFinding(r *VerifyReport) *finding {
	f := &finding{spec: fileSpecByName(r.Type)}
	f.directory, f.name = splitName(r.Path)
	if f.spec.signable {
		for _, method := range f.spec.methods {
			if methodSpecByName(method).kind == methodSign {
				f.propose(method, r)
			}
		}
	} else if r.Status == authenticode.StatusBroken {
		f.notes = append(f.notes, "left alone: "+r.Problems[0])
	}
	for _, nested := range r.Files {
		if nested.Type != "" {
			f.inner = append(f.inner, newFinding(nested))
		}
	}
	f.files = make(map[string][]string)
	for _, m := range r.members {
		directory, name := splitName(m.path)
		f.files[directory] = append(f.files[directory], name)
	}
	return f
}

func splitName(p string) (directory, name string) {
	if cut := strings.LastIndexByte(p, '/'); cut >= 0 {
		return p[:cut], p[cut+1:]
	}
	return "", p
}

// propose says what to do about a file that can carry signatures of a method.
func (f *finding) propose(method string, r *VerifyReport) {
	verify := func() string {
		var attributes []string
		if name := publisherOf(r); name != "" {
			attributes = []string{"publisher", escapeName(name)}
		}
		return tag(strings.TrimSuffix(method, "-sign")+"-verify", attributes)
	}
	switch {
	case methodOf(method, f.spec.name) == nil:
		f.notes = append(f.notes, "<"+method+"/> for this file type is "+notAvailable)
	case r.Status == authenticode.StatusValid:
		f.notes = append(f.notes, "already signed by "+signerOf(r))
		f.directives = append(f.directives, verify())
	case r.Status == authenticode.StatusNotSigned:
		f.directives = append(f.directives, method)
	case len(r.Problems) > 0:
		f.notes = append(f.notes, "left alone: "+r.Problems[0])
	case r.Status == authenticode.StatusUntrusted:
		f.notes = append(f.notes, "left alone: already signed by "+signerOf(r)+", who is not trusted here; when the root is, verify it: <"+verify()+"/>")
	default:
		f.notes = append(f.notes, fmt.Sprintf("left alone: signed by %s, but the signature is %s here", signerOf(r), r.Status))
	}
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

// publisherOf returns the name that all signers of a file share, their common
// name if they have one, or nothing.
func publisherOf(r *VerifyReport) string {
	if r.Report == nil {
		return ""
	}
	var shared []string
	for i, s := range r.Report.Signatures {
		if s.Signer == nil {
			return ""
		}
		names := subjectNames(s.Signer.Subject)[1:]
		if i == 0 {
			shared = names
		}
		shared = slices.DeleteFunc(shared, func(name string) bool { return !slices.Contains(names, name) })
	}
	for _, name := range shared {
		if name != "" && len(name) < 1000 && printable(name) == name {
			return name
		}
	}
	return ""
}

// proposal says how much is guessed.
type proposal struct {
	wildcards bool // for version numbers
}

func (p proposal) document(root *finding) []byte {
	inner := &xmlWriter{}
	inner.comment("Proposed from the sample " + root.name + ". Check which files are yours to sign.")
	inner.notes(root.notes)
	inner.element(root.spec.name, nil, func(w *xmlWriter) {
		p.files(w, root)
		w.directives(root.directives)
	})
	w := &xmlWriter{}
	w.line(`<?xml version="1.0" encoding="utf-8"?>`)
	w.line(rootExample)
	w.lines(inner.b.String(), "  ")
	w.line("</artifact-configuration>")
	return []byte(w.b.String())
}

// files writes elements for the files of one container.
func (p proposal) files(w *xmlWriter, c *finding) {
	byDirectory := make(map[string][]*finding)
	var directories []string
	for _, f := range c.inner {
		if byDirectory[f.directory] == nil {
			directories = append(directories, f.directory)
		}
		byDirectory[f.directory] = append(byDirectory[f.directory], f)
	}
	p.elements(w, byDirectory[""], c.files[""])
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
		inner := &xmlWriter{}
		p.elements(inner, byDirectory[d], c.files[d])
		content := inner.b.String()
		i := slices.IndexFunc(sets, func(s *set) bool { return s.content == content })
		if i < 0 {
			sets = append(sets, &set{content: content})
			i = len(sets) - 1
		}
		sets[i].directories = append(sets[i].directories, d)
	}
	all := c.directories()
	for _, s := range sets {
		p.match(w, "directory", s.directories, all, func(w *xmlWriter) { w.lines(s.content, "") })
	}
}

// directories lists all directories of a container.
func (f *finding) directories() []string {
	known := make(map[string]bool)
	for d := range f.files {
		for ; d != "" && !known[d]; d, _ = splitName(d) {
			known[d] = true
		}
	}
	return slices.Collect(maps.Keys(known))
}

// elements writes elements for the files of one directory, in which are files of
// all these names.
func (p proposal) elements(w *xmlWriter, files []*finding, all []string) {
	for len(files) > 0 {
		first := files[0]
		alike := files[:1:1]
		var rest []*finding
		for _, f := range files[1:] {
			if f.spec == first.spec && len(f.inner) == 0 && len(first.inner) == 0 &&
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
		p.match(w, first.spec.name, names, all, func(w *xmlWriter) {
			p.files(w, first)
			w.directives(first.directives)
		})
	}
}

// match writes an element for files or directories that are treated alike, or a
// set if it takes several paths.
func (p proposal) match(w *xmlWriter, element string, names, all []string, content func(*xmlWriter)) {
	patterns := p.patterns(w, names, all)
	if len(patterns) == 1 {
		w.element(element, patterns[0].attributes(), content)
		return
	}
	w.element(element+"-set", nil, func(w *xmlWriter) {
		for _, pattern := range patterns {
			w.line("<" + tag("include", pattern.attributes()) + "/>")
		}
		w.element("for-each", nil, content)
	})
}

// versionNumber finds what looks like one in a name: after something else than
// letters, or with three numbers or more, so that net6.0 stays. Of what follows
// it takes only what belongs to a version, and neither -x64 nor .exe.
var versionNumber = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`(?i)((?:^|[^0-9a-z])v?)\d+(?:\.\d+)+` + versionEnd + `|\d+(?:\.\d+){2,}` + versionEnd)
})

const versionEnd = `(?:[-.]?(?:alpha|beta|rc|preview|pre|dev|snapshot|nightly|canary|next|build)(?:[-.]?\d+)*\b)*(?:\+[0-9a-z]+)?`

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

// patterns makes patterns of names, with a comment about what was guessed. None
// of them matches another one of all names there.
func (p proposal) patterns(w *xmlWriter, names, all []string) []proposedPattern {
	general := make(map[string]string) // by name
	if p.wildcards {
		general = generalize(names, all)
	}
	var patterns []proposedPattern
	for _, name := range names {
		path := general[name]
		if path == "" {
			path = escapeName(name)
		} else {
			w.comment("the version in " + name + " became a wildcard")
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

// generalize returns, by name, patterns with wildcards for version numbers,
// unless they match further ones of all names.
func generalize(names, all []string) map[string]string {
	general := make(map[string]string)
	var paths []string
	var patterns []*pathPattern
	for _, name := range names {
		path := versionNumber().ReplaceAllString(escapeName(name), "${1}*")
		pattern, err := compilePath([]patternPart{{text: path}})
		if path == escapeName(name) || err != nil { // such as ** within a segment
			continue
		}
		general[name] = path
		if !slices.Contains(paths, path) {
			paths, patterns = append(paths, path), append(patterns, pattern)
		}
	}
	refuted := make(map[string]bool)
	index := newPathIndex(patterns)
	for _, name := range all {
		for _, i := range index.lookup(name) {
			refuted[paths[i]] = refuted[paths[i]] || general[name] != paths[i]
		}
	}
	maps.DeleteFunc(general, func(_, path string) bool { return refuted[path] })
	return general
}

// escapeName makes a pattern that matches a name, and only it unless there are
// characters in it that XML cannot express. In [$]{ there is no reference to a
// parameter.
func escapeName(name string) string {
	pattern := strings.ReplaceAll(wildcardEscaper.Replace(name), "${", "[$]{")
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == '\uFFFE' || r == '\uFFFF' {
			return '?'
		}
		return r
	}, pattern)
}

// xmlWriter writes indented elements.
type xmlWriter struct{ b strings.Builder }

func (w *xmlWriter) line(s string) {
	w.b.WriteString(s)
	w.b.WriteByte('\n')
}

// lines writes what another one wrote.
func (w *xmlWriter) lines(content, indent string) {
	for line := range strings.Lines(content) {
		w.b.WriteString(indent + line)
	}
}

// comment writes a comment, in which there must not be two hyphens in a row.
func (w *xmlWriter) comment(s string) {
	s = strings.ReplaceAll(printable(s), "--", "- -")
	w.line("<!-- " + strings.ReplaceAll(s, "--", "- -") + " -->")
}

func (w *xmlWriter) notes(notes []string) {
	for _, note := range notes {
		w.comment(note)
	}
}

// tag formats a tag; attributes alternate between name and value.
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

// element writes an element around what content writes.
func (w *xmlWriter) element(name string, attributes []string, content func(*xmlWriter)) {
	inner := &xmlWriter{}
	content(inner)
	if inner.b.Len() == 0 {
		w.line("<" + tag(name, attributes) + "/>")
		return
	}
	w.line("<" + tag(name, attributes) + ">")
	w.lines(inner.b.String(), "  ")
	w.line("</" + name + ">")
}

func (w *xmlWriter) directives(tags []string) {
	for _, each := range tags {
		w.line("<" + each + "/>")
	}
}
