// Package authenticode signs and verifies Windows PE images with Microsoft
// Authenticode ("Windows Authenticode Portable Executable Signature Format",
// Authenticode_PE.docx, below: the specification), and has the parts that the
// other Authenticode formats share.
package authenticode

import (
	"crypto"
	"crypto/x509"
	"fmt"
	"time"

	"github.com/countersign-dev/countersign/artifact/cms"
)

// Options says who signs, and how. Key and Chain are required.
type Options struct {
	Key   crypto.Signer       // asked for one signature
	Chain []*x509.Certificate // leaf first

	Hash        crypto.Hash // SHA-1, SHA-256 (when zero), SHA-384 or SHA-512; of file and signature
	PSS         bool        // RSASSA-PSS in place of PKCS#1 v1.5; few Windows components accept it
	Description string      // program name shown by Windows; may be empty
	URL         string      // more information about the program; may be empty

	// Append adds the signature beside an existing one, as a nested signature.
	// Otherwise an existing signature is replaced. On an unsigned file both are the same.
	Append bool

	Timestamper cms.Timestamper // nil for no time stamp
	SigningTime time.Time       // signed attribute; left out when zero
	IncludeRoot bool            // embed the self-signed root, when Chain has it
}

// FormatError reports a file that is not what it should be.
type FormatError struct {
	Offset int64  // in octets from the file's beginning
	Field  string // name in the specification, such as "SizeOfOptionalHeader"
	Reason string // what is wrong and what was expected
}

func (e *FormatError) Error() string {
	return fmt.Sprintf("pe: %s at offset 0x%x: %s", e.Field, e.Offset, e.Reason)
}
