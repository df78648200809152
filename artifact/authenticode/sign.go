package authenticode

import (
	"bytes"
	"context"
	"crypto"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"

	"github.com/countersign-dev/countersign/artifact/cms"
)

// Values of WIN_CERTIFICATE ("PE Format", "The Attribute Certificate Table").
const (
	certificateHeaderSize = 8
	certificateRevision2  = 0x0200
	certificatePKCSSigned = 0x0002
	certificateAlignment  = 8
	maxCertificateTable   = 16 << 20 // that is read into memory
	maxCertificates       = 64       // entries of a certificate table
)

// Result describes a signed image. The digest of the whole signed file is not
// known here: what its header says comes out of the pass over the file's end.
type Result struct {
	Size      int64       // of the signed file
	Hash      crypto.Hash // of Digest
	Digest    []byte      // Authenticode digest of the image
	Checksum  uint32      // OptionalHeader.CheckSum of the signed file
	Signature []byte      // DER of the new signature, a ContentInfo
}

// File is where a signed file is written. What was written is read again, by
// another goroutine than the one that writes what comes behind it.
type File interface {
	io.WriterAt
	io.ReaderAt
}

// SignPE reads an image of size octets from src once, and writes the signed
// image to dst, which must be empty and not src itself. Memory use, some 2 MiB,
// does not depend on size.
//
// What it returns is proven: it reads what it wrote, right behind the writing,
// and fails with a *ProofError unless dst holds an image with that digest, that
// checksum and an intact signature of it.
//
// An existing signature is replaced, or kept and given a nested one when
// opts.Append is set; an EFI image gets a further entry of its certificate table
// instead. Data behind the last section (an overlay) is signed with the
// rest; the file is padded with zeroes to a multiple of 8. A file that is no PE
// image, whose headers lie, or which has data behind its certificate table gives
// a *FormatError. When SignPE fails, what dst holds is of no use.
func SignPE(ctx context.Context, dst File, src io.ReaderAt, size int64, opts Options) (*Result, error) {
	signOptions, err := opts.cms()
	if err != nil {
		return nil, err
	}
	img, err := parseImage(src, size)
	if err != nil {
		return nil, err
	}
	var existing []certificateEntry
	if opts.Append && img.signed() {
		if existing, err = img.signatures(src); err != nil {
			return nil, err
		}
		if img.tableAt%certificateAlignment != 0 {
			return nil, &FormatError{img.securityAt, "security directory", fmt.Sprintf("puts the certificate table at 0x%x, which is no multiple of 8; a further signature would break the existing one, so replace it instead", img.tableAt)}
		}
	}

	h, proof := opts.hash().New(), opts.hash().New()
	echo := chunkPool.Get().(*chunk)
	defer chunkPool.Put(echo)
	var sum checksum
	write := func(p []byte, at int64) error {
		sum.add(p)
		_, err := dst.WriteAt(p, at)
		return err
	}
	if err := stream(ctx, src, img.tableAt, mask(img.checksumField(), img.securityField()), line{img.digest(h)}, line{write, readBack(dst, echo.buf, img.digest(proof))}); err != nil {
		return nil, err
	}
	padding := make([]byte, -img.tableAt&(certificateAlignment-1))
	h.Write(padding)
	proof.Write(padding) // of which prove makes sure

	result := &Result{Hash: opts.hash(), Digest: h.Sum(nil)}
	if result.Signature, err = sign(ctx, PEImage(), result.Digest, signOptions); err != nil {
		return nil, err
	}
	table, err := img.marshalTable(existing, result.Signature)
	if err != nil {
		return nil, err
	}
	tableAt := img.tableAt + int64(len(padding))
	result.Size = tableAt + int64(len(table))
	if result.Size > math.MaxUint32 {
		return nil, &FormatError{img.tableAt, "certificate table", "ends behind 4 GiB, where offsets in a PE image end"}
	}
	var security [8]byte
	binary.LittleEndian.PutUint32(security[:4], uint32(tableAt))
	binary.LittleEndian.PutUint32(security[4:], uint32(len(table)))
	sum.add(table)
	sum.addAt(security[:], img.securityAt)
	result.Checksum = sum.value(result.Size)

	patches := []patch{
		{append(padding, table...), img.tableAt},
		{security[:], img.securityAt},
		{binary.LittleEndian.AppendUint32(nil, result.Checksum), img.checksumAt},
	}
	for _, p := range patches {
		if _, err := dst.WriteAt(p.octets, p.at); err != nil {
			return nil, fmt.Errorf("pe: writing at offset 0x%x: %w", p.at, err)
		}
	}
	return result, img.prove(dst, result, proof.Sum(nil), patches, cms.SelfChecking(opts.Key))
}

// A patch is what is written over the copy of an image to make it a signed one.
type patch struct {
	octets []byte
	at     int64
}

// ProofError says that a file that was just signed is not what was to be
// written, or that its signature does not hold. It must not be used.
type ProofError struct{ Reason string }

func (e *ProofError) Error() string {
	return "pe: the signed file does not verify: " + e.Reason
}

