// Package store keeps the domain's objects in a SQL database, wakes workers through a job queue, and keeps artifact
// bytes in files. It implements the interfaces that package signing declares.
//
// One hand-written SQL text serves SQLite and PostgreSQL. What a database needs for itself (connecting, isolation,
// errors, the queue's driver) is a backend: sqlite.go and postgres.go. Times are microseconds since 1970 in UTC, so a
// time that was stored comes back in UTC and cut to the microsecond.
//
// # Transactions
//
// SQLite runs read-write transactions one after another. PostgreSQL runs them at READ COMMITTED: what a decision rests
// on is locked (LockRequest, LockDelivery, Credential, LockOrganization), or written with its Version, or appended to
// the audit log, which serialises an organization's transactions from there to the commit. Views see one snapshot on
// both.
package store

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/countersign-dev/countersign/internal/signing"
)

// Config says which database to open.
type Config struct {
	// URL is postgres://... (or postgresql://...) for PostgreSQL; sqlite://PATH or a plain path for SQLite.
	URL    string
	Logger *slog.Logger // nil: discards
	// MaxConnections bounds PostgreSQL's connections, and SQLite's connections for reading; 0 picks a default.
	MaxConnections int
}

// DB is an open database. It implements signing.Store and is safe for concurrent use.
type DB struct {
	backend backend
	logger  *slog.Logger

	queries atomic.Int64

	wakeMu sync.Mutex
	wake   map[chan struct{}]struct{} // queues of this process that want to know of committed jobs
}

// backend is what differs between the databases.
type backend interface {
	// begin starts a transaction, read-only unless write is set.
	begin(ctx context.Context, write bool) (transaction, error)
	// conflict reports whether an error of a statement or a commit means that nothing happened and that the same
	// transaction may succeed when it runs again.
	conflict(err error) bool
	// describe maps an error of a statement to an *signing.Error where it has a meaning for callers, else returns nil.
	describe(err error) error
	// lockRow is the clause that makes a SELECT hold its rows.
	lockRow() string
	// lockTable is the statement that keeps others from writing a table; empty where nobody else writes anyway.
	lockTable(table string) string
	migrate(ctx context.Context, logger *slog.Logger) error
	ping(ctx context.Context) error
	// newRunner sets up the part of a queue that runs jobs.
	newRunner(q *Queue) (runner, error)
	close() error
}

// transaction is a running transaction of a backend.
type transaction interface {
	conn
	commit(ctx context.Context) error
	rollback()
	// enqueue inserts a job, to be run not before the time (zero: at once).
	enqueue(ctx context.Context, job jobArgs, notBefore time.Time) error
}

// Open connects to the database, creating an SQLite file that does not exist yet. It does not migrate.
func Open(ctx context.Context, c Config) (*DB, error) {
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	db := &DB{logger: c.Logger, wake: map[chan struct{}]struct{}{}}
	var err error
	switch scheme, rest, found := strings.Cut(c.URL, "://"); {
	case c.URL == "":
		return nil, errors.New("store: no database given: name a file for SQLite or a postgres:// URL")
	case !found:
		db.backend, err = openSQLite(ctx, c.URL, c)
	case scheme == "sqlite":
		db.backend, err = openSQLite(ctx, rest, c)
	case scheme == "postgres" || scheme == "postgresql":
		db.backend, err = openPostgres(ctx, c)
	default:
		return nil, fmt.Errorf("store: database URL has scheme %q: use postgres://, sqlite:// or a file name", scheme)
	}
	if err != nil {
		return nil, err
	}
	return db, nil
}

// Migrate brings the schema, that of the queue included, to this version. A database that a newer version migrated is
// refused. It may run in several processes at the same time.
func (db *DB) Migrate(ctx context.Context) error { return db.backend.migrate(ctx, db.logger) }

// Ping reports whether the database answers.
func (db *DB) Ping(ctx context.Context) error { return db.backend.ping(ctx) }

// Queries returns how many queries this DB has run since it was opened, those of the job queue not counted. Two readings tell
// what lay between them: a list costs as many queries for a thousand rows as for one.
func (db *DB) Queries() int64 { return db.queries.Load() }

// Close waits for running transactions, writes SQLite's log back into the database file and disconnects.
func (db *DB) Close() error { return db.backend.close() }

// Bounds of the repetition of transactions that met a conflict: with the pauses below, about seven seconds.
const (
	maxAttempts  = 40
	firstPause   = 2 * time.Millisecond
	longestPause = 200 * time.Millisecond
)

// Tx implements signing.Store. A transaction in which a statement failed cannot commit, even when fn ignores the
// statement's error; a lookup that finds nothing and a write that meets a taken name are no failures in this sense.
func (db *DB) Tx(ctx context.Context, fn func(signing.Tx) error) error {
	pause := firstPause
	for attempt := 1; ; attempt++ {
		again, err := db.attempt(ctx, fn)
		if !again {
			return err
		}
		if attempt == maxAttempts {
			return errors.Join(signing.Errorf(signing.KindUnavailable, "The database is too busy; try again later."), err)
		}
		db.logger.DebugContext(ctx, "transaction conflict, running it again", "attempt", attempt, "error", err)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pause/2 + rand.N(pause)): //nolint:gosec // G404: spreads repetitions, nothing to guess
		}
		pause = min(2*pause, longestPause)
	}
}

// attempt runs fn in one read-write transaction. It reports whether the transaction is to run again.
func (db *DB) attempt(ctx context.Context, fn func(signing.Tx) error) (again bool, err error) {
	t, err := db.backend.begin(ctx, true)
	if err != nil {
		return db.backend.conflict(err), unavailable(ctx, err)
	}
	committed := false
	defer func() {
		if !committed {
			t.rollback()
		}
	}()
	x := newTx(db, t, true)
	err = fn(x)
	if failed := x.q.failed; failed != nil {
		if db.backend.conflict(failed) {
			return true, failed
		}
		if err == nil {
			err = fmt.Errorf("store: a statement failed, the transaction cannot commit: %w", failed)
		}
	}
	if err != nil {
		return false, err
	}
	if err := t.commit(ctx); err != nil {
		if db.backend.conflict(err) {
			return true, err
		}
		return false, errors.Join(db.backend.describe(err), fmt.Errorf("store: commit: %w", err))
	}
	committed = true
	if x.enqueued {
		db.wakeQueues()
	}
	return false, nil
}

// View implements signing.Store. On SQLite readers never wait for writers.
func (db *DB) View(ctx context.Context, fn func(signing.Tx) error) error {
	t, err := db.backend.begin(ctx, false)
	if err != nil {
		return unavailable(ctx, err)
	}
	defer t.rollback()
	return fn(newTx(db, t, false))
}

// unavailable tells callers that the database cannot be reached, unless it is their own context that ended.
func unavailable(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return errors.Join(signing.Errorf(signing.KindUnavailable, "The database cannot be reached; try again later."),
		fmt.Errorf("store: begin: %w", err))
}

// onWake registers a channel that gets a signal after each commit with new jobs.
func (db *DB) onWake() (signal chan struct{}, stop func()) {
	c := make(chan struct{}, 1)
	db.wakeMu.Lock()
	defer db.wakeMu.Unlock()
	db.wake[c] = struct{}{}
	return c, func() {
		db.wakeMu.Lock()
		defer db.wakeMu.Unlock()
		delete(db.wake, c)
	}
}

func (db *DB) wakeQueues() {
	db.wakeMu.Lock()
	defer db.wakeMu.Unlock()
	for c := range db.wake {
		select {
		case c <- struct{}{}:
		default: // a signal is waiting already
		}
	}
}
