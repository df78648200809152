package httpapi

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/countersign-dev/countersign/api"
	"github.com/countersign-dev/countersign/internal/auth"
	"github.com/countersign-dev/countersign/internal/signing"
)

// TestBadInput sends what is wrong in each way to an installation as it is in service: each gets a clear 4xx that names
// the field.
func TestBadInput(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	done := string(w.advanced(t, "test-signing"))
	pending := string(w.advanced(t, "release-signing"))
	artifact := "@app.exe:" + string(examplePE)
	submit := "/SigningRequests/SubmitWithArtifact"
	resubmit := "/SigningRequests/Resubmit"
	selfSigned := "/Certificates/CreateSelfSignedX509"
	tests := []struct {
		name, who, method, path string
		body                    body
		status                  int
		field, message          string // field "-": no field is named
	}{
		{"no project", ciUser, "POST", submit, formBody("signingPolicySlug", "x", "artifact", artifact), 400, "ProjectSlug", "required"},
		{"empty project", ciUser, "POST", submit, formBody("projectSlug", "", "signingPolicySlug", "x", "artifact", artifact), 400, "ProjectSlug", "required"},
		{"unknown project", ciUser, "POST", submit, formBody("projectSlug", "nonsense", "signingPolicySlug", "x", "artifact", artifact), 400, "ProjectSlug", "no project with slug 'nonsense'"},
		{"unknown policy", ciUser, "POST", submit, formBody("projectSlug", "demo", "signingPolicySlug", "relase", "artifact", artifact), 400, "SigningPolicySlug", "no signing policy with slug 'relase'"},
		{"unknown policy id", ciUser, "POST", submit, formBody("signingPolicyId", string(signing.NewID()), "artifact", artifact), 400, "SigningPolicyId", "no signing policy"},
		{"policy id is no GUID", ciUser, "POST", submit, formBody("signingPolicyId", "7", "artifact", artifact), 400, "SigningPolicyId", "GUID"},
		{"ids and slugs", ciUser, "POST", submit, formBody("projectSlug", "demo", "signingPolicyId", string(signing.NewID()), "artifact", artifact), 400, "SigningPolicyId", "not both"},
		{"unknown configuration", ciUser, "POST", submit, submissionForm("artifactConfigurationSlug", "nonsense"), 400, "ArtifactConfigurationSlug", "no artifact configuration"},
		{"unknown configuration id", ciUser, "POST", submit, submissionForm("artifactConfigurationId", string(signing.NewID())), 400, "ArtifactConfigurationId", "no artifact configuration"},
		{"unknown parameter", ciUser, "POST", submit, submissionForm("parameters.nonsense", "1"), 400, "Parameters.nonsense", "declares no parameter"},
		{"bad parameter name", ciUser, "POST", submit, submissionForm("Parameters[a b]", "1"), 400, "Parameters", "not a parameter name"},
		{"no artifact", ciUser, "POST", submit, formBody("projectSlug", "demo", "signingPolicySlug", "test-signing"), 400, "Artifact", "required"},
		{"empty artifact", ciUser, "POST", submit, formBody("projectSlug", "demo", "signingPolicySlug", "test-signing", "artifact", "@a.exe:"), 400, "Artifact", "empty"},
		{"artifact is text", ciUser, "POST", submit, formBody("projectSlug", "demo", "signingPolicySlug", "test-signing", "artifact", "text"), 400, "Artifact", "must be a file"},
		{"artifact too large", ciUser, "POST", submit, formBody("projectSlug", "demo", "signingPolicySlug", "test-signing", "artifact", "@a.exe:"+strings.Repeat("x", 4<<20+1)), 413, "-", "limit of 4194304 bytes"},
		{"fast signing", ciUser, "POST", submit, submissionForm("IsFastSigningRequest", "True"), 400, "IsFastSigningRequest", "not available in this version"},
		{"fast signing, old spelling", ciUser, "POST", "/SigningRequests", submissionForm("isfastsigningrequest", "true"), 400, "IsFastSigningRequest", "not available in this version"},
		{"boolean", ciUser, "POST", submit, submissionForm("IsFastSigningRequest", "yes"), 400, "IsFastSigningRequest", "true or false"},
		{"timeout", ciUser, "POST", submit, submissionForm("CancellationTimeoutInSeconds", "-1"), 400, "CancellationTimeoutInSeconds", "whole number"},
		{"long description", ciUser, "POST", submit, submissionForm("description", strings.Repeat("x", 4001)), 400, "Description", "at most 4000"},
		{"build URL", ciUser, "POST", submit, submissionForm("origin.buildData.url", "javascript:alert(1)"), 400, "Origin.BuildData.Url", "http"},
		{"no submitter", approver, "POST", submit, submissionForm(), 403, "-", "submitter of signing policy"},
		{"policy of trusted build systems", ciUser, "POST", submit, formBody("projectSlug", "demo", "signingPolicySlug", "verified", "artifact", artifact), 403, "-", "trusted build system"},

		{"resubmit nothing", ciUser, "POST", resubmit, jsonBody("{}"), 400, "OriginalSigningRequestId", "required"},
		{"resubmit null", ciUser, "POST", resubmit, jsonBody("null"), 400, "OriginalSigningRequestId", "required"},
		{"resubmit a list", ciUser, "POST", resubmit, jsonBody("[]"), 400, "", "JSON array"},
		{"resubmit without a policy", ciUser, "POST", resubmit, formBody("originalSigningRequestId", done, "SigningPolicySlug", ""), 400, "SigningPolicySlug", "required"},
		{"resubmit unknown", ciUser, "POST", resubmit, formBody("originalSigningRequestId", string(signing.NewID()), "signingPolicySlug", "test-signing"), 400, "OriginalSigningRequestId", "no signing request"},
		{"resubmit no GUID", ciUser, "POST", resubmit, formBody("originalSigningRequestId", "x", "signingPolicySlug", "test-signing"), 400, "OriginalSigningRequestId", "GUID"},
		{"resubmit pending", ciUser, "POST", resubmit, formBody("originalSigningRequestId", pending, "signingPolicySlug", "test-signing"), 400, "OriginalSigningRequestId", "completed"},
		{"resubmit to nonsense", ciUser, "POST", resubmit, formBody("originalSigningRequestId", done, "signingPolicySlug", "nonsense"), 400, "SigningPolicySlug", "no signing policy"},
		{"resubmit to both", ciUser, "POST", resubmit, formBody("originalSigningRequestId", done, "signingPolicySlug", "test-signing", "signingPolicyId", string(signing.NewID())), 400, "SigningPolicyId", "not both"},
		{"resubmit by an approver", approver, "POST", resubmit, formBody("originalSigningRequestId", done, "signingPolicySlug", "release-signing"), 403, "-", "submitter"},
		{"resubmit timeout", ciUser, "POST", resubmit, jsonBody(`{"originalSigningRequestId":"` + done + `","signingPolicySlug":"test-signing","cancellationTimeoutInSeconds":-5}`), 400, "CancellationTimeoutInSeconds", "whole number"},
		{"NUL in JSON", ciUser, "POST", resubmit, jsonBody(`{"signingPolicySlug":"a\u0000b"}`), 400, "SigningPolicySlug", "NUL"},
		{"two JSON values", ciUser, "POST", resubmit, jsonBody(`{} {}`), 400, "", "after its JSON value"},
		{"JSON that is not UTF-8", ciUser, "POST", resubmit, jsonBody("{\"a\":\"\xff\"}"), 400, "", "UTF-8"},
		{"deep JSON", ciUser, "POST", resubmit, jsonBody(strings.Repeat("[", 100)), 400, "", "deeper"},

		{"approve as submitter", submitter, "POST", "/SigningRequests/" + pending + "/Approve", body{}, 403, "-", "approver of signing policy"},
		{"approve another's", regular, "POST", "/SigningRequests/" + pending + "/Approve", body{}, 404, "-", "no such signing request"},
		{"approve completed", approver, "POST", "/SigningRequests/" + done + "/Approve", body{}, 409, "-", "does not wait"},
		{"unknown request", ciUser, "GET", "/SigningRequests/" + string(signing.NewID()), body{}, 404, "-", "no such signing request"},
		{"request is no GUID", ciUser, "GET", "/SigningRequests/7/Status", body{}, 404, "-", "no such signing request"},
		{"signed too early", ciUser, "GET", "/SigningRequests/" + pending + "/SignedArtifact", body{}, 400, "-", "not available yet"},
		{"no settings file", ciUser, "GET", "/SigningRequests/" + done + "/BuildSettingsFile", body{}, 404, "-", "no build settings file"},
		{"page size", ciUser, "GET", "/SigningRequests?pageSize=201", body{}, 400, "PageSize", "between 1 and 200"},
		{"negative page size", ciUser, "GET", "/SigningRequests?pageSize=-1", body{}, 400, "PageSize", "between 1 and 200"},
		{"unknown status", ciUser, "GET", "/SigningRequests?status=Completed,Nonsense", body{}, 400, "Status", "'Nonsense'"},
		{"bad cursor", ciUser, "GET", "/SigningRequests?cursor=next", body{}, 400, "Cursor", "nextCursor"},
		{"policy without project", ciUser, "GET", "/SigningRequests?signingPolicySlug=x", body{}, 400, "ProjectSlug", "needs its project"},
		{"unknown project in the list", ciUser, "GET", "/SigningRequests?projectSlug=x", body{}, 400, "ProjectSlug", "no project"},

		{"version", configurator, "GET", "/Projects/demo/ArtifactConfigurations/exe/Xml?version=99", body{}, 404, "-", ""},
		{"negative version", configurator, "GET", "/Projects/demo/ArtifactConfigurations/exe/Xml?version=-1", body{}, 400, "Version", "counted from 1"},
		{"unknown configuration address", configurator, "GET", "/Projects/demo/ArtifactConfigurations/nonsense", body{}, 404, "-", "no artifact configuration"},
		{"unknown policy address", configurator, "GET", "/Projects/demo/SigningPolicies/nonsense", body{}, 404, "-", "no signing policy"},
		{"unknown certificate", globalAdmin, "GET", "/Certificates/nonsense", body{}, 404, "-", ""},
		{"no request to sign", globalAdmin, "GET", "/Certificates/test/CertificateSigningRequest", body{}, 404, "-", "SelfSigned"},
		{"certificate without a slug", globalAdmin, "POST", selfSigned, jsonBody(`{"subject":{"commonName":"x"}}`), 400, "Slug", "slug"},
		{"certificate without a subject", globalAdmin, "POST", selfSigned, jsonBody(`{"slug":"x"}`), 400, "Subject", ""},
		{"key algorithm", globalAdmin, "POST", selfSigned, jsonBody(`{"slug":"x","subject":{"commonName":"x"},"keyAlgorithm":"RSA-512"}`), 400, "KeyAlgorithm", ""},
		{"validity", globalAdmin, "POST", selfSigned, jsonBody(`{"slug":"x","subject":{"commonName":"x"},"validityInDays":100000}`), 400, "ValidityInDays", "whole number"},
		{"certificate slug taken", globalAdmin, "POST", selfSigned, jsonBody(`{"slug":"RELEASE","subject":{"commonName":"x"},"keyAlgorithm":"ECDSA-P256"}`), 400, "Slug", "already"},
		{"no PFX", globalAdmin, "POST", "/Certificates/ImportPfx", formBody("slug", "x"), 400, "CertificateFile", "required"},
		{"PFX is nonsense", globalAdmin, "POST", "/Certificates/ImportPfx", formBody("slug", "x", "certificateFile", "@x.pfx:nonsense"), 400, "CertificateFile", ""},
		{"PFX too large", globalAdmin, "POST", "/Certificates/ImportPfx", formBody("slug", "x", "certificateFile", "@x.pfx:"+strings.Repeat("x", maxCertificateFile+1)), 413, "-", "larger"},
		{"certificate is nonsense", globalAdmin, "POST", "/Certificates/test/UploadX509Certificate", formBody("certificateFile", "@x.cer:nonsense"), 400, "CertificateFile", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			p := wantProblem(t, w.as(t, tt.who, tt.method, tt.path, tt.body), tt.status)
			switch {
			case !strings.Contains(p.Detail, tt.message):
				t.Errorf("detail %q, want %q", p.Detail, tt.message)
			case tt.field != "-" && len(p.Errors[tt.field]) == 0:
				t.Errorf("no message under %q: %+v", tt.field, p)
			case tt.field == "-" && len(p.Errors) > 0:
				t.Errorf("fields are named: %+v", p)
			}
		})
	}
}

