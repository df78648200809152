package httpapi

import (
	"fmt"
	"strings"
	"testing"

	"github.com/countersign-dev/countersign/internal/auth"
	"github.com/countersign-dev/countersign/internal/signing"
)

var (
	userSeers     = []string{globalAdmin, userAdmin, projectAdmin, globalReader}
	userAdmins    = []string{globalAdmin, userAdmin}
	auditors      = []string{globalAdmin, globalReader}
	systemSeers   = []string{globalAdmin, projectAdmin, globalReader}
	globalAdmins  = []string{globalAdmin}
	projectAdmins = []string{globalAdmin, projectAdmin}
	configurers   = []string{globalAdmin, projectAdmin, configurator}
)

// managementWalks are the rows of what manages people, projects and certificates.
var managementWalks = map[string]walk{
	"POST /v1/{organizationId}/SigningRequests/SubmitWithoutArtifact": {
		path: fixed("/SigningRequests/SubmitWithoutArtifact"), ok: 201, may: submitters, abroad: 400,
		body: formBody("projectSlug", "demo", "signingPolicySlug", "test-signing", "unsignedArtifactMetadata.fileName", "app.exe"),
	},
	"POST /v1/{organizationId}/SigningRequests/SubmitWithArtifactRetrievalLink": {
		path: fixed("/SigningRequests/SubmitWithArtifactRetrievalLink"), ok: 201, may: submitters, abroad: 400,
		body: formBody("projectSlug", "demo", "signingPolicySlug", "test-signing", "artifactRetrievalLink.url", "https://ci.example/app.exe", "artifactRetrievalLink.fileName", "app.exe"),
	},
	"POST /v1/{organizationId}/SigningRequests/{signingRequestId}/UploadUnsignedArtifact": {
		path: onAwaited("/UploadUnsignedArtifact"), ok: 202, may: []string{requester}, hidden: noRequest, body: body{content: string(examplePE)},
	},

	"GET /v1/{organizationId}/Organization":       {path: fixed("/Organization"), may: members, abroad: 200},
	"POST /v1/{organizationId}/Organization/Edit": {path: fixed("/Organization/Edit"), body: jsonBody(`{"retentionDays":30}`), may: globalAdmins, abroad: 200},

	"GET /v1/{organizationId}/InteractiveUsers": {path: fixed("/InteractiveUsers"), may: userSeers, abroad: 200},
	"POST /v1/{organizationId}/InteractiveUsers": {
		path: fixed("/InteractiveUsers"), body: jsonBody(`{"name":"$NEW","email":"$NEW@acme.example"}`), ok: 201, may: userAdmins, abroad: 201,
	},
	"GET /v1/{organizationId}/InteractiveUsers/Me": { // the CI user is none
		path: fixed("/InteractiveUsers/Me"), may: without(members, ciUser), hidden: []string{ciUser}, abroad: 200,
	},
	"POST /v1/{organizationId}/InteractiveUsers/Me/Edit": {
		path: fixed("/InteractiveUsers/Me/Edit"), body: jsonBody(`{"notificationLevel":"All"}`), may: without(members, ciUser), hidden: []string{ciUser}, abroad: 200,
	},
	"GET /v1/{organizationId}/InteractiveUsers/{userId}":                     {path: onUser(signing.Interactive, ""), may: userSeers},
	"POST /v1/{organizationId}/InteractiveUsers/{userId}/Edit":               {path: onUser(signing.Interactive, "/Edit"), body: jsonBody(`{"description":"x"}`), may: userAdmins},
	"POST /v1/{organizationId}/InteractiveUsers/{userId}/Activate":           {path: onUser(signing.Interactive, "/Activate"), may: userAdmins},
	"POST /v1/{organizationId}/InteractiveUsers/{userId}/Deactivate":         {path: onUser(signing.Interactive, "/Deactivate"), may: userAdmins},
	"POST /v1/{organizationId}/InteractiveUsers/{userId}/Reinvite":           {path: onUser(signing.Interactive, "/Reinvite"), may: userAdmins},
	"POST /v1/{organizationId}/InteractiveUsers/{userId}/RegenerateApiToken": {path: onUser(signing.Interactive, "/RegenerateApiToken")}, // its owner alone
	"POST /v1/{organizationId}/InteractiveUsers/{userId}/RevokeInvitation":   {path: onInvited("/RevokeInvitation"), ok: 204, may: userAdmins},
	"GET /v1/{organizationId}/InteractiveUsers/{userId}/Sessions":            {path: onUser(signing.Interactive, "/Sessions"), may: userAdmins},
	"POST /v1/{organizationId}/InteractiveUsers/{userId}/Sessions/{sessionId}/Revoke": {
		path: onSession, ok: 204, may: userAdmins,
	},
	"POST /v1/{organizationId}/InteractiveUsers/{userId}/RevokeSessions": {path: onUser(signing.Interactive, "/RevokeSessions"), may: userAdmins},
	"GET /v1/{organizationId}/InteractiveUsers/{userId}/ApiTokens":       {path: onUser(signing.Interactive, "/ApiTokens"), may: userSeers},
	"POST /v1/{organizationId}/InteractiveUsers/{userId}/ApiTokens/{apiTokenId}/Revoke": {
		path: onToken(signing.Interactive), ok: 204, may: userAdmins,
	},
	"GET /v1/{organizationId}/CIUsers/{userId}/ApiTokens": {path: onUser(signing.CI, "/ApiTokens"), may: userSeers},
	"POST /v1/{organizationId}/CIUsers/{userId}/ApiTokens/{apiTokenId}/Revoke": {
		path: onToken(signing.CI), ok: 204, may: userAdmins,
	},
	"GET /v1/{organizationId}/CIUsers":                              {path: fixed("/CIUsers"), may: userSeers, abroad: 200},
	"POST /v1/{organizationId}/CIUsers":                             {path: fixed("/CIUsers"), body: jsonBody(`{"name":"$NEW"}`), ok: 201, may: userAdmins, abroad: 201},
	"GET /v1/{organizationId}/CIUsers/Me":                           {path: fixed("/CIUsers/Me"), may: []string{ciUser}, hidden: without(members, ciUser)},
	"GET /v1/{organizationId}/CIUsers/{userId}":                     {path: onUser(signing.CI, ""), may: userSeers},
	"POST /v1/{organizationId}/CIUsers/{userId}/Edit":               {path: onUser(signing.CI, "/Edit"), body: jsonBody(`{"description":"x"}`), may: userAdmins},
	"POST /v1/{organizationId}/CIUsers/{userId}/Activate":           {path: onUser(signing.CI, "/Activate"), may: userAdmins},
	"POST /v1/{organizationId}/CIUsers/{userId}/Deactivate":         {path: onUser(signing.CI, "/Deactivate"), may: userAdmins},
	"POST /v1/{organizationId}/CIUsers/{userId}/RegenerateApiToken": {path: onUser(signing.CI, "/RegenerateApiToken"), may: userAdmins},

	"GET /v1/{organizationId}/UserGroups":                          {path: fixed("/UserGroups"), may: userSeers, abroad: 200},
	"POST /v1/{organizationId}/UserGroups":                         {path: fixed("/UserGroups"), body: jsonBody(`{"name":"$NEW"}`), ok: 201, may: userAdmins, abroad: 201},
	"GET /v1/{organizationId}/UserGroups/{groupId}":                {path: onGroup(""), may: userSeers},
	"POST /v1/{organizationId}/UserGroups/{groupId}/Edit":          {path: onGroup("/Edit"), body: jsonBody(`{"description":"x"}`), may: userAdmins},
	"POST /v1/{organizationId}/UserGroups/{groupId}/Delete":        {path: onNewGroup, ok: 204, may: userAdmins},
	"POST /v1/{organizationId}/UserGroups/{groupId}/ChangeMembers": {path: onGroup("/ChangeMembers"), body: jsonBody(`{"members":[]}`), may: userAdmins},
	"POST /v1/{organizationId}/UserGroups/{groupId}/ModifyMembers": {path: onGroup("/ModifyMembers"), body: jsonBody(`{}`), may: userAdmins},

	"GET /v1/{organizationId}/TrustedBuildSystems": {path: fixed("/TrustedBuildSystems"), may: systemSeers, abroad: 200},
	"POST /v1/{organizationId}/TrustedBuildSystems/AddCustom": {
		path: fixed("/TrustedBuildSystems/AddCustom"), body: jsonBody(`{"slug":"$NEW","name":"x"}`), ok: 201, may: globalAdmins, abroad: 201,
	},
	"POST /v1/{organizationId}/TrustedBuildSystems/AddPredefined": {
		path: fixed("/TrustedBuildSystems/AddPredefined"), ok: 201, may: globalAdmins, abroad: 201,
		body: jsonBody(`{"type":"Jenkins","slug":"$NEW","buildHost":"ci.acme.example"}`),
	},
	"GET /v1/{organizationId}/TrustedBuildSystems/{trustedBuildSystemSlug}": {path: fixed("/TrustedBuildSystems/jenkins"), may: systemSeers},
	"POST /v1/{organizationId}/TrustedBuildSystems/{trustedBuildSystemSlug}/Edit": {
		path: fixed("/TrustedBuildSystems/jenkins/Edit"), body: jsonBody(`{"description":"x"}`), may: globalAdmins,
	},
	"POST /v1/{organizationId}/TrustedBuildSystems/{trustedBuildSystemSlug}/Delete": {path: onBuildSystem("/Delete"), ok: 204, may: globalAdmins},
	"POST /v1/{organizationId}/TrustedBuildSystems/{trustedBuildSystemSlug}/RegenerateTrustedBuildSystemToken": {
		path: onBuildSystem("/RegenerateTrustedBuildSystemToken"), may: globalAdmins,
	},

	"GET /v1/{organizationId}/Webhooks": {path: fixed("/Webhooks"), may: globalAdmins, abroad: 200},
	"POST /v1/{organizationId}/Webhooks": {
		path: fixed("/Webhooks"), body: jsonBody(`{"name":"$NEW","url":"https://hooks.example"}`), ok: 201, may: globalAdmins, abroad: 201,
	},
	"GET /v1/{organizationId}/Webhooks/{webhookId}":                   {path: onWebhook(""), may: globalAdmins},
	"POST /v1/{organizationId}/Webhooks/{webhookId}/Edit":             {path: onWebhook("/Edit"), body: jsonBody(`{"isActive":false}`), may: globalAdmins},
	"POST /v1/{organizationId}/Webhooks/{webhookId}/RegenerateSecret": {path: onWebhook("/RegenerateSecret"), may: globalAdmins},
	"POST /v1/{organizationId}/Webhooks/{webhookId}/Delete":           {path: onWebhook("/Delete"), ok: 204, may: globalAdmins},
	"POST /v1/{organizationId}/Webhooks/{webhookId}/Test":             {path: onWebhook("/Test"), ok: 202, may: globalAdmins},
	"GET /v1/{organizationId}/Webhooks/{webhookId}/Deliveries":        {path: onWebhook("/Deliveries"), may: globalAdmins},
	"POST /v1/{organizationId}/Deliveries/{deliveryId}/Redeliver":     {path: onDelivery("/Redeliver"), ok: 202, may: globalAdmins},
	"GET /v1/{organizationId}/SigningRequests/{signingRequestId}/Deliveries": {
		path: onRequest("test-signing", "/Deliveries"), may: globalAdmins, hidden: noRequest,
	},

	"GET /v1/{organizationId}/AuditLog/Events":                   {path: fixed("/AuditLog/Events"), may: auditors, abroad: 200},
	"GET /v1/{organizationId}/AuditLog/SigningRequestEvents":     {path: fixed("/AuditLog/SigningRequestEvents"), may: auditors, abroad: 200},
	"GET /v1-pre/{organizationId}/AuditLog/SigningRequestEvents": {path: fixed("/AuditLog/SigningRequestEvents"), may: auditors, abroad: 200},
	"GET /v1/{organizationId}/AuditLog/Events/Export":            {path: fixed("/AuditLog/Events/Export"), may: auditors, abroad: 200},
	"GET /v1-pre/{organizationId}/AuditLog/Events":               {path: fixed("/AuditLog/Events"), may: auditors, abroad: 200},

	"POST /v1/{organizationId}/Projects": {path: fixed("/Projects"), body: jsonBody(`{"slug":"$NEW","name":"x"}`), ok: 201, may: projectAdmins, abroad: 201},
	"POST /v1/{organizationId}/Projects/{projectSlug}/Edit": {
		path: fixed("/Projects/demo/Edit"), body: jsonBody(`{"description":"x"}`), may: configurers, hidden: noProject,
	},
	"POST /v1/{organizationId}/Projects/{projectSlug}/Activate":   {path: fixed("/Projects/demo/Activate"), may: projectAdmins, hidden: noProject},
	"POST /v1/{organizationId}/Projects/{projectSlug}/Deactivate": {path: fixed("/Projects/demo/Deactivate"), may: projectAdmins, hidden: noProject},
	"POST /v1/{organizationId}/Projects/{projectSlug}/SetDefaultArtifactConfiguration": {
		path: fixed("/Projects/demo/SetDefaultArtifactConfiguration"), body: jsonBody(`{"artifactConfigurationSlug":"zip"}`), may: configurers, hidden: noProject,
	},
	"GET /v1/{organizationId}/Projects/{projectSlug}/TrustedBuildSystemLinks": {
		path: fixed("/Projects/demo/TrustedBuildSystemLinks"), may: systemSeers, hidden: noProject,
	},
	"POST /v1/{organizationId}/Projects/{projectSlug}/TrustedBuildSystemLinks": {
		path: fixed("/Projects/demo/TrustedBuildSystemLinks"), body: jsonBody(`{"trustedBuildSystemSlug":"jenkins"}`), may: projectAdmins, hidden: noProject,
	},
	"DELETE /v1/{organizationId}/Projects/{projectSlug}/TrustedBuildSystemLinks/{trustedBuildSystemSlug}": {
		path: onLink, may: projectAdmins, hidden: noProject,
	},
	"POST /v1/{organizationId}/Projects/{projectSlug}/ArtifactConfigurations": {
		path: fixed("/Projects/demo/ArtifactConfigurations"), ok: 201, may: configurers, hidden: noProject,
		body: jsonBody(`{"slug":"$NEW","name":"x","artifactConfigurationXml":"<artifact-configuration xmlns='http://signpath.io/artifact-configuration/v1'><pe-file><authenticode-sign/></pe-file></artifact-configuration>"}`),
	},
	"POST /v1/{organizationId}/Projects/{projectSlug}/ArtifactConfigurations/{artifactConfigurationSlug}/Edit": {
		path: fixed("/Projects/demo/ArtifactConfigurations/zip/Edit"), body: jsonBody(`{"description":"x"}`), may: configurers, hidden: noProject,
	},
	"POST /v1/{organizationId}/Projects/{projectSlug}/ArtifactConfigurations/{artifactConfigurationSlug}/EditXml": {
		path: fixed("/Projects/demo/ArtifactConfigurations/zip/EditXml"), may: configurers, hidden: noProject,
		body: jsonBody(`{"artifactConfigurationXml":"<artifact-configuration xmlns='http://signpath.io/artifact-configuration/v1'><pe-file><authenticode-sign/></pe-file></artifact-configuration>"}`),
	},
	"GET /v1/{organizationId}/Projects/{projectSlug}/ArtifactConfigurations/{artifactConfigurationSlug}/Versions": {
		path: fixed("/Projects/demo/ArtifactConfigurations/zip/Versions"), may: projectSeers, hidden: noProject,
	},
	"POST /v1/{organizationId}/Projects/{projectSlug}/ArtifactConfigurations/{artifactConfigurationSlug}/Activate": {
		path: fixed("/Projects/demo/ArtifactConfigurations/zip/Activate"), may: configurers, hidden: noProject,
	},
	"POST /v1/{organizationId}/Projects/{projectSlug}/ArtifactConfigurations/{artifactConfigurationSlug}/Deactivate": {
		path: fixed("/Projects/demo/ArtifactConfigurations/zip/Deactivate"), may: configurers, hidden: noProject,
	},
	"POST /v1/{organizationId}/Projects/{projectSlug}/SigningPolicies": {
		path: fixed("/Projects/demo/SigningPolicies"), ok: 201, may: projectAdmins, hidden: noProject,
		body: jsonBody(`{"slug":"$NEW","name":"x","certificateSlug":"test"}`),
	},
	"POST /v1/{organizationId}/Projects/{projectSlug}/SigningPolicies/{signingPolicySlug}/Edit": {
		path: fixed("/Projects/demo/SigningPolicies/verified/Edit"), body: jsonBody(`{"requiredApprovals":1}`), may: projectAdmins, hidden: noProject,
	},
	"POST /v1/{organizationId}/Projects/{projectSlug}/SigningPolicies/{signingPolicySlug}/Activate": {
		path: fixed("/Projects/demo/SigningPolicies/verified/Activate"), may: projectAdmins, hidden: noProject,
	},
	"POST /v1/{organizationId}/Projects/{projectSlug}/SigningPolicies/{signingPolicySlug}/Deactivate": {
		path: fixed("/Projects/demo/SigningPolicies/verified/Deactivate"), may: projectAdmins, hidden: noProject,
	},

	"POST /v1/{organizationId}/Certificates/{certificateSlug}/Edit":       {path: fixed("/Certificates/test/Edit"), body: jsonBody(`{"name":"x"}`), may: certAdmins},
	"POST /v1/{organizationId}/Certificates/{certificateSlug}/Activate":   {path: fixed("/Certificates/test/Activate"), may: certAdmins},
	"POST /v1/{organizationId}/Certificates/{certificateSlug}/Deactivate": {path: onCSR("/Deactivate"), may: certAdmins},
	"POST /v1/{organizationId}/Certificates/{certificateSlug}/DeletePrivateKey": {
		path: onDeactivated("/DeletePrivateKey"), may: certAdmins,
	},
	"POST /v1/{organizationId}/Certificates/{certificateSlug}/Delete": {path: onCSR("/Delete"), ok: 204, may: certAdmins},
}

