package httpapi

import (
	"crypto/sha256"
	"encoding/csv"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/countersign-dev/countersign/api"
	"github.com/countersign-dev/countersign/internal/audit"
)

// post sends a JSON body and reads the answer.
func post[T any](t testing.TB, w *world, who, path, content string, status int) T {
	t.Helper()
	return decodeBody[T](t, w.as(t, who, "POST", path, jsonBody(content)), status)
}

func get[T any](t testing.TB, w *world, who, path string) T {
	t.Helper()
	return decodeBody[T](t, w.as(t, who, "GET", path, body{}), http.StatusOK)
}

// refuse sends a JSON body and checks that it is refused, under the field unless that is "-".
func (w *world) refuse(t testing.TB, who, path, content string, status int, field string) {
	t.Helper()
	p := wantProblem(t, w.as(t, who, "POST", path, jsonBody(content)), status)
	if field != "-" && len(p.Errors[field]) == 0 {
		t.Errorf("%s %s: no message under %q: %+v", path, content, field, p)
	}
}

func TestUploadAfterwards(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	sum := sha256.Sum256(examplePE)
	announced := formBody("ProjectSlug", "demo", "SigningPolicySlug", "test-signing", "unsignedArtifactMetadata.fileName", "app.exe",
		"UnsignedArtifactMetadata.Sha256Hash", strings.ToUpper(hex.EncodeToString(sum[:])), "Parameters.version", "7")
	resp := w.as(t, ciUser, "POST", "/SigningRequests/SubmitWithoutArtifact", announced)
	location := resp.Header.Get("Location")
	made := decodeBody[api.SubmittedForUpload](t, resp, http.StatusCreated)
	if made.UploadLink != location+"/UploadUnsignedArtifact" || !strings.HasSuffix(location, "/"+made.SigningRequestID) || made.IsFinalStatus {
		t.Errorf("%s: %+v", location, made)
	}
	d := w.details(t, ciUser, made.SigningRequestID)
	if d.UploadLink != made.UploadLink || d.UnsignedArtifactLink != "" || d.IsFinalStatus || d.UnsignedArtifact.FileName != "app.exe" {
		t.Errorf("before the upload: %+v", d)
	}
	path := "/SigningRequests/" + made.SigningRequestID + "/UploadUnsignedArtifact"
	wantProblem(t, w.as(t, ciUser, "POST", path, body{content: "something else"}), 400)
	wantProblem(t, w.as(t, ciUser, "POST", path, body{content: strings.Repeat("x", 4<<20+1)}), 413)
	wantProblem(t, w.as(t, submitter, "POST", path, body{content: string(examplePE)}), 403)
	for _, contentType := range []string{"", "nonsense", "application/json"} {
		if contentType != "" {
			made = decodeBody[api.SubmittedForUpload](t, w.as(t, ciUser, "POST", "/SigningRequests/SubmitWithoutArtifact", announced), http.StatusCreated)
			path = "/SigningRequests/" + made.SigningRequestID + "/UploadUnsignedArtifact"
		}
		if resp := w.as(t, ciUser, "POST", path, body{contentType: contentType, content: string(examplePE)}); resp.StatusCode != http.StatusAccepted || readBody(t, resp) != "" {
			t.Errorf("upload as %q: %d", contentType, resp.StatusCode)
		}
		wantProblem(t, w.as(t, ciUser, "POST", path, body{content: "something else"}), 409)
		w.advance(t, made.SigningRequestID)
		if resp := w.as(t, ciUser, "POST", path, body{content: string(examplePE)}); resp.StatusCode != http.StatusAccepted {
			t.Errorf("the same upload again: %d", resp.StatusCode)
		}
		if d := w.details(t, ciUser, made.SigningRequestID); d.Status != "Completed" || d.UploadLink != "" || d.Parameters["version"] != "7" {
			t.Errorf("after the upload: %+v", d)
		}
	}
	// A build that runs again finds its request, with where to upload, and may upload again.
	announced.header = []string{"Idempotency-Key", "job 17"}
	var found []string
	for range 2 {
		made = decodeBody[api.SubmittedForUpload](t, w.as(t, ciUser, "POST", "/SigningRequests/SubmitWithoutArtifact", announced), http.StatusCreated)
		found = append(found, made.SigningRequestID)
		path = "/SigningRequests/" + made.SigningRequestID + "/UploadUnsignedArtifact"
		if !strings.HasSuffix(made.UploadLink, path) {
			t.Errorf("upload to %q", made.UploadLink)
		}
		if resp := w.as(t, ciUser, "POST", path, body{content: string(examplePE)}); resp.StatusCode != http.StatusAccepted {
			t.Errorf("upload: %d", resp.StatusCode)
		}
	}
	if found[0] != found[1] {
		t.Errorf("two requests: %v", found)
	}
	for field, form := range map[string]body{
		"UnsignedArtifactMetadata.FileName":   formBody("projectSlug", "demo", "signingPolicySlug", "test-signing"),
		"UnsignedArtifactMetadata.Sha256Hash": formBody("projectSlug", "demo", "signingPolicySlug", "test-signing", "unsignedArtifactMetadata.fileName", "a", "unsignedArtifactMetadata.sha256Hash", "7"),
	} {
		if p := wantProblem(t, w.as(t, ciUser, "POST", "/SigningRequests/SubmitWithoutArtifact", form), 400); len(p.Errors[field]) == 0 {
			t.Errorf("%s: %+v", field, p)
		}
	}
}

