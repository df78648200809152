package store

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/countersign-dev/countersign/internal/signing"
)

const (
	defaultRequestRows = 100
	maxRequestRows     = 1000
	// maxBranches bounds the text of a list's query. A caller who may see more projects and policies than that sees so
	// much that filtering the organization's list finds a page soon.
	maxBranches = 96
	// maxOpenBranches is the same for requests that are not final: filtering these few is quicker than many branches.
	maxOpenBranches = 12
	maxResubmit     = 100
	// For a page, so many requests are looked at where no index serves a filter: whole rows, or names in an index.
	lookRows  = 2000
	lookNames = 3000
)

const requestRowColumns = requestColumns +
	", p.slug, p.name, o.slug, o.name, c.slug, c.name, COALESCE(u.name, '')"

// requestNames joins the names that a request's row shows.
const requestNames = " JOIN projects p ON p.id = r.project_id JOIN policies o ON o.id = r.policy_id " +
	"JOIN configurations c ON c.id = r.configuration_id LEFT JOIN users u ON u.id = r.submitter_id"

func scanRequestRow(s scanner) (*signing.RequestRow, error) {
	r := &signing.RequestRow{}
	return r, s.Scan(append(requestDest(&r.Request), &r.ProjectSlug, &r.ProjectName, &r.PolicySlug, &r.PolicyName,
		&r.ConfigurationSlug, &r.ConfigurationName, &r.SubmitterName)...)
}

func (x *tx) RequestRow(ctx context.Context, org, id signing.ID) (*signing.RequestRow, error) {
	return one(ctx, x.q, "signing request", scanRequestRow, "SELECT "+requestRowColumns+" FROM requests r"+requestNames+
		" WHERE r.id = $1 AND r.organization_id = $2", text(id), text(org))
}

func (x *tx) Resubmits(ctx context.Context, org, original signing.ID) ([]*signing.RequestRow, error) {
	if original == "" {
		return nil, nil
	}
	b := branches{table: "requests r", order: []string{"created_at", "id"}, limit: maxResubmit}
	b.add("organization_id = ?", text(org))
	b.add("original_id <> ''")
	b.anyOf(equal(&b.conditions, "original_id", original))
	return x.requestRows(ctx, b)
}

// RequestRows implements signing.RequestTx. A limit of 0 is 100, and none is greater than 1,000. An unknown After is
// KindNotFound.
func (x *tx) RequestRows(ctx context.Context, org signing.ID, filter signing.RequestFilter) (rows []*signing.RequestRow, next signing.ID, err error) {
	if filter.Limit <= 0 {
		filter.Limit = defaultRequestRows
	}
	filter.Limit = min(filter.Limit, maxRequestRows)
	b, horizon, err := x.requestList(ctx, org, filter)
	if err != nil {
		return nil, "", err
	}
	rows, err = x.requestRows(ctx, b)
	switch {
	case err != nil:
		return nil, "", err
	case len(rows) > filter.Limit:
		rows = rows[:filter.Limit]
		return rows, rows[filter.Limit-1].ID, nil
	case horizon != nil:
		return rows, horizon.id, nil
	}
	return rows, "", nil
}

func (x *tx) requestRows(ctx context.Context, b branches) ([]*signing.RequestRow, error) {
	return list(ctx, x.q, scanRequestRow, requestRowsQuery(b), b.args...)
}

func requestRowsQuery(b branches) string {
	order := " ORDER BY k.created_at, k.id"
	if b.desc {
		order = " ORDER BY k.created_at DESC, k.id DESC"
	}
	return "SELECT " + requestRowColumns + " FROM (" + b.sql() + ") k JOIN requests r ON r.id = k.id" + requestNames + order
}

// requestKey is a request's place in lists.
type requestKey struct {
	created time.Time
	id      signing.ID
}

func scanRequestPlace(s scanner) (*requestKey, error) {
	k := &requestKey{}
	return k, s.Scan(timeColumn{&k.created}, &k.id)
}

// allStatuses are the values of the column that leads the lists' indexes.
var allStatuses = []signing.Status{signing.InProgress, signing.WaitingForApproval, signing.Completed, signing.Failed,
	signing.Denied, signing.Canceled}

