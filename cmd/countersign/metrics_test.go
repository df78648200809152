package main

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/countersign-dev/countersign/internal/store"
)

// TestMetrics: requests and jobs are counted, and strangers do not see how many there are.
func TestMetrics(t *testing.T) {
	t.Parallel()
	registry := prometheus.NewRegistry()
	pages := measureRequests(registry, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) }))
	pages.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "/", nil))
	failure := errors.New("failure")
	jobs := measureJobs(registry, func(_ context.Context, j store.Job) error {
		if j.Kind == "deliver" {
			return failure
		}
		return nil
	})
	if err := jobs(t.Context(), store.Job{Kind: "advance"}); err != nil {
		t.Fatal(err)
	}
	if err := jobs(t.Context(), store.Job{Kind: "deliver"}); !errors.Is(err, failure) {
		t.Fatalf("got error %v", err)
	}

	metrics := metricsHandler(registry, "secret")
	for _, tt := range []struct {
		name, remote, header, value string
		want                        int
	}{
		{"this machine", "127.0.0.1:1", "", "", http.StatusOK},
		{"another one", "192.0.2.1:1", "", "", http.StatusForbidden},
		{"another one behind a proxy here", "127.0.0.1:1", "X-Forwarded-For", "192.0.2.1", http.StatusForbidden},
		{"wrong token", "192.0.2.1:1", "Authorization", "Bearer guess", http.StatusForbidden},
		{"token", "192.0.2.1:1", "Authorization", "Bearer secret", http.StatusOK},
	} {
		r := httptest.NewRequest(http.MethodGet, "/metrics", nil)
		r.RemoteAddr = tt.remote
		if tt.header != "" {
			r.Header.Set(tt.header, tt.value)
		}
		w := httptest.NewRecorder()
		metrics.ServeHTTP(w, r)
		if w.Code != tt.want {
			t.Errorf("%s: status %d, want %d", tt.name, w.Code, tt.want)
		}
		for _, line := range []string{
			`countersign_http_request_duration_seconds_count{code="418",method="get"} 1`,
			`countersign_job_duration_seconds_count{kind="advance",outcome="done"} 1`,
			`countersign_job_duration_seconds_count{kind="deliver",outcome="failed"} 1`,
		} {
			if got := strings.Contains(w.Body.String(), line+"\n"); got != (tt.want == http.StatusOK) {
				t.Errorf("%s: line %q is there: %t", tt.name, line, got)
			}
		}
	}
}
