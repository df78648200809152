package client

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// WriteFile makes a file whole or not at all: write fills a temporary file beside path (opened for reading, too), which
// takes path's name at the end.
//
// With replace, an existing regular file is replaced in one step, once the new content is on the disk, and keeps its
// permissions, or stays as it is when anything fails; of a symbolic link its target is replaced. Without replace, whatever
// exists is an error that wraps [fs.ErrExist].
func WriteFile(path string, replace bool, write func(*os.File) error) error {
	old, err := existing(path, replace)
	if err != nil {
		return err
	}
	if old != nil {
		if path, err = filepath.EvalSymlinks(path); err != nil {
			return err
		}
	}
	dir, name := filepath.Split(path)
	f, err := os.OpenFile(dir+"."+name+"."+rand.Text()[:12]+".part", os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o666) //nolint:gosec // the user's umask decides about the user's files
	if err != nil {
		if wrong := (*fs.PathError)(nil); errors.As(err, &wrong) {
			wrong.Path = path // nobody knows the temporary file
		}
		return err
	}
	defer func() { _ = os.Remove(f.Name()) }() // it has another name by then when all went well
	if old != nil {
		err = f.Chmod(old.Mode().Perm())
	}
	if err == nil {
		err = write(f)
	}
	if err == nil && old != nil { // a crash of the system must not take old and new
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if _, err := existing(path, replace); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return fmt.Errorf("put the finished file in its place: %w", err)
	}
	return nil
}

// existing returns what is at path, nil for nothing, or an error when it must not be replaced.
func existing(path string, replace bool) (fs.FileInfo, error) {
	if _, err := os.Lstat(path); err == nil && !replace {
		return nil, &fs.PathError{Op: "write", Path: path, Err: fs.ErrExist}
	}
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil
	case err != nil:
		return nil, err
	case !info.Mode().IsRegular():
		return nil, &fs.PathError{Op: "write", Path: path, Err: errors.New("not a regular file")}
	}
	return info, nil
}
