package artifact

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/countersign-dev/countersign/internal/oracle"
)

// signBytes plans and signs, and fails the test if there are violations.
func signBytes(t testing.TB, c *Configuration, name string, content []byte, who identity, opts PlanOptions) ([]byte, *Plan, *Result) {
	t.Helper()
	plan, err := c.Plan(t.Context(), bytesSource(name, content), opts)
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range plan.Violations {
		t.Errorf("violation: %+v", v)
	}
	out := outputFile(t)
	result, err := Sign(t.Context(), plan, bytesSource(name, content), out, SignOptions{Workspace: opts.Workspace, Key: who.key, Chain: who.chain})
	if err != nil {
		t.Fatal(err)
	}
	signed, err := os.ReadFile(out.Name())
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(signed)
	if result.SHA256 != hex.EncodeToString(sum[:]) || result.Size != int64(len(signed)) {
		t.Errorf("result says %s, %d bytes; the output is %x, %d bytes", result.SHA256, result.Size, sum, len(signed))
	}
	return signed, plan, result
}

// osslsigncode fails the test unless it accepts all signatures of an image.
func osslsigncode(t testing.TB, image []byte, who identity) {
	t.Helper()
	program := oracle.Need(t, "osslsigncode")
	name := filepath.Join(t.TempDir(), "image.exe")
	if err := os.WriteFile(name, image, 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(program, "verify", "-CAfile", who.file(t), name).CombinedOutput(); err != nil {
		t.Errorf("osslsigncode: %v\n%s", err, out)
	}
}

func TestSignSinglePE(t *testing.T) {
	t.Parallel()
	c := mustParse(t, configure(`<pe-file path="app-*.exe"><authenticode-sign description="An app"/></pe-file>`))
	image := makePE(20_000, 1, nil)
	signed, plan, result := signBytes(t, c, "app-1.exe", image, ecdsaIdentity(), PlanOptions{})
	osslsigncode(t, signed, ecdsaIdentity())
	if got := plan.SignatureCount(); got != 1 {
		t.Errorf("SignatureCount is %d, want 1", got)
	}
	if len(result.Files) != 1 || len(result.Files[0].Signatures) != 1 || result.Files[0].SHA256Before != plan.ArtifactSHA256 {
		t.Errorf("unexpected result %+v", result)
	}
}

func TestSignTwiceAppended(t *testing.T) {
	t.Parallel()
	c := mustParse(t, configure(`<pe-file>
		<authenticode-sign hash-algorithm="sha1"/>
		<authenticode-sign hash-algorithm="sha256" append="true"/>
	</pe-file>`))
	signed, _, result := signBytes(t, c, "a.exe", makePE(9000, 2, nil), rsaIdentity(), PlanOptions{})
	osslsigncode(t, signed, rsaIdentity())
	var algorithms []string
	for _, s := range result.Files[0].Signatures {
		algorithms = append(algorithms, s.HashAlgorithm)
	}
	if diff := cmp.Diff([]string{"sha1", "sha256"}, algorithms); diff != "" {
		t.Error(diff)
	}
	report, err := Verify(t.Context(), bytesSource("a.exe", signed), VerifyOptions{Trust: Trust{Roots: rsaIdentity().pool()}})
	if err != nil {
		t.Fatal(err)
	}
	if n := len(report.Report.Signatures); n != 2 {
		t.Errorf("the signed file has %d signatures, want 2", n)
	}
}

func TestSignNestedZIP(t *testing.T) {
	t.Parallel()
	inner := makeZIP(t,
		zipFile{name: "lib/x.dll", content: makePE(5000, 3, nil)},
		zipFile{name: "readme.txt", content: []byte("hello")})
	outer := makeZIP(t,
		zipFile{name: "bin/"},
		zipFile{name: "bin/app.exe", content: makePE(7000, 4, nil), stored: true},
		zipFile{name: "inner.zip", content: inner},
		zipFile{name: "stored.zip", content: inner, stored: true},
		zipFile{name: "link", content: []byte("bin/app.exe"), link: true},
		zipFile{name: "data.bin", content: bytes.Repeat([]byte("data"), 10_000)})
	c := mustParse(t, configure(`<zip-file>
		<directory path="bin"><pe-file path="*.exe"><authenticode-sign/></pe-file></directory>
		<zip-file-set>
			<include path="inner.zip"/><include path="stored.zip"/>
			<for-each><pe-file path="LIB\X.dll"><authenticode-sign/></pe-file></for-each>
		</zip-file-set>
	</zip-file>`))
	signed, plan, result := signBytes(t, c, "outer.zip", outer, ecdsaIdentity(), PlanOptions{})
	if got := plan.SignatureCount(); got != 3 {
		t.Errorf("SignatureCount is %d, want 3", got)
	}
	var paths []string
	for _, f := range result.Files {
		paths = append(paths, f.Path)
	}
	want := []string{"bin/app.exe", "inner.zip/lib/x.dll", "inner.zip", "stored.zip/lib/x.dll", "stored.zip", ""}
	if diff := cmp.Diff(want, paths); diff != "" {
		t.Error(diff)
	}
	report, err := Verify(t.Context(), bytesSource("outer.zip", signed), VerifyOptions{
		Trust: Trust{Roots: ecdsaIdentity().pool()}, Publisher: "Acme, Inc."})
	if err != nil {
		t.Fatal(err)
	}
	if report.Worst != "valid" {
		b, _ := json.MarshalIndent(report, "", " ")
		t.Errorf("the signed archive is %s\n%s", report.Worst, b)
	}
}

func TestSignRefuses(t *testing.T) {
	t.Parallel()
	c := mustParse(t, configure(`<zip-file><pe-file path="a.exe"><authenticode-sign/></pe-file></zip-file>`))
	content := makeZIP(t, zipFile{name: "a.exe", content: makePE(3000, 5, nil)})
	other := makeZIP(t, zipFile{name: "a.exe", content: makePE(3000, 6, nil)})
	plan, err := c.Plan(t.Context(), bytesSource("a.zip", content), PlanOptions{})
	if err != nil {
		t.Fatal(err)
	}
	who := ecdsaIdentity()
	opts := SignOptions{Key: who.key, Chain: who.chain}
	if _, err := Sign(t.Context(), plan, bytesSource("a.zip", other), outputFile(t), opts); !errors.Is(err, ErrOtherArtifact) {
		t.Errorf("another artifact: got error %v", err)
	}
	changed := bytes.Clone(content)
	changed[len(changed)-30] ^= 1 // somewhere in the directory
	if _, err := Sign(t.Context(), plan, bytesSource("a.zip", changed), outputFile(t), opts); err == nil {
		t.Error("a changed artifact was signed")
	}
	empty := makeZIP(t, zipFile{name: "b.exe", content: makePE(3000, 5, nil)})
	plan, err = c.Plan(t.Context(), bytesSource("a.zip", empty), PlanOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Sign(t.Context(), plan, bytesSource("a.zip", empty), outputFile(t), opts); !errors.Is(err, ErrViolations) {
		t.Errorf("a plan with violations: got error %v", err)
	}
}

// TestBadArchives plans archives that must not be signed: each is a violation
// that names the file.
func TestBadArchives(t *testing.T) {
	t.Parallel()
	pe := makePE(2000, 1, nil)
	good := zipFile{name: "a.exe", content: pe}
	corrupt := makeZIP(t, zipFile{name: "a.exe", content: pe, stored: true})
	corrupt[bytes.Index(corrupt, []byte("MZ"))+1000] ^= 1
	encrypted := makeZIP(t, good)
	encrypted[6] |= 1
	encrypted[bytes.Index(encrypted, []byte("PK\x01\x02"))+8] |= 1
	unknown := makeZIP(t, good)
	unknown[8] = 12
	unknown[bytes.Index(unknown, []byte("PK\x01\x02"))+10] = 12
	lying := makeZIP(t, good)
	binary.LittleEndian.PutUint32(lying[bytes.Index(lying, []byte("PK\x01\x02"))+24:], 99)
	for name, c := range map[string]struct {
		archive []byte
		names   string // in the violation
		code    string
		limits  Limits
	}{
		"duplicate":    {archive: makeZIP(t, good, good), names: "a.exe", code: ViolationUnreadable},
		"collision":    {archive: makeZIP(t, good, zipFile{name: "A.EXE", content: pe}), names: "A.EXE", code: ViolationUnreadable},
		"traversal":    {archive: makeZIP(t, good, zipFile{name: "x/../../b.exe", content: pe}), names: "x/../../b.exe", code: ViolationUnreadable},
		"absolute":     {archive: makeZIP(t, good, zipFile{name: "/b.exe", content: pe}), names: "/b.exe", code: ViolationUnreadable},
		"corrupt":      {archive: corrupt, names: "a.exe", code: ViolationUnreadable},
		"encrypted":    {archive: encrypted, names: "a.exe", code: ViolationUnreadable},
		"method":       {archive: unknown, names: "a.exe", code: ViolationUnreadable},
		"lying":        {archive: lying, names: "a.exe", code: ViolationUnreadable},
		"cut off":      {archive: corrupt[:len(corrupt)-5], names: "", code: ViolationUnreadable},
		"too many":     {archive: makeZIP(t, good, zipFile{name: "b"}, zipFile{name: "c"}), limits: Limits{Files: 2}, code: ViolationLimit},
		"too large":    {archive: makeZIP(t, good, zipFile{name: "b", content: make([]byte, 1<<20)}), limits: Limits{TotalSize: 1 << 20}, code: ViolationLimit},
		"bomb":         {archive: makeZIP(t, good, zipFile{name: "b", content: make([]byte, 70<<20)}), names: "b", code: ViolationLimit},
		"far too many": {archive: makeZIP(t, good, zipFile{name: "b"}, zipFile{name: "c"}, zipFile{name: "d"}), limits: Limits{Files: 1}, code: ViolationLimit},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			plan, err := mustParse(t, configure(`<zip-file><pe-file path="a.exe"><authenticode-sign/></pe-file></zip-file>`)).
				Plan(t.Context(), bytesSource("x.zip", c.archive), PlanOptions{Workspace: Workspace{Limits: c.limits}})
			if err != nil {
				t.Fatal(err)
			}
			if len(plan.Violations) == 0 {
				t.Fatal("there is no violation")
			}
			v := plan.Violations[0]
			if v.Code != c.code || !strings.Contains(v.Path+" "+v.Message, c.names) || v.Line == 0 {
				t.Errorf("violation %+v, want code %s and the name %q", v, c.code, c.names)
			}
		})
	}
}
