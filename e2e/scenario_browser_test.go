package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/browser"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"github.com/countersign-dev/countersign/client"
	"github.com/countersign-dev/countersign/e2e/server"
	"github.com/countersign-dev/countersign/internal/oracle"
)

// TestScenarioInBrowser: CI submits; the release manager and the approver use mouse and keyboard, and are told by mail, which
// the demo keeps in its mailbox.
func TestScenarioInBrowser(t *testing.T) {
	t.Parallel()
	manager, approver := openBrowser(t), openBrowser(t)
	demo := startDemo(t, t.TempDir())
	r := newRelease(t, demo)
	ci := demo.client(t, demo.Tokens.CI, client.WithTrustedBuildSystem(demo.TrustedBuildSystemToken))

	// 1, 2. CI submits, the test certificate signs.
	settings := upload("build.yml", readFile(t, r.path("build.yml")))
	test, err := ci.Submit(t.Context(), client.Submission{ProjectSlug: "demo", PolicySlug: "test-signing", Artifact: upload("app.exe", r.candidate), Description: "1.4.0, candidate 3",
		Origin: client.Origin{RepositoryURL: repository, Branch: branch, Commit: commit, BuildURL: buildURL, BuildSettings: &settings}})
	if err != nil {
		t.Fatal(err)
	}

	// 3. The manager downloads the signed file, and tests it.
	manager.open(t, r.webLink(test.SigningRequestID))
	manager.signIn(t, demo.Logins.Admin)
	manager.sees(t, commit[:12])
	manager.download(t, "Signed artifact", r.path("tested.exe"))
	r.signed(t, "tested.exe", testSigner)

	// 4. The manager resubmits it for release.
	manager.click(t, "main", "Resubmit")
	manager.click(t, "dialog", "Release signing with verified origin")
	manager.click(t, "dialog", "Description")
	manager.press(t, "1.4.0, all tests passed")
	manager.click(t, "dialog", "Resubmit")
	manager.sees(t, "Waiting for approval")
	release := manager.location(t)
	releaseID := release[strings.LastIndex(release, "/")+1:]
	request, err := ci.Get(t.Context(), releaseID)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := json.Marshal(request)
	if err != nil {
		t.Fatal(err)
	}
	originVerified(t, raw)
	if manager.shows(t, "Approve") {
		t.Error("the submitter may approve")
	}

	// 5. The approver reads the mail, and follows its link.
	approver.open(t, demo.BaseURL+"/Mailbox")
	approver.sees(t, "Approval requested: app.exe")
	approver.sees(t, commit[:12])
	approver.click(t, "main", "Open the signing request")
	approver.signIn(t, demo.Logins.Approver)
	approver.sees(t, "1.4.0, all tests passed")
	if got := approver.location(t); got != release {
		t.Errorf("the mail leads to %s, not %s", got, release)
	}

	// 6. The approver looks at the verifications, and approves.
	approver.sees(t, "The branch is allowed by the signing policy.")
	approver.click(t, "main", "Approve")
	approver.click(t, "dialog", "Comment")
	approver.press(t, "Test run 4711 passed")
	approver.click(t, "dialog", "Approve")

	// 7. The release certificate signs what was tested. The manager's page shows it by itself.
	manager.sees(t, "Test run 4711 passed")
	manager.download(t, "Signed artifact", r.path("released.exe"))
	r.signed(t, "released.exe", releaseSigner)
	manager.download(t, "As submitted", r.path("unsigned.exe"))
	if !bytes.Equal(readFile(t, r.path("unsigned.exe")), r.candidate) {
		t.Error("other bytes were released than were submitted")
	}
	manager.open(t, demo.BaseURL+"/Mailbox")
	manager.sees(t, "Signed: app.exe")
}

// window is a browser with a profile of its own, in which a person clicks and types.
type window struct {
	ctx       context.Context
	downloads string
}

// patience is how long a person looks for something on a page.
const patience = time.Minute

func openBrowser(t *testing.T) *window {
	t.Helper()
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(oracle.Need(t, "chromium")), chromedp.UserDataDir(t.TempDir()),
		chromedp.NoSandbox, chromedp.DisableGPU, chromedp.NoFirstRun, chromedp.WindowSize(1280, 900), chromedp.WSURLReadTimeout(2*patience),
		chromedp.Flag("disable-background-networking", true), chromedp.Flag("disable-component-update", true), chromedp.Flag("disable-sync", true))
	allocator, stop := chromedp.NewExecAllocator(t.Context(), options...)
	ctx, closeWindow := chromedp.NewContext(allocator)
	t.Cleanup(func() { closeWindow(); stop() })
	b := &window{ctx, t.TempDir()}
	if err := chromedp.Do(ctx); err != nil {
		t.Fatalf("start chromium: %v", err)
	}
	if _, err := chromedp.Call(ctx, browser.SetDownloadBehavior, browser.SetDownloadBehaviorParams{Behavior: browser.SetDownloadBehaviorBehaviorAllow, DownloadPath: b.downloads}); err != nil {
		t.Fatal(err)
	}
	return b
}

