package web

import (
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/countersign-dev/countersign/internal/signing"
)

// scene is a world in which something of every kind exists.
type scene struct {
	*world
	done, resubmitted, waiting, failed, denied, canceled *signing.Request
	webhook                                              *signing.Webhook
}

func newScene(t *testing.T, w *world, change ...func(*signing.Submission)) *scene {
	t.Helper()
	ctx := t.Context()
	s := &scene{world: w}
	s.done = w.request(t, w.Sam, w.Test, change...)
	if s.done.Workflow != signing.WorkflowCompleted {
		t.Fatalf("the example ended as %s: %+v", s.done.Workflow, s.done.Failure)
	}
	var err error
	if s.resubmitted, err = w.Resubmit(ctx, w.Sam, signing.Resubmission{OriginalID: s.done.ID, PolicyID: w.Release.ID}); err != nil {
		t.Fatal(err)
	}
	s.resubmitted = w.advance(t, s.resubmitted.ID)
	s.waiting = w.request(t, w.CI, w.Verified, append(change, func(sub *signing.Submission) {
		sub.Origin = &signing.Origin{
			RepositoryURL: "https://github.com/acme/app", SourceControlType: "git", BranchName: "release/3",
			CommitID: "8d1f3e0c5a6b7c8d9e0f1a2b3c4d5e6f7a8b9c0d", BuildURL: "https://ci.acme.example/job/42",
		}
	})...)
	s.failed = w.request(t, w.CI, w.Verified, append(change, func(sub *signing.Submission) {
		sub.Origin = &signing.Origin{RepositoryURL: "https://github.com/evil/fork", BranchName: "feature/x"}
	})...)
	s.denied = w.request(t, w.Sam, w.Release, change...)
	if s.denied, err = w.Deny(ctx, w.Rita, s.denied.ID, "The version number is wrong."); err != nil {
		t.Fatal(err)
	}
	s.canceled = w.request(t, w.Sam, w.Release, change...)
	if s.canceled, err = w.Cancel(ctx, w.Sam, s.canceled.ID, ""); err != nil {
		t.Fatal(err)
	}
	s.webhook = w.troubledWebhook(t)
	return s
}

// pages are the addresses of every page of the organization, by name.
func (s *scene) pages() map[string]string {
	return map[string]string{
		"dashboard":       s.path(),
		"submit":          s.path("Submit"),
		"submit-chosen":   s.path("Submit") + "?policy=" + string(s.Test.ID),
		"submit-several":  s.path("Submit") + "?policy=" + string(s.Release.ID) + "&configuration=zip",
		"requests":        s.path("SigningRequests"),
		"requests-none":   s.path("SigningRequests") + "?file=nothing-has-this-name",
		"request-done":    s.requestPath(s.done.ID),
		"request-waiting": s.requestPath(s.resubmitted.ID),
		"request-origin":  s.requestPath(s.waiting.ID),
		"request-failed":  s.requestPath(s.failed.ID),
		"request-denied":  s.requestPath(s.denied.ID),
		"request-cancel":  s.requestPath(s.canceled.ID),
		"report-done":     s.requestPath(s.done.ID, "Report"),
		"report-waiting":  s.requestPath(s.waiting.ID, "Report"),
		"report-failed":   s.requestPath(s.failed.ID, "Report"),
		"report-denied":   s.requestPath(s.denied.ID, "Report"),
		"approve":         s.requestPath(s.resubmitted.ID, "Approve"),
		"deny":            s.requestPath(s.resubmitted.ID, "Deny"),
		"cancel":          s.requestPath(s.resubmitted.ID, "Cancel"),
		"resubmit":        s.requestPath(s.done.ID, "Resubmit"),
		"projects":        s.path("Projects"),
		"project":         s.path("Projects", "app"),
		"policy":          s.path("Projects", "app", "SigningPolicies", "release-signing"),
		"policy-verified": s.path("Projects", "app", "SigningPolicies", "release-verified"),
		"account":         s.path("Account"),
		"webhooks":        s.path("Webhooks"),
		"webhook-new":     s.path("Webhooks", "New"),
		"webhook":         s.path("Webhooks", string(s.webhook.ID)),
		"webhook-edit":    s.path("Webhooks", string(s.webhook.ID), "Edit"),
		"webhook-delete":  s.path("Webhooks", string(s.webhook.ID), "Delete"),
		"not-found":       s.path("Nonsense"),
	}
}

