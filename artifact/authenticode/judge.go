package authenticode

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/asn1"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/countersign-dev/countersign/artifact/cms"
)

// oidLifetimeSigning is the key purpose that lets no time stamp prolong a
// signature (szOID_KP_LIFETIME_SIGNING; "Time Stamping Authenticode Signatures").
var oidLifetimeSigning = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 311, 10, 3, 13}

const (
	maxNesting    = 4  // levels of nested signatures; only the first is in use
	maxSignatures = 64 // in one ContentInfo, with the nested ones
)

// Verify judges the signature in blob, a ContentInfo that may be followed by
// padding, and those nested in it, for a file format whose subjects are of the
// given type. digest computes the digest of the file; its errors are Verify's only errors.
func Verify(blob []byte, subjectType asn1.ObjectIdentifier, digest func(crypto.Hash) ([]byte, error), opts VerifyOptions) ([]Signature, error) {
	var signatures []Signature
	for _, c := range parseCandidates(blob) {
		s, err := c.verify(subjectType, digest, opts)
		if err != nil {
			return nil, err
		}
		signatures = append(signatures, s)
	}
	return signatures, nil
}

// candidate is a signature that is parsed but not yet judged.
type candidate struct {
	sd       *cms.SignedData
	indirect *IndirectData // nil when err is set
	nested   bool
	outer    []*x509.Certificate // those of the signatures that it is nested in
	problems []Problem
	err      error // why it cannot be read
}

// parseCandidates reads the signature in blob and those nested in it. It always
// returns at least one.
func parseCandidates(blob []byte) []candidate {
	all, rest := appendCandidates(nil, blob, candidate{}, 0)
	if len(rest) >= certificateAlignment || len(bytes.Trim(rest, "\x00")) > 0 {
		all[0].problems = append(all[0].problems, warning(ProblemHiddenData, "The signature is followed by %d octets that no signature covers.", len(rest)))
	}
	return all
}

func appendCandidates(all []candidate, blob []byte, c candidate, depth int) (_ []candidate, rest []byte) {
	if c.sd, rest, c.err = cms.ParsePrefix(blob); c.err != nil {
		return append(all, c), nil
	}
	if len(c.sd.Signers) != 1 {
		c.err = &cms.ParseError{Field: "signerInfos", Reason: fmt.Sprintf("has %d signers; Authenticode has one", len(c.sd.Signers))}
		return append(all, c), rest
	}
	c.indirect, c.err = ParseIndirectData(c.sd)
	self := len(all)
	all = append(all, c)
	outer := slices.Concat(c.outer, c.sd.Certificates)
	for _, nested := range c.sd.Signers[0].UnsignedAttributes.Values(cms.OIDAttributeNestedSignature) {
		if depth+1 == maxNesting || len(all) == maxSignatures {
			all[self].indirect = nil
			all[self].err = fmt.Errorf("more nested signatures than %d, or deeper than %d levels", maxSignatures, maxNesting)
			break
		}
		all, _ = appendCandidates(all, nested, candidate{nested: true, outer: outer}, depth+1)
	}
	return all, rest
}

