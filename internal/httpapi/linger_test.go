package httpapi

import (
	"bufio"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// TestAnswerBeforeTheBody: clients that send everything before they read anything get the answer.
func TestAnswerBeforeTheBody(t *testing.T) {
	t.Parallel()
	server := httptest.NewUnstartedServer(nil)
	server.Config = NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/half" {
			_, _ = io.CopyN(io.Discard, r.Body, 5<<20)
		}
		http.Error(w, "refused", http.StatusUnauthorized)
	}), slog.New(slog.DiscardHandler))
	server.Start()
	t.Cleanup(server.Close)
	chunk := make([]byte, 1<<20)
	send := func(t *testing.T, header string, megabytes int) *http.Response {
		t.Helper()
		conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", server.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		_ = conn.SetDeadline(time.Now().Add(time.Minute))
		if _, err := fmt.Fprint(conn, header, "\r\n"); err != nil {
			t.Fatal(err)
		}
		for range megabytes {
			if _, err := conn.Write(chunk); err != nil {
				t.Fatalf("send: %v", err)
			}
		}
		res, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Fatalf("the answer to %q: %v", header, err)
		}
		return res
	}
	const megabytes = 64
	for _, path := range []string{"/", "/half"} {
		res := send(t, fmt.Sprintf("POST %s HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n", path, megabytes<<20), megabytes)
		body, err := io.ReadAll(res.Body)
		if err != nil || res.StatusCode != http.StatusUnauthorized || !strings.Contains(string(body), "refused") {
			t.Errorf("%s: %s %q %v", path, res.Status, body, err)
		}
	}
	// Who waits to be told to continue is told not to, and does not wait.
	began := time.Now()
	res := send(t, fmt.Sprintf("POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: %d\r\n", megabytes<<20), 0)
	if _, err := io.ReadAll(res.Body); err != nil || res.StatusCode != http.StatusUnauthorized || time.Since(began) > lingerTime/2 {
		t.Errorf("with Expect: %s after %s, %v", res.Status, time.Since(began), err)
	}
}
