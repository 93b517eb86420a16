package erasure

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	"kith/archive"
	"kith/commitlog"
	"kith/event"
	"kith/fault"
	"kith/job"
	"kith/kv"
	"kith/pipeline"
	"kith/timer"
)

// JobID returns the id of the job of a space.
func JobID(space uint32) string { return fmt.Sprintf("erasure-%d", space) }

type params struct {
	Space uint32 `json:"space"`
}

// stepBytes is how much of a log is rewritten at a time, as it is packed.
const stepBytes = 4 << 20

// maxOthers bounds the profiles of others that a pass notes to be worked out
// again.
const maxOthers = 100_000

// The steps of a pass, in their order.
const (
	stepEvents  = "events"
	stepOutputs = "outputs"
	stepRooms   = "rooms"
	stepRevise  = "revise"
	stepReduce  = "reduce"
	stepScrub   = "scrub"
)

// cursor is where a pass over a space is. It names nobody but by profile ids.
type cursor struct {
	Erasures []commitlog.Offset `json:"erasures"` // that this pass is for
	Step     string             `json:"step"`
	Next     commitlog.Offset   `json:"next"` // of the log that is read in this step
	Erased   uint64             `json:"erased"`
	Redacted uint64             `json:"redacted"`
	Outputs  uint64             `json:"outputs"`
	Blocks   uint64             `json:"blocks"`
	Others   []string           `json:"others,omitempty"`  // profiles whose events were redacted
	Carried  bool               `json:"carried,omitempty"` // others hold values that trimmed events have set
	Left     string             `json:"left,omitempty"`    // what a rebuild has to do for them
	Blocked  []archive.Blocked  `json:"blocked,omitempty"`
}

// JobKind returns the kind of job that completes erasures.
func (e *Erasures) JobKind() job.Kind { return job.Kind{Name: Kind, Run: e.complete} }

// run makes passes until no erasure waits.
func (e *Erasures) complete(ctx context.Context, h *job.Handle) error {
	var p params
	if err := h.Params(&p); err != nil {
		return err
	}
	for {
		// Whoever asks for haste from here on wakes Run once this job has ended.
		e.mu.Lock()
		delete(e.now, p.Space)
		e.mu.Unlock()
		waiting, err := e.waiting(ctx, p.Space)
		if err != nil {
			return err
		}
		if len(waiting) == 0 {
			return nil
		}
		w := &run{Erasures: e, handle: h, space: p.Space}
		if data := h.Cursor(); data != nil {
			if err := json.Unmarshal(data, &w.at); err != nil {
				return fault.New(fault.Internal, "cursor of job %s: %w", h.ID(), err)
			}
		}
		if w.list = pick(waiting, w.at.Erasures); len(w.list) == 0 {
			w.at = cursor{Step: stepEvents}
			for _, x := range waiting {
				w.at.Erasures = append(w.at.Erasures, x.Offset)
			}
			w.list = waiting
		}
		if err := w.work(ctx); err != nil {
			return err
		}
		if err := h.Save(ctx, nil, w.done(), w.done()); err != nil {
			return err
		}
		e.ended()
	}
}

// pick returns the erasures of a pass that was begun before, if they are all
// still there.
func pick(waiting []*archive.Erasure, offsets []commitlog.Offset) (list []*archive.Erasure) {
	for _, x := range waiting {
		if slices.Contains(offsets, x.Offset) {
			list = append(list, x)
		}
	}
	return list
}

// run is a pass over a space for some erasures.
type run struct {
	*Erasures
	handle *job.Handle
	space  uint32
	list   []*archive.Erasure
	at     cursor
}

func (w *run) work(ctx context.Context) error {
	for _, step := range []struct {
		name string
		do   func(context.Context) error
	}{
		{stepEvents, w.events}, {stepOutputs, w.outputs}, {stepRooms, w.rooms},
		{stepRevise, w.revise}, {stepReduce, w.reduce}, {stepScrub, w.scrub},
	} {
		if step.name != w.at.Step {
			continue
		}
		if err := step.do(ctx); err != nil {
			return fmt.Errorf("%s: %w", step.name, err)
		}
		w.at.Step, w.at.Next = after(step.name), 0
		if err := w.save(ctx); err != nil {
			return err
		}
	}
	return nil
}

