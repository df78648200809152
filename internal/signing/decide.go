package signing

import (
	"context"
	"errors"
	"time"
)

// Approve records the actor's approval. When it is the last one needed, the request goes on to be signed.
func (s *Service) Approve(ctx context.Context, a Actor, id ID, comment string) (*Request, error) {
	return s.decide(ctx, a, id, Approved, comment, "")
}

// ApproveSeen is Approve for a person who has looked at the request. It is refused as KindConflict when seen, the Binding of the
// view that she decides on, is no longer the request's.
func (s *Service) ApproveSeen(ctx context.Context, a Actor, id ID, comment, seen string) (*Request, error) {
	return s.decide(ctx, a, id, Approved, comment, seen)
}

// Deny records the actor's refusal, which ends the request.
func (s *Service) Deny(ctx context.Context, a Actor, id ID, comment string) (*Request, error) {
	return s.decide(ctx, a, id, Refused, comment, "")
}

func (s *Service) decide(ctx context.Context, a Actor, id ID, decision Decision, comment, seen string) (*Request, error) {
	var v validation
	v.text("Comment", comment)
	if err := v.err(); err != nil {
		return nil, err
	}
	var r *Request
	err := s.store.Tx(ctx, func(tx Tx) (err error) {
		if r, err = tx.LockRequest(ctx, a.OrganizationID, id); err != nil {
			return err
		}
		// Nobody changes what is decided on, or who may decide, until the decision is stored.
		if err := tx.LockOrganization(ctx, a.OrganizationID); err != nil {
			return err
		}
		j, err := s.decidable(ctx, tx, a, r)
		if err != nil {
			return err
		}
		approval := &Approval{
			ID: NewID(), RequestID: r.ID, UserID: a.UserID, UserName: a.Name, Decision: decision, Comment: comment,
			Binding: binding(r, j.policy, j.certificate), At: s.now(),
		}
		if seen != "" && seen != approval.Binding {
			return Errorf(KindConflict, "The signing policy or its certificate changed since you looked. Check the request again, then decide.")
		}
		if err := tx.InsertApproval(ctx, approval); err != nil {
			return err
		}
		ballot, err := readBallot(ctx, tx, r, j.policy, j.certificate)
		if err != nil {
			return err
		}
		event := "SigningRequest.Approved"
		switch {
		case decision == Refused:
			event = "SigningRequest.Denied"
			s.finish(r, WorkflowDenied, nil)
		case ballot.given() >= ballot.required:
			if err := s.approved(ctx, tx, r); err != nil {
				return err
			}
		}
		if err := tx.UpdateRequest(ctx, r); err != nil {
			return err
		}
		if decision == Refused {
			if err := s.announce(ctx, tx, r, EventDenied, a, comment); err != nil {
				return err
			}
		}
		return s.record(ctx, tx, a, event, requestObject(r), map[string]any{
			"comment": comment, "binding": approval.Binding, "sha256": r.Unsigned.SHA256,
			"approvals": ballot.given(), "requiredApprovals": ballot.required,
		})
	})
	if err != nil {
		return nil, err
	}
	return r, nil
}

// approved sends a request that has its approvals on to be signed. The caller stores it.
func (s *Service) approved(ctx context.Context, tx Tx, r *Request) error {
	r.Workflow = WorkflowQueuedForProcessing
	r.Tries, r.Unfinished = 0, 0
	r.WakeAt = s.wakeAt(r, s.limits.Wake)
	return tx.EnqueueAdvance(ctx, r.ID, time.Time{})
}

// decidable checks that the actor may decide on the request now.
func (s *Service) decidable(ctx context.Context, tx Tx, a Actor, r *Request) (*job, error) {
	j := &job{request: r}
	if err := s.load(ctx, tx, j); err != nil {
		return nil, err
	}
	sc := scope{project: j.project, policy: j.policy, request: r}
	if err := requireVisible(a, sc, OpApprove); err != nil {
		return nil, err
	}
	decisions, err := tx.Approvals(ctx, r.ID)
	if err != nil {
		return nil, err
	}
	if err := s.undecided(a, r, j.policy, binding(r, j.policy, j.certificate), decisions); err != nil {
		return nil, err
	}
	return j, nil
}

