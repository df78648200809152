package signing

import (
	"bytes"
	"context"
	"errors"
	"io/fs"

	"github.com/countersign-dev/countersign/artifact"
)

// PlanQuery asks what an artifact configuration would do with an artifact.
type PlanQuery struct {
	ProjectSlug       string
	ConfigurationSlug string // empty: the project's default; or
	XML               string // a text that is not stored yet
	Parameters        map[string]string
	Strict            bool
	Artifact          *Staged // the caller discards it
}

// Plan is a dry run: it plans and signs nothing, and leaves no trace in the audit log. Whoever may read the project may
// plan.
func (s *Service) Plan(ctx context.Context, a Actor, q PlanQuery) (*artifact.Plan, error) {
	if q.Artifact == nil {
		return nil, Invalid("Artifact", "An artifact is required: send it as a file part named 'artifact'.")
	}
	if q.XML != "" && q.ConfigurationSlug != "" {
		return nil, Invalid("ArtifactConfigurationXml", "Give either the artifact configuration's slug or its XML, not both.")
	}
	var (
		version = &ConfigurationVersion{XML: q.XML}
		org     *Organization
	)
	err := s.store.View(ctx, func(tx Tx) error {
		p, err := s.visibleProject(ctx, tx, a, q.ProjectSlug)
		if err != nil {
			return err
		}
		if org, err = tx.Organization(ctx, a.OrganizationID); err != nil || q.XML != "" {
			return err
		}
		configuration, err := planConfiguration(ctx, tx, p, q.ConfigurationSlug)
		if err != nil {
			return err
		}
		version, err = tx.ConfigurationVersion(ctx, a.OrganizationID, configuration.ID, configuration.Latest)
		return err
	})
	if err != nil {
		return nil, err
	}
	var v validation
	configuration := v.configuration("ArtifactConfigurationXml", version.XML)
	if err := v.err(); err != nil {
		return nil, err
	}
	params := checkParameters(&v, version, q.Parameters)
	if err := v.err(); err != nil {
		return nil, err
	}
	src, closeSource, err := s.openStaged(ctx, q.Artifact)
	if err != nil {
		return nil, err
	}
	defer closeSource()
	plan, err := configuration.Plan(ctx, src, artifact.PlanOptions{Workspace: s.workspace(), Parameters: params, Strict: q.Strict, Trust: trust(org)})
	if mistakes := (artifact.ConfigurationErrors)(nil); errors.As(err, &mistakes) {
		return nil, Invalid("ArtifactConfigurationXml", "%v", mistakes)
	}
	return plan, examineFailure(err)
}

// examineFailure words why the engine cannot examine an artifact: that is the artifact's fault, unless files below the
// engine fail or nobody waits for it any more.
func examineFailure(err error) error {
	var path *fs.PathError
	if err == nil || errors.As(err, &path) || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return Invalid("Artifact", "The artifact cannot be examined: %v", err)
}

func planConfiguration(ctx context.Context, tx Tx, p *Project, slug string) (*Configuration, error) {
	if slug != "" {
		c, err := tx.ConfigurationBySlug(ctx, p.OrganizationID, p.ID, slug)
		return c, fieldNotFound(err, "ArtifactConfigurationSlug", "There is no artifact configuration with slug '%s' in the project with slug '%s'.", truncate(slug, 100), p.Slug)
	}
	if p.DefaultConfigurationID == "" {
		return nil, Invalid("ArtifactConfigurationSlug", "The project with slug '%s' has no default artifact configuration: name one.", p.Slug)
	}
	return tx.Configuration(ctx, p.OrganizationID, p.DefaultConfigurationID)
}

// Analyze proposes an artifact configuration for a sample artifact, as XML: files whose signatures the organization trusts
// are verified. Every user may ask.
func (s *Service) Analyze(ctx context.Context, a Actor, sample *Staged) ([]byte, error) {
	if err := require(a, OpListProjects, scope{}); err != nil {
		return nil, err
	}
	if sample == nil {
		return nil, Invalid("Artifact", "An artifact is required: send it as a file part named 'artifact'.")
	}
	var org *Organization
	err := s.store.View(ctx, func(tx Tx) (err error) {
		org, err = tx.Organization(ctx, a.OrganizationID)
		return err
	})
	if err != nil {
		return nil, err
	}
	src, closeSource, err := s.openStaged(ctx, sample)
	if err != nil {
		return nil, err
	}
	defer closeSource()
	xml, err := artifact.Analyze(ctx, src, artifact.AnalyzeOptions{Workspace: s.workspace(), Trust: trust(org)})
	return bytes.TrimSpace(xml), examineFailure(err)
}

// Templates lists artifact configurations to start from.
func (*Service) Templates() []artifact.Template { return artifact.Templates() }

func (s *Service) openStaged(ctx context.Context, st *Staged) (src artifact.Source, closeSource func(), err error) {
	blob, err := s.blobs.Open(ctx, st.artifact.BlobID)
	if err != nil {
		return artifact.Source{}, nil, err
	}
	return artifact.Source{Name: st.artifact.FileName, Content: blob, Size: blob.Size()}, func() { _ = blob.Close() }, nil
}
