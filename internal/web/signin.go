package web

import (
	"encoding/json"
	"net/http"
	"time"

	"github.com/countersign-dev/countersign/internal/auth"
	"github.com/countersign-dev/countersign/internal/signing"
)

// home leads to the dashboard or to the sign-in page.
func (x *exchange) home() error {
	if x.signedIn() {
		return x.redirect(x.link())
	}
	return x.redirect(x.path("SignIn"))
}

// signInForm is what the sign-in page shows.
type signInForm struct {
	email    string
	returnTo string
	problem  string
	choice   *auth.Choice // which organization, when the password opens several
}

func (x *exchange) signInPage() error {
	to := ""
	if raw := x.r.URL.Query().Get("return"); raw != "" {
		to = x.returnTo(raw)
	}
	if x.signedIn() {
		if to == "" {
			to = x.link()
		}
		return x.redirect(to)
	}
	return x.render(http.StatusOK, signInView(x, signInForm{returnTo: to}))
}

// wanted returns where the sign-in form leads; empty for the start page.
func (x *exchange) wanted() string {
	if to := x.field("return"); to != "" {
		return x.returnTo(to)
	}
	return ""
}

func (x *exchange) signIn() error {
	form := signInForm{email: x.field("email"), returnTo: x.wanted()}
	in, choice, err := x.Auth.SignIn(x.r.Context(), form.email, x.r.PostForm.Get("password"), x.client())
	if err != nil {
		return x.signInAgain(form, err)
	}
	if choice != nil {
		form.choice = choice
		return x.render(http.StatusOK, signInView(x, form))
	}
	return x.startSession(in, form.returnTo)
}

func (x *exchange) signInAgain(form signInForm, err error) error {
	if !shown(err) {
		return err
	}
	form.problem = problemsOf(err).all()
	x.retryAfter(err)
	return x.render(statusOf(err), signInView(x, form))
}

func (x *exchange) chooseOrganization() error {
	form := signInForm{returnTo: x.wanted()}
	id, _ := signing.ParseID(x.field("organization")) // an unknown one is refused like a foreign one
	in, err := x.Auth.ChooseOrganization(x.r.Context(), x.field("state"), id, x.client())
	if err != nil {
		return x.signInAgain(form, err)
	}
	return x.startSession(in, form.returnTo)
}

func (x *exchange) beginPasskeySignIn() error {
	c, err := x.Auth.BeginPasskeySignIn()
	return x.answerCeremony(c, err)
}

// answerCeremony answers the script that begins a ceremony.
func (x *exchange) answerCeremony(c auth.Ceremony, err error) error {
	status, answer := http.StatusOK, any(struct {
		Options json.RawMessage `json:"options"`
		State   string          `json:"state"`
	}{c.Options, c.State})
	if err != nil {
		if !shown(err) {
			return err
		}
		status, answer = statusOf(err), struct {
			Problem string `json:"problem"`
		}{problemsOf(err).all()}
	}
	body, err := json.Marshal(answer)
	if err != nil {
		return err
	}
	x.send(status, "application/json", body)
	return nil
}

func (x *exchange) signInWithPasskey() error {
	form := signInForm{returnTo: x.wanted()}
	in, err := x.Auth.SignInWithPasskey(x.r.Context(), x.field("state"), []byte(x.field("response")), x.client())
	if err != nil {
		return x.signInAgain(form, err)
	}
	return x.startSession(in, form.returnTo)
}

func (x *exchange) signOut() error {
	if x.signedIn() {
		if err := x.Auth.SignOut(x.r.Context(), x.cookie); err != nil {
			return err
		}
	}
	x.setCookie(sessionCookie, "", time.Time{})
	return x.redirect(x.path("SignIn"))
}

// invitationForm is what the page of an invitation shows.
type invitationForm struct {
	code     string
	invited  auth.Invited
	problems problems
}

func (x *exchange) invitationPage() error {
	return x.showInvitation(http.StatusOK, problems{})
}

func (x *exchange) showInvitation(status int, p problems) error {
	code := x.values["code"]
	invited, err := x.Auth.Invitation(x.r.Context(), code)
	if signing.KindOf(err) == signing.KindUnauthenticated {
		return &pageError{status: http.StatusNotFound, title: "This invitation cannot be used", message: problemsOf(err).all(), link: x.path("SignIn"), linkText: "Sign in"}
	} else if err != nil {
		return err
	}
	return x.render(status, invitationView(x, invitationForm{code: code, invited: invited, problems: p}))
}

func (x *exchange) beginInvitedPasskey() error {
	c, err := x.Auth.BeginInvitedPasskey(x.r.Context(), x.values["code"])
	return x.answerCeremony(c, err)
}

func (x *exchange) acceptInvitation() error {
	var setup auth.SignInSetup
	if response := x.field("response"); response != "" {
		setup.Passkey = &auth.NewPasskey{State: x.field("state"), Response: []byte(response), Name: x.field("name")}
	} else {
		setup.Password = x.r.PostForm.Get("password")
		if setup.Password != x.r.PostForm.Get("repeated") {
			return x.showInvitation(http.StatusUnprocessableEntity, problemsOf(signing.Invalid("Repeated", "The two passwords differ.")))
		}
	}
	in, err := x.Auth.AcceptInvitation(x.r.Context(), x.values["code"], setup, x.client())
	if err != nil {
		if !shown(err) || signing.KindOf(err) == signing.KindUnauthenticated {
			return err
		}
		x.retryAfter(err)
		return x.showInvitation(statusOf(err), problemsOf(err))
	}
	return x.startSession(in, "")
}
