package httpapi

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"encoding/xml"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/countersign-dev/countersign/api"
	"github.com/countersign-dev/countersign/artifact/authenticode"
	"github.com/countersign-dev/countersign/internal/signing"
)

// verifiedForm is a submission with an origin, as a trusted build system sends it.
func verifiedForm(more ...string) body {
	return formBody(append([]string{"ProjectSlug", "demo", "SigningPolicySlug", "verified", "Artifact", "@app.exe:" + string(examplePE),
		"Origin.RepositoryData.Url", "https://github.com/acme/app", "Origin.RepositoryData.BranchName", "main",
		"Origin.RepositoryData.CommitId", "abc123", "Origin.RepositoryData.SourceControlManagementType", "git",
		"Origin.BuildData.Url", "https://ci.example/1", "Origin.BuildData.BuildSettingsFile", "@Jenkinsfile:pipeline {}"}, more...)...)
}

// submitVerified submits as the CI user with the trusted build system's token.
func (w *world) submitVerified(t testing.TB) string {
	t.Helper()
	resp := w.send(t, "Bearer "+w.people[ciUser].token+":"+w.buildSystem, "POST", "/Api/v1/"+w.org+"/SigningRequests/SubmitWithArtifact", verifiedForm())
	return decodeBody[api.SubmittedSigningRequest](t, resp, http.StatusCreated).SigningRequestID
}

func (w *world) details(t testing.TB, who, id string) api.SigningRequest {
	t.Helper()
	return decodeBody[api.SigningRequest](t, w.as(t, who, "GET", "/SigningRequests/"+id, body{}), http.StatusOK)
}

