package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"

	"github.com/countersign-dev/countersign/api"
)

// printable replaces what would act on a terminal: names come from others.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '\uFFFD'
		}
		return r
	}, s)
}

func localTime(t time.Time) string { return t.Local().Format("2006-01-02 15:04:05") }

// printRequest writes a signing request for people.
func printRequest(out io.Writer, r *api.SigningRequest) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	line := func(name, value string) {
		if value != "" {
			fmt.Fprintf(w, "%s\t%s\n", name, printable(value))
		}
	}
	artifact := func(a api.ArtifactData) string {
		if a.FileName == "" {
			return ""
		}
		return fmt.Sprintf("%s, %d bytes, SHA-256 %s", a.FileName, a.SizeInBytes, a.Sha256Hash)
	}
	line("Request", r.SigningRequestID)
	line("Status", describeState(&api.SigningRequestState{Status: r.Status, WorkflowStatus: r.WorkflowStatus}))
	line("Description", r.Description)
	line("Project", r.ProjectSlug)
	line("Signing policy", r.SigningPolicySlug)
	line("Configuration", fmt.Sprintf("%s, version %d", r.ArtifactConfigurationSlug, r.ArtifactConfigurationVersion))
	for _, name := range slices.Sorted(maps.Keys(r.Parameters)) {
		line("Parameter", name+" = "+r.Parameters[name])
	}
	line("Unsigned", artifact(r.UnsignedArtifact))
	line("Signed", artifact(r.SignedArtifact))
	line("Submitter", r.SubmitterName)
	line("Repository", r.Origin.RepositoryData.URL)
	line("Branch", r.Origin.RepositoryData.BranchName)
	line("Commit", r.Origin.RepositoryData.CommitID)
	line("Build", r.Origin.BuildData.URL)
	line("Created", localTime(r.CreatedAt))
	if !r.FinalAt.IsZero() {
		line("Final", fmt.Sprintf("%s, after %s", localTime(r.FinalAt), r.FinalAt.Sub(r.CreatedAt).Round(10*time.Millisecond)))
	}
	line("Resubmits", r.OriginalSigningRequestID)
	line("Resubmitted as", strings.Join(r.Resubmits, ", "))
	if r.RequiredApprovals > 0 {
		line("Approvals", fmt.Sprintf("%d of %d", r.GivenApprovals, r.RequiredApprovals))
	}
	for _, a := range r.Approvals {
		text := fmt.Sprintf("%s %s, %s", a.Decision, a.UserName, localTime(a.At))
		if a.Comment != "" {
			text += ": " + a.Comment
		}
		if !a.IsCurrent {
			text += " (no longer counts)"
		}
		line("", text)
	}
	for _, v := range r.Verifications {
		line("Check", fmt.Sprintf("%s: %s. %s", v.Name, v.Result, cmp.Or(v.Remedy, v.Explanation)))
	}
	line("Failure", r.Failure.Message)
	for _, d := range r.Failure.Details {
		if !strings.Contains(r.Failure.Message, d) {
			line("", d)
		}
	}
	label := "History"
	for _, e := range r.History {
		line(label, happening(e))
		label = ""
	}
	line("Page", r.WebLink)
	return w.Flush()
}

// happening puts an entry of a request's history on a line: when, what, who, and what he said.
func happening(e api.AuditEvent) string {
	var said struct{ Comment, Reason string }
	_ = json.Unmarshal(e.Data, &said) // of another shape there is nothing to say
	text := fmt.Sprintf("%s %s, %s", localTime(e.Time), strings.TrimPrefix(e.Event, "SigningRequest."), e.Metadata.Actor.Name)
	if words := cmp.Or(said.Comment, said.Reason); words != "" {
		text += ": " + words
	}
	return text
}

// printList writes signing requests as a table.
func printList(out io.Writer, items []api.SigningRequestSummary) error {
	if len(items) == 0 {
		_, err := fmt.Fprintln(out, "No signing requests.")
		return err
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "REQUEST\tSTATUS\tPROJECT\tPOLICY\tFILE\tSUBMITTER\tCREATED")
	for _, r := range items {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", r.SigningRequestID, r.Status, r.ProjectSlug, r.SigningPolicySlug,
			printable(r.ArtifactFileName), printable(r.SubmitterName), localTime(r.CreatedAt))
	}
	return w.Flush()
}
