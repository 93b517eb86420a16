package rebuild

import (
	"context"
	"errors"
	"fmt"
	"time"

	"kith/commitlog"
	"kith/fault"
	"kith/job"
	"kith/kv"
)

// BaseStatus is how the base of a space stands.
type BaseStatus struct {
	Epoch   uint32           // zero: nothing was ever trimmed
	Horizon commitlog.Offset // the first record that is whole
	// Advancing says that the job which advances it is under way: to Target, of
	// which TargetAt is the instant. Done of Total records are replayed; Total is
	// Target. Waits says what is in the way of the last step.
	Advancing   bool
	Paused      bool
	Target      commitlog.Offset
	TargetAt    time.Time
	Done, Total uint64
	Waits       string
	Error       string // why the last advance failed
}

func baseJob(space uint32) string { return fmt.Sprintf("base/%d", space) }

type baseParams struct {
	Space  uint32    `json:"space"`
	Before time.Time `json:"before"`
}

// AdvanceBase starts the job that leads the base of a space on to the first
// record that was appended at an instant or later, and moves the horizon there.
// While it runs already it goes on as it was started. The job is told by its id,
// which AdvanceBase returns. A base is never led back: then nothing happens.
//
// The next base is a copy of the present one, or begins with the first record,
// and is led on beside the live loop: the present base stands at the horizon all
// the while, for everybody who needs it. One commit of the live loop moves the
// horizon and makes the next base the present one.
func (m *Manager) AdvanceBase(ctx context.Context, space uint32, before time.Time) (id string, err error) {
	if _, err := m.cfg.House.Live(space); err != nil {
		return "", err
	}
	id = baseJob(space)
	return id, m.cfg.Jobs().Start(ctx, BaseKind, id, baseParams{space, before})
}

// CancelBase stops the job that advances the base, and removes what it has made.
// The base and the horizon stay.
func (m *Manager) CancelBase(ctx context.Context, space uint32) error {
	if err := m.cfg.Jobs().Cancel(ctx, baseJob(space)); err != nil {
		return err
	}
	e, err := m.nextBase(ctx, space)
	if err != nil || e == nil {
		return err
	}
	return m.giveUp(ctx, space, e.Number)
}

// Base returns how the base of a space stands.
func (m *Manager) Base(ctx context.Context, space uint32) (*BaseStatus, error) {
	if _, err := m.cfg.House.Live(space); err != nil {
		return nil, err
	}
	s := &BaseStatus{}
	err := m.cfg.DB.View(ctx, func(r kv.Reader) (err error) {
		s.Epoch, s.Horizon, err = m.cfg.House.Base(r, space)
		return err
	})
	if err != nil {
		return nil, err
	}
	j, err := m.cfg.Jobs().Get(ctx, baseJob(space))
	if fault.Is(err, fault.NotFound) {
		return s, nil
	}
	if err != nil {
		return nil, err
	}
	s.Advancing, s.Paused = j.State == job.Running || j.State == job.Paused, j.State == job.Paused
	if j.State == job.Failed {
		s.Error = j.Error
	}
	e, err := m.nextBase(ctx, space)
	if err != nil || e == nil || !s.Advancing {
		return s, err
	}
	s.Target, s.TargetAt, s.Done, s.Total = e.Target, e.TargetAt, j.Done, uint64(e.Target)
	if p := m.progressOf(place{space, e.Number}); p != nil {
		s.Done, s.Total, _, _ = p.read()
		s.Waits = p.waiting()
	}
	return s, nil
}

// nextBase returns the epoch that is on its way to be the base, nil when there
// is none.
func (m *Manager) nextBase(ctx context.Context, space uint32) (next *Epoch, err error) {
	err = m.cfg.DB.View(ctx, func(r kv.Reader) error {
		next = nil
		base, _, err := m.cfg.House.Base(r, space)
		if err != nil {
			return err
		}
		all, err := epochs(r, space)
		for _, e := range all {
			if e.Purpose == Base && e.Dropped.IsZero() && e.Number > base {
				next = e
			}
		}
		return err
	})
	return next, err
}

// advance is the work of a job of BaseKind.
func (m *Manager) advance(ctx context.Context, h *job.Handle) error {
	var p baseParams
	if err := h.Params(&p); err != nil {
		return err
	}
	e, err := m.aim(ctx, &p)
	if err != nil {
		return err
	}
	if e != nil {
		for err = errAgain; errors.Is(err, errAgain); {
			err = m.lead(ctx, h, place{p.Space, e.Number})
		}
		if err != nil {
			return err
		}
	}
	if m.cfg.Advanced != nil { // also where a crash came before
		m.cfg.Advanced(p.Space)
	}
	all, err := m.list(ctx, p.Space)
	if err != nil {
		return err
	}
	return m.sweepBases(context.WithoutCancel(ctx), p.Space, all)
}