// TestReleaseScenario goes the whole way over REST: test-sign, download, resubmit for release, approve, download.
func TestReleaseScenario(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	sum := sha256.Sum256(examplePE)
	digest := hex.EncodeToString(sum[:])

	resp := w.as(t, ciUser, "POST", "/SigningRequests/SubmitWithArtifact", submissionForm("description", "candidate",
		"parameters.App.Version", "2.1", "cancellationTimeoutInSeconds", "3600", "artifactConfigurationSlug", ""))
	location := resp.Header.Get("Location")
	made := decodeBody[api.SubmittedSigningRequest](t, resp, http.StatusCreated)
	root := "https://sign.example/Api/v1/" + w.org + "/SigningRequests/"
	if location != root+made.SigningRequestID || made.WebLink != "https://sign.example/Web/"+w.org+"/SigningRequests/"+made.SigningRequestID ||
		made.Status != "InProgress" || made.WorkflowStatus != "Submitted" || made.IsFinalStatus {
		t.Errorf("Location %s, body %+v", location, made)
	}
	before := w.details(t, ciUser, made.SigningRequestID)
	if before.CancelAt.IsZero() || before.Parameters["app.version"] != "2.1" || before.Parameters["build.number"] != "1" || before.Description != "candidate" ||
		before.SignedArtifactLink != location+"/SignedArtifact" || before.UnsignedArtifactLink != location+"/UnsignedArtifact" ||
		before.UnsignedArtifact != (api.ArtifactData{FileName: "app.exe", SizeInBytes: int64(len(examplePE)), Sha256Hash: digest}) ||
		before.SignedArtifact != (api.ArtifactData{}) || !before.May.Cancel || before.May.Resubmit || before.ArtifactConfigurationSlug != "exe" {
		t.Errorf("details after submission: %+v", before)
	}
	p := wantProblem(t, w.as(t, ciUser, "GET", "/SigningRequests/"+made.SigningRequestID+"/SignedArtifact", body{}), http.StatusBadRequest)
	if !strings.Contains(p.Detail, "not available yet") {
		t.Errorf("signed artifact too early: %+v", p)
	}
	w.advance(t, made.SigningRequestID)
	state := decodeBody[api.SigningRequestState](t, w.as(t, ciUser, "GET", "/SigningRequests/"+made.SigningRequestID+"/Status", body{}), http.StatusOK)
	if state != (api.SigningRequestState{SigningRequestID: made.SigningRequestID, Status: "Completed", WorkflowStatus: "Completed", IsFinalStatus: true}) {
		t.Fatalf("status %+v", state)
	}
	w.checkSigned(t, made.SigningRequestID, "CN=test")

	for i, again := range []body{
		jsonBody(`{"OriginalSigningRequestId":"` + strings.ToUpper(made.SigningRequestID) + `","SIGNINGPOLICYSLUG":"Release-Signing","description":null}`),
		formBody("OriginalSigningRequestId", made.SigningRequestID, "SigningPolicySlug", "release-signing", "Description", ""),
		{contentType: mediaURLEncoded, content: "ORIGINALSIGNINGREQUESTID=" + made.SigningRequestID + "&signingPolicyId=" + w.policyID(t, "release-signing") + "&signingPolicySlug="},
	} {
		resp := w.as(t, ciUser, "POST", "/SigningRequests/Resubmit", again)
		location := resp.Header.Get("Location")
		release := decodeBody[api.SubmittedSigningRequest](t, resp, http.StatusCreated)
		if location != root+release.SigningRequestID {
			t.Errorf("Location of resubmit %s", location)
		}
		w.advance(t, release.SigningRequestID)
		waiting := w.details(t, approver, release.SigningRequestID)
		if waiting.Status != "WaitingForApproval" || waiting.OriginalSigningRequestID != made.SigningRequestID || waiting.UnsignedArtifact.Sha256Hash != digest ||
			waiting.Description != "candidate" || waiting.Parameters["app.version"] != "2.1" || waiting.RequiredApprovals != 1 || !waiting.May.Approve {
			t.Fatalf("resubmit %d: %+v", i, waiting)
		}
		decision := []body{{}, jsonBody("{}"), jsonBody(`{"comment":"tested"}`)}[i]
		approved := decodeBody[api.SigningRequestState](t, w.as(t, approver, "POST", "/SigningRequests/"+release.SigningRequestID+"/Approve", decision), http.StatusOK)
		if approved.WorkflowStatus != "QueuedForProcessing" {
			t.Errorf("approved: %+v", approved)
		}
		wantProblem(t, w.as(t, approver, "POST", "/SigningRequests/"+release.SigningRequestID+"/Approve", body{}), http.StatusConflict)
		w.advance(t, release.SigningRequestID)
		w.checkSigned(t, release.SigningRequestID, "CN=release")
		done := w.details(t, approver, release.SigningRequestID)
		if len(done.Approvals) != 1 || done.Approvals[0].UserName != approver || done.Approvals[0].Decision != "Approved" || !done.Approvals[0].IsCurrent ||
			(done.Approvals[0].Comment == "tested") != (i == 2) || done.FinalAt.IsZero() {
			t.Errorf("approvals: %+v", done)
		}
	}
	if original := w.details(t, ciUser, made.SigningRequestID); len(original.Resubmits) != 3 || !original.May.Resubmit {
		t.Errorf("original: %+v", original)
	}
}

func (w *world) policyID(t testing.TB, slug string) string {
	t.Helper()
	return decodeBody[api.SigningPolicy](t, w.as(t, globalAdmin, "GET", "/Projects/demo/SigningPolicies/"+slug, body{}), http.StatusOK).SigningPolicyID
}

