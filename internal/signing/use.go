package signing

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// inUse refuses to deactivate or delete what is in use: uses says by what, in words like "signing policy 'app/release'".
// Nil when there are none.
func inUse(what string, uses []string, remedy string) error {
	if len(uses) == 0 {
		return nil
	}
	const shown = 20
	more := ""
	if n := len(uses) - shown; n > 0 {
		uses, more = uses[:shown], fmt.Sprintf(" and %d more", n)
	}
	return Errorf(KindConflict, "%s is in use: %s%s. %s", what, strings.Join(uses, ", "), more, remedy)
}

// evenSo is how a change is made although it is refused because of its consequences.
const evenSo = " To do it all the same, send evenIfInUse."

// directory knows who is behind users and groups.
type directory struct {
	groups map[ID]*Group
	active map[ID]bool // users
}

// readDirectory reads an organization's groups and active users: two queries, however many there are.
func readDirectory(ctx context.Context, tx Tx, org ID) (d directory, err error) {
	if d.groups, err = groupsByID(ctx, tx, org); err != nil {
		return d, err
	}
	users, err := tx.ActiveUsers(ctx, org)
	d.active = make(map[ID]bool, len(users))
	for _, id := range users {
		d.active[id] = true
	}
	return d, err
}

func groupsByID(ctx context.Context, tx Tx, org ID) (map[ID]*Group, error) {
	all, err := tx.Groups(ctx, org)
	groups := make(map[ID]*Group, len(all))
	for _, g := range all {
		groups[g.ID] = g
	}
	return groups, err
}

// expand returns the users among the subjects, directly and through groups.
func expand(subjects []Subject, groups map[ID]*Group) map[ID]bool {
	users, seen := map[ID]bool{}, map[ID]bool{}
	for open := slices.Clone(subjects); len(open) > 0; {
		subject := open[len(open)-1]
		open = open[:len(open)-1]
		if subject.Kind == SubjectUser {
			users[subject.ID] = true
		} else if g := groups[subject.ID]; g != nil && !seen[g.ID] {
			seen[g.ID] = true
			open = append(open, g.Members...)
		}
	}
	return users
}

// members returns the active users among the subjects, directly and through groups.
func (d directory) members(subjects []Subject) map[ID]bool {
	users := expand(subjects, d.groups)
	maps.DeleteFunc(users, func(id ID, _ bool) bool { return !d.active[id] })
	return users
}

// count returns how many active users are among the subjects, directly and through groups.
func (d directory) count(subjects []Subject) int { return len(d.members(subjects)) }

// cycle returns the path on which a group with these members contains itself, from the group to itself; nil when it does not.
func cycle(g *Group, members []Subject, groups map[ID]*Group) []string {
	seen := map[ID]bool{}
	var walk func(name string, members []Subject) []string // the path's end first
	walk = func(name string, members []Subject) []string {
		for _, m := range members {
			switch next := groups[m.ID]; {
			case m.Kind != SubjectGroup:
			case m.ID == g.ID:
				return []string{g.Name, name}
			case next != nil && !seen[m.ID]:
				seen[m.ID] = true
				if found := walk(next.Name, next.Members); found != nil {
					return append(found, name)
				}
			}
		}
		return nil
	}
	path := walk(g.Name, members)
	slices.Reverse(path)
	const shown = 12
	if n := len(path) - shown; n > 0 {
		path = slices.Replace(path, shown/2, shown/2+n, fmt.Sprintf("(%d more)", n))
	}
	return path
}

// projectSlugs returns the organization's project slugs by id.
func projectSlugs(ctx context.Context, tx Tx, org ID) (map[ID]string, error) {
	all, err := tx.Projects(ctx, org)
	slugs := make(map[ID]string, len(all))
	for _, p := range all {
		slugs[p.ID] = p.Slug
	}
	return slugs, err
}

// policyName names a policy where its project is not at hand.
func policyName(p *Policy, projects map[ID]string) string {
	return fmt.Sprintf("signing policy '%s/%s'", projects[p.ProjectID], p.Slug)
}

// usesOfCertificate lists the policies that a certificate serves: the active ones, or every one.
func usesOfCertificate(ctx context.Context, tx Tx, c *Certificate, every bool) ([]string, error) {
	policies, err := tx.Policies(ctx, c.OrganizationID, PolicyFilter{CertificateID: c.ID})
	if err != nil || len(policies) == 0 {
		return nil, err
	}
	projects, err := projectSlugs(ctx, tx, c.OrganizationID)
	var uses []string
	for _, p := range policies {
		if p.Active || every {
			uses = append(uses, policyName(p, projects))
		}
	}
	return uses, err
}

// usesOfProject lists the policies under which signing requests of a project are not final yet.
func usesOfProject(ctx context.Context, tx Tx, p *Project) ([]string, error) {
	return openRequests(ctx, tx, p, RequestFilter{ProjectID: p.ID})
}

// usesOfPolicy says that signing requests under a policy are not final yet.
func usesOfPolicy(ctx context.Context, tx Tx, project *Project, p *Policy) ([]string, error) {
	return openRequests(ctx, tx, project, RequestFilter{PolicyIDs: []ID{p.ID}})
}

