package client_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"mime"
	"mime/multipart"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/countersign-dev/countersign/api"
	"github.com/countersign-dev/countersign/client"
)

const (
	organization = "01939c5e-7a10-7c3f-8a55-0d9a4d3c2b1a"
	request      = "01939c5e-7a10-7c3f-8a55-0d9a4d3c2b1b"
	requests     = "/Api/v1/" + organization + "/SigningRequests"
)

// connect returns a client of a handler, with short pauses.
func connect(t testing.TB, h http.HandlerFunc, opts ...client.Option) *client.Client {
	t.Helper()
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	opts = append([]client.Option{client.WithRetry(client.Retry{Attempts: 4, First: time.Millisecond, Longest: 20 * time.Millisecond}), client.WithPoll(time.Millisecond)}, opts...)
	c, err := client.New(server.URL, "token", organization, opts...)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func answer(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v)
}

func problem(w http.ResponseWriter, status int, detail string, fields map[string][]string) {
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(api.Problem{Status: status, Title: http.StatusText(status), Detail: detail, Errors: fields, TraceID: "00-trace"})
}

func state(status api.SigningRequestStatus, final bool) api.SigningRequestState {
	return api.SigningRequestState{SigningRequestID: request, Status: status, WorkflowStatus: api.WorkflowStatus(status), IsFinalStatus: final}
}

func TestNew(t *testing.T) {
	t.Parallel()
	for _, base := range []string{"", "/", "/Api", "/api/", "/Api/v1", "/v1/", "/sign/Api", "/sign"} {
		var path atomic.Value
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			path.Store(r.URL.Path)
			if got := r.Header.Get("Authorization"); got != "Bearer token:build" {
				t.Errorf("Authorization is %q", got)
			}
			answer(w, 200, api.SystemInfo{Product: "Countersign"})
		}))
		t.Cleanup(server.Close)
		c, err := client.New(server.URL+base, "token", organization, client.WithTrustedBuildSystem("build"))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.SystemInfo(t.Context()); err != nil {
			t.Fatal(err)
		}
		want := "/Api/v1/Meta/SystemInfo"
		switch {
		case strings.Contains(base, "sign"):
			want = "/sign" + want
		case base == "/api/":
			want = "/api/v1/Meta/SystemInfo"
		}
		if got := path.Load(); got != want {
			t.Errorf("base %q asks for %s, want %s", base, got, want)
		}
	}
	for _, base := range []string{"", "sign.example.com", "ftp://sign.example.com", "https://", "https://sign.example.com?x=1", ":"} {
		if _, err := client.New(base, "token", organization); err == nil {
			t.Errorf("New(%q) takes it", base)
		}
	}
	if _, err := client.New("https://sign.example.com", "token\n", organization); err == nil {
		t.Error("New takes a token with a line break")
	}
}

func TestErrors(t *testing.T) {
	t.Parallel()
	var calls atomic.Int32
	c := connect(t, func(w http.ResponseWriter, r *http.Request) {
		calls.Add(1)
		switch filepath.Base(r.URL.Path) {
		case "fields":
			problem(w, 400, "", map[string][]string{"SigningPolicySlug": {"There is none."}, "": {"And more."}})
		case "detail":
			problem(w, 400, "Both are wrong: One. Two.", map[string][]string{"A": {"One."}, "B": {"Two."}})
		case "same":
			problem(w, 400, "One. Two.", map[string][]string{"A": {"One."}, "B": {"Two."}})
		case "plain":
			http.Error(w, "no", http.StatusForbidden)
		case "html":
			w.Header().Set("Content-Type", "text/html")
			fmt.Fprint(w, "<html>hello</html>")
		case "moved":
			http.Redirect(w, r, "https://elsewhere.example.com/", http.StatusMovedPermanently)
		default:
			problem(w, 500, "It broke.", nil)
		}
	})
	for _, tt := range []struct {
		id, text string
		status   int
	}{
		{"fields", "And more. SigningPolicySlug: There is none. (status 400)", 400},
		{"detail", "Both are wrong: A: One. B: Two. (status 400)", 400},
		{"same", "A: One. B: Two. (status 400)", 400},
		{"plain", "Forbidden (status 403)", 403},
		{"other", "It broke. (status 500, trace 00-trace)", 500},
	} {
		calls.Store(0)
		_, err := c.Get(t.Context(), tt.id)
		var e *client.Error
		if !errors.As(err, &e) || e.Status != tt.status || e.Error() != tt.text {
			t.Errorf("%s: %v", tt.id, err)
		}
		if calls.Load() != 1 {
			t.Errorf("%s: asked %d times: a refusal is final", tt.id, calls.Load())
		}
	}
	if _, err := c.Get(t.Context(), "html"); err == nil || !strings.Contains(err.Error(), "is http://127.0.0.1:") {
		t.Errorf("a web page for an answer: %v", err)
	}
	if _, err := c.Get(t.Context(), "moved"); err == nil || !strings.Contains(err.Error(), "redirects") || !strings.Contains(err.Error(), "https://elsewhere.example.com/") {
		t.Errorf("a redirect elsewhere: %v", err)
	}
}

