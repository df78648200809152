package artifact

import (
	"context"
	"crypto"
	"crypto/x509"
	"errors"

	"github.com/countersign-dev/countersign/artifact/cms"
)

// SignOptions say who signs. Key and Chain are required.
type SignOptions struct {
	Workspace
	Key         crypto.Signer       // used concurrently
	Chain       []*x509.Certificate // leaf first
	Timestamper cms.Timestamper     // nil for no time stamps; used concurrently
}

// Result describes a signed artifact.
type Result struct {
	SHA256 string `json:"sha256"` // of the output, lower-case hexadecimal
	Size   int64  `json:"size"`   // in bytes
	// Files lists each file that changed, in the plan's order, a container after
	// its files.
	Files []SignedFile `json:"files"`
}

// SignedFile is one file before and after.
type SignedFile struct {
	Path         string          `json:"path"` // as in Violation.Path
	Type         string          `json:"type"`
	SHA256Before string          `json:"sha256Before"`
	SHA256After  string          `json:"sha256After"`
	Signatures   []MadeSignature `json:"signatures,omitempty"` // none for a container that only holds signed files
}

// MadeSignature is one signature that was made.
type MadeSignature struct {
	Method        string `json:"method"`        // such as "authenticode-sign"
	HashAlgorithm string `json:"hashAlgorithm"` // such as "sha256"
	Digest        string `json:"digest"`        // what was signed: the format's own digest of the file
	Thumbprint    string `json:"thumbprint"`    // SHA-256 of the certificate
}

// Sign carries out a plan: it signs the files of src from the inside out, many
// at a time, and writes the signed artifact to dst, which must be empty.
//
// It refuses a plan with violations, and a source that is not the planned one.
// Before it returns it has verified each signature that it made, and that
// nothing but what the plan names has changed. When it fails, what dst holds is
// of no use.
func Sign(ctx context.Context, plan *Plan, src Source, dst Output, opts SignOptions) (*Result, error) {
	return nil, errors.New("artifact: not implemented")
}
