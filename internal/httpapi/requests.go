package httpapi

import (
	"context"
	"strings"

	"github.com/countersign-dev/countersign/api"
	"github.com/countersign-dev/countersign/internal/signing"
)

// ListSigningRequests lists what the caller may read, newest first.
func (s *service) ListSigningRequests(ctx context.Context, r api.ListSigningRequestsRequestObject) (api.ListSigningRequestsResponseObject, error) {
	q, err := requestQuery(r.Params)
	if err != nil {
		return nil, err
	}
	page, err := s.signing.Requests(ctx, actorOf(ctx), q)
	if err != nil {
		return nil, err
	}
	answer := api.ListSigningRequests200JSONResponse{Items: make([]api.SigningRequestSummary, 0, len(page.Items)), NextCursor: string(page.Next)}
	l := exchangeOf(ctx).links
	for _, row := range page.Items {
		answer.Items = append(answer.Items, summaryOf(l, row))
	}
	return answer, nil
}

func requestQuery(p api.ListSigningRequestsParams) (signing.RequestQuery, error) {
	q := signing.RequestQuery{
		ProjectSlug: p.ProjectSlug, PolicySlug: p.SigningPolicySlug, Mine: p.SubmittedByMe, AwaitingMe: p.WaitingForMyApproval,
		ArtifactSHA256: p.Sha256Hash, FileName: p.FileName, Limit: p.PageSize,
		From: timePointer(p.CreatedFrom), Before: timePointer(p.CreatedBefore),
	}
	for _, status := range p.Status {
		known, ok := requestStatuses[strings.ToLower(string(status))]
		if !ok {
			return q, signing.Invalid("Status", "'%s' is not a status.", truncate(string(status), 40))
		}
		q.Statuses = append(q.Statuses, known)
	}
	var err error
	if q.OriginalID, err = parseID("originalSigningRequestId", p.OriginalSigningRequestID); err != nil {
		return q, err
	}
	if q.After, err = parseID("cursor", p.Cursor); err != nil {
		return q, signing.Invalid("Cursor", "The value is not the nextCursor of a page.")
	}
	return q, nil
}

// requestStatuses are the statuses by lower-case name.
var requestStatuses = map[string]signing.Status{
	"inprogress": signing.InProgress, "waitingforapproval": signing.WaitingForApproval, "completed": signing.Completed,
	"failed": signing.Failed, "denied": signing.Denied, "canceled": signing.Canceled,
}

func summaryOf(l links, r *signing.RequestRow) api.SigningRequestSummary {
	status := r.Workflow.Status()
	org, id := string(r.OrganizationID), string(r.ID)
	return api.SigningRequestSummary{
		SigningRequestID: id, Status: api.SigningRequestStatus(status), WorkflowStatus: api.WorkflowStatus(r.Workflow), IsFinalStatus: status.Final(),
		Description: r.Description, ProjectSlug: r.ProjectSlug, ProjectName: r.ProjectName,
		SigningPolicySlug: r.PolicySlug, SigningPolicyName: r.PolicyName,
		ArtifactConfigurationSlug: r.ConfigurationSlug, ArtifactConfigurationName: r.ConfigurationName,
		ArtifactFileName: r.Unsigned.FileName, SubmitterID: string(r.SubmitterID), SubmitterName: r.SubmitterName,
		OriginalSigningRequestID: string(r.OriginalID), CreatedAt: r.CreatedAt, FinalAt: optionalTime(r.FinalAt),
		Link: l.signingRequest(org, id), WebLink: l.web(org, id),
	}
}

// GetSigningRequest tells everything about a request.
func (s *service) GetSigningRequest(ctx context.Context, r api.GetSigningRequestRequestObject) (api.GetSigningRequestResponseObject, error) {
	id, err := requestID(r.SigningRequestID)
	if err != nil {
		return nil, err
	}
	v, err := s.signing.Request(ctx, actorOf(ctx), id)
	if err != nil {
		return nil, err
	}
	d := detailsOf(exchangeOf(ctx).links, v)
	for _, h := range v.History {
		d.History = append(d.History, auditEvent(&h.Entry, h.Sequence, h.Chain))
	}
	return api.GetSigningRequest200JSONResponse(d), nil
}

