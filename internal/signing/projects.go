package signing

import (
	"bytes"
	"context"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode"

	"github.com/countersign-dev/countersign/artifact"
	"github.com/countersign-dev/countersign/internal/audit"
)

// ProjectEdit describes a new project, or changes what is not nil.
type ProjectEdit struct {
	Slug         *string
	Name         *string
	Description  *string
	Repositories *[]string
	// Readers, Configurators, Active and TrustedBuildSystems take OpAdministerProject.
	Readers             *[]Subject
	Configurators       *[]Subject
	TrustedBuildSystems *[]ID
	Active              *bool
	// DefaultConfigurationSlug names the project's default artifact configuration.
	DefaultConfigurationSlug *string
	Version                  int
	// EvenIfInUse deactivates a project with signing requests that are not final; they fail.
	EvenIfInUse bool
}

func (e ProjectEdit) administers() bool {
	return e.Readers != nil || e.Configurators != nil || e.TrustedBuildSystems != nil || e.Active != nil || e.Slug != nil
}

// CreateProject makes an active project.
func (s *Service) CreateProject(ctx context.Context, a Actor, e ProjectEdit) (*Project, error) {
	if err := require(a, OpCreateProject, scope{}); err != nil {
		return nil, err
	}
	p := &Project{ID: NewID(), OrganizationID: a.OrganizationID, Active: true, CreatedAt: s.now(), Version: 1}
	err := s.store.Tx(ctx, func(tx Tx) error {
		if err := tx.LockOrganization(ctx, a.OrganizationID); err != nil { // or a group could be deleted meanwhile
			return err
		}
		if err := applyProject(ctx, tx, p, e); err != nil {
			return err
		}
		if err := tx.InsertProject(ctx, p); err != nil {
			return taken(err, "Slug", "Another project has the slug '%s' already.", p.Slug)
		}
		return s.record(ctx, tx, a, "Project.Created", projectObject(p), map[string]any{"after": p})
	})
	if err != nil {
		return nil, err
	}
	return p, nil
}

// EditProject changes a project. One with signing requests that are not final is deactivated only with EvenIfInUse:
// KindConflict names their policies.
func (s *Service) EditProject(ctx context.Context, a Actor, slug string, e ProjectEdit) (*Project, error) {
	return edit[Project]{
		event: "Project.Edited",
		load:  func(tx Tx) (*Project, error) { return s.visibleProject(ctx, tx, a, slug) },
		permit: func(_ Tx, p *Project) error {
			if e.administers() {
				return require(a, OpAdministerProject, scope{project: p})
			}
			return require(a, OpConfigureProject, scope{project: p})
		},
		apply: func(tx Tx, p *Project) error {
			was := p.Active
			if err := applyProject(ctx, tx, p, e); err != nil || !was || p.Active || e.EvenIfInUse {
				return err
			}
			uses, err := usesOfProject(ctx, tx, p)
			if err != nil {
				return err
			}
			return inUse(fmt.Sprintf("Project '%s'", p.Slug), uses, "Wait for them or cancel them first."+evenSo)
		},
		update: func(tx Tx, p *Project) error {
			return taken(tx.UpdateProject(ctx, p), "Slug", "Another project has the slug '%s' already, or somebody changed the project meanwhile.", p.Slug)
		},
		version: e.Version, current: func(p *Project) int { return p.Version },
		object: projectObject,
	}.run(ctx, s, a)
}

func applyProject(ctx context.Context, tx Tx, p *Project, e ProjectEdit) (err error) {
	set(&p.Slug, e.Slug)
	set(&p.Name, e.Name)
	set(&p.Description, e.Description)
	set(&p.Repositories, e.Repositories)
	set(&p.Readers, e.Readers)
	set(&p.Configurators, e.Configurators)
	set(&p.TrustedBuildSystems, e.TrustedBuildSystems)
	set(&p.Active, e.Active)
	var v validation
	v.slug("Slug", p.Slug)
	v.name("Name", p.Name)
	v.text("Description", p.Description)
	p.Repositories = v.repositories("Repositories", p.Repositories)
	if p.Readers, err = v.subjects(ctx, tx, p.OrganizationID, "Readers", p.Readers); err != nil {
		return err
	}
	if p.Configurators, err = v.subjects(ctx, tx, p.OrganizationID, "Configurators", p.Configurators); err != nil {
		return err
	}
	for _, id := range p.TrustedBuildSystems {
		if _, err := tx.TrustedBuildSystem(ctx, p.OrganizationID, id); KindOf(err) == KindNotFound {
			v.add("TrustedBuildSystems", "There is no trusted build system with id '%s'.", id)
		} else if err != nil {
			return err
		}
	}
	if e.DefaultConfigurationSlug != nil {
		c, err := tx.ConfigurationBySlug(ctx, p.OrganizationID, p.ID, *e.DefaultConfigurationSlug)
		switch {
		case KindOf(err) == KindNotFound:
			v.add("ArtifactConfigurationSlug", "There is no artifact configuration with slug '%s' in the project with slug '%s'.", *e.DefaultConfigurationSlug, p.Slug)
		case err != nil:
			return err
		case !c.Active:
			v.add("ArtifactConfigurationSlug", "The artifact configuration with slug '%s' is deactivated.", c.Slug)
		default:
			p.DefaultConfigurationID = c.ID
		}
	}
	return v.err()
}

