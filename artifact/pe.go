package artifact

import (
	"context"
	"crypto"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/countersign-dev/countersign/artifact/authenticode"
)

// hashes are the values of hash-algorithm.
var hashes = map[string]crypto.Hash{
	"":       crypto.SHA256,
	"sha1":   crypto.SHA1,
	"sha256": crypto.SHA256,
	"sha384": crypto.SHA384,
	"sha512": crypto.SHA512,
}

func signPE(ctx context.Context, dst Output, f file, d Directive, o *SignOptions) (MadeSignature, int64, error) {
	hash, ok := hashes[d.Options["hash-algorithm"]]
	if !ok {
		return MadeSignature{}, 0, fmt.Errorf("the hash algorithm %q is unknown", d.Options["hash-algorithm"])
	}
	result, err := authenticode.SignPE(ctx, dst, f.content, f.size, authenticode.Options{
		Key:         o.Key,
		Chain:       o.Chain,
		Hash:        hash,
		Description: d.Options["description"],
		URL:         d.Options["description-url"],
		Append:      d.Options["append"] == "true" || d.Options["append"] == "1",
		Timestamper: o.Timestamper,
	})
	if err == nil && hash == crypto.SHA1 {
		// The file as it is has the digest that the file before had, and all but a signature
		// goes into it (Authenticode_PE.docx, "Calculating the PE Image Hash"). SHA-1 does not
		// prove any more that they are the same.
		err = authenticode.OnlySignatureChanged(ctx, f.content, f.size, dst, result.Size)
	}
	if err != nil {
		return MadeSignature{}, 0, err
	}
	return MadeSignature{
		Method:        d.Method,
		HashAlgorithm: strings.ToLower(strings.ReplaceAll(hash.String(), "-", "")),
		Digest:        hex.EncodeToString(result.Digest),
		Thumbprint:    thumbprint(o.Chain[0].Raw),
	}, result.Size, nil
}

func thumbprint(certificate []byte) string {
	sum := sha256.Sum256(certificate)
	return hex.EncodeToString(sum[:])
}

// provePE asks of each signature that was made only that it is intact: whether
// anybody trusts the certificate is not the engine's business.
func provePE(ctx context.Context, f file, made []MadeSignature) error {
	report, err := authenticode.VerifyPE(ctx, f.content, f.size, authenticode.VerifyOptions{})
	if err != nil {
		return err
	}
	for _, m := range made {
		proven := false
		for _, s := range report.Signatures {
			proven = proven || s.Signer != nil && strings.EqualFold(s.Signer.SHA256Thumbprint, m.Thumbprint) &&
				strings.EqualFold(s.Digest, m.Digest) && s.Status != authenticode.StatusBroken
		}
		if !proven {
			return fmt.Errorf("the signature of %s is not intact in the signed file", m.Method)
		}
	}
	return nil
}

func (t Trust) authenticode() authenticode.VerifyOptions {
	return authenticode.VerifyOptions{
		Roots: t.Roots, TimestampRoots: t.TimestampRoots, SystemRoots: t.SystemRoots, CurrentTime: t.CurrentTime,
	}
}

func reportPE(ctx context.Context, f file, trust Trust) (*authenticode.Report, error) {
	return authenticode.VerifyPE(ctx, f.content, f.size, trust.authenticode())
}

func verifyPE(ctx context.Context, f file, d Directive, trust Trust) ([]string, error) {
	report, err := reportPE(ctx, f, trust)
	if err != nil {
		return nil, err
	}
	return judge(report, d.Options["publisher"])
}

// judge says why signatures do not count as valid, if they do not. Of several,
// each must be valid, and each be the expected publisher's.
func judge(report *authenticode.Report, publisher string) ([]string, error) {
	var problems []string
	add := func(list []authenticode.Problem) {
		for _, p := range list {
			if !p.Warning {
				problems = append(problems, p.Message)
			}
		}
	}
	add(report.Problems)
	for _, s := range report.Signatures {
		add(s.Problems)
		if publisher == "" || s.Signer == nil {
			continue
		}
		if ok, err := isPublisher(s.Signer, publisher); err != nil {
			return nil, err
		} else if !ok {
			problems = append(problems, fmt.Sprintf("The signer is %s, not the expected publisher %s.", s.Signer.Subject, publisher))
		}
	}
	if report.Status == authenticode.StatusNotSigned {
		return []string{"The file is not signed."}, nil
	}
	if report.Status != authenticode.StatusValid && len(problems) == 0 {
		problems = append(problems, "The status of the signature is "+string(report.Status)+".")
	}
	return problems, nil
}

// isPublisher tells whether a pattern matches the signer's common name,
// organization, or whole subject.
func isPublisher(signer *authenticode.Certificate, pattern string) (bool, error) {
	w, err := compileWildcard([]patternPart{{text: pattern}}, false)
	if err != nil {
		return false, err
	}
	for _, name := range subjectNames(signer.Subject) {
		if w.match(name) {
			return true, nil
		}
	}
	return false, nil
}

// subjectNames takes the common name and organization out of a subject as
// crypto/x509/pkix writes it (RFC 2253): CN=Acme\, Inc.,O=Acme.
func subjectNames(subject string) []string {
	names := []string{subject}
	var field strings.Builder
	flush := func() {
		for _, attribute := range []string{"CN=", "O="} {
			if value, ok := strings.CutPrefix(field.String(), attribute); ok {
				names = append(names, value)
			}
		}
		field.Reset()
	}
	for i := 0; i < len(subject); i++ {
		switch c := subject[i]; {
		case c == '\\' && i+1 < len(subject):
			i++
			field.WriteByte(subject[i])
		case c == ',' || c == '+':
			flush()
		default:
			field.WriteByte(c)
		}
	}
	flush()
	return names
}

// peMetadata reads the version resource.
func peMetadata(content io.ReaderAt, size int64) (map[string][]string, error) {
	v, err := authenticode.ReadVersion(content, size)
	if errors.Is(err, authenticode.ErrNoVersion) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	values := map[string][]string{
		"product-name":      v.Lookup("ProductName"),
		"product-version":   v.Lookup("ProductVersion"),
		"file-version":      v.Lookup("FileVersion"),
		"company-name":      v.Lookup("CompanyName"),
		"copyright":         v.Lookup("LegalCopyright"),
		"original-filename": v.Lookup("OriginalFilename"),
	}
	// The numbers of VS_FIXEDFILEINFO count where there is no text.
	if len(values["file-version"]) == 0 {
		values["file-version"] = []string{dotted(v.FileVersion)}
	}
	if len(values["product-version"]) == 0 {
		values["product-version"] = []string{dotted(v.ProductVersion)}
	}
	return values, nil
}

func dotted(v [4]uint16) string { return fmt.Sprintf("%d.%d.%d.%d", v[0], v[1], v[2], v[3]) }
