package httpapi

import (
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/countersign-dev/countersign/api"
	"github.com/countersign-dev/countersign/internal/signing"
)

func TestManageWebhook(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	resp := w.as(t, globalAdmin, "POST", "/Webhooks", jsonBody(`{"name":"Release","url":"https://hooks.example/a","headerValue":"Bearer confidential"}`))
	location := resp.Header.Get("Location")
	made := decodeBody[api.CreatedWebhook](t, resp, http.StatusCreated)
	hook := made.Webhook
	if !strings.HasPrefix(made.WebhookSecret, "whsec_") || !strings.HasSuffix(location, "/Webhooks/"+hook.WebhookID) || location != hook.Link {
		t.Errorf("%s: %+v", location, made)
	}
	if hook.Name != "Release" || hook.HeaderName != "Authorization" || hook.HeaderChangedAt.IsZero() || !hook.IsActive || hook.Version != 1 {
		t.Errorf("%+v", hook)
	}
	path := "/Webhooks/" + strings.ToUpper(hook.WebhookID)
	if got := get[api.Webhook](t, w, globalAdmin, path); got != hook {
		t.Errorf("%+v, want %+v", got, hook)
	}
	w.refuse(t, globalAdmin, "/Webhooks", `{"name":"release","url":"https://hooks.example"}`, 400, "Name")
	w.refuse(t, globalAdmin, "/Webhooks", `{"url":"https://hooks.example"}`, 400, "Name")
	w.refuse(t, globalAdmin, "/Webhooks", `{"name":"x","url":"http://hooks.example"}`, 400, "Url")
	w.refuse(t, globalAdmin, "/Webhooks", `{"name":"x","url":"https://hooks.example","headerName":"Host","headerValue":"x"}`, 400, "HeaderName")
	w.refuse(t, globalAdmin, "/Webhooks", `{"name":"x","url":"https://hooks.example","headerValue":"a\nb"}`, 400, "HeaderValue")
	w.refuse(t, globalAdmin, path+"/Edit", `{"url":"https://other.example"}`, 400, "HeaderValue")
	w.refuse(t, globalAdmin, "/Webhooks/7/Edit", `{}`, 404, "-")

	hook = post[api.Webhook](t, w, globalAdmin, path+"/Edit", `{"url":"https://other.example","headerName":"X-Token","headerValue":"confidential","isActive":false,"version":1}`, 200)
	if hook.Name != "Release" || hook.URL != "https://other.example" || hook.HeaderName != "X-Token" || hook.IsActive || hook.Version != 2 {
		t.Errorf("%+v", hook)
	}
	w.refuse(t, globalAdmin, path+"/Edit", `{"name":"x","version":1}`, 409, "-")
	w.refuse(t, globalAdmin, path+"/RegenerateSecret", `{"version":1}`, 409, "-")
	fresh := decodeBody[api.IssuedWebhookSecret](t, w.as(t, globalAdmin, "POST", path+"/RegenerateSecret", body{}), 200)
	if fresh.Version != 3 || fresh.WebhookSecret == made.WebhookSecret || !strings.HasPrefix(fresh.WebhookSecret, "whsec_") {
		t.Errorf("%+v", fresh)
	}
	if hook = post[api.Webhook](t, w, globalAdmin, path+"/Edit", `{"headerValue":""}`, 200); hook.HeaderName != "" {
		t.Errorf("%+v", hook)
	}
	// What is secret is in no answer, no entry of the audit log and no line of the log.
	for _, route := range []string{path, "/Webhooks", "/AuditLog/Events", "/AuditLog/Events/Export"} {
		text := readBody(t, w.as(t, globalAdmin, "GET", route, body{}))
		if strings.Contains(text, "confidential") || strings.Contains(text, "whsec_") || !strings.Contains(text, "Release") {
			t.Errorf("%s: %s", route, text)
		}
	}
	if strings.Contains(w.logs.String(), "confidential") || strings.Contains(w.logs.String(), "whsec_") {
		t.Error("a secret is in the log")
	}
	if resp := w.as(t, globalAdmin, "POST", path+"/Delete", body{}); resp.StatusCode != http.StatusNoContent || readBody(t, resp) != "" {
		t.Errorf("deleted: %d", resp.StatusCode)
	}
	wantProblem(t, w.as(t, globalAdmin, "POST", path+"/Delete", body{}), 404)
	if list := get[[]api.Webhook](t, w, globalAdmin, "/Webhooks"); len(list) != 0 {
		t.Errorf("%+v", list)
	}
}

