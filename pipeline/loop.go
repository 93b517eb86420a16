package pipeline

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"time"

	"kith/clock"
	"kith/commitlog"
	"kith/event"
	"kith/fault"
	"kith/kv"
	"kith/pipeline/dedup"
	"kith/timer"
	"kith/workspace"
)

// Snapshots gives the configurations that config records name.
type Snapshots interface {
	// At returns snapshot n, which never changes once it has a number.
	At(r kv.Reader, n uint64) (*workspace.Snapshot, error)
}

// Config is what a loop is made of. All fields but Tap, Past and
// DedupWindow are required; a replay needs no Raw, Resolved, Clock and Random.
type Config struct {
	DB        kv.DB
	Raw       commitlog.Log        // the space's raw log
	Resolved  commitlog.TxAppender // the space's resolved log; the loop is its only writer
	Clock     clock.Clock
	Random    io.Reader // for the ids of ticks
	Snapshots Snapshots
	Stages    []Stage // the row, in its order
	Recorder  Recorder
	Space     uint32
	Epoch     uint32
	Logger    *slog.Logger
	// DedupWindow is how long a messageId is remembered, by at: a record whose
	// messageId came less than this before is a duplicate. Below a millisecond
	// dedup is off: every record counts, nothing is written down, and
	// FindMessage finds only what was written down before.
	DedupWindow time.Duration
	// Past makes the loop a replay: it takes its records, with the verdicts on
	// them, from there, into an epoch that nobody reads yet. Nothing leaves it,
	// its commits are lazy, and it decides no duplicates. Its Stages are those
	// behind intake. See TakeOver.
	Past Past
	// Tap sees what a batch did, after its commit. It must be quick.
	Tap func(Committed)
}

// Committed is what a batch did.
type Committed struct {
	Space   uint32
	Records []*Record // in the order of the raw log
	Outputs []Output
	Next    commitlog.Offset // of the raw log
	End     commitlog.Offset // of the resolved log
}

// DefaultDedupWindow is how long a server remembers messageIds unless it is
// told otherwise.
const DefaultDedupWindow = 30 * 24 * time.Hour

// Limits of one transaction of the loop.
const (
	maxBatchRecords = 4096     // about; a batch is made of whole blocks
	maxBatchBodies  = 8 << 20  // of events, about likewise
	maxFirings      = 1000     // timers fired in one transaction
	maxOutputBytes  = 16 << 20 // about; the last record or firing may exceed it
)

// errPosition means that the stored position is of another form, which an
// older binary meets after an upgrade.
var errPosition = errors.New("pipeline: the position of the loop is damaged or of an unknown format")

// Fence returns the fence of the loop of a space and epoch.
func Fence(space, epoch uint32) kv.Fence { return kv.Fence(fmt.Sprintf("loop/%d/%d", space, epoch)) }

// Loop is the one writer of a space's derived state in one epoch.
type Loop struct {
	cfg    Config
	work   chan job
	pauses chan pause
	index  *dedup.Index // nil without dedup

	superseded chan struct{} // closed when another loop goes on in this one's place

	mu        sync.Mutex
	pos       Position
	moved     chan struct{} // closed and replaced whenever pos moves
	successor *Loop         // set before superseded closes
}

// job is a piece of work for Do.
type job struct {
	ctx  context.Context
	fn   Work
	done chan error
}

// Work is run by the loop in a transaction of its own, between batches. It may
// write derived state, and leads records of its own through the row with step;
// their At, Offset and Snapshot are set by the loop. It may run again.
type Work func(b *Batch, step func(*Record) error) error

