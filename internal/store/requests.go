package store

import (
	"context"
	"strings"
	"time"

	"github.com/countersign-dev/countersign/internal/signing"
)

const requestColumns = "r.id, r.organization_id, r.project_id, r.policy_id, r.configuration_id, r.configuration_version, r.workflow, " +
	"r.description, r.submitter_id, r.submitted_via, r.trusted_build_system_id, r.unsigned_name, r.unsigned_blob, r.unsigned_size, " +
	"r.unsigned_sha256, r.signed_name, r.signed_blob, r.signed_size, r.signed_sha256, r.retrieval, r.parameters, r.origin, " +
	"r.original_id, r.idempotency_key, r.created_at, r.final_at, r.cancel_at, r.artifacts_deleted_at, r.failure, r.attempt, r.tries, " +
	"r.unfinished, r.lease_until, r.wake_at, r.version"

// requestDest returns the scan destinations of requestColumns.
func requestDest(r *signing.Request) []any {
	return []any{&r.ID, &r.OrganizationID, &r.ProjectID, &r.PolicyID, &r.ConfigurationID, &r.ConfigurationVersion, &r.Workflow,
		&r.Description, &r.SubmitterID, &r.SubmittedVia, &r.TrustedBuildSystemID, &r.Unsigned.FileName, &r.Unsigned.BlobID,
		&r.Unsigned.Size, &r.Unsigned.SHA256, &r.Signed.FileName, &r.Signed.BlobID, &r.Signed.Size, &r.Signed.SHA256,
		jsonColumn{&r.Retrieval}, jsonColumn{&r.Parameters}, jsonColumn{&r.Origin}, &r.OriginalID, &r.IdempotencyKey,
		timeColumn{&r.CreatedAt}, optionalTimeColumn{&r.FinalAt}, optionalTimeColumn{&r.CancelAt},
		optionalTimeColumn{&r.ArtifactsDeletedAt}, jsonColumn{&r.Failure}, &r.Attempt, &r.Tries, &r.Unfinished, optionalTimeColumn{&r.LeaseUntil},
		optionalTimeColumn{&r.WakeAt}, &r.Version}
}

func scanRequest(s scanner) (*signing.Request, error) {
	r := &signing.Request{}
	return r, s.Scan(requestDest(r)...)
}

// requestValues returns the columns that an update may change, with their values.
func requestValues(r *signing.Request) (columns []string, values []any) {
	var originBlob signing.BlobID
	if r.Origin != nil {
		originBlob = r.Origin.SettingsBlobID
	}
	for _, v := range []struct {
		column string
		value  any
	}{
		{"configuration_id", text(r.ConfigurationID)}, {"configuration_version", r.ConfigurationVersion},
		{"workflow", text(r.Workflow)}, {"status", text(r.Workflow.Status())}, {"description", r.Description},
		{"trusted_build_system_id", text(r.TrustedBuildSystemID)},
		{"unsigned_name", r.Unsigned.FileName}, {"unsigned_name_key", fold(r.Unsigned.FileName)},
		{"unsigned_blob", text(r.Unsigned.BlobID)}, {"unsigned_size", r.Unsigned.Size}, {"unsigned_sha256", r.Unsigned.SHA256},
		{"signed_name", r.Signed.FileName}, {"signed_blob", text(r.Signed.BlobID)}, {"signed_size", r.Signed.Size},
		{"signed_sha256", r.Signed.SHA256}, {"retrieval", encodeOptional(r.Retrieval)}, {"parameters", encode(r.Parameters)},
		{"origin", encodeOptional(r.Origin)}, {"origin_blob", text(originBlob)}, {"original_id", text(r.OriginalID)},
		{"idempotency_key", r.IdempotencyKey}, {"final_at", optional(r.FinalAt)}, {"cancel_at", optional(r.CancelAt)},
		{"artifacts_deleted_at", optional(r.ArtifactsDeletedAt)}, {"failure", encodeOptional(r.Failure)}, {"attempt", r.Attempt}, {"tries", r.Tries}, {"unfinished", r.Unfinished},
		{"lease_until", optional(r.LeaseUntil)}, {"wake_at", optional(r.WakeAt)},
	} {
		columns, values = append(columns, v.column), append(values, v.value)
	}
	return columns, values
}

func (x *tx) Request(ctx context.Context, org, id signing.ID) (*signing.Request, error) {
	return x.request(ctx, org, id, "")
}

func (x *tx) LockRequest(ctx context.Context, org, id signing.ID) (*signing.Request, error) {
	return x.request(ctx, org, id, x.db.backend.lockRow())
}

func (x *tx) request(ctx context.Context, org, id signing.ID, lock string) (*signing.Request, error) {
	return one(ctx, x.q, "signing request", scanRequest,
		"SELECT "+requestColumns+" FROM requests r WHERE r.id = $1 AND r.organization_id = $2"+lock, text(id), text(org))
}

