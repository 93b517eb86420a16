package kvtest_test

import (
	"context"
	"fmt"
	"testing"

	"kith/kv"
	"kith/kv/kvtest"
	"kith/kv/memkv"
)

func TestWatch(t *testing.T) {
	write := func(key, value string) func(kv.Tx) error {
		return func(tx kv.Tx) error { return tx.Set([]byte(key), []byte(value)) }
	}
	remove := func(key string) func(kv.Tx) error {
		return func(tx kv.Tx) error { return tx.Delete([]byte(key)) }
	}
	read := func(key string) func(kv.Tx) error {
		return func(tx kv.Tx) error { _, err := tx.Get([]byte(key)); return err }
	}
	readMany := func(tx kv.Tx) error { _, err := tx.GetMany([][]byte{[]byte("x"), []byte("k")}); return err }
	scan := func(tx kv.Tx) error {
		for _, err := range tx.Scan(kv.Range{}) {
			if err != nil {
				return err
			}
		}
		return nil
	}
	type step struct {
		fence kv.Fence
		do    func(kv.Tx) error
	}
	tests := []struct {
		name  string
		steps []step
		want  int // reports
	}{
		{"reads its own", []step{{"a", write("k", "1")}, {"a", write("k", "2")}, {"a", read("k")}}, 0},
		{"reads what never changes", []step{{"a", write("k", "1")}, {"b", read("k")}, {"b", scan}}, 0},
		{"reads what was never there", []step{{"b", read("k")}, {"a", remove("k")}, {"b", read("k")}}, 0},
		{"the same value again is no change", []step{{"a", write("k", "1")}, {"a", write("k", "1")}, {"b", read("k")}}, 0},
		{"follows an owner that has ended", []step{{"a", write("k", "1")}, {"a", write("k", "2")}, {"b", read("k")}, {"b", write("k", "3")}}, 0},
		{"ends before what it read changes", []step{{"a", write("k", "1")}, {"b", read("k")}, {"a", write("k", "2")}, {"b", write("x", "1")}}, 0},
		{"reads what changes", []step{{"a", write("k", "1")}, {"b", read("k")}, {"a", write("k", "2")}, {"b", read("k")}}, 1},
		{"reads many", []step{{"a", write("k", "1")}, {"b", readMany}, {"a", write("k", "2")}, {"b", readMany}}, 1},
		{"scans what changes", []step{{"a", write("k", "1")}, {"b", scan}, {"a", write("k", "2")}, {"b", scan}}, 1},
		{"reads what is deleted", []step{{"a", write("k", "1")}, {"b", read("k")}, {"a", remove("k")}, {"b", read("k")}}, 1},
		{"is told once", []step{{"a", write("k", "1")}, {"b", read("k")}, {"a", write("k", "2")}, {"b", read("k")}, {"a", write("k", "3")}, {"b", read("k")}}, 1},
		{"each fence is told", []step{{"a", write("k", "1")}, {"b", read("k")}, {"c", read("k")}, {"a", write("k", "2")}, {"b", read("k")}, {"c", read("k")}}, 2},
		{"reads what it has just written itself", []step{{"a", write("k", "1")}, {"a", write("k", "2")}, {"b", func(tx kv.Tx) error {
			if err := write("k", "3")(tx); err != nil {
				return err
			}
			return read("k")(tx)
		}}}, 0},
		{"a transaction rolled back writes nothing", []step{{"a", write("k", "1")}, {"a", func(tx kv.Tx) error {
			_ = write("k", "2")(tx)
			return context.Canceled
		}}, {"b", read("k")}, {"a", func(tx kv.Tx) error {
			_ = write("k", "2")(tx)
			return context.Canceled
		}}}, 0},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			var reports []string
			db := kvtest.Watch(memkv.New(), func(format string, args ...any) {
				reports = append(reports, fmt.Sprintf(format, args...))
			})
			defer db.Close()
			for _, s := range test.steps {
				if err := db.Update(t.Context(), s.fence, kv.Lazy, s.do); err != nil && err != context.Canceled {
					t.Fatal(err)
				}
			}
			if len(reports) != test.want {
				t.Errorf("got %d reports, want %d: %q", len(reports), test.want, reports)
			}
		})
	}
}

func TestWatchForgetsRanges(t *testing.T) {
	db := kvtest.Watch(memkv.New(), t.Errorf)
	defer db.Close()
	ctx := t.Context()
	for _, v := range []string{"1", "2"} {
		if err := db.Update(ctx, "a", kv.Lazy, func(tx kv.Tx) error { return tx.Set([]byte("k"), []byte(v)) }); err != nil {
			t.Fatal(err)
		}
	}
	if err := db.(kv.RangeDeleter).DeleteRange(ctx, []byte("k"), nil); err != nil {
		t.Fatal(err)
	}
	// The key may be used anew, by another owner.
	err := db.Update(ctx, "b", kv.Lazy, func(tx kv.Tx) error {
		_, err := tx.Get([]byte("k"))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestWatched runs the suite through the wrapper: it must change nothing.
func TestWatched(t *testing.T) {
	kvtest.Run(t, func(t *testing.T) kv.DB {
		return kvtest.Watch(memkv.New(), func(string, ...any) {})
	}, kvtest.Options{})
}
