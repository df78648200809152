package auth

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/countersign-dev/countersign/internal/signing"
)

var browser = Client{Address: "192.0.2.7:50000", UserAgent: "Browser/1.0"}

const (
	goodPassword  = "correct horse battery"
	otherPassword = "staple staple staple"
)

// The hashes are those of the reference implementation's command line (argon2 0~20171227), for example:
//
//	printf %s 'correct horse battery' | argon2 saltsaltsaltsalt -id -k 32768 -t 3 -p 1 -l 32 -e
func TestReferenceHashes(t *testing.T) {
	t.Parallel()
	for _, stored := range referenceHashes {
		h := newHasher(lightHashing, 2)
		ok, _, err := h.verify(context.Background(), goodPassword, stored)
		if err != nil || !ok {
			t.Errorf("%s: %t, %v", stored, ok, err)
		}
		if ok, _, _ := h.verify(context.Background(), goodPassword+" ", stored); ok {
			t.Errorf("%s matches another password", stored)
		}
		p, err := parsePasswordHash(stored)
		if err != nil || p.String() != stored {
			t.Errorf("%s becomes %s, %v", stored, p, err)
		}
	}
}

func TestDefaultHashing(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	h := newHasher(DefaultHashing, 1)
	stored, err := h.hash(ctx, goodPassword)
	if err != nil || !strings.HasPrefix(stored, "$argon2id$v=19$m=32768,t=3,p=1$") {
		t.Fatal(stored, err)
	}
	again, _ := h.hash(ctx, goodPassword)
	if again == stored {
		t.Error("two hashes have one salt")
	}
	if ok, outdated, err := h.verify(ctx, goodPassword, stored); !ok || outdated || err != nil {
		t.Error(ok, outdated, err)
	}
	// One text in two Unicode forms is one password.
	stored, _ = h.hash(ctx, "Pässwörter überall")
	if ok, _, _ := h.verify(ctx, "Pa\u0308sswo\u0308rter u\u0308berall", stored); !ok {
		t.Error("form D does not match form C")
	}
	if ok, _, err := h.verify(ctx, "", ""); ok || err != nil {
		t.Error("the empty hash matches")
	}
}

func FuzzParsePasswordHash(f *testing.F) {
	for _, s := range referenceHashes {
		f.Add(s)
	}
	f.Add("$argon2id$v=19$m=4294967295,t=1,p=1$c2FsdHNhbHQ$AAAA")
	f.Fuzz(func(t *testing.T, s string) {
		p, err := parsePasswordHash(s)
		if err != nil {
			return
		}
		if p.check() != nil || p.String() != s {
			t.Fatalf("%q becomes %q", s, p)
		}
	})
}

func TestHashingIsBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHasher(lightHashing, 1)
		h.slots <- struct{}{} // busy
		ctx, cancel := context.WithCancel(context.Background())
		var waiting sync.WaitGroup
		var canceled atomic.Int32
		for range maxWaiting {
			waiting.Go(func() {
				if _, err := h.hash(ctx, goodPassword); errors.Is(err, context.Canceled) {
					canceled.Add(1)
				}
			})
		}
		synctest.Wait()
		_, err := h.hash(ctx, goodPassword)
		wantKind(t, err, signing.KindUnavailable, "Too many people")
		cancel()
		waiting.Wait()
		if canceled.Load() != maxWaiting {
			t.Errorf("%d of %d waiting callers left with their context", canceled.Load(), maxWaiting)
		}
		<-h.slots
		if _, err := h.hash(context.Background(), goodPassword); err != nil {
			t.Error(err)
		}
	})
}

func TestNewPasswords(t *testing.T) {
	t.Parallel()
	u := &signing.User{Name: "Margarete Müller", Email: "margarete.mueller@acme.example"}
	for password, text := range map[string]string{
		"eleven char":                    "at least 12",
		"äöüäöüäöüäö":                    "at least 12",
		"a\u0308o\u0308u\u0308aaaaaaaa":  "at least 12",
		strings.Repeat("x", 1025):        "at most 1024",
		"invalid \xff\xfe in it":         "UTF-8",
		"Margarete.Mueller@acme.example": "must not be",
		"MARGARETE.MUELLER":              "must not be",
		" margarete müller ":             "must not be",
		"Margarete Mu\u0308ller":         "must not be",
		"twelve chars":                   "",
		strings.Repeat("x", 1024):        "",
		"Margarete Müller 2":             "",
	} {
		err := checkNewPassword(password, u)
		if text == "" && err != nil || text != "" && (err == nil || !strings.Contains(err.Error(), text)) {
			t.Errorf("%q: %v, want %q", password, err, text)
		}
	}
}

