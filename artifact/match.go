package artifact

import (
	"errors"
	"path"
	"strings"
)

// boundRule is a rule whose parameters are filled in.
type boundRule struct {
	*rule
	rules *ruleSet // nil when there are none
}

// boundInclude is an include whose parameters are filled in.
type boundInclude struct {
	*include
	rule             *boundRule
	text             string // the path
	pattern          *pathPattern
	minimum, maximum int
}

// ruleSet is the rules in one element, ready to be matched.
type ruleSet struct {
	includes []*boundInclude
	index    *pathIndex // of the patterns of includes
}

func (i *boundInclude) reference() *RuleReference {
	return &RuleReference{Element: i.rule.element, Path: i.text, Line: i.at.line, Column: i.at.column}
}

// bind fills parameters in, in rules and all that is in them, and checks what
// depends on them.
func bind(rules []*rule, parameters map[string]string, errs *complaints) *ruleSet {
	set := &ruleSet{}
	var patterns []*pathPattern
	for _, r := range rules {
		bound := &boundRule{rule: r}
		if len(r.rules) > 0 {
			bound.rules = bind(r.rules, parameters, errs)
		}
		bindDirectives(r.directives, parameters, errs)
		for _, i := range r.includes {
			recheck(append([]setting{i.path, i.minimum, i.maximum}, i.restrictions...), parameters, errs)
			b := &boundInclude{include: i, rule: bound, pattern: &pathPattern{}}
			if i.path.spec != nil {
				parts := i.path.value.parts(parameters, "")
				b.text = segmentSource(escapeLiterals(parts))
				if pattern, err := compilePath(parts); err == nil { // otherwise recheck has complained
					b.pattern = pattern
				}
			}
			b.minimum, b.maximum = i.bounds(parameters)
			set.includes = append(set.includes, b)
			patterns = append(patterns, b.pattern)
		}
	}
	set.index = newPathIndex(patterns)
	return set
}

func bindDirectives(directives []*directive, parameters map[string]string, errs *complaints) {
	for _, d := range directives {
		recheck(d.options, parameters, errs)
		bindDirectives(d.children, parameters, errs)
	}
}

// recheck checks the settings that depend on parameters. What depends on a
// file's name, too, is checked with an ordinary one.
func recheck(settings []setting, parameters map[string]string, errs *complaints) {
	for _, s := range settings {
		if s.spec != nil && !s.value.constant() {
			checkValue(errs, s.spec, s.at, s.value.parts(parameters, "file"))
		}
	}
}

// directory is a directory of a container. Names are folded: directories that
// differ in case only are one.
type directory struct {
	path        string // as first met
	directories []*directory
	files       []int    // members
	fileNames   []string // folded
	name        string   // folded
}

// newTree sorts the members of a container into directories.
func newTree(members []member, directories []string) *directory {
	root := &directory{}
	known := map[string]*directory{"": root}
	var enter func(p string) *directory
	enter = func(p string) *directory {
		folded := foldCase(p)
		d := known[folded]
		if d == nil {
			parent, name := "", folded
			if cut := strings.LastIndexByte(p, '/'); cut >= 0 {
				parent = p[:cut]
			}
			if cut := strings.LastIndexByte(folded, '/'); cut >= 0 {
				name = folded[cut+1:]
			}
			d = &directory{path: p, name: name}
			known[folded] = d
			up := enter(parent)
			up.directories = append(up.directories, d)
		}
		return d
	}
	for _, p := range directories {
		enter(p)
	}
	last, lastPath := root, ""
	for i := range members {
		parent, name := "", members[i].path
		if cut := strings.LastIndexByte(name, '/'); cut >= 0 {
			parent, name = name[:cut], name[cut+1:]
		}
		if parent != lastPath {
			last, lastPath = enter(parent), parent
		}
		last.files = append(last.files, i)
		last.fileNames = append(last.fileNames, foldCase(name))
	}
	return root
}

// maxMatchSteps bounds the work of matching one container. Only directory rules
// with ** inside each other come near.
const maxMatchSteps = 1 << 28

var errMatchSteps = errors.New("the rules match too many directories inside each other; use fewer ** in nested <directory> elements")

// matcher assigns the members of a container to rules.
type matcher struct {
	assigned   []*boundInclude         // by member: the first match
	more       map[int][]*boundInclude // the others
	mismatches []mismatch
	steps      int
}

// mismatch is an include with too few or too many matches.
type mismatch struct {
	include *boundInclude
	base    string // directory below which it was looked for
	count   int
}

// scope matches a rule set below a directory.
func (m *matcher) scope(set *ruleSet, base *directory) error {
	counts := make([]int, len(set.includes))
	type entered struct {
		rules *ruleSet
		at    *directory
	}
	var inner []entered
	// Each level of the walk reuses its own buffers.
	type level struct {
		file, directory []*trieNode
	}
	var levels []level
	var found []int
	var walk func(d *directory, state []*trieNode, depth int) error
	walk = func(d *directory, state []*trieNode, depth int) error {
		if depth == len(levels) {
			levels = append(levels, level{})
		}
		found = matches(state, found[:0])
		for _, i := range found {
			if include := set.includes[i]; include.rule.spec.directory {
				counts[i]++
				if include.rule.rules != nil {
					inner = append(inner, entered{include.rule.rules, d})
				}
			}
		}
		m.steps += len(state) * (1 + len(d.files) + len(d.directories))
		if m.steps > maxMatchSteps {
			return errMatchSteps
		}
		for n, member := range d.files {
			next := step(state, levels[depth].file[:0], d.fileNames[n])
			levels[depth].file = next
			found = matches(next, found[:0])
			for _, i := range found {
				include := set.includes[i]
				if include.rule.spec.directory {
					continue
				}
				counts[i]++
				m.assign(member, include)
			}
		}
		for _, sub := range d.directories {
			next := step(state, levels[depth].directory[:0], sub.name)
			levels[depth].directory = next
			if len(next) > 0 {
				if err := walk(sub, next, depth+1); err != nil {
					return err
				}
			}
		}
		return nil
	}
	if err := walk(base, set.index.root, 0); err != nil {
		return err
	}
	for i, include := range set.includes {
		if counts[i] < include.minimum || counts[i] > include.maximum {
			m.mismatches = append(m.mismatches, mismatch{include, base.path, counts[i]})
		}
	}
	for _, e := range inner {
		if err := m.scope(e.rules, e.at); err != nil {
			return err
		}
	}
	return nil
}

func (m *matcher) assign(member int, include *boundInclude) {
	if m.assigned[member] == nil {
		m.assigned[member] = include
		return
	}
	if m.more == nil {
		m.more = make(map[int][]*boundInclude)
	}
	m.more[member] = append(m.more[member], include)
}

// match assigns all members of a container.
func match(set *ruleSet, members []member, directories []string) (*matcher, error) {
	m := &matcher{assigned: make([]*boundInclude, len(members))}
	if set == nil || len(set.includes) == 0 {
		return m, nil
	}
	return m, m.scope(set, newTree(members, directories))
}

// joinPath is path.Join that leaves names as they are.
func joinPath(base, name string) string {
	if base == "" {
		return name
	}
	return base + "/" + name
}

func baseName(p string) string { return path.Base(strings.ReplaceAll(p, `\`, "/")) }
