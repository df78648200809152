package web

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"log/slog"
	"net/http"
	"net/url"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"github.com/a-h/templ"

	"github.com/countersign-dev/countersign/internal/signing"
)

// exchange is one request with its answer, and what is known about who sent it.
type exchange struct {
	*site
	w       *recorder
	r       *http.Request
	start   time.Time
	log     *slog.Logger // with the trace id
	traceID string       // W3C form: 00-<32 hex>-<16 hex>-00
	route   string
	values  map[string]string // of the path

	cookie       string        // of the session; empty without one
	actor        signing.Actor // zero without a session
	organization *signing.Organization
	visitor      string // stands for the session in form tokens before sign-in
}

// contentPolicy lets a page load from this server alone, and nothing inline. Bootstrap's form controls carry their icons
// as data: images.
const contentPolicy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; " +
	"connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"

func (s *site) begin(w http.ResponseWriter, r *http.Request) *exchange {
	h := w.Header()
	h.Set("Content-Security-Policy", contentPolicy)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY")
	h.Set("Referrer-Policy", "same-origin")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Permissions-Policy", "camera=(), geolocation=(), microphone=()")
	h.Set("Cache-Control", "no-store")
	x := &exchange{site: s, w: &recorder{ResponseWriter: w}, r: r, start: time.Now(), traceID: newTraceID(r.Header.Get("Traceparent"))}
	x.log = s.Log.With("traceId", x.traceID)
	if x.https() {
		h.Set("Strict-Transport-Security", "max-age=31536000")
	}
	return x
}

// end answers a panic and logs the exchange. It is deferred.
func (x *exchange) end() {
	cause := recover()
	aborted := cause == http.ErrAbortHandler //nolint:errorlint // recovered as it was thrown, of no known type
	if cause != nil && !aborted {
		x.log.Error("panic", "panic", cause, "stack", string(debug.Stack()))
		if aborted = x.w.status != 0; !aborted {
			x.send(http.StatusInternalServerError, "text/plain; charset=utf-8", []byte("Internal error. Trace id: "+x.traceID+"\n"))
		}
	}
	x.log.LogAttrs(x.r.Context(), slog.LevelInfo, "page",
		slog.String("method", x.r.Method),
		slog.String("route", x.route), // a path may hold an invitation's code
		slog.Int("status", x.w.status),
		slog.Int64("bytes", x.w.bytes),
		slog.Duration("duration", time.Since(x.start)),
		slog.String("remote", x.r.RemoteAddr),
		slog.String("caller", string(x.actor.UserID)),
		slog.Bool("aborted", aborted),
	)
	if aborted {
		panic(http.ErrAbortHandler) // the answer is broken off: the browser must see that
	}
}

// newTraceID returns a trace id in W3C form (Trace Context, section 3.2.2), in the trace of a valid traceparent header.
func newTraceID(traceparent string) string {
	var random [24]byte
	rand.Read(random[:]) // never fails (crypto/rand)
	trace := hex.EncodeToString(random[:16])
	if parts := strings.Split(traceparent, "-"); len(parts) >= 4 && len(parts[1]) == 32 &&
		strings.Trim(parts[1], "0123456789abcdef") == "" && strings.Trim(parts[1], "0") != "" {
		trace = parts[1]
	}
	return "00-" + trace + "-" + hex.EncodeToString(random[16:]) + "-00"
}

// recorder remembers what was answered.
type recorder struct {
	http.ResponseWriter
	status int
	bytes  int64
}

// WriteHeader sends the header.
func (rec *recorder) WriteHeader(status int) {
	if rec.status == 0 && status >= 200 {
		rec.status = status
	}
	rec.ResponseWriter.WriteHeader(status)
}

// Write sends bytes of the body.
func (rec *recorder) Write(p []byte) (int, error) {
	if rec.status == 0 {
		rec.WriteHeader(http.StatusOK)
	}
	n, err := rec.ResponseWriter.Write(p) //nolint:gosec // templ escapes what it renders; files are downloads
	rec.bytes += int64(n)
	return n, err
}

