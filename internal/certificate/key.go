package certificate

import (
	"bytes"
	"crypto"
	"crypto/aes"
	"crypto/cipher"
	"crypto/des"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/pbkdf2"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
	"hash"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

var (
	// ErrWrongPassword says that a file is encrypted and the password is not its
	// own.
	ErrWrongPassword = errors.New("certificate: the password is wrong")
	// ErrPasswordNeeded says that a file is encrypted and no password was given.
	ErrPasswordNeeded = errors.New("certificate: the file is encrypted; give its password")
	// ErrBroken says that a file is not what it should be, or is damaged.
	ErrBroken = errors.New("certificate: the file is damaged or of another kind")
	// ErrUnsupported says that a file is sound but of a kind that cannot be read.
	ErrUnsupported = errors.New("certificate: the file's format is not supported")
)

// maxIterations bounds the work that a file's key derivation may ask for.
const maxIterations = 5_000_000

// ParsePrivateKey reads a PEM or DER private key: PKCS#8 (RFC 5958), encrypted
// PKCS#8 with PBES2 (RFC 8018 section 6.2), PKCS#1 or SEC 1. The password is for
// encrypted keys only. PEM blocks that hold no private key are passed over. The
// result is an *rsa.PrivateKey, *ecdsa.PrivateKey or ed25519.PrivateKey. Errors
// wrap ErrWrongPassword, ErrPasswordNeeded, ErrBroken or ErrUnsupported.
func ParsePrivateKey(data []byte, password string) (crypto.Signer, error) {
	if len(data) > maxUpload {
		return nil, fmt.Errorf("%w: it has more than %d octets", ErrBroken, maxUpload)
	}
	if !bytes.Contains(data, pemBegin) {
		for _, kind := range []string{"PRIVATE KEY", "ENCRYPTED PRIVATE KEY", "RSA PRIVATE KEY", "EC PRIVATE KEY"} {
			key, err := parseKeyBlock(kind, data, password)
			if err == nil || !errors.Is(err, ErrBroken) {
				return key, err
			}
		}
		return nil, fmt.Errorf("%w: it is neither a PEM nor a DER private key", ErrBroken)
	}
	for rest := data; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			return nil, fmt.Errorf("%w: there is no whole PRIVATE KEY block in it", ErrBroken)
		}
		if block.Headers["DEK-Info"] != "" {
			return nil, fmt.Errorf("%w: the key is encrypted in OpenSSL's old PEM format; convert it with: openssl pkcs8 -topk8 -v2 aes-256-cbc -in FILE -out FILE.p8", ErrUnsupported)
		}
		switch block.Type {
		case "PRIVATE KEY", "ENCRYPTED PRIVATE KEY", "RSA PRIVATE KEY", "EC PRIVATE KEY":
			return parseKeyBlock(block.Type, block.Bytes, password)
		case "DSA PRIVATE KEY", "OPENSSH PRIVATE KEY", "PGP PRIVATE KEY BLOCK":
			return nil, fmt.Errorf("%w: a %s does not sign code; use an RSA, ECDSA or Ed25519 key in PKCS#8", ErrUnsupported, block.Type)
		}
	}
}

func parseKeyBlock(kind string, der []byte, password string) (crypto.Signer, error) {
	var key any
	var err error
	switch kind {
	case "RSA PRIVATE KEY":
		key, err = x509.ParsePKCS1PrivateKey(der)
	case "EC PRIVATE KEY":
		key, err = x509.ParseECPrivateKey(der)
	case "ENCRYPTED PRIVATE KEY":
		plain, decryptErr := decryptPKCS8(der, password)
		if decryptErr != nil {
			return nil, decryptErr
		}
		defer clear(plain)
		if key, err = x509.ParsePKCS8PrivateKey(plain); err != nil {
			// The padding was right by chance, the contents are not.
			return nil, ErrWrongPassword
		}
	default:
		key, err = x509.ParsePKCS8PrivateKey(der)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrBroken, err)
	}
	return signingKey(key)
}

// signingKey accepts the types of key that sign code.
func signingKey(key any) (crypto.Signer, error) {
	switch key := key.(type) {
	case *rsa.PrivateKey:
		return key, nil
	case *ecdsa.PrivateKey:
		return key, nil
	case ed25519.PrivateKey:
		return key, nil
	}
	return nil, fmt.Errorf("%w: a key of type %T does not sign code", ErrUnsupported, key)
}

var (
	oidPBES2  = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 5, 13}
	oidPBKDF2 = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 5, 12}
)

// pseudorandomFunctions are those of PBKDF2 (RFC 8018 appendix B.1).
var pseudorandomFunctions = map[string]func() hash.Hash{
	"1.2.840.113549.2.7":  sha1.New,
	"1.2.840.113549.2.9":  sha256.New,
	"1.2.840.113549.2.10": sha512.New384,
	"1.2.840.113549.2.11": sha512.New,
}

