package memkv

import (
	"context"
	"sync"

	"github.com/google/btree"

	"kith/kv"
	"kith/kv/internal/guard"
)

// The points of a call at which Options.Fault is asked.
const (
	OpView        = "view"         // before a View's fn; an error means that fn did not run
	OpBegin       = "begin"        // before an Update's fn; an error means that fn did not run
	OpCommit      = "commit"       // before the commit; an error means that nothing was written
	OpCommitted   = "committed"    // after the commit; an error means an answer that was lost
	OpDeleteRange = "delete range" // before a DeleteRange; an error means that nothing was deleted
)

// Options lets a test decide what goes wrong. The functions are called from
// the goroutines of the callers, concurrently. The zero value lets nothing go
// wrong.
type Options struct {
	// Fault is asked at each point; an error it returns is what the caller
	// gets.
	Fault func(op string) error
	// Rerun is asked after an Update's fn has returned nil. When it says true
	// the writes are forgotten and fn runs once more, as after a lost
	// connection.
	Rerun func(f kv.Fence) bool
}

// maxAtRisk bounds how many Lazy commits are remembered as ones that a crash
// would lose; older ones count as having reached the disk by themselves.
const maxAtRisk = 1024

// DB is a store in memory. It implements kv.DB, kv.RangeDeleter and kv.Scrubber.
type DB struct {
	opts  Options
	guard *guard.Guard

	mu      sync.Mutex
	now     *tree   // every commit
	durable *tree   // what a crash leaves in any case
	atRisk  []*tree // the store after each Lazy commit since then, oldest first
}

type pair struct {
	key   string
	value []byte // never changed once it is here
}

type tree = btree.BTreeG[pair]

func newTree() *tree {
	return btree.NewG(32, func(a, b pair) bool { return a.key < b.key })
}

// New returns an empty store.
func New() *DB { return NewWith(Options{}) }

// NewWith returns an empty store in which things go wrong as opts says.
func NewWith(opts Options) *DB { return restore(newTree(), opts) }

func restore(t *tree, opts Options) *DB {
	return &DB{opts: opts, guard: guard.New(), now: t, durable: t.Clone()}
}

// View calls fn with the store as it is now; see kv.DB.
func (db *DB) View(ctx context.Context, fn func(kv.Reader) error) error {
	if err := db.guard.Enter(ctx); err != nil {
		return err
	}
	defer db.guard.Leave()
	if err := db.fault(OpView); err != nil {
		return err
	}
	return fn(&reader{tree: db.snapshot()})
}

// Update runs fn as a transaction under f; see kv.DB.
func (db *DB) Update(ctx context.Context, f kv.Fence, d kv.Durability, fn func(kv.Tx) error) error {
	if err := db.guard.Enter(ctx); err != nil {
		return err
	}
	defer db.guard.Leave()
	if err := db.guard.Lock(ctx, f); err != nil {
		return err
	}
	defer db.guard.Unlock(f)

	if err := db.fault(OpBegin); err != nil {
		return err
	}
	writes, err := db.run(fn)
	if err != nil {
		return err
	}
	if db.opts.Rerun != nil && db.opts.Rerun(f) {
		if writes, err = db.run(fn); err != nil {
			return err
		}
	}
	if err := db.fault(OpCommit); err != nil {
		return err
	}
	db.commit(writes, d)
	return db.fault(OpCommitted)
}

// run calls fn with a transaction on a copy of the store and returns what it
// wrote: the last value of each key, nil for a deleted one.
func (db *DB) run(fn func(kv.Tx) error) (map[string][]byte, error) {
	t := &tx{reader: reader{tree: db.snapshot()}, writes: make(map[string][]byte)}
	t.reader.writable = true
	defer t.guard.End()
	if err := fn(t); err != nil {
		return nil, err
	}
	return t.writes, t.guard.Err()
}

func (db *DB) commit(writes map[string][]byte, d kv.Durability) {
	db.mu.Lock()
	defer db.mu.Unlock()
	for key, value := range writes {
		put(db.now, key, value)
	}
	if d == kv.Durable {
		db.settle()
		return
	}
	db.atRisk = append(db.atRisk, db.now.Clone())
	if len(db.atRisk) > maxAtRisk {
		db.durable, db.atRisk = db.atRisk[0], db.atRisk[1:]
	}
}

// settle makes all commits durable.
func (db *DB) settle() { db.durable, db.atRisk = db.now.Clone(), nil }

func put(t *tree, key string, value []byte) {
	if value == nil {
		t.Delete(pair{key: key})
		return
	}
	t.ReplaceOrInsert(pair{key: key, value: value})
}

// DeleteRange drops all keys of a range; see kv.RangeDeleter.
func (db *DB) DeleteRange(ctx context.Context, from, to []byte) error {
	if err := db.guard.Enter(ctx); err != nil {
		return err
	}
	defer db.guard.Leave()
	if err := db.fault(OpDeleteRange); err != nil {
		return err
	}
	db.mu.Lock()
	defer db.mu.Unlock()
	var doomed []pair
	ascend(db.now, kv.Range{From: from, To: to}, func(p pair) bool {
		doomed = append(doomed, p)
		return true
	})
	for _, p := range doomed {
		db.now.Delete(p)
	}
	db.settle()
	return nil
}

// Scrub has nothing to do but wait until all commits are durable: a store in
// memory forgets at once. See kv.Scrubber.
func (db *DB) Scrub(ctx context.Context, _ ...kv.Range) error {
	if err := db.guard.Enter(ctx); err != nil {
		return err
	}
	defer db.guard.Leave()
	db.mu.Lock()
	defer db.mu.Unlock()
	db.settle()
	return nil
}

// Close waits for running calls; see kv.DB. Closing makes every commit
// durable, as a store on disk does. A closed store can still be crashed,
// which opens a copy of it.
func (db *DB) Close() error {
	if db.guard.Close() {
		db.mu.Lock()
		defer db.mu.Unlock()
		db.settle()
	}
	return nil
}

func (db *DB) snapshot() *tree {
	db.mu.Lock()
	defer db.mu.Unlock()
	return db.now.Clone()
}

func (db *DB) fault(op string) error {
	if db.opts.Fault == nil {
		return nil
	}
	return db.opts.Fault(op)
}
