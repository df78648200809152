package e2e

import (
	"bufio"
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	pkcs12 "software.sslmate.com/src/go-pkcs12"

	"github.com/countersign-dev/countersign/internal/oracle"
)

// change is a call that changes something, and what the audit log says of it.
type change struct {
	route  string // of the contract
	path   string // with placeholders filled in as keep says
	body   string // JSON; fields of a form when it begins with "-F "
	events string // in their order, each with what it holds: "Project.Edited before after"
	keep   string // placeholder=member of the answer, with dots
}

// TestEveryChangeIsAudited makes every change that the REST API knows. Each leaves its entries in the audit log: who made it,
// what it was before and is after, and no secret.
func TestEveryChangeIsAudited(t *testing.T) {
	t.Parallel()
	demo := startDemo(t, t.TempDir())
	w := &wire{t: t, curl: oracle.Need(t, "curl"), demo: demo, dir: t.TempDir()}
	const configuration = `<artifact-configuration xmlns='http://signpath.io/artifact-configuration/v1'><pe-file><authenticode-sign/></pe-file></artifact-configuration>`
	own, pfx := ownCertificates(t)
	write := func(name string, content []byte) {
		if err := os.WriteFile(filepath.Join(w.dir, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("import.pfx", pfx)
	kept := map[string]string{}
	fill := func(s string) string {
		for name, value := range kept {
			s = strings.ReplaceAll(s, "{"+name+"}", value)
		}
		return s
	}
	const edited = "before after"
	project, policies, configurations := "/Projects/{projectSlug}", "/Projects/{projectSlug}/SigningPolicies/{signingPolicySlug}", "/Projects/{projectSlug}/ArtifactConfigurations/{artifactConfigurationSlug}"
	user, ciUser, group, certificate, build, hook := "/InteractiveUsers/{userId}", "/CIUsers/{userId}", "/UserGroups/{groupId}", "/Certificates/{certificateSlug}", "/TrustedBuildSystems/{trustedBuildSystemSlug}", "/Webhooks/{webhookId}"
	covered := map[string]bool{
		// These change nothing.
		"POST /Projects/{projectSlug}/Plan": true, "POST /ArtifactConfigurations/Analyze": true,
		// What happens to signing requests is an entry for each step: TestScenarioByCurl and others make them.
		"POST /SigningRequests": true, "POST /SigningRequests/SubmitWithArtifact": true, "POST /SigningRequests/SubmitWithoutArtifact": true,
		"POST /SigningRequests/SubmitWithArtifactRetrievalLink": true, "POST /SigningRequests/Resubmit": true,
		"POST /SigningRequests/{signingRequestId}/Approve": true, "POST /SigningRequests/{signingRequestId}/Deny": true,
		"POST /SigningRequests/{signingRequestId}/Cancel": true, "POST /SigningRequests/{signingRequestId}/UploadUnsignedArtifact": true,
	}
	kept["admin"] = memberOf(t, w.do("-H", "{admin}", "{api}/v1/{org}/InteractiveUsers/Me"), "userId")
	last := w.entries(0)[0].Sequence
	for _, c := range []change{
		{"POST /Projects", "/Projects", `{"slug":"w","name":"W","repositories":["https://github.com/acme/w"]}`, "Project.Created after", ""},
		{"POST " + project + "/Edit", "/Projects/w/Edit", `{"description":"new"}`, "Project.Edited " + edited, ""},
		{"POST /Certificates/CreateSelfSignedX509", "", `{"slug":"c","name":"C","subject":{"commonName":"C"},"keyAlgorithm":"ECDSA-P256"}`, "Certificate.Created after", ""},
		{"POST /Certificates/CreateCsrBasedX509", "", `{"slug":"r","name":"R","subject":{"commonName":"R"},"keyAlgorithm":"ECDSA-P256"}`, "Certificate.Created after", ""},
		{"POST " + certificate + "/UploadX509Certificate", "/Certificates/r/UploadX509Certificate", "-F certificateFile=@issued.pem", "Certificate.Uploaded " + edited, ""},
		{"POST /Certificates/ImportPfx", "", "-F slug=p -F name=P -F password=verysecret -F certificateFile=@import.pfx", "Certificate.Created after", ""},
		{"POST " + certificate + "/Edit", "/Certificates/c/Edit", `{"name":"C2"}`, "Certificate.Edited " + edited, ""},
		{"POST " + certificate + "/Deactivate", "/Certificates/c/Deactivate", `{}`, "Certificate.Edited " + edited, ""},
		{"POST " + certificate + "/Activate", "/Certificates/c/Activate", `{}`, "Certificate.Edited " + edited, ""},
		{"POST " + certificate + "/Deactivate", "/Certificates/r/Deactivate", `{}`, "Certificate.Edited " + edited, ""},
		{"POST " + certificate + "/DeletePrivateKey", "/Certificates/r/DeletePrivateKey", `{}`, "Certificate.PrivateKeyDeleted " + edited + ", Certificate.PrivateKeyErased " + edited, ""},
		{"POST " + certificate + "/Delete", "/Certificates/p/Delete", `{}`, "Certificate.PrivateKeyDeleted " + edited + ", Certificate.PrivateKeyErased " + edited + ", Certificate.Deleted before", ""},
		{"POST " + project + "/ArtifactConfigurations", "/Projects/w/ArtifactConfigurations", `{"slug":"a","name":"A","artifactConfigurationXml":"` + configuration + `"}`, "ArtifactConfiguration.Created after, Project.Edited " + edited, ""},
		{"POST " + configurations + "/Edit", "/Projects/w/ArtifactConfigurations/a/Edit", `{"name":"AA"}`, "ArtifactConfiguration.Edited " + edited, ""},
		{"POST " + configurations + "/EditXml", "/Projects/w/ArtifactConfigurations/a/EditXml", `{"artifactConfigurationXml":"` + configuration + ` "}`, "ArtifactConfiguration.Edited " + edited, ""},
		{"POST " + project + "/ArtifactConfigurations", "/Projects/w/ArtifactConfigurations", `{"slug":"b","name":"B","artifactConfigurationXml":"` + configuration + `"}`, "ArtifactConfiguration.Created after", ""},
		{"POST " + project + "/SetDefaultArtifactConfiguration", "/Projects/w/SetDefaultArtifactConfiguration", `{"artifactConfigurationSlug":"b"}`, "Project.Edited " + edited, ""},
		{"POST " + configurations + "/Deactivate", "/Projects/w/ArtifactConfigurations/a/Deactivate", `{}`, "ArtifactConfiguration.Edited " + edited, ""},
		{"POST " + configurations + "/Activate", "/Projects/w/ArtifactConfigurations/a/Activate", `{}`, "ArtifactConfiguration.Edited " + edited, ""},
		{"POST " + project + "/SigningPolicies", "/Projects/w/SigningPolicies", `{"slug":"s","name":"S","certificateSlug":"c"}`, "SigningPolicy.Created after", ""},
		{"POST " + policies + "/Edit", "/Projects/w/SigningPolicies/s/Edit", `{"name":"SS"}`, "SigningPolicy.Edited " + edited, ""},
		{"POST " + policies + "/Deactivate", "/Projects/w/SigningPolicies/s/Deactivate", `{}`, "SigningPolicy.Edited " + edited, ""},
		{"POST " + policies + "/Activate", "/Projects/w/SigningPolicies/s/Activate", `{}`, "SigningPolicy.Edited " + edited, ""},
		{"POST " + project + "/Deactivate", "/Projects/w/Deactivate", `{}`, "Project.Edited " + edited, ""},
		{"POST " + project + "/Activate", "/Projects/w/Activate", `{}`, "Project.Edited " + edited, ""},
		{"POST /TrustedBuildSystems/AddCustom", "", `{"slug":"t","name":"T"}`, "TrustedBuildSystem.CustomAdded after, ApiToken.Issued", ""},
		{"POST /TrustedBuildSystems/AddPredefined", "", `{"type":"GitHub.com"}`, "TrustedBuildSystem.PredefinedAdded after, ApiToken.Issued", ""},
		{"POST " + project + "/TrustedBuildSystemLinks", "/Projects/w/TrustedBuildSystemLinks", `{"trustedBuildSystemSlug":"t"}`, "Project.Edited " + edited, ""},
		{"DELETE " + project + "/TrustedBuildSystemLinks/{trustedBuildSystemSlug}", "/Projects/w/TrustedBuildSystemLinks/t", "", "Project.Edited " + edited, ""},
		{"POST " + build + "/Edit", "/TrustedBuildSystems/t/Edit", `{"description":"x"}`, "TrustedBuildSystem.Edited " + edited, ""},
		{"POST " + build + "/RegenerateTrustedBuildSystemToken", "/TrustedBuildSystems/t/RegenerateTrustedBuildSystemToken", `{}`, "ApiToken.Regenerated", ""},
		{"POST " + build + "/Delete", "/TrustedBuildSystems/t/Delete", `{}`, "TrustedBuildSystem.Deleted before", ""},
		{"POST /Organization/Edit", "", `{"name":"Renamed"}`, "Organization.Edited " + edited, ""},
		{"POST /InteractiveUsers", "", `{"name":"U","email":"u@acme.example"}`, "InteractiveUser.Created after, User.Invited", "user=userId"},
		{"POST " + user + "/Edit", "/InteractiveUsers/{user}/Edit", `{"roles":["GlobalReader"]}`, "User.Edited " + edited, ""},
		{"POST " + user + "/Reinvite", "/InteractiveUsers/{user}/Reinvite", `{}`, "User.Invited", ""},
		{"POST " + user + "/RevokeInvitation", "/InteractiveUsers/{user}/RevokeInvitation", "", "User.InvitationRevoked", ""},
		{"GET " + user + "/Sessions", "/InteractiveUsers/Me/Sessions", "", "", "session=0.sessionId"},
		{"POST " + user + "/Sessions/{sessionId}/Revoke", "/InteractiveUsers/Me/Sessions/{session}/Revoke", "", "User.SessionRevoked", ""},
		{"GET /InteractiveUsers", "", "", "", "approver=1.userId"},
		{"POST " + user + "/RevokeSessions", "/InteractiveUsers/{approver}/RevokeSessions", `{}`, "User.SessionRevoked", ""},
		{"GET " + user + "/ApiTokens", "/InteractiveUsers/{approver}/ApiTokens", "", "", "approverToken=0.apiTokenId"},
		{"POST " + user + "/ApiTokens/{apiTokenId}/Revoke", "/InteractiveUsers/{approver}/ApiTokens/{approverToken}/Revoke", "", "ApiToken.Revoked", ""},
		{"POST " + user + "/Deactivate", "/InteractiveUsers/{user}/Deactivate", `{}`, "User.Edited " + edited, ""},
		{"POST " + user + "/Activate", "/InteractiveUsers/{user}/Activate", `{}`, "User.Edited " + edited, ""},
		{"POST /InteractiveUsers/Me/Edit", "", `{"notificationLevel":"All"}`, "User.Edited " + edited, ""},
		{"POST /CIUsers", "", `{"name":"K"}`, "CIUser.Created after, ApiToken.Issued", "ci=userId"},
		{"POST " + ciUser + "/Edit", "/CIUsers/{ci}/Edit", `{"description":"x"}`, "User.Edited " + edited, ""},
		{"POST " + ciUser + "/RegenerateApiToken", "/CIUsers/{ci}/RegenerateApiToken", `{}`, "ApiToken.Regenerated", ""},
		{"GET " + ciUser + "/ApiTokens", "/CIUsers/{ci}/ApiTokens", "", "", "ciToken=0.apiTokenId"},
		{"POST " + ciUser + "/ApiTokens/{apiTokenId}/Revoke", "/CIUsers/{ci}/ApiTokens/{ciToken}/Revoke", "", "ApiToken.Revoked", ""},
		{"POST " + ciUser + "/Deactivate", "/CIUsers/{ci}/Deactivate", `{}`, "User.Edited " + edited, ""},
		{"POST " + ciUser + "/Activate", "/CIUsers/{ci}/Activate", `{}`, "User.Edited " + edited, ""},
		{"POST /UserGroups", "", `{"name":"G"}`, "UserGroup.Created after", "group=userGroupId"},
		{"POST " + group + "/Edit", "/UserGroups/{group}/Edit", `{"name":"H"}`, "UserGroup.Edited " + edited, ""},
		{"POST " + group + "/ChangeMembers", "/UserGroups/{group}/ChangeMembers", `{"members":[{"kind":"User","id":"{user}"}]}`, "UserGroup.Edited " + edited, ""},
		{"POST " + group + "/ModifyMembers", "/UserGroups/{group}/ModifyMembers", `{"remove":[{"kind":"User","id":"{user}"}]}`, "UserGroup.Edited " + edited, ""},
		{"POST " + group + "/Delete", "/UserGroups/{group}/Delete", `{}`, "UserGroup.Deleted before", ""},
		{"POST /Webhooks", "", `{"name":"h","url":"https://hooks.acme.example/x","headerValue":"Bearer verysecret"}`, "Webhook.Created after", "hook=webhook.webhookId"},
		{"POST " + hook + "/Edit", "/Webhooks/{hook}/Edit", `{"headerValue":"Bearer other verysecret"}`, "Webhook.Edited " + edited, ""},
		{"POST " + hook + "/RegenerateSecret", "/Webhooks/{hook}/RegenerateSecret", `{}`, "Webhook.Edited " + edited, ""},
		{"POST " + hook + "/Test", "/Webhooks/{hook}/Test", `{}`, "Webhook.Tested", "delivery=deliveryId"},
		{"POST /Deliveries/{deliveryId}/Redeliver", "/Deliveries/{delivery}/Redeliver", `{}`, "Webhook.Redelivered", ""},
		{"POST " + hook + "/Delete", "/Webhooks/{hook}/Delete", `{}`, "Webhook.Deleted before", ""},
		{"POST " + user + "/RegenerateApiToken", "/InteractiveUsers/{admin}/RegenerateApiToken", `{}`, "ApiToken.Regenerated", "token=apiToken"},
	} {
		method, path, _ := strings.Cut(c.route, " ")
		if c.path != "" {
			path = c.path
		}
		if strings.Contains(c.body, "issued.pem") {
			write("issued.pem", issue(t, own, w.do("-H", "{admin}", "{api}/v1/{org}/Certificates/r/CertificateSigningRequest").body))
		}
		arguments := []string{"-H", "{admin}", "-X", method, "{api}/v1/{org}" + fill(path)}
		if fields, form := strings.CutPrefix(c.body, "-F "); form {
			for f := range strings.SplitSeq(fields, " -F ") {
				arguments = append(arguments, "-F", f)
			}
		} else if c.body != "" {
			arguments = append(arguments, "--json", fill(c.body))
		}
		var a answer
		for range 100 {
			if a = w.do(slices.Clone(arguments)...); a.StatusCode != http.StatusConflict { // a delivery that is under way
				break
			}
		}
		if a.StatusCode >= 300 {
			t.Errorf("%s: %s %s", c.route, a.Status, a.body)
			continue
		}
		covered[c.route] = true
		if name, member, ok := strings.Cut(c.keep, "="); ok {
			kept[name] = memberOf(t, a, member)
		}
		if token, ok := kept["token"]; ok { // the caller's own was replaced
			demo.Tokens.Admin = token
		}
		var got []string
		for _, e := range w.entries(last) {
			last = max(last, e.Sequence)
			got = slices.Insert(got, 0, e.String())
			if e.Metadata.Actor.Name != "Ada Admin" || e.Metadata.Actor.Kind != "Interactive" || e.Object.ID == "" {
				t.Errorf("%s: by %+v on %+v", c.route, e.Metadata.Actor, e.Object)
			}
			if bytes.Contains(e.Data, []byte("secret\"")) || bytes.Contains(e.Data, []byte("verysecret")) {
				t.Errorf("%s: the entry holds a secret: %s", c.route, e.Data)
			}
		}
		if text := strings.Join(got, ", "); text != c.events {
			t.Errorf("%s: the audit log has %q, not %q", c.route, text, c.events)
		}
	}
	for _, route := range changingRoutes(t) {
		if !covered[route] {
			t.Errorf("%s is not tried here", route)
		}
	}
}

// entry is an entry of the audit log as the REST API has it.
type entry struct {
	Sequence int64  `json:"sequence"`
	Event    string `json:"event"`
	Metadata struct {
		Actor struct{ Kind, Name string } `json:"actor"`
	} `json:"metadata"`
	Object struct{ Type, ID string } `json:"object"`
	Data   json.RawMessage           `json:"data"`
}

// String tells the event, and whether it says what was before and what is after.
func (e entry) String() string {
	var data map[string]json.RawMessage
	_ = json.Unmarshal(e.Data, &data) // absent data has neither
	text := e.Event
	for _, member := range []string{"before", "after"} {
		if len(data[member]) > 0 {
			text += " " + member
		}
	}
	return text
}

// entries returns what the audit log has beyond an entry, newest first.
func (w *wire) entries(after int64) []entry {
	w.t.Helper()
	var page struct {
		Items []entry `json:"items"`
	}
	a := w.do("-H", "{admin}", "{api}/v1/{org}/AuditLog/Events?pageSize=10")
	if err := json.Unmarshal(a.body, &page); err != nil || len(page.Items) == 0 {
		w.t.Fatalf("the audit log: %s %s", a.Status, a.body)
	}
	return slices.DeleteFunc(page.Items, func(e entry) bool { return e.Sequence <= after })
}

// memberOf returns a text of an answer; names with dots lead into objects, numbers into lists.
func memberOf(t *testing.T, a answer, name string) string {
	t.Helper()
	var v any
	_ = json.Unmarshal(a.body, &v) // what is no JSON has no members
	for n := range strings.SplitSeq(name, ".") {
		switch container := v.(type) {
		case map[string]any:
			v = container[n]
		case []any:
			i, err := strconv.Atoi(n)
			if v = nil; err == nil && i < len(container) {
				v = container[i]
			}
		}
	}
	text, ok := v.(string)
	if !ok {
		t.Fatalf("the answer has no %s: %s", name, a.body)
	}
	return text
}

// changingRoutes lists the contract's routes that are not for reading.
func changingRoutes(t *testing.T) (routes []string) {
	t.Helper()
	path := ""
	pathPattern, methodPattern := regexp.MustCompile(`^  /v1/\{organizationId\}(/.*):$`), regexp.MustCompile(`^    (post|put|patch|delete):$`)
	for s := bufio.NewScanner(bytes.NewReader(readFile(t, "../api/openapi.yaml"))); s.Scan(); {
		if strings.HasPrefix(s.Text(), "  /") {
			path = ""
		}
		if m := pathPattern.FindStringSubmatch(s.Text()); m != nil {
			path = m[1]
		}
		if m := methodPattern.FindStringSubmatch(s.Text()); m != nil && path != "" {
			routes = append(routes, strings.ToUpper(m[1])+" "+path)
		}
	}
	if len(routes) < 50 {
		t.Fatalf("the contract has the changing routes %q only", routes)
	}
	return routes
}

// authority issues certificates.
type authority struct {
	key         *ecdsa.PrivateKey
	certificate *x509.Certificate
}

// ownCertificates makes an authority, and a PKCS#12 file with a key and a certificate that it issued.
func ownCertificates(t *testing.T) (a authority, pfx []byte) {
	t.Helper()
	check := func(err error) {
		if err != nil {
			t.Fatal(err)
		}
	}
	var err error
	a.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	check(err)
	root := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Root"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour * 48),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, root, root, a.key.Public(), a.key)
	check(err)
	a.certificate, err = x509.ParseCertificate(der)
	check(err)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	check(err)
	leaf, err := x509.ParseCertificate(a.issue(t, pkix.Name{CommonName: "P"}, key.Public()))
	check(err)
	pfx, err = pkcs12.Modern.Encode(key, leaf, []*x509.Certificate{a.certificate}, "verysecret")
	check(err)
	return a, pfx
}

func (a authority) issue(t *testing.T, subject pkix.Name, public any) []byte {
	t.Helper()
	template := &x509.Certificate{SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: subject, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning}}
	der, err := x509.CreateCertificate(rand.Reader, template, a.certificate, public, a.key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// issue answers a certificate signing request with a chain (PEM).
func issue(t *testing.T, a authority, request []byte) []byte {
	t.Helper()
	block, _ := pem.Decode(request)
	if block == nil {
		t.Fatalf("a certificate signing request: %s", request)
	}
	csr, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	der := a.issue(t, csr.Subject, csr.PublicKey)
	return fmt.Appendf(nil, "%s%s", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.certificate.Raw}))
}