// TestEveryPageForEveryUser looks at each page as each kind of user: the answer is the one that the permissions want, and
// its structure is sound.
func TestEveryPageForEveryUser(t *testing.T) {
	t.Parallel()
	s := newScene(t, newWorld(t))
	own := []string{"dashboard", "submit", "submit-chosen", "submit-several", "requests", "requests-none", "projects", "account"}
	requests := []string{"request-done", "request-waiting", "request-origin", "request-failed", "request-denied", "request-cancel", "report-done", "report-waiting", "report-failed", "report-denied"}
	of := slices.Concat[[]string]
	project := of(own, requests, []string{"project", "policy", "policy-verified"})
	webhooks := []string{"webhooks", "webhook-new", "webhook", "webhook-edit", "webhook-delete"}
	tests := []struct {
		who   string
		actor signing.Actor
		ok    []string // status 200
		no    []string // status 409: the page of an action that this user cannot take
	}{
		{"administrator", s.Ada, of(project, webhooks, []string{"cancel"}), []string{"approve", "deny", "resubmit"}},
		{"submitter", s.Sam, of(project, []string{"cancel", "resubmit"}), []string{"approve", "deny"}},
		{"approver", s.Rita, of(project, []string{"approve", "deny"}), []string{"cancel", "resubmit"}},
		{"reader", s.Rob, project, []string{"approve", "deny", "cancel", "resubmit"}},
		{"stranger", s.Stan, own, nil},
	}
	for _, test := range tests {
		b := s.browser(t, test.actor)
		for name, path := range s.pages() {
			want := http.StatusNotFound
			switch {
			case slices.Contains(test.ok, name):
				want = http.StatusOK
			case slices.Contains(test.no, name):
				want = http.StatusConflict
			case slices.Contains(webhooks, name):
				want = http.StatusForbidden
			}
			got := b.get(t, path)
			if got.StatusCode != want {
				t.Errorf("%s sees %s with status %d, want %d", test.who, name, got.StatusCode, want)
			}
			checkPage(t, got)
		}
	}
	foreigner, nobody := s.browser(t, s.Uwe), s.browser(t, signing.Actor{})
	for name, path := range s.pages() {
		got := foreigner.get(t, path).wantNoText(t, "setup.exe", "Acme")
		if got.StatusCode != http.StatusForbidden && name != "not-found" {
			t.Errorf("another organization sees %s with status %d", name, got.StatusCode)
		}
		checkPage(t, got)
		if name != "not-found" {
			nobody.get(t, path).wantRedirect(t, withQuery("/Web/SignIn", "return", path))
		}
	}
	checkPage(t, nobody.get(t, "/Web/SignIn").wantStatus(t, http.StatusOK))
	nobody.get(t, "/").wantRedirect(t, "/Web/SignIn")
	s.browser(t, s.Sam).get(t, "/web").wantRedirect(t, s.path())
}

func TestRequestPage(t *testing.T) {
	t.Parallel()
	s := newScene(t, newWorld(t))
	sam, rita, rob := s.browser(t, s.Sam), s.browser(t, s.Rita), s.browser(t, s.Rob)
	sam.get(t, s.requestPath(s.done.ID)).wantText(t,
		"Completed", "setup.exe", "Candidate 3", "Signed artifact", "authenticode-sign", "1 signature made", "Resubmit",
		"Release signing", "Same artifact", "Parameter version", "1.0", "Test certificate", "Sam Submitter").
		wantNoText(t, "Approve", "Cancel")
	sam.get(t, s.requestPath(s.resubmitted.ID)).wantText(t, "Waiting for approval", "The original", "Nobody has decided yet", "0 of 1", "Cancel").
		wantNoText(t, "Deny", "Signed artifact", "Resubmit ")
	rita.get(t, s.requestPath(s.resubmitted.ID)).wantText(t, "Approve", "Deny")
	rob.get(t, s.requestPath(s.resubmitted.ID)).wantNoText(t, "Approve ", "Deny", "Cancel", "Resubmit ")
	rita.get(t, s.requestPath(s.waiting.ID)).wantText(t,
		"https://github.com/acme/app", "release/3", "8d1f3e0c5a6b", "https://ci.acme.example/job/42", "Trusted build system",
		"main, release/*", "passed", "The branch is allowed by the signing policy.")
	sam.get(t, s.requestPath(s.failed.ID)).wantText(t,
		"Failed", "The signing policy refuses the request", "What would make it pass:", "add this repository to the project",
		"feature/x", "https://github.com/evil/fork")
	sam.get(t, s.requestPath(s.denied.ID)).wantText(t, "Denied", "Rita Release denied the request: The version number is wrong.")
	sam.get(t, s.requestPath(s.canceled.ID)).wantText(t, "Canceled", "Submitted by Sam Submitter")
	// The address may be spelled in any case, as the rest of the wire contract.
	sam.get(t, strings.ToLower(s.requestPath(s.done.ID))).wantStatus(t, http.StatusOK)
	sam.get(t, s.requestPath(signing.NewID())).wantStatus(t, http.StatusNotFound)
	sam.get(t, s.requestPath("nonsense")).wantStatus(t, http.StatusNotFound)
}

