package rebuild

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"kith/clock"
	"kith/commitlog"
	"kith/fault"
	"kith/job"
	"kith/kv"
)

// The kinds of job.
const (
	Kind     = "rebuild"      // replays, and swaps
	DropKind = "rebuild.drop" // removes what is left of an epoch
	BaseKind = "base"         // advances the base
)

// DefaultRetention is how long an epoch that was replaced is kept.
const DefaultRetention = 7 * 24 * time.Hour

// House is what rebuilds need of the server.
type House interface {
	// Live returns the epoch of a space that everybody reads. It fails with
	// fault.NotFound for an unknown space.
	Live(space uint32) (uint32, error)
	// Rules returns by which rules the live epoch was made, which a rebuild goes
	// on with unless it is told otherwise, and the configuration in force.
	Rules(ctx context.Context, space uint32) (mode Mode, snapshot, current uint64, err error)
	// Prepare writes what an epoch begins with, before its first record, or before
	// the one at which the base stood that it is a copy of. It may run again.
	Prepare(ctx context.Context, space uint32, e *Epoch) error
	// Open puts together a replay into an epoch, from where it was left. It does
	// not run yet.
	Open(ctx context.Context, space, epoch uint32) (Replay, error)
	// Base returns the epoch that stands at the horizon of a space, and where that
	// is; zero while nothing was trimmed.
	Base(r kv.Reader, space uint32) (epoch uint32, horizon commitlog.Offset, err error)
	// Position returns which record comes next in an epoch.
	Position(r kv.Reader, space, epoch uint32) (commitlog.Offset, error)
	// Computing reports whether an epoch reads the past for what is computed of
	// it.
	Computing(r kv.Reader, space, epoch uint32) (bool, error)
	// Alike fails with fault.Conflict when two epochs go by different rules.
	Alike(r kv.Reader, space, epoch, other uint32) error
	// Since returns the first record of a space that was appended at an instant
	// or later, and where the live loop stands if there is none.
	Since(ctx context.Context, space uint32, at time.Time) (commitlog.Offset, error)
	// OpenBase puts together a replay that ends at a record, of an epoch that is
	// to be the base.
	OpenBase(ctx context.Context, space uint32, e *Epoch) (BaseReplay, error)
	// Reconcile starts, unless it runs, the job of that id that compares what
	// destinations were told with the live epoch.
	Reconcile(ctx context.Context, space uint32, id string) error
	// Wait returns after a moment of the machine, or when ctx ends.
	Wait(ctx context.Context)
}

// Replay is a replay into an epoch that is not live.
type Replay interface {
	// Run replays, and goes on with what comes, until ctx ends, which is no
	// error, or until the epoch is live.
	Run(ctx context.Context) error
	// Position returns which record of the raw log comes next, and where the
	// live loop is.
	Position() (next, live commitlog.Offset)
	// Ready reports whether the replay is so close behind, and nothing is being
	// computed beside it or beside the live loop, that a swap is a moment.
	Ready(ctx context.Context) (bool, error)
	// Swap makes the epoch the live one, and says for how long the loop of the
	// space stood, and how many records the replay had to read meanwhile. It
	// fails with fault.Unavailable when it did not work out this time; then
	// nothing has changed. Once it has happened it returns nil, also when ctx
	// has ended.
	Swap(ctx context.Context) (pause time.Duration, behind uint64, err error)
}

// BaseReplay is a replay into the epoch that is to be the base.
type BaseReplay interface {
	// Run replays up to its end and waits there until ctx ends, which is no error.
	Run(ctx context.Context) error
	// Position returns which record comes next, and the end.
	Position() (next, end commitlog.Offset)
	// Advance makes the epoch the base, and moves the horizon to where it stands.
	// It fails with fault.Unavailable when something is in the way for now, and
	// with ErrOther when the epoch was made by other rules than the live one by
	// now, so that it has to begin again; then nothing has changed. Once it has
	// happened it returns nil.
	Advance(ctx context.Context) error
}

// Config is what a Manager is made of. All fields but Advanced are required.
type Config struct {
	DB     kv.DB
	House  House
	Lab    Laboratory
	Jobs   func() *job.Jobs // that know the kinds of this package
	Clock  clock.Clock
	Logger *slog.Logger
	Engine string // the version of kith
	// Retention is how long an epoch that was replaced is kept.
	Retention time.Duration
	// Advanced, if there is one, is called after the horizon of a space has moved.
	// It must not block.
	Advanced func(space uint32)
}

