package memkv

import (
	"bytes"
	"iter"

	"kith/kv"
	"kith/kv/internal/guard"
)

// reader reads one tree.
type reader struct {
	tree     *tree
	writable bool // the tree may change while a scan of it stands still
}

func (r *reader) Get(key []byte) ([]byte, error) {
	p, ok := r.tree.Get(pair{key: string(key)})
	if !ok {
		return nil, nil
	}
	return own(p.value), nil
}

func (r *reader) GetMany(keys [][]byte) ([][]byte, error) {
	values := make([][]byte, len(keys))
	for i, key := range keys {
		values[i], _ = r.Get(key)
	}
	return values, nil
}

// Scan copies each pair into slices that it spoils when the next one is asked
// for, so that a caller who keeps them notices.
func (r *reader) Scan(rg kv.Range) iter.Seq2[kv.Pair, error] {
	return func(yield func(kv.Pair, error) bool) {
		t := r.tree
		if r.writable {
			t = t.Clone()
		}
		lent := kv.Pair{Key: []byte{}, Value: []byte{}}
		n := 0
		visit := func(p pair) bool {
			spoil(lent)
			lent = kv.Pair{Key: append(lent.Key[:0], p.key...), Value: append(lent.Value[:0], p.value...)}
			n++
			return yield(lent, nil) && n != rg.Limit
		}
		if rg.Reverse {
			descend(t, rg, visit)
		} else {
			ascend(t, rg, visit)
		}
		spoil(lent)
	}
}

func ascend(t *tree, rg kv.Range, visit func(pair) bool) {
	t.AscendGreaterOrEqual(pair{key: string(rg.From)}, func(p pair) bool {
		return (rg.To == nil || p.key < string(rg.To)) && visit(p)
	})
}

func descend(t *tree, rg kv.Range, visit func(pair) bool) {
	down := func(p pair) bool {
		if rg.To != nil && p.key >= string(rg.To) {
			return true
		}
		return p.key >= string(rg.From) && visit(p)
	}
	if rg.To == nil {
		t.Descend(down)
		return
	}
	t.DescendLessOrEqual(pair{key: string(rg.To)}, down)
}

func spoil(p kv.Pair) {
	for _, b := range [][]byte{p.Key, p.Value} {
		for i := range b {
			b[i] = 0xdb
		}
	}
}

// tx is a transaction: a tree of its own that it writes to, and the list of
// what it wrote.
type tx struct {
	reader
	writes map[string][]byte
	guard  guard.Writes
}

func (t *tx) Set(key, value []byte) error {
	if err := t.guard.Check(key, value, t.written(key)); err != nil {
		return err
	}
	t.put(key, own(value))
	return nil
}

func (t *tx) Delete(key []byte) error {
	if err := t.guard.Check(key, nil, t.written(key)); err != nil {
		return err
	}
	t.put(key, nil)
	return nil
}

func (t *tx) put(key, value []byte) {
	k := string(key)
	t.writes[k] = value
	put(t.tree, k, value)
}

// written returns the bytes of what the transaction wrote to key before.
func (t *tx) written(key []byte) int {
	value, ok := t.writes[string(key)]
	if !ok {
		return 0
	}
	return len(key) + len(value)
}

// own returns a copy that is not nil.
func own(b []byte) []byte {
	if len(b) == 0 {
		return []byte{}
	}
	return bytes.Clone(b)
}
