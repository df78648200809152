package signing

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"
)

// evaluate checks a request against its signing policy and certificate as they are now. system is the trusted build system
// that vouched for the request, nil when there is none. It is pure: the same inputs give the same verifications. It runs when
// a request is submitted and again before it is signed.
func evaluate(now time.Time, r *Request, project *Project, policy *Policy, certificate *Certificate, system *TrustedBuildSystem) []Verification {
	e := evaluation{now: now}
	e.check("Active", project.Active && policy.Active,
		fmt.Sprintf("Project '%s' and signing policy '%s' are active.", project.Slug, policy.Slug),
		fmt.Sprintf("Project '%s' or signing policy '%s' is deactivated.", project.Slug, policy.Slug),
		"Activate them, then resubmit.")
	e.certificate(certificate)
	e.restrictions(policy, certificate)

	rules := policy.Rules
	e.buildSystem(r, project, rules, system)
	e.hosts(r.Origin, system)
	if !rules.VerifyOrigin {
		e.skip("Repository", "The signing policy does not ask for a verified origin.")
		e.skip("Branch", "The signing policy does not ask for a verified origin.")
		return e.done
	}
	origin := r.Origin
	if origin == nil {
		origin = &Origin{}
	}
	known := slices.ContainsFunc(project.Repositories, func(u string) bool { return sameRepository(u, origin.RepositoryURL) })
	e.check("Repository", known,
		"The source repository is one of the project's.",
		map[bool]string{true: "The request names no source repository.", false: "The source repository is none of the project's."}[origin.RepositoryURL == ""],
		"Build from a repository of the project, or add this repository to the project.",
		input("repository", origin.RepositoryURL), input("project's repositories", strings.Join(project.Repositories, ", ")))
	if len(rules.AllowedBranches) == 0 {
		e.skip("Branch", "The signing policy allows every branch.")
	} else {
		ok := origin.BranchName != "" && slices.ContainsFunc(rules.AllowedBranches, func(p string) bool { return matchBranch(p, origin.BranchName) })
		e.check("Branch", ok,
			"The branch is allowed by the signing policy.",
			map[bool]string{true: "The request names no branch.", false: "The branch is not allowed by the signing policy."}[origin.BranchName == ""],
			"Build from an allowed branch, or allow this branch in the signing policy.",
			input("branch", origin.BranchName), input("allowed branches", strings.Join(rules.AllowedBranches, ", ")))
	}
	e.check("Commit", origin.CommitID != "",
		"The request names the source commit.",
		"The request does not name the source commit.",
		"Send Origin.RepositoryData.CommitId.",
		input("commit", origin.CommitID))
	return e.done
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

// buildSystem checks who vouches for the request, and names it.
func (e *evaluation) buildSystem(r *Request, project *Project, rules PolicyRules, system *TrustedBuildSystem) {
	name := string(r.TrustedBuildSystemID) // of one that is gone
	if system != nil {
		name = system.display()
	}
	if !rules.WantsBuildSystem() {
		if system == nil {
			e.skip("TrustedBuildSystem", "The signing policy does not ask for a trusted build system.")
		} else {
			e.skip("TrustedBuildSystem", "The signing policy does not ask for a trusted build system; one vouched for the request all the same.",
				input("trusted build system", name))
		}
		return
	}
	failed := ""
	switch {
	case r.TrustedBuildSystemID == "":
		failed = "The request did not come from a trusted build system."
	case system == nil:
		failed = "The trusted build system that the request came from was deleted."
	case !slices.Contains(project.TrustedBuildSystems, system.ID):
		failed = fmt.Sprintf("The request came from the trusted build system %s, which is not linked to the project.", name)
	}
	e.check("TrustedBuildSystem", failed == "",
		fmt.Sprintf("The trusted build system %s, which is linked to the project, vouched for the request.", name),
		failed, "Submit with the token of a trusted build system that is linked to the project.", input("trusted build system", name))
}

// hosts checks that a build system that belongs to certain hosts vouches for an origin there.
func (e *evaluation) hosts(o *Origin, system *TrustedBuildSystem) {
	if o == nil || system == nil || len(system.RepositoryHosts())+len(system.BuildHosts()) == 0 {
		return
	}
	repository := o.RepositoryURL == "" || onHosts(urlHost(repositoryKey(o.RepositoryURL)), system.RepositoryHosts())
	build := o.BuildURL == "" || onHosts(urlHost(o.BuildURL), system.BuildHosts())
	hosts := func(list []string) string {
		if len(list) == 0 {
			return "any"
		}
		return strings.Join(list, ", ")
	}
	e.check("BuildSystemHosts", repository && build,
		fmt.Sprintf("The origin lies on the hosts that the trusted build system %s may vouch for.", system.display()),
		fmt.Sprintf("The trusted build system %s cannot vouch for this %s: it is on another host.", system.display(), map[bool]string{true: "build", false: "repository"}[repository]),
		"Send the origin of the build that runs there, or add a trusted build system for the other host and link it to the project.",
		input("trusted build system", system.display()),
		input("repository", o.RepositoryURL), input("hosts of repositories", hosts(system.RepositoryHosts())),
		input("build", o.BuildURL), input("hosts of builds", hosts(system.BuildHosts())))
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
	missing := c.Restrictions.missing(p.Rules)
	e.check("CertificateRestrictions", len(missing) == 0,
		"The signing policy has the rules that its certificate wants.",
		"The signing policy lacks rules that its certificate wants: "+strings.Join(missing, ", ")+".",
		"Add these rules to the signing policy.")
}

// missing lists the rules that the certificate wants and the policy does not have.
func (c CertificateRestrictions) missing(r PolicyRules) []string {
	var m []string
	if r.RequiredApprovals < c.MinimumApprovals {
		m = append(m, fmt.Sprintf("at least %d approvals", c.MinimumApprovals))
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

// binding hashes what an approver decides on. When any of it changes, earlier approvals count no more.
func binding(r *Request, p *Policy, c *Certificate) string {
	leaf := [sha256.Size]byte{}
	if len(c.Chain) > 0 {
		leaf = sha256.Sum256(c.Chain[0])
	}
	text, _ := json.Marshal(struct { // plain strings and numbers cannot fail to encode
		Artifact, Configuration string
		Version                 int
		Parameters              map[string]string
		Policy                  ID
		PolicyVersion           int
		Certificate             ID
		Leaf                    string
		Origin                  *Origin
	}{r.Unsigned.SHA256, string(r.ConfigurationID), r.ConfigurationVersion, r.Parameters, p.ID, p.ApprovalVersion, c.ID, hex.EncodeToString(leaf[:]), r.Origin})
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:])
}

// sameRepository compares two repository URLs: scheme (https, ssh and scp-like spellings of one host are equal), user
// and ".git" do not matter, host names and the paths of hosts known to ignore case are compared without case.
func sameRepository(a, b string) bool {
	ka, kb := repositoryKey(a), repositoryKey(b)
	return ka != "" && ka == kb
}

func repositoryKey(raw string) string {
	raw = strings.TrimSpace(raw)
	if raw == "" {
		return ""
	}
	if !strings.Contains(raw, "://") {
		// scp-like: [user@]host:path
		if host, path, ok := strings.Cut(raw, ":"); ok && !strings.Contains(host, "/") {
			raw = "ssh://" + host + "/" + path
		}
	}
	u, err := url.Parse(raw)
	if err != nil || u.Hostname() == "" {
		return ""
	}
	scheme := strings.ToLower(u.Scheme)
	port := u.Port()
	switch {
	case scheme == "ssh" || scheme == "git+ssh":
		if port == "22" {
			port = ""
		}
		scheme = "https" // the same host serves the same repository
	case scheme == "https" && port == "443", scheme == "http" && port == "80":
		port = ""
	}
	host := strings.TrimSuffix(strings.ToLower(u.Hostname()), ".")
	if port != "" {
		host += ":" + port
	}
	path := strings.Trim(u.Path, "/")
	path = strings.TrimSuffix(path, ".git")
	switch host {
	case "github.com", "gitlab.com", "bitbucket.org", "dev.azure.com", "codeberg.org":
		path = strings.ToLower(path)
	}
	if path == "" {
		return ""
	}
	return scheme + "://" + host + "/" + path
}

// matchBranch reports whether a branch matches a pattern: '*' stands for any characters but '/', '**' for any, '?' for
// one. "refs/heads/" in front of either is ignored. The time is linear in pattern times branch.
func matchBranch(pattern, branch string) bool {
	p := []rune(strings.TrimPrefix(pattern, "refs/heads/"))
	b := []rune(strings.TrimPrefix(branch, "refs/heads/"))
	// reach[j]: the pattern so far matches the first j characters.
	reach := make([]bool, len(b)+1)
	reach[0] = true
	for i := 0; i < len(p); i++ {
		switch {
		case p[i] == '*' && i+1 < len(p) && p[i+1] == '*':
			i++
			for j := 1; j <= len(b); j++ {
				reach[j] = reach[j] || reach[j-1]
			}
		case p[i] == '*':
			for j := 1; j <= len(b); j++ {
				reach[j] = reach[j] || (reach[j-1] && b[j-1] != '/')
			}
		default:
			for j := len(b); j >= 1; j-- {
				reach[j] = reach[j-1] && (p[i] == b[j-1] || p[i] == '?' && b[j-1] != '/')
			}
			reach[0] = false
		}
	}
	return reach[len(b)]
}
