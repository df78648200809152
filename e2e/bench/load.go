package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/countersign-dev/countersign/api"
	"github.com/countersign-dev/countersign/client"
	"github.com/countersign-dev/countersign/e2e/server"
)

// The signing policies that the load goes to: the demo's, and one like it with another key.
const (
	rsaPolicy     = "test-signing"
	p256Policy    = "p256-signing"
	waitingPolicy = "release-signing" // waits for an approval
)

// signed submits a program and waits until it is signed.
func signed(ctx context.Context, c *client.Client, policy string, u client.Upload) error {
	submitted, err := c.Submit(ctx, client.Submission{ProjectSlug: "demo", PolicySlug: policy, ConfigurationSlug: "exe", Artifact: u})
	if err != nil {
		return err
	}
	state, err := c.Wait(ctx, submitted.SigningRequestID, client.WaitOptions{})
	if err == nil && state.Status != api.SigningRequestStatusCompleted {
		err = fmt.Errorf("request %s is %s", submitted.SigningRequestID, state.Status)
	}
	return err
}

// addP256 makes a signing policy with an ECDSA-P256 key, and the submitters of the demo's.
func addP256(ctx context.Context, d *server.Server) error {
	admin, err := d.Client(d.Tokens.Admin)
	if err != nil {
		return err
	}
	certificate := api.CreateSelfSignedX509{Slug: "p256", KeyAlgorithm: api.ECDSAP256}
	certificate.Subject.CommonName = "Benchmark"
	if _, err := admin.CreateSelfSigned(ctx, certificate); err != nil {
		return err
	}
	policies := d.APIURL + "/v1/" + d.OrganizationID + "/Projects/demo/SigningPolicies"
	var like api.SigningPolicy
	if err := call(ctx, d.Tokens.Admin, http.MethodGet, policies+"/"+rsaPolicy, nil, &like); err != nil {
		return err
	}
	return call(ctx, d.Tokens.Admin, http.MethodPost, policies,
		api.CreateSigningPolicy{Slug: p256Policy, Name: "P-256", CertificateSlug: "p256", Submitters: &like.Submitters}, &like)
}

// call sends a request with a JSON body, unless in is nil, and decodes the answer.
func call(ctx context.Context, token, method, url string, in, out any) error {
	var body bytes.Buffer
	if in != nil {
		if err := json.NewEncoder(&body).Encode(in); err != nil {
			return err
		}
	}
	r, err := http.NewRequestWithContext(ctx, method, url, &body)
	if err != nil {
		return err
	}
	r.Header.Set("Authorization", "Bearer "+token)
	r.Header.Set("Content-Type", "application/json")
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil || answer.StatusCode/100 != 2 {
		return fmt.Errorf("%s %s: %s %s: %w", method, url, answer.Status, text, err)
	}
	return json.Unmarshal(text, out)
}

// load is what a number of submitters measured.
type load struct {
	wall      time.Duration
	latencies []time.Duration // from submitting to completed
	cpu       time.Duration   // of the server
}

func (l load) rate() float64 { return float64(len(l.latencies)) / l.wall.Seconds() }

// submitAll has submitters sign the same number of programs in all, each one after the other.
func (b *bench) submitAll(ctx context.Context, d *server.Server, policy string, submitters, requests int) (l load, err error) {
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
				err := signed(ctx, c, policy, client.Upload{Name: "app.exe", Content: bytes.NewReader(exe), Size: int64(len(exe))})
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

// loadRow adds a row for a load.
func (b *bench) loadRow(what, who string, l load) {
	b.row(row{what: what, who: who, median: "p50 " + seconds(percentile(l.latencies, 50)),
		spread: "p95 " + seconds(percentile(l.latencies, 95)) + ", p99 " + seconds(percentile(l.latencies, 99)),
		cpu:    seconds(l.cpu/time.Duration(len(l.latencies))) + " each",
		ratio:  fmt.Sprintf("%.1f/s; the server keeps %.2f processors busy", l.rate(), l.cpu.Seconds()/l.wall.Seconds())})
}

// manyRequests: signing requests per second from submission to completion, and what bounds them.
func (b *bench) manyRequests(ctx context.Context) error {
	for _, c := range []struct {
		what, command, policy string
		submitters            []int
	}{
		{"signing requests, RSA-3072 with timestamp, SQLite", "demo", rsaPolicy, []int{1, 8, 32}},
		{"signing requests, P-256 with timestamp (RSA-3072), SQLite", "demo", p256Policy, []int{8}},
		{"signing requests, P-256 without timestamp, SQLite", "serve", p256Policy, []int{1, 8, 32}},
	} {
		if err := b.requestLoad(ctx, c.what, c.command, c.policy, c.submitters); err != nil {
			return fmt.Errorf("%s: %w", c.what, err)
		}
	}
	// What a request cannot do without: key operations, the program's and the timestamp's, and durable commits.
	const count = 500
	p256, p256Certificate := b.path("p256.pem"), b.path("p256-cert.pem")
	if err := writeKey(p256, p256Certificate, "ECDSA-P256"); err != nil {
		return err
	}
	floors := []contestant{
		{"RSA-3072 key operations alone", []string{b.floor, "keys", b.key, strconv.Itoa(count)}, nil},
		{"P-256 key operations alone", []string{b.floor, "keys", p256, strconv.Itoa(count)}, nil},
		{"durable appends of 4 KiB alone", []string{b.floor, "commits", strconv.Itoa(count)}, nil},
	}
	runs, err := b.contest(ctx, b.rounds, floors...)
	if err != nil {
		return err
	}
	for i, c := range floors {
		b.times(fmt.Sprintf("%d of what bounds requests, %d processors", count, runtime.NumCPU()), c, runs[i], fmt.Sprintf("%.0f/s", count/medianOf(runs[i]).Seconds()), "")
	}
	return nil
}

// requestLoad measures a server of its own with several numbers of submitters.
func (b *bench) requestLoad(ctx context.Context, what, command, policy string, submitters []int) (err error) {
	d, stop, err := b.serve(ctx, command, func(d *server.Server) error { return addP256(ctx, d) })
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stop()) }()
	if _, err := b.submitAll(ctx, d, policy, 4, 40); err != nil { // warms up
		return err
	}
	for _, n := range submitters {
		l, err := b.submitAll(ctx, d, policy, n, max(b.requests, 8*n)*min(n, 4)/4)
		if err != nil {
			return err
		}
		b.loadRow(what, fmt.Sprintf("%d submitters", n), l)
	}
	peak, err := highWater(d.Cmd.Process.Pid)
	if err != nil {
		return err
	}
	b.row(row{what: what, who: "the server, after all that", peak: mebibytes(peak)})
	return nil
}
