package main

import (
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
