package main

import (
	"context"
	"encoding/asn1"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"github.com/countersign-dev/countersign/artifact/timestamp"
	"github.com/countersign-dev/countersign/internal/auth"
	"github.com/countersign-dev/countersign/internal/signing"
)

type demoCmd struct {
	logging   `set:"log_level=warn"`
	Data      string `help:"Directory to keep the demo in, to continue it later. The default is a temporary one that goes with the process." type:"path" placeholder:"DIR"`
	Database  string `help:"Database: postgres://... for PostgreSQL. The default is an embedded SQLite file below --data." placeholder:"URL"`
	Listen    string `help:"Address to listen on; port 0 picks a free one." default:"127.0.0.1:8480"`
	ReadyFile string `help:"Write addresses, tokens and sign-in data as JSON to this file once the server is ready." type:"path" placeholder:"FILE"`
	Scenario  string `help:"Run the release scenario on this Windows executable: submit, test-sign, verify, resubmit, approve, release-sign, verify." type:"existingfile" placeholder:"FILE.exe"`
	Output    string `help:"Where --scenario leaves the signed files." default:"." type:"path" placeholder:"DIR"`
	Exit      bool   `help:"Stop after --scenario instead of serving on."`
	Workers   int    `help:"Signing requests processed at the same time; 0 picks two for each processor." default:"0"`
}

// Help is shown by kong.
func (*demoCmd) Help() string {
	return `A server with an organization in which everything is there to try: a project with the signing policies test-signing, release-signing and release-verified, certificates, a CI user, an approver, an administrator, and a timestamp authority.

    countersign demo --data ./demo                    # keeps it for the next time
    countersign demo --scenario app.exe --output out  # a release from the test signature to the approved one

Nothing that it signs is trusted anywhere but by whoever trusts its demo-ca.pem.` + serverExitCodes("a step of the scenario failed, or the server did")
}

// Validate is called by kong.
func (c *demoCmd) Validate() error {
	if c.Exit && c.Scenario == "" {
		return errors.New("--exit needs --scenario")
	}
	if c.Database != "" && c.Data == "" {
		return errors.New("--database needs --data: the directory keeps the master key of the database, and the artifacts")
	}
	return checkDatabase(c.Database)
}

// demoState is what a demo remembers between starts. It is the ready file, too.
type demoState struct {
	BaseURL                 string               `json:"baseUrl"`
	APIURL                  string               `json:"apiUrl"`
	OrganizationID          signing.ID           `json:"organizationId"`
	ProjectSlug             string               `json:"projectSlug"`
	Tokens                  demoTokens           `json:"tokens"`
	TrustedBuildSystemToken string               `json:"trustedBuildSystemToken"`
	Logins                  map[string]demoLogin `json:"logins"`
	CAFile                  string               `json:"caFile"`
}

type demoTokens struct {
	Admin    string `json:"admin"`
	CI       string `json:"ci"`
	Approver string `json:"approver"`
}

type demoLogin struct {
	Email    string `json:"email"`
	Password string `json:"password"`
}

const (
	demoStateFile = "demo.json"
	demoProject   = "demo"
	timestampPath = "/Timestamp"
)

