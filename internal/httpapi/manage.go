package httpapi

import (
	"context"
	"slices"
	"strings"

	"github.com/countersign-dev/countersign/api"
	"github.com/countersign-dev/countersign/internal/signing"
)

// CreateProject makes a project.
func (s *service) CreateProject(ctx context.Context, r api.CreateProjectRequestObject) (api.CreateProjectResponseObject, error) {
	b := r.Body
	p, err := s.signing.CreateProject(ctx, actorOf(ctx), signing.ProjectEdit{
		Slug: &b.Slug, Name: &b.Name, Description: b.Description, Repositories: b.Repositories,
		Readers: subjectsGiven(b.Readers), Configurators: subjectsGiven(b.Configurators),
	})
	if err != nil {
		return nil, err
	}
	body, err := s.projectNow(ctx, p.Slug)
	location := exchangeOf(ctx).links.resource(string(p.OrganizationID), "Projects", p.Slug)
	return reply[api.CreateProjectResponseObject](api.CreateProject201JSONResponse{Body: body, Headers: api.CreateProject201ResponseHeaders{Location: location}}, err)
}

// projectNow reads a project again after a change.
func (s *service) projectNow(ctx context.Context, slug string) (api.Project, error) {
	v, err := s.signing.Project(ctx, actorOf(ctx), slug)
	if err != nil {
		return api.Project{}, err
	}
	return projectOf(exchangeOf(ctx).links, v), nil
}

func (s *service) editProject(ctx context.Context, slug string, e signing.ProjectEdit) (api.Project, error) {
	p, err := s.signing.EditProject(ctx, actorOf(ctx), slug, e)
	if err != nil {
		return api.Project{}, err
	}
	return s.projectNow(ctx, p.Slug)
}

// EditProject changes a project.
func (s *service) EditProject(ctx context.Context, r api.EditProjectRequestObject) (api.EditProjectResponseObject, error) {
	b := r.Body
	p, err := s.editProject(ctx, r.ProjectSlug, signing.ProjectEdit{
		Slug: b.Slug, Name: b.Name, Description: b.Description, Repositories: b.Repositories,
		Readers: subjectsGiven(b.Readers), Configurators: subjectsGiven(b.Configurators), Version: b.Version,
	})
	return reply[api.EditProjectResponseObject](api.EditProject200JSONResponse(p), err)
}

// ActivateProject activates a project.
func (s *service) ActivateProject(ctx context.Context, r api.ActivateProjectRequestObject) (api.ActivateProjectResponseObject, error) {
	p, err := s.editProject(ctx, r.ProjectSlug, signing.ProjectEdit{Active: pointer(true), Version: expected(r.Body)})
	return reply[api.ActivateProjectResponseObject](api.ActivateProject200JSONResponse(p), err)
}

// DeactivateProject deactivates a project.
func (s *service) DeactivateProject(ctx context.Context, r api.DeactivateProjectRequestObject) (api.DeactivateProjectResponseObject, error) {
	p, err := s.editProject(ctx, r.ProjectSlug, signing.ProjectEdit{Active: pointer(false), Version: deactivation(r.Body).Version, EvenIfInUse: deactivation(r.Body).EvenIfInUse})
	return reply[api.DeactivateProjectResponseObject](api.DeactivateProject200JSONResponse(p), err)
}

// SetDefaultArtifactConfiguration chooses the default artifact configuration.
func (s *service) SetDefaultArtifactConfiguration(ctx context.Context, r api.SetDefaultArtifactConfigurationRequestObject) (api.SetDefaultArtifactConfigurationResponseObject, error) {
	p, err := s.editProject(ctx, r.ProjectSlug, signing.ProjectEdit{DefaultConfigurationSlug: &r.Body.ArtifactConfigurationSlug, Version: r.Body.Version})
	return reply[api.SetDefaultArtifactConfigurationResponseObject](api.SetDefaultArtifactConfiguration200JSONResponse(p), err)
}