// openRequests says how many requests of a project are not final yet, by policy.
func openRequests(ctx context.Context, tx Tx, project *Project, filter RequestFilter) ([]string, error) {
	filter.Statuses, filter.Limit = []Status{InProgress, WaitingForApproval}, maxPage
	rows, next, err := tx.RequestRows(ctx, project.OrganizationID, filter)
	open := map[string]int{}
	for _, r := range rows {
		open[r.PolicySlug]++
	}
	count := "%d"
	if next != "" {
		count = "at least %d"
	}
	var uses []string
	for _, slug := range sortedKeys(open) {
		uses = append(uses, fmt.Sprintf("signing policy '%s/%s' has "+count+" signing requests that are not final", project.Slug, slug, open[slug]))
	}
	return uses, err
}

// usesOfUser lists the active policies that could not work any more without a user: those that would have too few approvers,
// and those that would have no submitter.
func usesOfUser(ctx context.Context, tx Tx, u *User) ([]string, error) {
	policies, err := tx.Policies(ctx, u.OrganizationID, PolicyFilter{})
	if err != nil {
		return nil, err
	}
	with, err := readDirectory(ctx, tx, u.OrganizationID)
	if err != nil {
		return nil, err
	}
	with.active[u.ID] = true
	counts := func(subjects []Subject) (now, left int) {
		if now = with.count(subjects); expand(subjects, with.groups)[u.ID] {
			return now, now - 1
		}
		return now, now
	}
	projects, err := projectSlugs(ctx, tx, u.OrganizationID)
	var uses []string
	for _, p := range policies {
		required := p.Rules.RequiredApprovals
		if now, left := counts(p.Approvers); p.Active && now >= required && left < required {
			uses = append(uses, fmt.Sprintf("%s requires %d approvals and would have %d approvers", policyName(p, projects), required, left))
		}
		if now, left := counts(p.Submitters); p.Active && now > 0 && left == 0 {
			uses = append(uses, policyName(p, projects)+" would have no submitter")
		}
	}
	return uses, err
}

// usesOfGroup lists where a group stands.
func usesOfGroup(ctx context.Context, tx Tx, g *Group) ([]string, error) {
	group := Subject{Kind: SubjectGroup, ID: g.ID}
	projects, err := tx.Projects(ctx, g.OrganizationID)
	if err != nil {
		return nil, err
	}
	var uses []string
	add := func(list []Subject, format string, args ...any) {
		if slices.Contains(list, group) {
			uses = append(uses, fmt.Sprintf(format, args...))
		}
	}
	slugs := map[ID]string{}
	for _, p := range projects {
		slugs[p.ID] = p.Slug
		add(p.Readers, "reader of project '%s'", p.Slug)
		add(p.Configurators, "configurator of project '%s'", p.Slug)
	}
	policies, err := tx.Policies(ctx, g.OrganizationID, PolicyFilter{})
	if err != nil {
		return nil, err
	}
	for _, p := range policies {
		add(p.Submitters, "submitter of %s", policyName(p, slugs))
		add(p.Approvers, "approver of %s", policyName(p, slugs))
	}
	groups, err := tx.Groups(ctx, g.OrganizationID)
	for _, other := range groups {
		add(other.Members, "member of group '%s'", other.Name)
	}
	return uses, err
}

// usesOfBuildSystem lists the projects that a trusted build system is linked to.
func usesOfBuildSystem(ctx context.Context, tx Tx, t *TrustedBuildSystem) ([]string, error) {
	projects, err := tx.Projects(ctx, t.OrganizationID)
	var uses []string
	for _, p := range projects {
		if slices.Contains(p.TrustedBuildSystems, t.ID) {
			uses = append(uses, fmt.Sprintf("linked to project '%s'", p.Slug))
		}
	}
	return uses, err
}

// shortage says that a policy requires more approvals than it has approvers; empty when it does not.
func shortage(p *Policy, approvers int) string {
	if !p.Active || approvers >= p.Rules.RequiredApprovals {
		return ""
	}
	return fmt.Sprintf("%d approvals are required, but there are only %d active approvers, members of groups included: add approvers, or require fewer approvals.",
		p.Rules.RequiredApprovals, approvers)
}

// problems lists why requests under an active policy cannot succeed as things are now, whoever submits them.
func problems(now time.Time, project *Project, p *Policy, c *Certificate, approvers int) []string {
	if !p.Active || !project.Active {
		return nil
	}
	var list []string
	if text := shortage(p, approvers); text != "" {
		list = append(list, text)
	}
	if c != nil {
		if failed, remedy := c.unusable(now); failed != "" {
			list = append(list, failed+" "+remedy)
		}
	}
	if p.Rules.WantsBuildSystem() && len(project.TrustedBuildSystems) == 0 {
		list = append(list, "The signing policy wants a trusted build system, but none is linked to the project: link one.")
	}
	if p.Rules.VerifyOrigin && len(project.Repositories) == 0 {
		list = append(list, "The signing policy wants a verified origin, but the project names no repository: add one.")
	}
	return list
}
