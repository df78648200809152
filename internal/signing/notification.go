package signing

import (
	"context"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/countersign-dev/countersign/internal/audit"
)

// Event is what a message tells of. The final ones have the name of the request's status.
type Event string

// The events.
const (
	EventApprovalRequested Event = "ApprovalRequested" // the request waits for approvers
	EventApprovalsFell     Event = "ApprovalsFell"     // what was approved changed: approvers have to decide again
	EventCompleted         Event = Event(Completed)
	EventFailed            Event = Event(Failed)
	EventDenied            Event = Event(Denied)
	EventCanceled          Event = Event(Canceled)
	EventTest              Event = "Test" // of a webhook
)

// NotificationLevel says which mails somebody wants.
type NotificationLevel string

// The levels.
const (
	// NotifyDefault: what one has to decide on, and how one's own requests ended. For a user, the signing policy may say
	// otherwise.
	NotifyDefault NotificationLevel = "Default"
	// NotifyAll: every event of the requests that one may decide on or has submitted.
	NotifyAll NotificationLevel = "All"
	// NotifyNone: nothing.
	NotifyNone NotificationLevel = "None"
)

// NotificationLevelOf returns which mails a user gets about requests of the policy: what she chose, else what the policy says.
func (p *Policy) NotificationLevelOf(u *User) NotificationLevel {
	if u.NotificationLevel == NotifyAll || u.NotificationLevel == NotifyNone {
		return u.NotificationLevel
	}
	if p.Rules.Notifications == NotifyAll || p.Rules.Notifications == NotifyNone {
		return p.Rules.Notifications
	}
	return NotifyDefault
}

func (v *validation) notificationLevel(field string, l NotificationLevel) {
	if l != "" && l != NotifyAll && l != NotifyDefault && l != NotifyNone {
		v.add(field, "'%s' is not a notification level: All, Default or None.", truncate(string(l), 40))
	}
}

// SetNotificationLevel chooses which mails the actor herself gets.
func (s *Service) SetNotificationLevel(ctx context.Context, a Actor, l NotificationLevel) (*User, error) {
	return edit[User]{
		event:  "User.Edited",
		load:   func(tx Tx) (*User, error) { return completeUser(tx.User(ctx, a.OrganizationID, a.UserID)) },
		permit: func(Tx, *User) error { return require(a, OpManageOwnAccount, scope{}) },
		apply: func(_ Tx, u *User) error {
			var v validation
			v.notificationLevel("NotificationLevel", l)
			u.NotificationLevel = l
			return v.err()
		},
		update:  func(tx Tx, u *User) error { return tx.UpdateUser(ctx, u) },
		current: func(u *User) int { return u.Version },
		object:  userObject,
	}.run(ctx, s, a)
}

// Notice is what a mail tells: a request as it was at the time of the event. Its texts are as people and build systems
// gave them: whoever shows them escapes them.
type Notice struct {
	Event                Event             `json:"event"`
	At                   time.Time         `json:"at"`
	Why                  Why               `json:"why"`
	OrganizationID       ID                `json:"organizationId"`
	Organization         string            `json:"organization"`
	RequestID            ID                `json:"requestId"`
	Project              string            `json:"project"` // name
	ProjectSlug          string            `json:"projectSlug"`
	Policy               string            `json:"policy"` // name
	PolicySlug           string            `json:"policySlug"`
	Certificate          string            `json:"certificate,omitempty"` // name, of the one that signs
	CertificateSubject   string            `json:"certificateSubject,omitempty"`
	CertificateUntil     time.Time         `json:"certificateUntil,omitzero"`
	Configuration        string            `json:"configuration,omitempty"` // slug
	ConfigurationVersion int               `json:"configurationVersion,omitempty"`
	Parameters           map[string]string `json:"parameters,omitempty"`
	FileName             string            `json:"fileName"`
	Size                 int64             `json:"size"`
	SHA256               string            `json:"sha256"`
	SignedSHA256         string            `json:"signedSha256,omitempty"` // of a completed request
	Submitter            string            `json:"submitter"`
	SubmitterKind        UserKind          `json:"submitterKind,omitempty"`
	SubmittedAt          time.Time         `json:"submittedAt,omitzero"`
	Description          string            `json:"description,omitempty"`
	Origin               *Origin           `json:"origin,omitempty"`
	// OriginVerified: the signing policy asks for a verified origin, and the checks of this one passed.
	OriginVerified    bool           `json:"originVerified,omitempty"`
	OriginChecks      []Verification `json:"originChecks,omitempty"` // of the origin, and of who vouches for it; without inputs
	OriginalID        ID             `json:"originalId,omitempty"`   // of the request that this one resubmits
	OriginalPolicy    string         `json:"originalPolicy,omitempty"`
	RequiredApprovals int            `json:"requiredApprovals,omitempty"`
	GivenApprovals    int            `json:"givenApprovals,omitempty"` // those that count
	CancelAt          time.Time      `json:"cancelAt,omitzero"`        // the request is canceled unless decided by then
	By                string         `json:"by,omitempty"`             // who denied or canceled, or changed what approvals rested on
	Reason            string         `json:"reason,omitempty"`         // comment of who denied or canceled; why it failed or approvals fell
}

