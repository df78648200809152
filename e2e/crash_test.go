package e2e

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/countersign-dev/countersign/api"
	"github.com/countersign-dev/countersign/client"
	"github.com/countersign-dev/countersign/internal/oracle"
	"github.com/countersign-dev/countersign/internal/samples"
)

const (
	crashes        = 20 // lives of the server; every fourth is followed by one that is killed while it starts
	crashSubmitted = 130
	crashResubmits = 70              // of the submitted, for release
	crashTime      = 5 * time.Minute // on a busy machine; a minute is plenty
)

// TestKill kills the server at random moments while requests are submitted, resubmitted and approved, and starts it
// again on its data. Nothing that was accepted is lost, nothing hangs, and each request ends with one signed artifact.
func TestKill(t *testing.T) {
	t.Parallel()
	osslsigncode := oracle.Need(t, "osslsigncode")
	ctx, cancel := context.WithTimeout(t.Context(), crashTime)
	defer cancel()
	data := t.TempDir()
	first := startDemo(t, data)
	w := newCrashWork(t, first, crashSubmitted, crashResubmits)
	wait := w.start(ctx)
	w.crash(ctx, data)
	wait()
	if t.Failed() {
		return
	}
	last := w.server.current
	now, before := last.State, first.State
	now.BaseURL, now.APIURL, before.BaseURL, before.APIURL = "", "", "", ""
	if now != before {
		t.Errorf("the demo was %+v and is %+v", before, now)
	}
	referenced := w.check(ctx, last, osslsigncode)
	last.stop(t)
	run(t, "audit", "verify", "--data", data)
	checkLeftovers(ctx, t, data, referenced)
}

// mortal is a server that dies and comes back.
type mortal struct {
	mu      sync.Mutex
	current *instance     // nil while there is none
	changed chan struct{} // closed when current changes
}

func newMortal(d *instance) *mortal { return &mortal{current: d, changed: make(chan struct{})} }

func (m *mortal) set(d *instance) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.current = d
	close(m.changed)
	m.changed = make(chan struct{})
}

