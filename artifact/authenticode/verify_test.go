package authenticode_test

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"encoding/binary"
	"encoding/json"
	"errors"
	"slices"
	"testing"
	"time"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"

	"github.com/countersign-dev/countersign/artifact/authenticode"
	"github.com/countersign-dev/countersign/artifact/authenticode/petest"
	"github.com/countersign-dev/countersign/artifact/cms"
	"github.com/countersign-dev/countersign/artifact/cms/cmstest"
)

// codes returns the codes of all problems that are not only warnings, or are with warnings set.
func codes(report *authenticode.Report, warnings bool) []authenticode.ProblemCode {
	var all []authenticode.ProblemCode
	for _, p := range append(slices.Clone(report.Problems), flatten(report)...) {
		if p.Warning == warnings {
			all = append(all, p.Code)
		}
	}
	return all
}

func rawSign(t testing.TB, file []byte, opts authenticode.Options) []byte {
	t.Helper()
	var out authenticode.Buffer
	if _, err := authenticode.SignPE(t.Context(), &out, bytes.NewReader(file), int64(len(file)), opts); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// TestVerdicts tells the states apart.
func TestVerdicts(t *testing.T) {
	t.Parallel()
	now := time.Now()
	root := cmstest.Root(t, "Test Root")
	codeSigning := []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning}
	signer := root.Issue(t, cmstest.Template{Name: "Publisher", Usage: codeSigning})
	expired := root.Issue(t, cmstest.Template{Name: "Publisher", Usage: codeSigning, NotBefore: now.Add(-50 * time.Minute), NotAfter: now.Add(-10 * time.Minute)})
	mail := root.Issue(t, cmstest.Template{Name: "Publisher", Usage: []x509.ExtKeyUsage{x509.ExtKeyUsageEmailProtection}})
	self := cmstest.SelfSigned(t, "Self", "p256")
	tsa := cmstest.NewTSA(t, root)
	inTime := &cmstest.TSA{Identity: tsa.Identity, Time: now.Add(-20 * time.Minute)}
	tooLate := &cmstest.TSA{Identity: tsa.Identity, Time: now.Add(-5 * time.Minute)}
	strangerTSA := cmstest.NewTSA(t, cmstest.Root(t, "Other Root"))
	strangerTSA.Time = inTime.Time
	roots := authenticode.VerifyOptions{Roots: root.Pool()}
	file := petest.Image{}.Bytes()

	for _, test := range []struct {
		name     string
		file     []byte
		opts     authenticode.VerifyOptions
		want     authenticode.Status
		codes    []authenticode.ProblemCode
		warnings []authenticode.ProblemCode
	}{
		{name: "not signed", file: file, opts: roots, want: authenticode.StatusNotSigned},
		{name: "valid", file: rawSign(t, file, options(signer)), opts: roots, want: authenticode.StatusValid},
		{name: "no roots", file: rawSign(t, file, options(signer)), want: authenticode.StatusUntrusted,
			codes: []authenticode.ProblemCode{"untrusted-root"}},
		{name: "self-signed", file: rawSign(t, file, options(self)), opts: roots, want: authenticode.StatusUntrusted,
			codes: []authenticode.ProblemCode{"untrusted-root"}},
		{name: "self-signed and trusted", file: rawSign(t, file, options(self)), opts: authenticode.VerifyOptions{Roots: self.Pool()}, want: authenticode.StatusValid},
		{name: "for mail", file: rawSign(t, file, options(mail)), opts: roots, want: authenticode.StatusUntrusted,
			codes: []authenticode.ProblemCode{"wrong-key-usage"}},
		{name: "expired", file: rawSign(t, file, options(expired)), opts: roots, want: authenticode.StatusExpired,
			codes: []authenticode.ProblemCode{authenticode.ProblemExpiredNoTimestamp}},
		{name: "expired and not trusted", file: rawSign(t, file, options(expired)), want: authenticode.StatusUntrusted,
			codes: []authenticode.ProblemCode{authenticode.ProblemExpiredNoTimestamp, "untrusted-root"}},
		{name: "expired, stamped in time", file: rawSign(t, file, stamped(expired, inTime)), opts: roots, want: authenticode.StatusValid},
		{name: "expired, stamped too late", file: rawSign(t, file, stamped(expired, tooLate)), opts: roots, want: authenticode.StatusExpired,
			codes: []authenticode.ProblemCode{"certificate-expired"}},
		{name: "expired, stamped by a stranger", file: rawSign(t, file, stamped(expired, strangerTSA)), opts: roots, want: authenticode.StatusExpired,
			codes:    []authenticode.ProblemCode{authenticode.ProblemExpiredNoTimestamp},
			warnings: []authenticode.ProblemCode{authenticode.ProblemTimestampUntrusted}},
		{name: "looked at years later", file: rawSign(t, file, stamped(signer, tsa)),
			opts: authenticode.VerifyOptions{Roots: root.Pool(), CurrentTime: now.AddDate(10, 0, 0)}, want: authenticode.StatusValid},
		{name: "looked at years later without time stamp", file: rawSign(t, file, options(signer)),
			opts: authenticode.VerifyOptions{Roots: root.Pool(), CurrentTime: now.AddDate(10, 0, 0)}, want: authenticode.StatusExpired,
			codes: []authenticode.ProblemCode{authenticode.ProblemExpiredNoTimestamp}},
		{name: "changed code", file: flip(rawSign(t, file, options(signer)), len(file)-1), opts: roots, want: authenticode.StatusBroken,
			codes: []authenticode.ProblemCode{authenticode.ProblemDigestMismatch}, warnings: []authenticode.ProblemCode{authenticode.ProblemChecksum}},
		{name: "changed checksum", file: flip(rawSign(t, file, options(signer)), petest.OffsetPE+24+64), opts: roots, want: authenticode.StatusValid,
			warnings: []authenticode.ProblemCode{authenticode.ProblemChecksum}},
		{name: "SHA-1", file: rawSign(t, file, authenticode.Options{Key: signer.Key, Chain: signer.Chain, Hash: crypto.SHA1}), opts: roots, want: authenticode.StatusValid,
			warnings: []authenticode.ProblemCode{authenticode.ProblemWeakHash}},
		{name: "signature of another file", file: transplant(rawSign(t, petest.Image{Overlay: []byte("?")}.Bytes(), options(signer)), file), opts: roots, want: authenticode.StatusBroken,
			codes: []authenticode.ProblemCode{authenticode.ProblemDigestMismatch}, warnings: []authenticode.ProblemCode{authenticode.ProblemChecksum}},
		{name: "unknown hash function", file: withTable(file, bytes.ReplaceAll(table(rawSign(t, file, options(signer))), sha256OID, unknownOID)), opts: roots, want: authenticode.StatusBroken,
			codes: []authenticode.ProblemCode{authenticode.ProblemUnsupported}, warnings: []authenticode.ProblemCode{authenticode.ProblemChecksum}},
		{name: "time stamp of another signature", file: exchangeTimestamp(t, file, signer, tsa), opts: roots, want: authenticode.StatusBroken,
			codes: []authenticode.ProblemCode{authenticode.ProblemTimestampInvalid}, warnings: []authenticode.ProblemCode{authenticode.ProblemChecksum}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			report, err := authenticode.VerifyPE(t.Context(), bytes.NewReader(test.file), int64(len(test.file)), test.opts)
			if err != nil {
				t.Fatal(err)
			}
			if report.Status != test.want || !slices.Equal(codes(report, false), test.codes) || !slices.Equal(codes(report, true), test.warnings) {
				t.Errorf("want %s %v %v, got %s", test.want, test.codes, test.warnings, indent(report))
			}
		})
	}
}

