package client_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"

	"github.com/countersign-dev/countersign/client"
)

// Sign a program: submit, wait, download.
func Example() {
	if err := sign(context.Background(), "app.exe", "app-signed.exe"); err != nil {
		slog.Error("signing failed", "error", err)
	}
}

func sign(ctx context.Context, in, out string) error {
	c, err := client.New("https://sign.example.com", os.Getenv("COUNTERSIGN_TOKEN"), os.Getenv("COUNTERSIGN_ORGANIZATION"))
	if err != nil {
		return err
	}
	f, err := os.Open(in)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	r, err := c.Submit(ctx, client.Submission{
		ProjectSlug: "app", PolicySlug: "test-signing",
		Artifact: client.Upload{Name: "app.exe", Content: f, Size: info.Size()},
	})
	if err != nil {
		return err
	}
	state, err := c.Wait(ctx, r.SigningRequestID, client.WaitOptions{})
	if err != nil {
		return err
	}
	if state.Status != "Completed" {
		return fmt.Errorf("signing request %s is %s", r.SigningRequestID, state.Status)
	}
	_, err = c.Download(ctx, r.SigningRequestID, out, client.DownloadOptions{})
	return err
}
