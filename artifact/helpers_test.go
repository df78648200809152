package artifact

import (
	"archive/zip"
	"bytes"
	"compress/flate"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/binary"
	"encoding/pem"
	"io"
	"math/big"
	mathrand "math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"
	"unicode/utf16"
)

// makePE makes a PE32+ image of at least size bytes with one section and, when
// version is not nil, a version resource. The seed makes images differ.
func makePE(size int, seed uint64, version map[string]string) []byte {
	const headers, sectionAt = 0x200, 0x200
	section := make([]byte, max((size-headers+511)&^511, 512))
	random := mathrand.New(mathrand.NewPCG(seed, 1))
	for i := 0; i+8 <= len(section); i += 16 { // half random, so that it compresses a bit
		binary.LittleEndian.PutUint64(section[i:], random.Uint64())
	}
	var resource []byte
	if version != nil {
		resource = versionResource(version, 0x1000)
		if len(resource) > len(section) {
			section = make([]byte, (len(resource)+511)&^511)
		}
		copy(section, resource)
	}
	image := make([]byte, headers)
	le := binary.LittleEndian
	copy(image, "MZ")
	le.PutUint32(image[0x3c:], 0x40)
	copy(image[0x40:], "PE\x00\x00")
	coff := image[0x44:]
	le.PutUint16(coff[0:], 0x8664)
	le.PutUint16(coff[2:], 1)    // sections
	le.PutUint16(coff[16:], 240) // SizeOfOptionalHeader
	le.PutUint16(coff[18:], 0x22)
	opt := coff[20:]
	le.PutUint16(opt[0:], 0x20b)
	le.PutUint64(opt[24:], 0x140000000)
	le.PutUint32(opt[32:], 0x1000) // SectionAlignment
	le.PutUint32(opt[36:], 0x200)  // FileAlignment
	le.PutUint32(opt[56:], uint32(0x1000+(len(section)+0xfff)&^0xfff))
	le.PutUint32(opt[60:], headers)
	le.PutUint16(opt[68:], 3)
	le.PutUint32(opt[108:], 16)
	if resource != nil {
		le.PutUint32(opt[112+2*8:], 0x1000)
		le.PutUint32(opt[112+2*8+4:], uint32(len(resource)))
	}
	header := opt[240:]
	copy(header, ".rsrc")
	le.PutUint32(header[8:], uint32(len(section)))
	le.PutUint32(header[12:], 0x1000)
	le.PutUint32(header[16:], uint32(len(section)))
	le.PutUint32(header[20:], sectionAt)
	le.PutUint32(header[36:], 0x40000040)
	return append(image, section...)
}

// versionResource makes a resource directory with one VS_VERSIONINFO.
func versionResource(values map[string]string, address uint32) []byte {
	le := binary.LittleEndian
	node := func(key string, text bool, value []byte, children ...[]byte) []byte {
		b := make([]byte, 6)
		for _, u := range append(utf16.Encode([]rune(key)), 0) {
			b = le.AppendUint16(b, u)
		}
		pad := func() {
			for len(b)%4 != 0 {
				b = append(b, 0)
			}
		}
		pad()
		b = append(b, value...)
		length := len(value)
		if text {
			length /= 2
			le.PutUint16(b[4:], 1)
		}
		le.PutUint16(b[2:], uint16(length))
		for _, c := range children {
			pad()
			b = append(b, c...)
		}
		le.PutUint16(b, uint16(len(b)))
		return b
	}
	var texts [][]byte
	for _, key := range []string{"ProductName", "ProductVersion", "FileVersion", "CompanyName", "LegalCopyright", "OriginalFilename"} {
		if v, ok := values[key]; ok {
			var value []byte
			for _, u := range append(utf16.Encode([]rune(v)), 0) {
				value = le.AppendUint16(value, u)
			}
			texts = append(texts, node(key, true, value))
		}
	}
	fixed := make([]byte, 52)
	le.PutUint32(fixed[0:], 0xfeef04bd)
	le.PutUint32(fixed[4:], 0x10000)
	le.PutUint32(fixed[8:], 1<<16|2)
	le.PutUint32(fixed[12:], 3<<16|4)
	le.PutUint32(fixed[16:], 1<<16|2)
	le.PutUint32(fixed[20:], 3<<16|4)
	info := node("VS_VERSION_INFO", false, fixed, node("StringFileInfo", true, nil, node("040904b0", true, nil, texts...)))

	b := make([]byte, 3*24+16)
	for level, id := range []uint32{16, 1, 0x409} {
		directory := b[level*24:]
		le.PutUint16(directory[14:], 1)
		le.PutUint32(directory[16:], id)
		next := uint32((level + 1) * 24)
		if level < 2 {
			next |= 1 << 31
		}
		le.PutUint32(directory[20:], next)
	}
	le.PutUint32(b[72:], address+uint32(len(b)))
	le.PutUint32(b[76:], uint32(len(info)))
	return append(b, info...)
}

