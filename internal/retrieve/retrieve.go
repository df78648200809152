// Package retrieve fetches artifacts from retrieval links over HTTP.
package retrieve

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
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
		return errors.New("the text is not a URL")
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
		return nil, &signing.FetchError{Message: host + ": " + reason(err), Temporary: !errors.Is(err, egress.ErrRefused)}
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
	inTime := c.timer.Reset(c.silence)
	switch {
	case err == nil, err == io.EOF:
		return n, err
	case !inTime:
		return n, &signing.FetchError{Message: fmt.Sprintf("%s sent nothing for %s", c.host, c.silence), Temporary: true}
	}
	return n, &signing.FetchError{Message: c.host + ": " + reason(err), Temporary: true}
}

// reason words why an exchange failed for whoever submitted the link: without the URL, which may hold a token, and without
// addresses of this server's network.
func reason(err error) string {
	var (
		address *url.Error
		lookup  *net.DNSError
		network *net.OpError
	)
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return "it took too long"
	case errors.Is(err, io.ErrUnexpectedEOF):
		return "the content ended early"
	case errors.As(err, &lookup) && lookup.IsNotFound:
		return "there is no host of this name"
	case errors.As(err, &lookup):
		return "the host's name could not be looked up"
	case errors.As(err, &network):
		return network.Err.Error()
	case errors.As(err, &address):
		return address.Err.Error()
	}
	return err.Error()
}

// Close breaks the connection off, unless everything was read.
func (c *content) Close() error {
	c.timer.Stop()
	defer c.cancel()
	return c.body.Close()
}
