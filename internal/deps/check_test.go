package deps

import (
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/mod/modfile"
)

// A source is one Go file of the module. All files count, whatever their build constraints.
type source struct {
	dir             string // "." for the module's root
	test, generated bool
	syntax          *ast.File
}

// A house is the module as read from disk, with the rules it is held against.
type house struct {
	modulePath string
	modules    []string // what go.mod requires
	goroot     fs.FS
	rooms      []room
	fset       *token.FileSet
	sources    []source
	support    map[string]bool // folders whose packages import testing outside of their own tests
	found      []string
}

// problems reads the module and returns what breaks the rules, one line each, in order of the files' names.
// goroot's src folder tells which packages are the standard library's.
func problems(module, goroot fs.FS, rooms []room) ([]string, error) {
	h := &house{goroot: goroot, rooms: rooms, fset: token.NewFileSet(), support: make(map[string]bool)}
	if err := h.read(module); err != nil {
		return nil, err
	}
	h.checkTable()
	for _, s := range h.sources {
		h.checkImports(s)
		h.checkInit(s)
	}
	h.checkPackages()
	return h.found, nil
}

func (h *house) read(module fs.FS) error {
	text, err := fs.ReadFile(module, "go.mod")
	if err != nil {
		return err
	}
	mod, err := modfile.ParseLax("go.mod", text, nil)
	if err != nil {
		return err
	}
	h.modulePath = mod.Module.Mod.Path
	for _, require := range mod.Require {
		h.modules = append(h.modules, require.Mod.Path)
	}
	return fs.WalkDir(module, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() {
			return h.enter(module, name)
		}
		if path.Ext(name) != ".go" {
			return nil
		}
		text, err := fs.ReadFile(module, name)
		if err != nil {
			return err
		}
		syntax, err := parser.ParseFile(h.fset, name, text, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		s := source{
			dir: path.Dir(name), test: strings.HasSuffix(name, "_test.go"), generated: ast.IsGenerated(syntax), syntax: syntax,
		}
		h.sources = append(h.sources, s)
		for _, spec := range syntax.Imports {
			if !s.test && within(imported(spec), "testing") {
				h.support[s.dir] = true
			}
		}
		return nil
	})
}

// enter skips the folders that the go command skips too, and other modules.
func (h *house) enter(module fs.FS, name string) error {
	if name == "." {
		return nil
	}
	base := path.Base(name)
	if base == "testdata" || base == "node_modules" || strings.HasPrefix(base, ".") || strings.HasPrefix(base, "_") {
		return fs.SkipDir
	}
	_, err := fs.Stat(module, path.Join(name, "go.mod"))
	switch {
	case err == nil:
		return fs.SkipDir
	case errors.Is(err, fs.ErrNotExist):
		return nil
	default:
		return err
	}
}

func (h *house) report(where token.Pos, format string, args ...any) {
	position := h.fset.Position(where)
	h.found = append(h.found, fmt.Sprintf("%s:%d: ", position.Filename, position.Line)+fmt.Sprintf(format, args...))
}

func (h *house) reportRoom(r room, format string, args ...any) {
	h.found = append(h.found, fmt.Sprintf("room %s: ", r.path)+fmt.Sprintf(format, args...))
}

// within says whether name is tree or lies below it.
func within(name, tree string) bool {
	return name == tree || strings.HasPrefix(name, tree+"/")
}

func withinAny(name string, trees []string) bool {
	return slices.ContainsFunc(trees, func(tree string) bool { return within(name, tree) })
}

// roomOf returns the innermost room that a folder of the module lies in.
func (h *house) roomOf(dir string) (room, bool) {
	var innermost room
	for _, r := range h.rooms {
		if within(dir, r.path) && len(r.path) > len(innermost.path) {
			innermost = r
		}
	}
	return innermost, innermost.path != ""
}

// checkTable finds rows that speak of what does not exist: they protect nothing, and nobody would notice.
func (h *house) checkTable() {
	for i, r := range h.rooms {
		if r.why == "" {
			h.reportRoom(r, "has no reason")
		}
		if slices.ContainsFunc(h.rooms[:i], func(other room) bool { return other.path == r.path }) {
			h.reportRoom(r, "has two rows")
		}
		built := slices.ContainsFunc(h.sources, func(s source) bool {
			in, ok := h.roomOf(s.dir)
			return ok && in.path == r.path
		})
		if built && r.planned {
			h.reportRoom(r, "is built, so it is planned no more")
		}
		if !built && !r.planned {
			h.reportRoom(r, "has no Go file")
		}
		for _, other := range slices.Concat(r.may, r.testsMay) {
			if other != anyRoom && !slices.ContainsFunc(h.rooms, func(o room) bool { return o.path == other }) {
				h.reportRoom(r, "may import %s, which is no room", other)
			}
		}
		for _, name := range slices.Concat(r.never, r.only) {
			if !h.exists(name) {
				h.reportRoom(r, "names %s, which is neither in the standard library nor of a module that go.mod requires", name)
			}
		}
	}
}

