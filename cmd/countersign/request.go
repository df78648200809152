package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"time"

	"github.com/countersign-dev/countersign/api"
	"github.com/countersign-dev/countersign/client"
	"github.com/countersign-dev/countersign/internal/signing"
)

type requestCmd struct {
	Submit   submitCmd   `cmd:"" help:"Submit an artifact to be signed."`
	Wait     waitCmd     `cmd:"" help:"Wait until a request is final."`
	Get      getCmd      `cmd:"" help:"Show everything about a request."`
	Download downloadCmd `cmd:"" help:"Download a request's artifact."`
	Resubmit resubmitCmd `cmd:"" help:"Sign a request's artifact again, under another signing policy."`
	Approve  approveCmd  `cmd:"" help:"Approve a waiting request."`
	Deny     denyCmd     `cmd:"" help:"Deny a waiting request, which ends it."`
	Cancel   cancelCmd   `cmd:"" help:"Cancel a request that is not final."`
	List     listCmd     `cmd:"" help:"List requests, newest first."`
}

// Help is shown by kong.
func (requestCmd) Help() string {
	return `The commands use the server, token and organization of the environment:

    export COUNTERSIGN_URL=https://sign.example.com
    export COUNTERSIGN_ORGANIZATION=01939c5e-7a10-7c3f-8a55-0d9a4d3c2b1a
    export COUNTERSIGN_TOKEN=...   # of a CI user, or your own

A release, from the build to the signed program:

    countersign request submit --project app --policy test-signing --output app-test.exe app.exe
    countersign request resubmit --policy release-signing REQUEST
    countersign request approve --comment "passed all tests" REQUEST
    countersign request wait --output app-signed.exe REQUEST`
}

// machine is the flag of the commands whose output programs read.
type machine struct {
	JSON bool `name:"json" help:"Write one JSON object for programs to standard output." env:"-"`
}

// requestID is an argument that names a signing request.
type requestID string

// Validate is called by kong. An empty one, of a variable that was never set, would name all requests.
func (r requestID) Validate() error {
	if _, ok := signing.ParseID(string(r)); !ok {
		return fmt.Errorf("%q is not the id of a signing request, such as 01939c5e-7a10-7c3f-8a55-0d9a4d3c2b1a", string(r))
	}
	return nil
}

// outcome is what the commands that change or follow a request tell, the JSON included. Its names are those of the REST API.
type outcome struct {
	SigningRequestID string                   `json:"signingRequestId"`
	Status           api.SigningRequestStatus `json:"status"`
	WorkflowStatus   api.WorkflowStatus       `json:"workflowStatus"`
	IsFinalStatus    bool                     `json:"isFinalStatus"`
	WebLink          string                   `json:"webLink,omitempty"`
	Failure          *api.Failure             `json:"failure,omitempty"` // of a request with status Failed
	File             *savedFile               `json:"file,omitempty"`    // that was downloaded
}

type savedFile struct {
	Path        string `json:"path"`
	SizeInBytes int64  `json:"sizeInBytes"`
	Sha256Hash  string `json:"sha256Hash"`
}

func (o *outcome) state(s *api.SigningRequestState) {
	o.SigningRequestID, o.Status, o.WorkflowStatus, o.IsFinalStatus = s.SigningRequestID, s.Status, s.WorkflowStatus, s.IsFinalStatus
}

// print writes the outcome: JSON, or what people want to know and was not said yet.
func (o *outcome) print(out console, m machine) error {
	if m.JSON {
		return writeJSON(out.out, o)
	}
	if _, err := fmt.Fprintf(out.out, "%s  %s\n", o.SigningRequestID, o.Status); err != nil {
		return err
	}
	if o.File != nil {
		_, err := fmt.Fprintf(out.out, "%s  %d bytes  SHA-256 %s\n", o.File.Path, o.File.SizeInBytes, o.File.Sha256Hash)
		return err
	}
	return nil
}

func writeJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}

// following waits for a request and downloads its result, after submit and resubmit and in wait.
type following struct {
	waiting
	machine
	Output string `short:"o" help:"Download the signed artifact to this file once it is there." placeholder:"FILE" env:"-"`
	Force  bool   `short:"f" help:"Replace the output file when it exists." env:"-"`
}

