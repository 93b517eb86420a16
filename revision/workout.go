package revision

import (
	"context"
	"fmt"
	"reflect"
	"slices"

	"kith/archive"
	"kith/commitlog"
	"kith/computation"
	"kith/event"
	"kith/fault"
	"kith/identity"
	"kith/kv"
	"kith/pipeline"
	"kith/profile"
)

// basis is the moment of the store that a scratch begins with.
type basis struct {
	set      *set
	standing computation.Standing
	at       pipeline.Position
	finder   *identity.Finder                   // under the rules of that moment
	before   map[commitlog.Offset]archive.Whose // whose the events of the set and the leaves are
	commands []*pipeline.Judged                 // that may concern the set, in order
	leaves   []commitlog.Offset                 // of those, the ones that end a membership
	ground   ground
	stayed   []event.ProfileID // with whom the command leaves what lies before the horizon
}

// A scratch that is this many records behind the loop, or less, does the rest
// within the swap. When it is more than maxBehind there, it is tried again.
const (
	closeBehind = 256
	maxBehind   = 20_000
)

// workOut finds the set of a task and leads it through a scratch, to about
// where the live loop is. The caller closes the scratch, also after an error.
func (r *Reviser) workOut(ctx context.Context, w *task) (*scratch, error) {
	b := &basis{}
	err := r.cfg.DB.View(ctx, func(v kv.Reader) error { return r.gather(v, w, b) })
	if err != nil {
		return nil, err
	}
	configs, err := r.landmarks(ctx, w, b)
	if err != nil {
		return nil, err
	}
	records, err := r.records(ctx, w, b, configs)
	if err != nil {
		return nil, err
	}
	var s *scratch
	err = r.cfg.DB.View(ctx, func(v kv.Reader) error {
		s, err = r.newScratch(ctx, w, b, func(tx kv.Tx) error { return r.prepare(v, tx, w, b) })
		return err
	})
	if err != nil {
		return nil, err
	}
	s.give(records, b.before)
	if err := s.lead(ctx, b.at, true); err != nil {
		return s, err
	}
	for range maxAttempts {
		near, err := r.follow(ctx, w, s)
		if err != nil || near {
			return s, err
		}
	}
	return s, errAgain
}

// gather finds the set in one moment of the store.
func (r *Reviser) gather(v kv.Reader, w *task, b *basis) (err error) {
	if b.at, err = pipeline.ReadPosition(v, w.space, w.epoch); err != nil {
		return err
	}
	if b.standing, err = r.cfg.Computation.Standing(v, w.space, w.epoch); err != nil {
		return err
	}
	if !b.standing.Settled {
		return errWaits
	}
	if b.finder, err = r.finder(v, w.space, w.epoch, b.at.Snapshot); err != nil {
		return err
	}
	if b.ground, err = r.groundOf(v, w.space); err != nil {
		return err
	}
	s := &set{
		ground: b.ground, under: map[event.ProfileID]bool{}, reader: v, graph: identity.NewReader(v, w.space, w.epoch), space: w.space, epoch: w.epoch, collection: w.collection,
		limits: r.cfg.Limits, apart: map[event.Identifier]bool{}, members: map[event.ProfileID]bool{},
		ids: map[event.Identifier]bool{}, events: map[commitlog.Offset]bool{}, full: map[event.Identifier]bool{},
	}
	b.set = s
	standing, err := s.graph.Standing()
	if err != nil {
		return err
	}
	if w.thought != nil {
		w.thought.Offset, w.thought.At = b.at.Next, b.at.At
		standing = append(standing, *w.thought)
	}
	lifts := s.block(standing, b.finder, w)
	for _, id := range w.ids {
		if err := s.seed(b.finder.Normal(id), lifts); err != nil {
			return err
		}
	}
	for _, id := range w.profiles {
		if err := s.profile(id); err != nil {
			return err
		}
	}
	for id := range w.met {
		if err := s.seed(id, true); err != nil {
			return err
		}
	}
	s.reader, s.graph = nil, identity.Reader{} // the moment is over
	offsets := s.offsets()
	b.before, err = archive.WhoseAre(v, w.space, w.epoch, offsets)
	return err
}

// block notes the values that commands in force block, and reports whether the
// task's command is a lift.
func (s *set) block(standing []identity.Standing, f *identity.Finder, w *task) (lifts bool) {
	lifted := map[uint64]bool{}
	for _, x := range standing {
		if x.Command.Lift != nil {
			lifted[x.Command.Lift.Offset] = true
		}
	}
	for _, x := range standing {
		if x.Command.Block != nil && !lifted[uint64(x.Offset)] {
			s.apart[f.Normal(x.Command.Block.Identifier())] = true
		}
		if x.Offset == w.command && w.thought == nil || w.thought != nil && x.Offset == w.thought.Offset {
			lifts = x.Command.Lift != nil
		}
	}
	return lifts
}

