package signing

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"strings"
	"testing"

	"github.com/countersign-dev/countersign/internal/certificate"
)

// oneKey is a key store with one key.
type oneKey struct {
	key    crypto.Signer
	opened int
}

func (o *oneKey) Generate(context.Context, certificate.KeyAlgorithm) (string, crypto.PublicKey, error) {
	return "k", o.key.Public(), nil
}
func (o *oneKey) Import(context.Context, crypto.PrivateKey) (string, crypto.PublicKey, error) {
	return "k", o.key.Public(), nil
}
func (o *oneKey) Signer(context.Context, string) (crypto.Signer, error) {
	o.opened++
	return o.key, nil
}
func (o *oneKey) Delete(context.Context, string) error { return nil }

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func TestGate(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	key, digest := newKey(t), sha256.Sum256([]byte("x"))
	sign := func(s crypto.Signer) error {
		_, err := s.Sign(rand.Reader, digest[:], crypto.SHA256)
		return err
	}
	t.Run("counts and closes", func(t *testing.T) {
		t.Parallel()
		g := gate{keys: &oneKey{key: key}}
		s, _, err := g.open(ctx, &grant{keyID: "k", record: GrantRecord{Signatures: 2}, leaf: &x509.Certificate{PublicKey: key.Public()}})
		if err != nil {
			t.Fatal(err)
		}
		if err := sign(s); err != nil {
			t.Error(err)
		}
		if err := sign(s); err != nil {
			t.Error(err)
		}
		if err := sign(s); KindOf(err) != KindForbidden {
			t.Errorf("a third signature of a grant for two: %v", err)
		}
		s, closeKey, err := g.open(ctx, &grant{keyID: "k", record: GrantRecord{Signatures: 2}})
		if err != nil {
			t.Fatal(err)
		}
		closeKey()
		if err := sign(s); KindOf(err) != KindForbidden {
			t.Errorf("a signature after the grant was closed: %v", err)
		}
	})
	t.Run("once", func(t *testing.T) {
		t.Parallel()
		keys := &oneKey{key: key}
		g, once := gate{keys: keys}, &grant{keyID: "k", record: GrantRecord{Signatures: 1}}
		if _, _, err := g.open(ctx, once); err != nil {
			t.Fatal(err)
		}
		if _, _, err := g.open(ctx, once); KindOf(err) != KindForbidden || keys.opened != 1 {
			t.Errorf("the grant opened the key again: %v, %d times", err, keys.opened)
		}
	})
	t.Run("refuses", func(t *testing.T) {
		t.Parallel()
		keys := &oneKey{key: key}
		for name, bad := range map[string]*grant{
			"none": nil, "empty": {}, "no signatures": {keyID: "k"}, "no key": {record: GrantRecord{Signatures: 1}},
		} {
			if _, _, err := (gate{keys: keys}).open(ctx, bad); KindOf(err) != KindForbidden {
				t.Errorf("grant %s: %v", name, err)
			}
		}
		other := newKey(t)
		if _, _, err := (gate{keys: keys}).open(ctx, &grant{keyID: "k", record: GrantRecord{Signatures: 1}, leaf: &x509.Certificate{PublicKey: other.Public()}}); KindOf(err) != KindConflict {
			t.Errorf("a key that does not belong to the certificate: %v", err)
		}
	})
}

