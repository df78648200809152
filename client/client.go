// Package client talks to a Countersign server: it submits artifacts, follows signing requests, decides on them and
// downloads what was signed.
//
// Submitting and downloading stream, so that memory does not grow with the artifact. What is worth another try is tried
// again: answers with status 429, 502, 503 and 504, and connections that fail, break or stall, as far as a repetition can
// do no harm. Refusals of the server are an [*Error].
package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/countersign-dev/countersign/api"
)

// Client is a connection to one organization. It is immutable and safe for concurrent use.
type Client struct {
	api          *api.Client
	organization string
	retry        Retry
	poll         time.Duration
}

// Retry says how often and how fast to try again.
type Retry struct {
	Attempts int           // tries in all, at least 1
	First    time.Duration // pause after the first try; each further one is up to twice as long
	Longest  time.Duration // bound of a pause, a pause that the server asks for included
}

type options struct {
	http        *http.Client
	userAgent   string
	buildSystem string
	retry       Retry
	stall, poll time.Duration
}

// Option changes how a [Client] works.
type Option func(*options)

// WithHTTPClient uses the client's transport and cookie jar. Its time-out would bound whole up- and downloads; leave it at
// zero and use contexts. Redirects are followed for reading only, whatever the client says.
func WithHTTPClient(c *http.Client) Option { return func(o *options) { o.http = c } }

// WithUserAgent sets the User-Agent header.
func WithUserAgent(agent string) Option { return func(o *options) { o.userAgent = agent } }

// WithTrustedBuildSystem sends a trusted build system's token beside the API token, so that the server takes origin data.
func WithTrustedBuildSystem(token string) Option { return func(o *options) { o.buildSystem = token } }

// WithRetry replaces the default of 6 attempts, 250 ms and 30 s.
func WithRetry(r Retry) Option { return func(o *options) { o.retry = r } }

// WithStall gives up an attempt when no byte moved for so long; the default is one minute.
func WithStall(d time.Duration) Option { return func(o *options) { o.stall = d } }

// WithPoll sets the pause before the second look at a request's status in [Client.Wait]; the default is 200 ms. The pauses
// grow to fifty times that.
func WithPoll(d time.Duration) Option { return func(o *options) { o.poll = d } }

// New returns a client of the organization (a GUID) on the server at baseURL, such as https://sign.example.com, with or
// without the path /Api or /Api/v1. The token is an API token. New does not connect.
func New(baseURL, token, organization string, opts ...Option) (*Client, error) {
	o := options{http: &http.Client{}, userAgent: "countersign-client", retry: Retry{6, 250 * time.Millisecond, 30 * time.Second},
		stall: time.Minute, poll: 200 * time.Millisecond}
	for _, opt := range opts {
		opt(&o)
	}
	base, err := apiURL(baseURL)
	if err != nil {
		return nil, err
	}
	if o.buildSystem != "" {
		token += ":" + o.buildSystem
	}
	if strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return nil, errors.New("client: the token has characters that no token has, such as blanks or line breaks; check how it was copied")
	}
	h := *o.http
	h.CheckRedirect = readOnlyRedirects
	c := &Client{organization: strings.ToLower(organization), retry: o.retry, poll: o.poll}
	c.api, err = api.NewClient(base, api.WithHTTPClient(&doer{&h, o.stall}), api.WithRequestEditorFn(func(_ context.Context, r *http.Request) error {
		if token != "" {
			r.Header.Set("Authorization", "Bearer "+token)
		}
		r.Header.Set("User-Agent", o.userAgent)
		return nil
	}))
	return c, err
}

// apiURL returns the address below which the REST API answers.
func apiURL(base string) (string, error) {
	u, err := url.Parse(base)
	if err != nil {
		return "", fmt.Errorf("client: the server's address: %w", err)
	}
	if u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.RawQuery != "" || u.Fragment != "" {
		return "", fmt.Errorf("client: %q is not a server's address, such as https://sign.example.com", base)
	}
	if path, version := strings.CutSuffix(strings.TrimRight(u.Path, "/"), "/v1"); version {
		u.Path = path
	}
	path := strings.Trim(u.Path, "/")
	if last := path[strings.LastIndexByte(path, '/')+1:]; !strings.EqualFold(last, "api") {
		u = u.JoinPath("Api")
	}
	return u.String(), nil
}

// readOnlyRedirects follows the redirects of reading requests. Following that of another one would turn it into a GET or
// send the artifact elsewhere; it is answered with the redirect, as an *Error that names the target.
func readOnlyRedirects(r *http.Request, via []*http.Request) error {
	if len(via) >= 10 {
		return errors.New("more than 10 redirects")
	}
	if r.URL.Scheme != via[0].URL.Scheme || r.URL.Host != via[0].URL.Host {
		return http.ErrUseLastResponse // the token is not for others
	}
	if via[0].Method != http.MethodGet {
		return http.ErrUseLastResponse
	}
	return nil
}

// answerLimit bounds answers that are read into memory.
const answerLimit = 64 << 20

// get sends a request that may be repeated, and decodes its JSON answer.
func get[T any](ctx context.Context, c *Client, request func() (*http.Response, error)) (*T, error) {
	return exchange[T](ctx, c, repeatable, request)
}

// post sends a request that must not be carried out twice, and decodes its JSON answer.
func post[T any](ctx context.Context, c *Client, request func() (*http.Response, error)) (*T, error) {
	return exchange[T](ctx, c, once, request)
}

func exchange[T any](ctx context.Context, c *Client, again repetition, request func() (*http.Response, error)) (*T, error) {
	raw, err := c.content(ctx, again, request)
	if err != nil {
		return nil, err
	}
	v := new(T)
	if err := json.Unmarshal(raw, v); err != nil {
		return nil, fmt.Errorf("client: the answer is not what the API answers; is %s a Countersign server's address? %w", c.api.Server, err)
	}
	return v, nil
}

// content sends a request and reads its answer whole.
func (c *Client) content(ctx context.Context, again repetition, request func() (*http.Response, error)) (raw []byte, err error) {
	err = c.try(ctx, again, func() error {
		resp, err := request()
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		if raw, err = io.ReadAll(io.LimitReader(resp.Body, answerLimit+1)); err == nil && len(raw) > answerLimit {
			err = fmt.Errorf("the answer of %s is larger than %d bytes", resp.Request.URL.Redacted(), answerLimit)
		}
		return err
	})
	return raw, err
}

// SystemInfo tells the server's product and version. It needs no token.
func (c *Client) SystemInfo(ctx context.Context) (*api.SystemInfo, error) {
	return get[api.SystemInfo](ctx, c, func() (*http.Response, error) { return c.api.GetSystemInfo(ctx) })
}

// Projects lists the projects that the caller may read, with their policies and artifact configurations.
func (c *Client) Projects(ctx context.Context) ([]api.Project, error) {
	list, err := get[[]api.Project](ctx, c, func() (*http.Response, error) { return c.api.ListProjects(ctx, c.organization) })
	if err != nil {
		return nil, err
	}
	return *list, nil
}

// Project returns the project of the slug.
func (c *Client) Project(ctx context.Context, slug string) (*api.Project, error) {
	return get[api.Project](ctx, c, func() (*http.Response, error) { return c.api.GetProject(ctx, c.organization, slug) })
}
