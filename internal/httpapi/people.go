package httpapi

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"time"

	"github.com/countersign-dev/countersign/api"
	"github.com/countersign-dev/countersign/internal/auth"
	"github.com/countersign-dev/countersign/internal/signing"
)

func organizationOf(o *signing.Organization) api.Organization {
	return api.Organization{OrganizationID: string(o.ID), Name: o.Name, RetentionDays: o.Settings.RetentionDays,
		AuthenticodeRootsPem: o.Settings.AuthenticodeRootsPEM, CreatedAt: o.CreatedAt, Version: o.Version}
}

// GetOrganization returns the organization.
func (s *service) GetOrganization(ctx context.Context, _ api.GetOrganizationRequestObject) (api.GetOrganizationResponseObject, error) {
	o, err := s.signing.Organization(ctx, actorOf(ctx))
	if err != nil {
		return nil, err
	}
	return api.GetOrganization200JSONResponse(organizationOf(o)), nil
}

// EditOrganization changes the organization. What is not given stays; of two changes at the same time one is refused.
func (s *service) EditOrganization(ctx context.Context, r api.EditOrganizationRequestObject) (api.EditOrganizationResponseObject, error) {
	a, b := actorOf(ctx), r.Body
	o, err := s.signing.Organization(ctx, a)
	if err != nil {
		return nil, err
	}
	settings := o.Settings
	settings.RetentionDays = overlay(b.RetentionDays, settings.RetentionDays)
	settings.AuthenticodeRootsPEM = overlay(b.AuthenticodeRootsPem, settings.AuthenticodeRootsPEM)
	version := b.Version
	if version == 0 {
		version = o.Version
	}
	if o, err = s.signing.EditOrganization(ctx, a, signing.OrganizationEdit{Name: b.Name, Settings: &settings, Version: version}); err != nil {
		return nil, err
	}
	return api.EditOrganization200JSONResponse(organizationOf(o)), nil
}

func rolesOf(roles []signing.Role) []api.Role {
	out := make([]api.Role, 0, len(roles))
	for _, r := range roles {
		out = append(out, api.Role(r))
	}
	return out
}

// rolesGiven reads roles in any case.
func rolesGiven(roles *[]api.Role) *[]signing.Role {
	if roles == nil {
		return nil
	}
	out := make([]signing.Role, 0, len(*roles))
	for _, r := range *roles {
		role := signing.Role(r)
		if i := slices.IndexFunc(signing.Roles, func(known signing.Role) bool { return strings.EqualFold(string(known), string(r)) }); i >= 0 {
			role = signing.Roles[i]
		}
		out = append(out, role)
	}
	return &out
}

// levelOf returns a notification level; none is the default one.
func levelOf(l signing.NotificationLevel) api.NotificationLevel {
	return api.NotificationLevel(cmp.Or(l, signing.NotifyDefault))
}

// levelGiven reads a notification level in any case. What is none is left to the domain to refuse.
func levelGiven(given *api.NotificationLevel) *signing.NotificationLevel {
	if given == nil {
		return nil
	}
	for _, l := range []signing.NotificationLevel{signing.NotifyDefault, signing.NotifyAll, signing.NotifyNone} {
		if strings.EqualFold(string(l), string(*given)) {
			return &l
		}
	}
	return pointer(signing.NotificationLevel(*given))
}

func (l links) user(u *signing.User) string {
	kind := "InteractiveUsers"
	if u.Kind == signing.CI {
		kind = "CIUsers"
	}
	return l.resource(string(u.OrganizationID), kind, string(u.ID))
}

func interactiveUserOf(l links, u *signing.User) api.InteractiveUser {
	return api.InteractiveUser{UserID: string(u.ID), Name: u.Name, Email: u.Email, Roles: rolesOf(u.Roles), Description: u.Description,
		NotificationLevel: levelOf(u.NotificationLevel), IsActive: u.Active, CreatedAt: u.CreatedAt, Link: l.user(u), Version: u.Version}
}

