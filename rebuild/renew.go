package rebuild

import (
	"context"
	"time"

	"kith/fault"
)

// Renew leaves nothing of an epoch that is not live, since it was made of
// events that are others now: an erasure has taken identifiers out of them. A
// former one is given up; a rebuild begins again at the first record, or with the
// base, and goes on as it stood: running, paused, failed. The base stays: what was
// redacted is taken out of it by itself. If the epoch has become live
// meanwhile, nothing happens: whoever calls it looks again. It may run again.
func (m *Manager) Renew(ctx context.Context, space, epoch uint32) error {
	if live, err := m.cfg.House.Live(space); err != nil || live == epoch {
		return err
	}
	at := place{space, epoch}
	s := &Status{State: Kept} // one that was live until just now is not listed yet
	e, err := m.epoch(ctx, space, epoch)
	switch {
	case fault.Is(err, fault.NotFound):
	case err != nil:
		return err
	case e.Purpose == Simulation && e.Dropped.IsZero():
		return nil // it reads no event as it was: those that did were canceled
	case e.Purpose == Base && e.Dropped.IsZero():
		return m.renewBase(ctx, at)
	default:
		if s, err = m.status(ctx, space, e); err != nil {
			return err
		}
	}
	switch s.State {
	case Live:
		return nil
	case Kept:
		m.cfg.Logger.Info("a former state is given up, since events that it was made of were redacted", "space", space, "epoch", epoch)
		if err := m.giveUp(ctx, space, epoch); err != nil {
			return err
		}
		return m.clearFormer(ctx, at)
	case Dropped:
		return m.clearFormer(ctx, at)
	}
	err = m.change(ctx, space, epoch, func(e *Epoch) error {
		e.Anew, e.Ready = true, time.Time{}
		return nil
	})
	if err != nil {
		return err
	}
	return m.again(ctx, at, jobOf(space, epoch), s.State == Running || s.State == Waiting)
}

// again clears an epoch that is to begin again, and lets its job, which is
// stopped meanwhile, go on if it was running.
func (m *Manager) again(ctx context.Context, at place, id string, running bool) error {
	if running {
		if err := m.cfg.Jobs().Pause(ctx, id); err != nil && !fault.Is(err, fault.Conflict) {
			return err
		}
	}
	if err := m.clearFormer(ctx, at); err != nil || !running {
		return err
	}
	m.cfg.Logger.Info("a rebuild begins again, since events that it was made of were redacted", "space", at.space, "epoch", at.epoch)
	err := m.cfg.Jobs().Resume(ctx, id)
	if fault.Is(err, fault.Conflict) { // canceled, or done
		return nil
	}
	return err
}

// clearFormer removes all keys of an epoch, unless it is live or the base, once
// nobody replays into it.
func (m *Manager) clearFormer(ctx context.Context, at place) error {
	m.wait(ctx, at)
	if err := ctx.Err(); err != nil {
		return err
	}
	if live, err := m.cfg.House.Live(at.space); err != nil || live == at.epoch {
		return err
	}
	if base, err := m.base(ctx, at.space); err != nil || base == at.epoch {
		return err
	}
	return m.clear(ctx, at.space, at.epoch)
}
