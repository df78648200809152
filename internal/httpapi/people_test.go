package httpapi

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/countersign-dev/countersign/api"
	"github.com/countersign-dev/countersign/internal/auth"
	"github.com/countersign-dev/countersign/internal/signing"
)

// TestSessions: people see and end their own sessions, administrators of users those of others, strangers none.
func TestSessions(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	rita := w.people[regular].actor.UserID
	first := w.signIn(t, rita)
	var cookies []string
	for range 3 {
		in, _, err := w.auth.SignIn(t.Context(), "regular.user@acme.example", goodPassword, auth.Client{Address: "192.0.2.7:1234", UserAgent: "Chrome"})
		if err != nil {
			t.Fatal(err)
		}
		cookies = append(cookies, in.Cookie)
	}
	cookies = append([]string{first.Cookie}, cookies...)
	id := func(i int) string { return fmt.Sprintf("%x", auth.SessionHash(cookies[i])) }
	open := func() (n int) {
		for _, c := range cookies {
			if _, err := w.auth.Session(t.Context(), c); err == nil {
				n++
			}
		}
		return n
	}
	own := get[[]api.Session](t, w, regular, "/InteractiveUsers/Me/Sessions")
	if len(own) != 4 || own[0].SessionID != id(3) || own[0].Address != "192.0.2.7" || own[0].UserAgent != "Chrome" || own[0].CreatedAt.IsZero() ||
		own[0].LastSeenAt.IsZero() || own[0].ExpiresAt.Sub(own[0].CreatedAt) != 7*24*time.Hour {
		t.Errorf("%+v", own)
	}
	path := "/InteractiveUsers/" + string(rita)
	if seen := get[[]api.Session](t, w, userAdmin, path+"/Sessions"); !slices.Equal(seen, own) {
		t.Errorf("an administrator sees %+v", seen)
	}
	revoke := func(who, path string, want int) {
		t.Helper()
		if resp := w.as(t, who, "POST", path, body{}); resp.StatusCode != want {
			t.Errorf("%s %s: %d, want %d: %s", who, path, resp.StatusCode, want, readBody(t, resp))
		}
	}
	for _, who := range []string{globalReader, projectAdmin, approver, ciUser} {
		revoke(who, path+"/Sessions/"+id(1)+"/Revoke", http.StatusForbidden)
		revoke(who, path+"/RevokeSessions", http.StatusForbidden)
		wantProblem(t, w.as(t, who, "GET", path+"/Sessions", body{}), http.StatusForbidden)
	}
	revoke(approver, "/InteractiveUsers/me/Sessions/"+id(1)+"/Revoke", http.StatusNotFound) // somebody else's
	for _, odd := range []string{"x", strings.Repeat("0", 64), id(1)[1:], id(1) + "00", "..%2F"} {
		revoke(regular, "/InteractiveUsers/Me/Sessions/"+odd+"/Revoke", http.StatusNotFound)
	}
	revoke(ciUser, "/CIUsers/Me/RevokeSessions", http.StatusNotFound)          // no such route
	revoke(ciUser, "/InteractiveUsers/Me/RevokeSessions", http.StatusNotFound) // CI users do not sign in
	if n := open(); n != 4 {
		t.Fatalf("%d of 4 sessions after refusals", n)
	}
	revoke(regular, "/InteractiveUsers/ME/sessions/"+strings.ToUpper(id(1))+"/revoke", http.StatusNoContent)
	revoke(regular, path+"/Sessions/"+id(1)+"/Revoke", http.StatusNotFound)
	if _, err := w.auth.Session(t.Context(), cookies[1]); err == nil || open() != 3 {
		t.Errorf("the session goes on; %d are open", open())
	}
	w.refuse(t, regular, "/InteractiveUsers/Me/RevokeSessions", `{"exceptSessionId":"this one"}`, 400, "ExceptSessionId")
	if a := post[api.RevokedSessions](t, w, regular, "/InteractiveUsers/Me/RevokeSessions", `{"exceptSessionId":"`+id(2)+`"}`, 200); a.Revoked != 2 || open() != 1 {
		t.Errorf("all others: %+v, %d are open", a, open())
	}
	if _, err := w.auth.Session(t.Context(), cookies[2]); err != nil {
		t.Errorf("the session that was to stay: %v", err)
	}
	if a := decodeBody[api.RevokedSessions](t, w.as(t, userAdmin, "POST", path+"/RevokeSessions", body{}), 200); a.Revoked != 1 || open() != 0 {
		t.Errorf("all: %+v, %d are open", a, open())
	}
	if a := decodeBody[api.RevokedSessions](t, w.as(t, userAdmin, "POST", path+"/RevokeSessions", body{}), 200); a.Revoked != 0 {
		t.Errorf("none is left: %+v", a)
	}
	events := get[api.AuditEventPage](t, w, globalAdmin, "/AuditLog/Events?event=User.SessionRevoked")
	var by []string
	for _, e := range events.Items {
		by = append(by, fmt.Sprintf("%s: %s", e.Metadata.Actor.Name, e.Data))
		if e.Object.ID != string(rita) {
			t.Errorf("%+v", e)
		}
	}
	if want := []string{userAdmin + `: {"count":1}`, regular + `: {"count":2}`, regular + `: {"count":1}`}; !slices.Equal(by, want) {
		t.Errorf("audit log %q, want %q", by, want)
	}
	for _, c := range cookies {
		if strings.Contains(w.logs.String(), c) {
			t.Error("a cookie is in the log")
		}
	}
}

