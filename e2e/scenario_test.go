package e2e

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/countersign-dev/countersign/internal/notify/smtptest"
	"github.com/countersign-dev/countersign/internal/oracle"
	"github.com/countersign-dev/countersign/internal/samples"
)

// The release scenario: CI submits a candidate with its origin (1), the test certificate signs it (2), it is tested (3),
// a resubmit asks for the release certificate under a policy that wants the origin verified (4), the approver gets mail (5)
// and approves (6), the release certificate signs the very same bytes (7). Each test goes all the way with another client,
// and osslsigncode says whether the files are signed.

// Where the candidate comes from, as the demo's trusted build system vouches for it.
const (
	repository = "https://github.com/acme/app.git"
	branch     = "release/1.4"
	commit     = "bf458b27080c81eb1e316c63867a87fdb3b47211"
	buildURL   = "https://ci.example.com/acme/app/42"
)

const (
	testSigner    = "CN=Countersign demo test certificate,O=Demo organization"
	releaseSigner = "CN=Demo organization,O=Demo organization,C=AT"
)

// release is the scene: a server with a candidate to sign, app.exe, in a directory.
type release struct {
	server       *instance
	dir          string
	candidate    []byte
	osslsigncode string
}

func newRelease(t *testing.T, server *instance) *release {
	r := &release{server: server, dir: t.TempDir(), candidate: readFile(t, samples.GoEXE(t, "amd64")), osslsigncode: oracle.Need(t, "osslsigncode")}
	for name, content := range map[string][]byte{"app.exe": r.candidate, "build.yml": []byte("steps: [build, test]\n")} {
		if err := os.WriteFile(r.path(name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return r
}

func (r *release) path(name string) string { return filepath.Join(r.dir, name) }

// signed checks that a file carries one valid signature of the signer, with a timestamp.
func (r *release) signed(t *testing.T, name, signer string) {
	t.Helper()
	acceptedByOsslsigncode(t, r.osslsigncode, r.path(name), r.server.CAFile)
	if subject, err := verify(t.Context(), r.path(name), roots(t, r.server.CAFile)); err != nil || subject != signer {
		t.Errorf("%s is signed by %q, %v", name, subject, err)
	}
}

// originVerified checks a request's data as the REST API has it: where the candidate comes from, and that it may come from
// there.
func originVerified(t *testing.T, raw []byte) {
	t.Helper()
	var request struct {
		Origin        json.RawMessage `json:"origin"`
		Verifications []struct {
			Name   string `json:"name"`
			Result string `json:"result"`
		} `json:"verifications"`
	}
	if err := json.Unmarshal(raw, &request); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{repository, branch, commit, buildURL, "build.yml"} {
		if !bytes.Contains(request.Origin, []byte(`"`+want+`"`)) {
			t.Errorf("the origin lacks %s: %s", want, request.Origin)
		}
	}
	results := map[string]string{}
	for _, v := range request.Verifications {
		results[v.Name] = v.Result
	}
	for _, name := range []string{"TrustedBuildSystem", "Repository", "Branch", "Commit"} {
		if results[name] != "Passed" {
			t.Errorf("verification %s: %q", name, results[name])
		}
	}
}

// webLink is where people find a request.
func (r *release) webLink(id string) string {
	return r.server.BaseURL + "/Web/" + r.server.OrganizationID + "/SigningRequests/" + id
}

// received waits for a mail to somebody about a request.
func (r *release) received(t *testing.T, mails *smtptest.Server, to, subject, id string) {
	t.Helper()
	for n := 1; ; n++ {
		m := mails.Wait(t, n)[n-1]
		text := strings.ReplaceAll(m.Data, "=\r\n", "") // quoted-printable
		if strings.Contains(m.To, "<"+to+">") && strings.Contains(text, "Subject: "+subject) && strings.Contains(text, r.webLink(id)) {
			return
		}
	}
}

// mailing starts a server with the demo's organization that sends mail to a mail server.
func mailing(t *testing.T) (*instance, *smtptest.Server) {
	t.Helper()
	mails := smtptest.Start(t, func(s *smtptest.Server) { s.OffersTLS = false })
	data := t.TempDir()
	seeded := startDemo(t, data)
	seeded.stop(t)
	authority := startDemo(t, t.TempDir())
	return serveSeeded(t, seeded, authority, data, "--timestamp", authority.BaseURL+timestampPath, "--allow-http", "--allow-private-networks",
		"--mail-server", "smtp://"+mails.Addr+"?tls=none", "--mail-from", "Countersign <sign@example.com>"), mails
}

// TestScenarioByCurl: a pipeline and an external release system that speak to the REST API.
func TestScenarioByCurl(t *testing.T) {
	t.Parallel()
	curl := oracle.Need(t, "curl")
	server, mails := mailing(t)
	r := newRelease(t, server)
	w := &wire{t: t, curl: curl, demo: server, dir: r.dir}
	hook := newReceiver(t)
	if a := w.do("-H", "{admin}", "--json", `{"name":"releases","url":"`+hook.URL+`","headerValue":"Bearer hook"}`, "{api}/v1/{org}/Webhooks"); a.StatusCode != http.StatusCreated {
		t.Fatalf("webhook: %s %s", a.Status, a.body)
	}

	// 1. CI submits. The release policy takes nothing without the trusted build system's token.
	submission := []string{"-F", "projectSlug=demo", "-F", "artifact=@app.exe", "-F", "description=1.4.0, candidate 3",
		"-F", "Origin.RepositoryData.SourceControlManagementType=git", "-F", "Origin.RepositoryData.Url=" + repository,
		"-F", "Origin.RepositoryData.BranchName=" + branch, "-F", "Origin.RepositoryData.CommitId=" + commit,
		"-F", "Origin.BuildData.Url=" + buildURL, "-F", "Origin.BuildData.BuildSettingsFile=@build.yml",
		"{api}/v1/{org}/SigningRequests/SubmitWithArtifact"}
	with := func(arguments ...string) []string { return append(arguments, submission...) }
	if a := w.do(with("-H", "{ci}", "-F", "signingPolicySlug=release-verified")...); a.StatusCode != http.StatusForbidden || !bytes.Contains(a.body, []byte("trusted build system")) {
		t.Errorf("submitted to release-verified by nobody trusted: %s %s", a.Status, a.body)
	}
	test, testID := w.submit(with("-H", "{combined}", "-F", "signingPolicySlug=test-signing")...)

	// 2, 3. The test certificate signs; the signed file is tested.
	w.await(test, "Completed")
	w.save(test+"/SignedArtifact", "tested.exe")
	r.signed(t, "tested.exe", testSigner)

	// 4. The release system resubmits. It need not be the build system: the origin is the original's, and stays verified.
	release, releaseID := w.submit("-H", "{ci}", "-F", "originalSigningRequestId="+testID, "-F", "signingPolicySlug=release-verified",
		"-F", "description=1.4.0, all tests passed", "{api}/v1/{org}/SigningRequests/Resubmit")
	w.await(release, "WaitingForApproval")
	request := w.do("-H", "{ci}", release)
	originVerified(t, request.body)
	if original := request.json(t)["originalSigningRequestId"]; original != testID {
		t.Errorf("the resubmit's original is %v, not %s", original, testID)
	}

	// 5. The approver gets mail, and finds the request.
	r.received(t, mails, "approver@demo.example", "Approval requested: app.exe", releaseID)
	if a := w.do("-H", "{approver}", "{api}/v1/{org}/SigningRequests?waitingForMyApproval=true"); !bytes.Contains(a.body, []byte(releaseID)) {
		t.Errorf("what waits for the approver: %s %s", a.Status, a.body)
	}

	// 6. The approver approves; the submitter may not.
	if a := w.do("-H", "{ci}", "-X", "POST", release+"/Approve"); a.StatusCode != http.StatusForbidden {
		t.Errorf("the submitter approves: %s %s", a.Status, a.body)
	}
	if a := w.do("-H", "{approver}", "--json", `{"comment":"Test run 4711 passed"}`, release+"/Approve"); a.StatusCode >= 300 {
		t.Fatalf("approve: %s %s", a.Status, a.body)
	}

	// 7. The release certificate signs what was tested.
	w.await(release, "Completed")
	w.save(release+"/SignedArtifact", "released.exe")
	r.signed(t, "released.exe", releaseSigner)
	w.save(release+"/UnsignedArtifact", "unsigned.exe")
	if !bytes.Equal(readFile(t, r.path("unsigned.exe")), r.candidate) {
		t.Error("other bytes were released than were submitted")
	}

	// Other systems are told of both. Their receiver fails first; nobody waits here until it is called again by itself.
	for _, id := range []string{testID, releaseID} {
		d := w.delivery(id, func(d delivery) bool { return d.Attempts[0].Status == http.StatusServiceUnavailable })
		hook.up.Store(true)
		again := w.do("-H", "{admin}", "-X", "POST", "{api}/v1/{org}/Deliveries/"+d.DeliveryID+"/Redeliver")
		if again.StatusCode != http.StatusAccepted && again.StatusCode != http.StatusConflict { // it is being called by itself right now
			t.Errorf("redeliver: %s %s", again.Status, again.body)
		}
		hook.expect(t, d.DeliveryID, `{"OrganizationId":"`+server.OrganizationID+`","SigningRequestId":"`+id+`","Status":"Completed"}`)
		w.delivery(id, func(d delivery) bool {
			return d.State == "Delivered" && d.Attempts[len(d.Attempts)-1].Status == http.StatusOK
		})
		hook.up.Store(false)
	}
}

// save downloads a file with curl.
func (w *wire) save(link, name string) {
	w.t.Helper()
	a := w.do("-H", "{ci}", link)
	if a.StatusCode != http.StatusOK {
		w.t.Fatalf("%s: %s %s", link, a.Status, a.body)
	}
	if err := os.WriteFile(filepath.Join(w.dir, name), a.body, 0o600); err != nil {
		w.t.Fatal(err)
	}
}

// delivery is what the REST API tells of a message.
type delivery struct {
	DeliveryID string `json:"deliveryId"`
	Kind       string `json:"kind"`
	State      string `json:"state"`
	Attempts   []struct {
		Status int `json:"status"`
	} `json:"attempts"`
}

// delivery asks for the call of a webhook about a request until it is as it should be.
func (w *wire) delivery(id string, ok func(delivery) bool) delivery {
	w.t.Helper()
	var a answer
	for range 1000 {
		a = w.do("-H", "{admin}", "{api}/v1/{org}/SigningRequests/"+id+"/Deliveries")
		var page struct {
			Items []delivery `json:"items"`
		}
		if err := json.Unmarshal(a.body, &page); err != nil {
			w.t.Fatalf("%s: %s: %v", a.Status, a.body, err)
		}
		for _, d := range page.Items {
			if d.Kind == "Webhook" && len(d.Attempts) > 0 && ok(d) {
				return d
			}
		}
	}
	w.t.Fatalf("deliveries about %s: %s", id, a.body)
	return delivery{}
}

// receiver takes calls of a webhook while it is up; before, it answers 503.
type receiver struct {
	*httptest.Server
	up    atomic.Bool
	calls chan hookCall
}

type hookCall struct{ id, authorization, signature, body string }

func newReceiver(t *testing.T) *receiver {
	h := &receiver{calls: make(chan hookCall, 100)}
	h.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil || !h.up.Load() {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		h.calls <- hookCall{r.Header.Get("webhook-id"), r.Header.Get("Authorization"), r.Header.Get("webhook-signature"), string(body)}
	}))
	t.Cleanup(h.Close)
	return h
}

// expect waits for a call.
func (h *receiver) expect(t *testing.T, id, body string) {
	t.Helper()
	late := time.After(time.Minute)
	for {
		select {
		case c := <-h.calls:
			if c.id != id {
				continue // one that was made twice
			}
			if c.body != body || c.authorization != "Bearer hook" || !strings.HasPrefix(c.signature, "v1,") {
				t.Errorf("the webhook's call is %+v", c)
			}
			return
		case <-late:
			t.Fatalf("the webhook was not called with %s", body)
		}
	}
}

// TestScenarioByCommands: the pipeline and the approver use the program's commands.
func TestScenarioByCommands(t *testing.T) {
	t.Parallel()
	server, mails := mailing(t)
	r := newRelease(t, server)
	ci := r.commands(t, server.Tokens.CI)
	build := r.commands(t, server.Tokens.CI, "COUNTERSIGN_TRUSTED_BUILD_SYSTEM_TOKEN="+server.TrustedBuildSystemToken)
	approver := r.commands(t, server.Tokens.Approver)

	// 1, 2. CI submits and waits for the test certificate's signature.
	testID := idOf(t, build(0, "request", "submit", "--json", "--project", "demo", "--policy", "test-signing", "--description", "1.4.0, candidate 3",
		"--origin-repository", repository, "--origin-branch", branch, "--origin-commit", commit, "--origin-build-url", buildURL,
		"--origin-build-settings", "build.yml", "--output", "tested.exe", "app.exe"))

	// 3. The signed file is tested.
	r.signed(t, "tested.exe", testSigner)
	ci(0, "verify", "--ca", server.CAFile, "--publisher", "Countersign demo test certificate", "tested.exe")
	ci(1, "verify", "--ca", server.CAFile, "--publisher", "Somebody else", "tested.exe")

	// 4. The resubmit asks for release.
	releaseID := idOf(t, ci(0, "request", "resubmit", "--json", "--policy", "release-verified", "--description", "1.4.0, all tests passed", testID))
	ci(0, "request", "wait", "--for-approval", releaseID)
	originVerified(t, ci(0, "request", "get", "--json", releaseID))

	// 5, 6. The approver gets mail, finds the request, and approves. CI may not.
	r.received(t, mails, "approver@demo.example", "Approval requested: app.exe", releaseID)
	if waiting := approver(0, "request", "list", "--waiting-for-my-approval"); !bytes.Contains(waiting, []byte(releaseID)) {
		t.Errorf("what waits for the approver:\n%s", waiting)
	}
	ci(3, "request", "approve", releaseID)
	approver(0, "request", "approve", "--comment", "Test run 4711 passed", releaseID)

	// 7. The release certificate signs what was tested.
	ci(0, "request", "wait", "--output", "released.exe", releaseID)
	r.signed(t, "released.exe", releaseSigner)
	ci(0, "verify", "--ca", server.CAFile, "--publisher", "Demo organization", "released.exe")
	ci(0, "request", "download", "--unsigned", "--output", "unsigned.exe", releaseID)
	if !bytes.Equal(readFile(t, r.path("unsigned.exe")), r.candidate) {
		t.Error("other bytes were released than were submitted")
	}

	// Another candidate is denied, and nothing of it is signed for release.
	deniedID := idOf(t, ci(0, "request", "resubmit", "--json", "--policy", "release-verified", testID))
	ci(0, "request", "wait", "--for-approval", deniedID)
	approver(0, "request", "deny", "--comment", "Test run 4712 failed", deniedID)
	ci(1, "request", "wait", "--output", "denied.exe", deniedID)
	if _, err := os.Stat(r.path("denied.exe")); err == nil {
		t.Error("a denied request has a signed file")
	}
}

// commands returns what runs the program in the scene's directory, connected to the server with a token. It checks the
// exit code and returns what the program wrote to standard output.
func (r *release) commands(t *testing.T, token string, environment ...string) func(code int, arguments ...string) []byte {
	path := program(t)
	return func(code int, arguments ...string) []byte {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), path, arguments...)
		cmd.Dir = r.dir
		cmd.Env = append(os.Environ(), "COUNTERSIGN_URL="+r.server.BaseURL, "COUNTERSIGN_ORGANIZATION="+r.server.OrganizationID, "COUNTERSIGN_TOKEN="+token, "COUNTERSIGN_TIMEOUT=2m")
		cmd.Env = append(cmd.Env, environment...)
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		out, err := cmd.Output()
		if cmd.ProcessState == nil || cmd.ProcessState.ExitCode() != code {
			t.Fatalf("countersign %q: %v, not exit code %d\n%s%s", arguments, err, code, out, stderr.Bytes())
		}
		return out
	}
}

// idOf returns the id in what a command wrote about a request.
func idOf(t *testing.T, output []byte) string {
	t.Helper()
	var request struct {
		SigningRequestID string `json:"signingRequestId"`
	}
	if err := json.Unmarshal(output, &request); err != nil || request.SigningRequestID == "" {
		t.Fatalf("a request as JSON: %v\n%s", err, output)
	}
	return request.SigningRequestID
}
