package web

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"

	"github.com/countersign-dev/countersign/internal/signing"
)

// receiver is a server that webhooks call. It answers with the status.
type receiver struct {
	*httptest.Server
	mu      sync.Mutex
	status  int
	headers []http.Header
}

func newReceiver(t *testing.T, status int, answer string) *receiver {
	t.Helper()
	r := &receiver{status: status}
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, call *http.Request) {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.headers = append(r.headers, call.Header.Clone())
		w.WriteHeader(r.status)
		_, _ = w.Write([]byte(answer))
	}))
	t.Cleanup(r.Close)
	return r
}

func (r *receiver) calls() []http.Header {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.headers
}

func (r *receiver) answers(status int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.status = status
}

// deliver carries out what is pending for a webhook.
func (w *world) deliver(t *testing.T, id signing.ID) {
	t.Helper()
	page, err := w.Deliveries(t.Context(), w.Ada, signing.DeliveryQuery{ReceiverID: id, State: signing.DeliveryPending})
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range page.Items {
		if err := w.Deliver(t.Context(), d.ID); err != nil {
			t.Fatal(err)
		}
	}
}

// troubledWebhook makes a webhook with one delivery that arrived and one that was refused.
func (w *world) troubledWebhook(t *testing.T) *signing.Webhook {
	t.Helper()
	r := newReceiver(t, http.StatusNoContent, "")
	hook, _, err := w.CreateWebhook(t.Context(), w.Ada, signing.WebhookEdit{
		Name: ptr("Release system"), URL: ptr(r.URL + "/hooks/countersign"), HeaderValue: ptr("Bearer secret-of-the-receiver"),
	})
	if err != nil {
		t.Fatal(err)
	}
	test := func() {
		if _, err := w.TestWebhook(t.Context(), w.Ada, hook.ID); err != nil {
			t.Fatal(err)
		}
		w.deliver(t, hook.ID)
	}
	test()
	r.answers(http.StatusServiceUnavailable)
	test()
	return hook
}