// linked returns the trusted build systems that are linked to a project.
func (s *service) linked(ctx context.Context, ids []signing.ID) ([]api.TrustedBuildSystem, error) {
	all, err := s.signing.TrustedBuildSystems(ctx, actorOf(ctx))
	if err != nil {
		return nil, err
	}
	out := []api.TrustedBuildSystem{}
	for _, t := range all {
		if slices.Contains(ids, t.ID) {
			out = append(out, buildSystemOf(exchangeOf(ctx).links, t))
		}
	}
	return out, nil
}

// ListTrustedBuildSystemLinks lists the trusted build systems that are linked to a project.
func (s *service) ListTrustedBuildSystemLinks(ctx context.Context, r api.ListTrustedBuildSystemLinksRequestObject) (api.ListTrustedBuildSystemLinksResponseObject, error) {
	v, err := s.signing.Project(ctx, actorOf(ctx), r.ProjectSlug)
	if err != nil {
		return nil, err
	}
	list, err := s.linked(ctx, v.TrustedBuildSystems)
	return reply[api.ListTrustedBuildSystemLinksResponseObject](api.ListTrustedBuildSystemLinks200JSONResponse(list), err)
}

// relink changes which trusted build systems are linked to a project. Of two changes at the same time one is refused.
func (s *service) relink(ctx context.Context, projectSlug, systemSlug string, change func([]signing.ID, signing.ID) ([]signing.ID, error)) ([]api.TrustedBuildSystem, error) {
	a := actorOf(ctx)
	v, err := s.signing.Project(ctx, a, projectSlug)
	if err != nil {
		return nil, err
	}
	t, err := s.buildSystem(ctx, systemSlug)
	if err != nil {
		return nil, err
	}
	ids, err := change(slices.Clone(v.TrustedBuildSystems), t.ID)
	if err != nil {
		return nil, err
	}
	p, err := s.signing.EditProject(ctx, a, projectSlug, signing.ProjectEdit{TrustedBuildSystems: &ids, Version: v.Version})
	if err != nil {
		return nil, err
	}
	return s.linked(ctx, p.TrustedBuildSystems)
}

// LinkTrustedBuildSystem links a trusted build system to a project; a link that there is stays.
func (s *service) LinkTrustedBuildSystem(ctx context.Context, r api.LinkTrustedBuildSystemRequestObject) (api.LinkTrustedBuildSystemResponseObject, error) {
	list, err := s.relink(ctx, r.ProjectSlug, r.Body.TrustedBuildSystemSlug, func(ids []signing.ID, id signing.ID) ([]signing.ID, error) {
		if slices.Contains(ids, id) {
			return ids, nil
		}
		return append(ids, id), nil
	})
	if signing.KindOf(err) == signing.KindNotFound {
		if _, projectErr := s.signing.Project(ctx, actorOf(ctx), r.ProjectSlug); projectErr == nil {
			err = signing.Invalid("TrustedBuildSystemSlug", "There is no trusted build system with slug '%s'.", truncate(r.Body.TrustedBuildSystemSlug, 100))
		}
	}
	return reply[api.LinkTrustedBuildSystemResponseObject](api.LinkTrustedBuildSystem200JSONResponse(list), err)
}

// UnlinkTrustedBuildSystem removes a link.
func (s *service) UnlinkTrustedBuildSystem(ctx context.Context, r api.UnlinkTrustedBuildSystemRequestObject) (api.UnlinkTrustedBuildSystemResponseObject, error) {
	list, err := s.relink(ctx, r.ProjectSlug, r.TrustedBuildSystemSlug, func(ids []signing.ID, id signing.ID) ([]signing.ID, error) {
		i := slices.Index(ids, id)
		if i < 0 {
			return nil, signing.Errorf(signing.KindNotFound, "The trusted build system with slug '%s' is not linked to the project.", truncate(r.TrustedBuildSystemSlug, 100))
		}
		return slices.Delete(ids, i, i+1), nil
	})
	return reply[api.UnlinkTrustedBuildSystemResponseObject](api.UnlinkTrustedBuildSystem200JSONResponse(list), err)
}

