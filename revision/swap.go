package revision

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"slices"

	"kith/activation"
	"kith/archive"
	"kith/commitlog"
	"kith/computation"
	"kith/event"
	"kith/fault"
	"kith/identity"
	"kith/kv"
	"kith/pipeline"
	"kith/profile"
	"kith/timer"
)

// swap puts what has come out in the place of the set, in one transaction of
// the live loop.
func (r *Reviser) swap(ctx context.Context, loop Loop, w *task, s *scratch) error {
	return loop.Do(ctx, func(b *pipeline.Batch, _ func(*pipeline.Record) error) error {
		if b.Epoch != w.epoch {
			return errAgain
		}
		due, err := identity.NewReader(b.Tx, w.space, w.epoch).Revisions()
		if err != nil {
			return err
		}
		if !slices.ContainsFunc(due, func(x identity.Revision) bool { return x.Offset == w.command }) {
			return nil // it is done already
		}
		if err := r.arrive(ctx, b, w, s); err != nil {
			return err
		}
		var d *difference
		err = s.db.View(ctx, func(n kv.Reader) (err error) {
			d, err = r.compare(b.Tx, n, w, s)
			return err
		})
		if err != nil {
			return err
		}
		if err := d.apply(b); err != nil {
			return err
		}
		for _, c := range d.changes {
			b.Emit(pipeline.Output{At: s.at.At, Profile: c.profile, Change: &c.Change})
		}
		state, err := read[State](b.Tx, stateKey(w.space, w.epoch, w.command), stateFormat)
		if err != nil {
			return err
		}
		if state == nil || state.Phase == NeedsRebuild {
			state = &State{}
		}
		state.Phase = Done
		state.Events += len(s.basis.set.events)
		state.Before += len(s.basis.set.roots)
		state.After += len(d.roots)
		state.Changed += len(d.touched)
		if len(s.basis.stayed) > 0 {
			state.Stayed, state.Horizon = append(state.Stayed, s.basis.stayed...), s.basis.ground.horizon.At
		}
		if w.more {
			state.Phase = Pending
		}
		if left := d.rest(w.collection); len(left.Profiles)+len(left.Nobodys) > 0 {
			if err := write(b.Tx, restKey(w.space, w.epoch, w.command), restFormat, left); err != nil {
				return err
			}
		}
		if left, err := read[rest](b.Tx, restKey(w.space, w.epoch, w.command), restFormat); err != nil {
			return err
		} else if left != nil && !w.more {
			state.Phase = Announcing
		}
		if err := write(b.Tx, stateKey(w.space, w.epoch, w.command), stateFormat, state); err != nil {
			return err
		}
		if w.more {
			return nil
		}
		return identity.Revised(b.Tx, w.space, w.epoch, w.command)
	})
}

// arrive leads the scratch up to the very position of the loop, within the
// loop's transaction.
func (r *Reviser) arrive(ctx context.Context, b *pipeline.Batch, w *task, s *scratch) error {
	standing, err := r.cfg.Computation.Standing(b.Tx, w.space, w.epoch)
	if err != nil {
		return err
	}
	if !standing.Settled || standing.Digest != s.basis.standing.Digest {
		return errAgain
	}
	to, err := pipeline.ReadPosition(b.Tx, w.space, w.epoch)
	if err != nil {
		return err
	}
	if to.Next > s.at.Next+maxBehind {
		return errAgain
	}
	if to != s.at {
		if err := r.catchUp(ctx, b.Tx, w, s, to, true); err != nil {
			return err
		}
	}
	if err := r.widen(b.Tx, w, s); err != nil {
		return err
	}
	return r.carry(ctx, b.Tx, w, s)
}

// carry gives what has come out the memberships that nobody computes.
func (r *Reviser) carry(ctx context.Context, v kv.Reader, w *task, s *scratch) error {
	if err := r.grounded(v, w, s.basis); err != nil {
		return err
	}
	if w.collection == event.Accounts {
		return nil
	}
	return s.db.Update(ctx, pipeline.Fence(w.space, w.epoch), kv.Lazy, func(tx kv.Tx) error {
		before, now := identity.NewReader(v, w.space, w.epoch), identity.NewReader(tx, w.space, w.epoch)
		return r.cfg.Computation.CarryOver(v, tx, w.space, w.epoch, s.basis.set.roots, func(old event.ProfileID) (event.ProfileID, error) {
			return became(before, now, old)
		})
	})
}

