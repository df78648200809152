package signing

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"
)

// RequestView is a request with all that its page and its REST resource show.
type RequestView struct {
	RequestRow
	Verifications     []Verification
	Approvals         []ApprovalView
	RequiredApprovals int
	GivenApprovals    int           // those that count
	Binding           string        // what an approval now would be bound to
	Resubmits         []*RequestRow // requests that resubmit this one and that the caller may read
	History           []HistoryEntry
	May               RequestPermissions
}

// ApprovalView is an approval and whether it still counts.
type ApprovalView struct {
	Approval
	Counts bool
}

// RequestPermissions are the actions that the caller may take on a request now.
type RequestPermissions struct {
	Approve  bool // and deny
	Cancel   bool
	Download bool
	Resubmit bool // under at least one of the project's policies
	Retry    bool // as Resubmit, of a failed request: with the current settings
}

// Request returns a request for its page. Unknown ones, and those that the actor may not read, are KindNotFound.
func (s *Service) Request(ctx context.Context, a Actor, id ID) (*RequestView, error) {
	var v *RequestView
	err := s.store.View(ctx, func(tx Tx) error {
		row, err := tx.RequestRow(ctx, a.OrganizationID, id)
		if KindOf(err) == KindNotFound {
			return errNoRequest()
		} else if err != nil {
			return err
		}
		sc, err := requestScope(ctx, tx, &row.Request)
		if err != nil {
			return err
		}
		if !allowed(a, OpReadRequest, sc) {
			return errNoRequest()
		}
		v = &RequestView{RequestRow: *row, RequiredApprovals: sc.policy.Rules.RequiredApprovals}
		return s.fillView(ctx, tx, a, sc, v)
	})
	return v, err
}

func (s *Service) fillView(ctx context.Context, tx Tx, a Actor, sc scope, v *RequestView) (err error) {
	r := &v.Request
	if v.Verifications, err = tx.Verifications(ctx, r.ID); err != nil {
		return err
	}
	certificate, err := tx.Certificate(ctx, r.OrganizationID, sc.policy.CertificateID)
	if err != nil {
		return err
	}
	ballot, err := readBallot(ctx, tx, r, sc.policy, certificate)
	if err != nil {
		return err
	}
	v.Binding = ballot.binding
	final := r.Workflow.Status().Final()
	for _, d := range ballot.decisions {
		v.Approvals = append(v.Approvals, ApprovalView{Approval: *d, Counts: ballot.counts(d)})
	}
	v.GivenApprovals = ballot.given()
	if v.History, err = history(ctx, tx, r); err != nil {
		return err
	}
	again := false
	if final { // nothing else can be resubmitted
		if again, err = s.fillResubmits(ctx, tx, a, sc, v); err != nil {
			return err
		}
	}
	v.May = RequestPermissions{
		Approve:  allowed(a, OpApprove, sc) && s.undecided(a, r, sc.policy, ballot.binding, ballot.decisions) == nil,
		Cancel:   !final && allowed(a, OpCancel, sc),
		Download: allowed(a, OpReadArtifact, sc),
		Resubmit: r.Workflow == WorkflowCompleted && again,
		Retry:    r.Workflow.Status() == Failed && again,
	}
	return nil
}

// fillResubmits fills in the requests that resubmit a final one, and returns whether the caller may, too.
func (s *Service) fillResubmits(ctx context.Context, tx Tx, a Actor, sc scope, v *RequestView) (may bool, err error) {
	r := &v.Request
	resubmits, err := tx.Resubmits(ctx, r.OrganizationID, r.ID)
	if err != nil {
		return false, err
	}
	policies, err := tx.Policies(ctx, r.OrganizationID, PolicyFilter{ProjectID: r.ProjectID})
	if err != nil {
		return false, err
	}
	for _, again := range resubmits {
		i := slices.IndexFunc(policies, func(p *Policy) bool { return p.ID == again.PolicyID })
		if i >= 0 && allowed(a, OpReadRequest, scope{project: sc.project, policy: policies[i], request: &again.Request}) {
			v.Resubmits = append(v.Resubmits, again)
		}
	}
	return r.ArtifactsDeletedAt == nil && r.Unsigned.BlobID != "" && sc.project.Active && slices.ContainsFunc(policies, func(p *Policy) bool {
		return p.Active && allowed(a, OpSubmit, scope{project: sc.project, policy: p})
	}), nil
}

