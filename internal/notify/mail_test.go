package notify

import (
	"context"
	"crypto/tls"
	"encoding/xml"
	"errors"
	"io"
	"mime"
	"mime/multipart"
	"mime/quotedprintable"
	"net/mail"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/countersign-dev/countersign/internal/notify/smtptest"
	"github.com/countersign-dev/countersign/internal/signing"
)

var public = &url.URL{Scheme: "https", Host: "sign.example.com", Path: "/base"}

func exampleLetter() signing.Mail {
	return signing.Mail{ID: "0199-delivery", To: "ada@acme.example", Notice: signing.Notice{
		Event: signing.EventApprovalRequested, Why: signing.AsApprover, OrganizationID: "0198-org", Organization: "Acme", RequestID: "0199-request",
		Project: "App", ProjectSlug: "app", Policy: "Release", PolicySlug: "release-signing", FileName: "größe.exe", Size: 1234,
		Certificate: "Release certificate", CertificateSubject: "CN=Acme", CertificateUntil: time.Date(2028, 2, 3, 4, 5, 6, 0, time.UTC),
		Configuration: "exe", ConfigurationVersion: 7, Parameters: map[string]string{"version": "1.2.3"},
		SHA256: "00ff", Submitter: "ci", SubmitterKind: signing.CI, SubmittedAt: time.Date(2027, 2, 3, 4, 5, 6, 0, time.UTC),
		Description: "First line\nsecond line", RequiredApprovals: 2, GivenApprovals: 1, OriginalID: "0197-original", OriginalPolicy: "Test signing",
		Origin:         &signing.Origin{RepositoryURL: "https://github.com/acme/app", BranchName: "main", CommitID: "abc", BuildURL: "https://ci.example/1"},
		OriginVerified: true, OriginChecks: []signing.Verification{
			{Name: "TrustedBuildSystem", Result: signing.Passed, Explanation: "Jenkins vouched for the request."},
			{Name: "Branch", Result: signing.NotRequired, Explanation: "Every branch is allowed."},
			{Name: "Commit", Result: signing.NotRequired, Explanation: "Every branch is allowed."},
		},
	}}
}

// parsed is a mail as another implementation, the standard library's, reads it.
type parsed struct {
	header     mail.Header
	subject    string
	text, html string
}

func parse(t *testing.T, raw string) parsed {
	t.Helper()
	m, err := mail.ReadMessage(strings.NewReader(raw))
	if err != nil {
		t.Fatalf("%v in\n%s", err, raw)
	}
	subject, err := new(mime.WordDecoder).DecodeHeader(m.Header.Get("Subject"))
	if err != nil {
		t.Fatal(err)
	}
	p := parsed{header: m.Header, subject: subject}
	kind, parameters, err := mime.ParseMediaType(m.Header.Get("Content-Type"))
	if err != nil || kind != "multipart/alternative" {
		t.Fatalf("content type %q, %v", m.Header.Get("Content-Type"), err)
	}
	for r := multipart.NewReader(m.Body, parameters["boundary"]); ; {
		part, err := r.NextRawPart()
		if errors.Is(err, io.EOF) {
			return p
		}
		if err != nil {
			t.Fatal(err)
		}
		if e := part.Header.Get("Content-Transfer-Encoding"); e != "quoted-printable" {
			t.Fatalf("transfer encoding %q", e)
		}
		body, err := io.ReadAll(quotedprintable.NewReader(part))
		if err != nil {
			t.Fatal(err)
		}
		switch content := part.Header.Get("Content-Type"); content {
		case "text/plain; charset=UTF-8":
			p.text = strings.ReplaceAll(string(body), "\r\n", "\n")
		case "text/html; charset=UTF-8":
			p.html = string(body)
		default:
			t.Fatalf("part of type %q", content)
		}
	}
}

