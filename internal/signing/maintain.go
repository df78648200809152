package signing

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/countersign-dev/countersign/internal/audit"
)

// retentionDays returns how long a request's artifacts are kept once it is final; 0 is for ever.
func retentionDays(o *Organization, p *Policy) int {
	if p.Rules.RetentionDays > 0 {
		return p.Rules.RetentionDays
	}
	return o.Settings.RetentionDays
}

// Retain deletes the artifact bytes of requests whose retention time passed; requests, hashes and the audit log stay.
// It also sweeps bytes that no request refers to, such as those of interrupted uploads, once they are a day old, the
// records of messages that were settled long ago, and deleted private keys that could not be erased at once. It logs
// which certificates in use expire soon.
func (s *Service) Retain(ctx context.Context) error {
	err := s.store.Tx(ctx, func(tx Tx) error { return tx.DeleteDeliveries(ctx, s.now().Add(-keepDeliveries)) })
	if err != nil {
		return err
	}
	organizations, err := s.Organizations(ctx)
	if err != nil {
		return err
	}
	for _, o := range organizations {
		if err := s.eraseKeys(ctx, o.ID); err != nil {
			s.log.Error("deleted private keys could not be erased", "organization", o.ID, "error", err)
		}
		if err := s.warnOfExpiry(ctx, o.ID); err != nil {
			return err
		}
		if err := s.retainOrganization(ctx, o); err != nil {
			return err
		}
	}
	return s.blobs.List(ctx, s.now().Add(-24*time.Hour), func(id BlobID) error {
		var used bool
		err := s.store.View(ctx, func(tx Tx) (err error) {
			used, err = tx.BlobInUse(ctx, id)
			return err
		})
		if err != nil || used {
			return err
		}
		return s.blobs.Delete(ctx, id)
	})
}

// warnOfExpiry logs which certificates of active policies expire soon, so that operators notice before signing stops.
func (s *Service) warnOfExpiry(ctx context.Context, org ID) error {
	return s.store.View(ctx, func(tx Tx) error {
		all, err := tx.Certificates(ctx, org)
		if err != nil {
			return err
		}
		for _, c := range all {
			warning := c.ExpiryWarning(s.now())
			if warning == "" || !c.Active {
				continue
			}
			uses, err := usesOfCertificate(ctx, tx, c, false)
			if err != nil {
				return err
			}
			if len(uses) > 0 {
				s.log.Warn("a certificate in use expires", "organization", org, "certificate", c.Slug, "warning", warning, "policies", len(uses))
			}
		}
		return nil
	})
}

func (s *Service) retainOrganization(ctx context.Context, o *Organization) error {
	policies := map[ID]*Policy{}
	shortest := o.Settings.RetentionDays
	err := s.store.View(ctx, func(tx Tx) error {
		list, err := tx.Policies(ctx, o.ID, PolicyFilter{})
		for _, p := range list {
			policies[p.ID] = p
			if d := retentionDays(o, p); d > 0 && (shortest == 0 || d < shortest) {
				shortest = d
			}
		}
		return err
	})
	if err != nil || shortest == 0 {
		return err
	}
	now := s.now()
	after := ID("")
	for {
		var candidates []*Request
		err := s.store.View(ctx, func(tx Tx) (err error) {
			candidates, err = tx.ExpiredArtifacts(ctx, o.ID, now.AddDate(0, 0, -shortest), after, 100)
			return err
		})
		if err != nil || len(candidates) == 0 {
			return err
		}
		for _, r := range candidates {
			after = r.ID
			p := policies[r.PolicyID]
			if p == nil {
				continue // made meanwhile; the next run sees it
			}
			if d := retentionDays(o, p); d > 0 && r.FinalAt != nil && r.FinalAt.Before(now.AddDate(0, 0, -d)) {
				if err := s.deleteArtifacts(ctx, r, d); err != nil {
					return err
				}
			}
		}
	}
}