func TestDashboardAndList(t *testing.T) {
	t.Parallel()
	s := newScene(t, newWorld(t))
	sam, rita, stan := s.browser(t, s.Sam), s.browser(t, s.Rita), s.browser(t, s.Stan)
	rita.get(t, s.path()).wantText(t, "Waiting for your approval", "Release with verified origin", "You have not submitted anything yet", "No signing policy is open to you")
	sam.get(t, s.path()).wantText(t, "Nothing is waiting for you", "Acme App / Test signing").wantNoText(t, "Acme App / Release with verified origin")
	stan.get(t, s.path()).wantNoText(t, "setup.exe", "Acme App")
	list := s.path("SigningRequests")
	tests := []struct {
		b     *browser
		query string
		want  []string // descriptions of states that appear as rows
		rows  int
	}{
		{sam, "", nil, 6},
		{sam, "?mine=on", nil, 4},
		{sam, "?status=Completed", []string{"Completed"}, 1},
		{sam, "?status=Nonsense", nil, 6},
		{sam, "?project=app", nil, 6},
		{sam, "?project=app/release-signing", nil, 3},
		{sam, "?file=SETUP", nil, 6},
		{sam, "?file=%25", nil, 0},
		{sam, "?waiting=on", nil, 0},
		{rita, "?waiting=on", []string{"Waiting for approval"}, 2},
		{sam, "?after=" + string(s.denied.ID), nil, 4},
		{stan, "", nil, 0},
	}
	for _, test := range tests {
		got := test.b.get(t, list+test.query).wantStatus(t, http.StatusOK).wantText(t, test.want...)
		rows := 0
		for _, link := range got.links(t) {
			if strings.HasPrefix(link, list+"/") {
				rows++
			}
		}
		if rows != test.rows {
			t.Errorf("%s lists %d requests, want %d", test.query, rows, test.rows)
		}
	}
	sam.get(t, list+"?project=nonsense").wantStatus(t, http.StatusUnprocessableEntity).wantText(t, "There is no project with slug 'nonsense'.")
}

func TestListPages(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for range listRows + 3 {
		w.request(t, w.Sam, w.Release)
	}
	sam := w.browser(t, w.Sam)
	seen := map[string]bool{}
	for next := w.path("SigningRequests") + "?mine=on"; next != ""; {
		page := sam.get(t, next).wantStatus(t, http.StatusOK)
		next = ""
		for _, link := range page.links(t) {
			switch {
			case strings.HasPrefix(link, w.path("SigningRequests")+"/"):
				seen[link] = true
			case strings.Contains(link, "after="):
				next = link
			}
		}
	}
	if len(seen) != listRows+3 {
		t.Errorf("paging shows %d different requests, want %d", len(seen), listRows+3)
	}
}

func TestProjectAndPolicyPages(t *testing.T) {
	t.Parallel()
	s := newScene(t, newWorld(t))
	sam, ada := s.browser(t, s.Sam), s.browser(t, s.Ada)
	sam.get(t, s.path("Projects")).wantText(t, "Acme App", "3 signing policies · 2 artifact configurations")
	sam.get(t, s.path("Projects", "APP")).wantText(t, "Windows program", "Default", "https://github.com/acme/app", "1 user or group", "You may submit")
	ada.get(t, s.path("Projects", "app")).wantText(t, "Rob Reader").wantNoText(t, "You may submit")
	policy := s.path("Projects", "app", "SigningPolicies", "release-signing")
	org := string(s.Ada.OrganizationID)
	sam.get(t, policy).wantText(t,
		"1 approval, not by the submitter", "Release certificate 2026", "CN=Release certificate 2026", "ECDSA-P256", "Sam Submitter (you)",
		"projectSlug=app", "signingPolicySlug=release-signing", s.server.URL+"/Api/v1/"+org+"/SigningRequests/SubmitWithArtifact",
		"--project app --policy release-signing", "COUNTERSIGN_ORGANIZATION="+org,
		"-OrganizationId '"+org+"' -ProjectSlug 'app' -SigningPolicySlug 'release-signing'")
	sam.get(t, s.path("Projects", "app", "SigningPolicies", "release-verified")).wantText(t, "main, release/*", "Only trusted build systems", "$API_TOKEN:$BUILD_SYSTEM_TOKEN", "--origin-branch").
		wantNoText(t, "Submit to this policy")
	sam.get(t, s.path("Projects", "app", "SigningPolicies", "nonsense")).wantStatus(t, http.StatusNotFound)
}

