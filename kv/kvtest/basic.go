package kvtest

import (
	"bytes"
	"errors"
	"fmt"
	"testing"

	"kith/fault"
	"kith/kv"
)

func getAndSet(t *testing.T, db kv.DB) {
	view(t, db, func(r kv.Reader) error {
		if v := get(t, r, "a"); v != nil {
			t.Errorf("a missing key gives %q, want nil", v)
		}
		return nil
	})
	set(t, db, "a=1", "b=2")
	set(t, db, "a=3")
	update(t, db, func(tx kv.Tx) error {
		equal(t, "a", string(get(t, tx, "a")), "3")
		if err := tx.Delete([]byte("never there")); err != nil {
			t.Errorf("deleting a missing key: %v", err)
		}
		return tx.Delete([]byte("b"))
	})
	equal(t, "the store", all(t, db), "a=3")
	view(t, db, func(r kv.Reader) error {
		if v := get(t, r, "b"); v != nil {
			t.Errorf("a deleted key gives %q, want nil", v)
		}
		return nil
	})
}

func emptyValues(t *testing.T, db kv.DB) {
	check := func(when string, r kv.Reader) {
		for _, key := range []string{"nil", "empty"} {
			if v := get(t, r, key); v == nil || len(v) > 0 {
				t.Errorf("%s: the value of %q is %#v, want empty and not nil", when, key, v)
			}
		}
		many, err := r.GetMany([][]byte{[]byte("nil"), []byte("missing")})
		if err != nil || len(many) != 2 || many[0] == nil || len(many[0]) > 0 || many[1] != nil {
			t.Errorf("%s: GetMany gives %#v, %v", when, many, err)
		}
		equal(t, when, scan(t, r, kv.Range{}), "empty= nil=")
	}
	update(t, db, func(tx kv.Tx) error {
		if err := errors.Join(tx.Set([]byte("nil"), nil), tx.Set([]byte("empty"), []byte{})); err != nil {
			return err
		}
		check("in the transaction", tx)
		return nil
	})
	view(t, db, func(r kv.Reader) error { check("in a view", r); return nil })
}

func getMany(t *testing.T, db kv.DB) {
	set(t, db, "a=1", "b=2", "c=3")
	check := func(r kv.Reader, want string) {
		values, err := r.GetMany([][]byte{[]byte("c"), []byte("x"), []byte("a"), []byte("a"), []byte("b")})
		if err != nil {
			t.Fatal(err)
		}
		equal(t, "values", fmt.Sprintf("%q", values), want)
		if none, err := r.GetMany(nil); err != nil || len(none) != 0 {
			t.Errorf("of no keys: %q, %v", none, err)
		}
	}
	view(t, db, func(r kv.Reader) error { check(r, `["3" "" "1" "1" "2"]`); return nil })
	update(t, db, func(tx kv.Tx) error {
		if err := errors.Join(tx.Delete([]byte("a")), tx.Set([]byte("x"), []byte("new"))); err != nil {
			return err
		}
		check(tx, `["3" "new" "" "" "2"]`)
		return nil
	})
}

func rollback(t *testing.T, db kv.DB) {
	set(t, db, "a=1", "b=2")
	boom := errors.New("boom")
	err := db.Update(t.Context(), "test", kv.Durable, func(tx kv.Tx) error {
		if err := errors.Join(write(tx, "a=9", "c=9"), tx.Delete([]byte("b"))); err != nil {
			return err
		}
		return boom
	})
	if err != boom {
		t.Errorf("Update returned %v, want the very error of fn", err)
	}
	if err := db.View(t.Context(), func(kv.Reader) error { return boom }); err != boom {
		t.Errorf("View returned %v, want the very error of fn", err)
	}
	equal(t, "the store", all(t, db), "a=1 b=2")
}

func readYourWrites(t *testing.T, db kv.DB) {
	set(t, db, "a=1", "b=2")
	update(t, db, func(tx kv.Tx) error {
		steps := []struct {
			do   func() error
			want string
		}{
			{func() error { return write(tx, "a=2") }, "2"},
			{func() error { return tx.Delete([]byte("a")) }, ""},
			{func() error { return tx.Delete([]byte("a")) }, ""},
			{func() error { return write(tx, "a=3") }, "3"},
			{func() error { return write(tx, "a=a longer one") }, "a longer one"},
			{func() error { return write(tx, "a=4") }, "4"},
		}
		for i, step := range steps {
			if err := step.do(); err != nil {
				return err
			}
			v := get(t, tx, "a")
			if string(v) != step.want || (v == nil) != (step.want == "") {
				t.Errorf("after step %d a is %#v, want %q", i, v, step.want)
			}
		}
		return nil
	})
	equal(t, "the store", all(t, db), "a=4 b=2")
}

