package auth

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/quick"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/countersign-dev/countersign/internal/signing"
)

func TestAuthenticateHeaders(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	w := newWorld(t)
	personal, personalRecord := w.issue(signing.UserToken, w.regular.ID, TokenOptions{})
	ci, ciRecord := w.issue(signing.UserToken, w.ci.ID, TokenOptions{})
	system, systemRecord := w.issue(signing.BuildSystemToken, w.system, TokenOptions{})
	strangeSystem, _ := w.issue(signing.BuildSystemToken, w.strangeSystem, TokenOptions{})
	foreign, _ := w.issue(signing.UserToken, w.strangeCI.ID, TokenOptions{})
	const elsewhere = "Ab/cd+EfGh1jKlMn0pQrStUvWxYz/0123456789+/A=="
	w.issue(signing.UserToken, w.ci.ID, TokenOptions{Name: "moved", Import: elsewhere})
	const elsewhereSystem = "zz/cd+EfGh1jKlMn0pQrStUvWxYz/0123456789+/A=="
	w.issue(signing.BuildSystemToken, w.system, TokenOptions{Import: elsewhereSystem})
	revoked, revokedRecord := w.issue(signing.UserToken, w.ci.ID, TokenOptions{Name: "old"})
	if err := w.RevokeToken(ctx, w.actor(w.admin), signing.UserToken, w.ci.ID, revokedRecord.ID); err != nil {
		t.Fatal(err)
	}
	past := time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)
	expired, expiredRecord := w.issue(signing.UserToken, w.ci.ID, TokenOptions{Name: "short"})
	inactive, _ := w.issue(signing.UserToken, w.reader.ID, TokenOptions{})
	w.store.edit(func(s *state) {
		r := s.tokens[expiredRecord.ID]
		r.ExpiresAt = &past
		s.tokens[r.ID] = r
		u := s.users[w.reader.ID]
		u.Active = false
		s.users[u.ID] = u
	})
	w.Forget(w.org)

	ciActor := signing.Actor{OrganizationID: w.org, UserID: w.ci.ID, Kind: signing.CI, Name: "Jenkins", Groups: []signing.ID{w.group}, Via: "token " + ciRecord.Prefix}
	personalActor := signing.Actor{OrganizationID: w.org, UserID: w.regular.ID, Kind: signing.Interactive, Name: "Rita Regular", Roles: w.regular.Roles, Groups: []signing.ID{w.group}, Via: "token " + personalRecord.Prefix}
	with := func(a signing.Actor, prefix string) signing.Actor {
		a.TrustedBuildSystemID = w.system
		a.Via += " with " + prefix
		return a
	}
	movedActor := ciActor
	movedActor.Via = "token Ab/cd+Ef"
	flipped := ci[:len(ci)-1] + string("ab"[btoi(ci[len(ci)-1] == 'a')])

	for name, c := range map[string]struct {
		header string
		org    signing.ID
		want   signing.Actor
		kind   signing.Kind
		text   string
	}{
		"CI":                           {"Bearer " + ci, w.org, ciActor, 0, ""},
		"personal":                     {"Bearer " + personal, w.org, personalActor, 0, ""},
		"no organization in the route": {"Bearer " + ci, "", ciActor, 0, ""},
		"lower-case scheme":            {"bearer " + ci, w.org, ciActor, 0, ""},
		"upper-case scheme":            {"BEARER " + ci, w.org, ciActor, 0, ""},
		"spaces":                       {"  Bearer    " + ci + "  ", w.org, ciActor, 0, ""},
		"CI with build system":         {"Bearer " + ci + ":" + system, w.org, with(ciActor, systemRecord.Prefix), 0, ""},
		"personal with build system":   {"Bearer " + personal + ":" + system, w.org, with(personalActor, systemRecord.Prefix), 0, ""},
		"from elsewhere":               {"Bearer " + elsewhere, w.org, movedActor, 0, ""},
		"both from elsewhere":          {"Bearer " + elsewhere + ":" + elsewhereSystem, w.org, with(movedActor, "zz/cd+Ef"), 0, ""},

		"no header":                    {"", w.org, signing.Actor{}, signing.KindUnauthenticated, "There is no Authorization header"},
		"Basic":                        {"Basic dXNlcjpwYXNz", w.org, signing.Actor{}, signing.KindUnauthenticated, "not of the scheme Bearer"},
		"token only":                   {ci, w.org, signing.Actor{}, signing.KindUnauthenticated, "not of the scheme Bearer"},
		"scheme only":                  {"Bearer", w.org, signing.Actor{}, signing.KindUnauthenticated, "no token after"},
		"scheme and space":             {"Bearer  ", w.org, signing.Actor{}, signing.KindUnauthenticated, "no token after"},
		"scheme glued":                 {"Bearer" + ci, w.org, signing.Actor{}, signing.KindUnauthenticated, "not of the scheme Bearer"},
		"empty user token":             {"Bearer :" + system, w.org, signing.Actor{}, signing.KindUnauthenticated, "The API token is empty"},
		"empty system token":           {"Bearer " + ci + ":", w.org, signing.Actor{}, signing.KindUnauthenticated, "The trusted build system token is empty"},
		"two colons":                   {"Bearer " + ci + ":" + system + ":" + system, w.org, signing.Actor{}, signing.KindUnauthenticated, "more than one colon"},
		"two words":                    {"Bearer " + ci + " " + system, w.org, signing.Actor{}, signing.KindUnauthenticated, "a character that no token has"},
		"control character":            {"Bearer " + ci + "\x00", w.org, signing.Actor{}, signing.KindUnauthenticated, "a character that no token has"},
		"not ASCII":                    {"Bearer tökentökentökentökentöken", w.org, signing.Actor{}, signing.KindUnauthenticated, "a character that no token has"},
		"long token":                   {"Bearer " + strings.Repeat("a", 513), w.org, signing.Actor{}, signing.KindUnauthenticated, "more than 512 characters"},
		"long header":                  {"Bearer " + strings.Repeat("a", 1<<20), w.org, signing.Actor{}, signing.KindUnauthenticated, "too long"},
		"cut off":                      {"Bearer " + ci[:40], w.org, signing.Actor{}, signing.KindUnauthenticated, "checksum"},
		"mistyped":                     {"Bearer " + flipped, w.org, signing.Actor{}, signing.KindUnauthenticated, "checksum"},
		"mistyped system":              {"Bearer " + ci + ":" + system[:52] + "!", w.org, signing.Actor{}, signing.KindUnauthenticated, "trusted build system token is malformed"},
		"unknown":                      {"Bearer " + mint(prefixCI), w.org, signing.Actor{}, signing.KindUnauthenticated, "The API token is unknown"},
		"unknown from elsewhere":       {"Bearer abcdefgh", w.org, signing.Actor{}, signing.KindUnauthenticated, "The API token is unknown"},
		"unknown system":               {"Bearer " + ci + ":" + mint(prefixBuildSystem), w.org, signing.Actor{}, signing.KindUnauthenticated, "The trusted build system token is unknown"},
		"expired":                      {"Bearer " + expired, w.org, signing.Actor{}, signing.KindUnauthenticated, `"short" expired on 2026-03-04 05:06 UTC`},
		"revoked":                      {"Bearer " + revoked, w.org, signing.Actor{}, signing.KindUnauthenticated, `"old" was revoked on 20`},
		"deactivated user":             {"Bearer " + inactive, w.org, signing.Actor{}, signing.KindUnauthenticated, "deactivated"},
		"build system alone":           {"Bearer " + system, w.org, signing.Actor{}, signing.KindUnauthenticated, "does not authenticate alone"},
		"build system twice":           {"Bearer " + system + ":" + system, w.org, signing.Actor{}, signing.KindUnauthenticated, "does not authenticate alone"},
		"swapped":                      {"Bearer " + system + ":" + ci, w.org, signing.Actor{}, signing.KindUnauthenticated, "does not authenticate alone"},
		"user token twice":             {"Bearer " + ci + ":" + ci, w.org, signing.Actor{}, signing.KindUnauthenticated, "not that of a trusted build system"},
		"foreign build system":         {"Bearer " + ci + ":" + strangeSystem, w.org, signing.Actor{}, signing.KindUnauthenticated, "another organization than the API token"},
		"foreign organization":         {"Bearer " + ci, w.foreign, signing.Actor{}, signing.KindForbidden, "does not belong to organization " + string(w.foreign)},
		"foreign token":                {"Bearer " + foreign, w.org, signing.Actor{}, signing.KindForbidden, "does not belong to organization " + string(w.org)},
		"foreign token, unknown org":   {"Bearer " + foreign, signing.NewID(), signing.Actor{}, signing.KindForbidden, "does not belong to organization"},
		"revoked and foreign":          {"Bearer " + revoked, w.foreign, signing.Actor{}, signing.KindUnauthenticated, "was revoked"},
		"invitation code":              {"Bearer " + mint(prefixInvitation), w.org, signing.Actor{}, signing.KindUnauthenticated, "unknown"},
		"with build system, elsewhere": {"Bearer " + ci + ":" + system, w.foreign, signing.Actor{}, signing.KindForbidden, "does not belong"},
	} {
		for _, pass := range []string{"first", "cached"} {
			got, err := w.Authenticate(ctx, c.header, c.org)
			if c.kind != 0 {
				if signing.KindOf(err) != c.kind || !strings.Contains(err.Error(), c.text) {
					t.Errorf("%s (%s): error %v of kind %d; want %q of kind %d", name, pass, err, signing.KindOf(err), c.text, c.kind)
				}
				if !cmp.Equal(got, signing.Actor{}) {
					t.Errorf("%s (%s): an actor came with the error", name, pass)
				}
				continue
			}
			if err != nil {
				t.Errorf("%s (%s): %v", name, pass, err)
			} else if d := cmp.Diff(c.want, got); d != "" {
				t.Errorf("%s (%s): actor (-want +got):\n%s", name, pass, d)
			}
		}
	}
	w.assertSecret(personal, ci, system, elsewhere, revoked, expired, foreign)
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

