package pipeline

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"

	"kith/commitlog"
	"kith/event"
	"kith/fault"
	"kith/kv"
	"kith/pipeline/dedup"
	"kith/timer"
	"kith/workspace"
)

// errPoisoned makes a transaction start again without the record that made a
// stage panic.
var errPoisoned = errors.New("pipeline: a stage panicked")

// errMoved means that somebody else has moved the position: another owner
// after a lease was lost. This loop must stop.
var errMoved = fault.New(fault.Conflict, "another process has taken over this space; this one stops writing")

// transact leads as many of the records through the row as fit into one
// transaction, and returns how many.
func (l *Loop) transact(ctx context.Context, records []*Record) (int, error) {
	var done Committed
	var after []func()
	firings := maxFirings
	for {
		var pos Position
		err := l.cfg.DB.Update(ctx, Fence(l.cfg.Space, l.cfg.Epoch), l.durability(), func(tx kv.Tx) error {
			t, err := l.begin(tx, records)
			if err != nil {
				return err
			}
			t.firings = firings
			n, err := t.lead(records)
			if err != nil {
				return err
			}
			if err := t.finish(records[:n]); err != nil {
				return err
			}
			done = Committed{Space: l.cfg.Space, Records: records[:n], Outputs: t.leaving(), Next: t.pos.Next, End: t.end}
			pos, after = t.pos, t.batch.after
			return nil
		})
		if errors.Is(err, errPoisoned) {
			continue
		}
		if fault.Is(err, fault.Invalid) && (len(records) > 1 || firings > 1) {
			// More than one transaction takes: large profiles, many audiences.
			records, firings = records[:(len(records)+1)/2], (firings+1)/2
			continue
		}
		if err != nil {
			return 0, err
		}
		l.committed(pos, done, after)
		return len(done.Records), nil
	}
}

// do runs a piece of work in a transaction of its own.
func (l *Loop) do(j job) error {
	var done Committed
	var pos Position
	var after []func()
	err := l.cfg.DB.Update(j.ctx, Fence(l.cfg.Space, l.cfg.Epoch), l.durability(), func(tx kv.Tx) error {
		t, err := l.begin(tx, nil)
		if err != nil {
			return err
		}
		step := func(r *Record) error {
			r.At, r.Time, r.Stamped = t.pos.At, t.pos.At, t.pos.At
			r.Offset, r.Snapshot = t.pos.Next, t.batch.Snapshot
			return t.walk(r)
		}
		if err := j.fn(t.batch, step); err != nil {
			return err
		}
		if err := t.finish(nil); err != nil {
			return err
		}
		done = Committed{Space: l.cfg.Space, Outputs: t.leaving(), Next: t.pos.Next, End: t.end}
		pos, after = t.pos, t.batch.after
		return nil
	})
	if err != nil {
		return err
	}
	l.committed(pos, done, after)
	return nil
}

// durability is that of the loop's commits. What a crash takes from a replay it
// does again.
func (l *Loop) durability() kv.Durability {
	if l.cfg.Past != nil {
		return kv.Lazy
	}
	return kv.Durable
}

func (l *Loop) committed(pos Position, done Committed, after []func()) {
	if l.cfg.Past == nil {
		l.cfg.Resolved.Published(done.End)
	}
	l.advance(pos)
	if l.index != nil {
		l.index.Passed(pos.At)
	}
	for _, fn := range after {
		fn()
	}
	if l.cfg.Tap != nil {
		l.cfg.Tap(done)
	}
}

// transaction is the loop at work within one kv transaction.
type transaction struct {
	loop    *Loop
	batch   *Batch
	passes  []Pass
	pos     Position
	end     commitlog.Offset // of the resolved log
	fired   int
	firings int                      // the most it may fire
	firsts  map[dedup.ID]dedup.First // the records that counted in this transaction
}

// begin opens the row over a transaction, after checking that the position is
// still the one this loop left.
func (l *Loop) begin(tx kv.Tx, records []*Record) (*transaction, error) {
	pos, err := ReadPosition(tx, l.cfg.Space, l.cfg.Epoch)
	if err != nil {
		return nil, err
	}
	if pos != l.Position() {
		return nil, errMoved
	}
	snapshot := &workspace.Snapshot{}
	if pos.Snapshot > 0 {
		if snapshot, err = l.cfg.Snapshots.At(tx, pos.Snapshot); err != nil {
			return nil, err
		}
	} else {
		snapshot.Seal()
	}
	b := &Batch{Space: l.cfg.Space, Epoch: l.cfg.Epoch, Live: l.cfg.Past == nil, Snapshot: snapshot}
	if b.Live {
		b.Resolved = l.cfg.Resolved.End()
	}
	if err := l.readAhead(tx, b, pos.At, records); err != nil {
		return nil, err
	}
	b.Tx = tx
	b.Timers = timer.NewPass(tx, l.cfg.Space, l.cfg.Epoch)
	t := &transaction{loop: l, batch: b, pos: pos, end: b.Resolved, firsts: make(map[dedup.ID]dedup.First, len(records))}
	for _, s := range l.cfg.Stages {
		p, err := s.Begin(b)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", s.Name(), err)
		}
		t.passes = append(t.passes, p)
	}
	return t, nil
}