// checkSigned downloads a signed artifact, whole and in two ranges, and verifies its signature, its certificate and its
// description.
func (w *world) checkSigned(t *testing.T, id, subject string) {
	t.Helper()
	address := "/SigningRequests/" + id
	resp := w.as(t, ciUser, "GET", address+"/SignedArtifact", body{})
	signed := readBody(t, resp)
	if resp.StatusCode != http.StatusOK || resp.Header.Get("Content-Disposition") != `attachment; filename="app.exe"; filename*=UTF-8''app.exe` {
		t.Fatalf("download: %d %v", resp.StatusCode, resp.Header)
	}
	first := readBody(t, w.as(t, ciUser, "GET", address+"/SignedArtifact", body{header: []string{"Range", "bytes=0-99"}}))
	rest := w.as(t, ciUser, "GET", address+"/SignedArtifact", body{header: []string{"Range", "bytes=100-", "If-Range", resp.Header.Get("Etag")}})
	if rest.StatusCode != http.StatusPartialContent || first+readBody(t, rest) != signed {
		t.Error("the ranges do not give the file")
	}
	wantProblem(t, w.as(t, ciUser, "GET", address+"/SignedArtifact", body{header: []string{"Range", "bytes=99999999-"}}), http.StatusRequestedRangeNotSatisfiable)
	if unsigned := readBody(t, w.as(t, ciUser, "GET", address+"/UnsignedArtifact", body{})); unsigned != string(examplePE) {
		t.Error("the unsigned artifact is not what was submitted")
	}
	report, err := authenticode.VerifyPE(t.Context(), strings.NewReader(signed), int64(len(signed)), authenticode.VerifyOptions{})
	if err != nil || len(report.Signatures) != 1 || report.Signatures[0].Signer.Subject != subject {
		t.Fatalf("signature %+v, %v", report, err)
	}
	certificate, err := x509.ParseCertificate([]byte(readBody(t, w.as(t, ciUser, "GET", address+"/X509Certificate", body{}))))
	if err != nil || certificate.Subject.String() != subject {
		t.Fatalf("certificate %v, %v", certificate, err)
	}
	sum, leaf := sha256.Sum256([]byte(signed)), sha256.Sum256(certificate.Raw)
	d := decodeBody[api.ArtifactDescription](t, w.as(t, ciUser, "GET", address+"/ArtifactDescription", body{}), http.StatusOK)
	if d.SigningRequestID != id || d.Root.Path != "app.exe" || d.Root.Action != "sign" || d.Root.Sha256HashAfter != hex.EncodeToString(sum[:]) ||
		len(d.Root.Signatures) != 1 || d.Root.Signatures[0].CertificateSha256Thumbprint != hex.EncodeToString(leaf[:]) || d.Root.Signatures[0].Method != "authenticode-sign" {
		t.Errorf("description %+v", d)
	}
	var x struct {
		XMLName xml.Name `xml:"urn:countersign:artifact-description:v1 artifact-description"`
		ID      string   `xml:"signing-request-id,attr"`
		File    struct {
			After     string `xml:"sha256-after,attr"`
			Before    string `xml:"sha256-before,attr"`
			Signature struct {
				Certificate string `xml:"certificate-sha256,attr"`
			} `xml:"signature"`
		} `xml:"file"`
	}
	text := readBody(t, w.as(t, ciUser, "GET", address+"/ArtifactDescriptionXml", body{}))
	if err := xml.Unmarshal([]byte(text), &x); err != nil || x.ID != id || x.File.After != d.Root.Sha256HashAfter || x.File.Before != d.Root.Sha256HashBefore ||
		x.File.Signature.Certificate != hex.EncodeToString(leaf[:]) {
		t.Errorf("XML description %+v, %v: %s", x, err, text)
	}
}

// TestDialects submits the recorded bodies of the public clients at each spelling of the address.
func TestDialects(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	addresses := []string{
		"/API/v1/%s/SigningRequests", "/api/v1/%s/signingrequests/submitwithartifact", "/Api/v1/%s/SigningRequests//SubmitWithArtifact/", "/v1/%s/SigningRequests",
	}
	content := sha256.Sum256([]byte(dialectArtifact))
	for _, name := range []string{"okhttp", "jsign", "dotnet", "curl", "node"} {
		contentType, recorded := readRecorded(t, name)
		for _, address := range addresses {
			// What jsign sends asks for fast signing.
			raw := bytes.ReplaceAll(recorded, []byte("\r\ntrue\r\n"), []byte("\r\nfalse\r\n"))
			for _, authorization := range []string{"Bearer " + w.people[ciUser].token, "bearer  " + w.people[ciUser].token + ":" + w.buildSystem} {
				resp := w.send(t, authorization, "POST", fmt.Sprintf(address, strings.ToUpper(w.org)), body{contentType: contentType, content: string(raw)})
				made := decodeBody[api.SubmittedSigningRequest](t, resp, http.StatusCreated)
				if l := resp.Header.Get("Location"); !strings.HasSuffix(l, w.org+"/SigningRequests/"+made.SigningRequestID) || !strings.HasPrefix(l, "https://sign.example/") {
					t.Errorf("%s to %s: Location %s", name, address, l)
				}
				d := w.details(t, ciUser, made.SigningRequestID)
				if d.UnsignedArtifact.Sha256Hash != hex.EncodeToString(content[:]) || d.ProjectSlug != "demo" || d.SigningPolicySlug != "test-signing" {
					t.Errorf("%s to %s: %+v", name, address, d)
				}
				if name == "okhttp" && d.Parameters["app.version"] != "1.4.0" {
					t.Errorf("%s: parameters %v", name, d.Parameters)
				}
				withSystem := strings.Contains(authorization, ":")
				if got := d.Origin.BuildData.BuildSettingsFile.DownloadLink != ""; got != (withSystem && name == "dotnet") {
					t.Errorf("%s with %q: settings file %v", name, authorization, got)
				}
			}
		}
	}
}