var (
	sha256OID  = []byte{6, 9, 0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, 1}
	unknownOID = []byte{6, 9, 0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, 99}
)

func options(signer *cmstest.Identity) authenticode.Options {
	return authenticode.Options{Key: signer.Key, Chain: signer.Chain}
}

func stamped(signer *cmstest.Identity, tsa cms.Timestamper) authenticode.Options {
	return authenticode.Options{Key: signer.Key, Chain: signer.Chain, Timestamper: tsa}
}

func flip(file []byte, at int) []byte {
	file = slices.Clone(file)
	file[at] ^= 0x55
	return file
}

// securityAt is where images of petest, in PE32+, have their security directory entry.
const securityAt = petest.OffsetPE + 24 + 112 + 4*8

// table returns the certificate table of a signed image.
func table(signed []byte) []byte {
	return signed[binary.LittleEndian.Uint32(signed[securityAt:]):]
}

// withTable puts a certificate table behind an image whose length is a multiple of 8.
func withTable(file, table []byte) []byte {
	signed := append(slices.Clone(file), table...)
	binary.LittleEndian.PutUint32(signed[securityAt:], uint32(len(file)))
	binary.LittleEndian.PutUint32(signed[securityAt+4:], uint32(len(table)))
	signed[petest.OffsetPE+24+64] ^= 1 // no longer the right checksum, but not none
	return signed
}

// winCertificate wraps a signature.
func winCertificate(blob []byte) []byte {
	padded := append(slices.Clone(blob), make([]byte, -len(blob)&7)...)
	entry := binary.LittleEndian.AppendUint32(nil, uint32(8+len(padded)))
	return append(append(entry, 0, 2, 2, 0), padded...)
}

