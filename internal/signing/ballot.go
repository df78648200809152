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
	approvers map[ID]bool // the users who decided and may do so now; nil when that does not matter
}

// readBallot reads the decisions on a request under its policy and certificate as they are now. Of a final request they are
// history, whatever the policy says now: the last one was on what was decided on.
func readBallot(ctx context.Context, tx Tx, r *Request, p *Policy, c *Certificate) (*ballot, error) {
	b := &ballot{request: r, required: p.Rules.RequiredApprovals, binding: binding(r, p, c)}
	var err error
	if b.decisions, err = tx.Approvals(ctx, r.ID); err != nil || len(b.decisions) == 0 {
		return b, err
	}
	if r.Workflow.Status().Final() {
		b.binding = b.decisions[len(b.decisions)-1].Binding
		return b, nil
	}
	b.approvers = map[ID]bool{}
	for _, d := range b.decisions {
		if _, known := b.approvers[d.UserID]; !known {
			if b.approvers[d.UserID], err = approves(ctx, tx, p, d.UserID); err != nil {
				return nil, err
			}
		}
	}
	return b, nil
}

// approves reports whether a user is active and an approver of a policy, directly or through groups.
func approves(ctx context.Context, tx Tx, p *Policy, user ID) (bool, error) {
	u, err := tx.User(ctx, p.OrganizationID, user)
	if err != nil || !u.Active {
		return false, err
	}
	groups, err := tx.GroupsOf(ctx, p.OrganizationID, user)
	return Actor{UserID: user, Groups: groups}.In(p.Approvers), err
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
// user. Where fewer approvals count afterwards, the approvers are told; where enough count that did not before, the request goes
// on. The organization must be locked, so that nobody decides meanwhile.
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
		if i < 0 || after[i].given() == was.given() {
			continue
		}
		if is := after[i]; is.given() > was.given() {
			if err := s.resume(ctx, tx, is); err != nil {
				return err
			}
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

// openBallots reads the ballots of an organization's waiting requests on which somebody decided, in a few queries.
func openBallots(ctx context.Context, tx Tx, org ID) ([]*ballot, error) {
	requests, decisions, err := tx.PartlyApproved(ctx, org)
	if err != nil || len(requests) == 0 {
		return nil, err
	}
	of := map[ID][]*Approval{}
	for _, d := range decisions {
		of[d.RequestID] = append(of[d.RequestID], d)
	}
	d, err := readDirectory(ctx, tx, org)
	if err != nil {
		return nil, err
	}
	policies, certificates, err := rulings(ctx, tx, org)
	if err != nil {
		return nil, err
	}
	approvers := map[ID]map[ID]bool{}
	var list []*ballot
	for _, r := range requests {
		p := policies[r.PolicyID]
		c := certificates[p.CertificateID]
		if approvers[p.ID] == nil {
			approvers[p.ID] = d.members(p.Approvers)
		}
		list = append(list, &ballot{
			request: r, required: p.Rules.RequiredApprovals, decisions: of[r.ID], binding: binding(r, p, c), approvers: approvers[p.ID],
		})
	}
	return list, nil
}

// resume sends a waiting request on when approvals count again, and they are enough.
func (s *Service) resume(ctx context.Context, tx Tx, b *ballot) error {
	if b.given() < b.required {
		return nil
	}
	r, err := tx.LockRequest(ctx, b.request.OrganizationID, b.request.ID)
	if err != nil || r.Workflow != WorkflowWaitingForApproval {
		return err
	}
	if err := s.approved(ctx, tx, r); err != nil {
		return err
	}
	return tx.UpdateRequest(ctx, r)
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
