package activation

import (
	"fmt"
	"iter"
	"slices"

	"github.com/tidwall/gjson"

	"kith/computation"
	"kith/event"
	"kith/identity"
	"kith/kv"
	"kith/pipeline"
	"kith/profile"
	"kith/workspace"
)

// Activation is the stage.
type Activation struct {
	people   pipeline.Slot[identity.Resolution]
	views    pipeline.Slot[profile.View]
	outcomes pipeline.Slot[computation.Outcome]
	// connected is called after the commit of a configuration that has other
	// connections than the one before, with the space's number.
	connected func(space uint32)
}

// New returns the stage, which reads the slots of the rooms before it.
// connected wakes whoever runs first syncs; it must be quick. See Syncs.
func New(people pipeline.Slot[identity.Resolution], views pipeline.Slot[profile.View], outcomes pipeline.Slot[computation.Outcome], connected func(space uint32)) *Activation {
	return &Activation{people: people, views: views, outcomes: outcomes, connected: connected}
}

// Name returns "activation".
func (s *Activation) Name() string { return "activation" }

// Begin starts a pass over one batch.
func (s *Activation) Begin(b *pipeline.Batch) (pipeline.Pass, error) {
	return &pass{stage: s, batch: b}, nil
}

// pass is the stage at work on one batch.
type pass struct {
	stage    *Activation
	batch    *pipeline.Batch
	snapshot *workspace.Snapshot // that plan is of
	plan     *plan
	firsts   map[pair]uint64 // connections whose first sync is not finished; nil until it is asked for
}

// Handle announces what a record has changed. A rebuild announces nothing:
// only the live epoch has an audience.
func (p *pass) Handle(r *pipeline.Record) error {
	if !p.batch.Live {
		return nil
	}
	if r.Kind == event.KindConfig {
		return p.configure(r)
	}
	var ask question
	switch w := r.Work.(type) {
	case Retract:
		return p.retract(r, w)
	case Sync:
		ask.sync = &w
	}
	people, outcome := p.stage.people.Get(r), p.stage.outcomes.Get(r)
	if people == nil || outcome == nil || people.Profile.IsZero() {
		return nil
	}
	for _, id := range people.Removed {
		if err := p.retract(r, Retract{Identifier: id}); err != nil {
			return err
		}
	}
	full, attached := r.Work != nil || len(people.Merged) > 0, attachedToUser(people)
	if !full && !attached && len(outcome.Changes) == 0 {
		return nil
	}
	// A new identifier alone changes nothing under those there are: a person
	// with many is not gone through again for each.
	if !full && len(outcome.Changes) == 0 {
		ask.only = people.Attached
	}
	ask.full = full || attached
	return p.reconcile(r, people, outcome, ask)
}

// Finish has nothing to write: what was told is written as it is told.
func (p *pass) Finish() error { return nil }

func attachedToUser(people *identity.Resolution) bool {
	for _, id := range people.Attached {
		if id.Collection == event.Users {
			return true
		}
	}
	return false
}

func (p *pass) planFor(s *workspace.Snapshot) *plan {
	if p.plan == nil || p.snapshot != s {
		p.plan, p.snapshot = planOf(s, p.batch.Space), s
	}
	return p.plan
}

// configure notes the connections that this configuration has and the one
// before had not: they have yet to be told of their audience's members, and of
// what has ended since they were told last.
func (p *pass) configure(r *pipeline.Record) error {
	before := planOf(r.Before, p.batch.Space)
	now := p.planFor(r.Snapshot)
	p.firsts = nil
	for _, pr := range now.pairs() {
		if before.connections[pr] != nil {
			continue
		}
		value := kv.Value{pendingFormat}.Uvarint(r.Snapshot.Number)
		if err := p.batch.Tx.Set(pendingKey(p.batch.Space, pr), value); err != nil {
			return err
		}
	}
	if !slices.Equal(before.pairs(), now.pairs()) {
		space := p.batch.Space
		p.batch.AfterCommit(func() { p.stage.connected(space) })
	}
	return nil
}

// question is what of a profile is compared.
type question struct {
	only []event.Identifier // under which identifiers; nil: under all
	full bool               // all audiences, not only those whose membership has just changed
	sync *Sync              // nil unless a Sync asks
}

