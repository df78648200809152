package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/countersign-dev/countersign/internal/oracle"
)

// TestAuditLogByAnother has another implementation, made from the documentation alone, calculate the hash chain of an
// exported audit log: it comes to the head that the server's own check prints, and to no other when the log was changed.
func TestAuditLogByAnother(t *testing.T) {
	t.Parallel()
	python := oracle.Need(t, "python3")
	data := t.TempDir()
	demo := startDemo(t, data)
	w := &wire{t: t, curl: oracle.Need(t, "curl"), demo: demo, dir: t.TempDir()}
	if a := w.do("-H", "{admin}", "--json", `{"name":"Søren <b>&\u2028\"x\"</b>","slug":"app","repositories":[]}`, "{api}/v1/{org}/Projects"); a.StatusCode != http.StatusCreated {
		t.Fatalf("create a project: %s %s", a.Status, a.body)
	}
	export := w.do("-H", "{admin}", "{api}/v1/{org}/AuditLog/Events/Export")
	if export.StatusCode != http.StatusOK || !bytes.Contains(export.body, []byte("Søren")) {
		t.Fatalf("export: %s %.300s", export.Status, export.body)
	}
	demo.stop(t)
	var heads []struct {
		OrganizationID string `json:"organizationId"`
		Sequence       int    `json:"sequence"`
		Chain          string `json:"chain"`
	}
	if err := json.Unmarshal(run(t, "audit", "verify", "--json", "--data", data), &heads); err != nil || len(heads) != 1 {
		t.Fatalf("heads %+v, %v", heads, err)
	}
	head := fmt.Sprint(heads[0].Sequence, " ", heads[0].Chain)
	check := func(export []byte) string {
		cmd := exec.CommandContext(t.Context(), python, "testdata/audit.py", demo.OrganizationID)
		cmd.Stdin = bytes.NewReader(export)
		out, err := cmd.CombinedOutput()
		if err != nil {
			return fmt.Sprintf("%v: %s", err, out)
		}
		return strings.TrimSpace(string(out))
	}
	if got := check(export.body); got != head {
		t.Errorf("the other implementation finds %s, not %s", got, head)
	}
	lines := bytes.SplitAfter(bytes.TrimSuffix(export.body, []byte("\n")), []byte("\n"))
	lines[len(lines)-1] = append(slices.Clone(lines[len(lines)-1]), '\n')
	for name, change := range map[string]func(lines [][]byte) [][]byte{
		"changed": func(l [][]byte) [][]byte {
			l[3] = bytes.Replace(l[3], []byte(`"name":"`), []byte(`"name":"x`), 1)
			return l
		},
		"spaced": func(l [][]byte) [][]byte {
			l[3] = bytes.Replace(l[3], []byte(`{"format"`), []byte(`{ "format"`), 1)
			return l
		},
		"removed":   func(l [][]byte) [][]byte { return slices.Delete(l, 3, 4) },
		"swapped":   func(l [][]byte) [][]byte { l[2], l[3] = l[3], l[2]; return l },
		"repeated":  func(l [][]byte) [][]byte { return slices.Insert(l, 3, l[3]) },
		"cut short": func(l [][]byte) [][]byte { return l[:len(l)-1] },
	} {
		if got := check(bytes.Join(change(slices.Clone(lines)), nil)); got == head {
			t.Errorf("%s: the other implementation finds the same head", name)
		}
	}
}