func detailsOf(l links, v *signing.RequestView) api.SigningRequest {
	status := v.Workflow.Status()
	org, id := string(v.OrganizationID), string(v.ID)
	d := api.SigningRequest{
		SigningRequestID: id, Status: api.SigningRequestStatus(status), WorkflowStatus: api.WorkflowStatus(v.Workflow), IsFinalStatus: status.Final(),
		Description: v.Description,
		ProjectID:   string(v.ProjectID), ProjectSlug: v.ProjectSlug, ProjectName: v.ProjectName,
		ArtifactConfigurationID: string(v.ConfigurationID), ArtifactConfigurationSlug: v.ConfigurationSlug,
		ArtifactConfigurationName: v.ConfigurationName, ArtifactConfigurationVersion: v.ConfigurationVersion,
		SigningPolicyID: string(v.PolicyID), SigningPolicySlug: v.PolicySlug, SigningPolicyName: v.PolicyName,
		SubmitterID: string(v.SubmitterID), SubmitterName: v.SubmitterName,
		UnsignedArtifact: artifactData(v.Unsigned), SignedArtifact: artifactData(v.Signed),
		Parameters: v.Parameters, RequiredApprovals: v.RequiredApprovals, GivenApprovals: v.GivenApprovals,
		Approvals: []api.Approval{}, Verifications: []api.Verification{},
		OriginalSigningRequestID: string(v.OriginalID),
		May:                      api.RequestPermissions{Approve: v.May.Approve, Cancel: v.May.Cancel, Download: v.May.Download, Resubmit: v.May.Resubmit},
		CreatedAt:                v.CreatedAt, FinalAt: optionalTime(v.FinalAt), CancelAt: optionalTime(v.CancelAt),
		ArtifactsDeletedAt: optionalTime(v.ArtifactsDeletedAt), WebLink: l.web(org, id),
	}
	if d.Parameters == nil {
		d.Parameters = map[string]string{}
	}
	if v.ArtifactsDeletedAt == nil {
		d.SignedArtifactLink = l.signingRequest(org, id, "SignedArtifact")
		if v.Unsigned.BlobID != "" {
			d.UnsignedArtifactLink = l.signingRequest(org, id, "UnsignedArtifact")
		}
	}
	d.UploadLink = uploadLink(l, &v.Request)
	if v.Origin != nil {
		d.Origin = originOf(v.Origin)
		if v.Origin.SettingsBlobID != "" {
			d.Origin.BuildData.BuildSettingsFile.DownloadLink = l.signingRequest(org, id, "BuildSettingsFile")
		}
	}
	if v.Failure != nil {
		d.Failure = api.Failure{Code: v.Failure.Code, Message: v.Failure.Message, Details: v.Failure.Details}
	}
	for _, ap := range v.Approvals {
		d.Approvals = append(d.Approvals, api.Approval{UserID: string(ap.UserID), UserName: ap.UserName,
			Decision: api.ApprovalDecision(ap.Decision), Comment: ap.Comment, At: ap.At, IsCurrent: ap.Counts})
	}
	for _, check := range v.Verifications {
		d.Verifications = append(d.Verifications, verificationOf(check))
	}
	for _, again := range v.Resubmits {
		d.Resubmits = append(d.Resubmits, string(again.ID))
	}
	return d
}

func artifactData(a signing.Artifact) api.ArtifactData {
	return api.ArtifactData{FileName: a.FileName, SizeInBytes: a.Size, Sha256Hash: a.SHA256}
}

func originOf(o *signing.Origin) (out api.Origin) {
	out.BuildData.URL = o.BuildURL
	out.BuildData.BuildSettingsFile.FileName = o.SettingsFileName
	out.RepositoryData.URL = o.RepositoryURL
	out.RepositoryData.BranchName = o.BranchName
	out.RepositoryData.CommitID = o.CommitID
	out.RepositoryData.SourceControlManagementType = o.SourceControlType
	return out
}

func verificationOf(v signing.Verification) api.Verification {
	out := api.Verification{Name: v.Name, Result: api.VerificationResult(v.Result), Explanation: v.Explanation, Remedy: v.Remedy, At: v.At}
	for _, in := range v.Inputs {
		out.Inputs = append(out.Inputs, api.VerificationInput{Name: in.Name, Value: in.Value})
	}
	return out
}