// check refuses what would fail only after the wait.
func (f following) check() error {
	if f.Output == "" || f.Force {
		return nil
	}
	if _, err := os.Lstat(f.Output); err == nil {
		return &exitError{exitUsage, fmt.Errorf("%s exists already; name another --output, or replace it with --force", f.Output)}
	}
	return nil
}

// follow waits until the request is final, tells the steps, downloads the result and prints the outcome. A request that is
// final, but not completed, is an error. until, if any, ends the wait earlier.
func (f following) follow(ctx context.Context, io console, c *client.Client, o *outcome, until func(*api.SigningRequestState) bool) error {
	state, err := c.Wait(ctx, o.SigningRequestID, client.WaitOptions{Until: until, Changed: func(s *api.SigningRequestState) {
		if !f.JSON {
			fmt.Fprintf(io.err, "%s  %s\n", time.Now().Format(time.TimeOnly), describeState(s))
		}
	}})
	if state != nil {
		o.state(state)
	}
	if err != nil {
		if f.JSON {
			err = errors.Join(err, o.print(io, f.machine))
		}
		return f.ended(ctx, err, fmt.Sprintf("; the request goes on, follow it with: countersign request wait %s", o.SigningRequestID))
	}
	if !o.IsFinalStatus {
		return o.print(io, f.machine)
	}
	if o.Status != api.SigningRequestStatusCompleted {
		return f.unsuccessful(ctx, io, c, o)
	}
	if f.Output != "" {
		if o.File, err = save(ctx, io, c, o.SigningRequestID, f.Output, client.DownloadOptions{Replace: f.Force}, f.JSON); err != nil {
			return f.ended(ctx, err, fmt.Sprintf("; download it with: countersign request download --output %s %s", f.Output, o.SigningRequestID))
		}
	}
	return o.print(io, f.machine)
}

func waitsForApproval(s *api.SigningRequestState) bool {
	return s.Status == api.SigningRequestStatusWaitingForApproval
}

// unsuccessful says why a final request was not completed.
func (f following) unsuccessful(ctx context.Context, io console, c *client.Client, o *outcome) error {
	r, err := c.Get(ctx, o.SigningRequestID)
	if err != nil {
		return f.ended(ctx, err, "")
	}
	o.WebLink = r.WebLink
	if r.Failure.Code != "" {
		o.Failure = &r.Failure
	}
	if err := o.print(io, f.machine); err != nil {
		return err
	}
	return &exitError{exitFailure, errors.New(reasonOf(r))}
}

// reasonOf tells why a request ended otherwise than completed.
func reasonOf(r *api.SigningRequest) string {
	var b strings.Builder
	fmt.Fprintf(&b, "signing request %s is %s", r.SigningRequestID, describeState(&api.SigningRequestState{Status: r.Status, WorkflowStatus: r.WorkflowStatus}))
	if r.Failure.Message != "" {
		fmt.Fprintf(&b, ": %s", r.Failure.Message)
	}
	for _, d := range r.Failure.Details {
		if !strings.Contains(r.Failure.Message, d) { // the message tells the only one
			fmt.Fprintf(&b, "\n  %s", d)
		}
	}
	for _, a := range r.Approvals {
		if a.Decision == api.ApprovalDecisionDenied {
			fmt.Fprintf(&b, "\n  denied by %s", a.UserName)
			if a.Comment != "" {
				fmt.Fprintf(&b, ": %s", a.Comment)
			}
		}
	}
	return b.String()
}

func describeState(s *api.SigningRequestState) string {
	if string(s.Status) == string(s.WorkflowStatus) {
		return string(s.Status)
	}
	return fmt.Sprintf("%s (%s)", s.Status, s.WorkflowStatus)
}

// save downloads a file of a request.
func save(ctx context.Context, io console, c *client.Client, id, path string, o client.DownloadOptions, quiet bool) (*savedFile, error) {
	var progress func(int64)
	done := func() {}
	if !quiet {
		o.Progress = func(n, total int64) {
			if progress == nil {
				progress, done = transfer(io.err, "downloading", total)
			}
			progress(n)
		}
	}
	d, err := c.Download(ctx, id, path, o)
	done()
	if errors.Is(err, fs.ErrExist) {
		return nil, &exitError{exitUsage, fmt.Errorf("%s exists already; name another --output, or replace it with --force", path)}
	}
	if err != nil {
		return nil, err
	}
	return &savedFile{Path: path, SizeInBytes: d.Size, Sha256Hash: d.SHA256}, nil
}

