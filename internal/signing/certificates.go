package signing

import (
	"context"
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/countersign-dev/countersign/internal/audit"
	"github.com/countersign-dev/countersign/internal/certificate"
)

const (
	defaultValidity = 3 * 365 * 24 * time.Hour
	maxValidity     = 30 * 365 * 24 * time.Hour
)

// NewCertificate describes a certificate whose key pair Countersign makes or imports.
type NewCertificate struct {
	Slug         string
	Name         string
	Subject      string // RFC 4514, such as "CN=Acme test, O=Acme"; not for an import
	KeyAlgorithm string // "RSA-3072" when empty; not for an import
	Validity     time.Duration
	Restrictions CertificateRestrictions
}

// CreateSelfSigned generates a key pair and a self-signed certificate for it.
func (s *Service) CreateSelfSigned(ctx context.Context, a Actor, n NewCertificate) (*Certificate, error) {
	return s.createWithKey(ctx, a, n, SelfSigned, func(n NewCertificate, c *Certificate, key crypto.Signer) error {
		subject, err := certificate.ParseSubject(n.Subject)
		if err != nil {
			return err
		}
		leaf, err := certificate.SelfSign(key, certificate.Template{
			Subject: subject, NotBefore: s.now().Add(-5 * time.Minute), NotAfter: s.now().Add(n.Validity), Usage: certificate.CodeSigning,
		})
		if err != nil {
			return err
		}
		c.setChain([]*x509.Certificate{leaf})
		return nil
	})
}

// CreateRequest generates a key pair and a certificate signing request (PKCS#10) for it. The certificate is usable once
// the issued one was uploaded.
func (s *Service) CreateRequest(ctx context.Context, a Actor, n NewCertificate) (*Certificate, error) {
	return s.createWithKey(ctx, a, n, Csr, func(n NewCertificate, c *Certificate, key crypto.Signer) error {
		subject, err := certificate.ParseSubject(n.Subject)
		if err != nil {
			return err
		}
		c.CSR, err = certificate.CreateRequest(key, subject)
		c.Subject = n.Subject
		return err
	})
}

// createWithKey generates a key, lets it make its one own signature, and stores the certificate. When anything fails,
// the key is deleted again.
func (s *Service) createWithKey(ctx context.Context, a Actor, n NewCertificate, method CreationMethod, first func(NewCertificate, *Certificate, crypto.Signer) error) (*Certificate, error) {
	if n.KeyAlgorithm == "" {
		n.KeyAlgorithm = string(certificate.RSA3072)
	}
	if n.Validity == 0 {
		n.Validity = defaultValidity
	}
	c, err := s.newCertificate(a, n, method)
	if err != nil {
		return nil, err
	}
	var v validation
	algorithm, err := certificate.ParseKeyAlgorithm(n.KeyAlgorithm)
	if err != nil || algorithm == certificate.Ed25519 {
		v.add("KeyAlgorithm", "'%s' is not one of the key algorithms that sign code here: %s.", truncate(n.KeyAlgorithm, 40), signingAlgorithms())
	}
	if _, err := certificate.ParseSubject(n.Subject); err != nil {
		v.add("Subject", "%s", sentence(err))
	}
	if n.Validity < time.Hour || n.Validity > maxValidity {
		v.add("Validity", "The validity must be between one hour and 30 years.")
	}
	if err := v.err(); err != nil {
		return nil, err
	}
	keyID, public, err := s.keys.Generate(ctx, algorithm)
	if err != nil {
		return nil, fmt.Errorf("generate the key: %w", err)
	}
	if err := s.storeWithKey(ctx, a, c, keyID, public, func(key crypto.Signer) error { return first(n, c, key) }); err != nil {
		_ = s.keys.Delete(context.WithoutCancel(ctx), keyID) // unused: no certificate refers to it
		return nil, err
	}
	return c, nil
}

func (s *Service) storeWithKey(ctx context.Context, a Actor, c *Certificate, keyID string, public crypto.PublicKey, first func(crypto.Signer) error) error {
	algorithm, err := certificate.AlgorithmOf(public)
	if err != nil {
		return err
	}
	c.KeyID, c.KeyAlgorithm = keyID, string(algorithm)
	if first != nil {
		key, closeKey, err := s.gate.open(ctx, &grant{keyID: keyID, record: GrantRecord{ID: NewID(), CertificateID: c.ID, Signatures: 1, IssuedAt: s.now()}})
		if err != nil {
			return err
		}
		defer closeKey()
		if err := first(key); err != nil {
			return fmt.Errorf("create the certificate: %w", err)
		}
	}
	return s.store.Tx(ctx, func(tx Tx) error {
		if err := tx.InsertCertificate(ctx, c); err != nil {
			return taken(err, "Slug", "Another certificate has the slug '%s' already.", c.Slug)
		}
		return s.record(ctx, tx, a, "Certificate.Created", certificateObject(c), map[string]any{"after": c})
	})
}

