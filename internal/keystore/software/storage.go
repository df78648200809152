package software

import (
	"context"
	"errors"
)

// Storage keeps sealed keys by identifier. It need not keep them secret, nor
// whole: sealing does. Identifiers are of lower-case letters, digits and '-'.
type Storage interface {
	// Put stores a new sealed key. An identifier that exists is an error.
	Put(ctx context.Context, keyID string, sealed []byte) error
	// Get returns the sealed key; found is false when there is none.
	Get(ctx context.Context, keyID string) (sealed []byte, found bool, err error)
	// Delete removes a sealed key; found is false when there was none.
	Delete(ctx context.Context, keyID string) (found bool, err error)
}

// Memory is a Storage that lasts as long as the process.
type Memory struct{}

// NewMemory returns an empty Memory.
func NewMemory() *Memory { return &Memory{} }

// Put implements Storage.
func (m *Memory) Put(ctx context.Context, keyID string, sealed []byte) error { return errSkeleton }

// Get implements Storage.
func (m *Memory) Get(ctx context.Context, keyID string) ([]byte, bool, error) {
	return nil, false, errSkeleton
}

// Delete implements Storage.
func (m *Memory) Delete(ctx context.Context, keyID string) (bool, error) { return false, errSkeleton }

// Directory is a Storage of one file per key in one directory.
type Directory struct{ path string }

// NewDirectory returns the Storage in a directory, which it creates (mode 0700)
// when it is missing.
func NewDirectory(path string) (*Directory, error) { return &Directory{path: path}, nil }

// Put implements Storage.
func (d *Directory) Put(ctx context.Context, keyID string, sealed []byte) error { return errSkeleton }

// Get implements Storage.
func (d *Directory) Get(ctx context.Context, keyID string) ([]byte, bool, error) {
	return nil, false, errSkeleton
}

// Delete implements Storage.
func (d *Directory) Delete(ctx context.Context, keyID string) (bool, error) {
	return false, errSkeleton
}

var errSkeleton = errors.New("software: not implemented")
