package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"time"
)

// sign is "countersign sign" as a contestant. Without a configuration it signs a single program.
func (b *bench) sign(in, out, configuration string) contestant {
	args := []string{b.countersign, "sign", "--key", b.key, "--cert", b.cert}
	if configuration != "" {
		args = append(args, "--config", configuration)
	}
	return contestant{"countersign sign", append(args, in, out), []string{out}}
}

// allPrograms writes a configuration that signs every program of an archive.
func (b *bench) allPrograms() (string, error) {
	path := b.path("archive.xml")
	return path, os.WriteFile(path, []byte(`<artifact-configuration xmlns="http://signpath.io/artifact-configuration/v1">
  <zip-file>
    <pe-file-set>
      <include path="**/*.exe" max-matches="unbounded"/>
      <for-each><authenticode-sign/></for-each>
    </pe-file-set>
  </zip-file>
</artifact-configuration>
`), 0o600)
}

// unpackSignPack does the same to an archive with the tools of the trade, on all processors.
func (b *bench) unpackSignPack(in, out string) contestant {
	const script = `set -e
rm -rf unpacked; mkdir unpacked
unzip -q "$1" -d unpacked
cd unpacked
find . -name '*.exe' -print0 | xargs -0 -P "$(nproc)" -I{} sh -c 'osslsigncode sign -h sha256 -key "$1" -certs "$2" -in "$3" -out "$3.signed" >/dev/null && mv "$3.signed" "$3"' sh "$3" "$4" {}
zip -q -r -X "$2" .
cd ..; rm -rf unpacked`
	return contestant{"unzip, osslsigncode for each, zip", []string{"sh", "-c", script, "sh", in, out, b.key, b.cert}, []string{out}}
}

func wallOf(u usage) time.Duration      { return u.wall }
func processorOf(u usage) time.Duration { return u.cpu }

// ratio returns the median of the ratios within each round. A machine that is faster in one round than in another, as
// virtual ones are, is so for both.
func ratio(a, b []usage, of func(usage) time.Duration) float64 {
	ratios := make([]float64, len(a))
	for i := range a {
		ratios[i] = float64(of(a[i])) / float64(of(b[i]))
	}
	slices.Sort(ratios)
	return ratios[(len(ratios)-1)/2]
}

// takes compares ours with another contestant. On a machine that is busy with other things, processor time tells more
// than the clock.
func takes(ours, other []usage) string {
	return fmt.Sprintf("ours takes %.2f of it, %.2f of its CPU", ratio(ours, other, wallOf), ratio(ours, other, processorOf))
}

// singleProgram: one large program.
func (b *bench) singleProgram(ctx context.Context) error {
	in := b.path("large.exe")
	if err := write(in, func(w io.Writer) error { _, err := w.Write(program(int(b.program), 1)); return err }); err != nil {
		return err
	}
	defer os.Remove(in)
	ours := b.sign(in, b.path("ours.exe"), "")
	peer := contestant{"osslsigncode sign", []string{"osslsigncode", "sign", "-h", "sha256", "-key", b.key, "-certs", b.cert, "-in", in, "-out", b.path("peer.exe")}, []string{b.path("peer.exe")}}
	floor := contestant{"hash, checksum, write in one pass", []string{b.floor, "copy", in, b.path("floor.exe")}, []string{b.path("floor.exe")}}
	runs, err := b.contest(ctx, b.rounds, ours, peer, floor)
	if err != nil {
		return err
	}
	what := fmt.Sprintf("sign a program of %d MB", b.program/1e6)
	toPeer, toFloor, peak := ratio(runs[0], runs[1], wallOf), ratio(runs[0], runs[2], wallOf), peakOf(runs[0])
	b.times(what, ours, runs[0], "", goal(peak <= 32<<20, "≤ 32 MiB"))
	b.times(what, peer, runs[1], takes(runs[0], runs[1]), goal(toPeer <= 0.65, "≤ 0.65"))
	b.times(what, floor, runs[2], takes(runs[0], runs[2]), goal(toFloor <= 1.15, "≤ 1.15"))
	return nil
}