func (s *Service) newCertificate(a Actor, n NewCertificate, method CreationMethod) (*Certificate, error) {
	if err := require(a, OpManageCertificates, scope{}); err != nil {
		return nil, err
	}
	c := &Certificate{
		ID: NewID(), OrganizationID: a.OrganizationID, Slug: n.Slug, Name: n.Name, Type: "X509", CreationMethod: method,
		Active: true, KeyStore: s.keyStore, Restrictions: n.Restrictions, CreatedAt: s.now(), Version: 1,
	}
	if c.Name == "" {
		c.Name = c.Slug
	}
	var v validation
	v.slug("Slug", c.Slug)
	v.name("Name", c.Name)
	v.restrictions(c.Restrictions)
	return c, v.err()
}

func (v *validation) restrictions(r CertificateRestrictions) {
	if r.MinimumApprovals < 0 || r.MinimumApprovals > 100 {
		v.add("MinimumApprovals", "The minimum number of approvals must be between 0 and 100.")
	}
}

// signingAlgorithms names the key algorithms that some signing method takes: Authenticode knows no Ed25519.
func signingAlgorithms() string {
	var names []string
	for _, a := range certificate.KeyAlgorithms() {
		if a != certificate.Ed25519 {
			names = append(names, string(a))
		}
	}
	return strings.Join(names, ", ")
}

// sentence makes what package certificate says of a file a sentence for users.
func sentence(err error) string {
	text := strings.ReplaceAll(err.Error(), "certificate: ", "")
	first, size := utf8.DecodeRuneInString(text)
	return string(unicode.ToUpper(first)) + strings.TrimSuffix(text[size:], ".") + "."
}

// usable refuses a chain that can sign no code, now or ever.
func (s *Service) usable(chain []*x509.Certificate) error {
	if err := certificate.CheckUsage(chain[0]); err != nil {
		return Invalid("CertificateFile", "%s", sentence(err))
	}
	if !s.now().Before(chain[0].NotAfter) {
		return Invalid("CertificateFile", "The certificate expired on %s.", chain[0].NotAfter.Format(time.DateOnly))
	}
	return nil
}

// ImportPFX takes over a PKCS#12 file's private key and certificates.
func (s *Service) ImportPFX(ctx context.Context, a Actor, n NewCertificate, pfx []byte, password string) (*Certificate, error) {
	c, err := s.newCertificate(a, n, PfxImport)
	if err != nil {
		return nil, err
	}
	if len(pfx) > maxChain {
		return nil, Invalid("CertificateFile", "The PFX file has %d bytes; at most %d are allowed.", len(pfx), maxChain)
	}
	content, err := certificate.ParsePFX(pfx, password)
	if errors.Is(err, certificate.ErrWrongPassword) || errors.Is(err, certificate.ErrPasswordNeeded) {
		return nil, Invalid("Password", "%s", sentence(err))
	} else if err != nil {
		return nil, Invalid("CertificateFile", "%s", sentence(err))
	}
	if algorithm, err := certificate.AlgorithmOf(content.Key.Public()); err != nil || algorithm == certificate.Ed25519 {
		return nil, Invalid("CertificateFile", "The key is %s, which is not one of the key algorithms that sign code here: %s.", algorithm, signingAlgorithms())
	}
	if err := s.usable(content.Chain); err != nil {
		return nil, err
	}
	c.setChain(content.Chain)
	keyID, public, err := s.keys.Import(ctx, content.Key)
	if err != nil {
		return nil, fmt.Errorf("import the key: %w", err)
	}
	if err := s.storeWithKey(ctx, a, c, keyID, public, nil); err != nil {
		_ = s.keys.Delete(context.WithoutCancel(ctx), keyID)
		return nil, err
	}
	return c, nil
}