// Unwrap lets http.ResponseController reach the connection.
func (rec *recorder) Unwrap() http.ResponseWriter { return rec.ResponseWriter }

// render answers with a page. Nothing is sent before all of it is rendered, so that an error is still answered as one.
func (x *exchange) render(status int, c templ.Component) error {
	var body bytes.Buffer
	if err := c.Render(x.r.Context(), &body); err != nil {
		return err
	}
	x.send(status, "text/html; charset=utf-8", inReadingOrder(body.Bytes()))
	return nil
}

// reordering are the characters that turn the order of those around them (Unicode Bidirectional Algorithm, sections 2.1 to 2.5).
var reordering = strings.Split("\u202a \u202b \u202c \u202d \u202e \u2066 \u2067 \u2068 \u2069", " ")

// inReadingOrder puts a visible mark in the place of characters by which a name that others chose could read as another one, such
// as that of a file within an archive, or of a branch.
func inReadingOrder(body []byte) []byte {
	for _, c := range reordering {
		if bytes.Contains(body, []byte(c)) {
			body = bytes.ReplaceAll(body, []byte(c), []byte("\ufffd"))
		}
	}
	return body
}

// send answers with a whole body.
func (x *exchange) send(status int, contentType string, body []byte) {
	h := x.w.Header()
	h.Set("Content-Type", contentType)
	h.Set("Content-Length", strconv.Itoa(len(body)))
	x.w.WriteHeader(status)
	if x.r.Method != http.MethodHead {
		_, _ = x.w.Write(body) // the browser may be gone; there is nobody to tell
	}
}

// scripted reports whether one of our scripts sent the request, which wants to be told where to go instead of being sent.
func (x *exchange) scripted() bool { return x.r.Header.Get("Hx-Request") == "true" }

// redirect sends the browser to another page, with GET.
func (x *exchange) redirect(to string) error {
	if x.scripted() {
		x.w.Header().Set("Hx-Redirect", to)
		x.w.WriteHeader(http.StatusNoContent)
		return nil
	}
	x.w.Header().Set("Location", to)
	x.w.WriteHeader(http.StatusSeeOther)
	return nil
}

// https reports whether browsers reach the pages by HTTPS.
func (x *exchange) https() bool {
	if x.PublicURL != nil {
		return x.PublicURL.Scheme == "https"
	}
	return x.r.TLS != nil
}

// origin returns the address of the server as browsers see it, without a slash at the end.
func (x *exchange) origin() string {
	if u := x.PublicURL; u != nil {
		return u.Scheme + "://" + u.Host + x.prefix
	}
	u := url.URL{Scheme: "http", Host: x.r.Host}
	if x.https() {
		u.Scheme = "https"
	}
	return u.String()
}

// site-wide and organization-wide addresses, with escaped segments.

func (x *exchange) path(segments ...string) string {
	var b strings.Builder
	b.WriteString(x.prefix + "/Web")
	for _, s := range segments {
		b.WriteString("/" + url.PathEscape(s))
	}
	return b.String()
}

func (x *exchange) link(segments ...string) string {
	return x.path(append([]string{string(x.actor.OrganizationID)}, segments...)...)
}

func (x *exchange) requestLink(id signing.ID, part ...string) string {
	return x.link(append([]string{"SigningRequests", string(id)}, part...)...)
}

func (x *exchange) policyLink(project, policy string) string {
	return x.link("Projects", project, "SigningPolicies", policy)
}

func withQuery(path string, pairs ...string) string {
	q := url.Values{}
	for i := 0; i+1 < len(pairs); i += 2 {
		if pairs[i+1] != "" {
			q.Set(pairs[i], pairs[i+1])
		}
	}
	if len(q) == 0 {
		return path
	}
	return path + "?" + q.Encode()
}