func TestRetrievalLink(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.fetcher.header, w.fetcher.value = "X-Token", "secret"
	sum := sha256.Sum256(examplePE)
	submit := func(fields ...string) *http.Response {
		return w.as(t, ciUser, "POST", "/SigningRequests/SubmitWithArtifactRetrievalLink", formBody(append([]string{
			"ProjectSlug", "demo", "SigningPolicySlug", "test-signing", "ArtifactRetrievalLink.FileName", "app.exe"}, fields...)...))
	}
	link := []string{"ArtifactRetrievalLink.Url", "https://ci.example/app.exe"}
	header := []string{"ArtifactRetrievalLink.HttpHeaders[0].Key", "X-Other", "ArtifactRetrievalLink.HttpHeaders[0].Value", "1",
		"ArtifactRetrievalLink.HttpHeaders[1].Key", "X-Token", "ArtifactRetrievalLink.HttpHeaders[1].Value", "secret"}
	made := decodeBody[api.SubmittedSigningRequest](t, submit(slices.Concat(link, header, []string{"ArtifactRetrievalLink.Sha256Hash", strings.ToUpper(hex.EncodeToString(sum[:]))})...), http.StatusCreated)
	if made.WorkflowStatus != "RetrievingArtifact" {
		t.Errorf("submitted: %+v", made)
	}
	w.advance(t, made.SigningRequestID)
	if d := w.details(t, ciUser, made.SigningRequestID); d.Status != "Completed" || d.UnsignedArtifact.Sha256Hash != hex.EncodeToString(sum[:]) {
		t.Errorf("retrieved: %+v", d)
	}
	for name, header := range map[string][]string{
		"counted from 1": {"ArtifactRetrievalLink.HttpHeaders[1].Value", "secret", "ArtifactRetrievalLink.HttpHeaders[1].Key", "X-Token"},
		"by name":        {"artifactRetrievalLink.httpHeaders[X-Token]", "secret"},
	} {
		again := decodeBody[api.SubmittedSigningRequest](t, submit(slices.Concat(link, header)...), http.StatusCreated)
		w.advance(t, again.SigningRequestID)
		if d := w.details(t, ciUser, again.SigningRequestID); d.Status != "Completed" {
			t.Errorf("headers %s: %+v", name, d.Failure)
		}
	}
	for _, header := range [][]string{
		{"artifactRetrievalLink.httpHeaders[0].value", "secret"}, {"artifactRetrievalLink.httpHeaders.X-Token", "secret"},
		{"artifactRetrievalLink.httpHeaders[0].key", "X-Token", "artifactRetrievalLink.httpHeaders[1].key", "x-token"},
	} {
		if p := wantProblem(t, submit(slices.Concat(link, header)...), 400); len(p.Errors["ArtifactRetrievalLink.HttpHeaders"]) == 0 || strings.Contains(fmt.Sprint(p), "secret") {
			t.Errorf("%v: %+v", header, p)
		}
	}
	refused := decodeBody[api.SubmittedSigningRequest](t, submit(link...), http.StatusCreated)
	w.advance(t, refused.SigningRequestID)
	if d := w.details(t, ciUser, refused.SigningRequestID); d.WorkflowStatus != "ArtifactRetrievalFailed" || !strings.Contains(d.Failure.Message, "401") {
		t.Errorf("without the header: %+v", d)
	}
	for field, fields := range map[string][]string{
		"ArtifactRetrievalLink.Url":         {"artifactRetrievalLink.url", "http://ci.example"},
		"ArtifactRetrievalLink.Sha256Hash":  append(slices.Clone(link), "artifactRetrievalLink.sha256Hash", "x"),
		"ArtifactRetrievalLink.HttpHeaders": append(slices.Clone(link), "artifactRetrievalLink.httpHeaders[0].key", "a b", "artifactRetrievalLink.httpHeaders[0].value", "1"),
	} {
		if p := wantProblem(t, submit(fields...), 400); len(p.Errors[field]) == 0 {
			t.Errorf("%s: %+v", field, p)
		}
	}
	if strings.Contains(w.logs.String(), "secret") {
		t.Error("a header's value is in the log")
	}
}

func TestResubmitWithCurrentSettings(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id := w.submit(t, ciUser, submissionForm("artifactConfigurationSlug", "zip")) // which a program does not fit
	w.advance(t, id)
	w.refuse(t, ciUser, "/SigningRequests/Resubmit", `{"originalSigningRequestId":"`+id+`","signingPolicySlug":"test-signing"}`, 400, "OriginalSigningRequestId")
	post[api.ArtifactConfiguration](t, w, configurator, "/Projects/demo/ArtifactConfigurations/zip/EditXml", `{"artifactConfigurationXml":`+quote(exeConfiguration)+`}`, 200)
	again := post[api.SubmittedSigningRequest](t, w, ciUser, "/SigningRequests/Resubmit", `{"originalSigningRequestId":"`+id+`","currentSettings":true}`, 201)
	w.advance(t, again.SigningRequestID)
	if d := w.details(t, ciUser, again.SigningRequestID); d.Status != "Completed" || d.ArtifactConfigurationVersion != 2 || d.OriginalSigningRequestID != id {
		t.Errorf("%+v", d)
	}
}

func quote(s string) string {
	raw, _ := json.Marshal(s) // a string
	return string(raw)
}