// Run serves a seeded organization.
func (c *demoCmd) Run(ctx context.Context, io console) (err error) {
	if c.Data == "" {
		dir, err := os.MkdirTemp("", "countersign-demo-")
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
		c.Data = dir
	}
	log := c.logger(io.err)
	listener, err := listen(ctx, c.Listen, "", "")
	if err != nil {
		return err
	}
	defer closeQuietly(listener)
	base := listenerURL(listener, false)
	if err := os.MkdirAll(c.Data, 0o700); err != nil {
		return err
	}
	pki, err := openDemoPKI(filepath.Join(c.Data, "demo-pki"))
	if err != nil {
		return err
	}
	authority, err := timestamp.NewAuthority(timestamp.AuthorityOptions{
		Key: pki.timestampKey, Chain: pki.timestampChain, Logger: log,
		Policy: asn1.ObjectIdentifier{2, 25, 1311, 4, 1}, // an arbitrary policy below the UUID arc; nobody relies on a demo's
	})
	if err != nil {
		return err
	}
	files := storage{Data: c.Data, Database: c.Database}
	letters := &mailbox{public: base}
	sys, err := open(ctx, files, work{Workers: c.Workers}, log, []string{base.String()},
		embedded{timestamp: &timestamp.Member{Name: "embedded", Timestamper: authority}, mail: letters})
	if err != nil {
		return err
	}
	defer sys.close(context.WithoutCancel(ctx))
	state, err := demoSeed(ctx, sys, pki, c.Data)
	if err != nil {
		return err
	}
	state.BaseURL = base.String()
	state.APIURL = base.JoinPath("Api").String()
	h, err := sys.handler(nil, 0, "", nil)
	if err != nil {
		return err
	}
	h = mount(h, timestampPath, authority)
	h = mount(mount(h, mailboxPath, letters), mailboxPath+"/", letters)
	return c.serve(ctx, io, sys, listener, h, state, base)
}

// demoSeed returns the demo of the data directory, making it on the first start.
func demoSeed(ctx context.Context, sys *system, pki *demoPKI, data string) (*demoState, error) {
	path := filepath.Join(data, demoStateFile)
	state := &demoState{}
	raw, err := os.ReadFile(path)
	if err == nil {
		if err := json.Unmarshal(raw, state); err != nil {
			return nil, fmt.Errorf("read %s: %w", path, err)
		}
		return state, nil
	}
	if !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	s := seeder{sys: sys, pki: pki, state: state, data: data}
	if err := s.seed(ctx); err != nil {
		return nil, fmt.Errorf("seed the demo: %w", err)
	}
	return state, writeJSONFile(path, state)
}

// writeJSONFile writes a file that holds secrets, whole or not at all.
func writeJSONFile(path string, v any) error {
	raw, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	return writeFileWhole(path, append(raw, '\n'))
}

func writeFileWhole(path string, content []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-") // 0600
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(f.Name()) }() // it has another name by then when all went well
	_, err = f.Write(content)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}

// seeder makes the demo's organization.
type seeder struct {
	sys   *system
	pki   *demoPKI
	state *demoState
	data  string
	admin signing.Actor
}

func ptr[T any](v T) *T { return &v }

func (s *seeder) seed(ctx context.Context) error {
	o, u, err := s.sys.signing.Bootstrap(ctx, "Demo organization", "Ada Admin", "admin@demo.example")
	if signing.KindOf(err) == signing.KindConflict {
		return fmt.Errorf("%s holds another installation, or a demo whose first start was interrupted: choose another --data", s.data)
	}
	if err != nil {
		return err
	}
	s.admin = userActor(u)
	s.state.OrganizationID, s.state.ProjectSlug = o.ID, demoProject
	s.state.Logins = map[string]demoLogin{}
	if s.state.Tokens.Admin, err = s.person(ctx, "admin", u); err != nil {
		return err
	}
	approver, err := s.sys.signing.CreateUser(ctx, s.admin, signing.NewUser{Kind: signing.Interactive, Name: "Rita Release", Email: "approver@demo.example"})
	if err != nil {
		return err
	}
	if s.state.Tokens.Approver, err = s.person(ctx, "approver", approver); err != nil {
		return err
	}
	ci, err := s.sys.signing.CreateUser(ctx, s.admin, signing.NewUser{Kind: signing.CI, Name: "CI", Description: "Submits what the pipeline built."})
	if err != nil {
		return err
	}
	if s.state.Tokens.CI, _, err = s.sys.auth.IssueToken(ctx, s.admin, signing.UserToken, ci.ID, auth.TokenOptions{Name: "demo"}); err != nil {
		return err
	}
	if err := s.certificates(ctx); err != nil {
		return err
	}
	return s.project(ctx, u, approver, ci)
}

