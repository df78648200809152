// Package timestamp obtains and issues RFC 3161 time stamps.
//
// Client asks one authority over HTTP, Pool spreads requests over several with
// failover, and Authority is an authority of one's own. All three are a
// Timestamper.
//
// Message imprints are SHA-256, SHA-384 or SHA-512, and SHA-1 where an old
// verifier needs it. Tokens and messages are DER; what comes from outside is
// bounded in size and count. A malformed message gives a *ParseError; package cms
// reads the tokens, and a malformed one gives its *cms.ParseError.
package timestamp

import (
	"context"
	"crypto"
	"encoding/asn1"
	"fmt"

	"github.com/countersign-dev/countersign/artifact/cms"
)

// Timestamper obtains a time stamp.
//
// It takes the message imprint: the digest of what is stamped (for a signature,
// the octets of SignerInfo.signature) and the function that made it. It returns
// the DER TimeStampToken, a CMS ContentInfo of type id-signedData. It returns
// soon after ctx is done.
type Timestamper interface {
	Timestamp(ctx context.Context, digest []byte, hash crypto.Hash) (token []byte, err error)
}

// ParseError reports a message that is not what RFC 3161 says it should be, or a
// token that is not what a new one should be.
type ParseError struct {
	Field  string // path of the field, such as "tstInfo.genTime"
	Reason string // what is wrong with it, for a person
}

func (e *ParseError) Error() string { return fmt.Sprintf("timestamp: %s: %s", e.Field, e.Reason) }

func malformed(field, format string, args ...any) error {
	return &ParseError{Field: field, Reason: fmt.Sprintf(format, args...)}
}

var oidExtKeyUsage = asn1.ObjectIdentifier{2, 5, 29, 37} // RFC 5280 section 4.2.1.12

// checkImprint refuses what no authority could stamp, before any is asked.
func checkImprint(digest []byte, hash crypto.Hash) error {
	if _, err := cms.HashOID(hash); err != nil {
		return fmt.Errorf("timestamp: message imprints are SHA-1, SHA-256, SHA-384 or SHA-512, not %v", hash)
	}
	if len(digest) != hash.Size() {
		return fmt.Errorf("timestamp: a %v message imprint has %d octets, not %d", hash, hash.Size(), len(digest))
	}
	return nil
}
