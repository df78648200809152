package web

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"github.com/countersign-dev/countersign/internal/signing"
)

// choose makes the submit page's form ready: policy, file and description.
func (b *tab) choose(t *testing.T, policy signing.ID, file, description string) {
	t.Helper()
	b.open(t, withQuery(b.w.path("Submit"), "policy", string(policy)))
	b.do(t, chromedp.SetUploadFiles(chromedp.CSS("#artifact"), []string{file}))
	b.fill(t, "#description", description)
}

// program writes the example program, made larger, to a file.
func program(t *testing.T, larger int) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "setup.exe")
	if err := os.WriteFile(file, append([]byte(string(examplePE)), make([]byte, larger)...), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// TestSessionEndsWhileTyping ends the session while a form is filled: after signing in, the form holds what was typed.
func TestSessionEndsWhileTyping(t *testing.T) {
	t.Parallel()
	browser := chromium(t)
	w := newWorld(t)
	signOut := func(b *tab, a signing.Actor) {
		t.Helper()
		if err := w.auth.SignOut(t.Context(), w.cookies[a.UserID]); err != nil {
			t.Fatal(err)
		}
	}
	r := w.request(t, w.Sam, w.Release)
	rita := w.openTab(browser, t, w.Rita)
	rita.open(t, w.requestPath(r.ID))
	rita.click(t, "#action-Approve")
	rita.fill(t, "#action-text", "Tested on three machines.")
	signOut(rita, w.Rita)
	rita.click(t, "dialog button[type=submit]")
	rita.sees(t, "You are signed out")
	rita.sees(t, "What you typed is kept")
	rita.click(t, ".error-page .btn-primary")
	rita.wait(t, `document.activeElement?.id === "email"`)
	rita.press(t, "rita@acme.example"+kb.Tab+"a wrong password"+kb.Enter)
	rita.sees(t, "password is wrong")
	rita.fill(t, "#password", password+kb.Enter)
	rita.wait(t, `document.querySelector("#action-text")?.value === "Tested on three machines."`)
	rita.click(t, "main button.btn-primary")
	rita.sees(t, "Rita Release Approved")

	// The upload of a few bytes is answered; of many, the connection is cut before.
	sam := w.openTab(browser, t, w.Sam)
	for _, larger := range []int{0, 20 << 20} {
		sam.choose(t, w.Test.ID, program(t, larger), "Candidate by hand")
		sam.do(t, chromedp.SetValue(chromedp.CSS("#parameter-version"), "7.1"))
		signOut(sam, w.Sam)
		sam.click(t, "#submit-button")
		sam.wait(t, `document.querySelector(".error-page .btn-primary, #email") !== null`)
		eval[bool](t, sam, `document.querySelector(".error-page .btn-primary")?.click() ?? true`)
		sam.wait(t, `document.activeElement?.id === "email"`)
		sam.press(t, "sam@acme.example"+kb.Tab+password+kb.Enter)
		sam.wait(t, `document.querySelector("#description")?.value === "Candidate by hand"`)
		sam.wait(t, `document.querySelector("#parameter-version")?.value === "7.1"`)
		if got := eval[string](t, sam, `document.querySelector("#policy").value`); got != string(w.Test.ID) {
			t.Errorf("the form's policy is %s", got)
		}
		cookie := sam.sessionCookie(t)
		w.cookies[w.Sam.UserID] = cookie
	}
	sam.do(t, chromedp.SetUploadFiles(chromedp.CSS("#artifact"), []string{program(t, 0)}))
	sam.click(t, "#submit-button")
	sam.wait(t, `location.pathname.includes("/SigningRequests/")`)
	sam.sees(t, "Parameter version")
	sam.sees(t, "7.1")
	// What was accepted does not come back.
	sam.open(t, w.path("Submit"))
	if got := eval[string](t, sam, `document.querySelector("#description").value`); got != "" {
		t.Errorf("a new form holds %q", got)
	}
}

// sessionCookie returns the window's session.
func (b *tab) sessionCookie(t *testing.T) string {
	t.Helper()
	for _, c := range call(t, b, network.GetCookies, network.GetCookiesParams{}).Cookies {
		if c.Name == sessionCookie {
			return c.Value
		}
	}
	t.Fatal("the window has no session")
	return ""
}

// TestDialogFollowsRequest cancels a request while its approver types: the dialog says so, and gives the focus back.
func TestDialogFollowsRequest(t *testing.T) {
	t.Parallel()
	browser := chromium(t)
	w := newWorld(t)
	r := w.request(t, w.Sam, w.Release)
	b := w.openTab(browser, t, w.Rita)
	b.open(t, w.requestPath(r.ID))
	b.click(t, "#action-Approve")
	b.wait(t, `document.activeElement?.id === "action-text"`)
	for range 8 { // the focus stays in the dialog, or leaves for the browser's own controls
		b.press(t, kb.Tab)
		if !eval[bool](t, b, `document.querySelector("dialog").contains(document.activeElement) || document.activeElement === document.body`) {
			t.Fatalf("the focus is at %s", eval[string](t, b, `document.activeElement.outerHTML`))
		}
	}
	b.press(t, kb.Escape)
	b.wait(t, `!document.querySelector("dialog").open && document.activeElement.id === "action-Approve"`)
	b.press(t, kb.Enter)
	b.wait(t, `document.activeElement?.id === "action-text"`)
	b.press(t, "Half a sen")
	if _, err := w.Cancel(t.Context(), w.Sam, r.ID, "wrong file"); err != nil {
		t.Fatal(err)
	}
	b.wait(t, `document.querySelector("dialog [role=alert]")?.innerText.includes("canceled")`)
	b.press(t, kb.Escape)
	b.wait(t, `!document.querySelector("dialog").open && document.activeElement.id === "content"`)
	b.sees(t, "wrong file")
}

// TestStreamOutlivesServer takes the server away while a request is looked at: its page shows what happened meanwhile.
func TestStreamOutlivesServer(t *testing.T) {
	t.Parallel()
	browser := chromium(t)
	w := newWorld(t)
	var away atomic.Int32
	asked := make(chan struct{}, 100) // for a stream while the server is away
	serve := w.server.Config.Handler
	w.server.Config.Handler = http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if status := away.Load(); status > 0 {
			rw.WriteHeader(int(status))
			if strings.HasSuffix(r.URL.Path, "/Events") {
				asked <- struct{}{}
			}
			return
		}
		serve.ServeHTTP(rw, r)
	})
	for _, status := range []int32{http.StatusBadGateway, http.StatusNoContent} { // a proxy without its server; an answer that ends the stream for good
		r := w.request(t, w.Sam, w.Release)
		b := w.openTab(browser, t, w.Sam)
		b.open(t, w.requestPath(r.ID))
		eval[bool](t, b, `(window.loadedOnce = true)`)
		away.Store(status)
		w.server.CloseClientConnections()
		select {
		case <-asked:
		case <-time.After(soon):
			t.Fatal("the page asks for no new stream")
		}
		if _, err := w.Deny(t.Context(), w.Rita, r.ID, "Not today."); err != nil {
			t.Fatal(err)
		}
		away.Store(0)
		b.sees(t, "Rita Release denied the request: Not today.")
		if !eval[bool](t, b, `window.loadedOnce === true && document.querySelectorAll("#live").length === 1`) {
			t.Error("the page was loaded again, or shows the request twice")
		}
	}
}