// verify judges the signature. Its errors are those of digest.
func (c candidate) verify(subjectType asn1.ObjectIdentifier, digest func(crypto.Hash) ([]byte, error), opts VerifyOptions) (Signature, error) {
	s := Signature{Status: StatusValid, Nested: c.nested, Chain: []Certificate{}, Problems: append([]Problem{}, c.problems...)}
	if c.err != nil {
		s.fail(StatusBroken, codeOf(c.err), "The signature cannot be read: %s.", reason(c.err))
		return s, nil
	}
	signer := c.sd.Signers[0]
	s.HashAlgorithm = c.indirect.Hash.String()
	s.Algorithm = signer.SignatureAlgorithm.String()
	s.Digest = hex.EncodeToString(c.indirect.Digest)
	for _, value := range signer.SignedAttributes.Values(oidOpusInfo) {
		s.Description, s.URL = parseOpusInfo(value)
	}
	if t, ok := signer.SigningTime(); ok {
		s.SigningTime = &t
	}
	if c.sd.Unparsed > 0 {
		s.Problems = append(s.Problems, warning(ProblemUnparsed, "%d of the embedded certificates cannot be read.", c.sd.Unparsed))
	}
	if c.indirect.Hash == crypto.SHA1 || signer.Hash == crypto.SHA1 {
		s.Problems = append(s.Problems, warning(ProblemWeakHash, "The signature rests on a SHA-1 digest, for which other files can be made."))
	}

	if !c.indirect.Subject.Type.Equal(subjectType) {
		s.fail(StatusBroken, ProblemSubjectMismatch, "The signature is for another kind of file (%v, not %v).", c.indirect.Subject.Type, subjectType)
	}
	actual, err := digest(c.indirect.Hash)
	if err != nil {
		return s, err
	}
	if !bytes.Equal(actual, c.indirect.Digest) {
		s.fail(StatusBroken, ProblemDigestMismatch, "The file was changed after it was signed: its %v digest is %x, signed is %x.", c.indirect.Hash, actual, c.indirect.Digest)
	}
	leaf, err := c.sd.CheckSignature(signer, nil)
	if err != nil {
		s.fail(StatusBroken, codeOf(err), "The signature does not hold: %s.", reason(err))
	}
	if leaf == nil {
		return s, nil
	}
	description := describe(leaf)
	s.Signer = &description
	at := c.checkTimestamp(&s, opts)
	c.checkChain(&s, leaf, at, opts)
	return s, nil
}

// checkTimestamp returns the time that a time stamp vouches for, or zero.
func (c candidate) checkTimestamp(s *Signature, opts VerifyOptions) time.Time {
	t, err := c.sd.Timestamp(c.sd.Signers[0])
	if t != nil {
		s.Timestamp = &Timestamp{Kind: t.Kind, Time: t.Time, HashAlgorithm: t.Hash.String(), Chain: []Certificate{}}
		if t.Authority != nil {
			authority := describe(t.Authority)
			s.Timestamp.Authority = &authority
		}
	}
	var chainErr *cms.ChainError
	switch {
	case errors.Is(err, cms.ErrNoTimestamp):
		return time.Time{}
	case errors.As(err, &chainErr):
		s.Problems = append(s.Problems, warning(ProblemTimestampUntrusted, "The time stamp does not count: %s.", reason(err)))
		return time.Time{}
	case err != nil:
		s.fail(StatusBroken, ProblemTimestampInvalid, "The time stamp does not hold: %s.", reason(err))
		return time.Time{}
	}
	roots := opts.TimestampRoots
	if roots == nil {
		roots = opts.Roots
	}
	// An authority's certificate has to be in its time when it stamps, not later
	// (as Windows has it; RFC 3161 section 4 leaves that to policy).
	chain, err := cms.Chain(t.Authority, slices.Concat(t.Intermediates, c.outer), cms.ChainOptions{
		Roots: roots, SystemRoots: opts.SystemRoots, Time: t.Time, Usage: x509.ExtKeyUsageTimeStamping,
	})
	if err != nil {
		s.Problems = append(s.Problems, warning(ProblemTimestampUntrusted, "The time stamp does not count, since its authority is not trusted: %s.", reason(err)))
		return time.Time{}
	}
	s.Timestamp.Valid, s.Timestamp.Chain = true, describeAll(chain)
	return t.Time
}

