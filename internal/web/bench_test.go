package web

import (
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
)

// BenchmarkPages measures whole pages on the embedded database, with 200 requests in it: session, domain and rendering.
func BenchmarkPages(b *testing.B) {
	w := newWorld(b)
	r := w.request(b, w.Sam, w.Test)
	for range 200 {
		w.request(b, w.Sam, w.Release)
	}
	h, err := New(Config{Signing: w.Service, Auth: w.auth})
	if err != nil {
		b.Fatal(err)
	}
	for name, path := range map[string]string{
		"dashboard": w.path(), "list": w.path("SigningRequests"), "request": w.requestPath(r.ID), "policy": w.path("Projects", "app", "SigningPolicies", "release-signing"),
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				r := httptest.NewRequestWithContext(b.Context(), http.MethodGet, path, nil)
				r.AddCookie(&http.Cookie{Name: sessionCookie, Value: w.cookies[w.Sam.UserID]})
				rec := httptest.NewRecorder()
				h.ServeHTTP(rec, r)
				if n, err := io.Copy(io.Discard, rec.Body); rec.Code != http.StatusOK || n == 0 || err != nil {
					b.Fatal(rec.Code, err)
				}
			}
		})
	}
}
