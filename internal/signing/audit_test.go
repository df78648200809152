package signing_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/countersign-dev/countersign/internal/audit"
	"github.com/countersign-dev/countersign/internal/signing"
)

// TestAuditPageKnowsEveryEvent: docs/audit-log.md names each event that the code records.
func TestAuditPageKnowsEveryEvent(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../docs/audit-log.md")
	if err != nil {
		t.Fatal(err)
	}
	var files []string
	for _, pattern := range []string{"*.go", "../auth/*.go"} {
		found, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, found...)
	}
	// An event that is put together from a kind, and whole ones.
	event := regexp.MustCompile(`string\([a-z.]*Kind\)\s*\+\s*"([A-Za-z]*\.[A-Za-z]+)"|"([A-Z][A-Za-z]+\.[A-Z][A-Za-z]+)"`)
	found := 0
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		code, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range event.FindAllSubmatch(code, -1) {
			name := string(m[1]) + string(m[2])
			if strings.HasPrefix(name, "ArtifactRetrievalLink.") { // fields of a form
				continue
			}
			if found++; !strings.Contains(string(page), name+"`") {
				t.Errorf("%s records %s, which docs/audit-log.md does not name", file, name)
			}
		}
	}
	if found < 50 {
		t.Errorf("only %d events were found in the code", found)
	}
}

// TestConfigurationTextsAreAudited: what an artifact configuration said before and says after is in the audit log.
func TestConfigurationTextsAreAudited(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := t.Context()
	changed := strings.Replace(exeConfiguration, "<authenticode-sign/>", `<authenticode-sign description="new"/>`, 1)
	c, err := w.EditConfiguration(ctx, w.Admin, "app", "exe", signing.ConfigurationEdit{XML: &changed})
	if err != nil || c.Latest != 2 {
		t.Fatalf("%+v, %v", c, err)
	}
	if _, err := w.EditConfiguration(ctx, w.Admin, "app", "exe", signing.ConfigurationEdit{XML: &changed}); err != nil { // the same once more
		t.Fatal(err)
	}
	leaves, err := w.AuditEntries(ctx, w.Admin, signing.AuditFilter{ObjectID: c.ID, Limit: 100})
	if err != nil || len(leaves) != 2 {
		t.Fatalf("%d entries, %v", len(leaves), err)
	}
	var data []map[string]map[string]any
	for _, l := range leaves {
		e, err := audit.Decode(l.Data)
		if err != nil {
			t.Fatal(err)
		}
		var raw map[string]json.RawMessage
		if err := json.Unmarshal(e.Data, &raw); err != nil {
			t.Fatal(err)
		}
		of := map[string]map[string]any{}
		for _, member := range []string{"before", "after"} {
			var object map[string]any
			if raw[member] != nil {
				if err := json.Unmarshal(raw[member], &object); err != nil {
					t.Fatal(err)
				}
				of[member] = object
			}
		}
		data = append(data, of)
	}
	if data[0]["after"]["xml"] != exeConfiguration || data[0]["after"]["slug"] != "exe" {
		t.Errorf("created: %v", data[0])
	}
	want := map[string]map[string]any{"before": {"latest": 1.0, "xml": exeConfiguration}, "after": {"latest": 2.0, "xml": changed}}
	if d := cmp.Diff(want, data[1]); d != "" {
		t.Errorf("edited (-want +got):\n%s", d)
	}
	if events := w.events(t, c.ID); !slices.Equal(events, []string{"ArtifactConfiguration.Created", "ArtifactConfiguration.Edited"}) {
		t.Errorf("events %v", events)
	}
}
