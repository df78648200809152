package httpapi

import (
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"path"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/countersign-dev/countersign/api"
	"github.com/countersign-dev/countersign/internal/signing"
)

// The bounds of a form. File contents are bounded by the body's size alone.
const (
	maxParts       = 1000
	maxFieldName   = 256      // bytes
	maxFieldBytes  = 1 << 20  // one text field; an artifact configuration is the longest
	maxFormText    = 4 << 20  // all text fields
	maxPartHeader  = 16 << 10 // names and values of one part's header; the reader itself stops at 10 MiB
	maxFileNameLen = 255      // bytes
)

// form is what a multipart form holds besides its files.
type form struct {
	fields     map[string]string // by lower-case name; never empty values
	parameters map[string]string // user-defined parameters by their own name
	files      map[string]bool   // lower-case names of the file fields that were there
}

// filePart describes a file of a form.
type filePart struct {
	field string // the field's canonical name, as the key of the sink
	name  string // file name without a path, cleaned; "artifact" when nothing usable is left
}

// fileSink takes a file's bytes while they arrive. The reader is of no use after it returned.
type fileSink func(file filePart, content io.Reader) error

// readForm reads a multipart form to its end. Field names match without regard to case and in any order. A file goes to
// the sink of its field, at once; files of other fields are skipped. A field that has a sink must be a file, and may come
// once. An empty value is an absent field.
//
// Errors are those of a sink, unchanged; *http.MaxBytesError when the body is over its limit; else *signing.Error of
// KindInvalid.
func readForm(mr *multipart.Reader, sinks map[string]fileSink) (*form, error) {
	f := &form{fields: map[string]string{}, parameters: map[string]string{}, files: map[string]bool{}}
	byName := map[string]string{}
	for name := range sinks {
		byName[strings.ToLower(name)] = name
	}
	textLeft := maxFormText
	for parts := 0; ; parts++ {
		part, err := mr.NextPart()
		if err == io.EOF { //nolint:errorlint // it is wrapped when the body ends before its closing boundary
			return f, nil
		}
		if err != nil {
			return nil, multipartError(err)
		}
		if parts == maxParts {
			return nil, signing.Invalid("", "The form has more than %d parts.", maxParts)
		}
		head, err := readPartHead(part)
		if err != nil {
			return nil, err
		}
		sinkName, isFileField := byName[strings.ToLower(head.name)]
		switch {
		case head.isFile && isFileField:
			err = f.readFile(part, filePart{field: sinkName, name: head.fileName}, sinks[sinkName])
		case head.isFile:
			_, err = io.Copy(io.Discard, part)
			err = multipartError(err)
		case isFileField && !head.isEmptyFile:
			err = signing.Invalid(pascalName(sinkName), "The field must be a file: send it with a file name.")
		default:
			var n int
			n, err = f.readText(part, head.name, textLeft)
			textLeft -= n
		}
		if err != nil {
			return nil, err
		}
	}
}

// partHead is what a part says about itself.
type partHead struct {
	name, fileName string
	isFile         bool
	isEmptyFile    bool // a file input of a page without a chosen file: a file part with an empty name
}

// readPartHead reads Content-Disposition (RFC 7578, section 4.2) in the clients' dialects: quoted and bare names,
// filename* (RFC 8187) before filename, and file names encoded as in mail headers (RFC 2047).
func readPartHead(part *multipart.Part) (partHead, error) {
	size := 0
	for name, values := range part.Header {
		for _, v := range values {
			size += len(name) + len(v)
		}
	}
	if size > maxPartHeader {
		return partHead{}, signing.Invalid("", "The header of a form part is longer than %d bytes.", maxPartHeader)
	}
	disposition, params, err := mime.ParseMediaType(part.Header.Get("Content-Disposition"))
	if err != nil || disposition != "form-data" {
		return partHead{}, signing.Invalid("", "A form part has no valid Content-Disposition header.")
	}
	h := partHead{name: params["name"]}
	if !validFieldName(h.name) {
		return partHead{}, signing.Invalid("", "A form part has no valid field name: 1 to %d printable characters.", maxFieldName)
	}
	fileName, given := params["filename"] // ParseMediaType lets filename* win
	h.isFile = given && fileName != ""
	h.isEmptyFile = given && fileName == ""
	h.fileName = cleanFileName(fileName)
	return h, nil
}

func validFieldName(name string) bool {
	return name != "" && len(name) <= maxFieldName && utf8.ValidString(name) && !strings.ContainsFunc(name, unicode.IsControl)
}

