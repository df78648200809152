package httpapi

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"mime"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"testing/quick"

	"github.com/countersign-dev/countersign/api"
)

type closingReader struct {
	*bytes.Reader
	closed chan<- bool
}

func (c closingReader) Close() error { c.closed <- true; return nil }

func TestDownload(t *testing.T) {
	t.Parallel()
	content := bytes.Repeat([]byte("0123456789"), 1000)
	sum := sha256.Sum256(content)
	digest := hex.EncodeToString(sum[:])
	closed := make(chan bool, 1)
	h, _ := newTestHandler(t, &operations{
		signed: func(ctx context.Context, _ api.GetSignedArtifactRequestObject) (api.GetSignedArtifactResponseObject, error) {
			return &download{
				request: exchangeOf(ctx).request, name: "Größe \"1\".exe", sha256: digest,
				content: closingReader{bytes.NewReader(content), closed}, size: int64(len(content)),
			}, nil
		}}, Options{})
	target := "/Api/v1/" + testOrg + "/SigningRequests/" + testRequest + "/SignedArtifact"
	etag := `"` + digest + `"`
	tests := []struct {
		name, method string
		header       []string
		status       int
		body         string
	}{
		{"whole", "GET", nil, 200, string(content)},
		{"head", "HEAD", nil, 200, ""},
		{"range", "GET", []string{"Range", "bytes=5-9"}, 206, "56789"},
		{"resume", "GET", []string{"Range", "bytes=9995-", "If-Range", etag}, 206, "56789"},
		{"resume of another file", "GET", []string{"Range", "bytes=9995-", "If-Range", `"other"`}, 200, string(content)},
		{"suffix", "GET", []string{"Range", "bytes=-3"}, 206, "789"},
		{"known", "GET", []string{"If-None-Match", etag}, 304, ""},
	}
	for _, tt := range tests {
		resp := call(t, h, tt.method, target, "", tt.header...)
		if !<-closed {
			t.Errorf("%s: not closed", tt.name)
		}
		if body := readBody(t, resp); resp.StatusCode != tt.status || body != tt.body {
			t.Errorf("%s: %d with %d bytes", tt.name, resp.StatusCode, len(body))
		}
		if resp.Header.Get("Etag") != etag {
			t.Errorf("%s: ETag %q", tt.name, resp.Header.Get("Etag"))
		}
		if tt.status == 200 {
			if got := resp.Header.Get("Content-Disposition"); got != `attachment; filename="Gr__e _1_.exe"; filename*=UTF-8''Gr%C3%B6%C3%9Fe%20%221%22.exe` {
				t.Errorf("%s: Content-Disposition %s", tt.name, got)
			}
			if resp.ContentLength != int64(len(content)) || resp.Header.Get("Accept-Ranges") != "bytes" {
				t.Errorf("%s: length %d, header %v", tt.name, resp.ContentLength, resp.Header)
			}
		}
	}
	resp := call(t, h, "GET", target, "", "Range", "bytes=10000-")
	<-closed
	wantProblem(t, resp, http.StatusRequestedRangeNotSatisfiable)
	if resp.Header.Get("Content-Range") != "bytes */10000" || resp.Header.Get("Content-Disposition") != "" {
		t.Errorf("header of a refused range: %v", resp.Header)
	}
}

// A Content-Disposition must be read back as the cleaned name by another parser, whatever the name, and hold nothing
// that could end the header or the quoted string.
func TestContentDispositionRoundTrip(t *testing.T) {
	t.Parallel()
	safe := regexp.MustCompile(`^attachment; filename="[^"\\%;\x00-\x1f\x7f-\x{10ffff}]*"; filename\*=UTF-8''[!#$&+\-.^_` + "`" + `|~0-9A-Za-z%]+$`)
	check := func(name string) bool {
		got := contentDisposition(name)
		_, params, err := mime.ParseMediaType(got)
		ok := err == nil && params["filename"] == cleanFileName(name) && safe.MatchString(got)
		if !ok {
			t.Logf("%q: %s (%v)", name, got, err)
		}
		return ok
	}
	for _, name := range []string{"a.exe", "a b.exe", `"; filename="evil.exe`, "a\r\nX: y", "100%.exe", "ä'ö.exe", "日本.msi", "\u202efdp.exe", strings.Repeat("ü", 300), "\xff", "a;b", ""} {
		if !check(name) {
			t.Errorf("contentDisposition(%q)", name)
		}
	}
	if err := quick.Check(check, nil); err != nil {
		t.Error(err)
	}
}
