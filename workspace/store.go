package workspace

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"kith/fault"
	"kith/kv"
)

// cachedSnapshots is how many snapshots At keeps decoded.
const cachedSnapshots = 16

// maxAttempts bounds how often Update runs again because another node was
// faster.
const maxAttempts = 10

// DefaultSpace is the slug of the space that exists from the first start.
const DefaultSpace = "default"

// Store keeps a workspace's snapshots. All methods are safe for concurrent
// use.
type Store struct {
	db      kv.DB
	o       Options
	current atomic.Pointer[Snapshot]

	updating sync.Mutex // one Update at a time in this process

	mu       sync.Mutex
	cache    map[uint64]*Snapshot
	recent   []uint64 // the numbers in cache, oldest first
	watchers map[chan *Snapshot]struct{}
}

// Open reads the newest snapshot. At the first start it writes snapshot 1,
// with nothing in it but the space "default". It does not announce: server
// looks at start which spaces have not been told of the newest snapshot.
func Open(ctx context.Context, db kv.DB, o Options) (*Store, error) {
	s := &Store{db: db, o: o, cache: map[uint64]*Snapshot{}, watchers: map[chan *Snapshot]struct{}{}}
	newest, err := s.newest(ctx)
	if err != nil {
		return nil, fmt.Errorf("open workspace: %w", err)
	}
	if newest == nil {
		if newest, err = s.found(ctx); err != nil {
			return nil, fmt.Errorf("make first workspace snapshot: %w", err)
		}
	}
	s.current.Store(newest)
	return s, nil
}

// Current returns the newest snapshot that has been announced. Callers must
// not change it.
func (s *Store) Current() *Snapshot { return s.current.Load() }

// At returns the snapshot with that number, reading through r when it is not
// at hand. A number that was never given is fault.NotFound.
func (s *Store) At(r kv.Reader, number uint64) (*Snapshot, error) {
	if now := s.current.Load(); now != nil && now.Number == number {
		return now, nil
	}
	s.mu.Lock()
	hit := s.cache[number]
	s.mu.Unlock()
	if hit != nil {
		return hit, nil
	}
	stored, err := r.Get(snapshotKey(number))
	if err != nil {
		return nil, fmt.Errorf("read workspace snapshot %d: %w", number, err)
	}
	if stored == nil {
		return nil, fault.New(fault.NotFound, "there is no workspace snapshot %d", number)
	}
	snap, err := decode(stored)
	if err != nil {
		return nil, err
	}
	return s.keep(snap), nil
}

// Watch returns a channel on which each new current snapshot is sent. Who
// reads slowly finds only the newest. The channel is closed when ctx is done.
func (s *Store) Watch(ctx context.Context) <-chan *Snapshot {
	ch := make(chan *Snapshot, 1)
	s.mu.Lock()
	s.watchers[ch] = struct{}{}
	s.mu.Unlock()
	context.AfterFunc(ctx, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.watchers, ch)
		close(ch)
	})
	return ch
}

// Update changes the workspace: fn changes a copy, the whole is checked, its
// secrets are sealed, it is numbered, written and announced, and then it is
// current and returned. A draft that is the same as before makes no snapshot
// and returns the one there is. fn may run again when another node was faster.
//
// What is wrong with the draft comes back as fault.Invalid errors, joined, each
// with its field; see Problems. An error of fn comes back as it is. When the
// announcement fails the snapshot stays written, and the next Update announces
// it first.
func (s *Store) Update(ctx context.Context, fn func(*Draft) error) (*Snapshot, error) {
	s.updating.Lock()
	defer s.updating.Unlock()
	for range maxAttempts {
		base, err := s.newest(ctx)
		if err != nil {
			return nil, fmt.Errorf("read workspace: %w", err)
		}
		if base.Number > s.Current().Number {
			if err := s.announce(ctx, base); err != nil {
				return nil, err
			}
		}
		next, err := s.next(base, fn)
		if err != nil {
			return nil, err
		}
		if next == nil {
			return base, nil
		}
		err = s.write(ctx, base.Number, next)
		if errors.Is(err, errOutrun) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("write workspace snapshot: %w", err)
		}
		// Every reader sees exactly what is stored, also what JSON made of it.
		var stored *Snapshot
		err = s.db.View(ctx, func(r kv.Reader) error {
			stored, err = s.At(r, next.Number)
			return err
		})
		if err != nil {
			return nil, err
		}
		if err := s.announce(ctx, stored); err != nil {
			return nil, err
		}
		return stored, nil
	}
	return nil, fault.New(fault.Conflict, "the workspace was changed %d times by others meanwhile; try again", maxAttempts)
}

