package rebuild

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"kith/commitlog"
	"kith/fault"
	"kith/job"
	"kith/kv"
)

// saveEvery is how often progress is written down, for people.
const saveEvery = 5 * time.Second

// rebuild is the work of a job of Kind.
func (m *Manager) rebuild(ctx context.Context, h *job.Handle) error {
	var p params
	if err := h.Params(&p); err != nil {
		return err
	}
	at := place{p.Space, p.Epoch}
	e, err := m.epoch(ctx, p.Space, p.Epoch)
	if err != nil || !e.Dropped.IsZero() {
		return err
	}
	live, err := m.cfg.House.Live(p.Space)
	if err != nil {
		return err
	}
	if live != p.Epoch {
		for err = errAgain; errors.Is(err, errAgain); {
			err = m.replay(ctx, h, at)
		}
		if err != nil {
			return err
		}
		if live, err = m.cfg.House.Live(p.Space); err != nil {
			return err
		}
	}
	if live != p.Epoch {
		return nil // it waits for somebody's word
	}
	return m.settle(context.WithoutCancel(ctx), at)
}

// replay replays until the epoch is live, or stands waiting for a word.
func (m *Manager) replay(ctx context.Context, h *job.Handle, at place) error {
	seen := m.enter(at)
	defer m.leave(at)
	e, err := m.ground(ctx, h, at, seen)
	if err != nil {
		return err
	}
	if err := m.cfg.House.Prepare(ctx, at.space, e); err != nil {
		return err
	}
	r, err := m.cfg.House.Open(ctx, at.space, at.epoch)
	if err != nil {
		return err
	}
	held := false
	err = m.attend(ctx, h, seen, r, func() (over bool, err error) {
		ready, err := r.Ready(ctx)
		if err != nil || !ready {
			return false, err
		}
		if e.Hold {
			if e.Hold, err = m.holds(ctx, at); err != nil || e.Hold {
				held = err == nil
				return true, err
			}
		}
		if err := m.precede(ctx, at); err != nil {
			return true, err
		}
		pause, behind, err := r.Swap(ctx)
		switch {
		case err == nil:
			m.cfg.Logger.Info("rebuilt", "space", at.space, "epoch", at.epoch, "pause", pause, "behind", behind)
			_, goal := r.Position()
			_ = h.Save(ctx, nil, uint64(goal), uint64(goal)) // for people
			return true, m.change(context.WithoutCancel(ctx), at.space, at.epoch, func(e *Epoch) error {
				e.Swapped, e.Pause, e.Behind = m.cfg.Clock.Now(), pause, behind
				return nil
			})
		case !fault.Is(err, fault.Unavailable) || ctx.Err() != nil:
			return true, err
		}
		m.cfg.Logger.Info("the swap waits", "space", at.space, "epoch", at.epoch, "because", err)
		return false, nil
	})
	if err == nil && held {
		return m.hold(ctx, h, at)
	}
	if err != nil && ctx.Err() == nil {
		return m.overtaken(ctx, at, err)
	}
	return err
}

// attend runs a replay, and calls look again and again until that says that it
// is over, or the replay ends.
func (m *Manager) attend(ctx context.Context, h *job.Handle, seen *progress, r runner, look func() (over bool, err error)) error {
	running, stop := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- r.Run(running) }()
	var saved time.Time
	for {
		next, goal := r.Position()
		now := m.cfg.Clock.Now()
		seen.note(now, uint64(next), uint64(goal))
		over, err := false, error(nil)
		if now.Sub(saved) >= saveEvery {
			saved = now
			err = h.Save(ctx, nil, uint64(next), uint64(goal))
		}
		if err == nil {
			over, err = look()
		}
		if over || err != nil {
			stop()
			if failed := <-ended; err == nil {
				err = failed
			}
			return err
		}
		select {
		case err := <-ended:
			stop()
			if err == nil {
				err = ctx.Err()
			}
			return err
		default:
			m.cfg.House.Wait(ctx)
		}
	}
}

// runner is what Replay and BaseReplay have in common.
type runner interface {
	Run(ctx context.Context) error
	Position() (next, goal commitlog.Offset)
}

