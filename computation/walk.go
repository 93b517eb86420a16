package computation

import (
	"context"
	"slices"

	"kith/event"
	"kith/kv"
	"kith/pipeline"
)

// settleSlack is by how many milliseconds an id may be ahead of the instant of
// its record.
const settleSlack = 1000

// settle has the next profiles evaluated by the builds that are to become
// live, and makes them live when all have been that were there when it began:
// who comes later is evaluated on arrival, and walking on to them would never
// end while many come.
func (b *Builder) settle(ctx context.Context, reg *registry, at *cursor) error {
	var next []event.ProfileID
	err := b.cfg.DB.View(ctx, func(r kv.Reader) error {
		if at.Until == 0 {
			pos, err := pipeline.ReadPosition(r, b.cfg.Space, b.cfg.Epoch)
			if err != nil {
				return err
			}
			at.Until = pos.At + settleSlack
		}
		list, err := b.cfg.Profiles(r, b.cfg.Space, b.cfg.Epoch, at.After, b.step)
		next = slices.DeleteFunc(list, func(id event.ProfileID) bool { return id.Time() > at.Until })
		return err
	})
	if err != nil {
		return err
	}
	builds := slices.DeleteFunc(slices.Clone(at.Builds), func(n uint32) bool {
		x := reg.build(n)
		return x == nil || x.State != settling
	})
	if len(next) > 0 && len(builds) > 0 {
		at.After = next[len(next)-1]
		at.Count += len(next)
		return b.visit(ctx, next, func(event.ProfileID) any { return settle{builds} }, at)
	}
	return b.advance(ctx, func(reg *registry) { reg.switchTo(at.Builds) }, &cursor{Task: taskAnnounce, Builds: at.Builds})
}

// switchTo makes builds live, in place of those that answered for their
// audiences until now.
func (r *registry) switchTo(builds []uint32) {
	for _, n := range builds {
		x := r.build(n)
		if x == nil || x.State != settling {
			continue
		}
		for _, old := range r.Builds {
			if old.Audience.ID == x.Audience.ID && (old.State == live || old.State == frozen) {
				old.State, old.Announcing = retired, false
			}
		}
		x.State, x.Announcing = live, true
	}
}

// announce visits the members of the builds that became live, and of those
// whose place they took, so that what was found quietly is announced.
func (b *Builder) announce(ctx context.Context, reg *registry, at *cursor) error {
	work := Announce{}
	var walked []uint32
	for _, n := range at.Builds {
		x := reg.build(n)
		if x == nil || x.State != live {
			continue
		}
		work.builds = append(work.builds, n)
		work.Audiences = append(work.Audiences, x.Audience.ID)
		walked = append(walked, x.chain()...)
	}
	next, err := b.nextMembers(ctx, walked, at)
	if err != nil {
		return err
	}
	if len(next) > 0 {
		return b.visit(ctx, next, func(event.ProfileID) any { return work }, at)
	}
	err = b.advance(ctx, func(reg *registry) {
		for _, n := range at.Builds {
			if x := reg.build(n); x != nil && x.State == live {
				x.Announcing = false
			}
		}
	}, nil)
	if err == nil && b.cfg.Live != nil {
		b.cfg.Live()
	}
	return err
}

// release lets the members of a deleted audience go.
func (b *Builder) release(ctx context.Context, reg *registry, at *cursor) error {
	x := reg.build(at.Builds[0])
	if x == nil {
		return b.advance(ctx, nil, nil)
	}
	next, err := b.nextMembers(ctx, x.chain(), at)
	if err != nil {
		return err
	}
	if len(next) > 0 {
		return b.visit(ctx, next, func(event.ProfileID) any { return release{x.Number} }, at)
	}
	return b.advance(ctx, func(reg *registry) { reg.move(at.Builds, leaving, retired) }, nil)
}

// nextMembers returns the next members of some builds, build after build, and
// moves the cursor behind them.
func (b *Builder) nextMembers(ctx context.Context, builds []uint32, at *cursor) (next []event.ProfileID, err error) {
	slices.Sort(builds)
	err = b.cfg.DB.View(ctx, func(r kv.Reader) error {
		for _, build := range builds {
			if build < at.Build {
				continue
			}
			if build > at.Build {
				at.Build, at.After = build, event.ProfileID{}
			}
			list, err := members(r, b.keys, build, at.After, b.step)
			if err != nil {
				return err
			}
			next = ids(list)
			if len(next) > 0 {
				at.After = next[len(next)-1]
				at.Count += len(next)
				return nil
			}
		}
		return nil
	})
	return next, err
}

