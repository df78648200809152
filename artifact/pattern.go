package artifact

import (
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// wildcard is a compiled pattern for one path segment, or for a whole value
// where there are no segments. It knows * (any characters), ? (one character),
// [abc], [a-z], [!abc] and [!a-z] (one character of a class).
//
// Between its stars a pattern consists of chunks of fixed length. A chunk
// matched as early as possible leaves the most for the others, so matching never
// goes back: its time is linear in the length of the text for a given pattern.
type wildcard struct {
	source string  // equal for equal patterns
	fold   bool    // ignore case: text that is matched must have gone through fold
	chunks []chunk // one more than there are stars
}

// chunk is what stands between two stars.
type chunk struct {
	atoms []atom
	runes int // length in characters
}

// atom matches a literal, or one character: any, or one of a class.
type atom struct {
	literal string // if not empty
	class   *class // any character when nil, and literal is empty
}

type class struct {
	negated bool
	ranges  [][2]rune
}

// patternPart is a piece of a pattern's source: as written, or the value of a
// parameter, which has no wildcards.
type patternPart struct {
	text    string
	literal bool
}

// compileWildcard compiles a pattern. With fold it ignores case.
func compileWildcard(parts []patternPart, fold bool) (*wildcard, error) {
	w := &wildcard{source: segmentSource(escapeLiterals(parts)), fold: fold}
	var current chunk
	var literal strings.Builder
	flush := func() {
		if literal.Len() == 0 {
			return
		}
		text := literal.String()
		if fold {
			text = foldCase(text)
		}
		current.atoms = append(current.atoms, atom{literal: text})
		current.runes += utf8.RuneCountInString(text)
		literal.Reset()
	}
	for _, part := range parts {
		if part.literal {
			literal.WriteString(part.text)
			continue
		}
		for rest := part.text; rest != ""; {
			switch rest[0] {
			case '*':
				flush()
				// Two stars in a row, as in "a**b", are one.
				if len(w.chunks) == 0 || len(current.atoms) > 0 {
					w.chunks = append(w.chunks, current)
				}
				current = chunk{}
				rest = rest[1:]
			case '?':
				flush()
				current.atoms = append(current.atoms, atom{})
				current.runes++
				rest = rest[1:]
			case '[':
				flush()
				c, length, err := parseClass(rest)
				if err != nil {
					return nil, err
				}
				current.atoms = append(current.atoms, atom{class: c})
				current.runes++
				rest = rest[length:]
			default:
				literal.WriteByte(rest[0])
				rest = rest[1:]
			}
		}
	}
	flush()
	w.chunks = append(w.chunks, current)
	return w, nil
}

var (
	errClassOpen  = errors.New("a character class [ has no closing ]; for the character itself write [[]")
	errClassEmpty = errors.New("a character class [] is empty")
	errClassCaret = errors.New("a character class is negated with !, not with ^: write [!...]")
)

// parseClass reads a class at the beginning of s and returns how long it is.
func parseClass(s string) (*class, int, error) {
	end := strings.IndexByte(s, ']')
	if end < 0 {
		return nil, 0, errClassOpen
	}
	c := &class{}
	body := s[1:end]
	if strings.HasPrefix(body, "!") {
		c.negated, body = true, body[1:]
	}
	switch {
	case body == "":
		return nil, 0, errClassEmpty
	case body[0] == '^':
		return nil, 0, errClassCaret
	}
	for body != "" {
		low, n := utf8.DecodeRuneInString(body)
		body = body[n:]
		high := low
		if len(body) > 1 && body[0] == '-' {
			high, n = utf8.DecodeRuneInString(body[1:])
			body = body[1+n:]
		}
		if high < low {
			return nil, 0, fmt.Errorf("a character range goes backwards: %c-%c", low, high)
		}
		c.ranges = append(c.ranges, [2]rune{low, high})
	}
	return c, end + 1, nil
}

func (c *class) contains(r rune, fold bool) bool {
	found := c.listed(r)
	if fold && !found {
		for f := unicode.SimpleFold(r); f != r && !found; f = unicode.SimpleFold(f) {
			found = c.listed(f)
		}
	}
	return found != c.negated
}

func (c *class) listed(r rune) bool {
	for _, each := range c.ranges {
		if each[0] <= r && r <= each[1] {
			return true
		}
	}
	return false
}

// exact returns the only text that the pattern matches, if there is only one.
func (w *wildcard) exact() (string, bool) {
	if len(w.chunks) > 1 {
		return "", false
	}
	switch atoms := w.chunks[0].atoms; {
	case len(atoms) == 0:
		return "", true
	case len(atoms) == 1 && atoms[0].literal != "":
		return atoms[0].literal, true
	}
	return "", false
}

// prefix and suffix return what each match begins and ends with.
func (w *wildcard) prefix() string {
	if atoms := w.chunks[0].atoms; len(atoms) > 0 {
		return atoms[0].literal
	}
	return ""
}

func (w *wildcard) suffix() string {
	if atoms := w.chunks[len(w.chunks)-1].atoms; len(atoms) > 0 {
		return atoms[len(atoms)-1].literal
	}
	return ""
}

// longestLiteral returns what each match has in it somewhere.
func (w *wildcard) longestLiteral() string {
	longest := ""
	for _, c := range w.chunks {
		for _, a := range c.atoms {
			if len(a.literal) > len(longest) {
				longest = a.literal
			}
		}
	}
	return longest
}

// match tells whether the whole of s, folded if the pattern is, matches.
func (w *wildcard) match(s string) bool {
	first, last := w.chunks[0], w.chunks[len(w.chunks)-1]
	n, ok := first.matchAt(s, w.fold)
	if !ok {
		return false
	}
	s = s[n:]
	if len(w.chunks) == 1 {
		return s == ""
	}
	for _, c := range w.chunks[1 : len(w.chunks)-1] {
		end, ok := c.find(s, w.fold)
		if !ok {
			return false
		}
		s = s[end:]
	}
	start := len(s)
	for range last.runes {
		if start == 0 {
			return false
		}
		_, n := utf8.DecodeLastRuneInString(s[:start])
		start -= n
	}
	n, ok = last.matchAt(s[start:], w.fold)
	return ok && start+n == len(s)
}

// matchAt matches the chunk at the beginning of s and returns its length in bytes.
func (c chunk) matchAt(s string, fold bool) (int, bool) {
	n := 0
	for _, a := range c.atoms {
		if a.literal != "" {
			if !strings.HasPrefix(s[n:], a.literal) {
				return 0, false
			}
			n += len(a.literal)
			continue
		}
		r, width := utf8.DecodeRuneInString(s[n:])
		if width == 0 || a.class != nil && !a.class.contains(r, fold) {
			return 0, false
		}
		n += width
	}
	return n, true
}

// find returns where the first match of the chunk in s ends.
func (c chunk) find(s string, fold bool) (int, bool) {
	if len(c.atoms) == 1 && c.atoms[0].literal != "" {
		at := strings.Index(s, c.atoms[0].literal)
		return at + len(c.atoms[0].literal), at >= 0
	}
	for start := 0; start <= len(s); {
		if n, ok := c.matchAt(s[start:], fold); ok {
			return start + n, true
		}
		_, width := utf8.DecodeRuneInString(s[start:])
		start += max(width, 1)
	}
	return 0, false
}

// foldCase maps texts that differ only in case to the same text. It is Unicode
// simple case folding, so that characters map to characters.
func foldCase(s string) string {
	for i := 0; i < len(s); i++ {
		if c := s[i]; c >= utf8.RuneSelf || 'A' <= c && c <= 'Z' {
			return s[:i] + strings.Map(foldRune, s[i:])
		}
	}
	return s
}

func foldRune(r rune) rune {
	if r < utf8.RuneSelf {
		if 'A' <= r && r <= 'Z' {
			r += 'a' - 'A'
		}
		return r
	}
	lowest := r
	for f := unicode.SimpleFold(r); f != r; f = unicode.SimpleFold(f) {
		lowest = min(lowest, f)
	}
	if 'A' <= lowest && lowest <= 'Z' {
		lowest += 'a' - 'A'
	}
	return lowest
}

// pathPattern is a compiled pattern for paths: segments, where a nil one stands
// for ** and matches any number of segments.
type pathPattern struct {
	segments []*wildcard
}

// compilePath compiles the pattern of a path below a container or directory.
// "." is the container or directory itself, and has no segments.
func compilePath(parts []patternPart) (*pathPattern, error) {
	p := &pathPattern{}
	for _, segment := range splitPath(parts) {
		source := segmentSource(segment)
		switch {
		case source == ".":
			continue
		case source == "":
			return nil, errors.New("a path has an empty segment; a path is relative and does not begin with a slash")
		case source == "..":
			return nil, errors.New("a path must not leave its container by means of .. in it")
		case len(source) == 2 && source[1] == ':' && isLetter(source[0]):
			return nil, errors.New("a path is relative and has no drive letter")
		case source == "**" && writtenSource(segment) == "**":
			if n := len(p.segments); n == 0 || p.segments[n-1] != nil {
				p.segments = append(p.segments, nil)
			}
			continue
		}
		if strings.Contains(writtenSource(segment), "**") {
			return nil, errors.New("** must be a whole segment of the path, as in **/*.dll")
		}
		w, err := compileWildcard(segment, true)
		if err != nil {
			return nil, err
		}
		p.segments = append(p.segments, w)
	}
	// A path that ends in ** means everything below, at least one segment.
	if n := len(p.segments); n > 0 && p.segments[n-1] == nil {
		p.segments = append(p.segments, &wildcard{source: "*", fold: true, chunks: make([]chunk, 2)})
	}
	return p, nil
}

func isLetter(c byte) bool { return 'a' <= c|0x20 && c|0x20 <= 'z' }

// splitPath cuts at slashes and backslashes, in what was written and in what
// parameters gave. One slash at the end is allowed and means nothing.
func splitPath(parts []patternPart) [][]patternPart {
	var segments [][]patternPart
	var current []patternPart
	for _, part := range parts {
		text := part.text
		for {
			cut := strings.IndexAny(text, `/\`)
			if cut < 0 {
				break
			}
			current = append(current, patternPart{text[:cut], part.literal})
			segments = append(segments, current)
			current, text = nil, text[cut+1:]
		}
		if text != "" {
			current = append(current, patternPart{text, part.literal})
		}
	}
	if len(current) > 0 || len(segments) == 0 {
		segments = append(segments, current)
	}
	return segments
}

func segmentSource(segment []patternPart) string {
	var b strings.Builder
	for _, part := range segment {
		b.WriteString(part.text)
	}
	return b.String()
}

// writtenSource is segmentSource without what parameters gave.
func writtenSource(segment []patternPart) string {
	var b strings.Builder
	for _, part := range segment {
		if !part.literal {
			b.WriteString(part.text)
		}
	}
	return b.String()
}

// match tells whether the pattern matches a path with forward slashes.
// Many patterns on many paths are the work of a pathIndex.
func (p *pathPattern) match(path string) bool {
	return len(newPathIndex([]*pathPattern{p}).lookup(path)) > 0
}

// escapeLiterals makes a pattern's source of parts, in which what parameters gave
// is still literal.
func escapeLiterals(parts []patternPart) []patternPart {
	escaped := make([]patternPart, len(parts))
	for i, part := range parts {
		if part.literal {
			part = patternPart{text: wildcardEscaper.Replace(part.text)}
		}
		escaped[i] = part
	}
	return escaped
}

var wildcardEscaper = strings.NewReplacer("*", "[*]", "?", "[?]", "[", "[[]")
