package signing_test

import (
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/countersign-dev/countersign/internal/signing"
	"github.com/countersign-dev/countersign/internal/store/pgtest"
)

// TestRaces has decisions that rest on more than one object, or on there being none, made at the same time, where the
// database runs transactions side by side.
func TestRaces(t *testing.T) {
	t.Parallel()
	db := pgtest.Open(t)
	w := newWorld(t, func(c *signing.Config) { c.Store = db })
	race := func(run ...func() error) (kinds map[signing.Kind]int) {
		kinds = map[signing.Kind]int{}
		var mu sync.Mutex
		var wg sync.WaitGroup
		for _, f := range run {
			wg.Go(func() {
				kind := signing.KindOf(f())
				mu.Lock()
				defer mu.Unlock()
				kinds[kind]++
			})
		}
		wg.Wait()
		return kinds
	}
	// The installation is set up once.
	kinds := race(slices.Repeat([]func() error{func() error { return w.seed(t.Context()) }}, 8)...)
	if kinds[0] != 1 || kinds[signing.KindConflict] != 7 {
		t.Fatalf("set up: %v", kinds)
	}
	organizations, err := w.Organizations(t.Context())
	if err != nil || len(organizations) != 2 {
		t.Fatalf("%d organizations, %v", len(organizations), err)
	}

	// A submission that is sent again while it is received makes one request.
	var mu sync.Mutex
	ids := map[signing.ID]bool{}
	var submissions []func() error
	for range 8 {
		staged := w.stage(t, w.CI)
		submissions = append(submissions, func() error {
			r, _, err := w.Submit(t.Context(), w.CI, signing.Submission{
				Target: signing.Target{ProjectSlug: "app", PolicySlug: "test-signing"}, Artifact: staged, IdempotencyKey: "job-17",
			})
			if err == nil {
				mu.Lock()
				defer mu.Unlock()
				ids[r.ID] = true
			}
			return err
		})
	}
	kinds = race(submissions...)
	if kinds[0] != 8 || len(ids) != 1 {
		t.Errorf("submissions: %v, %d requests", kinds, len(ids))
	}

	// Of administrators who deactivate each other, one stays.
	second, err := w.EditUser(t.Context(), w.Admin, w.Second.UserID, signing.UserEdit{Roles: &[]signing.Role{signing.GlobalAdministrator}})
	if err != nil {
		t.Fatal(err)
	}
	deactivate := func(by signing.Actor, id signing.ID) func() error {
		return func() error {
			_, err := w.EditUser(t.Context(), by, id, signing.UserEdit{Active: ptr(false)})
			return err
		}
	}
	kinds = race(deactivate(w.Admin, second.ID), deactivate(actorOf(second), w.Admin.UserID))
	if kinds[0] != 1 || kinds[signing.KindConflict] != 1 {
		t.Errorf("deactivations: %v", kinds)
	}

	// A certificate is not restricted beside a policy that breaks the restriction.
	certificate := signing.CertificateEdit{Restrictions: &signing.CertificateRestrictions{MinimumApprovals: 1}}
	admin := w.Admin
	if u, err := w.User(t.Context(), w.Admin, w.Admin.UserID); err != nil || !u.Active {
		admin = actorOf(second)
	}
	if _, err := w.CreateSelfSigned(t.Context(), admin, signing.NewCertificate{Slug: "fresh", Subject: "CN=fresh", KeyAlgorithm: "ECDSA-P256"}); err != nil {
		t.Fatal(err)
	}
	policy := signing.PolicyEdit{Slug: ptr("fresh"), Name: ptr("fresh"), CertificateSlug: ptr("fresh"), Rules: &signing.PolicyRules{}}
	kinds = race(
		func() error { _, err := w.EditCertificate(t.Context(), admin, "fresh", certificate); return err },
		func() error { _, err := w.CreatePolicy(t.Context(), admin, "app", policy); return err },
	)
	if kinds[0] != 1 || kinds[signing.KindInvalid] != 1 {
		t.Errorf("restriction and policy: %v", kinds)
	}

	// A group that is deleted while it becomes a member, or a submitter, does not both.
	for i := range 8 {
		g, err := w.CreateGroup(t.Context(), w.Admin, signing.GroupEdit{Name: ptr(fmt.Sprint("race ", i))})
		if err != nil {
			t.Fatal(err)
		}
		uses := []func() error{
			func() error {
				_, err := w.CreateGroup(t.Context(), w.Admin, signing.GroupEdit{Name: ptr(fmt.Sprint("outer ", i)), Members: &[]signing.Subject{group(g.ID)}})
				return err
			},
			func() error {
				_, err := w.EditPolicy(t.Context(), w.Admin, "app", "test-signing", signing.PolicyEdit{Submitters: &[]signing.Subject{user(w.CI.UserID), group(g.ID)}})
				return err
			},
			func() error {
				_, err := w.CreateProject(t.Context(), w.Admin, signing.ProjectEdit{Slug: ptr(fmt.Sprint("race", i)), Name: ptr("x"), Readers: &[]signing.Subject{group(g.ID)}})
				return err
			},
		}
		kinds := race(func() error { return w.DeleteGroup(t.Context(), w.Admin, g.ID) }, uses[i%len(uses)])
		if kinds[0] != 1 || kinds[signing.KindConflict]+kinds[signing.KindInvalid] != 1 {
			t.Errorf("round %d: %v", i, kinds)
		}
	}
}

// TestSubmittedTwiceAtOnce: of a CI job's submissions that come at the same time, those of one origin make one request, with and
// without a key, with the artifact and for its upload.
func TestSubmittedTwiceAtOnce(t *testing.T) {
	t.Parallel()
	onBothDatabases(t, func(t *testing.T, w *world) {
		build := w.CI
		build.TrustedBuildSystemID = w.BuildSystem
		for _, key := range []string{"", "job 17"} {
			for _, late := range []bool{false, true} {
				var (
					mu      sync.Mutex
					wg      sync.WaitGroup
					made    int
					origins = map[string]map[signing.ID]bool{"1": {}, "2": {}}
				)
				for i := range 8 {
					commit := fmt.Sprint(1 + i%2)
					sub := signing.Submission{
						Target: signing.Target{ProjectSlug: "app", PolicySlug: "verified"}, IdempotencyKey: key,
						Origin: &signing.Origin{RepositoryURL: "https://github.com/acme/app", BranchName: "main", CommitID: commit, BuildURL: "https://ci.example/" + key + fmt.Sprint(late)},
					}
					if late {
						sub.Upload = &signing.Upload{FileName: "app.exe", SHA256: hexSum(examplePE)}
					} else {
						sub.Artifact = w.stage(t, build)
					}
					wg.Go(func() {
						r, created, err := w.Submit(t.Context(), build, sub)
						if err != nil {
							t.Error(err)
							return
						}
						mu.Lock()
						defer mu.Unlock()
						origins[commit][r.ID] = true
						if created {
							made++
						}
					})
				}
				wg.Wait()
				if made != 2 || len(origins["1"]) != 1 || len(origins["2"]) != 1 {
					t.Errorf("key %q, artifact later %t: %d requests of two origins: %v", key, late, made, origins)
				}
			}
		}
	})
}
