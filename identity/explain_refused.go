package identity

import (
	"fmt"
	"slices"

	"kith/archive"
	"kith/commitlog"
	"kith/event"
)

// kept returns the refusals that are kept one by one, in order.
func (r *Refusals) kept() []Refused { return slices.Concat(r.First, r.Newest) }

// tellRefusals tells what protection kept away from the lineage's events, and
// its identifiers from the events of others.
func (e *explaining) tellRefusals() error {
	type group struct {
		Refusals
		profile event.ProfileID
		id      *event.Identifier
	}
	var groups []group
	err := e.view(func(r Reader) error {
		groups = nil
		for _, m := range e.of.order {
			list, err := r.RefusalsOn(m.ID)
			if err != nil {
				return err
			}
			for _, x := range list {
				groups = append(groups, group{Refusals: x, profile: m.ID})
			}
		}
		for i := range e.of.root.Identifiers[:min(len(e.of.root.Identifiers), maxExplainedIdentifiers)] {
			id := e.of.root.Identifiers[i].Identifier
			list, err := r.RefusalsOf(id)
			if err != nil {
				return err
			}
			for _, x := range list {
				groups = append(groups, group{Refusals: x, id: &id})
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	events := 0
	for i := range groups {
		g := &groups[i]
		told := ExplainedRefusals{Violation: g.Violation, Count: g.Count, Events: []ExplainedRefusal{}}
		if g.id != nil {
			x := event.ExternalIDOf(*g.id)
			told.Identifier = &x
		} else {
			told.ProfileID = g.profile.String()
		}
		others := g.id == nil
		for _, x := range g.kept() {
			if events++; events > maxExplainedRefusals {
				e.noteOnce(fmt.Sprintf("More than %d refused uses would have to be told; the others are counted.", maxExplainedRefusals))
				break
			}
			r, err := e.refusal(&x, g.Violation, g.id)
			if err != nil {
				return err
			}
			others = others || e.of.members[r.profile] == nil
			told.Events = append(told.Events, r.ExplainedRefusal)
		}
		if !others {
			continue // they are the lineage's own events, of which it is told already
		}
		e.out.Refusals = append(e.out.Refusals, told)
		e.tellRefused(&told, g.First[0].Offset)
	}
	return nil
}

// refusedUse is one identifier that one event did not use.
type refusedUse struct {
	ExplainedRefusal
	id      event.Identifier // zero when the event is gone
	owner   event.ProfileID  // who has it now
	profile event.ProfileID  // whose the event is
}

// refusal explains one refusal. known is the identifier, when that is known.
func (e *explaining) refusal(x *Refused, violation string, known *event.Identifier) (r refusedUse, err error) {
	if r.On, err = e.sighting(x.Offset); err != nil {
		return r, err
	}
	r.Snapshot = x.Snapshot
	if r.On.Gone {
		r.On.ReceivedAt, r.On.Timestamp = instant(x.At), instant(x.Time)
	}
	if a := &x.Against; a.ByCommand {
		at := uint64(a.Command)
		r.Command = &at
	} else if a.Type != "" {
		limit := limitOfType(a.Type, a.Limit, a.Window)
		r.Limit = &limit
	}
	p, err := e.passed(x.Offset)
	if err != nil {
		return r, err
	}
	if known == nil && p != nil {
		if known, err = e.whichWas(x, violation, p); err != nil {
			return r, err
		}
	}
	words := "An identifier of type " + x.Type
	if x.Type == "" {
		words = "The event"
	}
	if known != nil {
		r.id = *known
		shown := event.ExternalIDOf(r.id)
		r.Identifier = &shown
		words = name(r.id)
		if err := e.view(func(read Reader) (err error) {
			r.owner, err = read.owner(r.id)
			return err
		}); err != nil {
			return r, err
		}
	}
	if p != nil {
		r.profile = p.Profile
		if known != nil && known.Collection == event.Accounts {
			r.profile = p.Account
		}
	}
	r.Words = fmt.Sprintf("%s was not used by %s: %s", words, e.onMessage(&r.On), againstWords(violation, &x.Against))
	return r, e.whose(&r, known != nil)
}

// whose adds whose the identifier and the event are.
func (e *explaining) whose(r *refusedUse, known bool) error {
	now := r.profile
	if err := e.view(func(read Reader) (err error) {
		if !r.profile.IsZero() {
			now, err = read.Resolve(r.profile)
		}
		return err
	}); err != nil {
		return err
	}
	if !r.profile.IsZero() {
		r.ProfileID = r.profile.String()
	}
	if !r.owner.IsZero() {
		r.OwnerID = r.owner.String()
	}
	switch {
	case !r.owner.IsZero() && r.owner == now:
		r.Words += fmt.Sprintf(". The event is of %s, which has it by now", r.ProfileID)
		now = event.ProfileID{}
	case !r.owner.IsZero():
		r.Words += ". It belongs to " + r.OwnerID
	case known:
		r.Words += ". It is nobody's"
	}
	if !now.IsZero() {
		r.Words += "; the event is of " + r.ProfileID
	}
	r.Words += "."
	return nil
}

// whichWas finds the identifier that an event did not use. Where the event has
// several of the type, the identifiers' own notes tell which it was; nil when
// they do not.
func (e *explaining) whichWas(x *Refused, violation string, p *archive.Passed) (*event.Identifier, error) {
	f, err := e.found(p)
	if err != nil {
		return nil, err
	}
	for i := range f.refused {
		if f.refused[i].Violation == violation && f.refused[i].Type == x.Type && !x.Against.ByCommand {
			return &f.refused[i].Identifier, nil
		}
	}
	var candidates []event.Identifier
	for _, id := range f.ids {
		if id.Type == x.Type {
			candidates = append(candidates, id)
		}
	}
	if len(candidates) == 1 {
		return &candidates[0], nil
	}
	var was *event.Identifier
	err = e.view(func(r Reader) error {
		for i := range candidates {
			list, err := r.RefusalsOf(candidates[i])
			if err != nil {
				return err
			}
			for j := range list {
				if list[j].Violation == violation && slices.ContainsFunc(list[j].kept(), func(k Refused) bool { return k.Offset == x.Offset }) {
					was = &candidates[i]
					return nil
				}
			}
		}
		return nil
	})
	return was, err
}

// tellRefused says in words, and draws, what one violation kept away.
func (e *explaining) tellRefused(told *ExplainedRefusals, at commitlog.Offset) {
	times := "once"
	if told.Count > 1 {
		times = fmt.Sprintf("%d times", told.Count)
	}
	on := "On events of " + told.ProfileID + " an identifier was not used"
	if told.Identifier != nil {
		on = name(told.Identifier.Identifier()) + " was not used by events"
	}
	text := fmt.Sprintf("%s %s: %s.", on, times, told.Violation)
	if len(told.Events) > 0 {
		text += " " + told.Events[0].Words
	}
	if n := len(told.Events); n > 1 {
		text += " The last time: " + told.Events[n-1].Words
	}
	e.say(at, "%s", text)
	drawn := map[[2]string]bool{}
	for i := range told.Events {
		r := &told.Events[i]
		if r.Identifier == nil || r.ProfileID == "" || drawn[[2]string{nodeID(r.Identifier.Identifier()), r.ProfileID}] {
			continue
		}
		id := r.Identifier.Identifier()
		drawn[[2]string{nodeID(id), r.ProfileID}] = true
		e.identifierNode(id, "other", "")
		if p, err := event.ParseProfileID(r.ProfileID); err == nil {
			e.profileNode(p)
		}
		if owner, err := event.ParseProfileID(r.OwnerID); err == nil {
			e.profileNode(owner)
		}
		e.out.Graph.Edges = append(e.out.Graph.Edges, Edge{
			From: nodeID(id), To: r.ProfileID, Kind: "refused", Label: told.Violation, At: r.On.ReceivedAt, Offset: r.On.Offset, MessageID: r.On.MessageID,
		})
	}
}

// tellNobody tells why an identifier is nobody's.
func (e *explaining) tellNobody() error {
	said, err := e.whyNobody(e.asked)
	if err != nil {
		return err
	}
	e.identifierNode(e.asked, "other", "")
	for _, text := range said {
		e.say(0, "%s", text)
	}
	return nil
}

// whyNobody says why an identifier belongs to no profile.
func (e *explaining) whyNobody(id event.Identifier) ([]string, error) {
	said := []string{name(id) + " is nobody's."}
	if r := e.rules.of(id.Collection, id.Type); r != nil && r.blocked(id.Value) {
		said = append(said, "The rules of the space block its value.")
	} else if r == nil && standardCollection(id.Type) == id.Collection {
		said = append(said, "The rules of the space have no identifier of that type.")
		var met []Unwanted
		if err := e.view(func(r Reader) (err error) {
			met, err = r.Unwanted()
			return err
		}); err != nil {
			return nil, err
		}
		for i := range met {
			if met[i].Type == id.Type && met[i].Collection == id.Collection {
				said = append(said, fmt.Sprintf("Events that carried one of that type while no rule named it: %d.", met[i].Count))
			}
		}
	}
	for i := range e.standing {
		s := &e.standing[i]
		if s.Command.Block != nil && e.rules.normal(s.Command.Block.Identifier()) == id && !e.lifted(s.Offset) {
			said = append(said, fmt.Sprintf("The command at %d of %s blocks it%s.", s.Offset, instant(s.At), byWhom(s.Command)))
		}
	}
	removals, err := e.removals()
	if err != nil {
		return nil, err
	}
	for _, c := range removals {
		if d := c.command.DeleteIdentifier; d != nil && e.rules.normal(d.Identifier.Identifier()) == id && !c.profile.IsZero() {
			said = append(said, fmt.Sprintf("It was taken away from %s at %s, by the command at %d%s.", c.profile, instant(c.ms), c.at, byWhom(c.command)))
		}
	}
	var refusals []Refusals
	if err := e.view(func(r Reader) (err error) {
		refusals, err = r.RefusalsOf(id)
		return err
	}); err != nil {
		return nil, err
	}
	for i := range refusals {
		told := ExplainedRefusals{Violation: refusals[i].Violation, Count: refusals[i].Count}
		shown := event.ExternalIDOf(id)
		told.Identifier = &shown
		for _, x := range refusals[i].kept() {
			r, err := e.refusal(&x, told.Violation, &id)
			if err != nil {
				return nil, err
			}
			told.Events = append(told.Events, r.ExplainedRefusal)
		}
		if id == e.asked {
			e.out.Refusals = append(e.out.Refusals, told)
		}
		said = append(said, fmt.Sprintf("Events carried it and did not use it, %d in all: %s. %s", told.Count, told.Violation, told.Events[0].Words))
	}
	if len(said) == 1 {
		said = append(said, "No event has carried it as an identifier. Types and values are compared as they are, letter case included.")
	}
	return said, nil
}
