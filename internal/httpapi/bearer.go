package httpapi

import (
	"net/http"
	"strings"

	"github.com/countersign-dev/countersign/internal/signing"
)

// credentials are the tokens of an Authorization header.
type credentials struct {
	apiToken         string
	buildSystemToken string // of a trusted build system, or empty
}

// bearerCredentials reads "Bearer <apiToken>" and "Bearer <apiToken>:<trustedBuildSystemToken>" (wire contract, section
// 2.1). Tokens hold no colon. It fails with KindUnauthenticated and never repeats the header.
func bearerCredentials(h http.Header) (credentials, error) {
	values := h.Values("Authorization")
	if len(values) == 0 {
		return credentials{}, signing.Errorf(signing.KindUnauthenticated,
			"The request has no Authorization header. Send \"Authorization: Bearer <apiToken>\".")
	}
	scheme, tokens, _ := strings.Cut(strings.TrimSpace(values[0]), " ")
	api, buildSystem, combined := strings.Cut(strings.TrimSpace(tokens), ":")
	if len(values) > 1 || !strings.EqualFold(scheme, "Bearer") || !isToken(api) || combined && !isToken(buildSystem) {
		return credentials{}, signing.Errorf(signing.KindUnauthenticated,
			"The Authorization header is not of the form \"Bearer <apiToken>\" or \"Bearer <apiToken>:<trustedBuildSystemToken>\".")
	}
	return credentials{apiToken: api, buildSystemToken: buildSystem}, nil
}

// isToken reports whether s can be a token: printable ASCII without blanks and colons, of sane length.
func isToken(s string) bool {
	return s != "" && len(s) <= 512 && !strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' || r == ':' })
}