// open loads a page. It waits until the page that is left was loaded, or its end of loading would be taken for that of the new one.
func (b *window) open(t *testing.T, address string) {
	t.Helper()
	b.until(t, "leave the page", `document.readyState === "complete" && (window.left = true)`)
	if err := chromedp.Do(b.ctx, chromedp.Navigate(address)); err != nil {
		t.Fatalf("open %s: %v", address, err)
	}
	b.until(t, "load "+address, `!window.left && document.readyState === "complete"`)
}

// eval returns what an expression gives in the page; the zero value while there is none.
func eval[T any](b *window, expression string) (T, error) {
	return chromedp.Run(b.ctx, chromedp.Evaluate[T](expression))
}

// until repeats an expression until it holds: pages change by themselves, and are replaced by others.
func (b *window) until(t *testing.T, what, expression string) {
	t.Helper()
	deadline := time.After(patience)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		ok, err := eval[bool](b, expression)
		if ok && err == nil {
			return
		}
		select {
		case <-tick.C:
		case <-deadline:
			text, _ := eval[string](b, `location.href + "\n" + document.body.innerText.slice(0, 3000)`)
			t.Fatalf("%s: %v\n%s", what, err, text)
		}
	}
}

func (b *window) sees(t *testing.T, text string) {
	t.Helper()
	b.until(t, "look for "+text, fmt.Sprintf(`document.body.innerText.includes(%q)`, text))
}

func (b *window) shows(t *testing.T, button string) bool {
	t.Helper()
	ok, err := eval[bool](b, fmt.Sprintf(`!!(%s)`, find("main", button)))
	if err != nil {
		t.Fatal(err)
	}
	return ok
}

func (b *window) location(t *testing.T) string {
	t.Helper()
	address, err := eval[string](b, `location.href`)
	if err != nil {
		t.Fatal(err)
	}
	return address
}

// find is an expression for what can be clicked and is named so, in the part of the page that the selector finds.
func find(part, name string) string {
	return fmt.Sprintf(`[...document.querySelectorAll(%q)].find((e) => e.checkVisibility() && e.innerText.trim().startsWith(%q))`,
		part+" a, "+part+" button, "+part+" label", name)
}

// click moves the mouse to what is named so, and clicks.
func (b *window) click(t *testing.T, part, name string) {
	t.Helper()
	element := find(part, name)
	b.until(t, "look for "+name+" in "+part, fmt.Sprintf(`!!(%s)`, element))
	at, err := eval[[]float64](b, fmt.Sprintf(`(() => { const e = %s; e.scrollIntoView({block: "center", behavior: "instant"}); const r = e.getBoundingClientRect(); return [r.x + r.width / 2, r.y + r.height / 2]; })()`, element))
	if err != nil || len(at) != 2 {
		t.Fatalf("find %s: %v, %v", name, at, err)
	}
	if err := chromedp.Do(b.ctx, chromedp.MouseClickXY(at[0], at[1])); err != nil {
		t.Fatalf("click %s: %v", name, err)
	}
}

// press types at what has the focus.
func (b *window) press(t *testing.T, keys string) {
	t.Helper()
	if err := chromedp.Do(b.ctx, chromedp.KeyEvent(keys)); err != nil {
		t.Fatal(err)
	}
}

// signIn types address and password into the page that asks for them.
func (b *window) signIn(t *testing.T, as server.Login) {
	t.Helper()
	b.until(t, "sign in", `document.activeElement?.id === "email"`)
	b.press(t, as.Email+kb.Tab+as.Password+kb.Enter)
}

// download clicks a link and moves the file that the browser saves.
func (b *window) download(t *testing.T, name, path string) {
	t.Helper()
	b.click(t, "main", name)
	saved := filepath.Join(b.downloads, "app.exe")
	deadline := time.After(patience)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		// The browser renames the file when it is complete.
		err := os.Rename(saved, path)
		if err == nil {
			return
		}
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("download %s: %v", name, err)
		}
	}
}
