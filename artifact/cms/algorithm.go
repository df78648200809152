package cms

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	_ "crypto/sha1" // registers the hash functions that hashes names
	_ "crypto/sha256"
	_ "crypto/sha512"
	"encoding/asn1"
	"errors"
	"fmt"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

var (
	oidRSA        = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 1}
	oidMGF1       = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 8}
	oidPSS        = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 10}
	oidECDSA      = asn1.ObjectIdentifier{1, 2, 840, 10045, 2, 1} // id-ecPublicKey, which some signers write
	oidEd25519    = asn1.ObjectIdentifier{1, 3, 101, 112}
	errPSSTrailer = errors.New("RSASSA-PSS parameters with another trailer field than 1")
)

// hashes names the known hash functions (RFC 5754 section 2) and the signature
// algorithms that they are part of (RFC 5754 section 3).
var hashes = []struct {
	hash       crypto.Hash
	oid        asn1.ObjectIdentifier
	rsa, ecdsa asn1.ObjectIdentifier
}{
	{crypto.SHA256, asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 1}, asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 11}, asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 2}},
	{crypto.SHA384, asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 2}, asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 12}, asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 3}},
	{crypto.SHA512, asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 3}, asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 13}, asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 4}},
	{crypto.SHA1, asn1.ObjectIdentifier{1, 3, 14, 3, 2, 26}, asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 5}, asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 1}},
}

// HashOID returns the object identifier of a hash function. It fails for all
// but SHA-1, SHA-256, SHA-384 and SHA-512.
func HashOID(h crypto.Hash) (asn1.ObjectIdentifier, error) {
	for _, known := range hashes {
		if known.hash == h {
			return known.oid, nil
		}
	}
	return nil, fmt.Errorf("%w: hash function %v; use SHA-256, SHA-384, SHA-512 or SHA-1", ErrUnsupported, h)
}

func hashByOID(oid asn1.ObjectIdentifier) (crypto.Hash, error) {
	for _, known := range hashes {
		if known.oid.Equal(oid) {
			return known.hash, nil
		}
	}
	return 0, fmt.Errorf("%w: hash function %v", ErrUnsupported, oid)
}

// ParseHashAlgorithm reads an AlgorithmIdentifier (RFC 5280 section 4.1.1.2) of
// a hash function from the front of s.
func ParseHashAlgorithm(s *cryptobyte.String) (crypto.Hash, error) {
	oid, _, err := readAlgorithm(s)
	if err != nil {
		return 0, err
	}
	return hashByOID(oid)
}

// AddHashAlgorithm appends the AlgorithmIdentifier of a hash function, with
// NULL parameters as PKCS#7 and Authenticode have them, or without any as RFC
// 5754 section 2 prefers. The hash must be one that HashOID knows.
func AddHashAlgorithm(b *cryptobyte.Builder, h crypto.Hash, null bool) {
	oid, err := HashOID(h)
	if err != nil {
		b.SetError(err)
		return
	}
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1ObjectIdentifier(oid)
		if null {
			b.AddASN1NULL()
		}
	})
}

func readAlgorithm(s *cryptobyte.String) (oid asn1.ObjectIdentifier, parameters cryptobyte.String, err error) {
	var seq cryptobyte.String
	if !s.ReadASN1(&seq, cbasn1.SEQUENCE) || !seq.ReadASN1ObjectIdentifier(&oid) {
		return nil, nil, errors.New("no AlgorithmIdentifier")
	}
	return oid, seq, nil
}

// SignatureAlgorithm says how a signature value was made.
type SignatureAlgorithm struct {
	OID  asn1.ObjectIdentifier
	Hash crypto.Hash // of the signature itself; zero for Ed25519, which has its own

	kind       signatureKind
	saltLength int // RSASSA-PSS
}

type signatureKind int

const (
	kindUnknown signatureKind = iota
	kindPKCS1
	kindPSS
	kindECDSA
	kindEd25519
)

// String names the algorithm for people, such as "RSA-PSS with SHA-256".
func (a SignatureAlgorithm) String() string {
	switch a.kind {
	case kindPKCS1:
		return "RSA with " + a.Hash.String()
	case kindPSS:
		return "RSA-PSS with " + a.Hash.String()
	case kindECDSA:
		return "ECDSA with " + a.Hash.String()
	case kindEd25519:
		return "Ed25519"
	default:
		return a.OID.String()
	}
}

