package signing_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/countersign-dev/countersign/internal/signing"
)

// fetcher answers from memory.
type fetcher struct {
	content []byte
	err     error
	url     string
	headers map[string]string
	calls   int
}

func (f *fetcher) Check(url string) error {
	if !strings.HasPrefix(url, "https://ci.example/") {
		return errors.New("only https://ci.example/ is allowed")
	}
	return nil
}

func (f *fetcher) Fetch(_ context.Context, url string, headers map[string]string) (io.ReadCloser, error) {
	f.calls++
	f.url, f.headers = url, headers
	if f.err != nil {
		return nil, f.err
	}
	return io.NopCloser(bytes.NewReader(f.content)), nil
}

// reversing seals by reversing, so that a plain text in the database is found.
type reversing struct{}

func (reversing) Encrypt(_ context.Context, p []byte) ([]byte, error) { return reverse(p), nil }
func (reversing) Decrypt(_ context.Context, s []byte) ([]byte, error) { return reverse(s), nil }

func reverse(b []byte) []byte {
	b = bytes.Clone(b)
	slices.Reverse(b)
	return b
}

func withFetcher(f *fetcher) option {
	return func(c *signing.Config) { c.Fetcher, c.Secrets = f, reversing{} }
}

func hexSum(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

func (w *world) submitLate(t *testing.T, change func(*signing.Submission)) (*signing.Request, error) {
	t.Helper()
	sub := signing.Submission{Target: signing.Target{ProjectSlug: "app", PolicySlug: "test-signing"}}
	change(&sub)
	r, _, err := w.Submit(t.Context(), w.CI, sub)
	return r, err
}

// verification returns the request's verification of that name; the zero value when there is none.
func (w *world) verification(t *testing.T, id signing.ID, name string) signing.Verification {
	t.Helper()
	view, err := w.Request(t.Context(), w.CI, id)
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range view.Verifications {
		if v.Name == name {
			return v
		}
	}
	return signing.Verification{}
}

// TestUploadTwiceAtOnce: of several uploads at a time, one counts; none leaves bytes behind.
func TestUploadTwiceAtOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	r, err := w.submitLate(t, func(s *signing.Submission) { s.Upload = &signing.Upload{FileName: "late.exe"} })
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	contents := [][]byte{examplePE, examplePE, append(bytes.Clone(examplePE), make([]byte, 8)...), examplePE}
	kinds := make([]signing.Kind, len(contents))
	for i, content := range contents {
		wg.Go(func() {
			_, err := w.UploadArtifact(t.Context(), w.CI, r.ID, bytes.NewReader(content))
			kinds[i] = signing.KindOf(err)
		})
	}
	wg.Wait()
	held := w.status(t, r.ID).Unsigned.SHA256
	for i, content := range contents {
		if want := map[bool]signing.Kind{true: 0, false: signing.KindConflict}[hexSum(content) == held]; kinds[i] != want {
			t.Errorf("upload %d ended with an error of kind %d, want %d", i, kinds[i], want)
		}
	}
	if got := w.events(t, r.ID); !slices.Equal(got, []string{"Submitted", "ArtifactReceived"}) {
		t.Errorf("audit entries %v", got)
	}
	blobs := 0
	if err := w.blobs.List(t.Context(), time.Now().Add(time.Hour), func(signing.BlobID) error { blobs++; return nil }); err != nil || blobs != 1 {
		t.Errorf("%d blobs, want one: %v", blobs, err)
	}
}

