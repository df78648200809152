package httpapi

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/countersign-dev/countersign/api"
	"github.com/countersign-dev/countersign/internal/signing"
)

const (
	testOrg     = "01939c5e-7a10-7c3f-8a55-0d9a4d3c2b1a"
	testRequest = "01939c5e-7a10-7c3f-8a55-0d9a4d3c2b1b"
)

// operations has the system's operations; a test sets the functions that it calls. Other operations panic.
type operations struct {
	api.StrictServerInterface
	systemOperations
	list     func(context.Context, api.ListSigningRequestsRequestObject) (api.ListSigningRequestsResponseObject, error)
	submit   func(context.Context, api.SubmitWithArtifactRequestObject) (api.SubmitWithArtifactResponseObject, error)
	resubmit func(context.Context, api.ResubmitSigningRequestRequestObject) (api.ResubmitSigningRequestResponseObject, error)
	approve  func(context.Context, api.ApproveSigningRequestRequestObject) (api.ApproveSigningRequestResponseObject, error)
	create   func(context.Context, api.CreateSelfSignedCertificateRequestObject) (api.CreateSelfSignedCertificateResponseObject, error)
	signed   func(context.Context, api.GetSignedArtifactRequestObject) (api.GetSignedArtifactResponseObject, error)
}

func (o *operations) GetHealth(ctx context.Context, r api.GetHealthRequestObject) (api.GetHealthResponseObject, error) {
	return o.systemOperations.GetHealth(ctx, r)
}

func (o *operations) GetSystemInfo(ctx context.Context, r api.GetSystemInfoRequestObject) (api.GetSystemInfoResponseObject, error) {
	return o.systemOperations.GetSystemInfo(ctx, r)
}

func (o *operations) ListSigningRequests(ctx context.Context, r api.ListSigningRequestsRequestObject) (api.ListSigningRequestsResponseObject, error) {
	return o.list(ctx, r)
}

func (o *operations) SubmitWithArtifact(ctx context.Context, r api.SubmitWithArtifactRequestObject) (api.SubmitWithArtifactResponseObject, error) {
	return o.submit(ctx, r)
}

func (o *operations) ResubmitSigningRequest(ctx context.Context, r api.ResubmitSigningRequestRequestObject) (api.ResubmitSigningRequestResponseObject, error) {
	return o.resubmit(ctx, r)
}

func (o *operations) ApproveSigningRequest(ctx context.Context, r api.ApproveSigningRequestRequestObject) (api.ApproveSigningRequestResponseObject, error) {
	return o.approve(ctx, r)
}

func (o *operations) CreateSelfSignedCertificate(ctx context.Context, r api.CreateSelfSignedCertificateRequestObject) (api.CreateSelfSignedCertificateResponseObject, error) {
	return o.create(ctx, r)
}

func (o *operations) GetSignedArtifact(ctx context.Context, r api.GetSignedArtifactRequestObject) (api.GetSignedArtifactResponseObject, error) {
	return o.signed(ctx, r)
}

// logBuffer is a log that a test may read while handlers write.
type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func newTestHandler(t testing.TB, ops *operations, o Options) (http.Handler, *logBuffer) {
	t.Helper()
	if ops.ready == nil {
		ops.systemOperations = systemOperations{version: "1.2.3", ready: func(context.Context) error { return nil }}
	}
	logs := &logBuffer{}
	o.Log = slog.New(slog.NewJSONHandler(logs, &slog.HandlerOptions{Level: slog.LevelDebug}))
	h, err := NewHandler(ops, o)
	if err != nil {
		t.Fatal(err)
	}
	return h, logs
}

// call sends one request; header are pairs.
func call(t testing.TB, h http.Handler, method, target, body string, header ...string) *http.Response {
	t.Helper()
	r := httptest.NewRequest(method, target, strings.NewReader(body))
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w.Result()
}

