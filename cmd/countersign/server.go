package main

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/alecthomas/kong"
	"github.com/prometheus/client_golang/prometheus"
	"gocloud.dev/secrets"

	"github.com/countersign-dev/countersign/artifact"
	"github.com/countersign-dev/countersign/artifact/timestamp"
	"github.com/countersign-dev/countersign/internal/auth"
	"github.com/countersign-dev/countersign/internal/egress"
	"github.com/countersign-dev/countersign/internal/httpapi"
	"github.com/countersign-dev/countersign/internal/keystore/software"
	"github.com/countersign-dev/countersign/internal/notify"
	"github.com/countersign-dev/countersign/internal/retrieve"
	"github.com/countersign-dev/countersign/internal/signing"
	"github.com/countersign-dev/countersign/internal/store"
	"github.com/countersign-dev/countersign/internal/web"
	"github.com/countersign-dev/countersign/internal/worker"
)

// storage says where data is kept; serve, worker, migrate and demo share it.
type storage struct {
	Data      string `help:"Directory of the embedded database, the artifacts and the master key. The default is countersign-data in the current directory." default:"countersign-data" type:"path" placeholder:"DIR"`
	Database  string `help:"Database: postgres://... for PostgreSQL. The default is an embedded SQLite file below --data." placeholder:"URL"`
	MasterKey string `help:"Master key that seals private keys at rest: file:///PATH (made on first use) or base64key://KEY. The default is master.key below --data." placeholder:"URL"`
}

// logging says how to log, and where else settings are.
type logging struct {
	Config    kong.ConfigFlag `help:"Read settings from this YAML file: flags' names without dashes; a name that no flag has is an error." type:"path" placeholder:"FILE"`
	LogLevel  slog.Level      `help:"Least severe level to log: debug, info, warn or error." default:"${log_level}"`
	LogFormat string          `help:"Format of log lines: text or json." default:"text" enum:"text,json"`
}

func (l logging) logger(w io.Writer) *slog.Logger {
	options := &slog.HandlerOptions{Level: l.LogLevel}
	if l.LogFormat == "json" {
		return slog.New(slog.NewJSONHandler(w, options))
	}
	return slog.New(slog.NewTextHandler(w, options))
}

// check refuses addresses that mean nothing.
func (s storage) check() error { return checkDatabase(s.Database) }

// checkDatabase refuses what is no address of a PostgreSQL database. Its errors do not show the address, which may have a
// password.
func checkDatabase(address string) error {
	u, err := url.Parse(address)
	switch {
	case address == "":
		return nil
	case err != nil:
		return errors.New("--database is not a valid URL; write special characters of the password as %XX")
	case u.Scheme != "postgres" && u.Scheme != "postgresql":
		return errors.New("--database must be the URL of a PostgreSQL database, postgres://USER@HOST/DATABASE; leave it away for an embedded one")
	}
	return nil
}

// work says how signing requests are processed.
type work struct {
	Timestamp     []string `help:"RFC 3161 timestamp authorities, tried in order. Without one, signatures carry no timestamp and end with their certificate." placeholder:"URL"`
	Workers       int      `help:"Signing requests processed at the same time; 0 picks two for each processor." default:"0"`
	ArtifactLimit int64    `help:"Largest artifact in bytes." default:"4294967296"`
	engineLimits
	AllowPrivate   bool   `name:"allow-private-networks" help:"Let artifact retrieval links and webhooks reach loopback and private networks."`
	AllowHTTP      bool   `name:"allow-http" help:"Let artifact retrieval links and webhooks use plain HTTP."`
	TemporaryFiles string `help:"Directory for large nested files while signing; the default is tmp below --data." type:"path" placeholder:"DIR"`
	messages
}

// check refuses numbers that mean nothing.
func (w work) check() error {
	if w.Workers < 0 {
		return errors.New("--workers must be 0 (two for each processor) or more")
	}
	if w.ArtifactLimit <= 0 {
		return errors.New("--artifact-limit must be a positive number of bytes")
	}
	if _, err := timestampPool(w.Timestamp, nil); err != nil {
		return err
	}
	return errors.Join(w.checkPublicURL(), w.engineLimits.check())
}

