package signing

import (
	"context"
	"io"
	"time"

	"github.com/countersign-dev/countersign/internal/audit"
)

// Store runs transactions on the database. An implementation is safe for concurrent use.
type Store interface {
	// Tx runs fn in a read-write transaction and commits when fn returns nil. Everything that fn did through tx becomes
	// durable and visible together, or not at all. When the database reports a conflict, fn runs again with a fresh
	// tx: fn must have no effect besides tx. An error of fn is returned unchanged. When Tx returns an error that is not
	// fn's, the outcome of the commit may be unknown: callers read again before they act.
	Tx(ctx context.Context, fn func(Tx) error) error
	// View runs fn in a read-only transaction that sees one consistent state.
	View(ctx context.Context, fn func(Tx) error) error
}

// Tx is what the domain reads and writes in a transaction. It is used by one goroutine and dies with the transaction.
//
// Lookups return an *Error of KindNotFound when nothing matches. Every lookup but those of credentials takes the
// organization and finds nothing that belongs to another one. Slugs, names and e-mail addresses are compared without
// regard to case. Insert returns KindConflict when a unique slug, name or address is taken. Update writes the object
// where its Version is still the stored one and raises it by one (in the passed object too), else KindConflict.
type Tx interface {
	OrganizationTx
	IdentityTx
	CredentialTx
	ProjectTx
	CertificateTx
	RequestTx
	DeliveryTx
	AuditTx
	JobTx
}

// OrganizationTx reads and writes organizations.
type OrganizationTx interface {
	Organization(ctx context.Context, id ID) (*Organization, error)
	Organizations(ctx context.Context) ([]*Organization, error) // oldest first
	// LockOrganization waits for the other transactions that called it for the organization, and holds them up until the
	// end of this read-write transaction. What is read after it is what they committed: call it before a decision that
	// rests on several objects, or on there being none. Locks of requests come before it, those of users after it.
	LockOrganization(ctx context.Context, id ID) error
	// LockOrganizations holds up other transactions that insert or change organizations, as LockOrganization does.
	LockOrganizations(ctx context.Context) error
	InsertOrganization(ctx context.Context, o *Organization) error
	UpdateOrganization(ctx context.Context, o *Organization) error
}

// IdentityTx reads and writes users, groups and trusted build systems.
type IdentityTx interface {
	User(ctx context.Context, org, id ID) (*User, error)
	UserByEmail(ctx context.Context, email string) ([]*User, error)    // in all organizations, for sign-in; none is not an error
	Users(ctx context.Context, org ID, kind UserKind) ([]*User, error) // by name; all kinds when kind is empty
	ActiveUsers(ctx context.Context, org ID) ([]ID, error)             // of all kinds, in no order
	InsertUser(ctx context.Context, u *User) error
	UpdateUser(ctx context.Context, u *User) error

	Group(ctx context.Context, org, id ID) (*Group, error)
	Groups(ctx context.Context, org ID) ([]*Group, error) // by name, with members
	// GroupsOf returns every group that the user is in, directly or through other groups; cycles are harmless.
	GroupsOf(ctx context.Context, org, user ID) ([]ID, error)
	InsertGroup(ctx context.Context, g *Group) error
	UpdateGroup(ctx context.Context, g *Group) error
	DeleteGroup(ctx context.Context, org, id ID) error

	TrustedBuildSystem(ctx context.Context, org, id ID) (*TrustedBuildSystem, error)
	TrustedBuildSystemBySlug(ctx context.Context, org ID, slug string) (*TrustedBuildSystem, error)
	TrustedBuildSystems(ctx context.Context, org ID) ([]*TrustedBuildSystem, error) // by name
	InsertTrustedBuildSystem(ctx context.Context, t *TrustedBuildSystem) error
	UpdateTrustedBuildSystem(ctx context.Context, t *TrustedBuildSystem) error
	// DeleteTrustedBuildSystem deletes the trusted build system and its tokens.
	DeleteTrustedBuildSystem(ctx context.Context, org, id ID) error
}

