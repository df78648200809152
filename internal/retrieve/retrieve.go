// Package retrieve fetches artifacts from retrieval links over HTTP.
package retrieve

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	"github.com/countersign-dev/countersign/internal/egress"
	"github.com/countersign-dev/countersign/internal/signing"
)

// timeout bounds a whole retrieval, silence how long a server may send nothing while it lasts.
const (
	timeout = time.Hour
	silence = 30 * time.Second
)

// Fetcher implements signing.Fetcher.
type Fetcher struct {
	policy  egress.Policy
	client  *http.Client
	silence time.Duration
}

// New returns a fetcher that reaches what the policy allows.
func New(policy egress.Policy) *Fetcher {
	return &Fetcher{policy: policy, client: policy.Client(timeout), silence: silence}
}

// Check parses the URL and applies the policy to it.
func (f *Fetcher) Check(raw string) error {
	u, err := url.Parse(raw)
	if err != nil {
		return errors.New("The text is not a URL.") //nolint:staticcheck // a sentence for the submitter
	}
	return f.policy.CheckURL(u)
}

// Fetch requests the URL with the headers. The content is decompressed when the server compressed it for transport. Server
// errors, rate limits and network errors, silence among them, are temporary; other answers than 200 and refusals of the policy
// are not.
func (f *Fetcher) Fetch(ctx context.Context, raw string, headers map[string]string) (_ io.ReadCloser, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer func() {
		if err != nil {
			cancel()
		}
	}()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, raw, nil)
	if err != nil {
		return nil, &signing.FetchError{Message: "the link is not a URL"}
	}
	if err := f.policy.CheckURL(req.URL); err != nil {
		return nil, &signing.FetchError{Message: err.Error()}
	}
	req.Header.Set("User-Agent", "Countersign")
	for name, value := range headers {
		req.Header.Set(name, value)
	}
	host := req.URL.Host // errors show no more: path and query may hold a token
	res, err := f.client.Do(req)
	if err != nil {
		if inner := (*url.Error)(nil); errors.As(err, &inner) {
			err = inner.Err
		}
		return nil, &signing.FetchError{Message: fmt.Sprintf("%s: %v", host, err), Temporary: !errors.Is(err, egress.ErrRefused)}
	}
	if res.StatusCode != http.StatusOK {
		_ = res.Body.Close()
		return nil, &signing.FetchError{
			Message:   fmt.Sprintf("%s answered %s", host, res.Status),
			Temporary: res.StatusCode >= 500 || res.StatusCode == http.StatusTooManyRequests || res.StatusCode == http.StatusRequestTimeout,
		}
	}
	return &content{body: res.Body, cancel: cancel, host: host, silence: f.silence, timer: time.AfterFunc(f.silence, cancel)}, nil
}

// content is an answer's body that ends when nothing of it came for a while: workers are too few to wait for what does not come.
type content struct {
	body    io.ReadCloser
	cancel  context.CancelFunc
	host    string
	silence time.Duration
	timer   *time.Timer
}

// Read reads what came.
func (c *content) Read(p []byte) (int, error) {
	n, err := c.body.Read(p)
	if !c.timer.Reset(c.silence) && err != nil && !errors.Is(err, io.EOF) { // it had gone off
		return n, &signing.FetchError{Message: fmt.Sprintf("%s sent nothing for %s", c.host, c.silence), Temporary: true}
	}
	return n, err
}

// Close breaks the connection off, unless everything was read.
func (c *content) Close() error {
	c.timer.Stop()
	defer c.cancel()
	return c.body.Close()
}
