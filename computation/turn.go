package computation

import (
	"kith/event"
	"kith/identity"
	"kith/kv"
	"kith/pipeline"
	"kith/profile"
	"kith/query"
	"kith/timer"
)

// turn is one record on its way through a pass: it takes what the record
// brings into the profile's cells, notes which definitions that concerns, and
// evaluates those.
type turn struct {
	*pass
	record     *pipeline.Record
	resolution *identity.Resolution
	view       *profile.View
	who        *person
	now        int64
	todo       []int // definitions to evaluate, in their order
	out        *Outcome
}

func (t *turn) take() error {
	if len(t.spare) == 0 {
		t.spare = make([]Outcome, 64)
	}
	t.out, t.spare = &t.spare[0], t.spare[1:]
	*t.out = Outcome{Profile: t.who.id, pass: t.pass}
	switch t.record.Work.(type) {
	case part, settle: // quiet: of no concern to the rooms behind
	default:
		t.engine.outcome.Set(t.record, t.out)
	}
	if t.resolution.Created {
		t.who.fresh = t.who.page == nil && len(t.who.shelves) == 0
		t.visit(t.graph.fresh)
	}
	for _, m := range t.resolution.Merged {
		if m.Into == t.who.id {
			if err := t.merge(m.From); err != nil {
				return err
			}
		}
	}
	if len(t.resolution.Attached) > 0 && !t.resolution.Created {
		if err := t.reconsider(false); err != nil {
			return err
		}
	}
	if len(t.resolution.Removed) > 0 {
		if err := t.reconsider(true); err != nil {
			return err
		}
	}
	var err error
	switch w := t.record.Work.(type) {
	case part:
		return t.join(w)
	case settle:
		t.visitBuilds(w.builds)
	case Begin:
		t.visitBuilds(t.graph.begins(w.At))
	case Announce:
		t.announced(w)
	case release:
		return t.release(w)
	}
	switch {
	case t.record.Firing != nil && t.record.Firing.Owner == Room:
		err = t.fire()
	case t.record.Event != nil:
		err = t.feed()
	}
	if err != nil {
		return err
	}
	for _, c := range t.view.Changed {
		t.visit(t.graph.byTrait[c.Name])
	}
	return t.settle()
}

// visit notes definitions to evaluate.
func (t *turn) visit(definitions []int) {
	for _, i := range definitions {
		t.todo = addIndex(t.todo, i)
	}
}

func (t *turn) visitBuilds(builds []uint32) {
	for _, b := range builds {
		if d := t.graph.byBuild[b]; d != nil {
			t.todo = addIndex(t.todo, d.index)
		}
	}
}

// feed counts an event.
func (t *turn) feed() error {
	var hits []hit
	if pr := t.engine.prepared.Get(t.record); pr != nil && pr.graph == t.graph && pr.event == t.record.Event {
		hits = pr.hits
	} else {
		hits = t.graph.hits(t.record)
	}
	for i := range hits {
		h := &hits[i]
		c, err := t.cell(t.who, h.counter.aggregate)
		if err != nil {
			return err
		}
		if c.add(h.counter.aggregate, t.now, t.record.Time, h) {
			t.visit(h.counter.readers)
		}
	}
	return nil
}

// fire evaluates what is due.
func (t *turn) fire() error {
	page, err := t.pass.page(t.who)
	if err != nil {
		return err
	}
	if page.armed == t.record.Firing.At {
		page.armed, t.who.turned = timer.Never, true
	}
	for i := range page.entries {
		e := &page.entries[i]
		if e.due > t.now {
			continue
		}
		if d := t.graph.byBuild[e.build]; d != nil {
			t.visit([]int{d.index})
		} else {
			e.due, t.who.turned = timer.Never, true // it stands still
		}
	}
	if len(t.todo) > 0 {
		return nil // settle arms
	}
	return t.arm(page)
}

// reconsider visits what the profile would be a member of if it were eligible,
// or what it is a member of and may be eligible for no more.
func (t *turn) reconsider(members bool) error {
	page, err := t.pass.page(t.who)
	if err != nil {
		return err
	}
	for i := range page.entries {
		if e := &page.entries[i]; e.held && e.member == members {
			t.visitBuilds([]uint32{e.build})
		}
	}
	return nil
}

// settle evaluates what was noted, what follows from it, and arms the timer.
func (t *turn) settle() error {
	if len(t.todo) == 0 {
		return nil
	}
	page, err := t.pass.page(t.who)
	if err != nil {
		return err
	}
	for len(t.todo) > 0 {
		d := t.graph.definitions[t.todo[0]]
		t.todo = t.todo[1:]
		if err := t.evaluate(d, page); err != nil {
			return err
		}
	}
	return t.arm(page)
}

