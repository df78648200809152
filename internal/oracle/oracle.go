// Package oracle finds the programs that tests use as second implementations.
package oracle

import "testing"

// Need returns the path of a program, at least of the given version when one is
// named. Without it the test is skipped, or fails when the environment has CI set.
func Need(t testing.TB, program string, minimum ...string) string {
	t.Helper()
	t.Skip("not implemented")
	return ""
}
