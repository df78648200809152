package signing_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/countersign-dev/countersign/internal/signing"
	"github.com/countersign-dev/countersign/internal/store/storetest"
)

// hook makes a webhook and returns it.
func (w *world) hook(t *testing.T, name string) *signing.Webhook {
	t.Helper()
	h, _, err := w.CreateWebhook(t.Context(), w.Admin, signing.WebhookEdit{Name: &name, URL: ptr("https://hooks.example/" + name)})
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// one returns the only delivery to a receiver.
func (w *world) one(t *testing.T, receiver signing.ID) *signing.Delivery {
	t.Helper()
	list := w.deliveries(t, signing.DeliveryQuery{ReceiverID: receiver})
	if len(list) != 1 {
		t.Fatalf("%d deliveries, want 1", len(list))
	}
	return list[0]
}

func TestWebhookIsCalledOnFinalStates(t *testing.T) {
	t.Parallel()
	o := &outside{}
	w := newWorld(t, withMessages(o))
	ctx := t.Context()
	h := w.hook(t, "release")
	off := w.hook(t, "off")
	if _, err := w.EditWebhook(ctx, w.Admin, off.ID, signing.WebhookEdit{Active: ptr(false)}); err != nil {
		t.Fatal(err)
	}
	completed := w.submit(t, "test-signing")
	w.advance(t, completed.ID)
	denied, canceled := w.submit(t, "release-signing"), w.submit(t, "release-signing")
	w.advance(t, denied.ID)
	w.advance(t, canceled.ID)
	if _, err := w.Deny(ctx, w.Approver, denied.ID, ""); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Cancel(ctx, w.CI, canceled.ID, ""); err != nil {
		t.Fatal(err)
	}
	st, err := w.Stage(ctx, w.CI, "bad.exe", strings.NewReader("bad"))
	if err != nil {
		t.Fatal(err)
	}
	failed := w.submit(t, "test-signing", func(s *signing.Submission) { s.Artifact = st })
	w.advance(t, failed.ID)
	w.deliverAll(t)
	got := map[string]string{}
	for _, c := range o.calls {
		got[string(c.Body)] = c.URL
		if len(c.Secret) != 32 || c.HeaderName != "" || c.ID == "" || c.At.IsZero() {
			t.Errorf("call %+v", c)
		}
	}
	want := map[string]string{}
	for r, status := range map[*signing.Request]string{completed: "Completed", denied: "Denied", canceled: "Canceled", failed: "Failed"} {
		want[fmt.Sprintf(`{"OrganizationId":%q,"SigningRequestId":%q,"Status":%q}`, w.Admin.OrganizationID, r.ID, status)] = h.URL
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("calls (-want +got):\n%s", d)
	}
	for _, d := range w.deliveries(t, signing.DeliveryQuery{RequestID: completed.ID, ReceiverID: h.ID}) {
		if a := d.Attempts[0]; d.State != signing.DeliveryDelivered || d.NextAt != nil || len(d.Attempts) != 1 || a.Status != 200 || a.Response != "thanks" || a.Error != "" || a.Number != 1 {
			t.Errorf("delivery %+v", d)
		}
	}
}

// TestRetries lets a receiver fail for a day.
func TestRetries(t *testing.T) {
	t.Parallel()
	o := &outside{answer: func(signing.ID) (signing.Receipt, error) {
		return signing.Receipt{Status: 503, Response: "\x00\xffcome\x1b[2J back" + strings.Repeat("ä", 5000)}, errors.New("the receiver answered with status 503")
	}}
	w := newWorld(t, withMessages(o))
	h := w.hook(t, "h")
	r := w.submit(t, "test-signing")
	w.advance(t, r.ID)
	began := w.clock.Now()
	id := w.one(t, h.ID).ID
	deliver := func() *signing.Delivery {
		t.Helper()
		if err := w.Deliver(t.Context(), id); err != nil {
			t.Fatal(err)
		}
		return w.one(t, h.ID)
	}
	d := deliver()
	for tries := 1; d.State == signing.DeliveryPending; tries++ {
		if tries > 50 || d.Tries != tries || d.NextAt == nil {
			t.Fatalf("try %d: %+v", tries, d)
		}
		if early := deliver(); len(early.Attempts) != tries {
			t.Fatalf("attempt %d began before its time", len(early.Attempts))
		}
		w.clock.advance(d.NextAt.Sub(w.clock.Now()))
		d = deliver()
	}
	took := w.clock.Now().Sub(began)
	if d.State != signing.DeliveryFailed || d.NextAt != nil || len(d.Attempts) != 11 || len(o.calls) != 11 || took < 20*time.Hour || took > 30*time.Hour {
		t.Errorf("given up as %s after %d attempts, %d calls, %v", d.State, len(d.Attempts), len(o.calls), took)
	}
	a := d.Attempts[10]
	if a.Number != 11 || a.Status != 503 || a.Error == "" || !strings.HasPrefix(a.Response, "come[2J back") || len(a.Response) > 2048 {
		t.Errorf("attempt %+v", a)
	}
	for _, c := range o.calls {
		if c.ID != id {
			t.Errorf("a repetition has another id: %s, want %s", c.ID, id)
		}
	}
	if deliver(); len(o.calls) != 11 {
		t.Error("what was given up was delivered")
	}

	// By hand it goes again, with a new round of attempts.
	o.answer = nil
	if d, err := w.Redeliver(t.Context(), w.Admin, id); err != nil || d.State != signing.DeliveryPending {
		t.Fatalf("%+v, %v", d, err)
	}
	if d := deliver(); d.State != signing.DeliveryDelivered || len(d.Attempts) != 12 || d.Attempts[11].Number != 12 || d.Attempts[11].Error != "" || d.Tries != 1 {
		t.Errorf("redelivered: %+v", d)
	}
	if _, err := w.Redeliver(t.Context(), w.Admin, id); err != nil { // what arrived may be sent again, too
		t.Error(err)
	}
	if events := w.events(t, id); !slices.Equal(events, []string{"Webhook.Redelivered", "Webhook.Redelivered"}) {
		t.Errorf("audit entries %v", events)
	}
	_, err := w.Redeliver(t.Context(), w.Approver, id)
	wantKind(t, err, signing.KindForbidden)
	_, err = w.Redeliver(t.Context(), w.Foreigner, id)
	wantKind(t, err, signing.KindNotFound)
	// The list of attempts is bounded.
	for range 60 {
		if _, err := w.Redeliver(t.Context(), w.Admin, id); err != nil {
			t.Fatal(err)
		}
		d = deliver()
	}
	if len(d.Attempts) != 50 || d.Attempts[49].Number != 72 {
		t.Errorf("%d attempts are kept, the last is number %d", len(d.Attempts), d.Attempts[49].Number)
	}
	// After its time the record goes.
	w.clock.advance(91 * 24 * time.Hour)
	if err := w.Retain(t.Context()); err != nil {
		t.Fatal(err)
	}
	if list := w.deliveries(t, signing.DeliveryQuery{}); len(list) != 0 {
		t.Errorf("%d old deliveries are kept", len(list))
	}
}

func TestUndeliverable(t *testing.T) {
	t.Parallel()
	for name, prepare := range map[string]func(t *testing.T, w *world, o *outside, h *signing.Webhook){
		"refused for good": func(_ *testing.T, _ *world, o *outside, _ *signing.Webhook) {
			o.answer = func(signing.ID) (signing.Receipt, error) {
				return signing.Receipt{}, fmt.Errorf("no such mailbox: %w", signing.ErrUndeliverable)
			}
		},
		"deactivated": func(t *testing.T, w *world, _ *outside, h *signing.Webhook) {
			if _, err := w.EditUser(t.Context(), w.Admin, w.Approver.UserID, signing.UserEdit{Active: ptr(false)}); err != nil {
				t.Fatal(err)
			}
			if _, err := w.EditWebhook(t.Context(), w.Admin, h.ID, signing.WebhookEdit{Active: ptr(false)}); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := &outside{}
			w := newWorld(t, withMessages(o))
			h := w.hook(t, "h")
			waits := w.submit(t, "release-signing")
			w.advance(t, waits.ID)
			done := w.submit(t, "test-signing")
			w.advance(t, done.ID)
			prepare(t, w, o, h)
			w.deliverAll(t)
			for _, d := range []*signing.Delivery{w.one(t, h.ID), w.one(t, w.Approver.UserID)} {
				if d.State != signing.DeliveryFailed || len(d.Attempts) != 1 || d.Attempts[0].Error == "" {
					t.Errorf("%s to %s: %+v", d.Kind, d.ReceiverID, d)
				}
			}
		})
	}
	t.Run("deleted", func(t *testing.T) {
		t.Parallel()
		o := &outside{}
		w := newWorld(t, withMessages(o))
		h := w.hook(t, "h")
		done := w.submit(t, "test-signing")
		w.advance(t, done.ID)
		d := w.one(t, h.ID)
		if err := w.DeleteWebhook(t.Context(), w.Admin, h.ID); err != nil {
			t.Fatal(err)
		}
		if err := w.Deliver(t.Context(), d.ID); err != nil || len(o.calls) != 0 {
			t.Errorf("a deleted webhook was called %d times, %v", len(o.calls), err)
		}
	})
}