// attack is put wherever people or artifacts bring text.
const attack = `"><script>alert(1)</script><img src=x onerror=alert(2)>'{{7*7}}${7*7}</textarea></title>javascript:alert(3)&amp;`

// TestHostileText puts markup into everything that others name, and finds it as text on the pages.
func TestHostileText(t *testing.T) {
	t.Parallel()
	w := hostile.open(t, seedNames{
		organization: "Org " + attack, project: "P " + attack, policy: "Policy " + attack, configuration: "C " + attack,
		description: "D " + attack, user: "U " + attack,
	})
	ctx := t.Context()
	change := func(sub *signing.Submission) {
		st, err := w.Stage(ctx, w.Sam, `evil"><script>alert(1)<script><img src=x onerror=alert(2)>.exe`, strings.NewReader(string(examplePE)))
		if err != nil {
			t.Fatal(err)
		}
		sub.Artifact, sub.Description, sub.Parameters = st, "Text "+attack, map[string]string{"version": attack}
	}
	s := newScene(t, w, change)
	odd := w.request(t, w.CI, w.Verified, change, func(sub *signing.Submission) {
		sub.Origin = &signing.Origin{RepositoryURL: "javascript:alert(1)//" + attack, BranchName: "b " + attack, CommitID: "c " + attack, BuildURL: "https://ci.example/" + attack}
	})
	undecided := w.request(t, w.Sam, w.Release, change)
	if _, err := w.Deny(ctx, w.Rita, undecided.ID, "Comment "+attack); err != nil {
		t.Fatal(err)
	}
	pages := s.pages()
	pages["odd-origin"] = s.requestPath(odd.ID)
	pages["denied-comment"] = s.requestPath(undecided.ID)
	pages["odd-report"] = s.requestPath(odd.ID, "Report")
	pages["denied-report"] = s.requestPath(undecided.ID, "Report")
	pages["searched"] = s.path("SigningRequests") + "?file=" + url.QueryEscape(attack) + "&project=" + url.QueryEscape(attack)
	pages["submit-typed"] = s.path("Submit") + "?policy=" + string(s.Test.ID) + "&description=" + url.QueryEscape(attack) + "&parameters.version=" + url.QueryEscape(attack)
	pages["account-done"] = s.path("Account") + "?done=" + url.QueryEscape(attack)
	for _, actor := range []signing.Actor{s.Ada, s.Sam, s.Rita, s.Rob} {
		b := s.browser(t, actor)
		for _, name := range slices.Sorted(maps.Keys(pages)) {
			got := b.get(t, pages[name])
			if got.StatusCode >= 500 {
				t.Errorf("%s: status %d", name, got.StatusCode)
			}
			checkPage(t, got)
			root := got.dom(t)
			if n := len(elements(root, "script")); n > 2 {
				t.Errorf("%s has %d scripts", name, n)
			}
			if n := len(elements(root, "img")); n > 0 {
				t.Errorf("%s has %d pictures, of which no page has any", name, n)
			}
		}
	}
	everyPage(t, pages)
	b := s.browser(t, s.Sam)
	b.get(t, s.requestPath(odd.ID)).wantText(t, "javascript:alert(1)//", "b "+attack)
	b.get(t, s.requestPath(undecided.ID)).wantText(t, "Comment "+attack, "Policy "+attack, "P "+attack)
	b.get(t, "/Web/SignIn?return="+url.QueryEscape("https://evil.example/")).wantRedirect(t, "/Web")
	invited, err := w.CreateUser(ctx, w.Ada, signing.NewUser{Kind: signing.Interactive, Name: "N " + attack, Email: "nina@acme.example"})
	if err != nil {
		t.Fatal(err)
	}
	code, _, err := w.auth.Invite(ctx, w.Ada, invited.ID)
	if err != nil {
		t.Fatal(err)
	}
	signIn := s.browser(t, signing.Actor{})
	checkPage(t, signIn.get(t, "/Web/Invitation/"+code).wantStatus(t, http.StatusOK).wantText(t, "N "+attack, "Org "+attack))
	failed := signIn.send(t, "/Web/SignIn", "/Web/SignIn", url.Values{"email": {attack}, "password": {attack}, "return": {"//evil.example"}})
	checkPage(t, failed.wantStatus(t, http.StatusUnauthorized))
	if got := failed.hidden(t, "return"); got != "/Web" {
		t.Errorf("the sign-in page leads to %q", got)
	}
	download := b.get(t, s.requestPath(s.done.ID, "SignedArtifact")).wantStatus(t, http.StatusOK)
	if got := download.Header.Get("Content-Disposition"); strings.ContainsAny(got, "<>\n") && !strings.HasPrefix(got, "attachment; filename=") {
		t.Errorf("Content-Disposition %q", got)
	}
}

