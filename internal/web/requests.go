package web

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/countersign-dev/countersign/internal/signing"
)

// dashboardData is what the start page shows.
type dashboardData struct {
	waiting  *signing.Page[*signing.RequestRow] // for the user's decision
	mine     *signing.Page[*signing.RequestRow]
	projects []*signing.ProjectView
}

const dashboardRows = 8

func (x *exchange) dashboard() error {
	ctx := x.r.Context()
	var d dashboardData
	var err error
	if d.waiting, err = x.Signing.Requests(ctx, x.actor, signing.RequestQuery{AwaitingMe: true, Limit: dashboardRows}); err != nil {
		return err
	}
	if d.mine, err = x.Signing.Requests(ctx, x.actor, signing.RequestQuery{Mine: true, Limit: dashboardRows}); err != nil {
		return err
	}
	if d.projects, err = x.Signing.Projects(ctx, x.actor); err != nil {
		return err
	}
	return x.render(http.StatusOK, dashboardView(x, d))
}

// submittable says whether a person may submit to a policy on the page, and when only a rule stands in the way, which.
func submittable(p *signing.ProjectView, policy *signing.Policy) (ok bool, why string) {
	switch {
	case !p.MaySubmit[policy.ID] || !p.Active || !policy.Active:
		return false, ""
	case wantsOrigin(policy):
		return false, "takes signing requests only from a trusted build system"
	}
	return true, ""
}

// wantsOrigin says whether a policy takes only what a trusted build system vouches for.
func wantsOrigin(p *signing.Policy) bool {
	return p.Rules.RequireTrustedBuildSystem || p.Rules.VerifyOrigin
}

// listData is what the list of signing requests shows.
type listData struct {
	query    signing.RequestQuery
	status   signing.Status // the one chosen; empty: all
	projects []*signing.ProjectView
	page     *signing.Page[*signing.RequestRow]
	problem  string
}

var statuses = []signing.Status{
	signing.InProgress, signing.WaitingForApproval, signing.Completed, signing.Failed, signing.Denied, signing.Canceled,
}

const listRows = 25

func (x *exchange) requestList() error {
	ctx, q := x.r.Context(), x.r.URL.Query()
	d := listData{query: signing.RequestQuery{
		Mine: q.Get("mine") != "", AwaitingMe: q.Get("waiting") != "", FileName: strings.TrimSpace(q.Get("file")), Limit: listRows,
	}}
	// One menu names both: "project" or "project/policy". Slugs hold no slash.
	d.query.ProjectSlug, d.query.PolicySlug, _ = strings.Cut(q.Get("project"), "/")
	if s := signing.Status(q.Get("status")); slices.Contains(statuses, s) && !d.query.AwaitingMe {
		d.status, d.query.Statuses = s, []signing.Status{s}
	}
	if after, ok := signing.ParseID(q.Get("after")); ok {
		d.query.After = after
	}
	var err error
	if d.projects, err = x.Signing.Projects(ctx, x.actor); err != nil {
		return err
	}
	status := http.StatusOK
	d.page, err = x.Signing.Requests(ctx, x.actor, d.query)
	if signing.KindOf(err) == signing.KindInvalid {
		status, d.problem, d.page = http.StatusUnprocessableEntity, problemsOf(err).all(), &signing.Page[*signing.RequestRow]{}
	} else if err != nil {
		return err
	}
	return x.render(status, listView(x, d))
}

// searching says whether nothing was found yet, and older requests were not looked at.
func (d listData) searching() bool { return len(d.page.Items) == 0 && d.page.Next != "" }

// listLink returns the address of the list with the same filters, from another row on.
func (x *exchange) listLink(d listData, after signing.ID) string {
	on := func(b bool) string {
		if b {
			return "on"
		}
		return ""
	}
	return withQuery(x.link("SigningRequests"), "project", d.projectChoice(), "status", string(d.status), "file", d.query.FileName,
		"mine", on(d.query.Mine), "waiting", on(d.query.AwaitingMe), "after", string(after))
}

func (d listData) projectChoice() string {
	if d.query.PolicySlug != "" {
		return d.query.ProjectSlug + "/" + d.query.PolicySlug
	}
	return d.query.ProjectSlug
}

func (d listData) filtered() bool {
	return d.query.ProjectSlug != "" || d.status != "" || d.query.FileName != "" || d.query.Mine || d.query.AwaitingMe
}

