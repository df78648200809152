package retrieve

import (
	"compress/gzip"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/countersign-dev/countersign/internal/egress"
	"github.com/countersign-dev/countersign/internal/signing"
)

func TestFetch(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/private":
			if r.Header.Get("Authorization") != "Bearer secret" || r.UserAgent() != "Countersign" {
				w.WriteHeader(http.StatusUnauthorized)
				return
			}
			_, _ = io.WriteString(w, "artifact")
		case "/gzip":
			w.Header().Set("Content-Encoding", "gzip")
			z := gzip.NewWriter(w)
			_, _ = io.WriteString(z, "artifact")
			_ = z.Close()
		case "/loop":
			http.Redirect(w, r, "/loop", http.StatusFound)
		case "/busy":
			w.WriteHeader(http.StatusServiceUnavailable)
		case "/silent":
			_, _ = io.WriteString(w, "arti")
			w.(http.Flusher).Flush()
			<-r.Context().Done()
		case "/partial":
			w.WriteHeader(http.StatusPartialContent)
		case "/limited":
			w.WriteHeader(http.StatusTooManyRequests)
		case "/cut":
			w.Header().Set("Content-Length", "100")
			_, _ = io.WriteString(w, "arti")
		default:
			w.WriteHeader(http.StatusNotFound)
		}
	}))
	t.Cleanup(server.Close)
	open := New(egress.Policy{AllowPrivate: true, AllowHTTP: true})
	for _, c := range []struct {
		name      string
		fetcher   *Fetcher
		url       string
		header    map[string]string
		temporary bool
		message   string // empty: it works
	}{
		{"with header", open, server.URL + "/private", map[string]string{"Authorization": "Bearer secret"}, false, ""},
		{"compressed", open, server.URL + "/gzip", nil, false, ""},
		{"without header", open, server.URL + "/private?token=hidden", nil, false, "401"},
		{"absent", open, server.URL + "/x", nil, false, "404"},
		{"loop", open, server.URL + "/loop", nil, false, "more than 5 redirects"},
		{"rate limit", open, server.URL + "/limited", nil, true, "429"},
		{"part", open, server.URL + "/partial", nil, false, "206"},
		{"busy", open, server.URL + "/busy", nil, true, "503"},
		{"loopback", New(egress.Policy{AllowHTTP: true}), server.URL, nil, false, "not allowed"},
		{"plain HTTP", New(egress.Policy{AllowPrivate: true}), server.URL, nil, false, "not allowed"},
		{"nobody there", open, "http://127.0.0.1:1/", nil, true, "127.0.0.1:1: connect: connection refused"},
		{"no such host", open, "http://nobody.invalid/", nil, true, "nobody.invalid: "},
		{"no URL", open, "http://[", nil, false, "not a URL"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			content, err := c.fetcher.Fetch(t.Context(), c.url, c.header)
			if c.message == "" {
				if err != nil {
					t.Fatal(err)
				}
				raw, err := io.ReadAll(content)
				if err != nil || string(raw) != "artifact" {
					t.Errorf("content %q, %v", raw, err)
				}
				if err := content.Close(); err != nil {
					t.Error(err)
				}
				return
			}
			var fe *signing.FetchError
			if !errors.As(err, &fe) || fe.Temporary != c.temporary || !strings.Contains(fe.Message, c.message) || strings.Contains(fe.Message, "hidden") {
				t.Errorf("error %v (%+v), want temporary %t and %q", err, fe, c.temporary, c.message)
			}
		})
	}
	content, err := open.Fetch(t.Context(), server.URL+"/cut", nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(content); err == nil || !strings.HasSuffix(err.Error(), "the content ended early") {
		t.Errorf("a content that ended early: %v", err)
	}
	if err := content.Close(); err != nil {
		t.Error(err)
	}
	impatient := New(egress.Policy{AllowPrivate: true, AllowHTTP: true})
	impatient.silence = 50 * time.Millisecond
	if content, err = impatient.Fetch(t.Context(), server.URL+"/silent", nil); err != nil {
		t.Fatal(err)
	}
	raw, err := io.ReadAll(content)
	var fe *signing.FetchError
	if string(raw) != "arti" || !errors.As(err, &fe) || !fe.Temporary || !strings.Contains(fe.Message, "sent nothing for 50ms") {
		t.Errorf("of a server that falls silent: %q, %v", raw, err)
	}
	if err := content.Close(); err != nil {
		t.Error(err)
	}
	if err := open.Check("ht tp://x"); err == nil {
		t.Error("a broken URL passed the check")
	}
}

func TestReason(t *testing.T) {
	t.Parallel()
	dial := &net.OpError{Op: "dial", Net: "tcp", Addr: &net.TCPAddr{IP: net.IPv4(10, 0, 0, 5), Port: 443}, Err: errors.New("connection refused")}
	read := &net.OpError{Op: "read", Net: "tcp", Source: &net.TCPAddr{IP: net.IPv4(10, 0, 0, 1), Port: 50000}, Err: errors.New("connection reset")}
	for _, c := range []struct {
		err  error
		want string
	}{
		{&url.Error{Op: "Get", URL: "https://ci.example/?token=hidden", Err: dial}, "connection refused"},
		{&url.Error{Op: "Get", URL: "https://ci.example/?token=hidden", Err: errors.New("bad record MAC")}, "bad record MAC"},
		{read, "connection reset"},
		{&net.OpError{Op: "dial", Err: &net.DNSError{Err: "no such host", Name: "x", Server: "10.0.0.53:53", IsNotFound: true}}, "there is no host of this name"},
		{&net.DNSError{Err: "server misbehaving", Name: "x", Server: "10.0.0.53:53"}, "the host's name could not be looked up"},
		{context.DeadlineExceeded, "it took too long"},
	} {
		if got := reason(c.err); got != c.want {
			t.Errorf("%v: %q, want %q", c.err, got, c.want)
		}
	}
}
