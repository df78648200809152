// Package oracle finds the programs that tests use as second implementations.
package oracle

import (
	"context"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// Need returns the path of a program, which tells its version, when a minimum
// such as "2.9" is named, by one of the arguments --version, version or -version.
// Without the program, or when it is older, the test is skipped, loudly, or fails
// when the environment has CI set.
func Need(t testing.TB, program string, minimum ...string) string {
	t.Helper()
	path, err := exec.LookPath(program)
	if err != nil {
		Missing(t, "%s is not installed", program)
	}
	if len(minimum) == 0 {
		return path
	}
	version := Version(t.Context(), path)
	if version == "" {
		Missing(t, "%s does not tell its version", program)
	}
	if less(version, minimum[0]) {
		Missing(t, "%s has version %s; %s is needed", program, version, minimum[0])
	}
	return path
}

// Missing skips the test for want of something outside, or fails it when the
// environment has CI set: there a test that does not run proves nothing.
func Missing(t testing.TB, format string, args ...any) {
	t.Helper()
	if os.Getenv("CI") != "" {
		t.Fatalf("missing oracle: "+format, args...)
	}
	t.Skipf("SKIPPED, missing oracle: "+format, args...)
}

var versionPattern = regexp.MustCompile(`\d+(\.\d+)+`)

// Version returns the first dotted number that a program prints when it is asked
// for its version, or nothing.
func Version(ctx context.Context, path string) string {
	for _, argument := range []string{"--version", "version", "-version"} {
		// Some programs print their version and exit with an error.
		output, _ := exec.CommandContext(ctx, path, argument).CombinedOutput()
		if version := versionPattern.FindString(string(output)); version != "" {
			return version
		}
	}
	return ""
}

// less compares dotted numbers.
func less(a, b string) bool {
	as, bs := strings.Split(a, "."), strings.Split(b, ".")
	for i := range max(len(as), len(bs)) {
		var x, y int
		if i < len(as) {
			x, _ = strconv.Atoi(as[i])
		}
		if i < len(bs) {
			y, _ = strconv.Atoi(bs[i])
		}
		if x != y {
			return x < y
		}
	}
	return false
}
