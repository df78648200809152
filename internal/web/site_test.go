package web

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/countersign-dev/countersign/internal/signing"

	"github.com/countersign-dev/countersign/internal/oracle"
)

// TestBehindProxy serves the pages under a public HTTPS address with a path.
func TestBehindProxy(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	public, err := url.Parse("https://sign.example.com/tools/")
	if err != nil {
		t.Fatal(err)
	}
	h, err := New(Config{Signing: w.Service, Auth: w.auth, PublicURL: public})
	if err != nil {
		t.Fatal(err)
	}
	get := func(path string, cookies ...*http.Cookie) *answer {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, nil)
		for _, c := range cookies {
			r.AddCookie(c)
		}
		rec := httptest.NewRecorder()
		h.ServeHTTP(rec, r)
		a := rec.Result()
		a.Request = r
		return &answer{Response: a, body: rec.Body.String()}
	}
	account := w.path("Account")
	get(account).wantRedirect(t, withQuery("/tools/Web/SignIn", "return", "/tools"+account))
	page := get("/Web/SignIn").wantStatus(t, http.StatusOK)
	visitor := page.Cookies()[0]
	if visitor.Name != "__Host-"+visitorCookie || !visitor.Secure || !visitor.HttpOnly || visitor.Path != "/" || visitor.Domain != "" {
		t.Errorf("the visitor's cookie is %v", visitor)
	}
	if page.Header.Get("Strict-Transport-Security") == "" {
		t.Error("no Strict-Transport-Security")
	}
	form := url.Values{"email": {"sam@acme.example"}, "password": {password}, tokenField: {page.token(t)}, "return": {"/tools" + account}}
	r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/Web/SignIn", strings.NewReader(form.Encode()))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Header.Set("Origin", "https://sign.example.com") // the proxy changed the Host header
	r.AddCookie(visitor)
	rec := httptest.NewRecorder()
	h.ServeHTTP(rec, r)
	if rec.Code != http.StatusSeeOther || rec.Header().Get("Location") != "/tools"+account {
		t.Fatalf("signing in answered %d to %s", rec.Code, rec.Header().Get("Location"))
	}
	session := rec.Result().Cookies()[0]
	if session.Name != "__Host-"+sessionCookie || !session.Secure {
		t.Errorf("the session's cookie is %v", session)
	}
	for _, link := range get(account, session).wantStatus(t, http.StatusOK).links(t) {
		if !strings.HasPrefix(link, "/tools/") && !strings.HasPrefix(link, "#") {
			t.Errorf("a link leads to %s", link)
		}
	}
	get(w.path("Projects", "app", "SigningPolicies", "test-signing"), session).wantText(t, "https://sign.example.com/tools/Api/v1/")
	for _, bad := range []string{"sign.example.com", "ftp://sign.example.com", "https://"} {
		u, err := url.Parse(bad)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := New(Config{Signing: w.Service, Auth: w.auth, PublicURL: u}); err == nil {
			t.Errorf("the public URL %q is accepted", bad)
		}
	}
}

// TestWithoutAssets serves pages of a program that was built without Node: they work, and say how to build the rest.
func TestWithoutAssets(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := &site{Config: Config{Signing: w.Service, Auth: w.auth}, bundle: &bundle{}, foreign: http.NewCrossOriginProtection()}
	s.Log = discard
	w.server.Config.Handler = http.HandlerFunc(s.serve)
	b := w.browser(t, w.Sam)
	page := b.get(t, w.path("Submit")).wantStatus(t, http.StatusOK).wantText(t, "make build", "Submit an artifact")
	checkPage(t, page)
	if n := len(elements(page.dom(t), "script", "link")); n != 0 {
		t.Errorf("the page refers to %d files that are not there", n)
	}
}