// became returns what a profile has become: the one that has its id, or its
// first identifier that still is somebody's; zero for nothing.
func became(before, now identity.Reader, old event.ProfileID) (event.ProfileID, error) {
	p, err := now.Frozen(old)
	if err != nil {
		return event.ProfileID{}, err
	}
	if p != nil {
		return now.Resolve(old)
	}
	if p, err = before.Frozen(old); err != nil || p == nil {
		return event.ProfileID{}, err
	}
	for i := range p.Identifiers {
		id := p.Identifiers[i].Identifier
		owner, err := now.Lookup(id.Collection, id.Type, id.Value)
		if err != nil || !owner.IsZero() {
			return owner, err
		}
	}
	return event.ProfileID{}, nil
}

// difference is what makes the set in the store that of the scratch.
type difference struct {
	removed  [][]byte
	set      []kv.Pair
	sizes    map[uint32]int64
	disarmed []timer.Due
	armed    []timer.Due
	whose    map[commitlog.Offset]archive.Whose
	changes  []change
	roots    []event.ProfileID // that came of it
	touched  []event.ProfileID // of those, the ones that are others than before
	nobodys  []event.Identifier
	space    uint32
	epoch    uint32
}

type change struct {
	pipeline.Change
	profile event.ProfileID
}

// kept is what is kept of a profile under its id.
type kept struct {
	keys  [][]byte
	held  computation.Held
	pairs map[string][]byte
}

// keptOf reads what is kept of a profile in a store.
func keptOf(v kv.Reader, space, epoch uint32, id event.ProfileID) (*kept, error) {
	k := &kept{pairs: map[string][]byte{}}
	for _, held := range []func(kv.Reader, uint32, uint32, event.ProfileID) ([][]byte, error){identity.Held, profile.Held, archive.Held} {
		keys, err := held(v, space, epoch, id)
		if err != nil {
			return nil, err
		}
		k.keys = append(k.keys, keys...)
	}
	var err error
	if k.held, err = computation.HeldOf(v, space, epoch, id); err != nil {
		return nil, err
	}
	k.keys = append(k.keys, k.held.Keys...)
	return k, k.read(v)
}

func (k *kept) read(v kv.Reader) error {
	values, err := v.GetMany(k.keys)
	if err != nil {
		return err
	}
	for i, key := range k.keys {
		if values[i] != nil {
			k.pairs[string(key)] = values[i]
		}
	}
	return nil
}

// compare finds the difference between the set as the store has it and as it
// has come out.
func (r *Reviser) compare(v, n kv.Reader, w *task, s *scratch) (*difference, error) {
	d := &difference{sizes: map[uint32]int64{}, whose: map[commitlog.Offset]archive.Whose{}, space: w.space, epoch: w.epoch}
	before, now := identity.NewReader(v, w.space, w.epoch), identity.NewReader(n, w.space, w.epoch)
	old, new := map[string][]byte{}, map[string][]byte{}
	touched := map[event.ProfileID]bool{}
	for _, id := range s.ids() {
		a, err := keptOf(v, w.space, w.epoch, id)
		if err != nil {
			return nil, err
		}
		b, err := keptOf(n, w.space, w.epoch, id)
		if err != nil {
			return nil, err
		}
		maps.Copy(old, a.pairs)
		maps.Copy(new, b.pairs)
		d.compute(id, a.held, b.held)
		root, err := became(before, now, id)
		if err != nil {
			return nil, err
		}
		if !root.IsZero() && !maps.EqualFunc(a.pairs, b.pairs, bytes.Equal) {
			touched[root] = true
		}
	}
	if err := s.refusals(v, n, before, w, old, new); err != nil {
		return nil, err
	}
	for _, key := range slices.Sorted(maps.Keys(old)) {
		if _, stays := new[key]; !stays {
			d.removed = append(d.removed, []byte(key))
		}
	}
	for _, key := range slices.Sorted(maps.Keys(new)) {
		if was, known := old[key]; !known || !bytes.Equal(was, new[key]) {
			d.set = append(d.set, kv.Pair{Key: []byte(key), Value: new[key]})
		}
	}
	for at := range s.basis.set.events {
		is, led := s.whose[at]
		if led && is != s.basis.before[at] {
			d.whose[at] = is
		}
	}
	for _, at := range s.basis.leaves {
		// One is of the set when it is about somebody who was or is in it.
		was, is := s.basis.before[at], s.whose[at]
		if is != was && (!s.mine(is).IsZero() || s.basis.set.members[s.mine(was)]) {
			d.whose[at] = is
		}
	}
	d.touched = slices.SortedFunc(maps.Keys(touched), compareIDs)
	return d, d.tell(before, now, s)
}

