package samples

import (
	"context"
	"os"
	"path/filepath"
	"sync"
	"testing"
)

func TestFetchOnce(t *testing.T) {
	t.Setenv("COUNTERSIGN_TESTDATA", t.TempDir())
	var fetched int // guarded by the lock under test
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			dir := fetch(t, "test", "@scope/name@1", func(_ context.Context, dir string) error {
				fetched++
				return os.WriteFile(filepath.Join(dir, "file"), []byte("content"), 0o644)
			})
			if got, err := os.ReadFile(filepath.Join(dir, "file")); err != nil || string(got) != "content" {
				t.Errorf("read %q, %v", got, err)
			}
		})
	}
	all.Wait()
	if fetched != 1 {
		t.Errorf("fetched %d times", fetched)
	}
}

func TestNPM(t *testing.T) {
	t.Parallel()
	dir := NPM(t, "7zip-bin", "5.2.0")
	if info, err := os.Stat(filepath.Join(dir, "package", "win", "x64", "7za.exe")); err != nil || info.Size() == 0 {
		t.Errorf("7za.exe: %v", err)
	}
}
