package web

import (
	"encoding/hex"
	"net/http"
	"slices"

	"github.com/countersign-dev/countersign/internal/auth"
	"github.com/countersign-dev/countersign/internal/signing"
)

// accountData is what the account page shows.
type accountData struct {
	user     *signing.User
	sessions []*signing.Session
	current  [32]byte
	passkeys []auth.Passkey
	tokens   []*signing.APIToken // usable ones
	newToken string              // shown this once
	done     string              // what just happened
	problems problems
}

// accountMessages say what a redirect back to the page follows on. Only these texts are ever shown.
var accountMessages = map[string]string{
	"password": "The password was changed. All other sessions were signed out.",
	"session":  "The session was signed out.",
	"sessions": "All other sessions were signed out.",
	"added":    "The passkey was added.",
	"removed":  "The passkey was removed.",
}

func (x *exchange) accountPage() error {
	return x.showAccount(http.StatusOK, accountData{done: accountMessages[x.r.URL.Query().Get("done")]})
}

func (x *exchange) showAccount(status int, d accountData) (err error) {
	ctx, me := x.r.Context(), x.actor.UserID
	if d.user, err = x.Signing.User(ctx, x.actor, me); err != nil {
		return err
	}
	if d.sessions, err = x.Auth.Sessions(ctx, x.actor, me); err != nil {
		return err
	}
	if d.passkeys, err = x.Auth.Passkeys(ctx, x.actor, me); err != nil {
		return err
	}
	if d.tokens, err = x.Auth.Tokens(ctx, x.actor, signing.UserToken, me); err != nil {
		return err
	}
	d.tokens = slices.DeleteFunc(d.tokens, func(t *signing.APIToken) bool { return !t.Usable(x.start) })
	d.current = auth.SessionHash(x.cookie)
	return x.render(status, accountView(x, d))
}

// accountAgain shows the page with what is wrong.
func (x *exchange) accountAgain(err error) error {
	if !shown(err) || signing.KindOf(err) == signing.KindUnauthenticated {
		return err
	}
	x.retryAfter(err)
	return x.showAccount(statusOf(err), accountData{problems: problemsOf(err)})
}

func (x *exchange) accountDone(message string) error {
	return x.redirect(withQuery(x.link("Account"), "done", message))
}

func (x *exchange) changePassword() error {
	password := x.r.PostForm.Get("password")
	if password != x.r.PostForm.Get("repeated") {
		return x.accountAgain(signing.Invalid("Repeated", "The two passwords differ."))
	}
	in, err := x.Auth.ChangePassword(x.r.Context(), x.cookie, x.r.PostForm.Get("current"), password, x.client())
	if err != nil {
		return x.accountAgain(err)
	}
	return x.startSession(in, withQuery(x.link("Account"), "done", "password"))
}

// revokeSession ends the named session, or with "others" all but this one.
func (x *exchange) revokeSession() error {
	ctx, me := x.r.Context(), x.actor.UserID
	if x.field("session") == "others" {
		sessions, err := x.Auth.Sessions(ctx, x.actor, me)
		if err != nil {
			return err
		}
		current := auth.SessionHash(x.cookie)
		for _, s := range sessions {
			if s.Hash == current {
				continue
			}
			if err := x.Auth.RevokeSession(ctx, x.actor, me, s.Hash); err != nil && signing.KindOf(err) != signing.KindNotFound {
				return err
			}
		}
		return x.accountDone("sessions")
	}
	var hash [32]byte
	raw, err := hex.DecodeString(x.field("session"))
	if err != nil || len(raw) != len(hash) || [32]byte(raw) == hash {
		return x.accountAgain(signing.Errorf(signing.KindConflict, "There is no such session, or it has ended."))
	}
	copy(hash[:], raw)
	if err := x.Auth.RevokeSession(ctx, x.actor, me, hash); signing.KindOf(err) == signing.KindNotFound {
		return x.accountAgain(signing.Errorf(signing.KindConflict, "There is no such session, or it has ended."))
	} else if err != nil {
		return err
	}
	return x.accountDone("session")
}

// regenerateToken makes a new personal API token in place of the earlier ones, and shows it: only this answer has it.
func (x *exchange) regenerateToken() error {
	token, _, err := x.Auth.RegenerateToken(x.r.Context(), x.actor, signing.UserToken, x.actor.UserID, "", auth.TokenOptions{Name: x.field("name")})
	if err != nil {
		return x.accountAgain(err)
	}
	return x.showAccount(http.StatusOK, accountData{newToken: token})
}

func (x *exchange) beginPasskey() error {
	c, err := x.Auth.BeginPasskey(x.r.Context(), x.cookie)
	return x.answerCeremony(c, err)
}

func (x *exchange) addPasskey() error {
	_, err := x.Auth.AddPasskey(x.r.Context(), x.cookie, auth.NewPasskey{State: x.field("state"), Response: []byte(x.field("response")), Name: x.field("name")})
	if err != nil {
		return x.accountAgain(err)
	}
	return x.accountDone("added")
}

func (x *exchange) removePasskey() error {
	err := x.Auth.RemovePasskey(x.r.Context(), x.actor, x.actor.UserID, x.field("passkey"))
	if signing.KindOf(err) == signing.KindNotFound {
		err = signing.Errorf(signing.KindConflict, "There is no such passkey, or it was removed.")
	}
	if err != nil {
		return x.accountAgain(err)
	}
	return x.accountDone("removed")
}