func TestUploadLater(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := t.Context()
	r, err := w.submitLate(t, func(s *signing.Submission) {
		s.Upload = &signing.Upload{FileName: "late.exe", SHA256: strings.ToUpper(hexSum(examplePE))}
	})
	if err != nil {
		t.Fatal(err)
	}
	if got := w.advance(t, r.ID); got.Workflow != signing.WorkflowSubmitted || !got.AwaitsUpload() {
		t.Fatalf("before the upload: %s", got.Workflow)
	}
	_, err = w.UnsignedArtifact(ctx, w.CI, r.ID)
	wantKind(t, err, signing.KindInvalid)
	_, err = w.UploadArtifact(ctx, w.Approver, r.ID, bytes.NewReader(examplePE))
	wantKind(t, err, signing.KindForbidden)
	_, err = w.UploadArtifact(ctx, w.Stranger, r.ID, bytes.NewReader(examplePE))
	wantKind(t, err, signing.KindNotFound)
	_, err = w.UploadArtifact(ctx, w.CI, r.ID, strings.NewReader("something else"))
	wantKind(t, err, signing.KindInvalid)
	if _, err = w.UploadArtifact(ctx, w.CI, r.ID, bytes.NewReader(examplePE)); err != nil {
		t.Fatal(err)
	}
	// A client that did not hear the answer sends the same bytes again; other bytes are refused.
	again := func(what string) {
		t.Helper()
		if got, err := w.UploadArtifact(ctx, w.CI, r.ID, bytes.NewReader(examplePE)); err != nil || got.Unsigned.BlobID != w.status(t, r.ID).Unsigned.BlobID {
			t.Errorf("%s, the same artifact again: %v", what, err)
		}
		_, err := w.UploadArtifact(ctx, w.CI, r.ID, strings.NewReader("something else"))
		wantKind(t, err, signing.KindConflict)
	}
	again("pending")
	if got := w.advance(t, r.ID); got.Workflow != signing.WorkflowCompleted || got.Unsigned.FileName != "late.exe" {
		t.Errorf("%s, %+v", got.Workflow, got.Failure)
	}
	if want := []string{"Submitted", "ArtifactReceived", "SigningStarted", "Completed"}; !slices.Equal(w.events(t, r.ID), want) {
		t.Errorf("audit entries %v", w.events(t, r.ID))
	}
	w.checkInvariants(t, r.ID)
	again("completed")
	if v := w.verification(t, r.ID, "ArtifactDigest"); v.Result != signing.Passed || v.Inputs[0].Value != hexSum(examplePE) || v.Inputs[1].Value != hexSum(examplePE) {
		t.Errorf("the announced hash: %+v", v)
	}

	never, err := w.submitLate(t, func(s *signing.Submission) {
		s.Upload = &signing.Upload{FileName: "never.exe"}
		s.CancellationTimeout = time.Minute
	})
	if err != nil {
		t.Fatal(err)
	}
	w.clock.advance(2 * time.Minute)
	if err := w.Sweep(ctx); err != nil || w.status(t, never.ID).Workflow != signing.WorkflowCanceled {
		t.Errorf("an upload that never came: %s, %v", w.status(t, never.ID).Workflow, err)
	}
	_, err = w.UploadArtifact(ctx, w.CI, never.ID, bytes.NewReader(examplePE))
	wantKind(t, err, signing.KindConflict)
}

