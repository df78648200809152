package client

import (
	"bytes"
	"context"
	"net/http"

	"github.com/countersign-dev/countersign/api"
)

// Certificates lists the organization's certificates, by name.
func (c *Client) Certificates(ctx context.Context) ([]api.Certificate, error) {
	list, err := get[[]api.Certificate](ctx, c, func() (*http.Response, error) {
		return c.api.ListCertificates(ctx, c.organization)
	})
	if err != nil {
		return nil, err
	}
	return *list, nil
}

// Certificate returns the certificate of the slug.
func (c *Client) Certificate(ctx context.Context, slug string) (*api.Certificate, error) {
	return get[api.Certificate](ctx, c, func() (*http.Response, error) {
		return c.api.GetCertificate(ctx, c.organization, slug)
	})
}

// CreateSelfSigned has the server make a key with a self-signed certificate.
func (c *Client) CreateSelfSigned(ctx context.Context, n api.CreateSelfSignedX509) (*api.Certificate, error) {
	return post[api.Certificate](ctx, c, func() (*http.Response, error) {
		return c.api.CreateSelfSignedCertificate(ctx, c.organization, n)
	})
}

// CreateCSR has the server make a key with a certificate signing request: see [Client.SigningRequestOf] and
// [Client.UploadCertificate].
func (c *Client) CreateCSR(ctx context.Context, n api.CreateCsrBasedX509) (*api.Certificate, error) {
	return post[api.Certificate](ctx, c, func() (*http.Response, error) {
		return c.api.CreateCsrCertificate(ctx, c.organization, n)
	})
}

// SigningRequestOf returns a certificate's signing request (PKCS#10, RFC 2986) as PEM.
func (c *Client) SigningRequestOf(ctx context.Context, slug string) ([]byte, error) {
	return c.content(ctx, repeatable, func() (*http.Response, error) {
		return c.api.GetCertificateSigningRequest(ctx, c.organization, slug)
	})
}

// ImportPFX sends a PKCS#12 file with a key and its certificates. The name is the slug when empty.
func (c *Client) ImportPFX(ctx context.Context, slug, name string, pfx []byte, password string) (*api.Certificate, error) {
	f := form{{"slug", slug}, {"name", name}, {"password", password}}
	return post[api.Certificate](ctx, c, func() (*http.Response, error) {
		m := f.encode([]namedUpload{{"certificateFile", &Upload{Name: "certificate.pfx", Content: bytes.NewReader(pfx), Size: int64(len(pfx))}}})
		return c.api.ImportPfxCertificateWithBody(ctx, c.organization, m.contentType, m, m.setLength)
	})
}

// UploadCertificate sends the certificates that an authority issued, as PEM, DER or PKCS#7.
func (c *Client) UploadCertificate(ctx context.Context, slug string, chain []byte) (*api.Certificate, error) {
	return post[api.Certificate](ctx, c, func() (*http.Response, error) {
		m := form{}.encode([]namedUpload{{"certificateFile", &Upload{Name: "chain.cer", Content: bytes.NewReader(chain), Size: int64(len(chain))}}})
		return c.api.UploadX509CertificateWithBody(ctx, c.organization, slug, m.contentType, m, m.setLength)
	})
}
