package main

import (
	"context"
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"

	"github.com/countersign-dev/countersign/artifact"
	"github.com/countersign-dev/countersign/artifact/authenticode"
	"github.com/countersign-dev/countersign/client"
	"github.com/countersign-dev/countersign/internal/certificate"
)

type signCmd struct {
	configurationFlags
	signingKey
	trustFlags
	parameters
	engineLimits
	machine
	Timestamp []string `help:"RFC 3161 timestamp authority; repeat it for those to try next. Without one the signature ends with its certificate." placeholder:"URL"`
	InPlace   bool     `help:"Replace IN by the signed file." env:"-"`
	Force     bool     `short:"f" help:"Replace OUT when it exists." env:"-"`
	In        string   `arg:"" help:"The file to sign." type:"existingfile"`
	Out       string   `arg:"" optional:"" help:"Where to write the signed file; left out with --in-place."`
}

// configurationFlags name an artifact configuration.
type configurationFlags struct {
	Config string `help:"Artifact configuration, XML: what of the artifact is signed, and how. A Windows program needs none." type:"existingfile" env:"-" placeholder:"FILE"`
	Strict bool   `help:"Refuse an artifact with signable files that the configuration does not mention." env:"-"`
}

// signingKey names a key with its certificates.
type signingKey struct {
	Key         string `help:"Private key, PEM or DER (PKCS#8, PKCS#1, SEC 1)." type:"existingfile" env:"-" placeholder:"FILE"`
	Cert        string `help:"Its certificate and those above, PEM, DER or PKCS#7, in any order." type:"existingfile" env:"-" placeholder:"FILE"`
	PFX         string `name:"pfx" help:"PKCS#12 file with key and certificates, in place of --key and --cert." type:"existingfile" env:"-" placeholder:"FILE"`
	PasswordEnv string `help:"Environment variable with the password of the key or PKCS#12 file." env:"-" placeholder:"NAME"`
}

// Help is shown by kong.
func (*signCmd) Help() string {
	return `No policy and no approval stands between the key and the file: keep this for keys that may be used so.

    countersign sign --key key.pem --cert chain.pem --timestamp http://timestamp.digicert.com app.exe app-signed.exe

    PFX_PASSWORD=... countersign sign --pfx release.pfx --password-env PFX_PASSWORD --in-place app.exe

    countersign analyze app.zip > config.xml    # then read it
    countersign sign --config config.xml --param version=1.4.0 --key key.pem --cert chain.pem app.zip app-signed.zip

The signed file is verified before it gets its name; OUT is complete or not there at all. --json writes sha256, size and files (path, type, sha256Before, sha256After, signatures).` +
		localExitCodes("the artifact does not fit its configuration, or a timestamp authority or the file system failed")
}

// Validate is called by kong.
func (s *signCmd) Validate() error {
	switch {
	case s.Out == "" && !s.InPlace:
		return errors.New("name OUT, or replace IN with --in-place")
	case s.Out != "" && s.InPlace && !sameFile(s.In, s.Out):
		return errors.New("--in-place replaces IN; leave OUT away")
	case s.Out != "" && !s.InPlace && sameFile(s.In, s.Out):
		return errors.New("IN and OUT are the same file; replace it with --in-place")
	}
	if err := s.check(); err != nil {
		return err
	}
	return s.validate()
}

func sameFile(a, b string) bool {
	x, errA := os.Stat(a)
	y, errB := os.Stat(b)
	return errA == nil && errB == nil && os.SameFile(x, y)
}

func (k signingKey) validate() error {
	switch {
	case k.PFX == "" && (k.Key == "" || k.Cert == ""):
		return errors.New("name --key and --cert, or --pfx")
	case k.PFX != "" && (k.Key != "" || k.Cert != ""):
		return errors.New("--pfx has key and certificates; leave --key and --cert away")
	}
	return nil
}

// load reads the key and its chain, leaf first.
func (k signingKey) load() (crypto.Signer, []*x509.Certificate, error) {
	password, err := passwordFrom(k.PasswordEnv)
	if err != nil {
		return nil, nil, err
	}
	if k.PFX != "" {
		raw, err := os.ReadFile(k.PFX)
		if err != nil {
			return nil, nil, err
		}
		pfx, err := certificate.ParsePFX(raw, password)
		if err != nil {
			return nil, nil, passwordHint(k.PFX, err)
		}
		return pfx.Key, pfx.Chain, nil
	}
	raw, err := os.ReadFile(k.Key)
	if err != nil {
		return nil, nil, err
	}
	key, err := certificate.ParsePrivateKey(raw, password)
	if err != nil {
		return nil, nil, passwordHint(k.Key, err)
	}
	if raw, err = os.ReadFile(k.Cert); err != nil {
		return nil, nil, err
	}
	certificates, err := certificate.Parse(raw)
	if err != nil {
		return nil, nil, fmt.Errorf("read %s: %w", k.Cert, err)
	}
	chain, err := certificate.Chain(key.Public(), certificates, nil)
	if err != nil {
		return nil, nil, fmt.Errorf("%s has no certificate for the key in %s: %w", k.Cert, k.Key, err)
	}
	return key, chain, nil
}

