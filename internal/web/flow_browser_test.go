package web

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/cdproto/webauthn"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"github.com/countersign-dev/countersign/internal/signing"
	"github.com/countersign-dev/countersign/internal/store"
	"github.com/countersign-dev/countersign/internal/worker"
)

// work lets the installation's own worker process signing requests until the test ends.
func (w *world) work(t *testing.T) {
	t.Helper()
	handler := &worker.Worker{Domain: w.Service}
	queue, err := store.NewQueue(w.db, func(ctx context.Context, j store.Job) error { return handler.Handle(ctx, j.Kind, j.Subject) }, store.QueueConfig{Workers: 1})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- queue.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil && ctx.Err() == nil {
			t.Error(err)
		}
	})
}

// rests waits until what the selector finds can be used as a person would: it is enabled, in sight, covered by nothing, stays where
// it is, and no script is about to replace it.
func (b *tab) rests(t *testing.T, selector string) {
	t.Helper()
	b.wait(t, fmt.Sprintf(`(async () => {
		const element = document.querySelector(%q), frame = () => new Promise(requestAnimationFrame);
		if (!element || element.matches(":disabled") || document.querySelector(".htmx-request, .htmx-swapping, .htmx-settling")) return false;
		element.scrollIntoView({block: "center", behavior: "instant"});
		await frame();
		const before = element.getBoundingClientRect();
		await frame();
		const { x, y, width, height } = element.getBoundingClientRect();
		return x === before.x && y === before.y && element.contains(document.elementFromPoint(x + width / 2, y + height / 2));
	})()`, selector))
}

// click clicks what the selector finds.
func (b *tab) click(t *testing.T, selector string) {
	t.Helper()
	b.rests(t, selector)
	b.do(t, chromedp.Click(chromedp.CSS(selector)))
}

// fill types a text into the field that the selector finds.
func (b *tab) fill(t *testing.T, selector, text string) {
	t.Helper()
	b.rests(t, selector)
	b.do(t, chromedp.SendKeys(chromedp.CSS(selector), text))
}

// press types keys at what has the focus.
func (b *tab) press(t *testing.T, keys string) { t.Helper(); b.do(t, chromedp.KeyEvent(keys)) }

// signInByKeyboard types address and password, as a person without a mouse.
func (b *tab) signInByKeyboard(t *testing.T, email string) {
	t.Helper()
	b.wait(t, `document.activeElement?.id === "email"`)
	b.press(t, email+kb.Tab+password+kb.Enter)
	b.sees(t, "Dashboard")
}

