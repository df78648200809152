package main

import (
	"archive/zip"
	"bufio"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	mathrand "math/rand/v2"
	"os"
	"time"

	"github.com/countersign-dev/countersign/artifact/authenticode/petest"
)

// random returns bytes that do not compress, the same for the same seed.
func random(n, seed int) []byte {
	b := make([]byte, n)
	_, _ = mathrand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8), byte(seed >> 16)}).Read(b) // never fails
	return b
}

// program returns a Windows program of about n bytes.
func program(n, seed int) []byte {
	return petest.Image{Sections: [][]byte{random(max(0, n-2048), seed)}}.Bytes()
}

// writeProgram writes a Windows program whose last n bytes are an overlay that is written piece by piece.
func writeProgram(path string, n int64) error {
	return write(path, func(w io.Writer) error {
		if _, err := w.Write(program(15<<10, 1)); err != nil {
			return err
		}
		return fill(w, n)
	})
}

// fill writes n bytes that do not compress.
func fill(w io.Writer, n int64) error {
	piece := random(1<<20, 7)
	for n > 0 {
		m, err := w.Write(piece[:min(n, int64(len(piece)))])
		if err != nil {
			return err
		}
		n -= int64(m)
	}
	return nil
}

func write(path string, content func(io.Writer) error) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	w := bufio.NewWriterSize(f, 1<<20)
	return errors.Join(content(w), w.Flush(), f.Close())
}

// member is a file of an archive.
type member struct {
	name   string
	stored bool // not compressed
	write  func(io.Writer) error
}

func writeArchive(path string, members []member) error {
	return write(path, func(w io.Writer) error {
		z := zip.NewWriter(w)
		for _, m := range members {
			method := zip.Deflate
			if m.stored {
				method = zip.Store
			}
			f, err := z.CreateHeader(&zip.FileHeader{Name: m.name, Method: method, Modified: time.Date(2026, 1, 2, 3, 4, 6, 0, time.UTC)})
			if err != nil {
				return err
			}
			if err := m.write(f); err != nil {
				return err
			}
		}
		return z.Close()
	})
}

func programs(count, size int) []member {
	members := make([]member, count)
	for i := range members {
		members[i] = member{name: fmt.Sprintf("bin/%d/app-%d.exe", i%16, i), write: func(w io.Writer) error {
			_, err := w.Write(program(size, i))
			return err
		}}
	}
	return members
}

// resources are files that are not signed, half of each random, half text.
func resources(count int, size int64) []member {
	members := make([]member, count)
	for i := range members {
		members[i] = member{name: fmt.Sprintf("share/%d/resource-%d.dat", i%64, i), write: func(w io.Writer) error {
			if err := fill(w, size/2); err != nil {
				return err
			}
			for left := size / 2; left > 0; {
				n, err := fmt.Fprintf(w, "line %d of resource %d: the quick brown fox jumps over the lazy dog\n", left, i)
				if err != nil {
					return err
				}
				left -= int64(n)
			}
			return nil
		}}
	}
	return members
}

// writeKey makes a key, RSA-3072 or ECDSA-P256, with a self-signed certificate for code signing.
func writeKey(key, certificate, algorithm string) error {
	var private crypto.Signer
	var err error
	if algorithm == "ECDSA-P256" {
		private, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	} else {
		private, err = rsa.GenerateKey(rand.Reader, 3072)
	}
	if err != nil {
		return err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Benchmark"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(1, 0, 0),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		return err
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return err
	}
	return errors.Join(
		os.WriteFile(key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8}), 0o600),
		os.WriteFile(certificate, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600),
	)
}
