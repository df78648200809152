package storetest

import (
	"errors"
	"testing"
	"time"

	"github.com/countersign-dev/countersign/internal/signing"
)

func testWebhooks(t *testing.T, e *env) {
	w, other := e.world("Acme"), e.world("Other")
	org := w.Organization.ID
	webhook := func(org signing.ID, name string) *signing.Webhook {
		return &signing.Webhook{ID: signing.NewID(), OrganizationID: org, Name: name, URL: "https://example.com/hook", HeaderName: "Authorization",
			HeaderChangedAt: pointer(at(time.Second)), SealedHeader: []byte{0, 1, 255}, SecretChangedAt: base, SealedSecret: []byte{2, 0},
			Active: true, CreatedAt: base}
	}
	release, audit := webhook(org, "release system"), webhook(org, "Audit")
	audit.HeaderName, audit.HeaderChangedAt, audit.SealedHeader = "", nil, nil
	e.do(func(tx signing.Tx) error {
		return errors.Join(tx.InsertWebhook(ctx, release), tx.InsertWebhook(ctx, audit), tx.InsertWebhook(ctx, webhook(other.Organization.ID, "Audit")))
	})
	load := func(tx signing.Tx) (*signing.Webhook, error) { return tx.Webhook(ctx, org, release.ID) }
	e.equal(get(e, load), release)
	webhooks := func() []*signing.Webhook {
		return get(e, func(tx signing.Tx) ([]*signing.Webhook, error) { return tx.Webhooks(ctx, org) })
	}
	e.equal(webhooks(), []*signing.Webhook{audit, release})
	e.equal(kindOf(e, func(tx signing.Tx) (*signing.Webhook, error) {
		return tx.Webhook(ctx, other.Organization.ID, release.ID)
	}), signing.KindNotFound)
	e.want(signing.KindConflict, func(tx signing.Tx) error { return tx.InsertWebhook(ctx, webhook(org, "AUDIT")) })
	checkUpdate(e, load, func(w *signing.Webhook) *int { return &w.Version },
		func(w *signing.Webhook) {
			w.Name, w.URL, w.HeaderName, w.HeaderChangedAt, w.SealedHeader = "r", "https://example.com/2", "X-Key", nil, nil
			w.SecretChangedAt, w.SealedSecret, w.Active = at(time.Hour), []byte{9}, false
		},
		func(tx signing.Tx, w *signing.Webhook) error { return tx.UpdateWebhook(ctx, w) })

	kept, gone := delivery(org, audit.ID, base), delivery(org, release.ID, base)
	e.do(func(tx signing.Tx) error {
		return errors.Join(tx.InsertDelivery(ctx, kept), tx.InsertDelivery(ctx, gone))
	})
	e.want(signing.KindNotFound, func(tx signing.Tx) error { return tx.DeleteWebhook(ctx, other.Organization.ID, release.ID) })
	e.do(func(tx signing.Tx) error { return tx.DeleteWebhook(ctx, org, release.ID) })
	e.want(signing.KindNotFound, func(tx signing.Tx) error { return tx.DeleteWebhook(ctx, org, release.ID) })
	e.equal(webhooks(), []*signing.Webhook{audit})
	e.equal(get(e, func(tx signing.Tx) ([]*signing.Delivery, error) {
		return tx.Deliveries(ctx, org, signing.DeliveryFilter{Limit: 10})
	}), []*signing.Delivery{kept})
}

// delivery returns a pending delivery, due at once.
func delivery(org, to signing.ID, created time.Time) *signing.Delivery {
	return &signing.Delivery{ID: signing.NewID(), OrganizationID: org, RequestID: signing.NewID(), Kind: signing.WebhookDelivery, ReceiverID: to,
		Event: signing.EventCompleted, Payload: []byte(`{"Status": "Completed <ä>"}`), State: signing.DeliveryPending, CreatedAt: created, NextAt: &created}
}