// TestOrigin: only the word of a trusted build system counts, with its settings file.
func TestOrigin(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id := w.submitVerified(t)
	w.advance(t, id)
	d := w.details(t, ciUser, id)
	link := "https://sign.example/Api/v1/" + w.org + "/SigningRequests/" + id + "/BuildSettingsFile"
	if d.Status != "Completed" || d.Origin.RepositoryData.URL != "https://github.com/acme/app" || d.Origin.RepositoryData.BranchName != "main" ||
		d.Origin.RepositoryData.CommitID != "abc123" || d.Origin.RepositoryData.SourceControlManagementType != "git" ||
		d.Origin.BuildData.URL != "https://ci.example/1" || d.Origin.BuildData.BuildSettingsFile.FileName != "Jenkinsfile" ||
		d.Origin.BuildData.BuildSettingsFile.DownloadLink != link {
		t.Errorf("details %+v", d)
	}
	if !slices.ContainsFunc(d.Verifications, func(v api.Verification) bool {
		return v.Name == "Branch" && v.Result == "Passed" && len(v.Inputs) == 2 && v.Inputs[0] == api.VerificationInput{Name: "branch", Value: "main"}
	}) {
		t.Errorf("verifications %+v", d.Verifications)
	}
	resp := w.as(t, ciUser, "GET", "/SigningRequests/"+id+"/BuildSettingsFile", body{})
	if text := readBody(t, resp); text != "pipeline {}" || !strings.Contains(resp.Header.Get("Content-Disposition"), `"Jenkinsfile"`) {
		t.Errorf("settings file %q, %v", text, resp.Header)
	}

	if p := wantProblem(t, w.as(t, ciUser, "POST", "/SigningRequests/SubmitWithArtifact", verifiedForm()), http.StatusForbidden); !strings.Contains(p.Detail, "trusted build system") {
		t.Errorf("without the build system's token: %+v", p)
	}
	for _, fields := range [][]string{
		{"origin.repositoryData.url", "https://github.com/acme/app", "origin.buildData.buildSettingsFile", "@x:y"}, {"origin.buildData.buildSettingsFile", "@x:y"},
	} {
		plain := w.submit(t, ciUser, submissionForm(fields...))
		d := w.details(t, ciUser, plain)
		if !isZero(d.Origin) || !slices.ContainsFunc(d.Verifications, func(v api.Verification) bool { return v.Name == "Origin" && v.Result == "NotRequired" }) {
			t.Errorf("an origin that nobody vouched for: %+v, %+v", d.Origin, d.Verifications)
		}
		wantProblem(t, w.as(t, ciUser, "GET", "/SigningRequests/"+plain+"/BuildSettingsFile", body{}), http.StatusNotFound)
	}

	combined := "Bearer " + w.people[ciUser].token + ":" + w.buildSystem
	submit := "/Api/v1/" + w.org + "/SigningRequests/SubmitWithArtifact"
	huge := formBody("projectSlug", "demo", "signingPolicySlug", "verified", "origin.buildData.buildSettingsFile", "@x:"+strings.Repeat("y", maxSettingsBytes+1))
	wantProblem(t, w.send(t, combined, "POST", submit, huge), http.StatusRequestEntityTooLarge)
	refused := formBody("projectSlug", "demo", "signingPolicySlug", "verified", "artifact", "@a.exe:"+string(examplePE), "origin.repositoryData.url", "https://github.com/evil/app")
	failed := decodeBody[api.SubmittedSigningRequest](t, w.send(t, combined, "POST", submit, refused), http.StatusCreated)
	if d := w.details(t, ciUser, failed.SigningRequestID); failed.Status != "Failed" || !failed.IsFinalStatus || d.Failure.Code != "Policy" || len(d.Failure.Details) < 3 {
		t.Errorf("a foreign repository: %+v, %+v", failed, d.Failure)
	}
}

