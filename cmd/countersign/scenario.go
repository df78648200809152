package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/countersign-dev/countersign/api"
	"github.com/countersign-dev/countersign/artifact"
	"github.com/countersign-dev/countersign/artifact/authenticode"
	"github.com/countersign-dev/countersign/client"
)

// scenario plays a release over the public REST API: what CI built is test-signed; the tested request is resubmitted for
// release; an approver approves; the release certificate signs.
type scenario struct {
	out          io.Writer
	ci, approver *client.Client
	project      string
	caFile       string
	steps        int
}

// newScenario connects as the CI user and as the approver.
func newScenario(out io.Writer, state *demoState) (*scenario, error) {
	s := &scenario{out: out, project: state.ProjectSlug, caFile: state.CAFile}
	var err error
	if s.ci, err = client.New(state.APIURL, state.Tokens.CI, string(state.OrganizationID), client.WithPoll(20*time.Millisecond)); err != nil {
		return nil, err
	}
	s.approver, err = client.New(state.APIURL, state.Tokens.Approver, string(state.OrganizationID))
	return s, err
}

// step runs one step and writes its line. The function returns what to tell besides.
func (s *scenario) step(what string, do func() (string, error)) error {
	s.steps++
	start := time.Now()
	detail, err := do()
	mark := "✓"
	if err != nil {
		mark, detail = "✗", err.Error()
	}
	fmt.Fprintf(s.out, "%2d. %s %-48s %6s\n", s.steps, mark, what, time.Since(start).Round(time.Millisecond))
	for line := range strings.Lines(detail) {
		fmt.Fprintf(s.out, "      %s\n", strings.TrimRight(line, "\n"))
	}
	if err != nil {
		return fmt.Errorf("step %d (%s): %w", s.steps, what, err)
	}
	return nil
}

// run plays all steps with the program and leaves the signed files in the directory.
func (s *scenario) run(ctx context.Context, program, directory string) error {
	if err := os.MkdirAll(directory, 0o755); err != nil { //nolint:gosec // the user's own files
		return err
	}
	fmt.Fprintf(s.out, "Release scenario with %s\n\n", program)
	name := strings.TrimSuffix(baseName(program), filepath.Ext(program))
	tested := filepath.Join(directory, name+".test-signed.exe")
	released := filepath.Join(directory, name+".release-signed.exe")

	var test, release string
	steps := []struct {
		what string
		do   func() (string, error)
	}{
		{"CI submits to test-signing", func() (detail string, err error) {
			test, detail, err = s.submit(ctx, program)
			return detail, err
		}},
		{"the test certificate signs", func() (string, error) { return s.wait(ctx, test) }},
		{"CI downloads", func() (string, error) { return s.download(ctx, test, tested) }},
		{"countersign verifies", func() (string, error) { return s.verify(ctx, tested, "Countersign demo test certificate") }},
		{"osslsigncode verifies", func() (string, error) { return s.secondOpinion(ctx, tested) }},
		{"the tested request is resubmitted for release", func() (detail string, err error) {
			release, detail, err = s.resubmit(ctx, test)
			return detail, err
		}},
		{"it waits for approval", func() (string, error) { return s.waitForApproval(ctx, release) }},
		{"the approver approves", func() (string, error) { return s.approve(ctx, release) }},
		{"the release certificate signs", func() (string, error) { return s.wait(ctx, release) }},
		{"CI downloads", func() (string, error) { return s.download(ctx, release, released) }},
		{"countersign verifies", func() (string, error) { return s.verify(ctx, released, "Demo organization") }},
		{"osslsigncode verifies", func() (string, error) { return s.secondOpinion(ctx, released) }},
		{"both were made from the same bytes", func() (string, error) { return s.sameArtifact(ctx, test, release) }},
	}
	for _, step := range steps {
		if err := s.step(step.what, step.do); err != nil {
			return err
		}
	}
	fmt.Fprintf(s.out, "\nTest-signed     %s\nRelease-signed  %s\n\n", tested, released)
	return nil
}

func (s *scenario) submit(ctx context.Context, program string) (id, detail string, err error) {
	upload, done, err := openUpload(program)
	if err != nil {
		return "", "", err
	}
	defer done()
	r, err := s.ci.Submit(ctx, client.Submission{
		ProjectSlug: s.project, PolicySlug: "test-signing", Artifact: *upload, Description: "Release candidate",
	})
	if err != nil {
		return "", "", err
	}
	return r.SigningRequestID, fmt.Sprintf("request %s, %d bytes", r.SigningRequestID, upload.Size), nil
}

