package httpapi

import (
	"fmt"
	"net/http"
	"testing"

	"github.com/countersign-dev/countersign/internal/signing"
)

// TestNoQueryPerRow: what a list costs the database does not depend on how long it is.
func TestNoQueryPerRow(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	original := w.submit(t, ciUser, submissionForm())
	w.advance(t, original)
	lists := []string{
		"/SigningRequests", "/SigningRequests?status=Completed&projectSlug=demo", "/SigningRequests?waitingForMyApproval=true",
		"/SigningRequests/" + original, "/SigningRequests/" + original + "/Deliveries",
		"/Projects", "/Projects/demo", "/Projects/demo/SigningPolicies", "/Projects/demo/ArtifactConfigurations",
		"/Projects/demo/ArtifactConfigurations/zip/Versions", "/Projects/demo/TrustedBuildSystemLinks",
		"/Certificates", "/InteractiveUsers", "/CIUsers", "/UserGroups", "/TrustedBuildSystems", "/Webhooks",
		"/AuditLog/Events?pageSize=1000", "/AuditLog/SigningRequestEvents?pageSize=1000", "/AuditLog/Events/Export?format=Csv",
	}
	measure := func(path, who string) int64 {
		before := w.db.Queries()
		resp := w.as(t, who, "GET", path, body{})
		if text := readBody(t, resp); resp.StatusCode != http.StatusOK {
			t.Fatalf("%s: %d %s", path, resp.StatusCode, text)
		}
		return w.db.Queries() - before
	}
	counts := func() map[string]int64 {
		found := map[string]int64{}
		for _, path := range lists {
			for _, who := range []string{globalAdmin, ciUser} {
				if who == ciUser && w.as(t, who, "GET", path, body{}).StatusCode == http.StatusForbidden {
					continue
				}
				n := measure(path, who)
				for range 3 { // the first fills caches, and what runs in the background asks now and then, too
					n = min(n, measure(path, who))
				}
				found[path+" as "+who] = n
			}
		}
		return found
	}
	for i := range 10 { // beyond what one query's text enumerates
		w.grow(t, original, i)
	}
	few := counts()
	for i := range 10 {
		w.grow(t, original, 10+i)
	}
	for list, many := range counts() {
		if many != few[list] || many == 0 {
			t.Errorf("GET %s: %d queries, and %d when there is more to list", list, few[list], many)
		}
	}
}

// grow adds one of everything.
func (w *world) grow(t *testing.T, original string, n int) {
	t.Helper()
	name := fmt.Sprintf("n%d", n)
	as := func(path, content string, status int) {
		t.Helper()
		if resp := w.as(t, globalAdmin, "POST", path, jsonBody(content)); resp.StatusCode != status {
			t.Fatalf("%s: %d %s", path, resp.StatusCode, readBody(t, resp))
		}
	}
	people := w.subjects(ciUser, approver)
	subjects := fmt.Sprintf(`[{"kind":"User","id":%q},{"kind":"User","id":%q},{"kind":"Group","id":%q}]`, people[0].ID, people[1].ID, w.group)
	as("/CIUsers", `{"name":"`+name+`"}`, 201)
	as("/InteractiveUsers", `{"name":"`+name+`","email":"`+name+`@acme.example"}`, 201)
	as("/UserGroups", `{"name":"`+name+`","members":`+subjects+`}`, 201)
	as("/Certificates/CreateCsrBasedX509", `{"slug":"`+name+`","subject":{"commonName":"Acme"},"keyAlgorithm":"ECDSA-P256"}`, 201)
	as("/TrustedBuildSystems/AddCustom", `{"slug":"`+name+`","name":"`+name+`"}`, 201)
	as("/Projects", `{"slug":"`+name+`","name":"`+name+`","readers":`+subjects+`}`, 201)
	as("/Webhooks", `{"name":"`+name+`","url":"https://hooks.example"}`, 201)
	for _, project := range []string{"demo", name} {
		as("/Projects/"+project+"/TrustedBuildSystemLinks", `{"trustedBuildSystemSlug":"`+name+`"}`, 200)
		as("/Projects/"+project+"/SigningPolicies", `{"slug":"`+name+`","name":"x","certificateSlug":"test","requiredApprovals":1,"approvers":`+subjects+`,"submitters":`+subjects+`}`, 201)
		as("/Projects/"+project+"/ArtifactConfigurations", `{"slug":"`+name+`","name":"x","artifactConfigurationXml":"<artifact-configuration xmlns='http://signpath.io/artifact-configuration/v1'><pe-file><authenticode-sign/></pe-file></artifact-configuration>"}`, 201)
	}
	as("/Projects/demo/ArtifactConfigurations/zip/EditXml", `{"artifactConfigurationXml":"<artifact-configuration xmlns='http://signpath.io/artifact-configuration/v1'><!-- `+name+` --><pe-file><authenticode-sign/></pe-file></artifact-configuration>"}`, 200)
	w.advance(t, w.submit(t, ciUser, submissionForm()))
	again, err := w.signing.Resubmit(t.Context(), w.people[ciUser].actor, signing.Resubmission{OriginalID: signing.ID(original), PolicySlug: "release-signing"})
	if err != nil {
		t.Fatal(err)
	}
	w.advance(t, string(again.ID))
}
