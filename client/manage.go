package client

import (
	"context"
	"net/http"

	"github.com/countersign-dev/countersign/api"
)

// items returns the list that an answer is.
func items[T any](list *[]T, err error) ([]T, error) {
	if err != nil {
		return nil, err
	}
	return *list, nil
}

// do sends a request that must not be carried out twice and is answered without content.
func (c *Client) do(ctx context.Context, request func() (*http.Response, error)) error {
	_, err := c.content(ctx, once, request)
	return err
}

// CreateProject makes a project.
func (c *Client) CreateProject(ctx context.Context, p api.CreateProject) (*api.Project, error) {
	return post[api.Project](ctx, c, func() (*http.Response, error) { return c.api.CreateProject(ctx, c.organization, p) })
}

// EditProject changes what is set. With a version, it fails with status 409 when somebody else was faster.
func (c *Client) EditProject(ctx context.Context, slug string, e api.EditProject) (*api.Project, error) {
	return post[api.Project](ctx, c, func() (*http.Response, error) { return c.api.EditProject(ctx, c.organization, slug, e) })
}

// Policy returns a signing policy of a project.
func (c *Client) Policy(ctx context.Context, project, slug string) (*api.SigningPolicy, error) {
	return get[api.SigningPolicy](ctx, c, func() (*http.Response, error) {
		return c.api.GetSigningPolicy(ctx, c.organization, project, slug)
	})
}

// CreatePolicy makes a signing policy in a project.
func (c *Client) CreatePolicy(ctx context.Context, project string, p api.CreateSigningPolicy) (*api.SigningPolicy, error) {
	return post[api.SigningPolicy](ctx, c, func() (*http.Response, error) {
		return c.api.CreateSigningPolicy(ctx, c.organization, project, p)
	})
}

// EditPolicy changes what is set, as EditProject does. Approvals of waiting requests fall when what they were given for changes.
func (c *Client) EditPolicy(ctx context.Context, project, slug string, e api.EditSigningPolicy) (*api.SigningPolicy, error) {
	return post[api.SigningPolicy](ctx, c, func() (*http.Response, error) {
		return c.api.EditSigningPolicy(ctx, c.organization, project, slug, e)
	})
}

// DeactivateCertificate deactivates a certificate. With evenIfInUse it does so although active signing policies use it;
// without, the server then answers 409 and names them.
func (c *Client) DeactivateCertificate(ctx context.Context, slug string, evenIfInUse bool) (*api.Certificate, error) {
	return post[api.Certificate](ctx, c, func() (*http.Response, error) {
		return c.api.DeactivateCertificate(ctx, c.organization, slug, api.Deactivate{EvenIfInUse: evenIfInUse})
	})
}

// ActivateCertificate activates a certificate.
func (c *Client) ActivateCertificate(ctx context.Context, slug string) (*api.Certificate, error) {
	return post[api.Certificate](ctx, c, func() (*http.Response, error) {
		return c.api.ActivateCertificate(ctx, c.organization, slug, api.ExpectedVersion{})
	})
}

// DeletePrivateKey destroys the private key of a deactivated certificate, which cannot be undone. With evenIfInUse it does so
// although active signing policies use the certificate; without, the server then answers 409 and names them.
func (c *Client) DeletePrivateKey(ctx context.Context, slug string, evenIfInUse bool) (*api.Certificate, error) {
	return post[api.Certificate](ctx, c, func() (*http.Response, error) {
		return c.api.DeleteCertificatePrivateKey(ctx, c.organization, slug, api.Deactivate{EvenIfInUse: evenIfInUse})
	})
}

// DeleteCertificate deletes a certificate that never signed and that no signing policy uses, with its private key.
func (c *Client) DeleteCertificate(ctx context.Context, slug string) error {
	return c.do(ctx, func() (*http.Response, error) {
		return c.api.DeleteCertificate(ctx, c.organization, slug, api.ExpectedVersion{})
	})
}

// InteractiveUsers lists the people of the organization, by name.
func (c *Client) InteractiveUsers(ctx context.Context) ([]api.InteractiveUser, error) {
	return items(get[[]api.InteractiveUser](ctx, c, func() (*http.Response, error) { return c.api.ListInteractiveUsers(ctx, c.organization) }))
}

// CreateInteractiveUser makes a person; the answer has the link with which they set up how they sign in.
func (c *Client) CreateInteractiveUser(ctx context.Context, n api.CreateInteractiveUser) (*api.InvitedUser, error) {
	return post[api.InvitedUser](ctx, c, func() (*http.Response, error) { return c.api.CreateInteractiveUser(ctx, c.organization, n) })
}

// DeactivateInteractiveUser deactivates a person, as DeactivateCertificate does a certificate.
func (c *Client) DeactivateInteractiveUser(ctx context.Context, id string, evenIfInUse bool) (*api.InteractiveUser, error) {
	return post[api.InteractiveUser](ctx, c, func() (*http.Response, error) {
		return c.api.DeactivateInteractiveUser(ctx, c.organization, id, api.Deactivate{EvenIfInUse: evenIfInUse})
	})
}

// CIUsers lists the CI users of the organization, by name.
func (c *Client) CIUsers(ctx context.Context) ([]api.CIUser, error) {
	return items(get[[]api.CIUser](ctx, c, func() (*http.Response, error) { return c.api.ListCIUsers(ctx, c.organization) }))
}

