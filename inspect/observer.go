package inspect

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"kith/clock"
	"kith/commitlog"
	"kith/fault"
	"kith/kv"
	"kith/pipeline"
)

// Limits bound what an Observer keeps. Zero values mean the defaults.
type Limits struct {
	// Events is how many events of a source are known by name (sheet
	// connections_protocols §3.3: 4,000 at Segment). Calls of further ones are
	// counted without their name.
	Events int
	// Properties is how many properties or traits of an event are kept, and
	// how many members of its context (Segment: 300). Sightings of further
	// ones are counted together.
	Properties int
	// Versions is how many app versions of a source are told apart.
	Versions int
	// PathBytes is the longest path of a property, and the longest name of an
	// event, that is kept: all names of a source are in memory.
	PathBytes int
}

// Defaults of Limits.
const (
	DefaultEvents     = 10_000
	DefaultProperties = 1_000
	DefaultVersions   = 1_000
	DefaultPathBytes  = 512
)

func (l Limits) complete() Limits {
	for _, d := range []struct {
		limit *int
		value int
	}{{&l.Events, DefaultEvents}, {&l.Properties, DefaultProperties}, {&l.Versions, DefaultVersions}, {&l.PathBytes, DefaultPathBytes}} {
		if *d.limit <= 0 {
			*d.limit = d.value
		}
	}
	return l
}

// How an Observer works.
const (
	readBytes   = 1 << 20 // of the packed log at a time
	chunkCalls  = 20_000  // in one transaction
	chunkWrites = 100_000 // keys in one transaction, about
)

// Past is the raw logs behind the loops; archive.Archive has Follow.
type Past interface {
	Follow(ctx context.Context, space uint32, from commitlog.Offset, maxBytes int, fn func(*pipeline.Judged) error) (next commitlog.Offset, err error)
}

// ObserverConfig is what an Observer is made of. All but Limits and NoSamples is
// required.
type ObserverConfig struct {
	DB   kv.DB
	Past Past
	// Spaces returns the numbers of the spaces there are.
	Spaces func() []uint32
	// Passed returns the offset of the record that a space's loop will pass
	// next: how far there is anything to see.
	Passed func(space uint32) (commitlog.Offset, error)
	Clock  clock.Clock
	// Pace is the clock by which the Observer rests: the machine's, also where
	// Clock stands still.
	Pace      clock.Clock
	Limits    Limits
	NoSamples bool // keep no sample values
	Logger    *slog.Logger
}

// Observer follows the raw logs of all spaces behind their loops and keeps the
// numbers of what came by: calls, events and properties, users. It counts every
// record once: where it stands and what it has counted commit together. It looks
// once a second, holds nobody up, and catches up when it was away. There is one
// Observer for all spaces, because a person who is in two of them is one monthly
// tracked user.
type Observer struct {
	follower
	cfg ObserverConfig

	mu   sync.Mutex
	next map[uint32]commitlog.Offset // where it stands, committed

	seen *register // owned by Run
}

// NewObserver returns an observer that stands where its predecessor stopped. It
// does nothing before Run.
func NewObserver(cfg ObserverConfig) *Observer {
	cfg.Limits = cfg.Limits.complete()
	o := &Observer{cfg: cfg, next: map[uint32]commitlog.Offset{}}
	o.seen = newRegister(&o.cfg)
	o.follower = follower{
		clock: cfg.Clock, pace: cfg.Pace, logger: cfg.Logger, spaces: cfg.Spaces, chunk: o.chunk, sweep: o.sweep, every: sweepEvery,
		failed: o.forget, what: "the numbers of what was seen",
	}
	o.start()
	return o
}

// Lag returns how many records of a space the loop has passed and the observer
// has not counted.
func (o *Observer) Lag(ctx context.Context, space uint32) (uint64, error) {
	next, err := o.position(ctx, space)
	if err != nil {
		return 0, err
	}
	passed, err := o.cfg.Passed(space)
	if err != nil || passed < next {
		return 0, err
	}
	return uint64(passed - next), nil
}

