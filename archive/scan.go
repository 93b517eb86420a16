package archive

import (
	"context"

	"kith/commitlog"
	"kith/event"
	"kith/kv"
	"kith/pipeline"
)

// scanBytes is how much of the packed log a scan reads at a time.
const scanBytes = 1 << 20

// Scan calls fn with the admitted events from one offset up to another, in
// order, whose heads want asks for (nil: all), with their profiles at that
// epoch as they were when the event passed: a later merge is a link to follow.
// Bodies of blocks in which nothing is wanted stay packed. It begins at the
// horizon at the earliest: what lies before it is in the aggregates of the base. It ends at what the
// loop has passed, or with fn's error. It holds no moment of the store open.
func (a *Archive) Scan(ctx context.Context, space, epoch uint32, from, to commitlog.Offset, want func(*event.Head) bool, fn func(Entry) error) error {
	h, err := a.Horizon(ctx, space)
	if err != nil {
		return err
	}
	from = max(from, h.Offset)
	log, err := a.raw(space)
	if err != nil {
		return err
	}
	for from < to {
		blocks, err := log.Read(ctx, from, scanBytes)
		if err != nil || len(blocks) == 0 {
			return err
		}
		for _, blk := range blocks {
			if blk.First >= to {
				return nil
			}
			entries, passed, err := a.entries(ctx, space, epoch, blk, want)
			if err != nil {
				return err
			}
			for _, e := range entries {
				if e.Offset < from || e.Offset >= to {
					continue
				}
				if err := fn(e); err != nil {
					return err
				}
			}
			if !passed {
				return nil
			}
		}
		from = blocks[len(blocks)-1].End()
	}
	return nil
}

// entries returns the wanted events of one block, and whether the loop has
// passed all of it.
func (a *Archive) entries(ctx context.Context, space, epoch uint32, blk commitlog.Block, want func(*event.Head) bool) ([]Entry, bool, error) {
	p, err := a.page(ctx, space, blk)
	if err != nil {
		return nil, false, err
	}
	var entries []Entry
	passed := true
	err = a.db.View(ctx, func(r kv.Reader) error {
		runs := runReader{reader: r, space: space, epoch: epoch}
		for i := range p.heads {
			e := Entry{Offset: blk.First + commitlog.Offset(i), Head: p.heads[i]}
			verdicts, err := runs.verdicts(e.Offset)
			if err != nil {
				return err
			}
			profiles, err := runs.profiles(e.Offset)
			if err != nil {
				return err
			}
			if verdicts == nil || profiles == nil {
				passed = false
				return nil
			}
			verdicts.judge(&e, p)
			if e.Head.Kind != event.KindEvent || e.Verdict.Code != pipeline.Admitted || (want != nil && !want(&e.Head)) {
				continue
			}
			e.Profile = profiles.profiles[e.Offset-profiles.first]
			e.Account = profiles.accounts[e.Offset-profiles.first]
			entries = append(entries, e)
		}
		return nil
	})
	if err != nil || len(entries) == 0 {
		return nil, passed, err
	}
	bodies, err := p.bodies(blk)
	if err != nil {
		return nil, false, err
	}
	for i := range entries {
		if entries[i].Body == nil {
			entries[i].Body = bodies[entries[i].Offset-blk.First]
		}
	}
	return entries, passed, nil
}
