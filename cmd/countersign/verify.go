package main

import (
	"bufio"
	"context"
	"crypto/x509"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/countersign-dev/countersign/artifact"
	"github.com/countersign-dev/countersign/artifact/authenticode"
	"github.com/countersign-dev/countersign/internal/certificate"
)

// trustFlags say which signatures of others count.
type trustFlags struct {
	CA          []string `name:"ca" help:"Trust the certificates in this PEM or DER file as roots, for signatures and timestamps; repeatable. The system's roots are then not trusted, unless --system-roots says so." type:"existingfile" env:"-" placeholder:"FILE"`
	SystemRoots bool     `help:"Trust the system's roots besides those of --ca." env:"-"`
}

// trust reads the roots.
func (t trustFlags) trust() (artifact.Trust, error) {
	if len(t.CA) == 0 {
		return artifact.Trust{SystemRoots: true}, nil
	}
	trust := artifact.Trust{Roots: x509.NewCertPool(), SystemRoots: t.SystemRoots}
	for _, path := range t.CA {
		raw, err := os.ReadFile(path)
		if err != nil {
			return artifact.Trust{}, err
		}
		certificates, err := certificate.Parse(raw)
		if err != nil {
			return artifact.Trust{}, &exitError{exitUsage, fmt.Errorf("read %s: %w", path, err)}
		}
		for _, c := range certificates {
			trust.Roots.AddCert(c)
		}
	}
	return trust, nil
}

type verifyCmd struct {
	trustFlags
	engineLimits
	machine
	Publisher string   `help:"Demand this signer: a pattern (*, ?) for the common name, organization or whole subject." env:"-" placeholder:"NAME"`
	File      []string `arg:"" help:"Files to verify, and directories, of which all files that can be signed are verified."`
}

// Help is shown by kong.
func (*verifyCmd) Help() string {
	return `Checks every signature of the files, of files in archives, too: that the content is what was signed, that the certificate leads to a trusted root, and the timestamp.

    countersign verify app-signed.exe
    countersign verify --ca company-root.pem --publisher "Acme *" dist/

A file is valid when it, or what is in it, is signed, and every signature is valid.
--json writes {"valid": ..., "files": [...]}, each file with path, type, size, sha256, status, worst, report (signatures, digests, problems), problems and files.` +
		localExitCodes("a file is not validly signed")
}

// Validate is called by kong.
func (v *verifyCmd) Validate() error { return v.check() }

// verdict is the JSON of verify.
type verdict struct {
	Valid bool                     `json:"valid"`
	Files []*artifact.VerifyReport `json:"files"`
}

// Run verifies.
func (v *verifyCmd) Run(ctx context.Context, io console) error {
	trust, err := v.trust()
	if err != nil {
		return err
	}
	result := verdict{Valid: true, Files: []*artifact.VerifyReport{}}
	err = v.walk(func(path string, named bool) error {
		report, err := verifyFile(ctx, path, artifact.VerifyOptions{Workspace: v.workspace(), Trust: trust, Publisher: v.Publisher})
		if err != nil {
			return fmt.Errorf("verify %s: %w", path, err)
		}
		if !named && report.Worst == "" {
			return nil
		}
		report.Path = path
		result.Files = append(result.Files, report)
		result.Valid = result.Valid && report.Worst == authenticode.StatusValid
		if !v.JSON {
			t := reportText{bufio.NewWriter(io.out), colour(io.out)}
			t.file(report, "", "")
			t.verdict(report)
			return t.w.Flush()
		}
		return nil
	})
	if err != nil {
		return err
	}
	if len(result.Files) == 0 {
		return &exitError{exitFailure, fmt.Errorf("nothing below %s can be signed", strings.Join(v.File, ", "))}
	}
	if v.JSON {
		if err := writeJSON(io.out, result); err != nil {
			return err
		}
	}
	if !result.Valid {
		return &exitError{code: exitFailure}
	}
	return nil
}

