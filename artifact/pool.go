package artifact

import (
	"context"
	"runtime"
	"sync"
	"sync/atomic"

	"github.com/countersign-dev/countersign/artifact/spool"
)

// workspace is what one piece of work shares: limits, memory, helpers.
type workspace struct {
	Workspace
	budget *spool.Budget
	// helpers holds a token for each goroutine beside the first. Containers are
	// worked on recursively; because whoever finds no token does the work itself,
	// no more than Parallelism files are under way, and none waits for another.
	helpers chan struct{}

	files, bytes atomic.Int64 // in the containers opened so far

	progress    sync.Mutex
	done, total int
}

const defaultMemory = 64 << 20

func newWorkspace(w Workspace) *workspace {
	w.Limits = w.Limits.withDefaults()
	if w.Parallelism <= 0 {
		w.Parallelism = runtime.GOMAXPROCS(0)
	}
	if w.Memory <= 0 {
		w.Memory = defaultMemory
	}
	return &workspace{Workspace: w, budget: spool.NewBudget(w.Memory), helpers: make(chan struct{}, w.Parallelism-1)}
}

// spool returns an empty spool and a function that drops it. That a temporary file
// could not be removed is no reason to fail.
func (w *workspace) spool() (*spool.Spool, func()) {
	s := spool.New(w.spoolOptions())
	return s, func() { _ = s.Close() }
}

func (w *workspace) spoolOptions() spool.Options {
	return spool.Options{Dir: w.TempDir, Budget: w.budget}
}

// report adds to the progress.
func (w *workspace) report(done, total int) {
	if w.Progress == nil {
		return
	}
	w.progress.Lock()
	defer w.progress.Unlock()
	w.done += done
	w.total += total
	w.Progress(Progress{Done: w.done, Total: w.total})
}

// each calls f for 0 to n-1, begun in this order, by as many goroutines as there
// are tokens for. It returns the first error, after all calls have returned; an
// error cancels the context of the others.
func (w *workspace) each(ctx context.Context, n int, f func(ctx context.Context, i int) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var next atomic.Int64
	var group sync.WaitGroup
	var work func()
	recruit := func() bool {
		select {
		case w.helpers <- struct{}{}:
		default:
			return false
		}
		group.Go(func() {
			defer func() { <-w.helpers }()
			work()
		})
		return true
	}
	work = func() {
		for ctx.Err() == nil {
			i := int(next.Add(1)) - 1
			if i >= n {
				return
			}
			for int(next.Load()) < n && recruit() {
			}
			if err := f(ctx, i); err != nil {
				cancel(err)
			}
		}
	}
	work()
	group.Wait()
	return context.Cause(ctx)
}

var copyBuffers = sync.Pool{New: func() any { return new([128 << 10]byte) }}
