package artifact

import (
	"archive/zip"
	"bytes"
	"strings"
	"testing"
)

// TestArchiveMessage: however much is wrong with an archive, its violation is one line.
func TestArchiveMessage(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	for _, name := range []string{`..\evil.exe`, "C:/evil.exe"} {
		if _, err := w.Create(name); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	_, err := openZIP(bytes.NewReader(b.Bytes()), int64(b.Len()), Limits{}.withDefaults())
	if err == nil {
		t.Fatal("accepted")
	}
	message := archiveMessage(err)
	for _, want := range []string{"path traversal", "; zip: ", "absolute path"} {
		if !strings.Contains(message, want) {
			t.Errorf("%q says nothing of %q", message, want)
		}
	}
	if strings.Contains(message, "\n") {
		t.Errorf("%q has several lines", message)
	}
}