func TestTriesAgain(t *testing.T) {
	t.Parallel()
	for _, status := range []int{429, 502, 503, 504} {
		var calls atomic.Int32
		c := connect(t, func(w http.ResponseWriter, _ *http.Request) {
			if calls.Add(1) < 4 {
				w.Header().Set("Retry-After", "0")
				problem(w, status, "later", nil)
				return
			}
			answer(w, 200, state("Completed", true))
		})
		if _, err := c.Status(t.Context(), request); err != nil || calls.Load() != 4 {
			t.Errorf("status %d: %d calls, %v", status, calls.Load(), err)
		}
	}
	// It gives up in the end, with the last refusal.
	var calls atomic.Int32
	c := connect(t, func(w http.ResponseWriter, _ *http.Request) { calls.Add(1); problem(w, 503, "busy", nil) })
	_, err := c.Status(t.Context(), request)
	var e *client.Error
	if !errors.As(err, &e) || e.Status != 503 || calls.Load() != 4 {
		t.Errorf("%d calls, %v", calls.Load(), err)
	}
}

func TestRetryAfter(t *testing.T) {
	t.Parallel()
	var times []time.Time
	c := connect(t, func(w http.ResponseWriter, _ *http.Request) {
		if times = append(times, time.Now()); len(times) == 1 {
			w.Header().Set("Retry-After", "3600") // bounded by Longest
			problem(w, 503, "later", nil)
			return
		}
		answer(w, 200, state("Completed", true))
	}, client.WithRetry(client.Retry{Attempts: 2, First: time.Nanosecond, Longest: 30 * time.Millisecond}))
	if _, err := c.Status(t.Context(), request); err != nil {
		t.Fatal(err)
	}
	if waited := times[1].Sub(times[0]); waited < 30*time.Millisecond {
		t.Errorf("tried again after %s although the server asked for more", waited)
	}
}

// TestOnce: what changes something is not repeated when the server may have done it.
func TestOnce(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name  string
		fail  func(http.ResponseWriter)
		calls int32
	}{
		{"lost answer", func(w http.ResponseWriter) { hangUp(w) }, 1},
		{"bad gateway", func(w http.ResponseWriter) { problem(w, 502, "", nil) }, 1},
		{"busy", func(w http.ResponseWriter) { problem(w, 503, "", nil) }, 2},
		{"too many", func(w http.ResponseWriter) { problem(w, 429, "", nil) }, 2},
	} {
		var calls atomic.Int32
		c := connect(t, func(w http.ResponseWriter, _ *http.Request) {
			if calls.Add(1) == 1 {
				tt.fail(w)
				return
			}
			answer(w, 200, state("InProgress", false))
		})
		_, err := c.Approve(t.Context(), request, "good")
		if calls.Load() != tt.calls || (err == nil) != (tt.calls == 2) {
			t.Errorf("%s: %d calls, %v", tt.name, calls.Load(), err)
		}
	}
}