// zipFile is an entry for makeZIP.
type zipFile struct {
	name    string
	content []byte
	stored  bool
	link    bool
}

func makeZIP(t testing.TB, files ...zipFile) []byte {
	t.Helper()
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	w.RegisterCompressor(zip.Deflate, func(w io.Writer) (io.WriteCloser, error) { return flate.NewWriter(w, 1) })
	for _, f := range files {
		h := &zip.FileHeader{Name: f.name, Method: zip.Deflate, Modified: time.Date(2026, 1, 2, 3, 4, 6, 0, time.UTC)}
		h.SetMode(0o644)
		if f.link {
			h.SetMode(os.ModeSymlink | 0o777)
		}
		if f.stored || f.name[len(f.name)-1] == '/' {
			h.Method = zip.Store
		}
		e, err := w.CreateHeader(h)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := e.Write(f.content); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// identity is a key with a self-signed certificate.
type identity struct {
	key   crypto.Signer
	chain []*x509.Certificate
}

func (i identity) pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(i.chain[0])
	return pool
}

// file writes the certificate as PEM, for other programs.
func (i identity) file(t testing.TB) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(name, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: i.chain[0].Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

var ecdsaIdentity = sync.OnceValue(func() identity {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	return selfSigned(key, "Acme, Inc.")
})

var rsaIdentity = sync.OnceValue(func() identity {
	key, err := rsa.GenerateKey(rand.Reader, 3072)
	if err != nil {
		panic(err)
	}
	return selfSigned(key, "Acme RSA")
})

func selfSigned(key crypto.Signer, name string) identity {
	template := &x509.Certificate{
		SerialNumber:          big.NewInt(time.Now().UnixNano()),
		Subject:               pkix.Name{CommonName: name, Organization: []string{"Acme"}},
		NotBefore:             time.Now().Add(-time.Hour),
		NotAfter:              time.Now().Add(24 * time.Hour),
		KeyUsage:              x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning},
		BasicConstraintsValid: true,
		IsCA:                  true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		panic(err)
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		panic(err)
	}
	return identity{key, []*x509.Certificate{certificate}}
}

func mustParse(t testing.TB, text string) *Configuration {
	t.Helper()
	c, err := ParseConfiguration([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// configure wraps elements into a document.
func configure(inner string) string {
	return `<artifact-configuration xmlns="` + Namespace + `">` + inner + `</artifact-configuration>`
}

func bytesSource(name string, content []byte) Source {
	return Source{Name: name, Content: bytes.NewReader(content), Size: int64(len(content))}
}

// outputFile is an Output that is removed after the test.
func outputFile(t testing.TB) *os.File {
	t.Helper()
	f, err := os.CreateTemp(t.TempDir(), "signed")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// vendorIdentity is somebody else, whose files are in the artifacts.
var vendorIdentity = sync.OnceValue(func() identity {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	return selfSigned(key, "Vendor")
})
