package web

import (
	"archive/zip"
	"bytes"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/countersign-dev/countersign/internal/auth"
	"github.com/countersign-dev/countersign/internal/signing"
)

func TestSignIn(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	b := w.browser(t, signing.Actor{})
	right := url.Values{"email": {"Sam@acme.example"}, "password": {password}}
	b.send(t, "/Web/SignIn", "/Web/SignIn", url.Values{"email": {"sam@acme.example"}, "password": {"wrong horse battery"}}).
		wantStatus(t, http.StatusUnauthorized).wantText(t, "The e-mail address or the password is wrong.")
	page := b.get(t, "/Web/SignIn?return="+url.QueryEscape(w.path("Account")))
	right.Set("return", page.hidden(t, "return"))
	in := b.send(t, "/Web/SignIn", "/Web/SignIn", right).wantRedirect(t, w.path("Account"))
	for _, c := range in.Cookies() {
		if c.Name == sessionCookie && (!c.HttpOnly || c.SameSite != http.SameSiteLaxMode || c.Path != "/" || c.Secure) {
			t.Errorf("the session's cookie is %v", c)
		}
	}
	b.get(t, w.path("Account")).wantStatus(t, http.StatusOK).wantText(t, "sam@acme.example")
	b.get(t, "/Web/SignIn").wantRedirect(t, w.path())
	b.send(t, w.path(), "/Web/SignOut", nil).wantRedirect(t, "/Web/SignIn")
	b.get(t, w.path("Account")).wantStatus(t, http.StatusSeeOther)
}

func TestSignInRateLimit(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	b := w.browser(t, signing.Actor{})
	form := url.Values{"email": {"sam@acme.example"}, "password": {"wrong horse battery"}, tokenField: {b.get(t, "/Web/SignIn").token(t)}}
	for i := range 100 {
		got := b.post(t, "/Web/SignIn", form)
		if got.StatusCode == http.StatusTooManyRequests {
			if i < 3 || got.Header.Get("Retry-After") == "" {
				t.Errorf("limited after %d attempts, Retry-After %q", i, got.Header.Get("Retry-After"))
			}
			checkPage(t, got.wantText(t, "Too many attempts"))
			return
		}
		got.wantStatus(t, http.StatusUnauthorized)
	}
	t.Error("100 wrong passwords met no limit")
}

func TestChooseOrganization(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := t.Context()
	u, err := w.CreateUser(ctx, w.Uwe, signing.NewUser{Kind: signing.Interactive, Name: "Sam elsewhere", Email: "sam@acme.example"})
	if err != nil {
		t.Fatal(err)
	}
	code, _, err := w.auth.Invite(ctx, w.Uwe, u.ID)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.auth.AcceptInvitation(ctx, code, auth.SignInSetup{Password: password}, auth.Client{Address: "192.0.2.77"}); err != nil {
		t.Fatal(err)
	}
	b := w.browser(t, signing.Actor{})
	choice := b.send(t, "/Web/SignIn", "/Web/SignIn", url.Values{"email": {"sam@acme.example"}, "password": {password}}).
		wantStatus(t, http.StatusOK).wantText(t, "Acme", "Umbrella")
	checkPage(t, choice)
	form := url.Values{tokenField: {choice.token(t)}, "state": {choice.hidden(t, "state")}, "organization": {string(w.Uwe.OrganizationID)}}
	tampered := cloneValues(form)
	tampered.Set("state", form.Get("state")+"x")
	b.post(t, "/Web/SignIn/Organization", tampered).wantStatus(t, http.StatusUnauthorized)
	b.post(t, "/Web/SignIn/Organization", form).wantRedirect(t, "/Web/"+string(w.Uwe.OrganizationID))
}

