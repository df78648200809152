package auth

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/countersign-dev/countersign/internal/signing"
)

// register adds a passkey for a signed-in user.
func (w *world) register(cookie, name string, a *authenticator) Passkey {
	w.Helper()
	c, err := w.BeginPasskey(context.Background(), cookie)
	if err != nil {
		w.Fatal(err)
	}
	response, err := a.create(c.Options)
	if err != nil {
		w.Fatal(err)
	}
	p, err := w.AddPasskey(context.Background(), cookie, NewPasskey{State: c.State, Response: response, Name: name})
	if err != nil {
		w.Fatal(err)
	}
	return p
}

// signedIn signs a user in by password.
func (w *world) signedIn(u *signing.User) SignedIn {
	w.Helper()
	w.setPassword(u, goodPassword)
	in, _, err := w.SignIn(context.Background(), u.Email, goodPassword, browser)
	if err != nil {
		w.Fatal(err)
	}
	return in
}

// byPasskey runs a whole sign-in.
func (w *world) byPasskey(a *authenticator) (SignedIn, error) {
	w.Helper()
	c, err := w.BeginPasskeySignIn()
	if err != nil {
		w.Fatal(err)
	}
	response, err := a.get(c.Options)
	if err != nil {
		w.Fatal(err)
	}
	return w.SignInWithPasskey(context.Background(), c.State, response, browser)
}

func TestPasskeyLife(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx := context.Background()
		w := newWorld(t)
		in := w.signedIn(w.admin)
		laptop, phone := newAuthenticator(t), newAuthenticator(t)
		phone.still = true // as synchronised passkeys do, it does not count
		first := w.register(in.Cookie, "", laptop)
		second := w.register(in.Cookie, "  My phone ", phone)
		if first.Name != "Passkey" || second.Name != "My phone" || !first.Synced || first.LastUsedAt != nil || first.ID == second.ID {
			t.Errorf("registered %+v and %+v", first, second)
		}
		for i := range 3 {
			for _, a := range []*authenticator{laptop, phone} {
				time.Sleep(time.Second)
				got, err := w.byPasskey(a)
				if err != nil || got.Actor.UserID != w.admin.ID || got.Actor.Via != viaSession {
					t.Fatalf("sign-in %d: %+v, %v", i, got, err)
				}
				if a, err := w.Session(ctx, got.Cookie); err != nil || a.UserID != w.admin.ID {
					t.Fatal(a, err)
				}
			}
		}
		list, err := w.Passkeys(ctx, w.actor(w.admin), w.admin.ID)
		if err != nil || len(list) != 2 || list[0].LastUsedAt == nil || list[1].Blocked {
			t.Fatalf("%+v, %v", list, err)
		}
		if _, err := w.Passkeys(ctx, w.actor(w.reader), w.admin.ID); signing.KindOf(err) != signing.KindForbidden {
			t.Errorf("another user lists: %v", err)
		}
		wantKind(t, w.RemovePasskey(ctx, w.actor(w.reader), w.admin.ID, first.ID, [32]byte{}), signing.KindForbidden, "permission")
		wantKind(t, w.RemovePasskey(ctx, w.actor(w.stranger), w.admin.ID, first.ID, [32]byte{}), signing.KindNotFound, "no such user")
		for _, id := range []string{"", "!", "AAAA"} {
			wantKind(t, w.RemovePasskey(ctx, in.Actor, w.admin.ID, id, [32]byte{}), signing.KindNotFound, "no such passkey")
		}
		time.Sleep(time.Second)
		elsewhere, err := w.byPasskey(laptop)
		if err != nil {
			t.Fatal(err)
		}
		if err := w.RemovePasskey(ctx, in.Actor, w.admin.ID, first.ID, SessionHash(in.Cookie)); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Session(ctx, in.Cookie); err != nil {
			t.Errorf("the session that removed the passkey: %v", err)
		}
		_, err = w.Session(ctx, elsewhere.Cookie) // whoever has the passkey may have begun it
		wantKind(t, err, signing.KindUnauthenticated, "not signed in")
		_, err = w.byPasskey(laptop)
		wantKind(t, err, signing.KindUnauthenticated, passkeyRefused)

		// The last way to sign in stays, unless an administrator of users takes it.
		w.store.edit(func(s *state) {
			c := s.creds[w.admin.ID]
			c.PasswordHash = ""
			s.creds[c.UserID] = c
		})
		wantKind(t, w.RemovePasskey(ctx, in.Actor, w.admin.ID, second.ID, [32]byte{}), signing.KindConflict, "only way")
		if err := w.RemovePasskey(ctx, w.actor(w.userAdmin), w.admin.ID, second.ID, [32]byte{}); err != nil {
			t.Error(err)
		}
		_, err = w.Session(ctx, in.Cookie)
		wantKind(t, err, signing.KindUnauthenticated, "not signed in")
		events := w.store.events()
		for event, want := range map[string]int{EventPasskeyAdded: 2, EventPasskeyRemoved: 2, EventSignedIn: 8} {
			n := 0
			for _, e := range events {
				if e == event {
					n++
				}
			}
			if n != want {
				t.Errorf("%d events %s, want %d", n, event, want)
			}
		}
	})
}

