package httpapi

import (
	"bufio"
	"context"
	"encoding/csv"
	"net/http"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/countersign-dev/countersign/api"
	"github.com/countersign-dev/countersign/internal/audit"
	"github.com/countersign-dev/countersign/internal/signing"
)

const (
	defaultAuditPage = 100
	maxAuditPage     = 1000
)

// ListAuditEvents lists the audit log.
func (s *service) ListAuditEvents(ctx context.Context, r api.ListAuditEventsRequestObject) (api.ListAuditEventsResponseObject, error) {
	page, err := s.auditPage(ctx, r.Params)
	return reply[api.ListAuditEventsResponseObject](api.ListAuditEvents200JSONResponse(page), err)
}

// ListAuditEventsPre is ListAuditEvents under the prefix that clients of the original know.
func (s *service) ListAuditEventsPre(ctx context.Context, r api.ListAuditEventsPreRequestObject) (api.ListAuditEventsPreResponseObject, error) {
	page, err := s.auditPage(ctx, api.ListAuditEventsParams(r.Params))
	return reply[api.ListAuditEventsPreResponseObject](api.ListAuditEventsPre200JSONResponse(page), err)
}

// ListSigningRequestEvents lists what the audit log says about signing requests.
func (s *service) ListSigningRequestEvents(ctx context.Context, r api.ListSigningRequestEventsRequestObject) (api.ListSigningRequestEventsResponseObject, error) {
	page, err := s.auditPage(ctx, aboutRequests(api.ListSigningRequestEventsPreParams(r.Params)))
	return reply[api.ListSigningRequestEventsResponseObject](api.ListSigningRequestEvents200JSONResponse(page), err)
}

// ListSigningRequestEventsPre is ListSigningRequestEvents under the prefix that clients of the original know.
func (s *service) ListSigningRequestEventsPre(ctx context.Context, r api.ListSigningRequestEventsPreRequestObject) (api.ListSigningRequestEventsPreResponseObject, error) {
	page, err := s.auditPage(ctx, aboutRequests(r.Params))
	return reply[api.ListSigningRequestEventsPreResponseObject](api.ListSigningRequestEventsPre200JSONResponse(page), err)
}

// aboutRequests asks for entries about signing requests.
func aboutRequests(p api.ListSigningRequestEventsPreParams) api.ListAuditEventsParams {
	return api.ListAuditEventsParams{Event: p.Event, ActorID: p.ActorID, ObjectType: "SigningRequest", ObjectID: p.ObjectID,
		From: p.From, Before: p.Before, Order: p.Order, PageSize: p.PageSize, Cursor: p.Cursor}
}

// auditPage returns a page of the entries.
func (s *service) auditPage(ctx context.Context, p api.ListAuditEventsParams) (api.AuditEventPage, error) {
	page := api.AuditEventPage{Items: []api.AuditEvent{}}
	f, err := auditFilter(p.Event, p.ActorID, p.ObjectType, p.ObjectID, p.From, p.Before)
	if err != nil {
		return page, err
	}
	size := p.PageSize
	if size == 0 {
		size = defaultAuditPage
	}
	if size < 0 || size > maxAuditPage {
		return page, signing.Invalid("PageSize", "The page size must be between 1 and %d.", maxAuditPage)
	}
	cursor := int64(0)
	if p.Cursor != "" {
		if cursor, err = strconv.ParseInt(p.Cursor, 10, 64); err != nil || cursor < 1 {
			return page, signing.Invalid("Cursor", "The value is not the nextCursor of a page.")
		}
	}
	switch {
	case p.Order == "" || strings.EqualFold(p.Order, "Descending"):
		f.Descending, f.BeforeSeq = true, cursor
	case strings.EqualFold(p.Order, "Ascending"):
		f.AfterSeq = cursor
	default:
		return page, signing.Invalid("Order", "The order is Ascending or Descending.")
	}
	f.Limit = size
	leaves, err := s.signing.AuditEntries(ctx, actorOf(ctx), f)
	if err != nil {
		return page, err
	}
	for _, leaf := range leaves {
		e, err := audit.Decode(leaf.Data)
		if err != nil {
			return page, err
		}
		page.Items = append(page.Items, auditEvent(e, leaf.Sequence, leaf.Chain))
	}
	if len(leaves) == size { // there may be more; the page after the last is empty
		page.NextCursor = strconv.FormatInt(leaves[size-1].Sequence, 10)
	}
	return page, nil
}