// TestOnlyTheGateReachesKeys reads the package's source: a private key is opened in one place, by a grant, and grants are
// made in two, by the policy's evaluation and for a new certificate's own first signature.
func TestOnlyTheGateReachesKeys(t *testing.T) {
	t.Parallel()
	files, err := os.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	var opens, grants []string
	for _, f := range files {
		if !strings.HasSuffix(f.Name(), ".go") || strings.HasSuffix(f.Name(), "_test.go") {
			continue
		}
		tree, err := parser.ParseFile(token.NewFileSet(), f.Name(), nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range tree.Decls {
			fn, ok := d.(*ast.FuncDecl)
			if !ok {
				continue
			}
			ast.Inspect(fn, func(n ast.Node) bool {
				switch n := n.(type) {
				case *ast.CallExpr:
					if sel, ok := n.Fun.(*ast.SelectorExpr); ok && sel.Sel.Name == "Signer" {
						opens = append(opens, fn.Name.Name)
					}
				case *ast.CompositeLit:
					if id, ok := n.Type.(*ast.Ident); ok && id.Name == "grant" {
						grants = append(grants, fn.Name.Name)
					}
				}
				return true
			})
		}
	}
	if got := strings.Join(opens, " "); got != "open" {
		t.Errorf("keys are opened in %q, want only the gate's open", got)
	}
	if got := strings.Join(grants, " "); got != "grant storeWithKey" {
		t.Errorf("grants are made in %q, want grant (a policy's evaluation) and storeWithKey (a new certificate)", got)
	}
}

// TestEveryOperationHasARow keeps the permission table complete: each constant of type Operation has a row, and no row
// is for something else.
func TestEveryOperationHasARow(t *testing.T) {
	t.Parallel()
	tree, err := parser.ParseFile(token.NewFileSet(), "permission.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	ast.Inspect(tree, func(node ast.Node) bool {
		spec, ok := node.(*ast.ValueSpec)
		if !ok {
			return true
		}
		if id, ok := spec.Type.(*ast.Ident); ok && id.Name == "Operation" {
			n++
			text := strings.Trim(spec.Values[0].(*ast.BasicLit).Value, `"`)
			if _, ok := permissions[Operation(text)]; !ok {
				t.Errorf("%s has no row in the permission table: nobody may %s", spec.Names[0].Name, text)
			}
		}
		return true
	})
	if n != len(permissions) {
		t.Errorf("the table has %d rows for %d operations", len(permissions), n)
	}
}

func TestAllowedDeniesByDefault(t *testing.T) {
	t.Parallel()
	member := Actor{OrganizationID: "o", UserID: "u", Kind: Interactive}
	for name, a := range map[string]Actor{
		"nobody": {}, "system": Countersign("o"), "no user": {OrganizationID: "o", Roles: Roles},
		"no organization": {UserID: "u", Roles: Roles},
	} {
		for op := range permissions {
			if allowed(a, op, scope{}) {
				t.Errorf("%s may %s", name, op)
			}
		}
	}
	if allowed(member, "fly", scope{}) {
		t.Error("an operation without a row is allowed")
	}
	// No role, not even all of them, opens what only policies open.
	all := Actor{OrganizationID: "o", UserID: "u", Kind: Interactive, Roles: Roles}
	empty := scope{project: &Project{}, policy: &Policy{}, request: &Request{}}
	for _, op := range []Operation{OpSubmit, OpApprove, OpUpload} {
		if allowed(all, op, empty) {
			t.Errorf("a role opens %q", op)
		}
	}
	// An empty subject or submitter matches nobody.
	if allowed(Actor{OrganizationID: "o", Kind: Interactive}, OpCancel, scope{request: &Request{}}) {
		t.Error("an actor without a user is the submitter of a request without one")
	}
}

func TestMatchBranch(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		pattern, branch string
		want            bool
	}{
		{"main", "main", true}, {"main", "Main", false}, {"main", "main2", false}, {"main", "", false},
		{"release/*", "release/1.0", true}, {"release/*", "release/", true}, {"release/*", "release/1/0", false},
		{"release/**", "release/1/0", true}, {"**", "any/thing", true}, {"*", "a/b", true}, {"*/*", "a/b/c", false}, {"v?", "v1", true},
		{"*", "refs/heads/a/b", true}, {"*", "refs/tags/v1", false}, {"**", "refs/tags/v1", false}, {"v1", "refs/tags/v1", false},
		{"refs/tags/v*", "refs/tags/v1", true}, {"refs/heads/**", "refs/pull/1/merge", false}, {"main", "refs/heads/refs/heads/main", false},
		{"main", "origin/main", false}, {"release/*", "release/a/b", false}, {"Release/*", "release/a", false}, {"release/?*", "release/", false},
		{"v?", "v/", false}, {"v?", "v", false}, {"main", "refs/heads/main", true}, {"refs/heads/*", "main", true},
		{"ä*", "äö", true}, {"*a*a*a*a*a*a*a*a*a*b", strings.Repeat("a", 5000), false}, {"", "", true}, {"a*c*", "abcd", true},
	} {
		if got := matchBranch(c.pattern, c.branch); got != c.want {
			t.Errorf("matchBranch(%q, %.20q) = %t", c.pattern, c.branch, got)
		}
	}
}

