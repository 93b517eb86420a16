package identity

import (
	"cmp"
	"fmt"
	"slices"

	"kith/commitlog"
	"kith/event"
)

// Connection says why two identifiers are one person, or not.
type Connection struct {
	With      event.ExternalID `json:"with"`
	Same      bool             `json:"same" doc:"They belong to one profile"`
	ProfileID string           `json:"profileId,omitempty" doc:"Who has the other one"`
	// Path leads from one identifier to the other: the two of each step were on
	// one message, which used both.
	Path []Step `json:"path" doc:"When they are one: how, by the fewest messages"`
	// Between is what stands between them.
	Between   []ExplainedRefusal `json:"between" doc:"When they are not: the uses that were refused which would have joined them, a chain where there are others between"`
	Commands  []ExplainedCommand `json:"commands" doc:"When they are not: the commands that keep them apart"`
	Sentences []string           `json:"sentences"`
}

// Step is one message that used two identifiers.
type Step struct {
	From    event.ExternalID `json:"from"`
	To      event.ExternalID `json:"to"`
	Because Sighting         `json:"because"`
	What    string           `json:"what" enum:"created,attached,merged" doc:"What the message did: it created the profile, attached an identifier, or merged two profiles"`
	Merged  string           `json:"merged,omitempty" doc:"The profile that became part of another by it"`
	Into    string           `json:"into,omitempty"`
	Assumed bool             `json:"assumed,omitempty" doc:"The message is not kept any more: that it carried the first identifier is concluded, not seen"`
}

// use is a message that joined identifiers, and which of those it used.
type use struct {
	at      commitlog.Offset
	ids     []event.Identifier
	what    string
	link    *Link // of a merge
	assumed bool  // its body is gone
}

// uses returns every message that attached an identifier to the lineage or
// merged two of its members, in order: together they join all that the profile
// has.
func (e *explaining) uses() ([]use, error) {
	list := map[commitlog.Offset]*use{}
	var plain []*use
	holders := map[commitlog.Offset]event.ProfileID{}
	for _, m := range e.of.order {
		for i := range m.own {
			x := &m.own[i]
			u := list[x.Offset]
			if u == nil {
				u = &use{at: x.Offset, what: "attached"}
				if x.Offset == m.Created.Offset {
					u.what = "created"
				} else {
					plain = append(plain, u)
				}
				list[x.Offset], holders[x.Offset] = u, m.ID
			}
			u.ids = append(u.ids, x.Identifier)
		}
	}
	for _, m := range e.of.order {
		if m.link == nil {
			continue
		}
		u := list[m.link.Offset]
		if u == nil {
			u = &use{at: m.link.Offset}
			list[u.at] = u
		}
		u.what, u.link, u.ids = "merged", m.link, m.link.Via
	}
	for _, u := range plain {
		if u.what != "attached" {
			continue
		}
		if err := e.usedBy(u, holders[u.at]); err != nil {
			return nil, err
		}
	}
	var all []use
	for _, u := range list {
		all = append(all, *u)
	}
	slices.SortFunc(all, func(a, b use) int { return cmp.Compare(a.at, b.at) })
	return all, nil
}

// usedBy adds to what a message attached the identifiers by which it found the
// profile: those on it that the profile had then.
func (e *explaining) usedBy(u *use, holder event.ProfileID) error {
	p, err := e.passed(u.at)
	if err != nil {
		return err
	}
	if p == nil {
		// By which is not known any more: the profile's oldest stands for it.
		u.assumed = true
		if m := e.of.members[holder]; m != nil && len(m.own) > 0 {
			u.ids = append(u.ids, m.own[0].Identifier)
		}
		return nil
	}
	f, err := e.found(p)
	if err != nil {
		return err
	}
	for _, id := range f.ids {
		if !slices.Contains(u.ids, id) && e.heldBy(id, holder, u.at) {
			u.ids = append(u.ids, id)
		}
	}
	return nil
}

