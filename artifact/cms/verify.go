package cms

import (
	"bytes"
	"crypto"
	"crypto/rsa"
	"crypto/subtle"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"time"

	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// What CheckSignature and the checks of time stamps may find.
var (
	ErrNoSigner       = errors.New("cms: the signer's certificate is not embedded, or cannot be read")
	ErrDigestMismatch = errors.New("cms: the content is not what was signed: its digest differs from the signed one")
	ErrBadSignature   = errors.New("cms: the signature is wrong")
	ErrUnsupported    = errors.New("cms: not supported")
)

// SignerCertificate finds the certificate that a signer names among the
// embedded ones, or returns ErrNoSigner.
func (sd *SignedData) SignerCertificate(si *SignerInfo) (*x509.Certificate, error) {
	for _, c := range sd.Certificates {
		if si.Serial != nil && c.SerialNumber.Cmp(si.Serial) == 0 && bytes.Equal(c.RawIssuer, si.Issuer) {
			return c, nil
		}
		if si.Serial == nil && len(si.SubjectKeyID) > 0 && bytes.Equal(c.SubjectKeyId, si.SubjectKeyID) {
			return c, nil
		}
	}
	return nil, ErrNoSigner
}

// CheckSignature verifies one signer's signature and returns its certificate,
// which is not yet judged: see Chain. A detached content's digest under the
// signer's hash function is asked of detached, which may be nil otherwise.
//
// Errors are or wrap ErrNoSigner, ErrDigestMismatch, ErrBadSignature and
// ErrUnsupported, or come from detached. The certificate is returned beside an
// error when it is known.
func (sd *SignedData) CheckSignature(si *SignerInfo, detached func(crypto.Hash) ([]byte, error)) (*x509.Certificate, error) {
	certificate, verify, err := sd.prepare(si, detached)
	if err != nil {
		return certificate, err
	}
	return certificate, verify()
}

// CheckDigest is CheckSignature without its last step, that with the public key:
// it tells whether the content is what the signer signed, if he did. It is for who
// has just made the signature with a key that checks itself, see SelfChecking.
func (sd *SignedData) CheckDigest(si *SignerInfo, detached func(crypto.Hash) ([]byte, error)) (*x509.Certificate, error) {
	certificate, _, err := sd.prepare(si, detached)
	return certificate, err
}

// SelfChecking tells whether a key verifies each signature before it gives it away.
// That of crypto/rsa does: a fault in the calculation would betray the key.
func SelfChecking(key crypto.Signer) bool {
	_, ok := key.(*rsa.PrivateKey)
	return ok
}

// prepare does all of CheckSignature but what verify does.
func (sd *SignedData) prepare(si *SignerInfo, detached func(crypto.Hash) ([]byte, error)) (_ *x509.Certificate, verify func() error, err error) {
	certificate, err := sd.SignerCertificate(si)
	if err != nil {
		return nil, nil, err
	}
	if si.Hash == 0 {
		return certificate, nil, fmt.Errorf("%w: hash function %v", ErrUnsupported, si.hashOID)
	}
	var digest []byte
	switch {
	case !sd.Detached:
		digest = sum(si.Hash, sd.Content)
	case detached == nil:
		return certificate, nil, fmt.Errorf("%w: the signed content is kept elsewhere and was not given", ErrDigestMismatch)
	default:
		if digest, err = detached(si.Hash); err != nil {
			return certificate, nil, err
		}
	}
	verify, err = si.prepare(certificate, sd.ContentType, digest, sd.Content)
	return certificate, verify, err
}

// check verifies the signature over content of the given type and digest, see prepare.
func (si *SignerInfo) check(certificate *x509.Certificate, contentType asn1.ObjectIdentifier, digest, content []byte) error {
	verify, err := si.prepare(certificate, contentType, digest, content)
	if err != nil {
		return err
	}
	return verify()
}

// prepare checks that the signer signed content of the given type and digest, if the
// signature holds, which verify tells. The type is nil for a countersignature, which
// should name none (RFC 5652 section 11.4) but often does. content itself may be nil;
// only Ed25519 without signed attributes needs it.
func (si *SignerInfo) prepare(certificate *x509.Certificate, contentType asn1.ObjectIdentifier, digest, content []byte) (verify func() error, err error) {
	a := si.SignatureAlgorithm
	verifies := func(input []byte) (func() error, error) {
		return func() error { return a.verify(certificate.PublicKey, input, si.Signature) }, nil
	}
	if si.signed == nil {
		// RFC 5652 section 5.3: only id-data may be signed without attributes.
		// Otherwise attributes could be passed off as content.
		if contentType != nil && !contentType.Equal(OIDData) {
			return nil, fmt.Errorf("%w: content type %v needs signed attributes", ErrBadSignature, contentType)
		}
		if a.kind == kindEd25519 {
			if content == nil {
				return nil, fmt.Errorf("%w: detached Ed25519 signature without signed attributes", ErrUnsupported)
			}
			digest = content
		} else if a.Hash != si.Hash {
			return nil, fmt.Errorf("%w: digest algorithm %v, but %v", ErrBadSignature, si.Hash, a)
		}
		return verifies(digest)
	}

	if contentType != nil {
		value, ok := si.SignedAttributes.single(OIDAttributeContentType)
		var oid asn1.ObjectIdentifier
		if !ok || !value.ReadASN1ObjectIdentifier(&oid) || !oid.Equal(contentType) {
			return nil, fmt.Errorf("%w: the signed content type is not %v", ErrBadSignature, contentType)
		}
	}
	signed, err := si.MessageDigest()
	if err != nil {
		return nil, err
	}
	if subtle.ConstantTimeCompare(signed, digest) != 1 {
		return nil, fmt.Errorf("%w (%v is %x, signed is %x)", ErrDigestMismatch, si.Hash, digest, signed)
	}
	switch {
	case a.kind == kindEd25519:
		return verifies(si.signed)
	case a.kind == kindUnknown || a.Hash == 0:
		return nil, fmt.Errorf("%w: signature algorithm %v", ErrUnsupported, a)
	}
	return verifies(sum(a.Hash, si.signed))
}

// MessageDigest returns the signed digest of the content (RFC 5652 section 11.2).
func (si *SignerInfo) MessageDigest() ([]byte, error) {
	value, ok := si.SignedAttributes.single(OIDAttributeMessageDigest)
	var digest []byte
	if !ok || !value.ReadASN1Bytes(&digest, cbasn1.OCTET_STRING) {
		return nil, fmt.Errorf("%w: there is not exactly one message digest attribute", ErrBadSignature)
	}
	return digest, nil
}

// SigningTime returns the time that the signer claims (RFC 5652 section 11.3).
func (si *SignerInfo) SigningTime() (t time.Time, ok bool) {
	value, ok := si.SignedAttributes.single(OIDAttributeSigningTime)
	if !ok {
		return t, false
	}
	return readTime(&value)
}

// ChainOptions says what a certificate is trusted for, by whom and when.
type ChainOptions struct {
	Roots       *x509.CertPool // nil for none
	SystemRoots bool           // trust the system's roots too
	Time        time.Time      // when every certificate must be in its period of validity; now when zero
	Usage       x509.ExtKeyUsage
}

// ChainProblem says why no chain could be built.
type ChainProblem string

// The problems, each of which means that the certificate is not to be trusted.
const (
	ChainExpired       ChainProblem = "certificate-expired"
	ChainNotYetValid   ChainProblem = "certificate-not-yet-valid"
	ChainUntrustedRoot ChainProblem = "untrusted-root"
	ChainWrongUsage    ChainProblem = "wrong-key-usage"
	ChainWeak          ChainProblem = "weak-chain-algorithm"
	ChainInvalid       ChainProblem = "invalid-chain"
)

// ChainError reports that no chain leads to a trusted root.
type ChainError struct {
	Problem     ChainProblem
	Certificate *x509.Certificate // the one at fault, where that is known
	Err         error
}

func (e *ChainError) Error() string { return "cms: " + e.Err.Error() }

func (e *ChainError) Unwrap() error { return e.Err }

// Chain builds a chain from leaf over the given intermediates to a trusted root
// (RFC 5280 section 6) and returns it, leaf first. Every error is a *ChainError.
// When a chain is out of its time only, the error says so, not that it is untrusted.
func Chain(leaf *x509.Certificate, intermediates []*x509.Certificate, opts ChainOptions) ([]*x509.Certificate, error) {
	pool := x509.NewCertPool()
	for _, c := range intermediates {
		pool.AddCert(c)
	}
	if opts.Time.IsZero() {
		opts.Time = time.Now()
	}
	verify := x509.VerifyOptions{
		Roots: opts.Roots, Intermediates: pool,
		CurrentTime: opts.Time, KeyUsages: []x509.ExtKeyUsage{opts.Usage},
	}
	if verify.Roots == nil {
		verify.Roots = x509.NewCertPool() // x509 takes nil for the system's roots
	}
	chains, err := leaf.Verify(verify)
	if err != nil && opts.SystemRoots {
		own := chainError(err, opts.Time)
		if verify.Roots, err = x509.SystemCertPool(); err == nil {
			chains, err = leaf.Verify(verify)
		}
		// A root that is known says more about what is wrong.
		if err != nil && own.Problem != ChainUntrustedRoot {
			return nil, own
		}
	}
	if err != nil {
		return nil, chainError(err, opts.Time)
	}
	return chains[0], nil
}

func chainError(err error, at time.Time) *ChainError {
	e := &ChainError{Problem: ChainInvalid, Err: err}
	var invalid x509.CertificateInvalidError
	var unknown x509.UnknownAuthorityError
	var insecure x509.InsecureAlgorithmError
	switch {
	case errors.As(err, &invalid):
		e.Certificate = invalid.Cert
		switch {
		case invalid.Reason == x509.Expired && invalid.Cert != nil && at.Before(invalid.Cert.NotBefore):
			e.Problem = ChainNotYetValid
		case invalid.Reason == x509.Expired:
			e.Problem = ChainExpired
		case invalid.Reason == x509.IncompatibleUsage:
			e.Problem = ChainWrongUsage
		}
	case errors.As(err, &insecure):
		e.Problem = ChainWeak
	case errors.As(err, &unknown):
		e.Certificate, e.Problem = unknown.Cert, ChainUntrustedRoot
	}
	return e
}
