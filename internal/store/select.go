package store

import (
	"strconv"
	"strings"
)

// conditions collects terms of a WHERE clause with their arguments.
type conditions struct {
	terms []string
	args  []any
}

// arg adds an argument and returns its placeholder.
func (c *conditions) arg(v any) string {
	c.args = append(c.args, v)
	return "$" + strconv.Itoa(len(c.args))
}

// add appends a term in which each ? stands for the next argument.
func (c *conditions) add(term string, args ...any) {
	for _, a := range args {
		term = strings.Replace(term, "?", c.arg(a), 1)
	}
	c.terms = append(c.terms, term)
}

// in returns the term column IN (values).
func in[S ~string](c *conditions, column string, values []S) string {
	placeholders := make([]string, len(values))
	for i, v := range values {
		placeholders[i] = c.arg(string(v))
	}
	return column + " IN (" + strings.Join(placeholders, ", ") + ")"
}

// equal returns a term column = value for each value.
func equal[S ~string](c *conditions, column string, values ...S) []string {
	terms := make([]string, len(values))
	for i, v := range values {
		terms[i] = column + " = " + c.arg(string(v))
	}
	return terms
}

func (c *conditions) where() string { return strings.Join(c.terms, " AND ") }

// branches is a list that takes the first rows of several indexed lists of one order: each branch is the lookup of one
// value in an index that has the order, cut at the limit, so what it costs does not depend on how many rows match.
// Planners are not left to choose between reading one index in order and collecting rows to sort, because both choices
// are wrong for some filter.
type branches struct {
	table      string   // with its alias r
	order      []string // columns, which every branch selects
	desc       bool
	limit      int
	skip       int        // so many first rows of every branch
	alts       [][]string // each dimension's alternatives; a branch takes one of each
	conditions            // hold for every branch; the alternatives share their arguments
}

// anyOf adds a dimension: rows match one of the terms.
func (b *branches) anyOf(terms []string) { b.alts = append(b.alts, terms) }

// count returns how many branches there are.
func (b *branches) count() int {
	n := 1
	for _, alts := range b.alts {
		n *= len(alts)
	}
	return n
}

// sql returns the query that yields the order columns of the first rows, in order, without duplicates.
func (b *branches) sql() string {
	direction := ""
	if b.desc {
		direction = " DESC"
	}
	orderBy := " ORDER BY " + strings.Join(b.order, direction+", ") + direction + " LIMIT " + strconv.Itoa(b.limit)
	columns, skip := strings.Join(b.order, ", "), ""
	if b.skip > 0 {
		skip = " OFFSET " + strconv.Itoa(b.skip)
	}
	combined := []string{""}
	for _, alts := range b.alts {
		var next []string
		for _, c := range combined {
			for _, a := range alts {
				if c != "" {
					a = c + " AND " + a
				}
				next = append(next, a)
			}
		}
		combined = next
	}
	var q strings.Builder
	for i, c := range combined {
		if i > 0 {
			q.WriteString(" UNION ")
		}
		where := c
		if rest := b.where(); rest != "" {
			if where != "" {
				where += " AND "
			}
			where += rest
		}
		q.WriteString("SELECT " + columns + " FROM (SELECT " + columns + " FROM " + b.table + " WHERE " + where + orderBy + skip + ") b" + strconv.Itoa(i))
	}
	return q.String() + orderBy
}
