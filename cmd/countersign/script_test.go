package main

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/countersign-dev/countersign/internal/oracle"
	"github.com/countersign-dev/countersign/internal/samples"
)

var update = flag.Bool("update", false, "rewrite golden files and docs/cli.md")

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"countersign": main})
}

// TestScripts runs the program as people do. Each file of testdata/script is about one behaviour.
//
// Beside testscript's own there are these commands:
//
//	exits CODE program args...   run a program that must exit with the code
//	demo                         start the demo that the scripts share, and connect to it
//	await FILE                   wait until a file is there
//	connect FILE                 set the environment from a ready file, with the CI user's token
//	tamper DATABASE SQL          change an SQLite database behind the program's back
//	jsonenv NAME FIELD           set an environment variable from a field of the JSON on standard output
func TestScripts(t *testing.T) {
	exe := samples.GoEXE(t, "386")
	openssl, osslsigncode := oracle.Need(t, "openssl"), oracle.Need(t, "osslsigncode")
	shared := &sharedDemo{dir: t.TempDir()}
	t.Cleanup(func() { shared.stop(t) })
	t.Run("script", func(t *testing.T) {
		testscript.Run(t, testscript.Params{
			Dir: filepath.Join("testdata", "script"), RequireExplicitExec: false, UpdateScripts: *update,
			Setup: func(env *testscript.Env) error {
				env.Setenv("EXE", exe)
				env.Setenv("OPENSSL", openssl)
				env.Setenv("OSSLSIGNCODE", osslsigncode)
				env.Setenv("HOME", env.WorkDir)
				env.Setenv("CI", os.Getenv("CI"))
				return nil
			},
			Cmds: map[string]func(*testscript.TestScript, bool, []string){
				"exits": exits, "await": await, "connect": connect, "jsonenv": jsonenv, "tamper": tamper,
				"demo": func(ts *testscript.TestScript, _ bool, _ []string) {
					ready, err := shared.start()
					ts.Check(err)
					connect(ts, false, []string{ready})
				},
			},
		})
	})
}

// sharedDemo is a demo in this process that starts when a script needs it.
type sharedDemo struct {
	dir    string
	once   sync.Once
	cancel context.CancelFunc
	done   chan int
	log    strings.Builder
	err    error
}

func (d *sharedDemo) start() (ready string, err error) {
	ready = filepath.Join(d.dir, "ready.json")
	d.once.Do(func() {
		ctx, cancel := context.WithCancel(context.Background())
		d.cancel, d.done = cancel, make(chan int, 1)
		go func() {
			d.done <- run(ctx, []string{"demo", "--data", filepath.Join(d.dir, "data"), "--listen", "127.0.0.1:0", "--ready-file", ready},
				console{in: strings.NewReader(""), out: &d.log, err: &d.log})
		}()
		d.err = awaitFile(ready)
	})
	return ready, d.err
}

func (d *sharedDemo) stop(t *testing.T) {
	if d.cancel == nil {
		return
	}
	d.cancel()
	if code := <-d.done; code != exitOK {
		t.Errorf("the shared demo exited with %d:\n%s", code, d.log.String())
	}
}

func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE program args...")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	err = ts.Exec(args[1], args[2:]...)
	got := 0
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		got = exit.ExitCode()
	} else {
		ts.Check(err)
	}
	if got != want {
		ts.Fatalf("exit code %d, want %d", got, want)
	}
}

func await(ts *testscript.TestScript, _ bool, args []string) {
	for _, name := range args {
		ts.Check(awaitFile(ts.MkAbs(name)))
	}
}

// awaitFile returns when the file is there: whoever writes it renames it when it is complete.
func awaitFile(path string) error {
	deadline := time.After(2 * time.Minute)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		if _, err := os.Stat(path); err == nil {
			return nil
		}
		select {
		case <-tick.C:
		case <-deadline:
			return fmt.Errorf("%s is not there after two minutes", path)
		}
	}
}

func connect(ts *testscript.TestScript, _ bool, args []string) {
	raw, err := os.ReadFile(ts.MkAbs(args[0]))
	ts.Check(err)
	var s demoState
	ts.Check(json.Unmarshal(raw, &s))
	for name, value := range map[string]string{
		"COUNTERSIGN_URL": s.BaseURL, "COUNTERSIGN_ORGANIZATION": string(s.OrganizationID), "COUNTERSIGN_TOKEN": s.Tokens.CI,
		"CI_TOKEN": s.Tokens.CI, "APPROVER_TOKEN": s.Tokens.Approver, "ADMIN_TOKEN": s.Tokens.Admin, "BUILD_SYSTEM_TOKEN": s.TrustedBuildSystemToken,
		"CA": s.CAFile, "ADDRESS": strings.Replace(strings.TrimPrefix(s.BaseURL, "http://"), "localhost", "127.0.0.1", 1),
	} {
		ts.Setenv(name, value)
	}
}

func jsonenv(ts *testscript.TestScript, _ bool, args []string) {
	var object map[string]any
	ts.Check(json.Unmarshal([]byte(ts.ReadFile("stdout")), &object))
	value, ok := object[args[1]]
	if !ok {
		ts.Fatalf("standard output has no field %s", args[1])
	}
	ts.Setenv(args[0], fmt.Sprint(value))
}

func tamper(ts *testscript.TestScript, _ bool, args []string) {
	db, err := sql.Open("sqlite", ts.MkAbs(args[0])) // the store registers the driver
	ts.Check(err)
	_, err = db.ExecContext(context.Background(), args[1])
	ts.Check(errors.Join(err, db.Close()))
}