func isZero(v any) bool {
	raw, err := json.Marshal(v)
	return err == nil && string(raw) == "{}"
}

func TestIdempotencyKey(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	form := submissionForm()
	form.header = []string{"Idempotency-Key", "job 17"}
	first := w.submit(t, ciUser, form)
	if again := w.submit(t, ciUser, form); again != first {
		t.Errorf("the same submission again is %s, not %s", again, first)
	}
	if other := w.submit(t, ciUser, submissionForm()); other == first {
		t.Error("without the key it is the same request")
	}
	other := submissionForm("description", "x")
	other.content = strings.Replace(other.content, "MZ", "MX", 1)
	other.header = form.header
	if made := w.submit(t, ciUser, other); made == first {
		t.Error("another artifact with the same key is the same request")
	}
	form.header = []string{"Idempotency-Key", strings.Repeat("k", 300)}
	if p := wantProblem(t, w.as(t, ciUser, "POST", "/SigningRequests", form), http.StatusBadRequest); len(p.Errors["IdempotencyKey"]) == 0 {
		t.Errorf("%+v", p)
	}
}

func TestDecisions(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	act := func(who, id, action string, b body, status int) {
		t.Helper()
		if resp := w.as(t, who, "POST", "/SigningRequests/"+id+"/"+action, b); resp.StatusCode != status {
			t.Errorf("%s by %s: %d, want %d: %s", action, who, resp.StatusCode, status, readBody(t, resp))
		}
	}
	denied := string(w.advanced(t, "release-signing"))
	act(approver, denied, "Deny", jsonBody(`{"comment":"broken"}`), 200)
	act(approver, denied, "Approve", body{}, 409)
	act(ciUser, denied, "Cancel", body{}, 409)
	if d := w.details(t, requester, denied); d.Status != "Denied" || !d.IsFinalStatus || d.Approvals[0].Comment != "broken" {
		t.Errorf("denied: %+v", d)
	}
	wantProblem(t, w.as(t, ciUser, "GET", "/SigningRequests/"+denied+"/SignedArtifact", body{}), http.StatusNotFound)
	canceled := string(w.submitted(t, "release-signing"))
	act(approver, canceled, "Approve", body{}, 409) // not examined yet
	act(requester, canceled, "Cancel", jsonBody(`{"comment":"wrong file"}`), 200)
	act(requester, canceled, "Cancel", body{}, 409)
	if d := w.details(t, requester, canceled); d.Status != "Canceled" {
		t.Errorf("canceled: %+v", d)
	}
	act(ciUser, "not-a-guid", "Cancel", body{}, 404)
	act(ciUser, string(signing.NewID()), "Approve", body{}, 404)
	act(approver, canceled, "Approve", jsonBody(`{"comment":7}`), 400)
	act(approver, canceled, "Approve", jsonBody(`{"comment":"`+strings.Repeat("x", 5000)+`"}`), 400)
}