func (x *tx) RequestForWorker(ctx context.Context, id signing.ID) (*signing.RequestForWorker, error) {
	return one(ctx, x.q, "signing request", func(s scanner) (*signing.RequestForWorker, error) {
		r := &signing.RequestForWorker{}
		return r, s.Scan(&r.OrganizationID, &r.Workflow, &r.Unfinished)
	}, "SELECT organization_id, workflow, unfinished FROM requests WHERE id = $1", text(id))
}

func (x *tx) RequestByIdempotencyKey(ctx context.Context, org, policy signing.ID, key string) (*signing.Request, error) {
	return one(ctx, x.q, "signing request", scanRequest, "SELECT "+requestColumns+" FROM requests r "+
		"WHERE r.policy_id = $1 AND r.idempotency_key = $2 AND r.idempotency_key <> '' AND r.organization_id = $3 "+
		"ORDER BY r.created_at DESC, r.id DESC LIMIT 1", text(policy), key, text(org))
}

func (x *tx) InsertRequest(ctx context.Context, r *signing.Request) error {
	r.Version = 1
	columns, values := requestValues(r)
	columns = append(columns, "id", "organization_id", "project_id", "policy_id", "submitter_id", "submitted_via", "created_at", "version")
	values = append(values, text(r.ID), text(r.OrganizationID), text(r.ProjectID), text(r.PolicyID), text(r.SubmitterID),
		r.SubmittedVia, micros(r.CreatedAt), r.Version)
	var c conditions
	placeholders := make([]string, len(values))
	for i, v := range values {
		placeholders[i] = c.arg(v)
	}
	return x.q.insert(ctx, "This signing request exists.",
		"INSERT INTO requests ("+strings.Join(columns, ", ")+") VALUES ("+strings.Join(placeholders, ", ")+")", c.args...)
}

// UpdateRequest implements signing.RequestTx. Organization, project, policy, submitter and time of submission stay.
func (x *tx) UpdateRequest(ctx context.Context, r *signing.Request) error {
	columns, values := requestValues(r)
	var c conditions
	for i, v := range values {
		columns[i] += " = " + c.arg(v)
	}
	return x.q.update(ctx, "signing request", &r.Version, "UPDATE requests SET "+strings.Join(columns, ", ")+
		", version = version + 1 WHERE id = "+c.arg(text(r.ID))+" AND organization_id = "+c.arg(text(r.OrganizationID))+
		" AND version = "+c.arg(r.Version), c.args...)
}

func scanRequestKey(s scanner) (signing.RequestKey, error) {
	var k signing.RequestKey
	return k, s.Scan(&k.OrganizationID, &k.ID)
}

func (x *tx) DueRequests(ctx context.Context, now time.Time, limit int) ([]signing.RequestKey, error) {
	return list(ctx, x.q, scanRequestKey, "SELECT organization_id, id FROM requests "+
		"WHERE wake_at IS NOT NULL AND wake_at <= $1 ORDER BY wake_at LIMIT $2", micros(now), limit)
}

func (x *tx) LeasedRequests(ctx context.Context) ([]signing.RequestKey, error) {
	return list(ctx, x.q, scanRequestKey,
		"SELECT organization_id, id FROM requests WHERE lease_until IS NOT NULL ORDER BY lease_until")
}

func (x *tx) ExpiredArtifacts(ctx context.Context, org signing.ID, finalBefore time.Time, after signing.ID, limit int) ([]*signing.Request, error) {
	return list(ctx, x.q, scanRequest, "SELECT "+requestColumns+" FROM requests r WHERE r.organization_id = $1 AND r.id > $2 "+
		"AND r.final_at IS NOT NULL AND (r.unsigned_blob <> '' OR r.signed_blob <> '') AND r.final_at < $3 ORDER BY r.id LIMIT $4",
		text(org), text(after), micros(finalBefore), limit)
}

func (x *tx) BlobInUse(ctx context.Context, blob signing.BlobID) (bool, error) {
	if blob == "" {
		return false, nil
	}
	used, err := list(ctx, x.q, func(s scanner) (bool, error) {
		var n int
		return true, s.Scan(&n)
	}, "SELECT 1 FROM requests WHERE unsigned_blob = $1 AND unsigned_blob <> '' "+
		"UNION ALL SELECT 1 FROM requests WHERE signed_blob = $1 AND signed_blob <> '' "+
		"UNION ALL SELECT 1 FROM requests WHERE origin_blob = $1 AND origin_blob <> '' LIMIT 1", text(blob))
	return len(used) > 0, err
}

const approvalColumns = "id, request_id, user_id, user_name, decision, comment, binding, at"

func scanApproval(s scanner) (*signing.Approval, error) {
	a := &signing.Approval{}
	return a, s.Scan(&a.ID, &a.RequestID, &a.UserID, &a.UserName, &a.Decision, &a.Comment, &a.Binding, timeColumn{&a.At})
}