// Try makes what Update would make of fn and returns it with the snapshot it
// would replace; nothing is written. next equals base when nothing would
// change.
func (s *Store) Try(ctx context.Context, fn func(*Draft) error) (base, next *Snapshot, err error) {
	base, err = s.newest(ctx)
	if err != nil {
		return nil, nil, fmt.Errorf("read workspace: %w", err)
	}
	next, err = s.next(base, fn)
	if err != nil {
		return nil, nil, err
	}
	if next == nil {
		next = base
	}
	return base, next, nil
}

var errOutrun = errors.New("another node wrote a snapshot first")

func (s *Store) write(ctx context.Context, base uint64, next *Snapshot) error {
	stored, err := encode(next)
	if err != nil {
		return err
	}
	return s.db.Update(ctx, fence, kv.Durable, func(tx kv.Tx) error {
		n, err := newestSnapshot(tx)
		if err != nil {
			return err
		}
		if n != base {
			return errOutrun
		}
		return tx.Set(snapshotKey(next.Number), stored)
	})
}

func (s *Store) announce(ctx context.Context, next *Snapshot) error {
	if s.o.Announce != nil {
		if err := s.o.Announce(ctx, next); err != nil {
			return fmt.Errorf("snapshot %d is saved but not in force yet: %w", next.Number, err)
		}
	}
	s.current.Store(next)
	s.mu.Lock()
	defer s.mu.Unlock()
	for ch := range s.watchers {
		select {
		case <-ch: // the snapshot nobody fetched is stale now
		default:
		}
		ch <- next
	}
	return nil
}

func (s *Store) newest(ctx context.Context) (*Snapshot, error) {
	var snap *Snapshot
	err := s.db.View(ctx, func(r kv.Reader) error {
		n, err := newestSnapshot(r)
		if err != nil || n == 0 {
			return err
		}
		snap, err = s.At(r, n)
		return err
	})
	return snap, err
}

// found writes the first snapshot.
func (s *Store) found(ctx context.Context) (*Snapshot, error) {
	empty := &Snapshot{}
	empty.Seal()
	first, err := s.next(empty, func(d *Draft) error {
		d.Name, d.Slug = "Kith", "kith"
		d.AddSpace(DefaultSpace, "Default")
		return nil
	})
	if err != nil {
		return nil, err
	}
	err = s.write(ctx, 0, first)
	if err != nil && !errors.Is(err, errOutrun) {
		return nil, err
	}
	return s.newest(ctx)
}

func (s *Store) keep(snap *Snapshot) *Snapshot {
	s.mu.Lock()
	defer s.mu.Unlock()
	if hit := s.cache[snap.Number]; hit != nil {
		return hit
	}
	s.cache[snap.Number] = snap
	s.recent = append(s.recent, snap.Number)
	if len(s.recent) > cachedSnapshots {
		delete(s.cache, s.recent[0])
		s.recent = s.recent[1:]
	}
	return snap
}

// next makes the snapshot that follows base, or nil when fn changed nothing.
func (s *Store) next(base *Snapshot, fn func(*Draft) error) (*Snapshot, error) {
	d, err := s.draft(base)
	if err != nil {
		return nil, err
	}
	if err := fn(d); err != nil {
		return nil, err
	}
	if d.names.err != nil {
		return nil, d.names.err
	}
	next := &Snapshot{
		Number: base.Number, At: base.At, ID: base.ID, Name: d.Name, Slug: d.Slug,
		Spaces: d.Spaces, Sources: d.Sources, Destinations: d.Destinations, TrackingPlans: d.TrackingPlans, Audiences: d.Audiences,
	}
	if next.ID == "" {
		next.ID = d.names.id("")
	}
	tidy(next)
	next.Seal()
	if err := s.resolve(base, next); err != nil {
		return nil, err
	}
	if err := s.o.check(base, next); err != nil {
		return nil, err
	}
	if same, err := equal(base, next); err != nil || same {
		return nil, err
	}
	keepBooks(base, next, d.At)
	next.Number, next.At = base.Number+1, d.At
	return next, nil
}

