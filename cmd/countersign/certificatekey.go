package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/countersign-dev/countersign/api"
)

// storedCertificate is a certificate of the server that a command changes.
type storedCertificate struct {
	connection
	machine
	Slug string `arg:"" help:"Slug of the certificate."`
}

// change prints what a change of a certificate made of it.
func (s storedCertificate) change(io console, changed *api.Certificate, err error) error {
	if err != nil {
		return remoteError(err)
	}
	return s.print(io, changed)
}

type deactivateCmd struct {
	storedCertificate
	EvenIfInUse bool `help:"Deactivate it although active signing policies use it; their requests fail."`
}

// Help is shown by kong.
func (*deactivateCmd) Help() string {
	return `At once, also for signing requests that wait. The server says which active signing policies use the certificate.` + exitCodes("the server failed")
}

// Run deactivates.
func (d *deactivateCmd) Run(ctx context.Context, io console) error {
	c, err := d.client()
	if err != nil {
		return err
	}
	changed, err := c.DeactivateCertificate(ctx, d.Slug, d.EvenIfInUse)
	return d.change(io, changed, err)
}

type activateCmd struct{ storedCertificate }

// Help is shown by kong.
func (*activateCmd) Help() string {
	return `A certificate whose private key was deleted stays as it is.` + exitCodes("the server failed")
}

// Run activates.
func (a *activateCmd) Run(ctx context.Context, io console) error {
	c, err := a.client()
	if err != nil {
		return err
	}
	changed, err := c.ActivateCertificate(ctx, a.Slug)
	return a.change(io, changed, err)
}

// forever is asked before what cannot be undone.
type forever struct {
	Yes bool `help:"Confirm what cannot be undone."`
}

func (f forever) confirmed(what string) error {
	if f.Yes {
		return nil
	}
	return &exitError{exitUsage, errors.New(what + " cannot be undone; say --yes to do it")}
}

type deleteKeyCmd struct {
	storedCertificate
	forever
	EvenIfInUse bool `help:"Delete it although active signing policies use the certificate."`
}

// Help is shown by kong.
func (*deleteKeyCmd) Help() string {
	return `The key is erased from the server's key store; copies in backups are sealed with the server's master key. The certificate stays, because what it signed refers to it. For example, when a key is retired:

    countersign certificate deactivate release-2025
    countersign certificate delete-key --yes release-2025` + exitCodes("the server failed")
}

// Run deletes the key.
func (d *deleteKeyCmd) Run(ctx context.Context, io console) error {
	if err := d.confirmed("deleting a private key"); err != nil {
		return err
	}
	c, err := d.client()
	if err != nil {
		return err
	}
	changed, err := c.DeletePrivateKey(ctx, d.Slug, d.EvenIfInUse)
	return d.change(io, changed, err)
}

type deleteCmd struct {
	connection
	forever
	Slug string `arg:"" help:"Slug of the certificate."`
}

// Help is shown by kong.
func (*deleteCmd) Help() string {
	return `For abandoned signing requests (CSR) and certificates made by mistake. One that signed stays: deactivate it and delete its key.

    countersign certificate delete --yes abandoned` + exitCodes("the server failed")
}

// Run deletes the certificate.
func (d *deleteCmd) Run(ctx context.Context, io console) error {
	if err := d.confirmed("deleting a certificate"); err != nil {
		return err
	}
	c, err := d.client()
	if err != nil {
		return err
	}
	if err := c.DeleteCertificate(ctx, d.Slug); err != nil {
		return remoteError(err)
	}
	_, err = fmt.Fprintf(io.err, "Deleted certificate %s.\n", d.Slug)
	return err
}