// CreateCIUser makes a CI user. Its API token is in this answer alone.
func (c *Client) CreateCIUser(ctx context.Context, n api.CreateCIUser) (*api.CreatedCIUser, error) {
	return post[api.CreatedCIUser](ctx, c, func() (*http.Response, error) { return c.api.CreateCIUser(ctx, c.organization, n) })
}

// RegenerateCIUserToken replaces a CI user's API tokens by the one in the answer.
func (c *Client) RegenerateCIUserToken(ctx context.Context, id string, r api.RegenerateToken) (*api.IssuedToken, error) {
	return post[api.IssuedToken](ctx, c, func() (*http.Response, error) { return c.api.RegenerateCIUserToken(ctx, c.organization, id, r) })
}

// Groups lists the groups of the organization with their members, by name.
func (c *Client) Groups(ctx context.Context) ([]api.UserGroup, error) {
	return items(get[[]api.UserGroup](ctx, c, func() (*http.Response, error) { return c.api.ListUserGroups(ctx, c.organization) }))
}

// CreateGroup makes a group.
func (c *Client) CreateGroup(ctx context.Context, g api.CreateUserGroup) (*api.UserGroup, error) {
	return post[api.UserGroup](ctx, c, func() (*http.Response, error) { return c.api.CreateUserGroup(ctx, c.organization, g) })
}

// ModifyGroupMembers adds members to a group and removes others.
func (c *Client) ModifyGroupMembers(ctx context.Context, id string, m api.ModifyMembers) (*api.UserGroup, error) {
	return post[api.UserGroup](ctx, c, func() (*http.Response, error) { return c.api.ModifyUserGroupMembers(ctx, c.organization, id, m) })
}

// DeleteGroup deletes a group that stands nowhere; otherwise the server answers 409 and says where.
func (c *Client) DeleteGroup(ctx context.Context, id string) error {
	return c.do(ctx, func() (*http.Response, error) { return c.api.DeleteUserGroup(ctx, c.organization, id) })
}

// TrustedBuildSystems lists the trusted build systems of the organization, by name.
func (c *Client) TrustedBuildSystems(ctx context.Context) ([]api.TrustedBuildSystem, error) {
	return items(get[[]api.TrustedBuildSystem](ctx, c, func() (*http.Response, error) { return c.api.ListTrustedBuildSystems(ctx, c.organization) }))
}

// AddTrustedBuildSystem adds a custom trusted build system. Its token is in this answer alone.
func (c *Client) AddTrustedBuildSystem(ctx context.Context, n api.AddCustomTrustedBuildSystem) (*api.AddedTrustedBuildSystem, error) {
	return post[api.AddedTrustedBuildSystem](ctx, c, func() (*http.Response, error) { return c.api.AddCustomTrustedBuildSystem(ctx, c.organization, n) })
}

// AddPredefinedBuildSystem adds a trusted build system of a known product or service. Its token is in this answer alone.
func (c *Client) AddPredefinedBuildSystem(ctx context.Context, n api.AddPredefinedTrustedBuildSystem) (*api.AddedTrustedBuildSystem, error) {
	return post[api.AddedTrustedBuildSystem](ctx, c, func() (*http.Response, error) {
		return c.api.AddPredefinedTrustedBuildSystem(ctx, c.organization, n)
	})
}

// LinkTrustedBuildSystem links a trusted build system to a project and returns all that are linked.
func (c *Client) LinkTrustedBuildSystem(ctx context.Context, project, slug string) ([]api.TrustedBuildSystem, error) {
	return items(post[[]api.TrustedBuildSystem](ctx, c, func() (*http.Response, error) {
		return c.api.LinkTrustedBuildSystem(ctx, c.organization, project, api.LinkTrustedBuildSystem{TrustedBuildSystemSlug: slug})
	}))
}

// Webhooks lists the webhooks of the organization, by name.
func (c *Client) Webhooks(ctx context.Context) ([]api.Webhook, error) {
	return items(get[[]api.Webhook](ctx, c, func() (*http.Response, error) { return c.api.ListWebhooks(ctx, c.organization) }))
}

// CreateWebhook makes a webhook. The secret that its calls are signed with is in this answer alone.
func (c *Client) CreateWebhook(ctx context.Context, w api.CreateWebhook) (*api.CreatedWebhook, error) {
	return post[api.CreatedWebhook](ctx, c, func() (*http.Response, error) { return c.api.CreateWebhook(ctx, c.organization, w) })
}

// EditWebhook changes what is set, as EditProject does.
func (c *Client) EditWebhook(ctx context.Context, id string, e api.EditWebhook) (*api.Webhook, error) {
	return post[api.Webhook](ctx, c, func() (*http.Response, error) { return c.api.EditWebhook(ctx, c.organization, id, e) })
}

// TestWebhook has the server call a webhook as a test; the answer is the delivery, which tells how that ended.
func (c *Client) TestWebhook(ctx context.Context, id string) (*api.Delivery, error) {
	return post[api.Delivery](ctx, c, func() (*http.Response, error) { return c.api.TestWebhook(ctx, c.organization, id) })
}

// DeleteWebhook deletes a webhook with the record of its deliveries.
func (c *Client) DeleteWebhook(ctx context.Context, id string) error {
	return c.do(ctx, func() (*http.Response, error) { return c.api.DeleteWebhook(ctx, c.organization, id) })
}
