package web

import (
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/countersign-dev/countersign/internal/signing"
)

// How the stream of a request's changes behaves. A stream ends before a server that stops would cut it; the browser then
// asks again, which also finds out that a session was revoked.
const (
	lookEvery  = time.Second
	streamLife = 25 * time.Second
)

// events streams the changes of a request as server-sent events (HTML Living Standard, section 9.2): "changed" with the
// request's version, and "final" when no more will come. The browser names the version that it shows in the query.
func (x *exchange) events() error {
	id, err := x.requestID()
	if err != nil {
		return err
	}
	ctx := x.r.Context()
	r, err := x.Signing.RequestStatus(ctx, x.actor, id)
	if err != nil {
		return err
	}
	h := x.w.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("X-Accel-Buffering", "no") // nginx would hold the events back
	x.w.WriteHeader(http.StatusOK)
	flush := http.NewResponseController(x.w)
	send := func(text string, args ...any) error {
		if _, err := fmt.Fprintf(x.w, text, args...); err != nil { //nolint:gosec // an event stream of numbers and state names
			return err
		}
		return flush.Flush()
	}
	if err := send("retry: 1000\n\n"); err != nil {
		return nil // the browser left
	}
	shown := strings.TrimSpace(x.r.URL.Query().Get("version"))
	look, end := time.NewTicker(lookEvery), time.NewTimer(streamLife)
	defer look.Stop()
	defer end.Stop()
	for {
		if version := fmt.Sprint(r.Version); version != shown {
			shown = version
			if err := send("event: changed\ndata: %s\n\n", version); err != nil {
				return nil
			}
		}
		if r.Workflow.Status().Final() {
			_ = send("event: final\ndata: %s\n\n", r.Workflow.Status()) // the stream ends in any case
			return nil
		}
		select {
		case <-ctx.Done():
			return nil
		case <-end.C:
			return nil
		case <-look.C:
		}
		actor, err := x.Auth.Session(ctx, x.cookie)
		if err != nil {
			return nil // signed out; the page finds out when it reconnects
		}
		if r, err = x.Signing.RequestStatus(ctx, actor, id); err != nil {
			if signing.KindOf(err) == 0 && ctx.Err() == nil {
				x.log.Warn("event stream ends", "error", err)
			}
			return nil
		}
	}
}