func TestSignIn(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx := context.Background()
		w := newWorld(t)
		w.setPassword(w.admin, goodPassword)
		in, choice, err := w.SignIn(ctx, "  ADA@acme.example ", goodPassword, browser)
		if err != nil || choice != nil {
			t.Fatal(choice, err)
		}
		want := signing.Actor{OrganizationID: w.org, UserID: w.admin.ID, Kind: signing.Interactive, Name: "Ada Admin", Roles: w.admin.Roles, Via: "session"}
		if d := cmp.Diff(want, in.Actor); d != "" {
			t.Errorf("actor (-want +got):\n%s", d)
		}
		if got, err := w.Session(ctx, in.Cookie); err != nil || !cmp.Equal(got, want) {
			t.Errorf("session gives %+v, %v", got, err)
		}
		if len(in.Cookie) != cookieLength || !in.Expires.Equal(w.now().Add(defaultSessionLife)) {
			t.Errorf("%+v", in)
		}
		_, found := w.store.snapshot().sessions[hashOf(in.Cookie)]
		if !found {
			t.Error("the session is not stored under the cookie's hash")
		}

		// Every refusal is the same.
		w.store.edit(func(s *state) {
			u := s.users[w.reader.ID]
			u.Active = false
			s.users[u.ID] = u
			u = s.users[w.ci.ID]
			u.Email = "ci@acme.example"
			s.users[u.ID] = u
		})
		w.setPassword(w.reader, goodPassword)
		w.setPassword(w.ci, goodPassword)
		for _, c := range [][2]string{
			{w.admin.Email, "wrong password"}, {w.admin.Email, ""}, {w.admin.Email, goodPassword + " "}, {w.admin.Email, strings.Repeat("a", 2000)},
			{w.reader.Email, goodPassword}, {w.userAdmin.Email, goodPassword}, {w.userAdmin.Email, ""},
			{"ci@acme.example", goodPassword}, {"nobody@acme.example", goodPassword}, {"", goodPassword}, {"a\x00b", goodPassword}, {strings.Repeat("x", 400), goodPassword},
		} {
			in, choice, err := w.SignIn(ctx, c[0], c[1], browser)
			if err == nil || err.Error() != wrongPassword || signing.KindOf(err) != signing.KindUnauthenticated || in.Cookie != "" || choice != nil {
				t.Errorf("%q: %v", c, err)
			}
		}
		synctest.Wait()
		reasons := []string{}
		for _, e := range w.store.snapshot().audit {
			if e.Event == EventSignInFailed {
				reasons = append(reasons, e.Object.Name+string(e.Data))
				if e.Actor.ID != "" || e.OrganizationID != string(w.org) {
					t.Errorf("entry %+v", e)
				}
			}
		}
		if len(reasons) != 6 || !strings.Contains(reasons[0], "wrong password") || !strings.Contains(reasons[3], "deactivated") || !strings.Contains(reasons[4], "no password") || !strings.Contains(reasons[0], `"192.0.2.7"`) {
			t.Errorf("failures in the audit log: %q", reasons)
		}
		if w.store.events()[0] != EventSignedIn {
			t.Errorf("events %q", w.store.events())
		}
		w.assertSecret(in.Cookie, goodPassword, "nobody@acme.example")
	})
}