// Manager keeps the epochs of all spaces. It is safe for concurrent use.
type Manager struct {
	cfg Config

	mu      sync.Mutex
	running map[place]*progress
	wake    chan struct{} // holds one when there may be an epoch whose time is over
}

type place struct{ space, epoch uint32 }

// New returns a Manager. Its Run is to be run, where loops run.
func New(cfg Config) *Manager {
	return &Manager{cfg: cfg, running: map[place]*progress{}, wake: make(chan struct{}, 1)}
}

// Kinds returns the kinds of job of this package.
func (m *Manager) Kinds() []job.Kind {
	return []job.Kind{{Name: Kind, Run: m.rebuild}, {Name: DropKind, Run: m.drop}, {Name: TrialKind, Run: m.try}, {Name: BaseKind, Run: m.advance}}
}

func jobOf(space, epoch uint32) string  { return fmt.Sprintf("rebuild/%d/%d", space, epoch) }
func dropOf(space, epoch uint32) string { return fmt.Sprintf("rebuild.drop/%d/%d", space, epoch) }

func reconcileOf(space, epoch uint32) string { return fmt.Sprintf("reconcile/%d/%d", space, epoch) }

type params struct {
	Space uint32 `json:"space"`
	Epoch uint32 `json:"epoch"`
}

// Request is what a rebuild is asked for.
type Request struct {
	Rules Mode // empty: as the live epoch was made
	Note  string
	Hold  bool // do not swap before somebody says so
}

// maxNote bounds a note, in bytes.
const maxNote = 2000

// Start starts a rebuild of a space. There is one at a time: fault.Conflict.
func (m *Manager) Start(ctx context.Context, space uint32, q Request) (*Status, error) {
	if len(q.Note) > maxNote {
		return nil, fault.Field("note", "a note has at most %d bytes", maxNote)
	}
	live, err := m.cfg.House.Live(space)
	if err != nil {
		return nil, err
	}
	mode, snapshot, current, err := m.cfg.House.Rules(ctx, space)
	if err != nil {
		return nil, err
	}
	switch q.Rules {
	case "":
	case Recorded:
		mode, snapshot = Recorded, 0
	case Current:
		mode, snapshot = Current, current
	default:
		return nil, fault.Field("rules", "%q: want %q, each event by the rules of its time, or %q, today's rules from the first event on", q.Rules, Recorded, Current)
	}
	e := &Epoch{
		Purpose: Rebuild, Engine: m.cfg.Engine, Created: m.cfg.Clock.Now(), Rules: mode, Snapshot: snapshot, Note: q.Note, Hold: q.Hold,
	}
	if err := m.add(ctx, space, live, e, func(all []*Epoch) error { return m.vacant(ctx, space, all) }); err != nil {
		return nil, err
	}
	if err := m.cfg.Jobs().Start(ctx, Kind, jobOf(space, e.Number), params{space, e.Number}); err != nil {
		return nil, err
	}
	return m.Get(ctx, space, e.Number)
}

// vacant refuses a second rebuild beside one that has not ended.
func (m *Manager) vacant(ctx context.Context, space uint32, all []*Epoch) error {
	for _, e := range all {
		if e.Purpose.beside() || !e.Dropped.IsZero() {
			continue
		}
		s, err := m.status(ctx, space, e)
		if err != nil {
			return err
		}
		if s.State.underWay() {
			return fault.New(fault.Conflict, "rebuild %d of this space is %s: wait for it, or cancel it first", e.Number, s.State)
		}
	}
	return nil
}

// Pause stops a rebuild where it is until Resume.
func (m *Manager) Pause(ctx context.Context, space, epoch uint32) error {
	if _, err := m.under(ctx, space, epoch); err != nil {
		return err
	}
	return m.cfg.Jobs().Pause(ctx, jobOf(space, epoch))
}

