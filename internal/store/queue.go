package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"runtime"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/riverdriver/riversqlite"
	"github.com/riverqueue/river/rivertype"

	"github.com/countersign-dev/countersign/internal/signing"
)

// The kinds of job.
const (
	Advance  = "advance"  // advance a signing request; the subject is its id
	Retrieve = "retrieve" // retrieve a signing request's artifact; the subject is the request's id
	Deliver  = "deliver"  // deliver a message; the subject is the delivery's id
)

// Job is a unit of queued work: its kind says what to do, its subject with what.
type Job struct {
	Kind    string
	Subject signing.ID
}

// QueueConfig sets up a [Queue]. The zero value is usable.
type QueueConfig struct {
	Workers int           // jobs that run at a time; 0 is two for each CPU
	Logger  *slog.Logger  // nil: that of the database
	Stop    time.Duration // how long Run waits for running jobs when it ends before it cancels them; 0 is 30 s
}

// Queue runs queued jobs with River. Jobs carry no state: one that is lost with its process is found again by the
// domain's sweep, and one that runs twice finds its work done.
type Queue struct {
	db      *DB
	handler func(ctx context.Context, job Job) error
	config  QueueConfig
	runner  runner
}

// runner is River's client, whose type parameter differs between the databases.
type runner interface {
	Start(ctx context.Context) error
	Stop(ctx context.Context) error
	StopAndCancel(ctx context.Context) error
}

// How the queue is tuned.
const (
	// fetchPause is the least time between two looks for jobs, and so the longest that a burst's next job waits.
	fetchPause = 2 * time.Millisecond
	// pollPeriod finds jobs whose wake-up was lost, and retries that came due.
	pollPeriod = 500 * time.Millisecond
	// jobAttempts and the delays below give a failing job about ten minutes; then it is dropped and the sweep takes over.
	jobAttempts = 20
	firstRetry  = 250 * time.Millisecond
	lastRetry   = time.Minute
	// rescueAfter frees jobs of processes that died. A job that merely runs longer is started a second time, which its
	// handler must bear anyway.
	rescueAfter = 15 * time.Minute
	// cancelTime is how long a job may take to return after its context was canceled.
	cancelTime = 10 * time.Second
	// keepCompleted is short: a completed job says nothing that the request does not say better.
	keepCompleted = time.Minute
)

// NewQueue returns a queue that calls handler for each job, several at a time. A handler that fails or panics is called
// again for the job with growing delays, at most 20 times. The context that the handler gets ends when the queue is
// stopped and the handler does not return in time.
func NewQueue(db *DB, handler func(ctx context.Context, job Job) error, c QueueConfig) (*Queue, error) {
	if c.Workers == 0 {
		c.Workers = 2 * runtime.GOMAXPROCS(0)
	}
	if c.Logger == nil {
		c.Logger = db.logger
	}
	if c.Stop == 0 {
		c.Stop = 30 * time.Second
	}
	q := &Queue{db: db, handler: handler, config: c}
	var err error
	if q.runner, err = db.backend.newRunner(q); err != nil {
		return nil, fmt.Errorf("store: queue: %w", err)
	}
	return q, nil
}

// Run works until ctx ends, then lets running jobs finish. It must run at most once.
func (q *Queue) Run(ctx context.Context) error {
	background := context.WithoutCancel(ctx)
	if err := q.runner.Start(background); err != nil {
		return fmt.Errorf("store: start queue: %w", err)
	}
	<-ctx.Done()
	stopping, cancel := context.WithTimeout(background, q.config.Stop)
	defer cancel()
	if err := q.runner.Stop(stopping); err == nil {
		return nil
	}
	canceling, cancel := context.WithTimeout(background, cancelTime)
	defer cancel()
	if err := q.runner.StopAndCancel(canceling); err != nil {
		return fmt.Errorf("store: stop queue: jobs did not heed their canceled context: %w", err)
	}
	return nil
}

// jobArgs is how a job is stored. Every job has the same kind for River, so that a process never drops a job of a kind
// that only a newer one knows: the handler fails, and the job waits for the newer process.
type jobArgs struct {
	Do      string `json:"kind"`
	Subject string `json:"subject"`
}