type submitCmd struct {
	connection
	following
	parameters
	Project       string `help:"Slug of the project." required:"" placeholder:"SLUG"`
	Policy        string `help:"Slug of the signing policy." required:"" placeholder:"SLUG"`
	Configuration string `help:"Slug of the artifact configuration; the project's default otherwise." placeholder:"SLUG" env:"-"`
	Description   string `help:"What this is, for those who approve it." env:"-" placeholder:"TEXT"`
	Wait          bool   `help:"Wait until the request is final. --output waits, too." env:"-"`
	lapsing
	repeating
	Origin   originFlags `embed:"" prefix:"origin-" group:"Origin"`
	Artifact string      `arg:"" help:"The file to sign." type:"existingfile"`
}

// lapsing bounds how long a request may stay unfinished.
type lapsing struct {
	CancelAfter time.Duration `help:"Have the server cancel the request unless it is final by then." env:"-" placeholder:"DURATION"`
}

func (l lapsing) checkCancelAfter() error {
	if l.CancelAfter != 0 && l.CancelAfter < time.Second {
		return errors.New("--cancel-after must be a second or more")
	}
	return nil
}

// repeating makes running a command again harmless.
type repeating struct {
	IdempotencyKey string `help:"Key of this submission, such as the CI job's id: with the same key, policy and artifact the request that is there is used instead of a new one." env:"-" placeholder:"KEY"`
}

type originFlags struct {
	Repository    string `help:"URL of the source code repository." env:"-" placeholder:"URL"`
	Branch        string `help:"Branch that was built." env:"-" placeholder:"NAME"`
	Commit        string `help:"Commit that was built." env:"-" placeholder:"ID"`
	SourceControl string `help:"Kind of the repository; git when a repository is named." env:"-" placeholder:"KIND"`
	BuildURL      string `help:"Page of the build." env:"-" placeholder:"URL"`
	BuildSettings string `help:"File that defines the build." type:"existingfile" env:"-" placeholder:"FILE"`
}

// Help is shown by kong.
func (*submitCmd) Help() string {
	return `Submit app.exe, wait for the signature and write app-signed.exe:

    countersign request submit --project app --policy test-signing --output app-signed.exe app.exe

Submit without waiting, and keep the request's id:

    id=$(countersign request submit --json --project app --policy release-signing app.exe | jq -r .signingRequestId)

With parameters of the artifact configuration, and the origin that a trusted build system vouches for:

    countersign request submit --project app --policy release-verified --param version=1.4.0 \
        --origin-repository https://github.com/acme/app --origin-branch main --origin-commit "$(git rev-parse HEAD)" app.zip

--json writes signingRequestId, status, workflowStatus, isFinalStatus, webLink, and where they apply failure (code, message, details) and file (path, sizeInBytes, sha256Hash).` +
		exitCodes("the request failed, was denied or canceled")
}

// Validate is called by kong.
func (s *submitCmd) Validate() error { return s.checkCancelAfter() }

// Run submits.
func (s *submitCmd) Run(ctx context.Context, io console) error {
	if err := s.check(); err != nil {
		return err
	}
	c, err := s.client()
	if err != nil {
		return err
	}
	artifact, closeArtifact, err := openUpload(s.Artifact)
	if err != nil {
		return err
	}
	defer closeArtifact()
	submission := client.Submission{
		ProjectSlug: s.Project, PolicySlug: s.Policy, ConfigurationSlug: s.Configuration, Artifact: *artifact,
		Description: s.Description, Parameters: s.Param, CancellationTimeout: s.CancelAfter, IdempotencyKey: s.IdempotencyKey,
		Origin: client.Origin{RepositoryURL: s.Origin.Repository, Branch: s.Origin.Branch, Commit: s.Origin.Commit, SourceControl: s.Origin.SourceControl, BuildURL: s.Origin.BuildURL},
	}
	if s.Origin.Repository != "" && s.Origin.SourceControl == "" {
		submission.Origin.SourceControl = "git"
	}
	if s.Origin.BuildSettings != "" {
		settings, closeSettings, err := openUpload(s.Origin.BuildSettings)
		if err != nil {
			return err
		}
		defer closeSettings()
		submission.Origin.BuildSettings = settings
	}
	ctx, stop := s.within(ctx)
	defer stop()
	done := func() {}
	if !s.JSON {
		submission.Artifact.Progress, done = transfer(io.err, "uploading", artifact.Size)
	}
	submitted, err := c.Submit(ctx, submission)
	done()
	if err != nil {
		return s.ended(ctx, err, "; nothing was submitted, as far as is known")
	}
	return s.submitted(ctx, io, c, submitted, s.Wait)
}

