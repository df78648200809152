package timestamp

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"sync"
	"time"
)

// Member is an authority of a Pool.
type Member struct {
	Name        string // unique in the pool, for people: usually the URL
	Timestamper Timestamper
	Rate        float64 // requests per second; unlimited when zero
	Burst       int     // requests that may come at once within Rate; 1 when zero
}

// PoolOptions are the optional settings of a Pool.
type PoolOptions struct {
	AttemptTimeout time.Duration // of one try at one member; 10 seconds when zero
	CoolDown       time.Duration // after a failure, doubled with each further one; 10 seconds when zero
	MaxCoolDown    time.Duration // 10 minutes when zero
}

// Pool asks its members in order until one answers.
//
// A member that fails is left alone for a cool-down and then tried by one request
// before the others follow. While all are cooling down, requests still try the
// one that is due first, so a pool never fails without having asked. A member
// over its rate is passed over; when no other is left, the request waits its turn,
// unless its deadline comes first.
//
// When ctx has a deadline, a member gets at most an equal share of the time left,
// so that one that hangs leaves time for the others.
type Pool struct {
	options PoolOptions

	mu      sync.Mutex
	members []*member
}

type member struct {
	Member
	health   Health
	probing  bool      // one request is trying it after its cool-down
	nextSlot time.Time // when the rate allows the next request, were there no burst
}

// Health is what a pool knows about one member.
type Health struct {
	Name                string
	Healthy             bool      // false while the last try failed
	RetryAt             time.Time // end of the cool-down; zero when healthy
	ConsecutiveFailures int
	LastError           string // of the last failure, kept after recovery
	LastSuccess         time.Time
	LastFailure         time.Time
	LastLatency         time.Duration // of the last success

	// Counters since the pool was made.
	Successes   uint64
	Failures    uint64
	Rejections  uint64 // requests that the member refused while being healthy
	RateLimited uint64 // requests that passed it over or waited because of its rate
}

// Bounds of Member.Rate and Member.Burst, within which durations do not overflow.
const (
	minRate  = 1.0 / 3600
	maxBurst = 1_000_000
)

// ErrNoAuthority says that no member of a pool granted a time stamp. The error
// that wraps it has each member's own.
var ErrNoAuthority = errors.New("timestamp: no authority granted a time stamp")

// NewPool returns a pool of at least one member.
func NewPool(options PoolOptions, members ...Member) (*Pool, error) {
	if len(members) == 0 {
		return nil, errors.New("timestamp: a pool needs an authority")
	}
	if options.AttemptTimeout <= 0 {
		options.AttemptTimeout = 10 * time.Second
	}
	if options.CoolDown <= 0 {
		options.CoolDown = 10 * time.Second
	}
	if options.MaxCoolDown <= 0 {
		options.MaxCoolDown = 10 * time.Minute
	}
	p := &Pool{options: options}
	names := make(map[string]bool)
	for _, m := range members {
		if m.Name == "" || m.Timestamper == nil || names[m.Name] {
			return nil, fmt.Errorf("timestamp: authority %q of the pool needs a name of its own and a Timestamper", m.Name)
		}
		if m.Rate != 0 && !(m.Rate >= minRate) || m.Burst < 0 || m.Burst > maxBurst {
			return nil, fmt.Errorf("timestamp: authority %q of the pool has a rate below one request an hour, or a burst that is not 0 to %d", m.Name, maxBurst)
		}
		m.Burst = max(m.Burst, 1)
		names[m.Name] = true
		p.members = append(p.members, &member{Member: m, health: Health{Name: m.Name, Healthy: true}})
	}
	return p, nil
}

// Timestamp returns the token of the first member that grants one. It returns
// when ctx is done, with an error that wraps ctx.Err().
func (p *Pool) Timestamp(ctx context.Context, digest []byte, hash crypto.Hash) ([]byte, error) {
	if err := checkImprint(digest, hash); err != nil {
		return nil, err
	}
	tried := make(map[*member]bool, len(p.members))
	failures := []error{ErrNoAuthority}
	for len(tried) < len(p.members) {
		if err := expired(ctx); err != nil {
			failures = append(failures, err)
			break
		}
		m, delay := p.reserve(ctx, tried)
		if m == nil {
			failures = append(failures, errors.New("the rate of the remaining authorities leaves no room before the deadline"))
			break
		}
		if err := sleep(ctx, delay); err != nil {
			p.release(m)
			failures = append(failures, err)
			break
		}
		token, err := p.try(ctx, m, len(p.members)-len(tried), digest, hash)
		if err == nil {
			return token, nil
		}
		tried[m] = true
		failures = append(failures, fmt.Errorf("%s: %w", m.Name, err))
	}
	return nil, errors.Join(failures...)
}

