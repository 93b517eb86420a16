package retention

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"kith/archive"
	"kith/clock"
	"kith/commitlog"
	"kith/fault"
	"kith/job"
	"kith/kv"
)

// Kind is the kind of the job that trims a space behind its horizon.
const Kind = "trim"

// JobID returns the id of the job of a space.
func JobID(space uint32) string { return fmt.Sprintf("trim/%d", space) }

// hour is when the daily look is, in UTC.
const hour = 3

// Advance is how the job stands that leads the base on.
type Advance struct {
	Running bool
	Paused  bool
	Done    uint64 // records replayed, of Total
	Total   uint64
	Waits   string // what is in the way of the last step
	Error   string // why it failed last
}

// Base is what keeps of a space what the events before the horizon made.
type Base interface {
	// Advance has the base led to the first record of an instant or later, and
	// the horizon moved there. While that is under way already it goes on.
	Advance(ctx context.Context, space uint32, before time.Time) error
	// Advancing says how that stands.
	Advancing(ctx context.Context, space uint32) (Advance, error)
}

// Config is what a Retention is made of. All fields are required.
type Config struct {
	DB      kv.DB
	Clock   clock.Clock
	Logger  *slog.Logger
	Archive *archive.Archive
	Base    Base
	Jobs    func() *job.Jobs
	Spaces  func() []uint32
	// Keeps says how long a space keeps its events; zero: for ever.
	Keeps func(space uint32) time.Duration
	// Live is the epoch under whose fence a space is trimmed.
	Live func(space uint32) (fence kv.Fence, ok bool)
	// Holds says who still needs records or outputs from before an instant.
	Holds func(ctx context.Context, space uint32, before time.Time) ([]Hold, error)
	// Outputs returns the resolved log of a space, and the first output that is
	// still needed.
	Outputs func(ctx context.Context, space uint32) (log commitlog.Log, needed commitlog.Offset, err error)
	// Ranges are the keys of the logs that have been trimmed but not scrubbed.
	Ranges func(ctx context.Context, space uint32, of archive.Trimmed) ([]kv.Range, error)
}

// Retention trims the spaces of a server. It is safe for concurrent use.
type Retention struct {
	cfg  Config
	wake chan struct{}

	mu    sync.Mutex
	begun time.Time // when Run began; zero before
}

// New returns the retention of a server. Nothing happens before Run.
func New(cfg Config) *Retention {
	return &Retention{cfg: cfg, wake: make(chan struct{}, 1)}
}

// Advanced tells that the horizon of a space has moved.
func (r *Retention) Advanced(uint32) { r.look() }

func (r *Retention) look() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// Run looks once a day, and starts what is to be trimmed, until ctx ends, which
// is no error.
func (r *Retention) Run(ctx context.Context) error {
	r.mu.Lock()
	r.begun = r.cfg.Clock.Now()
	r.mu.Unlock()
	for {
		next, err := r.step(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			r.cfg.Logger.Error("the retention of a space could not be looked at and will be tried again", "error", err)
			next = r.cfg.Clock.Now().Add(time.Minute)
		}
		reached, stop := r.cfg.Clock.Until(next)
		select {
		case <-reached:
		case <-r.wake:
		case <-ctx.Done():
		}
		stop()
	}
}

// step does what is due, and returns when there is something to do next.
func (r *Retention) step(ctx context.Context) (next time.Time, err error) {
	now := r.cfg.Clock.Now()
	next = daily(now)
	for _, space := range r.cfg.Spaces() {
		run, err := r.last(ctx, space)
		if err != nil {
			return next, err
		}
		if due := r.due(run); r.cfg.Keeps(space) > 0 && !due.After(now) {
			if _, err := r.Now(ctx, space); err != nil {
				return next, err
			}
		}
		behind, err := r.behind(ctx, space)
		if err != nil {
			return next, err
		}
		if behind {
			if err := r.cfg.Jobs().Start(ctx, Kind, JobID(space), params{space}); err != nil {
				return next, err
			}
			if soon := now.Add(time.Minute); soon.Before(next) {
				next = soon // the horizon may move just when the job ends
			}
		}
	}
	return next, nil
}

