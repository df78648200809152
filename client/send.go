package client

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"time"
)

// repetition says when a request may be sent again.
type repetition int

const (
	// repeatable requests change nothing, or the server knows a repetition when it sees one.
	repeatable repetition = iota
	// once: sent again only when the server cannot have carried it out: it could not be connected to, or refused
	// because it is too busy.
	once
)

// errStalled is why an attempt was given up.
var errStalled = errors.New("no byte moved for too long")

// try runs fn, which sends one request and reads its answer, until it succeeds or another try would be pointless.
func (c *Client) try(ctx context.Context, again repetition, fn func() error) error {
	for attempt := 1; ; attempt++ {
		err := fn()
		if err == nil {
			return nil
		}
		if !worthAnother(err, again) || !c.pause(ctx, attempt, err) {
			return describe(ctx, err)
		}
	}
}

// doer sends requests of the generated client, each with a watch on its progress, and turns refusals into errors.
type doer struct {
	http  *http.Client
	stall time.Duration
}

// Do implements api.HttpRequestDoer.
func (d *doer) Do(r *http.Request) (*http.Response, error) {
	ctx, cancel := context.WithCancelCause(r.Context())
	w := &watch{stall: d.stall, ctx: ctx, cancel: cancel}
	w.timer = time.AfterFunc(d.stall, func() { cancel(errStalled) })
	r = r.WithContext(ctx)
	if r.Body != nil {
		r.Body = &sentBody{r.Body, w}
	}
	resp, err := d.http.Do(r) //nolint:gosec // the caller says which server
	if err != nil {
		err = w.cause(err)
		w.end()
		return nil, err
	}
	resp.Body = &receivedBody{resp.Body, w}
	if resp.StatusCode >= 300 {
		defer resp.Body.Close()
		return nil, readError(resp)
	}
	return resp, nil
}

// pause waits before the next attempt. It reports whether there is one.
func (c *Client) pause(ctx context.Context, attempt int, err error) bool {
	if attempt >= c.retry.Attempts {
		return false
	}
	longest := min(c.retry.First<<min(attempt-1, 20), c.retry.Longest)
	wait := longest/2 + rand.N(longest/2+1) //nolint:gosec // a pause is no secret
	var e *Error
	if errors.As(err, &e) && e.RetryAfter > wait {
		wait = min(e.RetryAfter, c.retry.Longest)
	}
	return sleep(ctx, wait) == nil
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}

// worthAnother tells whether a failed attempt may and should be repeated.
func worthAnother(err error, again repetition) bool {
	var e *Error
	if errors.As(err, &e) {
		if again == once {
			return e.Status == http.StatusTooManyRequests || e.Status == http.StatusServiceUnavailable
		}
		return e.Temporary()
	}
	if again == once {
		var op *net.OpError
		return errors.As(err, &op) && op.Op == "dial"
	}
	var local *localError
	return network(err) && !errors.As(err, &local)
}

// network tells whether an error is one of the connection.
func network(err error) bool {
	if errors.Is(err, errStalled) {
		return true
	}
	var certificate *tls.CertificateVerificationError
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) || errors.As(err, &certificate) {
		return false
	}
	var request *url.Error // of the transport
	var broken *brokenError
	return errors.As(err, &request) || errors.As(err, &broken)
}

// describe adds to a network error what to check, and puts the context's own error first when it has ended.
func describe(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return fmt.Errorf("client: %w", ctx.Err())
	}
	var op *net.OpError
	if errors.As(err, &op) && op.Op == "dial" {
		return fmt.Errorf("client: the server cannot be reached; check its address, and that it runs: %w", err)
	}
	var e *Error
	if errors.As(err, &e) {
		return err
	}
	return fmt.Errorf("client: %w", err)
}

// brokenError is an answer that ended too early.
type brokenError struct{ cause error }

func (e *brokenError) Error() string { return "the answer broke off: " + e.cause.Error() }
func (e *brokenError) Unwrap() error { return e.cause }

// localError is a failure to read what is to be sent.
type localError struct{ cause error }

func (e *localError) Error() string { return e.cause.Error() }
func (e *localError) Unwrap() error { return e.cause }

// watch cancels an attempt when it makes no progress.
type watch struct {
	stall  time.Duration
	timer  *time.Timer
	ctx    context.Context // of the attempt, ends with it
	cancel context.CancelCauseFunc
}

// progress starts the time anew.
func (w *watch) progress() { w.timer.Reset(w.stall) }

func (w *watch) end() {
	w.timer.Stop()
	w.cancel(nil)
}

// cause tells the watch's own reason for an error.
func (w *watch) cause(err error) error {
	if errors.Is(context.Cause(w.ctx), errStalled) {
		return fmt.Errorf("%w (%s): %w", errStalled, w.stall, err)
	}
	return err
}

// sentBody is a request's body that keeps the watch awake while it is sent. Its errors are local ones.
type sentBody struct {
	io.ReadCloser
	watch *watch
}

func (b *sentBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if n > 0 {
		b.watch.progress()
	}
	if err != nil && err != io.EOF {
		err = &localError{err}
	}
	return n, err
}

// receivedBody is an answer's body that keeps the watch awake while it is read, and ends it when closed.
type receivedBody struct {
	io.ReadCloser
	watch *watch
}

func (b *receivedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if n > 0 {
		b.watch.progress()
	}
	if err != nil && err != io.EOF {
		err = &brokenError{b.watch.cause(err)}
	}
	return n, err
}

func (b *receivedBody) Close() error {
	defer b.watch.end()
	return b.ReadCloser.Close()
}
