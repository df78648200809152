package signing

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/countersign-dev/countersign/internal/audit"
)

// DeliveryKind says how a message travels.
type DeliveryKind string

// The kinds of delivery.
const (
	MailDelivery    DeliveryKind = "Mail"
	WebhookDelivery DeliveryKind = "Webhook"
)

// DeliveryState says how far a delivery is.
type DeliveryState string

// The states of a delivery.
const (
	DeliveryPending   DeliveryState = "Pending"
	DeliveryDelivered DeliveryState = "Delivered"
	DeliveryFailed    DeliveryState = "Failed" // given up; Redeliver tries again
)

// Delivery is one message for one receiver. It is stored in the transaction of the change that it tells of, so that
// nothing is told that did not happen and nothing that happened stays untold, and is carried out afterwards: at least
// once, and twice when a process dies in between. Its ID tells the receiver which.
type Delivery struct {
	ID             ID
	OrganizationID ID
	RequestID      ID // empty for a test of a webhook
	Kind           DeliveryKind
	ReceiverID     ID // user or webhook
	Event          Event
	Payload        json.RawMessage // a Notice for mail, the body for a webhook
	State          DeliveryState
	Attempts       []DeliveryAttempt // oldest first; the latest 50
	Tries          int               // attempts since it was made or last asked for by hand
	CreatedAt      time.Time
	// NextAt is when the next attempt is due, or when the present one counts as dead; nil once settled.
	NextAt  *time.Time
	Version int
}

// DeliveryAttempt is one try. A try without error and without status is under way, or its process died.
type DeliveryAttempt struct {
	Number   int       `json:"number"` // from 1
	At       time.Time `json:"at"`
	EndedAt  time.Time `json:"endedAt,omitzero"`
	Status   int       `json:"status,omitempty"` // HTTP status, or SMTP reply code
	Error    string    `json:"error,omitempty"`
	Response string    `json:"response,omitempty"` // what the receiver said, at most 2 KiB
}

// Receipt is what a receiver answered.
type Receipt struct {
	Status   int    // HTTP status, or SMTP reply code; 0 when there was none
	Response string // at most 2 KiB of what it said
}

// ErrUndeliverable is wrapped by an error of a sender when no later try can succeed.
var ErrUndeliverable = errors.New("cannot be delivered")

// MailSender sends mail. An implementation is safe for concurrent use and gives up when ctx ends.
type MailSender interface {
	// SendMail returns nil once the mail server took the mail over.
	SendMail(ctx context.Context, m Mail) (Receipt, error)
}

// Mail is a notification for one user.
type Mail struct {
	ID     ID // of the delivery; the Message-ID is made of it
	To     string
	Notice Notice
}

// WebhookSender calls webhooks. An implementation is safe for concurrent use and gives up when ctx ends.
type WebhookSender interface {
	// Check reports whether a URL may be called, as far as that can be told without calling. Its text is for people.
	Check(url string) error
	// Call posts the body; any answer but 2xx is an error.
	Call(ctx context.Context, c WebhookCall) (Receipt, error)
}

// WebhookCall is one call of a webhook.
type WebhookCall struct {
	ID          ID // of the delivery; the webhook-id header
	At          time.Time
	URL         string
	HeaderName  string // empty: none
	HeaderValue string
	Secret      []byte // key of the Standard Webhooks signature
	Body        []byte // JSON
}

const (
	// deliveryLease is how long an attempt may take; one that is older counts as dead.
	deliveryLease   = 2 * time.Minute
	deliveryTimeout = 90 * time.Second
	maxAttemptsKept = 50
	maxResponse     = 2 << 10
	// keepDeliveries is how long settled deliveries can be looked at.
	keepDeliveries = 90 * 24 * time.Hour
)

// deliveryDelays are the pauses after failed attempts: about a day in all.
var deliveryDelays = []time.Duration{
	5 * time.Second, 30 * time.Second, 2 * time.Minute, 10 * time.Minute, 30 * time.Minute,
	time.Hour, 2 * time.Hour, 4 * time.Hour, 8 * time.Hour, 8 * time.Hour,
}

// enqueue stores a new delivery and wakes a worker. Call it before record.
func (s *Service) enqueue(ctx context.Context, tx Tx, d *Delivery, payload any) (err error) {
	if d.Payload, err = json.Marshal(payload); err != nil {
		return fmt.Errorf("encode a message about %s: %w", d.Event, err)
	}
	now := s.now()
	d.ID, d.State, d.CreatedAt, d.NextAt, d.Version = NewID(), DeliveryPending, now, &now, 1
	if err := tx.InsertDelivery(ctx, d); err != nil {
		return err
	}
	return tx.EnqueueDelivery(ctx, d.ID, time.Time{})
}

