package main

import (
	"strings"
	"testing"

	"github.com/countersign-dev/countersign/artifact"
	"github.com/countersign-dev/countersign/internal/signing"
)

// TestLimits: what an administrator sets reaches the domain and the engine.
func TestLimits(t *testing.T) {
	t.Parallel()
	parser, err := newParser(nil)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := parser.Parse([]string{"serve", "--artifact-limit=5", "--unpacked-limit=4", "--file-limit=3", "--depth-limit=2", "--ratio-limit=1"})
	if err != nil {
		t.Fatal(err)
	}
	want := signing.Limits{ArtifactBytes: 5, Engine: artifact.Limits{TotalSize: 4, Files: 3, Depth: 2, Ratio: 1}}
	if got := parsed.Selected().Target.Addr().Interface().(*serveCmd).limits(); got != want {
		t.Errorf("limits are %+v, want %+v", got, want)
	}
	for _, command := range [][]string{{"serve"}, {"plan", "limits_test.go"}, {"analyze", "limits_test.go"}, {"verify", "limits_test.go"}} {
		for _, flag := range []string{"--unpacked-limit", "--file-limit", "--depth-limit", "--ratio-limit"} {
			if _, err := parser.Parse(append(command, flag+"=0")); err == nil || !strings.Contains(err.Error(), flag) {
				t.Errorf("%v %s=0: got error %v", command, flag, err)
			}
		}
	}
}