func compareIDs(a, b event.ProfileID) int { return slices.Compare(a[:], b[:]) }

// ids returns the ids of all profiles that the set was or is made of.
func (s *scratch) ids() []event.ProfileID {
	all := maps.Clone(s.basis.set.members)
	for _, w := range s.whose {
		if id := s.mine(w); !id.IsZero() {
			all[id] = true
		}
	}
	return slices.SortedFunc(maps.Keys(all), compareIDs)
}

// mine returns the owner in the collection that is worked out.
func (s *scratch) mine(w archive.Whose) event.ProfileID {
	if s.collection == event.Accounts {
		return w.Account
	}
	return w.Profile
}

// compute notes what changes in sizes and timers.
func (d *difference) compute(id event.ProfileID, was, is computation.Held) {
	for _, b := range was.Builds {
		d.sizes[b]--
	}
	for _, b := range is.Builds {
		d.sizes[b]++
	}
	if was.Armed == is.Armed {
		return
	}
	if was.Armed != timer.Never {
		d.disarmed = append(d.disarmed, timer.Due{At: was.Armed, Owner: computation.Room, Subject: id[:]})
	}
	if is.Armed != timer.Never {
		d.armed = append(d.armed, timer.Due{At: is.Armed, Owner: computation.Room, Subject: id[:]})
	}
}

// refusals adds what is kept of the set's identifiers and of no profile. Why
// events did not use one is kept for all of them together: it is left as it is
// where others than the set have met it.
func (s *scratch) refusals(v, n kv.Reader, before identity.Reader, w *task, old, new map[string][]byte) error {
	for id := range s.basis.set.ids {
		others, err := s.basis.set.lacks(before, id)
		if err != nil {
			return err
		}
		for _, side := range []struct {
			r    kv.Reader
			into map[string][]byte
		}{{v, old}, {n, new}} {
			k := &kept{pairs: side.into}
			k.keys, err = identity.HeldApart(side.r, w.space, w.epoch, id, !others, func(at commitlog.Offset) bool { return s.basis.set.events[at] })
			if err != nil {
				return err
			}
			if err := k.read(side.r); err != nil {
				return err
			}
		}
	}
	return nil
}

// tell finds what has become of whom.
func (d *difference) tell(before, now identity.Reader, s *scratch) error {
	note := func(profile event.ProfileID, c pipeline.Change) { d.changes = append(d.changes, change{c, profile}) }
	roots := map[event.ProfileID]bool{}
	for _, id := range s.ids() {
		p, err := now.Frozen(id)
		if err != nil {
			return err
		}
		if p == nil {
			continue
		}
		if root, err := now.Resolve(id); err != nil || root != id {
			if err != nil {
				return err
			}
			continue
		}
		roots[id] = true
		was, err := before.Frozen(id)
		if err != nil {
			return err
		}
		of := id
		switch {
		case was != nil:
			of, err = before.Resolve(id)
		case len(p.Identifiers) > 0:
			x := p.Identifiers[0].Identifier
			of, err = before.Lookup(x.Collection, x.Type, x.Value)
		}
		if err != nil {
			return err
		}
		if of != id && !of.IsZero() {
			note(id, pipeline.Change{Kind: pipeline.ProfileSplit, Other: of})
		} else if of.IsZero() {
			note(id, pipeline.Change{Kind: pipeline.ProfileCreated})
		}
	}
	for _, old := range s.basis.set.roots {
		into, err := became(before, now, old)
		if err != nil {
			return err
		}
		if into != old && !into.IsZero() {
			note(into, pipeline.Change{Kind: pipeline.ProfilesMerged, Other: old})
		}
		p, err := before.Frozen(old)
		if err != nil {
			return err
		}
		for i := range p.Identifiers {
			id := p.Identifiers[i].Identifier
			owner, err := now.Lookup(id.Collection, id.Type, id.Value)
			if err != nil {
				return err
			}
			if was, err := before.Lookup(id.Collection, id.Type, id.Value); err != nil || was != old {
				if err != nil {
					return err
				}
				continue
			}
			if owner.IsZero() {
				d.nobodys = append(d.nobodys, id)
				note(old, pipeline.Change{Kind: pipeline.IdentifierRemoved, Subject: id.Type + ":" + id.Value})
			}
		}
	}
	d.roots = slices.SortedFunc(maps.Keys(roots), compareIDs)
	return nil
}

