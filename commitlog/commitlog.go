package commitlog

import (
	"context"

	"kith/kv"
)

// MaxBlockBytes is the largest block a log takes.
const MaxBlockBytes = 16 << 20

// Offset is the number of a record in its log, counted from zero.
type Offset uint64

// Payload is a block that has no place in a log yet.
type Payload struct {
	Count int    // records in the block, at least one
	Data  []byte // the block; the log keeps it as it is
}

// Block is a block at its place in a log.
type Block struct {
	First Offset // the offset of its first record
	Payload
}

// End returns the offset after the block's last record.
func (b Block) End() Offset { return b.First + Offset(b.Count) }

// Log is one sequence. All methods are safe for concurrent use.
type Log interface {
	// Append adds blocks at the end, next to each other and in their order,
	// and returns the offset of the first record. It returns once they are
	// durable; appends that arrive together share one fsync. When it fails
	// with anything but fault.Invalid (an empty or oversized block, nothing
	// appended), the blocks may or may not be in the log.
	Append(ctx context.Context, blocks ...Payload) (Offset, error)
	// Read returns whole blocks in order, beginning with the one that holds
	// the record at from, until their data exceeds maxBytes; at least one
	// block when there is one. At the end of the log it returns none. A
	// record that was trimmed is fault.NotFound. Readers see only what is
	// durable.
	Read(ctx context.Context, from Offset, maxBytes int) ([]Block, error)
	// End returns the offset that the next record will get.
	End() Offset
	// Wait returns once End is greater than at, or with the context's error.
	Wait(ctx context.Context, at Offset) error
	// Trim forgets whole blocks that end at or before the offset.
	Trim(ctx context.Context, before Offset) error
	// Close waits for running appends and refuses later ones with
	// fault.Unavailable. It does not close the store beneath.
	Close() error
}

// TxAppender is an optional capability: a log that can be appended to within
// a caller's transaction, so that the block, and whatever else the transaction
// writes, commit together. All appends to such a log go through one owner (the
// caller's fence); Append is not used beside it. The caller calls Published
// after the commit, which wakes the readers; until then they do not see it.
type TxAppender interface {
	Log
	// AppendTx adds blocks at the end within tx and returns the offset of the
	// first record.
	AppendTx(tx kv.Tx, blocks ...Payload) (Offset, error)
	// Published tells the readers that the log is durable up to end.
	Published(end Offset)
}

// Replacer is an optional capability: a log that can forget what a record held
// while the record keeps its place.
type Replacer interface {
	Log
	// Replace puts blocks in the place of those that stand there. Each begins
	// where a block of the log begins and has as many records; any other is
	// fault.Invalid, and then nothing is replaced. A block that was trimmed
	// stays away. It is durable on return. A reader gets a block as it was or
	// as it is now, never a mixture; what it has read before is its own.
	Replace(ctx context.Context, blocks ...Block) error
	// ReplaceTx does the same within a transaction under the log's fence.
	ReplaceTx(tx kv.Tx, blocks ...Block) error
}