func TestInvitationPage(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	u, err := w.CreateUser(t.Context(), w.Ada, signing.NewUser{Kind: signing.Interactive, Name: "Nina New", Email: "nina@acme.example"})
	if err != nil {
		t.Fatal(err)
	}
	code, _, err := w.auth.Invite(t.Context(), w.Ada, u.ID)
	if err != nil {
		t.Fatal(err)
	}
	b, path := w.browser(t, signing.Actor{}), "/Web/Invitation/"+code
	checkPage(t, b.get(t, path).wantStatus(t, http.StatusOK).wantText(t, "Welcome, Nina New", "nina@acme.example", "Acme"))
	b.get(t, "/Web/Invitation/csi_nonsense").wantStatus(t, http.StatusNotFound).wantText(t, "This invitation cannot be used")
	b.send(t, path, path, url.Values{"password": {"one password here"}, "repeated": {"another password"}}).
		wantStatus(t, http.StatusUnprocessableEntity).wantText(t, "The two passwords differ.")
	short := b.send(t, path, path, url.Values{"password": {"short"}, "repeated": {"short"}}).wantStatus(t, http.StatusUnprocessableEntity)
	checkPage(t, short.wantText(t, "at least 12 characters"))
	b.send(t, path, path, url.Values{"password": {password}, "repeated": {password}}).wantRedirect(t, w.path())
	b.get(t, w.path()).wantStatus(t, http.StatusOK).wantText(t, "Nina New")
	b.get(t, path).wantStatus(t, http.StatusNotFound)
	if strings.Contains(w.log(t), code) {
		t.Error("the log holds the invitation's code")
	}
}

// TestForeignForms sends each state-changing request without what only our own pages know.
func TestForeignForms(t *testing.T) {
	t.Parallel()
	s := newScene(t, newWorld(t))
	b := s.browser(t, s.Sam)
	own, other := b.get(t, s.path()).token(t), s.browser(t, s.Rita).get(t, s.path()).token(t)
	for _, rt := range routes {
		if rt.method != http.MethodPost {
			continue
		}
		path := strings.NewReplacer("{organization}", string(s.Ada.OrganizationID), "{request}", string(s.resubmitted.ID), "{action}", "Cancel", "{code}", "csi_x").
			Replace("/" + strings.Join(rt.segments, "/"))
		for name, token := range map[string]string{"no token": "", "garbage": "abc", "another session's token": other} {
			b.post(t, path, url.Values{tokenField: {token}, "theme": {"dark"}}).wantStatus(t, http.StatusForbidden)
			if t.Failed() {
				t.Fatalf("%s with %s", path, name)
			}
		}
		for _, header := range [][2]string{{"Sec-Fetch-Site", "cross-site"}, {"Sec-Fetch-Site", "same-site"}, {"Origin", "https://evil.example"}} {
			r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.server.URL+path, strings.NewReader(url.Values{tokenField: {own}}.Encode()))
			if err != nil {
				t.Fatal(err)
			}
			r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
			r.Header.Set(header[0], header[1])
			b.do(t, r).wantStatus(t, http.StatusForbidden)
		}
	}
	if r := s.advance(t, s.resubmitted.ID); r.Workflow != signing.WorkflowWaitingForApproval {
		t.Errorf("a foreign form changed the request: %s", r.Workflow)
	}
	b.get(t, s.path()).wantStatus(t, http.StatusOK) // still signed in
	b.get(t, s.path("Account", "Password")).wantStatus(t, http.StatusMethodNotAllowed)
}