// draft returns a copy of base that shares nothing with it.
func (s *Store) draft(base *Snapshot) (*Draft, error) {
	doc, err := marshal(base)
	if err != nil {
		return nil, err
	}
	var c Snapshot
	if err := json.Unmarshal(doc, &c); err != nil {
		return nil, err
	}
	return &Draft{
		Name: c.Name, Slug: c.Slug, Spaces: c.Spaces, Sources: c.Sources, Destinations: c.Destinations,
		TrackingPlans: c.TrackingPlans, Audiences: c.Audiences,
		Base: base.Number, At: s.o.Clock.Now(), names: namer{random: s.o.Random},
	}, nil
}

// resolve writes out what connectors know of destinations: the ids of actions,
// and secrets sealed.
func (s *Store) resolve(base, next *Snapshot) error {
	p := &problems{}
	for i := range next.Destinations {
		d := &next.Destinations[i]
		c := s.o.connector(d.MetadataID)
		if c == nil { // check says so, where it matters
			c = &Connector{}
		}
		var before json.RawMessage
		if had := base.Destination(d.ID); had != nil {
			before = had.Settings
		}
		sealed, err := sealSettings(d.Settings, before, c.Secrets, s.o.Secrets)
		if err != nil && !fault.Is(err, fault.Invalid) {
			return fmt.Errorf("seal the secrets of destination %s: %w", d.Slug, err)
		}
		if err != nil {
			p.wrap("destinations."+d.Slug+".settings", err)
			continue
		}
		d.Settings = sealed
		for j := range d.Subscriptions {
			sub := &d.Subscriptions[j]
			if sub.ActionID == "" && len(c.Actions) == 1 {
				sub.ActionID = c.Actions[0].ID
			}
			if a := c.Action(sub.ActionID); a != nil {
				sub.ActionID, sub.ActionSlug = a.ID, a.Slug
			}
		}
	}
	return p.err()
}

// tidy brings a snapshot into the one form that is stored: lists sorted by id,
// defaults written out.
func tidy(s *Snapshot) {
	s.Spaces, s.Sources, s.Destinations = filled(s.Spaces), filled(s.Sources), filled(s.Destinations)
	s.TrackingPlans, s.Audiences = filled(s.TrackingPlans), filled(s.Audiences)
	slices.SortFunc(s.Spaces, func(a, b Space) int { return strings.Compare(a.ID, b.ID) })
	slices.SortFunc(s.Sources, func(a, b Source) int { return strings.Compare(a.ID, b.ID) })
	slices.SortFunc(s.Destinations, func(a, b Destination) int { return strings.Compare(a.ID, b.ID) })
	slices.SortFunc(s.TrackingPlans, func(a, b TrackingPlan) int { return strings.Compare(a.ID, b.ID) })
	slices.SortFunc(s.Audiences, func(a, b Audience) int { return strings.Compare(a.ID, b.ID) })
	for i := range s.Sources {
		src := &s.Sources[i]
		src.WriteKeys = filled(src.WriteKeys)
		for _, a := range []*string{&src.Schema.Track.CommonEventOnViolations, &src.Schema.Identify.CommonEventOnViolations, &src.Schema.Group.CommonEventOnViolations} {
			if *a == "" {
				*a = Allow
			}
		}
		if string(src.Settings) == "null" {
			src.Settings = nil
		}
		src.Tracking.tidy()
	}
	for i := range s.Destinations {
		d := &s.Destinations[i]
		if len(d.Settings) == 0 || string(d.Settings) == "null" {
			d.Settings = json.RawMessage("{}")
		}
	}
	for i := range s.TrackingPlans {
		slices.Sort(s.TrackingPlans[i].SourceIDs)
	}
}

// filled returns list, an empty one instead of nil.
func filled[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}

// equal reports whether two snapshots say the same, number and instant aside.
func equal(a, b *Snapshot) (bool, error) {
	x, y := *a, *b
	x.Number, y.Number = 0, 0
	x.At = y.At
	ad, err := marshal(&x)
	if err != nil {
		return false, err
	}
	bd, err := marshal(&y)
	return bytes.Equal(ad, bd), err
}
