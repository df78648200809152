package httpapi

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/countersign-dev/countersign/api"
	"github.com/countersign-dev/countersign/internal/auth"
	"github.com/countersign-dev/countersign/internal/keystore/software"
	"github.com/countersign-dev/countersign/internal/signing"
	"github.com/countersign-dev/countersign/internal/store"
	"github.com/countersign-dev/countersign/internal/store/scaletest"
)

// BenchmarkScale measures the API among very many signing requests: every answer goes from the router through
// authentication by a real token to the database and back.
//
//	SCALE_REQUESTS=1000000 SCALE_DIR=/var/tmp/scale go test -run '^$' -bench Scale -timeout 0 ./internal/httpapi
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

// large is the API in front of a large installation.
type large struct {
	*scaletest.Installation
	handler http.Handler
	org     string
	tokens  map[string]string
}

func benchmarkScale(b *testing.B, in *scaletest.Installation) {
	identity, err := auth.New(auth.Config{Store: in.DB, Key: bytes.Repeat([]byte{7}, 32)})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := identity.Close(context.WithoutCancel(b.Context())); err != nil {
			b.Error(err)
		}
	})
	log := slog.New(slog.DiscardHandler)
	w := &large{Installation: in, org: string(in.Actor(scaletest.Admin).OrganizationID), tokens: map[string]string{}}
	if w.handler, err = NewHandler(New(Config{Signing: in.Service, Auth: identity, Ready: in.DB.Ping, Log: log}), Options{Log: log}); err != nil {
		b.Fatal(err)
	}
	for _, name := range []string{scaletest.Admin, scaletest.Builder, scaletest.Approver, scaletest.Member, scaletest.Manager, scaletest.Newcomer, scaletest.Outsider} {
		a := in.Actor(name)
		by := a
		if a.Kind == signing.CI {
			by = in.Actor(scaletest.Admin)
		}
		if w.tokens[name], _, err = identity.RegenerateToken(b.Context(), by, signing.UserToken, a.UserID, "", auth.TokenOptions{}); err != nil {
			b.Fatal(err)
		}
	}

	ids, middle := w.spread(b, 500)
	busy, old := "projectSlug="+scaletest.Busiest, "projectSlug="+scaletest.Oldest
	recently := time.Now().AddDate(0, 0, -7).UTC().Format(time.RFC3339)
	longAgo := time.Now().AddDate(-1, 0, 0).UTC().Format(time.RFC3339)
	b.Run("list", func(b *testing.B) {
		for _, c := range []struct{ name, who, query string }{
			{"all", scaletest.Admin, ""},
			{"all, 200 rows", scaletest.Admin, "pageSize=200"},
			{"one status", scaletest.Admin, "status=Completed"},
			{"rare status", scaletest.Admin, "status=InProgress"},
			{"two statuses", scaletest.Admin, "status=Failed,Denied"},
			{"project", scaletest.Admin, busy},
			{"project with old requests", scaletest.Admin, old},
			{"policy", scaletest.Admin, busy + "&signingPolicySlug=release"},
			{"policy and status", scaletest.Admin, busy + "&signingPolicySlug=audited&status=Denied"},
			{"created last week", scaletest.Admin, "createdFrom=" + recently},
			{"created before last year", scaletest.Admin, "createdBefore=" + longAgo},
			{"artifact", scaletest.Admin, "sha256Hash=" + w.digest(b, middle)},
			{"resubmits", scaletest.Admin, "originalSigningRequestId=" + middle},
			{"file name in all", scaletest.Admin, "fileName=setup"},
			{"file name in one project", scaletest.Admin, "fileName=product-07"},
			{"file name in old requests", scaletest.Admin, "fileName=" + scaletest.Oldest},
			{"file name in none", scaletest.Admin, "fileName=nowhere"},
			{"file name in none of a project", scaletest.Admin, busy + "&fileName=nowhere"},
			{"seen by a CI user", scaletest.Builder, ""},
			{"submitted by a CI user", scaletest.Builder, "submittedByMe=true"},
			{"submitted by a CI user to a small project", scaletest.Builder, "submittedByMe=true&projectSlug=product-22&status=Canceled"},
			{"submitted by a CI user to another's project", scaletest.Builder, "submittedByMe=true&projectSlug=product-05"},
			{"seen by a project's reader", scaletest.Member, ""},
			{"seen by the reader of many projects", scaletest.Manager, ""},
			{"seen by who has old requests only", scaletest.Newcomer, ""},
			{"seen by nobody", scaletest.Outsider, ""},
			{"another's project", scaletest.Outsider, busy},
			{"another's project, for the reader of many", scaletest.Manager, busy},
			{"another's policy", scaletest.Member, busy + "&signingPolicySlug=release"},
			{"waits for my approval", scaletest.Approver, "waitingForMyApproval=true"},
			{"waits for my approval in a project", scaletest.Approver, "waitingForMyApproval=true&" + busy},
			{"waits for nobody's approval", scaletest.Newcomer, "waitingForMyApproval=true"},
		} {
			b.Run(c.name, func(b *testing.B) {
				scaletest.Measure(b, func(b *testing.B, _ int) { w.get(b, c.who, "/SigningRequests?"+c.query) })
			})
		}
		// Pages from everywhere in the list: the cursors are known beforehand, as to who goes on from page to page.
		for _, c := range []struct{ name, who, query string }{
			{"at any depth", scaletest.Admin, ""},
			{"at any depth of a project", scaletest.Admin, busy},
			{"at any depth of a status", scaletest.Admin, "status=Failed"},
			{"at any depth, by the reader of many projects", scaletest.Manager, ""},
			{"at any depth, by file name", scaletest.Admin, "fileName=product-07"},
		} {
			b.Run(c.name, func(b *testing.B) {
				scaletest.Measure(b, func(b *testing.B, i int) {
					w.get(b, c.who, "/SigningRequests?"+c.query+"&cursor="+ids[i%len(ids)])
				})
			})
		}
	})
	for name, path := range map[string]string{"status": "/Status", "details": "", "artifact description": "/ArtifactDescription"} {
		for _, who := range []string{scaletest.Admin, scaletest.Manager} {
			b.Run(name+"/"+who, func(b *testing.B) {
				scaletest.Measure(b, func(b *testing.B, i int) { w.getOr404(b, who, "/SigningRequests/"+ids[i%len(ids)]+path) })
			})
		}
	}
	for name, path := range map[string]string{
		"projects": "/Projects", "audit log": "/AuditLog/Events", "audit log of requests": "/AuditLog/SigningRequestEvents",
		"messages of a request": "/SigningRequests/" + middle + "/Deliveries",
	} {
		b.Run(name, func(b *testing.B) {
			scaletest.Measure(b, func(b *testing.B, _ int) { w.get(b, scaletest.Admin, path) })
		})
	}
}

