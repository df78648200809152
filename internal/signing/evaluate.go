package signing

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"
)

// evaluate checks a request against its signing policy and certificate as they are now. by is who vouched for the request,
// stamps whether this server can have timestamps made. It is pure: the same inputs give the same verifications, always of the
// same names. It runs when a request is submitted and again before it is signed.
func evaluate(now time.Time, r *Request, project *Project, policy *Policy, certificate *Certificate, by voucher, stamps bool) []Verification {
	e := evaluation{now: now}
	e.check("Active", project.Active && policy.Active,
		fmt.Sprintf("Project '%s' and signing policy '%s' are active.", project.Slug, policy.Slug),
		fmt.Sprintf("Project '%s' or signing policy '%s' is deactivated.", project.Slug, policy.Slug),
		"Activate them, then resubmit.",
		input("project", activeText(project.Slug, project.Active)), input("signing policy", activeText(policy.Slug, policy.Active)))
	e.certificate(certificate)
	e.restrictions(policy, certificate)
	e.timestamp(policy.Rules, stamps)
	origin := r.Origin
	if origin == nil {
		origin = &Origin{}
	}
	e.buildSystem(project, policy.Rules, by)
	e.hosts(origin, by)
	e.source(origin, project, policy.Rules)
	return e.done
}

func activeText(name string, active bool) string {
	if active {
		return name + " (active)"
	}
	return name + " (deactivated)"
}

type evaluation struct {
	now  time.Time
	done []Verification
}

func input(name, value string) VerificationInput { return VerificationInput{Name: name, Value: value} }

func (e *evaluation) check(name string, ok bool, passed, failed, remedy string, inputs ...VerificationInput) {
	v := Verification{Name: name, Result: Passed, Explanation: passed, Inputs: inputs, At: e.now}
	if !ok {
		v.Result, v.Explanation, v.Remedy = NotPassed, failed, remedy
	}
	e.done = append(e.done, v)
}

func (e *evaluation) skip(name, why string, inputs ...VerificationInput) {
	e.done = append(e.done, Verification{Name: name, Result: NotRequired, Explanation: why, Inputs: inputs, At: e.now})
}

// timestamp checks that signatures can be timestamped where the policy wants that.
func (e *evaluation) timestamp(rules PolicyRules, stamps bool) {
	if !rules.RequireTimestamp {
		e.skip("Timestamp", "The signing policy does not ask for a timestamp.")
		return
	}
	e.check("Timestamp", stamps,
		"The signing policy requires a timestamp, and this server has a timestamp authority: nothing is signed without one.",
		"The signing policy requires a timestamp, but this server has no timestamp authority configured.",
		"Give the server one (--timestamp), then resubmit.",
		input("timestamp authority", map[bool]string{true: "configured", false: "none"}[stamps]))
}

// buildSystem checks who vouches for the request, and names it.
func (e *evaluation) buildSystem(project *Project, rules PolicyRules, by voucher) {
	inputs := []VerificationInput{input("trusted build system", by.name), input("linked to the project", strings.Join(by.linked, ", "))}
	switch {
	case rules.WantsBuildSystem():
	case by.name == "":
		e.skip("TrustedBuildSystem", "The signing policy does not ask for a trusted build system.")
		return
	default:
		e.skip("TrustedBuildSystem", "The signing policy does not ask for a trusted build system; one vouched for the request all the same.", inputs...)
		return
	}
	failed := ""
	switch {
	case by.name == "":
		failed = "The request did not come from a trusted build system."
	case by.system == nil:
		failed = fmt.Sprintf("The request came from the trusted build system %s, which was deleted since.", by.name)
	case !slices.Contains(project.TrustedBuildSystems, by.system.ID):
		failed = fmt.Sprintf("The request came from the trusted build system %s, which is not linked to the project.", by.name)
	}
	e.check("TrustedBuildSystem", failed == "",
		fmt.Sprintf("The trusted build system %s, which is linked to the project, vouched for the request.", by.name),
		failed, "Submit with the token of a trusted build system that is linked to the project.", inputs...)
}

