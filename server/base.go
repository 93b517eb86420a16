package server

import (
	"bytes"
	"context"
	"errors"
	"iter"
	"slices"
	"time"

	"kith/archive"
	"kith/commitlog"
	"kith/computation"
	"kith/fault"
	"kith/identity"
	"kith/kv"
	"kith/pipeline"
	"kith/rebuild"
	"kith/revision"
)

// Base returns the epoch that stands at the horizon; see rebuild.House.
func (h rebuildHouse) Base(r kv.Reader, number uint32) (epoch uint32, horizon commitlog.Offset, err error) {
	n, err := readNumber(r, baseKey(number))
	if err != nil || n == 0 {
		return 0, 0, err
	}
	at, err := archive.HorizonOf(r, number)
	return uint32(n), at.Offset, err
}

// Position returns which record comes next in an epoch; see rebuild.House.
func (h rebuildHouse) Position(r kv.Reader, number, epoch uint32) (commitlog.Offset, error) {
	pos, err := pipeline.ReadPosition(r, number, epoch)
	return pos.Next, err
}

// Computing reports whether a first computation is under way; see
// rebuild.House.
func (h rebuildHouse) Computing(r kv.Reader, number, epoch uint32) (bool, error) {
	return h.s.row.computation.Reader().Busy(r, number, epoch)
}

// Alike compares the rules that two epochs go by; see rebuild.House.
func (h rebuildHouse) Alike(r kv.Reader, number, epoch, other uint32) error {
	a, _, err := identity.NewReader(r, number, epoch).Override()
	if err != nil {
		return err
	}
	b, _, err := identity.NewReader(r, number, other).Override()
	if err == nil && a != b {
		err = fault.New(fault.Conflict, "the former state %d was made by other identity rules than what is kept of the time before the horizon", epoch)
	}
	return err
}

// Since returns the first record of an instant or later; see rebuild.House.
func (h rebuildHouse) Since(ctx context.Context, number uint32, at time.Time) (commitlog.Offset, error) {
	sp := h.s.space(number)
	if sp == nil || sp.loop() == nil {
		return 0, fault.New(fault.NotFound, "no loop runs for space %d", number)
	}
	return h.s.firstAt(ctx, sp, sp.loop().Position().Next, at.UnixMilli())
}

// OpenBase puts together a replay that ends; see rebuild.House.
func (h rebuildHouse) OpenBase(ctx context.Context, number uint32, e *rebuild.Epoch) (rebuild.BaseReplay, error) {
	sp := h.s.space(number)
	if sp == nil || sp.loop() == nil {
		return nil, fault.New(fault.NotFound, "no loop runs for space %d", number)
	}
	r, err := h.s.openReplay(ctx, sp, e.Number)
	if err != nil {
		return nil, err
	}
	end := &pastUpTo{Past: r.past.inner, end: e.Target}
	r.past.inner = end
	return &baseReplay{replay: r, past: end, of: e.Base, since: e.TargetAt}, nil
}

// pastUpTo is a past that has no record at its end or behind it, and in which
// whoever has come there waits.
type pastUpTo struct {
	pipeline.Past
	end commitlog.Offset
}

// Follow reads on, up to the end; see pipeline.Past.
func (p *pastUpTo) Follow(ctx context.Context, from commitlog.Offset, maxBytes int, fn func(*pipeline.Judged) error) (commitlog.Offset, error) {
	if from >= p.end {
		return from, nil
	}
	next, err := p.Past.Follow(ctx, from, maxBytes, func(j *pipeline.Judged) error {
		if j.Offset >= p.end {
			return errStep
		}
		return fn(j)
	})
	if errors.Is(err, errStep) {
		err = nil
	}
	return next, err
}

// Wait waits for the live loop, and at the end for good; see pipeline.Past.
func (p *pastUpTo) Wait(ctx context.Context, at commitlog.Offset) error {
	if at < p.end {
		return p.Past.Wait(ctx, at)
	}
	<-ctx.Done()
	return ctx.Err()
}

// baseReplay is a replay into the epoch that is to be the base; see
// rebuild.BaseReplay.
type baseReplay struct {
	*replay
	past  *pastUpTo
	of    uint32    // the base that it is a copy of
	since time.Time // the instant of its end
}

// Position says how far it is; see rebuild.BaseReplay.
func (r *baseReplay) Position() (next, end commitlog.Offset) {
	return r.loop.Position().Next, r.past.end
}

// Advance makes the epoch the base, and moves the horizon; see
// rebuild.BaseReplay. What comes to be known of the live epoch that reaches back
// is done in this one first, while the records are there: commands, and what
// definitions count that were declared later.
func (r *baseReplay) Advance(ctx context.Context) error {
	if err := r.order(ctx); err != nil {
		return err
	}
	if err := r.adopt(ctx); err != nil {
		return err
	}
	var busy error
	err := r.s.db.View(ctx, func(v kv.Reader) error { busy = r.hindrance(v, r.sp.epoch()); return nil })
	if err == nil {
		err = busy
	}
	if err != nil {
		return err
	}
	r.stop()
	// Nobody changes this epoch now; the live loop's transaction sees it in a
	// moment of its own, since it reads only keys that its own fence writes.
	err = r.s.db.View(ctx, func(still kv.Reader) error {
		mine := apart{of: still, stem: kv.EpochRange(r.sp.number, r.loop.Epoch()).From}
		return r.advance(ctx, mine)
	})
	if err != nil {
		r.start(ctx)
	}
	return err
}

