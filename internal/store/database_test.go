package store_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/countersign-dev/countersign/internal/audit"
	"github.com/countersign-dev/countersign/internal/signing"
	"github.com/countersign-dev/countersign/internal/store"
	"github.com/countersign-dev/countersign/internal/store/pgtest"
	"github.com/countersign-dev/countersign/internal/store/storetest"
)

func TestMain(m *testing.M) {
	if path := os.Getenv("COUNTERSIGN_TEST_CRASH"); path != "" {
		fmt.Fprintln(os.Stderr, write(path))
		os.Exit(1)
	}
	os.Exit(m.Run())
}

func raw(t testing.TB, db *store.DB, query string, args ...any) []string {
	t.Helper()
	v, err := store.Raw(context.Background(), db, query, args...)
	if err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return v
}

func TestOpenRefuses(t *testing.T) {
	t.Parallel()
	for url, want := range map[string]string{
		"":                                "no database",
		"mysql://localhost/x":             "scheme",
		"postgres://%zz":                  "database URL",
		filepath.Join(t.TempDir(), "a/b"): "no such file",
	} {
		if _, err := store.Open(context.Background(), store.Config{URL: url}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", url, err)
		}
	}
}

func TestMigrate(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, db *store.DB) {
		ctx := context.Background()
		if err := errors.Join(db.Migrate(ctx), db.Ping(ctx)); err != nil {
			t.Fatalf("migrating a current database: %v", err)
		}
		raw(t, db, "INSERT INTO goose_db_version (version_id, is_applied) VALUES (9999, TRUE)")
		if err := db.Migrate(ctx); err == nil || !strings.Contains(err.Error(), "newer version") {
			t.Errorf("a newer schema: %v", err)
		}
		raw(t, db, "DELETE FROM goose_db_version WHERE version_id = 9999")
		raw(t, db, "INSERT INTO river_migration (line, version) VALUES ('main', 9999)")
		if err := db.Migrate(ctx); err == nil || !strings.Contains(err.Error(), "newer version") {
			t.Errorf("a newer queue: %v", err)
		}
	})
}

// TestSchemasAgree compares tables, columns, and indexes of both databases.
func TestSchemasAgree(t *testing.T) {
	t.Parallel()
	lite, pg := storetest.SQLite(t), pgtest.Open(t)
	ours := "NOT LIKE 'river%' AND %[1]s NOT LIKE 'goose%' AND %[1]s NOT LIKE 'sqlite%' AND %[1]s NOT LIKE '%_pkey'"
	where := func(column string) string {
		return column + " " + strings.ReplaceAll(ours, "%[1]s", column)
	}
	liteColumns := raw(t, lite, "SELECT m.name || '.' || c.name FROM sqlite_master m, pragma_table_info(m.name) c WHERE m.type = 'table' AND "+where("m.name"))
	pgColumns := raw(t, pg, "SELECT table_name || '.' || column_name FROM information_schema.columns WHERE table_schema = 'public' AND "+where("table_name"))
	liteIndexes := raw(t, lite, "SELECT name FROM sqlite_master WHERE type = 'index' AND tbl_name NOT LIKE 'river%' AND "+where("name"))
	pgIndexes := raw(t, pg, "SELECT indexname FROM pg_indexes WHERE schemaname = 'public' AND tablename NOT LIKE 'river%' AND "+where("indexname"))
	for _, pair := range [][2][]string{{liteColumns, pgColumns}, {liteIndexes, pgIndexes}} {
		slices.Sort(pair[0])
		slices.Sort(pair[1])
		if d := cmp.Diff(pair[0], pair[1]); d != "" || len(pair[0]) < 20 {
			t.Errorf("SQLite and PostgreSQL differ:\n%s", d)
		}
	}
}

