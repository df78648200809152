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
// takes path's name once its content is on the disk. An existing file is replaced in one step, or left as it is when
// anything fails. Without replace an existing file is an error that wraps [fs.ErrExist].
func WriteFile(path string, mode fs.FileMode, replace bool, write func(*os.File) error) error {
	exists := func() error {
		if _, err := os.Lstat(path); !replace && err == nil {
			return &fs.PathError{Op: "write", Path: path, Err: fs.ErrExist}
		}
		return nil
	}
	if err := exists(); err != nil {
		return err
	}
	dir, name := filepath.Split(path)
	f, err := os.OpenFile(dir+"."+name+"."+rand.Text()[:12]+".part", os.O_RDWR|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(f.Name()) }() // it has another name by then when all went well
	if err := errors.Join(write(f), f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := exists(); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return fmt.Errorf("put the finished file in its place: %w", err)
	}
	return nil
}