func TestManageProject(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	resp := w.as(t, projectAdmin, "POST", "/Projects", jsonBody(`{"slug":"app","name":"App","description":"d","repositories":["https://github.com/acme/app"],
		"readers":[{"kind":"User","id":"`+string(w.people[regular].actor.UserID)+`"}]}`))
	location := resp.Header.Get("Location")
	p := decodeBody[api.Project](t, resp, http.StatusCreated)
	if !strings.HasSuffix(location, "/v1/"+w.org+"/Projects/app") || !p.IsActive || p.Version != 1 || len(p.Readers) != 1 || p.Description != "d" {
		t.Errorf("%s: %+v", location, p)
	}
	w.refuse(t, projectAdmin, "/Projects", `{"slug":"APP","name":"x"}`, 400, "Slug")
	w.refuse(t, projectAdmin, "/Projects", `{"slug":"a b","name":""}`, 400, "Name")
	w.refuse(t, projectAdmin, "/Projects", `{"slug":"x","name":"x","readers":[{"kind":"User","id":"7"}]}`, 400, "Readers")
	w.refuse(t, projectAdmin, "/Projects", `{"slug":"x","name":"x","repositories":["nonsense"]}`, 400, "Repositories")
	if p := wantProblem(t, w.as(t, projectAdmin, "POST", "/Projects", jsonBody(`{"slug":"x","name":"x","repositories":["https://ada:geheim@github.com/acme/app"]}`)), 400); strings.Contains(p.Detail, "geheim") {
		t.Errorf("the refusal repeats a password: %+v", p)
	}
	if p := post[api.Project](t, w, projectAdmin, "/Projects/app/Edit", `{"repositories":["https://ghp_token@github.com/acme/app","git@github.com:acme/app.git"],"version":1}`, 200); !slices.Equal(p.Repositories, []string{"https://github.com/acme/app", "git@github.com:acme/app.git"}) {
		t.Errorf("%q", p.Repositories)
	}

	edited := post[api.Project](t, w, projectAdmin, "/Projects/App/Edit", `{"name":"Application","slug":"application","version":2}`, 200)
	if edited.Name != "Application" || edited.Slug != "application" || edited.Description != "d" || edited.Version != 3 || len(edited.Readers) != 1 {
		t.Errorf("%+v", edited)
	}
	w.refuse(t, projectAdmin, "/Projects/application/Edit", `{"name":"x","version":1}`, 409, "-")
	w.refuse(t, projectAdmin, "/Projects/app/Edit", `{}`, 404, "-")
	// A configurator may describe the project, and no more.
	post[api.Project](t, w, configurator, "/Projects/demo/Edit", `{"description":"x","repositories":[]}`, 200)
	for _, edit := range []string{`{"slug":"x"}`, `{"readers":[]}`, `{"configurators":[]}`} {
		w.refuse(t, configurator, "/Projects/demo/Edit", edit, 403, "-")
	}
	off := post[api.Project](t, w, projectAdmin, "/Projects/application/Deactivate", `{"version":3}`, 200)
	if off.IsActive {
		t.Errorf("%+v", off)
	}
	w.refuse(t, projectAdmin, "/Projects/application/Activate", `{"version":3}`, 409, "-")
	if on := decodeBody[api.Project](t, w.as(t, projectAdmin, "POST", "/Projects/application/Activate", body{}), 200); !on.IsActive {
		t.Errorf("%+v", on)
	}

	systems := post[[]api.TrustedBuildSystem](t, w, projectAdmin, "/Projects/application/TrustedBuildSystemLinks", `{"trustedBuildSystemSlug":"Jenkins"}`, 200)
	if len(systems) != 1 || systems[0].Slug != "jenkins" {
		t.Errorf("%+v", systems)
	}
	w.refuse(t, projectAdmin, "/Projects/application/TrustedBuildSystemLinks", `{"trustedBuildSystemSlug":"x"}`, 400, "TrustedBuildSystemSlug")
	if left := decodeBody[[]api.TrustedBuildSystem](t, w.as(t, projectAdmin, "DELETE", "/Projects/application/TrustedBuildSystemLinks/jenkins", body{}), 200); len(left) != 0 {
		t.Errorf("%+v", left)
	}
	wantProblem(t, w.as(t, projectAdmin, "DELETE", "/Projects/application/TrustedBuildSystemLinks/jenkins", body{}), 404)
}

func TestManageConfiguration(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	base := "/Projects/demo/ArtifactConfigurations"
	resp := w.as(t, configurator, "POST", base, jsonBody(`{"slug":"new","name":"New","artifactConfigurationXml":`+quote(exeConfiguration)+`}`))
	location := resp.Header.Get("Location")
	c := decodeBody[api.ArtifactConfiguration](t, resp, 201)
	if !strings.HasSuffix(location, base+"/new") || c.LatestVersion != 1 || c.IsDefault || !c.IsActive {
		t.Errorf("%s: %+v", location, c)
	}
	w.refuse(t, configurator, base, `{"slug":"x","name":"x"}`, 400, "ArtifactConfigurationXml")
	w.refuse(t, configurator, base, `{"slug":"x","name":"x","artifactConfigurationXml":"<nonsense/>"}`, 400, "ArtifactConfigurationXml")
	w.refuse(t, configurator, base, `{"slug":"NEW","name":"x","artifactConfigurationXml":`+quote(exeConfiguration)+`}`, 400, "Slug")
	w.refuse(t, configurator, base+"/new/EditXml", `{}`, 400, "ArtifactConfigurationXml")
	c = post[api.ArtifactConfiguration](t, w, configurator, base+"/new/EditXml", `{"version":1,"artifactConfigurationXml":`+quote(zipConfiguration)+`}`, 200)
	if c.LatestVersion != 2 || c.Version != 2 {
		t.Errorf("%+v", c)
	}
	w.refuse(t, configurator, base+"/new/EditXml", `{"version":1,"artifactConfigurationXml":`+quote(exeConfiguration)+`}`, 409, "-")
	versions := get[[]api.ArtifactConfigurationVersion](t, w, projectReader, base+"/new/Versions")
	if len(versions) != 2 || versions[0].Number != 2 || versions[1].CreatedByID != string(w.people[configurator].actor.UserID) {
		t.Fatalf("%+v", versions)
	}
	_, path, _ := strings.Cut(versions[1].ArtifactConfigurationXMLLink, w.org)
	if text := readBody(t, w.as(t, projectReader, "GET", path, body{})); text != exeConfiguration {
		t.Errorf("version 1 is %s", text)
	}
	if text := readBody(t, w.as(t, projectReader, "GET", base+"/new/Xml", body{})); text != zipConfiguration {
		t.Errorf("the latest version is %s", text)
	}
	c = post[api.ArtifactConfiguration](t, w, configurator, base+"/new/Edit", `{"slug":"renamed","name":"Renamed","version":2}`, 200)
	if c.Slug != "renamed" || c.LatestVersion != 2 {
		t.Errorf("%+v", c)
	}
	if p := post[api.Project](t, w, configurator, "/Projects/demo/SetDefaultArtifactConfiguration", `{"artifactConfigurationSlug":"Renamed"}`, 200); p.DefaultArtifactConfigurationSlug != "renamed" {
		t.Errorf("%+v", p)
	}
	w.refuse(t, configurator, "/Projects/demo/SetDefaultArtifactConfiguration", `{"artifactConfigurationSlug":"x"}`, 400, "ArtifactConfigurationSlug")
	w.refuse(t, configurator, base+"/renamed/Deactivate", `{}`, 409, "-") // the default
	if c := post[api.ArtifactConfiguration](t, w, configurator, base+"/exe/Deactivate", `{}`, 200); c.IsActive {
		t.Errorf("%+v", c)
	}
	p := wantProblem(t, w.as(t, ciUser, "POST", "/SigningRequests", submissionForm("artifactConfigurationSlug", "exe")), 400)
	if !strings.Contains(p.Detail, "deactivated") {
		t.Errorf("%+v", p)
	}
	post[api.ArtifactConfiguration](t, w, configurator, base+"/exe/Activate", `{}`, 200)
}

