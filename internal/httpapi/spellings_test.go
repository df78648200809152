package httpapi

import (
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/countersign-dev/countersign/api"
)

// TestOldSpellings sends what clients of earlier versions send: other names of routes, and PATCH below v1-pre for edits.
func TestOldSpellings(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	made := post[api.Certificate](t, w, certificateAdmin, "/Certificates/CreateSelfSigned", `{"slug":"old","subject":{"commonName":"Acme"},"keyAlgorithm":"ECDSA-P256"}`, 201)
	if made.CreationMethod != "SelfSigned" || !strings.HasSuffix(made.Link, "/Certificates/old") {
		t.Errorf("%+v", made)
	}
	requested := post[api.Certificate](t, w, certificateAdmin, "/certificates/createcsrbased", `{"slug":"csr","subject":{"commonName":"Acme"},"keyAlgorithm":"ECDSA-P256"}`, 201)
	if requested.CreationMethod != "Csr" {
		t.Errorf("%+v", requested)
	}
	nonsense := formBody("certificateFile", "@a.cer:nonsense")
	if p := wantProblem(t, w.as(t, certificateAdmin, "POST", "/Certificates/csr/UploadCertificate", nonsense), 400); len(p.Errors["CertificateFile"]) == 0 {
		t.Errorf("%+v", p)
	}
	for _, path := range []string{"/Certificates/CreateSelfSigned", "/Certificates/CreateCsrBased"} {
		wantProblem(t, w.as(t, ciUser, "POST", path, jsonBody(`{"slug":"x","subject":{"commonName":"x"}}`)), 403)
	}

	for route, content := range map[string]string{
		"/Organization/Edit":                                                    `{"retentionDays":30}`,
		"/Projects/demo/Edit":                                                   `{"description":"x"}`,
		"/Projects/demo/SigningPolicies/verified/Edit":                          `{"retentionDays":9}`,
		"/Projects/demo/ArtifactConfigurations/zip/Edit":                        `{"name":"x"}`,
		"/Projects/demo/ArtifactConfigurations/zip/EditXml":                     `{"artifactConfigurationXml":"<artifact-configuration xmlns='http://signpath.io/artifact-configuration/v1'><pe-file><authenticode-sign/></pe-file></artifact-configuration>"}`,
		"/Certificates/test/Edit":                                               `{"name":"x"}`,
		"/TrustedBuildSystems/jenkins/Edit":                                     `{"description":"x"}`,
		"/UserGroups/" + string(w.group) + "/Edit":                              `{"description":"x"}`,
		"/CIUsers/" + string(w.people[ciUser].actor.UserID) + "/Edit":           `{"description":"x"}`,
		"/InteractiveUsers/" + string(w.people[regular].actor.UserID) + "/Edit": `{"description":"x"}`,
	} {
		for _, prefix := range []string{"/API/v1-pre/", "/v1-pre/"} {
			resp := w.send(t, "Bearer "+w.people[globalAdmin].token, http.MethodPatch, prefix+w.org+route, jsonBody(content))
			if text := readBody(t, resp); resp.StatusCode != http.StatusOK || strings.Contains(text, "v1-pre/") {
				t.Errorf("PATCH %s%s: %d %s", prefix, route, resp.StatusCode, text)
			}
		}
		if resp := w.send(t, "Bearer "+w.people[regular].token, http.MethodPatch, "/v1-pre/"+w.org+route, jsonBody(content)); resp.StatusCode != 403 && resp.StatusCode != 404 {
			t.Errorf("PATCH %s as a regular user: %d", route, resp.StatusCode)
		}
		wantProblem(t, w.as(t, globalAdmin, http.MethodPatch, route, jsonBody(content)), 405)
	}
	if links := get[[]api.TrustedBuildSystem](t, w, globalAdmin, "/Projects/demo/TrustedBuildSystemLink"); len(links) != 1 {
		t.Errorf("links %+v", links)
	}
	if p := post[api.SigningPolicy](t, w, projectAdmin, "/Projects/demo/SigningPolicies/verified", `{"retentionDays":8}`, 200); p.RetentionDays != 8 {
		t.Errorf("%+v", p)
	}
	old := 0
	for _, pattern := range generatedPatterns() {
		old += len(oldSpellings(pattern))
		if strings.HasSuffix(pattern, "/Edit") && len(oldSpellings(pattern)) == 0 {
			t.Errorf("%s has no twin below v1-pre", pattern)
		}
	}
	if old < len(renamed)+11 {
		t.Errorf("%d old spellings", old)
	}
}