func transplant(signed, file []byte) []byte { return withTable(file, table(signed)) }

// exchangeTimestamp gives a signature a time stamp that was made for another.
func exchangeTimestamp(t *testing.T, file []byte, signer *cmstest.Identity, tsa *cmstest.TSA) []byte {
	t.Helper()
	digest := make([]byte, 32)
	if _, err := rand.Read(digest); err != nil {
		t.Fatal(err)
	}
	token, err := tsa.Timestamp(t.Context(), digest, crypto.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	return addAttribute(t, file, rawSign(t, file, options(signer)), cms.OIDAttributeMicrosoftTimestamp, token)
}

func addAttribute(t *testing.T, file, signed []byte, oid []int, value []byte) []byte {
	t.Helper()
	sd, _, err := cms.ParsePrefix(table(signed)[8:])
	if err != nil {
		t.Fatal(err)
	}
	der, err := sd.AddUnsignedAttribute(oid, value)
	if err != nil {
		t.Fatal(err)
	}
	return withTable(file, winCertificate(der))
}

// TestLegacyTimestamp makes the kind of time stamp that Authenticode had before RFC
// 3161 and has osslsigncode verify it too.
func TestLegacyTimestamp(t *testing.T) {
	t.Parallel()
	now := time.Now()
	root := cmstest.Root(t, "Test Root")
	signer := root.Issue(t, cmstest.Template{Name: "Publisher", Kind: "rsa2048", Usage: []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning}, NotBefore: now.Add(-50 * time.Minute), NotAfter: now.Add(-10 * time.Minute)})
	authority := cmstest.NewTSA(t, root).Identity
	file := petest.Image{}.Bytes()
	opts := options(signer)
	opts.Chain = append(opts.Chain, authority.Certificate) // has to be embedded
	signed := rawSign(t, file, opts)
	sd, _, err := cms.ParsePrefix(table(signed)[8:])
	if err != nil {
		t.Fatal(err)
	}
	digest := crypto.SHA256.New()
	digest.Write(sd.Signers[0].Signature)
	counter, err := cms.Sign(t.Context(), cms.Detached(cms.OIDData, digest.Sum(nil)), cms.SignOptions{
		Key: authority.Key, Chain: authority.Chain, SigningTime: now.Add(-20 * time.Minute),
	})
	if err != nil {
		t.Fatal(err)
	}
	stampedFile := addAttribute(t, file, signed, cms.OIDAttributeCountersignature, signerInfo(t, counter))
	report := verify(t, stampedFile, root)
	if s := report.Signatures[0]; s.Status != authenticode.StatusValid || s.Timestamp == nil || s.Timestamp.Kind != cms.TimestampPKCS9 || !s.Timestamp.Valid {
		t.Errorf("report: %s", indent(report))
	}
	clear(stampedFile[petest.OffsetPE+24+64:][:4]) // no checksum
	osslsigncode(t, stampedFile, root)

	// The countersignature of another signature.
	other := rawSign(t, file, authenticode.Options{Key: signer.Key, Chain: opts.Chain, Hash: crypto.SHA512})
	report = verify(t, addAttribute(t, file, other, cms.OIDAttributeCountersignature, signerInfo(t, counter)), root)
	if report.Status != authenticode.StatusBroken || !slices.Contains(codes(report, false), authenticode.ProblemTimestampInvalid) {
		t.Errorf("exchanged: %s", indent(report))
	}
}

// signerInfo takes the SignerInfo out of a detached SignedData.
func signerInfo(t *testing.T, der []byte) []byte {
	t.Helper()
	s := cryptobyte.String(der)
	var info, content, sd, signers, first cryptobyte.String
	explicit := cbasn1.Tag(0).ContextSpecific().Constructed()
	if !s.ReadASN1(&info, cbasn1.SEQUENCE) || !info.SkipASN1(cbasn1.OBJECT_IDENTIFIER) || !info.ReadASN1(&content, explicit) ||
		!content.ReadASN1(&sd, cbasn1.SEQUENCE) || !sd.SkipASN1(cbasn1.INTEGER) || !sd.SkipASN1(cbasn1.SET) || !sd.SkipASN1(cbasn1.SEQUENCE) ||
		!sd.SkipASN1(explicit) || !sd.ReadASN1(&signers, cbasn1.SET) || !signers.ReadASN1Element(&first, cbasn1.SEQUENCE) {
		t.Fatal("no SignerInfo")
	}
	return first
}