func TestDeliveries(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	hook := post[api.CreatedWebhook](t, w, globalAdmin, "/Webhooks", `{"name":"Release","url":"https://hooks.example","headerValue":"Bearer t"}`, 201).Webhook
	request := string(w.advanced(t, "test-signing"))
	deliver := func(id string) {
		t.Helper()
		if err := w.signing.Deliver(t.Context(), signing.ID(id)); err != nil {
			t.Fatal(err)
		}
	}
	about := func() api.Delivery {
		t.Helper()
		page := get[api.DeliveryPage](t, w, globalAdmin, "/SigningRequests/"+request+"/Deliveries")
		if len(page.Items) != 1 || page.NextCursor != "" {
			t.Fatalf("%+v", page)
		}
		return page.Items[0]
	}
	d := about()
	if d.Kind != "Webhook" || d.ReceiverID != hook.WebhookID || d.SigningRequestID != request || d.Event != "Completed" || d.State != "Pending" || len(d.Attempts) != 0 || d.NextAttemptAt.IsZero() {
		t.Errorf("%+v", d)
	}
	w.hooks.outOfOrder = true
	deliver(d.DeliveryID)
	d = about()
	if d.State != "Pending" || len(d.Attempts) != 1 || d.NextAttemptAt.IsZero() {
		t.Fatalf("%+v", d)
	}
	if a := d.Attempts[0]; a.Number != 1 || a.Status != 500 || a.Response != "out of order" || !strings.Contains(a.Error, "500") || a.StartedAt.IsZero() || a.EndedAt.IsZero() {
		t.Errorf("%+v", a)
	}
	w.hooks.outOfOrder = false
	again := decodeBody[api.Delivery](t, w.as(t, globalAdmin, "POST", "/Deliveries/"+d.DeliveryID+"/Redeliver", body{}), http.StatusAccepted)
	if again.DeliveryID != d.DeliveryID || again.State != "Pending" || len(again.Attempts) != 1 {
		t.Errorf("%+v", again)
	}
	deliver(d.DeliveryID)
	if d = about(); d.State != "Delivered" || len(d.Attempts) != 2 || d.Attempts[1].Status != 204 || !d.NextAttemptAt.IsZero() {
		t.Errorf("%+v", d)
	}
	if n := len(w.hooks.calls); n != 2 || w.hooks.calls[0].ID != w.hooks.calls[1].ID || w.hooks.calls[1].HeaderValue != "Bearer t" {
		t.Errorf("%d calls", n)
	}

	test := decodeBody[api.Delivery](t, w.as(t, globalAdmin, "POST", "/Webhooks/"+hook.WebhookID+"/Test", body{}), http.StatusAccepted)
	if test.Event != "Test" || test.SigningRequestID != "" || test.State != "Pending" {
		t.Errorf("%+v", test)
	}
	path := "/Webhooks/" + hook.WebhookID + "/Deliveries"
	page := func(query string) (ids []string, next string) {
		t.Helper()
		p := get[api.DeliveryPage](t, w, globalAdmin, path+query)
		for _, d := range p.Items {
			ids = append(ids, d.DeliveryID)
		}
		return ids, p.NextCursor
	}
	for query, want := range map[string][]string{
		"": {test.DeliveryID, d.DeliveryID}, "?state=delivered": {d.DeliveryID}, "?State=Pending": {test.DeliveryID}, "?state=Failed": nil,
		"?pageSize=1": {test.DeliveryID}, "?pageSize=1&cursor=" + test.DeliveryID: {d.DeliveryID},
	} {
		if ids, _ := page(query); !slices.Equal(ids, want) {
			t.Errorf("%s: %v, want %v", query, ids, want)
		}
	}
	if _, next := page("?pageSize=1"); next != test.DeliveryID {
		t.Errorf("the cursor is %q", next)
	}
	for query, field := range map[string]string{"?state=x": "State", "?cursor=x": "Cursor", "?pageSize=201": "PageSize"} {
		if p := wantProblem(t, w.as(t, globalAdmin, "GET", path+query, body{}), 400); len(p.Errors[field]) == 0 {
			t.Errorf("%s: %+v", query, p)
		}
	}
	for _, unknown := range []string{"/Webhooks/7/Deliveries", "/SigningRequests/" + string(signing.NewID()) + "/Deliveries", "/SigningRequests/7/Deliveries"} {
		wantProblem(t, w.as(t, globalAdmin, "GET", unknown, body{}), 404)
	}
	wantProblem(t, w.as(t, globalAdmin, "POST", "/Deliveries/7/Redeliver", body{}), 404)
}

