package signing

import (
	"context"
	"fmt"
	"net/mail"
	"slices"
	"strings"

	"github.com/countersign-dev/countersign/internal/audit"
)

// Bootstrap makes the first organization as CreateOrganization does. KindConflict when there is one already.
func (s *Service) Bootstrap(ctx context.Context, organization, adminName, adminEmail string, with ...func(Tx, *User) error) (*Organization, *User, error) {
	var (
		o *Organization
		u *User
	)
	err := s.store.Tx(ctx, func(tx Tx) error {
		if err := tx.LockOrganizations(ctx); err != nil {
			return err
		}
		existing, err := tx.Organizations(ctx)
		if err != nil {
			return err
		}
		if len(existing) > 0 {
			return Errorf(KindConflict, "There is an organization already.")
		}
		o, u, err = s.createOrganization(ctx, tx, organization, adminName, adminEmail, with)
		return err
	})
	if err != nil {
		return nil, nil, err
	}
	return o, u, nil
}

// Organizations lists all organizations, for whoever operates the installation.
func (s *Service) Organizations(ctx context.Context) (list []*Organization, err error) {
	err = s.store.View(ctx, func(tx Tx) error {
		list, err = tx.Organizations(ctx)
		return err
	})
	return list, err
}

// CreateOrganization makes a further organization with its first Global Administrator. By what with makes in the same
// transaction, such as a token and an invitation, she gets in: there is no organization without it. Only whoever operates
// the installation may call it.
func (s *Service) CreateOrganization(ctx context.Context, organization, adminName, adminEmail string, with ...func(Tx, *User) error) (o *Organization, u *User, err error) {
	err = s.store.Tx(ctx, func(tx Tx) (err error) {
		o, u, err = s.createOrganization(ctx, tx, organization, adminName, adminEmail, with)
		return err
	})
	if err != nil {
		return nil, nil, err
	}
	return o, u, nil
}

func (s *Service) createOrganization(ctx context.Context, tx Tx, name, adminName, adminEmail string, with []func(Tx, *User) error) (*Organization, *User, error) {
	var v validation
	v.name("Name", name)
	o := &Organization{ID: NewID(), Name: name, CreatedAt: s.now(), Version: 1}
	u := &User{
		ID: NewID(), OrganizationID: o.ID, Kind: Interactive, Name: adminName, Email: adminEmail,
		Roles: []Role{GlobalAdministrator}, Active: true, CreatedAt: s.now(), Version: 1,
	}
	u.complete()
	v.user(u)
	if err := v.err(); err != nil {
		return nil, nil, err
	}
	if err := tx.InsertOrganization(ctx, o); err != nil {
		return nil, nil, err
	}
	if err := tx.InsertUser(ctx, u); err != nil {
		return nil, nil, err
	}
	a := Countersign(o.ID)
	if err := s.record(ctx, tx, a, "Organization.Created", audit.Object{Type: "Organization", ID: string(o.ID), Name: o.Name}, map[string]any{"after": o}); err != nil {
		return nil, nil, err
	}
	if err := s.record(ctx, tx, a, "InteractiveUser.Created", userObject(u), map[string]any{"after": u}); err != nil {
		return nil, nil, err
	}
	return o, u, all(tx, u, with)
}

// Organization returns the actor's organization.
func (s *Service) Organization(ctx context.Context, a Actor) (o *Organization, err error) {
	if err := require(a, OpReadOrganization, scope{}); err != nil {
		return nil, err
	}
	err = s.store.View(ctx, func(tx Tx) error {
		o, err = tx.Organization(ctx, a.OrganizationID)
		return err
	})
	return o, err
}

// OrganizationEdit changes what is not nil.
type OrganizationEdit struct {
	Name     *string
	Settings *OrganizationSettings
	Version  int
}

// EditOrganization changes the organization's name or settings.
func (s *Service) EditOrganization(ctx context.Context, a Actor, e OrganizationEdit) (*Organization, error) {
	return edit[Organization]{
		event:  "Organization.Edited",
		load:   func(tx Tx) (*Organization, error) { return tx.Organization(ctx, a.OrganizationID) },
		permit: func(Tx, *Organization) error { return require(a, OpEditOrganization, scope{}) },
		apply: func(_ Tx, o *Organization) error {
			set(&o.Name, e.Name)
			set(&o.Settings, e.Settings)
			var v validation
			v.name("Name", o.Name)
			if o.Settings.RetentionDays < 0 || o.Settings.RetentionDays > 36500 {
				v.add("RetentionDays", "The retention must be between 0 (for ever) and 36500 days.")
			}
			if pem := o.Settings.AuthenticodeRootsPEM; pem != "" && !holdsCertificate(pem) {
				v.add("AuthenticodeRootsPem", "The text holds no PEM certificate.")
			}
			return v.err()
		},
		update:  func(tx Tx, o *Organization) error { return tx.UpdateOrganization(ctx, o) },
		version: e.Version, current: func(o *Organization) int { return o.Version },
		object: func(o *Organization) audit.Object {
			return audit.Object{Type: "Organization", ID: string(o.ID), Name: o.Name}
		},
	}.run(ctx, s, a)
}