func TestStoreFailureIsNoRefusal(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	token, _ := w.issue(signing.UserToken, w.ci.ID, TokenOptions{})
	broken := fmt.Errorf("disk on fire")
	w.store.fail.Store(&broken)
	_, err := w.Authenticate(context.Background(), "Bearer "+token, w.org)
	if signing.KindOf(err) != 0 || err == nil {
		t.Errorf("store failure answered as %v", err)
	}
	w.store.fail.Store(nil)
	if _, err := w.Authenticate(context.Background(), "Bearer "+token, w.org); err != nil {
		t.Errorf("a failure was remembered: %v", err)
	}
}

func TestRevocationTakesEffectAtOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		w := newWorld(t)
		w.store.held = make(chan chan struct{}, 1)
		token, record := w.issue(signing.UserToken, w.ci.ID, TokenOptions{})
		call := func() error { _, err := w.Authenticate(ctx, "Bearer "+token, w.org); return err }

		// One request has read the token, and comes to an end only after the token was revoked.
		release, slow := make(chan struct{}), make(chan error, 1)
		w.store.held <- release
		go func() { slow <- call() }()
		synctest.Wait()
		if err := w.RevokeToken(ctx, w.actor(w.admin), signing.UserToken, w.ci.ID, record.ID); err != nil {
			t.Fatal(err)
		}
		// A later one neither shares what the first has read,
		wantKind(t, call(), signing.KindUnauthenticated, "revoked")
		w.Forget(w.org)
		close(release)
		if err := <-slow; err != nil {
			t.Errorf("the request that began before: %v", err)
		}
		// nor finds it in the cache afterwards.
		wantKind(t, call(), signing.KindUnauthenticated, "revoked")
	})
}