// onDeactivated makes a certificate signing request and deactivates it.
func onDeactivated(suffix string) func(*testing.T, *world) string {
	return func(t *testing.T, w *world) string {
		path := onCSR("")(t, w)
		if _, err := w.signing.EditCertificate(t.Context(), w.people[globalAdmin].actor, strings.TrimPrefix(path, "/Certificates/"), signing.CertificateEdit{Active: ptr(false)}); err != nil {
			t.Fatal(err)
		}
		return path + suffix
	}
}

// onAwaited makes a request of the requester that waits for its artifact.
func onAwaited(suffix string) func(*testing.T, *world) string {
	return func(t *testing.T, w *world) string { return "/SigningRequests/" + w.awaited(t) + suffix }
}

func (w *world) awaited(t testing.TB) string {
	t.Helper()
	a := w.people[requester].actor
	a.Groups = []signing.ID{w.group}
	r, _, err := w.signing.Submit(t.Context(), a, signing.Submission{
		Target: signing.Target{ProjectSlug: "demo", PolicySlug: "test-signing"}, Upload: &signing.Upload{FileName: "app.exe"},
	})
	if err != nil {
		t.Fatal(err)
	}
	return string(r.ID)
}

// onUser makes a user of the kind.
func onUser(kind signing.UserKind, suffix string) func(*testing.T, *world) string {
	return func(t *testing.T, w *world) string {
		return "/" + string(kind) + "Users/" + w.newUser(t, kind) + suffix
	}
}

