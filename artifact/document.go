package artifact

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"maps"
	"strconv"
	"strings"
)

// Bounds of a configuration document.
const (
	maxDocumentSize = 1 << 20
	maxElements     = 20_000
	maxElementDepth = 64
	maxAttributes   = 32
	maxValueLength  = 4096
	maxErrors       = 100
)

// position is a place in a document, both from 1, the column in bytes.
type position struct{ line, column int }

// element is an XML element of the configuration's namespace.
type element struct {
	name       string
	at         position
	attributes []attribute
	children   []*element
}

type attribute struct {
	name, value string
	at          position
}

// complaints collects errors.
type complaints struct{ list ConfigurationErrors }

func (c *complaints) add(at position, hint, format string, args ...any) {
	switch n := len(c.list); {
	case n < maxErrors:
		c.list = append(c.list, ConfigurationError{at.line, at.column, fmt.Sprintf(format, args...), hint})
	case n == maxErrors:
		c.list = append(c.list, ConfigurationError{at.line, at.column, fmt.Sprintf("there are more mistakes than these %d", maxErrors), ""})
	}
}

// readDocument reads a document as a tree of elements. What is no well-formed
// XML, or has a document type declaration, gives no tree.
func readDocument(data []byte, errs *complaints) *element {
	if len(data) > maxDocumentSize {
		errs.add(position{1, 1}, "", "the configuration has %d bytes; at most %d are allowed", len(data), maxDocumentSize)
		return nil
	}
	data = bytes.TrimPrefix(data, []byte("\xef\xbb\xbf"))
	if bytes.HasPrefix(data, []byte("\xff\xfe")) || bytes.HasPrefix(data, []byte("\xfe\xff")) {
		errs.add(position{1, 1}, "save the file as UTF-8", "the configuration is encoded in UTF-16")
		return nil
	}
	r := &documentReader{data: data, errs: errs, decoder: xml.NewDecoder(bytes.NewReader(data))}
	r.decoder.CharsetReader = func(charset string, input io.Reader) (io.Reader, error) {
		if strings.EqualFold(charset, "us-ascii") {
			return input, nil
		}
		return nil, fmt.Errorf("the encoding %s is not supported; save the file as UTF-8", charset)
	}
	if !r.read() {
		return nil
	}
	if r.root == nil {
		errs.add(position{1, 1}, "begin with "+rootExample, "the configuration is empty")
	}
	return r.root
}

const rootExample = `<artifact-configuration xmlns="` + Namespace + `">`

type documentReader struct {
	data    []byte
	errs    *complaints
	decoder *xml.Decoder
	root    *element
	open    []openElement
	count   int

	counted     int // offset up to which line and lineStart are true
	line        int
	lineStarted int
}

// openElement is an element whose end has not been read.
type openElement struct {
	*element
	raw        string            // its name as written, with prefix
	namespace  string            // of the element
	namespaces map[string]string // by prefix
}

// position translates an offset. Offsets are asked for in ascending order,
// except for small steps back.
func (r *documentReader) position(offset int) position {
	if offset < r.lineStarted {
		r.counted, r.line, r.lineStarted = 0, 0, 0
	}
	for {
		newline := bytes.IndexByte(r.data[r.counted:max(offset, r.counted)], '\n')
		if newline < 0 {
			break
		}
		r.counted += newline + 1
		r.line++
		r.lineStarted = r.counted
	}
	return position{r.line + 1, offset - r.lineStarted + 1}
}

// read fills root, or complains and returns false.
func (r *documentReader) read() bool {
	for {
		start := int(r.decoder.InputOffset())
		token, err := r.decoder.RawToken()
		at := r.position(start)
		if errors.Is(err, io.EOF) {
			if len(r.open) > 0 {
				last := r.open[len(r.open)-1]
				r.errs.add(last.at, "", "<%s> is never closed", last.raw)
				return false
			}
			return true
		}
		if err != nil {
			r.syntaxError(err)
			return false
		}
		switch t := token.(type) {
		case xml.Directive:
			r.errs.add(at, "remove <!DOCTYPE ...>", "document type declarations and entities are not allowed")
			return false
		case xml.CharData:
			if text := bytes.TrimSpace(t); len(text) > 0 {
				if len(text) > 40 {
					text = append(text[:40:40], "..."...)
				}
				r.errs.add(r.position(start+leadingSpace(r.data[start:])), "the language has elements and attributes only", "unexpected text %q", text)
			}
		case xml.StartElement:
			if !r.startElement(t, start) {
				return false
			}
		case xml.EndElement:
			if len(r.open) == 0 {
				r.errs.add(at, "", "</%s> closes nothing", rawName(t.Name))
				return false
			}
			last := r.open[len(r.open)-1]
			if last.raw != rawName(t.Name) {
				r.errs.add(at, "", "</%s> found where </%s> should close the element of line %d", rawName(t.Name), last.raw, last.at.line)
				return false
			}
			r.open = r.open[:len(r.open)-1]
		}
	}
}

func leadingSpace(b []byte) int { return len(b) - len(bytes.TrimLeft(b, " \t\r\n")) }

func rawName(n xml.Name) string {
	if n.Space != "" {
		return n.Space + ":" + n.Local
	}
	return n.Local
}