// get waits until a server is there.
func (m *mortal) get(ctx context.Context) (*instance, error) {
	for {
		m.mu.Lock()
		d, changed := m.current, m.changed
		m.mu.Unlock()
		if d != nil {
			return d, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// errDied: the server was killed before it answered.
var errDied = errors.New("the server died")

// once calls the server. What the server answers is returned as it is; anything else must come from its death.
func (m *mortal) once(ctx context.Context, call func(*instance) error) error {
	d, err := m.get(ctx)
	if err != nil {
		return err
	}
	err = call(d)
	var answer *client.Error
	if err == nil || errors.As(err, &answer) {
		return err
	}
	select {
	case <-d.Ended:
		return errDied
	case <-ctx.Done():
		return fmt.Errorf("%w, and before: %w", ctx.Err(), err)
	}
}

// do calls a server until one answers.
func (m *mortal) do(ctx context.Context, call func(*instance) error) error {
	for {
		if err := m.once(ctx, call); !errors.Is(err, errDied) {
			return err
		}
	}
}

// crashWork is what the server is asked to do.
type crashWork struct {
	t         *testing.T
	dir       string // of downloads
	exe       []byte
	server    *mortal
	submitted int // artifacts
	resubmits int // of them, for release
	// begin has one for each artifact that may be submitted by now, finished one for each request that was completed.
	begin, finished chan struct{}

	mu       sync.Mutex
	accepted map[string]string // SHA-256 of the signed artifact, when it was first downloaded, by request
	unheard  int               // submissions without an answer that nobody repeated
}

func newCrashWork(t *testing.T, d *instance, submitted, resubmits int) *crashWork {
	return &crashWork{t: t, dir: t.TempDir(), exe: readFile(t, samples.GoEXE(t, "386")), server: newMortal(d), submitted: submitted, resubmits: resubmits,
		begin: make(chan struct{}, submitted), finished: make(chan struct{}, submitted+resubmits), accepted: map[string]string{}}
}

// start starts the submitters and the approver; wait waits until all is done.
func (w *crashWork) start(ctx context.Context) (wait func()) {
	const submitters = 8
	var submitting, approving sync.WaitGroup
	for n := range submitters {
		submitting.Go(func() {
			for i := n; i < w.submitted; i += submitters {
				if err := w.item(ctx, i); err != nil {
					w.t.Errorf("artifact %d: %v", i, err)
				}
			}
		})
	}
	done := make(chan struct{})
	go func() { submitting.Wait(); close(done) }()
	approving.Go(func() { w.approve(ctx, done) })
	return approving.Wait
}

// progress waits until so many requests more are completed.
func (w *crashWork) progress(ctx context.Context, requests int) error {
	for range requests {
		select {
		case <-w.finished:
		case <-ctx.Done():
			return fmt.Errorf("the work does not go on: %w", ctx.Err())
		}
	}
	return nil
}

// moment comes within the time, at random.
func moment(within time.Duration) <-chan time.Time { return time.After(rand.N(within)) }

// artifact returns a program of its own for each number.
func (w *crashWork) artifact(i int) client.Upload {
	return upload(fmt.Sprintf("app-%d.exe", i), binary.LittleEndian.AppendUint64(slices.Clone(w.exe), uint64(i)))
}

// item submits an artifact and follows it to its end.
func (w *crashWork) item(ctx context.Context, i int) error {
	select {
	case <-w.begin:
	case <-ctx.Done():
		return ctx.Err()
	}
	policy := "release-signing"
	if i < w.resubmits {
		policy = "test-signing"
	}
	s := client.Submission{ProjectSlug: "demo", PolicySlug: policy, Artifact: w.artifact(i), IdempotencyKey: fmt.Sprint("artifact ", i)}
	var id string
	submit := func(d *instance) error {
		submitted, err := d.client(w.t, d.Tokens.CI).Submit(ctx, s)
		if err == nil {
			id = submitted.SigningRequestID
		}
		return err
	}
	err := errDied
	if i%2 == 0 {
		// A client that does not repeat does not know whether its request is there. If it is, it has to end like others.
		if err = w.server.once(ctx, submit); errors.Is(err, errDied) {
			w.mu.Lock()
			w.unheard++
			w.mu.Unlock()
			s.IdempotencyKey += ", anew"
		}
	}
	if errors.Is(err, errDied) {
		err = w.server.do(ctx, submit)
	}
	if err != nil {
		return fmt.Errorf("submit: %w", err)
	}
	if err := w.finish(ctx, id); err != nil || policy != "test-signing" {
		return err
	}
	original := id
	err = w.server.do(ctx, func(d *instance) error {
		submitted, err := d.client(w.t, d.Tokens.CI).Resubmit(ctx, client.Resubmission{Original: original, PolicySlug: "release-signing"})
		if err == nil {
			id = submitted.SigningRequestID
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("resubmit %s: %w", original, err)
	}
	return w.finish(ctx, id)
}

// finish waits for an accepted request and downloads the result.
func (w *crashWork) finish(ctx context.Context, id string) error {
	w.mu.Lock()
	if _, twice := w.accepted[id]; twice {
		w.t.Errorf("request %s was accepted twice", id)
	}
	w.accepted[id] = ""
	w.mu.Unlock()
	var state *api.SigningRequestState
	err := w.server.do(ctx, func(d *instance) (err error) {
		state, err = d.client(w.t, d.Tokens.CI).Wait(ctx, id, client.WaitOptions{})
		return err
	})
	if err != nil {
		return fmt.Errorf("wait for %s, %+v: %w", id, state, err)
	}
	if state.Status != api.SigningRequestStatusCompleted {
		return fmt.Errorf("request %s is %s", id, state.Status)
	}
	w.finished <- struct{}{}
	var file *client.Downloaded
	err = w.server.do(ctx, func(d *instance) (err error) {
		file, err = d.client(w.t, d.Tokens.CI).Download(ctx, id, filepath.Join(w.dir, id), client.DownloadOptions{Replace: true})
		return err
	})
	if err != nil {
		return fmt.Errorf("download %s: %w", id, err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.accepted[id] = file.SHA256
	return nil
}

// approve approves what waits until the work is done and nothing waits.
func (w *crashWork) approve(ctx context.Context, done <-chan struct{}) {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for last := false; ; {
		approved := 0
		err := w.server.once(ctx, func(d *instance) error {
			c := d.client(w.t, d.Tokens.Approver)
			page, err := c.List(ctx, client.Filter{WaitingForMyApproval: true})
			if err != nil {
				return err
			}
			for _, r := range page.Items {
				if _, err := c.Approve(ctx, r.SigningRequestID, ""); err != nil {
					return err
				}
				approved++
			}
			return nil
		})
		if err != nil && !errors.Is(err, errDied) {
			w.t.Errorf("approve: %v", err)
			return
		}
		if last && err == nil && approved == 0 {
			return
		}
		select {
		case <-done:
			last = true
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// crash kills the server and starts it again, again and again. In each life some more artifacts may be submitted, and a
// few requests are completed: a request that takes its server down five times is given up, and here that would be chance.
// The last life goes on.
func (w *crashWork) crash(ctx context.Context, data string) {
	d := w.server.current
	for n := range crashes {
		for range crashSubmitted / crashes {
			w.begin <- struct{}{}
		}
		if err := w.progress(ctx, 4); err != nil {
			w.t.Errorf("%v\n%s", err, d.Tail())
			return
		}
		<-moment(100 * time.Millisecond)
		w.server.set(nil)
		d.Kill()
		if n%4 == 3 { // one that dies while it starts and recovers
			d = launch(w.t, "demo", data)
			<-moment(100 * time.Millisecond)
			d.Kill()
		}
		d = launch(w.t, "demo", data)
		if err := d.awaitReady(w.t); err != nil {
			w.t.Errorf("start after crash %d: %v", n, err)
			return
		}
		w.server.set(d)
	}
	close(w.begin)
}

// check compares what the server has with what it promised, and returns the SHA-256 of every artifact that requests refer
// to, as often as it is kept.
func (w *crashWork) check(ctx context.Context, d *instance, osslsigncode string) (referenced map[string]int) {
	t := w.t
	c := d.client(t, d.Tokens.Admin)
	requests := map[string]api.SigningRequestSummary{}
	for f := (client.Filter{}); ; {
		page, err := c.List(ctx, f)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range page.Items {
			requests[r.SigningRequestID] = r
		}
		if f.Cursor = page.NextCursor; f.Cursor == "" {
			break
		}
	}
	if n := len(w.accepted); n != w.submitted+w.resubmits {
		t.Errorf("%d requests were accepted", n)
	}
	for id := range w.accepted {
		if _, ok := requests[id]; !ok {
			t.Errorf("request %s was accepted and is lost", id)
		}
	}
	trusted := roots(t, d.CAFile)
	referenced = map[string]int{}
	sample := map[string]int{}
	for _, id := range slices.Sorted(maps.Keys(requests)) {
		r, err := c.Get(ctx, id)
		if err != nil {
			t.Fatal(err)
		}
		if r.Status != api.SigningRequestStatusCompleted {
			t.Errorf("request %s is %s: %s", id, r.WorkflowStatus, r.Failure.Message)
			continue
		}
		path := filepath.Join(w.dir, id)
		signed, err := c.Download(ctx, id, path, client.DownloadOptions{Replace: true})
		if err != nil {
			t.Fatalf("download %s: %v", id, err)
		}
		if first, ok := w.accepted[id]; ok && first != signed.SHA256 {
			t.Errorf("request %s had the artifact %s and has %s", id, first, signed.SHA256)
		}
		unsigned, err := c.Download(ctx, id, path+".unsigned", client.DownloadOptions{Which: client.Unsigned, Replace: true})
		if err != nil {
			t.Fatalf("download %s: %v", id, err)
		}
		if r.OriginalSigningRequestID == "" {
			referenced[unsigned.SHA256]++
		}
		referenced[signed.SHA256]++
		subject, err := verify(ctx, path, trusted)
		if err != nil {
			t.Errorf("request %s: %v", id, err)
		}
		if isTest := strings.Contains(subject, "test certificate"); isTest != (r.SigningPolicySlug == "test-signing") {
			t.Errorf("request %s under %s is signed by %s", id, r.SigningPolicySlug, subject)
		}
		if sample[r.SigningPolicySlug]++; sample[r.SigningPolicySlug] <= 3 {
			acceptedByOsslsigncode(t, osslsigncode, path, d.CAFile)
		}
	}
	t.Logf("%d requests, of which %d without an answer to their submission; %d such submissions", len(requests), len(requests)-len(w.accepted), w.unheard)
	return referenced
}

// checkLeftovers starts the server on its data two days later, as far as files tell, and waits until exactly the
// referenced artifacts are left.
func checkLeftovers(ctx context.Context, t *testing.T, data string, referenced map[string]int) {
	t.Helper()
	blobs := filepath.Join(data, "blobs")
	files := func(root string) (found []string) {
		t.Helper()
		err := filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
			if err == nil && !e.IsDir() {
				found = append(found, path)
			}
			if errors.Is(err, fs.ErrNotExist) {
				return nil // the sweep was there
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		return found
	}
	then := time.Now().Add(-48 * time.Hour)
	before := files(blobs)
	for _, path := range before {
		if err := os.Chtimes(path, then, then); err != nil {
			t.Fatal(err)
		}
	}
	want := 0
	for _, n := range referenced {
		want += n
	}
	t.Logf("%d files before the sweep, %d referenced", len(before), want)
	d := startDemo(t, data)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for len(files(blobs)) > want {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("%d files are left, %d are referenced", len(files(blobs)), want)
		}
	}
	d.stop(t)
	left := map[string]int{}
	for _, path := range files(blobs) {
		sum := sha256.Sum256(readFile(t, path))
		left[hex.EncodeToString(sum[:])]++
	}
	if !maps.Equal(left, referenced) {
		t.Errorf("%d artifacts are left, not the %d that requests refer to", len(left), len(referenced))
	}
	if temporary := files(filepath.Join(data, "tmp")); len(temporary) > 0 {
		t.Errorf("temporary files are left: %q", temporary)
	}
}
