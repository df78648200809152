package web

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/countersign-dev/countersign/internal/signing"
)

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

// ago tells a time relative to now, for people. The script keeps it current in the same words.
func ago(t, now time.Time) string {
	d := now.Sub(t)
	future := d < 0
	if future {
		d = -d
	}
	var text string
	switch {
	case d < 45*time.Second:
		return "just now"
	case d < 90*time.Minute:
		text = count(int((d+30*time.Second)/time.Minute), "minute")
	case d < 36*time.Hour:
		text = count(int((d+30*time.Minute)/time.Hour), "hour")
	case d < 60*24*time.Hour:
		text = count(int((d+12*time.Hour)/(24*time.Hour)), "day")
	default:
		return t.UTC().Format("2 January 2006")
	}
	if future {
		return "in " + text
	}
	return text + " ago"
}

// count tells a number of things whose plural ends in s.
func count(n int, noun string) string { return countOf(n, noun, noun+"s") }

func countOf(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

// sentence begins a text, which is not empty, with a capital letter.
func sentence(text string) string {
	first, size := utf8.DecodeRuneInString(text)
	return string(unicode.ToUpper(first)) + text[size:]
}

// exact is the time for titles.
func exact(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 UTC") }

// bytesText tells a size in decimal units, as file managers do.
func bytesText(n int64) string {
	const units = "kMGTPE"
	if n < 1000 {
		return count(int(n), "byte")
	}
	v, i := float64(n)/1000, 0
	for v >= 999.95 && i < len(units)-1 {
		v /= 1000
		i++
	}
	return fmt.Sprintf("%.1f %cB", v, units[i])
}

// spaced turns a state's name into words: "QueuedForProcessing" becomes "Queued for processing".
func spaced(name string) string {
	var b strings.Builder
	for i, r := range name {
		if i > 0 && unicode.IsUpper(r) {
			b.WriteByte(' ')
			r = unicode.ToLower(r)
		}
		b.WriteRune(r)
	}
	return b.String()
}

func statusLabel(s signing.Status) string { return spaced(string(s)) }

// statusIcon and statusClass accompany the label; neither is the only sign of a state.
func statusIcon(s signing.Status) string {
	switch s {
	case signing.Completed:
		return "check-circle"
	case signing.WaitingForApproval:
		return "hourglass-split"
	case signing.Failed:
		return "x-circle"
	case signing.Denied:
		return "slash-circle"
	case signing.Canceled:
		return "dash-circle"
	case signing.InProgress:
	}
	return "arrow-repeat"
}

func statusClass(s signing.Status) string {
	switch s {
	case signing.Completed:
		return "is-good"
	case signing.WaitingForApproval:
		return "is-waiting"
	case signing.Failed, signing.Denied:
		return "is-bad"
	case signing.Canceled:
		return "is-neutral"
	case signing.InProgress:
	}
	return "is-busy"
}

func verificationClass(r signing.VerificationResult) string {
	switch r {
	case signing.Passed:
		return "is-good"
	case signing.NotPassed:
		return "is-bad"
	case signing.NotRequired:
	}
	return "is-neutral"
}

func verificationIcon(r signing.VerificationResult) string {
	switch r {
	case signing.Passed:
		return "check-circle"
	case signing.NotPassed:
		return "x-circle"
	case signing.NotRequired:
	}
	return "dash-circle"
}

// short cuts a digest or commit for display; the whole of it is in the title.
func short(s string) string {
	if len(s) <= 12 {
		return s
	}
	return s[:12]
}

// webAddress reports whether a link to it may be made of a text that others sent.
func webAddress(s string) bool {
	return strings.HasPrefix(s, "https://") || strings.HasPrefix(s, "http://")
}

// browserName tells a browser from its User-Agent header as far as a list of sessions needs.
func browserName(agent string) string {
	name := "Unknown browser"
	for _, b := range []struct{ mark, name string }{
		{"Edg/", "Edge"}, {"OPR/", "Opera"}, {"Firefox/", "Firefox"}, {"Chrome/", "Chrome"}, {"Safari/", "Safari"}, {"curl/", "curl"},
	} {
		if strings.Contains(agent, b.mark) {
			name = b.name
			break
		}
	}
	for _, s := range []struct{ mark, name string }{
		{"Windows", "Windows"}, {"Android", "Android"}, {"iPhone", "iOS"}, {"iPad", "iOS"}, {"Mac OS X", "macOS"}, {"Linux", "Linux"},
	} {
		if strings.Contains(agent, s.mark) {
			return name + " on " + s.name
		}
	}
	return name
}

// rules tells a policy's conditions in words, strictest first; never empty.
func rules(p *signing.Policy) []string {
	var list []string
	switch n := p.Rules.RequiredApprovals; {
	case n == 1:
		list = append(list, "1 approval")
	case n > 1:
		list = append(list, fmt.Sprintf("%d approvals", n))
	default:
		list = append(list, "No approval")
	}
	if p.Rules.SubmitterMayNotApprove {
		list = append(list, "Submitter may not approve")
	}
	if p.Rules.RequireTrustedBuildSystem {
		list = append(list, "Trusted build system only")
	}
	if p.Rules.VerifyOrigin {
		list = append(list, "Verified origin")
	}
	if p.Rules.StrictConfiguration {
		list = append(list, "Strict configuration")
	}
	if p.Rules.RequireTimestamp {
		list = append(list, "Timestamp required")
	}
	return list
}

func branches(p *signing.Policy) string {
	if !p.Rules.VerifyOrigin {
		return "Not checked"
	}
	if len(p.Rules.AllowedBranches) == 0 {
		return "Every branch of the project's repositories"
	}
	return strings.Join(p.Rules.AllowedBranches, ", ")
}
