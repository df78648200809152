package signing_test

import (
	"context"
	"errors"
	"slices"
	"testing"

	"github.com/countersign-dev/countersign/internal/signing"
	"github.com/countersign-dev/countersign/internal/store/storetest"
)

// hasKey reports whether the key store has the certificate's key.
func (w *world) hasKey(t *testing.T, keyID string) bool {
	t.Helper()
	_, found, err := template.keys.Get(t.Context(), keyID)
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// newCSR makes a certificate that waits to be issued.
func (w *world) newCSR(t *testing.T, slug string) *signing.Certificate {
	t.Helper()
	c, err := w.CreateRequest(t.Context(), w.Admin, signing.NewCertificate{Slug: slug, Subject: "CN=Acme", KeyAlgorithm: "ECDSA-P256"})
	if err != nil || !w.hasKey(t, c.KeyID) {
		t.Fatal(err)
	}
	return c
}

// newPolicy makes a policy whose submitter is the CI user, for certificates that the template's worlds do not share.
func (w *world) newPolicy(t *testing.T, slug, certificate string) {
	t.Helper()
	if _, err := w.CreatePolicy(t.Context(), w.Admin, "app", signing.PolicyEdit{Slug: &slug, Name: &slug, CertificateSlug: &certificate,
		Rules: &signing.PolicyRules{}, Submitters: &[]signing.Subject{user(w.CI.UserID)}}); err != nil {
		t.Fatal(err)
	}
}

func TestDeletePrivateKey(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := t.Context()
	c, err := w.CreateSelfSigned(ctx, w.Admin, signing.NewCertificate{Slug: "old", Subject: "CN=old", KeyAlgorithm: "ECDSA-P256"})
	if err != nil {
		t.Fatal(err)
	}
	w.newPolicy(t, "p", "old")
	signed := w.submit(t, "p")
	if got := w.advance(t, signed.ID); got.Workflow != signing.WorkflowCompleted {
		t.Fatalf("%s %+v", got.Workflow, got.Failure)
	}
	waiting := w.submit(t, "p")

	remove := func(d signing.KeyDeletion) error {
		_, err := w.DeletePrivateKey(ctx, w.Admin, "OLD", d)
		return err
	}
	wantConflict(t, remove(signing.KeyDeletion{EvenIfInUse: true}), "is active", "deactivate it first")
	if _, err := w.EditCertificate(ctx, w.Admin, "old", signing.CertificateEdit{Active: ptr(false), EvenIfInUse: true}); err != nil {
		t.Fatal(err)
	}
	wantConflict(t, remove(signing.KeyDeletion{}), "signing policy 'app/p'", "evenIfInUse")
	wantConflict(t, remove(signing.KeyDeletion{EvenIfInUse: true, Version: 1}), "Somebody else changed this")
	for _, a := range []signing.Actor{w.CI, w.Approver, w.Foreigner} {
		_, err := w.DeletePrivateKey(ctx, a, "old", signing.KeyDeletion{EvenIfInUse: true})
		wantKind(t, err, map[bool]signing.Kind{true: signing.KindNotFound, false: signing.KindForbidden}[a.OrganizationID == w.Foreigner.OrganizationID])
	}
	if !w.hasKey(t, c.KeyID) {
		t.Fatal("the key is gone although the deletion was refused")
	}
	for range 2 { // a repetition does no harm
		got, err := w.DeletePrivateKey(ctx, w.Admin, "old", signing.KeyDeletion{EvenIfInUse: true})
		if err != nil || got.Active || got.KeyID != "" || got.KeyDeletedAt == nil || len(got.Chain) == 0 || w.hasKey(t, c.KeyID) {
			t.Fatalf("%+v, %v", got, err)
		}
	}
	if got, want := w.events(t, c.ID), []string{"Certificate.Created", "Certificate.Edited", "Certificate.PrivateKeyDeleted", "Certificate.PrivateKeyErased"}; !slices.Equal(got, want) {
		t.Errorf("audit log %v, want %v", got, want)
	}

	// What it signed stays, and refers to it; nothing more is signed.
	if got, err := w.RequestCertificate(ctx, w.Admin, signed.ID); err != nil || got.ID != c.ID {
		t.Errorf("%+v, %v", got, err)
	}
	if got := w.advance(t, waiting.ID); got.Workflow != signing.WorkflowProcessingFailed || got.Failure.Code != "Policy" {
		t.Errorf("%s %+v", got.Workflow, got.Failure)
	}
	_, err = w.EditCertificate(ctx, w.Admin, "old", signing.CertificateEdit{Active: ptr(true)})
	wantConflict(t, err, "private key", "was deleted")
	_, err = w.UploadCertificate(ctx, w.Admin, "old", c.Chain[0])
	wantConflict(t, err, "private key", "was deleted")
	if _, err := w.EditCertificate(ctx, w.Admin, "old", signing.CertificateEdit{Name: ptr("Old, key deleted")}); err != nil {
		t.Errorf("another change: %v", err)
	}
	view, err := w.Project(ctx, w.Admin, "app")
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range view.Policies {
		if got := view.Problems[p.ID]; p.Slug == "p" && (len(got) != 1 || got[0] != "The certificate's private key was deleted. Give the signing policy another certificate.") {
			t.Errorf("problems %q", got)
		}
	}
	wantConflict(t, w.DeleteCertificate(ctx, w.Admin, "old", 0), "signing policy 'app/p'")
	if _, err := w.EditPolicy(ctx, w.Admin, "app", "p", signing.PolicyEdit{CertificateSlug: ptr("test")}); err != nil {
		t.Fatal(err)
	}
	wantConflict(t, w.DeleteCertificate(ctx, w.Admin, "old", 0), "signing requests, which refer to it")
}

func TestDeleteCertificate(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := t.Context()
	c := w.newCSR(t, "abandoned")
	wantKind(t, w.DeleteCertificate(ctx, w.CI, "abandoned", 0), signing.KindForbidden)
	wantKind(t, w.DeleteCertificate(ctx, w.Foreigner, "abandoned", 0), signing.KindNotFound)
	wantConflict(t, w.DeleteCertificate(ctx, w.Admin, "abandoned", 7), "Somebody else")
	wantConflict(t, w.DeleteCertificate(ctx, w.Admin, "release", 0), "signing policy 'app/release-signing'")
	if err := w.DeleteCertificate(ctx, w.Admin, "Abandoned", 1); err != nil {
		t.Fatal(err)
	}
	if w.hasKey(t, c.KeyID) {
		t.Error("the key is still in the key store")
	}
	wantKind(t, w.DeleteCertificate(ctx, w.Admin, "abandoned", 0), signing.KindNotFound)
	if got := w.events(t, c.ID); len(got) != 4 || got[3] != "Certificate.Deleted" {
		t.Errorf("audit log %v", got)
	}
	w.newCSR(t, "abandoned") // the slug is free again

	// A policy that is deactivated keeps its certificate, too.
	w.newCSR(t, "kept")
	w.newPolicy(t, "off", "kept")
	if _, err := w.EditPolicy(ctx, w.Admin, "app", "off", signing.PolicyEdit{Active: ptr(false)}); err != nil {
		t.Fatal(err)
	}
	wantConflict(t, w.DeleteCertificate(ctx, w.Admin, "kept", 0), "signing policy 'app/off'")
	if k, err := w.Certificate(ctx, w.Admin, "kept"); err != nil || !k.Active || k.KeyDeletedAt != nil || !w.hasKey(t, k.KeyID) {
		t.Errorf("a refusal left its mark: %+v, %v", k, err)
	}
}

// downKeys is a key store that cannot delete.
type downKeys struct {
	signing.Keys
	down bool
}

func (d *downKeys) Delete(ctx context.Context, id string) error {
	if d.down {
		return errors.New("no route to the key store")
	}
	return d.Keys.Delete(ctx, id)
}

// TestKeyIsErasedLater: the key store is away when a key is deleted. From then on nothing signs with it; it is erased when the
// key store is back.
func TestKeyIsErasedLater(t *testing.T) {
	t.Parallel()
	var keys *downKeys
	w := newWorld(t, func(c *signing.Config) {
		keys = &downKeys{Keys: c.Keys, down: true}
		c.Keys = keys
	})
	ctx := t.Context()
	c := w.newCSR(t, "abandoned")
	err := w.DeleteCertificate(ctx, w.Admin, "abandoned", 0)
	wantKind(t, err, signing.KindUnavailable)
	if got, err := w.Certificate(ctx, w.Admin, "abandoned"); err != nil || got.KeyDeletedAt == nil || got.Active || got.KeyID != c.KeyID {
		t.Errorf("%+v, %v", got, err)
	}
	if err := w.Retain(ctx); err != nil {
		t.Errorf("other maintenance stops: %v", err)
	}
	keys.down = false
	if err := w.Retain(ctx); err != nil {
		t.Fatal(err)
	}
	if got, err := w.Certificate(ctx, w.Admin, "abandoned"); err != nil || got.KeyID != "" || w.hasKey(t, c.KeyID) {
		t.Errorf("%+v, %v", got, err)
	}
	if err := w.DeleteCertificate(ctx, w.Admin, "abandoned", 0); err != nil {
		t.Error(err)
	}
}

// TestDeletionFaults breaks every write of a deletion in every way; the caller repeats it until it is done.
func TestDeletionFaults(t *testing.T) {
	t.Parallel()
	for _, fault := range storetest.Faults {
		for step := 1; ; step++ {
			var faulty *storetest.Faulty
			w := newWorld(t, func(c *signing.Config) {
				faulty = storetest.NewFaulty(c.Store)
				c.Store = faulty
			})
			c := w.newCSR(t, "abandoned")
			faulty.Break(step, fault)
			var err error
			for range 2 {
				if err = w.DeleteCertificate(t.Context(), w.Admin, "abandoned", 0); !errors.Is(err, storetest.ErrInjected) {
					break
				}
			}
			if err != nil && signing.KindOf(err) != signing.KindNotFound { // done already, although the first try failed
				t.Errorf("%s, step %d: %v", fault, step, err)
			}
			if w.hasKey(t, c.KeyID) {
				t.Errorf("%s, step %d: the key is still there", fault, step)
			}
			if _, err := w.Certificate(t.Context(), w.Admin, "abandoned"); signing.KindOf(err) != signing.KindNotFound {
				t.Errorf("%s, step %d: the certificate is still there: %v", fault, step, err)
			}
			if !faulty.Fired() {
				if step < 8 {
					t.Errorf("%s: only %d steps", fault, step)
				}
				break
			}
		}
	}
}
