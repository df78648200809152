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

// timeout bounds a whole retrieval.
const timeout = time.Hour

// Fetcher implements signing.Fetcher.
type Fetcher struct {
	policy egress.Policy
	client *http.Client
}

// New returns a fetcher that reaches what the policy allows.
func New(policy egress.Policy) *Fetcher {
	return &Fetcher{policy: policy, client: policy.Client(timeout)}
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
// errors, rate limits and network errors are temporary; other answers than 200 and refusals of the policy are not.
func (f *Fetcher) Fetch(ctx context.Context, raw string, headers map[string]string) (io.ReadCloser, error) {
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
	return res.Body, nil
}
