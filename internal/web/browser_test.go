package web

import (
	"archive/zip"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"

	"github.com/countersign-dev/countersign/internal/auth"
	"github.com/countersign-dev/countersign/internal/oracle"
	"github.com/countersign-dev/countersign/internal/signing"
)

// chromium starts a browser with an empty profile of its own. It talks to nobody but the test's server.
func chromium(t *testing.T) context.Context {
	t.Helper()
	path := oracle.Need(t, "chromium")
	b, err := loadBundle()
	if err != nil {
		t.Fatal(err)
	}
	if !b.built() {
		oracle.Missing(t, "the pages' assets are not built: run make assets")
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(path), chromedp.UserDataDir(t.TempDir()), chromedp.NoSandbox, chromedp.DisableGPU, chromedp.NoFirstRun,
		chromedp.Flag("disable-background-networking", true), chromedp.Flag("disable-component-update", true),
		chromedp.Flag("disable-sync", true), chromedp.Flag("hide-scrollbars", true), chromedp.WSURLReadTimeout(2*soon),
	)
	allocator, stop := chromedp.NewExecAllocator(t.Context(), options...)
	ctx, closeTab := chromedp.NewContext(allocator)
	t.Cleanup(func() { closeTab(); stop() })
	if err := chromedp.Do(ctx); err != nil {
		t.Fatalf("start chromium: %v", err)
	}
	return ctx
}

// tab is a browser window with cookies of its own, and what went wrong in it.
type tab struct {
	ctx      context.Context
	w        *world
	mu       sync.Mutex
	problems []string
}

// open makes a new window, in which the actor is signed in; nobody for the zero actor.
func (w *world) openTab(browser context.Context, t *testing.T, a signing.Actor) *tab {
	t.Helper()
	ctx, stop := chromedp.NewContext(browser, chromedp.WithNewBrowserContext())
	t.Cleanup(stop)
	ctx, cancel := context.WithTimeout(ctx, 20*soon)
	t.Cleanup(cancel)
	b := &tab{ctx: ctx, w: w}
	if err := chromedp.Do(ctx); err != nil {
		t.Fatalf("open a tab: %v", err)
	}
	err := chromedp.Listen(ctx, func(event any) {
		text := ""
		switch e := event.(type) {
		case *runtime.EventExceptionThrown:
			text = e.ExceptionDetails.Text
		case *log.EventEntryAdded:
			if e.Entry.Level == log.EntryLevelError && !strings.Contains(e.Entry.Text, "Failed to load resource") {
				text = e.Entry.Text // such as a breach of the content security policy
			}
		case *network.EventRequestWillBeSent:
			if u := e.Request.URL; !strings.HasPrefix(u, w.server.URL+"/") && !strings.HasPrefix(u, "data:") {
				text = "a request to " + u
			}
		}
		if text != "" {
			b.mu.Lock()
			b.problems = append(b.problems, text)
			b.mu.Unlock()
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	call(t, b, log.Enable, cdp.Empty{})
	call(t, b, network.Enable, network.EnableParams{})
	call(t, b, runtime.Enable, cdp.Empty{})
	if a.UserID != "" {
		b.cookie(t, sessionCookie, w.cookies[a.UserID])
	}
	t.Cleanup(func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		for _, p := range b.problems {
			t.Errorf("in the browser: %s", p)
		}
	})
	return b
}

// call sends a command of the DevTools protocol.
func call[P, R any](t *testing.T, b *tab, command cdp.Command[P, R], params P) R {
	t.Helper()
	r, err := chromedp.Call(b.ctx, command, params)
	if err != nil {
		t.Fatalf("%s: %v", command.Method, err)
	}
	return r
}

func (b *tab) cookie(t *testing.T, name, value string) {
	t.Helper()
	call(t, b, network.SetCookie, network.SetCookieParams{Name: name, Value: value, URL: b.w.server.URL, HTTPOnly: ptr(true)})
}

func (b *tab) do(t *testing.T, actions ...chromedp.Action[chromedp.Void]) {
	t.Helper()
	if err := chromedp.Do(b.ctx, actions...); err != nil {
		b.stuck(t, err)
	}
}

// scriptless makes the window run no scripts of pages.
func (b *tab) scriptless(t *testing.T) {
	t.Helper()
	call(t, b, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: true})
}

// stuck ends the test and tells what the page shows.
func (b *tab) stuck(t *testing.T, err error) {
	t.Helper()
	where, _ := chromedp.Run(b.ctx, chromedp.Location())
	text, _ := chromedp.Run(b.ctx, chromedp.Evaluate[string](`document.body.innerText.slice(0, 2000)`))
	t.Fatalf("%v\nat %s:\n%s", err, where, text)
}

// open loads a page. It waits until the page that is left was loaded, or its end of loading would be taken for that of the new one.
func (b *tab) open(t *testing.T, path string) {
	t.Helper()
	for end := time.Now().Add(soon); ; {
		b.wait(t, `document.readyState === "complete" && (window.left = true)`)
		err := chromedp.Do(b.ctx, chromedp.Navigate(b.w.server.URL+path))
		if err == nil {
			b.wait(t, `!window.left && document.readyState === "complete"`)
			return
		}
		// The page that is left was loading another one.
		if !strings.Contains(err.Error(), "net::ERR_ABORTED") || time.Now().After(end) {
			b.stuck(t, err)
		}
	}
}

// wait repeats an expression until it is true: pages change by themselves, and are replaced by others, which may lack what it asks.
func (b *tab) wait(t *testing.T, expression string) {
	t.Helper()
	deadline := time.After(soon)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		ok, err := chromedp.Run(b.ctx, chromedp.Evaluate[bool](expression, chromedp.EvalAwaitPromise))
		if ok && err == nil {
			return
		}
		select {
		case <-tick.C:
		case <-deadline:
			b.stuck(t, fmt.Errorf("waiting for %s: %w", expression, errors.Join(errors.New("it took too long"), err)))
		}
	}
}

