package store

import (
	"context"
	"database/sql"
	"embed"
	"fmt"
	"io/fs"
	"log/slog"
	"slices"
	"strings"

	"github.com/pressly/goose/v3"
	"github.com/riverqueue/river/riverdriver"
	"github.com/riverqueue/river/rivermigrate"
)

// migrations holds the schema's steps: those for both databases at the top, those that must differ in a folder for each
// database, under one numbering. A step only adds, so that the release before it still works after it.
//
//go:embed migrations
var migrations embed.FS

// migrationFiles returns the steps of one database.
func migrationFiles(database string) (fs.FS, error) {
	top, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return nil, err
	}
	own, err := fs.Sub(top, database)
	if err != nil {
		return nil, err
	}
	return overlay{top, own}, nil
}

// overlay shows the files of several directories as one.
type overlay []fs.FS

func (o overlay) Open(name string) (fs.File, error) {
	for _, layer := range o[:len(o)-1] {
		if f, err := layer.Open(name); err == nil {
			return f, nil
		}
	}
	return o[len(o)-1].Open(name)
}

func (o overlay) ReadDir(name string) ([]fs.DirEntry, error) {
	var all []fs.DirEntry
	for _, layer := range o {
		entries, err := fs.ReadDir(layer, name)
		if err != nil {
			return nil, err
		}
		all = append(all, slices.DeleteFunc(entries, fs.DirEntry.IsDir)...)
	}
	slices.SortFunc(all, func(a, b fs.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })
	return all, nil
}

// errNewer refuses a database that a newer version has migrated.
func errNewer(what string, found, known int64) error {
	return fmt.Errorf("store: the database was migrated by a newer version of Countersign (%s version %d, this program knows %d): "+
		"run that version or a newer one", what, found, known)
}

// migrateSchema runs the schema's steps that the database lacks, and says so when there were any.
func migrateSchema(ctx context.Context, dialect goose.Dialect, database string, db *sql.DB, logger *slog.Logger) error {
	files, err := migrationFiles(database)
	if err != nil {
		return fmt.Errorf("store: migrate: %w", err)
	}
	p, err := goose.NewProvider(dialect, db, files, goose.WithDisableGlobalRegistry(true), goose.WithSlog(quiet(logger)))
	if err != nil {
		return fmt.Errorf("store: migrate: %w", err)
	}
	found, known, err := p.GetVersions(ctx)
	if err != nil {
		return fmt.Errorf("store: migrate: %w", err)
	}
	if found > known {
		return errNewer("schema", found, known)
	}
	done, err := p.Up(ctx)
	if err != nil {
		return fmt.Errorf("store: migrate: %w", err)
	}
	if len(done) > 0 {
		logger.InfoContext(ctx, "database migrated", "part", "schema", "from", found, "to", known)
	}
	return nil
}

// migrateQueue does the same for the tables of the queue.
func migrateQueue[T any](ctx context.Context, driver riverdriver.Driver[T], logger *slog.Logger) error {
	m, err := rivermigrate.New(driver, &rivermigrate.Config{Logger: quiet(logger)})
	if err != nil {
		return fmt.Errorf("store: migrate queue: %w", err)
	}
	known := 0
	for _, v := range m.AllVersions() {
		known = max(known, v.Version)
	}
	var found int64
	row := driver.GetExecutor().QueryRow(ctx, "SELECT max(version) FROM river_migration WHERE line = 'main'")
	if err := row.Scan(&found); err == nil && found > int64(known) { // a first migration has no such table yet
		return errNewer("queue", found, int64(known))
	}
	done, err := m.Migrate(ctx, rivermigrate.DirectionUp, nil)
	if err != nil {
		return fmt.Errorf("store: migrate queue: %w", err)
	}
	if len(done.Versions) > 0 {
		logger.InfoContext(ctx, "database migrated", "part", "queue", "from", found, "to", known)
	}
	return nil
}
