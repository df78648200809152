package web

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/countersign-dev/countersign/internal/audit"
	"github.com/countersign-dev/countersign/internal/signing"
)

// happening is one step of a request's history: an entry of the audit log in words.
type happening struct {
	at       time.Time
	sequence int64
	chain    audit.Hash
	what     string
	who, via string // who caused it, and how that came in; empty for the system itself
	said     string // comment or reason
	facts    []fact
	icon     string
}

// fact is what the log says besides, with the hash that it is about, if any.
type fact struct{ text, sha256 string }

// recorded is what entries about signing requests hold in their data, as far as people are told of it
// (docs/audit-log.md).
type recorded struct {
	OriginalID         string           `json:"originalSigningRequestId"`
	FileName           string           `json:"fileName"`
	Size               int64            `json:"size"`
	SHA256             string           `json:"sha256"`
	SignedSHA256       string           `json:"signedSha256"`
	RequiredApprovals  int              `json:"requiredApprovals"`
	Approvals          int              `json:"approvals"`
	Comment            string           `json:"comment"`
	Reason             string           `json:"reason"`
	Attempt            int              `json:"attempt"`
	CertificateSubject string           `json:"certificateSubject"`
	CertificateSHA256  string           `json:"certificateSha256"`
	Failure            *signing.Failure `json:"failure"`
}

// loadHistory fills in the history, oldest first.
func (x *exchange) loadHistory(d *requestData) error {
	for _, e := range d.History {
		h, err := happened(e)
		if err != nil {
			return fmt.Errorf("audit entry %d: %w", e.Sequence, err)
		}
		d.history = append(d.history, h)
	}
	return nil
}

func happened(e signing.HistoryEntry) (happening, error) {
	var r recorded
	if err := json.Unmarshal(e.Data, &r); err != nil {
		return happening{}, err
	}
	event := strings.TrimPrefix(e.Event, "SigningRequest.")
	h := happening{at: e.Time, sequence: e.Sequence, chain: e.Chain, what: spaced(event), icon: "clock"}
	if e.Actor.Kind != string(signing.System) {
		h.who, h.via = e.Actor.Name, e.Actor.Via
	}
	add := func(sha256, format string, args ...any) {
		h.facts = append(h.facts, fact{fmt.Sprintf(format, args...), sha256})
	}
	switch event {
	case "Submitted":
		h.icon = "cloud-upload"
		if r.OriginalID != "" {
			h.what = "Submitted again under another signing policy"
		}
		if r.SHA256 != "" {
			add(r.SHA256, "%s, %s", r.FileName, bytesText(r.Size))
		}
		if r.Failure != nil {
			h.icon = statusIcon(signing.Failed)
			add("", "Refused at once: %s", r.Failure.Message)
		}
	case "ArtifactReceived":
		h.icon = "cloud-upload"
		add(r.SHA256, "%s, %s", r.FileName, bytesText(r.Size))
	case "ApprovalRequested":
		h.icon = statusIcon(signing.WaitingForApproval)
		add("", "%s wanted", count(r.RequiredApprovals, "approval"))
	case "Approved":
		h.icon, h.said = "check-lg", r.Comment
		add("", "%d of %s", r.Approvals, count(r.RequiredApprovals, "approval"))
	case "Denied":
		h.icon, h.said = statusIcon(signing.Denied), r.Comment
	case "ApprovalsFell":
		h.what, h.icon, h.said = "Approvals counted no more", "arrow-repeat", r.Reason
	case "SigningStarted":
		h.icon = "pen"
		add(r.CertificateSHA256, "Attempt %d with %s", r.Attempt, orDash(r.CertificateSubject))
	case "Completed":
		h.icon = statusIcon(signing.Completed)
		add(r.SignedSHA256, "Signed artifact")
	case "Failed":
		h.icon = statusIcon(signing.Failed)
		if r.Failure != nil {
			h.said = r.Failure.Message
		}
	case "Canceled":
		h.icon, h.said = statusIcon(signing.Canceled), r.Reason
	case "ArtifactsDeleted":
		h.icon, h.said = "slash-circle", r.Reason
	}
	return h, nil
}

// client tells how somebody came in, in words.
func (h happening) client() string {
	switch {
	case h.via == "session":
		return "in a browser"
	case strings.HasPrefix(h.via, "token "):
		return "with " + strings.Replace(h.via, " with ", " and ", 1)
	}
	return h.via
}
