package e2e

import (
	"bufio"
	"bytes"
	"crypto/x509"
	"encoding/json"
	"mime"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/countersign-dev/countersign/internal/oracle"
	"github.com/countersign-dev/countersign/internal/samples"
)

// wire speaks to a demo as scripts do: with curl.
type wire struct {
	t    *testing.T
	curl string
	demo *instance
	dir  string // has app.exe
}

func newWire(t *testing.T) *wire {
	w := &wire{t: t, curl: oracle.Need(t, "curl"), demo: startDemo(t, t.TempDir()), dir: t.TempDir()}
	if err := os.WriteFile(filepath.Join(w.dir, "app.exe"), readFile(t, samples.GoEXE(t, "amd64")), 0o600); err != nil {
		t.Fatal(err)
	}
	return w
}

// answer is what curl received.
type answer struct {
	*http.Response
	body []byte
}

// json returns the body as an object.
func (a answer) json(t testing.TB) map[string]any {
	t.Helper()
	var v map[string]any
	if err := json.Unmarshal(a.body, &v); err != nil {
		t.Fatalf("%s: %s: %v", a.Status, a.body, err)
	}
	return v
}

// do runs curl. {base}, {api}, {org} and {ORG} in the arguments stand for the demo's addresses and organization; {ci},
// {approver}, {admin} and {combined} for headers with tokens.
func (w *wire) do(args ...string) answer {
	w.t.Helper()
	d := w.demo
	expand := strings.NewReplacer("{base}", d.BaseURL, "{api}", d.APIURL, "{org}", d.OrganizationID, "{ORG}", strings.ToUpper(d.OrganizationID),
		"{ci}", "Authorization: Bearer "+d.Tokens.CI, "{approver}", "Authorization: Bearer "+d.Tokens.Approver, "{admin}", "Authorization: Bearer "+d.Tokens.Admin,
		"{combined}", "Authorization: Bearer "+d.Tokens.CI+":"+d.TrustedBuildSystemToken)
	for i := range args {
		args[i] = expand.Replace(args[i])
	}
	cmd := exec.CommandContext(w.t.Context(), w.curl, append([]string{"-sS", "-i", "-H", "Expect:", "--noproxy", "*", "--max-time", "60"}, args...)...)
	cmd.Dir = w.dir
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		w.t.Fatalf("curl %q: %v\n%s", args, err, stderr.Bytes())
	}
	// curl has undone the transfer coding: the body is what follows the header.
	_, body, ok := bytes.Cut(out, []byte("\r\n\r\n"))
	response, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(out)), nil)
	if err != nil || !ok {
		w.t.Fatalf("curl %q: %v\n%s", args, err, out)
	}
	return answer{response, body}
}

var locationPattern = regexp.MustCompile(`^http://[^/]+/.*SigningRequests/([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})$`)

// submit expects a new signing request (wire contract: 201, absolute Location, id in lower case, JSON body).
func (w *wire) submit(args ...string) (location, id string) {
	w.t.Helper()
	a := w.do(args...)
	location = a.Header.Get("Location")
	m := locationPattern.FindStringSubmatch(location)
	if a.StatusCode != http.StatusCreated || m == nil || !strings.HasPrefix(location, w.demo.BaseURL+"/") {
		w.t.Fatalf("curl %q: %s, Location %q: %s", args, a.Status, location, a.body)
	}
	if body := a.json(w.t); body["signingRequestId"] != m[1] || !strings.HasPrefix(body["webLink"].(string), w.demo.BaseURL+"/") {
		w.t.Errorf("curl %q: %s", args, a.body)
	}
	return location, m[1]
}

// await asks for a request's status until it is the wanted one.
func (w *wire) await(location, want string) {
	w.t.Helper()
	deadline := time.After(time.Minute)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		s := w.do("-H", "{ci}", location+"/Status").json(w.t)
		if s["status"] == want {
			return
		}
		if final, ok := s["isFinalStatus"].(bool); !ok || final {
			w.t.Fatalf("%s is not %s: %v", location, want, s)
		}
		select {
		case <-tick.C:
		case <-deadline:
			w.t.Fatalf("%s does not become %s: %v", location, want, s)
		}
	}
}

