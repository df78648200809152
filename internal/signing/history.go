package signing

import (
	"context"

	"github.com/countersign-dev/countersign/internal/audit"
)

// HistoryEntry is what the audit log says about one step of a signing request.
type HistoryEntry struct {
	audit.Entry
	Chain audit.Hash // the log's chain value after the entry
}

// maxHistory bounds a request's history. Only approvals that fall again and again make one that long.
const maxHistory = 1000

// history returns the audit log's entries about a signing request, oldest first, at most 1000. Whoever may read the request may
// read them: they say no more of others than the request's page does.
func history(ctx context.Context, tx Tx, r *Request) ([]HistoryEntry, error) {
	leaves, err := tx.AuditLeaves(ctx, r.OrganizationID, AuditFilter{ObjectType: "SigningRequest", ObjectID: r.ID, Limit: maxHistory})
	if err != nil {
		return nil, err
	}
	entries := make([]HistoryEntry, 0, len(leaves))
	for _, leaf := range leaves {
		e, err := audit.Decode(leaf.Data)
		if err != nil {
			return nil, err
		}
		entries = append(entries, HistoryEntry{Entry: *e, Chain: leaf.Chain})
	}
	return entries, nil
}
