package client

import (
	"cmp"
	"context"
	"crypto/rand"
	"net/http"
	"time"

	"github.com/countersign-dev/countersign/api"
)

// Status returns a signing request's status, cheaply.
func (c *Client) Status(ctx context.Context, id string) (*api.SigningRequestState, error) {
	return get[api.SigningRequestState](ctx, c, func() (*http.Response, error) {
		return c.api.GetSigningRequestStatus(ctx, c.organization, id)
	})
}

// Get returns everything about a signing request.
func (c *Client) Get(ctx context.Context, id string) (*api.SigningRequest, error) {
	return get[api.SigningRequest](ctx, c, func() (*http.Response, error) {
		return c.api.GetSigningRequest(ctx, c.organization, id)
	})
}

// Description returns every file of a request's artifact with what was done to it.
func (c *Client) Description(ctx context.Context, id string) (*api.ArtifactDescription, error) {
	return get[api.ArtifactDescription](ctx, c, func() (*http.Response, error) {
		return c.api.GetArtifactDescription(ctx, c.organization, id)
	})
}

// Filter selects signing requests; the zero value selects all that the caller may read.
type Filter = api.ListSigningRequestsParams

// List returns one page of signing requests, newest first. Its NextCursor, as the Cursor of the same filter, gets the next;
// a page before the last may have fewer items than asked for, even none.
func (c *Client) List(ctx context.Context, f Filter) (*api.SigningRequestPage, error) {
	return get[api.SigningRequestPage](ctx, c, func() (*http.Response, error) {
		return c.api.ListSigningRequests(ctx, c.organization, &f, withoutZeroes)
	})
}

// withoutZeroes takes from a query what the filter does not say: the generated client writes zero values out.
func withoutZeroes(_ context.Context, r *http.Request) error {
	query := r.URL.Query()
	for name, values := range query {
		switch values[0] {
		case "", "false", "0", "0001-01-01T00:00:00Z":
			query.Del(name)
		}
	}
	r.URL.RawQuery = query.Encode()
	return nil
}

// WaitOptions say how to wait. The zero value waits for a final status.
type WaitOptions struct {
	// Until ends the waiting before the final status.
	Until func(*api.SigningRequestState) bool
	// Changed is told each status that differs from the one before, the first included.
	Changed func(*api.SigningRequestState)
}

// Wait polls a request until it is final, or Until says so, or ctx ends. The pauses grow from the client's poll time to
// fifty times that, and start anew when the status changes. With ctx's error it returns the last status seen, if any.
func (c *Client) Wait(ctx context.Context, id string, o WaitOptions) (*api.SigningRequestState, error) {
	var last *api.SigningRequestState
	pause := c.poll
	for {
		state, err := c.Status(ctx, id)
		if err != nil {
			return last, err
		}
		if last == nil || *last != *state {
			pause = c.poll
			if o.Changed != nil {
				o.Changed(state)
			}
		}
		last = state
		if state.IsFinalStatus || o.Until != nil && o.Until(state) {
			return state, nil
		}
		if err := sleep(ctx, pause); err != nil {
			return last, err
		}
		pause = min(pause*3/2, 50*c.poll)
	}
}

// Resubmission asks to sign a request's artifact again.
type Resubmission struct {
	Original            string        // id of the request
	PolicySlug          string        // of the same project; may be empty with CurrentSettings, then the original's
	PolicyID            string        // in place of the slug
	CurrentSettings     bool          // with the artifact configuration as it is now; takes failed requests, too
	Description         string        // the original's when empty
	CancellationTimeout time.Duration // canceled unless it is final by then; 0 for never; whole seconds
	IdempotencyKey      string        // as that of a [Submission]
}

// Resubmit makes a new request with the very same artifact, configuration, parameters and origin as a completed one.
func (c *Client) Resubmit(ctx context.Context, r Resubmission) (*api.SubmittedSigningRequest, error) {
	params := &api.ResubmitSigningRequestParams{IdempotencyKey: cmp.Or(r.IdempotencyKey, rand.Text())}
	return get[api.SubmittedSigningRequest](ctx, c, func() (*http.Response, error) {
		return c.api.ResubmitSigningRequest(ctx, c.organization, params, api.Resubmit{
			OriginalSigningRequestID: r.Original, SigningPolicySlug: r.PolicySlug, SigningPolicyID: r.PolicyID,
			CurrentSettings: r.CurrentSettings, Description: r.Description, CancellationTimeoutInSeconds: int(r.CancellationTimeout / time.Second),
		})
	})
}

// Approve approves a waiting request. The comment may be empty.
func (c *Client) Approve(ctx context.Context, id, comment string) (*api.SigningRequestState, error) {
	return post[api.SigningRequestState](ctx, c, func() (*http.Response, error) {
		return c.api.ApproveSigningRequest(ctx, c.organization, id, api.Decision{Comment: comment})
	})
}

// Deny denies a waiting request, which ends it. The comment may be empty.
func (c *Client) Deny(ctx context.Context, id, comment string) (*api.SigningRequestState, error) {
	return post[api.SigningRequestState](ctx, c, func() (*http.Response, error) {
		return c.api.DenySigningRequest(ctx, c.organization, id, api.Decision{Comment: comment})
	})
}

// Cancel ends a request that is not final. The comment may be empty.
func (c *Client) Cancel(ctx context.Context, id, comment string) (*api.SigningRequestState, error) {
	return post[api.SigningRequestState](ctx, c, func() (*http.Response, error) {
		return c.api.CancelSigningRequest(ctx, c.organization, id, api.Decision{Comment: comment})
	})
}
