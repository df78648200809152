package httpapi

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"log/slog"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/countersign-dev/countersign/api"
	"github.com/countersign-dev/countersign/internal/oracle"
)

// TestCurl submits and downloads with curl over a real connection.
func TestCurl(t *testing.T) {
	t.Parallel()
	curl := oracle.Need(t, "curl")
	content := bytes.Repeat([]byte("MZ\r\n--"), 300_000)
	sum := sha256.Sum256(content)
	var mu sync.Mutex
	var got []*form
	var name, digest string
	ops := &operations{
		submit: func(ctx context.Context, r api.SubmitWithArtifactRequestObject) (api.SubmitWithArtifactResponseObject, error) {
			mu.Lock()
			defer mu.Unlock()
			f, err := readForm(r.Body, map[string]fileSink{"artifact": func(file filePart, c io.Reader) error {
				h := sha256.New()
				_, err := io.Copy(h, c)
				name, digest = file.name, hex.EncodeToString(h.Sum(nil))
				return err
			}})
			if err != nil {
				return nil, err
			}
			got = append(got, f)
			return submitted(ctx), nil
		},
		signed: func(ctx context.Context, _ api.GetSignedArtifactRequestObject) (api.GetSignedArtifactResponseObject, error) {
			return &download{request: exchangeOf(ctx).request, name: "signed ü.exe", sha256: hex.EncodeToString(sum[:]),
				content: bytes.NewReader(content), size: int64(len(content))}, nil
		},
	}
	ops.systemOperations = systemOperations{ready: func(context.Context) error { return nil }}
	log := slog.New(slog.DiscardHandler)
	h, err := NewHandler(ops, Options{Log: log, MaxArtifactBytes: 2 << 20})
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewUnstartedServer(nil)
	server.Config = NewServer(h, log)
	server.Start()
	t.Cleanup(server.Close)

	dir := t.TempDir()
	artifact := filepath.Join(dir, `a "b" ü.exe`)
	big := filepath.Join(dir, "big")
	if err := errors.Join(os.WriteFile(artifact, content, 0o600), os.WriteFile(big, make([]byte, 11<<20), 0o600)); err != nil {
		t.Fatal(err)
	}
	run := func(args ...string) string {
		t.Helper()
		cmd := exec.Command(curl, append([]string{"--silent", "--show-error", "--max-time", "60", "--noproxy", "*"}, args...)...)
		cmd.Dir = dir
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("curl %q: %v\n%s", args, err, out)
		}
		return string(out)
	}
	submit := server.URL + "/API/v1/" + testOrg + "/SigningRequests/SubmitWithArtifact"
	quoted := strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(artifact)

	for _, extra := range [][]string{nil, {"-H", "Expect: 100-continue"}, {"-H", "Transfer-Encoding: chunked"}} {
		out := run(append([]string{"-D", "-", "-F", "projectSlug=demo", "-F", `artifact=@"` + quoted + `"`, "-F", "Parameters[app.version]=1.4", submit}, extra...)...)
		if !strings.Contains(out, "201 Created") {
			t.Fatalf("answer %s", out)
		}
		location := regexp.MustCompile(`(?i)\r\nlocation: (\S+)\r\n`).FindStringSubmatch(out)
		if len(location) != 2 || location[1] != server.URL+"/API/v1/"+testOrg+"/SigningRequests/"+testRequest {
			t.Errorf("Location %q in %s", location, out)
		}
		mu.Lock()
		last := got[len(got)-1]
		if last.text("ProjectSlug") != "demo" || last.parameters["app.version"] != "1.4" || digest != hex.EncodeToString(sum[:]) ||
			!strings.HasSuffix(name, "ü.exe") {
			t.Errorf("form %+v, file %q %s", last, name, digest)
		}
		mu.Unlock()
	}

	// Over the limit: refused with a problem, whether the length is known or not.
	for _, extra := range [][]string{nil, {"-H", "Transfer-Encoding: chunked"}} {
		out, _ := exec.Command(curl, append([]string{"--silent", "--noproxy", "*", "--max-time", "60", "-w", " %{http_code}", "-F", "artifact=@" + big, submit}, extra...)...).CombinedOutput()
		if !strings.Contains(string(out), "larger than") || !strings.HasSuffix(string(out), " 413") {
			t.Errorf("too large %q: %s", extra, out)
		}
	}

	// A download, and one that is resumed in the middle.
	link := server.URL + "/Api/v1/" + testOrg + "/SigningRequests/" + testRequest + "/SignedArtifact"
	run("-o", "whole", link)
	if err := os.WriteFile(filepath.Join(dir, "part"), content[:1_000_001], 0o600); err != nil {
		t.Fatal(err)
	}
	run("-C", "-", "-o", "part", link)
	for _, file := range []string{"whole", "part"} {
		b, err := os.ReadFile(filepath.Join(dir, file))
		if err != nil || !bytes.Equal(b, content) {
			t.Errorf("%s: %d bytes (%v), want %d", file, len(b), err, len(content))
		}
	}
	if out := run("-L", "-o", "page", "-w", "%{http_code} %{url_effective}", server.URL+"/Api/swagger/"); out != "200 "+server.URL+"/Api/swagger/index.html" {
		t.Errorf("Swagger UI: %s", out)
	}
	if out := run(server.URL + "/Api/healthz"); out != "Healthy" {
		t.Errorf("healthz: %s", out)
	}
}

