// Package cms builds, parses and verifies CMS SignedData (RFC 5652), in the
// shapes that code signing needs: attached, detached with a digest computed
// elsewhere, and the PKCS#7 1.5 shape of Authenticode. It understands RFC 3161
// time-stamp tokens and PKCS#9 countersignatures.
//
// Every input to a parser in this package may be hostile: parsing is bounded
// in size, depth and count, and malformed input gives a *ParseError.
package cms

import (
	"context"
	"crypto"
	"encoding/asn1"
	"fmt"
)

// Object identifiers of content types.
var (
	// OIDData is id-data (RFC 5652 section 4).
	OIDData = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 1}
	// OIDSignedData is id-signedData (RFC 5652 section 5.1).
	OIDSignedData = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 2}
	// OIDTSTInfo is id-ct-TSTInfo (RFC 3161 section 2.4.2).
	OIDTSTInfo = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 16, 1, 4}
)

// Object identifiers of signed and unsigned attributes.
var (
	// OIDAttributeContentType is id-contentType (RFC 5652 section 11.1).
	OIDAttributeContentType = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 3}
	// OIDAttributeMessageDigest is id-messageDigest (RFC 5652 section 11.2).
	OIDAttributeMessageDigest = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 4}
	// OIDAttributeSigningTime is id-signingTime (RFC 5652 section 11.3).
	OIDAttributeSigningTime = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 5}
	// OIDAttributeCountersignature is id-countersignature (RFC 5652 section
	// 11.4), which Authenticode used for time stamps before RFC 3161.
	OIDAttributeCountersignature = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 6}
	// OIDAttributeSigningCertificate is id-aa-signingCertificate (RFC 2634 section 5.4).
	OIDAttributeSigningCertificate = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 16, 2, 12}
	// OIDAttributeSigningCertificateV2 is id-aa-signingCertificateV2 (RFC 5035 section 3).
	OIDAttributeSigningCertificateV2 = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 16, 2, 47}
	// OIDAttributeTimestampToken is id-aa-timeStampToken (RFC 3161 appendix A).
	OIDAttributeTimestampToken = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 16, 2, 14}
	// OIDAttributeMicrosoftTimestamp carries the RFC 3161 token of an
	// Authenticode signature (szOID_RFC3161_counterSign).
	OIDAttributeMicrosoftTimestamp = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 311, 3, 3, 1}
	// OIDAttributeNestedSignature carries further Authenticode signatures
	// (szOID_NESTED_SIGNATURE), each a ContentInfo.
	OIDAttributeNestedSignature = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 311, 2, 4, 1}
)

// A Timestamper obtains an RFC 3161 time stamp.
//
// Timestamp takes the digest of the value to be stamped (for a signature: the
// octets of SignerInfo.signature) and the function that made it, and returns
// the DER TimeStampToken: a ContentInfo of type id-signedData.
type Timestamper interface {
	Timestamp(ctx context.Context, digest []byte, hash crypto.Hash) (token []byte, err error)
}

// ParseError reports input that is not the structure it should be. Algorithms that
// are not known here give errors that wrap ErrUnsupported instead.
type ParseError struct {
	Field  string // path of the field, such as "signerInfos[0].digestAlgorithm"
	Reason string // what is wrong with it, for a person
}

func (e *ParseError) Error() string { return fmt.Sprintf("cms: %s: %s", e.Field, e.Reason) }
