package pebblekv

import (
	"bytes"
	"iter"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/google/btree"

	"kith/kv"
	"kith/kv/internal/guard"
)

// tx is a transaction: the newest state of the store beneath, and what the
// transaction has written above it. Nobody else writes the keys of its fence,
// so the newest state is also the state at its beginning, as far as the
// transaction may look.
type tx struct {
	reader
	kept  *kept // nil: nothing is kept under this fence
	at    map[string]int32
	list  []write // what was written, in no order; at says where a key is
	guard guard.Writes
	arena []byte       // the free rest of a piece of memory for small values
	many  atomic.Int64 // keys that were read ahead

	// The written keys in order, for scans: the first of list as many as it
	// holds. Most transactions scan little, and hardly ever what they have
	// written, so keys are put in order when scans have passed over list for a
	// while.
	sorted *btree.BTreeG[string]
	passed int // keys that scans have looked at in list
}

// write is what a key has become.
type write struct {
	key     string
	value   []byte
	deleted bool
}

// sortAfter is how often scans look at each written key before keys are put in
// order.
const sortAfter = 8

func (t *tx) Set(key, value []byte) error { return t.put(key, value, false) }

func (t *tx) Delete(key []byte) error { return t.put(key, nil, true) }

func (t *tx) put(key, value []byte, deleted bool) error {
	at, known := t.at[string(key)]
	replaced := 0
	if known {
		replaced = len(key) + len(t.list[at].value)
	}
	if err := t.guard.Check(key, value, replaced); err != nil {
		return err
	}
	if !deleted {
		value = t.keep(value)
	}
	if known {
		t.list[at].value, t.list[at].deleted = value, deleted
		return nil
	}
	if t.at == nil {
		// Who reads ahead for a batch writes about as many keys for it.
		n := writesOf * int(t.many.Load())
		t.at, t.list = make(map[string]int32, n), make([]write, 0, n)
	}
	k := string(key)
	t.at[k] = int32(len(t.list))
	t.list = append(t.list, write{k, value, deleted})
	return nil
}

// keep returns a copy of a value, which is never nil.
func (t *tx) keep(value []byte) []byte {
	const piece, small = 32 << 10, 4 << 10
	if len(value) > small {
		return append(make([]byte, 0, len(value)), value...)
	}
	if cap(t.arena)-len(t.arena) < len(value) || t.arena == nil {
		t.arena = make([]byte, 0, piece)
	}
	at := len(t.arena)
	t.arena = append(t.arena, value...)
	return t.arena[at:len(t.arena):len(t.arena)]
}

func (t *tx) Get(key []byte) ([]byte, error) {
	at, known := t.at[string(key)]
	if !known {
		return t.stored(key)
	}
	w := &t.list[at]
	if w.deleted {
		return nil, nil
	}
	return append(make([]byte, 0, len(w.value)), w.value...), nil
}

// stored returns the value that a key had before the transaction.
func (t *tx) stored(key []byte) ([]byte, error) {
	if !t.kept.wants(key) {
		return t.reader.Get(key)
	}
	if value, known := t.kept.get(key); known {
		return value, nil
	}
	value, err := t.reader.Get(key)
	if err == nil {
		t.kept.put(key, value)
	}
	return value, err
}

func (t *tx) GetMany(keys [][]byte) ([][]byte, error) {
	t.many.Add(int64(len(keys)))
	return getMany(t, keys)
}

// writesOf is about how many keys are written for each that was read ahead.
const writesOf = 2

// Scan merges what was written with what is stored.
func (t *tx) Scan(rg kv.Range) iter.Seq2[kv.Pair, error] {
	return func(yield func(kv.Pair, error) bool) {
		if empty(rg) {
			return
		}
		written := pending{tx: t, rg: rg}
		if !t.wrote(rg) || !written.first() {
			t.reader.Scan(rg)(yield)
			return
		}
		stored, err := t.reader.cursor(rg)
		if err != nil {
			yield(kv.Pair{}, err)
			return
		}
		if !merge(&written, stored, rg.Limit, yield) {
			stored.close()
			return
		}
		if err := stored.close(); err != nil {
			yield(kv.Pair{}, err)
		}
	}
}

// merge yields the pairs of both in order; a written pair hides a stored one
// with the same key. It reports whether more may be yielded.
func merge(written *pending, stored *cursor, limit int, yield func(kv.Pair, error) bool) bool {
	n := 0
	for (written.valid || stored.valid) && !stored.failed() {
		order := -1 // the written pair comes first
		switch {
		case !written.valid:
			order = 1
		case stored.valid:
			order = bytes.Compare(written.buf, stored.pair.Key)
			if stored.reverse {
				order = -order
			}
		}
		visible, pair := true, stored.pair
		if order <= 0 {
			visible, pair = written.read()
		}
		if visible {
			if !yield(pair, nil) {
				return false
			}
			if n++; n == limit {
				return true
			}
		}
		if order <= 0 {
			written.next()
		}
		if order >= 0 {
			stored.next()
		}
	}
	return true
}

// wrote reports whether a key of a range was written. If it may be, the keys
// are in order afterwards.
func (t *tx) wrote(rg kv.Range) bool {
	if t.sorted == nil && t.passed <= sortAfter*len(t.list) {
		t.passed += len(t.list)
		from, to := string(rg.From), string(rg.To)
		if !slices.ContainsFunc(t.list, func(w write) bool { return w.key >= from && (rg.To == nil || w.key < to) }) {
			return false
		}
	}
	if t.sorted == nil {
		t.sorted = btree.NewOrderedG[string](32)
	}
	for i := t.sorted.Len(); i < len(t.list); i++ {
		t.sorted.ReplaceOrInsert(t.list[i].key)
	}
	return true
}

// writes returns all that was written, in the order of the keys. Nothing may be
// done with the transaction afterwards.
func (t *tx) writes() []write {
	slices.SortFunc(t.list, func(a, b write) int { return strings.Compare(a.key, b.key) })
	return t.list
}

// pending stands at a written key of a range, or is not valid. It looks its
// place up again at every step, so that the transaction may write elsewhere
// meanwhile.
type pending struct {
	tx    *tx
	rg    kv.Range
	valid bool
	key   string
	buf   []byte // the same, to be lent
}

func (p *pending) first() bool {
	switch {
	case !p.rg.Reverse:
		p.seek(string(p.rg.From), true)
	case p.rg.To != nil:
		p.seek(string(p.rg.To), false)
	default:
		if last, some := p.tx.sorted.Max(); some {
			p.seek(last, true)
		}
	}
	return p.valid
}

func (p *pending) next() { p.seek(p.key, false) }

// seek finds the nearest key in the range beyond pivot, or at it when
// inclusive is set.
func (p *pending) seek(pivot string, inclusive bool) {
	p.valid = false
	visit := func(key string) bool {
		if key == pivot && !inclusive {
			return true
		}
		p.key, p.buf = key, append(p.buf[:0], key...)
		if p.rg.Reverse {
			p.valid = key >= string(p.rg.From)
		} else {
			p.valid = p.rg.To == nil || key < string(p.rg.To)
		}
		return false
	}
	if p.rg.Reverse {
		p.tx.sorted.DescendLessOrEqual(pivot, visit)
	} else {
		p.tx.sorted.AscendGreaterOrEqual(pivot, visit)
	}
}

// read returns the pair, or false for a key that was deleted.
func (p *pending) read() (bool, kv.Pair) {
	w := &p.tx.list[p.tx.at[p.key]]
	return !w.deleted, kv.Pair{Key: p.buf, Value: w.value}
}
