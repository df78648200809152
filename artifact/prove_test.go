package artifact

import (
	"bytes"
	"os"
	"strings"
	"testing"
)

// flawed is an output that changes one octet on its way.
type flawed struct {
	*os.File
	at int64
}

func (f flawed) WriteAt(p []byte, off int64) (int, error) {
	if off <= f.at && f.at < off+int64(len(p)) {
		p = bytes.Clone(p)
		p[f.at-off] ^= 1
	}
	return f.File.WriteAt(p, off)
}

// TestSignProvesOutput: an output that is not what was signed is never called signed, whatever the hash algorithm.
func TestSignProvesOutput(t *testing.T) {
	t.Parallel()
	image := makePE(20_000, 1, nil)
	who := ecdsaIdentity()
	for _, hash := range []string{"sha1", "sha256", "sha512"} {
		c := mustParse(t, configure(`<pe-file><authenticode-sign hash-algorithm="`+hash+`"/></pe-file>`))
		src := bytesSource("app.exe", image)
		plan, err := c.Plan(t.Context(), src, PlanOptions{})
		if err != nil {
			t.Fatal(err)
		}
		for _, at := range []int64{int64(len(image)) - 1, int64(len(image)) / 2, 0x40} {
			_, err := Sign(t.Context(), plan, src, flawed{outputFile(t), at}, SignOptions{Key: who.key, Chain: who.chain})
			if err == nil || !strings.Contains(err.Error(), "does not verify") {
				t.Errorf("%s: an octet changed at %d: %v", hash, at, err)
			}
		}
	}
}
