package computation

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"

	"kith/archive"
	"kith/commitlog"
	"kith/event"
	"kith/fault"
	"kith/kv"
	"kith/pipeline"
)

// Loop is what a Builder needs of a space's loop.
type Loop interface {
	// Do has the loop run fn in a transaction of its own between two batches;
	// see pipeline.Loop.
	Do(ctx context.Context, fn pipeline.Work) error
}

// History is what a Builder needs of the archive.
type History interface {
	// Scan calls fn with the admitted events of a range of offsets, in order,
	// each with the profile it had when it passed; see archive.Archive. Two
	// scans of the same range give the same.
	Scan(ctx context.Context, space, epoch uint32, from, to commitlog.Offset, want func(*event.Head) bool, fn func(archive.Entry) error) error
}

// Profiles lists the ids of people, in the order of their ids: at most limit
// behind after, none at the end. Those merged away may be among them.
type Profiles func(r kv.Reader, space, epoch uint32, after event.ProfileID, limit int) ([]event.ProfileID, error)

// BuilderConfig is what a Builder is made of. All fields but Live are required.
type BuilderConfig struct {
	DB       kv.DB // only read
	Loop     Loop
	History  History
	Profiles Profiles
	Engine   *Engine // the stage in that loop's row
	Space    uint32
	Epoch    uint32
	Logger   *slog.Logger
	// Live is called each time builds that became live have announced their
	// members; it must be quick.
	Live func()
}

// Builder makes builds live: it joins their history, has every profile
// evaluated, announces what was found, and clears away what is no longer
// needed. It runs beside the loop; all it writes, the loop writes for it, in
// steps of at most 1,000 profiles, each with the place it has come to. So it
// goes on after a crash where it was, and joins nothing twice.
type Builder struct {
	cfg   BuilderConfig
	keys  keys
	place place
	step  int // profiles that one transaction of the loop visits
	parts int // cells that one segment of history fills before they are handed over
}

// NewBuilder returns a Builder. There is one for each loop.
func NewBuilder(cfg BuilderConfig) *Builder {
	return &Builder{
		cfg: cfg, keys: keys{cfg.Space, cfg.Epoch}, place: place{cfg.Space, cfg.Epoch}, step: 1000, parts: 200_000,
	}
}

// cursor is how far the Builder has come with the task at hand.
type cursor struct {
	Task   task     `json:"task"`
	Builds []uint32 `json:"builds,omitempty"` // that the task is about
	// Of a join: the aggregates, everything from From to Done is joined; of Done
	// to End the profiles up to After are joined. To is where the join ends.
	Aggregates []uint32         `json:"aggregates,omitempty"`
	From       commitlog.Offset `json:"from,omitempty"`
	Done       commitlog.Offset `json:"done,omitempty"`
	End        commitlog.Offset `json:"end,omitempty"`
	To         commitlog.Offset `json:"to,omitempty"`
	// Of a walk: After is the last profile visited; of a walk over members,
	// Build is the build whose members are being visited, and of a sweep Shelf
	// the last one seen.
	After event.ProfileID `json:"after,omitzero"`
	// Of a settling: the newest creation of a profile that is walked to, in
	// milliseconds. Those who came later were evaluated when they came.
	Until int64  `json:"until,omitempty"`
	Build uint32 `json:"build,omitempty"`
	Shelf uint32 `json:"shelf,omitempty"`
	Count int    `json:"count,omitempty"` // profiles visited, for people
}

// task is what the Builder does. The tasks of a group of builds follow each
// other.
type task string

const (
	taskJoin     task = "join"
	taskSettle   task = "settle"
	taskAnnounce task = "announce"
	taskRelease  task = "release"
	taskClear    task = "clear"
	taskSweep    task = "sweep"
)

// Run works until ctx ends, which is no error, or until the store is broken.
func (b *Builder) Run(ctx context.Context) error {
	wake := b.cfg.Engine.changed(b.place)
	for {
		busy, err := b.work(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return fmt.Errorf("computations of space %d: %w", b.cfg.Space, err)
		}
		if busy {
			continue
		}
		select {
		case <-wake:
		case <-ctx.Done():
			return nil
		}
	}
}

// work does the next piece of work, and reports whether there was one.
func (b *Builder) work(ctx context.Context) (bool, error) {
	reg, at, err := b.look(ctx)
	if err != nil {
		return false, err
	}
	switch at.Task {
	case taskJoin:
		return true, b.join(ctx, reg, at)
	case taskSettle:
		return true, b.settle(ctx, reg, at)
	case taskAnnounce:
		return true, b.announce(ctx, reg, at)
	case taskRelease:
		return true, b.release(ctx, reg, at)
	case taskClear:
		return true, b.clear(ctx, reg, at)
	case taskSweep:
		return true, b.sweep(ctx, reg, at)
	}
	return b.next(ctx, reg)
}

// look reads what there is to do and how far it has come.
func (b *Builder) look(ctx context.Context) (reg *registry, at *cursor, err error) {
	err = b.cfg.DB.View(ctx, func(r kv.Reader) error {
		g, err := b.cfg.Engine.graph(r, b.place)
		if err != nil {
			return err
		}
		reg = g.registry
		at, err = readCursor(r, b.keys)
		return err
	})
	return reg, at, err
}

