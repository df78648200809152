package notify

import (
	_ "embed"
	"fmt"
	htmltemplate "html/template"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"text/template"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/countersign-dev/countersign/internal/signing"
)

// Content is a mail as people read it.
type Content struct {
	Subject string // one line of at most about 250 characters
	Text    string
	HTML    string
	Link    string // where the signing request is, in the text and the HTML, too
}

var (
	//go:embed mail.txt.tmpl
	textSource string
	//go:embed mail.html.tmpl
	htmlSource string

	// Only servers write mail, so that only they wait for its templates.
	textTemplate = sync.OnceValue(func() *template.Template { return template.Must(template.New("mail.txt").Parse(textSource)) })
	htmlTemplate = sync.OnceValue(func() *htmltemplate.Template {
		return htmltemplate.Must(htmltemplate.New("mail.html").Parse(htmlSource))
	})
)

// letter is what the templates show. Every text in it is one clean line, those of quotes are several.
type letter struct {
	Title   string
	Asked   string // what the reader is asked to do; empty: nothing
	Rows    []row  // who wants what signed, under which rules
	Origin  origin
	Said    quote // why it happened
	About   quote // the submitter's description
	Link    string
	Account string // where the notification level is chosen
	Why     string
}

type row struct{ Label, Value, Link string }

// origin says where the artifact came from, and how far that is proven.
type origin struct {
	Verified bool
	Verdict  string
	Rows     []row
	Checks   []check
}

type check struct {
	Mark string // one character
	Text string
}

type quote struct {
	Label string
	Lines []string
}

// titles say what happened; they begin the subject.
var titles = map[signing.Event]string{
	signing.EventApprovalRequested: "Approval requested",
	signing.EventApprovalsFell:     "Approval requested again",
	signing.EventCompleted:         "Signed",
	signing.EventFailed:            "Signing failed",
	signing.EventDenied:            "Denied",
	signing.EventCanceled:          "Canceled",
}

// Compose writes the mail about a notice. public is where people reach the server. Whatever the notice's texts hold,
// they stay text: they make no header, no markup, and no line that looks like the mail's own.
func Compose(n signing.Notice, public *url.URL) (Content, error) {
	page := func(elements ...string) string {
		return public.JoinPath(append([]string{"Web", url.PathEscape(string(n.OrganizationID))}, elements...)...).String()
	}
	request := func(id signing.ID) string { return page("SigningRequests", url.PathEscape(string(id))) }
	l := letter{Title: titles[n.Event], Link: request(n.RequestID), Account: page("Account")}
	if l.Title == "" {
		return Content{}, fmt.Errorf("there is no mail about the event %q", n.Event)
	}
	asks := n.Event == signing.EventApprovalRequested || n.Event == signing.EventApprovalsFell
	if asks && n.Why == signing.AsApprover {
		l.Asked = "Please compare the artifact and its origin with what you expect, then approve or deny the signing request."
		if n.Event == signing.EventApprovalsFell {
			l.Asked = "Earlier approvals no longer count. " + l.Asked
		}
	}
	l.Why = map[signing.Why]string{
		signing.AsApprover:          "you are an approver of this signing policy",
		signing.AsSubmitter:         "you submitted this signing request",
		signing.AsOriginalSubmitter: "you submitted the signing request that this one resubmits",
	}[n.Why]
	l.Rows = rowsOf(n, asks, request)
	l.Origin = originOf(n)
	l.Said = quoted(map[bool]string{true: "Comment", false: "Reason"}[n.Event == signing.EventDenied || n.Event == signing.EventCanceled && n.By != ""], n.Reason)
	l.About = quoted("Description", n.Description)

	c := Content{Link: l.Link, Subject: fmt.Sprintf("%s: %s, %s / %s", l.Title, line(n.FileName, 80), line(n.Project, 60), line(n.Policy, 60))}
	var text, html strings.Builder
	if err := textTemplate().Execute(&text, l); err != nil {
		return Content{}, err
	}
	if err := htmlTemplate().Execute(&html, l); err != nil {
		return Content{}, err
	}
	c.Text, c.HTML = text.String(), html.String()
	return c, nil
}

