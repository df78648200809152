package store

import (
	"cmp"
	"context"
	"slices"

	"github.com/countersign-dev/countersign/internal/signing"
)

const projectColumns = "id, organization_id, slug, name, description, active, repositories, default_configuration_id, " +
	"readers, configurators, trusted_build_systems, created_at, version"

func scanProject(s scanner) (*signing.Project, error) {
	p := &signing.Project{}
	return p, s.Scan(&p.ID, &p.OrganizationID, &p.Slug, &p.Name, &p.Description, &p.Active, jsonColumn{&p.Repositories},
		&p.DefaultConfigurationID, jsonColumn{&p.Readers}, jsonColumn{&p.Configurators}, jsonColumn{&p.TrustedBuildSystems},
		timeColumn{&p.CreatedAt}, &p.Version)
}

func (x *tx) Project(ctx context.Context, org, id signing.ID) (*signing.Project, error) {
	return one(ctx, x.q, "project", scanProject,
		"SELECT "+projectColumns+" FROM projects WHERE id = $1 AND organization_id = $2", text(id), text(org))
}

func (x *tx) ProjectBySlug(ctx context.Context, org signing.ID, slug string) (*signing.Project, error) {
	return one(ctx, x.q, "project", scanProject,
		"SELECT "+projectColumns+" FROM projects WHERE organization_id = $1 AND slug_key = $2", text(org), fold(slug))
}

func (x *tx) Projects(ctx context.Context, org signing.ID) ([]*signing.Project, error) {
	all, err := list(ctx, x.q, scanProject, "SELECT "+projectColumns+" FROM projects WHERE organization_id = $1", text(org))
	return byName(all, func(p *signing.Project) (string, signing.ID) { return p.Name, p.ID }), err
}

func (x *tx) InsertProject(ctx context.Context, p *signing.Project) error {
	p.Version = 1
	return x.q.insert(ctx, "A project with this slug exists.",
		"INSERT INTO projects ("+projectColumns+", slug_key) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)",
		text(p.ID), text(p.OrganizationID), p.Slug, p.Name, p.Description, p.Active, encode(p.Repositories),
		text(p.DefaultConfigurationID), encode(p.Readers), encode(p.Configurators), encode(p.TrustedBuildSystems),
		micros(p.CreatedAt), p.Version, fold(p.Slug))
}

func (x *tx) UpdateProject(ctx context.Context, p *signing.Project) error {
	return x.q.update(ctx, "project", &p.Version, "UPDATE projects SET slug = $1, slug_key = $2, name = $3, description = $4, "+
		"active = $5, repositories = $6, default_configuration_id = $7, readers = $8, configurators = $9, "+
		"trusted_build_systems = $10, version = version + 1 WHERE id = $11 AND organization_id = $12 AND version = $13",
		p.Slug, fold(p.Slug), p.Name, p.Description, p.Active, encode(p.Repositories), text(p.DefaultConfigurationID),
		encode(p.Readers), encode(p.Configurators), encode(p.TrustedBuildSystems), text(p.ID), text(p.OrganizationID), p.Version)
}

const configurationColumns = "id, organization_id, project_id, slug, name, description, active, latest, created_at, version"

func scanConfiguration(s scanner) (*signing.Configuration, error) {
	c := &signing.Configuration{}
	return c, s.Scan(&c.ID, &c.OrganizationID, &c.ProjectID, &c.Slug, &c.Name, &c.Description, &c.Active, &c.Latest,
		timeColumn{&c.CreatedAt}, &c.Version)
}

func (x *tx) Configuration(ctx context.Context, org, id signing.ID) (*signing.Configuration, error) {
	return one(ctx, x.q, "artifact configuration", scanConfiguration,
		"SELECT "+configurationColumns+" FROM configurations WHERE id = $1 AND organization_id = $2", text(id), text(org))
}

func (x *tx) ConfigurationBySlug(ctx context.Context, org, project signing.ID, slug string) (*signing.Configuration, error) {
	return one(ctx, x.q, "artifact configuration", scanConfiguration,
		"SELECT "+configurationColumns+" FROM configurations WHERE project_id = $1 AND slug_key = $2 AND organization_id = $3",
		text(project), fold(slug), text(org))
}

func (x *tx) Configurations(ctx context.Context, org, project signing.ID) ([]*signing.Configuration, error) {
	c := conditions{}
	c.add("organization_id = ?", text(org))
	if project != "" {
		c.add("project_id = ?", text(project))
	}
	all, err := list(ctx, x.q, scanConfiguration, "SELECT "+configurationColumns+" FROM configurations WHERE "+c.where(), c.args...)
	return byName(all, func(c *signing.Configuration) (string, signing.ID) { return c.Name, c.ID }), err
}

func (x *tx) InsertConfiguration(ctx context.Context, c *signing.Configuration) error {
	c.Version = 1
	return x.q.insert(ctx, "An artifact configuration with this slug exists in the project.",
		"INSERT INTO configurations ("+configurationColumns+", slug_key) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
		text(c.ID), text(c.OrganizationID), text(c.ProjectID), c.Slug, c.Name, c.Description, c.Active, c.Latest,
		micros(c.CreatedAt), c.Version, fold(c.Slug))
}

func (x *tx) UpdateConfiguration(ctx context.Context, c *signing.Configuration) error {
	return x.q.update(ctx, "artifact configuration", &c.Version,
		"UPDATE configurations SET slug = $1, slug_key = $2, name = $3, description = $4, active = $5, latest = $6, "+
			"version = version + 1 WHERE id = $7 AND organization_id = $8 AND version = $9",
		c.Slug, fold(c.Slug), c.Name, c.Description, c.Active, c.Latest, text(c.ID), text(c.OrganizationID), c.Version)
}

