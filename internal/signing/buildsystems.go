package signing

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/countersign-dev/countersign/internal/audit"
)

// TrustedBuildSystem is a CI system whose word about an artifact's origin the organization accepts.
type TrustedBuildSystem struct {
	ID             ID     `json:"id"`
	OrganizationID ID     `json:"organizationId"`
	Slug           string `json:"slug"`
	Name           string `json:"name"`
	Description    string `json:"description"`
	Type           string `json:"type"` // CustomBuildSystem or the type of a PredefinedBuildSystem
	// BuildHost is the host of the pages of a predefined build system that the organization runs itself, such as
	// "jenkins.acme.example" or "ci.acme.example:8443"; empty for all others. It never changes: what the system vouched for
	// is judged by it.
	BuildHost string    `json:"buildHost,omitempty"`
	CreatedAt time.Time `json:"createdAt"`
	Version   int       `json:"version"`
}

// CustomBuildSystem is the type of a trusted build system that is bound to no product and no host.
const CustomBuildSystem = "Custom"

// PredefinedBuildSystem is a build product or service that Countersign knows: an origin that a trusted build system of its
// type vouches for must lie on the product's hosts.
type PredefinedBuildSystem struct {
	Type string
	Slug string
	// OwnServer says that organizations run the product themselves: each of its trusted build systems has a BuildHost, and
	// an organization may add several. Of a service there is one, under the fixed slug and with the type as its name.
	OwnServer bool
	// RepositoryHosts and BuildHosts are where the service keeps repositories and shows builds; "*." in front stands for any
	// subdomain. Empty allows every host.
	RepositoryHosts, BuildHosts []string
}

// PredefinedBuildSystems lists the predefined build systems. Azure DevOps and AppVeyor build from repositories elsewhere,
// too, so only their build pages are bound to hosts.
var PredefinedBuildSystems = []PredefinedBuildSystem{
	{Type: "GitHub.com", Slug: "github.com", RepositoryHosts: []string{"github.com"}, BuildHosts: []string{"github.com"}},
	{Type: "GitLab.com", Slug: "gitlab.com", RepositoryHosts: []string{"gitlab.com"}, BuildHosts: []string{"gitlab.com"}},
	{Type: "AzureDevOps.com", Slug: "azuredevops.com", BuildHosts: []string{"dev.azure.com", "*.visualstudio.com"}},
	{Type: "AppVeyor.com", Slug: "appveyor.com", BuildHosts: []string{"ci.appveyor.com"}},
	{Type: "Jenkins", Slug: "jenkins", OwnServer: true},
	{Type: "TeamCity", Slug: "teamcity", OwnServer: true},
}

// predefined returns what is known of the system's type; nothing of a custom one.
func (t *TrustedBuildSystem) predefined() (known PredefinedBuildSystem, ok bool) {
	i := slices.IndexFunc(PredefinedBuildSystems, func(p PredefinedBuildSystem) bool { return p.Type == t.Type })
	if i < 0 {
		return PredefinedBuildSystem{}, false
	}
	return PredefinedBuildSystems[i], true
}

// RepositoryHosts returns the hosts of the repositories that the system may vouch for; none is every host.
func (t *TrustedBuildSystem) RepositoryHosts() []string {
	p, _ := t.predefined()
	return p.RepositoryHosts
}

// BuildHosts returns the hosts of the builds that the system may vouch for; none is every host.
func (t *TrustedBuildSystem) BuildHosts() []string {
	if t.BuildHost != "" {
		return []string{t.BuildHost}
	}
	p, _ := t.predefined()
	return p.BuildHosts
}

// display names the system in a verification.
func (t *TrustedBuildSystem) display() string {
	if t.Type == CustomBuildSystem {
		return fmt.Sprintf("%s (%s)", t.Name, t.Slug)
	}
	return fmt.Sprintf("%s (%s, predefined type %s)", t.Name, t.Slug, t.Type)
}

// onHosts reports whether a host, with its port unless that is the scheme's own, is one of the hosts; none are all.
func onHosts(host string, hosts []string) bool {
	return len(hosts) == 0 || slices.ContainsFunc(hosts, func(h string) bool {
		if domain, ok := strings.CutPrefix(h, "*"); ok {
			return strings.HasSuffix(host, domain) && len(host) > len(domain)
		}
		return host == h
	})
}

// TrustedBuildSystemEdit describes a new trusted build system, or changes what is not nil.
type TrustedBuildSystemEdit struct {
	Slug        *string
	Name        *string
	Description *string
	Version     int
}

