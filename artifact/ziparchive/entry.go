package ziparchive

import (
	"io"
	"io/fs"
	"strings"
	"time"
)

// Compression methods (4.4.5) whose content can be read and written.
const (
	Stored   uint16 = 0
	Deflated uint16 = 8
)

// Bits of the general purpose flag (4.4.4).
const (
	flagEncrypted       = 1 << 0
	flagLevel           = 1<<1 | 1<<2 // of deflate, informative
	flagDescriptor      = 1 << 3
	flagPatched         = 1 << 5
	flagStrongEncrypted = 1 << 6
	flagUTF8            = 1 << 11
	flagMasked          = 1 << 13 // local header values are hidden

	flagsEncrypted = flagEncrypted | flagStrongEncrypted | flagMasked
)

// Host systems that wrote an entry (4.4.2).
const (
	hostUnix  = 3
	hostMacOS = 19
)

// Entry is one file, directory or symbolic link of an archive. Its fields are
// what the central directory says, which Open found to agree with the local
// header.
type Entry struct {
	Name           string // decoded; a directory's ends with a slash
	Method         uint16 // compression method (4.4.5)
	Flags          uint16 // general purpose flags (4.4.4)
	CRC32          uint32 // of the content (4.4.7)
	CompressedSize int64  // bytes of data in the archive
	Size           int64  // bytes of content
	HeaderOffset   int64  // of the local header, in bytes from the archive's start
	DataOffset     int64  // of the data
	End            int64  // behind the data and its descriptor

	archive *Archive
	record  []byte // the central directory header (4.3.12), signature to comment
	index   int    // in Archive.Entries
	next    int64  // where the next thing starts: End, unless a gap is allowed
}

// RawName returns the bytes of the name as stored.
func (e *Entry) RawName() []byte {
	return e.record[centralSize:][:le.Uint16(e.record[28:])]
}

// Extra returns the extra field of the central directory (4.5).
func (e *Entry) Extra() []byte {
	return e.record[centralSize+int(le.Uint16(e.record[28:])):][:le.Uint16(e.record[30:])]
}

// Comment returns the entry's comment (4.4.18).
func (e *Entry) Comment() []byte {
	return e.record[len(e.record)-int(le.Uint16(e.record[32:])):]
}

// ExternalAttributes returns the host's file attributes (4.4.15).
func (e *Entry) ExternalAttributes() uint32 {
	return le.Uint32(e.record[38:])
}

// Modified returns the entry's MS-DOS time (4.4.6), which knows no zone and is
// given as UTC, with a precision of two seconds.
func (e *Entry) Modified() time.Time {
	return fromDOSTime(le.Uint16(e.record[14:]), le.Uint16(e.record[12:]))
}

// host returns the system that the external attributes are of.
func (e *Entry) host() byte { return e.record[5] }

// Mode returns type and permissions. Entries that were not written on a Unix
// system have neither symbolic links nor permissions, and get 0644 or 0755.
func (e *Entry) Mode() fs.FileMode {
	if host := e.host(); host == hostUnix || host == hostMacOS {
		if mode := e.ExternalAttributes() >> 16; mode != 0 {
			return fromUnixMode(mode)
		}
	}
	if e.IsDir() {
		return fs.ModeDir | 0o755
	}
	return 0o644
}

// IsDir reports whether the entry is a directory: whether its name ends with a
// slash, or a backslash where that is allowed.
func (e *Entry) IsDir() bool { return strings.HasSuffix(e.Name, "/") || strings.HasSuffix(e.Name, `\`) }

// Raw returns the data as it is in the archive, compressed or not.
func (e *Entry) Raw() *io.SectionReader {
	return io.NewSectionReader(e.archive.reader, e.DataOffset, e.CompressedSize)
}

// Section returns the content of a stored entry for random access. It is not
// checked against the CRC-32. Other methods give UnsupportedMethod.
func (e *Entry) Section() (*io.SectionReader, error) {
	if e.Method != Stored || e.Flags&flagsEncrypted != 0 {
		return nil, e.unsupported("only stored, unencrypted content can be read in place")
	}
	return e.Raw(), nil
}

func (e *Entry) unsupported(detail string) *Error {
	return e.fail(UnsupportedMethod, e.HeaderOffset, "", detail)
}

func (e *Entry) fail(kind Kind, offset int64, field, detail string) *Error {
	return &Error{Kind: kind, Entry: e.Name, Offset: offset, Field: field, Detail: detail}
}

// fromUnixMode converts st_mode.
func fromUnixMode(m uint32) fs.FileMode {
	mode := fs.FileMode(m & 0o777)
	switch m & 0o170000 {
	case 0o040000:
		mode |= fs.ModeDir
	case 0o120000:
		mode |= fs.ModeSymlink
	case 0o060000:
		mode |= fs.ModeDevice
	case 0o020000:
		mode |= fs.ModeDevice | fs.ModeCharDevice
	case 0o010000:
		mode |= fs.ModeNamedPipe
	case 0o140000:
		mode |= fs.ModeSocket
	}
	for bit, flag := range map[uint32]fs.FileMode{0o4000: fs.ModeSetuid, 0o2000: fs.ModeSetgid, 0o1000: fs.ModeSticky} {
		if m&bit != 0 {
			mode |= flag
		}
	}
	return mode
}

// toUnixMode is the inverse of fromUnixMode for what Header allows: files,
// directories and symbolic links.
func toUnixMode(mode fs.FileMode) uint32 {
	m := uint32(mode.Perm())
	switch {
	case mode&fs.ModeDir != 0:
		m |= 0o040000
	case mode&fs.ModeSymlink != 0:
		m |= 0o120000
	default:
		m |= 0o100000
	}
	return m
}

func fromDOSTime(date, clock uint16) time.Time {
	return time.Date(1980+int(date>>9), time.Month(date>>5&15), int(date&31),
		int(clock>>11), int(clock>>5&63), int(clock&31)*2, 0, time.UTC)
}

// toDOSTime clamps to the years 1980 to 2107 that the format can tell.
func toDOSTime(t time.Time) (date, clock uint16) {
	t = t.UTC()
	switch {
	case t.Year() < 1980:
		return 1<<5 | 1, 0
	case t.Year() > 2107:
		return 127<<9 | 12<<5 | 31, 23<<11 | 59<<5 | 29
	}
	return uint16(t.Year()-1980)<<9 | uint16(t.Month())<<5 | uint16(t.Day()),
		uint16(t.Hour())<<11 | uint16(t.Minute())<<5 | uint16(t.Second()/2)
}
