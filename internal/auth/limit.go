package auth

import (
	"fmt"
	"hash/maphash"
	"math"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/countersign-dev/countersign/internal/signing"
)

// How often somebody may try to sign in.
const (
	networkBurst    = 30 // from one network, whoever the account
	networkInterval = 2 * time.Second
	pairBurst       = 10 // from one network for one account
	pairInterval    = 30 * time.Second
	accountBurst    = 30 // for one account, from everywhere
	accountInterval = 10 * time.Second

	limiterRows  = 5
	limiterSlots = 1 << 14 // in each row
)

// limits bound attempts to sign in. One network alone cannot use up what an account has, so nobody locks somebody else out from
// there; many networks together can, but not for browsers in which that user signed in before, nor for passkeys, which cannot be
// guessed.
type limits struct {
	networks, pairs, accounts *limiter
}

func newLimits() limits {
	return limits{newLimiter(networkBurst, networkInterval), newLimiter(pairBurst, pairInterval), newLimiter(accountBurst, accountInterval)}
}

// arrive takes one attempt of the client's network.
func (l limits) arrive(c Client, now time.Time) error {
	return l.networks.take(network(c.Address), now)
}

// welcome returns what arrive took.
func (l limits) welcome(c Client) { l.networks.giveBack(network(c.Address)) }

// guess takes one attempt at the password of an e-mail address, unless the client's network or all have tried too often. known is
// the user who signed in in this browser before, if any. right returns what was taken.
func (l limits) guess(email string, known signing.ID, c Client, now time.Time) (right func(), err error) {
	if known != "" {
		return l.guessKnown(known, now)
	}
	account := strings.ToLower(email)
	pair := account + " " + network(c.Address)
	if err := l.pairs.take(pair, now); err != nil {
		return nil, err
	}
	if err := l.accounts.take(account, now); err != nil {
		l.pairs.giveBack(pair)
		return nil, err
	}
	return func() { l.pairs.giveBack(pair); l.accounts.giveBack(account) }, nil
}

// guessKnown is guess for a user whom the browser is known to belong to.
func (l limits) guessKnown(user signing.ID, now time.Time) (right func(), err error) {
	key := "known " + string(user)
	return func() { l.pairs.giveBack(key) }, l.pairs.take(key, now)
}

// RateLimitError is in the chain of the KindUnavailable error that answers too many attempts.
type RateLimitError struct {
	RetryAfter time.Duration // at least a second
}

func (e *RateLimitError) Error() string {
	return fmt.Sprintf("try again in %d seconds", int(e.RetryAfter.Seconds()))
}

// limiter is a token bucket per key: a burst, then one more per interval (generic cell rate algorithm: a slot holds the time
// at which its bucket is full again). A key has a slot in each row, by secret hashes, and is limited only when all of them are (a
// count-min sketch): memory is bounded, no flood of made-up keys resets anybody's bucket, and a key whose slots others have used
// up is too rare to meet.
type limiter struct {
	seeds    [limiterRows]maphash.Seed
	interval int64
	burst    int64

	mu   sync.Mutex
	rows [limiterRows][limiterSlots]int64 // Unix nanoseconds
}

func newLimiter(burst int, interval time.Duration) *limiter {
	l := &limiter{interval: int64(interval), burst: int64(burst)}
	for i := range l.seeds {
		l.seeds[i] = maphash.MakeSeed()
	}
	return l
}

func (l *limiter) slots(key string) (slots [limiterRows]*int64) {
	for i := range slots {
		slots[i] = &l.rows[i][maphash.String(l.seeds[i], key)%limiterSlots]
	}
	return slots
}

// take takes one attempt; it returns how long to wait when there is none.
func (l *limiter) take(key string, now time.Time) error {
	slots, at := l.slots(key), now.UnixNano()
	l.mu.Lock()
	defer l.mu.Unlock()
	least := int64(math.MaxInt64)
	for _, slot := range slots {
		least = min(least, max(*slot, at))
	}
	if wait := least - at - (l.burst-1)*l.interval; wait > 0 {
		retry := (time.Duration(wait) + time.Second - 1).Truncate(time.Second)
		return signing.Errorf(signing.KindUnavailable, "Too many attempts to sign in: %w.", &RateLimitError{RetryAfter: retry})
	}
	for _, slot := range slots {
		*slot = max(*slot, at) + l.interval
	}
	return nil
}

// giveBack returns an attempt that take took.
func (l *limiter) giveBack(key string) {
	slots := l.slots(key)
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, slot := range slots {
		*slot -= l.interval
	}
}

// network names what an attacker with one connection controls: an IPv4 address, or an IPv6 network of 64 bits. It takes
// an address with or without port.
func network(address string) string {
	ip, err := netip.ParseAddr(address)
	if err != nil {
		withPort, err := netip.ParseAddrPort(address)
		if err != nil {
			return strings.ToLower(address)
		}
		ip = withPort.Addr()
	}
	ip = ip.Unmap().WithZone("")
	if ip.Is6() {
		return netip.PrefixFrom(ip, 64).Masked().String()
	}
	return ip.String()
}