func TestSendMail(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		server   func(*smtptest.Server)
		url      string // in front of and behind the address
		query    string
		password string
		check    func(smtptest.Mail) bool
	}{
		"STARTTLS":               {func(*smtptest.Server) {}, "smtp://", "", "", func(r smtptest.Mail) bool { return r.Encrypted && r.User == "" }},
		"STARTTLS and password":  {func(s *smtptest.Server) { s.Password = "p w" }, "smtp://robot@", "?tls=starttls", "p w", func(r smtptest.Mail) bool { return r.Encrypted && r.User == "robot" && r.Password == "p w" }},
		"implicit TLS":           {func(s *smtptest.Server) { s.ImplicitTLS, s.Password = true, "secret" }, "smtp://a%40b@", "?tls=implicit", "secret", func(r smtptest.Mail) bool { return r.Encrypted && r.User == "a@b" }},
		"none":                   {func(s *smtptest.Server) { s.OffersTLS = false }, "smtp://", "?tls=none", "", func(r smtptest.Mail) bool { return !r.Encrypted }},
		"none with TLS on offer": {func(*smtptest.Server) {}, "smtp://", "?tls=none", "", func(r smtptest.Mail) bool { return !r.Encrypted }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := smtptest.Start(t, c.server)
			m, err := NewMailer(MailConfig{Server: c.url + s.Addr + c.query, Password: c.password, From: "Countersign Ä <sign@acme.example>", Public: public, TLS: &tls.Config{RootCAs: s.Roots}})
			if err != nil {
				t.Fatal(err)
			}
			receipt, err := m.SendMail(t.Context(), exampleLetter())
			if err != nil {
				t.Fatal(err)
			}
			if receipt.Status != 250 || !strings.Contains(receipt.Response, "queued as 42") {
				t.Errorf("receipt %+v", receipt)
			}
			got := s.Got()
			if len(got) != 1 || !c.check(got[0]) {
				t.Fatalf("received %+v", got)
			}
			if !strings.HasPrefix(got[0].From, "FROM:<sign@acme.example>") || !strings.HasPrefix(got[0].To, "TO:<ada@acme.example>") {
				t.Errorf("envelope %q, %q", got[0].From, got[0].To)
			}
			p := parse(t, got[0].Data)
			if p.subject != "Approval requested: größe.exe, App / Release" {
				t.Errorf("subject %q", p.subject)
			}
			from, err := mail.ParseAddress(p.header.Get("From"))
			if err != nil || from.Name != "Countersign Ä" || from.Address != "sign@acme.example" {
				t.Errorf("from %q, %v", p.header.Get("From"), err)
			}
			for h, want := range map[string]string{
				"Message-Id": "<0199-delivery@acme.example>", "References": "<0199-request@acme.example>", "In-Reply-To": "<0199-request@acme.example>", "Auto-Submitted": "auto-generated",
			} {
				if got := p.header.Get(h); got != want {
					t.Errorf("%s is %q, want %q", h, got, want)
				}
			}
			if date, err := p.header.Date(); err != nil || time.Since(date).Abs() > time.Minute {
				t.Errorf("date %v, %v", date, err)
			}
			for _, part := range []string{p.text, p.html} {
				for _, want := range []string{"https://sign.example.com/base/Web/0198-org/SigningRequests/0199-request", "größe.exe", "release-signing",
					"https://github.com/acme/app", "main", "abc", "https://ci.example/1", "00ff", "approve or deny", "second line", "you are an approver",
					"1234 bytes", "Release certificate: CN=Acme, valid until 2028-02-03", "exe, version 7", "version = 1.2.3", "ci (CI user)", "Wed, 03 Feb 2027 04:05:06 UTC",
					"0197-original (Test signing)", "https://sign.example.com/base/Web/0198-org/SigningRequests/0197-original", "1 of 2",
					"Verified", "✓", "Jenkins vouched for the request.", "–", "https://sign.example.com/base/Web/0198-org/Account"} {
					if !strings.Contains(part, want) {
						t.Errorf("%q is missing in\n%s", want, part)
					}
				}
				if n := strings.Count(part, "Every branch is allowed."); n != 1 {
					t.Errorf("one reason is given %d times", n)
				}
			}
		})
	}
}

