package computation

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"

	"kith/archive"
	"kith/commitlog"
	"kith/event"
	"kith/pipeline"
)

// errFull ends the scan of a segment.
var errFull = errors.New("computation: the segment is full")

// join joins the next segment of history: it scans events into parts, one a
// profile and aggregate, and hands them over profile by profile.
func (b *Builder) join(ctx context.Context, reg *registry, at *cursor) error {
	g, err := compile(reg)
	if err != nil {
		return err
	}
	s := &segment{graph: g, wanted: map[uint32]bool{}, people: map[event.ProfileID]map[uint32]*cell{}, room: b.parts, end: at.To}
	for _, n := range at.Aggregates {
		if g.aggregates[n] != nil { // else nobody wants it any more
			s.wanted[n] = true
		}
	}
	if at.Done >= at.To || len(s.wanted) == 0 {
		return b.joined(ctx, at)
	}
	to := at.To
	if at.End > 0 {
		to = at.End // begun before: the same events again
	}
	err = b.cfg.History.Scan(ctx, b.cfg.Space, b.cfg.Epoch, at.Done, to, s.want, func(e archive.Entry) error {
		return s.take(e, at.End > 0)
	})
	if err != nil && !errors.Is(err, errFull) {
		return err
	}
	if at.End == 0 {
		at.End = s.end
	}
	ids := make([]event.ProfileID, 0, len(s.people))
	for id := range s.people {
		if bytes.Compare(id[:], at.After[:]) > 0 {
			ids = append(ids, id)
		}
	}
	slices.SortFunc(ids, func(a, b event.ProfileID) int { return bytes.Compare(a[:], b[:]) })
	for chunk := range slices.Chunk(ids, b.step) {
		at.After = chunk[len(chunk)-1]
		at.Count += len(chunk)
		if err := b.visit(ctx, chunk, func(id event.ProfileID) any { return part{s.people[id]} }, at); err != nil {
			return err
		}
	}
	at.Done, at.End, at.After = at.End, 0, event.ProfileID{}
	return b.advance(ctx, nil, at)
}

// joined ends a join: its aggregates are whole, and its builds are evaluated
// from here on.
func (b *Builder) joined(ctx context.Context, at *cursor) error {
	var to *cursor
	if len(at.Builds) > 0 {
		to = &cursor{Task: taskSettle, Builds: at.Builds}
	}
	return b.advance(ctx, func(reg *registry) {
		for _, a := range reg.Aggregates {
			if slices.Contains(at.Aggregates, a.Number) {
				a.Whole = true
			}
		}
		reg.move(at.Builds, joining, settling)
		for _, n := range at.Builds {
			if x := reg.build(n); x != nil && x.State == settling {
				reg.fathom(x)
			}
		}
	}, to)
}

// fathom notes how deep lies what a build counts.
func (r *registry) fathom(b *build) {
	b.Depths = make([]depth, len(b.Counts))
	for i, n := range b.Counts {
		b.Depths[i] = r.aggregate(n).Depth
	}
}

// segment is a run of history on its way into parts.
type segment struct {
	graph  *graph
	wanted map[uint32]bool // aggregates
	people map[event.ProfileID]map[uint32]*cell
	room   int              // for how many more cells
	end    commitlog.Offset // where the segment ends
}

// want asks for the events that some counter may count.
func (s *segment) want(h *event.Head) bool {
	w := s.graph.watches[event.Label(h.Type, h.Name)]
	return w != nil && slices.ContainsFunc(w.counters, func(c *counter) bool { return s.wanted[c.Number] && c.takes(h) })
}

// takes reports whether an event is of the time that the counter keeps.
func (c *counter) takes(h *event.Head) bool {
	return h.Time >= c.Since.Time && (c.Kind == tallies || !expired(h.Time, c.Reach, c.At))
}

// take adds an event to the parts. Unless the segment's end was fixed before,
// it ends before the event for which there is no room.
func (s *segment) take(e archive.Entry, fixed bool) error {
	if e.Profile.IsZero() {
		return nil
	}
	if s.room <= 0 && !fixed {
		s.end = e.Offset
		return errFull
	}
	w := s.graph.watches[event.Label(e.Head.Type, e.Head.Name)]
	it := item{record: &pipeline.Record{Head: e.Head, Offset: e.Offset}, watch: w, body: e.Body}
	for _, c := range w.counters {
		if !s.wanted[c.Number] || e.Offset >= c.From || !c.takes(&e.Head) {
			continue
		}
		h, ok := it.judge(c)
		if it.err != nil {
			return fmt.Errorf("event at %d: %w", e.Offset, it.err)
		}
		if !ok {
			continue
		}
		cells := s.people[e.Profile]
		if cells == nil {
			cells = map[uint32]*cell{}
			s.people[e.Profile] = cells
		}
		part := cells[c.Number]
		if part == nil {
			part = &cell{}
			cells[c.Number] = part
			s.room--
		}
		// Judged by the instant at which the aggregate began to be fed; what
		// has expired since goes when it is joined.
		part.add(c.aggregate, c.At, e.Head.Time, &h)
	}
	return nil
}
