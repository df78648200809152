package e2e

import (
	"bytes"
	"context"
	"path/filepath"
	"testing"
	"time"

	"github.com/countersign-dev/countersign/api"
	"github.com/countersign-dev/countersign/client"
	"github.com/countersign-dev/countersign/internal/oracle"
	"github.com/countersign-dev/countersign/internal/samples"
)

// TestReleaseOfOthersPrograms takes Windows programs that others made and published through test signing, resubmission,
// approval and release signing.
func TestReleaseOfOthersPrograms(t *testing.T) {
	t.Parallel()
	osslsigncode := oracle.Need(t, "osslsigncode")
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	d := startDemo(t, t.TempDir())
	ci, approver := d.client(t, d.Tokens.CI), d.client(t, d.Tokens.Approver)
	trusted := roots(t, d.CAFile)
	for _, sample := range []struct{ name, pkg, version, file string }{
		{"esbuild", "@esbuild/win32-x64", "0.25.0", "esbuild.exe"},
		{"7za, 64-bit", "7zip-bin", "5.2.0", "win/x64/7za.exe"},
		{"7za, 32-bit", "7zip-bin", "5.2.0", "win/ia32/7za.exe"},
	} {
		t.Run(sample.name, func(t *testing.T) {
			path := filepath.Join(samples.NPM(t, sample.pkg, sample.version), "package", filepath.FromSlash(sample.file))
			unsigned := readFile(t, path)
			signed := func(id string, wantPolicy, wantSigner string) {
				t.Helper()
				state, err := ci.Wait(ctx, id, client.WaitOptions{})
				if err != nil || state.Status != api.SigningRequestStatusCompleted {
					t.Fatalf("request %s: %+v, %v", id, state, err)
				}
				out := filepath.Join(t.TempDir(), filepath.Base(path))
				if _, err := ci.Download(ctx, id, out, client.DownloadOptions{}); err != nil {
					t.Fatal(err)
				}
				acceptedByOsslsigncode(t, osslsigncode, out, d.CAFile)
				subject, err := verify(ctx, out, trusted)
				if err != nil || subject != wantSigner {
					t.Errorf("%s is signed by %q, %v", out, subject, err)
				}
				if r, err := ci.Get(ctx, id); err != nil || r.SigningPolicySlug != wantPolicy {
					t.Errorf("request %+v, %v", r, err)
				}
				// The program itself, behind its headers, is what was submitted.
				if content := readFile(t, out); !bytes.Contains(content, unsigned[4096:len(unsigned)-4096]) {
					t.Error("the signed program has other content than the unsigned one")
				}
			}
			test, err := ci.Submit(ctx, client.Submission{ProjectSlug: "demo", PolicySlug: "test-signing", Artifact: upload(filepath.Base(path), unsigned)})
			if err != nil {
				t.Fatal(err)
			}
			signed(test.SigningRequestID, "test-signing", "CN=Countersign demo test certificate,O=Demo organization")
			release, err := ci.Resubmit(ctx, client.Resubmission{Original: test.SigningRequestID, PolicySlug: "release-signing"})
			if err != nil {
				t.Fatal(err)
			}
			waiting := func(s *api.SigningRequestState) bool { return s.Status == api.SigningRequestStatusWaitingForApproval }
			if state, err := ci.Wait(ctx, release.SigningRequestID, client.WaitOptions{Until: waiting}); err != nil || !waiting(state) {
				t.Fatalf("release: %+v, %v", state, err)
			}
			if _, err := ci.Approve(ctx, release.SigningRequestID, ""); err == nil {
				t.Error("the submitter approved")
			}
			if _, err := approver.Approve(ctx, release.SigningRequestID, "The test signature was verified."); err != nil {
				t.Fatal(err)
			}
			signed(release.SigningRequestID, "release-signing", "CN=Demo organization,O=Demo organization,C=AT")
		})
	}
}