func readBody(t testing.TB, resp *http.Response) string {
	t.Helper()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

var traceForm = regexp.MustCompile(`^00-[0-9a-f]{32}-[0-9a-f]{16}-00$`)

// wantProblem checks that the answer is a well-formed problem with the status.
func wantProblem(t testing.TB, resp *http.Response, status int) api.Problem {
	t.Helper()
	body := readBody(t, resp)
	if resp.StatusCode != status {
		t.Fatalf("status = %d, want %d; body %s", resp.StatusCode, status, body)
	}
	if ct := resp.Header.Get("Content-Type"); ct != "application/problem+json; charset=utf-8" {
		t.Errorf("Content-Type = %q", ct)
	}
	var p api.Problem
	if err := json.Unmarshal([]byte(body), &p); err != nil {
		t.Fatalf("%v in %s", err, body)
	}
	if p.Status != status || p.Type == "" || p.Title == "" || !traceForm.MatchString(p.TraceID) {
		t.Errorf("problem = %s", body)
	}
	return p
}

func submitted(ctx context.Context) api.SubmitWithArtifact201JSONResponse {
	l := exchangeOf(ctx).links
	return api.SubmitWithArtifact201JSONResponse{SubmittedJSONResponse: api.SubmittedJSONResponse{
		Headers: api.SubmittedResponseHeaders{Location: l.signingRequest(testOrg, testRequest)},
		Body: api.SubmittedSigningRequest{SigningRequestID: testRequest, WebLink: l.web(testOrg, testRequest),
			Status: "InProgress", WorkflowStatus: "Submitted"},
	}}
}

func TestLinksEchoTheClient(t *testing.T) {
	t.Parallel()
	ops := &operations{submit: func(ctx context.Context, _ api.SubmitWithArtifactRequestObject) (api.SubmitWithArtifactResponseObject, error) {
		return submitted(ctx), nil
	}}
	direct, _ := newTestHandler(t, ops, Options{})
	proxied, _ := newTestHandler(t, ops, Options{PublicURL: &url.URL{Scheme: "https", Host: "sign.example.com", Path: "/code/"}})
	tests := []struct {
		name     string
		h        http.Handler
		target   string
		location string
		web      string
	}{
		{"documented", direct, "http://h:8443/API/v1/" + testOrg + "/SigningRequests/SubmitWithArtifact",
			"http://h:8443/API/v1/" + testOrg + "/SigningRequests/" + testRequest, "http://h:8443/Web/" + testOrg + "/SigningRequests/" + testRequest},
		{"Maven", direct, "http://h/Api/v1/" + testOrg + "/SigningRequests/SubmitWithArtifact",
			"http://h/Api/v1/" + testOrg + "/SigningRequests/" + testRequest, "http://h/Web/" + testOrg + "/SigningRequests/" + testRequest},
		{"no prefix, odd casing, TLS", direct, "https://h//V1/" + strings.ToUpper(testOrg) + "/signingrequests//SUBMITWITHARTIFACT/",
			"https://h/V1/" + testOrg + "/SigningRequests/" + testRequest, "https://h/Web/" + testOrg + "/SigningRequests/" + testRequest},
		{"public URL", proxied, "http://10.0.0.7/api/v1/" + testOrg + "/SigningRequests/SubmitWithArtifact",
			"https://sign.example.com/code/api/v1/" + testOrg + "/SigningRequests/" + testRequest, "https://sign.example.com/code/Web/" + testOrg + "/SigningRequests/" + testRequest},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			resp := call(t, tt.h, "POST", tt.target, raw(named("projectSlug"), "demo"), "Content-Type", "Multipart/Form-Data; boundary=b")
			body := readBody(t, resp)
			if resp.StatusCode != http.StatusCreated {
				t.Fatalf("status = %d: %s", resp.StatusCode, body)
			}
			if got := resp.Header.Get("Location"); got != tt.location {
				t.Errorf("Location = %s\nwant       %s", got, tt.location)
			}
			if ct := resp.Header.Get("Content-Type"); ct != "application/json; charset=utf-8" {
				t.Errorf("Content-Type = %q", ct)
			}
			var got api.SubmittedSigningRequest
			if err := json.Unmarshal([]byte(body), &got); err != nil || got.WebLink != tt.web || got.SigningRequestID != testRequest {
				t.Errorf("body = %s (%v)", body, err)
			}
			if !strings.Contains(body, `"isFinalStatus":false`) {
				t.Errorf("isFinalStatus must be there when false: %s", body)
			}
		})
	}
}

