package scaletest

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/countersign-dev/countersign/internal/signing"
)

// The people of an installation.
const (
	Admin    = "Ada Admin"         // global administrator: sees everything
	Builder  = "Build server 1"    // CI user who submits to half of the projects
	Approver = "Rita Release"      // approver of every policy that wants approvals
	Member   = "Max Member"        // reader of one project
	Manager  = "Mona Manager"      // reader of all projects but the first, which has half of all requests
	Newcomer = "Nora Newcomer"     // submitter of the last project, whose only requests are old
	Outsider = "Otto Outsider"     // sees nothing
	second   = "Build server 2"    // CI user who submits to the other projects
	deputy   = "Dana Deputy"       // another approver
	third    = "Theo Third"        // a third one
	managers = "Managers"          // group of Manager
	owners   = "Release approvers" // group of the three approvers
)

// Projects have the slugs product-00 and so on, each with the policies test, release (an approval) and audited (three).
const (
	Projects = 24
	// Busiest and Oldest are the slugs of the project with half of all requests, and of the one with only old ones.
	Busiest = "product-00"
	Oldest  = "product-23"
)

// family is a signing request with those that resubmit it.
type family struct {
	ids     []signing.ID
	project int
	weight  int  // how often it is copied, compared with others
	recent  bool // copied only among the latest requests
}

const configuration = `<artifact-configuration xmlns="http://signpath.io/artifact-configuration/v1">
  <parameters><parameter name="version" default-value="1.0"/></parameters>
  <pe-file product-name="Acme"><authenticode-sign description="Acme" description-url="https://acme.example"/></pe-file>
</artifact-configuration>`

func ptr[T any](v T) *T { return &v }

func actor(u *signing.User) signing.Actor {
	return signing.Actor{OrganizationID: u.OrganizationID, UserID: u.ID, Kind: u.Kind, Name: u.Name, Roles: u.Roles, Via: "token csp_ab12"}
}

func projectSlug(i int) string { return fmt.Sprintf("product-%02d", i) }

// found makes an organization with its people and projects, and lets it sign.
func (in *Installation) found(ctx context.Context, program []byte) ([]family, error) {
	s := in.Service
	_, u, err := s.Bootstrap(ctx, "Acme", Admin, "ada@acme.example")
	if err != nil {
		return nil, err
	}
	admin := actor(u)
	in.people = map[string]signing.Actor{}
	for i, name := range []string{Builder, second, Approver, deputy, third, Member, Manager, Newcomer, Outsider} {
		n := signing.NewUser{Kind: signing.Interactive, Name: name, Email: fmt.Sprintf("user%d@acme.example", i)}
		if name == Builder || name == second {
			n.Kind, n.Email = signing.CI, ""
		}
		if u, err = s.CreateUser(ctx, admin, n); err != nil {
			return nil, err
		}
		in.people[name] = actor(u)
	}
	groups := map[string]signing.Subject{}
	for name, members := range map[string][]signing.Subject{managers: in.users(Manager), owners: in.users(Approver, deputy, third)} {
		g, err := s.CreateGroup(ctx, admin, signing.GroupEdit{Name: ptr(name), Members: &members})
		if err != nil {
			return nil, err
		}
		groups[name] = signing.Subject{Kind: signing.SubjectGroup, ID: g.ID}
	}
	for _, name := range []string{Approver, deputy, third} {
		a := in.people[name]
		a.Groups = []signing.ID{groups[owners].ID}
		in.people[name] = a
	}
	system, err := s.AddTrustedBuildSystem(ctx, admin, signing.TrustedBuildSystemEdit{Slug: ptr("jenkins"), Name: ptr("Jenkins")})
	if err != nil {
		return nil, err
	}
	if _, _, err := s.CreateWebhook(ctx, admin, signing.WebhookEdit{Name: ptr("Release system"), URL: ptr("https://release.acme.example/hook")}); err != nil {
		return nil, err
	}
	if _, err := s.CreateSelfSigned(ctx, admin, signing.NewCertificate{Slug: "test", Subject: "CN=Test", KeyAlgorithm: "ECDSA-P256"}); err != nil {
		return nil, err
	}
	var samples []family
	for i := range Projects {
		if err := in.addProject(ctx, admin, i, system.ID, groups); err != nil {
			return nil, err
		}
		signed, err := in.signSamples(ctx, i, system.ID, program)
		if err != nil {
			return nil, fmt.Errorf("project %d: %w", i, err)
		}
		samples = append(samples, signed...)
	}
	return samples, in.deliver(ctx, admin)
}

func (in *Installation) users(names ...string) []signing.Subject {
	var all []signing.Subject
	for _, n := range names {
		all = append(all, signing.Subject{Kind: signing.SubjectUser, ID: in.people[n].UserID})
	}
	return all
}

// builder is the CI user of a project.
func builder(project int) string {
	if project%2 == 0 {
		return Builder
	}
	return second
}

