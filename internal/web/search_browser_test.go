package web

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/countersign-dev/countersign/internal/signing"
)

// nearsighted is a store that looks at one signing request for each page.
type nearsighted struct{ signing.Store }

type nearsightedTx struct{ signing.Tx }

func (s nearsighted) View(ctx context.Context, read func(signing.Tx) error) error {
	return s.Store.View(ctx, func(tx signing.Tx) error { return read(nearsightedTx{tx}) })
}

func (tx nearsightedTx) RequestRows(ctx context.Context, org signing.ID, f signing.RequestFilter) ([]*signing.RequestRow, signing.ID, error) {
	f.Look = 1
	return tx.Tx.RequestRows(ctx, org, f)
}

// TestSearchGoesOn looks for what is many pages away: the pages turn by themselves until something is found, the end is reached,
// or the search is for something else.
func TestSearchGoesOn(t *testing.T) {
	t.Parallel()
	browser := chromium(t)
	w := newWorld(t)
	submit := func(name string) signing.ID {
		return w.request(t, w.Sam, w.Release, func(s *signing.Submission) {
			staged, err := w.Stage(t.Context(), w.Sam, name, bytes.NewReader(examplePE))
			if err != nil {
				t.Fatal(err)
			}
			s.Artifact = staged
		}).ID
	}
	oldest, second := submit("oldest.exe"), submit("second.exe")
	for i := range 6 {
		submit(fmt.Sprintf("setup%d.exe", i))
	}
	h, err := New(Config{
		Signing: signing.New(signing.Config{Store: nearsighted{w.db}, TempDir: t.TempDir()}), Auth: w.auth, Log: slog.New(slog.DiscardHandler), Version: "test",
	})
	if err != nil {
		t.Fatal(err)
	}
	var held atomic.Pointer[chan struct{}] // answers to searches for "oldest" wait for it
	server := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if wait := held.Load(); wait != nil && r.URL.Query().Get("file") == "oldest" {
			select {
			case <-*wait:
			case <-r.Context().Done():
			}
		}
		h.ServeHTTP(rw, r)
	}))
	t.Cleanup(server.Close)
	server.URL = strings.Replace(server.URL, "127.0.0.1", "localhost", 1)
	w.server = server
	list := w.path("SigningRequests")
	found := func(id signing.ID) string {
		return `document.querySelectorAll("#results tbody tr").length === 1 && document.querySelector('#results a[href="` + w.requestPath(id) + `"]') !== null`
	}

	sam := w.openTab(browser, t, w.Sam)
	search := func(name string) {
		t.Helper()
		eval[bool](t, sam, `(document.querySelector("#filter-file").value = "") === ""`)
		sam.fill(t, "#filter-file", name)
	}
	sam.open(t, list)
	search("oldest")
	sam.wait(t, found(oldest))
	sam.sees(t, "Newest")
	// Where it was found is where a reload and the back button come to.
	sam.wait(t, `location.search.includes("after=")`)
	sam.open(t, eval[string](t, sam, "location.pathname + location.search"))
	sam.wait(t, found(oldest))

	sam.open(t, list)
	search("nowhere")
	sam.sees(t, "Nothing matches")

	// What is typed meanwhile is looked for instead.
	wait := make(chan struct{})
	sam.open(t, list+"?file=setup")
	held.Store(&wait)
	search("oldest")
	search("second")
	sam.wait(t, found(second))
	close(wait)
	sam.wait(t, found(second)+` && document.querySelector("#filter-file").value === "second" && !document.querySelector(".htmx-request")`)

	// Without scripts there is a link.
	plain := w.openTab(browser, t, w.Sam)
	plain.scriptless(t)
	plain.open(t, list+"?file=second")
	plain.sees(t, "Search older ones")
}
