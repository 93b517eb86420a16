package archive

import (
	"context"

	"kith/commitlog"
	"kith/event"
	"kith/kv"
	"kith/pipeline"
)

// Recent is an event of the raw log, passed or not.
type Recent struct {
	pipeline.Judged
	Passed  bool // the loop has passed it; if not there is no verdict yet
	Profile event.ProfileID
	Account event.ProfileID
	Trimmed bool // its body has been trimmed
}

// Back calls fn with the events and objects of the raw log before an offset,
// the newest first, whose heads want asks for, until fn returns false, about
// most heads were looked at, or the beginning is reached. before may lie beyond
// the end of the log. It returns where to go on, which is zero at the beginning,
// and the instant of the last head it looked at. What want and fn get is valid
// until they return. Bodies of blocks in which nothing is wanted stay packed.
func (a *Archive) Back(ctx context.Context, space, epoch uint32, before commitlog.Offset, most int, want func(*event.Head) bool, fn func(*Recent) (bool, error)) (next commitlog.Offset, at int64, err error) {
	log, err := a.raw(space)
	if err != nil {
		return before, 0, err
	}
	next = min(before, log.End())
	for looked := 0; next > 0 && looked < most; {
		if err := ctx.Err(); err != nil {
			return next, at, err
		}
		blocks, err := log.Read(ctx, next-1, 1)
		if err != nil || len(blocks) == 0 {
			return next, at, err
		}
		found, oldest, err := a.recent(ctx, space, epoch, blocks[0], next, want)
		if err != nil {
			return next, at, err
		}
		for i := len(found) - 1; i >= 0; i-- {
			more, err := fn(&found[i])
			if err != nil || !more {
				return found[i].Offset, found[i].Head.At, err
			}
		}
		looked += int(next - blocks[0].First)
		next, at = blocks[0].First, oldest
	}
	return next, at, nil
}

// recent returns the wanted events of a block that lie before an offset, in
// order, and the instant of the block's first record.
func (a *Archive) recent(ctx context.Context, space, epoch uint32, blk commitlog.Block, before commitlog.Offset, want func(*event.Head) bool) (found []Recent, oldest int64, err error) {
	p, err := a.page(ctx, space, blk)
	if err != nil {
		return nil, 0, err
	}
	heads := p.heads
	for i := range heads {
		h := &heads[i]
		at := blk.First + commitlog.Offset(i)
		if at >= before || h.Kind != event.KindEvent && h.Kind != event.KindObject || want != nil && !want(h) {
			continue
		}
		found = append(found, Recent{Judged: pipeline.Judged{Offset: at, Head: *h}, Trimmed: p.trimmed(i)})
	}
	if len(found) == 0 {
		return nil, heads[0].At, nil
	}
	bodies, err := p.bodies(blk)
	if err != nil {
		return nil, 0, err
	}
	err = a.db.View(ctx, func(r kv.Reader) error {
		runs := runReader{reader: r, space: space, epoch: epoch}
		for i := range found {
			e := &found[i]
			e.Raw = bodies[e.Offset-blk.First]
			verdicts, err := runs.verdicts(e.Offset)
			if err != nil {
				return err
			}
			if verdicts == nil {
				continue
			}
			judged := Entry{Offset: e.Offset, Head: e.Head}
			verdicts.judge(&judged, p)
			e.Passed, e.Head, e.Verdict = true, judged.Head, judged.Verdict
			profiles, err := runs.profiles(e.Offset)
			if err != nil {
				return err
			}
			if profiles != nil {
				e.Profile, e.Account = profiles.profiles[e.Offset-profiles.first], profiles.accounts[e.Offset-profiles.first]
			}
		}
		return nil
	})
	return found, heads[0].At, err
}
