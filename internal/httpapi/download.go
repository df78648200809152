package httpapi

import (
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
)

// download answers with a file: whole, a range of it, or 304 when the client has it.
type download struct {
	request *http.Request
	name    string
	sha256  string // of the whole file, lower-case hexadecimal; empty when not known
	content io.ReaderAt
	size    int64
}

// VisitGetSignedArtifactResponse writes the answer.
func (d *download) VisitGetSignedArtifactResponse(w http.ResponseWriter) error { return d.serve(w) }

// VisitGetUnsignedArtifactResponse writes the answer.
func (d *download) VisitGetUnsignedArtifactResponse(w http.ResponseWriter) error { return d.serve(w) }

// VisitGetBuildSettingsFileResponse writes the answer.
func (d *download) VisitGetBuildSettingsFileResponse(w http.ResponseWriter) error { return d.serve(w) }

// serve writes the answer and closes the content when it can be closed. Ranges are those of RFC 9110, section 14; the
// entity tag is the file's SHA-256, which Repr-Digest (RFC 9530) repeats.
func (d *download) serve(w http.ResponseWriter) error {
	if c, ok := d.content.(io.Closer); ok {
		defer c.Close()
	}
	h := w.Header()
	h.Set("Content-Type", "application/octet-stream")
	h.Set("Content-Disposition", contentDisposition(d.name))
	h.Set("Cache-Control", "private, no-cache")
	if sum, err := hex.DecodeString(d.sha256); err == nil && len(sum) > 0 {
		h.Set("Etag", `"`+d.sha256+`"`)
		h.Set("Repr-Digest", "sha-256=:"+base64.StdEncoding.EncodeToString(sum)+":")
	}
	guard := &rangeGuard{ResponseWriter: w}
	http.ServeContent(guard, d.request, "", time.Time{}, io.NewSectionReader(d.content, 0, d.size))
	if guard.refused {
		return &transportError{
			status: http.StatusRequestedRangeNotSatisfiable,
			detail: fmt.Sprintf("The file has %d bytes; the requested range lies outside.", d.size),
		}
	}
	return nil
}

// rangeGuard keeps ServeContent's own plain-text refusal of a range back, so that it is rendered as every error is.
type rangeGuard struct {
	http.ResponseWriter
	refused bool
}

// WriteHeader passes the header on unless it refuses the range.
func (g *rangeGuard) WriteHeader(status int) {
	if status == http.StatusRequestedRangeNotSatisfiable {
		g.refused = true
		return
	}
	g.ResponseWriter.WriteHeader(status)
}

// Write passes bytes on unless the range was refused.
func (g *rangeGuard) Write(p []byte) (int, error) {
	if g.refused {
		return len(p), nil
	}
	return g.ResponseWriter.Write(p)
}

// contentDisposition names a download in both forms of RFC 6266: filename for old clients, in ASCII without anything that
// needs quoting, and filename* (RFC 8187) with the exact name.
func contentDisposition(name string) string {
	name = cleanFileName(name)
	ascii := strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' || strings.ContainsRune(`"\%;`, r) {
			return '_'
		}
		return r
	}, name)
	var extended strings.Builder
	for _, b := range []byte(name) {
		if isAttrChar(b) {
			extended.WriteByte(b)
		} else {
			fmt.Fprintf(&extended, "%%%02X", b)
		}
	}
	return `attachment; filename="` + ascii + `"; filename*=UTF-8''` + extended.String()
}

// isAttrChar reports whether a byte stands for itself in an extended value (RFC 8187, section 3.2.1).
func isAttrChar(b byte) bool {
	return b >= 'a' && b <= 'z' || b >= 'A' && b <= 'Z' || b >= '0' && b <= '9' || strings.IndexByte("!#$&+-.^_`|~", b) >= 0
}
