package erasure

import (
	"context"
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

// Kind is the kind of the job that completes the erasures of a space.
const Kind = "erasure"

// The settings unless a server is told otherwise.
const (
	// DefaultGather is how long the job waits for more erasures before it
	// begins: it reads every block, for one of them or for a thousand.
	DefaultGather = time.Hour
	// DefaultDeadline is within what time an erasure is to be complete.
	DefaultDeadline = 7 * 24 * time.Hour
)

// Config is what Erasures are made of. All fields are required but Gather and
// Deadline.
type Config struct {
	DB       kv.DB
	Clock    clock.Clock
	Logger   *slog.Logger
	Archive  *archive.Archive
	Rooms    Rooms
	Spaces   func() []uint32
	Live     func(space uint32) (epoch uint32, ok bool)
	Resolved func(space uint32) (commitlog.Replacer, error) // the log itself, in which nothing is hidden
	// Hash stands for a text, by a key of this server.
	Hash     func(text []byte) (string, error)
	Gather   time.Duration
	Deadline time.Duration
}

// Erasures completes erasures. It is safe for concurrent use.
type Erasures struct {
	cfg  Config
	wake chan struct{}

	mu   sync.Mutex
	now  map[uint32]bool // spaces whose erasures somebody waits for
	ends chan struct{}   // closed and replaced when an erasure is complete
}

// New returns the erasures of a server.
func New(cfg Config) *Erasures {
	if cfg.Gather <= 0 {
		cfg.Gather = DefaultGather
	}
	if cfg.Deadline <= 0 {
		cfg.Deadline = DefaultDeadline
	}
	cfg.Gather = min(cfg.Gather, cfg.Deadline/2)
	return &Erasures{cfg: cfg, wake: make(chan struct{}, 1), now: map[uint32]bool{}, ends: make(chan struct{})}
}

// Deadline returns within what time erasures are to be complete.
func (e *Erasures) Deadline() time.Duration { return e.cfg.Deadline }

// Passed tells that an erasure of a space has passed the loop.
func (e *Erasures) Passed(uint32) { e.look() }

// Now has the erasures of a space completed without waiting for more.
func (e *Erasures) Now(space uint32) {
	e.mu.Lock()
	e.now[space] = true
	e.mu.Unlock()
	e.look()
}

func (e *Erasures) look() {
	select {
	case e.wake <- struct{}{}:
	default:
	}
}

// Run starts the jobs that complete erasures, until ctx ends, which is no
// error.
func (e *Erasures) Run(ctx context.Context, jobs *job.Jobs) error {
	for {
		next, err := e.startDue(ctx, jobs)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			e.cfg.Logger.Error("the erasures of a space could not be begun and will be tried again", "error", err)
			next = e.cfg.Clock.Now().Add(time.Minute)
		}
		var reached <-chan struct{}
		stop := func() {}
		if !next.IsZero() {
			reached, stop = e.cfg.Clock.Until(next)
		}
		select {
		case <-reached:
		case <-e.wake:
		case <-ctx.Done():
		}
		stop()
	}
}

// startDue starts the jobs of the spaces whose erasures are to begin, and
// returns when the next are.
func (e *Erasures) startDue(ctx context.Context, jobs *job.Jobs) (next time.Time, err error) {
	now := e.cfg.Clock.Now()
	for _, space := range e.cfg.Spaces() {
		list, err := e.waiting(ctx, space)
		if err != nil {
			return next, err
		}
		if len(list) == 0 {
			continue
		}
		e.mu.Lock()
		due := e.now[space]
		e.mu.Unlock()
		begin := time.UnixMilli(list[0].At).Add(e.cfg.Gather)
		for _, x := range list {
			due = due || x.Receipt != nil // begun, and then interrupted
			if over := now.Sub(time.UnixMilli(x.At)); over > e.cfg.Deadline {
				e.cfg.Logger.Error("an erasure is not complete within the deadline", "space", space, "offset", x.Offset, "since", over)
			}
		}
		if !due && begin.After(now) {
			if next.IsZero() || begin.Before(next) {
				next = begin
			}
			continue
		}
		if err := jobs.Start(ctx, Kind, JobID(space), params{Space: space}); err != nil {
			return next, err
		}
		// It looks again for those that come while it works.
	}
	return next, nil
}

// waiting returns the erasures of a space that are not complete.
func (e *Erasures) waiting(ctx context.Context, space uint32) (list []*archive.Erasure, err error) {
	err = e.cfg.DB.View(ctx, func(r kv.Reader) error {
		all, err := archive.Erasures(r, space)
		for _, x := range all {
			if !x.Done() {
				list = append(list, x)
			}
		}
		return err
	})
	return list, err
}

// List returns the erasures of a space, the oldest first.
func (e *Erasures) List(ctx context.Context, space uint32) (list []*archive.Erasure, err error) {
	err = e.cfg.DB.View(ctx, func(r kv.Reader) error {
		list, err = archive.Erasures(r, space)
		return err
	})
	return list, err
}

// Get returns an erasure by the offset of its command, or fault.NotFound.
func (e *Erasures) Get(ctx context.Context, space uint32, at commitlog.Offset) (x *archive.Erasure, err error) {
	err = e.cfg.DB.View(ctx, func(r kv.Reader) error {
		x, err = archive.ErasureAt(r, space, at)
		return err
	})
	if err == nil && x == nil {
		err = fault.New(fault.NotFound, "there is no erasure %d in this space", at)
	}
	return x, err
}

// Wait returns once an erasure is complete, or with the context's error.
func (e *Erasures) Wait(ctx context.Context, space uint32, at commitlog.Offset) (*archive.Erasure, error) {
	for {
		e.mu.Lock()
		ends := e.ends
		e.mu.Unlock()
		x, err := e.Get(ctx, space, at)
		if err != nil || x.Done() {
			return x, err
		}
		select {
		case <-ends:
		case <-ctx.Done():
			return x, fault.Wrap(fault.Unavailable, ctx.Err())
		}
	}
}

// ended tells those who wait that erasures are complete.
func (e *Erasures) ended() {
	e.mu.Lock()
	defer e.mu.Unlock()
	close(e.ends)
	e.ends = make(chan struct{})
}