// visibleProject finds a project by slug that the actor may read.
func (s *Service) visibleProject(ctx context.Context, tx Tx, a Actor, slug string) (*Project, error) {
	p, err := tx.ProjectBySlug(ctx, a.OrganizationID, slug)
	if err == nil && !allowed(a, OpReadProject, scope{project: p}) {
		var policies []*Policy
		policies, err = tx.Policies(ctx, a.OrganizationID, PolicyFilter{ProjectID: p.ID})
		if err == nil && !allowed(a, OpReadProject, scope{project: p, policies: policies}) {
			err = Errorf(KindNotFound, "")
		}
	}
	if KindOf(err) == KindNotFound {
		return nil, Errorf(KindNotFound, "There is no project with slug '%s'.", truncate(slug, 100))
	}
	return p, err
}

// ProjectView is a project with its policies and configurations.
type ProjectView struct {
	*Project
	Policies       []*Policy
	Configurations []*Configuration
	Certificates   map[ID]*Certificate // of the policies, by id
	MayConfigure   bool
	MayAdminister  bool
	MaySubmit      map[ID]bool // by policy id
	MayApprove     map[ID]bool // by policy id
	// Problems says, by policy id, why requests under an active policy cannot succeed as things are now: too few approvers,
	// an expired certificate, no linked build system.
	Problems map[ID][]string
}

// Project returns a project that the actor may read.
func (s *Service) Project(ctx context.Context, a Actor, slug string) (v *ProjectView, err error) {
	err = s.store.View(ctx, func(tx Tx) error {
		p, err := s.visibleProject(ctx, tx, a, slug)
		if err != nil {
			return err
		}
		views, err := s.projectViews(ctx, tx, a, []*Project{p}, p.ID)
		if err == nil {
			v = views[0]
		}
		return err
	})
	return v, err
}

// projectViews adds to projects what belongs to them; only names the project when there is but one. The number of queries does
// not depend on how many there are.
func (s *Service) projectViews(ctx context.Context, tx Tx, a Actor, projects []*Project, only ID) ([]*ProjectView, error) {
	policies, err := tx.Policies(ctx, a.OrganizationID, PolicyFilter{ProjectID: only})
	if err != nil {
		return nil, err
	}
	configurations, err := tx.Configurations(ctx, a.OrganizationID, only)
	if err != nil {
		return nil, err
	}
	all, err := tx.Certificates(ctx, a.OrganizationID)
	if err != nil {
		return nil, err
	}
	certificates := make(map[ID]*Certificate, len(all))
	for _, c := range all {
		certificates[c.ID] = c
	}
	var people directory
	if slices.ContainsFunc(policies, func(p *Policy) bool { return p.Active && p.Rules.RequiredApprovals > 0 }) {
		if people, err = readDirectory(ctx, tx, a.OrganizationID); err != nil {
			return nil, err
		}
	}
	views, byID := make([]*ProjectView, len(projects)), make(map[ID]*ProjectView, len(projects))
	for i, p := range projects {
		views[i] = &ProjectView{
			Project: p, Certificates: map[ID]*Certificate{}, MaySubmit: map[ID]bool{}, MayApprove: map[ID]bool{}, Problems: map[ID][]string{},
			MayConfigure: allowed(a, OpConfigureProject, scope{project: p}), MayAdminister: allowed(a, OpAdministerProject, scope{project: p}),
		}
		byID[p.ID] = views[i]
	}
	for _, c := range configurations {
		if v := byID[c.ProjectID]; v != nil {
			v.Configurations = append(v.Configurations, c)
		}
	}
	now := s.now()
	for _, p := range policies {
		v := byID[p.ProjectID]
		if v == nil {
			continue
		}
		v.Policies = append(v.Policies, p)
		if c := certificates[p.CertificateID]; c != nil {
			v.Certificates[c.ID] = c
		}
		v.MaySubmit[p.ID] = allowed(a, OpSubmit, scope{project: v.Project, policy: p})
		v.MayApprove[p.ID] = allowed(a, OpApprove, scope{project: v.Project, policy: p})
		approvers := 0
		if p.Rules.RequiredApprovals > 0 && p.Active {
			approvers = people.count(p.Approvers)
		}
		if list := problems(now, v.Project, p, v.Certificates[p.CertificateID], approvers); list != nil {
			v.Problems[p.ID] = list
		}
	}
	return views, nil
}