// finder returns what finds identifiers under the rules of a configuration, or
// under those that hold from the start of the epoch where they are later.
func (r *Reviser) finder(v kv.Reader, space, epoch uint32, snapshot uint64) (*identity.Finder, error) {
	number, rules, err := identity.NewReader(v, space, epoch).Override()
	if err != nil {
		return nil, err
	}
	if rules != nil && snapshot < number {
		return identity.NewFinder(rules)
	}
	if snapshot == 0 {
		return identity.NewFinder(nil)
	}
	snap, err := r.cfg.Snapshots.At(v, snapshot)
	if err != nil {
		return nil, err
	}
	return identity.NewFinder(snap.SpaceByNumber(space))
}

// landmarks reads the commands that may concern the set, and returns where
// configurations came into force.
func (r *Reviser) landmarks(ctx context.Context, w *task, b *basis) (configs []commitlog.Offset, err error) {
	list, err := r.cfg.Archive.Landmarks(ctx, w.space, b.at.Next)
	if err != nil {
		return nil, err
	}
	for _, l := range list {
		if l.Offset < b.ground.horizon.Offset {
			continue // the base has done it
		}
		if l.Kind == event.KindConfig {
			configs = append(configs, l.Offset)
			continue
		}
		j, err := r.judged(ctx, w.space, l.Offset)
		if err != nil {
			return nil, err
		}
		if j.Head.Kind != event.KindCommand {
			continue // it was erased
		}
		c, err := event.ParseCommand(j.Processed())
		if err != nil {
			return nil, err
		}
		if c.Leave != nil {
			b.leaves = append(b.leaves, l.Offset)
		}
		if c.Leave != nil || c.DeleteIdentifier != nil && c.DeleteIdentifier.Identifier.Identifier().Collection == w.collection {
			b.commands = append(b.commands, j)
		}
	}
	return configs, nil
}

// judged reads one record of the past.
func (r *Reviser) judged(ctx context.Context, space uint32, at commitlog.Offset) (*pipeline.Judged, error) {
	e, err := r.cfg.Archive.Event(ctx, space, at)
	if err != nil {
		return nil, err
	}
	return &pipeline.Judged{Offset: at, Head: e.Head, Raw: e.Body, Verdict: e.Verdict}, nil
}

// records returns the records of the set in their order: its events, the
// commands, and of the configurations those that one of them is under, or that
// brought on what is computed, and the last.
func (r *Reviser) records(ctx context.Context, w *task, b *basis, configs []commitlog.Offset) (list []*pipeline.Judged, err error) {
	var bytes int64
	for _, at := range b.set.offsets() {
		j, err := r.judged(ctx, w.space, at)
		if err != nil {
			return nil, err
		}
		if bytes += int64(len(j.Processed())); bytes > r.cfg.Limits.MaxBytes {
			return nil, tooLarge{fmt.Sprintf("the events of the profiles that it may change are more than %d bytes", r.cfg.Limits.MaxBytes)}
		}
		list = append(list, j)
	}
	list = append(list, b.commands...)
	slices.SortFunc(list, compareJudged)
	var needed []*pipeline.Judged
	next := 0 // in list
	for i, at := range configs {
		end := b.at.Next
		if i+1 < len(configs) {
			end = configs[i+1]
		}
		for next < len(list) && list[next].Offset < at {
			next++
		}
		under := next < len(list) && list[next].Offset < end
		if !under && i+1 < len(configs) && !slices.Contains(b.standing.Begins, at) {
			continue
		}
		j, err := r.judged(ctx, w.space, at)
		if err != nil {
			return nil, err
		}
		needed = append(needed, j)
	}
	list = append(list, needed...)
	slices.SortFunc(list, compareJudged)
	return list, nil
}

func compareJudged(a, b *pipeline.Judged) int { return int(int64(a.Offset) - int64(b.Offset)) }

