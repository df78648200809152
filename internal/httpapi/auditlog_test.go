package httpapi

import (
	"encoding/csv"
	"strings"
	"testing"
	"time"

	"github.com/countersign-dev/countersign/internal/audit"
	"github.com/countersign-dev/countersign/internal/signing"
)

// TestExportOfALongLog exports more entries than one page holds, in both formats: all are there once, in their order, and no cell
// of the table is a formula to a spreadsheet.
func TestExportOfALongLog(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	const more = 2*maxAuditPage + 7
	names := []string{"=cmd|' /C calc'!A0", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "＝1", "＋1", "－1", "＠1", "plain", `a "quote", and a comma`, "two\nlines"}
	err := w.db.Tx(t.Context(), func(tx signing.Tx) error {
		for i := range more {
			name := names[i%len(names)]
			e := &audit.Entry{OrganizationID: w.org, Time: time.Now(), Event: "Test.Made", Actor: audit.Actor{Kind: "CI", Name: name, Via: name},
				Object: audit.Object{Type: "Test", ID: "1", Name: name}}
			if err := tx.AppendAudit(t.Context(), e); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	head, err := w.signing.VerifyAudit(t.Context(), signing.ID(w.org))
	if err != nil || head.Sequence < more {
		t.Fatalf("head %d, %v", head.Sequence, err)
	}
	exported := audit.Start(w.org)
	for line := range strings.Lines(readBody(t, w.as(t, globalReader, "GET", "/AuditLog/Events/Export", body{}))) {
		exported = exported.Next([]byte(strings.TrimSuffix(line, "\n")))
	}
	if exported != head {
		t.Errorf("the export ends at %d %s, the log at %d %s", exported.Sequence, exported.Chain, head.Sequence, head.Chain)
	}
	rows, err := csv.NewReader(strings.NewReader(readBody(t, w.as(t, globalReader, "GET", "/AuditLog/Events/Export?format=csv&event=Test.Made", body{})))).ReadAll()
	if err != nil || len(rows) != 1+more {
		t.Fatalf("%d rows, %v", len(rows), err)
	}
	for i, row := range rows[1:] {
		name, plain := strings.ReplaceAll(names[i%len(names)], "\r", ""), "two\nlines"
		if got := strings.ReplaceAll(row[4], "\r", ""); got != name && got != "'"+name || (i%len(names) >= len(names)-3) != (got == name) {
			t.Errorf("row %d names its actor %q, who is called %q", i, row[4], name)
		}
		for _, cell := range row {
			if cell != "" && cell != plain && strings.ContainsAny(cell[:1], "=+-@\t\r\n") {
				t.Fatalf("row %d has the cell %q", i, cell)
			}
		}
	}
}
