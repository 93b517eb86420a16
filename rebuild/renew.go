package rebuild

import (
	"context"
	"time"

	"kith/fault"
)

// Renew leaves nothing of an epoch that is not live, since it was made of
// events that are others now: an erasure has taken identifiers out of them. A
// former one is given up; a rebuild begins again at the first record, and goes
// on as it stood: running, paused, failed. If the epoch has become live
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
	running := s.State == Running || s.State == Waiting
	if running {
		if err := m.cfg.Jobs().Pause(ctx, jobOf(space, epoch)); err != nil && !fault.Is(err, fault.Conflict) {
			return err
		}
	}
	if err := m.clearFormer(ctx, at); err != nil || !running {
		return err
	}
	m.cfg.Logger.Info("a rebuild begins again, since events that it was made of were redacted", "space", space, "epoch", epoch)
	err = m.cfg.Jobs().Resume(ctx, jobOf(space, epoch))
	if fault.Is(err, fault.Conflict) { // canceled, or live and done
		return nil
	}
	return err
}

// clearFormer removes all keys of an epoch, unless it is live, once nobody
// replays into it.
func (m *Manager) clearFormer(ctx context.Context, at place) error {
	m.wait(ctx, at)
	if err := ctx.Err(); err != nil {
		return err
	}
	if live, err := m.cfg.House.Live(at.space); err != nil || live == at.epoch {
		return err
	}
	return m.clear(ctx, at.space, at.epoch)
}

// begin clears an epoch that is to be begun again.
func (m *Manager) begin(ctx context.Context, at place) error {
	e, err := m.epoch(ctx, at.space, at.epoch)
	if err != nil || !e.Anew {
		return err
	}
	if err := m.clear(ctx, at.space, at.epoch); err != nil {
		return err
	}
	return m.change(ctx, at.space, at.epoch, func(e *Epoch) error {
		e.Anew = false
		return nil
	})
}