// hangUp cuts the connection.
func hangUp(w http.ResponseWriter) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err == nil {
		_ = conn.(*net.TCPConn).SetLinger(0)
		conn.Close()
	}
}

func TestStall(t *testing.T) {
	t.Parallel()
	var calls atomic.Int32
	c := connect(t, func(w http.ResponseWriter, r *http.Request) {
		switch calls.Add(1) {
		case 1: // no answer at all
			<-r.Context().Done()
		case 2: // an answer that stops in its middle
			w.Header().Set("Content-Length", "1000")
			_, _ = io.WriteString(w, "{")
			w.(http.Flusher).Flush()
			<-r.Context().Done()
		default:
			answer(w, 200, state("Completed", true))
		}
	}, client.WithStall(50*time.Millisecond))
	if _, err := c.Status(t.Context(), request); err != nil || calls.Load() != 3 {
		t.Errorf("%d calls, %v", calls.Load(), err)
	}
}

func TestUnreachable(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.NotFoundHandler())
	server.Close()
	c, err := client.New(server.URL, "token", organization, client.WithRetry(client.Retry{Attempts: 3, First: time.Millisecond, Longest: time.Millisecond}))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Cancel(t.Context(), request, ""); err == nil || !strings.Contains(err.Error(), "the server cannot be reached; check its address, and that it runs") {
		t.Error(err)
	}
}

func TestCertificateErrorsAreFinal(t *testing.T) {
	t.Parallel()
	var calls atomic.Int32
	server := httptest.NewUnstartedServer(http.NotFoundHandler())
	server.TLS = &tls.Config{GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { calls.Add(1); return nil, nil }}
	server.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, 0)
	server.StartTLS()
	defer server.Close()
	c, err := client.New(server.URL, "token", organization, client.WithRetry(client.Retry{Attempts: 3, First: time.Millisecond, Longest: time.Millisecond}))
	if err != nil {
		t.Fatal(err)
	}
	if _, err = c.Status(t.Context(), request); err == nil || calls.Load() != 1 {
		t.Errorf("%d connections, %v", calls.Load(), err)
	}
}

// received is what a server got of a submission.
type received struct {
	key    string
	fields map[string]string
	files  map[string]string
}

func receive(t *testing.T, r *http.Request) received {
	got := received{r.Header.Get("Idempotency-Key"), map[string]string{}, map[string]string{}}
	_, params, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil {
		t.Error(err)
		return got
	}
	for m := multipart.NewReader(r.Body, params["boundary"]); ; {
		p, err := m.NextPart()
		if errors.Is(err, io.EOF) {
			return got
		}
		if err != nil {
			t.Error(err)
			return got
		}
		b, err := io.ReadAll(p)
		if err != nil {
			t.Error(err)
		}
		if p.FileName() != "" {
			got.files[p.FormName()] = p.FileName() + " " + string(b)
		} else {
			got.fields[p.FormName()] = string(b)
		}
	}
}

func upload(name, content string) client.Upload {
	return client.Upload{Name: name, Content: strings.NewReader(content), Size: int64(len(content))}
}

