package revision

import (
	"context"
	"errors"
	"slices"

	"kith/archive"
	"kith/computation"
	"kith/event"
	"kith/fault"
	"kith/identity"
	"kith/kv"
	"kith/pipeline"
)

// Part is a profile as a revision found or left it.
type Part struct {
	ID         event.ProfileID
	Collection string
	// Identifiers are those that it has, at most MaxPartIdentifiers of them;
	// Count is how many there are.
	Identifiers []event.Identifier
	Count       int
	// Events is how many it has, at most the bound on a set.
	Events int
	// Audiences are those that it is a member of, by their keys.
	Audiences []string
	// Of is the profile that it was part of before; its own id for one that
	// was there, and zero for one that is new.
	Of event.ProfileID
	// Changed says that something of it is other than before. Joined and Left
	// are the audiences that it became a member of or left with that.
	Changed bool
	Joined  []string
	Left    []string
}

// Bounds of what a plan tells.
const (
	MaxParts           = 100 // profiles
	MaxPartIdentifiers = 100 // of one
)

// Plan is what a command would make of the past.
type Plan struct {
	Events  int // that would be worked out again
	Before  int // profiles that it concerns
	After   int // profiles that would come of them
	Changed int // of those, the ones that would be others than before
	// Parts are the profiles after, those that would change first.
	Parts []Part
	// Nobodys are identifiers that would be nobody's any more.
	Nobodys []event.Identifier
	// Stayed are profiles with which would remain what lies before Horizon, and
	// Horizon is since when all events are kept, in milliseconds; see State.
	Stayed  []event.ProfileID
	Horizon int64
	// NeedsRebuild says why it could not be worked out beside the loop; the
	// rest is empty then.
	NeedsRebuild string
}

// Try says what would come of a command that is not ordered. Nothing changes.
// While audiences are being computed it fails with fault.Unavailable.
func (r *Reviser) Try(ctx context.Context, space uint32, c *event.Command) (*Plan, error) {
	epoch, err := r.live(space)
	if err != nil {
		return nil, err
	}
	w := newTask(space, epoch, 0)
	w.thought = &identity.Standing{Command: c}
	err = r.cfg.DB.View(ctx, func(v kv.Reader) error {
		standing, err := identity.NewReader(v, space, epoch).Standing()
		w.ids = named(c, standing)
		return err
	})
	if err != nil {
		return nil, err
	}
	if len(w.ids) == 0 {
		return &Plan{}, nil
	}
	w.collection = w.ids[0].Collection
	var plan *Plan
	err = r.attempt(ctx, w, func(s *scratch) error {
		return r.cfg.DB.View(ctx, func(v kv.Reader) error {
			if err := r.carry(ctx, v, w, s); err != nil {
				return err
			}
			return s.db.View(ctx, func(n kv.Reader) (err error) {
				plan, err = r.plan(v, n, w, s)
				return err
			})
		})
	})
	var large tooLarge
	switch {
	case errors.As(err, &large):
		return &Plan{NeedsRebuild: large.reason}, nil
	case errors.Is(err, errWaits):
		return nil, fault.New(fault.Unavailable, "audiences are being computed: try again when they are live")
	}
	return plan, err
}

func (r *Reviser) plan(v, n kv.Reader, w *task, s *scratch) (*Plan, error) {
	d, err := r.compare(v, n, w, s)
	if err != nil {
		return nil, err
	}
	plan := &Plan{
		Events: len(s.basis.set.events), Before: len(s.basis.set.roots), After: len(d.roots), Changed: len(d.touched), Nobodys: d.nobodys,
		Stayed: s.basis.stayed,
	}
	if len(plan.Stayed) > 0 {
		plan.Horizon = s.basis.ground.horizon.At
	}
	before, now := identity.NewReader(v, w.space, w.epoch), identity.NewReader(n, w.space, w.epoch)
	roots := slices.Concat(d.touched, d.roots)
	for i, id := range roots {
		if slices.Contains(roots[:i], id) {
			continue
		}
		if len(plan.Parts) == MaxParts {
			break
		}
		part, err := r.part(n, w.space, w.epoch, id)
		if err != nil {
			return nil, err
		}
		part.Changed = slices.Contains(d.touched, id)
		was, err := before.Frozen(id)
		if err != nil {
			return nil, err
		}
		if was != nil {
			if part.Of, err = before.Resolve(id); err != nil {
				return nil, err
			}
		} else if p, err := now.Profile(id); err != nil {
			return nil, err
		} else if len(p.Identifiers) > 0 {
			x := p.Identifiers[0].Identifier
			if part.Of, err = before.Lookup(x.Collection, x.Type, x.Value); err != nil {
				return nil, err
			}
		}
		if part.Changed && !part.Of.IsZero() {
			old, err := r.part(v, w.space, w.epoch, part.Of)
			if err != nil {
				return nil, err
			}
			part.Joined, part.Left = without(part.Audiences, old.Audiences), without(old.Audiences, part.Audiences)
		}
		plan.Parts = append(plan.Parts, *part)
	}
	return plan, nil
}

// without returns what is in a and not in b.
func without(a, b []string) (list []string) {
	for _, x := range a {
		if !slices.Contains(b, x) {
			list = append(list, x)
		}
	}
	return list
}

