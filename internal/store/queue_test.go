package store_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/countersign-dev/countersign/internal/signing"
	"github.com/countersign-dev/countersign/internal/store"
	"github.com/countersign-dev/countersign/internal/store/pgtest"
	"github.com/countersign-dev/countersign/internal/store/storetest"
)

// onBoth runs a test on both databases.
func onBoth(t *testing.T, test func(t *testing.T, db *store.DB)) {
	t.Run("SQLite", func(t *testing.T) {
		t.Parallel()
		test(t, storetest.SQLite(t))
	})
	t.Run("PostgreSQL", func(t *testing.T) {
		t.Parallel()
		test(t, pgtest.Open(t))
	})
}

// run starts a queue that passes its jobs to handler, and returns what stops it and waits for it.
func run(t testing.TB, db *store.DB, workers int, handler func(ctx context.Context, job store.Job) error) (stop func()) {
	t.Helper()
	q, err := store.NewQueue(db, handler, store.QueueConfig{Workers: workers})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- q.Run(ctx) }()
	var once sync.Once
	stop = func() {
		once.Do(func() {
			cancel()
			if err := <-ended; err != nil {
				t.Errorf("queue: %v", err)
			}
		})
	}
	t.Cleanup(stop)
	return stop
}

func enqueue(t testing.TB, db *store.DB, notBefore time.Time, ids ...signing.ID) {
	t.Helper()
	ctx := context.Background()
	if err := db.Tx(ctx, func(tx signing.Tx) error {
		for _, id := range ids {
			if err := tx.EnqueueAdvance(ctx, id, notBefore); err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
}

// next waits for a value.
func next[T any](t testing.TB, c <-chan T) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(time.Minute):
		t.Fatal("nothing came within a minute")
		panic("unreachable")
	}
}

func TestQueue(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, db *store.DB) {
		before, after := signing.NewID(), signing.NewID()
		enqueue(t, db, time.Time{}, before)
		jobs := make(chan store.Job, 10)
		failed := map[signing.ID]int{}
		var mu sync.Mutex
		stop := run(t, db, 2, func(_ context.Context, job store.Job) error {
			mu.Lock()
			defer mu.Unlock()
			if failed[job.Subject]++; failed[job.Subject] <= 2 {
				if failed[job.Subject] == 2 {
					panic("a handler that panics counts as one that fails")
				}
				return errors.New("not now")
			}
			jobs <- job
			return nil
		})
		if got, want := next(t, jobs), (store.Job{Kind: store.Advance, Subject: before}); got != want {
			t.Errorf("got %+v, want %+v", got, want)
		}
		enqueue(t, db, time.Time{}, after)
		if got := next(t, jobs); got.Subject != after {
			t.Errorf("got %+v", got)
		}
		// A transaction that is undone enqueues nothing.
		errStop := errors.New("stop")
		if err := db.Tx(context.Background(), func(tx signing.Tx) error {
			return errors.Join(tx.EnqueueAdvance(context.Background(), signing.NewID(), time.Time{}), errStop)
		}); !errors.Is(err, errStop) {
			t.Fatal(err)
		}
		later := signing.NewID()
		due := time.Now().Add(time.Second)
		enqueue(t, db, due, later)
		if got := next(t, jobs); got.Subject != later || time.Now().Before(due) {
			t.Errorf("got %+v at %s, due at %s", got, time.Now(), due)
		}
		stop()
		if n, err := store.Raw(context.Background(), db, "SELECT CAST(count(*) AS TEXT) FROM river_job WHERE state <> 'completed'"); err != nil || n[0] != "0" {
			t.Errorf("%s jobs are left (%v)", n, err)
		}
	})
}

// TestDelayedJobs checks that jobs for later times start when these have come: none earlier, and none as late as River's
// scheduler would start it, which first looks when the queue starts and then every five seconds.
func TestDelayedJobs(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, db *store.DB) {
		began := make(chan signing.ID, 10)
		run(t, db, 2, func(_ context.Context, job store.Job) error { began <- job.Subject; return nil })
		first := signing.NewID()
		enqueue(t, db, time.Time{}, first)
		next(t, began)
		for _, delay := range []time.Duration{1500 * time.Millisecond, 300 * time.Millisecond, 1100 * time.Millisecond} {
			id, due := signing.NewID(), time.Now().Add(delay)
			enqueue(t, db, due, id)
			if n, err := store.Raw(context.Background(), db, "SELECT CAST(count(*) AS TEXT) FROM river_job WHERE state = 'scheduled'"); err != nil || n[0] != "0" {
				t.Errorf("%s jobs wait for River's scheduler (%v)", n, err)
			}
			if got := next(t, began); got != id || time.Now().Before(due) {
				t.Errorf("got %s at %s, due at %s", got, time.Now(), due)
			}
			t.Logf("%s late", time.Since(due))
		}
	})
}