// TestBuildsWithoutNode compiles the package as a checkout has it before the assets are built.
func TestBuildsWithoutNode(t *testing.T) {
	t.Parallel()
	built, err := filepath.Glob("assets/dist/*")
	if err != nil {
		t.Fatal(err)
	}
	overlay := struct{ Replace map[string]string }{map[string]string{}}
	for _, name := range built {
		if path, err := filepath.Abs(name); err != nil {
			t.Fatal(err)
		} else if filepath.Base(name) != "README" {
			overlay.Replace[path] = "" // not there
		}
	}
	raw, err := json.Marshal(overlay)
	file := filepath.Join(t.TempDir(), "overlay.json")
	if err == nil {
		err = os.WriteFile(file, raw, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	for want, arguments := range map[string][]string{
		"[assets/dist/README]": {"list", "-overlay", file, "-f", "{{.EmbedFiles}}", "."},
		"":                     {"build", "-overlay", file, "."},
	} {
		if got, err := exec.CommandContext(t.Context(), "go", arguments...).CombinedOutput(); err != nil || strings.TrimSpace(string(got)) != want {
			t.Errorf("go %s: %v\n%s", arguments[0], err, got)
		}
	}
}

func TestAssets(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	b, err := loadBundle()
	if err != nil {
		t.Fatal(err)
	}
	if !b.built() {
		oracle.Missing(t, "the pages' assets are not built: run make assets")
	}
	client := w.browser(t, signing.Actor{})
	for name := range b.files {
		got := client.get(t, "/Web/assets/"+b.version+"/"+name).wantStatus(t, http.StatusOK)
		if !strings.Contains(got.Header.Get("Cache-Control"), "immutable") || got.Header.Get("Content-Type") == "" || len(got.Cookies()) > 0 {
			t.Errorf("%s: header %v", name, got.Header)
		}
	}
	client.get(t, "/Web/assets/0000/app.css").wantStatus(t, http.StatusNotFound)
	client.get(t, "/Web/assets/"+b.version+"/README").wantStatus(t, http.StatusNotFound)
	css := string(b.files["app.css"].plain)
	for _, outside := range []string{"http://", "https://", "@import"} {
		for _, part := range strings.Split(css, outside)[1:] {
			if !strings.HasPrefix(part, "www.w3.org/") {
				t.Errorf("the style names %s%.60s", outside, part)
			}
		}
	}
}

// TestEvents reads the stream of a request's changes as a browser does.
func TestEvents(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	r := w.request(t, w.Sam, w.Release)
	b := w.browser(t, w.Sam)
	w.browser(t, w.Stan).get(t, w.requestPath(r.ID, "Events")).wantStatus(t, http.StatusNotFound)
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, w.server.URL+withQuery(w.requestPath(r.ID, "Events"), "version", fmt.Sprint(r.Version)), nil)
	if err != nil {
		t.Fatal(err)
	}
	got, err := b.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer got.Body.Close()
	if got.Header.Get("Content-Type") != "text/event-stream" {
		t.Errorf("header %v", got.Header)
	}
	lines := bufio.NewScanner(got.Body)
	if !lines.Scan() || lines.Text() != "retry: 1000" { // the stream is open
		t.Fatalf("the stream begins with %q", lines.Text())
	}
	if _, err := w.Deny(t.Context(), w.Rita, r.ID, ""); err != nil {
		t.Fatal(err)
	}
	var events []string
	for lines.Scan() {
		if text := lines.Text(); text != "" {
			events = append(events, text)
		}
	}
	want := fmt.Sprintf("event: changed|data: %d|event: final|data: Denied", r.Version+1)
	if got := strings.Join(events, "|"); got != want || lines.Err() != nil {
		t.Errorf("the stream says %s, %v; want %s", got, lines.Err(), want)
	}
}

// TestEventsAfterSignOut ends a stream when the session is gone.
func TestEventsAfterSignOut(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	r := w.request(t, w.Sam, w.Release)
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, w.server.URL+withQuery(w.requestPath(r.ID, "Events"), "version", fmt.Sprint(r.Version)), nil)
	if err != nil {
		t.Fatal(err)
	}
	got, err := w.browser(t, w.Sam).Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer got.Body.Close()
	if err := w.auth.SignOut(t.Context(), w.cookies[w.Sam.UserID]); err != nil {
		t.Fatal(err)
	}
	rest, err := io.ReadAll(got.Body)
	if err != nil || string(rest) != "retry: 1000\n\n" {
		t.Errorf("after signing out the stream says %q, %v", rest, err)
	}
}