// TestReleaseScenario goes the way of a release in two browsers: Sam submits a program, sees it signed live, and resubmits it for
// release; Rita, who waits on the page, approves; Sam downloads the released program.
func TestReleaseScenario(t *testing.T) {
	t.Parallel()
	browser := chromium(t)
	w := newWorld(t)
	w.work(t)
	sam, rita := w.openTab(browser, t, signing.Actor{}), w.openTab(browser, t, signing.Actor{})

	// The link that the notification brought leads to the sign-in page and back.
	sam.open(t, w.path("Submit"))
	sam.signInByKeyboard(t, "sam@acme.example")
	sam.wait(t, `location.pathname.endsWith("/Submit")`)
	sam.do(t, chromedp.SetValue(chromedp.CSS("#policy"), string(w.Test.ID)))
	eval[bool](t, sam, `document.querySelector("#policy").dispatchEvent(new Event("change", {bubbles: true}))`)
	sam.sees(t, "Parameter version")
	sam.sees(t, "One file, as Windows program wants it (pe-file).")
	file := filepath.Join(t.TempDir(), "setup.exe")
	if err := os.WriteFile(file, examplePE, 0o600); err != nil {
		t.Fatal(err)
	}
	sam.do(t, chromedp.SetUploadFiles(chromedp.CSS("#artifact"), []string{file}))
	sam.sees(t, "setup.exe, 1.5 kB")
	sam.fill(t, "#description", "Release 2.1, candidate 3")
	sam.click(t, "#submit-button")
	sam.wait(t, `location.pathname.includes("/SigningRequests/")`)
	sam.sees(t, "Signed artifact") // without loading the page again
	sam.sees(t, "1 signature made")

	// Resubmit, in the dialog.
	sam.click(t, "#action-Resubmit")
	sam.wait(t, `document.querySelector("dialog").open && document.querySelector("dialog").contains(document.activeElement)`)
	sam.sees(t, "Release certificate 2026")
	sam.press(t, kb.Escape)
	sam.wait(t, `!document.querySelector("dialog").open`)
	sam.click(t, "#action-Resubmit")
	sam.click(t, fmt.Sprintf(`dialog input[value=%q]`, w.Release.ID))
	sam.fill(t, "#action-text", "Please release")
	original := eval[string](t, sam, `location.pathname`)
	sam.click(t, "dialog button[type=submit]")
	sam.wait(t, fmt.Sprintf(`location.pathname !== %q`, original))
	sam.sees(t, "Waiting for approval")
	release := eval[string](t, sam, `location.pathname`)
	if got := eval[bool](t, sam, `document.querySelector("#action-Approve") === null`); !got {
		t.Error("the submitter may approve")
	}

	// Rita approves by keyboard alone.
	rita.open(t, release)
	rita.signInByKeyboard(t, "rita@acme.example")
	rita.wait(t, fmt.Sprintf(`location.pathname === %q`, release))
	rita.sees(t, "Please release")
	eval[bool](t, rita, `document.querySelector("#action-Approve").focus() ?? true`)
	rita.press(t, kb.Enter)
	rita.wait(t, `document.activeElement?.id === "action-text"`)
	rita.press(t, "Tested on three machines."+kb.Tab+kb.Enter)
	rita.wait(t, `!document.querySelector("dialog").open`)
	rita.sees(t, "Rita Release Approved")

	// Sam's page follows: status, buttons, and what a screen reader is told.
	sam.sees(t, "Signed artifact")
	sam.wait(t, `document.querySelector("#announce").textContent.includes("Completed")`)
	sam.sees(t, "Tested on three machines.")
	sum := eval[string](t, sam, `fetch(location.pathname + "/SignedArtifact").then((r) => r.arrayBuffer()).then((b) => crypto.subtle.digest("SHA-256", b))
		.then((d) => Array.from(new Uint8Array(d), (v) => v.toString(16).padStart(2, "0")).join(""))`)
	id, _ := signing.ParseID(release[strings.LastIndex(release, "/")+1:])
	r, err := w.Request(t.Context(), w.Sam, id)
	if err != nil || r.Signed.SHA256 != sum || r.Description != "Please release" {
		t.Errorf("downloaded %s, the signed artifact is %+v: %v", sum, r.Signed, err)
	}
	if before := sha256.Sum256(examplePE); hex.EncodeToString(before[:]) == sum {
		t.Error("the signed artifact is the unsigned one")
	}
}

// TestLiveRequestKeepsPlace changes a request while somebody reads its page: what was opened stays open, the focus stays.
func TestLiveRequestKeepsPlace(t *testing.T) {
	t.Parallel()
	browser := chromium(t)
	w := newWorld(t)
	r := w.request(t, w.Sam, w.Release)
	b := w.openTab(browser, t, w.Sam)
	b.open(t, w.requestPath(r.ID))
	b.click(t, "#check-1 summary")
	b.sees(t, "valid until")
	eval[bool](t, b, `document.querySelector("#action-Cancel").focus() ?? true`)
	if _, err := w.Deny(t.Context(), w.Rita, r.ID, "Not today."); err != nil {
		t.Fatal(err)
	}
	b.sees(t, "Rita Release denied the request: Not today.")
	b.wait(t, `document.querySelector("#check-1").open`)
	b.wait(t, `document.querySelector("#action-Cancel") === null`)
}

