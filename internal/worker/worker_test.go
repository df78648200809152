package worker

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/countersign-dev/countersign/internal/signing"
)

// fake counts calls; what it counts is read only after Run returned or while its bubble is idle.
type fake struct {
	advanced  []signing.ID
	retrieved []signing.ID
	delivered []signing.ID
	sweeps    int
	retains   int
	err       error
	due       []time.Duration // what is due, counted from the bubble's start; a sweep does what is
	start     time.Time
	swept     []time.Duration
}

func (f *fake) Advance(_ context.Context, id signing.ID) error {
	f.advanced = append(f.advanced, id)
	return f.err
}

func (f *fake) Retrieve(_ context.Context, id signing.ID) error {
	f.retrieved = append(f.retrieved, id)
	return f.err
}

func (f *fake) Deliver(_ context.Context, id signing.ID) error {
	f.delivered = append(f.delivered, id)
	return f.err
}

func (f *fake) Sweep(context.Context) error {
	f.sweeps++
	now := time.Since(f.start)
	f.swept = append(f.swept, now)
	f.due = slices.DeleteFunc(f.due, func(d time.Duration) bool { return d <= now })
	return f.err
}

func (f *fake) NextDue(context.Context) (time.Time, error) {
	if len(f.due) == 0 {
		return time.Time{}, nil
	}
	return f.start.Add(slices.Min(f.due)), nil
}

func (f *fake) Retain(context.Context) error { f.retains++; return nil }

func TestRunRepeatsAndSurvivesErrors(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := &fake{err: errors.New("database is away")}
		var log strings.Builder
		w := &Worker{Domain: f, Log: slog.New(slog.NewTextHandler(&log, nil)), SweepEvery: time.Second, RetainEvery: 10 * time.Second}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { w.Run(ctx); close(done) }()
		time.Sleep(10*time.Second + 500*time.Millisecond) // of the bubble's clock
		synctest.Wait()
		if f.sweeps != 11 || f.retains != 2 {
			t.Errorf("after 10.5 s: %d sweeps and %d retention runs, want 11 and 2", f.sweeps, f.retains)
		}
		cancel()
		<-done
		if got := strings.Count(log.String(), "database is away"); got != 11 {
			t.Errorf("%d failures were logged, want 11", got)
		}
	})
}

// TestSweepsWhenDue: what is due before the pause is over is not late, and nothing makes the sweeps come without pause.
func TestSweepsWhenDue(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := &fake{start: time.Now(), due: []time.Duration{1200 * time.Millisecond, 1210 * time.Millisecond, 7 * time.Second}}
		w := &Worker{Domain: f, Log: slog.New(slog.DiscardHandler)}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { w.Run(ctx); close(done) }()
		time.Sleep(13 * time.Second)
		synctest.Wait()
		cancel()
		<-done
		want := []time.Duration{0, 1200 * time.Millisecond, 1250 * time.Millisecond, 6250 * time.Millisecond, 7 * time.Second, 12 * time.Second}
		if !slices.Equal(f.swept, want) {
			t.Errorf("swept at %v, want %v", f.swept, want)
		}
	})
}

func TestHandle(t *testing.T) {
	t.Parallel()
	f := &fake{}
	w := &Worker{Domain: f, Log: slog.New(slog.DiscardHandler)}
	if err := w.Handle(t.Context(), KindAdvance, "r1"); err != nil || len(f.advanced) != 1 || f.advanced[0] != "r1" {
		t.Errorf("advance job: error %v, advanced %v", err, f.advanced)
	}
	if err := w.Handle(t.Context(), KindDeliver, "d1"); err != nil || len(f.delivered) != 1 || f.delivered[0] != "d1" {
		t.Errorf("delivery job: error %v, delivered %v", err, f.delivered)
	}
	if err := w.Handle(t.Context(), KindRetrieve, "r2"); err != nil || len(f.retrieved) != 1 || f.retrieved[0] != "r2" {
		t.Errorf("retrieval job: error %v, retrieved %v", err, f.retrieved)
	}
	if err := w.Handle(t.Context(), "dance", "r1"); err == nil {
		t.Error("a job of unknown kind was accepted")
	}
}
