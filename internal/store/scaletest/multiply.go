package scaletest

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand/v2"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/countersign-dev/countersign/internal/audit"
)

const (
	span = 2 * 365 * 24 * time.Hour // over which the requests are spread
	kept = 90 * 24 * time.Hour      // how long messages are
)

// tables hold what belongs to a request, which a column names.
var tables = []struct{ name, request string }{
	{"requests", "id"}, {"approvals", "request_id"}, {"request_verifications", "request_id"}, {"resolved_artifacts", "request_id"},
	{"grants", "request_id"}, {deliveries, "request_id"}, {leaves, "object_id"},
}

const (
	deliveries = "deliveries"
	leaves     = "audit_leaves"
)

// multiply copies families, with other ids, digests, names and times, until the database holds n requests.
func multiply(ctx context.Context, url string, families []family, n int) (err error) {
	l, err := newLoader(ctx, url)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.close()) }()
	have := 0
	var molds []*mold
	for _, f := range families {
		m, err := newMold(ctx, l, f)
		if err != nil {
			return err
		}
		molds, have = append(molds, m), have+len(f.ids)
	}
	c := &copier{random: rand.New(rand.NewPCG(1, 2)), end: time.Now()}
	if err := l.head(ctx, &c.organization, &c.head); err != nil {
		return err
	}
	if err := l.prepare(ctx); err != nil {
		return err
	}
	// One goroutine makes rows while another stores them.
	batches, stored := make(chan batch, 2), make(chan error, 1)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		defer cancel()
		for b := range batches {
			if err := l.insert(ctx, b); err != nil {
				stored <- err
				return
			}
		}
		stored <- nil
	}()
	wanted := n - have
	for made := 0; made < wanted && ctx.Err() == nil; {
		b := make(batch, len(tables))
		for limit := min(wanted, made+2000); made < limit; {
			at := float64(made) / float64(wanted)
			f := molds[pick(c.random, molds, func(m *mold) int { return m.weightAt(at) })]
			c.copy(f, c.end.Add(-time.Duration((1-at)*float64(span))), b)
			made += len(f.ids)
		}
		select {
		case batches <- b:
		case <-ctx.Done():
		}
	}
	close(batches)
	if err := <-stored; err != nil {
		return err
	}
	return l.finish(context.WithoutCancel(ctx), c.organization, c.head)
}

// weightAt returns how often a family is copied at a time between 0, the oldest, and 1.
func (f *family) weightAt(at float64) int {
	if f.recent && at < 0.95 || projectSlug(f.project) == Oldest && at > 0.001 {
		return 0
	}
	return f.weight
}

func pick[T any](random *rand.Rand, all []T, weight func(T) int) int {
	total := 0
	for _, v := range all {
		total += weight(v)
	}
	at := random.IntN(total)
	for i, v := range all {
		if at -= weight(v); at < 0 {
			return i
		}
	}
	panic("unreachable")
}

// mold is a family as it is copied.
type mold struct {
	family
	slots []slot
	rows  []moldRow
	base  int64 // time of the first submission, in microseconds
}

// slot is a text that is another one in each copy.
type slot int

const (
	idSlot slot = iota
	blobSlot
	digestSlot
	nameSlot
	nameKeySlot
)

type moldRow struct {
	table   int
	columns []string
	cells   []any // literal, pattern, offset of a time, or one of the marks below
}

// pattern is a text with slots between its parts.
type pattern struct {
	parts []string
	slots []int
	bytes bool
}

// offset is a time after the base.
type offset int64

// mark is a cell of an audit entry that depends on the entry before.
type mark int

const (
	sequenceMark mark = iota
	chainMark
)

// leafPattern is an audit entry: up to its sequence number, and from its time on.
type leafPattern struct {
	before string
	after  pattern
	at     offset
}

var (
	programName = "app.exe"
	hexDigest   = regexp.MustCompile(`^[0-9a-f]{64}$`)
	leafStart   = regexp.MustCompile(`^(.*?"sequence":)\d+,"time":"[^"]*"`)
)

// isTime tells the columns that hold times.
func isTime(column string) bool {
	return column == "at" || strings.HasSuffix(column, "_at") || column == "lease_until"
}

func newMold(ctx context.Context, l *loader, f family) (*mold, error) {
	m := &mold{family: f}
	slots := map[string]int{}
	add := func(text string, s slot) {
		if _, known := slots[text]; !known && text != "" {
			slots[text] = len(m.slots)
			m.slots = append(m.slots, s)
		}
	}
	for i, t := range tables {
		for _, id := range f.ids {
			columns, rows, err := l.read(ctx, "SELECT * FROM "+t.name+" WHERE "+t.request+" = $1", string(id))
			if err != nil {
				return nil, err
			}
			for _, cells := range rows {
				m.rows = append(m.rows, moldRow{table: i, columns: columns, cells: cells})
				for c, cell := range cells {
					text, _ := cell.(string)
					switch name := columns[c]; {
					case name == "id":
						add(text, idSlot)
					case strings.HasSuffix(name, "_blob"):
						add(text, blobSlot)
					case strings.HasSuffix(name, "_sha256") || name == "idempotency_key" && hexDigest.MatchString(text):
						add(text, digestSlot)
					case strings.HasSuffix(name, "_name_key"):
						add(text, nameKeySlot)
					case name == "created_at" && t.name == "requests" && m.base == 0:
						m.base = cell.(int64)
					}
				}
			}
		}
	}
	add(programName, nameSlot)
	// The entries of the audit log in their order.
	slices.SortStableFunc(m.rows, func(a, b moldRow) int {
		if a.table != b.table || tables[a.table].name != leaves {
			return a.table - b.table
		}
		i := slices.Index(a.columns, "sequence")
		return int(a.cells[i].(int64) - b.cells[i].(int64))
	})
	for _, r := range m.rows {
		for i, cell := range r.cells {
			switch cell := cell.(type) {
			case string:
				r.cells[i] = compile(cell, slots)
			case int64:
				if isTime(r.columns[i]) {
					r.cells[i] = offset(cell - m.base)
				}
			case []byte:
				p := compile(string(cell), slots)
				p.bytes = true
				r.cells[i] = p
			}
		}
		if tables[r.table].name != leaves {
			continue
		}
		leaf := r.cells[slices.Index(r.columns, "leaf")].(pattern)
		start := leafStart.FindStringSubmatch(leaf.parts[0])
		if start == nil {
			return nil, fmt.Errorf("an audit entry begins with %q", leaf.parts[0])
		}
		leaf.parts[0] = leaf.parts[0][len(start[0]):]
		r.cells[slices.Index(r.columns, "leaf")] = leafPattern{start[1], leaf, r.cells[slices.Index(r.columns, "at")].(offset)}
		r.cells[slices.Index(r.columns, "sequence")] = sequenceMark
		r.cells[slices.Index(r.columns, "chain")] = chainMark
	}
	return m, nil
}