// TestWireSubmit: every way in which clients submit.
func TestWireSubmit(t *testing.T) {
	t.Parallel()
	w := newWire(t)
	camel := []string{"-F", "projectSlug=demo", "-F", "signingPolicySlug=test-signing", "-F", "artifactConfigurationSlug=exe"}
	pascal := []string{"-F", "ProjectSlug=demo", "-F", "SigningPolicySlug=test-signing", "-F", "ArtifactConfigurationSlug=exe"}
	file := []string{"-F", "artifact=@app.exe"}
	join := func(parts ...[]string) (all []string) {
		for _, p := range parts {
			all = append(all, p...)
		}
		return append([]string{"-H", "{ci}"}, all...)
	}
	for _, test := range []struct {
		name string
		args []string
	}{
		{"documentation", join(camel, file, []string{"-F", "description=From curl.", "{api}/v1/{org}/SigningRequests/SubmitWithArtifact"})},
		{"deprecated route", join(pascal, []string{"-F", "Artifact=@app.exe", "{base}/API/v1/{org}/SigningRequests"})},
		{"lower-case path", join(camel, file, []string{"{base}/api/v1/{org}/signingrequests/submitwithartifact"})},
		{"no prefix", join(camel, file, []string{"{base}/v1/{org}/SigningRequests"})},
		{"doubled slash", join(camel, file, []string{"{base}//API/v1/{org}//SigningRequests"})},
		{"upper-case organization and slugs", join([]string{"-F", "PROJECTSLUG=DEMO", "-F", "signingpolicyslug=Test-Signing", "-F", "ARTIFACT=@app.exe", "{api}/v1/{ORG}/SigningRequests"})},
		{"artifact first", join(file, camel, []string{"{api}/v1/{org}/SigningRequests/SubmitWithArtifact"})},
		{"default configuration, empty description", join(file, camel[:4], []string{"-F", "Description=", "{api}/v1/{org}/SigningRequests"})},
		{"parameter with a dot", join(camel, file, []string{"-F", "parameters.version=1.0", "{api}/v1/{org}/SigningRequests"})},
		{"parameter in brackets", join(pascal, file, []string{"-F", "Parameters[version]=1.0", "{api}/v1/{org}/SigningRequests"})},
		{"chunked", join(camel, file, []string{"-H", "Transfer-Encoding: chunked", "{api}/v1/{org}/SigningRequests"})},
		{"token of a build system", append([]string{"-H", "{combined}"}, join(camel, file, []string{"{api}/v1/{org}/SigningRequests"})[2:]...)},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := *w
			w.t = t
			location, id := w.submit(test.args...)
			w.await(location, "Completed")
			r := w.do("-H", "{ci}", location).json(t)
			if r["status"] != "Completed" || r["workflowStatus"] != "Completed" || r["isFinalStatus"] != true || r["projectSlug"] != "demo" ||
				r["signingPolicySlug"] != "test-signing" || r["artifactConfigurationSlug"] != "exe" ||
				!strings.HasSuffix(r["signedArtifactLink"].(string), "/SigningRequests/"+id+"/SignedArtifact") {
				t.Errorf("request %v", r)
			}
			if strings.HasPrefix(test.name, "parameter") && r["parameters"].(map[string]any)["version"] != "1.0" {
				t.Errorf("parameters %v", r["parameters"])
			}
		})
	}
}