// requestList turns a filter into branches: one for each wanted status and each value of the narrowest other filter
// that has an index. A branch that has all it needs in its index reads no rows, so that a page reads those only that it
// shows. The remaining filters are tested on the rows that the branches find. So that a page costs a page
// even where few rows pass these tests, or none, the branches then end at a horizon, the oldest request that is looked
// at; it is nil where they reach the list's end.
func (x *tx) requestList(ctx context.Context, org signing.ID, f signing.RequestFilter) (b branches, horizon *requestKey, err error) {
	b = branches{table: "requests r", order: []string{"created_at", "id"}, desc: true, limit: f.Limit + 1}
	c := &b.conditions
	if f.After != "" {
		after, err := one(ctx, x.q, "signing request", scanRequestPlace,
			"SELECT created_at, id FROM requests WHERE id = $1 AND organization_id = $2", text(f.After), text(org))
		if err != nil {
			return b, nil, err
		}
		b.add("(created_at, id) < (?, ?)", micros(after.created), text(after.id))
	}
	if f.CreatedFrom != nil {
		b.add("created_at >= ?", micros(*f.CreatedFrom))
	}
	if f.CreatedBefore != nil {
		b.add("created_at < ?", micros(*f.CreatedBefore))
	}

	statuses := f.Statuses
	if len(statuses) == 0 {
		statuses = allStatuses
	}
	// Requests that are not final are few, and nobody must overlook one that waits: they are all looked at, if need be.
	open, most := !slices.ContainsFunc(statuses, signing.Status.Final), maxBranches
	if open {
		most = maxOpenBranches
	}
	branchable := func(n int) bool { return n > 0 && n*len(statuses) <= most }

	// Each case removes from f what its branches fulfil. Few requests have the same artifact or original.
	few, byStatus := false, true
	switch {
	case f.ArtifactSHA256 != "":
		b.add("organization_id = ?", text(org))
		sum := c.arg(strings.ToLower(f.ArtifactSHA256))
		b.anyOf([]string{"unsigned_sha256 = " + sum + " AND unsigned_sha256 <> ''", "signed_sha256 = " + sum + " AND signed_sha256 <> ''"})
		few = true
	case f.OriginalID != "":
		b.add("organization_id = ?", text(org))
		b.anyOf([]string{"original_id = " + c.arg(text(f.OriginalID)) + " AND original_id <> ''"})
		f.OriginalID, few = "", true
	case f.SubmitterID != "":
		b.anyOf(ofUsers.owned(c, org, f.SubmitterID))
		f.SubmitterID = ""
	case branchable(len(f.PolicyIDs)):
		b.anyOf(ofPolicies.owned(c, org, f.PolicyIDs...))
		f.PolicyIDs = nil
	case f.Visible != nil && branchable(1+len(f.Visible.Projects)+len(f.Visible.Policies)):
		b.anyOf(visible(c, f.Visible, func(o owner, ids ...signing.ID) []string { return o.owned(c, org, ids...) }))
		f.Visible = nil
	case f.ProjectID != "":
		b.anyOf(ofProjects.owned(c, org, f.ProjectID))
		f.ProjectID = ""
	default:
		b.add("organization_id = ?", text(org))
		byStatus = len(f.Statuses) > 0 || !tested(f)
	}
	if few && len(f.Statuses) > 0 {
		b.add(in(c, "status", f.Statuses))
	} else if !few && byStatus {
		b.anyOf(equal(c, "status", statuses...))
	}

	if tested(f) && !few && !open {
		look := f.Look
		switch {
		case look > 0:
		case byStatus || f.Visible != nil:
			look = lookRows
		default:
			look = lookNames
		}
		if horizon, err = x.horizon(ctx, b, look); err != nil {
			return b, nil, err
		}
		if horizon != nil {
			b.add("(created_at, id) >= (?, ?)", micros(horizon.created), text(horizon.id))
		}
	}
	if f.Visible != nil {
		b.add("(" + strings.Join(visible(c, f.Visible, func(o owner, ids ...signing.ID) []string { return equal(c, o.column, ids...) }), " OR ") + ")")
	}
	if f.OriginalID != "" {
		b.add("original_id = ?", text(f.OriginalID))
	}
	if f.SubmitterID != "" {
		b.add("submitter_id = ?", text(f.SubmitterID))
	}
	if len(f.PolicyIDs) > 0 {
		b.add(in(c, "policy_id", f.PolicyIDs))
	}
	if f.ProjectID != "" {
		b.add("project_id = ?", text(f.ProjectID))
	}
	if f.FileName != "" {
		b.add(`unsigned_name_key LIKE ? ESCAPE '\'`, "%"+likeEscaper.Replace(fold(f.FileName))+"%")
	}
	if u := f.Undecided; u != nil && len(u.Rulings) > 0 {
		b.add("NOT EXISTS (SELECT 1 FROM approvals a WHERE a.request_id = r.id AND a.user_id = ? AND "+
			in(c, "substr(a.binding, 65)", u.Rulings)+")", text(u.UserID))
	}
	return b, horizon, nil
}

// tested reports whether a filter has conditions left that are tested on rows.
func tested(f signing.RequestFilter) bool {
	return f.Visible != nil || f.OriginalID != "" || f.SubmitterID != "" || len(f.PolicyIDs) > 0 || f.ProjectID != "" || f.FileName != ""
}

// owner is a column of requests that names what belongs to an organization, and the table of these.
type owner struct{ column, table string }

var (
	ofProjects = owner{"project_id", "projects"}
	ofPolicies = owner{"policy_id", "policies"}
	ofUsers    = owner{"submitter_id", "users"}
)

// owned returns a term column = id for each id. That it is the organization's is asked of the other table, once, because
// an index that leads with the column does not have the organization of requests.
func (o owner) owned(c *conditions, org signing.ID, ids ...signing.ID) []string {
	if len(ids) == 0 {
		return nil
	}
	terms, of := make([]string, len(ids)), c.arg(text(org))
	for i, id := range ids {
		value := c.arg(text(id))
		terms[i] = o.column + " = " + value + " AND EXISTS (SELECT 1 FROM " + o.table + " WHERE id = " + value + " AND organization_id = " + of + ")"
	}
	return terms
}

// visible returns a term for each reason why a request may be seen.
func visible(c *conditions, v *signing.Visibility, terms func(o owner, ids ...signing.ID) []string) []string {
	reasons := append(terms(ofProjects, v.Projects...), terms(ofPolicies, v.Policies...)...)
	if v.UserID != "" {
		reasons = append(reasons, terms(ofUsers, v.UserID)...)
	}
	if len(reasons) == 0 {
		return []string{"1 = 0"} // nothing to see
	}
	return reasons
}

// horizon returns the oldest request above which no branch has more requests than its share of those that are looked at.
func (x *tx) horizon(ctx context.Context, b branches, look int) (*requestKey, error) {
	b.limit, b.skip = 1, max(1, look/b.count())-1
	found, err := list(ctx, x.q, scanRequestPlace, b.sql(), b.args...)
	if err != nil || len(found) == 0 {
		return nil, err
	}
	return found[0], nil
}

// likeEscaper makes LIKE take its pattern's characters as they are.
var likeEscaper = strings.NewReplacer(`\`, `\\`, `%`, `\%`, `_`, `\_`)