// TestSubmit: the connection breaks in the middle of the first upload and the server is busy at the second; the third
// attempt sends everything again under the same key.
func TestSubmit(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var got []received
	calls := 0
	c := connect(t, func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		if r.URL.Path != requests+"/SubmitWithArtifact" || r.ContentLength <= 0 {
			t.Errorf("%s, %d bytes", r.URL.Path, r.ContentLength)
		}
		switch calls++; calls {
		case 1:
			_, _ = io.CopyN(io.Discard, r.Body, 100)
			hangUp(w)
		case 2:
			got = append(got, receive(t, r))
			problem(w, 503, "", nil)
		default:
			got = append(got, receive(t, r))
			answer(w, 201, api.SubmittedSigningRequest{SigningRequestID: request, Status: "InProgress"})
		}
	})
	settings := upload("build.yml", "steps")
	var sent []int64
	artifact := upload("ä b.exe", strings.Repeat("x", 1<<20))
	artifact.Progress = func(n int64) { sent = append(sent, n) }
	r, err := c.Submit(t.Context(), client.Submission{
		ProjectSlug: "app", PolicySlug: "test", Artifact: artifact, Description: "d", Parameters: map[string]string{"a.b": "1", "c": "2"},
		Origin:              client.Origin{RepositoryURL: "https://example.com/r", Branch: "main", Commit: "abc", SourceControl: "git", BuildURL: "https://ci", BuildSettings: &settings},
		CancellationTimeout: time.Minute,
	})
	if err != nil || r.SigningRequestID != request {
		t.Fatal(r, err)
	}
	if len(got) != 2 || got[0].key == "" || got[0].key != got[1].key {
		t.Fatalf("the attempts do not have one key: %d", len(got))
	}
	want := map[string]string{
		"projectSlug": "app", "signingPolicySlug": "test", "description": "d", "parameters.a.b": "1", "parameters.c": "2",
		"origin.repositoryData.url": "https://example.com/r", "origin.repositoryData.branchName": "main", "origin.repositoryData.commitId": "abc",
		"origin.repositoryData.sourceControlManagementType": "git", "origin.buildData.url": "https://ci", "cancellationTimeoutInSeconds": "60",
	}
	if diff := cmp.Diff(want, got[1].fields); diff != "" {
		t.Error(diff)
	}
	if f := got[1].files; f["origin.buildData.buildSettingsFile"] != "build.yml steps" || f["artifact"] != "ä b.exe "+strings.Repeat("x", 1<<20) {
		t.Errorf("files: %.80q", f)
	}
	if len(sent) == 0 || sent[len(sent)-1] != 1<<20 {
		t.Error("progress does not reach the end")
	}
}

// TestResubmit: an answer that got lost does not make a second request.
func TestResubmit(t *testing.T) {
	t.Parallel()
	var keys []string
	c := connect(t, func(w http.ResponseWriter, r *http.Request) {
		if keys = append(keys, r.Header.Get("Idempotency-Key")); len(keys) == 1 {
			hangUp(w)
			return
		}
		answer(w, 201, api.SubmittedSigningRequest{SigningRequestID: request})
	})
	if _, err := c.Resubmit(t.Context(), client.Resubmission{Original: request, PolicySlug: "release"}); err != nil {
		t.Fatal(err)
	}
	if len(keys) != 2 || keys[0] == "" || keys[0] != keys[1] {
		t.Errorf("keys %q", keys)
	}
}

// TestSubmitShrunk: a file that got shorter while it is sent is an error of its own, not of the network.
func TestSubmitShrunk(t *testing.T) {
	t.Parallel()
	var calls atomic.Int32
	c := connect(t, func(_ http.ResponseWriter, r *http.Request) { calls.Add(1); _, _ = io.Copy(io.Discard, r.Body) })
	_, err := c.Submit(t.Context(), client.Submission{Artifact: client.Upload{Name: "a", Content: strings.NewReader("short"), Size: 1 << 20}})
	if !errors.Is(err, io.ErrUnexpectedEOF) || calls.Load() > 1 {
		t.Errorf("%d calls, %v", calls.Load(), err)
	}
}

// zeros is a large file that takes no memory.
type zeros struct{}

func (zeros) ReadAt(p []byte, _ int64) (int, error) { clear(p); return len(p), nil }

// TestSubmitStreams: memory does not grow with the artifact.
func TestSubmitStreams(t *testing.T) { //nolint:paralleltest // measures memory
	c := connect(t, func(w http.ResponseWriter, r *http.Request) {
		n, err := io.Copy(io.Discard, r.Body)
		if err != nil || n < 256<<20 {
			t.Error(n, err)
		}
		answer(w, 201, api.SubmittedSigningRequest{SigningRequestID: request})
	})
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	if _, err := c.Submit(t.Context(), client.Submission{Artifact: client.Upload{Name: "large", Content: zeros{}, Size: 256 << 20}}); err != nil {
		t.Fatal(err)
	}
	runtime.ReadMemStats(&after)
	if grown := after.TotalAlloc - before.TotalAlloc; grown > 32<<20 {
		t.Errorf("sending 256 MiB allocated %d MiB", grown>>20)
	}
}

