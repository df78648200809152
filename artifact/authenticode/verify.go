package authenticode

import (
	"context"
	"crypto/x509"
	"errors"
	"io"
	"time"
)

// VerifyOptions says what to trust, and when.
type VerifyOptions struct {
	Roots          *x509.CertPool // trusted for code signing
	TimestampRoots *x509.CertPool // trusted for time stamping; Roots when nil
	SystemRoots    bool           // trust the system's roots too
	CurrentTime    time.Time      // now when zero
}

// Status sums a report or a signature up.
type Status string

// The states, from best to worst.
const (
	StatusValid     Status = "valid"      // intact, trusted, in time
	StatusExpired   Status = "expired"    // intact, but a certificate expired and no time stamp vouches for the time of signing
	StatusUntrusted Status = "untrusted"  // intact, but its chain leads to no trusted root, or may not sign code
	StatusBroken    Status = "broken"     // the digest, the signature or its structure is wrong
	StatusNotSigned Status = "not-signed" // there is no signature
)

// Report is what VerifyPE found.
type Report struct {
	Format     string            `json:"format"` // "pe"
	Status     Status            `json:"status"` // the worst of all signatures
	Digests    map[string]string `json:"digests"`
	Signatures []Signature       `json:"signatures"`
	Problems   []Problem         `json:"problems"` // of the file; each signature has its own
}

// Signature is one signature; nested ones follow the one that they are nested in.
type Signature struct {
	Status        Status        `json:"status"`
	Nested        bool          `json:"nested"`
	Signer        *Certificate  `json:"signer,omitempty"`
	Chain         []Certificate `json:"chain"`
	HashAlgorithm string        `json:"hashAlgorithm"`
	Algorithm     string        `json:"signatureAlgorithm"`
	Digest        string        `json:"digest"`
	Description   string        `json:"description,omitempty"`
	URL           string        `json:"url,omitempty"`
	SigningTime   *time.Time    `json:"signingTime,omitempty"`
	Timestamp     *Timestamp    `json:"timestamp,omitempty"`
	Problems      []Problem     `json:"problems"`
}

// Certificate describes an X.509 certificate.
type Certificate struct {
	Subject          string    `json:"subject"`
	Issuer           string    `json:"issuer"`
	Serial           string    `json:"serial"` // hexadecimal
	SHA1Thumbprint   string    `json:"sha1Thumbprint"`
	SHA256Thumbprint string    `json:"sha256Thumbprint"`
	NotBefore        time.Time `json:"notBefore"`
	NotAfter         time.Time `json:"notAfter"`
}

// Timestamp describes the time stamp on a signature.
type Timestamp struct {
	Kind          string       `json:"kind"` // "rfc3161" or "pkcs9"
	Time          time.Time    `json:"time"`
	Authority     *Certificate `json:"authority,omitempty"`
	HashAlgorithm string       `json:"hashAlgorithm"`
	Valid         bool         `json:"valid"`
}

// Problem is one thing that is wrong.
type Problem struct {
	Code    string `json:"code"`    // for programs, such as "digest-mismatch"
	Message string `json:"message"` // for people
	Warning bool   `json:"warning,omitempty"`
}

// VerifyPE checks every signature of the image. It returns a *FormatError when
// src is no PE image, and otherwise a report; that the image is not signed, or
// that a signature is broken, is in the report and no error.
func VerifyPE(ctx context.Context, src io.ReaderAt, size int64, opts VerifyOptions) (*Report, error) {
	return nil, errors.New("authenticode: not implemented")
}
