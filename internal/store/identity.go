package store

import (
	"cmp"
	"context"
	"slices"

	"github.com/countersign-dev/countersign/internal/audit"
	"github.com/countersign-dev/countersign/internal/signing"
)

// byName sorts a list as people read it, alike on both databases, whose collations differ.
func byName[T any](all []*T, key func(*T) (name string, id signing.ID)) []*T {
	slices.SortFunc(all, func(a, b *T) int {
		nameA, idA := key(a)
		nameB, idB := key(b)
		return cmp.Or(cmp.Compare(fold(nameA), fold(nameB)), cmp.Compare(idA, idB))
	})
	return all
}

const organizationColumns = "id, name, settings, created_at, version"

func scanOrganization(s scanner) (*signing.Organization, error) {
	o := &signing.Organization{}
	return o, s.Scan(&o.ID, &o.Name, jsonColumn{&o.Settings}, timeColumn{&o.CreatedAt}, &o.Version)
}

func (x *tx) Organization(ctx context.Context, id signing.ID) (*signing.Organization, error) {
	return one(ctx, x.q, "organization", scanOrganization,
		"SELECT "+organizationColumns+" FROM organizations WHERE id = $1", text(id))
}

func (x *tx) Organizations(ctx context.Context) ([]*signing.Organization, error) {
	return list(ctx, x.q, scanOrganization, "SELECT "+organizationColumns+" FROM organizations ORDER BY created_at, id")
}

// LockOrganization implements signing.OrganizationTx. It leaves the audit log to others, which has a row of its own.
func (x *tx) LockOrganization(ctx context.Context, id signing.ID) error {
	return x.hold(ctx, "organization", "SELECT id FROM organizations WHERE id = $1", id)
}

// LockOrganizations implements signing.OrganizationTx.
func (x *tx) LockOrganizations(ctx context.Context) error {
	if statement := x.db.backend.lockTable("organizations"); statement != "" {
		_, err := x.q.exec(ctx, statement)
		return err
	}
	return nil
}

// hold locks the row that a query finds by its id.
func (x *tx) hold(ctx context.Context, what, query string, id signing.ID) error {
	_, err := one(ctx, x.q, what, func(s scanner) (*signing.ID, error) {
		found := new(signing.ID)
		return found, s.Scan(found)
	}, query+x.db.backend.lockRow(), text(id))
	return err
}

func (x *tx) InsertOrganization(ctx context.Context, o *signing.Organization) error {
	o.Version = 1
	err := x.q.insert(ctx, "This organization exists.",
		"INSERT INTO organizations ("+organizationColumns+") VALUES ($1, $2, $3, $4, $5)",
		text(o.ID), o.Name, encode(o.Settings), micros(o.CreatedAt), o.Version)
	if err != nil {
		return err
	}
	start := audit.Start(text(o.ID))
	_, err = x.q.exec(ctx, "INSERT INTO audit_heads (organization_id, sequence, chain) VALUES ($1, $2, $3)",
		text(o.ID), start.Sequence, start.Chain[:])
	return err
}

func (x *tx) UpdateOrganization(ctx context.Context, o *signing.Organization) error {
	return x.q.update(ctx, "organization", &o.Version,
		"UPDATE organizations SET name = $1, settings = $2, version = version + 1 WHERE id = $3 AND version = $4",
		o.Name, encode(o.Settings), text(o.ID), o.Version)
}

const userColumns = "id, organization_id, kind, name, email, roles, active, description, notification_level, created_at, version"

func scanUser(s scanner) (*signing.User, error) {
	u := &signing.User{}
	return u, s.Scan(&u.ID, &u.OrganizationID, &u.Kind, &u.Name, &u.Email, jsonColumn{&u.Roles}, &u.Active,
		&u.Description, &u.NotificationLevel, timeColumn{&u.CreatedAt}, &u.Version)
}

func (x *tx) User(ctx context.Context, org, id signing.ID) (*signing.User, error) {
	return one(ctx, x.q, "user", scanUser,
		"SELECT "+userColumns+" FROM users WHERE id = $1 AND organization_id = $2", text(id), text(org))
}

func (x *tx) UserByEmail(ctx context.Context, email string) ([]*signing.User, error) {
	return list(ctx, x.q, scanUser,
		"SELECT "+userColumns+" FROM users WHERE email_key = $1 AND email_key <> '' ORDER BY created_at, id", fold(email))
}

func (x *tx) Users(ctx context.Context, org signing.ID, kind signing.UserKind) ([]*signing.User, error) {
	query, args := "SELECT "+userColumns+" FROM users WHERE organization_id = $1", []any{text(org)}
	if kind != "" {
		query, args = query+" AND kind = $2", append(args, text(kind))
	}
	all, err := list(ctx, x.q, scanUser, query, args...)
	return byName(all, func(u *signing.User) (string, signing.ID) { return u.Name, u.ID }), err
}