// NewLoop returns a loop at the position where its predecessor left.
func NewLoop(ctx context.Context, cfg Config) (*Loop, error) {
	l := &Loop{cfg: cfg}
	l.open()
	err := cfg.DB.View(ctx, func(r kv.Reader) error {
		var err error
		l.pos, err = ReadPosition(r, cfg.Space, cfg.Epoch)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("loop of space %d: %w", cfg.Space, err)
	}
	if cfg.DedupWindow >= time.Millisecond && cfg.Past == nil {
		l.index, err = dedup.Open(ctx, dedup.Config{DB: cfg.DB, Space: cfg.Space, Window: cfg.DedupWindow, Logger: cfg.Logger}, l.pos.At)
		if err != nil {
			return nil, fmt.Errorf("loop of space %d: %w", cfg.Space, err)
		}
	}
	return l, nil
}

func (l *Loop) open() {
	l.work, l.pauses = make(chan job), make(chan pause)
	l.moved, l.superseded = make(chan struct{}), make(chan struct{})
}

// Dedup returns the figures of the index of messageIds, which are zero when
// dedup is off.
func (l *Loop) Dedup() dedup.Stats {
	if l.index == nil {
		return dedup.Stats{}
	}
	return l.index.Stats()
}

// Epoch returns the epoch of the derived state that the loop writes.
func (l *Loop) Epoch() uint32 { return l.cfg.Epoch }

// Position returns how far the loop has come.
func (l *Loop) Position() Position {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.pos
}

// Passed waits until the loop has passed the raw record at the offset.
func (l *Loop) Passed(ctx context.Context, at commitlog.Offset) error {
	for {
		l.mu.Lock()
		pos, moved, successor := l.pos, l.moved, l.successor
		l.mu.Unlock()
		if pos.Next > at {
			return nil
		}
		if successor != nil {
			return successor.Passed(ctx, at)
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return fault.Wrap(fault.Unavailable, ctx.Err())
		}
	}
}

// Do has the loop run fn between two batches, and returns when its transaction
// is durable or has failed with fn's error. It fails with fault.Unavailable
// once the context ends, also when the loop is not running, and when another
// loop has taken its place.
func (l *Loop) Do(ctx context.Context, fn Work) error {
	j := job{ctx: ctx, fn: fn, done: make(chan error, 1)}
	select {
	case l.work <- j:
	case <-l.superseded:
		return errSuperseded()
	case <-ctx.Done():
		return fault.Wrap(fault.Unavailable, ctx.Err())
	}
	// Once the loop has taken it, the work ends for certain.
	return <-j.done
}

// NextTimer returns when the earliest timer is due; ok is false when none is
// armed.
func (l *Loop) NextTimer(ctx context.Context) (due time.Time, ok bool, err error) {
	err = l.cfg.DB.View(ctx, func(r kv.Reader) error {
		d, err := timer.Next(r, l.cfg.Space, l.cfg.Epoch)
		if d != nil {
			due, ok = time.UnixMilli(d.At).UTC(), true
		}
		return err
	})
	return due, ok, err
}

// Tick appends a tick at the present instant, which lets the loop fire what is
// due by now, and returns its offset.
func (l *Loop) Tick(ctx context.Context) (commitlog.Offset, error) {
	now := l.cfg.Clock.Now()
	id, err := event.NewRecordID(now, l.cfg.Random)
	if err != nil {
		return 0, fmt.Errorf("id of a tick: %w", err)
	}
	tick := event.Record{Head: event.Head{Kind: event.KindTick, ID: id, At: now.UnixMilli(), Time: now.UnixMilli()}}
	return l.cfg.Raw.Append(ctx, event.EncodeBlock([]event.Record{tick}))
}

// Run runs the loop until ctx ends, which is no error, until another loop has
// taken its place or its past has ended, which is none either, or until
// something is broken that trying again will not mend.
func (l *Loop) Run(ctx context.Context) error {
	defer l.keep()()
	running, cancel := context.WithCancel(ctx)
	defer cancel()
	in := make(chan []*Record, 1)
	failed := make(chan error, 1)
	go func() {
		failed <- newFeeder(l).run(running, in)
	}()
	var beside sync.WaitGroup
	if l.index != nil {
		beside.Go(func() { l.index.Run(running) })
	}
	err := l.run(running, in, failed)
	cancel()
	beside.Wait()
	for range in { // the feeder closes in when it has stopped
	}
	if ctx.Err() != nil && errors.Is(err, ctx.Err()) || errors.Is(err, ErrPastEnds) {
		return nil
	}
	return err
}

func (l *Loop) run(ctx context.Context, in <-chan []*Record, failed <-chan error) error {
	for {
		wake, stop, err := l.alarm(ctx)
		if err != nil {
			return err
		}
		select {
		case records, open := <-in:
			stop()
			if !open {
				return <-failed
			}
			if err := l.handle(ctx, records); err != nil {
				return fmt.Errorf("loop of space %d at record %d: %w", l.cfg.Space, l.Position().Next, err)
			}
		case j := <-l.work:
			stop()
			j.done <- l.do(j)
		case p := <-l.pauses:
			stop()
			close(p.stands)
			<-p.over
			select {
			case <-l.superseded:
				return nil
			default:
			}
		case <-wake:
			stop()
			if _, err := l.Tick(ctx); err != nil { // it comes back as a record
				return err
			}
		case <-ctx.Done():
			stop()
			return ctx.Err()
		}
	}
}

// alarm returns a channel that closes when the earliest timer is due. There is
// none while records wait: they bring instants of their own.
func (l *Loop) alarm(ctx context.Context) (<-chan struct{}, func(), error) {
	if l.cfg.Past != nil || l.cfg.Raw.End() > l.Position().Next {
		return nil, func() {}, nil
	}
	due, ok, err := l.NextTimer(ctx)
	if err != nil || !ok {
		return nil, func() {}, err
	}
	reached, stop := l.cfg.Clock.Until(due)
	return reached, stop, nil
}

// handle leads prepared records through the row, in as many transactions as
// it takes.
func (l *Loop) handle(ctx context.Context, records []*Record) error {
	for len(records) > 0 {
		n, err := l.transact(ctx, records)
		if err != nil {
			return err
		}
		records = records[n:]
	}
	return nil
}

func (l *Loop) advance(pos Position) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.pos = pos
	close(l.moved)
	l.moved = make(chan struct{})
}
