package web

import (
	"context"
	"io"
	"mime"
	"net/http"
	"time"

	"github.com/countersign-dev/countersign/internal/signing"
)

// opener opens one of a request's files.
type opener func(context.Context, signing.Actor, signing.ID) (*signing.Download, error)

// download answers with a file, or a range of it. Browsers save it and never show it: it is not ours.
func (x *exchange) download(open opener) error {
	id, err := x.requestID()
	if err != nil {
		return err
	}
	d, err := open(x.r.Context(), x.actor, id)
	if err != nil {
		return err
	}
	defer d.Blob.Close()
	h := x.w.Header()
	h.Set("Content-Security-Policy", "default-src 'none'; sandbox")
	h.Set("Content-Type", "application/octet-stream")
	h.Set("Content-Disposition", mime.FormatMediaType("attachment", map[string]string{"filename": d.File.FileName}))
	h.Set("Cache-Control", "private, no-cache")
	if d.File.SHA256 != "" {
		h.Set("Etag", `"`+d.File.SHA256+`"`)
	}
	http.ServeContent(x.w, x.r, "", time.Time{}, io.NewSectionReader(d.Blob, 0, d.Blob.Size()))
	return nil
}
