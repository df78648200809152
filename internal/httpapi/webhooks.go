package httpapi

import (
	"context"
	"strings"

	"github.com/countersign-dev/countersign/api"
	"github.com/countersign-dev/countersign/internal/signing"
)

// objectID reads the GUID of an object of that kind from the address. What is no GUID names no object.
func objectID(kind, value string) (signing.ID, error) {
	id, ok := signing.ParseID(value)
	if !ok {
		return "", signing.Errorf(signing.KindNotFound, "There is no such %s.", kind)
	}
	return id, nil
}

func webhookOf(l links, w *signing.Webhook) api.Webhook {
	return api.Webhook{WebhookID: string(w.ID), Name: w.Name, URL: w.URL, HeaderName: w.HeaderName, HeaderChangedAt: optionalTime(w.HeaderChangedAt),
		SecretChangedAt: w.SecretChangedAt, IsActive: w.Active, CreatedAt: w.CreatedAt,
		Link: l.resource(string(w.OrganizationID), "Webhooks", string(w.ID)), Version: w.Version}
}

// ListWebhooks lists the webhooks.
func (s *service) ListWebhooks(ctx context.Context, _ api.ListWebhooksRequestObject) (api.ListWebhooksResponseObject, error) {
	list, err := s.signing.Webhooks(ctx, actorOf(ctx))
	if err != nil {
		return nil, err
	}
	answer := api.ListWebhooks200JSONResponse{}
	for _, w := range list {
		answer = append(answer, webhookOf(exchangeOf(ctx).links, w))
	}
	return answer, nil
}

// CreateWebhook makes a webhook; its secret is in this answer alone.
func (s *service) CreateWebhook(ctx context.Context, r api.CreateWebhookRequestObject) (api.CreateWebhookResponseObject, error) {
	b := r.Body
	w, secret, err := s.signing.CreateWebhook(ctx, actorOf(ctx), signing.WebhookEdit{
		Name: &b.Name, URL: &b.URL, HeaderName: b.HeaderName, HeaderValue: b.HeaderValue, Active: b.IsActive,
	})
	if err != nil {
		return nil, err
	}
	body := api.CreatedWebhook{Webhook: webhookOf(exchangeOf(ctx).links, w), WebhookSecret: secret}
	return api.CreateWebhook201JSONResponse{Body: body, Headers: api.CreateWebhook201ResponseHeaders{Location: body.Webhook.Link}}, nil
}

func (s *service) webhook(ctx context.Context, id string) (*signing.Webhook, error) {
	known, err := objectID("webhook", id)
	if err != nil {
		return nil, err
	}
	return s.signing.Webhook(ctx, actorOf(ctx), known)
}

// GetWebhook returns a webhook.
func (s *service) GetWebhook(ctx context.Context, r api.GetWebhookRequestObject) (api.GetWebhookResponseObject, error) {
	w, err := s.webhook(ctx, r.WebhookID)
	if err != nil {
		return nil, err
	}
	return api.GetWebhook200JSONResponse(webhookOf(exchangeOf(ctx).links, w)), nil
}

// EditWebhook changes a webhook.
func (s *service) EditWebhook(ctx context.Context, r api.EditWebhookRequestObject) (api.EditWebhookResponseObject, error) {
	id, err := objectID("webhook", r.WebhookID)
	if err != nil {
		return nil, err
	}
	b := r.Body
	w, err := s.signing.EditWebhook(ctx, actorOf(ctx), id, signing.WebhookEdit{
		Name: b.Name, URL: b.URL, HeaderName: b.HeaderName, HeaderValue: b.HeaderValue, Active: b.IsActive, Version: b.Version,
	})
	if err != nil {
		return nil, err
	}
	return api.EditWebhook200JSONResponse(webhookOf(exchangeOf(ctx).links, w)), nil
}

// RegenerateWebhookSecret replaces the secret of a webhook's signatures.
func (s *service) RegenerateWebhookSecret(ctx context.Context, r api.RegenerateWebhookSecretRequestObject) (api.RegenerateWebhookSecretResponseObject, error) {
	id, err := objectID("webhook", r.WebhookID)
	if err != nil {
		return nil, err
	}
	w, secret, err := s.signing.RotateWebhookSecret(ctx, actorOf(ctx), id, expected(r.Body))
	if err != nil {
		return nil, err
	}
	return api.RegenerateWebhookSecret200JSONResponse{WebhookSecret: secret, Version: w.Version}, nil
}

