package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/countersign-dev/countersign/client"
	"github.com/countersign-dev/countersign/e2e/server"
)

// built is the main program, built once for all tests.
var built struct {
	once sync.Once
	path string
	err  error
}

// TestMain removes what program built.
func TestMain(m *testing.M) {
	code := m.Run()
	if built.path != "" && built.path != os.Getenv("COUNTERSIGN_PROGRAM") {
		_ = os.RemoveAll(filepath.Dir(built.path))
	}
	os.Exit(code)
}

// program returns the path of the main program, built from the module. The environment may name one that is built
// already as COUNTERSIGN_PROGRAM.
func program(t testing.TB) string {
	t.Helper()
	built.once.Do(func() { built.path, built.err = build() })
	if built.err != nil {
		t.Fatal(built.err)
	}
	return built.path
}

func build() (string, error) {
	if path := os.Getenv("COUNTERSIGN_PROGRAM"); path != "" {
		return path, nil
	}
	// The go command repeats a test when a file changed that the test looked at. These tests import next to nothing of
	// what they test, so they look at all of it.
	err := filepath.WalkDir("..", func(path string, e fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case e.IsDir() && strings.HasPrefix(e.Name(), ".") && path != "..":
			return fs.SkipDir
		case strings.HasSuffix(path, ".go") || strings.HasSuffix(path, ".sql"):
			_, err = os.Stat(path)
		}
		return err
	})
	if err != nil {
		return "", err
	}
	dir, err := os.MkdirTemp("", "countersign-e2e-")
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "countersign")
	cmd := exec.Command("go", "build", "-o", path, "../cmd/countersign")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", errors.Join(fmt.Errorf("build the main program: %w\n%s", err, out), os.RemoveAll(dir))
	}
	return path, nil
}

// run executes the main program to its end and returns what it wrote to standard output.
func run(t testing.TB, arguments ...string) []byte {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), program(t), arguments...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("countersign %s: %v\n%s%s", strings.Join(arguments, " "), err, out, stderr.Bytes())
	}
	return out
}

// start runs the main program, which is killed when the test ends if it still runs. The end of its log is shown when the
// test failed.
func start(t testing.TB, arguments ...string) *server.Process {
	t.Helper()
	p, err := server.Start(t.TempDir(), program(t), arguments...)
	if err != nil {
		t.Fatal(err)
	}
	watch(t, p)
	return p
}

func watch(t testing.TB, p *server.Process) {
	t.Cleanup(func() {
		p.Kill()
		if log := p.Tail(); t.Failed() && log != "" {
			t.Logf("%s (%v):\n%s", strings.Join(p.Cmd.Args, " "), p.Err, log)
		}
	})
}

// stop asks a process to end, and waits until it has.
func stop(t testing.TB, p *server.Process) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := p.Stop(ctx); err != nil {
		t.Error(err)
	}
}

// instance is a running server.
type instance struct{ *server.Server }

// launch starts a server by one of the commands demo and serve on a data directory, without waiting for it.
func launch(t testing.TB, command, data string, arguments ...string) *instance {
	t.Helper()
	s, err := server.StartServer(t.TempDir(), program(t), command, data, arguments...)
	if err != nil {
		t.Fatal(err)
	}
	watch(t, s.Process)
	return &instance{s}
}

// startDemo starts a demo and waits until it is ready.
func startDemo(t testing.TB, data string, arguments ...string) *instance {
	t.Helper()
	d := launch(t, "demo", data, arguments...)
	if err := d.awaitReady(t); err != nil {
		t.Fatal(err)
	}
	return d
}

// timestampPath is where a demo's timestamp authority is.
const timestampPath = "/Timestamp"

// serveSeeded starts a server on the data of a demo that has stopped, and waits until it is ready. Both that demo and the
// other one, whose authority gives the timestamps, are trusted.
func serveSeeded(t testing.TB, seeded, authority *instance, data string, arguments ...string) *instance {
	t.Helper()
	d := launch(t, "serve", data, arguments...)
	d.State = seeded.State
	d.CAFile = filepath.Join(t.TempDir(), "trusted.pem")
	if err := os.WriteFile(d.CAFile, slices.Concat(readFile(t, seeded.CAFile), readFile(t, authority.CAFile)), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := d.awaitReady(t); err != nil {
		t.Fatal(err)
	}
	return d
}

func (d *instance) stop(t testing.TB) {
	t.Helper()
	stop(t, d.Process)
}

func (d *instance) awaitReady(t testing.TB) error {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	return d.AwaitReady(ctx)
}

// client returns a client with a token, which tries everything once, unless told otherwise.
func (d *instance) client(t testing.TB, token string, options ...client.Option) *client.Client {
	t.Helper()
	c, err := d.Client(token, options...)
	if err != nil {
		t.Fatal(err)
	}
	return c
}
