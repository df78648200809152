package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"time"

	"github.com/countersign-dev/countersign/internal/auth"
	"github.com/countersign-dev/countersign/internal/signing"
)

type serveCmd struct {
	storage
	logging `set:"log_level=info"`
	work
	Listen       string   `help:"Address to listen on; port 0 picks a free one. Put a TLS certificate or a reverse proxy in front before listening beyond this machine." default:"127.0.0.1:8480"`
	TLSCert      string   `name:"tls-cert" help:"PEM file of the TLS certificate and its chain." type:"existingfile" placeholder:"FILE"`
	TLSKey       string   `name:"tls-key" help:"PEM file of the TLS private key." type:"existingfile" placeholder:"FILE"`
	TrustedProxy []string `help:"Reverse proxies in front of the server, by address or network: their X-Forwarded-For tells where people sign in from. Without it everybody behind one shares one limit of attempts to sign in." placeholder:"NETWORK"`
	MetricsToken string   `help:"Bearer token that opens /metrics to other machines; without one it answers this machine only." placeholder:"TOKEN"`
	Organization string   `help:"Name of the organization that the first start makes." env:"COUNTERSIGN_ORGANIZATION_NAME" default:"My organization"`
	AdminName    string   `help:"Name of its first administrator." default:"Administrator"`
	AdminEmail   string   `help:"E-mail address of its first administrator." default:"admin@example.com"`
	ReadyFile    string   `help:"Write the addresses as JSON (baseUrl, apiUrl) to this file once the server accepts connections." type:"path" placeholder:"FILE"`
}

// Help is shown by kong.
func (*serveCmd) Help() string {
	return `The first start makes an organization, and prints a link for its administrator to sign in with and an API token, once.

    countersign serve --data /var/lib/countersign --public-url https://sign.example.com --timestamp http://timestamp.digicert.com

Every flag can be set by its environment variable, or in a YAML file:

    countersign serve --config /etc/countersign.yaml

    # /etc/countersign.yaml
    data: /var/lib/countersign
    public-url: https://sign.example.com
    timestamp: [http://timestamp.digicert.com, http://timestamp.sectigo.com]

A flag wins over its environment variable, and that over the file.

Back up the data directory whole: without its master key the private keys in the database are lost.` + serverExitCodes("the server could not start, or failed")
}

// Validate is called by kong.
func (c *serveCmd) Validate() error {
	if (c.TLSCert == "") != (c.TLSKey == "") {
		return errors.New("--tls-cert and --tls-key go together")
	}
	if _, _, err := net.SplitHostPort(c.Listen); err != nil {
		return fmt.Errorf("--listen must be HOST:PORT, such as 127.0.0.1:8480: %w", err)
	}
	_, err := parseNetworks("--trusted-proxy", c.TrustedProxy)
	return errors.Join(err, c.storage.check(), c.work.check())
}

// Run serves until interrupted.
func (c *serveCmd) Run(ctx context.Context, io console) error {
	log := c.logger(io.err)
	listener, err := listen(ctx, c.Listen, c.TLSCert, c.TLSKey)
	if err != nil {
		return err
	}
	base := c.PublicURL
	if base == nil {
		base = listenerURL(listener, c.TLSCert != "")
	}
	sys, err := open(ctx, c.storage, c.work, log, []string{base.String()}, embedded{})
	if err != nil {
		_ = listener.Close()
		return err
	}
	defer sys.close(context.WithoutCancel(ctx))
	if sys.pool == nil {
		log.Warn("no timestamp authority is configured (--timestamp): signatures will not outlive their certificates")
	}
	first, err := bootstrap(ctx, sys, c.Organization, c.AdminName, c.AdminEmail)
	if err != nil {
		return err
	}
	if first != nil {
		first.announce(io, base)
	}
	proxies, err := parseNetworks("--trusted-proxy", c.TrustedProxy)
	if err != nil {
		return err
	}
	h, err := sys.handler(c.PublicURL, c.ArtifactLimit, c.MetricsToken, proxies)
	if err != nil {
		return err
	}
	if c.ReadyFile != "" {
		if err := writeJSONFile(c.ReadyFile, map[string]string{"baseUrl": base.String(), "apiUrl": base.JoinPath("Api").String()}); err != nil {
			return fmt.Errorf("write the ready file: %w", err)
		}
	}
	log.Info("serving", "address", base.String(), "data", c.Data, "version", buildVersion())
	return sys.listenAndServe(ctx, listener, h)
}

