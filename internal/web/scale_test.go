package web

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"testing"
	"time"

	"github.com/countersign-dev/countersign/internal/auth"
	"github.com/countersign-dev/countersign/internal/keystore/software"
	"github.com/countersign-dev/countersign/internal/signing"
	"github.com/countersign-dev/countersign/internal/store"
	"github.com/countersign-dev/countersign/internal/store/scaletest"
)

// BenchmarkScale measures whole pages among very many signing requests: from the session to the rendered page.
//
//	SCALE_REQUESTS=1000000 SCALE_DIR=/var/tmp/scale go test -run '^$' -bench Scale -timeout 0 ./internal/web
func BenchmarkScale(b *testing.B) {
	blobs, err := store.OpenFileBlobs(filepath.Join(b.TempDir(), "blobs"))
	if err != nil {
		b.Fatal(err)
	}
	keeper, err := software.OpenKeeper(b.Context(), "base64key://MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=", nil)
	if err != nil {
		b.Fatal(err)
	}
	scaletest.Each(b, scaletest.Config{
		Domain:  signing.Config{Blobs: blobs, Keys: software.New(keeper, software.NewMemory()), Secrets: keeper, TempDir: b.TempDir()},
		Program: examplePE,
	}, benchmarkScale)
}

// large is the pages of a large installation, with people who are signed in.
type large struct {
	*scaletest.Installation
	handler http.Handler
	root    string // of the organization's pages
	cookies map[string]string
}

func benchmarkScale(b *testing.B, in *scaletest.Installation) {
	ctx := b.Context()
	identity, err := auth.New(auth.Config{Store: in.DB, Key: authKey, Hashing: auth.Hashing{MemoryKiB: 8, Passes: 1, Lanes: 1}})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := identity.Close(context.WithoutCancel(ctx)); err != nil {
			b.Error(err)
		}
	})
	admin := in.Actor(scaletest.Admin)
	w := &large{Installation: in, root: "/Web/" + string(admin.OrganizationID), cookies: map[string]string{}}
	if w.handler, err = New(Config{Signing: in.Service, Auth: identity}); err != nil {
		b.Fatal(err)
	}
	for i, name := range []string{scaletest.Admin, scaletest.Approver, scaletest.Manager, scaletest.Member, scaletest.Newcomer} {
		code, _, err := identity.Invite(ctx, admin, in.Actor(name).UserID)
		if err != nil {
			b.Fatal(err)
		}
		s, err := identity.AcceptInvitation(ctx, code, auth.SignInSetup{Password: password}, auth.Client{Address: fmt.Sprintf("192.0.2.%d", i+1)})
		if err != nil {
			b.Fatal(err)
		}
		w.cookies[name] = s.Cookie
	}

	ids := w.spread(b, 300)
	pages := []struct{ name, who, path string }{
		{"dashboard/administrator", scaletest.Admin, ""},
		{"dashboard/approver", scaletest.Approver, ""},
		{"dashboard/reader of many projects", scaletest.Manager, ""},
		{"dashboard/submitter of old requests", scaletest.Newcomer, ""},
		{"list/all", scaletest.Admin, "/SigningRequests"},
		{"list/status", scaletest.Admin, "/SigningRequests?status=Failed"},
		{"list/policy", scaletest.Admin, "/SigningRequests?project=" + scaletest.Busiest + "/audited&status=Denied"},
		{"list/old project", scaletest.Admin, "/SigningRequests?project=" + scaletest.Oldest},
		{"list/file name", scaletest.Admin, "/SigningRequests?file=product-07"},
		{"list/file name in none", scaletest.Admin, "/SigningRequests?file=nowhere"},
		{"list/waiting for me", scaletest.Approver, "/SigningRequests?waiting=on"},
		{"list/mine", scaletest.Newcomer, "/SigningRequests?mine=on"},
		{"list/reader of a project", scaletest.Member, "/SigningRequests"},
		{"list/reader of many projects", scaletest.Manager, "/SigningRequests"},
		{"projects", scaletest.Admin, "/Projects"},
		{"project", scaletest.Admin, "/Projects/" + scaletest.Busiest},
		{"policy", scaletest.Admin, "/Projects/" + scaletest.Busiest + "/SigningPolicies/release"},
		{"submit", scaletest.Newcomer, "/Submit"},
	}
	for _, p := range pages {
		b.Run(p.name, func(b *testing.B) {
			scaletest.Measure(b, func(b *testing.B, _ int) { w.get(b, p.who, p.path) })
		})
	}
	b.Run("list/at any depth", func(b *testing.B) {
		scaletest.Measure(b, func(b *testing.B, i int) { w.get(b, scaletest.Admin, "/SigningRequests?after="+ids[i%len(ids)]) })
	})
	b.Run("request", func(b *testing.B) {
		scaletest.Measure(b, func(b *testing.B, i int) { w.get(b, scaletest.Admin, "/SigningRequests/"+ids[i%len(ids)]) })
	})
}

// get loads a page.
func (w *large) get(b *testing.B, who, path string) *bytes.Buffer {
	r := httptest.NewRequestWithContext(b.Context(), http.MethodGet, w.root+path, nil)
	r.AddCookie(&http.Cookie{Name: sessionCookie, Value: w.cookies[who]})
	rec := httptest.NewRecorder()
	w.handler.ServeHTTP(rec, r)
	if rec.Code != http.StatusOK {
		b.Fatalf("%s, for %s: %d %s", path, who, rec.Code, rec.Body)
	}
	return rec.Body
}

// spread returns the ids of requests from everywhere in time, in no order.
func (w *large) spread(b *testing.B, n int) (ids []string) {
	b.Helper()
	for i := range n {
		before := time.Now().Add(-time.Duration((i*7919)%n) * 2 * 365 * 24 * time.Hour / time.Duration(n))
		page, err := w.Service.Requests(b.Context(), w.Actor(scaletest.Admin), signing.RequestQuery{Before: &before, Limit: 1})
		if err != nil {
			b.Fatal(err)
		}
		for _, r := range page.Items {
			ids = append(ids, string(r.ID))
		}
	}
	return ids
}
