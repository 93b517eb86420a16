package kvlog

import (
	"bytes"
	"context"
	"fmt"

	"kith/commitlog"
	"kith/kv"
)

// trimKeys is how many blocks one transaction forgets where the store cannot
// drop a range.
const trimKeys = 512

// Trim forgets whole blocks that end at or before the offset; see
// commitlog.Log. It must not be called within a transaction under the log's
// fence.
func (l *Log) Trim(ctx context.Context, before commitlog.Offset) error {
	if err := l.enter(); err != nil {
		return err
	}
	defer l.calls.Done()
	before = min(before, l.End())
	cut, err := l.cut(ctx, before)
	if err == nil && cut > 0 {
		err = l.drop(ctx, cut)
	}
	if err != nil {
		return fmt.Errorf("trim the log before %d: %w", before, err)
	}
	return nil
}

// cut returns the offset of the first block to keep, or zero when there is
// nothing to forget. When no block is to be kept it writes a base, so that the
// log never begins again at zero.
func (l *Log) cut(ctx context.Context, before commitlog.Offset) (commitlog.Offset, error) {
	var cut commitlog.Offset
	find := func(r kv.Reader) (whole bool, err error) {
		oldest := kv.Range{From: l.stem, To: blockKey(l.stem, before), Limit: 1}
		for pair, err := range r.Scan(oldest) {
			if err != nil {
				return false, err
			}
			end, err := l.storedEnd(r)
			if err != nil {
				return false, err
			}
			if before >= end {
				cut = end
				return true, nil
			}
			first, _, err := l.firstAtOrBefore(r, before)
			if err != nil {
				return false, err
			}
			if block, err := parse(l.stem, pair); err != nil || block.First == first {
				return false, err
			}
			cut = first
		}
		return false, nil
	}
	var whole bool
	err := l.db.View(ctx, func(r kv.Reader) (err error) {
		whole, err = find(r)
		return err
	})
	if err != nil || !whole {
		return cut, err
	}
	err = l.db.Update(ctx, l.fence, kv.Durable, func(tx kv.Tx) error {
		cut = 0
		whole, err := find(tx)
		if err != nil || !whole {
			return err
		}
		return tx.Set(blockKey(l.stem, cut), kv.Value{formatBase})
	})
	return cut, err
}

// drop forgets all blocks before cut, from the first on.
func (l *Log) drop(ctx context.Context, cut commitlog.Offset) error {
	doomed := kv.Range{From: l.stem, To: blockKey(l.stem, cut), Limit: trimKeys}
	if ranges, ok := l.db.(kv.RangeDeleter); ok {
		return ranges.DeleteRange(ctx, doomed.From, doomed.To)
	}
	for {
		n := 0
		err := l.db.Update(ctx, l.fence, kv.Durable, func(tx kv.Tx) error {
			var keys [][]byte
			for pair, err := range tx.Scan(doomed) {
				if err != nil {
					return err
				}
				keys = append(keys, bytes.Clone(pair.Key))
			}
			n = len(keys)
			for _, key := range keys {
				if err := tx.Delete(key); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil || n < trimKeys {
			return err
		}
	}
}