// TestPanic keeps what went wrong from the browser.
func TestPanic(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := &site{Config: Config{Signing: w.Service, Auth: w.auth, Log: discard}, bundle: &bundle{}, foreign: http.NewCrossOriginProtection()}
	rec := httptest.NewRecorder()
	func() {
		x := s.begin(rec, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil))
		defer x.end()
		panic("secret")
	}()
	if rec.Code != http.StatusInternalServerError || strings.Contains(rec.Body.String(), "secret") || !strings.Contains(rec.Body.String(), "Trace id: 00-") {
		t.Errorf("%d %s", rec.Code, rec.Body)
	}
}

// TestUnknownError answers an error that nobody has words for: a bare 500 with the trace id that the log has, too.
func TestUnknownError(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := &site{Config: Config{Signing: w.Service, Auth: w.auth, Log: slog.New(slog.NewTextHandler(w.logged, nil))}, bundle: &bundle{}, foreign: http.NewCrossOriginProtection()}
	const trace = "0af7651916cd43dd8448eb211c80319c"
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/Web", nil)
	r.Header.Set("Traceparent", "00-"+trace+"-b7ad6b7169203331-01")
	rec := httptest.NewRecorder()
	x := s.begin(rec, r)
	x.fail(errors.New("secret of the database"))
	x.end()
	got := &answer{Response: rec.Result(), body: rec.Body.String()}
	got.Request = r
	checkPage(t, got.wantStatus(t, http.StatusInternalServerError).wantText(t, "Something went wrong here", "00-"+trace).wantNoText(t, "secret"))
	if text := w.log(t); !strings.Contains(text, trace) || !strings.Contains(text, "secret of the database") {
		t.Errorf("the log says %s", text)
	}
}

// TestUploadMemory sends an artifact that is much larger than what may stay in memory.
func TestUploadMemory(t *testing.T) { //nolint:paralleltest // measures the whole process
	w := newWorld(t)
	b, path := w.browser(t, w.Sam), w.path("Submit")
	page := b.get(t, path+"?policy="+string(w.Test.ID))
	const size = 60 << 20
	r, out := io.Pipe()
	m := multipart.NewWriter(out)
	go func() {
		block := bytes.Repeat([]byte("x"), 1<<20)
		err := m.WriteField(tokenField, page.token(t))
		if err == nil {
			err = m.WriteField("policy", string(w.Test.ID))
		}
		if err == nil {
			var f io.Writer
			if f, err = m.CreateFormFile(artifactField, "big.exe"); err == nil {
				for range size / len(block) {
					if _, err = f.Write(block); err != nil {
						break
					}
				}
			}
		}
		if err == nil {
			err = m.Close()
		}
		out.CloseWithError(err)
	}()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, w.server.URL+path, r)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Content-Type", m.FormDataContentType())
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	b.do(t, request).wantStatus(t, http.StatusSeeOther)
	runtime.ReadMemStats(&after)
	if used := after.TotalAlloc - before.TotalAlloc; used > size/4 {
		t.Errorf("an upload of %s allocated %s in all", bytesText(size), bytesText(int64(used)))
	}
}

func FuzzReturnTo(f *testing.F) {
	for _, s := range []string{"/Web", "/Web/a?b#c", "//evil", "/Web/../..", "/Web\\evil", "/web", "/Web?//"} {
		f.Add(s)
	}
	x := &exchange{site: &site{}}
	f.Fuzz(func(t *testing.T, given string) {
		got := x.returnTo(given)
		u, err := url.Parse(got)
		if !strings.HasPrefix(got, "/Web") || err == nil && (u.Host != "" || u.Scheme != "") {
			t.Errorf("returnTo(%q) = %q", given, got)
		}
	})
}
