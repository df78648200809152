package web

import (
	"net/http"
	"strings"

	"github.com/a-h/templ"

	"github.com/countersign-dev/countersign/internal/signing"
)

// webhookForm is what the form for a webhook holds. The header's value and the secret are never shown.
type webhookForm struct {
	webhook    *signing.Webhook // nil: a new one
	name, url  string
	headerName string
	active     bool
	problems   problems
}

// webhookData is what the page of a webhook shows.
type webhookData struct {
	*signing.Webhook
	deliveries *signing.Page[*signing.Delivery]
	after      signing.ID // the page of deliveries begins after this one
	secret     string     // shown this once
	done       string     // what just happened
	problem    string
}

const deliveryRows = 20

// webhookMessages say what a redirect to a webhook's page follows on. Only these texts are ever shown.
var webhookMessages = map[string]string{
	"saved":       "The webhook was saved.",
	"tested":      "A test is on its way: its outcome shows among the deliveries.",
	"redelivered": "The message is sent once more: the new attempt shows below.",
}

func (x *exchange) webhookLink(id signing.ID, part ...string) string {
	return x.link(append([]string{"Webhooks", string(id)}, part...)...)
}

func (x *exchange) webhookList() error {
	list, err := x.Signing.Webhooks(x.r.Context(), x.actor)
	if err != nil {
		return err
	}
	deleted := ""
	if x.r.URL.Query().Get("done") == "deleted" {
		deleted = "The webhook was deleted."
	}
	return x.render(http.StatusOK, webhookListView(x, list, deleted))
}

// webhook returns the one in the address.
func (x *exchange) webhook() (*signing.Webhook, error) {
	id, _ := signing.ParseID(x.values["webhook"]) // what is no id names none
	w, err := x.Signing.Webhook(x.r.Context(), x.actor, id)
	if signing.KindOf(err) == signing.KindNotFound {
		err = signing.Errorf(signing.KindNotFound, "There is no such webhook in this organization.")
	}
	return w, err
}

func (x *exchange) webhookPage() error {
	w, err := x.webhook()
	if err != nil {
		return err
	}
	return x.showWebhook(http.StatusOK, webhookData{Webhook: w, done: webhookMessages[x.r.URL.Query().Get("done")]})
}

func (x *exchange) showWebhook(status int, d webhookData) (err error) {
	d.after, _ = signing.ParseID(x.r.URL.Query().Get("after"))
	d.deliveries, err = x.Signing.Deliveries(x.r.Context(), x.actor, signing.DeliveryQuery{ReceiverID: d.ID, After: d.after, Limit: deliveryRows})
	if err != nil {
		return err
	}
	return x.render(status, webhookView(x, d))
}

// webhookAgain shows the webhook with why a step was not taken.
func (x *exchange) webhookAgain(w *signing.Webhook, cause error) error {
	if !shown(cause) {
		return cause
	}
	return x.showWebhook(statusOf(cause), webhookData{Webhook: w, problem: problemsOf(cause).all()})
}

func (x *exchange) newWebhookPage() error {
	if err := x.requireWebhooks(); err != nil {
		return err
	}
	return x.render(http.StatusOK, webhookFormView(x, webhookForm{active: true}))
}

// requireWebhooks refuses who may not manage webhooks, before a form is shown that would be refused.
func (x *exchange) requireWebhooks() error {
	_, err := x.Signing.Webhooks(x.r.Context(), x.actor)
	return err
}

func (x *exchange) editWebhookPage() error {
	w, err := x.webhook()
	if err != nil {
		return err
	}
	return x.render(http.StatusOK, webhookFormView(x, webhookForm{webhook: w, name: w.Name, url: w.URL, headerName: w.HeaderName, active: w.Active}))
}

// sentWebhook reads the form. An empty header value keeps what is configured, unless it is to be removed.
func (x *exchange) sentWebhook() (webhookForm, signing.WebhookEdit) {
	f := webhookForm{name: x.field("name"), url: x.field("url"), headerName: x.field("header"), active: x.field("active") != ""}
	e := signing.WebhookEdit{Name: &f.name, URL: &f.url, HeaderName: &f.headerName, Active: &f.active}
	if value := x.field("value"); value != "" || x.field("remove") != "" {
		e.HeaderValue = &value
	}
	return f, e
}

func (x *exchange) createWebhook() error {
	f, e := x.sentWebhook()
	w, secret, err := x.Signing.CreateWebhook(x.r.Context(), x.actor, e)
	if err != nil {
		return x.webhookFormAgain(f, err)
	}
	// The secret is in this answer alone, so no redirect follows: the address bar keeps that of the form.
	return x.showWebhook(http.StatusOK, webhookData{Webhook: w, secret: secret, done: "The webhook was created."})
}