// part describes a profile that was not merged away.
func (r *Reviser) part(v kv.Reader, space, epoch uint32, id event.ProfileID) (*Part, error) {
	p, err := identity.NewReader(v, space, epoch).Profile(id)
	if err != nil {
		return nil, err
	}
	part := &Part{ID: p.ID, Collection: p.Collection, Count: len(p.Identifiers), Of: p.ID}
	for i := range p.Identifiers[:min(len(p.Identifiers), MaxPartIdentifiers)] {
		part.Identifiers = append(part.Identifiers, p.Identifiers[i].Identifier)
	}
	for _, m := range p.Family() {
		list, err := archive.Offsets(v, space, epoch, m, 0, r.cfg.Limits.MaxEvents-part.Events)
		if err != nil {
			return nil, err
		}
		if part.Events += len(list); part.Events >= r.cfg.Limits.MaxEvents {
			break
		}
	}
	if p.Collection != event.Users {
		return part, nil
	}
	var memberships []computation.Membership
	if memberships, err = r.cfg.Computation.Memberships(v, space, epoch, p.ID); err != nil {
		return nil, err
	}
	for _, m := range memberships {
		if m.Member {
			part.Audiences = append(part.Audiences, m.Audience.Key)
		}
	}
	return part, nil
}

// Owners returns the profiles that have the identifiers of a standing command
// now, each once, at most MaxParts of them.
func (r *Reviser) Owners(ctx context.Context, space uint32, c *event.Command) (list []Part, err error) {
	err = r.profile(ctx, space, func(v kv.Reader, epoch uint32, finder *identity.Finder) error {
		list = nil
		graph := identity.NewReader(v, space, epoch)
		standing, err := graph.Standing()
		if err != nil {
			return err
		}
		var ids []event.ProfileID
		for _, x := range named(c, standing) {
			x = finder.Normal(x)
			owner, err := graph.Lookup(x.Collection, x.Type, x.Value)
			if err != nil {
				return err
			}
			if owner.IsZero() || slices.Contains(ids, owner) || len(ids) == MaxParts {
				continue
			}
			ids = append(ids, owner)
			part, err := r.part(v, space, epoch, owner)
			if err != nil {
				return err
			}
			list = append(list, *part)
		}
		return nil
	})
	return list, err
}

// Parting returns the command that splits identifiers out of a profile: they
// on its left, all others that the profile has on its right. It fails with
// fault.NotFound for no profile, and with fault.Invalid when it has not all of
// them, or no others.
func (r *Reviser) Parting(ctx context.Context, space uint32, id event.ProfileID, out []event.Identifier) (*event.Separate, error) {
	var s *event.Separate
	err := r.profile(ctx, space, func(v kv.Reader, epoch uint32, finder *identity.Finder) error {
		p, err := identity.NewReader(v, space, epoch).Profile(id)
		if err != nil {
			return err
		}
		wanted := map[event.Identifier]bool{}
		for _, x := range out {
			x = finder.Normal(x)
			if !slices.ContainsFunc(p.Identifiers, func(y identity.Identified) bool { return y.Identifier == x }) {
				return fault.Field("identifiers", "the profile has no %s %q: see kith explain", x.Type, x.Value)
			}
			wanted[x] = true
		}
		s = &event.Separate{}
		for i := range p.Identifiers {
			x := p.Identifiers[i].Identifier
			if wanted[x] {
				s.Left = append(s.Left, event.ExternalIDOf(x))
			} else {
				s.Right = append(s.Right, event.ExternalIDOf(x))
			}
		}
		if len(s.Right) == 0 {
			return fault.Field("identifiers", "these are all identifiers that the profile has: there is nothing to split them from")
		}
		return nil
	})
	return s, err
}

// Unmerging returns the command that reverses a merge: the identifiers that a
// profile had when it was merged away on its left, as far as the survivor still
// has them, and all others of the survivor on its right. It fails with
// fault.NotFound for no profile, and fault.Invalid for one that was not merged
// away or of which nothing can be told apart.
func (r *Reviser) Unmerging(ctx context.Context, space uint32, child event.ProfileID) (*event.Separate, error) {
	var s *event.Separate
	err := r.profile(ctx, space, func(v kv.Reader, epoch uint32, _ *identity.Finder) error {
		graph := identity.NewReader(v, space, epoch)
		frozen, err := graph.Frozen(child)
		if err != nil {
			return err
		}
		if frozen == nil {
			return fault.New(fault.NotFound, "there is no profile %s", child)
		}
		p, err := graph.Profile(child)
		if err != nil {
			return err
		}
		if p.ID == child {
			return fault.Field("merge", "%s was not merged into another profile: name one of those that were, or name identifiers to split out", child)
		}
		had := map[event.Identifier]bool{}
		for i := range frozen.Identifiers {
			had[frozen.Identifiers[i].Identifier] = true
		}
		s = &event.Separate{}
		for i := range p.Identifiers {
			x := p.Identifiers[i].Identifier
			if had[x] {
				s.Left = append(s.Left, event.ExternalIDOf(x))
			} else {
				s.Right = append(s.Right, event.ExternalIDOf(x))
			}
		}
		if len(s.Left) == 0 || len(s.Right) == 0 {
			return fault.Field("merge", "%s and %s cannot be told apart by their identifiers any more", child, p.ID)
		}
		return nil
	})
	return s, err
}

// profile calls fn with a space's live epoch and a finder under its rules.
func (r *Reviser) profile(ctx context.Context, space uint32, fn func(kv.Reader, uint32, *identity.Finder) error) error {
	epoch, err := r.live(space)
	if err != nil {
		return err
	}
	return r.cfg.DB.View(ctx, func(v kv.Reader) error {
		position, err := pipeline.ReadPosition(v, space, epoch)
		if err != nil {
			return err
		}
		finder, err := r.finder(v, space, epoch, position.Snapshot)
		if err != nil {
			return err
		}
		return fn(v, epoch, finder)
	})
}