func readCursor(r kv.Reader, k keys) (*cursor, error) {
	value, err := r.Get(k.cursor())
	if err != nil {
		return nil, err
	}
	at := &cursor{}
	if value != nil && (value[0] != cursorFormat || json.Unmarshal(value[1:], at) != nil) {
		return nil, errStored
	}
	return at, nil
}

// next takes up the next task.
func (b *Builder) next(ctx context.Context, reg *registry) (bool, error) {
	if gone := reg.in(leaving); len(gone) > 0 {
		return true, b.advance(ctx, nil, &cursor{Task: taskRelease, Builds: []uint32{gone[0].Number}})
	}
	if reg.uncounted() {
		return true, b.begin(ctx, numbers(reg.in(waiting)))
	}
	if old := reg.over(); len(old) > 0 {
		return true, b.advance(ctx, nil, &cursor{Task: taskClear, Builds: numbers(old)})
	}
	if reg.Litter {
		return true, b.advance(ctx, func(reg *registry) { reg.Litter = false }, &cursor{Task: taskSweep})
	}
	return false, nil
}

// uncounted reports whether a first computation waits for its turn.
func (r *registry) uncounted() bool {
	return len(r.in(waiting)) > 0 || slices.ContainsFunc(r.Aggregates, func(a *aggregate) bool { return !a.Whole })
}

// begin begins a first computation: of a group of builds, and of all that is
// counted and not whole. It reaches back to where the space's events begin at
// this moment, which stays there until the computation is over.
func (b *Builder) begin(ctx context.Context, group []uint32) error {
	at := &cursor{}
	err := b.cfg.Loop.Do(ctx, func(batch *pipeline.Batch, step func(*pipeline.Record) error) error {
		var h archive.Horizon
		look := func(r kv.Reader) (err error) {
			h, err = archive.HorizonOf(r, b.cfg.Space)
			return err
		}
		var err error
		if batch.Live {
			err = look(batch.Tx)
		} else { // the live loop writes it: whoever moves it looks whether this is under way
			err = b.cfg.DB.View(ctx, look)
		}
		if err != nil {
			return err
		}
		*at = cursor{Task: taskJoin, Builds: group, From: h.Offset, Done: h.Offset}
		err = step(&pipeline.Record{Work: rewrite(func(reg *registry) {
			for _, a := range reg.Aggregates {
				if !a.Whole {
					a.Depth = depth{h.Offset, h.At}
					at.Aggregates = append(at.Aggregates, a.Number)
					at.To = max(at.To, a.From)
				}
			}
			reg.Former = slices.DeleteFunc(reg.Former, func(x *build) bool { return x.Offset < h.Offset })
			reg.move(group, waiting, joining)
		})})
		if err != nil {
			return err
		}
		return b.write(batch.Tx, at)
	})
	if err == nil {
		b.cfg.Logger.Info("computing audiences", "space", b.cfg.Space, "audiences", len(group), "from", at.From, "to", at.To)
	}
	return err
}

func numbers(builds []*build) []uint32 {
	list := make([]uint32, len(builds))
	for i, b := range builds {
		list[i] = b.Number
	}
	return list
}

// move moves builds from one state to another; those that are no longer in the
// first stay where they are.
func (r *registry) move(builds []uint32, from, to state) {
	for _, n := range builds {
		if b := r.build(n); b != nil && b.State == from {
			b.State = to
		}
	}
}

// advance has the loop change the registry and set the cursor, in one commit.
// Either may be nil; a nil cursor ends the task.
func (b *Builder) advance(ctx context.Context, change rewrite, to *cursor) error {
	return b.cfg.Loop.Do(ctx, func(batch *pipeline.Batch, step func(*pipeline.Record) error) error {
		if change != nil {
			if err := step(&pipeline.Record{Work: change}); err != nil {
				return err
			}
		}
		return b.write(batch.Tx, to)
	})
}

func (b *Builder) write(tx kv.Tx, at *cursor) error {
	if at == nil {
		return tx.Delete(b.keys.cursor())
	}
	text, err := json.Marshal(at)
	if err != nil {
		return fault.New(fault.Internal, "place of a computation: %w", err)
	}
	return tx.Set(b.keys.cursor(), append([]byte{cursorFormat}, text...))
}

// visit has the loop lead a piece of work for each profile through the row,
// and set the cursor, in one commit; in two, when what comes of it is more than
// one transaction holds. The profiles are in the order of their ids, and the
// cursor is behind the last.
func (b *Builder) visit(ctx context.Context, profiles []event.ProfileID, work func(event.ProfileID) any, to *cursor) error {
	err := b.hand(ctx, profiles, work, to)
	half := len(profiles) / 2
	if half == 0 || !fault.Is(err, fault.Invalid) {
		return err
	}
	midway := *to
	midway.After = profiles[half-1]
	midway.Count -= len(profiles) - half
	if err := b.visit(ctx, profiles[:half], work, &midway); err != nil {
		return err
	}
	return b.visit(ctx, profiles[half:], work, to)
}

func (b *Builder) hand(ctx context.Context, profiles []event.ProfileID, work func(event.ProfileID) any, to *cursor) error {
	return b.cfg.Loop.Do(ctx, func(batch *pipeline.Batch, step func(*pipeline.Record) error) error {
		for _, p := range profiles {
			if err := step(&pipeline.Record{Work: work(p), Profile: p}); err != nil {
				return err
			}
		}
		return b.write(batch.Tx, to)
	})
}
