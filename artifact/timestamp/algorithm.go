package timestamp

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"encoding/asn1"
	"fmt"
)

var (
	oidRSA             = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 1}
	oidECDSAWithSHA256 = asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 2}
	oidECDSAWithSHA384 = asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 3}
	oidECDSAWithSHA512 = asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 4}
)

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
			return crypto.SHA512, oidECDSAWithSHA512, false, nil
		case bits >= 384:
			return crypto.SHA384, oidECDSAWithSHA384, false, nil
		}
		return crypto.SHA256, oidECDSAWithSHA256, false, nil
	}
	return 0, nil, false, fmt.Errorf("timestamp: an authority signs with an RSA or ECDSA key, not with %T", public)
}
