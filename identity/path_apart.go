package identity

import (
	"fmt"
	"slices"

	"kith/archive"
	"kith/event"
)

// How far an explanation looks for what stands between two profiles.
const (
	maxBetweenProfiles = 2_000 // that a chain of refusals is followed through
	maxBetweenEvents   = 5_000 // of the history of one profile
)

// apart explains why the identifiers of two profiles are not one person.
func (e *explaining) apart(c *Connection, other event.Identifier, theirs *lineage) error {
	c.say("%s belongs to %s, and %s to %s.", name(e.asked), e.of.root.ID, name(other), theirs.root.ID)
	if e.of.root.Collection != theirs.root.Collection {
		c.say("One is a user and the other an account: they are never one profile.")
		for _, a := range e.out.Accounts {
			if a.ProfileID == c.ProfileID {
				c.say("They are linked: the one is a user of the other since %s, by the group call at %d.", a.Timestamp, a.Offset)
			}
		}
		return nil
	}
	e.separations(c, theirs)
	chain, err := e.chain(theirs)
	if err != nil {
		return err
	}
	switch n := len(chain); {
	case n == 1:
		c.say("A message carried identifiers of both, and they were not joined:")
	case n > 1:
		c.say("No message is known that carried identifiers of both, but a chain of %d messages leads from one to the other by way of others, and none of them was allowed to join:", n)
	case len(c.Commands) == 0:
		c.say("No event ever carried identifiers of both, nor does any chain of events lead from one to the other, as far as is kept.")
	}
	for i := range chain {
		r := &chain[i]
		c.Between = append(c.Between, r.ExplainedRefusal)
		c.say("%d. %s", i+1, r.Words)
	}
	return nil
}

// separations adds the commands that keep the two profiles apart.
func (e *explaining) separations(c *Connection, theirs *lineage) {
	mine, other := map[event.Identifier]bool{}, map[event.Identifier]bool{}
	for _, side := range []struct {
		of  *Profile
		ids map[event.Identifier]bool
	}{{e.of.root, mine}, {theirs.root, other}} {
		for i := range side.of.Identifiers {
			side.ids[side.of.Identifiers[i].Identifier] = true
		}
	}
	of := func(list []event.ExternalID, ids map[event.Identifier]bool) bool {
		return slices.ContainsFunc(list, func(x event.ExternalID) bool { return ids[e.rules.normal(x.Identifier())] })
	}
	for i := range e.standing {
		s := &e.standing[i]
		x := s.Command.Separate
		if x == nil || e.lifted(s.Offset) || !(of(x.Left, mine) && of(x.Right, other) || of(x.Left, other) && of(x.Right, mine)) {
			continue
		}
		told := ExplainedCommand{Offset: uint64(s.Offset), At: instant(s.At), Command: s.Command, Words: separationWords(s)}
		c.Commands = append(c.Commands, told)
		c.say("%s", told.Words)
	}
}

// tie is an identifier that was on a profile's events and was not used there,
// though it is another's.
type tie struct {
	id             event.Identifier
	owner, profile event.ProfileID // as they are now
}

// chain looks for refused uses that lead from one profile to the other: each
// would have joined two profiles. It takes the fewest.
func (e *explaining) chain(theirs *lineage) ([]refusedUse, error) {
	type reached struct {
		from event.ProfileID
		by   tie
	}
	start, goal := e.of.root.ID, theirs.root.ID
	came := map[event.ProfileID]reached{start: {}}
	looked := 0
	for queue := []event.ProfileID{start}; len(queue) > 0; queue = queue[1:] {
		at := queue[0]
		if looked++; looked > maxBetweenProfiles {
			e.noteOnce(fmt.Sprintf("A chain was looked for through %d profiles only.", maxBetweenProfiles))
			return nil, nil
		}
		var ties []tie
		if err := e.view(func(r Reader) (err error) {
			ties, err = tiesOf(r, at)
			return err
		}); err != nil {
			return nil, err
		}
		for _, t := range ties {
			next := t.owner
			if next == at {
				next = t.profile
			}
			if _, ok := came[next]; ok || next.IsZero() {
				continue
			}
			came[next] = reached{at, t}
			queue = append(queue, next)
		}
		if _, ok := came[goal]; ok {
			var chain []refusedUse
			for p := goal; p != start; p = came[p].from {
				use, err := e.useOf(came[p].by)
				if err != nil {
					return nil, err
				}
				chain = append(chain, use)
			}
			slices.Reverse(chain)
			return chain, nil
		}
	}
	return nil, nil
}

