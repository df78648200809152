// Command bench measures whole programs beside their peers: signing files with "countersign sign" next to osslsigncode,
// unzip, zip, cp and programs that do the bare minimum, and a server under load. It prints one table at the end, with
// the goals that the project has set itself. Nothing fails because it is slow.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
)

// bench is one run of this program.
type bench struct {
	sizes
	countersign, floor string // programs
	dir                string // of everything that is made
	key, cert          string // PEM files
	rounds             int
	rows               []row
}

// sizes say how much work there is.
type sizes struct {
	program     int64 // bytes of the single program
	archive     int64 // bytes of the large archive, before compression
	passive     int64 // bytes of the file that stays as it is
	upload      int64 // bytes of the upload
	requests    int   // submitted to the server
	pollers     int
	manyEntries int
}

var (
	moderate = sizes{program: 100e6, archive: 256e6, passive: 512e6, upload: 512e6, requests: 400, pollers: 1000, manyEntries: 4000}
	full     = sizes{program: 100e6, archive: 1e9, passive: 2e9, upload: 2e9, requests: 2000, pollers: 1000, manyEntries: 4000}
)

// contests in the order in which they run.
var contests = []struct {
	name string
	run  func(*bench, context.Context) error
}{
	{"program", (*bench).singleProgram},
	{"programs", (*bench).manyPrograms},
	{"archive", (*bench).largeArchive},
	{"passive", (*bench).passiveFile},
	{"upload", (*bench).largeUpload},
	{"requests", (*bench).manyRequests},
	{"polling", (*bench).polling},
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) (err error) {
	names := make([]string, len(contests))
	for i, c := range contests {
		names[i] = c.name
	}
	b := &bench{sizes: moderate}
	large := flag.Bool("full", false, "take the sizes that the goals are set for; needs some 20 GB of disk and half an hour")
	only := flag.String("only", strings.Join(names, ","), "`contests` to run, separated by commas")
	temporary := flag.String("dir", "", "`directory` to work in; the default is the system's for temporary files")
	flag.IntVar(&b.rounds, "rounds", 5, "timed runs of each program")
	flag.StringVar(&b.countersign, "countersign", "bin/countersign", "main `program`, built")
	flag.Parse()
	if flag.NArg() > 0 || b.rounds < 1 {
		flag.Usage()
		return errors.New("wrong arguments")
	}
	if *large {
		b.sizes = full
	}
	if b.countersign, err = filepath.Abs(b.countersign); err != nil {
		return err
	}
	for _, p := range []string{b.countersign, "osslsigncode", "unzip", "zip", "cp", "xargs"} {
		if _, err := exec.LookPath(p); err != nil {
			return fmt.Errorf("%w; 'make build' builds countersign, 'make setup' installs the others", err)
		}
	}
	if b.dir, err = os.MkdirTemp(*temporary, "countersign-bench-"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(b.dir)) }()
	b.key, b.cert, b.floor = b.path("key.pem"), b.path("cert.pem"), b.path("floor")
	if err := writeKey(b.key, b.cert, "RSA-3072"); err != nil {
		return err
	}
	if out, err := exec.CommandContext(ctx, "go", "build", "-o", b.floor, "./e2e/bench/floor").CombinedOutput(); err != nil {
		return fmt.Errorf("build the floor: %w\n%s", err, out)
	}
	wanted := strings.Split(*only, ",")
	for _, c := range contests {
		if i := slices.Index(wanted, c.name); i >= 0 {
			wanted = slices.Delete(wanted, i, i+1)
			fmt.Fprintln(os.Stderr, c.name)
			if err := c.run(b, ctx); err != nil {
				return fmt.Errorf("%s: %w", c.name, err)
			}
		}
	}
	if len(wanted) > 0 {
		return fmt.Errorf("there is no contest %q; there are %s", wanted, strings.Join(names, ", "))
	}
	fmt.Printf("\n%s, %s/%s, %d processors, median of %d interleaved runs\n\n", runtime.Version(), runtime.GOOS, runtime.GOARCH, runtime.NumCPU(), b.rounds)
	return b.writeTable(os.Stdout)
}

func (b *bench) path(name string) string { return filepath.Join(b.dir, name) }
