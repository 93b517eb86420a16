package revision

import (
	"context"
	"fmt"
	"slices"

	"kith/archive"
	"kith/commitlog"
	"kith/computation"
	"kith/event"
	"kith/identity"
	"kith/kv"
	"kith/pipeline"
	"kith/workspace"
)

// scratch is a space in memory of which a set of profiles is all that there is.
// Its records have the offsets, its keys the epoch that they have in the store.
type scratch struct {
	db    kv.DB
	loop  *pipeline.Loop
	past  *past
	space uint32
	epoch uint32
	basis *basis
	at    pipeline.Position // of the live loop: how far the set is led

	collection string
	given      map[commitlog.Offset]event.ProfileID // of the other collection
	whose      map[commitlog.Offset]archive.Whose   // as worked out again
	led        int                                  // records of past that the loop has passed

	stop  context.CancelFunc
	ended chan error
	run   context.Context // ends when the loop does
}

// other returns the collection of a record's owners that is given.
func other(collection string) string {
	if collection == event.Users {
		return event.Accounts
	}
	return event.Users
}

// snapshots gives a scratch the configurations, which are not in its store.
type snapshots struct {
	from pipeline.Snapshots
	db   kv.DB
}

// At implements pipeline.Snapshots.
func (s snapshots) At(_ kv.Reader, n uint64) (found *workspace.Snapshot, err error) {
	err = s.db.View(context.Background(), func(r kv.Reader) error {
		found, err = s.from.At(r, n)
		return err
	})
	return found, err
}

// newScratch starts a scratch on a basis. prepare writes what its epoch begins
// with. The caller closes it.
func (r *Reviser) newScratch(ctx context.Context, w *task, b *basis, prepare func(kv.Tx) error) (*scratch, error) {
	s := &scratch{
		db: r.cfg.Scratch(), past: newPast(), space: w.space, epoch: w.epoch, basis: b, collection: w.collection,
		given: map[commitlog.Offset]event.ProfileID{}, whose: map[commitlog.Offset]archive.Whose{}, ended: make(chan error, 1),
	}
	if err := s.db.Update(ctx, pipeline.Fence(w.space, w.epoch), kv.Lazy, prepare); err != nil {
		return nil, err
	}
	row := r.cfg.Row(identity.Given{Collection: other(w.collection), Of: func(at commitlog.Offset) event.ProfileID {
		s.past.mu.Lock()
		defer s.past.mu.Unlock()
		return s.given[at]
	}})
	var err error
	s.loop, err = pipeline.NewLoop(ctx, pipeline.Config{
		DB: s.db, Snapshots: snapshots{r.cfg.Snapshots, r.cfg.DB}, Stages: row, Recorder: s, Space: w.space, Epoch: w.epoch,
		Logger: r.cfg.Logger, Past: s.past,
	})
	if err != nil {
		return nil, err
	}
	s.run, s.stop = context.WithCancel(context.WithoutCancel(ctx))
	over := s.stop
	go func() {
		err := s.loop.Run(s.run)
		over() // whoever waits for the loop waits no more
		s.ended <- err
	}()
	return s, nil
}

// close ends the scratch.
func (s *scratch) close() error {
	s.past.end()
	s.stop()
	err := <-s.ended
	if closed := s.db.Close(); err == nil {
		err = closed
	}
	return err
}

// Record implements pipeline.Recorder: it notes whose each record is, and the
// history of each profile.
func (s *scratch) Record(b *pipeline.Batch, records []*pipeline.Record) error {
	for _, r := range records {
		if r.Event == nil && (r.Command == nil || r.Command.Leave == nil) {
			continue
		}
		s.past.mu.Lock()
		s.whose[r.Offset] = archive.Whose{Profile: r.Profile, Account: r.Account}
		s.past.mu.Unlock()
		if err := archive.Index(b, r); err != nil {
			return err
		}
	}
	return nil
}

// give adds records, in the order of their offsets, and whose they are in the
// live epoch: of that the other collection's owner is given.
func (s *scratch) give(records []*pipeline.Judged, whose map[commitlog.Offset]archive.Whose) {
	s.past.mu.Lock()
	for at, w := range whose {
		s.given[at] = w.Account
		if s.collection == event.Accounts {
			s.given[at] = w.Profile
		}
	}
	s.past.mu.Unlock()
	s.past.add(records...)
}

// lead leads the records that were given through the row, up to an offset. When
// that is where the live loop stands, it lets time pass as far, too.
func (s *scratch) lead(ctx context.Context, to pipeline.Position, whole bool) error {
	if n := len(s.past.records); whole && to.Next > 0 && (n == 0 || s.past.records[n-1].Offset < to.Next-1) {
		tick := &pipeline.Judged{Offset: to.Next - 1, Head: event.Head{Kind: event.KindTick, At: to.At, Time: to.At}}
		s.past.add(tick)
	}
	for i := s.led; i < len(s.past.records); i++ {
		if at := s.past.records[i].Offset; slices.Contains(s.basis.standing.Begins, at) && s.collection == event.Users {
			if err := s.passed(ctx, i+1); err != nil {
				return err
			}
			if err := s.begin(ctx, at); err != nil {
				return err
			}
		}
	}
	if err := s.passed(ctx, len(s.past.records)); err != nil {
		return err
	}
	s.at = to
	return nil
}

// passed lets the first n records go and waits until they are through.
func (s *scratch) passed(ctx context.Context, n int) error {
	if n == s.led {
		return nil
	}
	s.past.letGo(n)
	waiting, cancel := s.until(ctx)
	defer cancel()
	if err := s.loop.Passed(waiting, s.past.records[n-1].Offset); err != nil {
		return s.failed(err)
	}
	s.led = n
	return nil
}

// begin evaluates everybody who is there for the builds that the config record
// at an offset brought on.
func (s *scratch) begin(ctx context.Context, at commitlog.Offset) error {
	waiting, cancel := s.until(ctx)
	defer cancel()
	after := event.ProfileID{}
	for {
		var people []event.ProfileID
		err := s.db.View(waiting, func(r kv.Reader) (err error) {
			people, err = identity.NewReader(r, s.space, s.epoch).People(after, 1000)
			return err
		})
		if err != nil {
			return s.failed(err)
		}
		if len(people) == 0 {
			return nil
		}
		after = people[len(people)-1]
		err = s.loop.Do(waiting, func(_ *pipeline.Batch, step func(*pipeline.Record) error) error {
			for _, p := range people {
				if err := step(&pipeline.Record{Profile: p, Work: computation.Begin{At: at}}); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return s.failed(err)
		}
	}
}

// until returns a context that ends with the loop, too.
func (s *scratch) until(ctx context.Context) (context.Context, context.CancelFunc) {
	waiting, cancel := context.WithCancel(ctx)
	release := context.AfterFunc(s.run, cancel)
	return waiting, func() { release(); cancel() }
}

// failed says why the loop ended, if it did.
func (s *scratch) failed(err error) error {
	if s.run.Err() == nil {
		return err
	}
	cause := <-s.ended
	s.ended <- cause
	if cause == nil {
		return err
	}
	return fmt.Errorf("work out a set of profiles: %w", cause)
}
