package certificate

import (
	"crypto"
	"crypto/x509"
	"crypto/x509/pkix"
	"time"
)

// Usage is what a certificate's key is for.
type Usage int

// The usages of the certificates that this package makes.
const (
	CodeSigning  Usage = iota // extended key usage codeSigning
	Timestamping              // extended key usage timeStamping, critical (RFC 3161 section 2.3)
	Authority                 // issues certificates
)

// Template says what a certificate contains.
type Template struct {
	Subject   pkix.RDNSequence // of ParseSubject, or of pkix.Name.ToRDNSequence
	NotBefore time.Time
	NotAfter  time.Time
	Usage     Usage
}

// SelfSign makes a self-signed certificate for key. It asks key for one signature.
func SelfSign(key crypto.Signer, template Template) (*x509.Certificate, error) {
	return nil, errSkeleton
}

// Issue makes a certificate for public, signed by an authority's key.
func Issue(issuer *x509.Certificate, issuerKey crypto.Signer, public crypto.PublicKey, template Template) (*x509.Certificate, error) {
	return nil, errSkeleton
}

// CreateRequest makes a certificate signing request (PKCS#10, RFC 2986) for key,
// asking for extended key usage codeSigning, and returns its DER.
func CreateRequest(key crypto.Signer, subject pkix.RDNSequence) ([]byte, error) {
	return nil, errSkeleton
}