// GetSigningRequestStatus tells the status alone.
func (s *service) GetSigningRequestStatus(ctx context.Context, r api.GetSigningRequestStatusRequestObject) (api.GetSigningRequestStatusResponseObject, error) {
	id, err := requestID(r.SigningRequestID)
	if err != nil {
		return nil, err
	}
	request, err := s.signing.RequestStatus(ctx, actorOf(ctx), id)
	if err != nil {
		return nil, err
	}
	return api.GetSigningRequestStatus200JSONResponse{StatusJSONResponse: stateOf(request)}, nil
}

func stateOf(r *signing.Request) api.StatusJSONResponse {
	status := r.Workflow.Status()
	return api.StatusJSONResponse{SigningRequestID: string(r.ID), Status: api.SigningRequestStatus(status),
		WorkflowStatus: api.WorkflowStatus(r.Workflow), IsFinalStatus: status.Final()}
}

// decide performs an action on a request that takes a comment.
func decide(ctx context.Context, rawID string, body *api.Decision, action func(context.Context, signing.Actor, signing.ID, string) (*signing.Request, error)) (api.StatusJSONResponse, error) {
	id, err := requestID(rawID)
	if err != nil {
		return api.StatusJSONResponse{}, err
	}
	comment := ""
	if body != nil {
		comment = body.Comment
	}
	request, err := action(ctx, actorOf(ctx), id, comment)
	if err != nil {
		return api.StatusJSONResponse{}, err
	}
	return stateOf(request), nil
}

// ApproveSigningRequest approves a waiting request.
func (s *service) ApproveSigningRequest(ctx context.Context, r api.ApproveSigningRequestRequestObject) (api.ApproveSigningRequestResponseObject, error) {
	state, err := decide(ctx, r.SigningRequestID, r.Body, s.signing.Approve)
	if err != nil {
		return nil, err
	}
	return api.ApproveSigningRequest200JSONResponse{StatusJSONResponse: state}, nil
}

// DenySigningRequest denies a waiting request, which ends it.
func (s *service) DenySigningRequest(ctx context.Context, r api.DenySigningRequestRequestObject) (api.DenySigningRequestResponseObject, error) {
	state, err := decide(ctx, r.SigningRequestID, r.Body, s.signing.Deny)
	if err != nil {
		return nil, err
	}
	return api.DenySigningRequest200JSONResponse{StatusJSONResponse: state}, nil
}

// CancelSigningRequest cancels a request that is not final.
func (s *service) CancelSigningRequest(ctx context.Context, r api.CancelSigningRequestRequestObject) (api.CancelSigningRequestResponseObject, error) {
	state, err := decide(ctx, r.SigningRequestID, r.Body, s.signing.Cancel)
	if err != nil {
		return nil, err
	}
	return api.CancelSigningRequest200JSONResponse{StatusJSONResponse: state}, nil
}

// file answers with what open opens.
func (s *service) file(ctx context.Context, rawID string, open func(context.Context, signing.Actor, signing.ID) (*signing.Download, error)) (*download, error) {
	id, err := requestID(rawID)
	if err != nil {
		return nil, err
	}
	d, err := open(ctx, actorOf(ctx), id)
	if err != nil {
		return nil, err
	}
	return &download{request: exchangeOf(ctx).request, name: d.File.FileName, sha256: d.File.SHA256, content: d.Blob, size: d.Blob.Size()}, nil
}

// GetSignedArtifact sends the signed artifact.
func (s *service) GetSignedArtifact(ctx context.Context, r api.GetSignedArtifactRequestObject) (api.GetSignedArtifactResponseObject, error) {
	d, err := s.file(ctx, r.SigningRequestID, s.signing.SignedArtifact)
	if err != nil {
		return nil, err
	}
	return d, nil
}

// GetUnsignedArtifact sends the artifact as it was submitted.
func (s *service) GetUnsignedArtifact(ctx context.Context, r api.GetUnsignedArtifactRequestObject) (api.GetUnsignedArtifactResponseObject, error) {
	d, err := s.file(ctx, r.SigningRequestID, s.signing.UnsignedArtifact)
	if err != nil {
		return nil, err
	}
	return d, nil
}

// GetBuildSettingsFile sends the origin's build settings file.
func (s *service) GetBuildSettingsFile(ctx context.Context, r api.GetBuildSettingsFileRequestObject) (api.GetBuildSettingsFileResponseObject, error) {
	d, err := s.file(ctx, r.SigningRequestID, s.signing.BuildSettingsFile)
	if err != nil {
		return nil, err
	}
	return d, nil
}