// RequestStatus is the cheap status query that clients poll: one indexed read besides the permission check.
func (s *Service) RequestStatus(ctx context.Context, a Actor, id ID) (*Request, error) {
	var r *Request
	err := s.store.View(ctx, func(tx Tx) (err error) {
		r, err = readable(ctx, tx, a, id, OpReadRequest)
		return err
	})
	return r, err
}

// readable returns a request on which the actor may perform op.
func readable(ctx context.Context, tx Tx, a Actor, id ID, op Operation) (*Request, error) {
	r, err := tx.Request(ctx, a.OrganizationID, id)
	if KindOf(err) == KindNotFound {
		return nil, errNoRequest()
	} else if err != nil {
		return nil, err
	}
	if allowed(a, op, scope{request: r}) { // the submitter and all-seeing roles need no more reads
		return r, nil
	}
	sc, err := requestScope(ctx, tx, r)
	if err != nil {
		return nil, err
	}
	return r, requireVisible(a, sc, op)
}

// Page is one page of a list. Next is the cursor of the following page, empty on the last one. A page before the last may
// have fewer items than asked for, even none.
type Page[T any] struct {
	Items []T
	Next  ID
}

const maxPage = 200

// RequestQuery narrows a list of requests for a caller.
type RequestQuery struct {
	ProjectSlug    string
	PolicySlug     string // with ProjectSlug
	Statuses       []Status
	Mine           bool // submitted by the caller
	AwaitingMe     bool // the caller may approve or deny and has not yet
	ArtifactSHA256 string
	FileName       string
	OriginalID     ID
	After          ID
	Limit          int        // default 50, at most 200
	From, Before   *time.Time // created in this half-open interval
}

// Requests lists what the actor may read, newest first. Unknown slugs are KindInvalid.
func (s *Service) Requests(ctx context.Context, a Actor, q RequestQuery) (*Page[*RequestRow], error) {
	if !a.Allowed(OpListRequests) {
		return nil, require(a, OpListRequests, scope{})
	}
	switch {
	case q.Limit == 0:
		q.Limit = 50
	case q.Limit < 0 || q.Limit > maxPage:
		return nil, Invalid("PageSize", "The page size must be between 1 and %d.", maxPage)
	}
	var page Page[*RequestRow]
	err := s.store.View(ctx, func(tx Tx) error {
		filter := RequestFilter{
			Statuses: q.Statuses, ArtifactSHA256: strings.ToLower(q.ArtifactSHA256), FileName: q.FileName,
			OriginalID: q.OriginalID, After: q.After, Limit: q.Limit,
			CreatedFrom: q.From, CreatedBefore: q.Before,
		}
		if q.Mine {
			filter.SubmitterID = a.UserID
		}
		if err := narrow(ctx, tx, a, q, &filter); err != nil {
			return err
		}
		if q.AwaitingMe {
			return s.awaiting(ctx, tx, a, filter, &page)
		}
		var err error
		page.Items, page.Next, err = tx.RequestRows(ctx, a.OrganizationID, filter)
		return err
	})
	if err != nil {
		return nil, err
	}
	return &page, nil
}

// awaiting fills a page with those requests of the filter's policies, of which the actor is an approver, that she can decide
// on now: not her own where that is ruled out, and those that she decided on again when her decision fell.
func (s *Service) awaiting(ctx context.Context, tx Tx, a Actor, f RequestFilter, page *Page[*RequestRow]) error {
	*page = Page[*RequestRow]{}
	if len(f.PolicyIDs) == 0 {
		return nil
	}
	const lookups = 10 // for a page, so that a long list of what she submitted costs no more
	policies, certificates, err := rulings(ctx, tx, a.OrganizationID)
	if err != nil {
		return err
	}
	f.Undecided = &Undecided{UserID: a.UserID}
	for _, id := range f.PolicyIDs {
		f.Undecided.Rulings = append(f.Undecided.Rulings, ruling(policies[id], certificates[policies[id].CertificateID]))
	}
	wanted := f.Limit
	for range lookups {
		rows, next, err := tx.RequestRows(ctx, a.OrganizationID, f)
		if err != nil {
			return err
		}
		for i, r := range rows {
			if s.undecided(a, &r.Request, policies[r.PolicyID], "", nil) != nil {
				continue
			}
			if page.Items = append(page.Items, r); len(page.Items) == wanted {
				page.Next = ""
				if i < len(rows)-1 || next != "" {
					page.Next = r.ID
				}
				return nil
			}
		}
		if f.After, page.Next = next, next; next == "" {
			return nil
		}
		f.Limit = maxPage
	}
	return nil
}

