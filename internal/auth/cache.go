package auth

import (
	"sync"
	"time"
)

// cache remembers for a short time what secrets, named by their hashes, stand for. A value that was read before the
// last call of forget never enters: whoever reads takes the generation first and hands it to put.
type cache[V any] struct {
	mu         sync.Mutex
	entries    map[[32]byte]cached[V]
	max        int
	life       time.Duration // not positive: nothing is remembered
	generation uint64
}

type cached[V any] struct {
	value V
	until time.Time
}

func newCache[V any](max int, life time.Duration) *cache[V] {
	return &cache[V]{entries: map[[32]byte]cached[V]{}, max: max, life: life}
}

// get returns the value if it is remembered, and the generation that a put after this call takes.
func (c *cache[V]) get(key [32]byte, now time.Time) (value V, ok bool, generation uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e, ok := c.entries[key]
	if !ok || !now.Before(e.until) {
		return value, false, c.generation
	}
	return e.value, true, c.generation
}

func (c *cache[V]) put(key [32]byte, value V, now time.Time, generation uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.life <= 0 || generation != c.generation {
		return
	}
	if _, known := c.entries[key]; !known && len(c.entries) >= c.max {
		c.makeRoom(now)
	}
	c.entries[key] = cached[V]{value, now.Add(c.life)}
}

// makeRoom drops what is out of date, or else some entry. It looks at few entries, so that a full cache stays cheap.
func (c *cache[V]) makeRoom(now time.Time) {
	looked := 0
	for key, e := range c.entries {
		if looked++; looked > 16 && len(c.entries) < c.max {
			return
		}
		if !now.Before(e.until) || looked > 16 {
			delete(c.entries, key)
		}
	}
	if len(c.entries) >= c.max {
		for key := range c.entries {
			delete(c.entries, key)
			return
		}
	}
}

// forget drops the matching entries and whatever is being read now.
func (c *cache[V]) forget(match func(V) bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.generation++
	for key, e := range c.entries {
		if match(e.value) {
			delete(c.entries, key)
		}
	}
}
