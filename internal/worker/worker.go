// Package worker runs the domain's background work: it advances the signing requests and makes the deliveries that jobs
// name, and looks now and then for what nobody woke it up for.
package worker

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/countersign-dev/countersign/internal/signing"
)

// Domain is the work to do; *signing.Service does it.
type Domain interface {
	Advance(ctx context.Context, request signing.ID) error
	Retrieve(ctx context.Context, request signing.ID) error
	Deliver(ctx context.Context, delivery signing.ID) error
	Sweep(ctx context.Context) error
	// NextDue returns when Sweep has something to do next, if it can tell; else the zero time.
	NextDue(ctx context.Context) (time.Time, error)
	Retain(ctx context.Context) error
}

// The kinds of job.
const (
	KindAdvance  = "advance"  // names a signing request to advance
	KindRetrieve = "retrieve" // names a signing request whose artifact is to be retrieved
	KindDeliver  = "deliver"  // names a delivery to make
)

// Worker does background work.
type Worker struct {
	Domain Domain
	Log    *slog.Logger
	// SweepEvery and RetainEvery are the pauses between two runs; 0 is signing.SweepEvery and 1 hour. A sweep comes earlier
	// when something is due.
	SweepEvery, RetainEvery time.Duration
}

// Handle runs one job. A job of a kind that this version does not know is an error, so that it is tried again by a newer one.
func (w *Worker) Handle(ctx context.Context, kind string, subject signing.ID) error {
	switch kind {
	case KindAdvance:
		return w.Domain.Advance(ctx, subject)
	case KindRetrieve:
		return w.Domain.Retrieve(ctx, subject)
	case KindDeliver:
		return w.Domain.Deliver(ctx, subject)
	default:
		return fmt.Errorf("worker: unknown kind of job %q", kind)
	}
}

// Run sweeps until ctx ends, and then waits for a run in progress.
func (w *Worker) Run(ctx context.Context) {
	var wg sync.WaitGroup
	wg.Go(func() { w.every(ctx, "sweep", or(w.SweepEvery, signing.SweepEvery), w.Domain.Sweep, w.Domain.NextDue) })
	wg.Go(func() { w.every(ctx, "retention", or(w.RetainEvery, time.Hour), w.Domain.Retain, nil) })
	wg.Wait()
}

// leastPause bounds how often the database is asked, whatever is due.
const leastPause = 50 * time.Millisecond

// every calls fn at once and then after each pause, which ends early when something is due, until ctx ends.
func (w *Worker) every(ctx context.Context, name string, pause time.Duration, fn func(context.Context) error, nextDue func(context.Context) (time.Time, error)) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		var due time.Time
		err := fn(ctx)
		if err == nil && nextDue != nil {
			due, err = nextDue(ctx)
		}
		if err != nil && ctx.Err() == nil {
			w.Log.Error("background work failed; it runs again later", "work", name, "error", err)
		}
		if err != nil || due.IsZero() {
			timer.Reset(pause)
		} else {
			timer.Reset(min(pause, max(time.Until(due), leastPause)))
		}
	}
}

func or(d, otherwise time.Duration) time.Duration {
	if d > 0 {
		return d
	}
	return otherwise
}
