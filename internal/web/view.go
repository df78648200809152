package web

import (
	"fmt"
	"strings"
	"time"

	"github.com/a-h/templ"

	"github.com/countersign-dev/countersign/internal/signing"
)

// The pages are written in templ; what it makes of them is committed.
//
//go:generate go tool -modfile=../../tools/go.mod templ generate

// crumb is a page that leads to another.
type crumb struct{ text, to string }

// staticTheme is the theme for browsers without scripts; with "auto" the script finds out what the system prefers.
func (x *exchange) staticTheme() string {
	if t := x.theme(); t != "auto" {
		return t
	}
	return "light"
}

func pressed(on bool) string {
	if on {
		return "true"
	}
	return "false"
}

// noticeRole makes screen readers read a problem at once and anything else when there is time.
func noticeRole(class string) string {
	if class == "is-bad" {
		return "alert"
	}
	return "status"
}

// invalidField returns the attributes of a field with or without a message.
func invalidField(id, message string) templ.Attributes {
	if message == "" {
		return nil
	}
	return templ.Attributes{"aria-invalid": "true", "aria-describedby": id + "-problem"}
}

func joined(list []string) string { return strings.Join(list, " · ") }

// artifactName is what a request is called; its artifact may still be on its way.
func artifactName(a signing.Artifact) string {
	if a.FileName == "" {
		return "Artifact not received yet"
	}
	return a.FileName
}

func orDash(s string) string {
	if s == "" {
		return "–"
	}
	return s
}

func anySubmittable(projects []*signing.ProjectView) bool {
	for _, p := range projects {
		for _, policy := range p.Policies {
			if ok, _ := submittable(p, policy); ok {
				return true
			}
		}
	}
	return false
}

func certificateName(c *signing.Certificate) string {
	if c == nil {
		return "no certificate"
	}
	return c.Name
}

// expiry warns a month ahead.
func expiry(c *signing.Certificate, now time.Time) string {
	switch {
	case !now.Before(c.NotAfter):
		return "expired"
	case !now.Before(c.NotAfter.AddDate(0, -1, 0)):
		return "soon"
	}
	return ""
}

func resultLabel(r signing.VerificationResult) string {
	if r == signing.NotPassed {
		return "Failed"
	}
	return spaced(string(r))
}

// passedText sums the checks up.
func passedText(checks []signing.Verification) string {
	passed, failed := 0, 0
	for _, v := range checks {
		switch v.Result {
		case signing.Passed:
			passed++
		case signing.NotPassed:
			failed++
		case signing.NotRequired:
		}
	}
	if failed > 0 {
		return fmt.Sprintf("%d failed, %d passed", failed, passed)
	}
	return fmt.Sprintf("%d passed", passed)
}

// notRequired counts the checks that the signing policy does not ask for.
func notRequired(checks []signing.Verification) int {
	n := 0
	for _, v := range checks {
		if v.Result == signing.NotRequired {
			n++
		}
	}
	return n
}

// failureText is a failure's message without the first of its details, where all of them are listed below it.
func failureText(f *signing.Failure) string {
	if len(f.Details) > 1 {
		return strings.TrimSuffix(strings.TrimSuffix(f.Message, f.Details[0]), ": ")
	}
	return f.Message
}

func deniedText(a signing.ApprovalView) string {
	if a.Comment == "" {
		return a.UserName + " denied the request."
	}
	return a.UserName + " denied the request: " + a.Comment
}

func decisionText(a signing.ApprovalView) string {
	text := string(a.Decision)
	if !a.Counts {
		text += ", counts no more"
	}
	return text
}

func decisionClass(a signing.ApprovalView) string {
	switch {
	case !a.Counts:
		return "is-neutral"
	case a.Decision == signing.Refused:
		return "is-bad"
	}
	return "is-good"
}

func treeIcon(f *plannedFile) string {
	switch {
	case len(f.Files) > 0 || strings.Contains(f.Type, "zip"):
		return "file-earmark-zip"
	case f.Action == "sign":
		return "patch-check"
	}
	return "file-earmark"
}

func actionText(f *plannedFile) string {
	switch f.Action {
	case "sign":
		var methods []string
		for _, d := range f.Directives {
			methods = append(methods, d.Method)
		}
		return strings.Join(methods, ", ")
	case "verify":
		return "verified"
	case "container":
		return "holds signed files"
	}
	return "left alone"
}

func actionClass(action string) string {
	switch action {
	case "sign":
		return "is-busy"
	case "verify":
		return "is-good"
	}
	return "is-neutral"
}

// treeSummary prunes the tree to what is to be said about it, and sums it up.
func treeSummary(d *requestData) string {
	room := maxTree
	left := d.plan.Root.prune(&room)
	text := countOf(d.plan.Root.actions("sign"), "file to sign", "files to sign")
	if d.result != nil {
		signatures := 0
		for _, f := range d.result.Files {
			signatures += len(f.Signatures)
		}
		text = count(signatures, "signature") + " made"
	}
	if n := d.plan.Root.actions("verify"); n > 0 {
		text += ", " + countOf(n, "file verified", "files verified")
	}
	if left > 0 {
		text += ", " + countOf(left, "file left alone and not listed", "files left alone and not listed")
	}
	return text
}

// actions counts the files with an action.
func (f *plannedFile) actions(action string) int {
	n := 0
	if f.Action == action {
		n = 1
	}
	for _, c := range f.Files {
		n += c.actions(action)
	}
	return n
}

// refresh makes the form load the fields that depend on a choice.
func (x *exchange) refresh() templ.Attributes {
	return templ.Attributes{
		"hx-get": x.link("Submit"), "hx-trigger": "change", "hx-target": "#submit-details", "hx-select": "#submit-details",
		"hx-select-oob": "#drop-text,#file-hint", "hx-swap": "outerHTML", "hx-include": "#submit-details",
	}
}

// fieldNames are the fields beside which their problems are shown.
func (f *submitForm) fieldNames() []string {
	names := []string{"SigningPolicyId", "Description", "Artifact", "Parameters"}
	if f.policy != nil && len(f.active()) > 1 {
		names = append(names, "ArtifactConfigurationSlug")
	}
	for _, p := range f.parameters {
		names = append(names, "Parameters."+p.name)
	}
	return names
}

// dropText invites to what the form takes.
func (f *submitForm) dropText() string {
	if f.multifile {
		return "Drop files here, or choose them"
	}
	return "Drop a file here, or choose one"
}

// fileHint says what the chosen configuration takes.
func (f *submitForm) fileHint() string {
	switch {
	case f.multifile:
		return "Several files become one ZIP archive, " + bundleFileName + "."
	case f.configuration != nil && f.root != "":
		return "One file, as " + f.configuration.Name + " wants it (" + f.root + ")."
	}
	return "One file."
}