// TestBadArtifacts: what is no program fails its own request, with the file and the reason.
func TestBadArtifacts(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for name, content := range map[string]string{
		"no program": "nonsense", "truncated": string(examplePE[:len(examplePE)/2]), "lying header": "MZ" + strings.Repeat("\xff", 1000),
	} {
		id := w.submit(t, ciUser, formBody("projectSlug", "demo", "signingPolicySlug", "test-signing", "artifact", "@app.exe:"+content))
		for range 10 { // a worker may try again before it gives up
			w.advance(t, id)
		}
		d := w.details(t, ciUser, id)
		if d.Status != "Failed" || d.WorkflowStatus != "ProcessingFailed" || d.Failure.Message == "" || d.May.Resubmit {
			t.Errorf("%s: %s %+v", name, d.Status, d.Failure)
		}
		if p := wantProblem(t, w.as(t, ciUser, "GET", "/SigningRequests/"+id+"/SignedArtifact", body{}), http.StatusNotFound); !strings.Contains(p.Detail, "ProcessingFailed") {
			t.Errorf("%s: %+v", name, p)
		}
	}
}

func TestTokens(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	token := w.people[ciUser].token
	for authorization, message := range map[string]string{
		"":                                  "no Authorization header",
		"Basic eDp5":                        "not of the scheme Bearer",
		"Bearer ":                           "no token",
		"Bearer " + token + "x":             "",
		"Bearer " + token + ":" + token:     "not that of a trusted build system",
		"Bearer " + w.buildSystem:           "does not authenticate alone",
		"Bearer " + strings.Repeat("a", 44): "unknown",
	} {
		resp := w.send(t, authorization, "GET", "/Api/v1/"+w.org+"/SigningRequests", body{})
		if p := wantProblem(t, resp, http.StatusUnauthorized); !strings.Contains(p.Detail, message) || resp.Header.Get("WWW-Authenticate") == "" {
			t.Errorf("%q: %+v", authorization, p)
		}
	}
	// Who has no token learns nothing else, and nothing of the body is read.
	huge := body{contentType: "application/pdf", content: strings.Repeat("x", maxTextBody+1)}
	wantProblem(t, w.send(t, "", "POST", "/Api/v1/"+w.org+"/SigningRequests/Resubmit", huge), http.StatusUnauthorized)
	if logs := w.logs.String(); strings.Contains(logs, token) || strings.Contains(logs, w.buildSystem) {
		t.Error("a token is in the log")
	}
	if !strings.Contains(w.logs.String(), `"status":401`) {
		t.Error("refusals are not logged")
	}
}

func TestRateLimit(t *testing.T) {
	t.Parallel()
	err := signing.Errorf(signing.KindUnavailable, "Too many attempts: %w.", &auth.RateLimitError{RetryAfter: 17 * time.Second})
	if p := problemFor(errors.Join(err)); p.Status != http.StatusTooManyRequests || !strings.Contains(p.Detail, "Too many attempts") || p.Type == "" {
		t.Errorf("problem %+v", p)
	}
	h, _ := newTestHandler(t, &operations{list: failingList(err)}, Options{})
	if resp := call(t, h, "GET", "/v1/"+testOrg+"/SigningRequests", ""); resp.StatusCode != 429 || resp.Header.Get("Retry-After") != "17" {
		t.Errorf("%d, Retry-After %q", resp.StatusCode, resp.Header.Get("Retry-After"))
	}
}

func failingList(err error) func(context.Context, api.ListSigningRequestsRequestObject) (api.ListSigningRequestsResponseObject, error) {
	return func(context.Context, api.ListSigningRequestsRequestObject) (api.ListSigningRequestsResponseObject, error) {
		return nil, err
	}
}
