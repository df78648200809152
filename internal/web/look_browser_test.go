package web

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"

	"github.com/countersign-dev/countersign/internal/oracle"
)

// axe is the program that holds a page against the rules of WCAG, from what the bundle's lock file pins.
var axe = sync.OnceValues(func() (string, error) {
	script, err := os.ReadFile("assets/node_modules/axe-core/axe.min.js")
	return string(script), err
})

// accessible lists the page's breaches of WCAG 2.2, levels A and AA, as far as a program can find them.
const accessible = `axe.run(document, {resultTypes: ["violations"], runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]}).then(({violations}) =>
  violations.flatMap(({id, nodes}) => nodes.slice(0, 5).map((n) => id + ": " + n.html.slice(0, 160) + " " + (n.failureSummary ?? "").replace(/\s+/g, " "))))`

// overflow lists what sticks out of the page or of its card.
const overflow = `(() => {
  const found = new Set(), page = document.documentElement;
  if (page.scrollWidth > page.clientWidth) found.add("the page is " + page.scrollWidth + " wide in a window of " + page.clientWidth);
  for (const e of document.body.querySelectorAll("*")) {
    if (e.closest("pre, .site-nav, .visually-hidden, .skip, svg") || !e.checkVisibility()) continue;
    const card = e.parentElement.closest(".card, dialog"), limit = card ? card.getBoundingClientRect().right : page.clientWidth;
    if (e.getBoundingClientRect().right > limit + 1) found.add("sticks out: " + e.tagName + "." + e.className);
  }
  return [...found];
})()`

// problemsShown lists what is wrong with the page as it is shown now.
func (b *tab) problemsShown(t *testing.T) []string {
	t.Helper()
	script, err := axe()
	if errors.Is(err, fs.ErrNotExist) {
		oracle.Missing(t, "axe-core is not installed: run make assets")
	} else if err != nil {
		t.Fatal(err)
	}
	if !eval[bool](t, b, `typeof axe === "object"`) {
		eval[bool](t, b, script+"; true")
	}
	return append(eval[[]string](t, b, overflow), eval[[]string](t, b, accessible)...)
}

// look checks what the page shows, and leaves a picture in the directory unless that is empty.
func (b *tab) look(t *testing.T, directory, name string) {
	t.Helper()
	for _, problem := range b.problemsShown(t) {
		t.Errorf("%s: %s", name, problem)
	}
	if directory != "" {
		b.screenshot(t, filepath.Join(directory, name+".png"))
	}
}

// resize gives the window a width in CSS pixels. A window of 1280 pixels has 640 of them at a zoom of 200 % and 320 at 400 %.
func (b *tab) resize(t *testing.T, width int64) {
	t.Helper()
	call(t, b, emulation.SetDeviceMetricsOverride, emulation.SetDeviceMetricsOverrideParams{Width: width, Height: 900, DeviceScaleFactor: 1, Mobile: width < 500})
}

// narrow checks that the page can be read without scrolling sideways at zooms of 200 % and 400 % (WCAG 2.2, success criterion 1.4.10).
func (b *tab) narrow(t *testing.T, name string) {
	t.Helper()
	for _, width := range []int64{640, 320} {
		b.resize(t, width)
		for _, problem := range eval[[]string](t, b, overflow) {
			t.Errorf("%s, %d pixels wide: %s", name, width, problem)
		}
	}
}

func (b *tab) screenshot(t *testing.T, path string) {
	t.Helper()
	picture, err := chromedp.Run(b.ctx, chromedp.FullScreenshot(100))
	if err == nil {
		err = os.MkdirAll(filepath.Dir(path), 0o755)
	}
	if err == nil {
		err = os.WriteFile(path, picture, 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
}
