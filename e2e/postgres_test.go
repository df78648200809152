package e2e

import (
	"context"
	"testing"
	"time"

	"github.com/countersign-dev/countersign/e2e/server"
	"github.com/countersign-dev/countersign/internal/oracle"
	"github.com/countersign-dev/countersign/internal/store/pgtest"
)

// TestKillWorkers runs one server and two workers on PostgreSQL and kills workers while requests are under way. What a
// dead worker held is taken up by another one when its lease ends, after half a minute.
func TestKillWorkers(t *testing.T) {
	t.Parallel()
	osslsigncode := oracle.Need(t, "osslsigncode")
	database := pgtest.URL(t)
	ctx, cancel := context.WithTimeout(t.Context(), crashTime)
	defer cancel()
	data := t.TempDir()
	seeded := startDemo(t, data, "--database", database)
	seeded.stop(t)
	authority := startDemo(t, t.TempDir())
	shared := []string{"--database", database, "--timestamp", authority.BaseURL + timestampPath, "--workers", "2"}
	serve := serveSeeded(t, seeded, authority, data, shared...)
	startWorker := func() *server.Process {
		return start(t, append([]string{"worker", "--data", data, "--log-level", "warn"}, shared...)...)
	}
	workers := []*server.Process{startWorker(), startWorker()}

	const submitted, resubmits, kills = 40, 20, 8
	w := newCrashWork(t, serve, submitted, resubmits)
	wait := w.start(ctx)
	for n := range kills {
		for range submitted / kills {
			w.begin <- struct{}{}
		}
		if err := w.progress(ctx, 1); err != nil {
			t.Error(err)
			break
		}
		<-moment(200 * time.Millisecond)
		workers[n%2].Kill()
		workers[n%2] = startWorker()
	}
	close(w.begin)
	wait()
	if t.Failed() {
		return
	}
	w.check(ctx, serve, osslsigncode)
	for _, p := range append(workers, serve.Process, authority.Process) {
		stop(t, p)
	}
	run(t, "audit", "verify", "--data", data, "--database", database)
}