func (w work) egress() egress.Policy {
	return egress.Policy{AllowPrivate: w.AllowPrivate, AllowHTTP: w.AllowHTTP}
}

// limits bounds what an artifact may cost. Zero means the default.
func (w work) limits() signing.Limits {
	return signing.Limits{ArtifactBytes: w.ArtifactLimit, Engine: w.engine()}
}

// engineLimits bounds what opening an artifact may cost, on a server and on this machine.
type engineLimits struct {
	UnpackedLimit int64 `help:"Largest size in bytes of an artifact's unpacked files together." default:"68719476736"`
	FileLimit     int   `help:"Most files of an artifact, those of nested archives included." default:"250000"`
	DepthLimit    int   `help:"How deep archives may be nested in each other." default:"8"`
	RatioLimit    int64 `help:"How many times larger than its compressed data a file of more than 64 MiB may be." default:"250"`
}

func (l engineLimits) engine() artifact.Limits {
	return artifact.Limits{Depth: l.DepthLimit, Files: l.FileLimit, TotalSize: l.UnpackedLimit, Ratio: l.RatioLimit}
}

// check refuses what the engine would take for its default.
func (l engineLimits) check() error {
	for name, value := range map[string]int64{
		"unpacked": l.UnpackedLimit, "file": int64(l.FileLimit), "depth": int64(l.DepthLimit), "ratio": l.RatioLimit,
	} {
		if value <= 0 {
			return fmt.Errorf("--%s-limit must be positive", name)
		}
	}
	return nil
}

// workspace is that of a command that works on this machine.
func (l engineLimits) workspace() artifact.Workspace { return artifact.Workspace{Limits: l.engine()} }

// system is an opened installation: everything behind the listener.
type system struct {
	log     *slog.Logger
	db      *store.DB
	auth    *auth.Service
	signing *signing.Service
	worker  *worker.Worker
	queue   *store.Queue
	pool    *timestamp.Pool // nil without authorities
	metrics *prometheus.Registry
	lock    *os.File // of an embedded database; nil otherwise
}

func (s storage) embedded() bool {
	return s.Database == ""
}

func (s storage) databaseURL() string {
	if s.Database != "" {
		return s.Database
	}
	return filepath.Join(s.Data, "countersign.db")
}

// exists refuses a directory without an embedded database, for commands that would make sense of an old one only.
func (s storage) exists() error {
	if !s.embedded() {
		return nil
	}
	if _, err := os.Stat(s.databaseURL()); err != nil {
		return &exitError{exitUsage, fmt.Errorf("there is no embedded database; name its directory with --data, or --database: %w", err)}
	}
	return nil
}

// openDatabase opens and migrates the database. An embedded one is locked against other processes, because leases of
// dead workers are recovered at once when nobody else can hold one.
func (s storage) openDatabase(ctx context.Context, log *slog.Logger) (db *store.DB, lock *os.File, err error) {
	if err := os.MkdirAll(s.Data, 0o700); err != nil {
		return nil, nil, fmt.Errorf("make the data directory: %w", err)
	}
	if s.embedded() {
		if lock, err = lockFile(filepath.Join(s.Data, "lock")); err != nil {
			return nil, nil, err
		}
		defer func() {
			if err != nil {
				_ = lock.Close()
			}
		}()
	}
	db, err = store.Open(ctx, store.Config{URL: s.databaseURL(), Logger: log})
	if err != nil {
		return nil, nil, err
	}
	if err := db.Migrate(ctx); err != nil {
		_ = db.Close()
		return nil, nil, fmt.Errorf("migrate the database: %w", err)
	}
	return db, lock, nil
}

func lockFile(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock the data directory: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("another countersign process uses %s: an embedded database serves one process; stop the other one, or use PostgreSQL (--database postgres://...) for several", filepath.Dir(path))
	}
	return f, nil
}

// embedded are parts that a demo brings along instead of services elsewhere; nil for none.
type embedded struct {
	timestamp *timestamp.Member // in front of the authorities that are named
	mail      signing.MailSender
}

