package web

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"io"
	"io/fs"
	"mime"
	"net/http"
	"path"
	"strings"

	"github.com/countersign-dev/countersign/internal/signing"
)

// dist is what the asset build leaves (`make build`); a checkout without Node has the placeholder alone.
//
//go:embed assets/dist
var dist embed.FS

// bundle is the built style, scripts, fonts and icons. Its version is in their addresses, so that browsers keep them for
// ever, and never use them with pages of another version.
type bundle struct {
	version string
	files   map[string]bundled
}

type bundled struct {
	contentType string
	plain       []byte
	gzip        []byte // nil when it saves nothing
}

// built reports whether the assets are there.
func (b *bundle) built() bool {
	return b.files["app.css"].plain != nil && b.files["app.js"].plain != nil
}

func loadBundle() (*bundle, error) {
	b := &bundle{files: map[string]bundled{}}
	sum := sha256.New()
	err := fs.WalkDir(dist, "assets/dist", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || path.Base(name) == "README" {
			return err
		}
		content, err := dist.ReadFile(name)
		if err != nil {
			return err
		}
		sum.Write([]byte(name))
		sum.Write(content)
		b.files[path.Base(name)], err = pack(name, content)
		return err
	})
	b.version = hex.EncodeToString(sum.Sum(nil))[:16]
	return b, err
}

func pack(name string, content []byte) (bundled, error) {
	f := bundled{contentType: mime.TypeByExtension(path.Ext(name)), plain: content}
	switch path.Ext(name) {
	case ".woff2":
		f.contentType = "font/woff2" // not in every system's list
		return f, nil
	case ".txt":
		f.contentType = "text/plain; charset=utf-8"
	}
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	if _, err := z.Write(content); err != nil {
		return f, err
	}
	if err := z.Close(); err != nil {
		return f, err
	}
	if packed.Len() < len(content) {
		f.gzip = packed.Bytes()
	}
	return f, nil
}

// assetPath returns the address of a bundled file.
func (x *exchange) assetPath(name string) string { return x.path("assets", x.bundle.version, name) }

// siteIcon is the brand's mark, as browsers show it beside a page's title.
const siteIcon = `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32"><rect width="32" height="32" rx="8" fill="#206bc4"/>` +
	`<path d="M9 16.5l4.5 4.5L23 11.5M9 23.5h14" fill="none" stroke="#fff" stroke-width="2.8" stroke-linecap="round" stroke-linejoin="round"/></svg>`

// icon serves the icon at the address where browsers look for it.
func (x *exchange) icon() error {
	h := x.w.Header()
	h.Set("Content-Type", "image/svg+xml")
	h.Set("Cache-Control", "public, max-age=86400")
	_, err := io.WriteString(x.w, siteIcon)
	return err
}

// asset serves a bundled file. Another version's address is unknown: its page is gone.
func (x *exchange) asset() error {
	f, ok := x.bundle.files[x.values["file"]]
	if !ok || x.values["version"] != x.bundle.version {
		return signing.Errorf(signing.KindNotFound, "There is no such file.")
	}
	h := x.w.Header()
	h.Set("Cache-Control", "public, max-age=31536000, immutable")
	h.Set("Vary", "Accept-Encoding")
	body := f.plain
	if f.gzip != nil && strings.Contains(x.r.Header.Get("Accept-Encoding"), "gzip") {
		h.Set("Content-Encoding", "gzip")
		body = f.gzip
	}
	x.send(http.StatusOK, f.contentType, body)
	return nil
}
