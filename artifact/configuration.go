package artifact

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"sort"
	"strings"
)

// Namespace is the XML namespace of artifact configurations.
const Namespace = "http://signpath.io/artifact-configuration/v1"

// Configuration is a valid artifact configuration. It is immutable and safe for
// concurrent use.
type Configuration struct {
	sha256     string
	parameters []ParameterDefinition
	strict     bool
	multifile  bool
	root       *rule
}

// rule is a file or directory element, or a set of them.
type rule struct {
	spec       *fileSpec
	element    string // as written, such as "pe-file-set"
	at         position
	includes   []*include // one, of the element itself, unless it is a set
	directives []*directive
	rules      []*rule
}

// include is a pattern with what goes with it.
type include struct {
	element          string
	at               position
	path             setting // without text for a root that has none
	minimum, maximum setting // without text when left out
	restrictions     []setting
}

// directive is a signing or verification step of a rule.
type directive struct {
	spec     *methodSpec
	at       position
	options  []setting
	children []*directive
}

// setting is an attribute whose value may depend on parameters.
type setting struct {
	spec  *attributeSpec
	at    position
	value template
}

// ConfigurationError is one mistake in a configuration.
type ConfigurationError struct {
	Line    int    `json:"line"`   // from 1
	Column  int    `json:"column"` // from 1, in bytes
	Message string `json:"message"`
	Hint    string `json:"hint,omitempty"` // what to do about it
}

func (e ConfigurationError) Error() string {
	s := fmt.Sprintf("line %d, column %d: %s", e.Line, e.Column, e.Message)
	if e.Hint != "" {
		s += " (" + e.Hint + ")"
	}
	return s
}

// ConfigurationErrors are all mistakes found, in the order of the document.
type ConfigurationErrors []ConfigurationError

func (e ConfigurationErrors) Error() string {
	lines := make([]string, len(e))
	for i := range e {
		lines[i] = e[i].Error()
	}
	return "artifact configuration: " + strings.Join(lines, "\n")
}

// orNil returns the errors sorted, or nil when there are none.
func (c *complaints) orNil() error {
	if len(c.list) == 0 {
		return nil
	}
	sort.SliceStable(c.list, func(i, j int) bool {
		a, b := c.list[i], c.list[j]
		return a.Line < b.Line || a.Line == b.Line && a.Column < b.Column
	})
	return c.list
}

// ParseConfiguration reads and validates a configuration. Mistakes are reported
// all at once, as ConfigurationErrors. A configuration may name signing methods
// that this version does not have yet: see CheckAvailable.
func ParseConfiguration(xml []byte) (*Configuration, error) {
	digest := sha256.Sum256(xml)
	p := &parser{c: &Configuration{sha256: hex.EncodeToString(digest[:])}}
	if document := readDocument(xml, &p.errs); document != nil {
		p.document(document)
	}
	if err := p.errs.orNil(); err != nil {
		return nil, err
	}
	return p.c, nil
}

// RootType is the element name of the file type that artifacts have, such as "zip-file".
func (c *Configuration) RootType() string { return c.root.spec.name }

// Strict reports whether the configuration itself asks for strict mode.
func (c *Configuration) Strict() bool { return c.strict }

// UIMultifileUpload reports whether a web page should let people choose several
// files and submit them as one ZIP archive.
func (c *Configuration) UIMultifileUpload() bool { return c.multifile }

// parser turns elements into rules.
type parser struct {
	c    *Configuration
	errs complaints
}

// scope says where in the document an element stands.
type scope struct {
	root  bool // it is the artifact itself
	inZIP bool // somewhere in a zip-file
}

// ValidParameterName reports whether a parameter may have the name: 1 to 100 letters, digits, dots, hyphens and underscores,
// all of ASCII.
func ValidParameterName(name string) bool {
	const characters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-"
	return name != "" && len(name) <= 100 && strings.Trim(name, characters) == ""
}