// Each way in which a sign-in by passkey can be wrong is refused with one message, and leaves no session.
func TestPasskeySignInRefusals(t *testing.T) {
	t.Parallel()
	type attempt struct {
		w        *world
		a        *authenticator
		state    string
		response []byte
	}
	edit := func(at *attempt, fn func(map[string]any)) {
		var v map[string]any
		if err := json.Unmarshal(at.response, &v); err != nil {
			panic(err)
		}
		fn(v)
		at.response, _ = json.Marshal(v)
	}
	inResponse := func(field string, fn func([]byte) []byte) func(*attempt) {
		return func(at *attempt) {
			edit(at, func(v map[string]any) {
				r := v["response"].(map[string]any)
				raw, _ := b64.DecodeString(r[field].(string))
				r[field] = b64.EncodeToString(fn(raw))
			})
		}
	}
	flipLast := func(b []byte) []byte { b[len(b)-1] ^= 1; return b }
	for name, c := range map[string]struct {
		before func(*attempt) // changes the authenticator or world before the answer
		after  func(*attempt) // changes the answer
		text   string         // other than passkeyRefused
		logged string         // in the audit log
	}{
		"nothing wrong":         {},
		"other origin":          {before: func(at *attempt) { at.a.origin = "https://sign.example.com.evil.example" }, logged: "not verified"},
		"plain HTTP":            {before: func(at *attempt) { at.a.origin = "http://sign.example.com" }, logged: "not verified"},
		"other relying party":   {before: func(at *attempt) { at.a.rpID = "evil.example" }, logged: "not verified"},
		"user not verified":     {before: func(at *attempt) { at.a.flags &^= userVerified }, logged: "not verified"},
		"user not present":      {before: func(at *attempt) { at.a.flags &^= userPresent }, logged: "not verified"},
		"backup flag changed":   {before: func(at *attempt) { at.a.flags &^= backupEligible | backedUp }, logged: "not verified"},
		"another key":           {before: func(at *attempt) { b := newAuthenticator(at.w); b.mustCreate(at.w); at.a.key = b.key }, logged: "not verified"},
		"unknown credential":    {before: func(at *attempt) { at.a.id = bytes.Repeat([]byte{1}, 32) }, logged: "not registered"},
		"another user's handle": {before: func(at *attempt) { r, _ := newRelyingUser(at.w.userAdmin, &extras{}); at.a.handle = r.handle }, logged: "not registered"},
		"unknown user's handle": {before: func(at *attempt) { at.a.handle = bytes.Repeat([]byte{9}, 32) }},
		"foreign handle": {before: func(at *attempt) {
			r, _ := newRelyingUser(at.w.stranger, &extras{})
			at.a.handle = append(r.handle[:16:16], at.a.handle[16:]...)
		}},
		"no handle":    {before: func(at *attempt) { at.a.handle = nil }},
		"short handle": {before: func(at *attempt) { at.a.handle = at.a.handle[:16] }},
		"deactivated user": {before: func(at *attempt) {
			at.w.store.edit(func(s *state) {
				u := s.users[at.w.admin.ID]
				u.Active = false
				s.users[u.ID] = u
			})
		}, logged: "deactivated"},
		"counter unchanged":     {before: func(at *attempt) { at.a.still = true }, logged: "counter went back"},
		"counter back":          {before: func(at *attempt) { at.a.count -= 2 }, logged: "counter went back"},
		"signature":             {after: inResponse("signature", flipLast), logged: "not verified"},
		"signature cut off":     {after: inResponse("signature", func(b []byte) []byte { return b[:len(b)-1] }), logged: "not verified"},
		"counter forged":        {after: inResponse("authenticatorData", flipLast), logged: "not verified"},
		"data cut off":          {after: inResponse("authenticatorData", func(b []byte) []byte { return b[:36] })},
		"type":                  {after: inResponse("clientDataJSON", func(b []byte) []byte { return bytes.Replace(b, []byte("webauthn.get"), []byte("webauthn.create"), 1) }), logged: "not verified"},
		"not JSON":              {after: func(at *attempt) { at.response = []byte("{") }},
		"empty":                 {after: func(at *attempt) { at.response = nil }},
		"null":                  {after: func(at *attempt) { at.response = []byte("null") }},
		"huge":                  {after: func(at *attempt) { at.response = append(at.response, bytes.Repeat([]byte(" "), maxResponse)...) }},
		"id is not rawId":       {after: func(at *attempt) { edit(at, func(v map[string]any) { v["rawId"] = "AAAA" }) }},
		"state of another page": {after: func(at *attempt) { c, _ := at.w.BeginPasskeySignIn(); at.state = c.State }, logged: "not verified"},
		"no state":              {after: func(at *attempt) { at.state = "" }, text: "begin again"},
		"state changed":         {after: func(at *attempt) { at.state = at.state[:60] + "x" + at.state[61:] }, text: "begin again"},
		"state of registration": {after: func(at *attempt) {
			c, err := at.w.BeginPasskey(context.Background(), at.w.signedIn(at.w.userAdmin).Cookie)
			if err != nil {
				panic(err)
			}
			at.state = c.State
		}, text: "begin again"},
		"too late":      {after: func(*attempt) { time.Sleep(ceremonyLife) }, text: "took too long"},
		"just in time":  {after: func(*attempt) { time.Sleep(ceremonyLife - time.Second) }},
		"another key K": {after: func(at *attempt) { at.w = newWorld(at.w, func(c *Config) { c.Key = make([]byte, 32) }) }, text: "begin again"},
	} {
		ok := name == "nothing wrong" || name == "just in time"
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				at := &attempt{w: w, a: newAuthenticator(t)}
				w.register(w.signedIn(w.admin).Cookie, "", at.a)
				time.Sleep(time.Second)
				if _, err := w.byPasskey(at.a); err != nil {
					t.Fatal(err)
				}
				time.Sleep(time.Second)
				if c.before != nil {
					c.before(at)
				}
				ceremony, err := w.BeginPasskeySignIn()
				if err != nil {
					t.Fatal(err)
				}
				at.state = ceremony.State
				if at.response, err = at.a.get(ceremony.Options); err != nil {
					t.Fatal(err)
				}
				if c.after != nil {
					c.after(at)
				}
				sessions := len(w.store.snapshot().sessions)
				in, err := at.w.SignInWithPasskey(context.Background(), at.state, at.response, browser)
				if ok {
					if err != nil {
						t.Fatal(err)
					}
					return
				}
				want := c.text
				if want == "" {
					want = passkeyRefused
				}
				wantKind(t, err, signing.KindUnauthenticated, want)
				if n := len(w.store.snapshot().sessions); in.Cookie != "" || n != sessions {
					t.Errorf("a session came with the error: %d, before %d", n, sessions)
				}
				synctest.Wait()
				entries := w.store.snapshot().audit
				last := entries[len(entries)-1]
				if failed := last.Event == EventSignInFailed; failed != (c.logged != "") || !strings.Contains(string(last.Data), c.logged) {
					t.Errorf("audit log ends in %s %s, want %q", last.Event, last.Data, c.logged)
				}
			})
		})
	}
}

