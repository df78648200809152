package httpapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/countersign-dev/countersign/api"
	"github.com/countersign-dev/countersign/internal/auth"
	"github.com/countersign-dev/countersign/internal/signing"
)

// transportError is a failure of HTTP itself, which the domain has no kind for.
type transportError struct {
	status int
	detail string
}

// Error returns the detail.
func (e *transportError) Error() string { return e.detail }

// errInternal stands for everything whose cause users must not see.
var errInternal = errors.New("internal error")

// statusClientClosed is the conventional status in access logs for a client that went away before the answer.
const statusClientClosed = 499

// problemTypes are the type URIs by status: the section of RFC 9110 (RFC 6585 for 429) that defines it.
var problemTypes = map[int]string{
	http.StatusBadRequest:                   "https://tools.ietf.org/html/rfc9110#section-15.5.1",
	http.StatusUnauthorized:                 "https://tools.ietf.org/html/rfc9110#section-15.5.2",
	http.StatusForbidden:                    "https://tools.ietf.org/html/rfc9110#section-15.5.4",
	http.StatusNotFound:                     "https://tools.ietf.org/html/rfc9110#section-15.5.5",
	http.StatusMethodNotAllowed:             "https://tools.ietf.org/html/rfc9110#section-15.5.6",
	http.StatusConflict:                     "https://tools.ietf.org/html/rfc9110#section-15.5.10",
	http.StatusRequestEntityTooLarge:        "https://tools.ietf.org/html/rfc9110#section-15.5.14",
	http.StatusUnsupportedMediaType:         "https://tools.ietf.org/html/rfc9110#section-15.5.16",
	http.StatusRequestedRangeNotSatisfiable: "https://tools.ietf.org/html/rfc9110#section-15.5.17",
	http.StatusTooManyRequests:              "https://tools.ietf.org/html/rfc6585#section-4",
	http.StatusInternalServerError:          "https://tools.ietf.org/html/rfc9110#section-15.6.1",
	http.StatusServiceUnavailable:           "https://tools.ietf.org/html/rfc9110#section-15.6.4",
}

// statusOfKind renders the domain's kinds. Deleted bytes answer 404 as unknown ones do (wire contract, section 5.4).
var statusOfKind = map[signing.Kind]int{
	signing.KindInvalid:         http.StatusBadRequest,
	signing.KindUnauthenticated: http.StatusUnauthorized,
	signing.KindForbidden:       http.StatusForbidden,
	signing.KindNotFound:        http.StatusNotFound,
	signing.KindConflict:        http.StatusConflict,
	signing.KindTooLarge:        http.StatusRequestEntityTooLarge,
	signing.KindUnavailable:     http.StatusServiceUnavailable,
	signing.KindGone:            http.StatusNotFound,
}

const validationTitle = "One or more validation errors occurred."

// problemFor turns an error into problem details without a trace id. Errors of no known type become a bare 500.
func problemFor(err error) api.Problem {
	var (
		domain    *signing.Error
		transport *transportError
		tooLarge  *http.MaxBytesError
		limited   *auth.RateLimitError
	)
	p := api.Problem{Status: http.StatusInternalServerError}
	switch {
	case errors.As(err, &limited):
		p.Status, p.Detail = http.StatusTooManyRequests, limited.Error()
		if errors.As(err, &domain) {
			p.Detail = domain.Message
		}
	case errors.As(err, &domain) && statusOfKind[domain.Kind] != 0:
		p.Status, p.Detail = statusOfKind[domain.Kind], domain.Message
		if len(domain.Fields) > 0 {
			p.Title, p.Errors = validationTitle, domain.Fields
			if domain.Message == "" || domain.Message == validationTitle {
				p.Detail = fieldMessages(domain.Fields)
			}
		}
	case errors.As(err, &transport):
		p.Status, p.Detail = transport.status, transport.detail
	case errors.As(err, &tooLarge):
		p.Status = http.StatusRequestEntityTooLarge
		p.Detail = fmt.Sprintf("The request's body is larger than the limit of %d bytes.", tooLarge.Limit)
	}
	p.Type = problemTypes[p.Status]
	if p.Title == "" {
		p.Title = http.StatusText(p.Status)
	}
	return p
}

// fieldMessages joins the messages for clients that show nothing but the detail.
func fieldMessages(fields map[string][]string) string {
	var all []string
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		all = append(all, fields[name]...)
	}
	return strings.Join(all, " ")
}

