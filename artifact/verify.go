package artifact

import (
	"context"
	"slices"

	"github.com/countersign-dev/countersign/artifact/authenticode"
)

// VerifyOptions say what to trust. The zero value trusts nobody.
type VerifyOptions struct {
	Workspace
	Trust Trust
	// Publisher is a pattern that the signer's common name, organization or whole
	// subject must match; empty for any.
	Publisher string
}

// VerifyReport is what Verify found about a file and the files in it.
type VerifyReport struct {
	Path   string `json:"path"` // as in PlannedFile.Path
	Type   string `json:"type,omitempty"`
	Size   int64  `json:"size"`
	SHA256 string `json:"sha256,omitempty"` // of the artifact and of files that can carry a signature
	// Status of this file alone; empty when it carries none that can be checked.
	Status authenticode.Status `json:"status,omitempty"`
	// Worst is the worst status of this file and all files in it; empty when none has one.
	Worst    authenticode.Status  `json:"worst,omitempty"`
	Report   *authenticode.Report `json:"report,omitempty"` // of a file with Authenticode
	Problems []string             `json:"problems,omitempty"`
	Files    []*VerifyReport      `json:"files,omitempty"` // those that can carry a signature or hold such, or have problems

	members []member // of a container that was opened
}

// StatusUnchecked is the status of a file that can carry a signature of a kind
// that this version cannot check.
const StatusUnchecked authenticode.Status = "unchecked"

// statuses from best to worst.
var statuses = []authenticode.Status{
	"", authenticode.StatusValid, StatusUnchecked, authenticode.StatusExpired, authenticode.StatusUntrusted,
	authenticode.StatusNotSigned, authenticode.StatusBroken,
}

func worse(a, b authenticode.Status) authenticode.Status {
	if slices.Index(statuses, b) > slices.Index(statuses, a) {
		return b
	}
	return a
}

// Verify checks all signatures of a file, and of all files in it when it is a
// container. What is wrong is in the report; errors are those of ctx, of
// reading src, of temporary files, and of a malformed Publisher.
func Verify(ctx context.Context, src Source, opts VerifyOptions) (*VerifyReport, error) {
	if _, err := compileWildcard([]patternPart{{text: opts.Publisher}}, false); err != nil {
		return nil, err
	}
	v := &verifier{workspace: newWorkspace(opts.Workspace), opts: opts}
	r := &VerifyReport{Path: baseName(src.Name), Size: src.Size}
	v.report(0, 1)
	if err := v.file(ctx, r, src.source(), 0); err != nil {
		return nil, err
	}
	v.report(1, 0)
	return r, nil
}

type verifier struct {
	*workspace
	opts VerifyOptions
}

// fail notes why a file could not be checked.
func (v *verifier) fail(r *VerifyReport, problem string) {
	r.Problems = append(r.Problems, problem)
	r.Status = authenticode.StatusBroken
	r.Worst = authenticode.StatusBroken
}

func (v *verifier) file(ctx context.Context, r *VerifyReport, src source, depth int) error {
	content, release, err := v.load(ctx, src, func(head []byte) (hashed, kept bool) {
		if detected := detectType(r.Path, head); detected != nil {
			r.Type = detected.name
		}
		f := formatOf(r.Type)
		reports := f != nil && f.report != nil
		return reports || depth == 0, reports || f != nil && f.open != nil
	})
	if release != nil {
		defer release()
	}
	r.SHA256 = content.sha256
	if err != nil {
		if !isArchiveError(err) {
			return nameFile(r.Path, err)
		}
		v.fail(r, err.Error())
		return nil
	}
	format := formatOf(r.Type)
	if spec := fileSpecByName(r.Type); spec != nil && spec.signable && (format == nil || format.report == nil) {
		r.Problems = append(r.Problems, "checking the signature of "+spec.indefinite()+" is "+notAvailable)
		r.Status, r.Worst = StatusUnchecked, StatusUnchecked
	}
	if format == nil || content.content == nil {
		return nil
	}
	if format.report != nil {
		report, err := format.report(ctx, content.file, v.opts.Trust)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			v.fail(r, err.Error())
			return nil
		}
		r.Report, r.Status = report, report.Status
		if problems, _ := judge(report, v.opts.Publisher); report.Status == authenticode.StatusValid && len(problems) > 0 {
			r.Status, r.Problems = authenticode.StatusUntrusted, problems
		}
		r.Worst = worse(r.Worst, r.Status)
	}
	if format.open != nil {
		return v.container(ctx, r, format, content.file, depth)
	}
	return nil
}

func (v *verifier) container(ctx context.Context, r *VerifyReport, format *format, content file, depth int) error {
	if depth >= v.Limits.Depth {
		v.fail(r, "containers are nested too deep; the files in this one were not checked")
		return nil
	}
	opened, err := format.open(content.content, content.size, v.Limits)
	if err != nil {
		if !isArchiveError(err) {
			return nameFile(r.Path, err)
		}
		v.fail(r, err.Error())
		return nil
	}
	members := opened.members()
	r.members = members
	if problem := v.admit(members); problem != "" {
		v.fail(r, problem+"; the files in this container were not checked")
		return nil
	}
	v.report(0, len(members))
	reports := make([]*VerifyReport, len(members))
	err = v.each(ctx, len(members), func(ctx context.Context, n int) error {
		reports[n] = &VerifyReport{Path: members[n].path, Size: members[n].size}
		defer v.report(1, 0)
		if members[n].link {
			return nil
		}
		return v.file(ctx, reports[n], memberSource(opened, n, members[n].size), depth+1)
	})
	if err != nil {
		return err
	}
	for _, nested := range reports {
		if nested.Status != "" || len(nested.Files) > 0 {
			r.Files = append(r.Files, nested)
			r.Worst = worse(r.Worst, nested.Worst)
		}
	}
	return nil
}
