package httpapi

import (
	"context"
	"slices"
	"strings"

	"github.com/countersign-dev/countersign/api"
	"github.com/countersign-dev/countersign/internal/auth"
	"github.com/countersign-dev/countersign/internal/signing"
)

func buildSystemOf(l links, t *signing.TrustedBuildSystem) api.TrustedBuildSystem {
	return api.TrustedBuildSystem{TrustedBuildSystemID: string(t.ID), Slug: t.Slug, Name: t.Name, Description: t.Description, Type: t.Type,
		RepositoryHosts: t.RepositoryHosts(), BuildHosts: t.BuildHosts(), CreatedAt: t.CreatedAt, Link: l.resource(string(t.OrganizationID), "TrustedBuildSystems", t.Slug), Version: t.Version}
}

// buildSystem finds a trusted build system by slug.
func (s *service) buildSystem(ctx context.Context, slug string) (*signing.TrustedBuildSystem, error) {
	list, err := s.signing.TrustedBuildSystems(ctx, actorOf(ctx))
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(list, func(t *signing.TrustedBuildSystem) bool { return strings.EqualFold(t.Slug, slug) })
	if i < 0 {
		return nil, signing.Errorf(signing.KindNotFound, "There is no trusted build system with slug '%s'.", truncate(slug, 100))
	}
	return list[i], nil
}

// ListTrustedBuildSystems lists the trusted build systems.
func (s *service) ListTrustedBuildSystems(ctx context.Context, _ api.ListTrustedBuildSystemsRequestObject) (api.ListTrustedBuildSystemsResponseObject, error) {
	list, err := s.signing.TrustedBuildSystems(ctx, actorOf(ctx))
	if err != nil {
		return nil, err
	}
	answer := api.ListTrustedBuildSystems200JSONResponse{}
	for _, t := range list {
		answer = append(answer, buildSystemOf(exchangeOf(ctx).links, t))
	}
	return answer, nil
}

// GetTrustedBuildSystem returns a trusted build system.
func (s *service) GetTrustedBuildSystem(ctx context.Context, r api.GetTrustedBuildSystemRequestObject) (api.GetTrustedBuildSystemResponseObject, error) {
	t, err := s.buildSystem(ctx, r.TrustedBuildSystemSlug)
	if err != nil {
		return nil, err
	}
	return api.GetTrustedBuildSystem200JSONResponse(buildSystemOf(exchangeOf(ctx).links, t)), nil
}

// AddCustomTrustedBuildSystem adds a trusted build system with a token.
func (s *service) AddCustomTrustedBuildSystem(ctx context.Context, r api.AddCustomTrustedBuildSystemRequestObject) (api.AddCustomTrustedBuildSystemResponseObject, error) {
	var body api.AddedTrustedBuildSystem
	_, err := s.signing.AddTrustedBuildSystem(ctx, actorOf(ctx), signing.TrustedBuildSystemEdit{Slug: &r.Body.Slug, Name: &r.Body.Name, Description: r.Body.Description},
		s.withToken(ctx, &body))
	return reply[api.AddCustomTrustedBuildSystemResponseObject](api.AddCustomTrustedBuildSystem201JSONResponse{Body: body, Headers: api.AddCustomTrustedBuildSystem201ResponseHeaders{Location: body.TrustedBuildSystem.Link}}, err)
}

// AddPredefinedTrustedBuildSystem adds a trusted build system of a known product or service, with a token.
func (s *service) AddPredefinedTrustedBuildSystem(ctx context.Context, r api.AddPredefinedTrustedBuildSystemRequestObject) (api.AddPredefinedTrustedBuildSystemResponseObject, error) {
	b := r.Body
	var body api.AddedTrustedBuildSystem
	_, err := s.signing.AddPredefinedBuildSystem(ctx, actorOf(ctx), signing.NewPredefinedBuildSystem{Type: b.Type, Slug: b.Slug, Name: b.Name, Description: b.Description, BuildHost: b.BuildHost},
		s.withToken(ctx, &body))
	return reply[api.AddPredefinedTrustedBuildSystemResponseObject](api.AddPredefinedTrustedBuildSystem201JSONResponse{Body: body, Headers: api.AddPredefinedTrustedBuildSystem201ResponseHeaders{Location: body.TrustedBuildSystem.Link}}, err)
}

// withToken issues the token of a new trusted build system and fills the answer.
func (s *service) withToken(ctx context.Context, body *api.AddedTrustedBuildSystem) func(signing.Tx, *signing.TrustedBuildSystem) error {
	return func(tx signing.Tx, t *signing.TrustedBuildSystem) error {
		token, _, err := s.auth.IssueTokenTx(ctx, tx, actorOf(ctx), signing.BuildSystemToken, t.ID, auth.TokenOptions{})
		*body = api.AddedTrustedBuildSystem{TrustedBuildSystem: buildSystemOf(exchangeOf(ctx).links, t), TrustedBuildSystemToken: token}
		return err
	}
}

// EditTrustedBuildSystem changes a trusted build system.
func (s *service) EditTrustedBuildSystem(ctx context.Context, r api.EditTrustedBuildSystemRequestObject) (api.EditTrustedBuildSystemResponseObject, error) {
	b := r.Body
	t, err := s.signing.EditTrustedBuildSystem(ctx, actorOf(ctx), r.TrustedBuildSystemSlug, signing.TrustedBuildSystemEdit{Slug: b.Slug, Name: b.Name, Description: b.Description, Version: b.Version})
	if err != nil {
		return nil, err
	}
	return api.EditTrustedBuildSystem200JSONResponse(buildSystemOf(exchangeOf(ctx).links, t)), nil
}

// DeleteTrustedBuildSystem deletes a trusted build system. Its tokens are worth nothing at once.
func (s *service) DeleteTrustedBuildSystem(ctx context.Context, r api.DeleteTrustedBuildSystemRequestObject) (api.DeleteTrustedBuildSystemResponseObject, error) {
	a := actorOf(ctx)
	t, err := s.buildSystem(ctx, r.TrustedBuildSystemSlug)
	if err != nil {
		return nil, err
	}
	if err := s.signing.DeleteTrustedBuildSystem(ctx, a, t.Slug); err != nil {
		return nil, err
	}
	s.auth.Forget(a.OrganizationID)
	return api.DeleteTrustedBuildSystem204Response{}, nil
}

// RegenerateTrustedBuildSystemToken replaces the tokens of a trusted build system by a new one.
func (s *service) RegenerateTrustedBuildSystemToken(ctx context.Context, r api.RegenerateTrustedBuildSystemTokenRequestObject) (api.RegenerateTrustedBuildSystemTokenResponseObject, error) {
	t, err := s.buildSystem(ctx, r.TrustedBuildSystemSlug)
	if err != nil {
		return nil, err
	}
	token, _, err := s.auth.RegenerateToken(ctx, actorOf(ctx), signing.BuildSystemToken, t.ID, "", auth.TokenOptions{})
	return reply[api.RegenerateTrustedBuildSystemTokenResponseObject](api.RegenerateTrustedBuildSystemToken200JSONResponse{TrustedBuildSystemToken: token}, err)
}