// open assembles an installation.
func open(ctx context.Context, s storage, w work, log *slog.Logger, origins []string, own embedded) (_ *system, err error) {
	sys := &system{log: log, metrics: prometheus.NewRegistry()}
	defer func() {
		if err != nil {
			sys.close(context.WithoutCancel(ctx))
		}
	}()
	var listener *url.URL
	if len(origins) > 0 {
		if listener, err = url.Parse(origins[0]); err != nil {
			return nil, err
		}
	}
	mailer := own.mail
	if mailer == nil {
		if mailer, err = w.mailer(listener); err != nil {
			return nil, err
		}
	}
	if sys.db, sys.lock, err = s.openDatabase(ctx, log); err != nil {
		return nil, err
	}
	blobs, err := store.OpenFileBlobs(filepath.Join(s.Data, "blobs"))
	if err != nil {
		return nil, err
	}
	keeperURL := s.MasterKey
	if keeperURL == "" {
		path, err := filepath.Abs(filepath.Join(s.Data, "master.key"))
		if err != nil {
			return nil, err
		}
		keeperURL = "file://" + path
	}
	keeper, err := software.OpenKeeper(ctx, keeperURL, nil)
	switch {
	case err != nil && s.MasterKey != "":
		return nil, &exitError{exitUsage, fmt.Errorf("--master-key: %w", err)}
	case err != nil:
		return nil, err
	}
	secret, err := installationSecret(ctx, keeper, sys.db.SoftwareKeys())
	if err != nil {
		return nil, err
	}
	//nolint:contextcheck // its background writes outlive the start's context: they end with Close
	if sys.auth, err = auth.New(auth.Config{Store: sys.db, Log: log, Key: secret, Origins: origins}); err != nil {
		return nil, err
	}
	temporary := w.TemporaryFiles
	if temporary == "" {
		temporary = filepath.Join(s.Data, "tmp")
	}
	if err := os.MkdirAll(temporary, 0o700); err != nil {
		return nil, fmt.Errorf("make the directory for temporary files: %w", err)
	}
	config := signing.Config{
		Store: sys.db, Blobs: blobs, Keys: software.New(keeper, sys.db.SoftwareKeys()), Log: log, TempDir: temporary,
		Limits: w.limits(), Secrets: keeper, Fetcher: retrieve.New(w.egress()),
		Mail: mailer, Webhooks: notify.NewWebhooks(w.egress()),
	}
	if sys.pool, err = timestampPool(w.Timestamp, own.timestamp); err != nil {
		return nil, err
	}
	if sys.pool != nil {
		config.Timestamper = sys.pool
	}
	sys.signing = signing.New(config)
	if sys.lock != nil {
		if err := sys.signing.Recover(ctx); err != nil {
			return nil, fmt.Errorf("recover interrupted signing requests: %w", err)
		}
	}
	sys.worker = &worker.Worker{Domain: sys.signing, Log: log}
	sys.queue, err = store.NewQueue(sys.db, measureJobs(sys.metrics, func(ctx context.Context, j store.Job) error {
		return sys.worker.Handle(ctx, j.Kind, j.Subject)
	}), store.QueueConfig{Workers: w.Workers, Logger: log})
	if err != nil {
		return nil, err
	}
	registerMetrics(sys)
	return sys, nil
}

// timestampPool returns the pool of authorities, or nil when there are none.
func timestampPool(urls []string, extra *timestamp.Member) (*timestamp.Pool, error) {
	var members []timestamp.Member
	if extra != nil {
		members = append(members, *extra)
	}
	client := &http.Client{Transport: http.DefaultTransport.(*http.Transport).Clone()}
	for _, u := range urls {
		c, err := timestamp.NewClient(u, client, timestamp.ClientOptions{})
		if err != nil {
			return nil, fmt.Errorf("--timestamp: %w", err)
		}
		members = append(members, timestamp.Member{Name: u, Timestamper: c})
	}
	if len(members) == 0 {
		return nil, nil
	}
	return timestamp.NewPool(timestamp.PoolOptions{}, members...)
}