// TestTampered changes each octet of the signature in turn: no change may be
// accepted, but in the padding and in what no signature covers.
func TestTampered(t *testing.T) {
	t.Parallel()
	root := cmstest.Root(t, "Test Root")
	signer := root.Issue(t, cmstest.Template{Name: "Publisher", Usage: []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning}})
	file := petest.Image{}.Bytes()
	signed := rawSign(t, file, options(signer))
	sd, _, err := cms.ParsePrefix(table(signed)[8:])
	if err != nil {
		t.Fatal(err)
	}
	accepted := 0
	for at := range signed {
		if covered := at < len(file) && (at < petest.OffsetPE+88 || at >= petest.OffsetPE+92); !covered && at < len(file) {
			continue // CheckSum
		}
		changed := flip(signed, at)
		report, err := authenticode.VerifyPE(t.Context(), bytes.NewReader(changed), int64(len(changed)), authenticode.VerifyOptions{Roots: root.Pool()})
		if err != nil {
			var formatErr *authenticode.FormatError
			if !errors.As(err, &formatErr) {
				t.Errorf("octet 0x%x: error %v is no FormatError", at, err)
			}
			continue
		}
		if report.Status == authenticode.StatusValid {
			accepted++
			if at < len(file) {
				t.Errorf("a changed octet 0x%x of the image is accepted", at)
			}
		}
	}
	// SignedData.version, digestAlgorithms, SignerInfo.version and NULL parameters
	// are under no signature; neither is the padding.
	if limit := 48; accepted > limit {
		t.Errorf("%d changed octets of a signature of %d are accepted, want at most %d", accepted, len(sd.Raw), limit)
	}
}

func TestOnlySignatureChanged(t *testing.T) {
	t.Parallel()
	root := cmstest.Root(t, "Test Root")
	signer := root.Signer(t, "p256")
	file := petest.Image{Overlay: bytes.Repeat([]byte("overlay"), 100_001)}.Bytes()
	signed := rawSign(t, file, options(signer))
	again := rawSign(t, signed, authenticode.Options{Key: signer.Key, Chain: signer.Chain, Append: true})
	compare := func(before, after []byte) error {
		return authenticode.OnlySignatureChanged(t.Context(), bytes.NewReader(before), int64(len(before)), bytes.NewReader(after), int64(len(after)))
	}
	for name, pair := range map[string][2][]byte{"signed": {file, signed}, "signed again": {signed, again}, "from the start": {file, again}} {
		if err := compare(pair[0], pair[1]); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	tableAt := len(signed) - len(table(signed))
	for name, at := range map[string]int{"DOS header": 2, "code": 0x210, "last octet": len(file) - 1, "padding": tableAt - 1} {
		var changeErr *authenticode.ChangeError
		if err := compare(file, flip(signed, at)); !errors.As(err, &changeErr) || changeErr.Offset != int64(at) {
			t.Errorf("%s: error %v, want one for offset 0x%x", name, err, at)
		}
	}
	if err := compare(signed, file); err == nil {
		t.Error("an unsigned file is taken for a signed one")
	}
}

func TestReportJSON(t *testing.T) {
	t.Parallel()
	root := cmstest.Root(t, "Test Root")
	signed := rawSign(t, petest.Image{}.Bytes(), stamped(root.Signer(t, "p256"), cmstest.NewTSA(t, root)))
	report := verify(t, signed, root)
	text, err := json.Marshal(report)
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(text, []byte("null")) {
		t.Errorf("null in %s", text)
	}
	var back authenticode.Report
	if err := json.Unmarshal(text, &back); err != nil {
		t.Fatal(err)
	}
	if again, err := json.Marshal(back); err != nil || !bytes.Equal(text, again) {
		t.Errorf("%s\nread and written again is\n%s", text, again)
	}
}

func TestRefusedOptions(t *testing.T) {
	t.Parallel()
	root := cmstest.Root(t, "Test Root")
	signer, edwards := root.Signer(t, "p256"), root.Signer(t, "ed25519")
	for name, opts := range map[string]authenticode.Options{
		"nothing":     {},
		"Ed25519":     {Key: edwards.Key, Chain: edwards.Chain},
		"URL":         {Key: signer.Key, Chain: signer.Chain, URL: "https://münchen.example"},
		"description": {Key: signer.Key, Chain: signer.Chain, Description: "\xff"},
		"MD5":         {Key: signer.Key, Chain: signer.Chain, Hash: crypto.MD5},
	} {
		var out authenticode.Buffer
		file := petest.Image{}.Bytes()
		if _, err := authenticode.SignPE(t.Context(), &out, bytes.NewReader(file), int64(len(file)), opts); err == nil {
			t.Errorf("%s: accepted", name)
		}
		if out.Size() != 0 {
			t.Errorf("%s: something was written", name)
		}
	}
}