func (t *turn) evaluate(d *definition, page *page) error {
	if t.engine.frozen && t.record.Offset < d.build.Offset {
		return nil
	}
	if d.build.State == live {
		adopted, err := t.adopt(d, page)
		if err != nil {
			return err
		}
		if adopted { // the readers were last evaluated by what the build before said
			t.visit(t.graph.readers[d.build.Number])
		}
	}
	env := env{turn: t, definition: d, page: page}
	held, next := d.program.Eval(t.now, &env)
	if env.err != nil {
		return env.err
	}
	e := page.find(d.build.Number)
	if e == nil {
		if !held && next == query.Never {
			return nil
		}
		e = page.at(d.build.Number)
	}
	member := held && e.member && len(t.resolution.Removed) == 0 // else eligibility may have gone
	if held && !member {
		var err error
		if member, err = t.eligible(d); err != nil {
			return err
		}
	}
	if e.held != held {
		e.held, t.who.turned = held, true
	}
	// An instant that moves away is left to the firing.
	if next < e.due || e.due <= t.now && e.due != next {
		e.due, t.who.turned = next, true
	}
	if e.member != member {
		t.visit(t.graph.readers[e.build])
		e.past = e.past || e.member && d.build.State == live
		e.member, e.since, t.who.turned = member, t.now, true
		var err error
		if member {
			err = t.enrol(e.build, t.who.id, t.now)
		} else {
			err = t.strike(e.build, t.who.id)
		}
		if err != nil {
			return err
		}
	}
	if d.build.State == live && e.told != e.member {
		t.announce(d.build, e)
	}
	return nil
}

// adopt takes over what earlier builds of the audience have told of the
// profile, and reports whether there was anything.
func (t *turn) adopt(d *definition, page *page) (adopted bool, err error) {
	for _, earlier := range d.build.Before {
		old := page.find(earlier)
		if old == nil {
			continue
		}
		told, past, member := old.told, old.past, old.member
		page.remove(earlier)
		t.who.turned = true
		if member {
			if err := t.strike(earlier, t.who.id); err != nil {
				return false, err
			}
		}
		e := page.at(d.build.Number)
		e.told, e.past, adopted = e.told || told, e.past || past, true
	}
	return adopted, nil
}

// eligible reports whether the profile has an identifier of a type that the
// audience asks for.
func (t *turn) eligible(d *definition) (bool, error) {
	return t.resolution.Has(d.types)
}

// announce says that the profile entered or left.
func (t *turn) announce(b *build, e *entry) {
	e.told, t.who.turned = e.member, true
	e.past = e.past || !e.member
	a := t.record.Snapshot.Audience(b.Audience.ID)
	if a == nil {
		a = &b.Audience
	}
	t.out.Changes = append(t.out.Changes, Change{Audience: a, Member: e.member, At: t.now})
	kind := pipeline.AudienceExited
	if e.member {
		kind = pipeline.AudienceEntered
	}
	t.batch.Emit(pipeline.Output{At: t.now, Profile: t.who.id, Change: &pipeline.Change{
		Kind: kind, Cause: t.record.ID, Subject: a.Key,
	}})
}

// arm sets the profile's timer for the earliest instant at which an answer can
// change by itself.
func (t *turn) arm(page *page) error {
	earliest := timer.Never
	for i := range page.entries {
		if e := &page.entries[i]; e.due < earliest && t.graph.byBuild[e.build] != nil {
			earliest = e.due
		}
	}
	if earliest >= page.armed {
		return nil
	}
	if err := t.disarm(t.who.id, page); err != nil {
		return err
	}
	page.armed, t.who.turned = earliest, true
	return t.batch.Timers.Arm(timer.Due{At: earliest, Owner: Room, Subject: t.who.id[:]})
}

func (p *pass) disarm(id event.ProfileID, page *page) error {
	if page.armed == timer.Never {
		return nil
	}
	return p.batch.Timers.Disarm(timer.Due{At: page.armed, Owner: Room, Subject: id[:]})
}

// merge joins what is kept of a profile that was merged away into this one's.
// Its cells stay as they were; its page, its memberships and its timer go.
func (t *turn) merge(from event.ProfileID) error {
	child := t.person(from)
	if err := t.joinCells(child); err != nil {
		return err
	}
	page, err := t.pass.page(t.who)
	if err != nil {
		return err
	}
	gone, err := t.pass.page(child)
	if err != nil {
		return err
	}
	if err := t.disarm(child.id, gone); err != nil {
		return err
	}
	for i := range gone.entries {
		old := &gone.entries[i]
		e := page.at(old.build)
		e.told, e.past = e.told || old.told, e.past || old.past
		d := t.graph.byBuild[old.build]
		if d != nil {
			t.visit([]int{d.index})
		}
		t.visit(t.graph.readers[old.build]) // what they read may have come with the child
		if !old.member {
			continue
		}
		if err := t.strike(old.build, child.id); err != nil {
			return err
		}
		if d == nil && !e.member { // it stands still: whoever was a member stays one
			e.member, e.since = true, old.since
			if err := t.enrol(old.build, t.who.id, old.since); err != nil {
				return err
			}
		}
	}
	child.page, child.turned, t.who.turned = emptyPage(), true, true
	return t.reconsider(false)
}

func (t *turn) joinCells(child *person) error {
	if !child.fresh {
		stem := t.keys.shelves(child.id)
		var numbers []uint32
		for pair, err := range t.batch.Tx.Scan(kv.Prefix(stem)) {
			if err != nil {
				return err
			}
			parts := kv.PartsAfter(pair.Key, stem)
			numbers = append(numbers, parts.Uint32())
			if !parts.OK() {
				return errStored
			}
		}
		for _, n := range numbers {
			if _, err := t.shelf(child, n); err != nil {
				return err
			}
		}
	}
	for _, s := range child.shelves {
		for _, n := range s.aggregates() {
			a := t.graph.aggregates[n]
			if a == nil {
				continue
			}
			from, err := s.cell(a.aggregate)
			if err != nil {
				return err
			}
			if from.empty() {
				continue
			}
			into, err := t.cell(t.who, a.aggregate)
			if err != nil {
				return err
			}
			into.join(a.aggregate, t.now, from)
			t.visit(a.readers)
		}
	}
	return nil
}