// TestCurlAgainstTheDomain runs the contract's own example, and what the public documentation tells users to type, with
// curl against an installation.
func TestCurlAgainstTheDomain(t *testing.T) {
	t.Parallel()
	curl := oracle.Need(t, "curl")
	bash := oracle.Need(t, "bash")
	w := newWorld(t)
	server := httptest.NewUnstartedServer(nil)
	server.Config = NewServer(w.handler, slog.New(slog.DiscardHandler))
	server.Start()
	t.Cleanup(server.Close)
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "setup.exe"), examplePE, 0o600); err != nil {
		t.Fatal(err)
	}
	run := func(script string) string {
		t.Helper()
		cmd := exec.Command(bash, "-euo", "pipefail", "-c", script)
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "NO_PROXY=*", "TOKEN="+w.people[ciUser].token, "TBS="+w.buildSystem, "ORGANIZATION="+w.org, "URL="+server.URL,
			"PATH="+filepath.Dir(curl)+":"+os.Getenv("PATH"))
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%s: %v\n%s", script, err, out)
		}
		return string(out)
	}
	location := regexp.MustCompile(`(?i)\r\nlocation: (\S+/SigningRequests/([0-9a-f-]{36}))\r\n`)
	submit := func(script string) (address, id string) {
		t.Helper()
		out := run(script)
		m := location.FindStringSubmatch(out)
		if m == nil || !strings.Contains(out, " 201 Created") || !strings.HasPrefix(m[1], server.URL) {
			t.Fatalf("%s: %s", script, out)
		}
		return m[1], m[2]
	}
	_, example, ok := strings.Cut(string(api.OpenAPI), "```\n")
	example, _, end := strings.Cut(example, "```\n")
	if !ok || !end || !strings.Contains(example, "curl") {
		t.Fatal("the contract has no example")
	}
	example = strings.ReplaceAll(example, "https://sign.example.com", server.URL)
	example = strings.ReplaceAll(example, "curl ", "curl --silent --show-error --max-time 60 ")
	example = strings.ReplaceAll(example, "artifact=@setup.exe", "artifactConfigurationSlug=exe -F artifact=@setup.exe")
	address, id := submit(example)
	w.advance(t, id)
	if out := run("curl -sSf -H \"Authorization: Bearer $TOKEN\" " + address + "/Status"); !strings.Contains(out, `"status":"Completed"`) {
		t.Errorf("status %s", out)
	}
	run("mv setup.exe unsigned.exe; curl -sSfJO -H \"Authorization: Bearer $TOKEN\" " + address + "/SignedArtifact; mv setup.exe signed.exe; mv unsigned.exe setup.exe")
	signed, err := os.ReadFile(filepath.Join(dir, "signed.exe"))
	if err != nil || len(signed) <= len(examplePE) || !bytes.HasPrefix(signed, []byte("MZ")) {
		t.Errorf("signed artifact: %d bytes, %v", len(signed), err)
	}
	again, _ := submit(`curl -sS -D - -H "Authorization: Bearer $TOKEN" -F "OriginalSigningRequestId=` + id + `" -F "SigningPolicySlug=release-signing" "$URL/API/v1/$ORGANIZATION/SigningRequests/Resubmit"`)
	submit(`curl -sS -D - -H "Authorization: Bearer $TOKEN" --json '{"originalSigningRequestId":"` + id + `","signingPolicySlug":"release-signing"}' "$URL/v1/$ORGANIZATION/SigningRequests/Resubmit"`)
	_, verified := submit(`curl -sS -D - -H "Authorization: Bearer $TOKEN:$TBS" -F ProjectSlug=demo -F SigningPolicySlug=verified -F Artifact=@setup.exe \
		-F Origin.RepositoryData.SourceControlManagementType=git -F Origin.RepositoryData.Url=https://github.com/acme/app.git \
		-F Origin.RepositoryData.BranchName=main -F Origin.RepositoryData.CommitId=abc -F Origin.BuildData.Url=https://ci.example/1 \
		-F Origin.BuildData.BuildSettingsFile=@signed.exe "$URL/api/v1/$ORGANIZATION/SigningRequests"`)
	w.advance(t, verified)
	if d := w.details(t, ciUser, verified); d.Status != "Completed" {
		t.Errorf("verified: %+v", d)
	}
	if out := run("curl -sS -X POST -H \"Authorization: Bearer $TOKEN\" -w ' %{http_code}' " + again + "/Cancel"); !strings.Contains(out, `"Canceled"`) || !strings.HasSuffix(out, " 200") {
		t.Errorf("cancel: %s", out)
	}
	out := run(`curl -sS -H "Authorization: Bearer $TOKEN" -F projectSlug=demo -F signingPolicySlug=nonsense -F artifact=@setup.exe "$URL/Api/v1/$ORGANIZATION/SigningRequests/SubmitWithArtifact"`)
	if !strings.Contains(out, `"SigningPolicySlug":["There is no signing policy with slug 'nonsense'`) {
		t.Errorf("unknown policy: %s", out)
	}
}
