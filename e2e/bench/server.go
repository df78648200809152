package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/countersign-dev/countersign/api"
	"github.com/countersign-dev/countersign/client"
	"github.com/countersign-dev/countersign/e2e/server"
)

// serve starts a server on the data of a demo: by the command "demo", with its timestamp authority, or by "serve", without
// any. The demo that makes the data is another process: it hashes passwords, which takes more memory than anything that is
// measured. prepare, unless it is nil, is called while that one runs. The data stays until all is measured: ext4 looks at every
// file that was deleted lately before it makes one, which would slow the next server down.
func (b *bench) serve(ctx context.Context, command string, prepare func(*server.Server) error) (d *server.Server, stop func() error, err error) {
	data, err := os.MkdirTemp(b.dir, "data")
	if err != nil {
		return nil, nil, err
	}
	start := func(command string) (*server.Server, func() error, error) {
		d, err := server.StartServer(b.dir, b.countersign, command, data)
		if err != nil {
			return nil, nil, err
		}
		if err := d.AwaitReady(ctx); err != nil {
			d.Kill()
			return nil, nil, err
		}
		return d, func() error {
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
			defer cancel()
			return d.Stop(ctx)
		}, nil
	}
	demo, end, err := start("demo")
	if err != nil {
		return nil, nil, err
	}
	if prepare != nil {
		err = prepare(demo)
	}
	if err := errors.Join(err, end()); err != nil {
		return nil, nil, err
	}
	d, end, err = start(command)
	if err != nil {
		return nil, nil, err
	}
	d.OrganizationID, d.Tokens = demo.OrganizationID, demo.Tokens
	return d, end, nil
}

// connect returns a client that keeps as many connections as it is asked for.
func connect(d *server.Server, connections int) (*client.Client, error) {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.MaxIdleConns, transport.MaxIdleConnsPerHost = 0, connections
	return d.Client(d.Tokens.CI, client.WithHTTPClient(&http.Client{Transport: transport}), client.WithPoll(10*time.Millisecond))
}

// highWater returns the largest resident set that a process ever had, in bytes (VmHWM of proc_pid_status(5)).
func highWater(pid int) (int64, error) {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(raw)) {
		if rest, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			kibibytes, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
			return kibibytes << 10, err
		}
	}
	return 0, errors.New("the kernel does not tell VmHWM")
}

// cpuTime returns the processor time that a process used (fields 14 and 15 of proc_pid_stat(5), in ticks of 10 ms).
func cpuTime(pid int) (time.Duration, error) {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	fields := strings.Fields(string(raw[bytes.LastIndexByte(raw, ')')+1:])) // from field 3 on
	user, err := strconv.ParseInt(fields[11], 10, 64)
	if err != nil {
		return 0, err
	}
	system, err := strconv.ParseInt(fields[12], 10, 64)
	return time.Duration(user+system) * 10 * time.Millisecond, err
}

// largeUpload: the server's memory while it takes, signs and hands out a large program.
func (b *bench) largeUpload(ctx context.Context) (err error) {
	path := b.path("upload.exe")
	if err := writeProgram(path, b.upload); err != nil {
		return err
	}
	defer os.Remove(path)
	d, stop, err := b.serve(ctx, "demo", nil)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stop()) }()
	c, err := connect(d, 1)
	if err != nil {
		return err
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	what := fmt.Sprintf("a program of %d MB on a server, peak so far", b.upload/1e6)
	at := time.Now()
	step := func(name string) error {
		took := time.Since(at)
		peak, err := highWater(d.Cmd.Process.Pid)
		b.row(row{what: what, who: name, median: seconds(took), peak: mebibytes(peak), goal: goal(peak <= 128<<20, "≤ 128 MiB")})
		at = time.Now()
		return err
	}
	if err := step("idle"); err != nil {
		return err
	}
	submitted, err := c.Submit(ctx, client.Submission{ProjectSlug: "demo", PolicySlug: "test-signing", ConfigurationSlug: "exe",
		Artifact: client.Upload{Name: "upload.exe", Content: f, Size: info.Size()}})
	if err != nil {
		return err
	}
	if err := step("then upload"); err != nil {
		return err
	}
	if state, err := c.Wait(ctx, submitted.SigningRequestID, client.WaitOptions{}); err != nil || state.Status != api.SigningRequestStatusCompleted {
		return fmt.Errorf("request %+v: %w", state, err)
	}
	if err := step("then sign"); err != nil {
		return err
	}
	out := b.path("download.exe")
	defer os.Remove(out)
	if _, err := c.Download(ctx, submitted.SigningRequestID, out, client.DownloadOptions{}); err != nil {
		return err
	}
	return step("then download")
}