func TestSameRepository(t *testing.T) {
	t.Parallel()
	const github = "https://github.com/acme/app"
	for _, c := range []struct {
		a, b string
		want bool
	}{
		{github, "https://GitHub.com/Acme/App.git", true}, {github, "git@github.com:acme/app.git", true},
		{github, "ssh://git@github.com:22/acme/app", true}, {github, "https://user@github.com:443/acme/app/", true},
		{github, "http://github.com/acme/app", false}, {github, "https://github.com:8443/acme/app", false},
		{github, "https://github.com/acme/app2", false}, {github, "https://github.com/acme", false},
		{github, "https://github.com.evil.example/acme/app", false}, {github, "", false}, {"", "", false},
		{github, "https://github.com@evil.example/acme/app", false}, {github, "https://evil.example/?github.com/acme/app", false},
		{"https://git.acme.example/Team/App", "https://git.acme.example/team/app", false},
		{"https://git.acme.example/Team/App", "https://GIT.acme.example/Team/App.git", true},
		{"https://git.acme.example", "https://git.acme.example", false}, {"::", "::", false},
		// Escapes: what needs none is the same without; an escaped slash separates nothing.
		{github, "https://github.com/acme/%61pp", true}, {github, "https://github.com/acme%2Fapp", false}, {github, "https://github.com/acme%2fapp", false},
		{"https://git.acme.example/a%20b", "git@git.acme.example:a b", true}, {"https://git.acme.example/a%2Fb", "https://git.acme.example/a%2fb", true},
		// Queries may name the repository.
		{"https://git.acme.example/web?p=app", "https://git.acme.example/web?p=evil", false}, {github, github + "?ref=main", false},
		{"https://git.acme.example/web?p=app", "https://git.acme.example/web?p=app", true},
		// Hosts.
		{"https://bücher.example/app", "https://xn--bcher-kva.EXAMPLE./app", true}, {github, "https://gιthub.com/acme/app", false},
		{"https://[::1]:8080/app", "https://[::1:8080]/app", false}, {"https://[::1]:443/app", "https://[::1]/app", true},
		{"ssh://git@git.acme.example:2222/app", "https://git.acme.example/app", false}, {"git@git.acme.example:/app.git", "ssh://git.acme.example/app", true},
		{github, `https://github.com\@evil.example/acme/app`, false}, {github, "https://evil.example/#@github.com/acme/app", false},
		{github, "https://github.com/acme/app/../../evil/app", false}, {github, "https://github.com/evil/../acme/app", false},
		{github, "git@github.com#x:acme/app", false}, {github, "git@evil.example/@github.com:acme/app", false},
		{github, "github.com:acme/app", true}, {github, " https://github.com/acme/app\n", true}, {github, "https://github.com/acme/app.GIT/", true},
		{github, "file:///acme/app", false}, {github, "acme/app", false}, {github, "https://github.com./acme/app", true},
	} {
		if got := sameRepository(c.a, c.b); got != c.want {
			t.Errorf("sameRepository(%q, %q) = %t", c.a, c.b, got)
		}
	}
}

func TestWithoutUserInfo(t *testing.T) {
	t.Parallel()
	for raw, want := range map[string]string{
		"https://ci-token:glpat-x@git.acme.example/app": "https://git.acme.example/app",
		"https://ghp_x@github.com/acme/app":             "https://github.com/acme/app",
		"HTTP://a:b@c@host/x@y":                         "HTTP://host/x@y",
		"ssh://git@github.com/acme/app":                 "ssh://git@github.com/acme/app",
		"ssh://git:pw@github.com/acme/app":              "ssh://git@github.com/acme/app",
		"ssh://:pw@github.com/acme/app":                 "ssh://github.com/acme/app",
		"git@github.com:acme/app":                       "git@github.com:acme/app",
		"https://a:b%@host":                             "https://host", // does not parse
		"https://host/a@b?c@d#e@f":                      "https://host/a@b?c@d#e@f",
		"https://host?u:p@x":                            "https://host?u:p@x",
		"":                                              "",
	} {
		if got := withoutUserInfo(raw); got != want {
			t.Errorf("%q became %q, want %q", raw, got, want)
		}
	}
}

func FuzzRepositoryKey(f *testing.F) {
	for _, raw := range []string{"https://GitHub.com/Acme/App.git", "git@github.com:acme/app", "https://[::1]:8080/a%2Fb?p=q", "https://bücher.example/%"} {
		f.Add(raw)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		key, clean := repositoryKey(raw), withoutUserInfo(raw)
		if clean != withoutUserInfo(clean) || key != "" && (!sameRepository(raw, clean) || withoutUserInfo(key) != key) {
			t.Errorf("%q has the key %q and is %q without user", raw, key, clean)
		}
	})
}
