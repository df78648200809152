package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/countersign-dev/countersign/internal/signing"
)

// conn runs SQL with $1 placeholders in a transaction.
type conn interface {
	exec(ctx context.Context, query string, args ...any) (affected int64, err error)
	query(ctx context.Context, query string, args ...any) (rows, error)
}

// rows is a result that is read from its first to its last row. pgx.Rows is one.
type rows interface {
	Next() bool
	Scan(dest ...any) error
	Err() error
	Close()
}

// scanner is the row that a scan function reads.
type scanner interface{ Scan(dest ...any) error }

// tx implements signing.Tx. Its methods are in the files named after what they read and write.
type tx struct {
	db       *DB
	t        transaction
	q        *guard
	write    bool
	enqueued bool
}

func newTx(db *DB, t transaction, write bool) *tx {
	return &tx{db: db, t: t, write: write, q: &guard{conn: t, backend: db.backend, queries: &db.queries}}
}

// guard makes both databases treat bad text and failed statements alike. PostgreSQL refuses text that is not UTF-8 or
// holds NUL, and lets nothing but a rollback follow a failed statement; SQLite would accept both.
type guard struct {
	conn    conn
	backend backend
	queries *atomic.Int64
	failed  error // the first failure
}

func (g *guard) check(args []any) error {
	if g.failed != nil {
		return fmt.Errorf("store: an earlier statement of the transaction failed: %w", g.failed)
	}
	for _, a := range args {
		if s, ok := a.(string); ok && (!utf8.ValidString(s) || strings.IndexByte(s, 0) >= 0) {
			return signing.Errorf(signing.KindInvalid, "Text must be valid UTF-8 without NUL characters: %.80q.", s)
		}
	}
	return nil
}

func (g *guard) fail(err error) error {
	if g.failed == nil {
		g.failed = err
	}
	if d := g.backend.describe(err); d != nil {
		return errors.Join(d, err)
	}
	return fmt.Errorf("store: %w", err)
}

func (g *guard) exec(ctx context.Context, query string, args ...any) (int64, error) {
	if err := g.check(args); err != nil {
		return 0, err
	}
	n, err := g.conn.exec(ctx, query, args...)
	if err != nil {
		return 0, g.fail(err)
	}
	return n, nil
}

// insert runs an INSERT that ends in ON CONFLICT DO NOTHING; taken says what the conflict is.
func (g *guard) insert(ctx context.Context, taken string, query string, args ...any) error {
	n, err := g.exec(ctx, query+" ON CONFLICT DO NOTHING", args...)
	if err == nil && n == 0 {
		return signing.Errorf(signing.KindConflict, "%s", taken)
	}
	return err
}

// update runs an UPDATE of one row where its version is still the given one, and raises the version.
func (g *guard) update(ctx context.Context, what string, version *int, query string, args ...any) error {
	n, err := g.exec(ctx, query, args...)
	if err != nil {
		return err
	}
	if n == 0 {
		return signing.Errorf(signing.KindConflict, "The %s was changed in the meantime. Load it again and repeat the change.", what)
	}
	*version++
	return nil
}

// each calls fn for every row of a query.
func (g *guard) each(ctx context.Context, fn func(scanner) error, query string, args ...any) error {
	if err := g.check(args); err != nil {
		return err
	}
	g.queries.Add(1)
	r, err := g.conn.query(ctx, query, args...)
	if err != nil {
		return g.fail(err)
	}
	defer r.Close()
	for r.Next() {
		if err := fn(r); err != nil {
			return g.fail(err)
		}
	}
	if err := r.Err(); err != nil {
		return g.fail(err)
	}
	return nil
}

// list returns every row of a query.
func list[T any](ctx context.Context, g *guard, scan func(scanner) (T, error), query string, args ...any) ([]T, error) {
	var all []T
	err := g.each(ctx, func(s scanner) error {
		v, err := scan(s)
		if err != nil {
			return err
		}
		all = append(all, v)
		return nil
	}, query, args...)
	if err != nil {
		return nil, err
	}
	return all, nil
}

// one returns the only row of a query, or KindNotFound naming what was looked for.
func one[T any](ctx context.Context, g *guard, what string, scan func(scanner) (T, error), query string, args ...any) (T, error) {
	all, err := list(ctx, g, scan, query, args...)
	if err != nil || len(all) == 0 {
		var none T
		if err == nil {
			err = signing.Errorf(signing.KindNotFound, "No such %s.", what)
		}
		return none, err
	}
	return all[0], nil
}

// Values on their way into the database.

func micros(t time.Time) int64 { return t.UnixMicro() }

// optional returns nil, which is NULL, for a time that is not set.
func optional(t *time.Time) any {
	if t == nil {
		return nil
	}
	return t.UnixMicro()
}

// text converts string types, for which the drivers have slower ways.
func text[S ~string](s S) string { return string(s) }

// encode returns JSON text. The values are structs, slices and maps of plain data, which always encode.
func encode(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("store: encode %T: %v", v, err))
	}
	return string(b)
}

// encodeOptional returns nil, which is NULL, for a nil pointer.
func encodeOptional[T any](v *T) any {
	if v == nil {
		return nil
	}
	return encode(v)
}

// Values on their way out: scan destinations.

type timeColumn struct{ dest *time.Time }

func (c timeColumn) Scan(src any) error {
	n, ok := src.(int64)
	if !ok {
		return fmt.Errorf("time column holds %T", src)
	}
	*c.dest = time.UnixMicro(n).UTC()
	return nil
}

type optionalTimeColumn struct{ dest **time.Time }

func (c optionalTimeColumn) Scan(src any) error {
	if src == nil {
		*c.dest = nil
		return nil
	}
	*c.dest = new(time.Time)
	return timeColumn{*c.dest}.Scan(src)
}

// jsonColumn decodes JSON text into what dest points to; NULL leaves it as it is.
type jsonColumn struct{ dest any }

func (c jsonColumn) Scan(src any) error {
	switch src := src.(type) {
	case nil:
		return nil
	case string:
		return json.Unmarshal([]byte(src), c.dest)
	case []byte:
		return json.Unmarshal(src, c.dest)
	}
	return fmt.Errorf("JSON column holds %T", src)
}

// hashColumn reads exactly 32 bytes.
type hashColumn struct{ dest *[32]byte }

func (c hashColumn) Scan(src any) error {
	b, ok := src.([]byte)
	if !ok || len(b) != len(c.dest) {
		return fmt.Errorf("hash column holds %T of %d bytes", src, len(b))
	}
	copy(c.dest[:], b)
	return nil
}

var _ = []sql.Scanner{timeColumn{}, optionalTimeColumn{}, jsonColumn{}, hashColumn{}}

// fold returns the key under which text is compared without regard to case: two valid texts have the same key exactly
// when strings.EqualFold holds for them (Unicode simple case folding). Both databases compare keys byte by byte.
func fold[S ~string](s S) string {
	return strings.Map(func(r rune) rune {
		if r < utf8.RuneSelf {
			if 'a' <= r && r <= 'z' {
				r -= 'a' - 'A'
			}
			return r // the smallest of each orbit with an ASCII letter is the upper-case ASCII letter
		}
		smallest := r
		for f := unicode.SimpleFold(r); f != r; f = unicode.SimpleFold(f) {
			smallest = min(smallest, f)
		}
		return smallest
	}, string(s))
}
