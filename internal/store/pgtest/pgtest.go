// Package pgtest runs PostgreSQL for tests: the distribution's server binaries in a temporary directory, once for each
// test process, reachable only through a socket in that directory. It ends with the process, however that ends.
package pgtest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/countersign-dev/countersign/internal/store"
)

const template = "countersign_template"

// server is the test process's server.
var server struct {
	once sync.Once
	err  error
	*process

	mu    sync.Mutex // PostgreSQL copies a template for one database at a time
	count int
}

// process is a running server.
type process struct {
	socket string        // directory
	stdin  io.Closer     // the server ends when it closes, as it does when this process ends
	ended  chan struct{} // closed when the server ended
}

func (p *process) url(database string) string {
	return "postgres://postgres@/" + database + "?host=" + p.socket
}

// errMissing: no server binaries are installed.
var errMissing = errors.New("no PostgreSQL server found in /usr/lib/postgresql/*/bin or on the PATH: install Debian's package postgresql")

// URL returns the URL of a new database with the current schema, which is dropped when the test ends. Without
// PostgreSQL the test is skipped, or fails when the environment has CI set.
func URL(t testing.TB) string {
	t.Helper()
	server.once.Do(func() {
		if server.process, server.err = start(""); server.err == nil {
			server.err = migrateTemplate(context.Background())
		}
	})
	check(t, server.err)
	name, err := create()
	if err != nil {
		t.Fatalf("create database: %v", err)
	}
	t.Cleanup(func() {
		if err := admin(context.Background(), "DROP DATABASE "+name+" WITH (FORCE)"); err != nil {
			t.Errorf("drop database: %v", err)
		}
	})
	return server.url(name)
}

// Keep returns the URL of the database of a server whose data are in the directory and stay there: the next Keep finds
// what was stored. An absent directory is made, with an empty database. The server ends with the test.
func Keep(t testing.TB, dir string) string {
	t.Helper()
	p, err := start(dir)
	check(t, err)
	t.Cleanup(func() {
		if err := p.stdin.Close(); err != nil {
			t.Errorf("stop PostgreSQL: %v", err)
		}
		<-p.ended
	})
	return p.url("postgres")
}

// check skips a test without PostgreSQL, and fails it for any other error.
func check(t testing.TB, err error) {
	t.Helper()
	if errors.Is(err, errMissing) && os.Getenv("CI") == "" {
		t.Skipf("SKIPPED WITHOUT POSTGRESQL: %v", err)
	}
	if err != nil {
		t.Fatalf("start PostgreSQL: %v", err)
	}
}

// Open returns a new database, opened and migrated, which is closed and dropped when the test ends.
func Open(t testing.TB) *store.DB {
	t.Helper()
	db, err := store.Open(context.Background(), store.Config{URL: URL(t)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Errorf("close database: %v", err)
		}
	})
	return db
}

func create() (string, error) {
	server.mu.Lock()
	defer server.mu.Unlock()
	server.count++
	name := "test_" + strconv.Itoa(server.count)
	return name, admin(context.Background(), "CREATE DATABASE "+name+" TEMPLATE "+template)
}

func admin(ctx context.Context, sql string) error {
	c, err := pgx.Connect(ctx, server.url("postgres"))
	if err != nil {
		return err
	}
	_, err = c.Exec(ctx, sql)
	return errors.Join(err, c.Close(ctx))
}

// binaries returns the directory of the newest installed server.
func binaries() (string, error) {
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	if path, err := exec.LookPath("initdb"); err == nil {
		found = append(found, path)
	}
	newest, best := "", -1
	for _, f := range found {
		dir := filepath.Dir(f)
		version, _ := strconv.Atoi(filepath.Base(filepath.Dir(dir)))
		if version > best {
			newest, best = dir, version
		}
	}
	if newest == "" {
		return "", errMissing
	}
	return newest, nil
}

// unprivileged returns who runs the server when the tests run as root, which PostgreSQL refuses to run as.
func unprivileged() (*syscall.Credential, error) {
	if os.Getuid() != 0 {
		return nil, nil
	}
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, errUID := strconv.ParseUint(u.Uid, 10, 32)
		gid, errGID := strconv.ParseUint(u.Gid, 10, 32)
		if err := errors.Join(errUID, errGID); err != nil {
			return nil, err
		}
		return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, nil
	}
	return nil, errors.New("the tests run as root and there is neither a user postgres nor nobody to run PostgreSQL as")
}

// script runs the server until its standard input ends, which it does when the test process ends, and then removes
// everything but data that are elsewhere. $1 is the directory of the binaries, $2 the server's, $3 that of its data.
const script = `
set -e
cd "$2"
if ! [ -e "$3/PG_VERSION" ]; then
	"$1/initdb" -D "$3" -U postgres -A trust -E UTF8 --locale=C.UTF-8 --no-sync --no-instructions >log 2>&1
fi
"$1/postgres" -D "$3" -k "$2" -c listen_addresses= -c max_connections=400 -c fsync=off -c full_page_writes=off \
	-c synchronous_commit=off -c shared_buffers=256MB -c log_min_messages=fatal >>log 2>&1 &
server=$!
read -r end || true
kill -INT $server
wait $server || true
cd /
rm -rf "$2"
`

// start runs a server on the data in a directory; without one they are temporary.
func start(data string) (*process, error) {
	bin, err := binaries()
	if err != nil {
		return nil, err
	}
	credential, err := unprivileged()
	if err != nil {
		return nil, err
	}
	// A socket's path has at most 107 bytes, so the name is short.
	dir, err := os.MkdirTemp("", "pg")
	if err != nil {
		return nil, err
	}
	owned := []string{dir}
	if data == "" {
		data = filepath.Join(dir, "data")
	} else {
		if err := os.MkdirAll(data, 0o700); err != nil {
			return nil, err
		}
		owned = append(owned, data)
	}
	p := &process{socket: dir, ended: make(chan struct{})}
	cmd := exec.Command("/bin/sh", "-c", script, "sh", bin, dir, data) //nolint:noctx // it lives as long as this process, whose end closes its input
	cmd.Dir = "/"
	cmd.Env = []string{"PATH=/usr/bin:/bin", "LC_ALL=C.UTF-8"}
	// A process group of its own: an interrupt from the keyboard is for the tests, whose end then ends the server.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Credential: credential}
	if credential != nil {
		for _, d := range owned {
			if err := os.Chown(d, int(credential.Uid), int(credential.Gid)); err != nil {
				return nil, err
			}
		}
	}
	if p.stdin, err = cmd.StdinPipe(); err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	var failure error
	go func() { failure = cmd.Wait(); close(p.ended) }()

	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		c, err := pgx.Connect(ctx, p.url("postgres"))
		if err == nil {
			return p, c.Close(ctx)
		}
		select {
		case <-p.ended:
			log, _ := os.ReadFile(filepath.Join(dir, "log"))
			return nil, errors.Join(fmt.Errorf("the server ended: %s", strings.TrimSpace(string(log))), failure)
		case <-ctx.Done():
			return nil, fmt.Errorf("the server does not answer: %w", err)
		case <-tick.C:
		}
	}
}

func migrateTemplate(ctx context.Context) error {
	if err := admin(ctx, "CREATE DATABASE "+template); err != nil {
		return err
	}
	db, err := store.Open(ctx, store.Config{URL: server.url(template)})
	if err != nil {
		return err
	}
	return errors.Join(db.Migrate(ctx), db.Close())
}