// parseSignatureAlgorithm reads SignerInfo.signatureAlgorithm. Where that names
// the key's algorithm only (rsaEncryption, id-ecPublicKey), the hash function is digest.
// An algorithm that is not known is no error here, but Verify fails.
func parseSignatureAlgorithm(s *cryptobyte.String, digest crypto.Hash) (SignatureAlgorithm, error) {
	oid, parameters, err := readAlgorithm(s)
	if err != nil {
		return SignatureAlgorithm{}, err
	}
	a := SignatureAlgorithm{OID: oid, Hash: digest}
	switch {
	case oid.Equal(oidRSA):
		a.kind = kindPKCS1
	case oid.Equal(oidECDSA):
		a.kind = kindECDSA
	case oid.Equal(oidEd25519):
		a.kind, a.Hash = kindEd25519, 0
	case oid.Equal(oidPSS):
		a.kind = kindPSS
		a.Hash, a.saltLength, err = parsePSS(parameters)
		return a, err
	default:
		for _, known := range hashes {
			if oid.Equal(known.rsa) {
				a.kind, a.Hash = kindPKCS1, known.hash
			} else if oid.Equal(known.ecdsa) {
				a.kind, a.Hash = kindECDSA, known.hash
			}
		}
	}
	return a, nil
}

// parsePSS reads RSASSA-PSS-params (RFC 4055 section 3.1).
func parsePSS(s cryptobyte.String) (h crypto.Hash, saltLength int, err error) {
	var params, field cryptobyte.String
	if !s.ReadASN1(&params, cbasn1.SEQUENCE) {
		return 0, 0, errors.New("no RSASSA-PSS parameters")
	}
	h, mgfHash, saltLength := crypto.SHA1, crypto.SHA1, 20
	var present bool
	if !params.ReadOptionalASN1(&field, &present, explicit(0)) {
		return 0, 0, errors.New("malformed RSASSA-PSS hash algorithm")
	} else if present {
		if h, err = ParseHashAlgorithm(&field); err != nil {
			return 0, 0, err
		}
	}
	if !params.ReadOptionalASN1(&field, &present, explicit(1)) {
		return 0, 0, errors.New("malformed RSASSA-PSS mask generation algorithm")
	} else if present {
		oid, mgf, err := readAlgorithm(&field)
		if err != nil {
			return 0, 0, err
		}
		if !oid.Equal(oidMGF1) {
			return 0, 0, fmt.Errorf("%w: mask generation function %v", ErrUnsupported, oid)
		}
		if mgfHash, err = ParseHashAlgorithm(&mgf); err != nil {
			return 0, 0, err
		}
	}
	if mgfHash != h {
		return 0, 0, fmt.Errorf("%w: RSASSA-PSS with %v but MGF1 with %v", ErrUnsupported, h, mgfHash)
	}
	if !params.ReadOptionalASN1(&field, &present, explicit(2)) || present && !field.ReadASN1Integer(&saltLength) {
		return 0, 0, errors.New("malformed RSASSA-PSS salt length")
	}
	if saltLength < 0 || saltLength > 1024 {
		return 0, 0, fmt.Errorf("RSASSA-PSS salt length %d", saltLength)
	}
	trailer := 1
	if !params.ReadOptionalASN1(&field, &present, explicit(3)) || present && !field.ReadASN1Integer(&trailer) || trailer != 1 {
		return 0, 0, errPSSTrailer
	}
	return h, saltLength, nil
}

