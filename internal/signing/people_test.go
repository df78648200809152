package signing_test

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/countersign-dev/countersign/internal/audit"
	"github.com/countersign-dev/countersign/internal/signing"
)

// as returns the stranger, who may nothing, with roles.
func (w *world) as(roles ...signing.Role) signing.Actor {
	a := w.Stranger
	a.Roles = roles
	return a
}

// edited returns the data of the newest audit entry about an object.
func (w *world) edited(t *testing.T, object signing.ID) (before, after map[string]any) {
	t.Helper()
	list, err := w.AuditEntries(t.Context(), w.Admin, signing.AuditFilter{ObjectID: object, Limit: 1, Descending: true})
	if err != nil || len(list) != 1 {
		t.Fatalf("%v, %v", list, err)
	}
	entry, err := audit.Decode(list[0].Data)
	if err != nil {
		t.Fatal(err)
	}
	var data struct{ Before, After map[string]any }
	if err := json.Unmarshal(entry.Data, &data); err != nil {
		t.Fatal(err)
	}
	return data.Before, data.After
}

// TestWhoGivesRoles: nobody gives or takes a role that she lacks, to herself or others, in a new user or an old one.
func TestWhoGivesRoles(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := t.Context()
	for _, by := range []struct {
		roles []signing.Role
		may   []signing.Role
	}{
		{[]signing.Role{signing.GlobalAdministrator}, signing.Roles},
		{[]signing.Role{signing.UserAdministrator}, []signing.Role{signing.UserAdministrator, signing.RegularUser}},
		{[]signing.Role{signing.UserAdministrator, signing.ProjectAdministrator}, []signing.Role{signing.UserAdministrator, signing.ProjectAdministrator, signing.RegularUser}},
		{[]signing.Role{signing.ProjectAdministrator, signing.CertificateAdministrator, signing.GlobalReader, signing.DirectorySynchronizer, signing.RegularUser}, nil},
	} {
		for _, role := range signing.Roles {
			want := signing.KindForbidden
			if slices.Contains(by.may, role) {
				want = 0
			}
			a := w.as(by.roles...)
			u, err := w.CreateUser(ctx, a, signing.NewUser{Kind: signing.CI, Name: string(signing.NewID()), Roles: []signing.Role{role}})
			wantKind(t, err, want)
			if err != nil {
				if u, err = w.CreateUser(ctx, w.Admin, signing.NewUser{Kind: signing.CI, Name: string(signing.NewID())}); err != nil {
					t.Fatal(err)
				}
				_, err = w.EditUser(ctx, a, u.ID, signing.UserEdit{Roles: &[]signing.Role{signing.RegularUser, role}})
				if role == signing.RegularUser && len(by.may) == 0 || role != signing.RegularUser {
					wantKind(t, err, want) // gives
				}
				if _, err := w.EditUser(ctx, w.Admin, u.ID, signing.UserEdit{Roles: &[]signing.Role{role}}); err != nil {
					t.Fatal(err)
				}
			}
			_, err = w.EditUser(ctx, a, u.ID, signing.UserEdit{Roles: &[]signing.Role{}})
			wantKind(t, err, want) // takes
		}
		_, err := w.EditUser(ctx, w.as(by.roles...), w.Stranger.UserID, signing.UserEdit{Roles: &[]signing.Role{signing.GlobalAdministrator}})
		if !slices.Contains(by.may, signing.GlobalAdministrator) {
			wantKind(t, err, signing.KindForbidden) // herself
		}
	}
}

// TestRolesAreASet: each role counts once; none is RegularUser; a list of nonsense is refused in few words.
func TestRolesAreASet(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	u, err := w.EditUser(t.Context(), w.Admin, w.Stranger.UserID, signing.UserEdit{Roles: &[]signing.Role{signing.GlobalReader, signing.GlobalReader, signing.UserAdministrator, signing.GlobalReader}})
	if err != nil || !slices.Equal(u.Roles, []signing.Role{signing.GlobalReader, signing.UserAdministrator}) {
		t.Errorf("%v, %v", u, err)
	}
	u, err = w.EditUser(t.Context(), w.Admin, w.Stranger.UserID, signing.UserEdit{Roles: &[]signing.Role{}})
	if err != nil || !slices.Equal(u.Roles, []signing.Role{signing.RegularUser}) {
		t.Errorf("%v, %v", u, err)
	}
	many := make([]signing.Role, 10_000)
	for i := range many {
		many[i] = signing.Role(signing.NewID())
	}
	_, err = w.EditUser(t.Context(), w.Admin, w.Stranger.UserID, signing.UserEdit{Roles: &many})
	wantField(t, "nonsense", err, "Roles")
	if err != nil && len(err.Error()) > 5000 {
		t.Errorf("the refusal has %d bytes", len(err.Error()))
	}
}

