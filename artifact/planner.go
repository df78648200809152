package artifact

import (
	"context"
	"fmt"
	"sync"
)

// Plan applies the configuration to an artifact. That the artifact does not fit
// is not an error but in Plan.Violations. Errors are ParameterErrors,
// ConfigurationErrors (a method that is not available, or a value that is wrong
// with these parameters), those of ctx, and of reading or of temporary files.
func (c *Configuration) Plan(ctx context.Context, src Source, opts PlanOptions) (*Plan, error) {
	parameters, err := c.ResolveParameters(opts.Parameters)
	if err != nil {
		return nil, err
	}
	if err := c.CheckAvailable(); err != nil {
		return nil, err
	}
	var errs complaints
	set := bind([]*rule{c.root}, parameters, &errs)
	if err := errs.orNil(); err != nil {
		return nil, err
	}
	p := &planner{
		workspace:  newWorkspace(opts.Workspace),
		opts:       opts,
		strict:     opts.Strict || c.strict,
		parameters: parameters,
		kept:       make(map[*PlannedFile][]byte),
	}
	p.report(0, 1)
	root := set.includes[0]
	name := baseName(src.Name)
	planned := &PlannedFile{Path: name, Size: src.Size}
	var found findings
	if root.path.spec != nil && !root.pattern.match(name) {
		found.add(root, ViolationName, "", "", "the artifact is called %s, not %s", name, root.text)
	}
	inner, err := p.file(ctx, planned, src.source(), "", root, 0)
	if err != nil {
		return nil, err
	}
	p.report(1, 0)
	plan := &Plan{
		ArtifactSHA256:      planned.SHA256,
		ConfigurationSHA256: c.sha256,
		Parameters:          parameters,
		Strict:              p.strict,
		Root:                planned,
		Violations:          append(found.list, inner...),
		source:              src.Content,
		kept:                p.kept,
	}
	if plan.Violations == nil {
		plan.Violations = []Violation{}
	}
	if more := len(plan.Violations) - maxViolations; more > 0 {
		plan.Violations = append(plan.Violations[:maxViolations:maxViolations], Violation{
			Code: ViolationLimit, Message: fmt.Sprintf("there are %d more violations", more),
		})
	}
	return plan, nil
}

// maxViolations is how many violations a plan lists.
const maxViolations = 1000

// planner plans one artifact.
type planner struct {
	*workspace
	opts       PlanOptions
	strict     bool
	parameters map[string]string

	keeping  sync.Mutex // of those below
	kept     map[*PlannedFile][]byte
	keptSize int64
}

// maxKept is how many bytes of files a plan keeps, because signing wants them again.
const maxKept = 16 << 20

func (p *planner) keep(f *PlannedFile, content []byte) {
	p.keeping.Lock()
	defer p.keeping.Unlock()
	if p.keptSize += int64(len(content)); p.keptSize <= maxKept {
		p.kept[f] = content
	}
}

// findings collects violations.
type findings struct{ list []Violation }

func (f *findings) add(i *boundInclude, code, path, hint, format string, args ...any) {
	v := Violation{Code: code, Path: path, Message: fmt.Sprintf(format, args...), Hint: hint}
	if i != nil {
		v.Rule, v.Line, v.Column = i.rule.element, i.at.line, i.at.column
		if i.text != "" {
			v.Rule += " path=\"" + i.text + "\""
		}
		v.Rule = "<" + v.Rule + ">"
	}
	f.list = append(f.list, v)
}

// file plans one file that a rule matches, or in strict mode may have to. at is
// its path from the artifact's top.
func (p *planner) file(ctx context.Context, f *PlannedFile, src source, at string, i *boundInclude, depth int) ([]Violation, error) {
	var found findings
	content, release, err := p.load(ctx, src, func(head []byte) (hashed, kept bool) {
		if i == nil { // only strict mode looks into what no rule matches
			return p.opts.Hashes == HashAll, p.strict && canOpen(detectType(f.Path, head))
		}
		r := i.rule
		return p.opts.Hashes != HashNone, len(i.restrictions) > 0 || r.rules != nil || p.strict && r.spec.container || hasVerify(r.directives)
	})
	if release != nil {
		defer release()
	}
	f.SHA256 = content.sha256
	if err != nil {
		if !isArchiveError(err) {
			return nil, nameFile(at, err)
		}
		found.add(i, archiveViolation(err), at, "", "%s", archiveMessage(err))
		f.Action, f.Reason = ActionLeave, "it cannot be read"
		return found.list, nil
	}
	detected := detectType(f.Path, content.head)
	if i == nil {
		return p.unmatched(ctx, f, content.file, at, detected, depth)
	}
	spec := i.rule.spec
	f.Type, f.Rule = spec.name, i.reference()
	f.Directives = p.directives(i.rule.directives, f)
	if !isOfType(spec, content.head) {
		is := "something else"
		if detected != nil {
			is = detected.indefinite()
		}
		found.add(i, ViolationWrongType, at, "", "the file is no %s but %s", spec.title, is)
		f.Action, f.Reason, f.Directives = ActionLeave, "it is no "+spec.title, nil
		return found.list, nil
	}
	if err := p.restrictions(&found, f, content.file, at, i); err != nil {
		return nil, nameFile(at, err)
	}
	if err := p.verifications(ctx, &found, f, content.file, at, i); err != nil {
		return nil, nameFile(at, err)
	}
	if i.rule.rules != nil || p.strict && spec.container {
		inner, err := p.container(ctx, f, content.file, at, i.rule, i, depth)
		if err != nil {
			return nil, err
		}
		found.list = append(found.list, inner...)
	}
	p.decide(f, i)
	if content.whole != nil && f.Action == ActionSign {
		p.keep(f, content.whole)
	}
	return found.list, nil
}

