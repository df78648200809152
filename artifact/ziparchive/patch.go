package ziparchive

import (
	"fmt"
	"io/fs"
	"math"
	"time"
)

// Header describes an entry that is added.
type Header struct {
	// Name in UTF-8 with forward slashes; with a slash at its end it is a directory.
	Name string
	// Modified is kept as MS-DOS time in UTC; years before 1980 become 1980.
	Modified time.Time
	// Mode gives permissions and symbolic link or not; no permissions mean 0644, or 0755 for a directory.
	Mode fs.FileMode
	// Comment of the entry.
	Comment string
}

// Patch is a set of changes to an archive. WriteTo applies them. A Patch is not
// safe for concurrent use; the Prepared contents it is given are made
// concurrently.
type Patch struct {
	// Align returns the alignment in bytes that the data of a stored entry gets
	// by padding its local extra field, as zipalign does; 0 or 1 for none. Entries
	// that are aligned where they come to lie stay as they are. Nil aligns nothing.
	Align func(name string) int64

	archive  *Archive
	replaced map[*Entry]*Prepared
	removed  map[*Entry]bool
	inserted map[*Entry][]insertion // in front of the key, or at the end for nil
	names    map[string]bool        // of the inserted
	gap      []byte                 // between last entry and central directory
	gapSet   bool
}

type insertion struct {
	Header
	content *Prepared
}

// NewPatch returns an empty set of changes to a.
func NewPatch(a *Archive) *Patch {
	return &Patch{
		archive:  a,
		replaced: make(map[*Entry]*Prepared),
		removed:  make(map[*Entry]bool),
		inserted: make(map[*Entry][]insertion),
		names:    make(map[string]bool),
	}
}

func invalid(name, format string, args ...any) *Error {
	return &Error{Kind: InvalidPatch, Entry: name, Offset: -1, Detail: fmt.Sprintf(format, args...)}
}

// own refuses entries of other archives, and changes to what was removed.
func (p *Patch) own(e *Entry) error {
	switch {
	case e.archive != p.archive:
		return invalid(e.Name, "the entry is of another archive")
	case p.removed[e]:
		return invalid(e.Name, "the entry was removed")
	}
	return nil
}

// Replace gives e the content and method of c. Name, time stamps, attributes,
// extra fields and comment stay. A later Replace of e counts.
func (p *Patch) Replace(e *Entry, c *Prepared) error {
	if err := p.own(e); err != nil {
		return err
	}
	if e.Flags&flagsEncrypted != 0 {
		return invalid(e.Name, "an encrypted entry cannot be replaced")
	}
	p.replaced[e] = c
	return nil
}

// Remove leaves e out. Insertions in front of it stay.
func (p *Patch) Remove(e *Entry) error {
	if err := p.own(e); err != nil {
		return err
	}
	delete(p.replaced, e)
	p.removed[e] = true
	return nil
}

// Insert adds an entry in front of an existing one, or behind all others when
// before is nil. Several insertions at one place keep their order. An entry of
// the same name has to be removed first. The error is an *Error.
func (p *Patch) Insert(before *Entry, h Header, c *Prepared) error {
	if before != nil && before.archive != p.archive {
		return invalid(h.Name, "the entry to insert it before is of another archive")
	}
	if len(h.Name) > math.MaxUint16 || len(h.Comment) > math.MaxUint16 {
		return invalid(h.Name[:min(64, len(h.Name))], "name and comment may have 65,535 bytes each")
	}
	if problems := checkName(h.Name); len(problems) > 0 {
		return &Error{Kind: problems[0].kind, Entry: h.Name, Offset: -1, Field: "file name", Detail: problems[0].detail}
	}
	if e := p.archive.Lookup(h.Name); e != nil && !p.removed[e] || p.names[h.Name] {
		return &Error{Kind: DuplicateName, Entry: h.Name, Offset: -1, Field: "file name", Detail: "there is one already; replace or remove it"}
	}
	p.names[h.Name] = true
	p.inserted[before] = append(p.inserted[before], insertion{h, c})
	return nil
}

// SetDirectoryGap replaces the bytes between the last entry and the central
// directory, such as an APK Signing Block; nil leaves none. Without a call they
// stay as they are.
func (p *Patch) SetDirectoryGap(b []byte) { p.gap, p.gapSet = b, true }