func TestDecisions(t *testing.T) {
	t.Parallel()
	s := newScene(t, newWorld(t))
	sam, rita, stan := s.browser(t, s.Sam), s.browser(t, s.Rita), s.browser(t, s.Stan)
	approve := s.requestPath(s.resubmitted.ID, "Approve")
	sam.send(t, s.path(), approve, nil).wantStatus(t, http.StatusConflict).wantText(t, "Show the signing request")
	stan.send(t, s.path(), approve, nil).wantStatus(t, http.StatusNotFound)
	long := rita.send(t, approve, approve, url.Values{"text": {longText(5000)}}).wantStatus(t, http.StatusUnprocessableEntity)
	if got := textOf(elements(long.dom(t), "textarea")[0]); got != longText(5000) {
		t.Error("the form does not keep what was typed")
	}
	checkPage(t, long)
	rita.send(t, approve, approve, url.Values{"text": {"Tested on three machines."}}).wantRedirect(t, s.requestPath(s.resubmitted.ID))
	// The second click, or the form of a tab that was open before: what was wanted is so.
	rita.send(t, s.path(), approve, url.Values{"text": {"Tested on three machines."}}).wantRedirect(t, s.requestPath(s.resubmitted.ID))
	rita.send(t, s.path(), s.requestPath(s.resubmitted.ID, "Deny"), nil).wantStatus(t, http.StatusConflict).wantText(t, "does not wait for approval")
	if r := s.advance(t, s.resubmitted.ID); r.Workflow != signing.WorkflowCompleted {
		t.Fatalf("after the approval: %s %+v", r.Workflow, r.Failure)
	}
	rita.get(t, s.requestPath(s.resubmitted.ID)).wantText(t, "Tested on three machines.", "Rita Release Approved")
	cancel := s.requestPath(s.resubmitted.ID, "Cancel")
	sam.send(t, s.path(), cancel, nil).wantStatus(t, http.StatusConflict).wantText(t, "already Completed")
}

// TestStaleForms sends the forms of tabs that were opened before something changed.
func TestStaleForms(t *testing.T) {
	t.Parallel()
	s := newScene(t, newWorld(t))
	ctx := t.Context()
	sam, rita := s.browser(t, s.Sam), s.browser(t, s.Rita)
	approve, cancel := s.requestPath(s.resubmitted.ID, "Approve"), s.requestPath(s.resubmitted.ID, "Cancel")
	seen := rita.get(t, approve).form(t, approve)
	seen.Set("text", "Tested before the change.")
	if _, err := s.EditPolicy(ctx, s.Ada, "app", "release-signing", signing.PolicyEdit{CertificateSlug: ptr("test")}); err != nil {
		t.Fatal(err)
	}
	changed := rita.post(t, approve, seen).wantStatus(t, http.StatusConflict).
		wantText(t, "The signing policy or its certificate changed since you looked.", "Tested before the change.", "Test certificate")
	checkPage(t, changed)
	bare := cloneValues(seen)
	bare.Del("seen")
	rita.post(t, approve, bare).wantStatus(t, http.StatusConflict).wantText(t, "changed since you looked")
	sam.send(t, cancel, cancel, nil).wantRedirect(t, s.requestPath(s.resubmitted.ID))
	sam.send(t, s.path(), cancel, nil).wantRedirect(t, s.requestPath(s.resubmitted.ID)) // a second click
	late := rita.post(t, approve, changed.form(t, approve)).wantStatus(t, http.StatusConflict)
	checkPage(t, late.wantText(t, "does not wait for approval", "Show the signing request"))
	if v, err := s.Request(ctx, s.Rita, s.resubmitted.ID); err != nil || len(v.Approvals) > 0 || v.Workflow != signing.WorkflowCanceled {
		t.Errorf("stale forms led to %+v, %v", v, err)
	}
}