func (jobArgs) Kind() string { return "job" }

// queues name River's queues. Messages and retrievals have workers of their own: other people's servers that let them wait must
// not keep signatures waiting.
var queues = []string{river.QueueDefault, "messages", "retrievals"}

// messageWorkers and retrievalWorkers are how many messages are delivered, and artifacts retrieved, at a time.
const (
	messageWorkers   = 8
	retrievalWorkers = 8
)

func (j jobArgs) queue() string {
	switch j.Do {
	case Deliver:
		return queues[1]
	case Retrieve:
		return queues[2]
	default:
		return queues[0]
	}
}

func jobToInsert(job jobArgs, notBefore time.Time) []river.InsertManyParams {
	return []river.InsertManyParams{{Args: job, InsertOpts: &river.InsertOpts{ScheduledAt: notBefore, Queue: job.queue()}}}
}

// insertPayload is how River says that a queue has new jobs.
func insertPayload(queue string) string { return `{"queue": "` + queue + `"}` }

// insertOnly configures the client of a database that only inserts jobs.
func insertOnly(logger *slog.Logger) *river.Config {
	return &river.Config{Logger: quiet(logger), MaxAttempts: jobAttempts, FetchCooldown: fetchPause}
}

// EnqueueAdvance implements signing.JobTx. A job for a later time may start half a second late.
func (x *tx) EnqueueAdvance(ctx context.Context, request signing.ID, notBefore time.Time) error {
	return x.enqueue(ctx, jobArgs{Do: Advance, Subject: text(request)}, notBefore)
}

// EnqueueRetrieval implements signing.JobTx, as EnqueueAdvance does.
func (x *tx) EnqueueRetrieval(ctx context.Context, request signing.ID, notBefore time.Time) error {
	return x.enqueue(ctx, jobArgs{Do: Retrieve, Subject: text(request)}, notBefore)
}

// EnqueueDelivery implements signing.JobTx, as EnqueueAdvance does.
func (x *tx) EnqueueDelivery(ctx context.Context, delivery signing.ID, notBefore time.Time) error {
	return x.enqueue(ctx, jobArgs{Do: Deliver, Subject: text(delivery)}, notBefore)
}

func (x *tx) enqueue(ctx context.Context, job jobArgs, notBefore time.Time) error {
	if err := x.q.check([]any{job.Subject}); err != nil {
		return err
	}
	if err := x.t.enqueue(ctx, job, notBefore); err != nil {
		return x.q.fail(err)
	}
	if !notBefore.IsZero() {
		// Workers take what is available once its time has come. What is merely scheduled waits for River's scheduler, too,
		// which looks every five seconds.
		if _, err := x.q.exec(ctx, "UPDATE river_job SET state = 'available' WHERE state = 'scheduled'"); err != nil {
			return err
		}
	}
	x.enqueued = true
	return nil
}

// worker passes River's jobs to the queue's handler.
type worker struct {
	river.WorkerDefaults[jobArgs]
	handler func(ctx context.Context, job Job) error
}

func (w *worker) Work(ctx context.Context, job *river.Job[jobArgs]) error {
	return w.handler(ctx, Job{Kind: job.Args.Do, Subject: signing.ID(job.Args.Subject)})
}

// riverConfig configures the client that runs jobs.
func (q *Queue) riverConfig() (*river.Config, error) {
	workers := river.NewWorkers()
	if err := river.AddWorkerSafely(workers, &worker{handler: q.handler}); err != nil {
		return nil, err
	}
	return &river.Config{
		Logger:                      quiet(q.config.Logger),
		Workers:                     workers,
		Queues:                      map[string]river.QueueConfig{queues[0]: {MaxWorkers: q.config.Workers}, queues[1]: {MaxWorkers: messageWorkers}, queues[2]: {MaxWorkers: retrievalWorkers}},
		FetchCooldown:               fetchPause,
		FetchPollInterval:           pollPeriod,
		MaxAttempts:                 jobAttempts,
		JobTimeout:                  -1, // a large artifact takes its time; the domain's lease decides who works on it
		RescueStuckJobsAfter:        rescueAfter,
		RetryPolicy:                 retryPolicy{},
		CompletedJobRetentionPeriod: keepCompleted,
	}, nil
}