// submitted tells of a new request and follows it when asked to.
func (f following) submitted(ctx context.Context, io console, c *client.Client, r *api.SubmittedSigningRequest, wait bool) error {
	o := &outcome{SigningRequestID: r.SigningRequestID, Status: r.Status, WorkflowStatus: r.WorkflowStatus, IsFinalStatus: r.IsFinalStatus, WebLink: r.WebLink}
	if !f.JSON {
		fmt.Fprintf(io.err, "Signing request %s\n%s\n", r.SigningRequestID, r.WebLink)
	}
	if wait || f.Output != "" || r.IsFinalStatus { // the policy may have refused it already
		return f.follow(ctx, io, c, o, nil)
	}
	return o.print(io, f.machine)
}

// openUpload opens a file to send.
func openUpload(path string) (_ *client.Upload, done func(), err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, nil, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = &exitError{exitUsage, fmt.Errorf("%s is not a regular file", path)}
	}
	if err != nil {
		closeQuietly(f)
		return nil, nil, err
	}
	return &client.Upload{Name: baseName(path), Content: f, Size: info.Size()}, func() { closeQuietly(f) }, nil
}

type waitCmd struct {
	connection
	following
	ForApproval bool      `help:"End the wait, successfully, also when the request waits for approval. Nothing is downloaded then." env:"-"`
	Request     requestID `arg:"" help:"Id of the signing request."`
}

// Help is shown by kong.
func (*waitCmd) Help() string {
	return `Wait for a request that needs approval, a day at most, and download the result:

    countersign request wait --timeout 24h --output app-signed.exe 01939c5e-7a10-7c3f-8a55-0d9a4d3c2b1a

--json writes the same object as "request submit".` + exitCodes("the request failed, was denied or canceled")
}

// Run waits.
func (w *waitCmd) Run(ctx context.Context, io console) error {
	if err := w.check(); err != nil {
		return err
	}
	c, err := w.client()
	if err != nil {
		return err
	}
	ctx, stop := w.within(ctx)
	defer stop()
	o := &outcome{SigningRequestID: string(w.Request)}
	if w.ForApproval {
		return w.follow(ctx, io, c, o, waitsForApproval)
	}
	return w.follow(ctx, io, c, o, nil)
}

type resubmitCmd struct {
	connection
	following
	repeating
	Policy          string `help:"Slug of the signing policy; one of the same project. With --current-settings the original's otherwise." env:"-" placeholder:"SLUG"`
	CurrentSettings bool   `help:"Use the artifact configuration as it is now; takes failed requests, too." env:"-"`
	Description     string `help:"What this is, for those who approve it; the original's otherwise." env:"-" placeholder:"TEXT"`
	Wait            bool   `help:"Wait until the new request is final. --output waits, too." env:"-"`
	lapsing
	Request requestID `arg:"" help:"Id of the completed signing request."`
}

// Help is shown by kong.
func (*resubmitCmd) Help() string {
	return `The very same artifact is signed again under another policy, with the same configuration, parameters and origin. What was test-signed and tested becomes the release:

    countersign request resubmit --policy release-signing --description "1.4.0, all tests passed" 01939c5e-7a10-7c3f-8a55-0d9a4d3c2b1a

A request that failed because of its configuration is tried again once that was mended:

    countersign request resubmit --current-settings 01939c5e-7a10-7c3f-8a55-0d9a4d3c2b1a

--json writes the same object as "request submit"; signingRequestId is the new request's.` + exitCodes("the new request failed, was denied or canceled")
}

