package egress

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"testing"
	"time"
)

func TestCheckIP(t *testing.T) {
	t.Parallel()
	for ip, public := range map[string]bool{
		"8.8.8.8": true, "2606:4700:4700::1111": true, "127.0.0.1": false, "127.9.9.9": false, "10.1.2.3": false,
		"172.16.0.1": false, "172.32.0.1": true, "192.168.1.1": false, "169.254.169.254": false, "100.64.0.1": false,
		"0.0.0.0": false, "255.255.255.255": false, "224.0.0.1": false, "::1": false, "::": false, "fe80::1": false, "fe80::1%eth0": false,
		"fc00::1": false, "ff02::1": false, "::ffff:10.0.0.1": false, "::ffff:8.8.8.8": true, "64:ff9b::a00:1": false,
		"64:ff9b::808:808": false, "64:ff9b:1::1": false, "::a00:1": false, "::7f00:1": false, "::ffff:0:10.0.0.1": false, "fec0::1": false,
		"5f00::1": false, "3fff::1": false, "2001::1": false, "192.88.99.1": false, "::ffff:127.0.0.1": false, "::ffff:169.254.169.254": false,
		"2002:a00:1::": false, "2001:db8::1": false, "198.18.0.1": false, "240.0.0.1": false,
	} {
		err := Policy{}.checkIP(netip.MustParseAddr(ip))
		if (err == nil) != public || err != nil && !errors.Is(err, ErrRefused) {
			t.Errorf("%s: %v, want public %t", ip, err, public)
		}
		if err := (Policy{AllowPrivate: true}).checkIP(netip.MustParseAddr(ip)); err != nil {
			t.Errorf("%s with private networks allowed: %v", ip, err)
		}
	}
}

func TestCheckURL(t *testing.T) {
	t.Parallel()
	for raw, ok := range map[string]bool{
		"https://example.com/x": true, "http://example.com/x": false, "ftp://example.com/": false, "file:///etc/passwd": false,
		"https://127.0.0.1/": false, "https://[::1]/": false, "https://user:pw@example.com/": false, "https:///x": false, "//example.com": false,
		"https://localhost/": false, "https://LocalHost.:8443/": false, "https://app.localhost/": false, "https://localhost.example.com/": true,
	} {
		u, err := url.Parse(raw)
		if err != nil {
			t.Fatal(err)
		}
		if err := (Policy{}).CheckURL(u); (err == nil) != ok || err != nil && !errors.Is(err, ErrRefused) {
			t.Errorf("%s: %v, want ok %t", raw, err, ok)
		}
	}
}

func TestClient(t *testing.T) {
	t.Parallel()
	var seen http.Header
	target := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		seen = r.Header.Clone()
		_, _ = io.WriteString(w, "hello")
	}))
	t.Cleanup(target.Close)
	redirect := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/loop" {
			http.Redirect(w, r, "/loop", http.StatusFound)
			return
		}
		if r.URL.Path == "/file" {
			http.Redirect(w, r, "file:///etc/passwd", http.StatusFound)
			return
		}
		http.Redirect(w, r, target.URL, http.StatusFound)
	}))
	t.Cleanup(redirect.Close)
	get := func(p Policy, u string) (string, error) {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, u, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("X-Api-Key", "secret")
		client := p.Client(5 * time.Second)
		defer client.CloseIdleConnections()
		res, err := client.Do(req)
		if err != nil {
			return "", err
		}
		defer res.Body.Close()
		body, err := io.ReadAll(res.Body)
		return string(body), err
	}
	open := Policy{AllowPrivate: true, AllowHTTP: true}
	if body, err := get(open, redirect.URL); err != nil || body != "hello" {
		t.Errorf("allowed: %q, %v", body, err)
	}
	if seen.Get("X-Api-Key") != "" {
		t.Error("a redirect carried a header to another host")
	}
	// Where a redirect leads is checked as the first address was, and so is what a name means when it is dialed.
	for raw, refused := range map[string]bool{
		"https://169.254.169.254/latest/meta-data": true, "https://[::ffff:10.0.0.1]/": true, "https://localhost/": true,
		"http://example.com/": true, "https://me:secret@example.com/": true, "https://example.com/": false,
	} {
		var via []*http.Request
		for _, u := range []string{"https://ci.example/app.exe", raw} {
			req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, u, nil)
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Authorization", "Bearer secret")
			via = append(via, req)
		}
		if err := (Policy{}).Client(0).CheckRedirect(via[1], via[:1]); errors.Is(err, ErrRefused) != refused || !refused && (err != nil || len(via[1].Header) > 0) {
			t.Errorf("redirect to %s: %v, with %v", raw, err, via[1].Header)
		}
	}
	port := target.URL[strings.LastIndex(target.URL, ":"):]
	for _, host := range []string{"127.0.0.1", "localhost", "[::ffff:127.0.0.1]", "0.0.0.0", "[::]"} {
		connection, err := (Policy{}).Client(0).Transport.(*http.Transport).DialContext(t.Context(), "tcp", host+port)
		if !errors.Is(err, ErrRefused) {
			t.Errorf("dial %s: %v, %v", host, connection, err)
		}
	}
	for name, c := range map[string]struct {
		policy Policy
		url    string
	}{
		"loopback":           {Policy{AllowHTTP: true}, target.URL},
		"name of loopback":   {Policy{AllowHTTP: true}, strings.Replace(target.URL, "127.0.0.1", "localhost", 1)},
		"redirect to a file": {open, redirect.URL + "/file"},
		"endless redirects":  {open, redirect.URL + "/loop"},
	} {
		if _, err := get(c.policy, c.url); !errors.Is(err, ErrRefused) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
