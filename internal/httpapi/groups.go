package httpapi

import (
	"context"

	"github.com/countersign-dev/countersign/api"
	"github.com/countersign-dev/countersign/internal/signing"
)

func groupOf(l links, g *signing.Group) api.UserGroup {
	return api.UserGroup{UserGroupID: string(g.ID), Name: g.Name, Description: g.Description, Members: orEmpty(subjectsOf(g.Members)),
		CreatedAt: g.CreatedAt, Link: l.resource(string(g.OrganizationID), "UserGroups", string(g.ID)), Version: g.Version}
}

// ListUserGroups lists the groups.
func (s *service) ListUserGroups(ctx context.Context, _ api.ListUserGroupsRequestObject) (api.ListUserGroupsResponseObject, error) {
	list, err := s.signing.Groups(ctx, actorOf(ctx))
	if err != nil {
		return nil, err
	}
	answer := api.ListUserGroups200JSONResponse{}
	for _, g := range list {
		answer = append(answer, groupOf(exchangeOf(ctx).links, g))
	}
	return answer, nil
}

// CreateUserGroup makes a group.
func (s *service) CreateUserGroup(ctx context.Context, r api.CreateUserGroupRequestObject) (api.CreateUserGroupResponseObject, error) {
	a := actorOf(ctx)
	g, err := s.signing.CreateGroup(ctx, a, signing.GroupEdit{Name: &r.Body.Name, Description: r.Body.Description, Members: subjectsGiven(r.Body.Members)})
	if err != nil {
		return nil, err
	}
	s.auth.Forget(a.OrganizationID)
	body := groupOf(exchangeOf(ctx).links, g)
	return api.CreateUserGroup201JSONResponse{Body: body, Headers: api.CreateUserGroup201ResponseHeaders{Location: body.Link}}, nil
}

func (s *service) group(ctx context.Context, id string) (*signing.Group, error) {
	unknown := signing.Errorf(signing.KindNotFound, "There is no such group.")
	known, ok := signing.ParseID(id)
	if !ok {
		return nil, unknown
	}
	g, err := s.signing.Group(ctx, actorOf(ctx), known)
	if signing.KindOf(err) == signing.KindNotFound {
		return nil, unknown
	}
	return g, err
}

// GetUserGroup returns a group.
func (s *service) GetUserGroup(ctx context.Context, r api.GetUserGroupRequestObject) (api.GetUserGroupResponseObject, error) {
	g, err := s.group(ctx, r.GroupID)
	if err != nil {
		return nil, err
	}
	return api.GetUserGroup200JSONResponse(groupOf(exchangeOf(ctx).links, g)), nil
}

// editGroup changes a group. What its members may from now on holds at once.
func (s *service) editGroup(ctx context.Context, id string, e signing.GroupEdit) (api.UserGroup, error) {
	a := actorOf(ctx)
	g, err := s.group(ctx, id)
	if err != nil {
		return api.UserGroup{}, err
	}
	if g, err = s.signing.EditGroup(ctx, a, g.ID, e); err != nil {
		return api.UserGroup{}, err
	}
	s.auth.Forget(a.OrganizationID)
	return groupOf(exchangeOf(ctx).links, g), nil
}

// EditUserGroup changes a group's name or description.
func (s *service) EditUserGroup(ctx context.Context, r api.EditUserGroupRequestObject) (api.EditUserGroupResponseObject, error) {
	g, err := s.editGroup(ctx, r.GroupID, signing.GroupEdit{Name: r.Body.Name, Description: r.Body.Description, Version: r.Body.Version})
	return reply[api.EditUserGroupResponseObject](api.EditUserGroup200JSONResponse(g), err)
}

// DeleteUserGroup deletes a group.
func (s *service) DeleteUserGroup(ctx context.Context, r api.DeleteUserGroupRequestObject) (api.DeleteUserGroupResponseObject, error) {
	a := actorOf(ctx)
	g, err := s.group(ctx, r.GroupID)
	if err != nil {
		return nil, err
	}
	if err := s.signing.DeleteGroup(ctx, a, g.ID); err != nil {
		return nil, err
	}
	s.auth.Forget(a.OrganizationID)
	return api.DeleteUserGroup204Response{}, nil
}

// ChangeUserGroupMembers replaces a group's members.
func (s *service) ChangeUserGroupMembers(ctx context.Context, r api.ChangeUserGroupMembersRequestObject) (api.ChangeUserGroupMembersResponseObject, error) {
	if r.Body.Members == nil {
		return nil, signing.Invalid("Members", "The members are required; an empty list removes all.")
	}
	g, err := s.editGroup(ctx, r.GroupID, signing.GroupEdit{Members: subjectsGiven(&r.Body.Members), Version: r.Body.Version})
	return reply[api.ChangeUserGroupMembersResponseObject](api.ChangeUserGroupMembers200JSONResponse(g), err)
}

// ModifyUserGroupMembers adds and removes members, whatever others add and remove at the same time.
func (s *service) ModifyUserGroupMembers(ctx context.Context, r api.ModifyUserGroupMembersRequestObject) (api.ModifyUserGroupMembersResponseObject, error) {
	g, err := s.editGroup(ctx, r.GroupID, signing.GroupEdit{Remove: subjectsFrom(r.Body.Remove), Add: subjectsFrom(r.Body.Add)})
	return reply[api.ModifyUserGroupMembersResponseObject](api.ModifyUserGroupMembers200JSONResponse(g), err)
}