func TestList(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	sum := sha256.Sum256(examplePE)
	var ids []string
	for range 5 {
		ids = append(ids, w.submit(t, ciUser, submissionForm()))
	}
	waiting := string(w.advanced(t, "release-signing"))
	list := func(who, query string) []string {
		t.Helper()
		var out []string
		cursor := ""
		for range 20 {
			page := decodeBody[api.SigningRequestPage](t, w.as(t, who, "GET", "/SigningRequests?PAGESIZE=2&"+query+cursor, body{}), http.StatusOK)
			for _, r := range page.Items {
				out = append(out, r.SigningRequestID)
				if !strings.HasSuffix(r.Link, "/SigningRequests/"+r.SigningRequestID) || r.ProjectSlug != "demo" || r.CreatedAt.IsZero() {
					t.Errorf("row %+v", r)
				}
			}
			if page.NextCursor == "" {
				return out
			}
			cursor = "&cursor=" + page.NextCursor
		}
		t.Fatal("the list does not end")
		return nil
	}
	newest := slices.Clone(ids)
	slices.Reverse(newest)
	all := append([]string{waiting}, newest...)
	for _, tt := range []struct {
		who, query string
		want       []string
	}{
		{globalReader, "", all},
		{regular, "", nil},
		{requester, "", []string{waiting}},
		{ciUser, "SubmittedByMe=true", newest},
		{ciUser, "projectSlug=DEMO&signingPolicySlug=release-signing", []string{waiting}},
		{ciUser, "status=waitingforapproval,Completed", []string{waiting}},
		{ciUser, "status=Failed", nil},
		{approver, "waitingForMyApproval=true", []string{waiting}},
		{ciUser, "waitingForMyApproval=true", nil},
		{globalAdmin, "sha256Hash=" + strings.ToUpper(hex.EncodeToString(sum[:])), all},
		{globalAdmin, "sha256Hash=" + strings.Repeat("0", 64), nil},
		{globalAdmin, "fileName=APP", all},
		{globalAdmin, "createdFrom=" + time.Now().Add(time.Hour).UTC().Format(time.RFC3339), nil},
		{globalAdmin, "createdBefore=" + time.Now().Add(time.Hour).UTC().Format(time.RFC3339), all},
		{globalAdmin, "originalSigningRequestId=" + waiting, nil},
	} {
		if got := list(tt.who, tt.query); !slices.Equal(got, tt.want) {
			t.Errorf("%s, %q: %v, want %v", tt.who, tt.query, got, tt.want)
		}
	}
}

func TestArtifactsDeleted(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id := string(w.advanced(t, "test-signing"))
	admin := w.people[globalAdmin].actor
	if _, err := w.signing.EditOrganization(t.Context(), admin, signing.OrganizationEdit{Settings: &signing.OrganizationSettings{RetentionDays: 1}}); err != nil {
		t.Fatal(err)
	}
	w.finalSince(t, id, time.Now().AddDate(0, 0, -3))
	if err := w.signing.Retain(t.Context()); err != nil {
		t.Fatal(err)
	}
	text := readBody(t, w.as(t, ciUser, "GET", "/SigningRequests/"+id, body{}))
	if strings.Contains(text, "signedArtifactLink") || strings.Contains(text, "unsignedArtifactLink") || !strings.Contains(text, "artifactsDeletedAt") {
		t.Errorf("details after deletion: %s", text)
	}
	for _, file := range []string{"SignedArtifact", "UnsignedArtifact"} {
		if p := wantProblem(t, w.as(t, ciUser, "GET", "/SigningRequests/"+id+"/"+file, body{}), http.StatusNotFound); !strings.Contains(p.Detail, "deleted") {
			t.Errorf("%s: %+v", file, p)
		}
	}
}

