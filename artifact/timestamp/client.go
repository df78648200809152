package timestamp

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/subtle"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"net/url"
	"time"

	"github.com/countersign-dev/countersign/artifact/cms"
)

const (
	queryType = "application/timestamp-query" // RFC 3161 section 3.4
	replyType = "application/timestamp-reply"
)

// ClientOptions are the optional settings of a Client.
type ClientOptions struct {
	Timeout     time.Duration         // of a whole exchange; 30 seconds when zero
	MaxResponse int64                 // octets; 256 KiB when zero
	Policy      asn1.ObjectIdentifier // policy to ask for; none when nil
	Roots       *x509.CertPool        // when set, the authority's certificate must chain to one of them
}

// Client asks one authority over HTTP (RFC 3161 section 3.4).
type Client struct {
	url     string
	name    string // url without credentials, for messages
	http    *http.Client
	options ClientOptions
}

// NewClient returns the client of the authority at an http or https URL. Both are
// safe: a token is signed and bound to its request by imprint and nonce. A user
// name and password in the URL are sent as basic authentication. Requests go
// through httpClient, whose transport decides what may be reached.
func NewClient(authority string, httpClient *http.Client, options ClientOptions) (*Client, error) {
	u, err := url.Parse(authority)
	if err != nil {
		// The error of url.Parse would show the credentials.
		return nil, errors.New("timestamp: the authority's address is not a URL")
	}
	if u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return nil, fmt.Errorf("timestamp: the authority's address %s is not an http or https URL", u.Redacted())
	}
	if httpClient == nil {
		return nil, errors.New("timestamp: a client needs an *http.Client")
	}
	if options.Timeout <= 0 {
		options.Timeout = 30 * time.Second
	}
	if options.MaxResponse <= 0 {
		options.MaxResponse = 256 << 10
	}
	return &Client{url: authority, name: u.Redacted(), http: httpClient, options: options}, nil
}

// Timestamp asks the authority and checks the answer: its status, imprint, nonce
// and policy, the signature, and that the certificate is for time stamping. An
// answer without token gives a *RejectedError.
func (c *Client) Timestamp(ctx context.Context, digest []byte, hash crypto.Hash) ([]byte, error) {
	if err := checkImprint(digest, hash); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, c.options.Timeout)
	defer cancel()

	query := request{hash: hash, digest: digest, policy: c.options.Policy, nonce: newSerial(), certificates: true}
	der, err := query.marshal()
	if err != nil {
		return nil, fmt.Errorf("timestamp: %w", err)
	}
	reply, mediaType, err := c.post(ctx, der)
	if err != nil {
		return nil, fmt.Errorf("timestamp: %s: %w", c.name, err)
	}
	token, err := c.check(reply, &query)
	if err != nil {
		var parse *ParseError
		if errors.As(err, &parse) && mediaType != replyType {
			err = fmt.Errorf("%w (the answer is %q, not %s: is this the address of a time-stamp authority?)", err, mediaType, replyType)
		}
		return nil, fmt.Errorf("timestamp: %s: %w", c.name, err)
	}
	return token, nil
}

func (c *Client) post(ctx context.Context, query []byte) (reply []byte, mediaType string, err error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, c.url, bytes.NewReader(query))
	if err != nil {
		return nil, "", errors.New("the address is not usable")
	}
	r.Header.Set("Content-Type", queryType)
	r.Header.Set("Accept", replyType)
	response, err := c.http.Do(r)
	if err != nil {
		var u *url.Error
		if errors.As(err, &u) { // without the address, which the caller names
			err = u.Err
		}
		return nil, "", err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return nil, "", fmt.Errorf("the authority answered with HTTP status %d", response.StatusCode)
	}
	reply, err = io.ReadAll(io.LimitReader(response.Body, c.options.MaxResponse+1))
	if err != nil {
		return nil, "", fmt.Errorf("reading the answer: %w", err)
	}
	if int64(len(reply)) > c.options.MaxResponse {
		return nil, "", fmt.Errorf("the answer has more than %d octets", c.options.MaxResponse)
	}
	return reply, response.Header.Get("Content-Type"), nil
}

// check returns the token of a response that answers the query.
func (c *Client) check(reply []byte, query *request) ([]byte, error) {
	der, err := parseResponse(reply)
	if err != nil {
		return nil, err
	}
	token, authority, err := parseToken(der)
	if err != nil {
		return nil, err
	}
	if token.Hash != query.hash || subtle.ConstantTimeCompare(token.Imprint, query.digest) != 1 {
		return nil, errors.New("the token is for another message imprint than the one asked for")
	}
	if token.Nonce == nil || token.Nonce.Cmp(query.nonce) != 0 {
		return nil, errors.New("the token does not carry the nonce of the request; it may be a replay")
	}
	if query.policy != nil && !token.Policy.Equal(query.policy) {
		return nil, fmt.Errorf("the token has policy %v, not %v as asked for", token.Policy, query.policy)
	}
	if c.options.Roots == nil {
		return der, nil
	}
	_, err = cms.Chain(authority, token.SignedData.Certificates, cms.ChainOptions{
		Roots: c.options.Roots, Time: token.Time, Usage: x509.ExtKeyUsageTimeStamping,
	})
	if err != nil {
		return nil, fmt.Errorf("the authority's certificate is not trusted: %w", err)
	}
	return der, nil
}

// newSerial returns a random positive number of 128 bits.
func newSerial() *big.Int {
	var octets [16]byte
	_, _ = rand.Read(octets[:])       // never fails
	octets[0] = octets[0]&0x7f | 0x40 // positive, and always of the same length
	return new(big.Int).SetBytes(octets[:])
}
