package timestamp

import (
	"crypto"
	"encoding/asn1"
	"errors"
	"fmt"
	"math/big"
	"strings"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"

	"github.com/countersign-dev/countersign/artifact/cms"
)

var (
	tag0 = cbasn1.Tag(0).ContextSpecific()
	tag1 = cbasn1.Tag(1).ContextSpecific()
)

// maxInteger bounds serial numbers and nonces, in octets. Authorities use 20 at
// most (RFC 3161 section 2.4.2).
const maxInteger = 64

// request is a TimeStampReq (RFC 3161 section 2.4.1).
type request struct {
	hash         crypto.Hash // zero when the function is not known
	digest       []byte
	policy       asn1.ObjectIdentifier // nil when any will do
	nonce        *big.Int              // nil when there is none
	certificates bool
	extensions   bool // has extensions; none is known here
}

func (r *request) marshal() ([]byte, error) {
	var b cryptobyte.Builder
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1Int64(1)
		addImprint(b, r.hash, r.digest)
		if r.policy != nil {
			b.AddASN1ObjectIdentifier(r.policy)
		}
		if r.nonce != nil {
			b.AddASN1BigInt(r.nonce)
		}
		if r.certificates {
			b.AddASN1Boolean(true)
		}
	})
	return b.Bytes()
}

func parseRequest(der []byte) (*request, error) {
	input := cryptobyte.String(der)
	var body cryptobyte.String
	if !input.ReadASN1(&body, cbasn1.SEQUENCE) || !input.Empty() {
		return nil, malformed("request", "is not one SEQUENCE")
	}
	var version int
	if !body.ReadASN1Integer(&version) || version != 1 {
		return nil, malformed("request.version", "is not 1")
	}
	r := &request{}
	var err error
	if r.hash, r.digest, err = readImprint(&body, "request.messageImprint"); err != nil {
		return nil, err
	}
	if body.PeekASN1Tag(cbasn1.OBJECT_IDENTIFIER) && !body.ReadASN1ObjectIdentifier(&r.policy) {
		return nil, malformed("request.reqPolicy", "is not an object identifier")
	}
	if r.nonce, err = readOptionalInteger(&body, "request.nonce"); err != nil {
		return nil, err
	}
	if body.PeekASN1Tag(cbasn1.BOOLEAN) && !body.ReadASN1Boolean(&r.certificates) {
		return nil, malformed("request.certReq", "is not a BOOLEAN")
	}
	r.extensions = body.PeekASN1Tag(tag0.Constructed())
	if !body.SkipOptionalASN1(tag0.Constructed()) {
		return nil, malformed("request.extensions", "are cut off")
	}
	if !body.Empty() {
		return nil, malformed("request", "has fields after the extensions")
	}
	return r, nil
}

// Status is a PKIStatus (RFC 3161 section 2.4.2).
type Status int

// The states of a response. Others stand for no token, too.
const (
	Granted                Status = 0
	GrantedWithMods        Status = 1
	Rejection              Status = 2
	Waiting                Status = 3
	RevocationWarning      Status = 4
	RevocationNotification Status = 5
)

func (s Status) String() string {
	names := [...]string{"granted", "granted with modifications", "rejected", "waiting", "revocation is imminent", "revocation has occurred"}
	if s < 0 || int(s) >= len(names) {
		return fmt.Sprintf("status %d", int(s))
	}
	return names[s]
}

// Failure is a bit of PKIFailureInfo (RFC 3161 section 2.4.2).
type Failure int

// The reasons of a rejection.
const (
	FailureNone           Failure = -1 // the authority gave no reason
	BadAlgorithm          Failure = 0
	BadRequest            Failure = 2
	BadDataFormat         Failure = 5
	TimeNotAvailable      Failure = 14
	UnacceptedPolicy      Failure = 15
	UnacceptedExtension   Failure = 16
	AdditionalInfoMissing Failure = 17
	SystemFailure         Failure = 25
)

func (f Failure) String() string {
	switch f {
	case FailureNone:
		return "no reason given"
	case BadAlgorithm:
		return "algorithm not supported"
	case BadRequest:
		return "request not permitted or supported"
	case BadDataFormat:
		return "data has the wrong format"
	case TimeNotAvailable:
		return "the authority's time source is not available"
	case UnacceptedPolicy:
		return "policy not supported"
	case UnacceptedExtension:
		return "extension not supported"
	case AdditionalInfoMissing:
		return "additional information not available"
	case SystemFailure:
		return "failure of the authority's system"
	}
	return fmt.Sprintf("failure %d", int(f))
}

// RejectedError says that an authority answered and gave no token.
type RejectedError struct {
	Status  Status
	Failure Failure // FailureNone when the authority gave none
	Text    string  // the authority's own words; may be empty
}

func (e *RejectedError) Error() string {
	text := fmt.Sprintf("timestamp: the authority answered %q: %s", e.Status.String(), e.Failure)
	if e.Text != "" {
		text += fmt.Sprintf(" (%q)", e.Text)
	}
	return text
}

// marshalGranted wraps a token in a TimeStampResp.
func marshalGranted(token []byte) ([]byte, error) {
	var b cryptobyte.Builder
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) { b.AddASN1Int64(int64(Granted)) })
		b.AddBytes(token)
	})
	return b.Bytes()
}