// person issues a token and sets a password.
func (s *seeder) person(ctx context.Context, name string, u *signing.User) (token string, err error) {
	if token, _, err = s.sys.auth.IssueToken(ctx, userActor(u), signing.UserToken, u.ID, auth.TokenOptions{Name: "demo"}); err != nil {
		return "", err
	}
	code, _, err := s.sys.auth.Invite(ctx, s.admin, u.ID)
	if err != nil {
		return "", err
	}
	password := "demo-" + string(signing.NewID())[24:]
	if _, err = s.sys.auth.AcceptInvitation(ctx, code, auth.SignInSetup{Password: password}, auth.Client{Address: "127.0.0.1"}); err != nil {
		return "", err
	}
	s.state.Logins[name] = demoLogin{Email: u.Email, Password: password}
	return token, nil
}

// certificates makes the self-signed test certificate and the release certificate that the demo's CA issues, and writes
// all that a verifier needs to trust.
func (s *seeder) certificates(ctx context.Context) error {
	const year = 365 * 24 * time.Hour
	test, err := s.sys.signing.CreateSelfSigned(ctx, s.admin, signing.NewCertificate{
		Slug: "test-certificate", Name: "Test certificate", Subject: "CN=Countersign demo test certificate,O=Demo organization", Validity: 3 * year,
	})
	if err != nil {
		return err
	}
	release, err := s.sys.signing.CreateRequest(ctx, s.admin, signing.NewCertificate{
		Slug: "release-certificate", Name: "Release certificate", Subject: "CN=Demo organization,O=Demo organization,C=AT",
		Restrictions: signing.CertificateRestrictions{MinimumApprovals: 1},
	})
	if err != nil {
		return err
	}
	issued, err := s.pki.issue(release.CSR, time.Now().Add(3*year))
	if err != nil {
		return err
	}
	if _, err := s.sys.signing.UploadCertificate(ctx, s.admin, release.Slug, issued); err != nil {
		return err
	}
	roots := append(encodeCertificate(test.Chain[0]), encodeCertificate(s.pki.root.Raw)...)
	s.state.CAFile = filepath.Join(s.data, "demo-ca.pem")
	return os.WriteFile(s.state.CAFile, roots, 0o644) //nolint:gosec // certificates are public
}

const (
	demoExeConfiguration = `<?xml version="1.0" encoding="utf-8"?>
<artifact-configuration xmlns="http://signpath.io/artifact-configuration/v1">
  <parameters>
    <parameter name="version" default-value="" required="false"/>
  </parameters>
  <pe-file>
    <authenticode-sign description="Countersign demo" description-url="https://github.com/acme/app"/>
  </pe-file>
</artifact-configuration>
`
	demoZipConfiguration = `<?xml version="1.0" encoding="utf-8"?>
<artifact-configuration xmlns="http://signpath.io/artifact-configuration/v1">
  <zip-file>
    <pe-file-set>
      <include path="**/*.exe" min-matches="0" max-matches="unbounded"/>
      <include path="**/*.dll" min-matches="0" max-matches="unbounded"/>
      <for-each>
        <authenticode-sign/>
      </for-each>
    </pe-file-set>
  </zip-file>
</artifact-configuration>
`
)

