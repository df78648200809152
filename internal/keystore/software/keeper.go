package software

import (
	"context"

	"gocloud.dev/secrets"
)

// OpenKeeper opens the keeper of the master key that a URL names:
//
//	file:///var/lib/countersign/master.key   a local 32-byte key file, made on first use
//	base64key://...                          the key itself, 32 bytes in base64url
//	any other scheme                         the opener of others, such as that of a cloud KMS
//
// others may be nil. No error shows the key of a base64key URL.
func OpenKeeper(ctx context.Context, url string, others *secrets.URLMux) (*secrets.Keeper, error) {
	return nil, errSkeleton
}

// OpenMasterKeyFile returns the keeper of the master key in a file: 32 bytes in
// base64url and a newline. A missing file is created with a random key and mode
// 0600. A file that group or others may read or write is refused.
func OpenMasterKeyFile(path string) (*secrets.Keeper, error) { return nil, errSkeleton }