// Validate is called by kong.
func (r *resubmitCmd) Validate() error {
	if r.Policy == "" && !r.CurrentSettings {
		return errors.New("name the signing policy with --policy")
	}
	return r.checkCancelAfter()
}

// Run resubmits.
func (r *resubmitCmd) Run(ctx context.Context, io console) error {
	if err := r.check(); err != nil {
		return err
	}
	c, err := r.client()
	if err != nil {
		return err
	}
	ctx, stop := r.within(ctx)
	defer stop()
	submitted, err := c.Resubmit(ctx, client.Resubmission{Original: string(r.Request), PolicySlug: r.Policy, CurrentSettings: r.CurrentSettings, Description: r.Description, CancellationTimeout: r.CancelAfter, IdempotencyKey: r.IdempotencyKey})
	if err != nil {
		return r.ended(ctx, err, "")
	}
	return r.submitted(ctx, io, c, submitted, r.Wait)
}

type getCmd struct {
	connection
	machine
	Request requestID `arg:"" help:"Id of the signing request."`
}

// Help is shown by kong.
func (*getCmd) Help() string {
	return `--json writes the signing request as the REST API has it (SigningRequest, see /Api/swagger on the server).` +
		exitCodes("the server failed")
}

// Run shows a request.
func (g *getCmd) Run(ctx context.Context, io console) error {
	c, err := g.client()
	if err != nil {
		return err
	}
	r, err := c.Get(ctx, string(g.Request))
	if err != nil {
		return remoteError(err)
	}
	if g.JSON {
		return writeJSON(io.out, r)
	}
	return printRequest(io.out, r)
}

type downloadCmd struct {
	connection
	waiting
	machine
	Unsigned bool      `help:"The artifact as it was submitted, instead of the signed one." env:"-"`
	Output   string    `short:"o" help:"Where to write it; the artifact's own name in the current directory otherwise." placeholder:"FILE" env:"-"`
	Force    bool      `short:"f" help:"Replace the file when it exists." env:"-"`
	Request  requestID `arg:"" help:"Id of the signing request."`
}

// Help is shown by kong.
func (*downloadCmd) Help() string {
	return `For example:

    countersign request download --output app-signed.exe 01939c5e-7a10-7c3f-8a55-0d9a4d3c2b1a

A broken connection is resumed; the file appears when it is complete and its SHA-256 is right, or not at all.
--json writes path, sizeInBytes and sha256Hash.` + exitCodes("the download failed")
}

// Run downloads.
func (d *downloadCmd) Run(ctx context.Context, io console) error {
	c, err := d.client()
	if err != nil {
		return err
	}
	ctx, stop := d.within(ctx)
	defer stop()
	r, err := c.Get(ctx, string(d.Request))
	if err != nil {
		return d.ended(ctx, err, "")
	}
	o, artifact := client.DownloadOptions{Replace: d.Force}, r.SignedArtifact
	switch {
	case d.Unsigned:
		o.Which, artifact = client.Unsigned, r.UnsignedArtifact
	case !r.IsFinalStatus:
		return &exitError{exitFailure, fmt.Errorf("signing request %s is %s yet; wait for it with: countersign request wait --output FILE %s", d.Request, r.Status, d.Request)}
	case r.Status != api.SigningRequestStatusCompleted:
		return &exitError{exitFailure, errors.New(reasonOf(r))}
	}
	o.SHA256 = artifact.Sha256Hash
	path := d.Output
	if path == "" {
		// The name is the submitter's; it must not lead out of this directory.
		if path = baseName(artifact.FileName); path == "" || path == "." || path == ".." {
			return &exitError{exitUsage, errors.New("the artifact has no usable file name; say where to write it with --output")}
		}
	}
	file, err := save(ctx, io, c, string(d.Request), path, o, d.JSON)
	if err != nil {
		return d.ended(ctx, err, "")
	}
	if d.JSON {
		return writeJSON(io.out, file)
	}
	_, err = fmt.Fprintf(io.out, "%s  %d bytes  SHA-256 %s\n", file.Path, file.SizeInBytes, file.Sha256Hash)
	return err
}