// Deliver makes one attempt at a delivery that is due, records it, and plans the next one when it failed. It is safe to
// call at any time, from any process. It returns an error only when it could not record anything.
func (s *Service) Deliver(ctx context.Context, id ID) error {
	var org ID
	err := s.store.View(ctx, func(tx Tx) (err error) {
		org, err = tx.DeliveryOrganization(ctx, id)
		return err
	})
	if KindOf(err) == KindNotFound {
		return nil
	} else if err != nil {
		return err
	}
	d, err := s.claimDelivery(ctx, org, id)
	if d == nil || err != nil {
		return err
	}
	sending, cancel := context.WithTimeout(ctx, deliveryTimeout)
	receipt, sendErr := s.send(sending, d)
	cancel()
	if sendErr != nil && ctx.Err() != nil {
		sendErr = errInterrupted // whatever the library made of it
	}
	return s.settle(context.WithoutCancel(ctx), d, receipt, sendErr)
}

var errInterrupted = errors.New("interrupted by a shutdown of the server")

// claimDelivery records the beginning of an attempt before anything leaves the house, and keeps others away from it for
// the time of a lease. It returns nil when there is nothing to do.
func (s *Service) claimDelivery(ctx context.Context, org, id ID) (claimed *Delivery, err error) {
	err = s.store.Tx(ctx, func(tx Tx) error {
		claimed = nil
		d, err := tx.LockDelivery(ctx, org, id)
		if KindOf(err) == KindNotFound {
			return nil
		} else if err != nil {
			return err
		}
		now := s.now()
		if d.State != DeliveryPending || d.NextAt != nil && now.Before(*d.NextAt) {
			return nil
		}
		if d.Tries > len(deliveryDelays) {
			// The last attempt ended without a word.
			d.State, d.NextAt = DeliveryFailed, nil
			return tx.UpdateDelivery(ctx, d)
		}
		number := 1
		if n := len(d.Attempts); n > 0 {
			number = d.Attempts[n-1].Number + 1
		}
		d.Attempts = append(d.Attempts, DeliveryAttempt{Number: number, At: now})
		if n := len(d.Attempts) - maxAttemptsKept; n > 0 {
			d.Attempts = d.Attempts[n:]
		}
		d.Tries++
		until := now.Add(deliveryLease)
		d.NextAt = &until
		if err := tx.UpdateDelivery(ctx, d); err != nil {
			return err
		}
		claimed = d
		return nil
	})
	if err != nil {
		return nil, err
	}
	return claimed, nil
}

// settle records how the claimed delivery's latest attempt ended.
func (s *Service) settle(ctx context.Context, claimed *Delivery, receipt Receipt, sendErr error) error {
	attempt := claimed.Attempts[len(claimed.Attempts)-1]
	attempt.EndedAt, attempt.Status, attempt.Response = s.now(), receipt.Status, cleanText(receipt.Response, maxResponse)
	if sendErr != nil {
		attempt.Error = cleanText(sendErr.Error(), maxResponse)
	}
	log := s.log.With("delivery", claimed.ID, "kind", claimed.Kind, "attempt", attempt.Number)
	return s.store.Tx(ctx, func(tx Tx) error {
		d, err := tx.LockDelivery(ctx, claimed.OrganizationID, claimed.ID)
		if KindOf(err) == KindNotFound {
			return nil // its webhook was deleted meanwhile
		} else if err != nil {
			return err
		}
		for i := range d.Attempts {
			if d.Attempts[i].Number == attempt.Number {
				d.Attempts[i] = attempt
			}
		}
		current := d.Attempts[len(d.Attempts)-1].Number == attempt.Number
		switch {
		case sendErr == nil:
			d.State, d.NextAt = DeliveryDelivered, nil
		case !current || d.State != DeliveryPending:
			// A later attempt is under way or has settled it: this one is a note only.
		case errors.Is(sendErr, errInterrupted):
			d.Tries--
			now := s.now()
			d.NextAt = &now
			if err := tx.EnqueueDelivery(ctx, d.ID, time.Time{}); err != nil {
				return err
			}
		case errors.Is(sendErr, ErrUndeliverable) || d.Tries > len(deliveryDelays):
			log.Warn("a message could not be delivered and was given up", "error", attempt.Error)
			d.State, d.NextAt = DeliveryFailed, nil
		default:
			next := s.now().Add(deliveryDelays[max(d.Tries-1, 0)])
			log.Info("a message could not be delivered; it is tried again", "error", attempt.Error, "next", next)
			d.NextAt = &next
			if err := tx.EnqueueDelivery(ctx, d.ID, next); err != nil {
				return err
			}
		}
		return tx.UpdateDelivery(ctx, d)
	})
}

// send carries a delivery out, to where its receiver is now.
func (s *Service) send(ctx context.Context, d *Delivery) (Receipt, error) {
	switch d.Kind {
	case MailDelivery:
		return s.sendMail(ctx, d)
	case WebhookDelivery:
		return s.callWebhook(ctx, d)
	}
	return Receipt{}, fmt.Errorf("this version knows no delivery of kind %q", d.Kind)
}

