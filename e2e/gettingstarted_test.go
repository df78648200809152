package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/countersign-dev/countersign/internal/oracle"
	"github.com/countersign-dev/countersign/internal/samples"
)

var shellBlock = regexp.MustCompile("(?s)```sh\n(.*?)```")

// TestGettingStarted runs the commands of the documentation that set up a server of one's own, as they stand there, and has
// another implementation check the program that they sign.
func TestGettingStarted(t *testing.T) {
	t.Parallel()
	bash, osslsigncode := oracle.Need(t, "bash"), oracle.Need(t, "osslsigncode")
	for _, program := range []string{"curl", "openssl"} {
		oracle.Need(t, program)
	}
	page := string(readFile(t, "../docs/getting-started.md"))
	_, own, ok := strings.Cut(page, "\n### Certificates\n")
	certificates, project, both := strings.Cut(own, "\n### A project\n")
	first, rest := shellBlock.FindStringSubmatch(certificates), shellBlock.FindAllStringSubmatch(project, 2)
	if !ok || !both || first == nil || len(rest) != 2 || !strings.Contains(rest[1][1], "request submit") {
		t.Fatal("the page has other sections")
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "app.exe"), readFile(t, samples.GoEXE(t, "amd64")), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(program(t), filepath.Join(dir, "countersign")); err != nil {
		t.Fatal(err)
	}
	script := `countersign serve --data ./data --listen 127.0.0.1:0 --ready-file ready.json > printed &
server=$!
trap 'kill $server; wait $server' EXIT
until [ -f ready.json ]; do kill -0 $server; read -r -t 0.02 <> <(:) || :; done
eval "$(sed -n 's/^  export/export/p' printed)"
` + first[1] + rest[0][1] + rest[1][1] + `
grep -q 'BEGIN CERTIFICATE REQUEST' release.csr
export COUNTERSIGN_TOKEN=$(sed -n 's/^  export COUNTERSIGN_TOKEN=//p' printed)
curl -sSf -H "Authorization: Bearer $COUNTERSIGN_TOKEN" "$COUNTERSIGN_URL/Api/v1/$COUNTERSIGN_ORGANIZATION/Certificates/test/X509Certificate" |
    openssl x509 -inform DER -out ca.pem
`
	cmd := exec.CommandContext(t.Context(), bash, "-euo", "pipefail", "-c", script)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "PATH="+dir+":"+os.Getenv("PATH"), "NO_PROXY=*")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	acceptedByOsslsigncode(t, osslsigncode, filepath.Join(dir, "app-signed.exe"), filepath.Join(dir, "ca.pem"))
}