// UploadCertificate installs an issued certificate with its chain (PEM, DER or PKCS#7) for a certificate that Countersign
// holds the key of: a CSR's first one, or a renewal. Missing issuers are taken from the organization's other chains; nothing
// is fetched from the addresses in the certificates.
func (s *Service) UploadCertificate(ctx context.Context, a Actor, slug string, file []byte) (*Certificate, error) {
	return edit[Certificate]{
		event:  "Certificate.Uploaded",
		load:   func(tx Tx) (*Certificate, error) { return certificateBySlug(ctx, tx, a.OrganizationID, slug) },
		permit: func(Tx, *Certificate) error { return require(a, OpManageCertificates, scope{}) },
		apply: func(tx Tx, c *Certificate) error {
			if c.KeyDeletedAt != nil {
				return errKeyDeleted(c)
			}
			if len(file) > maxChain {
				return Invalid("CertificateFile", "The file has %d bytes; at most %d are allowed.", len(file), maxChain)
			}
			uploaded, err := certificate.Parse(file)
			if err != nil {
				return Invalid("CertificateFile", "%s", sentence(err))
			}
			public, err := publicKey(c)
			if err != nil {
				return err
			}
			pool, err := knownCertificates(ctx, tx, a.OrganizationID)
			if err != nil {
				return err
			}
			chain, err := certificate.Chain(public, uploaded, pool)
			if err != nil {
				return Invalid("CertificateFile", "%s", sentence(err))
			}
			if err := s.usable(chain); err != nil {
				return err
			}
			c.setChain(chain)
			return nil
		},
		update: func(tx Tx, c *Certificate) error {
			return s.recounting(ctx, tx, a, func() error { return tx.UpdateCertificate(ctx, c) })
		},
		current: func(c *Certificate) int { return c.Version },
		object:  certificateObject,
	}.run(ctx, s, a)
}

// publicKey returns the public key that a certificate or its signing request carries.
func publicKey(c *Certificate) (crypto.PublicKey, error) {
	if len(c.Chain) > 0 {
		leaf, err := x509.ParseCertificate(c.Chain[0])
		if err != nil {
			return nil, err
		}
		return leaf.PublicKey, nil
	}
	request, err := x509.ParseCertificateRequest(c.CSR)
	if err != nil {
		return nil, fmt.Errorf("read the certificate signing request: %w", err)
	}
	return request.PublicKey, nil
}

// knownCertificates returns every issuer certificate of the organization's chains.
func knownCertificates(ctx context.Context, tx Tx, org ID) ([]*x509.Certificate, error) {
	all, err := tx.Certificates(ctx, org)
	if err != nil {
		return nil, err
	}
	var pool []*x509.Certificate
	for _, c := range all {
		if len(c.Chain) < 2 {
			continue
		}
		issuers, err := parseChain(c.Chain[1:])
		if err != nil {
			return nil, err
		}
		pool = append(pool, issuers...)
	}
	return pool, nil
}

func (c *Certificate) setChain(chain []*x509.Certificate) {
	c.Chain = nil
	for _, cert := range chain {
		c.Chain = append(c.Chain, cert.Raw)
	}
	leaf := chain[0]
	c.Subject, c.Issuer = leaf.Subject.String(), leaf.Issuer.String()
	c.SerialNumber = leaf.SerialNumber.Text(16)
	c.NotBefore, c.NotAfter = leaf.NotBefore.UTC(), leaf.NotAfter.UTC()
}

// Thumbprint returns the leaf's SHA-256 in lower-case hexadecimal; empty without a certificate.
func (c *Certificate) Thumbprint() string {
	if len(c.Chain) == 0 {
		return ""
	}
	leaf, err := x509.ParseCertificate(c.Chain[0])
	if err != nil {
		return ""
	}
	return thumbprint(leaf)
}

// warnBefore is how long before a certificate expires people are warned.
const warnBefore = 30 * 24 * time.Hour

// ExpiryWarning says that a certificate expired or will within 30 days; empty when neither, when it was not issued yet, or when
// its key was deleted.
func (c *Certificate) ExpiryWarning(now time.Time) string {
	left := c.NotAfter.Sub(now)
	switch day := c.NotAfter.Format(time.DateOnly); {
	case len(c.Chain) == 0 || left > warnBefore || c.KeyDeletedAt != nil:
		return ""
	case left <= 0:
		return fmt.Sprintf("The certificate expired on %s: nothing is signed with it any more. Upload a renewed one.", day)
	default:
		return fmt.Sprintf("The certificate expires on %s, in %d days: upload a renewed one before.", day, int(left.Hours()/24))
	}
}

// Warnings says what is questionable about signing code with the certificate, other than its expiry: a short key, an
// incomplete chain.
func (c *Certificate) Warnings(now time.Time) []string {
	chain, err := parseChain(c.Chain)
	if err != nil { // not issued yet
		return nil
	}
	var texts []string
	for _, w := range certificate.Warnings(chain, now) {
		if w.Kind != certificate.WarnExpired && w.Kind != certificate.WarnExpiresSoon {
			texts = append(texts, w.Message)
		}
	}
	return texts
}

