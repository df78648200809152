package client_test

import (
	"bytes"
	"io"
	"net/http"
	"path/filepath"
	"testing"
	"time"

	"github.com/countersign-dev/countersign/api"
	"github.com/countersign-dev/countersign/client"
)

const benchmarkSize = 64 << 20

func benchmarkClient(b *testing.B, h http.HandlerFunc) *client.Client {
	b.Helper()
	b.SetBytes(benchmarkSize)
	b.ReportAllocs()
	return connect(b, h)
}

func BenchmarkSubmit(b *testing.B) {
	c := benchmarkClient(b, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		answer(w, http.StatusCreated, api.SubmittedSigningRequest{SigningRequestID: request})
	})
	for b.Loop() {
		if _, err := c.Submit(b.Context(), client.Submission{Artifact: client.Upload{Name: "a", Content: zeros{}, Size: benchmarkSize}}); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkDownload(b *testing.B) {
	large := make([]byte, benchmarkSize)
	c := benchmarkClient(b, func(w http.ResponseWriter, r *http.Request) {
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(large))
	})
	path := filepath.Join(b.TempDir(), "f")
	for b.Loop() {
		if _, err := c.Download(b.Context(), request, path, client.DownloadOptions{Replace: true}); err != nil {
			b.Fatal(err)
		}
	}
}
