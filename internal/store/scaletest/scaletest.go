// Package scaletest gives benchmarks an installation with very many signing requests: several projects and signing
// policies, and a few hundred requests that really went through the domain, copied with all that belongs to them
// (approvals, verifications, plans and results, grants, messages, audit entries) until there are as many as wanted.
//
// The environment says how many, and where to keep the databases for the next run:
//
//	SCALE_REQUESTS   signing requests; 20,000 when absent
//	SCALE_DIR        directory of the databases; temporary ones when absent. To make them anew, remove it.
package scaletest

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/countersign-dev/countersign/internal/signing"
	"github.com/countersign-dev/countersign/internal/store"
	"github.com/countersign-dev/countersign/internal/store/pgtest"
)

// Config is what the installation is made with.
type Config struct {
	// Domain has the keys, secrets and blobs of the domain's service. Store and senders of messages are set here.
	Domain signing.Config
	// Program is a Windows program, which every request signs.
	Program []byte
}

// Installation is a large one.
type Installation struct {
	DB      *store.DB
	Service *signing.Service
	people  map[string]signing.Actor
}

// Each runs a benchmark on SQLite and on PostgreSQL.
func Each(b *testing.B, c Config, run func(b *testing.B, in *Installation)) {
	n := 20000
	if text := os.Getenv("SCALE_REQUESTS"); text != "" {
		var err error
		if n, err = strconv.Atoi(text); err != nil || n < 1 {
			b.Fatalf("SCALE_REQUESTS is %q, not a number of signing requests", text)
		}
	}
	dir := os.Getenv("SCALE_DIR")
	if dir == "" {
		var err error
		// Who runs PostgreSQL must get into it.
		if dir, err = os.MkdirTemp("", "scale"); err == nil {
			err = os.Chmod(dir, 0o711)
		}
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() {
			if err := os.RemoveAll(dir); err != nil {
				b.Error(err)
			}
		})
	}
	if err := os.MkdirAll(dir, 0o711); err != nil {
		b.Fatal(err)
	}
	for _, engine := range []struct {
		name string
		open func(b *testing.B, dir string) (url string)
	}{
		{"SQLite", func(b *testing.B, dir string) string {
			if err := os.MkdirAll(dir, 0o700); err != nil {
				b.Fatal(err)
			}
			return filepath.Join(dir, "countersign.db")
		}},
		{"PostgreSQL", func(b *testing.B, dir string) string { return pgtest.Keep(b, dir) }},
	} {
		b.Run(engine.name, func(b *testing.B) {
			kept := filepath.Join(dir, fmt.Sprintf("%s-%d", engine.name, n))
			in, err := open(b, engine.open(b, kept), kept+".ready", n, c)
			if err != nil {
				b.Fatal(err)
			}
			run(b, in)
		})
	}
}

// open opens the database, after filling it unless the file says that it is filled.
func open(b *testing.B, url, ready string, n int, c Config) (*Installation, error) {
	ctx := context.Background()
	db, err := store.Open(ctx, store.Config{URL: url})
	if err != nil {
		return nil, err
	}
	b.Cleanup(func() {
		if err := db.Close(); err != nil {
			b.Error(err)
		}
	})
	if err := db.Migrate(ctx); err != nil {
		return nil, err
	}
	c.Domain.Store, c.Domain.Mail, c.Domain.Webhooks = db, postbox{}, postbox{}
	in := &Installation{DB: db, Service: signing.New(c.Domain)}
	if _, err := os.Stat(ready); err == nil {
		return in, in.find(ctx)
	}
	began := time.Now()
	samples, err := in.found(ctx, c.Program)
	if err != nil {
		return nil, fmt.Errorf("make the installation: %w", err)
	}
	if err := multiply(ctx, url, samples, n); err != nil {
		return nil, fmt.Errorf("copy the signing requests: %w", err)
	}
	b.Logf("%d signing requests made in %s", n, time.Since(began).Round(time.Second))
	if err := os.WriteFile(ready, nil, 0o600); err != nil {
		return nil, err
	}
	return in, in.find(ctx)
}

// find looks the people up.
func (in *Installation) find(ctx context.Context) error {
	return in.DB.View(ctx, func(tx signing.Tx) error {
		all, err := tx.Organizations(ctx)
		if err != nil || len(all) != 1 {
			return fmt.Errorf("the database holds %d organizations, not one: %w", len(all), err)
		}
		users, err := tx.Users(ctx, all[0].ID, "")
		in.people = map[string]signing.Actor{}
		for _, u := range users {
			in.people[u.Name] = actor(u)
		}
		return err
	})
}

// Actor returns one of the people by name, for issuing a token or an invitation.
func (in *Installation) Actor(name string) signing.Actor { return in.people[name] }

// Measure runs step again and again and reports how long it takes, besides the mean: the half, 95 and 99 of 100 are done
// in p50-ms, p95-ms and p99-ms milliseconds. step gets the number of its run.
func Measure(b *testing.B, step func(b *testing.B, i int)) {
	step(b, 0) // fills what is filled once
	var took []time.Duration
	for i := 1; b.Loop(); i++ {
		began := time.Now()
		step(b, i)
		took = append(took, time.Since(began))
	}
	slices.Sort(took)
	for _, p := range []int{50, 95, 99} {
		at := took[max(0, (len(took)*p+99)/100-1)]
		b.ReportMetric(float64(at.Microseconds())/1000, fmt.Sprintf("p%d-ms", p))
	}
}
