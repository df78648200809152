package timestamp

import (
	"context"
	"crypto"
	"crypto/elliptic"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// fake is a Timestamper whose behaviour can be changed while it is in use.
type fake struct {
	mu    sync.Mutex
	do    func(ctx context.Context) error
	calls int
}

func (f *fake) set(do func(ctx context.Context) error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.do = do
}

func (f *fake) count() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.calls
}

func (f *fake) Timestamp(ctx context.Context, _ []byte, _ crypto.Hash) ([]byte, error) {
	f.mu.Lock()
	f.calls++
	do := f.do
	f.mu.Unlock()
	if err := do(ctx); err != nil {
		return nil, err
	}
	return fmt.Appendf(nil, "%p", f), nil
}

func (f *fake) gave(token []byte) bool { return string(token) == fmt.Sprintf("%p", f) }

func works(context.Context) error { return nil }
func fails(context.Context) error { return errors.New("out of order") }
func hangs(ctx context.Context) error {
	<-ctx.Done()
	return ctx.Err()
}

func newPool(t testing.TB, options PoolOptions, members ...Member) *Pool {
	t.Helper()
	for i := range members {
		members[i].Name = fmt.Sprintf("tsa%d", i)
	}
	return must[*Pool](t)(NewPool(options, members...))
}

var testDigest = imprint(crypto.SHA256, "x")

func ask(ctx context.Context, p *Pool) ([]byte, error) {
	return p.Timestamp(ctx, testDigest, crypto.SHA256)
}

func TestPoolFailsOverAndRecovers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		first, second := &fake{do: works}, &fake{do: works}
		pool := newPool(t, PoolOptions{CoolDown: time.Minute, MaxCoolDown: 3 * time.Minute}, Member{Timestamper: first}, Member{Timestamper: second})
		expect := func(want *fake, firstCalls int) {
			t.Helper()
			token, err := ask(t.Context(), pool)
			if err != nil || !want.gave(token) {
				t.Fatalf("wrong authority answered: %v", err)
			}
			if first.count() != firstCalls {
				t.Fatalf("the first authority was asked %d times, not %d", first.count(), firstCalls)
			}
		}
		expect(first, 1)
		first.set(fails)
		expect(second, 2)
		expect(second, 2) // left alone
		time.Sleep(time.Minute)
		expect(second, 3) // tried again, fails again
		time.Sleep(time.Minute)
		expect(second, 3) // the cool-down has doubled
		time.Sleep(time.Minute)
		expect(second, 4)
		time.Sleep(3 * time.Minute)
		expect(second, 5) // and is capped
		h := pool.Health()[0]
		if h.Healthy || h.ConsecutiveFailures != 4 || h.LastError != "out of order" || time.Until(h.RetryAt) != 3*time.Minute || h.Successes != 1 || h.Failures != 4 {
			t.Errorf("%+v", h)
		}
		first.set(works)
		time.Sleep(3 * time.Minute)
		expect(first, 6)
		expect(first, 7)
		h = pool.Health()[0]
		if !h.Healthy || h.ConsecutiveFailures != 0 || !h.RetryAt.IsZero() || h.Successes != 3 || h.LastError == "" || !h.LastSuccess.Equal(time.Now()) {
			t.Errorf("%+v", h)
		}
	})
}

func TestPoolAllFail(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		first, second := &fake{do: fails}, &fake{do: fails}
		pool := newPool(t, PoolOptions{}, Member{Timestamper: first}, Member{Timestamper: second})
		for range 2 { // the second time all are cooling down, and still asked
			_, err := ask(t.Context(), pool)
			if !errors.Is(err, ErrNoAuthority) || !strings.Contains(err.Error(), "tsa0: out of order") || !strings.Contains(err.Error(), "tsa1: out of order") {
				t.Errorf("got %v", err)
			}
		}
		second.set(works)
		if token, err := ask(t.Context(), pool); err != nil || !second.gave(token) {
			t.Errorf("got %v", err)
		}
		if first.count() != 3 || second.count() != 3 {
			t.Errorf("asked %d and %d times", first.count(), second.count())
		}
	})
}

func TestPoolHang(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		first, second := &fake{do: hangs}, &fake{do: works}
		pool := newPool(t, PoolOptions{AttemptTimeout: 8 * time.Second, CoolDown: time.Minute}, Member{Timestamper: first}, Member{Timestamper: second})

		// Half the time of a short deadline is left for the second authority.
		ctx, cancel := context.WithTimeout(t.Context(), 4*time.Second)
		defer cancel()
		start := time.Now()
		if token, err := ask(ctx, pool); err != nil || !second.gave(token) || time.Since(start) != 2*time.Second {
			t.Errorf("%v after %v", err, time.Since(start))
		}
		time.Sleep(time.Minute)

		// While one request finds out that it still hangs, the others do not wait.
		var wait sync.WaitGroup
		var slow atomic.Int32
		for range 10 {
			wait.Go(func() {
				start := time.Now()
				if token, err := ask(t.Context(), pool); err != nil || !second.gave(token) {
					t.Error(err)
				}
				if time.Since(start) == 8*time.Second {
					slow.Add(1)
				} else if time.Since(start) != 0 {
					t.Errorf("took %v", time.Since(start))
				}
			})
		}
		wait.Wait()
		if slow.Load() != 1 || first.count() != 2 {
			t.Errorf("%d requests waited, %d tried", slow.Load(), first.count())
		}
	})
}

func TestPoolContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		first := &fake{do: hangs}
		pool := newPool(t, PoolOptions{AttemptTimeout: time.Hour}, Member{Timestamper: first})
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		start := time.Now()
		if _, err := ask(ctx, pool); !errors.Is(err, context.Canceled) || time.Since(start) != time.Second {
			t.Errorf("%v after %v", err, time.Since(start))
		}
		if h := pool.Health()[0]; !h.Healthy || h.Failures != 0 {
			t.Errorf("a caller that goes away counts as a failure: %+v", h)
		}
		ctx, cancel = context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		start = time.Now()
		if _, err := ask(ctx, pool); !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != time.Second {
			t.Errorf("%v after %v", err, time.Since(start))
		}
		if _, err := ask(ctx, pool); !errors.Is(err, context.DeadlineExceeded) || first.count() != 2 {
			t.Errorf("%v; asked %d times", err, first.count())
		}
	})
}

func TestPoolRate(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		first, second := &fake{do: works}, &fake{do: works}
		pool := newPool(t, PoolOptions{}, Member{Timestamper: first, Rate: 2, Burst: 3}, Member{Timestamper: second, Rate: 1})
		start := time.Now()
		// 3 at once from the first, 1 from the second, then those who wait: 2 and
		// 1 a second.
		var wait sync.WaitGroup
		var mu sync.Mutex
		at := make(map[time.Duration]int)
		for range 10 {
			wait.Go(func() {
				if _, err := ask(t.Context(), pool); err != nil {
					t.Error(err)
				}
				mu.Lock()
				defer mu.Unlock()
				at[time.Since(start)]++
			})
		}
		wait.Wait()
		want := map[time.Duration]int{0: 4, 500 * time.Millisecond: 1, time.Second: 2, 1500 * time.Millisecond: 1, 2 * time.Second: 2}
		if fmt.Sprint(at) != fmt.Sprint(want) {
			t.Errorf("answers came at %v, not %v", at, want)
		}
		if h := pool.Health(); h[0].RateLimited == 0 || h[1].RateLimited == 0 || h[0].Successes+h[1].Successes != 10 {
			t.Errorf("%+v", h)
		}

		// A request whose deadline comes before its turn does not wait at all.
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		for range 10 {
			now := time.Now()
			_, err := ask(ctx, pool)
			if err != nil && (!errors.Is(err, ErrNoAuthority) || !time.Now().Equal(now)) {
				t.Errorf("%v after %v", err, time.Since(now))
			}
		}
		if _, err := ask(ctx, pool); err == nil || !strings.Contains(err.Error(), "rate") {
			t.Errorf("got %v", err)
		}
	})
}

func TestPoolRejectionIsNotSickness(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		first := &fake{do: func(context.Context) error { return &RejectedError{Status: Rejection, Failure: BadAlgorithm} }}
		second := &fake{do: works}
		pool := newPool(t, PoolOptions{}, Member{Timestamper: first}, Member{Timestamper: second})
		for range 3 {
			if token, err := ask(t.Context(), pool); err != nil || !second.gave(token) {
				t.Error(err)
			}
		}
		if h := pool.Health()[0]; !h.Healthy || h.Rejections != 3 || first.count() != 3 {
			t.Errorf("%+v", h)
		}
		if _, err := pool.Timestamp(t.Context(), testDigest, crypto.SHA512); err == nil || first.count() != 3 {
			t.Error("a digest of the wrong length was sent to an authority")
		}
	})
}

func TestNewPoolRefuses(t *testing.T) {
	t.Parallel()
	for _, members := range [][]Member{
		{}, {{Name: "a"}}, {{Timestamper: &fake{}}}, {{Name: "a", Timestamper: &fake{}}, {Name: "a", Timestamper: &fake{}}}, {{Name: "a", Timestamper: &fake{}, Rate: -1}},
	} {
		if _, err := NewPool(PoolOptions{}, members...); err == nil {
			t.Errorf("%+v accepted", members)
		}
	}
}

// The whole way: servers that are down, lie, reject and work.
func TestPoolOfServers(t *testing.T) {
	t.Parallel()
	tsa := newTSA(t, ecKey(t, elliptic.P256()), nil)
	authority := tsa.authority(t, AuthorityOptions{})
	reply := func(answer func(query []byte) []byte) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			query, _ := io.ReadAll(r.Body)
			w.Header().Set("Content-Type", replyType)
			_, _ = w.Write(answer(query))
		})
	}
	old := must[[]byte](t)(authority.Respond(t.Context(), must[[]byte](t)((&request{hash: crypto.SHA256, digest: testDigest, certificates: true}).marshal())))
	handlers := []http.Handler{
		http.NotFoundHandler(),
		reply(func([]byte) []byte { return []byte("garbage") }),
		reply(func([]byte) []byte { return old }), // a replay
		reply(func([]byte) []byte {
			return must[[]byte](t)(marshalRejected(&RejectedError{Status: Rejection, Failure: TimeNotAvailable}))
		}),
		authority,
	}
	var members []Member
	for _, handler := range handlers {
		server := httptest.NewServer(handler)
		t.Cleanup(server.Close)
		members = append(members, Member{Timestamper: must[*Client](t)(NewClient(server.URL, server.Client(), ClientOptions{}))})
	}
	pool := newPool(t, PoolOptions{}, members...)
	token, err := ask(t.Context(), pool)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := parseToken(token); err != nil {
		t.Error(err)
	}
	health := pool.Health()
	for i, want := range []string{"HTTP status 404", "response: is not", "nonce", "time source", ""} {
		if h := health[i]; h.Healthy != (want == "") || !strings.Contains(h.LastError, want) {
			t.Errorf("%d: %+v", i, h)
		}
	}
}