// TestWireDownload: whole artifacts and ranges of them.
func TestWireDownload(t *testing.T) {
	t.Parallel()
	osslsigncode := oracle.Need(t, "osslsigncode")
	w := newWire(t)
	location, _ := w.submit("-H", "{ci}", "-F", "projectSlug=demo", "-F", "signingPolicySlug=test-signing", "-F", "artifact=@app.exe", "{api}/v1/{org}/SigningRequests")
	w.await(location, "Completed")
	link := w.do("-H", "{ci}", location).json(t)["signedArtifactLink"].(string)
	whole := w.do("-H", "{ci}", link)
	_, disposition, err := mime.ParseMediaType(whole.Header.Get("Content-Disposition"))
	if whole.StatusCode != http.StatusOK || err != nil || disposition["filename"] != "app.exe" || whole.Header.Get("Accept-Ranges") != "bytes" {
		t.Errorf("download: %s, %v", whole.Status, whole.Header)
	}
	out := filepath.Join(w.dir, "signed.exe")
	if err := os.WriteFile(out, whole.body, 0o600); err != nil {
		t.Fatal(err)
	}
	acceptedByOsslsigncode(t, osslsigncode, out, w.demo.CAFile)
	if head := w.do("-H", "{ci}", "--head", link); head.StatusCode != http.StatusOK || head.ContentLength != int64(len(whole.body)) {
		t.Errorf("HEAD: %s, %d bytes", head.Status, head.ContentLength)
	}
	n := len(whole.body)
	for _, test := range []struct {
		header string
		status int
		want   []byte
	}{
		{"Range: bytes=0-1", http.StatusPartialContent, []byte("MZ")},
		{"Range: bytes=1000-1999", http.StatusPartialContent, whole.body[1000:2000]},
		{"Range: bytes=1000000-", http.StatusPartialContent, whole.body[1000000:]},
		{"Range: bytes=-10", http.StatusPartialContent, whole.body[n-10:]},
		{"Range: bytes=0-0, -1", http.StatusPartialContent, nil},
		{"Range: bytes=999999999-", http.StatusRequestedRangeNotSatisfiable, nil},
		{"If-None-Match: " + whole.Header.Get("Etag"), http.StatusNotModified, nil},
	} {
		a := w.do("-H", "{ci}", "-H", test.header, link)
		if a.StatusCode != test.status || test.want != nil && !bytes.Equal(a.body, test.want) {
			t.Errorf("%s: %s with %d bytes", test.header, a.Status, len(a.body))
		}
	}
	if unsigned := w.do("-H", "{ci}", location+"/UnsignedArtifact"); !bytes.Equal(unsigned.body, readFile(t, filepath.Join(w.dir, "app.exe"))) {
		t.Errorf("unsigned artifact: %s, %d bytes", unsigned.Status, len(unsigned.body))
	}
	der := w.do("-H", "{ci}", location+"/X509Certificate")
	if c, err := x509.ParseCertificate(der.body); err != nil || c.Subject.CommonName != "Countersign demo test certificate" {
		t.Errorf("certificate: %s, %v", der.Status, err)
	}
}

// TestWireDecide: resubmitting in all encodings, and what people decide.
func TestWireDecide(t *testing.T) {
	t.Parallel()
	w := newWire(t)
	location, id := w.submit("-H", "{ci}", "-F", "ProjectSlug=demo", "-F", "SigningPolicySlug=test-signing", "-F", "Artifact=@app.exe", "{api}/v1/{org}/SigningRequests")
	w.await(location, "Completed")
	resubmit := func(args ...string) string {
		t.Helper()
		location, _ := w.submit(append([]string{"-H", "{ci}"}, args...)...)
		w.await(location, "WaitingForApproval")
		return location
	}
	multipart := resubmit("-F", "originalSigningRequestId="+id, "-F", "signingPolicySlug=release-signing", "{api}/v1/{org}/SigningRequests/Resubmit")
	pascal := resubmit("-F", "OriginalSigningRequestId="+id, "-F", "SigningPolicySlug=release-signing", "-F", "Description=", "{base}/API/v1/{org}/SigningRequests/Resubmit")
	encoded := resubmit("-H", "Content-Type: application/json", "-d", `{"originalSigningRequestId":"`+id+`","signingPolicySlug":"release-signing"}`, "{api}/v1/{org}/SigningRequests/Resubmit")

	if a := w.do("-H", "{ci}", multipart+"/SignedArtifact"); a.StatusCode != http.StatusBadRequest && a.StatusCode != http.StatusNotFound {
		t.Errorf("download before it is signed: %s", a.Status)
	}
	if a := w.do("-H", "{ci}", "-X", "POST", multipart+"/Approve"); a.StatusCode != http.StatusForbidden {
		t.Errorf("the submitter approves: %s", a.Status)
	}
	if a := w.do("-H", "{approver}", "-X", "POST", multipart+"/Approve"); a.StatusCode >= 300 {
		t.Errorf("approve without a body: %s %s", a.Status, a.body)
	}
	w.await(multipart, "Completed")
	if a := w.do("-H", "{approver}", "-X", "POST", multipart+"/Approve"); a.StatusCode/100 != 4 {
		t.Errorf("approve what is completed: %s %s", a.Status, a.body)
	}
	if a := w.do("-H", "{approver}", "--json", `{"comment":"Not this one."}`, pascal+"/Deny"); a.StatusCode >= 300 {
		t.Errorf("deny: %s %s", a.Status, a.body)
	}
	w.await(pascal, "Denied")
	if a := w.do("-H", "{ci}", "-X", "POST", encoded+"/Cancel"); a.StatusCode >= 300 {
		t.Errorf("cancel: %s %s", a.Status, a.body)
	}
	w.await(encoded, "Canceled")
}