func (x *tx) ActiveUsers(ctx context.Context, org signing.ID) ([]signing.ID, error) {
	return list(ctx, x.q, func(s scanner) (signing.ID, error) {
		var id signing.ID
		return id, s.Scan(&id)
	}, "SELECT id FROM users WHERE organization_id = $1 AND active", text(org))
}

const userTaken = "A user with this name or e-mail address exists."

func (x *tx) InsertUser(ctx context.Context, u *signing.User) error {
	u.Version = 1
	return x.q.insert(ctx, userTaken, "INSERT INTO users ("+userColumns+", name_key, email_key) "+
		"VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)",
		text(u.ID), text(u.OrganizationID), text(u.Kind), u.Name, u.Email, encode(u.Roles), u.Active,
		u.Description, text(u.NotificationLevel), micros(u.CreatedAt), u.Version, fold(u.Name), fold(u.Email))
}

func (x *tx) UpdateUser(ctx context.Context, u *signing.User) error {
	return x.q.update(ctx, "user", &u.Version, "UPDATE users SET name = $1, name_key = $2, email = $3, email_key = $4, "+
		"roles = $5, active = $6, description = $7, notification_level = $8, version = version + 1 "+
		"WHERE id = $9 AND organization_id = $10 AND version = $11",
		u.Name, fold(u.Name), u.Email, fold(u.Email), encode(u.Roles), u.Active, u.Description, text(u.NotificationLevel),
		text(u.ID), text(u.OrganizationID), u.Version)
}

const groupColumns = "id, organization_id, name, description, created_at, version"

func scanGroup(s scanner) (*signing.Group, error) {
	g := &signing.Group{Members: []signing.Subject{}}
	return g, s.Scan(&g.ID, &g.OrganizationID, &g.Name, &g.Description, timeColumn{&g.CreatedAt}, &g.Version)
}

func (x *tx) Group(ctx context.Context, org, id signing.ID) (*signing.Group, error) {
	g, err := one(ctx, x.q, "group", scanGroup,
		"SELECT "+groupColumns+" FROM groups WHERE id = $1 AND organization_id = $2", text(id), text(org))
	if err != nil {
		return nil, err
	}
	return g, x.members(ctx, []*signing.Group{g}, "m.group_id = $1", text(id))
}

func (x *tx) Groups(ctx context.Context, org signing.ID) ([]*signing.Group, error) {
	all, err := list(ctx, x.q, scanGroup, "SELECT "+groupColumns+" FROM groups WHERE organization_id = $1", text(org))
	if err != nil || len(all) == 0 {
		return nil, err
	}
	if err := x.members(ctx, all, "g.organization_id = $1", text(org)); err != nil {
		return nil, err
	}
	return byName(all, func(g *signing.Group) (string, signing.ID) { return g.Name, g.ID }), nil
}

// members fills in the members of groups that a condition selects.
func (x *tx) members(ctx context.Context, groups []*signing.Group, condition string, args ...any) error {
	byID := make(map[signing.ID]*signing.Group, len(groups))
	for _, g := range groups {
		byID[g.ID] = g
	}
	return x.q.each(ctx, func(s scanner) error {
		var id signing.ID
		var m signing.Subject
		if err := s.Scan(&id, &m.Kind, &m.ID); err != nil {
			return err
		}
		if g := byID[id]; g != nil {
			g.Members = append(g.Members, m)
		}
		return nil
	}, "SELECT m.group_id, m.member_kind, m.member_id FROM group_members m JOIN groups g ON g.id = m.group_id WHERE "+
		condition+" ORDER BY m.group_id, m.position", args...)
}

func (x *tx) GroupsOf(ctx context.Context, org, user signing.ID) ([]signing.ID, error) {
	// UNION, not UNION ALL: a group that was reached before is not followed again, so cycles end.
	return list(ctx, x.q, func(s scanner) (signing.ID, error) {
		var id signing.ID
		return id, s.Scan(&id)
	}, "WITH RECURSIVE reached (id) AS ("+
		"SELECT m.group_id FROM group_members m WHERE m.member_kind = 'User' AND m.member_id = $1 "+
		"UNION SELECT m.group_id FROM reached r JOIN group_members m ON m.member_kind = 'Group' AND m.member_id = r.id"+
		") SELECT g.id FROM reached r JOIN groups g ON g.id = r.id WHERE g.organization_id = $2 ORDER BY g.id",
		text(user), text(org))
}

const groupTaken = "A group with this name exists."

func (x *tx) InsertGroup(ctx context.Context, g *signing.Group) error {
	g.Version = 1
	err := x.q.insert(ctx, groupTaken, "INSERT INTO groups ("+groupColumns+", name_key) VALUES ($1, $2, $3, $4, $5, $6, $7)",
		text(g.ID), text(g.OrganizationID), g.Name, g.Description, micros(g.CreatedAt), g.Version, fold(g.Name))
	if err != nil {
		return err
	}
	return x.insertMembers(ctx, g)
}

