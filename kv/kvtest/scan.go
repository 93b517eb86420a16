package kvtest

import (
	"bytes"
	"errors"
	"testing"

	"kith/kv"
)

func scanInOrder(t *testing.T, db kv.DB) {
	// Bytes, not text: a longer key after its prefix, 0xff last.
	set(t, db, "b=", "a\x00=", "\x00=", "ab=", "a=", "\xff=", "a\xff=", "B=", "\xff\xff=")
	const up = "\x00= B= a= a\x00= ab= a\xff= b= \xff= \xff\xff="
	const down = "\xff\xff= \xff= b= a\xff= ab= a\x00= a= B= \x00="
	view(t, db, func(r kv.Reader) error {
		equal(t, "up", scan(t, r, kv.Range{}), up)
		equal(t, "down", scan(t, r, kv.Range{Reverse: true}), down)
		equal(t, "prefix a", scan(t, r, kv.Prefix([]byte("a"))), "a= a\x00= ab= a\xff=")
		equal(t, "prefix ff", scan(t, r, kv.Prefix([]byte("\xff"))), "\xff= \xff\xff=")
		return nil
	})
}

// scanCases is tried on the pairs b=2, d=4, f=6, however they came there.
var scanCases = []struct {
	name string
	rg   kv.Range
	want string
}{
	{"from is inclusive", kv.Range{From: []byte("d")}, "d=4 f=6"},
	{"from between keys", kv.Range{From: []byte("c")}, "d=4 f=6"},
	{"to is exclusive", kv.Range{To: []byte("d")}, "b=2"},
	{"to between keys", kv.Range{To: []byte("e")}, "b=2 d=4"},
	{"both", kv.Range{From: []byte("b"), To: []byte("f")}, "b=2 d=4"},
	{"one key", kv.Range{From: []byte("d"), To: []byte("d\x00")}, "d=4"},
	{"nothing between", kv.Range{From: []byte("d\x00"), To: []byte("f")}, ""},
	{"from is to", kv.Range{From: []byte("d"), To: []byte("d")}, ""},
	{"from behind to", kv.Range{From: []byte("f"), To: []byte("b")}, ""},
	{"before all", kv.Range{To: []byte("a")}, ""},
	{"behind all", kv.Range{From: []byte("g")}, ""},
	{"limit", kv.Range{Limit: 2}, "b=2 d=4"},
	{"limit above the number", kv.Range{Limit: 9}, "b=2 d=4 f=6"},
	{"down", kv.Range{Reverse: true}, "f=6 d=4 b=2"},
	{"down, from is inclusive", kv.Range{From: []byte("d"), Reverse: true}, "f=6 d=4"},
	{"down, to is exclusive", kv.Range{To: []byte("f"), Reverse: true}, "d=4 b=2"},
	{"down, to behind all", kv.Range{To: []byte("z"), Reverse: true}, "f=6 d=4 b=2"},
	{"down, both", kv.Range{From: []byte("c"), To: []byte("e"), Reverse: true}, "d=4"},
	{"down, from behind to", kv.Range{From: []byte("f"), To: []byte("b"), Reverse: true}, ""},
	{"down, limit", kv.Range{Reverse: true, Limit: 1}, "f=6"},
	{"down, limit and to", kv.Range{To: []byte("f"), Reverse: true, Limit: 1}, "d=4"},
}

func scanBounds(t *testing.T, db kv.DB) {
	set(t, db, "b=2", "d=4", "f=6")
	view(t, db, func(r kv.Reader) error {
		for _, c := range scanCases {
			equal(t, c.name, scan(t, r, c.rg), c.want)
		}
		return nil
	})
}