func TestManagePolicy(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	base := "/Projects/demo/SigningPolicies"
	user := func(who string) string { return `[{"kind":"User","id":"` + string(w.people[who].actor.UserID) + `"}]` }
	resp := w.as(t, projectAdmin, "POST", base, jsonBody(`{"slug":"new","name":"New","certificateSlug":"release","submitters":`+user(ciUser)+`,"approvers":`+user(approver)+`,
		"requiredApprovals":1,"submitterMayNotApprove":true,"requiresTrustedBuildSystem":true,"verifyOriginPolicy":true,"allowedBranches":["main","release/*"],
		"requiresStrictConfiguration":true,"requiresTimestamp":true,"retentionDays":90}`))
	location := resp.Header.Get("Location")
	p := decodeBody[api.SigningPolicy](t, resp, 201)
	if !strings.HasSuffix(location, base+"/new") || p.RequiredApprovals != 1 || !p.SubmitterMayNotApprove || !p.RequiresTrustedBuildSystem || !p.VerifiesOriginPolicy ||
		!slices.Equal(p.AllowedBranches, []string{"main", "release/*"}) || !p.RequiresStrictConfiguration || !p.RequiresTimestamp || p.RetentionDays != 90 ||
		p.CertificateSlug != "release" || len(p.Submitters) != 1 || len(p.Approvers) != 1 {
		t.Errorf("%s: %+v", location, p)
	}
	w.refuse(t, projectAdmin, base, `{"slug":"x","name":"x","certificateSlug":"test","verifyOriginPolicy":true,"allowedBranches":["a\nb"]}`, 400, "AllowedBranches")
	w.refuse(t, projectAdmin, base, `{"slug":"new","name":"x","certificateSlug":"release"}`, 400, "Slug")
	w.refuse(t, projectAdmin, base, `{"slug":"x","name":"x"}`, 400, "CertificateSlug")
	w.refuse(t, projectAdmin, base, `{"slug":"x","name":"x","certificateSlug":"nonsense"}`, 400, "CertificateSlug")
	w.refuse(t, projectAdmin, base, `{"slug":"x","name":"x","certificateSlug":"test","requiredApprovals":1000}`, 400, "RequiredApprovals")
	w.refuse(t, projectAdmin, base, `{"slug":"x","name":"x","certificateSlug":"test","allowedBranches":["main"]}`, 400, "AllowedBranches")
	w.refuse(t, projectAdmin, base, `{"slug":"x","name":"x","certificateSlug":"test","submitters":[{"kind":"Robot","id":"x"}]}`, 400, "Submitters")

	w.refuse(t, projectAdmin, base+"/new/Edit", `{"requiredApprovals":2}`, 400, "RequiredApprovals") // there is one approver
	edited := post[api.SigningPolicy](t, w, projectAdmin, base+"/NEW/Edit", `{"retentionDays":91,"version":1}`, 200)
	want := p
	want.RetentionDays, want.Version = 91, 2
	if a, b := mustJSON(t, edited), mustJSON(t, want); a != b {
		t.Errorf("an edit of one rule changed more:\n%s\n%s", a, b)
	}
	w.refuse(t, projectAdmin, base+"/new/Edit", `{"requiredApprovals":3,"version":1}`, 409, "-")
	post[api.SigningPolicy](t, w, projectAdmin, base+"/new/Deactivate", `{}`, 200)
	if p := wantProblem(t, w.as(t, ciUser, "POST", "/SigningRequests", formBody("projectSlug", "demo", "signingPolicySlug", "new", "artifact", "@a:x")), 400); len(p.Errors["SigningPolicySlug"]) == 0 {
		t.Errorf("%+v", p)
	}
	post[api.SigningPolicy](t, w, projectAdmin, base+"/new/Activate", `{"version":3}`, 200)

	// A certificate's restrictions bind its policies, from both sides.
	w.refuse(t, certificateAdmin, "/Certificates/release/Edit", `{"restrictions":{"minimumApprovals":2}}`, 400, "Restrictions")
	c := post[api.Certificate](t, w, certificateAdmin, "/Certificates/test/Edit", `{"name":"Test","restrictions":{"minimumApprovals":0,"requiresTimestamp":false},"version":1}`, 200)
	if c.Name != "Test" || c.Version != 2 {
		t.Errorf("%+v", c)
	}
	w.refuse(t, certificateAdmin, "/Certificates/test/Edit", `{"name":"x","version":1}`, 409, "-")
	w.refuse(t, certificateAdmin, "/Certificates/test/Edit", `{"slug":"RELEASE"}`, 400, "Slug")
	w.refuse(t, certificateAdmin, "/Certificates/test/Edit", `{"slug":"a b"}`, 400, "Slug")
	if c := post[api.Certificate](t, w, certificateAdmin, "/Certificates/test/Edit", `{"slug":"renamed"}`, 200); c.Slug != "renamed" || !strings.HasSuffix(c.Link, "/renamed") {
		t.Errorf("%+v", c)
	}
	if p := get[api.SigningPolicy](t, w, projectAdmin, base+"/test-signing"); p.CertificateSlug != "renamed" {
		t.Errorf("the policy of a certificate with another slug: %+v", p)
	}
	post[api.Certificate](t, w, certificateAdmin, "/Certificates/renamed/Edit", `{"slug":"test"}`, 200)
	w.refuse(t, certificateAdmin, "/Certificates/test/Deactivate", `{}`, 409, "-") // its policy is active
	if c := post[api.Certificate](t, w, certificateAdmin, "/Certificates/test/Deactivate", `{"evenIfInUse":true}`, 200); c.IsActive {
		t.Errorf("%+v", c)
	}
	if p := get[api.SigningPolicy](t, w, projectAdmin, base+"/test-signing"); len(p.Problems) != 1 || !strings.Contains(p.Problems[0], "deactivated") {
		t.Errorf("the policy does not say what is wrong: %+v", p)
	}
	w.refuse(t, projectAdmin, base, `{"slug":"x","name":"x","certificateSlug":"test"}`, 400, "CertificateSlug")
	post[api.Certificate](t, w, certificateAdmin, "/Certificates/test/Activate", `{}`, 200)
}