// hosts checks that a build system that belongs to certain hosts vouches for an origin there.
func (e *evaluation) hosts(o *Origin, by voucher) {
	const name = "BuildSystemHosts"
	switch {
	case by.system == nil:
		e.skip(name, "No trusted build system vouches for the request.")
		return
	case len(by.system.RepositoryHosts())+len(by.system.BuildHosts()) == 0:
		e.skip(name, "The trusted build system is bound to no hosts: it may vouch for any origin.", input("trusted build system", by.name))
		return
	}
	repository := o.RepositoryURL == "" || onHosts(urlHost(repositoryKey(o.RepositoryURL)), by.system.RepositoryHosts())
	build := o.BuildURL == "" || onHosts(urlHost(o.BuildURL), by.system.BuildHosts())
	hosts := func(list []string) string {
		if len(list) == 0 {
			return "any"
		}
		return strings.Join(list, ", ")
	}
	e.check(name, repository && build,
		fmt.Sprintf("The origin lies on the hosts that the trusted build system %s may vouch for.", by.name),
		fmt.Sprintf("The trusted build system %s cannot vouch for this %s: it is on another host.", by.name, map[bool]string{true: "build", false: "repository"}[repository]),
		"Send the origin of the build that runs there, or add a trusted build system for the other host and link it to the project.",
		input("trusted build system", by.name),
		input("repository", o.RepositoryURL), input("hosts of repositories", hosts(by.system.RepositoryHosts())),
		input("build", o.BuildURL), input("hosts of builds", hosts(by.system.BuildHosts())))
}

// source checks the repository, branch and commit.
func (e *evaluation) source(o *Origin, project *Project, rules PolicyRules) {
	repository := []VerificationInput{input("repository", o.RepositoryURL), input("project's repositories", strings.Join(project.Repositories, ", "))}
	branch := []VerificationInput{input("branch", o.BranchName), input("allowed branches", strings.Join(rules.AllowedBranches, ", "))}
	commit := input("commit", o.CommitID)
	if !rules.VerifyOrigin {
		const why = "The signing policy does not ask for a verified origin."
		e.skip("Repository", why, repository...)
		e.skip("Branch", why, branch[0])
		e.skip("Commit", why, commit)
		return
	}
	e.check("Repository", slices.ContainsFunc(project.Repositories, func(u string) bool { return sameRepository(u, o.RepositoryURL) }),
		"The source repository is one of the project's.",
		orNames(o.RepositoryURL, "The source repository is none of the project's.", "The request names no source repository."),
		"Build from a repository of the project, or add this repository to the project.", repository...)
	if len(rules.AllowedBranches) == 0 {
		e.skip("Branch", "The signing policy allows every branch.", branch[0])
	} else {
		e.check("Branch", o.BranchName != "" && slices.ContainsFunc(rules.AllowedBranches, func(p string) bool { return matchBranch(p, o.BranchName) }),
			"The branch is allowed by the signing policy.",
			orNames(o.BranchName, "The branch is not allowed by the signing policy.", "The request names no branch."),
			"Build from an allowed branch ('*' stands for anything but '/', '**' for anything; case matters), or allow this branch in the signing policy.", branch...)
	}
	e.check("Commit", o.CommitID != "",
		"The request names the source commit.",
		"The request does not name the source commit.",
		"Send Origin.RepositoryData.CommitId.", commit)
}

// orNames returns what is said of a value, or of there being none.
func orNames(value, given, absent string) string {
	if value == "" {
		return absent
	}
	return given
}

// originNotTaken says that an origin was sent by somebody whose word does not count.
func originNotTaken(now time.Time) Verification {
	return Verification{Name: "Origin", Result: NotRequired, At: now,
		Explanation: "The submission named an origin, but no trusted build system vouched for it: it was not kept.",
		Remedy:      "Send it with 'Authorization: Bearer <apiToken>:<trustedBuildSystemToken>'.",
	}
}

// digestOf checks that an artifact which came after its request is the announced one. Hashes are lower-case hexadecimal;
// announced may be empty.
func digestOf(now time.Time, announced, received string) Verification {
	e := evaluation{now: now}
	inputs := []VerificationInput{input("announced SHA-256", announced), input("received SHA-256", received)}
	if announced == "" {
		e.skip("ArtifactDigest", "The submission announced no hash: any artifact was taken.", inputs...)
	} else {
		e.check("ArtifactDigest", announced == received,
			"The artifact is the one that the submission announced.",
			"The artifact is not the one that the submission announced.",
			"Submit again with the hash of the artifact, or have the announced artifact delivered.", inputs...)
	}
	return e.done[0]
}

// putVerifications stores checks of a request in place of earlier ones of the same name; the others stay.
func putVerifications(ctx context.Context, tx Tx, r *Request, checks ...Verification) error {
	all, err := tx.Verifications(ctx, r.ID)
	if err != nil {
		return err
	}
	for _, v := range checks {
		if i := slices.IndexFunc(all, func(w Verification) bool { return w.Name == v.Name }); i >= 0 {
			all[i] = v
		} else {
			all = append(all, v)
		}
	}
	return tx.PutVerifications(ctx, r.ID, all)
}

