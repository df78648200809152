package signing

import (
	"encoding/json"
	"time"
)

// Status is a signing request's coarse state; clients poll it.
type Status string

// The statuses. The last four are final.
const (
	InProgress         Status = "InProgress"
	WaitingForApproval Status = "WaitingForApproval"
	Completed          Status = "Completed"
	Failed             Status = "Failed"
	Denied             Status = "Denied"
	Canceled           Status = "Canceled"
)

// WorkflowStatus is the exact state of a signing request.
type WorkflowStatus string

// The workflow statuses.
const (
	WorkflowSubmitted               WorkflowStatus = "Submitted"
	WorkflowRetrievingArtifact      WorkflowStatus = "RetrievingArtifact"
	WorkflowWaitingForApproval      WorkflowStatus = "WaitingForApproval"
	WorkflowQueuedForMalwareScan    WorkflowStatus = "QueuedForMalwareScanning"
	WorkflowScanningForMalware      WorkflowStatus = "ScanningForMalware"
	WorkflowQueuedForProcessing     WorkflowStatus = "QueuedForProcessing"
	WorkflowProcessing              WorkflowStatus = "Processing"
	WorkflowCompleted               WorkflowStatus = "Completed"
	WorkflowProcessingFailed        WorkflowStatus = "ProcessingFailed"
	WorkflowMalwareScanFailed       WorkflowStatus = "MalwareScanFailed"
	WorkflowMalwareDetected         WorkflowStatus = "MalwareDetected"
	WorkflowArtifactRetrievalFailed WorkflowStatus = "ArtifactRetrievalFailed"
	WorkflowDenied                  WorkflowStatus = "Denied"
	WorkflowCanceled                WorkflowStatus = "Canceled"
)

// Status returns the coarse state that a workflow status belongs to.
func (w WorkflowStatus) Status() Status {
	switch w {
	case WorkflowWaitingForApproval:
		return WaitingForApproval
	case WorkflowCompleted:
		return Completed
	case WorkflowProcessingFailed, WorkflowMalwareScanFailed, WorkflowMalwareDetected, WorkflowArtifactRetrievalFailed:
		return Failed
	case WorkflowDenied:
		return Denied
	case WorkflowCanceled:
		return Canceled
	case WorkflowSubmitted, WorkflowRetrievingArtifact, WorkflowQueuedForMalwareScan, WorkflowScanningForMalware,
		WorkflowQueuedForProcessing, WorkflowProcessing:
		return InProgress
	}
	return InProgress
}

// Final reports whether a request in this status never changes again.
func (s Status) Final() bool {
	return s == Completed || s == Failed || s == Denied || s == Canceled
}

// Request is a signing request.
type Request struct {
	ID                   ID
	OrganizationID       ID
	ProjectID            ID
	PolicyID             ID
	ConfigurationID      ID
	ConfigurationVersion int
	Workflow             WorkflowStatus
	Description          string
	SubmitterID          ID
	SubmittedVia         string // as Actor.Via
	TrustedBuildSystemID ID     // the trusted build system that vouched for the origin; kept by a resubmit
	Unsigned             Artifact
	Signed               Artifact // zero until completed
	Retrieval            *Retrieval
	Parameters           map[string]string
	Origin               *Origin
	OriginalID           ID // the request that this one resubmits
	IdempotencyKey       string
	CreatedAt            time.Time
	FinalAt              *time.Time
	CancelAt             *time.Time // when it is canceled unless final by then
	ArtifactsDeletedAt   *time.Time // retention removed the bytes
	Failure              *Failure
	// Attempt counts processing attempts. It is the fencing token: a result commits only when its attempt is still the
	// request's, so of two workers that both believe they hold a request at most one can complete it.
	Attempt int
	// Tries counts the attempts that the current stage took so far; too many fail the request.
	Tries int
	// Unfinished counts those of them that never reported how they ended, the running one included: as long as a request is
	// not being processed, each is an attempt whose process died.
	Unfinished int
	LeaseUntil *time.Time
	// WakeAt is when the sweep looks at the request again: a lost wake-up, an expired lease, a retry, a cancellation
	// time-out. Nil for final requests and for those that only a person can move.
	WakeAt  *time.Time
	Version int
}

