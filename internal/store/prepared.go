package store

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
)

// preparing opens SQLite connections that keep the statements which ran on them prepared, whoever ran them: parsing and
// planning take longer than most statements run.
type preparing struct{ driver.Connector }

func (p preparing) Connect(ctx context.Context) (driver.Conn, error) {
	c, err := p.Connector.Connect(ctx)
	if err != nil {
		return nil, err
	}
	able, ok := c.(capable)
	if !ok {
		return nil, errors.Join(fmt.Errorf("store: the SQLite driver's connection, a %T, lacks a method", c), c.Close())
	}
	return &preparedConn{capable: able, kept: map[string]*keptStatement{}}, nil
}

// capable is what the driver's connections can do, all of which database/sql makes use of.
type capable interface {
	driver.Conn
	driver.ConnBeginTx
	driver.ConnPrepareContext
	driver.ExecerContext
	driver.QueryerContext
	driver.Pinger
	driver.SessionResetter
	driver.Validator
}

// maxStatements bounds what a connection keeps; lists have a text for each combination of filters.
const maxStatements = 300

// preparedConn is a connection with its statements. Like every driver's, it is used by one goroutine at a time.
type preparedConn struct {
	capable
	kept map[string]*keptStatement
}

// statement is what the driver's statements can do.
type statement interface {
	driver.Stmt
	driver.StmtExecContext
	driver.StmtQueryContext
}

type keptStatement struct {
	statement
	reading bool // its rows are not closed: it cannot run once more
}

// prepared returns the statement for a query, or nil if that runs at this moment.
func (c *preparedConn) prepared(ctx context.Context, query string) (*keptStatement, error) {
	if s := c.kept[query]; s != nil {
		if s.reading {
			return nil, nil
		}
		return s, nil
	}
	if len(c.kept) >= maxStatements {
		// Starting over is simpler than knowing what was used last, and as rare.
		for text, s := range c.kept {
			if s.reading {
				continue
			}
			delete(c.kept, text)
			if err := s.Close(); err != nil {
				return nil, err
			}
		}
	}
	plain, err := c.PrepareContext(ctx, query)
	if err != nil {
		return nil, err
	}
	able, ok := plain.(statement)
	if !ok {
		return nil, errors.Join(fmt.Errorf("store: the SQLite driver's statement, a %T, lacks a method", plain), plain.Close())
	}
	s := &keptStatement{statement: able}
	c.kept[query] = s
	return s, nil
}

// ExecContext implements driver.ExecerContext.
func (c *preparedConn) ExecContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Result, error) {
	s, err := c.prepared(ctx, query)
	switch {
	case err != nil:
		return nil, err
	case s == nil:
		return c.capable.ExecContext(ctx, query, args)
	}
	return s.ExecContext(ctx, args)
}

// QueryContext implements driver.QueryerContext.
func (c *preparedConn) QueryContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Rows, error) {
	s, err := c.prepared(ctx, query)
	switch {
	case err != nil:
		return nil, err
	case s == nil:
		return c.capable.QueryContext(ctx, query, args)
	}
	r, err := s.QueryContext(ctx, args)
	if err != nil {
		return nil, err
	}
	s.reading = true
	return &keptRows{Rows: r, of: s}, nil
}

// Close implements driver.Conn.
func (c *preparedConn) Close() error {
	var errs []error
	for _, s := range c.kept {
		errs = append(errs, s.Close())
	}
	c.kept = nil
	return errors.Join(append(errs, c.capable.Close())...)
}

// keptRows gives its statement back when it is closed.
type keptRows struct {
	driver.Rows
	of *keptStatement
}

func (r *keptRows) Close() error {
	err := r.Rows.Close()
	r.of.reading = false
	return err
}
