package rebuild

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"kith/fault"
	"kith/job"
	"kith/kv"
)

// TrialKind is the kind of job that tries other identity rules.
const TrialKind = "identity.simulate"

// reportKept is how long the report of a trial can be seen: it names people.
const reportKept = 3 * 24 * time.Hour

// Trial is what is tried: identity rules, on the records since an instant, or on
// all.
type Trial struct {
	Space json.RawMessage `json:"space"` // a workspace.Space with the rules
	Since time.Time       `json:"since,omitzero"`
	Note  string          `json:"note,omitempty"`
}

// Laboratory tries rules; the server does.
type Laboratory interface {
	// Try replays the identifiers of a space's records into an epoch, which holds
	// what the base does where there is one: up to t.Since by the rules of their
	// time, from there by those of the trial. Then
	// it compares what has come of it with the live epoch, and returns the report
	// as JSON. It tells how far it is.
	Try(ctx context.Context, space uint32, e *Epoch, t Trial, progress func(done, total uint64)) (json.RawMessage, error)
}

type trialParams struct {
	params
	Trial Trial `json:"trial"`
}

// TrialStatus is a trial as it stands.
type TrialStatus struct {
	Epoch
	State  State // Running, Failed, Live when it has ended well, Dropped when it was canceled
	Error  string
	Since  time.Time
	Report json.RawMessage // once it has ended well

	Done, Total uint64
	Rate        float64
	Left        time.Duration
}

func trialOf(space, epoch uint32) string { return fmt.Sprintf("identity.simulate/%d/%d", space, epoch) }

