// Package audit defines the audit log's leaf: one immutable record of one change or one signature, and the hash chain
// that links an organization's leaves, so that a removed, altered or reordered entry is found.
//
// The leaf format is final, because a Merkle log is built on it. A leaf is the UTF-8 JSON text that [Entry.Encode]
// yields; those bytes are stored and hashed as they are and never encoded again. Hashes:
//
//	leaf hash   = SHA-256(0x00 || leaf)                           (the leaf hash of RFC 6962, section 2.1)
//	chain value = SHA-256(0x02 || previous chain value || leaf hash)
//	chain start = SHA-256(0x03 || "countersign-audit-v1" || organization id)
package audit

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// Hash is a SHA-256 value.
type Hash [sha256.Size]byte

// String returns the hash in lower-case hexadecimal.
func (h Hash) String() string { return hex.EncodeToString(h[:]) }

// Entry is one event. Sequence is given by the store when the entry is appended.
type Entry struct {
	Format         int             `json:"format"`       // 1
	OrganizationID string          `json:"organization"` // GUID
	Sequence       int64           `json:"sequence"`     // from 1, without gaps, per organization
	Time           time.Time       `json:"time"`         // UTC, microseconds
	Event          string          `json:"event"`        // "SigningRequest.Submitted"
	Actor          Actor           `json:"actor"`
	Object         Object          `json:"object"`
	Data           json.RawMessage `json:"data,omitempty"` // what the event's kind documents; changes carry "before" and "after"
}

// Actor is who caused an event.
type Actor struct {
	ID   string `json:"id,omitempty"`
	Kind string `json:"kind"` // "Interactive", "CI", "System"
	Name string `json:"name"`
	Via  string `json:"via,omitempty"`
}

// Object is what an event is about.
type Object struct {
	Type string `json:"type"` // "SigningRequest", "Project", ...
	ID   string `json:"id"`
	Name string `json:"name,omitempty"`
}

// Encode returns the entry's leaf. Member order is that of the struct, maps are sorted by key, nothing is HTML-escaped.
func (e *Entry) Encode() ([]byte, error) {
	e.Format = 1
	e.Time = e.Time.UTC().Truncate(time.Microsecond)
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(e); err != nil {
		return nil, fmt.Errorf("audit: encode entry %s: %w", e.Event, err)
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}

// Decode reads a leaf.
func Decode(leaf []byte) (*Entry, error) {
	var e Entry
	dec := json.NewDecoder(bytes.NewReader(leaf))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&e); err != nil {
		return nil, fmt.Errorf("audit: decode leaf: %w", err)
	}
	if dec.InputOffset() != int64(len(leaf)) {
		return nil, fmt.Errorf("audit: leaf goes on after its JSON, at byte %d", dec.InputOffset())
	}
	if e.Format != 1 {
		return nil, fmt.Errorf("audit: leaf has format %d, this version knows format 1", e.Format)
	}
	return &e, nil
}

// Leaf is a stored entry: the exact bytes and the chain value after it.
type Leaf struct {
	Sequence int64
	Data     []byte
	Chain    Hash
	Index    Index
}

// Index is what a store finds an entry by, kept beside the leaf: were it changed, a filter would no longer find the entry.
type Index struct {
	Event, ObjectType, ObjectID, ActorID string
	Time                                 int64 // microseconds since 1970
}

// Index returns what the entry is found by.
func (e *Entry) Index() Index {
	return Index{Event: e.Event, ObjectType: e.Object.Type, ObjectID: e.Object.ID, ActorID: e.Actor.ID, Time: e.Time.UnixMicro()}
}

// Head is the state of a chain: the last leaf's sequence number and chain value.
type Head struct {
	Sequence int64
	Chain    Hash
}

// LeafHash returns SHA-256(0x00 || leaf).
func LeafHash(leaf []byte) Hash {
	h := sha256.New()
	h.Write([]byte{0})
	h.Write(leaf)
	return Hash(h.Sum(nil))
}

// Start returns the head of an organization's empty chain.
func Start(organizationID string) Head {
	h := sha256.New()
	h.Write([]byte{3})
	h.Write([]byte("countersign-audit-v1"))
	h.Write([]byte(organizationID))
	return Head{Chain: Hash(h.Sum(nil))}
}

// Next links a leaf to a chain and returns the new head.
func (h Head) Next(leaf []byte) Head {
	leafHash := LeafHash(leaf)
	s := sha256.New()
	s.Write([]byte{2})
	s.Write(h.Chain[:])
	s.Write(leafHash[:])
	return Head{Sequence: h.Sequence + 1, Chain: Hash(s.Sum(nil))}
}

// ErrBroken is the kind of every error that [Verify] returns.
var ErrBroken = errors.New("audit log is broken")

// Verify checks that the leaf follows the head: sequence number without gap, organization, chain value, readable entry,
// index. It returns the new head. Call it for each leaf in order, starting from [Start], and compare the last head with one
// noted earlier to learn that nothing was cut off at the end.
func Verify(h Head, organizationID string, leaf Leaf) (Head, error) {
	e, err := Decode(leaf.Data)
	if err != nil {
		return h, fmt.Errorf("%w: entry %d cannot be read: %w", ErrBroken, leaf.Sequence, err)
	}
	next := h.Next(leaf.Data)
	switch {
	case leaf.Sequence != next.Sequence:
		return h, fmt.Errorf("%w: entry %d follows entry %d: entries are missing or out of order", ErrBroken, leaf.Sequence, h.Sequence)
	case e.Sequence != leaf.Sequence:
		return h, fmt.Errorf("%w: entry %d says that it is entry %d", ErrBroken, leaf.Sequence, e.Sequence)
	case e.OrganizationID != organizationID:
		return h, fmt.Errorf("%w: entry %d belongs to organization %s, not %s", ErrBroken, leaf.Sequence, e.OrganizationID, organizationID)
	case leaf.Chain != next.Chain:
		return h, fmt.Errorf("%w: entry %d was changed, or one before it (chain value %s, computed %s)", ErrBroken, leaf.Sequence, leaf.Chain, next.Chain)
	case leaf.Index != e.Index():
		return h, fmt.Errorf("%w: entry %d is filed under %+v, it says %+v", ErrBroken, leaf.Sequence, leaf.Index, e.Index())
	}
	return next, nil
}