// Why says why a user gets a mail.
type Why string

// The reasons.
const (
	AsApprover          Why = "Approver"          // may decide on the request
	AsSubmitter         Why = "Submitter"         // submitted it
	AsOriginalSubmitter Why = "OriginalSubmitter" // submitted the request that it resubmits
)

// announce stores the messages about a change of a request, in its transaction: mail for users and, when the request is
// final, calls of the organization's webhooks. by is who caused it; reason is said to the receivers. Call it after the
// request was stored and before the audit entry, which serialises writers.
func (s *Service) announce(ctx context.Context, tx Tx, r *Request, event Event, by Actor, reason string) error {
	if status := r.Workflow.Status(); status.Final() {
		if err := s.announceToWebhooks(ctx, tx, r, status); err != nil {
			return err
		}
	}
	if s.mail == nil {
		return nil
	}
	policy, err := tx.Policy(ctx, r.OrganizationID, r.PolicyID)
	if err != nil {
		return err
	}
	receivers, err := s.receivers(ctx, tx, r, policy, event)
	if err != nil || len(receivers) == 0 {
		return err
	}
	notice, err := s.notice(ctx, tx, r, policy, event, by, reason)
	if err != nil {
		return err
	}
	for _, to := range receivers {
		notice.Why = to.why
		d := &Delivery{OrganizationID: r.OrganizationID, RequestID: r.ID, Kind: MailDelivery, ReceiverID: to.user.ID, Event: event}
		if err := s.enqueue(ctx, tx, d, notice); err != nil {
			return err
		}
	}
	return nil
}

func (s *Service) notice(ctx context.Context, tx Tx, r *Request, p *Policy, event Event, by Actor, reason string) (*Notice, error) {
	row, err := tx.RequestRow(ctx, r.OrganizationID, r.ID)
	if err != nil {
		return nil, err
	}
	organization, err := tx.Organization(ctx, r.OrganizationID)
	if err != nil {
		return nil, err
	}
	submitter, err := tx.User(ctx, r.OrganizationID, r.SubmitterID)
	if err != nil {
		return nil, err
	}
	certificate, err := tx.Certificate(ctx, r.OrganizationID, p.CertificateID)
	if err != nil {
		return nil, err
	}
	ballot, err := readBallot(ctx, tx, r, p, certificate)
	if err != nil {
		return nil, err
	}
	n := &Notice{
		Event: event, At: s.now(), OrganizationID: organization.ID, Organization: organization.Name, RequestID: r.ID,
		Project: row.ProjectName, ProjectSlug: row.ProjectSlug, Policy: row.PolicyName, PolicySlug: row.PolicySlug,
		Certificate: certificate.Name, CertificateSubject: certificate.Subject, CertificateUntil: certificate.NotAfter,
		Configuration: row.ConfigurationSlug, ConfigurationVersion: r.ConfigurationVersion, Parameters: r.Parameters,
		FileName: r.Unsigned.FileName, Size: r.Unsigned.Size, SHA256: r.Unsigned.SHA256, SignedSHA256: r.Signed.SHA256,
		Submitter: submitter.Name, SubmitterKind: submitter.Kind, SubmittedAt: r.CreatedAt, Description: r.Description,
		Origin: r.Origin, OriginalID: r.OriginalID,
		RequiredApprovals: p.Rules.RequiredApprovals, GivenApprovals: ballot.given(), Reason: reason,
	}
	checks, err := tx.Verifications(ctx, r.ID)
	if err != nil {
		return nil, err
	}
	n.OriginChecks, n.OriginVerified = originChecks(checks, p)
	if r.OriginalID != "" {
		original, err := tx.RequestRow(ctx, r.OrganizationID, r.OriginalID)
		if err != nil {
			return nil, err
		}
		n.OriginalPolicy = original.PolicyName
	}
	if r.CancelAt != nil {
		n.CancelAt = *r.CancelAt
	}
	if by.Kind != System {
		n.By = by.Name
	}
	if r.Failure != nil {
		n.Reason = r.Failure.Message
	}
	return n, nil
}

// originChecks returns the checks that say where an artifact came from, and whether they make a verified origin.
func originChecks(checks []Verification, p *Policy) (about []Verification, verified bool) {
	result := map[string]VerificationResult{}
	for _, v := range checks {
		if slices.Contains([]string{"TrustedBuildSystem", "BuildSystemHosts", "Repository", "Branch", "Commit", "Origin"}, v.Name) &&
			(v.Name != "BuildSystemHosts" || v.Result != NotRequired) { // which says no more than the first
			v.Inputs = nil
			about, result[v.Name] = append(about, v), v.Result
		}
	}
	return about, p.Rules.VerifyOrigin && result["TrustedBuildSystem"] == Passed && result["Repository"] == Passed && result["Commit"] == Passed &&
		result["BuildSystemHosts"] != NotPassed && result["Branch"] != NotPassed
}

