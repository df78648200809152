package artifact

import (
	"bytes"
	"path"
	"slices"
	"strings"

	"github.com/countersign-dev/countersign/artifact/authenticode"
)

// headSize is how much of a file's beginning tells its type.
const headSize = 4096

// kind is what the first bytes of a file say, which several file types may share.
type kind int

const (
	kindUnknown kind = iota
	kindPE
	kindZIP
	kindCompound // OLE compound file: Windows Installer, binary Office
	kindCabinet
	kindRPM
	kindDebian
	kindMachO
	kindXAR
	kindXML
)

func kindOf(head []byte) kind {
	starts := func(prefixes ...string) bool {
		return slices.ContainsFunc(prefixes, func(p string) bool { return bytes.HasPrefix(head, []byte(p)) })
	}
	switch {
	case authenticode.IsPE(head):
		return kindPE
	case starts("PK\x03\x04", "PK\x05\x06"):
		return kindZIP
	case starts("\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"):
		return kindCompound
	case starts("MSCF"):
		return kindCabinet
	case starts("\xed\xab\xee\xdb"):
		return kindRPM
	case starts("!<arch>\ndebian-binary"):
		return kindDebian
	case starts("\xfe\xed\xfa\xce", "\xfe\xed\xfa\xcf", "\xce\xfa\xed\xfe", "\xcf\xfa\xed\xfe"):
		return kindMachO
	case starts("xar!"):
		return kindXAR
	case bytes.HasPrefix(bytes.TrimLeft(bytes.TrimPrefix(head, []byte("\xef\xbb\xbf")), " \t\r\n"), []byte("<")):
		return kindXML
	}
	return kindUnknown
}

// kinds lists which beginnings files of a type may have; types that are not
// listed may begin with anything.
var kinds = map[string]kind{
	"pe-file":            kindPE,
	"msi-file":           kindCompound,
	"cab-file":           kindCabinet,
	"appx-file":          kindZIP,
	"msix-file":          kindZIP,
	"opc-file":           kindZIP,
	"nupkg-file":         kindZIP,
	"jar-file":           kindZIP,
	"apk-file":           kindZIP,
	"zip-file":           kindZIP,
	"office-oxml-file":   kindZIP,
	"office-binary-file": kindCompound,
	"rpm-file":           kindRPM,
	"deb-file":           kindDebian,
	"xml-file":           kindXML,
	"macho-file":         kindMachO,
	"pkg-file":           kindXAR,
}

// isOfType tells whether a file that begins with head may be of a type.
func isOfType(spec *fileSpec, head []byte) bool {
	want, listed := kinds[spec.name]
	return !listed || kindOf(head) == want
}

// detectType finds the file type: by content, and where several types begin
// alike or with anything, by the name's extension. It returns nil when there is
// no better one than <file>.
func detectType(name string, head []byte) *fileSpec {
	extension := strings.ToLower(path.Ext(name))
	found := kindOf(head)
	if found == kindPE { // whatever it is called
		return fileSpecByName("pe-file")
	}
	for i := range fileSpecs {
		want, listed := kinds[fileSpecs[i].name]
		if slices.Contains(fileSpecs[i].extensions, extension) && (!listed || want == found) {
			return &fileSpecs[i]
		}
	}
	switch found {
	case kindZIP:
		return fileSpecByName("zip-file")
	case kindCabinet:
		return fileSpecByName("cab-file")
	case kindRPM:
		return fileSpecByName("rpm-file")
	case kindDebian:
		return fileSpecByName("deb-file")
	case kindMachO:
		return fileSpecByName("macho-file")
	default:
		return nil
	}
}
