package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestConfigurationTypes: a value of another type than the setting's is refused, wherever else the setting is given.
func TestConfigurationTypes(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"data: [a, b]": "data must be a text", "data: 5": "data must be a text", "listen: {a: b}": "listen must be a text",
		"workers: [1]": "workers must be a number", "public-url:": "public-url must be", "metrics-token: 0123": "metrics-token must be a text",
		"allow-http: 1": "allow-http must be true or false", "timestamp: [1]": "timestamp must be a list of texts", "nonsense: 1": "unknown setting nonsense",
	} {
		file := filepath.Join(t.TempDir(), "c.yaml")
		if err := os.WriteFile(file, []byte(text+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		var out, problems bytes.Buffer
		code := run(t.Context(), []string{"serve", "--config", file, "--listen", "127.0.0.1:-1"}, console{in: &bytes.Buffer{}, out: &out, err: &problems})
		if code != exitUsage || !strings.Contains(problems.String(), want) {
			t.Errorf("%s: exit %d, %s; want %q", text, code, problems.String(), want)
		}
	}
}