// TestWhoMakesApprovers: a group makes nobody an approver whom its editor could not enter in the policy, however deep the
// groups are nested. Leaving is always possible, and what the group is otherwise for.
func TestWhoMakesApprovers(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := t.Context()
	users, both := w.as(signing.UserAdministrator), w.as(signing.UserAdministrator, signing.ProjectAdministrator)
	make := func(name string, members ...signing.Subject) signing.ID {
		g, err := w.CreateGroup(ctx, users, signing.GroupEdit{Name: &name, Members: &members})
		if err != nil {
			t.Fatal(err)
		}
		return g.ID
	}
	inner := make("inner", user(w.Second.UserID))
	middle := make("middle", group(inner))
	outer := make("outer", group(middle))
	readers := make("readers")
	if _, err := w.EditPolicy(ctx, w.Admin, "app", "two-eyes", signing.PolicyEdit{Approvers: &[]signing.Subject{user(w.Approver.UserID), group(outer)}}); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		group signing.ID
		edit  signing.GroupEdit
		kind  signing.Kind // as a user administrator
	}{
		"herself":               {inner, signing.GroupEdit{Add: []signing.Subject{user(w.Stranger.UserID)}}, signing.KindForbidden},
		"a CI user":             {outer, signing.GroupEdit{Add: []signing.Subject{user(w.CI.UserID)}}, signing.KindForbidden},
		"a replacement":         {inner, signing.GroupEdit{Members: &[]signing.Subject{user(w.CI.UserID)}}, signing.KindForbidden},
		"a group":               {middle, signing.GroupEdit{Add: []signing.Subject{group(make("new", user(w.CI.UserID)))}}, signing.KindForbidden},
		"an approver":           {inner, signing.GroupEdit{Add: []signing.Subject{user(w.Approver.UserID)}}, 0},
		"an empty group":        {middle, signing.GroupEdit{Add: []signing.Subject{group(readers)}}, 0},
		"a name":                {outer, signing.GroupEdit{Name: ptr("approvers")}, 0},
		"who leaves":            {inner, signing.GroupEdit{Remove: []signing.Subject{user(w.Second.UserID)}}, 0},
		"another group":         {make("other"), signing.GroupEdit{Add: []signing.Subject{user(w.Stranger.UserID)}}, 0},
		"who is a member twice": {outer, signing.GroupEdit{Add: []signing.Subject{group(inner)}}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			before, err := w.Group(ctx, w.Admin, c.group)
			if err != nil {
				t.Fatal(err)
			}
			_, err = w.EditGroup(ctx, users, c.group, c.edit)
			wantKind(t, err, c.kind)
			if c.kind != 0 && err != nil && !strings.Contains(err.Error(), "'two-eyes'") {
				t.Errorf("%v does not name the policy", err)
			}
			if _, err := w.EditGroup(ctx, both, c.group, c.edit); err != nil {
				t.Errorf("as a project administrator, too: %v", err)
			}
			if _, err := w.EditGroup(ctx, w.Admin, c.group, signing.GroupEdit{Name: &before.Name, Members: &before.Members}); err != nil {
				t.Error(err)
			}
		})
	}
	// What became empty is no way round.
	if _, err := w.EditGroup(ctx, users, middle, signing.GroupEdit{Add: []signing.Subject{group(readers)}}); err != nil {
		t.Fatal(err)
	}
	_, err := w.EditGroup(ctx, users, readers, signing.GroupEdit{Add: []signing.Subject{user(w.Stranger.UserID)}})
	wantKind(t, err, signing.KindForbidden)
}

