package software

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"gocloud.dev/secrets"
	"gocloud.dev/secrets/localsecrets"
)

const (
	masterKeySize = 32
	keyScheme     = "base64key://"
)

// OpenKeeper opens the keeper of the master key that a URL names:
//
//	file:///var/lib/countersign/master.key   a local key file; see OpenMasterKeyFile
//	base64key://...                          the key itself, 32 octets in base64url
//	any other scheme                         what others opens, such as a cloud KMS
//
// others may be nil. No error shows the key of a base64key URL.
func OpenKeeper(ctx context.Context, rawURL string, others *secrets.URLMux) (*secrets.Keeper, error) {
	if encoded, ok := strings.CutPrefix(rawURL, keyScheme); ok {
		// An empty key means a random one elsewhere; here it would lose every key.
		key, err := decodeMasterKey([]byte(encoded))
		if err != nil {
			return nil, fmt.Errorf("software: the master key of the %s URL %w", keyScheme, err)
		}
		return localsecrets.NewKeeper(key), nil
	}
	u, err := url.Parse(rawURL)
	if err != nil || u.Scheme == "" {
		return nil, errors.New("software: the master key must be named by a URL, such as file:///var/lib/countersign/master.key")
	}
	if u.Scheme == "file" {
		if u.Host != "" || u.Path == "" {
			return nil, errors.New("software: a file URL of the master key has three slashes and an absolute path, such as file:///var/lib/countersign/master.key")
		}
		return OpenMasterKeyFile(filepath.FromSlash(u.Path))
	}
	if others == nil || !others.ValidKeeperScheme(u.Scheme) {
		return nil, fmt.Errorf("software: master key URLs of scheme %q are not supported by this build", u.Scheme)
	}
	keeper, err := others.OpenKeeperURL(ctx, u)
	if err != nil {
		return nil, fmt.Errorf("software: opening the keeper of scheme %q: %w", u.Scheme, err)
	}
	return keeper, nil
}

// OpenMasterKeyFile returns the keeper of the master key in a file: 32 octets in
// base64url and a newline. A missing file is created with a random key and mode
// 0600, and its directory with mode 0700. A file that others may read, or that
// others or the group may change, is refused.
func OpenMasterKeyFile(path string) (*secrets.Keeper, error) {
	if err := createMasterKey(path); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("software: creating the master key file: %w", err)
	}
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("software: master key file: %w", err)
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("software: the master key file %s is not a regular file", path)
	}
	if mode := info.Mode().Perm(); runtime.GOOS != "windows" && mode&0o027 != 0 {
		return nil, fmt.Errorf("software: the master key file %s has mode %04o: others could read or change it; run chmod 600 on it, and replace it if it was exposed", path, mode)
	}
	data, err := readFile(path, 1024)
	if err != nil {
		return nil, fmt.Errorf("software: master key file: %w", err)
	}
	defer clear(data)
	key, err := decodeMasterKey(data)
	if err != nil {
		return nil, fmt.Errorf("software: the master key in %s %w; restore the file from a backup", path, err)
	}
	return localsecrets.NewKeeper(key), nil
}

func createMasterKey(path string) error {
	if _, err := os.Lstat(path); err == nil {
		return fs.ErrExist
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	key, err := localsecrets.NewRandomKey()
	if err != nil {
		return err
	}
	return createFile(path, append(base64.URLEncoding.AppendEncode(nil, key[:]), '\n'))
}

func decodeMasterKey(text []byte) (key [masterKeySize]byte, err error) {
	text = bytes.TrimRight(bytes.TrimSpace(text), "=")
	decoded, err := base64.RawURLEncoding.AppendDecode(nil, text)
	if err != nil {
		return key, errors.New("is not base64url")
	}
	if len(decoded) != masterKeySize {
		return key, fmt.Errorf("has %d octets, not %d", len(decoded), masterKeySize)
	}
	return [masterKeySize]byte(decoded), nil
}
