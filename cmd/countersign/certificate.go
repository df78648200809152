package main

import (
	"context"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/countersign-dev/countersign/api"
	"github.com/countersign-dev/countersign/internal/certificate"
)

type certificateCmd struct {
	CreateSelfSigned createSelfSignedCmd `cmd:"" help:"Make a key with a self-signed certificate on the server, for test signing."`
	CreateCSR        createCSRCmd        `cmd:"" name:"create-csr" help:"Make a key with a certificate signing request on the server."`
	Upload           uploadCmd           `cmd:"" help:"Give a certificate signing request's key the certificate that an authority issued."`
	ImportPFX        importPFXCmd        `cmd:"" name:"import-pfx" help:"Import a key with its certificates from a PKCS#12 file."`
	List             listCertificatesCmd `cmd:"" help:"List the organization's certificates."`
	Show             showCertificateCmd  `cmd:"" help:"Show a certificate of the server, or one in a file."`
	Deactivate       deactivateCmd       `cmd:"" help:"Let nothing more be signed with a certificate."`
	Activate         activateCmd         `cmd:"" help:"Let a deactivated certificate sign again."`
	DeleteKey        deleteKeyCmd        `cmd:"" name:"delete-key" help:"Destroy the private key of a deactivated certificate, for ever."`
	Delete           deleteCmd           `cmd:"" help:"Delete a certificate that never signed, with its private key."`
}

// Help is shown by kong.
func (certificateCmd) Help() string {
	return `Private keys are made in the server's key store and never leave it. A release certificate from an authority takes three steps:

    countersign certificate create-csr --slug release --subject "CN=Acme Ltd.,O=Acme Ltd.,C=AT" > release.csr
    # send release.csr to the authority, and receive chain.pem
    countersign certificate upload --slug release chain.pem`
}

// newCertificate is what certificates are made with.
type newCertificate struct {
	connection
	machine
	Slug         string `help:"Slug of the new certificate." required:"" placeholder:"SLUG" env:"-"`
	Name         string `help:"Its name for people; the slug otherwise." env:"-" placeholder:"TEXT"`
	Subject      string `help:"Distinguished name (RFC 4514), such as \"CN=Acme Ltd.,O=Acme Ltd.,C=AT\"; CN, O, OU, L, ST and C." required:"" env:"-" placeholder:"NAME"`
	KeyAlgorithm string `help:"Key algorithm: ${enum}." enum:"RSA-2048,RSA-3072,RSA-4096,ECDSA-P256,ECDSA-P384,ECDSA-P521" default:"RSA-3072" env:"-"`
}

// subject parses the distinguished name for the API.
func (n newCertificate) subject() (api.DistinguishedName, error) {
	var dn api.DistinguishedName
	rdns, err := certificate.ParseSubject(n.Subject)
	if err != nil {
		return dn, &exitError{exitUsage, fmt.Errorf("--subject: %w", err)}
	}
	fields := map[string]*string{
		"2.5.4.3": &dn.CommonName, "2.5.4.10": &dn.Organization, "2.5.4.11": &dn.OrganizationalUnit,
		"2.5.4.7": &dn.Locality, "2.5.4.8": &dn.StateOrProvince, "2.5.4.6": &dn.Country,
	}
	for _, rdn := range rdns {
		for _, a := range rdn {
			field := fields[a.Type.String()]
			if field == nil || *field != "" {
				return dn, &exitError{exitUsage, fmt.Errorf("--subject: attribute %s is not one of CN, O, OU, L, ST and C, or there twice", a.Type)}
			}
			*field = fmt.Sprint(a.Value)
		}
	}
	if dn.CommonName == "" {
		return dn, &exitError{exitUsage, errors.New("--subject needs a common name (CN=...)")}
	}
	return dn, nil
}

type createSelfSignedCmd struct {
	newCertificate
	ValidityDays int `help:"Days until it expires." default:"1095" env:"-"`
}

