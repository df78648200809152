package client_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/countersign-dev/countersign/client"
)

func TestWriteFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "f")
	put := func(text string) func(*os.File) error {
		return func(f *os.File) error { _, err := f.WriteString(text); return err }
	}
	expect := func(name, text string) {
		t.Helper()
		if b, err := os.ReadFile(filepath.Join(dir, name)); err != nil || string(b) != text {
			t.Errorf("%s: %q, %v", name, b, err)
		}
	}
	if err := client.WriteFile(path, false, put("one")); err != nil {
		t.Fatal(err)
	}
	expect("f", "one")
	if err := client.WriteFile(path, false, put("two")); !errors.Is(err, fs.ErrExist) {
		t.Error(err)
	}
	failure := errors.New("failure")
	if err := client.WriteFile(path, true, func(f *os.File) error { return errors.Join(put("half")(f), failure) }); !errors.Is(err, failure) {
		t.Error(err)
	}
	expect("f", "one")
	onlyFiles(t, dir, "f")

	// The permissions stay, and a link stays one.
	if err := os.Chmod(path, 0o640); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("f", filepath.Join(dir, "link")); err != nil {
		t.Skip("no symbolic links here:", err)
	}
	if err := client.WriteFile(filepath.Join(dir, "link"), true, put("three")); err != nil {
		t.Fatal(err)
	}
	expect("f", "three")
	if info, err := os.Lstat(path); err != nil || info.Mode().Perm() != 0o640 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	if info, err := os.Lstat(filepath.Join(dir, "link")); err != nil || info.Mode().Type() != fs.ModeSymlink {
		t.Errorf("%v, %v", info.Mode(), err)
	}

	// What is no file is not replaced by one.
	if err := client.WriteFile(dir, true, put("x")); err == nil {
		t.Error("a directory was replaced")
	}
	if err := client.WriteFile(os.DevNull, true, put("x")); err == nil {
		t.Error("a device was replaced")
	}
	// A file that appears meanwhile is kept.
	late := filepath.Join(dir, "late")
	if err := client.WriteFile(late, false, func(*os.File) error { return os.WriteFile(late, []byte("other"), 0o600) }); !errors.Is(err, fs.ErrExist) {
		t.Error(err)
	}
	expect("late", "other")
}
