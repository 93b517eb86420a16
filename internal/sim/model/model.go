package model

import (
	"bytes"
	"encoding/json"
	"slices"

	"kith/event"
	"kith/workspace"
)

// Record is a record of a space's sequence: an event, a command, or the
// identifier rules and event filters that are in force from here on.
type Record struct {
	Offset int
	ID     event.RecordID
	Time   int64 // effective, in milliseconds
	// Body is the event's JSON; nil for new rules.
	Body      []byte
	Source    string // the id of the source it came from
	MessageID string // a later event with the same one does not count
	Rules     []workspace.IdentifierRule
	Filters   []Filter
	Command   *event.Command
}

// Filter reports whether an event, as it is parsed with numbers as json.Number,
// is to be nobody's.
type Filter func(event map[string]any) bool

// World is everybody there is after a history.
type World struct {
	Users    []*Profile
	Accounts []*Profile
	// Links are the users of accounts, by their places in Users and Accounts,
	// each with the first record that said so.
	Links map[[2]*Profile]int

	// Attached and Removed say how often an identifier was attached to a
	// profile and taken away from one, Joined and Left how many memberships
	// began and ended.
	Attached, Removed map[event.Identifier]int
	Joined, Left      int

	rules    []rule
	filters  []Filter
	seen     map[string]bool
	groups   []groupCall
	standing []Record // separate, block and lift, as far as they are in force
	live     bool     // they come into force at their records
}

// groupCall is a group call that belongs to a user and to an account, as they
// were created.
type groupCall struct{ user, account, offset int }

// Profile is a person or an account.
type Profile struct {
	Created     Record
	Identifiers []Identified
	Events      []Record
	// From are the offsets at which the profiles that were merged into this
	// one had been created.
	From []int
}

// Identified is an identifier and the record that attached it.
type Identified struct {
	event.Identifier
	Time   int64
	Offset int
}

// New returns a world in which nothing has happened, for those who look at it
// between two records.
func New() *World {
	w := &World{seen: map[string]bool{}, Attached: map[event.Identifier]int{}, Removed: map[event.Identifier]int{}}
	w.setRules(nil)
	return w
}

// Add has the next record happen. Links are not kept up, and standing commands
// not in force; Replay does both.
func (w *World) Add(r Record) {
	switch {
	case r.Command != nil:
		w.command(r)
	case r.Body == nil:
		w.setRules(r.Rules)
		w.filters = r.Filters
	case !w.seen[r.MessageID]:
		w.seen[r.MessageID] = true
		w.event(r)
	}
}

// Replay evaluates a history from its beginning, with all its standing commands
// in force from there: this is what the rooms have worked out once they are at
// rest, and what a rebuild makes of it.
func Replay(history []Record) *World {
	w := New()
	for _, r := range history {
		if r.Command != nil && r.Command.Standing() {
			w.standing = append(w.standing, r)
		}
	}
	return w.replay(history)
}

// Live evaluates a history from its beginning, with each standing command in
// force from its record on, and what came before it as it was.
func Live(history []Record) *World {
	w := New()
	w.live = true
	return w.replay(history)
}

func (w *World) replay(history []Record) *World {
	for _, r := range history {
		w.Add(r)
	}
	w.Links = map[[2]*Profile]int{}
	for _, g := range w.groups {
		pair := [2]*Profile{createdAt(w.Users, g.user), createdAt(w.Accounts, g.account)}
		if _, known := w.Links[pair]; !known {
			w.Links[pair] = g.offset
		}
	}
	return w
}

// createdAt returns the profile that one created at an offset is part of.
func createdAt(list []*Profile, offset int) *Profile {
	for _, p := range list {
		if p.Created.Offset == offset || slices.Contains(p.From, offset) {
			return p
		}
	}
	panic("nobody was created there")
}

// event finds out whose an event is.
func (w *World) event(r Record) {
	body := parse(r.Body)
	if optedOut(body) || slices.ContainsFunc(w.filters, func(f Filter) bool { return f(body) }) {
		return
	}
	ids := w.identifiers(body)
	user := w.resolve(&w.Users, of(ids, event.Users), r)
	account := w.resolve(&w.Accounts, of(ids, event.Accounts), r)
	if user != nil {
		user.Events = append(user.Events, r)
	}
	if account != nil {
		account.Events = append(account.Events, r)
	}
	if user != nil && account != nil && body["type"] == "group" {
		if !slices.ContainsFunc(w.groups, func(g groupCall) bool { return w.between(g, user, account) }) {
			w.Joined++
		}
		w.groups = append(w.groups, groupCall{user.Created.Offset, account.Created.Offset, r.Offset})
	}
}

// between reports whether a group call made a user a part of an account.
func (w *World) between(g groupCall, user, account *Profile) bool {
	return createdAt(w.Users, g.user) == user && createdAt(w.Accounts, g.account) == account
}

func of(ids []event.Identifier, collection string) (list []event.Identifier) {
	for _, id := range ids {
		if id.Collection == collection {
			list = append(list, id)
		}
	}
	return list
}

