package client

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"

	"github.com/countersign-dev/countersign/api"
)

// Which names a file of a signing request.
type Which int

// The files of a signing request.
const (
	Signed        Which = iota // the signed artifact
	Unsigned                   // the artifact as submitted
	BuildSettings              // the build settings file of the origin
)

// DownloadOptions say how to download. The zero value is usable.
type DownloadOptions struct {
	Which    Which
	Replace  bool                    // replace an existing file
	SHA256   string                  // that the file must have, hexadecimal; what the server says when empty
	Progress func(done, total int64) // of bytes; total is 0 while unknown; nil for nobody
}

// Downloaded is a file that arrived.
type Downloaded struct {
	Size   int64  // in bytes
	SHA256 string // lower-case hexadecimal
}

// ErrDigest says that a download has other bytes than it should have.
var ErrDigest = errors.New("client: the file that arrived has another SHA-256 than expected")

// Download writes a file of a signing request to path. A broken connection is resumed where it broke (RFC 9110, section
// 14). The file appears under its name when it is complete and its SHA-256 is right, and not at all otherwise; without
// Replace an existing file is an error that wraps [io/fs.ErrExist].
func (c *Client) Download(ctx context.Context, id, path string, o DownloadOptions) (*Downloaded, error) {
	d := &download{client: c, id: id, options: o, hash: sha256.New(), expected: strings.ToLower(o.SHA256)}
	err := WriteFile(path, o.Replace, func(f *os.File) error {
		d.file = f
		return d.run(ctx)
	})
	if err != nil {
		return nil, err
	}
	return &Downloaded{Size: d.done, SHA256: hex.EncodeToString(d.hash.Sum(nil))}, nil
}

// download is a running download.
type download struct {
	client   *Client
	id       string
	options  DownloadOptions
	file     *os.File
	hash     hash.Hash // of what is in the file
	done     int64     // bytes in the file
	total    int64     // 0 while unknown
	etag     string    // of what is in the file
	expected string    // SHA-256, hexadecimal; empty while unknown
}

// run fetches until the file is complete.
func (d *download) run(ctx context.Context) error {
	for attempt := 1; ; attempt++ {
		before := d.done
		err := d.fetch(ctx)
		if err == nil {
			break
		}
		if d.done > before {
			attempt = 1 // it goes on
		}
		if !worthAnother(err, repeatable) || !d.client.pause(ctx, attempt, err) {
			return describe(ctx, err)
		}
	}
	if sum := hex.EncodeToString(d.hash.Sum(nil)); d.expected != "" && sum != d.expected {
		return fmt.Errorf("%w: %s, not %s", ErrDigest, sum, d.expected)
	}
	return nil
}

// fetch asks for what is missing and appends it.
func (d *download) fetch(ctx context.Context) error {
	resp, err := d.request(ctx)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusPartialContent || !d.continues(resp) {
		if resp.StatusCode == http.StatusPartialContent {
			return &Error{Status: resp.StatusCode, Title: "The server sent another range than was asked for: " + resp.Header.Get("Content-Range")}
		}
		if err := d.restart(); err != nil {
			return err
		}
	}
	if d.done == 0 {
		d.etag = resp.Header.Get("Etag")
		if d.options.SHA256 == "" {
			d.expected = reprDigest(resp.Header.Get("Repr-Digest"))
		}
	}
	if resp.ContentLength >= 0 {
		d.total = d.done + resp.ContentLength
	}
	return d.append(resp.Body)
}

// append copies a body to the file's end.
func (d *download) append(body io.Reader) error {
	buffer := make([]byte, 256<<10)
	for {
		n, err := body.Read(buffer)
		if n > 0 {
			if _, err := d.file.Write(buffer[:n]); err != nil {
				return &localError{err}
			}
			d.hash.Write(buffer[:n])
			d.done += int64(n)
			if d.options.Progress != nil {
				d.options.Progress(d.done, d.total)
			}
		}
		switch {
		case err == io.EOF && d.done < d.total:
			return &brokenError{io.ErrUnexpectedEOF}
		case err == io.EOF:
			return nil
		case err != nil:
			return err
		}
	}
}

// restart forgets what arrived.
func (d *download) restart() error {
	if _, err := d.file.Seek(0, io.SeekStart); err != nil {
		return &localError{err}
	}
	if err := d.file.Truncate(0); err != nil {
		return &localError{err}
	}
	d.hash.Reset()
	d.done, d.total, d.etag = 0, 0, ""
	return nil
}

// request asks for the rest of the file, or for all of it when the server's file is another one by now.
func (d *download) request(ctx context.Context) (*http.Response, error) {
	rest := func(_ context.Context, r *http.Request) error {
		r.Header.Set("Accept-Encoding", "identity")
		if d.done > 0 && strings.HasPrefix(d.etag, `"`) { // a strong one, as If-Range wants (RFC 9110, section 13.1.5)
			r.Header.Set("Range", "bytes="+strconv.FormatInt(d.done, 10)+"-")
			r.Header.Set("If-Range", d.etag)
		}
		return nil
	}
	a, organization := d.client.api, d.client.organization
	switch d.options.Which {
	case Unsigned:
		return a.GetUnsignedArtifact(ctx, organization, d.id, api.RequestEditorFn(rest))
	case BuildSettings:
		return a.GetBuildSettingsFile(ctx, organization, d.id, api.RequestEditorFn(rest))
	default:
		return a.GetSignedArtifact(ctx, organization, d.id, api.RequestEditorFn(rest))
	}
}

// continues tells whether a partial answer begins where the file ends.
func (d *download) continues(resp *http.Response) bool {
	return strings.HasPrefix(resp.Header.Get("Content-Range"), "bytes "+strconv.FormatInt(d.done, 10)+"-")
}

// reprDigest returns the SHA-256 of a Repr-Digest header (RFC 9530), hexadecimal, or nothing.
func reprDigest(header string) string {
	for item := range strings.SplitSeq(header, ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(item), "=")
		value, _, _ = strings.Cut(value, ";")
		if sum, err := base64.StdEncoding.DecodeString(strings.Trim(value, ":")); strings.EqualFold(name, "sha-256") && err == nil && len(sum) == sha256.Size {
			return hex.EncodeToString(sum)
		}
	}
	return ""
}