// NewUser describes a user to create.
type NewUser struct {
	Kind        UserKind
	Name        string
	Email       string // interactive users
	Roles       []Role // RegularUser when empty
	Description string
}

// CreateUser makes an interactive or CI user. What belongs to the user, such as a token or an invitation, is made by with in the
// same transaction: there is no user without it.
func (s *Service) CreateUser(ctx context.Context, a Actor, n NewUser, with ...func(Tx, *User) error) (*User, error) {
	if err := require(a, OpManageUsers, scope{}); err != nil {
		return nil, err
	}
	u := &User{
		ID: NewID(), OrganizationID: a.OrganizationID, Kind: n.Kind, Name: n.Name, Email: n.Email, Roles: n.Roles,
		Description: n.Description, Active: true, CreatedAt: s.now(), Version: 1,
	}
	u.complete()
	var v validation
	v.user(u)
	if err := v.err(); err != nil {
		return nil, err
	}
	if err := mayGive(a, nil, u.Roles); err != nil {
		return nil, err
	}
	err := s.store.Tx(ctx, func(tx Tx) error {
		if err := tx.InsertUser(ctx, u); err != nil {
			return taken(err, emailOrName(u), "Another user has this %s already.", strings.ToLower(emailOrName(u)))
		}
		if err := s.record(ctx, tx, a, string(u.Kind)+"User.Created", userObject(u), map[string]any{"after": u}); err != nil {
			return err
		}
		return all(tx, u, with)
	})
	if err != nil {
		return nil, err
	}
	return u, nil
}

func emailOrName(u *User) string {
	if u.Kind == Interactive {
		return "Email"
	}
	return "Name"
}

// complete fills in what a user has when nothing was chosen, and names each role once.
func (u *User) complete() {
	var roles []Role
	for _, r := range u.Roles {
		if !slices.Contains(roles, r) && len(roles) <= len(Roles) { // one too many is an unknown one
			roles = append(roles, r)
		}
	}
	if len(roles) == 0 {
		roles = []Role{RegularUser}
	}
	u.Roles = roles
	if u.Kind == Interactive && u.NotificationLevel == "" {
		u.NotificationLevel = NotifyDefault
	}
}

// taken turns a KindConflict error of an insertion into a validation error of the field.
func taken(err error, field, format string, args ...any) error {
	if KindOf(err) == KindConflict {
		return Invalid(field, format, args...)
	}
	return err
}

func (v *validation) user(u *User) {
	v.name("Name", u.Name)
	v.text("Description", u.Description)
	v.notificationLevel("NotificationLevel", u.NotificationLevel)
	switch u.Kind {
	case Interactive:
		address, err := mail.ParseAddress(u.Email)
		if err != nil || address.Address != u.Email || len(u.Email) > 254 {
			v.add("Email", "'%s' is not an e-mail address.", truncate(u.Email, 260))
		}
	case CI:
		if u.Email != "" {
			v.add("Email", "CI users have no e-mail address.")
		}
	default:
		v.add("Kind", "A user is Interactive or CI.")
	}
	for _, r := range u.Roles {
		if !slices.Contains(Roles, r) {
			v.add("Roles", "'%s' is not a role; the roles are %s.", truncate(string(r), 60), joinRoles(Roles))
		}
	}
}

func joinRoles(roles []Role) string {
	var names []string
	for _, r := range roles {
		names = append(names, string(r))
	}
	return strings.Join(names, ", ")
}

// UserEdit changes what is not nil.
type UserEdit struct {
	Name        *string
	Email       *string
	Roles       *[]Role
	Description *string
	Active      *bool
	// NotificationLevel says which mails the user gets; users change their own with SetNotificationLevel.
	NotificationLevel *NotificationLevel
	Version           int
	// EvenIfInUse deactivates a user without whom active policies have too few approvers, or no submitter.
	EvenIfInUse bool
}

