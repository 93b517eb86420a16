package computation

import (
	"slices"
)

// part is the Work of records that hand a profile what its history adds to
// some aggregates.
type part struct{ cells map[uint32]*cell }

// settle is the Work of records that have a profile evaluated by builds that
// are not live yet.
type settle struct{ builds []uint32 }

// release is the Work of records that let a member of a deleted audience go.
type release struct{ build uint32 }

// join joins the history of aggregates into the profile's cells. Nobody reads
// them yet.
func (t *turn) join(w part) error {
	numbers := make([]uint32, 0, len(w.cells))
	for n := range w.cells {
		numbers = append(numbers, n)
	}
	slices.Sort(numbers)
	for _, n := range numbers {
		c := t.graph.aggregates[n]
		if c == nil || c.Whole {
			continue // nobody wants it any more
		}
		into, err := t.cell(t.who, c.aggregate)
		if err != nil {
			return err
		}
		into.join(c.aggregate, t.now, w.cells[n])
	}
	return nil
}

// announced visits the builds that became live, and those that read them:
// where the build before said something else, that has changed.
func (t *turn) announced(w Announce) {
	for _, b := range w.builds {
		if d := t.graph.byBuild[b]; d != nil {
			t.visit([]int{d.index})
			t.visit(t.graph.readers[b])
		}
	}
}

// release lets the profile go from an audience that was deleted.
func (t *turn) release(w release) error {
	b := t.graph.registry.build(w.build)
	if b == nil || b.State != leaving {
		return nil
	}
	page, err := t.pass.page(t.who)
	if err != nil {
		return err
	}
	told := false
	for _, number := range b.chain() {
		e := page.find(number)
		if e == nil {
			continue
		}
		told = told || e.told
		member := e.member
		page.remove(number)
		t.who.turned = true
		if member {
			if err := t.strike(number, t.who.id); err != nil {
				return err
			}
		}
	}
	if told {
		t.announce(b, &entry{})
	}
	return nil
}