// installationSecret returns 32 random bytes that all processes of the installation share, sealed with the master key in
// the database.
func installationSecret(ctx context.Context, keeper *secrets.Keeper, keys store.SoftwareKeys) ([]byte, error) {
	const id = "installation-secret"
	for range 2 {
		sealed, found, err := keys.Get(ctx, id)
		if err != nil {
			return nil, err
		}
		if found {
			secret, err := keeper.Decrypt(ctx, sealed)
			if err != nil {
				return nil, fmt.Errorf("the master key is not the one that this database was set up with; name that one's data directory with --data, or itself with --master-key: %w", err)
			}
			return secret, nil
		}
		secret := make([]byte, 32)
		_, _ = rand.Read(secret) // never fails
		if sealed, err = keeper.Encrypt(ctx, secret); err != nil {
			return nil, fmt.Errorf("seal the installation's secret: %w", err)
		}
		if err := keys.Put(ctx, id, sealed); err == nil {
			return secret, nil
		}
		// Another process was faster; read what it wrote.
	}
	return nil, errors.New("store the installation's secret: the database neither keeps nor has it")
}

func (s *system) close(ctx context.Context) {
	if s.auth != nil {
		if err := s.auth.Close(ctx); err != nil {
			s.log.Warn("closing sign-in", "error", err)
		}
	}
	if s.db != nil {
		if err := s.db.Close(); err != nil {
			s.log.Warn("closing the database", "error", err)
		}
	}
	if s.lock != nil {
		_ = s.lock.Close()
	}
}

// runWorker processes jobs and sweeps until ctx ends.
func (s *system) runWorker(ctx context.Context) error {
	var wg sync.WaitGroup
	wg.Go(func() { s.worker.Run(ctx) })
	err := s.queue.Run(ctx)
	wg.Wait()
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// handler returns everything that the listener serves.
func (s *system) handler(public *url.URL, limit int64, metricsToken string, proxies []netip.Prefix) (http.Handler, error) {
	operations := httpapi.New(httpapi.Config{Signing: s.signing, Auth: s.auth, Version: buildVersion(), Ready: s.db.Ping, Log: s.log})
	pages, err := web.New(web.Config{Signing: s.signing, Auth: s.auth, PublicURL: public, Log: s.log, Version: buildVersion()})
	if err != nil {
		return nil, err
	}
	api, err := httpapi.NewHandler(operations, httpapi.Options{Log: s.log, PublicURL: public, MaxArtifactBytes: limit, Fallback: pages})
	if err != nil {
		return nil, err
	}
	return mount(behindProxies(proxies, measureRequests(s.metrics, api)), "/metrics", metricsHandler(s.metrics, metricsToken)), nil
}

// shutdownGrace is how long running transfers and signatures may take after the signal to stop.
const shutdownGrace = 30 * time.Second

// listenAndServe serves the handler and the worker until ctx ends, then stops both gracefully. ready is called with the
// listener's address once connections are accepted.
func (s *system) listenAndServe(ctx context.Context, listener net.Listener, h http.Handler) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	server := httpapi.NewServer(h, s.log)
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := s.runWorker(ctx); err != nil {
			cancel(fmt.Errorf("worker: %w", err))
		}
	})
	wg.Go(func() {
		if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			cancel(fmt.Errorf("listener: %w", err))
		}
	})
	<-ctx.Done()
	s.log.Info("stopping", "grace", shutdownGrace)
	graceful, done := context.WithTimeout(context.WithoutCancel(ctx), shutdownGrace)
	defer done()
	if err := server.Shutdown(graceful); err != nil {
		s.log.Warn("some connections did not end in time", "error", err)
		_ = server.Close()
	}
	wg.Wait()
	if cause := context.Cause(ctx); !errors.Is(cause, context.Canceled) {
		return cause
	}
	return nil
}

// listen opens the address, with TLS when a certificate is given.
func listen(ctx context.Context, address, certificate, key string) (net.Listener, error) {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", address)
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, fmt.Errorf("--listen: another program listens on %s: stop it, or choose another port; port 0 picks a free one", address)
	}
	if err != nil {
		return nil, &exitError{exitUsage, fmt.Errorf("--listen: %w", err)}
	}
	if certificate == "" {
		return l, nil
	}
	pair, err := tls.LoadX509KeyPair(certificate, key)
	if err != nil {
		_ = l.Close()
		return nil, fmt.Errorf("load the TLS certificate: %w", err)
	}
	return tls.NewListener(l, &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12, NextProtos: []string{"h2", "http/1.1"}}), nil
}
