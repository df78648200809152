package httpapi

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"math/rand/v2"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"net/textproto"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"gopkg.in/yaml.v3"

	"github.com/countersign-dev/countersign/api"
	"github.com/countersign-dev/countersign/internal/signing"
)

// randomRequests is how many requests the generator sends.
const randomRequests = 10_000

// hostile are values that break careless programs.
var hostile = []string{
	"", " ", "ü", "a/b", "..", "%", "%00", "\x00", "\xff\xfe", "null", "true", "-1", "0", "1.5", "99999999999999999999", "\r\nX: y",
	"<script>alert(1)</script>", "'; DROP TABLE users; --", "\u202eexe.gpj", "${x}", "{{7*7}}", "../../etc/passwd", `\\server\share`,
	"😀", strings.Repeat("a", 300), strings.Repeat("x", 5000), "2026-13-99T99:99:99Z", "00000000-0000-0000-0000-000000000000", "[", "{}", "*",
}

// generator makes requests from the contract: mostly near to what it says, never far from breaking it.
type generator struct {
	*rand.Rand
	document map[string]any
	routes   []generatedRoute
	requests []string // ids of signing requests
	awaited  []string // ids of requests that wait for their artifact
	users    []string // ids of users
	hooks    []string // ids of webhooks
	messages []string // ids of deliveries
	spares   []string // slugs of certificates that nothing uses
	group    string
	ids      []string // of everything
	wild     bool     // this request breaks rules; the others only vary what they allow
}

// slugs are those of the world's objects, by the last word of what they name.
var slugs = map[string][]string{
	"projectslug": {"demo", "DEMO"}, "signingpolicyslug": {"test-signing", "release-signing", "Test-Signing", "verified"}, "certificateslug": {"test", "release"},
	"artifactconfigurationslug": {"exe", "EXE", "zip"}, "defaultartifactconfigurationslug": {"exe"}, "trustedbuildsystemslug": {"jenkins"},
	"kind": {"User"}, "notificationlevel": {"All", "none"}, "notifications": {"Default", "all"},
}

type generatedRoute struct {
	method, path string
	operation    map[string]any
	parameters   []map[string]any
}

func newGenerator(t testing.TB, w *world, seed uint64) *generator {
	g := &generator{Rand: rand.New(rand.NewPCG(seed, 1))}
	if err := yaml.Unmarshal(api.OpenAPI, &g.document); err != nil {
		t.Fatal(err)
	}
	for path, item := range g.document["paths"].(map[string]any) {
		shared := g.list(item.(map[string]any)["parameters"])
		for method, operation := range item.(map[string]any) {
			if op, ok := operation.(map[string]any); ok {
				g.routes = append(g.routes, generatedRoute{strings.ToUpper(method), path, op, append(g.list(op["parameters"]), shared...)})
			}
		}
	}
	slices.SortFunc(g.routes, func(a, b generatedRoute) int { return strings.Compare(a.method+a.path, b.method+b.path) })
	g.settle(t, w)
	return g
}

// settle takes the ids that a world has.
func (g *generator) settle(t testing.TB, w *world) {
	g.requests, g.awaited, g.users = nil, nil, nil
	g.ids = []string{w.policyID(t, "test-signing"), w.policyID(t, "release-signing")}
	for _, policy := range []string{"test-signing", "release-signing"} {
		for range 3 {
			g.requests = append(g.requests, string(w.advanced(t, policy)))
			g.awaited = append(g.awaited, w.awaited(t))
		}
	}
	// Users that may be changed: the others send the requests.
	for _, kind := range []signing.UserKind{signing.Interactive, signing.CI} {
		for range 2 {
			g.users = append(g.users, w.newUser(t, kind))
		}
	}
	g.hooks, g.messages = nil, nil
	for range 10 {
		g.hooks = append(g.hooks, string(w.newWebhook(t)))
		g.messages = append(g.messages, w.newDelivery(t)) // to webhooks that nobody deletes
	}
	g.group = string(w.group)
	g.spares = nil
	for i := range 5 {
		slug := "spare-" + strconv.Itoa(i)
		post[api.Certificate](t, w, certificateAdmin, "/Certificates/CreateSelfSignedX509",
			`{"slug":"`+slug+`","subject":{"commonName":"spare"},"keyAlgorithm":"ECDSA-P256"}`, http.StatusCreated)
		if i%2 == 0 { // the keys of the others stay
			post[api.Certificate](t, w, certificateAdmin, "/Certificates/"+slug+"/Deactivate", `{}`, http.StatusOK)
		}
		g.spares = append(g.spares, slug)
	}
}

func (g *generator) list(v any) []map[string]any {
	var out []map[string]any
	items, _ := v.([]any)
	for _, item := range items {
		out = append(out, g.resolve(item))
	}
	return out
}

