package httpapi

import (
	"bytes"
	"context"
	"crypto/sha1" // thumbprints that administrators compare
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"io"
	"strings"
	"time"

	"github.com/countersign-dev/countersign/api"
	"github.com/countersign-dev/countersign/internal/signing"
)

const (
	fieldCertificateFile = "certificateFile"

	// maxCertificateFile bounds an uploaded certificate or PKCS#12 file.
	maxCertificateFile = 1 << 20
	maxValidityDays    = 30 * 365
)

func certificateOf(l links, c *signing.Certificate) api.Certificate {
	out := api.Certificate{
		CertificateID: string(c.ID), Slug: c.Slug, Name: c.Name, Type: api.CertificateType(c.Type),
		CreationMethod: api.CertificateCreationMethod(c.CreationMethod), IsActive: c.Active, KeyAlgorithm: c.KeyAlgorithm,
		Subject: c.Subject, Issuer: c.Issuer, SerialNumber: c.SerialNumber, NotBefore: c.NotBefore, NotAfter: c.NotAfter,
		ExpiryWarning: c.ExpiryWarning(time.Now()), Warnings: c.Warnings(time.Now()),
		Restrictions: api.CertificateRestrictions{
			MinimumApprovals: c.Restrictions.MinimumApprovals, SubmitterMayNotApprove: c.Restrictions.SubmitterMayNotApprove,
			RequiresTrustedBuildSystem: c.Restrictions.RequireTrustedBuildSystem, VerifiesOriginPolicy: c.Restrictions.VerifyOrigin,
			RequiresStrictConfiguration: c.Restrictions.StrictConfiguration, RequiresTimestamp: c.Restrictions.RequireTimestamp,
		},
		Link: l.resource(string(c.OrganizationID), "Certificates", c.Slug), Version: c.Version,
	}
	if c.KeyDeletedAt != nil {
		out.PrivateKeyDeletedAt = *c.KeyDeletedAt
	}
	for _, der := range c.Chain {
		out.X509CertificateChain = append(out.X509CertificateChain, base64.StdEncoding.EncodeToString(der))
	}
	if len(c.Chain) > 0 {
		out.X509CertificateData = out.X509CertificateChain[0]
		sum1, sum256 := sha1.Sum(c.Chain[0]), sha256.Sum256(c.Chain[0])
		out.Sha1Thumbprint, out.Sha256Thumbprint = hex.EncodeToString(sum1[:]), hex.EncodeToString(sum256[:])
	}
	return out
}

func restrictionsOf(r api.CertificateRestrictions) signing.CertificateRestrictions {
	return signing.CertificateRestrictions{
		MinimumApprovals: r.MinimumApprovals, SubmitterMayNotApprove: r.SubmitterMayNotApprove,
		RequireTrustedBuildSystem: r.RequiresTrustedBuildSystem, VerifyOrigin: r.VerifiesOriginPolicy || r.VerifyOriginPolicy,
		StrictConfiguration: r.RequiresStrictConfiguration, RequireTimestamp: r.RequiresTimestamp,
	}
}

func createdCertificate(ctx context.Context, c *signing.Certificate) api.CertificateCreatedJSONResponse {
	body := certificateOf(exchangeOf(ctx).links, c)
	return api.CertificateCreatedJSONResponse{Body: body, Headers: api.CertificateCreatedResponseHeaders{Location: body.Link}}
}

// ListCertificates lists the organization's certificates.
func (s *service) ListCertificates(ctx context.Context, _ api.ListCertificatesRequestObject) (api.ListCertificatesResponseObject, error) {
	list, err := s.signing.Certificates(ctx, actorOf(ctx))
	if err != nil {
		return nil, err
	}
	answer := make(api.ListCertificates200JSONResponse, 0, len(list))
	for _, c := range list {
		answer = append(answer, certificateOf(exchangeOf(ctx).links, c))
	}
	return answer, nil
}

// GetCertificate returns a certificate.
func (s *service) GetCertificate(ctx context.Context, r api.GetCertificateRequestObject) (api.GetCertificateResponseObject, error) {
	c, err := s.signing.Certificate(ctx, actorOf(ctx), r.CertificateSlug)
	if err != nil {
		return nil, err
	}
	return api.GetCertificate200JSONResponse{CertificateJSONResponse: api.CertificateJSONResponse(certificateOf(exchangeOf(ctx).links, c))}, nil
}

