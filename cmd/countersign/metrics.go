package main

import (
	"context"
	"crypto/subtle"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/countersign-dev/countersign/internal/store"
)

// durations are the histograms' buckets in seconds: from a status that is polled to an artifact of gigabytes.
var durations = []float64{0.001, 0.005, 0.025, 0.1, 0.5, 2, 10, 60, 600}

// registerMetrics registers what /metrics shows besides the runtime's numbers.
func registerMetrics(s *system) {
	s.metrics.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	s.metrics.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "countersign_build_info", Help: "1, labelled with the version.", ConstLabels: prometheus.Labels{"version": buildVersion()},
	}, func() float64 { return 1 }))
	if s.pool != nil {
		s.metrics.MustRegister(timestampCollector{s})
	}
}

// measureRequests counts and times the requests that a handler answers.
func measureRequests(registry *prometheus.Registry, h http.Handler) http.Handler {
	seconds := prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "countersign_http_request_duration_seconds", Help: "Time to answer a request, transfers included.", Buckets: durations,
	}, []string{"method", "code"})
	registry.MustRegister(seconds)
	return promhttp.InstrumentHandlerDuration(seconds, h)
}

// measureJobs counts and times the worker's jobs: the steps of signing requests, and the deliveries of messages.
func measureJobs(registry *prometheus.Registry, work func(context.Context, store.Job) error) func(context.Context, store.Job) error {
	seconds := prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "countersign_job_duration_seconds", Help: "Time that a job of this kind took; failed ones are tried again.", Buckets: durations,
	}, []string{"kind", "outcome"})
	registry.MustRegister(seconds)
	return func(ctx context.Context, j store.Job) error {
		start := time.Now()
		err := work(ctx, j)
		outcome := "done"
		if err != nil {
			outcome = "failed"
		}
		seconds.WithLabelValues(j.Kind, outcome).Observe(time.Since(start).Seconds())
		return err
	}
}

// timestampCollector shows the health of the timestamp authorities.
type timestampCollector struct{ system *system }

var (
	timestampHealthy = prometheus.NewDesc("countersign_timestamp_authority_healthy", "1 while the authority's last answer was good.", []string{"authority"}, nil)
	timestampAnswers = prometheus.NewDesc("countersign_timestamp_authority_answers_total", "Requests to the authority by outcome.", []string{"authority", "outcome"}, nil)
)

// Describe sends the collector's metrics.
func (timestampCollector) Describe(ch chan<- *prometheus.Desc) {
	ch <- timestampHealthy
	ch <- timestampAnswers
}

// Collect sends the present values.
func (c timestampCollector) Collect(ch chan<- prometheus.Metric) {
	for _, h := range c.system.pool.Health() {
		healthy := 0.0
		if h.Healthy {
			healthy = 1
		}
		ch <- prometheus.MustNewConstMetric(timestampHealthy, prometheus.GaugeValue, healthy, h.Name)
		for outcome, n := range map[string]uint64{"granted": h.Successes, "failed": h.Failures, "rejected": h.Rejections, "rate-limited": h.RateLimited} {
			ch <- prometheus.MustNewConstMetric(timestampAnswers, prometheus.CounterValue, float64(n), h.Name, outcome)
		}
	}
}

// metricsHandler serves the registry to this machine, and to whoever sends the token.
func metricsHandler(registry *prometheus.Registry, token string) http.Handler {
	metrics := promhttp.HandlerFor(registry, promhttp.HandlerOpts{Registry: registry})
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host, _, err := net.SplitHostPort(r.RemoteAddr)
		local := err == nil && net.ParseIP(host).IsLoopback() && r.Header.Get("X-Forwarded-For") == "" && r.Header.Get("Forwarded") == ""
		given, bearer := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		known := token != "" && bearer && subtle.ConstantTimeCompare([]byte(given), []byte(token)) == 1
		if !local && !known {
			http.Error(w, "metrics are for this machine only; set --metrics-token to read them from elsewhere", http.StatusForbidden)
			return
		}
		metrics.ServeHTTP(w, r)
	})
}