// TestDeadCourier kills a process between sending and recording, as far as the database can tell.
func TestDeadCourier(t *testing.T) {
	t.Parallel()
	started, stop := make(chan struct{}), make(chan error)
	o := &outside{answer: func(signing.ID) (signing.Receipt, error) {
		close(started)
		return signing.Receipt{Status: 200}, <-stop
	}}
	w := newWorld(t, withMessages(o))
	h := w.hook(t, "h")
	r := w.submit(t, "test-signing")
	w.advance(t, r.ID)
	d := w.one(t, h.ID)
	done := make(chan error)
	go func() { done <- w.Deliver(t.Context(), d.ID) }()
	<-started
	if err := w.Deliver(t.Context(), d.ID); err != nil || len(o.calls) != 1 { // another worker keeps its hands off
		t.Errorf("%d calls, %v", len(o.calls), err)
	}
	_, err := w.Redeliver(t.Context(), w.Admin, d.ID)
	wantKind(t, err, signing.KindConflict)
	o.mu.Lock()
	o.answer = nil
	o.mu.Unlock()
	w.clock.advance(4 * time.Minute)
	if err := w.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.deliverAll(t)
	if d := w.one(t, h.ID); d.State != signing.DeliveryDelivered || len(d.Attempts) != 2 || !d.Attempts[0].EndedAt.IsZero() || len(o.calls) != 2 {
		t.Fatalf("after the second attempt: %+v", d)
	}
	stop <- errors.New("too late") // the first one was only slow: its word changes nothing
	if err := <-done; err != nil {
		t.Error(err)
	}
	if d := w.one(t, h.ID); d.State != signing.DeliveryDelivered || d.Attempts[0].Error != "too late" || d.Attempts[1].Error != "" {
		t.Errorf("after the first attempt's end: %+v", d)
	}
}

