package signing

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"path"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/countersign-dev/countersign/artifact"
)

// Bounds of what a submission may carry.
const (
	maxParameters    = 100
	maxFileName      = 255  // bytes
	maxOriginField   = 2000 // bytes of a repository URL
	maxCancelSeconds = 366 * 24 * 3600
)

// Staged is an artifact whose bytes are durable but which no request refers to yet.
type Staged struct {
	artifact Artifact
	service  *Service
}

// Artifact returns the staged artifact's name, size and digest.
func (st *Staged) Artifact() Artifact { return st.artifact }

// Discard removes the bytes again, unless a request refers to them: after an error of Submit the commit's outcome may be
// unknown. Bytes that are neither discarded nor submitted are swept later.
func (st *Staged) Discard(ctx context.Context) {
	if st != nil {
		st.service.dropUnreferenced(context.WithoutCancel(ctx), st.artifact.BlobID)
	}
}

// Stage stores an artifact's bytes while hashing them, in memory that does not grow with the artifact. KindTooLarge when
// it is over the limit, KindInvalid when it is empty.
func (s *Service) Stage(ctx context.Context, a Actor, fileName string, r io.Reader) (*Staged, error) {
	if !a.Allowed(OpListRequests) {
		return nil, Errorf(KindForbidden, "%s may not submit artifacts.", a.display())
	}
	return s.stage(ctx, fileName, r)
}

// copyBuffer is a piece of an artifact on its way in. Small artifacts are many, and a new buffer for each is most of the
// memory that they take.
type copyBuffer [256 << 10]byte

var copyBuffers = sync.Pool{New: func() any { return new(copyBuffer) }}

func (s *Service) stage(ctx context.Context, fileName string, r io.Reader) (*Staged, error) {
	w, err := s.blobs.Create(ctx)
	if err != nil {
		return nil, fmt.Errorf("store the artifact: %w", err)
	}
	defer w.Abort()
	h := sha256.New()
	buffer := copyBuffers.Get().(*copyBuffer)
	defer copyBuffers.Put(buffer)
	n, err := io.CopyBuffer(struct{ io.Writer }{io.MultiWriter(w, h)}, struct{ io.Reader }{io.LimitReader(r, s.limits.ArtifactBytes+1)}, buffer[:])
	if err != nil {
		return nil, fmt.Errorf("receive the artifact: %w", err)
	}
	if n > s.limits.ArtifactBytes {
		return nil, &Error{Kind: KindTooLarge, Message: fmt.Sprintf("The artifact is larger than this server's limit of %d bytes.", s.limits.ArtifactBytes)}
	}
	if n == 0 {
		return nil, Invalid("Artifact", "The artifact is empty: the file part carried no bytes.")
	}
	id, err := w.Commit(ctx)
	if err != nil {
		return nil, fmt.Errorf("store the artifact: %w", err)
	}
	return &Staged{
		artifact: Artifact{FileName: cleanFileName(fileName), BlobID: id, Size: n, SHA256: hex.EncodeToString(h.Sum(nil))},
		service:  s,
	}, nil
}

