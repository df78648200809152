package artifact

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/countersign-dev/countersign/internal/oracle"
	"github.com/countersign-dev/countersign/internal/samples"
)

// TestOtherProgramsReadOutput signs an archive made by zip of real images that
// others built, nested in another, and has other programs read the output and
// accept the signatures.
func TestOtherProgramsReadOutput(t *testing.T) {
	t.Parallel()
	packages := samples.NPM(t, "7zip-bin", "5.2.0")
	esbuild := filepath.Join(samples.NPM(t, "@esbuild/win32-x64", "0.25.0"), "package", "esbuild.exe")
	work := t.TempDir()
	tree := filepath.Join(work, "tree")
	run := func(dir, program string, args ...string) string {
		t.Helper()
		cmd := exec.Command(oracle.Need(t, program), args...)
		cmd.Dir = dir
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%s %v: %v\n%s", program, args, err, out)
		}
		return string(out)
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(os.MkdirAll(tree, 0o755))
	must(os.CopyFS(filepath.Join(tree, "7zip"), os.DirFS(filepath.Join(packages, "package", "win"))))
	must(os.Symlink("7zip", filepath.Join(tree, "link")))
	must(os.WriteFile(filepath.Join(tree, "ünïcode.txt"), []byte("text"), 0o644))
	run(tree, "zip", "-qry", "../inner.zip", ".")
	must(os.Rename(filepath.Join(work, "inner.zip"), filepath.Join(tree, "inner.zip")))
	image, err := os.ReadFile(esbuild)
	must(err)
	must(os.WriteFile(filepath.Join(tree, "esbuild.exe"), image, 0o755))
	run(tree, "zip", "-qry", "../outer.zip", ".")
	archive, err := os.ReadFile(filepath.Join(work, "outer.zip"))
	must(err)

	const each = `<pe-file-set><include path="7zip/**/*.exe" max-matches="unbounded"/><for-each><authenticode-sign/></for-each></pe-file-set>`
	c := mustParse(t, configure(`<zip-file>
		<pe-file path="esbuild.exe"><authenticode-sign description="esbuild"/></pe-file>`+each+`
		<zip-file path="inner.zip">`+each+`</zip-file>
	</zip-file>`))
	signed, plan, _ := signBytes(t, c, "outer.zip", archive, rsaIdentity(), PlanOptions{})
	if plan.SignatureCount() < 3 {
		t.Fatalf("%d signatures were planned", plan.SignatureCount())
	}
	output := filepath.Join(work, "signed.zip")
	must(os.WriteFile(output, signed, 0o600))

	run(work, "unzip", "-qt", output)
	before, after := run(work, "zipinfo", "-1", "outer.zip"), run(work, "zipinfo", "-1", "signed.zip")
	if before != after {
		t.Errorf("zipinfo lists\n%s\nand listed\n%s", after, before)
	}
	run(work, "python3", "-c", "import sys,zipfile\nz=zipfile.ZipFile(sys.argv[1])\nassert z.testzip() is None", output)
	if listed := run(work, "jar", "tf", output); strings.Count(listed, "\n") != strings.Count(before, "\n") {
		t.Errorf("jar lists\n%s\nzipinfo lists\n%s", listed, before)
	}
	run(work, "unzip", "-qo", "signed.zip", "-d", "unpacked")
	run(work, "unzip", "-qo", "unpacked/inner.zip", "-d", "unpacked/inner")
	ca, count := rsaIdentity().file(t), 0
	must(filepath.WalkDir(filepath.Join(work, "unpacked"), func(p string, d os.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() && strings.HasSuffix(p, ".exe") {
			run(work, "osslsigncode", "verify", "-CAfile", ca, p)
			count++
		}
		return err
	}))
	if count != plan.SignatureCount() {
		t.Errorf("osslsigncode accepts %d images, %d were signed", count, plan.SignatureCount())
	}
}