func (p *parser) document(document *element) {
	if document.name != "artifact-configuration" {
		p.errs.add(document.at, "begin with "+rootExample, "the root element is <%s>, not <artifact-configuration>", document.name)
		return
	}
	for _, a := range document.attributes {
		if a.name != "strict" {
			p.unknownAttribute(document.name, a, []string{"strict"})
			continue
		}
		p.c.strict = a.value == "true" || a.value == "1"
		p.check(&attributeSpec{name: "strict", kind: kindBoolean}, a.at, []patternPart{{text: a.value}})
	}
	var files []*element
	for i, child := range document.children {
		if child.name != "parameters" {
			files = append(files, child)
			continue
		}
		if i > 0 {
			p.errs.add(child.at, "", "<parameters> stands once, before the file element")
			continue
		}
		p.parameters(child)
	}
	if len(files) == 0 {
		p.errs.add(document.at, `such as <pe-file><authenticode-sign/></pe-file>`, "there is no element for the artifact in <artifact-configuration>")
		return
	}
	for _, extra := range files[1:] {
		p.errs.add(extra.at, "to sign several files, put them in a ZIP archive and the elements in <zip-file>",
			"there is one artifact, and so one file element; <%s> follows <%s>", extra.name, files[0].name)
	}
	spec := fileSpecByName(files[0].name)
	switch {
	case spec == nil && strings.HasSuffix(files[0].name, "-set") && fileSpecByName(strings.TrimSuffix(files[0].name, "-set")) != nil:
		p.errs.add(files[0].at, "", "the artifact is one file; <%s> cannot describe it", files[0].name)
	case spec == nil:
		p.unknownElement("artifact-configuration", files[0], p.fileElements(false))
	case spec.directory:
		p.errs.add(files[0].at, "put the directory in a ZIP archive and <directory> in <zip-file>", "the artifact is a file; <directory> cannot describe it")
	default:
		p.c.root = p.rule(files[0], spec, scope{root: true})
	}
}

func (p *parser) fileElements(sets bool) []string {
	var names []string
	for _, spec := range fileSpecs {
		names = append(names, spec.name)
		if sets {
			names = append(names, spec.name+"-set")
		}
	}
	return names
}

func (p *parser) unknownElement(parent string, e *element, known []string) {
	hint := ""
	if best := closest(e.name, known); best != "" {
		hint = "did you mean <" + best + ">?"
	}
	// An element that exists, but not here.
	if fileSpecByName(strings.TrimSuffix(e.name, "-set")) != nil || methodSpecByName(e.name) != nil ||
		e.name == "include" || e.name == "for-each" || e.name == "parameters" {
		p.errs.add(e.at, hint, "<%s> cannot stand in <%s>", e.name, parent)
		return
	}
	p.errs.add(e.at, hint, "unknown element <%s>", e.name)
}

func (p *parser) unknownAttribute(element string, a attribute, known []string) {
	hint := ""
	if best := closest(a.name, known); best != "" {
		hint = "did you mean " + best + "?"
	} else if len(known) > 0 {
		hint = "it may have: " + strings.Join(known, ", ")
	}
	p.errs.add(a.at, hint, "<%s> has no attribute %s", element, a.name)
}

func (p *parser) noAttributes(e *element) {
	for _, a := range e.attributes {
		p.unknownAttribute(e.name, a, nil)
	}
}

func (p *parser) parameters(e *element) {
	p.noAttributes(e)
	for _, child := range e.children {
		if child.name != "parameter" {
			p.unknownElement(e.name, child, []string{"parameter"})
			continue
		}
		definition := ParameterDefinition{}
		for _, a := range child.attributes {
			switch a.name {
			case "name":
				definition.Name = a.value
				switch {
				case !ValidParameterName(a.value):
					p.errs.add(a.at, "letters, digits, dots, hyphens and underscores, at most 100", "the parameter name %q is not allowed", a.value)
				case strings.EqualFold(a.value, fileNameReference):
					p.errs.add(a.at, "", "the name %s stands for the name of the file that a rule matches", fileNameReference)
				case p.c.parameter(a.value) != nil:
					p.errs.add(a.at, "names are the same in upper and lower case", "there are two parameters %s", a.value)
				}
			case "default-value":
				if problem := checkParameterValue(a.value); problem != "" {
					p.errs.add(a.at, "", "%s", problem)
				}
				definition.Default = &a.value
			case "required":
				p.check(&attributeSpec{name: "required", kind: kindBoolean}, a.at, []patternPart{{text: a.value}})
				definition.Required = a.value == "true" || a.value == "1"
			default:
				p.unknownAttribute(child.name, a, []string{"name", "default-value", "required"})
			}
		}
		for _, grandchild := range child.children {
			p.unknownElement(child.name, grandchild, nil)
		}
		if definition.Name == "" {
			p.errs.add(child.at, "", "<parameter> needs a name")
			continue
		}
		p.c.parameters = append(p.c.parameters, definition)
	}
}

