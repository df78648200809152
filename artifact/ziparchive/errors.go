package ziparchive

import (
	"fmt"
	"strings"
)

// Kind says what is wrong with an archive. A Kind is an error of its own, so
// that errors.Is(err, ziparchive.Overlap) asks for it.
type Kind string

// What is always refused: no reading of such an archive is the right one.
const (
	// NotArchive: there is no end of central directory record (APPNOTE 4.3.16).
	NotArchive Kind = "not a ZIP archive"
	// Malformed: a record is cut off, has the wrong signature, or a field has a value it cannot have.
	Malformed Kind = "malformed archive"
	// Mismatch: two places that describe the same thing contradict each other.
	Mismatch Kind = "contradiction"
	// Overlap: two entries, or an entry and the central directory, claim the same bytes.
	Overlap Kind = "overlapping data"
	// MultiDisk: the archive is one part of a split or spanned archive.
	MultiDisk Kind = "multi-disk archive"
	// LimitExceeded: the archive is larger than one of Limits allows.
	LimitExceeded Kind = "limit exceeded"
)

// What is refused unless Options.Allow names it.
const (
	// Gap: bytes between two entries, or behind the central directory, belong to nothing.
	Gap Kind = "unused bytes"
	// DirectoryGap: bytes lie between the last entry and the central directory, where an APK has its signing block.
	DirectoryGap Kind = "bytes before the central directory"
	// Encrypted: an entry's data is encrypted. Its content cannot be opened; its raw data can be copied.
	Encrypted Kind = "encrypted entry"
	// DuplicateName: two entries have the same name, or one is a file where the other needs a directory.
	DuplicateName Kind = "duplicate name"
	// CaseCollision: two names differ only in case or Unicode normalization.
	CaseCollision Kind = "colliding names"
	// Traversal: a name has a ".." component.
	Traversal Kind = "path traversal"
	// AbsolutePath: a name starts with a slash or a drive letter.
	AbsolutePath Kind = "absolute path"
	// Backslash: a name has a backslash, which some systems take for a separator.
	Backslash Kind = "backslash in name"
	// InvalidName: a name is empty or has control characters.
	InvalidName Kind = "invalid name"
)

// What is found when content is read or an archive is written.
const (
	// UnsupportedMethod: the content is compressed with something other than deflate, or cannot be decrypted.
	UnsupportedMethod Kind = "unsupported compression method"
	// Corrupt: the compressed data, its size or its CRC-32 is wrong.
	Corrupt Kind = "corrupt content"
	// InvalidPatch: the changes cannot be made, such as a name or comment that is too long.
	InvalidPatch Kind = "invalid change"
)

func (k Kind) Error() string { return string(k) }

// Error is what every refusal of an archive is.
type Error struct {
	Kind   Kind
	Entry  string // name of the entry, or empty when the archive as a whole is meant
	Offset int64  // where in the archive, in bytes from its start; -1 when no place is meant
	Field  string // which field of which record, or empty
	Detail string // what was found, and what was expected or can be done
	Err    error  // the cause, or nil
}

func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString("zip: ")
	if e.Entry != "" {
		fmt.Fprintf(&b, "entry %q: ", e.Entry)
	}
	b.WriteString(string(e.Kind))
	if e.Field != "" {
		b.WriteString(": " + e.Field)
	}
	if e.Offset >= 0 {
		fmt.Fprintf(&b, " at offset %d", e.Offset)
	}
	if e.Detail != "" {
		b.WriteString(": " + e.Detail)
	}
	if e.Err != nil {
		b.WriteString(": " + e.Err.Error())
	}
	return b.String()
}

// Unwrap gives the kind and the cause to errors.Is and errors.As.
func (e *Error) Unwrap() []error {
	if e.Err == nil {
		return []error{e.Kind}
	}
	return []error{e.Kind, e.Err}
}
