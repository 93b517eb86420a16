package revision

import (
	"slices"

	"kith/archive"
	"kith/commitlog"
	"kith/event"
	"kith/fault"
	"kith/identity"
	"kith/kv"
)

// Limits bound what is worked out beside the loop.
type Limits struct {
	MaxEvents int   // of a set; zero is DefaultMaxEvents
	MaxBytes  int64 // of their bodies; zero is DefaultMaxBytes
}

// The bounds on a set unless a server is told otherwise.
const (
	DefaultMaxEvents = 100_000
	DefaultMaxBytes  = 64 << 20
)

func (l Limits) complete() Limits {
	if l.MaxEvents <= 0 {
		l.MaxEvents = DefaultMaxEvents
	}
	if l.MaxBytes <= 0 {
		l.MaxBytes = DefaultMaxBytes
	}
	return l
}

// tooLarge is why a set is not worked out beside the loop.
type tooLarge struct{ reason string }

func (t tooLarge) Error() string { return "revision: " + t.reason }

// set is profiles that may change each other when what they were made of is
// worked out again, in one moment of the store: with a profile all whose
// identifiers its events carry, used or not, and so their owners.
type set struct {
	reader     kv.Reader
	graph      identity.Reader
	space      uint32
	epoch      uint32
	collection string
	limits     Limits
	// apart are the values that a command in force blocks: they connect nobody.
	apart map[event.Identifier]bool

	ground ground
	under  map[event.ProfileID]bool // profiles of the base, those that were merged into them there too

	roots   []event.ProfileID         // as they are now
	members map[event.ProfileID]bool  // the ids that they were made of, theirs too
	ids     map[event.Identifier]bool // on events of theirs
	events  map[commitlog.Offset]bool // theirs, and those of nobody that may become theirs
	queue   []event.Identifier        // to be looked at
	full    map[event.Identifier]bool // whose sightings are in the set
}

// seed adds the owners of an identifier, also of one that is blocked now, and
// with met everybody who has met it.
func (s *set) seed(id event.Identifier, met bool) error {
	if met {
		if err := s.meet(id); err != nil {
			return err
		}
	}
	if err := s.owners(id); err != nil {
		return err
	}
	s.identifier(id)
	return s.settle()
}

// owners adds whose an identifier is, and those that a command took it away
// from.
func (s *set) owners(id event.Identifier) error {
	owners, err := s.graph.Had(id)
	if err != nil {
		return err
	}
	owner, err := s.graph.Lookup(id.Collection, id.Type, id.Value)
	if err != nil {
		return err
	}
	if !owner.IsZero() {
		owners = append(owners, owner)
	}
	for _, p := range owners {
		if err := s.profile(p); err != nil {
			return err
		}
	}
	return s.belowOwner(id)
}

// meet adds the profiles whose events carried an identifier without using it,
// and the events of nobody with it.
func (s *set) meet(id event.Identifier) error {
	if s.full[id] {
		return nil
	}
	s.full[id] = true
	profiles, nobodys, err := s.graph.Sightings(id)
	if err != nil {
		return err
	}
	for _, p := range profiles {
		if err := s.profile(p); err != nil {
			return err
		}
	}
	for _, at := range nobodys {
		if at >= s.ground.horizon.Offset {
			s.events[at] = true
		}
	}
	return s.bounded()
}

// settle looks at identifiers until nothing new turns up.
func (s *set) settle() error {
	for len(s.queue) > 0 {
		id := s.queue[0]
		s.queue = s.queue[1:]
		if s.apart[id] {
			continue
		}
		if err := s.owners(id); err != nil {
			return err
		}
	}
	return nil
}

// identifier notes an identifier whose owner belongs to the set.
func (s *set) identifier(id event.Identifier) {
	if id.Collection != s.collection || s.ids[id] {
		return
	}
	s.ids[id] = true
	s.queue = append(s.queue, id)
}

// profile adds a profile with all that was merged into it.
func (s *set) profile(id event.ProfileID) error {
	root, err := s.graph.Resolve(id)
	if err != nil || s.members[root] {
		return err
	}
	p, err := s.graph.Frozen(root)
	if err != nil {
		return err
	}
	if p == nil || p.Collection != s.collection {
		return nil
	}
	s.roots = append(s.roots, root)
	for _, m := range p.Family() {
		s.members[m] = true
		frozen, err := s.graph.Frozen(m)
		if err != nil {
			return err
		}
		if frozen != nil {
			for i := range frozen.Identifiers {
				s.identifier(frozen.Identifiers[i].Identifier)
			}
		}
		seen, err := s.graph.Seen(m)
		if err != nil {
			return err
		}
		for _, id := range seen {
			s.identifier(id)
		}
		history, err := archive.Offsets(s.reader, s.space, s.epoch, m, s.ground.horizon.Offset, s.limits.MaxEvents+1)
		if err != nil {
			return err
		}
		for _, at := range history {
			s.events[at] = true
		}
		if err := s.below(m); err != nil {
			return err
		}
	}
	return s.bounded()
}

func (s *set) bounded() error {
	if len(s.events) > s.limits.MaxEvents || len(s.members) > s.limits.MaxEvents {
		return tooLarge{fault.New(fault.Invalid, "the profiles that it may change have more than %d events", s.limits.MaxEvents).Error()}
	}
	return nil
}

// offsets returns the events of the set in their order.
func (s *set) offsets() []commitlog.Offset {
	list := make([]commitlog.Offset, 0, len(s.events))
	for at := range s.events {
		list = append(list, at)
	}
	slices.Sort(list)
	return list
}