func TestWait(t *testing.T) {
	t.Parallel()
	steps := []api.SigningRequestState{state("InProgress", false), state("InProgress", false), state("WaitingForApproval", false), state("Completed", true)}
	var calls atomic.Int32
	c := connect(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != requests+"/"+request+"/Status" {
			t.Error(r.URL.Path)
		}
		answer(w, 200, steps[min(int(calls.Add(1)), len(steps))-1])
	})
	var seen []api.SigningRequestStatus
	note := func(s *api.SigningRequestState) { seen = append(seen, s.Status) }
	last, err := c.Wait(t.Context(), request, client.WaitOptions{Changed: note})
	if err != nil || last.Status != "Completed" {
		t.Fatal(last, err)
	}
	if diff := cmp.Diff([]api.SigningRequestStatus{"InProgress", "WaitingForApproval", "Completed"}, seen); diff != "" {
		t.Error(diff)
	}
	calls.Store(0)
	last, err = c.Wait(t.Context(), request, client.WaitOptions{Until: func(s *api.SigningRequestState) bool { return s.Status == "WaitingForApproval" }})
	if err != nil || last.Status != "WaitingForApproval" {
		t.Fatal(last, err)
	}
	// The context ends it, and the last status is told.
	ctx, cancel := context.WithCancel(t.Context())
	calls.Store(0)
	steps = steps[:1]
	last, err = c.Wait(ctx, request, client.WaitOptions{Changed: func(*api.SigningRequestState) { cancel() }})
	if !errors.Is(err, context.Canceled) || last == nil || last.Status != "InProgress" {
		t.Fatal(last, err)
	}
}

// content is a file that servers of downloads have.
var content = bytes.Repeat([]byte("0123456789abcdef"), 1<<16)

func sumOf(b []byte) string { s := sha256.Sum256(b); return hex.EncodeToString(s[:]) }

// serveContent answers as the server does.
func serveContent(w http.ResponseWriter, r *http.Request, b []byte) {
	sum := sha256.Sum256(b)
	w.Header().Set("Etag", `"`+hex.EncodeToString(sum[:])+`"`)
	w.Header().Set("Repr-Digest", "sha-256=:"+base64.StdEncoding.EncodeToString(sum[:])+":")
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(b))
}

// cutting lets so many bytes through and then cuts the connection.
type cutting struct {
	http.ResponseWriter
	left int
}

func (c *cutting) Write(p []byte) (int, error) {
	n := min(len(p), c.left)
	c.left -= n
	_, _ = c.ResponseWriter.Write(p[:n])
	if n < len(p) {
		panic(http.ErrAbortHandler)
	}
	return n, nil
}

// onlyFile fails when the directory holds anything else than the named files.
func onlyFiles(t *testing.T, dir string, names ...string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	found := []string{}
	for _, e := range entries {
		found = append(found, e.Name())
	}
	if diff := cmp.Diff(append([]string{}, names...), found); diff != "" {
		t.Errorf("files in the directory: %s", diff)
	}
}

// TestDownloadResumes: the connection is cut again and again, more often than there are attempts; it goes on where it was.
func TestDownloadResumes(t *testing.T) {
	t.Parallel()
	var ranges []string
	c := connect(t, func(w http.ResponseWriter, r *http.Request) {
		ranges = append(ranges, r.Header.Get("Range"))
		serveContent(&cutting{w, 150_000}, r, content)
	})
	dir := t.TempDir()
	path := filepath.Join(dir, "signed.exe")
	var last, total int64
	d, err := c.Download(t.Context(), request, path, client.DownloadOptions{Progress: func(done, of int64) {
		if done < last {
			t.Errorf("progress falls from %d to %d", last, done)
		}
		last, total = done, of
	}})
	if err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(path)
	if err != nil || !bytes.Equal(got, content) || d.SHA256 != sumOf(content) || d.Size != int64(len(content)) {
		t.Errorf("%d bytes, %+v, %v", len(got), d, err)
	}
	if len(ranges) != 7 || ranges[0] != "" || ranges[1] != "bytes=150000-" {
		t.Errorf("ranges %q", ranges)
	}
	if last != int64(len(content)) || total != last {
		t.Errorf("progress ends at %d of %d", last, total)
	}
	onlyFiles(t, dir, "signed.exe")
}