// newUser makes a user of the kind and returns its id.
func (w *world) newUser(t testing.TB, kind signing.UserKind) string {
	t.Helper()
	n := signing.NewUser{Kind: kind, Name: string(signing.NewID())}
	if kind == signing.Interactive {
		n.Email = n.Name + "@acme.example"
	}
	u, err := w.signing.CreateUser(t.Context(), w.people[globalAdmin].actor, n)
	if err != nil {
		t.Fatal(err)
	}
	return string(u.ID)
}

// onInvited makes a person and an invitation.
func onInvited(suffix string) func(*testing.T, *world) string {
	return func(t *testing.T, w *world) string {
		id := w.newUser(t, signing.Interactive)
		if _, _, err := w.auth.Invite(t.Context(), w.people[globalAdmin].actor, signing.ID(id)); err != nil {
			t.Fatal(err)
		}
		return "/InteractiveUsers/" + id + suffix
	}
}

// onSession makes a person who is signed in.
func onSession(t *testing.T, w *world) string {
	id := w.newUser(t, signing.Interactive)
	hash := auth.SessionHash(w.signIn(t, signing.ID(id)).Cookie)
	return fmt.Sprintf("/InteractiveUsers/%s/Sessions/%x/Revoke", id, hash)
}

// signIn signs somebody in, by an invitation.
func (w *world) signIn(t testing.TB, user signing.ID) auth.SignedIn {
	t.Helper()
	code, _, err := w.auth.Invite(t.Context(), w.people[globalAdmin].actor, user)
	if err != nil {
		t.Fatal(err)
	}
	in, err := w.auth.AcceptInvitation(t.Context(), code, auth.SignInSetup{Password: goodPassword}, auth.Client{Address: string(user), UserAgent: "Firefox"})
	if err != nil {
		t.Fatal(err)
	}
	return in
}

