package web

import (
	"net/url"
	"slices"
	"strings"
	"testing"

	"golang.org/x/net/html"
)

// dom parses the page.
func (a *answer) dom(t *testing.T) *html.Node {
	t.Helper()
	root, err := html.Parse(strings.NewReader(a.body))
	if err != nil {
		t.Fatal(err)
	}
	return root
}

// text is what a reader sees, with single blanks.
func (a *answer) text(t *testing.T) string {
	t.Helper()
	if !strings.HasPrefix(a.Header.Get("Content-Type"), "text/html") {
		return a.body
	}
	return textOf(a.dom(t))
}

func textOf(n *html.Node) string {
	var b strings.Builder
	var walk func(*html.Node)
	walk = func(n *html.Node) {
		if n.Type == html.TextNode {
			b.WriteString(n.Data + " ")
		}
		if n.Type == html.ElementNode && (n.Data == "script" || n.Data == "style" || n.Data == "head") {
			return
		}
		for c := range n.ChildNodes() {
			walk(c)
		}
	}
	walk(n)
	return strings.Join(strings.Fields(b.String()), " ")
}

// elements returns the elements with one of the names, in order; all of them without a name.
func elements(root *html.Node, names ...string) []*html.Node {
	var list []*html.Node
	for n := range root.Descendants() {
		if n.Type == html.ElementNode && (len(names) == 0 || slices.Contains(names, n.Data)) {
			list = append(list, n)
		}
	}
	return list
}

func attr(n *html.Node, name string) (string, bool) {
	for _, a := range n.Attr {
		if a.Key == name {
			return a.Val, true
		}
	}
	return "", false
}

func attrOf(n *html.Node, name string) string { v, _ := attr(n, name); return v }

// token returns the form token of the page's first form.
func (a *answer) token(t *testing.T) string {
	t.Helper()
	return a.hidden(t, tokenField)
}

// hidden returns the value of the first hidden field with the name, in the page's content.
func (a *answer) hidden(t *testing.T, name string) string {
	t.Helper()
	root := a.dom(t)
	if name != tokenField {
		root = byID(root, "content")
	}
	for _, n := range elements(root, "input") {
		if attrOf(n, "name") == name && attrOf(n, "type") == "hidden" {
			return attrOf(n, "value")
		}
	}
	t.Fatalf("%s has no hidden field %s", a.Request.URL, name)
	return ""
}

// form returns the hidden fields of the page's first form to the address; none without such a form.
func (a *answer) form(t *testing.T, path string) url.Values {
	t.Helper()
	values := url.Values{}
	for _, form := range elements(a.dom(t), "form") {
		if attrOf(form, "action") != path || len(values) > 0 {
			continue
		}
		for _, n := range elements(form, "input") {
			if attrOf(n, "type") == "hidden" {
				values.Set(attrOf(n, "name"), attrOf(n, "value"))
			}
		}
	}
	return values
}

// links returns the addresses of all links.
func (a *answer) links(t *testing.T) []string {
	t.Helper()
	var list []string
	for _, n := range elements(a.dom(t), "a") {
		list = append(list, attrOf(n, "href"))
	}
	return list
}

// checkPage holds a page against what every page keeps: its structure for keyboards and screen readers, and nothing that
// the content security policy would stop.
func checkPage(t *testing.T, a *answer) {
	t.Helper()
	where := a.Request.URL.Path
	root := a.dom(t)
	policy := a.Header.Get("Content-Security-Policy")
	for _, want := range []string{"default-src 'none'", "script-src 'self';", "style-src 'self';", "frame-ancestors 'none'", "base-uri 'none'", "form-action 'self'"} {
		if !strings.Contains(policy, want) {
			t.Errorf("%s: the content security policy %q lacks %q", where, policy, want)
		}
	}
	for name, want := range map[string]string{
		"Cross-Origin-Opener-Policy": "same-origin", "Cross-Origin-Resource-Policy": "same-origin", "X-Frame-Options": "DENY",
		"Permissions-Policy": "camera=(), geolocation=(), microphone=()", "Referrer-Policy": "same-origin",
	} {
		if got := a.Header.Get(name); got != want {
			t.Errorf("%s: %s is %q, want %q", where, name, got, want)
		}
	}
	if a.Header.Get("X-Content-Type-Options") != "nosniff" || a.Header.Get("Cache-Control") != "no-store" {
		t.Errorf("%s: headers %v", where, a.Header)
	}
	for _, want := range []string{"main", "header", "footer", "h1", "title"} {
		n := len(elements(root, want))
		if want == "header" || want == "title" {
			if n < 1 {
				t.Errorf("%s: no <%s>", where, want)
			}
		} else if n != 1 {
			t.Errorf("%s: %d elements <%s>, want 1", where, n, want)
		}
	}
	if lang := attrOf(elements(root, "html")[0], "lang"); lang != "en" {
		t.Errorf("%s: language %q", where, lang)
	}
	ids := map[string]*html.Node{}
	for _, n := range elements(root) {
		if id, ok := attr(n, "id"); ok {
			if ids[id] != nil {
				t.Errorf("%s: two elements have the id %q", where, id)
			}
			ids[id] = n
		}
	}
	checkHeadings(t, where, root)
	for _, n := range elements(root) {
		checkElement(t, where, n, ids)
	}
}

