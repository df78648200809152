package scaletest

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/countersign-dev/countersign/internal/audit"
)

// loader stores many rows fast: without indexes, which are made at the end, and without the care for power failures.
type loader struct {
	db       *sql.DB
	conn     *sql.Conn
	postgres bool
	restore  []string // statements
}

func newLoader(ctx context.Context, url string) (*loader, error) {
	l := &loader{postgres: strings.HasPrefix(url, "postgres")}
	driver := "pgx"
	if !l.postgres {
		driver, url = "sqlite", "file://"+url+"?_pragma=busy_timeout(10000)"
	}
	var err error
	if l.db, err = sql.Open(driver, url); err != nil {
		return nil, err
	}
	if l.conn, err = l.db.Conn(ctx); err != nil {
		return nil, errors.Join(err, l.db.Close())
	}
	return l, nil
}

func (l *loader) close() error { return errors.Join(l.conn.Close(), l.db.Close()) }

func (l *loader) run(ctx context.Context, statements ...string) error {
	for _, s := range statements {
		if _, err := l.conn.ExecContext(ctx, s); err != nil {
			return fmt.Errorf("%s: %w", s, err)
		}
	}
	return nil
}

// prepare takes away what slows insertion down.
func (l *loader) prepare(ctx context.Context) error {
	query := "SELECT type, name, sql FROM sqlite_master WHERE type IN ('index', 'trigger') AND sql IS NOT NULL AND tbl_name = $1"
	settings := []string{"PRAGMA synchronous = OFF", "PRAGMA foreign_keys = OFF", "PRAGMA cache_size = -500000"}
	if l.postgres {
		query = "SELECT 'index', indexname, indexdef FROM pg_indexes WHERE schemaname = current_schema() AND tablename = $1 AND indexname NOT LIKE '%_pkey'"
		settings = []string{"SET session_replication_role = replica", "SET maintenance_work_mem = '512MB'"}
	}
	if err := l.run(ctx, settings...); err != nil {
		return err
	}
	for _, t := range tables {
		_, found, err := l.read(ctx, query, t.name)
		if err != nil {
			return err
		}
		for _, f := range found {
			if err := l.run(ctx, fmt.Sprintf("DROP %s %s", f[0], f[1])); err != nil {
				return err
			}
			l.restore = append(l.restore, fmt.Sprint(f[2]))
		}
	}
	return nil
}

// insert stores a batch.
func (l *loader) insert(ctx context.Context, b batch) error {
	if l.postgres {
		return l.conn.Raw(func(c any) error {
			for i, rows := range b {
				if len(rows) == 0 {
					continue
				}
				_, err := c.(*stdlib.Conn).Conn().CopyFrom(ctx, pgx.Identifier{tables[i].name}, rows[0].columns,
					pgx.CopyFromSlice(len(rows), func(i int) ([]any, error) { return rows[i].values, nil }))
				if err != nil {
					return fmt.Errorf("%s: %w", tables[i].name, err)
				}
			}
			return nil
		})
	}
	tx, err := l.conn.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	for i, rows := range b {
		if err := insertRows(ctx, tx, tables[i].name, rows); err != nil {
			return errors.Join(fmt.Errorf("%s: %w", tables[i].name, err), tx.Rollback())
		}
	}
	return tx.Commit()
}

func insertRows(ctx context.Context, tx *sql.Tx, table string, rows []insertion) error {
	if len(rows) == 0 {
		return nil
	}
	columns := rows[0].columns
	s, err := tx.PrepareContext(ctx, "INSERT INTO "+table+" ("+strings.Join(columns, ", ")+") VALUES (?"+strings.Repeat(", ?", len(columns)-1)+")")
	if err != nil {
		return err
	}
	defer func() { _ = s.Close() }() // reports what ExecContext has
	for _, r := range rows {
		if _, err := s.ExecContext(ctx, r.values...); err != nil {
			return err
		}
	}
	return nil
}

// finish writes the audit log's end and makes indexes and triggers again. PostgreSQL also counts its rows, as it does by
// itself sooner or later.
func (l *loader) finish(ctx context.Context, organization string, h audit.Head) error {
	if _, err := l.conn.ExecContext(ctx, "UPDATE audit_heads SET sequence = $1, chain = $2 WHERE organization_id = $3", h.Sequence, h.Chain[:], organization); err != nil {
		return err
	}
	if err := l.run(ctx, l.restore...); err != nil {
		return err
	}
	if l.postgres {
		return l.run(ctx, "VACUUM ANALYZE")
	}
	return l.run(ctx, "PRAGMA wal_checkpoint(TRUNCATE)")
}
