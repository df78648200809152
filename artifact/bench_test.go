package artifact

import (
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

// manyRules are 1,000 rules as people write them.
func manyRules() string {
	var b strings.Builder
	b.WriteString(`<zip-file><pe-file-set>`)
	for i := range 1000 {
		switch i % 5 {
		case 0:
			fmt.Fprintf(&b, `<include path="dir%d/file%d.dll" min-matches="0"/>`, i%100, i)
		case 1:
			fmt.Fprintf(&b, `<include path="dir%d/lib%d-*.dll" min-matches="0" max-matches="unbounded"/>`, i%100, i)
		case 2:
			fmt.Fprintf(&b, `<include path="**/module%d.exe" min-matches="0" max-matches="unbounded"/>`, i)
		case 3:
			fmt.Fprintf(&b, `<include path="dir%d/**/*-part%d.dll" min-matches="0" max-matches="unbounded"/>`, i%100, i)
		case 4:
			fmt.Fprintf(&b, `<include path="*/[a-m]%d?.sys" min-matches="0" max-matches="unbounded"/>`, i)
		}
	}
	b.WriteString(`<for-each><authenticode-sign/></for-each></pe-file-set></zip-file>`)
	return b.String()
}

func manyMembers() []member {
	members := make([]member, 100_000)
	for i := range members {
		switch i % 4 {
		case 0:
			members[i].path = fmt.Sprintf("dir%d/File%d.dll", i%100, i%1000)
		case 1:
			members[i].path = fmt.Sprintf("dir%d/sub%d/module%d.exe", i%100, i%7, i)
		case 2:
			members[i].path = fmt.Sprintf("dir%d/sub/deeper/x-part%d.dll", i%100, i)
		case 3:
			members[i].path = fmt.Sprintf("dir%d/resources/strings.%d.json", i%100, i)
		}
	}
	return members
}

// BenchmarkMatch matches 100,000 files against 1,000 rules, with all that
// planning does for it once.
func BenchmarkMatch(b *testing.B) {
	c := mustParse(b, configure(manyRules()))
	members := manyMembers()
	b.ReportAllocs()
	for b.Loop() {
		var errs complaints
		set := bind(c.root.rules, nil, &errs)
		if _, err := match(set, members, nil); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkMatchFloating is the worst case: wildcards that neither begin nor end
// with a literal.
func BenchmarkMatchFloating(b *testing.B) {
	var rules strings.Builder
	rules.WriteString(`<zip-file><pe-file-set>`)
	for i := range 1000 {
		fmt.Fprintf(&rules, `<include path="**/*part%d*" min-matches="0" max-matches="unbounded"/>`, i)
	}
	rules.WriteString(`<for-each><authenticode-sign/></for-each></pe-file-set></zip-file>`)
	c := mustParse(b, configure(rules.String()))
	members := manyMembers()
	for b.Loop() {
		var errs complaints
		if _, err := match(bind(c.root.rules, nil, &errs), members, nil); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkKey is what the key can do by itself on all processors: the floor of
// BenchmarkSignZIP.
func BenchmarkKey(b *testing.B) {
	who := rsaIdentity()
	digest := sha256.Sum256([]byte("x"))
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, err := who.key.Sign(rand.Reader, digest[:], crypto.SHA256); err != nil {
				b.Error(err)
			}
		}
	})
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "signatures/s")
}

// BenchmarkSignZIP plans and signs 500 images of 15 KB in one archive.
func BenchmarkSignZIP(b *testing.B) {
	who := rsaIdentity()
	var files []zipFile
	for i := range 500 {
		files = append(files, zipFile{name: fmt.Sprintf("lib/file%d.dll", i), content: codePE(b, 15_000, i)})
	}
	content := makeZIP(b, files...)
	c := mustParse(b, configure(`<zip-file><pe-file path="lib/*.dll" max-matches="unbounded"><authenticode-sign/></pe-file></zip-file>`))
	for b.Loop() {
		signOnce(b, c, content, who)
	}
	b.ReportMetric(500*float64(b.N)/b.Elapsed().Seconds(), "signatures/s")
}

// codePE is an image of size bytes of this test's own machine code, which
// compresses like programs do.
func codePE(b *testing.B, size, n int) []byte {
	program, err := os.Executable()
	if err != nil {
		b.Fatal(err)
	}
	f, err := os.Open(program)
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	image := makePE(size, uint64(n), nil)
	if _, err := f.ReadAt(image[0x200:], int64(1<<16+n*size%(4<<20))); err != nil {
		b.Fatal(err)
	}
	return image
}

func signOnce(b *testing.B, c *Configuration, content []byte, who identity) {
	plan, err := c.Plan(b.Context(), bytesSource("a.zip", content), PlanOptions{})
	if err != nil || len(plan.Violations) > 0 {
		b.Fatal(err, plan)
	}
	out, err := os.CreateTemp(b.TempDir(), "signed")
	if err != nil {
		b.Fatal(err)
	}
	defer os.Remove(out.Name())
	defer out.Close()
	if _, err := Sign(b.Context(), plan, bytesSource("a.zip", content), out, SignOptions{Key: who.key, Chain: who.chain}); err != nil {
		b.Fatal(err)
	}
}

// BenchmarkSignLargeZIP plans and signs an archive of 64 MB, of which an eighth
// changes: the shape of a 1 GB archive with 4,000 files, scaled down.
func BenchmarkSignLargeZIP(b *testing.B) {
	who := ecdsaIdentity()
	var files []zipFile
	size := int64(0)
	for i := range 256 {
		name, content := fmt.Sprintf("data/file%d.bin", i), codePE(b, 250_000, i)
		if i%8 == 0 {
			name = fmt.Sprintf("bin/file%d.dll", i)
		}
		files = append(files, zipFile{name: name, content: content})
		size += int64(len(content))
	}
	content := makeZIP(b, files...)
	c := mustParse(b, configure(`<zip-file><pe-file path="bin/*.dll" max-matches="unbounded"><authenticode-sign/></pe-file></zip-file>`))
	b.SetBytes(size)
	runtime.GC()
	stop, peak := watchHeap()
	for b.Loop() {
		signOnce(b, c, content, who)
	}
	close(stop)
	// Without the archive, which the benchmark holds in memory.
	b.ReportMetric(float64(peak.Load()-uint64(len(content)))/(1<<20), "peak-MiB")
}

// BenchmarkSignLargePE plans and signs one image of 100 MB, from file to file.
func BenchmarkSignLargePE(b *testing.B) {
	who := ecdsaIdentity()
	name := filepath.Join(b.TempDir(), "large.exe")
	if err := os.WriteFile(name, makePE(100_000_000, 1, nil), 0o600); err != nil {
		b.Fatal(err)
	}
	in, err := os.Open(name)
	if err != nil {
		b.Fatal(err)
	}
	defer in.Close()
	info, err := in.Stat()
	if err != nil {
		b.Fatal(err)
	}
	src := Source{"large.exe", in, info.Size()}
	c := mustParse(b, configure(`<pe-file><authenticode-sign/></pe-file>`))
	b.SetBytes(info.Size())
	runtime.GC()
	stop, peak := watchHeap()
	for b.Loop() {
		plan, err := c.Plan(b.Context(), src, PlanOptions{})
		if err != nil {
			b.Fatal(err)
		}
		out, err := os.CreateTemp(b.TempDir(), "signed")
		if err != nil {
			b.Fatal(err)
		}
		if _, err := Sign(b.Context(), plan, src, out, SignOptions{Key: who.key, Chain: who.chain}); err != nil {
			b.Fatal(err)
		}
		out.Close()
		os.Remove(out.Name())
	}
	close(stop)
	b.ReportMetric(float64(peak.Load())/(1<<20), "peak-MiB")
}

// watchHeap records the largest heap until the channel is closed.
func watchHeap() (chan struct{}, *atomic.Uint64) {
	stop, peak := make(chan struct{}), new(atomic.Uint64)
	var once sync.Once
	started := make(chan struct{})
	go func() {
		var m runtime.MemStats
		for {
			runtime.ReadMemStats(&m)
			peak.Store(max(peak.Load(), m.HeapInuse))
			once.Do(func() { close(started) })
			select {
			case <-stop:
				return
			default:
				runtime.Gosched()
			}
		}
	}()
	<-started
	return stop, peak
}