// der answers with a certificate's DER.
func der(c *signing.Certificate, err error) (api.CertificateDERApplicationPkixCertResponse, error) {
	var none api.CertificateDERApplicationPkixCertResponse
	switch {
	case err != nil:
		return none, err
	case len(c.Chain) == 0:
		return none, signing.Errorf(signing.KindNotFound, "The certificate with slug '%s' was not issued yet: only its signing request exists.", c.Slug)
	}
	return api.CertificateDERApplicationPkixCertResponse{Body: bytes.NewReader(c.Chain[0]), ContentLength: int64(len(c.Chain[0]))}, nil
}

// GetX509Certificate sends a certificate.
func (s *service) GetX509Certificate(ctx context.Context, r api.GetX509CertificateRequestObject) (api.GetX509CertificateResponseObject, error) {
	body, err := der(s.signing.Certificate(ctx, actorOf(ctx), r.CertificateSlug))
	if err != nil {
		return nil, err
	}
	return api.GetX509Certificate200ApplicationPkixCertResponse{CertificateDERApplicationPkixCertResponse: body}, nil
}

// GetSigningPolicyCertificate returns a policy's certificate.
func (s *service) GetSigningPolicyCertificate(ctx context.Context, r api.GetSigningPolicyCertificateRequestObject) (api.GetSigningPolicyCertificateResponseObject, error) {
	c, err := s.signing.PolicyCertificate(ctx, actorOf(ctx), r.ProjectSlug, r.SigningPolicySlug)
	if err != nil {
		return nil, err
	}
	return api.GetSigningPolicyCertificate200JSONResponse{CertificateJSONResponse: api.CertificateJSONResponse(certificateOf(exchangeOf(ctx).links, c))}, nil
}

// GetSigningPolicyX509Certificate sends a policy's certificate.
func (s *service) GetSigningPolicyX509Certificate(ctx context.Context, r api.GetSigningPolicyX509CertificateRequestObject) (api.GetSigningPolicyX509CertificateResponseObject, error) {
	body, err := der(s.signing.PolicyCertificate(ctx, actorOf(ctx), r.ProjectSlug, r.SigningPolicySlug))
	if err != nil {
		return nil, err
	}
	return api.GetSigningPolicyX509Certificate200ApplicationPkixCertResponse{CertificateDERApplicationPkixCertResponse: body}, nil
}

// GetSigningRequestCertificate sends the certificate that signed, or is to sign, a request.
func (s *service) GetSigningRequestCertificate(ctx context.Context, r api.GetSigningRequestCertificateRequestObject) (api.GetSigningRequestCertificateResponseObject, error) {
	id, err := requestID(r.SigningRequestID)
	if err != nil {
		return nil, err
	}
	body, err := der(s.signing.RequestCertificate(ctx, actorOf(ctx), id))
	if err != nil {
		return nil, err
	}
	return api.GetSigningRequestCertificate200ApplicationPkixCertResponse{CertificateDERApplicationPkixCertResponse: body}, nil
}

// GetCertificateSigningRequest sends the PKCS#10 request of a certificate whose key was made here.
func (s *service) GetCertificateSigningRequest(ctx context.Context, r api.GetCertificateSigningRequestRequestObject) (api.GetCertificateSigningRequestResponseObject, error) {
	c, err := s.signing.Certificate(ctx, actorOf(ctx), r.CertificateSlug)
	if err != nil {
		return nil, err
	}
	if len(c.CSR) == 0 {
		return nil, signing.Errorf(signing.KindNotFound, "The certificate with slug '%s' has no certificate signing request: it was made by %s.", c.Slug, c.CreationMethod)
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: c.CSR})
	return api.GetCertificateSigningRequest200ApplicationXPemFileResponse{Body: bytes.NewReader(text), ContentLength: int64(len(text))}, nil
}

