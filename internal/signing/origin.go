package signing

import (
	"net/url"
	"strings"

	"golang.org/x/net/idna"
)

// sameRepository compares two repository URLs. The https, ssh and scp-like spellings of one host are equal; user, a port that is
// the scheme's own, a final slash and ".git" do not matter; host names are compared without case, in either spelling of an
// internationalized name; so are the paths of hosts known to ignore case. Everything else does matter, a query included: some
// servers name the repository there.
func sameRepository(a, b string) bool {
	ka, kb := repositoryKey(a), repositoryKey(b)
	return ka != "" && ka == kb
}

// repositoryKey returns a repository URL in the spelling that sameRepository compares; empty for what is no such URL.
func repositoryKey(raw string) string {
	u := parseRepository(strings.TrimSpace(raw))
	if u == nil {
		return ""
	}
	host := hostOf(u)
	scheme := strings.ToLower(u.Scheme)
	if scheme == "ssh" || scheme == "git+ssh" {
		scheme = "https" // the same host serves the same repository
	}
	path := strings.Trim(canonicalPath(u), "/")
	switch host {
	case "github.com", "gitlab.com", "bitbucket.org", "dev.azure.com", "codeberg.org":
		path = strings.ToLower(path)
	}
	path = strings.TrimSuffix(path, ".git")
	if scheme == "" || host == "" || path == "" {
		return ""
	}
	key := scheme + "://" + host + "/" + path
	if u.RawQuery != "" {
		key += "?" + u.RawQuery
	}
	return key
}

// parseRepository reads a URL, or git's scp-like spelling [user@]host:path, whose path has no escapes. Nil is neither.
func parseRepository(raw string) *url.URL {
	if !strings.Contains(raw, "://") {
		if host, path, ok := strings.Cut(raw, ":"); ok && !strings.Contains(host, "/") {
			u, err := url.Parse("ssh://" + host)
			if err != nil || u.Path != "" || u.RawQuery != "" || u.Fragment != "" {
				return nil
			}
			u.Path = "/" + path
			return u
		}
	}
	u, err := url.Parse(raw)
	if err != nil {
		return nil
	}
	return u
}

// canonicalPath spells a URL's path with as few escapes as may be (RFC 3986, section 6.2.2.2): an escaped slash stays one, it
// separates nothing.
func canonicalPath(u *url.URL) string {
	segments := strings.Split(u.EscapedPath(), "/")
	for i, s := range segments {
		if text, err := url.PathUnescape(s); err == nil {
			segments[i] = url.PathEscape(text)
		}
	}
	return strings.Join(segments, "/")
}

// urlHost returns an absolute URL's host as hostOf does; empty for what is no such URL.
func urlHost(raw string) string {
	u, err := url.Parse(raw)
	if err != nil {
		return ""
	}
	return hostOf(u)
}

// hostOf returns a URL's host in lower case and ASCII, with its port unless that is the scheme's own; empty when it has none.
func hostOf(u *url.URL) string {
	host := strings.TrimSuffix(strings.ToLower(u.Hostname()), ".")
	if strings.ContainsFunc(host, func(r rune) bool { return r > 127 }) {
		ascii, err := idna.Lookup.ToASCII(host)
		if err != nil {
			return ""
		}
		host = ascii
	}
	if strings.Contains(host, ":") { // an IPv6 address
		host = "[" + host + "]"
	}
	own := map[string]string{"https": "443", "http": "80", "ssh": "22", "git+ssh": "22", "git": "9418"}
	if port := u.Port(); host != "" && port != "" && port != own[strings.ToLower(u.Scheme)] {
		host += ":" + port
	}
	return host
}

// withoutSecrets returns the origin as it may be stored and shown: build systems hand over the URL that they fetched from, with a
// token as user name or password. It names no user that ssh does not need.
func (o Origin) withoutSecrets() *Origin {
	o.RepositoryURL, o.BuildURL = withoutUserInfo(o.RepositoryURL), withoutUserInfo(o.BuildURL)
	return &o
}

// withoutUserInfo works on the text, so that nothing passes because it does not parse.
func withoutUserInfo(raw string) string {
	scheme, rest, ok := strings.Cut(raw, "://")
	if !ok {
		return raw
	}
	end := strings.IndexAny(rest, "/?#")
	if end < 0 {
		end = len(rest)
	}
	at := strings.LastIndexByte(rest[:end], '@')
	if at < 0 {
		return raw
	}
	user, _, _ := strings.Cut(rest[:at], ":")
	if s := strings.ToLower(strings.TrimSpace(scheme)); s == "https" || s == "http" || user == "" {
		return scheme + "://" + rest[at+1:]
	}
	return scheme + "://" + user + rest[at:]
}

// matchBranch reports whether a branch matches a pattern: '*' stands for any characters but '/', '**' for any, '?' for
// one. A pattern of one '*' alone allows every branch. "refs/heads/" in front of either is ignored; what is under another
// "refs/", such as a tag, is no branch, so only a pattern that says so matches it. The time is linear in pattern times branch.
func matchBranch(pattern, branch string) bool {
	pattern, branch = strings.TrimPrefix(pattern, "refs/heads/"), strings.TrimPrefix(branch, "refs/heads/")
	if strings.HasPrefix(branch, "refs/") && !strings.HasPrefix(pattern, "refs/") {
		return false
	}
	if pattern == "*" {
		return true
	}
	p, b := []rune(pattern), []rune(branch)
	// reach[j]: the pattern so far matches the first j characters.
	reach := make([]bool, len(b)+1)
	reach[0] = true
	for i := 0; i < len(p); i++ {
		switch {
		case p[i] == '*' && i+1 < len(p) && p[i+1] == '*':
			i++
			for j := 1; j <= len(b); j++ {
				reach[j] = reach[j] || reach[j-1]
			}
		case p[i] == '*':
			for j := 1; j <= len(b); j++ {
				reach[j] = reach[j] || (reach[j-1] && b[j-1] != '/')
			}
		default:
			for j := len(b); j >= 1; j-- {
				reach[j] = reach[j-1] && (p[i] == b[j-1] || p[i] == '?' && b[j-1] != '/')
			}
			reach[0] = false
		}
	}
	return reach[len(b)]
}