// resolve follows a reference.
func (g *generator) resolve(v any) map[string]any {
	m, _ := v.(map[string]any)
	ref, ok := m["$ref"].(string)
	if !ok {
		return m
	}
	var at any = g.document
	for _, key := range strings.Split(strings.TrimPrefix(ref, "#/"), "/") {
		at = at.(map[string]any)[key]
	}
	return g.resolve(at)
}

func pick[T any](g *generator, list []T) T { return list[g.IntN(len(list))] }

// chance is true once in n times.
func (g *generator) chance(n int) bool { return g.IntN(n) == 0 }

// text makes a value for a text of that name and schema.
func (g *generator) text(name string, schema map[string]any) string {
	if g.wild && g.chance(6) {
		return pick(g, hostile)
	}
	lower := strings.ToLower(name)
	enum, _ := schema["enum"].([]any)
	switch {
	case lower == "signingrequestid", lower == "originalsigningrequestid", lower == "cursor":
		return pick(g, g.requests)
	case lower == "userid":
		return pick(g, g.users)
	case lower == "webhookid":
		return pick(g, g.hooks)
	case lower == "deliveryid":
		return pick(g, g.messages)
	case lower == "headername":
		return "X-Token"
	case lower == "headervalue":
		return "secret"
	case lower == "groupid":
		return g.group
	case strings.HasSuffix(lower, "sha256hash"):
		return pick(g, []string{"", exampleHash})
	case lower == "email":
		return "user" + strconv.Itoa(g.IntN(1e6)) + "@acme.example"
	case lower == "name":
		return "Name " + strconv.Itoa(g.IntN(1e6))
	case lower == "expiresat":
		return "2090-01-01T00:00:00Z"
	case lower == "version": // of what was edited: 1 mostly is not the current one
		return "0"
	case lower == "certificateslug" && g.chance(3):
		return pick(g, g.spares)
	case slugs[lower] != nil:
		return pick(g, slugs[lower])
	case lower == "id" && !g.wild: // of a subject
		return pick(g, g.users)
	case lower == "slug":
		return "slug-" + strconv.Itoa(g.IntN(1e6))
	case lower == "keyalgorithm":
		return "ECDSA-P256" // others cost the test its time
	case len(enum) > 0:
		value, _ := pick(g, enum).(string)
		return value
	case schema["format"] == "uuid":
		return pick(g, g.ids)
	case schema["format"] == "date-time":
		return time.Unix(g.Int64N(4e9), 0).UTC().Format(time.RFC3339)
	case schema["type"] == "integer":
		return strconv.Itoa(g.IntN(40))
	case schema["type"] == "boolean":
		return strconv.FormatBool(g.chance(2))
	case strings.HasSuffix(lower, "xml"):
		return pick(g, []string{exeConfiguration, zipConfiguration, "<a/>"})
	case strings.HasSuffix(lower, "url"), lower == "repositories":
		return pick(g, []string{"https://github.com/acme/app", "https://ci.example/1", "git@github.com:acme/app.git"})
	}
	return "text " + strconv.Itoa(g.IntN(1000))
}

// value makes a JSON value.
func (g *generator) value(name string, schema map[string]any, depth int) any {
	if g.wild && g.chance(25) || depth > 6 {
		return pick(g, []any{nil, 1, -1, 1e300, true, "x", []any{}, map[string]any{}, []any{nil, map[string]any{"a": 1}}})
	}
	switch schema["type"] {
	case "object":
		out := map[string]any{}
		properties, _ := schema["properties"].(map[string]any)
		required, _ := schema["required"].([]any)
		for _, key := range sortedNames(properties) {
			switch {
			case key == "allowedBranches" && !g.wild, key == "authenticodeRootsPem" && !g.wild, key == "version" && !g.wild, key == "roles" && !g.wild,
				key == "signingPolicyId" && !g.wild: // beside its slug
			case slices.Contains(required, any(key)), strings.EqualFold(key, "keyAlgorithm"), !g.chance(3):
				out[g.spelling(key)] = g.value(key, g.resolve(properties[key]), depth+1)
			}
		}
		if g.wild && schema["additionalProperties"] != nil {
			out[pick(g, hostile)] = g.text(name, nil)
		}
		return out
	case "array":
		out := []any{}
		for range g.IntN(4) {
			out = append(out, g.value(name, g.resolve(schema["items"]), depth+1))
		}
		return out
	case "integer":
		if g.wild {
			return g.IntN(60) - 2
		}
		return 0
	case "boolean":
		return g.chance(2)
	}
	return g.text(name, schema)
}

// spelling changes the case of a name now and then.
func (g *generator) spelling(name string) string {
	switch g.IntN(4) {
	case 0:
		return pascalName(name)
	case 1:
		return strings.ToUpper(name)
	}
	return name
}

