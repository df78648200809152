package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestConfigurationFile: what the file cannot mean is refused with its line, wherever else the setting is given.
func TestConfigurationFile(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"data: [a, b]":                  ":1: setting data must be a text",
		"\n\ndata: 5":                   ":3: setting data must be a text",
		"listen: {a: b}":                ":1: setting listen must be a text",
		"workers: [1]":                  ":1: setting workers must be a whole number",
		"workers: many":                 ":1: setting workers must be a whole number",
		"workers: 1.5":                  ":1: setting workers must be a whole number",
		"workers: 99999999999999999999": ":1: setting workers must be a whole number",
		"artifact-limit: 5GB":           ":1: setting artifact-limit must be a whole number",
		"public-url:":                   ":1: setting public-url must be a text",
		"metrics-token: 0123":           ":1: setting metrics-token must be a text",
		"allow-http: 1":                 ":1: setting allow-http must be true or false",
		"timestamp: [1]":                ":1: setting timestamp must be a list of texts",
		"log-level: loud":               ":1: setting log-level is not valid",
		"log-format: xml":               ":1: setting log-format must be one of text, json",
		"tls-key: /no/such/file":        ":1: setting tls-key is not valid",
		"nonsense: 1":                   ":1: unknown setting nonsense",
		"a: 1\ndata: x\nb: 2":           ":3: unknown setting b",
		"config: other.yaml":            ":1: unknown setting config",
		"token: of-the-client":          ":1: unknown setting token",
		"data: a\nlisten: b\ndata: c":   ":3: setting data is in line 1 already",
		"- data":                        ":1: expected settings",
		"just a text":                   ":1: expected settings",
		"data: a\n\tworkers: 1":         "line 2",
		"data: a\n---\ndata: b":         "more than one YAML document",
	} {
		file := filepath.Join(t.TempDir(), "c.yaml")
		if err := os.WriteFile(file, []byte(text+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		var out, problems bytes.Buffer
		code := run(t.Context(), []string{"serve", "--config", file, "--listen", "127.0.0.1:-1"}, console{in: &bytes.Buffer{}, out: &out, err: &problems})
		if code != exitUsage || !strings.Contains(problems.String(), want) || !strings.Contains(problems.String(), file) {
			t.Errorf("%s: exit %d, %s; want %q", text, code, problems.String(), want)
		}
	}
}