// requestData is what the page of a signing request shows.
type requestData struct {
	*signing.RequestView
	original    *signing.RequestView // nil: none, or not readable
	certificate *signing.Certificate
	plan        *planned
	result      *signed
	history     []happening // loaded by loadHistory
}

// planned and signed are the engine's plan and result as the domain keeps them in JSON, as far as the page shows them.
type planned struct {
	Root       *plannedFile `json:"root"`
	Violations []struct {
		Code    string `json:"code"`
		Path    string `json:"path"`
		Rule    string `json:"rule"`
		Line    int    `json:"line"`
		Message string `json:"message"`
		Hint    string `json:"hint"`
	} `json:"violations"`
}

type plannedFile struct {
	Path       string `json:"path"`
	Type       string `json:"type"`
	Size       int64  `json:"size"`
	SHA256     string `json:"sha256"`
	Action     string `json:"action"`
	Reason     string `json:"reason"`
	Directives []struct {
		Method string `json:"method"`
	} `json:"directives"`
	Files []*plannedFile `json:"files"`
}

type signed struct {
	Files []signedFile `json:"files"`
}

type signedFile struct {
	Path        string `json:"path"` // from the artifact's top; empty for the artifact itself
	SHA256After string `json:"sha256After"`
	Signatures  []struct {
		Method        string `json:"method"`
		HashAlgorithm string `json:"hashAlgorithm"`
		Digest        string `json:"digest"`
	} `json:"signatures"`
}

// maxTree bounds the files that a page shows of an artifact.
const maxTree = 2000

// prune keeps the files of which there is something to say, at most max of them, and counts what it leaves out.
func (f *plannedFile) prune(max *int) (left int) {
	kept := f.Files[:0]
	for _, c := range f.Files {
		if c == nil {
			continue
		}
		if c.Action == "leave" || *max <= 0 {
			left += c.count()
			continue
		}
		*max--
		left += c.prune(max)
		kept = append(kept, c)
	}
	f.Files = kept
	return left
}

func (f *plannedFile) count() int {
	n := 1
	for _, c := range f.Files {
		if c != nil {
			n += c.count()
		}
	}
	return n
}

func (x *exchange) requestID() (signing.ID, error) {
	id, ok := signing.ParseID(x.values["request"])
	if !ok {
		return "", signing.Errorf(signing.KindNotFound, "There is no such signing request in this organization.")
	}
	return id, nil
}

func (x *exchange) requestPage() error {
	d, err := x.loadRequest()
	if err != nil {
		return err
	}
	if err := x.loadHistory(d); err != nil {
		return err
	}
	return x.render(http.StatusOK, requestView(x, d))
}

func (x *exchange) loadRequest() (*requestData, error) {
	id, err := x.requestID()
	if err != nil {
		return nil, err
	}
	ctx := x.r.Context()
	d := &requestData{}
	if d.RequestView, err = x.Signing.Request(ctx, x.actor, id); err != nil {
		return nil, err
	}
	if d.OriginalID != "" {
		if d.original, err = x.Signing.Request(ctx, x.actor, d.OriginalID); err != nil && signing.KindOf(err) != signing.KindNotFound {
			return nil, err
		}
	}
	if d.certificate, err = x.Signing.RequestCertificate(ctx, x.actor, id); err != nil {
		return nil, err
	}
	resolved, err := x.Signing.Resolved(ctx, x.actor, id)
	if signing.KindOf(err) == signing.KindNotFound {
		return d, nil
	} else if err != nil {
		return nil, err
	}
	if len(resolved.Plan) > 0 {
		if err := json.Unmarshal(resolved.Plan, &d.plan); err != nil {
			return nil, fmt.Errorf("stored plan of signing request %s: %w", id, err)
		}
	}
	if len(resolved.Result) > 0 {
		if err := json.Unmarshal(resolved.Result, &d.result); err != nil {
			return nil, fmt.Errorf("stored result of signing request %s: %w", id, err)
		}
	}
	return d, nil
}

func (x *exchange) downloadUnsigned() error { return x.download(x.Signing.UnsignedArtifact) }
func (x *exchange) downloadSigned() error   { return x.download(x.Signing.SignedArtifact) }
func (x *exchange) downloadBuildSettings() error {
	return x.download(x.Signing.BuildSettingsFile)
}