// request makes a request for a route.
func (g *generator) request(w *world, route generatedRoute) *http.Request {
	g.wild = !g.chance(3)
	upload := strings.HasSuffix(route.path, "/UploadUnsignedArtifact") && !g.wild
	path := route.path
	query := url.Values{}
	header := http.Header{}
	for _, p := range route.parameters {
		name, _ := p["name"].(string)
		schema := g.resolve(p["schema"])
		switch p["in"] {
		case "path":
			value := g.text(name, schema)
			switch {
			case name == "organizationId" && !g.chance(30):
				value = w.org
			case upload && name == "signingRequestId":
				value = pick(g, g.awaited)
			}
			path = strings.ReplaceAll(path, "{"+name+"}", url.PathEscape(value))
		case "query":
			if g.chance(3) {
				query.Add(g.spelling(name), g.text(name, g.itemOf(schema)))
			}
		case "header":
			if g.chance(3) {
				header.Set(name, strings.Map(printable, g.text(name, schema)))
			}
		}
	}
	contentType, content := g.body(route.operation)
	target := "http://sign.example" + pick(g, []string{"/Api", "/API", ""}) + path
	if len(query) > 0 {
		target += "?" + query.Encode()
	}
	r := httptest.NewRequest(route.method, "http://sign.example/", bytes.NewReader(content))
	if u, err := url.Parse(target); err == nil {
		r.URL = u
	}
	r.Header = header
	if contentType != "" && !(g.wild && g.chance(40)) {
		r.Header.Set("Content-Type", contentType)
	}
	who := pick(g, []string{globalAdmin, globalAdmin, ciUser})
	if g.wild {
		who = pick(g, append(members, foreigner))
	}
	if route.operation["requestBody"] != nil && strings.Contains(route.path, "{signingRequestId}") && g.chance(2) {
		who = approver // else too few decisions are allowed
	}
	if upload {
		who = requester
	}
	switch n := g.IntN(30); {
	case n == 0 && g.wild:
	case n == 1 && g.wild:
		r.Header.Set("Authorization", "Bearer "+strings.Map(printable, pick(g, hostile)))
	case n < 4:
		r.Header.Set("Authorization", "Bearer "+w.people[ciUser].token+":"+w.buildSystem)
	default:
		r.Header.Set("Authorization", "Bearer "+w.people[who].token)
	}
	return r
}

func (g *generator) itemOf(schema map[string]any) map[string]any {
	if schema["type"] == "array" {
		return g.resolve(schema["items"])
	}
	return schema
}

func printable(r rune) rune {
	if r < ' ' || r > '~' {
		return '?'
	}
	return r
}

// body makes a body in one of the operation's media types.
func (g *generator) body(operation map[string]any) (contentType string, content []byte) {
	media, _ := g.resolve(operation["requestBody"])["content"].(map[string]any)
	if len(media) == 0 || g.wild && g.chance(40) {
		return "", nil
	}
	contentType = pick(g, sortedNames(media))
	schema := g.resolve(g.resolve(media[contentType])["schema"])
	properties, _ := schema["properties"].(map[string]any)
	switch contentType {
	case mediaJSON:
		content, _ = json.Marshal(g.value("", schema, 0)) // values of JSON's own types
	case mediaURLEncoded:
		values := url.Values{}
		for _, name := range sortedNames(properties) {
			if !g.chance(4) {
				values.Add(g.spelling(name), g.text(name, g.resolve(properties[name])))
			}
		}
		content = []byte(values.Encode())
	case mediaMultipart:
		contentType, content = g.form(properties)
	default:
		content = examplePE
		if g.wild {
			content = []byte(pick(g, hostile))
		}
	}
	if g.wild && g.chance(30) && len(content) > 0 {
		content = content[:g.IntN(len(content))]
	}
	return contentType, content
}

func (g *generator) form(properties map[string]any) (contentType string, content []byte) {
	var b bytes.Buffer
	form := multipart.NewWriter(&b)
	names := sortedNames(properties)
	g.Shuffle(len(names), func(i, j int) { names[i], names[j] = names[j], names[i] })
	for _, name := range names {
		schema := g.resolve(properties[name])
		if strings.HasSuffix(name, "Id") && name != "originalSigningRequestId" || strings.HasPrefix(name, "is") || strings.HasSuffix(name, "Xml") { // alternatives to other fields
			if !g.wild || !g.chance(5) {
				continue
			}
		} else if g.wild && g.chance(8) {
			continue
		}
		if schema["format"] != "binary" {
			_ = form.WriteField(g.spelling(name), g.text(name, schema)) // to memory
			continue
		}
		head := textproto.MIMEHeader{}
		fileName, file := "app.exe", string(examplePE)
		if g.wild {
			fileName, file = strings.Map(printable, pick(g, hostile)), pick(g, append(hostile[:8:8], file, file, file))
		}
		head.Set("Content-Disposition", mimeDisposition(g.spelling(name), fileName))
		part, _ := form.CreatePart(head)
		_, _ = part.Write([]byte(file))
	}
	if g.wild && g.chance(8) {
		_ = form.WriteField("parameters."+pick(g, hostile), pick(g, hostile))
	}
	_ = form.Close()
	return form.FormDataContentType(), b.Bytes()
}

