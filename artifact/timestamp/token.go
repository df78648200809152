package timestamp

import (
	"bytes"
	"crypto"
	"crypto/x509"

	"github.com/countersign-dev/countersign/artifact/cms"
)

// parseToken reads a token and checks it as strictly as one that is new may be:
// it is DER, nothing in it rests on SHA-1 but the imprint that was asked for and
// an ESSCertID of RFC 2634, and it was signed by an authority that could issue it
// at the time that it states. Whom to trust is for the caller to judge.
func parseToken(der []byte) (*cms.Token, *x509.Certificate, error) {
	token, err := cms.ParseToken(der)
	if err != nil {
		return nil, nil, err
	}
	if !bytes.Equal(token.Raw, der) {
		return nil, nil, malformed("token", "is not DER")
	}
	signer := token.SignedData.Signers[0]
	if signer.Hash == crypto.SHA1 || signer.SignatureAlgorithm.Hash == crypto.SHA1 {
		return nil, nil, malformed("token.signerInfo", "is signed with %v and %v, not with SHA-256, SHA-384 or SHA-512", signer.Hash, signer.SignatureAlgorithm)
	}
	authority, err := token.Authority()
	if err != nil {
		return nil, nil, err
	}
	if err := checkAuthorityCertificate(authority); err != nil {
		return nil, nil, err
	}
	if token.Time.Before(authority.NotBefore) || token.Time.After(authority.NotAfter) {
		return nil, nil, malformed("tstInfo.genTime", "%v is outside the validity of the authority's certificate", token.Time)
	}
	return token, authority, nil
}

// checkAuthorityCertificate requires the extended key usage of RFC 3161 section
// 2.3: critical, and timeStamping only.
func checkAuthorityCertificate(certificate *x509.Certificate) error {
	const field = "certificate.extKeyUsage"
	for _, extension := range certificate.Extensions {
		if !extension.Id.Equal(oidExtKeyUsage) {
			continue
		}
		if !extension.Critical {
			return malformed(field, "of %q is not critical", certificate.Subject)
		}
		if len(certificate.ExtKeyUsage) != 1 || len(certificate.UnknownExtKeyUsage) != 0 || certificate.ExtKeyUsage[0] != x509.ExtKeyUsageTimeStamping {
			return malformed(field, "of %q is not timeStamping alone", certificate.Subject)
		}
		if certificate.KeyUsage&^(x509.KeyUsageDigitalSignature|x509.KeyUsageContentCommitment) != 0 {
			return malformed("certificate.keyUsage", "of %q is not for signatures alone", certificate.Subject)
		}
		return nil
	}
	return malformed(field, "of %q is missing: the certificate is not for time stamping", certificate.Subject)
}
