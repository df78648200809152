package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/pressly/goose/v3"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riversqlite"
	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/countersign-dev/countersign/internal/signing"
)

// sqliteDB is an SQLite database in write-ahead mode: one connection writes, several others read snapshots meanwhile.
type sqliteDB struct {
	write, read *sql.DB
	jobs        *river.Client[*sql.Tx] // inserts only
}

func openSQLite(ctx context.Context, path string, c Config) (*sqliteDB, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("store: %w", err)
	}
	// SQLite gives its log the mode of the database file, so the file is made here, readable by nobody else.
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("store: open database: %w", err)
	}
	if err := f.Close(); err != nil {
		return nil, fmt.Errorf("store: open database: %w", err)
	}

	// synchronous=FULL: a committed transaction survives a power failure.
	common := url.Values{"_pragma": {"busy_timeout(10000)", "journal_mode(WAL)", "synchronous(FULL)", "foreign_keys(1)"}}
	open := func(extra url.Values) (*sql.DB, error) {
		for name, values := range common {
			extra[name] = append(append([]string{}, values...), extra[name]...)
		}
		slash := filepath.ToSlash(path)
		if !strings.HasPrefix(slash, "/") {
			slash = "/" + slash // a Windows drive
		}
		connector, err := sqlite.NewConnector("file://" + (&url.URL{Path: slash}).EscapedPath() + "?" + extra.Encode())
		if err != nil {
			return nil, err
		}
		return sql.OpenDB(preparing{connector}), nil
	}
	db := &sqliteDB{}
	// _txlock=immediate: a transaction that reads before it writes must not find, when it writes, that its snapshot
	// is old. journal_size_limit: after a large transaction the log shrinks again.
	db.write, err = open(url.Values{"_txlock": {"immediate"}, "_pragma": {"journal_size_limit(67108864)", "cache_size(-16000)"}})
	if err != nil {
		return nil, fmt.Errorf("store: open database %s: %w", path, err)
	}
	db.write.SetMaxOpenConns(1)
	db.write.SetMaxIdleConns(1)
	if err := db.write.PingContext(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("store: open database %s: %w", path, err), db.write.Close())
	}
	db.read, err = open(url.Values{"_pragma": {"query_only(1)", "cache_size(-8000)"}})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("store: open database %s: %w", path, err), db.write.Close())
	}
	readers := c.MaxConnections
	if readers == 0 {
		readers = max(4, 2*runtime.GOMAXPROCS(0))
	}
	db.read.SetMaxOpenConns(readers)
	db.read.SetMaxIdleConns(readers)
	db.jobs, err = river.NewClient(sqliteDriver{Driver: riversqlite.New(db.write)}, insertOnly(c.Logger))
	if err != nil {
		return nil, errors.Join(fmt.Errorf("store: queue: %w", err), db.close()) //nolint:contextcheck // what was opened is closed, whatever ended the context
	}
	return db, nil
}

func (db *sqliteDB) begin(ctx context.Context, write bool) (transaction, error) {
	pool := db.read
	if write {
		pool = db.write
	}
	t, err := pool.BeginTx(ctx, &sql.TxOptions{ReadOnly: !write})
	if err != nil {
		return nil, err
	}
	return &sqliteTx{tx: t, jobs: db.jobs}, nil
}

// conflict: another process holds the file's lock for longer than busy_timeout.
func (db *sqliteDB) conflict(err error) bool {
	e, ok := errors.AsType[*sqlite.Error](err)
	return ok && (e.Code()&0xff == sqlite3.SQLITE_BUSY || e.Code()&0xff == sqlite3.SQLITE_LOCKED)
}

func (db *sqliteDB) describe(err error) error {
	e, ok := errors.AsType[*sqlite.Error](err)
	if !ok {
		return nil
	}
	switch {
	case e.Code() == sqlite3.SQLITE_CONSTRAINT_FOREIGNKEY:
		return errReference
	case e.Code() == sqlite3.SQLITE_CONSTRAINT_UNIQUE || e.Code() == sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY:
		return errTaken
	case e.Code()&0xff == sqlite3.SQLITE_FULL:
		return errFull
	}
	return nil
}

func (db *sqliteDB) lockRow() string { return "" } // the transaction holds the whole database

func (db *sqliteDB) lockTable(string) string { return "" } // as lockRow

func (db *sqliteDB) ping(ctx context.Context) error { return db.read.PingContext(ctx) }

func (db *sqliteDB) close() error {
	closed := db.read.Close()
	// The last connection to close writes the log back; checkpointing before it reports what goes wrong.
	_, err := db.write.ExecContext(context.Background(), "PRAGMA wal_checkpoint(TRUNCATE)")
	return errors.Join(closed, err, db.write.Close())
}

func (db *sqliteDB) migrate(ctx context.Context, logger *slog.Logger) error {
	if err := migrateSchema(ctx, goose.DialectSQLite3, "sqlite", db.write, logger); err != nil {
		return err
	}
	return migrateQueue(ctx, riversqlite.New(db.write), logger)
}

// sqliteTx is a transaction on SQLite.
type sqliteTx struct {
	tx   *sql.Tx
	jobs *river.Client[*sql.Tx]
}

func (t *sqliteTx) exec(ctx context.Context, query string, args ...any) (int64, error) {
	res, err := t.tx.ExecContext(ctx, query, args...)
	if err != nil {
		return 0, err
	}
	return res.RowsAffected()
}

func (t *sqliteTx) query(ctx context.Context, query string, args ...any) (rows, error) {
	r, err := t.tx.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	return sqlRows{r}, nil
}

func (t *sqliteTx) commit(context.Context) error { return t.tx.Commit() }

func (t *sqliteTx) rollback() { _ = t.tx.Rollback() } // fails only when the transaction is over

func (t *sqliteTx) enqueue(ctx context.Context, job jobArgs, notBefore time.Time) error {
	_, err := t.jobs.InsertManyFastTx(ctx, t.tx, jobToInsert(job, notBefore))
	return err
}

// sqlRows is sql.Rows with the Close that pgx.Rows has.
type sqlRows struct{ *sql.Rows }

func (r sqlRows) Close() { _ = r.Rows.Close() } // Err has reported what Close could

// What statements' errors mean to callers, on both databases.
var (
	errReference = signing.Errorf(signing.KindInvalid, "It refers to an object that does not exist.")
	errTaken     = signing.Errorf(signing.KindConflict, "The slug, name or address is taken.")
	errFull      = signing.Errorf(signing.KindUnavailable, "The database's disk is full. Free space and try again.")
)