// after returns the step that follows one.
func after(step string) string {
	steps := []string{stepEvents, stepOutputs, stepRooms, stepRevise, stepReduce, stepScrub, ""}
	return steps[slices.Index(steps, step)+1]
}

// rewriting says what is to be rewritten: what those erasures hide that are not
// reduced yet.
func (w *run) rewriting(ctx context.Context) (archive.Rewriting, error) {
	live, ok := w.cfg.Live(w.space)
	if !ok {
		return archive.Rewriting{}, fault.New(fault.Unavailable, "space %d is not open", w.space)
	}
	hidden := slices.DeleteFunc(slices.Clone(w.list), func(x *archive.Erasure) bool { return x.Receipt != nil })
	r := archive.Rewriting{Space: w.space, Fence: pipeline.Fence(w.space, live), Veil: archive.NewVeil(hidden)}
	err := w.cfg.DB.View(ctx, func(reader kv.Reader) (err error) {
		r.Epochs, err = archive.Epochs(reader, w.space)
		return err
	})
	return r, err
}

// events rewrites the raw log and what hangs on it.
func (w *run) events(ctx context.Context) error {
	others := map[string]bool{}
	for _, p := range w.at.Others {
		others[p] = true
	}
	for {
		r, err := w.rewriting(ctx) // again: the live epoch may be another
		if err != nil {
			return err
		}
		r.Note = func(ctx context.Context, redacted map[event.ProfileID]bool, blocked []archive.Blocked) error {
			for p := range redacted {
				if len(others) < maxOthers {
					others[p.String()] = true
				}
			}
			for _, x := range blocked {
				if !slices.Contains(w.at.Blocked, x) {
					w.at.Blocked = append(w.at.Blocked, x)
				}
			}
			w.at.Others = slices.Sorted(maps.Keys(others))
			return w.save(ctx)
		}
		done, err := w.cfg.Archive.Rewrite(ctx, r, w.at.Next, stepBytes)
		if err != nil {
			return err
		}
		if done.Blocks > 0 {
			w.cfg.Archive.Forgotten(w.space)
		}
		w.at.Erased, w.at.Redacted, w.at.Blocks = w.at.Erased+done.Erased, w.at.Redacted+done.Redacted, w.at.Blocks+done.Blocks
		if done.Next == w.at.Next {
			return nil
		}
		w.at.Next = done.Next
		if err := w.save(ctx); err != nil {
			return err
		}
	}
}

// outputs rewrites the resolved log.
func (w *run) outputs(ctx context.Context) error {
	log, err := w.cfg.Resolved(w.space)
	if err != nil {
		return err
	}
	for {
		r, err := w.rewriting(ctx)
		if err != nil {
			return err
		}
		next, outputs, blocks, err := w.cfg.Archive.RewriteOutputs(ctx, r, log, w.at.Next, stepBytes)
		if err != nil {
			return err
		}
		w.at.Outputs, w.at.Blocks = w.at.Outputs+outputs, w.at.Blocks+blocks
		if next == w.at.Next {
			return nil
		}
		w.at.Next = next
		if err := w.save(ctx); err != nil {
			return err
		}
	}
}

// rooms takes the erased out of what the rooms keep elsewhere: in the epochs
// that are not live, and beside all epochs.
func (w *run) rooms(ctx context.Context) error {
	r, err := w.rewriting(ctx)
	if err != nil {
		return err
	}
	live, _ := w.cfg.Live(w.space)
	var ids []event.Identifier
	var profiles []event.ProfileID
	for _, x := range w.list {
		ids, profiles = append(ids, x.Identifiers...), append(profiles, x.Profiles...)
	}
	for _, epoch := range r.Epochs {
		if epoch == live {
			continue
		}
		err := w.cfg.DB.Update(ctx, pipeline.Fence(w.space, epoch), kv.Durable, func(tx kv.Tx) error {
			b := &pipeline.Batch{Tx: tx, Space: w.space, Epoch: epoch, Timers: timer.NewPass(tx, w.space, epoch)}
			whom, err := w.cfg.Rooms.Whom(tx, w.space, epoch, profiles, ids)
			if err != nil {
				return err
			}
			return w.cfg.Rooms.Forget(b, whom)
		})
		if err != nil {
			return err
		}
	}
	mask := r.Veil.At(0)
	if mask == nil {
		return nil
	}
	if err := w.cfg.Rooms.Sweep(ctx, w.space, mask, w.at.Blocked); err != nil {
		return err
	}
	if !w.at.Carried {
		if w.at.Carried, err = w.cfg.Rooms.Carried(ctx, w.space, mask); err != nil || !w.at.Carried {
			return err
		}
		if err := w.save(ctx); err != nil {
			return err
		}
	}
	return w.cfg.Rooms.Redact(ctx, w.space, mask)
}

