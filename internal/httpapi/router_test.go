package httpapi

import (
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"unicode"

	"github.com/google/go-cmp/cmp"

	"github.com/countersign-dev/countersign/api"
)

// patterns records what the generated code registers.
type patterns []string

func (p *patterns) HandleFunc(pattern string, _ func(http.ResponseWriter, *http.Request)) {
	*p = append(*p, pattern)
}

func (*patterns) ServeHTTP(http.ResponseWriter, *http.Request) {}

func generatedPatterns() []string {
	var p patterns
	api.HandlerWithOptions(nil, api.StdHTTPServerOptions{BaseRouter: &p})
	return p
}

// oddCasing changes the case of letters at random, but not of path values.
func oddCasing(r *rand.Rand, s string) string {
	return strings.Map(func(c rune) rune {
		if r.IntN(2) == 0 {
			return unicode.ToUpper(c)
		}
		return unicode.ToLower(c)
	}, s)
}

// TestEveryRouteInEveryCasing sends each route of the contract in odd spellings and checks that it arrives at its own
// operation with its values untouched.
func TestEveryRouteInEveryCasing(t *testing.T) {
	t.Parallel()
	rt := newRouter(nil)
	var arrived string
	values := map[string]string{}
	all := generatedPatterns()
	if len(all) < 25 {
		t.Fatalf("only %d routes", len(all))
	}
	for _, pattern := range all {
		rt.HandleFunc(pattern, func(_ http.ResponseWriter, r *http.Request) {
			arrived = r.Pattern
			clear(values)
			for _, segment := range strings.Split(pattern, "/") {
				if name, ok := strings.CutPrefix(segment, "{"); ok {
					name = strings.TrimSuffix(name, "}")
					values[name] = r.PathValue(name)
				}
			}
		})
	}
	h := observe(slog.New(slog.DiscardHandler), rt)
	rnd := rand.New(rand.NewPCG(1, 2))
	for _, pattern := range all {
		method, path, _ := strings.Cut(pattern, " ")
		for _, prefix := range []string{"", "/Api", "/API", "/api", "/aPI", "//Api/"} {
			for range 8 {
				want := map[string]string{}
				target := prefix
				for _, segment := range strings.Split(path, "/")[1:] {
					target += strings.Repeat("/", 1+rnd.IntN(2))
					if name, ok := strings.CutPrefix(segment, "{"); ok {
						// A value that needs escaping, spelled as another route's literal to tempt the router.
						value := "Sub mit/" + oddCasing(rnd, "status")
						want[strings.TrimSuffix(name, "}")] = value
						target += strings.NewReplacer("/", "%2F", " ", "%20").Replace(value)
					} else {
						target += oddCasing(rnd, segment)
					}
				}
				target += strings.Repeat("/", rnd.IntN(2))
				arrived = ""
				w := httptest.NewRecorder()
				h.ServeHTTP(w, httptest.NewRequest(method, "http://h"+target, nil))
				if arrived != pattern {
					t.Fatalf("%s %s arrived at %q, want %q (status %d)", method, target, arrived, pattern, w.Code)
				}
				if diff := cmp.Diff(want, values); diff != "" {
					t.Fatalf("%s %s: values (-want +got):\n%s", method, target, diff)
				}
			}
		}
		if method == http.MethodGet {
			arrived = ""
			h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodHead, path, nil))
			if arrived != pattern {
				t.Errorf("HEAD %s arrived at %q", path, arrived)
			}
		}
	}
}

// TestContractMatchesGeneratedCode fails when the generated code is not current.
func TestContractMatchesGeneratedCode(t *testing.T) {
	t.Parallel()
	c, err := parseContract(api.OpenAPI)
	if err != nil {
		t.Fatal(err)
	}
	generated := map[string]bool{}
	for _, p := range generatedPatterns() {
		generated[p] = true
	}
	for p := range c {
		if !generated[p] {
			t.Errorf("the contract has %s, the generated code does not", p)
		}
		delete(generated, p)
	}
	for p := range generated {
		t.Errorf("the generated code has %s, the contract does not", p)
	}
	submit := c["POST /v1/{organizationId}/SigningRequests/SubmitWithArtifact"]
	if !submit.artifact || !submit.required || len(submit.mediaTypes) != 1 || submit.form["signingpolicyslug"] != "signingPolicySlug" {
		t.Errorf("rules of SubmitWithArtifact = %+v", submit)
	}
	if rules := c["POST /v1/{organizationId}/Certificates/ImportPfx"]; rules.artifact {
		t.Error("a PFX file may be as large as an artifact")
	}
	if rules := c["GET /v1/{organizationId}/SigningRequests"]; rules.query["pagesize"] != "pageSize" || rules.mediaTypes != nil {
		t.Errorf("rules of the list = %+v", rules)
	}
}

func TestRouterRefusesContradictions(t *testing.T) {
	t.Parallel()
	for name, second := range map[string]string{
		"twice":           "GET /v1/{a}/x",
		"twice by case":   "GET /V1/{a}/X",
		"parameter names": "GET /v1/{b}/y",
		"no method":       "/v1",
		"relative":        "GET v1",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			defer func() {
				if recover() == nil {
					t.Error("no panic")
				}
			}()
			rt := newRouter(nil)
			rt.HandleFunc("GET /v1/{a}/x", func(http.ResponseWriter, *http.Request) {})
			rt.HandleFunc(second, func(http.ResponseWriter, *http.Request) {})
		})
	}
}

func TestLiteralWinsAndBacktracks(t *testing.T) {
	t.Parallel()
	rt := newRouter(nil)
	var got string
	for _, p := range []string{"GET /v1/Meta/SystemInfo", "GET /v1/{org}/Projects", "GET /v1/{org}/{other}/x"} {
		rt.HandleFunc(p, func(http.ResponseWriter, *http.Request) { got = p })
	}
	h := observe(slog.New(slog.DiscardHandler), rt)
	for target, want := range map[string]string{
		"/v1/meta/systeminfo": "GET /v1/Meta/SystemInfo",
		"/v1/META/projects":   "GET /v1/{org}/Projects", // "Meta" leads nowhere here, so it is an organization
		"/v1/o/projects/x":    "GET /v1/{org}/{other}/x",
		"/v1/meta/nothing":    "",
	} {
		got = ""
		h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", target, nil))
		if got != want {
			t.Errorf("%s arrived at %q, want %q", target, got, want)
		}
	}
}

func FuzzRouter(f *testing.F) {
	rt := newRouter(nil)
	for _, pattern := range generatedPatterns() {
		rt.HandleFunc(pattern, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })
	}
	for _, s := range []string{"/", "/Api/v1/x/SigningRequests", "//", "/%2F/%", "/v1/%zz", "/healthz", "/api/../v1"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, escaped string) {
		prefix, segments, ok := splitPath(escaped)
		if !ok {
			return
		}
		if len(segments) > maxSegments || prefix != "" && !strings.EqualFold(prefix, "/api") {
			t.Errorf("splitPath(%q) = %q, %q", escaped, prefix, segments)
		}
		n, values := rt.root.find(segments)
		if n != nil && len(values) != strings.Count(n.pattern, "{") {
			t.Errorf("%q matches %s with %d values", escaped, n.pattern, len(values))
		}
		rt.owns(escaped)
	})
}