func TestDownloadStartsAgain(t *testing.T) {
	t.Parallel()
	other := bytes.ToUpper(content)
	for name, second := range map[string]http.HandlerFunc{
		"another file":            func(w http.ResponseWriter, r *http.Request) { serveContent(w, r, other) },
		"a server without ranges": func(w http.ResponseWriter, r *http.Request) { r.Header.Del("Range"); serveContent(w, r, other) },
	} {
		var calls atomic.Int32
		c := connect(t, func(w http.ResponseWriter, r *http.Request) {
			if calls.Add(1) == 1 {
				serveContent(&cutting{w, 150_000}, r, content)
				return
			}
			second(w, r)
		})
		path := filepath.Join(t.TempDir(), "f")
		if _, err := c.Download(t.Context(), request, path, client.DownloadOptions{Which: client.Unsigned}); err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, other) {
			t.Errorf("%s: %d bytes, %v", name, len(got), err)
		}
	}
}

// TestDownloadFails: whatever goes wrong, there is no file, or the old one.
func TestDownloadFails(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name    string
		handler http.HandlerFunc
		options client.DownloadOptions
		check   func(error) bool
	}{
		{"refused", func(w http.ResponseWriter, _ *http.Request) { problem(w, 404, "gone", nil) }, client.DownloadOptions{},
			func(err error) bool { var e *client.Error; return errors.As(err, &e) && e.Status == 404 }},
		{"always cut", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "9")
			w.WriteHeader(200)
			hangUp(w)
		}, client.DownloadOptions{},
			func(err error) bool { return err != nil }},
		{"other digest than expected", func(w http.ResponseWriter, r *http.Request) { serveContent(w, r, content) }, client.DownloadOptions{SHA256: sumOf([]byte("x"))},
			func(err error) bool { return errors.Is(err, client.ErrDigest) }},
		{"other digest than announced", func(w http.ResponseWriter, _ *http.Request) {
			sum := sha256.Sum256(content)
			w.Header().Set("Repr-Digest", "sha-256=:"+base64.StdEncoding.EncodeToString(sum[:])+":")
			_, _ = w.Write([]byte("something else"))
		}, client.DownloadOptions{}, func(err error) bool { return errors.Is(err, client.ErrDigest) }},
		{"wrong range", func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Range") == "" {
				serveContent(&cutting{w, 150_000}, r, content)
				return
			}
			w.Header().Set("Content-Range", "bytes 7-"+strconv.Itoa(len(content)-1)+"/"+strconv.Itoa(len(content)))
			w.WriteHeader(206)
			_, _ = w.Write(content[7:])
		}, client.DownloadOptions{}, func(err error) bool { return err != nil && strings.Contains(err.Error(), "another range") }},
	} {
		c := connect(t, tt.handler)
		for _, old := range []bool{false, true} {
			dir := t.TempDir()
			path := filepath.Join(dir, "f")
			var files []string
			if old {
				if err := os.WriteFile(path, []byte("old"), 0o600); err != nil {
					t.Fatal(err)
				}
				files = []string{"f"}
			}
			o := tt.options
			o.Replace = true
			if _, err := c.Download(t.Context(), request, path, o); !tt.check(err) {
				t.Errorf("%s: %v", tt.name, err)
			}
			onlyFiles(t, dir, files...)
			if b, _ := os.ReadFile(path); old && string(b) != "old" {
				t.Errorf("%s: the old file has changed", tt.name)
			}
		}
	}
}