// resolve returns the profile that identifiers on an event lead to: of all the
// ways to leave out identifiers such that nobody exceeds a limit, the one that
// keeps the most important ones.
func (w *World) resolve(list *[]*Profile, ids []event.Identifier, r Record) *Profile {
	if len(ids) == 0 {
		return nil
	}
	ids = w.byImportance(*list, ids, r.Time)
	best := []event.Identifier{}
	for choice := 1<<len(ids) - 1; choice > 0; choice-- {
		// A choice is a number whose highest bit is the most important
		// identifier: the largest that is allowed is the best.
		var kept []event.Identifier
		for i := range ids {
			if choice&(1<<(len(ids)-1-i)) != 0 {
				kept = append(kept, ids[i])
			}
		}
		if w.allowed(*list, kept, r.Time) {
			best = kept
			break
		}
	}
	owners := w.ownersOf(*list, best, r.Time)
	if len(owners) == 0 {
		owners = []*Profile{{Created: r}}
		*list = append(*list, owners[0])
	}
	survivor := owners[0]
	for _, o := range owners {
		if o.Created.Offset < survivor.Created.Offset {
			survivor = o
		}
	}
	for _, o := range owners {
		if o != survivor {
			survivor.Identifiers = append(survivor.Identifiers, o.Identifiers...)
			survivor.Events = append(survivor.Events, o.Events...)
			survivor.From = append(append(survivor.From, o.Created.Offset), o.From...)
			*list = slices.DeleteFunc(*list, func(p *Profile) bool { return p == o })
		}
	}
	for _, id := range best {
		if w.ownerOf([]*Profile{survivor}, id, r.Time) == nil {
			for _, o := range *list { // whoever has it has it no more
				if o != survivor && o.drop(id) {
					w.Removed[id]++
				}
			}
			survivor.drop(id)
			w.Attached[id]++
			survivor.Identifiers = append(survivor.Identifiers, Identified{id, r.Time, r.Offset})
		}
	}
	return survivor
}

func (p *Profile) has(id event.Identifier) bool {
	return slices.ContainsFunc(p.Identifiers, func(x Identified) bool { return x.Identifier == id })
}

// drop takes an identifier from a profile; it reports whether it was there.
func (p *Profile) drop(id event.Identifier) bool {
	had := p.has(id)
	p.Identifiers = slices.DeleteFunc(p.Identifiers, func(x Identified) bool { return x.Identifier == id })
	return had
}

// ownerOf returns whose an identifier is at a time, nil when it is nobody's or
// counts no more.
func (w *World) ownerOf(list []*Profile, id event.Identifier, time int64) *Profile {
	for _, p := range list {
		for _, x := range p.Identifiers {
			if x.Identifier == id {
				if w.expires(id) && time-x.Time >= w.ruleOf(id.Collection, id.Type).validFor {
					return nil
				}
				return p
			}
		}
	}
	return nil
}

func (w *World) ownersOf(list []*Profile, ids []event.Identifier, time int64) (owners []*Profile) {
	for _, id := range ids {
		if o := w.ownerOf(list, id, time); o != nil && !slices.Contains(owners, o) {
			owners = append(owners, o)
		}
	}
	return owners
}

// allowed reports whether one profile may have all these identifiers and all
// that their owners have. A type may be over its limit only where it is so in
// one of the owners alone.
func (w *World) allowed(list []*Profile, ids []event.Identifier, time int64) bool {
	owners := w.ownersOf(list, ids, time)
	if w.separated(list, owners, ids, time) {
		return false
	}
	types := map[string]bool{}
	for _, id := range ids {
		types[id.Type] = true
	}
	for _, o := range owners {
		for _, x := range o.Identifiers {
			types[x.Type] = true
		}
	}
	for name := range types {
		rule := w.ruleOf(ids[0].Collection, name)
		parts, sum := 0, 0
		for _, o := range owners {
			n := 0
			for _, x := range o.Identifiers {
				if x.Type == name && (rule.window == 0 || (time-rule.window < x.Time && x.Time <= time)) {
					n++
				}
			}
			if n > 0 {
				parts, sum = parts+1, sum+n
			}
		}
		for _, id := range ids {
			if id.Type == name && w.ownerOf(list, id, time) == nil {
				parts, sum = parts+1, sum+1
			}
		}
		// What is alone is what one owner has already, or one new value.
		if parts > 1 && sum > rule.limit {
			return false
		}
	}
	return true
}

// Traits returns a profile's traits: of each the JSON text that was sent last,
// by effective time, then by record. A trait that was sent as null is none.
func (p *Profile) Traits(call string) map[string]string {
	type said struct {
		value   string
		derived bool
		record  Record
	}
	last := map[string]said{}
	say := func(name string, s said) {
		before, known := last[name]
		older := s.record.Time < before.record.Time || (s.record.Time == before.record.Time && s.record.Offset < before.record.Offset)
		switch {
		case !known, before.derived && !s.derived:
		case s.derived && !before.derived, older:
			return
		}
		last[name] = s
	}
	for _, r := range p.Events {
		body := parse(r.Body)
		traits, ok := body["traits"].(map[string]any)
		if !ok || body["type"] != call {
			continue
		}
		for name, value := range rawMembers(r.Body, "traits") {
			say(name, said{value: value, record: r})
		}
		first, _ := traits["firstName"].(string)
		surname, _ := traits["lastName"].(string)
		if _, named := traits["name"]; call == "identify" && !named && first != "" && surname != "" {
			text, err := json.Marshal(first + " " + surname)
			if err != nil {
				panic(err)
			}
			say("name", said{value: string(text), derived: true, record: r})
		}
	}
	traits := map[string]string{}
	for name, s := range last {
		if s.value != "null" {
			traits[name] = s.value
		}
	}
	return traits
}

func parse(body []byte) map[string]any {
	var m map[string]any
	d := json.NewDecoder(bytes.NewReader(body))
	d.UseNumber()
	if err := d.Decode(&m); err != nil {
		panic(err)
	}
	return m
}

func rawMembers(body []byte, name string) map[string]string {
	var outer map[string]json.RawMessage
	if err := json.Unmarshal(body, &outer); err != nil {
		panic(err)
	}
	var inner map[string]json.RawMessage
	if err := json.Unmarshal(outer[name], &inner); err != nil {
		panic(err)
	}
	members := map[string]string{}
	for k, v := range inner {
		members[k] = string(v)
	}
	return members
}
