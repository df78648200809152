package httpapi

import (
	"bytes"
	"compress/gzip"
	_ "embed"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/swaggest/swgui/v5/static"
	"gopkg.in/yaml.v3"

	"github.com/countersign-dev/countersign/api"
)

var (
	//go:embed swagger/index.html
	swaggerIndex []byte
	//go:embed swagger/initializer.js
	swaggerInitializer []byte
)

// swaggerPolicy allows the page its own files and nothing from elsewhere; Swagger UI's images are data URLs.
const swaggerPolicy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; " +
	"frame-ancestors 'none'; base-uri 'none'; form-action 'none'"

// addSwagger registers Swagger UI at /swagger and the contract at /swagger/v1/swagger.json and openapi.yaml.
func addSwagger(rt *router, public *url.URL) error {
	document, err := contractJSON(public)
	if err != nil {
		return err
	}
	rt.HandleFunc("GET /swagger", func(w http.ResponseWriter, r *http.Request) {
		// Relative to the request, so that it holds behind any prefix: "swagger" or "swagger/" as the client wrote it.
		target := "index.html"
		if last := r.URL.Path[strings.LastIndexByte(r.URL.Path, '/')+1:]; last != "" {
			target = url.PathEscape(last) + "/index.html"
		}
		w.Header().Set("Location", target)
		w.WriteHeader(http.StatusFound)
	})
	add := func(name, contentType string, content []byte) {
		rt.HandleFunc("GET /swagger/"+name, func(w http.ResponseWriter, r *http.Request) {
			h := w.Header()
			h.Set("Content-Security-Policy", swaggerPolicy)
			h.Set("Content-Type", contentType)
			h.Set("Cache-Control", "no-cache")
			http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(content))
		})
	}
	add("index.html", "text/html; charset=utf-8", swaggerIndex)
	add("initializer.js", "text/javascript; charset=utf-8", swaggerInitializer)
	add("v1/swagger.json", "application/json", document)
	add("v1/openapi.yaml", "application/yaml", api.OpenAPI)
	for name, contentType := range map[string]string{
		"swagger-ui.css":       "text/css; charset=utf-8",
		"swagger-ui-bundle.js": "text/javascript; charset=utf-8",
	} {
		compressed, err := fs.ReadFile(static.FS, name+".gz")
		if err != nil {
			return fmt.Errorf("swagger UI: %w", err)
		}
		rt.HandleFunc("GET /swagger/"+name, compressedAsset(contentType, compressed))
	}
	favicon, err := fs.ReadFile(static.FS, "favicon-32x32.png")
	if err != nil {
		return fmt.Errorf("swagger UI: %w", err)
	}
	add("favicon-32x32.png", "image/png", favicon)
	return nil
}

// compressedAsset serves a file that is embedded compressed, as it is to clients that take gzip.
func compressedAsset(contentType string, compressed []byte) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", swaggerPolicy)
		h.Set("Content-Type", contentType)
		h.Set("Cache-Control", "public, max-age=3600")
		h.Add("Vary", "Accept-Encoding")
		if strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
			h.Set("Content-Encoding", "gzip")
			w.Write(compressed) // the client may be gone; there is nobody to tell
			return
		}
		zr, err := gzip.NewReader(bytes.NewReader(compressed))
		if err != nil {
			writeError(w, r, fmt.Errorf("swagger UI: %w", err))
			return
		}
		_, _ = io.Copy(w, zr) //nolint:gosec // an asset of our own; the client may be gone, and there is nobody to tell
	}
}

// contractJSON renders the contract as JSON, with the server's path below the public URL's.
func contractJSON(public *url.URL) ([]byte, error) {
	var document map[string]any
	if err := yaml.Unmarshal(api.OpenAPI, &document); err != nil {
		return nil, fmt.Errorf("read the API's contract: %w", err)
	}
	if public != nil {
		document["servers"] = []any{map[string]any{"url": strings.TrimRight(public.Path, "/") + "/Api"}}
	}
	return json.Marshal(document)
}