func (x *tx) insertMembers(ctx context.Context, g *signing.Group) error {
	for i, m := range g.Members {
		_, err := x.q.exec(ctx, "INSERT INTO group_members (group_id, position, member_kind, member_id) VALUES ($1, $2, $3, $4)",
			text(g.ID), i, text(m.Kind), text(m.ID))
		if err != nil {
			return err
		}
	}
	return nil
}

func (x *tx) UpdateGroup(ctx context.Context, g *signing.Group) error {
	err := x.q.update(ctx, "group", &g.Version, "UPDATE groups SET name = $1, name_key = $2, description = $3, "+
		"version = version + 1 WHERE id = $4 AND organization_id = $5 AND version = $6",
		g.Name, fold(g.Name), g.Description, text(g.ID), text(g.OrganizationID), g.Version)
	if err != nil {
		return err
	}
	if _, err := x.q.exec(ctx, "DELETE FROM group_members WHERE group_id = $1", text(g.ID)); err != nil {
		return err
	}
	return x.insertMembers(ctx, g)
}

// DeleteGroup implements signing.IdentityTx. The group also leaves the groups that it is a member of.
func (x *tx) DeleteGroup(ctx context.Context, org, id signing.ID) error {
	n, err := x.q.exec(ctx, "DELETE FROM groups WHERE id = $1 AND organization_id = $2", text(id), text(org))
	if err == nil && n == 0 {
		err = signing.Errorf(signing.KindNotFound, "No such group.")
	}
	if err != nil {
		return err
	}
	_, err = x.q.exec(ctx, "DELETE FROM group_members WHERE member_id = $1 AND member_kind = 'Group'", text(id))
	return err
}

const buildSystemColumns = "id, organization_id, slug, name, description, type, build_host, created_at, version"

func scanBuildSystem(s scanner) (*signing.TrustedBuildSystem, error) {
	t := &signing.TrustedBuildSystem{}
	return t, s.Scan(&t.ID, &t.OrganizationID, &t.Slug, &t.Name, &t.Description, &t.Type, &t.BuildHost, timeColumn{&t.CreatedAt}, &t.Version)
}

func (x *tx) TrustedBuildSystem(ctx context.Context, org, id signing.ID) (*signing.TrustedBuildSystem, error) {
	return one(ctx, x.q, "trusted build system", scanBuildSystem,
		"SELECT "+buildSystemColumns+" FROM trusted_build_systems WHERE id = $1 AND organization_id = $2", text(id), text(org))
}

func (x *tx) TrustedBuildSystemBySlug(ctx context.Context, org signing.ID, slug string) (*signing.TrustedBuildSystem, error) {
	return one(ctx, x.q, "trusted build system", scanBuildSystem,
		"SELECT "+buildSystemColumns+" FROM trusted_build_systems WHERE organization_id = $1 AND slug_key = $2",
		text(org), fold(slug))
}

func (x *tx) TrustedBuildSystems(ctx context.Context, org signing.ID) ([]*signing.TrustedBuildSystem, error) {
	all, err := list(ctx, x.q, scanBuildSystem,
		"SELECT "+buildSystemColumns+" FROM trusted_build_systems WHERE organization_id = $1", text(org))
	return byName(all, func(t *signing.TrustedBuildSystem) (string, signing.ID) { return t.Name, t.ID }), err
}

func (x *tx) InsertTrustedBuildSystem(ctx context.Context, t *signing.TrustedBuildSystem) error {
	t.Version = 1
	return x.q.insert(ctx, "A trusted build system with this slug exists.",
		"INSERT INTO trusted_build_systems ("+buildSystemColumns+", slug_key) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
		text(t.ID), text(t.OrganizationID), t.Slug, t.Name, t.Description, t.Type, t.BuildHost, micros(t.CreatedAt), t.Version, fold(t.Slug))
}

func (x *tx) UpdateTrustedBuildSystem(ctx context.Context, t *signing.TrustedBuildSystem) error {
	return x.q.update(ctx, "trusted build system", &t.Version,
		"UPDATE trusted_build_systems SET slug = $1, slug_key = $2, name = $3, description = $4, type = $5, "+
			"build_host = $6, version = version + 1 WHERE id = $7 AND organization_id = $8 AND version = $9",
		t.Slug, fold(t.Slug), t.Name, t.Description, t.Type, t.BuildHost, text(t.ID), text(t.OrganizationID), t.Version)
}

// DeleteTrustedBuildSystem implements signing.IdentityTx.
func (x *tx) DeleteTrustedBuildSystem(ctx context.Context, org, id signing.ID) error {
	n, err := x.q.exec(ctx, "DELETE FROM trusted_build_systems WHERE id = $1 AND organization_id = $2", text(id), text(org))
	if err == nil && n == 0 {
		err = signing.Errorf(signing.KindNotFound, "No such trusted build system.")
	}
	if err != nil {
		return err
	}
	_, err = x.q.exec(ctx, "DELETE FROM api_tokens WHERE owner_id = $1 AND organization_id = $2 AND kind = $3",
		text(id), text(org), text(signing.BuildSystemToken))
	return err
}
