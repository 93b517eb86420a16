package server

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"kith/api"
	"kith/commitlog"
	"kith/event"
	"kith/fault"
	"kith/identity"
	"kith/kv"
	"kith/pipeline"
	"kith/rebuild"
	"kith/workspace"
)

// Try tries identity rules on the past of a space; see rebuild.Laboratory.
func (h rebuildHouse) Try(ctx context.Context, number uint32, e *rebuild.Epoch, t rebuild.Trial, progress func(done, total uint64)) (json.RawMessage, error) {
	s := h.s
	sp := s.space(number)
	if sp == nil || sp.loop() == nil {
		return nil, fault.New(fault.NotFound, "no loop runs for space %d", number)
	}
	rules := &workspace.Space{}
	if err := json.Unmarshal(t.Space, rules); err != nil {
		return nil, fmt.Errorf("rules of a simulation: %w", err)
	}
	before := sp.loop().Position().Next
	since := commitlog.Offset(0)
	if !t.Since.IsZero() {
		var err error
		if since, err = s.firstAt(ctx, sp, before, t.Since.UnixMilli()); err != nil {
			return nil, err
		}
	}
	if err := h.Prepare(ctx, number, e); err != nil {
		return nil, err
	}
	since = max(since, e.Begins) // the trial begins with what was before
	layout := &pipeline.Layout{}
	who := identity.New(layout)
	tally := identity.NewTally(who.Slot(), since)
	run := func(to commitlog.Offset) error {
		if to == 0 {
			return nil
		}
		past := &trialPast{s: s, sp: sp, end: to, inner: s.archive.Past(number, nil)}
		loop, err := pipeline.NewLoop(ctx, pipeline.Config{
			DB: s.db, Snapshots: s.workspace, Stages: []pipeline.Stage{who, tally}, Recorder: nowhere{}, Space: number, Epoch: e.Number,
			Logger: s.cfg.Logger, Past: past, Tap: func(c pipeline.Committed) { progress(uint64(c.Next), uint64(before)) },
		})
		if err != nil {
			return err
		}
		if err := loop.Run(ctx); err != nil {
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		if next := loop.Position().Next; next < to {
			return fault.New(fault.Internal, "the replay ended at record %d of %d", next, to)
		}
		return nil
	}
	progress(0, uint64(before))
	if err := run(since); err != nil {
		return nil, err
	}
	// From here on the rules of the trial hold, whatever a record's own
	// configuration says.
	tried := &workspace.Snapshot{Number: math.MaxUint64, Spaces: []workspace.Space{*rules}}
	tried.Seal()
	if err := s.db.Update(ctx, pipeline.Fence(number, e.Number), kv.Durable, func(tx kv.Tx) error {
		return identity.SetOverride(tx, number, e.Number, tried)
	}); err != nil {
		return nil, err
	}
	if err := run(before); err != nil {
		return nil, err
	}
	found, err := identity.Compare(ctx, s.db.View, number, sp.epoch(), e.Number, since, before)
	if err != nil {
		return nil, err
	}
	report := api.SimulationReport{Comparison: *found, Records: uint64(before - e.Begins), Prevented: tally.Prevented()}
	if e.Base != 0 {
		h, err := s.archive.Horizon(ctx, number)
		if err != nil {
			return nil, err
		}
		report.Horizon = event.FormatTime(time.UnixMilli(h.At))
	}
	slices.SortFunc(report.Prevented, func(a, b identity.Prevented) int {
		return cmp.Or(cmp.Compare(b.Merges, a.Merges), cmp.Compare(b.Events, a.Events), cmp.Compare(a.Type, b.Type), cmp.Compare(a.Violation, b.Violation))
	})
	text, err := json.Marshal(report)
	if err != nil {
		return nil, fmt.Errorf("report of a simulation: %w", err)
	}
	return text, nil
}

// firstAt returns the first record before an offset that was appended at an
// instant or later; that offset when there is none.
func (s *Server) firstAt(ctx context.Context, sp *space, before commitlog.Offset, at int64) (commitlog.Offset, error) {
	lo, hi := commitlog.Offset(0), before
	for lo < hi {
		mid := lo + (hi-lo)/2
		blocks, err := sp.raw.Read(ctx, mid, 1)
		if err != nil || len(blocks) == 0 {
			return before, err
		}
		heads, err := event.DecodeHeads(blocks[0].Data)
		if err != nil {
			return before, err
		}
		if heads[mid-blocks[0].First].At >= at {
			hi = mid
		} else {
			lo = mid + 1
		}
	}
	return lo, nil
}

// trialPast is the past of a trial: up to a record.
type trialPast struct {
	s     *Server
	sp    *space
	inner pipeline.Past
	end   commitlog.Offset
	read  time.Time
}

// Follow reads on; see pipeline.Past.
func (p *trialPast) Follow(ctx context.Context, from commitlog.Offset, maxBytes int, fn func(*pipeline.Judged) error) (commitlog.Offset, error) {
	if from >= p.end {
		return from, nil
	}
	p.s.giveWay(ctx, p.sp, p.read)
	next, err := p.inner.Follow(ctx, from, maxBytes, func(j *pipeline.Judged) error {
		if j.Offset >= p.end {
			return errStep
		}
		return fn(j)
	})
	if errors.Is(err, errStep) {
		err = nil
	}
	p.read = time.Now()
	return next, err
}

// Wait says that the past ends; see pipeline.Past.
func (p *trialPast) Wait(_ context.Context, at commitlog.Offset) error {
	if at >= p.end {
		return pipeline.ErrPastEnds
	}
	return fault.New(fault.Internal, "record %d has passed and cannot be read", at)
}

// nowhere records nothing.
type nowhere struct{}

// Record does nothing.
func (nowhere) Record(*pipeline.Batch, []*pipeline.Record) error { return nil }