// Validate is called by kong. The server would take 0 for its default.
func (n *createSelfSignedCmd) Validate() error {
	if n.ValidityDays <= 0 {
		return errors.New("--validity-days must be positive")
	}
	return nil
}

// Help is shown by kong.
func (*createSelfSignedCmd) Help() string {
	return `For example:

    countersign certificate create-self-signed --slug test --subject "CN=Acme test signing,O=Acme Ltd."` + exitCodes("the server failed")
}

// Run makes a certificate.
func (n *createSelfSignedCmd) Run(ctx context.Context, io console) error {
	subject, err := n.subject()
	if err != nil {
		return err
	}
	c, err := n.client()
	if err != nil {
		return err
	}
	made, err := c.CreateSelfSigned(ctx, api.CreateSelfSignedX509{
		Slug: n.Slug, Name: n.Name, Subject: subject, KeyAlgorithm: api.KeyAlgorithm(n.KeyAlgorithm), ValidityInDays: n.ValidityDays,
	})
	if err != nil {
		return remoteError(err)
	}
	return n.print(io, made)
}

// print writes a certificate of the server.
func (m machine) print(io console, c *api.Certificate) error {
	if m.JSON {
		return writeJSON(io.out, c)
	}
	if err := printRemote(io.out, c); err != nil {
		return err
	}
	for _, text := range append([]string{c.ExpiryWarning}, c.Warnings...) {
		if text != "" {
			fmt.Fprintln(io.err, "warning:", printable(text))
		}
	}
	return nil
}

// certificateState says whether a certificate of the server may sign.
func certificateState(c *api.Certificate) string {
	switch {
	case !c.PrivateKeyDeletedAt.IsZero():
		return "key deleted"
	case !c.IsActive:
		return "deactivated"
	}
	return "active"
}

type createCSRCmd struct{ newCertificate }

// Help is shown by kong.
func (*createCSRCmd) Help() string {
	return `Writes the certificate signing request (PKCS#10, PEM) to standard output; with --json the certificate's record instead.

    countersign certificate create-csr --slug release --subject "CN=Acme Ltd.,O=Acme Ltd.,C=AT" > release.csr` + exitCodes("the server failed")
}

// Run makes a request.
func (n *createCSRCmd) Run(ctx context.Context, io console) error {
	subject, err := n.subject()
	if err != nil {
		return err
	}
	c, err := n.client()
	if err != nil {
		return err
	}
	made, err := c.CreateCSR(ctx, api.CreateCsrBasedX509{Slug: n.Slug, Name: n.Name, Subject: subject, KeyAlgorithm: api.KeyAlgorithm(n.KeyAlgorithm)})
	if err != nil {
		return remoteError(err)
	}
	if n.JSON {
		return writeJSON(io.out, made)
	}
	pem, err := c.SigningRequestOf(ctx, made.Slug)
	if err != nil {
		return remoteError(err)
	}
	_, err = io.out.Write(pem)
	return err
}

type uploadCmd struct {
	connection
	machine
	Slug string `help:"Slug of the certificate." required:"" placeholder:"SLUG" env:"-"`
	File string `arg:"" help:"The issued certificate with its chain, PEM, DER or PKCS#7, in any order." type:"existingfile"`
}

// Help is shown by kong.
func (*uploadCmd) Help() string {
	return `For example:

    countersign certificate upload --slug release chain.pem` + exitCodes("the server failed")
}

// Run uploads.
func (u *uploadCmd) Run(ctx context.Context, io console) error {
	c, err := u.client()
	if err != nil {
		return err
	}
	raw, err := os.ReadFile(u.File)
	if err != nil {
		return err
	}
	changed, err := c.UploadCertificate(ctx, u.Slug, raw)
	if err != nil {
		return remoteError(err)
	}
	return u.print(io, changed)
}

type importPFXCmd struct {
	connection
	machine
	Slug        string `help:"Slug of the new certificate." required:"" placeholder:"SLUG" env:"-"`
	Name        string `help:"Its name for people; the slug otherwise." env:"-" placeholder:"TEXT"`
	PasswordEnv string `help:"Environment variable with the file's password." env:"-" placeholder:"NAME"`
	File        string `arg:"" help:"The PKCS#12 file (.pfx or .p12)." type:"existingfile"`
}