// rule reads a file or directory element that is no set.
func (p *parser) rule(e *element, spec *fileSpec, at scope) *rule {
	r := &rule{spec: spec, element: e.name, at: e.at}
	inc := &include{element: e.name, at: e.at}
	known := slices.Concat(matchAttributes, spec.restrictions)
	if at.root {
		known = slices.Concat([]attributeSpec{artifactName}, spec.restrictions, spec.attributes)
	}
	settings, ok := p.settings(e, known)
	for _, s := range settings {
		if s.spec.name == "ui-multifile-upload" {
			if !s.value.constant() {
				p.errs.add(s.at, "on or off", "ui-multifile-upload cannot depend on parameters: it is wanted before they have values")
			}
			p.c.multifile = s.value.expand(nil, "") == "on"
			continue
		}
		inc.set(s)
	}
	if ok {
		p.checkInclude(inc, spec, at.root)
	}
	r.includes = []*include{inc}
	p.content(r, e, at)
	return r
}

// set files an attribute where it belongs.
func (i *include) set(s setting) {
	switch s.spec.name {
	case "path":
		i.path = s
	case "min-matches":
		i.minimum = s
	case "max-matches":
		i.maximum = s
	default:
		i.restrictions = append(i.restrictions, s)
	}
}

// checkInclude checks what attributes must be together, each of which is right.
func (p *parser) checkInclude(i *include, spec *fileSpec, root bool) {
	if i.path.spec != nil && i.path.value.constant() {
		pattern, err := compilePath(i.path.value.parts(nil, ""))
		switch {
		case err != nil: // settings has complained
		case root && len(pattern.segments) != 1:
			p.errs.add(i.path.at, "write the file's name, with wildcards if need be", "the path of the artifact itself has no directories")
		case len(pattern.segments) == 0 && !spec.directory:
			p.errs.add(i.path.at, "", "the path %q is a directory, not a %s", i.path.value.expand(nil, ""), spec.title)
		}
	}
	if i.minimum.value.constant() && i.maximum.value.constant() {
		if minimum, maximum := i.bounds(nil); minimum > maximum {
			p.errs.add(i.at, `both are 1 when left out; max-matches may be "unbounded"`, "min-matches %d is more than max-matches %d", minimum, maximum)
		}
	}
}

// set reads a set element: includes and what is done for each.
func (p *parser) set(e *element, spec *fileSpec, at scope) *rule {
	r := &rule{spec: spec, element: e.name, at: e.at}
	own := element{name: e.name, at: e.at}
	for _, a := range e.attributes {
		switch a.name {
		case "path", "min-matches", "max-matches":
			p.errs.add(a.at, "", "%s stands on each <include>, not on <%s>", a.name, e.name)
		default:
			own.attributes = append(own.attributes, a)
		}
	}
	inherited, _ := p.settings(&own, spec.restrictions)
	known := slices.Concat(matchAttributes, spec.restrictions)
	var forEach *element
	for _, child := range e.children {
		switch child.name {
		case "include":
			inc := &include{element: child.name, at: child.at}
			settings, ok := p.settings(child, known)
			for _, s := range settings {
				inc.set(s)
			}
			for _, s := range inherited {
				if !hasSetting(inc.restrictions, s.spec.name) {
					inc.restrictions = append(inc.restrictions, s)
				}
			}
			if ok {
				p.checkInclude(inc, spec, false)
			}
			for _, grandchild := range child.children {
				p.errs.add(grandchild.at, "what is done to each file stands in <for-each>", "<%s> cannot stand in <include>", grandchild.name)
			}
			r.includes = append(r.includes, inc)
			if forEach != nil {
				p.errs.add(child.at, "", "<include> stands before <for-each>")
			}
		case "for-each":
			if forEach != nil {
				p.errs.add(child.at, "", "<%s> has <for-each> twice", e.name)
				continue
			}
			forEach = child
			p.noAttributes(child)
			p.content(r, child, at)
		default:
			if methodSpecByName(child.name) != nil || fileSpecByName(strings.TrimSuffix(child.name, "-set")) != nil {
				p.errs.add(child.at, "put it in <for-each>", "<%s> cannot stand in <%s> itself", child.name, e.name)
				continue
			}
			p.unknownElement(e.name, child, []string{"include", "for-each"})
		}
	}
	if len(r.includes) == 0 {
		p.errs.add(e.at, `such as <include path="*.dll" max-matches="unbounded"/>`, "<%s> has no <include>", e.name)
	}
	if forEach == nil {
		p.errs.add(e.at, "what is done to each file stands there", "<%s> has no <for-each>", e.name)
	}
	return r
}

func hasSetting(settings []setting, name string) bool {
	return slices.ContainsFunc(settings, func(s setting) bool { return s.spec.name == name })
}

