package httpapi

import (
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/countersign-dev/countersign/internal/signing"
)

// walk is the expectation for one route: who may, and how the others are refused. Members who are in no list are refused
// with 403.
type walk struct {
	// path fills the route's address behind the organization and makes what it is about, anew for each attempt.
	path func(t *testing.T, w *world) string
	body body
	ok   int      // status for those who may; 200 when 0
	may  []string // members who may
	// hidden are the members from whom the object is hidden: they are answered as if it did not exist.
	hidden       []string
	hiddenStatus int // 404 when 0
	// abroad is what the other organization's administrator gets who asks in that organization for the same object;
	// 404 when 0.
	abroad int
	public bool
}

func fixed(path string) func(*testing.T, *world) string {
	return func(*testing.T, *world) string { return path }
}

// onRequest makes a request under a policy and advances it once; suffix follows its address.
func onRequest(policy, suffix string) func(*testing.T, *world) string {
	return func(t *testing.T, w *world) string {
		return "/SigningRequests/" + string(w.advanced(t, policy)) + suffix
	}
}

var (
	requestReaders = []string{globalAdmin, projectAdmin, globalReader, projectReader, configurator, submitter, approver, requester, ciUser}
	noRequest      = without(members, requestReaders...)
	downloaders    = without(requestReaders, projectAdmin, globalReader)
	projectSeers   = without(requestReaders, requester)
	noProject      = without(members, projectSeers...)
	submitters     = []string{submitter, ciUser}
	certSeers      = []string{globalAdmin, certificateAdmin, projectAdmin, globalReader}
	certAdmins     = []string{globalAdmin, certificateAdmin}
)

func without(list []string, names ...string) []string {
	return slices.DeleteFunc(slices.Clone(list), func(s string) bool { return slices.Contains(names, s) })
}

