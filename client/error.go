package client

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/countersign-dev/countersign/api"
)

// Error is an answer of the server that is not a success: problem details (RFC 9457) as far as it sent them.
type Error struct {
	Status  int    // HTTP status code
	Title   string // short, the same for all problems of a kind
	Detail  string // what is wrong this time; may be empty
	Fields  map[string][]string
	TraceID string // names the request in the server's log; may be empty
	// RetryAfter is how long the server asks to wait before the next try; zero when it says nothing.
	RetryAfter time.Duration
}

// Error returns the problem in one line: the detail, as far as it says more than the fields' messages, these with the
// fields' names, or else the title, the status, and the trace id when the server is to blame.
func (e *Error) Error() string {
	var messages []string
	detail := e.Detail
	for _, field := range slices.Sorted(maps.Keys(e.Fields)) {
		for _, m := range e.Fields[field] {
			detail = strings.Replace(detail, m, "", 1)
			if field != "" {
				m = field + ": " + m
			}
			messages = append(messages, m)
		}
	}
	if detail = strings.TrimSpace(detail); detail != "" || len(messages) == 0 { // a title says no more than that fields are wrong
		messages = append([]string{cmp.Or(detail, e.Title)}, messages...)
	}
	text := fmt.Sprintf("%s (status %d", strings.Join(messages, " "), e.Status)
	if e.TraceID != "" && e.Status >= 500 {
		text += ", trace " + e.TraceID
	}
	return text + ")"
}

// Temporary reports whether the server invites another try: status 429, 502, 503 or 504.
func (e *Error) Temporary() bool {
	switch e.Status {
	case http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return true
	}
	return false
}

// problemLimit bounds how much of an error answer is read.
const problemLimit = 1 << 20

// readError turns an answer into an error. It reads the body, but does not close it.
func readError(resp *http.Response) *Error {
	e := &Error{Status: resp.StatusCode, Title: http.StatusText(resp.StatusCode), RetryAfter: retryAfter(resp.Header.Get("Retry-After"), time.Now())}
	raw, _ := io.ReadAll(io.LimitReader(resp.Body, problemLimit)) // what has arrived has to do
	var p api.Problem
	if strings.Contains(resp.Header.Get("Content-Type"), "json") && json.Unmarshal(raw, &p) == nil {
		e.Title, e.Detail, e.Fields, e.TraceID = cmp.Or(p.Title, e.Title), p.Detail, p.Errors, p.TraceID
	}
	if target := resp.Header.Get("Location"); resp.StatusCode/100 == 3 && target != "" {
		e.Detail = fmt.Sprintf("The server redirects %s to %s: use that address.", resp.Request.URL.Redacted(), target)
	}
	return e
}

// retryAfter reads the header of that name (RFC 9110, section 10.2.3): seconds or a date. Zero stands for none.
func retryAfter(value string, now time.Time) time.Duration {
	if seconds, err := strconv.ParseUint(strings.TrimSpace(value), 10, 31); err == nil {
		return time.Duration(seconds) * time.Second
	}
	if at, err := http.ParseTime(value); err == nil && at.After(now) {
		return at.Sub(now)
	}
	return 0
}
