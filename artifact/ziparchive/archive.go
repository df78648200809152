// Package ziparchive reads ZIP archives that nobody trusts and writes them anew
// with some of their entries replaced, added or removed. Everything that does
// not change is copied byte for byte. It is the base of deep signing for all
// formats that are ZIP archives: JAR, APPX, NuGet, OPC, APK.
//
// The specification is PKWARE's APPNOTE.TXT 6.3.10; section numbers in this
// package are its. Where the specification lets an archive say something twice
// (local header and central directory) or lets readers differ (overlaps, gaps,
// names), an archive that makes use of it is refused: what is signed must be
// what everybody unpacks.
package ziparchive

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"sync"
)

// Limits bound what an archive may cost. A zero field means its default.
type Limits struct {
	Entries       int   // number of entries; default 262,144
	NameLength    int   // bytes of an entry's name; default 4,096
	DirectorySize int64 // bytes of the central directory; default 64 MiB
	Uncompressed  int64 // bytes of all contents together; default 64 GiB
	// Ratio is how many times larger than its compressed data a content may be,
	// once it is larger than RatioFloor bytes; defaults 250 and 64 MiB.
	Ratio      int64
	RatioFloor int64
}

// Options say what an archive may be. The zero value is strict.
type Options struct {
	Limits Limits
	// Allow names kinds of problem, out of Gap to InvalidName, that do not make
	// Open fail. They are listed by Archive.Problems instead.
	Allow []Kind
}

// Archive is an archive whose structure was read and found consistent. It is
// safe for concurrent use.
type Archive struct {
	// Entries in the order of the central directory.
	Entries []*Entry
	// Comment of the archive (4.4.26), in the encoding of whoever wrote it.
	Comment []byte

	layout
	problems []*Error
	names    func() map[string]*Entry
}

// Open reads the structure of the archive of size bytes in r: the central
// directory and all local headers, but no content. The error is an *Error, or
// several joined, or one of r's own.
func Open(r io.ReaderAt, size int64, o Options) (*Archive, error) {
	a := &Archive{layout: layout{reader: r, size: size}}
	entries, comment, err := a.locate()
	if err != nil {
		return nil, err
	}
	a.Comment = comment
	c := &check{archive: a, limits: o.Limits.withDefaults(), allow: o.Allow}
	if err := c.readDirectory(entries); err != nil {
		return nil, err
	}
	if err := c.readLocals(); err != nil {
		return nil, err
	}
	if gap := a.EndOffset() - a.tail; gap > 0 {
		c.report(&Error{Kind: Gap, Offset: a.tail, Detail: fmt.Sprintf("%d bytes behind the central directory belong to nothing", gap)})
	}
	checkCollisions(a.Entries, c.report)
	if len(c.refused) > 0 {
		return nil, errors.Join(c.refused...)
	}
	a.names = sync.OnceValue(a.indexNames)
	return a, nil
}

// Problems lists what Options.Allow let pass.
func (a *Archive) Problems() []*Error { return a.problems }

// Lookup returns the first entry with exactly this name, or nil.
func (a *Archive) Lookup(name string) *Entry { return a.names()[name] }

func (a *Archive) indexNames() map[string]*Entry {
	names := make(map[string]*Entry, len(a.Entries))
	for _, e := range a.Entries {
		if names[e.Name] == nil {
			names[e.Name] = e
		}
	}
	return names
}

func (l Limits) withDefaults() Limits {
	return Limits{
		Entries:       cmp.Or(l.Entries, 1<<18),
		NameLength:    cmp.Or(l.NameLength, 4096),
		DirectorySize: cmp.Or(l.DirectorySize, 64<<20),
		Uncompressed:  cmp.Or(l.Uncompressed, 64<<30),
		Ratio:         cmp.Or(l.Ratio, 250),
		RatioFloor:    cmp.Or(l.RatioFloor, 64<<20),
	}
}
