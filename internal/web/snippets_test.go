package web

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/countersign-dev/countersign/internal/auth"
	"github.com/countersign-dev/countersign/internal/httpapi"
	"github.com/countersign-dev/countersign/internal/oracle"
	"github.com/countersign-dev/countersign/internal/signing"
)

// withAPI serves the REST API beside the pages, as the program does.
func (w *world) withAPI(t *testing.T) {
	t.Helper()
	api, err := httpapi.NewHandler(httpapi.New(httpapi.Config{Signing: w.Service, Auth: w.auth, Ready: w.db.Ping, Log: discard}), httpapi.Options{Log: discard, Fallback: w.server.Config.Handler})
	if err != nil {
		t.Fatal(err)
	}
	w.server.Config.Handler = api
}

// snippetsOf returns what the page of a policy offers to paste, by client.
func (w *world) snippetsOf(t *testing.T, policy *signing.Policy) map[string]string {
	t.Helper()
	page := w.browser(t, w.Sam).get(t, w.path("Projects", "app", "SigningPolicies", policy.Slug)).wantStatus(t, http.StatusOK)
	found := map[string]string{}
	for _, details := range elements(page.dom(t), "details") {
		if id, ok := strings.CutPrefix(attrOf(details, "id"), "snippet-"); ok {
			code := elements(details, "code")[0]
			for _, button := range elements(details, "button") {
				if attrOf(button, "data-copy") != code.FirstChild.Data {
					t.Errorf("%s: what is copied is not what is shown", id)
				}
			}
			found[id] = code.FirstChild.Data
		}
	}
	return found
}

// TestSnippets pastes what the pages of policies offer into a shell, against the server that offers it.
func TestSnippets(t *testing.T) {
	t.Parallel()
	shell, _ := oracle.Need(t, "bash"), oracle.Need(t, "curl")
	programs := t.TempDir()
	build := exec.CommandContext(t.Context(), "go", "build", "-o", filepath.Join(programs, "countersign"), "../../cmd/countersign")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if output, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build the command line: %v: %s", err, output)
	}
	w := newWorld(t)
	w.withAPI(t)
	w.work(t)
	token := func(by signing.Actor, kind signing.TokenKind, owner signing.ID) string {
		text, _, err := w.auth.IssueToken(t.Context(), by, kind, owner, auth.TokenOptions{})
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	environment := map[string][]string{
		w.Test.Slug: {"API_TOKEN=" + token(w.Sam, signing.UserToken, w.Sam.UserID)},
		w.Verified.Slug: {
			"API_TOKEN=" + token(w.Ada, signing.UserToken, w.CI.UserID),
			"BUILD_SYSTEM_TOKEN=" + token(w.Ada, signing.BuildSystemToken, w.CI.TrustedBuildSystemID),
			"REPOSITORY_URL=https://github.com/acme/app", "BRANCH=release/2 & more", "COMMIT=8d1f3e0c5a6b7c8d9e0f1a2b3c4d5e6f7a8b9c0d",
		},
	}
	for _, policy := range []*signing.Policy{w.Test, w.Verified} {
		for client, text := range w.snippetsOf(t, policy) {
			if client == "powershell" {
				continue // TestPowerShellSnippets
			}
			t.Run(policy.Slug+" "+client, func(t *testing.T) {
				t.Parallel()
				w.runSnippet(t, client, policy, exec.CommandContext(t.Context(), shell, "-euo", "pipefail", "-c", text),
					append(environment[policy.Slug], "PATH="+programs+":"+os.Getenv("PATH"), "HOME="+t.TempDir()))
			})
		}
	}
}

