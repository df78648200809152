package timestamp

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"mime"
	"net/http"
	"slices"
	"time"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"

	"github.com/countersign-dev/countersign/artifact/cms"
)

// maxRequest bounds a TimeStampReq, in octets; usual ones have less than 100.
const maxRequest = 16 << 10

// AuthorityOptions say who an Authority is.
type AuthorityOptions struct {
	Key    crypto.Signer         // RSA or ECDSA
	Chain  []*x509.Certificate   // leaf first, with critical extended key usage timeStamping
	Policy asn1.ObjectIdentifier // TSA policy of every token; required

	Clock     func() time.Time // time.Now when nil
	Accuracy  time.Duration    // stated in every token, to the microsecond; one second when zero
	AllowSHA1 bool             // accept SHA-1 message imprints
	Logger    *slog.Logger     // told when signing fails; none when nil
}

// Authority is a time-stamp authority: in process by Timestamp, over HTTP as a
// handler. Serial numbers are random, of 128 bits.
type Authority struct {
	options      AuthorityOptions
	hash         crypto.Hash // digest of the signature
	signature    asn1.ObjectIdentifier
	null         bool
	certificates []byte // CertificateSet contents
	essCertID    []byte // SigningCertificateV2
}

// NewAuthority checks that the certificate fits the key and is for time stamping
// alone (RFC 3161 section 2.3), and returns the authority.
func NewAuthority(options AuthorityOptions) (*Authority, error) {
	if options.Key == nil || len(options.Chain) == 0 {
		return nil, errors.New("timestamp: an authority needs a key and its certificate")
	}
	if len(options.Policy) == 0 {
		return nil, errors.New("timestamp: an authority needs a policy identifier")
	}
	leaf := options.Chain[0]
	public, ok := options.Key.Public().(interface{ Equal(crypto.PublicKey) bool })
	if !ok || !public.Equal(leaf.PublicKey) {
		return nil, fmt.Errorf("timestamp: the certificate of %q is not for the authority's key", leaf.Subject)
	}
	if err := checkAuthorityCertificate(leaf); err != nil {
		return nil, err
	}
	if options.Clock == nil {
		options.Clock = time.Now
	}
	if options.Accuracy <= 0 {
		options.Accuracy = time.Second
	}
	if options.Logger == nil {
		options.Logger = slog.New(slog.DiscardHandler)
	}
	a := &Authority{options: options}
	var err error
	if a.hash, a.signature, a.null, err = signingAlgorithm(options.Key.Public()); err != nil {
		return nil, err
	}
	if a.essCertID, err = signingCertificateV2(leaf); err != nil {
		return nil, err
	}
	for i, certificate := range options.Chain {
		// A verifier has the root already, or does not trust it.
		if i > 0 && bytes.Equal(certificate.RawSubject, certificate.RawIssuer) {
			continue
		}
		a.certificates = append(a.certificates, certificate.Raw...)
	}
	return a, nil
}

// signingCertificateV2 names a certificate by SHA-256, the default that DER
// leaves out, and by issuer and serial number (RFC 5035 sections 3 and 4).
func signingCertificateV2(certificate *x509.Certificate) ([]byte, error) {
	h := crypto.SHA256.New()
	h.Write(certificate.Raw)
	var b cryptobyte.Builder
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
				b.AddASN1OctetString(h.Sum(nil))
				b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
					b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
						directoryName := cbasn1.Tag(4).ContextSpecific().Constructed()
						b.AddASN1(directoryName, func(b *cryptobyte.Builder) { b.AddBytes(certificate.RawIssuer) })
					})
					b.AddASN1BigInt(certificate.SerialNumber)
				})
			})
		})
	})
	return b.Bytes()
}

// Timestamp stamps a message imprint.
func (a *Authority) Timestamp(ctx context.Context, digest []byte, hash crypto.Hash) ([]byte, error) {
	if err := checkImprint(digest, hash); err != nil {
		return nil, err
	}
	return a.issue(ctx, &request{hash: hash, digest: digest, certificates: true})
}

