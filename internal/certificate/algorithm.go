package certificate

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"fmt"
	"strings"
)

// KeyAlgorithm is the type and size of a signing key, by the name that people
// and files use.
type KeyAlgorithm string

// The key algorithms.
const (
	RSA2048   KeyAlgorithm = "RSA-2048"
	RSA3072   KeyAlgorithm = "RSA-3072"
	RSA4096   KeyAlgorithm = "RSA-4096"
	ECDSAP256 KeyAlgorithm = "ECDSA-P256"
	ECDSAP384 KeyAlgorithm = "ECDSA-P384"
	ECDSAP521 KeyAlgorithm = "ECDSA-P521"
	Ed25519   KeyAlgorithm = "Ed25519"
)

// KeyAlgorithms lists the algorithms, in the order in which to offer them.
func KeyAlgorithms() []KeyAlgorithm {
	return []KeyAlgorithm{RSA2048, RSA3072, RSA4096, ECDSAP256, ECDSAP384, ECDSAP521, Ed25519}
}

// ParseKeyAlgorithm returns the algorithm of that name; case does not matter.
func ParseKeyAlgorithm(name string) (KeyAlgorithm, error) {
	for _, known := range KeyAlgorithms() {
		if strings.EqualFold(name, string(known)) {
			return known, nil
		}
	}
	return "", fmt.Errorf("certificate: key algorithm %q is not known; use one of %v", name, KeyAlgorithms())
}

// AlgorithmOf returns the algorithm of a public key (*rsa.PublicKey,
// *ecdsa.PublicKey or ed25519.PublicKey). For a key that is none of KeyAlgorithms
// it returns what it is, such as "RSA-1024", together with an error.
func AlgorithmOf(public crypto.PublicKey) (KeyAlgorithm, error) {
	name := fmt.Sprintf("%T", public)
	switch key := public.(type) {
	case *rsa.PublicKey:
		name = fmt.Sprintf("RSA-%d", key.N.BitLen())
	case *ecdsa.PublicKey:
		name = "ECDSA-" + strings.ReplaceAll(key.Curve.Params().Name, "-", "")
	case ed25519.PublicKey:
		name = string(Ed25519)
	}
	if _, err := ParseKeyAlgorithm(name); err != nil {
		return KeyAlgorithm(name), err
	}
	return KeyAlgorithm(name), nil
}

// GenerateKey makes a private key: *rsa.PrivateKey, *ecdsa.PrivateKey or
// ed25519.PrivateKey.
func GenerateKey(algorithm KeyAlgorithm) (crypto.Signer, error) {
	switch algorithm {
	case RSA2048:
		return rsa.GenerateKey(rand.Reader, 2048)
	case RSA3072:
		return rsa.GenerateKey(rand.Reader, 3072)
	case RSA4096:
		return rsa.GenerateKey(rand.Reader, 4096)
	case ECDSAP256:
		return ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case ECDSAP384:
		return ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	case ECDSAP521:
		return ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	case Ed25519:
		_, key, err := ed25519.GenerateKey(rand.Reader)
		return key, err
	}
	return nil, fmt.Errorf("certificate: key algorithm %q is not known; use one of %v", algorithm, KeyAlgorithms())
}
