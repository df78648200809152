package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/countersign-dev/countersign/client"
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

// process is a running main program.
type process struct {
	cmd   *exec.Cmd
	log   string        // file with its standard error
	ended chan struct{} // closed when it ended
	err   error         // how; set when ended is closed
}

// start runs the main program. It is killed when the test ends, if it still runs; the end of its log is shown when the
// test failed.
func start(t testing.TB, arguments ...string) *process {
	t.Helper()
	log, err := os.CreateTemp(t.TempDir(), "log")
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	p := &process{cmd: exec.Command(program(t), arguments...), log: log.Name(), ended: make(chan struct{})}
	p.cmd.Stderr = log
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { p.err = p.cmd.Wait(); close(p.ended) }()
	t.Cleanup(func() {
		p.kill()
		if t.Failed() {
			t.Logf("countersign %s (%v):\n%s", strings.Join(arguments, " "), p.err, p.tail())
		}
	})
	return p
}

// tail returns the last lines of the log.
func (p *process) tail() string {
	raw, _ := os.ReadFile(p.log)
	return string(raw[max(0, len(raw)-4000):])
}

// kill ends the process at once, whatever it does, and waits for its end.
func (p *process) kill() {
	_ = p.cmd.Process.Kill()
	<-p.ended
}

// stop asks the process to end, and waits until it has.
func (p *process) stop(t testing.TB) {
	t.Helper()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatalf("stop: %v; it ended before: %v\n%s", err, p.err, p.tail())
	}
	select {
	case <-p.ended:
	case <-time.After(time.Minute):
		t.Fatalf("still running a minute after SIGTERM:\n%s", p.tail())
	}
	if p.err != nil {
		t.Errorf("after SIGTERM: %v\n%s", p.err, p.tail())
	}
}

// demo is a running demo server.
type demo struct {
	*process
	readyFile string
	readyState
}

// readyState is what a demo writes when it is ready.
type readyState struct {
	BaseURL        string `json:"baseUrl"`
	APIURL         string `json:"apiUrl"`
	OrganizationID string `json:"organizationId"`
	ProjectSlug    string `json:"projectSlug"`
	Tokens         struct {
		Admin    string `json:"admin"`
		CI       string `json:"ci"`
		Approver string `json:"approver"`
	} `json:"tokens"`
	TrustedBuildSystemToken string `json:"trustedBuildSystemToken"`
	CAFile                  string `json:"caFile"`
}

// launch starts a demo on a data directory and a free port, without waiting for it.
func launch(t testing.TB, data string, arguments ...string) *demo {
	t.Helper()
	ready := filepath.Join(t.TempDir(), "ready.json")
	p := start(t, append([]string{"demo", "--data", data, "--listen", "127.0.0.1:0", "--ready-file", ready, "--log-level", "warn"}, arguments...)...)
	return &demo{process: p, readyFile: ready}
}

// startDemo starts a demo and waits until it is ready.
func startDemo(t testing.TB, data string, arguments ...string) *demo {
	t.Helper()
	d := launch(t, data, arguments...)
	if !d.awaitReady(t) {
		t.Fatalf("the demo ended before it was ready: %v\n%s", d.err, d.tail())
	}
	return d
}

// awaitReady waits for the ready file, and reports false when the process ended instead.
func (d *demo) awaitReady(t testing.TB) bool {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for {
		raw, err := os.ReadFile(d.readyFile)
		if err == nil {
			if err := json.Unmarshal(raw, &d.readyState); err != nil {
				t.Errorf("ready file: %v", err)
			}
			return true
		}
		select {
		case <-d.ended:
			return false
		case <-ctx.Done():
			t.Errorf("the demo is not ready:\n%s", d.tail())
			return false
		case <-tick.C:
		}
	}
}

// client returns a client with a token. It tries everything once, unless told otherwise.
func (r *readyState) client(t testing.TB, token string, options ...client.Option) *client.Client {
	t.Helper()
	c, err := client.New(r.BaseURL, token, r.OrganizationID, append([]client.Option{
		client.WithRetry(client.Retry{Attempts: 1}), client.WithPoll(5 * time.Millisecond),
	}, options...)...)
	if err != nil {
		t.Fatal(err)
	}
	return c
}