// sees waits for a text to be seen.
func (b *tab) sees(t *testing.T, text string) {
	t.Helper()
	b.wait(t, fmt.Sprintf(`document.body?.innerText.includes(%q)`, text))
}

// eval returns what an expression gives, once a promise is kept.
func eval[T any](t *testing.T, b *tab, expression string) T {
	t.Helper()
	v, err := chromedp.Run(b.ctx, chromedp.Evaluate[T](expression, chromedp.EvalAwaitPromise))
	if err != nil {
		b.stuck(t, err)
	}
	return v
}

// TestScreenshots looks at every page in both themes and at two widths: it keeps the rules for accessibility, nothing sticks out,
// nothing breaks the content security policy. With COUNTERSIGN_SCREENSHOTS set it leaves a picture of each there.
func TestScreenshots(t *testing.T) {
	t.Parallel()
	browser := chromium(t)
	s := newScene(t, newWorld(t))
	pages := s.pages()
	who := map[string]signing.Actor{"approve": s.Rita, "deny": s.Rita, "request-waiting": s.Rita, "dashboard": s.Sam}
	for name := range pages {
		if strings.HasPrefix(name, "webhook") {
			who[name] = s.Ada
		}
	}
	pages["dashboard-approver"], who["dashboard-approver"] = s.path(), s.Rita
	pages["dashboard-nothing"], who["dashboard-nothing"] = s.path(), s.Stan
	pages["submit-nothing"], who["submit-nothing"] = s.path("Submit"), s.Stan
	pages["sign-in"], who["sign-in"] = "/Web/SignIn", signing.Actor{}
	u, err := s.CreateUser(t.Context(), s.Ada, signing.NewUser{Kind: signing.Interactive, Name: "Nina New", Email: "nina@acme.example"})
	if err != nil {
		t.Fatal(err)
	}
	code, _, err := s.auth.Invite(t.Context(), s.Ada, u.ID)
	if err != nil {
		t.Fatal(err)
	}
	pages["invitation"], who["invitation"] = "/Web/Invitation/"+code, signing.Actor{}
	if _, _, err := s.auth.IssueToken(t.Context(), s.Sam, signing.UserToken, s.Sam.UserID, auth.TokenOptions{Name: "Release script on the build server"}); err != nil {
		t.Fatal(err)
	}
	b := s.openTab(browser, t, s.Sam)
	b.open(t, s.path())
	eval[bool](t, b, `(document.querySelector("h1").style.color = "#999", document.querySelector("h2").style.marginLeft = "200vw", true)`)
	if found := b.problemsShown(t); len(found) < 2 || !strings.Contains(strings.Join(found, " "), "color-contrast") {
		t.Errorf("the checks find %q, not what was put there", found)
	}
	pages["retry"] = s.requestPath(s.failed.ID, "Retry")
	archive := s.archive(t)
	pages["request-archive"], pages["report-archive"] = s.requestPath(archive.ID), s.requestPath(archive.ID, "Report")
	directory := os.Getenv("COUNTERSIGN_SCREENSHOTS")
	tabs := map[signing.ID]*tab{}
	for _, name := range sortedKeys(pages) {
		actor, ok := who[name]
		if !ok {
			actor = s.Sam
		}
		if tabs[actor.UserID] == nil {
			tabs[actor.UserID] = s.openTab(browser, t, actor)
		}
		b := tabs[actor.UserID]
		for _, theme := range []string{"light", "dark"} {
			b.cookie(t, themeCookie, theme)
			for _, width := range []int64{1280, 390} {
				b.resize(t, width)
				b.open(t, pages[name])
				eval[bool](t, b, `document.fonts.ready.then(() => true)`)
				if name == "webhook" {
					eval[bool](t, b, `document.querySelectorAll("#deliveries details").forEach((d) => { d.open = true; }) ?? true`)
				}
				b.look(t, directory, fmt.Sprintf("%s-%s-%d", name, theme, width))
				if name == "request-done" {
					b.click(t, "#action-Resubmit")
					b.wait(t, `document.querySelector("dialog").open`)
					b.look(t, directory, fmt.Sprintf("dialog-%s-%d", theme, width))
				}
				if name == "dashboard" {
					b.click(t, "details.menu summary")
					b.look(t, directory, fmt.Sprintf("menu-%s-%d", theme, width))
				}
			}
			b.narrow(t, name)
		}
	}
}

// archive makes a request with a ZIP archive and names as long as they get.
func (w *world) archive(t *testing.T) *signing.Request {
	t.Helper()
	var content bytes.Buffer
	z := zip.NewWriter(&content)
	for _, name := range []string{"setup.exe", "tools.exe", "an executable with a name that is rather long because somebody put the version and the platform into it 2026.11.22-x64.exe", "read me.txt", "licenses/third party.txt"} {
		f, err := z.Create(name)
		if err == nil {
			_, err = f.Write(examplePE)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	st, err := w.Stage(t.Context(), w.Sam, "Acme_App_"+strings.Repeat("Professional_", 8)+"2026.11.22.zip", &content)
	if err != nil {
		t.Fatal(err)
	}
	return w.request(t, w.Sam, w.Test, func(s *signing.Submission) {
		s.Artifact, s.ConfigurationID = st, ""
		s.Target = signing.Target{ProjectSlug: "app", PolicySlug: "test-signing", ConfigurationSlug: "zip"}
		s.Description = "https://ci.acme.example/" + strings.Repeat("a-very-long-address/", 12) + " and then " + strings.Repeat("some more words ", 20)
	})
}
