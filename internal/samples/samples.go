// Package samples fetches files that others made, for tests, and caches them, so
// that they need not be committed.
//
// The cache is the directory that the environment names as COUNTERSIGN_TESTDATA,
// or countersign-testdata in the user's cache directory. Tests and processes that
// run side by side fetch a sample once.
package samples

import (
	"archive/tar"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/countersign-dev/countersign/internal/oracle"
)

// Limits of a fetch.
const (
	fetchTime   = 3 * time.Minute
	maxUnpacked = 1 << 30
)

// NPM returns the directory with the unpacked content of an npm package in the
// given version, its folder package/ being the package itself. When it cannot be
// fetched the test is skipped, loudly, or fails when the environment has CI set.
// The files are shared: they must not be changed.
func NPM(t testing.TB, name, version string) string {
	t.Helper()
	npm := oracle.Need(t, "npm")
	return fetch(t, "npm", name+"@"+version, func(ctx context.Context, dir string) error {
		if err := run(ctx, dir, npm, "pack", "--silent", "--fetch-retries=1", "--fetch-retry-mintimeout=1000", "--pack-destination", dir, name+"@"+version); err != nil {
			return err
		}
		archives, err := filepath.Glob(filepath.Join(dir, "*.tgz"))
		if err != nil || len(archives) != 1 {
			return errors.Join(fmt.Errorf("npm pack left %d archives", len(archives)), err)
		}
		if err := untar(archives[0], dir); err != nil {
			return err
		}
		return os.Remove(archives[0])
	})
}

// Debian returns the directory with the unpacked content of a Debian package, in
// the version that the machine's own release has. When it cannot be fetched the
// test is skipped, loudly, or fails when the environment has CI set. The files are
// shared: they must not be changed.
func Debian(t testing.TB, name string) string {
	t.Helper()
	apt, dpkg := oracle.Need(t, "apt-get"), oracle.Need(t, "dpkg-deb")
	return fetch(t, "debian", name, func(ctx context.Context, dir string) error {
		if err := run(ctx, dir, apt, "download", "-q", name); err != nil {
			return err
		}
		archives, err := filepath.Glob(filepath.Join(dir, "*.deb"))
		if err != nil || len(archives) != 1 {
			return errors.Join(fmt.Errorf("apt-get download left %d archives", len(archives)), err)
		}
		if err := run(ctx, dir, dpkg, "-x", archives[0], dir); err != nil {
			return err
		}
		return os.Remove(archives[0])
	})
}

// fetch fills a directory of the cache, unless that was done before.
func fetch(t testing.TB, kind, name string, fill func(ctx context.Context, dir string) error) string {
	t.Helper()
	cache, err := cacheDir()
	if err != nil {
		t.Fatalf("samples: %v", err)
	}
	dir := filepath.Join(cache, kind, strings.NewReplacer("/", "+").Replace(name))
	if err := os.MkdirAll(filepath.Dir(dir), 0o700); err != nil {
		t.Fatalf("samples: %v", err)
	}
	unlock, err := lock(dir + ".lock")
	if err != nil {
		t.Fatalf("samples: %v", err)
	}
	defer unlock()
	if _, err := os.Stat(dir); err == nil {
		return dir
	}
	// Filled under another name and then renamed: a directory that exists is whole.
	partial := dir + ".partial"
	if err := errors.Join(os.RemoveAll(partial), os.Mkdir(partial, 0o700)); err != nil {
		t.Fatalf("samples: %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), fetchTime)
	defer cancel()
	if err := fill(ctx, partial); err != nil {
		oracle.Missing(t, "sample %s %s: %v", kind, name, err)
	}
	if err := os.Rename(partial, dir); err != nil {
		t.Fatalf("samples: %v", err)
	}
	return dir
}

func cacheDir() (string, error) {
	if dir := os.Getenv("COUNTERSIGN_TESTDATA"); dir != "" {
		return filepath.Abs(dir)
	}
	dir, err := os.UserCacheDir()
	return filepath.Join(dir, "countersign-testdata"), err
}

// lock waits for the exclusive lock of a file, between goroutines and processes.
func lock(path string) (unlock func(), err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return func() { _ = f.Close() }, nil // closing unlocks
}

func run(ctx context.Context, dir, program string, arguments ...string) error {
	command := exec.CommandContext(ctx, program, arguments...)
	command.Dir = dir
	if output, err := command.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", filepath.Base(program), err, output)
	}
	return nil
}

// untar unpacks the regular files of a .tgz below dir.
func untar(archive, dir string) error {
	f, err := os.Open(archive)
	if err != nil {
		return err
	}
	defer f.Close()
	unzipped, err := gzip.NewReader(f)
	if err != nil {
		return err
	}
	root, err := os.OpenRoot(dir) // keeps every path inside
	if err != nil {
		return err
	}
	defer func() { _ = root.Close() }()
	reader, left := tar.NewReader(unzipped), int64(maxUnpacked)
	for {
		header, err := reader.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if header.Typeflag != tar.TypeReg {
			continue
		}
		if left -= header.Size; left < 0 {
			return fmt.Errorf("%s unpacks to more than %d octets", archive, maxUnpacked)
		}
		name := filepath.FromSlash(header.Name)
		if err := root.MkdirAll(filepath.Dir(name), 0o700); err != nil {
			return err
		}
		file, err := root.Create(name)
		if err != nil {
			return err
		}
		_, err = io.CopyN(file, reader, header.Size)
		if err := errors.Join(err, file.Close()); err != nil {
			return err
		}
	}
}