func ciUserOf(l links, u *signing.User) api.CIUser {
	return api.CIUser{UserID: string(u.ID), Name: u.Name, Roles: rolesOf(u.Roles), Description: u.Description,
		IsActive: u.Active, CreatedAt: u.CreatedAt, Link: l.user(u), Version: u.Version}
}

// user finds a user of a kind. "Me" is the one who asks.
func (s *service) user(ctx context.Context, kind signing.UserKind, id string) (*signing.User, error) {
	unknown := signing.Errorf(signing.KindNotFound, "There is no such user.")
	known, ok := signing.ParseID(id)
	if strings.EqualFold(id, "Me") {
		known, ok = actorOf(ctx).UserID, true
	}
	if !ok {
		return nil, unknown
	}
	u, err := s.signing.User(ctx, actorOf(ctx), known)
	switch {
	case signing.KindOf(err) == signing.KindNotFound:
		return nil, unknown
	case err != nil:
		return nil, err
	case u.Kind != kind:
		return nil, unknown
	}
	return u, nil
}

// editUser changes a user of a kind. What the user may from now on holds at once.
func (s *service) editUser(ctx context.Context, kind signing.UserKind, id string, e signing.UserEdit) (*signing.User, error) {
	a := actorOf(ctx)
	u, err := s.user(ctx, kind, id)
	if err != nil {
		return nil, err
	}
	if u, err = s.signing.EditUser(ctx, a, u.ID, e); err != nil {
		return nil, err
	}
	s.auth.Forget(a.OrganizationID)
	return u, nil
}

// ListInteractiveUsers lists people.
func (s *service) ListInteractiveUsers(ctx context.Context, _ api.ListInteractiveUsersRequestObject) (api.ListInteractiveUsersResponseObject, error) {
	list, err := s.signing.Users(ctx, actorOf(ctx), signing.Interactive)
	if err != nil {
		return nil, err
	}
	answer := api.ListInteractiveUsers200JSONResponse{}
	for _, u := range list {
		answer = append(answer, interactiveUserOf(exchangeOf(ctx).links, u))
	}
	return answer, nil
}

// CreateInteractiveUser makes a person and an invitation.
func (s *service) CreateInteractiveUser(ctx context.Context, r api.CreateInteractiveUserRequestObject) (api.CreateInteractiveUserResponseObject, error) {
	a, b := actorOf(ctx), r.Body
	var body api.InvitedUser
	_, err := s.signing.CreateUser(ctx, a, signing.NewUser{
		Kind: signing.Interactive, Name: b.Name, Email: b.Email, Roles: overlay(rolesGiven(b.Roles), nil), Description: overlay(b.Description, ""),
	}, func(tx signing.Tx, u *signing.User) error {
		code, expires, err := s.auth.InviteTx(ctx, tx, a, u.ID)
		body = invitedUser(exchangeOf(ctx).links, u, code, expires)
		return err
	})
	return reply[api.CreateInteractiveUserResponseObject](api.CreateInteractiveUser201JSONResponse{Body: body, Headers: api.CreateInteractiveUser201ResponseHeaders{Location: body.Link}}, err)
}

func invitedUser(l links, u *signing.User, code string, expires time.Time) api.InvitedUser {
	return api.InvitedUser{UserID: string(u.ID), Link: l.user(u), InvitationLink: l.origin + "/Web/Invitation/" + code, InvitationExpiresAt: expires}
}

// GetMyInteractiveUser returns the person who asks.
func (s *service) GetMyInteractiveUser(ctx context.Context, _ api.GetMyInteractiveUserRequestObject) (api.GetMyInteractiveUserResponseObject, error) {
	u, err := s.user(ctx, signing.Interactive, string(actorOf(ctx).UserID))
	if err != nil {
		return nil, err
	}
	return api.GetMyInteractiveUser200JSONResponse(interactiveUserOf(exchangeOf(ctx).links, u)), nil
}

