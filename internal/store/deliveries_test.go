package store_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/countersign-dev/countersign/internal/signing"
	"github.com/countersign-dev/countersign/internal/store"
	"github.com/countersign-dev/countersign/internal/store/storetest"
)

// TestOthersServersDoNotDelaySigning lets every worker for retrievals hang: jobs of signing requests and messages go on.
func TestOthersServersDoNotDelaySigning(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, db *store.DB) {
		retrieving, release := make(chan signing.ID), make(chan struct{})
		other := make(chan string)
		run(t, db, 1, func(_ context.Context, job store.Job) error {
			if job.Kind != store.Retrieve {
				other <- job.Kind
				return nil
			}
			select {
			case retrieving <- job.Subject:
			case <-release:
			}
			<-release
			return nil
		})
		defer close(release)
		if err := db.Tx(t.Context(), func(tx signing.Tx) error {
			for range 9 {
				if err := tx.EnqueueRetrieval(t.Context(), signing.NewID(), time.Time{}); err != nil {
					return err
				}
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		for range 8 {
			next(t, retrieving)
		}
		enqueue(t, db, time.Time{}, signing.NewID())
		if got := next(t, other); got != store.Advance {
			t.Errorf("got a job to %s", got)
		}
		if err := db.Tx(t.Context(), func(tx signing.Tx) error { return tx.EnqueueDelivery(t.Context(), signing.NewID(), time.Time{}) }); err != nil {
			t.Fatal(err)
		}
		if got := next(t, other); got != store.Deliver {
			t.Errorf("got a job to %s", got)
		}
		select {
		case <-retrieving:
			t.Error("a ninth retrieval is on its way")
		default:
		}
	})
}

// TestMessagesDoNotDelaySigning lets every worker for messages hang: jobs of signing requests go on.
func TestMessagesDoNotDelaySigning(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, db *store.DB) {
		delivering, release := make(chan signing.ID), make(chan struct{})
		advanced := make(chan signing.ID)
		run(t, db, 1, func(ctx context.Context, job store.Job) error {
			switch job.Kind {
			case store.Deliver:
				delivering <- job.Subject
				<-release
			case store.Advance:
				advanced <- job.Subject
			}
			return nil
		})
		defer close(release)
		wanted := map[signing.ID]bool{}
		enqueueDeliveries := func(n int) {
			t.Helper()
			if err := db.Tx(t.Context(), func(tx signing.Tx) error {
				for range n {
					id := signing.NewID()
					wanted[id] = true
					if err := tx.EnqueueDelivery(t.Context(), id, time.Time{}); err != nil {
						return err
					}
				}
				return nil
			}); err != nil {
				t.Fatal(err)
			}
		}
		enqueueDeliveries(8)
		for range 8 {
			if id := next(t, delivering); !wanted[id] {
				t.Errorf("job for %s", id)
			}
		}
		enqueueDeliveries(1)
		id := signing.NewID()
		enqueue(t, db, time.Time{}, id)
		if got := next(t, advanced); got != id {
			t.Errorf("advanced %s, want %s", got, id)
		}
		select {
		case <-delivering:
			t.Error("a ninth message is on its way")
		default:
		}
		release <- struct{}{}
		next(t, delivering)
	})
}

// TestMessageListsUseIndexes: no list of messages reads or sorts more than it returns.
func TestMessageListsUseIndexes(t *testing.T) {
	t.Parallel()
	db := storetest.SQLite(t)
	org, some := signing.NewID(), signing.NewID()
	plan, err := store.Explain(t.Context(), db, func(tx signing.Tx) error {
		ctx := t.Context()
		for _, f := range []signing.DeliveryFilter{
			{}, {After: some}, {RequestID: some}, {ReceiverID: some, After: some}, {State: signing.DeliveryFailed, After: some},
		} {
			f.Limit = 50
			if _, err := tx.Deliveries(ctx, org, f); err != nil {
				return err
			}
		}
		if _, err := tx.DueDeliveries(ctx, time.Now(), 100); err != nil {
			return err
		}
		_, err := tx.Webhooks(ctx, org)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(plan, "SCAN") || strings.Contains(plan, "TEMP B-TREE") {
		t.Errorf("plan:\n%s", plan)
	}
	for _, index := range []string{"deliveries_organization", "deliveries_request", "deliveries_receiver", "deliveries_state", "deliveries_due", "webhooks_name"} {
		if !strings.Contains(plan, index) {
			t.Errorf("index %s is not used in\n%s", index, plan)
		}
	}
}