// TestQueueStop checks that a queue that stops lets running jobs finish, and that what it did not begin is run later.
func TestQueueStop(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, db *store.DB) {
		began, finish, done := make(chan signing.ID, 10), make(chan struct{}), make(chan signing.ID, 10)
		handler := func(ctx context.Context, job store.Job) error {
			began <- job.Subject
			<-finish
			done <- job.Subject
			return ctx.Err()
		}
		first, second := signing.NewID(), signing.NewID()
		enqueue(t, db, time.Time{}, first)
		stop := run(t, db, 1, handler)
		next(t, began)
		enqueue(t, db, time.Time{}, second)
		stopped := make(chan struct{})
		go func() { stop(); close(stopped) }()
		close(finish)
		next(t, stopped)
		if got := next(t, done); got != first {
			t.Errorf("got %s, want %s", got, first)
		}
		run(t, db, 1, handler) // the second, unless it began before the stop
		if got := next(t, done); got != second {
			t.Errorf("got %s, want %s", got, second)
		}
	})
}

// TestQueueAfterDeath checks that jobs of a process that died are run again, although their rows say that they run.
func TestQueueAfterDeath(t *testing.T) {
	t.Parallel()
	db := storetest.SQLite(t)
	id := signing.NewID()
	enqueue(t, db, time.Time{}, id)
	if _, err := store.Raw(context.Background(), db, "UPDATE river_job SET state = 'running', attempt = 1"); err != nil {
		t.Fatal(err)
	}
	jobs := make(chan store.Job, 1)
	run(t, db, 1, func(_ context.Context, job store.Job) error { jobs <- job; return nil })
	if got := next(t, jobs); got.Subject != id {
		t.Errorf("got %+v", got)
	}
}

// BenchmarkQueueLatency measures from the commit that enqueues to the handler's start, one job at a time.
func BenchmarkQueueLatency(b *testing.B) {
	benchmarkQueues(b, func(b *testing.B, db *store.DB) {
		began := make(chan time.Time, 1)
		run(b, db, 2, func(context.Context, store.Job) error { began <- time.Now(); return nil })
		enqueue(b, db, time.Time{}, signing.NewID())
		next(b, began)
		var all []time.Duration
		for b.Loop() {
			enqueue(b, db, time.Time{}, signing.NewID())
			committed := time.Now()
			all = append(all, next(b, began).Sub(committed))
		}
		slices.Sort(all)
		b.ReportMetric(float64(all[len(all)/2].Microseconds()), "µs-median")
		b.ReportMetric(float64(all[len(all)*99/100].Microseconds()), "µs-p99")
	})
}

// BenchmarkQueueThroughput measures jobs that were enqueued before, with empty handlers.
func BenchmarkQueueThroughput(b *testing.B) {
	benchmarkQueues(b, func(b *testing.B, db *store.DB) {
		for rest := b.N; rest > 0; rest -= 1000 {
			ids := make([]signing.ID, min(rest, 1000))
			for i := range ids {
				ids[i] = signing.NewID()
			}
			enqueue(b, db, time.Time{}, ids...)
		}
		done := make(chan struct{}, b.N)
		b.ResetTimer()
		run(b, db, 16, func(context.Context, store.Job) error { done <- struct{}{}; return nil })
		for range b.N {
			next(b, done)
		}
		b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "jobs/s")
	})
}

func benchmarkQueues(b *testing.B, run func(b *testing.B, db *store.DB)) {
	for _, c := range []struct {
		name string
		open func(t testing.TB) *store.DB
	}{{"SQLite", storetest.SQLite}, {"PostgreSQL", pgtest.Open}} {
		b.Run(fmt.Sprint(c.name), func(b *testing.B) { run(b, c.open(b)) })
	}
}
