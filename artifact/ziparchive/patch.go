package ziparchive

import (
	"io"
	"io/fs"
	"time"
)

// Header describes an entry that is added.
type Header struct {
	// Name in UTF-8 with forward slashes; with a slash at its end it is a directory.
	Name string
	// Modified is kept as MS-DOS time in UTC; years before 1980 become 1980.
	Modified time.Time
	// Mode gives permissions and directory or symbolic link; zero means 0644.
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
	changes
}

// NewPatch returns an empty set of changes to a.
func NewPatch(a *Archive) *Patch { return newPatch(a) }

// Replace gives e the content and method of c. Name, time stamps, attributes,
// extra fields and comment stay.
func (p *Patch) Replace(e *Entry, c *Prepared) error { return p.replace(e, c) }

// Remove leaves e out.
func (p *Patch) Remove(e *Entry) error { return p.remove(e) }

// Insert adds an entry in front of an existing one, or behind all others when
// before is nil. Several insertions at one place keep their order.
func (p *Patch) Insert(before *Entry, h Header, c *Prepared) error { return p.insert(before, h, c) }

// SetDirectoryGap replaces the bytes between the last entry and the central
// directory, such as an APK Signing Block; nil leaves none. Without a call they
// stay as they are.
func (p *Patch) SetDirectoryGap(b []byte) { p.setDirectoryGap(b) }

// WriteTo writes the changed archive to w, entries in the order in which their
// data lies in the original. The output depends on nothing but the archive and
// the changes; without changes it is the original, byte for byte. Runs of
// unchanged entries are one copy, made by the kernel when w and the archive are
// both an *os.File.
func (p *Patch) WriteTo(w io.Writer) (int64, error) { return p.writeTo(w) }