// DeleteWebhook deletes a webhook with the record of its deliveries.
func (s *service) DeleteWebhook(ctx context.Context, r api.DeleteWebhookRequestObject) (api.DeleteWebhookResponseObject, error) {
	id, err := objectID("webhook", r.WebhookID)
	if err != nil {
		return nil, err
	}
	return reply[api.DeleteWebhookResponseObject](api.DeleteWebhook204Response{}, s.signing.DeleteWebhook(ctx, actorOf(ctx), id))
}

// TestWebhook calls a webhook as a test.
func (s *service) TestWebhook(ctx context.Context, r api.TestWebhookRequestObject) (api.TestWebhookResponseObject, error) {
	id, err := objectID("webhook", r.WebhookID)
	if err != nil {
		return nil, err
	}
	d, err := s.signing.TestWebhook(ctx, actorOf(ctx), id)
	if err != nil {
		return nil, err
	}
	return api.TestWebhook202JSONResponse(deliveryOf(d)), nil
}

func deliveryOf(d *signing.Delivery) api.Delivery {
	out := api.Delivery{DeliveryID: string(d.ID), SigningRequestID: string(d.RequestID), Kind: string(d.Kind), ReceiverID: string(d.ReceiverID),
		Event: string(d.Event), State: string(d.State), Attempts: make([]api.DeliveryAttempt, 0, len(d.Attempts)), CreatedAt: d.CreatedAt, NextAttemptAt: optionalTime(d.NextAt)}
	for _, a := range d.Attempts {
		out.Attempts = append(out.Attempts, api.DeliveryAttempt{Number: a.Number, StartedAt: a.At, EndedAt: a.EndedAt, Status: a.Status, Error: a.Error, Response: a.Response})
	}
	return out
}

// deliveries returns a page of the messages that q narrows further.
func (s *service) deliveries(ctx context.Context, q signing.DeliveryQuery, p api.ListWebhookDeliveriesParams) (api.DeliveryPage, error) {
	page := api.DeliveryPage{Items: []api.Delivery{}}
	var err error
	if q.After, err = parseID("cursor", p.Cursor); err != nil {
		return page, signing.Invalid("Cursor", "The value is not the nextCursor of a page.")
	}
	if q.State, err = deliveryState(p.State); err != nil {
		return page, err
	}
	q.Limit = p.PageSize
	list, err := s.signing.Deliveries(ctx, actorOf(ctx), q)
	if err != nil {
		return page, err
	}
	for _, d := range list.Items {
		page.Items = append(page.Items, deliveryOf(d))
	}
	page.NextCursor = string(list.Next)
	return page, nil
}

// deliveryState reads a state in any case; none is the empty one.
func deliveryState(name string) (signing.DeliveryState, error) {
	for _, state := range []signing.DeliveryState{"", signing.DeliveryPending, signing.DeliveryDelivered, signing.DeliveryFailed} {
		if strings.EqualFold(string(state), name) {
			return state, nil
		}
	}
	return "", signing.Invalid("State", "The state is Pending, Delivered or Failed.")
}

// ListWebhookDeliveries lists the deliveries to a webhook.
func (s *service) ListWebhookDeliveries(ctx context.Context, r api.ListWebhookDeliveriesRequestObject) (api.ListWebhookDeliveriesResponseObject, error) {
	w, err := s.webhook(ctx, r.WebhookID)
	if err != nil {
		return nil, err
	}
	page, err := s.deliveries(ctx, signing.DeliveryQuery{ReceiverID: w.ID}, r.Params)
	return reply[api.ListWebhookDeliveriesResponseObject](api.ListWebhookDeliveries200JSONResponse(page), err)
}

// ListSigningRequestDeliveries lists the messages about a signing request.
func (s *service) ListSigningRequestDeliveries(ctx context.Context, r api.ListSigningRequestDeliveriesRequestObject) (api.ListSigningRequestDeliveriesResponseObject, error) {
	id, err := requestID(r.SigningRequestID)
	if err != nil {
		return nil, err
	}
	if _, err := s.signing.Request(ctx, actorOf(ctx), id); err != nil {
		return nil, err
	}
	page, err := s.deliveries(ctx, signing.DeliveryQuery{RequestID: id}, api.ListWebhookDeliveriesParams(r.Params))
	return reply[api.ListSigningRequestDeliveriesResponseObject](api.ListSigningRequestDeliveries200JSONResponse(page), err)
}

// Redeliver sends a message once more.
func (s *service) Redeliver(ctx context.Context, r api.RedeliverRequestObject) (api.RedeliverResponseObject, error) {
	id, err := objectID("delivery", r.DeliveryID)
	if err != nil {
		return nil, err
	}
	d, err := s.signing.Redeliver(ctx, actorOf(ctx), id)
	if err != nil {
		return nil, err
	}
	return api.Redeliver202JSONResponse(deliveryOf(d)), nil
}