func hasVerify(directives []*directive) bool {
	for _, d := range directives {
		if d.spec.kind == methodVerify {
			return true
		}
	}
	return false
}

// directives fills in what depends on parameters and on the file's name.
func (p *planner) directives(directives []*directive, f *PlannedFile) []Directive {
	var list []Directive
	for _, d := range directives {
		bound := Directive{Method: d.spec.name, Line: d.at.line}
		for _, o := range d.options {
			if bound.Options == nil {
				bound.Options = make(map[string]string)
			}
			parts := o.value.parts(p.parameters, baseName(f.Path))
			if o.spec.kind == kindPattern {
				parts = escapeLiterals(parts)
			}
			bound.Options[o.spec.name] = segmentSource(parts)
		}
		list = append(list, bound)
	}
	return list
}

// restrictions checks the metadata of a file.
func (p *planner) restrictions(found *findings, f *PlannedFile, content file, at string, i *boundInclude) error {
	if len(i.restrictions) == 0 {
		return nil
	}
	metadata, err := formatOf(f.Type).metadata(content.content, content.size)
	if err != nil {
		found.add(i, ViolationRestriction, at, "", "the file's metadata cannot be read: %v", err)
		return nil
	}
	for _, r := range i.restrictions {
		parts := r.value.parts(p.parameters, baseName(f.Path))
		pattern, err := compileWildcard(parts, r.spec.kind == kindFileName)
		if err != nil {
			return err
		}
		values := metadata[r.spec.name]
		if len(values) == 0 {
			values = []string{""}
		}
		for _, value := range values {
			compared := value
			if pattern.fold {
				compared = foldCase(value)
			}
			if !pattern.match(compared) {
				has := fmt.Sprintf("is %q", value)
				if len(metadata[r.spec.name]) == 0 {
					has = "is missing"
				}
				found.add(i, ViolationRestriction, at, "", "%s %s; line %d wants %q", r.spec.name, has, r.at.line, segmentSource(parts))
			}
		}
	}
	return nil
}

// verifications carries out the verify directives of a file.
func (p *planner) verifications(ctx context.Context, found *findings, f *PlannedFile, content file, at string, i *boundInclude) error {
	for n, d := range i.rule.directives {
		if d.spec.kind != methodVerify {
			continue
		}
		problems, err := methodOf(d.spec.name, f.Type).verify(ctx, content, f.Directives[n], p.opts.Trust)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			problems = []string{err.Error()}
		}
		for _, problem := range problems {
			found.add(i, ViolationVerification, at, "", "<%s> of line %d: %s", d.spec.name, d.at.line, problem)
		}
	}
	return nil
}

// decide says what happens to a file that a rule matches.
func (p *planner) decide(f *PlannedFile, i *boundInclude) {
	signs, verifies, inside := 0, 0, false
	for _, d := range i.rule.directives {
		switch d.spec.kind {
		case methodSign, methodCreate:
			signs++
		case methodVerify:
			verifies++
		case methodNote:
		}
	}
	for _, nested := range f.Files {
		inside = inside || nested.Action != ActionLeave
	}
	switch {
	case signs > 0:
		f.Action, f.Reason = ActionSign, fmt.Sprintf("line %d signs it", i.at.line)
	case verifies > 0:
		f.Action, f.Reason = ActionVerify, fmt.Sprintf("line %d verifies it", i.at.line)
	case inside:
		f.Action, f.Reason = ActionContainer, fmt.Sprintf("line %d goes into it", i.at.line)
	case i.rule.rules != nil:
		f.Action, f.Reason = ActionLeave, fmt.Sprintf("line %d goes into it, and signs and verifies nothing there", i.at.line)
	default:
		f.Action, f.Reason = ActionLeave, fmt.Sprintf("line %d names it and asks for nothing", i.at.line)
	}
}

