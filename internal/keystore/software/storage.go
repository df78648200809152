package software

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
)

// Storage keeps sealed keys by identifier. It need not keep them secret, nor
// unchanged: sealing does. Identifiers are of lower-case letters, digits and '-'.
// All methods may be called concurrently.
type Storage interface {
	// Put stores a new sealed key durably. An identifier that exists is an error.
	Put(ctx context.Context, keyID string, sealed []byte) error
	// Get returns the sealed key; found is false when there is none. The caller
	// does not change what it gets.
	Get(ctx context.Context, keyID string) (sealed []byte, found bool, err error)
	// Delete removes a sealed key; found is false when there was none.
	Delete(ctx context.Context, keyID string) (found bool, err error)
}

// Memory is a Storage that lasts as long as the process.
type Memory struct {
	mu   sync.RWMutex
	keys map[string][]byte
}

// NewMemory returns an empty Memory.
func NewMemory() *Memory { return &Memory{keys: make(map[string][]byte)} }

// Clone returns a Memory of its own with the same keys.
func (m *Memory) Clone() *Memory {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return &Memory{keys: maps.Clone(m.keys)}
}

// Put implements Storage.
func (m *Memory) Put(ctx context.Context, keyID string, sealed []byte) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, exists := m.keys[keyID]; exists {
		return fmt.Errorf("key %s exists", keyID)
	}
	m.keys[keyID] = slices.Clone(sealed)
	return nil
}

// Get implements Storage.
func (m *Memory) Get(ctx context.Context, keyID string) ([]byte, bool, error) {
	if err := ctx.Err(); err != nil {
		return nil, false, err
	}
	m.mu.RLock()
	defer m.mu.RUnlock()
	sealed, found := m.keys[keyID]
	return sealed, found, nil
}

// Delete implements Storage.
func (m *Memory) Delete(ctx context.Context, keyID string) (bool, error) {
	if err := ctx.Err(); err != nil {
		return false, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	_, found := m.keys[keyID]
	delete(m.keys, keyID)
	return found, nil
}

// maxSealed bounds the size of a key file, in octets; sealed RSA-4096 keys have
// about 2,500.
const maxSealed = 64 << 10

// Directory is a Storage of one file per key, named IDENTIFIER.key, in one
// directory.
type Directory struct{ path string }

// NewDirectory returns the Storage in a directory, which it creates (mode 0700)
// when it is missing.
func NewDirectory(path string) (*Directory, error) {
	if err := os.MkdirAll(path, 0o700); err != nil {
		return nil, fmt.Errorf("software: key directory: %w", err)
	}
	return &Directory{path: path}, nil
}

// file returns "" for what is not an identifier: nothing can be stored there.
func (d *Directory) file(keyID string) string {
	if keyID == "" || len(keyID) > 64 {
		return ""
	}
	for _, c := range keyID {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' {
			return ""
		}
	}
	return filepath.Join(d.path, keyID+".key")
}

// Put implements Storage.
func (d *Directory) Put(ctx context.Context, keyID string, sealed []byte) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	file := d.file(keyID)
	if file == "" {
		return fmt.Errorf("%q is not a key identifier", keyID)
	}
	return createFile(file, sealed)
}

// Get implements Storage.
func (d *Directory) Get(ctx context.Context, keyID string) ([]byte, bool, error) {
	if err := ctx.Err(); err != nil {
		return nil, false, err
	}
	file := d.file(keyID)
	if file == "" {
		return nil, false, nil
	}
	sealed, err := readFile(file, maxSealed)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, false, nil
	}
	return sealed, err == nil, err
}

// Delete implements Storage.
func (d *Directory) Delete(ctx context.Context, keyID string) (bool, error) {
	if err := ctx.Err(); err != nil {
		return false, err
	}
	file := d.file(keyID)
	if file == "" {
		return false, nil
	}
	err := os.Remove(file)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}