func listenerURL(l net.Listener, tls bool) *url.URL {
	u := &url.URL{Scheme: "http", Host: l.Addr().String()}
	if tls {
		u.Scheme = "https"
	}
	host, port, err := net.SplitHostPort(u.Host)
	if ip := net.ParseIP(host); err == nil && ip != nil && (ip.IsUnspecified() || ip.IsLoopback()) {
		u.Host = net.JoinHostPort("localhost", port)
	}
	return u
}

// bootstrapped is what the first start prints.
type bootstrapped struct {
	organization *signing.Organization
	admin        *signing.User
	token        string
	invitation   string
	expires      time.Time
}

// announce tells the operator what is shown only once.
func (b *bootstrapped) announce(io console, base *url.URL) {
	fmt.Fprintf(io.out, "Organization %q was created.\n", b.organization.Name)
	fmt.Fprintf(io.out, "Sign in as its administrator with this link, once, until %s:\n  %s\n", b.expires.Format("2006-01-02 15:04 MST"), base.JoinPath("Web", "Invitation", b.invitation))
	fmt.Fprintf(io.out, "For the command line, as the administrator; the token is shown only now:\n  export COUNTERSIGN_URL=%s\n  export COUNTERSIGN_ORGANIZATION=%s\n  export COUNTERSIGN_TOKEN=%s\n",
		base, b.organization.ID, b.token)
}

// bootstrap makes the first organization with its administrator, token and invitation; nil when there is one already.
func bootstrap(ctx context.Context, sys *system, organization, name, email string) (*bootstrapped, error) {
	b := &bootstrapped{}
	var err error
	b.organization, b.admin, err = sys.signing.Bootstrap(ctx, organization, name, email, b.welcome(ctx, sys.auth))
	if signing.KindOf(err) == signing.KindConflict {
		return nil, nil
	} else if err != nil {
		return nil, fmt.Errorf("create the first organization: %w", err)
	}
	return b, nil
}

// welcome gives a new organization's administrator a token and an invitation, in the transaction that makes the organization.
func (b *bootstrapped) welcome(ctx context.Context, a *auth.Service) func(signing.Tx, *signing.User) error {
	return func(tx signing.Tx, admin *signing.User) (err error) {
		by := userActor(admin)
		if b.invitation, b.expires, err = a.InviteTx(ctx, tx, by, admin.ID); err != nil {
			return fmt.Errorf("invite the administrator: %w", err)
		}
		if b.token, _, err = a.IssueTokenTx(ctx, tx, by, signing.UserToken, admin.ID, auth.TokenOptions{Name: "first start"}); err != nil {
			return fmt.Errorf("issue the administrator's token: %w", err)
		}
		return nil
	}
}

// userActor lets set-up act as a user that it just created.
func userActor(u *signing.User) signing.Actor {
	return signing.Actor{OrganizationID: u.OrganizationID, UserID: u.ID, Kind: u.Kind, Name: u.Name, Roles: u.Roles, Via: "set-up"}
}

type workerCmd struct {
	storage
	logging `set:"log_level=info"`
	work
}

// Help is shown by kong.
func (*workerCmd) Help() string {
	return `For example:

    countersign worker --database postgres://countersign@db/countersign --data /srv/shared/countersign

Workers share the database, and below --data the artifacts and the master key, with the server.` + serverExitCodes("the worker could not start, or failed")
}

// Validate is called by kong.
func (c *workerCmd) Validate() error { return errors.Join(c.storage.check(), c.work.check()) }

// Run works until interrupted.
func (c *workerCmd) Run(ctx context.Context, io console) error {
	if c.embedded() {
		return &exitError{exitUsage, errors.New("a further worker needs PostgreSQL (--database postgres://...): an embedded database serves one process, and 'countersign serve' has a worker inside")}
	}
	log := c.logger(io.err)
	sys, err := open(ctx, c.storage, c.work, log, nil, embedded{})
	if err != nil {
		return err
	}
	defer sys.close(context.WithoutCancel(ctx))
	log.Info("working", "version", buildVersion())
	return sys.runWorker(ctx)
}

type migrateCmd struct {
	storage
	logging `set:"log_level=info"`
}

// Help is shown by kong.
func (*migrateCmd) Help() string {
	return `The server does this when it starts; do it by hand to see that it works before an update.

    countersign migrate --database postgres://countersign@db/countersign` + localExitCodes("the schema could not be changed")
}

// Validate is called by kong.
func (c *migrateCmd) Validate() error { return c.check() }

// Run migrates and exits.
func (c *migrateCmd) Run(ctx context.Context, io console) error {
	db, lock, err := c.openDatabase(ctx, c.logger(io.err))
	if err != nil {
		return err
	}
	defer lock.Close()
	if err := db.Close(); err != nil {
		return err
	}
	_, err = fmt.Fprintln(io.out, "The database is at this version's schema.")
	return err
}
