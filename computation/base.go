package computation

import (
	"slices"

	"kith/event"
	"kith/kv"
	"kith/timer"
)

// CopyBase copies to an epoch of another store, of which the registry is there,
// what the base of a space has computed of profiles, under their own ids: the
// cells of the aggregates that both count, and their standing in the builds that
// both have. What one of the two alone has is left out: the base has no more of
// what was declared behind it, and the other does not ask for what is gone.
func CopyBase(from kv.Reader, base uint32, to kv.Tx, space, epoch uint32, profiles []event.ProfileID) error {
	var both [2]*registry
	for i, of := range []struct {
		r kv.Reader
		k keys
	}{{from, keys{space, base}}, {to, keys{space, epoch}}} {
		value, err := of.r.Get(of.k.registry())
		if err != nil {
			return err
		}
		if both[i], err = decodeRegistry(value); err != nil {
			return err
		}
	}
	old, new := both[0], both[1]
	g, err := compile(new)
	if err != nil {
		return err
	}
	c := carrier{
		from: from, to: to, was: keys{space, base}, is: keys{space, epoch}, graph: g,
		timers: timer.NewPass(to, space, epoch), builds: map[uint32]uint32{}, aggregates: map[*aggregate]*aggregate{},
	}
	for _, b := range new.Builds {
		for _, x := range old.Builds {
			if x.Audience.ID == b.Audience.ID && x.Offset == b.Offset {
				c.builds[x.Number] = b.Number
			}
		}
	}
	c.replaced(old, new)
	for _, a := range new.Aggregates {
		for _, x := range old.Aggregates {
			if !x.Whole || !x.same(a) || x.Depth.Offset != a.Depth.Offset {
				continue
			}
			if best := c.aggregates[a]; best == nil || !best.covers(a) && x.covers(best) {
				c.aggregates[a] = x
			}
		}
	}
	for _, p := range profiles {
		if err := c.cells(p); err != nil {
			return err
		}
		if err := c.page(p); err != nil {
			return err
		}
	}
	return nil
}

// carrier carries what is kept of profiles from one epoch to another.
type carrier struct {
	from   kv.Reader
	to     kv.Tx
	was    keys
	is     keys
	graph  *graph
	timers *timer.Pass
	// builds are the numbers that builds have there, aggregates those of there by
	// those of here.
	builds     map[uint32]uint32
	aggregates map[*aggregate]*aggregate
}

// replaced gives the builds of there that others have taken the place of here the
// numbers of some that these followed: so they are taken over when the record
// comes that brings those on, and whoever reads the audience is looked at then.
func (c *carrier) replaced(old, new *registry) {
	for _, b := range new.Builds {
		if new.standing(b.Audience.ID) != b {
			continue
		}
		i := len(b.Before)
		for _, x := range slices.Backward(old.Builds) {
			if _, known := c.builds[x.Number]; known || x.Audience.ID != b.Audience.ID || i == 0 {
				continue
			}
			i--
			c.builds[x.Number] = b.Before[i]
		}
	}
}

// cells carries the cells of a profile.
func (c *carrier) cells(p event.ProfileID) error {
	there := map[uint32]*shelf{}
	for a, x := range c.aggregates {
		value, err := c.from.Get(c.was.shelf(p, x.Shelf))
		if err != nil || value == nil {
			if err != nil {
				return err
			}
			continue
		}
		s, err := decodeShelf(x.Shelf, value)
		if err != nil {
			return err
		}
		held, err := s.cell(x)
		if err != nil {
			return err
		}
		if held.empty() {
			continue
		}
		if there[a.Shelf] == nil {
			there[a.Shelf] = &shelf{number: a.Shelf}
		}
		into, err := there[a.Shelf].cell(a)
		if err != nil {
			return err
		}
		into.join(a, 0, held) // nothing expires by being carried
	}
	for n, s := range there {
		if err := put(c.to, c.is.shelf(p, n), s.encode(c.graph)); err != nil {
			return err
		}
	}
	return nil
}

// page carries the memberships of a profile, and its timer.
func (c *carrier) page(p event.ProfileID) error {
	value, err := c.from.Get(c.was.page(p))
	if err != nil || value == nil {
		return err
	}
	was, err := decodePage(value)
	if err != nil {
		return err
	}
	is := emptyPage()
	is.armed = was.armed
	for _, e := range was.entries {
		n, known := c.builds[e.build]
		if !known {
			continue
		}
		e.build = n
		*is.at(n) = e
		if e.member {
			if err := c.to.Set(c.is.member(n, p), kv.Value{memberFormat}.Varint(e.since)); err != nil {
				return err
			}
		}
	}
	if is.armed != timer.Never {
		if err := c.timers.Arm(timer.Due{At: is.armed, Owner: Room, Subject: p[:]}); err != nil {
			return err
		}
	}
	return put(c.to, c.is.page(p), is.encode(c.graph.known))
}