// prepare writes what a scratch begins with.
func (r *Reviser) prepare(v kv.Reader, tx kv.Tx, w *task, b *basis) error {
	if err := r.grounded(v, w, b); err != nil {
		return err
	}
	if err := identity.CopyRules(v, tx, w.space, w.epoch); err != nil {
		return err
	}
	if w.thought != nil && b.ground.epoch == 0 {
		if err := identity.Preload(tx, w.space, w.epoch, []identity.Standing{*w.thought}); err != nil {
			return err
		}
	}
	if err := profile.CopyIndex(v, tx, w.space, w.epoch); err != nil {
		return err
	}
	for _, at := range b.leaves {
		whose, err := archive.WhoseAre(v, w.space, w.epoch, []commitlog.Offset{at})
		if err != nil {
			return err
		}
		b.before[at] = whose[at]
		id := whose[at].Account
		if w.collection == event.Accounts {
			id = whose[at].Profile
		}
		if id.IsZero() {
			continue // it was nobody's then
		}
		if err := identity.CopyFamily(v, tx, w.space, w.epoch, id); err != nil {
			return err
		}
	}
	if w.collection == event.Users { // nothing is computed of accounts
		if err := computation.CopyRegistry(v, tx, w.space, w.epoch); err != nil {
			return err
		}
	}
	if b.ground.epoch == 0 {
		return nil
	}
	return r.lay(v, tx, w, b)
}

// follow leads a scratch on to where the live loop is, and reports whether it
// is near.
func (r *Reviser) follow(ctx context.Context, w *task, s *scratch) (near bool, err error) {
	err = r.cfg.DB.View(ctx, func(v kv.Reader) error {
		to, err := pipeline.ReadPosition(v, w.space, w.epoch)
		if err != nil {
			return err
		}
		if near = to.Next-s.at.Next <= closeBehind; near {
			return r.widen(v, w, s)
		}
		if to.Next > s.at.Next+maxBehind { // a moment of the store is to be short
			return r.catchUp(ctx, v, w, s, pipeline.Position{Next: s.at.Next + maxBehind}, false)
		}
		return r.catchUp(ctx, v, w, s, to, true)
	})
	return near, err
}

// catchUp leads a scratch through what the loop has passed since, up to an
// offset; whole says that it is the loop's position, which v sees.
func (r *Reviser) catchUp(ctx context.Context, v kv.Reader, w *task, s *scratch, to pipeline.Position, whole bool) error {
	var events, commands []*pipeline.Judged
	var at []commitlog.Offset
	for next := s.at.Next; next < to.Next; {
		read, err := r.cfg.Archive.Follow(ctx, w.space, next, 1<<20, func(j *pipeline.Judged) error {
			switch {
			case j.Offset >= to.Next:
			case j.Head.Kind == event.KindConfig:
				return errAgain
			case j.Head.Kind == event.KindCommand:
				c, err := event.ParseCommand(j.Processed())
				if err != nil {
					return err
				}
				if c.DeleteIdentifier == nil {
					return errAgain // it may change what the scratch began with
				}
				if c.DeleteIdentifier.Identifier.Identifier().Collection == w.collection {
					commands = append(commands, j)
				}
			case j.Head.Kind == event.KindEvent && j.Verdict.Code == pipeline.Admitted:
				events, at = append(events, j), append(at, j.Offset)
			}
			return nil
		})
		if err != nil {
			return err
		}
		if read == next {
			return fault.New(fault.Internal, "the archive ends at %d, before the position %d of the loop", read, to.Next)
		}
		next = read
	}
	whose, err := archive.WhoseAre(v, w.space, w.epoch, at)
	if err != nil {
		return err
	}
	mine := commands
	for _, j := range events {
		ours, err := s.concerns(v, w, j, whose[j.Offset])
		if err != nil {
			return err
		}
		if !ours {
			continue
		}
		mine = append(mine, j)
		s.basis.before[j.Offset] = whose[j.Offset]
		s.basis.set.events[j.Offset] = true
	}
	if len(s.basis.set.events) > r.cfg.Limits.MaxEvents {
		return tooLarge{fmt.Sprintf("the profiles that it may change have more than %d events", r.cfg.Limits.MaxEvents)}
	}
	slices.SortFunc(mine, compareJudged)
	s.give(mine, whose)
	return s.lead(ctx, to, whole)
}