func TestWebhookPages(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	r := newReceiver(t, http.StatusInternalServerError, "<script>alert(1)</script> not today")
	ada := w.browser(t, w.Ada)
	list, form := w.path("Webhooks"), w.path("Webhooks", "New")
	ada.get(t, w.path()).wantText(t, "Webhooks")
	w.browser(t, w.Sam).get(t, w.path()).wantNoText(t, "Webhooks")
	ada.get(t, list).wantText(t, "No webhook yet")

	// Bad input keeps what was typed, except for secrets.
	for _, test := range []struct {
		change url.Values
		want   string
	}{
		{url.Values{"url": {"nonsense"}}, "this is not a URL"},
		{url.Values{"name": {""}}, "name"},
		{url.Values{"value": {"two\nlines"}}, "printable ASCII"},
		{url.Values{"header": {"Content-Length"}, "value": {"x"}}, "cannot be used as a header's name"},
	} {
		sent := url.Values{"name": {"Kept name"}, "url": {r.URL}, "header": {"X-Kept"}, "value": {"not-to-be-shown"}, "active": {"on"}}
		for k, v := range test.change {
			sent[k] = v
		}
		got := ada.send(t, form, form, sent).wantStatus(t, http.StatusUnprocessableEntity).wantText(t, test.want)
		checkPage(t, got)
		if strings.Contains(got.body, "not-to-be-shown") || !strings.Contains(got.body, sent.Get("name")) {
			t.Errorf("%v: the form shows the header's value, or forgot the name", test.change)
		}
	}

	created := ada.send(t, form, form, url.Values{"name": {"Release system"}, "url": {r.URL + "/a"}, "value": {"Bearer abc"}, "active": {"on"}}).wantStatus(t, http.StatusOK)
	checkPage(t, created)
	secret := textOf(byID(created.dom(t), "new-secret"))
	hooks, err := w.Webhooks(t.Context(), w.Ada)
	if err != nil || len(hooks) != 1 || !strings.HasPrefix(secret, "whsec_") {
		t.Fatalf("the webhooks are %v, the secret %q: %v", hooks, secret, err)
	}
	page := w.path("Webhooks", string(hooks[0].ID))
	ada.get(t, page).wantText(t, "Authorization", "its value hidden", "Nothing was delivered yet").wantNoText(t, secret, "Bearer abc")
	ada.send(t, form, form, url.Values{"name": {"Release system"}, "url": {r.URL}}).wantStatus(t, http.StatusUnprocessableEntity).wantText(t, "Another webhook has this name already.")

	// A test, each attempt, and once more by hand.
	ada.send(t, page, page+"/Test", nil).wantRedirect(t, page+"?done=tested")
	w.deliver(t, hooks[0].ID)
	ada.get(t, page+"?done=tested").wantText(t, "Pending", "1 attempt", "next try at 20", "HTTP 500", "<script>alert(1)</script> not today", "A test is on its way")
	w.deliver(t, hooks[0].ID) // not due yet: nothing happens
	page1, err := w.Deliveries(t.Context(), w.Ada, signing.DeliveryQuery{ReceiverID: hooks[0].ID})
	if err != nil {
		t.Fatal(err)
	}
	r.answers(http.StatusOK)
	again := url.Values{"delivery": {string(page1.Items[0].ID)}}
	ada.send(t, page, page+"/Redeliver", again).wantRedirect(t, page+"?done=redelivered")
	w.deliver(t, hooks[0].ID)
	ada.get(t, page).wantText(t, "Delivered", "2 attempts", "HTTP 200", "HTTP 500")
	if calls := r.calls(); len(calls) != 2 || calls[1].Get("Authorization") != "Bearer abc" || calls[0].Get("Webhook-Id") != calls[1].Get("Webhook-Id") {
		t.Errorf("the receiver was called with %v", calls)
	}
	for _, id := range []string{"", "nonsense", string(signing.NewID())} {
		ada.send(t, page, page+"/Redeliver", url.Values{"delivery": {id}}).wantStatus(t, http.StatusConflict).wantText(t, "There is no such delivery")
	}

	// Edits: an empty value keeps the header, another host asks for it again, a stale form changes nothing.
	edit := page + "/Edit"
	version := ada.get(t, edit).wantNoText(t, "Bearer abc").hidden(t, "version")
	ada.send(t, page, edit, url.Values{"version": {version}, "name": {"Renamed"}, "url": {r.URL + "/b"}, "header": {"Authorization"}, "active": {"on"}}).wantRedirect(t, page+"?done=saved")
	ada.get(t, page).wantText(t, "Renamed", "/b", "Authorization")
	ada.send(t, page, edit, url.Values{"version": {version}, "name": {"Stale"}, "url": {r.URL + "/b"}}).wantStatus(t, http.StatusConflict)
	ada.send(t, page, edit, url.Values{"name": {"Without version"}, "url": {r.URL + "/b"}}).wantStatus(t, http.StatusConflict)
	version = ada.get(t, edit).hidden(t, "version")
	elsewhere := url.Values{"version": {version}, "name": {"Renamed"}, "url": {"http://127.0.0.1:1/"}}
	ada.send(t, page, edit, elsewhere).wantStatus(t, http.StatusUnprocessableEntity).wantText(t, "enter the header's value again")
	elsewhere.Set("remove", "on")
	ada.send(t, page, edit, elsewhere).wantRedirect(t, page+"?done=saved")
	ada.get(t, page).wantText(t, "Header None", "This webhook is deactivated")

	rotated := textOf(byID(ada.send(t, page, page+"/Secret", url.Values{"version": {ada.get(t, edit).hidden(t, "version")}}).wantStatus(t, http.StatusOK).dom(t), "new-secret"))
	if rotated == secret || !strings.HasPrefix(rotated, "whsec_") {
		t.Errorf("the new secret is %q", rotated)
	}
	ada.send(t, page, page+"/Secret", url.Values{"version": {version}}).wantStatus(t, http.StatusConflict)

	// Nobody else may do any of it.
	for _, actor := range []signing.Actor{w.Sam, w.Rita, w.Rob, w.Stan} {
		b := w.browser(t, actor)
		for _, path := range []string{form, edit, page + "/Test", page + "/Secret", page + "/Redeliver", page + "/Delete"} {
			b.send(t, w.path("Account"), path, url.Values{"name": {"x"}, "url": {r.URL}, "delivery": {string(page1.Items[0].ID)}}).wantStatus(t, http.StatusForbidden)
		}
	}
	ada.send(t, page, page+"/Nonsense", nil).wantStatus(t, http.StatusNotFound)
	ada.get(t, w.path("Webhooks", "nonsense")).wantStatus(t, http.StatusNotFound)
	ada.send(t, page, page+"/Delete", nil).wantRedirect(t, list+"?done=deleted")
	ada.get(t, list+"?done=deleted").wantText(t, "The webhook was deleted.", "No webhook yet")
	ada.send(t, list, page+"/Delete", nil).wantStatus(t, http.StatusNotFound)
}

// TestWebhookInBrowser makes a webhook by keyboard and sends a test: its outcome appears by itself.
func TestWebhookInBrowser(t *testing.T) {
	t.Parallel()
	browser := chromium(t)
	w := newWorld(t)
	w.work(t)
	r := newReceiver(t, http.StatusOK, "thank you")
	b := w.openTab(browser, t, w.Ada)
	b.open(t, w.path())
	b.click(t, "details.menu summary")
	b.click(t, `.menu-items a[href$="/Webhooks"]`)
	b.click(t, `a[href$="/Webhooks/New"]`)
	b.rests(t, "#name")
	eval[bool](t, b, `document.querySelector("#name").focus() ?? true`)
	b.press(t, "Release system\t"+r.URL+"\t\tBearer abc\t\t\r")
	b.sees(t, "The secret of the webhook's signatures.")
	b.click(t, "#step-Test")
	b.sees(t, "A test is on its way")
	b.sees(t, "Delivered")
	b.sees(t, "thank you")
	b.sees(t, "HTTP 200")
	b.click(t, "[id^=redeliver-]")
	b.sees(t, "2 attempts")
}
