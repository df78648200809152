package web

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

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
	// A search for "held" that went on by itself gets no answer.
	held, dropped := make(chan struct{}, 10), make(chan struct{}, 10)
	server := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if q := r.URL.Query(); q.Get("file") == "held" && q.Has("after") {
			held <- struct{}{}
			<-r.Context().Done()
			dropped <- struct{}{}
			return
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
		sam.do(t, chromedp.SendKeys(chromedp.CSS("#filter-file"), name)) // also while a search is under way
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

	// What is typed meanwhile is looked for instead, and the other search ends.
	sam.open(t, list)
	search("held")
	receive(t, held, "the search to go on")
	search("second")
	receive(t, dropped, "the search to end")
	sam.wait(t, found(second))

	// Without scripts there is a link.
	plain := w.openTab(browser, t, w.Sam)
	plain.scriptless(t)
	plain.open(t, list+"?file=second")
	plain.sees(t, "Search older ones")
}

// receive waits for a signal.
func receive(t *testing.T, signal <-chan struct{}, what string) {
	t.Helper()
	select {
	case <-signal:
	case <-time.After(soon):
		t.Fatalf("waited for %s in vain", what)
	}
}