// doubleClick presses a button twice.
func (b *tab) doubleClick(t *testing.T, selector string) {
	t.Helper()
	b.rests(t, selector)
	at := eval[[2]float64](t, b, fmt.Sprintf(`(({x, y, width, height}) => [x + width / 2, y + height / 2])(document.querySelector(%q).getBoundingClientRect())`, selector))
	for n := range int64(2) {
		for _, kind := range []input.DispatchMouseEventType{input.DispatchMouseEventTypeMousePressed, input.DispatchMouseEventTypeMouseReleased} {
			call(t, b, input.DispatchMouseEvent, input.DispatchMouseEventParams{Type: kind, X: at[0], Y: at[1], Button: input.MouseButtonLeft, ClickCount: n + 1})
		}
	}
}

// TestDoubleClicks presses the buttons of every action twice: each is done once, and the page tells that it is done.
func TestDoubleClicks(t *testing.T) {
	t.Parallel()
	browser := chromium(t)
	w := newWorld(t)
	sam, rita := w.openTab(browser, t, w.Sam), w.openTab(browser, t, w.Rita)
	sam.choose(t, w.Test.ID, program(t, 0), "Twice")
	sam.doubleClick(t, "#submit-button")
	sam.wait(t, `location.pathname.includes("/SigningRequests/")`)
	id, _ := signing.ParseID(eval[string](t, sam, `location.pathname.split("/").at(-1)`))
	if r := w.advance(t, id); r.Workflow != signing.WorkflowCompleted {
		t.Fatalf("submitted twice: %s %+v", r.Workflow, r.Failure)
	}
	sam.click(t, "#action-Resubmit")
	sam.click(t, fmt.Sprintf(`dialog input[value=%q]`, w.Release.ID))
	sam.doubleClick(t, "dialog button[type=submit]")
	sam.sees(t, "Submitted again under another signing policy")
	all, err := w.Requests(t.Context(), w.Sam, signing.RequestQuery{Mine: true, Limit: 10})
	if err != nil || len(all.Items) != 2 {
		t.Fatalf("two double clicks made %d requests, want 2: %v", len(all.Items), err)
	}
	again := all.Items[0].ID
	w.advance(t, again)
	rita.open(t, w.requestPath(again))
	rita.click(t, "#action-Approve")
	rita.doubleClick(t, "dialog button[type=submit]")
	rita.sees(t, "Rita Release Approved")
	if v, err := w.Request(t.Context(), w.Rita, again); err != nil || len(v.Approvals) != 1 {
		t.Errorf("approved %d times, %v", len(v.Approvals), err)
	}
}

