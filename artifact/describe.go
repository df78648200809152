package artifact

import (
	"encoding/xml"
	"io"
	"slices"
	"strconv"
)

// WriteDescription writes an XML document that lists each file of the artifact
// with what was planned for it and, when result is not nil, what was done: its
// hash before and after, and its signatures. Elements are named like those of
// the configuration; a file of no known type is a <file>.
func WriteDescription(w io.Writer, plan *Plan, result *Result) error {
	d := describer{encoder: xml.NewEncoder(w), signed: make(map[string]*SignedFile)}
	if result != nil {
		for i := range result.Files {
			d.signed[result.Files[i].Path] = &result.Files[i]
		}
	}
	d.encoder.Indent("", "  ")
	d.start("artifact-description", "configuration-sha256", plan.ConfigurationSHA256)
	d.file(plan.Root, "")
	d.end("artifact-description")
	if d.err == nil {
		d.err = d.encoder.Close()
	}
	return d.err
}

type describer struct {
	encoder *xml.Encoder
	signed  map[string]*SignedFile // by path from the artifact's top
	err     error                  // the first
}

// start writes a start tag; attributes alternate between name and value, those
// without value are left out.
func (d *describer) start(name string, attributes ...string) {
	element := xml.StartElement{Name: xml.Name{Local: name}}
	for pair := range slices.Chunk(attributes, 2) {
		if pair[1] != "" {
			element.Attr = append(element.Attr, xml.Attr{Name: xml.Name{Local: pair[0]}, Value: pair[1]})
		}
	}
	if d.err == nil {
		d.err = d.encoder.EncodeToken(element)
	}
}

func (d *describer) end(name string) {
	if d.err == nil {
		d.err = d.encoder.EncodeToken(xml.EndElement{Name: xml.Name{Local: name}})
	}
}

func (d *describer) file(f *PlannedFile, at string) {
	element, line, after := f.Type, "", ""
	if element == "" {
		element = "file"
	}
	if f.Rule != nil {
		line = strconv.Itoa(f.Rule.Line)
	}
	signed := d.signed[at]
	if signed != nil {
		after = signed.SHA256After
	}
	d.start(element, "path", f.Path, "size", strconv.FormatInt(f.Size, 10), "action", string(f.Action), "line", line,
		"sha256-before", f.SHA256, "sha256-after", after)
	for _, nested := range f.Files {
		d.file(nested, joinPath(at, nested.Path))
	}
	if signed != nil {
		for _, s := range signed.Signatures {
			d.start("signature", "method", s.Method, "hash-algorithm", s.HashAlgorithm, "digest", s.Digest,
				"certificate-sha256", s.Thumbprint)
			d.end("signature")
		}
	}
	d.end(element)
}