// An unknown address costs the same work as a known one with a wrong password: one password hash, one View, and no
// write before the answer.
func TestUnknownAccountsTakeTheSameWork(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.setPassword(w.admin, goodPassword)
		work := func(email string) string {
			synctest.Wait()
			views, txs := w.store.views.Load(), w.store.txs.Load()
			w.hasher.slots <- struct{}{} // one slot is busy, so hashes are visible one by one
			w.hasher.slots <- struct{}{}
			done := make(chan string)
			go func() {
				_, _, err := w.SignIn(context.Background(), email, "wrong password", browser)
				done <- err.Error()
			}()
			synctest.Wait()
			waiting := w.hasher.waiting.Load()
			answered := fmt.Sprintf("hashes %d, views %d, writes %d", waiting, w.store.views.Load()-views, w.store.txs.Load()-txs)
			<-w.hasher.slots
			message := <-done
			<-w.hasher.slots
			return answered + message
		}
		known, unknown := work(w.admin.Email), work("nobody@acme.example")
		if known != unknown || !strings.HasPrefix(known, "hashes 1, views 1, writes 0") {
			t.Errorf("known: %s; unknown: %s", known, unknown)
		}
	})
}

func TestPasswordHashUpgrade(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	w := newWorld(t)
	w.setPassword(w.admin, goodPassword)
	before := w.store.snapshot().creds[w.admin.ID]
	w.hasher.Hashing = Hashing{MemoryKiB: 128, Passes: 2, Lanes: 1}
	in, _, err := w.SignIn(ctx, w.admin.Email, goodPassword, browser)
	if err != nil {
		t.Fatal(err)
	}
	after := w.store.snapshot().creds[w.admin.ID]
	if !strings.HasPrefix(after.PasswordHash, "$argon2id$v=19$m=128,t=2,p=1$") || !after.UpdatedAt.Equal(before.UpdatedAt) {
		t.Errorf("credential after sign-in: %+v", after)
	}
	if _, err := w.Session(ctx, in.Cookie); err != nil {
		t.Error(err)
	}
	if _, _, err := w.SignIn(ctx, w.admin.Email, goodPassword, browser); err != nil {
		t.Errorf("after the upgrade: %v", err)
	}
	if again := w.store.snapshot().creds[w.admin.ID]; again.PasswordHash != after.PasswordHash {
		t.Error("a current hash was replaced")
	}
}

