package model

import (
	"slices"

	"kith/event"
)

// stand puts the standing commands of a history in force from its beginning, but
// for those that were lifted: this is what the rooms have worked out once they
// are at rest.
func (w *World) stand(history []Record) {
	lifted := map[int]bool{}
	for _, r := range history {
		if r.Command != nil && r.Command.Lift != nil {
			lifted[int(r.Command.Lift.Offset)] = true
		}
	}
	for _, r := range history {
		if r.Command == nil || lifted[r.Offset] {
			continue
		}
		if c := r.Command.Separate; c != nil {
			w.separate = append(w.separate, [2][]event.Identifier{identifiersOf(c.Left), identifiersOf(c.Right)})
		}
		if c := r.Command.Block; c != nil {
			w.blocked = append(w.blocked, c.Identifier())
		}
	}
}

func identifiersOf(list []event.ExternalID) (ids []event.Identifier) {
	for _, x := range list {
		ids = append(ids, x.Identifier())
	}
	return ids
}

// apart reports whether a command keeps some of the identifiers apart from
// others of them.
func (w *World) apart(ids []event.Identifier) bool {
	among := func(side []event.Identifier) bool {
		return slices.ContainsFunc(side, func(id event.Identifier) bool { return slices.Contains(ids, id) })
	}
	return slices.ContainsFunc(w.separate, func(sides [2][]event.Identifier) bool { return among(sides[0]) && among(sides[1]) })
}

// command carries out what happens at its place in the history.
func (w *World) command(c *event.Command) {
	switch {
	case c.DeleteIdentifier != nil:
		id := c.DeleteIdentifier.Identifier.Identifier()
		for _, p := range slices.Concat(w.Users, w.Accounts) {
			p.Identifiers = slices.DeleteFunc(p.Identifiers, func(x Identified) bool { return x.Identifier == id })
		}
	case c.Leave != nil:
		user, account := ownerOf(w.Users, c.Leave.User.Identifier()), ownerOf(w.Accounts, c.Leave.Account.Identifier())
		w.groups = slices.DeleteFunc(w.groups, func(g groupCall) bool {
			return user != nil && account != nil && createdAt(w.Users, g.user) == user && createdAt(w.Accounts, g.account) == account
		})
	}
}