func TestRetrievalLink(t *testing.T) {
	t.Parallel()
	link := func() *signing.Link {
		return &signing.Link{URL: "https://ci.example/app.exe?signature=presigned", FileName: "app.exe", SHA256: strings.ToUpper(hexSum(examplePE)), Headers: map[string]string{"Authorization": "Bearer retrieval-token"}}
	}
	t.Run("good", func(t *testing.T) {
		t.Parallel()
		f := &fetcher{content: examplePE}
		w := newWorld(t, withFetcher(f))
		r, err := w.submitLate(t, func(s *signing.Submission) { s.Link, s.PolicySlug = link(), "release-signing" })
		if err != nil || r.Workflow != signing.WorkflowRetrievingArtifact {
			t.Fatalf("%+v, %v", r, err)
		}
		stored := w.status(t, r.ID)
		for _, secret := range []string{"retrieval-token", "presigned"} {
			if strings.Contains(fmt.Sprintf("%+v %s", stored, stored.Retrieval.SealedTarget), secret) {
				t.Errorf("'%s' is stored in plain text", secret)
			}
		}
		if got := w.advance(t, r.ID); got.Workflow != signing.WorkflowWaitingForApproval || got.Retrieval != nil || got.Unsigned.SHA256 != hexSum(examplePE) {
			t.Errorf("%s, %+v, %+v", got.Workflow, got.Failure, got.Retrieval)
		}
		if f.url != link().URL {
			t.Errorf("%s was retrieved", f.url)
		}
		if !maps.Equal(f.headers, link().Headers) {
			t.Errorf("headers %v were sent", f.headers)
		}
	})
	for name, c := range map[string]struct {
		fetcher *fetcher
		tries   int
		message string
	}{
		"wrong content": {&fetcher{content: []byte("MZ other")}, 1, "SHA-256"},
		"empty":         {&fetcher{}, 1, "empty"},
		"not found":     {&fetcher{err: &signing.FetchError{Message: "ci.example answered 404"}}, 1, "404"},
		"unavailable":   {&fetcher{err: &signing.FetchError{Message: "ci.example answered 503", Temporary: true}}, 5, "503"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, withFetcher(c.fetcher))
			r, err := w.submitLate(t, func(s *signing.Submission) { s.Link = link() })
			if err != nil {
				t.Fatal(err)
			}
			var got *signing.Request
			for range c.tries {
				got = w.advance(t, r.ID)
			}
			if name == "wrong content" {
				if v := w.verification(t, r.ID, "ArtifactDigest"); v.Result != signing.NotPassed || v.Remedy == "" || v.Inputs[1].Value != hexSum(c.fetcher.content) {
					t.Errorf("the announced hash: %+v", v)
				}
			}
			if got.Workflow != signing.WorkflowArtifactRetrievalFailed || !strings.Contains(got.Failure.Message, c.message) || c.fetcher.calls != c.tries || got.Retrieval != nil {
				t.Errorf("%s, %+v after %d calls", got.Workflow, got.Failure, c.fetcher.calls)
			}
		})
	}
	t.Run("refused", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, withFetcher(&fetcher{}))
		for name, change := range map[string]func(*signing.Link){
			"no URL": func(l *signing.Link) { l.URL = "" }, "other host": func(l *signing.Link) { l.URL = "https://10.0.0.1/" },
			"no name": func(l *signing.Link) { l.FileName = "" }, "bad hash": func(l *signing.Link) { l.SHA256 = "12" },
			"header twice": func(l *signing.Link) { l.Headers = map[string]string{"X-A": "1", "x-a": "2"} },
			"host":         func(l *signing.Link) { l.Headers = map[string]string{"Host": "evil.example"} },
			"control":      func(l *signing.Link) { l.Headers = map[string]string{"A": "b\x01"} },
			"bad header":   func(l *signing.Link) { l.Headers = map[string]string{"A": "b\r\nC: d"} },
		} {
			l := link()
			change(l)
			_, err := w.submitLate(t, func(s *signing.Submission) { s.Link = l })
			if signing.KindOf(err) != signing.KindInvalid {
				t.Errorf("%s: %v", name, err)
			}
		}
		_, err := newWorld(t).submitLate(t, func(s *signing.Submission) { s.Link = link() })
		wantKind(t, err, signing.KindInvalid) // a server without a fetcher
	})
}

// slowFetcher lets whoever fetches wait until it is released.
type slowFetcher struct {
	fetcher
	began, release chan struct{}
}

func (f *slowFetcher) Fetch(ctx context.Context, url string, headers map[string]string) (io.ReadCloser, error) {
	close(f.began)
	<-f.release
	return f.fetcher.Fetch(ctx, url, headers)
}