// prove makes sure that file is the signed image. digest was computed of what
// the file held before the patches. Since each of them is found in its place, none
// has changed what the digest covers. selfChecked tells that who made the signature has
// verified it.
func (img *image) prove(file io.ReaderAt, made *Result, digest []byte, patches []patch, selfChecked bool) error {
	for _, p := range patches {
		written := make([]byte, len(p.octets))
		if err := readFull(file, written, p.at, "signed file"); err != nil {
			return err
		}
		if !bytes.Equal(written, p.octets) {
			return &ProofError{fmt.Sprintf("the %d octets at offset 0x%x are not those that were written there", len(written), p.at)}
		}
	}
	signed, err := parseImage(file, made.Size)
	switch {
	case err != nil:
		return &ProofError{err.Error()}
	case signed.checksumAt != img.checksumAt || signed.securityAt != img.securityAt || signed.tableAt+signed.tableSize != made.Size:
		return &ProofError{"its headers are laid out differently"}
	case !bytes.Equal(digest, made.Digest):
		return &ProofError{fmt.Sprintf("its %v digest is %x, signed is %x", made.Hash, digest, made.Digest)}
	}
	signature := parseCandidates(made.Signature)[0]
	if signature.err != nil {
		return &ProofError{signature.err.Error()}
	}
	if !bytes.Equal(signature.indirect.Digest, digest) || signature.indirect.Hash != made.Hash {
		return &ProofError{fmt.Sprintf("the signature is for the %v digest %x", signature.indirect.Hash, signature.indirect.Digest)}
	}
	signer := signature.sd.Signers[0]
	check := signature.sd.CheckSignature
	if selfChecked {
		check = signature.sd.CheckDigest
	}
	if _, err := check(signer, nil); err != nil {
		return &ProofError{err.Error()}
	}
	// Whether an authority is trusted is for others to say.
	var chain *cms.ChainError
	if _, err := signature.sd.Timestamp(signer); err != nil && !errors.Is(err, cms.ErrNoTimestamp) && !errors.As(err, &chain) {
		return &ProofError{err.Error()}
	}
	return nil
}

// certificateEntry is one WIN_CERTIFICATE with a PKCS#7 signature.
type certificateEntry struct {
	at   int64 // offset in the file
	blob []byte
}

// signatures reads the certificate table. Most images have one entry; EFI images
// may have several.
func (img *image) signatures(src io.ReaderAt) ([]certificateEntry, error) {
	if img.tableSize > maxCertificateTable {
		return nil, &FormatError{img.securityAt, "security directory", fmt.Sprintf("has a size of %d octets; more than %d are not read", img.tableSize, maxCertificateTable)}
	}
	table := make([]byte, img.tableSize)
	if err := readFull(src, table, img.tableAt, "certificate table"); err != nil {
		return nil, err
	}
	var entries []certificateEntry
	for at := int64(0); at < img.tableSize; {
		field := &FormatError{Offset: img.tableAt + at, Field: "WIN_CERTIFICATE"}
		left := img.tableSize - at
		if left < certificateHeaderSize {
			field.Reason = fmt.Sprintf("has %d octets; its header alone has %d", left, certificateHeaderSize)
			return nil, field
		}
		length := int64(binary.LittleEndian.Uint32(table[at:]))
		revision := binary.LittleEndian.Uint16(table[at+4:])
		kind := binary.LittleEndian.Uint16(table[at+6:])
		switch {
		case length < certificateHeaderSize || length > left:
			field.Reason = fmt.Sprintf("dwLength is %d, with %d octets left in the certificate table", length, left)
			return nil, field
		case kind != certificatePKCSSigned:
			field.Reason = fmt.Sprintf("wCertificateType is 0x%x; only PKCS#7 SignedData (0x2) is known", kind)
			return nil, field
		case revision != certificateRevision2:
			field.Reason = fmt.Sprintf("wRevision is 0x%x; only 0x200 is known", revision)
			return nil, field
		case len(entries) == maxCertificates:
			field.Reason = fmt.Sprintf("is one of more than %d", maxCertificates)
			return nil, field
		}
		entries = append(entries, certificateEntry{img.tableAt + at, table[at+certificateHeaderSize : at+length]})
		at += (length + certificateAlignment - 1) &^ (certificateAlignment - 1)
	}
	return entries, nil
}

// marshalTable makes a certificate table with the signature and those that exist.
// Windows looks for further signatures inside the first one, where a new one is
// nested. EFI firmware does not look there, but at each entry of the table (UEFI
// specification section 32.2.4), so an EFI image gets a further entry.
func (img *image) marshalTable(existing []certificateEntry, signature []byte) ([]byte, error) {
	var blobs [][]byte
	for _, e := range existing {
		blobs = append(blobs, e.blob)
	}
	if len(existing) == 0 || img.efi() {
		blobs = append(blobs, signature)
	} else {
		first, _, err := cms.ParsePrefix(blobs[0])
		if err != nil {
			return nil, fmt.Errorf("pe: the existing signature at offset 0x%x cannot be appended to: %w", existing[0].at, err)
		}
		if blobs[0], err = Nest(first, signature); err != nil {
			return nil, err
		}
	}
	var table []byte
	for _, blob := range blobs {
		// dwLength counts the padding, as signtool has it.
		padding := -len(blob) & (certificateAlignment - 1)
		table = binary.LittleEndian.AppendUint32(table, uint32(certificateHeaderSize+len(blob)+padding))
		table = binary.LittleEndian.AppendUint16(table, certificateRevision2)
		table = binary.LittleEndian.AppendUint16(table, certificatePKCSSigned)
		table = append(table, blob...)
		table = append(table, make([]byte, padding)...)
	}
	return table, nil
}