func (s *seeder) project(ctx context.Context, admin, approver, ci *signing.User) error {
	build, err := s.sys.signing.AddTrustedBuildSystem(ctx, s.admin, signing.TrustedBuildSystemEdit{
		Slug: ptr("demo-ci"), Name: ptr("Demo build system"), Description: ptr("Vouches for where the demo's artifacts come from."),
	})
	if err != nil {
		return err
	}
	if s.state.TrustedBuildSystemToken, _, err = s.sys.auth.IssueToken(ctx, s.admin, signing.BuildSystemToken, build.ID, auth.TokenOptions{Name: "demo"}); err != nil {
		return err
	}
	if _, err := s.sys.signing.CreateProject(ctx, s.admin, signing.ProjectEdit{
		Slug: ptr(demoProject), Name: ptr("Demo"), Description: ptr("A project to try everything out."),
		Repositories: ptr([]string{"https://github.com/acme/app"}), TrustedBuildSystems: ptr([]signing.ID{build.ID}),
	}); err != nil {
		return err
	}
	for _, c := range []signing.ConfigurationEdit{
		{Slug: ptr("exe"), Name: ptr("Windows executable"), XML: ptr(demoExeConfiguration)},
		{Slug: ptr("zip"), Name: ptr("ZIP archive of executables"), XML: ptr(demoZipConfiguration)},
	} {
		if _, err := s.sys.signing.CreateConfiguration(ctx, s.admin, demoProject, c); err != nil {
			return err
		}
	}
	submitters := ptr([]signing.Subject{{Kind: signing.SubjectUser, ID: ci.ID}, {Kind: signing.SubjectUser, ID: admin.ID}})
	approvers := ptr([]signing.Subject{{Kind: signing.SubjectUser, ID: approver.ID}})
	for _, p := range []signing.PolicyEdit{
		{Slug: ptr("test-signing"), Name: ptr("Test signing"), CertificateSlug: ptr("test-certificate"), Rules: &signing.PolicyRules{}},
		{Slug: ptr("release-signing"), Name: ptr("Release signing"), CertificateSlug: ptr("release-certificate"), Approvers: approvers,
			Rules: &signing.PolicyRules{RequiredApprovals: 1, SubmitterMayNotApprove: true, RequireTimestamp: true}},
		{Slug: ptr("release-verified"), Name: ptr("Release signing with verified origin"), CertificateSlug: ptr("release-certificate"), Approvers: approvers,
			Rules: &signing.PolicyRules{RequiredApprovals: 1, SubmitterMayNotApprove: true, RequireTimestamp: true,
				RequireTrustedBuildSystem: true, VerifyOrigin: true, AllowedBranches: []string{"main", "release/*"}}},
	} {
		p.Submitters = submitters
		if _, err := s.sys.signing.CreatePolicy(ctx, s.admin, demoProject, p); err != nil {
			return err
		}
	}
	return nil
}

// announce tells a newcomer what there is.
func (c *demoCmd) announce(io console, state *demoState, base *url.URL) error {
	if c.ReadyFile != "" {
		if err := writeJSONFile(c.ReadyFile, state); err != nil {
			return fmt.Errorf("write the ready file: %w", err)
		}
	}
	_, err := fmt.Fprintf(io.out, `Countersign demo is ready.

  Pages         %s
  REST API      %s  (reference: %s/swagger)
  Timestamps    %s
  Mailbox       %s
  Organization  %s, project %s
  Trust         %s

Sign in on the pages as
  Administrator %-22s %s
  Approver      %-22s %s

Paste into another terminal, to be the CI user and the trusted build system that release-verified wants:

  export COUNTERSIGN_URL=%s
  export COUNTERSIGN_ORGANIZATION=%s
  export COUNTERSIGN_TOKEN=%s
  export COUNTERSIGN_TRUSTED_BUILD_SYSTEM_TOKEN=%s
  countersign request submit --project demo --policy test-signing --output signed.exe YOUR.exe

The approver's COUNTERSIGN_TOKEN is %s,
and everything again, with the administrator's, is in %s. Ctrl+C stops the demo.

`, state.BaseURL, state.APIURL, state.APIURL, base.JoinPath(timestampPath), base.JoinPath(mailboxPath), state.OrganizationID, state.ProjectSlug, state.CAFile,
		state.Logins["admin"].Email, state.Logins["admin"].Password, state.Logins["approver"].Email, state.Logins["approver"].Password,
		state.BaseURL, state.OrganizationID, state.Tokens.CI, state.TrustedBuildSystemToken, state.Tokens.Approver, filepath.Join(c.Data, demoStateFile))
	return err
}
