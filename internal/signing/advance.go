package signing

import (
	"cmp"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"runtime/debug"
	"strings"
	"time"

	"github.com/countersign-dev/countersign/artifact"
	"github.com/countersign-dev/countersign/artifact/authenticode"
	"github.com/countersign-dev/countersign/artifact/ziparchive"
)

// Advance moves a request as far as it goes without a person: it retrieves the artifact, plans it, waits for approvals, signs. It
// is idempotent and safe to call at any time, from any process, for any request: what is to be done follows from the
// stored state alone, a lease keeps workers apart, and a result commits only when its attempt is still the current one.
//
// A failure that may pass (database, key store, timestamp authority) is retried later until the attempts are used up;
// Advance then still returns nil, because the request remembers. It returns an error only when it could not record
// anything.
//
// An artifact that takes its process down takes down what else the process works on, so at first nobody knows which it was.
// A request under which two processes died is advanced with no other beside it in its process: the poisoned one dies alone
// until its attempts are used up, and its neighbours get through.
func (s *Service) Advance(ctx context.Context, id ID) error {
	r, err := s.forWorker(ctx, id)
	if err == nil && r != nil && r.Workflow == WorkflowRetrievingArtifact {
		if err = s.attempt(ctx, r.OrganizationID, id, s.retrieve); err == nil {
			r, err = s.forWorker(ctx, id)
		}
	}
	if r == nil || err != nil || r.Workflow == WorkflowRetrievingArtifact {
		return err
	}
	if r.Unfinished >= suspect {
		s.working.Lock()
		defer s.working.Unlock()
	} else {
		s.working.RLock()
		defer s.working.RUnlock()
	}
	if ctx.Err() != nil { // while it waited
		return ctx.Err()
	}
	return s.attempt(ctx, r.OrganizationID, id, s.work)
}

// Retrieve fetches the artifact of a request that has a retrieval link, as Advance does, and leaves the rest to a job for
// Advance. Whatever the link's server does, it keeps nobody waiting who signs.
func (s *Service) Retrieve(ctx context.Context, id ID) error {
	r, err := s.forWorker(ctx, id)
	if r == nil || err != nil || r.Workflow != WorkflowRetrievingArtifact {
		return err
	}
	return s.attempt(ctx, r.OrganizationID, id, s.retrieve)
}

// forWorker returns what decides how a request is advanced; nil when there is no such request.
func (s *Service) forWorker(ctx context.Context, id ID) (r *RequestForWorker, err error) {
	err = s.store.View(ctx, func(tx Tx) (err error) {
		r, err = tx.RequestForWorker(ctx, id)
		return err
	})
	if KindOf(err) == KindNotFound {
		return nil, nil
	}
	return r, err
}

// enqueue wakes a worker for what a request needs next.
func enqueue(ctx context.Context, tx Tx, r *Request, notBefore time.Time) error {
	if r.Workflow == WorkflowRetrievingArtifact {
		return tx.EnqueueRetrieval(ctx, r.ID, notBefore)
	}
	return tx.EnqueueAdvance(ctx, r.ID, notBefore)
}

// attempt claims a request and works on it.
func (s *Service) attempt(ctx context.Context, org, id ID, work func(context.Context, *job) error) error {
	job, err := s.claim(ctx, org, id)
	if job == nil || err != nil {
		return err
	}
	log := s.log.With("signingRequest", id, "attempt", job.attempt)
	workErr := s.hold(ctx, job, work)
	switch {
	case workErr == nil, errors.Is(workErr, errStale):
		return nil
	case ctx.Err() != nil:
		log.Info("processing interrupted; it continues elsewhere")
		return s.release(context.WithoutCancel(ctx), job, 0)
	}
	var failure *Failure
	if errors.As(workErr, &failure) {
		log.Info("signing request failed", "code", failure.Code, "reason", failure.Message)
		return s.fail(ctx, job, failure)
	}
	if job.tries >= s.limits.Attempts {
		log.Error("signing request failed after its last attempt", "error", workErr)
		if job.request.Workflow == WorkflowRetrievingArtifact {
			return s.fail(ctx, job, &Failure{Code: "Retrieval", Message: fmt.Sprintf("%s; attempt %d was the last one.", strings.TrimSuffix(safeText(workErr), "."), job.tries)})
		}
		return s.fail(ctx, job, &Failure{
			Code:    "Internal",
			Message: fmt.Sprintf("Processing failed %d times; the last time: %s", job.tries, safeText(workErr)),
		})
	}
	delay := min(time.Second<<min(job.tries-1, 6), time.Minute)
	log.Warn("processing failed; retrying", "error", workErr, "in", delay)
	return s.release(ctx, job, delay)
}

