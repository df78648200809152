package oracle

import "testing"

func TestLess(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		a, b string
		want bool
	}{
		{"2.5", "2.9", true},
		{"2.10", "2.9", false},
		{"2.9", "2.9", false},
		{"2", "2.0.1", true},
		{"3.0.19", "3", false},
	} {
		if got := less(test.a, test.b); got != test.want {
			t.Errorf("less(%q, %q) = %v", test.a, test.b, got)
		}
	}
}

func TestNeed(t *testing.T) {
	t.Parallel()
	if path := Need(t, "go", "1.20"); path == "" {
		t.Error("no path")
	}
}
