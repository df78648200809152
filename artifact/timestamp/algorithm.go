package timestamp

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/x509"
	"encoding/asn1"
	"fmt"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

var (
	oidRSA     = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 1}
	oidRSAPSS  = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 10}
	oidECKey   = asn1.ObjectIdentifier{1, 2, 840, 10045, 2, 1}
	oidEd25519 = asn1.ObjectIdentifier{1, 3, 101, 112}
)

// signatures are the algorithms whose identifier names the digest, too. SHA-1 is
// not among them: a new signature must not rest on it.
var signatures = []struct {
	oid       asn1.ObjectIdentifier
	key       asn1.ObjectIdentifier // identifier without a digest, which some signers use
	hash      crypto.Hash
	algorithm x509.SignatureAlgorithm
}{
	{asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 11}, oidRSA, crypto.SHA256, x509.SHA256WithRSA},
	{asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 12}, oidRSA, crypto.SHA384, x509.SHA384WithRSA},
	{asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 13}, oidRSA, crypto.SHA512, x509.SHA512WithRSA},
	{asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 2}, oidECKey, crypto.SHA256, x509.ECDSAWithSHA256},
	{asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 3}, oidECKey, crypto.SHA384, x509.ECDSAWithSHA384},
	{asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 4}, oidECKey, crypto.SHA512, x509.ECDSAWithSHA512},
}

// signatureAlgorithm returns x509.UnknownSignatureAlgorithm for one that is not
// supported.
func signatureAlgorithm(oid asn1.ObjectIdentifier, parameters cryptobyte.String, digest crypto.Hash) x509.SignatureAlgorithm {
	for _, s := range signatures {
		if s.oid.Equal(oid) || s.key.Equal(oid) && s.hash == digest {
			return s.algorithm
		}
	}
	switch {
	case oid.Equal(oidEd25519):
		return x509.PureEd25519
	case oid.Equal(oidRSAPSS):
		return pssAlgorithm(parameters)
	}
	return x509.UnknownSignatureAlgorithm
}

// pssAlgorithm reads the hash function of RSASSA-PSS-params (RFC 4055 section
// 3.1). Mask function and salt are checked by the signature itself: the standard
// library verifies with the same hash and a salt of its size.
func pssAlgorithm(parameters cryptobyte.String) x509.SignatureAlgorithm {
	var params, explicit cryptobyte.String
	if !parameters.ReadASN1(&params, cbasn1.SEQUENCE) || !params.ReadASN1(&explicit, tag0.Constructed()) {
		return x509.UnknownSignatureAlgorithm
	}
	oid, _, err := readAlgorithm(&explicit, "hashAlgorithm")
	if err != nil {
		return x509.UnknownSignatureAlgorithm
	}
	return pssAlgorithms[hashOf(oid)] // unknown is zero
}

var pssAlgorithms = map[crypto.Hash]x509.SignatureAlgorithm{
	crypto.SHA256: x509.SHA256WithRSAPSS,
	crypto.SHA384: x509.SHA384WithRSAPSS,
	crypto.SHA512: x509.SHA512WithRSAPSS,
}

// signingAlgorithm returns the digest that fits a key's strength, and the
// identifier to sign with. RSA is written as rsaEncryption with NULL (RFC 3370
// section 3.2), ECDSA with its digest and no parameters (RFC 5754 section 3.3).
func signingAlgorithm(public crypto.PublicKey) (hash crypto.Hash, oid asn1.ObjectIdentifier, null bool, err error) {
	switch key := public.(type) {
	case *rsa.PublicKey:
		return crypto.SHA256, oidRSA, true, nil
	case *ecdsa.PublicKey:
		switch bits := key.Curve.Params().BitSize; {
		case bits >= 521:
			hash = crypto.SHA512
		case bits >= 384:
			hash = crypto.SHA384
		default:
			hash = crypto.SHA256
		}
		for _, s := range signatures {
			if s.hash == hash && s.key.Equal(oidECKey) {
				return hash, s.oid, false, nil
			}
		}
	}
	return 0, nil, false, fmt.Errorf("timestamp: an authority signs with an RSA or ECDSA key, not with %T", public)
}