// writeError answers with the problem that an error stands for, and logs the cause of internal ones.
func writeError(w http.ResponseWriter, r *http.Request, err error) {
	x := exchangeOf(r.Context())
	if r.Context().Err() != nil && errors.Is(err, context.Canceled) {
		w.WriteHeader(statusClientClosed)
		return
	}
	p := problemFor(err)
	if limited := (*auth.RateLimitError)(nil); errors.As(err, &limited) {
		w.Header().Set("Retry-After", strconv.Itoa(max(1, int(limited.RetryAfter.Seconds()))))
	}
	switch {
	case p.Status == http.StatusInternalServerError:
		x.log.Error("internal error", "error", err)
	case p.Status == http.StatusServiceUnavailable:
		x.log.Warn("unavailable", "error", err)
	default:
		x.log.Debug("refused", "error", err)
	}
	writeProblem(w, r, p)
}

// writeProblem answers with problem details. An answer that has already begun is broken off instead.
func writeProblem(w http.ResponseWriter, r *http.Request, p api.Problem) {
	if rec, ok := w.(*recorder); ok && rec.status != 0 {
		panic(http.ErrAbortHandler)
	}
	p.TraceID = exchangeOf(r.Context()).traceID
	body, err := json.Marshal(p)
	if err != nil { // strings, numbers and maps of strings: cannot happen
		panic(err)
	}
	h := w.Header()
	for _, name := range []string{"Content-Disposition", "Content-Encoding", "Etag", "Last-Modified", "Location"} {
		h.Del(name)
	}
	switch p.Status {
	case http.StatusUnauthorized:
		h.Set("WWW-Authenticate", `Bearer realm="Countersign"`)
	case http.StatusServiceUnavailable:
		h.Set("Retry-After", "5")
	}
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Type", "application/problem+json; charset=utf-8")
	h.Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(p.Status)
	w.Write(body) // the client may be gone; there is nobody to tell
}

func writeNoRoute(w http.ResponseWriter, r *http.Request) {
	writeError(w, r, &transportError{
		status: http.StatusNotFound,
		detail: fmt.Sprintf("There is no such address: %s. The API's documentation is at /Api/swagger.", truncate(r.URL.EscapedPath(), 200)),
	})
}

// writeRequestError answers failures of the generated code to read parameters and bodies. They are the client's.
func writeRequestError(w http.ResponseWriter, r *http.Request, err error) {
	writeError(w, r, requestError(err))
}

// requestError names the field in what the generated code reports.
func requestError(err error) error {
	var (
		domain     *signing.Error
		tooLarge   *http.MaxBytesError
		format     *api.InvalidParamFormatError
		missing    *api.RequiredParamError
		tooMany    *api.TooManyValuesForParamError
		jsonType   *json.UnmarshalTypeError
		jsonSyntax *json.SyntaxError
	)
	switch {
	case errors.As(err, &domain), errors.As(err, &tooLarge):
		return err
	case errors.As(err, &format):
		return signing.Invalid(pascalName(format.ParamName), "The value is not valid.")
	case errors.As(err, &missing):
		return signing.Invalid(pascalName(missing.ParamName), "The value is missing.")
	case errors.As(err, &tooMany):
		return signing.Invalid(pascalName(tooMany.ParamName), "The value is given more than once.")
	case errors.As(err, &jsonType):
		return signing.Invalid(pascalName(jsonType.Field), "The value must not be a JSON %s.", jsonType.Value)
	case errors.As(err, &jsonSyntax):
		return signing.Invalid("", "The body is not valid JSON at byte %d: %s.", jsonSyntax.Offset, jsonSyntax)
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return signing.Invalid("", "The body ends too early.")
	case errors.Is(err, http.ErrNotMultipart):
		return unsupportedMediaType("multipart/form-data")
	}
	return signing.Invalid("", "The request could not be read.")
}

// pascalName spells a request field as error keys are spelled: "origin.buildData.url" becomes "Origin.BuildData.Url".
func pascalName(name string) string {
	parts := strings.Split(name, ".")
	for i, p := range parts {
		if p != "" && p[0] >= 'a' && p[0] <= 'z' {
			parts[i] = string(p[0]-'a'+'A') + p[1:]
		}
	}
	return strings.Join(parts, ".")
}
