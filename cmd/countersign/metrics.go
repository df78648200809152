package main

import (
	"crypto/subtle"
	"net"
	"net/http"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

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
