package signing

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"
)

// Webhook is a URL of an organization that is called when signing requests become final.
type Webhook struct {
	ID             ID     `json:"id"`
	OrganizationID ID     `json:"organizationId"`
	Name           string `json:"name"`
	URL            string `json:"url"` // https
	// HeaderName is the header that carries the configured value, "Authorization" unless said otherwise; empty when no
	// value is configured.
	HeaderName      string     `json:"headerName"`
	HeaderChangedAt *time.Time `json:"headerChangedAt,omitempty"`
	SecretChangedAt time.Time  `json:"secretChangedAt"`
	Active          bool       `json:"active"`
	CreatedAt       time.Time  `json:"createdAt"`
	Version         int        `json:"version"`

	SealedHeader []byte `json:"-"` // the header's value, sealed by Config.Secrets; empty when none is configured
	SealedSecret []byte `json:"-"` // the signature's key, sealed by Config.Secrets
}

// WebhookEdit describes a new webhook, or changes what is not nil.
type WebhookEdit struct {
	Name        *string
	URL         *string
	HeaderName  *string // empty: "Authorization"
	HeaderValue *string // sent exactly as given, such as "Bearer ..."; empty removes it
	Active      *bool
	Version     int
}

const (
	maxWebhooks = 50 // of an organization: each is called for each final request
	// secretPrefix marks the secret of a webhook's signatures (Standard Webhooks, "Signature scheme").
	secretPrefix = "whsec_"
	secretBytes  = 32
)

// reservedHeaders are set by the sender or belong to the connection.
var reservedHeaders = []string{
	"connection", "content-encoding", "content-length", "content-type", "expect", "host", "keep-alive", "te", "trailer",
	"transfer-encoding", "upgrade", "user-agent", "webhook-id", "webhook-timestamp", "webhook-signature",
}

// CreateWebhook makes an active webhook. The secret, which receivers verify signatures with, is returned only now and by
// RotateWebhookSecret.
func (s *Service) CreateWebhook(ctx context.Context, a Actor, e WebhookEdit) (w *Webhook, secret string, err error) {
	if err := require(a, OpManageWebhooks, scope{}); err != nil {
		return nil, "", err
	}
	now := s.now()
	w = &Webhook{ID: NewID(), OrganizationID: a.OrganizationID, Active: true, CreatedAt: now, SecretChangedAt: now, Version: 1}
	sealedHeader, err := s.sealHeader(ctx, e)
	if err != nil {
		return nil, "", err
	}
	if err := s.applyWebhook(w, e, sealedHeader); err != nil {
		return nil, "", err
	}
	if secret, w.SealedSecret, err = s.newSecret(ctx); err != nil {
		return nil, "", err
	}
	err = s.store.Tx(ctx, func(tx Tx) error {
		if err := tx.LockOrganization(ctx, a.OrganizationID); err != nil { // two creations shall not both be the last
			return err
		}
		existing, err := tx.Webhooks(ctx, a.OrganizationID)
		if err != nil {
			return err
		}
		if len(existing) >= maxWebhooks {
			return Errorf(KindConflict, "The organization has %d webhooks already; delete one first.", len(existing))
		}
		if err := tx.InsertWebhook(ctx, w); err != nil {
			return taken(err, "Name", "Another webhook has this name already.")
		}
		return s.record(ctx, tx, a, "Webhook.Created", webhookObject(w), map[string]any{"after": w})
	})
	if err != nil {
		return nil, "", err
	}
	return w, secret, nil
}

// EditWebhook changes a webhook. Another host in the URL takes the header's value anew, so that a value that was entered
// for one receiver does not go to another.
func (s *Service) EditWebhook(ctx context.Context, a Actor, id ID, e WebhookEdit) (*Webhook, error) {
	if err := require(a, OpManageWebhooks, scope{}); err != nil {
		return nil, err
	}
	sealedHeader, err := s.sealHeader(ctx, e)
	if err != nil {
		return nil, err
	}
	return s.editWebhook(ctx, a, id, e.Version, func(w *Webhook) error { return s.applyWebhook(w, e, sealedHeader) })
}

// RotateWebhookSecret replaces the secret of a webhook's signatures. Every call from now on is signed with the new one.
func (s *Service) RotateWebhookSecret(ctx context.Context, a Actor, id ID, version int) (w *Webhook, secret string, err error) {
	if err := require(a, OpManageWebhooks, scope{}); err != nil {
		return nil, "", err
	}
	secret, sealed, err := s.newSecret(ctx)
	if err != nil {
		return nil, "", err
	}
	w, err = s.editWebhook(ctx, a, id, version, func(w *Webhook) error {
		w.SealedSecret, w.SecretChangedAt = sealed, later(s.now(), w.SecretChangedAt)
		return nil
	})
	if err != nil {
		return nil, "", err
	}
	return w, secret, nil
}

