package httpapi

import (
	"bytes"
	"context"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"slices"
	"strconv"

	"github.com/countersign-dev/countersign/api"
	"github.com/countersign-dev/countersign/internal/signing"
)

// signedFiles are the files of a result that changed, by their path from the artifact's top.
type signedFiles map[string]signedFile

// signedFile is what a result says of one file.
type signedFile struct {
	Path        string `json:"path"`
	SHA256After string `json:"sha256After"`
	Signatures  []struct {
		Method        string `json:"method"`
		HashAlgorithm string `json:"hashAlgorithm"`
		Digest        string `json:"digest"`
		Thumbprint    string `json:"thumbprint"`
	} `json:"signatures"`
}

// GetArtifactDescription tells every file of the artifact, with what was done to it.
func (s *service) GetArtifactDescription(ctx context.Context, r api.GetArtifactDescriptionRequestObject) (api.GetArtifactDescriptionResponseObject, error) {
	d, err := s.description(ctx, r.SigningRequestID)
	if err != nil {
		return nil, err
	}
	return api.GetArtifactDescription200JSONResponse(*d), nil
}

// GetArtifactDescriptionXML tells the same as XML.
func (s *service) GetArtifactDescriptionXML(ctx context.Context, r api.GetArtifactDescriptionXMLRequestObject) (api.GetArtifactDescriptionXMLResponseObject, error) {
	d, err := s.description(ctx, r.SigningRequestID)
	if err != nil {
		return nil, err
	}
	text, err := descriptionXML(d)
	if err != nil {
		return nil, err
	}
	return api.GetArtifactDescriptionXML200ApplicationXMLResponse{Body: bytes.NewReader(text), ContentLength: int64(len(text))}, nil
}

func (s *service) description(ctx context.Context, rawID string) (*api.ArtifactDescription, error) {
	id, err := requestID(rawID)
	if err != nil {
		return nil, err
	}
	resolved, err := s.signing.Resolved(ctx, actorOf(ctx), id)
	if err != nil {
		return nil, err
	}
	return describe(id, resolved)
}

// describe joins a plan and, once there is one, the result of carrying it out.
func describe(id signing.ID, resolved *signing.ResolvedArtifact) (*api.ArtifactDescription, error) {
	var plan api.Plan
	if err := json.Unmarshal(resolved.Plan, &plan); err != nil {
		return nil, fmt.Errorf("read the plan of signing request %s: %w", id, err)
	}
	var signed signedFiles // nil until signed
	if len(resolved.Result) > 0 {
		var result struct {
			Files []signedFile `json:"files"`
		}
		if err := json.Unmarshal(resolved.Result, &result); err != nil {
			return nil, fmt.Errorf("read the result of signing request %s: %w", id, err)
		}
		signed = signedFiles{}
		for _, f := range result.Files {
			signed[f.Path] = f
		}
	}
	d := &api.ArtifactDescription{
		SigningRequestID: string(id), ConfigurationSha256: plan.ConfigurationSha256, Parameters: plan.Parameters,
		Strict: plan.Strict, Violations: plan.Violations,
	}
	if d.Parameters == nil {
		d.Parameters = map[string]string{}
	}
	if d.Violations == nil {
		d.Violations = []api.Violation{}
	}
	if plan.Root.Action != "" { // a plan that only found violations may have no tree
		d.Root = signed.describe(plan.Root, "")
	}
	return d, nil
}

// describe tells a planned file and those in it; path is from the artifact's top, empty for the artifact.
func (signed signedFiles) describe(f api.PlannedFile, path string) api.DescribedFile {
	d := api.DescribedFile{
		Path: f.Path, Type: f.Type, SizeInBytes: f.Size, Sha256HashBefore: f.Sha256, Action: f.Action, Reason: f.Reason,
		Rule: f.Rule, Directives: f.Directives,
	}
	if after, changed := signed[path]; changed {
		d.Sha256HashAfter = after.SHA256After
		for _, s := range after.Signatures {
			d.Signatures = append(d.Signatures, api.MadeSignature{Method: s.Method, HashAlgorithm: s.HashAlgorithm,
				Digest: s.Digest, CertificateSha256Thumbprint: s.Thumbprint})
		}
	} else if signed != nil {
		d.Sha256HashAfter = f.Sha256
	}
	for _, inner := range f.Files {
		below := inner.Path
		if path != "" {
			below = path + "/" + inner.Path
		}
		d.Files = append(d.Files, signed.describe(inner, below))
	}
	return d
}

// descriptionNamespace names the XML form; a change that breaks readers gets another number.
const descriptionNamespace = "urn:countersign:artifact-description:v1"

// descriptionXML spells a description in XML.
func descriptionXML(d *api.ArtifactDescription) ([]byte, error) {
	var b bytes.Buffer
	b.WriteString(xml.Header)
	w := &xmlWriter{enc: xml.NewEncoder(&b)}
	w.enc.Indent("", "  ")
	w.open("artifact-description", "xmlns", descriptionNamespace, "signing-request-id", d.SigningRequestID,
		"configuration-sha256", d.ConfigurationSha256, "strict", strconv.FormatBool(d.Strict))
	for _, name := range sortedNames(d.Parameters) {
		w.open("parameter", "name", name, "value", d.Parameters[name])
		w.close()
	}
	if d.Root.Action != "" {
		w.file(d.Root)
	}
	for _, v := range d.Violations {
		w.open("violation", "code", v.Code, "path", v.Path, "rule", v.Rule, "line", strconv.Itoa(v.Line), "message", v.Message, "hint", v.Hint)
		w.close()
	}
	w.close()
	if w.err == nil {
		w.err = w.enc.Flush()
	}
	b.WriteByte('\n')
	return b.Bytes(), w.err
}

// xmlWriter writes elements and keeps the first error.
type xmlWriter struct {
	enc   *xml.Encoder
	names []string
	err   error
}

// open begins an element with attributes in pairs of name and value; empty values are left out.
func (w *xmlWriter) open(name string, attributes ...string) {
	start := xml.StartElement{Name: xml.Name{Local: name}}
	for pair := range slices.Chunk(attributes, 2) {
		if pair[1] != "" {
			start.Attr = append(start.Attr, xml.Attr{Name: xml.Name{Local: pair[0]}, Value: pair[1]})
		}
	}
	w.names = append(w.names, name)
	if w.err == nil {
		w.err = w.enc.EncodeToken(start)
	}
}

func (w *xmlWriter) close() {
	name := w.names[len(w.names)-1]
	w.names = w.names[:len(w.names)-1]
	if w.err == nil {
		w.err = w.enc.EncodeToken(xml.EndElement{Name: xml.Name{Local: name}})
	}
}

func (w *xmlWriter) file(f api.DescribedFile) {
	w.open("file", "path", f.Path, "type", f.Type, "size", strconv.FormatInt(f.SizeInBytes, 10),
		"sha256-before", f.Sha256HashBefore, "sha256-after", f.Sha256HashAfter, "action", string(f.Action), "reason", f.Reason)
	for _, s := range f.Signatures {
		w.open("signature", "method", s.Method, "hash-algorithm", s.HashAlgorithm, "digest", s.Digest, "certificate-sha256", s.CertificateSha256Thumbprint)
		w.close()
	}
	for _, inner := range f.Files {
		w.file(inner)
	}
	w.close()
}
