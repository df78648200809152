package store

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/countersign-dev/countersign/internal/audit"
	"github.com/countersign-dev/countersign/internal/signing"
)

// AppendAudit implements signing.AuditTx. It sets the entry's sequence number.
func (x *tx) AppendAudit(ctx context.Context, e *audit.Entry) error {
	head, err := x.auditHead(ctx, e.OrganizationID, x.db.backend.lockRow())
	if err != nil {
		return err
	}
	e.Sequence = head.Sequence + 1
	leaf, err := e.Encode()
	if err != nil {
		return err
	}
	next, index := head.Next(leaf), e.Index()
	_, err = x.q.exec(ctx, "INSERT INTO audit_leaves (organization_id, sequence, leaf, chain, event, object_type, object_id, actor_id, at) "+
		"VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
		e.OrganizationID, next.Sequence, leaf, next.Chain[:], index.Event, index.ObjectType, index.ObjectID, index.ActorID, index.Time)
	if err != nil {
		return err
	}
	_, err = x.q.exec(ctx, "UPDATE audit_heads SET sequence = $1, chain = $2 WHERE organization_id = $3",
		next.Sequence, next.Chain[:], e.OrganizationID)
	return err
}

// AuditHead implements signing.AuditTx.
func (x *tx) AuditHead(ctx context.Context, org signing.ID) (audit.Head, error) {
	return x.auditHead(ctx, text(org), "")
}

func (x *tx) auditHead(ctx context.Context, org, lock string) (audit.Head, error) {
	return one(ctx, x.q, "organization", func(s scanner) (audit.Head, error) {
		var h audit.Head
		return h, s.Scan(&h.Sequence, hashColumn{(*[32]byte)(&h.Chain)})
	}, "SELECT sequence, chain FROM audit_heads WHERE organization_id = $1"+lock, org)
}

// AuditedOrganizations implements signing.AuditTx.
func (x *tx) AuditedOrganizations(ctx context.Context) ([]signing.ID, error) {
	return list(ctx, x.q, func(s scanner) (signing.ID, error) {
		var id signing.ID
		return id, s.Scan(&id)
	}, "SELECT organization_id FROM audit_heads UNION SELECT organization_id FROM audit_leaves ORDER BY organization_id")
}

// maxAuditLeaves bounds a list without a limit.
const maxAuditLeaves = 10000

// AuditLeaves implements signing.AuditTx.
func (x *tx) AuditLeaves(ctx context.Context, org signing.ID, filter signing.AuditFilter) ([]audit.Leaf, error) {
	b := branches{table: "audit_leaves", order: []string{"sequence"}, desc: filter.Descending, limit: filter.Limit}
	if b.limit <= 0 || b.limit > maxAuditLeaves {
		b.limit = maxAuditLeaves
	}
	b.add("organization_id = ?", text(org))
	// The narrowest condition leads the branches; the others are tested on the rows that it finds. They name no column
	// alone, lest SQLite, which does not know which is the narrowest, goes by an index of theirs.
	const event, actor, objectType = "(event || '')", "(actor_id || '')", "(object_type || '')"
	switch {
	case filter.ObjectID != "":
		b.anyOf(equal(&b.conditions, "object_id", filter.ObjectID))
		if len(filter.Events) > 0 {
			b.add(in(&b.conditions, event, filter.Events))
		}
		if filter.ActorID != "" {
			b.add(actor+" = ?", string(filter.ActorID))
		}
	case filter.ActorID != "":
		b.anyOf(equal(&b.conditions, "actor_id", filter.ActorID))
		if len(filter.Events) > 0 {
			b.add(in(&b.conditions, event, filter.Events))
		}
	case len(filter.Events) > 0:
		b.anyOf(equal(&b.conditions, "event", filter.Events...))
	case filter.ObjectType != "":
		b.anyOf(equal(&b.conditions, "object_type", filter.ObjectType))
		filter.ObjectType = ""
	}
	if filter.ObjectType != "" {
		b.add(objectType+" = ?", filter.ObjectType)
	}
	if filter.From != nil {
		b.add("at >= ?", micros(*filter.From))
	}
	if filter.To != nil {
		b.add("at < ?", micros(*filter.To))
	}
	if filter.AfterSeq > 0 {
		b.add("sequence > ?", filter.AfterSeq)
	}
	if filter.BeforeSeq > 0 {
		b.add("sequence < ?", filter.BeforeSeq)
	}
	direction := ""
	if filter.Descending {
		direction = " DESC"
	}
	args := append(slices.Clip(b.args), text(org))
	return list(ctx, x.q, func(s scanner) (audit.Leaf, error) {
		var (
			l     audit.Leaf
			chain []byte
		)
		err := s.Scan(&l.Sequence, &l.Data, &chain, &l.Index.Event, &l.Index.ObjectType, &l.Index.ObjectID, &l.Index.ActorID, &l.Index.Time)
		if len(chain) == len(l.Chain) { // else it was tampered with, and left empty for the check of the chain to find
			l.Chain = audit.Hash(chain)
		}
		return l, err
	}, strings.Join([]string{
		"SELECT l.sequence, l.leaf, l.chain, l.event, l.object_type, l.object_id, l.actor_id, l.at FROM (", b.sql(),
		fmt.Sprintf(") k JOIN audit_leaves l ON l.organization_id = $%d AND l.sequence = k.sequence", len(args)),
		" ORDER BY k.sequence", direction,
	}, ""), args...)
}
