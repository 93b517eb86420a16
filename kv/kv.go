package kv

import (
	"context"
	"iter"
)

// Limits every driver holds its callers to. Exceeding one, or writing an empty
// key, is a fault.Invalid error from the call that did it; the transaction is
// then rolled back, also when fn swallows the error.
const (
	MaxKeyBytes   = 4 << 10  // one key
	MaxValueBytes = 64 << 20 // one value
	MaxTxBytes    = 96 << 20 // keys and values that a transaction leaves to commit
)

// Fence names an owner of state: a space's loop at an epoch, a destination's
// delivery, a job, the workspace, a log. Updates under one fence run one after
// another.
type Fence string

// Durability says when a commit must have reached the disk.
type Durability bool

// Durable commits are on disk when Update returns. Lazy commits are on disk
// no later than the next Durable commit; until then a crash may undo them, all
// of one or none of it, and never a later one without an earlier one.
const (
	Durable Durability = true
	Lazy    Durability = false
)

// DB is an ordered store. All methods are safe for concurrent use. A context
// that is done before fn runs, also while waiting for the fence, is a
// fault.Unavailable error that wraps the context's; once fn runs the context
// is its own business.
type DB interface {
	// View calls fn with one unchanging moment of the store. fn should be
	// short: drivers may hold back clean-up while it runs.
	View(ctx context.Context, fn func(Reader) error) error
	// Update calls fn with a transaction under fence f and commits what fn
	// wrote, all or nothing, when fn returns nil. fn may run again (a lost
	// connection), so it must have no effect but through tx: metrics, taps
	// and wake-ups belong after Update has returned. An error from fn is
	// returned as it is and rolls back.
	Update(ctx context.Context, f Fence, d Durability, fn func(tx Tx) error) error
	// Close waits for running calls and frees the store. Calls after Close
	// fail with fault.Unavailable.
	Close() error
}

// Reader reads. What it returns belongs to the caller, except inside Scan.
type Reader interface {
	// Get returns the value of key. A missing key is no error: it gives a nil
	// slice. A present empty value is an empty slice that is not nil.
	Get(key []byte) ([]byte, error)
	// GetMany returns the values of keys in their order, nil for missing ones.
	GetMany(keys [][]byte) ([][]byte, error)
	// Scan yields the pairs of r in order. The slices of a pair are valid only
	// until the next one is asked for. An error ends the scan as its last
	// element. Writing to the keys of r while scanning it is not allowed.
	Scan(r Range) iter.Seq2[Pair, error]
}

// Tx reads and writes. Its reads see its own writes. It is not safe for
// concurrent writing; Get and GetMany may be called concurrently with each
// other while nobody writes.
type Tx interface {
	Reader
	// Set writes a pair. The slices are not kept and may be reused.
	Set(key, value []byte) error
	// Delete removes a key; a missing key is no error.
	Delete(key []byte) error
}

// Pair is a key and its value.
type Pair struct{ Key, Value []byte }

// Range is a run of keys: from From (inclusive) to To (exclusive; nil means no
// bound), upwards, or downwards when Reverse is set, at most Limit pairs (zero
// means all).
type Range struct {
	From, To []byte
	Reverse  bool
	Limit    int
}

// Prefix returns the range of all keys that begin with p.
func Prefix(p []byte) Range { return Range{From: p, To: PrefixEnd(p)} }

// RangeDeleter is an optional capability: dropping all keys of a range without
// reading them. It is durable on return and not part of any transaction: the
// caller owns every key in the range and nobody writes there meanwhile.
type RangeDeleter interface {
	DeleteRange(ctx context.Context, from, to []byte) error
}

// Keeper is an optional capability: keeping at hand what the updates under one
// fence read, who read the same keys again and again.
type Keeper interface {
	// Keep keeps in memory, until end is called, about maxBytes at most of what
	// Updates under f have read of the keys that begin with stem, so that they
	// find it again for less. Meanwhile nobody but these writes a key that they
	// read, or drops it. A second Keep takes the place of a first of the same
	// fence. Less than some hundred KB keep nothing.
	Keep(f Fence, stem []byte, maxBytes int) (end func())
}

// Scrubber is an optional capability: making what was overwritten or deleted
// leave the files, which stores keep for a while to be quick. The caller has
// written or deleted before, durably.
type Scrubber interface {
	// Scrub returns once no file of the store holds a value that a key of the
	// ranges had before and has no more when it is called, nor a key of them
	// that is gone. It waits for the Views that are running when it is called,
	// and reads and writes that come meanwhile go on. It costs about what
	// writing the files costs that hold something of the ranges. Limit and
	// Reverse of a range mean nothing. When it fails, nothing is known.
	Scrub(ctx context.Context, ranges ...Range) error
}