func TestSystemRoutes(t *testing.T) {
	t.Parallel()
	down := &operations{systemOperations: systemOperations{ready: func(context.Context) error { return errors.New("database is away") }}}
	up, _ := newTestHandler(t, &operations{}, Options{})
	notUp, logs := newTestHandler(t, down, Options{})
	for _, target := range []string{"/Api/healthz", "/healthz", "/API/HealthZ/"} {
		resp := call(t, up, "GET", target, "")
		if body := readBody(t, resp); resp.StatusCode != 200 || body != "Healthy" {
			t.Errorf("GET %s = %d %q", target, resp.StatusCode, body)
		}
	}
	resp := call(t, notUp, "GET", "/Api/healthz", "")
	if p := wantProblem(t, resp, 503); strings.Contains(p.Detail, "database") || resp.Header.Get("Retry-After") == "" {
		t.Errorf("problem %+v, Retry-After %q", p, resp.Header.Get("Retry-After"))
	}
	if !strings.Contains(logs.String(), "database is away") {
		t.Error("the log lacks the cause")
	}
	var info api.SystemInfo
	if err := json.Unmarshal([]byte(readBody(t, call(t, up, "GET", "http://h/v1/meta/systeminfo", ""))), &info); err != nil ||
		info != (api.SystemInfo{Product: "Countersign", Version: "1.2.3", WebURL: "http://h/"}) {
		t.Errorf("SystemInfo = %+v (%v)", info, err)
	}
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	ops := &operations{
		submit: func(ctx context.Context, r api.SubmitWithArtifactRequestObject) (api.SubmitWithArtifactResponseObject, error) {
			_, err := readForm(r.Body, map[string]fileSink{"artifact": func(_ filePart, c io.Reader) error {
				_, err := io.Copy(io.Discard, c)
				return err
			}})
			if err != nil {
				return nil, err
			}
			return submitted(ctx), nil
		},
		resubmit: func(context.Context, api.ResubmitSigningRequestRequestObject) (api.ResubmitSigningRequestResponseObject, error) {
			return nil, signing.Invalid("SigningPolicySlug", "There is no signing policy with slug 'x'.")
		},
		approve: func(context.Context, api.ApproveSigningRequestRequestObject) (api.ApproveSigningRequestResponseObject, error) {
			return nil, signing.Errorf(signing.KindForbidden, "Only approvers of 'release-signing' may approve.")
		},
		create: func(context.Context, api.CreateSelfSignedCertificateRequestObject) (api.CreateSelfSignedCertificateResponseObject, error) {
			return nil, signing.Errorf(signing.KindConflict, "The slug is taken.")
		},
		list: func(context.Context, api.ListSigningRequestsRequestObject) (api.ListSigningRequestsResponseObject, error) {
			return nil, signing.Errorf(signing.KindUnauthenticated, "The API token is unknown.")
		},
	}
	h, _ := newTestHandler(t, ops, Options{MaxArtifactBytes: 1 << 20})
	org := "/Api/v1/" + testOrg
	submit := org + "/SigningRequests/SubmitWithArtifact"
	form := "multipart/form-data; boundary=b"
	artifact := func(n int) string {
		return raw(`Content-Disposition: form-data; name="artifact"; filename="a"`, strings.Repeat("x", n))
	}
	tests := []struct {
		name, method, target, contentType, body string
		status                                  int
		field, message                          string // of errors, else of detail
	}{
		{"unknown path", "GET", "/Api/nothing", "", "", 404, "", "no such address"},
		{"unknown path in organization", "GET", org + "/Nothing", "", "", 404, "", "no such address"},
		{"outside the API", "GET", "/nothing", "", "", 404, "", "no such address"},
		{"path that is no text", "GET", org + "/Projects/%FF", "", "", 404, "", "no such address"},
		{"NUL in the path", "GET", org + "/Projects/a%00", "", "", 404, "", "no such address"},
		{"NUL in the query", "GET", org + "/SigningRequests?projectSlug=a%00", "", "", 400, "ProjectSlug", "UTF-8"},
		{"NUL in an urlencoded body", "POST", org + "/SigningRequests/Resubmit", mediaURLEncoded, "description=%00", 400, "Description", "UTF-8"},
		{"dot segments", "GET", org + "/Projects/..", "", "", 404, "", "no such address"},
		{"too many segments", "GET", strings.Repeat("/v1", 40), "", "", 404, "", "no such address"},
		{"wrong method", "DELETE", org + "/Projects", "", "", 405, "", "does not accept DELETE"},
		{"no content type", "POST", submit, "", "x", 415, "", "multipart/form-data"},
		{"broken content type", "POST", submit, "multipart/form-data; boundary", "x", 415, "", "multipart/form-data"},
		{"other content type", "POST", submit, "application/pdf", "x", 415, "", "multipart/form-data"},
		{"JSON for a form", "POST", submit, "application/json", "{}", 415, "", "multipart/form-data"},
		{"no boundary", "POST", submit, "multipart/form-data", "x", 400, "", "boundary"},
		{"other multipart", "POST", submit, "multipart/mixed; boundary=b", artifact(1), 415, "", "multipart/form-data"},
		{"empty form", "POST", submit, form, "", 400, "", "closing boundary"},
		{"form for JSON", "POST", org + "/Certificates/CreateSelfSignedX509", form, artifact(1), 415, "", "application/json"},
		{"broken JSON", "POST", org + "/Certificates/CreateSelfSignedX509", "application/json", "{", 400, "", "ends too early"},
		{"invalid JSON", "POST", org + "/Certificates/CreateSelfSignedX509", "application/json", "{x}", 400, "", "not valid JSON"},
		{"empty JSON", "POST", org + "/Certificates/CreateSelfSignedX509", "application/json", "", 400, "", "ends too early"},
		{"JSON type", "POST", org + "/Certificates/CreateSelfSignedX509", "text/json", `{"subject":{"commonName":7}}`, 400, "Subject.CommonName", "JSON number"},
		{"JSON too large", "POST", org + "/Certificates/CreateSelfSignedX509", "application/json", `{"name":"` + strings.Repeat("x", maxTextBody) + `"}`, 413, "", "larger than"},
		{"form too large", "POST", submit, form, artifact(1<<20 + maxFormOverhead), 413, "", "larger than"},
		{"domain field", "POST", org + "/SigningRequests/Resubmit", mediaURLEncoded, "a=b", 400, "SigningPolicySlug", "no signing policy"},
		{"broken urlencoding", "POST", org + "/SigningRequests/Resubmit", mediaURLEncoded, "a=%zz", 400, "", "malformed"},
		{"forbidden", "POST", org + "/SigningRequests/" + testRequest + "/Approve", "", "", 403, "-", "Only approvers"},
		{"unauthenticated", "GET", org + "/SigningRequests", "", "", 401, "-", "unknown"},
		{"query type", "GET", org + "/SigningRequests?pageSize=many", "", "", 400, "PageSize", "not valid"},
		{"query time", "GET", org + "/SigningRequests?CREATEDFROM=yesterday", "", "", 400, "CreatedFrom", "not valid"},
		{"broken query", "GET", org + "/SigningRequests?a=%zz", "", "", 400, "", "query string"},
		{"conflict", "POST", org + "/Certificates/CreateSelfSignedX509", "application/vnd.x+json; charset=utf-8", `{}`, 409, "-", "taken"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := httptest.NewRequest(tt.method, tt.target, strings.NewReader(tt.body))
			if tt.contentType != "" {
				r.Header.Set("Content-Type", tt.contentType)
			}
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			resp := w.Result()
			p := wantProblem(t, resp, tt.status)
			if !strings.Contains(p.Detail, tt.message) {
				t.Errorf("detail = %q, want %q", p.Detail, tt.message)
			}
			if tt.status == 400 && (p.Title != validationTitle || len(p.Errors[tt.field]) == 0) {
				t.Errorf("problem = %+v, want messages under %q", p, tt.field)
			}
			if (tt.status == 401) != (resp.Header.Get("WWW-Authenticate") != "") {
				t.Errorf("WWW-Authenticate = %q", resp.Header.Get("WWW-Authenticate"))
			}
			if (tt.status == 405) != (resp.Header.Get("Allow") == "GET, HEAD, POST") {
				t.Errorf("Allow = %q", resp.Header.Get("Allow"))
			}
		})
	}
}

