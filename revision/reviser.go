package revision

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"

	"kith/archive"
	"kith/commitlog"
	"kith/computation"
	"kith/event"
	"kith/fault"
	"kith/identity"
	"kith/kv"
	"kith/pipeline"
)

// Loop is what a Reviser needs of a space's loop; see pipeline.Loop.
type Loop interface {
	// Do has the loop run fn in a transaction of its own.
	Do(ctx context.Context, fn pipeline.Work) error
	// Epoch is the epoch that the loop writes.
	Epoch() uint32
}

// Config is what a Reviser is made of. All fields are required but Base,
// Redacted and Limits.
type Config struct {
	DB kv.DB // only read: what a revision writes, the loops write
	// Loop returns the loop of a space, that of its live epoch.
	Loop      func(space uint32) (Loop, error)
	Archive   *archive.Archive
	Snapshots pipeline.Snapshots
	// Computation reads what there is to compute in the live epochs.
	Computation computation.Reader
	// Row gives fresh stages: those behind intake and before activation, their
	// profile and computation frozen, their identity given one collection.
	Row     func(identity.Given) []pipeline.Stage
	Scratch func() kv.DB // an empty store in memory
	// Base returns the epoch that stands at the horizon of a space, zero for none;
	// nil where nothing is ever trimmed.
	Base func(v kv.Reader, space uint32) (epoch uint32, err error)
	// Redacted returns the profiles some of whose events an erasure, of which
	// the command is at an offset, has changed; nil where nothing is erased.
	Redacted func(v kv.Reader, space uint32, command commitlog.Offset) ([]event.ProfileID, error)
	Logger   *slog.Logger
	Limits   Limits
}

// Reviser works out again what standing commands change of the past. It runs
// beside the loops, one for all spaces, and is safe for concurrent use.
type Reviser struct {
	cfg  Config
	wake chan struct{}
	// waits says that a revision waits until audiences have been computed.
	waits atomic.Bool

	mu    sync.Mutex
	moved chan struct{} // closed and replaced whenever a revision has come further
}

// New returns a Reviser.
func New(cfg Config) *Reviser {
	cfg.Limits = cfg.Limits.complete()
	return &Reviser{cfg: cfg, wake: make(chan struct{}, 1), moved: make(chan struct{})}
}

// Committed tells of the records of a commit of a loop: a standing command
// among them is to be looked at. It never blocks.
func (r *Reviser) Committed(records []*pipeline.Record) {
	due := r.waits.Load()
	for _, x := range records {
		due = due || x.Command != nil && x.Command.Standing()
	}
	if due {
		r.Wake()
	}
}

// Wake has the Reviser look for what is due. It never blocks.
func (r *Reviser) Wake() {
	select {
	case r.wake <- struct{}{}:
	default: // it will look anyway
	}
}

// Run works until ctx ends, which is no error, or until a store is broken.
// spaces gives the spaces that there are.
func (r *Reviser) Run(ctx context.Context, spaces func() []uint32) error {
	r.Wake()
	for {
		select {
		case <-r.wake:
		case <-ctx.Done():
			return nil
		}
		for _, space := range spaces() {
			err := r.look(ctx, space)
			if ctx.Err() != nil {
				return nil
			}
			if err != nil {
				return fmt.Errorf("revision in space %d: %w", space, err)
			}
		}
	}
}

// errWaits means that the revision waits: it is tried again after a commit.
var errWaits = errors.New("revision: audiences are being computed")

// errAgain means that the set has changed under the revision's hands.
var errAgain = errors.New("revision: the set has changed")

// maxAttempts is how often a set is begun anew before it is left to a rebuild.
const maxAttempts = 30

// look does what is due in a space.
func (r *Reviser) look(ctx context.Context, space uint32) error {
	r.waits.Store(false)
	for {
		loop, err := r.cfg.Loop(space)
		if err != nil {
			return nil // it runs elsewhere, or not yet
		}
		rests, due, err := r.due(ctx, space, loop.Epoch())
		if err != nil {
			return err
		}
		switch {
		case len(rests) > 0:
			err = r.reconcile(ctx, loop, space, rests[0])
		case len(due) > 0:
			err = r.revise(ctx, loop, space, due[0])
		default:
			return nil
		}
		r.move()
		switch {
		case errors.Is(err, errWaits):
			r.waits.Store(true)
			return r.missed(ctx, space)
		case fault.Is(err, fault.Unavailable) && ctx.Err() == nil && loop.Epoch() != r.epoch(space):
			continue // another loop has taken the place of this one
		case err != nil:
			return err
		}
	}
}

// missed looks once more whether what a revision waits for has come meanwhile:
// no commit would tell.
func (r *Reviser) missed(ctx context.Context, space uint32) error {
	loop, err := r.cfg.Loop(space)
	if err != nil {
		return nil
	}
	var s computation.Standing
	err = r.cfg.DB.View(ctx, func(v kv.Reader) (err error) {
		s, err = r.cfg.Computation.Standing(v, space, loop.Epoch())
		return err
	})
	if err == nil && s.Settled {
		r.Wake()
	}
	return err
}

func (r *Reviser) epoch(space uint32) uint32 {
	if loop, err := r.cfg.Loop(space); err == nil {
		return loop.Epoch()
	}
	return 0
}

