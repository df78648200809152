package powershell_test

import (
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"sync/atomic"
	"testing"
)

// TestLive runs the module in PowerShell against a server.
func TestLive(t *testing.T) {
	t.Parallel()
	pwsh, err := exec.LookPath("pwsh")
	if err != nil {
		// Debian has no PowerShell, so that continuous integration may lack it too. There the grammar and the recorded
		// requests judge the module.
		t.Skip("SKIPPED: there is no pwsh on the PATH. PowerShell is no Debian package; install it by hand to run the module against a server: https://github.com/PowerShell/PowerShell")
	}
	w := newWorld(t)
	var calls atomic.Int32
	inner := w.handler
	w.handler = http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if calls.Add(1) == 1 {
			rw.Header().Set("Retry-After", "1")
			rw.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		inner.ServeHTTP(rw, r)
	})
	artifact := filepath.Join(t.TempDir(), "input.exe")
	if err := os.WriteFile(artifact, examplePE, 0o600); err != nil {
		t.Fatal(err)
	}
	module, err := filepath.Abs("Countersign/Countersign.psd1")
	if err != nil {
		t.Fatal(err)
	}
	command := exec.CommandContext(t.Context(), pwsh, "-NoProfile", "-NonInteractive", "-File", "test/live.ps1",
		"-Module", module, "-Artifact", artifact, "-Directory", t.TempDir())
	command.Env = append(os.Environ(), "COUNTERSIGN_URL="+w.serve(t), "COUNTERSIGN_ORGANIZATION="+w.organization,
		"COUNTERSIGN_TOKEN="+w.token, "TEST_BUILD_SYSTEM_TOKEN="+w.buildSystem)
	if output, err := command.CombinedOutput(); err != nil {
		t.Fatalf("%v:\n%s", err, output)
	}
	if calls.Load() < 2 {
		t.Error("the server was not called again after 503")
	}
}
