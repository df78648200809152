package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strings"
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

// polling: signing requests per second with and without many clients that wait for other requests. The clients use the same
// processors. So that what they need themselves is not taken for what their questions cost the server, they also ask a program
// that has its answers ready.
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
	if _, err := b.submitAll(ctx, d, rsaPolicy, 4, 40); err != nil { // warms up
		return err
	}
	ready, end, err := b.readyAnswers(ctx, d, waiting[0])
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, end()) }()
	what := fmt.Sprintf("signing while %d clients wait for %d other requests", b.pollers, len(waiting))
	for _, c := range []struct {
		name   string
		habits []habit
	}{
		{"every 5 to 10 s, as clients do", usual},
		{"once a second", eager},
	} {
		arms := []*arm{
			{name: "nobody waits"},
			{name: "clients ask a program with ready answers " + c.name, base: ready},
			{name: "clients ask the server " + c.name, base: d.APIURL},
		}
		// In turn, so that what disturbs the machine disturbs all.
		for range min(b.rounds, 5) {
			for _, a := range arms {
				if err := b.signMeanwhile(ctx, d, a, waiting, c.habits); err != nil {
					return err
				}
			}
		}
		for _, a := range arms {
			b.loadRow(what, "8 submitters; "+a.name, median(a.loads))
		}
		alone, ready, server := arms[0], arms[1], arms[2]
		share := server.share(ready)
		b.row(row{what: what, who: "the server's answers", median: "p50 " + seconds(percentile(server.answers, 50)),
			spread: "p95 " + seconds(percentile(server.answers, 95)) + ", p99 " + seconds(percentile(server.answers, 99)),
			ratio: fmt.Sprintf("%.0f/s; signing goes on at %.2f of its rate with ready answers, %.2f of that without clients",
				server.asked(), share, server.share(alone)), goal: goal(share >= 0.95, "≥ 0.95")})
	}
	return nil
}

// arm is one of the circumstances under which is signed.
type arm struct {
	name    string
	base    string // where the waiting clients ask; empty when there are none
	loads   []load
	answers []time.Duration
}

// share returns the median, over the rounds, of the rate as a share of another arm's.
func (a *arm) share(of *arm) float64 {
	var shares []float64
	for i, l := range a.loads {
		shares = append(shares, l.rate()/of.loads[i].rate())
	}
	slices.Sort(shares)
	return shares[len(shares)/2]
}

// asked returns how many questions were asked a second.
func (a *arm) asked() float64 {
	took := 0.0
	for _, l := range a.loads {
		took += l.wall.Seconds()
	}
	return float64(len(a.answers)) / took
}

// signMeanwhile has 8 submitters sign while clients ask for other requests.
func (b *bench) signMeanwhile(ctx context.Context, d *server.Server, a *arm, waiting []string, habits []habit) error {
	var p *pollers
	if a.base != "" {
		p = b.poll(ctx, a.base+"/v1/"+d.OrganizationID+"/SigningRequests/", d.Tokens.CI, waiting, habits)
	}
	l, err := b.submitAll(ctx, d, rsaPolicy, 8, b.requests/2)
	a.loads = append(a.loads, l)
	if p == nil {
		return err
	}
	took, pollErr := p.end()
	a.answers = append(a.answers, took...)
	return errors.Join(err, pollErr)
}

// readyAnswers starts a program that answers as the server answers about a request now, and returns its address.
func (b *bench) readyAnswers(ctx context.Context, d *server.Server, id string) (base string, end func() error, err error) {
	request := d.APIURL + "/v1/" + d.OrganizationID + "/SigningRequests/" + id
	for name, part := range map[string]string{"status.json": "/Status", "details.json": ""} {
		var body json.RawMessage
		if err := call(ctx, d.Tokens.CI, http.MethodGet, request+part, nil, &body); err != nil {
			return "", nil, err
		}
		if err := os.WriteFile(b.path(name), body, 0o600); err != nil {
			return "", nil, err
		}
	}
	cmd := exec.CommandContext(ctx, b.floor, "answers", b.path("status.json"), b.path("details.json"))
	in, err := cmd.StdinPipe()
	if err != nil {
		return "", nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return "", nil, err
	}
	if err := cmd.Start(); err != nil {
		return "", nil, err
	}
	end = func() error { return errors.Join(in.Close(), cmd.Wait()) }
	address, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		return "", nil, errors.Join(err, end())
	}
	return "http://" + strings.TrimSpace(address), end, nil
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

// poll starts clients, each with a connection of its own, that ask for one of the requests below an address each. Their first questions
// are spread over the time after which they ask again.
func (b *bench) poll(ctx context.Context, requests, token string, ids []string, habits []habit) *pollers {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.MaxIdleConns, transport.MaxIdleConnsPerHost = 0, b.pollers
	c := &http.Client{Transport: transport}
	p := &pollers{}
	ctx, p.cancel = context.WithCancel(ctx)
	first := 0
	for _, h := range habits {
		count := b.pollers * h.share / 100
		for i := range count {
			url := requests + ids[(first+i)%len(ids)] + h.part
			p.wg.Go(func() { p.ask(ctx, c, token, url, h.every*time.Duration(i)/time.Duration(count), h.every) })
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