// due returns the commands of which somebody is still to be looked at, and
// those that are to be worked out.
func (r *Reviser) due(ctx context.Context, space, epoch uint32) (rests, due []commitlog.Offset, err error) {
	err = r.cfg.DB.View(ctx, func(v kv.Reader) error {
		due = nil
		if rests, err = offsets(v, restStem(space, epoch)); err != nil {
			return err
		}
		list, err := identity.NewReader(v, space, epoch).Revisions()
		if err != nil {
			return err
		}
		for _, x := range list {
			s, err := read[State](v, stateKey(space, epoch, x.Offset), stateFormat)
			if err != nil {
				return err
			}
			if s == nil || s.Phase != NeedsRebuild || s.MaxEvents < r.cfg.Limits.MaxEvents || s.MaxBytes < r.cfg.Limits.MaxBytes {
				due = append(due, x.Offset)
			}
		}
		return nil
	})
	return rests, due, err
}

// revise works out one command.
func (r *Reviser) revise(ctx context.Context, loop Loop, space uint32, command commitlog.Offset) error {
	tasks, err := r.begin(ctx, space, loop.Epoch(), command)
	if err != nil {
		return err
	}
	for _, w := range tasks {
		if err = r.attempt(ctx, w, func(s *scratch) error { return r.swap(ctx, loop, w, s) }); err != nil {
			break
		}
	}
	var large tooLarge
	if errors.As(err, &large) {
		r.cfg.Logger.Warn("a command needs a rebuild", "space", space, "command", command, "reason", large.reason)
		state := State{Phase: NeedsRebuild, Reason: large.reason, MaxEvents: r.cfg.Limits.MaxEvents, MaxBytes: r.cfg.Limits.MaxBytes}
		return loop.Do(ctx, func(b *pipeline.Batch, _ func(*pipeline.Record) error) error {
			return write(b.Tx, stateKey(space, b.Epoch, command), stateFormat, state)
		})
	}
	return err
}

// task is the revision of one command, or of one that is only thought of, in
// one collection.
type task struct {
	space      uint32
	epoch      uint32
	command    commitlog.Offset
	collection string
	// ids are the identifiers that the command names, as it names them.
	ids []event.Identifier
	// profiles are those whose events an erasure has changed.
	profiles []event.ProfileID
	// more says that the other collection follows.
	more bool
	// thought is a command that is not ordered: it is tried.
	thought *identity.Standing
	// met are identifiers of which something has come out other than it was:
	// whoever met them belongs to the set.
	met map[event.Identifier]bool
}

// begin returns the tasks that the revision of a command is made of: one, or
// for an erasure one for each collection.
func (r *Reviser) begin(ctx context.Context, space, epoch uint32, command commitlog.Offset) (tasks []*task, err error) {
	err = r.cfg.DB.View(ctx, func(v kv.Reader) error {
		graph := identity.NewReader(v, space, epoch)
		list, err := graph.Standing()
		if err != nil {
			return err
		}
		for i := range list {
			if list[i].Offset != command {
				continue
			}
			w := newTask(space, epoch, command)
			if w.ids = named(list[i].Command, list); len(w.ids) > 0 {
				w.collection = w.ids[0].Collection
			}
			tasks = []*task{w}
			return nil
		}
		tasks, err = r.erased(v, graph, space, epoch, command)
		return err
	})
	return tasks, err
}

func newTask(space, epoch uint32, command commitlog.Offset) *task {
	return &task{space: space, epoch: epoch, command: command, collection: event.Users, met: map[event.Identifier]bool{}}
}

// erased returns the tasks after an erasure. Without anybody to look at there
// is one, which only takes back the note.
func (r *Reviser) erased(v kv.Reader, graph identity.Reader, space, epoch uint32, command commitlog.Offset) (tasks []*task, err error) {
	users, accounts := newTask(space, epoch, command), newTask(space, epoch, command)
	accounts.collection = event.Accounts
	if r.cfg.Redacted != nil {
		profiles, err := r.cfg.Redacted(v, space, command)
		if err != nil {
			return nil, err
		}
		for _, id := range profiles {
			p, err := graph.Frozen(id)
			switch {
			case err != nil:
				return nil, err
			case p == nil:
			case p.Collection == event.Accounts:
				accounts.profiles = append(accounts.profiles, id)
			default:
				users.profiles = append(users.profiles, id)
			}
		}
	}
	if len(accounts.profiles) == 0 {
		return []*task{users}, nil
	}
	users.more = true
	return []*task{users, accounts}, nil
}

// named returns the identifiers that a standing command is about: of a lift,
// those of what it lifts.
func named(c *event.Command, all []identity.Standing) (ids []event.Identifier) {
	switch {
	case c.Block != nil:
		return []event.Identifier{c.Block.Identifier()}
	case c.Separate != nil:
		for _, side := range [][]event.ExternalID{c.Separate.Left, c.Separate.Right} {
			for _, x := range side {
				ids = append(ids, x.Identifier())
			}
		}
	case c.Lift != nil:
		for i := range all {
			if uint64(all[i].Offset) == c.Lift.Offset && all[i].Command.Lift == nil {
				return named(all[i].Command, all)
			}
		}
	}
	return ids
}

// attempt works a task out, anew whenever the set has changed meanwhile, and
// calls use with the scratch that stands at the live loop's position, about.
func (r *Reviser) attempt(ctx context.Context, w *task, use func(*scratch) error) error {
	for range maxAttempts {
		s, err := r.workOut(ctx, w)
		if err == nil {
			err = use(s)
		}
		if s != nil {
			if closed := s.close(); err == nil {
				err = closed
			}
		}
		if !errors.Is(err, errAgain) {
			return err
		}
		if err := ctx.Err(); err != nil {
			return fault.Wrap(fault.Unavailable, err)
		}
	}
	return tooLarge{fmt.Sprintf("the profiles that it may change did not hold still in %d attempts", maxAttempts)}
}

// move tells those who wait that something has come further.
func (r *Reviser) move() {
	r.mu.Lock()
	defer r.mu.Unlock()
	close(r.moved)
	r.moved = make(chan struct{})
}