// configurationNow reads an artifact configuration again after a change.
func (s *service) configurationNow(ctx context.Context, project, slug string) (api.ArtifactConfiguration, error) {
	v, err := s.signing.Project(ctx, actorOf(ctx), project)
	if err != nil {
		return api.ArtifactConfiguration{}, err
	}
	for _, c := range v.Configurations {
		if strings.EqualFold(c.Slug, slug) {
			return configurationOf(exchangeOf(ctx).links, v, c), nil
		}
	}
	return api.ArtifactConfiguration{}, signing.Errorf(signing.KindNotFound, "There is no artifact configuration with slug '%s' in the project with slug '%s'.", truncate(slug, 100), v.Slug)
}

// CreateArtifactConfiguration makes an artifact configuration.
func (s *service) CreateArtifactConfiguration(ctx context.Context, r api.CreateArtifactConfigurationRequestObject) (api.CreateArtifactConfigurationResponseObject, error) {
	b := r.Body
	c, err := s.signing.CreateConfiguration(ctx, actorOf(ctx), r.ProjectSlug, signing.ConfigurationEdit{Slug: &b.Slug, Name: &b.Name, Description: b.Description, XML: &b.ArtifactConfigurationXML})
	if err != nil {
		return nil, err
	}
	body, err := s.configurationNow(ctx, r.ProjectSlug, c.Slug)
	location := strings.TrimSuffix(body.ArtifactConfigurationXMLLink, "/Xml")
	return reply[api.CreateArtifactConfigurationResponseObject](api.CreateArtifactConfiguration201JSONResponse{Body: body, Headers: api.CreateArtifactConfiguration201ResponseHeaders{Location: location}}, err)
}

func (s *service) editConfiguration(ctx context.Context, project, slug string, e signing.ConfigurationEdit) (api.ArtifactConfiguration, error) {
	c, err := s.signing.EditConfiguration(ctx, actorOf(ctx), project, slug, e)
	if err != nil {
		return api.ArtifactConfiguration{}, err
	}
	return s.configurationNow(ctx, project, c.Slug)
}

// EditArtifactConfiguration changes an artifact configuration's names.
func (s *service) EditArtifactConfiguration(ctx context.Context, r api.EditArtifactConfigurationRequestObject) (api.EditArtifactConfigurationResponseObject, error) {
	b := r.Body
	c, err := s.editConfiguration(ctx, r.ProjectSlug, r.ArtifactConfigurationSlug, signing.ConfigurationEdit{Slug: b.Slug, Name: b.Name, Description: b.Description, Version: b.Version})
	return reply[api.EditArtifactConfigurationResponseObject](api.EditArtifactConfiguration200JSONResponse(c), err)
}

// EditArtifactConfigurationXML makes a new version of the text.
func (s *service) EditArtifactConfigurationXML(ctx context.Context, r api.EditArtifactConfigurationXMLRequestObject) (api.EditArtifactConfigurationXMLResponseObject, error) {
	c, err := s.editConfiguration(ctx, r.ProjectSlug, r.ArtifactConfigurationSlug, signing.ConfigurationEdit{XML: &r.Body.ArtifactConfigurationXML, Version: r.Body.Version})
	return reply[api.EditArtifactConfigurationXMLResponseObject](api.EditArtifactConfigurationXML200JSONResponse(c), err)
}

// ListArtifactConfigurationVersions lists the versions, newest first.
func (s *service) ListArtifactConfigurationVersions(ctx context.Context, r api.ListArtifactConfigurationVersionsRequestObject) (api.ListArtifactConfigurationVersionsResponseObject, error) {
	v, err := s.signing.Configuration(ctx, actorOf(ctx), r.ProjectSlug, r.ArtifactConfigurationSlug, 0)
	if err != nil {
		return nil, err
	}
	answer := api.ListArtifactConfigurationVersions200JSONResponse{}
	for _, version := range v.Versions {
		answer = append(answer, api.ArtifactConfigurationVersion{
			Number: version.Number, CreatedAt: version.CreatedAt, CreatedByID: string(version.CreatedBy),
			ArtifactConfigurationXMLLink: configurationXMLLink(exchangeOf(ctx).links, r.ProjectSlug, v.Configuration, version.Number),
		})
	}
	return answer, nil
}

