package dedup

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"kith/kv"
)

// DefaultFilterBytes bounds the filters of an index unless its Config does:
// about 170 million ids.
const DefaultFilterBytes = 256 << 20

var errDamaged = errors.New("dedup: an entry of the index is damaged or of an unknown format")

// Config is what an index is made of.
type Config struct {
	DB     kv.DB
	Space  uint32
	Window time.Duration // at least a millisecond
	// FilterBytes is how much memory the filters may take; zero means
	// DefaultFilterBytes.
	FilterBytes int64
	Logger      *slog.Logger
}

// Index is the index of one space at the side of its loop. Its methods are the
// loop's, which calls them one after another but for Seen; Run and Stats may
// run beside them.
type Index struct {
	cfg    Config
	window int64 // in milliseconds
	part   int   // how many keys stand in a part of a sealed filter; for tests

	buckets []*bucket // in the order of time; changed by Note and Passed only
	former  bool      // keys of the former form are in the window
	// hadFormer says that there were such keys when the index was opened.
	hadFormer bool

	asked atomic.Uint64 // how often Seen went to the store

	wake  chan struct{} // tells Run of work
	mu    sync.Mutex    // guards what follows, buckets' list and what bucket says
	tasks []*bucket     // whose filter is to be made, in this order
	cut   uint32        // buckets before it are to be dropped
	held  int64         // bytes of all filters
}

// bucket is what is known in memory of the ids of one bucket.
type bucket struct {
	number uint32
	// unread says that there may be keys in the store that came before this
	// index was opened, and that only sealed can tell of.
	unread bool
	sealed atomic.Pointer[sealed]
	// added has the ids that came since the index was opened. The loop's alone.
	added growing
	// Changed under mu and by the loop, which may read them without:
	full   bool // added found no room once
	passed bool // no more ids come
	gone   bool // out of the window
}