// TestRefusedForms sends forms after the session has ended, and with the token of an earlier one: the answer leads back to the
// form, and to no other server.
func TestRefusedForms(t *testing.T) {
	t.Parallel()
	s := newScene(t, newWorld(t))
	approve, tokens := s.requestPath(s.resubmitted.ID, "Approve"), s.path("Account", "Tokens")
	rita, nobody := s.browser(t, s.Rita), s.browser(t, signing.Actor{})
	send := func(b *browser, path, referer string) *answer {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.server.URL+path, strings.NewReader(url.Values{tokenField: {"old"}, "text": {"typed"}}.Encode()))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.Header.Set("Referer", referer)
		return b.do(t, r)
	}
	own := s.server.URL + s.path("Account")
	tests := []struct {
		name, path, referer string
		b                   *browser
		status              int
		link                string
	}{
		{"signed out", approve, "", nobody, http.StatusUnauthorized, withQuery("/Web/SignIn", "return", approve)},
		{"signed out, form of a larger page", tokens, own, nobody, http.StatusUnauthorized, withQuery("/Web/SignIn", "return", s.path("Account"))},
		{"signed out, upload", s.path("Submit"), "", nobody, http.StatusUnauthorized, withQuery("/Web/SignIn", "return", s.path("Submit"))},
		{"old token", approve, own, rita, http.StatusForbidden, approve},
		{"old token, form of a larger page", tokens, own, rita, http.StatusForbidden, s.path("Account")},
		{"elsewhere", tokens, "https://evil.example/Web/x", rita, http.StatusForbidden, "/Web"},
		{"almost here", tokens, s.server.URL + ".evil.example/Web/x", rita, http.StatusForbidden, "/Web"},
		{"no page", tokens, s.server.URL + "/Api/v1", rita, http.StatusForbidden, "/Web"},
	}
	for _, test := range tests {
		got := send(test.b, test.path, test.referer)
		if got.StatusCode != test.status || !slices.Contains(got.links(t), test.link) {
			t.Errorf("%s: status %d, links %q; want %d and %s", test.name, got.StatusCode, got.links(t), test.status, test.link)
		}
		checkPage(t, got.wantText(t, "What you typed is kept"))
	}
}

func TestResubmitForm(t *testing.T) {
	t.Parallel()
	s := newScene(t, newWorld(t))
	b, path := s.browser(t, s.Sam), s.requestPath(s.done.ID, "Resubmit")
	page := b.get(t, path).wantText(t,
		"Test signing the original's", "Release signing", "Test certificate becomes Release certificate 2026", "was None becomes 1 approval, not by the submitter",
		"Release with verified origin", "The request has none, so it will be refused")
	form := url.Values{tokenField: {page.token(t)}, "key": {page.hidden(t, "key")}, "text": {"For the release"}}
	none := b.post(t, path, form).wantStatus(t, http.StatusUnprocessableEntity).wantText(t, "Choose a signing policy.", "For the release")
	checkPage(t, none)
	form.Set("policy", string(s.Release.ID))
	first := b.post(t, path, form).wantStatus(t, http.StatusSeeOther)
	second := b.post(t, path, form).wantStatus(t, http.StatusSeeOther) // a double click
	if a, b := first.Header.Get("Location"), second.Header.Get("Location"); a != b || !strings.Contains(a, "/SigningRequests/") {
		t.Errorf("two clicks made %s and %s", a, b)
	}
	b.get(t, first.Header.Get("Location")).wantText(t, "For the release", "Submitted again under another signing policy")
	dialog := b.get(t, path, "Hx-Request", "true").wantStatus(t, http.StatusOK)
	if len(elements(dialog.dom(t), "header")) != 0 || !strings.Contains(dialog.body, `id="dialog-title"`) {
		t.Error("a dialog's content is not a part of a page")
	}
}

func TestRetryForm(t *testing.T) {
	t.Parallel()
	s := newScene(t, newWorld(t))
	b, path := s.browser(t, s.Sam), s.requestPath(s.failed.ID, "Retry")
	b.get(t, s.requestPath(s.failed.ID)).wantText(t, "Try again").wantNoText(t, "Resubmit ")
	s.browser(t, s.Rita).get(t, s.requestPath(s.failed.ID)).wantNoText(t, "Try again")
	page := b.get(t, path).wantText(t, "uses the artifact configuration as it is now")
	checkPage(t, page)
	form := url.Values{tokenField: {page.token(t)}, "key": {page.hidden(t, "key")}, "policy": {string(s.Test.ID)}}
	r := s.requestOf(t, b.post(t, path, form))
	if r.OriginalID != s.failed.ID {
		t.Errorf("trying again made %+v", r.Request)
	}
	b.get(t, s.requestPath(s.done.ID, "Retry")).wantStatus(t, http.StatusConflict)
}

// part is a field or file of an upload.
type part struct{ name, file, value string }