// requestWalks, managementWalks: one row for each route of the contract.
var requestWalks = map[string]walk{
	"GET /healthz":                    {public: true, path: fixed("/Api/healthz")},
	"GET /v1/Meta/SystemInfo":         {public: true, path: fixed("/Api/v1/Meta/SystemInfo")},
	"GET /artifact-configuration.xsd": {public: true, path: fixed("/Api/artifact-configuration.xsd")},

	"GET /v1/{organizationId}/SigningRequests":                     {path: fixed("/SigningRequests"), may: members, abroad: 200},
	"POST /v1/{organizationId}/SigningRequests":                    {path: fixed("/SigningRequests"), body: submissionForm(), ok: 201, may: submitters, abroad: 400},
	"POST /v1/{organizationId}/SigningRequests/SubmitWithArtifact": {path: fixed("/SigningRequests/SubmitWithArtifact"), body: submissionForm(), ok: 201, may: submitters, abroad: 400},
	"POST /v1/{organizationId}/SigningRequests/Resubmit": {
		path: fixed("/SigningRequests/Resubmit"), ok: 201, may: submitters, hidden: noRequest, hiddenStatus: 400, abroad: 400,
	},
	"GET /v1/{organizationId}/SigningRequests/{signingRequestId}":        {path: onRequest("test-signing", ""), may: requestReaders, hidden: noRequest},
	"GET /v1/{organizationId}/SigningRequests/{signingRequestId}/Status": {path: onRequest("test-signing", "/Status"), may: requestReaders, hidden: noRequest},
	"GET /v1/{organizationId}/SigningRequests/{signingRequestId}/ArtifactDescription": {
		path: onRequest("test-signing", "/ArtifactDescription"), may: requestReaders, hidden: noRequest,
	},
	"GET /v1/{organizationId}/SigningRequests/{signingRequestId}/ArtifactDescriptionXml": {
		path: onRequest("test-signing", "/ArtifactDescriptionXml"), may: requestReaders, hidden: noRequest,
	},
	"GET /v1/{organizationId}/SigningRequests/{signingRequestId}/X509Certificate": {
		path: onRequest("test-signing", "/X509Certificate"), may: requestReaders, hidden: noRequest,
	},
	"POST /v1/{organizationId}/SigningRequests/{signingRequestId}/Approve": {
		path: onRequest("release-signing", "/Approve"), may: []string{approver}, hidden: noRequest,
	},
	"POST /v1/{organizationId}/SigningRequests/{signingRequestId}/Deny": {
		path: onRequest("release-signing", "/Deny"), may: []string{approver}, hidden: noRequest,
	},
	"POST /v1/{organizationId}/SigningRequests/{signingRequestId}/Cancel": {
		path: onRequest("release-signing", "/Cancel"), may: []string{globalAdmin, projectAdmin, submitter, requester, ciUser}, hidden: noRequest,
	},
	"GET /v1/{organizationId}/SigningRequests/{signingRequestId}/SignedArtifact": {
		path: onRequest("test-signing", "/SignedArtifact"), may: downloaders, hidden: noRequest,
	},
	"GET /v1/{organizationId}/SigningRequests/{signingRequestId}/UnsignedArtifact": {
		path: onRequest("release-signing", "/UnsignedArtifact"), may: downloaders, hidden: noRequest,
	},
	"GET /v1/{organizationId}/SigningRequests/{signingRequestId}/BuildSettingsFile": {
		path: onVerified("/BuildSettingsFile"), may: without(downloaders, requester), hidden: append([]string{requester}, noRequest...),
	},

	"GET /v1/{organizationId}/Projects":                                      {path: fixed("/Projects"), may: members, abroad: 200},
	"GET /v1/{organizationId}/Projects/{projectSlug}":                        {path: fixed("/Projects/demo"), may: projectSeers, hidden: noProject},
	"POST /v1/{organizationId}/Projects/{projectSlug}/Plan":                  {path: fixed("/Projects/demo/Plan"), body: formBody("artifact", "@app.exe:"+string(examplePE)), may: projectSeers, hidden: noProject},
	"GET /v1/{organizationId}/Projects/{projectSlug}/ArtifactConfigurations": {path: fixed("/Projects/demo/ArtifactConfigurations"), may: projectSeers, hidden: noProject},
	"GET /v1/{organizationId}/Projects/{projectSlug}/ArtifactConfigurations/{artifactConfigurationSlug}": {
		path: fixed("/Projects/demo/ArtifactConfigurations/exe"), may: projectSeers, hidden: noProject,
	},
	"GET /v1/{organizationId}/Projects/{projectSlug}/ArtifactConfigurations/{artifactConfigurationSlug}/Xml": {
		path: fixed("/Projects/demo/ArtifactConfigurations/exe/Xml"), may: projectSeers, hidden: noProject,
	},
	"GET /v1/{organizationId}/Projects/{projectSlug}/SigningPolicies":                     {path: fixed("/Projects/demo/SigningPolicies"), may: projectSeers, hidden: noProject},
	"GET /v1/{organizationId}/Projects/{projectSlug}/SigningPolicies/{signingPolicySlug}": {path: fixed("/Projects/demo/SigningPolicies/test-signing"), may: projectSeers, hidden: noProject},
	"GET /v1/{organizationId}/Projects/{projectSlug}/SigningPolicies/{signingPolicySlug}/Certificate": {
		path: fixed("/Projects/demo/SigningPolicies/test-signing/Certificate"), may: projectSeers, hidden: noProject,
	},
	"GET /v1/{organizationId}/Projects/{projectSlug}/SigningPolicies/{signingPolicySlug}/Certificate/X509Certificate": {
		path: fixed("/Projects/demo/SigningPolicies/test-signing/Certificate/X509Certificate"), may: projectSeers, hidden: noProject,
	},
	"GET /v1/{organizationId}/ArtifactConfigurations/Templates": {path: fixed("/ArtifactConfigurations/Templates"), may: members, abroad: 200},
	"POST /v1/{organizationId}/ArtifactConfigurations/Analyze": {
		path: fixed("/ArtifactConfigurations/Analyze"), body: formBody("artifact", "@app.exe:"+string(examplePE)), may: members, abroad: 200,
	},

	"GET /v1/{organizationId}/Certificates":                                   {path: fixed("/Certificates"), may: certSeers, abroad: 200},
	"GET /v1/{organizationId}/Certificates/{certificateSlug}":                 {path: fixed("/Certificates/release"), may: certSeers},
	"GET /v1/{organizationId}/Certificates/{certificateSlug}/X509Certificate": {path: fixed("/Certificates/release/X509Certificate"), may: certSeers},
	"GET /v1/{organizationId}/Certificates/{certificateSlug}/CertificateSigningRequest": {
		path: onCSR("/CertificateSigningRequest"), may: certSeers,
	},
	"POST /v1/{organizationId}/Certificates/CreateSelfSignedX509": {
		path: fixed("/Certificates/CreateSelfSignedX509"), ok: 201, may: certAdmins, abroad: 201,
		body: jsonBody(`{"slug":"$NEW","subject":{"commonName":"Acme, Inc."},"keyAlgorithm":"ECDSA-P256"}`),
	},
	"POST /v1/{organizationId}/Certificates/CreateCsrBasedX509": {
		path: fixed("/Certificates/CreateCsrBasedX509"), ok: 201, may: certAdmins, abroad: 201,
		body: jsonBody(`{"slug":"$NEW","subject":{"commonName":"Acme"},"keyAlgorithm":"ECDSA-P256"}`),
	},
	"POST /v1/{organizationId}/Certificates/ImportPfx": {
		path: fixed("/Certificates/ImportPfx"), ok: 400, may: certAdmins, abroad: 400, // who may learns that this is no PKCS#12 file
		body: formBody("slug", "imported", "certificateFile", "@a.pfx:nonsense"),
	},
	"POST /v1/{organizationId}/Certificates/{certificateSlug}/UploadX509Certificate": {
		path: onCSR("/UploadX509Certificate"), ok: 400, may: certAdmins, // likewise
		body: formBody("certificateFile", "@a.cer:nonsense"),
	},
}