// CredentialTx reads and writes what people and machines prove themselves with. Package auth uses it; the domain only ends what
// a deactivated user has.
type CredentialTx interface {
	TokenByHash(ctx context.Context, hash [32]byte) (*APIToken, error)
	Tokens(ctx context.Context, org, owner ID) ([]*APIToken, error) // newest first, revoked ones too
	InsertToken(ctx context.Context, t *APIToken) error
	RevokeToken(ctx context.Context, org, id ID, at time.Time) error
	TouchToken(ctx context.Context, id ID, at time.Time) error

	// Credential returns what the user signs in with. In a read-write transaction it also holds the user, with or
	// without a credential, against other transactions that read the credential or write the user, until the end; a
	// User read after it is as they left it.
	Credential(ctx context.Context, user ID) (*Credential, error)
	PutCredential(ctx context.Context, c *Credential) error

	InvitationByHash(ctx context.Context, hash [32]byte) (*Invitation, error)
	InsertInvitation(ctx context.Context, i *Invitation) error
	// UseInvitation marks it used; KindConflict when it was used before.
	UseInvitation(ctx context.Context, hash [32]byte, at time.Time) error
	InvitationsOf(ctx context.Context, user ID) ([]*Invitation, error) // used and expired ones too
	DeleteInvitationsOf(ctx context.Context, user ID) error

	SessionByHash(ctx context.Context, hash [32]byte) (*Session, error)
	Sessions(ctx context.Context, user ID) ([]*Session, error) // latest seen first
	InsertSession(ctx context.Context, s *Session) error
	TouchSession(ctx context.Context, hash [32]byte, at time.Time) error
	DeleteSession(ctx context.Context, hash [32]byte) error // KindNotFound when it is gone
	DeleteSessionsOf(ctx context.Context, user ID) error
	DeleteExpiredSessions(ctx context.Context, now time.Time) error
}

// ProjectTx reads and writes projects with what belongs to them.
type ProjectTx interface {
	Project(ctx context.Context, org, id ID) (*Project, error)
	ProjectBySlug(ctx context.Context, org ID, slug string) (*Project, error)
	Projects(ctx context.Context, org ID) ([]*Project, error) // by name
	InsertProject(ctx context.Context, p *Project) error
	UpdateProject(ctx context.Context, p *Project) error

	Configuration(ctx context.Context, org, id ID) (*Configuration, error)
	ConfigurationBySlug(ctx context.Context, org, project ID, slug string) (*Configuration, error)
	Configurations(ctx context.Context, org, project ID) ([]*Configuration, error) // by name; of all projects when empty
	InsertConfiguration(ctx context.Context, c *Configuration) error
	UpdateConfiguration(ctx context.Context, c *Configuration) error
	ConfigurationVersion(ctx context.Context, org, configuration ID, number int) (*ConfigurationVersion, error)
	ConfigurationVersions(ctx context.Context, org, configuration ID) ([]*ConfigurationVersion, error) // newest first, without XML
	InsertConfigurationVersion(ctx context.Context, v *ConfigurationVersion) error

	Policy(ctx context.Context, org, id ID) (*Policy, error)
	PolicyBySlug(ctx context.Context, org, project ID, slug string) (*Policy, error)
	Policies(ctx context.Context, org ID, filter PolicyFilter) ([]*Policy, error) // by project, then name
	InsertPolicy(ctx context.Context, p *Policy) error
	UpdatePolicy(ctx context.Context, p *Policy) error
}

// PolicyFilter narrows a list of policies; zero fields do not narrow.
type PolicyFilter struct {
	ProjectID     ID
	CertificateID ID
}

// CertificateTx reads and writes certificates.
type CertificateTx interface {
	Certificate(ctx context.Context, org, id ID) (*Certificate, error)
	CertificateBySlug(ctx context.Context, org ID, slug string) (*Certificate, error)
	Certificates(ctx context.Context, org ID) ([]*Certificate, error) // by name
	InsertCertificate(ctx context.Context, c *Certificate) error
	UpdateCertificate(ctx context.Context, c *Certificate) error
	DeleteCertificate(ctx context.Context, org, id ID) error // one that no policy and no grant refers to
	// CertificateGranted reports whether a signature with the certificate was ever granted.
	CertificateGranted(ctx context.Context, id ID) (bool, error)
}