// Help is shown by kong.
func (*importPFXCmd) Help() string {
	return `For example:

    PFX_PASSWORD=... countersign certificate import-pfx --slug release --password-env PFX_PASSWORD release.pfx` + exitCodes("the server failed")
}

// Run imports.
func (p *importPFXCmd) Run(ctx context.Context, io console) error {
	password, err := passwordFrom(p.PasswordEnv)
	if err != nil {
		return err
	}
	c, err := p.client()
	if err != nil {
		return err
	}
	raw, err := os.ReadFile(p.File)
	if err != nil {
		return err
	}
	made, err := c.ImportPFX(ctx, p.Slug, p.Name, raw, password)
	if err != nil {
		return remoteError(err)
	}
	return p.print(io, made)
}

// passwordFrom reads the environment variable of that name; no name means no password.
func passwordFrom(name string) (string, error) {
	if name == "" {
		return "", nil
	}
	password, set := os.LookupEnv(name)
	if !set {
		return "", &exitError{exitUsage, fmt.Errorf("the environment has no variable %s, which --password-env names", name)}
	}
	return password, nil
}

type listCertificatesCmd struct {
	connection
	machine
}

// Help is shown by kong.
func (*listCertificatesCmd) Help() string {
	return `--json writes {"items": [...]}, the items as the REST API has them (Certificate).` + exitCodes("the server failed")
}