func mustJSON(t testing.TB, v any) string {
	t.Helper()
	raw, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

func TestManageOrganization(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	o := post[api.Organization](t, w, globalAdmin, "/Organization/Edit", `{"retentionDays":30,"version":1}`, 200)
	if o.RetentionDays != 30 || o.Name != "Acme" || o.Version != 2 {
		t.Errorf("%+v", o)
	}
	if o := post[api.Organization](t, w, globalAdmin, "/Organization/Edit", `{"name":"Acme Inc."}`, 200); o.RetentionDays != 30 || o.Name != "Acme Inc." {
		t.Errorf("%+v", o)
	}
	w.refuse(t, globalAdmin, "/Organization/Edit", `{"name":"x","version":1}`, 409, "-")
	w.refuse(t, globalAdmin, "/Organization/Edit", `{"retentionDays":-1}`, 400, "RetentionDays")
	w.refuse(t, globalAdmin, "/Organization/Edit", `{"authenticodeRootsPem":"x"}`, 400, "AuthenticodeRootsPem")
	if o := get[api.Organization](t, w, regular, "/Organization"); o.OrganizationID != w.org || o.Name != "Acme Inc." {
		t.Errorf("%+v", o)
	}
}

func TestManageUsers(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ci := post[api.CreatedCIUser](t, w, userAdmin, "/CIUsers", `{"name":"builder","description":"d"}`, 201)
	me := decodeBody[api.CIUser](t, w.send(t, "Bearer "+ci.APIToken, "GET", "/Api/v1/"+w.org+"/CIUsers/Me", body{}), 200)
	if me.UserID != ci.UserID || me.Name != "builder" || me.Description != "d" || !me.IsActive || !slices.Equal(me.Roles, []api.Role{"RegularUser"}) || me.Link != ci.Link {
		t.Errorf("%+v", me)
	}
	w.refuse(t, userAdmin, "/CIUsers", `{"name":"Builder"}`, 400, "Name")
	w.refuse(t, userAdmin, "/CIUsers", `{"name":"x","roles":["Emperor"]}`, 400, "Roles")
	w.refuse(t, userAdmin, "/CIUsers", `{"name":"x","roles":["globaladministrator"]}`, 403, "-")
	// Who may not issue the credentials makes no user either.
	w.refuse(t, userAdmin, "/CIUsers", `{"name":"halfway","roles":["CertificateAdministrator"]}`, 403, "-")
	w.refuse(t, userAdmin, "/InteractiveUsers", `{"name":"halfway","email":"halfway@acme.example","roles":["CertificateAdministrator"]}`, 403, "-")
	for _, path := range []string{"/CIUsers", "/InteractiveUsers"} {
		if list := readBody(t, w.as(t, userAdmin, "GET", path, body{})); strings.Contains(list, "halfway") {
			t.Errorf("%s: a user without credentials was left behind: %s", path, list)
		}
	}
	path := "/CIUsers/" + ci.UserID
	w.refuse(t, userAdmin, path+"/Edit", `{"roles":["globalreader"]}`, 403, "-") // which she lacks
	if u := post[api.CIUser](t, w, globalAdmin, path+"/Edit", `{"roles":["globalreader"],"version":1}`, 200); !slices.Equal(u.Roles, []api.Role{"GlobalReader"}) || u.Description != "d" {
		t.Errorf("%+v", u)
	}
	w.refuse(t, userAdmin, path+"/Edit", `{"name":"x","version":1}`, 409, "-")
	if resp := w.send(t, "Bearer "+ci.APIToken, "GET", "/Api/v1/"+w.org+"/Certificates", body{}); resp.StatusCode != 200 {
		t.Errorf("the new role does not hold at once: %d", resp.StatusCode)
	}
	w.refuse(t, userAdmin, path+"/RegenerateApiToken", `{}`, 403, "-") // GlobalReader: who manages users only lacks that role
	token := post[api.IssuedToken](t, w, globalAdmin, path+"/RegenerateApiToken", `{"name":"second"}`, 200)
	if resp := w.send(t, "Bearer "+ci.APIToken, "GET", "/Api/v1/"+w.org+"/CIUsers/Me", body{}); resp.StatusCode != 401 {
		t.Errorf("the old token still works: %d", resp.StatusCode)
	}
	if resp := w.send(t, "Bearer "+token.APIToken, "GET", "/Api/v1/"+w.org+"/CIUsers/Me", body{}); resp.StatusCode != 200 {
		t.Errorf("the new token does not work: %d", resp.StatusCode)
	}
	w.refuse(t, globalAdmin, path+"/RegenerateApiToken", `{"expiresAt":"2001-01-01T00:00:00Z"}`, 400, "ExpiresAt")
	post[api.CIUser](t, w, userAdmin, path+"/Deactivate", `{}`, 200)
	if p := wantProblem(t, w.send(t, "Bearer "+token.APIToken, "GET", "/Api/v1/"+w.org+"/CIUsers/Me", body{}), 401); !strings.Contains(p.Detail, "deactivated") {
		t.Errorf("%+v", p)
	}
	post[api.CIUser](t, w, userAdmin, path+"/Activate", `{}`, 200)
	wantProblem(t, w.as(t, userAdmin, "GET", "/InteractiveUsers/"+ci.UserID, body{}), 404) // of the other kind
	wantProblem(t, w.as(t, userAdmin, "GET", "/CIUsers/7", body{}), 404)

	invited := post[api.InvitedUser](t, w, userAdmin, "/InteractiveUsers", `{"name":"Eve","email":"eve@acme.example","roles":["RegularUser"]}`, 201)
	_, code, ok := strings.Cut(invited.InvitationLink, "https://sign.example/Web/Invitation/")
	if in, err := w.auth.Invitation(t.Context(), code); !ok || err != nil || string(in.User.ID) != invited.UserID || invited.InvitationExpiresAt.IsZero() {
		t.Errorf("%+v: %+v, %v", invited, in, err)
	}
	again := decodeBody[api.InvitedUser](t, w.as(t, userAdmin, "POST", "/InteractiveUsers/"+invited.UserID+"/Reinvite", body{}), 200)
	if _, err := w.auth.Invitation(t.Context(), code); err == nil || again.InvitationLink == invited.InvitationLink {
		t.Error("the old invitation is still open")
	}
	w.refuse(t, userAdmin, "/InteractiveUsers", `{"name":"x","email":"EVE@acme.example"}`, 400, "Email")
	w.refuse(t, userAdmin, "/InteractiveUsers", `{"name":"x","email":"x"}`, 400, "Email")
	admin := string(w.people[globalAdmin].actor.UserID)
	w.refuse(t, globalAdmin, "/InteractiveUsers/"+admin+"/Deactivate", `{}`, 409, "-") // the last one
	w.refuse(t, userAdmin, "/InteractiveUsers/"+admin+"/Edit", `{"name":"x"}`, 403, "-")
	if u := post[api.InteractiveUser](t, w, userAdmin, "/InteractiveUsers/"+invited.UserID+"/Edit", `{"email":"eva@acme.example"}`, 200); u.Email != "eva@acme.example" || u.Name != "Eve" {
		t.Errorf("%+v", u)
	}
	own := post[api.IssuedToken](t, w, regular, "/InteractiveUsers/"+string(w.people[regular].actor.UserID)+"/RegenerateApiToken", `{}`, 200)
	if me := decodeBody[api.InteractiveUser](t, w.send(t, "Bearer "+own.APIToken, "GET", "/Api/v1/"+w.org+"/InteractiveUsers/Me", body{}), 200); me.Name != regular {
		t.Errorf("%+v", me)
	}
	if list := get[[]api.InteractiveUser](t, w, globalReader, "/InteractiveUsers"); len(list) != len(members)+len(standIns)+1 || !slices.IsSortedFunc(list, func(a, b api.InteractiveUser) int {
		return strings.Compare(strings.ToLower(a.Name), strings.ToLower(b.Name))
	}) {
		t.Errorf("%d people", len(list))
	}
	for _, secret := range []string{ci.APIToken, token.APIToken, own.APIToken, code} {
		if strings.Contains(w.logs.String(), secret) {
			t.Error("a secret is in the log")
		}
	}
}

func TestManageGroups(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	member := `{"kind":"User","id":"` + strings.ToUpper(string(w.people[regular].actor.UserID)) + `"}`
	nested := post[api.UserGroup](t, w, userAdmin, "/UserGroups", `{"name":"nested"}`, 201)
	path := "/UserGroups/" + string(w.group)
	if resp := w.as(t, regular, "POST", "/SigningRequests", submissionForm()); resp.StatusCode != 403 {
		t.Errorf("before: %d", resp.StatusCode)
	}
	g := post[api.UserGroup](t, w, userAdmin, path+"/ModifyMembers", `{"add":[{"kind":"Group","id":"`+nested.UserGroupID+`"}]}`, 200)
	if len(g.Members) != 1 || g.Members[0].Kind != "Group" {
		t.Errorf("%+v", g)
	}
	post[api.UserGroup](t, w, userAdmin, "/UserGroups/"+nested.UserGroupID+"/ChangeMembers", `{"members":[`+member+`],"version":1}`, 200)
	w.submit(t, regular, submissionForm()) // at once, through a nested group
	w.refuse(t, userAdmin, "/UserGroups/"+nested.UserGroupID+"/ChangeMembers", `{"members":[],"version":1}`, 409, "-")
	w.refuse(t, userAdmin, "/UserGroups/"+nested.UserGroupID+"/ChangeMembers", `{}`, 400, "Members")
	w.refuse(t, userAdmin, "/UserGroups/"+nested.UserGroupID+"/ModifyMembers", `{"add":[{"kind":"Group","id":"`+nested.UserGroupID+`"}]}`, 400, "Members")
	w.refuse(t, userAdmin, "/UserGroups", `{"name":"Nested"}`, 400, "Name")
	post[api.UserGroup](t, w, userAdmin, "/UserGroups/"+nested.UserGroupID+"/ModifyMembers", `{"remove":[`+member+`]}`, 200)
	if resp := w.as(t, regular, "POST", "/SigningRequests", submissionForm()); resp.StatusCode != 403 {
		t.Errorf("after: %d", resp.StatusCode)
	}
	if g := post[api.UserGroup](t, w, userAdmin, path+"/Edit", `{"description":"x"}`, 200); g.Description != "x" || len(g.Members) != 1 {
		t.Errorf("%+v", g)
	}
}

func TestManageBuildSystems(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	added := post[api.AddedTrustedBuildSystem](t, w, globalAdmin, "/TrustedBuildSystems/AddCustom", `{"slug":"gitlab","name":"GitLab"}`, 201)
	if added.TrustedBuildSystem.Type != "Custom" || !strings.HasSuffix(added.TrustedBuildSystem.Link, "/TrustedBuildSystems/gitlab") {
		t.Errorf("%+v", added)
	}
	works := func(token string) int {
		return w.send(t, "Bearer "+w.people[ciUser].token+":"+token, "GET", "/Api/v1/"+w.org+"/CIUsers/Me", body{}).StatusCode
	}
	fresh := decodeBody[api.IssuedBuildSystemToken](t, w.as(t, globalAdmin, "POST", "/TrustedBuildSystems/GitLab/RegenerateTrustedBuildSystemToken", body{}), 200)
	if works(added.TrustedBuildSystemToken) != 401 || works(fresh.TrustedBuildSystemToken) != 200 {
		t.Error("the new token does not replace the old one")
	}
	w.refuse(t, globalAdmin, "/TrustedBuildSystems/AddCustom", `{"slug":"GITLAB","name":"x"}`, 400, "Slug")
	w.refuse(t, globalAdmin, "/TrustedBuildSystems/AddCustom", `{}`, 400, "Name")
	if s := post[api.TrustedBuildSystem](t, w, globalAdmin, "/TrustedBuildSystems/gitlab/Edit", `{"name":"G","version":1}`, 200); s.Name != "G" || s.Slug != "gitlab" {
		t.Errorf("%+v", s)
	}
	w.refuse(t, globalAdmin, "/TrustedBuildSystems/gitlab/Edit", `{"name":"G","version":1}`, 409, "-")
	if resp := w.as(t, globalAdmin, "POST", "/TrustedBuildSystems/gitlab/Edit", jsonBody(`{"slug":"jenkins"}`)); resp.StatusCode != 400 && resp.StatusCode != 409 {
		t.Errorf("a slug that is taken: %d", resp.StatusCode)
	}
	known := post[api.AddedTrustedBuildSystem](t, w, globalAdmin, "/TrustedBuildSystems/addpredefined", `{"type":"github.com"}`, 201)
	if s := known.TrustedBuildSystem; s.Type != "GitHub.com" || s.Slug != "github.com" || !slices.Equal(s.BuildHosts, []string{"github.com"}) || !strings.HasPrefix(known.TrustedBuildSystemToken, "cst_") {
		t.Errorf("predefined: %+v", known)
	}
	w.refuse(t, globalAdmin, "/TrustedBuildSystems/AddPredefined", `{"type":"Jenkins"}`, 400, "BuildHost")
	w.refuse(t, globalAdmin, "/TrustedBuildSystems/AddPredefined", `{}`, 400, "Type")
	w.refuse(t, globalAdmin, "/TrustedBuildSystems/github.com/Edit", `{"name":"G"}`, 400, "Name")
	decodeBody[api.IssuedBuildSystemToken](t, w.as(t, globalAdmin, "POST", "/TrustedBuildSystems/github.com/RegenerateTrustedBuildSystemToken", body{}), 200)
	if list := get[[]api.TrustedBuildSystem](t, w, globalAdmin, "/TrustedBuildSystems"); len(list) != 3 {
		t.Errorf("list: %+v", list)
	}
	if links := post[[]api.TrustedBuildSystem](t, w, globalAdmin, "/Projects/demo/TrustedBuildSystemLinks", `{"trustedBuildSystemSlug":"GitHub.com"}`, 200); len(links) != 2 {
		t.Errorf("links: %+v", links)
	}
	wantProblem(t, w.as(t, globalAdmin, "GET", "/TrustedBuildSystems/nonsense", body{}), 404)
}

func TestAuditLog(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	post[api.Project](t, w, projectAdmin, "/Projects/demo/Edit", `{"description":"=HYPERLINK(\"x\")"}`, 200)
	post[api.CreatedCIUser](t, w, userAdmin, "/CIUsers", `{"name":"=cmd"}`, 201)
	actor := string(w.people[projectAdmin].actor.UserID)
	page := get[api.AuditEventPage](t, w, globalReader, "/AuditLog/Events?actorId="+actor+"&event=Project.Edited,X")
	if len(page.Items) != 1 || page.Items[0].Event != "Project.Edited" || page.Items[0].Metadata.Actor.Name != projectAdmin || page.Items[0].Object.Name != "demo" ||
		!strings.Contains(string(page.Items[0].Data), `"before"`) || len(page.Items[0].Chain) != 64 || page.NextCursor != "" {
		t.Errorf("%+v", page)
	}
	// By type, tokens and edits of a user among them, and by type and id; the export takes the same filters.
	ci := string(w.people[ciUser].actor.UserID)
	for query, want := range map[string]int{"objectType=SigningPolicy": 3, "objecttype=CIUser": 4, "objectType=CIUser&objectId=" + ci: 2, "objectType=Project&objectId=" + ci: 0, "objectType=Nonsense": 0} {
		page := get[api.AuditEventPage](t, w, globalReader, "/AuditLog/Events?"+query)
		lines := strings.Count(readBody(t, w.as(t, globalReader, "GET", "/AuditLog/Events/Export?"+query, body{})), "\n")
		if len(page.Items) != want || lines != want {
			t.Errorf("%s: %d entries, %d exported, want %d", query, len(page.Items), lines, want)
		}
	}
	var all []int64
	for _, tt := range []struct{ prefix, query string }{{"v1", "order=Ascending&"}, {"v1-pre", ""}} {
		var got []int64
		for cursor := ""; ; {
			page := decodeBody[api.AuditEventPage](t, w.send(t, "Bearer "+w.people[globalAdmin].token, "GET", "/API/"+tt.prefix+"/"+w.org+"/AuditLog/Events?pageSize=7&"+tt.query+cursor, body{}), 200)
			for _, e := range page.Items {
				got = append(got, e.Sequence)
			}
			if page.NextCursor == "" {
				break
			}
			cursor = "cursor=" + page.NextCursor
		}
		if tt.query == "" {
			slices.Reverse(got)
		}
		if all == nil {
			all = got
		}
		if len(got) < 20 || got[0] != 1 || !slices.Equal(got, all) || got[len(got)-1] != int64(len(got)) {
			t.Errorf("%s: %v", tt.prefix, got)
		}
	}
	resp := w.as(t, globalReader, "GET", "/AuditLog/Events/Export", body{})
	lines := strings.Split(strings.TrimSuffix(readBody(t, resp), "\n"), "\n")
	head := audit.Start(w.org)
	for _, line := range lines {
		head = head.Next([]byte(line))
	}
	last := get[api.AuditEventPage](t, w, globalReader, "/AuditLog/Events?pageSize=1").Items[0]
	if resp.Header.Get("Content-Type") != "application/x-ndjson" || len(lines) != len(all) || head.Sequence != last.Sequence || head.Chain.String() != last.Chain {
		t.Errorf("%d lines give chain %s, the log says %s at %d", len(lines), head.Chain, last.Chain, last.Sequence)
	}
	rows, err := csv.NewReader(w.as(t, globalReader, "GET", "/AuditLog/Events/Export?format=csv&event=CIUser.Created", body{}).Body).ReadAll()
	if err != nil || len(rows) != 3 || rows[0][0] != "sequence" || rows[2][2] != "CIUser.Created" || rows[2][8] != "'=cmd" {
		t.Errorf("CSV %q, %v", rows, err)
	}
	if n, err := strconv.Atoi(rows[2][0]); err != nil || n < 1 {
		t.Errorf("sequence %q", rows[2][0])
	}
	for query, field := range map[string]string{"pageSize=1001": "PageSize", "cursor=x": "Cursor", "order=Random": "Order", "actorId=x": "ActorId", "from=yesterday": "From"} {
		if p := wantProblem(t, w.as(t, globalAdmin, "GET", "/AuditLog/Events?"+query, body{}), 400); len(p.Errors[field]) == 0 {
			t.Errorf("%s: %+v", query, p)
		}
	}
	wantProblem(t, w.as(t, globalAdmin, "GET", "/AuditLog/Events/Export?format=xml", body{}), 400)
}

func TestSigningRequestEvents(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	first, second := string(w.advanced(t, "test-signing")), string(w.advanced(t, "release-signing"))
	post[api.UserGroup](t, w, globalAdmin, "/UserGroups", `{"name":"Group"}`, 201)
	events := func(prefix, query string) (names []string) {
		t.Helper()
		page := decodeBody[api.AuditEventPage](t, w.send(t, "Bearer "+w.people[globalReader].token, "GET", "/Api/"+prefix+"/"+w.org+"/AuditLog/SigningRequestEvents"+query, body{}), 200)
		for _, e := range page.Items {
			if e.Object.Type != "SigningRequest" {
				t.Errorf("%s is about a %s", e.Event, e.Object.Type)
			}
			names = append(names, e.Event)
		}
		return names
	}
	for query, want := range map[string][]string{
		"?objectId=" + first:                                        {"SigningRequest.Completed", "SigningRequest.SigningStarted", "SigningRequest.Submitted"},
		"?order=Ascending&pageSize=1&objectId=" + second:            {"SigningRequest.Submitted"},
		"?event=SigningRequest.ApprovalRequested,UserGroup.Created": {"SigningRequest.ApprovalRequested"},
		"?event=UserGroup.Created":                                  nil,
		"?pageSize=2":                                               {"SigningRequest.ApprovalRequested", "SigningRequest.Submitted"},
	} {
		for _, prefix := range []string{"v1", "v1-pre"} {
			if got := events(prefix, query); !slices.Equal(got, want) {
				t.Errorf("%s %s: %v, want %v", prefix, query, got, want)
			}
		}
	}
	if all := get[api.AuditEventPage](t, w, globalReader, "/AuditLog/Events?pageSize=1").Items; all[0].Object.Type != "UserGroup" {
		t.Errorf("%+v", all)
	}
}

func TestConfigurationTemplates(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	names := map[string]bool{}
	for _, c := range get[[]api.ArtifactConfigurationTemplate](t, w, regular, "/ArtifactConfigurations/Templates") {
		if names[c.Name] || c.Title == "" || c.Description == "" {
			t.Errorf("%+v", c)
		}
		names[c.Name] = true
		content := `{"slug":` + quote(c.Name) + `,"name":` + quote(c.Title) + `,"artifactConfigurationXml":` + quote(c.ArtifactConfigurationXML) + `}`
		if resp := w.as(t, configurator, "POST", "/Projects/demo/ArtifactConfigurations", jsonBody(content)); c.IsAvailable && resp.StatusCode != 201 {
			t.Errorf("%s: %d %s", c.Name, resp.StatusCode, readBody(t, resp))
		}
	}
	if !names["pe-file"] || !names["pe-file-in-zip"] || !names["pe-file-set-in-zip"] {
		t.Errorf("%v", names)
	}
}
