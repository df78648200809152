package web

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/countersign-dev/countersign/internal/auth"
	"github.com/countersign-dev/countersign/internal/signing"
)

// pageError is a failure that the domain has no kind for.
type pageError struct {
	status         int
	title, message string
	// link and linkText lead on.
	link, linkText string
	// keeps: a form was refused for who sent it; the script brings what was typed back when the form is opened again.
	keeps bool
}

// Error returns title and message.
func (e *pageError) Error() string { return e.title + ": " + e.message }

var errForeign = &pageError{
	status: http.StatusForbidden, title: "The form was not accepted",
	message: "It did not come from a current page of this server, so nothing was changed. You may have signed in or out in another tab since the page was loaded: open the form again and send it.",
}

// statusOfKind renders the domain's kinds.
var statusOfKind = map[signing.Kind]struct {
	status int
	title  string
}{
	signing.KindInvalid:         {http.StatusUnprocessableEntity, "Something in the form is not right"},
	signing.KindUnauthenticated: {http.StatusUnauthorized, "You are not signed in"},
	signing.KindForbidden:       {http.StatusForbidden, "You may not do this"},
	signing.KindNotFound:        {http.StatusNotFound, "There is no such page"},
	signing.KindConflict:        {http.StatusConflict, "This is no longer possible"},
	signing.KindTooLarge:        {http.StatusRequestEntityTooLarge, "The file is too large"},
	signing.KindUnavailable:     {http.StatusServiceUnavailable, "Not possible just now"},
	signing.KindGone:            {http.StatusGone, "It was deleted"},
}

// statusOf returns what to answer for an error of the domain, for pages that show it beside their form.
func statusOf(err error) int {
	var limited *auth.RateLimitError
	if errors.As(err, &limited) {
		return http.StatusTooManyRequests
	}
	if s, ok := statusOfKind[signing.KindOf(err)]; ok {
		return s.status
	}
	return http.StatusInternalServerError
}

// shown reports whether an error may be shown beside a form: it is the domain's, about what was sent or may be done.
func shown(err error) bool {
	kind := signing.KindOf(err)
	return kind != 0 && kind != signing.KindNotFound
}

// retryAfter tells the browser when a limit lets it try again.
func (x *exchange) retryAfter(err error) {
	var limited *auth.RateLimitError
	if errors.As(err, &limited) {
		x.w.Header().Set("Retry-After", strconv.Itoa(int(limited.RetryAfter.Seconds())))
	}
}

// fail answers with the page that an error stands for, and logs the cause of internal ones.
func (x *exchange) fail(err error) {
	if x.w.status != 0 {
		x.log.Warn("answer broken off", "error", err)
		panic(http.ErrAbortHandler)
	}
	if errors.Is(err, context.Canceled) && x.r.Context().Err() != nil {
		x.w.status = 499 // conventional in access logs for a client that went away
		return
	}
	if errors.Is(err, errSignedOut) && x.r.Method == http.MethodGet {
		x.redirectToSignIn()
		return
	}
	var (
		e        *pageError
		domain   *signing.Error
		tooLarge *http.MaxBytesError
	)
	shownAs := pageError{
		status: http.StatusInternalServerError, title: "Something went wrong here",
		message: "The cause was logged on the server. Try again; if it happens again, give an administrator the trace id below.",
	}
	switch {
	case errors.As(err, &e):
		shownAs = *e
		x.leadBack(e, &shownAs)
	case errors.As(err, &tooLarge):
		shownAs = pageError{status: http.StatusRequestEntityTooLarge, title: "The upload is too large", message: "The server takes less in one request."}
	case errors.As(err, &domain) && statusOfKind[domain.Kind].status != 0:
		shownAs = pageError{status: statusOf(err), title: statusOfKind[domain.Kind].title, message: domain.Error()}
		if len(domain.Fields) > 0 {
			shownAs.message = problemsOf(err).all()
		}
		x.retryAfter(err)
	}
	if shownAs.status >= 500 {
		x.log.Error("page failed", "error", err)
	} else {
		x.log.Debug("page refused", "error", err)
	}
	if err := x.render(shownAs.status, errorPage(x, shownAs)); err != nil {
		x.log.Error("render the error page", "error", err)
		http.Error(x.w, "Internal error. Trace id: "+x.traceID, http.StatusInternalServerError)
	}
}

// leadBack lets a refused form's page lead to the form, by way of the sign-in page if need be.
func (x *exchange) leadBack(e *pageError, shownAs *pageError) {
	if x.r.Method != http.MethodPost || e != errSignedOut && e != errForeign {
		return
	}
	shownAs.keeps, shownAs.link, shownAs.linkText = true, x.formPage(), "Open the form again"
	if e == errSignedOut {
		shownAs.link, shownAs.linkText = withQuery(x.path("SignIn"), "return", shownAs.link), "Sign in"
	}
}

// formPage returns the address of the page with the form that was sent.
func (x *exchange) formPage() string {
	if rt, _, _ := find(http.MethodGet, x.r.URL.Path); rt != nil {
		return x.returnTo(x.prefix + x.r.URL.EscapedPath())
	}
	if from, err := url.Parse(x.r.Referer()); err == nil && from.Host != "" && strings.HasPrefix(x.r.Referer(), x.origin()+"/") {
		return x.returnTo(from.RequestURI())
	}
	return x.path()
}

func (x *exchange) redirectToSignIn() {
	_ = x.redirect(withQuery(x.path("SignIn"), "return", x.here())) // redirecting cannot fail
}

// problems are the messages of a form: by field, in the domain's spelling, and about all of it.
type problems struct {
	general string
	fields  map[string][]string
}

// problemsOf takes an error of the domain apart for the form that caused it.
func problemsOf(err error) problems {
	var domain *signing.Error
	if err == nil || !errors.As(err, &domain) {
		return problems{}
	}
	if len(domain.Fields) == 0 {
		return problems{general: domain.Message}
	}
	return problems{fields: domain.Fields}
}

// of takes the messages of a field out, so that rest returns those that no field of the form showed.
func (p problems) of(field string) string {
	messages := p.fields[field]
	text := ""
	for i, m := range messages {
		if i > 0 {
			text += " "
		}
		text += m
	}
	return text
}

// beyond returns what is to be shown above a form that has the given fields.
func (p problems) beyond(fields ...string) string {
	text := p.general
next:
	for _, name := range sortedKeys(p.fields) {
		for _, f := range fields {
			if f == name {
				continue next
			}
		}
		if text != "" {
			text += " "
		}
		text += p.of(name)
	}
	return text
}

func (p problems) all() string { return p.beyond() }
