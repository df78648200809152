package web

import (
	"net/http"
	"slices"
	"strings"

	"github.com/countersign-dev/countersign/internal/signing"
)

// action is a step that a person takes on a request: a page or dialog with a form, and what the form does.
type action struct {
	name    string // last segment of its address
	title   string
	explain string
	button  string
	danger  bool
	field   string // of the domain's errors about the text
	label   string // of the text field
	chooses bool   // a signing policy
	may     func(signing.RequestPermissions) bool
	// carryOut does it and returns the request to show next.
	carryOut func(*exchange, signing.ID, actionForm) (*signing.Request, error)
	// done reports whether the user did just this before, as the first of two clicks does. Nil: carryOut finds that out.
	done func(*exchange, *signing.RequestView) bool
}

var actions = []*action{
	{
		name: "Approve", title: "Approve the signing request", button: "Approve", field: "Comment", label: "Comment (optional)",
		explain: "Your approval is bound to this very artifact, its configuration and the signing policy as they are now. If one of them changes before it is signed, the approval counts no more.",
		may:     func(p signing.RequestPermissions) bool { return p.Approve },
		carryOut: func(x *exchange, id signing.ID, f actionForm) (*signing.Request, error) {
			return x.Signing.ApproveSeen(x.r.Context(), x.actor, id, f.text, f.seen)
		},
		done: func(x *exchange, v *signing.RequestView) bool { return x.decided(v, signing.Approved) },
	},
	{
		name: "Deny", title: "Deny the signing request", button: "Deny", danger: true, field: "Comment", label: "Reason (optional, shown to the submitter)",
		explain: "This ends the request: nothing is signed, and no other approver can change that.",
		may:     func(p signing.RequestPermissions) bool { return p.Approve },
		carryOut: func(x *exchange, id signing.ID, f actionForm) (*signing.Request, error) {
			return x.Signing.Deny(x.r.Context(), x.actor, id, f.text)
		},
		done: func(x *exchange, v *signing.RequestView) bool { return x.decided(v, signing.Refused) },
	},
	{
		name: "Cancel", title: "Cancel the signing request", button: "Cancel the request", danger: true, field: "Comment", label: "Reason (optional)",
		explain: "This ends the request. A signature that is being made meanwhile is thrown away.",
		may:     func(p signing.RequestPermissions) bool { return p.Cancel },
		carryOut: func(x *exchange, id signing.ID, f actionForm) (*signing.Request, error) {
			return x.Signing.Cancel(x.r.Context(), x.actor, id, f.text)
		},
		done: func(_ *exchange, v *signing.RequestView) bool { return v.Workflow == signing.WorkflowCanceled },
	},
	{
		name: "Resubmit", chooses: true, title: "Resubmit under another signing policy", button: "Resubmit", field: "Description", label: "Description (optional; the original's when empty)",
		explain: "The very same artifact, with the same configuration, parameters and origin, becomes a new signing request. Permissions and origin rules are those of the signing policy that you choose.",
		may:     func(p signing.RequestPermissions) bool { return p.Resubmit },
		carryOut: func(x *exchange, id signing.ID, f actionForm) (*signing.Request, error) {
			return x.resubmit(id, f, false)
		},
	},
	{
		name: "Retry", chooses: true, title: "Try again with the current settings", button: "Try again", field: "Description", label: "Description (optional; the original's when empty)",
		explain: "The very same artifact, with the same parameters and origin, becomes a new signing request that uses the artifact configuration as it is now.",
		may:     func(p signing.RequestPermissions) bool { return p.Retry },
		carryOut: func(x *exchange, id signing.ID, f actionForm) (*signing.Request, error) {
			return x.resubmit(id, f, true)
		},
	},
}

func (x *exchange) resubmit(id signing.ID, f actionForm, currentSettings bool) (*signing.Request, error) {
	if f.policy == "" {
		return nil, signing.Invalid("SigningPolicyId", "Choose a signing policy.")
	}
	return x.Signing.Resubmit(x.r.Context(), x.actor, signing.Resubmission{
		OriginalID: id, PolicyID: f.policy, Description: f.text, IdempotencyKey: f.key, CurrentSettings: currentSettings,
	})
}

// decided reports whether the user's own decision counts for the request.
func (x *exchange) decided(v *signing.RequestView, d signing.Decision) bool {
	return slices.ContainsFunc(v.Approvals, func(a signing.ApprovalView) bool {
		return a.UserID == x.actor.UserID && a.Decision == d && a.Counts
	})
}

// actionForm is what the form of an action holds.
type actionForm struct {
	*action
	request  *requestData
	text     string
	policy   signing.ID // to resubmit under
	key      string     // makes a second click find what the first one made
	seen     string     // what the user decides on, as it was when she opened the form
	choices  []choice
	problems problems
	closed   string // why there is no form; empty: there is one
}

