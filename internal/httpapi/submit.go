package httpapi

import (
	"bufio"
	"context"
	"errors"
	"io"
	"mime/multipart"
	"net/http"
	"regexp"
	"strings"
	"time"

	"github.com/countersign-dev/countersign/api"
	"github.com/countersign-dev/countersign/internal/signing"
)

const (
	fieldArtifact = "artifact"
	fieldSettings = "origin.buildData.buildSettingsFile"
	fieldTimeout  = "cancellationTimeoutInSeconds"

	// maxSettingsBytes bounds a build settings file. They are scripts.
	maxSettingsBytes = 4 << 20
	// maxTimeoutSeconds is what a cancellation timeout may be at most: a year.
	maxTimeoutSeconds = 366 * 24 * 3600
)

// staging takes the files of a form while it is read. Until keep is called, discard removes their bytes again.
type staging struct {
	ctx      context.Context
	service  *signing.Service
	actor    signing.Actor
	artifact *signing.Staged
	settings *signing.Staged
	kept     bool
}

// takeArtifact is the sink of the artifact.
func (st *staging) takeArtifact(file filePart, content io.Reader) (err error) {
	st.artifact, err = st.service.Stage(st.ctx, st.actor, file.name, content)
	return err
}

// takeSettings is the sink of the build settings file. Only a trusted build system's word about an origin counts, so the
// bytes of others are not stored. An empty file is an absent one.
func (st *staging) takeSettings(file filePart, content io.Reader) (err error) {
	if st.actor.TrustedBuildSystemID == "" {
		return nil
	}
	bounded := bufio.NewReader(&boundedReader{r: content, left: maxSettingsBytes})
	if _, err := bounded.Peek(1); errors.Is(err, io.EOF) {
		return nil
	}
	st.settings, err = st.service.Stage(st.ctx, st.actor, file.name, bounded)
	if errors.Is(err, errSettingsTooLarge) {
		return signing.Errorf(signing.KindTooLarge, "The build settings file is larger than %d bytes.", maxSettingsBytes)
	}
	return err
}

// keep says that a request refers to the files now.
func (st *staging) keep() { st.kept = true }

func (st *staging) discard() {
	if !st.kept {
		st.artifact.Discard(st.ctx)
		st.settings.Discard(st.ctx)
	}
}

var errSettingsTooLarge = errors.New("the build settings file is too large")

// boundedReader fails, rather than end, when there is more to read than it may pass on.
type boundedReader struct {
	r    io.Reader
	left int64
}

// Read reads at most what is left, and one byte more to see whether there is one.
func (b *boundedReader) Read(p []byte) (int, error) {
	if int64(len(p)) > b.left+1 {
		p = p[:b.left+1]
	}
	n, err := b.r.Read(p)
	if int64(n) > b.left {
		return 0, errSettingsTooLarge
	}
	b.left -= int64(n)
	return n, err
}

// SubmitWithArtifact makes a signing request of a form with its artifact.
func (s *service) SubmitWithArtifact(ctx context.Context, r api.SubmitWithArtifactRequestObject) (api.SubmitWithArtifactResponseObject, error) {
	body, err := s.submit(ctx, r.Body, r.Params.IdempotencyKey)
	if err != nil {
		return nil, err
	}
	return api.SubmitWithArtifact201JSONResponse{SubmittedJSONResponse: body}, nil
}

// SubmitSigningRequest is SubmitWithArtifact under its old address.
func (s *service) SubmitSigningRequest(ctx context.Context, r api.SubmitSigningRequestRequestObject) (api.SubmitSigningRequestResponseObject, error) {
	body, err := s.submit(ctx, r.Body, r.Params.IdempotencyKey)
	if err != nil {
		return nil, err
	}
	return api.SubmitSigningRequest201JSONResponse{SubmittedJSONResponse: body}, nil
}

func (s *service) submit(ctx context.Context, body *multipart.Reader, idempotencyKey string) (api.SubmittedJSONResponse, error) {
	request, err := s.submitForm(ctx, body, idempotencyKey, func(sub *signing.Submission, _ *form, files *staging) error {
		sub.Artifact = files.artifact
		return nil
	}, fieldArtifact)
	if err != nil {
		return api.SubmittedJSONResponse{}, err
	}
	return submittedResponse(ctx, request), nil
}

// submitForm reads a form and submits it. locate says where the artifact is, artifactField which file of the form it is,
// if any.
func (s *service) submitForm(ctx context.Context, body *multipart.Reader, idempotencyKey string,
	locate func(*signing.Submission, *form, *staging) error, artifactField string,
) (*signing.Request, error) {
	a := actorOf(ctx)
	files := &staging{ctx: ctx, service: s.signing, actor: a}
	defer files.discard()
	sinks := map[string]fileSink{fieldSettings: files.takeSettings}
	if artifactField != "" {
		sinks[artifactField] = files.takeArtifact
	}
	f, err := readForm(body, sinks)
	if err != nil {
		return nil, err
	}
	sub, err := submission(f)
	if err != nil {
		return nil, err
	}
	if err := locate(&sub, f, files); err != nil {
		return nil, err
	}
	sub.IdempotencyKey = idempotencyKey
	if sub.Origin == nil && (files.settings != nil || f.hasFile(fieldSettings) && a.TrustedBuildSystemID == "") {
		sub.Origin = &signing.Origin{} // of others it is not kept, but that is said
	}
	if files.settings != nil {
		sub.Origin.SettingsFileName, sub.Origin.SettingsBlobID = files.settings.Artifact().FileName, files.settings.Artifact().BlobID
	}
	request, created, err := s.signing.Submit(ctx, a, sub)
	if err != nil {
		return nil, err
	}
	if created {
		files.keep()
	}
	return request, nil
}

