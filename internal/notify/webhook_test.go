package notify

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/countersign-dev/countersign/internal/egress"
	"github.com/countersign-dev/countersign/internal/signing"
)

// verifyStandardWebhook is a receiver's side of Standard Webhooks 1.0.0, written from its text: headers of any case, a
// list of signatures with versions, five minutes of tolerance, comparison in constant time.
func verifyStandardWebhook(secret string, h http.Header, body []byte, now time.Time) error {
	key, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(secret, "whsec_"))
	if err != nil {
		return err
	}
	id, stamp, list := h.Get("webhook-id"), h.Get("webhook-timestamp"), h.Get("webhook-signature")
	seconds, err := strconv.ParseInt(stamp, 10, 64)
	if err != nil {
		return err
	}
	if now.Sub(time.Unix(seconds, 0)).Abs() > 5*time.Minute {
		return errors.New("the timestamp is out of tolerance")
	}
	mac := hmac.New(sha256.New, key)
	_, _ = io.WriteString(mac, id+"."+stamp+"."+string(body))
	for entry := range strings.FieldsSeq(list) {
		version, encoded, _ := strings.Cut(entry, ",")
		given, err := base64.StdEncoding.DecodeString(encoded)
		if err == nil && version == "v1" && hmac.Equal(given, mac.Sum(nil)) {
			return nil
		}
	}
	return errors.New("no signature fits")
}

// TestSignatureExample is the example of the Standard Webhooks specification's reference libraries.
func TestSignatureExample(t *testing.T) {
	t.Parallel()
	key, err := base64.StdEncoding.DecodeString("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
	if err != nil {
		t.Fatal(err)
	}
	got := signature(key, "msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", []byte(`{"test": 2432232314}`))
	if want := "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="; got != want {
		t.Errorf("signature %s, want %s", got, want)
	}
}

func TestCall(t *testing.T) {
	t.Parallel()
	key := []byte("0123456789abcdef0123456789abcdef")
	secret := "whsec_" + base64.StdEncoding.EncodeToString(key)
	body := `{"OrganizationId":"o","SigningRequestId":"r","Status":"Completed"}`
	type answer struct {
		header http.Header
		body   string
		err    error
	}
	got := make(chan answer, 1)
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, err := io.ReadAll(r.Body)
		if r.Method != http.MethodPost || r.URL.RequestURI() != "/hook?x=1" {
			err = errors.New(r.Method + " " + r.URL.RequestURI())
		}
		got <- answer{r.Header.Clone(), string(b), err}
		w.WriteHeader(http.StatusAccepted)
		_, _ = io.WriteString(w, strings.Repeat("thanks ", 1000))
	}))
	t.Cleanup(server.Close)
	w := NewWebhooks(egress.Policy{AllowPrivate: true})
	w.client.Transport.(*http.Transport).TLSClientConfig = server.Client().Transport.(*http.Transport).TLSClientConfig
	now := time.Now()
	receipt, err := w.Call(t.Context(), signing.WebhookCall{ID: "0199", At: now, URL: server.URL + "/hook?x=1", HeaderName: "Authorization", HeaderValue: "Bearer xyz", Secret: key, Body: []byte(body)})
	if err != nil || receipt.Status != http.StatusAccepted || len(receipt.Response) != maxExcerpt || !strings.HasPrefix(receipt.Response, "thanks ") {
		t.Errorf("receipt %d, %d bytes, %v", receipt.Status, len(receipt.Response), err)
	}
	a := <-got
	if a.err != nil || a.body != body || a.header.Get("Authorization") != "Bearer xyz" || a.header.Get("Content-Type") != "application/json" || a.header.Get("webhook-id") != "0199" {
		t.Errorf("received %+v", a)
	}
	if err := verifyStandardWebhook(secret, a.header, []byte(a.body), now); err != nil {
		t.Error(err)
	}
	// The verifier itself refuses what is not ours.
	if verifyStandardWebhook(secret, a.header, []byte(a.body+" "), now) == nil || verifyStandardWebhook(secret, a.header, []byte(a.body), now.Add(time.Hour)) == nil ||
		verifyStandardWebhook("whsec_AAAA", a.header, []byte(a.body), now) == nil {
		t.Error("another body, an old call or another secret verifies")
	}
}