// aim returns the epoch that is to be the base and stand at the first record of
// an instant: the one that is on its way, or a new one. It is nil when the base
// stands there already.
func (m *Manager) aim(ctx context.Context, p *baseParams) (*Epoch, error) {
	target, err := m.cfg.House.Since(ctx, p.Space, p.Before)
	if err != nil {
		return nil, err
	}
	next, err := m.nextBase(ctx, p.Space)
	if err != nil {
		return nil, err
	}
	if next != nil {
		if target > next.Target {
			err = m.change(ctx, p.Space, next.Number, func(e *Epoch) error {
				e.Target, e.TargetAt = target, p.Before
				return nil
			})
		}
		return next, err
	}
	var horizon commitlog.Offset
	err = m.cfg.DB.View(ctx, func(r kv.Reader) error {
		_, horizon, err = m.cfg.House.Base(r, p.Space)
		return err
	})
	if err != nil || target <= horizon {
		return nil, err
	}
	live, err := m.cfg.House.Live(p.Space)
	if err != nil {
		return nil, err
	}
	mode, snapshot, _, err := m.cfg.House.Rules(ctx, p.Space)
	if err != nil {
		return nil, err
	}
	next = &Epoch{
		Purpose: Base, Engine: m.cfg.Engine, Created: m.cfg.Clock.Now(), Rules: mode, Snapshot: snapshot, Target: target, TargetAt: p.Before,
	}
	return next, m.add(ctx, p.Space, live, next, func([]*Epoch) error { return nil })
}

// lead leads an epoch to where it is to stand, and makes it the base.
func (m *Manager) lead(ctx context.Context, h *job.Handle, at place) error {
	seen := m.enter(at)
	defer m.leave(at)
	e, err := m.ground(ctx, h, at, seen)
	if err != nil {
		return err
	}
	if err := m.cfg.House.Prepare(ctx, at.space, e); err != nil {
		return err
	}
	r, err := m.cfg.House.OpenBase(ctx, at.space, e)
	if err != nil {
		return err
	}
	err = m.attend(ctx, h, seen, r, func() (over bool, err error) {
		if next, end := r.Position(); next < end {
			return false, nil
		}
		if err = m.unhindered(ctx, at.space, e.Target); err == nil {
			err = r.Advance(ctx)
		}
		if !fault.Is(err, fault.Unavailable) || ctx.Err() != nil {
			return true, err
		}
		if text := err.Error(); seen.wait(text) {
			m.cfg.Logger.Info("the horizon waits", "space", at.space, "record", e.Target, "because", text)
		}
		return false, nil
	})
	if errors.Is(err, ErrOther) {
		mode, snapshot, _, ruled := m.cfg.House.Rules(ctx, at.space)
		if ruled != nil {
			return ruled
		}
		m.cfg.Logger.Info("the base begins again", "space", at.space, "epoch", at.epoch, "because", err)
		ruled = m.change(ctx, at.space, at.epoch, func(e *Epoch) error {
			e.Anew, e.Rules, e.Snapshot = true, mode, snapshot
			return nil
		})
		if ruled != nil {
			return ruled
		}
		return errAgain
	}
	if err != nil {
		return err
	}
	m.cfg.Logger.Info("the base was advanced", "space", at.space, "epoch", at.epoch, "record", e.Target)
	return m.change(context.WithoutCancel(ctx), at.space, at.epoch, func(e *Epoch) error {
		e.Swapped = m.cfg.Clock.Now()
		return nil
	})
}

// unhindered reports, as fault.Unavailable, what would lose records that it
// still has to read: a rebuild that is behind, or a simulation.
func (m *Manager) unhindered(ctx context.Context, space uint32, target commitlog.Offset) error {
	all, err := m.list(ctx, space)
	if err != nil {
		return err
	}
	for _, e := range all {
		if !e.Dropped.IsZero() || e.Purpose == Base {
			continue
		}
		if e.Purpose == Simulation {
			return fault.New(fault.Unavailable, "simulation %d is under way", e.Number)
		}
		s, err := m.status(ctx, space, e)
		if err != nil {
			return err
		}
		if s.State != Running {
			continue // one that stands begins again with the base
		}
		var next commitlog.Offset
		computing := false
		err = m.cfg.DB.View(ctx, func(r kv.Reader) error {
			if next, err = m.cfg.House.Position(r, space, e.Number); err == nil {
				computing, err = m.cfg.House.Computing(r, space, e.Number)
			}
			return err
		})
		if err != nil {
			return err
		}
		if next < target || computing || e.Base != 0 && !e.Copied {
			return fault.New(fault.Unavailable, "rebuild %d has still to read what is to be trimmed", e.Number)
		}
	}
	return nil
}

// renewBase has an epoch that is on its way to be the base begin again.
func (m *Manager) renewBase(ctx context.Context, at place) error {
	base, err := m.base(ctx, at.space)
	if err != nil || base == at.epoch {
		return err
	}
	id := baseJob(at.space)
	j, err := m.cfg.Jobs().Get(ctx, id)
	if err != nil && !fault.Is(err, fault.NotFound) {
		return err
	}
	err = m.change(ctx, at.space, at.epoch, func(e *Epoch) error {
		e.Anew = true
		return nil
	})
	if err != nil {
		return err
	}
	return m.again(ctx, at, id, j.State == job.Running)
}

// sweepBases gives up the epochs that were the base.
func (m *Manager) sweepBases(ctx context.Context, space uint32, all []*Epoch) error {
	base, err := m.base(ctx, space)
	if err != nil {
		return err
	}
	for _, e := range all {
		if e.Purpose == Base && e.Dropped.IsZero() && e.Number < base {
			if err := m.giveUp(ctx, space, e.Number); err != nil {
				return err
			}
		}
	}
	return nil
}