func (in *Installation) addProject(ctx context.Context, admin signing.Actor, i int, system signing.ID, groups map[string]signing.Subject) error {
	s, slug := in.Service, projectSlug(i)
	var readers []signing.Subject
	if slug != Busiest {
		readers = append(readers, groups[managers])
	}
	if i == 1 {
		readers = append(readers, in.users(Member)...)
	}
	_, err := s.CreateProject(ctx, admin, signing.ProjectEdit{
		Slug: &slug, Name: ptr(fmt.Sprintf("Product %d", i)), Repositories: ptr([]string{"https://github.com/acme/" + slug}),
		TrustedBuildSystems: ptr([]signing.ID{system}), Readers: &readers,
	})
	if err != nil {
		return err
	}
	for _, c := range []string{"exe", "setup"} {
		if _, err := s.CreateConfiguration(ctx, admin, slug, signing.ConfigurationEdit{Slug: &c, Name: &c, XML: ptr(configuration)}); err != nil {
			return err
		}
	}
	if _, err := s.CreateSelfSigned(ctx, admin, signing.NewCertificate{Slug: slug, Subject: "CN=" + slug, KeyAlgorithm: "ECDSA-P256"}); err != nil {
		return err
	}
	submitters := in.users(builder(i))
	if slug == Oldest {
		submitters = append(submitters, in.users(Newcomer)...)
	}
	for policy, rules := range map[string]signing.PolicyRules{
		"test": {}, "release": {RequiredApprovals: 1, VerifyOrigin: true, RequireTrustedBuildSystem: true}, "audited": {RequiredApprovals: 3},
	} {
		certificate := slug
		if policy == "test" {
			certificate = "test"
		}
		if _, err := s.CreatePolicy(ctx, admin, slug, signing.PolicyEdit{Slug: &policy, Name: &policy, CertificateSlug: &certificate, Rules: &rules,
			Submitters: &submitters, Approvers: ptr([]signing.Subject{groups[owners]})}); err != nil {
			return err
		}
	}
	return nil
}

// signSamples makes the requests of a project that are copied.
func (in *Installation) signSamples(ctx context.Context, project int, system signing.ID, program []byte) ([]family, error) {
	s, slug := in.Service, projectSlug(project)
	ci := in.people[builder(project)]
	ci.TrustedBuildSystemID = system
	origin := &signing.Origin{RepositoryURL: "https://github.com/acme/" + slug, SourceControlType: "git", BranchName: "main", CommitID: "5c0bd0e6d1d2a7b1f3c4a5968778695a4b3c2d1e"}
	var errs []error
	advance := func(id signing.ID) { errs = append(errs, s.Advance(ctx, id)) }
	submit := func(policy string, content []byte) signing.ID {
		st, err := s.Stage(ctx, ci, "app.exe", bytes.NewReader(content))
		if err != nil {
			errs = append(errs, err)
			return ""
		}
		r, _, err := s.Submit(ctx, ci, signing.Submission{Target: signing.Target{ProjectSlug: slug, PolicySlug: policy},
			Artifact: st, Origin: origin, Description: "Nightly build of " + slug, Parameters: map[string]string{"version": "2.4"}})
		if err != nil {
			errs = append(errs, err)
			return ""
		}
		advance(r.ID)
		return r.ID
	}
	approve := func(id signing.ID, names ...string) {
		for _, n := range names {
			_, err := s.Approve(ctx, in.people[n], id, "Release notes and test report are fine.")
			errs = append(errs, err)
		}
	}
	released := func(id signing.ID) signing.ID {
		r, err := s.Resubmit(ctx, ci, signing.Resubmission{OriginalID: id, PolicySlug: "release", Description: "Release of " + slug})
		if err != nil {
			errs = append(errs, err)
			return ""
		}
		advance(r.ID)
		return r.ID
	}

	tested := submit("test", program)
	candidate := submit("test", program)
	release := released(candidate)
	approve(release, Approver)
	advance(release)
	audited := submit("audited", program)
	approve(audited, Approver, deputy, third)
	advance(audited)
	failed := submit("test", []byte("This is not a program."))
	denied := submit("audited", program)
	_, err := s.Deny(ctx, in.people[deputy], denied, "The change log is missing.")
	errs = append(errs, err)
	canceled := submit("audited", program)
	_, err = s.Cancel(ctx, ci, canceled, "Superseded.")
	errs = append(errs, err)
	waitingTested := submit("test", program)
	waitingRelease := released(waitingTested)
	waitingAudited := submit("audited", program)
	approve(waitingAudited, Approver)

	samples := []family{
		{weight: 300, ids: []signing.ID{tested}}, {weight: 60, ids: []signing.ID{candidate, release}}, {weight: 60, ids: []signing.ID{audited}},
		{weight: 25, ids: []signing.ID{failed}}, {weight: 10, ids: []signing.ID{denied}}, {weight: 10, ids: []signing.ID{canceled}},
		{weight: 6, ids: []signing.ID{waitingTested, waitingRelease}, recent: true}, {weight: 6, ids: []signing.ID{waitingAudited}, recent: true},
	}
	for i := range samples {
		samples[i].project = project
		if slug == Busiest {
			samples[i].weight *= Projects
		}
	}
	return samples, errors.Join(errs...)
}

// deliver makes the deliveries that are due.
func (in *Installation) deliver(ctx context.Context, admin signing.Actor) error {
	for {
		page, err := in.Service.Deliveries(ctx, admin, signing.DeliveryQuery{State: signing.DeliveryPending, Limit: 100})
		if err != nil || len(page.Items) == 0 {
			return err
		}
		for _, d := range page.Items {
			if err := in.Service.Deliver(ctx, d.ID); err != nil {
				return err
			}
		}
	}
}

// postbox takes every message.
type postbox struct{}

func (postbox) SendMail(context.Context, signing.Mail) (signing.Receipt, error) {
	return signing.Receipt{Status: 250, Response: "Ok"}, nil
}

func (postbox) Check(string) error { return nil }

func (postbox) Call(context.Context, signing.WebhookCall) (signing.Receipt, error) {
	return signing.Receipt{Status: 204}, nil
}