func TestCallFails(t *testing.T) {
	t.Parallel()
	var elsewhere atomic.Int32
	release := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/fails":
			w.WriteHeader(http.StatusInternalServerError)
			_, _ = io.WriteString(w, "oops")
		case "/redirects":
			http.Redirect(w, r, "/elsewhere", http.StatusFound)
		case "/elsewhere":
			elsewhere.Add(1)
		case "/hangs":
			<-release
		case "/garbage":
			conn, buf, err := w.(http.Hijacker).Hijack()
			if err == nil {
				_, _ = buf.WriteString("\x16\x03\x01 this is not HTTP\r\n\r\n")
				_ = buf.Flush()
				_ = conn.Close()
			}
		case "/endless":
			for r.Context().Err() == nil {
				_, _ = w.Write(make([]byte, 64<<10))
			}
		case "/breaks":
			w.Header().Set("Content-Length", "100")
			_, _ = io.WriteString(w, "received, but")
		}
	}))
	t.Cleanup(server.Close)
	t.Cleanup(func() { close(release) })
	open := egress.Policy{AllowPrivate: true, AllowHTTP: true}
	for name, c := range map[string]struct {
		policy egress.Policy
		url    string
		status int
		says   string // part of the error; empty: it is none
	}{
		"fails":            {open, server.URL + "/fails?token=s3cret", 500, "status 500"},
		"redirects":        {open, server.URL + "/redirects", 302, "redirect"},
		"hangs":            {open, server.URL + "/hangs?token=s3cret", 0, "did not answer in time"},
		"garbage":          {open, server.URL + "/garbage?token=s3cret", 0, "malformed"},
		"endless":          {open, server.URL + "/endless", 200, ""},
		"breaks":           {open, server.URL + "/breaks", 200, ""},
		"nobody listens":   {open, "http://127.0.0.1:1/?token=s3cret", 0, "refused"},
		"private address":  {egress.Policy{AllowHTTP: true}, server.URL, 0, "private"},
		"private name":     {egress.Policy{AllowHTTP: true}, strings.Replace(server.URL, "127.0.0.1", "localhost", 1) + "/?token=s3cret", 0, "private"},
		"not encrypted":    {egress.Policy{AllowPrivate: true}, server.URL, 0, "https"},
		"user in the URL":  {open, "http://user:s3cret@127.0.0.1/", 0, "header"},
		"not a URL":        {open, "\x7f", 0, "not a URL"},
		"relative":         {open, "/hook", 0, "not a URL"},
		"name that is not": {open, "http://receiver.invalid/?token=s3cret", 0, "call the webhook"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx := t.Context()
			if name == "hangs" {
				limited, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
				defer cancel()
				ctx = limited
			}
			receipt, err := NewWebhooks(c.policy).Call(ctx, signing.WebhookCall{ID: "1", At: time.Now(), URL: c.url, Secret: []byte("k"), Body: []byte("{}")})
			if receipt.Status != c.status || (err == nil) != (c.says == "") || err != nil && !strings.Contains(err.Error(), c.says) {
				t.Errorf("receipt %+v, error %v", receipt, err)
			}
			if err != nil && strings.Contains(err.Error(), "s3cret") {
				t.Errorf("the error shows the URL's token: %v", err)
			}
			if len(receipt.Response) > maxExcerpt {
				t.Errorf("%d bytes of the answer were kept", len(receipt.Response))
			}
		})
	}
	t.Cleanup(func() {
		if n := elsewhere.Load(); n != 0 {
			t.Errorf("%d redirects were followed", n)
		}
	})
}
