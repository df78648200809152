package authenticode_test

import (
	"bytes"
	"errors"
	"testing"

	"github.com/countersign-dev/countersign/artifact/authenticode"
	"github.com/countersign-dev/countersign/artifact/authenticode/petest"
	"github.com/countersign-dev/countersign/artifact/cms/cmstest"
)

func seeds(f *testing.F) *cmstest.Identity {
	f.Helper()
	signer := cmstest.SelfSigned(f, "Publisher", "p256")
	for _, image := range []petest.Image{
		{}, {PE32: true, Overlay: []byte("x")}, {Version: map[string]string{"ProductName": "p"}}, {Subsystem: petest.SubsystemEFI, Gap: 16},
	} {
		file := image.Bytes()
		f.Add(file)
		f.Add(rawSign(f, file, options(signer)))
	}
	return signer
}

func FuzzVerifyPE(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, file []byte) {
		report, err := authenticode.VerifyPE(t.Context(), bytes.NewReader(file), int64(len(file)), authenticode.VerifyOptions{})
		if err != nil {
			var formatErr *authenticode.FormatError
			if !errors.As(err, &formatErr) {
				t.Errorf("error %v is no FormatError", err)
			}
			return
		}
		if report.Status == authenticode.StatusValid {
			t.Errorf("valid without any root: %s", indent(report))
		}
	})
}

func FuzzVersionInfo(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, file []byte) {
		_, err := authenticode.ReadVersion(bytes.NewReader(file), int64(len(file)))
		var formatErr *authenticode.FormatError
		if err != nil && !errors.Is(err, authenticode.ErrNoVersion) && !errors.As(err, &formatErr) {
			t.Errorf("error %v is no FormatError", err)
		}
	})
}

// FuzzSignVerifyRoundTrip signs what it can: the result must verify and differ in
// nothing but the signature.
func FuzzSignVerifyRoundTrip(f *testing.F) {
	signer := seeds(f)
	roots := authenticode.VerifyOptions{Roots: signer.Pool()}
	f.Fuzz(func(t *testing.T, file []byte) {
		var out authenticode.Buffer
		if _, err := authenticode.SignPE(t.Context(), &out, bytes.NewReader(file), int64(len(file)), options(signer)); err != nil {
			var formatErr *authenticode.FormatError
			if !errors.As(err, &formatErr) {
				t.Errorf("error %v is no FormatError", err)
			}
			return
		}
		report, err := authenticode.VerifyPE(t.Context(), &out, out.Size(), roots)
		if err != nil || report.Status != authenticode.StatusValid {
			t.Errorf("signed, but: %s %v", indent(report), err)
		}
		for _, p := range codes(report, true) {
			if p == authenticode.ProblemChecksum {
				t.Error("wrong checksum")
			}
		}
		if err := authenticode.OnlySignatureChanged(t.Context(), bytes.NewReader(file), int64(len(file)), &out, out.Size()); err != nil {
			t.Error(err)
		}
	})
}
