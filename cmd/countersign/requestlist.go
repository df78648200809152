package main

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/countersign-dev/countersign/api"
	"github.com/countersign-dev/countersign/client"
)

type listCmd struct {
	connection
	machine
	Project              string    `help:"Only those of this project." placeholder:"SLUG"`
	Policy               string    `help:"Only those of this signing policy; needs --project." placeholder:"SLUG"`
	Status               []string  `help:"Only those with one of these statuses: ${enum}." enum:"InProgress,WaitingForApproval,Completed,Failed,Denied,Canceled" env:"-" placeholder:"STATUS"`
	WaitingForMyApproval bool      `help:"Only those that wait for your decision." env:"-"`
	SubmittedByMe        bool      `help:"Only those that you submitted." env:"-"`
	Original             string    `help:"Only resubmits of this request." env:"-" placeholder:"ID"`
	SHA256               string    `name:"sha256" help:"Only those whose unsigned or signed artifact has this SHA-256." env:"-" placeholder:"HEX"`
	FileName             string    `help:"Only those whose file name contains this." env:"-" placeholder:"TEXT"`
	From                 time.Time `help:"Only those created from this time on, such as 2026-01-31T00:00:00Z." env:"-" placeholder:"TIME"`
	Before               time.Time `help:"Only those created before this time." env:"-" placeholder:"TIME"`
	Limit                int       `help:"At most so many; 0 for all." default:"50" env:"-"`
}

// Help is shown by kong.
func (*listCmd) Help() string {
	return `For example:

    countersign request list --project app --status WaitingForApproval
    countersign request list --sha256 "$(sha256sum app.exe | cut -d' ' -f1)"

--json writes {"items": [...]}, the items as the REST API has them (SigningRequestSummary).` + exitCodes("the server failed")
}

// Validate is called by kong.
func (l *listCmd) Validate() error {
	if l.Policy != "" && l.Project == "" {
		return errors.New("--policy needs --project")
	}
	return nil
}

// maxPage is the most requests that the API lists at a time.
const maxPage = 200

// Run lists.
func (l *listCmd) Run(ctx context.Context, io console) error {
	c, err := l.client()
	if err != nil {
		return err
	}
	filter := client.Filter{
		ProjectSlug: l.Project, SigningPolicySlug: l.Policy, WaitingForMyApproval: l.WaitingForMyApproval, SubmittedByMe: l.SubmittedByMe,
		OriginalSigningRequestID: l.Original, Sha256Hash: l.SHA256, FileName: l.FileName, CreatedFrom: l.From, CreatedBefore: l.Before,
	}
	for _, s := range l.Status {
		filter.Status = append(filter.Status, api.SigningRequestStatus(s))
	}
	items := []api.SigningRequestSummary{}
	for {
		filter.PageSize = maxPage
		if l.Limit > 0 {
			filter.PageSize = min(l.Limit-len(items), maxPage)
		}
		page, err := c.List(ctx, filter)
		if err != nil {
			return remoteError(err)
		}
		items = append(items, page.Items...)
		if filter.Cursor = page.NextCursor; filter.Cursor == "" || l.Limit > 0 && len(items) >= l.Limit {
			break
		}
	}
	if l.JSON {
		return writeJSON(io.out, api.SigningRequestPage{Items: slices.Clip(items)})
	}
	return printList(io.out, items)
}