func (s *Service) editWebhook(ctx context.Context, a Actor, id ID, version int, apply func(*Webhook) error) (*Webhook, error) {
	return edit[Webhook]{
		event:  "Webhook.Edited",
		load:   func(tx Tx) (*Webhook, error) { return tx.Webhook(ctx, a.OrganizationID, id) },
		permit: func(Tx, *Webhook) error { return require(a, OpManageWebhooks, scope{}) },
		apply:  func(_ Tx, w *Webhook) error { return apply(w) },
		update: func(tx Tx, w *Webhook) error {
			return taken(tx.UpdateWebhook(ctx, w), "Name", "Another webhook has this name already, or somebody changed this one meanwhile.")
		},
		version: version, current: func(w *Webhook) int { return w.Version },
		object: webhookObject,
	}.run(ctx, s, a)
}

// DeleteWebhook deletes a webhook together with the record of its deliveries; those that are pending are not made.
func (s *Service) DeleteWebhook(ctx context.Context, a Actor, id ID) error {
	if err := require(a, OpManageWebhooks, scope{}); err != nil {
		return err
	}
	return s.store.Tx(ctx, func(tx Tx) error {
		w, err := tx.Webhook(ctx, a.OrganizationID, id)
		if err != nil {
			return err
		}
		if err := tx.DeleteWebhook(ctx, a.OrganizationID, id); err != nil {
			return err
		}
		return s.record(ctx, tx, a, "Webhook.Deleted", webhookObject(w), map[string]any{"before": w})
	})
}

// Webhooks lists the organization's webhooks by name.
func (s *Service) Webhooks(ctx context.Context, a Actor) (list []*Webhook, err error) {
	if err := require(a, OpManageWebhooks, scope{}); err != nil {
		return nil, err
	}
	err = s.store.View(ctx, func(tx Tx) error {
		list, err = tx.Webhooks(ctx, a.OrganizationID)
		return err
	})
	return list, err
}

// Webhook returns one of the organization's webhooks.
func (s *Service) Webhook(ctx context.Context, a Actor, id ID) (w *Webhook, err error) {
	if err := require(a, OpManageWebhooks, scope{}); err != nil {
		return nil, err
	}
	err = s.store.View(ctx, func(tx Tx) error {
		w, err = tx.Webhook(ctx, a.OrganizationID, id)
		return err
	})
	return w, err
}

// TestWebhook calls a webhook with the status "Test" and an empty GUID as request, also while it is not active. The
// outcome shows among its deliveries.
func (s *Service) TestWebhook(ctx context.Context, a Actor, id ID) (*Delivery, error) {
	if err := require(a, OpManageWebhooks, scope{}); err != nil {
		return nil, err
	}
	var d *Delivery
	err := s.store.Tx(ctx, func(tx Tx) error {
		w, err := tx.Webhook(ctx, a.OrganizationID, id)
		if err != nil {
			return err
		}
		d = &Delivery{OrganizationID: a.OrganizationID, Kind: WebhookDelivery, ReceiverID: w.ID, Event: EventTest}
		body := webhookBody{OrganizationID: a.OrganizationID, SigningRequestID: "00000000-0000-0000-0000-000000000000", Status: string(EventTest)}
		if err := s.enqueue(ctx, tx, d, body); err != nil {
			return err
		}
		return s.record(ctx, tx, a, "Webhook.Tested", webhookObject(w), map[string]any{"deliveryId": d.ID})
	})
	if err != nil {
		return nil, err
	}
	return d, nil
}

// webhookBody is the documented body of a call.
type webhookBody struct {
	OrganizationID   ID     `json:"OrganizationId"`
	SigningRequestID ID     `json:"SigningRequestId"`
	Status           string `json:"Status"`
}

func (s *Service) announceToWebhooks(ctx context.Context, tx Tx, r *Request, status Status) error {
	webhooks, err := tx.Webhooks(ctx, r.OrganizationID)
	if err != nil {
		return err
	}
	for _, w := range webhooks {
		if !w.Active {
			continue
		}
		d := &Delivery{OrganizationID: r.OrganizationID, RequestID: r.ID, Kind: WebhookDelivery, ReceiverID: w.ID, Event: Event(status)}
		if err := s.enqueue(ctx, tx, d, webhookBody{r.OrganizationID, r.ID, string(status)}); err != nil {
			return err
		}
	}
	return nil
}

