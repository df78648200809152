package ziparchive

import "io"

// layout is where the parts of an archive lie.
type layout struct {
	reader io.ReaderAt
	size   int64
}
