// Package web serves the pages: HTML rendered on the server, for a browser with or without scripts.
//
// A request passes, from the outside in: the exchange (trace id, access log, panic recovery, security headers), the route
// (paths without regard to case, below /Web), the session or the redirect to the sign-in page, the check that a form comes
// from one of our own pages, and the handler. A handler asks the domain and renders a page, or redirects after a change.
// Every failure, wherever it arises, is rendered by exchange.fail.
package web

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strings"

	"github.com/countersign-dev/countersign/internal/auth"
	"github.com/countersign-dev/countersign/internal/signing"
)

// Config is what the pages are made of. Signing and Auth are required.
type Config struct {
	Signing *signing.Service
	Auth    *auth.Service
	// PublicURL is the address at which browsers reach the server: "https://sign.example.com", or with a path before a
	// reverse proxy that removes it. Nil: the pages are at the root, and what they show of their own address is taken
	// from the request.
	PublicURL *url.URL
	Log       *slog.Logger // nil: discard
	Version   string       // shown in the footer
}

// site is all that requests share.
type site struct {
	Config
	prefix  string // path of the public URL, without a slash at the end
	bundle  *bundle
	foreign *http.CrossOriginProtection
}

// New makes the handler of the pages. It serves "/" and everything below "/Web", and answers what it does not know with a
// page. It fails when the public URL cannot be that of pages.
func New(c Config) (http.Handler, error) {
	if c.Signing == nil || c.Auth == nil {
		return nil, errors.New("web: Config.Signing and Config.Auth are required")
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	s := &site{Config: c, foreign: http.NewCrossOriginProtection()}
	if u := c.PublicURL; u != nil {
		if u.Scheme != "https" && u.Scheme != "http" || u.Host == "" {
			return nil, fmt.Errorf("web: the public URL %q is not of the form https://host[:port][/path]", u)
		}
		s.prefix = strings.TrimRight(u.EscapedPath(), "/")
		if err := s.foreign.AddTrustedOrigin(u.Scheme + "://" + u.Host); err != nil {
			return nil, fmt.Errorf("web: the public URL %q: %w", u, err)
		}
	}
	var err error
	if s.bundle, err = loadBundle(); err != nil {
		return nil, fmt.Errorf("web: read the embedded assets: %w", err)
	}
	return http.HandlerFunc(s.serve), nil
}

// access says what a route asks of the browser before its handler runs.
type access int

const (
	public   access = iota // the same for all: the session is not even looked up
	anyone                 // no session needed
	member                 // a session of the organization in the path
	uploader               // as member, but the handler reads the body, with the form token in it, as a stream
)

// route is one page or action. A segment in braces stands for any one segment.
type route struct {
	method   string
	segments []string
	access   access
	handle   func(*exchange) error
}

func at(method, path string, a access, handle func(*exchange) error) route {
	return route{method: method, segments: strings.Split(path, "/")[1:], access: a, handle: handle}
}

// routes lists all pages and actions. The first match counts, so that words stand before what stands for any word.
var routes = []route{
	at("GET", "/", anyone, (*exchange).home),
	at("GET", "/favicon.ico", anyone, (*exchange).icon),
	at("GET", "/Web", anyone, (*exchange).home),
	at("GET", "/Web/assets/{version}/{file}", public, (*exchange).asset),
	at("GET", "/Web/SignIn", anyone, (*exchange).signInPage),
	at("POST", "/Web/SignIn", anyone, (*exchange).signIn),
	at("POST", "/Web/SignIn/Organization", anyone, (*exchange).chooseOrganization),
	at("POST", "/Web/SignIn/Passkey/Begin", anyone, (*exchange).beginPasskeySignIn),
	at("POST", "/Web/SignIn/Passkey", anyone, (*exchange).signInWithPasskey),
	at("POST", "/Web/SignOut", anyone, (*exchange).signOut),
	at("POST", "/Web/Theme", anyone, (*exchange).chooseTheme),
	at("GET", "/Web/Invitation/{code}", anyone, (*exchange).invitationPage),
	at("POST", "/Web/Invitation/{code}", anyone, (*exchange).acceptInvitation),
	at("POST", "/Web/Invitation/{code}/Begin", anyone, (*exchange).beginInvitedPasskey),

	at("GET", "/Web/{organization}", member, (*exchange).dashboard),
	at("GET", "/Web/{organization}/Submit", member, (*exchange).submitPage),
	at("POST", "/Web/{organization}/Submit", uploader, (*exchange).submit),
	at("GET", "/Web/{organization}/SigningRequests", member, (*exchange).requestList),
	at("GET", "/Web/{organization}/SigningRequests/{request}", member, (*exchange).requestPage),
	at("GET", "/Web/{organization}/SigningRequests/{request}/Report", member, (*exchange).reportPage),
	at("GET", "/Web/{organization}/SigningRequests/{request}/Events", member, (*exchange).events),
	at("GET", "/Web/{organization}/SigningRequests/{request}/UnsignedArtifact", member, (*exchange).downloadUnsigned),
	at("GET", "/Web/{organization}/SigningRequests/{request}/SignedArtifact", member, (*exchange).downloadSigned),
	at("GET", "/Web/{organization}/SigningRequests/{request}/BuildSettingsFile", member, (*exchange).downloadBuildSettings),
	at("GET", "/Web/{organization}/SigningRequests/{request}/{action}", member, (*exchange).actionPage),
	at("POST", "/Web/{organization}/SigningRequests/{request}/{action}", member, (*exchange).act),
	at("GET", "/Web/{organization}/Projects", member, (*exchange).projectList),
	at("GET", "/Web/{organization}/Projects/{project}", member, (*exchange).projectPage),
	at("GET", "/Web/{organization}/Projects/{project}/SigningPolicies/{policy}", member, (*exchange).policyPage),
	at("GET", "/Web/{organization}/Webhooks", member, (*exchange).webhookList),
	at("GET", "/Web/{organization}/Webhooks/New", member, (*exchange).newWebhookPage),
	at("POST", "/Web/{organization}/Webhooks/New", member, (*exchange).createWebhook),
	at("GET", "/Web/{organization}/Webhooks/{webhook}", member, (*exchange).webhookPage),
	at("GET", "/Web/{organization}/Webhooks/{webhook}/Edit", member, (*exchange).editWebhookPage),
	at("POST", "/Web/{organization}/Webhooks/{webhook}/Edit", member, (*exchange).editWebhook),
	at("GET", "/Web/{organization}/Webhooks/{webhook}/Delete", member, (*exchange).deleteWebhookPage),
	at("POST", "/Web/{organization}/Webhooks/{webhook}/{step}", member, (*exchange).webhookStep),
	at("GET", "/Web/{organization}/Account", member, (*exchange).accountPage),
	at("POST", "/Web/{organization}/Account/Password", member, (*exchange).changePassword),
	at("POST", "/Web/{organization}/Account/Sessions", member, (*exchange).revokeSession),
	at("POST", "/Web/{organization}/Account/Tokens", member, (*exchange).issueToken),
	at("POST", "/Web/{organization}/Account/Tokens/Regenerate", member, (*exchange).regenerateToken),
	at("POST", "/Web/{organization}/Account/Tokens/Revoke", member, (*exchange).revokeToken),
	at("POST", "/Web/{organization}/Account/Notifications", member, (*exchange).chooseNotifications),
	at("POST", "/Web/{organization}/Account/Passkeys/Begin", member, (*exchange).beginPasskey),
	at("POST", "/Web/{organization}/Account/Passkeys", member, (*exchange).addPasskey),
	at("POST", "/Web/{organization}/Account/Passkeys/Remove", member, (*exchange).removePasskey),
}

// find returns the route for a request and the values of its path. other is true when only the method is wrong.
func find(method, path string) (found *route, values map[string]string, other bool) {
	if method == http.MethodHead {
		method = http.MethodGet
	}
	if len(path) > 1 {
		path = strings.TrimSuffix(path, "/")
	}
	segments := strings.Split(path, "/")[1:]
	for i := range routes {
		values, ok := routes[i].match(segments)
		switch {
		case !ok:
		case routes[i].method == method:
			return &routes[i], values, false
		default:
			other = true
		}
	}
	return nil, nil, other
}

func (r *route) match(segments []string) (map[string]string, bool) {
	if len(segments) != len(r.segments) {
		return nil, false
	}
	values := map[string]string{}
	for i, want := range r.segments {
		if name, ok := strings.CutPrefix(want, "{"); ok && segments[i] != "" {
			values[strings.TrimSuffix(name, "}")] = segments[i]
		} else if !strings.EqualFold(want, segments[i]) {
			return nil, false
		}
	}
	return values, true
}

// serve answers one request.
//
//nolint:contextcheck // the exchange holds the request, and with it the context
func (s *site) serve(w http.ResponseWriter, r *http.Request) {
	x := s.begin(w, r)
	defer x.end()
	if err := x.run(); err != nil {
		x.fail(err)
	}
}

// run lets the route's handler answer when the browser may use it.
func (x *exchange) run() error {
	rt, values, other := find(x.r.Method, x.r.URL.Path)
	if rt != nil {
		x.values, x.route = values, "/"+strings.Join(rt.segments, "/")
	}
	if rt != nil && rt.access == public {
		return rt.handle(x)
	}
	if err := x.identify(); err != nil {
		return err
	}
	switch {
	case rt == nil && other:
		return &pageError{status: http.StatusMethodNotAllowed, title: "This address does not take that", message: "Go back and use the page's own buttons."}
	case rt == nil:
		return signing.Errorf(signing.KindNotFound, "There is no page at this address.")
	}
	if rt.method == http.MethodPost && x.foreign.Check(x.r) != nil {
		return errForeign
	}
	if rt.access != anyone {
		if err := x.requireMember(); err != nil {
			return err
		}
	}
	if rt.method == http.MethodPost && rt.access != uploader {
		if err := x.readForm(); err != nil {
			return err
		}
	}
	return rt.handle(x)
}