// callWebhook makes one call with the webhook's settings as they are now.
func (s *Service) callWebhook(ctx context.Context, d *Delivery) (Receipt, error) {
	if s.webhooks == nil || s.secrets == nil {
		return Receipt{}, errors.New("this server does not call webhooks")
	}
	var w *Webhook
	err := s.store.View(ctx, func(tx Tx) (err error) {
		w, err = tx.Webhook(ctx, d.OrganizationID, d.ReceiverID)
		return err
	})
	if err != nil {
		return Receipt{}, err
	}
	if !w.Active && d.Event != EventTest {
		return Receipt{}, fmt.Errorf("the webhook was deactivated: %w", ErrUndeliverable)
	}
	call := WebhookCall{ID: d.ID, At: s.now(), URL: w.URL, Body: d.Payload}
	if call.Secret, err = s.secrets.Decrypt(ctx, w.SealedSecret); err != nil {
		return Receipt{}, s.sealed("signature secret", err)
	}
	if len(w.SealedHeader) > 0 {
		value, err := s.secrets.Decrypt(ctx, w.SealedHeader)
		if err != nil {
			return Receipt{}, s.sealed("header", err)
		}
		call.HeaderName, call.HeaderValue = w.HeaderName, string(value)
	}
	return s.webhooks.Call(ctx, call)
}

// sealed says that a secret cannot be read, without the key store's words, which may name its places.
func (s *Service) sealed(what string, err error) error {
	s.log.Error("a webhook's secret cannot be unsealed", "what", what, "error", err)
	return fmt.Errorf("the webhook's %s cannot be unsealed: the master key changed or its store does not answer; see the server's log", what)
}

func (s *Service) newSecret(ctx context.Context) (secret string, sealed []byte, err error) {
	if s.webhooks == nil || s.secrets == nil {
		return "", nil, Errorf(KindUnavailable, "This server does not call webhooks.")
	}
	key := make([]byte, secretBytes)
	_, _ = rand.Read(key) // never fails
	if sealed, err = s.secrets.Encrypt(ctx, key); err != nil {
		return "", nil, fmt.Errorf("seal the webhook's secret: %w", err)
	}
	return secretPrefix + base64.StdEncoding.EncodeToString(key), sealed, nil
}

// sealHeader checks and seals a header's new value; nil when none is given.
func (s *Service) sealHeader(ctx context.Context, e WebhookEdit) ([]byte, error) {
	if e.HeaderValue == nil || *e.HeaderValue == "" {
		return nil, nil
	}
	if s.secrets == nil {
		return nil, Errorf(KindUnavailable, "This server does not call webhooks.")
	}
	value := *e.HeaderValue
	// Visible ASCII, with blanks inside only: the field value of RFC 9110, section 5.5, without its obsolete octets.
	if len(value) > maxHeaderValue || strings.TrimSpace(value) != value || strings.ContainsFunc(value, func(r rune) bool { return r < ' ' || r > '~' }) {
		return nil, Invalid("HeaderValue", "A header's value has at most %d printable ASCII characters and no blank at either end.", maxHeaderValue)
	}
	sealed, err := s.secrets.Encrypt(ctx, []byte(value))
	if err != nil {
		return nil, fmt.Errorf("seal the webhook's header: %w", err)
	}
	return sealed, nil
}

func (s *Service) applyWebhook(w *Webhook, e WebhookEdit, sealedHeader []byte) error {
	was := w.URL
	set(&w.Name, e.Name)
	set(&w.URL, e.URL)
	set(&w.Active, e.Active)
	var v validation
	v.name("Name", w.Name)
	switch {
	case s.webhooks == nil:
		v.add("Url", "This server does not call webhooks.")
	case len(w.URL) > maxURL:
		v.add("Url", "The URL has more than %d bytes.", maxURL)
	default:
		if err := s.webhooks.Check(w.URL); err != nil {
			v.add("Url", "The URL cannot be called: %v.", err)
		}
	}
	if len(w.SealedHeader) > 0 && e.HeaderValue == nil && urlOrigin(was) != urlOrigin(w.URL) {
		v.add("HeaderValue", "The URL names another host: enter the header's value again, or an empty one.")
	}
	if e.HeaderName != nil {
		w.HeaderName = *e.HeaderName
	}
	if e.HeaderValue != nil && len(sealedHeader)+len(w.SealedHeader) > 0 {
		changed := s.now()
		if w.HeaderChangedAt != nil {
			changed = later(changed, *w.HeaderChangedAt)
		}
		w.SealedHeader, w.HeaderChangedAt = sealedHeader, &changed
	}
	if w.HeaderName = cmp.Or(w.HeaderName, "Authorization"); len(w.SealedHeader) == 0 {
		w.HeaderName = ""
	} else if !isHeaderName(w.HeaderName) || slices.Contains(reservedHeaders, strings.ToLower(w.HeaderName)) {
		v.add("HeaderName", "'%s' cannot be used as a header's name.", truncate(w.HeaderName, 100))
	}
	return v.err()
}

// later returns now, moved so that it is after another time: a secret that changed shows by its time alone.
func later(now, than time.Time) time.Time {
	if now.After(than) {
		return now
	}
	return than.Add(time.Microsecond)
}

// urlOrigin returns a URL's scheme and host with port (RFC 6454, section 4).
func urlOrigin(raw string) string {
	u, err := url.Parse(raw)
	if err != nil {
		return raw
	}
	return strings.ToLower(u.Scheme + "://" + u.Host)
}