func TestOptionalBody(t *testing.T) {
	t.Parallel()
	comments := make(chan string, 1)
	ops := &operations{approve: func(_ context.Context, r api.ApproveSigningRequestRequestObject) (api.ApproveSigningRequestResponseObject, error) {
		if r.Body == nil {
			comments <- "(none)"
		} else {
			comments <- r.Body.Comment
		}
		return api.ApproveSigningRequest200JSONResponse{}, nil
	}}
	h, _ := newTestHandler(t, ops, Options{})
	target := "/v1/" + testOrg + "/SigningRequests/" + testRequest + "/Approve"
	for _, tt := range []struct{ body, contentType, want string }{
		{"", "", "(none)"},
		{"", "application/x-www-form-urlencoded", "(none)"}, // curl -d ''
		{"{}", "application/json", ""},
		{`{"COMMENT":"tested"}`, "text/json", "tested"},
		{`{"comment":"tested"}`, "", "tested"},
	} {
		resp := call(t, h, "POST", target, tt.body, "Content-Type", tt.contentType)
		if resp.StatusCode != 200 {
			t.Fatalf("%q: %d %s", tt.body, resp.StatusCode, readBody(t, resp))
		}
		if got := <-comments; got != tt.want {
			t.Errorf("%q: comment %q, want %q", tt.body, got, tt.want)
		}
	}
	// A chunked body of unknown length may turn out empty.
	r := httptest.NewRequest("POST", target, io.MultiReader())
	r.ContentLength = -1
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	if got := <-comments; w.Code != 200 || got != "(none)" {
		t.Errorf("chunked: %d, %q", w.Code, got)
	}
}