// manyPrograms: 500 small programs in one archive.
func (b *bench) manyPrograms(ctx context.Context) error {
	const count, size = 500, 15 << 10
	in := b.path("programs.zip")
	if err := writeArchive(in, programs(count, size)); err != nil {
		return err
	}
	configuration, err := b.allPrograms()
	if err != nil {
		return err
	}
	ours := b.sign(in, b.path("ours.zip"), configuration)
	peer := b.unpackSignPack(in, b.path("peer.zip"))
	floor := contestant{"key operations alone", []string{b.floor, "keys", b.key, strconv.Itoa(count)}, nil}
	runs, err := b.contest(ctx, b.rounds, ours, floor, peer)
	if err != nil {
		return err
	}
	what := fmt.Sprintf("sign %d programs of %d KiB in a ZIP", count, size>>10)
	rate := func(r []usage) string { return fmt.Sprintf("%.0f/s", count/medianOf(r).Seconds()) }
	share := ratio(runs[1], runs[0], wallOf)
	b.times(what, ours, runs[0], rate(runs[0]), "")
	b.times(what, floor, runs[1], fmt.Sprintf("%s; ours has %.0f %% of it, %.0f %% by CPU", rate(runs[1]), 100*share, 100*ratio(runs[1], runs[0], processorOf)), goal(share >= 0.9, "≥ 90 %"))
	b.times(what, peer, runs[2], rate(runs[2])+"; "+takes(runs[0], runs[2]), "")
	return nil
}

// largeArchive: many files of which some are programs.
func (b *bench) largeArchive(ctx context.Context) error {
	const count, size = 500, 100 << 10
	in := b.path("large.zip")
	others := b.manyEntries - count
	members := append(resources(others, (b.archive-count*size)/int64(others)), programs(count, size)...)
	if err := writeArchive(in, members); err != nil {
		return err
	}
	defer os.Remove(in)
	configuration, err := b.allPrograms()
	if err != nil {
		return err
	}
	ours := b.sign(in, b.path("ours.zip"), configuration)
	peer := b.unpackSignPack(in, b.path("peer.zip"))
	runs, err := b.contest(ctx, min(b.rounds, 3), ours, peer)
	if err != nil {
		return err
	}
	what := fmt.Sprintf("sign %d programs in a ZIP of %d entries, %d MB", count, b.manyEntries, b.archive/1e6)
	share, peak := ratio(runs[0], runs[1], wallOf), peakOf(runs[0])
	b.times(what, ours, runs[0], "", goal(peak <= 256<<20, "≤ 256 MiB"))
	b.times(what, peer, runs[1], takes(runs[0], runs[1]), goal(share <= 0.15, "≤ 0.15"))
	return nil
}

// passiveFile: an archive of one small program and one large file that stays as it is.
func (b *bench) passiveFile(ctx context.Context) error {
	in := b.path("passive.zip")
	members := append(programs(1, 15<<10), member{"data.bin", true, func(w io.Writer) error { return fill(w, b.passive) }})
	if err := writeArchive(in, members); err != nil {
		return err
	}
	defer os.Remove(in)
	configuration, err := b.allPrograms()
	if err != nil {
		return err
	}
	ours := b.sign(in, b.path("ours.zip"), configuration)
	peer := contestant{"cp", []string{"cp", "--reflink=never", in, b.path("copy.zip")}, []string{b.path("copy.zip")}}
	floor := contestant{"hash, checksum, write in one pass", []string{b.floor, "copy", in, b.path("floor.zip")}, []string{b.path("floor.zip")}}
	runs, err := b.contest(ctx, min(b.rounds, 3), ours, peer, floor)
	if err != nil {
		return err
	}
	what := fmt.Sprintf("sign 1 program in a ZIP with a file of %d MB", b.passive/1e6)
	b.times(what, ours, runs[0], "", "")
	b.times(what, peer, runs[1], takes(runs[0], runs[1]), "")
	b.times(what, floor, runs[2], takes(runs[0], runs[2]), "")
	return nil
}
