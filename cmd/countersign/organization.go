package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"

	"github.com/countersign-dev/countersign/internal/signing"
)

type organizationCmd struct {
	Create organizationCreateCmd `cmd:"" help:"Make a further organization, strictly apart from the others."`
	List   organizationListCmd   `cmd:"" help:"List the installation's organizations."`
	Invite organizationInviteCmd `cmd:"" help:"Make a new sign-in link for somebody, such as an administrator who is locked out."`
}

type organizationCreateCmd struct {
	storage
	logging    `set:"log_level=warn"`
	PublicURL  *url.URL `help:"Address under which people reach the server, for the administrator's link." placeholder:"URL" required:""`
	AdminName  string   `help:"Name of the organization's first administrator." default:"Administrator"`
	AdminEmail string   `help:"E-mail address of the organization's first administrator." required:"" placeholder:"ADDRESS"`
	Name       string   `arg:"" help:"Name of the organization."`
}

// Help is shown by kong.
func (*organizationCreateCmd) Help() string {
	return `For whoever operates the installation. Prints the organization's id, a link with which its administrator signs in, once, and an API token.

    countersign organization create --data ./data --public-url https://sign.example.com --admin-email ada@acme.example "Acme"

An embedded database serves one process: stop the server first. With PostgreSQL it may run meanwhile.` + localExitCodes("the organization was not created")
}

// Validate is called by kong.
func (c *organizationCreateCmd) Validate() error {
	return errors.Join(c.check(), checkPublicURL(c.PublicURL))
}

// Run creates the organization.
func (c *organizationCreateCmd) Run(ctx context.Context, io console) error {
	if err := c.exists(); err != nil {
		return err
	}
	sys, err := open(ctx, c.storage, work{}, c.logger(io.err), []string{c.PublicURL.String()}, embedded{})
	if err != nil {
		return err
	}
	defer sys.close(context.WithoutCancel(ctx))
	b := &bootstrapped{}
	if b.organization, b.admin, err = sys.signing.CreateOrganization(ctx, c.Name, c.AdminName, c.AdminEmail, b.welcome(ctx, sys.auth)); err != nil {
		return err
	}
	b.announce(io, c.PublicURL)
	return nil
}

type organizationListCmd struct {
	storage
	logging `set:"log_level=warn"`
}

// Help is shown by kong.
func (*organizationListCmd) Help() string {
	return `Prints id and name of each, oldest first. An embedded database serves one process: stop the server first.

    countersign organization list --data ./data` + localExitCodes("the database cannot be read")
}

// Validate is called by kong.
func (c *organizationListCmd) Validate() error { return c.check() }

// Run lists organizations.
func (c *organizationListCmd) Run(ctx context.Context, io console) error {
	if err := c.exists(); err != nil {
		return err
	}
	db, lock, err := c.openDatabase(ctx, c.logger(io.err))
	if err != nil {
		return err
	}
	if lock != nil {
		defer closeQuietly(lock)
	}
	list, err := signing.New(signing.Config{Store: db}).Organizations(ctx)
	for _, o := range list {
		fmt.Fprintf(io.out, "%s  %s\n", o.ID, printable(o.Name))
	}
	return errors.Join(err, db.Close())
}

type organizationInviteCmd struct {
	storage
	logging      `set:"log_level=warn"`
	PublicURL    *url.URL `help:"Address under which people reach the server, for the link." placeholder:"URL" required:""`
	Organization string   `help:"Organization of the account, when the e-mail address has accounts in several." env:"COUNTERSIGN_ORGANIZATION" placeholder:"ID"`
	Email        string   `arg:"" help:"E-mail address of the account."`
}

// Help is shown by kong.
func (*organizationInviteCmd) Help() string {
	return `For whoever operates the installation, when nobody can sign in who could invite again. The link sets up sign-in once; until then what the user has still works. The audit log has it.

    countersign organization invite --data ./data --public-url https://sign.example.com ada@acme.example

An embedded database serves one process: stop the server first. With PostgreSQL it may run meanwhile.` + localExitCodes("there is no link")
}

// Validate is called by kong.
func (c *organizationInviteCmd) Validate() error {
	return errors.Join(c.check(), checkPublicURL(c.PublicURL))
}

// Run invites.
func (c *organizationInviteCmd) Run(ctx context.Context, io console) error {
	id, ok := signing.ParseID(c.Organization)
	if c.Organization != "" && !ok {
		return &exitError{exitUsage, fmt.Errorf("--organization takes an id, a GUID, not %q: 'countersign organization list' tells it", c.Organization)}
	}
	if err := c.exists(); err != nil {
		return err
	}
	sys, err := open(ctx, c.storage, work{}, c.logger(io.err), []string{c.PublicURL.String()}, embedded{})
	if err != nil {
		return err
	}
	defer sys.close(context.WithoutCancel(ctx))
	u, code, expires, err := sys.auth.InviteByOperator(ctx, id, c.Email)
	if err != nil {
		return err
	}
	fmt.Fprintf(io.out, "%s signs in with this link, once, until %s:\n  %s\n", printable(u.Name), expires.Format("2006-01-02 15:04 MST"), c.PublicURL.JoinPath("Web", "Invitation", code))
	return nil
}
