package signing

import (
	"context"
	"fmt"
	"slices"
)

// Operation is something that a permission opens.
type Operation string

// The operations. Each route and each page action performs exactly one of them.
const (
	OpReadOrganization   Operation = "read the organization"
	OpEditOrganization   Operation = "edit the organization"
	OpReadUsers          Operation = "read users and groups"
	OpManageUsers        Operation = "manage users and groups"
	OpManageOwnAccount   Operation = "manage one's own account"
	OpReadAudit          Operation = "read the audit log"
	OpListCertificates   Operation = "list certificates"
	OpManageCertificates Operation = "manage certificates"
	OpReadBuildSystems   Operation = "read trusted build systems"
	OpManageBuildSystems Operation = "manage trusted build systems"
	OpManageWebhooks     Operation = "manage webhooks and messages"

	OpListProjects      Operation = "list projects" // each sees those that OpReadProject opens
	OpCreateProject     Operation = "create projects"
	OpReadProject       Operation = "read the project"
	OpConfigureProject  Operation = "configure the project"  // artifact configurations, description, repositories
	OpAdministerProject Operation = "administer the project" // permissions, build system links, activation
	OpManagePolicies    Operation = "manage signing policies"

	OpListRequests Operation = "list signing requests" // each sees those that OpReadRequest opens
	OpSubmit       Operation = "submit signing requests to the signing policy"
	OpApprove      Operation = "approve or deny signing requests of the signing policy"
	OpReadRequest  Operation = "read the signing request"
	OpReadArtifact Operation = "download the signing request's artifacts"
	OpCancel       Operation = "cancel the signing request"
	OpUpload       Operation = "upload the signing request's artifact"
)

// relation is how an actor stands to the object of an operation.
type relation int

const (
	anyMember        relation = 1 << iota // any active user of the organization
	projectReader                         // reader of the project
	projectConfig                         // configurator of the project
	policySubmitter                       // submitter of the policy; for a project: of one of its policies
	policyApprover                        // approver of the policy; for a project: of one of its policies
	requestSubmitter                      // submitted the request
)

// rule opens an operation to roles and to relations.
type rule struct {
	roles    []Role
	relation relation
}

// permissions is the one table that says who may do what. What no row opens is refused. No role opens OpSubmit or
// OpApprove: an administrator who wants to sign has to enter a policy as submitter or approver, which is audited.
var permissions = map[Operation]rule{
	OpReadOrganization:   {relation: anyMember},
	OpEditOrganization:   {roles: []Role{GlobalAdministrator}},
	OpReadUsers:          {roles: []Role{GlobalAdministrator, UserAdministrator, ProjectAdministrator, GlobalReader}},
	OpManageUsers:        {roles: []Role{GlobalAdministrator, UserAdministrator}},
	OpManageOwnAccount:   {relation: anyMember},
	OpReadAudit:          {roles: []Role{GlobalAdministrator, GlobalReader}},
	OpListCertificates:   {roles: []Role{GlobalAdministrator, CertificateAdministrator, ProjectAdministrator, GlobalReader}},
	OpManageCertificates: {roles: []Role{GlobalAdministrator, CertificateAdministrator}},
	OpReadBuildSystems:   {roles: []Role{GlobalAdministrator, ProjectAdministrator, GlobalReader}},
	OpManageBuildSystems: {roles: []Role{GlobalAdministrator}},
	OpManageWebhooks:     {roles: []Role{GlobalAdministrator}},

	OpListProjects:      {relation: anyMember},
	OpCreateProject:     {roles: []Role{GlobalAdministrator, ProjectAdministrator}},
	OpReadProject:       {roles: []Role{GlobalAdministrator, ProjectAdministrator, GlobalReader}, relation: projectReader | projectConfig | policySubmitter | policyApprover},
	OpConfigureProject:  {roles: []Role{GlobalAdministrator, ProjectAdministrator}, relation: projectConfig},
	OpAdministerProject: {roles: []Role{GlobalAdministrator, ProjectAdministrator}},
	OpManagePolicies:    {roles: []Role{GlobalAdministrator, ProjectAdministrator}},

	OpListRequests: {relation: anyMember},
	OpSubmit:       {relation: policySubmitter},
	OpApprove:      {relation: policyApprover},
	OpReadRequest:  {roles: []Role{GlobalAdministrator, ProjectAdministrator, GlobalReader}, relation: projectReader | projectConfig | policySubmitter | policyApprover | requestSubmitter},
	OpReadArtifact: {roles: []Role{GlobalAdministrator}, relation: projectReader | projectConfig | policySubmitter | policyApprover | requestSubmitter},
	OpCancel:       {roles: []Role{GlobalAdministrator, ProjectAdministrator}, relation: policySubmitter | requestSubmitter},
	OpUpload:       {relation: requestSubmitter},
}

// scope holds the objects that an operation is about; unused ones stay nil.
type scope struct {
	project  *Project
	policy   *Policy
	policies []*Policy // all policies of project, where submitting or approving any of them counts
	request  *Request
}

func (s scope) relations(a Actor) relation {
	r := anyMember
	if s.project != nil {
		if a.In(s.project.Readers) {
			r |= projectReader
		}
		if a.In(s.project.Configurators) {
			r |= projectConfig
		}
	}
	policies := s.policies
	if s.policy != nil {
		policies = append(policies[:len(policies):len(policies)], s.policy)
	}
	for _, p := range policies {
		if a.In(p.Submitters) {
			r |= policySubmitter
		}
		if a.In(p.Approvers) {
			r |= policyApprover
		}
	}
	if s.request != nil && a.UserID != "" && s.request.SubmitterID == a.UserID {
		r |= requestSubmitter
	}
	return r
}

