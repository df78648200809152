package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/countersign-dev/countersign/client"
)

// connection says which server to talk to, and as whom. All commands that use a server have these flags.
type connection struct {
	URL          string `name:"url" help:"Address of the server, such as https://sign.example.com." env:"COUNTERSIGN_URL" placeholder:"URL" group:"Connection"`
	Token        string `help:"API token. Prefer the environment variable: other users of a machine see flags." env:"COUNTERSIGN_TOKEN" placeholder:"TOKEN" group:"Connection"`
	Organization string `help:"Id of the organization (a GUID)." env:"COUNTERSIGN_ORGANIZATION" placeholder:"ID" group:"Connection"`
	BuildSystem  string `name:"trusted-build-system-token" help:"Token of a trusted build system, which vouches for the origin." env:"COUNTERSIGN_TRUSTED_BUILD_SYSTEM_TOKEN" placeholder:"TOKEN" group:"Connection"`
}

// client returns a client, or says what is missing.
func (c connection) client(opts ...client.Option) (*client.Client, error) {
	var missing []string
	for _, v := range []struct{ value, flag, name string }{
		{c.URL, "--url", "COUNTERSIGN_URL"}, {c.Token, "--token", "COUNTERSIGN_TOKEN"}, {c.Organization, "--organization", "COUNTERSIGN_ORGANIZATION"},
	} {
		if v.value == "" {
			missing = append(missing, fmt.Sprintf("%s (or %s)", v.name, v.flag))
		}
	}
	if len(missing) > 0 {
		return nil, &exitError{exitUsage, fmt.Errorf("set %s to say which server to use, and as whom", strings.Join(missing, ", "))}
	}
	opts = append([]client.Option{client.WithUserAgent("countersign/" + buildVersion()), client.WithTrustedBuildSystem(c.BuildSystem)}, opts...)
	cl, err := client.New(c.URL, c.Token, c.Organization, opts...)
	if err != nil {
		return nil, &exitError{exitUsage, err}
	}
	return cl, nil
}

// remoteError gives an error of the client its exit code, and says what to do about it.
func remoteError(err error) error {
	var e *client.Error
	if !errors.As(err, &e) {
		return err
	}
	hint := ""
	code := exitFailure
	switch e.Status {
	case http.StatusUnauthorized:
		code, hint = exitDenied, "Check COUNTERSIGN_TOKEN, and COUNTERSIGN_TRUSTED_BUILD_SYSTEM_TOKEN if it is set: the server does not know the token, or it expired or was revoked."
	case http.StatusForbidden:
		code, hint = exitDenied, "Check COUNTERSIGN_ORGANIZATION, and whose token COUNTERSIGN_TOKEN is. What only a trusted build system may do takes COUNTERSIGN_TRUSTED_BUILD_SYSTEM_TOKEN, too."
	case http.StatusBadRequest, http.StatusNotFound, http.StatusRequestEntityTooLarge:
		code = exitUsage
	}
	if e.Status == http.StatusNotFound && e.TraceID == "" {
		hint = "Check COUNTERSIGN_URL: what answers there is not the REST API of a Countersign server."
	}
	if hint != "" {
		err = fmt.Errorf("%w\n%s", err, hint)
	}
	return &exitError{code, err}
}

// waiting bounds how long a command waits.
type waiting struct {
	Timeout time.Duration `help:"Give up waiting after this long (exit code 4); the request goes on. 0 waits as long as it takes." default:"30m" placeholder:"DURATION"`
}

// within returns a context that ends with the time-out.
func (w waiting) within(ctx context.Context) (context.Context, context.CancelFunc) {
	if w.Timeout <= 0 {
		return context.WithCancel(ctx)
	}
	return context.WithTimeoutCause(ctx, w.Timeout, errTimeout)
}

var errTimeout = errors.New("timed out")

// ended gives an error that comes of the context's end its exit code. ctx is that of within.
func (w waiting) ended(ctx context.Context, err error, next string) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(context.Cause(ctx), errTimeout):
		return &exitError{exitTimeout, fmt.Errorf("gave up after %s (--timeout)%s", w.Timeout, next)}
	case ctx.Err() != nil:
		return &exitError{exitCanceled, fmt.Errorf("interrupted%s", next)}
	}
	return remoteError(err)
}

// parameters are those of an artifact configuration.
type parameters struct {
	Param map[string]string `help:"Value of a parameter of the artifact configuration; repeatable." placeholder:"NAME=VALUE" mapsep:"none" sep:"none" env:"-"`
}

// baseName returns a path's last element, whichever slashes it has: Windows users' paths travel in scripts.
func baseName(path string) string {
	return cmp.Or(path[strings.LastIndexAny(path, `/\`)+1:], path)
}

// exitCodes documents those of a command that uses a server in its help; failure is what 1 means.
func exitCodes(failure string) string {
	return "\n\nExit codes: 0 success, 1 " + failure + ", 2 wrong flags or input, 3 access denied, 4 timed out, 5 interrupted."
}

// localExitCodes are those of a command that uses none.
func localExitCodes(failure string) string {
	return "\n\nExit codes: 0 success, 1 " + failure + ", 2 wrong flags or input, 5 interrupted."
}

// serverExitCodes are those of a command that serves until it is stopped.
func serverExitCodes(failure string) string {
	return "\n\nExit codes: 0 success, or stopped by a signal, 1 " + failure + ", 2 wrong flags or input, 5 interrupted while starting."
}

// closeQuietly closes what was read only.
func closeQuietly(c io.Closer) { _ = c.Close() }