func ownership(t *testing.T, db kv.DB) {
	key, value := []byte("key"), []byte("value")
	update(t, db, func(tx kv.Tx) error {
		if err := tx.Set(key, value); err != nil {
			return err
		}
		copy(key, "xxx")
		copy(value, "xxxxx")
		clobber(get(t, tx, "key"))
		equal(t, "within the transaction", scan(t, tx, kv.Range{}), "key=value")
		return nil
	})
	equal(t, "after the transaction", all(t, db), "key=value")
	view(t, db, func(r kv.Reader) error {
		clobber(get(t, r, "key"))
		many, err := r.GetMany([][]byte{[]byte("key")})
		if err != nil {
			return err
		}
		clobber(many[0])
		return nil
	})
	equal(t, "after the readers wrote into what they got", all(t, db), "key=value")

	kept := []byte("key")
	update(t, db, func(tx kv.Tx) error {
		if err := tx.Delete(kept); err != nil {
			return err
		}
		copy(kept, "xxx")
		return nil
	})
	equal(t, "after the delete", all(t, db), "")
}

func clobber(b []byte) {
	for i := range b {
		b[i] = 'X'
	}
}

func largeValues(t *testing.T, db kv.DB) {
	var want [][]byte
	for i, size := range []int{1, 4 << 10, 64 << 10, 1 << 20, 5 << 20} {
		want = append(want, bytes.Repeat([]byte{byte('a' + i)}, size))
	}
	check := func(when string, r kv.Reader) {
		i := 0
		for pair, err := range r.Scan(kv.Range{}) {
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(pair.Value, want[i]) {
				t.Errorf("%s: the value of %d bytes came back otherwise", when, len(want[i]))
			}
			i++
		}
		equal(t, when+": pairs", i, len(want))
	}
	update(t, db, func(tx kv.Tx) error {
		for i, value := range want {
			if err := tx.Set([]byte{byte(i)}, value); err != nil {
				return err
			}
		}
		check("in the transaction", tx)
		return nil
	})
	view(t, db, func(r kv.Reader) error { check("in a view", r); return nil })
}

func manyKeys(t *testing.T, db kv.DB) {
	const n, perTx = 20_000, 3_000
	for from := 0; from < n; from += perTx {
		update(t, db, func(tx kv.Tx) error {
			for i := from; i < min(from+perTx, n); i++ {
				// In an order that is not the keys'.
				id := uint32(i) * 2654435761 % n
				if err := tx.Set(kv.Key("many").Uint32(id), kv.Value{}.Uvarint(uint64(id))); err != nil {
					return err
				}
			}
			return nil
		})
	}
	view(t, db, func(r kv.Reader) error {
		var last []byte
		count := 0
		for pair, err := range r.Scan(kv.Prefix([]byte("many"))) {
			if err != nil {
				return err
			}
			if bytes.Compare(last, pair.Key) >= 0 {
				t.Fatalf("%x comes after %x", pair.Key, last)
			}
			last = bytes.Clone(pair.Key)
			key, value := kv.PartsAfter(pair.Key, kv.Key("many")), kv.FieldsOf(pair.Value)
			if id := uint64(key.Uint32()); id != value.Uvarint() {
				t.Fatalf("key %d has the value of another", id)
			}
			count++
		}
		distinct := make(map[uint32]bool)
		for i := range uint32(n) {
			distinct[i*2654435761%n] = true
		}
		equal(t, "keys", count, len(distinct))
		return nil
	})
}