// ActivateArtifactConfiguration activates an artifact configuration.
func (s *service) ActivateArtifactConfiguration(ctx context.Context, r api.ActivateArtifactConfigurationRequestObject) (api.ActivateArtifactConfigurationResponseObject, error) {
	c, err := s.editConfiguration(ctx, r.ProjectSlug, r.ArtifactConfigurationSlug, signing.ConfigurationEdit{Active: pointer(true), Version: expected(r.Body)})
	return reply[api.ActivateArtifactConfigurationResponseObject](api.ActivateArtifactConfiguration200JSONResponse(c), err)
}

// DeactivateArtifactConfiguration deactivates an artifact configuration.
func (s *service) DeactivateArtifactConfiguration(ctx context.Context, r api.DeactivateArtifactConfigurationRequestObject) (api.DeactivateArtifactConfigurationResponseObject, error) {
	c, err := s.editConfiguration(ctx, r.ProjectSlug, r.ArtifactConfigurationSlug, signing.ConfigurationEdit{Active: pointer(false), Version: expected(r.Body)})
	return reply[api.DeactivateArtifactConfigurationResponseObject](api.DeactivateArtifactConfiguration200JSONResponse(c), err)
}

// policy finds a signing policy with its project.
func (s *service) policy(ctx context.Context, project, slug string) (*signing.ProjectView, *signing.Policy, error) {
	v, err := s.signing.Project(ctx, actorOf(ctx), project)
	if err != nil {
		return nil, nil, err
	}
	for _, p := range v.Policies {
		if strings.EqualFold(p.Slug, slug) {
			return v, p, nil
		}
	}
	return nil, nil, signing.Errorf(signing.KindNotFound, "There is no signing policy with slug '%s' in the project with slug '%s'.", truncate(slug, 100), v.Slug)
}

func (s *service) policyNow(ctx context.Context, project, slug string) (api.SigningPolicy, error) {
	v, p, err := s.policy(ctx, project, slug)
	if err != nil {
		return api.SigningPolicy{}, err
	}
	return policyOf(exchangeOf(ctx).links, v, p), nil
}

// rulesFrom lays the rules that are given over the current ones.
func rulesFrom(b api.EditSigningPolicy, current signing.PolicyRules) *signing.PolicyRules {
	current.RequiredApprovals = overlay(b.RequiredApprovals, current.RequiredApprovals)
	current.SubmitterMayNotApprove = overlay(b.SubmitterMayNotApprove, current.SubmitterMayNotApprove)
	current.RequireTrustedBuildSystem = overlay(b.RequiresTrustedBuildSystem, current.RequireTrustedBuildSystem)
	current.VerifyOrigin = overlay(b.VerifyOriginPolicy, overlay(b.VerifiesOriginPolicy, overlay(b.VerifyOrigin, current.VerifyOrigin)))
	current.AllowedBranches = overlay(b.AllowedBranches, current.AllowedBranches)
	current.StrictConfiguration = overlay(b.RequiresStrictConfiguration, current.StrictConfiguration)
	current.RequireTimestamp = overlay(b.RequiresTimestamp, current.RequireTimestamp)
	current.RetentionDays = overlay(b.RetentionDays, current.RetentionDays)
	if level := levelGiven(b.Notifications); level != nil {
		current.Notifications = *level
	}
	return &current
}