func (r *documentReader) syntaxError(err error) {
	at := r.position(min(int(r.decoder.InputOffset()), len(r.data)))
	message := err.Error()
	if syntax, ok := errors.AsType[*xml.SyntaxError](err); ok {
		message = syntax.Msg
	}
	message = strings.TrimPrefix(message, "xml: ")
	hint := ""
	if strings.Contains(message, "entity") {
		hint = "only &lt; &gt; &amp; &quot; &apos; and numbers such as &#160; are known; write &amp; for an ampersand"
	}
	r.errs.add(at, hint, "not well-formed XML: %s", message)
}

func (r *documentReader) startElement(t xml.StartElement, start int) bool {
	at := r.position(start)
	switch r.count++; {
	case r.count > maxElements:
		r.errs.add(at, "", "there are more than %d elements", maxElements)
		return false
	case len(r.open) >= maxElementDepth:
		r.errs.add(at, "", "elements are nested more than %d deep", maxElementDepth)
		return false
	case len(r.open) == 0 && r.root != nil:
		r.errs.add(at, "", "there must be one root element only, but <%s> follows <%s>", rawName(t.Name), r.root.name)
		return false
	case len(t.Attr) > maxAttributes:
		r.errs.add(at, "", "<%s> has more than %d attributes", rawName(t.Name), maxAttributes)
		return false
	}
	opened := openElement{element: &element{name: t.Name.Local, at: at}, raw: rawName(t.Name)}
	if len(r.open) > 0 {
		opened.namespaces = r.open[len(r.open)-1].namespaces
	}
	offsets := attributeOffsets(r.data[start:r.decoder.InputOffset()])
	if len(offsets) != len(t.Attr) {
		r.errs.add(at, "", "not well-formed XML: the attributes of <%s> cannot be told apart", opened.raw)
		return false
	}
	seen := make(map[xml.Name]bool, len(t.Attr))
	var attributes []attribute
	for i, a := range t.Attr {
		name, where := rawName(a.Name), r.position(start+offsets[i])
		switch {
		case seen[a.Name]:
			r.errs.add(where, "", "<%s> has the attribute %s twice", opened.raw, name)
			return false
		case len(a.Value) > maxValueLength:
			r.errs.add(where, "", "the value of %s is longer than %d bytes", name, maxValueLength)
			return false
		}
		seen[a.Name] = true
		switch {
		case a.Name.Space == "xmlns":
			opened.namespaces = withNamespace(opened.namespaces, a.Name.Local, a.Value)
		case name == "xmlns":
			opened.namespaces = withNamespace(opened.namespaces, "", a.Value)
		default:
			attributes = append(attributes, attribute{name, a.Value, where})
		}
	}
	r.resolveNames(&opened, t, attributes)
	if len(r.open) == 0 {
		r.root = opened.element
	} else {
		parent := r.open[len(r.open)-1]
		parent.children = append(parent.children, opened.element)
	}
	r.open = append(r.open, opened)
	return true
}

func withNamespace(namespaces map[string]string, prefix, uri string) map[string]string {
	namespaces = maps.Clone(namespaces)
	if namespaces == nil {
		namespaces = make(map[string]string, 2)
	}
	namespaces[prefix] = uri
	return namespaces
}

const schemaInstance = "http://www.w3.org/2001/XMLSchema-instance"

// resolveNames checks the namespaces of an element and its attributes, and keeps
// the attributes that are the language's.
func (r *documentReader) resolveNames(e *openElement, t xml.StartElement, attributes []attribute) {
	parent := Namespace
	if len(r.open) > 0 {
		parent = r.open[len(r.open)-1].namespace
	}
	e.namespace = e.namespaces[t.Name.Space]
	if _, declared := e.namespaces[t.Name.Space]; !declared && t.Name.Space != "" {
		r.errs.add(e.at, "", "the namespace prefix %s is not declared", t.Name.Space)
		e.namespace = parent
	}
	// Elements below one of a wrong namespace inherit it: once is enough.
	if e.namespace != Namespace && e.namespace != parent || len(r.open) == 0 && e.namespace != Namespace {
		what := "the namespace " + strconv.Quote(e.namespace)
		if e.namespace == "" {
			what = "no namespace"
		}
		r.errs.add(e.at, `write xmlns="`+Namespace+`" in the root element`, "<%s> has %s; it must be %s", e.raw, what, Namespace)
	}
	for _, a := range attributes {
		if prefix, _, found := strings.Cut(a.name, ":"); found {
			if e.namespaces[prefix] != schemaInstance {
				r.errs.add(a.at, "", "the attribute %s is not part of the language", a.name)
			}
			continue
		}
		e.attributes = append(e.attributes, a)
	}
}

// attributeOffsets finds where the attributes of a start tag begin, of which the
// decoder has found that it is well-formed.
func attributeOffsets(tag []byte) []int {
	var offsets []int
	i := bytes.IndexAny(tag, " \t\r\n")
	for i >= 0 && i < len(tag) {
		i += leadingSpace(tag[i:])
		if i >= len(tag) || tag[i] == '>' || tag[i] == '/' {
			break
		}
		offsets = append(offsets, i)
		quote := bytes.IndexAny(tag[i:], `"'`)
		if quote < 0 {
			break
		}
		i += quote
		end := bytes.IndexByte(tag[i+1:], tag[i])
		if end < 0 {
			break
		}
		i += end + 2
	}
	return offsets
}