func TestAuditAppendOnly(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, db *store.DB) {
		ctx := context.Background()
		org := newOrganization(t, db)
		if err := db.Tx(ctx, func(tx signing.Tx) error { return appendEntry(tx, org) }); err != nil {
			t.Fatal(err)
		}
		err := db.View(ctx, func(tx signing.Tx) error {
			logs, err := tx.AuditedOrganizations(ctx)
			if !slices.Equal(logs, []signing.ID{org}) {
				t.Errorf("logs of %v, want that of %s", logs, org)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		for _, query := range []string{
			"UPDATE audit_leaves SET event = 'X'", "DELETE FROM audit_leaves",
			"INSERT INTO audit_leaves SELECT * FROM audit_leaves",
		} {
			if _, err := store.Raw(ctx, db, query); err == nil {
				t.Errorf("%s succeeded", query)
			}
		}
		for _, query := range []string{"INSERT OR REPLACE INTO audit_leaves SELECT * FROM audit_leaves", "TRUNCATE audit_leaves"} {
			if _, err := store.Raw(ctx, db, query); err == nil {
				t.Errorf("%s succeeded", query)
			}
		}
		storetest.VerifyAudit(t, db, org, 1)
	})
}

// TestAuditObjectTypes: entries from before their objects' types were filed are found by type, too, once migrated.
func TestAuditObjectTypes(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, db *store.DB) {
		org := newOrganization(t, db)
		err := db.Tx(t.Context(), func(tx signing.Tx) error {
			for _, about := range []string{"Project", "Certificate", "Project"} {
				e := &audit.Entry{OrganizationID: string(org), Event: "X.Edited", Time: time.Unix(1, 0), Object: audit.Object{Type: about, Name: "\x00 \"type\":\"Certificate\""}}
				if err := tx.AppendAudit(t.Context(), e); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		for _, statement := range []string{
			"DROP INDEX audit_leaves_object_type", "ALTER TABLE audit_leaves DROP COLUMN object_type",
			"ALTER TABLE policies DROP COLUMN approval_version", "ALTER TABLE certificates DROP COLUMN key_deleted_at", "DELETE FROM goose_db_version WHERE version_id >= 7",
		} {
			if _, err := store.Raw(t.Context(), db, statement); err != nil {
				t.Fatal(err)
			}
		}
		if err := db.Migrate(t.Context()); err != nil {
			t.Fatal(err)
		}
		if found, err := store.Raw(t.Context(), db, "SELECT object_type FROM audit_leaves ORDER BY sequence"); err != nil || !slices.Equal(found, []string{"Project", "Certificate", "Project"}) {
			t.Errorf("types %q, %v", found, err)
		}
		if _, err := store.Raw(t.Context(), db, "UPDATE audit_leaves SET object_type = 'X'"); err == nil {
			t.Error("after the migration, audit leaves can be changed")
		}
		storetest.VerifyAudit(t, db, org, 3)
	})
}

func newOrganization(t testing.TB, db *store.DB) signing.ID {
	t.Helper()
	org := &signing.Organization{ID: signing.NewID(), Name: "Acme", CreatedAt: time.Now()}
	ctx := context.Background()
	if err := db.Tx(ctx, func(tx signing.Tx) error { return tx.InsertOrganization(ctx, org) }); err != nil {
		t.Fatal(err)
	}
	return org.ID
}

func appendEntry(tx signing.Tx, org signing.ID) error {
	return tx.AppendAudit(context.Background(), &audit.Entry{OrganizationID: string(org), Time: time.Now(), Event: "Test", Actor: audit.Actor{Kind: "System"}})
}

func TestSoftwareKeys(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, db *store.DB) {
		ctx, keys := context.Background(), db.SoftwareKeys()
		if _, found, err := keys.Get(ctx, "k"); found || err != nil {
			t.Errorf("absent key: %t, %v", found, err)
		}
		if err := keys.Put(ctx, "k", []byte{0, 1}); err != nil {
			t.Fatal(err)
		}
		if err := keys.Put(ctx, "k", []byte{2}); signing.KindOf(err) != signing.KindConflict {
			t.Errorf("second key: %v", err)
		}
		if sealed, found, err := keys.Get(ctx, "k"); string(sealed) != "\x00\x01" || !found || err != nil {
			t.Errorf("got %q, %t, %v", sealed, found, err)
		}
		for _, want := range []bool{true, false} {
			if found, err := keys.Delete(ctx, "k"); found != want || err != nil {
				t.Errorf("delete: %t, %v", found, err)
			}
		}
	})
}

func FuzzFold(f *testing.F) {
	f.Add("Straße", "STRAßE")
	f.Add("\u212A", "k")
	f.Add("ς", "Σ")
	f.Fuzz(func(t *testing.T, a, b string) {
		a, b = strings.ToValidUTF8(a, ""), strings.ToValidUTF8(b, "")
		if got, want := store.Fold(a) == store.Fold(b), strings.EqualFold(a, b); got != want {
			t.Errorf("%q and %q: keys equal %t, texts equal %t", a, b, got, want)
		}
	})
}

