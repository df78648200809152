package main

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"

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
	Noted    string `help:"What an earlier check wrote with --json: fail unless the log goes through those values still." type:"existingfile" placeholder:"FILE"`
}

// Help is shown by kong.
func (*auditVerifyCmd) Help() string {
	return `Reads the whole log of each organization, recalculates its chain of hashes, and prints the sequence number and chain value of the last entry. Nothing is written; the server may run meanwhile.

    countersign audit verify --data ./data
    countersign audit verify --data ./data --json > heads.json                   # keep it on another machine
    countersign audit verify --data ./data --noted heads.json                    # later

Note the values somewhere else: whoever can write the database could also calculate a new chain, or cut entries off the end, but then it no longer goes through the values that you noted.
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
	noted, err := a.noted()
	if err != nil {
		return &exitError{exitUsage, err}
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
	lost, err := service.LostAudits(ctx)
	if err != nil {
		return err
	}
	for _, id := range lost {
		organizations = append(organizations, &signing.Organization{ID: id})
	}
	heads := []logHead{}
	broken := 0
	for _, o := range organizations {
		head, err := service.VerifyAudit(ctx, o.ID, noted[o.ID]...)
		delete(noted, o.ID)
		h := logHead{OrganizationID: o.ID, Name: o.Name, Sequence: head.Sequence, Chain: head.Chain.String()}
		if err == nil && slices.Contains(lost, o.ID) {
			err = fmt.Errorf("%w: its organization was removed from the database", audit.ErrBroken)
		}
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
	for id := range noted {
		return &exitError{exitFailure, fmt.Errorf("organization %s was noted, and is not in this database", id)}
	}
	if broken > 0 {
		return &exitError{exitFailure, fmt.Errorf("the audit log of %d of %d organizations is broken", broken, len(organizations))}
	}
	return nil
}

// noted reads the heads that an earlier check wrote.
func (a *auditVerifyCmd) noted() (map[signing.ID][]audit.Head, error) {
	if a.Noted == "" {
		return nil, nil
	}
	raw, err := os.ReadFile(a.Noted)
	if err != nil {
		return nil, err
	}
	var heads []logHead
	if err := json.Unmarshal(raw, &heads); err != nil {
		return nil, fmt.Errorf("%s is not what 'countersign audit verify --json' writes: %w", a.Noted, err)
	}
	noted := map[signing.ID][]audit.Head{}
	for _, h := range heads {
		chain, err := hex.DecodeString(h.Chain)
		if err != nil || len(chain) != len(audit.Hash{}) || h.Sequence < 1 {
			return nil, fmt.Errorf("%s has no valid sequence and chain for organization %q", a.Noted, h.OrganizationID)
		}
		noted[h.OrganizationID] = append(noted[h.OrganizationID], audit.Head{Sequence: h.Sequence, Chain: audit.Hash(chain)})
	}
	return noted, nil
}