func TestSignInIsRateLimited(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx := context.Background()
		w := newWorld(t)
		w.setPassword(w.admin, goodPassword)
		from := func(i int) Client { return Client{Address: fmt.Sprintf("198.51.100.%d", i)} }
		try := func(email, password string, c Client) error {
			_, _, err := w.SignIn(ctx, email, password, c)
			return err
		}
		limited := func(err error, wait time.Duration) {
			t.Helper()
			wantKind(t, err, signing.KindUnavailable, "try again in "+fmt.Sprint(int(wait.Seconds()))+" seconds")
			var limit *RateLimitError
			if !errors.As(err, &limit) || limit.RetryAfter != wait {
				t.Errorf("%#v", limit)
			}
		}
		before, _, err := w.SignIn(ctx, w.admin.Email, goodPassword, from(0))
		if err != nil {
			t.Fatal(err)
		}
		// One account from one address, whether there is such an account or not.
		for i, email := range []string{w.admin.Email, "nobody@acme.example"} {
			for range pairBurst {
				wantKind(t, try(email, "wrong password", from(i+1)), signing.KindUnauthenticated, wrongPassword)
			}
			limited(try(strings.ToUpper(email), goodPassword, from(i+1)), pairInterval)
		}
		// Others get in meanwhile, and the owner from anywhere else; that gives the guesser nothing back.
		if err := try(w.admin.Email, goodPassword, from(3)); err != nil {
			t.Errorf("locked out from one address: %v", err)
		}
		limited(try(w.admin.Email, goodPassword, from(1)), pairInterval)
		// One account from many addresses.
		for i := range accountBurst - pairBurst {
			wantKind(t, try(w.admin.Email, "wrong password", from(i+10)), signing.KindUnauthenticated, wrongPassword)
		}
		limited(try(w.admin.Email, goodPassword, from(100)), accountInterval)
		synctest.Wait()
		if n := len(w.store.events()); n != 2+accountBurst {
			t.Errorf("%d audit entries for 2 sign-ins and %d attempts", n, accountBurst)
		}
		// Where the owner signed in before, she still does; nobody else's browser is as good as hers.
		known := func(from Client, in SignedIn) Client {
			from.Known = in.Known
			return from
		}
		if err := try(w.admin.Email, goodPassword, known(from(101), before)); err != nil {
			t.Errorf("locked out of her own browser: %v", err)
		}
		limited(try(w.admin.Email, goodPassword, known(from(101), w.signedIn(w.userAdmin))), accountInterval)
		limited(try(w.admin.Email, goodPassword, Client{Address: from(101).Address, Known: before.Cookie}), accountInterval)
		for range pairBurst {
			wantKind(t, try(w.admin.Email, "wrong password", known(from(102), before)), signing.KindUnauthenticated, wrongPassword)
		}
		limited(try(w.admin.Email, goodPassword, known(from(101), before)), pairInterval)
		time.Sleep(pairInterval)
		if err := try(w.admin.Email, goodPassword, from(101)); err != nil {
			t.Fatalf("after waiting: %v", err)
		}
		// A new password ends what browsers are known by.
		w.store.edit(func(s *state) {
			c := s.creds[w.admin.ID]
			c.UpdatedAt = time.Now()
			s.creds[c.UserID] = c
		})
		for i := range accountBurst {
			_ = try(w.admin.Email, "wrong password", from(i+120))
		}
		limited(try(w.admin.Email, goodPassword, known(from(103), before)), accountInterval)

		// Who may set the password of an account with the same address elsewhere guesses no more often.
		w.setPassword(w.regular, goodPassword)
		w.setPassword(w.stranger, otherPassword)
		for range pairBurst {
			if err := try(w.regular.Email, otherPassword, from(104)); err != nil {
				t.Fatal(err)
			}
		}
		limited(try(w.regular.Email, otherPassword, from(104)), pairInterval)

		// Many accounts from one address, and from one IPv6 network.
		for _, address := range []func(int) Client{
			func(i int) Client { return Client{Address: fmt.Sprintf("203.0.113.5:%d", 1024+i)} },
			func(i int) Client { return Client{Address: fmt.Sprintf("[2001:db8:1:2::%x]:443", i+1)} },
		} {
			for i := range networkBurst {
				wantKind(t, try(fmt.Sprintf("user%d@acme.example", i), "wrong password", address(i)), signing.KindUnauthenticated, "wrong")
			}
			wantKind(t, try(w.userAdmin.Email, "wrong password", address(77)), signing.KindUnavailable, "try again in 2 seconds")
			time.Sleep(networkInterval)
			wantKind(t, try(w.userAdmin.Email, "wrong password", address(77)), signing.KindUnauthenticated, "wrong")
		}
		if n := network("::ffff:192.0.2.1"); n != "192.0.2.1" {
			t.Errorf("mapped address counts as %s", n)
		}
	})
}

func TestLimiterUnderContention(t *testing.T) {
	t.Parallel()
	l, now := newLimiter(10, time.Minute), time.Now()
	var passed atomic.Int32
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 100 {
				if l.take("key", now) == nil {
					passed.Add(1)
				}
			}
		})
	}
	all.Wait()
	if passed.Load() != 10 {
		t.Errorf("%d of 800 attempts passed, the burst is 10", passed.Load())
	}
}

// Keys whose attempts are used up leave other keys theirs, and get nothing back themselves. By chance, it fails once in ten million
// runs.
func TestLimiterKeepsKeysApart(t *testing.T) {
	t.Parallel()
	l, now := newLimiter(10, time.Minute), time.Now()
	for i := range 200 {
		for range 10 {
			_ = l.take(fmt.Sprint("used up ", i), now) // by chance, others used it up
		}
	}
	for i := range 200 {
		if err := l.take(fmt.Sprint("other ", i), now); err != nil {
			t.Errorf("first attempt of key %d: %v", i, err)
		}
		if l.take(fmt.Sprint("used up ", i), now) == nil {
			t.Errorf("attempt 11 of key %d passed", i)
		}
	}
}

