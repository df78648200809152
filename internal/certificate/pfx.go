package certificate

import (
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
	"software.sslmate.com/src/go-pkcs12"
)

// PFX is the content of a PKCS#12 file.
type PFX struct {
	Key   crypto.Signer       // *rsa.PrivateKey, *ecdsa.PrivateKey or ed25519.PrivateKey
	Chain []*x509.Certificate // leaf first, ordered as by Chain
}

// decodeTimeout bounds the wait for key derivations that checkWork cannot see
// because they are described inside an encrypted part, where neither OpenSSL nor
// Windows describes any. The decoder cannot be stopped: it goes on in the
// background, and only the caller is spared.
const decodeTimeout = 20 * time.Second

// ParsePFX reads a PKCS#12 file (RFC 7292) with one private key and its
// certificates, as OpenSSL and Windows make them. Errors wrap ErrWrongPassword,
// ErrBroken or ErrUnsupported.
func ParsePFX(data []byte, password string) (*PFX, error) {
	if len(data) > maxUpload {
		return nil, fmt.Errorf("%w: it has more than %d octets", ErrBroken, maxUpload)
	}
	for _, r := range password {
		if r > 0xffff {
			return nil, fmt.Errorf("%w: the password has a character (%c) that PKCS#12 cannot express; export the file with another password", ErrUnsupported, r)
		}
	}
	if err := checkWork(data); err != nil {
		return nil, err
	}
	type decoded struct {
		key   any
		certs []*x509.Certificate
		err   error
	}
	done := make(chan decoded, 1)
	go func() {
		key, leaf, others, err := pkcs12.DecodeChain(data, password)
		done <- decoded{key, append([]*x509.Certificate{leaf}, others...), err}
	}()
	var d decoded
	timer := time.NewTimer(decodeTimeout)
	defer timer.Stop()
	select {
	case d = <-done:
	case <-timer.C:
		return nil, fmt.Errorf("%w: its key derivation takes longer than %v", ErrUnsupported, decodeTimeout)
	}
	if d.err != nil {
		return nil, explainPFX(d.err)
	}
	key, err := signingKey(d.key)
	if err != nil {
		return nil, err
	}
	if len(d.certs) > maxCertificates {
		return nil, fmt.Errorf("%w: it has more than %d certificates", ErrBroken, maxCertificates)
	}
	for _, c := range d.certs {
		if err := checkKeySize(c); err != nil {
			return nil, err
		}
	}
	chain, err := Chain(key.Public(), d.certs, nil)
	if err != nil {
		return nil, fmt.Errorf("%w: none of its certificates is for its private key", ErrBroken)
	}
	return &PFX{Key: key, Chain: chain}, nil
}

func explainPFX(err error) error {
	var unsupported pkcs12.NotImplementedError
	switch {
	case errors.Is(err, pkcs12.ErrIncorrectPassword):
		return fmt.Errorf("%w, or the file was changed after it was made", ErrWrongPassword)
	case errors.As(err, &unsupported):
		return fmt.Errorf("%w: %w; convert it with: openssl pkcs12 -in FILE -nodes | openssl pkcs12 -export -out FILE.new", ErrUnsupported, err)
	}
	return fmt.Errorf("%w: %w", ErrBroken, err)
}

// checkWork walks the outer structure of a PFX (RFC 7292 section 4) and refuses
// iteration counts that would keep a processor busy for long. It also tells BER
// and other kinds of files apart from damaged ones.
func checkWork(data []byte) error {
	if len(data) >= 2 && data[0] == byte(cbasn1.SEQUENCE) && data[1] == 0x80 {
		return fmt.Errorf("%w: it is BER of indefinite length; convert it with: openssl pkcs12 -in FILE -nodes | openssl pkcs12 -export -out FILE.new", ErrUnsupported)
	}
	input := cryptobyte.String(data)
	var pfx, info, explicit, octets, safe cryptobyte.String
	var version int
	if !input.ReadASN1(&pfx, cbasn1.SEQUENCE) || !input.Empty() || !pfx.ReadASN1Integer(&version) || !pfx.ReadASN1(&info, cbasn1.SEQUENCE) {
		return fmt.Errorf("%w: it is not a PKCS#12 file (.pfx, .p12)", ErrBroken)
	}
	if !workFits(pfx, 0) { // MacData
		return errWork
	}
	if !info.SkipASN1(cbasn1.OBJECT_IDENTIFIER) || !info.ReadASN1(&explicit, tag0) || !explicit.ReadASN1(&octets, cbasn1.OCTET_STRING) || !octets.ReadASN1(&safe, cbasn1.SEQUENCE) {
		return nil // public-key integrity mode, or damaged: the decoder says which
	}
	for !safe.Empty() {
		var content, part cryptobyte.String
		if !safe.ReadASN1(&content, cbasn1.SEQUENCE) || !content.SkipASN1(cbasn1.OBJECT_IDENTIFIER) {
			return fmt.Errorf("%w: the AuthenticatedSafe is malformed", ErrBroken)
		}
		if !content.ReadASN1(&part, tag0) {
			continue
		}
		var bags cryptobyte.String
		if part.PeekASN1Tag(cbasn1.OCTET_STRING) && part.ReadASN1(&bags, cbasn1.OCTET_STRING) {
			part = bags // SafeContents that are not encrypted, with shrouded keys
		}
		if !workFits(part, 0) {
			return errWork
		}
	}
	return nil
}

var errWork = fmt.Errorf("%w: its key derivation has more than %d iterations", ErrUnsupported, maxIterations)

// workFits reports whether every INTEGER below an element is at most
// maxIterations: versions, key lengths and iteration counts are all there are.
// Keys and certificates are inside of OCTET STRINGs, which it does not enter.
func workFits(s cryptobyte.String, depth int) bool {
	for depth < 16 && !s.Empty() {
		var element cryptobyte.String
		var tag cbasn1.Tag
		if !s.ReadAnyASN1(&element, &tag) {
			return true // malformed: for the decoder to refuse
		}
		switch {
		case tag == cbasn1.INTEGER:
			n := 0
			for _, octet := range element {
				if n = n<<8 | int(octet); n > maxIterations {
					return false
				}
			}
		case tag&0x20 != 0: // constructed
			if !workFits(element, depth+1) {
				return false
			}
		}
	}
	return s.Empty()
}