// checkChain judges the signer's certificate. stamped is when a trusted time stamp
// was made, or zero.
func (c candidate) checkChain(s *Signature, leaf *x509.Certificate, stamped time.Time, opts VerifyOptions) {
	at := opts.CurrentTime
	if at.IsZero() {
		at = time.Now()
	}
	if !stamped.IsZero() && !hasUsage(leaf, oidLifetimeSigning) {
		at = stamped
	}
	others := slices.Concat(c.sd.Certificates, c.outer)
	chainOptions := cms.ChainOptions{Roots: opts.Roots, SystemRoots: opts.SystemRoots, Time: at, Usage: x509.ExtKeyUsageCodeSigning}
	chain, err := cms.Chain(leaf, others, chainOptions)
	if err == nil {
		s.Chain = describeAll(chain)
		if leaf.KeyUsage != 0 && leaf.KeyUsage&x509.KeyUsageDigitalSignature == 0 {
			s.fail(StatusUntrusted, ProblemCode(cms.ChainWrongUsage), "The signer's certificate is not for digital signatures.")
		}
		return
	}
	s.Chain = describeAll(embeddedChain(leaf, others))
	var chainErr *cms.ChainError
	if !errors.As(err, &chainErr) {
		chainErr = &cms.ChainError{Problem: cms.ChainInvalid, Err: err}
	}
	if chainErr.Problem != cms.ChainExpired {
		s.fail(StatusUntrusted, ProblemCode(chainErr.Problem), "The signer's certificate is not trusted: %s.", reason(chainErr))
		return
	}
	code := ProblemCode(cms.ChainExpired)
	if stamped.IsZero() {
		code = ProblemExpiredNoTimestamp
	}
	s.fail(StatusExpired, code, "A certificate had expired at %s, and no trusted time stamp shows that the signature is older: %s.", at.UTC().Format(time.RFC3339), reason(chainErr))
	// Would it have been trusted in its time?
	chainOptions.Time = leaf.NotAfter
	if _, err := cms.Chain(leaf, others, chainOptions); errors.As(err, &chainErr) && chainErr.Problem != cms.ChainExpired {
		s.fail(StatusUntrusted, ProblemCode(chainErr.Problem), "Before it expired, the signer's certificate was not trusted either: %s.", reason(chainErr))
	}
}

func hasUsage(c *x509.Certificate, usage asn1.ObjectIdentifier) bool {
	for _, oid := range c.UnknownExtKeyUsage {
		if oid.Equal(usage) {
			return true
		}
	}
	return false
}

// embeddedChain follows issuers by name, for a report on a chain that is not trusted.
func embeddedChain(leaf *x509.Certificate, others []*x509.Certificate) []*x509.Certificate {
	chain := []*x509.Certificate{leaf}
	for range others {
		last := chain[len(chain)-1]
		if bytes.Equal(last.RawIssuer, last.RawSubject) {
			break
		}
		for _, c := range others {
			if bytes.Equal(c.RawSubject, last.RawIssuer) {
				chain = append(chain, c)
				break
			}
		}
		if chain[len(chain)-1] == last {
			break
		}
	}
	return chain
}

// fail records a problem and worsens the state.
func (s *Signature) fail(status Status, code ProblemCode, format string, args ...any) {
	s.Status = s.Status.worse(status)
	s.Problems = append(s.Problems, Problem{Code: code, Message: fmt.Sprintf(format, args...)})
}

func warning(code ProblemCode, format string, args ...any) Problem {
	return Problem{Code: code, Message: fmt.Sprintf(format, args...), Warning: true}
}

// reason is an error within a sentence for people.
func reason(err error) string {
	return strings.TrimPrefix(strings.TrimPrefix(err.Error(), "cms: "), "x509: ")
}

func codeOf(err error) ProblemCode {
	switch {
	case errors.Is(err, cms.ErrNoSigner):
		return ProblemNoSigner
	case errors.Is(err, cms.ErrDigestMismatch):
		return ProblemContentMismatch
	case errors.Is(err, cms.ErrUnsupported):
		return ProblemUnsupported
	case errors.Is(err, cms.ErrBadSignature):
		return ProblemBadSignature
	}
	return ProblemMalformed
}
