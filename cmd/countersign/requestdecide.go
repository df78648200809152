package main

import (
	"context"

	"github.com/countersign-dev/countersign/api"
	"github.com/countersign-dev/countersign/client"
)

// deciding is what approve, deny and cancel have in common.
type deciding struct {
	connection
	machine
	Comment string    `help:"Why; kept with the request." env:"-" placeholder:"TEXT"`
	Request requestID `arg:"" help:"Id of the signing request."`
}

func (d *deciding) run(ctx context.Context, io console, decide func(*client.Client, context.Context, string, string) (*api.SigningRequestState, error)) error {
	c, err := d.client()
	if err != nil {
		return err
	}
	state, err := decide(c, ctx, string(d.Request), d.Comment)
	if err != nil {
		return remoteError(err)
	}
	o := &outcome{}
	o.state(state)
	return o.print(io, d.machine)
}

type approveCmd struct{ deciding }

// Help is shown by kong.
func (*approveCmd) Help() string {
	return `For example:

    countersign request list --waiting-for-my-approval
    countersign request approve --comment "passed all tests" 01939c5e-7a10-7c3f-8a55-0d9a4d3c2b1a

The request goes on when as many approvers as its policy wants have approved.
--json writes signingRequestId, status, workflowStatus and isFinalStatus.` + exitCodes("the request does not wait for approval, or you have decided already")
}

// Run approves.
func (a *approveCmd) Run(ctx context.Context, io console) error {
	return a.run(ctx, io, (*client.Client).Approve)
}

type denyCmd struct{ deciding }

// Help is shown by kong.
func (*denyCmd) Help() string {
	return `For example:

    countersign request deny --comment "crashes on start" 01939c5e-7a10-7c3f-8a55-0d9a4d3c2b1a

--json writes signingRequestId, status, workflowStatus and isFinalStatus.` + exitCodes("the request does not wait for approval, or you have decided already")
}

// Run denies.
func (d *denyCmd) Run(ctx context.Context, io console) error {
	return d.run(ctx, io, (*client.Client).Deny)
}

type cancelCmd struct{ deciding }

// Help is shown by kong.
func (*cancelCmd) Help() string {
	return `For example:

    countersign request cancel 01939c5e-7a10-7c3f-8a55-0d9a4d3c2b1a

--json writes signingRequestId, status, workflowStatus and isFinalStatus.` + exitCodes("the request is final")
}

// Run cancels.
func (c *cancelCmd) Run(ctx context.Context, io console) error {
	return c.run(ctx, io, (*client.Client).Cancel)
}
