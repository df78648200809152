package main

import (
	"context"
	"html/template"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/countersign-dev/countersign/internal/notify"
	"github.com/countersign-dev/countersign/internal/signing"
)

// mailbox keeps the demo's mail instead of sending it, and shows it to whoever opens its page: every address of the demo
// is the visitor's own.
type mailbox struct {
	public *url.URL

	mu      sync.Mutex
	letters []letter // oldest first
	total   int      // received so far, those that were dropped included
}

type letter struct {
	Number  int
	At      time.Time
	To      string
	Content notify.Content
}

const (
	mailboxPath  = "/Mailbox"
	mailboxLimit = 200 // older letters are dropped
)

// SendMail puts the mail into the mailbox.
func (m *mailbox) SendMail(_ context.Context, mail signing.Mail) (signing.Receipt, error) {
	content, err := notify.Compose(mail.Notice, m.public)
	if err != nil {
		return signing.Receipt{}, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.total++
	m.letters = append(m.letters, letter{Number: m.total, At: time.Now(), To: mail.To, Content: content})
	if len(m.letters) > mailboxLimit {
		m.letters = m.letters[len(m.letters)-mailboxLimit:]
	}
	return signing.Receipt{Status: 250, Response: "kept in the demo's mailbox"}, nil
}

// newest returns the letters, newest first.
func (m *mailbox) newest() []letter {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := make([]letter, 0, len(m.letters))
	for i := len(m.letters) - 1; i >= 0; i-- {
		out = append(out, m.letters[i])
	}
	return out
}

const mailboxStyle = `
:root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif; }
body { max-width: 46rem; margin: 0 auto; padding: 1.5rem 1rem 4rem; }
h1 { font-size: 1.5rem; }
article { border: 1px solid color-mix(in srgb, currentColor 20%, transparent); border-radius: .6rem; padding: 1rem 1.2rem; margin: 1rem 0; }
h2 { font-size: 1.05rem; margin: 0; overflow-wrap: anywhere; }
p.meta { margin: .2rem 0 .8rem; opacity: .75; font-size: .9rem; overflow-wrap: anywhere; }
pre { white-space: pre-wrap; overflow-wrap: anywhere; font: .85rem/1.55 ui-monospace, monospace; margin: 0 0 .8rem; }
iframe { width: 100%; height: 28rem; border: 1px solid color-mix(in srgb, currentColor 20%, transparent); border-radius: .4rem; }
summary { cursor: pointer; }
`

var mailboxPage = template.Must(template.New("mailbox").Parse(`<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>Mailbox – Countersign demo</title><link rel="stylesheet" href="` + mailboxPath + `/style.css"></head><body><main>
<h1>Mailbox of the demo</h1>
<p>Countersign sends mail to people. The demo keeps it here instead, newest first. <a href="` + mailboxPath + `">Look again</a> · <a href="/">Countersign</a></p>
{{range .}}<article><h2>{{.Content.Subject}}</h2>
<p class="meta">To {{.To}} · <time datetime="{{.At.Format "2006-01-02T15:04:05Z07:00"}}">{{.At.Format "2006-01-02 15:04:05"}}</time></p>
<pre>{{.Content.Text}}</pre>
<p><a href="{{.Content.Link}}">Open the signing request</a></p>
<details><summary>As HTML</summary><iframe title="{{.Content.Subject}}" sandbox="allow-popups allow-top-navigation-by-user-activation" src="` + mailboxPath + `/{{.Number}}" loading="lazy"></iframe></details>
</article>{{else}}<p>No mail yet. Submit something under the policy release-signing: its approver is told here.</p>{{end}}
</main></body></html>`))

// ServeHTTP serves the list, its style and single letters as HTML.
func (m *mailbox) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Content-Security-Policy", "default-src 'none'; style-src 'self'; frame-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cache-Control", "no-store")
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		h.Set("Allow", "GET, HEAD")
		http.Error(w, "the mailbox is only read", http.StatusMethodNotAllowed)
		return
	}
	name := strings.Trim(strings.TrimPrefix(r.URL.Path, mailboxPath), "/")
	if name == "" {
		h.Set("Content-Type", "text/html; charset=utf-8")
		_ = mailboxPage.Execute(w, m.newest()) // fails only when the reader went away
		return
	}
	if name == "style.css" {
		h.Set("Content-Type", "text/css; charset=utf-8")
		_, _ = w.Write([]byte(mailboxStyle))
		return
	}
	number, err := strconv.Atoi(name)
	for _, l := range m.newest() {
		if err == nil && l.Number == number {
			// Mail brings its own styles, and is shown in a sandboxed frame of this page only.
			h.Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; sandbox allow-popups allow-top-navigation-by-user-activation; frame-ancestors 'self'")
			h.Set("Content-Type", "text/html; charset=utf-8")
			_, _ = w.Write([]byte(l.Content.HTML))
			return
		}
	}
	http.NotFound(w, r)
}
