package ziparchive

import (
	"bytes"
	"io"
	"slices"
)

// Aspect is a part of an entry, or of an archive, in which two archives differ.
type Aspect string

// Aspects of an entry. Comment is one of the archive, too.
const (
	Content    Aspect = "content"    // the uncompressed bytes
	Data       Aspect = "data"       // the compressed bytes of the same content, or the encryption
	Method     Aspect = "method"     // compression method
	RawName    Aspect = "raw name"   // bytes or encoding of the same name
	Modified   Aspect = "modified"   // MS-DOS time
	Attributes Aspect = "attributes" // internal or external attributes or their host system
	Extra      Aspect = "extra"      // extra fields other than ZIP64's and padding, central or local
	Comment    Aspect = "comment"
)

// Aspects of an archive.
const (
	Order  Aspect = "order"         // of the entries that both have
	Prefix Aspect = "prefix"        // bytes before the first entry
	Block  Aspect = "directory gap" // bytes before the central directory
)

// Difference is what Diff finds about one entry.
type Difference struct {
	Name    string   // of the entry; empty for the archive itself
	A, B    *Entry   // nil where the archive lacks the entry
	Aspects []Aspect // empty when the archive lacks the entry
}

// DiffOptions say how closely Diff looks.
type DiffOptions struct {
	// Quick compares of the compressed data of two entries that are alike otherwise
	// only the first and the last 64 KiB: enough to know whether a copy has gone to the
	// wrong place, but not whether the disk has kept it.
	Quick bool
}

// Diff lists in what b differs from a: first the archive itself, then entries
// in the order of a, then those that only b has. How the bytes are laid out
// (offsets, data descriptors, ZIP64, padding, level of compression flag) is no
// difference. Data that is the same bytes in both is not inflated; data that is
// not is compared inflated, whatever the CRC-32 says. Entries of the same name
// are compared in their order.
func Diff(a, b *Archive, o DiffOptions) ([]Difference, error) {
	partners := make(map[string][]*Entry, len(b.Entries))
	for _, e := range b.Entries {
		partners[e.Name] = append(partners[e.Name], e)
	}
	var differences []Difference
	paired := make(map[*Entry]bool, len(b.Entries))
	var order []int
	for _, e := range a.Entries {
		candidates := partners[e.Name]
		if len(candidates) == 0 {
			differences = append(differences, Difference{Name: e.Name, A: e})
			continue
		}
		other := candidates[0]
		partners[e.Name] = candidates[1:]
		paired[other] = true
		order = append(order, other.index)
		aspects, err := diffEntry(e, other, o)
		if err != nil {
			return nil, err
		}
		if len(aspects) > 0 {
			differences = append(differences, Difference{e.Name, e, other, aspects})
		}
	}
	for _, e := range b.Entries {
		if !paired[e] {
			differences = append(differences, Difference{Name: e.Name, B: e})
		}
	}
	var aspects []Aspect
	if !slices.IsSorted(order) {
		aspects = append(aspects, Order)
	}
	if !bytes.Equal(a.Comment, b.Comment) {
		aspects = append(aspects, Comment)
	}
	for _, part := range []struct {
		aspect Aspect
		a, b   *io.SectionReader
	}{{Prefix, a.Prefix(), b.Prefix()}, {Block, a.DirectoryGap(), b.DirectoryGap()}} {
		if same, err := sameBytes(part.a, part.b); err != nil {
			return nil, err
		} else if !same {
			aspects = append(aspects, part.aspect)
		}
	}
	if len(aspects) > 0 {
		differences = slices.Insert(differences, 0, Difference{Aspects: aspects})
	}
	return differences, nil
}

func diffEntry(a, b *Entry, o DiffOptions) (aspects []Aspect, err error) {
	note := func(differs bool, aspect Aspect) {
		if differs {
			aspects = append(aspects, aspect)
		}
	}
	sameContent, sameData, err := compareContent(a, b, o)
	if err != nil {
		return nil, err
	}
	sameExtra, err := compareExtra(a, b)
	if err != nil {
		return nil, err
	}
	note(!sameContent, Content)
	note(sameContent && !sameData, Data)
	note(a.Method != b.Method, Method)
	note(!bytes.Equal(a.RawName(), b.RawName()) || (a.Flags^b.Flags)&flagUTF8 != 0, RawName)
	note(!bytes.Equal(a.record[12:16], b.record[12:16]), Modified)
	note(a.host() != b.host() || !bytes.Equal(a.record[36:42], b.record[36:42]), Attributes)
	note(!sameExtra, Extra)
	note(!bytes.Equal(a.Comment(), b.Comment()), Comment)
	return aspects, nil
}

func compareContent(a, b *Entry, o DiffOptions) (sameContent, sameData bool, err error) {
	if a.Size != b.Size || a.CRC32 != b.CRC32 {
		return false, false, nil // the CRC-32 says that it is not read as the same
	}
	if a.Method == b.Method && (a.Flags^b.Flags)&(flagsEncrypted|flagPatched) == 0 {
		if sameData, err = sameRaw(a, b, o); err != nil || sameData {
			return sameData, sameData, err
		}
	}
	x, err := a.Open()
	if err != nil {
		return false, false, err
	}
	defer x.Close()
	y, err := b.Open()
	if err != nil {
		return false, false, err
	}
	defer y.Close()
	sameContent, err = sameBytes(x, y)
	return sameContent, false, err
}

// sameRaw compares the compressed data.
func sameRaw(a, b *Entry, o DiffOptions) (bool, error) {
	const part = 64 << 10
	x, y := a.Raw(), b.Raw()
	size := x.Size()
	if !o.Quick || size <= 2*part || size != y.Size() {
		return sameBytes(x, y)
	}
	for _, at := range []int64{0, size - part} {
		if same, err := sameBytes(io.NewSectionReader(x, at, part), io.NewSectionReader(y, at, part)); !same || err != nil {
			return same, err
		}
	}
	return true, nil
}

// compareExtra compares the extra fields of both headers without what describes
// the layout.
func compareExtra(a, b *Entry) (bool, error) {
	if !bytes.Equal(describing(a.Extra()), describing(b.Extra())) {
		return false, nil
	}
	x, err := a.localHeader()
	if err != nil {
		return false, err
	}
	y, err := b.localHeader()
	if err != nil {
		return false, err
	}
	return bytes.Equal(describing(localExtra(x)), describing(localExtra(y))), nil
}

func describing(extra []byte) []byte {
	return setExtra(setExtra(extra, zip64Extra, nil), alignmentExtra, nil)
}

// sameBytes reads both to the end, unless they differ before.
func sameBytes(a, b io.Reader) (bool, error) {
	x, y := copyBuffers.Get().(*[64 << 10]byte), copyBuffers.Get().(*[64 << 10]byte)
	defer copyBuffers.Put(x)
	defer copyBuffers.Put(y)
	for {
		n, err := io.ReadFull(a, x[:])
		m, otherErr := io.ReadFull(b, y[:])
		for _, err := range []error{err, otherErr} {
			switch err { //nolint:errorlint // io.ReadFull returns these two as they are; wrapped they are failures
			case nil, io.EOF, io.ErrUnexpectedEOF:
			default:
				return false, err
			}
		}
		if !bytes.Equal(x[:n], y[:m]) {
			return false, nil
		}
		if err != nil {
			return true, nil
		}
	}
}