// EditMyInteractiveUser chooses which mails the person who asks gets.
func (s *service) EditMyInteractiveUser(ctx context.Context, r api.EditMyInteractiveUserRequestObject) (api.EditMyInteractiveUserResponseObject, error) {
	a := actorOf(ctx)
	u, err := s.user(ctx, signing.Interactive, string(a.UserID))
	if err != nil {
		return nil, err
	}
	if level := levelGiven(r.Body.NotificationLevel); level != nil {
		if u, err = s.signing.SetNotificationLevel(ctx, a, *level); err != nil {
			return nil, err
		}
	}
	return api.EditMyInteractiveUser200JSONResponse(interactiveUserOf(exchangeOf(ctx).links, u)), nil
}

// GetInteractiveUser returns a person.
func (s *service) GetInteractiveUser(ctx context.Context, r api.GetInteractiveUserRequestObject) (api.GetInteractiveUserResponseObject, error) {
	u, err := s.user(ctx, signing.Interactive, r.UserID)
	if err != nil {
		return nil, err
	}
	return api.GetInteractiveUser200JSONResponse(interactiveUserOf(exchangeOf(ctx).links, u)), nil
}

func (s *service) editInteractiveUser(ctx context.Context, id string, e signing.UserEdit) (api.InteractiveUser, error) {
	u, err := s.editUser(ctx, signing.Interactive, id, e)
	if err != nil {
		return api.InteractiveUser{}, err
	}
	return interactiveUserOf(exchangeOf(ctx).links, u), nil
}

// EditInteractiveUser changes a person.
func (s *service) EditInteractiveUser(ctx context.Context, r api.EditInteractiveUserRequestObject) (api.EditInteractiveUserResponseObject, error) {
	b := r.Body
	u, err := s.editInteractiveUser(ctx, r.UserID, signing.UserEdit{Name: b.Name, Email: b.Email, Roles: rolesGiven(b.Roles), Description: b.Description,
		NotificationLevel: levelGiven(b.NotificationLevel), Version: b.Version})
	return reply[api.EditInteractiveUserResponseObject](api.EditInteractiveUser200JSONResponse(u), err)
}

// ActivateInteractiveUser activates a person.
func (s *service) ActivateInteractiveUser(ctx context.Context, r api.ActivateInteractiveUserRequestObject) (api.ActivateInteractiveUserResponseObject, error) {
	u, err := s.editInteractiveUser(ctx, r.UserID, signing.UserEdit{Active: pointer(true), Version: expected(r.Body)})
	return reply[api.ActivateInteractiveUserResponseObject](api.ActivateInteractiveUser200JSONResponse(u), err)
}

// DeactivateInteractiveUser deactivates a person.
func (s *service) DeactivateInteractiveUser(ctx context.Context, r api.DeactivateInteractiveUserRequestObject) (api.DeactivateInteractiveUserResponseObject, error) {
	u, err := s.editInteractiveUser(ctx, r.UserID, signing.UserEdit{Active: pointer(false), Version: deactivation(r.Body).Version, EvenIfInUse: deactivation(r.Body).EvenIfInUse})
	return reply[api.DeactivateInteractiveUserResponseObject](api.DeactivateInteractiveUser200JSONResponse(u), err)
}

// ReinviteInteractiveUser makes a new invitation for a person.
func (s *service) ReinviteInteractiveUser(ctx context.Context, r api.ReinviteInteractiveUserRequestObject) (api.ReinviteInteractiveUserResponseObject, error) {
	u, err := s.user(ctx, signing.Interactive, r.UserID)
	if err != nil {
		return nil, err
	}
	code, expires, err := s.auth.Invite(ctx, actorOf(ctx), u.ID)
	return reply[api.ReinviteInteractiveUserResponseObject](api.ReinviteInteractiveUser200JSONResponse(invitedUser(exchangeOf(ctx).links, u, code, expires)), err)
}

// ListCIUsers lists CI users.
func (s *service) ListCIUsers(ctx context.Context, _ api.ListCIUsersRequestObject) (api.ListCIUsersResponseObject, error) {
	list, err := s.signing.Users(ctx, actorOf(ctx), signing.CI)
	if err != nil {
		return nil, err
	}
	answer := api.ListCIUsers200JSONResponse{}
	for _, u := range list {
		answer = append(answer, ciUserOf(exchangeOf(ctx).links, u))
	}
	return answer, nil
}

