package httpapi

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// router finds the operation for a path without regard to case. A leading /api segment in any case is optional, and
// empty segments (double and trailing slashes) do not count. Routes are registered before the first request.
//
// net/http's ServeMux knows neither of these rules, and answers unclean paths with redirects that clients do not repeat
// a POST for.
type router struct {
	root      *node
	publicURL *url.URL
}

// node is one segment of the registered paths.
type node struct {
	literal   map[string]*node // by lower-case text
	parameter *node
	name      string // of the path parameter, when the node is one
	methods   map[string]http.HandlerFunc
	pattern   string // the path as registered, for nodes with methods
}

// maxSegments is more than any route has.
const maxSegments = 24

func newRouter(publicURL *url.URL) *router { return &router{root: &node{}, publicURL: publicURL} }

// HandleFunc registers a handler for a pattern in ServeMux's form, "GET /v1/{organizationId}/Projects". It panics on
// patterns that contradict each other.
func (rt *router) HandleFunc(pattern string, handler func(http.ResponseWriter, *http.Request)) {
	method, path, ok := strings.Cut(pattern, " ")
	if !ok || !strings.HasPrefix(path, "/") {
		panic("httpapi: bad pattern " + pattern)
	}
	n := rt.root
	for segment := range strings.SplitSeq(path[1:], "/") {
		name, isParameter := strings.CutPrefix(segment, "{")
		if !isParameter {
			key := strings.ToLower(segment)
			if n.literal == nil {
				n.literal = map[string]*node{}
			}
			if n.literal[key] == nil {
				n.literal[key] = &node{}
			}
			n = n.literal[key]
			continue
		}
		name = strings.TrimSuffix(name, "}")
		if n.parameter == nil {
			n.parameter = &node{name: name}
		}
		n = n.parameter
		if n.name != name {
			panic(fmt.Sprintf("httpapi: %s names a parameter %s that another pattern names %s", pattern, name, n.name))
		}
	}
	if n.methods == nil {
		n.methods = map[string]http.HandlerFunc{}
	}
	if n.methods[method] != nil {
		panic("httpapi: registered twice: " + pattern)
	}
	n.methods[method] = handler
	n.pattern = path
}

// find returns the node for the segments and the values of its path parameters by name. Literal segments win over
// parameters.
func (n *node) find(segments []string) (*node, map[string]string) {
	if len(segments) == 0 {
		if n.methods == nil {
			return nil, nil
		}
		return n, map[string]string{}
	}
	if next := n.literal[strings.ToLower(segments[0])]; next != nil {
		if found, values := next.find(segments[1:]); found != nil {
			return found, values
		}
	}
	// "." and ".." are never names: a client that sends them means another path.
	if n.parameter == nil || segments[0] == "." || segments[0] == ".." {
		return nil, nil
	}
	found, values := n.parameter.find(segments[1:])
	if found != nil {
		values[n.parameter.name] = segments[0]
	}
	return found, values
}

// splitPath cuts an escaped path into its unescaped segments. The prefix is the /api segment as the client wrote it, with
// its slash, or empty. Segments that are no text name nothing: it reports false.
func splitPath(escaped string) (prefix string, segments []string, ok bool) {
	for raw := range strings.SplitSeq(escaped, "/") {
		if raw == "" {
			continue
		}
		segment, err := url.PathUnescape(raw)
		if err != nil || len(segments) == maxSegments || !isText(segment) {
			return "", nil, false
		}
		segments = append(segments, segment)
	}
	if len(segments) > 0 && strings.EqualFold(segments[0], "api") {
		return "/" + segments[0], segments[1:], true
	}
	return "", segments, true
}

// owns reports whether the path belongs to the API: everything below /api, and what begins with a segment that some route
// begins with.
func (rt *router) owns(escaped string) bool {
	first, _, _ := strings.Cut(strings.TrimLeft(escaped, "/"), "/")
	return strings.EqualFold(first, "api") || rt.root.literal[strings.ToLower(first)] != nil
}

// ServeHTTP calls the operation for the request with its path values set, or answers 404 or 405.
func (rt *router) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	prefix, segments, ok := splitPath(r.URL.EscapedPath())
	if !ok {
		writeNoRoute(w, r)
		return
	}
	n, values := rt.root.find(segments)
	if n == nil {
		writeNoRoute(w, r)
		return
	}
	method := r.Method
	if method == http.MethodHead && n.methods[method] == nil {
		method = http.MethodGet
	}
	handler := n.methods[method]
	if handler == nil {
		w.Header().Set("Allow", strings.Join(n.allowed(), ", "))
		writeError(w, r, &transportError{
			status: http.StatusMethodNotAllowed,
			detail: fmt.Sprintf("%s does not accept %s.", n.pattern, r.Method),
		})
		return
	}
	for name, value := range values {
		r.SetPathValue(name, value)
	}
	r.Pattern = method + " " + n.pattern
	exchangeOf(r.Context()).links = linksFor(rt.publicURL, r, prefix, segments[0])
	handler(w, r)
}

func (n *node) allowed() []string {
	var methods []string
	for m := range n.methods {
		methods = append(methods, m)
		if m == http.MethodGet && n.methods[http.MethodHead] == nil {
			methods = append(methods, http.MethodHead)
		}
	}
	slices.Sort(methods)
	return methods
}

// links makes the absolute addresses in answers.
type links struct {
	origin string // public URL without a trailing slash: "https://sign.example.com"
	api    string // "https://sign.example.com/API/v1": prefix and version spelled as the client spelled them
}

// linksFor derives the links of one request: clients go on with the host and the spelling with which they began.
func linksFor(public *url.URL, r *http.Request, prefix, version string) links {
	var origin string
	if public != nil {
		origin = strings.TrimRight((&url.URL{Scheme: public.Scheme, Host: public.Host, Path: public.Path}).String(), "/")
	} else {
		scheme := "http"
		if r.TLS != nil {
			scheme = "https"
		}
		origin = (&url.URL{Scheme: scheme, Host: r.Host}).String()
	}
	if !strings.EqualFold(version, "v1") {
		version = "v1"
	}
	return links{origin: origin, api: origin + prefix + "/" + version}
}

// resource returns the address of something in an organization. Segments are escaped; those that name a kind of
// resource are spelled canonically by the caller.
func (l links) resource(organizationID string, segments ...string) string {
	return l.api + joinEscaped(organizationID, segments)
}

// signingRequest returns a signing request's address, or one of its parts'. Clients take the id from it with the
// case-sensitive pattern SigningRequests/<lower-case GUID>.
func (l links) signingRequest(organizationID, id string, part ...string) string {
	return l.resource(organizationID, append([]string{"SigningRequests", id}, part...)...)
}

// web returns the address of a signing request's page.
func (l links) web(organizationID, id string) string {
	return l.origin + "/Web" + joinEscaped(organizationID, []string{"SigningRequests", id})
}

func joinEscaped(first string, rest []string) string {
	var b strings.Builder
	b.WriteString("/" + url.PathEscape(first))
	for _, s := range rest {
		b.WriteString("/" + url.PathEscape(s))
	}
	return b.String()
}
