package identity

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"kith/archive"
	"kith/commitlog"
	"kith/event"
)

// tell explains the lineage that was loaded.
func (e *explaining) tell() error {
	if e.of == nil {
		return e.tellNobody()
	}
	root := e.of.root
	e.out.ProfileID, e.out.Collection = root.ID.String(), root.Collection
	if e.of.cut > 0 {
		e.noteOnce(fmt.Sprintf("%d more profiles were merged into this one; %d are told.", e.of.cut, maxExplainedProfiles))
	}
	created := createdBy(&root.Created)
	e.out.Created = &created
	for _, step := range []func() error{e.tellCreations, e.tellIdentifiers, e.tellMerges, e.tellRemovals, e.tellLapsed, e.tellStanding, e.tellAccounts, e.tellRefusals} {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

func createdBy(c *Cause) Sighting {
	return Sighting{Offset: uint64(c.Offset), ReceivedAt: instant(c.At), Timestamp: instant(c.Time), MessageID: c.MessageID, SourceID: c.SourceID}
}

// say adds a sentence at its place in the sequence.
func (e *explaining) say(at commitlog.Offset, format string, args ...any) {
	e.told = append(e.told, sentence{at, fmt.Sprintf(format, args...)})
}

// tellCreations tells of every profile of the lineage.
func (e *explaining) tellCreations() error {
	for _, m := range e.of.order {
		var with []event.Identifier
		for i := range m.own {
			if m.own[i].Offset == m.Created.Offset {
				with = append(with, m.own[i].Identifier)
			}
		}
		state := "living"
		if m.link != nil {
			state = "merged"
		}
		e.out.Graph.Nodes = append(e.out.Graph.Nodes, Node{ID: m.ID.String(), Kind: "profile", Label: profileLabel(m), State: state, At: instant(m.Created.At)})
		e.say(m.Created.Offset, "%s was created at %s by %s, with %s.", m.ID, instant(m.Created.Time), e.messageOf(m.Created.MessageID, m.Created.SourceID, m.Created.Offset), names(with))
	}
	return nil
}

func profileLabel(m *member) string {
	for i := range m.own {
		if m.own[i].Type == "user_id" {
			return name(m.own[i].Identifier)
		}
	}
	if len(m.own) > 0 {
		return name(m.own[0].Identifier)
	}
	return m.ID.String()
}

// tellIdentifiers tells of the identifiers that the profile has, and of those
// that came with a merge and are not there any more.
func (e *explaining) tellIdentifiers() error {
	n := 0
	left := 0
	for _, m := range e.of.order {
		later := map[commitlog.Offset][]event.Identifier{}
		var order []*Identified
		for i := range m.own {
			x := &m.own[i]
			if n++; n > maxExplainedIdentifiers {
				left++
				continue
			}
			told := ExplainedIdentifier{ExternalID: event.ExternalIDOf(x.Identifier), ProfileID: m.ID.String(), Attached: sightingOf(x)}
			state := "attached"
			if m.link != nil && !slices.ContainsFunc(e.of.root.Identifiers, func(y Identified) bool { return attachmentOf(&y) == attachmentOf(x) }) {
				e.out.Removed = append(e.out.Removed, told)
				state = "removed"
			} else {
				e.out.Identifiers = append(e.out.Identifiers, told)
			}
			e.attach(m.ID, x.Identifier, state, told.Attached)
			if x.Offset != m.Created.Offset {
				if later[x.Offset] == nil {
					order = append(order, x)
				}
				later[x.Offset] = append(later[x.Offset], x.Identifier)
			}
		}
		for _, x := range order {
			e.say(x.Offset, "%s %s attached to %s at %s by %s.", names(later[x.Offset]), was(len(later[x.Offset])), m.ID, instant(x.At), e.messageOf(x.MessageID, x.SourceID, x.Offset))
		}
	}
	if left > 0 {
		e.noteOnce(fmt.Sprintf("%d more identifiers are left out; %d are told.", left, maxExplainedIdentifiers))
	}
	slices.SortStableFunc(e.out.Identifiers, func(a, b ExplainedIdentifier) int { return cmp.Compare(a.Attached.Offset, b.Attached.Offset) })
	return nil
}

// attach draws an identifier and what attached it.
func (e *explaining) attach(to event.ProfileID, id event.Identifier, state string, by Sighting) {
	e.identifierNode(id, state, by.Timestamp)
	e.out.Graph.Edges = append(e.out.Graph.Edges, Edge{
		From: nodeID(id), To: to.String(), Kind: "attached", Label: "attached", At: by.Timestamp, Offset: by.Offset, MessageID: by.MessageID,
	})
}

func (e *explaining) identifierNode(id event.Identifier, state, at string) {
	for i := range e.out.Graph.Nodes {
		if n := &e.out.Graph.Nodes[i]; n.ID == nodeID(id) {
			if n.State == "other" || n.State == "removed" && state == "attached" {
				n.State, n.At = state, at
			}
			return
		}
	}
	e.out.Graph.Nodes = append(e.out.Graph.Nodes, Node{ID: nodeID(id), Kind: "identifier", Label: name(id), State: state, At: at})
}

func (e *explaining) profileNode(id event.ProfileID) {
	if !slices.ContainsFunc(e.out.Graph.Nodes, func(n Node) bool { return n.ID == id.String() }) {
		e.out.Graph.Nodes = append(e.out.Graph.Nodes, Node{ID: id.String(), Kind: "profile", Label: id.String(), State: "other"})
	}
}

// tellMerges tells why profiles became one.
func (e *explaining) tellMerges() error {
	var children []*member
	for _, m := range e.of.order {
		if m.link != nil {
			children = append(children, m)
		}
	}
	slices.SortStableFunc(children, func(a, b *member) int { return cmp.Compare(a.link.Offset, b.link.Offset) })
	for _, m := range children {
		l := m.link
		because, err := e.sighting(l.Offset)
		if err != nil {
			return err
		}
		because.RecordID, because.ReceivedAt = l.Record.String(), instant(l.At)
		told := ExplainedMerge{From: l.Child.String(), Into: l.Parent.String(), Because: because, Snapshot: l.Snapshot, Created: createdBy(&m.Created)}
		for _, id := range l.Via {
			told.Via = append(told.Via, event.ExternalIDOf(id))
		}
		for i := range m.Identifiers {
			told.Identifiers = append(told.Identifiers, event.ExternalIDOf(m.Identifiers[i].Identifier))
		}
		e.out.Merges = append(e.out.Merges, told)
		rules, err := e.speakOf(l.Snapshot, m.Collection, l.Via, m.Identifiers)
		if err != nil {
			return err
		}
		e.out.Graph.Edges = append(e.out.Graph.Edges, Edge{
			From: told.From, To: told.Into, Kind: "merged", Label: "merged by " + names(l.Via), At: instant(l.At), Offset: uint64(l.Offset), MessageID: because.MessageID,
		})
		e.say(l.Offset, "%s became part of %s at %s: %s used %s. %s", l.Child, l.Parent, instant(l.At),
			e.messageOf(because.MessageID, because.SourceID, l.Offset), e.viaNames(m), rules)
	}
	return nil
}

// viaNames are the identifiers that caused a merge, each with whose it was.
func (e *explaining) viaNames(child *member) string {
	var said []string
	for _, id := range child.link.Via {
		text := name(id)
		switch at := child.link.Offset; {
		case slices.ContainsFunc(child.Identifiers, func(x Identified) bool { return x.Identifier == id }):
			text += " of " + child.ID.String()
		case e.heldBy(id, child.link.Parent, at):
			text += " of " + child.link.Parent.String()
		}
		said = append(said, text)
	}
	return join(said)
}

// heldBy reports whether a profile had an identifier just before a record.
func (e *explaining) heldBy(id event.Identifier, profile event.ProfileID, before commitlog.Offset) bool {
	if e.places == nil {
		e.places = map[event.Identifier][]place{}
		for _, m := range e.of.order {
			for i := range m.own {
				x := &m.own[i]
				e.places[x.Identifier] = append(e.places[x.Identifier], place{m.ID, x.Offset})
			}
		}
	}
	return slices.ContainsFunc(e.places[id], func(p place) bool { return p.at < before && e.of.at(p.member, before) == profile })
}

// speakOf notes the rules of the types at hand under a snapshot, and says them.
func (e *explaining) speakOf(snapshot uint64, collection string, ids []event.Identifier, more []Identified) (string, error) {
	rs, err := e.rulesOf(snapshot)
	if err != nil {
		return "", err
	}
	if e.spoken[snapshot] == nil {
		e.spoken[snapshot] = map[typeKey]bool{}
	}
	var types []string
	add := func(name string) {
		e.spoken[snapshot][typeKey{collection, name}] = true
		if !slices.Contains(types, name) {
			types = append(types, name)
		}
	}
	for _, id := range ids {
		add(id.Type)
	}
	for i := range more {
		add(more[i].Type)
	}
	slices.SortFunc(types, func(a, b string) int { return rs.compare(collection, a, collection, b) })
	var said []string
	for _, t := range types {
		limit, window := rs.limit(collection, t)
		said = append(said, limitWords(t, limit, window))
	}
	return fmt.Sprintf("The rules of configuration %d allowed it: at most %s.", snapshot, join(said)), nil
}

// tellRemovals tells of identifiers that commands took away, and of memberships
// that ended.
func (e *explaining) tellRemovals() error {
	removals, err := e.removals()
	if err != nil {
		return err
	}
	for _, c := range removals {
		if e.of.members[c.profile] == nil {
			continue
		}
		told := ExplainedCommand{Offset: uint64(c.at), At: instant(c.ms), Command: c.command}
		if c.command.Leave != nil {
			told.Words = fmt.Sprintf("The membership of %s in %s was ended at %s%s.", name(c.command.Leave.User.Identifier()), name(c.command.Leave.Account.Identifier()), told.At, byWhom(c.command))
		} else {
			id := e.rules.normal(c.command.DeleteIdentifier.Identifier.Identifier())
			told.Words = fmt.Sprintf("%s was taken away at %s%s.", name(id), told.At, byWhom(c.command))
			if err := e.removed(id, c); err != nil {
				return err
			}
		}
		e.out.Commands = append(e.out.Commands, told)
		e.say(c.at, "%s", told.Words)
	}
	return e.view(func(r Reader) error {
		for i := range e.out.Removed {
			x := &e.out.Removed[i]
			owner, err := r.owner(x.Identifier())
			if err != nil {
				return err
			}
			if !owner.IsZero() && owner != e.of.root.ID {
				x.OwnerID = owner.String()
			}
		}
		return nil
	})
}

// removed notes that a command took an identifier away.
func (e *explaining) removed(id event.Identifier, by removal) error {
	told := ExplainedIdentifier{ExternalID: event.ExternalIDOf(id), ProfileID: by.profile.String()}
	at := slices.IndexFunc(e.out.Removed, func(x ExplainedIdentifier) bool { return x.Identifier() == id && x.Removed == 0 })
	if at < 0 {
		first, profile, err := e.carriedFirst(id, by.at)
		if err != nil {
			return err
		}
		if first != nil {
			told.Attached, told.ProfileID = *first, profile.String()
			e.attach(profile, id, "removed", *first)
			e.say(commitlog.Offset(first.Offset), "%s was attached to %s at %s by %s.", name(id), profile, first.Timestamp, e.onMessage(first))
		}
		e.out.Removed, at = append(e.out.Removed, told), len(e.out.Removed)
	}
	x := &e.out.Removed[at]
	x.Removed, x.RemovedAt = uint64(by.at), instant(by.ms)
	e.identifierNode(id, "removed", "")
	e.out.Graph.Edges = append(e.out.Graph.Edges, Edge{
		From: nodeID(id), To: by.profile.String(), Kind: "removed", Label: "taken away", At: instant(by.ms), Offset: uint64(by.at),
	})
	return nil
}

// carriedFirst returns the first event of the lineage that carried an
// identifier, since a command took it away or from the beginning, and whose it
// was; nil when it is not found.
func (e *explaining) carriedFirst(id event.Identifier, before commitlog.Offset) (*Sighting, event.ProfileID, error) {
	since := commitlog.Offset(0)
	for _, c := range e.commands {
		if d := c.command.DeleteIdentifier; d != nil && c.at < before && e.rules.normal(d.Identifier.Identifier()) == id {
			since = c.at
		}
	}
	var first *archive.Passed
	n := 0
	whole := archive.Window{From: -1 << 62, To: 1 << 62}
	err := e.past.History(e.ctx, e.q.Space.Number, e.q.Epoch, e.of.root.Family(), whole, func(x archive.Entry) (bool, error) {
		if n++; n > maxBetweenEvents {
			return false, nil
		}
		if x.Offset < since || x.Offset > before || len(x.Body) == 0 && !x.Trimmed || first != nil && first.Offset < x.Offset {
			return true, nil
		}
		p := &archive.Passed{Entry: x}
		f, err := e.found(p)
		if err == nil && slices.Contains(f.ids, id) {
			first = p
		}
		return err == nil, err
	})
	if err != nil || first == nil {
		return nil, event.ProfileID{}, err
	}
	s, err := e.sighting(first.Offset)
	if err != nil {
		return nil, event.ProfileID{}, err
	}
	passed, err := e.passed(first.Offset)
	if err != nil || passed == nil {
		return nil, event.ProfileID{}, err
	}
	profile := passed.Profile
	if id.Collection == event.Accounts {
		profile = passed.Account
	}
	if e.of.members[profile] == nil {
		return nil, event.ProfileID{}, nil
	}
	return &s, profile, nil
}

// tellStanding tells of separations and blocks that name an identifier of the
// lineage.
func (e *explaining) tellStanding() error {
	mine := map[event.Identifier]bool{e.asked: true}
	for _, m := range e.of.order {
		for i := range m.own {
			mine[m.own[i].Identifier] = true
		}
	}
	e.tellCommandsOn(func(id event.Identifier) bool { return mine[e.rules.normal(id)] })
	return nil
}

// tellCommandsOn tells of the standing commands that name one of some
// identifiers.
func (e *explaining) tellCommandsOn(mine func(event.Identifier) bool) {
	for i := range e.standing {
		s := &e.standing[i]
		told := ExplainedCommand{Offset: uint64(s.Offset), At: instant(s.At), Command: s.Command, Lifted: e.lifted(s.Offset)}
		names := func(list []event.ExternalID) bool {
			return slices.ContainsFunc(list, func(x event.ExternalID) bool { return mine(x.Identifier()) })
		}
		switch c := s.Command; {
		case c.Separate != nil && (names(c.Separate.Left) || names(c.Separate.Right)):
			told.Words = separationWords(s)
			for _, left := range c.Separate.Left[:min(len(c.Separate.Left), 20)] {
				for _, right := range c.Separate.Right[:min(len(c.Separate.Right), 20)] {
					e.identifierNode(left.Identifier(), "other", "")
					e.identifierNode(right.Identifier(), "other", "")
					e.out.Graph.Edges = append(e.out.Graph.Edges, Edge{
						From: nodeID(left.Identifier()), To: nodeID(right.Identifier()), Kind: "separated", Label: "kept apart by command", At: told.At, Offset: told.Offset,
					})
				}
			}
		case c.Block != nil && mine(c.Block.Identifier()):
			told.Words = fmt.Sprintf("%s identifies nobody since the command at %d of %s%s.", name(c.Block.Identifier()), s.Offset, told.At, byWhom(c))
		default:
			continue
		}
		if told.Lifted {
			told.Words += " It was taken back later."
		}
		e.out.Commands = append(e.out.Commands, told)
		e.say(s.Offset, "%s", told.Words)
	}
}

func (e *explaining) lifted(at commitlog.Offset) bool {
	return slices.ContainsFunc(e.standing, func(s Standing) bool {
		return s.Command.Lift != nil && commitlog.Offset(s.Command.Lift.Offset) == at
	})
}

func separationWords(s *Standing) string {
	side := func(list []event.ExternalID) string {
		var ids []event.Identifier
		for _, x := range list {
			ids = append(ids, x.Identifier())
		}
		return names(ids)
	}
	return fmt.Sprintf("The command at %d of %s keeps %s apart from %s%s.", s.Offset, instant(s.At), side(s.Command.Separate.Left), side(s.Command.Separate.Right), byWhom(s.Command))
}

// maxExplainedLinks is how many memberships are told.
const maxExplainedLinks = 200

// tellAccounts tells of the accounts of a user, or the users of an account.
func (e *explaining) tellAccounts() error {
	var list []Member
	err := e.view(func(r Reader) (err error) {
		list, err = r.Links(e.of.root.ID, LinkMark{}, maxExplainedLinks+1)
		return err
	})
	if err != nil {
		return err
	}
	if len(list) > maxExplainedLinks {
		list = list[:maxExplainedLinks]
		e.noteOnce(fmt.Sprintf("Only %d memberships are told.", maxExplainedLinks))
	}
	for _, m := range list {
		e.out.Accounts = append(e.out.Accounts, ExplainedLink{ProfileID: m.Profile.String(), Offset: uint64(m.Offset), Timestamp: instant(m.Time)})
		e.profileNode(m.Profile)
		from, to := e.of.root.ID, m.Profile
		text := "It has been a user of the account %s since %s, by the group call at %d."
		if e.of.root.Collection == event.Accounts {
			from, to = to, from
			text = "%s has been a user of it since %s, by the group call at %d."
		}
		e.out.Graph.Edges = append(e.out.Graph.Edges, Edge{
			From: from.String(), To: to.String(), Kind: "member", Label: "user of the account", At: instant(m.Time), Offset: uint64(m.Offset),
		})
		e.say(m.Offset, text, m.Profile, instant(m.Time), m.Offset)
	}
	return nil
}

// finish puts sentences and rules in order, and leaves no list missing.
func (e *explaining) finish() {
	slices.SortStableFunc(e.told, func(a, b sentence) int { return cmp.Compare(a.at, b.at) })
	for _, s := range e.told {
		e.out.Sentences = append(e.out.Sentences, s.text)
	}
	var numbers []uint64
	for n := range e.spoken {
		numbers = append(numbers, n)
	}
	slices.Sort(numbers)
	for _, n := range numbers {
		e.out.Rules = append(e.out.Rules, e.rulesTold(n))
	}
	slices.SortStableFunc(e.out.Commands, func(a, b ExplainedCommand) int { return cmp.Compare(a.Offset, b.Offset) })
	fill(&e.out.Sentences)
	fill(&e.out.Identifiers)
	fill(&e.out.Removed)
	fill(&e.out.Merges)
	fill(&e.out.Refusals)
	fill(&e.out.Commands)
	fill(&e.out.Accounts)
	fill(&e.out.Rules)
	fill(&e.out.Notes)
	fill(&e.out.Graph.Nodes)
	fill(&e.out.Graph.Edges)
}

// fill makes an empty list of a missing one, for JSON.
func fill[T any](list *[]T) {
	if *list == nil {
		*list = []T{}
	}
}

func (e *explaining) rulesTold(number uint64) ExplainedRules {
	told := ExplainedRules{Snapshot: number, Types: []ExplainedRule{}}
	if e.override != nil && number < e.override.number {
		told.Held = e.override.number
	}
	rs := e.compiled[number]
	var types []typeKey
	for t := range e.spoken[number] {
		types = append(types, t)
	}
	slices.SortFunc(types, func(a, b typeKey) int {
		return cmp.Or(rs.compare(a.collection, a.name, b.collection, b.name), strings.Compare(a.name, b.name))
	})
	for i, t := range types {
		limit, window := rs.limit(t.collection, t.name)
		told.Types = append(told.Types, ExplainedRule{Collection: t.collection, ExplainedLimit: limitOfType(t.name, limit, window), Rank: i + 1})
	}
	return told
}