// TestDeactivatedUserEnds: a deactivated user's sessions and invitations do not come back with the user.
func TestDeactivatedUserEnds(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := t.Context()
	u := w.Stranger.UserID
	hash := func(b byte) [32]byte { return [32]byte{b} }
	now := w.clock.Now()
	err := w.db.Tx(ctx, func(tx signing.Tx) error {
		for i, id := range []signing.ID{u, w.Second.UserID} {
			if err := tx.InsertSession(ctx, &signing.Session{Hash: hash(byte(i)), OrganizationID: w.Admin.OrganizationID, UserID: id, CreatedAt: now, LastSeenAt: now, ExpiresAt: now.AddDate(0, 0, 1)}); err != nil {
				return err
			}
			if err := tx.InsertInvitation(ctx, &signing.Invitation{Hash: hash(byte(i)), OrganizationID: w.Admin.OrganizationID, UserID: id, ExpiresAt: now.AddDate(0, 0, 1)}); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	count := func(id signing.ID) (n int) {
		t.Helper()
		if err := w.db.View(ctx, func(tx signing.Tx) error {
			sessions, err := tx.Sessions(ctx, id)
			if err != nil {
				return err
			}
			invitations, err := tx.InvitationsOf(ctx, id)
			n = len(sessions) + len(invitations)
			return err
		}); err != nil {
			t.Fatal(err)
		}
		return n
	}
	if _, err := w.EditUser(ctx, w.Admin, u, signing.UserEdit{Description: ptr("active")}); err != nil {
		t.Fatal(err)
	}
	if n := count(u); n != 2 {
		t.Errorf("an edit ended a session: %d are left", n)
	}
	for _, active := range []bool{false, true} {
		if _, err := w.EditUser(ctx, w.Admin, u, signing.UserEdit{Active: &active}); err != nil {
			t.Fatal(err)
		}
		if n := count(u); n != 0 {
			t.Errorf("active %t: %d sessions and invitations", active, n)
		}
	}
	if n := count(w.Second.UserID); n != 2 {
		t.Errorf("another user has %d", n)
	}
}

// TestPeopleInTheAuditLog: an entry says what was, also where nothing was chosen yet and where a list was empty.
func TestPeopleInTheAuditLog(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := t.Context()
	check := func(what string, object signing.ID, wantBefore, wantAfter map[string]any) {
		t.Helper()
		before, after := w.edited(t, object)
		delete(before, "version")
		delete(after, "version")
		if d := cmp.Diff([]any{wantBefore, wantAfter}, []any{before, after}); d != "" {
			t.Errorf("%s (-want +got):\n%s", what, d)
		}
	}
	g, err := w.CreateGroup(ctx, w.Admin, signing.GroupEdit{Name: ptr("empty")})
	if err != nil {
		t.Fatal(err)
	}
	if _, after := w.edited(t, g.ID); cmp.Diff([]any{}, after["members"]) != "" {
		t.Errorf("a new group has the members %v", after["members"])
	}
	member := map[string]any{"kind": "User", "id": string(w.CI.UserID)}
	for _, c := range []struct {
		edit          signing.GroupEdit
		before, after []any
	}{
		{signing.GroupEdit{Add: []signing.Subject{user(w.CI.UserID)}}, []any{}, []any{member}},
		{signing.GroupEdit{Remove: []signing.Subject{user(w.CI.UserID)}}, []any{member}, []any{}},
	} {
		if _, err := w.EditGroup(ctx, w.Admin, g.ID, c.edit); err != nil {
			t.Fatal(err)
		}
		check("group", g.ID, map[string]any{"members": c.before}, map[string]any{"members": c.after})
	}

	// One who was stored before there were levels, too.
	u, err := w.User(ctx, w.Admin, w.Second.UserID)
	if err != nil {
		t.Fatal(err)
	}
	u.NotificationLevel = ""
	if err := w.db.Tx(ctx, func(tx signing.Tx) error { return tx.UpdateUser(ctx, u) }); err != nil {
		t.Fatal(err)
	}
	for _, a := range []signing.Actor{w.Approver, w.Second} {
		if _, err := w.SetNotificationLevel(ctx, a, signing.NotifyDefault); err != nil { // changes nothing
			t.Fatal(err)
		}
		if _, err := w.SetNotificationLevel(ctx, a, signing.NotifyAll); err != nil {
			t.Fatal(err)
		}
		check("level", a.UserID, map[string]any{"notificationLevel": "Default"}, map[string]any{"notificationLevel": "All"})
	}
}

// TestDeepGroups: a permission reaches through many groups, and a cycle that is as long is refused in few words.
func TestDeepGroups(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	const depth = 300
	var all []*signing.Group
	err := w.db.Tx(t.Context(), func(tx signing.Tx) error {
		all = nil
		members := []signing.Subject{user(w.Stranger.UserID)}
		for range depth {
			g := &signing.Group{ID: signing.NewID(), OrganizationID: w.Admin.OrganizationID, Name: string(signing.NewID()), Members: members, CreatedAt: w.clock.Now()}
			if err := tx.InsertGroup(t.Context(), g); err != nil {
				return err
			}
			all, members = append(all, g), []signing.Subject{group(g.ID)}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	var groups []signing.ID
	if err := w.db.View(t.Context(), func(tx signing.Tx) error {
		groups, err = tx.GroupsOf(t.Context(), w.Admin.OrganizationID, w.Stranger.UserID)
		return err
	}); err != nil || len(groups) != depth {
		t.Fatalf("%d groups, %v", len(groups), err)
	}
	if _, err := w.EditPolicy(context.Background(), w.Admin, "app", "two-eyes", signing.PolicyEdit{Approvers: &[]signing.Subject{group(all[depth-1].ID)}, Rules: &signing.PolicyRules{RequiredApprovals: 1}}); err != nil {
		t.Errorf("the approver at the bottom does not count: %v", err)
	}
	_, err = w.EditGroup(t.Context(), w.Admin, all[0].ID, signing.GroupEdit{Add: []signing.Subject{group(all[depth-1].ID)}})
	wantField(t, "cycle", err, "Members")
	if err != nil && (!strings.Contains(err.Error(), "(289 more)") || len(err.Error()) > 2000) {
		t.Errorf("the refusal: %v", err)
	}
}
