package artifact

import (
	"slices"
	"strings"
)

// pathIndex finds out of many path patterns those that match a path, without
// trying each. The patterns are merged into a trie of segments: literal segments
// are looked up, wildcards are found by what they begin or end with. A set of
// trie nodes is the state while walking down a path, so that ** costs no more
// than any other segment, and a directory's state serves all files in it.
type pathIndex struct {
	root []*trieNode // state before the first segment
}

type trieNode struct {
	literals map[string]*trieNode
	wild     []wildEdge
	bySource map[string]int // wild edges by their pattern
	byPrefix affixIndex     // wild edges with a literal beginning
	byEnd    affixIndex     // wild edges with a literal end
	byInner  affixIndex     // wild edges with a literal elsewhere
	floating []int          // wild edges without literals
	deep     *trieNode      // behind **: reached without consuming a segment
	loop     bool           // this node is behind **: any segment leads back to it
	patterns []int          // that end here
}

type wildEdge struct {
	pattern *wildcard
	next    *trieNode
}

// affixIndex finds edges by a literal that a segment begins or ends with, or has
// in it.
type affixIndex struct {
	lengths []int
	edges   map[string][]int
}

func newPathIndex(patterns []*pathPattern) *pathIndex {
	root := &trieNode{}
	for i, p := range patterns {
		node := root
		for _, segment := range p.segments {
			node = node.child(segment)
		}
		node.patterns = append(node.patterns, i)
	}
	root.finish()
	return &pathIndex{root: root.enter(nil)}
}

// child returns the node behind a segment, and makes it if need be.
func (n *trieNode) child(segment *wildcard) *trieNode {
	if segment == nil {
		if n.deep == nil {
			n.deep = &trieNode{loop: true}
		}
		return n.deep
	}
	if text, ok := segment.exact(); ok {
		next := n.literals[text]
		if next == nil {
			if n.literals == nil {
				n.literals = make(map[string]*trieNode)
			}
			next = &trieNode{}
			n.literals[text] = next
		}
		return next
	}
	if i, ok := n.bySource[segment.source]; ok {
		return n.wild[i].next
	}
	if n.bySource == nil {
		n.bySource = make(map[string]int)
	}
	n.bySource[segment.source] = len(n.wild)
	next := &trieNode{}
	n.wild = append(n.wild, wildEdge{segment, next})
	return next
}

// finish builds the indexes of wild edges, here and below.
func (n *trieNode) finish() {
	for i, edge := range n.wild {
		prefix, suffix := edge.pattern.prefix(), edge.pattern.suffix()
		switch {
		case prefix == "" && suffix == "":
			if inner := edge.pattern.longestLiteral(); inner != "" {
				n.byInner.add(inner, i)
			} else {
				n.floating = append(n.floating, i)
			}
		case len(prefix) > len(suffix):
			n.byPrefix.add(prefix, i)
		default:
			n.byEnd.add(suffix, i)
		}
		edge.next.finish()
	}
	for _, next := range n.literals {
		next.finish()
	}
	if n.deep != nil {
		n.deep.finish()
	}
}

func (x *affixIndex) add(affix string, edge int) {
	if x.edges == nil {
		x.edges = make(map[string][]int)
	}
	if x.edges[affix] == nil {
		if at, found := slices.BinarySearch(x.lengths, len(affix)); !found {
			x.lengths = slices.Insert(x.lengths, at, len(affix))
		}
	}
	x.edges[affix] = append(x.edges[affix], edge)
}

// enter adds a node to a state, and what is reached from it without a segment.
func (n *trieNode) enter(state []*trieNode) []*trieNode {
	for ; n != nil && !slices.Contains(state, n); n = n.deep {
		state = append(state, n)
	}
	return state
}

// step returns the state behind one more segment, which is folded. The new state
// is appended to next, which may be a reused slice of length 0.
func step(state, next []*trieNode, segment string) []*trieNode {
	for _, n := range state {
		if n.loop {
			next = n.enter(next)
		}
		if to := n.literals[segment]; to != nil {
			next = to.enter(next)
		}
		if len(n.wild) == 0 {
			continue
		}
		for _, length := range n.byPrefix.lengths {
			if length > len(segment) {
				break
			}
			next = n.try(n.byPrefix.edges[segment[:length]], next, segment)
		}
		for _, length := range n.byEnd.lengths {
			if length > len(segment) {
				break
			}
			next = n.try(n.byEnd.edges[segment[len(segment)-length:]], next, segment)
		}
		for _, length := range n.byInner.lengths {
			for at := 0; at+length <= len(segment); at++ {
				next = n.try(n.byInner.edges[segment[at:at+length]], next, segment)
			}
		}
		next = n.try(n.floating, next, segment)
	}
	return next
}

func (n *trieNode) try(edges []int, next []*trieNode, segment string) []*trieNode {
	for _, i := range edges {
		if edge := &n.wild[i]; edge.pattern.match(segment) {
			next = edge.next.enter(next)
		}
	}
	return next
}

// matches appends the patterns that end in a state.
func matches(state []*trieNode, to []int) []int {
	for _, n := range state {
		to = append(to, n.patterns...)
	}
	return to
}

// lookup returns the patterns that match a path, in ascending order.
func (x *pathIndex) lookup(path string) []int {
	state := x.root
	if path != "" {
		for segment := range strings.SplitSeq(foldCase(path), "/") {
			state = step(state, nil, segment)
		}
	}
	found := matches(state, nil)
	slices.Sort(found)
	return found
}