// contentCiphers are CBC ciphers (RFC 8018 appendix B.2, RFC 3565 section 4.1).
var contentCiphers = map[string]struct {
	keySize int
	block   func(key []byte) (cipher.Block, error)
}{
	"1.2.840.113549.3.7":      {24, des.NewTripleDESCipher},
	"2.16.840.1.101.3.4.1.2":  {16, aes.NewCipher},
	"2.16.840.1.101.3.4.1.22": {24, aes.NewCipher},
	"2.16.840.1.101.3.4.1.42": {32, aes.NewCipher},
}

// decryptPKCS8 opens an EncryptedPrivateKeyInfo (RFC 5958 section 3) and returns
// the PrivateKeyInfo.
func decryptPKCS8(der []byte, password string) ([]byte, error) {
	broken := func(what string) error { return fmt.Errorf("%w: %s", ErrBroken, what) }
	input := cryptobyte.String(der)
	var info, algorithm, encrypted cryptobyte.String
	var scheme asn1.ObjectIdentifier
	if !input.ReadASN1(&info, cbasn1.SEQUENCE) || !input.Empty() || !info.ReadASN1(&algorithm, cbasn1.SEQUENCE) ||
		!algorithm.ReadASN1ObjectIdentifier(&scheme) || !info.ReadASN1(&encrypted, cbasn1.OCTET_STRING) {
		return nil, broken("the EncryptedPrivateKeyInfo is malformed")
	}
	const convert = "convert it with: openssl pkcs8 -topk8 -v2 aes-256-cbc -in FILE -out FILE.p8"
	if !scheme.Equal(oidPBES2) {
		return nil, fmt.Errorf("%w: encryption scheme %v is not PBES2; %s", ErrUnsupported, scheme, convert)
	}
	var params, kdf, kdfParams, salt, encryption, iv cryptobyte.String
	var kdfOID, cipherOID asn1.ObjectIdentifier
	var iterations int
	if !algorithm.ReadASN1(&params, cbasn1.SEQUENCE) || !params.ReadASN1(&kdf, cbasn1.SEQUENCE) || !kdf.ReadASN1ObjectIdentifier(&kdfOID) {
		return nil, broken("the PBES2 parameters are malformed")
	}
	if !kdfOID.Equal(oidPBKDF2) {
		return nil, fmt.Errorf("%w: key derivation %v is not PBKDF2; %s", ErrUnsupported, kdfOID, convert)
	}
	if !kdf.ReadASN1(&kdfParams, cbasn1.SEQUENCE) || !kdfParams.ReadASN1(&salt, cbasn1.OCTET_STRING) || !kdfParams.ReadASN1Integer(&iterations) || !kdfParams.SkipOptionalASN1(cbasn1.INTEGER) {
		return nil, broken("the PBKDF2 parameters are malformed")
	}
	if iterations < 1 || iterations > maxIterations {
		return nil, fmt.Errorf("%w: %d PBKDF2 iterations are not between 1 and %d", ErrUnsupported, iterations, maxIterations)
	}
	function := sha1.New
	if !kdfParams.Empty() {
		var prf cryptobyte.String
		var prfOID asn1.ObjectIdentifier
		if !kdfParams.ReadASN1(&prf, cbasn1.SEQUENCE) || !prf.ReadASN1ObjectIdentifier(&prfOID) {
			return nil, broken("the PBKDF2 parameters are malformed")
		}
		if function = pseudorandomFunctions[prfOID.String()]; function == nil {
			return nil, fmt.Errorf("%w: PBKDF2 function %v; %s", ErrUnsupported, prfOID, convert)
		}
	}
	if !params.ReadASN1(&encryption, cbasn1.SEQUENCE) || !encryption.ReadASN1ObjectIdentifier(&cipherOID) {
		return nil, broken("the PBES2 parameters are malformed")
	}
	content, ok := contentCiphers[cipherOID.String()]
	if !ok {
		return nil, fmt.Errorf("%w: cipher %v; %s", ErrUnsupported, cipherOID, convert)
	}
	if password == "" {
		return nil, ErrPasswordNeeded
	}
	derived, err := pbkdf2.Key(function, password, salt, iterations, content.keySize)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnsupported, err)
	}
	defer clear(derived)
	block, err := content.block(derived)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnsupported, err)
	}
	if !encryption.ReadASN1(&iv, cbasn1.OCTET_STRING) || len(iv) != block.BlockSize() || len(encrypted) == 0 || len(encrypted)%block.BlockSize() != 0 {
		return nil, broken("the encrypted key has the wrong length")
	}
	plain := make([]byte, len(encrypted))
	cipher.NewCBCDecrypter(block, iv).CryptBlocks(plain, encrypted)
	padding := int(plain[len(plain)-1])
	if padding < 1 || padding > block.BlockSize() || !bytes.Equal(plain[len(plain)-padding:], bytes.Repeat([]byte{byte(padding)}, padding)) {
		return nil, ErrWrongPassword
	}
	return plain[:len(plain)-padding], nil
}