// deleteArtifacts forgets a request's bytes first, so that nothing refers to bytes that are gone, and then removes those
// that no other request (a resubmit) still refers to.
func (s *Service) deleteArtifacts(ctx context.Context, r *Request, days int) error {
	blobs := []BlobID{r.Unsigned.BlobID, r.Signed.BlobID}
	err := s.store.Tx(ctx, func(tx Tx) error {
		r, err := tx.LockRequest(ctx, r.OrganizationID, r.ID)
		if err != nil {
			return err
		}
		if r.ArtifactsDeletedAt != nil {
			return nil // another process was faster
		}
		now := s.now()
		r.Unsigned.BlobID, r.Signed.BlobID, r.ArtifactsDeletedAt = "", "", &now
		if err := tx.UpdateRequest(ctx, r); err != nil {
			return err
		}
		data := map[string]any{"reason": fmt.Sprintf("The retention time of %d days passed.", days), "sha256": r.Unsigned.SHA256}
		if r.Signed.SHA256 != "" {
			data["signedSha256"] = r.Signed.SHA256
		}
		return s.record(ctx, tx, Countersign(r.OrganizationID), "SigningRequest.ArtifactsDeleted", requestObject(r), data)
	})
	if err != nil {
		return err
	}
	for _, id := range blobs {
		if id != "" {
			s.dropUnreferenced(ctx, id)
		}
	}
	return nil
}

// AuditEntries lists the organization's audit log.
func (s *Service) AuditEntries(ctx context.Context, a Actor, f AuditFilter) (leaves []audit.Leaf, err error) {
	if err := require(a, OpReadAudit, scope{}); err != nil {
		return nil, err
	}
	if f.Limit <= 0 || f.Limit > 1000 {
		return nil, Invalid("PageSize", "The page size must be between 1 and 1000.")
	}
	err = s.store.View(ctx, func(tx Tx) error {
		leaves, err = tx.AuditLeaves(ctx, a.OrganizationID, f)
		return err
	})
	return leaves, err
}

// LostAudits returns organizations that have an audit log and do not exist: no organization is ever deleted.
func (s *Service) LostAudits(ctx context.Context) (lost []ID, err error) {
	organizations, err := s.Organizations(ctx)
	if err != nil {
		return nil, err
	}
	err = s.store.View(ctx, func(tx Tx) error {
		lost, err = tx.AuditedOrganizations(ctx)
		return err
	})
	return slices.DeleteFunc(lost, func(id ID) bool {
		return slices.ContainsFunc(organizations, func(o *Organization) bool { return o.ID == id })
	}), err
}

// VerifyAudit checks an organization's whole audit log, and that it goes through the heads that were noted earlier. It
// returns the log's head. An error that wraps audit.ErrBroken names the entry. It reads past permissions: for whoever
// operates the installation, and for export jobs.
func (s *Service) VerifyAudit(ctx context.Context, org ID, noted ...audit.Head) (audit.Head, error) {
	head := audit.Start(string(org))
	for {
		var (
			leaves []audit.Leaf
			stored audit.Head // of the same moment as leaves
		)
		err := s.store.View(ctx, func(tx Tx) (err error) {
			if leaves, err = tx.AuditLeaves(ctx, org, AuditFilter{AfterSeq: head.Sequence, Limit: 1000}); err != nil {
				return err
			}
			if stored, err = tx.AuditHead(ctx, org); KindOf(err) == KindNotFound {
				stored, err = audit.Head{}, nil // which is the head of no log
			}
			return err
		})
		if err != nil {
			return head, err
		}
		for _, leaf := range leaves {
			next, err := audit.Verify(head, string(org), leaf)
			if err != nil {
				return head, err
			}
			for _, n := range noted {
				if n.Sequence == next.Sequence && n.Chain != next.Chain {
					return head, fmt.Errorf("%w: entry %d was noted with chain value %s, it has %s: it was changed, or one before it", audit.ErrBroken, n.Sequence, n.Chain, next.Chain)
				}
			}
			head = next
		}
		switch {
		case len(leaves) > 0:
		case stored.Sequence != head.Sequence:
			return head, fmt.Errorf("%w: the stored head is entry %d, but there are %d entries", audit.ErrBroken, stored.Sequence, head.Sequence)
		case stored.Chain != head.Chain:
			return head, fmt.Errorf("%w: the stored head of the chain is %s, the entries give %s", audit.ErrBroken, stored.Chain, head.Chain)
		default:
			for _, n := range noted {
				if n.Sequence > head.Sequence {
					return head, fmt.Errorf("%w: it ends with entry %d, but entry %d was noted: entries are missing at its end", audit.ErrBroken, head.Sequence, n.Sequence)
				}
			}
			return head, nil
		}
	}
}