// mouse moves to the middle of what the selector finds, and presses or releases the button there.
func (b *tab) mouse(t *testing.T, selector string, kind input.DispatchMouseEventType) {
	t.Helper()
	at := eval[[2]float64](t, b, fmt.Sprintf(`(({x, y, width, height}) => [x + width / 2, y + height / 2])(document.querySelector(%q).getBoundingClientRect())`, selector))
	call(t, b, input.DispatchMouseEvent, input.DispatchMouseEventParams{Type: kind, X: at[0], Y: at[1], Button: input.MouseButtonLeft, ClickCount: 1})
}

// TestClickIsNotLost presses a button while the page changes: what is pressed stays until it is released.
func TestClickIsNotLost(t *testing.T) {
	t.Parallel()
	browser := chromium(t)
	w := newWorld(t)
	r := w.request(t, w.Sam, w.Release)
	b := w.openTab(browser, t, w.Sam)

	b.open(t, w.requestPath(r.ID))
	b.rests(t, "#check-1 summary")
	b.mouse(t, "#check-1 summary", input.DispatchMouseEventTypeMousePressed)
	if _, err := w.Deny(t.Context(), w.Rita, r.ID, "Not today."); err != nil {
		t.Fatal(err)
	}
	b.wait(t, `performance.getEntriesByType("resource").some((e) => e.initiatorType === "xmlhttprequest" && e.responseEnd > 0)`)
	b.mouse(t, "#check-1 summary", input.DispatchMouseEventTypeMouseReleased)
	b.sees(t, "Rita Release denied the request: Not today.")
	b.wait(t, `document.querySelector("#check-1").open`)

	// To leave the field for the file name must not make another list of what is pressed next.
	b.open(t, w.path("SigningRequests"))
	eval[bool](t, b, `(document.querySelector("#filter-status").value = "Denied", document.querySelector("#filter-status").dispatchEvent(new Event("change", {bubbles: true})))`)
	b.wait(t, `location.search.includes("status=Denied")`)
	b.fill(t, "#filter-file", "setup")
	b.wait(t, `location.search.includes("file=setup")`)
	b.rests(t, "#results .cell-main a")
	eval[bool](t, b, `(document.addEventListener("htmx:beforeRequest", () => { document.body.dataset.asked = "again"; }), true)`)
	b.mouse(t, "#results .cell-main a", input.DispatchMouseEventTypeMousePressed)
	if eval[bool](t, b, `document.body.dataset.asked === "again"`) {
		t.Error("the list is fetched once more when the field loses the focus")
	}
	b.mouse(t, "#results .cell-main a", input.DispatchMouseEventTypeMouseReleased)
	b.sees(t, "Rita Release denied the request: Not today.")
}

// TestPasskeys adds a passkey on the account page, signs in with it, and accepts an invitation with another one.
func TestPasskeys(t *testing.T) {
	t.Parallel()
	browser := chromium(t)
	w := newWorld(t)
	b := w.openTab(browser, t, w.Sam)
	call(t, b, webauthn.Enable, webauthn.EnableParams{})
	authenticator := call(t, b, webauthn.AddVirtualAuthenticator, webauthn.AddVirtualAuthenticatorParams{Options: &webauthn.VirtualAuthenticatorOptions{
		Protocol: "ctap2", Transport: "internal", HasResidentKey: true, HasUserVerification: true, IsUserVerified: true, AutomaticPresenceSimulation: true,
	}})
	b.open(t, w.path("Account"))
	b.fill(t, "#passkey-name", "work laptop")
	b.click(t, `form[data-passkey=create] button`)
	b.sees(t, "The passkey was added.")
	b.sees(t, "work laptop")

	b.click(t, "details.menu summary")
	b.click(t, ".menu-items button")
	b.sees(t, "Sign in with a passkey")
	b.click(t, `form[data-passkey=get] button`)
	b.sees(t, "Your recent signing requests")
	b.open(t, w.path("Account"))
	b.sees(t, "work laptop")
	b.click(t, `button[aria-label="Remove passkey work laptop"]`)
	b.sees(t, "The passkey was removed.")
	b.click(t, "details.menu summary")
	b.click(t, ".menu-items button")
	b.click(t, `form[data-passkey=get] button`)
	b.sees(t, "The passkey was not accepted")
	call(t, b, webauthn.ClearCredentials, webauthn.ClearCredentialsParams(authenticator))

	u, err := w.CreateUser(t.Context(), w.Ada, signing.NewUser{Kind: signing.Interactive, Name: "Nina New", Email: "nina@acme.example"})
	if err != nil {
		t.Fatal(err)
	}
	code, _, err := w.auth.Invite(t.Context(), w.Ada, u.ID)
	if err != nil {
		t.Fatal(err)
	}
	b.open(t, "/Web/Invitation/"+url.PathEscape(code))
	b.click(t, `form[data-passkey=create] button`)
	b.sees(t, "Nina New")
	b.sees(t, "Dashboard")
	keys, err := w.auth.Passkeys(t.Context(), w.Ada, u.ID)
	if err != nil || len(keys) != 1 {
		t.Errorf("Nina has the passkeys %v, %v", keys, err)
	}
}

