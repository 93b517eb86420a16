package memkv_test

import (
	"bytes"
	"context"
	"errors"
	"iter"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"kith/fault"
	"kith/kv"
	"kith/kv/kvtest"
	"kith/kv/memkv"
)

func TestConformance(t *testing.T) {
	kvtest.Run(t, func(t *testing.T) kv.DB { return memkv.New() }, kvtest.Options{
		Reopen: func(t *testing.T, db kv.DB) kv.DB {
			if err := db.Close(); err != nil {
				t.Fatal(err)
			}
			return db.(*memkv.DB).Clone(true)
		},
		Crash: func(t *testing.T, db kv.DB) kv.DB {
			m := db.(*memkv.DB)
			return m.Crash(rand.IntN(m.AtRisk() + 1))
		},
	})
}

// TestReference compares memkv with a plain map, because everything else is
// compared with memkv.
func TestReference(t *testing.T) {
	for seed := range uint64(100) {
		db := memkv.New()
		kvtest.Same(t, kvtest.Replay(t, db, seed, 100), kvtest.Replay(t, &plain{pairs: map[string]string{}}, seed, 100))
	}
}

func TestCrash(t *testing.T) {
	ctx := t.Context()
	db := memkv.New()
	put := func(key string, d kv.Durability) {
		t.Helper()
		err := db.Update(ctx, "f", d, func(tx kv.Tx) error { return tx.Set([]byte(key), nil) })
		if err != nil {
			t.Fatal(err)
		}
	}
	put("a", kv.Lazy)
	put("b", kv.Durable)
	put("c", kv.Lazy)
	put("d", kv.Lazy)
	if n := db.AtRisk(); n != 2 {
		t.Errorf("%d commits are at risk, want 2", n)
	}
	for want, left := range map[string]*memkv.DB{
		"ab":   db.Clone(true),
		"abc":  db.Crash(1),
		"abcd": db.Crash(2),
	} {
		if got := keys(t, left); got != want {
			t.Errorf("a crash leaves %q, want %q", got, want)
		}
	}
	if got := keys(t, db.Clone(false)); got != "abcd" {
		t.Errorf("a clone holds %q, want all", got)
	}
	// They have nothing to do with each other from then on.
	left := db.Crash(0)
	put("e", kv.Durable)
	if got := keys(t, left) + " " + keys(t, db); got != "ab abcde" {
		t.Errorf("the store that was left and the one that went on: %q", got)
	}
}

func TestAtRiskIsBounded(t *testing.T) {
	db := memkv.New()
	for i := range 3000 {
		err := db.Update(t.Context(), "f", kv.Lazy, func(tx kv.Tx) error { return tx.Set(kv.Key("k").Uint32(uint32(i)), nil) })
		if err != nil {
			t.Fatal(err)
		}
	}
	if n := db.AtRisk(); n > 1024 {
		t.Errorf("%d commits are remembered", n)
	}
	if n, all := len(keys(t, db.Crash(0))), len(keys(t, db)); n >= all || n == 0 {
		t.Errorf("a crash leaves %d bytes of keys out of %d", n, all)
	}
}

func TestFaults(t *testing.T) {
	ctx := t.Context()
	boom := fault.New(fault.Unavailable, "boom")
	var at string
	db := memkv.NewWith(memkv.Options{Fault: func(op string) error {
		if op == at {
			return boom
		}
		return nil
	}})
	for _, test := range []struct {
		at      string
		ran     bool
		written bool
	}{
		{memkv.OpBegin, false, false},
		{memkv.OpCommit, true, false},
		{memkv.OpCommitted, true, true},
	} {
		at = test.at
		ran := false
		err := db.Update(ctx, "f", kv.Durable, func(tx kv.Tx) error {
			ran = true
			return tx.Set([]byte(test.at), nil)
		})
		at = ""
		if !errors.Is(err, boom) || ran != test.ran || (keys(t, db) != "") != test.written {
			t.Errorf("fault at %s: error %v, fn ran %v, store %q", test.at, err, ran, keys(t, db))
		}
	}
	at = memkv.OpDeleteRange
	if err := db.DeleteRange(ctx, nil, nil); !errors.Is(err, boom) || keys(t, db) == "" {
		t.Errorf("fault at %s: error %v, store %q", at, err, keys(t, db))
	}
	at = memkv.OpView
	if err := db.View(ctx, func(kv.Reader) error { t.Error("fn ran"); return nil }); !errors.Is(err, boom) {
		t.Errorf("fault at %s: error %v", at, err)
	}
}