func TestNamesWithoutRegardToCase(t *testing.T) {
	t.Parallel()
	queries := make(chan api.ListSigningRequestsParams, 1)
	forms := make(chan api.Resubmit, 1)
	ops := &operations{
		list: func(_ context.Context, r api.ListSigningRequestsRequestObject) (api.ListSigningRequestsResponseObject, error) {
			queries <- r.Params
			return api.ListSigningRequests200JSONResponse{}, nil
		},
		resubmit: func(_ context.Context, r api.ResubmitSigningRequestRequestObject) (api.ResubmitSigningRequestResponseObject, error) {
			f, err := readResubmit(r)
			forms <- f
			return nil, err
		},
	}
	h, _ := newTestHandler(t, ops, Options{})
	call(t, h, "GET", "/v1/"+testOrg+"/SigningRequests?PROJECTslug=demo&pagesize=7&signingPolicySlug=&unknown=1&Status=Completed,Failed", "")
	if q := <-queries; q.ProjectSlug != "demo" || q.PageSize != 7 || q.SigningPolicySlug != "" || len(q.Status) != 2 {
		t.Errorf("query = %+v", q)
	}
	want := api.Resubmit{OriginalSigningRequestID: testRequest, SigningPolicySlug: "release-signing"}
	for contentType, body := range map[string]string{
		mediaURLEncoded + "; charset=UTF-8": "ORIGINALsigningRequestId=" + testRequest + "&SigningPolicySlug=release-signing&Description=",
		mediaJSON + "; charset=utf-8":       `{"OriginalSigningRequestId":"` + testRequest + `","SIGNINGPOLICYSLUG":"release-signing","extra":1}`,
		mediaMultipart + `; boundary="b"`:   raw("Content-Disposition: form-data; name=OriginalSigningRequestId", testRequest, named("signingpolicyslug"), "release-signing"),
	} {
		call(t, h, "POST", "/v1/"+testOrg+"/SigningRequests/Resubmit", body, "Content-Type", contentType)
		if got := <-forms; got != want {
			t.Errorf("%s: %+v", contentType, got)
		}
	}
}