// mustCreate gives the authenticator a credential that nobody registered.
func (a *authenticator) mustCreate(w *world) {
	c, err := w.beginRegistration(w.admin, &extras{})
	if err != nil {
		panic(err)
	}
	if _, err := a.create(c.Options); err != nil {
		panic(err)
	}
}

func TestPasskeyAnswersWorkOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx := context.Background()
		w := newWorld(t)
		a := newAuthenticator(t)
		a.still = true // so that the counter does not help
		w.register(w.signedIn(w.admin).Cookie, "", a)
		time.Sleep(time.Second)
		older, _ := w.BeginPasskeySignIn()
		olderResponse, _ := a.get(older.Options)
		time.Sleep(time.Second)
		c, _ := w.BeginPasskeySignIn()
		response, _ := a.get(c.Options)
		if _, err := w.SignInWithPasskey(ctx, c.State, response, browser); err != nil {
			t.Fatal(err)
		}
		// Another process on the same database.
		other := newWorld(t)
		other.store.state = w.store.snapshot()
		for i, x := range []*world{w, other} {
			_, err := x.SignInWithPasskey(ctx, c.State, response, browser)
			wantKind(t, err, signing.KindUnauthenticated, passkeyRefused)
			_, err = x.SignInWithPasskey(ctx, older.State, olderResponse, browser)
			wantKind(t, err, signing.KindUnauthenticated, passkeyRefused)
			time.Sleep(time.Second)
			if _, err := x.byPasskey(a); err != nil {
				t.Errorf("world %d, a new answer: %v", i, err)
			}
		}
	})
}