// signatureAlgorithmFor chooses the algorithm for a key.
func signatureAlgorithmFor(public crypto.PublicKey, h crypto.Hash, pss bool) (SignatureAlgorithm, error) {
	a := SignatureAlgorithm{Hash: h}
	if pss {
		if _, isRSA := public.(*rsa.PublicKey); !isRSA {
			return a, fmt.Errorf("%w: RSASSA-PSS with a key of type %T", ErrUnsupported, public)
		}
	}
	switch public.(type) {
	case *rsa.PublicKey:
		a.kind, a.OID = kindPKCS1, oidRSA
		if pss {
			a.kind, a.OID, a.saltLength = kindPSS, oidPSS, h.Size()
		}
	case *ecdsa.PublicKey:
		a.kind = kindECDSA
		for _, known := range hashes {
			if known.hash == h {
				a.OID = known.ecdsa
			}
		}
	case ed25519.PublicKey:
		// RFC 8419 section 3.1: with signed attributes, the digest is SHA-512.
		if h != crypto.SHA512 {
			return a, fmt.Errorf("%w: Ed25519 with %v; CMS wants SHA-512 with it", ErrUnsupported, h)
		}
		a.kind, a.OID, a.Hash = kindEd25519, oidEd25519, 0
	default:
		return a, fmt.Errorf("%w: key of type %T", ErrUnsupported, public)
	}
	return a, nil
}

// add appends the AlgorithmIdentifier.
func (a SignatureAlgorithm) add(b *cryptobyte.Builder) {
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1ObjectIdentifier(a.OID)
		if a.kind == kindPKCS1 {
			b.AddASN1NULL()
		} else if a.kind == kindPSS {
			a.addPSS(b)
		}
	})
}

func (a SignatureAlgorithm) addPSS(b *cryptobyte.Builder) {
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		if a.Hash == crypto.SHA1 && a.saltLength == 20 {
			return // all defaults, which DER leaves out
		}
		b.AddASN1(explicit(0), func(b *cryptobyte.Builder) { AddHashAlgorithm(b, a.Hash, true) })
		b.AddASN1(explicit(1), func(b *cryptobyte.Builder) {
			b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
				b.AddASN1ObjectIdentifier(oidMGF1)
				AddHashAlgorithm(b, a.Hash, true)
			})
		})
		b.AddASN1(explicit(2), func(b *cryptobyte.Builder) { b.AddASN1Int64(int64(a.saltLength)) })
	})
}

// input returns what a crypto.Signer is given for message: its digest, or for
// Ed25519 the message itself.
func (a SignatureAlgorithm) input(message []byte) ([]byte, crypto.SignerOpts) {
	switch a.kind {
	case kindEd25519:
		return message, crypto.Hash(0)
	case kindPSS:
		return sum(a.Hash, message), &rsa.PSSOptions{SaltLength: a.saltLength, Hash: a.Hash}
	default:
		return sum(a.Hash, message), a.Hash
	}
}

// verify checks a signature over a message whose digest under a.Hash is given;
// for Ed25519 digest is the message.
func (a SignatureAlgorithm) verify(public crypto.PublicKey, digest, signature []byte) error {
	valid := false
	switch a.kind {
	case kindPKCS1, kindPSS:
		key, ok := public.(*rsa.PublicKey)
		if !ok {
			return fmt.Errorf("%w: %v, but the certificate's key is a %T", ErrBadSignature, a, public)
		}
		var err error
		if a.kind == kindPSS {
			err = rsa.VerifyPSS(key, a.Hash, digest, signature, &rsa.PSSOptions{SaltLength: a.saltLength})
		} else {
			err = rsa.VerifyPKCS1v15(key, a.Hash, digest, signature)
		}
		if err != nil {
			return fmt.Errorf("%w: %w", ErrBadSignature, err)
		}
		return nil
	case kindECDSA:
		key, ok := public.(*ecdsa.PublicKey)
		if !ok {
			return fmt.Errorf("%w: %v, but the certificate's key is a %T", ErrBadSignature, a, public)
		}
		valid = ecdsa.VerifyASN1(key, digest, signature)
	case kindEd25519:
		key, ok := public.(ed25519.PublicKey)
		if !ok {
			return fmt.Errorf("%w: %v, but the certificate's key is a %T", ErrBadSignature, a, public)
		}
		valid = ed25519.Verify(key, digest, signature)
	default:
		return fmt.Errorf("%w: signature algorithm %v", ErrUnsupported, a)
	}
	if !valid {
		return fmt.Errorf("%w: %v signature does not fit the certificate's key", ErrBadSignature, a)
	}
	return nil
}

func sum(h crypto.Hash, data []byte) []byte {
	d := h.New()
	d.Write(data)
	return d.Sum(nil)
}

// explicit is the constructed context-specific tag n.
func explicit(n uint8) cbasn1.Tag { return cbasn1.Tag(n).ContextSpecific().Constructed() }
