package activation

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"sync"

	"kith/event"
	"kith/fault"
	"kith/identity"
	"kith/job"
	"kith/kv"
	"kith/pipeline"
)

// SyncKind is the name of the job that tells a new connection of its members.
const SyncKind = "activation.sync"

// syncChunk is how many profiles the loop reconciles in one transaction of a
// sync.
const syncChunk = 500

// Sync is the Work of a record that has activation compare everything it knows
// of the record's profile with what destinations were told. It is a correction
// unless First is set: what a plain connection is told of it is its state, as
// an identify call, and never an event that somebody may have hung a message
// on; where an activation asks for the event, it is sent.
type Sync struct {
	Run   string // goes out as computation_run_id
	First bool   // the destination was never told of its audience before
}

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

// Members lists who is in an audience.
type Members interface {
	// Members returns the members behind after, in the order of their ids, at
	// most limit.
	Members(r kv.Reader, space, epoch uint32, audience string, after event.ProfileID, limit int) ([]event.ProfileID, error)
}

// Syncs tells new connections of the members that were there before them, by
// jobs that hand the members to the loop in pieces. A connection waits in the
// store until its sync is finished, so that no crash loses it.
type Syncs struct {
	db      kv.DB
	members Members
	loop    func(space uint32) (Loop, error)

	mu        sync.Mutex
	connected map[uint32]bool // spaces to look at
	wake      chan struct{}   // holds one when connected is not empty
}

// NewSyncs returns the syncs of all spaces; loop gives a space's loop.
func NewSyncs(db kv.DB, members Members, loop func(space uint32) (Loop, error)) *Syncs {
	return &Syncs{db: db, members: members, loop: loop, connected: map[uint32]bool{}, wake: make(chan struct{}, 1)}
}

