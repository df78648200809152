package authenticode

import (
	"bytes"
	"context"
	"fmt"
	"io"
)

// ChangeError reports that signing changed more than the signature.
type ChangeError struct {
	Offset int64 // of the first octet that differs
	Reason string
}

func (e *ChangeError) Error() string {
	return fmt.Sprintf("pe: signing changed the file at offset 0x%x: %s", e.Offset, e.Reason)
}

// OnlySignatureChanged proves that signed differs from unsigned in nothing but
// what a signature consists of: the CheckSum field, the security directory
// entry, the certificate table at the end and up to 7 zero octets before it.
// unsigned may itself be signed; its certificate table is not compared.
//
// A difference is reported as a *ChangeError, a file that is no image as a *FormatError.
func OnlySignatureChanged(ctx context.Context, unsigned io.ReaderAt, unsignedSize int64, signed io.ReaderAt, signedSize int64) error {
	before, err := parseImage(unsigned, unsignedSize)
	if err != nil {
		return fmt.Errorf("unsigned file: %w", err)
	}
	after, err := parseImage(signed, signedSize)
	if err != nil {
		return fmt.Errorf("signed file: %w", err)
	}
	if after.checksumAt != before.checksumAt || after.securityAt != before.securityAt {
		return &ChangeError{min(before.checksumAt, after.checksumAt), "the headers are laid out differently"}
	}
	padding := -before.tableAt & (certificateAlignment - 1)
	if !after.signed() || after.tableAt != before.tableAt+padding {
		return &ChangeError{before.tableAt, fmt.Sprintf("the certificate table is at 0x%x, not at 0x%x", after.tableAt, before.tableAt+padding)}
	}
	zeroes := make([]byte, padding)
	if err := readFull(signed, zeroes, before.tableAt, "padding"); err != nil {
		return err
	}
	if i := bytes.IndexFunc(zeroes, func(r rune) bool { return r != 0 }); i >= 0 {
		return &ChangeError{before.tableAt + int64(i), "the padding before the certificate table is not zero"}
	}
	other := make([]byte, min(chunkSize, before.tableAt))
	hide := mask(before.checksumField(), before.securityField())
	return stream(ctx, unsigned, before.tableAt, hide, line{func(p []byte, at int64) error {
		q := other[:len(p)]
		if err := readFull(signed, q, at, "file"); err != nil {
			return err
		}
		hide(q, at)
		if bytes.Equal(p, q) {
			return nil
		}
		i := 0
		for p[i] == q[i] {
			i++
		}
		return &ChangeError{at + int64(i), fmt.Sprintf("was 0x%02x, is 0x%02x", p[i], q[i])}
	}})
}
