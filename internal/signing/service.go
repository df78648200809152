package signing

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"time"

	"github.com/countersign-dev/countersign/artifact"
	"github.com/countersign-dev/countersign/artifact/cms"
	"github.com/countersign-dev/countersign/internal/audit"
)

// Config is what a [Service] is made of. Store, Blobs and Keys are required.
type Config struct {
	Store Store
	Blobs Blobs
	Keys  Keys
	// KeyStoreName is recorded with the keys that Keys makes; "software" when empty.
	KeyStoreName string
	Clock        Clock           // nil: the system's clock
	Timestamper  cms.Timestamper // nil: signatures carry no timestamp
	Log          *slog.Logger    // nil: discard
	TempDir      string          // for large nested files while signing; empty: the system's
	Limits       Limits
	Secrets      Secrets       // nil: there are no artifact retrieval links and no webhooks
	Fetcher      Fetcher       // nil: artifact retrieval links are refused
	Mail         MailSender    // nil: nobody gets mail
	Webhooks     WebhookSender // nil: webhooks are refused
}

// Secrets seals what must not be readable in the database. *secrets.Keeper of gocloud.dev is one.
type Secrets interface {
	Encrypt(ctx context.Context, plaintext []byte) ([]byte, error)
	Decrypt(ctx context.Context, sealed []byte) ([]byte, error)
}

// Fetcher gets artifacts from where retrieval links say.
type Fetcher interface {
	// Check reports whether a URL may be fetched, as far as that can be told without fetching. Its text is for the submitter.
	Check(url string) error
	// Fetch returns the content. A *FetchError says whether another try may help. The caller closes the content.
	Fetch(ctx context.Context, url string, headers map[string]string) (io.ReadCloser, error)
}

// FetchError is a failure to fetch, with a text for the submitter.
type FetchError struct {
	Message   string
	Temporary bool
}

// Error returns the message.
func (e *FetchError) Error() string { return e.Message }

// Limits bound what the service accepts. The zero value means the defaults.
type Limits struct {
	ArtifactBytes int64         // largest artifact; default 4 GiB
	Attempts      int           // processing attempts before a request fails; default 5
	Lease         time.Duration // how long a worker holds a request between heartbeats; default 30 s
	Wake          time.Duration // how long a lost wake-up stays unnoticed; default 60 s
	Engine        artifact.Limits
}

func (l Limits) withDefaults() Limits {
	if l.ArtifactBytes <= 0 {
		l.ArtifactBytes = 4 << 30
	}
	if l.Attempts <= 0 {
		l.Attempts = 5
	}
	if l.Lease <= 0 {
		l.Lease = 30 * time.Second
	}
	if l.Wake <= 0 {
		l.Wake = time.Minute
	}
	return l
}

// Service performs every operation of the domain. It is safe for concurrent use.
type Service struct {
	store    Store
	blobs    Blobs
	keys     Keys
	gate     gate
	keyStore string
	clock    Clock
	stamps   cms.Timestamper
	log      *slog.Logger
	tempDir  string
	limits   Limits
	secrets  Secrets
	fetcher  Fetcher
	mail     MailSender
	webhooks WebhookSender

	working sync.RWMutex // held while a request is advanced; alone for one that may take the process down
}

// New makes a service.
func New(c Config) *Service {
	s := &Service{
		store: c.Store, blobs: c.Blobs, keys: c.Keys, gate: gate{keys: c.Keys}, keyStore: c.KeyStoreName,
		clock: c.Clock, stamps: c.Timestamper, log: c.Log, tempDir: c.TempDir, limits: c.Limits.withDefaults(),
		secrets: c.Secrets, fetcher: c.Fetcher, mail: c.Mail, webhooks: c.Webhooks,
	}
	if s.keyStore == "" {
		s.keyStore = "software"
	}
	if s.clock == nil {
		s.clock = systemClock{}
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	return s
}

type systemClock struct{}

func (systemClock) Now() time.Time { return time.Now().UTC() }

// now is the time at the database's resolution, so that what is returned equals what is read back.
func (s *Service) now() time.Time { return s.clock.Now().UTC().Truncate(time.Microsecond) }

// ArtifactLimit returns the largest artifact in bytes that is accepted.
func (s *Service) ArtifactLimit() int64 { return s.limits.ArtifactBytes }

// record appends an event to the audit log of the transaction. Call it last: it serialises an organization's writers.
func (s *Service) record(ctx context.Context, tx Tx, a Actor, event string, object audit.Object, data any) error {
	raw, err := json.Marshal(data)
	if err != nil {
		return fmt.Errorf("encode audit data of %s: %w", event, err)
	}
	return tx.AppendAudit(ctx, &audit.Entry{
		OrganizationID: string(a.OrganizationID),
		Time:           s.now(),
		Event:          event,
		Actor:          audit.Actor{ID: string(a.UserID), Kind: string(a.Kind), Name: a.Name, Via: a.Via},
		Object:         object,
		Data:           raw,
	})
}

func requestObject(r *Request) audit.Object {
	return audit.Object{Type: "SigningRequest", ID: string(r.ID), Name: r.Unsigned.FileName}
}