// path returns the steps from one identifier to another, the fewest there are,
// the earliest of equals; nil when there is no path.
func path(uses []use, from, to event.Identifier) []Step {
	with := map[event.Identifier][]int{}
	for i := range uses {
		for _, id := range uses[i].ids {
			with[id] = append(with[id], i)
		}
	}
	type reached struct {
		from event.Identifier
		by   int
	}
	came := map[event.Identifier]reached{from: {}}
	used := make([]bool, len(uses))
	for queue := []event.Identifier{from}; len(queue) > 0; queue = queue[1:] {
		if queue[0] == to {
			break
		}
		for _, i := range with[queue[0]] {
			if used[i] {
				continue
			}
			used[i] = true
			for _, id := range uses[i].ids {
				if _, ok := came[id]; !ok {
					came[id] = reached{queue[0], i}
					queue = append(queue, id)
				}
			}
		}
	}
	if _, ok := came[to]; !ok {
		return nil
	}
	steps := []Step{}
	for at := to; at != from; at = came[at].from {
		u := &uses[came[at].by]
		s := Step{From: event.ExternalIDOf(came[at].from), To: event.ExternalIDOf(at), What: u.what, Assumed: u.assumed, Because: Sighting{Offset: uint64(u.at)}}
		if u.link != nil {
			s.Merged, s.Into = u.link.Child.String(), u.link.Parent.String()
		}
		steps = append(steps, s)
	}
	slices.Reverse(steps)
	return steps
}

// compare explains why the identifier that was asked for and another are one
// person, or not.
func (e *explaining) compare(other event.Identifier) error {
	c := &Connection{With: event.ExternalIDOf(other), Path: []Step{}, Between: []ExplainedRefusal{}, Commands: []ExplainedCommand{}}
	e.out.With = c
	var theirs *lineage
	err := e.view(func(r Reader) error {
		owner, err := r.Lookup(other.Collection, other.Type, other.Value)
		if err != nil || owner.IsZero() {
			return err
		}
		theirs, err = loadLineage(r, owner)
		return err
	})
	if err != nil {
		return err
	}
	if theirs != nil {
		c.ProfileID = theirs.root.ID.String()
	}
	switch {
	case e.asked == other:
		c.Same = theirs != nil
		c.say("They are the same identifier.")
	case e.of == nil || theirs == nil:
		return e.nobodyBetween(c, other, theirs)
	case e.of.root.ID == theirs.root.ID:
		c.Same = true
		return e.joined(c, other)
	default:
		return e.apart(c, other, theirs)
	}
	return nil
}

func (c *Connection) say(format string, args ...any) {
	c.Sentences = append(c.Sentences, fmt.Sprintf(format, args...))
}

// joined explains how two identifiers of one profile came together.
func (e *explaining) joined(c *Connection, other event.Identifier) error {
	uses, err := e.uses()
	if err != nil {
		return err
	}
	c.say("%s and %s belong to one profile, %s.", name(e.asked), name(other), e.of.root.ID)
	steps := path(uses, e.asked, other)
	if steps == nil {
		c.say("The messages that joined them are not kept any more, or are too many to read.")
		return nil
	}
	for i := range steps {
		s := &steps[i]
		if s.Because, err = e.sighting(commitlog.Offset(s.Because.Offset)); err != nil {
			return err
		}
		c.say("%d. %s and %s were on one message: %s of %s, which %s.", i+1, name(s.From.Identifier()), name(s.To.Identifier()),
			e.onMessage(&s.Because), s.Because.Timestamp, s.deed())
	}
	c.Path = steps
	return nil
}

// deed says what the message of a step did.
func (s *Step) deed() string {
	switch s.What {
	case "created":
		return "created a profile with both"
	case "merged":
		return fmt.Sprintf("made %s a part of %s", s.Merged, s.Into)
	}
	return "attached what was new of it"
}

// nobodyBetween explains why two are not one of whom one, or both, are nobody's.
func (e *explaining) nobodyBetween(c *Connection, other event.Identifier, theirs *lineage) error {
	c.say("%s and %s are not one profile.", name(e.asked), name(other))
	for _, side := range []struct {
		id event.Identifier
		of *lineage
	}{{e.asked, e.of}, {other, theirs}} {
		if side.of != nil {
			c.say("%s belongs to %s.", name(side.id), side.of.root.ID)
			continue
		}
		said, err := e.whyNobody(side.id)
		if err != nil {
			return err
		}
		c.Sentences = append(c.Sentences, said...)
	}
	return nil
}
