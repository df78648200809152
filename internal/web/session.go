package web

import (
	"crypto/rand"
	"encoding/base64"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/countersign-dev/countersign/internal/auth"
	"github.com/countersign-dev/countersign/internal/signing"
)

const (
	sessionCookie = "countersign"
	visitorCookie = "countersign-visitor"
	knownCookie   = "countersign-known" // that its user signed in in this browser before
	themeCookie   = "countersign-theme"

	tokenField  = "token"
	tokenHeader = "X-Form-Token"

	maxForm = 256 << 10 // bytes of a form without files
)

// cookieName adds the prefix by which browsers refuse the cookie unless this very host set it over HTTPS for all paths
// (RFC 6265bis, section 4.1.3.2).
func (x *exchange) cookieName(name string) string {
	if x.https() {
		return "__Host-" + name
	}
	return name
}

func (x *exchange) readCookie(name string) string {
	c, err := x.r.Cookie(x.cookieName(name))
	if err != nil {
		return ""
	}
	return c.Value
}

// setCookie sets a cookie until a time; the zero time is the end of the browser's session, an empty value removes it.
func (x *exchange) setCookie(name, value string, until time.Time) {
	c := &http.Cookie{ //nolint:gosec // Secure wherever browsers come by HTTPS
		Name: x.cookieName(name), Value: value, Path: "/", Expires: until, HttpOnly: true, Secure: x.https(), SameSite: http.SameSiteLaxMode,
	}
	if value == "" {
		c.MaxAge = -1
	}
	http.SetCookie(x.w, c)
}

// identify finds out whose session it is, if any. A session that has ended counts as none.
func (x *exchange) identify() error {
	x.visitor = x.readCookie(visitorCookie)
	cookie := x.readCookie(sessionCookie)
	if cookie == "" {
		return nil
	}
	actor, err := x.Auth.Session(x.r.Context(), cookie)
	if signing.KindOf(err) == signing.KindUnauthenticated {
		return nil
	} else if err != nil {
		return err
	}
	x.cookie, x.actor = cookie, actor
	x.organization, err = x.Signing.Organization(x.r.Context(), actor)
	return err
}

// signedIn reports whether there is a session.
func (x *exchange) signedIn() bool { return x.cookie != "" }

var errSignedOut = &pageError{
	status: http.StatusUnauthorized, title: "You are signed out",
	message: "The session has ended, so nothing was changed. Sign in again, then repeat the step.",
}

// requireMember wants a session of the organization in the path.
func (x *exchange) requireMember() error {
	if !x.signedIn() {
		return errSignedOut
	}
	id, ok := signing.ParseID(x.values["organization"])
	switch {
	case !ok:
		return signing.Errorf(signing.KindNotFound, "There is no page at this address.")
	case id != x.actor.OrganizationID:
		return &pageError{
			status: http.StatusForbidden, title: "This page belongs to another organization",
			message: "You are signed in to " + x.organization.Name + ". To open the page, sign out, then sign in to the organization that it belongs to.",
		}
	}
	return nil
}

// startSession makes the browser that of a signed-in user, and sends it where it wanted to go.
func (x *exchange) startSession(in auth.SignedIn, to string) error {
	if x.signedIn() { // as somebody else, or before: nobody can go back to that session
		if err := x.Auth.SignOut(x.r.Context(), x.cookie); err != nil {
			return err
		}
	}
	x.setCookie(sessionCookie, in.Cookie, in.Expires)
	x.setCookie(knownCookie, in.Known, in.KnownUntil)
	x.actor = in.Actor
	if to == "" {
		to = x.link()
	}
	return x.redirect(to)
}

// client describes the browser to package auth.
func (x *exchange) client() auth.Client {
	return auth.Client{Address: x.r.RemoteAddr, UserAgent: x.r.UserAgent(), Known: x.readCookie(knownCookie)}
}

// formToken returns the token for this page's forms. Before sign-in it belongs to a random visitor cookie.
func (x *exchange) formToken() string {
	if x.signedIn() {
		return x.Auth.FormToken(x.cookie)
	}
	if len(x.visitor) != 43 {
		var raw [32]byte
		rand.Read(raw[:])
		x.visitor = base64.RawURLEncoding.EncodeToString(raw[:])
		x.setCookie(visitorCookie, x.visitor, time.Time{})
	}
	return x.Auth.FormToken(x.visitor)
}

func (x *exchange) checkToken(token string) error {
	owner := x.cookie
	if !x.signedIn() {
		owner = x.visitor
	}
	if !x.Auth.CheckFormToken(owner, token) {
		return errForeign
	}
	return nil
}

// readForm reads a form without files and checks its token.
func (x *exchange) readForm() error {
	x.r.Body = http.MaxBytesReader(x.w, x.r.Body, maxForm)
	if err := x.r.ParseForm(); err != nil {
		return &pageError{status: http.StatusBadRequest, title: "The form could not be read", message: "Go back, reload the page and send the form again."}
	}
	token := x.r.Header.Get(tokenHeader)
	if token == "" {
		token = x.r.PostForm.Get(tokenField)
	}
	return x.checkToken(token)
}

// field returns a field of the form without blanks around it.
func (x *exchange) field(name string) string { return strings.TrimSpace(x.r.PostForm.Get(name)) }

// version is that of the object that a form was made from, so that nobody undoes a change that she did not see. -1, of a form
// without one, is never current.
func (x *exchange) version() int {
	n, err := strconv.Atoi(x.field("version"))
	if err != nil {
		return -1
	}
	return n
}

// themes are the choices of the theme switch.
var themes = []struct{ value, label, icon string }{
	{"auto", "As the system", "circle-half"}, {"light", "Light", "sun"}, {"dark", "Dark", "moon"},
}

func (x *exchange) theme() string {
	chosen := x.readCookie(themeCookie)
	for _, t := range themes {
		if t.value == chosen {
			return chosen
		}
	}
	return "auto"
}

// chooseTheme keeps the colours that the browser wants.
func (x *exchange) chooseTheme() error {
	for _, t := range themes {
		if t.value == x.field("theme") {
			x.setCookie(themeCookie, t.value, time.Now().AddDate(1, 0, 0))
		}
	}
	return x.redirect(x.returnTo(x.field("return")))
}

// returnTo returns an address only if it is that of one of our pages, else that of the start page.
func (x *exchange) returnTo(address string) string {
	rest, ok := strings.CutPrefix(address, x.prefix+"/Web")
	if !ok || rest != "" && rest[0] != '/' && rest[0] != '?' || strings.ContainsAny(address, "\\\r\n\t") || len(address) > 2000 {
		return x.path()
	}
	return address
}

// here is the address of this page, to return to.
func (x *exchange) here() string {
	if x.r.Method != http.MethodGet {
		return x.path()
	}
	return x.returnTo(x.prefix + x.r.URL.RequestURI())
}
