package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/countersign-dev/countersign/internal/audit"
	"github.com/countersign-dev/countersign/internal/signing"
	"github.com/countersign-dev/countersign/internal/store"
)

type auditCmd struct {
	Verify auditVerifyCmd `cmd:"" help:"Check that no entry of the audit log was changed, removed or put in."`
}

type auditVerifyCmd struct {
	machine
	Data     string `help:"Directory of the embedded database." default:"countersign-data" type:"path" placeholder:"DIR"`
	Database string `help:"Database: postgres://... for PostgreSQL, instead of the one below --data." placeholder:"URL"`
}

// Help is shown by kong.
func (*auditVerifyCmd) Help() string {
	return `Reads the whole log of each organization, recalculates its chain of hashes, and prints the sequence number and chain value of the last entry. Nothing is written; the server may run meanwhile.

    countersign audit verify --data ./data

Note the values somewhere else: whoever can write the database could also calculate a new chain, but not one that goes through the values that you noted.
--json writes a list of organizationId, name, sequence, chain and, for a broken log, error.` + localExitCodes("a log is broken")
}

// Validate is called by kong.
func (a *auditVerifyCmd) Validate() error { return checkDatabase(a.Database) }

// logHead is what audit verify tells of one organization.
type logHead struct {
	OrganizationID signing.ID `json:"organizationId"`
	Name           string     `json:"name"`
	Sequence       int64      `json:"sequence"`
	Chain          string     `json:"chain"`
	Error          string     `json:"error,omitempty"`
}

// Run verifies.
func (a *auditVerifyCmd) Run(ctx context.Context, io console) (err error) {
	s := storage{Data: a.Data, Database: a.Database}
	if err := s.exists(); err != nil {
		return err
	}
	db, err := store.Open(ctx, store.Config{URL: s.databaseURL()})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	service := signing.New(signing.Config{Store: db})
	organizations, err := service.Organizations(ctx)
	if err != nil {
		return fmt.Errorf("read the database (is its schema this version's? see 'countersign migrate'): %w", err)
	}
	heads := []logHead{}
	broken := 0
	for _, o := range organizations {
		head, err := service.VerifyAudit(ctx, o.ID)
		h := logHead{OrganizationID: o.ID, Name: o.Name, Sequence: head.Sequence, Chain: head.Chain.String()}
		if errors.Is(err, audit.ErrBroken) {
			h.Error = err.Error()
			broken++
		} else if err != nil {
			return err
		}
		heads = append(heads, h)
		if a.JSON {
			continue
		}
		fmt.Fprintf(io.out, "%s  %s\n  last entry  %d\n  chain       %s\n", o.ID, printable(o.Name), h.Sequence, h.Chain)
		if h.Error == "" {
			fmt.Fprintln(io.out, "  ✓ intact up to this entry")
		} else {
			fmt.Fprintf(io.out, "  ✗ %s; intact up to the entry above\n", h.Error)
		}
	}
	if a.JSON {
		if err := writeJSON(io.out, heads); err != nil {
			return err
		}
	}
	if broken > 0 {
		return &exitError{exitFailure, fmt.Errorf("the audit log of %d of %d organizations is broken", broken, len(organizations))}
	}
	return nil
}