func (s *Service) sendMail(ctx context.Context, d *Delivery) (Receipt, error) {
	if s.mail == nil {
		return Receipt{}, errors.New("no mail server is configured")
	}
	m := Mail{ID: d.ID}
	if err := json.Unmarshal(d.Payload, &m.Notice); err != nil {
		return Receipt{}, fmt.Errorf("the stored notice cannot be read: %w", errors.Join(err, ErrUndeliverable))
	}
	err := s.store.View(ctx, func(tx Tx) error {
		u, err := tx.User(ctx, d.OrganizationID, d.ReceiverID)
		if err != nil {
			return err
		}
		if !u.Active || u.Email == "" {
			return fmt.Errorf("the user was deactivated or has no e-mail address: %w", ErrUndeliverable)
		}
		m.To = u.Email
		return nil
	})
	if err != nil {
		return Receipt{}, err
	}
	return s.mail.SendMail(ctx, m)
}

// sweepDeliveries wakes workers for deliveries that are overdue, because their job or their worker was lost.
func (s *Service) sweepDeliveries(ctx context.Context) error {
	const batch = 100
	for {
		now := s.now()
		overdue := now.Add(-s.limits.Wake)
		var due []DeliveryKey
		err := s.store.View(ctx, func(tx Tx) (err error) {
			due, err = tx.DueDeliveries(ctx, overdue, batch)
			return err
		})
		if err != nil {
			return err
		}
		for _, key := range due {
			err := s.store.Tx(ctx, func(tx Tx) error {
				d, err := tx.LockDelivery(ctx, key.OrganizationID, key.ID)
				if KindOf(err) == KindNotFound {
					return nil
				} else if err != nil {
					return err
				}
				if d.State != DeliveryPending || d.NextAt == nil || d.NextAt.After(overdue) {
					return nil
				}
				d.NextAt = &now
				if err := tx.UpdateDelivery(ctx, d); err != nil {
					return err
				}
				return tx.EnqueueDelivery(ctx, d.ID, time.Time{})
			})
			if err != nil {
				return err
			}
		}
		if len(due) < batch {
			return nil
		}
	}
}

// DeliveryQuery narrows a list of deliveries for a caller; zero fields do not narrow.
type DeliveryQuery struct {
	RequestID  ID
	ReceiverID ID // webhook or user
	State      DeliveryState
	After      ID  // cursor: older than this one
	Limit      int // default 50, at most 200
}

// Deliveries lists messages with all attempts, newest first.
func (s *Service) Deliveries(ctx context.Context, a Actor, q DeliveryQuery) (*Page[*Delivery], error) {
	if err := require(a, OpManageWebhooks, scope{}); err != nil {
		return nil, err
	}
	switch {
	case q.Limit == 0:
		q.Limit = 50
	case q.Limit < 0 || q.Limit > maxPage:
		return nil, Invalid("PageSize", "The page size must be between 1 and %d.", maxPage)
	}
	page := &Page[*Delivery]{}
	err := s.store.View(ctx, func(tx Tx) error {
		list, err := tx.Deliveries(ctx, a.OrganizationID, DeliveryFilter{
			RequestID: q.RequestID, ReceiverID: q.ReceiverID, State: q.State, After: q.After, Limit: q.Limit + 1,
		})
		if err != nil {
			return err
		}
		page.Items = list
		if len(list) > q.Limit {
			page.Items = list[:q.Limit]
			page.Next = page.Items[q.Limit-1].ID
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return page, nil
}

// Redeliver sends a message once more, now, with a new round of attempts when it fails. What was delivered before is
// delivered again.
func (s *Service) Redeliver(ctx context.Context, a Actor, id ID) (*Delivery, error) {
	if err := require(a, OpManageWebhooks, scope{}); err != nil {
		return nil, err
	}
	var d *Delivery
	err := s.store.Tx(ctx, func(tx Tx) (err error) {
		if d, err = tx.LockDelivery(ctx, a.OrganizationID, id); err != nil {
			return err
		}
		now := s.now()
		if n := len(d.Attempts); n > 0 && d.State == DeliveryPending && d.Attempts[n-1].EndedAt.IsZero() && d.NextAt != nil && now.Before(*d.NextAt) {
			return Errorf(KindConflict, "The message is being delivered at this moment; look at the outcome first.")
		}
		d.State, d.Tries, d.NextAt = DeliveryPending, 0, &now
		if err := tx.UpdateDelivery(ctx, d); err != nil {
			return err
		}
		if err := tx.EnqueueDelivery(ctx, d.ID, time.Time{}); err != nil {
			return err
		}
		return s.record(ctx, tx, a, string(d.Kind)+".Redelivered", audit.Object{Type: "Delivery", ID: string(d.ID)}, map[string]any{
			"receiverId": d.ReceiverID, "signingRequestId": d.RequestID, "event": d.Event,
		})
	})
	if err != nil {
		return nil, err
	}
	return d, nil
}
