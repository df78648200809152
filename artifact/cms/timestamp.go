package cms

import (
	"bytes"
	"crypto"
	"crypto/subtle"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"math/big"
	"time"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// Token is a parsed TimeStampToken (RFC 3161 section 2.4.2).
type Token struct {
	Raw      []byte // DER of the ContentInfo
	Time     time.Time
	Accuracy time.Duration // zero when the authority states none
	Policy   asn1.ObjectIdentifier
	Serial   *big.Int
	Nonce    *big.Int    // nil without
	Hash     crypto.Hash // of Imprint
	Imprint  []byte      // digest of what was stamped

	SignedData *SignedData
}

// maxInteger bounds serial numbers and nonces of time stamps, in octets.
// Authorities use 20 at most.
const maxInteger = 64

// ParseToken reads a TimeStampToken. Its signature is not yet looked at.
func ParseToken(der []byte) (*Token, error) {
	sd, err := Parse(der)
	if err != nil {
		return nil, err
	}
	if !sd.ContentType.Equal(OIDTSTInfo) || sd.Detached {
		return nil, &ParseError{Field: "signedData.encapContentInfo", Reason: fmt.Sprintf("is %v, not an attached TSTInfo", sd.ContentType)}
	}
	if len(sd.Signers) != 1 {
		return nil, &ParseError{Field: "signedData.signerInfos", Reason: fmt.Sprintf("has %d signers; a time-stamp token has one", len(sd.Signers))}
	}
	t := &Token{Raw: sd.Raw, SignedData: sd}
	if err := t.parseInfo(sd.Content); err != nil {
		return nil, err
	}
	return t, nil
}

func (t *Token) parseInfo(s cryptobyte.String) error {
	fail := func(field, reason string) error { return &ParseError{Field: "tstInfo" + field, Reason: reason} }
	var body, imprint cryptobyte.String
	var version int
	if !s.ReadASN1(&body, cbasn1.SEQUENCE) || !s.Empty() {
		return fail("", "is not a SEQUENCE")
	}
	if !body.ReadASN1Integer(&version) || version != 1 {
		return fail(".version", "is not 1")
	}
	if !body.ReadASN1ObjectIdentifier(&t.Policy) {
		return fail(".policy", "is not an OBJECT IDENTIFIER")
	}
	if !body.ReadASN1(&imprint, cbasn1.SEQUENCE) {
		return fail(".messageImprint", "is not a SEQUENCE")
	}
	var err error
	if t.Hash, err = ParseHashAlgorithm(&imprint); err != nil {
		return fmt.Errorf("cms: tstInfo.messageImprint.hashAlgorithm: %w", err)
	}
	if !imprint.ReadASN1Bytes(&t.Imprint, cbasn1.OCTET_STRING) || !imprint.Empty() || len(t.Imprint) != t.Hash.Size() {
		return fail(".messageImprint.hashedMessage", fmt.Sprintf("is not a %v digest", t.Hash))
	}
	if t.Serial = readInteger(&body); t.Serial == nil {
		return fail(".serialNumber", fmt.Sprintf("is not an INTEGER of at most %d octets", maxInteger))
	}
	var genTime cryptobyte.String
	if !body.ReadASN1(&genTime, cbasn1.GeneralizedTime) || len(genTime) > 30 {
		return fail(".genTime", "is not a GeneralizedTime")
	}
	// The layout has no fraction, yet time.Parse takes one, as RFC 3161 section 2.4.2 allows.
	if t.Time, err = time.Parse("20060102150405Z", string(genTime)); err != nil {
		return fail(".genTime", fmt.Sprintf("%q is not a time in UTC", genTime))
	}
	if body.PeekASN1Tag(cbasn1.SEQUENCE) {
		var ok bool
		if t.Accuracy, ok = readAccuracy(&body); !ok {
			return fail(".accuracy", "is not a sensible number of seconds, milliseconds and microseconds")
		}
	}
	if !body.SkipOptionalASN1(cbasn1.BOOLEAN) {
		return fail(".ordering", "is malformed")
	}
	if body.PeekASN1Tag(cbasn1.INTEGER) {
		if t.Nonce = readInteger(&body); t.Nonce == nil {
			return fail(".nonce", fmt.Sprintf("is not an INTEGER of at most %d octets", maxInteger))
		}
	}
	if !body.SkipOptionalASN1(explicit(0)) || !body.SkipOptionalASN1(explicit(1)) || !body.Empty() {
		return fail("", "ends in something else than tsa and extensions")
	}
	return nil
}

// readInteger returns nil for what is no INTEGER, or too large a one.
func readInteger(s *cryptobyte.String) *big.Int {
	var element cryptobyte.String
	n := new(big.Int)
	if !s.ReadASN1Element(&element, cbasn1.INTEGER) || len(element) > maxInteger+2 || !element.ReadASN1Integer(n) {
		return nil
	}
	return n
}

func readAccuracy(s *cryptobyte.String) (time.Duration, bool) {
	var body cryptobyte.String
	if !s.ReadASN1(&body, cbasn1.SEQUENCE) {
		return 0, false
	}
	tag0, tag1 := cbasn1.Tag(0).ContextSpecific(), cbasn1.Tag(1).ContextSpecific()
	var seconds, milliseconds, microseconds int64
	ok := true
	if body.PeekASN1Tag(cbasn1.INTEGER) {
		ok = body.ReadASN1Integer(&seconds)
	}
	if body.PeekASN1Tag(tag0) {
		ok = ok && body.ReadASN1Int64WithTag(&milliseconds, tag0)
	}
	if body.PeekASN1Tag(tag1) {
		ok = ok && body.ReadASN1Int64WithTag(&microseconds, tag1)
	}
	const week = 7 * 24 * 60 * 60
	ok = ok && body.Empty() && seconds >= 0 && seconds <= week &&
		milliseconds >= 0 && milliseconds <= 999 && microseconds >= 0 && microseconds <= 999
	return time.Duration(seconds)*time.Second + time.Duration(milliseconds)*time.Millisecond + time.Duration(microseconds)*time.Microsecond, ok
}

// Check verifies that the token stamps the given octets (of a signature value,
// say), and what Authority verifies. It returns the authority's certificate,
// beside an error too when it is known. Whether it is trusted is for Chain to
// say, at Token.Time.
func (t *Token) Check(stamped []byte) (*x509.Certificate, error) {
	certificate, err := t.Authority()
	if err == nil && subtle.ConstantTimeCompare(sum(t.Hash, stamped), t.Imprint) != 1 {
		err = fmt.Errorf("%w: the time stamp is for other data", ErrDigestMismatch)
	}
	return certificate, err
}

// Authority verifies that the token's signature is right, and that the
// certificate it names by its ESSCertID (RFC 5816) is the one that signed and is
// for time stamping only (RFC 3161 section 2.3). It returns that certificate,
// beside an error too when it is known.
func (t *Token) Authority() (*x509.Certificate, error) {
	signer := t.SignedData.Signers[0]
	certificate, err := t.SignedData.CheckSignature(signer, nil)
	if err != nil {
		return certificate, err
	}
	if err := checkSigningCertificate(signer, certificate); err != nil {
		return certificate, err
	}
	return certificate, checkTimestampUsage(certificate)
}

// checkSigningCertificate compares the first ESSCertID or ESSCertIDv2 (RFC 5035
// sections 4 and 5) with a certificate.
func checkSigningCertificate(si *SignerInfo, certificate *x509.Certificate) error {
	var attribute, ids, id cryptobyte.String
	hash := crypto.SHA256
	value, v2 := si.SignedAttributes.single(OIDAttributeSigningCertificateV2)
	if !v2 {
		var v1 bool
		if value, v1 = si.SignedAttributes.single(OIDAttributeSigningCertificate); !v1 {
			return fmt.Errorf("%w: no signing certificate attribute", ErrBadSignature)
		}
		hash = crypto.SHA1
	}
	malformed := fmt.Errorf("%w: malformed signing certificate attribute", ErrBadSignature)
	if !value.ReadASN1(&attribute, cbasn1.SEQUENCE) || !attribute.ReadASN1(&ids, cbasn1.SEQUENCE) || !ids.ReadASN1(&id, cbasn1.SEQUENCE) {
		return malformed
	}
	if v2 && id.PeekASN1Tag(cbasn1.SEQUENCE) {
		var err error
		if hash, err = ParseHashAlgorithm(&id); err != nil {
			return err
		}
	}
	var digest []byte
	if !id.ReadASN1Bytes(&digest, cbasn1.OCTET_STRING) {
		return malformed
	}
	if !bytes.Equal(digest, sum(hash, certificate.Raw)) {
		return fmt.Errorf("%w: the signing certificate attribute names another certificate", ErrBadSignature)
	}
	return nil
}

func checkTimestampUsage(certificate *x509.Certificate) error {
	usage := certificate.ExtKeyUsage
	if len(usage) != 1 || usage[0] != x509.ExtKeyUsageTimeStamping || len(certificate.UnknownExtKeyUsage) != 0 {
		return &ChainError{Problem: ChainWrongUsage, Certificate: certificate,
			Err: fmt.Errorf("certificate %q is not for time stamping alone", certificate.Subject)}
	}
	return nil
}

// TimestampKind tells how a time stamp is made.
type TimestampKind string

// The kinds of time stamps.
const (
	TimestampRFC3161 TimestampKind = "rfc3161" // a TimeStampToken
	TimestampPKCS9   TimestampKind = "pkcs9"   // a countersignature with a signing time, as Authenticode had it before
)

// Timestamp is a time stamp found on a signature.
type Timestamp struct {
	Kind          TimestampKind
	Time          time.Time
	Hash          crypto.Hash       // of the imprint, or of the countersignature
	Authority     *x509.Certificate // nil when not known
	Intermediates []*x509.Certificate
}

// ErrNoTimestamp says that a signature has no time stamp.
var ErrNoTimestamp = errors.New("cms: the signature has no time stamp")

// Timestamp finds the time stamp of a signer and checks that it is right: that
// it covers this signature, is itself signed and by a certificate for time
// stamping. Of several, the first that is right counts. Whether the authority is
// trusted is for Chain to say, at Timestamp.Time.
//
// Without any it returns ErrNoTimestamp. When all are wrong it returns what is
// known of the first one beside the error.
func (sd *SignedData) Timestamp(si *SignerInfo) (*Timestamp, error) {
	var first *Timestamp
	firstErr := ErrNoTimestamp
	for _, a := range si.UnsignedAttributes {
		var read func([]byte) (*Timestamp, error)
		switch {
		case a.Type.Equal(OIDAttributeMicrosoftTimestamp), a.Type.Equal(OIDAttributeTimestampToken):
			read = func(value []byte) (*Timestamp, error) { return readToken(value, si) }
		case a.Type.Equal(OIDAttributeCountersignature):
			read = func(value []byte) (*Timestamp, error) { return sd.readCountersignature(value, si) }
		default:
			continue
		}
		for _, value := range a.Values {
			t, err := read(value)
			if err == nil {
				return t, nil
			}
			if errors.Is(firstErr, ErrNoTimestamp) {
				first, firstErr = t, err
			}
		}
	}
	return first, firstErr
}

func readToken(value []byte, stamped *SignerInfo) (*Timestamp, error) {
	token, err := ParseToken(value)
	if err != nil {
		return nil, err
	}
	t := &Timestamp{Kind: TimestampRFC3161, Time: token.Time, Hash: token.Hash, Intermediates: token.SignedData.Certificates}
	t.Authority, err = token.Check(stamped.Signature)
	return t, err
}

// readCountersignature checks a PKCS#9 countersignature: a SignerInfo whose
// content is the signature value (RFC 5652 section 11.4).
func (sd *SignedData) readCountersignature(value []byte, stamped *SignerInfo) (*Timestamp, error) {
	si, err := parseSignerInfo(value, "countersignature")
	if err != nil {
		return nil, err
	}
	t := &Timestamp{Kind: TimestampPKCS9, Hash: si.Hash, Intermediates: sd.Certificates}
	var dated bool
	if t.Time, dated = si.SigningTime(); !dated {
		return t, fmt.Errorf("%w: the countersignature has no signing time", ErrBadSignature)
	}
	if t.Authority, err = sd.SignerCertificate(si); err != nil {
		return t, err
	}
	if si.Hash == 0 {
		return t, fmt.Errorf("%w: hash function %v", ErrUnsupported, si.hashOID)
	}
	if err := si.check(t.Authority, nil, sum(si.Hash, stamped.Signature), stamped.Signature); err != nil {
		return t, err
	}
	// Authorities of that age have certificates with several usages.
	for _, usage := range t.Authority.ExtKeyUsage {
		if usage == x509.ExtKeyUsageTimeStamping || usage == x509.ExtKeyUsageAny {
			return t, nil
		}
	}
	return t, &ChainError{Problem: ChainWrongUsage, Certificate: t.Authority,
		Err: fmt.Errorf("certificate %q is not for time stamping", t.Authority.Subject)}
}
