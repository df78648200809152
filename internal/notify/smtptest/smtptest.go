// Package smtptest is a mail server for tests.
package smtptest

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"fmt"
	"math/big"
	"net"
	"strings"
	"sync"
	"testing"
	"time"
)

// Mail is what the server got in one conversation.
type Mail struct {
	Encrypted      bool
	User, Password string
	From, To       string // the commands' arguments
	Data           string // with dots removed (RFC 5321, section 4.5.2) and CRLF line ends
}

// Server is a mail server as RFC 5321, RFC 3207 (STARTTLS) and RFC 4954 (AUTH PLAIN) describe it, as far as one client
// needs it.
type Server struct {
	Addr        string // host and port
	Roots       *x509.CertPool
	OffersTLS   bool
	ImplicitTLS bool
	Password    string            // asked for when not empty
	Answers     map[string]string // by command, in place of the usual one; "" is the greeting, "." the end of the data
	Hang        chan struct{}     // when not nil, the server answers nothing until it is closed

	certificate tls.Certificate
	mu          sync.Mutex
	mail        []Mail
	arrived     chan struct{} // closed and made anew with each mail
}

// Start runs a server on a port of its own, with STARTTLS on offer, until the test ends. change sets it up; nil for nothing.
func Start(t testing.TB, change func(*Server)) *Server {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "mail"}, DNSNames: []string{"localhost"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	s := &Server{certificate: tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, Roots: x509.NewCertPool(), OffersTLS: true, arrived: make(chan struct{})}
	s.Roots.AddCert(leaf)
	if change != nil {
		change(s)
	}
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if s.ImplicitTLS {
		l = tls.NewListener(l, &tls.Config{Certificates: []tls.Certificate{s.certificate}})
	}
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	s.Addr = "localhost:" + port
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { s.serve(conn) })
		}
	})
	t.Cleanup(func() { _ = l.Close(); wg.Wait() })
	return s
}

// Got returns the mails so far.
func (s *Server) Got() []Mail {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]Mail(nil), s.mail...)
}

// Wait returns the mails so far as soon as there are n of them, and fails the test when they do not come.
func (s *Server) Wait(t testing.TB, n int) []Mail {
	t.Helper()
	late := time.After(30 * time.Second)
	for {
		s.mu.Lock()
		arrived := s.arrived
		s.mu.Unlock()
		if got := s.Got(); len(got) >= n {
			return got
		}
		select {
		case <-arrived:
		case <-late:
			t.Fatalf("%d mails came, not %d", len(s.Got()), n)
		}
	}
}

func (s *Server) serve(conn net.Conn) {
	defer func() { _ = conn.Close() }()
	_ = conn.SetDeadline(time.Now().Add(time.Minute))
	if s.Hang != nil {
		<-s.Hang
		return
	}
	r := bufio.NewReader(conn)
	got := Mail{Encrypted: s.ImplicitTLS}
	say := func(command, usual string) bool {
		answer, ok := s.Answers[command]
		if !ok {
			answer = usual
		}
		_, _ = fmt.Fprintf(conn, "%s\r\n", answer)
		return answer == usual
	}
	say("", "220 mail.example ESMTP")
	for {
		raw, err := r.ReadString('\n')
		if err != nil {
			return
		}
		text := strings.TrimSuffix(raw, "\r\n")
		command, rest, _ := strings.Cut(text, " ")
		switch command = strings.ToUpper(command); command {
		case "EHLO":
			extensions := []string{"mail.example", "8BITMIME", "SMTPUTF8", "ENHANCEDSTATUSCODES"}
			if s.OffersTLS && !got.Encrypted {
				extensions = append(extensions, "STARTTLS")
			}
			if s.Password != "" && got.Encrypted {
				extensions = append(extensions, "AUTH PLAIN")
			}
			for i, e := range extensions {
				separator := "-"
				if i == len(extensions)-1 {
					separator = " "
				}
				_, _ = fmt.Fprintf(conn, "250%s%s\r\n", separator, e)
			}
		case "STARTTLS":
			if say(command, "220 go ahead") {
				conn = tls.Server(conn, &tls.Config{Certificates: []tls.Certificate{s.certificate}})
				r = bufio.NewReader(conn)
				got.Encrypted = true
			}
		case "AUTH":
			credentials, _ := base64.StdEncoding.DecodeString(strings.TrimPrefix(rest, "PLAIN "))
			parts := strings.Split(string(credentials), "\x00")
			if len(parts) != 3 || parts[2] != s.Password {
				_, _ = fmt.Fprint(conn, "535 5.7.8 wrong\r\n")
				continue
			}
			got.User, got.Password = parts[1], parts[2]
			say(command, "235 welcome")
		case "MAIL":
			if s.Password != "" && got.User == "" {
				_, _ = fmt.Fprint(conn, "530 5.7.0 authenticate first\r\n")
				continue
			}
			got.From = rest
			say(command, "250 ok")
		case "RCPT":
			got.To += rest
			say(command, "250 ok")
		case "DATA":
			if !say(command, "354 send it") {
				continue
			}
			var data strings.Builder
			for {
				raw, err := r.ReadString('\n')
				if err != nil {
					return
				}
				if raw == ".\r\n" {
					break
				}
				data.WriteString(strings.TrimPrefix(raw, "."))
			}
			got.Data = data.String()
			s.mu.Lock()
			s.mail = append(s.mail, got)
			close(s.arrived)
			s.arrived = make(chan struct{})
			s.mu.Unlock()
			say(".", "250 2.0.0 queued as 42")
		case "QUIT":
			say(command, "221 bye")
			return
		default:
			say(command, "250 ok")
		}
	}
}
