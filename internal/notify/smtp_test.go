package notify

import (
	"bufio"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
)

// received is what the server got in one conversation.
type received struct {
	encrypted  bool
	user, pass string
	from, to   string
	data       string // with dots removed (RFC 5321, section 4.5.2) and CRLF line ends
}

// smtpServer is a mail server as RFC 5321, RFC 3207 (STARTTLS) and RFC 4954 (AUTH PLAIN) describe it, as far as one
// client needs it.
type smtpServer struct {
	addr        string
	certificate tls.Certificate
	roots       *x509.CertPool
	offersTLS   bool
	implicitTLS bool
	password    string            // asked for when not empty
	answers     map[string]string // by command, in place of the usual one; "." is the end of the data
	hang        chan struct{}     // when not nil, the server answers nothing until it is closed

	mu   sync.Mutex
	mail []received
}

func startSMTP(t *testing.T, change func(*smtpServer)) *smtpServer {
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
	s := &smtpServer{certificate: tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, roots: x509.NewCertPool(), offersTLS: true}
	s.roots.AddCert(leaf)
	change(s)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if s.implicitTLS {
		l = tls.NewListener(l, &tls.Config{Certificates: []tls.Certificate{s.certificate}})
	}
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	s.addr = "localhost:" + port
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

func (s *smtpServer) got() []received {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]received(nil), s.mail...)
}

func (s *smtpServer) serve(conn net.Conn) {
	defer func() { _ = conn.Close() }()
	_ = conn.SetDeadline(time.Now().Add(time.Minute))
	if s.hang != nil {
		<-s.hang
		return
	}
	r := bufio.NewReader(conn)
	got := received{encrypted: s.implicitTLS}
	say := func(command, usual string) bool {
		answer, ok := s.answers[command]
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
			if s.offersTLS && !got.encrypted {
				extensions = append(extensions, "STARTTLS")
			}
			if s.password != "" && got.encrypted {
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
				got.encrypted = true
			}
		case "AUTH":
			credentials, _ := base64.StdEncoding.DecodeString(strings.TrimPrefix(rest, "PLAIN "))
			parts := strings.Split(string(credentials), "\x00")
			if len(parts) != 3 || parts[2] != s.password {
				_, _ = fmt.Fprint(conn, "535 5.7.8 wrong\r\n")
				continue
			}
			got.user, got.pass = parts[1], parts[2]
			say(command, "235 welcome")
		case "MAIL":
			if s.password != "" && got.user == "" {
				_, _ = fmt.Fprint(conn, "530 5.7.0 authenticate first\r\n")
				continue
			}
			got.from = rest
			say(command, "250 ok")
		case "RCPT":
			got.to += rest
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
			got.data = data.String()
			s.mu.Lock()
			s.mail = append(s.mail, got)
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