// write appends audit entries and raises a counter in the same transactions, and prints the count after each commit,
// until it is killed.
func write(path string) error {
	ctx := context.Background()
	db, err := store.Open(ctx, store.Config{URL: path})
	if err != nil {
		return err
	}
	for {
		var n int
		if err := db.Tx(ctx, func(tx signing.Tx) error {
			all, err := tx.Organizations(ctx)
			if err != nil {
				return err
			}
			all[0].Settings.RetentionDays++
			n = all[0].Settings.RetentionDays
			return errors.Join(tx.UpdateOrganization(ctx, all[0]), tx.EnqueueAdvance(ctx, all[0].ID, time.Time{}), appendEntry(tx, all[0].ID))
		}); err != nil {
			return err
		}
		fmt.Println(n)
	}
}

// TestCrash kills a process while it commits: what it was told is durable is there, and nothing is half there.
func TestCrash(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	path := filepath.Join(t.TempDir(), "countersign.db")
	db, err := store.Open(ctx, store.Config{URL: path})
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Migrate(ctx); err != nil {
		t.Fatal(err)
	}
	org := newOrganization(t, db)
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	for round := range 5 {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), "COUNTERSIGN_TEST_CRASH="+path)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		told := 0
		for lines := bufio.NewScanner(out); lines.Scan(); {
			if told, err = strconv.Atoi(lines.Text()); err != nil {
				t.Fatal(err)
			}
			if told%20 == round {
				cmd.Process.Kill() // the lines that are in the pipe follow
			}
		}
		cmd.Wait() // killed
		if told == 0 {
			t.Fatal("the writer committed nothing")
		}
		db, err := store.Open(ctx, store.Config{URL: path})
		if err != nil {
			t.Fatal(err)
		}
		var count int
		if err := db.View(ctx, func(tx signing.Tx) error {
			o, err := tx.Organization(ctx, org)
			count = o.Settings.RetentionDays
			return err
		}); err != nil {
			t.Fatal(err)
		}
		if count != told && count != told+1 {
			t.Errorf("%d transactions are stored, %d were reported", count, told)
		}
		storetest.VerifyAudit(t, db, org, int64(count))
		if jobs := raw(t, db, "SELECT CAST(count(*) AS TEXT) FROM river_job")[0]; jobs != strconv.Itoa(count) {
			t.Errorf("%s jobs for %d transactions", jobs, count)
		}
		if ok := raw(t, db, "SELECT integrity_check FROM pragma_integrity_check")[0]; ok != "ok" {
			t.Errorf("integrity check: %s", ok)
		}
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestLog checks what an operator is told: that the database was migrated, once, and nothing of a queue's ordinary course.
func TestLog(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	var info, debug bytes.Buffer
	open := func(out *bytes.Buffer, level slog.Level) *store.DB {
		logger := slog.New(slog.NewTextHandler(out, &slog.HandlerOptions{Level: level}))
		db, err := store.Open(ctx, store.Config{URL: filepath.Join(t.TempDir(), "countersign.db"), Logger: logger})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = db.Close() })
		return db
	}
	for _, db := range []*store.DB{open(&info, slog.LevelInfo), open(&debug, slog.LevelDebug)} {
		if err := errors.Join(db.Migrate(ctx), db.Migrate(ctx)); err != nil {
			t.Fatal(err)
		}
		done := make(chan struct{})
		stop := run(t, db, 1, func(context.Context, store.Job) error {
			close(done)
			return nil
		})
		enqueue(t, db, time.Time{}, signing.NewID())
		next(t, done)
		stop()
	}
	lines := strings.Split(strings.TrimSpace(info.String()), "\n")
	if len(lines) != 2 || !strings.Contains(lines[0], `msg="database migrated" part=schema from=0 to=`) ||
		!strings.Contains(lines[1], `msg="database migrated" part=queue from=0 to=`) {
		t.Errorf("the log is:\n%s", info.String())
	}
	if !strings.Contains(debug.String(), "level=DEBUG msg=\"River") {
		t.Errorf("nothing of the queue at debug level:\n%s", debug.String())
	}
}