// TestThemeSwitch changes the colours without loading the page, and keeps the choice.
func TestThemeSwitch(t *testing.T) {
	t.Parallel()
	browser := chromium(t)
	w := newWorld(t)
	b := w.openTab(browser, t, w.Sam)
	b.open(t, w.path("Submit"))
	b.fill(t, "#description", "half typed")
	b.click(t, `button[name=theme][value=dark]`)
	b.wait(t, `document.documentElement.dataset.bsTheme === "dark"`)
	if got := eval[string](t, b, `document.querySelector("#description").value`); got != "half typed" {
		t.Errorf("the form holds %q", got)
	}
	b.wait(t, `fetch(location.href).then((r) => r.text()).then((t) => t.includes('data-theme="dark"'))`)
}

// TestUploadInBrowser drops several files, is refused once, and submits them as a bundle.
func TestUploadInBrowser(t *testing.T) {
	t.Parallel()
	browser := chromium(t)
	w := newWorld(t)
	b := w.openTab(browser, t, w.Sam)
	b.open(t, withQuery(w.path("Submit"), "policy", string(w.Test.ID), "configuration", "zip"))
	eval[bool](t, b, `(() => {
		const data = new DataTransfer(), area = document.querySelector("[data-drop]");
		for (const name of ["one.exe", "two.exe"]) data.items.add(new File([Uint8Array.from(atob("`+base64Of(examplePE)+`"), (c) => c.charCodeAt(0))], name));
		area.dispatchEvent(new DragEvent("drop", {bubbles: true, cancelable: true, dataTransfer: data}));
		return true;
	})()`)
	b.sees(t, "two.exe, 1.5 kB")
	eval[bool](t, b, `(document.querySelector("#description").removeAttribute("maxlength"), document.querySelector("#description").value = "x".repeat(5000), true)`)
	b.click(t, "#submit-button")
	b.wait(t, `document.querySelector("#description[aria-invalid=true]") !== null`)
	if got := eval[int](t, b, `document.querySelector("#description").value.length`); got != 5000 {
		t.Errorf("the refused form keeps %d characters", got)
	}
	eval[bool](t, b, `(document.querySelector("#description").value = "Both", true)`)
	dir := t.TempDir()
	files := []string{filepath.Join(dir, "one.exe"), filepath.Join(dir, "two.exe")}
	for _, f := range files {
		if err := os.WriteFile(f, examplePE, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	b.do(t, chromedp.SetUploadFiles(chromedp.CSS("#artifact"), files))
	b.click(t, "#submit-button")
	b.wait(t, `location.pathname.includes("/SigningRequests/")`)
	b.sees(t, "bundle.zip")
}

func base64Of(b []byte) string { return base64.StdEncoding.EncodeToString(b) }
