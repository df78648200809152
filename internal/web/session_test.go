package web

import (
	"net/http"
	"net/url"
	"testing"

	"github.com/countersign-dev/countersign/internal/auth"
	"github.com/countersign-dev/countersign/internal/signing"
)

// TestSessionIsNew: who signs in gets a cookie that nobody could have planted, and who signs in again leaves no session behind.
func TestSessionIsNew(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	b := w.browser(t, signing.Actor{})
	right := url.Values{"email": {"sam@acme.example"}, "password": {password}}
	signIn := func() (session, known *http.Cookie) {
		t.Helper()
		in := b.send(t, "/Web/SignIn", "/Web/SignIn", right).wantStatus(t, http.StatusSeeOther)
		for _, c := range in.Cookies() {
			switch c.Name {
			case sessionCookie:
				session = c
			case knownCookie:
				known = c
			}
		}
		if session == nil || known == nil || known.Value == "" || !known.HttpOnly || known.SameSite != http.SameSiteLaxMode || !known.Expires.After(session.Expires) {
			t.Fatalf("session %v, known %v", session, known)
		}
		return session, known
	}
	server, err := url.Parse(w.server.URL)
	if err != nil {
		t.Fatal(err)
	}
	cookie := func(name string) string {
		for _, c := range b.Jar.Cookies(server) {
			if c.Name == name {
				return c.Value
			}
		}
		return ""
	}
	const planted = "plantedplantedplantedplantedplantedplanted1"
	b.Jar.SetCookies(server, []*http.Cookie{{Name: sessionCookie, Value: planted, Path: "/"}})
	first, known := signIn()
	if first.Value == planted || known.Value == first.Value {
		t.Error("a planted cookie became the session")
	}
	page := b.get(t, w.path("Account")).token(t)
	second := b.post(t, "/Web/SignIn", url.Values{"email": right["email"], "password": right["password"], tokenField: {page}}).wantStatus(t, http.StatusSeeOther)
	for _, c := range second.Cookies() {
		if c.Name == sessionCookie && c.Value == first.Value {
			t.Error("the session goes on under its old cookie")
		}
	}
	if _, err := w.auth.Session(t.Context(), first.Value); signing.KindOf(err) != signing.KindUnauthenticated {
		t.Errorf("the first session is still open: %v", err)
	}
	sessions, err := w.auth.Sessions(t.Context(), w.Sam, w.Sam.UserID)
	if err != nil {
		t.Fatal(err)
	}
	current := 0
	for _, s := range sessions {
		if s.Hash == auth.SessionHash(cookie(sessionCookie)) {
			current++
		}
	}
	if current != 1 {
		t.Errorf("the browser's session is %d times among %d", current, len(sessions))
	}
	// Signing out forgets the session, not the browser.
	b.send(t, w.path(), "/Web/SignOut", nil)
	if cookie(sessionCookie) != "" || cookie(knownCookie) == "" {
		t.Errorf("cookies %v", b.Jar.Cookies(server))
	}
}