// Respond answers a DER TimeStampReq. The response is a DER TimeStampResp even
// when err says why there is no token in it; it is nil only if it could not be
// encoded.
func (a *Authority) Respond(ctx context.Context, query []byte) (response []byte, err error) {
	token, err := a.answer(ctx, query)
	if err == nil {
		return marshalGranted(token)
	}
	var rejected *RejectedError
	if !errors.As(err, &rejected) {
		// The reason stays here: it is not for strangers.
		rejected = &RejectedError{Status: Rejection, Failure: SystemFailure, Text: "the request could not be handled"}
	}
	response, encodeErr := marshalRejected(rejected)
	return response, errors.Join(err, encodeErr)
}

func (a *Authority) answer(ctx context.Context, query []byte) ([]byte, error) {
	r, err := parseRequest(query)
	if err != nil {
		return nil, &RejectedError{Status: Rejection, Failure: BadDataFormat, Text: err.Error()}
	}
	return a.issue(ctx, r)
}

// issue returns the token of a request, or a *RejectedError.
func (a *Authority) issue(ctx context.Context, r *request) ([]byte, error) {
	refuse := func(failure Failure, text string) ([]byte, error) {
		return nil, &RejectedError{Status: Rejection, Failure: failure, Text: text}
	}
	switch {
	case r.hash == 0 || r.hash == crypto.SHA1 && !a.options.AllowSHA1:
		return refuse(BadAlgorithm, "the message imprint must be SHA-256, SHA-384 or SHA-512")
	case len(r.digest) != r.hash.Size():
		return refuse(BadDataFormat, "the message imprint has the wrong length")
	case r.policy != nil && !r.policy.Equal(a.options.Policy):
		return refuse(UnacceptedPolicy, "the policy of this authority is "+a.options.Policy.String())
	case r.extensions:
		return refuse(UnacceptedExtension, "no extension is supported")
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	now := a.options.Clock().UTC()
	if leaf := a.options.Chain[0]; now.Before(leaf.NotBefore) || now.After(leaf.NotAfter) {
		return refuse(TimeNotAvailable, "the certificate of this authority is not valid now")
	}
	token, err := a.sign(r, now)
	if err != nil {
		return nil, fmt.Errorf("timestamp: signing the token: %w", err)
	}
	return token, nil
}

// info encodes the TSTInfo.
func (a *Authority) info(r *request, now time.Time) ([]byte, error) {
	var b cryptobyte.Builder
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1Int64(1)
		b.AddASN1ObjectIdentifier(a.options.Policy)
		addImprint(b, r.hash, r.digest)
		b.AddASN1BigInt(newSerial())
		b.AddASN1GeneralizedTime(now)
		addAccuracy(b, a.options.Accuracy)
		if r.nonce != nil {
			b.AddASN1BigInt(r.nonce)
		}
	})
	return b.Bytes()
}

func addAccuracy(b *cryptobyte.Builder, accuracy time.Duration) {
	seconds := int64(accuracy / time.Second)
	milliseconds := int64(accuracy % time.Second / time.Millisecond)
	microseconds := int64(accuracy % time.Millisecond / time.Microsecond)
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		if seconds > 0 {
			b.AddASN1Int64(seconds)
		}
		if milliseconds > 0 {
			b.AddASN1Int64WithTag(milliseconds, tag0)
		}
		if microseconds > 0 {
			b.AddASN1Int64WithTag(microseconds, tag1)
		}
	})
}

// sign makes the TimeStampToken.
func (a *Authority) sign(r *request, now time.Time) ([]byte, error) {
	info, err := a.info(r, now)
	if err != nil {
		return nil, err
	}
	attributes, err := a.signedAttributes(info, now)
	if err != nil {
		return nil, err
	}
	var b cryptobyte.Builder
	b.AddASN1(cbasn1.SET, func(b *cryptobyte.Builder) { b.AddBytes(attributes) })
	covered, err := b.Bytes()
	if err != nil {
		return nil, err
	}
	h := a.hash.New()
	h.Write(covered)
	signature, err := a.options.Key.Sign(rand.Reader, h.Sum(nil), a.hash)
	if err != nil {
		return nil, err
	}
	return a.signedData(r, info, attributes, signature)
}

