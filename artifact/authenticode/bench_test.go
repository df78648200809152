package authenticode_test

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"os"
	"path/filepath"
	"testing"

	"github.com/countersign-dev/countersign/artifact/authenticode"
	"github.com/countersign-dev/countersign/artifact/authenticode/petest"
	"github.com/countersign-dev/countersign/artifact/cms/cmstest"
)

const largeSize = 100_000_000

// largeFile writes an image of 100 MB that does not compress.
func largeFile(b *testing.B) (*os.File, int64) {
	b.Helper()
	content := make([]byte, largeSize)
	if _, err := rand.Read(content); err != nil {
		b.Fatal(err)
	}
	path := filepath.Join(b.TempDir(), "large.exe")
	if err := os.WriteFile(path, petest.Image{Sections: [][]byte{content}}.Bytes(), 0o600); err != nil {
		b.Fatal(err)
	}
	file, err := os.Open(path)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { file.Close() })
	info, err := file.Stat()
	if err != nil {
		b.Fatal(err)
	}
	return file, info.Size()
}

// output opens the file that benchmarks write, empty.
func output(b *testing.B, path string) *os.File {
	b.Helper()
	file, err := os.Create(path)
	if err != nil {
		b.Fatal(err)
	}
	return file
}

// BenchmarkSignLarge signs 100 MB from file to file; compare with BenchmarkFloorLarge.
func BenchmarkSignLarge(b *testing.B) {
	src, size := largeFile(b)
	signer := cmstest.SelfSigned(b, "Publisher", "rsa3072")
	path := filepath.Join(b.TempDir(), "signed.exe")
	b.SetBytes(size)
	b.ReportAllocs()
	for b.Loop() {
		dst := output(b, path)
		if _, err := authenticode.SignPE(b.Context(), dst, src, size, options(signer)); err != nil {
			b.Fatal(err)
		}
		if err := dst.Close(); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkFloorLarge is the least that signing has to do, in one thread: read,
// hash, sum and write each octet once, and make one signature.
func BenchmarkFloorLarge(b *testing.B) {
	src, size := largeFile(b)
	signer := cmstest.SelfSigned(b, "Publisher", "rsa3072")
	path := filepath.Join(b.TempDir(), "copy.exe")
	buf := make([]byte, 256<<10)
	b.SetBytes(size)
	for b.Loop() {
		dst := output(b, path)
		hash := sha256.New()
		var sum uint64
		for at := int64(0); at < size; {
			n, err := src.ReadAt(buf[:min(int64(len(buf)), size-at)], at)
			if err != nil {
				b.Fatal(err)
			}
			hash.Write(buf[:n])
			for p := buf[:n]; len(p) >= 8; p = p[8:] {
				sum += binary.LittleEndian.Uint64(p)
			}
			if _, err := dst.WriteAt(buf[:n], at); err != nil {
				b.Fatal(err)
			}
			at += int64(n)
		}
		if _, err := signer.Key.Sign(rand.Reader, hash.Sum(nil), crypto.SHA256); err != nil || sum == 0 {
			b.Fatal(err)
		}
		if err := dst.Close(); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkVerifyLarge verifies a signed image of 100 MB.
func BenchmarkVerifyLarge(b *testing.B) {
	src, size := largeFile(b)
	signer := cmstest.SelfSigned(b, "Publisher", "rsa3072")
	signed := authenticode.NewBuffer(int(size) + 1<<16)
	if _, err := authenticode.SignPE(b.Context(), signed, src, size, options(signer)); err != nil {
		b.Fatal(err)
	}
	opts := authenticode.VerifyOptions{Roots: signer.Pool()}
	b.SetBytes(size)
	b.ReportAllocs()
	for b.Loop() {
		if report, err := authenticode.VerifyPE(b.Context(), signed, signed.Size(), opts); err != nil || report.Status != authenticode.StatusValid {
			b.Fatal(report, err)
		}
	}
}

// BenchmarkSignSmall signs images of 15 KB on all cores; compare with
// BenchmarkKey, which only uses the key.
func BenchmarkSignSmall(b *testing.B) {
	file := petest.Image{Sections: [][]byte{make([]byte, 14<<10)}}.Bytes()
	for _, kind := range []string{"rsa3072", "p256"} {
		b.Run(kind, func(b *testing.B) {
			signer := cmstest.SelfSigned(b, "Publisher", kind)
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					out := authenticode.NewBuffer(len(file) + 8<<10)
					if _, err := authenticode.SignPE(b.Context(), out, bytes.NewReader(file), int64(len(file)), options(signer)); err != nil {
						b.Error(err)
					}
				}
			})
		})
	}
}

func BenchmarkKey(b *testing.B) {
	for _, kind := range []string{"rsa3072", "p256"} {
		b.Run(kind, func(b *testing.B) {
			key, digest := cmstest.Key(b, kind), make([]byte, 32)
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					if _, err := key.Sign(rand.Reader, digest, crypto.SHA256); err != nil {
						b.Error(err)
					}
				}
			})
		})
	}
}
