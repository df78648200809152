package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/countersign-dev/countersign/api"
	"github.com/countersign-dev/countersign/client"
	"github.com/countersign-dev/countersign/e2e/server"
)

// demo starts a demo server for the second time on its data: the first start hashes passwords, which takes more memory
// than anything that is measured. stop ends it.
func (b *bench) demo(ctx context.Context) (d *server.Server, stop func() error, err error) {
	data, err := os.MkdirTemp(b.dir, "data")
	if err != nil {
		return nil, nil, err
	}
	end := func() error {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
		defer cancel()
		return d.Stop(ctx)
	}
	for start := range 2 {
		if d, err = server.StartServer(b.dir, b.countersign, "demo", data); err != nil {
			return nil, nil, err
		}
		if err := d.AwaitReady(ctx); err != nil {
			d.Kill()
			return nil, nil, err
		}
		if start == 0 {
			if err := end(); err != nil {
				return nil, nil, err
			}
		}
	}
	return d, func() error { return errors.Join(end(), os.RemoveAll(data)) }, nil
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

// signed submits a program and waits until it is signed.
func signed(ctx context.Context, c *client.Client, u client.Upload) error {
	submitted, err := c.Submit(ctx, client.Submission{ProjectSlug: "demo", PolicySlug: "test-signing", ConfigurationSlug: "exe", Artifact: u})
	if err != nil {
		return err
	}
	state, err := c.Wait(ctx, submitted.SigningRequestID, client.WaitOptions{})
	if err == nil && state.Status != api.SigningRequestStatusCompleted {
		err = fmt.Errorf("request %s is %s", submitted.SigningRequestID, state.Status)
	}
	return err
}

// largeUpload: the server's memory while it takes, signs and hands out a large program.
func (b *bench) largeUpload(ctx context.Context) (err error) {
	path := b.path("upload.exe")
	if err := writeProgram(path, b.upload); err != nil {
		return err
	}
	defer os.Remove(path)
	d, stop, err := b.demo(ctx)
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

// load is what a number of submitters measured.
type load struct {
	wall      time.Duration
	latencies []time.Duration // from submitting to completed
	cpu       time.Duration   // of the server
}

// submitAll has submitters sign the same number of programs in all, each one after the other.
func (b *bench) submitAll(ctx context.Context, d *server.Server, submitters, requests int) (l load, err error) {
	c, err := connect(d, submitters)
	if err != nil {
		return l, err
	}
	exe := program(15<<10, 1)
	var (
		left atomic.Int64
		mu   sync.Mutex
		errs []error
		wg   sync.WaitGroup
	)
	left.Store(int64(requests))
	before, err := cpuTime(d.Cmd.Process.Pid)
	if err != nil {
		return l, err
	}
	start := time.Now()
	for range submitters {
		wg.Go(func() {
			for left.Add(-1) >= 0 {
				at := time.Now()
				err := signed(ctx, c, client.Upload{Name: "app.exe", Content: bytes.NewReader(exe), Size: int64(len(exe))})
				mu.Lock()
				l.latencies, errs = append(l.latencies, time.Since(at)), append(errs, err)
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	l.wall = time.Since(start)
	after, err := cpuTime(d.Cmd.Process.Pid)
	l.cpu = after - before
	return l, errors.Join(append(errs, err)...)
}

// poll has many clients ask for a request's status once a second until done is closed, and returns how long the answers
// took.
func poll(ctx context.Context, d *server.Server, pollers int, id string, done <-chan struct{}) (latencies []time.Duration, err error) {
	c, err := connect(d, pollers)
	if err != nil {
		return nil, err
	}
	var (
		mu   sync.Mutex
		errs []error
		wg   sync.WaitGroup
	)
	for i := range pollers {
		wg.Go(func() {
			next := time.NewTimer(time.Duration(i) * time.Second / time.Duration(pollers))
			defer next.Stop()
			for {
				select {
				case <-done:
					return
				case <-next.C:
				}
				next.Reset(time.Second)
				at := time.Now()
				_, err := c.Status(ctx, id)
				mu.Lock()
				latencies, errs = append(latencies, time.Since(at)), append(errs, err)
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	return latencies, errors.Join(errs...)
}

// manyRequests: signing requests per second from submission to completion, and what bounds them.
func (b *bench) manyRequests(ctx context.Context) (err error) {
	d, stop, err := b.demo(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stop()) }()
	if _, err := b.submitAll(ctx, d, 4, 40); err != nil { // warms up
		return err
	}
	const what = "signing requests, RSA-3072 with timestamp, SQLite"
	report := func(who string, l load) {
		b.row(row{what: what, who: who, median: "p50 " + seconds(percentile(l.latencies, 50)),
			spread: "p95 " + seconds(percentile(l.latencies, 95)) + ", p99 " + seconds(percentile(l.latencies, 99)),
			cpu:    seconds(l.cpu/time.Duration(len(l.latencies))) + " each",
			ratio:  fmt.Sprintf("%.1f/s; the server keeps %.2f processors busy", float64(len(l.latencies))/l.wall.Seconds(), l.cpu.Seconds()/l.wall.Seconds())})
	}
	for _, submitters := range []int{1, 8, 32} {
		l, err := b.submitAll(ctx, d, submitters, max(b.requests, 8*submitters)*min(submitters, 4)/4)
		if err != nil {
			return err
		}
		report(fmt.Sprintf("%d submitters", submitters), l)
	}

	c, err := connect(d, 1)
	if err != nil {
		return err
	}
	page, err := c.List(ctx, client.Filter{})
	if err != nil {
		return err
	}
	done := make(chan struct{})
	var polls []time.Duration
	var pollErr error
	var poller sync.WaitGroup
	poller.Go(func() { polls, pollErr = poll(ctx, d, b.pollers, page.Items[0].SigningRequestID, done) })
	l, err := b.submitAll(ctx, d, 8, b.requests)
	close(done)
	poller.Wait()
	if err = errors.Join(err, pollErr); err != nil {
		return err
	}
	report(fmt.Sprintf("8 submitters, while %d clients poll", b.pollers), l)
	b.row(row{what: what, who: "status, asked by those clients", median: "p50 " + seconds(percentile(polls, 50)),
		spread: "p95 " + seconds(percentile(polls, 95)) + ", p99 " + seconds(percentile(polls, 99)),
		ratio:  fmt.Sprintf("%.0f/s", float64(len(polls))/l.wall.Seconds())})
	peak, err := highWater(d.Cmd.Process.Pid)
	if err != nil {
		return err
	}
	b.row(row{what: what, who: "the server, after all that", peak: mebibytes(peak)})

	// What a request cannot do without: two key operations, the program's and the timestamp's, and durable commits.
	const count = 500
	keys := contestant{"key operations alone", []string{b.floor, "keys", b.key, strconv.Itoa(count)}, nil}
	commits := contestant{"durable appends of 4 KiB alone", []string{b.floor, "commits", strconv.Itoa(count)}, nil}
	runs, err := b.contest(ctx, b.rounds, keys, commits)
	if err != nil {
		return err
	}
	for i, c := range []contestant{keys, commits} {
		b.times(fmt.Sprintf("%d of what bounds requests, %d processors", count, runtime.NumCPU()), c, runs[i], fmt.Sprintf("%.0f/s", count/medianOf(runs[i]).Seconds()), "")
	}
	return nil
}
