package main

import (
	"bytes"
	"errors"
	"path/filepath"
	"testing"

	"github.com/countersign-dev/countersign/internal/auth"
	"github.com/countersign-dev/countersign/internal/signing"
	"github.com/countersign-dev/countersign/internal/store"
	"github.com/countersign-dev/countersign/internal/store/storetest"
)

// TestFirstAdministratorGetsIn breaks every write of the first start, in every way: there is either no organization, and the next
// start makes it, or one whose administrator has a token and an invitation.
func TestFirstAdministratorGetsIn(t *testing.T) {
	t.Parallel()
	for _, fault := range storetest.Faults {
		t.Run(fault.String(), func(t *testing.T) {
			t.Parallel()
			for step := 1; firstStartWithFault(t, step, fault); step++ {
				if t.Failed() {
					t.Fatalf("after breaking step %d", step)
				}
			}
		})
	}
}

// firstStartWithFault reports whether the step came.
func firstStartWithFault(t *testing.T, step int, fault storetest.Fault) bool {
	t.Helper()
	ctx := t.Context()
	db, err := store.Open(ctx, store.Config{URL: filepath.Join(t.TempDir(), "db")})
	if err != nil {
		t.Fatal(err)
	}
	defer closeQuietly(db)
	if err := db.Migrate(ctx); err != nil {
		t.Fatal(err)
	}
	faulty := storetest.NewFaulty(db)
	service := func(s signing.Store) *auth.Service {
		a, err := auth.New(auth.Config{Store: s, Key: bytes.Repeat([]byte{7}, 32)})
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	sys := &system{signing: signing.New(signing.Config{Store: faulty}), auth: service(faulty)}
	a := service(db) // of a server that nothing happens to
	faulty.Break(step, fault)
	first, err := bootstrap(ctx, sys, "Acme", "Ada", "ada@acme.example")
	if err != nil && !errors.Is(err, storetest.ErrInjected) {
		t.Error(err)
	}
	if err == nil {
		if actor, err := a.Authenticate(ctx, "Bearer "+first.token, first.organization.ID); err != nil || actor.UserID != first.admin.ID {
			t.Errorf("the token that was printed: %v", err)
		}
		if in, err := a.Invitation(ctx, first.invitation); err != nil || in.User.ID != first.admin.ID {
			t.Errorf("the link that was printed: %v", err)
		}
	}
	again, err := bootstrap(ctx, sys, "Acme", "Ada", "ada@acme.example")
	if err != nil || first != nil && again != nil {
		t.Errorf("the next start: %+v, %v", again, err)
	}
	err = db.View(ctx, func(tx signing.Tx) error {
		all, err := tx.Organizations(ctx)
		if err != nil || len(all) != 1 {
			t.Fatalf("%d organizations, %v", len(all), err)
		}
		users, err := tx.Users(ctx, all[0].ID, "")
		if err != nil || len(users) != 1 {
			t.Fatalf("%d users, %v", len(users), err)
		}
		tokens, err := tx.Tokens(ctx, all[0].ID, users[0].ID)
		if err != nil || len(tokens) != 1 {
			t.Errorf("%d tokens, %v", len(tokens), err)
		}
		invitations, err := tx.InvitationsOf(ctx, users[0].ID)
		if err != nil || len(invitations) != 1 {
			t.Errorf("%d invitations, %v", len(invitations), err)
		}
		return err
	})
	if err = errors.Join(err, a.Close(ctx), sys.auth.Close(ctx)); err != nil {
		t.Error(err)
	}
	return faulty.Fired()
}