// SubmitWithoutArtifact makes a signing request whose artifact is uploaded afterwards.
func (s *service) SubmitWithoutArtifact(ctx context.Context, r api.SubmitWithoutArtifactRequestObject) (api.SubmitWithoutArtifactResponseObject, error) {
	request, err := s.submitForm(ctx, r.Body, r.Params.IdempotencyKey, func(sub *signing.Submission, f *form, _ *staging) error {
		sub.Upload = &signing.Upload{FileName: f.text("unsignedArtifactMetadata.fileName"), SHA256: f.text("unsignedArtifactMetadata.sha256Hash")}
		if sub.Upload.FileName == "" {
			return signing.Invalid("UnsignedArtifactMetadata.FileName", "The artifact's file name is required.")
		}
		return nil
	}, "")
	if err != nil {
		return nil, err
	}
	submitted := submittedResponse(ctx, request)
	body := api.SubmittedForUpload{SigningRequestID: submitted.Body.SigningRequestID, WebLink: submitted.Body.WebLink, Status: submitted.Body.Status,
		WorkflowStatus: submitted.Body.WorkflowStatus, IsFinalStatus: submitted.Body.IsFinalStatus}
	if request.Failure == nil { // also when an earlier submission made the request: what it has may be uploaded again
		body.UploadLink = exchangeOf(ctx).links.signingRequest(string(request.OrganizationID), string(request.ID), uploadPath)
	}
	return api.SubmitWithoutArtifact201JSONResponse{Body: body, Headers: api.SubmitWithoutArtifact201ResponseHeaders{Location: submitted.Headers.Location}}, nil
}

// uploadLink returns where a request's artifact is to be uploaded; empty when none is waited for.
func uploadLink(l links, r *signing.Request) string {
	if !r.AwaitsUpload() || r.Workflow.Status().Final() {
		return ""
	}
	return l.signingRequest(string(r.OrganizationID), string(r.ID), uploadPath)
}

const uploadPath = "UploadUnsignedArtifact"

// UploadUnsignedArtifact takes the artifact of a request that was submitted without one.
func (s *service) UploadUnsignedArtifact(ctx context.Context, r api.UploadUnsignedArtifactRequestObject) (api.UploadUnsignedArtifactResponseObject, error) {
	id, err := requestID(r.SigningRequestID)
	if err != nil {
		return nil, err
	}
	_, err = s.signing.UploadArtifact(ctx, actorOf(ctx), id, bodyReader{r.Body})
	return reply[api.UploadUnsignedArtifactResponseObject](api.UploadUnsignedArtifact202Response{}, err)
}

// bodyReader tells a failure to read the body from one of the server.
type bodyReader struct{ body io.Reader }

// Read reads the body.
func (b bodyReader) Read(p []byte) (int, error) {
	n, err := b.body.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		err = requestError(err)
	}
	return n, err
}

// SubmitWithArtifactRetrievalLink makes a signing request whose artifact the server retrieves.
func (s *service) SubmitWithArtifactRetrievalLink(ctx context.Context, r api.SubmitWithArtifactRetrievalLinkRequestObject) (api.SubmitWithArtifactRetrievalLinkResponseObject, error) {
	request, err := s.submitForm(ctx, r.Body, r.Params.IdempotencyKey, func(sub *signing.Submission, f *form, _ *staging) (err error) {
		sub.Link = &signing.Link{URL: f.text("artifactRetrievalLink.url"), FileName: f.text("artifactRetrievalLink.fileName"), SHA256: f.text("artifactRetrievalLink.sha256Hash")}
		sub.Link.Headers, err = linkHeaders(f)
		return err
	}, "")
	if err != nil {
		return nil, err
	}
	return api.SubmitWithArtifactRetrievalLink201JSONResponse{SubmittedJSONResponse: submittedResponse(ctx, request)}, nil
}

const fieldHeaders = "artifactRetrievalLink.httpHeaders"

// headerField are the fields of a retrieval link's headers, in lower case: artifactRetrievalLink.httpHeaders[N].key and .value in
// pairs, with numbers of any order, or artifactRetrievalLink.httpHeaders[NAME] with the value.
var headerField = regexp.MustCompile(`^artifactretrievallink\.httpheaders\[([^\]]+)\](\.key|\.value|)$`)