func TestConcurrentRequestsShareOneRead(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.store.held = make(chan chan struct{}, 1)
		token, _ := w.issue(signing.UserToken, w.ci.ID, TokenOptions{})
		views, release, results := w.store.views.Load(), make(chan struct{}), make(chan error, 101)
		first, leave := context.WithCancel(context.Background())
		call := func(ctx context.Context) {
			_, err := w.Authenticate(ctx, "Bearer "+token, w.org)
			results <- err
		}
		w.store.held <- release
		go call(first)
		synctest.Wait()
		for range 100 {
			go call(context.Background())
		}
		synctest.Wait()
		leave() // the client whose request began the reading goes away
		if err := <-results; !errors.Is(err, context.Canceled) {
			t.Errorf("the client that left: %v", err)
		}
		close(release)
		for range 100 {
			if err := <-results; err != nil {
				t.Error(err)
			}
		}
		if n := w.store.views.Load() - views; n != 1 {
			t.Errorf("101 requests read the store %d times", n)
		}
	})
}

func TestCacheIsBoundedInTimeAndSpace(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx := context.Background()
		w := newWorld(t, func(c *Config) { c.CacheEntries = 20 })
		token, record := w.issue(signing.UserToken, w.ci.ID, TokenOptions{})
		header := "Bearer " + token
		call := func() error { _, err := w.Authenticate(ctx, header, w.org); return err }
		before := w.store.views.Load()
		for range 1000 {
			if err := call(); err != nil {
				t.Fatal(err)
			}
		}
		if n := w.store.views.Load() - before; n != 1 {
			t.Errorf("1000 calls read the store %d times", n)
		}
		// Another process revokes: it takes effect within CacheFor.
		w.store.edit(func(s *state) {
			r, now := s.tokens[record.ID], time.Now()
			r.RevokedAt = &now
			s.tokens[r.ID] = r
		})
		time.Sleep(defaultCacheFor - time.Nanosecond)
		if err := call(); err != nil {
			t.Errorf("before CacheFor: %v", err)
		}
		time.Sleep(time.Microsecond)
		wantKind(t, call(), signing.KindUnauthenticated, "revoked")

		for range 90 {
			token, _ := w.issue(signing.UserToken, w.ci.ID, TokenOptions{})
			if _, err := w.Authenticate(ctx, "Bearer "+token, w.org); err != nil {
				t.Fatal(err)
			}
			if n := len(w.tokens.entries); n > 20 {
				t.Fatalf("cache holds %d entries, its limit is 20", n)
			}
		}
	})
}

