package spool

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// copyFileRange copies up to n bytes with copy_file_range(2), which takes the
// source's offset as an argument, so that readers of the same file do not
// disturb each other. It returns fewer than n bytes and no error when the
// kernel or the file systems cannot do (the rest of) it.
func copyFileRange(dst, src *os.File, off, n int64) (int64, error) {
	const most = 1 << 30 // per call, below the kernel's limit of 2 GiB less a page
	from, err := src.SyscallConn()
	if err != nil {
		return 0, nil
	}
	to, err := dst.SyscallConn()
	if err != nil {
		return 0, nil
	}
	var written int64
	for written < n {
		var copied int
		var failure, inner error
		position := off + written
		outer := from.Control(func(fromFD uintptr) {
			inner = to.Control(func(toFD uintptr) {
				copied, failure = unix.CopyFileRange(int(fromFD), &position, int(toFD), nil, int(min(n-written, most)), 0)
			})
		})
		switch {
		case outer != nil || inner != nil: // a file is closed; the ordinary copy says which
			return written, nil
		case errors.Is(failure, unix.EINTR):
			continue
		case errors.Is(failure, unix.ENOSPC), errors.Is(failure, unix.EDQUOT), errors.Is(failure, unix.EFBIG):
			return written, &os.PathError{Op: "copy_file_range", Path: dst.Name(), Err: failure}
		case failure != nil || copied <= 0:
			return written, nil
		}
		written += int64(copied)
	}
	return written, nil
}