// walk calls check for each file; named tells whether the user named it, or a directory with it.
func (v *verifyCmd) walk(check func(path string, named bool) error) error {
	for _, root := range v.File {
		if info, err := os.Stat(root); err != nil {
			return &exitError{exitUsage, err}
		} else if !info.IsDir() {
			if err := check(root, true); err != nil {
				return err
			}
			continue
		}
		err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
			if err != nil || !d.Type().IsRegular() {
				return err
			}
			return check(path, false)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// verifyFile verifies one file.
func verifyFile(ctx context.Context, path string, o artifact.VerifyOptions) (*artifact.VerifyReport, error) {
	src, done, err := openSource(path)
	if err != nil {
		return nil, err
	}
	defer done()
	return artifact.Verify(ctx, src, o)
}

// reportText writes verification reports for people.
type reportText struct {
	w      *bufio.Writer
	colour bool
}

const (
	ansiRed   = "\x1b[31m"
	ansiGreen = "\x1b[32m"
	ansiDim   = "\x1b[2m"
	ansiReset = "\x1b[0m"
)

func (t *reportText) paint(ansi, s string) string {
	if !t.colour {
		return s
	}
	return ansi + s + ansiReset
}

func (t *reportText) status(s authenticode.Status) string {
	if s == authenticode.StatusValid {
		return t.paint(ansiGreen, string(s))
	}
	return t.paint(ansiRed, string(s))
}

// file writes one file with those in it. first and rest are what stands before its first line and the others.
func (t *reportText) file(r *artifact.VerifyReport, first, rest string) {
	fmt.Fprintf(t.w, "%s%s", first, printable(r.Path))
	if r.Type != "" {
		fmt.Fprintf(t.w, "  %s", t.paint(ansiDim, r.Type))
	}
	if r.Status != "" {
		fmt.Fprintf(t.w, "  %s", t.status(r.Status))
	}
	fmt.Fprintln(t.w)
	stem := rest + "  "
	if len(r.Files) > 0 {
		stem = rest + "│ "
	}
	for _, p := range r.Problems {
		fmt.Fprintf(t.w, "%s%s %s\n", stem, t.paint(ansiRed, "✗"), printable(p))
	}
	if r.Report != nil {
		t.problems(stem, r.Report.Problems)
		for i := range r.Report.Signatures {
			t.signature(stem, &r.Report.Signatures[i])
		}
	}
	for i, nested := range r.Files {
		if i == len(r.Files)-1 {
			t.file(nested, rest+"└ ", rest+"  ")
		} else {
			t.file(nested, rest+"├ ", rest+"│ ")
		}
	}
}

func (t *reportText) signature(stem string, s *authenticode.Signature) {
	signer := "unknown signer"
	if s.Signer != nil {
		signer = s.Signer.Subject
	}
	kind := "signed by"
	if s.Nested {
		kind = "also signed by"
	}
	line := kind + " " + printable(signer)
	if s.HashAlgorithm != "" { // of a signature that can be read
		line += ", " + s.HashAlgorithm
	}
	fmt.Fprintf(t.w, "%s%s, %s\n", stem, line, t.status(s.Status))
	for i, c := range s.Chain {
		if i > 0 {
			fmt.Fprintf(t.w, "%s  issued by %s\n", stem, printable(c.Subject))
		}
	}
	if s.Timestamp != nil {
		by := ""
		if s.Timestamp.Authority != nil {
			by = " by " + printable(s.Timestamp.Authority.Subject)
		}
		fmt.Fprintf(t.w, "%s  timestamp %s%s\n", stem, s.Timestamp.Time.UTC().Format("2006-01-02 15:04:05 MST"), by)
	}
	t.problems(stem+"  ", s.Problems)
}

func (t *reportText) problems(stem string, list []authenticode.Problem) {
	for _, p := range list {
		if p.Warning {
			fmt.Fprintf(t.w, "%s! %s\n", stem, printable(p.Message))
		} else {
			fmt.Fprintf(t.w, "%s%s %s\n", stem, t.paint(ansiRed, "✗"), printable(p.Message))
		}
	}
}

// verdict writes the last line about a file that was named.
func (t *reportText) verdict(r *artifact.VerifyReport) {
	switch r.Worst {
	case authenticode.StatusValid:
		fmt.Fprintf(t.w, "%s %s\n", t.paint(ansiGreen, "✓ valid:"), printable(r.Path))
	case "":
		fmt.Fprintf(t.w, "%s %s: nothing in it can be signed, as far as this version knows\n", t.paint(ansiRed, "✗ not valid:"), printable(r.Path))
	default:
		fmt.Fprintf(t.w, "%s %s: %s\n", t.paint(ansiRed, "✗ not valid:"), printable(r.Path), r.Worst)
	}
}
