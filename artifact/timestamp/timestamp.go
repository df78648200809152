// Package timestamp obtains and issues RFC 3161 time stamps.
//
// Client asks one authority over HTTP, Pool spreads requests over several with
// failover, and Authority is an authority of one's own. All three are a
// Timestamper.
//
// Message imprints are SHA-256, SHA-384 or SHA-512, and SHA-1 where an old
// verifier needs it. Tokens and messages are DER; what comes from outside is
// bounded in size and count, and a malformed one gives a *ParseError.
package timestamp

import (
	"context"
	"crypto"
	"encoding/asn1"
	"fmt"

	_ "crypto/sha1" // message imprints and ESSCertID of RFC 2634
	_ "crypto/sha256"
	_ "crypto/sha512"
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

// ParseError reports a message or token that is not what RFC 3161 or RFC 5652
// say it should be.
type ParseError struct {
	Field  string // path of the field, such as "tstInfo.genTime"
	Reason string // what is wrong with it, for a person
}

func (e *ParseError) Error() string { return fmt.Sprintf("timestamp: %s: %s", e.Field, e.Reason) }

func malformed(field, format string, args ...any) error {
	return &ParseError{Field: field, Reason: fmt.Sprintf(format, args...)}
}

var (
	oidSignedData         = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 2}
	oidTSTInfo            = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 16, 1, 4}
	oidContentType        = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 3}
	oidMessageDigest      = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 4}
	oidSigningTime        = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 5}
	oidSigningCertificate = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 16, 2, 12} // RFC 2634 section 5.4
	oidSigningCertV2      = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 16, 2, 47} // RFC 5035 section 3
	oidExtKeyUsage        = asn1.ObjectIdentifier{2, 5, 29, 37}
)

// hashes are the functions known as message imprint and as signature digest.
var hashes = []struct {
	hash crypto.Hash
	oid  asn1.ObjectIdentifier
}{
	{crypto.SHA1, asn1.ObjectIdentifier{1, 3, 14, 3, 2, 26}},
	{crypto.SHA256, asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 1}},
	{crypto.SHA384, asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 2}},
	{crypto.SHA512, asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 3}},
}

// hashOf returns zero for an unknown identifier.
func hashOf(oid asn1.ObjectIdentifier) crypto.Hash {
	for _, h := range hashes {
		if h.oid.Equal(oid) {
			return h.hash
		}
	}
	return 0
}

// oidOf returns nil for an unknown function.
func oidOf(hash crypto.Hash) asn1.ObjectIdentifier {
	for _, h := range hashes {
		if h.hash == hash {
			return h.oid
		}
	}
	return nil
}

// checkImprint refuses what no authority could stamp, before any is asked.
func checkImprint(digest []byte, hash crypto.Hash) error {
	if oidOf(hash) == nil {
		return fmt.Errorf("timestamp: message imprints are SHA-1, SHA-256, SHA-384 or SHA-512, not %v", hash)
	}
	if len(digest) != hash.Size() {
		return fmt.Errorf("timestamp: a %v message imprint has %d octets, not %d", hash, hash.Size(), len(digest))
	}
	return nil
}