func TestCopiedPasskeyIsBlocked(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx := context.Background()
		w := newWorld(t)
		a := newAuthenticator(t)
		in := w.signedIn(w.admin)
		p := w.register(in.Cookie, "", a)
		use := func() error {
			time.Sleep(time.Second)
			_, err := w.byPasskey(a)
			return err
		}
		for range 3 {
			if err := use(); err != nil {
				t.Fatal(err)
			}
		}
		a.count -= 2
		wantKind(t, use(), signing.KindUnauthenticated, passkeyRefused)
		a.count += 100
		wantKind(t, use(), signing.KindUnauthenticated, passkeyRefused)
		synctest.Wait()
		entries := w.store.snapshot().audit
		if last := string(entries[len(entries)-1].Data); !strings.Contains(last, "is blocked, because") {
			t.Errorf("audit log ends in %s", last)
		}
		list, err := w.Passkeys(ctx, in.Actor, w.admin.ID)
		if err != nil || !list[0].Blocked {
			t.Errorf("%+v, %v", list, err)
		}
		// What is blocked is no way to sign in.
		good := w.register(in.Cookie, "good", newAuthenticator(t))
		hash := w.store.snapshot().creds[w.admin.ID].PasswordHash
		setHash := func(hash string) {
			w.store.edit(func(s *state) {
				c := s.creds[w.admin.ID]
				c.PasswordHash = hash
				s.creds[c.UserID] = c
			})
		}
		setHash("")
		wantKind(t, w.RemovePasskey(ctx, in.Actor, w.admin.ID, good.ID, SessionHash(in.Cookie)), signing.KindConflict, "only way")
		setHash(hash)
		if err := w.RemovePasskey(ctx, in.Actor, w.admin.ID, p.ID, SessionHash(in.Cookie)); err != nil {
			t.Fatal(err)
		}
		w.register(in.Cookie, "", a)
		if err := use(); err != nil {
			t.Errorf("registered again: %v", err)
		}
	})
}