// daily returns the first daily look after an instant.
func daily(after time.Time) time.Time {
	t := after.UTC()
	at := time.Date(t.Year(), t.Month(), t.Day(), hour, 0, 0, 0, time.UTC)
	if !at.After(t) {
		at = at.AddDate(0, 0, 1)
	}
	return at
}

// due returns when the look after a run is due.
func (r *Retention) due(run *Run) time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	after := r.begun
	if after.IsZero() {
		after = r.cfg.Clock.Now()
	}
	if run != nil {
		after = run.At
	}
	return daily(after)
}

func (r *Retention) last(ctx context.Context, space uint32) (run *Run, err error) {
	err = r.cfg.DB.View(ctx, func(reader kv.Reader) error {
		run, err = readRun(reader, space)
		return err
	})
	return run, err
}

// behind reports whether there is something to trim, or to scrub.
func (r *Retention) behind(ctx context.Context, space uint32) (behind bool, err error) {
	err = r.cfg.DB.View(ctx, func(reader kv.Reader) error {
		h, err := archive.HorizonOf(reader, space)
		if err != nil {
			return err
		}
		t, err := archive.TrimmedOf(reader, space)
		behind = t.Next < h.Offset || !t.Clean()
		return err
	})
	return behind, err
}

// Now looks how far the horizon of a space may move, and has the base led there.
// It fails with fault.Conflict for a space that keeps its events for ever.
func (r *Retention) Now(ctx context.Context, space uint32) (*Run, error) {
	keeps := r.cfg.Keeps(space)
	if keeps <= 0 {
		return nil, fault.New(fault.Conflict, "this space keeps its events for ever: give it a retention first, such as 90d")
	}
	now := r.cfg.Clock.Now()
	run := &Run{At: now.UTC(), Before: now.Add(-keeps).UTC()}
	asked := run.Before
	holds, err := r.cfg.Holds(ctx, space, asked)
	if err != nil {
		return nil, err
	}
	for _, h := range holds {
		if !h.Since.Before(asked) {
			continue
		}
		run.Holds = append(run.Holds, h)
		if h.Since.Before(run.Before) {
			run.Before = h.Since
		}
	}
	if err := r.cfg.Base.Advance(ctx, space, run.Before); err != nil {
		return nil, err
	}
	err = r.cfg.DB.Update(ctx, Fence(space), kv.Durable, func(tx kv.Tx) error { return writeRun(tx, space, run) })
	return run, err
}

// Status is how the retention of a space stands.
type Status struct {
	Keeps   time.Duration // zero: for ever
	Horizon archive.Horizon
	Trimmed archive.Trimmed
	Last    *Run      // nil: there was none
	Next    time.Time // zero: there will be none
	Advance Advance
	// Trimming says that the job behind the horizon is under way; Error why it
	// failed last.
	Trimming bool
	Error    string
}

// Done reports whether nothing is under way: the files hold nothing from before
// the horizon.
func (s *Status) Done() bool {
	return !s.Advance.Running && !s.Trimming && s.Trimmed.Next >= s.Horizon.Offset && s.Trimmed.Clean()
}

// Status returns how the retention of a space stands.
func (r *Retention) Status(ctx context.Context, space uint32) (*Status, error) {
	s := &Status{Keeps: r.cfg.Keeps(space)}
	var err error
	// Before the horizon, which the job moves just before it ends.
	if s.Advance, err = r.cfg.Base.Advancing(ctx, space); err != nil {
		return nil, err
	}
	err = r.cfg.DB.View(ctx, func(reader kv.Reader) (err error) {
		if s.Horizon, err = archive.HorizonOf(reader, space); err != nil {
			return err
		}
		if s.Trimmed, err = archive.TrimmedOf(reader, space); err != nil {
			return err
		}
		s.Last, err = readRun(reader, space)
		return err
	})
	if err != nil {
		return nil, err
	}
	if s.Keeps > 0 {
		s.Next = r.due(s.Last)
	}
	j, err := r.cfg.Jobs().Get(ctx, JobID(space))
	if fault.Is(err, fault.NotFound) {
		return s, nil
	}
	if err != nil {
		return nil, err
	}
	s.Trimming = j.State == job.Running
	if j.State == job.Failed {
		s.Error = j.Error
	}
	return s, nil
}
