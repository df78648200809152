package artifact

import (
	"bytes"
	"context"
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"reflect"
	"slices"

	"github.com/countersign-dev/countersign/artifact/cms"
	"github.com/countersign-dev/countersign/artifact/spool"
)

// SignOptions say who signs. Key and Chain are required.
type SignOptions struct {
	Workspace
	Key         crypto.Signer       // used concurrently
	Chain       []*x509.Certificate // leaf first
	Timestamper cms.Timestamper     // nil for no time stamps; used concurrently
}

// Result describes a signed artifact.
type Result struct {
	SHA256 string `json:"sha256,omitempty"` // of the output, lower-case hexadecimal; empty, as those below, for a plan with HashNone
	Size   int64  `json:"size"`             // in bytes
	// Files lists each file that changed, in the plan's order, a container after
	// its files.
	Files []SignedFile `json:"files"`
}

// SignedFile is one file before and after.
type SignedFile struct {
	Path         string          `json:"path"` // as in Violation.Path
	Type         string          `json:"type"`
	SHA256Before string          `json:"sha256Before,omitempty"`
	SHA256After  string          `json:"sha256After,omitempty"`
	Signatures   []MadeSignature `json:"signatures,omitempty"` // none for a container that only holds signed files
}

// MadeSignature is one signature that was made.
type MadeSignature struct {
	Method        string `json:"method"`        // such as "authenticode-sign"
	HashAlgorithm string `json:"hashAlgorithm"` // such as "sha256"
	Digest        string `json:"digest"`        // what was signed: the format's own digest of the file
	Thumbprint    string `json:"thumbprint"`    // SHA-256 of the certificate
}

// ErrViolations says that a plan has violations and must not be carried out.
var ErrViolations = errors.New("artifact: the plan has violations")

// ErrOtherArtifact says that a plan was made for other bytes.
var ErrOtherArtifact = errors.New("artifact: this is not the planned artifact")

// Sign carries out a plan: it signs the files of src from the inside out, many
// at a time, and writes the signed artifact to dst, which must be empty.
//
// It refuses a plan with violations (ErrViolations), and a source that is not
// the planned one (ErrOtherArtifact). Before it returns it has read what it wrote:
// each signature that it made is intact, and nothing but what the plan names has
// changed. When it fails, what dst holds is of no use.
func Sign(ctx context.Context, plan *Plan, src Source, dst Output, opts SignOptions) (*Result, error) {
	switch {
	case plan.Root == nil:
		return nil, errors.New("artifact: the plan is empty")
	case len(plan.Violations) > 0:
		return nil, fmt.Errorf("%w: %s", ErrViolations, plan.Violations[0].Message)
	case opts.Key == nil || len(opts.Chain) == 0:
		return nil, errors.New("artifact: a key and its certificate are required")
	case plan.hashless() && !plan.madeOf(src):
		return nil, fmt.Errorf("%w: a plan without hashes can only be carried out on the source it was made of", ErrOtherArtifact)
	case src.Size != plan.Root.Size:
		return nil, fmt.Errorf("%w: it has %d bytes, not %d", ErrOtherArtifact, src.Size, plan.Root.Size)
	}
	s := &signing{workspace: newWorkspace(opts.Workspace), opts: &opts, hashless: plan.hashless(), kept: plan.kept}
	s.report(0, plan.Root.changing())
	var result *Result
	// A source that is not the very one that was planned is hashed whole while it
	// is worked on: what is signed is compared file by file, and this is for the rest.
	err := s.each(ctx, 2, func(ctx context.Context, i int) (err error) {
		if i == 0 {
			result, err = s.artifact(ctx, plan, src, dst)
			return err
		}
		if plan.madeOf(src) {
			return nil
		}
		return matchesPlan(ctx, plan.ArtifactSHA256, src)
	})
	if err != nil {
		return nil, err
	}
	return result, nil
}

// madeOf tells whether src is the very source that the plan was made of, which
// does not change, so that hashing it again would tell nothing new.
func (p *Plan) madeOf(src Source) bool {
	return p.source != nil && reflect.TypeOf(p.source).Comparable() && p.source == src.Content
}

func (p *Plan) hashless() bool { return p.ArtifactSHA256 == "" }

func matchesPlan(ctx context.Context, want string, src Source) error {
	digest := sha256.New()
	if _, err := copyContext(ctx, digest, io.NewSectionReader(src.Content, 0, src.Size)); err != nil {
		return err
	}
	if got := hex.EncodeToString(digest.Sum(nil)); got != want {
		return fmt.Errorf("%w: its SHA-256 is %s, not %s", ErrOtherArtifact, got, want)
	}
	return nil
}

// changing counts the files that signing changes.
func (f *PlannedFile) changing() int {
	count := 0
	if f.changes() {
		count++
	}
	for _, nested := range f.Files {
		count += nested.changing()
	}
	return count
}