const configurationVersionColumns = "v.configuration_id, v.number, v.xml, v.created_at, v.created_by"

func scanConfigurationVersion(s scanner) (*signing.ConfigurationVersion, error) {
	v := &signing.ConfigurationVersion{}
	return v, s.Scan(&v.ConfigurationID, &v.Number, &v.XML, timeColumn{&v.CreatedAt}, &v.CreatedBy)
}

func (x *tx) ConfigurationVersion(ctx context.Context, org, configuration signing.ID, number int) (*signing.ConfigurationVersion, error) {
	return one(ctx, x.q, "version of the artifact configuration", scanConfigurationVersion,
		"SELECT "+configurationVersionColumns+" FROM configuration_versions v JOIN configurations c ON c.id = v.configuration_id "+
			"WHERE v.configuration_id = $1 AND v.number = $2 AND c.organization_id = $3", text(configuration), number, text(org))
}

func (x *tx) ConfigurationVersions(ctx context.Context, org, configuration signing.ID) ([]*signing.ConfigurationVersion, error) {
	return list(ctx, x.q, scanConfigurationVersion,
		"SELECT v.configuration_id, v.number, '', v.created_at, v.created_by FROM configuration_versions v JOIN configurations c ON c.id = v.configuration_id "+
			"WHERE v.configuration_id = $1 AND c.organization_id = $2 ORDER BY v.number DESC", text(configuration), text(org))
}

func (x *tx) InsertConfigurationVersion(ctx context.Context, v *signing.ConfigurationVersion) error {
	return x.q.insert(ctx, "This version of the artifact configuration exists.",
		"INSERT INTO configuration_versions (configuration_id, number, xml, created_at, created_by) VALUES ($1, $2, $3, $4, $5)",
		text(v.ConfigurationID), v.Number, v.XML, micros(v.CreatedAt), text(v.CreatedBy))
}

const policyColumns = "id, organization_id, project_id, slug, name, description, active, certificate_id, submitters, approvers, " +
	"rules, created_at, version, approval_version"

func scanPolicy(s scanner) (*signing.Policy, error) {
	p := &signing.Policy{}
	return p, s.Scan(&p.ID, &p.OrganizationID, &p.ProjectID, &p.Slug, &p.Name, &p.Description, &p.Active, &p.CertificateID,
		jsonColumn{&p.Submitters}, jsonColumn{&p.Approvers}, jsonColumn{&p.Rules}, timeColumn{&p.CreatedAt}, &p.Version,
		&p.ApprovalVersion)
}

func (x *tx) Policy(ctx context.Context, org, id signing.ID) (*signing.Policy, error) {
	return one(ctx, x.q, "signing policy", scanPolicy,
		"SELECT "+policyColumns+" FROM policies WHERE id = $1 AND organization_id = $2", text(id), text(org))
}

func (x *tx) PolicyBySlug(ctx context.Context, org, project signing.ID, slug string) (*signing.Policy, error) {
	return one(ctx, x.q, "signing policy", scanPolicy,
		"SELECT "+policyColumns+" FROM policies WHERE project_id = $1 AND slug_key = $2 AND organization_id = $3",
		text(project), fold(slug), text(org))
}

func (x *tx) Policies(ctx context.Context, org signing.ID, filter signing.PolicyFilter) ([]*signing.Policy, error) {
	c := conditions{}
	c.add("organization_id = ?", text(org))
	if filter.ProjectID != "" {
		c.add("project_id = ?", text(filter.ProjectID))
	}
	if filter.CertificateID != "" {
		c.add("certificate_id = ?", text(filter.CertificateID))
	}
	all, err := list(ctx, x.q, scanPolicy, "SELECT "+policyColumns+" FROM policies WHERE "+c.where(), c.args...)
	slices.SortFunc(all, func(a, b *signing.Policy) int {
		return cmp.Or(cmp.Compare(a.ProjectID, b.ProjectID), cmp.Compare(fold(a.Name), fold(b.Name)), cmp.Compare(a.ID, b.ID))
	})
	return all, err
}

func (x *tx) InsertPolicy(ctx context.Context, p *signing.Policy) error {
	p.Version = 1
	return x.q.insert(ctx, "A signing policy with this slug exists in the project.",
		"INSERT INTO policies ("+policyColumns+", slug_key) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)",
		text(p.ID), text(p.OrganizationID), text(p.ProjectID), p.Slug, p.Name, p.Description, p.Active, text(p.CertificateID),
		encode(p.Submitters), encode(p.Approvers), encode(p.Rules), micros(p.CreatedAt), p.Version,
		p.ApprovalVersion, fold(p.Slug))
}

func (x *tx) UpdatePolicy(ctx context.Context, p *signing.Policy) error {
	return x.q.update(ctx, "signing policy", &p.Version, "UPDATE policies SET slug = $1, slug_key = $2, name = $3, "+
		"description = $4, active = $5, certificate_id = $6, submitters = $7, approvers = $8, rules = $9, "+
		"approval_version = $10, version = version + 1 WHERE id = $11 AND organization_id = $12 AND version = $13",
		p.Slug, fold(p.Slug), p.Name, p.Description, p.Active, text(p.CertificateID), encode(p.Submitters), encode(p.Approvers),
		encode(p.Rules), p.ApprovalVersion, text(p.ID), text(p.OrganizationID), p.Version)
}