// EditUser changes a user. The last active Global Administrator keeps role and activity, and a user whom active policies need
// is deactivated only with EvenIfInUse: KindConflict names the policies. Who is deactivated loses sessions and invitation for
// good; API tokens rest until the user is activated again.
func (s *Service) EditUser(ctx context.Context, a Actor, id ID, e UserEdit) (*User, error) {
	var wasActive bool
	return edit[User]{
		event:  "User.Edited",
		load:   func(tx Tx) (*User, error) { return completeUser(tx.User(ctx, a.OrganizationID, id)) },
		permit: func(Tx, *User) error { return require(a, OpManageUsers, scope{}) },
		apply: func(tx Tx, u *User) error {
			before := u.Roles
			wasActive = u.Active
			set(&u.Name, e.Name)
			set(&u.Email, e.Email)
			set(&u.Roles, e.Roles)
			set(&u.Description, e.Description)
			set(&u.Active, e.Active)
			set(&u.NotificationLevel, e.NotificationLevel)
			u.complete()
			var v validation
			v.user(u)
			if err := v.err(); err != nil {
				return err
			}
			if slices.Contains(before, GlobalAdministrator) && !a.HasRole(GlobalAdministrator) {
				return Errorf(KindForbidden, "Only a Global Administrator may change a Global Administrator.")
			}
			if err := mayGive(a, before, u.Roles); err != nil {
				return err
			}
			if wasActive && slices.Contains(before, GlobalAdministrator) && (!u.Active || !slices.Contains(u.Roles, GlobalAdministrator)) {
				if err := s.anotherAdministrator(ctx, tx, a.OrganizationID, u.ID); err != nil {
					return err
				}
			}
			if !wasActive || u.Active || e.EvenIfInUse {
				return nil
			}
			uses, err := usesOfUser(ctx, tx, u)
			if err != nil {
				return err
			}
			return inUse(fmt.Sprintf("User '%s'", u.Name), uses, "Give these policies other users first."+evenSo)
		},
		update: func(tx Tx, u *User) error {
			err := s.recounting(ctx, tx, a, func() error { // who is deactivated approves no more
				return taken(tx.UpdateUser(ctx, u), emailOrName(u), "Another user has this %s already, or somebody changed the user meanwhile.", strings.ToLower(emailOrName(u)))
			})
			if err != nil {
				return err
			}
			if !wasActive || u.Active {
				return nil
			}
			if err := tx.DeleteSessionsOf(ctx, u.ID); err != nil { // after the update, which waits for who is signing in
				return err
			}
			return tx.DeleteInvitationsOf(ctx, u.ID)
		},
		version: e.Version, current: func(u *User) int { return u.Version },
		object: userObject,
	}.run(ctx, s, a)
}

// completeUser completes a user that was stored before there were notification levels, so that an edit compares like with like.
func completeUser(u *User, err error) (*User, error) {
	if err == nil {
		u.complete()
	}
	return u, err
}

func (s *Service) anotherAdministrator(ctx context.Context, tx Tx, org, except ID) error {
	users, err := tx.Users(ctx, org, "")
	if err != nil {
		return err
	}
	for _, u := range users {
		if u.ID != except && u.Active && slices.Contains(u.Roles, GlobalAdministrator) {
			return nil
		}
	}
	return Errorf(KindConflict, "This is the organization's last active Global Administrator; make another one first.")
}

// Users lists users by name; all kinds when kind is empty.
func (s *Service) Users(ctx context.Context, a Actor, kind UserKind) (list []*User, err error) {
	if err := require(a, OpReadUsers, scope{}); err != nil {
		return nil, err
	}
	err = s.store.View(ctx, func(tx Tx) error {
		list, err = tx.Users(ctx, a.OrganizationID, kind)
		return err
	})
	return list, err
}

// User returns a user; everybody may read her own.
func (s *Service) User(ctx context.Context, a Actor, id ID) (u *User, err error) {
	if id != a.UserID || a.UserID == "" {
		if err := require(a, OpReadUsers, scope{}); err != nil {
			return nil, err
		}
	}
	err = s.store.View(ctx, func(tx Tx) error {
		u, err = tx.User(ctx, a.OrganizationID, id)
		return err
	})
	return u, err
}

func userObject(u *User) audit.Object {
	return audit.Object{Type: string(u.Kind) + "User", ID: string(u.ID), Name: u.Name}
}

// GroupEdit describes a new group, or changes what is not nil of an existing one.
type GroupEdit struct {
	Name        *string
	Description *string
	Members     *[]Subject
	Remove, Add []Subject // of an existing group, or of Members
	Version     int
}