// suspect is how many processes may die under a request before it is advanced alone.
const suspect = 2

// Error makes a Failure an error inside the worker.
func (f *Failure) Error() string { return f.Message }

// safeText is what users may see of an unexpected error: the message of typed errors, else only that it was internal.
func safeText(err error) string {
	var e *Error
	if errors.As(err, &e) {
		return e.Error()
	}
	var p *panicError
	if errors.As(err, &p) {
		return "the engine stopped unexpectedly on this artifact; please report it with the server's log."
	}
	return "an internal error; see the server's log."
}

// job is a claimed request: what the claiming transaction read.
type job struct {
	request       *Request
	attempt       int
	tries         int
	project       *Project
	policy        *Policy
	certificate   *Certificate
	by            voucher
	version       *ConfigurationVersion
	organization  *Organization
	needsApproval bool // of a request that was not planned before
}

// claim takes the request for this worker, or returns nil when there is nothing to do.
func (s *Service) claim(ctx context.Context, org, id ID) (*job, error) {
	var j *job
	err := s.store.Tx(ctx, func(tx Tx) error {
		j = nil
		r, err := tx.LockRequest(ctx, org, id)
		if err != nil {
			return err
		}
		now := s.now()
		if r.Workflow.Status().Final() {
			return nil
		}
		if r.CancelAt != nil && !now.Before(*r.CancelAt) {
			return s.cancelLocked(ctx, tx, Countersign(org), r, "The cancellation timeout given at submission passed.")
		}
		switch r.Workflow {
		case WorkflowSubmitted, WorkflowRetrievingArtifact, WorkflowQueuedForProcessing, WorkflowProcessing:
		default:
			return nil // waits for a person
		}
		if r.AwaitsUpload() {
			return nil
		}
		if r.LeaseUntil != nil && now.Before(*r.LeaseUntil) {
			return nil // another worker holds it; the sweep comes back after the lease
		}
		if r.Tries >= s.limits.Attempts {
			// Every earlier attempt ended without a word: the artifact takes its worker down with it.
			return s.failLocked(ctx, tx, r, &Failure{
				Code:    "Internal",
				Message: tooManyTries(r),
			})
		}
		c := &job{request: r}
		if err := s.load(ctx, tx, c); err != nil {
			return err
		}
		r.Attempt++
		r.Tries++
		r.Unfinished++
		s.extend(r)
		if err := tx.UpdateRequest(ctx, r); err != nil {
			return err
		}
		c.attempt, c.tries = r.Attempt, r.Tries
		c.needsApproval = r.Workflow == WorkflowSubmitted && c.policy.Rules.RequiredApprovals > 0
		j = c
		return nil
	})
	return j, err
}

// tooManyTries says how a request's attempts ended when none is left.
func tooManyTries(r *Request) string {
	text := fmt.Sprintf("Processing was started %d times and never finished: the server's process ended %d times while it worked on this artifact", r.Tries, r.Unfinished)
	if r.Unfinished > suspect {
		text += fmt.Sprintf(", the last %d times with no other artifact beside it", r.Unfinished-suspect)
	}
	return text + ". It may run out of memory on it; see the system's log."
}

// load reads what a request refers to.
func (s *Service) load(ctx context.Context, tx Tx, j *job) (err error) {
	r := j.request
	if j.organization, err = tx.Organization(ctx, r.OrganizationID); err != nil {
		return err
	}
	if j.project, err = tx.Project(ctx, r.OrganizationID, r.ProjectID); err != nil {
		return err
	}
	if j.policy, err = tx.Policy(ctx, r.OrganizationID, r.PolicyID); err != nil {
		return err
	}
	if j.certificate, err = tx.Certificate(ctx, r.OrganizationID, j.policy.CertificateID); err != nil {
		return err
	}
	if j.by, err = vouching(ctx, tx, r, j.project); err != nil {
		return err
	}
	j.version, err = tx.ConfigurationVersion(ctx, r.OrganizationID, r.ConfigurationID, r.ConfigurationVersion)
	return err
}

// extend gives whoever holds a request's lease more time.
func (s *Service) extend(r *Request) {
	until := s.now().Add(s.limits.Lease)
	r.LeaseUntil = &until
	r.WakeAt = s.wakeAt(r, s.limits.Lease+time.Second)
}

