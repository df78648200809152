package auth

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/countersign-dev/countersign/internal/signing"
)

// Who may issue, list and revoke whose tokens.
func TestTokenPermissions(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	const forbid, missing = signing.KindForbidden, signing.KindNotFound
	powerfulCI := func(w *world) signing.ID {
		id := signing.NewID()
		w.store.edit(func(s *state) {
			s.users[id] = signing.User{ID: id, OrganizationID: w.org, Kind: signing.CI, Name: "Provisioner", Active: true, Roles: []signing.Role{signing.GlobalAdministrator}}
		})
		return id
	}
	approvingCI := func(subject func(*world) signing.Subject) func(*world) signing.ID {
		return func(w *world) signing.ID {
			w.store.edit(func(s *state) {
				s.policies = append(s.policies, signing.Policy{OrganizationID: w.org, Slug: "release", Approvers: []signing.Subject{subject(w)}})
			})
			return w.ci.ID
		}
	}
	alone := approvingCI(func(w *world) signing.Subject { return signing.Subject{Kind: signing.SubjectUser, ID: w.ci.ID} })
	inGroup := approvingCI(func(w *world) signing.Subject { return signing.Subject{Kind: signing.SubjectGroup, ID: w.group} })
	for name, c := range map[string]struct {
		by    func(*world) signing.Actor
		kind  signing.TokenKind
		owner func(*world) signing.ID
		issue signing.Kind // 0: allowed
		list  signing.Kind
		end   signing.Kind
	}{
		"own personal token":              {func(w *world) signing.Actor { return w.actor(w.regular) }, signing.UserToken, func(w *world) signing.ID { return w.regular.ID }, 0, 0, 0},
		"somebody else's personal":        {func(w *world) signing.Actor { return w.actor(w.regular) }, signing.UserToken, func(w *world) signing.ID { return w.reader.ID }, forbid, forbid, forbid},
		"admin, another's personal":       {func(w *world) signing.Actor { return w.actor(w.admin) }, signing.UserToken, func(w *world) signing.ID { return w.regular.ID }, forbid, 0, 0},
		"admin, CI":                       {func(w *world) signing.Actor { return w.actor(w.admin) }, signing.UserToken, func(w *world) signing.ID { return w.ci.ID }, 0, 0, 0},
		"user admin, CI":                  {func(w *world) signing.Actor { return w.actor(w.userAdmin) }, signing.UserToken, func(w *world) signing.ID { return w.ci.ID }, 0, 0, 0},
		"user admin, CI of higher role":   {func(w *world) signing.Actor { return w.actor(w.userAdmin) }, signing.UserToken, powerfulCI, forbid, 0, 0},
		"user admin, CI that approves":    {func(w *world) signing.Actor { return w.actor(w.userAdmin) }, signing.UserToken, alone, forbid, 0, 0},
		"user admin, CI, approving group": {func(w *world) signing.Actor { return w.actor(w.userAdmin) }, signing.UserToken, inGroup, forbid, 0, 0},
		"admin, CI that approves":         {func(w *world) signing.Actor { return w.actor(w.admin) }, signing.UserToken, inGroup, 0, 0, 0},
		"user and project admin, the same": {func(w *world) signing.Actor {
			a := w.actor(w.userAdmin)
			a.Roles = append(slices.Clone(a.Roles), signing.ProjectAdministrator)
			return a
		}, signing.UserToken, alone, 0, 0, 0},
		"admin, CI of same role":          {func(w *world) signing.Actor { return w.actor(w.admin) }, signing.UserToken, powerfulCI, 0, 0, 0},
		"regular, CI":                     {func(w *world) signing.Actor { return w.actor(w.regular) }, signing.UserToken, func(w *world) signing.ID { return w.ci.ID }, forbid, forbid, forbid},
		"reader, CI":                      {func(w *world) signing.Actor { return w.actor(w.reader) }, signing.UserToken, func(w *world) signing.ID { return w.ci.ID }, forbid, 0, forbid},
		"CI, itself":                      {func(w *world) signing.Actor { return w.actor(w.ci) }, signing.UserToken, func(w *world) signing.ID { return w.ci.ID }, forbid, 0, 0},
		"admin, foreign CI":               {func(w *world) signing.Actor { return w.actor(w.admin) }, signing.UserToken, func(w *world) signing.ID { return w.strangeCI.ID }, missing, missing, missing},
		"regular, unknown user":           {func(w *world) signing.Actor { return w.actor(w.regular) }, signing.UserToken, func(*world) signing.ID { return signing.NewID() }, forbid, forbid, forbid},
		"admin, build system":             {func(w *world) signing.Actor { return w.actor(w.admin) }, signing.BuildSystemToken, func(w *world) signing.ID { return w.system }, 0, 0, 0},
		"user admin, build system":        {func(w *world) signing.Actor { return w.actor(w.userAdmin) }, signing.BuildSystemToken, func(w *world) signing.ID { return w.system }, forbid, forbid, forbid},
		"reader, build system":            {func(w *world) signing.Actor { return w.actor(w.reader) }, signing.BuildSystemToken, func(w *world) signing.ID { return w.system }, forbid, 0, forbid},
		"admin, foreign build system":     {func(w *world) signing.Actor { return w.actor(w.admin) }, signing.BuildSystemToken, func(w *world) signing.ID { return w.strangeSystem }, missing, missing, missing},
		"admin, user as a build system":   {func(w *world) signing.Actor { return w.actor(w.admin) }, signing.BuildSystemToken, func(w *world) signing.ID { return w.ci.ID }, missing, missing, missing},
		"nobody":                          {func(*world) signing.Actor { return signing.Actor{} }, signing.UserToken, func(*world) signing.ID { return "" }, forbid, forbid, forbid},
		"the system itself":               {func(w *world) signing.Actor { return signing.Countersign(w.org) }, signing.UserToken, func(w *world) signing.ID { return w.ci.ID }, forbid, forbid, forbid},
		"foreign admin, CI of this":       {func(w *world) signing.Actor { return w.actor(w.stranger) }, signing.UserToken, func(w *world) signing.ID { return w.ci.ID }, missing, missing, missing},
		"foreign admin, personal of this": {func(w *world) signing.Actor { return w.actor(w.stranger) }, signing.UserToken, func(w *world) signing.ID { return w.regular.ID }, missing, missing, missing},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			by, owner := c.by(w), c.owner(w)
			check := func(what string, err error, want signing.Kind) {
				t.Helper()
				if signing.KindOf(err) != want || want == 0 && err != nil {
					t.Errorf("%s: %v, want kind %d", what, err, want)
				}
			}
			token, record, err := w.IssueToken(ctx, by, c.kind, owner, TokenOptions{})
			check("issue", err, c.issue)
			if err != nil && (token != "" || record != nil) {
				t.Error("a token came with the error")
			}
			_, _, err = w.RegenerateToken(ctx, by, c.kind, owner, "", TokenOptions{})
			check("regenerate", err, c.issue)
			if n := len(w.store.snapshot().tokens); c.issue != 0 && n != 0 {
				t.Errorf("%d tokens in the store after refusals", n)
			}
			_, err = w.Tokens(ctx, by, c.kind, owner)
			check("list", err, c.list)
			var id signing.ID
			w.store.edit(func(s *state) { // as somebody who may would have issued
				id = signing.NewID()
				org := w.org
				if owner == w.strangeCI.ID || owner == w.strangeSystem {
					org = w.foreign
				}
				s.tokens[id] = signing.APIToken{ID: id, OrganizationID: org, Kind: c.kind, OwnerID: owner, Hash: hashOf(string(id)), Prefix: "csc_test"}
			})
			check("revoke", w.RevokeToken(ctx, by, c.kind, owner, id), c.end)
			if revoked := w.store.snapshot().tokens[id].RevokedAt != nil; revoked != (c.end == 0) {
				t.Errorf("revoked: %t", revoked)
			}
		})
	}
}

