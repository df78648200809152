package notify

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/countersign-dev/countersign/internal/egress"
	"github.com/countersign-dev/countersign/internal/signing"
)

const (
	callTimeout = 20 * time.Second // of a whole call
	maxExcerpt  = 2 << 10          // bytes of an answer that are kept
)

// Webhooks calls webhooks over HTTP, signed as Standard Webhooks 1.0.0 says. It implements signing.WebhookSender.
type Webhooks struct {
	policy egress.Policy
	client *http.Client
}

// NewWebhooks returns a sender that reaches what the policy allows and follows no redirect.
func NewWebhooks(p egress.Policy) *Webhooks {
	client := p.Client(callTimeout)
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &Webhooks{policy: p, client: client}
}

// Check implements signing.WebhookSender.
func (w *Webhooks) Check(raw string) error {
	_, err := w.parse(raw)
	return err
}

func (w *Webhooks) parse(raw string) (*url.URL, error) {
	u, err := url.Parse(raw)
	if err != nil || !u.IsAbs() {
		return nil, errors.New("this is not a URL; give one like https://example.com/hook")
	}
	return u, w.policy.CheckURL(u)
}

// Call implements signing.WebhookSender. The headers webhook-id, webhook-timestamp (seconds since 1970) and
// webhook-signature ("v1," and the base64 of an HMAC-SHA256) let the receiver tell that the body came from here, is
// fresh, and was not seen before.
func (w *Webhooks) Call(ctx context.Context, c signing.WebhookCall) (signing.Receipt, error) {
	u, err := w.parse(c.URL)
	if err != nil {
		return signing.Receipt{}, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, u.String(), bytes.NewReader(c.Body))
	if err != nil {
		return signing.Receipt{}, fmt.Errorf("make the call: %w", bare(err))
	}
	timestamp := strconv.FormatInt(c.At.Unix(), 10)
	if c.HeaderName != "" {
		req.Header.Set(c.HeaderName, c.HeaderValue)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", "Countersign")
	req.Header.Set("Webhook-Id", string(c.ID))
	req.Header.Set("Webhook-Timestamp", timestamp)
	req.Header.Set("Webhook-Signature", signature(c.Secret, string(c.ID), timestamp, c.Body))
	res, err := w.client.Do(req)
	if err != nil {
		if timedOut(err) {
			return signing.Receipt{}, fmt.Errorf("the receiver did not answer in time: %w", bare(err))
		}
		return signing.Receipt{}, fmt.Errorf("call the webhook: %w", bare(err))
	}
	defer res.Body.Close()
	// The status decides: an answer that breaks off in its body has been given.
	excerpt, _ := io.ReadAll(io.LimitReader(res.Body, maxExcerpt))
	receipt := signing.Receipt{Status: res.StatusCode, Response: string(excerpt)}
	switch {
	case res.StatusCode >= 200 && res.StatusCode < 300:
		return receipt, nil
	case res.StatusCode >= 300 && res.StatusCode < 400:
		return receipt, fmt.Errorf("the receiver answered with a redirect (status %d), which is not followed: enter the final URL", res.StatusCode)
	}
	return receipt, fmt.Errorf("the receiver answered with status %d; only 2xx counts as received", res.StatusCode)
}

// signature returns the value of the webhook-signature header (Standard Webhooks 1.0.0, "Signature scheme").
func signature(secret []byte, id, timestamp string, body []byte) string {
	mac := hmac.New(sha256.New, secret)
	mac.Write([]byte(id + "." + timestamp + "."))
	mac.Write(body)
	return "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil))
}

func timedOut(err error) bool {
	var e net.Error
	return errors.As(err, &e) && e.Timeout()
}

// bare drops the URL from an error of the HTTP client: it may carry a token.
func bare(err error) error {
	var e *url.Error
	if errors.As(err, &e) {
		return e.Err
	}
	return err
}
