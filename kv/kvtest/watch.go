package kvtest

import (
	"bytes"
	"context"
	"iter"
	"slices"
	"sync"

	"kith/kv"
)

// Watch wraps db and holds its callers to the rule of package kv: a
// transaction reads only keys that its own fence writes, and keys that do not
// change any more. It calls report, as t.Errorf would be called, once for each
// key and fence that break it: when transactions have read a key before and after
// another fence has changed it. So an owner that has ended may be followed by one
// under another fence, as at the swap of an epoch. Writing a value again that is there
// already is no change; dropping a range is the end of its keys. Views may read
// everything.
//
// report may be called from any goroutine that uses the store. Watch keeps a
// note of every key written, so it is for tests.
func Watch(db kv.DB, report func(format string, args ...any)) kv.DB {
	w := &watched{DB: db, report: report, keys: make(map[string]*note)}
	if ranges, ok := db.(kv.RangeDeleter); ok {
		return &watchedRanges{watched: w, ranges: ranges}
	}
	return w
}

type watched struct {
	kv.DB
	report func(format string, args ...any)

	mu   sync.Mutex
	keys map[string]*note
}

// note is what is known of a key.
type note struct {
	writers  []kv.Fence // that have ever written or deleted it
	last     kv.Fence   // that has changed it last
	reported []kv.Fence
	value    []byte // nil: deleted
	changes  int    // writes with another value than before, and deletes
	// readers are the fences whose transactions have read it without ever writing
	// it, each with how many changes there were then.
	readers map[kv.Fence]int
}

// Update watches what fn reads; what it writes counts once it has committed.
func (w *watched) Update(ctx context.Context, f kv.Fence, d kv.Durability, fn func(kv.Tx) error) error {
	var last *watchedTx
	err := w.DB.Update(ctx, f, d, func(tx kv.Tx) error {
		last = &watchedTx{Tx: tx, db: w, fence: f, writes: make(map[string][]byte)}
		return fn(last)
	})
	if err == nil && last != nil {
		w.wrote(f, last.writes)
	}
	return err
}

func (w *watched) wrote(f kv.Fence, writes map[string][]byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for key, value := range writes {
		n := w.keys[key]
		if n == nil {
			n = &note{}
			if value == nil {
				continue // nothing was there
			}
			w.keys[key] = n
		}
		if !slices.Contains(n.writers, f) {
			n.writers = append(n.writers, f)
		}
		if n.changes > 0 && sameValue(n.value, value) {
			continue
		}
		n.value, n.last = bytes.Clone(value), f
		n.changes++
	}
}

func sameValue(a, b []byte) bool { return (a == nil) == (b == nil) && bytes.Equal(a, b) }

func (w *watched) read(f kv.Fence, key []byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := w.keys[string(key)]
	if n == nil || slices.Contains(n.writers, f) {
		return
	}
	before, again := n.readers[f]
	if again && before < n.changes && !slices.Contains(n.reported, f) {
		n.reported = append(n.reported, f)
		w.report("a transaction under fence %q reads the key %q, which fence %q changes", f, key, n.last)
	}
	if n.readers == nil {
		n.readers = make(map[kv.Fence]int)
	}
	n.readers[f] = n.changes
}

type watchedTx struct {
	kv.Tx
	db     *watched
	fence  kv.Fence
	writes map[string][]byte // nil: deleted
}

// saw notes that the transaction has read key from the store.
func (t *watchedTx) saw(key []byte) {
	if _, own := t.writes[string(key)]; !own {
		t.db.read(t.fence, key)
	}
}

func (t *watchedTx) Get(key []byte) ([]byte, error) {
	t.saw(key)
	return t.Tx.Get(key)
}

func (t *watchedTx) GetMany(keys [][]byte) ([][]byte, error) {
	for _, key := range keys {
		t.saw(key)
	}
	return t.Tx.GetMany(keys)
}

func (t *watchedTx) Scan(r kv.Range) iter.Seq2[kv.Pair, error] {
	return func(yield func(kv.Pair, error) bool) {
		for pair, err := range t.Tx.Scan(r) {
			if err == nil {
				t.saw(pair.Key)
			}
			if !yield(pair, err) {
				return
			}
		}
	}
}

func (t *watchedTx) Set(key, value []byte) error {
	if err := t.Tx.Set(key, value); err != nil {
		return err
	}
	t.writes[string(key)] = append([]byte{}, value...)
	return nil
}

func (t *watchedTx) Delete(key []byte) error {
	if err := t.Tx.Delete(key); err != nil {
		return err
	}
	t.writes[string(key)] = nil
	return nil
}

// watchedRanges is a watched store that drops ranges.
type watchedRanges struct {
	*watched
	ranges kv.RangeDeleter
}

// DeleteRange forgets what was noted of the range's keys.
func (w *watchedRanges) DeleteRange(ctx context.Context, from, to []byte) error {
	if err := w.ranges.DeleteRange(ctx, from, to); err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for key := range w.keys {
		if key >= string(from) && (to == nil || key < string(to)) {
			delete(w.keys, key)
		}
	}
	return nil
}

// Scrub passes on, where the store can.
func (w *watchedRanges) Scrub(ctx context.Context, ranges ...kv.Range) error {
	if scrubber, ok := w.ranges.(kv.Scrubber); ok {
		return scrubber.Scrub(ctx, ranges...)
	}
	return nil
}
