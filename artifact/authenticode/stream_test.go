package authenticode

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"testing"
)

// naiveChecksum is the definition: the sum of 16-bit words with end-around carry.
func naiveChecksum(file []byte) uint32 {
	sum := uint32(0)
	for i := 0; i < len(file); i += 2 {
		word := uint32(file[i])
		if i+1 < len(file) {
			word |= uint32(file[i+1]) << 8
		}
		sum += word
		sum = sum>>16 + sum&0xffff
	}
	return sum + uint32(len(file))
}

func TestChecksum(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(1, 2))
	for range 2000 {
		file := make([]byte, 1+random.IntN(300))
		for i := range file {
			file[i] = byte(random.Uint32())
		}
		if random.IntN(4) == 0 { // where carries meet
			for i := range file {
				file[i] = 0xff
			}
		}
		var c checksum
		cut := random.IntN(len(file)+1) &^ 7
		c.add(file[:cut])
		c.add(file[cut:])
		if got, want := c.value(int64(len(file))), naiveChecksum(file); got != want {
			t.Fatalf("%x: got %08x, want %08x", file, got, want)
		}

		// A field at any offset, even an odd one, may be added afterwards.
		if len(file) < 8 {
			continue
		}
		at := random.IntN(len(file) - 7)
		field := bytes.Clone(file[at : at+8])
		want := naiveChecksum(file)
		mask(span{int64(at), 8})(file, 0)
		c = 0
		c.add(file)
		c.addAt(field, int64(at))
		if got := c.value(int64(len(file))); got != want {
			t.Fatalf("field at %d: got %08x, want %08x", at, got, want)
		}
	}
}

type recorder struct{ bytes.Buffer }

func (*recorder) Sum(b []byte) []byte { return b }
func (*recorder) Size() int           { return 0 }
func (*recorder) BlockSize() int      { return 1 }

// TestHashWithout cuts a file at every place: what is hashed must not depend on it.
func TestHashWithout(t *testing.T) {
	t.Parallel()
	file := []byte("0123456789abcdefghij")
	first, second := span{3, 4}, span{9, 8}
	for a := range file {
		for b := a; b < len(file); b++ {
			var got recorder
			consume := hashWithout(&got, first, second)
			for _, piece := range []span{{0, int64(a)}, {int64(a), int64(b - a)}, {int64(b), int64(len(file) - b)}} {
				if err := consume(file[piece.at:piece.at+piece.length], piece.at); err != nil {
					t.Fatal(err)
				}
			}
			if got.String() != "01278hij" {
				t.Fatalf("cut at %d and %d: %q", a, b, got.String())
			}
		}
	}
}

func TestStream(t *testing.T) {
	t.Parallel()
	file := make([]byte, 5*chunkSize+123)
	for i := 0; i+8 <= len(file); i += 8 {
		binary.LittleEndian.PutUint64(file[i:], uint64(i))
	}
	var one, two, three, four bytes.Buffer
	collect := func(b *bytes.Buffer) sink {
		return func(p []byte, at int64) error {
			if at != int64(b.Len()) {
				t.Errorf("chunk at %d after %d octets", at, b.Len())
			}
			b.Write(p)
			return nil
		}
	}
	if err := stream(t.Context(), bytes.NewReader(file), int64(len(file)), nil, line{collect(&one)}, line{collect(&two), collect(&three), collect(&four)}); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(one.Bytes(), file) || !bytes.Equal(two.Bytes(), file) || !bytes.Equal(three.Bytes(), file) || !bytes.Equal(four.Bytes(), file) {
		t.Error("a sink saw something else")
	}

	failed := errors.New("failed")
	ignore := func([]byte, int64) error { return nil }
	for n := range 6 {
		count := 0
		err := stream(t.Context(), bytes.NewReader(file), int64(len(file)), nil,
			line{ignore},
			line{ignore, func([]byte, int64) error {
				if count++; count > n {
					return failed
				}
				return nil
			}, ignore})
		if !errors.Is(err, failed) {
			t.Errorf("after %d chunks: error %v", n, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for _, size := range []int64{100, int64(len(file))} {
		if err := stream(ctx, bytes.NewReader(file), size, nil, line{ignore}); !errors.Is(err, context.Canceled) {
			t.Errorf("cancelled: error %v", err)
		}
	}
}
