package artifact

import (
	"context"
	"errors"

	"github.com/countersign-dev/countersign/artifact/authenticode"
)

// VerifyOptions say what to trust. The zero value trusts nobody.
type VerifyOptions struct {
	Workspace
	Trust     Trust
	Publisher string // pattern for the signer's name, as in authenticode-verify; empty for any
}

// VerifyReport is what Verify found about a file and the files in it.
type VerifyReport struct {
	Path   string              `json:"path"` // as in PlannedFile.Path
	Type   string              `json:"type,omitempty"`
	Size   int64               `json:"size"`
	SHA256 string              `json:"sha256,omitempty"` // of signable files and of the artifact
	Status authenticode.Status `json:"status"`           // of this file alone; empty when it cannot carry a signature
	// Worst is the worst status of this file and all files in it.
	Worst    authenticode.Status  `json:"worst"`
	Report   *authenticode.Report `json:"report,omitempty"` // of a file with Authenticode
	Problems []string             `json:"problems,omitempty"`
	Files    []*VerifyReport      `json:"files,omitempty"` // signable files and containers in it
}

// Verify checks all signatures of a file, and of all files in it when it is a
// container. What is wrong is in the report; errors are those of ctx, of
// reading src and of temporary files.
func Verify(ctx context.Context, src Source, opts VerifyOptions) (*VerifyReport, error) {
	return nil, errors.New("artifact: not implemented")
}
