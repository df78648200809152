package powershell_test

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"mime"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/countersign-dev/countersign/artifact/authenticode"
	"github.com/countersign-dev/countersign/internal/signing"
)

// expression is the regular expression in the module that begins so.
func expression(t *testing.T, beginning string) *regexp.Regexp {
	t.Helper()
	for _, f := range sources(t) {
		for _, s := range f.Strings {
			if strings.HasPrefix(s.Text, beginning) {
				return regexp.MustCompile(s.Text)
			}
		}
	}
	t.Fatalf("the module has no expression that begins with %s", beginning)
	return nil
}

// idPattern is the expression with which the module finds a new request's id.
func idPattern(t *testing.T) *regexp.Regexp {
	t.Helper()
	return expression(t, "SigningRequests/(")
}

// recorded is what record.cs put in the place of the real values. Ids keep the length, so that the bodies' lengths hold.
type recorded struct {
	request string // replaces the id of the request that is read or resubmitted
	bearer  string
	key     string // Idempotency-Key
}

// replay sends a recorded request to the server, as it came from .NET.
func (w *world) replay(t *testing.T, name string, with recorded) *http.Response {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join("testdata", "requests", name+".http"))
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range [][2]string{
		{"11111111-1111-1111-1111-111111111111", w.organization},
		{"22222222-2222-2222-2222-222222222222", with.request},
		{"33333333-3333-3333-3333-333333333333", string(w.testPolicy)},
		{"44444444-4444-4444-4444-444444444444", string(w.configuration)},
		{"6a1c2d3e-4f50-4617-8293-a4b5c6d7e8f9", name + with.key},
		{"Bearer TOKEN:BUILDSYSTEM\r", "Bearer " + with.bearer + "\r"},
		{"Bearer TOKEN\r", "Bearer " + with.bearer + "\r"},
	} {
		raw = bytes.ReplaceAll(raw, []byte(r[0]), []byte(r[1]))
	}
	request, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(raw)))
	if err != nil {
		t.Fatal(err)
	}
	recorder := httptest.NewRecorder()
	w.handler.ServeHTTP(recorder, request.WithContext(t.Context()))
	return recorder.Result()
}

// submitted checks a submission's reply as the module does, and returns the id.
func submitted(t *testing.T, reply *http.Response) string {
	t.Helper()
	var body bytes.Buffer
	if _, err := body.ReadFrom(reply.Body); err != nil {
		t.Fatal(err)
	}
	if reply.StatusCode != http.StatusCreated {
		t.Fatalf("%s: %s", reply.Status, body.String())
	}
	location, err := reply.Location()
	if err != nil || !location.IsAbs() {
		t.Fatalf("Location %v: %v", location, err)
	}
	id := idPattern(t).FindStringSubmatch(location.String())
	if len(id) != 2 || !strings.HasSuffix(location.String(), id[0]) {
		t.Fatalf("no id in %s", location)
	}
	var created struct{ SigningRequestID, WebLink string }
	if err := json.Unmarshal(body.Bytes(), &created); err != nil {
		t.Fatal(err)
	}
	if created.SigningRequestID != id[1] || created.WebLink == "" {
		t.Errorf("the body has %+v, the Location %s", created, id[1])
	}
	return id[1]
}

// detail is what the module reads of a signing request, and what tells the fields that it sent.
type detail struct {
	Status, WorkflowStatus, SignedArtifactLink, Description   string
	ProjectSlug, SigningPolicySlug, ArtifactConfigurationSlug string
	OriginalSigningRequestID                                  string
	IsFinalStatus                                             bool
	Parameters                                                map[string]string
	UnsignedArtifact, SignedArtifact                          struct{ FileName, SHA256Hash string }
	Origin                                                    struct {
		BuildData struct {
			URL               string
			BuildSettingsFile struct{ FileName string }
		}
		RepositoryData struct{ URL, BranchName, CommitID, SourceControlManagementType string }
	}
	CancelAt string
}

func (w *world) detail(t *testing.T, id string) detail {
	t.Helper()
	reply := w.replay(t, "get-request", recorded{request: id, bearer: w.token})
	if reply.StatusCode != http.StatusOK {
		t.Fatal(reply.Status)
	}
	var d detail
	if err := json.NewDecoder(reply.Body).Decode(&d); err != nil {
		t.Fatal(err)
	}
	return d
}

func (w *world) advance(t *testing.T, id string) {
	t.Helper()
	if err := w.signing.Advance(t.Context(), signing.ID(id)); err != nil {
		t.Fatal(err)
	}
}