// choice is a signing policy under which a request can be resubmitted, with what it would change.
type choice struct {
	*signing.Policy
	changes []change
	warning string
}

// change compares a property of the original's policy with the new one's.
type change struct{ property, before, after string }

func (x *exchange) findAction() (*action, signing.ID, error) {
	i := slices.IndexFunc(actions, func(a *action) bool { return strings.EqualFold(a.name, x.values["action"]) })
	if i < 0 {
		return nil, "", signing.Errorf(signing.KindNotFound, "There is no page at this address.")
	}
	id, err := x.requestID()
	return actions[i], id, err
}

func (x *exchange) actionPage() error {
	a, _, err := x.findAction()
	if err != nil {
		return err
	}
	return x.showAction(http.StatusOK, actionForm{action: a, key: string(signing.NewID())})
}

// showAction renders an action's form, or why there is none, as a page or for a dialog.
func (x *exchange) showAction(status int, f actionForm) (err error) {
	if f.request, err = x.loadRequest(); err != nil {
		return err
	}
	if status == http.StatusConflict && f.done != nil && f.done(x, f.request.RequestView) {
		return x.redirect(x.requestLink(f.request.ID))
	}
	f.seen = f.request.Binding
	if !f.may(f.request.May) {
		status = http.StatusConflict
		f.closed = f.problems.all()
		if f.closed == "" {
			f.closed = "You cannot do this now. The signing request is " + strings.ToLower(statusLabel(f.request.Workflow.Status())) + ", or it takes another permission."
		}
	} else if f.chooses {
		if f.choices, err = x.choices(f.request); err != nil {
			return err
		}
		if f.policy == "" && len(f.choices) == 1 {
			f.policy = f.choices[0].ID
		}
	}
	if x.scripted() {
		return x.render(http.StatusOK, actionBody(x, f, true)) // a dialog opens in any case
	}
	return x.render(status, actionView(x, f))
}

func (x *exchange) act() error {
	a, id, err := x.findAction()
	if err != nil {
		return err
	}
	policy, _ := signing.ParseID(x.field("policy")) // none is refused by the action
	f := actionForm{action: a, text: x.field("text"), policy: policy, key: x.field("key"), seen: x.field("seen")}
	if f.seen == "" {
		f.seen = "nothing" // which is never current
	}
	r, err := a.carryOut(x, id, f)
	if err != nil {
		if !shown(err) {
			return err
		}
		f.problems = problemsOf(err)
		return x.showAction(statusOf(err), f)
	}
	return x.redirect(x.requestLink(r.ID))
}

// choices lists the policies under which the user may resubmit the request.
func (x *exchange) choices(d *requestData) ([]choice, error) {
	p, err := x.Signing.Project(x.r.Context(), x.actor, d.ProjectSlug)
	if err != nil {
		return nil, err
	}
	var original *signing.Policy
	for _, policy := range p.Policies {
		if policy.ID == d.PolicyID {
			original = policy
		}
	}
	var list []choice
	for _, policy := range p.Policies {
		if !policy.Active || !p.MaySubmit[policy.ID] {
			continue
		}
		c := choice{Policy: policy, changes: compare(original, policy, p.Certificates)}
		switch {
		case wantsOrigin(policy) && d.TrustedBuildSystemID == "":
			c.warning = "This policy wants an origin that a trusted build system vouches for. The request has none, so it will be refused."
		case policy.Rules.VerifyOrigin:
			c.warning = "The repository and branch of the original are checked again under this policy's rules."
		}
		list = append(list, c)
	}
	return list, nil
}

func compare(before, after *signing.Policy, certificates map[signing.ID]*signing.Certificate) []change {
	if before == nil {
		before = &signing.Policy{}
	}
	name := func(p *signing.Policy) string {
		if c := certificates[p.CertificateID]; c != nil {
			return c.Name
		}
		return "–"
	}
	return []change{
		{"Certificate", name(before), name(after)},
		{"Approvals", approvals(before), approvals(after)},
		{"Branches", branches(before), branches(after)},
		{"Timestamp", timestamps(before), timestamps(after)},
	}
}

func approvals(p *signing.Policy) string {
	text := "None"
	if n := p.Rules.RequiredApprovals; n > 0 {
		text = count(n, "approval")
	}
	if p.Rules.RequiredApprovals > 0 && p.Rules.SubmitterMayNotApprove {
		text += ", not by the submitter"
	}
	return text
}

func timestamps(p *signing.Policy) string {
	if p.Rules.RequireTimestamp {
		return "Required"
	}
	return "If available"
}