// Connected says that a space has a new connection. It never blocks.
func (s *Syncs) Connected(space uint32) {
	s.mu.Lock()
	s.connected[space] = true
	s.mu.Unlock()
	select {
	case s.wake <- struct{}{}:
	default:
	}
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

// syncParams are the parameters of a sync.
type syncParams struct {
	Space       uint32 `json:"space"`
	Audience    string `json:"audience"`
	Destination string `json:"destination"`
	Snapshot    uint64 `json:"snapshot"` // that made the connection
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
	return jobs.Start(ctx, SyncKind, id, syncParams{space, w.audience, w.destination, w.snapshot})
}

// Pending returns how many connections of a space have not had their first sync
// yet.
func Pending(r kv.Reader, space uint32) (int, error) {
	all, err := pending(r, space)
	return len(all), err
}

// Kind returns the kind of job that a sync is.
func (s *Syncs) Kind() job.Kind { return job.Kind{Name: SyncKind, Run: s.run} }

// syncCursor is how far a sync has come: first the members, then those who
// were told of a membership that has ended while nobody listened. The place in
// the second half is an identifier, which must not rest in a job: after a
// restart that half begins again.
type syncCursor struct {
	Member event.ProfileID `json:"member"`
	Second bool            `json:"second,omitempty"`
	Done   uint64          `json:"done"` // profiles looked at

	told []byte // the last key looked at in the second half; nil at its beginning
}

func (s *Syncs) run(ctx context.Context, h *job.Handle) error {
	var params syncParams
	if err := h.Params(&params); err != nil {
		return err
	}
	var at syncCursor
	if c := h.Cursor(); c != nil {
		if err := json.Unmarshal(c, &at); err != nil {
			return fmt.Errorf("cursor of %s: %w", h.ID(), err)
		}
	}
	for {
		loop, err := s.loop(params.Space) // another, after a swap
		if err != nil {
			return err
		}
		people, nobodys, more, err := s.next(ctx, loop.Epoch(), params, &at)
		if err != nil {
			return err
		}
		if err := s.reconcile(ctx, loop, h.ID(), people); err != nil {
			return err
		}
		if err := s.retractAll(ctx, loop, params.Space, h.ID(), nobodys); err != nil {
			return err
		}
		at.Done += uint64(len(people))
		cursor, err := json.Marshal(at)
		if err != nil {
			return fmt.Errorf("cursor of %s: %w", h.ID(), err)
		}
		if err := h.Save(ctx, cursor, at.Done, 0); err != nil {
			return err
		}
		if !more {
			break
		}
	}
	loop, err := s.loop(params.Space)
	if err != nil {
		return err
	}
	return loop.Do(ctx, func(b *pipeline.Batch, _ func(*pipeline.Record) error) error {
		key := pendingKey(params.Space, pair{params.Audience, params.Destination})
		value, err := b.Tx.Get(key)
		if err != nil || value == nil {
			return err
		}
		if made, err := decodePending(value); err != nil || made != params.Snapshot {
			return err // the connection was broken and made again: another sync's
		}
		return b.Tx.Delete(key)
	})
}

// next returns the next profiles to look at, and identifiers that are nobody's any
// more, and moves the cursor behind them.
func (s *Syncs) next(ctx context.Context, epoch uint32, params syncParams, at *syncCursor) (people []event.ProfileID, nobodys []event.Identifier, more bool, err error) {
	err = s.db.View(ctx, func(r kv.Reader) error {
		if !at.Second {
			if people, err = s.members.Members(r, params.Space, epoch, params.Audience, at.Member, syncChunk); err != nil {
				return err
			}
			if len(people) > 0 {
				at.Member = people[len(people)-1]
			}
			if len(people) < syncChunk {
				at.Second = true
			}
			more = true
			return nil
		}
		people, nobodys, more, err = s.stale(r, epoch, params, at)
		return err
	})
	return people, nobodys, more, err
}

// stale returns the owners of identifiers under which a membership was
// announced to this connection, and such identifiers without an owner. Most
// owners are members still, and nothing comes of looking at them again.
func (s *Syncs) stale(r kv.Reader, epoch uint32, params syncParams, at *syncCursor) (people []event.ProfileID, nobodys []event.Identifier, more bool, err error) {
	stem := toldStem(params.Space)
	graph := identity.NewReader(r, params.Space, epoch)
	looked := 0
	from := []byte(stem)
	if at.told != nil {
		from = append(bytes.Clone(at.told), 0)
	}
	for p, err := range r.Scan(kv.Range{From: from, To: kv.PrefixEnd(stem)}) {
		if err != nil {
			return nil, nil, false, err
		}
		if looked++; looked > 4*syncChunk || len(people) == syncChunk {
			return people, nobodys, true, nil
		}
		at.told = bytes.Clone(p.Key)
		known, err := decodeTold(p.Value)
		if err != nil {
			return nil, nil, false, err
		}
		if !known[pair{params.Audience, params.Destination}] {
			continue
		}
		parts := kv.PartsAfter(p.Key, stem)
		id := event.Identifier{Collection: parts.String(), Type: parts.String(), Value: parts.String()}
		owner, err := graph.Lookup(id.Collection, id.Type, id.Value)
		if err != nil {
			return nil, nil, false, err
		}
		if owner.IsZero() {
			nobodys = append(nobodys, id)
		} else {
			people = append(people, owner)
		}
	}
	return people, nobodys, false, nil
}

// reconcile has the loop compare what each of the profiles is with what was
// told of it, in as many transactions as what is to be said of them takes.
func (s *Syncs) reconcile(ctx context.Context, loop Loop, run string, people []event.ProfileID) error {
	if len(people) == 0 {
		return nil
	}
	err := loop.Do(ctx, func(_ *pipeline.Batch, step func(*pipeline.Record) error) error {
		for _, p := range people {
			if err := step(&pipeline.Record{Profile: p, Work: Sync{Run: run, First: true}}); err != nil {
				return err
			}
		}
		return nil
	})
	if half := len(people) / 2; half > 0 && fault.Is(err, fault.Invalid) {
		if err := s.reconcile(ctx, loop, run, people[:half]); err != nil {
			return err
		}
		return s.reconcile(ctx, loop, run, people[half:])
	}
	return err
}
