package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"
)

// contestant is a command that does the same work as the others of its contest.
type contestant struct {
	name    string
	args    []string // program and arguments
	outputs []string // files that it makes, removed before each run
}

// usage is what one run took.
type usage struct {
	wall, cpu time.Duration
	peak      int64 // largest resident set of the process or one of its children, in bytes
}

// contest runs each contestant once to warm the caches, and then all of them in turn, round after round, so that what
// disturbs the machine disturbs all of them. It returns the runs of each contestant.
func (b *bench) contest(ctx context.Context, rounds int, contestants ...contestant) ([][]usage, error) {
	runs := make([][]usage, len(contestants))
	for round := range rounds + 1 {
		for i, c := range contestants {
			for _, o := range c.outputs {
				if err := os.RemoveAll(o); err != nil {
					return nil, err
				}
			}
			// What an earlier run wrote is on the disk before the next one is timed.
			syscall.Sync()
			u, err := b.measure(ctx, c.args)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", c.name, err)
			}
			if round > 0 {
				runs[i] = append(runs[i], u)
			}
		}
	}
	return runs, nil
}

// measure runs a command to its end.
func (b *bench) measure(ctx context.Context, args []string) (usage, error) {
	cmd := exec.CommandContext(ctx, b.floor, append([]string{"run"}, args...)...)
	cmd.Dir = b.dir
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return usage{}, fmt.Errorf("%w\n%s", err, stderr.Bytes())
	}
	var u usage
	_, err = fmt.Sscan(string(out), (*int64)(&u.wall), (*int64)(&u.cpu), &u.peak)
	return u, err
}

func medianOf(runs []usage) time.Duration {
	walls := make([]time.Duration, len(runs))
	for i, u := range runs {
		walls[i] = u.wall
	}
	return percentile(walls, 50)
}

func cpuOf(runs []usage) time.Duration {
	used := make([]time.Duration, len(runs))
	for i, u := range runs {
		used[i] = u.cpu
	}
	return percentile(used, 50)
}

func peakOf(runs []usage) (peak int64) {
	for _, u := range runs {
		peak = max(peak, u.peak)
	}
	return peak
}

// percentile returns the smallest value that p percent of the values do not exceed.
func percentile(values []time.Duration, p int) time.Duration {
	if len(values) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(values))
	return sorted[max(0, (len(sorted)*p+99)/100-1)]
}

// row is a line of the table at the end.
type row struct {
	what, who                        string
	median, spread, cpu, peak, ratio string
	goal                             string
}

// goal judges a figure: "≤ 0.65: met".
func goal(met bool, text string) string {
	if met {
		return text + ": met"
	}
	return text + ": MISSED"
}

// times adds a row for a contestant; ratio and goal may be empty.
func (b *bench) times(what string, c contestant, runs []usage, ratio, goal string) {
	least, most := runs[0].wall, runs[0].wall
	for _, u := range runs {
		least, most = min(least, u.wall), max(most, u.wall)
	}
	b.row(row{what, c.name, seconds(medianOf(runs)), seconds(least) + "–" + seconds(most), seconds(cpuOf(runs)), mebibytes(peakOf(runs)), ratio, goal})
}

// row adds a line, and shows it at once on standard error.
func (b *bench) row(r row) {
	b.rows = append(b.rows, r)
	fmt.Fprintln(os.Stderr, "  "+strings.Join(slices.DeleteFunc(r.cells(), func(s string) bool { return s == "" }), " · "))
}

func (r row) cells() []string {
	return []string{r.what, r.who, r.median, r.spread, r.cpu, r.peak, r.ratio, r.goal}
}

// writeTable writes all rows as a Markdown table that is also aligned.
func (b *bench) writeTable(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 1, ' ', 0)
	line := func(cells []string) { fmt.Fprintln(t, "| "+strings.Join(cells, "\t| ")+"\t|") }
	line([]string{"work", "by", "median", "range", "CPU", "peak memory", "ratio or rate", "goal"})
	line(slices.Repeat([]string{"---"}, 8))
	last := ""
	for _, r := range b.rows {
		if r.what == last {
			r.what = ""
		} else {
			last = r.what
		}
		line(r.cells())
	}
	return t.Flush()
}

func seconds(d time.Duration) string {
	if d < time.Second {
		return fmt.Sprintf("%.1f ms", float64(d)/1e6)
	}
	return fmt.Sprintf("%.2f s", d.Seconds())
}

func mebibytes(n int64) string { return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20)) }