func TestSendMailFails(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		server        func(*smtptest.Server)
		strange       bool // the client does not know the server's root
		password      string
		status        int
		undeliverable bool
	}{
		"no STARTTLS":         {server: func(s *smtptest.Server) { s.OffersTLS = false }},
		"STARTTLS refused":    {server: func(s *smtptest.Server) { s.Answers = map[string]string{"STARTTLS": "454 not now"} }},
		"unknown certificate": {server: func(*smtptest.Server) {}, strange: true},
		"wrong password":      {server: func(s *smtptest.Server) { s.Password = "right" }, password: "wrong"},
		"no such mailbox":     {server: func(s *smtptest.Server) { s.Answers = map[string]string{"RCPT": "550 5.1.1 no such user"} }, status: 550, undeliverable: true},
		"greylisted":          {server: func(s *smtptest.Server) { s.Answers = map[string]string{"RCPT": "451 4.7.1 try later"} }, status: 451},
		"sender refused":      {server: func(s *smtptest.Server) { s.Answers = map[string]string{"MAIL": "550 5.7.1 not you"} }, status: 550},
		"content refused":     {server: func(s *smtptest.Server) { s.Answers = map[string]string{".": "554 5.6.0 spam"} }, status: 554, undeliverable: true},
		"content not yet":     {server: func(s *smtptest.Server) { s.Answers = map[string]string{".": "452 4.3.1 disk full"} }, status: 452},
		"relaying refused":    {server: func(s *smtptest.Server) { s.Answers = map[string]string{"RCPT": "554 5.7.1 relay access denied"} }, status: 554, undeliverable: true},
		"garbage":             {server: func(s *smtptest.Server) { s.Answers = map[string]string{"": "\x00\xff nonsense"} }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := smtptest.Start(t, c.server)
			config := MailConfig{Server: "smtp://" + s.Addr, From: "sign@acme.example", Public: public, TLS: &tls.Config{RootCAs: s.Roots}}
			if c.strange {
				config.TLS = nil
			}
			if c.password != "" {
				config.Server, config.Password = "smtp://robot@"+s.Addr, c.password
			}
			m, err := NewMailer(config)
			if err != nil {
				t.Fatal(err)
			}
			receipt, err := m.SendMail(t.Context(), exampleLetter())
			if err == nil || receipt.Status != c.status || errors.Is(err, signing.ErrUndeliverable) != c.undeliverable {
				t.Errorf("receipt %+v, error %v", receipt, err)
			}
			if c.password != "" && strings.Contains(err.Error(), c.password+" ") {
				t.Errorf("the error shows the password: %v", err)
			}
			for _, r := range s.Got() {
				if !r.Encrypted {
					t.Errorf("mail went out in clear: %+v", r)
				}
			}
		})
	}
	t.Run("accepted, then the connection fails", func(t *testing.T) {
		t.Parallel()
		s := smtptest.Start(t, func(s *smtptest.Server) { s.Answers = map[string]string{"RSET": "421 gone", "QUIT": "421 gone"} })
		m, err := NewMailer(MailConfig{Server: "smtp://" + s.Addr, From: "sign@acme.example", Public: public, TLS: &tls.Config{RootCAs: s.Roots}})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := m.SendMail(t.Context(), exampleLetter()); err != nil {
			t.Errorf("a mail that the server took over counts as failed: %v", err)
		}
	})
	t.Run("hangs", func(t *testing.T) {
		t.Parallel()
		s := smtptest.Start(t, func(s *smtptest.Server) { s.Hang = make(chan struct{}) })
		defer close(s.Hang)
		m, err := NewMailer(MailConfig{Server: "smtp://" + s.Addr, From: "sign@acme.example", Public: public})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		if _, err := m.SendMail(ctx, exampleLetter()); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("error %v", err)
		}
	})
}

func TestNewMailerRefuses(t *testing.T) {
	t.Parallel()
	good := MailConfig{Server: "smtp://robot@mail.example", Password: "s3cret", From: "sign@acme.example", Public: public}
	if _, err := NewMailer(good); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*MailConfig){
		"no scheme":           func(c *MailConfig) { c.Server = "mail.example:25" },
		"other scheme":        func(c *MailConfig) { c.Server = "http://mail.example" },
		"no host":             func(c *MailConfig) { c.Server = "smtp://:25" },
		"path":                func(c *MailConfig) { c.Server = "smtp://robot@mail.example/x" },
		"password in the URL": func(c *MailConfig) { c.Server = "smtp://robot:s3cret@mail.example" },
		"unknown encryption":  func(c *MailConfig) { c.Server = "smtp://robot@mail.example?tls=maybe" },
		"unknown setting":     func(c *MailConfig) { c.Server = "smtp://robot@mail.example?verify=false" },
		"bad port":            func(c *MailConfig) { c.Server = "smtp://robot@mail.example:99999" },
		"password in clear":   func(c *MailConfig) { c.Server = "smtp://robot@mail.example?tls=none" },
		"user alone":          func(c *MailConfig) { c.Password = "" },
		"password alone":      func(c *MailConfig) { c.Server = "smtp://mail.example" },
		"no sender":           func(c *MailConfig) { c.From = "" },
		"two senders":         func(c *MailConfig) { c.From = "a@b.example, c@d.example" },
		"header in sender":    func(c *MailConfig) { c.From = "a@b.example\r\nBcc: c@d.example" },
		"no public URL":       func(c *MailConfig) { c.Public = nil },
	} {
		c := good
		change(&c)
		if _, err := NewMailer(c); err == nil {
			t.Errorf("%s: accepted", name)
		} else if strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%s: the error shows the password: %v", name, err)
		}
	}
}

