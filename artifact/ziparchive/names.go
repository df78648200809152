package ziparchive

import (
	"cmp"
	"fmt"
	"hash/crc32"
	"path"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"golang.org/x/text/encoding/charmap"
	"golang.org/x/text/unicode/norm"
)

// unicodePathExtra is the Info-ZIP Unicode Path Extra Field (4.6.9).
const unicodePathExtra = 0x7075

// decodeName turns a stored name into UTF-8. In this order: bit 11 of the flags
// says that it is UTF-8; the Unicode Path extra field has it, if it belongs to
// this very name; it is ASCII; a Unix or macOS program that does not set the bit
// wrote UTF-8; it is in code page 437 (appendix D). ok is false if bit 11 lies.
func decodeName(raw []byte, flags uint16, host byte, extra []byte) (name string, ok bool) {
	valid := utf8.Valid(raw)
	if flags&flagUTF8 != 0 {
		if valid {
			return string(raw), true
		}
	} else if field, _ := findExtra(extra, unicodePathExtra); len(field) >= 5 && field[0] == 1 &&
		le.Uint32(field[1:]) == crc32.ChecksumIEEE(raw) && utf8.Valid(field[5:]) {
		return string(field[5:]), true
	} else if isASCII(raw) || valid && (host == hostUnix || host == hostMacOS) {
		return string(raw), true
	}
	decoded, err := charmap.CodePage437.NewDecoder().Bytes(raw)
	return string(decoded), err == nil && flags&flagUTF8 == 0
}

func isASCII[T string | []byte](s T) bool {
	for i := range len(s) {
		if s[i] >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

// nameProblem is one reason not to unpack a name.
type nameProblem struct {
	kind   Kind
	detail string
}

// checkName lists what is wrong with one name by itself.
func checkName(name string) (problems []nameProblem) {
	add := func(kind Kind, detail string) { problems = append(problems, nameProblem{kind, detail}) }
	if name == "" {
		add(InvalidName, "the name is empty")
		return problems
	}
	if i := strings.IndexFunc(name, func(r rune) bool { return r < ' ' || r == 0x7f }); i >= 0 {
		add(InvalidName, fmt.Sprintf("control character 0x%02x", name[i]))
	}
	if last := name[strings.LastIndexAny(name, `/\`)+1:]; last == "." {
		add(InvalidName, "a file cannot be called \".\"")
	}
	letter := name[0] | 0x20
	if name[0] == '/' || name[0] == '\\' || len(name) > 1 && name[1] == ':' && 'a' <= letter && letter <= 'z' {
		add(AbsolutePath, "names are relative to the directory that the archive is unpacked in")
	}
	if strings.Contains(name, "..") {
		for part := range strings.FieldsFuncSeq(name, func(r rune) bool { return r == '/' || r == '\\' }) {
			if strings.TrimRight(part, " ") == ".." { // Windows drops the spaces
				add(Traversal, "a component is \"..\"")
				break
			}
		}
	}
	if strings.Contains(name, `\`) {
		add(Backslash, "components are separated by forward slashes (4.4.17.1)")
	}
	return problems
}

// droppedEnds finds dots and spaces at the end of components that have more.
var droppedEnds = regexp.MustCompile(`([^/. ])[. ]+(/|$)`)

// nameKey is equal for names that are the same file on a file system that is
// case-insensitive and normalizes, or on Windows, which drops dots and spaces at
// the end of components and knows a file's content as its stream ::$DATA, too.
// Slashes become zeros, so that sorted keys have what is in a directory directly
// behind it.
func nameKey(name string) string {
	key := strings.ReplaceAll(name, `\`, "/")
	key = strings.TrimPrefix(path.Clean("/"+key), "/")
	if cut := len(key) - len("::$DATA"); cut > 0 && strings.EqualFold(key[cut:], "::$DATA") {
		key = key[:cut]
	}
	if strings.Contains(key+"/", "./") || strings.Contains(key+"/", " /") {
		key = droppedEnds.ReplaceAllString(key, "$1$2")
	}
	if isASCII(key) {
		key = strings.ToLower(key)
	} else {
		key = norm.NFC.String(strings.ToLower(strings.ToUpper(norm.NFC.String(key))))
	}
	return strings.ReplaceAll(key, "/", "\x00")
}

// checkCollisions reports entries that would be unpacked to the same place.
func checkCollisions(entries []*Entry, report func(*Error)) {
	type keyed struct {
		key   string
		entry *Entry
	}
	sorted := make([]keyed, len(entries))
	for i, e := range entries {
		sorted[i] = keyed{nameKey(e.Name), e}
	}
	slices.SortFunc(sorted, func(a, b keyed) int {
		return cmp.Or(strings.Compare(a.key, b.key), strings.Compare(a.entry.Name, b.entry.Name), a.entry.index-b.entry.index)
	})
	for i := 1; i < len(sorted); i++ {
		a, b := sorted[i-1], sorted[i]
		switch {
		case a.key == b.key:
			kind := CaseCollision
			if strings.TrimSuffix(a.entry.Name, "/") == strings.TrimSuffix(b.entry.Name, "/") {
				kind = DuplicateName
			}
			report(b.entry.fail(kind, b.entry.HeaderOffset, "file name",
				fmt.Sprintf("entry %q at offset %d is unpacked to the same place", a.entry.Name, a.entry.HeaderOffset)))
		case !a.entry.IsDir() && len(b.key) > len(a.key) && b.key[len(a.key)] == 0 && strings.HasPrefix(b.key, a.key):
			report(b.entry.fail(DuplicateName, b.entry.HeaderOffset, "file name",
				fmt.Sprintf("entry %q at offset %d is not a directory", a.entry.Name, a.entry.HeaderOffset)))
		}
	}
}
