package storetest

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/countersign-dev/countersign/internal/audit"
	"github.com/countersign-dev/countersign/internal/signing"
)

// ErrInjected is what a broken step returns.
var ErrInjected = errors.New("injected fault")

// Fault is a way in which a step breaks.
type Fault int

// The ways in which a step breaks.
const (
	// Failed: the step did not happen, and it reports an error.
	Failed Fault = iota + 1
	// FailedButPersisted: the step happened, and it reports an error all the same. Of a commit: the transaction is
	// durable although the caller is told that it failed.
	FailedButPersisted
	// Repeated: the step meets a conflict with another transaction, so the whole transaction is undone and run again.
	Repeated
)

// Faults lists every way.
var Faults = []Fault{Failed, FailedButPersisted, Repeated}

// String names the fault, for subtests.
func (f Fault) String() string {
	return [...]string{"none", "failed", "failed but persisted", "repeated"}[f]
}

// Faulty is a store in which one chosen step breaks. A step is a call of a method of signing.Tx that writes, or the
// commit of a read-write transaction; steps are counted over all transactions, as they happen.
//
// A test of every fault runs its scenario once unbroken to learn the number of steps, and then on a fresh store for
// each step and each fault:
//
//	for _, fault := range storetest.Faults {
//		for step := 1; ; step++ {
//			store := storetest.NewFaulty(open(t))
//			store.Break(step, fault)
//			... run the scenario, as its caller would after an error: read again, go on
//			... check the invariants
//			if !store.Fired() {
//				break // the scenario has no more steps
//			}
//		}
//	}
type Faulty struct {
	inner signing.Store

	mu    sync.Mutex
	steps []string
	at    int
	fault Fault
	fired bool
}

// NewFaulty returns a store that works on inner and breaks nothing until Break is called.
func NewFaulty(inner signing.Store) *Faulty { return &Faulty{inner: inner} }

// Break lets the nth step from now on, counted from 1, break once. It forgets the steps so far.
func (f *Faulty) Break(n int, fault Fault) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.steps, f.at, f.fault, f.fired = nil, n, fault, false
}

// Steps returns the names of the steps since the last Break: methods, and "Commit".
func (f *Faulty) Steps() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]string(nil), f.steps...)
}

// Fired reports whether the step that Break named has come.
func (f *Faulty) Fired() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.fired
}

// step counts a step and returns how it breaks, 0 when it does not.
func (f *Faulty) step(name string) Fault {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.steps = append(f.steps, name)
	if f.fired || len(f.steps) != f.at {
		return 0
	}
	f.fired = true
	return f.fault
}

// errRepeat undoes a transaction that is to run again.
var errRepeat = errors.New("injected conflict")

// Tx implements signing.Store.
func (f *Faulty) Tx(ctx context.Context, fn func(signing.Tx) error) error {
	for {
		var persisted bool
		err := f.inner.Tx(ctx, func(inner signing.Tx) error {
			persisted = false
			t := &faultyTx{Tx: inner, f: f}
			err := fn(t)
			if t.broken != nil && (err == nil || errors.Is(t.broken, errRepeat)) {
				return t.broken // a failed statement lets nothing commit, whatever fn made of the error
			}
			if err != nil {
				return err
			}
			switch f.step("Commit") {
			case Failed:
				return ErrInjected
			case Repeated:
				return errRepeat
			case FailedButPersisted:
				persisted = true
			}
			return nil
		})
		if errors.Is(err, errRepeat) {
			continue
		}
		if err == nil && persisted {
			return ErrInjected
		}
		return err
	}
}

// View implements signing.Store. Reading does not break.
func (f *Faulty) View(ctx context.Context, fn func(signing.Tx) error) error {
	return f.inner.View(ctx, fn)
}

// faultyTx breaks writes. Reads go to the embedded transaction.
type faultyTx struct {
	signing.Tx
	f      *Faulty
	broken error
}

func (t *faultyTx) write(name string, do func() error) error {
	switch t.f.step(name) {
	case Failed:
		t.broken = ErrInjected
	case Repeated:
		t.broken = errRepeat
	case FailedButPersisted:
		// Within a transaction nothing persists before the commit, so this fault tells apart only whether a caller
		// that goes on after an error writes twice.
		if err := do(); err != nil {
			return err
		}
		return ErrInjected
	default:
		return do()
	}
	return t.broken
}

func (t *faultyTx) InsertOrganization(ctx context.Context, o *signing.Organization) error {
	return t.write("InsertOrganization", func() error { return t.Tx.InsertOrganization(ctx, o) })
}

func (t *faultyTx) UpdateOrganization(ctx context.Context, o *signing.Organization) error {
	return t.write("UpdateOrganization", func() error { return t.Tx.UpdateOrganization(ctx, o) })
}

func (t *faultyTx) InsertUser(ctx context.Context, u *signing.User) error {
	return t.write("InsertUser", func() error { return t.Tx.InsertUser(ctx, u) })
}