// Resume lets a rebuild go on that is paused, has failed, or waits for the
// swap; the last goes on waiting.
func (m *Manager) Resume(ctx context.Context, space, epoch uint32) error {
	s, err := m.under(ctx, space, epoch)
	if err != nil {
		return err
	}
	if s.State == Failed {
		return m.cfg.Jobs().Start(ctx, Kind, jobOf(space, epoch), params{space, epoch})
	}
	return m.cfg.Jobs().Resume(ctx, jobOf(space, epoch))
}

// Swap lets a rebuild that waits for it take the place of the live epoch, once
// it has caught up with what has come since.
func (m *Manager) Swap(ctx context.Context, space, epoch uint32) error {
	if _, err := m.under(ctx, space, epoch); err != nil {
		return err
	}
	err := m.change(ctx, space, epoch, func(e *Epoch) error {
		e.Hold = false
		return nil
	})
	if err != nil {
		return err
	}
	return m.Resume(ctx, space, epoch)
}

// SwapBack makes the epoch live again that was replaced last: it is replayed
// from where it stood, and swapped as a rebuild is.
func (m *Manager) SwapBack(ctx context.Context, space uint32, note string) (*Status, error) {
	live, all, err := m.all(ctx, space)
	if err != nil {
		return nil, err
	}
	if err := m.vacant(ctx, space, all); err != nil {
		return nil, err
	}
	var back *Epoch
	for _, e := range all {
		if e.Number != live && e.Purpose != Base && e.kept() && (back == nil || e.Replaced.After(back.Replaced)) {
			back = e
		}
	}
	if back == nil {
		return nil, fault.New(fault.NotFound, "no former state of this space is kept that could be swapped back to")
	}
	if err := m.reaches(ctx, space, back); err != nil {
		return nil, err
	}
	err = m.change(ctx, space, back.Number, func(e *Epoch) error {
		e.Replaced, e.Keep, e.Swapped, e.Ready, e.Pause, e.Behind = time.Time{}, time.Time{}, time.Time{}, time.Time{}, 0, 0
		e.Hold, e.Note = false, note
		e.Created = m.cfg.Clock.Now()
		return nil
	})
	if err != nil {
		return nil, err
	}
	// Its last job may stand paused where it was swapped.
	if err := m.cfg.Jobs().Cancel(ctx, jobOf(space, back.Number)); err != nil && !fault.Is(err, fault.NotFound) && !fault.Is(err, fault.Conflict) {
		return nil, err
	}
	if err := m.cfg.Jobs().Start(ctx, Kind, jobOf(space, back.Number), params{space, back.Number}); err != nil {
		return nil, err
	}
	return m.Get(ctx, space, back.Number)
}

// Cancel gives up a rebuild, or a former epoch before its time: what there is
// of it is removed. The live epoch is refused: fault.Conflict.
func (m *Manager) Cancel(ctx context.Context, space, epoch uint32) error {
	live, err := m.cfg.House.Live(space)
	if err != nil {
		return err
	}
	if epoch == live {
		return fault.New(fault.Conflict, "%d is the live state of this space", epoch)
	}
	if _, err := m.swappable(ctx, space, epoch); err != nil {
		return err
	}
	if err := m.cfg.Jobs().Cancel(ctx, jobOf(space, epoch)); err != nil && !fault.Is(err, fault.NotFound) && !fault.Is(err, fault.Conflict) {
		return err
	}
	return m.giveUp(ctx, space, epoch)
}

// giveUp has an epoch removed, unless it has become the live one meanwhile.
func (m *Manager) giveUp(ctx context.Context, space, epoch uint32) error {
	m.wait(ctx, place{space, epoch})
	if live, err := m.cfg.House.Live(space); err != nil || live == epoch {
		return err // it was swapped just before it could be canceled
	}
	err := m.change(ctx, space, epoch, func(e *Epoch) error {
		if e.Dropped.IsZero() {
			e.Dropped = m.cfg.Clock.Now()
		}
		return nil
	})
	if err != nil {
		return err
	}
	return m.cfg.Jobs().Start(ctx, DropKind, dropOf(space, epoch), params{space, epoch})
}

// under returns the status of a rebuild that has not ended.
func (m *Manager) under(ctx context.Context, space, epoch uint32) (*Status, error) {
	s, err := m.Get(ctx, space, epoch)
	if err == nil && !s.State.underWay() && s.State != Failed {
		err = fault.New(fault.Conflict, "rebuild %d is %s", epoch, s.State)
	}
	return s, err
}
