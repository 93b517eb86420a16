package server

import (
	"context"

	"kith/activation"
	"kith/archive"
	"kith/commitlog"
	"kith/computation"
	"kith/erasure"
	"kith/event"
	"kith/fault"
	"kith/identity"
	"kith/inspect"
	"kith/kv"
	"kith/object"
	"kith/pipeline"
	"kith/profile"
	"kith/rebuild"
	"kith/trackingplan"
)

// openErasures makes what completes erasures.
func (s *Server) openErasures() {
	s.erasures = erasure.New(erasure.Config{
		DB: s.db, Clock: s.clock, Logger: s.cfg.Logger, Archive: s.archive, Rooms: forgetful{s},
		Spaces: func() (numbers []uint32) {
			for _, sp := range s.allSpaces() {
				numbers = append(numbers, sp.number)
			}
			return numbers
		},
		Live: func(number uint32) (uint32, bool) {
			if sp := s.space(number); sp != nil {
				return sp.epoch(), true
			}
			return 0, false
		},
		Resolved: func(number uint32) (commitlog.Replacer, error) {
			if sp := s.space(number); sp != nil {
				return sp.resolved, nil
			}
			return nil, fault.New(fault.NotFound, "there is no space %d", number)
		},
		Hash:   func(text []byte) (string, error) { return s.secrets.Hash(text), nil },
		Gather: s.cfg.EraseGather, Deadline: s.cfg.EraseDeadline,
	})
}

// forgetful gives erasures the rooms; see erasure.Rooms.
type forgetful struct{ s *Server }

// Whom finds profiles by their ids and by identifiers.
func (f forgetful) Whom(r kv.Reader, space, epoch uint32, profiles []event.ProfileID, ids []event.Identifier) (erasure.Whom, error) {
	reader := identity.NewReader(r, space, epoch)
	var whom erasure.Whom
	known := map[event.Identifier]bool{}
	add := func(id event.Identifier) {
		if !known[id] {
			known[id] = true
			whom.Identifiers = append(whom.Identifiers, id)
		}
	}
	for _, id := range ids {
		add(id)
		p, err := reader.Lookup(id.Collection, id.Type, id.Value)
		if err != nil {
			return whom, err
		}
		if !p.IsZero() {
			profiles = append(profiles[:len(profiles):len(profiles)], p)
		}
	}
	seen := map[event.ProfileID]bool{}
	for _, p := range profiles {
		family, err := reader.Family(p)
		if fault.Is(err, fault.NotFound) {
			continue
		}
		if err != nil {
			return whom, err
		}
		if seen[family[0]] {
			continue
		}
		seen[family[0]] = true
		whom.Families = append(whom.Families, family)
		for _, member := range family {
			frozen, err := reader.Frozen(member)
			if err != nil {
				return whom, err
			}
			if frozen == nil {
				continue
			}
			for i := range frozen.Identifiers {
				add(frozen.Identifiers[i].Identifier)
			}
		}
	}
	return whom, nil
}

// Forget has every room of the row forget them.
func (f forgetful) Forget(b *pipeline.Batch, whom erasure.Whom) error {
	gone := make(map[event.Identifier]bool, len(whom.Identifiers))
	for _, id := range whom.Identifiers {
		gone[id] = true
	}
	for _, family := range whom.Families {
		if err := computation.Forget(b, family...); err != nil {
			return err
		}
		if err := profile.Forget(b.Tx, b.Space, b.Epoch, family...); err != nil {
			return err
		}
		if err := identity.Forget(b.Tx, b.Space, b.Epoch, family...); err != nil {
			return err
		}
	}
	if err := identity.ForgetRefused(b.Tx, b.Space, b.Epoch, whom.Identifiers...); err != nil {
		return err
	}
	if err := identity.ForgetStanding(b.Tx, b.Space, b.Epoch, func(id event.Identifier) bool { return gone[id] }); err != nil {
		return err
	}
	if !b.Live {
		base, _, err := rebuildHouse(f).Base(b.Tx, b.Space)
		if err != nil || base == 0 {
			return err
		}
		return rebuild.Took(b.Tx, b.Space, base, b.Epoch)
	}
	return activation.Forget(b.Tx, b.Space, whom.Identifiers...)
}

// Sweep takes them out of what is kept beside logs, archive and epochs.
func (f forgetful) Sweep(ctx context.Context, space uint32, mask *archive.Mask, blocked []archive.Blocked) error {
	sp := f.s.space(space)
	if sp == nil {
		return fault.New(fault.Unavailable, "space %d is not open", space)
	}
	fence := pipeline.Fence(space, sp.epoch())
	err := f.s.db.Update(ctx, fence, kv.Durable, func(tx kv.Tx) error {
		for _, x := range blocked {
			if err := trackingplan.Forget(tx, space, x.Source, x.At, x.Offset); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	if err := object.Redact(ctx, f.s.db, fence, space, mask.Set()); err != nil {
		return err
	}
	if err := f.s.delivery.Forget(ctx, mask.Whose, mask.Set().Stands); err != nil {
		return err
	}
	if err := f.s.rebuilds.ForgetReports(ctx, space); err != nil {
		return err
	}
	return inspect.Forget(ctx, f.s.db, mask.Identifiers(), mask.Set().Stands)
}

// Revise has profiles worked out again whose events were redacted. States that
// are not live, which hold the same, are given up or begin again.
func (f forgetful) Revise(ctx context.Context, space uint32, command commitlog.Offset, profiles []event.ProfileID) (left string, err error) {
	sp := f.s.space(space)
	if sp == nil {
		return "", fault.New(fault.Unavailable, "space %d is not open", space)
	}
	for {
		epoch := sp.epoch()
		if err := f.renew(ctx, space, epoch); err != nil {
			return "", err
		}
		if left, err = f.revise(ctx, space, epoch, command, profiles); err != nil || sp.epoch() == epoch {
			return left, err
		}
		// A rebuild has swapped meanwhile: what was live is a former state now.
	}
}

// renew has nothing left of the epochs that are not live.
func (f forgetful) renew(ctx context.Context, space, live uint32) error {
	var epochs []uint32
	err := f.s.db.View(ctx, func(r kv.Reader) (err error) {
		epochs, err = archive.Epochs(r, space)
		return err
	})
	if err != nil {
		return err
	}
	for _, epoch := range epochs {
		if epoch == live {
			continue
		}
		if err := f.s.rebuilds.Renew(ctx, space, epoch); err != nil {
			return err
		}
	}
	return nil
}

// revise has the profiles worked out again in the live epoch.
func (f forgetful) revise(ctx context.Context, space, epoch uint32, command commitlog.Offset, profiles []event.ProfileID) (left string, err error) {
	due := false
	err = f.s.db.Update(ctx, pipeline.Fence(space, epoch), kv.Durable, func(tx kv.Tx) error {
		e, err := archive.ErasureAt(tx, space, command)
		if err != nil || e == nil {
			return err
		}
		e.Others = profiles
		if err := f.s.archive.Erase(tx, space, e); err != nil {
			return err
		}
		due = true
		return identity.Due(tx, space, epoch, command, e.At)
	})
	if err != nil || !due {
		return "", err
	}
	f.s.reviser.Wake()
	state, err := f.s.reviser.Revised(ctx, space, command)
	return state.Reason, err
}
