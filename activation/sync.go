package activation

import (
	"context"
	"fmt"
	"sync"

	"kith/event"
	"kith/job"
	"kith/kv"
	"kith/pipeline"
)

// The names of the jobs.
const (
	// SyncKind is the job that tells a new connection of its members.
	SyncKind = "activation.sync"
	// ReconcileKind is the job that compares everything that destinations were
	// told in a space with its live epoch, and tells them the difference: after
	// a rebuild.
	ReconcileKind = "activation.reconcile"
)

// Sync is the Work of a record that has activation compare everything it knows
// of the record's profile with what destinations were told. What is news to a
// connection whose first sync is not finished is sent in all forms, whoever
// finds it first. To the others it is a correction: what a plain connection is
// told of it is its state, as an identify call, and never an event that
// somebody may have hung a message on; where an activation asks for the event,
// it is sent. A connection without history is told nothing of somebody of whom
// it was never told.
type Sync struct {
	Run string // goes out as computation_run_id
	// Audience and Destination name the connection that is looked at; all are
	// where they are empty.
	Audience, Destination string
}

func (s *Sync) concerns(p pair) bool { return s.Audience == "" || p == pair{s.Audience, s.Destination} }

// Retract is the Work of a record, of no profile, that tells destinations that
// nobody is a member any more under an identifier, which has become nobody's.
// It is a correction, as Sync is. Whoever hands it over has looked, in the same
// transaction, that the identifier is nobody's.
type Retract struct {
	Identifier event.Identifier
	Run        string // goes out as computation_run_id
}

// Loop is the loop of a space, as syncs need it.
type Loop interface {
	// Do has the loop run fn in a transaction of its own; see pipeline.Loop.
	Do(ctx context.Context, fn pipeline.Work) error
	// Epoch is the epoch that the loop writes.
	Epoch() uint32
}

// Members knows who is in an audience.
type Members interface {
	// Computing reports whether that is yet to be found: none of the audience's
	// versions is live, and one is on its way.
	Computing(r kv.Reader, space, epoch uint32, audience string) (bool, error)
	// Members returns the members behind after, in the order of their ids, at
	// most limit.
	Members(r kv.Reader, space, epoch uint32, audience string, after event.ProfileID, limit int) ([]event.ProfileID, error)
}

// Syncs tells new connections of the members that were there before them, and
// takes back what has ended while they were not there, by jobs that hand those
// profiles to the loop in pieces. A connection waits in the store until its sync
// is finished, so that no crash loses it; and its sync waits until it is known
// who is in the audience.
type Syncs struct {
	db      kv.DB
	members Members
	loop    func(space uint32) (Loop, error)

	mu        sync.Mutex
	connected map[uint32]bool          // spaces to look at
	wake      chan struct{}            // holds one when connected is not empty
	waiting   map[uint32]chan struct{} // by space; closed at the next call of Connected
}

// NewSyncs returns the syncs of all spaces; loop gives a space's loop.
func NewSyncs(db kv.DB, members Members, loop func(space uint32) (Loop, error)) *Syncs {
	return &Syncs{db: db, members: members, loop: loop, connected: map[uint32]bool{}, wake: make(chan struct{}, 1), waiting: map[uint32]chan struct{}{}}
}

// Connected says that a space has a new connection or has one no more, or that
// it is known now who is in an audience. It never blocks.
func (s *Syncs) Connected(space uint32) {
	s.mu.Lock()
	s.connected[space] = true
	if ch := s.waiting[space]; ch != nil {
		close(ch)
		delete(s.waiting, space)
	}
	s.mu.Unlock()
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// next returns a channel that is closed at the next call of Connected for a
// space.
func (s *Syncs) next(space uint32) <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.waiting[space] == nil {
		s.waiting[space] = make(chan struct{})
	}
	return s.waiting[space]
}

// Run starts the jobs of the connections that wait, those of these spaces
// first, until ctx ends.
func (s *Syncs) Run(ctx context.Context, jobs *job.Jobs, spaces ...uint32) error {
	for _, space := range spaces {
		if err := s.start(ctx, jobs, space); err != nil {
			return err
		}
	}
	for {
		select {
		case <-s.wake:
			s.mu.Lock()
			found := s.connected
			s.connected = map[uint32]bool{}
			s.mu.Unlock()
			for space := range found {
				if err := s.start(ctx, jobs, space); err != nil && ctx.Err() == nil {
					return err
				}
			}
		case <-ctx.Done():
			return nil
		}
	}
}

func (s *Syncs) start(ctx context.Context, jobs *job.Jobs, space uint32) error {
	var all []waiting
	err := s.db.View(ctx, func(r kv.Reader) (err error) {
		all, err = pending(r, space)
		return err
	})
	if err != nil {
		return fmt.Errorf("connections that wait for their first sync: %w", err)
	}
	for _, w := range all {
		if err := s.begin(ctx, jobs, space, w); err != nil {
			return err
		}
	}
	return nil
}

func (s *Syncs) begin(ctx context.Context, jobs *job.Jobs, space uint32, w waiting) error {
	id := fmt.Sprintf("sync/%d/%s/%s/%d", space, w.audience, w.destination, w.snapshot)
	return jobs.Start(ctx, SyncKind, id, params{space, w.audience, w.destination, w.snapshot})
}

// StartReconcile starts a job of ReconcileKind. The id goes out as
// computation_run_id.
func StartReconcile(ctx context.Context, jobs *job.Jobs, space uint32, id string) error {
	return jobs.Start(ctx, ReconcileKind, id, params{Space: space})
}

// Kinds returns the kinds of job that walk through the told: first syncs and
// reconciliations.
func (s *Syncs) Kinds() []job.Kind {
	return []job.Kind{{Name: SyncKind, Run: s.run}, {Name: ReconcileKind, Run: s.run}}
}

// Pending returns how many connections of a space have not had their first sync
// yet.
func Pending(r kv.Reader, space uint32) (int, error) {
	all, err := pending(r, space)
	return len(all), err
}
