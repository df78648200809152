//go:build !linux

package spool

import "os"

// copyFileRange leaves the copy to the caller: only Linux copies between files
// from a given offset.
func copyFileRange(_, _ *os.File, _, _ int64) (int64, error) { return 0, nil }
