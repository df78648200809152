package certificate

import (
	"bytes"
	"crypto/rsa"
	"crypto/x509"
	"encoding/asn1"
	"encoding/pem"
	"fmt"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

const (
	maxUpload       = 1 << 20 // octets of an upload or file
	maxCertificates = 64      // of an upload
	maxRSABits      = 8192    // of a key in a certificate: checking signatures of larger ones takes too long
)

var (
	oidSignedData = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 2}

	pemBegin = []byte("-----BEGIN ")

	tag0 = cbasn1.Tag(0).ContextSpecific().Constructed()
)

// Parse reads the certificates of an upload: PEM (any number of CERTIFICATE and
// PKCS7 blocks; others are passed over), DER (any number), or a DER PKCS#7 file
// as authorities send it (.p7b). The order is the upload's; duplicates are
// dropped. An upload without any certificate is an error. Errors wrap ErrBroken
// or ErrUnsupported.
func Parse(data []byte) ([]*x509.Certificate, error) {
	if len(data) > maxUpload {
		return nil, fmt.Errorf("%w: it has more than %d octets", ErrBroken, maxUpload)
	}
	u := upload{seen: make(map[string]bool)}
	if !bytes.Contains(data, pemBegin) {
		if err := u.addDER(data); err != nil {
			return nil, err
		}
		return u.certificates, nil
	}
	for number, rest := 1, data; ; number++ {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		switch block.Type {
		case "CERTIFICATE", "X509 CERTIFICATE", "PKCS7", "CMS":
			if err := u.addDER(block.Bytes); err != nil {
				return nil, fmt.Errorf("PEM block %d: %w", number, err)
			}
		}
	}
	if len(u.certificates) == 0 {
		return nil, fmt.Errorf("%w: there is no whole CERTIFICATE block in it", ErrBroken)
	}
	return u.certificates, nil
}

type upload struct {
	certificates []*x509.Certificate
	seen         map[string]bool // by DER
}

// addDER takes certificates one after another, or one PKCS#7 ContentInfo.
func (u *upload) addDER(der []byte) error {
	if len(der) >= 2 && der[0] == byte(cbasn1.SEQUENCE) && der[1] == 0x80 {
		return fmt.Errorf("%w: it is BER of indefinite length; convert it with: openssl pkcs7 -inform DER -in FILE -print_certs -out FILE.pem", ErrUnsupported)
	}
	input := cryptobyte.String(der)
	var info cryptobyte.String
	if probe := input; !probe.ReadASN1(&info, cbasn1.SEQUENCE) {
		return fmt.Errorf("%w: it is neither PEM nor DER", ErrBroken)
	}
	if info.PeekASN1Tag(cbasn1.OBJECT_IDENTIFIER) {
		set, err := pkcs7Certificates(input)
		if err != nil {
			return err
		}
		input = set
	}
	for !input.Empty() {
		var element cryptobyte.String
		var tag cbasn1.Tag
		if !input.ReadAnyASN1Element(&element, &tag) {
			return fmt.Errorf("%w: certificate %d is cut off", ErrBroken, len(u.seen)+1)
		}
		if u.seen[string(element)] {
			continue
		}
		if len(u.seen) == maxCertificates {
			return fmt.Errorf("%w: it has more than %d certificates", ErrBroken, maxCertificates)
		}
		certificate, err := x509.ParseCertificate(element)
		if err != nil {
			return fmt.Errorf("%w: certificate %d: %w", ErrBroken, len(u.seen)+1, err)
		}
		if err := checkKeySize(certificate); err != nil {
			return err
		}
		u.seen[string(element)] = true
		u.certificates = append(u.certificates, certificate)
	}
	return nil
}

func checkKeySize(certificate *x509.Certificate) error {
	if key, ok := certificate.PublicKey.(*rsa.PublicKey); ok && key.N.BitLen() > maxRSABits {
		return fmt.Errorf("%w: the certificate of %q has an RSA key of %d bits; at most %d are supported", ErrUnsupported, certificate.Subject, key.N.BitLen(), maxRSABits)
	}
	return nil
}

// pkcs7Certificates returns the elements of the certificates field of a
// SignedData (RFC 2315 section 9.1).
func pkcs7Certificates(der cryptobyte.String) (cryptobyte.String, error) {
	var info, explicit, sd, set cryptobyte.String
	var oid asn1.ObjectIdentifier
	if !der.ReadASN1(&info, cbasn1.SEQUENCE) || !der.Empty() || !info.ReadASN1ObjectIdentifier(&oid) {
		return nil, fmt.Errorf("%w: the PKCS#7 ContentInfo is malformed", ErrBroken)
	}
	if !oid.Equal(oidSignedData) {
		return nil, fmt.Errorf("%w: the PKCS#7 content is of type %v, not SignedData with certificates", ErrUnsupported, oid)
	}
	var present bool
	if !info.ReadASN1(&explicit, tag0) || !explicit.ReadASN1(&sd, cbasn1.SEQUENCE) ||
		!sd.SkipASN1(cbasn1.INTEGER) || !sd.SkipASN1(cbasn1.SET) || !sd.SkipASN1(cbasn1.SEQUENCE) ||
		!sd.ReadOptionalASN1(&set, &present, tag0) {
		return nil, fmt.Errorf("%w: the PKCS#7 SignedData is malformed", ErrBroken)
	}
	if set.Empty() {
		return nil, fmt.Errorf("%w: the PKCS#7 file holds no certificate", ErrBroken)
	}
	return set, nil
}
