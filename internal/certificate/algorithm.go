package certificate

import (
	"crypto"
	"errors"
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

var errSkeleton = errors.New("certificate: not implemented")

// KeyAlgorithms lists the algorithms, in the order in which to offer them.
func KeyAlgorithms() []KeyAlgorithm {
	return []KeyAlgorithm{RSA2048, RSA3072, RSA4096, ECDSAP256, ECDSAP384, ECDSAP521, Ed25519}
}

// ParseKeyAlgorithm returns the algorithm of that name; case does not matter.
func ParseKeyAlgorithm(name string) (KeyAlgorithm, error) { return "", errSkeleton }

// AlgorithmOf returns the algorithm of a public key, or a name that is not one of
// KeyAlgorithms, such as "RSA-1024", together with an error.
func AlgorithmOf(public crypto.PublicKey) (KeyAlgorithm, error) { return "", errSkeleton }

// GenerateKey makes a private key.
func GenerateKey(algorithm KeyAlgorithm) (crypto.Signer, error) { return nil, errSkeleton }
