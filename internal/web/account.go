package web

import (
	"cmp"
	"net/http"
	"slices"
	"strconv"

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
	mails    []policyMails       // what the user's level means for the policies that she submits to or approves
	done     string              // what just happened
	problems problems
}

// accountMessages say what a redirect back to the page follows on. Only these texts are ever shown.
var accountMessages = map[string]string{
	"password": "The password was changed. All other sessions were signed out.",
	"session":  "The session was signed out.",
	"sessions": "All other sessions were signed out.",
	"added":    "The passkey was added.",
	"removed":  "The passkey was removed. All other sessions were signed out.",
	"revoked":  "The API token was revoked.",
	"level":    "Saved: you get mail by the new level from now on.",
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
	if d.mails, err = x.policyMails(d.user); err != nil {
		return err
	}
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
		if _, err := x.Auth.RevokeSessions(ctx, x.actor, me, auth.SessionHash(x.cookie)); err != nil {
			return err
		}
		return x.accountDone("sessions")
	}
	hash, ok := auth.ParseSessionHash(x.field("session"))
	if !ok {
		return x.accountAgain(signing.Errorf(signing.KindConflict, "There is no such session, or it has ended."))
	}
	if err := x.Auth.RevokeSession(ctx, x.actor, me, hash); signing.KindOf(err) == signing.KindNotFound {
		return x.accountAgain(signing.Errorf(signing.KindConflict, "There is no such session, or it has ended."))
	} else if err != nil {
		return err
	}
	return x.accountDone("session")
}

// tokenLives are the choices of how long a new token is valid, in days; empty: for ever.
var tokenLives = []struct{ days, text string }{{"7", "In 7 days"}, {"30", "In 30 days"}, {"90", "In 90 days"}, {"365", "In a year"}, {"", "Never"}}

// issueToken makes a personal API token and shows it: only this answer has it.
func (x *exchange) issueToken() error {
	options := auth.TokenOptions{Name: x.field("name")}
	if days := x.field("days"); days != "" {
		n, err := strconv.Atoi(days)
		if err != nil || n < 1 || n > 3650 {
			return x.accountAgain(signing.Invalid("ExpiresAt", "Choose when the token expires."))
		}
		expires := x.start.UTC().AddDate(0, 0, n)
		options.ExpiresAt = &expires
	}
	token, _, err := x.Auth.IssueToken(x.r.Context(), x.actor, signing.UserToken, x.actor.UserID, options)
	return x.showToken(token, err)
}

// regenerateToken makes a new token in place of another, with its name.
func (x *exchange) regenerateToken() error {
	id, ok := signing.ParseID(x.field("id"))
	if !ok {
		return x.accountAgain(errNoToken)
	}
	token, _, err := x.Auth.RegenerateToken(x.r.Context(), x.actor, signing.UserToken, x.actor.UserID, id, auth.TokenOptions{})
	return x.showToken(token, err)
}

func (x *exchange) revokeToken() error {
	id, ok := signing.ParseID(x.field("id"))
	if !ok {
		return x.accountAgain(errNoToken)
	}
	err := x.Auth.RevokeToken(x.r.Context(), x.actor, signing.UserToken, x.actor.UserID, id)
	if signing.KindOf(err) == signing.KindNotFound {
		err = errNoToken
	}
	if err != nil {
		return x.accountAgain(err)
	}
	return x.accountDone("revoked")
}

var errNoToken = signing.Errorf(signing.KindConflict, "There is no such API token, or it was revoked.")

func (x *exchange) showToken(token string, err error) error {
	if signing.KindOf(err) == signing.KindNotFound {
		err = errNoToken
	}
	if err != nil {
		return x.accountAgain(err)
	}
	return x.showAccount(http.StatusOK, accountData{newToken: token})
}

// notificationLevels are the choices of which mails a user gets.
var notificationLevels = []struct {
	level       signing.NotificationLevel
	title, text string
}{
	{signing.NotifyDefault, "What concerns me", "What you are asked to decide on, and how your own requests ended. A signing policy may ask for more or less."},
	{signing.NotifyAll, "Everything", "Each step of the requests that you may decide on or have submitted, whatever the signing policy says."},
	{signing.NotifyNone, "Nothing", "No mail. What waits for you is on the dashboard."},
}

// level is the one that the user chose.
func (d accountData) level() signing.NotificationLevel {
	return cmp.Or(d.user.NotificationLevel, signing.NotifyDefault)
}

func (x *exchange) chooseNotifications() error {
	if _, err := x.Signing.SetNotificationLevel(x.r.Context(), x.actor, signing.NotificationLevel(x.field("level"))); err != nil {
		return x.accountAgain(err)
	}
	return x.accountDone("level")
}

// policyMails is what a user gets mail about under a signing policy.
type policyMails struct {
	project         *signing.ProjectView
	policy          *signing.Policy
	level           signing.NotificationLevel
	submit, approve bool
}

// policyMails lists the policies that the user submits to or approves.
func (x *exchange) policyMails(u *signing.User) ([]policyMails, error) {
	projects, err := x.Signing.Projects(x.r.Context(), x.actor)
	if err != nil {
		return nil, err
	}
	var list []policyMails
	for _, p := range projects {
		for _, policy := range p.Policies {
			m := policyMails{p, policy, policy.NotificationLevelOf(u), p.MaySubmit[policy.ID], p.MayApprove[policy.ID]}
			if m.submit || m.approve {
				list = append(list, m)
			}
		}
	}
	return list, nil
}

func (m policyMails) text() string {
	switch {
	case m.level == signing.NotifyNone:
		return "No mail"
	case m.level == signing.NotifyAll:
		return "Every step"
	case m.submit && m.approve:
		return "What waits for your decision, and how your own requests ended"
	case m.approve:
		return "What waits for your decision"
	}
	return "How your own requests ended"
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
	err := x.Auth.RemovePasskey(x.r.Context(), x.actor, x.actor.UserID, x.field("passkey"), auth.SessionHash(x.cookie))
	if signing.KindOf(err) == signing.KindNotFound {
		err = signing.Errorf(signing.KindConflict, "There is no such passkey, or it was removed.")
	}
	if err != nil {
		return x.accountAgain(err)
	}
	return x.accountDone("removed")
}
