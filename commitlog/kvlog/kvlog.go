package kvlog

import (
	"context"
	"fmt"
	"sync"

	"kith/commitlog"
	"kith/fault"
	"kith/kv"
)

// Options tunes a log. The zero value is good for one.
type Options struct {
	// Queue is how many Appends may wait for the committer; more wait for
	// room. Zero means 4,096. What waits in the queue is the callers' memory.
	Queue int
	// CommitBytes is how much the committer gathers for one transaction, at
	// most MaxAppendBytes. Zero means 8 MiB. A single larger Append has a transaction of its own.
	CommitBytes int
}

// MaxAppendBytes is the most that the blocks of one Append or AppendTx may take
// together, their keys included; more is fault.Invalid.
const MaxAppendBytes = 64 << 20

// Log is a log in a kv store. It implements commitlog.Log,
// commitlog.TxAppender and commitlog.Replacer.
type Log struct {
	db    kv.DB
	stem  kv.Key
	fence kv.Fence
	opts  Options

	start     sync.Once      // of the committer, by the first Append
	queue     chan *request  // to the committer
	committer sync.WaitGroup // its end
	unsure    bool           // the committer's: the last commit failed, it may have been made all the same

	mu      sync.Mutex
	end     commitlog.Offset
	changed chan struct{}  // closed and replaced when end moves or the log closes
	closed  bool           // no call starts any more
	calls   sync.WaitGroup // those that have started
}

// Open opens the log whose keys begin with stem and finds its end in the
// store. Its transactions run under fence. A log that AppendTx writes to takes
// the fence of those transactions.
func Open(ctx context.Context, db kv.DB, stem kv.Key, fence kv.Fence, opts Options) (*Log, error) {
	if opts.Queue <= 0 {
		opts.Queue = 4096
	}
	if opts.CommitBytes <= 0 {
		opts.CommitBytes = 8 << 20
	}
	opts.CommitBytes = min(opts.CommitBytes, MaxAppendBytes)
	l := &Log{
		db: db, stem: stem.Clone(), fence: fence, opts: opts,
		queue:   make(chan *request, opts.Queue),
		changed: make(chan struct{}),
	}
	err := db.View(ctx, func(r kv.Reader) error {
		end, err := l.storedEnd(r)
		l.end = end
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("open the log: %w", err)
	}
	return l, nil
}

// storedEnd reads where the log ends in the store.
func (l *Log) storedEnd(r kv.Reader) (commitlog.Offset, error) {
	last := kv.Prefix(l.stem)
	last.Reverse, last.Limit = true, 1
	for pair, err := range r.Scan(last) {
		if err != nil {
			return 0, err
		}
		block, err := parse(l.stem, pair)
		return block.End(), err
	}
	return 0, nil
}

// End returns the offset that the next record will get; see commitlog.Log.
func (l *Log) End() commitlog.Offset {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.end
}

// Published shows readers everything before end; see commitlog.TxAppender. The
// transaction must have been kv.Durable.
func (l *Log) Published(end commitlog.Offset) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if end > l.end {
		l.end = end
		l.wake()
	}
}

// wake wakes everyone in Wait. The caller holds mu.
func (l *Log) wake() {
	close(l.changed)
	l.changed = make(chan struct{})
}

// Wait returns once End is greater than at; see commitlog.Log. It fails with
// fault.Unavailable when the log closes.
func (l *Log) Wait(ctx context.Context, at commitlog.Offset) error {
	for {
		l.mu.Lock()
		end, closed, changed := l.end, l.closed, l.changed
		l.mu.Unlock()
		if end > at {
			return nil
		}
		if closed {
			return errClosed()
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Close waits for running calls; see commitlog.Log. Every later call but End
// and Close fails with fault.Unavailable.
func (l *Log) Close() error {
	l.mu.Lock()
	if first := !l.closed; first {
		l.closed = true
		l.wake()
		l.mu.Unlock()
		l.calls.Wait()
		close(l.queue)
	} else {
		l.mu.Unlock()
		l.calls.Wait()
	}
	l.committer.Wait()
	return nil
}

// enter starts a call that Close waits for; l.calls.Done ends it.
func (l *Log) enter() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return errClosed()
	}
	l.calls.Add(1)
	return nil
}

func errClosed() error { return fault.New(fault.Unavailable, "the log is closed") }
