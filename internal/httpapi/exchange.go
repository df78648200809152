package httpapi

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"runtime/debug"
	"strings"
	"time"

	"github.com/countersign-dev/countersign/internal/signing"
)

// exchange is what belongs to one request and its answer. It travels in the request's context, because the generated
// strict server hands the operations nothing else.
type exchange struct {
	request *http.Request
	log     *slog.Logger // with the trace id
	traceID string       // W3C form: 00-<32 hex>-<16 hex>-00
	links   links
	actor   signing.Actor // who asks; the zero actor, who may do nothing, before authentication and on public routes
}

type exchangeKey struct{}

// exchangeOf returns the exchange that observe made for the request.
func exchangeOf(ctx context.Context) *exchange {
	return ctx.Value(exchangeKey{}).(*exchange)
}

// observe gives each request a trace id and the security headers, recovers panics, and logs one record at the end.
func observe(log *slog.Logger, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		start := time.Now()
		traceID := newTraceID(r.Header.Get("Traceparent"))
		x := &exchange{log: log.With("traceId", traceID), traceID: traceID}
		r = r.WithContext(context.WithValue(r.Context(), exchangeKey{}, x))
		x.request = r
		rec := &recorder{ResponseWriter: w}
		setSecurityHeaders(rec.Header())
		defer func() { //nolint:contextcheck // r carries the context
			cause := recover()
			err, _ := cause.(error)
			aborted := errors.Is(err, http.ErrAbortHandler)
			if cause != nil && !aborted {
				x.log.Error("panic", "panic", cause, "stack", string(debug.Stack()))
				if rec.status == 0 {
					writeProblem(rec, r, problemFor(errInternal))
				} else {
					aborted = true
				}
			}
			x.log.LogAttrs(r.Context(), slog.LevelInfo, "request",
				slog.String("method", r.Method),
				slog.String("path", truncate(r.URL.Path, 256)), // the query may hold what people typed
				slog.String("route", r.Pattern),
				slog.Int("status", rec.code()),
				slog.Int64("bytes", rec.bytes),
				slog.Duration("duration", time.Since(start)),
				slog.String("remote", r.RemoteAddr),
				slog.String("caller", string(x.actor.UserID)),
				slog.String("via", x.actor.Via),
				slog.String("userAgent", truncate(r.UserAgent(), 128)),
				slog.Bool("aborted", aborted),
			)
			if aborted {
				panic(http.ErrAbortHandler) // the answer is broken off: the client must see that
			}
		}()
		next.ServeHTTP(rec, r)
	})
}

func truncate(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return strings.ToValidUTF8(s[:n], "") + "..."
}

// newTraceID returns a trace id in W3C form (Trace Context, section 3.2.2). It continues the trace of a valid traceparent
// header, else it starts one.
func newTraceID(traceparent string) string {
	var random [24]byte
	rand.Read(random[:]) // never fails (crypto/rand)
	trace, span := hex.EncodeToString(random[:16]), hex.EncodeToString(random[16:])
	if parts := strings.Split(traceparent, "-"); len(parts) >= 4 && len(parts[0]) == 2 && parts[0] != "ff" &&
		len(parts[1]) == 32 && isLowerHex(parts[1]) && strings.Trim(parts[1], "0") != "" {
		trace = parts[1]
	}
	return "00-" + trace + "-" + span + "-00"
}

func isLowerHex(s string) bool { return strings.Trim(s, "0123456789abcdef") == "" }

// setSecurityHeaders makes answers inert in a browser. Pages that need more replace the policy.
func setSecurityHeaders(h http.Header) {
	h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'; sandbox")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Cache-Control", "no-store")
}

// recorder remembers what was answered, and names the charset of JSON as the wire contract wants.
type recorder struct {
	http.ResponseWriter
	status int
	bytes  int64
}

// WriteHeader sends the header.
func (rec *recorder) WriteHeader(status int) {
	if rec.status == 0 && status >= 200 {
		rec.status = status
		h := rec.Header()
		if ct := h.Get("Content-Type"); ct == "application/json" || ct == "application/problem+json" {
			h.Set("Content-Type", ct+"; charset=utf-8")
		}
	}
	rec.ResponseWriter.WriteHeader(status)
}

// Write sends bytes of the body.
func (rec *recorder) Write(p []byte) (int, error) {
	if rec.status == 0 {
		rec.WriteHeader(http.StatusOK)
	}
	n, err := rec.ResponseWriter.Write(p)
	rec.bytes += int64(n)
	return n, err
}

// ReadFrom sends a body from a reader and lets the connection copy files without going through memory.
func (rec *recorder) ReadFrom(src io.Reader) (int64, error) {
	if rec.status == 0 {
		rec.WriteHeader(http.StatusOK)
	}
	n, err := io.Copy(rec.ResponseWriter, src)
	rec.bytes += n
	return n, err
}

// Unwrap lets http.ResponseController reach the connection.
func (rec *recorder) Unwrap() http.ResponseWriter { return rec.ResponseWriter }

func (rec *recorder) code() int {
	if rec.status == 0 {
		return http.StatusOK
	}
	return rec.status
}