func TestTokenLife(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	w := newWorld(t)
	admin := w.actor(w.admin)
	soon := time.Now().Add(time.Hour)
	first, record, err := w.IssueToken(ctx, admin, signing.UserToken, w.ci.ID, TokenOptions{Name: "Release job", ExpiresAt: &soon})
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(first, "csc_") || record.Prefix != first[:8] || record.Name != "Release job" || record.Hash != hashOf(first) || !record.ExpiresAt.Equal(soon.UTC().Truncate(time.Microsecond)) {
		t.Errorf("record %+v of %s", record, first)
	}
	if personal, _ := w.issue(signing.UserToken, w.regular.ID, TokenOptions{}); !strings.HasPrefix(personal, "csp_") {
		t.Errorf("personal token %s", personal)
	}
	if system, _ := w.issue(signing.BuildSystemToken, w.system, TokenOptions{}); !strings.HasPrefix(system, "cst_") {
		t.Errorf("build system token %s", system)
	}
	second, replaced, err := w.RegenerateToken(ctx, admin, signing.UserToken, w.ci.ID, record.ID, TokenOptions{})
	if err != nil || second == first || replaced.Name != "Release job" || replaced.ExpiresAt == nil ||
		replaced.ExpiresAt.Sub(replaced.CreatedAt).Round(time.Second) != time.Hour { // as long as the old one, from now
		t.Fatalf("regenerated: %+v, %v", replaced, err)
	}
	_, err = w.Authenticate(ctx, "Bearer "+first, w.org)
	wantKind(t, err, signing.KindUnauthenticated, "revoked")
	if _, err := w.Authenticate(ctx, "Bearer "+second, w.org); err != nil {
		t.Error(err)
	}
	_, _, err = w.RegenerateToken(ctx, admin, signing.UserToken, w.ci.ID, record.ID, TokenOptions{})
	wantKind(t, err, signing.KindNotFound, "revoked")
	third, _ := w.issue(signing.UserToken, w.ci.ID, TokenOptions{})
	fourth, _, err := w.RegenerateToken(ctx, admin, signing.UserToken, w.ci.ID, "", TokenOptions{Name: "all"})
	if err != nil {
		t.Fatal(err)
	}
	for token, want := range map[string]signing.Kind{second: signing.KindUnauthenticated, third: signing.KindUnauthenticated, fourth: 0} {
		if _, err := w.Authenticate(ctx, "Bearer "+token, w.org); signing.KindOf(err) != want {
			t.Errorf("after regenerating all: %v", err)
		}
	}
	list, err := w.Tokens(ctx, admin, signing.UserToken, w.ci.ID)
	if err != nil || len(list) != 4 || list[0].Name != "all" || list[0].RevokedAt != nil {
		t.Errorf("list %v, %v", list, err)
	}
	if err := w.RevokeToken(ctx, admin, signing.UserToken, w.ci.ID, list[0].ID); err != nil {
		t.Error(err)
	}
	if err := w.RevokeToken(ctx, admin, signing.UserToken, w.ci.ID, list[0].ID); err != nil {
		t.Errorf("revoked twice: %v", err)
	}
	wantKind(t, w.RevokeToken(ctx, admin, signing.UserToken, w.regular.ID, list[0].ID), signing.KindNotFound, "no such token")
	want := []string{EventTokenIssued, EventTokenIssued, EventTokenIssued, EventTokenRegenerated, EventTokenIssued, EventTokenRegenerated, EventTokenRevoked}
	if d := cmp.Diff(want, w.store.events()); d != "" {
		t.Errorf("audit log (-want +got):\n%s", d)
	}
	entry := w.store.snapshot().audit[3]
	var data tokenData
	if err := json.Unmarshal(entry.Data, &data); err != nil {
		t.Fatal(err)
	}
	if data.Token.ID != replaced.ID || len(data.Replaces) != 1 || data.Replaces[0].ID != record.ID || entry.Object.ID != string(w.ci.ID) || entry.Actor.ID != string(w.admin.ID) || entry.OrganizationID != string(w.org) {
		t.Errorf("entry %+v with data %s", entry, entry.Data)
	}
	w.assertSecret(first, second, third, fourth)
}