// download fetches the signed artifact.
func (w *world) download(t *testing.T, id string) []byte {
	t.Helper()
	reply := w.replay(t, "get-signed-artifact", recorded{request: id, bearer: w.token})
	var body bytes.Buffer
	if _, err := body.ReadFrom(reply.Body); err != nil {
		t.Fatal(err)
	}
	if reply.StatusCode != http.StatusOK || reply.ContentLength != int64(body.Len()) {
		t.Fatalf("%s, Content-Length %d, %d bytes", reply.Status, reply.ContentLength, body.Len())
	}
	return body.Bytes()
}

func TestSubmitWaitAndDownload(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id := submitted(t, w.replay(t, "submit-slugs", recorded{bearer: w.token}))
	before := w.detail(t, id)
	if before.IsFinalStatus || before.Status != "InProgress" || before.CancelAt == "" {
		t.Errorf("a new request is %+v", before)
	}
	w.advance(t, id)
	d := w.detail(t, id)
	if !d.IsFinalStatus || d.Status != "Completed" || d.SignedArtifactLink == "" {
		t.Fatalf("the request is %+v", d)
	}
	got := []string{d.ProjectSlug, d.SigningPolicySlug, d.ArtifactConfigurationSlug, d.Description, d.UnsignedArtifact.FileName, d.Parameters["version"]}
	if diff := cmp.Diff([]string{"app", "test-signing", "exe", "Nightly build, größer", "app.exe", "1.2.0"}, got); diff != "" {
		t.Error(diff)
	}
	signed := w.download(t, id)
	if sum := sha256.Sum256(signed); hex.EncodeToString(sum[:]) != d.SignedArtifact.SHA256Hash {
		t.Error("the download is not the signed artifact")
	}
	if report, err := authenticode.VerifyPE(t.Context(), bytes.NewReader(signed), int64(len(signed)), authenticode.VerifyOptions{}); err != nil || len(report.Signatures) != 1 {
		t.Errorf("%+v, %v", report, err)
	}
}

func TestSubmitByID(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id := submitted(t, w.replay(t, "submit-ids", recorded{bearer: w.token}))
	d := w.detail(t, id)
	got := []string{d.SigningPolicySlug, d.ArtifactConfigurationSlug, d.Description, d.UnsignedArtifact.FileName}
	if diff := cmp.Diff([]string{"test-signing", "exe", "", "größte app.exe"}, got); diff != "" {
		t.Error(diff)
	}
}

func TestSubmitWithOrigin(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id := submitted(t, w.replay(t, "submit-origin", recorded{bearer: w.token + ":" + w.buildSystem}))
	w.advance(t, id)
	d := w.detail(t, id)
	if d.Status != "Completed" {
		t.Errorf("the request is %+v", d)
	}
	var want detail
	want.Origin.BuildData.URL = "https://ci.example.com/job/app/42"
	want.Origin.BuildData.BuildSettingsFile.FileName = "settings.json"
	want.Origin.RepositoryData.URL = "https://github.com/acme/app"
	want.Origin.RepositoryData.BranchName = "main"
	want.Origin.RepositoryData.CommitID = "bf458b27080c81eb1e316c63867a87fdb3b47211"
	want.Origin.RepositoryData.SourceControlManagementType = "git"
	if diff := cmp.Diff(want.Origin, d.Origin); diff != "" {
		t.Error(diff)
	}
}

func TestSubmitWithRetrievalLink(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id := submitted(t, w.replay(t, "submit-link", recorded{bearer: w.token}))
	w.advance(t, id)
	if d := w.detail(t, id); d.Status != "Completed" || d.UnsignedArtifact.FileName != "my program.exe" {
		t.Errorf("the request is %+v", d)
	}
	w.download(t, id)
}

func TestResubmit(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	original := submitted(t, w.replay(t, "submit-slugs", recorded{bearer: w.token}))
	w.advance(t, original)
	id := submitted(t, w.replay(t, "resubmit", recorded{bearer: w.token, request: original}))
	w.advance(t, id)
	first, second := w.detail(t, original), w.detail(t, id)
	if second.Status != "Completed" || second.OriginalSigningRequestID != original || second.SigningPolicySlug != "release-signing" || second.Description != "Tested" {
		t.Errorf("the request is %+v", second)
	}
	if second.UnsignedArtifact != first.UnsignedArtifact || second.Parameters["version"] != "1.2.0" {
		t.Errorf("the artifact is %+v, the original's %+v", second.UnsignedArtifact, first.UnsignedArtifact)
	}
	w.download(t, id)
}

// TestRepeatedSubmission is what the module does when an answer got lost.
func TestRepeatedSubmission(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	first := submitted(t, w.replay(t, "submit-slugs", recorded{bearer: w.token}))
	if second := submitted(t, w.replay(t, "submit-slugs", recorded{bearer: w.token})); second != first {
		t.Errorf("the same call made the requests %s and %s", first, second)
	}
	if third := submitted(t, w.replay(t, "submit-slugs", recorded{bearer: w.token, key: "another"})); third == first {
		t.Error("another call found the first one's request")
	}
}