// TestOriginSpellings: a rule that protects is not lost because requests and answers spell it in several ways.
func TestOriginSpellings(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	base := "/Projects/demo/SigningPolicies"
	// What an answer says may be sent back, and the older spelling works; of several the documented one prevails.
	for content, want := range map[string]bool{
		`{"verifyOriginPolicy":false,"verifiesOriginPolicy":true}`: false,
		`{"verifiesOriginPolicy":true,"verifyOrigin":false}`:       true,
		`{"verifiesOriginPolicy":false}`:                           false,
		`{"verifyOrigin":true}`:                                    true,
		`{"VerifyOriginPolicy":true}`:                              true,
	} {
		if got := post[api.SigningPolicy](t, w, projectAdmin, base+"/test-signing/Edit", content, 200); got.VerifiesOriginPolicy != want {
			t.Errorf("%s: %t", content, got.VerifiesOriginPolicy)
		}
		post[api.SigningPolicy](t, w, projectAdmin, base+"/test-signing/Edit", `{"verifyOriginPolicy":`+strconv.FormatBool(!want)+`}`, 200)
	}
	for i, spelling := range []string{"verifyOriginPolicy", "verifiesOriginPolicy", "verifyOrigin"} {
		slug := "spelling" + strconv.Itoa(i)
		if got := post[api.SigningPolicy](t, w, projectAdmin, base, `{"slug":"`+slug+`","name":"x","certificateSlug":"release","`+spelling+`":true}`, 201); !got.VerifiesOriginPolicy {
			t.Errorf("created with %s: %+v", spelling, got)
		}
	}
	for _, spelling := range []string{"verifiesOriginPolicy", "verifyOriginPolicy"} {
		c := post[api.Certificate](t, w, certificateAdmin, "/Certificates/CreateSelfSignedX509",
			`{"slug":"`+spelling+`","subject":{"commonName":"x"},"keyAlgorithm":"ECDSA-P256","restrictions":{"`+spelling+`":true,"requiresStrictConfiguration":true}}`, 201)
		if r := c.Restrictions; !r.VerifiesOriginPolicy || !r.RequiresStrictConfiguration || r.VerifyOriginPolicy {
			t.Errorf("%s: %+v", spelling, r)
		}
	}
}

// TestUnknownAddresses: whatever the API does not have is a problem that names it, not a page and not an empty answer.
func TestUnknownAddresses(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, path := range []string{"/Api/healthzd", "/Api/v1", "/api/v1/", "/Api/v2/" + w.org + "/Projects", "/v1/" + w.org + "/Nonsense", "/Api/v1/Meta/Nonsense", "/Api/healthz/more"} {
		for _, method := range []string{"GET", "POST"} {
			p := wantProblem(t, w.send(t, "Bearer "+w.people[globalAdmin].token, method, path, body{}), 404)
			if !strings.Contains(p.Detail, path) || p.Title != "Not Found" || p.TraceID == "" {
				t.Errorf("%s %s: %+v", method, path, p)
			}
		}
	}
	if p := wantProblem(t, w.send(t, "", "GET", "/Api/"+strings.Repeat("x", 5000), body{}), 404); len(p.Detail) > 400 {
		t.Errorf("the detail has %d bytes", len(p.Detail))
	}
}