// concerns reports whether an event that came meanwhile is of the set. It fails
// with errAgain when it makes the set a larger one.
func (s *scratch) concerns(v kv.Reader, w *task, j *pipeline.Judged, whose archive.Whose) (bool, error) {
	e, err := event.ParseTrusted(j.Processed())
	if err != nil {
		return false, err
	}
	standard := j.Head.IDs
	if j.Verdict.Body != nil {
		standard = event.StandardIdentifiers(e)
	}
	owner := whose.Profile
	if w.collection == event.Accounts {
		owner = whose.Account
	}
	set := s.basis.set
	ours := set.members[owner]
	var carried []event.Identifier
	for _, id := range s.basis.finder.Find(standard, e) {
		if id.Collection == w.collection && !set.apart[id] {
			carried = append(carried, id)
			ours = ours || set.ids[id]
		}
	}
	if !ours {
		return false, nil
	}
	graph := identity.NewReader(v, w.space, w.epoch)
	for _, id := range carried {
		owners, err := graph.Had(id)
		if err != nil {
			return false, err
		}
		owner, err := graph.Lookup(id.Collection, id.Type, id.Value)
		if err != nil {
			return false, err
		}
		if !owner.IsZero() {
			owners = append(owners, owner)
		}
		for _, owner := range owners {
			family, err := graph.Family(owner)
			if err != nil {
				return false, err
			}
			// Also one that the event has just made a part of one in the set.
			if slices.ContainsFunc(family, func(p event.ProfileID) bool { return !set.members[p] }) {
				return false, errAgain
			}
		}
		set.ids[id] = true
	}
	return true, nil
}

// widen looks whether what has come out concerns others than those in the set:
// those who met an identifier that somebody else has or had now, or that stands
// or stood beside others now. It fails with errAgain when it does.
func (r *Reviser) widen(v kv.Reader, w *task, s *scratch) error {
	again := false
	err := s.db.View(s.run, func(n kv.Reader) error {
		now, before := identity.NewReader(n, w.space, w.epoch), identity.NewReader(v, w.space, w.epoch)
		same := map[event.ProfileID]bool{} // profiles that have come out as they were, and others
		for id := range s.basis.set.ids {
			if s.basis.set.apart[id] || w.met[id] {
				continue
			}
			a, err := before.Lookup(id.Collection, id.Type, id.Value)
			if err != nil {
				return err
			}
			if !a.IsZero() && !s.basis.set.members[a] {
				w.met[id], again = true, true // it was owned by others all along
				continue
			}
			stands, err := stood(before, now, id, same)
			if err != nil {
				return err
			}
			if stands {
				continue
			}
			others, err := s.basis.set.lacks(before, id)
			if err != nil {
				return err
			}
			if others {
				w.met[id], again = true, true
			}
		}
		return nil
	})
	if err == nil && again {
		return errAgain
	}
	return err
}

// stood reports whether an identifier has all along been whose it was, also of
// those whom a command took it away from, and these are as they were. same
// keeps what is found of profiles.
func stood(before, now identity.Reader, id event.Identifier, same map[event.ProfileID]bool) (bool, error) {
	was, err := owners(before, id)
	if err != nil {
		return false, err
	}
	is, err := owners(now, id)
	if err != nil || !slices.Equal(was, is) {
		return false, err
	}
	for _, p := range was {
		unchanged, known := same[p]
		if !known {
			if unchanged, err = alike(before, now, p); err != nil {
				return false, err
			}
			same[p] = unchanged
		}
		if !unchanged {
			return false, nil
		}
	}
	return true, nil
}

// owners returns whose an identifier is, if it is somebody's, behind those whom
// a command took it away from, and what became of these.
func owners(graph identity.Reader, id event.Identifier) ([]event.ProfileID, error) {
	had, err := graph.Had(id)
	if err != nil {
		return nil, err
	}
	var list []event.ProfileID
	for _, p := range had {
		root, err := graph.Resolve(p)
		if err != nil {
			return nil, err
		}
		list = append(list, p, root)
	}
	owner, err := graph.Lookup(id.Collection, id.Type, id.Value)
	if err == nil && !owner.IsZero() {
		list = append(list, owner)
	}
	return list, err
}

// alike reports whether a profile stands in two graphs alike.
func alike(a, b identity.Reader, id event.ProfileID) (bool, error) {
	p, err := a.Frozen(id)
	if err != nil {
		return false, err
	}
	q, err := b.Frozen(id)
	return reflect.DeepEqual(p, q), err
}

// lacks reports whether somebody who met an identifier is not in the set.
func (s *set) lacks(graph identity.Reader, id event.Identifier) (bool, error) {
	profiles, nobodys, err := graph.Sightings(id)
	if err != nil {
		return false, err
	}
	for _, p := range profiles {
		root, err := graph.Resolve(p)
		if err != nil {
			return false, err
		}
		if !s.members[root] {
			return true, nil
		}
	}
	return slices.ContainsFunc(nobodys, func(at commitlog.Offset) bool { return at >= s.ground.horizon.Offset && !s.events[at] }), nil
}
