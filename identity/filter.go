package identity

import (
	"fmt"

	"kith/event"
	"kith/fql"
	"kith/pipeline"
	"kith/workspace"
)

// Filtered is why an event is nobody's that matches an event filter of its
// space (sheet unify_engage_privacy §1.13). In a Resolution the filter's name
// follows, after ": "; refusals are kept under the bare text.
const Filtered = "Event filter"

// filter is an event filter that is enabled, ready for use.
type filter struct {
	id, name  string
	condition *fql.Expr
}

// compileFilters reads a space's event filters. It fails only on what the
// workspace refuses to store.
func compileFilters(space *workspace.Space) ([]filter, error) {
	if space == nil {
		return nil, nil
	}
	var list []filter
	for i := range space.Filters {
		f := &space.Filters[i]
		if !f.Enabled {
			continue
		}
		condition, err := fql.Parse(f.If)
		if err != nil {
			return nil, fmt.Errorf("event filter %s: %w", f.Name, err)
		}
		list = append(list, filter{f.ID, f.Name, condition})
	}
	return list, nil
}

// filtered returns the first filter that an event matches, as the tracking plan
// let it pass; nil when it matches none.
func (rs *rules) filtered(e *event.Event) *filter {
	if len(rs.filters) == 0 {
		return nil
	}
	d := fql.NewDocument(e.Body)
	for i := range rs.filters {
		if rs.filters[i].condition.MatchDocument(d) {
			return &rs.filters[i]
		}
	}
	return nil
}

// keepOut leaves a record to nobody because of a filter, and says so.
func (p *pass) keepOut(r *pipeline.Record, res *Resolution) {
	f := res.found.filter
	res.Reason = Filtered + ": " + f.name
	p.emit(r, event.ProfileID{}, pipeline.Change{Kind: pipeline.EventFiltered, Subject: f.name, Detail: f.id})
	p.refused.note(r, &Resolution{Reason: Filtered})
}