// TestJenkinsDialect does what the Jenkins plugin does, in its spelling: the build system's token on submissions only, no /Api
// before the version, the artifact afterwards, the status until it is final.
func TestJenkinsDialect(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	plain := "Bearer " + w.people[ciUser].token
	sum := sha256.Sum256(examplePE)
	form := formBody("ProjectSlug", "demo", "SigningPolicySlug", "verified", "ArtifactConfigurationSlug", "exe", "Description", "",
		"unsignedArtifactMetadata.fileName", "app.exe", "unsignedArtifactMetadata.sha256Hash", hex.EncodeToString(sum[:]),
		"Parameters.version", "7", "Origin.RepositoryData.SourceControlManagementType", "git",
		"Origin.RepositoryData.Url", "https://github.com/acme/app", "Origin.RepositoryData.BranchName", "main",
		"Origin.RepositoryData.CommitId", "abc123", "Origin.BuildData.Url", "https://ci.example/1",
		"Origin.BuildData.BuildSettingsFile", "@Jenkinsfile:pipeline {}")
	root := "https://sign.example/v1/" + w.org + "/SigningRequests/"
	made := decodeBody[api.SubmittedForUpload](t, w.send(t, plain+":"+w.buildSystem, "POST", "/v1/"+w.org+"/SigningRequests/SubmitWithoutArtifact", form), http.StatusCreated)
	if made.UploadLink != root+made.SigningRequestID+"/UploadUnsignedArtifact" {
		t.Errorf("%+v", made)
	}
	at := func(link string) string { return strings.TrimPrefix(link, "https://sign.example") }
	if resp := w.send(t, plain, "POST", at(made.UploadLink), body{content: string(examplePE)}); resp.StatusCode != http.StatusAccepted || readBody(t, resp) != "" {
		t.Fatalf("upload: %s", resp.Status)
	}
	w.advance(t, made.SigningRequestID)
	request := at(root) + made.SigningRequestID
	want := api.SigningRequestState{SigningRequestID: made.SigningRequestID, Status: "Completed", WorkflowStatus: "Completed", IsFinalStatus: true}
	if diff := cmp.Diff(want, decodeBody[api.SigningRequestState](t, w.send(t, plain, "GET", request+"/Status", body{}), http.StatusOK)); diff != "" {
		t.Error(diff)
	}
	if signed := readBody(t, w.send(t, plain, "GET", request+"/SignedArtifact", body{})); !strings.HasPrefix(signed, "MZ") || len(signed) <= len(examplePE) {
		t.Errorf("a signed artifact of %d bytes", len(signed))
	}
	if settings := readBody(t, w.send(t, plain, "GET", request+"/BuildSettingsFile", body{})); settings != "pipeline {}" {
		t.Errorf("settings %q", settings)
	}
}

// TestOddSubmissions sends what single clients send beside the documented fields: none of it is refused.
func TestOddSubmissions(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	const xml = `<artifact-configuration xmlns='http://signpath.io/artifact-configuration/v1'><parameters>` +
		`<parameter name='config.File'/><parameter name='a-b_1' default-value=''/></parameters><pe-file><authenticode-sign/></pe-file></artifact-configuration>`
	post[api.ArtifactConfiguration](t, w, configurator, "/Projects/demo/ArtifactConfigurations", `{"slug":"files","name":"files","artifactConfigurationXml":"`+xml+`"}`, http.StatusCreated)
	combined := "Bearer " + w.people[ciUser].token + ":" + w.buildSystem
	for name, form := range map[string]body{
		"a parameter whose name ends like a file's": submissionForm("artifactConfigurationSlug", "files", "Parameters.config.File", "x.json"),
		"in brackets": submissionForm("artifactConfigurationSlug", "FILES", "PARAMETERS[config.File]", "x.json", "parameters.a-b_1", "2"),
		"an undocumented part of the origin": submissionForm("artifactConfigurationSlug", "files", "parameters.config.File", "x.json",
			"origin.repositoryData.url", "https://github.com/acme/app", "origin.repositoryData.isPublicRepository", "true"),
		"unknown fields and files, empty values": submissionForm("artifactConfigurationSlug", "files", "parameters.config.File", "x.json", "Description", "",
			"IsFastSigningRequest", "FALSE", "CancellationTimeoutInSeconds", "0", "signingPolicyId", "", "artifactConfigurationId", "", "unknown", "x", "logo", "@logo.png:x"),
	} {
		form.header = []string{"Accept", "image/png;;q=nonsense", "Accept-Encoding", "br;q=x", "Accept-Language", "\x01"}
		resp := w.send(t, combined, "POST", "/API/v1/"+w.org+"/SigningRequests/SubmitWithArtifact", form)
		made := decodeBody[api.SubmittedSigningRequest](t, resp, http.StatusCreated)
		if d := w.details(t, ciUser, made.SigningRequestID); d.Parameters["config.File"] != "x.json" || !d.CancelAt.IsZero() {
			t.Errorf("%s: %+v", name, d)
		}
	}
	list := "/SigningRequests?projectSlug=demo&signingPolicySlug=test-signing&pageSize=2&sortOrder=desc&page=1"
	if l := get[api.SigningRequestPage](t, w, ciUser, list); len(l.Items) != 2 || l.Items[0].SigningRequestID == "" {
		t.Errorf("%+v", l)
	}
}
