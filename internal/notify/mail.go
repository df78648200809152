// Package notify carries messages out of the house: mail over SMTP, and calls of webhooks over HTTP.
package notify

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/mail"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	gomail "github.com/wneessen/go-mail"

	"github.com/countersign-dev/countersign/internal/signing"
)

// MailConfig says how to send mail.
type MailConfig struct {
	// Server is smtp://[user@]host[:port][?tls=starttls|implicit|none]. STARTTLS is the default and then required. The
	// default ports are 587, 465 and 25.
	Server   string
	Password string
	From     string   // address, or name with address in angle brackets
	Public   *url.URL // where people reach the server, for links to requests
	TLS      *tls.Config
}

// Mailer sends mail through one server. It implements signing.MailSender.
type Mailer struct {
	from   *mail.Address
	domain string // of Message-IDs
	public *url.URL
	host   string
	// encryption is starttls, implicit or none.
	encryption string
	tls        *tls.Config // of a connection that is encrypted from its beginning; else nil
	options    []gomail.Option
}

// mailTimeout bounds the conversation with a mail server up to the mail, and again the mail itself.
const mailTimeout = 30 * time.Second

// NewMailer checks the configuration. It does not connect.
func NewMailer(c MailConfig) (*Mailer, error) {
	u, err := url.Parse(c.Server)
	if err != nil || u.Scheme != "smtp" || u.Hostname() == "" || strings.Trim(u.Path, "/") != "" || u.Opaque != "" {
		return nil, errors.New("the mail server must be given as smtp://user@host:587?tls=starttls")
	}
	if _, has := u.User.Password(); has {
		return nil, errors.New("the mail server's URL carries a password, which would show in process lists: give it as COUNTERSIGN_MAIL_PASSWORD")
	}
	from, err := mail.ParseAddress(c.From)
	if err != nil {
		return nil, fmt.Errorf("the mails' sender %q is not an address such as 'Countersign <sign@example.com>': %w", c.From, err)
	}
	if c.Public == nil {
		return nil, errors.New("mails carry links: the server's public URL is needed (--public-url)")
	}
	for key := range u.Query() {
		if key != "tls" {
			return nil, fmt.Errorf("the mail server's URL has an unknown setting %q: there is only tls", key)
		}
	}
	m := &Mailer{from: from, domain: from.Address[strings.LastIndex(from.Address, "@")+1:], public: c.Public, host: u.Hostname(), encryption: cmp.Or(u.Query().Get("tls"), "starttls")}
	port := map[string]int{"starttls": 587, "implicit": 465, "none": 25}[m.encryption]
	if port == 0 {
		return nil, fmt.Errorf("the mail server's URL says tls=%s: it is starttls, implicit or none", m.encryption)
	}
	if p := u.Port(); p != "" {
		if port, err = strconv.Atoi(p); err != nil {
			return nil, fmt.Errorf("the mail server's port %q is not a number", p)
		}
	}
	settings := &tls.Config{}
	if c.TLS != nil {
		settings = c.TLS.Clone()
	}
	settings.ServerName, settings.MinVersion = m.host, tls.VersionTLS12
	m.options = []gomail.Option{gomail.WithPort(port), gomail.WithTimeout(mailTimeout), gomail.WithTLSConfig(settings), gomail.WithoutNoop()}
	switch m.encryption {
	case "starttls":
		m.options = append(m.options, gomail.WithTLSPolicy(gomail.TLSMandatory))
	case "implicit":
		m.tls = settings
		m.options = append(m.options, gomail.WithTLSPolicy(gomail.NoTLS))
	case "none":
		m.options = append(m.options, gomail.WithTLSPolicy(gomail.NoTLS))
	}
	switch user := u.User.Username(); {
	case user == "" && c.Password == "":
	case user == "" || c.Password == "":
		return nil, errors.New("the mail server's user and password go together: smtp://user@host and COUNTERSIGN_MAIL_PASSWORD")
	case m.encryption == "none":
		return nil, errors.New("the password is not sent to a mail server without TLS: use tls=starttls or tls=implicit")
	default:
		m.options = append(m.options, gomail.WithUsername(user), gomail.WithPassword(c.Password),
			gomail.WithOpportunisticSMTPAuth(gomail.SMTPAuthSCRAMSHA256, gomail.SMTPAuthPlain, gomail.SMTPAuthLogin, gomail.SMTPAuthCramMD5))
	}
	_, err = gomail.NewClient(m.host, m.options...)
	return m, err
}