// allowed reports whether the actor may perform the operation on the objects in scope.
func allowed(a Actor, op Operation, s scope) bool {
	rule, ok := permissions[op]
	if !ok || a.OrganizationID == "" || a.Kind == System || a.UserID == "" {
		return false
	}
	return a.HasRole(rule.roles...) || rule.relation&s.relations(a) != 0
}

// Allowed reports whether the actor may perform an operation that is about the whole organization.
func (a Actor) Allowed(op Operation) bool { return allowed(a, op, scope{}) }

// require returns a KindForbidden error, saying what is missing, unless the actor may perform the operation.
func require(a Actor, op Operation, s scope) error {
	if allowed(a, op, s) {
		return nil
	}
	return Errorf(KindForbidden, "%s may not %s: %s.", a.display(), op, permissions[op].wants(s))
}

func (a Actor) display() string {
	if a.Name == "" {
		return "This user"
	}
	return fmt.Sprintf("%s user %q", map[UserKind]string{Interactive: "Interactive", CI: "CI"}[a.Kind], a.Name)
}

// wants says in words who may.
func (r rule) wants(s scope) string {
	var who []string
	for _, role := range r.roles {
		who = append(who, "role "+string(role))
	}
	if r.relation&projectReader != 0 {
		who = append(who, "reader of the project")
	}
	if r.relation&projectConfig != 0 {
		who = append(who, "configurator of the project")
	}
	policy := "a signing policy of the project"
	if s.policy != nil {
		policy = fmt.Sprintf("signing policy '%s'", s.policy.Slug)
	}
	if r.relation&policySubmitter != 0 {
		who = append(who, "submitter of "+policy)
	}
	if r.relation&policyApprover != 0 {
		who = append(who, "approver of "+policy)
	}
	if r.relation&requestSubmitter != 0 {
		who = append(who, "the request's submitter")
	}
	switch len(who) {
	case 0:
		return "nobody may"
	case 1:
		return "it takes " + who[0]
	}
	text := "it takes " + who[0]
	for i, w := range who[1:] {
		if i == len(who)-2 {
			text += " or " + w
		} else {
			text += ", " + w
		}
	}
	return text
}

// Three rules keep who may manage users from becoming, by others, what she is not: she gives no role that she lacks, makes nobody
// an approver by a group, and issues no credentials of somebody who has such a role or approves.

// mayGive checks that the actor may change somebody's roles: she has each one that is given or taken, or is Global Administrator.
// RegularUser, which opens nothing, is free.
func mayGive(a Actor, before, after []Role) error {
	for _, r := range Roles {
		changed := slices.Contains(before, r) != slices.Contains(after, r)
		if changed && r != RegularUser && !a.HasRole(r, GlobalAdministrator) {
			return Errorf(KindForbidden, "Only one who has the role %s, or a %s, may give or take it.", r, GlobalAdministrator)
		}
	}
	return nil
}

// mayAdmit checks that a group's new members become approvers of no policy by it, directly or through other groups, unless the
// actor could enter them in the policy. groups are the organization's as they were.
func mayAdmit(ctx context.Context, tx Tx, a Actor, g *Group, groups map[ID]*Group) error {
	if a.Allowed(OpManagePolicies) || groups[g.ID] == nil {
		return nil
	}
	policies, err := tx.Policies(ctx, a.OrganizationID, PolicyFilter{})
	if err != nil {
		return err
	}
	old := groups[g.ID]
	for _, p := range policies {
		before := expand(p.Approvers, groups)
		groups[g.ID] = g
		after := expand(p.Approvers, groups)
		groups[g.ID] = old
		for id := range after {
			if !before[id] {
				return Errorf(KindForbidden, "Members of group '%s' approve signing requests of signing policy '%s': making somebody an approver also takes the permission to %s.",
					g.Name, p.Slug, OpManagePolicies)
			}
		}
	}
	return nil
}

// MayIssueCredentials checks that the actor may make credentials of another user: an invitation, or a token of a CI user. Who
// holds them speaks as that user; so it takes the user's roles, and for an approver managing signing policies, besides managing
// users. A Global Administrator has all that.
func MayIssueCredentials(ctx context.Context, tx Tx, a Actor, u *User) error {
	if a.OrganizationID != u.OrganizationID {
		return require(Actor{}, OpManageUsers, scope{})
	}
	if err := require(a, OpManageUsers, scope{}); err != nil {
		return err
	}
	for _, r := range u.Roles {
		if r != RegularUser && !a.HasRole(r, GlobalAdministrator) {
			return Errorf(KindForbidden, "User %q has the role %s: only one who has it too, or a %s, may issue credentials to this user.",
				u.Name, r, GlobalAdministrator)
		}
	}
	if a.Allowed(OpManagePolicies) {
		return nil
	}
	groups, err := tx.GroupsOf(ctx, u.OrganizationID, u.ID)
	if err != nil {
		return err
	}
	policies, err := tx.Policies(ctx, u.OrganizationID, PolicyFilter{})
	if err != nil {
		return err
	}
	as := Actor{UserID: u.ID, Groups: groups}
	for _, p := range policies {
		if as.In(p.Approvers) {
			return Errorf(KindForbidden, "User %q approves signing requests of signing policy '%s': issuing credentials to this user also takes the permission to %s.",
				u.Name, p.Slug, OpManagePolicies)
		}
	}
	return nil
}
