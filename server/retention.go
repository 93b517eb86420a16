package server

import (
	"context"
	"fmt"
	"time"

	"kith/archive"
	"kith/commitlog"
	"kith/delivery"
	"kith/fault"
	"kith/job"
	"kith/kv"
	"kith/pipeline"
	"kith/retention"
)

// openRetention makes what lets events go by their age.
func (s *Server) openRetention() {
	s.retention = retention.New(retention.Config{
		DB: s.db, Clock: s.clock, Logger: s.cfg.Logger, Archive: s.archive, Base: retentionBase{s}, Jobs: func() *job.Jobs { return s.jobs },
		Spaces: s.spaceNumbers, Keeps: s.keeps,
		Live: func(number uint32) (kv.Fence, bool) {
			if sp := s.space(number); sp != nil {
				return pipeline.Fence(number, sp.epoch()), true
			}
			return "", false
		},
		Holds: s.holds, Outputs: s.neededOutputs, Ranges: s.trimmedRanges,
	})
}

// keeps returns how long a space keeps its events, zero for ever.
func (s *Server) keeps(number uint32) time.Duration {
	if sp := s.workspace.Current().SpaceByNumber(number); sp != nil {
		return sp.KeepsFor(s.cfg.Retention)
	}
	return 0
}

// retentionBase has the base led on; see retention.Base.
type retentionBase struct{ s *Server }

// Advance has the base led to the first record of an instant or later.
func (b retentionBase) Advance(ctx context.Context, number uint32, before time.Time) error {
	_, err := b.s.rebuilds.AdvanceBase(ctx, number, before)
	return err
}

// Advancing says how that stands.
func (b retentionBase) Advancing(ctx context.Context, number uint32) (retention.Advance, error) {
	x, err := b.s.rebuilds.Base(ctx, number)
	if err != nil {
		return retention.Advance{}, err
	}
	return retention.Advance{Running: x.Advancing && !x.Paused, Paused: x.Paused, Done: x.Done, Total: x.Total, Waits: x.Waits, Error: x.Error}, nil
}

// holds says who still needs records of a space from before an instant; see
// retention.Config.
func (s *Server) holds(ctx context.Context, number uint32, before time.Time) (holds []retention.Hold, err error) {
	sp := s.space(number)
	if sp == nil {
		return nil, fault.New(fault.Unavailable, "space %d is not open", number)
	}
	needs, err := s.delivery.Needs(ctx, number, before.UnixMilli())
	if err != nil {
		return nil, err
	}
	for _, n := range needs {
		at, needed, err := s.neededSince(ctx, sp, n.Offset)
		if err != nil {
			return nil, err
		}
		if needed && at.Before(before) {
			holds = append(holds, retention.Hold{Destination: n.Destination, Why: whyNeeded(n.Why), Since: at})
		}
	}
	uncounted, err := s.uncounted(ctx, sp, before)
	if err == nil && uncounted != nil {
		holds = append(holds, *uncounted)
	}
	return holds, err
}

// countWithin is how long a look waits for what follows the loops, which is
// behind by a second or so, before it is held back by it.
const countWithin = 10 * time.Second

// uncounted is a hold where schema and usage still have to count records from
// before an instant.
func (s *Server) uncounted(ctx context.Context, sp *space, before time.Time) (*retention.Hold, error) {
	if s.observer == nil || sp.loop() == nil {
		return nil, nil
	}
	for begun := time.Now(); ; rest(ctx, lookReplay) {
		next := sp.loop().Position().Next
		lag, err := s.observer.Lag(ctx, sp.number)
		if err != nil || lag == 0 {
			return nil, err
		}
		record, err := s.archive.Raw(ctx, sp.number, next-min(commitlog.Offset(lag), next))
		if err != nil {
			return nil, err
		}
		at := time.UnixMilli(record.At).UTC()
		if !at.Before(before) {
			return nil, nil
		}
		if ctx.Err() != nil || time.Since(begun) > countWithin {
			return &retention.Hold{Why: "schema and usage have not counted them yet", Since: at}, nil
		}
	}
}

func whyNeeded(why delivery.NeedReason) string {
	switch why {
	case delivery.NeedWaiting:
		return "they wait to be sent again"
	case delivery.NeedDead:
		return "a dead letter refers to them"
	}
	return "the destination has not read them yet"
}

