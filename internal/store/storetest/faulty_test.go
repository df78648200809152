package storetest

import (
	"context"
	"errors"
	"reflect"
	"regexp"
	"testing"
	"time"

	"github.com/countersign-dev/countersign/internal/signing"
)

// stop is a transaction in which no method can be called.
type stop struct{ signing.Tx }

type fakeStore struct{}

func (fakeStore) Tx(_ context.Context, fn func(signing.Tx) error) error   { return fn(stop{}) }
func (fakeStore) View(_ context.Context, fn func(signing.Tx) error) error { return fn(stop{}) }

// TestFaultyBreaksEveryWrite calls every method of signing.Tx that writes: one that Faulty forgot would reach the
// transaction below it, which has none.
func TestFaultyBreaksEveryWrite(t *testing.T) {
	t.Parallel()
	writes := regexp.MustCompile(`^(Insert|Update|Put|Delete|Append|Enqueue|Revoke|Touch|Use|End)[A-Z]`)
	typ := reflect.TypeFor[signing.Tx]()
	n := 0
	for m := range typ.Methods() {
		if !writes.MatchString(m.Name) || m.Name == "UserByEmail" {
			continue
		}
		n++
		f := NewFaulty(fakeStore{})
		f.Break(1, Failed)
		err := f.Tx(context.Background(), func(tx signing.Tx) error {
			v := reflect.ValueOf(tx).MethodByName(m.Name)
			args := []reflect.Value{reflect.ValueOf(context.Background())}
			for i := 1; i < v.Type().NumIn(); i++ {
				args = append(args, reflect.Zero(v.Type().In(i)))
			}
			err, _ := v.Call(args)[0].Interface().(error)
			if !errors.Is(err, ErrInjected) {
				t.Errorf("%s returned %v", m.Name, err)
			}
			return nil // the transaction must not commit all the same
		})
		if !errors.Is(err, ErrInjected) || !f.Fired() || !reflect.DeepEqual(f.Steps(), []string{m.Name}) {
			t.Errorf("%s: err %v, fired %t, steps %q", m.Name, err, f.Fired(), f.Steps())
		}
	}
	if n < 45 {
		t.Errorf("found only %d methods that write", n)
	}
}

func TestFaultyCommit(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	for _, c := range []struct {
		fault   Fault
		err     error
		persist bool
		runs    int
	}{
		{Failed, ErrInjected, false, 1},
		{FailedButPersisted, ErrInjected, true, 1},
		{Repeated, nil, true, 2},
	} {
		t.Run(c.fault.String(), func(t *testing.T) {
			t.Parallel()
			inner := SQLite(t)
			f := NewFaulty(inner)
			f.Break(2, c.fault)
			id, runs := signing.NewID(), 0
			err := f.Tx(ctx, func(tx signing.Tx) error {
				runs++
				return tx.InsertOrganization(ctx, &signing.Organization{ID: id, Name: "Acme", CreatedAt: time.Now()})
			})
			if !errors.Is(err, c.err) || runs != c.runs || !f.Fired() {
				t.Errorf("err %v, %d runs, fired %t", err, runs, f.Fired())
			}
			err = f.View(ctx, func(tx signing.Tx) error {
				_, err := tx.Organization(ctx, id)
				return err
			})
			if persisted := err == nil; persisted != c.persist {
				t.Errorf("persisted: %t (%v)", persisted, err)
			}
		})
	}
}