// everyPage wants an example of each page that a signed-in user can open.
func everyPage(t *testing.T, pages map[string]string) {
	t.Helper()
	seen := map[string]bool{}
	for _, address := range pages {
		u, err := url.Parse(address)
		if err != nil {
			t.Fatal(err)
		}
		if rt, _, _ := find(http.MethodGet, u.Path); rt != nil {
			seen[strings.Join(rt.segments, "/")] = true
		}
	}
	for _, rt := range routes {
		last := rt.segments[len(rt.segments)-1]
		file := last == "Events" || strings.HasSuffix(last, "Artifact") || last == "BuildSettingsFile"
		if name := strings.Join(rt.segments, "/"); rt.method == http.MethodGet && rt.access == member && !file && !seen[name] {
			t.Errorf("no page is an example of /%s", name)
		}
	}
}

func TestReturnTo(t *testing.T) {
	t.Parallel()
	for _, prefix := range []string{"", "/sign"} {
		x := &exchange{site: &site{prefix: prefix}}
		tests := map[string]string{
			prefix + "/Web":                   prefix + "/Web",
			prefix + "/Web/a?b=c":             prefix + "/Web/a?b=c",
			prefix + "/Web?x":                 prefix + "/Web?x",
			prefix + "/Website":               prefix + "/Web",
			"//evil.example/Web":              prefix + "/Web",
			"https://evil.example/Web":        prefix + "/Web",
			prefix + "/Web/\\evil.example":    prefix + "/Web",
			prefix + "/Web/a\r\nSet-Cookie:":  prefix + "/Web",
			prefix + "/Web/" + longText(3000): prefix + "/Web",
			"":                                prefix + "/Web",
		}
		for given, want := range tests {
			if got := x.returnTo(given); got != want {
				t.Errorf("returnTo(%q) = %q, want %q", given, got, want)
			}
		}
	}
}

func longText(n int) string { return strings.Repeat("a", n) }

func TestWordsOfTime(t *testing.T) {
	t.Parallel()
	for n, want := range map[int64]string{0: "0 bytes", 1: "1 byte", 999: "999 bytes", 1000: "1.0 kB", 1536: "1.5 kB", 999_960: "1.0 MB", 4 << 30: "4.3 GB"} {
		if got := bytesText(n); got != want {
			t.Errorf("bytesText(%d) = %q, want %q", n, got, want)
		}
	}
	if got := spaced("QueuedForProcessing"); got != "Queued for processing" {
		t.Errorf("spaced: %q", got)
	}
	if got := fmt.Sprint(count(1, "file"), count(2, "file")); got != "1 file2 files" {
		t.Error(got)
	}
}

// TestUnknownPageKeepsForms: what a browser asks for besides the page, such as an icon, must not change the visitor that
// the page's forms belong to.
func TestUnknownPageKeepsForms(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	request := func(path, cookie string) *http.Response {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, w.server.URL+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		if cookie != "" {
			req.Header.Set("Cookie", cookie)
		}
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { res.Body.Close() })
		return res
	}
	visitor := request("/Web/SignIn", "").Cookies()
	if len(visitor) != 1 {
		t.Fatalf("the sign-in page set %d cookies", len(visitor))
	}
	for _, path := range []string{"/nothing-here", "/favicon.ico", "/Web/assets/x/y.css"} {
		if set := request(path, visitor[0].Name+"="+visitor[0].Value).Cookies(); len(set) > 0 {
			t.Errorf("%s set another cookie: %v", path, set)
		}
	}
}