const goodPassword = "correct horse battery"

// onToken makes a user of the kind with an API token.
func onToken(kind signing.UserKind) func(*testing.T, *world) string {
	return func(t *testing.T, w *world) string {
		id := signing.ID(w.newUser(t, kind))
		by := w.people[globalAdmin].actor
		if kind == signing.Interactive {
			by = signing.Actor{OrganizationID: by.OrganizationID, UserID: id, Kind: kind}
		}
		_, record, err := w.auth.IssueToken(t.Context(), by, signing.UserToken, id, auth.TokenOptions{})
		if err != nil {
			t.Fatal(err)
		}
		return "/" + string(kind) + "Users/" + string(id) + "/ApiTokens/" + string(record.ID) + "/Revoke"
	}
}

// onGroup names the world's group.
func onGroup(suffix string) func(*testing.T, *world) string {
	return func(_ *testing.T, w *world) string { return "/UserGroups/" + string(w.group) + suffix }
}

// onNewGroup makes a group to delete.
func onNewGroup(t *testing.T, w *world) string {
	g, err := w.signing.CreateGroup(t.Context(), w.people[globalAdmin].actor, signing.GroupEdit{Name: ptr(string(signing.NewID())), Members: &[]signing.Subject{}})
	if err != nil {
		t.Fatal(err)
	}
	return "/UserGroups/" + string(g.ID) + "/Delete"
}