// SendMail implements signing.MailSender. Each mail takes a connection of its own.
func (m *Mailer) SendMail(ctx context.Context, letter signing.Mail) (signing.Receipt, error) {
	msg, err := m.message(letter)
	if err != nil {
		return signing.Receipt{}, errors.Join(err, signing.ErrUndeliverable)
	}
	client, hangUp, err := m.client(ctx)
	if err != nil {
		return signing.Receipt{}, err
	}
	err = client.DialAndSendWithContext(ctx, msg)
	hangUp()
	if err == nil || msg.IsDelivered() { // the rest of the conversation does not matter
		return signing.Receipt{Status: 250, Response: msg.ServerResponse()}, nil
	}
	if ctx.Err() != nil {
		return signing.Receipt{}, fmt.Errorf("the mail server took too long: %w", ctx.Err())
	}
	if timedOut(err) {
		return signing.Receipt{}, fmt.Errorf("the mail server did not answer in time; does it speak TLS as tls=%s says? %w", m.encryption, err)
	}
	var refused *gomail.SendError
	if !errors.As(err, &refused) {
		return signing.Receipt{}, fmt.Errorf("send the mail: %w", err)
	}
	code := refused.ErrorCode()
	err = fmt.Errorf("the mail server refused the mail: %w", err)
	// RFC 5321, section 4.2.1: this mail will not be taken later either. A sender who is refused is a matter of settings.
	if code >= 500 && refused.Reason != gomail.ErrSMTPMailFrom {
		err = errors.Join(err, signing.ErrUndeliverable)
	}
	return signing.Receipt{Status: code}, err
}

// client returns a client for one connection, which hangUp closes. The library leaves one open when a greeting or a sign-in
// fails, and heeds ctx only until it is connected; so the connection is closed with ctx, too.
func (m *Mailer) client(ctx context.Context) (c *gomail.Client, hangUp func(), err error) {
	stops := []func(){}
	dial := func(ctxDial context.Context, network, address string) (net.Conn, error) {
		conn, err := (&net.Dialer{}).DialContext(ctxDial, network, address)
		if err != nil {
			return nil, err
		}
		stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
		stops = append(stops, func() { stop(); _ = conn.Close() })
		if m.tls == nil {
			return conn, nil
		}
		encrypted := tls.Client(conn, m.tls)
		return encrypted, encrypted.HandshakeContext(ctxDial)
	}
	c, err = gomail.NewClient(m.host, append(slices.Clip(m.options), gomail.WithDialContextFunc(dial))...)
	return c, func() {
		for _, stop := range stops {
			stop()
		}
	}, err
}

// message builds the mail (RFC 5322), the same each time: its Message-ID is the delivery's, so that a mail that is sent
// twice is recognised, and mails about one request refer to it, so that they form a thread.
func (m *Mailer) message(letter signing.Mail) (*gomail.Msg, error) {
	content, err := Compose(letter.Notice, m.public)
	if err != nil {
		return nil, err
	}
	to, err := mail.ParseAddress(letter.To)
	if err != nil || to.Address != letter.To || strings.ContainsFunc(letter.To, isControl) {
		return nil, fmt.Errorf("%q is not an e-mail address", letter.To)
	}
	msg := gomail.NewMsg()
	msg.FromMailAddress(m.from)
	msg.ToMailAddress(to)
	// The library encodes only what is not ASCII, but readers decode whatever looks encoded (RFC 2047).
	msg.Subject(strings.ReplaceAll(content.Subject, "=?", "= ?"))
	msg.SetDate()
	msg.SetMessageIDWithValue(string(letter.ID) + "@" + m.domain)
	thread := "<" + string(letter.Notice.RequestID) + "@" + m.domain + ">" // of no mail: readers file all below it
	msg.SetGenHeader(gomail.HeaderInReplyTo, thread)
	msg.SetGenHeader(gomail.HeaderReferences, thread)
	msg.SetGenHeader("Auto-Submitted", "auto-generated") // RFC 3834, section 5
	msg.SetGenHeader("X-Auto-Response-Suppress", "All")
	msg.SetBodyString(gomail.TypeTextPlain, content.Text)
	msg.AddAlternativeString(gomail.TypeTextHTML, content.HTML)
	return msg, nil
}