func TestExpiryDoesNotWaitForTheCache(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		soon := time.Now().Add(time.Second)
		token, _ := w.issue(signing.UserToken, w.ci.ID, TokenOptions{ExpiresAt: &soon})
		if _, err := w.Authenticate(context.Background(), "Bearer "+token, w.org); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		_, err := w.Authenticate(context.Background(), "Bearer "+token, w.org)
		wantKind(t, err, signing.KindUnauthenticated, "expired on")
	})
}

func TestLastUseIsWrittenOncePerMinute(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx := context.Background()
		w := newWorld(t)
		token, record := w.issue(signing.UserToken, w.ci.ID, TokenOptions{})
		lastUse := func() *time.Time { return w.store.snapshot().tokens[record.ID].LastUsedAt }
		before := w.store.txs.Load()
		var last time.Time
		for range 300 { // for five minutes
			last = time.Now()
			if _, err := w.Authenticate(ctx, "Bearer "+token, w.org); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Second)
		}
		synctest.Wait()
		if n := w.store.txs.Load() - before; n < 4 || n > 5 {
			t.Errorf("300 calls in five minutes wrote %d times", n)
		}
		if err := w.Close(ctx); err != nil {
			t.Fatal(err)
		}
		if got := lastUse(); got == nil || !got.Equal(last.UTC().Truncate(time.Microsecond)) {
			t.Errorf("last use after Close is %v, want %v", got, last)
		}
	})
}

func TestRolesAndGroupsAreResolvedAfresh(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	w := newWorld(t)
	token, _ := w.issue(signing.UserToken, w.regular.ID, TokenOptions{})
	if a, err := w.Authenticate(ctx, "Bearer "+token, w.org); err != nil || a.HasRole(signing.GlobalReader) {
		t.Fatal(a, err)
	}
	other := signing.NewID()
	w.store.edit(func(s *state) {
		u := s.users[w.regular.ID]
		u.Roles = []signing.Role{signing.GlobalReader}
		s.users[u.ID] = u
		s.groups[u.ID] = []signing.ID{other}
	})
	w.Forget(w.foreign) // changes nothing here
	if a, _ := w.Authenticate(ctx, "Bearer "+token, w.org); a.HasRole(signing.GlobalReader) {
		t.Error("another organization's Forget emptied the cache")
	}
	w.Forget(w.org)
	a, err := w.Authenticate(ctx, "Bearer "+token, w.org)
	if err != nil || !a.HasRole(signing.GlobalReader) || !cmp.Equal(a.Groups, []signing.ID{other}) {
		t.Errorf("after Forget: %+v, %v", a, err)
	}
	_ = append(a.Groups, signing.NewID()) // must not reach the cache
	if b, _ := w.Authenticate(ctx, "Bearer "+token, w.org); len(b.Groups) != 1 {
		t.Error("an actor's slice grew in the cache")
	}
}

// Every token that is made is recognised offline, needs no escaping, and no single changed character goes unnoticed.
func TestMintedSecretsParse(t *testing.T) {
	t.Parallel()
	prefixes := []string{prefixPersonal, prefixCI, prefixBuildSystem, prefixInvitation}
	seen := map[string]bool{}
	property := func(kind, position uint8, replacement byte) bool {
		s := mint(prefixes[int(kind)%len(prefixes)])
		if seen[s] || len(s) != secretLength || !wellFormed(s) || !isTokenText(s) || strings.ContainsAny(s, ":+/=-. ") {
			return false
		}
		seen[s] = true
		user, build, err := parseAuthorization("Bearer " + s)
		if err != nil || user != s || build != "" {
			return false
		}
		other := mint(prefixBuildSystem)
		if user, build, err = parseAuthorization("bearer " + s + ":" + other); err != nil || user != s || build != other {
			return false
		}
		i := int(position) % len(s)
		broken := s[:i] + string(base62[int(replacement)%62]) + s[i+1:]
		return broken == s || !wellFormed(broken)
	}
	if err := quick.Check(property, &quick.Config{MaxCount: 5000}); err != nil {
		t.Error(err)
	}
}

