package auth

import (
	"crypto/rand"
	"crypto/sha256"
	"hash/crc32"
	"math/big"
	"strings"
)

// A secret that Countersign makes is a prefix, 43 base62 digits that carry 256 random bits, and 6 base62 digits of the
// CRC-32 (IEEE) of everything before them: "csp_" and 49 letters and digits. Secret scanners recognise it without asking anybody,
// a mistyped or truncated one is told from an unknown one, and it needs no escaping in headers, URLs or shells.
const (
	prefixPersonal    = "csp_" // API token of an interactive user
	prefixCI          = "csc_" // API token of a CI user
	prefixBuildSystem = "cst_" // token of a trusted build system
	prefixInvitation  = "csi_" // code of an invitation

	bodyDigits     = 43 // 62^43 > 2^256
	checksumDigits = 6  // 62^6 > 2^32
	secretLength   = 4 + bodyDigits + checksumDigits
)

const base62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

func mint(prefix string) string {
	var raw [32]byte
	rand.Read(raw[:]) // never fails: it ends the program when the system has no randomness
	body := prefix + digits(new(big.Int).SetBytes(raw[:]), bodyDigits)
	return body + checksum(body)
}

// digits writes n in base 62, padded to width.
func digits(n *big.Int, width int) string {
	out := make([]byte, width)
	rest, base, digit := new(big.Int).Set(n), big.NewInt(62), new(big.Int)
	for i := width - 1; i >= 0; i-- {
		rest.DivMod(rest, base, digit)
		out[i] = base62[digit.Int64()]
	}
	return string(out)
}

func checksum(body string) string {
	return digits(big.NewInt(int64(crc32.ChecksumIEEE([]byte(body)))), checksumDigits)
}

// hasOwnPrefix reports whether the text claims to be a secret of the kind that mint makes.
func hasOwnPrefix(s string) bool {
	for _, p := range [...]string{prefixPersonal, prefixCI, prefixBuildSystem, prefixInvitation} {
		if strings.HasPrefix(s, p) {
			return true
		}
	}
	return false
}

// wellFormed reports whether mint could have made the text.
func wellFormed(s string) bool {
	if len(s) != secretLength || !hasOwnPrefix(s) {
		return false
	}
	body := s[:secretLength-checksumDigits]
	return s[len(body):] == checksum(body)
}

// hashOf is how a secret is stored. It carries 256 bits of entropy, so a fast hash suffices; and as rows are found by this
// hash, the time that a comparison takes tells nothing about the secret.
func hashOf(secret string) [32]byte { return sha256.Sum256([]byte(secret)) }