func (x *tx) Approvals(ctx context.Context, request signing.ID) ([]*signing.Approval, error) {
	return list(ctx, x.q, scanApproval, "SELECT "+approvalColumns+" FROM approvals WHERE request_id = $1 ORDER BY at, id", text(request))
}

func (x *tx) PartlyApproved(ctx context.Context, org signing.ID) ([]*signing.Request, []*signing.Approval, error) {
	const waiting = "organization_id = $1 AND status = $2"
	requests, err := list(ctx, x.q, scanRequest, "SELECT "+requestColumns+" FROM requests r WHERE "+waiting+
		" AND EXISTS (SELECT 1 FROM approvals a WHERE a.request_id = r.id) ORDER BY id", text(org), text(signing.WaitingForApproval))
	if err != nil || len(requests) == 0 {
		return nil, nil, err
	}
	decisions, err := list(ctx, x.q, scanApproval, "SELECT "+approvalColumns+" FROM approvals "+
		"WHERE request_id IN (SELECT id FROM requests WHERE "+waiting+") ORDER BY at, id", text(org), text(signing.WaitingForApproval))
	return requests, decisions, err
}

func (x *tx) InsertApproval(ctx context.Context, a *signing.Approval) error {
	return x.q.insert(ctx, "This user decided on the signing request before.",
		"INSERT INTO approvals ("+approvalColumns+") VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
		text(a.ID), text(a.RequestID), text(a.UserID), a.UserName, text(a.Decision), a.Comment, a.Binding, micros(a.At))
}

func (x *tx) Verifications(ctx context.Context, request signing.ID) ([]signing.Verification, error) {
	all, err := list(ctx, x.q, func(s scanner) ([]signing.Verification, error) {
		var v []signing.Verification
		return v, s.Scan(jsonColumn{&v})
	}, "SELECT verifications FROM request_verifications WHERE request_id = $1", text(request))
	if err != nil || len(all) == 0 {
		return nil, err
	}
	return all[0], nil
}

func (x *tx) PutVerifications(ctx context.Context, request signing.ID, v []signing.Verification) error {
	_, err := x.q.exec(ctx, "INSERT INTO request_verifications (request_id, verifications) VALUES ($1, $2) "+
		"ON CONFLICT (request_id) DO UPDATE SET verifications = excluded.verifications", text(request), encode(v))
	return err
}

func (x *tx) ResolvedArtifact(ctx context.Context, request signing.ID) (*signing.ResolvedArtifact, error) {
	return one(ctx, x.q, "resolved artifact", func(s scanner) (*signing.ResolvedArtifact, error) {
		r := &signing.ResolvedArtifact{}
		return r, s.Scan((*[]byte)(&r.Plan), (*[]byte)(&r.Result))
	}, "SELECT plan, result FROM resolved_artifacts WHERE request_id = $1", text(request))
}

func (x *tx) PutResolvedArtifact(ctx context.Context, request signing.ID, r *signing.ResolvedArtifact) error {
	_, err := x.q.exec(ctx, "INSERT INTO resolved_artifacts (request_id, plan, result) VALUES ($1, $2, $3) "+
		"ON CONFLICT (request_id) DO UPDATE SET plan = excluded.plan, result = excluded.result",
		text(request), []byte(r.Plan), []byte(r.Result))
	return err
}

const grantColumns = "id, request_id, attempt, certificate_id, plan_digest, signatures, issued_at, ended_at, outcome"

func (x *tx) InsertGrant(ctx context.Context, g *signing.GrantRecord) error {
	return x.q.insert(ctx, "This grant exists.",
		"INSERT INTO grants ("+grantColumns+") VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
		text(g.ID), text(g.RequestID), g.Attempt, text(g.CertificateID), g.PlanDigest, g.Signatures, micros(g.IssuedAt),
		optional(g.EndedAt), g.Outcome)
}

func (x *tx) EndGrants(ctx context.Context, request signing.ID, outcome string, at time.Time) error {
	_, err := x.q.exec(ctx, "UPDATE grants SET ended_at = $1, outcome = $2 WHERE request_id = $3 AND ended_at IS NULL",
		micros(at), outcome, text(request))
	return err
}

func (x *tx) Grants(ctx context.Context, request signing.ID) ([]*signing.GrantRecord, error) {
	return list(ctx, x.q, func(s scanner) (*signing.GrantRecord, error) {
		g := &signing.GrantRecord{}
		return g, s.Scan(&g.ID, &g.RequestID, &g.Attempt, &g.CertificateID, &g.PlanDigest, &g.Signatures, timeColumn{&g.IssuedAt},
			optionalTimeColumn{&g.EndedAt}, &g.Outcome)
	}, "SELECT "+grantColumns+" FROM grants WHERE request_id = $1 ORDER BY issued_at, id", text(request))
}