// rulings reads an organization's signing policies and certificates: two queries, however many there are.
func rulings(ctx context.Context, tx Tx, org ID) (map[ID]*Policy, map[ID]*Certificate, error) {
	allPolicies, err := tx.Policies(ctx, org, PolicyFilter{})
	if err != nil {
		return nil, nil, err
	}
	allCertificates, err := tx.Certificates(ctx, org)
	if err != nil {
		return nil, nil, err
	}
	policies, certificates := make(map[ID]*Policy, len(allPolicies)), make(map[ID]*Certificate, len(allCertificates))
	for _, p := range allPolicies {
		policies[p.ID] = p
	}
	for _, c := range allCertificates {
		certificates[c.ID] = c
	}
	return policies, certificates, nil
}

// narrow resolves slugs and limits the filter to what the actor may read.
func narrow(ctx context.Context, tx Tx, a Actor, q RequestQuery, f *RequestFilter) error {
	org := a.OrganizationID
	var asked scope
	if q.ProjectSlug != "" {
		p, err := tx.ProjectBySlug(ctx, org, q.ProjectSlug)
		if err != nil {
			return fieldNotFound(err, "ProjectSlug", "There is no project with slug '%s'.", q.ProjectSlug)
		}
		f.ProjectID, asked.project = p.ID, p
	}
	if q.PolicySlug != "" {
		if f.ProjectID == "" {
			return Invalid("ProjectSlug", "A signing policy's slug needs its project's.")
		}
		p, err := tx.PolicyBySlug(ctx, org, f.ProjectID, q.PolicySlug)
		if err != nil {
			return fieldNotFound(err, "SigningPolicySlug", "There is no signing policy with slug '%s' in the project with slug '%s'.", q.PolicySlug, q.ProjectSlug)
		}
		f.ProjectID, f.PolicyIDs, asked.policy = "", []ID{p.ID}, p
	}
	// The less is left to the filter to sort out, the better indexes serve it.
	seesAll := q.Mine || allowed(a, OpReadRequest, asked)
	if seesAll && !q.AwaitingMe {
		return nil
	}
	policies, err := tx.Policies(ctx, org, PolicyFilter{ProjectID: f.ProjectID})
	if err != nil {
		return err
	}
	if asked.policy != nil {
		policies = []*Policy{asked.policy}
	}
	if q.AwaitingMe {
		f.PolicyIDs = nil
		for _, p := range policies {
			if allowed(a, OpApprove, scope{policy: p}) { // and may read what waits
				f.PolicyIDs = append(f.PolicyIDs, p.ID)
			}
		}
		f.Statuses = []Status{WaitingForApproval}
		return nil
	}
	v := &Visibility{UserID: a.UserID}
	for _, p := range policies {
		if allowed(a, OpReadRequest, scope{policy: p}) {
			v.Policies = append(v.Policies, p.ID)
		}
	}
	if asked.project == nil {
		projects, err := tx.Projects(ctx, org)
		if err != nil {
			return err
		}
		for _, p := range projects {
			if allowed(a, OpReadRequest, scope{project: p}) {
				v.Projects = append(v.Projects, p.ID)
			}
		}
	}
	if len(v.Policies)+len(v.Projects) == 0 { // then of what is asked for, what the actor submitted
		f.SubmitterID = a.UserID
		return nil
	}
	f.Visible = v
	return nil
}

// Download is an artifact's bytes together with its name and digest. The caller closes it.
type Download struct {
	File Artifact
	Blob Blob
}

// UnsignedArtifact opens the artifact as submitted.
func (s *Service) UnsignedArtifact(ctx context.Context, a Actor, id ID) (*Download, error) {
	return s.artifact(ctx, a, id, func(r *Request) (Artifact, error) {
		if r.Unsigned.BlobID == "" && r.ArtifactsDeletedAt == nil {
			return Artifact{}, Errorf(KindInvalid, "The signing request has no artifact yet; it is %s.", r.Workflow)
		}
		return r.Unsigned, nil
	})
}

