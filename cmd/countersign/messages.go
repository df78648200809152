package main

import (
	"errors"
	"net/url"
	"os"

	"github.com/countersign-dev/countersign/internal/notify"
	"github.com/countersign-dev/countersign/internal/signing"
)

// messages says how people are told of signing requests. The mail server's password comes from the environment alone,
// because command lines and configuration files are read by many.
type messages struct {
	PublicURL  *url.URL `help:"Address under which people and clients reach the server, such as https://sign.example.com. The default is the listener's." placeholder:"URL"`
	MailServer string   `help:"Mail server for notifications: smtp://user@host:587?tls=starttls (the default), implicit or none. The password is taken from COUNTERSIGN_MAIL_PASSWORD. Without a server, nobody gets mail." placeholder:"URL"`
	MailFrom   string   `help:"Sender of notifications, such as 'Countersign <sign@example.com>'." placeholder:"ADDRESS"`
}

// checkPublicURL refuses what browsers and clients could not use.
func (m messages) checkPublicURL() error {
	if m.PublicURL == nil {
		return nil
	}
	return checkPublicURL(m.PublicURL)
}

// checkPublicURL refuses what is no origin (RFC 6454): everything is served from the root of a host.
func checkPublicURL(u *url.URL) error {
	if u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return errors.New("--public-url must be an absolute http or https URL, such as https://sign.example.com")
	}
	if u.User != nil || u.Path != "" && u.Path != "/" || u.RawQuery != "" || u.Fragment != "" {
		return errors.New("--public-url must be nothing but scheme, host and port, such as https://sign.example.com")
	}
	return nil
}

// mailer returns what sends mail, nil when no mail server is named. listener is the address that links have unless a
// public one is named.
func (m messages) mailer(listener *url.URL) (signing.MailSender, error) {
	if m.MailServer == "" {
		return nil, nil
	}
	public := m.PublicURL
	if public == nil {
		public = listener
	}
	mailer, err := notify.NewMailer(notify.MailConfig{
		Server: m.MailServer, Password: os.Getenv("COUNTERSIGN_MAIL_PASSWORD"), From: m.MailFrom, Public: public,
	})
	if err != nil {
		return nil, &exitError{exitUsage, err}
	}
	return mailer, nil
}
