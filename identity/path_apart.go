package identity

import (
	"fmt"
	"slices"

	"kith/archive"
	"kith/event"
)

// How far an explanation looks for what stands between two profiles.
const (
	maxBetweenProfiles = 200   // that a chain of refusals is followed through
	maxBetweenEvents   = 5_000 // of the history of one of the two
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
	if chain == nil {
		if chain, err = e.inHistory(theirs); err != nil {
			return err
		}
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

// chain looks for refused uses that lead from one profile to the other: each
// would have joined two profiles. It follows the fewest.
func (e *explaining) chain(theirs *lineage) ([]refusedUse, error) {
	type reached struct {
		from event.ProfileID
		by   refusedUse
	}
	start, goal := e.of.root.ID, theirs.root.ID
	came := map[event.ProfileID]reached{start: {}}
	looked := 0
	for queue := []event.ProfileID{start}; len(queue) > 0; queue = queue[1:] {
		at := queue[0]
		if looked++; looked > maxBetweenProfiles {
			e.noteOnce(fmt.Sprintf("A chain was looked for through %d profiles only.", maxBetweenProfiles))
			break
		}
		list, err := e.refusedAround(at)
		if err != nil {
			return nil, err
		}
		for _, r := range list {
			next := r.owner
			if next == at || next.IsZero() {
				next = r.profile
			}
			if next.IsZero() || next == at {
				continue
			}
			if _, ok := came[next]; ok {
				continue
			}
			came[next] = reached{at, r}
			queue = append(queue, next)
		}
		if _, ok := came[goal]; ok {
			var chain []refusedUse
			for p := goal; p != start; p = came[p].from {
				chain = append(chain, came[p].by)
			}
			slices.Reverse(chain)
			return chain, nil
		}
	}
	return nil, nil
}

// refusedAround returns the refused uses that tie a profile to others: on its
// events, and of its identifiers. Their profiles are those of now.
func (e *explaining) refusedAround(profile event.ProfileID) (list []refusedUse, err error) {
	type one struct {
		Refused
		violation string
		id        *event.Identifier
	}
	var all []one
	err = e.view(func(r Reader) error {
		all = nil
		p, err := r.Profile(profile)
		if err != nil {
			return err
		}
		family := p.Family()
		for _, id := range family[:min(len(family), maxExplainedProfiles)] {
			groups, err := r.RefusalsOn(id)
			if err != nil {
				return err
			}
			for i := range groups {
				for _, x := range groups[i].kept() {
					all = append(all, one{x, groups[i].Violation, nil})
				}
			}
		}
		for i := range p.Identifiers[:min(len(p.Identifiers), maxExplainedIdentifiers)] {
			id := p.Identifiers[i].Identifier
			groups, err := r.RefusalsOf(id)
			if err != nil {
				return err
			}
			for j := range groups {
				for _, x := range groups[j].kept() {
					all = append(all, one{x, groups[j].Violation, &id})
				}
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	for i := range all[:min(len(all), maxExplainedRefusals)] {
		r, err := e.refusal(&all[i].Refused, all[i].violation, all[i].id)
		if err != nil {
			return nil, err
		}
		if err := e.view(func(read Reader) (err error) {
			if !r.profile.IsZero() {
				r.profile, err = read.Resolve(r.profile)
			}
			return err
		}); err != nil {
			return nil, err
		}
		list = append(list, r)
	}
	return list, nil
}

// inHistory looks through the events of the one of two profiles for one that
// carries an identifier of the other: refusals are kept one by one only at both
// ends.
func (e *explaining) inHistory(theirs *lineage) ([]refusedUse, error) {
	for _, side := range []struct{ of, other *lineage }{{e.of, theirs}, {theirs, e.of}} {
		n := 0
		var hit *refusedUse
		var family []event.ProfileID
		for _, m := range side.of.order {
			family = append(family, m.ID)
		}
		whole := archive.Window{From: -1 << 62, To: 1 << 62}
		err := e.past.History(e.ctx, e.q.Space.Number, e.q.Epoch, family, whole, func(x archive.Entry) (bool, error) {
			if n++; n > maxBetweenEvents {
				e.noteOnce(fmt.Sprintf("The first %d events of %s were looked through.", maxBetweenEvents, side.of.root.ID))
				return false, nil
			}
			if len(x.Body) == 0 {
				return true, nil
			}
			f, err := e.found(&archive.Passed{Entry: x})
			if err != nil {
				return false, err
			}
			for _, id := range f.ids {
				if !side.other.has(id) {
					continue
				}
				hit = &refusedUse{id: id, owner: side.other.root.ID, profile: side.of.root.ID}
				shown := event.ExternalIDOf(id)
				hit.Identifier, hit.OwnerID, hit.ProfileID = &shown, hit.owner.String(), hit.profile.String()
				if hit.On, err = e.sighting(x.Offset); err != nil {
					return false, err
				}
				if _, hit.Snapshot, err = e.rulesAt(x.Offset); err != nil {
					return false, err
				}
				hit.Words = fmt.Sprintf("%s was on %s and was not used. It belongs to %s; the event is of %s.", name(id), e.onMessage(&hit.On), hit.OwnerID, hit.ProfileID)
				return false, nil
			}
			return true, nil
		})
		if err != nil {
			return nil, err
		}
		if hit != nil {
			return []refusedUse{*hit}, nil
		}
	}
	return nil, nil
}