// Projects lists the projects that the actor may read, by name, with what belongs to them.
func (s *Service) Projects(ctx context.Context, a Actor) ([]*ProjectView, error) {
	if err := require(a, OpListProjects, scope{}); err != nil {
		return nil, err
	}
	var out []*ProjectView
	err := s.store.View(ctx, func(tx Tx) error {
		out = nil
		projects, err := tx.Projects(ctx, a.OrganizationID)
		if err != nil {
			return err
		}
		views, err := s.projectViews(ctx, tx, a, projects, "")
		if err != nil {
			return err
		}
		for _, v := range views {
			if allowed(a, OpReadProject, scope{project: v.Project, policies: v.Policies}) {
				out = append(out, v)
			}
		}
		return nil
	})
	return out, err
}

func projectObject(p *Project) audit.Object {
	return audit.Object{Type: "Project", ID: string(p.ID), Name: p.Slug}
}

// ConfigurationEdit describes a new artifact configuration, or changes what is not nil. A new XML makes a new version.
type ConfigurationEdit struct {
	Slug        *string
	Name        *string
	Description *string
	XML         *string
	Active      *bool
	Version     int
}

// CreateConfiguration makes an artifact configuration with its first version. A project's first one becomes its default.
func (s *Service) CreateConfiguration(ctx context.Context, a Actor, project string, e ConfigurationEdit) (*Configuration, error) {
	var c *Configuration
	err := s.store.Tx(ctx, func(tx Tx) error {
		if err := tx.LockOrganization(ctx, a.OrganizationID); err != nil { // one becomes the first
			return err
		}
		p, err := s.visibleProject(ctx, tx, a, project)
		if err != nil {
			return err
		}
		if err := require(a, OpConfigureProject, scope{project: p}); err != nil {
			return err
		}
		c = &Configuration{ID: NewID(), OrganizationID: a.OrganizationID, ProjectID: p.ID, Active: true, CreatedAt: s.now(), Version: 1, Latest: 1}
		if e.XML == nil {
			return Invalid("ArtifactConfigurationXml", "The artifact configuration's XML is required.")
		}
		if err := applyConfiguration(c, e); err != nil {
			return err
		}
		if err := tx.InsertConfiguration(ctx, c); err != nil {
			return taken(err, "Slug", "Another artifact configuration of the project has the slug '%s' already.", c.Slug)
		}
		if err := s.insertVersion(ctx, tx, a, c, *e.XML); err != nil {
			return err
		}
		if err := s.record(ctx, tx, a, "ArtifactConfiguration.Created", configurationObject(c), map[string]any{"after": writtenConfiguration{c, *e.XML}, "project": p.Slug}); err != nil {
			return err
		}
		if p.DefaultConfigurationID != "" {
			return nil
		}
		p.DefaultConfigurationID = c.ID
		if err := tx.UpdateProject(ctx, p); err != nil {
			return err
		}
		return s.record(ctx, tx, a, "Project.Edited", projectObject(p), map[string]any{
			"before": map[string]any{"defaultConfigurationId": ""}, "after": map[string]any{"defaultConfigurationId": c.ID},
		})
	})
	if err != nil {
		return nil, err
	}
	return c, nil
}

func (s *Service) insertVersion(ctx context.Context, tx Tx, a Actor, c *Configuration, xml string) error {
	return tx.InsertConfigurationVersion(ctx, &ConfigurationVersion{
		ConfigurationID: c.ID, Number: c.Latest, XML: xml, CreatedAt: s.now(), CreatedBy: a.UserID,
	})
}

