package certificate

import (
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"math/big"
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

var (
	oidExtKeyUsage       = asn1.ObjectIdentifier{2, 5, 29, 37}
	oidKeyUsage          = asn1.ObjectIdentifier{2, 5, 29, 15}
	oidUsageCodeSigning  = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 3, 3}
	oidUsageTimestamping = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 3, 8}
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
	certificate, err := template.certificate(key.Public())
	if err != nil {
		return nil, err
	}
	return create(certificate, certificate, key.Public(), key)
}

// Issue makes a certificate for public, signed by an authority's key. The
// certificate must not outlive the authority's.
func Issue(issuer *x509.Certificate, issuerKey crypto.Signer, public crypto.PublicKey, template Template) (*x509.Certificate, error) {
	if !issuer.IsCA {
		return nil, fmt.Errorf("certificate: %q is not the certificate of an authority", issuer.Subject)
	}
	if !HasKey(issuer, issuerKey.Public()) {
		return nil, fmt.Errorf("certificate: the key is not that of the authority %q", issuer.Subject)
	}
	if template.NotBefore.Before(issuer.NotBefore) || template.NotAfter.After(issuer.NotAfter) {
		return nil, fmt.Errorf("certificate: the validity must lie within that of the authority, %s to %s",
			issuer.NotBefore.Format(time.RFC3339), issuer.NotAfter.Format(time.RFC3339))
	}
	certificate, err := template.certificate(public)
	if err != nil {
		return nil, err
	}
	return create(certificate, issuer, public, issuerKey)
}

func create(certificate, parent *x509.Certificate, public crypto.PublicKey, key crypto.Signer) (*x509.Certificate, error) {
	der, err := x509.CreateCertificate(rand.Reader, certificate, parent, public, key)
	if err != nil {
		return nil, fmt.Errorf("certificate: %w", err)
	}
	return x509.ParseCertificate(der)
}

// certificate returns the fields and extensions (RFC 5280 section 4).
func (t Template) certificate(public crypto.PublicKey) (*x509.Certificate, error) {
	subject, err := marshalSubject(t.Subject)
	if err != nil {
		return nil, err
	}
	if !t.NotBefore.Before(t.NotAfter) {
		return nil, errors.New("certificate: the validity must end after it begins")
	}
	keyID, err := subjectKeyID(public)
	if err != nil {
		return nil, err
	}
	c := &x509.Certificate{
		SerialNumber:          newSerial(),
		RawSubject:            subject,
		NotBefore:             t.NotBefore,
		NotAfter:              t.NotAfter,
		SubjectKeyId:          keyID,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageDigitalSignature,
	}
	switch t.Usage {
	case CodeSigning:
		c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning}
	case Timestamping:
		// The standard library makes this extension, but not critical.
		usage, err := asn1.Marshal([]asn1.ObjectIdentifier{oidUsageTimestamping})
		if err != nil {
			return nil, err
		}
		c.ExtraExtensions = []pkix.Extension{{Id: oidExtKeyUsage, Critical: true, Value: usage}}
	case Authority:
		c.IsCA = true
		c.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageCRLSign
	default:
		return nil, fmt.Errorf("certificate: usage %d is not known", t.Usage)
	}
	return c, nil
}

// subjectKeyID is RFC 7093 section 2, method 1.
func subjectKeyID(public crypto.PublicKey) ([]byte, error) {
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		return nil, fmt.Errorf("certificate: %w", err)
	}
	var info struct {
		Algorithm pkix.AlgorithmIdentifier
		Key       asn1.BitString
	}
	if _, err := asn1.Unmarshal(der, &info); err != nil {
		return nil, fmt.Errorf("certificate: %w", err)
	}
	sum := sha256.Sum256(info.Key.Bytes)
	return sum[:20], nil
}

// newSerial returns a random positive number of 128 bits.
func newSerial() *big.Int {
	var octets [16]byte
	_, _ = rand.Read(octets[:])       // never fails
	octets[0] = octets[0]&0x7f | 0x40 // positive, and always of the same length
	return new(big.Int).SetBytes(octets[:])
}

// CreateRequest makes a certificate signing request (PKCS#10, RFC 2986) for key
// and returns its DER. It asks for key usage digitalSignature and extended key
// usage codeSigning. It asks key for one signature.
func CreateRequest(key crypto.Signer, subject pkix.RDNSequence) ([]byte, error) {
	name, err := marshalSubject(subject)
	if err != nil {
		return nil, err
	}
	extended, err := asn1.Marshal([]asn1.ObjectIdentifier{oidUsageCodeSigning})
	if err != nil {
		return nil, err
	}
	usage, err := asn1.Marshal(asn1.BitString{Bytes: []byte{0x80}, BitLength: 1}) // digitalSignature
	if err != nil {
		return nil, err
	}
	request := &x509.CertificateRequest{
		RawSubject: name,
		ExtraExtensions: []pkix.Extension{
			{Id: oidKeyUsage, Critical: true, Value: usage},
			{Id: oidExtKeyUsage, Value: extended},
		},
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, request, key)
	if err != nil {
		return nil, fmt.Errorf("certificate: %w", err)
	}
	return der, nil
}