// unmatched looks, in strict mode, whether a file that no rule matches should
// have been mentioned.
func (p *planner) unmatched(ctx context.Context, f *PlannedFile, content file, at string, detected *fileSpec, depth int) ([]Violation, error) {
	var found findings
	f.Action, f.Reason = ActionLeave, "no rule matches it"
	if detected == nil {
		return nil, nil
	}
	f.Type = detected.name
	if !p.strict {
		return nil, nil
	}
	if detected.signable {
		found.add(nil, ViolationUnlisted, at,
			"sign it, verify it, or leave it alone with <"+tag("file", []string{"path", escapeName(f.Path)})+"/>",
			"strict mode: no rule mentions this %s", detected.title)
		return found.list, nil
	}
	if content.content != nil && canOpen(detected) {
		return p.container(ctx, f, content, at, nil, nil, depth)
	}
	return nil, nil
}

// container plans the files in a container, with the rules of r if there are any.
func (p *planner) container(ctx context.Context, f *PlannedFile, content file, at string, r *boundRule, i *boundInclude, depth int) ([]Violation, error) {
	var found findings
	if !canOpen(fileSpecByName(f.Type)) { // strict mode looks into whatever it can
		return nil, nil
	}
	if depth >= p.Limits.Depth {
		found.add(i, ViolationLimit, at, "", "containers are nested more than %d deep", p.Limits.Depth)
		return found.list, nil
	}
	opened, err := formatOf(f.Type).open(content.content, content.size, p.Limits)
	if err != nil {
		if !isArchiveError(err) {
			return nil, nameFile(at, err)
		}
		found.add(i, archiveViolation(err), at, "", "%s", archiveMessage(err))
		return found.list, nil
	}
	members := opened.members()
	if problem := p.admit(members); problem != "" {
		found.add(i, ViolationLimit, at, "", "%s", problem)
		return found.list, nil
	}
	var rules *ruleSet
	if r != nil {
		rules = r.rules
	}
	matched, err := match(rules, members, opened.directories())
	if err != nil {
		found.add(i, ViolationLimit, at, "", "%v", err)
		return found.list, nil
	}
	for _, m := range matched.mismatches {
		addMismatch(&found, joinPath(at, m.base), m)
	}
	f.Files = make([]*PlannedFile, len(members))
	var work []int
	for n, m := range members {
		f.Files[n] = &PlannedFile{Path: m.path, Size: m.size, Action: ActionLeave, Reason: "no rule matches it"}
		include := matched.assigned[n]
		for _, other := range matched.more[n] {
			found.add(other, ViolationDoubleMatch, joinPath(at, m.path), "make one of them narrower, so that each file has one rule",
				"the file is matched by line %d and by line %d", min(include.at.line, other.at.line), max(include.at.line, other.at.line))
		}
		switch {
		case m.link && include != nil && include.rule.spec.name != "file":
			found.add(include, ViolationWrongType, joinPath(at, m.path), "", "the file is a symbolic link")
		case m.link:
			f.Files[n].Reason = "it is a symbolic link"
		case include != nil || p.strict || p.opts.Hashes == HashAll:
			work = append(work, n)
		}
	}
	p.report(0, len(work))
	violations := make([][]Violation, len(work))
	err = p.each(ctx, len(work), func(ctx context.Context, k int) error {
		n := work[k]
		member := memberSource(opened, n, members[n].size)
		var err error
		violations[k], err = p.file(ctx, f.Files[n], member, joinPath(at, members[n].path), matched.assigned[n], depth+1)
		p.report(1, 0)
		return err
	})
	if err != nil {
		return nil, err
	}
	for _, list := range violations {
		found.list = append(found.list, list...)
	}
	return found.list, nil
}

func addMismatch(found *findings, base string, m mismatch) {
	what, match := "files", "match"
	if m.include.rule.spec.directory {
		what = "directories"
	}
	if m.count == 1 {
		what, match = m.include.rule.spec.noun(), "matches"
	}
	switch {
	case m.count == 0:
		found.add(m.include, ViolationTooFewMatches, base, `min-matches="0" makes it optional`, "no %s matches", m.include.rule.spec.noun())
	case m.count < m.include.minimum:
		found.add(m.include, ViolationTooFewMatches, base, "", "%d %s %s; min-matches is %d", m.count, what, match, m.include.minimum)
	default:
		hint := ""
		if m.include.maximum == 1 {
			hint = `max-matches="unbounded" allows any number`
		}
		found.add(m.include, ViolationTooManyMatches, base, hint, "%d %s %s; max-matches is %d", m.count, what, match, m.include.maximum)
	}
}

func (s *fileSpec) noun() string {
	if s.directory {
		return "directory"
	}
	return "file"
}
