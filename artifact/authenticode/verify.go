package authenticode

import (
	"context"
	"crypto"
	"crypto/x509"
	"encoding/hex"
	"hash"
	"io"
	"time"
)

// VerifyOptions says what to trust, and when.
type VerifyOptions struct {
	Roots          *x509.CertPool // trusted for code signing; nil for none
	TimestampRoots *x509.CertPool // trusted for time stamping; Roots when nil
	SystemRoots    bool           // trust the system's roots too, for both
	CurrentTime    time.Time      // now when zero
}

// VerifyPE checks every signature of the image: that the file is what was signed,
// that the signature fits the signer's certificate, that a chain leads to a
// trusted root at the time of the time stamp or else now, and that the certificate
// is for code signing. The file is read once.
//
// It returns a *FormatError when src is no PE image or contradicts itself, and
// otherwise a report; that the image is not signed, or that a signature is broken,
// is in the report and no error.
func VerifyPE(ctx context.Context, src io.ReaderAt, size int64, opts VerifyOptions) (*Report, error) {
	img, err := parseImage(src, size)
	if err != nil {
		return nil, err
	}
	report := &Report{Format: "pe", Digests: map[string]string{}, Signatures: []Signature{}, Problems: []Problem{}}
	entries, err := img.signatures(src)
	if err != nil {
		return nil, err
	}
	var found []candidate
	for _, e := range entries {
		found = append(found, parseCandidates(e.blob)...)
	}

	// All digests that the signatures name, and the checksum, in one pass.
	digests := map[crypto.Hash][]byte{crypto.SHA256: nil}
	for _, s := range found {
		if s.indirect != nil {
			digests[s.indirect.Hash] = nil
		}
	}
	if err := img.sum(ctx, src, digests, report); err != nil {
		return nil, err
	}
	for _, c := range found {
		signature, err := c.verify(oidPEImageData, func(h crypto.Hash) ([]byte, error) { return digests[h], nil }, opts)
		if err != nil {
			return nil, err
		}
		report.Signatures = append(report.Signatures, signature)
	}
	if from, to, ok := img.gap(); ok && img.efi() {
		report.Problems = append(report.Problems, warning(ProblemSectionGap, "The octets from 0x%x to 0x%x belong to no section. EFI firmware that goes by sections calculates another digest for this image.", from, to))
	}
	report.Status = StatusNotSigned
	for i, s := range report.Signatures {
		if i == 0 {
			report.Status = s.Status
		}
		report.Status = report.Status.worse(s.Status)
	}
	return report, nil
}

// sum fills digests, and compares the checksum with the header's.
func (img *image) sum(ctx context.Context, src io.ReaderAt, digests map[crypto.Hash][]byte, report *Report) error {
	var total checksum
	lines := []line{{func(p []byte, at int64) error { total.add(p); return nil }}}
	states := map[crypto.Hash]hash.Hash{}
	for h := range digests {
		states[h] = h.New()
		lines = append(lines, line{img.digest(states[h])})
	}
	if err := stream(ctx, src, img.tableAt, mask(img.checksumField()), lines...); err != nil {
		return err
	}
	for h, state := range states {
		if !img.signed() { // as it will be padded when it is signed
			state.Write(make([]byte, -img.size&(certificateAlignment-1)))
		}
		digests[h] = state.Sum(nil)
		report.Digests[h.String()] = hex.EncodeToString(digests[h])
	}
	if img.checksum == 0 {
		return nil // it was never set
	}
	table := make([]byte, img.tableSize)
	if err := readFull(src, table, img.tableAt, "certificate table"); err != nil {
		return err
	}
	total.addAt(table, img.tableAt)
	if value := total.value(img.size); value != img.checksum {
		report.Problems = append(report.Problems, warning(ProblemChecksum, "The PE header says checksum %08x, but it is %08x. Windows refuses drivers for that.", img.checksum, value))
	}
	return nil
}
