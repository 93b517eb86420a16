package server

import (
	"context"
	"slices"

	"kith/archive"
	"kith/archive/redact"
	"kith/commitlog"
	"kith/event"
	"kith/fault"
	"kith/identity"
	"kith/kv"
	"kith/pipeline"
	"kith/profile"
)

// carriersPage is how many profiles are looked at in one moment of the store.
const carriersPage = 2000

// behind returns the epochs that stand for events which were trimmed, the base
// first, and the horizon; none where nothing was trimmed.
func (f forgetful) behind(ctx context.Context, space uint32) (epochs []uint32, horizon commitlog.Offset, err error) {
	sp := f.s.space(space)
	if sp == nil {
		return nil, 0, fault.New(fault.Unavailable, "space %d is not open", space)
	}
	err = f.s.db.View(ctx, func(r kv.Reader) error {
		epochs = nil
		base, at, err := rebuildHouse(f).Base(r, space)
		if horizon = at; err == nil && base != 0 {
			epochs = []uint32{base, sp.epoch()}
		}
		return err
	})
	return epochs, horizon, err
}

// carriers calls fn with the profiles of an epoch in whose traits a value of a
// set may stand, in pieces, until it returns false.
func (f forgetful) carriers(ctx context.Context, space, epoch uint32, set *redact.Set, fn func([]event.ProfileID) (bool, error)) error {
	var after event.ProfileID
	for {
		var list []event.ProfileID
		err := f.s.db.View(ctx, func(r kv.Reader) (err error) {
			list, after, err = profile.Carriers(r, space, epoch, set, after, carriersPage)
			return err
		})
		if err != nil {
			return err
		}
		if len(list) > 0 {
			if more, err := fn(list); err != nil || !more {
				return err
			}
		}
		if after.IsZero() {
			return nil
		}
	}
}

// Uploads returns how many imports of a space are unfinished; see erasure.Rooms.
func (f forgetful) Uploads(ctx context.Context, space uint32) (n int, err error) {
	all, err := f.s.imports.List(ctx, space)
	for i := range all {
		if !all[i].State.Ended() {
			n++
		}
	}
	return n, err
}

// Carried reports whether others may hold values of the erased that trimmed
// events have set; see erasure.Rooms.
func (f forgetful) Carried(ctx context.Context, space uint32, mask *archive.Mask) (carried bool, err error) {
	epochs, _, err := f.behind(ctx, space)
	if err != nil {
		return false, err
	}
	for _, epoch := range epochs {
		err := f.carriers(ctx, space, epoch, mask.Set(), func([]event.ProfileID) (bool, error) {
			carried = true
			return false, nil
		})
		if err != nil || carried {
			return carried, err
		}
	}
	return false, nil
}

// Redact takes these values out of the base and the live epoch, and has the
// others begin again or given up, which were made of the base; see erasure.Rooms.
func (f forgetful) Redact(ctx context.Context, space uint32, mask *archive.Mask) error {
	epochs, horizon, err := f.behind(ctx, space)
	if err != nil || len(epochs) == 0 {
		return err
	}
	base := epochs[0]
	err = f.redactIn(ctx, space, base, horizon, mask.Set(), func(fn func(tx kv.Tx) error) error {
		return f.s.db.Update(ctx, pipeline.Fence(space, base), kv.Durable, fn)
	})
	if err != nil {
		return err
	}
	sp := f.s.space(space)
	for {
		live := sp.epoch()
		if err := f.renew(ctx, space, live); err != nil {
			return err
		}
		err := f.redactIn(ctx, space, live, horizon, mask.Set(), func(fn func(tx kv.Tx) error) error {
			return sp.loop().Do(ctx, func(b *pipeline.Batch, _ func(*pipeline.Record) error) error { return fn(b.Tx) })
		})
		if sp.epoch() == live {
			return err
		}
		// A rebuild has swapped meanwhile: what was live is a former state now.
	}
}

// redactIn takes the values of a set out of the traits of an epoch that records
// before the horizon have set.
func (f forgetful) redactIn(ctx context.Context, space, epoch uint32, horizon commitlog.Offset, set *redact.Set, update func(func(kv.Tx) error) error) error {
	return f.carriers(ctx, space, epoch, set, func(list []event.ProfileID) (bool, error) {
		for some := range slices.Chunk(list, 100) {
			err := update(func(tx kv.Tx) error {
				for _, p := range some {
					head := event.Head{}
					known, err := identity.NewReader(tx, space, epoch).Frozen(p)
					if err != nil {
						return err
					}
					if known != nil {
						for i := range known.Identifiers {
							head.IDs = append(head.IDs, known.Identifiers[i].Identifier)
						}
					}
					if _, err := profile.Redact(tx, space, epoch, p, horizon, set, set.Own(&head)); err != nil {
						return err
					}
				}
				return nil
			})
			if err != nil {
				return false, err
			}
		}
		return true, nil
	})
}