// retryPolicy doubles the delay with each failure.
type retryPolicy struct{}

func (retryPolicy) NextRetry(job *rivertype.JobRow) time.Time {
	delay := lastRetry
	if n := len(job.Errors); n < 8 { // 250 ms * 2^8 is more than a minute
		delay = firstRetry << n
	}
	return time.Now().UTC().Add(delay/2 + rand.N(delay/2)) //nolint:gosec // G404: spreads retries, nothing to guess
}

func (db *postgresDB) newRunner(q *Queue) (runner, error) {
	c, err := q.riverConfig()
	if err != nil {
		return nil, err
	}
	return river.NewClient(riverpgxv5.New(db.pool), c)
}

func (db *sqliteDB) newRunner(q *Queue) (runner, error) {
	c, err := q.riverConfig()
	if err != nil {
		return nil, err
	}
	// Nightly, River would look for indexes that only PostgreSQL's schema has, and warn that they are missing. Those of
	// SQLite do not bloat.
	c.ReindexerSchedule = river.NeverSchedule()
	client, err := river.NewClient(sqliteDriver{riversqlite.New(db.write), q.db}, c)
	if err != nil {
		return nil, err
	}
	return &sqliteRunner{client, db}, nil
}

// sqliteDriver is River's driver for SQLite with another way to learn of new jobs. River's own appends a row for each
// notification and polls for it every 50 ms on the connection that writes; here the transaction that enqueued wakes
// the queue when it has committed. Jobs that another process enqueues are found by polling.
type sqliteDriver struct {
	*riversqlite.Driver
	db *DB
}

var (
	_ riverdriver.Driver[*sql.Tx] = sqliteDriver{}
	_ riverdriver.Driver[pgx.Tx]  = (*riverpgxv5.Driver)(nil)
)

func (d sqliteDriver) SupportsListenNotify() bool { return false }

func (d sqliteDriver) GetListener(*riverdriver.GetListenenerParams) riverdriver.Listener {
	return &commitListener{db: d.db}
}

// commitListener tells River of jobs that transactions of this process committed.
type commitListener struct {
	db     *DB
	signal chan struct{}
	stop   func()
	told   int // how many of the queues were told of the last signal
}

func (l *commitListener) Connect(context.Context) error {
	if l.signal != nil {
		return errors.New("store: queue listener is connected already")
	}
	l.signal, l.stop = l.db.onWake()
	l.told = len(queues)
	return nil
}

func (l *commitListener) Close(context.Context) error {
	if l.signal != nil {
		l.stop()
		l.signal = nil
	}
	return nil
}

func (l *commitListener) Listen(context.Context, string) error   { return nil }
func (l *commitListener) Unlisten(context.Context, string) error { return nil }
func (l *commitListener) Ping(context.Context) error             { return nil }
func (l *commitListener) Schema() string                         { return "" }
func (l *commitListener) SetAfterConnectExec(string)             {}

func (l *commitListener) WaitForNotification(ctx context.Context) (*riverdriver.Notification, error) {
	if l.told == len(queues) {
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-l.signal:
			l.told = 0
		}
	}
	l.told++
	return &riverdriver.Notification{Topic: "river_insert", Payload: insertPayload(queues[l.told-1])}, nil
}

// sqliteRunner is River's client on SQLite, where one process runs the jobs: whatever a process left behind when it
// died is freed at the start.
type sqliteRunner struct {
	*river.Client[*sql.Tx]
	db *sqliteDB
}

func (r *sqliteRunner) Start(ctx context.Context) error {
	t, err := r.db.begin(ctx, true)
	if err != nil {
		return err
	}
	defer t.rollback()
	if _, err := t.exec(ctx, "UPDATE river_job SET state = 'available' WHERE state = 'running'"); err != nil {
		return err
	}
	if _, err := t.exec(ctx, "DELETE FROM river_leader"); err != nil {
		return err
	}
	if err := t.commit(ctx); err != nil {
		return err
	}
	return r.Client.Start(ctx)
}
