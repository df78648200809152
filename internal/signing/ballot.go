package signing

import (
	"context"
	"slices"
)

// ballot is what was decided on a request, and what of it counts now.
type ballot struct {
	request   *Request
	required  int
	decisions []*Approval // oldest first
	binding   string      // of what is decided on now
	approvers map[ID]bool // the policy's active approvers now; nil when that does not matter
}

// readBallot reads the decisions on a request under its policy and certificate as they are now.
func readBallot(ctx context.Context, tx Tx, r *Request, p *Policy, c *Certificate) (*ballot, error) {
	b := &ballot{request: r, required: p.Rules.RequiredApprovals, binding: binding(r, p, c)}
	var err error
	if b.decisions, err = tx.Approvals(ctx, r.ID); err != nil || len(b.decisions) == 0 {
		return b, err
	}
	d, err := readDirectory(ctx, tx, r.OrganizationID)
	b.approvers = d.members(p.Approvers)
	return b, err
}

// close makes it the ballot of a final request: what was decided on is history, whatever the policy says now. The last decision
// was on it.
func (b *ballot) close() {
	if n := len(b.decisions); n > 0 {
		b.binding = b.decisions[n-1].Binding
	}
	b.approvers = nil
}

// counts reports whether a decision is one on the request as it is now, by somebody who may decide on it now.
func (b *ballot) counts(a *Approval) bool {
	return a.Binding == b.binding && (b.approvers == nil || b.approvers[a.UserID])
}

// given is the number of approvals that count; nobody gives two on the same binding.
func (b *ballot) given() int {
	n := 0
	for _, a := range b.decisions {
		if a.Decision == Approved && b.counts(a) {
			n++
		}
	}
	return n
}

// undecided returns why the actor, an approver, cannot decide on the request now; nil when she can.
func (s *Service) undecided(a Actor, r *Request, p *Policy, current string, decisions []*Approval) error {
	switch {
	case r.Workflow != WorkflowWaitingForApproval:
		return Errorf(KindConflict, "The signing request does not wait for approval; it is %s.", r.Workflow)
	case r.CancelAt != nil && !s.now().Before(*r.CancelAt):
		return Errorf(KindConflict, "The signing request's cancellation timeout passed; submit it again.")
	case p.Rules.SubmitterMayNotApprove && r.SubmitterID == a.UserID:
		return Errorf(KindForbidden, "Signing policy '%s' does not let the submitter decide on a signing request; another approver has to.", p.Slug)
	case slices.ContainsFunc(decisions, func(d *Approval) bool { return d.UserID == a.UserID && d.Binding == current }):
		return Errorf(KindConflict, "You already decided on this signing request; another approver has to.")
	}
	return nil
}

// recounting makes a change that approvals of waiting requests may rest on: of a signing policy, a certificate, a group or a
// user. Where fewer approvals count afterwards, the approvers are told. The organization must be locked, so that nobody
// decides meanwhile.
func (s *Service) recounting(ctx context.Context, tx Tx, a Actor, change func() error) error {
	before, err := openBallots(ctx, tx, a.OrganizationID)
	if err == nil {
		err = change()
	}
	if err != nil || len(before) == 0 {
		return err
	}
	after, err := openBallots(ctx, tx, a.OrganizationID)
	if err != nil {
		return err
	}
	for _, was := range before {
		i := slices.IndexFunc(after, func(b *ballot) bool { return b.request.ID == was.request.ID })
		if i < 0 || after[i].given() >= was.given() {
			continue
		}
		reason := leftApprovers
		if after[i].binding != was.binding {
			reason = approvedOtherwise
		}
		if err := s.recordFallen(ctx, tx, a, after[i], reason); err != nil {
			return err
		}
	}
	return nil
}

// Why approvals fell.
const (
	approvedOtherwise = "The signing policy or its certificate changed after the approvals."
	leftApprovers     = "Somebody who approved is no longer an approver of the signing policy, or was deactivated."
)

// openBallots reads the ballots of an organization's waiting requests on which somebody decided.
func openBallots(ctx context.Context, tx Tx, org ID) ([]*ballot, error) {
	requests, err := tx.PartlyApproved(ctx, org)
	if err != nil {
		return nil, err
	}
	var list []*ballot
	for _, r := range requests {
		p, err := tx.Policy(ctx, org, r.PolicyID)
		if err != nil {
			return nil, err
		}
		c, err := tx.Certificate(ctx, org, p.CertificateID)
		if err != nil {
			return nil, err
		}
		b, err := readBallot(ctx, tx, r, p, c)
		if err != nil {
			return nil, err
		}
		list = append(list, b)
	}
	return list, nil
}

// recordFallen tells that approvals of a request count no more. by is who brought it about.
func (s *Service) recordFallen(ctx context.Context, tx Tx, by Actor, b *ballot, reason string) error {
	if err := s.announce(ctx, tx, b.request, EventApprovalsFell, by, reason); err != nil {
		return err
	}
	return s.record(ctx, tx, by, "SigningRequest.ApprovalsFell", requestObject(b.request), map[string]any{
		"reason": reason, "approvals": b.given(), "requiredApprovals": b.required,
	})
}

// reopen sends an approved request back to its approvers, because too few of the approvals count by now.
func (s *Service) reopen(ctx context.Context, tx Tx, b *ballot) error {
	r := b.request
	r.Workflow = WorkflowWaitingForApproval
	r.Tries, r.Unfinished, r.LeaseUntil, r.WakeAt = 0, 0, nil, r.CancelAt
	if err := tx.UpdateRequest(ctx, r); err != nil {
		return err
	}
	reason := approvedOtherwise
	if slices.ContainsFunc(b.decisions, func(d *Approval) bool { return d.Binding == b.binding }) {
		reason = leftApprovers
	}
	return s.recordFallen(ctx, tx, Countersign(r.OrganizationID), b, reason)
}
