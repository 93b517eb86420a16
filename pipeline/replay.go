package pipeline

import (
	"context"
	"errors"
	"slices"
	"strconv"

	"kith/commitlog"
	"kith/event"
	"kith/fault"
	"kith/kv"
)

// Past is where a replay takes its records from: those that intake has judged,
// with its verdicts.
type Past interface {
	// Follow calls fn with records from one offset on, in order, until about
	// maxBytes of the packed log are read, and returns where to go on: from
	// itself when there are no more yet. An error of fn ends it, and is
	// returned with the offset of the record that fn refused. What fn gets it
	// may keep.
	Follow(ctx context.Context, from commitlog.Offset, maxBytes int, fn func(*Judged) error) (next commitlog.Offset, err error)
	// Wait returns when there may be a record at the offset or behind it. It
	// fails with ErrPastEnds when there will never be one.
	Wait(ctx context.Context, at commitlog.Offset) error
}

// ErrPastEnds ends a replay: it has led all records of its past through the
// row.
var ErrPastEnds = errors.New("pipeline: the past ends here")

// Limits of one batch of a replay, which nobody waits for: in larger ones a
// profile is written less often.
const (
	maxReplayRecords = 16384
	maxReplayBodies  = 16 << 20 // about
)

// errEnough ends one reading of the past.
var errEnough = errors.New("pipeline: as many records as a batch takes")

// replay feeds batches of the past into out.
func (f *feeder) replay(ctx context.Context, out chan<- []*Record) error {
	for {
		records, err := f.judged(ctx)
		if err != nil {
			return err
		}
		if len(records) == 0 {
			if err := f.loop.cfg.Past.Wait(ctx, f.next); err != nil {
				return err
			}
			continue
		}
		if err := f.prepareAll(records); err != nil {
			return err
		}
		select {
		case out <- records:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// judged reads as many records of the past as make a batch.
func (f *feeder) judged(ctx context.Context) ([]*Record, error) {
	var records []*Record
	bodies := 0
	next, err := f.loop.cfg.Past.Follow(ctx, f.next, readBytes, func(j *Judged) error {
		if len(records) == maxReplayRecords || bodies > maxReplayBodies {
			return errEnough
		}
		r := &Record{Head: j.Head, Offset: j.Offset, Stamped: j.Head.At, judged: &j.Verdict}
		bodies += len(j.Processed())
		records = append(records, r)
		return f.fill(ctx, r, j.Processed())
	})
	if err != nil && !errors.Is(err, errEnough) {
		return nil, err
	}
	f.next = next
	return records, nil
}

// Pause holds the loop between two batches, and returns once it stands. It goes
// on when resume is called, which must be called. While it stands, Do waits. It
// fails with fault.Unavailable when the context ends first, also when the loop
// is not running.
func (l *Loop) Pause(ctx context.Context) (resume func(), err error) {
	p := pause{stands: make(chan struct{}), over: make(chan struct{})}
	select {
	case l.pauses <- p:
	case <-l.superseded:
		return nil, errSuperseded()
	case <-ctx.Done():
		return nil, fault.Wrap(fault.Unavailable, ctx.Err())
	}
	<-p.stands
	return func() { close(p.over) }, nil
}

type pause struct {
	stands chan struct{} // closed when the loop stands
	over   chan struct{} // closed when it may go on
}

// TakeOver makes the epoch of a replay the live one in place of that of live:
// it holds live, waits until the replay has come as far, and flips in one
// commit: flip is called with its transaction, in the replay's fence, to note
// the new live epoch; the resolved log learns of it there too. Then both loops
// end, their Run with nil, and what TakeOver returns goes on in their place once
// it is run. Passed of the old loop then asks the new one.
//
// Events go on being accepted meanwhile. The pause is what the replay takes to
// come as far as live, so the caller begins when it is close behind. If it
// fails, live goes on; nothing has changed.
func TakeOver(ctx context.Context, live, replay *Loop, flip func(tx kv.Tx) error) (*Loop, error) {
	goOn, err := live.Pause(ctx)
	if err != nil {
		return nil, err
	}
	defer goOn()
	if next := live.Position().Next; next > 0 {
		if err := replay.Passed(ctx, next-1); err != nil {
			return nil, err
		}
	}
	replayGoesOn, err := replay.Pause(ctx)
	if err != nil {
		return nil, err
	}
	defer replayGoesOn()
	pos := live.Position()
	if replay.Position() != pos {
		return nil, fault.New(fault.Internal, "the rebuilt epoch stands at %+v and the live one at %+v", replay.Position(), pos)
	}
	next := &Loop{cfg: live.cfg, index: live.index, pos: pos}
	next.cfg.Epoch, next.cfg.Stages = replay.cfg.Epoch, live.cfg.Stages
	next.open()
	swapped := Output{At: pos.At, Change: &Change{Kind: EpochSwapped, Subject: strconv.FormatUint(uint64(replay.cfg.Epoch), 10)}}
	unmoved := func(r kv.Reader, l *Loop) error {
		stored, err := ReadPosition(r, l.cfg.Space, l.cfg.Epoch)
		if err == nil && stored != pos {
			err = errMoved
		}
		return err
	}
	// It stands, so nobody moves it while this goes on.
	if err := live.cfg.DB.View(ctx, func(r kv.Reader) error { return unmoved(r, live) }); err != nil {
		return nil, err
	}
	err = live.cfg.DB.Update(ctx, Fence(live.cfg.Space, replay.cfg.Epoch), kv.Durable, func(tx kv.Tx) error {
		if err := unmoved(tx, replay); err != nil {
			return err
		}
		if err := flip(tx); err != nil {
			return err
		}
		_, err := live.cfg.Resolved.AppendTx(tx, EncodeOutputs([]Output{swapped})...)
		return err
	})
	if err != nil {
		return nil, err
	}
	live.cfg.Resolved.Published(live.cfg.Resolved.End() + 1)
	live.supersede(next)
	replay.supersede(next)
	return next, nil
}

// supersede ends the loop: another goes on in its place.
func (l *Loop) supersede(by *Loop) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.successor = by
	close(l.superseded)
	close(l.moved)
	l.moved = make(chan struct{})
}

func errSuperseded() error {
	return fault.New(fault.Unavailable, "what is derived of this space was rebuilt; another loop goes on in the place of this one")
}

// leaving returns the outputs that a batch is to write down: none in a replay,
// whose outputs have left long ago.
func (t *transaction) leaving() []Output {
	if t.batch.Live {
		return t.batch.outputs
	}
	return nil
}

// identified reads the standard identifiers again of an event that intake has
// changed: what the plan refused identifies nobody.
func identified(r *Record) {
	if r.judged != nil && r.judged.Body != nil {
		r.IDs = slices.Clip(event.StandardIdentifiers(r.Event))
	}
}