// auditEvent is an entry with its place in the log and the chain's value after it.
func auditEvent(e *audit.Entry, sequence int64, chain audit.Hash) api.AuditEvent {
	return api.AuditEvent{
		Sequence: sequence, Time: e.Time, Event: e.Event, Chain: chain.String(), Data: e.Data,
		Metadata: api.AuditMetadata{Actor: api.AuditActor{ID: e.Actor.ID, Kind: e.Actor.Kind, Name: e.Actor.Name, Via: e.Actor.Via}},
		Object:   api.AuditObject{Type: e.Object.Type, ID: e.Object.ID, Name: e.Object.Name},
	}
}

func auditFilter(events []string, actor, objectType, object string, from, before time.Time) (signing.AuditFilter, error) {
	f := signing.AuditFilter{Events: events, ObjectType: objectType, From: timePointer(from), To: timePointer(before)}
	var err error
	if f.ActorID, err = parseID("actorId", actor); err != nil {
		return f, err
	}
	f.ObjectID, err = parseID("objectId", object)
	return f, err
}

// ExportAuditEvents streams the audit log, oldest entry first.
func (s *service) ExportAuditEvents(ctx context.Context, r api.ExportAuditEventsRequestObject) (api.ExportAuditEventsResponseObject, error) {
	p := r.Params
	f, err := auditFilter(p.Event, p.ActorID, p.ObjectType, p.ObjectID, p.From, p.Before)
	if err != nil {
		return nil, err
	}
	e := &auditExport{ctx: ctx, service: s.signing, filter: f}
	switch {
	case p.Format == "" || strings.EqualFold(p.Format, "JsonLines"):
	case strings.EqualFold(p.Format, "Csv"):
		e.csv = true
	default:
		return nil, signing.Invalid("Format", "The format is JsonLines or Csv.")
	}
	e.filter.Limit = maxAuditPage
	// The first page comes before the header, so that refusals are answered as such.
	e.leaves, err = s.signing.AuditEntries(ctx, actorOf(ctx), e.filter)
	if err != nil {
		return nil, err
	}
	return e, nil
}

// auditExport is an export with its first page.
type auditExport struct {
	ctx     context.Context
	service *signing.Service
	filter  signing.AuditFilter
	leaves  []audit.Leaf
	csv     bool
}

// VisitExportAuditEventsResponse writes page after page. A failure breaks the answer off, so that nobody takes a part for
// the whole.
func (e *auditExport) VisitExportAuditEventsResponse(w http.ResponseWriter) error {
	contentType, name := "application/x-ndjson", "audit-log.jsonl"
	if e.csv {
		contentType, name = "text/csv; charset=utf-8", "audit-log.csv"
	}
	w.Header().Set("Content-Type", contentType)
	w.Header().Set("Content-Disposition", contentDisposition(name))
	w.WriteHeader(http.StatusOK)
	out := bufio.NewWriter(w)
	table := csv.NewWriter(out)
	if e.csv {
		_ = table.Write([]string{"sequence", "time", "event", "actorKind", "actorName", "actorId", "actorVia", "objectType", "objectName", "objectId", "data", "chain"})
	}
	for len(e.leaves) > 0 {
		for _, leaf := range e.leaves {
			if !e.csv {
				_, _ = out.Write(leaf.Data) // a leaf is JSON without line breaks
				_ = out.WriteByte('\n')
				continue
			}
			row, err := auditRow(leaf)
			if err != nil {
				return err
			}
			_ = table.Write(row)
		}
		table.Flush()
		if err := out.Flush(); err != nil { // buffered writers keep the first error
			return err
		}
		e.filter.AfterSeq = e.leaves[len(e.leaves)-1].Sequence
		if len(e.leaves) < e.filter.Limit {
			return nil
		}
		var err error
		if e.leaves, err = e.service.AuditEntries(e.ctx, actorOf(e.ctx), e.filter); err != nil {
			return err
		}
	}
	table.Flush()
	return out.Flush()
}

func auditRow(leaf audit.Leaf) ([]string, error) {
	e, err := audit.Decode(leaf.Data)
	if err != nil {
		return nil, err
	}
	row := []string{strconv.FormatInt(leaf.Sequence, 10), e.Time.Format(time.RFC3339Nano), e.Event, e.Actor.Kind, e.Actor.Name, e.Actor.ID, e.Actor.Via,
		e.Object.Type, e.Object.Name, e.Object.ID, string(e.Data), leaf.Chain.String()}
	for i, cell := range row {
		// Spreadsheets take such cells for formulas, some the full-width characters, too.
		if first, _ := utf8.DecodeRuneInString(cell); cell != "" && strings.ContainsRune("=+-@\t\r\n＝＋－＠", first) {
			row[i] = "'" + cell
		}
	}
	return row, nil
}