// TestDeactivationEndsSessions: who is deactivated is out at once, and is not in again when she is activated.
func TestDeactivationEndsSessions(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	invited := post[api.InvitedUser](t, w, userAdmin, "/InteractiveUsers", `{"name":"Eve","email":"eve@acme.example"}`, 201)
	in := w.signIn(t, signing.ID(invited.UserID))
	path := "/InteractiveUsers/" + invited.UserID
	again := post[api.InvitedUser](t, w, userAdmin, path+"/Reinvite", `{}`, 200)
	_, code, _ := strings.Cut(again.InvitationLink, "/Web/Invitation/")
	if _, err := w.auth.Session(t.Context(), in.Cookie); err != nil {
		t.Fatal(err)
	}
	for _, step := range []string{"/Deactivate", "/Activate"} {
		post[api.InteractiveUser](t, w, userAdmin, path+step, `{}`, 200)
		if _, err := w.auth.Session(t.Context(), in.Cookie); signing.KindOf(err) != signing.KindUnauthenticated {
			t.Errorf("after %s the session: %v", step, err)
		}
		if _, err := w.auth.Invitation(t.Context(), code); signing.KindOf(err) != signing.KindUnauthenticated {
			t.Errorf("after %s the invitation: %v", step, err)
		}
	}
	if _, _, err := w.auth.SignIn(t.Context(), "eve@acme.example", goodPassword, auth.Client{}); err != nil {
		t.Errorf("activated, she may not sign in: %v", err)
	}
}

// TestRevokeInvitation: a link that went astray opens nothing any more.
func TestRevokeInvitation(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	invited := post[api.InvitedUser](t, w, userAdmin, "/InteractiveUsers", `{"name":"Eve","email":"eve@acme.example"}`, 201)
	_, code, _ := strings.Cut(invited.InvitationLink, "/Web/Invitation/")
	path := "/InteractiveUsers/" + invited.UserID + "/RevokeInvitation"
	if resp := w.as(t, userAdmin, "POST", path, body{}); resp.StatusCode != http.StatusNoContent {
		t.Errorf("%d", resp.StatusCode)
	}
	if _, err := w.auth.AcceptInvitation(t.Context(), code, auth.SignInSetup{Password: goodPassword}, auth.Client{}); signing.KindOf(err) != signing.KindUnauthenticated {
		t.Errorf("accepted: %v", err)
	}
	if p := wantProblem(t, w.as(t, userAdmin, "POST", path, body{}), http.StatusConflict); !strings.Contains(p.Detail, "no open invitation") {
		t.Errorf("%+v", p)
	}
}