// position returns where the observer stands in a space.
func (o *Observer) position(ctx context.Context, space uint32) (commitlog.Offset, error) {
	o.mu.Lock()
	next, known := o.next[space]
	o.mu.Unlock()
	if known {
		return next, nil
	}
	err := o.cfg.DB.View(ctx, func(r kv.Reader) (err error) {
		next, err = readCursor(r, space)
		return err
	})
	return next, err
}

func (o *Observer) moved(space uint32, next commitlog.Offset) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.next[space] = next
}

// forget lets go of where it stood and of what it has seen and not written.
func (o *Observer) forget(space uint32) {
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.next, space)
	o.seen = newRegister(&o.cfg)
}

func readCursor(r kv.Reader, space uint32) (commitlog.Offset, error) {
	value, err := r.Get(cursorKey(space))
	if err != nil || value == nil {
		return 0, err
	}
	f := kv.FieldsOf(value)
	known := f.Byte() == cursorFormat
	next := commitlog.Offset(f.Uvarint())
	if !known || !f.OK() {
		return 0, errDamaged("position")
	}
	return next, nil
}

func encodeCursor(next commitlog.Offset) kv.Value {
	return kv.Value{cursorFormat}.Uvarint(uint64(next))
}

var errFull = errors.New("inspect: the chunk is full")

// chunk counts the next records of a space in one transaction, and reports
// whether there may be more.
func (o *Observer) chunk(ctx context.Context, space uint32) (more bool, err error) {
	from, err := o.position(ctx, space)
	if err != nil {
		return false, err
	}
	next := from
	for err == nil && !more {
		before := next
		next, err = o.cfg.Past.Follow(ctx, space, next, readBytes, func(r *pipeline.Judged) error {
			if o.seen.full() {
				return errFull
			}
			return o.seen.observe(ctx, space, r)
		})
		if errors.Is(err, errFull) {
			more, err = true, nil
		} else if next == before {
			break
		}
	}
	if err != nil || next == from {
		return false, err
	}
	pairs, err := o.seen.settle(ctx)
	if err != nil {
		return false, err
	}
	err = o.cfg.DB.Update(ctx, usageFence, kv.Lazy, func(tx kv.Tx) error {
		stored, err := readCursor(tx, space)
		if err != nil {
			return err
		}
		if stored != from {
			return fault.New(fault.Conflict, "somebody else counts what comes by, too")
		}
		for _, p := range pairs {
			if err := tx.Set(p.Key, p.Value); err != nil {
				return err
			}
		}
		return tx.Set(cursorKey(space), encodeCursor(next))
	})
	if calls := o.seen.calls; fault.Is(err, fault.Invalid) && calls > 1 {
		// More than one transaction takes: many long names, many samples.
		o.seen = newRegister(&o.cfg)
		o.seen.most = calls / 2
		return true, nil
	}
	if err != nil {
		return false, err
	}
	o.moved(space, next)
	o.seen.committed()
	return more, nil
}

// sweep removes what is too old.
func (o *Observer) sweep(ctx context.Context, now time.Time) error {
	today := dayOf(now.UnixMilli())
	month := monthOf(now)
	old := []kv.Range{
		{From: sampleDayStem(), To: sampleDayStem().Uint32(today - min(today, sampleDays-1))},
		{From: identityStem(), To: identityStem().Uint32(month - 1)},
	}
	for _, g := range grains() {
		old = append(old, kv.Range{From: volumeStem(g), To: volumeStem(g).Uint32(bucketOf(g, now.Add(-g.kept())))})
	}
	for _, r := range old {
		r.Limit = maxSwept
		for more := true; more; {
			err := o.cfg.DB.Update(ctx, usageFence, kv.Lazy, func(tx kv.Tx) (err error) {
				more = false
				for range tx.Scan(kv.Range{From: r.From, To: r.To, Limit: 1}) {
					more = true
				}
				return dropRange(tx, r)
			})
			if err != nil {
				return fmt.Errorf("remove old numbers: %w", err)
			}
		}
	}
	return nil
}
