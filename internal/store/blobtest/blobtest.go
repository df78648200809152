// Package blobtest checks that a store of artifact bytes keeps the contract of signing.Blobs.
package blobtest

import (
	"bytes"
	"context"
	"errors"
	"io"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/countersign-dev/countersign/internal/signing"
)

// Run checks the contract on stores that open makes, each new and empty.
func Run(t *testing.T, open func(t testing.TB) signing.Blobs) {
	for name, test := range map[string]func(t *testing.T, b signing.Blobs){
		"RoundTrip": testRoundTrip, "InPlace": testInPlace, "Abort": testAbort, "Absent": testAbsent, "List": testList,
		"Concurrent": testConcurrent, "Canceled": testCanceled,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, open(t))
		})
	}
}

var ctx = context.Background()

func put(t testing.TB, b signing.Blobs, data []byte) signing.BlobID {
	t.Helper()
	w, err := b.Create(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Abort()
	if _, err := io.Copy(w, bytes.NewReader(data)); err != nil {
		t.Fatal(err)
	}
	id, err := w.Commit(ctx)
	if err != nil || id == "" {
		t.Fatalf("commit: %q, %v", id, err)
	}
	return id
}

func read(t testing.TB, b signing.Blobs, id signing.BlobID) []byte {
	t.Helper()
	r, err := b.Open(ctx, id)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	data, err := io.ReadAll(io.NewSectionReader(r, 0, r.Size()))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func list(t testing.TB, b signing.Blobs, olderThan time.Time) (ids []signing.BlobID) {
	t.Helper()
	if err := b.List(ctx, olderThan, func(id signing.BlobID) error { ids = append(ids, id); return nil }); err != nil {
		t.Fatal(err)
	}
	slices.Sort(ids)
	return ids
}

func testRoundTrip(t *testing.T, b signing.Blobs) {
	for _, data := range [][]byte{nil, []byte("x"), bytes.Repeat([]byte("0123456789abcdef"), 1<<16)} {
		id := put(t, b, data)
		if got := read(t, b, id); !bytes.Equal(got, data) {
			t.Errorf("%d bytes came back as %d other ones", len(data), len(got))
		}
		r, err := b.Open(ctx, id)
		if err != nil {
			t.Fatal(err)
		}
		if n, err := r.ReadAt(make([]byte, 4), r.Size()); n != 0 || !errors.Is(err, io.EOF) {
			t.Errorf("reading at the end: %d, %v", n, err)
		}
		// Deleting an open blob does not disturb its reader.
		if err := errors.Join(b.Delete(ctx, id), b.Delete(ctx, id)); err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(io.NewSectionReader(r, 0, r.Size())); err != nil || !bytes.Equal(got, data) {
			t.Errorf("after deletion: %d bytes, %v", len(got), err)
		}
		if err := r.Close(); err != nil {
			t.Error(err)
		}
		if _, err := b.Open(ctx, id); signing.KindOf(err) != signing.KindNotFound {
			t.Errorf("deleted blob: %v", err)
		}
	}
}

func testInPlace(t *testing.T, b signing.Blobs) {
	w, err := b.Create(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Abort()
	for _, p := range []struct {
		at   int64
		data string
	}{{4, "56789"}, {0, "0123"}, {2, "xx"}} {
		if _, err := w.WriteAt([]byte(p.data), p.at); err != nil {
			t.Fatal(err)
		}
	}
	got := make([]byte, 9)
	if _, err := w.ReadAt(got, 0); err != nil || string(got) != "01xx56789" {
		t.Errorf("before commit: %q, %v", got, err)
	}
	id, err := w.Commit(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write([]byte("late")); err == nil {
		t.Error("wrote after commit")
	}
	if _, err := w.WriteAt([]byte("late"), 0); err == nil {
		t.Error("wrote after commit")
	}
	if _, err := w.Commit(ctx); err == nil {
		t.Error("committed twice")
	}
	w.Abort()
	if got := read(t, b, id); string(got) != "01xx56789" {
		t.Errorf("after commit: %q", got)
	}
}

func testAbort(t *testing.T, b signing.Blobs) {
	w, err := b.Create(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write([]byte("secret")); err != nil {
		t.Fatal(err)
	}
	if ids := list(t, b, time.Now().Add(time.Hour)); len(ids) != 0 {
		t.Errorf("uncommitted blobs are listed: %q", ids)
	}
	w.Abort()
	w.Abort()
	if _, err := w.Commit(ctx); err == nil {
		t.Error("committed after abort")
	}
	if ids := list(t, b, time.Now().Add(time.Hour)); len(ids) != 0 {
		t.Errorf("aborted blobs are listed: %q", ids)
	}
}

func testAbsent(t *testing.T, b signing.Blobs) {
	present := put(t, b, []byte("x"))
	for _, id := range []signing.BlobID{"", "x", "..", "../../../etc/passwd", "0123456789abcdef0123456789abcdef", "/", "new",
		present[:31], present + "0", signing.BlobID(bytes.ToUpper([]byte(present))) + "\x00"} {
		if _, err := b.Open(ctx, id); signing.KindOf(err) != signing.KindNotFound {
			t.Errorf("open %q: %v", id, err)
		}
		if err := b.Delete(ctx, id); err != nil {
			t.Errorf("delete %q: %v", id, err)
		}
	}
	read(t, b, present)
}

func testList(t *testing.T, b signing.Blobs) {
	var want []signing.BlobID
	for range 20 {
		want = append(want, put(t, b, []byte("x")))
	}
	slices.Sort(want)
	if got := list(t, b, time.Now().Add(time.Hour)); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := list(t, b, time.Now().Add(-time.Hour)); len(got) != 0 {
		t.Errorf("younger blobs are listed: %q", got)
	}
	errStop, n := errors.New("stop"), 0
	err := b.List(ctx, time.Now().Add(time.Hour), func(signing.BlobID) error { n++; return errStop })
	if !errors.Is(err, errStop) || n != 1 {
		t.Errorf("list went on after an error: %d calls, %v", n, err)
	}
	// What the sweep does: delete while listing.
	err = b.List(ctx, time.Now().Add(time.Hour), func(id signing.BlobID) error { return b.Delete(ctx, id) })
	if err != nil || len(list(t, b, time.Now().Add(time.Hour))) != 0 {
		t.Errorf("sweep: %v", err)
	}
}

func testConcurrent(t *testing.T, b signing.Blobs) {
	var wg sync.WaitGroup
	for i := range 50 {
		wg.Go(func() {
			data := bytes.Repeat([]byte{byte(i)}, 1000+i)
			if got := read(t, b, put(t, b, data)); !bytes.Equal(got, data) {
				t.Errorf("blob %d differs", i)
			}
		})
	}
	wg.Wait()
}

func testCanceled(t *testing.T, b signing.Blobs) {
	ended, cancel := context.WithCancel(ctx)
	w, err := b.Create(ended)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Abort()
	cancel()
	if _, err := w.Commit(ended); !errors.Is(err, context.Canceled) {
		t.Errorf("commit: %v", err)
	}
	if _, err := b.Create(ended); !errors.Is(err, context.Canceled) {
		t.Errorf("create: %v", err)
	}
}
