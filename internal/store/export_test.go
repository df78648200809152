package store

import (
	"context"
	"strings"

	"github.com/countersign-dev/countersign/internal/signing"
)

// Raw runs SQL in a transaction of its own and returns the first column of its rows as text.
func Raw(ctx context.Context, db *DB, query string, args ...any) ([]string, error) {
	var all []string
	err := db.Tx(ctx, func(t signing.Tx) error {
		q := t.(*tx).q
		if !strings.HasPrefix(query, "SELECT") && !strings.HasPrefix(query, "EXPLAIN") {
			_, err := q.exec(ctx, query, args...)
			return err
		}
		var err error
		all, err = list(ctx, q, func(s scanner) (string, error) {
			var v string
			return v, s.Scan(&v)
		}, query, args...)
		return err
	})
	return all, err
}

// Plan returns how SQLite runs a list of requests.
func Plan(ctx context.Context, db *DB, org signing.ID, f signing.RequestFilter) (plan string, err error) {
	err = db.View(ctx, func(t signing.Tx) error {
		x := t.(*tx)
		b, _, err := x.requestList(ctx, org, f)
		if err != nil {
			return err
		}
		plan, err = x.explain(ctx, requestRowsQuery(b), b.args...)
		return err
	})
	return plan, err
}

// Explain returns how SQLite runs the statements of fn.
func Explain(ctx context.Context, db *DB, fn func(tx signing.Tx) error) (plan string, err error) {
	err = db.View(ctx, func(t signing.Tx) error {
		x := t.(*tx)
		r := &recorder{conn: x.q.conn}
		x.q.conn = r
		if err := fn(x); err != nil && signing.KindOf(err) != signing.KindNotFound {
			return err
		}
		x.q.conn = r.conn
		for i, q := range r.queries {
			p, err := x.explain(ctx, q, r.args[i]...)
			if err != nil {
				return err
			}
			plan += p
		}
		return nil
	})
	return plan, err
}

func (x *tx) explain(ctx context.Context, query string, args ...any) (string, error) {
	lines, err := list(ctx, x.q, func(s scanner) (string, error) {
		var id, parent, unused int
		var detail string
		return detail, s.Scan(&id, &parent, &unused, &detail)
	}, "EXPLAIN QUERY PLAN "+query, args...)
	return strings.Join(lines, "\n") + "\n", err
}

// recorder keeps the queries that pass through it.
type recorder struct {
	conn
	queries []string
	args    [][]any
}

func (r *recorder) query(ctx context.Context, query string, args ...any) (rows, error) {
	r.queries, r.args = append(r.queries, query), append(r.args, args)
	return r.conn.query(ctx, query, args...)
}

// Fold is the key of text that is compared without regard to case.
func Fold(s string) string { return fold(s) }
