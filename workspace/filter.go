package workspace

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// maxFilterCost bounds what the filters of a space cost on one event together,
// in the readings of fql.Expr: about 65 ms on the largest event, at worst.
const maxFilterCost = 4_000

// checkFilters checks a space's event filters; a condition only where it is
// not as it was.
func (o *Options) checkFilters(p *problems, at string, base *Snapshot, filters []EventFilter, u unique) {
	if len(filters) > maxFilters {
		p.add(at, "%d filters; a space has at most %d", len(filters), maxFilters)
		return
	}
	total, changed := 0, false
	for i := range filters {
		f := &filters[i]
		place := fmt.Sprintf("%s.%d", at, i)
		u.claim(p, place+".id", "id "+f.ID, "another filter")
		named(p, place+".name", f.Name, true)
		text(p, place+".description", f.Description, maxDescription)
		_, had := base.Filter(f.ID)
		changed = changed || had == nil || had.If != f.If || had.Enabled != f.Enabled
		switch {
		case len(f.If) > maxFilter:
			p.add(place+".if", "the condition has %d bytes; at most %d are read", len(f.If), maxFilter)
		case strings.TrimSpace(f.If) == "":
			p.add(place+".if", "the condition is empty; to keep out every event say: all")
		case o.CheckFilter != nil:
			cost, err := o.CheckFilter(f.If)
			if err != nil && (had == nil || had.If != f.If) {
				p.wrap(place+".if", err)
			}
			if f.Enabled {
				total += cost
			}
		}
	}
	if changed && total > maxFilterCost {
		p.add(at, "the filters that are enabled would cost up to %d readings of each event, and at most %d are possible; what costs most are patterns with ? and [...] in match, at 4 for each of their characters: write them shorter, or look for them with contains or with * alone",
			total, maxFilterCost)
	}
}

func keepFilters(base *Snapshot, space *Space, now time.Time) {
	for i := range space.Filters {
		f := &space.Filters[i]
		_, had := base.Filter(f.ID)
		if had == nil {
			f.CreatedAt, f.UpdatedAt = now, now
			continue
		}
		f.CreatedAt, f.UpdatedAt = had.CreatedAt, had.UpdatedAt
		if !sameText(f, had) {
			f.UpdatedAt = now
		}
	}
}

func filterIn(spaces []Space, id string) (*Space, *EventFilter) {
	for i := range spaces {
		if f := find(spaces[i].Filters, func(f *EventFilter) bool { return f.ID == id }); f != nil {
			return &spaces[i], f
		}
	}
	return nil, nil
}

func readFilter(o *object) EventFilter {
	return EventFilter{
		Name: o.must("name"), Description: o.textOr("description", ""), Enabled: o.flagOr("enabled", true), If: o.must("if"),
	}
}

func exportFilter(f *EventFilter) *node {
	o := objectNode()
	o.set("name", textNode(f.Name))
	o.setText("description", f.Description)
	o.set("enabled", flagNode(f.Enabled))
	o.set("if", textNode(f.If))
	return o
}

// filters returns the filters that a file gives a space. A filter is known by
// its name; of two with one name, the first in the file is the first there is.
func (a *applier) filters(had, filters []EventFilter) []EventFilter {
	had = slices.Clone(had)
	var next []EventFilter
	for _, f := range filters {
		i := slices.IndexFunc(had, func(h EventFilter) bool { return h.Name == f.Name })
		if i < 0 {
			f.ID = a.d.NewFilterID()
		} else {
			f.ID, f.CreatedAt, f.UpdatedAt = had[i].ID, had[i].CreatedAt, had[i].UpdatedAt
			had = slices.Delete(had, i, i+1)
		}
		next = append(next, f)
	}
	return next
}