func scanOwnWrites(t *testing.T, db kv.DB) {
	for name, mix := range map[string]struct {
		stored  []string
		written []string
		deleted []string
	}{
		"all stored":                  {stored: []string{"b=2", "d=4", "f=6"}},
		"all written":                 {written: []string{"b=2", "d=4", "f=6"}},
		"written between stored":      {stored: []string{"b=2", "f=6"}, written: []string{"d=4"}},
		"stored between written":      {stored: []string{"d=4"}, written: []string{"f=6", "b=2"}},
		"written over stored":         {stored: []string{"b=x", "d=x", "f=x"}, written: []string{"b=2", "d=4", "f=6"}},
		"deleted among stored":        {stored: []string{"a=1", "b=2", "c=3", "d=4", "e=5", "f=6", "g=7"}, deleted: []string{"a", "c", "e", "g"}},
		"deleted that was not there":  {stored: []string{"b=2", "d=4", "f=6"}, deleted: []string{"a", "c", "z"}},
		"written, deleted, all sorts": {stored: []string{"a=1", "b=x", "f=6", "g=7"}, written: []string{"d=4", "b=2"}, deleted: []string{"a", "c", "g"}},
	} {
		update(t, db, func(tx kv.Tx) error {
			for _, key := range []string{"a", "b", "c", "d", "e", "f", "g"} {
				if err := tx.Delete([]byte(key)); err != nil {
					return err
				}
			}
			return write(tx, mix.stored...)
		})
		update(t, db, func(tx kv.Tx) error {
			if err := write(tx, mix.written...); err != nil {
				return err
			}
			for _, key := range mix.deleted {
				if err := tx.Delete([]byte(key)); err != nil {
					return err
				}
			}
			for _, c := range scanCases {
				equal(t, name+", "+c.name, scan(t, tx, c.rg), c.want)
			}
			// Scans see what came after an earlier scan.
			if err := errors.Join(write(tx, "c=new", "d=newer"), tx.Delete([]byte("b"))); err != nil {
				return err
			}
			equal(t, name+", after more writes", scan(t, tx, kv.Range{}), "c=new d=newer f=6")
			equal(t, name+", after more writes, down", scan(t, tx, kv.Range{Reverse: true}), "f=6 d=newer c=new")
			return nil
		})
		equal(t, name+", afterwards", all(t, db), "c=new d=newer f=6")
	}
}

func scanAndWrite(t *testing.T, db kv.DB) {
	set(t, db, "in/1=a", "in/3=c")
	update(t, db, func(tx kv.Tx) error {
		if err := write(tx, "in/2=b"); err != nil {
			return err
		}
		// A scan within a scan, and writes before and behind its range.
		for pair, err := range tx.Scan(kv.Prefix([]byte("in/"))) {
			if err != nil {
				return err
			}
			key, value := bytes.Clone(pair.Key), bytes.Clone(pair.Value)
			for _, prefix := range []string{"a/", "z/"} {
				if err := tx.Set(append([]byte(prefix), key...), value); err != nil {
					return err
				}
			}
			equal(t, "the same inside", string(get(t, tx, string(key))), string(value))
			equal(t, "scan inside", scan(t, tx, kv.Range{From: key, Limit: 1}), string(key)+"="+string(value))
		}
		return nil
	})
	equal(t, "the store", all(t, db), "a/in/1=a a/in/2=b a/in/3=c in/1=a in/2=b in/3=c z/in/1=a z/in/2=b z/in/3=c")
}

func scanEarlyExit(t *testing.T, db kv.DB) {
	set(t, db, "a=1", "b=2", "c=3")
	leave := func(r kv.Reader, rg kv.Range) {
		n := 0
		for _, err := range r.Scan(rg) {
			if err != nil {
				t.Fatal(err)
			}
			if n++; n == 2 {
				break
			}
		}
		equal(t, "pairs until leaving", n, 2)
	}
	update(t, db, func(tx kv.Tx) error {
		if err := write(tx, "bb=4"); err != nil {
			return err
		}
		leave(tx, kv.Range{})
		leave(tx, kv.Range{Reverse: true})
		again := tx.Scan(kv.Range{Limit: 1})
		for range 2 { // a sequence can be walked twice
			for pair, err := range again {
				if err != nil {
					return err
				}
				equal(t, "first", string(pair.Key), "a")
			}
		}
		return nil
	})
	view(t, db, func(r kv.Reader) error { leave(r, kv.Range{}); return nil })
}

func viewIsolation(t *testing.T, db kv.DB) {
	set(t, db, "a=1", "b=2")
	view(t, db, func(r kv.Reader) error {
		check := func(when string) {
			equal(t, when+": scan", scan(t, r, kv.Range{}), "a=1 b=2")
			equal(t, when+": a", string(get(t, r, "a")), "1")
			if get(t, r, "c") != nil {
				t.Errorf("%s: sees a key that came later", when)
			}
		}
		check("before")
		update(t, db, func(tx kv.Tx) error {
			return errors.Join(write(tx, "a=9", "c=9"), tx.Delete([]byte("b")))
		})
		check("after a commit")
		equal(t, "another view", all(t, db), "a=9 c=9")
		return nil
	})
}

func txIsolation(t *testing.T, db kv.DB) {
	set(t, db, "a=1")
	update(t, db, func(tx kv.Tx) error {
		if err := errors.Join(write(tx, "b=2"), tx.Delete([]byte("a"))); err != nil {
			return err
		}
		equal(t, "outside, before the commit", all(t, db), "a=1")
		return nil
	})
	equal(t, "outside, after the commit", all(t, db), "b=2")
}