// CreateCIUser makes a CI user with a token.
func (s *service) CreateCIUser(ctx context.Context, r api.CreateCIUserRequestObject) (api.CreateCIUserResponseObject, error) {
	a, b := actorOf(ctx), r.Body
	var token string
	options := auth.TokenOptions{ExpiresAt: timePointer(b.APITokenExpiresAt)}
	u, err := s.signing.CreateUser(ctx, a, signing.NewUser{Kind: signing.CI, Name: b.Name, Roles: overlay(rolesGiven(b.Roles), nil), Description: overlay(b.Description, "")},
		func(tx signing.Tx, u *signing.User) (err error) {
			token, _, err = s.auth.IssueTokenTx(ctx, tx, a, signing.UserToken, u.ID, options)
			return err
		})
	if err != nil {
		return nil, fieldRenamed(err, "ExpiresAt", "ApiTokenExpiresAt")
	}
	body := api.CreatedCIUser{UserID: string(u.ID), Link: exchangeOf(ctx).links.user(u), APIToken: token, APITokenExpiresAt: b.APITokenExpiresAt}
	return api.CreateCIUser201JSONResponse{Body: body, Headers: api.CreateCIUser201ResponseHeaders{Location: body.Link}}, nil
}

// GetMyCIUser returns the CI user who asks.
func (s *service) GetMyCIUser(ctx context.Context, _ api.GetMyCIUserRequestObject) (api.GetMyCIUserResponseObject, error) {
	u, err := s.user(ctx, signing.CI, string(actorOf(ctx).UserID))
	if err != nil {
		return nil, err
	}
	return api.GetMyCIUser200JSONResponse(ciUserOf(exchangeOf(ctx).links, u)), nil
}

// GetCIUser returns a CI user.
func (s *service) GetCIUser(ctx context.Context, r api.GetCIUserRequestObject) (api.GetCIUserResponseObject, error) {
	u, err := s.user(ctx, signing.CI, r.UserID)
	if err != nil {
		return nil, err
	}
	return api.GetCIUser200JSONResponse(ciUserOf(exchangeOf(ctx).links, u)), nil
}

func (s *service) editCIUser(ctx context.Context, id string, e signing.UserEdit) (api.CIUser, error) {
	u, err := s.editUser(ctx, signing.CI, id, e)
	if err != nil {
		return api.CIUser{}, err
	}
	return ciUserOf(exchangeOf(ctx).links, u), nil
}

// EditCIUser changes a CI user.
func (s *service) EditCIUser(ctx context.Context, r api.EditCIUserRequestObject) (api.EditCIUserResponseObject, error) {
	b := r.Body
	u, err := s.editCIUser(ctx, r.UserID, signing.UserEdit{Name: b.Name, Roles: rolesGiven(b.Roles), Description: b.Description, Version: b.Version})
	return reply[api.EditCIUserResponseObject](api.EditCIUser200JSONResponse(u), err)
}

// ActivateCIUser activates a CI user.
func (s *service) ActivateCIUser(ctx context.Context, r api.ActivateCIUserRequestObject) (api.ActivateCIUserResponseObject, error) {
	u, err := s.editCIUser(ctx, r.UserID, signing.UserEdit{Active: pointer(true), Version: expected(r.Body)})
	return reply[api.ActivateCIUserResponseObject](api.ActivateCIUser200JSONResponse(u), err)
}

// DeactivateCIUser deactivates a CI user.
func (s *service) DeactivateCIUser(ctx context.Context, r api.DeactivateCIUserRequestObject) (api.DeactivateCIUserResponseObject, error) {
	u, err := s.editCIUser(ctx, r.UserID, signing.UserEdit{Active: pointer(false), Version: deactivation(r.Body).Version, EvenIfInUse: deactivation(r.Body).EvenIfInUse})
	return reply[api.DeactivateCIUserResponseObject](api.DeactivateCIUser200JSONResponse(u), err)
}
