package audit

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
)

func example(n int64) *Entry {
	return &Entry{
		OrganizationID: "01a20544-fde6-7df3-a6f4-1fbe1f06070a", Sequence: n, Time: time.Date(2026, 11, 22, 20, 53, 0, 123456789, time.FixedZone("CET", 3600)),
		Event: "SigningRequest.Submitted", Actor: Actor{ID: "u", Kind: "CI", Name: "Bäcker & <Söhne>", Via: "token csc_ab12"},
		Object: Object{Type: "SigningRequest", ID: "r", Name: "app.exe"}, Data: json.RawMessage(`{"sha256":"00"}`),
	}
}

// TestLeafFormat pins the format: these bytes and hashes must never change. docs/audit-log.md shows the same example.
func TestLeafFormat(t *testing.T) {
	t.Parallel()
	leaf, err := example(1).Encode()
	if err != nil {
		t.Fatal(err)
	}
	const want = `{"format":1,"organization":"01a20544-fde6-7df3-a6f4-1fbe1f06070a","sequence":1,"time":"2026-11-22T19:53:00.123456Z",` +
		`"event":"SigningRequest.Submitted","actor":{"id":"u","kind":"CI","name":"Bäcker & <Söhne>","via":"token csc_ab12"},` +
		`"object":{"type":"SigningRequest","id":"r","name":"app.exe"},"data":{"sha256":"00"}}`
	if string(leaf) != want {
		t.Errorf("leaf\n%s\nwant\n%s", leaf, want)
	}
	start := Start("01a20544-fde6-7df3-a6f4-1fbe1f06070a")
	for _, c := range []struct{ name, got, want string }{
		{"leaf hash", LeafHash(leaf).String(), "66300855b0eed084d2eaf97ca69bf7be49ed2813e21a4199bd16e73ea026af7a"},
		{"chain start", start.Chain.String(), "038d8a122b54094a3ae7982748715263753cc1e302e5826d9f8346e11161d15d"},
		{"chain value", start.Next(leaf).Chain.String(), "7cb2d3534a4a96282a414b62282c70394d28d18d18c10df629514c2248c15f40"},
	} {
		if c.got != c.want {
			t.Errorf("%s is %s, want %s", c.name, c.got, c.want)
		}
	}
}

func chain(t *testing.T, n int64) []Leaf {
	t.Helper()
	h := Start(example(1).OrganizationID)
	var leaves []Leaf
	for i := int64(1); i <= n; i++ {
		e := example(i)
		data, err := e.Encode()
		if err != nil {
			t.Fatal(err)
		}
		h = h.Next(data)
		leaves = append(leaves, Leaf{Sequence: i, Data: data, Chain: h.Chain, Index: e.Index()})
	}
	return leaves
}

func verifyAll(leaves []Leaf) (Head, error) {
	org := example(1).OrganizationID
	h := Start(org)
	for _, l := range leaves {
		var err error
		if h, err = Verify(h, org, l); err != nil {
			return h, err
		}
	}
	return h, nil
}

func TestVerify(t *testing.T) {
	t.Parallel()
	if h, err := verifyAll(chain(t, 5)); err != nil || h.Sequence != 5 {
		t.Fatalf("an intact chain: %+v, %v", h, err)
	}
	for name, tamper := range map[string]func([]Leaf) []Leaf{
		"changed": func(l []Leaf) []Leaf {
			l[2].Data = []byte(strings.Replace(string(l[2].Data), "app.exe", "bad.exe", 1))
			return l
		},
		"changed with its own chain value": func(l []Leaf) []Leaf {
			l[2].Data = []byte(strings.Replace(string(l[2].Data), "app.exe", "bad.exe", 1))
			l[2].Chain = Head{Sequence: 2, Chain: l[1].Chain}.Next(l[2].Data).Chain
			return l
		},
		"removed":                    func(l []Leaf) []Leaf { return append(l[:2], l[3:]...) },
		"first removed":              func(l []Leaf) []Leaf { return l[1:] },
		"swapped":                    func(l []Leaf) []Leaf { l[1], l[2] = l[2], l[1]; return l },
		"repeated":                   func(l []Leaf) []Leaf { return append(l[:3], l[2:]...) },
		"filed under another event":  func(l []Leaf) []Leaf { l[1].Index.Event = "X"; return l },
		"filed under another type":   func(l []Leaf) []Leaf { l[1].Index.ObjectType = "X"; return l },
		"filed under another object": func(l []Leaf) []Leaf { l[1].Index.ObjectID = "x"; return l },
		"filed under another actor":  func(l []Leaf) []Leaf { l[1].Index.ActorID = "x"; return l },
		"filed under another time":   func(l []Leaf) []Leaf { l[4].Index.Time++; return l },
		"no JSON":                    func(l []Leaf) []Leaf { l[4].Data = []byte("{"); return l },
	} {
		if _, err := verifyAll(tamper(chain(t, 5))); !errors.Is(err, ErrBroken) {
			t.Errorf("%s: %v", name, err)
		}
	}
	// Another organization's log does not pass as this one's.
	l := chain(t, 1)[0]
	if _, err := Verify(Start("other"), "other", l); !errors.Is(err, ErrBroken) {
		t.Errorf("a foreign leaf: %v", err)
	}
}

func TestDecode(t *testing.T) {
	t.Parallel()
	for _, bad := range []string{"", "null", "[]", `{"format":2}`, `{"format":1,"extra":true}`, `{"format":"1"}`, `{"format":1}` + "\n", `{"format":1}{"format":1}`} {
		if e, err := Decode([]byte(bad)); err == nil {
			t.Errorf("%s decoded to %+v", bad, e)
		}
	}
}

func FuzzDecode(f *testing.F) {
	leaf, err := example(1).Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(leaf)
	f.Fuzz(func(t *testing.T, data []byte) {
		e, err := Decode(data)
		if err != nil {
			return
		}
		again, err := e.Encode()
		if err != nil {
			t.Skip() // times beyond the year 9999 do not encode
		}
		if _, err := Decode(again); err != nil {
			t.Errorf("%s decodes, its own encoding %s does not: %v", data, again, err)
		}
	})
}

func BenchmarkNext(b *testing.B) {
	leaf, err := example(1).Encode()
	if err != nil {
		b.Fatal(err)
	}
	h := Start("x")
	for b.Loop() {
		h = h.Next(leaf)
	}
	_ = fmt.Sprint(h)
}