// reconcile compares what every destination should know of a profile with
// what it was told under each of the profile's identifiers, emits the
// difference and remembers it.
func (p *pass) reconcile(r *pipeline.Record, people *identity.Resolution, outcome *computation.Outcome, ask question) error {
	plan := p.planFor(r.Snapshot)
	if len(plan.connections) == 0 && len(outcome.Changes) == 0 {
		return nil
	}
	identifiers, err := people.Identifiers()
	if err != nil {
		return err
	}
	members, err := outcome.Memberships()
	if err != nil {
		return err
	}
	who := p.person(r, identifiers)
	for id := range these(identifiers, ask.only) {
		known, err := p.told(id)
		if err != nil {
			return err
		}
		differs := false
		for _, c := range plan.candidates(r.Snapshot, id.Type, known, members, outcome, ask.full) {
			member := members[c.pair.audience]
			was, told := known[c.pair]
			if told && was.member == member || !told && !member || ask.sync != nil && !ask.sync.concerns(c.pair) {
				continue
			}
			if !member && !changed(outcome, c.pair.audience) && !outcome.Live(c.pair.audience) {
				continue // it is disabled, or computed anew after it was: nobody can say who has left
			}
			if !told && !c.history() && r.Work != nil && !changed(outcome, c.pair.audience) {
				continue // a member from before the connection, as far as anybody can say
			}
			a := announcement{
				connection: c, space: r.Snapshot.SpaceByNumber(p.batch.Space).ID, identifier: id,
				member: member, at: r.At, cause: cause(r),
			}
			first, err := p.first(c.pair)
			if err != nil {
				return err
			}
			if ask.sync != nil {
				// What was told before the connection that waits is not corrected:
				// to it, all is news.
				a.run, a.corrects = ask.sync.Run, first == 0 || told && was.first == first
			}
			if err := p.send(r, &a, who); err != nil {
				return err
			}
			known[c.pair], differs = standing{member, first}, true
		}
		if differs {
			if err := p.batch.Tx.Set(toldKey(p.batch.Space, id), known.encode()); err != nil {
				return err
			}
		}
	}
	return nil
}

// these yields the user's identifiers, or only some of them.
func these(identifiers []identity.Identified, only []event.Identifier) iter.Seq[event.Identifier] {
	return func(yield func(event.Identifier) bool) {
		if only == nil {
			for i := range identifiers {
				if !yield(identifiers[i].Identifier) {
					return
				}
			}
			return
		}
		for _, id := range only {
			if id.Collection == event.Users && !yield(id) {
				return
			}
		}
	}
}

// retract tells every destination that was told of a membership under an
// identifier that it has ended. What it was told of an audience that is gone,
// or that it is no longer connected to, stays: nobody can be told that any more.
func (p *pass) retract(r *pipeline.Record, w Retract) error {
	known, err := p.told(w.Identifier)
	if err != nil {
		return err
	}
	plan := p.planFor(r.Snapshot)
	who := &person{trait: func(string) (gjson.Result, bool, error) { return gjson.Result{}, false, nil }}
	changed := false
	for _, pr := range plan.pairs() {
		if !known[pr].member {
			continue
		}
		a := announcement{
			connection: plan.connections[pr], space: r.Snapshot.SpaceByNumber(p.batch.Space).ID, identifier: w.Identifier,
			at: r.At, cause: cause(r), run: w.Run, corrects: true,
		}
		if err := p.send(r, &a, who); err != nil {
			return err
		}
		known[pr], changed = standing{first: known[pr].first}, true
	}
	if !changed {
		return nil
	}
	return p.batch.Tx.Set(toldKey(p.batch.Space, w.Identifier), known.encode())
}

// changed reports whether a record has changed the membership of an audience.
func changed(outcome *computation.Outcome, audience string) bool {
	return slices.ContainsFunc(outcome.Changes, func(c computation.Change) bool { return c.Audience.ID == audience })
}