// TestCourierThatNeverReturns: each attempt takes its process down; it ends all the same.
func TestCourierThatNeverReturns(t *testing.T) {
	t.Parallel()
	o := &outside{answer: func(signing.ID) (signing.Receipt, error) { panic("killed") }}
	w := newWorld(t, withMessages(o))
	h := w.hook(t, "h")
	r := w.submit(t, "test-signing")
	w.advance(t, r.ID)
	for range 20 {
		for _, d := range w.deliveries(t, signing.DeliveryQuery{State: signing.DeliveryPending}) {
			func() {
				defer func() { _ = recover() }()
				if err := w.Deliver(t.Context(), d.ID); err != nil {
					t.Error(err)
				}
			}()
		}
		w.clock.advance(4 * time.Minute)
	}
	if d := w.one(t, h.ID); d.State != signing.DeliveryFailed || len(d.Attempts) != 11 {
		t.Errorf("%s after %d attempts", d.State, len(d.Attempts))
	}
}

func TestShutdownWhileDelivering(t *testing.T) {
	t.Parallel()
	ctx, shutdown := context.WithCancel(t.Context())
	o := &outside{answer: func(signing.ID) (signing.Receipt, error) {
		shutdown()
		return signing.Receipt{}, context.Canceled
	}}
	w := newWorld(t, withMessages(o))
	h := w.hook(t, "h")
	r := w.submit(t, "test-signing")
	w.advance(t, r.ID)
	d := w.one(t, h.ID)
	if err := w.Deliver(ctx, d.ID); err != nil {
		t.Fatal(err)
	}
	if d = w.one(t, h.ID); d.State != signing.DeliveryPending || d.Tries != 0 || d.NextAt.After(w.clock.Now()) || d.Attempts[0].Error == "" {
		t.Errorf("%+v", d)
	}
}