// advance moves the horizon, unless something is in the way.
func (r *baseReplay) advance(ctx context.Context, mine apart) error {
	return r.sp.loop().Do(ctx, func(b *pipeline.Batch, _ func(*pipeline.Record) error) error {
		mine.Reader = b.Tx
		if err := r.hindrance(mine, b.Epoch); err != nil {
			return err
		}
		moved := archive.Horizon{Offset: r.past.end, At: r.since.UnixMilli(), Moved: r.s.clock.Now().UnixMilli()}
		if err := r.s.archive.MoveHorizon(b, moved); err != nil {
			return err
		}
		return b.Tx.Set(baseKey(b.Space), encodeNumber(uint64(r.loop.Epoch())))
	})
}

// apart reads the keys of one epoch elsewhere than all others.
type apart struct {
	kv.Reader
	of   kv.Reader
	stem []byte
}

func (a apart) from(key []byte) kv.Reader {
	if bytes.HasPrefix(key, a.stem) {
		return a.of
	}
	return a.Reader
}

// Get reads a key where it belongs.
func (a apart) Get(key []byte) ([]byte, error) { return a.from(key).Get(key) }

// GetMany reads keys where they belong.
func (a apart) GetMany(keys [][]byte) ([][]byte, error) {
	values := make([][]byte, len(keys))
	for i, key := range keys {
		var err error
		if values[i], err = a.Get(key); err != nil {
			return nil, err
		}
	}
	return values, nil
}

// Scan reads a range, which is of one epoch or of none, where it belongs.
func (a apart) Scan(r kv.Range) iter.Seq2[kv.Pair, error] { return a.from(r.From).Scan(r) }

// order has the replay work out the standing commands that came while it went
// on, as the live loop has.
func (r *baseReplay) order(ctx context.Context) error {
	var live, mine []identity.Standing
	err := r.s.db.View(ctx, func(v kv.Reader) (err error) {
		if live, err = identity.NewReader(v, r.sp.number, r.sp.epoch()).Standing(); err != nil {
			return err
		}
		mine, err = identity.NewReader(v, r.sp.number, r.loop.Epoch()).Standing()
		return err
	})
	if err != nil {
		return err
	}
	lacking := without(live, mine)
	if len(lacking) == 0 {
		return nil
	}
	err = r.loop.Do(ctx, func(b *pipeline.Batch, _ func(*pipeline.Record) error) error {
		for _, c := range lacking {
			if err := identity.Ordered(b.Tx, b.Space, b.Epoch, c); err != nil {
				return err
			}
		}
		return nil
	})
	r.reviser.Wake()
	return err
}

// without returns the commands of a list that another lacks.
func without(list, other []identity.Standing) []identity.Standing {
	return slices.DeleteFunc(slices.Clone(list), func(x identity.Standing) bool {
		return slices.ContainsFunc(other, func(y identity.Standing) bool { return y.Offset == x.Offset })
	})
}

// hindrance says why the horizon cannot move now, nil when it can.
func (r *baseReplay) hindrance(v kv.Reader, live uint32) error {
	number, mine := r.sp.number, r.loop.Epoch()
	base, _, err := rebuildHouse{r.s}.Base(v, number)
	if err != nil {
		return err
	}
	if base != r.of {
		return fault.New(fault.Internal, "the base of space %d is epoch %d and not %d", number, base, r.of)
	}
	pos, err := pipeline.ReadPosition(v, number, mine)
	if err != nil {
		return err
	}
	if pos.Next != r.past.end {
		return fault.New(fault.Unavailable, "the base stands at record %d", pos.Next)
	}
	erasures, err := archive.Erasures(v, number)
	if err != nil {
		return err
	}
	if slices.ContainsFunc(erasures, func(e *archive.Erasure) bool { return !e.Done() }) {
		return fault.New(fault.Unavailable, "an erasure is on its way")
	}
	if err := (rebuildHouse{r.s}).Alike(v, number, live, mine); err != nil {
		if fault.Is(err, fault.Conflict) {
			err = rebuild.ErrOther
		}
		return err
	}
	a, err := identity.NewReader(v, number, live).Standing()
	if err != nil {
		return err
	}
	b, err := identity.NewReader(v, number, mine).Standing()
	if err != nil {
		return err
	}
	if len(without(a, b)) > 0 {
		return fault.New(fault.Unavailable, "a command came just now")
	}
	left, err := revision.Left(v, number, mine)
	if err != nil {
		return err
	}
	if left > 0 {
		return rebuild.ErrOther // begun again, it has the command from the start
	}
	for _, of := range []struct {
		row   *row
		epoch uint32
	}{{r.row, mine}, {r.s.row, live}} {
		busy, err := r.unsettled(v, of.row, of.epoch)
		if err != nil {
			return err
		}
		if busy {
			return fault.New(fault.Unavailable, "audiences are being computed, or the past is being worked out again")
		}
	}
	lacks, busy, err := r.s.row.computation.Reader().Lacks(v, number, live, mine)
	if err == nil && (lacks || busy) {
		err = fault.New(fault.Unavailable, "what audiences count that were declared later is being counted")
	}
	return err
}

// adopt has the replay count what the live epoch counts and this one has not
// come to.
func (r *baseReplay) adopt(ctx context.Context) error {
	var wanted computation.Wanted
	lacks := false
	err := r.s.db.View(ctx, func(v kv.Reader) (err error) {
		reader, live := r.s.row.computation.Reader(), r.sp.epoch()
		if lacks, _, err = reader.Lacks(v, r.sp.number, live, r.loop.Epoch()); err != nil || !lacks {
			return err
		}
		wanted, err = reader.Wanted(v, r.sp.number, live)
		return err
	})
	if err != nil || !lacks {
		return err
	}
	return computation.Adopt(ctx, r.loop, wanted)
}