func TestPasskeyRegistrationRefusals(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx := context.Background()
		w := newWorld(t)
		cookie := w.signedIn(w.admin).Cookie
		begin := func(a *authenticator) NewPasskey {
			t.Helper()
			c, err := w.BeginPasskey(ctx, cookie)
			if err != nil {
				t.Fatal(err)
			}
			if len(c.State) > maxSealed {
				t.Errorf("state has %d characters", len(c.State))
			}
			response, err := a.create(c.Options)
			if err != nil {
				t.Fatal(err)
			}
			return NewPasskey{State: c.State, Response: response}
		}
		for name, change := range map[string]func(*authenticator){
			"other origin":        func(a *authenticator) { a.origin = "https://evil.example" },
			"other relying party": func(a *authenticator) { a.rpID = "evil.example" },
			"user not verified":   func(a *authenticator) { a.flags &^= userVerified },
			"user not present":    func(a *authenticator) { a.flags &^= userPresent },
			"backup without eligibility": func(a *authenticator) {
				a.flags &^= backupEligible
			},
		} {
			a := newAuthenticator(t)
			change(a)
			if _, err := w.AddPasskey(ctx, cookie, begin(a)); signing.KindOf(err) != signing.KindInvalid || !strings.Contains(err.Error(), "Passkey: ") {
				t.Errorf("%s: %v", name, err)
			}
		}
		good := newAuthenticator(t)
		n := begin(good)
		for name, change := range map[string]struct {
			fn   func(*NewPasskey)
			kind signing.Kind
		}{
			"no response":        {func(n *NewPasskey) { n.Response = nil }, signing.KindInvalid},
			"cut off":            {func(n *NewPasskey) { n.Response = n.Response[:len(n.Response)/2] }, signing.KindInvalid},
			"huge":               {func(n *NewPasskey) { n.Response = bytes.Repeat([]byte(" "), maxResponse+1) }, signing.KindInvalid},
			"long name":          {func(n *NewPasskey) { n.Name = strings.Repeat("x", 101) }, signing.KindInvalid},
			"no state":           {func(n *NewPasskey) { n.State = "" }, signing.KindUnauthenticated},
			"state of a sign-in": {func(n *NewPasskey) { c, _ := w.BeginPasskeySignIn(); n.State = c.State }, signing.KindUnauthenticated},
			"state of another":   {func(n *NewPasskey) { n.State = begin(newAuthenticator(t)).State }, signing.KindInvalid},
			"another user's": {func(n *NewPasskey) {
				c, err := w.beginRegistration(w.userAdmin, &extras{})
				if err != nil {
					t.Fatal(err)
				}
				response, _ := newAuthenticator(t).create(c.Options)
				n.State, n.Response = c.State, response
			}, signing.KindInvalid},
		} {
			bad := n
			change.fn(&bad)
			if _, err := w.AddPasskey(ctx, cookie, bad); signing.KindOf(err) != change.kind {
				t.Errorf("%s: %v", name, err)
			}
		}
		if list, err := w.Passkeys(ctx, w.actor(w.admin), w.admin.ID); err != nil || len(list) != 0 {
			t.Errorf("passkeys after refusals: %v, %v", list, err)
		}
		if _, err := w.AddPasskey(ctx, cookie, n); err != nil {
			t.Fatal(err)
		}
		_, err := w.AddPasskey(ctx, cookie, n)
		wantKind(t, err, signing.KindConflict, "registered already")
		c, err := w.BeginPasskey(ctx, cookie)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := good.create(c.Options); err == nil {
			t.Error("the known passkey is not excluded")
		}
		for range maxPasskeys - 1 {
			n = begin(newAuthenticator(t))
			if _, err := w.AddPasskey(ctx, cookie, n); err != nil {
				t.Fatal(err)
			}
		}
		_, err = w.BeginPasskey(ctx, cookie)
		wantKind(t, err, signing.KindConflict, "remove one first")

		time.Sleep(freshFor + time.Second)
		_, err = w.BeginPasskey(ctx, cookie)
		wantKind(t, err, signing.KindForbidden, "sign in again")
		_, err = w.AddPasskey(ctx, cookie, n)
		wantKind(t, err, signing.KindForbidden, "sign in again")
		_, err = w.BeginPasskey(ctx, newCookie())
		wantKind(t, err, signing.KindUnauthenticated, "not signed in")
	})
}

func TestPasskeysNeedAHostName(t *testing.T) {
	t.Parallel()
	for _, origins := range [][]string{nil, {"http://127.0.0.1:8080"}, {"https://[::1]"}, {"https://sign:8480"}} {
		w := newWorld(t, func(c *Config) { c.Origins = origins })
		if w.PasskeysAvailable() {
			t.Errorf("%v: passkeys are available", origins)
		}
		_, err := w.BeginPasskeySignIn()
		wantKind(t, err, signing.KindConflict, "host name")
		_, err = w.SignInWithPasskey(context.Background(), "", nil, browser)
		wantKind(t, err, signing.KindConflict, "host name")
		_, err = w.BeginPasskey(context.Background(), w.signedIn(w.admin).Cookie)
		wantKind(t, err, signing.KindConflict, "host name")
	}
	w := newWorld(t, func(c *Config) { c.Origins = []string{"http://localhost:8080", "https://sign.example.com"} })
	if !w.PasskeysAvailable() {
		t.Error("no passkeys on localhost")
	}
}