func TestTokenOptions(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	past := time.Now().Add(-time.Minute)
	good := mint(prefixCI)
	for name, c := range map[string]struct {
		o     TokenOptions
		field string
	}{
		"long name":            {TokenOptions{Name: strings.Repeat("ä", 201)}, "Name"},
		"control character":    {TokenOptions{Name: "a\x00b"}, "Name"},
		"not UTF-8":            {TokenOptions{Name: "\xff"}, "Name"},
		"expired":              {TokenOptions{ExpiresAt: &past}, "ExpiresAt"},
		"short import":         {TokenOptions{Import: strings.Repeat("a", 31)}, "Token"},
		"long import":          {TokenOptions{Import: strings.Repeat("a", 513)}, "Token"},
		"import with colon":    {TokenOptions{Import: strings.Repeat("a", 31) + ":"}, "Token"},
		"mistyped import":      {TokenOptions{Import: good[:52] + "!"}, "Token"},
		"cut off import":       {TokenOptions{Import: good[:50]}, "Token"},
		"import of invitation": {TokenOptions{Import: mint(prefixInvitation)}, "Token"},
		"good":                 {TokenOptions{Name: strings.Repeat("ä", 200), Import: good}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			_, _, err := w.IssueToken(ctx, w.actor(w.admin), signing.UserToken, w.ci.ID, c.o)
			if c.field == "" {
				if err != nil {
					t.Fatal(err)
				}
				_, _, err = w.IssueToken(ctx, w.actor(w.admin), signing.UserToken, w.ci.ID, c.o)
				wantKind(t, err, signing.KindConflict, "in use")
				return
			}
			wantKind(t, err, signing.KindInvalid, c.field+": ")
		})
	}
}