// runSnippet pastes a snippet, approves what it submits where the policy wants that, and looks at what came of it.
func (w *world) runSnippet(t *testing.T, client string, policy *signing.Policy, cmd *exec.Cmd, environment []string) {
	t.Helper()
	cmd.Dir, cmd.Env = t.TempDir(), environment
	artifact := append(slices.Clone(examplePE), client+policy.Slug...) // tells this snippet's request from the others'
	if err := os.WriteFile(filepath.Join(cmd.Dir, "app.exe"), artifact, 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithTimeout(t.Context(), 4*soon)
	defer stop()
	approved := make(chan *signing.RequestRow, 1)
	go func() { approved <- w.approveNext(ctx, policy, int64(len(artifact))) }()
	output, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, output)
	}
	r := <-approved
	if r == nil {
		t.Fatalf("no request appeared: %s", output)
	}
	if client == "cli" {
		signed, err := os.ReadFile(filepath.Join(cmd.Dir, "app-signed.exe"))
		if err != nil || len(signed) <= len(artifact) || !bytes.HasPrefix(signed, []byte("MZ")) {
			t.Errorf("the signed artifact has %d bytes: %v\n%s", len(signed), err, output)
		}
	} else if !bytes.Contains(output, []byte(r.ID)) || r.Description != "Release candidate" {
		t.Errorf("request %s %q; the answer was %s", r.ID, r.Description, output)
	}
	if wantsOrigin(policy) && (r.Origin == nil || r.Origin.BranchName != "release/2 & more" || r.TrustedBuildSystemID == "") {
		t.Errorf("the origin is %+v", r.Origin)
	}
}

// approveNext waits for the request with an artifact of that size, and approves it if its policy wants an approval; nil when
// the context ends before.
func (w *world) approveNext(ctx context.Context, policy *signing.Policy, size int64) *signing.RequestRow {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		page, err := w.Requests(ctx, w.Rita, signing.RequestQuery{ProjectSlug: "app", PolicySlug: policy.Slug})
		if err == nil {
			for _, r := range page.Items {
				if r.Unsigned.Size != size {
					continue
				}
				if policy.Rules.RequiredApprovals == 0 {
					return r
				}
				if _, err := w.Approve(ctx, w.Rita, r.ID, ""); err == nil {
					return r
				}
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// TestPowerShellSnippets parses the snippets with PowerShell's grammar: they are whole, call our command, and give it only
// parameters that it has, each once.
func TestPowerShellSnippets(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	dir := t.TempDir()
	const module = "../../powershell/Countersign/Countersign.psm1"
	files := []string{module}
	for _, policy := range []*signing.Policy{w.Test, w.Verified} {
		file := filepath.Join(dir, policy.Slug+".ps1")
		if err := os.WriteFile(file, []byte(w.snippetsOf(t, policy)["powershell"]), 0o600); err != nil {
			t.Fatal(err)
		}
		files = append(files, file)
	}
	raw, err := oracle.ParsePowerShell(t.Context(), files...)
	if err != nil {
		t.Fatal(err)
	}
	var facts map[string]struct {
		Broken    []struct{ Text string }
		Functions []struct {
			Text       string
			Parameters []struct{ Name string }
		}
		Commands []struct {
			Text string
			Own  []string
		}
	}
	if err := json.Unmarshal(raw, &facts); err != nil {
		t.Fatal(err)
	}
	var known []string
	for _, f := range facts[module].Functions {
		if f.Text == "Submit-SigningRequest" {
			for _, p := range f.Parameters {
				known = append(known, p.Name)
			}
		}
	}
	for _, file := range files[1:] {
		got := facts[file]
		if len(got.Broken) > 0 || len(got.Commands) != 1 || got.Commands[0].Text != "Submit-SigningRequest" {
			t.Fatalf("%s: broken %v, commands %+v", filepath.Base(file), got.Broken, got.Commands)
		}
		given := got.Commands[0].Own
		if len(given) < 7 {
			t.Errorf("%s gives %q", filepath.Base(file), given)
		}
		seen := map[string]bool{}
		for _, name := range given {
			name = strings.TrimPrefix(name, "-")
			if !slices.Contains(known, name) || seen[name] {
				t.Errorf("%s gives -%s; the command has %q", filepath.Base(file), name, known)
			}
			seen[name] = true
		}
	}
}