// candidates returns the connections that may have to be told something under
// an identifier: those of the audiences that changed, deleted ones among them,
// or in full those of which the person is a member or under which a membership
// was announced.
func (p *plan) candidates(s *workspace.Snapshot, idType string, known told, members map[string]bool, outcome *computation.Outcome, full bool) []*connection {
	var out []*connection
	add := func(connections []*connection) {
		for _, c := range connections {
			if !slices.Contains(out, c) && (known[c.pair].member || slices.Contains(c.types, idType)) {
				out = append(out, c)
			}
		}
	}
	for i := range outcome.Changes {
		a := outcome.Changes[i].Audience
		if s.Audience(a.ID) == nil {
			add(connectionsOf(s, a))
		} else {
			add(p.byAudience[a.ID])
		}
	}
	if !full {
		return out
	}
	for audience, member := range members {
		if member {
			add(p.byAudience[audience])
		}
	}
	for pr, s := range known {
		if s.member {
			add(p.byAudience[pr.audience])
		}
	}
	slices.SortFunc(out, func(a, b *connection) int { return comparePairs(a.pair, b.pair) })
	return out
}

func (p *pass) told(id event.Identifier) (told, error) {
	value, err := p.batch.Tx.Get(toldKey(p.batch.Space, id))
	if err != nil {
		return nil, err
	}
	return decodeTold(value)
}

// person gathers what messages say of a profile.
func (p *pass) person(r *pipeline.Record, identifiers []identity.Identified) *person {
	who := &person{trait: func(string) (gjson.Result, bool, error) { return gjson.Result{}, false, nil }}
	if view := p.stage.views.Get(r); view != nil {
		who.trait = view.Trait
	}
	who.userID = newest(identifiers, "user_id")
	who.anonymousID = newest(identifiers, "anonymous_id")
	who.email = newest(identifiers, "email")
	return who
}

// newest returns the value of that type that was attached last, by effective
// time; identifiers that came with a merge stand behind the profile's own,
// whatever their age.
func newest(identifiers []identity.Identified, name string) string {
	var last *identity.Identified
	for i := range identifiers {
		if id := &identifiers[i]; id.Type == name && (last == nil || id.At >= last.At) {
			last = id
		}
	}
	if last == nil {
		return ""
	}
	return last.Value
}

func (p *pass) send(r *pipeline.Record, a *announcement, who *person) error {
	messages, err := a.messages(who)
	if err != nil {
		return err
	}
	for _, m := range messages {
		p.batch.Emit(pipeline.Output{At: r.At, Profile: r.Profile, Message: &pipeline.Message{
			Destination: a.destination.ID, Computation: a.audience.ID, MessageID: m.id, Body: m.body,
		}})
	}
	return nil
}

// cause names what brought a record about, the same after a crash. Work is named
// by its place among the records: one profile may be told the same of an
// audience by two builds of another that it reads.
func cause(r *pipeline.Record) string {
	switch {
	case r.Firing != nil:
		return fmt.Sprintf("timer %d %c %x", r.Firing.At, r.Firing.Owner, r.Firing.Subject)
	case r.Work != nil:
		return fmt.Sprintf("job at %d", r.Offset)
	}
	return r.ID.String()
}

// first returns the number of the snapshot that made a connection whose first
// sync is not finished; zero for any other.
func (p *pass) first(pr pair) (uint64, error) {
	if p.firsts == nil {
		all, err := pending(p.batch.Tx, p.batch.Space)
		if err != nil {
			return 0, err
		}
		p.firsts = make(map[pair]uint64, len(all))
		for _, w := range all {
			p.firsts[w.pair] = w.snapshot
		}
	}
	return p.firsts[pr], nil
}

// waiting is a connection whose first sync is not finished.
type waiting struct {
	pair
	snapshot uint64 // that made the connection
}

// pending returns the connections of a space whose first sync is not finished.
func pending(r kv.Reader, space uint32) ([]waiting, error) {
	stem := pendingStem(space)
	var all []waiting
	for p, err := range r.Scan(kv.Prefix(stem)) {
		if err != nil {
			return nil, err
		}
		parts := kv.PartsAfter(p.Key, stem)
		w := waiting{pair: pair{audience: parts.String(), destination: parts.String()}}
		if w.snapshot, err = decodePending(p.Value); err != nil || !parts.OK() {
			return nil, errTold
		}
		all = append(all, w)
	}
	return all, nil
}

// decodePending returns the number of the snapshot that made a connection.
func decodePending(value []byte) (uint64, error) {
	f := kv.FieldsOf(value)
	known := f.Byte() == pendingFormat
	snapshot := f.Uvarint()
	if !known || !f.OK() {
		return 0, errTold
	}
	return snapshot, nil
}
