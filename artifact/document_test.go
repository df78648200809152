package artifact

import (
	"errors"
	"strings"
	"testing"
)

// TestManyMistakes: a list of mistakes that was cut off says so.
func TestManyMistakes(t *testing.T) {
	t.Parallel()
	for n, want := range map[int]int{maxErrors: maxErrors, 3 * maxErrors: maxErrors + 1} {
		_, err := ParseConfiguration([]byte(configure("<zip-file>" + strings.Repeat("\n<unknown/>", n) + "</zip-file>")))
		mistakes, ok := errors.AsType[ConfigurationErrors](err)
		if !ok || len(mistakes) != want {
			t.Fatalf("%d mistakes: got %v", n, err)
		}
		if last := mistakes[len(mistakes)-1].Message; strings.Contains(last, "more") != (want > maxErrors) {
			t.Errorf("%d mistakes: the last error is %q", n, last)
		}
	}
}
