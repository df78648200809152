package timestamp

import (
	"bytes"
	"crypto"
	"crypto/rsa"
	"crypto/x509"
	"encoding/asn1"
	"math/big"
	"time"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

const (
	maxCertificates = 32   // embedded in a token
	maxAttributes   = 64   // signed, of a token
	maxRSABits      = 8192 // of a key: checking signatures of larger ones takes too long
)

// signedToken is a parsed TimeStampToken (RFC 3161 section 2.4.2).
type signedToken struct {
	Hash     crypto.Hash // function of the message imprint
	Digest   []byte      // message imprint
	Time     time.Time
	Accuracy time.Duration // zero when the authority states none
	Serial   *big.Int
	Policy   asn1.ObjectIdentifier
	Nonce    *big.Int // nil when there is none

	// Certificates are those embedded, in the token's order. There is none when
	// the request did not ask for any.
	Certificates []*x509.Certificate

	content []byte // TSTInfo, which messageDigest covers
	signer  signerInfo
}

// signerInfo is the one SignerInfo of a token (RFC 5652 section 5.3).
type signerInfo struct {
	issuer       []byte   // DER Name; nil when the signer is named by key identifier
	serial       *big.Int // with issuer
	subjectKeyID []byte
	hash         crypto.Hash
	signed       []byte // signed attributes, with the tag of SET OF: what the signature covers
	algorithm    x509.SignatureAlgorithm
	signature    []byte

	// Of the signed attributes.
	contentType   asn1.ObjectIdentifier
	messageDigest []byte
	certHash      crypto.Hash // of the first ESSCertID or ESSCertIDv2
	certDigest    []byte
}

// parseToken reads a DER TimeStampToken. It checks its form; see verify for its
// signature.
func parseToken(der []byte) (*signedToken, error) {
	input := cryptobyte.String(der)
	var info, explicit, sd cryptobyte.String
	var oid asn1.ObjectIdentifier
	if !input.ReadASN1(&info, cbasn1.SEQUENCE) || !input.Empty() {
		return nil, malformed("token", "is not one SEQUENCE")
	}
	if !info.ReadASN1ObjectIdentifier(&oid) || !oid.Equal(oidSignedData) {
		return nil, malformed("token.contentType", "is not id-signedData")
	}
	if !info.ReadASN1(&explicit, tag0.Constructed()) || !info.Empty() || !explicit.ReadASN1(&sd, cbasn1.SEQUENCE) || !explicit.Empty() {
		return nil, malformed("token.content", "is not one SignedData")
	}
	var version int
	if !sd.ReadASN1Integer(&version) || !sd.SkipASN1(cbasn1.SET) {
		return nil, malformed("token.signedData", "lacks version and digestAlgorithms")
	}
	t := &signedToken{}
	var encap, octets cryptobyte.String
	if !sd.ReadASN1(&encap, cbasn1.SEQUENCE) || !encap.ReadASN1ObjectIdentifier(&oid) || !oid.Equal(oidTSTInfo) {
		return nil, malformed("token.encapContentInfo.eContentType", "is not id-ct-TSTInfo")
	}
	if !encap.ReadASN1(&explicit, tag0.Constructed()) || !encap.Empty() || !explicit.ReadASN1(&octets, cbasn1.OCTET_STRING) || !explicit.Empty() {
		return nil, malformed("token.encapContentInfo.eContent", "is not one OCTET STRING")
	}
	t.content = octets
	if err := t.parseInfo(octets); err != nil {
		return nil, err
	}

	var certificates cryptobyte.String
	var present bool
	if !sd.ReadOptionalASN1(&certificates, &present, tag0.Constructed()) || !sd.SkipOptionalASN1(tag1.Constructed()) {
		return nil, malformed("token.certificates", "or crls are cut off")
	}
	if err := t.parseCertificates(certificates); err != nil {
		return nil, err
	}
	var signers, signer cryptobyte.String
	if !sd.ReadASN1(&signers, cbasn1.SET) || !sd.Empty() || !signers.ReadASN1(&signer, cbasn1.SEQUENCE) || !signers.Empty() {
		return nil, malformed("token.signerInfos", "are not exactly one")
	}
	if err := t.signer.parse(signer); err != nil {
		return nil, err
	}
	return t, nil
}

// parseInfo reads the TSTInfo.
func (t *signedToken) parseInfo(der cryptobyte.String) (err error) {
	var body cryptobyte.String
	if !der.ReadASN1(&body, cbasn1.SEQUENCE) || !der.Empty() {
		return malformed("tstInfo", "is not one SEQUENCE")
	}
	var version int
	if !body.ReadASN1Integer(&version) || version != 1 {
		return malformed("tstInfo.version", "is not 1")
	}
	if !body.ReadASN1ObjectIdentifier(&t.Policy) {
		return malformed("tstInfo.policy", "is not an object identifier")
	}
	if t.Hash, t.Digest, err = readImprint(&body, "tstInfo.messageImprint"); err != nil {
		return err
	}
	if t.Hash == 0 || len(t.Digest) != t.Hash.Size() {
		return malformed("tstInfo.messageImprint", "is not a SHA-1, SHA-256, SHA-384 or SHA-512 digest")
	}
	if t.Serial, err = readInteger(&body, "tstInfo.serialNumber"); err != nil {
		return err
	}
	var moment cryptobyte.String
	if !body.ReadASN1(&moment, cbasn1.GeneralizedTime) || len(moment) > 30 {
		return malformed("tstInfo.genTime", "is not a GeneralizedTime")
	}
	// The layout has no fraction, yet time.Parse takes one, as section 2.4.2 allows.
	if t.Time, err = time.Parse("20060102150405Z", string(moment)); err != nil {
		return malformed("tstInfo.genTime", "%q is not a time in UTC", string(moment))
	}
	if body.PeekASN1Tag(cbasn1.SEQUENCE) {
		if t.Accuracy, err = readAccuracy(&body); err != nil {
			return err
		}
	}
	if body.PeekASN1Tag(cbasn1.BOOLEAN) {
		var ordering bool
		if !body.ReadASN1Boolean(&ordering) {
			return malformed("tstInfo.ordering", "is not a BOOLEAN")
		}
	}
	if t.Nonce, err = readOptionalInteger(&body, "tstInfo.nonce"); err != nil {
		return err
	}
	if !body.SkipOptionalASN1(tag0.Constructed()) || !body.SkipOptionalASN1(tag1.Constructed()) || !body.Empty() {
		return malformed("tstInfo", "ends in something else than tsa and extensions")
	}
	return nil
}

func readAccuracy(s *cryptobyte.String) (time.Duration, error) {
	var body cryptobyte.String
	if !s.ReadASN1(&body, cbasn1.SEQUENCE) {
		return 0, malformed("tstInfo.accuracy", "is cut off")
	}
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
	if !ok || !body.Empty() || seconds < 0 || seconds > week || milliseconds < 0 || milliseconds > 999 || microseconds < 0 || microseconds > 999 {
		return 0, malformed("tstInfo.accuracy", "is not a sensible number of seconds, milliseconds and microseconds")
	}
	return time.Duration(seconds)*time.Second + time.Duration(milliseconds)*time.Millisecond + time.Duration(microseconds)*time.Microsecond, nil
}

// parseCertificates keeps the X.509 certificates of a CertificateSet. One that
// cannot be read, or has a key of absurd size, is passed over: it matters only
// when it is the signer's, and then verify does not find it.
func (t *signedToken) parseCertificates(set cryptobyte.String) error {
	for count := 0; !set.Empty(); count++ {
		var element cryptobyte.String
		var tag cbasn1.Tag
		if !set.ReadAnyASN1Element(&element, &tag) {
			return malformed("token.certificates", "are cut off")
		}
		if count == maxCertificates {
			return malformed("token.certificates", "are more than %d", maxCertificates)
		}
		if tag != cbasn1.SEQUENCE {
			continue
		}
		certificate, err := x509.ParseCertificate(element)
		if err != nil {
			continue
		}
		if key, ok := certificate.PublicKey.(*rsa.PublicKey); ok && key.N.BitLen() > maxRSABits {
			continue
		}
		t.Certificates = append(t.Certificates, certificate)
	}
	return nil
}

func (si *signerInfo) parse(body cryptobyte.String) (err error) {
	const field = "token.signerInfo"
	var version int
	if !body.ReadASN1Integer(&version) {
		return malformed(field+".version", "is not an INTEGER")
	}
	if body.PeekASN1Tag(tag0) {
		var id cryptobyte.String
		if !body.ReadASN1(&id, tag0) || len(id) == 0 {
			return malformed(field+".sid", "is not a key identifier")
		}
		si.subjectKeyID = id
	} else {
		var sid, issuer cryptobyte.String
		if !body.ReadASN1(&sid, cbasn1.SEQUENCE) || !sid.ReadASN1Element(&issuer, cbasn1.SEQUENCE) {
			return malformed(field+".sid", "is not an issuer and serial number")
		}
		si.issuer = issuer
		if si.serial, err = readInteger(&sid, field+".sid.serialNumber"); err != nil {
			return err
		}
	}
	oid, _, err := readAlgorithm(&body, field+".digestAlgorithm")
	if err != nil {
		return err
	}
	if si.hash = hashOf(oid); si.hash == 0 || si.hash == crypto.SHA1 {
		return malformed(field+".digestAlgorithm", "%v is not SHA-256, SHA-384 or SHA-512", oid)
	}
	var signed cryptobyte.String
	if !body.ReadASN1Element(&signed, tag0.Constructed()) {
		return malformed(field+".signedAttrs", "are missing")
	}
	// The signature covers the attributes with the tag of SET OF in place of
	// [0] (RFC 5652 section 5.4).
	si.signed = append([]byte{byte(cbasn1.SET)}, signed[1:]...)
	if err := si.parseAttributes(si.signed); err != nil {
		return err
	}
	oid, parameters, err := readAlgorithm(&body, field+".signatureAlgorithm")
	if err != nil {
		return err
	}
	if si.algorithm = signatureAlgorithm(oid, parameters, si.hash); si.algorithm == x509.UnknownSignatureAlgorithm {
		return malformed(field+".signatureAlgorithm", "%v with %v is not supported", oid, si.hash)
	}
	var signature cryptobyte.String
	if !body.ReadASN1(&signature, cbasn1.OCTET_STRING) || len(signature) == 0 {
		return malformed(field+".signature", "is not an OCTET STRING")
	}
	si.signature = signature
	if !body.SkipOptionalASN1(tag1.Constructed()) || !body.Empty() {
		return malformed(field, "ends in something else than unsigned attributes")
	}
	return nil
}

// parseAttributes reads the signed attributes that RFC 3161 section 2.4.2 and
// RFC 5816 section 2.2.1 require. Each may be there only once.
func (si *signerInfo) parseAttributes(der cryptobyte.String) error {
	const field = "token.signerInfo.signedAttrs"
	var set cryptobyte.String
	if !der.ReadASN1(&set, cbasn1.SET) {
		return malformed(field, "are not a SET")
	}
	for count := 0; !set.Empty(); count++ {
		var attribute, values cryptobyte.String
		var oid asn1.ObjectIdentifier
		if count == maxAttributes {
			return malformed(field, "are more than %d", maxAttributes)
		}
		if !set.ReadASN1(&attribute, cbasn1.SEQUENCE) || !attribute.ReadASN1ObjectIdentifier(&oid) || !attribute.ReadASN1(&values, cbasn1.SET) || !attribute.Empty() {
			return malformed(field, "has something else than an attribute")
		}
		switch {
		case oid.Equal(oidContentType):
			if si.contentType != nil || !values.ReadASN1ObjectIdentifier(&si.contentType) || !values.Empty() {
				return malformed(field+".contentType", "is not one object identifier")
			}
		case oid.Equal(oidMessageDigest):
			var digest cryptobyte.String
			if si.messageDigest != nil || !values.ReadASN1(&digest, cbasn1.OCTET_STRING) || !values.Empty() {
				return malformed(field+".messageDigest", "is not one OCTET STRING")
			}
			si.messageDigest = digest
		case oid.Equal(oidSigningCertificate), oid.Equal(oidSigningCertV2):
			// A token may have both; version 2 binds more strongly.
			if si.certDigest != nil && oid.Equal(oidSigningCertificate) {
				continue
			}
			if err := si.parseSigningCertificate(values, oid.Equal(oidSigningCertV2)); err != nil {
				return err
			}
		}
	}
	if si.contentType == nil || si.messageDigest == nil || si.certDigest == nil {
		return malformed(field, "lacks contentType, messageDigest or signingCertificate")
	}
	return nil
}

// parseSigningCertificate reads the first ESSCertID (RFC 2634 section 5.4) or
// ESSCertIDv2 (RFC 5035 section 4): it names the signer's certificate.
func (si *signerInfo) parseSigningCertificate(values cryptobyte.String, v2 bool) error {
	const field = "token.signerInfo.signedAttrs.signingCertificate"
	var attribute, ids, id, digest cryptobyte.String
	if !values.ReadASN1(&attribute, cbasn1.SEQUENCE) || !values.Empty() || !attribute.ReadASN1(&ids, cbasn1.SEQUENCE) || !ids.ReadASN1(&id, cbasn1.SEQUENCE) {
		return malformed(field, "has no certificate identifier")
	}
	hash := crypto.SHA1
	if v2 {
		hash = crypto.SHA256
		if id.PeekASN1Tag(cbasn1.SEQUENCE) {
			oid, _, err := readAlgorithm(&id, field+".hashAlgorithm")
			if err != nil {
				return err
			}
			if hash = hashOf(oid); hash == 0 {
				return malformed(field+".hashAlgorithm", "%v is not supported", oid)
			}
		}
	}
	if !id.ReadASN1(&digest, cbasn1.OCTET_STRING) || len(digest) != hash.Size() {
		return malformed(field+".certHash", "is not a %v digest", hash)
	}
	si.certHash, si.certDigest = hash, digest
	return nil
}

// verify checks the signature of the token, that its signing certificate is the
// one that the signed attributes name, was valid at the time stated, and is for
// time stamping alone (RFC 3161 section 2.3). It returns that certificate, whose
// trust is for the caller to judge. The certificate is looked for in the token
// and then in more.
func (t *signedToken) verify(more ...*x509.Certificate) (*x509.Certificate, error) {
	signer := t.findSigner(more)
	if signer == nil {
		return nil, malformed("token.certificates", "do not hold the certificate that signed")
	}
	h := t.signer.certHash.New()
	h.Write(signer.Raw)
	if !bytes.Equal(h.Sum(nil), t.signer.certDigest) {
		return nil, malformed("token.signerInfo.signedAttrs.signingCertificate", "names another certificate than the one that signed")
	}
	if !t.signer.contentType.Equal(oidTSTInfo) {
		return nil, malformed("token.signerInfo.signedAttrs.contentType", "is not id-ct-TSTInfo")
	}
	h = t.signer.hash.New()
	h.Write(t.content)
	if !bytes.Equal(h.Sum(nil), t.signer.messageDigest) {
		return nil, malformed("token.signerInfo.signedAttrs.messageDigest", "does not fit the content: the token was changed")
	}
	if err := signer.CheckSignature(t.signer.algorithm, t.signer.signed, t.signer.signature); err != nil {
		return nil, malformed("token.signerInfo.signature", "%v", err)
	}
	if err := checkAuthorityCertificate(signer); err != nil {
		return nil, err
	}
	if t.Time.Before(signer.NotBefore) || t.Time.After(signer.NotAfter) {
		return nil, malformed("tstInfo.genTime", "%v is outside the validity of the authority's certificate", t.Time)
	}
	return signer, nil
}

func (t *signedToken) findSigner(more []*x509.Certificate) *x509.Certificate {
	for _, list := range [][]*x509.Certificate{t.Certificates, more} {
		for _, certificate := range list {
			if t.signer.issuer != nil {
				if bytes.Equal(certificate.RawIssuer, t.signer.issuer) && certificate.SerialNumber.Cmp(t.signer.serial) == 0 {
					return certificate
				}
			} else if bytes.Equal(certificate.SubjectKeyId, t.signer.subjectKeyID) {
				return certificate
			}
		}
	}
	return nil
}

// checkAuthorityCertificate requires the extended key usage of RFC 3161 section
// 2.3: critical, and timeStamping only.
func checkAuthorityCertificate(certificate *x509.Certificate) error {
	const field = "certificate.extKeyUsage"
	for _, extension := range certificate.Extensions {
		if !extension.Id.Equal(oidExtKeyUsage) {
			continue
		}
		if !extension.Critical {
			return malformed(field, "of %q is not critical", certificate.Subject)
		}
		if len(certificate.ExtKeyUsage) != 1 || len(certificate.UnknownExtKeyUsage) != 0 || certificate.ExtKeyUsage[0] != x509.ExtKeyUsageTimeStamping {
			return malformed(field, "of %q is not timeStamping alone", certificate.Subject)
		}
		if certificate.KeyUsage&^(x509.KeyUsageDigitalSignature|x509.KeyUsageContentCommitment) != 0 {
			return malformed("certificate.keyUsage", "of %q is not for signatures alone", certificate.Subject)
		}
		return nil
	}
	return malformed(field, "of %q is missing: the certificate is not for time stamping", certificate.Subject)
}