// exists says whether an import path outside this module could be imported at all.
func (h *house) exists(importPath string) bool {
	if standard(importPath) {
		_, err := fs.Stat(h.goroot, path.Join("src", importPath))
		return err == nil
	}
	return withinAny(importPath, h.modules)
}

// standard says whether the go command would look an import path up in the standard library.
func standard(importPath string) bool {
	first, _, _ := strings.Cut(importPath, "/")
	return !strings.Contains(first, ".")
}

func (h *house) checkImports(s source) {
	from, ok := h.roomOf(s.dir)
	if !ok {
		h.report(s.syntax.Package, "%s is in no room; give it a row in internal/deps/rooms_test.go", s.dir)
		return
	}
	for _, spec := range s.syntax.Imports {
		importPath := imported(spec)
		if refusal := h.refuse(from, importPath, s.test || h.support[s.dir]); refusal != "" {
			h.report(spec.Pos(), "imports %s: %s (%s: %s)", importPath, refusal, from.path, from.why)
		}
	}
}

func imported(spec *ast.ImportSpec) string {
	importPath, err := strconv.Unquote(spec.Path.Value)
	if err != nil { // the parser has accepted it
		panic(err)
	}
	return importPath
}

// refuse says why a room's package must not import a path; it is empty when it may. Tests, and packages made for
// them, may import more.
func (h *house) refuse(from room, importPath string, test bool) string {
	switch {
	case importPath == "C":
		if !from.cgo {
			return "the server and the engine build without cgo"
		}
		return ""
	case within(importPath, h.modulePath):
		return h.refuseOwn(from, strings.TrimPrefix(importPath, h.modulePath+"/"), test)
	case withinAny(importPath, from.never):
		return "the room never does"
	case standard(importPath), from.only == nil, withinAny(importPath, from.only), test && withinAny(importPath, testModules):
		return ""
	default:
		return "the room's row does not list the module"
	}
}

func (h *house) refuseOwn(from room, dir string, test bool) string {
	to, ok := h.roomOf(dir)
	switch {
	case !ok:
		return "it is in no room"
	case !test && (to.testOnly || h.support[dir]):
		return "it is for tests only"
	case to.path == from.path, to.testOnly:
		return ""
	case slices.Contains(from.may, to.path), slices.Contains(from.may, anyRoom), test && slices.Contains(from.testsMay, to.path):
		return ""
	default:
		return "the room's row does not allow " + to.path
	}
}

// checkInit finds init functions: they run without being asked, in an order that nobody reads in the code.
func (h *house) checkInit(s source) {
	if s.generated {
		return
	}
	for _, decl := range s.syntax.Decls {
		if f, ok := decl.(*ast.FuncDecl); ok && f.Recv == nil && f.Name.Name == "init" {
			h.report(f.Pos(), "init function: call it from the wiring instead")
		}
	}
}

// checkPackages finds names that say nothing, and packages without exactly one hand-written package comment.
func (h *house) checkPackages() {
	type key struct{ dir, name string }
	comments := make(map[key][]*ast.File)
	var order []key
	for _, s := range h.sources {
		name := s.syntax.Name
		if slices.Contains(bannedNames, name.Name) || slices.Contains(bannedNames, path.Base(s.dir)) {
			h.report(name.Pos(), "package %s in %s: name it after what it does", name.Name, s.dir)
		}
		if s.test || s.generated {
			continue
		}
		k := key{s.dir, name.Name}
		if _, seen := comments[k]; !seen {
			order = append(order, k)
			comments[k] = nil
		}
		if s.syntax.Doc != nil {
			comments[k] = append(comments[k], s.syntax)
		}
	}
	for _, k := range order {
		switch files := comments[k]; len(files) {
		case 0:
			h.found = append(h.found, fmt.Sprintf("%s: package %s has no package comment", k.dir, k.name))
		case 1:
		default:
			for _, f := range files {
				h.report(f.Doc.Pos(), "package %s has %d package comments; keep one", k.name, len(files))
			}
		}
	}
}