func TestDownloadExisting(t *testing.T) {
	t.Parallel()
	var calls atomic.Int32
	c := connect(t, func(w http.ResponseWriter, r *http.Request) { calls.Add(1); serveContent(w, r, content) })
	path := filepath.Join(t.TempDir(), "f")
	if err := os.WriteFile(path, []byte("old"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Download(t.Context(), request, path, client.DownloadOptions{}); !errors.Is(err, fs.ErrExist) || calls.Load() != 0 {
		t.Errorf("%d calls, %v", calls.Load(), err)
	}
	if _, err := c.Download(t.Context(), request, path, client.DownloadOptions{Replace: true}); err != nil {
		t.Error(err)
	}
}

// TestDownloadCanceled: an interrupted download leaves nothing.
func TestDownloadCanceled(t *testing.T) {
	t.Parallel()
	c := connect(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "1000000")
		_, _ = w.Write(content[:1000])
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	})
	ctx, cancel := context.WithCancel(t.Context())
	dir := t.TempDir()
	_, err := c.Download(ctx, request, filepath.Join(dir, "f"), client.DownloadOptions{Progress: func(int64, int64) { cancel() }})
	if !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	onlyFiles(t, dir)
}

// TestOperations: each operation asks for its route with its fields.
func TestOperations(t *testing.T) {
	t.Parallel()
	type asked struct{ Method, Path, Body string }
	var got asked
	c := connect(t, func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.Header.Get("Content-Type"), "multipart/") {
			f := receive(t, r)
			got = asked{r.Method, r.URL.RequestURI(), fmt.Sprint(f.fields, f.files)}
		} else {
			b, _ := io.ReadAll(r.Body)
			got = asked{r.Method, r.URL.RequestURI(), string(b)}
		}
		switch {
		case strings.HasSuffix(r.URL.Path, "/Certificates"), strings.HasSuffix(r.URL.Path, "/Projects"):
			answer(w, 200, []any{})
		default:
			answer(w, 200, map[string]any{})
		}
	})
	ctx := t.Context()
	const base = "/Api/v1/" + organization
	check := func(err error, want asked) {
		t.Helper()
		if err != nil {
			t.Error(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
	}
	_, err := c.Resubmit(ctx, client.Resubmission{Original: request, PolicySlug: "release", Description: "d", CancellationTimeout: time.Hour})
	check(err, asked{"POST", requests + "/Resubmit", `{"cancellationTimeoutInSeconds":3600,"description":"d","originalSigningRequestId":"` + request + `","signingPolicySlug":"release"}`})
	_, err = c.Deny(ctx, request, "no")
	check(err, asked{"POST", requests + "/" + request + "/Deny", `{"comment":"no"}`})
	_, err = c.Cancel(ctx, request, "")
	check(err, asked{"POST", requests + "/" + request + "/Cancel", `{}`})
	_, err = c.List(ctx, client.Filter{ProjectSlug: "a b", Status: []api.SigningRequestStatus{"Failed", "Denied"}, PageSize: 7})
	check(err, asked{"GET", requests + "?pageSize=7&projectSlug=a+b&status=Failed%2CDenied", ""})
	_, err = c.Plan(ctx, client.PlanRequest{ProjectSlug: "app", Artifact: upload("a", "x"), ConfigurationXML: "<x/>", Strict: true})
	check(err, asked{"POST", base + "/Projects/app/Plan", "map[artifactConfigurationXml:<x/> strict:true] map[artifact:a x]"})
	_, err = c.Analyze(ctx, upload("a", "x"))
	check(err, asked{"POST", base + "/ArtifactConfigurations/Analyze", "map[] map[artifact:a x]"})
	_, err = c.Certificates(ctx)
	check(err, asked{"GET", base + "/Certificates", ""})
	_, err = c.ImportPFX(ctx, "s", "n", []byte("p"), "secret")
	check(err, asked{"POST", base + "/Certificates/ImportPfx", "map[name:n password:secret slug:s] map[certificateFile:certificate.pfx p]"})
	_, err = c.UploadCertificate(ctx, "s", []byte("c"))
	check(err, asked{"POST", base + "/Certificates/s/UploadX509Certificate", "map[] map[certificateFile:chain.cer c]"})
	_, err = c.Project(ctx, "a/b")
	check(err, asked{"GET", base + "/Projects/a%2Fb", ""})
	_, err = c.Projects(ctx)
	check(err, asked{"GET", base + "/Projects", ""})
}