// Try starts a trial. There is one at a time in a space: fault.Conflict.
func (m *Manager) Try(ctx context.Context, space uint32, t Trial) (*TrialStatus, error) {
	if len(t.Note) > maxNote {
		return nil, fault.Field("note", "a note has at most %d bytes", maxNote)
	}
	live, err := m.cfg.House.Live(space)
	if err != nil {
		return nil, err
	}
	mode, snapshot, _, err := m.cfg.House.Rules(ctx, space)
	if err != nil {
		return nil, err
	}
	if err := m.giveUpInterrupted(ctx, space); err != nil {
		return nil, err
	}
	e := &Epoch{
		Purpose: Simulation, Engine: m.cfg.Engine, Created: m.cfg.Clock.Now(), Rules: mode, Snapshot: snapshot, Note: t.Note,
	}
	err = m.add(ctx, space, live, e, func(all []*Epoch) error {
		for _, x := range all {
			if x.Purpose == Simulation && x.Dropped.IsZero() {
				return fault.New(fault.Conflict, "simulation %d of this space is under way: wait for it, or cancel it first", x.Number)
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	if err := m.cfg.Jobs().Start(ctx, TrialKind, trialOf(space, e.Number), trialParams{params{space, e.Number}, t}); err != nil {
		return nil, err
	}
	return m.Trial(ctx, space, e.Number)
}

// giveUpInterrupted gives up trials that no job works on: the server stopped
// between the two, or the job was ended without them. They stand in the way of
// others otherwise.
func (m *Manager) giveUpInterrupted(ctx context.Context, space uint32) error {
	all, err := m.list(ctx, space)
	if err != nil {
		return err
	}
	for _, e := range all {
		if e.Purpose != Simulation || !e.Dropped.IsZero() {
			continue
		}
		j, err := m.cfg.Jobs().Get(ctx, trialOf(space, e.Number))
		switch {
		case err != nil && !fault.Is(err, fault.NotFound):
			return err
		case err == nil && j.State == job.Running:
			continue
		case err != nil && m.cfg.Clock.Now().Before(e.Created.Add(time.Minute)):
			continue // somebody else is about to start it
		}
		if err := m.giveUp(ctx, space, e.Number); err != nil {
			return err
		}
	}
	return nil
}

// CancelTrial gives up a trial, and removes its report if there is one.
func (m *Manager) CancelTrial(ctx context.Context, space, epoch uint32) error {
	if _, err := m.Trial(ctx, space, epoch); err != nil {
		return err
	}
	if err := m.cfg.Jobs().Cancel(ctx, trialOf(space, epoch)); err != nil && !fault.Is(err, fault.NotFound) && !fault.Is(err, fault.Conflict) {
		return err
	}
	if err := m.forget(ctx, space, epoch); err != nil {
		return err
	}
	return m.giveUp(ctx, space, epoch)
}

// Trial returns how a trial stands, or fault.NotFound.
func (m *Manager) Trial(ctx context.Context, space, epoch uint32) (*TrialStatus, error) {
	if _, err := m.cfg.House.Live(space); err != nil {
		return nil, err
	}
	e, err := m.epoch(ctx, space, epoch)
	if err != nil {
		return nil, err
	}
	if e.Purpose != Simulation {
		return nil, fault.New(fault.NotFound, "there is no simulation %d", epoch)
	}
	s := &TrialStatus{Epoch: *e, State: Running}
	j, err := m.cfg.Jobs().Get(ctx, trialOf(space, epoch))
	if err != nil && !fault.Is(err, fault.NotFound) {
		return nil, err
	}
	var p trialParams
	if j.Params != nil {
		if err := json.Unmarshal(j.Params, &p); err != nil {
			return nil, fmt.Errorf("parameters of simulation %d: %w", epoch, err)
		}
	}
	s.Since, s.Done, s.Total = p.Trial.Since, j.Done, j.Total
	err = m.cfg.DB.View(ctx, func(r kv.Reader) error {
		value, err := r.Get(reportKey(space, epoch))
		if err == nil && value != nil {
			if value[0] != epochFormat {
				return errReport
			}
			s.State, s.Report = Live, value[1:]
		}
		return err
	})
	switch {
	case err != nil:
		return nil, err
	case s.Report != nil:
	case j.State == job.Failed:
		s.State, s.Error = Failed, j.Error
	case !e.Dropped.IsZero(), j.State == job.Canceled:
		s.State = Dropped
	case j.State != job.Running:
		s.State, s.Error = Failed, "it was interrupted: start another"
	}
	if p := m.progressOf(place{space, epoch}); p != nil {
		s.Done, s.Total, s.Rate, s.Left = p.read()
	}
	return s, nil
}

// Trials returns the trials of a space that are remembered, oldest first.
func (m *Manager) Trials(ctx context.Context, space uint32) ([]*TrialStatus, error) {
	all, err := m.list(ctx, space)
	if err != nil {
		return nil, err
	}
	var list []*TrialStatus
	for _, e := range all {
		if e.Purpose != Simulation {
			continue
		}
		s, err := m.Trial(ctx, space, e.Number)
		if err != nil {
			return nil, err
		}
		list = append(list, s)
	}
	return list, nil
}

// ForgetReports removes the reports of a space's trials, which name people, and
// gives up those that run. An erasure does so.
func (m *Manager) ForgetReports(ctx context.Context, space uint32) error {
	all, err := m.Trials(ctx, space)
	if err != nil {
		return err
	}
	for _, s := range all {
		if s.Report == nil && !s.Dropped.IsZero() {
			continue
		}
		if err := m.CancelTrial(ctx, space, s.Number); err != nil {
			return err
		}
	}
	return nil
}

// sweepTrial removes the report of a trial when it has been there long enough,
// and returns when to look again.
func (m *Manager) sweepTrial(ctx context.Context, space uint32, e *Epoch) (next time.Time, err error) {
	over := e.Dropped.Add(reportKept)
	switch {
	case e.Dropped.IsZero():
		return next, nil
	case over.After(m.cfg.Clock.Now()):
		return over, nil
	}
	return next, m.forget(ctx, space, e.Number)
}

func (m *Manager) forget(ctx context.Context, space, epoch uint32) error {
	return m.cfg.DB.Update(ctx, fence(space), kv.Durable, func(tx kv.Tx) error { return tx.Delete(reportKey(space, epoch)) })
}

// try is the work of a job of TrialKind. One that was interrupted begins again.
func (m *Manager) try(ctx context.Context, h *job.Handle) error {
	var p trialParams
	if err := h.Params(&p); err != nil {
		return err
	}
	e, err := m.epoch(ctx, p.Space, p.Epoch)
	if err != nil || !e.Dropped.IsZero() {
		return err
	}
	report, err := m.report(ctx, h, p)
	if err != nil && ctx.Err() != nil {
		return err // the server stops, or somebody has canceled it
	}
	if err == nil {
		err = m.cfg.DB.Update(ctx, fence(p.Space), kv.Durable, func(tx kv.Tx) error {
			return tx.Set(reportKey(p.Space, p.Epoch), append([]byte{epochFormat}, report...))
		})
	}
	if fault.Is(err, fault.Unavailable) {
		return err
	}
	if gone := m.giveUp(ctx, p.Space, p.Epoch); err == nil {
		err = gone
	}
	m.expire()
	return err
}

func (m *Manager) report(ctx context.Context, h *job.Handle, p trialParams) (json.RawMessage, error) {
	at := place{p.Space, p.Epoch}
	seen := m.enter(at)
	defer m.leave(at)
	if err := m.clear(ctx, p.Space, p.Epoch); err != nil {
		return nil, err
	}
	e, err := m.ground(ctx, h, at, seen)
	if err != nil {
		return nil, err
	}
	report, err := m.cfg.Lab.Try(ctx, p.Space, e, p.Trial, func(done, total uint64) { seen.note(m.cfg.Clock.Now(), done, total) })
	if err != nil {
		return nil, err
	}
	done, total, _, _ := seen.read()
	return report, h.Save(ctx, nil, done, total)
}
