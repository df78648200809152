package store

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
)

// postgresDB is a PostgreSQL database.
type postgresDB struct {
	pool *pgxpool.Pool
	jobs *river.Client[pgx.Tx] // inserts only
}

func openPostgres(ctx context.Context, c Config) (*postgresDB, error) {
	config, err := pgxpool.ParseConfig(c.URL)
	if err != nil {
		return nil, fmt.Errorf("store: database URL: %w", err)
	}
	if c.MaxConnections > 0 {
		config.MaxConns = int32(min(c.MaxConnections, 10000))
	} else if n := int32(max(16, 4*runtime.GOMAXPROCS(0))); config.MaxConns < n {
		config.MaxConns = n
	}
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return nil, fmt.Errorf("store: open database: %w", err)
	}
	if err := pool.Ping(ctx); err != nil {
		pool.Close()
		return nil, fmt.Errorf("store: open database: %w", err)
	}
	jobs, err := river.NewClient(riverpgxv5.New(pool), insertOnly(c.Logger))
	if err != nil {
		pool.Close()
		return nil, fmt.Errorf("store: queue: %w", err)
	}
	return &postgresDB{pool: pool, jobs: jobs}, nil
}

func (db *postgresDB) begin(ctx context.Context, write bool) (transaction, error) {
	o := pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}
	if write {
		o = pgx.TxOptions{IsoLevel: pgx.ReadCommitted, AccessMode: pgx.ReadWrite}
	}
	t, err := db.pool.BeginTx(ctx, o)
	if err != nil {
		return nil, err
	}
	return &postgresTx{tx: t, jobs: db.jobs}, nil
}

// PostgreSQL's error codes that this package tells apart (PostgreSQL documentation, appendix A).
const (
	pgSerializationFailure = "40001"
	pgDeadlockDetected     = "40P01"
	pgUniqueViolation      = "23505"
	pgForeignKeyViolation  = "23503"
	pgDiskFull             = "53100"
)

func (db *postgresDB) conflict(err error) bool {
	e, ok := errors.AsType[*pgconn.PgError](err)
	return ok && (e.Code == pgSerializationFailure || e.Code == pgDeadlockDetected)
}

func (db *postgresDB) describe(err error) error {
	e, ok := errors.AsType[*pgconn.PgError](err)
	if !ok {
		return nil
	}
	switch e.Code {
	case pgUniqueViolation:
		return errTaken
	case pgForeignKeyViolation:
		return errReference
	case pgDiskFull:
		return errFull
	}
	return nil
}

// lockRow is the lock that an UPDATE takes. Unlike FOR UPDATE it lets others insert rows that refer to the locked one.
func (db *postgresDB) lockRow() string { return " FOR NO KEY UPDATE" }

func (db *postgresDB) lockTable(table string) string {
	return "LOCK TABLE " + table + " IN SHARE ROW EXCLUSIVE MODE"
}

func (db *postgresDB) ping(ctx context.Context) error { return db.pool.Ping(ctx) }

func (db *postgresDB) close() error {
	db.pool.Close()
	return nil
}

func (db *postgresDB) migrate(ctx context.Context, logger *slog.Logger) (err error) {
	std := stdlib.OpenDBFromPool(db.pool)
	defer func() { err = errors.Join(err, std.Close()) }()
	// Held for the queue's migrations too, so that processes that start together do not migrate together.
	locker, err := lock.NewPostgresSessionLocker()
	if err != nil {
		return fmt.Errorf("store: migrate: %w", err)
	}
	c, err := std.Conn(ctx)
	if err != nil {
		return fmt.Errorf("store: migrate: %w", err)
	}
	defer func() { err = errors.Join(err, c.Close()) }() // which frees the lock too, should unlocking fail
	if err := locker.SessionLock(ctx, c); err != nil {
		return fmt.Errorf("store: migrate: another process is migrating: %w", err)
	}
	defer func() { err = errors.Join(err, locker.SessionUnlock(context.WithoutCancel(ctx), c)) }()
	if err := migrateSchema(ctx, goose.DialectPostgres, "postgres", std, logger); err != nil {
		return err
	}
	return migrateQueue(ctx, riverpgxv5.New(db.pool), logger)
}

// postgresTx is a transaction on PostgreSQL.
type postgresTx struct {
	tx   pgx.Tx
	jobs *river.Client[pgx.Tx]
}

func (t *postgresTx) exec(ctx context.Context, query string, args ...any) (int64, error) {
	tag, err := t.tx.Exec(ctx, query, args...)
	return tag.RowsAffected(), err
}

func (t *postgresTx) query(ctx context.Context, query string, args ...any) (rows, error) {
	return t.tx.Query(ctx, query, args...)
}

// endTimeout bounds commit and rollback, which go on when the caller's context ends: a commit broken off in the middle
// would leave its outcome unknown.
const endTimeout = 30 * time.Second

func (t *postgresTx) commit(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), endTimeout)
	defer cancel()
	return t.tx.Commit(ctx)
}

func (t *postgresTx) rollback() {
	ctx, cancel := context.WithTimeout(context.Background(), endTimeout)
	defer cancel()
	_ = t.tx.Rollback(ctx) // a connection that cannot roll back is closed by the pool
}

func (t *postgresTx) enqueue(ctx context.Context, job jobArgs, notBefore time.Time) error {
	if _, err := t.jobs.InsertManyFastTx(ctx, t.tx, jobToInsert(job, notBefore)); err != nil {
		return err
	}
	// River's client notifies at most once in a period, although the transaction that it then leaves out may commit
	// after the workers have looked. PostgreSQL merges equal notifications of a transaction.
	_, err := t.tx.Exec(ctx, `SELECT pg_notify(concat(current_schema(), '.river_insert'), $1)`, insertPayload(job.queue()))
	return err
}
