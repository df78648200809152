package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"sync"
	"testing"
	"time"

	"github.com/countersign-dev/countersign/api"
	"github.com/countersign-dev/countersign/client"
	"github.com/countersign-dev/countersign/internal/samples"
)

// TestShutdown stops the server gracefully while requests are under way: it ends in time and without an error, and after
// its next start every accepted request is completed.
func TestShutdown(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	exe := readFile(t, samples.GoEXE(t, "amd64"))
	data := t.TempDir()
	d := startDemo(t, data, "--workers", "1")
	const requests = 24
	var mu sync.Mutex
	var accepted []string
	enough := make(chan struct{})
	var submitters sync.WaitGroup
	for i := range requests {
		submitters.Go(func() {
			submitted, err := d.client(t, d.Tokens.CI).Submit(ctx, client.Submission{
				ProjectSlug: "demo", PolicySlug: "test-signing", Artifact: upload(fmt.Sprintf("app-%d.exe", i), exe),
			})
			var answer *client.Error
			switch {
			case errors.As(err, &answer):
				t.Errorf("submit %d: %v", i, err)
			case err == nil: // a refused connection is how a server that stops says no
				mu.Lock()
				defer mu.Unlock()
				if accepted = append(accepted, submitted.SigningRequestID); len(accepted) == requests/2 {
					close(enough)
				}
			}
		})
	}
	select {
	case <-enough:
	case <-ctx.Done():
		t.Fatal("the server accepts nothing")
	}
	d.stop(t)
	submitters.Wait()
	again := startDemo(t, data)
	c := again.client(t, again.Tokens.CI)
	for _, id := range accepted {
		state, err := c.Wait(ctx, id, client.WaitOptions{})
		if err != nil || state.Status != api.SigningRequestStatusCompleted {
			t.Errorf("request %s: %+v, %v", id, state, err)
		}
	}
	again.stop(t)
}

// TestOneServerForEachEmbeddedDatabase: a second process is refused, with advice, and does not disturb the first.
func TestOneServerForEachEmbeddedDatabase(t *testing.T) {
	t.Parallel()
	data := t.TempDir()
	d := startDemo(t, data)
	for _, command := range []string{"demo", "serve"} {
		out, err := exec.CommandContext(t.Context(), program(t), command, "--data", data, "--listen", "127.0.0.1:0").CombinedOutput()
		if err == nil || !bytes.Contains(out, []byte("another countersign process uses")) || !bytes.Contains(out, []byte("PostgreSQL")) {
			t.Errorf("%s: %v, %s", command, err, out)
		}
	}
	if _, err := d.client(t, d.Tokens.CI).Projects(t.Context()); err != nil {
		t.Errorf("the first server: %v", err)
	}
	d.stop(t)
}
