package web

import (
	"net/http"
	"slices"
	"strings"

	"github.com/countersign-dev/countersign/internal/signing"
)

func (x *exchange) projectList() error {
	projects, err := x.Signing.Projects(x.r.Context(), x.actor)
	if err != nil {
		return err
	}
	return x.render(http.StatusOK, projectListView(x, projects))
}

// projectData is what the page of a project shows.
type projectData struct {
	*signing.ProjectView
	names  names
	recent []*signing.RequestRow
}

func (x *exchange) projectPage() error {
	ctx := x.r.Context()
	d := projectData{}
	var err error
	if d.ProjectView, err = x.Signing.Project(ctx, x.actor, x.values["project"]); err != nil {
		return err
	}
	if d.names, err = x.names(); err != nil {
		return err
	}
	page, err := x.Signing.Requests(ctx, x.actor, signing.RequestQuery{ProjectSlug: d.Slug, Limit: dashboardRows})
	if err != nil {
		return err
	}
	d.recent = page.Items
	return x.render(http.StatusOK, projectView(x, d))
}

// policyData is what the page of a signing policy shows.
type policyData struct {
	*signing.Policy
	project     *signing.ProjectView
	certificate *signing.Certificate
	names       names
	recent      []*signing.RequestRow
	snippets    []snippet
}

func (x *exchange) policyPage() error {
	ctx := x.r.Context()
	d := policyData{}
	var err error
	if d.project, err = x.Signing.Project(ctx, x.actor, x.values["project"]); err != nil {
		return err
	}
	i := slices.IndexFunc(d.project.Policies, func(p *signing.Policy) bool { return strings.EqualFold(p.Slug, x.values["policy"]) })
	if i < 0 {
		return signing.Errorf(signing.KindNotFound, "There is no such signing policy in project %s.", d.project.Name)
	}
	d.Policy = d.project.Policies[i]
	d.certificate = d.project.Certificates[d.CertificateID]
	if d.names, err = x.names(); err != nil {
		return err
	}
	page, err := x.Signing.Requests(ctx, x.actor, signing.RequestQuery{ProjectSlug: d.project.Slug, PolicySlug: d.Slug, Limit: dashboardRows})
	if err != nil {
		return err
	}
	d.recent, d.snippets = page.Items, x.snippets(d)
	return x.render(http.StatusOK, policyView(x, d))
}

// names tells users and groups by their ids; empty for who may not read them.
type names map[signing.ID]string

func (x *exchange) names() (names, error) {
	list := names{x.actor.UserID: x.actor.Name + " (you)"}
	if !x.actor.Allowed(signing.OpReadUsers) {
		return list, nil
	}
	users, err := x.Signing.Users(x.r.Context(), x.actor, "")
	if err != nil {
		return nil, err
	}
	for _, u := range users {
		if u.ID != x.actor.UserID {
			list[u.ID] = u.Name
		}
	}
	groups, err := x.Signing.Groups(x.r.Context(), x.actor)
	if err != nil {
		return nil, err
	}
	for _, g := range groups {
		list[g.ID] = g.Name + " (group)"
	}
	return list, nil
}

// of lists subjects: those that the user may know by name, and how many others there are.
func (n names) of(subjects []signing.Subject) string {
	var known []string
	others := 0
	for _, s := range subjects {
		if name, ok := n[s.ID]; ok {
			known = append(known, name)
		} else {
			others++
		}
	}
	slices.Sort(known)
	switch {
	case len(known)+others == 0:
		return "Nobody"
	case others > 0 && len(known) > 0:
		known = append(known, count(others, "other"))
	case others > 0:
		known = append(known, countOf(others, "user or group", "users or groups"))
	}
	return strings.Join(known, ", ")
}