// revise has those worked out again whose events were redacted.
func (w *run) revise(ctx context.Context) error {
	var profiles []event.ProfileID
	for _, text := range w.at.Others {
		p, err := event.ParseProfileID(text)
		if err != nil {
			return fault.New(fault.Internal, "cursor of job %s: %w", w.handle.ID(), err)
		}
		profiles = append(profiles, p)
	}
	open := slices.IndexFunc(w.list, func(x *archive.Erasure) bool { return x.Receipt == nil })
	if len(profiles) == 0 || open < 0 {
		return nil
	}
	left, err := w.cfg.Rooms.Revise(ctx, w.space, w.list[open].Offset, profiles)
	w.at.Left = left
	return err
}

// reduce leaves of each erasure its receipt.
func (w *run) reduce(ctx context.Context) error {
	r, err := w.rewriting(ctx)
	if err != nil {
		return err
	}
	uploads, err := w.cfg.Rooms.Uploads(ctx, w.space)
	if err != nil {
		return err
	}
	for _, x := range w.list {
		if x.Receipt != nil {
			continue
		}
		record, err := w.cfg.Archive.Raw(ctx, w.space, x.Offset)
		if err != nil {
			return err
		}
		c, err := event.ParseCommand(record.Body)
		if err != nil {
			return err
		}
		receipt := &archive.Receipt{
			Hash: c.Erase.Receipt, Together: len(w.at.Erasures),
			Left: w.at.Left, Uploads: uploads, Erased: w.at.Erased, Redacted: w.at.Redacted, Outputs: w.at.Outputs, Blocks: w.at.Blocks,
		}
		if receipt.Hash == "" {
			text, err := json.Marshal(c.Erase)
			if err != nil {
				return err
			}
			if receipt.Hash, err = w.cfg.Hash(text); err != nil {
				return err
			}
		}
		if err := w.cfg.Archive.Reduce(ctx, r, x.Offset, receipt); err != nil {
			return err
		}
		x.Receipt, x.Profiles, x.Identifiers = receipt, nil, nil
	}
	return nil
}

// scrub makes what is gone leave the files, and says that it has.
func (w *run) scrub(ctx context.Context) error {
	// What the store keeps to the last of this job itself names nobody.
	if scrubber, ok := w.cfg.DB.(kv.Scrubber); ok {
		if err := scrubber.Scrub(ctx, kv.Range{}); err != nil {
			return err
		}
	}
	live, ok := w.cfg.Live(w.space)
	if !ok {
		return fault.New(fault.Unavailable, "space %d is not open", w.space)
	}
	return w.cfg.DB.Update(ctx, pipeline.Fence(w.space, live), kv.Durable, func(tx kv.Tx) error {
		for _, at := range w.at.Erasures {
			x, err := archive.ErasureAt(tx, w.space, at)
			if err != nil || x == nil || x.Receipt == nil {
				return err
			}
			x.Receipt.Completed = w.cfg.Clock.Now().UnixMilli()
			if err := w.cfg.Archive.Erase(tx, w.space, x); err != nil {
				return err
			}
		}
		return nil
	})
}

// done and total are how far the pass is, in records and outputs.
func (w *run) done() uint64 {
	switch w.at.Step {
	case stepEvents:
		return uint64(w.at.Next)
	case stepOutputs:
		return uint64(w.records() + w.at.Next)
	}
	return w.total()
}

func (w *run) total() uint64 {
	outputs := commitlog.Offset(0)
	for _, x := range w.list {
		outputs = max(outputs, x.Resolved)
	}
	return uint64(w.records() + outputs)
}

func (w *run) records() commitlog.Offset { return slices.Max(w.at.Erasures) }

func (w *run) save(ctx context.Context) error {
	data, err := json.Marshal(w.at)
	if err != nil {
		return err
	}
	return w.handle.Save(ctx, data, w.done(), w.total())
}