// mine runs fn in a transaction on the request, provided that this attempt still holds it; else it returns errStale.
func (s *Service) mine(ctx context.Context, j *job, fn func(Tx, *Request) error) error {
	return s.store.Tx(ctx, func(tx Tx) error {
		r, err := tx.LockRequest(ctx, j.request.OrganizationID, j.request.ID)
		if err != nil {
			return err
		}
		if r.Attempt != j.attempt || r.LeaseUntil == nil || r.Workflow.Status().Final() {
			return errStale
		}
		return fn(tx, r)
	})
}

// hold does what is to be done for a claimed request while it keeps the lease. A *Failure is final; any other error may pass.
func (s *Service) hold(ctx context.Context, j *job, work func(context.Context, *job) error) (err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	beat := make(chan struct{})
	go func() { defer close(beat); s.heartbeat(ctx, j, cancel) }()
	defer func() {
		if p := recover(); p != nil {
			s.log.Error("panic while processing", "signingRequest", j.request.ID, "panic", p, "stack", string(debug.Stack()))
			err = &panicError{value: p}
		}
		if errors.Is(context.Cause(ctx), errStale) {
			err = errStale
		}
		cancel(nil)
		<-beat
	}()
	return work(ctx, j)
}

// work plans a request whose artifact is here, and signs it, or waits for approvals.
func (s *Service) work(ctx context.Context, j *job) error {
	blob, err := s.blobs.Open(ctx, j.request.Unsigned.BlobID)
	if err != nil {
		return fmt.Errorf("open the artifact: %w", err)
	}
	defer blob.Close()
	src := artifact.Source{Name: j.request.Unsigned.FileName, Content: blob, Size: blob.Size()}
	plan, err := s.plan(ctx, j, src)
	if err != nil {
		return err
	}
	if j.needsApproval {
		return s.awaitApproval(ctx, j, plan)
	}
	grant, chain, err := s.grant(ctx, j, plan)
	if err != nil || grant == nil {
		return err
	}
	return s.sign(ctx, j, src, plan, grant, chain)
}

type panicError struct{ value any }

func (p *panicError) Error() string { return fmt.Sprintf("panic: %v", p.value) }

// heartbeat keeps the lease until ctx ends, and cancels the work when the request is no longer this attempt's.
func (s *Service) heartbeat(ctx context.Context, j *job, cancel context.CancelCauseFunc) {
	tick := time.NewTicker(s.limits.Lease / 3)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		err := s.mine(ctx, j, func(tx Tx, r *Request) error {
			s.extend(r)
			return tx.UpdateRequest(ctx, r)
		})
		if errors.Is(err, errStale) {
			cancel(errStale)
			return
		}
		if err != nil && ctx.Err() == nil {
			s.log.Warn("heartbeat failed", "signingRequest", j.request.ID, "error", err)
		}
	}
}

func (s *Service) workspace() artifact.Workspace {
	return artifact.Workspace{TempDir: s.tempDir, Limits: s.limits.Engine}
}

// plan applies the pinned configuration to the artifact. An artifact that does not fit is a *Failure.
func (s *Service) plan(ctx context.Context, j *job, src artifact.Source) (*artifact.Plan, error) {
	configuration, err := artifact.ParseConfiguration([]byte(j.version.XML))
	if err != nil {
		return nil, &Failure{Code: "Configuration", Message: fmt.Sprintf("Version %d of the artifact configuration is not valid: %v", j.version.Number, err)}
	}
	plan, err := configuration.Plan(ctx, src, artifact.PlanOptions{
		Workspace: s.workspace(), Parameters: j.request.Parameters,
		Strict: j.policy.Rules.StrictConfiguration, Trust: trust(j.organization),
		Hashes: artifact.HashAll, // the request's record names every contained file with its hash
	})
	if mistakes := (artifact.ConfigurationErrors)(nil); errors.As(err, &mistakes) {
		return nil, &Failure{Code: "Configuration", Message: mistakes.Error()}
	}
	if mistakes := (artifact.ParameterErrors)(nil); errors.As(err, &mistakes) {
		return nil, &Failure{Code: "Parameters", Message: mistakes.Error()}
	}
	if err != nil {
		return nil, fmt.Errorf("plan: %w", err)
	}
	if plan.ArtifactSHA256 != j.request.Unsigned.SHA256 {
		return nil, &Failure{Code: "Integrity", Message: fmt.Sprintf("The stored artifact has SHA-256 %s but was submitted with %s: its bytes were changed in the store. Submit it again and have the store checked.", plan.ArtifactSHA256, j.request.Unsigned.SHA256)}
	}
	if len(plan.Violations) > 0 {
		f := &Failure{Code: "Plan"}
		for _, v := range plan.Violations {
			f.Details = append(f.Details, describe(src.Name, v))
		}
		f.Message = "The artifact does not fit its artifact configuration: " + f.Details[0]
		if n := len(f.Details) - 1; n > 0 {
			f.Message += fmt.Sprintf(" (and %d more)", n)
		}
		return nil, f
	}
	return plan, nil
}