func limits(t *testing.T, db kv.DB) {
	key := bytes.Repeat([]byte{0xff}, kv.MaxKeyBytes)
	update(t, db, func(tx kv.Tx) error { return tx.Set(key, []byte("longest key")) })
	view(t, db, func(r kv.Reader) error {
		equal(t, "longest key", string(get(t, r, string(key))), "longest key")
		return nil
	})
	big := make([]byte, kv.MaxValueBytes+1)
	for name, do := range map[string]func(tx kv.Tx) error{
		"key too long":       func(tx kv.Tx) error { return tx.Set(append(key, 1), nil) },
		"delete too long":    func(tx kv.Tx) error { return tx.Delete(append(key, 1)) },
		"key empty":          func(tx kv.Tx) error { return tx.Set(nil, []byte("x")) },
		"value too large":    func(tx kv.Tx) error { return tx.Set([]byte("big"), big) },
		"after a good write": func(tx kv.Tx) error { return errors.Join(write(tx, "x=1"), tx.Set([]byte("big"), big)) },
	} {
		for _, swallow := range []bool{false, true} {
			err := db.Update(t.Context(), "test", kv.Lazy, func(tx kv.Tx) error {
				if err := write(tx, "first=1"); err != nil {
					return err
				}
				err := do(tx)
				if !fault.Is(err, fault.Invalid) {
					t.Errorf("%s: got %v, want fault.Invalid", name, err)
				}
				if swallow {
					return nil
				}
				return err
			})
			if !fault.Is(err, fault.Invalid) {
				t.Errorf("%s (swallowed: %v): Update returned %v, want fault.Invalid", name, swallow, err)
			}
		}
	}
	view(t, db, func(r kv.Reader) error {
		if get(t, r, "first") != nil || get(t, r, "x") != nil || get(t, r, "big") != nil {
			t.Error("a transaction that exceeded a limit left something behind")
		}
		return nil
	})
}

func txLimit(t *testing.T, db kv.DB) {
	if testing.Short() {
		t.Skip("writes 96 MiB")
	}
	third := make([]byte, kv.MaxTxBytes/3)
	// The same key again and again counts once.
	update(t, db, func(tx kv.Tx) error {
		for range 5 {
			if err := tx.Set([]byte("hot"), third); err != nil {
				return err
			}
		}
		return tx.Set([]byte("hot"), []byte("cool"))
	})
	err := db.Update(t.Context(), "test", kv.Lazy, func(tx kv.Tx) error {
		for i := range 3 {
			if err := tx.Set([]byte{byte(i)}, third); (err != nil) != (i == 2) {
				t.Errorf("value %d: %v", i, err)
			} else if i == 2 && !fault.Is(err, fault.Invalid) {
				t.Errorf("got %v, want fault.Invalid", err)
			}
		}
		return nil
	})
	if !fault.Is(err, fault.Invalid) {
		t.Errorf("Update returned %v, want fault.Invalid", err)
	}
	equal(t, "the store", all(t, db), "hot=cool")
}

func staleTx(t *testing.T, db kv.DB) {
	var stale kv.Tx
	update(t, db, func(tx kv.Tx) error { stale = tx; return nil })
	if err := stale.Set([]byte("late"), []byte("1")); err == nil {
		t.Error("a write after the end of its transaction was taken")
	}
	equal(t, "the store", all(t, db), "")
}

func deleteRange(t *testing.T, db kv.DB) {
	ranges, ok := db.(kv.RangeDeleter)
	if !ok {
		t.Skip("this store does not drop ranges")
	}
	fill := func() { set(t, db, "a=1", "b=2", "b\x00=2", "c=3", "d=4", "\xff\xff=5") }
	for _, test := range []struct{ from, to, want string }{
		{"b", "d", "a=1 d=4 \xff\xff=5"},
		{"b\x00", "c", "a=1 b=2 c=3 d=4 \xff\xff=5"},
		{"d", "b", "a=1 b=2 b\x00=2 c=3 d=4 \xff\xff=5"},
		{"c", "c", "a=1 b=2 b\x00=2 c=3 d=4 \xff\xff=5"},
		{"c", "", "a=1 b=2 b\x00=2"},
		{"", "", ""},
	} {
		fill()
		to := []byte(test.to)
		if test.to == "" {
			to = nil
		}
		if err := ranges.DeleteRange(t.Context(), []byte(test.from), to); err != nil {
			t.Fatal(err)
		}
		equal(t, fmt.Sprintf("without %q to %q", test.from, test.to), all(t, db), test.want)
	}
	fill()
	equal(t, "after writing there again", all(t, db), "a=1 b=2 b\x00=2 c=3 d=4 \xff\xff=5")
}