// Artifact is a file of a signing request. A zero BlobID means that its bytes are not held.
type Artifact struct {
	FileName string
	BlobID   BlobID
	Size     int64
	SHA256   string // lower-case hexadecimal
}

// Retrieval says how an artifact that did not come with its request gets here: fetched from a URL, or uploaded later.
// It is removed from the request once the artifact is here.
type Retrieval struct {
	SHA256 string `json:"sha256,omitempty"` // expected, lower-case hexadecimal; empty accepts any
	// SealedTarget is a target as JSON, sealed by Config.Secrets: URL and headers may hold tokens. Empty when the artifact is
	// uploaded.
	SealedTarget []byte `json:"sealedTarget,omitempty"`
}

// AwaitsUpload reports whether the request waits for its submitter to upload the artifact.
func (r *Request) AwaitsUpload() bool {
	return r.Retrieval != nil && len(r.Retrieval.SealedTarget) == 0
}

// Failure says why a request failed.
type Failure struct {
	Code    string   `json:"code"`    // stable, for machines: "Plan", "Signing", "Policy", "Retrieval", "Internal"
	Message string   `json:"message"` // for people: names the file and what to do
	Details []string `json:"details,omitempty"`
}

// Origin is where an artifact came from, as a trusted build system says.
type Origin struct {
	RepositoryURL     string `json:"repositoryUrl,omitempty"`
	SourceControlType string `json:"sourceControlManagementType,omitempty"`
	BranchName        string `json:"branchName,omitempty"`
	CommitID          string `json:"commitId,omitempty"`
	BuildURL          string `json:"buildUrl,omitempty"`
	SettingsFileName  string `json:"buildSettingsFileName,omitempty"`
	SettingsBlobID    BlobID `json:"buildSettingsBlobId,omitempty"`
}

// Verification records one check of a request: what was checked, on which inputs, with what result, and what would
// make it pass.
type Verification struct {
	Name   string             `json:"name"` // "TrustedBuildSystem", "Repository", "Branch", ...
	Result VerificationResult `json:"result"`
	// Inputs are the values that were compared, in display order.
	Inputs      []VerificationInput `json:"inputs,omitempty"`
	Explanation string              `json:"explanation"`
	Remedy      string              `json:"remedy,omitempty"`
	At          time.Time           `json:"at"`
}

// VerificationInput is one named value that a check looked at.
type VerificationInput struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// VerificationResult is the outcome of a check.
type VerificationResult string

// The outcomes of a check.
const (
	Passed      VerificationResult = "Passed"
	NotPassed   VerificationResult = "Failed"
	NotRequired VerificationResult = "NotRequired" // the policy does not ask for it
)

// Decision is an approver's word on a request.
type Decision string

// The decisions.
const (
	Approved Decision = "Approved"
	Refused  Decision = "Denied"
)

// Approval is one approver's decision, bound to what was decided on.
type Approval struct {
	ID        ID
	RequestID ID
	UserID    ID
	UserName  string
	Decision  Decision
	Comment   string
	// Binding is the hash of artifact digest, configuration version, parameters, policy version and certificate at the
	// time of the decision. When the request's binding is another one, the approval counts no more.
	Binding string
	At      time.Time
}

// GrantRecord is the durable trace of a grant: which key use was permitted, and how it ended.
type GrantRecord struct {
	ID            ID
	RequestID     ID
	Attempt       int
	CertificateID ID
	PlanDigest    string // lower-case hexadecimal
	Signatures    int    // how many signatures the plan needs
	IssuedAt      time.Time
	EndedAt       *time.Time
	Outcome       string // "" while open, "Completed", "Failed", "Abandoned"
}

// RequestRow is a request with the names that views show, read in one query.
type RequestRow struct {
	Request
	ProjectSlug, ProjectName             string
	PolicySlug, PolicyName               string
	ConfigurationSlug, ConfigurationName string
	SubmitterName                        string
}

// ResolvedArtifact is the stored outcome of planning and signing: the tree of contained files as JSON of package
// artifact.
type ResolvedArtifact struct {
	Plan   json.RawMessage
	Result json.RawMessage // nil until signed
}
