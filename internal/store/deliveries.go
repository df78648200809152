package store

import (
	"context"
	"strconv"
	"time"

	"github.com/countersign-dev/countersign/internal/signing"
)

const webhookColumns = "id, organization_id, name, url, header_name, header_changed_at, sealed_header, secret_changed_at, " +
	"sealed_secret, active, created_at, version"

func scanWebhook(s scanner) (*signing.Webhook, error) {
	w := &signing.Webhook{}
	return w, s.Scan(&w.ID, &w.OrganizationID, &w.Name, &w.URL, &w.HeaderName, optionalTimeColumn{&w.HeaderChangedAt},
		&w.SealedHeader, timeColumn{&w.SecretChangedAt}, &w.SealedSecret, &w.Active, timeColumn{&w.CreatedAt}, &w.Version)
}

func (x *tx) Webhook(ctx context.Context, org, id signing.ID) (*signing.Webhook, error) {
	return one(ctx, x.q, "webhook", scanWebhook,
		"SELECT "+webhookColumns+" FROM webhooks WHERE id = $1 AND organization_id = $2", text(id), text(org))
}

func (x *tx) Webhooks(ctx context.Context, org signing.ID) ([]*signing.Webhook, error) {
	all, err := list(ctx, x.q, scanWebhook, "SELECT "+webhookColumns+" FROM webhooks WHERE organization_id = $1", text(org))
	return byName(all, func(w *signing.Webhook) (string, signing.ID) { return w.Name, w.ID }), err
}

func (x *tx) InsertWebhook(ctx context.Context, w *signing.Webhook) error {
	w.Version = 1
	return x.q.insert(ctx, "A webhook with this name exists.", "INSERT INTO webhooks ("+webhookColumns+", name_key) "+
		"VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)",
		text(w.ID), text(w.OrganizationID), w.Name, w.URL, w.HeaderName, optional(w.HeaderChangedAt), w.SealedHeader,
		micros(w.SecretChangedAt), w.SealedSecret, w.Active, micros(w.CreatedAt), w.Version, fold(w.Name))
}

func (x *tx) UpdateWebhook(ctx context.Context, w *signing.Webhook) error {
	return x.q.update(ctx, "webhook", &w.Version, "UPDATE webhooks SET name = $1, name_key = $2, url = $3, header_name = $4, "+
		"header_changed_at = $5, sealed_header = $6, secret_changed_at = $7, sealed_secret = $8, active = $9, "+
		"version = version + 1 WHERE id = $10 AND organization_id = $11 AND version = $12",
		w.Name, fold(w.Name), w.URL, w.HeaderName, optional(w.HeaderChangedAt), w.SealedHeader, micros(w.SecretChangedAt),
		w.SealedSecret, w.Active, text(w.ID), text(w.OrganizationID), w.Version)
}

func (x *tx) DeleteWebhook(ctx context.Context, org, id signing.ID) error {
	n, err := x.q.exec(ctx, "DELETE FROM webhooks WHERE id = $1 AND organization_id = $2", text(id), text(org))
	if err == nil && n == 0 {
		err = signing.Errorf(signing.KindNotFound, "No such webhook.")
	}
	if err != nil {
		return err
	}
	_, err = x.q.exec(ctx, "DELETE FROM deliveries WHERE receiver_id = $1 AND organization_id = $2", text(id), text(org))
	return err
}

const deliveryColumns = "id, organization_id, request_id, kind, receiver_id, event, payload, state, attempts, tries, " +
	"created_at, next_at, version"

func scanDelivery(s scanner) (*signing.Delivery, error) {
	d := &signing.Delivery{}
	var payload string
	err := s.Scan(&d.ID, &d.OrganizationID, &d.RequestID, &d.Kind, &d.ReceiverID, &d.Event, &payload, &d.State,
		jsonColumn{&d.Attempts}, &d.Tries, timeColumn{&d.CreatedAt}, optionalTimeColumn{&d.NextAt}, &d.Version)
	d.Payload = []byte(payload)
	return d, err
}

func (x *tx) LockDelivery(ctx context.Context, org, id signing.ID) (*signing.Delivery, error) {
	return one(ctx, x.q, "message", scanDelivery, "SELECT "+deliveryColumns+
		" FROM deliveries WHERE id = $1 AND organization_id = $2"+x.db.backend.lockRow(), text(id), text(org))
}

func (x *tx) DeliveryOrganization(ctx context.Context, id signing.ID) (signing.ID, error) {
	return one(ctx, x.q, "message", func(s scanner) (signing.ID, error) {
		var org signing.ID
		return org, s.Scan(&org)
	}, "SELECT organization_id FROM deliveries WHERE id = $1", text(id))
}

func (x *tx) Deliveries(ctx context.Context, org signing.ID, f signing.DeliveryFilter) ([]*signing.Delivery, error) {
	var c conditions
	c.add("organization_id = ?", text(org))
	if f.RequestID != "" {
		c.add("request_id = ?", text(f.RequestID))
	}
	if f.ReceiverID != "" {
		c.add("receiver_id = ?", text(f.ReceiverID))
	}
	if f.State != "" {
		c.add("state = ?", text(f.State))
	}
	if f.After != "" {
		c.add("id < ?", text(f.After))
	}
	return list(ctx, x.q, scanDelivery, "SELECT "+deliveryColumns+" FROM deliveries WHERE "+c.where()+
		" ORDER BY id DESC LIMIT "+strconv.Itoa(f.Limit), c.args...)
}

func (x *tx) DueDeliveries(ctx context.Context, due time.Time, limit int) ([]signing.DeliveryKey, error) {
	return list(ctx, x.q, func(s scanner) (signing.DeliveryKey, error) {
		var k signing.DeliveryKey
		return k, s.Scan(&k.OrganizationID, &k.ID)
	}, "SELECT organization_id, id FROM deliveries WHERE next_at IS NOT NULL AND next_at <= $1 ORDER BY next_at, id LIMIT $2",
		micros(due), limit)
}

func (x *tx) InsertDelivery(ctx context.Context, d *signing.Delivery) error {
	d.Version = 1
	return x.q.insert(ctx, "This message exists.", "INSERT INTO deliveries ("+deliveryColumns+") "+
		"VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)",
		text(d.ID), text(d.OrganizationID), text(d.RequestID), text(d.Kind), text(d.ReceiverID), text(d.Event), string(d.Payload),
		text(d.State), encode(d.Attempts), d.Tries, micros(d.CreatedAt), optional(d.NextAt), d.Version)
}

func (x *tx) UpdateDelivery(ctx context.Context, d *signing.Delivery) error {
	return x.q.update(ctx, "message", &d.Version, "UPDATE deliveries SET state = $1, attempts = $2, tries = $3, next_at = $4, "+
		"version = version + 1 WHERE id = $5 AND organization_id = $6 AND version = $7",
		text(d.State), encode(d.Attempts), d.Tries, optional(d.NextAt), text(d.ID), text(d.OrganizationID), d.Version)
}

func (x *tx) DeleteDeliveries(ctx context.Context, before time.Time) error {
	_, err := x.q.exec(ctx, "DELETE FROM deliveries WHERE next_at IS NULL AND created_at < $1", micros(before))
	return err
}
