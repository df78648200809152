package auth

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/countersign-dev/countersign/internal/audit"
	"github.com/countersign-dev/countersign/internal/signing"
)

const (
	touchEvery  = time.Minute // a token's or session's last use is written at most that often
	sweepEvery  = time.Hour   // expired sessions are deleted that often
	maxTouches  = 10_000      // uses noted between two writes; further ones are not noted
	maxFailures = 1_000       // failed sign-ins waiting to be recorded; further ones are only logged
	writeLimit  = 30 * time.Second
)

// later does what no caller should wait for: it writes last uses, once a minute in one transaction, and records failed
// sign-ins. (Recording those while the caller waits would tell existing accounts from others by time.)
type later struct {
	mu       sync.Mutex
	tokens   map[signing.ID]time.Time
	sessions map[[32]byte]time.Time
	failures []failure

	wake chan struct{}
	quit chan struct{}
	done chan struct{}
	once sync.Once
}

// failure is a failed sign-in of an existing user.
type failure struct {
	actor  signing.Actor
	object audit.Object
	data   any
	at     time.Time
}

func (s *Service) startLater() {
	l := &s.later
	l.tokens, l.sessions = map[signing.ID]time.Time{}, map[[32]byte]time.Time{}
	l.wake, l.quit, l.done = make(chan struct{}, 1), make(chan struct{}), make(chan struct{})
	go s.runLater()
}

func (s *Service) runLater() {
	l := &s.later
	defer close(l.done)
	touch, sweep := time.NewTicker(touchEvery), time.NewTicker(sweepEvery)
	defer touch.Stop()
	defer sweep.Stop()
	for {
		var work func(context.Context) error
		select {
		case <-l.quit:
			return
		case <-l.wake:
			work = s.writeFailures
		case <-touch.C:
			work = func(ctx context.Context) error { return errors.Join(s.writeTouches(ctx), s.writeFailures(ctx)) }
		case <-sweep.C:
			work = func(ctx context.Context) error {
				return s.store.Tx(ctx, func(tx signing.Tx) error { return tx.DeleteExpiredSessions(ctx, s.now()) })
			}
		}
		ctx, cancel := context.WithTimeout(context.Background(), writeLimit) // from here: the wait above may be long
		err := work(ctx)
		cancel()
		if err != nil {
			s.log.Error("background write of sign-in data failed", "error", err)
		}
	}
}

func (s *Service) stopLater(ctx context.Context) error {
	l := &s.later
	l.once.Do(func() { close(l.quit) })
	select {
	case <-l.done:
	case <-ctx.Done():
		return ctx.Err()
	}
	if err := s.writeTouches(ctx); err != nil {
		return err
	}
	return s.writeFailures(ctx)
}

func (l *later) touchToken(id signing.ID, at time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, noted := l.tokens[id]; noted || len(l.tokens) < maxTouches {
		l.tokens[id] = at
	}
}

func (l *later) touchSession(hash [32]byte, at time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, noted := l.sessions[hash]; noted || len(l.sessions) < maxTouches {
		l.sessions[hash] = at
	}
}

// writeTouches writes the last uses noted so far. When it fails they are lost: the next use is noted again.
func (s *Service) writeTouches(ctx context.Context) error {
	l := &s.later
	l.mu.Lock()
	tokens, sessions := l.tokens, l.sessions
	l.tokens, l.sessions = map[signing.ID]time.Time{}, map[[32]byte]time.Time{}
	l.mu.Unlock()
	if len(tokens)+len(sessions) == 0 {
		return nil
	}
	return s.store.Tx(ctx, func(tx signing.Tx) error {
		for id, at := range tokens {
			if err := tx.TouchToken(ctx, id, at); err != nil && signing.KindOf(err) != signing.KindNotFound {
				return err
			}
		}
		for hash, at := range sessions {
			if err := tx.TouchSession(ctx, hash, at); err != nil && signing.KindOf(err) != signing.KindNotFound {
				return err
			}
		}
		return nil
	})
}

// fail queues a failed sign-in for the audit log. The callers' rate limits bound how many there are.
func (s *Service) fail(f failure) {
	l := &s.later
	l.mu.Lock()
	full := len(l.failures) >= maxFailures
	if !full {
		l.failures = append(l.failures, f)
	}
	l.mu.Unlock()
	if full {
		s.log.Warn("sign-in failed; not in the audit log, too many are waiting", "user", f.object.ID)
		return
	}
	select {
	case l.wake <- struct{}{}:
	default: // it wakes up anyway
	}
}

// writeFailures moves the queue into the audit log. What cannot be written stays queued for the next minute.
func (s *Service) writeFailures(ctx context.Context) error {
	l := &s.later
	l.mu.Lock()
	pending := l.failures
	l.failures = nil
	l.mu.Unlock()
	for i, f := range pending {
		err := s.store.Tx(ctx, func(tx signing.Tx) error {
			return recordAt(ctx, tx, f.at, f.actor, EventSignInFailed, f.object, f.data)
		})
		if err != nil {
			l.mu.Lock()
			l.failures = append(pending[i:len(pending):len(pending)], l.failures...)
			l.mu.Unlock()
			return err
		}
	}
	return nil
}