// RequestTx reads and writes signing requests.
type RequestTx interface {
	Request(ctx context.Context, org, id ID) (*Request, error)
	// LockRequest is Request in a read-write transaction, holding the row against other writers until the end.
	LockRequest(ctx context.Context, org, id ID) (*Request, error)
	// RequestForWorker returns what a worker that knows only a request's id has to know first.
	RequestForWorker(ctx context.Context, id ID) (*RequestForWorker, error)
	RequestRow(ctx context.Context, org, id ID) (*RequestRow, error)
	// RequestRows returns at most filter.Limit rows, newest first, in one query, and where the list goes on: the After of
	// its next page, empty at its end. A page before the end may have fewer rows, even none: where no index serves a
	// filter, no more than a bounded number of requests is looked at for a page.
	RequestRows(ctx context.Context, org ID, filter RequestFilter) (rows []*RequestRow, next ID, err error)
	RequestByIdempotencyKey(ctx context.Context, org, policy ID, key string) (*Request, error) // the newest
	Resubmits(ctx context.Context, org, original ID) ([]*RequestRow, error)                    // oldest first, at most 100
	InsertRequest(ctx context.Context, r *Request) error
	UpdateRequest(ctx context.Context, r *Request) error
	// DueRequests returns requests whose WakeAt is at now or earlier, longest due first.
	DueRequests(ctx context.Context, now time.Time, limit int) ([]RequestKey, error)
	// LeasedRequests returns the requests that hold a lease.
	LeasedRequests(ctx context.Context) ([]RequestKey, error)
	// ExpiredArtifacts returns requests with ids after the given one (empty: from the start), by id, that were final
	// before the time and still hold bytes. The caller applies retention per policy.
	ExpiredArtifacts(ctx context.Context, org ID, finalBefore time.Time, after ID, limit int) ([]*Request, error)
	// BlobInUse reports whether a request or an origin refers to the blob.
	BlobInUse(ctx context.Context, blob BlobID) (bool, error)

	Approvals(ctx context.Context, request ID) ([]*Approval, error) // oldest first
	// PartlyApproved returns an organization's requests that wait for approval and have a decision already, by id, and the
	// decisions on them, oldest first.
	PartlyApproved(ctx context.Context, org ID) ([]*Request, []*Approval, error)
	InsertApproval(ctx context.Context, a *Approval) error // KindConflict: this user decided on this binding before
	Verifications(ctx context.Context, request ID) ([]Verification, error)
	PutVerifications(ctx context.Context, request ID, v []Verification) error // replaces all
	ResolvedArtifact(ctx context.Context, request ID) (*ResolvedArtifact, error)
	PutResolvedArtifact(ctx context.Context, request ID, r *ResolvedArtifact) error

	InsertGrant(ctx context.Context, g *GrantRecord) error
	// EndGrants closes the request's open grants with the outcome.
	EndGrants(ctx context.Context, request ID, outcome string, at time.Time) error
	Grants(ctx context.Context, request ID) ([]*GrantRecord, error) // oldest first
}

// RequestForWorker is the part of a request that decides how it is advanced.
type RequestForWorker struct {
	OrganizationID ID
	Workflow       WorkflowStatus
	Unfinished     int
}

// RequestKey names a request together with its organization.
type RequestKey struct{ OrganizationID, ID ID }

// RequestFilter narrows a list of requests; zero fields do not narrow.
type RequestFilter struct {
	// Visible limits the list to what the caller may read: requests of these projects or policies, or submitted by
	// the caller. Nil is no limit.
	Visible *Visibility

	ProjectID      ID
	PolicyIDs      []ID // any of them
	Statuses       []Status
	SubmitterID    ID
	ArtifactSHA256 string // unsigned or signed artifact
	OriginalID     ID
	CreatedFrom    *time.Time
	CreatedBefore  *time.Time
	FileName       string // contained in the artifact's file name, without regard to case
	Undecided      *Undecided
	After          ID // keyset paging: only requests older than this one
	Limit          int
	Look           int // how many requests are looked at for a page, about; 0 leaves it to the store
}

// Undecided leaves out what a user decided on under one of the rulings, which bindings end with.
type Undecided struct {
	UserID  ID
	Rulings []string
}

// Visibility is what a caller without an all-seeing role may read.
type Visibility struct {
	UserID   ID
	Projects []ID
	Policies []ID
}