func describe(artifactName string, v artifact.Violation) string {
	text := cmp.Or(v.Path, artifactName) + ": " + v.Message
	if v.Rule != "" {
		text += fmt.Sprintf(" [%s, line %d]", v.Rule, v.Line)
	}
	if v.Hint != "" {
		text += "; " + v.Hint
	}
	return text
}

// trust returns what <authenticode-verify> trusts in an organization.
func trust(o *Organization) artifact.Trust {
	t := artifact.Trust{SystemRoots: true}
	if pem := o.Settings.AuthenticodeRootsPEM; pem != "" {
		t.Roots = x509.NewCertPool()
		t.Roots.AppendCertsFromPEM([]byte(pem))
	}
	return t
}

// awaitApproval stores the plan, so that approvers see what would be signed, and waits for them.
func (s *Service) awaitApproval(ctx context.Context, j *job, plan *artifact.Plan) error {
	raw, err := json.Marshal(plan)
	if err != nil {
		return fmt.Errorf("encode the plan: %w", err)
	}
	return s.mine(ctx, j, func(tx Tx, r *Request) error {
		if err := tx.PutResolvedArtifact(ctx, r.ID, &ResolvedArtifact{Plan: raw}); err != nil {
			return err
		}
		r.Workflow = WorkflowWaitingForApproval
		r.Tries, r.Unfinished, r.LeaseUntil, r.WakeAt = 0, 0, nil, r.CancelAt
		if err := tx.UpdateRequest(ctx, r); err != nil {
			return err
		}
		if err := s.announce(ctx, tx, r, EventApprovalRequested, Countersign(r.OrganizationID), ""); err != nil {
			return err
		}
		return s.record(ctx, tx, Countersign(r.OrganizationID), "SigningRequest.ApprovalRequested", requestObject(r), map[string]any{
			"planDigest": planDigest(plan), "requiredApprovals": j.policy.Rules.RequiredApprovals,
		})
	})
}

func planDigest(p *artifact.Plan) string {
	d := p.Digest()
	return hex.EncodeToString(d[:])
}

// grant evaluates the policy once more and, when it holds, records what will be signed before a key is touched: the
// request is Processing, the grant is stored and logged. It returns nil when approvals are missing after all.
func (s *Service) grant(ctx context.Context, j *job, plan *artifact.Plan) (*grant, []*x509.Certificate, error) {
	if plan.SignatureCount() == 0 {
		return nil, nil, &Failure{Code: "Configuration", Message: "The artifact configuration signs nothing in this artifact; add a signing directive such as <authenticode-sign/>."}
	}
	raw, err := json.Marshal(plan)
	if err != nil {
		return nil, nil, fmt.Errorf("encode the plan: %w", err)
	}
	var (
		g     *grant
		chain []*x509.Certificate
	)
	err = s.mine(ctx, j, func(tx Tx, r *Request) error {
		g = nil
		now := s.now()
		j.request = r
		// No edit comes between the evaluation and its record: what the audit log says was changed before holds.
		if err := tx.LockOrganization(ctx, r.OrganizationID); err != nil {
			return err
		}
		if err := s.load(ctx, tx, j); err != nil {
			return err
		}
		checks := evaluate(now, r, j.project, j.policy, j.certificate, j.by, s.stamps != nil)
		if err := putVerifications(ctx, tx, r, checks...); err != nil {
			return err
		}
		if f := policyFailure(checks); f != nil {
			return s.failLocked(ctx, tx, r, f)
		}
		ballot, err := readBallot(ctx, tx, r, j.policy, j.certificate)
		if err != nil {
			return err
		}
		if ballot.given() < ballot.required {
			return s.reopen(ctx, tx, ballot)
		}
		if chain, err = parseChain(j.certificate.Chain); err != nil {
			return s.failLocked(ctx, tx, r, &Failure{Code: "Certificate", Message: "The certificate's chain cannot be read: " + err.Error()})
		}
		if err := tx.EndGrants(ctx, r.ID, "Abandoned", now); err != nil {
			return err
		}
		record := GrantRecord{
			ID: NewID(), RequestID: r.ID, Attempt: r.Attempt, CertificateID: j.certificate.ID,
			PlanDigest: planDigest(plan), Signatures: plan.SignatureCount(), IssuedAt: now,
		}
		if err := tx.InsertGrant(ctx, &record); err != nil {
			return err
		}
		if err := tx.PutResolvedArtifact(ctx, r.ID, &ResolvedArtifact{Plan: raw}); err != nil {
			return err
		}
		r.Workflow = WorkflowProcessing
		s.extend(r)
		if err := tx.UpdateRequest(ctx, r); err != nil {
			return err
		}
		g = &grant{record: record, keyID: j.certificate.KeyID, leaf: chain[0]}
		return s.record(ctx, tx, Countersign(r.OrganizationID), "SigningRequest.SigningStarted", requestObject(r), map[string]any{
			"grant": record.ID, "attempt": record.Attempt, "planDigest": record.PlanDigest, "signatures": record.Signatures,
			"certificateId": j.certificate.ID, "certificateSubject": j.certificate.Subject,
			"certificateSha256": thumbprint(chain[0]), "sha256": r.Unsigned.SHA256,
		})
	})
	return g, chain, err
}