func passwordHint(path string, err error) error {
	if errors.Is(err, certificate.ErrPasswordNeeded) || errors.Is(err, certificate.ErrWrongPassword) {
		return fmt.Errorf("read %s: %w; put the password into an environment variable and name it with --password-env", path, err)
	}
	return fmt.Errorf("read %s: %w", path, err)
}

// Run signs.
func (s *signCmd) Run(ctx context.Context, io console) error {
	key, chain, err := s.load()
	if err != nil {
		return &exitError{exitUsage, err}
	}
	for _, w := range certificate.Warnings(chain, time.Now()) {
		fmt.Fprintln(io.err, "warning:", w.Message)
	}
	pool, err := timestampPool(s.Timestamp, nil)
	if err != nil {
		return &exitError{exitUsage, err}
	}
	if pool == nil {
		fmt.Fprintln(io.err, "warning: no timestamp authority is named (--timestamp): the signature will not outlive its certificate")
	}
	src, done, err := openSource(s.In)
	if err != nil {
		return err
	}
	defer done()
	trust, err := s.trust()
	if err != nil {
		return err
	}
	hashes := artifact.HashNone
	if s.JSON {
		hashes = artifact.HashMatched
	}
	plan, err := s.plan(ctx, src, artifact.PlanOptions{
		Workspace: s.workspace(), Parameters: s.Param, Strict: s.Strict, Trust: trust, Hashes: hashes,
	})
	if err != nil {
		return err
	}
	if len(plan.Violations) > 0 {
		if err := plan.WriteText(io.err, colour(io.err)); err != nil {
			return err
		}
		return &exitError{exitFailure, fmt.Errorf("%s does not fit the artifact configuration; nothing was signed", s.In)}
	}
	if plan.SignatureCount() == 0 {
		return &exitError{exitFailure, fmt.Errorf("the artifact configuration signs nothing in %s; see what it does with: countersign plan", s.In)}
	}
	out := s.Out
	if s.InPlace {
		out = s.In
	}
	options := artifact.SignOptions{Workspace: s.workspace(), Key: key, Chain: chain}
	if pool != nil {
		options.Timestamper = pool
	}
	var result *artifact.Result
	err = client.WriteFile(out, s.Force || s.InPlace, func(f *os.File) (err error) {
		result, err = artifact.Sign(ctx, plan, src, f, options)
		return err
	})
	switch {
	case errors.Is(err, fs.ErrExist):
		return &exitError{exitUsage, fmt.Errorf("%s exists already; replace it with --force", out)}
	case err != nil:
		return fmt.Errorf("sign %s: %w", s.In, err)
	case s.JSON:
		return writeJSON(io.out, result)
	}
	_, err = fmt.Fprintf(io.out, "%s  %d bytes  signed with %q\n", out, result.Size, chain[0].Subject.String())
	return err
}

// plan applies the configuration to an artifact.
func (c configurationFlags) plan(ctx context.Context, src artifact.Source, options artifact.PlanOptions) (*artifact.Plan, error) {
	name := c.Config
	var text []byte
	var err error
	if name == "" {
		name = "the default configuration"
		text, err = defaultConfiguration(src)
	} else {
		text, err = os.ReadFile(name)
	}
	if err != nil {
		return nil, &exitError{exitUsage, err}
	}
	configuration, err := artifact.ParseConfiguration(text)
	if err != nil {
		return nil, &exitError{exitUsage, configurationError(name, err)}
	}
	plan, err := configuration.Plan(ctx, src, options)
	var wrongParameters artifact.ParameterErrors
	var unavailable artifact.ConfigurationErrors
	switch {
	case errors.As(err, &wrongParameters):
		return nil, &exitError{exitUsage, fmt.Errorf("%w; set parameters with --param NAME=VALUE", err)}
	case errors.As(err, &unavailable):
		return nil, &exitError{exitUsage, configurationError(name, err)}
	}
	return plan, err
}

// configurationError lists mistakes as compilers do: FILE:LINE:COLUMN: what.
func configurationError(name string, err error) error {
	var list artifact.ConfigurationErrors
	if !errors.As(err, &list) {
		return fmt.Errorf("%s: %w", name, err)
	}
	text := "the artifact configuration is not valid:"
	for _, e := range list {
		text += fmt.Sprintf("\n  %s:%d:%d: %s", name, e.Line, e.Column, e.Message)
		if e.Hint != "" {
			text += " (" + e.Hint + ")"
		}
	}
	return errors.New(text)
}

// peHeader is how much of a file tells a Windows program.
const peHeader = 4096

// defaultConfiguration returns the configuration of an artifact whose type says how it is signed.
func defaultConfiguration(src artifact.Source) ([]byte, error) {
	header := make([]byte, min(src.Size, peHeader))
	if _, err := src.Content.ReadAt(header, 0); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	if authenticode.IsPE(header) {
		for _, t := range artifact.Templates() {
			if t.Name == "pe-file" {
				return []byte(t.XML), nil
			}
		}
	}
	return nil, fmt.Errorf("%s is not a Windows program, so say what to sign with --config; 'countersign analyze %s' proposes a configuration", src.Name, src.Name)
}

// openSource opens a file for the engine.
func openSource(path string) (artifact.Source, func(), error) {
	u, done, err := openUpload(path)
	if err != nil {
		return artifact.Source{}, nil, &exitError{exitUsage, err}
	}
	return artifact.Source{Name: u.Name, Content: u.Content, Size: u.Size}, done, nil
}