func TestSeveralOrganizations(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx := context.Background()
		w := newWorld(t)
		w.setPassword(w.regular, goodPassword)
		w.setPassword(w.stranger, otherPassword)
		in, choice, err := w.SignIn(ctx, w.regular.Email, otherPassword, browser)
		if err != nil || choice != nil || in.Actor.OrganizationID != w.foreign {
			t.Fatalf("the password of one account: %+v, %v, %v", in, choice, err)
		}
		w.setPassword(w.stranger, goodPassword)
		time.Sleep(time.Second)
		in, choice, err = w.SignIn(ctx, w.regular.Email, goodPassword, browser)
		if err != nil || choice == nil || in.Cookie != "" {
			t.Fatalf("the password of both accounts: %+v, %v, %v", in, choice, err)
		}
		if len(choice.Organizations) != 2 || choice.Organizations[0].Name != "Acme" || choice.Organizations[1].Name != "Zeta" {
			t.Errorf("organizations %v", choice.Organizations)
		}
		for org, user := range map[signing.ID]signing.ID{w.org: w.regular.ID, w.foreign: w.stranger.ID} {
			in, err := w.ChooseOrganization(ctx, choice.State, org, browser)
			if err != nil || in.Actor.UserID != user || in.Actor.OrganizationID != org {
				t.Errorf("chosen: %+v, %v", in, err)
			}
		}
		_, err = w.ChooseOrganization(ctx, choice.State, signing.NewID(), browser)
		wantKind(t, err, signing.KindUnauthenticated, "does not open")
		for _, state := range []string{"", "AAAA", choice.State[1:], choice.State + "A", strings.Repeat("A", 5000)} {
			_, err = w.ChooseOrganization(ctx, state, w.org, browser)
			wantKind(t, err, signing.KindUnauthenticated, "begin again")
		}
		w.store.edit(func(s *state) {
			c := s.creds[w.regular.ID]
			c.UpdatedAt = time.Now().Add(time.Second)
			s.creds[c.UserID] = c
		})
		_, err = w.ChooseOrganization(ctx, choice.State, w.org, browser)
		wantKind(t, err, signing.KindUnauthenticated, "account changed")
		time.Sleep(ceremonyLife)
		_, err = w.ChooseOrganization(ctx, choice.State, w.foreign, browser)
		wantKind(t, err, signing.KindUnauthenticated, "took too long")
	})
}

func TestChangePassword(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	w := newWorld(t)
	w.setPassword(w.admin, goodPassword)
	signIn := func() SignedIn {
		t.Helper()
		in, _, err := w.SignIn(ctx, w.admin.Email, goodPassword, browser)
		if err != nil {
			t.Fatal(err)
		}
		return in
	}
	here, elsewhere := signIn(), signIn()
	code, _, err := w.Invite(ctx, w.actor(w.admin), w.admin.ID)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Session(ctx, elsewhere.Cookie); err != nil {
		t.Fatal(err)
	}
	_, err = w.ChangePassword(ctx, here.Cookie, "wrong password", otherPassword, browser)
	wantKind(t, err, signing.KindInvalid, "CurrentPassword: ")
	_, err = w.ChangePassword(ctx, here.Cookie, "", otherPassword, browser)
	wantKind(t, err, signing.KindInvalid, "CurrentPassword: ")
	_, err = w.ChangePassword(ctx, here.Cookie, goodPassword, "short", browser)
	wantKind(t, err, signing.KindInvalid, "Password: ")
	_, err = w.ChangePassword(ctx, newCookie(), goodPassword, otherPassword, browser)
	wantKind(t, err, signing.KindUnauthenticated, "not signed in")
	in, err := w.ChangePassword(ctx, here.Cookie, goodPassword, otherPassword, browser)
	if err != nil {
		t.Fatal(err)
	}
	for cookie, want := range map[string]signing.Kind{here.Cookie: signing.KindUnauthenticated, elsewhere.Cookie: signing.KindUnauthenticated, in.Cookie: 0} {
		if _, err := w.Session(ctx, cookie); signing.KindOf(err) != want {
			t.Errorf("session after the change: %v", err)
		}
	}
	if _, _, err := w.SignIn(ctx, w.admin.Email, goodPassword, browser); signing.KindOf(err) != signing.KindUnauthenticated {
		t.Errorf("old password: %v", err)
	}
	if _, _, err := w.SignIn(ctx, w.admin.Email, otherPassword, browser); err != nil {
		t.Errorf("new password: %v", err)
	}
	_, err = w.Invitation(ctx, code)
	wantKind(t, err, signing.KindUnauthenticated, "unknown")
	if !slices.Contains(w.store.events(), EventPasswordChanged) {
		t.Errorf("events %q", w.store.events())
	}
	w.assertSecret(goodPassword, otherPassword, in.Cookie)
}