func testDeliveries(t *testing.T, e *env) {
	w, other := e.world("Acme"), e.world("Other")
	org, receiver := w.Organization.ID, signing.NewID()
	var all []*signing.Delivery // newest first
	for i := range 4 {
		to := receiver
		if i == 1 {
			to = signing.NewID()
		}
		d := delivery(org, to, at(time.Duration(i)*time.Minute))
		all = append([]*signing.Delivery{d}, all...)
		e.do(func(tx signing.Tx) error { return tx.InsertDelivery(ctx, d) })
	}
	foreign := delivery(other.Organization.ID, receiver, base)
	e.do(func(tx signing.Tx) error { return tx.InsertDelivery(ctx, foreign) })
	e.want(signing.KindConflict, func(tx signing.Tx) error { return tx.InsertDelivery(ctx, all[0]) })

	deliveries := func(f signing.DeliveryFilter) []*signing.Delivery {
		return get(e, func(tx signing.Tx) ([]*signing.Delivery, error) { return tx.Deliveries(ctx, org, f) })
	}
	e.equal(deliveries(signing.DeliveryFilter{Limit: 10}), all)
	e.equal(deliveries(signing.DeliveryFilter{Limit: 2, After: all[1].ID}), all[2:])
	e.equal(deliveries(signing.DeliveryFilter{Limit: 10, ReceiverID: receiver}), []*signing.Delivery{all[0], all[1], all[3]})
	e.equal(deliveries(signing.DeliveryFilter{Limit: 10, RequestID: all[2].RequestID, ReceiverID: all[2].ReceiverID}), all[2:3])
	e.equal(get(e, func(tx signing.Tx) (signing.ID, error) { return tx.DeliveryOrganization(ctx, foreign.ID) }), foreign.OrganizationID)
	e.equal(kindOf(e, func(tx signing.Tx) (signing.ID, error) { return tx.DeliveryOrganization(ctx, signing.NewID()) }), signing.KindNotFound)
	e.want(signing.KindNotFound, func(tx signing.Tx) error {
		_, err := tx.LockDelivery(ctx, org, foreign.ID)
		return err
	})

	checkUpdate(e, func(tx signing.Tx) (d *signing.Delivery, err error) {
		list, err := tx.Deliveries(ctx, org, signing.DeliveryFilter{RequestID: all[0].RequestID, Limit: 1})
		if err != nil {
			return nil, err
		}
		return list[0], nil
	}, func(d *signing.Delivery) *int { return &d.Version },
		func(d *signing.Delivery) {
			d.State, d.NextAt, d.Tries = signing.DeliveryDelivered, nil, 2
			d.Attempts = []signing.DeliveryAttempt{{Number: 1, At: base, EndedAt: at(time.Second), Status: 500, Error: "e", Response: "r <\n"}, {Number: 2, At: base}}
		},
		func(tx signing.Tx, d *signing.Delivery) error { return tx.UpdateDelivery(ctx, d) })
	e.equal(len(deliveries(signing.DeliveryFilter{Limit: 10, State: signing.DeliveryDelivered})), 1)

	due := func(at time.Time, limit int) []signing.DeliveryKey {
		return get(e, func(tx signing.Tx) ([]signing.DeliveryKey, error) { return tx.DueDeliveries(ctx, at, limit) })
	}
	key := func(d *signing.Delivery) signing.DeliveryKey {
		return signing.DeliveryKey{OrganizationID: d.OrganizationID, ID: d.ID}
	}
	e.equal(due(base.Add(-time.Microsecond), 10), []signing.DeliveryKey(nil))
	e.equal(due(at(time.Hour), 10), []signing.DeliveryKey{key(all[3]), key(foreign), key(all[2]), key(all[1])})
	e.equal(due(at(time.Hour), 1), []signing.DeliveryKey{key(all[3])})

	// Only settled ones are ever deleted.
	e.do(func(tx signing.Tx) error { return tx.DeleteDeliveries(ctx, at(3*time.Minute)) })
	e.equal(len(deliveries(signing.DeliveryFilter{Limit: 10})), 4)
	e.do(func(tx signing.Tx) error { return tx.DeleteDeliveries(ctx, at(4*time.Minute)) })
	e.equal(deliveries(signing.DeliveryFilter{Limit: 10}), all[1:])
}