func TestInvitation(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx := context.Background()
		w := newWorld(t)
		invite := func(by, u *signing.User) string {
			t.Helper()
			code, expires, err := w.Invite(ctx, w.actor(by), u.ID)
			if err != nil {
				t.Fatal(err)
			}
			if !expires.Equal(w.now().Add(7 * 24 * time.Hour)) {
				t.Errorf("expires %s", expires)
			}
			return code
		}
		accept := func(code string) error {
			in, err := w.AcceptInvitation(ctx, code, SignInSetup{Password: goodPassword}, browser)
			if (err == nil) != (in.Cookie != "") {
				t.Errorf("cookie %q with error %v", in.Cookie, err)
			}
			return err
		}
		replaced := invite(w.userAdmin, w.regular)
		code := invite(w.admin, w.regular)
		got, err := w.Invitation(ctx, code)
		if err != nil || got.User.ID != w.regular.ID || got.Organization.Name != "Acme" {
			t.Errorf("%+v, %v", got, err)
		}
		wantKind(t, accept(replaced), signing.KindUnauthenticated, "replaced by a newer one")
		_, err = w.AcceptInvitation(ctx, code, SignInSetup{Password: "short"}, browser)
		wantKind(t, err, signing.KindInvalid, "Password: ")
		_, err = w.AcceptInvitation(ctx, code, SignInSetup{}, browser)
		wantKind(t, err, signing.KindInvalid, "password or a passkey")
		_, err = w.AcceptInvitation(ctx, code, SignInSetup{Password: goodPassword, Passkey: &NewPasskey{}}, browser)
		wantKind(t, err, signing.KindInvalid, "password or a passkey")
		if err := accept(code); err != nil {
			t.Fatal(err)
		}
		wantKind(t, accept(code), signing.KindUnauthenticated, "was used")
		_, err = w.Invitation(ctx, code)
		wantKind(t, err, signing.KindUnauthenticated, "was used")
		in, choice, err := w.SignIn(ctx, w.regular.Email, goodPassword, browser)
		if err != nil || choice != nil {
			t.Fatal(choice, err)
		}

		// A second invitation, for a user who lost everything, ends all that was.
		a := newAuthenticator(t)
		old := newAuthenticator(t)
		w.register(in.Cookie, "", old)
		again := invite(w.admin, w.regular)
		if _, err := w.Session(ctx, in.Cookie); err != nil {
			t.Errorf("an invitation that nobody accepted ended a session: %v", err)
		}
		c, err := w.BeginInvitedPasskey(ctx, again)
		if err != nil {
			t.Fatal(err)
		}
		response, err := a.create(c.Options)
		if err != nil {
			t.Fatal(err)
		}
		_, err = w.AcceptInvitation(ctx, again, SignInSetup{Passkey: &NewPasskey{State: c.State, Response: response[1:]}}, browser)
		wantKind(t, err, signing.KindInvalid, "Passkey: ")
		setup := SignInSetup{Passkey: &NewPasskey{State: c.State, Response: response, Name: "Key"}}
		fresh, err := w.AcceptInvitation(ctx, again, setup, browser)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Session(ctx, fresh.Cookie); err != nil {
			t.Error(err)
		}
		_, err = w.Session(ctx, in.Cookie)
		wantKind(t, err, signing.KindUnauthenticated, "not signed in")
		_, _, err = w.SignIn(ctx, w.regular.Email, goodPassword, browser)
		wantKind(t, err, signing.KindUnauthenticated, "wrong")
		_, err = w.byPasskey(old)
		wantKind(t, err, signing.KindUnauthenticated, passkeyRefused)
		time.Sleep(time.Second)
		if _, err := w.byPasskey(a); err != nil {
			t.Error(err)
		}

		late := invite(w.admin, w.reader)
		time.Sleep(defaultInvitationLife)
		wantKind(t, accept(late), signing.KindUnauthenticated, "expired on")
		for _, bad := range []string{"", "x", late[:50], late[:52] + "!", mint(prefixCI)} {
			wantKind(t, accept(bad), signing.KindUnauthenticated, "malformed")
		}
		wantKind(t, accept(mint(prefixInvitation)), signing.KindUnauthenticated, "unknown")
		gone := invite(w.admin, w.reader)
		w.store.edit(func(s *state) {
			u := s.users[w.reader.ID]
			u.Active = false
			s.users[u.ID] = u
		})
		wantKind(t, accept(gone), signing.KindUnauthenticated, "deactivated")
		_, _, err = w.Invite(ctx, w.actor(w.admin), w.reader.ID)
		wantKind(t, err, signing.KindConflict, "deactivated")
		_, _, err = w.Invite(ctx, w.actor(w.admin), w.ci.ID)
		wantKind(t, err, signing.KindConflict, "only interactive")
		_, _, err = w.Invite(ctx, w.actor(w.admin), w.stranger.ID)
		wantKind(t, err, signing.KindNotFound, "no such user")
		_, _, err = w.Invite(ctx, w.actor(w.reader), w.regular.ID)
		wantKind(t, err, signing.KindForbidden, "permission")
		_, _, err = w.Invite(ctx, w.actor(w.userAdmin), w.admin.ID)
		wantKind(t, err, signing.KindForbidden, "GlobalAdministrator")
		_, _, err = w.Invite(ctx, w.actor(w.userAdmin), w.regular.ID)
		if err != nil {
			t.Error(err)
		}
		w.store.edit(func(s *state) {
			approvers := []signing.Subject{{Kind: signing.SubjectGroup, ID: w.group}} // which regular is in
			s.policies = []signing.Policy{{OrganizationID: w.foreign, Slug: "x"}, {OrganizationID: w.org, Slug: "release", Approvers: approvers}}
		})
		_, _, err = w.Invite(ctx, w.actor(w.userAdmin), w.regular.ID)
		wantKind(t, err, signing.KindForbidden, "approves signing requests of signing policy 'release'")

		// Whoever operates the installation lets anybody in again.
		for _, c := range []struct {
			org   signing.ID
			email string
			kind  signing.Kind
			text  string
		}{{"", w.regular.Email, signing.KindConflict, "in 2 organizations"}, {w.org, "nobody@acme.example", signing.KindNotFound, "no account"}, {signing.NewID(), w.regular.Email, signing.KindNotFound, "no account"}} {
			_, _, _, err := w.InviteByOperator(ctx, c.org, c.email)
			wantKind(t, err, c.kind, c.text)
		}
		u, recovered, _, err := w.InviteByOperator(ctx, "", " ADA@acme.example")
		if err != nil || u.ID != w.admin.ID {
			t.Fatal(u, err)
		}
		if err := accept(recovered); err != nil {
			t.Error(err)
		}
		if u, _, _, err := w.InviteByOperator(ctx, w.foreign, w.regular.Email); err != nil || u.ID != w.stranger.ID {
			t.Errorf("%+v, %v", u, err)
		}

		// What was sent to the wrong address is void, once.
		lost := invite(w.admin, w.regular)
		wantKind(t, w.RevokeInvitation(ctx, w.actor(w.reader), w.regular.ID), signing.KindForbidden, "permission")
		wantKind(t, w.RevokeInvitation(ctx, w.actor(w.stranger), w.regular.ID), signing.KindNotFound, "no such user")
		if err := w.RevokeInvitation(ctx, w.actor(w.userAdmin), w.regular.ID); err != nil {
			t.Fatal(err)
		}
		wantKind(t, accept(lost), signing.KindUnauthenticated, "unknown")
		wantKind(t, w.RevokeInvitation(ctx, w.actor(w.userAdmin), w.regular.ID), signing.KindConflict, "no open invitation")
		if events := w.store.events(); events[len(events)-1] != EventInvitationRevoked {
			t.Errorf("events %q", events)
		}
		invite(w.admin, w.regular)
		time.Sleep(defaultInvitationLife)
		wantKind(t, w.RevokeInvitation(ctx, w.actor(w.userAdmin), w.regular.ID), signing.KindConflict, "no open invitation")

		if events := w.store.events(); !slices.Contains(events, EventInvited) || !slices.Contains(events, EventInvitationAccepted) {
			t.Errorf("events %q", events)
		}
		w.assertSecret(code, again, late, goodPassword, fresh.Cookie, c.State)
	})
}

// Two people with one link: one gets in.
func TestInvitationIsAcceptedOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var code string
	err := w.store.Tx(context.Background(), func(tx signing.Tx) (err error) {
		code, _, err = w.InviteTx(context.Background(), tx, signing.Countersign(w.org), w.admin.ID)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	results := make(chan error)
	for i := range 8 {
		go func() {
			_, err := w.AcceptInvitation(context.Background(), code, SignInSetup{Password: fmt.Sprintf("password number %d", i)}, browser)
			results <- err
		}()
	}
	accepted := 0
	for range 8 {
		if err := <-results; err == nil {
			accepted++
		} else if signing.KindOf(err) != signing.KindUnauthenticated {
			t.Error(err)
		}
	}
	if accepted != 1 {
		t.Errorf("accepted %d times", accepted)
	}
}