// members returns members of a build in the order of their ids.
func members(r kv.Reader, k keys, build uint32, after event.ProfileID, limit int) (list []Member, err error) {
	stem := k.members(build)
	rng := kv.Prefix(stem)
	rng.Limit = limit
	if !after.IsZero() {
		rng.From = append(k.member(build, after), 0)
	}
	for pair, err := range r.Scan(rng) {
		if err != nil {
			return nil, err
		}
		parts, f := kv.PartsAfter(pair.Key, stem), kv.FieldsOf(pair.Value)
		m := Member{Profile: event.ProfileID(parts.Fixed(len(event.ProfileID{})))}
		known := f.Byte() == memberFormat
		m.Since = f.Varint()
		if !known || !parts.OK() || !f.OK() {
			return nil, errStored
		}
		list = append(list, m)
	}
	return list, nil
}

func ids(members []Member) []event.ProfileID {
	list := make([]event.ProfileID, len(members))
	for i := range members {
		list[i] = members[i].Profile
	}
	return list
}

// clear removes what builds that are over have left in the index of members,
// and then the builds.
func (b *Builder) clear(ctx context.Context, reg *registry, at *cursor) error {
	next, err := b.nextMembers(ctx, slices.Clone(at.Builds), at)
	if err != nil {
		return err
	}
	if len(next) > 0 {
		return b.cfg.Loop.Do(ctx, func(batch *pipeline.Batch, _ func(*pipeline.Record) error) error {
			for _, p := range next {
				if err := batch.Tx.Delete(b.keys.member(at.Build, p)); err != nil {
					return err
				}
			}
			return b.write(batch.Tx, at)
		})
	}
	return b.cfg.Loop.Do(ctx, func(batch *pipeline.Batch, step func(*pipeline.Record) error) error {
		for _, n := range at.Builds {
			if err := batch.Tx.Delete(b.keys.size(n)); err != nil {
				return err
			}
		}
		remove := rewrite(func(reg *registry) {
			reg.Builds = slices.DeleteFunc(reg.Builds, func(x *build) bool {
				gone := x.State == retired && slices.Contains(at.Builds, x.Number)
				if gone && len(x.Depths) > 0 {
					reg.Former = append(reg.Former, &build{Audience: early(x.Audience), Offset: x.Offset, At: x.At, Depths: x.Depths, State: retired})
				}
				return gone
			})
			reg.Former = slices.Delete(reg.Former, 0, max(0, len(reg.Former)-maxFormer))
		})
		if err := step(&pipeline.Record{Work: remove}); err != nil {
			return err
		}
		return b.write(batch.Tx, nil)
	})
}

// sweep removes the cells of aggregates that are gone.
func (b *Builder) sweep(ctx context.Context, reg *registry, at *cursor) error {
	g, err := compile(reg)
	if err != nil {
		return err
	}
	var keys [][]byte // of shelves with something to remove
	seen := 0
	err = b.cfg.DB.View(ctx, func(r kv.Reader) error {
		stem := b.keys.form(shelfForm)
		rng := kv.Prefix(stem)
		rng.Limit = 10 * b.step
		if !at.After.IsZero() {
			rng.From = append(b.keys.shelf(at.After, at.Shelf), 0)
		}
		for pair, err := range r.Scan(rng) {
			if err != nil {
				return err
			}
			parts := kv.PartsAfter(pair.Key, stem)
			id, n := event.ProfileID(parts.Fixed(len(at.After))), parts.Uint32()
			s, err := decodeShelf(n, pair.Value)
			if err != nil || !parts.OK() {
				return errStored
			}
			seen++
			at.After, at.Shelf = id, n
			if slices.ContainsFunc(s.aggregates(), func(a uint32) bool { return g.aggregates[a] == nil }) {
				keys = append(keys, slices.Clone(pair.Key))
			}
			if len(keys) == b.step {
				return nil
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	return b.cfg.Loop.Do(ctx, func(batch *pipeline.Batch, _ func(*pipeline.Record) error) error {
		for _, key := range keys {
			value, err := batch.Tx.Get(key)
			if err != nil {
				return err
			}
			s, err := decodeShelf(0, value)
			if err != nil {
				return err
			}
			if err := put(batch.Tx, key, s.encode(g)); err != nil {
				return err
			}
		}
		if seen == 0 {
			return b.write(batch.Tx, nil)
		}
		return b.write(batch.Tx, at)
	})
}
