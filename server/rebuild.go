package server

import (
	"context"

	"kith/activation"
	"kith/fault"
	"kith/identity"
	"kith/kv"
	"kith/pipeline"
	"kith/rebuild"
	"kith/timer"
	"kith/workspace"
)

// rebuildHouse is the server as package rebuild sees it.
type rebuildHouse struct{ s *Server }

// Live returns the live epoch of a space; see rebuild.House.
func (h rebuildHouse) Live(number uint32) (uint32, error) {
	sp := h.s.space(number)
	if sp == nil {
		return 0, fault.New(fault.NotFound, "there is no space %d", number)
	}
	return sp.epoch(), nil
}

// Rules returns by which rules the live epoch was made; see rebuild.House.
func (h rebuildHouse) Rules(ctx context.Context, number uint32) (mode rebuild.Mode, snapshot, current uint64, err error) {
	live, err := h.Live(number)
	if err != nil {
		return "", 0, 0, err
	}
	err = h.s.db.View(ctx, func(r kv.Reader) error {
		snapshot, _, err = identity.NewReader(r, number, live).Override()
		return err
	})
	mode = rebuild.Recorded
	if snapshot > 0 {
		mode = rebuild.Current
	}
	return mode, snapshot, h.s.workspace.Current().Number, err
}

// Prepare writes what an epoch begins with: the commands that hold for all
// time, and the rules that hold from the start; see rebuild.House. In a copy of
// the base both hold from where that stands.
func (h rebuildHouse) Prepare(ctx context.Context, number uint32, e *rebuild.Epoch) error {
	live, err := h.Live(number)
	if err != nil {
		return err
	}
	var standing []identity.Standing
	var rules *workspace.Snapshot
	err = h.s.db.View(ctx, func(r kv.Reader) error {
		reader := identity.NewReader(r, number, live)
		if standing, err = reader.Standing(); err != nil || e.Rules != rebuild.Current {
			return err
		}
		// Those of an earlier rebuild may be of a configuration that is kept
		// with them and nowhere else.
		n, space, err := reader.Override()
		if err == nil && n == e.Snapshot {
			rules = &workspace.Snapshot{Number: n, Spaces: []workspace.Space{*space}}
			rules.Seal()
			return nil
		}
		if err == nil {
			rules, err = h.s.workspace.At(r, e.Snapshot)
		}
		return err
	})
	if err != nil {
		return err
	}
	return h.s.db.Update(ctx, pipeline.Fence(number, e.Number), kv.Durable, func(tx kv.Tx) error {
		pos, err := pipeline.ReadPosition(tx, number, e.Number)
		if err != nil || pos.Next != e.Begins {
			return err // it has begun
		}
		if rules != nil {
			err = identity.SetOverride(tx, number, e.Number, rules)
		} else {
			err = identity.DropOverride(tx, number, e.Number)
		}
		if err != nil {
			return err
		}
		if e.Base == 0 {
			return identity.Preload(tx, number, e.Number, standing)
		}
		snap, err := h.s.workspace.At(tx, pos.Snapshot)
		if err != nil {
			return err
		}
		b := &pipeline.Batch{Tx: tx, Space: number, Epoch: e.Number, Timers: timer.NewPass(tx, number, e.Number), Snapshot: snap}
		_, err = identity.New(&pipeline.Layout{}).Stand(b, standing)
		return err
	})
}

// Open puts a replay together; see rebuild.House.
func (h rebuildHouse) Open(ctx context.Context, number, epoch uint32) (rebuild.Replay, error) {
	sp := h.s.space(number)
	if sp == nil || sp.loop() == nil {
		return nil, fault.New(fault.NotFound, "no loop runs for space %d", number)
	}
	return h.s.openReplay(ctx, sp, epoch)
}

// Reconcile starts the job that tells destinations the difference; see
// rebuild.House.
func (h rebuildHouse) Reconcile(ctx context.Context, number uint32, id string) error {
	return activation.StartReconcile(ctx, h.s.jobs, number, id)
}

// Wait waits for a moment; see rebuild.House.
func (h rebuildHouse) Wait(ctx context.Context) { rest(ctx, lookReplay) }