// compile cuts a text at the slots' texts.
func compile(text string, slots map[string]int) pattern {
	var p pattern
	var quoted []string
	for s := range slots {
		quoted = append(quoted, regexp.QuoteMeta(s))
	}
	last := 0
	for _, at := range regexp.MustCompile(strings.Join(quoted, "|")).FindAllStringIndex(text, -1) {
		p.parts, p.slots = append(p.parts, text[last:at[0]]), append(p.slots, slots[text[at[0]:at[1]]])
		last = at[1]
	}
	p.parts = append(p.parts, text[last:])
	return p
}

func (p pattern) fill(values []string) string {
	if len(p.slots) == 0 {
		return p.parts[0]
	}
	var b strings.Builder
	for i, s := range p.slots {
		b.WriteString(p.parts[i])
		b.WriteString(values[s])
	}
	b.WriteString(p.parts[len(p.slots)])
	return b.String()
}

// copier makes copies.
type copier struct {
	random       *rand.Rand
	end          time.Time
	organization string
	head         audit.Head
	count        uint64
}

// batch has the rows of each table.
type batch [][]insertion

type insertion struct {
	columns []string
	values  []any
}

// copy adds a copy of a family that was submitted at the time.
func (c *copier) copy(m *mold, at time.Time, b batch) {
	base := at.UnixMicro()
	values := make([]string, len(m.slots))
	name := fmt.Sprintf("%s-2.4.%d-setup.exe", projectSlug(m.project), c.count)
	for i, s := range m.slots {
		c.count++
		switch s {
		case idSlot:
			values[i] = newID(at, c.count).String()
		case blobSlot:
			values[i] = strings.ReplaceAll(newID(at, c.count).String(), "-", "")
		case digestSlot:
			digest := sha256.Sum256(binary.BigEndian.AppendUint64(nil, c.count))
			values[i] = hex.EncodeToString(digest[:])
		case nameSlot:
			values[i] = name
		case nameKeySlot:
			values[i] = strings.ToUpper(name)
		}
	}
	for _, r := range m.rows {
		if tables[r.table].name == deliveries && c.end.Sub(at) > kept {
			continue
		}
		cells := make([]any, len(r.cells))
		for i, cell := range r.cells {
			switch cell := cell.(type) {
			case pattern:
				if cells[i] = cell.fill(values); cell.bytes {
					cells[i] = []byte(cell.fill(values))
				}
			case offset:
				cells[i] = base + int64(cell)
			case leafPattern:
				leaf := cell.before + strconv.FormatInt(c.head.Sequence+1, 10) + `,"time":"` +
					time.UnixMicro(base+int64(cell.at)).UTC().Format(time.RFC3339Nano) + `"` + cell.after.fill(values)
				c.head = c.head.Next([]byte(leaf))
				cells[i] = []byte(leaf)
			default:
				cells[i] = cell
			}
		}
		for i, cell := range cells { // the entry is known by now
			switch cell {
			case sequenceMark:
				cells[i] = c.head.Sequence
			case chainMark:
				chain := c.head.Chain
				cells[i] = chain[:]
			}
		}
		b[r.table] = append(b[r.table], insertion{r.columns, cells})
	}
}

// newID returns a UUID of version 7 (RFC 9562, section 5.7) with a counter in place of random bits.
func newID(at time.Time, count uint64) (id uuid.UUID) {
	binary.BigEndian.PutUint64(id[:8], uint64(at.UnixMilli())<<16|0x7000)
	binary.BigEndian.PutUint64(id[8:], count&(1<<62-1)|1<<63)
	return id
}

// head reads the organization and the end of its audit log.
func (l *loader) head(ctx context.Context, organization *string, h *audit.Head) error {
	var chain []byte
	err := l.conn.QueryRowContext(ctx, "SELECT organization_id, sequence, chain FROM audit_heads").Scan(organization, &h.Sequence, &chain)
	copy(h.Chain[:], chain)
	return err
}

// read returns the rows of a query.
func (l *loader) read(ctx context.Context, query string, args ...any) (columns []string, all [][]any, err error) {
	r, err := l.conn.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, nil, err
	}
	defer func() { err = errors.Join(err, r.Close(), r.Err()) }()
	if columns, err = r.Columns(); err != nil {
		return nil, nil, err
	}
	for r.Next() {
		cells, into := make([]any, len(columns)), make([]any, len(columns))
		for i := range cells {
			into[i] = &cells[i]
		}
		if err := r.Scan(into...); err != nil {
			return nil, nil, err
		}
		all = append(all, cells)
	}
	return columns, all, nil
}
