package notify

import (
	_ "embed"
	"fmt"
	htmltemplate "html/template"
	"net/url"
	"strconv"
	"strings"
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

	textTemplate = template.Must(template.New("mail.txt").Parse(textSource))
	htmlTemplate = htmltemplate.Must(htmltemplate.New("mail.html").Parse(htmlSource))
)

// letter is what the templates show. Every text in it is one clean line, those of quotes are several.
type letter struct {
	Title  string
	Asked  string // what the reader is asked to do; empty: nothing
	Rows   []row
	Quotes []quote
	Link   string
	Why    string
}

type row struct{ Label, Value string }

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
	l := letter{
		Title: titles[n.Event],
		Link:  public.JoinPath("Web", url.PathEscape(string(n.OrganizationID)), "SigningRequests", url.PathEscape(string(n.RequestID))).String(),
	}
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
	l.add("Organization", n.Organization)
	l.add("Project", named(n.Project, n.ProjectSlug))
	l.add("Signing policy", named(n.Policy, n.PolicySlug))
	l.add("File", n.FileName)
	if n.Size > 0 {
		l.add("Size", strconv.FormatInt(n.Size, 10)+" bytes")
	}
	l.add("SHA-256", n.SHA256)
	l.add("Submitted by", n.Submitter)
	if o := n.Origin; o != nil {
		l.add("Repository", o.RepositoryURL)
		l.add("Branch", o.BranchName)
		l.add("Commit", o.CommitID)
		l.add("Build", o.BuildURL)
	}
	l.add("Resubmits", string(n.OriginalID))
	if asks {
		l.add("Approvals needed", strconv.Itoa(n.RequiredApprovals))
		if !n.CancelAt.IsZero() {
			l.add("To be decided by", n.CancelAt.UTC().Format(time.RFC1123))
		}
	}
	l.add("By", n.By)
	l.quote(map[bool]string{true: "Comment", false: "Reason"}[n.By != ""], n.Reason)
	l.quote("Description", n.Description)

	c := Content{Link: l.Link, Subject: fmt.Sprintf("%s: %s, %s / %s", l.Title, line(n.FileName, 80), line(n.Project, 60), line(n.Policy, 60))}
	var text, html strings.Builder
	if err := textTemplate.Execute(&text, l); err != nil {
		return Content{}, err
	}
	if err := htmlTemplate.Execute(&html, l); err != nil {
		return Content{}, err
	}
	c.Text, c.HTML = text.String(), html.String()
	return c, nil
}

func (l *letter) add(label, value string) {
	if value = line(value, 500); value != "" {
		l.Rows = append(l.Rows, row{label, value})
	}
}

func (l *letter) quote(label, text string) {
	const maxLines = 60
	q := quote{Label: label}
	for s := range strings.Lines(strings.NewReplacer("\r\n", "\n", "\r", "\n").Replace(strings.TrimSpace(text))) {
		if len(q.Lines) == maxLines {
			q.Lines = append(q.Lines, "…")
			break
		}
		q.Lines = append(q.Lines, line(s, 500))
	}
	if len(q.Lines) > 0 {
		l.Quotes = append(l.Quotes, q)
	}
}

func named(name, slug string) string {
	if strings.EqualFold(name, slug) {
		return name
	}
	return name + " (" + slug + ")"
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
