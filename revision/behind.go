package revision

import (
	"slices"

	"kith/archive"
	"kith/computation"
	"kith/event"
	"kith/identity"
	"kith/kv"
	"kith/pipeline"
	"kith/profile"
)

// What lies before the horizon of a space cannot be led through a scratch: the
// bodies are gone. What it has made is in the base, an epoch that stands at the
// horizon. A scratch begins with what the base keeps of the profiles of its set,
// with all standing commands in force, and is led through the records from there
// on; a rebuild of the whole space does the same.

// ground is what is behind the events of a space; the zero ground is nothing.
type ground struct {
	epoch   uint32 // the base
	horizon archive.Horizon
}

// groundOf reads it.
func (r *Reviser) groundOf(v kv.Reader, space uint32) (g ground, err error) {
	if r.cfg.Base == nil {
		return g, nil
	}
	if g.epoch, err = r.cfg.Base(v, space); err != nil || g.epoch == 0 {
		return g, err
	}
	g.horizon, err = archive.HorizonOf(v, space)
	return g, err
}

// grounded fails with errAgain when the horizon is another than the one that a
// scratch began at.
func (r *Reviser) grounded(v kv.Reader, w *task, b *basis) error {
	g, err := r.groundOf(v, w.space)
	if err == nil && g != b.ground {
		err = errAgain
	}
	return err
}

// below adds a profile of the base, with all that was merged into it there, and
// what has become of these.
func (s *set) below(id event.ProfileID) error {
	if s.ground.epoch == 0 {
		return nil
	}
	base := identity.NewReader(s.reader, s.space, s.ground.epoch)
	root, err := base.Resolve(id)
	if err != nil || s.under[root] {
		return err
	}
	p, err := base.Frozen(root)
	if err != nil || p == nil || p.Collection != s.collection {
		return err
	}
	for _, m := range p.Family() {
		s.under[m] = true
	}
	for _, m := range p.Family() {
		frozen, err := base.Frozen(m)
		if err != nil {
			return err
		}
		if frozen != nil {
			for i := range frozen.Identifiers {
				s.identifier(frozen.Identifiers[i].Identifier)
			}
		}
		seen, err := base.Seen(m)
		if err != nil {
			return err
		}
		for _, id := range seen {
			s.identifier(id)
		}
		if err := s.profile(m); err != nil {
			return err
		}
	}
	return s.bounded()
}

// belowOwner adds whose an identifier was in the base.
func (s *set) belowOwner(id event.Identifier) error {
	if s.ground.epoch == 0 {
		return nil
	}
	owner, err := identity.NewReader(s.reader, s.space, s.ground.epoch).Lookup(id.Collection, id.Type, id.Value)
	if err != nil || owner.IsZero() {
		return err
	}
	return s.below(owner)
}

// lay writes what the base keeps of a set into a scratch, puts the standing
// commands in force there, and notes with whom that leaves what they part.
func (r *Reviser) lay(v kv.Reader, tx kv.Tx, w *task, b *basis) error {
	base := b.ground.epoch
	var profiles []event.ProfileID
	for id := range b.set.under {
		profiles = append(profiles, id)
	}
	slices.SortFunc(profiles, compareIDs)
	var ids []event.Identifier
	for id := range b.set.ids {
		ids = append(ids, id)
	}
	if err := identity.CopyBase(v, base, tx, w.space, w.epoch, profiles, ids); err != nil {
		return err
	}
	if err := profile.CopyBase(v, base, tx, w.space, w.epoch, profiles); err != nil {
		return err
	}
	for _, p := range profiles {
		if err := archive.CopyBase(v, base, tx, w.space, w.epoch, p); err != nil {
			return err
		}
	}
	if w.collection == event.Users {
		if err := computation.CopyBase(v, base, tx, w.space, w.epoch, profiles); err != nil {
			return err
		}
	}
	at, err := pipeline.CopyPosition(v, base, tx, w.space, w.epoch)
	if err != nil {
		return err
	}
	standing, err := identity.NewReader(v, w.space, w.epoch).Standing()
	if err != nil {
		return err
	}
	command := w.command
	if w.thought != nil {
		standing = append(standing, *w.thought)
		command = w.thought.Offset
	}
	batch := &pipeline.Batch{Tx: tx, Space: w.space, Epoch: w.epoch}
	if at.Snapshot > 0 {
		if batch.Snapshot, err = r.cfg.Snapshots.At(v, at.Snapshot); err != nil {
			return err
		}
	}
	stayed, err := identity.New(&pipeline.Layout{}).Stand(batch, standing)
	if err != nil {
		return err
	}
	b.stayed = nil
	for _, x := range stayed {
		if x.Command == command {
			b.stayed = append(b.stayed, x.Profile)
		}
	}
	return nil
}
