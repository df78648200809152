package main

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestBehindProxies(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, proxies, peer, header, want string }{
		{"no proxy is trusted", "", "10.0.0.5:1234", "203.0.113.9", "10.0.0.5:1234"},
		{"another peer", "10.0.0.5", "10.0.0.6:1234", "203.0.113.9", "10.0.0.6:1234"},
		{"a proxy", "10.0.0.5", "10.0.0.5:1234", "203.0.113.9", "203.0.113.9"},
		{"a proxy that names nobody", "10.0.0.5", "10.0.0.5:1234", "", "10.0.0.5"},
		{"what a client claims", "10.0.0.5", "10.0.0.5:1234", "127.0.0.1, 203.0.113.9", "203.0.113.9"},
		{"a row of proxies", "10.0.0.0/8, fd00::/8", "10.0.0.5:1234", "198.51.100.1, 203.0.113.9, [fd00::7]:443,10.9.9.9", "203.0.113.9"},
		{"several headers", "10.0.0.0/8", "10.0.0.5:1234", "198.51.100.1|203.0.113.9|10.9.9.9", "203.0.113.9"},
		{"proxies alone", "10.0.0.0/8", "10.0.0.5:1234", "10.0.0.1, 10.0.0.2", "10.0.0.1"},
		{"nonsense", "10.0.0.0/8", "10.0.0.5:1234", "203.0.113.9, unknown, 10.0.0.2", "10.0.0.2"},
		{"with a port", "10.0.0.0/8", "10.0.0.5:1234", "203.0.113.9:5555", "203.0.113.9"},
		{"IPv6", "::1", "[::1]:1234", "2001:db8::1", "2001:db8::1"},
		{"IPv4 in IPv6", "127.0.0.1", "[::ffff:127.0.0.1]:1234", "::ffff:203.0.113.9", "203.0.113.9"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			var list []string
			if c.proxies != "" {
				list = strings.Split(c.proxies, ", ")
			}
			networks, err := parseNetworks("--trusted-proxy", list)
			if err != nil {
				t.Fatal(err)
			}
			got := ""
			h := behindProxies(networks, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { got = r.RemoteAddr }))
			r := httptest.NewRequest(http.MethodGet, "/", nil)
			r.RemoteAddr = c.peer
			for _, value := range strings.Split(c.header, "|") {
				r.Header.Add("X-Forwarded-For", value)
			}
			h.ServeHTTP(httptest.NewRecorder(), r)
			if got != c.want {
				t.Errorf("%q, want %q", got, c.want)
			}
			if r.RemoteAddr != c.peer {
				t.Error("the caller's request was changed")
			}
		})
	}
	for _, bad := range []string{"", "proxy.example", "10.0.0.0/33", "10.0.0.5:80"} {
		if _, err := parseNetworks("--trusted-proxy", []string{bad}); err == nil || !strings.Contains(err.Error(), "--trusted-proxy") {
			t.Errorf("%q: %v", bad, err)
		}
	}
}