func (x *exchange) editWebhook() error {
	w, err := x.webhook()
	if err != nil {
		return err
	}
	f, e := x.sentWebhook()
	f.webhook, e.Version = w, x.version()
	if w, err = x.Signing.EditWebhook(x.r.Context(), x.actor, w.ID, e); err != nil {
		return x.webhookFormAgain(f, err)
	}
	return x.redirect(withQuery(x.webhookLink(w.ID), "done", "saved"))
}

func (x *exchange) webhookFormAgain(f webhookForm, cause error) error {
	if !shown(cause) || signing.KindOf(cause) == signing.KindForbidden {
		return cause
	}
	f.problems = problemsOf(cause)
	return x.render(statusOf(cause), webhookFormView(x, f))
}

// webhookSteps are the buttons of a webhook's page.
var webhookSteps = map[string]func(*exchange, *signing.Webhook) error{
	"test": func(x *exchange, w *signing.Webhook) error {
		if _, err := x.Signing.TestWebhook(x.r.Context(), x.actor, w.ID); err != nil {
			return x.webhookAgain(w, err)
		}
		return x.redirect(withQuery(x.webhookLink(w.ID), "done", "tested"))
	},
	"secret": func(x *exchange, w *signing.Webhook) error {
		changed, secret, err := x.Signing.RotateWebhookSecret(x.r.Context(), x.actor, w.ID, x.version())
		if err != nil {
			return x.webhookAgain(w, err)
		}
		return x.showWebhook(http.StatusOK, webhookData{Webhook: changed, secret: secret, done: "The secret was replaced."})
	},
	"redeliver": func(x *exchange, w *signing.Webhook) error {
		id, _ := signing.ParseID(x.field("delivery")) // what is no id names none
		_, err := x.Signing.Redeliver(x.r.Context(), x.actor, id)
		if signing.KindOf(err) == signing.KindNotFound {
			err = signing.Errorf(signing.KindConflict, "There is no such delivery any more.")
		}
		if err != nil {
			return x.webhookAgain(w, err)
		}
		return x.redirect(withQuery(x.webhookLink(w.ID), "done", "redelivered", "after", x.field("after")))
	},
	"delete": func(x *exchange, w *signing.Webhook) error {
		if err := x.Signing.DeleteWebhook(x.r.Context(), x.actor, w.ID); err != nil {
			return x.webhookAgain(w, err)
		}
		return x.redirect(withQuery(x.link("Webhooks"), "done", "deleted"))
	},
}

func (x *exchange) webhookStep() error {
	step := webhookSteps[strings.ToLower(x.values["step"])]
	if step == nil {
		return signing.Errorf(signing.KindNotFound, "There is no page at this address.")
	}
	w, err := x.webhook()
	if err != nil {
		return err
	}
	return step(x, w)
}

// deleteWebhookPage asks before a webhook is deleted.
func (x *exchange) deleteWebhookPage() error {
	w, err := x.webhook()
	if err != nil {
		return err
	}
	return x.render(http.StatusOK, webhookDeleteView(x, w))
}

// pending reports whether the outcome of a delivery is still open, so that the page looks again.
func (d webhookData) pending() bool {
	for _, delivery := range d.deliveries.Items {
		if delivery.State == signing.DeliveryPending {
			return true
		}
	}
	return false
}

func deliveryClass(s signing.DeliveryState) string {
	switch s {
	case signing.DeliveryDelivered:
		return "is-good"
	case signing.DeliveryFailed:
		return "is-bad"
	case signing.DeliveryPending:
	}
	return "is-waiting"
}

func deliveryIcon(s signing.DeliveryState) string {
	switch s {
	case signing.DeliveryDelivered:
		return "check-circle"
	case signing.DeliveryFailed:
		return "x-circle"
	case signing.DeliveryPending:
	}
	return "hourglass-split"
}

// attemptsText goes on after the time of a delivery.
func attemptsText(d *signing.Delivery) string {
	text := ", " + count(len(d.Attempts), "attempt")
	if d.State == signing.DeliveryPending && d.NextAt != nil {
		text += ", next try at " + exact(*d.NextAt)
	}
	return text
}

// attemptText tells how an attempt ended.
func attemptText(a signing.DeliveryAttempt) string {
	switch {
	case a.Error != "":
		return sentence(a.Error)
	case a.EndedAt.IsZero():
		return "Under way, or broken off"
	}
	return "Accepted"
}

func (f webhookForm) title() string {
	if f.webhook == nil {
		return "New webhook"
	}
	return "Edit the webhook"
}

func (f webhookForm) action(x *exchange) string {
	if f.webhook == nil {
		return x.link("Webhooks", "New")
	}
	return x.webhookLink(f.webhook.ID, "Edit")
}

func (f webhookForm) back(x *exchange) string {
	if f.webhook == nil {
		return x.link("Webhooks")
	}
	return x.webhookLink(f.webhook.ID)
}

// valueHint says in the empty field what an empty one means.
func (f webhookForm) valueHint() templ.Attributes {
	if f.webhook != nil && f.webhook.HeaderName != "" {
		return templ.Attributes{"placeholder": "Leave it empty to keep the value"}
	}
	return nil
}