// CertificateEdit changes what is not nil.
type CertificateEdit struct {
	Slug         *string
	Name         *string
	Active       *bool
	Restrictions *CertificateRestrictions
	Version      int
	// EvenIfInUse deactivates a certificate that active policies use, such as one whose key was stolen.
	EvenIfInUse bool
}

// EditCertificate changes a certificate. New restrictions must hold for every active policy that uses it, and one that an
// active policy uses is deactivated only with EvenIfInUse: KindConflict names the policies.
func (s *Service) EditCertificate(ctx context.Context, a Actor, slug string, e CertificateEdit) (*Certificate, error) {
	return edit[Certificate]{
		event:  "Certificate.Edited",
		load:   func(tx Tx) (*Certificate, error) { return certificateBySlug(ctx, tx, a.OrganizationID, slug) },
		permit: func(Tx, *Certificate) error { return require(a, OpManageCertificates, scope{}) },
		apply: func(tx Tx, c *Certificate) error {
			was := c.Active
			if c.KeyDeletedAt != nil && e.Active != nil && *e.Active {
				return errKeyDeleted(c)
			}
			set(&c.Slug, e.Slug)
			set(&c.Name, e.Name)
			set(&c.Active, e.Active)
			set(&c.Restrictions, e.Restrictions)
			var v validation
			v.slug("Slug", c.Slug)
			v.name("Name", c.Name)
			v.restrictions(c.Restrictions)
			if err := v.err(); err != nil {
				return err
			}
			policies, err := tx.Policies(ctx, a.OrganizationID, PolicyFilter{CertificateID: c.ID})
			if err != nil {
				return err
			}
			for _, p := range policies {
				if missing := c.Restrictions.missing(p.Rules); p.Active && len(missing) > 0 {
					v.add("Restrictions", "Signing policy '%s' uses the certificate and lacks: %s.", p.Slug, strings.Join(missing, ", "))
				}
			}
			if err := v.err(); err != nil || !was || c.Active || e.EvenIfInUse {
				return err
			}
			uses, err := usesOfCertificate(ctx, tx, c, false)
			if err != nil {
				return err
			}
			return inUse(fmt.Sprintf("Certificate '%s'", c.Slug), uses, "Give them another certificate or deactivate them first."+evenSo)
		},
		update: func(tx Tx, c *Certificate) error {
			return taken(tx.UpdateCertificate(ctx, c), "Slug", "Another certificate has the slug '%s' already, or somebody changed this one meanwhile.", c.Slug)
		},
		version: e.Version, current: func(c *Certificate) int { return c.Version },
		object: certificateObject,
	}.run(ctx, s, a)
}

// Certificates lists the organization's certificates by name.
func (s *Service) Certificates(ctx context.Context, a Actor) (list []*Certificate, err error) {
	if err := require(a, OpListCertificates, scope{}); err != nil {
		return nil, err
	}
	err = s.store.View(ctx, func(tx Tx) error {
		list, err = tx.Certificates(ctx, a.OrganizationID)
		return err
	})
	return list, err
}

// Certificate returns a certificate by slug.
func (s *Service) Certificate(ctx context.Context, a Actor, slug string) (c *Certificate, err error) {
	if err := require(a, OpListCertificates, scope{}); err != nil {
		return nil, err
	}
	err = s.store.View(ctx, func(tx Tx) error {
		c, err = certificateBySlug(ctx, tx, a.OrganizationID, slug)
		return err
	})
	return c, err
}

func certificateBySlug(ctx context.Context, tx Tx, org ID, slug string) (*Certificate, error) {
	c, err := tx.CertificateBySlug(ctx, org, slug)
	if KindOf(err) == KindNotFound {
		return nil, Errorf(KindNotFound, "There is no certificate with slug '%s'.", truncate(slug, 100))
	}
	return c, err
}

// PolicyCertificate returns the certificate of a signing policy; who may read the project may read it, because it is
// in every file that the policy signs.
func (s *Service) PolicyCertificate(ctx context.Context, a Actor, project, policy string) (c *Certificate, err error) {
	err = s.store.View(ctx, func(tx Tx) error {
		p, err := s.visibleProject(ctx, tx, a, project)
		if err != nil {
			return err
		}
		pol, err := tx.PolicyBySlug(ctx, a.OrganizationID, p.ID, policy)
		if err != nil {
			return err
		}
		c, err = tx.Certificate(ctx, a.OrganizationID, pol.CertificateID)
		return err
	})
	return c, err
}

func certificateObject(c *Certificate) audit.Object {
	return audit.Object{Type: "Certificate", ID: string(c.ID), Name: c.Slug}
}
