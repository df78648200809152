package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"testing"

	"modernc.org/sqlite"
)

// openPrepared returns the only connection of a database.
func openPrepared(t *testing.T) (*sql.Conn, *preparedConn) {
	t.Helper()
	connector, err := sqlite.NewConnector(filepath.Join(t.TempDir(), "prepared.db"))
	if err != nil {
		t.Fatal(err)
	}
	db := sql.OpenDB(preparing{connector})
	c, err := db.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	var raw *preparedConn
	if err := c.Raw(func(d any) error { raw = d.(*preparedConn); return nil }); err != nil {
		t.Fatal(err)
	}
	return c, raw
}

// numbers reads rows of one number, and calls each with those that were read.
func numbers(t *testing.T, r *sql.Rows, err error, each ...func(read []int)) []int {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	var all []int
	for r.Next() {
		var n int
		if err := r.Scan(&n); err != nil {
			t.Fatal(err)
		}
		all = append(all, n)
		for _, f := range each {
			f(all)
		}
	}
	if err := r.Err(); err != nil {
		t.Fatal(err)
	}
	return all
}

func TestStatementsAreKept(t *testing.T) {
	t.Parallel()
	c, raw := openPrepared(t)
	ctx := context.Background()
	exec := func(query string, args ...any) {
		t.Helper()
		if _, err := c.ExecContext(ctx, query, args...); err != nil {
			t.Fatal(err)
		}
	}
	// Two statements in one text run, too, as migrations have it.
	exec("CREATE TABLE t (n INTEGER UNIQUE); CREATE TABLE u (n INTEGER)")
	const insert, query = "INSERT INTO t (n) VALUES ($1)", "SELECT n FROM t WHERE n > $1 ORDER BY n"
	for n := range 4 {
		exec(insert, n)
	}
	if len(raw.kept) != 2 || raw.kept[insert] == nil {
		t.Errorf("kept: %v", raw.kept)
	}
	if _, err := c.ExecContext(ctx, insert, 1); err == nil {
		t.Error("a number was inserted twice")
	}
	exec(insert, 9) // the statement that failed runs again
	if _, err := c.ExecContext(ctx, "INSERT INTO nowhere VALUES (1)"); err == nil || len(raw.kept) != 2 {
		t.Errorf("a statement that cannot be prepared: %v, kept %v", err, raw.kept)
	}

	// A query that runs while its own rows are read sees all of them, and so do the readers outside.
	outside, err := c.QueryContext(ctx, query, 0)
	seen := numbers(t, outside, err, func(seen []int) {
		inside, err := c.QueryContext(ctx, query, seen[len(seen)-1])
		if got, want := numbers(t, inside, err), []int{1, 2, 3, 9}[len(seen):]; !slices.Equal(got, want) {
			t.Errorf("after %v come %v, not %v", seen, got, want)
		}
	})
	if !slices.Equal(seen, []int{1, 2, 3, 9}) {
		t.Errorf("read %v", seen)
	}

	// What is kept is bounded, and what is being read outlives starting over.
	outside, err = c.QueryContext(ctx, query, 1)
	seen = numbers(t, outside, err, func(seen []int) {
		for i := range maxStatements {
			r, err := c.QueryContext(ctx, fmt.Sprintf("SELECT n + %d FROM t WHERE n = %d", i, seen[0]))
			if got := numbers(t, r, err); !slices.Equal(got, []int{i + 2}) || len(raw.kept) > maxStatements {
				t.Fatalf("%d: %v, %d kept", i, got, len(raw.kept))
			}
		}
	})
	if !slices.Equal(seen, []int{2, 3, 9}) {
		t.Errorf("read %v", seen)
	}

	// A changed schema prepares anew.
	r, err := c.QueryContext(ctx, "SELECT * FROM u")
	if got := numbers(t, r, err); got != nil {
		t.Error(got)
	}
	exec("DROP TABLE u")
	exec("CREATE TABLE u AS SELECT 7 AS other")
	r, err = c.QueryContext(ctx, "SELECT * FROM u")
	if got := numbers(t, r, err); !slices.Equal(got, []int{7}) {
		t.Errorf("the new table has %v", got)
	}

	// A query whose context ended leaves its statement usable.
	canceled, cancel := context.WithCancel(ctx)
	cancel()
	var n int
	if err := c.QueryRowContext(canceled, query, 0).Scan(&n); !errors.Is(err, context.Canceled) {
		t.Errorf("a canceled query: %v", err)
	}
	r, err = c.QueryContext(ctx, query, 3)
	if got := numbers(t, r, err); !slices.Equal(got, []int{9}) {
		t.Errorf("after a canceled query: %v", got)
	}
}