// DeliveryTx reads and writes webhooks and messages on their way.
type DeliveryTx interface {
	Webhook(ctx context.Context, org, id ID) (*Webhook, error)
	Webhooks(ctx context.Context, org ID) ([]*Webhook, error) // by name
	InsertWebhook(ctx context.Context, w *Webhook) error
	UpdateWebhook(ctx context.Context, w *Webhook) error
	// DeleteWebhook deletes the webhook and the deliveries to it.
	DeleteWebhook(ctx context.Context, org, id ID) error

	// LockDelivery reads a delivery and holds it against other writers until the end of a read-write transaction.
	LockDelivery(ctx context.Context, org, id ID) (*Delivery, error)
	// DeliveryOrganization returns the organization of a delivery, for workers that know only its id.
	DeliveryOrganization(ctx context.Context, id ID) (ID, error)
	// Deliveries returns at most filter.Limit deliveries, newest first.
	Deliveries(ctx context.Context, org ID, filter DeliveryFilter) ([]*Delivery, error)
	// DueDeliveries returns pending deliveries, of all organizations, whose NextAt is not after the time, longest due first.
	DueDeliveries(ctx context.Context, due time.Time, limit int) ([]DeliveryKey, error)
	InsertDelivery(ctx context.Context, d *Delivery) error
	// UpdateDelivery writes what changes of a delivery: state, attempts, tries and next time.
	UpdateDelivery(ctx context.Context, d *Delivery) error
	// DeleteDeliveries deletes deliveries, of all organizations, that are not pending and were made before the time.
	DeleteDeliveries(ctx context.Context, before time.Time) error
}

// DeliveryKey names a delivery together with its organization.
type DeliveryKey struct{ OrganizationID, ID ID }

// DeliveryFilter narrows a list of deliveries; zero fields do not narrow.
type DeliveryFilter struct {
	RequestID  ID
	ReceiverID ID
	State      DeliveryState
	After      ID // keyset paging: only deliveries older than this one
	Limit      int
}

// AuditTx appends to and reads the organization's audit log.
type AuditTx interface {
	// AppendAudit gives the entry its sequence number, links it to the organization's chain and stores the leaf, all in
	// this transaction. Concurrent transactions of one organization wait for each other here: call it last.
	AppendAudit(ctx context.Context, e *audit.Entry) error
	AuditLeaves(ctx context.Context, org ID, filter AuditFilter) ([]audit.Leaf, error)
	// AuditHead returns the last leaf's sequence number and chain value; 0 and the chain's start when there is none.
	AuditHead(ctx context.Context, org ID) (audit.Head, error)
	// AuditedOrganizations returns every organization that has a log, whether it exists or not.
	AuditedOrganizations(ctx context.Context) ([]ID, error)
}

// AuditFilter narrows a list of audit entries; zero fields do not narrow.
type AuditFilter struct {
	Events     []string // exact event names
	ObjectType string   // of the object, as audit.Object spells it
	ObjectID   ID
	ActorID    ID
	From, To   *time.Time
	AfterSeq   int64 // ascending: only entries after; 0 from the start
	BeforeSeq  int64 // with Descending: only entries before; 0 from the end
	Descending bool
	Limit      int
}

// JobTx wakes workers. Jobs carry no state: running one twice or late is harmless.
type JobTx interface {
	// EnqueueAdvance asks a worker to advance the request, not before the time (zero: now).
	EnqueueAdvance(ctx context.Context, request ID, notBefore time.Time) error
	// EnqueueRetrieval asks a worker to retrieve the request's artifact, not before the time (zero: now). Workers who wait for
	// other servers are not those who sign.
	EnqueueRetrieval(ctx context.Context, request ID, notBefore time.Time) error
	// EnqueueDelivery asks a worker to make the delivery, not before the time (zero: now).
	EnqueueDelivery(ctx context.Context, delivery ID, notBefore time.Time) error
}

// BlobID names stored bytes. The empty id names none.
type BlobID string

// Blobs keeps artifact bytes. An implementation is safe for concurrent use.
type Blobs interface {
	// Create begins a new blob. Nothing can be opened until Commit returned nil; an abandoned writer leaves nothing.
	Create(ctx context.Context) (BlobWriter, error)
	// Open returns the blob's bytes, or KindNotFound.
	Open(ctx context.Context, id BlobID) (Blob, error)
	// Delete removes the blob; deleting an absent blob is no error.
	Delete(ctx context.Context, id BlobID) error
	// List serves the sweep of unreferenced bytes: it calls fn for each blob that is older than the time until fn fails.
	List(ctx context.Context, olderThan time.Time, fn func(BlobID) error) error
}

// BlobWriter receives a new blob's bytes, in order or at offsets.
type BlobWriter interface {
	io.Writer
	io.WriterAt
	io.ReaderAt // what was written so far, so that a signed artifact is verified before it is committed
	// Commit makes the blob durable: after it returned nil, the bytes survive a power failure.
	Commit(ctx context.Context) (BlobID, error)
	// Abort drops the bytes; after Commit it does nothing, so that it can be deferred.
	Abort()
}

// Blob is a stored blob, opened for reading.
type Blob interface {
	io.ReaderAt
	io.Closer
	Size() int64
}

// Clock tells the time.
type Clock interface{ Now() time.Time }
