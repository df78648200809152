package httpapi

import (
	"bytes"
	"encoding/json"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"github.com/countersign-dev/countersign/api"
)

func TestSwaggerUI(t *testing.T) {
	t.Parallel()
	h, _ := newTestHandler(t, &operations{}, Options{PublicURL: &url.URL{Scheme: "https", Host: "example.com", Path: "/sign"}})
	for target, want := range map[string]string{
		"/Api/swagger": "swagger/index.html", "/API/SWAGGER/": "index.html", "/swagger": "swagger/index.html",
	} {
		resp := call(t, h, "GET", target, "")
		if got := resp.Header.Get("Location"); resp.StatusCode != 302 || !strings.EqualFold(got, want) {
			t.Errorf("GET %s = %d to %q, want %q", target, resp.StatusCode, got, want)
		}
	}
	page := call(t, h, "GET", "/Api/swagger/index.html", "")
	body := readBody(t, page)
	if page.StatusCode != 200 || regexp.MustCompile(`(?i)https?://|<script>|<style|\son\w+=|style=`).MatchString(body) {
		t.Errorf("the page must not load from elsewhere or need inline code: %s", body)
	}
	if csp := page.Header.Get("Content-Security-Policy"); strings.Contains(csp, "unsafe") || !strings.Contains(csp, "script-src 'self'") {
		t.Errorf("policy = %q", csp)
	}
	for _, m := range regexp.MustCompile(`(?:src|href)="([^"]+)"`).FindAllStringSubmatch(body, -1) {
		resp := call(t, h, "GET", "/Api/swagger/"+m[1], "")
		if content := readBody(t, resp); resp.StatusCode != 200 || len(content) == 0 {
			t.Errorf("%s: %d, %d bytes", m[1], resp.StatusCode, len(content))
		}
	}
	plain := readBody(t, call(t, h, "GET", "/Api/swagger/swagger-ui-bundle.js", ""))
	zipped := call(t, h, "GET", "/Api/swagger/swagger-ui-bundle.js", "", "Accept-Encoding", "gzip")
	if zipped.Header.Get("Content-Encoding") != "gzip" || len(readBody(t, zipped)) >= len(plain)/2 || !strings.Contains(plain, "SwaggerUIBundle") {
		t.Error("the bundle is not served compressed and plain")
	}

	var document struct {
		OpenAPI string
		Servers []struct{ URL string }
		Paths   map[string]any
	}
	resp := call(t, h, "GET", "/Api/swagger/v1/swagger.json", "")
	if err := json.Unmarshal([]byte(readBody(t, resp)), &document); err != nil {
		t.Fatal(err)
	}
	if document.OpenAPI != "3.0.3" || len(document.Paths) < 20 || document.Servers[0].URL != "/sign/Api" {
		t.Errorf("document: %s, %d paths, servers %v", document.OpenAPI, len(document.Paths), document.Servers)
	}
	if yaml := readBody(t, call(t, h, "GET", "/swagger/v1/openapi.yaml", "")); !bytes.Equal([]byte(yaml), api.OpenAPI) {
		t.Error("openapi.yaml is not the contract")
	}
}