// SignedArtifact opens the signed artifact. KindInvalid while there is none yet, KindNotFound when there will be none.
func (s *Service) SignedArtifact(ctx context.Context, a Actor, id ID) (*Download, error) {
	return s.artifact(ctx, a, id, func(r *Request) (Artifact, error) {
		switch status := r.Workflow.Status(); {
		case !status.Final():
			return Artifact{}, Errorf(KindInvalid, "The signed artifact is not available yet; the signing request is %s.", r.Workflow)
		case status != Completed:
			return Artifact{}, Errorf(KindNotFound, "There is no signed artifact: the signing request is %s.", r.Workflow)
		}
		return r.Signed, nil
	})
}

// deleted says why and when a request's artifacts went.
func (r *Request) deleted() string {
	return fmt.Sprintf("The signing request's artifacts were deleted on %s, after their retention time; their hashes are kept.", r.ArtifactsDeletedAt.UTC().Format(time.RFC1123))
}

// artifact opens one of a request's artifacts.
func (s *Service) artifact(ctx context.Context, a Actor, id ID, pick func(*Request) (Artifact, error)) (*Download, error) {
	return s.download(ctx, a, id, func(r *Request) (Artifact, error) {
		file, err := pick(r)
		if err == nil && r.ArtifactsDeletedAt != nil {
			err = Errorf(KindGone, "%s", r.deleted())
		}
		return file, err
	})
}

func (s *Service) download(ctx context.Context, a Actor, id ID, pick func(*Request) (Artifact, error)) (*Download, error) {
	var file Artifact
	err := s.store.View(ctx, func(tx Tx) error {
		r, err := readable(ctx, tx, a, id, OpReadArtifact)
		if err != nil {
			return err
		}
		file, err = pick(r)
		return err
	})
	if err != nil {
		return nil, err
	}
	blob, err := s.blobs.Open(ctx, file.BlobID)
	if err != nil {
		return nil, err
	}
	return &Download{File: file, Blob: blob}, nil
}

// BuildSettingsFile opens the build settings file that came with the origin. It outlives the artifacts, as the origin does.
func (s *Service) BuildSettingsFile(ctx context.Context, a Actor, id ID) (*Download, error) {
	return s.download(ctx, a, id, func(r *Request) (Artifact, error) {
		if r.Origin == nil || r.Origin.SettingsBlobID == "" {
			return Artifact{}, Errorf(KindNotFound, "The signing request carries no build settings file.")
		}
		return Artifact{FileName: r.Origin.SettingsFileName, BlobID: r.Origin.SettingsBlobID}, nil
	})
}

// Resolved returns the stored plan and result of a request.
func (s *Service) Resolved(ctx context.Context, a Actor, id ID) (*ResolvedArtifact, error) {
	var out *ResolvedArtifact
	err := s.store.View(ctx, func(tx Tx) error {
		r, err := readable(ctx, tx, a, id, OpReadRequest)
		if err != nil {
			return err
		}
		out, err = tx.ResolvedArtifact(ctx, r.ID)
		if KindOf(err) == KindNotFound {
			return Errorf(KindNotFound, "The signing request's artifact was not examined yet; the request is %s.", r.Workflow)
		}
		return err
	})
	return out, err
}

// RequestCertificate returns the DER of the certificate that signed, or is to sign, a request.
func (s *Service) RequestCertificate(ctx context.Context, a Actor, id ID) (*Certificate, error) {
	var c *Certificate
	err := s.store.View(ctx, func(tx Tx) error {
		r, err := readable(ctx, tx, a, id, OpReadRequest)
		if err != nil {
			return err
		}
		certificateID := ID("")
		grants, err := tx.Grants(ctx, r.ID)
		if err != nil {
			return err
		}
		if n := len(grants); n > 0 {
			certificateID = grants[n-1].CertificateID
		} else {
			policy, err := tx.Policy(ctx, r.OrganizationID, r.PolicyID)
			if err != nil {
				return err
			}
			certificateID = policy.CertificateID
		}
		c, err = tx.Certificate(ctx, r.OrganizationID, certificateID)
		return err
	})
	return c, err
}
