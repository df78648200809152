package ziparchive

// Aspect is a part of an entry, or of an archive, in which two archives differ.
type Aspect string

const (
	Content    Aspect = "content"    // the uncompressed bytes
	Data       Aspect = "data"       // the stored bytes of the same content
	Method     Aspect = "method"     // compression method
	RawName    Aspect = "raw name"   // bytes or encoding of the name
	Flags      Aspect = "flags"      // flags other than the presence of a data descriptor and the level
	Modified   Aspect = "modified"   // MS-DOS time
	Attributes Aspect = "attributes" // internal or external attributes or their host system
	Extra      Aspect = "extra"      // extra fields other than ZIP64's, central or local
	Comment    Aspect = "comment"    // of the entry or the archive
	Order      Aspect = "order"      // position among the entries that both archives have
	Prefix     Aspect = "prefix"     // bytes before the first entry
)

// Difference is what Diff finds about one entry.
type Difference struct {
	Name    string   // of the entry; empty for the archive itself
	A, B    *Entry   // nil where the archive lacks the entry
	Aspects []Aspect // empty when one of them is nil
}

// Diff lists in what b differs from a: first the archive itself, then entries
// in the order of a, then those that only b has. How the bytes are laid out
// (offsets, data descriptors, ZIP64, padding) is no difference. Entries whose
// records are the same bytes are not inflated.
func Diff(a, b *Archive) ([]Difference, error) { return diff(a, b) }
