package authenticode

import (
	"errors"
	"io"
)

// ErrNoVersion says that the image has no version resource.
var ErrNoVersion = errors.New("authenticode: image has no version resource")

// Version is the version resource (VS_VERSIONINFO) of an image.
type Version struct {
	FileVersion    [4]uint16         // VS_FIXEDFILEINFO.dwFileVersion, major first
	ProductVersion [4]uint16         // VS_FIXEDFILEINFO.dwProductVersion, major first
	Strings        map[string]string // first StringTable: ProductName, CompanyName, ...
}

// ReadVersion reads the version resource of an image. Without one it returns ErrNoVersion.
func ReadVersion(src io.ReaderAt, size int64) (*Version, error) {
	return nil, errors.New("authenticode: not implemented")
}

// IsPE tells whether a file that begins with header may be a PE image. 4 KiB
// decide for all images met in practice; 64 octets are the least that is looked at.
func IsPE(header []byte) bool { return false }