// precede notes, before a swap, whose place the epoch takes.
func (m *Manager) precede(ctx context.Context, at place) error {
	live, err := m.cfg.House.Live(at.space)
	if err != nil {
		return err
	}
	return m.change(ctx, at.space, at.epoch, func(e *Epoch) error {
		e.Former = live
		return nil
	})
}

// holds notes that an epoch has caught up, and reports whether it still is to
// wait for somebody's word.
func (m *Manager) holds(ctx context.Context, at place) (waits bool, err error) {
	err = m.change(ctx, at.space, at.epoch, func(e *Epoch) error {
		if waits = e.Hold; waits {
			e.Ready = m.cfg.Clock.Now()
		}
		return nil
	})
	return waits, err
}

// hold pauses the job of an epoch that has caught up.
func (m *Manager) hold(ctx context.Context, h *job.Handle, at place) error {
	if err := m.cfg.Jobs().Pause(ctx, h.ID()); err != nil {
		return err
	}
	ctx = context.WithoutCancel(ctx) // which the pause has ended
	e, err := m.epoch(ctx, at.space, at.epoch)
	if err != nil || e.Hold {
		return err
	}
	return m.cfg.Jobs().Resume(ctx, h.ID()) // the word came just before
}

// settle does what is to be done once an epoch is live. It may run again.
func (m *Manager) settle(ctx context.Context, at place) error {
	now := m.cfg.Clock.Now()
	former := uint32(0)
	err := m.change(ctx, at.space, at.epoch, func(e *Epoch) error {
		if e.Swapped.IsZero() {
			e.Swapped = now
		}
		e.Hold = false
		now, former = e.Swapped, e.Former
		return nil
	})
	if err != nil {
		return err
	}
	err = m.change(ctx, at.space, former, func(e *Epoch) error {
		if e.Replaced.IsZero() {
			e.Replaced, e.Keep = now, now.Add(m.cfg.Retention)
		}
		return nil
	})
	if err != nil {
		return err
	}
	m.expire()
	// What the former epoch had still to tell is part of what this one has.
	err = m.cfg.Jobs().Cancel(ctx, reconcileOf(at.space, former))
	if err != nil && !fault.Is(err, fault.NotFound) && !fault.Is(err, fault.Conflict) {
		return err
	}
	return m.cfg.House.Reconcile(ctx, at.space, reconcileOf(at.space, at.epoch))
}

// drop is the work of a job of DropKind.
func (m *Manager) drop(ctx context.Context, h *job.Handle) error {
	var p params
	if err := h.Params(&p); err != nil {
		return err
	}
	live, err := m.cfg.House.Live(p.Space)
	if err != nil {
		return err
	}
	base, err := m.base(ctx, p.Space)
	if err != nil {
		return err
	}
	if live == p.Epoch || base == p.Epoch {
		return fault.New(fault.Internal, "epoch %d of space %d is in use and is not dropped", p.Epoch, p.Space)
	}
	m.wait(ctx, place{p.Space, p.Epoch})
	return m.clear(ctx, p.Space, p.Epoch)
}

