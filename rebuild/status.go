package rebuild

import (
	"context"
	"time"

	"kith/fault"
	"kith/job"
)

// State is how a rebuild stands.
type State string

// The states.
const (
	Running State = "running" // replays, and follows what comes
	Paused  State = "paused"
	Waiting State = "waiting" // has caught up; the swap waits for somebody's word
	Failed  State = "failed"
	Live    State = "live"    // everybody reads it
	Kept    State = "kept"    // was live; can be swapped back to until its time is over
	Dropped State = "dropped" // is gone, or on its way
)

func (s State) underWay() bool { return s == Running || s == Paused || s == Waiting }

// Status is an epoch as it stands.
type Status struct {
	Epoch
	State State
	Error string // why it failed
	// Reconcile is, of an epoch that became live by a swap, the job that told
	// destinations the difference; nil when it is not there (any more).
	Reconcile *job.Status

	// Done of Total records are replayed. Rate is records a second while it
	// runs, Left how long the rest takes at that rate; zero: not known.
	Done, Total uint64
	Rate        float64
	Left        time.Duration
}

// Get returns how an epoch stands, or fault.NotFound.
func (m *Manager) Get(ctx context.Context, space, epoch uint32) (*Status, error) {
	if _, err := m.cfg.House.Live(space); err != nil {
		return nil, err
	}
	e, err := m.swappable(ctx, space, epoch)
	if err != nil {
		return nil, err
	}
	return m.status(ctx, space, e)
}

// swappable returns an epoch that is, was or may become live, or fault.NotFound.
func (m *Manager) swappable(ctx context.Context, space, epoch uint32) (*Epoch, error) {
	e, err := m.epoch(ctx, space, epoch)
	if err == nil && e.Purpose.beside() {
		return nil, fault.New(fault.NotFound, "there is no rebuild %d; see the list", epoch)
	}
	return e, err
}

// List returns the epochs of a space for rebuilds, oldest first: the live one,
// those under way, those that are kept, and the last of those that are gone.
func (m *Manager) List(ctx context.Context, space uint32) ([]*Status, error) {
	live, all, err := m.all(ctx, space)
	if err != nil {
		return nil, err
	}
	if len(all) == 0 {
		all = []*Epoch{{Number: live, Purpose: First, Rules: Recorded}}
	}
	var list []*Status
	for _, e := range all {
		if e.Purpose.beside() {
			continue
		}
		s, err := m.status(ctx, space, e)
		if err != nil {
			return nil, err
		}
		list = append(list, s)
	}
	return list, nil
}

func (m *Manager) status(ctx context.Context, space uint32, e *Epoch) (*Status, error) {
	s := &Status{Epoch: *e}
	live, err := m.cfg.House.Live(space)
	if err != nil {
		return nil, err
	}
	j, err := m.cfg.Jobs().Get(ctx, jobOf(space, e.Number))
	if err != nil && !fault.Is(err, fault.NotFound) {
		return nil, err
	}
	s.Done, s.Total = j.Done, j.Total
	switch {
	case e.Number == live:
		s.State = Live
	case !e.Dropped.IsZero():
		s.State = Dropped
	case e.kept() || !e.Swapped.IsZero():
		s.State = Kept
	case j.State == job.Failed:
		s.State, s.Error = Failed, j.Error
	case j.State == "" || j.State == job.Finished: // its job was not started before a crash
		s.State, s.Error = Failed, "it was interrupted: resume or cancel it"
	case j.State == job.Canceled:
		s.State = Dropped
	case j.State == job.Paused && e.Hold && !e.Ready.IsZero():
		s.State = Waiting
	case j.State == job.Paused:
		s.State = Paused
	default:
		s.State = Running
	}
	if s.State == Live && !e.Swapped.IsZero() {
		r, err := m.cfg.Jobs().Get(ctx, reconcileOf(space, e.Number))
		switch {
		case err == nil:
			s.Reconcile = &r
		case !fault.Is(err, fault.NotFound):
			return nil, err
		}
	}
	if p := m.progressOf(place{space, e.Number}); p != nil {
		s.Done, s.Total, s.Rate, s.Left = p.read()
	}
	return s, nil
}
