package guard

import (
	"kith/fault"
	"kith/kv"
)

// Writes holds one transaction to the limits of package kv. Its zero value is
// ready; it is not safe for concurrent use.
type Writes struct {
	bytes int
	err   error
	over  bool
}

// Check is called before a write of key and value (nil for a delete) that
// replaces an earlier write of the same transaction with replaced bytes of key
// and value (zero for none). An error sticks: Err returns it from then on, and
// the transaction must roll back.
func (w *Writes) Check(key, value []byte, replaced int) error {
	if w.over {
		return fault.New(fault.Internal, "a transaction was used after its end")
	}
	if w.err != nil {
		return w.err
	}
	bytes := w.bytes - replaced + len(key) + len(value)
	switch {
	case len(key) == 0:
		w.err = fault.New(fault.Invalid, "a key is empty")
	case len(key) > kv.MaxKeyBytes:
		w.err = fault.New(fault.Invalid, "a key has %d bytes, the most is %d", len(key), kv.MaxKeyBytes)
	case len(value) > kv.MaxValueBytes:
		w.err = fault.New(fault.Invalid, "a value has %d bytes, the most is %d", len(value), kv.MaxValueBytes)
	case bytes > kv.MaxTxBytes:
		w.err = fault.New(fault.Invalid, "a transaction writes %d bytes, the most is %d: write in smaller batches", bytes, kv.MaxTxBytes)
	default:
		w.bytes = bytes
	}
	return w.err
}

// Err returns the error that made the transaction one to roll back, or nil.
func (w *Writes) Err() error { return w.err }

// End marks the transaction as over: every later write fails.
func (w *Writes) End() { w.over = true }

// Bytes returns the size of the keys and values to commit.
func (w *Writes) Bytes() int { return w.bytes }