// TestDeliveryFaults breaks every write and every commit from the submission to the last delivery, in every way, and
// checks that each receiver is told of each event: at least once, each time with the same id, and of nothing else.
func TestDeliveryFaults(t *testing.T) {
	t.Parallel()
	for _, fault := range storetest.Faults {
		t.Run(fault.String(), func(t *testing.T) {
			t.Parallel()
			for step := 1; ; step++ {
				if !deliveriesWithFault(t, step, fault) {
					if step < 40 {
						t.Errorf("the scenario has only %d steps", step-1)
					}
					return
				}
				if t.Failed() {
					t.Fatalf("after breaking step %d", step)
				}
			}
		})
	}
}

func deliveriesWithFault(t *testing.T, step int, fault storetest.Fault) bool {
	var faulty *storetest.Faulty
	failures := 0
	o := &outside{}
	o.answer = func(signing.ID) (signing.Receipt, error) {
		if failures++; failures == 1 { // the first message fails at its receiver, too
			return signing.Receipt{Status: 500}, errors.New("the receiver answered with status 500")
		}
		return signing.Receipt{Status: 200}, nil
	}
	w := newWorld(t, withMessages(o), func(c *signing.Config) {
		faulty = storetest.NewFaulty(c.Store)
		c.Store = faulty
	})
	ctx := t.Context()
	h := w.hook(t, "h")
	injected := func(err error) {
		t.Helper()
		if err != nil && !errors.Is(err, storetest.ErrInjected) {
			t.Error(err)
		}
	}
	faulty.Break(step, fault)
	var r *signing.Request
	for range 3 {
		st := w.stage(t, w.CI)
		var err error
		if r, _, err = w.Submit(ctx, w.CI, signing.Submission{Target: signing.Target{ProjectSlug: "app", PolicySlug: "release-signing"}, Artifact: st, IdempotencyKey: "1"}); err == nil {
			break
		}
		injected(err)
	}
	approved := false
	for range 12 {
		injected(w.Advance(ctx, r.ID))
		if !approved && w.status(t, r.ID).Workflow == signing.WorkflowWaitingForApproval {
			_, err := w.Approve(ctx, w.Approver, r.ID, "ok")
			if signing.KindOf(err) != signing.KindConflict {
				injected(err)
			}
			approved = err == nil || signing.KindOf(err) == signing.KindConflict
		}
		for _, d := range w.deliveries(t, signing.DeliveryQuery{State: signing.DeliveryPending}) {
			injected(w.Deliver(ctx, d.ID))
		}
		w.clock.advance(4 * time.Minute)
		injected(w.Sweep(ctx))
	}
	if got := w.status(t, r.ID).Workflow; got != signing.WorkflowCompleted {
		t.Errorf("the request is %s; steps %v", got, faulty.Steps())
	}
	// Two approvers are asked, the webhook is called: three messages, each delivered.
	ids := map[signing.ID]bool{}
	told := map[string]bool{}
	for _, d := range w.deliveries(t, signing.DeliveryQuery{}) {
		if d.State != signing.DeliveryDelivered || d.NextAt != nil || told[string(d.ReceiverID)+string(d.Event)] {
			t.Errorf("delivery %+v; steps %v", d, faulty.Steps())
		}
		ids[d.ID], told[string(d.ReceiverID)+string(d.Event)] = true, true
	}
	for _, want := range []string{string(h.ID) + "Completed", string(w.Approver.UserID) + "ApprovalRequested", string(w.Second.UserID) + "ApprovalRequested"} {
		if !told[want] {
			t.Errorf("%s was not told; steps %v", want, faulty.Steps())
		}
	}
	sent := map[signing.ID]int{}
	for _, m := range o.mail {
		sent[m.ID]++
	}
	for _, c := range o.calls {
		sent[c.ID]++
	}
	total := 0
	for id, n := range sent {
		if !ids[id] {
			t.Errorf("message %s was sent of something that did not happen", id)
		}
		total += n
	}
	if len(sent) != len(told) || total > len(told)+2 { // one repetition for the receiver's failure, one for the fault
		t.Errorf("%d messages were sent %d times, want %d", len(sent), total, len(told))
	}
	return faulty.Fired()
}