// TestSlowRetrieval: while an artifact is retrieved, others are signed, even those that have to be alone.
func TestSlowRetrieval(t *testing.T) {
	t.Parallel()
	f := &slowFetcher{fetcher: fetcher{content: examplePE}, began: make(chan struct{}), release: make(chan struct{})}
	w := newWorld(t, func(c *signing.Config) { c.Fetcher, c.Secrets = f, reversing{} })
	slow, err := w.submitLate(t, func(s *signing.Submission) {
		s.Link = &signing.Link{URL: "https://ci.example/app.exe", FileName: "app.exe"}
	})
	if err != nil {
		t.Fatal(err)
	}
	retrieved := make(chan error)
	go func() { retrieved <- w.Retrieve(t.Context(), slow.ID) }()
	<-f.began
	suspect := w.submit(t, "test-signing")
	if err := w.db.Tx(t.Context(), func(tx signing.Tx) error {
		r, err := tx.LockRequest(t.Context(), suspect.OrganizationID, suspect.ID)
		if err != nil {
			return err
		}
		r.Unfinished = 2
		return tx.UpdateRequest(t.Context(), r)
	}); err != nil {
		t.Fatal(err)
	}
	if got := w.advance(t, suspect.ID); got.Workflow != signing.WorkflowCompleted {
		t.Errorf("%s, %+v", got.Workflow, got.Failure)
	}
	close(f.release)
	if err := <-retrieved; err != nil {
		t.Fatal(err)
	}
	// What is left to do takes an attempt of its own, and retrieving once more does nothing.
	if err := w.Retrieve(t.Context(), slow.ID); err != nil {
		t.Fatal(err)
	}
	if got := w.status(t, slow.ID); got.Workflow != signing.WorkflowSubmitted || got.Retrieval != nil || got.LeaseUntil != nil || got.Tries != 0 || got.WakeAt == nil {
		t.Errorf("retrieved: %+v", got)
	}
	if got := w.advance(t, slow.ID); got.Workflow != signing.WorkflowCompleted || f.calls != 1 {
		t.Errorf("%s, %+v after %d calls", got.Workflow, got.Failure, f.calls)
	}
	w.checkInvariants(t, slow.ID)
}

func TestResubmitFailedWithCurrentSettings(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := t.Context()
	strict := strings.Replace(exeConfiguration, "<pe-file>", `<pe-file product-name="Other">`, 1)
	if _, err := w.EditConfiguration(ctx, w.Admin, "app", "exe", signing.ConfigurationEdit{XML: &strict}); err != nil {
		t.Fatal(err)
	}
	r := w.submit(t, "test-signing")
	if got := w.advance(t, r.ID); got.Workflow != signing.WorkflowProcessingFailed {
		t.Fatal(got.Workflow)
	}
	_, err := w.Resubmit(ctx, w.CI, signing.Resubmission{OriginalID: r.ID, PolicySlug: "test-signing"})
	wantField(t, "failed", err, "OriginalSigningRequestId")
	// The new version declares another parameter instead: the old one's default does not stand in the way.
	changed := strings.Replace(exeConfiguration, `name="version" default-value="1.0"`, `name="build" default-value="7"`, 1)
	if _, err := w.CreateConfiguration(ctx, w.Admin, "app", signing.ConfigurationEdit{Slug: ptr("next"), Name: ptr("next"), XML: ptr(exeConfiguration)}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.EditProject(ctx, w.Admin, "app", signing.ProjectEdit{DefaultConfigurationSlug: ptr("next")}); err != nil {
		t.Fatal(err)
	}
	off := ptr(false)
	for _, e := range []signing.ConfigurationEdit{{XML: &changed}, {Active: off}} {
		if _, err := w.EditConfiguration(ctx, w.Admin, "app", "exe", e); err != nil {
			t.Fatal(err)
		}
	}
	_, err = w.Resubmit(ctx, w.CI, signing.Resubmission{OriginalID: r.ID, CurrentSettings: true})
	wantField(t, "deactivated configuration", err, "OriginalSigningRequestId")
	if _, err := w.EditConfiguration(ctx, w.Admin, "app", "exe", signing.ConfigurationEdit{Active: ptr(true)}); err != nil {
		t.Fatal(err)
	}
	again, err := w.Resubmit(ctx, w.CI, signing.Resubmission{OriginalID: r.ID, CurrentSettings: true})
	if err != nil {
		t.Fatal(err)
	}
	if got := w.advance(t, again.ID); got.Workflow != signing.WorkflowCompleted || got.ConfigurationVersion != 3 || got.OriginalID != r.ID || got.PolicyID != r.PolicyID || !maps.Equal(got.Parameters, map[string]string{"build": "7"}) {
		t.Errorf("%s, %+v", got.Workflow, got)
	}
}