func TestRerun(t *testing.T) {
	db := memkv.NewWith(memkv.Options{Rerun: func(f kv.Fence) bool { return f == "twice" }})
	for fence, want := range map[kv.Fence]int{"once": 1, "twice": 2} {
		runs := 0
		err := db.Update(t.Context(), fence, kv.Durable, func(tx kv.Tx) error {
			runs++
			if v, err := tx.Get([]byte(fence)); v != nil || err != nil {
				t.Errorf("run %d sees the writes of the run before: %q, %v", runs, v, err)
			}
			return tx.Set([]byte(fence), []byte("1"))
		})
		if err != nil || runs != want {
			t.Errorf("fence %s: fn ran %d times, want %d, %v", fence, runs, want, err)
		}
	}
}

// TestScanLends keeps what a scan has lent: it must not stay readable.
func TestScanLends(t *testing.T) {
	db := memkv.New()
	var kept kv.Pair
	err := db.Update(t.Context(), "f", kv.Lazy, func(tx kv.Tx) error {
		if err := errors.Join(tx.Set([]byte("a"), []byte("1")), tx.Set([]byte("b"), []byte("2"))); err != nil {
			return err
		}
		for pair := range tx.Scan(kv.Range{Limit: 1}) {
			kept = pair
		}
		return nil
	})
	if err != nil || string(kept.Key) == "a" || string(kept.Value) == "1" {
		t.Errorf("kept %q=%q, %v", kept.Key, kept.Value, err)
	}
}

func keys(t *testing.T, db kv.DB) (s string) {
	t.Helper()
	err := db.View(context.Background(), func(r kv.Reader) error {
		for pair, err := range r.Scan(kv.Range{}) {
			if err != nil {
				return err
			}
			s += string(pair.Key)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// plain is a store that is a map: every look sorts it anew.
type plain struct {
	mu    sync.Mutex
	pairs map[string]string
}

func (p *plain) copy() *plain {
	p.mu.Lock()
	defer p.mu.Unlock()
	c := &plain{pairs: make(map[string]string)}
	for k, v := range p.pairs {
		c.pairs[k] = v
	}
	return c
}

func (p *plain) View(_ context.Context, fn func(kv.Reader) error) error { return fn(p.copy()) }

func (p *plain) Update(_ context.Context, _ kv.Fence, _ kv.Durability, fn func(kv.Tx) error) error {
	c := p.copy()
	if err := fn(c); err != nil {
		return err
	}
	p.pairs = c.pairs
	return nil
}

func (p *plain) DeleteRange(_ context.Context, from, to []byte) error {
	for pair := range p.Scan(kv.Range{From: from, To: to}) {
		delete(p.pairs, string(pair.Key))
	}
	return nil
}

func (p *plain) Close() error { return nil }

func (p *plain) Get(key []byte) ([]byte, error) {
	if v, ok := p.pairs[string(key)]; ok {
		return []byte(v), nil
	}
	return nil, nil
}

func (p *plain) GetMany(keys [][]byte) (values [][]byte, err error) {
	for _, key := range keys {
		v, _ := p.Get(key)
		values = append(values, v)
	}
	return values, nil
}

func (p *plain) Scan(rg kv.Range) iter.Seq2[kv.Pair, error] {
	var pairs []kv.Pair
	for k, v := range p.pairs {
		if k >= string(rg.From) && (rg.To == nil || k < string(rg.To)) {
			pairs = append(pairs, kv.Pair{Key: []byte(k), Value: []byte(v)})
		}
	}
	slices.SortFunc(pairs, func(a, b kv.Pair) int { return bytes.Compare(a.Key, b.Key) })
	if rg.Reverse {
		slices.Reverse(pairs)
	}
	if rg.Limit > 0 && len(pairs) > rg.Limit {
		pairs = pairs[:rg.Limit]
	}
	return func(yield func(kv.Pair, error) bool) {
		for _, pair := range pairs {
			if !yield(pair, nil) {
				return
			}
		}
	}
}

func (p *plain) Set(key, value []byte) error { p.pairs[string(key)] = string(value); return nil }
func (p *plain) Delete(key []byte) error     { delete(p.pairs, string(key)); return nil }