// reserve picks the member to ask next and when its rate allows that. It returns
// nil when none can be asked before the deadline.
func (p *Pool) reserve(ctx context.Context, tried map[*member]bool) (*member, time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	deadline, limited := ctx.Deadline()
	fits := func(m *member) (time.Duration, bool) {
		delay := m.delay(now)
		return delay, delay == 0 || !limited || now.Add(delay).Before(deadline)
	}

	var best *member
	var bestDelay time.Duration
	for _, m := range p.members {
		if tried[m] || !m.ready(now) {
			continue
		}
		delay, ok := fits(m)
		if delay > 0 {
			m.health.RateLimited++
		}
		if ok && (best == nil || delay < bestDelay) {
			best, bestDelay = m, delay
		}
		if best != nil && bestDelay == 0 {
			break
		}
	}
	if best == nil {
		for _, m := range p.members {
			if tried[m] || m.ready(now) {
				continue
			}
			if delay, ok := fits(m); ok && (best == nil || m.health.RetryAt.Before(best.health.RetryAt)) {
				best, bestDelay = m, delay
			}
		}
	}
	if best != nil {
		best.probing = !best.health.Healthy
		best.spend(now)
	}
	return best, bestDelay
}

// ready reports whether a member is healthy, or due for the one request that
// finds out.
func (m *member) ready(now time.Time) bool {
	return m.health.Healthy || !m.probing && !now.Before(m.health.RetryAt)
}

// delay says how long the rate makes a request wait.
func (m *member) delay(now time.Time) time.Duration {
	if m.Rate == 0 || m.nextSlot.Before(now) {
		return 0
	}
	ahead := time.Duration(m.Burst-1) * m.interval()
	return max(m.nextSlot.Sub(now)-ahead, 0)
}

// spend takes the next slot of the rate.
func (m *member) spend(now time.Time) {
	if m.Rate == 0 {
		return
	}
	if m.nextSlot.Before(now) {
		m.nextSlot = now
	}
	m.nextSlot = m.nextSlot.Add(m.interval())
}

func (m *member) interval() time.Duration { return time.Duration(float64(time.Second) / m.Rate) }

func (p *Pool) release(m *member) {
	p.mu.Lock()
	defer p.mu.Unlock()
	m.probing = false
}

// try asks one member and keeps account of its health. left counts the members
// that have a share in the time until the deadline.
func (p *Pool) try(ctx context.Context, m *member, left int, digest []byte, hash crypto.Hash) ([]byte, error) {
	timeout := p.options.AttemptTimeout
	if deadline, ok := ctx.Deadline(); ok {
		timeout = min(timeout, time.Until(deadline)/time.Duration(left))
	}
	attempt, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	start := time.Now()
	token, err := m.Timestamper.Timestamp(attempt, digest, hash)
	now := time.Now()

	p.mu.Lock()
	defer p.mu.Unlock()
	m.probing = false
	h := &m.health
	var rejected *RejectedError
	switch {
	case err == nil:
		h.Healthy, h.ConsecutiveFailures, h.RetryAt = true, 0, time.Time{}
		h.LastSuccess, h.LastLatency = now, now.Sub(start)
		h.Successes++
	case errors.Is(ctx.Err(), context.Canceled):
		// The caller went away: that says nothing about the member.
	case errors.As(err, &rejected) && rejected.Failure == BadAlgorithm:
		// It works, but not for this hash function.
		h.Rejections++
	default:
		h.Healthy = false
		h.ConsecutiveFailures++
		h.Failures++
		h.LastFailure, h.LastError = now, err.Error()
		h.RetryAt = now.Add(p.coolDown(h.ConsecutiveFailures))
	}
	return token, err
}

func (p *Pool) coolDown(failures int) time.Duration {
	d := p.options.CoolDown
	for range failures - 1 {
		if d >= p.options.MaxCoolDown/2 {
			return p.options.MaxCoolDown
		}
		d *= 2
	}
	return min(d, p.options.MaxCoolDown)
}

// Health returns a snapshot of all members, in order.
func (p *Pool) Health() []Health {
	p.mu.Lock()
	defer p.mu.Unlock()
	snapshot := make([]Health, len(p.members))
	for i, m := range p.members {
		snapshot[i] = m.health
	}
	return snapshot
}

// expired is ctx.Err, but does not wait for the timer of a deadline that has
// passed.
func expired(ctx context.Context) error {
	if deadline, ok := ctx.Deadline(); ok && !time.Now().Before(deadline) {
		return context.DeadlineExceeded
	}
	return ctx.Err()
}

// sleep waits, or returns the error of ctx when that is done before.
func sleep(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