func (t *faultyTx) UpdateUser(ctx context.Context, u *signing.User) error {
	return t.write("UpdateUser", func() error { return t.Tx.UpdateUser(ctx, u) })
}

func (t *faultyTx) InsertGroup(ctx context.Context, g *signing.Group) error {
	return t.write("InsertGroup", func() error { return t.Tx.InsertGroup(ctx, g) })
}

func (t *faultyTx) UpdateGroup(ctx context.Context, g *signing.Group) error {
	return t.write("UpdateGroup", func() error { return t.Tx.UpdateGroup(ctx, g) })
}

func (t *faultyTx) DeleteTrustedBuildSystem(ctx context.Context, org, id signing.ID) error {
	return t.write("DeleteTrustedBuildSystem", func() error { return t.Tx.DeleteTrustedBuildSystem(ctx, org, id) })
}

func (t *faultyTx) DeleteGroup(ctx context.Context, org, id signing.ID) error {
	return t.write("DeleteGroup", func() error { return t.Tx.DeleteGroup(ctx, org, id) })
}

func (t *faultyTx) InsertTrustedBuildSystem(ctx context.Context, s *signing.TrustedBuildSystem) error {
	return t.write("InsertTrustedBuildSystem", func() error { return t.Tx.InsertTrustedBuildSystem(ctx, s) })
}

func (t *faultyTx) UpdateTrustedBuildSystem(ctx context.Context, s *signing.TrustedBuildSystem) error {
	return t.write("UpdateTrustedBuildSystem", func() error { return t.Tx.UpdateTrustedBuildSystem(ctx, s) })
}

func (t *faultyTx) InsertToken(ctx context.Context, k *signing.APIToken) error {
	return t.write("InsertToken", func() error { return t.Tx.InsertToken(ctx, k) })
}

func (t *faultyTx) RevokeToken(ctx context.Context, org, id signing.ID, at time.Time) error {
	return t.write("RevokeToken", func() error { return t.Tx.RevokeToken(ctx, org, id, at) })
}

func (t *faultyTx) TouchToken(ctx context.Context, id signing.ID, at time.Time) error {
	return t.write("TouchToken", func() error { return t.Tx.TouchToken(ctx, id, at) })
}

func (t *faultyTx) PutCredential(ctx context.Context, c *signing.Credential) error {
	return t.write("PutCredential", func() error { return t.Tx.PutCredential(ctx, c) })
}

func (t *faultyTx) InsertInvitation(ctx context.Context, i *signing.Invitation) error {
	return t.write("InsertInvitation", func() error { return t.Tx.InsertInvitation(ctx, i) })
}

func (t *faultyTx) UseInvitation(ctx context.Context, hash [32]byte, at time.Time) error {
	return t.write("UseInvitation", func() error { return t.Tx.UseInvitation(ctx, hash, at) })
}

func (t *faultyTx) DeleteInvitationsOf(ctx context.Context, user signing.ID) error {
	return t.write("DeleteInvitationsOf", func() error { return t.Tx.DeleteInvitationsOf(ctx, user) })
}

func (t *faultyTx) InsertSession(ctx context.Context, s *signing.Session) error {
	return t.write("InsertSession", func() error { return t.Tx.InsertSession(ctx, s) })
}

func (t *faultyTx) TouchSession(ctx context.Context, hash [32]byte, at time.Time) error {
	return t.write("TouchSession", func() error { return t.Tx.TouchSession(ctx, hash, at) })
}

func (t *faultyTx) DeleteSession(ctx context.Context, hash [32]byte) error {
	return t.write("DeleteSession", func() error { return t.Tx.DeleteSession(ctx, hash) })
}

func (t *faultyTx) DeleteSessionsOf(ctx context.Context, user signing.ID) error {
	return t.write("DeleteSessionsOf", func() error { return t.Tx.DeleteSessionsOf(ctx, user) })
}

func (t *faultyTx) DeleteExpiredSessions(ctx context.Context, now time.Time) error {
	return t.write("DeleteExpiredSessions", func() error { return t.Tx.DeleteExpiredSessions(ctx, now) })
}

func (t *faultyTx) InsertProject(ctx context.Context, p *signing.Project) error {
	return t.write("InsertProject", func() error { return t.Tx.InsertProject(ctx, p) })
}

func (t *faultyTx) UpdateProject(ctx context.Context, p *signing.Project) error {
	return t.write("UpdateProject", func() error { return t.Tx.UpdateProject(ctx, p) })
}

func (t *faultyTx) InsertConfiguration(ctx context.Context, c *signing.Configuration) error {
	return t.write("InsertConfiguration", func() error { return t.Tx.InsertConfiguration(ctx, c) })
}

func (t *faultyTx) UpdateConfiguration(ctx context.Context, c *signing.Configuration) error {
	return t.write("UpdateConfiguration", func() error { return t.Tx.UpdateConfiguration(ctx, c) })
}

