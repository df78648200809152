package authenticode

import (
	"context"
	"crypto"
	"errors"
	"io"
)

// Result describes a signed image.
type Result struct {
	Size      int64       // of the signed file
	Hash      crypto.Hash // of Digest
	Digest    []byte      // Authenticode digest of the image
	Checksum  uint32      // OptionalHeader.CheckSum of the signed file
	Signature []byte      // DER of the new signature, a ContentInfo
}

// SignPE reads an image of size octets from src once, and writes the signed
// image to dst, which must be empty. Memory use does not depend on size.
//
// A file that is no PE image, or whose headers lie, gives a *FormatError.
// When SignPE fails, what dst holds is of no use.
func SignPE(ctx context.Context, dst io.WriterAt, src io.ReaderAt, size int64, opts Options) (*Result, error) {
	return nil, errors.New("authenticode: not implemented")
}

// Buffer is a file in memory: an io.WriterAt and io.ReaderAt that grows as it is written.
// The zero value is empty and ready for use.
type Buffer struct{ b []byte }

// Bytes returns what was written, valid until the next write.
func (b *Buffer) Bytes() []byte { return b.b }

// WriteAt implements io.WriterAt.
func (b *Buffer) WriteAt(p []byte, off int64) (int, error) {
	return 0, errors.New("authenticode: not implemented")
}

// ReadAt implements io.ReaderAt.
func (b *Buffer) ReadAt(p []byte, off int64) (int, error) {
	return 0, errors.New("authenticode: not implemented")
}

// OnlySignatureChanged proves that signed differs from unsigned in nothing but
// what a signature consists of: the CheckSum field, the security directory
// entry, the certificate table at the end and up to 7 zero octets before it.
// unsigned may itself be signed; its certificate table is not compared.
// A difference is reported as a *ChangeError.
func OnlySignatureChanged(ctx context.Context, unsigned io.ReaderAt, unsignedSize int64, signed io.ReaderAt, signedSize int64) error {
	return errors.New("authenticode: not implemented")
}

// ChangeError reports a difference beyond the signature.
type ChangeError struct {
	Offset int64 // of the first octet that differs
	Reason string
}

func (e *ChangeError) Error() string { return e.Reason }