func applyConfiguration(c *Configuration, e ConfigurationEdit) error {
	set(&c.Slug, e.Slug)
	set(&c.Name, e.Name)
	set(&c.Description, e.Description)
	set(&c.Active, e.Active)
	var v validation
	v.slug("Slug", c.Slug)
	v.name("Name", c.Name)
	v.text("Description", c.Description)
	if e.XML != nil {
		v.configuration("ArtifactConfigurationXml", *e.XML)
	}
	return v.err()
}

// configuration checks an artifact configuration's text, each mistake with its line.
func (v *validation) configuration(field, xml string) *artifact.Configuration {
	if len(xml) > maxXML {
		v.add(field, "The artifact configuration has %d bytes; at most %d are allowed.", len(xml), maxXML)
		return nil
	}
	c, err := artifact.ParseConfiguration([]byte(xml))
	if err == nil {
		err = c.CheckAvailable()
	}
	if mistakes := (artifact.ConfigurationErrors)(nil); errors.As(err, &mistakes) {
		for _, m := range mistakes {
			v.add(field, "%s", m.Error())
		}
		return nil
	}
	if err != nil {
		v.add(field, "%v", err)
		return nil
	}
	return c
}

// EditConfiguration changes an artifact configuration; a new XML becomes its next version, which later requests pin.
func (s *Service) EditConfiguration(ctx context.Context, a Actor, project, slug string, e ConfigurationEdit) (*Configuration, error) {
	var p *Project
	c, err := edit[writtenConfiguration]{
		event: "ArtifactConfiguration.Edited",
		load: func(tx Tx) (*writtenConfiguration, error) {
			var err error
			if p, err = s.visibleProject(ctx, tx, a, project); err != nil {
				return nil, err
			}
			c, err := tx.ConfigurationBySlug(ctx, a.OrganizationID, p.ID, slug)
			if err != nil {
				return nil, err
			}
			latest, err := tx.ConfigurationVersion(ctx, a.OrganizationID, c.ID, c.Latest)
			if err != nil {
				return nil, err
			}
			return &writtenConfiguration{c, latest.XML}, nil
		},
		permit: func(Tx, *writtenConfiguration) error { return require(a, OpConfigureProject, scope{project: p}) },
		apply: func(tx Tx, c *writtenConfiguration) error {
			if err := applyConfiguration(c.Configuration, e); err != nil {
				return err
			}
			if !c.Active && c.ID == p.DefaultConfigurationID {
				return Errorf(KindConflict, "'%s' is the default artifact configuration of project '%s'; make another one the default first.", c.Slug, p.Slug)
			}
			if e.XML == nil || *e.XML == c.XML {
				return nil
			}
			c.Latest++
			c.XML = *e.XML
			return s.insertVersion(ctx, tx, a, c.Configuration, c.XML)
		},
		update: func(tx Tx, c *writtenConfiguration) error {
			return taken(tx.UpdateConfiguration(ctx, c.Configuration), "Slug", "Another artifact configuration of the project has the slug '%s' already, or somebody changed this one meanwhile.", c.Slug)
		},
		version: e.Version, current: func(c *writtenConfiguration) int { return c.Version },
		object: func(c *writtenConfiguration) audit.Object { return configurationObject(c.Configuration) },
	}.run(ctx, s, a)
	if err != nil {
		return nil, err
	}
	return c.Configuration, nil
}

// writtenConfiguration is an artifact configuration with its latest text, as the audit log has it.
type writtenConfiguration struct {
	*Configuration
	XML string `json:"xml"`
}

// ConfigurationView is an artifact configuration with one version's text.
type ConfigurationView struct {
	*Configuration
	Text     *ConfigurationVersion
	Versions []*ConfigurationVersion // newest first, without their texts
}

// Parsed returns the version as the engine understands it: its parameters, and what a page needs to know for an upload.
func (v *ConfigurationView) Parsed() (*artifact.Configuration, error) {
	return artifact.ParseConfiguration([]byte(v.Text.XML))
}