// CreateGroup makes a group.
func (s *Service) CreateGroup(ctx context.Context, a Actor, e GroupEdit) (*Group, error) {
	if err := require(a, OpManageUsers, scope{}); err != nil {
		return nil, err
	}
	g := &Group{ID: NewID(), OrganizationID: a.OrganizationID, Members: []Subject{}, CreatedAt: s.now(), Version: 1}
	err := s.store.Tx(ctx, func(tx Tx) error {
		if err := tx.LockOrganization(ctx, a.OrganizationID); err != nil { // or a group could be deleted meanwhile
			return err
		}
		if err := applyGroup(ctx, tx, a, g, e); err != nil {
			return err
		}
		if err := tx.InsertGroup(ctx, g); err != nil {
			return taken(err, "Name", "Another group has this name already.")
		}
		return s.record(ctx, tx, a, "UserGroup.Created", groupObject(g), map[string]any{"after": g})
	})
	if err != nil {
		return nil, err
	}
	return g, nil
}

// EditGroup changes a group. Who becomes an approver by it is made one: that takes managing signing policies, too.
func (s *Service) EditGroup(ctx context.Context, a Actor, id ID, e GroupEdit) (*Group, error) {
	return edit[Group]{
		event:  "UserGroup.Edited",
		load:   func(tx Tx) (*Group, error) { return tx.Group(ctx, a.OrganizationID, id) },
		permit: func(Tx, *Group) error { return require(a, OpManageUsers, scope{}) },
		apply:  func(tx Tx, g *Group) error { return applyGroup(ctx, tx, a, g, e) },
		update: func(tx Tx, g *Group) error {
			return s.recounting(ctx, tx, a, func() error { // who left approves no more
				return taken(tx.UpdateGroup(ctx, g), "Name", "Another group has this name already, or somebody changed the group meanwhile.")
			})
		},
		version: e.Version, current: func(g *Group) int { return g.Version },
		object: groupObject,
	}.run(ctx, s, a)
}

func applyGroup(ctx context.Context, tx Tx, a Actor, g *Group, e GroupEdit) error {
	set(&g.Name, e.Name)
	set(&g.Description, e.Description)
	set(&g.Members, e.Members)
	members := slices.DeleteFunc(slices.Clone(g.Members), func(m Subject) bool { return slices.Contains(e.Remove, m) })
	var v validation
	v.name("Name", g.Name)
	v.text("Description", g.Description)
	members, err := v.subjects(ctx, tx, a.OrganizationID, "Members", append(members, e.Add...))
	if err != nil {
		return err
	}
	g.Members = members
	groups, err := groupsByID(ctx, tx, a.OrganizationID)
	if err != nil {
		return err
	}
	if path := cycle(g, members, groups); path != nil {
		v.add("Members", "The group would contain itself: %s.", strings.Join(path, " > "))
	}
	if err := v.err(); err != nil {
		return err
	}
	return mayAdmit(ctx, tx, a, g, groups)
}

// DeleteGroup deletes a group that stands nowhere: KindConflict says where it does.
func (s *Service) DeleteGroup(ctx context.Context, a Actor, id ID) error {
	if err := require(a, OpManageUsers, scope{}); err != nil {
		return err
	}
	return s.store.Tx(ctx, func(tx Tx) error {
		if err := tx.LockOrganization(ctx, a.OrganizationID); err != nil {
			return err
		}
		g, err := tx.Group(ctx, a.OrganizationID, id)
		if err != nil {
			return err
		}
		uses, err := usesOfGroup(ctx, tx, g)
		if err != nil {
			return err
		}
		if err := inUse(fmt.Sprintf("Group '%s'", g.Name), uses, "Remove the group there first."); err != nil {
			return err
		}
		if err := tx.DeleteGroup(ctx, a.OrganizationID, id); err != nil {
			return err
		}
		return s.record(ctx, tx, a, "UserGroup.Deleted", groupObject(g), map[string]any{"before": g})
	})
}

// Group returns a group.
func (s *Service) Group(ctx context.Context, a Actor, id ID) (g *Group, err error) {
	if err := require(a, OpReadUsers, scope{}); err != nil {
		return nil, err
	}
	err = s.store.View(ctx, func(tx Tx) error {
		g, err = tx.Group(ctx, a.OrganizationID, id)
		return err
	})
	return g, err
}

// Groups lists the organization's groups by name.
func (s *Service) Groups(ctx context.Context, a Actor) (list []*Group, err error) {
	if err := require(a, OpReadUsers, scope{}); err != nil {
		return nil, err
	}
	err = s.store.View(ctx, func(tx Tx) error {
		list, err = tx.Groups(ctx, a.OrganizationID)
		return err
	})
	return list, err
}

func groupObject(g *Group) audit.Object {
	return audit.Object{Type: "UserGroup", ID: string(g.ID), Name: g.Name}
}