// TestWireProblems: what is wrong is answered with problem details (RFC 9457), and with a status that clients understand.
func TestWireProblems(t *testing.T) {
	t.Parallel()
	w := newWire(t)
	const submit = "{api}/v1/{org}/SigningRequests/SubmitWithArtifact"
	good := []string{"-F", "projectSlug=demo", "-F", "signingPolicySlug=test-signing", "-F", "artifact=@app.exe"}
	for _, test := range []struct {
		name   string
		status int
		field  string // key of errors
		args   []string
	}{
		{"no token", 401, "", append([]string{submit}, good...)},
		{"wrong token", 401, "", append([]string{"-H", "Authorization: Bearer csc_wrong", submit}, good...)},
		{"another organization", 403, "", append([]string{"-H", "{ci}", "{api}/v1/01939c5e-7a10-7c3f-8a55-0d9a4d3c2b1a/SigningRequests"}, good...)},
		{"unknown project", 400, "ProjectSlug", []string{"-H", "{ci}", submit, "-F", "projectSlug=nonsense", "-F", "signingPolicySlug=test-signing", "-F", "artifact=@app.exe"}},
		{"unknown policy", 400, "SigningPolicySlug", []string{"-H", "{ci}", submit, "-F", "projectSlug=demo", "-F", "signingPolicySlug=nonsense", "-F", "artifact=@app.exe"}},
		{"unknown configuration", 400, "ArtifactConfigurationSlug", append([]string{"-H", "{ci}", submit, "-F", "artifactConfigurationSlug=nonsense"}, good...)},
		{"no artifact", 400, "Artifact", []string{"-H", "{ci}", submit, "-F", "projectSlug=demo", "-F", "signingPolicySlug=test-signing"}},
		{"unknown parameter", 400, "", append([]string{"-H", "{ci}", submit, "-F", "parameters.nonsense=1"}, good...)},
		{"no boundary", 400, "", []string{"-H", "{ci}", submit, "-H", "Content-Type: multipart/form-data", "--data-binary", "@app.exe"}},
		{"broken multipart", 400, "", []string{"-H", "{ci}", submit, "-H", "Content-Type: multipart/form-data; boundary=x", "-d", "--x\r\nContent-Disposition: form-data; name=\"projectSlug\"\r\n\r\nde"}},
		{"wrong content type", 415, "", []string{"-H", "{ci}", submit, "-H", "Content-Type: text/plain", "-d", "hello"}},
		{"broken JSON", 400, "", []string{"-H", "{ci}", "{api}/v1/{org}/SigningRequests/Resubmit", "-H", "Content-Type: application/json", "-d", `{"original`}},
		{"unknown original", 400, "OriginalSigningRequestId", []string{"-H", "{ci}", "{api}/v1/{org}/SigningRequests/Resubmit", "-F", "originalSigningRequestId=01939c5e-7a10-7c3f-8a55-0d9a4d3c2b1a", "-F", "signingPolicySlug=release-signing"}},
		{"unknown route", 404, "", []string{"-H", "{ci}", "{api}/v1/{org}/Nonsense"}},
		{"wrong method", 405, "", []string{"-H", "{ci}", "-X", "DELETE", "{api}/v1/{org}/SigningRequests"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := *w
			w.t = t
			a := w.do(test.args...)
			if a.StatusCode != test.status || a.Header.Get("Content-Type") != "application/problem+json; charset=utf-8" {
				t.Fatalf("%s, %s: %s", a.Status, a.Header.Get("Content-Type"), a.body)
			}
			p := a.json(t)
			for _, member := range []string{"type", "title", "traceId"} {
				if text, _ := p[member].(string); text == "" {
					t.Errorf("no %s: %s", member, a.body)
				}
			}
			if p["status"] != float64(test.status) {
				t.Errorf("status: %s", a.body)
			}
			if test.field != "" {
				fields, _ := p["errors"].(map[string]any)
				if messages, _ := fields[test.field].([]any); len(messages) == 0 {
					t.Errorf("no message for %s: %s", test.field, a.body)
				}
			}
		})
	}
}
