package web

import (
	"bytes"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/page"

	"github.com/countersign-dev/countersign/internal/audit"
	"github.com/countersign-dev/countersign/internal/signing"
)

// TestHistoryIsTheAuditLog holds the history on the page and in the report against the audit log: entry by entry, nothing more.
func TestHistoryIsTheAuditLog(t *testing.T) {
	t.Parallel()
	s := newScene(t, newWorld(t))
	words := map[string]string{
		"SigningRequest.Submitted": "Submitted", "SigningRequest.SigningStarted": "Signing started", "SigningRequest.Completed": "Completed",
		"SigningRequest.ApprovalRequested": "Approval requested", "SigningRequest.Denied": "Denied", "SigningRequest.Canceled": "Canceled",
	}
	rob := s.browser(t, s.Rob)
	seen := map[string]bool{}
	for _, r := range []*signing.Request{s.done, s.resubmitted, s.waiting, s.failed, s.denied, s.canceled} {
		leaves, err := s.AuditEntries(t.Context(), s.Ada, signing.AuditFilter{ObjectID: r.ID, Limit: 100})
		if err != nil {
			t.Fatal(err)
		}
		history := elements(byID(rob.get(t, s.requestPath(r.ID)).dom(t), "live"), "ol")[0]
		lines := elements(history, "li")
		report := rob.get(t, s.requestPath(r.ID, "Report")).wantStatus(t, http.StatusOK)
		if len(lines) != len(leaves) || len(leaves) == 0 {
			t.Fatalf("%s: the page tells %d steps, the audit log %d", r.Workflow, len(lines), len(leaves))
		}
		for i, leaf := range leaves {
			e, err := audit.Decode(leaf.Data)
			if err != nil {
				t.Fatal(err)
			}
			seen[e.Event] = true
			got := textOf(lines[i])
			if !strings.HasPrefix(got, words[e.Event]) || words[e.Event] == "" {
				t.Errorf("the step %q stands for %s", got, e.Event)
			}
			if e.Actor.Kind != "System" && !strings.Contains(got, "by "+e.Actor.Name) {
				t.Errorf("the step %q does not name %s", got, e.Actor.Name)
			}
			report.wantText(t, fmt.Sprintf("%s entry %d", e.Time.UTC().Format("2006-01-02 15:04:05"), e.Sequence))
		}
		report.wantText(t, "Chain value of the audit log after entry "+fmt.Sprint(leaves[len(leaves)-1].Sequence)+": "+leaves[len(leaves)-1].Chain.String())
	}
	for event := range words {
		if !seen[event] {
			t.Errorf("no request of the test has the event %s", event)
		}
	}
	if _, err := s.Request(t.Context(), s.Stan, s.done.ID); signing.KindOf(err) != signing.KindNotFound {
		t.Errorf("a stranger reads the history: %v", err)
	}
	if _, err := s.Request(t.Context(), s.Uwe, s.done.ID); signing.KindOf(err) != signing.KindNotFound {
		t.Errorf("another organization reads the history: %v", err)
	}
}

// TestHistoryTellsTheClient: what came in by a token or a browser is told apart.
func TestHistoryTellsTheClient(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	byToken := w.Sam
	byToken.Via = "token csu_ab12cd with cst_ef34"
	r := w.request(t, byToken, w.Release)
	rita := w.browser(t, w.Rita)
	approve := w.requestPath(r.ID, "Approve")
	rita.send(t, approve, approve, map[string][]string{"text": {"Tested."}}).wantRedirect(t, w.requestPath(r.ID))
	for _, path := range []string{w.requestPath(r.ID), w.requestPath(r.ID, "Report")} {
		rita.get(t, path).wantText(t, "with token csu_ab12cd and cst_ef34", "in a browser", "1 of 1 approval", "Tested.")
	}
}

// TestReportPrints prints the report as browsers do, on both sizes of paper, from the dark theme: every page is white, and the texts
// are there. With COUNTERSIGN_SCREENSHOTS set it leaves the documents there.
func TestReportPrints(t *testing.T) {
	t.Parallel()
	browser := chromium(t)
	s := newScene(t, newWorld(t))
	b := s.openTab(browser, t, s.Sam)
	b.cookie(t, themeCookie, "dark")
	reports := map[string]*signing.Request{"done": s.done, "waiting": s.waiting, "failed": s.failed, "archive": s.archive(t)}
	for name, r := range reports {
		b.open(t, s.requestPath(r.ID, "Report"))
		b.sees(t, "Chain value of the audit log")
		for size, paper := range map[string][2]float64{"a4": {8.27, 11.69}, "letter": {8.5, 11}} {
			printed := call(t, b, page.PrintToPDF, page.PrintToPDFParams{PaperWidth: paper[0], PaperHeight: paper[1], PrintBackground: ptr(true)})
			if !bytes.HasPrefix(printed.Data, []byte("%PDF-")) || len(printed.Data) < 10_000 {
				t.Errorf("%s on %s: %d bytes, no document", name, size, len(printed.Data))
			}
			if directory := os.Getenv("COUNTERSIGN_SCREENSHOTS"); directory != "" {
				err := os.MkdirAll(directory, 0o755)
				if err == nil {
					err = os.WriteFile(filepath.Join(directory, "report-"+name+"-"+size+".pdf"), printed.Data, 0o644)
				}
				if err != nil {
					t.Fatal(err)
				}
			}
		}
		b.print(t)
	}
}

// print looks at the page as paper: black on white, no controls, nothing wider than the sheet.
func (b *tab) print(t *testing.T) {
	t.Helper()
	call(t, b, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Media: "print"})
	for _, problem := range eval[[]string](t, b, overflow) {
		t.Errorf("on paper: %s", problem)
	}
	colours := eval[[]string](t, b, `[...new Set([...document.body.querySelectorAll("*"), document.body].filter((e) => e.checkVisibility() && !e.closest(".visually-hidden"))
		.flatMap((e) => { const s = getComputedStyle(e); return [s.backgroundColor, s.borderTopColor, s.color]; }))]`)
	for _, c := range colours {
		if !slices.Contains([]string{"rgb(0, 0, 0)", "rgb(255, 255, 255)", "rgba(0, 0, 0, 0)", "rgb(51, 51, 51)", "rgb(153, 153, 153)"}, c) {
			t.Errorf("on paper: the colour %s", c)
		}
	}
	if eval[bool](t, b, `[...document.querySelectorAll("header.site-header, footer, button, form")].some((e) => e.checkVisibility())`) {
		t.Error("on paper: a control")
	}
	call(t, b, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{})
}