// CreateSigningPolicy makes a signing policy.
func (s *service) CreateSigningPolicy(ctx context.Context, r api.CreateSigningPolicyRequestObject) (api.CreateSigningPolicyResponseObject, error) {
	b := r.Body
	rules := rulesFrom(api.EditSigningPolicy{
		RequiredApprovals: b.RequiredApprovals, SubmitterMayNotApprove: b.SubmitterMayNotApprove,
		RequiresTrustedBuildSystem: b.RequiresTrustedBuildSystem, AllowedBranches: b.AllowedBranches,
		VerifyOriginPolicy: b.VerifyOriginPolicy, VerifiesOriginPolicy: b.VerifiesOriginPolicy, VerifyOrigin: b.VerifyOrigin,
		RequiresStrictConfiguration: b.RequiresStrictConfiguration, RequiresTimestamp: b.RequiresTimestamp, RetentionDays: b.RetentionDays,
		Notifications: b.Notifications,
	}, signing.PolicyRules{})
	p, err := s.signing.CreatePolicy(ctx, actorOf(ctx), r.ProjectSlug, signing.PolicyEdit{
		Slug: &b.Slug, Name: &b.Name, Description: b.Description, CertificateSlug: &b.CertificateSlug,
		Submitters: subjectsGiven(b.Submitters), Approvers: subjectsGiven(b.Approvers), Rules: rules,
	})
	if err != nil {
		return nil, err
	}
	body, err := s.policyNow(ctx, r.ProjectSlug, p.Slug)
	location := strings.TrimSuffix(body.CertificateLink, "/Certificate")
	return reply[api.CreateSigningPolicyResponseObject](api.CreateSigningPolicy201JSONResponse{Body: body, Headers: api.CreateSigningPolicy201ResponseHeaders{Location: location}}, err)
}

func (s *service) editPolicy(ctx context.Context, project, slug string, e signing.PolicyEdit) (api.SigningPolicy, error) {
	p, err := s.signing.EditPolicy(ctx, actorOf(ctx), project, slug, e)
	if err != nil {
		return api.SigningPolicy{}, err
	}
	return s.policyNow(ctx, project, p.Slug)
}

// EditSigningPolicy changes a signing policy. The rules that are not given stay; of two changes at the same time one is
// refused.
func (s *service) EditSigningPolicy(ctx context.Context, r api.EditSigningPolicyRequestObject) (api.EditSigningPolicyResponseObject, error) {
	b := r.Body
	_, current, err := s.policy(ctx, r.ProjectSlug, r.SigningPolicySlug)
	if err != nil {
		return nil, err
	}
	version := b.Version
	if version == 0 {
		version = current.Version
	}
	p, err := s.editPolicy(ctx, r.ProjectSlug, r.SigningPolicySlug, signing.PolicyEdit{
		Slug: b.Slug, Name: b.Name, Description: b.Description, CertificateSlug: b.CertificateSlug,
		Submitters: subjectsGiven(b.Submitters), Approvers: subjectsGiven(b.Approvers), Rules: rulesFrom(*b, current.Rules), Version: version,
	})
	return reply[api.EditSigningPolicyResponseObject](api.EditSigningPolicy200JSONResponse(p), err)
}

// ActivateSigningPolicy activates a signing policy.
func (s *service) ActivateSigningPolicy(ctx context.Context, r api.ActivateSigningPolicyRequestObject) (api.ActivateSigningPolicyResponseObject, error) {
	p, err := s.editPolicy(ctx, r.ProjectSlug, r.SigningPolicySlug, signing.PolicyEdit{Active: pointer(true), Version: expected(r.Body)})
	return reply[api.ActivateSigningPolicyResponseObject](api.ActivateSigningPolicy200JSONResponse(p), err)
}

// DeactivateSigningPolicy deactivates a signing policy.
func (s *service) DeactivateSigningPolicy(ctx context.Context, r api.DeactivateSigningPolicyRequestObject) (api.DeactivateSigningPolicyResponseObject, error) {
	p, err := s.editPolicy(ctx, r.ProjectSlug, r.SigningPolicySlug, signing.PolicyEdit{Active: pointer(false), Version: deactivation(r.Body).Version, EvenIfInUse: deactivation(r.Body).EvenIfInUse})
	return reply[api.DeactivateSigningPolicyResponseObject](api.DeactivateSigningPolicy200JSONResponse(p), err)
}

// pointer returns a pointer to a value.
func pointer[T any](v T) *T { return &v }