// TestTokensAreListed: what is known of tokens is shown, the tokens are not.
func TestTokensAreListed(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	expires := time.Now().Add(90 * 24 * time.Hour).UTC().Truncate(time.Second)
	w.refuse(t, userAdmin, "/CIUsers", `{"name":"late","apiTokenExpiresAt":"2001-01-01T00:00:00Z"}`, 400, "ApiTokenExpiresAt")
	for _, odd := range []string{`"tomorrow"`, `""`, `7`, `{"a":"b"}`, `["2027-01-01T00:00:00Z"]`, `"2026-13-01T00:00:00Z"`, `"2026-01-01"`} {
		w.refuse(t, userAdmin, "/CIUsers", `{"roles":[],"description":"apiTokenExpiresAt","name":"late","APITokenExpiresAt":`+odd+`}`, 400, "ApiTokenExpiresAt")
	}
	w.refuse(t, userAdmin, "/CIUsers", `{"name":"a\u0000b"}`, 400, "Name")
	ci := post[api.CreatedCIUser](t, w, userAdmin, "/CIUsers", `{"name":"builder","apiTokenExpiresAt":"`+expires.Format(time.RFC3339)+`"}`, 201)
	path := "/CIUsers/" + ci.UserID + "/ApiTokens"
	list := get[[]api.APIToken](t, w, globalReader, path)
	if len(list) != 1 || !list[0].ExpiresAt.Equal(expires) || !ci.APITokenExpiresAt.Equal(expires) || !list[0].IsUsable || list[0].Prefix != ci.APIToken[:8] || !list[0].LastUsedAt.IsZero() {
		t.Errorf("%+v of %+v", list, ci)
	}
	works := func(token string) bool {
		return w.send(t, "Bearer "+token, "GET", "/Api/v1/"+w.org+"/CIUsers/Me/ApiTokens", body{}).StatusCode == 200
	}
	if !works(ci.APIToken) {
		t.Fatal("the token does not work")
	}
	// One that replaces it is valid as long again.
	second := post[api.IssuedToken](t, w, userAdmin, "/CIUsers/"+ci.UserID+"/RegenerateApiToken", `{}`, 200)
	if d := second.ExpiresAt.Sub(expires); d < 0 || d > time.Minute {
		t.Errorf("the new token expires %s after the old one", d)
	}
	list = get[[]api.APIToken](t, w, userAdmin, path)
	if len(list) != 2 || list[1].RevokedAt.IsZero() || list[1].IsUsable || !list[0].IsUsable {
		t.Errorf("%+v", list)
	}
	for _, text := range []string{ci.APIToken, second.APIToken} {
		if strings.Contains(readBody(t, w.as(t, globalAdmin, "GET", path, body{})), text) {
			t.Error("a token is listed")
		}
	}
	if resp := w.as(t, userAdmin, "POST", path+"/"+list[0].APITokenID+"/Revoke", body{}); resp.StatusCode != http.StatusNoContent || works(second.APIToken) {
		t.Errorf("revoking: %d", resp.StatusCode)
	}
	wantProblem(t, w.as(t, userAdmin, "POST", path+"/7/Revoke", body{}), 404)
	wantProblem(t, w.as(t, userAdmin, "POST", path+"/"+string(signing.NewID())+"/Revoke", body{}), 404)
	wantProblem(t, w.as(t, userAdmin, "POST", "/InteractiveUsers/Me/ApiTokens/"+list[0].APITokenID+"/Revoke", body{}), 404) // another's
	mine := get[[]api.APIToken](t, w, regular, "/InteractiveUsers/Me/ApiTokens")
	if len(mine) != 1 || mine[0].Prefix != w.people[regular].token[:8] {
		t.Errorf("%+v", mine)
	}
	if resp := w.as(t, regular, "POST", "/InteractiveUsers/Me/ApiTokens/"+mine[0].APITokenID+"/Revoke", body{}); resp.StatusCode != http.StatusNoContent {
		t.Errorf("revoking one's own: %d", resp.StatusCode)
	}
	wantProblem(t, w.as(t, regular, "GET", "/InteractiveUsers/Me", body{}), 401)
}

// TestMembersAtTheSameTime: of many who add members at the same time each has her way.
func TestMembersAtTheSameTime(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	g := post[api.UserGroup](t, w, userAdmin, "/UserGroups", `{"name":"g"}`, 201)
	var all sync.WaitGroup
	for _, who := range members {
		id := string(w.people[who].actor.UserID)
		all.Go(func() {
			resp := w.as(t, userAdmin, "POST", "/UserGroups/"+g.UserGroupID+"/ModifyMembers", jsonBody(`{"add":[{"kind":"user","id":"`+id+`"}]}`))
			if resp.StatusCode != 200 {
				t.Errorf("%d", resp.StatusCode)
			}
		})
	}
	all.Wait()
	if g := get[api.UserGroup](t, w, userAdmin, "/UserGroups/"+g.UserGroupID); len(g.Members) != len(members) {
		t.Errorf("%d members of %d", len(g.Members), len(members))
	}
}

// TestLastAdministratorAtTheSameTime: of two administrators who take each other's role, one stays.
func TestLastAdministratorAtTheSameTime(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ci := post[api.CreatedCIUser](t, w, globalAdmin, "/CIUsers", `{"name":"second","roles":["GlobalAdministrator"]}`, 201)
	first := "/InteractiveUsers/" + string(w.people[globalAdmin].actor.UserID)
	second := "/CIUsers/" + ci.UserID
	results := make(chan int)
	for _, c := range []struct{ token, path, body string }{
		{ci.APIToken, first + "/Edit", `{"roles":[]}`}, {w.people[globalAdmin].token, second + "/Edit", `{"roles":[]}`},
		{ci.APIToken, first + "/Deactivate", `{"evenIfInUse":true}`}, {w.people[globalAdmin].token, second + "/Deactivate", `{"evenIfInUse":true}`},
	} {
		go func() {
			results <- w.send(t, "Bearer "+c.token, "POST", "/Api/v1/"+w.org+c.path, jsonBody(c.body)).StatusCode
		}()
	}
	for range 4 {
		if code := <-results; code >= 500 {
			t.Errorf("%d", code)
		}
	}
	users, err := w.signing.Users(t.Context(), signing.Actor{OrganizationID: signing.ID(w.org), UserID: "x", Roles: signing.Roles}, "")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, u := range users {
		if u.Active && slices.Contains(u.Roles, signing.GlobalAdministrator) {
			n++
		}
	}
	if n != 1 {
		t.Errorf("%d administrators are left", n)
	}
}