func TestSessionEnds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx := context.Background()
		w := newWorld(t)
		w.setPassword(w.admin, goodPassword)
		signIn := func() SignedIn {
			t.Helper()
			in, _, err := w.SignIn(ctx, w.admin.Email, goodPassword, browser)
			if err != nil {
				t.Fatal(err)
			}
			return in
		}
		used, idle := signIn(), signIn()
		end := time.Now().Add(defaultSessionLife)
		for time.Now().Before(end.Add(-time.Hour)) {
			if _, err := w.Session(ctx, used.Cookie); err != nil {
				t.Fatalf("a used session after %s: %v", defaultSessionLife-time.Until(end), err)
			}
			time.Sleep(7 * time.Hour)
			if _, err := w.Session(ctx, idle.Cookie); time.Until(end) > defaultSessionLife-8*time.Hour && err != nil {
				t.Fatal(err)
			}
			if time.Until(end) <= 0 {
				break
			}
		}
		time.Sleep(max(0, time.Until(end)))
		_, err := w.Session(ctx, used.Cookie)
		wantKind(t, err, signing.KindUnauthenticated, "session has ended")
		time.Sleep(sweepEvery)
		synctest.Wait()
		if n := len(w.store.snapshot().sessions); n != 0 {
			t.Errorf("%d expired sessions are still stored", n)
		}

		idle = signIn()
		time.Sleep(defaultSessionIdle)
		_, err = w.Session(ctx, idle.Cookie)
		wantKind(t, err, signing.KindUnauthenticated, "not used for 8h0m0s")
		if list, err := w.Sessions(ctx, w.actor(w.admin), w.admin.ID); err != nil || len(list) != 0 {
			t.Errorf("idle session is listed: %v, %v", list, err)
		}
	})
}

func TestSessionsAreListedAndRevoked(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	w := newWorld(t)
	w.setPassword(w.regular, goodPassword)
	w.store.edit(func(s *state) { delete(s.users, w.stranger.ID) })
	signIn := func() string {
		t.Helper()
		in, _, err := w.SignIn(ctx, w.regular.Email, goodPassword, Client{Address: browser.Address, UserAgent: strings.Repeat("ü", 400) + "\xff\x00"})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Session(ctx, in.Cookie); err != nil {
			t.Fatal(err)
		}
		return in.Cookie
	}
	one, two, three := signIn(), signIn(), signIn()
	me := w.actor(w.regular)
	list, err := w.Sessions(ctx, me, w.regular.ID)
	if err != nil || len(list) != 3 || list[0].Address != "192.0.2.7" || list[0].UserAgent != strings.Repeat("ü", 150) {
		t.Fatalf("%v, %v", list, err)
	}
	refused := map[string]signing.Actor{"another user": w.actor(w.reader), "nobody": {}}
	for name, by := range refused {
		_, err := w.Sessions(ctx, by, w.regular.ID)
		if signing.KindOf(err) != signing.KindForbidden {
			t.Errorf("%s lists: %v", name, err)
		}
		if err := w.RevokeSession(ctx, by, w.regular.ID, SessionHash(one)); signing.KindOf(err) != signing.KindForbidden {
			t.Errorf("%s revokes: %v", name, err)
		}
	}
	if err := w.RevokeSession(ctx, me, w.regular.ID, SessionHash(one)); err != nil {
		t.Fatal(err)
	}
	wantKind(t, w.RevokeSession(ctx, me, w.regular.ID, SessionHash(one)), signing.KindNotFound, "no such session")
	_, err = w.Session(ctx, one)
	wantKind(t, err, signing.KindUnauthenticated, "not signed in")
	rotated, err := w.RotateSession(ctx, two)
	if err != nil {
		t.Fatal(err)
	}
	_, err = w.Session(ctx, two)
	wantKind(t, err, signing.KindUnauthenticated, "not signed in")
	if a, err := w.Session(ctx, rotated.Cookie); err != nil || a.UserID != w.regular.ID {
		t.Errorf("rotated: %v, %v", a, err)
	}
	if _, err := w.Session(ctx, three); err != nil {
		t.Fatal(err)
	}
	if err := w.SignOut(ctx, three); err != nil {
		t.Fatal(err)
	}
	if err := w.SignOut(ctx, three); err != nil {
		t.Errorf("signed out twice: %v", err)
	}
	_, err = w.Session(ctx, three)
	wantKind(t, err, signing.KindUnauthenticated, "not signed in")
	if n, err := w.RevokeSessions(ctx, w.actor(w.userAdmin), w.regular.ID, [32]byte{}); err != nil || n != 1 {
		t.Fatal(err)
	}
	if n := len(w.store.snapshot().sessions); n != 0 {
		t.Errorf("%d sessions after revoking all", n)
	}
	_, err = w.Session(ctx, rotated.Cookie)
	wantKind(t, err, signing.KindUnauthenticated, "not signed in")
	var last string
	for range maxSessions + 5 {
		last = signIn()
	}
	if n := len(w.store.snapshot().sessions); n != maxSessions {
		t.Errorf("%d sessions of one user, the limit is %d", n, maxSessions)
	}
	if _, err := w.Session(ctx, last); err != nil {
		t.Errorf("the newest session: %v", err)
	}
	for _, cookie := range []string{"", "x", strings.Repeat("A", 43), strings.Repeat("A", 1<<16)} {
		if _, err := w.Session(ctx, cookie); signing.KindOf(err) != signing.KindUnauthenticated {
			t.Errorf("cookie of %d characters: %v", len(cookie), err)
		}
	}
}