// CreateSelfSignedCertificate makes a key with a self-signed certificate.
func (s *service) CreateSelfSignedCertificate(ctx context.Context, r api.CreateSelfSignedCertificateRequestObject) (api.CreateSelfSignedCertificateResponseObject, error) {
	if d := r.Body.ValidityInDays; d < 0 || d > maxValidityDays {
		return nil, signing.Invalid("ValidityInDays", "The value must be a whole number from 1 to %d.", maxValidityDays)
	}
	c, err := s.signing.CreateSelfSigned(ctx, actorOf(ctx), signing.NewCertificate{
		Slug: r.Body.Slug, Name: r.Body.Name, Subject: subjectText(r.Body.Subject), KeyAlgorithm: string(r.Body.KeyAlgorithm),
		Validity: time.Duration(r.Body.ValidityInDays) * 24 * time.Hour, Restrictions: restrictionsOf(r.Body.Restrictions),
	})
	if err != nil {
		return nil, err
	}
	return api.CreateSelfSignedCertificate201JSONResponse{CertificateCreatedJSONResponse: createdCertificate(ctx, c)}, nil
}

// CreateCsrCertificate makes a key with a certificate signing request.
func (s *service) CreateCsrCertificate(ctx context.Context, r api.CreateCsrCertificateRequestObject) (api.CreateCsrCertificateResponseObject, error) {
	c, err := s.signing.CreateRequest(ctx, actorOf(ctx), signing.NewCertificate{
		Slug: r.Body.Slug, Name: r.Body.Name, Subject: subjectText(r.Body.Subject), KeyAlgorithm: string(r.Body.KeyAlgorithm),
		Restrictions: restrictionsOf(r.Body.Restrictions),
	})
	if err != nil {
		return nil, err
	}
	return api.CreateCsrCertificate201JSONResponse{CertificateCreatedJSONResponse: createdCertificate(ctx, c)}, nil
}

// ImportPfxCertificate takes over a key with its chain.
func (s *service) ImportPfxCertificate(ctx context.Context, r api.ImportPfxCertificateRequestObject) (api.ImportPfxCertificateResponseObject, error) {
	file, sink := certificateFile()
	f, err := readForm(r.Body, sink)
	if err != nil {
		return nil, err
	}
	if !f.hasFile(fieldCertificateFile) {
		return nil, signing.Invalid(pascalName(fieldCertificateFile), "The PKCS#12 file is required: send it as a file part.")
	}
	c, err := s.signing.ImportPFX(ctx, actorOf(ctx), signing.NewCertificate{Slug: f.text("slug"), Name: f.text("name")}, file.Bytes(), f.text("password"))
	if err != nil {
		return nil, err
	}
	return api.ImportPfxCertificate201JSONResponse{CertificateCreatedJSONResponse: createdCertificate(ctx, c)}, nil
}

// UploadX509Certificate installs an issued certificate.
func (s *service) UploadX509Certificate(ctx context.Context, r api.UploadX509CertificateRequestObject) (api.UploadX509CertificateResponseObject, error) {
	file, sink := certificateFile()
	f, err := readForm(r.Body, sink)
	if err != nil {
		return nil, err
	}
	if !f.hasFile(fieldCertificateFile) {
		return nil, signing.Invalid(pascalName(fieldCertificateFile), "The certificate is required: send it as a file part.")
	}
	c, err := s.signing.UploadCertificate(ctx, actorOf(ctx), r.CertificateSlug, file.Bytes())
	if err != nil {
		return nil, err
	}
	return api.UploadX509Certificate200JSONResponse{CertificateJSONResponse: api.CertificateJSONResponse(certificateOf(exchangeOf(ctx).links, c))}, nil
}

// editCertificate changes a certificate.
func (s *service) editCertificate(ctx context.Context, slug string, e signing.CertificateEdit) (api.Certificate, error) {
	c, err := s.signing.EditCertificate(ctx, actorOf(ctx), slug, e)
	if err != nil {
		return api.Certificate{}, err
	}
	return certificateOf(exchangeOf(ctx).links, c), nil
}

// EditCertificate changes a certificate's slug, name or restrictions.
func (s *service) EditCertificate(ctx context.Context, r api.EditCertificateRequestObject) (api.EditCertificateResponseObject, error) {
	e := signing.CertificateEdit{Slug: r.Body.Slug, Name: r.Body.Name, Version: r.Body.Version}
	if r.Body.Restrictions != nil {
		e.Restrictions = pointer(restrictionsOf(*r.Body.Restrictions))
	}
	c, err := s.editCertificate(ctx, r.CertificateSlug, e)
	return reply[api.EditCertificateResponseObject](api.EditCertificate200JSONResponse(c), err)
}