// holdBlocks is how many blocks of the resolved log are searched for an event.
const holdBlocks = 64

// neededSince returns the instant of the oldest record that the outputs from an
// offset on refer to; needed is false when they refer to none.
func (s *Server) neededSince(ctx context.Context, sp *space, from commitlog.Offset) (at time.Time, needed bool, err error) {
	for range holdBlocks {
		blocks, err := sp.resolved.Read(ctx, from, 1)
		if fault.Is(err, fault.NotFound) {
			return at, needed, nil // it was let go since the need was read
		}
		if err != nil || len(blocks) == 0 {
			return at, needed, err
		}
		outputs, err := pipeline.DecodeOutputs(blocks[0].Data)
		if err != nil {
			return at, needed, err
		}
		for i := range outputs {
			o := &outputs[i]
			if blocks[0].First+commitlog.Offset(i) < from {
				continue
			}
			if o.Event == nil {
				if !needed { // no event after it came before it
					at, needed = time.UnixMilli(o.At).UTC(), true
				}
				continue
			}
			record, err := s.archive.Raw(ctx, sp.number, commitlog.Offset(o.Event.Offset))
			if err != nil {
				return at, needed, err
			}
			if is := time.UnixMilli(record.At).UTC(); !needed || is.Before(at) {
				at, needed = is, true
			}
			return at, true, nil
		}
		from = blocks[0].End()
	}
	return at, needed, nil
}

// neededOutputs returns the resolved log of a space, and the first output that
// somebody may still read; see retention.Config.
func (s *Server) neededOutputs(ctx context.Context, number uint32) (commitlog.Log, commitlog.Offset, error) {
	sp := s.space(number)
	if sp == nil {
		return nil, 0, fault.New(fault.Unavailable, "space %d is not open", number)
	}
	first := sp.resolved.End()
	if s.insights != nil {
		lag, err := s.insights.Lag(ctx, number)
		if err != nil {
			return nil, 0, err
		}
		first -= min(commitlog.Offset(lag), first)
	}
	deadBefore := int64(0)
	if keeps := s.keeps(number); keeps > 0 {
		deadBefore = s.clock.Now().Add(-keeps).UnixMilli()
	}
	needs, err := s.delivery.Needs(ctx, number, deadBefore)
	if err != nil {
		return nil, 0, err
	}
	if n := delivery.OldestNeed(needs); n != nil {
		first = min(first, n.Offset)
	}
	return sp.resolved, first, nil
}

// trimmedRanges are the keys of the logs that were trimmed and not scrubbed yet;
// see retention.Config.
func (s *Server) trimmedRanges(ctx context.Context, number uint32, of archive.Trimmed) ([]kv.Range, error) {
	sp := s.space(number)
	if sp == nil {
		return nil, fault.New(fault.Unavailable, "space %d is not open", number)
	}
	var ranges []kv.Range
	if of.Next > of.Scrubbed {
		blocks, err := sp.raw.Read(ctx, of.Scrubbed, 1)
		if err != nil || len(blocks) == 0 {
			return nil, fmt.Errorf("the block at %d that was trimmed: %w", of.Scrubbed, err)
		}
		stem := rawStem(number)
		ranges = append(ranges, kv.Range{From: stem.Clone().Uint64(uint64(blocks[0].First)), To: stem.Clone().Uint64(uint64(of.Next))})
	}
	if of.Outputs > of.ScrubbedOutputs {
		stem := resolvedStem(number)
		ranges = append(ranges, kv.Range{From: stem.Clone().Uint64(uint64(of.ScrubbedOutputs)), To: stem.Clone().Uint64(uint64(of.Outputs))})
	}
	return ranges, nil
}

// retain tells and changes how spaces keep their events; see api.Retention.
type retain struct{ s *Server }

// Status returns how the retention of a space stands.
func (x retain) Status(ctx context.Context, number uint32) (*retention.Status, error) {
	return x.s.retention.Status(ctx, number)
}

// Now looks at once how far the horizon of a space may move.
func (x retain) Now(ctx context.Context, number uint32) error {
	_, err := x.s.retention.Now(ctx, number)
	return err
}
