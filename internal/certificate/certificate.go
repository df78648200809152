// Package certificate makes, reads and judges the X.509 certificates that sign
// code: self-signed and issued certificates, signing requests, uploads (PEM, DER,
// PKCS#7), PKCS#12 files, private key files and chains.
//
// Uploads may be hostile: everything read here is bounded in size, count, depth
// and time.
package certificate

import (
	"crypto"
	"crypto/x509"
	"crypto/x509/pkix"
	"time"
)

// ParseSubject reads a distinguished name in its string form (RFC 4514), such as
// "CN=Acme Release,O=Acme GmbH,C=DE". The result is in the order of the
// certificate: the string's last RDN first.
func ParseSubject(name string) (pkix.RDNSequence, error) { return nil, errSkeleton }

// Parse reads the certificates of an upload: PEM (any number of CERTIFICATE and
// PKCS7 blocks), DER, or a certs-only PKCS#7 file, which may be BER. The order is
// the upload's; duplicates are dropped. Without any certificate it fails.
func Parse(data []byte) ([]*x509.Certificate, error) { return nil, errSkeleton }

// Chain orders certificates: the leaf, its issuer, and so on up to the root as
// far as certificates has them, completed from pool. The leaf is the certificate
// of the public key, or, if public is nil, the one that issued no other.
func Chain(public crypto.PublicKey, certificates, pool []*x509.Certificate) ([]*x509.Certificate, error) {
	return nil, errSkeleton
}

// HasKey reports whether a certificate is for the public key.
func HasKey(certificate *x509.Certificate, public crypto.PublicKey) bool { return false }

// ThumbprintSHA1 returns the SHA-1 of the certificate, in upper-case hexadecimal
// as Windows shows it.
func ThumbprintSHA1(certificate *x509.Certificate) string { return "" }

// ThumbprintSHA256 returns the SHA-256 of the certificate, in upper-case
// hexadecimal.
func ThumbprintSHA256(certificate *x509.Certificate) string { return "" }

// Warnings says what is questionable about signing code with the first
// certificate of a chain at a time.
func Warnings(chain []*x509.Certificate, at time.Time) []Warning { return nil }

// Warning is one finding of Warnings.
type Warning struct {
	Kind    WarningKind
	Message string // for people: what is wrong and what to do
}

// WarningKind is a stable name of a finding.
type WarningKind string

// The findings.
const (
	WarnExpired     WarningKind = "expired"
	WarnNotYetValid WarningKind = "not-yet-valid"
	WarnExpiresSoon WarningKind = "expires-soon" // within 30 days
	WarnUsage       WarningKind = "usage"        // not for code signing
	WarnWeakKey     WarningKind = "weak-key"
	WarnWeakHash    WarningKind = "weak-hash" // signed with SHA-1 or MD5
	WarnIncomplete  WarningKind = "incomplete-chain"
)