func (s *scenario) wait(ctx context.Context, id string) (string, error) {
	if _, err := s.ci.Wait(ctx, id, client.WaitOptions{}); err != nil {
		return "", err
	}
	r, err := s.ci.Get(ctx, id)
	if err != nil {
		return "", err
	}
	if r.Status != api.SigningRequestStatusCompleted {
		return "", errors.New(reasonOf(r))
	}
	return fmt.Sprintf("%s, SHA-256 %s", r.Status, r.SignedArtifact.Sha256Hash), nil
}

func (s *scenario) download(ctx context.Context, id, path string) (string, error) {
	d, err := s.ci.Download(ctx, id, path, client.DownloadOptions{Replace: true})
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%s, %d bytes", path, d.Size), nil
}

func (s *scenario) verify(ctx context.Context, path, publisher string) (string, error) {
	trust, err := trustFlags{CA: []string{s.caFile}}.trust()
	if err != nil {
		return "", err
	}
	report, err := verifyFile(ctx, path, artifact.VerifyOptions{Trust: trust, Publisher: publisher})
	if err != nil {
		return "", err
	}
	if report.Worst != authenticode.StatusValid || report.Report == nil || len(report.Report.Signatures) == 0 {
		return "", fmt.Errorf("%s is not validly signed by %s: %s", path, publisher, report.Worst)
	}
	signature := report.Report.Signatures[0]
	if signature.Timestamp == nil || !signature.Timestamp.Valid {
		return "", fmt.Errorf("%s has no valid timestamp", path)
	}
	return fmt.Sprintf("valid, signed by %s, timestamp %s", signature.Signer.Subject, signature.Timestamp.Time.UTC().Format(time.DateTime)), nil
}

// secondOpinion asks another implementation, where it is installed.
func (s *scenario) secondOpinion(ctx context.Context, path string) (string, error) {
	program, err := exec.LookPath("osslsigncode")
	if err != nil {
		return "left out: osslsigncode is not installed", nil
	}
	output, err := exec.CommandContext(ctx, program, "verify", "-CAfile", s.caFile, "-TSA-CAfile", s.caFile, "-in", path).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("osslsigncode refuses %s (%w):\n%s", path, err, output)
	}
	return "Signature verification: ok", nil
}

func (s *scenario) resubmit(ctx context.Context, test string) (id, detail string, err error) {
	r, err := s.ci.Resubmit(ctx, client.Resubmission{Original: test, PolicySlug: "release-signing", Description: "Release, all tests passed"})
	if err != nil {
		return "", "", err
	}
	return r.SigningRequestID, "request " + r.SigningRequestID, nil
}

func (s *scenario) waitForApproval(ctx context.Context, id string) (string, error) {
	state, err := s.ci.Wait(ctx, id, client.WaitOptions{Until: waitsForApproval})
	if err != nil {
		return "", err
	}
	if state.IsFinalStatus {
		return "", fmt.Errorf("it is %s before anybody approved it", describeState(state))
	}
	page, err := s.approver.List(ctx, client.Filter{WaitingForMyApproval: true})
	if err != nil {
		return "", err
	}
	for _, r := range page.Items {
		if r.SigningRequestID == id {
			return "on the approver's list", nil
		}
	}
	return "", errors.New("it is not on the approver's list")
}

func (s *scenario) approve(ctx context.Context, id string) (string, error) {
	const comment = "Tested on Windows 11"
	state, err := s.approver.Approve(ctx, id, comment)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%q, now %s", comment, describeState(state)), nil
}

// sameArtifact checks that the release was made from the bytes that were tested.
func (s *scenario) sameArtifact(ctx context.Context, test, release string) (string, error) {
	a, err := s.ci.Get(ctx, test)
	if err != nil {
		return "", err
	}
	b, err := s.ci.Get(ctx, release)
	if err != nil {
		return "", err
	}
	if b.OriginalSigningRequestID != test {
		return "", fmt.Errorf("request %s does not refer to its original %s", release, test)
	}
	if a.UnsignedArtifact.Sha256Hash == "" || a.UnsignedArtifact.Sha256Hash != b.UnsignedArtifact.Sha256Hash {
		return "", fmt.Errorf("unsigned SHA-256 %q was tested, %q released", a.UnsignedArtifact.Sha256Hash, b.UnsignedArtifact.Sha256Hash)
	}
	return "unsigned SHA-256 " + a.UnsignedArtifact.Sha256Hash, nil
}