// finalSince sets back the time at which a request became final.
func (w *world) finalSince(t *testing.T, id string, at time.Time) {
	t.Helper()
	err := w.db.Tx(t.Context(), func(tx signing.Tx) error {
		r, err := tx.LockRequest(t.Context(), signing.ID(w.org), signing.ID(id))
		if err != nil {
			return err
		}
		r.FinalAt = &at
		return tx.UpdateRequest(t.Context(), r)
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestNothingStaysBehind: whatever goes wrong, no bytes of a refused submission are kept.
func TestNothingStaysBehind(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	broken := submissionForm()
	broken.content = broken.content[:len(broken.content)-20]
	for name, form := range map[string]body{
		"unknown policy":   formBody("artifact", "@a.exe:"+string(examplePE), "projectSlug", "demo", "signingPolicySlug", "nonsense"),
		"broken form":      broken,
		"fast":             submissionForm("isFastSigningRequest", "true"),
		"no parameter":     submissionForm("parameters.nonsense", "1"),
		"file given twice": submissionForm("artifact", "@b.exe:x"),
	} {
		if resp := w.as(t, ciUser, "POST", "/SigningRequests/SubmitWithArtifact", form); resp.StatusCode != http.StatusBadRequest {
			t.Errorf("%s: %d", name, resp.StatusCode)
		}
	}
	plan := decodeBody[api.Plan](t, w.as(t, configurator, "POST", "/Projects/demo/Plan", formBody("artifact", "@app.exe:"+string(examplePE))), http.StatusOK)
	if plan.Root.Action != "sign" || len(plan.Violations) != 0 {
		t.Errorf("plan %+v", plan)
	}
	w.noBlobs(t)
}

func (w *world) noBlobs(t *testing.T) {
	t.Helper()
	err := w.blobs.List(t.Context(), time.Now().Add(time.Hour), func(id signing.BlobID) error {
		return fmt.Errorf("blob %s stayed behind", id)
	})
	if err != nil {
		t.Error(err)
	}
}

func TestPlanAndAnalyze(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	file := "@app.exe:" + string(examplePE)
	plan := func(fields ...string) *http.Response {
		return w.as(t, configurator, "POST", "/Projects/DEMO/Plan", formBody(append([]string{"artifact", file}, fields...)...))
	}
	if p := decodeBody[api.Plan](t, plan("ARTIFACTCONFIGURATIONSLUG", "zip"), 200); len(p.Violations) == 0 {
		t.Errorf("a program is no ZIP: %+v", p)
	}
	if p := decodeBody[api.Plan](t, plan("artifactConfigurationXml", exeConfiguration, "parameters.app.version", "3", "strict", "TRUE"), 200); p.Parameters["app.version"] != "3" || !p.Strict {
		t.Errorf("plan %+v", p)
	}
	for field, fields := range map[string][]string{
		"ArtifactConfigurationXml":  {"artifactConfigurationXml", "<nonsense/>"},
		"ArtifactConfigurationSlug": {"artifactConfigurationSlug", "nonsense"},
		"Parameters.x":              {"parameters.x", "1"},
		"Strict":                    {"strict", "perhaps"},
	} {
		if p := wantProblem(t, plan(fields...), 400); len(p.Errors[field]) == 0 {
			t.Errorf("%v: %+v", fields, p)
		}
	}
	resp := w.as(t, regular, "POST", "/ArtifactConfigurations/Analyze", formBody("artifact", file))
	proposal := readBody(t, resp)
	if resp.StatusCode != 200 || resp.Header.Get("Content-Type") != "application/xml" || !strings.Contains(proposal, "<pe-file") {
		t.Fatalf("proposal %d %v %s", resp.StatusCode, resp.Header, proposal)
	}
	if p := decodeBody[api.Plan](t, plan("artifactConfigurationXml", proposal), 200); len(p.Violations) != 0 || p.Root.Action != "sign" {
		t.Errorf("the proposal does not fit its sample: %+v", p)
	}
	// What was signed by somebody whom the organization trusts is verified.
	address := "/SigningRequests/" + string(w.advanced(t, "test-signing"))
	root := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte(readBody(t, w.as(t, globalAdmin, "GET", address+"/X509Certificate", body{})))})
	signed := "@app.exe:" + readBody(t, w.as(t, globalAdmin, "GET", address+"/SignedArtifact", body{}))
	analyze := func() string {
		return readBody(t, w.as(t, regular, "POST", "/ArtifactConfigurations/Analyze", formBody("artifact", signed)))
	}
	if proposal := analyze(); !strings.Contains(proposal, "<pe-file/>") {
		t.Errorf("signed by somebody unknown: %s", proposal)
	}
	decodeBody[api.Organization](t, w.as(t, globalAdmin, "POST", "/Organization/Edit", jsonBody(`{"authenticodeRootsPem":`+strconv.Quote(string(root))+`}`)), 200)
	if proposal := analyze(); !strings.Contains(proposal, "    <authenticode-verify publisher=") {
		t.Errorf("signed by somebody trusted: %s", proposal)
	}
	schema := readBody(t, w.send(t, "", "GET", "/Api/artifact-configuration.xsd", body{}))
	if !strings.Contains(schema, "http://signpath.io/artifact-configuration/v1") {
		t.Error("no schema")
	}
}
