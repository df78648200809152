// Package server runs the main program as a server in a process of its own, for tests and benchmarks.
package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"github.com/countersign-dev/countersign/client"
)

// Process is a running program.
type Process struct {
	Cmd   *exec.Cmd
	Log   string        // file with its standard error
	Ended chan struct{} // closed when it ended
	Err   error         // how; set when Ended is closed
}

// Start runs a program whose standard error is a new file in the directory.
func Start(dir, program string, arguments ...string) (*Process, error) {
	log, err := os.CreateTemp(dir, "log")
	if err != nil {
		return nil, err
	}
	defer log.Close()
	p := &Process{Cmd: exec.Command(program, arguments...), Log: log.Name(), Ended: make(chan struct{})}
	p.Cmd.Stderr = log
	if err := p.Cmd.Start(); err != nil {
		return nil, err
	}
	go func() { p.Err = p.Cmd.Wait(); close(p.Ended) }()
	return p, nil
}

// Tail returns the last lines of the log.
func (p *Process) Tail() string {
	raw, _ := os.ReadFile(p.Log) // what cannot be read cannot be shown
	return string(raw[max(0, len(raw)-4000):])
}

// Kill ends the process at once, whatever it does, and waits for its end.
func (p *Process) Kill() {
	_ = p.Cmd.Process.Kill() // fails when it ended already
	<-p.Ended
}

// Stop asks the process to end, and waits until it has. It is an error when it does not, or tells of a failure.
func (p *Process) Stop(ctx context.Context) error {
	if err := p.Cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return fmt.Errorf("stop: %w; it ended before: %w\n%s", err, p.Err, p.Tail())
	}
	select {
	case <-p.Ended:
	case <-ctx.Done():
		return fmt.Errorf("it still runs after SIGTERM: %w\n%s", ctx.Err(), p.Tail())
	}
	if p.Err != nil {
		return fmt.Errorf("after SIGTERM: %w\n%s", p.Err, p.Tail())
	}
	return nil
}

// Server is a running server.
type Server struct {
	*Process
	State // as far as it tells, once it is ready

	readyFile string
}

// State is what a demo writes when it is ready. Other servers tell their addresses only.
type State struct {
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
	Logins                  struct {
		Admin    Login `json:"admin"`
		Approver Login `json:"approver"`
	} `json:"logins"`
	CAFile string `json:"caFile"`
}

// Login is what a person signs in with.
type Login struct {
	Email    string `json:"email"`
	Password string `json:"password"`
}

// StartServer starts a server by one of the commands demo and serve, on a data directory and a free port, without waiting
// for it. Its log and ready file are in dir.
func StartServer(dir, program, command, data string, arguments ...string) (*Server, error) {
	own, err := os.MkdirTemp(dir, command)
	if err != nil {
		return nil, err
	}
	ready := filepath.Join(own, "ready.json")
	p, err := Start(own, program, append([]string{command, "--data", data, "--listen", "127.0.0.1:0", "--ready-file", ready, "--log-level", "warn"}, arguments...)...)
	if err != nil {
		return nil, err
	}
	return &Server{Process: p, readyFile: ready}, nil
}

// AwaitReady waits until the server accepts connections. It is an error when it ends instead.
func (s *Server) AwaitReady(ctx context.Context) error {
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for {
		raw, err := os.ReadFile(s.readyFile)
		if err == nil {
			return json.Unmarshal(raw, &s.State)
		}
		if !errors.Is(err, os.ErrNotExist) {
			return err
		}
		select {
		case <-s.Ended:
			return fmt.Errorf("the server ended before it was ready: %w\n%s", s.Err, s.Tail())
		case <-ctx.Done():
			return fmt.Errorf("the server is not ready: %w\n%s", ctx.Err(), s.Tail())
		case <-tick.C:
		}
	}
}

// Client returns a client with a token. It tries everything once, unless told otherwise.
func (s *State) Client(token string, options ...client.Option) (*client.Client, error) {
	return client.New(s.BaseURL, token, s.OrganizationID, append([]client.Option{
		client.WithRetry(client.Retry{Attempts: 1}), client.WithPoll(5 * time.Millisecond),
	}, options...)...)
}