// lead takes records through the row until all are through or the transaction
// has done its share.
func (t *transaction) lead(records []*Record) (int, error) {
	for i, r := range records {
		if t.batch.Full {
			return i, nil
		}
		r.At = max(t.pos.At, r.Stamped)
		r.Time = min(r.Time, r.At)
		r.Verdict, r.Profile, r.Account = Verdict{}, event.ProfileID{}, event.ProfileID{}
		if r.judged != nil {
			r.Verdict = *r.judged
		}
		all, err := t.fire(r)
		if err != nil {
			return 0, err
		}
		if !all {
			return i, nil
		}
		if alone(r) {
			if i > 0 || t.fired > 0 {
				return i, nil
			}
			t.batch.Full = true
		}
		if r.Kind == event.KindConfig {
			r.Before = t.batch.Snapshot
			t.batch.Snapshot, t.pos.Snapshot = r.Snapshot, r.Snapshot.Number
		}
		r.Outputs.First = len(t.batch.outputs)
		if err := t.admit(r); err != nil {
			return 0, err
		}
		r.Outputs.Count = len(t.batch.outputs) - r.Outputs.First
		t.pos.At, t.pos.Next = r.At, r.Offset+1
	}
	return len(records), nil
}

// alone reports whether a record has a transaction of its own: what an erasure
// removes, no stage may hold in memory and write again.
func alone(r *Record) bool { return r.Command != nil && r.Command.Erase != nil }

// fire fires the timers due at or before r's instant, each at its own. It
// reports false when there are more than one transaction takes.
func (t *transaction) fire(r *Record) (bool, error) {
	for {
		if t.fired == t.firings || t.batch.emitted > maxOutputBytes {
			return false, nil
		}
		d, err := t.batch.Timers.Take(r.At)
		if err != nil || d == nil {
			return err == nil, err
		}
		t.fired++
		t.pos.At = max(t.pos.At, d.At)
		firing := &Record{Firing: d, Offset: r.Offset, Stamped: d.At, Snapshot: t.batch.Snapshot}
		firing.At, firing.Time = d.At, d.At
		if len(d.Subject) == len(firing.Profile) {
			firing.Profile = event.ProfileID(d.Subject) // as armed; identity leads it to who that is now
		}
		if err := t.walk(firing); err != nil {
			return false, err
		}
	}
}

// admit decides whether a record of the raw log is a duplicate, and leads it
// through the row if not.
func (t *transaction) admit(r *Record) error {
	if r.defect != "" {
		r.Verdict = Verdict{Code: Dropped, Reason: r.defect}
		return nil
	}
	if r.Verdict.Code != Admitted {
		return nil
	}
	if index := t.loop.index; index != nil && r.Kind == event.KindEvent {
		first := r.first
		if first == nil {
			first = t.firstHere(r)
		}
		if first != nil {
			r.Verdict = Verdict{Code: Duplicate, Reason: "duplicate messageId", Of: first.Offset}
			return nil
		}
		counts := dedup.First{Offset: r.Offset, At: r.At}
		if err := index.Note(t.batch.Tx, &r.dedup, counts); err != nil {
			return err
		}
		t.firsts[r.dedup] = counts
	}
	before := len(t.batch.outputs)
	if err := t.walk(r); err != nil {
		return err
	}
	if r.Event != nil && r.Verdict.Code == Admitted {
		t.batch.outputs = slices.Insert(t.batch.outputs, before, Output{
			At: r.At, Profile: r.Profile, Event: &Resolved{
				Offset: uint64(r.Offset), ID: r.ID, Type: r.Type, Name: r.Name, Source: r.Head.Source, MessageID: r.MessageID,
			},
		})
	}
	return nil
}

// firstHere returns the record of this transaction that counted for r's
// messageId, or nil.
func (t *transaction) firstHere(r *Record) *dedup.First {
	first, ok := t.firsts[r.dedup]
	if !ok || r.At-first.At >= t.loop.cfg.DedupWindow.Milliseconds() {
		return nil
	}
	return &first
}

// walk leads one record through the doors, until one of them refuses it.
func (t *transaction) walk(r *Record) (err error) {
	name := ""
	defer func() {
		if p := recover(); p != nil {
			err = t.loop.poison(r, name, p)
			if err == nil {
				err = errPoisoned
			}
		}
	}()
	for i, p := range t.passes {
		name = t.loop.cfg.Stages[i].Name()
		if err := p.Handle(r); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if r.Verdict.Code != Admitted {
			return nil
		}
	}
	return nil
}

// poison deals with a defect of ours that one record has brought to light: the
// record is dropped, visibly, and the space goes on. A firing or a piece of
// work that panics cannot be dropped without losing state: that stops the loop.
func (l *Loop) poison(r *Record, stage string, p any) error {
	l.cfg.Logger.Error("a stage panicked", "stage", stage, "space", l.cfg.Space, "record", r.Offset,
		"panic", fmt.Sprint(p), "stack", string(debug.Stack()))
	if r.Kind == 0 {
		return fmt.Errorf("%s panicked on a timer or a job: %v", stage, p)
	}
	r.defect = "internal: a defect in " + stage + " kept this event from being processed"
	return nil
}

// finish closes the passes and writes history, outputs and position.
func (t *transaction) finish(records []*Record) error {
	for i, p := range t.passes {
		if err := p.Finish(); err != nil {
			return fmt.Errorf("%s: %w", t.loop.cfg.Stages[i].Name(), err)
		}
	}
	if len(records) > 0 {
		if err := t.loop.cfg.Recorder.Record(t.batch, records); err != nil {
			return err
		}
	}
	if outputs := t.leaving(); len(outputs) > 0 {
		if _, err := t.loop.cfg.Resolved.AppendTx(t.batch.Tx, EncodeOutputs(outputs)...); err != nil {
			return err
		}
		t.end += commitlog.Offset(len(outputs))
	}
	return t.batch.Tx.Set(t.batch.Key(PositionRoom), encodePosition(t.pos))
}
