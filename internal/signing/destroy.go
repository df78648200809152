package signing

import (
	"context"
	"fmt"
)

// KeyDeletion is what a caller says beside which certificate's key to delete.
type KeyDeletion struct {
	Version int // as the caller read it; 0 does not check
	// EvenIfInUse deletes a key although active policies use the certificate.
	EvenIfInUse bool
}

// DeletePrivateKey destroys the private key of a deactivated certificate, which cannot be undone. The certificate itself stays,
// because what it signed refers to it. That the key must not be used any more is recorded first; then it is erased from the
// key store. When that fails the error is of KindUnavailable; it may be repeated, and Retain does.
func (s *Service) DeletePrivateKey(ctx context.Context, a Actor, slug string, d KeyDeletion) (*Certificate, error) {
	c, err := s.renounceKey(ctx, a, slug, d.Version, func(tx Tx, c *Certificate) error {
		if c.Active {
			return Errorf(KindConflict, "Certificate '%s' is active. Deleting its private key cannot be undone: deactivate it first.", c.Slug)
		}
		if d.EvenIfInUse {
			return nil
		}
		uses, err := usesOfCertificate(ctx, tx, c, false)
		if err != nil {
			return err
		}
		return inUse(fmt.Sprintf("Certificate '%s'", c.Slug), uses, "Give them another certificate or deactivate them first."+evenSo)
	})
	if err != nil {
		return nil, err
	}
	return s.eraseKey(ctx, a, c)
}

// DeleteCertificate deletes a certificate that never signed anything, such as an abandoned signing request, with its private
// key. KindConflict says which policies use it, or that it signed.
func (s *Service) DeleteCertificate(ctx context.Context, a Actor, slug string, version int) error {
	c, err := s.renounceKey(ctx, a, slug, version, func(tx Tx, c *Certificate) error {
		uses, err := usesOfCertificate(ctx, tx, c, true)
		if err != nil {
			return err
		}
		if err := inUse(fmt.Sprintf("Certificate '%s'", c.Slug), uses, "Give them another certificate first."); err != nil {
			return err
		}
		granted, err := tx.CertificateGranted(ctx, c.ID)
		if granted {
			err = Errorf(KindConflict, "Certificate '%s' was used for signing requests, which refer to it: it stays. Deactivate it, and delete its private key.", c.Slug)
		}
		return err
	})
	if err != nil {
		return err
	}
	if _, err := s.eraseKey(ctx, a, c); err != nil {
		return err
	}
	return s.store.Tx(ctx, func(tx Tx) error {
		if err := tx.LockOrganization(ctx, c.OrganizationID); err != nil {
			return err
		}
		c, err := tx.Certificate(ctx, c.OrganizationID, c.ID)
		if err != nil {
			return err
		}
		if err := tx.DeleteCertificate(ctx, c.OrganizationID, c.ID); err != nil {
			return err
		}
		return s.record(ctx, tx, a, "Certificate.Deleted", certificateObject(c), map[string]any{"before": c})
	})
}

// renounceKey records that nothing signs with a certificate's key any more, provided that check allows it.
func (s *Service) renounceKey(ctx context.Context, a Actor, slug string, version int, check func(Tx, *Certificate) error) (*Certificate, error) {
	return edit[Certificate]{
		event:  "Certificate.PrivateKeyDeleted",
		load:   func(tx Tx) (*Certificate, error) { return certificateBySlug(ctx, tx, a.OrganizationID, slug) },
		permit: func(Tx, *Certificate) error { return require(a, OpManageCertificates, scope{}) },
		apply: func(tx Tx, c *Certificate) error {
			if err := check(tx, c); err != nil || c.KeyDeletedAt != nil {
				return err
			}
			now := s.now()
			c.Active, c.KeyDeletedAt = false, &now
			return nil
		},
		update:  func(tx Tx, c *Certificate) error { return tx.UpdateCertificate(ctx, c) },
		version: version, current: func(c *Certificate) int { return c.Version },
		object: certificateObject,
	}.run(ctx, s, a)
}

// eraseKey erases a renounced key from the key store and records that it is gone.
func (s *Service) eraseKey(ctx context.Context, a Actor, c *Certificate) (*Certificate, error) {
	if c.KeyID == "" {
		return c, nil
	}
	if err := s.keys.Delete(ctx, c.KeyID); err != nil {
		s.log.Error("a private key could not be erased", "certificate", c.ID, "key", c.KeyID, "error", err)
		return nil, &Error{Kind: KindUnavailable, cause: err, Message: fmt.Sprintf(
			"Nothing signs with certificate '%s' any more, but its private key could not be erased from the key store yet. Send the same again; the server tries again, too.", c.Slug)}
	}
	err := s.store.Tx(ctx, func(tx Tx) (err error) {
		if err := tx.LockOrganization(ctx, c.OrganizationID); err != nil {
			return err
		}
		if c, err = tx.Certificate(ctx, c.OrganizationID, c.ID); err != nil || c.KeyID == "" {
			return err
		}
		was := c.KeyID
		c.KeyID = ""
		if err := tx.UpdateCertificate(ctx, c); err != nil {
			return err
		}
		return s.record(ctx, tx, a, "Certificate.PrivateKeyErased", certificateObject(c), map[string]any{
			"before": map[string]any{"keyId": was}, "after": map[string]any{"keyId": ""},
		})
	})
	return c, err
}

// eraseKeys erases the keys of an organization that were renounced and are still in the key store.
func (s *Service) eraseKeys(ctx context.Context, org ID) error {
	var all []*Certificate
	err := s.store.View(ctx, func(tx Tx) (err error) {
		all, err = tx.Certificates(ctx, org)
		return err
	})
	if err != nil {
		return err
	}
	for _, c := range all {
		if c.KeyDeletedAt != nil {
			if _, err := s.eraseKey(ctx, Countersign(org), c); err != nil {
				return err
			}
		}
	}
	return nil
}

func errKeyDeleted(c *Certificate) error {
	return Errorf(KindConflict, "The private key of certificate '%s' was deleted; it can sign no more. Create another certificate.", c.Slug)
}
