package e2e

import (
	"bytes"
	"context"
	"crypto/x509"
	"fmt"
	"os"
	"os/exec"
	"testing"

	"github.com/countersign-dev/countersign/artifact"
	"github.com/countersign-dev/countersign/artifact/authenticode"
	"github.com/countersign-dev/countersign/client"
)

// upload makes bytes an artifact.
func upload(name string, content []byte) client.Upload {
	return client.Upload{Name: name, Content: bytes.NewReader(content), Size: int64(len(content))}
}

func readFile(t testing.TB, path string) []byte {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return content
}

// roots reads the certificates that a demo asks to trust.
func roots(t testing.TB, caFile string) *x509.CertPool {
	t.Helper()
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(readFile(t, caFile)) {
		t.Fatalf("%s has no certificates", caFile)
	}
	return pool
}

// verify checks that a Windows program carries exactly one signature, valid and with a valid timestamp, and returns the
// signer's subject.
func verify(ctx context.Context, path string, roots *x509.CertPool) (subject string, err error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return "", err
	}
	report, err := artifact.Verify(ctx, artifact.Source{Name: path, Content: f, Size: info.Size()},
		artifact.VerifyOptions{Trust: artifact.Trust{Roots: roots}})
	switch {
	case err != nil:
		return "", err
	case report.Worst != authenticode.StatusValid:
		return "", fmt.Errorf("%s is %s: %v, %+v", path, report.Worst, report.Problems, report.Report)
	case len(report.Report.Signatures) != 1:
		return "", fmt.Errorf("%s has %d signatures", path, len(report.Report.Signatures))
	}
	s := report.Report.Signatures[0]
	if s.Timestamp == nil || !s.Timestamp.Valid {
		return "", fmt.Errorf("%s has timestamp %+v", path, s.Timestamp)
	}
	return s.Signer.Subject, nil
}

// acceptedByOsslsigncode has another implementation check a signed Windows program.
func acceptedByOsslsigncode(t testing.TB, osslsigncode, path, caFile string) {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), osslsigncode, "verify", "-CAfile", caFile, "-TSA-CAfile", caFile, "-in", path).CombinedOutput()
	if err != nil || !bytes.Contains(out, []byte("Number of verified signatures: 1")) {
		t.Errorf("osslsigncode verify %s: %v\n%s", path, err, out)
	}
}