// ActivateCertificate activates a certificate.
func (s *service) ActivateCertificate(ctx context.Context, r api.ActivateCertificateRequestObject) (api.ActivateCertificateResponseObject, error) {
	c, err := s.editCertificate(ctx, r.CertificateSlug, signing.CertificateEdit{Active: pointer(true), Version: expected(r.Body)})
	return reply[api.ActivateCertificateResponseObject](api.ActivateCertificate200JSONResponse(c), err)
}

// DeactivateCertificate deactivates a certificate.
func (s *service) DeactivateCertificate(ctx context.Context, r api.DeactivateCertificateRequestObject) (api.DeactivateCertificateResponseObject, error) {
	c, err := s.editCertificate(ctx, r.CertificateSlug, signing.CertificateEdit{Active: pointer(false), Version: deactivation(r.Body).Version, EvenIfInUse: deactivation(r.Body).EvenIfInUse})
	return reply[api.DeactivateCertificateResponseObject](api.DeactivateCertificate200JSONResponse(c), err)
}

// DeleteCertificatePrivateKey destroys a certificate's private key.
func (s *service) DeleteCertificatePrivateKey(ctx context.Context, r api.DeleteCertificatePrivateKeyRequestObject) (api.DeleteCertificatePrivateKeyResponseObject, error) {
	c, err := s.signing.DeletePrivateKey(ctx, actorOf(ctx), r.CertificateSlug, signing.KeyDeletion{Version: deactivation(r.Body).Version, EvenIfInUse: deactivation(r.Body).EvenIfInUse})
	if err != nil {
		return nil, err
	}
	return api.DeleteCertificatePrivateKey200JSONResponse(certificateOf(exchangeOf(ctx).links, c)), nil
}

// DeleteCertificate deletes a certificate that never signed.
func (s *service) DeleteCertificate(ctx context.Context, r api.DeleteCertificateRequestObject) (api.DeleteCertificateResponseObject, error) {
	err := s.signing.DeleteCertificate(ctx, actorOf(ctx), r.CertificateSlug, expected(r.Body))
	return reply[api.DeleteCertificateResponseObject](api.DeleteCertificate204Response{}, err)
}

// certificateFile returns a sink that keeps a small file in memory.
func certificateFile() (*bytes.Buffer, map[string]fileSink) {
	var b bytes.Buffer
	return &b, map[string]fileSink{fieldCertificateFile: func(_ filePart, content io.Reader) error {
		n, err := io.Copy(&b, io.LimitReader(content, maxCertificateFile+1))
		if err == nil && n > maxCertificateFile {
			err = signing.Errorf(signing.KindTooLarge, "The certificate file is larger than %d bytes.", maxCertificateFile)
		}
		return err
	}}
}

// subjectText spells a distinguished name as RFC 4514 does, the common name first.
func subjectText(n api.DistinguishedName) string {
	var parts []string
	for _, attribute := range []struct{ name, value string }{
		{"CN", n.CommonName}, {"OU", n.OrganizationalUnit}, {"O", n.Organization},
		{"L", n.Locality}, {"ST", n.StateOrProvince}, {"C", n.Country},
	} {
		if attribute.value != "" {
			parts = append(parts, attribute.name+"="+escapeAttribute(attribute.value))
		}
	}
	return strings.Join(parts, ",")
}

// escapeAttribute escapes what has a meaning in a distinguished name (RFC 4514, section 2.4).
func escapeAttribute(value string) string {
	var b strings.Builder
	for i, c := range value {
		switch {
		case c < ' ':
			b.WriteString(`\` + hex.EncodeToString([]byte{byte(c)}))
			continue
		case strings.ContainsRune(`"+,;<>\=`, c), c == '#' && i == 0, c == ' ' && (i == 0 || i == len(value)-1):
			b.WriteByte('\\')
		}
		b.WriteRune(c)
	}
	return b.String()
}
