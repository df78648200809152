package main

import (
	"crypto"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/countersign-dev/countersign/internal/certificate"
)

// demoPKI is the demo's own certificate authority, with its timestamp authority. Its keys are files below the demo's
// data directory: nobody but the demo's user trusts them.
type demoPKI struct {
	root           *x509.Certificate
	rootKey        crypto.Signer
	timestampKey   crypto.Signer
	timestampChain []*x509.Certificate
}

// openDemoPKI reads the authorities from a directory, making them on the first start.
func openDemoPKI(dir string) (*demoPKI, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	p := &demoPKI{}
	root, err := openKeyPair(dir, "root", func(key crypto.Signer) (*x509.Certificate, error) {
		return certificate.SelfSign(key, demoTemplate("Countersign demo root CA", certificate.Authority, 20))
	})
	if err != nil {
		return nil, err
	}
	p.root, p.rootKey = root.leaf, root.key
	stamp, err := openKeyPair(dir, "timestamp", func(key crypto.Signer) (*x509.Certificate, error) {
		return certificate.Issue(p.root, p.rootKey, key.Public(), demoTemplate("Countersign demo timestamp authority", certificate.Timestamping, 15))
	})
	if err != nil {
		return nil, err
	}
	p.timestampKey, p.timestampChain = stamp.key, []*x509.Certificate{stamp.leaf, p.root}
	return p, nil
}

func demoTemplate(name string, usage certificate.Usage, years int) certificate.Template {
	return certificate.Template{
		Subject:   pkix.Name{CommonName: name, Organization: []string{"Countersign demo"}}.ToRDNSequence(),
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(years, 0, 0), Usage: usage,
	}
}

type keyPair struct {
	key  crypto.Signer
	leaf *x509.Certificate
}

// openKeyPair reads NAME.pem, a private key followed by its certificate, or makes it.
func openKeyPair(dir, name string, issue func(crypto.Signer) (*x509.Certificate, error)) (*keyPair, error) {
	path := filepath.Join(dir, name+".pem")
	raw, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return makeKeyPair(path, issue)
	} else if err != nil {
		return nil, err
	}
	key, err := certificate.ParsePrivateKey(raw, "")
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	for rest := raw; ; {
		var b *pem.Block
		if b, rest = pem.Decode(rest); b == nil {
			return nil, fmt.Errorf("read %s: no certificate in it", path)
		} else if b.Type == "CERTIFICATE" {
			leaf, err := x509.ParseCertificate(b.Bytes)
			return &keyPair{key, leaf}, err
		}
	}
}

func makeKeyPair(path string, issue func(crypto.Signer) (*x509.Certificate, error)) (*keyPair, error) {
	key, err := certificate.GenerateKey(certificate.RSA3072)
	if err != nil {
		return nil, err
	}
	leaf, err := issue(key)
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	content := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
	return &keyPair{key, leaf}, writeFileWhole(path, append(content, encodeCertificate(leaf.Raw)...))
}

func encodeCertificate(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

// issue answers a certificate signing request with PEM of the certificate and its issuer.
func (p *demoPKI) issue(csr []byte, notAfter time.Time) ([]byte, error) {
	request, err := x509.ParseCertificateRequest(csr)
	if err != nil {
		return nil, err
	}
	if err := request.CheckSignature(); err != nil {
		return nil, fmt.Errorf("certificate signing request: %w", err)
	}
	leaf, err := certificate.Issue(p.root, p.rootKey, request.PublicKey, certificate.Template{
		Subject: request.Subject.ToRDNSequence(), NotBefore: time.Now().Add(-time.Hour), NotAfter: notAfter, Usage: certificate.CodeSigning,
	})
	if err != nil {
		return nil, err
	}
	return append(encodeCertificate(leaf.Raw), encodeCertificate(p.root.Raw)...), nil
}
