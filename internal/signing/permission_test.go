package signing

import (
	"os"
	"strings"
	"testing"
)

// TestPermissionsAreDocumented keeps docs/people.md in step with the permission table.
func TestPermissionsAreDocumented(t *testing.T) {
	t.Parallel()
	raw, err := os.ReadFile("../../docs/people.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(raw), "\n## Who may do what\n")
	section, _, _ = strings.Cut(section, "\n## ")
	for op, rule := range permissions {
		if row := "| " + string(op) + " | " + rule.who() + " |\n"; !strings.Contains(section, row) {
			t.Errorf("docs/people.md has no row\n%s", row)
		}
	}
	if n := strings.Count(section, "\n| ") - 1; n != len(permissions) { // less the heading
		t.Errorf("docs/people.md has %d rows for %d operations", n, len(permissions))
	}
}

// who says in the document's words whom a rule admits.
func (r rule) who() string {
	if r.relation&anyMember != 0 {
		return "everybody in the organization"
	}
	var who []string
	for _, role := range r.roles {
		who = append(who, string(role))
	}
	for _, relation := range []struct {
		bit  relation
		text string
	}{
		{projectReader, "the project's readers"}, {projectConfig, "the project's configurators"}, {policySubmitter, "the policy's submitters"},
		{policyApprover, "the policy's approvers"}, {requestSubmitter, "who submitted the request"},
	} {
		if r.relation&relation.bit != 0 {
			who = append(who, relation.text)
		}
	}
	return strings.Join(who, ", ")
}