func TestNotificationLevels(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	me := get[api.InteractiveUser](t, w, approver, "/InteractiveUsers/Me")
	if me.NotificationLevel != api.NotifyDefault {
		t.Errorf("%+v", me)
	}
	if got := post[api.InteractiveUser](t, w, approver, "/InteractiveUsers/Me/Edit", `{"notificationLevel":"none"}`, 200); got.NotificationLevel != api.NotifyNone || got.UserID != me.UserID {
		t.Errorf("%+v", got)
	}
	if got := post[api.InteractiveUser](t, w, approver, "/InteractiveUsers/Me/Edit", `{}`, 200); got.NotificationLevel != api.NotifyNone {
		t.Errorf("%+v", got)
	}
	w.refuse(t, approver, "/InteractiveUsers/Me/Edit", `{"notificationLevel":"some"}`, 400, "NotificationLevel")
	path := "/InteractiveUsers/" + me.UserID + "/Edit"
	if got := post[api.InteractiveUser](t, w, userAdmin, path, `{"notificationLevel":"All"}`, 200); got.NotificationLevel != api.NotifyAll || got.Name != me.Name {
		t.Errorf("%+v", got)
	}
	w.refuse(t, userAdmin, path, `{"notificationLevel":"some"}`, 400, "NotificationLevel")
	w.refuse(t, approver, path, `{"notificationLevel":"None"}`, 403, "-")

	policies := "/Projects/demo/SigningPolicies"
	if p := get[api.SigningPolicy](t, w, submitter, policies+"/release-signing"); p.Notifications != api.NotifyDefault {
		t.Errorf("%+v", p)
	}
	if p := post[api.SigningPolicy](t, w, projectAdmin, policies, `{"slug":"new","name":"New","certificateSlug":"test","notifications":"None"}`, 201); p.Notifications != api.NotifyNone {
		t.Errorf("%+v", p)
	}
	p := post[api.SigningPolicy](t, w, projectAdmin, policies+"/release-signing/Edit", `{"notifications":"all"}`, 200)
	if p.Notifications != api.NotifyAll || p.RequiredApprovals != 1 {
		t.Errorf("%+v", p)
	}
	if p = post[api.SigningPolicy](t, w, projectAdmin, policies+"/release-signing/Edit", `{"requiredApprovals":0}`, 200); p.Notifications != api.NotifyAll || p.RequiredApprovals != 0 {
		t.Errorf("%+v", p)
	}
	w.refuse(t, projectAdmin, policies+"/new/Edit", `{"notifications":"some"}`, 400, "Notifications")
}