// Configuration returns an artifact configuration with the text of a version; number 0 is the latest.
func (s *Service) Configuration(ctx context.Context, a Actor, project, slug string, number int) (v *ConfigurationView, err error) {
	err = s.store.View(ctx, func(tx Tx) error {
		p, err := s.visibleProject(ctx, tx, a, project)
		if err != nil {
			return err
		}
		c, err := tx.ConfigurationBySlug(ctx, a.OrganizationID, p.ID, slug)
		if err != nil {
			return Errorf(KindNotFound, "There is no artifact configuration with slug '%s' in the project with slug '%s'.", truncate(slug, 100), p.Slug)
		}
		if number == 0 {
			number = c.Latest
		}
		v = &ConfigurationView{Configuration: c}
		if v.Text, err = tx.ConfigurationVersion(ctx, a.OrganizationID, c.ID, number); err != nil {
			return err
		}
		v.Versions, err = tx.ConfigurationVersions(ctx, a.OrganizationID, c.ID)
		return err
	})
	return v, err
}

func configurationObject(c *Configuration) audit.Object {
	return audit.Object{Type: "ArtifactConfiguration", ID: string(c.ID), Name: c.Slug}
}

// PolicyEdit describes a new signing policy, or changes what is not nil.
type PolicyEdit struct {
	Slug            *string
	Name            *string
	Description     *string
	CertificateSlug *string
	Submitters      *[]Subject
	Approvers       *[]Subject
	Rules           *PolicyRules
	Active          *bool
	Version         int
	// EvenIfInUse deactivates a policy with signing requests that are not final; they fail.
	EvenIfInUse bool
}

// CreatePolicy makes an active signing policy.
func (s *Service) CreatePolicy(ctx context.Context, a Actor, project string, e PolicyEdit) (*Policy, error) {
	var policy *Policy
	err := s.store.Tx(ctx, func(tx Tx) error {
		if err := tx.LockOrganization(ctx, a.OrganizationID); err != nil { // the certificate's restrictions shall hold
			return err
		}
		p, err := s.visibleProject(ctx, tx, a, project)
		if err != nil {
			return err
		}
		if err := require(a, OpManagePolicies, scope{project: p}); err != nil {
			return err
		}
		policy = &Policy{ID: NewID(), OrganizationID: a.OrganizationID, ProjectID: p.ID, Active: true, CreatedAt: s.now(), Version: 1}
		if err := applyPolicy(ctx, tx, policy, e); err != nil {
			return err
		}
		if err := tx.InsertPolicy(ctx, policy); err != nil {
			return taken(err, "Slug", "Another signing policy of the project has the slug '%s' already.", policy.Slug)
		}
		return s.record(ctx, tx, a, "SigningPolicy.Created", policyObject(policy), map[string]any{"after": policy, "project": p.Slug})
	})
	if err != nil {
		return nil, err
	}
	return policy, nil
}

// EditPolicy changes a signing policy. When what approvers decide on changes, the approvals of waiting requests fall.
// One with signing requests that are not final is deactivated only with EvenIfInUse: KindConflict says how many.
func (s *Service) EditPolicy(ctx context.Context, a Actor, project, slug string, e PolicyEdit) (*Policy, error) {
	var p *Project
	return edit[Policy]{
		event: "SigningPolicy.Edited",
		load: func(tx Tx) (policy *Policy, err error) {
			if p, err = s.visibleProject(ctx, tx, a, project); err != nil {
				return nil, err
			}
			return tx.PolicyBySlug(ctx, a.OrganizationID, p.ID, slug)
		},
		permit: func(_ Tx, policy *Policy) error {
			return require(a, OpManagePolicies, scope{project: p, policy: policy})
		},
		apply: func(tx Tx, policy *Policy) error {
			was := *policy
			if err := applyPolicy(ctx, tx, policy, e); err != nil {
				return err
			}
			same, err := sameDecision(was, *policy)
			if err != nil {
				return err
			}
			if !same {
				policy.ApprovalVersion++
			}
			if !was.Active || policy.Active || e.EvenIfInUse {
				return nil
			}
			uses, err := usesOfPolicy(ctx, tx, p, policy)
			if err != nil {
				return err
			}
			return inUse(fmt.Sprintf("Signing policy '%s'", policy.Slug), uses, "Wait for them or cancel them first."+evenSo)
		},
		update: func(tx Tx, policy *Policy) error {
			return s.recounting(ctx, tx, a, func() error {
				return taken(tx.UpdatePolicy(ctx, policy), "Slug", "Another signing policy of the project has the slug '%s' already, or somebody changed this one meanwhile.", policy.Slug)
			})
		},
		version: e.Version, current: func(policy *Policy) int { return policy.Version },
		object: policyObject,
	}.run(ctx, s, a)
}