// AddTrustedBuildSystem makes a custom trusted build system. with makes its token in the same transaction, as of CreateUser.
func (s *Service) AddTrustedBuildSystem(ctx context.Context, a Actor, e TrustedBuildSystemEdit, with ...func(Tx, *TrustedBuildSystem) error) (*TrustedBuildSystem, error) {
	if err := require(a, OpManageBuildSystems, scope{}); err != nil {
		return nil, err
	}
	return s.insertBuildSystem(ctx, a, &TrustedBuildSystem{Type: CustomBuildSystem}, e, "TrustedBuildSystem.CustomAdded", with)
}

// NewPredefinedBuildSystem describes a predefined trusted build system to add.
type NewPredefinedBuildSystem struct {
	Type        string // of PredefinedBuildSystems, in any case
	Description string
	// Of a product that the organization runs itself: slug and name, when empty those of the product, and the host of the
	// server's pages, which is required. A service has neither.
	Slug, Name, BuildHost string
}

// AddPredefinedBuildSystem makes a trusted build system of a predefined type, as AddTrustedBuildSystem makes a custom one. Until
// Countersign has a connector for the type it is used as a custom one is: the build sends its token.
func (s *Service) AddPredefinedBuildSystem(ctx context.Context, a Actor, n NewPredefinedBuildSystem, with ...func(Tx, *TrustedBuildSystem) error) (*TrustedBuildSystem, error) {
	if err := require(a, OpManageBuildSystems, scope{}); err != nil {
		return nil, err
	}
	i := slices.IndexFunc(PredefinedBuildSystems, func(p PredefinedBuildSystem) bool { return strings.EqualFold(p.Type, n.Type) })
	if i < 0 {
		var types []string
		for _, p := range PredefinedBuildSystems {
			types = append(types, p.Type)
		}
		return nil, Invalid("Type", "'%s' is no predefined build system; these are: %s.", truncate(n.Type, 60), strings.Join(types, ", "))
	}
	p := PredefinedBuildSystems[i]
	t := &TrustedBuildSystem{Type: p.Type, BuildHost: strings.ToLower(n.BuildHost)}
	var v validation
	switch {
	case p.OwnServer && (t.BuildHost == "" || urlHost("https://"+t.BuildHost+"/") != t.BuildHost || len(t.BuildHost) > maxBuildHost):
		v.add("BuildHost", "The host of the %s server's pages is required, with its port unless that is 443, such as 'ci.acme.example'.", p.Type)
	case !p.OwnServer && n.BuildHost != "":
		v.add("BuildHost", "%s has its own hosts: leave this out.", p.Type)
	}
	slug, name := cmp.Or(n.Slug, p.Slug), cmp.Or(n.Name, p.Type)
	if !p.OwnServer && !strings.EqualFold(slug, p.Slug) {
		v.add("Slug", "The slug of %s is always '%s': leave this out.", p.Type, p.Slug)
	}
	if !p.OwnServer && name != p.Type {
		v.add("Name", "The name of %s is fixed: leave this out.", p.Type)
	}
	if err := v.err(); err != nil {
		return nil, err
	}
	return s.insertBuildSystem(ctx, a, t, TrustedBuildSystemEdit{Slug: &slug, Name: &name, Description: &n.Description}, "TrustedBuildSystem.PredefinedAdded", with)
}

const maxBuildHost = 260 // bytes: a DNS name and a port

func (s *Service) insertBuildSystem(ctx context.Context, a Actor, t *TrustedBuildSystem, e TrustedBuildSystemEdit, event string, with []func(Tx, *TrustedBuildSystem) error) (*TrustedBuildSystem, error) {
	t.ID, t.OrganizationID, t.CreatedAt, t.Version = NewID(), a.OrganizationID, s.now(), 1
	if err := applyBuildSystem(t, e); err != nil {
		return nil, err
	}
	err := s.store.Tx(ctx, func(tx Tx) error {
		if err := tx.InsertTrustedBuildSystem(ctx, t); err != nil {
			return taken(err, "Slug", "Another trusted build system has the slug '%s' already.", t.Slug)
		}
		if err := s.record(ctx, tx, a, event, buildSystemObject(t), map[string]any{"after": t}); err != nil {
			return err
		}
		return all(tx, t, with)
	})
	if err != nil {
		return nil, err
	}
	return t, nil
}

