package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/countersign-dev/countersign/client"
	"github.com/countersign-dev/countersign/e2e/server"
)

// habit is how a client waits for a request: what it asks for, how often, and how many of 100 clients do.
type habit struct {
	part  string // of the request's address; empty asks for everything about it
	every time.Duration
	share int
}

var (
	// usual are the habits of the clients that build systems have: modules and plug-ins that load the whole request or its
	// status every five seconds, and hooks that do every ten.
	usual = []habit{{"", 5 * time.Second, 50}, {"/Status", 5 * time.Second, 35}, {"", 10 * time.Second, 10}, {"/Status", 10 * time.Second, 5}}
	// eager clients ask for the status each second, about five times as often as the usual ones in all.
	eager = []habit{{"/Status", time.Second, 100}}
)

// polling: signing requests per second with and without many clients that wait for other requests.
func (b *bench) polling(ctx context.Context) (err error) {
	d, stop, err := b.serve(ctx, "demo", nil)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stop()) }()
	waiting, err := waitingRequests(ctx, d, max(1, b.pollers/10))
	if err != nil {
		return err
	}
	const submitters = 8
	if _, err := b.submitAll(ctx, d, rsaPolicy, 4, 40); err != nil { // warms up
		return err
	}
	what := fmt.Sprintf("signing while %d clients wait for %d other requests", b.pollers, len(waiting))
	for _, c := range []struct {
		name   string
		habits []habit
		goal   func(share float64) string
	}{
		{"they ask every 5 to 10 s, as clients do", usual, func(share float64) string { return goal(share >= 0.95, "≥ 0.95") }},
		{"they ask once a second", eager, func(float64) string { return "" }},
	} {
		var with, without []load
		var answers []time.Duration
		asked := 0.0
		// In turn, so that what disturbs the machine disturbs both.
		for range min(b.rounds, 5) {
			l, err := b.submitAll(ctx, d, rsaPolicy, submitters, b.requests/2)
			if err != nil {
				return err
			}
			without = append(without, l)
			p := b.poll(ctx, d, waiting, c.habits)
			l, err = b.submitAll(ctx, d, rsaPolicy, submitters, b.requests/2)
			took, pollErr := p.end()
			if err := errors.Join(err, pollErr); err != nil {
				return err
			}
			with, answers, asked = append(with, l), append(answers, took...), asked+l.wall.Seconds()
		}
		b.loadRow(what, "8 submitters, nobody waits", median(without))
		b.loadRow(what, "8 submitters; "+c.name, median(with))
		share := median(with).rate() / median(without).rate()
		b.row(row{what: what, who: "the waiting clients' questions", median: "p50 " + seconds(percentile(answers, 50)),
			spread: "p95 " + seconds(percentile(answers, 95)) + ", p99 " + seconds(percentile(answers, 99)),
			ratio:  fmt.Sprintf("%.0f/s; signing goes on at %.2f of its rate", float64(len(answers))/asked, share), goal: c.goal(share)})
	}
	return nil
}

// median returns the load with the median rate.
func median(loads []load) load {
	sorted := slices.SortedFunc(slices.Values(loads), func(a, b load) int {
		if a.rate() < b.rate() {
			return -1
		}
		return 1
	})
	return sorted[(len(sorted)-1)/2]
}

// waitingRequests submits requests that wait for an approval, and returns their ids.
func waitingRequests(ctx context.Context, d *server.Server, n int) ([]string, error) {
	c, err := connect(d, 1)
	if err != nil {
		return nil, err
	}
	exe := program(15<<10, 1)
	var ids []string
	for range n {
		submitted, err := c.Submit(ctx, client.Submission{ProjectSlug: "demo", PolicySlug: waitingPolicy, ConfigurationSlug: "exe",
			Artifact: client.Upload{Name: "app.exe", Content: bytes.NewReader(exe), Size: int64(len(exe))}})
		if err != nil {
			return nil, err
		}
		ids = append(ids, submitted.SigningRequestID)
	}
	return ids, nil
}

// pollers are clients that ask again and again.
type pollers struct {
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu   sync.Mutex
	took []time.Duration
	errs []error
}

// poll starts clients, each with a connection of its own, that ask for one of the requests each. Their first questions
// are spread over the time after which they ask again.
func (b *bench) poll(ctx context.Context, d *server.Server, ids []string, habits []habit) *pollers {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.MaxIdleConns, transport.MaxIdleConnsPerHost = 0, b.pollers
	c := &http.Client{Transport: transport}
	p := &pollers{}
	ctx, p.cancel = context.WithCancel(ctx)
	first := 0
	for _, h := range habits {
		count := b.pollers * h.share / 100
		for i := range count {
			url := d.APIURL + "/v1/" + d.OrganizationID + "/SigningRequests/" + ids[(first+i)%len(ids)] + h.part
			p.wg.Go(func() { p.ask(ctx, c, d.Tokens.CI, url, h.every*time.Duration(i)/time.Duration(count), h.every) })
		}
		first += count
	}
	return p
}

func (p *pollers) ask(ctx context.Context, c *http.Client, token, url string, first, every time.Duration) {
	next := time.NewTimer(first)
	defer next.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-next.C:
		}
		next.Reset(every)
		at := time.Now()
		err := fetch(ctx, c, token, url)
		if ctx.Err() != nil {
			return
		}
		p.mu.Lock()
		p.took, p.errs = append(p.took, time.Since(at)), append(p.errs, err)
		p.mu.Unlock()
	}
}

// end stops the clients and returns how long their answers took.
func (p *pollers) end() ([]time.Duration, error) {
	p.cancel()
	p.wg.Wait()
	return p.took, errors.Join(p.errs...)
}

// fetch reads an answer without looking at it.
func fetch(ctx context.Context, c *http.Client, token, url string) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	r.Header.Set("Authorization", "Bearer "+token)
	answer, err := c.Do(r)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if _, err := io.Copy(io.Discard, answer.Body); err != nil {
		return err
	}
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", url, answer.Status)
	}
	return nil
}