var hostile = []string{
	"x\r\nBcc: mallory@evil.example", "x\nSubject: other", "x\x00y", "<script>alert(1)</script>", `"><img src=x onerror=alert(1)>`,
	"javascript:alert(1)", "\u202egnp.exe", "a\u2028Bcc: b", "=?utf-8?q?=0D=0ABcc:_c@d.example?=", "\xff\xfe", strings.Repeat("ä", 5000),
	"{{.Link}}", "--\r\n.\r\nMAIL FROM:<x@y.example>", ".\r\n", "Signing request:\nhttps://evil.example/", "\x1b[2J", "&lt;b&gt;", "]]>",
}

// TestHostileText puts hostile strings into every field at once, sends the mail, and reads it with the standard library.
func TestHostileText(t *testing.T) {
	t.Parallel()
	s := smtptest.Start(t, func(*smtptest.Server) {})
	m, err := NewMailer(MailConfig{Server: "smtp://" + s.Addr, From: "sign@acme.example", Public: public, TLS: &tls.Config{RootCAs: s.Roots}})
	if err != nil {
		t.Fatal(err)
	}
	want := func() parsed {
		if _, err := m.SendMail(t.Context(), exampleLetter()); err != nil {
			t.Fatal(err)
		}
		return parse(t, s.Got()[0].Data)
	}()
	for i, h := range hostile {
		letter := exampleLetter()
		n := &letter.Notice
		n.Organization, n.Project, n.ProjectSlug, n.Policy, n.PolicySlug, n.FileName = h, h, h, h, h, h
		n.SHA256, n.Submitter, n.Description, n.By, n.Reason = h, h, h, h, h
		n.Origin = &signing.Origin{RepositoryURL: h, BranchName: h, CommitID: h, BuildURL: h}
		n.Certificate, n.CertificateSubject, n.Configuration, n.Parameters, n.OriginalPolicy = h, h, h, map[string]string{h: h}, h
		n.OriginChecks = []signing.Verification{{Result: signing.Passed, Explanation: h}}
		if _, err := m.SendMail(t.Context(), letter); err != nil {
			t.Errorf("%q: %v", h, err)
			continue
		}
		p := parse(t, s.Got()[i+1].Data)
		if len(p.header) != len(want.header) {
			t.Errorf("%q: headers %v, want those of %v", h, p.header, want.header)
		}
		for key, values := range p.header {
			if len(values) != 1 || key != "Subject" && key != "Date" && key != "Content-Type" && values[0] != want.header.Get(key) {
				t.Errorf("%q: header %s is %q", h, key, values)
			}
		}
		if !strings.HasPrefix(p.subject, "Approval requested: ") || strings.ContainsFunc(p.subject, isControl) || len([]rune(p.subject)) > 250 {
			t.Errorf("%q: subject %q", h, p.subject)
		}
		checkHTML(t, h, p.html)
		link := "https://sign.example.com/base/Web/0198-org/SigningRequests/0199-request"
		if strings.Count(p.html, `href="https://sign.example.com/base/Web/0198-org/`) != 3 || strings.Count(p.html, "href=") != 3 || !strings.Contains(p.html, `href="`+link+`"`) {
			t.Errorf("%q: links of the HTML part:\n%s", h, p.html)
		}
		// A stranger's lines cannot pass for the mail's own: they are quoted, or follow a label.
		if !strings.Contains(p.text, "\n\nSigning request:\n"+link+"\n") || strings.Count(p.text, "\nSigning request:\n") != 1 ||
			strings.Contains(p.text, "\nhttps://evil.example/") {
			t.Errorf("%q: text part:\n%s", h, p.text)
		}
		if strings.ContainsFunc(strings.ReplaceAll(p.text, "\n", ""), isControl) {
			t.Errorf("%q: control characters in the text part %q", h, p.text)
		}
	}
	for _, to := range []string{"", "ada", "a@b.example\r\nRCPT TO:<c@d.example>", "Ada <a@b.example>", "a@b.example, c@d.example", "\"a\r\nb\"@c.example"} {
		letter := exampleLetter()
		letter.To = to
		if _, err := m.SendMail(t.Context(), letter); !errors.Is(err, signing.ErrUndeliverable) {
			t.Errorf("address %q: %v", to, err)
		}
	}
	for _, r := range s.Got() {
		if !strings.HasPrefix(r.To, "TO:<ada@acme.example>") || strings.Count(r.To, "<") != 1 {
			t.Errorf("recipients %q", r.To)
		}
	}
}

