package pebblekv

import (
	"bytes"
	"iter"
	"slices"

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
	writes map[string]write
	guard  guard.Writes
	arena  []byte // the free rest of a piece of memory for small values

	// The written keys in order, for scans. Most transactions scan little and
	// write much, so keys are put in order when a scan asks for it.
	sorted   *btree.BTreeG[string]
	unsorted []string
}

// write is what a key has become.
type write struct {
	value   []byte
	deleted bool
}

func (t *tx) Set(key, value []byte) error {
	old, known := t.writes[string(key)]
	if err := t.guard.Check(key, value, replaced(key, old, known)); err != nil {
		return err
	}
	t.put(key, write{value: t.keep(value)}, known)
	return nil
}

func (t *tx) Delete(key []byte) error {
	old, known := t.writes[string(key)]
	if err := t.guard.Check(key, nil, replaced(key, old, known)); err != nil {
		return err
	}
	t.put(key, write{deleted: true}, known)
	return nil
}

func replaced(key []byte, old write, known bool) int {
	if !known {
		return 0
	}
	return len(key) + len(old.value)
}

func (t *tx) put(key []byte, w write, known bool) {
	k := string(key)
	t.writes[k] = w
	if !known {
		t.unsorted = append(t.unsorted, k)
	}
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
	w, known := t.writes[string(key)]
	switch {
	case !known:
		return t.reader.Get(key)
	case w.deleted:
		return nil, nil
	}
	return append(make([]byte, 0, len(w.value)), w.value...), nil
}

func (t *tx) GetMany(keys [][]byte) ([][]byte, error) { return getMany(t, keys) }

// Scan merges what was written with what is stored.
func (t *tx) Scan(rg kv.Range) iter.Seq2[kv.Pair, error] {
	return func(yield func(kv.Pair, error) bool) {
		if empty(rg) {
			return
		}
		t.sort()
		written := pending{tx: t, rg: rg}
		if !written.first() {
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

// sort puts the keys written since the last scan in order.
func (t *tx) sort() {
	if t.sorted == nil {
		t.sorted = btree.NewOrderedG[string](32)
	}
	for _, key := range t.unsorted {
		t.sorted.ReplaceOrInsert(key)
	}
	t.unsorted = t.unsorted[:0]
}

// keys yields all written keys in order.
func (t *tx) keys() iter.Seq[string] {
	if t.sorted == nil {
		slices.Sort(t.unsorted)
		return slices.Values(t.unsorted)
	}
	t.sort()
	return func(yield func(string) bool) { t.sorted.Ascend(btree.ItemIteratorG[string](yield)) }
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
	w := p.tx.writes[p.key]
	return !w.deleted, kv.Pair{Key: p.buf, Value: w.value}
}
