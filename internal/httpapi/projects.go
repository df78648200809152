package httpapi

import (
	"context"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/countersign-dev/countersign/api"
	"github.com/countersign-dev/countersign/internal/signing"
)

// ListProjects lists the projects that the caller may read.
func (s *service) ListProjects(ctx context.Context, _ api.ListProjectsRequestObject) (api.ListProjectsResponseObject, error) {
	list, err := s.signing.Projects(ctx, actorOf(ctx))
	if err != nil {
		return nil, err
	}
	answer := make(api.ListProjects200JSONResponse, 0, len(list))
	for _, v := range list {
		answer = append(answer, projectOf(exchangeOf(ctx).links, v))
	}
	return answer, nil
}

// GetProject returns a project.
func (s *service) GetProject(ctx context.Context, r api.GetProjectRequestObject) (api.GetProjectResponseObject, error) {
	v, err := s.signing.Project(ctx, actorOf(ctx), r.ProjectSlug)
	if err != nil {
		return nil, err
	}
	return api.GetProject200JSONResponse(projectOf(exchangeOf(ctx).links, v)), nil
}

func projectOf(l links, v *signing.ProjectView) api.Project {
	p := api.Project{
		ProjectID: string(v.ID), Slug: v.Slug, Name: v.Name, Description: v.Description, IsActive: v.Active,
		Repositories: orEmpty(v.Repositories), SigningPolicies: policiesOf(l, v), ArtifactConfigurations: configurationsOf(l, v),
		Readers: subjectsOf(v.Readers), Configurators: subjectsOf(v.Configurators), Version: v.Version,
	}
	for _, id := range v.TrustedBuildSystems {
		p.TrustedBuildSystemIds = append(p.TrustedBuildSystemIds, string(id))
	}
	for _, c := range v.Configurations {
		if c.ID == v.DefaultConfigurationID {
			p.DefaultArtifactConfigurationSlug = c.Slug
		}
	}
	return p
}

func policiesOf(l links, v *signing.ProjectView) []api.SigningPolicy {
	out := make([]api.SigningPolicy, 0, len(v.Policies))
	for _, p := range v.Policies {
		out = append(out, policyOf(l, v, p))
	}
	return out
}

func policyOf(l links, v *signing.ProjectView, p *signing.Policy) api.SigningPolicy {
	rules := p.Rules
	out := api.SigningPolicy{
		SigningPolicyID: string(p.ID), Slug: p.Slug, Name: p.Name, Description: p.Description, IsActive: p.Active, ProjectSlug: v.Slug,
		Submitters: subjectsOf(p.Submitters), Approvers: subjectsOf(p.Approvers),
		RequiredApprovals: rules.RequiredApprovals, SubmitterMayNotApprove: rules.SubmitterMayNotApprove,
		RequiresTrustedBuildSystem: rules.RequireTrustedBuildSystem, VerifiesOriginPolicy: rules.VerifyOrigin,
		AllowedBranches: rules.AllowedBranches, RequiresStrictConfiguration: rules.StrictConfiguration,
		RequiresTimestamp: rules.RequireTimestamp, RetentionDays: rules.RetentionDays, Notifications: levelOf(rules.Notifications),
		Problems: v.Problems[p.ID], Version: p.Version,
	}
	if c := v.Certificates[p.CertificateID]; c != nil {
		out.CertificateSlug = c.Slug
		out.CertificateLink = l.resource(string(p.OrganizationID), "Projects", v.Slug, "SigningPolicies", p.Slug, "Certificate")
	}
	return out
}

func subjectsOf(list []signing.Subject) []api.Subject {
	var out []api.Subject
	for _, s := range list {
		out = append(out, api.Subject{Kind: api.SubjectKind(s.Kind), ID: string(s.ID)})
	}
	return out
}

func configurationsOf(l links, v *signing.ProjectView) []api.ArtifactConfiguration {
	out := make([]api.ArtifactConfiguration, 0, len(v.Configurations))
	for _, c := range v.Configurations {
		out = append(out, configurationOf(l, v, c))
	}
	return out
}

func configurationOf(l links, v *signing.ProjectView, c *signing.Configuration) api.ArtifactConfiguration {
	return api.ArtifactConfiguration{
		ArtifactConfigurationID: string(c.ID), Slug: c.Slug, Name: c.Name, Description: c.Description, IsActive: c.Active,
		IsDefault: c.ID == v.DefaultConfigurationID, LatestVersion: c.Latest, Version: c.Version,
		ArtifactConfigurationXMLLink: configurationXMLLink(l, v.Slug, c, 0),
	}
}

// configurationXMLLink returns the address of one version's text; 0 is the latest.
func configurationXMLLink(l links, project string, c *signing.Configuration, version int) string {
	link := l.resource(string(c.OrganizationID), "Projects", project, "ArtifactConfigurations", c.Slug, "Xml")
	if version != 0 {
		link += "?version=" + strconv.Itoa(version)
	}
	return link
}

// ListArtifactConfigurations lists a project's artifact configurations.
func (s *service) ListArtifactConfigurations(ctx context.Context, r api.ListArtifactConfigurationsRequestObject) (api.ListArtifactConfigurationsResponseObject, error) {
	v, err := s.signing.Project(ctx, actorOf(ctx), r.ProjectSlug)
	if err != nil {
		return nil, err
	}
	return api.ListArtifactConfigurations200JSONResponse(configurationsOf(exchangeOf(ctx).links, v)), nil
}

// GetArtifactConfiguration returns an artifact configuration.
func (s *service) GetArtifactConfiguration(ctx context.Context, r api.GetArtifactConfigurationRequestObject) (api.GetArtifactConfigurationResponseObject, error) {
	c, err := s.configurationNow(ctx, r.ProjectSlug, r.ArtifactConfigurationSlug)
	return reply[api.GetArtifactConfigurationResponseObject](api.GetArtifactConfiguration200JSONResponse(c), err)
}

// GetArtifactConfigurationXML returns one version's text.
func (s *service) GetArtifactConfigurationXML(ctx context.Context, r api.GetArtifactConfigurationXMLRequestObject) (api.GetArtifactConfigurationXMLResponseObject, error) {
	if r.Params.Version < 0 {
		return nil, signing.Invalid("Version", "Versions are counted from 1.")
	}
	v, err := s.signing.Configuration(ctx, actorOf(ctx), r.ProjectSlug, r.ArtifactConfigurationSlug, r.Params.Version)
	if err != nil {
		return nil, err
	}
	return api.GetArtifactConfigurationXML200ApplicationXMLResponse{Body: strings.NewReader(v.Text.XML), ContentLength: int64(len(v.Text.XML))}, nil
}

// ListSigningPolicies lists a project's signing policies.
func (s *service) ListSigningPolicies(ctx context.Context, r api.ListSigningPoliciesRequestObject) (api.ListSigningPoliciesResponseObject, error) {
	v, err := s.signing.Project(ctx, actorOf(ctx), r.ProjectSlug)
	if err != nil {
		return nil, err
	}
	return api.ListSigningPolicies200JSONResponse(policiesOf(exchangeOf(ctx).links, v)), nil
}

// GetSigningPolicy returns a signing policy.
func (s *service) GetSigningPolicy(ctx context.Context, r api.GetSigningPolicyRequestObject) (api.GetSigningPolicyResponseObject, error) {
	p, err := s.policyNow(ctx, r.ProjectSlug, r.SigningPolicySlug)
	return reply[api.GetSigningPolicyResponseObject](api.GetSigningPolicy200JSONResponse(p), err)
}

// orEmpty makes an answer's list an empty one rather than null.
func orEmpty[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}

func sortedNames[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