// Tokens in base64, as other systems make them, always parse.
func TestForeignTokensParse(t *testing.T) {
	t.Parallel()
	property := func(raw []byte, seed uint64) bool {
		if len(raw) == 0 || len(raw) > 300 {
			return true
		}
		a := base64.StdEncoding.EncodeToString(raw)
		r := rand.New(rand.NewPCG(seed, 1))
		r.Shuffle(len(raw), func(i, j int) { raw[i], raw[j] = raw[j], raw[i] })
		b := base64.RawURLEncoding.EncodeToString(raw)
		user, build, err := parseAuthorization("Bearer " + a + ":" + b)
		return err == nil && user == a && build == b
	}
	if err := quick.Check(property, &quick.Config{MaxCount: 2000}); err != nil {
		t.Error(err)
	}
}

// The format is a promise to secret scanners: these tokens must stay valid for ever.
func TestSecretFormatIsStable(t *testing.T) {
	t.Parallel()
	body := "csp_" + strings.Repeat("0", 42) + "1"
	if got, want := body+checksum(body), stableToken; got != want {
		t.Errorf("token of the number 1 is %s, want %s", got, want)
	}
	if !wellFormed(stableToken) {
		t.Error("not well formed")
	}
}

func FuzzParseAuthorization(f *testing.F) {
	for _, seed := range []string{"", "Bearer ", "Bearer a:b", "bearer a:b:c", "Basic x", "Bearer " + stableToken, "Bearer " + stableToken + ":" + stableToken, "Bearer csp_x", "Bearer \xff"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, header string) {
		user, build, err := parseAuthorization(header)
		if err != nil {
			if signing.KindOf(err) != signing.KindUnauthenticated || user != "" || build != "" {
				t.Fatalf("%q: %q %q %v", header, user, build, err)
			}
			for _, secret := range strings.FieldsFunc(header, func(r rune) bool { return r == ' ' || r == ':' }) {
				if len(secret) > 20 && strings.Contains(err.Error(), secret) {
					t.Fatalf("the message repeats what the header holds: %v", err)
				}
			}
			return
		}
		value := user
		if build != "" {
			value += ":" + build
		}
		again, buildAgain, err := parseAuthorization("Bearer " + value)
		if err != nil || again != user || buildAgain != build || user == "" || strings.ContainsAny(value, " \t\r\n\x00") {
			t.Fatalf("%q: %q %q, again %q %q %v", header, user, build, again, buildAgain, err)
		}
	})
}

func BenchmarkAuthenticate(b *testing.B) {
	for _, c := range []struct {
		name  string
		cache time.Duration
	}{{"cached", time.Minute}, {"uncached", -1}} {
		b.Run(c.name, func(b *testing.B) {
			w := newWorld(b, func(config *Config) { config.CacheFor = c.cache })
			user, _ := w.issue(signing.UserToken, w.ci.ID, TokenOptions{})
			system, _ := w.issue(signing.BuildSystemToken, w.system, TokenOptions{})
			for name, header := range map[string]string{"user": "Bearer " + user, "withBuildSystem": "Bearer " + user + ":" + system} {
				b.Run(name, func(b *testing.B) {
					b.ReportAllocs()
					b.RunParallel(func(p *testing.PB) {
						for p.Next() {
							if _, err := w.Authenticate(context.Background(), header, w.org); err != nil {
								b.Error(err)
							}
						}
					})
				})
			}
		})
	}
}

// A thousand clients, each with a token of its own, poll once each per iteration.
func BenchmarkPolling(b *testing.B) {
	w := newWorld(b, func(c *Config) { c.CacheFor = time.Minute })
	headers := make([]string, 1000)
	for i := range headers {
		u := signing.User{ID: signing.NewID(), OrganizationID: w.org, Kind: signing.CI, Name: "ci", Active: true}
		w.store.state.users[u.ID] = u
		token, _ := w.issue(signing.UserToken, u.ID, TokenOptions{})
		headers[i] = "Bearer " + token
	}
	b.ReportAllocs()
	for b.Loop() {
		for _, h := range headers {
			if _, err := w.Authenticate(context.Background(), h, w.org); err != nil {
				b.Fatal(err)
			}
		}
	}
	b.ReportMetric(float64(b.N*len(headers))/b.Elapsed().Seconds(), "requests/s")
}

// stableToken was computed with zlib's CRC-32.
const stableToken = "csp_00000000000000000000000000000000000000000010V54MZ"
