package httpapi

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"gopkg.in/yaml.v3"

	"github.com/countersign-dev/countersign/internal/signing"
)

// contract holds the rules of each operation by its pattern, "POST /v1/{organizationId}/SigningRequests".
type contract map[string]*bodyRules

// bodyRules say which query parameters and bodies an operation reads.
type bodyRules struct {
	query      map[string]string // canonical names by lower-case name
	form       map[string]string // likewise, of an urlencoded body
	times      map[string]bool   // canonical names of the body's members that are times
	mediaTypes []string          // none: the operation has no body
	required   bool
	artifact   bool // the body may be as large as an artifact
	public     bool // no credentials are asked for
}

const (
	mediaJSON       = "application/json"
	mediaMultipart  = "multipart/form-data"
	mediaURLEncoded = "application/x-www-form-urlencoded"
	mediaFile       = "application/octet-stream"

	// maxTextBody bounds bodies that are held in memory.
	maxTextBody = 1 << 20
	// maxFormOverhead is what a form may hold besides its artifact, and the bound of forms without one.
	maxFormOverhead = 8 << 20
)

// The parts of an OpenAPI document that the rules are made of.
type (
	openAPIDocument struct {
		Paths      map[string]map[string]yaml.Node
		Components struct {
			Parameters    map[string]openAPIParameter
			RequestBodies map[string]openAPIBody `yaml:"requestBodies"`
			Schemas       map[string]openAPISchema
		}
	}
	openAPIOperation struct {
		Parameters  []openAPIParameter
		RequestBody *openAPIBody `yaml:"requestBody"`
		Security    *[]any       // nil: the document's, which asks for a token
	}
	openAPIParameter struct {
		Ref      string `yaml:"$ref"`
		Name, In string
	}
	openAPIBody struct {
		Ref      string `yaml:"$ref"`
		Required bool
		Content  map[string]struct{ Schema openAPISchema }
	}
	openAPISchema struct {
		Ref        string `yaml:"$ref"`
		Format     string
		Properties map[string]openAPISchema
	}
)

// parseContract reads the rules from the OpenAPI document.
func parseContract(document []byte) (contract, error) {
	var doc openAPIDocument
	if err := yaml.Unmarshal(document, &doc); err != nil {
		return nil, err
	}
	c := contract{}
	for path, item := range doc.Paths {
		for method, node := range item {
			if method == "parameters" {
				continue
			}
			var op openAPIOperation
			if err := node.Decode(&op); err != nil {
				return nil, fmt.Errorf("%s %s: %w", method, path, err)
			}
			c[strings.ToUpper(method)+" "+path] = doc.rules(op)
		}
	}
	return c, nil
}

func (doc *openAPIDocument) rules(op openAPIOperation) *bodyRules {
	rules := &bodyRules{query: map[string]string{}, form: map[string]string{}, times: map[string]bool{}, public: op.Security != nil && len(*op.Security) == 0}
	for _, p := range op.Parameters {
		if p.Ref != "" {
			p = doc.Components.Parameters[refName(p.Ref)]
		}
		if p.In == "query" {
			rules.query[strings.ToLower(p.Name)] = p.Name
		}
	}
	if op.RequestBody == nil {
		return rules
	}
	body := *op.RequestBody
	if body.Ref != "" {
		body = doc.Components.RequestBodies[refName(body.Ref)]
	}
	rules.required = body.Required
	for mediaType, content := range body.Content {
		rules.mediaTypes = append(rules.mediaTypes, mediaType)
		schema := content.Schema
		if schema.Ref != "" {
			schema = doc.Components.Schemas[refName(schema.Ref)]
		}
		for name, property := range schema.Properties {
			rules.form[strings.ToLower(name)] = name
			rules.times[name] = property.Format == "date-time"
			rules.artifact = rules.artifact || name == "artifact"
		}
	}
	return rules
}

func refName(ref string) string { return ref[strings.LastIndexByte(ref, '/')+1:] }

// apply brings the request into the form that the generated code expects: query names in canonical spelling, empty
// values left out, the content type normalised, the body bounded.
func (rules *bodyRules) apply(w http.ResponseWriter, r *http.Request, maxArtifactBytes int64) error {
	if r.URL.RawQuery != "" {
		values, err := url.ParseQuery(r.URL.RawQuery)
		if err != nil {
			return signing.Invalid("", "The query string is malformed.")
		}
		values, err = canonicalValues(values, rules.query)
		if err != nil {
			return err
		}
		r.URL.RawQuery = values.Encode()
	}
	switch {
	case len(rules.mediaTypes) == 0:
		r.Body = http.MaxBytesReader(w, r.Body, maxTextBody)
		return nil
	case slices.Contains(rules.mediaTypes, mediaFile): // the body is a file, whatever its type
		return limitBody(w, r, maxArtifactBytes)
	}
	if r.ContentLength == 0 && !rules.required {
		return nil
	}
	mediaType, err := rules.mediaType(r)
	if err != nil {
		return err
	}
	limit := int64(maxTextBody)
	if mediaType == mediaMultipart {
		limit = maxFormOverhead
		if rules.artifact {
			limit += maxArtifactBytes
		}
	}
	if err := limitBody(w, r, limit); err != nil {
		return err
	}
	switch mediaType {
	case mediaURLEncoded:
		return rules.rewriteForm(r)
	case mediaJSON:
		return rules.checkJSON(r)
	}
	return nil
}

