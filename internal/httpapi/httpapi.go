// Package httpapi serves the REST API: it implements the contract of package api on top of the domain, in the dialect
// that the public clients of the wire contract speak.
//
// A request passes, from the outside in: the exchange (trace id, access log, panic recovery, security headers), the router
// (paths without regard to case, below /Api or not), the contract's body rules (query names, content type, size), the
// generated strict server, and the operation. Every failure, wherever it arises, is rendered by writeError as problem
// details (RFC 9457).
package httpapi

import (
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/countersign-dev/countersign/api"
	"github.com/countersign-dev/countersign/internal/signing"
)

// Options configure the API. Log must be set; the other fields have usable zero values.
type Options struct {
	// Log receives one record per request and the causes of internal errors. Tokens and bodies never get there.
	Log *slog.Logger
	// PublicURL is the address at which clients reach the server, without /Api: "https://sign.example.com" or with a path
	// before a reverse proxy. Links begin with it. When nil they begin with scheme and host of the request.
	PublicURL *url.URL
	// MaxArtifactBytes bounds an uploaded artifact; 0 means DefaultMaxArtifactBytes.
	MaxArtifactBytes int64
	// Fallback serves the paths that are not the API's; nil answers 404.
	Fallback http.Handler
}

// DefaultMaxArtifactBytes is the largest artifact when the options say nothing: 4 GiB.
const DefaultMaxArtifactBytes = 4 << 30

// maxHeaderBytes bounds a request's header. Tokens and traces need far less.
const maxHeaderBytes = 64 << 10

// guard makes the actor for a request about an organization.
type guard interface {
	authenticate(r *http.Request) (signing.Actor, error)
}

// NewHandler mounts the operations at /Api/v1 and /v1, with the health check and Swagger UI beside them. It fails only
// when the embedded contract and the generated code do not match. Operations of [New] authenticate every request that the
// contract does not make public, before anything of its body is read.
func NewHandler(operations api.StrictServerInterface, o Options) (http.Handler, error) {
	if o.MaxArtifactBytes == 0 {
		o.MaxArtifactBytes = DefaultMaxArtifactBytes
	}
	c, err := parseContract(api.OpenAPI)
	if err != nil {
		return nil, fmt.Errorf("read the API's contract: %w", err)
	}
	rt := newRouter(o.PublicURL)
	strict := api.NewStrictHandlerWithOptions(operations, nil, api.StrictHTTPServerOptions{
		RequestErrorHandlerFunc:  writeRequestError,
		ResponseErrorHandlerFunc: writeError,
	})
	api.HandlerWithOptions(strict, api.StdHTTPServerOptions{
		BaseRouter:       contractRouter{router: rt, contract: c, guard: guardOf(operations), maxArtifactBytes: o.MaxArtifactBytes},
		ErrorHandlerFunc: writeRequestError,
	})
	if err := addSwagger(rt, o.PublicURL); err != nil {
		return nil, err
	}
	fallback := o.Fallback
	if fallback == nil {
		fallback = observe(o.Log, http.HandlerFunc(writeNoRoute))
	}
	inner := observe(o.Log, rt)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if rt.owns(r.URL.EscapedPath()) {
			inner.ServeHTTP(w, r)
			return
		}
		fallback.ServeHTTP(w, r)
	}), nil
}

// NewServer returns an HTTP server for the handler with the bounds that a server on an open network needs. Bodies have no
// time limit of their own: an artifact of gigabytes may take its time.
func NewServer(h http.Handler, log *slog.Logger) *http.Server {
	return &http.Server{
		Handler:           linger(h),
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    maxHeaderBytes,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
}

// contractRouter is the router as the generated code registers its operations: each with the body rules that the
// contract gives it.
type contractRouter struct {
	*router
	contract         contract
	guard            guard
	maxArtifactBytes int64
}

// nobody is the guard of operations that know no callers: the actor is the zero one, who may do nothing.
type nobody struct{}

func (nobody) authenticate(*http.Request) (signing.Actor, error) { return signing.Actor{}, nil }

func guardOf(operations api.StrictServerInterface) guard {
	if g, ok := operations.(guard); ok {
		return g
	}
	return nobody{}
}

// HandleFunc registers one operation of the contract, behind its guard and its body rules.
func (c contractRouter) HandleFunc(pattern string, operation func(http.ResponseWriter, *http.Request)) {
	rules, ok := c.contract[pattern]
	if !ok {
		panic("httpapi: the generated code has an operation that the contract lacks: " + pattern)
	}
	handler := func(w http.ResponseWriter, r *http.Request) {
		if !rules.public {
			actor, err := c.guard.authenticate(r)
			if err != nil {
				writeError(w, r, err)
				return
			}
			exchangeOf(r.Context()).actor = actor
		}
		if err := rules.apply(w, r, c.maxArtifactBytes); err != nil {
			writeError(w, r, err)
			return
		}
		operation(w, r)
	}
	c.router.HandleFunc(pattern, handler)
	for _, old := range oldSpellings(pattern) {
		c.router.HandleFunc(old, handler)
	}
}

// renamed are the last segments of routes under their old names, which clients may still send.
var renamed = map[string]string{
	"CreateSelfSignedX509":    "CreateSelfSigned",
	"CreateCsrBasedX509":      "CreateCsrBased",
	"UploadX509Certificate":   "UploadCertificate",
	"TrustedBuildSystemLinks": "TrustedBuildSystemLink",
}

// oldSpellings returns the patterns by which an operation was reached earlier: under another name, and for an edit as PATCH
// below v1-pre (wire contract, sections 1 and 11). What was deprecated before this API began is not in the contract.
func oldSpellings(pattern string) []string {
	var old []string
	front, last := pattern[:strings.LastIndexByte(pattern, '/')+1], pattern[strings.LastIndexByte(pattern, '/')+1:]
	if name, ok := renamed[last]; ok {
		old = append(old, front+name)
	}
	if path, ok := strings.CutPrefix(pattern, "POST /v1/"); ok && (last == "Edit" || last == "EditXml") {
		old = append(old, "PATCH /v1-pre/"+path)
	}
	if strings.HasSuffix(pattern, "/{signingPolicySlug}/Edit") { // the original's changelog names it both ways
		old = append(old, strings.TrimSuffix(pattern, "/Edit"))
	}
	return old
}