// EditTrustedBuildSystem changes a trusted build system. Slug and name of a predefined service are fixed.
func (s *Service) EditTrustedBuildSystem(ctx context.Context, a Actor, slug string, e TrustedBuildSystemEdit) (*TrustedBuildSystem, error) {
	return edit[TrustedBuildSystem]{
		event: "TrustedBuildSystem.Edited",
		load: func(tx Tx) (*TrustedBuildSystem, error) {
			return tx.TrustedBuildSystemBySlug(ctx, a.OrganizationID, slug)
		},
		permit: func(Tx, *TrustedBuildSystem) error { return require(a, OpManageBuildSystems, scope{}) },
		apply: func(_ Tx, t *TrustedBuildSystem) error {
			was := *t
			if err := applyBuildSystem(t, e); err != nil {
				return err
			}
			var v validation
			if p, ok := t.predefined(); ok && !p.OwnServer {
				if t.Slug != was.Slug {
					v.add("Slug", "The slug of %s is fixed.", p.Type)
				}
				if t.Name != was.Name {
					v.add("Name", "The name of %s is fixed.", p.Type)
				}
			}
			return v.err()
		},
		update: func(tx Tx, t *TrustedBuildSystem) error {
			return taken(tx.UpdateTrustedBuildSystem(ctx, t), "Slug", "Another trusted build system has the slug '%s' already, or somebody changed this one meanwhile.", t.Slug)
		},
		version: e.Version, current: func(t *TrustedBuildSystem) int { return t.Version },
		object: buildSystemObject,
	}.run(ctx, s, a)
}

// DeleteTrustedBuildSystem deletes a trusted build system with its tokens. One that is linked to projects is not deleted:
// KindConflict names them. What it vouched for is no longer accepted by policies that want a trusted build system.
func (s *Service) DeleteTrustedBuildSystem(ctx context.Context, a Actor, slug string) error {
	if err := require(a, OpManageBuildSystems, scope{}); err != nil {
		return err
	}
	return s.store.Tx(ctx, func(tx Tx) error {
		if err := tx.LockOrganization(ctx, a.OrganizationID); err != nil {
			return err
		}
		t, err := tx.TrustedBuildSystemBySlug(ctx, a.OrganizationID, slug)
		if err != nil {
			return err
		}
		uses, err := usesOfBuildSystem(ctx, tx, t)
		if err != nil {
			return err
		}
		if err := inUse(fmt.Sprintf("Trusted build system '%s'", t.Slug), uses, "Remove the links first."); err != nil {
			return err
		}
		if err := tx.DeleteTrustedBuildSystem(ctx, a.OrganizationID, t.ID); err != nil {
			return err
		}
		return s.record(ctx, tx, a, "TrustedBuildSystem.Deleted", buildSystemObject(t), map[string]any{"before": t})
	})
}

func applyBuildSystem(t *TrustedBuildSystem, e TrustedBuildSystemEdit) error {
	set(&t.Slug, e.Slug)
	set(&t.Name, e.Name)
	set(&t.Description, e.Description)
	var v validation
	v.slug("Slug", t.Slug)
	v.name("Name", t.Name)
	v.text("Description", t.Description)
	return v.err()
}

// TrustedBuildSystems lists the organization's trusted build systems by name.
func (s *Service) TrustedBuildSystems(ctx context.Context, a Actor) (list []*TrustedBuildSystem, err error) {
	if err := require(a, OpReadBuildSystems, scope{}); err != nil {
		return nil, err
	}
	err = s.store.View(ctx, func(tx Tx) error {
		list, err = tx.TrustedBuildSystems(ctx, a.OrganizationID)
		return err
	})
	return list, err
}

// voucher is who vouched for a request's origin, as its verifications need it.
type voucher struct {
	system *TrustedBuildSystem // nil: none did, or it was deleted since
	name   string              // empty: none did
	linked []string            // the names of those that are linked to the project
}

// vouching returns who vouched for a request. A trusted build system that was deleted since is still named: by the audit log.
func vouching(ctx context.Context, tx Tx, r *Request, project *Project) (by voucher, err error) {
	all, err := tx.TrustedBuildSystems(ctx, r.OrganizationID)
	if err != nil {
		return by, err
	}
	for _, t := range all {
		if slices.Contains(project.TrustedBuildSystems, t.ID) {
			by.linked = append(by.linked, t.display())
		}
		if t.ID == r.TrustedBuildSystemID {
			by.system, by.name = t, t.display()
		}
	}
	if r.TrustedBuildSystemID == "" || by.system != nil {
		return by, nil
	}
	by.name = string(r.TrustedBuildSystemID)
	leaves, err := tx.AuditLeaves(ctx, r.OrganizationID, AuditFilter{ObjectType: "TrustedBuildSystem", ObjectID: r.TrustedBuildSystemID, Descending: true, Limit: 1})
	if err != nil || len(leaves) == 0 {
		return by, err
	}
	e, err := audit.Decode(leaves[0].Data)
	if err == nil {
		by.name = e.Object.Name + " (deleted)"
	}
	return by, err
}

func buildSystemObject(t *TrustedBuildSystem) audit.Object {
	return audit.Object{Type: "TrustedBuildSystem", ID: string(t.ID), Name: t.Name}
}