// limitBody bounds the body, and refuses at once one that says that it is longer.
func limitBody(w http.ResponseWriter, r *http.Request, limit int64) error {
	if r.ContentLength > limit {
		w.Header().Set("Connection", "close") // do not read what will not be used
		return &http.MaxBytesError{Limit: limit}
	}
	r.Body = http.MaxBytesReader(w, r.Body, limit)
	return nil
}

// checkJSON reads a JSON body and refuses what decoding would let pass: text that no database can store, and anything
// after the value.
func (rules *bodyRules) checkJSON(r *http.Request) error {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return requestError(err)
	}
	if !utf8.Valid(body) {
		return signing.Invalid("", "The body is not valid UTF-8 text.")
	}
	dec := json.NewDecoder(bytes.NewReader(body))
	member, inMember := "", false // of the body: its name was read, its value comes
	for depth := 0; ; {
		token, err := dec.Token()
		if err == io.EOF && depth == 0 {
			break // an empty body is the operation's matter
		}
		if err != nil {
			return requestError(err)
		}
		switch t := token.(type) {
		case json.Delim:
			if t == '{' || t == '[' {
				depth++
			} else {
				depth--
			}
			if depth > maxJSONDepth {
				return signing.Invalid("", "The JSON is nested deeper than %d levels.", maxJSONDepth)
			}
		case string:
			switch {
			case strings.IndexByte(t, 0) >= 0:
				return signing.Invalid(pascalName(member), "The text contains a NUL character.")
			case depth == 1 && !inMember:
				member, inMember = cmp.Or(rules.form[strings.ToLower(t)], t), true
				continue
			}
		}
		if depth == 1 { // the value has ended, or the body has begun
			if text, ok := token.(string); inMember && rules.times[member] && token != nil && (!ok || !isTime(text)) {
				return signing.Invalid(pascalName(member), "This is not a time: write one like 2026-01-31T12:00:00Z.")
			}
			inMember = false
		}
		if depth == 0 {
			if rest := bytes.TrimSpace(body[dec.InputOffset():]); len(rest) > 0 {
				return signing.Invalid("", "The body has more after its JSON value, at byte %d.", dec.InputOffset())
			}
			break
		}
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	r.ContentLength = int64(len(body))
	return nil
}

// isTime reports whether the generated code reads the text as a time; an empty one is no time.
func isTime(text string) bool {
	_, err := time.Parse(time.RFC3339, text)
	return err == nil
}

// maxJSONDepth is more than any request needs.
const maxJSONDepth = 32

// mediaType returns the body's media type, one of the operation's, and normalises the header to it.
func (rules *bodyRules) mediaType(r *http.Request) (string, error) {
	header := r.Header.Get("Content-Type")
	if header == "" && !rules.required {
		header = rules.mediaTypes[0]
	}
	got, params, err := mime.ParseMediaType(header)
	if err != nil {
		return "", unsupportedMediaType(rules.mediaTypes...)
	}
	if got == "text/json" || strings.HasPrefix(got, "application/") && strings.HasSuffix(got, "+json") {
		got = mediaJSON
	}
	for _, want := range rules.mediaTypes {
		if got != want {
			continue
		}
		switch {
		case got != mediaMultipart:
			r.Header.Set("Content-Type", got)
		case params["boundary"] == "" || len(params["boundary"]) > maxBoundary:
			return "", signing.Invalid("", "The Content-Type multipart/form-data lacks a usable boundary.")
		}
		return got, nil
	}
	return "", unsupportedMediaType(rules.mediaTypes...)
}

// maxBoundary is RFC 2046's bound of 70 characters with some grace.
const maxBoundary = 200

func unsupportedMediaType(want ...string) error {
	return &transportError{
		status: http.StatusUnsupportedMediaType,
		detail: "Send the body with Content-Type " + strings.Join(want, " or ") + ".",
	}
}

// rewriteForm replaces an urlencoded body by one with canonical field names.
func (rules *bodyRules) rewriteForm(r *http.Request) error {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return requestError(err)
	}
	values, err := url.ParseQuery(string(body))
	if err != nil {
		return signing.Invalid("", "The urlencoded body is malformed.")
	}
	values, err = canonicalValues(values, rules.form)
	if err != nil {
		return err
	}
	encoded := []byte(values.Encode())
	r.Body = io.NopCloser(bytes.NewReader(encoded))
	r.ContentLength = int64(len(encoded))
	return nil
}

// canonicalValues keeps the known names, spelled canonically, with their non-empty values. Values that no database can
// store are refused.
func canonicalValues(values url.Values, canonical map[string]string) (url.Values, error) {
	out := url.Values{}
	for name, all := range values {
		known, ok := canonical[strings.ToLower(name)]
		if !ok {
			continue
		}
		for _, v := range all {
			if !isText(v) {
				return nil, signing.Invalid(pascalName(known), "The value is not valid UTF-8 text.")
			}
			if v != "" {
				out.Add(known, v)
			}
		}
	}
	return out, nil
}

// isText reports whether s is valid UTF-8 without NUL.
func isText(s string) bool { return utf8.ValidString(s) && strings.IndexByte(s, 0) < 0 }