// onVerified makes a request with a build settings file, by the CI user and a trusted build system.
func onVerified(suffix string) func(*testing.T, *world) string {
	return func(t *testing.T, w *world) string {
		return "/SigningRequests/" + w.submitVerified(t) + suffix
	}
}

// onCSR makes a certificate signing request.
func onCSR(suffix string) func(*testing.T, *world) string {
	return func(t *testing.T, w *world) string {
		slug := "csr-" + string(signing.NewID())
		_, err := w.signing.CreateRequest(t.Context(), w.people[globalAdmin].actor, signing.NewCertificate{Slug: slug, Subject: "CN=Acme", KeyAlgorithm: "ECDSA-P256"})
		if err != nil {
			t.Fatal(err)
		}
		return "/Certificates/" + slug + suffix
	}
}

// TestEveryRouteAsEveryone walks all routes of the contract as everyone: each member in her own organization and in the other
// one, members through nested groups, the other organization's administrator here and there, a deactivated administrator, tokens
// that expired, were revoked or are wrong, and none; each route under its old names, too. A route without a row fails.
func TestEveryRouteAsEveryone(t *testing.T) {
	t.Parallel()
	all := generatedPatterns()
	walks := maps.Clone(requestWalks)
	maps.Copy(walks, managementWalks)
	for pattern := range walks {
		if !slices.Contains(all, pattern) {
			t.Errorf("the table has %s, the contract does not", pattern)
		}
	}
	for _, pattern := range all {
		row, ok := walks[pattern]
		if !ok {
			t.Errorf("the table has no row for %s: say who may use it", pattern)
			continue
		}
		t.Run(pattern, func(t *testing.T) {
			t.Parallel()
			row.walk(t, newWorld(t), pattern)
		})
		for _, old := range oldSpellings(pattern) {
			t.Run(old, func(t *testing.T) {
				t.Parallel()
				row.respelled(pattern, old).walk(t, newWorld(t), old)
			})
		}
	}
}

