// Package certificate makes, reads and judges the X.509 certificates that sign
// code: self-signed and issued certificates, signing requests, uploads (PEM, DER,
// PKCS#7), PKCS#12 files, private key files and chains.
//
// Uploads may be hostile: what is read here is bounded in size, count and depth.
package certificate

import (
	"bytes"
	"crypto"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"time"
)

// maxChain bounds the length of a chain.
const maxChain = 16

// HasKey reports whether a certificate is for the public key.
func HasKey(certificate *x509.Certificate, public crypto.PublicKey) bool {
	key, ok := certificate.PublicKey.(interface{ Equal(crypto.PublicKey) bool })
	return ok && key.Equal(public)
}

// ThumbprintSHA1 returns the SHA-1 of the certificate, in upper-case hexadecimal
// as Windows shows it.
func ThumbprintSHA1(certificate *x509.Certificate) string {
	return fmt.Sprintf("%X", sha1.Sum(certificate.Raw))
}

// ThumbprintSHA256 returns the SHA-256 of the certificate, in upper-case
// hexadecimal.
func ThumbprintSHA256(certificate *x509.Certificate) string {
	return fmt.Sprintf("%X", sha256.Sum256(certificate.Raw))
}

// Chain orders certificates: the leaf, its issuer, and so on up to the root, as
// far as certificates has them, completed from pool. The leaf is the certificate
// of the public key; if public is nil, it is the one that issued none of the
// others. Certificates that do not belong to the chain are left out.
func Chain(public crypto.PublicKey, certificates, pool []*x509.Certificate) ([]*x509.Certificate, error) {
	leaf, err := findLeaf(public, certificates)
	if err != nil {
		return nil, err
	}
	chain := []*x509.Certificate{leaf}
	for current := leaf; len(chain) < maxChain && !selfIssued(current); {
		issuer := findIssuer(current, certificates)
		if issuer == nil {
			issuer = findIssuer(current, pool)
		}
		if issuer == nil || slices.ContainsFunc(chain, issuer.Equal) {
			break
		}
		chain = append(chain, issuer)
		current = issuer
	}
	return chain, nil
}

func selfIssued(certificate *x509.Certificate) bool {
	return bytes.Equal(certificate.RawSubject, certificate.RawIssuer)
}

func findLeaf(public crypto.PublicKey, certificates []*x509.Certificate) (*x509.Certificate, error) {
	var leaves []*x509.Certificate
	for _, c := range certificates {
		if public != nil && HasKey(c, public) || public == nil && !issuedAny(c, certificates) {
			leaves = append(leaves, c)
		}
	}
	if len(leaves) > 1 && public == nil {
		// Stray authorities do not hide the one certificate of a signer.
		if signers := slices.DeleteFunc(slices.Clone(leaves), func(c *x509.Certificate) bool { return c.IsCA }); len(signers) > 0 {
			leaves = signers
		}
	}
	switch {
	case len(leaves) == 0 && public != nil:
		return nil, errors.New("certificate: no certificate is for the key; upload the one that was issued for this key's signing request")
	case len(leaves) == 0:
		return nil, errors.New("certificate: there is no certificate")
	case len(leaves) > 1 && public == nil:
		return nil, fmt.Errorf("certificate: both %q and %q could be the signer's certificate; leave only one chain", leaves[0].Subject, leaves[1].Subject)
	}
	// A renewed certificate has the same key: the one that lasts longest wins.
	return slices.MaxFunc(leaves, func(a, b *x509.Certificate) int { return a.NotAfter.Compare(b.NotAfter) }), nil
}

func issuedAny(issuer *x509.Certificate, certificates []*x509.Certificate) bool {
	return slices.ContainsFunc(certificates, func(c *x509.Certificate) bool { return !c.Equal(issuer) && issued(issuer, c) })
}

// findIssuer prefers the certificate that lasts longest: authorities renew theirs
// with the same key.
func findIssuer(certificate *x509.Certificate, candidates []*x509.Certificate) *x509.Certificate {
	var best *x509.Certificate
	for _, c := range candidates {
		if (best == nil || c.NotAfter.After(best.NotAfter)) && issued(c, certificate) {
			best = c
		}
	}
	return best
}

// issued reports whether issuer signed the certificate. Names and identifiers
// are compared first: most pairs do not need the key.
func issued(issuer, certificate *x509.Certificate) bool {
	if !bytes.Equal(issuer.RawSubject, certificate.RawIssuer) {
		return false
	}
	if len(issuer.SubjectKeyId) > 0 && len(certificate.AuthorityKeyId) > 0 && !bytes.Equal(issuer.SubjectKeyId, certificate.AuthorityKeyId) {
		return false
	}
	err := certificate.CheckSignatureFrom(issuer)
	var insecure x509.InsecureAlgorithmError
	// SHA-1 is for Warnings to complain about; the names have to do here.
	return err == nil || errors.As(err, &insecure)
}