// clear removes all keys of an epoch that nobody writes any more.
func (m *Manager) clear(ctx context.Context, space, epoch uint32) error {
	all := kv.EpochRange(space, epoch)
	if ranges, ok := m.cfg.DB.(kv.RangeDeleter); ok {
		if err := ranges.DeleteRange(ctx, all.From, all.To); err != nil {
			return fmt.Errorf("drop epoch %d: %w", epoch, err)
		}
		return nil
	}
	const chunk = 10_000
	for {
		var keys [][]byte
		err := m.cfg.DB.View(ctx, func(r kv.Reader) error {
			keys = nil
			next := all
			next.Limit = chunk
			for pair, err := range r.Scan(next) {
				if err != nil {
					return err
				}
				keys = append(keys, append([]byte{}, pair.Key...))
			}
			return nil
		})
		if err != nil || len(keys) == 0 {
			return err
		}
		err = m.cfg.DB.Update(ctx, loopFence(space, epoch), kv.Lazy, func(tx kv.Tx) error {
			for _, k := range keys {
				if err := tx.Delete(k); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
}

// Run removes former epochs when their time is over, those of all spaces that
// there are, until ctx ends.
func (m *Manager) Run(ctx context.Context, spaces func() []uint32) error {
	for {
		var next time.Time
		for _, space := range spaces() {
			due, err := m.sweep(ctx, space)
			if err != nil && ctx.Err() == nil {
				return fmt.Errorf("former epochs of space %d: %w", space, err)
			}
			if !due.IsZero() && (next.IsZero() || due.Before(next)) {
				next = due
			}
		}
		reached, stop := (<-chan struct{})(nil), func() {}
		if !next.IsZero() {
			reached, stop = m.cfg.Clock.Until(next)
		}
		select {
		case <-reached:
		case <-m.wake:
		case <-ctx.Done():
			stop()
			return nil
		}
		stop()
	}
}

// expire has Run look again.
func (m *Manager) expire() {
	select {
	case m.wake <- struct{}{}:
	default:
	}
}

// sweep drops what has been kept long enough, and returns when to look again.
func (m *Manager) sweep(ctx context.Context, space uint32) (next time.Time, err error) {
	live, all, err := m.all(ctx, space)
	if err != nil {
		return next, err
	}
	if err := m.sweepBases(ctx, space, all); err != nil {
		return next, err
	}
	for _, e := range all {
		if e.Purpose == Base {
			continue
		}
		if e.Purpose == Simulation {
			due, err := m.sweepTrial(ctx, space, e)
			if err != nil {
				return next, err
			}
			if !due.IsZero() && (next.IsZero() || due.Before(next)) {
				next = due
			}
			continue
		}
		switch {
		case e.Number == live || !e.Dropped.IsZero():
		case e.Replaced.IsZero():
			j, err := m.cfg.Jobs().Get(ctx, jobOf(space, e.Number))
			if err == nil && j.State == job.Canceled { // and a crash came before the rest of it
				err = m.giveUp(ctx, space, e.Number)
			}
			if err != nil && !fault.Is(err, fault.NotFound) {
				return next, err
			}
		case e.Keep.After(m.cfg.Clock.Now()):
			if next.IsZero() || e.Keep.Before(next) {
				next = e.Keep
			}
		default:
			if err := m.giveUp(ctx, space, e.Number); err != nil {
				return next, err
			}
		}
	}
	return next, nil
}

// progress is how a replay that runs here comes along.
type progress struct {
	over chan struct{} // closed when it has ended

	mu         sync.Mutex
	done, goal uint64
	rate       float64
	since      time.Time
	from       uint64
	waits      string // what the last step waits for, empty before it
}

// wait notes what the last step waits for, and reports whether that is new.
func (p *progress) wait(text string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	is := p.waits != text
	p.waits = text
	return is
}

func (p *progress) waiting() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.waits
}

// window is over how long the rate is taken.
const window = 10 * time.Second

func (p *progress) note(now time.Time, done, goal uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.done, p.goal = done, goal
	if p.since.IsZero() {
		p.since, p.from = now, done
	}
	took := now.Sub(p.since)
	if took < time.Second {
		return
	}
	p.rate = float64(done-p.from) / took.Seconds()
	if took >= window {
		p.since, p.from = now, done
	}
}

func (p *progress) read() (done, goal uint64, rate float64, left time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.rate > 0 && p.goal > p.done {
		left = time.Duration(float64(p.goal-p.done) / p.rate * float64(time.Second))
	}
	return p.done, p.goal, p.rate, left
}

func (m *Manager) enter(at place) *progress {
	m.mu.Lock()
	defer m.mu.Unlock()
	p := &progress{over: make(chan struct{})}
	m.running[at] = p
	return p
}

func (m *Manager) leave(at place) {
	m.mu.Lock()
	defer m.mu.Unlock()
	close(m.running[at].over)
	delete(m.running, at)
}

func (m *Manager) progressOf(at place) *progress {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.running[at]
}

// wait waits until no replay into the epoch runs here.
func (m *Manager) wait(ctx context.Context, at place) {
	if p := m.progressOf(at); p != nil {
		select {
		case <-p.over:
		case <-ctx.Done():
		}
	}
}