// checkHTML reads the page with the standard library's parser and refuses elements that the template does not have.
func checkHTML(t *testing.T, name, page string) {
	t.Helper()
	known := map[string]bool{}
	for e := range strings.FieldsSeq("html head meta title style body h1 p div span table tr th td blockquote br a") {
		known[e] = true
	}
	d := xml.NewDecoder(strings.NewReader(page))
	d.Strict, d.AutoClose, d.Entity = false, xml.HTMLAutoClose, xml.HTMLEntity
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			t.Errorf("%q: %v in\n%s", name, err, page)
			return
		}
		if e, ok := token.(xml.StartElement); ok {
			if !known[e.Name.Local] {
				t.Errorf("%q: element %s", name, e.Name.Local)
			}
			for _, a := range e.Attr {
				if strings.HasPrefix(strings.ToLower(a.Name.Local), "on") || a.Name.Local == "src" {
					t.Errorf("%q: attribute %s", name, a.Name.Local)
				}
			}
		}
	}
}

// TestEveryEvent composes the mail of each event for each receiver.
func TestEveryEvent(t *testing.T) {
	t.Parallel()
	for event, title := range titles {
		for _, why := range []signing.Why{signing.AsApprover, signing.AsSubmitter, signing.AsOriginalSubmitter} {
			n := exampleLetter().Notice
			n.Event, n.Why, n.By, n.Reason = event, why, "Grace", "Not tested\nyet."
			c, err := Compose(n, public)
			if err != nil {
				t.Fatal(err)
			}
			asks := why == signing.AsApprover && (event == signing.EventApprovalRequested || event == signing.EventApprovalsFell)
			if !strings.HasPrefix(c.Subject, title+": ") || strings.Contains(c.Text, "approve or deny") != asks || strings.Contains(c.HTML, "approve or deny") != asks ||
				!strings.Contains(c.Text, "\n> Not tested\n> yet.\n") || strings.Contains(c.Text, "because .") {
				t.Errorf("%s for %s: %s\n%s", event, why, c.Subject, c.Text)
			}
		}
	}
	if _, err := Compose(signing.Notice{Event: signing.EventTest}, public); err == nil {
		t.Error("a mail about a test of a webhook was composed")
	}
}

// FuzzCompose puts the same text into every field: it never becomes markup, a header or a line of the mail's own.
func FuzzCompose(f *testing.F) {
	for _, h := range hostile {
		f.Add(h)
	}
	f.Fuzz(func(t *testing.T, text string) {
		n := exampleLetter().Notice
		n.Organization, n.Project, n.ProjectSlug, n.Policy, n.PolicySlug, n.FileName, n.SHA256, n.Submitter = text, text, text, text, text, text, text, text
		n.Description, n.By, n.Reason, n.Origin = text, text, text, &signing.Origin{RepositoryURL: text, BranchName: text, CommitID: text, BuildURL: text}
		n.Certificate, n.Configuration, n.Parameters, n.OriginalPolicy = text, text, map[string]string{text: text}, text
		c, err := Compose(n, public)
		if err != nil {
			t.Fatal(err)
		}
		if strings.ContainsFunc(c.Subject, isControl) || len([]rune(c.Subject)) > 250 {
			t.Errorf("subject %q", c.Subject)
		}
		checkHTML(t, text, c.HTML)
		if !strings.Contains(text, "href=") && strings.Count(c.HTML, "href=") != 3 {
			t.Errorf("links in\n%s", c.HTML)
		}
		own := map[string]bool{}
		for l := range strings.Lines(c.Text) {
			if l = strings.TrimSuffix(l, "\n"); strings.HasPrefix(l, "> ") || strings.Contains(l, ": ") {
				continue // a quote, or a value behind its label
			}
			if own[l] && l != "" {
				t.Errorf("the line %q is there twice in\n%s", l, c.Text)
			}
			own[l] = true
		}
	})
}