// CheckUsage returns an error unless a certificate may sign code: its extended key
// usage, where it has one, names codeSigning or any, and its key usage, where it
// has one, digitalSignature (RFC 5280 sections 4.2.1.3 and 4.2.1.12).
func CheckUsage(certificate *x509.Certificate) error {
	limited := len(certificate.ExtKeyUsage)+len(certificate.UnknownExtKeyUsage) > 0
	if limited && !slices.Contains(certificate.ExtKeyUsage, x509.ExtKeyUsageCodeSigning) && !slices.Contains(certificate.ExtKeyUsage, x509.ExtKeyUsageAny) {
		return fmt.Errorf("certificate: the certificate of %q is not for signing code: its extended key usage does not include codeSigning; have one issued that does", certificate.Subject)
	}
	if certificate.KeyUsage != 0 && certificate.KeyUsage&x509.KeyUsageDigitalSignature == 0 {
		return fmt.Errorf("certificate: the certificate of %q is not for signing code: its key usage does not include digitalSignature; have one issued that does", certificate.Subject)
	}
	return nil
}

// expiryNotice is how long before its end a certificate deserves a warning.
const expiryNotice = 30 * 24 * time.Hour

// WarningKind is a stable name of a finding.
type WarningKind string

// The findings.
const (
	WarnExpired     WarningKind = "expired"
	WarnNotYetValid WarningKind = "not-yet-valid"
	WarnExpiresSoon WarningKind = "expires-soon" // within 30 days
	WarnUsage       WarningKind = "usage"        // not for code signing
	WarnWeakKey     WarningKind = "weak-key"     // RSA below 3072 bits
	WarnWeakHash    WarningKind = "weak-hash"    // signed with SHA-1 or MD5
	WarnIncomplete  WarningKind = "incomplete-chain"
)

// Warning is one finding of Warnings.
type Warning struct {
	Kind    WarningKind
	Message string // for people: what is wrong and what to do
}

// Warnings says what is questionable about signing code with the first
// certificate of a chain at a time.
func Warnings(chain []*x509.Certificate, at time.Time) []Warning {
	if len(chain) == 0 {
		return nil
	}
	var warnings []Warning
	warn := func(kind WarningKind, format string, args ...any) {
		warnings = append(warnings, Warning{Kind: kind, Message: fmt.Sprintf(format, args...)})
	}
	leaf := chain[0]
	switch {
	case at.Before(leaf.NotBefore):
		warn(WarnNotYetValid, "The certificate is valid only from %s.", leaf.NotBefore.Format(time.RFC3339))
	case at.After(leaf.NotAfter):
		warn(WarnExpired, "The certificate expired on %s; have it renewed.", leaf.NotAfter.Format(time.DateOnly))
	case at.Add(expiryNotice).After(leaf.NotAfter):
		warn(WarnExpiresSoon, "The certificate expires on %s; have it renewed.", leaf.NotAfter.Format(time.DateOnly))
	}
	if !slices.Contains(leaf.ExtKeyUsage, x509.ExtKeyUsageCodeSigning) {
		warn(WarnUsage, "The certificate lacks the extended key usage codeSigning; Windows does not accept its signatures.")
	} else if leaf.KeyUsage != 0 && leaf.KeyUsage&x509.KeyUsageDigitalSignature == 0 {
		warn(WarnUsage, "The certificate's key usage does not include digitalSignature.")
	}
	if key, ok := leaf.PublicKey.(*rsa.PublicKey); ok && key.N.BitLen() < 3072 {
		warn(WarnWeakKey, "The RSA key has %d bits; certificates that are publicly trusted for code signing need 3072 or more.", key.N.BitLen())
	}
	for _, c := range chain {
		switch c.SignatureAlgorithm {
		case x509.MD2WithRSA, x509.MD5WithRSA, x509.SHA1WithRSA, x509.DSAWithSHA1, x509.ECDSAWithSHA1:
			if c.Equal(leaf) || !selfIssued(c) { // the signature of a root is not looked at
				warn(WarnWeakHash, "The certificate of %q is signed with %v, which is not accepted any more.", c.Subject, c.SignatureAlgorithm)
			}
		}
	}
	if last := chain[len(chain)-1]; !selfIssued(last) {
		warn(WarnIncomplete, "The certificate of the issuer %q is missing; upload the whole chain.", last.Issuer)
	}
	return warnings
}
