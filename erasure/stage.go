package erasure

import (
	"context"
	"log/slog"

	"kith/archive"
	"kith/commitlog"
	"kith/event"
	"kith/kv"
	"kith/pipeline"
)

// Whom is whom an erasure erases.
type Whom struct {
	// Families are the profiles, each with all that were ever merged into it,
	// the survivor first.
	Families [][]event.ProfileID
	// Identifiers are all that these ever had, and those that were named.
	Identifiers []event.Identifier
}

// Profiles returns all ids of all families.
func (w *Whom) Profiles() (all []event.ProfileID) {
	for _, family := range w.Families {
		all = append(all, family...)
	}
	return all
}

// Rooms is what an erasure needs of the rooms that derive something.
type Rooms interface {
	// Whom finds the profiles that are named, and those that have the
	// identifiers, in an epoch. Unknown ones are nobody.
	Whom(r kv.Reader, space, epoch uint32, profiles []event.ProfileID, ids []event.Identifier) (Whom, error)
	// Forget removes all that is derived of them in the batch's epoch, and
	// what destinations were told of them if the epoch is live. The events and
	// their history stay.
	Forget(b *pipeline.Batch, w Whom) error
	// Sweep takes them out of everything that is kept of a space beside its
	// logs, its archive and its epochs: objects, quarantine, dead letters,
	// samples. mask tells who and what they are. It may be done again.
	Sweep(ctx context.Context, space uint32, mask *archive.Mask, blocked []archive.Blocked) error
	// Uploads returns how many imports of a space are unfinished, whose files may
	// name anybody.
	Uploads(ctx context.Context, space uint32) (int, error)
	// Carried reports whether an epoch that is the base, or live, may hold values
	// of theirs that events have set which were trimmed since: in the traits of
	// others.
	Carried(ctx context.Context, space uint32, mask *archive.Mask) (bool, error)
	// Redact takes these values out of both, and has nothing left of the other
	// epochs. It may be done again.
	Redact(ctx context.Context, space uint32, mask *archive.Mask) error
	// Revise has profiles of a space worked out again, of whom events were
	// redacted, and returns when they are; left says what is left to a rebuild.
	// The ids are those that they had when the events passed; the command is
	// that of an erasure whose work goes on.
	Revise(ctx context.Context, space uint32, command commitlog.Offset, profiles []event.ProfileID) (left string, err error)
}

// Stage carries erase commands out; it is the last door of the row. It serves
// all spaces and is safe for concurrent use.
type Stage struct {
	rooms   Rooms
	archive *archive.Archive
	logger  *slog.Logger
	passed  func(space uint32) // after the commit of an erasure in a live epoch
}

// NewStage returns the stage. passed hears of each space that has an erasure
// to be completed; it must be quick.
func NewStage(rooms Rooms, past *archive.Archive, logger *slog.Logger, passed func(space uint32)) *Stage {
	return &Stage{rooms: rooms, archive: past, logger: logger, passed: passed}
}

// Name returns "erasure".
func (s *Stage) Name() string { return "erasure" }

// Begin starts a pass over a batch.
func (s *Stage) Begin(b *pipeline.Batch) (pipeline.Pass, error) { return &pass{s, b}, nil }

type pass struct {
	stage *Stage
	batch *pipeline.Batch
}

// Finish has nothing to do: what there is to write is written at once.
func (p *pass) Finish() error { return nil }

// Handle carries an erase command out. The loop gives it a transaction of its
// own, so what it removes no stage holds in memory.
func (p *pass) Handle(r *pipeline.Record) error {
	if r.Command == nil || r.Command.Erase == nil || r.Command.Erase.Receipt != "" {
		return nil
	}
	b, s := p.batch, p.stage
	profiles, ids := named(r.Command.Erase)
	if !b.Live { // a rebuild knows what was erased when the command passed first
		before, err := archive.ErasureAt(b.Tx, b.Space, r.Offset)
		if err != nil {
			return err
		}
		if before != nil {
			ids = append(ids, before.Identifiers...)
		}
	}
	whom, err := s.rooms.Whom(b.Tx, b.Space, b.Epoch, profiles, ids)
	if err != nil {
		return err
	}
	if err := s.rooms.Forget(b, whom); err != nil {
		return err
	}
	if !b.Live {
		return nil
	}
	for _, family := range whom.Families {
		b.Emit(pipeline.Output{At: r.At, Profile: family[0], Change: &pipeline.Change{Kind: pipeline.ProfileErased, Cause: r.ID}})
	}
	e := &archive.Erasure{
		Offset: r.Offset, Resolved: b.Resolved, Epoch: b.Epoch, At: r.At, By: r.Command.By, Note: r.Command.Note,
		Persons: len(whom.Families), Profiles: whom.Profiles(), Identifiers: whom.Identifiers,
	}
	if err := s.archive.Erase(b.Tx, b.Space, e); err != nil {
		return err
	}
	space := b.Space
	b.AfterCommit(func() {
		if err := s.archive.Hide(context.Background(), space, e); err != nil {
			// Readers that have not begun yet read it from the store.
			s.logger.Error("an erasure could not be hidden from readers at once", "space", space, "offset", commitlog.Offset(e.Offset), "error", err)
		}
		s.passed(space)
	})
	return nil
}

// named returns whom a command names.
func named(e *event.Erase) (profiles []event.ProfileID, ids []event.Identifier) {
	for _, text := range e.Profiles {
		if p, err := event.ParseProfileID(text); err == nil { // it was checked when it was ordered
			profiles = append(profiles, p)
		}
	}
	for _, x := range e.Identifiers {
		ids = append(ids, x.Identifier())
	}
	return profiles, ids
}