// Open returns the index of a space whose loop is at an instant.
func Open(ctx context.Context, cfg Config, at int64) (*Index, error) {
	if cfg.FilterBytes == 0 {
		cfg.FilterBytes = DefaultFilterBytes
	}
	x := &Index{cfg: cfg, window: cfg.Window.Milliseconds(), part: partKeys, wake: make(chan struct{}, 1)}
	err := cfg.DB.View(ctx, func(r kv.Reader) error {
		former := kv.Prefix(kv.SpaceKey(cfg.Space, formerRoom))
		former.Limit = 1
		for _, err := range r.Scan(former) {
			if err != nil {
				return err
			}
			x.former = true
		}
		numbers, err := bucketsOf(r, cfg.Space)
		for _, n := range numbers {
			x.buckets = append(x.buckets, &bucket{number: n, unread: true})
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	x.hadFormer = x.former
	x.Passed(at)
	for _, b := range x.buckets {
		if !b.passed {
			x.tasks = append(x.tasks, b)
			x.stir()
		}
	}
	return x, nil
}

// bucketsOf returns the buckets that have keys, in the order of time.
func bucketsOf(r kv.Reader, space uint32) (numbers []uint32, err error) {
	all := kv.Prefix(stem(space))
	all.Limit = 1
	for {
		found := false
		for pair, err := range r.Scan(all) {
			if err != nil {
				return nil, err
			}
			parts := kv.PartsAfter(pair.Key, stem(space))
			n := parts.Uint32()
			if !parts.OK() {
				return nil, errDamaged
			}
			numbers, found = append(numbers, n), true
			all.From = kv.PrefixEnd(stem(space).Uint32(n))
		}
		if !found || all.From == nil {
			return numbers, nil
		}
	}
}

// Seen returns the record that counted for an id, if one did less than the
// window before at. r is the transaction of a batch before it has written, and
// Seen may be called concurrently then.
func (x *Index) Seen(r kv.Reader, id *ID, at int64) (First, bool, error) {
	since := at - x.window // exclusive
	low := bucketOf(since)
	for i := len(x.buckets) - 1; i >= 0 && x.buckets[i].number >= low; i-- {
		b := x.buckets[i]
		if !b.has(id) {
			continue
		}
		x.asked.Add(1)
		value, err := r.Get(firstKey(x.cfg.Space, b.number, id))
		if err != nil {
			return First{}, false, err
		}
		if f, ok, err := decodeFirst(b.number, value); ok || err != nil {
			return f, ok && f.At > since, err
		}
	}
	if !x.former {
		return First{}, false, nil
	}
	x.asked.Add(1)
	value, err := r.Get(formerKey(x.cfg.Space, id))
	if err != nil {
		return First{}, false, err
	}
	f, ok, err := decodeFormer(value)
	return f, ok && f.At > since, err
}

// has reports whether the id may have a key in the bucket; false is certain.
func (b *bucket) has(id *ID) bool {
	s := b.sealed.Load()
	switch {
	case s != nil && s.whole:
		return s.has(id)
	case b.full || b.unread && s == nil:
		return true
	}
	return s != nil && s.has(id) || b.added.has(id)
}

// Note writes the first record of an id that Seen did not know. Instants do
// not go back from one call to the next, but for a transaction that begins
// again.
func (x *Index) Note(tx kv.Tx, id *ID, f First) error {
	b := x.bucket(bucketOf(f.At))
	if err := tx.Set(firstKey(x.cfg.Space, b.number, id), encodeFirst(b.number, f)); err != nil {
		return err
	}
	if b.full {
		return nil
	}
	if keys, perKey := b.added.next(); keys > 0 && !x.grow(b, keys, perKey) {
		return nil
	}
	b.added.add(id)
	return nil
}

// grow makes room for more ids of a bucket, or has the bucket do without a
// filter for those that came since the start.
func (x *Index) grow(b *bucket, keys, perKey int) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	if size := bloomBytes(keys, perKey); x.held+size <= x.cfg.FilterBytes {
		x.held += size
		b.added.grow(keys, perKey)
		return true
	}
	x.held -= b.added.bytes()
	b.added, b.full = growing{}, true
	return false
}

// bucket returns the bucket with a number, which it opens if need be.
func (x *Index) bucket(number uint32) *bucket {
	i := len(x.buckets)
	for i > 0 && x.buckets[i-1].number >= number {
		i--
		if x.buckets[i].number == number {
			return x.buckets[i]
		}
	}
	b := &bucket{number: number}
	x.mu.Lock()
	defer x.mu.Unlock()
	x.buckets = slices.Insert(x.buckets, i, b)
	return b
}

// Passed tells the index how far its loop has come, after a commit. Buckets
// that have left the window are forgotten and dropped; the filters of those
// that get no more ids are made anew and kept.
func (x *Index) Passed(at int64) {
	now, low := bucketOf(at), bucketOf(at-x.window)
	x.mu.Lock()
	defer x.mu.Unlock()
	for len(x.buckets) > 0 && x.buckets[0].number < low {
		b := x.buckets[0]
		x.buckets = x.buckets[1:]
		b.gone = true
		x.held -= b.added.bytes()
		if s := b.sealed.Load(); s != nil {
			x.held -= s.bytes()
		}
		x.cut, x.former = b.number+1, false
		x.stir()
	}
	for _, b := range x.buckets {
		if b.number >= now {
			break
		}
		if !b.passed {
			b.passed = true
			x.tasks = append(x.tasks, b)
			x.stir()
		}
		if s := b.sealed.Load(); s != nil && s.whole && b.added.chain != nil {
			x.held -= b.added.bytes()
			b.added = growing{}
		}
	}
}

// stir tells Run that there is something to do.
func (x *Index) stir() {
	select {
	case x.wake <- struct{}{}:
	default:
	}
}

// Stats are figures of an index.
type Stats struct {
	Buckets     int    // in the window
	Bare        int    // of them, those whose every id is asked of the store
	FilterBytes int64  // in memory
	Asked       uint64 // how often the store was asked since the start
}

// Stats returns the figures of now.
func (x *Index) Stats() Stats {
	x.mu.Lock()
	defer x.mu.Unlock()
	s := Stats{Buckets: len(x.buckets), FilterBytes: x.held, Asked: x.asked.Load()}
	for _, b := range x.buckets {
		if made := b.sealed.Load(); (made == nil || !made.whole) && (b.full || b.unread && made == nil) {
			s.Bare++
		}
	}
	return s
}

// Find returns the newest record that counted for a messageId, as far as the
// index of a space goes back. r may be any reader, also while a loop runs.
func Find(r kv.Reader, space uint32, messageID string) (First, bool, error) {
	id := IDOf(messageID)
	numbers, err := bucketsOf(r, space)
	if err != nil {
		return First{}, false, err
	}
	for _, n := range slices.Backward(numbers) {
		value, err := r.Get(firstKey(space, n, &id))
		if err != nil {
			return First{}, false, err
		}
		if f, ok, err := decodeFirst(n, value); ok || err != nil {
			return f, ok, err
		}
	}
	value, err := r.Get(formerKey(space, &id))
	if err != nil {
		return First{}, false, err
	}
	return decodeFormer(value)
}
