package kvlog

import (
	"context"
	"fmt"
	"sync/atomic"

	"kith/commitlog"
	"kith/fault"
	"kith/kv"
)

// request is one Append on its way through the committer.
type request struct {
	blocks []commitlog.Payload
	bytes  int
	taken  atomic.Bool // by the committer, or by an Append that gave up
	done   chan struct{}
	first  commitlog.Offset
	err    error
}

// Append adds blocks at the end; see commitlog.Log. The blocks' data must not
// change before it returns. When ctx ends while the blocks still wait for the
// committer they are not appended; once they are on their way Append waits for
// the outcome. No blocks are appended at once, at the end.
func (l *Log) Append(ctx context.Context, blocks ...commitlog.Payload) (commitlog.Offset, error) {
	bytes, err := l.check(blocks)
	if err != nil {
		return 0, err
	}
	if err := l.enter(); err != nil {
		return 0, err
	}
	defer l.calls.Done()
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	if len(blocks) == 0 {
		return l.End(), nil
	}
	l.start.Do(func() { l.committer.Go(l.commitAll) })

	r := &request{blocks: blocks, bytes: bytes, done: make(chan struct{})}
	select {
	case l.queue <- r:
	case <-ctx.Done():
		return 0, ctx.Err()
	}
	select {
	case <-r.done:
	case <-ctx.Done():
		if r.taken.CompareAndSwap(false, true) {
			return 0, ctx.Err()
		}
		<-r.done
	}
	return r.first, r.err
}

// commitAll is the committer: one durable transaction after another, each with
// all the blocks that wait, until the queue is closed and empty.
func (l *Log) commitAll() {
	r, open := <-l.queue
	for open {
		var batch []*request
		bytes := 0
		for r != nil && (len(batch) == 0 || bytes+r.bytes <= l.opts.CommitBytes) {
			if r.taken.CompareAndSwap(false, true) {
				batch, bytes = append(batch, r), bytes+r.bytes
			}
			r = nil
			select {
			case r, open = <-l.queue:
			default:
			}
		}
		if len(batch) > 0 {
			l.commit(batch)
		}
		if r == nil && open {
			r, open = <-l.queue
		}
	}
}

// commit appends the blocks of a batch and tells everyone the outcome.
func (l *Log) commit(batch []*request) {
	known := l.End()
	end := known
	// Not bounded by any caller's context: the batch belongs to several.
	err := l.db.Update(context.Background(), l.fence, kv.Durable, func(tx kv.Tx) error {
		end = known
		if l.unsure {
			stored, err := l.storedEnd(tx)
			if err != nil {
				return err
			}
			end = stored
		}
		for _, r := range batch {
			r.first = end
			var err error
			if end, err = l.put(tx, end, r.blocks); err != nil {
				return err
			}
		}
		return nil
	})
	l.unsure = err != nil
	if err == nil {
		l.Published(end)
	} else {
		err = fmt.Errorf("append to the log: %w", err)
	}
	for _, r := range batch {
		r.err = err
		close(r.done)
	}
}

// AppendTx adds blocks at the end, within the caller's transaction, and
// returns the offset of the first record. The end is read in the transaction,
// so that a transaction that was rolled back, or that runs again, leaves no
// trace. See commitlog.TxAppender.
func (l *Log) AppendTx(tx kv.Tx, blocks ...commitlog.Payload) (commitlog.Offset, error) {
	if _, err := l.check(blocks); err != nil {
		return 0, err
	}
	if err := l.enter(); err != nil {
		return 0, err
	}
	defer l.calls.Done()
	first, err := l.storedEnd(tx)
	if err == nil {
		_, err = l.put(tx, first, blocks)
	}
	if err != nil {
		return 0, fmt.Errorf("append to the log: %w", err)
	}
	return first, nil
}

// put writes blocks, the first at offset at, and returns the offset behind the
// last.
func (l *Log) put(tx kv.Tx, at commitlog.Offset, blocks []commitlog.Payload) (commitlog.Offset, error) {
	for _, p := range blocks {
		if err := tx.Set(blockKey(l.stem, at), blockValue(p)); err != nil {
			return at, err
		}
		at += commitlog.Offset(p.Count)
	}
	return at, nil
}

// check refuses blocks that no log takes, and returns what the others take in the
// store.
func (l *Log) check(blocks []commitlog.Payload) (bytes int, err error) {
	for i, p := range blocks {
		switch {
		case p.Count < 1 || len(p.Data) == 0:
			return 0, fault.New(fault.Invalid, "block %d of %d to append is empty", i+1, len(blocks))
		case len(p.Data) > commitlog.MaxBlockBytes:
			return 0, fault.New(fault.Invalid, "block %d of %d to append has %d bytes, the most is %d", i+1, len(blocks), len(p.Data), commitlog.MaxBlockBytes)
		case p.Count > commitlog.MaxBlockBytes:
			return 0, fault.New(fault.Invalid, "block %d of %d to append has %d records, the most is %d", i+1, len(blocks), p.Count, commitlog.MaxBlockBytes)
		}
		bytes += len(l.stem) + blockOverhead + len(p.Data)
	}
	if bytes > MaxAppendBytes {
		return 0, fault.New(fault.Invalid, "the blocks to append have %d bytes together, the most is %d", bytes, MaxAppendBytes)
	}
	return bytes, nil
}

// Waiting returns how many Appends wait for the committer.
func (l *Log) Waiting() int { return len(l.queue) }
