package computation

import (
	"context"
	"slices"

	"kith/archive"
	"kith/kv"
	"kith/pipeline"
	"kith/query"
	"kith/workspace"
)

// Wanted is what an epoch computes, as another is to be ready for it; see
// Adopt.
type Wanted struct{ builds []wanted }

// wanted is a build, and by its aggregates what they count; nil for those whose
// first computation has not ended.
type wanted struct {
	*build
	counts []*aggregate
}

// Wanted returns what an epoch computes.
func (d Reader) Wanted(r kv.Reader, space, epoch uint32) (Wanted, error) {
	g, err := d.engine.graph(r, place{space, epoch})
	if err != nil {
		return Wanted{}, err
	}
	return g.registry.wanted()
}

// wanted returns the builds that are computed, stand still, or have been
// replaced: others may stand still that have read them.
func (r *registry) wanted() (w Wanted, err error) {
	for _, b := range slices.Concat(r.Former, r.Builds) {
		if b.State == failed || !b.State.fed() && len(b.Depths) == 0 {
			continue // nothing was counted for it
		}
		p, err := b.program()
		if err != nil {
			return Wanted{}, err
		}
		x := wanted{build: b, counts: make([]*aggregate, len(p.Aggregates))}
		for i := range p.Aggregates {
			if !b.State.fed() {
				x.counts[i] = b.wants(&p.Aggregates[i])
				x.counts[i].Depth = b.Depths[i]
			} else if a := r.aggregate(b.Counts[i]); a.Whole {
				x.counts[i] = a
			}
		}
		w.builds = append(w.builds, x)
	}
	return w, nil
}

// Adopt has an epoch count early what another computes: every aggregate of a
// version of an audience that was brought on by a record which this epoch has
// not come to yet. Its loop must run, and have come to where the epoch is to
// stand for now. Adopt returns when it is decided; the counting, from the
// space's horizon up to there, is then done by the epoch's Builder, like any
// first computation: until that is over the epoch is Busy. From there on the
// epoch counts on with every record it passes, and so does a copy of it. When it
// comes to the record, the version finds its aggregates, and only its members
// are worked out.
//
// What was adopted before and is not wanted any more is dropped. Nothing that
// the epoch has adopted and that is still wanted is counted again: Adopt may be
// called as often as one likes.
func Adopt(ctx context.Context, loop Loop, w Wanted) error {
	return loop.Do(ctx, func(b *pipeline.Batch, step func(*pipeline.Record) error) error {
		pos, err := pipeline.ReadPosition(b.Tx, b.Space, b.Epoch)
		if err != nil {
			return err
		}
		h, err := archive.HorizonOf(b.Tx, b.Space)
		if err != nil {
			return err
		}
		return step(&pipeline.Record{Work: rewrite(func(reg *registry) { reg.adopt(w, pos, depth{h.Offset, h.At}) })})
	})
}

// adopt replaces the builds to come by those that are wanted. What history
// there is begins at a depth.
func (r *registry) adopt(w Wanted, pos pipeline.Position, begin depth) {
	r.Early = nil
	for _, x := range w.builds {
		if x.Offset < pos.Next {
			continue // the epoch has come to it by itself
		}
		b := &build{Audience: early(x.Audience), Offset: x.Offset, At: x.At}
		p, err := b.program()
		if err != nil {
			continue // it is refused once more when its record comes
		}
		for i, counted := range x.counts {
			b.Counts = append(b.Counts, r.count(b.wants(&p.Aggregates[i]), counted, pos, begin))
		}
		r.Early = append(r.Early, b)
	}
}

// count returns the aggregate that counts want for a build to come: one that
// holds what another epoch counts for it, or else a new one. There is none, 0,
// for what has no history.
func (r *registry) count(want, counted *aggregate, pos pipeline.Position, begin depth) uint32 {
	if want.Whole {
		return 0
	}
	depths := []depth{begin} // what lies before the horizon nobody can count any more
	if counted != nil {
		depths = []depth{counted.Depth, begin}
	}
	for _, d := range depths {
		for _, a := range r.Aggregates {
			if a.covers(want) && a.Depth.Offset == d.Offset {
				return a.Number
			}
		}
	}
	if counted != nil {
		want.widen(counted)
	}
	want.From, want.At, want.Depth = pos.Next, pos.At, begin
	r.add(want)
	return want.Number
}

// early returns what of an audience says what is counted for it.
func early(a workspace.Audience) workspace.Audience {
	return workspace.Audience{ID: a.ID, SpaceID: a.SpaceID, Version: a.Version, Query: a.Query, Options: a.Options}
}

// claim gives a build the aggregates that it counts with: those that were
// counted early for it, or those that bind finds.
func (r *registry) claim(b *build, p *query.Program, seen map[uint32]bool) {
	i := slices.IndexFunc(r.Early, func(e *build) bool { return e.Audience.ID == b.Audience.ID && e.Offset == b.Offset })
	if i < 0 || len(r.Early[i].Counts) != len(p.Aggregates) {
		r.bind(b, p, seen)
		return
	}
	b.Counts = slices.Clone(r.Early[i].Counts)
	for i, n := range b.Counts {
		if n == 0 {
			want := b.wants(&p.Aggregates[i])
			r.add(want)
			b.Counts[i] = want.Number
		}
	}
}

// Lacks compares what an epoch is ready to count with what another, live,
// counts. It is asked within the transaction of the live loop that moves the
// horizon to where base stands: when base lacks nothing and none of the two is
// busy with a first computation (nor has one that waits for its turn), nobody
// needs the bodies before that for anything that is computed. When it lacks
// something Adopt is to be called once more.
func (d Reader) Lacks(r kv.Reader, space, live, base uint32) (lacks, busy bool, err error) {
	pos, err := pipeline.ReadPosition(r, space, base)
	if err != nil {
		return false, false, err
	}
	h, err := archive.HorizonOf(r, space)
	if err != nil {
		return false, false, err
	}
	var both [2]*registry
	for i, epoch := range []uint32{live, base} {
		value, err := r.Get(keys{space, epoch}.registry())
		if err != nil {
			return false, false, err
		}
		if both[i], err = decodeRegistry(value); err != nil {
			return false, false, err
		}
		busy = busy || both[i].uncounted() || len(both[i].in(joining)) > 0
	}
	w, err := both[0].wanted()
	if err != nil {
		return false, false, err
	}
	ready, err := both[1].clone()
	if err != nil {
		return false, false, err
	}
	ready.adopt(w, pos, depth{h.Offset, h.At})
	ready.prune()
	return !ready.equal(both[1]), busy, nil
}
