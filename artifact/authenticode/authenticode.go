// Package authenticode signs and verifies Windows PE images with Microsoft
// Authenticode ("Windows Authenticode Portable Executable Signature Format",
// Authenticode_PE.docx, below: the specification), and has the parts that the
// other Authenticode formats share: Sign makes a signature for any subject,
// Verify judges one.
package authenticode

import (
	"context"
	"crypto"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"time"

	"github.com/countersign-dev/countersign/artifact/cms"
)

// Options says who signs, and how. Key and Chain are required.
type Options struct {
	Key   crypto.Signer       // asked for one signature; RSA or ECDSA
	Chain []*x509.Certificate // leaf first

	Hash        crypto.Hash // SHA-1, SHA-256 (when zero), SHA-384 or SHA-512; of file and signature
	PSS         bool        // RSASSA-PSS in place of PKCS#1 v1.5; few Windows components accept it
	Description string      // program name shown by Windows; may be empty
	URL         string      // where to learn more about the program; ASCII; may be empty
	Commercial  bool        // SpcStatementType says commercial, not individual, code signing

	// Append adds the signature beside an existing one, as a nested signature.
	// Otherwise an existing signature is replaced. On an unsigned file both are the same.
	Append bool

	Timestamper cms.Timestamper // nil for no time stamp
	SigningTime time.Time       // signed attribute; left out when zero
	IncludeRoot bool            // embed the self-signed root, when Chain has it
}

// hash is the hash function with its default.
func (o Options) hash() crypto.Hash {
	if o.Hash == 0 {
		return crypto.SHA256
	}
	return o.Hash
}

// Validate tells, without using the key, whether signing would refuse the options.
func (o Options) Validate() error {
	_, err := o.cms()
	return err
}

// cms translates the options; all but Append matter there.
func (o Options) cms() (cms.SignOptions, error) {
	opts := cms.SignOptions{
		Key: o.Key, Chain: o.Chain, Hash: o.hash(), PSS: o.PSS,
		SigningTime: o.SigningTime, IncludeRoot: o.IncludeRoot,
		Timestamper: o.Timestamper, TimestampAttribute: cms.OIDAttributeMicrosoftTimestamp,
	}
	if o.Key != nil {
		if _, isEd25519 := o.Key.Public().(ed25519.PublicKey); isEd25519 {
			return opts, errors.New("authenticode: Windows knows no Ed25519 signatures; use an RSA or ECDSA key")
		}
	}
	opusInfo, err := marshalOpusInfo(o.Description, o.URL)
	if err != nil {
		return opts, err
	}
	statementType := oidIndividualCodeSigning
	if o.Commercial {
		statementType = oidCommercialCodeSigning
	}
	statement, err := asn1.Marshal([]asn1.ObjectIdentifier{statementType})
	if err != nil {
		return opts, fmt.Errorf("authenticode: %w", err)
	}
	opts.Attributes = cms.Attributes{
		{Type: oidStatementType, Values: [][]byte{statement}},
		{Type: oidOpusInfo, Values: [][]byte{opusInfo}},
	}
	return opts, opts.Validate()
}

// Sign makes the signature of one subject: the DER of a ContentInfo with a PKCS#7
// SignedData over SpcIndirectDataContent. digest is that of the subject under
// opts.Hash. opts.Append is not looked at: see Nest.
func Sign(ctx context.Context, subject Subject, digest []byte, opts Options) ([]byte, error) {
	signOptions, err := opts.cms()
	if err != nil {
		return nil, err
	}
	return sign(ctx, subject, digest, signOptions)
}

func sign(ctx context.Context, subject Subject, digest []byte, opts cms.SignOptions) ([]byte, error) {
	if len(digest) != opts.Hash.Size() {
		return nil, fmt.Errorf("authenticode: digest of %d octets; %v has %d", len(digest), opts.Hash, opts.Hash.Size())
	}
	content, err := IndirectData{Subject: subject, Hash: opts.Hash, Digest: digest}.marshal()
	if err != nil {
		return nil, err
	}
	return cms.Sign(ctx, cms.PKCS7(oidIndirectData, content), opts)
}

// Nest puts the signature added into the existing one, as a value of the unsigned
// attribute szOID_NESTED_SIGNATURE, behind those that are there, and returns the
// DER ContentInfo. The existing signature stays valid.
func Nest(existing *cms.SignedData, added []byte) ([]byte, error) {
	return existing.AddUnsignedAttribute(cms.OIDAttributeNestedSignature, added)
}