func TestInternalErrorsStayInside(t *testing.T) {
	t.Parallel()
	for name, fail := range map[string]func() error{
		"unknown error": func() error { return errors.New("pq: secret table is locked") },
		"panic":         func() error { panic("secret state") },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h, logs := newTestHandler(t, &operations{
				list: func(context.Context, api.ListSigningRequestsRequestObject) (api.ListSigningRequestsResponseObject, error) {
					return nil, fail()
				}}, Options{})
			resp := call(t, h, "GET", "/v1/"+testOrg+"/SigningRequests?x=typed", "", "Authorization", "Bearer csp_s3cret:csb_s3cret",
				"Traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
			p := wantProblem(t, resp, 500)
			if p.Detail != "" || p.Errors != nil || p.Title != "Internal Server Error" {
				t.Errorf("problem tells too much: %+v", p)
			}
			if !strings.HasPrefix(p.TraceID, "00-4bf92f3577b34da6a3ce929d0e0e4736-") {
				t.Errorf("traceId = %s does not continue the caller's trace", p.TraceID)
			}
			log := logs.String()
			if !strings.Contains(log, "secret") || !strings.Contains(log, p.TraceID) {
				t.Errorf("the log lacks cause or trace id:\n%s", log)
			}
			for _, never := range []string{"s3cret", "typed"} {
				if strings.Contains(log, never) {
					t.Errorf("the log holds %q:\n%s", never, log)
				}
			}
		})
	}
}

func TestFallback(t *testing.T) {
	t.Parallel()
	h, _ := newTestHandler(t, &operations{}, Options{Fallback: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, "page")
	})})
	for target, page := range map[string]bool{
		"/": true, "/Web/" + testOrg: true, "/login": true, "/a%FF": true, "/v1/%FF": false,
		"/api": false, "/API/x": false, "/v1/x": false, "/Swagger": false, "/healthz": false,
	} {
		if got := readBody(t, call(t, h, "GET", target, "")) == "page"; got != page {
			t.Errorf("GET %s goes to the pages: %v, want %v", target, got, page)
		}
	}
}

func TestNewTraceID(t *testing.T) {
	t.Parallel()
	const given = "4bf92f3577b34da6a3ce929d0e0e4736"
	for header, continued := range map[string]bool{
		"00-" + given + "-00f067aa0ba902b7-01": true,
		"":                                     false,
		"garbage":                              false,
		"ff-" + given + "-00f067aa0ba902b7-01": false,
		"00-" + strings.ToUpper(given) + "-00f067aa0ba902b7-01":   false,
		"00-00000000000000000000000000000000-00f067aa0ba902b7-01": false,
	} {
		got := newTraceID(header)
		if !traceForm.MatchString(got) || strings.Contains(got, given) != continued {
			t.Errorf("newTraceID(%q) = %s", header, got)
		}
	}
}