// signedAttributes returns the contents of the SET OF, in DER order.
func (a *Authority) signedAttributes(info []byte, now time.Time) ([]byte, error) {
	h := a.hash.New()
	h.Write(info)
	digest := h.Sum(nil)
	attributes := []struct {
		oid   asn1.ObjectIdentifier
		value func(*cryptobyte.Builder)
	}{
		{cms.OIDAttributeContentType, func(b *cryptobyte.Builder) { b.AddASN1ObjectIdentifier(cms.OIDTSTInfo) }},
		{cms.OIDAttributeSigningTime, func(b *cryptobyte.Builder) { b.AddASN1UTCTime(now) }},
		{cms.OIDAttributeMessageDigest, func(b *cryptobyte.Builder) { b.AddASN1OctetString(digest) }},
		{cms.OIDAttributeSigningCertificateV2, func(b *cryptobyte.Builder) { b.AddBytes(a.essCertID) }},
	}
	encoded := make([][]byte, 0, len(attributes))
	for _, attribute := range attributes {
		var b cryptobyte.Builder
		b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddASN1ObjectIdentifier(attribute.oid)
			b.AddASN1(cbasn1.SET, attribute.value)
		})
		der, err := b.Bytes()
		if err != nil {
			return nil, err
		}
		encoded = append(encoded, der)
	}
	slices.SortFunc(encoded, bytes.Compare)
	return bytes.Join(encoded, nil), nil
}

// signedData encodes the ContentInfo with one SignerInfo (RFC 5652 section 5).
func (a *Authority) signedData(r *request, info, attributes, signature []byte) ([]byte, error) {
	leaf := a.options.Chain[0]
	var b cryptobyte.Builder
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1ObjectIdentifier(cms.OIDSignedData)
		b.AddASN1(tag0.Constructed(), func(b *cryptobyte.Builder) {
			b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
				b.AddASN1Int64(3) // the content is not id-data
				b.AddASN1(cbasn1.SET, func(b *cryptobyte.Builder) { cms.AddHashAlgorithm(b, a.hash, false) })
				b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
					b.AddASN1ObjectIdentifier(cms.OIDTSTInfo)
					b.AddASN1(tag0.Constructed(), func(b *cryptobyte.Builder) { b.AddASN1OctetString(info) })
				})
				if r.certificates {
					b.AddASN1(tag0.Constructed(), func(b *cryptobyte.Builder) { b.AddBytes(a.certificates) })
				}
				b.AddASN1(cbasn1.SET, func(b *cryptobyte.Builder) {
					b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
						b.AddASN1Int64(1) // named by issuer and serial number
						b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
							b.AddBytes(leaf.RawIssuer)
							b.AddASN1BigInt(leaf.SerialNumber)
						})
						cms.AddHashAlgorithm(b, a.hash, false)
						b.AddASN1(tag0.Constructed(), func(b *cryptobyte.Builder) { b.AddBytes(attributes) })
						b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
							b.AddASN1ObjectIdentifier(a.signature)
							if a.null {
								b.AddASN1NULL()
							}
						})
						b.AddASN1OctetString(signature)
					})
				})
			})
		})
	})
	return b.Bytes()
}

// ServeHTTP answers POST requests of type application/timestamp-query (RFC 3161
// section 3.4). A refusal is a TimeStampResp with HTTP status 200, too.
func (a *Authority) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", http.MethodPost)
		http.Error(w, "This is an RFC 3161 time-stamp authority: send a POST request.", http.StatusMethodNotAllowed)
		return
	}
	if mediaType, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || mediaType != queryType {
		http.Error(w, "The content type of the request must be "+queryType+".", http.StatusUnsupportedMediaType)
		return
	}
	query, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxRequest))
	if err != nil {
		status := http.StatusBadRequest
		var tooLarge *http.MaxBytesError
		if errors.As(err, &tooLarge) {
			status = http.StatusRequestEntityTooLarge
		}
		http.Error(w, "The request could not be read.", status)
		return
	}
	response, err := a.Respond(r.Context(), query)
	var rejected *RejectedError
	if err != nil && !errors.As(err, &rejected) && r.Context().Err() == nil {
		a.options.Logger.ErrorContext(r.Context(), "time stamp failed", "error", err)
	}
	if response == nil {
		http.Error(w, "The response could not be made.", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", replyType)
	w.Header().Set("Cache-Control", "no-store")
	_, _ = w.Write(response)
}