// marshalRejected makes the TimeStampResp of a refusal.
func marshalRejected(e *RejectedError) ([]byte, error) {
	var b cryptobyte.Builder
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddASN1Int64(int64(e.Status))
			if e.Text != "" {
				b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
					b.AddASN1(cbasn1.UTF8String, func(b *cryptobyte.Builder) { b.AddBytes([]byte(e.Text)) })
				})
			}
			if e.Failure >= 0 {
				// A named bit list ends with its last one bit (X.690 section 11.2.2).
				bits := make([]byte, e.Failure/8+1)
				bits[e.Failure/8] = 0x80 >> (e.Failure % 8)
				b.AddASN1(cbasn1.BIT_STRING, func(b *cryptobyte.Builder) {
					b.AddUint8(uint8(7 - e.Failure%8))
					b.AddBytes(bits)
				})
			}
		})
	})
	return b.Bytes()
}

// parseResponse returns the DER token of a TimeStampResp, or a *RejectedError.
func parseResponse(der []byte) (token []byte, err error) {
	input := cryptobyte.String(der)
	var body, info cryptobyte.String
	if !input.ReadASN1(&body, cbasn1.SEQUENCE) || !input.Empty() {
		return nil, malformed("response", "is not one SEQUENCE")
	}
	if !body.ReadASN1(&info, cbasn1.SEQUENCE) {
		return nil, malformed("response.status", "is missing")
	}
	rejected := &RejectedError{Failure: FailureNone}
	var status int
	if !info.ReadASN1Integer(&status) {
		return nil, malformed("response.status.status", "is not an INTEGER")
	}
	rejected.Status = Status(status)
	if info.PeekASN1Tag(cbasn1.SEQUENCE) {
		if rejected.Text, err = readFreeText(&info); err != nil {
			return nil, err
		}
	}
	if info.PeekASN1Tag(cbasn1.BIT_STRING) {
		if rejected.Failure, err = readFailureInfo(&info); err != nil {
			return nil, err
		}
	}
	if rejected.Status != Granted && rejected.Status != GrantedWithMods {
		return nil, rejected
	}
	var element cryptobyte.String
	if !body.ReadASN1Element(&element, cbasn1.SEQUENCE) {
		return nil, malformed("response.timeStampToken", "is missing though the request was granted")
	}
	if !body.Empty() {
		return nil, malformed("response", "has fields after the token")
	}
	return element, nil
}

// readFreeText reads a PKIFreeText, cut to a length that fits a message.
func readFreeText(s *cryptobyte.String) (string, error) {
	const longest = 500
	var texts, text cryptobyte.String
	if !s.ReadASN1(&texts, cbasn1.SEQUENCE) {
		return "", malformed("response.status.statusString", "is cut off")
	}
	var b strings.Builder
	for !texts.Empty() {
		if !texts.ReadASN1(&text, cbasn1.UTF8String) {
			return "", malformed("response.status.statusString", "is not a list of UTF8String")
		}
		if b.Len() > 0 {
			b.WriteByte(' ')
		}
		b.Write(text[:min(len(text), longest)])
		if b.Len() >= longest {
			break
		}
	}
	return strings.ToValidUTF8(b.String(), "\uFFFD"), nil
}

// readFailureInfo returns the first bit that is set.
func readFailureInfo(s *cryptobyte.String) (Failure, error) {
	var bits asn1.BitString
	if !s.ReadASN1BitString(&bits) {
		return 0, malformed("response.status.failInfo", "is not a BIT STRING")
	}
	for f := Failure(0); f <= SystemFailure; f++ {
		if bits.At(int(f)) == 1 {
			return f, nil
		}
	}
	return FailureNone, nil
}

// addImprint writes a MessageImprint.
func addImprint(b *cryptobyte.Builder, hash crypto.Hash, digest []byte) {
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		cms.AddHashAlgorithm(b, hash, true)
		b.AddASN1OctetString(digest)
	})
}

// readImprint reads a MessageImprint. An unknown function gives hash zero.
func readImprint(s *cryptobyte.String, field string) (crypto.Hash, []byte, error) {
	var imprint cryptobyte.String
	if !s.ReadASN1(&imprint, cbasn1.SEQUENCE) {
		return 0, nil, malformed(field, "is missing")
	}
	hash, err := cms.ParseHashAlgorithm(&imprint)
	if err != nil && !errors.Is(err, cms.ErrUnsupported) {
		return 0, nil, malformed(field+".hashAlgorithm", "is not an AlgorithmIdentifier")
	}
	var digest cryptobyte.String
	if !imprint.ReadASN1(&digest, cbasn1.OCTET_STRING) || !imprint.Empty() {
		return 0, nil, malformed(field+".hashedMessage", "is not one OCTET STRING")
	}
	return hash, digest, nil
}

// readOptionalInteger returns nil when the next field is no INTEGER.
func readOptionalInteger(s *cryptobyte.String, field string) (*big.Int, error) {
	if !s.PeekASN1Tag(cbasn1.INTEGER) {
		return nil, nil
	}
	return readInteger(s, field)
}

func readInteger(s *cryptobyte.String, field string) (*big.Int, error) {
	var element cryptobyte.String
	n := new(big.Int)
	if !s.ReadASN1Element(&element, cbasn1.INTEGER) || len(element) > maxInteger+2 || !element.ReadASN1Integer(n) {
		return nil, malformed(field, "is not an INTEGER of at most %d octets", maxInteger)
	}
	return n, nil
}