func parseChain(der [][]byte) ([]*x509.Certificate, error) {
	if len(der) == 0 {
		return nil, errors.New("it is empty")
	}
	chain := make([]*x509.Certificate, len(der))
	for i, d := range der {
		c, err := x509.ParseCertificate(d)
		if err != nil {
			return nil, fmt.Errorf("certificate %d: %w", i, err)
		}
		chain[i] = c
	}
	return chain, nil
}

// sign redeems the grant, signs into a new blob, and completes the request with it.
func (s *Service) sign(ctx context.Context, j *job, src artifact.Source, plan *artifact.Plan, g *grant, chain []*x509.Certificate) error {
	key, closeKey, err := s.gate.open(ctx, g)
	if err != nil {
		return err
	}
	defer closeKey()
	out, err := s.blobs.Create(ctx)
	if err != nil {
		return fmt.Errorf("store the signed artifact: %w", err)
	}
	defer out.Abort()
	result, err := artifact.Sign(ctx, plan, src, out, artifact.SignOptions{
		Workspace: s.workspace(), Key: key, Chain: chain, Timestamper: s.stamps,
	})
	if err != nil {
		return signFailure(src.Name, err)
	}
	raw, err := json.Marshal(result)
	if err != nil {
		return fmt.Errorf("encode the result: %w", err)
	}
	blob, err := out.Commit(ctx)
	if err != nil {
		return fmt.Errorf("store the signed artifact: %w", err)
	}
	err = s.mine(ctx, j, func(tx Tx, r *Request) error {
		now := s.now()
		r.Signed = Artifact{FileName: r.Unsigned.FileName, BlobID: blob, Size: result.Size, SHA256: result.SHA256}
		s.finish(r, WorkflowCompleted, nil)
		if err := tx.UpdateRequest(ctx, r); err != nil {
			return err
		}
		if err := tx.EndGrants(ctx, r.ID, string(Completed), now); err != nil {
			return err
		}
		resolved, err := tx.ResolvedArtifact(ctx, r.ID)
		if err != nil {
			return err
		}
		resolved.Result = raw
		if err := tx.PutResolvedArtifact(ctx, r.ID, resolved); err != nil {
			return err
		}
		if err := s.announce(ctx, tx, r, EventCompleted, Countersign(r.OrganizationID), ""); err != nil {
			return err
		}
		return s.record(ctx, tx, Countersign(r.OrganizationID), "SigningRequest.Completed", requestObject(r), map[string]any{
			"grant": g.record.ID, "certificateId": g.record.CertificateID, "certificateSha256": thumbprint(chain[0]),
			"sha256": r.Unsigned.SHA256, "signedSha256": r.Signed.SHA256, "signatures": signatureData(result),
		})
	})
	if err != nil {
		s.dropUnreferenced(context.WithoutCancel(ctx), blob)
	}
	return err
}