// Cancel ends a request that is not final. A signature being made meanwhile is thrown away.
func (s *Service) Cancel(ctx context.Context, a Actor, id ID, comment string) (*Request, error) {
	var v validation
	v.text("Comment", comment)
	if err := v.err(); err != nil {
		return nil, err
	}
	var r *Request
	err := s.store.Tx(ctx, func(tx Tx) (err error) {
		r, err = tx.LockRequest(ctx, a.OrganizationID, id)
		if err != nil {
			return err
		}
		sc, err := requestScope(ctx, tx, r)
		if err != nil {
			return err
		}
		if err := requireVisible(a, sc, OpCancel); err != nil {
			return err
		}
		if status := r.Workflow.Status(); status.Final() {
			return Errorf(KindConflict, "The signing request is already %s.", status)
		}
		return s.cancelLocked(ctx, tx, a, r, comment)
	})
	if err != nil {
		return nil, err
	}
	return r, nil
}

func (s *Service) cancelLocked(ctx context.Context, tx Tx, a Actor, r *Request, reason string) error {
	s.finish(r, WorkflowCanceled, nil)
	if err := tx.UpdateRequest(ctx, r); err != nil {
		return err
	}
	if err := tx.EndGrants(ctx, r.ID, string(Canceled), s.now()); err != nil {
		return err
	}
	if err := s.announce(ctx, tx, r, EventCanceled, a, reason); err != nil {
		return err
	}
	return s.record(ctx, tx, a, "SigningRequest.Canceled", requestObject(r), map[string]any{"reason": reason})
}

// requestScope reads the objects that permissions on a request depend on.
func requestScope(ctx context.Context, tx Tx, r *Request) (scope, error) {
	project, err := tx.Project(ctx, r.OrganizationID, r.ProjectID)
	if err != nil {
		return scope{}, err
	}
	policy, err := tx.Policy(ctx, r.OrganizationID, r.PolicyID)
	return scope{project: project, policy: policy, request: r}, err
}

// errNoRequest is the answer for unknown requests and for those that the caller may not even read.
func errNoRequest() error {
	return Errorf(KindNotFound, "There is no such signing request in this organization.")
}

// requireVisible requires an operation on a request, without telling those who may not read it that it exists.
func requireVisible(a Actor, sc scope, op Operation) error {
	if !allowed(a, OpReadRequest, sc) {
		return errNoRequest()
	}
	return require(a, op, sc)
}

// Recover makes every lease void, because no other process works on this database: those who held leases are dead.
// A server with an exclusive database calls it once, before its workers start.
func (s *Service) Recover(ctx context.Context) error {
	var leased []RequestKey
	err := s.store.View(ctx, func(tx Tx) (err error) {
		leased, err = tx.LeasedRequests(ctx)
		return err
	})
	if err != nil {
		return err
	}
	for _, key := range leased {
		if err := s.wake(ctx, key, true); err != nil {
			return err
		}
	}
	return nil
}

// Sweep finds requests and deliveries whose time has come: a cancellation timeout, a lost wake-up, the lease of a dead
// worker. Call it every few seconds, in any number of processes.
func (s *Service) Sweep(ctx context.Context) error {
	return errors.Join(s.sweepRequests(ctx), s.sweepDeliveries(ctx))
}

func (s *Service) sweepRequests(ctx context.Context) error {
	const batch = 100
	for {
		var due []RequestKey
		err := s.store.View(ctx, func(tx Tx) (err error) {
			due, err = tx.DueRequests(ctx, s.now(), batch)
			return err
		})
		if err != nil {
			return err
		}
		var errs []error
		for _, key := range due {
			if err := s.wake(ctx, key, false); err != nil {
				errs = append(errs, err)
			}
		}
		if len(due) < batch || len(errs) > 0 {
			return errors.Join(errs...)
		}
	}
}

// wake looks at one request again. With void, a lease on it counts for nothing.
func (s *Service) wake(ctx context.Context, key RequestKey, void bool) error {
	return s.store.Tx(ctx, func(tx Tx) error {
		r, err := tx.LockRequest(ctx, key.OrganizationID, key.ID)
		if KindOf(err) == KindNotFound {
			return nil
		} else if err != nil {
			return err
		}
		now := s.now()
		switch {
		case r.Workflow.Status().Final():
			return nil
		case r.CancelAt != nil && !now.Before(*r.CancelAt):
			return s.cancelLocked(ctx, tx, Countersign(r.OrganizationID), r, "The cancellation timeout given at submission passed.")
		case !void && r.WakeAt != nil && now.Before(*r.WakeAt):
			return nil // another process was faster
		}
		if void {
			r.LeaseUntil = nil
		}
		if r.Workflow == WorkflowWaitingForApproval {
			r.WakeAt = r.CancelAt
			return tx.UpdateRequest(ctx, r)
		}
		r.WakeAt = s.wakeAt(r, s.limits.Wake)
		if err := tx.UpdateRequest(ctx, r); err != nil {
			return err
		}
		return enqueue(ctx, tx, r, time.Time{})
	})
}
