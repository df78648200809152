// Package artifact is the signing engine. An artifact configuration, an XML
// document, says what of an artifact is signed, verified or left alone; a Plan
// is the outcome of applying it to one artifact; Sign carries a plan out, from
// the inside out; Verify checks what anybody signed.
//
// The engine takes a crypto.Signer, a certificate chain and a timestamper. It
// knows nothing of organizations, policies or where a key is kept, and it trusts
// no artifact: all that it reads is bounded by Limits.
package artifact

import (
	"crypto/x509"
	"io"
	"time"
)

// Source is a file that is read: an artifact to plan, sign, verify or analyze.
// Content must not change meanwhile and is read concurrently.
type Source struct {
	Name    string // file name, without directories
	Content io.ReaderAt
	Size    int64 // in bytes
}

// Output is an empty file that is written, in order or at offsets, and then
// read again to be verified. *os.File (opened for reading too) and *spool.Spool
// are Outputs.
type Output interface {
	io.Writer
	io.WriterAt
	io.ReaderAt
}

// Limits bound what an artifact may cost. A zero field means its default.
type Limits struct {
	Depth     int   // containers inside each other; default 8
	Files     int   // files of all containers together; default 250,000
	TotalSize int64 // bytes of all unpacked files together, default 64 GiB
	// Ratio is how many times larger than its compressed data a file may be,
	// once it is larger than 64 MiB; default 250.
	Ratio int64
}

func (l Limits) withDefaults() Limits {
	if l.Depth <= 0 {
		l.Depth = 8
	}
	if l.Files <= 0 {
		l.Files = 250_000
	}
	if l.TotalSize <= 0 {
		l.TotalSize = 64 << 30
	}
	if l.Ratio <= 0 {
		l.Ratio = 250
	}
	return l
}

// Workspace says with how much of the machine the engine may work. The zero
// value is usable.
type Workspace struct {
	Parallelism int    // files worked on at the same time; default the number of processors
	Memory      int64  // bytes of file content held in memory; default 64 MiB, the rest goes to TempDir
	TempDir     string // for temporary files; default os.TempDir
	Limits      Limits
	// Progress is told how far the work is, now and then, by one goroutine at a
	// time; it must return quickly. Nil for nobody.
	Progress func(Progress)
}

// Progress says how far a piece of work is.
type Progress struct {
	Done  int `json:"done"`  // files
	Total int `json:"total"` // files known so far; it grows while containers are opened
}

// Trust says which signatures that others made count as valid.
type Trust struct {
	Roots          *x509.CertPool // of the organization; nil for none
	TimestampRoots *x509.CertPool // Roots when nil
	SystemRoots    bool           // trust the operating system's roots too
	CurrentTime    time.Time      // now when zero
}