// cleanFileName keeps the last path element of a client's file name, without control characters and in bounds.
func cleanFileName(name string) string {
	if strings.HasPrefix(name, "=?") {
		if decoded, err := new(mime.WordDecoder).DecodeHeader(name); err == nil {
			name = decoded
		}
	}
	name = strings.ToValidUTF8(name, "_")
	name = path.Base(strings.ReplaceAll(name, `\`, "/"))
	name = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) {
			return -1
		}
		return r
	}, name)
	if len(name) > maxFileNameLen { // keep the extension: it says what the file is
		ext := path.Ext(name)
		if len(ext) > 32 {
			ext = ""
		}
		name = strings.ToValidUTF8(name[:maxFileNameLen-len(ext)], "") + ext
	}
	if strings.Trim(name, ". /") == "" {
		return "artifact"
	}
	return name
}

func (f *form) readFile(part *multipart.Part, file filePart, sink fileSink) error {
	key := strings.ToLower(file.field)
	if f.files[key] {
		return signing.Invalid(pascalName(file.field), "The file is given more than once.")
	}
	f.files[key] = true
	content := &partReader{part: part}
	if err := sink(file, content); err != nil {
		if content.err != nil {
			return multipartError(content.err)
		}
		return err
	}
	_, err := io.Copy(io.Discard, content)
	return multipartError(err)
}

// partReader remembers a failure to read, so that it is told from a failure of the sink.
type partReader struct {
	part *multipart.Part
	err  error
}

// Read reads the part's content.
func (p *partReader) Read(b []byte) (int, error) {
	n, err := p.part.Read(b)
	if err != nil && !errors.Is(err, io.EOF) {
		p.err = err
	}
	return n, err
}

// readText reads a text field and returns its length.
func (f *form) readText(part *multipart.Part, name string, textLeft int) (int, error) {
	limit := min(maxFieldBytes, textLeft)
	raw, err := io.ReadAll(io.LimitReader(part, int64(limit)+1))
	switch {
	case err != nil:
		return 0, multipartError(err)
	case len(raw) > limit:
		return 0, signing.Invalid(pascalName(name), "The value is too long: a field holds at most %d bytes, all fields %d.",
			maxFieldBytes, maxFormText)
	case !isText(string(raw)):
		return 0, signing.Invalid(pascalName(name), "The value is not valid UTF-8 text.")
	}
	target, key := f.fields, strings.ToLower(name)
	if parameter, ok := parameterName(name); ok {
		if parameter == "" {
			return 0, signing.Invalid("Parameters", "A parameter has no name: send it as parameters.NAME.")
		}
		target, key = f.parameters, parameter
	} else if len(raw) == 0 {
		return 0, nil
	}
	if before, ok := target[key]; ok && before != string(raw) {
		return 0, signing.Invalid(pascalName(name), "The field is given more than once, with different values.")
	}
	target[key] = string(raw)
	return len(raw), nil
}

// parameterName returns the name of a user-defined parameter, which is sent as parameters.NAME or Parameters[NAME]. The
// name may hold dots and keeps its case.
func parameterName(field string) (string, bool) {
	const word = "parameters"
	if len(field) <= len(word) || !strings.EqualFold(field[:len(word)], word) {
		return "", false
	}
	rest := field[len(word):]
	switch {
	case rest[0] == '.':
		return rest[1:], true
	case rest[0] == '[' && rest[len(rest)-1] == ']':
		return rest[1 : len(rest)-1], true
	}
	return "", false
}

// text returns a field's value, or "" when it is absent or empty.
func (f *form) text(name string) string { return f.fields[strings.ToLower(name)] }

// hasFile reports whether the file field was there.
func (f *form) hasFile(name string) bool { return f.files[strings.ToLower(name)] }

// boolean reads true or false in any case; an absent field is false.
func (f *form) boolean(name string) (bool, error) {
	switch v := f.text(name); {
	case v == "", strings.EqualFold(v, "false"):
		return false, nil
	case strings.EqualFold(v, "true"):
		return true, nil
	}
	return false, signing.Invalid(pascalName(name), "The value must be true or false.")
}

// number reads a whole number from 0 to max; an absent field is 0.
func (f *form) number(name string, max int) (int, error) {
	v := f.text(name)
	if v == "" {
		return 0, nil
	}
	n, err := strconv.Atoi(v)
	if err != nil || n < 0 || n > max {
		return 0, signing.Invalid(pascalName(name), "The value must be a whole number from 0 to %d.", max)
	}
	return n, nil
}

// id reads a GUID; an absent field is the empty id.
func (f *form) id(name string) (signing.ID, error) { return parseID(name, f.text(name)) }

// parseID reads the GUID in a request field; an empty value is the empty id.
func parseID(field, value string) (signing.ID, error) {
	if value == "" {
		return "", nil
	}
	id, ok := signing.ParseID(value)
	if !ok {
		return "", signing.Invalid(pascalName(field), "The value must be a GUID.")
	}
	return id, nil
}

// multipartError words a failure to read a multipart body; nil stays nil.
func multipartError(err error) error {
	var tooLarge *http.MaxBytesError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &tooLarge):
		return err
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return fmt.Errorf("%w (%w)", signing.Invalid("", "The multipart body ends before its closing boundary."), err)
	}
	return fmt.Errorf("%w (%w)", signing.Invalid("", "The multipart body is malformed."), err)
}

// readResubmit reads the body of Resubmit in each of its encodings.
func readResubmit(r api.ResubmitSigningRequestRequestObject) (api.Resubmit, error) {
	switch {
	case r.JSONBody != nil:
		return *r.JSONBody, nil
	case r.FormdataBody != nil:
		return *r.FormdataBody, nil
	}
	f, err := readForm(r.MultipartBody, nil)
	if err != nil {
		return api.Resubmit{}, err
	}
	timeout, err := f.number(fieldTimeout, maxTimeoutSeconds)
	if err != nil {
		return api.Resubmit{}, err
	}
	current, err := f.boolean("currentSettings")
	if err != nil {
		return api.Resubmit{}, err
	}
	return api.Resubmit{
		OriginalSigningRequestID:     f.text("originalSigningRequestId"),
		SigningPolicySlug:            f.text("signingPolicySlug"),
		SigningPolicyID:              f.text("signingPolicyId"),
		Description:                  f.text("description"),
		CancellationTimeoutInSeconds: timeout,
		CurrentSettings:              current,
	}, nil
}
