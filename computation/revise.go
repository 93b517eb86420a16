package computation

import (
	"maps"
	"slices"

	"kith/commitlog"
	"kith/event"
	"kith/kv"
)

// Freeze has the engine take the registry as it finds it, for a stage that
// works out profiles again whose builds all stand: configurations change
// nothing, aggregates count from where their history begins, and nobody is
// evaluated for a build before the record that brought it on. It is called
// before the stage is used.
func (e *Engine) Freeze() { e.frozen = true }

// Begin is the Work of records that have a frozen engine evaluate a profile
// for the builds that a config record brought on. Every profile that is there
// then is visited behind that record.
type Begin struct{ At commitlog.Offset }

// begins are the builds that came with a record.
func (g *graph) begins(at commitlog.Offset) (numbers []uint32) {
	for _, d := range g.definitions {
		if d.build.Offset == at {
			numbers = append(numbers, d.build.Number)
		}
	}
	return numbers
}

// fromTheBeginning has whole aggregates count from where their history begins:
// what was joined to them is fed again.
func (r *registry) fromTheBeginning() {
	for _, a := range r.Aggregates {
		if a.Whole {
			a.From = a.Since.Offset
		}
	}
}

// Standing says what there is to compute in an epoch, for who works out some
// of its profiles again.
type Standing struct {
	// Settled says that nothing is on its way: every build is live, announced,
	// or stands still for good, and the Builder has nothing to do.
	Settled bool
	// Digest changes whenever anything of this does.
	Digest string
	// Begins are the offsets of the config records that brought the live builds
	// on.
	Begins []commitlog.Offset
}

// Standing returns it.
func (d Reader) Standing(r kv.Reader, space, epoch uint32) (Standing, error) {
	g, err := d.engine.graph(r, place{space, epoch})
	if err != nil {
		return Standing{}, err
	}
	digest, err := r.Get(keys{space, epoch}.digest())
	if err != nil {
		return Standing{}, err
	}
	at, err := readCursor(r, keys{space, epoch})
	if err != nil {
		return Standing{}, err
	}
	s := Standing{Settled: at.Task == "" && !g.registry.Litter, Digest: string(digest)}
	for _, b := range g.registry.Builds {
		switch b.State {
		case live:
			s.Settled = s.Settled && !b.Announcing
			s.Begins = append(s.Begins, b.Offset)
		case frozen, failed:
		default:
			s.Settled = false
		}
	}
	for _, a := range g.registry.Aggregates {
		s.Settled = s.Settled && a.Whole
	}
	return s, nil
}

// CopyRegistry copies to an epoch of another store what there is to compute.
func CopyRegistry(from kv.Reader, to kv.Tx, space, epoch uint32) error {
	k := keys{space, epoch}
	for _, key := range []kv.Key{k.registry(), k.digest()} {
		value, err := from.Get(key)
		if err != nil {
			return err
		}
		if value == nil {
			continue
		}
		if err := to.Set(key, value); err != nil {
			return err
		}
	}
	return nil
}

// CarryCells gives profiles of an epoch that is worked out again in another
// store what is counted of them in the base, an epoch that stands at the
// horizon: for what epoch counts, whose aggregates the base knows by other
// numbers. The other store has epoch's registry; see CopyRegistry. What the base
// does not count, for epoch began to count it at the horizon or behind it, is
// counted from the events that are there.
func (d Reader) CarryCells(from kv.Reader, to kv.Tx, space, base, epoch uint32, profiles []event.ProfileID) error {
	into, err := d.engine.graph(from, place{space, epoch})
	if err != nil {
		return err
	}
	theirs, err := from.Get(keys{space, base}.registry())
	if err != nil {
		return err
	}
	counted, err := decodeRegistry(theirs)
	if err != nil {
		return err
	}
	pairs := map[*aggregate][]*aggregate{} // theirs, by ours
	for _, a := range into.registry.Aggregates {
		for _, b := range counted.Aggregates {
			// One may keep less, and several what one asks for and another.
			if b.Whole && b.same(a) && b.Depth.Offset == a.Depth.Offset {
				pairs[a] = append(pairs[a], b)
			}
		}
	}
	for _, p := range profiles {
		shelves := map[uint32]*shelf{}
		for _, a := range into.registry.Aggregates {
			all := &cell{}
			for _, b := range pairs[a] {
				value, err := from.Get(keys{space, base}.shelf(p, b.Shelf))
				if err != nil {
					return err
				}
				s, err := decodeShelf(b.Shelf, value)
				if err != nil {
					return err
				}
				held, err := s.cell(b)
				if err != nil {
					return err
				}
				all.unite(held)
			}
			if all.empty() {
				continue
			}
			if shelves[a.Shelf] == nil {
				shelves[a.Shelf] = &shelf{number: a.Shelf}
			}
			c, err := shelves[a.Shelf].cell(a)
			if err != nil {
				return err
			}
			*c = *all
			c.dirty = true
		}
		for _, n := range slices.Sorted(maps.Keys(shelves)) {
			if err := put(to, keys{space, epoch}.shelf(p, n), shelves[n].encode(into)); err != nil {
				return err
			}
		}
	}
	return nil
}

// CarryOver gives profiles of an epoch that was worked out again in another
// store what stands still of them: their memberships of audiences that are
// disabled, which nobody computes. become says what came of each of the
// profiles before, the zero id for nothing.
func (d Reader) CarryOver(from kv.Reader, to kv.Tx, space, epoch uint32, before []event.ProfileID, become func(event.ProfileID) (event.ProfileID, error)) error {
	g, err := d.engine.graph(from, place{space, epoch})
	if err != nil {
		return err
	}
	k := keys{space, epoch}
	for _, old := range before {
		now, err := become(old)
		if err != nil {
			return err
		}
		value, err := from.Get(k.page(old))
		if err != nil {
			return err
		}
		if value == nil || now.IsZero() {
			continue
		}
		was, err := decodePage(value)
		if err != nil {
			return err
		}
		if value, err = to.Get(k.page(now)); err != nil {
			return err
		}
		page, err := decodePage(value)
		if err != nil {
			return err
		}
		for i := range was.entries {
			e := was.entries[i]
			b := g.registry.build(e.build)
			if b == nil || b.State.awake() || e.nothing() {
				continue
			}
			into := page.at(e.build)
			if e.member && !into.member {
				into.member, into.since = true, e.since
				if err := to.Set(k.member(e.build, now), kv.Value{memberFormat}.Varint(e.since)); err != nil {
					return err
				}
			}
			into.held, into.told, into.past = into.held || e.held, into.told || e.told, into.past || e.past
		}
		if err := put(to, k.page(now), page.encode(g.known)); err != nil {
			return err
		}
	}
	return nil
}
