// Package timestamp obtains and issues RFC 3161 time stamps.
//
// Client asks one authority over HTTP, Pool spreads requests over several with
// failover, and Authority is an authority of one's own. All three have the method
//
//	Timestamp(ctx context.Context, digest []byte, hash crypto.Hash) (token []byte, err error)
//
// that takes the message imprint (the digest of what is stamped, and the function
// that made it) and returns the DER TimeStampToken: a CMS ContentInfo of type
// id-signedData. Message imprints are SHA-256, SHA-384 or SHA-512, and SHA-1 where
// an old verifier needs it.
package timestamp

import (
	"context"
	"crypto"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"math/big"
	"net/http"
	"time"
)

var errSkeleton = errors.New("timestamp: not implemented")

// Token is a parsed TimeStampToken (RFC 3161 section 2.4.2).
type Token struct {
	Hash     crypto.Hash // function of the message imprint
	Digest   []byte      // message imprint
	Time     time.Time
	Accuracy time.Duration // zero when the authority states none
	Serial   *big.Int
	Policy   asn1.ObjectIdentifier
	Nonce    *big.Int // nil when there is none

	Certificates []*x509.Certificate // as embedded; may be empty
}

// ParseToken reads a DER TimeStampToken. It does not check the signature.
func ParseToken(der []byte) (*Token, error) { return nil, errSkeleton }

// Verify checks the signature of the token, that its signing certificate is
// the one that the signed attributes name and is for time stamping alone
// (RFC 3161 section 2.3), and returns that certificate. It does not check trust.
func (t *Token) Verify() (*x509.Certificate, error) { return nil, errSkeleton }

// ClientOptions are the optional settings of a Client.
type ClientOptions struct {
	Timeout     time.Duration         // of a whole exchange; 30 seconds when zero
	MaxResponse int64                 // bytes; 256 KiB when zero
	Policy      asn1.ObjectIdentifier // policy to ask for; none when nil
	Roots       *x509.CertPool        // when set, the authority's certificate must chain to one
}

// Client asks one authority (RFC 3161 section 3.4).
type Client struct{ url string }

// NewClient returns the client of the authority at an http or https URL. Requests
// go through httpClient, whose transport decides what may be reached; both
// schemes are safe because a token is signed and bound to the request.
func NewClient(url string, httpClient *http.Client, options ClientOptions) (*Client, error) {
	return nil, errSkeleton
}

// Timestamp asks the authority for a time stamp and checks what it answers.
func (c *Client) Timestamp(ctx context.Context, digest []byte, hash crypto.Hash) ([]byte, error) {
	return nil, errSkeleton
}

// Timestamper obtains a time stamp; see the package comment.
type Timestamper interface {
	Timestamp(ctx context.Context, digest []byte, hash crypto.Hash) (token []byte, err error)
}

// Member is an authority of a Pool.
type Member struct {
	Name        string // unique in the pool, for people: usually the URL
	Timestamper Timestamper
	Rate        float64 // requests per second; unlimited when zero
	Burst       int     // requests that may come at once within Rate; 1 when zero
}

// PoolOptions are the optional settings of a Pool.
type PoolOptions struct {
	AttemptTimeout time.Duration    // of one try at one member; 10 seconds when zero
	CoolDown       time.Duration    // after a failure; doubles with each, 10 seconds when zero
	MaxCoolDown    time.Duration    // 10 minutes when zero
	Clock          func() time.Time // time.Now when nil
}

// Pool asks its members in order until one answers.
type Pool struct{}

// NewPool returns a pool of at least one member.
func NewPool(options PoolOptions, members ...Member) (*Pool, error) { return nil, errSkeleton }

// Timestamp returns the token of the first member that grants one.
func (p *Pool) Timestamp(ctx context.Context, digest []byte, hash crypto.Hash) ([]byte, error) {
	return nil, errSkeleton
}

// Health is what a pool knows about one member.
type Health struct {
	Name                string
	Healthy             bool      // false while the last try failed
	RetryAt             time.Time // not asked before, unless nobody else is left; zero when healthy
	ConsecutiveFailures int
	LastError           string
	LastSuccess         time.Time
	LastFailure         time.Time
	LastLatency         time.Duration // of the last success

	// Counters since the pool was made.
	Successes, Failures, RateLimited uint64
}

// Health returns a snapshot of all members, in order.
func (p *Pool) Health() []Health { return nil }

// AuthorityOptions say who an Authority is.
type AuthorityOptions struct {
	Key       crypto.Signer
	Chain     []*x509.Certificate   // leaf first, with critical extended key usage timeStamping
	Policy    asn1.ObjectIdentifier // TSA policy of every token; required
	Clock     func() time.Time      // time.Now when nil
	Accuracy  time.Duration         // stated in tokens; one second when zero
	AllowSHA1 bool                  // accept SHA-1 message imprints
}

// Authority is a time-stamp authority: in process by Timestamp, over HTTP as a
// handler.
type Authority struct{}

// NewAuthority checks the certificate and returns the authority.
func NewAuthority(options AuthorityOptions) (*Authority, error) { return nil, errSkeleton }

// Timestamp stamps a message imprint.
func (a *Authority) Timestamp(ctx context.Context, digest []byte, hash crypto.Hash) ([]byte, error) {
	return nil, errSkeleton
}

// Respond answers a DER TimeStampReq with a DER TimeStampResp. A request that is
// malformed or refused gets a response that says so.
func (a *Authority) Respond(ctx context.Context, request []byte) ([]byte, error) {
	return nil, errSkeleton
}

// ServeHTTP answers POST requests of type application/timestamp-query.
func (a *Authority) ServeHTTP(w http.ResponseWriter, r *http.Request) {}