// rowsOf tells who wants what signed, under which rules. request makes the link to a signing request.
func rowsOf(n signing.Notice, asks bool, request func(signing.ID) string) (rows []row) {
	add := func(label, value string) { rows = addRow(rows, label, value) }
	add("File", n.FileName)
	if n.Size > 0 {
		add("Size", strconv.FormatInt(n.Size, 10)+" bytes")
	}
	add("SHA-256", n.SHA256)
	add("Signed SHA-256", n.SignedSHA256)
	add("Organization", n.Organization)
	add("Project", named(n.Project, n.ProjectSlug))
	add("Signing policy", named(n.Policy, n.PolicySlug))
	if n.Certificate != "" {
		add("Certificate", fmt.Sprintf("%s: %s, valid until %s", n.Certificate, n.CertificateSubject, n.CertificateUntil.UTC().Format(time.DateOnly)))
	}
	if n.Configuration != "" {
		add("Configuration", fmt.Sprintf("%s, version %d", n.Configuration, n.ConfigurationVersion))
	}
	for _, name := range slices.Sorted(maps.Keys(n.Parameters)) {
		if value := n.Parameters[name]; value != "" {
			add("Parameter", name+" = "+value)
		}
	}
	add("Submitted by", named(n.Submitter, map[signing.UserKind]string{signing.CI: "CI user"}[n.SubmitterKind]))
	if !n.SubmittedAt.IsZero() {
		add("Submitted at", n.SubmittedAt.UTC().Format(time.RFC1123))
	}
	if n.OriginalID != "" {
		rows = append(rows, row{Label: "Resubmits", Value: line(named(string(n.OriginalID), n.OriginalPolicy), 500), Link: request(n.OriginalID)})
	}
	if asks {
		add("Approvals", fmt.Sprintf("%d of %d", n.GivenApprovals, n.RequiredApprovals))
		if !n.CancelAt.IsZero() {
			add("Decide before", n.CancelAt.UTC().Format(time.RFC1123))
		}
	}
	if did := map[signing.Event]string{signing.EventApprovalsFell: "Changed by", signing.EventDenied: "Denied by", signing.EventCanceled: "Canceled by"}[n.Event]; did != "" {
		add(did, n.By)
	}
	return rows
}

// originOf tells where the artifact came from, whether that is verified, and why or why not.
func originOf(n signing.Notice) origin {
	o := origin{Verified: n.OriginVerified}
	switch {
	case n.OriginVerified:
		o.Verdict = "Verified"
	case n.Origin == nil:
		o.Verdict = "Unknown: nothing says which source code the file was built from"
	default:
		o.Verdict = "Not verified"
	}
	if from := n.Origin; from != nil {
		o.Rows = addRow(o.Rows, "Repository", from.RepositoryURL)
		o.Rows = addRow(o.Rows, "Branch", from.BranchName)
		o.Rows = addRow(o.Rows, "Commit", from.CommitID)
		o.Rows = addRow(o.Rows, "Build", from.BuildURL)
	}
	for _, v := range n.OriginChecks {
		c := check{Mark: "–", Text: line(v.Explanation, 500)}
		switch v.Result {
		case signing.Passed:
			c.Mark = "✓"
		case signing.NotPassed:
			c.Mark = "✗"
		case signing.NotRequired:
		}
		if !slices.Contains(o.Checks, c) { // several are skipped for one reason
			o.Checks = append(o.Checks, c)
		}
	}
	return o
}

// addRow adds a row unless there is nothing to say in it.
func addRow(rows []row, label, value string) []row {
	if value = line(value, 500); value == "" {
		return rows
	}
	return append(rows, row{Label: label, Value: value})
}

// quoted makes lines of a text; none of an empty one.
func quoted(label, text string) quote {
	const maxLines = 60
	q := quote{Label: label}
	for s := range strings.Lines(strings.NewReplacer("\r\n", "\n", "\r", "\n").Replace(strings.TrimSpace(text))) {
		if len(q.Lines) == maxLines {
			q.Lines = append(q.Lines, "…")
			break
		}
		q.Lines = append(q.Lines, line(s, 500))
	}
	return q
}

// named adds to a name what tells it from others of that name.
func named(name, more string) string {
	if more == "" || strings.EqualFold(name, more) {
		return name
	}
	return name + " (" + more + ")"
}

// isControl tells characters that end a line or change the direction or the look of what surrounds them.
func isControl(r rune) bool {
	return r == utf8.RuneError || unicode.In(r, unicode.Cc, unicode.Cf, unicode.Zl, unicode.Zp)
}

// line returns a text as one line of at most limit characters.
func line(s string, limit int) string {
	s = strings.TrimSpace(strings.Map(func(r rune) rune {
		if isControl(r) {
			return ' '
		}
		return r
	}, s))
	if runes := []rune(s); len(runes) > limit {
		return string(runes[:limit-1]) + "…"
	}
	return s
}