// signFailure makes an engine's error, which names files, offsets and authorities, one that users may read. Errors of the
// operating system name paths of this machine: they stay internal.
func signFailure(fileName string, err error) error {
	var (
		image   *authenticode.FormatError
		archive *ziparchive.Error
	)
	if errors.As(err, &image) || errors.As(err, &archive) { // no later try helps
		return &Failure{Code: "Artifact", Message: fmt.Sprintf("%s cannot be signed: %v", fileName, err)}
	}
	var path *fs.PathError
	if errors.As(err, &path) {
		return fmt.Errorf("sign: %w", err)
	}
	return &Error{Kind: KindUnavailable, Message: "Signing failed: " + err.Error(), cause: err}
}

func thumbprint(c *x509.Certificate) string {
	sum := sha256.Sum256(c.Raw)
	return hex.EncodeToString(sum[:])
}

// dropUnreferenced removes a blob unless something refers to it.
func (s *Service) dropUnreferenced(ctx context.Context, blob BlobID) {
	var used bool
	err := s.store.View(ctx, func(tx Tx) (err error) {
		used, err = tx.BlobInUse(ctx, blob)
		return err
	})
	if err == nil && !used {
		_ = s.blobs.Delete(ctx, blob) // what stays behind is swept
	}
}

func signatureData(r *artifact.Result) []map[string]string {
	var out []map[string]string
	for _, f := range r.Files {
		for _, m := range f.Signatures {
			out = append(out, map[string]string{
				"path": f.Path, "method": m.Method, "hashAlgorithm": m.HashAlgorithm, "digest": m.Digest,
				"sha256Before": f.SHA256Before, "sha256After": f.SHA256After,
			})
		}
	}
	return out
}

// finish makes a request final. The caller stores it.
func (s *Service) finish(r *Request, w WorkflowStatus, f *Failure) {
	now := s.now()
	r.Workflow, r.Failure, r.FinalAt = w, f, &now
	r.LeaseUntil, r.WakeAt, r.Retrieval = nil, nil, nil
}

// fail ends a claimed request as failed.
func (s *Service) fail(ctx context.Context, j *job, f *Failure) error {
	err := s.mine(context.WithoutCancel(ctx), j, func(tx Tx, r *Request) error { return s.failLocked(ctx, tx, r, f) })
	if errors.Is(err, errStale) {
		return nil
	}
	return err
}

func (s *Service) failLocked(ctx context.Context, tx Tx, r *Request, f *Failure) error {
	end := WorkflowProcessingFailed
	if r.Workflow == WorkflowRetrievingArtifact {
		end = WorkflowArtifactRetrievalFailed
	}
	s.finish(r, end, f)
	if err := tx.UpdateRequest(ctx, r); err != nil {
		return err
	}
	if err := tx.EndGrants(ctx, r.ID, string(Failed), s.now()); err != nil {
		return err
	}
	if err := s.announce(ctx, tx, r, EventFailed, Countersign(r.OrganizationID), ""); err != nil {
		return err
	}
	return s.record(ctx, tx, Countersign(r.OrganizationID), "SigningRequest.Failed", requestObject(r), map[string]any{"failure": f, "sha256": r.Unsigned.SHA256})
}

// release gives a claimed request back, to be taken up again after the delay. An interruption that is nobody's fault
// (delay 0) does not count as a try.
func (s *Service) release(ctx context.Context, j *job, delay time.Duration) error {
	err := s.mine(ctx, j, func(tx Tx, r *Request) error {
		r.LeaseUntil = nil
		r.Unfinished--
		if delay == 0 {
			r.Tries--
		}
		r.WakeAt = s.wakeAt(r, delay+s.limits.Wake)
		if err := tx.UpdateRequest(ctx, r); err != nil {
			return err
		}
		if err := tx.EndGrants(ctx, r.ID, "Abandoned", s.now()); err != nil {
			return err
		}
		var notBefore time.Time
		if delay > 0 {
			notBefore = s.now().Add(delay)
		}
		return enqueue(ctx, tx, r, notBefore)
	})
	if errors.Is(err, errStale) {
		return nil
	}
	return err
}

// SweepEvery is how often Sweep is to be called when NextDue names no earlier time.
const SweepEvery = 5 * time.Second

// NextDue returns when Sweep has something to do next, if that is within SweepEvery; else the zero time.
func (s *Service) NextDue(ctx context.Context) (at time.Time, err error) {
	err = s.store.View(ctx, func(tx Tx) error {
		keys, err := tx.DueRequests(ctx, s.now().Add(SweepEvery), 1)
		if err != nil || len(keys) == 0 {
			return err
		}
		r, err := tx.Request(ctx, keys[0].OrganizationID, keys[0].ID)
		if err == nil && r.WakeAt != nil {
			at = *r.WakeAt
		}
		return err
	})
	return at, err
}