// Run lists.
func (l *listCertificatesCmd) Run(ctx context.Context, io console) error {
	c, err := l.client()
	if err != nil {
		return err
	}
	list, err := c.Certificates(ctx)
	if err != nil {
		return remoteError(err)
	}
	if l.JSON {
		return writeJSON(io.out, map[string]any{"items": list})
	}
	w := tabwriter.NewWriter(io.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "SLUG\tSTATE\tKEY\tEXPIRES\tSUBJECT")
	for _, c := range list {
		expires := "not issued yet"
		if !c.NotAfter.IsZero() {
			expires = c.NotAfter.Format(time.DateOnly)
			if time.Now().After(c.NotAfter) {
				expires += " expired"
			} else if c.ExpiryWarning != "" {
				expires += " soon"
			}
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", c.Slug, certificateState(&c), c.KeyAlgorithm, expires, printable(c.Subject))
	}
	return w.Flush()
}

type showCertificateCmd struct {
	connection
	machine
	PasswordEnv string `help:"Environment variable with the password of a PKCS#12 file." env:"-" placeholder:"NAME"`
	Certificate string `arg:"" help:"A file (PEM, DER, PKCS#7, PKCS#12), or the slug of a certificate on the server."`
}

// Help is shown by kong.
func (*showCertificateCmd) Help() string {
	return `For example:

    countersign certificate show chain.pem
    countersign certificate show release

What is a file here is read here, without a server. --json writes a list for a file (subject, issuer, serialNumber, keyAlgorithm, notBefore, notAfter, sha1Thumbprint, sha256Thumbprint), and the certificate as the REST API has it for a slug.` +
		exitCodes("the server failed")
}

// Validate is called by kong.
func (s *showCertificateCmd) Validate() error {
	if s.Certificate == "" {
		return errors.New("name a file or a certificate's slug")
	}
	return nil
}

// Run shows.
func (s *showCertificateCmd) Run(ctx context.Context, io console) error {
	if _, err := os.Stat(s.Certificate); err == nil {
		return s.local(io)
	} else if strings.ContainsAny(s.Certificate, `./\`) {
		return &exitError{exitUsage, err}
	}
	c, err := s.client()
	if err != nil {
		return err
	}
	found, err := c.Certificate(ctx, s.Certificate)
	if err != nil {
		return remoteError(err)
	}
	return s.print(io, found)
}

// localCertificate is one certificate of a file, JSON.
type localCertificate struct {
	Subject          string    `json:"subject"`
	Issuer           string    `json:"issuer"`
	SerialNumber     string    `json:"serialNumber"`
	KeyAlgorithm     string    `json:"keyAlgorithm"`
	NotBefore        time.Time `json:"notBefore"`
	NotAfter         time.Time `json:"notAfter"`
	Sha1Thumbprint   string    `json:"sha1Thumbprint"`
	Sha256Thumbprint string    `json:"sha256Thumbprint"`
}

func describeCertificate(c *x509.Certificate) localCertificate {
	algorithm, err := certificate.AlgorithmOf(c.PublicKey)
	if algorithm == "" && err != nil {
		algorithm = certificate.KeyAlgorithm(c.PublicKeyAlgorithm.String())
	}
	return localCertificate{
		Subject: c.Subject.String(), Issuer: c.Issuer.String(), SerialNumber: fmt.Sprintf("%x", c.SerialNumber),
		KeyAlgorithm: string(algorithm), NotBefore: c.NotBefore, NotAfter: c.NotAfter,
		Sha1Thumbprint: strings.ToLower(certificate.ThumbprintSHA1(c)), Sha256Thumbprint: strings.ToLower(certificate.ThumbprintSHA256(c)),
	}
}

func (s *showCertificateCmd) local(io console) error {
	raw, err := os.ReadFile(s.Certificate)
	if err != nil {
		return err
	}
	password, err := passwordFrom(s.PasswordEnv)
	if err != nil {
		return err
	}
	chain, err := certificate.Parse(raw)
	if err != nil {
		pfx, pfxErr := certificate.ParsePFX(raw, password)
		switch {
		case pfxErr == nil:
			chain = pfx.Chain
		case errors.Is(pfxErr, certificate.ErrWrongPassword):
			return &exitError{exitUsage, passwordHint(s.Certificate, pfxErr)}
		default:
			return &exitError{exitUsage, fmt.Errorf("read %s: %w", s.Certificate, err)}
		}
	}
	list := make([]localCertificate, len(chain))
	for i, c := range chain {
		list[i] = describeCertificate(c)
	}
	if s.JSON {
		return writeJSON(io.out, list)
	}
	for i, c := range list {
		if i > 0 {
			fmt.Fprintln(io.out)
		}
		if err := printCertificate(io.out, nil, c); err != nil {
			return err
		}
	}
	for _, w := range certificate.Warnings(chain, time.Now()) {
		fmt.Fprintln(io.err, "warning:", w.Message)
	}
	return nil
}

// printRemote writes a certificate of the server with those above it.
func printRemote(out io.Writer, c *api.Certificate) error {
	if c.X509CertificateData == "" {
		_, err := fmt.Fprintf(out, "Slug   %s\nState  %s\nKey    %s\nIts certificate was not uploaded yet.\n", c.Slug, certificateState(c), c.KeyAlgorithm)
		return err
	}
	der, err := base64.StdEncoding.DecodeString(c.X509CertificateData)
	if err != nil {
		return fmt.Errorf("the server's certificate: %w", err)
	}
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		return fmt.Errorf("the server's certificate: %w", err)
	}
	return printCertificate(out, [][2]string{{"Slug", c.Slug}, {"State", certificateState(c)}}, describeCertificate(parsed))
}

func printCertificate(out io.Writer, first [][2]string, c localCertificate) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	for _, line := range first {
		fmt.Fprintf(w, "%s\t%s\n", line[0], line[1])
	}
	fmt.Fprintf(w, "Subject\t%s\nIssuer\t%s\nSerial number\t%s\nKey\t%s\nValid\t%s to %s\nSHA-1\t%s\nSHA-256\t%s\n", printable(c.Subject), printable(c.Issuer),
		c.SerialNumber, c.KeyAlgorithm, c.NotBefore.UTC().Format(time.DateOnly), c.NotAfter.UTC().Format(time.DateOnly), c.Sha1Thumbprint, c.Sha256Thumbprint)
	return w.Flush()
}