// tiesOf returns what ties a profile to others: identifiers of others on its
// events, and its identifiers on the events of others.
func tiesOf(r Reader, profile event.ProfileID) (ties []tie, err error) {
	p, err := r.Profile(profile)
	if err != nil {
		return nil, err
	}
	family := p.Family()
	for _, member := range family[:min(len(family), maxExplainedProfiles)] {
		ids, err := r.Seen(member)
		if err != nil {
			return nil, err
		}
		for _, id := range ids[:min(len(ids), maxExplainedIdentifiers)] {
			owner, err := r.owner(id)
			if err != nil {
				return nil, err
			}
			if owner != p.ID {
				ties = append(ties, tie{id, owner, p.ID})
			}
		}
	}
	for i := range p.Identifiers[:min(len(p.Identifiers), maxExplainedIdentifiers)] {
		id := p.Identifiers[i].Identifier
		profiles, _, err := r.Sightings(id)
		if err != nil {
			return nil, err
		}
		for _, other := range profiles[:min(len(profiles), maxExplainedProfiles)] {
			if other, err = r.Resolve(other); err != nil {
				return nil, err
			}
			if other != p.ID {
				ties = append(ties, tie{id, p.ID, other})
			}
		}
	}
	return ties, nil
}

// useOf finds the event of a tie: among the refusals that are kept one by one,
// or in the history of the profile.
func (e *explaining) useOf(t tie) (refusedUse, error) {
	var groups []Refusals
	var family []event.ProfileID
	if err := e.view(func(r Reader) (err error) {
		if family, err = r.Family(t.profile); err == nil {
			groups, err = r.RefusalsOf(t.id)
		}
		return err
	}); err != nil {
		return refusedUse{}, err
	}
	for i := range groups {
		for _, x := range groups[i].kept() {
			use, err := e.refusal(&x, groups[i].Violation, &t.id)
			if err != nil {
				return use, err
			}
			if slices.Contains(family, use.profile) {
				return use, nil
			}
		}
	}
	use := refusedUse{id: t.id, owner: t.owner, profile: t.profile}
	shown := event.ExternalIDOf(t.id)
	use.Identifier, use.OwnerID, use.ProfileID = &shown, t.owner.String(), t.profile.String()
	n := 0
	whole := archive.Window{From: -1 << 62, To: 1 << 62}
	err := e.past.History(e.ctx, e.q.Space.Number, e.q.Epoch, family, whole, func(x archive.Entry) (bool, error) {
		if n++; n > maxBetweenEvents {
			return false, nil
		}
		if len(x.Body) == 0 && !x.Trimmed {
			return true, nil
		}
		f, err := e.found(&archive.Passed{Entry: x})
		if err != nil || !slices.Contains(f.ids, t.id) {
			return err == nil, err
		}
		if use.On, err = e.sighting(x.Offset); err == nil {
			_, use.Snapshot, err = e.rulesAt(x.Offset)
		}
		return false, err
	})
	if err != nil {
		return use, err
	}
	on := "an event"
	if use.On.RecordID != "" {
		on = e.onMessage(&use.On)
	}
	use.Words = fmt.Sprintf("%s was on %s and was not used. It belongs to %s; the event is of %s.", name(t.id), on, use.OwnerID, use.ProfileID)
	return use, nil
}