var exampleHash = func() string {
	sum := sha256.Sum256(examplePE)
	return hex.EncodeToString(sum[:])
}()

func mimeDisposition(name, fileName string) string {
	return `form-data; name="` + name + `"; filename="` + strings.NewReplacer(`"`, `\"`, `\`, `\\`).Replace(fileName) + `"`
}

// TestRandomRequests sends requests that are generated from the contract. None may be answered with a 5xx, and each
// refusal is a problem.
func TestRandomRequests(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	g := newGenerator(t, w, 2026)
	count := randomRequests
	if testing.Short() {
		count /= 10
	}
	statuses := map[int]int{}
	reached := map[string]bool{}
	for i := range count {
		if i%1000 == 999 { // much is deactivated by now, or has another name
			w = newWorld(t)
			g.settle(t, w)
		}
		route := pick(g, g.routes)
		if unreached := g.unreached(reached); len(unreached) > 0 && g.chance(4) {
			route = pick(g, unreached)
		}
		for strings.HasSuffix(route.path, "/Deactivate") && g.chance(2) {
			route = pick(g, g.routes)
		}
		r := g.request(w, route)
		rec := httptest.NewRecorder()
		w.handler.ServeHTTP(rec, r)
		statuses[rec.Code/100]++
		if rec.Code < 300 {
			reached[route.pattern()] = true
		}
		answer := rec.Body.String()
		if rec.Code >= 500 {
			t.Fatalf("request %d: %s %s: %d %s\n%s", i, r.Method, r.URL, rec.Code, answer, lastLines(w.logs.String(), 2))
		}
		if rec.Code >= 400 && !strings.HasPrefix(rec.Header().Get("Content-Type"), "application/problem+json") {
			t.Fatalf("request %d: %s %s: %d %q is no problem", i, r.Method, r.URL, rec.Code, answer)
		}
		if id := idOf(answer); rec.Code == http.StatusCreated && id != "" {
			if g.requests = append(g.requests, id); len(g.requests) > 100 {
				g.requests = g.requests[1:]
			}
			if g.chance(2) {
				if err := w.signing.Advance(t.Context(), signing.ID(id)); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	if !testing.Short() {
		for _, route := range g.unreached(reached) {
			t.Errorf("no random request of %d succeeded at %s: the generator tests nothing there", count, route.pattern())
		}
	}
	t.Logf("answers by class: %v", statuses)
}

func (r generatedRoute) pattern() string { return r.method + " " + r.path }

// unreached returns the routes at which no request succeeded, without those where that is seldom.
func (g *generator) unreached(reached map[string]bool) []generatedRoute {
	return slices.DeleteFunc(slices.Clone(g.routes), func(r generatedRoute) bool {
		return reached[r.pattern()] || slices.Contains(seldomReached, r.pattern())
	})
}

// seldomReached are routes that want more than a random request has, such as a certificate for the right key.
var seldomReached = []string{
	"POST /v1/{organizationId}/Certificates/ImportPfx",
	"POST /v1/{organizationId}/InteractiveUsers/{userId}/RegenerateApiToken", // the user's own
	"POST /v1/{organizationId}/InteractiveUsers/{userId}/Sessions/{sessionId}/Revoke",
	"POST /v1/{organizationId}/InteractiveUsers/{userId}/ApiTokens/{apiTokenId}/Revoke",
	"POST /v1/{organizationId}/CIUsers/{userId}/ApiTokens/{apiTokenId}/Revoke",
	"POST /v1/{organizationId}/Certificates/{certificateSlug}/UploadX509Certificate",
	"GET /v1/{organizationId}/Certificates/{certificateSlug}/CertificateSigningRequest",
	"GET /v1/{organizationId}/SigningRequests/{signingRequestId}/BuildSettingsFile",
	"POST /v1/{organizationId}/Certificates/{certificateSlug}/Delete",           // signing policies use the world's
	"POST /v1/{organizationId}/Certificates/{certificateSlug}/DeletePrivateKey", // likewise
	"POST /v1/{organizationId}/UserGroups/{groupId}/Delete",                     // the world's one group is a submitter
}

func idOf(answer string) string {
	var v struct{ SigningRequestID string }
	if json.Unmarshal([]byte(answer), &v) != nil {
		return ""
	}
	return v.SigningRequestID
}

func lastLines(s string, n int) string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}