// sameDecision reports whether approvers decide on the same under both states of a policy: what only names it, who may submit
// or decide, and what happens after the decision do not count. Whatever else a policy has, or will have, does.
func sameDecision(was, is Policy) (bool, error) {
	var raw [2][]byte
	for i, p := range []Policy{was, is} {
		p.Slug, p.Name, p.Description, p.Submitters, p.Approvers = "", "", "", nil, nil
		p.Rules.RetentionDays, p.Rules.Notifications = 0, ""
		var err error
		if raw[i], err = json.Marshal(p); err != nil {
			return false, err
		}
	}
	return bytes.Equal(raw[0], raw[1]), nil
}

func applyPolicy(ctx context.Context, tx Tx, p *Policy, e PolicyEdit) (err error) {
	set(&p.Slug, e.Slug)
	set(&p.Name, e.Name)
	set(&p.Description, e.Description)
	set(&p.Submitters, e.Submitters)
	set(&p.Approvers, e.Approvers)
	set(&p.Rules, e.Rules)
	set(&p.Active, e.Active)
	var v validation
	v.slug("Slug", p.Slug)
	v.name("Name", p.Name)
	v.text("Description", p.Description)
	if p.Submitters, err = v.subjects(ctx, tx, p.OrganizationID, "Submitters", p.Submitters); err != nil {
		return err
	}
	if p.Approvers, err = v.subjects(ctx, tx, p.OrganizationID, "Approvers", p.Approvers); err != nil {
		return err
	}
	v.rules(p.Rules)
	if p.Active && p.Rules.RequiredApprovals > 0 {
		d, err := readDirectory(ctx, tx, p.OrganizationID)
		if err != nil {
			return err
		}
		if text := shortage(p, d.count(p.Approvers)); text != "" {
			v.add("RequiredApprovals", "%s", text)
		}
	}
	if e.CertificateSlug != nil {
		c, err := tx.CertificateBySlug(ctx, p.OrganizationID, *e.CertificateSlug)
		switch {
		case KindOf(err) == KindNotFound:
			v.add("CertificateSlug", "There is no certificate with slug '%s'.", truncate(*e.CertificateSlug, 100))
		case err != nil:
			return err
		case !c.Active:
			v.add("CertificateSlug", "The certificate with slug '%s' is deactivated.", c.Slug)
		default:
			p.CertificateID = c.ID
		}
	}
	if p.CertificateID == "" {
		if e.CertificateSlug == nil {
			v.add("CertificateSlug", "A certificate is required.")
		}
	} else if c, err := tx.Certificate(ctx, p.OrganizationID, p.CertificateID); err != nil {
		return err
	} else if missing := c.Restrictions.missing(p.Rules); len(missing) > 0 {
		v.add("CertificateSlug", "Certificate '%s' may only be used by signing policies with these rules, too: %s.", c.Slug, strings.Join(missing, ", "))
	}
	return v.err()
}

func (v *validation) rules(r PolicyRules) {
	if r.RequiredApprovals < 0 || r.RequiredApprovals > 100 {
		v.add("RequiredApprovals", "The number of required approvals must be between 0 and 100.")
	}
	if r.RetentionDays < 0 || r.RetentionDays > 36500 {
		v.add("RetentionDays", "The retention must be between 0 (the organization's) and 36500 days.")
	}
	v.notificationLevel("Notifications", r.Notifications)
	if len(r.AllowedBranches) > maxList {
		v.add("AllowedBranches", "There are more than %d branch patterns.", maxList)
	}
	for _, b := range r.AllowedBranches {
		if strings.TrimSpace(b) != b || b == "" || len(b) > 500 || strings.ContainsFunc(b, unicode.IsControl) {
			v.add("AllowedBranches", "A branch pattern has 1 to 500 bytes, such as 'main' or 'release/*', without spaces around it or control characters.")
			break
		}
	}
	if len(r.AllowedBranches) > 0 && !r.VerifyOrigin {
		v.add("AllowedBranches", "Branches are only checked when the origin is verified: turn that on as well.")
	}
}

func policyObject(p *Policy) audit.Object {
	return audit.Object{Type: "SigningPolicy", ID: string(p.ID), Name: p.Slug}
}

// holdsCertificate reports whether a text holds a PEM certificate.
func holdsCertificate(text string) bool {
	for rest := []byte(text); ; {
		var b *pem.Block
		if b, rest = pem.Decode(rest); b == nil {
			return false
		}
		if b.Type == "CERTIFICATE" {
			return true
		}
	}
}