// signing is one call of Sign.
type signing struct {
	*workspace
	opts     *SignOptions
	hashless bool
	kept     map[*PlannedFile][]byte // see Plan
}

// outcome is a changed file.
type outcome struct {
	size   int64
	sha256 string
	files  []SignedFile // this one last
}

func (s *signing) artifact(ctx context.Context, plan *Plan, src Source, dst Output) (*Result, error) {
	planned := plan.Root
	content := file{src.Content, src.Size}
	if !planned.changes() {
		if _, err := spool.CopyRange(dst, src.Content, 0, src.Size); err != nil {
			return nil, err
		}
		digest, err := s.hash(ctx, file{dst, src.Size})
		return &Result{SHA256: digest, Size: src.Size}, err
	}
	out, err := s.file(ctx, planned, content, "", dst)
	if err != nil {
		return nil, err
	}
	return &Result{SHA256: out.sha256, Size: out.size, Files: out.files}, nil
}

// hash returns the SHA-256 of a file, or nothing when no hashes are wanted.
func (s *signing) hash(ctx context.Context, f file) (string, error) {
	if s.hashless {
		return "", nil
	}
	digest := sha256.New()
	_, err := copyContext(ctx, digest, io.NewSectionReader(f.content, 0, f.size))
	return hex.EncodeToString(digest.Sum(nil)), err
}

// file makes the changed file of one that signing changes: first its files, then
// its own signatures. content has the bytes that were planned.
func (s *signing) file(ctx context.Context, planned *PlannedFile, content file, at string, dst Output) (*outcome, error) {
	steps, err := signingSteps(planned)
	if err != nil {
		return nil, nameFile(at, err)
	}
	out := &outcome{}
	current := content
	if slices.ContainsFunc(planned.Files, (*PlannedFile).changes) {
		to := dst
		if len(steps) > 0 {
			packed, drop := s.spool()
			defer drop()
			to = packed
		}
		if current, err = s.container(ctx, planned, content, at, to, out); err != nil {
			return nil, err
		}
	}
	var made []MadeSignature
	var drops []func()
	defer func() {
		for _, drop := range drops {
			drop()
		}
	}()
	for n, d := range steps {
		to := dst
		if n < len(steps)-1 {
			step, drop := s.spool()
			drops = append(drops, drop)
			to = step
		}
		signature, size, err := methodOf(d.Method, planned.Type).sign(ctx, to, current, d, s.opts)
		if err != nil {
			return nil, nameFile(at, err)
		}
		made = append(made, signature)
		current = file{to, size}
	}
	if len(steps) > 1 {
		if err := methodOf(steps[0].Method, planned.Type).prove(ctx, current, kept(made, steps)); err != nil {
			return nil, nameFile(at, fmt.Errorf("the signed file does not verify: %w", err))
		}
	}
	if len(steps) > 0 {
		if out.sha256, err = s.hash(ctx, current); err != nil {
			return nil, nameFile(at, err)
		}
	}
	out.size = current.size
	out.files = append(out.files, SignedFile{
		Path: at, Type: planned.Type, SHA256Before: planned.SHA256, SHA256After: out.sha256, Signatures: made,
	})
	s.report(1, 0)
	return out, nil
}

// signingSteps returns the directives that sign. Each must be available: a plan
// may have been made by another version.
func signingSteps(planned *PlannedFile) ([]Directive, error) {
	var steps []Directive
	for _, d := range planned.Directives {
		spec, m := methodSpecByName(d.Method), methodOf(d.Method, planned.Type)
		switch {
		case spec != nil && spec.kind == methodVerify:
		case spec == nil || m == nil || m.sign == nil:
			return nil, fmt.Errorf("<%s> for <%s> is %s", d.Method, planned.Type, notAvailable)
		default:
			steps = append(steps, d)
		}
	}
	return steps, nil
}

// kept returns the signatures that are in the file at the end: one that does not
// append replaces those before it.
func kept(made []MadeSignature, steps []Directive) []MadeSignature {
	for n := len(steps) - 1; n > 0; n-- {
		if a := steps[n].Options["append"]; a != "true" && a != "1" {
			return made[n:]
		}
	}
	return made
}