// cleanFileName keeps a client's file name recognisable and harmless: no directory, no control characters, bounded.
func cleanFileName(name string) string {
	name = path.Base(strings.ReplaceAll(name, `\`, "/"))
	name = strings.Map(func(r rune) rune {
		if r == utf8.RuneError || unicode.IsControl(r) || unicode.In(r, unicode.Bidi_Control) {
			return -1
		}
		return r
	}, name)
	for len(name) > maxFileName {
		_, n := utf8.DecodeRuneInString(name)
		name = name[n:] // the end carries the extension
	}
	if name = strings.TrimSpace(name); name == "" || name == "." || name == ".." || name == "/" {
		return "artifact"
	}
	return name
}

// Target names the signing policy of a submission: either slugs, or the policy's id without slugs.
type Target struct {
	ProjectSlug       string
	PolicySlug        string
	PolicyID          ID
	ConfigurationSlug string // empty: the project's default
	ConfigurationID   ID
}

// Submission is a new signing request as its submitter describes it.
type Submission struct {
	Target
	Description         string
	Parameters          map[string]string
	Origin              *Origin // as claimed; counts only when the actor came with a trusted build system's token
	CancellationTimeout time.Duration
	IdempotencyKey      string
	// Exactly one of these says where the artifact is.
	Artifact *Staged // here
	Upload   *Upload // uploaded afterwards
	Link     *Link   // to be retrieved
}

// resolved is a target's objects.
type resolved struct {
	project       *Project
	policy        *Policy
	configuration *Configuration
	version       *ConfigurationVersion
}

// Submit makes a signing request of a staged artifact. On any error the caller discards the staged bytes.
//
// A trusted build system that submits the same artifact of the same build again gets its pending request, without a key,
// too. With an idempotency key, a pending or completed request that the same user made with the same key, policy, artifact,
// parameters and origin is returned instead of a new one; created is then false and the staged bytes are not used.
func (s *Service) Submit(ctx context.Context, a Actor, sub Submission) (r *Request, created bool, err error) {
	artifact, retrieval, err := s.artifactOf(ctx, sub)
	if err != nil {
		return nil, false, err
	}
	err = s.store.Tx(ctx, func(tx Tx) error {
		t, err := s.resolveTarget(ctx, tx, a.OrganizationID, sub.Target)
		if err != nil {
			return err
		}
		if err := require(a, OpSubmit, scope{project: t.project, policy: t.policy}); err != nil {
			return err
		}
		params, err := checkSubmission(t, sub)
		if err != nil {
			return err
		}
		now := s.now()
		r = &Request{
			ID: NewID(), OrganizationID: a.OrganizationID, ProjectID: t.project.ID, PolicyID: t.policy.ID,
			ConfigurationID: t.configuration.ID, ConfigurationVersion: t.version.Number,
			Workflow: WorkflowSubmitted, Description: sub.Description, SubmitterID: a.UserID, SubmittedVia: a.Via,
			TrustedBuildSystemID: a.TrustedBuildSystemID, Unsigned: artifact, Retrieval: retrieval, Parameters: params,
			IdempotencyKey: sub.IdempotencyKey, CreatedAt: now, CancelAt: cancelAt(now, sub.CancellationTimeout),
		}
		if sub.Link != nil {
			r.Workflow = WorkflowRetrievingArtifact
		}
		var besides []Verification
		switch {
		case sub.Origin == nil:
		case a.TrustedBuildSystemID == "":
			besides = append(besides, originNotTaken(now))
		default:
			r.Origin = sub.Origin.withoutSecrets()
		}
		earlier, err := sameSubmission(ctx, tx, r)
		if err != nil {
			return err
		}
		if earlier != nil {
			r, created = earlier, false
			return nil
		}
		created = true
		return s.insertRequest(ctx, tx, a, r, t, besides...)
	})
	if err != nil {
		return nil, false, err
	}
	return r, created, nil
}

// insertRequest evaluates the policy's origin rules, stores the request with its first audit entry, and wakes a worker.
// A request whose origin the policy refuses is stored as failed, so that the refusal is visible and explained. besides are
// verifications of the submission itself.
func (s *Service) insertRequest(ctx context.Context, tx Tx, a Actor, r *Request, t *resolved, besides ...Verification) error {
	certificate, err := tx.Certificate(ctx, r.OrganizationID, t.policy.CertificateID)
	if err != nil {
		return fmt.Errorf("certificate of signing policy '%s': %w", t.policy.Slug, err)
	}
	if t.policy.Rules.WantsBuildSystem() && r.TrustedBuildSystemID == "" {
		return noBuildSystem(a, r, t)
	}
	by, err := vouching(ctx, tx, r, t.project)
	if err != nil {
		return err
	}
	verifications := evaluate(s.now(), r, t.project, t.policy, certificate, by, s.stamps != nil)
	if failure := policyFailure(verifications); failure != nil {
		s.finish(r, WorkflowProcessingFailed, failure)
	} else if r.AwaitsUpload() {
		r.WakeAt = r.CancelAt
	} else {
		r.WakeAt = s.wakeAt(r, s.limits.Wake)
	}
	if err := tx.InsertRequest(ctx, r); err != nil {
		return err
	}
	if err := tx.PutVerifications(ctx, r.ID, append(verifications, besides...)); err != nil {
		return err
	}
	if !r.Workflow.Status().Final() && !r.AwaitsUpload() {
		if err := enqueue(ctx, tx, r, time.Time{}); err != nil {
			return err
		}
	}
	if r.CancelAt != nil && r.CancelAt.Sub(r.CreatedAt) <= SweepEvery { // the sweep may not look before
		if err := tx.EnqueueAdvance(ctx, r.ID, *r.CancelAt); err != nil {
			return err
		}
	}
	data := submittedData(r, t, by)
	if r.Failure != nil {
		if err := s.announce(ctx, tx, r, EventFailed, a, ""); err != nil {
			return err
		}
		data["failure"] = r.Failure
	}
	return s.record(ctx, tx, a, "SigningRequest.Submitted", requestObject(r), data)
}

// noBuildSystem refuses a request that no trusted build system vouches for, under a policy that wants one. People in front of
// a page cannot submit to such a policy at all. An API token of theirs counts as much as one of a CI user: what matters is
// that the build system's own token came with it (wire contract, section 2.1). A resubmit is judged by who vouched for its
// original, so people may resubmit.
func noBuildSystem(a Actor, r *Request, t *resolved) error {
	switch {
	case r.OriginalID != "":
		return Errorf(KindForbidden, "Signing policy '%s' takes only what a trusted build system vouches for, and none did for the original signing request: submit the artifact again from a build system that is linked to project '%s'.", t.policy.Slug, t.project.Slug)
	case a.Kind == Interactive:
		return Errorf(KindForbidden, "Interactive users cannot submit to signing policy '%s': it takes signing requests only from a trusted build system. Let a build system that is linked to project '%s' submit, with 'Authorization: Bearer <apiToken>:<trustedBuildSystemToken>'.", t.policy.Slug, t.project.Slug)
	default:
		return Errorf(KindForbidden, "Signing policy '%s' takes signing requests only from a trusted build system: send 'Authorization: Bearer <apiToken>:<trustedBuildSystemToken>' from a build system that is linked to project '%s'.", t.policy.Slug, t.project.Slug)
	}
}

func submittedData(r *Request, t *resolved, by voucher) map[string]any {
	data := map[string]any{
		"project": t.project.Slug, "signingPolicy": t.policy.Slug,
		"artifactConfiguration": t.configuration.Slug, "artifactConfigurationVersion": r.ConfigurationVersion,
		"fileName": r.Unsigned.FileName, "size": r.Unsigned.Size, "sha256": r.Unsigned.SHA256,
	}
	if len(r.Parameters) > 0 {
		data["parameters"] = r.Parameters
	}
	if r.Origin != nil {
		data["origin"] = r.Origin
	}
	if r.TrustedBuildSystemID != "" {
		data["trustedBuildSystem"], data["trustedBuildSystemId"] = by.name, r.TrustedBuildSystemID
	}
	if r.OriginalID != "" {
		data["originalSigningRequestId"] = r.OriginalID
	}
	return data
}

// resolveTarget finds the objects that a target names. Unknown ones are errors of their request field.
func (s *Service) resolveTarget(ctx context.Context, tx Tx, org ID, t Target) (*resolved, error) {
	var v validation
	if t.PolicyID != "" && (t.ProjectSlug != "" || t.PolicySlug != "") {
		return nil, Invalid("SigningPolicyId", "Give either ids or slugs, not both.")
	}
	if t.PolicyID == "" {
		if t.ProjectSlug == "" {
			v.add("ProjectSlug", "The project's slug is required (or the signing policy's id).")
		}
		if t.PolicySlug == "" {
			v.add("SigningPolicySlug", "The signing policy's slug is required (or its id).")
		}
		if err := v.err(); err != nil {
			return nil, err
		}
	}
	r := &resolved{}
	var err error
	if t.PolicyID != "" {
		if r.policy, err = tx.Policy(ctx, org, t.PolicyID); err != nil {
			return nil, fieldNotFound(err, "SigningPolicyId", "There is no signing policy with id '%s'.", t.PolicyID)
		}
		if r.project, err = tx.Project(ctx, org, r.policy.ProjectID); err != nil {
			return nil, err
		}
	} else {
		if r.project, err = tx.ProjectBySlug(ctx, org, t.ProjectSlug); err != nil {
			return nil, fieldNotFound(err, "ProjectSlug", "There is no project with slug '%s'.", t.ProjectSlug)
		}
		if r.policy, err = tx.PolicyBySlug(ctx, org, r.project.ID, t.PolicySlug); err != nil {
			return nil, fieldNotFound(err, "SigningPolicySlug", "There is no signing policy with slug '%s' in the project with slug '%s'.", t.PolicySlug, r.project.Slug)
		}
	}
	switch {
	case t.ConfigurationID != "":
		r.configuration, err = tx.Configuration(ctx, org, t.ConfigurationID)
		if err == nil && r.configuration.ProjectID != r.project.ID {
			err = Errorf(KindNotFound, "The artifact configuration belongs to another project.")
		}
		err = fieldNotFound(err, "ArtifactConfigurationId", "There is no artifact configuration with id '%s' in the project with slug '%s'.", t.ConfigurationID, r.project.Slug)
	case t.ConfigurationSlug != "":
		r.configuration, err = tx.ConfigurationBySlug(ctx, org, r.project.ID, t.ConfigurationSlug)
		err = fieldNotFound(err, "ArtifactConfigurationSlug", "There is no artifact configuration with slug '%s' in the project with slug '%s'.", t.ConfigurationSlug, r.project.Slug)
	case r.project.DefaultConfigurationID == "":
		err = Invalid("ArtifactConfigurationSlug", "The project with slug '%s' has no default artifact configuration: name one.", r.project.Slug)
	default:
		r.configuration, err = tx.Configuration(ctx, org, r.project.DefaultConfigurationID)
	}
	if err != nil {
		return nil, err
	}
	r.version, err = tx.ConfigurationVersion(ctx, org, r.configuration.ID, r.configuration.Latest)
	return r, err
}

// fieldNotFound turns a KindNotFound error into a validation error of the field that named the object.
func fieldNotFound(err error, field, format string, args ...any) error {
	if KindOf(err) == KindNotFound {
		return Invalid(field, format, args...)
	}
	return err
}

// checkSubmission validates everything of a submission that does not depend on who sends it, and resolves parameters.
func checkSubmission(t *resolved, sub Submission) (map[string]string, error) {
	var v validation
	checkActive(&v, t)
	if !t.configuration.Active {
		v.add("ArtifactConfigurationSlug", "The artifact configuration with slug '%s' is deactivated.", t.configuration.Slug)
	}
	v.text("Description", sub.Description)
	if sub.CancellationTimeout < 0 || sub.CancellationTimeout > maxCancelSeconds*time.Second {
		v.add("CancellationTimeoutInSeconds", "The cancellation timeout must be between 0 (none) and %d seconds.", maxCancelSeconds)
	}
	v.idempotencyKey(sub.IdempotencyKey)
	checkOrigin(&v, sub.Origin)
	params := checkParameters(&v, t.version, sub.Parameters)
	return params, v.err()
}

func (v *validation) idempotencyKey(key string) {
	if len(key) > 255 {
		v.add("IdempotencyKey", "The idempotency key has more than 255 bytes.")
	}
}

func checkActive(v *validation, t *resolved) {
	if !t.project.Active {
		v.add("ProjectSlug", "The project with slug '%s' is deactivated.", t.project.Slug)
	}
	if !t.policy.Active {
		v.add("SigningPolicySlug", "The signing policy with slug '%s' is deactivated.", t.policy.Slug)
	}
}

func checkOrigin(v *validation, o *Origin) {
	if o == nil {
		return
	}
	for _, f := range []struct{ name, value string }{
		{"Origin.RepositoryData.Url", o.RepositoryURL},
		{"Origin.RepositoryData.SourceControlManagementType", o.SourceControlType},
		{"Origin.RepositoryData.BranchName", o.BranchName},
		{"Origin.RepositoryData.CommitId", o.CommitID},
		{"Origin.BuildData.Url", o.BuildURL},
	} {
		v.text(f.name, f.value)
		if strings.ContainsFunc(f.value, unicode.IsControl) {
			v.add(f.name, "The text has a control character, such as a line feed.")
		}
	}
	if u := o.BuildURL; u != "" && !strings.HasPrefix(u, "https://") && !strings.HasPrefix(u, "http://") {
		v.add("Origin.BuildData.Url", "The build's URL must be an absolute http or https URL.")
	}
}

// checkParameters resolves the given parameters against those that the configuration declares. Names are compared
// without regard to case, as all of a request's names are.
func checkParameters(v *validation, version *ConfigurationVersion, given map[string]string) map[string]string {
	configuration, err := artifact.ParseConfiguration([]byte(version.XML))
	if err != nil {
		v.add("ArtifactConfigurationSlug", "Version %d of the artifact configuration is not valid: %v", version.Number, err)
		return nil
	}
	if len(given) > maxParameters {
		v.add("Parameters", "There are more than %d parameters.", maxParameters)
		return nil
	}
	declared := configuration.Parameters()
	values := map[string]string{}
	for _, name := range sortedKeys(given) {
		value := given[name]
		i := slices.IndexFunc(declared, func(d artifact.ParameterDefinition) bool { return strings.EqualFold(d.Name, name) })
		switch {
		case !artifact.ValidParameterName(name):
			v.add("Parameters", "'%s' is not a parameter name: letters, digits, '.', '_' and '-' only, at most 100.", truncate(name, 120))
		case i < 0:
			v.add("Parameters."+name, "The artifact configuration declares no parameter '%s'%s.", name, declaredNames(declared))
		default:
			v.text("Parameters."+name, value)
			if before, twice := values[declared[i].Name]; twice && before != value {
				v.add("Parameters."+name, "The parameter '%s' is given more than once, with different values.", declared[i].Name)
			}
			values[declared[i].Name] = value
		}
	}
	if len(v.fields) > 0 {
		return nil
	}
	params, err := configuration.ResolveParameters(values)
	if mistakes := (artifact.ParameterErrors)(nil); errors.As(err, &mistakes) {
		for _, m := range mistakes {
			v.add("Parameters."+m.Name, "The parameter '%s' is not accepted: %s.", m.Name, m.Message)
		}
	} else if err != nil {
		v.add("Parameters", "%v", err)
	}
	return params
}

func declaredNames(d []artifact.ParameterDefinition) string {
	if len(d) == 0 {
		return "; it has no parameters"
	}
	var names []string
	for _, p := range d {
		names = append(names, p.Name)
	}
	return "; it has: " + strings.Join(names, ", ")
}

func truncate(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return strings.ToValidUTF8(s[:n], "") + "…"
}

func cancelAt(now time.Time, timeout time.Duration) *time.Time {
	if timeout <= 0 {
		return nil
	}
	t := now.Add(timeout)
	return &t
}

// wakeAt is when the sweep should look at the request unless something else happens after the delay.
func (s *Service) wakeAt(r *Request, delay time.Duration) *time.Time {
	t := s.now().Add(delay)
	if r.CancelAt != nil && r.CancelAt.Before(t) {
		t = *r.CancelAt
	}
	return &t
}

// sameSubmission finds the request that an earlier, identical submission made, and gives r the key by which a later one is
// recognised. Nil when there is none, or when nothing says that a submission means an earlier one.
func sameSubmission(ctx context.Context, tx Tx, r *Request) (*Request, error) {
	sent := r.IdempotencyKey != ""
	if r.IdempotencyKey = submissionKey(r); r.IdempotencyKey == "" {
		return nil, nil
	}
	if err := tx.LockOrganization(ctx, r.OrganizationID); err != nil { // or both of two at a time find none
		return nil, err
	}
	earlier, err := tx.RequestByIdempotencyKey(ctx, r.OrganizationID, r.PolicyID, r.IdempotencyKey)
	if KindOf(err) == KindNotFound {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	switch earlier.Workflow.Status() {
	case InProgress, WaitingForApproval:
		return earlier, nil
	case Completed:
		if sent { // without a key, nobody asked for more than not to make a second pending request
			return earlier, nil
		}
	case Failed, Denied, Canceled: // a re-run after a failure is a new attempt
	}
	return nil, nil
}

// submissionKey returns what makes a submission the same as an earlier one: the key that its submitter sent, or else the build
// of a trusted build system, together with all that the signature rests on. So a key such as a CI job's id serves for each of
// the job's artifacts. Empty without a key and a build.
func submissionKey(r *Request) string {
	digest := r.Unsigned.SHA256
	if r.Retrieval != nil {
		digest = r.Retrieval.SHA256
	}
	build := r.TrustedBuildSystemID != "" && r.Origin != nil && r.Origin.BuildURL != "" && digest != ""
	if r.IdempotencyKey == "" && !build {
		return ""
	}
	var origin Origin
	if r.Origin != nil {
		origin = *r.Origin
		origin.SettingsBlobID = "" // differs between two uploads of the same file
	}
	var fileName string
	if digest == "" { // then it is all that is known of the artifact
		fileName = r.Unsigned.FileName
	}
	text, _ := json.Marshal(struct { // plain strings and numbers cannot fail to encode
		Key                                             string
		BuildSystem, Submitter, Original, Configuration ID
		Digest, FileName                                string
		Parameters                                      map[string]string
		Origin                                          Origin
	}{r.IdempotencyKey, r.TrustedBuildSystemID, r.SubmitterID, r.OriginalID, r.ConfigurationID, digest, fileName, r.Parameters, origin})
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:])
}

// Resubmission asks for the same artifact to be signed under another policy.
type Resubmission struct {
	OriginalID          ID
	PolicySlug          string // of the original's project; or
	PolicyID            ID
	Description         string // empty: the original's
	CancellationTimeout time.Duration
	IdempotencyKey      string // as of a submission
	// CurrentSettings takes a failed request, too, and uses the artifact configuration's latest version; the policy may
	// then be left out and is the original's.
	CurrentSettings bool
}

// Resubmit makes a new signing request of a completed one's very same artifact bytes, configuration version, parameters
// and origin, under another signing policy of the same project. Permission and origin rules are those of the new policy.
func (s *Service) Resubmit(ctx context.Context, a Actor, re Resubmission) (*Request, error) {
	if re.OriginalID == "" {
		return nil, Invalid("OriginalSigningRequestId", "The original signing request's id is required.")
	}
	if re.PolicySlug == "" && re.PolicyID == "" && !re.CurrentSettings {
		return nil, Invalid("SigningPolicySlug", "The signing policy is required: its slug or its id.")
	}
	if re.PolicySlug != "" && re.PolicyID != "" {
		return nil, Invalid("SigningPolicyId", "Give either the signing policy's id or its slug, not both.")
	}
	var r *Request
	err := s.store.Tx(ctx, func(tx Tx) error {
		original, t, err := s.resolveResubmit(ctx, tx, a, re)
		if err != nil {
			return err
		}
		params := original.Parameters
		if re.CurrentSettings { // the latest version may declare others
			var v validation
			if params = checkParameters(&v, t.version, declaredOnly(t.version, params)); v.err() != nil {
				return v.err()
			}
		}
		now := s.now()
		r = &Request{
			ID: NewID(), OrganizationID: a.OrganizationID, ProjectID: original.ProjectID, PolicyID: t.policy.ID,
			ConfigurationID: original.ConfigurationID, ConfigurationVersion: t.version.Number,
			Workflow: WorkflowSubmitted, Description: re.Description, SubmitterID: a.UserID, SubmittedVia: a.Via,
			TrustedBuildSystemID: original.TrustedBuildSystemID, Unsigned: original.Unsigned,
			Parameters: params, Origin: original.Origin, OriginalID: original.ID,
			IdempotencyKey: re.IdempotencyKey, CreatedAt: now, CancelAt: cancelAt(now, re.CancellationTimeout),
		}
		if r.Description == "" {
			r.Description = original.Description
		}
		if r.IdempotencyKey != "" { // of a build's resubmits, only those with a key are the same
			earlier, err := sameSubmission(ctx, tx, r)
			if err != nil {
				return err
			}
			if earlier != nil {
				r = earlier
				return nil
			}
		}
		return s.insertRequest(ctx, tx, a, r, t)
	})
	if err != nil {
		return nil, err
	}
	return r, nil
}

// declaredOnly leaves out the parameters that a version of a configuration does not declare any more: many of a request's are
// defaults that nobody gave.
func declaredOnly(version *ConfigurationVersion, params map[string]string) map[string]string {
	configuration, err := artifact.ParseConfiguration([]byte(version.XML))
	if err != nil {
		return params // checkParameters says what is wrong with it
	}
	declared := configuration.Parameters()
	params = maps.Clone(params)
	maps.DeleteFunc(params, func(name, _ string) bool {
		return !slices.ContainsFunc(declared, func(d artifact.ParameterDefinition) bool { return strings.EqualFold(d.Name, name) })
	})
	return params
}

// resolveResubmit finds and checks what a resubmission refers to. A request that the actor may not read answers like
// an unknown one.
func (s *Service) resolveResubmit(ctx context.Context, tx Tx, a Actor, re Resubmission) (*Request, *resolved, error) {
	unknown := func() error {
		return Invalid("OriginalSigningRequestId", "There is no signing request with id '%s'.", re.OriginalID)
	}
	// Locked, so that its bytes are not removed before the new request refers to them.
	original, err := tx.LockRequest(ctx, a.OrganizationID, re.OriginalID)
	if KindOf(err) == KindNotFound {
		return nil, nil, unknown()
	} else if err != nil {
		return nil, nil, err
	}
	sc, err := requestScope(ctx, tx, original)
	if err != nil {
		return nil, nil, err
	}
	t := &resolved{project: sc.project}
	switch {
	case re.PolicyID == "" && re.PolicySlug == "":
		t.policy, err = tx.Policy(ctx, a.OrganizationID, original.PolicyID)
	case re.PolicyID != "":
		t.policy, err = tx.Policy(ctx, a.OrganizationID, re.PolicyID)
		if err == nil && t.policy.ProjectID != original.ProjectID {
			err = Errorf(KindNotFound, "The signing policy belongs to another project.")
		}
		err = fieldNotFound(err, "SigningPolicyId", "There is no signing policy with id '%s' in the signing request's project.", re.PolicyID)
	default:
		t.policy, err = tx.PolicyBySlug(ctx, a.OrganizationID, original.ProjectID, re.PolicySlug)
		err = fieldNotFound(err, "SigningPolicySlug", "There is no signing policy with slug '%s' in the signing request's project.", re.PolicySlug)
	}
	mayRead := allowed(a, OpReadRequest, sc)
	if err != nil {
		if !mayRead {
			return nil, nil, unknown()
		}
		return nil, nil, err
	}
	if !mayRead && !allowed(a, OpSubmit, scope{project: t.project, policy: t.policy}) {
		return nil, nil, unknown()
	}
	if err := require(a, OpSubmit, scope{project: t.project, policy: t.policy}); err != nil {
		return nil, nil, err
	}
	var v validation
	checkActive(&v, t)
	switch status := original.Workflow.Status(); {
	case status == Failed && !re.CurrentSettings:
		v.add("OriginalSigningRequestId", "Only a completed signing request can be resubmitted as it is; this one is Failed: resubmit it with the current settings (currentSettings).")
	case status != Completed && status != Failed:
		v.add("OriginalSigningRequestId", "Only a completed signing request can be resubmitted; this one is %s.", status)
	case original.ArtifactsDeletedAt != nil:
		v.add("OriginalSigningRequestId", "%s Submit the artifact anew.", original.deleted())
	case original.Unsigned.BlobID == "":
		v.add("OriginalSigningRequestId", "The signing request's artifact never arrived; submit it anew.")
	}
	v.text("Description", re.Description)
	v.idempotencyKey(re.IdempotencyKey)
	if re.CancellationTimeout < 0 || re.CancellationTimeout > maxCancelSeconds*time.Second {
		v.add("CancellationTimeoutInSeconds", "The cancellation timeout must be between 0 (none) and %d seconds.", maxCancelSeconds)
	}
	if err := v.err(); err != nil {
		return nil, nil, err
	}
	if t.configuration, err = tx.Configuration(ctx, a.OrganizationID, original.ConfigurationID); err != nil {
		return nil, nil, err
	}
	number := original.ConfigurationVersion
	if re.CurrentSettings {
		if number = t.configuration.Latest; !t.configuration.Active {
			return nil, nil, Invalid("OriginalSigningRequestId", "The signing request's artifact configuration '%s' is deactivated. Activate it, or submit the artifact with another one.", t.configuration.Slug)
		}
	}
	t.version, err = tx.ConfigurationVersion(ctx, a.OrganizationID, original.ConfigurationID, number)
	return original, t, err
}

// errStale ends a transaction whose request moved on meanwhile.
var errStale = errors.New("the request moved on")