// upload sends a multipart form in the given order.
func (b *browser) upload(t *testing.T, path string, parts []part, header ...string) *answer {
	t.Helper()
	var body bytes.Buffer
	m := multipart.NewWriter(&body)
	for _, p := range parts {
		var w io.Writer
		var err error
		if p.file != "" {
			w, err = m.CreateFormFile(p.name, p.file)
		} else {
			w, err = m.CreateFormField(p.name)
		}
		if err == nil {
			_, err = io.WriteString(w, p.value)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, b.w.server.URL+path, &body)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", m.FormDataContentType())
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	return b.do(t, r)
}

// requestOf returns the request that a redirect leads to.
func (w *world) requestOf(t *testing.T, a *answer) *signing.RequestView {
	t.Helper()
	location := a.wantStatus(t, http.StatusSeeOther).Header.Get("Location")
	id, ok := signing.ParseID(location[strings.LastIndex(location, "/")+1:])
	if !ok {
		t.Fatalf("redirected to %s", location)
	}
	v, err := w.Request(t.Context(), w.Ada, id)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func TestSubmitForm(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	b, path := w.browser(t, w.Sam), w.path("Submit")
	page := b.get(t, path+"?policy="+string(w.Test.ID)+"&description=typed").wantText(t, "Parameter version", "Windows program", "Release with verified origin takes signing requests only from a trusted build system")
	token, key := page.token(t), page.hidden(t, "key")
	fields := []part{
		{tokenField, "", token}, {"key", "", key}, {"policy", "", string(w.Test.ID)}, {"configuration", "", "exe"},
		{"parameters.version", "", "3.1"}, {"description", "", "By hand"},
	}
	file := part{artifactField, `C:\build\setup.exe`, string(examplePE)}
	first := w.requestOf(t, b.upload(t, path, append(fields, file)))
	if first.Unsigned.FileName != "setup.exe" || first.Description != "By hand" || first.Parameters["version"] != "3.1" || first.SubmitterID != w.Sam.UserID {
		t.Errorf("submitted %+v", first.Request)
	}
	if again := w.requestOf(t, b.upload(t, path, append(fields, file))); again.ID != first.ID {
		t.Error("a second click made a second request")
	}
	if r := w.advance(t, first.ID); r.Workflow != signing.WorkflowCompleted {
		t.Errorf("%s %+v", r.Workflow, r.Failure)
	}
	other := part{artifactField, "other.exe", string(examplePE) + "overlay"}
	if again := w.requestOf(t, b.upload(t, path, append(fields, other))); again.ID == first.ID {
		t.Error("the same form with another file is taken for a second click")
	}

	fresh := func(change func([]part) []part) []part {
		list := append([]part(nil), fields...)
		list[1].value = string(signing.NewID())
		return change(append(list, file))
	}
	tests := []struct {
		name   string
		parts  []part
		header []string
		status int
		text   string
	}{
		{"no token", fresh(func(p []part) []part { return p[1:] }), nil, http.StatusForbidden, "not accepted"},
		{"token after the file", fresh(func(p []part) []part { return append(p[1:], p[0]) }), nil, http.StatusForbidden, "not accepted"},
		{"token in the header", fresh(func(p []part) []part { return p[1:] }), []string{tokenHeader, token}, http.StatusSeeOther, ""},
		{"script", fresh(func(p []part) []part { return p }), []string{"Hx-Request", "true"}, http.StatusNoContent, ""},
		{"no file", fresh(func(p []part) []part { return p[:len(p)-1] }), nil, http.StatusUnprocessableEntity, "Choose the file to sign."},
		{"empty file", fresh(func(p []part) []part { p[6].value = ""; return p }), nil, http.StatusUnprocessableEntity, "empty"},
		{"no policy", fresh(func(p []part) []part { p[2].value = ""; return p }), nil, http.StatusUnprocessableEntity, "Choose a signing policy."},
		{"policy of nobody", fresh(func(p []part) []part { p[2].value = string(signing.NewID()); return p }), nil, http.StatusUnprocessableEntity, "Choose a signing policy."},
		{"policy for build systems", fresh(func(p []part) []part { p[2].value = string(w.Verified.ID); return p }), nil, http.StatusUnprocessableEntity, "Choose a signing policy."},
		{"two files", fresh(func(p []part) []part { return append(p, other) }), nil, http.StatusUnprocessableEntity, "Choose one file"},
		{"long description", fresh(func(p []part) []part { p[5].value = longText(5000); return p }), nil, http.StatusUnprocessableEntity, "3.1"},
		{"huge field", fresh(func(p []part) []part { p[5].value = longText(maxField + 1); return p }), nil, http.StatusUnprocessableEntity, "too long"},
	}
	for _, test := range tests {
		got := b.upload(t, path, test.parts, test.header...)
		if got.StatusCode != test.status || !strings.Contains(got.body, test.text) {
			t.Errorf("%s: status %d, want %d and %q; %s", test.name, got.StatusCode, test.status, test.text, got.text(t))
		}
		if test.status >= 400 {
			checkPage(t, got)
		}
	}
	w.browser(t, w.Stan).get(t, path).wantText(t, "No signing policy is open to you here")
}

func TestBundle(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	b, path := w.browser(t, w.Sam), w.path("Submit")
	page := b.get(t, path+"?policy="+string(w.Test.ID)+"&configuration=zip").wantText(t, "Several files become one ZIP archive")
	parts := []part{
		{tokenField, "", page.token(t)}, {"key", "", page.hidden(t, "key")}, {"policy", "", string(w.Test.ID)}, {"configuration", "", "zip"},
		{artifactField, "a.exe", string(examplePE)}, {artifactField, `..\..\b.exe`, string(examplePE)}, {artifactField, "A.EXE", string(examplePE)},
		{artifactField, "read me.txt", "text"}, {"description", "", "after the files"},
	}
	r := w.requestOf(t, b.upload(t, path, parts))
	if r.Unsigned.FileName != "bundle.zip" || r.Description != "after the files" {
		t.Fatalf("submitted %+v", r.Request)
	}
	if got := w.advance(t, r.ID); got.Workflow != signing.WorkflowCompleted {
		t.Fatalf("%s %+v", got.Workflow, got.Failure)
	}
	d, err := w.SignedArtifact(t.Context(), w.Sam, r.ID)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Blob.Close()
	z, err := zip.NewReader(d.Blob, d.Blob.Size())
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, f := range z.File {
		names = append(names, f.Name)
	}
	if got := strings.Join(names, "|"); got != "a.exe|b.exe|A (2).EXE|read me.txt" {
		t.Errorf("the bundle holds %s", got)
	}
	b.get(t, w.requestPath(r.ID)).wantText(t, "3 signatures made", "1 file left alone", "bundle.zip", "A (2).EXE")

	// One ZIP archive is taken as it is.
	var archive bytes.Buffer
	zw := zip.NewWriter(&archive)
	f, err := zw.Create("inner.exe")
	if err == nil {
		_, err = f.Write(examplePE)
	}
	if err != nil || zw.Close() != nil {
		t.Fatal(err)
	}
	parts = append(parts[:4:4], part{artifactField, "mine.zip", archive.String()})
	parts[1].value = string(signing.NewID())
	if r := w.requestOf(t, b.upload(t, path, parts)); r.Unsigned.FileName != "mine.zip" || r.Unsigned.Size != int64(archive.Len()) {
		t.Errorf("a ZIP archive became %+v", r.Unsigned)
	}
}

func TestUploadLimit(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	b, path := w.browser(t, w.Sam), w.path("Submit")
	page := b.get(t, path+"?policy="+string(w.Test.ID))
	big := strings.Repeat("x", int(w.ArtifactLimit())+1)
	got := b.upload(t, path, []part{{tokenField, "", page.token(t)}, {"policy", "", string(w.Test.ID)}, {artifactField, "big.exe", big}})
	checkPage(t, got.wantStatus(t, http.StatusRequestEntityTooLarge))
}

func TestAccount(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	// Two more sessions, from the sign-in page.
	b := w.browser(t, w.Sam)
	other := w.browser(t, signing.Actor{})
	other.send(t, "/Web/SignIn", "/Web/SignIn", url.Values{"email": {"sam@acme.example"}, "password": {password}}).wantStatus(t, http.StatusSeeOther)
	account := w.path("Account")
	page := b.get(t, account).wantText(t, "This browser", "Sign out all other sessions", "Firefox on Linux", "192.0.2.2")
	checkPage(t, page)
	session := ""
	for _, n := range elements(page.dom(t), "input") {
		if attrOf(n, "name") == "session" && attrOf(n, "value") != "others" {
			session = attrOf(n, "value")
		}
	}
	other.get(t, account).wantStatus(t, http.StatusOK)
	b.send(t, account, account+"/Sessions", url.Values{"session": {session}}).wantRedirect(t, account+"?done=session")
	other.get(t, account).wantStatus(t, http.StatusSeeOther)
	b.send(t, account, account+"/Sessions", url.Values{"session": {session}}).wantStatus(t, http.StatusConflict)
	b.send(t, account, account+"/Sessions", url.Values{"session": {strings.Repeat("00", 32)}}).wantStatus(t, http.StatusConflict)
	b.get(t, account).wantStatus(t, http.StatusOK).wantNoText(t, "Sign out all other sessions")

	works := func(token string) bool {
		a, err := w.auth.Authenticate(t.Context(), "Bearer "+token, "")
		return err == nil && a.UserID == w.Sam.UserID
	}
	shown := func(a *answer) string {
		checkPage(t, a.wantStatus(t, http.StatusOK))
		return textOf(byID(a.dom(t), "new-token"))
	}
	first := shown(b.send(t, account, account+"/Tokens", url.Values{"name": {"release script"}, "days": {"30"}}))
	other1 := shown(b.send(t, account, account+"/Tokens", url.Values{"name": {"laptop"}}))
	b.get(t, account).wantNoText(t, first, other1).wantText(t, "release script", "laptop", first[:8], "expires in 30 days")
	tokens, err := w.auth.Tokens(t.Context(), w.Sam, signing.UserToken, w.Sam.UserID)
	if err != nil || len(tokens) != 2 || tokens[1].Name != "release script" || tokens[1].ExpiresAt == nil || tokens[0].ExpiresAt != nil {
		t.Fatalf("the tokens are %+v, %v", tokens, err)
	}
	second := shown(b.send(t, account, account+"/Tokens/Regenerate", url.Values{"id": {string(tokens[1].ID)}}))
	if works(first) || !works(second) || !works(other1) {
		t.Errorf("the replaced token works: %t, the new one: %t, another: %t", works(first), works(second), works(other1))
	}
	b.send(t, account, account+"/Tokens/Revoke", url.Values{"id": {string(tokens[0].ID)}}).wantRedirect(t, account+"?done=revoked")
	if works(other1) || !works(second) {
		t.Errorf("the revoked token works: %t, another: %t", works(other1), works(second))
	}
	for _, step := range []string{"Regenerate", "Revoke"} {
		for _, id := range []string{"", "nonsense", string(signing.NewID())} {
			b.send(t, account, account+"/Tokens/"+step, url.Values{"id": {id}}).wantStatus(t, http.StatusConflict).wantText(t, "There is no such API token")
		}
	}
	for days, name := range map[string]string{"-1": "x", "99999": "x", "x": "x", "30": longText(300)} {
		checkPage(t, b.send(t, account, account+"/Tokens", url.Values{"name": {name}, "days": {days}}).wantStatus(t, http.StatusUnprocessableEntity))
	}

	b.get(t, account).wantText(t, "Acme App / Test signing How your own requests ended")
	for level, meaning := range map[string]string{"All": "Every step", "None": "No mail", "Default": "How your own requests ended"} {
		b.send(t, account, account+"/Notifications", url.Values{"level": {level}}).wantRedirect(t, account+"?done=level")
		b.get(t, account).wantText(t, "Acme App / Test signing "+meaning)
		if u, err := w.User(t.Context(), w.Sam, w.Sam.UserID); err != nil || string(u.NotificationLevel) != level {
			t.Errorf("the level is %q, want %s: %v", u.NotificationLevel, level, err)
		}
	}
	checkPage(t, b.send(t, account, account+"/Notifications", url.Values{"level": {"Loud"}}).wantStatus(t, http.StatusUnprocessableEntity).wantText(t, "'Loud' is not a notification level"))

	wrong := url.Values{"current": {"wrong horse battery"}, "password": {"another good password"}, "repeated": {"another good password"}}
	checkPage(t, b.send(t, account, account+"/Password", wrong).wantStatus(t, http.StatusUnprocessableEntity).wantText(t, "not the current password"))
	wrong.Set("repeated", "typo")
	b.send(t, account, account+"/Password", wrong).wantStatus(t, http.StatusUnprocessableEntity).wantText(t, "The two passwords differ.")
	b.send(t, account, account+"/Password", url.Values{"current": {password}, "password": {"another good password"}, "repeated": {"another good password"}}).
		wantRedirect(t, account+"?done=password")
	b.get(t, account+"?done=password").wantText(t, "The password was changed.")
	b.send(t, account, account+"/Passkeys/Remove", url.Values{"passkey": {"AAAA"}}).wantStatus(t, http.StatusConflict)
	b.send(t, account, account+"/Passkeys", url.Values{"state": {"x"}, "response": {"{}"}}).wantStatus(t, http.StatusUnauthorized)
}

// TestRevokedSession ends a session while its page is open.
func TestRevokedSession(t *testing.T) {
	t.Parallel()
	s := newScene(t, newWorld(t))
	rita := s.browser(t, s.Rita)
	approve := s.requestPath(s.resubmitted.ID, "Approve")
	form := url.Values{tokenField: {rita.get(t, approve).token(t)}}
	if _, err := s.auth.RevokeSessions(t.Context(), s.Ada, s.Rita.UserID, [32]byte{}); err != nil {
		t.Fatal(err)
	}
	rita.get(t, approve).wantRedirect(t, withQuery("/Web/SignIn", "return", approve))
	checkPage(t, rita.post(t, approve, form).wantStatus(t, http.StatusUnauthorized).wantText(t, "You are signed out"))
	if r := s.advance(t, s.resubmitted.ID); r.Workflow != signing.WorkflowWaitingForApproval {
		t.Errorf("a revoked session approved: %s", r.Workflow)
	}
}

func TestDownloads(t *testing.T) {
	t.Parallel()
	s := newScene(t, newWorld(t))
	sam, ada := s.browser(t, s.Sam), s.browser(t, s.Ada)
	signed := sam.get(t, s.requestPath(s.done.ID, "SignedArtifact")).wantStatus(t, http.StatusOK)
	if got := fmt.Sprint(len(signed.body)); got != signed.Header.Get("Content-Length") || len(signed.body) <= len(examplePE) {
		t.Errorf("%s bytes, Content-Length %s", got, signed.Header.Get("Content-Length"))
	}
	if got := signed.Header.Get("Content-Disposition"); got != `attachment; filename=setup.exe` {
		t.Errorf("Content-Disposition %q", got)
	}
	part := sam.get(t, s.requestPath(s.done.ID, "UnsignedArtifact"), "Range", "bytes=0-1").wantStatus(t, http.StatusPartialContent)
	if part.body != "MZ" {
		t.Errorf("the first two bytes are %q", part.body)
	}
	sam.get(t, s.requestPath(s.resubmitted.ID, "SignedArtifact")).wantStatus(t, http.StatusUnprocessableEntity).wantText(t, "not available yet")
	sam.get(t, s.requestPath(s.denied.ID, "SignedArtifact")).wantStatus(t, http.StatusNotFound)
	sam.get(t, s.requestPath(s.done.ID, "BuildSettingsFile")).wantStatus(t, http.StatusNotFound)
	ada.get(t, s.requestPath(s.done.ID, "SignedArtifact")).wantStatus(t, http.StatusOK)
	s.browser(t, s.Stan).get(t, s.requestPath(s.done.ID, "SignedArtifact")).wantStatus(t, http.StatusNotFound)
}