// apply writes the difference.
func (d *difference) apply(b *pipeline.Batch) error {
	if err := identity.Recount(b.Tx, b.Space, b.Epoch, d.removed, d.set); err != nil {
		return err
	}
	for _, key := range d.removed {
		if err := b.Tx.Delete(key); err != nil {
			return err
		}
	}
	for _, p := range d.set {
		if err := b.Tx.Set(p.Key, p.Value); err != nil {
			return err
		}
	}
	for _, t := range d.disarmed {
		if err := b.Timers.Disarm(t); err != nil {
			return err
		}
	}
	for _, t := range d.armed {
		if err := b.Timers.Arm(t); err != nil {
			return err
		}
	}
	if err := computation.Resize(b, d.sizes); err != nil {
		return err
	}
	return archive.Reassign(b.Tx, b.Space, b.Epoch, d.whose)
}

// rest returns whom activation is to look at. Nothing is announced of accounts.
func (d *difference) rest(collection string) *rest {
	left := &rest{}
	if collection == event.Accounts {
		return left
	}
	left.Profiles = d.touched
	for _, id := range d.nobodys {
		left.Nobodys = append(left.Nobodys, event.ExternalIDOf(id))
	}
	return left
}

// chunk is how many profiles activation looks at in one transaction.
const chunk = 200

// reconcile has activation look at the next of those who are left of a
// revision.
func (r *Reviser) reconcile(ctx context.Context, loop Loop, space uint32, command commitlog.Offset) error {
	n := chunk
	for {
		err := loop.Do(ctx, func(b *pipeline.Batch, step func(*pipeline.Record) error) error {
			return reconcileSome(b, step, command, n)
		})
		if n == 1 || !fault.Is(err, fault.Invalid) {
			return err
		}
		n = max(1, n/4) // more than a transaction holds
	}
}

func reconcileSome(b *pipeline.Batch, step func(*pipeline.Record) error, command commitlog.Offset, n int) error {
	key := restKey(b.Space, b.Epoch, command)
	left, err := read[rest](b.Tx, key, restFormat)
	if err != nil || left == nil {
		return err
	}
	run := fmt.Sprintf("revision/%d/%d", b.Epoch, command) // another epoch's is another run
	now := left.Profiles[:min(n, len(left.Profiles))]
	left.Profiles = left.Profiles[len(now):]
	for _, p := range now {
		if err := step(&pipeline.Record{Profile: p, Work: activation.Sync{Run: run}}); err != nil {
			return err
		}
	}
	gone := left.Nobodys[:min(n-len(now), len(left.Nobodys))]
	left.Nobodys = left.Nobodys[len(gone):]
	for _, x := range gone {
		id := x.Identifier()
		owner, err := identity.NewReader(b.Tx, b.Space, b.Epoch).Lookup(id.Collection, id.Type, id.Value)
		if err != nil {
			return err
		}
		if !owner.IsZero() {
			continue // somebody has it again, who tells what is true of it
		}
		if err := step(&pipeline.Record{Work: activation.Retract{Identifier: id, Run: run}}); err != nil {
			return err
		}
	}
	state, err := read[State](b.Tx, stateKey(b.Space, b.Epoch, command), stateFormat)
	if err != nil {
		return err
	}
	if state == nil {
		state = &State{}
	}
	for _, o := range b.Emitted() {
		if o.Message != nil {
			state.Announced++
		}
	}
	state.Phase = Announcing
	if len(left.Profiles)+len(left.Nobodys) == 0 {
		state.Phase = Done
		if err := b.Tx.Delete(key); err != nil {
			return err
		}
	} else if err := write(b.Tx, key, restFormat, left); err != nil {
		return err
	}
	return write(b.Tx, stateKey(b.Space, b.Epoch, command), stateFormat, state)
}