// linkHeaders reads the headers of a retrieval link. A field of headers that is none is an error: the retrieval would lack it.
func linkHeaders(f *form) (map[string]string, error) {
	headers, pairs := map[string]string{}, map[string][2]string{}
	for _, field := range sortedNames(f.fields) {
		match := headerField.FindStringSubmatch(field)
		switch {
		case match == nil && strings.HasPrefix(field, strings.ToLower(fieldHeaders)):
			return nil, signing.Invalid(pascalName(fieldHeaders), "'%s' is no field of a header: send %s[0].key and %s[0].value.", truncate(field, 100), fieldHeaders, fieldHeaders)
		case match == nil:
		case match[2] == "":
			headers[http.CanonicalHeaderKey(match[1])] = f.fields[field]
		default:
			pair := pairs[match[1]]
			pair[map[string]int{".key": 0, ".value": 1}[match[2]]] = f.fields[field]
			pairs[match[1]] = pair
		}
	}
	for i, pair := range pairs {
		name := pair[0]
		if name == "" {
			return nil, signing.Invalid(pascalName(fieldHeaders), "The header with index %s has a value but no key.", truncate(i, 100))
		}
		if _, twice := headers[name]; twice {
			return nil, signing.Invalid(pascalName(fieldHeaders), "The header '%s' is given more than once.", truncate(name, 100))
		}
		headers[name] = pair[1]
	}
	return headers, nil
}

// submission reads the fields of a submission.
func submission(f *form) (signing.Submission, error) {
	sub := signing.Submission{
		Target:      signing.Target{ProjectSlug: f.text("projectSlug"), PolicySlug: f.text("signingPolicySlug"), ConfigurationSlug: f.text("artifactConfigurationSlug")},
		Description: f.text("description"),
		Parameters:  f.parameters,
	}
	fast, err := f.boolean("isFastSigningRequest")
	if err == nil && fast {
		err = signing.Invalid("IsFastSigningRequest", "Fast hash signing is not available in this version: submit without isFastSigningRequest and download the signed artifact.")
	}
	if err != nil {
		return sub, err
	}
	if sub.PolicyID, err = f.id("signingPolicyId"); err != nil {
		return sub, err
	}
	if sub.ConfigurationID, err = f.id("artifactConfigurationId"); err != nil {
		return sub, err
	}
	seconds, err := f.number(fieldTimeout, maxTimeoutSeconds)
	if err != nil {
		return sub, err
	}
	sub.CancellationTimeout = time.Duration(seconds) * time.Second
	origin := signing.Origin{
		RepositoryURL:     f.text("origin.repositoryData.url"),
		SourceControlType: f.text("origin.repositoryData.sourceControlManagementType"),
		BranchName:        f.text("origin.repositoryData.branchName"),
		CommitID:          f.text("origin.repositoryData.commitId"),
		BuildURL:          f.text("origin.buildData.url"),
	}
	if origin != (signing.Origin{}) {
		sub.Origin = &origin
	}
	return sub, nil
}

// ResubmitSigningRequest submits a completed request again under another signing policy.
func (s *service) ResubmitSigningRequest(ctx context.Context, r api.ResubmitSigningRequestRequestObject) (api.ResubmitSigningRequestResponseObject, error) {
	body, err := readResubmit(r)
	if err != nil {
		return nil, err
	}
	re := signing.Resubmission{
		PolicySlug: body.SigningPolicySlug, Description: body.Description,
		CancellationTimeout: time.Duration(body.CancellationTimeoutInSeconds) * time.Second,
		CurrentSettings:     body.CurrentSettings, IdempotencyKey: r.Params.IdempotencyKey,
	}
	if n := body.CancellationTimeoutInSeconds; n < 0 || n > maxTimeoutSeconds {
		return nil, signing.Invalid(pascalName(fieldTimeout), "The value must be a whole number from 0 to %d.", maxTimeoutSeconds)
	}
	if re.OriginalID, err = parseID("originalSigningRequestId", body.OriginalSigningRequestID); err != nil {
		return nil, err
	}
	if re.PolicyID, err = parseID("signingPolicyId", body.SigningPolicyID); err != nil {
		return nil, err
	}
	request, err := s.signing.Resubmit(ctx, actorOf(ctx), re)
	if err != nil {
		return nil, err
	}
	return api.ResubmitSigningRequest201JSONResponse{SubmittedJSONResponse: submittedResponse(ctx, request)}, nil
}

// submittedResponse answers a submission: where the request is, and what it is by now.
func submittedResponse(ctx context.Context, r *signing.Request) api.SubmittedJSONResponse {
	l := exchangeOf(ctx).links
	status := r.Workflow.Status()
	return api.SubmittedJSONResponse{
		Headers: api.SubmittedResponseHeaders{Location: l.signingRequest(string(r.OrganizationID), string(r.ID))},
		Body: api.SubmittedSigningRequest{
			SigningRequestID: string(r.ID), WebLink: l.web(string(r.OrganizationID), string(r.ID)),
			Status: api.SigningRequestStatus(status), WorkflowStatus: api.WorkflowStatus(r.Workflow), IsFinalStatus: status.Final(),
		},
	}
}