type receiver struct {
	user *User
	why  Why
}

// maxReceivers bounds the mails about one event, which are stored in one transaction; of so many approvers some will do.
const maxReceivers = 500

// receivers returns who gets a mail about the event, each user once. Approvers are asked for decisions and submitters
// are told how their requests ended; at level All, each gets the other's mails, too.
func (s *Service) receivers(ctx context.Context, tx Tx, r *Request, p *Policy, event Event) ([]receiver, error) {
	var list []receiver
	asksApprovers := event == EventApprovalRequested || event == EventApprovalsFell
	add := func(u *User, why Why) {
		if len(list) == maxReceivers || !u.Active || u.Kind != Interactive || u.Email == "" || slices.ContainsFunc(list, func(o receiver) bool { return o.user.ID == u.ID }) {
			return
		}
		if l := p.NotificationLevelOf(u); l == NotifyAll || l == NotifyDefault && (why == AsApprover) == asksApprovers {
			list = append(list, receiver{u, why})
		}
	}
	if asksApprovers {
		approvers, err := s.approvers(ctx, tx, r, p, true)
		if err != nil {
			return nil, err
		}
		for _, u := range approvers {
			add(u, AsApprover)
		}
	}
	if err := s.submitters(ctx, tx, r, p, add); err != nil {
		return nil, err
	}
	if !asksApprovers {
		approvers, err := s.approvers(ctx, tx, r, p, false)
		if err != nil {
			return nil, err
		}
		for _, u := range approvers {
			add(u, AsApprover)
		}
	}
	return list, nil
}

// submitters passes on the request's submitter, and the one of the request that it resubmits if she may read this one.
func (s *Service) submitters(ctx context.Context, tx Tx, r *Request, p *Policy, add func(*User, Why)) error {
	u, err := tx.User(ctx, r.OrganizationID, r.SubmitterID)
	if err != nil {
		return err
	}
	add(u, AsSubmitter)
	if r.OriginalID == "" {
		return nil
	}
	original, err := tx.Request(ctx, r.OrganizationID, r.OriginalID)
	if err != nil {
		return err
	}
	if original.SubmitterID == r.SubmitterID {
		return nil
	}
	if u, err = tx.User(ctx, r.OrganizationID, original.SubmitterID); err != nil || u.Kind != Interactive {
		return err
	}
	project, err := tx.Project(ctx, r.OrganizationID, r.ProjectID)
	if err != nil {
		return err
	}
	groups, err := tx.GroupsOf(ctx, r.OrganizationID, u.ID)
	if err != nil {
		return err
	}
	actor := Actor{OrganizationID: u.OrganizationID, UserID: u.ID, Kind: u.Kind, Name: u.Name, Roles: u.Roles, Groups: groups}
	if allowed(actor, OpReadRequest, scope{project: project, policy: p, request: r}) {
		add(u, AsOriginalSubmitter)
	}
	return nil
}

// approvers returns the policy's interactive approvers, directly and through groups, by name; with undecided, only those
// who may still decide on the request.
func (s *Service) approvers(ctx context.Context, tx Tx, r *Request, p *Policy, undecided bool) ([]*User, error) {
	if len(p.Approvers) == 0 {
		return nil, nil
	}
	var groups map[ID]*Group
	if slices.ContainsFunc(p.Approvers, func(s Subject) bool { return s.Kind == SubjectGroup }) {
		var err error
		if groups, err = groupsByID(ctx, tx, r.OrganizationID); err != nil {
			return nil, err
		}
	}
	ids := expand(p.Approvers, groups)
	if undecided {
		if p.Rules.SubmitterMayNotApprove {
			delete(ids, r.SubmitterID)
		}
		certificate, err := tx.Certificate(ctx, r.OrganizationID, p.CertificateID)
		if err != nil {
			return nil, err
		}
		approvals, err := tx.Approvals(ctx, r.ID)
		if err != nil {
			return nil, err
		}
		current := binding(r, p, certificate)
		for _, approval := range approvals {
			if approval.Binding == current {
				delete(ids, approval.UserID)
			}
		}
	}
	users, err := tx.Users(ctx, r.OrganizationID, Interactive)
	return slices.DeleteFunc(users, func(u *User) bool { return !ids[u.ID] }), err
}

// cleanText makes a stranger's text storable and showable: valid UTF-8, no control characters but line breaks and tabs,
// at most limit bytes.
func cleanText(text string, limit int) string {
	text = strings.Map(func(r rune) rune {
		if r == utf8.RuneError || unicode.IsControl(r) && r != '\n' && r != '\t' || unicode.In(r, unicode.Bidi_Control) {
			return -1
		}
		return r
	}, text[:min(len(text), limit)])
	return text
}

func webhookObject(w *Webhook) audit.Object {
	return audit.Object{Type: "Webhook", ID: string(w.ID), Name: w.Name}
}
