package kvlog

import (
	"context"
	"fmt"

	"kith/commitlog"
	"kith/fault"
	"kith/kv"
)

// Replace puts blocks in the place of those that stand there, in one
// transaction under the log's fence; see commitlog.Replacer. Together they may
// take MaxAppendBytes.
func (l *Log) Replace(ctx context.Context, blocks ...commitlog.Block) error {
	if err := l.enter(); err != nil {
		return err
	}
	defer l.calls.Done()
	if len(blocks) == 0 {
		return nil
	}
	err := l.db.Update(ctx, l.fence, kv.Durable, func(tx kv.Tx) error { return l.replace(tx, blocks) })
	if err != nil {
		return fmt.Errorf("replace blocks of the log from %d on: %w", blocks[0].First, err)
	}
	return nil
}

// ReplaceTx does it within the caller's transaction, which is under the log's
// fence; see commitlog.Replacer.
func (l *Log) ReplaceTx(tx kv.Tx, blocks ...commitlog.Block) error {
	if err := l.enter(); err != nil {
		return err
	}
	defer l.calls.Done()
	if err := l.replace(tx, blocks); err != nil {
		return fmt.Errorf("replace blocks of the log: %w", err)
	}
	return nil
}

func (l *Log) replace(tx kv.Tx, blocks []commitlog.Block) error {
	payloads := make([]commitlog.Payload, len(blocks))
	for i, b := range blocks {
		payloads[i] = b.Payload
	}
	if _, err := l.check(payloads); err != nil {
		return err
	}
	for _, b := range blocks {
		key := blockKey(l.stem, b.First)
		value, err := tx.Get(key)
		if err != nil {
			return err
		}
		if value == nil {
			trimmed, err := l.trimmed(tx, b.First)
			if err != nil {
				return err
			}
			if !trimmed {
				return fault.New(fault.Invalid, "no block begins at %d", b.First)
			}
			continue
		}
		stands, err := parse(l.stem, kv.Pair{Key: key, Value: value})
		if err != nil {
			return err
		}
		if stands.Count == 0 {
			continue // a base: everything before was trimmed
		}
		if stands.Count != b.Count {
			return fault.New(fault.Invalid, "the block at %d has %d records, not %d", b.First, stands.Count, b.Count)
		}
		if err := tx.Set(key, blockValue(b.Payload)); err != nil {
			return err
		}
	}
	return nil
}

// trimmed reports whether the log begins behind an offset.
func (l *Log) trimmed(tx kv.Tx, at commitlog.Offset) (bool, error) {
	_, earlier, err := l.firstAtOrBefore(tx, at)
	if err != nil || earlier {
		return false, err
	}
	end, err := l.storedEnd(tx)
	return end > at, err
}