// TestRefusals has the replies that the module turns into messages.
func TestRefusals(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, test := range []struct {
		name, request, bearer string
		status                int
		field                 string
	}{
		{"no such token", "submit-slugs", "wrong", http.StatusUnauthorized, ""},
		{"no such token, asked again without the file", "submit-no-file", "wrong", http.StatusUnauthorized, ""},
		{"nothing is submitted without the file", "submit-no-file", w.token, http.StatusBadRequest, "Artifact"},
		{"no trusted build system", "submit-origin", w.token, http.StatusForbidden, ""},
		{"no such original", "resubmit", w.token, http.StatusBadRequest, "OriginalSigningRequestId"},
	} {
		t.Run(test.name, func(t *testing.T) {
			reply := w.replay(t, test.request, recorded{bearer: test.bearer, request: "99999999-9999-4999-8999-999999999999"})
			var problem struct {
				Title  string
				Errors map[string][]string
			}
			if err := json.NewDecoder(reply.Body).Decode(&problem); err != nil {
				t.Fatal(err)
			}
			if reply.StatusCode != test.status || problem.Title == "" || test.field != "" && problem.Errors[test.field] == nil {
				t.Errorf("%s: %+v", reply.Status, problem)
			}
		})
	}
}

// TestProblemWithoutField: ConvertFrom-Json refuses a property without a name, so the module names it before it reads a
// problem that concerns no single field.
func TestProblemWithoutField(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	broken := httptest.NewRequest(http.MethodPost, "/Api/v1/"+w.organization+"/SigningRequests/SubmitWithArtifact", strings.NewReader("--x\r\nno colon\r\n\r\n"))
	broken.Header.Set("Content-Type", "multipart/form-data; boundary=x")
	broken.Header.Set("Authorization", "Bearer "+w.token)
	recorder := httptest.NewRecorder()
	w.handler.ServeHTTP(recorder, broken.WithContext(t.Context()))
	name := expression(t, `([{,]\s*)""`)
	for _, text := range []string{recorder.Body.String(), `{"errors" : { "A":["{\"\":1,"] , "" : ["x"]}}`} {
		if !regexp.MustCompile(`[{,]\s*""\s*:`).MatchString(text) {
			t.Fatalf("no empty name: %s", text)
		}
		var problem struct{ Errors map[string][]string }
		if err := json.Unmarshal(name.ReplaceAll([]byte(text), []byte(`${1}"request"${2}`)), &problem); err != nil {
			t.Fatal(err)
		}
		others := problem.Errors["A"]
		if len(problem.Errors["request"]) != 1 || problem.Errors[""] != nil || len(others) > 0 && others[0] != `{"":1,` {
			t.Errorf("%s became %+v", text, problem)
		}
	}
}

// TestRecordedDialect holds the recordings against the module's text: the fields it can send are the fields that were
// recorded, and the dialect is .NET's.
func TestRecordedDialect(t *testing.T) {
	t.Parallel()
	var literals []string
	for _, f := range sources(t) {
		for _, s := range f.Strings {
			literals = append(literals, s.Text)
		}
	}
	files, err := filepath.Glob("testdata/requests/*.http")
	if err != nil || len(files) != 8 {
		t.Fatalf("%d recordings: %v", len(files), err)
	}
	index := regexp.MustCompile(`\[\d+\]`)
	for _, file := range files {
		raw, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		request, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(raw)))
		if err != nil {
			t.Fatal(err)
		}
		if request.Header.Get("Expect") != "" {
			t.Errorf("%s waits for 100 Continue", file)
		}
		if request.Method != http.MethodPost {
			continue
		}
		if !regexp.MustCompile(`boundary="[0-9a-f-]{36}"$`).MatchString(request.Header.Get("Content-Type")) || !bytes.Contains(raw, []byte("form-data; name=Description\r\n")) {
			t.Errorf("%s is not in .NET's dialect", file)
		}
		_, params, err := mime.ParseMediaType(request.Header.Get("Content-Type"))
		if err != nil {
			t.Fatal(err)
		}
		form, err := multipart.NewReader(request.Body, params["boundary"]).ReadForm(1 << 20)
		if err != nil {
			t.Fatal(err)
		}
		names := []string{}
		for name := range form.Value {
			names = append(names, name)
		}
		for name := range form.File {
			names = append(names, name)
		}
		for _, name := range names {
			known := index.ReplaceAllString(name, "[$$index]")
			if rest, ok := strings.CutPrefix(name, "Origin."); ok {
				known = rest
			} else if strings.HasPrefix(name, "Parameters.") {
				known = "Parameters.$name"
			}
			if !slices.Contains(literals, known) {
				t.Errorf("%s has the field %s, which is not in the module", file, name)
			}
		}
	}
}