func TestTokenLimits(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	w := newWorld(t)
	for range maxUsableTokens {
		w.issue(signing.UserToken, w.ci.ID, TokenOptions{})
	}
	_, _, err := w.IssueToken(ctx, w.actor(w.admin), signing.UserToken, w.ci.ID, TokenOptions{})
	wantKind(t, err, signing.KindConflict, "revoke one first")
	w.store.edit(func(s *state) {
		u := s.users[w.ci.ID]
		u.Active = false
		s.users[u.ID] = u
	})
	_, _, err = w.IssueToken(ctx, w.actor(w.admin), signing.UserToken, w.ci.ID, TokenOptions{})
	wantKind(t, err, signing.KindConflict, "deactivated")
	_, _, err = w.IssueToken(ctx, w.actor(w.admin), "Robot", w.ci.ID, TokenOptions{})
	if err == nil {
		t.Error("a token of an unknown kind was issued")
	}
}

func TestNewRefusesBadConfiguration(t *testing.T) {
	t.Parallel()
	good := Config{Store: newFakeStore(t), Key: make([]byte, 32)}
	for text, change := range map[string]func(*Config){
		"Store":       func(c *Config) { c.Store = nil },
		"Key":         func(c *Config) { c.Key = c.Key[:16] },
		"lanes":       func(c *Config) { c.Hashing = Hashing{MemoryKiB: 1024, Passes: 1} },
		"memory":      func(c *Config) { c.Hashing = Hashing{MemoryKiB: 1 << 30, Passes: 1, Lanes: 1} },
		"SessionIdle": func(c *Config) { c.SessionIdle = time.Minute },
		"SessionLife": func(c *Config) { c.SessionLife = -time.Minute },
		"CacheFor":    func(c *Config) { c.CacheFor = time.Hour },
		"origin":      func(c *Config) { c.Origins = []string{"sign.example.com"} },
	} {
		c := good
		c.Key = slices.Clone(good.Key)
		change(&c)
		if s, err := New(c); err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("%s: %v", text, err)
			if s != nil {
				_ = s.Close(context.Background())
			}
		}
	}
}
