package store

import (
	"context"
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
	maxResubmit = 100
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
func (x *tx) RequestRows(ctx context.Context, org signing.ID, filter signing.RequestFilter) ([]*signing.RequestRow, error) {
	b, err := x.requestList(ctx, org, filter)
	if err != nil {
		return nil, err
	}
	return x.requestRows(ctx, b)
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

// requestList turns a filter into branches: one for each wanted status and each value of the narrowest other filter
// that has an index. The remaining filters are tested on the rows that the branches find.
func (x *tx) requestList(ctx context.Context, org signing.ID, f signing.RequestFilter) (branches, error) {
	b := branches{table: "requests r", order: []string{"created_at", "id"}, desc: true, limit: f.Limit}
	switch {
	case b.limit <= 0:
		b.limit = defaultRequestRows
	case b.limit > maxRequestRows:
		b.limit = maxRequestRows
	}
	b.add("organization_id = ?", text(org))
	c := &b.conditions

	statuses := f.Statuses
	if len(statuses) == 0 {
		statuses = []signing.Status{signing.InProgress, signing.WaitingForApproval, signing.Completed, signing.Failed,
			signing.Denied, signing.Canceled}
	}
	var visible []string
	if f.Visible != nil {
		visible = append(visible, equal(c, "project_id", f.Visible.Projects...)...)
		visible = append(visible, equal(c, "policy_id", f.Visible.Policies...)...)
		if f.Visible.UserID != "" {
			visible = append(visible, equal(c, "submitter_id", f.Visible.UserID)...)
		}
		if len(visible) == 0 {
			visible = []string{"1 = 0"} // nothing to see
		}
	}
	branchable := func(n int) bool { return n*len(statuses) <= maxBranches }

	// Each case removes from f what its branches fulfil.
	byStatus := true
	switch {
	case f.ArtifactSHA256 != "":
		sum := c.arg(strings.ToLower(f.ArtifactSHA256))
		b.anyOf([]string{"unsigned_sha256 = " + sum + " AND unsigned_sha256 <> ''", "signed_sha256 = " + sum + " AND signed_sha256 <> ''"})
		byStatus = false
	case f.OriginalID != "":
		b.anyOf([]string{"original_id = " + c.arg(text(f.OriginalID)) + " AND original_id <> ''"})
		f.OriginalID, byStatus = "", false
	case f.SubmitterID != "":
		b.anyOf(equal(c, "submitter_id", f.SubmitterID))
		f.SubmitterID = ""
	case len(f.PolicyIDs) > 0 && branchable(len(f.PolicyIDs)):
		b.anyOf(equal(c, "policy_id", f.PolicyIDs...))
		f.PolicyIDs = nil
	case f.ProjectID != "":
		b.anyOf(equal(c, "project_id", f.ProjectID))
		f.ProjectID = ""
	case f.Visible != nil && branchable(len(visible)):
		b.anyOf(visible)
		visible = nil
	}
	if byStatus {
		b.anyOf(equal(c, "status", statuses...))
	} else if len(f.Statuses) > 0 {
		b.add(in(c, "status", f.Statuses))
	}

	if len(visible) > 0 {
		b.add("(" + strings.Join(visible, " OR ") + ")")
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
	if f.CreatedFrom != nil {
		b.add("created_at >= ?", micros(*f.CreatedFrom))
	}
	if f.CreatedBefore != nil {
		b.add("created_at < ?", micros(*f.CreatedBefore))
	}
	if f.FileName != "" {
		b.add(`unsigned_name_key LIKE ? ESCAPE '\'`, "%"+likeEscaper.Replace(fold(f.FileName))+"%")
	}
	if f.NotDecidedBy != "" {
		b.add("NOT EXISTS (SELECT 1 FROM approvals a WHERE a.request_id = r.id AND a.user_id = ?)", text(f.NotDecidedBy))
	}
	if f.After != "" {
		created, err := one(ctx, x.q, "signing request", func(s scanner) (time.Time, error) {
			var t time.Time
			return t, s.Scan(timeColumn{&t})
		}, "SELECT created_at FROM requests WHERE id = $1 AND organization_id = $2", text(f.After), text(org))
		if err != nil {
			return b, err
		}
		b.add("(created_at, id) < (?, ?)", micros(created), text(f.After))
	}
	return b, nil
}

// likeEscaper makes LIKE take its pattern's characters as they are.
var likeEscaper = strings.NewReplacer(`\`, `\\`, `%`, `\%`, `_`, `\_`)