func TestDeactivatedUserLosesTheSession(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	w := newWorld(t)
	w.setPassword(w.admin, goodPassword)
	in, _, err := w.SignIn(ctx, w.admin.Email, goodPassword, browser)
	if err != nil {
		t.Fatal(err)
	}
	w.store.edit(func(s *state) {
		u := s.users[w.admin.ID]
		u.Active = false
		s.users[u.ID] = u
	})
	w.Forget(w.org)
	_, err = w.Session(ctx, in.Cookie)
	wantKind(t, err, signing.KindUnauthenticated, "deactivated")
}

func TestFormTokens(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a, b := newCookie(), newCookie()
	token := w.FormToken(a)
	if !w.CheckFormToken(a, token) || !w.CheckFormToken(a, w.FormToken(a)) || token == w.FormToken(a) {
		t.Error("a session's own token")
	}
	for _, bad := range []string{"", "A", token[1:], token + "A", strings.Repeat("A", 86), w.FormToken(b), w.FormToken("")} {
		if w.CheckFormToken(a, bad) {
			t.Errorf("%q is accepted", bad)
		}
	}
	if w.CheckFormToken("", w.FormToken("")) {
		t.Error("no session has a token")
	}
	other := newWorld(t, func(c *Config) { c.Key = make([]byte, 32) })
	if other.CheckFormToken(a, token) {
		t.Error("another installation's token is accepted")
	}
}

func TestFailuresSurviveAStoreFailure(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		broken := errors.New("locked")
		w.store.fail.Store(&broken)
		w.failSignIn(w.admin, methodPass, "first", browser)
		synctest.Wait()
		w.failSignIn(w.admin, methodPass, "second", browser)
		synctest.Wait()
		w.store.fail.Store(nil)
		time.Sleep(touchEvery + time.Second)
		synctest.Wait()
		entries := w.store.snapshot().audit
		if len(entries) != 2 || !strings.Contains(string(entries[0].Data), "first") || !strings.Contains(string(entries[1].Data), "second") {
			t.Errorf("audit log %+v", entries)
		}
	})
}

func BenchmarkPasswordHash(b *testing.B) {
	h := newHasher(DefaultHashing, 2)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := h.hash(context.Background(), goodPassword); err != nil {
			b.Fatal(err)
		}
	}
}

var referenceHashes = []string{
	"$argon2id$v=19$m=32768,t=3,p=1$c2FsdHNhbHRzYWx0c2FsdA$c+gGbmoNib8F+W0lETSEm1Y6h5ISQg6Z40of+Iv2+xc",
	"$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHRzYWx0c2FsdA$iPOQ5f2O21FsjnBvo1AiFcDuSXciCnKUrXFO+yfgNoM",
	"$argon2id$v=19$m=4096,t=1,p=4$c2FsdHNhbHRzYWx0c2FsdA$edX04B/dc4sMnH0JFmm4Fg",
}