// gated is a body of which no more than its beginning is read before the gate opens.
type gated struct {
	io.ReadCloser
	gate  <-chan struct{}
	begun bool
}

func (g *gated) Read(p []byte) (int, error) {
	if g.begun {
		<-g.gate
	}
	g.begun = true
	return g.ReadCloser.Read(p)
}

// TestUploadStopsAndGoesOn stops an upload on its way, loses the connection of another one, and submits the file in the end.
func TestUploadStopsAndGoesOn(t *testing.T) {
	t.Parallel()
	browser := chromium(t)
	w := newWorld(t)
	gate, serve := make(chan struct{}), w.server.Config.Handler
	open := sync.OnceFunc(func() { close(gate) })
	t.Cleanup(open)
	w.server.Config.Handler = http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.Header.Get("Content-Type"), "multipart/") {
			r.Body = &gated{ReadCloser: r.Body, gate: gate}
		}
		serve.ServeHTTP(rw, r)
	})
	b := w.openTab(browser, t, w.Sam)
	b.choose(t, w.Test.ID, program(t, 40<<20), "Large")
	begun := `(() => { const {value} = document.querySelector("progress"); return value > 0 && value < 100 && document.querySelector("[data-progress-text]").textContent.includes("% of 41.9 MB"); })()`
	b.click(t, "#submit-button")
	b.wait(t, begun)
	b.do(t, chromedp.Click(chromedp.CSS("[data-abort]")))
	b.sees(t, "Stopped: nothing was submitted.")
	b.wait(t, `document.querySelector("[data-progress]").hidden && !document.querySelector("#submit-button").disabled`)
	b.click(t, "#submit-button")
	b.wait(t, begun)
	broke := `new Promise((done) => setTimeout(() => done(document.body.innerText.includes("The connection broke off")), 200))`
	for end := time.Now().Add(soon); !eval[bool](t, b, broke); { // browsers try once more by themselves
		if w.server.CloseClientConnections(); time.Now().After(end) {
			b.stuck(t, errors.New("the page does not tell that the connection is lost"))
		}
	}
	open()
	b.click(t, "#submit-button")
	b.wait(t, `location.pathname.includes("/SigningRequests/")`)
	all, err := w.Requests(t.Context(), w.Sam, signing.RequestQuery{Limit: 10})
	if err != nil || len(all.Items) != 1 {
		t.Errorf("three attempts made %d requests, want 1: %v", len(all.Items), err)
	}
	empty := filepath.Join(t.TempDir(), "empty.exe")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	b.choose(t, w.Test.ID, empty, "Nothing in it")
	b.click(t, "#submit-button")
	b.sees(t, "The artifact is empty")
	if got := eval[string](t, b, `document.querySelector("#description").value`); got != "Nothing in it" {
		t.Errorf("the refused form keeps %q", got)
	}
}

