package authenticode

import (
	"crypto/sha1"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"strings"
	"time"

	"github.com/countersign-dev/countersign/artifact/cms"
)

// Status sums a report or a signature up.
type Status string

// The states, from best to worst.
const (
	StatusValid     Status = "valid"      // intact, trusted, in time
	StatusExpired   Status = "expired"    // intact and of a trusted root, but a certificate expired and no time stamp vouches for the time of signing
	StatusUntrusted Status = "untrusted"  // intact, but its chain leads to no trusted root, or may not sign code
	StatusBroken    Status = "broken"     // the digest, the signature or its structure is wrong
	StatusNotSigned Status = "not-signed" // there is no signature
)

var severity = map[Status]int{StatusValid: 0, StatusExpired: 1, StatusUntrusted: 2, StatusBroken: 3, StatusNotSigned: 4}

// worse returns the worse of two states.
func (s Status) worse(other Status) Status {
	if severity[other] > severity[s] {
		return other
	}
	return s
}

// Report is what VerifyPE found.
type Report struct {
	Format     string            `json:"format"`     // "pe"
	Status     Status            `json:"status"`     // the worst of all signatures
	Digests    map[string]string `json:"digests"`    // Authenticode digests of the file, hexadecimal, by name of the hash function
	Signatures []Signature       `json:"signatures"` // never null
	Problems   []Problem         `json:"problems"`   // of the file; each signature has its own; never null
}

// Signature is one signature; nested ones follow the one that they are nested in.
type Signature struct {
	Status        Status        `json:"status"`
	Nested        bool          `json:"nested"`
	Signer        *Certificate  `json:"signer,omitempty"` // nil when its certificate is not embedded
	Chain         []Certificate `json:"chain"`            // signer first; up to the root when trusted, as far as embedded when not; never null
	HashAlgorithm string        `json:"hashAlgorithm"`    // of Digest, such as "SHA-256"
	Algorithm     string        `json:"signatureAlgorithm"`
	Digest        string        `json:"digest"` // that was signed, hexadecimal
	Description   string        `json:"description,omitempty"`
	URL           string        `json:"url,omitempty"`
	SigningTime   *time.Time    `json:"signingTime,omitempty"` // claimed by the signer
	Timestamp     *Timestamp    `json:"timestamp,omitempty"`
	Problems      []Problem     `json:"problems"` // never null
}

// Certificate describes an X.509 certificate.
type Certificate struct {
	Subject          string    `json:"subject"`          // RFC 2253
	Issuer           string    `json:"issuer"`           // RFC 2253
	Serial           string    `json:"serial"`           // hexadecimal
	SHA1Thumbprint   string    `json:"sha1Thumbprint"`   // hexadecimal
	SHA256Thumbprint string    `json:"sha256Thumbprint"` // hexadecimal
	NotBefore        time.Time `json:"notBefore"`
	NotAfter         time.Time `json:"notAfter"`
}

// Timestamp describes the time stamp on a signature.
type Timestamp struct {
	Kind          cms.TimestampKind `json:"kind"`
	Time          time.Time         `json:"time"`
	Authority     *Certificate      `json:"authority,omitempty"` // nil when its certificate is not embedded
	Chain         []Certificate     `json:"chain"`               // authority first; empty when not trusted, never null
	HashAlgorithm string            `json:"hashAlgorithm"`
	Valid         bool              `json:"valid"` // right, and of a trusted authority
}

// ProblemCode names a problem for programs.
type ProblemCode string

// Problems that break a signature.
const (
	ProblemMalformed        ProblemCode = "malformed-signature"     // its structure cannot be read
	ProblemUnsupported      ProblemCode = "unsupported-algorithm"   // it is made in a way that is not known here
	ProblemDigestMismatch   ProblemCode = "digest-mismatch"         // the file was changed after signing
	ProblemSubjectMismatch  ProblemCode = "subject-mismatch"        // made for another kind of file
	ProblemContentMismatch  ProblemCode = "content-digest-mismatch" // the signed data was changed after signing
	ProblemBadSignature     ProblemCode = "bad-signature"           // does not fit the signer's key
	ProblemNoSigner         ProblemCode = "signer-certificate-missing"
	ProblemTimestampInvalid ProblemCode = "timestamp-invalid" // the time stamp is malformed or for something else
)

// Problems of trust and time; those of package cms for chains come in addition.
const (
	ProblemExpiredNoTimestamp ProblemCode = "expired-without-timestamp"
	ProblemWeakHash           ProblemCode = "weak-hash" // SHA-1
	ProblemTimestampUntrusted ProblemCode = "timestamp-untrusted"
	ProblemChecksum           ProblemCode = "checksum-mismatch"        // of the PE header; Windows checks it for drivers
	ProblemHiddenData         ProblemCode = "unsigned-data-in-table"   // behind the signature, in the certificate table
	ProblemSectionGap         ProblemCode = "gap-between-sections-efi" // EFI firmware may calculate another digest
	ProblemUnparsed           ProblemCode = "unreadable-certificate"   // an embedded certificate
)

// Problem is one thing that is wrong, or with Warning set, one that does not
// change the verdict.
type Problem struct {
	Code    ProblemCode `json:"code"`
	Message string      `json:"message"` // a sentence for people
	Warning bool        `json:"warning,omitempty"`
}

func describe(c *x509.Certificate) Certificate {
	sha1Sum, sha256Sum := sha1.Sum(c.Raw), sha256.Sum256(c.Raw)
	return Certificate{
		Subject:          c.Subject.String(),
		Issuer:           c.Issuer.String(),
		Serial:           strings.ToUpper(hex.EncodeToString(c.SerialNumber.Bytes())),
		SHA1Thumbprint:   strings.ToUpper(hex.EncodeToString(sha1Sum[:])),
		SHA256Thumbprint: strings.ToUpper(hex.EncodeToString(sha256Sum[:])),
		NotBefore:        c.NotBefore,
		NotAfter:         c.NotAfter,
	}
}

func describeAll(chain []*x509.Certificate) []Certificate {
	all := make([]Certificate, len(chain))
	for i, c := range chain {
		all[i] = describe(c)
	}
	return all
}
