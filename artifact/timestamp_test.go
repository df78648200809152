package artifact

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"math/big"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/countersign-dev/countersign/artifact/timestamp"
)

// newAuthority makes a time-stamp authority with a self-signed certificate.
func newAuthority(t *testing.T) (*timestamp.Authority, *x509.Certificate) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		Subject:      pkix.Name{CommonName: "Time"},
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().Add(time.Hour),
		KeyUsage:     x509.KeyUsageDigitalSignature,
		// RFC 3161 section 2.3 wants this purpose alone, and critical.
		ExtraExtensions: []pkix.Extension{{
			Id: []int{2, 5, 29, 37}, Critical: true,
			Value: []byte{0x30, 0x0a, 0x06, 0x08, 0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x08},
		}},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	authority, err := timestamp.NewAuthority(timestamp.AuthorityOptions{Key: key, Chain: []*x509.Certificate{certificate}, Policy: []int{1, 3, 6, 1, 4, 1, 99999, 1}})
	if err != nil {
		t.Fatal(err)
	}
	return authority, certificate
}

func TestSignWithTimestamps(t *testing.T) {
	t.Parallel()
	authority, certificate := newAuthority(t)
	content := makeZIP(t, zipFile{name: "a.exe", content: makePE(3000, 1, nil)}, zipFile{name: "b.exe", content: makePE(3000, 2, nil)})
	c := mustParse(t, configure(`<zip-file><pe-file path="*.exe" max-matches="2"><authenticode-sign/></pe-file></zip-file>`))
	plan, err := c.Plan(t.Context(), bytesSource("a.zip", content), PlanOptions{})
	if err != nil {
		t.Fatal(err)
	}
	who, out := ecdsaIdentity(), outputFile(t)
	if _, err := Sign(t.Context(), plan, bytesSource("a.zip", content), out, SignOptions{Key: who.key, Chain: who.chain, Timestamper: authority}); err != nil {
		t.Fatal(err)
	}
	signed, err := os.ReadFile(out.Name())
	if err != nil {
		t.Fatal(err)
	}
	clocks := x509.NewCertPool()
	clocks.AddCert(certificate)
	report, err := Verify(t.Context(), bytesSource("a.zip", signed), VerifyOptions{Trust: Trust{
		Roots: who.pool(), TimestampRoots: clocks,
	}})
	if err != nil {
		t.Fatal(err)
	}
	if report.Worst != "valid" || len(report.Files) != 2 {
		t.Fatalf("the signed archive is %s, with %d files", report.Worst, len(report.Files))
	}
	for _, f := range report.Files {
		if s := f.Report.Signatures[0]; s.Timestamp == nil || !s.Timestamp.Valid {
			t.Errorf("%s: the time stamp is %+v", f.Path, s.Timestamp)
		}
	}
}

type brokenTimestamper struct{}

var errNoTime = errors.New("no time today")

func (brokenTimestamper) Timestamp(context.Context, []byte, crypto.Hash) ([]byte, error) {
	return nil, errNoTime
}

// Without a time stamp nothing is signed when one is wanted, and the error says
// for which file.
func TestSignWithoutTime(t *testing.T) {
	t.Parallel()
	content := makeZIP(t, zipFile{name: "dir/a.exe", content: makePE(3000, 1, nil)})
	c := mustParse(t, configure(`<zip-file><pe-file path="**/*.exe"><authenticode-sign/></pe-file></zip-file>`))
	plan, err := c.Plan(t.Context(), bytesSource("a.zip", content), PlanOptions{})
	if err != nil {
		t.Fatal(err)
	}
	who := ecdsaIdentity()
	_, err = Sign(t.Context(), plan, bytesSource("a.zip", content), outputFile(t), SignOptions{Key: who.key, Chain: who.chain, Timestamper: brokenTimestamper{}})
	if !errors.Is(err, errNoTime) || !strings.HasPrefix(err.Error(), "dir/a.exe: ") {
		t.Errorf("got error %v", err)
	}
}
