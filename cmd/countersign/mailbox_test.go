package main

import (
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/countersign-dev/countersign/internal/signing"
)

func TestMailbox(t *testing.T) {
	t.Parallel()
	m := &mailbox{public: &url.URL{Scheme: "http", Host: "localhost:1"}}
	get := func(method, path string) (*http.Response, string) {
		rec := httptest.NewRecorder()
		m.ServeHTTP(rec, httptest.NewRequestWithContext(t.Context(), method, path, nil))
		res := rec.Result()
		body, err := io.ReadAll(res.Body)
		if err != nil {
			t.Fatal(err)
		}
		return res, string(body)
	}
	if _, body := get("GET", "/Mailbox"); !strings.Contains(body, "No mail yet") {
		t.Errorf("an empty mailbox shows %s", body)
	}
	const hostile = `<script>alert(1)</script>"'`
	for range mailboxLimit + 1 {
		_, err := m.SendMail(t.Context(), signing.Mail{ID: signing.NewID(), To: hostile + "@demo.example", Notice: signing.Notice{
			Event: signing.EventApprovalRequested, Project: hostile, Policy: hostile, FileName: hostile,
		}})
		if err != nil {
			t.Fatal(err)
		}
	}
	res, body := get("GET", "/Mailbox/")
	if strings.Contains(body, "<script") || strings.Count(body, "<article>") != mailboxLimit {
		t.Errorf("the list holds %d letters, or a script", strings.Count(body, "<article>"))
	}
	if csp := res.Header.Get("Content-Security-Policy"); !strings.Contains(csp, "default-src 'none'") || strings.Contains(csp, "unsafe") {
		t.Errorf("policy of the list: %s", csp)
	}
	res, body = get("GET", "/Mailbox/201")
	if res.StatusCode != http.StatusOK || strings.Contains(body, "<script") || !strings.Contains(res.Header.Get("Content-Security-Policy"), "sandbox") {
		t.Errorf("a letter: %d, %s", res.StatusCode, res.Header)
	}
	for _, path := range []string{"/Mailbox/1", "/Mailbox/202", "/Mailbox/x"} { // dropped, not there, no number
		if res, _ := get("GET", path); res.StatusCode != http.StatusNotFound {
			t.Errorf("%s: %d", path, res.StatusCode)
		}
	}
	if res, _ := get("POST", "/Mailbox"); res.StatusCode != http.StatusMethodNotAllowed {
		t.Errorf("POST: %d", res.StatusCode)
	}
}