// container signs the files in a container, packs it anew and puts its hash and
// those files in out.
func (s *signing) container(ctx context.Context, planned *PlannedFile, content file, at string, dst Output, out *outcome) (file, error) {
	format := formatOf(planned.Type)
	if format == nil || format.open == nil {
		return file{}, nameFile(at, fmt.Errorf("opening a %s is %s", planned.Type, notAvailable))
	}
	opened, err := format.open(content.content, content.size, s.Limits)
	if err != nil {
		return file{}, nameFile(at, err)
	}
	members := opened.members()
	if len(members) != len(planned.Files) {
		return file{}, fmt.Errorf("%w: %s holds %d files, not %d", ErrOtherArtifact, planned.Path, len(members), len(planned.Files))
	}
	var work []int
	changed := make(map[string]bool)
	for n, m := range members {
		if m.path != planned.Files[n].Path {
			return file{}, fmt.Errorf("%w: %s holds %q where %q was planned", ErrOtherArtifact, planned.Path, m.path, planned.Files[n].Path)
		}
		if planned.Files[n].changes() {
			work = append(work, n)
			changed[m.path] = true
		}
	}
	results := make([]*outcome, len(work))
	prepared := make([]replacement, len(work))
	defer func() {
		for _, r := range prepared {
			if r != nil {
				_ = r.Close()
			}
		}
	}()
	err = s.each(ctx, len(work), func(ctx context.Context, k int) (err error) {
		n := work[k]
		results[k], prepared[k], err = s.member(ctx, planned.Files[n], opened, n, joinPath(at, members[n].path))
		return err
	})
	if err != nil {
		return file{}, err
	}
	replacements := make(map[int]replacement, len(work))
	for k, n := range work {
		replacements[n] = prepared[k]
		out.files = append(out.files, results[k].files...)
	}
	size, err := opened.rebuild(dst, replacements)
	if err != nil {
		return file{}, nameFile(at, err)
	}
	packed := file{dst, size}
	out.sha256, err = s.provePacked(ctx, format, opened, packed, work, results, changed)
	if err != nil {
		return file{}, nameFile(at, fmt.Errorf("the signed container does not verify: %w", err))
	}
	return packed, nil
}

// member signs one file of a container.
func (s *signing) member(ctx context.Context, planned *PlannedFile, c container, n int, at string) (*outcome, replacement, error) {
	content, release, err := s.unpack(ctx, planned, c, n)
	if release != nil {
		defer release()
	}
	if err != nil {
		return nil, nil, nameFile(at, err)
	}
	signed, drop := s.spool()
	defer drop()
	out, err := s.file(ctx, planned, content, at, signed)
	if err != nil {
		return nil, nil, err
	}
	r, err := c.prepare(n, io.NewSectionReader(signed, 0, out.size), s.spoolOptions())
	return out, r, err
}

// unpack gives random access to a member, of which it checks that it is what was
// planned.
func (s *signing) unpack(ctx context.Context, planned *PlannedFile, c container, n int) (f file, release func(), err error) {
	if content, ok := s.kept[planned]; ok {
		return file{bytes.NewReader(content), planned.Size}, nil, nil
	}
	stream, err := c.open(n)
	if err != nil {
		return file{}, nil, err
	}
	defer stream.Close()
	digest, to := sha256.New(), io.Discard
	f = file{c.inPlace(n), planned.Size}
	if f.content == nil {
		var unpacked *spool.Spool
		unpacked, release = s.spool()
		f.content, to = unpacked, unpacked
	}
	if !s.hashless {
		to = io.MultiWriter(digest, to)
	}
	size, err := copyContext(ctx, to, stream)
	if err == nil && (size != planned.Size || !s.hashless && hex.EncodeToString(digest.Sum(nil)) != planned.SHA256) {
		err = ErrOtherArtifact
	}
	return f, release, err
}

// provePacked reads a container that was written, checks that it holds what was
// signed, and otherwise what it held before, and returns its hash if wanted.
func (s *signing) provePacked(ctx context.Context, format *format, before container, packed file, work []int, results []*outcome, changed map[string]bool) (digest string, err error) {
	after, err := format.open(packed.content, packed.size, s.Limits)
	if err != nil {
		return "", err
	}
	err = s.each(ctx, len(work)+2, func(ctx context.Context, k int) (err error) {
		switch k {
		case 0:
			return before.compare(after, changed, s.hashless)
		case 1:
			digest, err = s.hash(ctx, packed)
			return err
		}
		return s.provePackedMember(ctx, after, work[k-2], results[k-2])
	})
	return digest, err
}

func (s *signing) provePackedMember(ctx context.Context, after container, n int, signed *outcome) error {
	stream, err := after.open(n)
	if err != nil {
		return err
	}
	defer stream.Close()
	if s.hashless { // its CRC-32 has to do, which reading to the end checks
		_, err := copyContext(ctx, io.Discard, stream)
		return err
	}
	sum := sha256.New()
	if _, err := copyContext(ctx, sum, stream); err != nil {
		return err
	}
	if got := hex.EncodeToString(sum.Sum(nil)); got != signed.sha256 {
		return fmt.Errorf("%s: its SHA-256 is %s after packing, and was %s before", signed.files[len(signed.files)-1].Path, got, signed.sha256)
	}
	return nil
}