// onBuildSystem makes a trusted build system.
func onBuildSystem(suffix string) func(*testing.T, *world) string {
	return func(t *testing.T, w *world) string {
		slug := "tbs-" + string(signing.NewID())
		by := w.people[globalAdmin].actor
		s, err := w.signing.AddTrustedBuildSystem(t.Context(), by, signing.TrustedBuildSystemEdit{Slug: &slug, Name: &slug})
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := w.auth.IssueToken(t.Context(), by, signing.BuildSystemToken, s.ID, auth.TokenOptions{}); err != nil {
			t.Fatal(err)
		}
		return "/TrustedBuildSystems/" + slug + suffix
	}
}

// onWebhook makes a webhook.
func onWebhook(suffix string) func(*testing.T, *world) string {
	return func(t *testing.T, w *world) string { return "/Webhooks/" + string(w.newWebhook(t)) + suffix }
}

func (w *world) newWebhook(t testing.TB) signing.ID {
	t.Helper()
	hook, _, err := w.signing.CreateWebhook(t.Context(), w.people[globalAdmin].actor, signing.WebhookEdit{Name: ptr(string(signing.NewID())), URL: ptr("https://hooks.example")})
	if err != nil {
		t.Fatal(err)
	}
	return hook.ID
}

// onDelivery makes a webhook and tests it.
func onDelivery(suffix string) func(*testing.T, *world) string {
	return func(t *testing.T, w *world) string { return "/Deliveries/" + w.newDelivery(t) + suffix }
}

func (w *world) newDelivery(t testing.TB) string {
	t.Helper()
	d, err := w.signing.TestWebhook(t.Context(), w.people[globalAdmin].actor, w.newWebhook(t))
	if err != nil {
		t.Fatal(err)
	}
	return string(d.ID)
}

// onLink links the trusted build system again, should it not be.
func onLink(t *testing.T, w *world) string {
	by := w.people[globalAdmin].actor
	list, err := w.signing.TrustedBuildSystems(t.Context(), by)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.signing.EditProject(t.Context(), by, "demo", signing.ProjectEdit{TrustedBuildSystems: &[]signing.ID{list[0].ID}}); err != nil {
		t.Fatal(err)
	}
	return "/Projects/demo/TrustedBuildSystemLinks/JENKINS"
}