// content reads the directives and rules in a file element or a for-each.
func (p *parser) content(r *rule, e *element, at scope) {
	inside := scope{inZIP: at.inZIP || r.spec.name == "zip-file"}
	for _, child := range e.children {
		if spec := fileSpecByName(strings.TrimSuffix(child.name, "-set")); spec != nil {
			switch {
			case !r.spec.container:
				p.errs.add(child.at, "", "<%s> cannot stand in <%s>: %s holds no other files", child.name, e.name, r.spec.indefinite())
			case child.name != spec.name:
				r.rules = append(r.rules, p.set(child, spec, inside))
			default:
				r.rules = append(r.rules, p.rule(child, spec, inside))
			}
			continue
		}
		spec := methodSpecByName(child.name)
		switch {
		case spec == nil || !slices.Contains(r.spec.methods, child.name):
			known := r.spec.methods
			if r.spec.container {
				known = append(p.fileElements(true), known...)
			}
			p.unknownElement(e.name, child, known)
			continue
		case spec.rootOnly && !at.root:
			p.errs.add(child.at, "", "<%s> stands in the artifact's own element only", child.name)
		case spec.inZIP && !inside.inZIP:
			p.errs.add(child.at, "put <"+r.element+"> in <zip-file>", "<%s> makes a further file, and there is no ZIP archive to put it in", child.name)
		}
		r.directives = append(r.directives, p.directive(child, spec))
	}
	p.checkOrder(r)
}

func (p *parser) directive(e *element, spec *methodSpec) *directive {
	d := &directive{spec: spec, at: e.at}
	d.options, _ = p.settings(e, spec.attributes)
	for _, child := range e.children {
		childSpec := methodSpecByName(child.name)
		if childSpec == nil || !slices.Contains(spec.children, child.name) {
			p.unknownElement(e.name, child, spec.children)
			continue
		}
		d.children = append(d.children, p.directive(child, childSpec))
	}
	return d
}

// option returns a directive's option as written, without parameters filled in.
func (d *directive) option(name string) *setting {
	for i := range d.options {
		if d.options[i].spec.name == name {
			return &d.options[i]
		}
	}
	return nil
}

// checkOrder checks the directives of a rule against each other.
func (p *parser) checkOrder(r *rule) {
	var signed *directive
	for _, d := range r.directives {
		switch d.spec.kind {
		case methodVerify:
			if signed != nil {
				p.errs.add(d.at, fmt.Sprintf("move it before <%s> of line %d", signed.spec.name, signed.at.line),
					"<%s> checks the file as it was submitted, and so stands before everything that signs it", d.spec.name)
			}
		case methodSign:
			appends := d.option("append")
			if appends != nil && appends.value.expand(nil, "") != "false" && appends.value.expand(nil, "") != "0" {
				if !slices.Contains(appendable, r.spec.name) {
					p.errs.add(appends.at, "only "+strings.Join(appendable, ", ")+" can", "%s cannot hold several signatures", r.spec.indefinite())
				}
			} else if signed != nil && signed.spec == d.spec && d.spec.name == "authenticode-sign" {
				p.errs.add(d.at, `write append="true" to keep both`, "this signature would replace the one of line %d", signed.at.line)
			}
			signed = d
		case methodCreate, methodNote:
		}
	}
}

// settings reads and checks attributes. It reports whether all were right; those
// that were not are left out.
func (p *parser) settings(e *element, known []attributeSpec) (settings []setting, ok bool) {
	before := len(p.errs.list)
	seen := make(map[string]bool)
	for _, a := range e.attributes {
		seen[a.name] = true
		var spec *attributeSpec
		for i := range known {
			if known[i].name == a.name {
				spec = &known[i]
			}
		}
		if spec == nil {
			names := make([]string, len(known))
			for i := range known {
				names[i] = known[i].name
			}
			p.unknownAttribute(e.name, a, names)
			continue
		}
		value, err := p.c.parseTemplate(a.value)
		switch {
		case err != nil:
			p.errs.add(a.at, "", "%s: %v", a.name, err)
			continue
		case value.usesFileName() && !spec.mayUseFileName():
			p.errs.add(a.at, "", "%s cannot use ${%s}: it is known only once a file was matched", a.name, fileNameReference)
			continue
		case value.constant():
			p.check(spec, a.at, value.parts(nil, ""))
		}
		settings = append(settings, setting{spec, a.at, value})
	}
	for _, spec := range known {
		if spec.required && !seen[spec.name] {
			p.errs.add(e.at, "", "<%s> needs the attribute %s", e.name, spec.name)
		}
	}
	return settings, len(p.errs.list) == before
}

// mayUseFileName reports whether ${file.name} may stand in the value.
func (s *attributeSpec) mayUseFileName() bool {
	switch s.kind {
	case kindPattern, kindFileName, kindOutput, kindURL:
		return true
	case kindText:
		return s.values == nil
	default:
		return false
	}
}