// checkHeadings wants no level left out.
func checkHeadings(t *testing.T, where string, root *html.Node) {
	t.Helper()
	last := 0
	for _, n := range elements(root, "h1", "h2", "h3", "h4") {
		level := int(n.Data[1] - '0')
		if level > last+1 {
			t.Errorf("%s: heading %q of level %d follows one of level %d", where, textOf(n), level, last)
		}
		if textOf(n) == "" {
			t.Errorf("%s: an empty heading", where)
		}
		last = level
	}
}

func checkElement(t *testing.T, where string, n *html.Node, ids map[string]*html.Node) {
	t.Helper()
	for _, a := range n.Attr {
		if strings.HasPrefix(a.Key, "on") || strings.HasPrefix(a.Key, "hx-on") || a.Key == "style" {
			t.Errorf("%s: inline %s on <%s>", where, a.Key, n.Data)
		}
		for _, id := range strings.Fields(a.Val) {
			if (a.Key == "aria-labelledby" || a.Key == "aria-describedby") && ids[id] == nil {
				t.Errorf("%s: %s names %q, which does not exist", where, a.Key, id)
			}
		}
		value := strings.ToLower(strings.TrimSpace(a.Val))
		if slices.Contains([]string{"href", "src", "action", "formaction"}, a.Key) &&
			(strings.HasPrefix(value, "javascript:") || strings.HasPrefix(value, "data:") || strings.HasPrefix(value, "//")) {
			t.Errorf("%s: <%s %s=%q>", where, n.Data, a.Key, a.Val)
		}
	}
	switch n.Data {
	case "style", "iframe", "object", "embed", "base":
		t.Errorf("%s: <%s>", where, n.Data)
	case "script":
		if attrOf(n, "src") == "" || n.FirstChild != nil {
			t.Errorf("%s: inline script", where)
		}
	case "img":
		if _, ok := attr(n, "alt"); !ok {
			t.Errorf("%s: a picture without alternative text", where)
		}
	case "input", "select", "textarea":
		if attrOf(n, "type") != "hidden" && nameOf(n, ids) == "" {
			t.Errorf("%s: <%s name=%q> has no label", where, n.Data, attrOf(n, "name"))
		}
	case "button", "a", "summary":
		if nameOf(n, ids) == "" {
			t.Errorf("%s: <%s> without a name: %v", where, n.Data, n.Attr)
		}
	case "form":
		checkForm(t, where, n)
	case "table":
		if len(elements(n, "caption")) != 1 || len(elements(n, "th")) == 0 {
			t.Errorf("%s: a table without caption or headings", where)
		}
	case "nav", "dialog":
		if attrOf(n, "aria-label") == "" && attrOf(n, "aria-labelledby") == "" {
			t.Errorf("%s: <%s> without a label", where, n.Data)
		}
	}
}

func checkForm(t *testing.T, where string, n *html.Node) {
	t.Helper()
	if attrOf(n, "method") != "post" {
		return
	}
	first := elements(n, "input", "select", "textarea", "button")
	if len(first) == 0 || attrOf(first[0], "name") != tokenField || attrOf(first[0], "value") == "" {
		t.Errorf("%s: the form to %s does not begin with a token", where, attrOf(n, "action"))
	}
	if action := attrOf(n, "action"); !strings.HasPrefix(action, "/Web/") {
		t.Errorf("%s: a form leads to %q", where, action)
	}
}

// nameOf computes an element's name as far as these pages need it (Accessible Name and Description Computation, section 4.3).
func nameOf(n *html.Node, ids map[string]*html.Node) string {
	if by := attrOf(n, "aria-labelledby"); by != "" && ids[by] != nil {
		return textOf(ids[by])
	}
	if label := attrOf(n, "aria-label"); label != "" {
		return label
	}
	if slices.Contains([]string{"input", "select", "textarea"}, n.Data) {
		for p := n.Parent; p != nil; p = p.Parent {
			if p.Data == "label" {
				return textOf(p)
			}
		}
		root := n
		for root.Parent != nil {
			root = root.Parent
		}
		for _, label := range elements(root, "label") {
			if id := attrOf(n, "id"); id != "" && attrOf(label, "for") == id {
				return textOf(label)
			}
		}
		return ""
	}
	return textOf(n)
}

// byID returns the element with the id.
func byID(root *html.Node, id string) *html.Node {
	for _, n := range elements(root) {
		if attrOf(n, "id") == id {
			return n
		}
	}
	return &html.Node{}
}