func (t *faultyTx) InsertConfigurationVersion(ctx context.Context, v *signing.ConfigurationVersion) error {
	return t.write("InsertConfigurationVersion", func() error { return t.Tx.InsertConfigurationVersion(ctx, v) })
}

func (t *faultyTx) InsertPolicy(ctx context.Context, p *signing.Policy) error {
	return t.write("InsertPolicy", func() error { return t.Tx.InsertPolicy(ctx, p) })
}

func (t *faultyTx) UpdatePolicy(ctx context.Context, p *signing.Policy) error {
	return t.write("UpdatePolicy", func() error { return t.Tx.UpdatePolicy(ctx, p) })
}

func (t *faultyTx) InsertCertificate(ctx context.Context, c *signing.Certificate) error {
	return t.write("InsertCertificate", func() error { return t.Tx.InsertCertificate(ctx, c) })
}

func (t *faultyTx) DeleteCertificate(ctx context.Context, org, id signing.ID) error {
	return t.write("DeleteCertificate", func() error { return t.Tx.DeleteCertificate(ctx, org, id) })
}

func (t *faultyTx) UpdateCertificate(ctx context.Context, c *signing.Certificate) error {
	return t.write("UpdateCertificate", func() error { return t.Tx.UpdateCertificate(ctx, c) })
}

func (t *faultyTx) InsertRequest(ctx context.Context, r *signing.Request) error {
	return t.write("InsertRequest", func() error { return t.Tx.InsertRequest(ctx, r) })
}

func (t *faultyTx) UpdateRequest(ctx context.Context, r *signing.Request) error {
	return t.write("UpdateRequest", func() error { return t.Tx.UpdateRequest(ctx, r) })
}

func (t *faultyTx) InsertApproval(ctx context.Context, a *signing.Approval) error {
	return t.write("InsertApproval", func() error { return t.Tx.InsertApproval(ctx, a) })
}

func (t *faultyTx) PutVerifications(ctx context.Context, request signing.ID, v []signing.Verification) error {
	return t.write("PutVerifications", func() error { return t.Tx.PutVerifications(ctx, request, v) })
}

func (t *faultyTx) PutResolvedArtifact(ctx context.Context, request signing.ID, r *signing.ResolvedArtifact) error {
	return t.write("PutResolvedArtifact", func() error { return t.Tx.PutResolvedArtifact(ctx, request, r) })
}

func (t *faultyTx) InsertGrant(ctx context.Context, g *signing.GrantRecord) error {
	return t.write("InsertGrant", func() error { return t.Tx.InsertGrant(ctx, g) })
}

func (t *faultyTx) EndGrants(ctx context.Context, request signing.ID, outcome string, at time.Time) error {
	return t.write("EndGrants", func() error { return t.Tx.EndGrants(ctx, request, outcome, at) })
}

func (t *faultyTx) InsertWebhook(ctx context.Context, w *signing.Webhook) error {
	return t.write("InsertWebhook", func() error { return t.Tx.InsertWebhook(ctx, w) })
}

func (t *faultyTx) UpdateWebhook(ctx context.Context, w *signing.Webhook) error {
	return t.write("UpdateWebhook", func() error { return t.Tx.UpdateWebhook(ctx, w) })
}

func (t *faultyTx) DeleteWebhook(ctx context.Context, org, id signing.ID) error {
	return t.write("DeleteWebhook", func() error { return t.Tx.DeleteWebhook(ctx, org, id) })
}

func (t *faultyTx) InsertDelivery(ctx context.Context, d *signing.Delivery) error {
	return t.write("InsertDelivery", func() error { return t.Tx.InsertDelivery(ctx, d) })
}

func (t *faultyTx) UpdateDelivery(ctx context.Context, d *signing.Delivery) error {
	return t.write("UpdateDelivery", func() error { return t.Tx.UpdateDelivery(ctx, d) })
}

func (t *faultyTx) DeleteDeliveries(ctx context.Context, before time.Time) error {
	return t.write("DeleteDeliveries", func() error { return t.Tx.DeleteDeliveries(ctx, before) })
}

func (t *faultyTx) EnqueueDelivery(ctx context.Context, delivery signing.ID, notBefore time.Time) error {
	return t.write("EnqueueDelivery", func() error { return t.Tx.EnqueueDelivery(ctx, delivery, notBefore) })
}

func (t *faultyTx) AppendAudit(ctx context.Context, e *audit.Entry) error {
	return t.write("AppendAudit", func() error { return t.Tx.AppendAudit(ctx, e) })
}

func (t *faultyTx) EnqueueAdvance(ctx context.Context, request signing.ID, notBefore time.Time) error {
	return t.write("EnqueueAdvance", func() error { return t.Tx.EnqueueAdvance(ctx, request, notBefore) })
}

func (t *faultyTx) EnqueueRetrieval(ctx context.Context, request signing.ID, notBefore time.Time) error {
	return t.write("EnqueueRetrieval", func() error { return t.Tx.EnqueueRetrieval(ctx, request, notBefore) })
}
