package artifact

import (
	"context"
	"io"

	"github.com/countersign-dev/countersign/artifact/authenticode"
	"github.com/countersign-dev/countersign/artifact/spool"
)

// The tables in this file are what this version can do with the elements of
// language.go. To add a format or a signing method, write it and enter it here.

// formats lists the file types that can be opened or whose metadata can be read.
var formats = []format{
	{element: "pe-file", metadata: peMetadata, report: reportPE},
	{element: "msi-file", metadata: msiMetadata},
	{element: "xml-file", metadata: xmlMetadata},
	{element: "zip-file", open: openZIP},
}

// methods lists the directives that can be carried out.
var methods = []method{
	{name: "authenticode-sign", element: "pe-file", sign: signPE, prove: provePE},
	{name: "authenticode-verify", element: "pe-file", verify: verifyPE},
}

// format is a file type.
type format struct {
	element string
	// open opens a container; nil when the type cannot be opened.
	open func(content io.ReaderAt, size int64, limits Limits) (container, error)
	// metadata reads what restrictions are about: values by attribute name. When
	// there are several values for a name, a restriction must hold for each.
	// Nil when the type has none.
	metadata func(content io.ReaderAt, size int64) (map[string][]string, error)
	// report checks all Authenticode signatures; nil when the type has none.
	report func(ctx context.Context, f file, trust Trust) (*authenticode.Report, error)
}

// container is an opened archive. It is safe for concurrent use.
type container interface {
	// members lists the files, in the archive's order.
	members() []member
	// directories lists the directories that are entries of their own.
	directories() []string
	// open reads a member to its end; the last Read fails if it is damaged.
	open(member int) (io.ReadCloser, error)
	// inPlace gives random access to a member that is not compressed, or nil.
	inPlace(member int) io.ReaderAt
	// prepare makes content ready to replace a member's.
	prepare(member int, content io.Reader, o spool.Options) (replacement, error)
	// rebuild writes the archive with replaced members, by number.
	// It returns its size.
	rebuild(dst io.Writer, replacements map[int]replacement) (int64, error)
	// compare fails unless the other container, of the same format, is this one
	// with changes in the content of the named members only. When quick, it looks
	// at the beginning and the end only of what lies unchanged in both.
	compare(other container, changed map[string]bool, quick bool) error
}

// replacement is new content of a member.
type replacement io.Closer

// member is a file in a container.
type member struct {
	path string // with forward slashes
	size int64  // in bytes, as the container says
	link bool   // a symbolic link
}

// method is a directive for one file type.
type method struct {
	name, element string
	// sign writes the signed file to dst, and returns its size. What it returns is
	// proven: dst holds f with an intact signature, and no other change.
	sign func(ctx context.Context, dst Output, f file, d Directive, o *SignOptions) (MadeSignature, int64, error)
	// prove fails unless f has all these signatures, intact: when one is made, those
	// before it must not suffer. All signing methods of a file type share it.
	prove func(ctx context.Context, f file, made []MadeSignature) error
	// verify says what is wrong with the signatures that are there; nothing, if
	// the list is empty.
	verify func(ctx context.Context, f file, d Directive, trust Trust) (problems []string, err error)
}

// file is content for random access.
type file struct {
	content io.ReaderAt
	size    int64
}

func formatOf(element string) *format {
	for i := range formats {
		if formats[i].element == element {
			return &formats[i]
		}
	}
	return nil
}

func methodOf(name, element string) *method {
	for i := range methods {
		if methods[i].name == name && methods[i].element == element {
			return &methods[i]
		}
	}
	return nil
}

// CheckAvailable reports, as ConfigurationErrors, each use of a signing method,
// container format or restriction that this version does not have. Plan refuses
// such a configuration with the same errors; whoever stores configurations
// should do so when one is activated.
func (c *Configuration) CheckAvailable() error {
	var errs complaints
	checkAvailable(c.root, &errs)
	return errs.orNil()
}

const notAvailable = "not available in this version"

func checkAvailable(r *rule, errs *complaints) {
	f := formatOf(r.spec.name)
	for _, d := range r.directives {
		if methodOf(d.spec.name, r.spec.name) == nil {
			errs.add(d.at, "", "<%s> for <%s> is %s", d.spec.name, r.spec.name, notAvailable)
		}
	}
	if f == nil || f.metadata == nil {
		reported := make(map[position]bool) // a set's restrictions belong to each include
		for _, i := range r.includes {
			for _, s := range i.restrictions {
				if !reported[s.at] {
					reported[s.at] = true
					errs.add(s.at, "", "the restriction %s of <%s> is %s", s.spec.name, r.spec.name, notAvailable)
				}
			}
		}
	}
	if len(r.rules) > 0 && !r.spec.directory && (f == nil || f.open == nil) {
		errs.add(r.rules[0].at, "", "opening %s is %s, and so are elements in <%s>", r.spec.indefinite(), notAvailable, r.spec.name)
		return
	}
	for _, nested := range r.rules {
		checkAvailable(nested, errs)
	}
}