// get answers a request and wants 200.
func (w *large) get(b *testing.B, who, path string) *httptest.ResponseRecorder {
	rec := w.getOr404(b, who, path)
	if rec.Code != http.StatusOK {
		b.Fatalf("%s, for %s: %d %s", path, who, rec.Code, rec.Body)
	}
	return rec
}

func (w *large) getOr404(b *testing.B, who, path string) *httptest.ResponseRecorder {
	r := httptest.NewRequestWithContext(b.Context(), http.MethodGet, "https://sign.example/Api/v1/"+w.org+path, nil)
	r.Header.Set("Authorization", "Bearer "+w.tokens[who])
	rec := httptest.NewRecorder()
	w.handler.ServeHTTP(rec, r)
	if rec.Code != http.StatusOK && rec.Code != http.StatusNotFound {
		b.Fatalf("%s, for %s: %d %s", path, who, rec.Code, rec.Body)
	}
	return rec
}

// spread returns ids of requests from everywhere in time, in no order, and one from the middle that was resubmitted.
func (w *large) spread(b *testing.B, n int) (ids []string, middle string) {
	b.Helper()
	for i := range n {
		before := time.Now().Add(-time.Duration((i*7919)%n) * 2 * 365 * 24 * time.Hour / time.Duration(n)).UTC()
		page := decodeBody[api.SigningRequestPage](b, w.get(b, scaletest.Admin,
			fmt.Sprintf("/SigningRequests?pageSize=1&createdBefore=%s", url.QueryEscape(before.Format(time.RFC3339)))).Result(), http.StatusOK)
		for _, item := range page.Items {
			ids = append(ids, item.SigningRequestID)
		}
	}
	page := decodeBody[api.SigningRequestPage](b, w.get(b, scaletest.Admin, "/SigningRequests?pageSize=100&cursor="+ids[len(ids)/2]).Result(), http.StatusOK)
	for _, item := range page.Items {
		if item.OriginalSigningRequestID != "" {
			return ids, item.OriginalSigningRequestID
		}
	}
	b.Fatal("no request was resubmitted")
	return nil, ""
}

func (w *large) digest(b *testing.B, id string) string {
	b.Helper()
	return strings.ToLower(decodeBody[api.SigningRequest](b, w.get(b, scaletest.Admin, "/SigningRequests/"+id).Result(), http.StatusOK).UnsignedArtifact.Sha256Hash)
}