// TestBackButton goes back from one filter to the one before.
func TestBackButton(t *testing.T) {
	t.Parallel()
	browser := chromium(t)
	s := newScene(t, newWorld(t))
	b := s.openTab(browser, t, s.Sam)
	filter := func(status string) {
		t.Helper()
		eval[bool](t, b, fmt.Sprintf(`(document.querySelector("#filter-status").value = %q, document.querySelector("#filter-status").dispatchEvent(new Event("change", {bubbles: true})))`, status))
		b.wait(t, fmt.Sprintf(`location.search.includes("status=%s") && document.querySelectorAll("#results tbody tr").length === 1`, status))
	}
	denied := `location.search.includes("status=Denied") && document.querySelector("#filter-status")?.value === "Denied" && document.querySelector("#results tbody")?.innerText.includes("Denied")`
	b.open(t, s.path("SigningRequests"))
	filter("Denied")
	b.wait(t, `document.querySelector("#announce").textContent === "Signing requests listed: 1"`)
	filter("Completed")
	eval[bool](t, b, `(history.back(), true)`)
	b.wait(t, denied)
	b.click(t, "#results .cell-main a")
	b.sees(t, "The version number is wrong.")
}

// TestWithoutScripts goes from the sign-in page to an approval in a browser that runs no scripts.
func TestWithoutScripts(t *testing.T) {
	t.Parallel()
	browser := chromium(t)
	w := newWorld(t)
	r := w.request(t, w.Sam, w.Release)
	b := w.openTab(browser, t, signing.Actor{})
	b.scriptless(t)
	b.open(t, w.requestPath(r.ID))
	b.do(t, chromedp.SendKeys(chromedp.CSS("#email"), "rita@acme.example"), chromedp.SendKeys(chromedp.CSS("#password"), password+kb.Enter))
	b.do(t, chromedp.WaitVisible(chromedp.CSS("#action-Approve")))
	b.do(t, chromedp.Click(chromedp.CSS("#action-Approve")), chromedp.WaitVisible(chromedp.CSS("main #action-text")))
	b.do(t, chromedp.SendKeys(chromedp.CSS("#action-text"), "Read and tested."), chromedp.Click(chromedp.CSS("main .actions button")))
	b.do(t, chromedp.WaitVisible(chromedp.CSS("#approvals-heading")))
	v, err := w.Request(t.Context(), w.Rita, r.ID)
	if err != nil || len(v.Approvals) != 1 || v.Approvals[0].Comment != "Read and tested." {
		t.Errorf("approvals %+v, %v", v.Approvals, err)
	}
}

// TestReordering shows names with characters that turn the order of others: they are marked, in archives as well.
func TestReordering(t *testing.T) {
	t.Parallel()
	const turned = "invoice\u202efdp.exe"
	for given, want := range map[string]string{
		turned:                     "invoice\ufffdfdp.exe",
		"\u2066a\u2069":            "\ufffda\ufffd",
		"\u05e9\u05dc\u05d5\u05dd": "\u05e9\u05dc\u05d5\u05dd", // Hebrew, which is read so anyway
		"plain":                    "plain",
	} {
		if got := string(inReadingOrder([]byte(given))); got != want {
			t.Errorf("%q became %q, want %q", given, got, want)
		}
	}
	w := newWorld(t)
	long := strings.Repeat("n", 251) + ".exe"
	for _, name := range []string{turned, long} {
		st, err := w.Stage(t.Context(), w.Sam, name, strings.NewReader(string(examplePE)))
		if err != nil {
			t.Fatal(err)
		}
		r := w.request(t, w.Sam, w.Test, func(s *signing.Submission) { s.Artifact, s.Description = st, "From "+turned })
		page := w.browser(t, w.Sam).get(t, w.requestPath(r.ID)).wantStatus(t, http.StatusOK)
		checkPage(t, page)
		if strings.Contains(page.body, "\u202e") || !strings.Contains(page.body, "From invoice\ufffdfdp.exe") {
			t.Error("the page turns what it shows")
		}
		if name == long && !strings.Contains(page.body, long) {
			t.Error("the page does not show the whole name")
		}
	}
}
