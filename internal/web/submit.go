package web

import (
	"net/http"
	"slices"
	"strings"

	"github.com/countersign-dev/countersign/internal/signing"
)

// submitForm is what the page for submitting holds.
type submitForm struct {
	projects      []*signing.ProjectView // with at least one policy that the user may submit to here
	refused       []string               // policies that take no submission from a page, and why
	project       *signing.ProjectView   // of the chosen policy; nil before
	policy        *signing.Policy
	configuration *signing.Configuration
	parameters    []parameterField
	multifile     bool
	root          string // file type that the configuration is for, "pe-file"
	description   string
	key           string // makes a second click find what the first one made
	problems      problems
}

type parameterField struct {
	name, value string
	required    bool
}

// submitValues are the fields as a browser sent them, of a query or a form.
type submitValues map[string][]string

func (v submitValues) get(name string) string {
	if len(v[name]) == 0 {
		return ""
	}
	return strings.TrimSpace(v[name][0])
}

const parameterPrefix = "parameters."

func (x *exchange) submitPage() error {
	f, err := x.submitForm(submitValues(x.r.URL.Query()))
	if err != nil {
		return err
	}
	f.key = string(signing.NewID())
	return x.render(http.StatusOK, submitView(x, f))
}

// submitForm fills the form for what was chosen so far. What does not exist counts as not chosen.
func (x *exchange) submitForm(v submitValues) (*submitForm, error) {
	f := &submitForm{description: v.get("description")}
	all, err := x.Signing.Projects(x.r.Context(), x.actor)
	if err != nil {
		return nil, err
	}
	var only *signing.Policy
	open := 0
	for _, p := range all {
		before := open
		for _, policy := range p.Policies {
			ok, why := submittable(p, policy)
			if why != "" {
				f.refused = append(f.refused, p.Name+" / "+policy.Name+" "+why+".")
			}
			if !ok {
				continue
			}
			open++
			only = policy
			if string(policy.ID) == v.get("policy") {
				f.project, f.policy = p, policy
			}
		}
		if open > before {
			f.projects = append(f.projects, p)
		}
	}
	if f.policy == nil && open == 1 {
		f.project, f.policy = f.projects[0], only
	}
	if f.policy == nil {
		return f, nil
	}
	return f, x.fillConfiguration(f, v)
}

func (x *exchange) fillConfiguration(f *submitForm, v submitValues) error {
	for _, c := range f.project.Configurations {
		chosen := strings.EqualFold(c.Slug, v.get("configuration"))
		if c.Active && (chosen || f.configuration == nil && c.ID == f.project.DefaultConfigurationID) {
			f.configuration = c
			if chosen {
				break
			}
		}
	}
	if f.configuration == nil {
		return nil
	}
	view, err := x.Signing.Configuration(x.r.Context(), x.actor, f.project.Slug, f.configuration.Slug, 0)
	if err != nil {
		return err
	}
	parsed, err := view.Parsed()
	if err != nil {
		f.problems.general = "The artifact configuration cannot be used: " + err.Error()
		return nil
	}
	f.multifile, f.root = parsed.UIMultifileUpload(), parsed.RootType()
	for _, p := range parsed.Parameters() {
		field := parameterField{name: p.Name, required: p.Required && p.Default == nil}
		if p.Default != nil {
			field.value = *p.Default
		}
		if sent, ok := v[parameterPrefix+p.Name]; ok && len(sent) > 0 {
			field.value = sent[0]
		}
		f.parameters = append(f.parameters, field)
	}
	return nil
}

// active lists the configurations to choose from.
func (f *submitForm) active() []*signing.Configuration {
	return slices.DeleteFunc(slices.Clone(f.project.Configurations), func(c *signing.Configuration) bool { return !c.Active })
}

// submit receives the form with the artifact and makes the signing request.
func (x *exchange) submit() error {
	received, err := x.receive()
	if err != nil {
		return x.submitAgain(received.values, err)
	}
	f, err := x.submitForm(received.values)
	if err == nil {
		err = x.submitReceived(f, received)
	}
	if err == nil {
		return nil
	}
	received.staged.Discard(x.r.Context())
	return x.submitAgain(received.values, err)
}

func (x *exchange) submitReceived(f *submitForm, received *upload) error {
	switch {
	case f.policy == nil:
		return signing.Invalid("SigningPolicyId", "Choose a signing policy.")
	case received.staged == nil:
		return signing.Invalid("Artifact", "Choose the file to sign.")
	}
	sub := signing.Submission{
		Target: signing.Target{PolicyID: f.policy.ID}, Description: f.description, Parameters: map[string]string{},
		IdempotencyKey: received.values.get("key"), Artifact: received.staged,
	}
	if f.configuration != nil {
		sub.ConfigurationID = f.configuration.ID
	}
	for _, p := range f.parameters {
		sub.Parameters[p.name] = p.value
	}
	r, created, err := x.Signing.Submit(x.r.Context(), x.actor, sub)
	if err != nil {
		return err
	}
	if !created {
		received.staged.Discard(x.r.Context())
	}
	return x.redirect(x.requestLink(r.ID))
}

// submitAgain shows the form with what was typed and what is wrong. Files have to be chosen again.
func (x *exchange) submitAgain(v submitValues, cause error) error {
	if !shown(cause) {
		return cause
	}
	f, err := x.submitForm(v)
	if err != nil {
		return err
	}
	f.problems = problemsOf(cause)
	f.key = v.get("key")
	if _, ok := signing.ParseID(f.key); !ok || signing.KindOf(cause) == signing.KindConflict {
		f.key = string(signing.NewID())
	}
	return x.render(statusOf(cause), submitView(x, f))
}