// respelled is the row for an old spelling of the pattern, which differs in its last segment or lacks it.
func (row walk) respelled(pattern, old string) walk {
	path, last, segment := row.path, pattern[strings.LastIndexByte(pattern, '/'):], old[strings.LastIndexByte(old, '/'):]
	if strings.HasPrefix(segment, "/{") {
		segment = ""
	}
	row.path = func(t *testing.T, w *world) string { return strings.TrimSuffix(path(t, w), last) + segment }
	return row
}

func (row walk) walk(t *testing.T, w *world, pattern string) {
	method, route, _ := strings.Cut(pattern, " ")
	attemptAt := func(who, authorization, organization, path string, want int) {
		t.Helper()
		b := row.body
		if strings.HasSuffix(route, "/Resubmit") {
			b = jsonBody(`{"originalSigningRequestId":"` + string(w.advanced(t, "test-signing")) + `","signingPolicySlug":"release-signing"}`)
		}
		b.content = strings.ReplaceAll(b.content, "$NEW", "new-"+string(signing.NewID()))
		if !row.public {
			path = "/Api/" + strings.Split(route, "/")[1] + "/" + organization + path
		}
		resp := w.send(t, authorization, method, path, b)
		text := readBody(t, resp)
		if resp.StatusCode != want {
			t.Errorf("%s: %d, want %d: %s", who, resp.StatusCode, want, text)
		}
		if want >= 400 && !strings.Contains(text, `"traceId"`) {
			t.Errorf("%s: the refusal is no problem: %s", who, text)
		}
	}
	attempt := func(who, authorization, organization string, want int) {
		t.Helper()
		attemptAt(who, authorization, organization, row.path(t, w), want)
	}
	or := func(status, otherwise int) int {
		if status == 0 {
			return otherwise
		}
		return status
	}
	if row.public {
		attempt("nobody", "", "", http.StatusOK)
		attempt("a wrong token", "Bearer nonsense", "", http.StatusOK)
		return
	}
	expect := func(who string) int {
		switch {
		case slices.Contains(row.may, who):
			return or(row.ok, http.StatusOK)
		case slices.Contains(row.hidden, who):
			return or(row.hiddenStatus, http.StatusNotFound)
		}
		return http.StatusForbidden
	}
	somewhere := row.path(t, w) // for those who are refused whatever it is
	for _, who := range members {
		attempt(who, "Bearer "+w.people[who].token, w.org, expect(who))
		attemptAt(who+" abroad", "Bearer "+w.people[who].token, w.other, somewhere, http.StatusForbidden)
	}
	for who, like := range standIns {
		attempt(who, "Bearer "+w.people[who].token, w.org, expect(like))
	}
	for who, authorization := range map[string]string{
		"nobody": "", "a wrong token": "Bearer nonsense", "a build system alone": "Bearer " + w.buildSystem,
		deactivated: "Bearer " + w.people[deactivated].token, "an expired token": "Bearer " + w.expired, "a revoked token": "Bearer " + w.revoked,
	} {
		attemptAt(who, authorization, w.org, somewhere, http.StatusUnauthorized)
	}
	attemptAt(foreigner, "Bearer "+w.people[foreigner].token, w.org, somewhere, http.StatusForbidden)
	attempt(foreigner+" at home", "Bearer "+w.people[foreigner].token, w.other, or(row.abroad, http.StatusNotFound))
	attemptAt("unknown organization", "Bearer "+w.people[globalAdmin].token, string(signing.NewID()), somewhere, http.StatusForbidden)
	attemptAt("empty GUID", "Bearer "+w.people[globalAdmin].token, "00000000-0000-0000-0000-000000000000", somewhere, http.StatusBadRequest)
	attemptAt("no GUID", "Bearer "+w.people[globalAdmin].token, "acme", somewhere, http.StatusBadRequest)
}