// unusable says why a certificate cannot sign now, and what to do; empty when it can.
func (c *Certificate) unusable(now time.Time) (failed, remedy string) {
	switch {
	case c.KeyDeletedAt != nil:
		return "The certificate's private key was deleted.", "Give the signing policy another certificate."
	case !c.Active:
		return "The certificate is deactivated.", "Activate it, or give the signing policy another certificate."
	case len(c.Chain) == 0:
		return "The certificate was not issued yet: only its signing request (CSR) exists.", "Upload the issued certificate."
	case now.Before(c.NotBefore):
		return "The certificate is not valid yet.", "Wait, or give the signing policy another certificate."
	case !now.Before(c.NotAfter):
		return "The certificate expired.", "Renew it, or give the signing policy another certificate."
	}
	return "", ""
}

func (e *evaluation) certificate(c *Certificate) {
	failed, remedy := c.unusable(e.now)
	e.check("Certificate", failed == "", "The certificate is active and within its validity.", failed, remedy,
		input("certificate", c.Slug), input("subject", c.Subject), input("valid until", c.NotAfter.Format(time.RFC3339)))
}

func (e *evaluation) restrictions(p *Policy, c *Certificate) {
	wanted, missing := c.Restrictions.missing(PolicyRules{}), c.Restrictions.missing(p.Rules)
	if len(wanted) == 0 {
		e.skip("CertificateRestrictions", "The certificate wants no rules of the signing policies that use it.", input("certificate", c.Slug))
		return
	}
	e.check("CertificateRestrictions", len(missing) == 0,
		"The signing policy has the rules that its certificate wants.",
		"The signing policy lacks rules that its certificate wants: "+strings.Join(missing, ", ")+".",
		"Add these rules to the signing policy.",
		input("certificate", c.Slug), input("wanted rules", strings.Join(wanted, ", ")), input("signing policy", p.Slug))
}

// missing lists the rules that the certificate wants and the policy does not have.
func (c CertificateRestrictions) missing(r PolicyRules) []string {
	var m []string
	switch n := c.MinimumApprovals; {
	case r.RequiredApprovals >= n:
	case n == 1:
		m = append(m, "at least 1 approval")
	default:
		m = append(m, fmt.Sprintf("at least %d approvals", n))
	}
	if c.SubmitterMayNotApprove && !r.SubmitterMayNotApprove {
		m = append(m, "submitter may not approve")
	}
	if c.RequireTrustedBuildSystem && !r.RequireTrustedBuildSystem {
		m = append(m, "only trusted build systems")
	}
	if c.VerifyOrigin && !r.VerifyOrigin {
		m = append(m, "verified origin")
	}
	if c.StrictConfiguration && !r.StrictConfiguration {
		m = append(m, "strict configuration")
	}
	if c.RequireTimestamp && !r.RequireTimestamp {
		m = append(m, "require timestamp")
	}
	return m
}

// policyFailure returns why the policy refuses the request, or nil.
func policyFailure(checks []Verification) *Failure {
	var details []string
	for _, v := range checks {
		if v.Result == NotPassed {
			details = append(details, v.Explanation+" "+v.Remedy)
		}
	}
	if len(details) == 0 {
		return nil
	}
	return &Failure{Code: "Policy", Message: "The signing policy refuses the request: " + details[0], Details: details}
}

// binding hashes what an approver decides on: the request, and the ruling that it stands under. When any of it changes, earlier
// approvals count no more.
func binding(r *Request, p *Policy, c *Certificate) string {
	return hashOf(struct {
		Artifact, Configuration string
		Version                 int
		Parameters              map[string]string
		Origin                  *Origin
	}{r.Unsigned.SHA256, string(r.ConfigurationID), r.ConfigurationVersion, r.Parameters, r.Origin}) + ruling(p, c)
}

// ruling hashes what may change while a request waits: its policy and certificate.
func ruling(p *Policy, c *Certificate) string {
	leaf := [sha256.Size]byte{}
	if len(c.Chain) > 0 {
		leaf = sha256.Sum256(c.Chain[0])
	}
	return hashOf(struct {
		Policy        ID
		PolicyVersion int
		Certificate   ID
		Leaf          string
	}{p.ID, p.ApprovalVersion, c.ID, hex.EncodeToString(leaf[:])})
}

func hashOf(v any) string {
	text, _ := json.Marshal(v) // plain strings and numbers cannot fail to encode
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:])
}
