package activation

import (
	"encoding/json"
	"slices"

	"kith/workspace"
)

// defaultTypes are the identifiers an audience is announced under, and that
// make a profile eligible for it, when it names none (Public API,
// options.filterByExternalIds).
var defaultTypes = []string{"user_id", "email", "android.idfa", "ios.idfa"}

// connection is one audience connected to one enabled destination, with
// something that goes out.
type connection struct {
	pair
	audience    *workspace.Audience
	destination *workspace.Destination
	activations []workspace.Activation // enabled ones; nil with plain: identify and track
	plain       bool
	settings    json.RawMessage
	types       []string // of the identifiers it is announced under
}

// plan is what a configuration asks to be told, for one space.
type plan struct {
	connections map[pair]*connection
	byAudience  map[string][]*connection
}

func planOf(s *workspace.Snapshot, space uint32) *plan {
	p := &plan{connections: map[pair]*connection{}, byAudience: map[string][]*connection{}}
	sp := s.SpaceByNumber(space)
	if sp == nil {
		return p
	}
	for i := range s.Audiences {
		a := &s.Audiences[i]
		if a.SpaceID != sp.ID || !a.Enabled {
			continue
		}
		for _, c := range connectionsOf(s, a) {
			p.connections[c.pair] = c
			p.byAudience[a.ID] = append(p.byAudience[a.ID], c)
		}
	}
	return p
}

// connectionsOf returns an audience's connections to destinations that are
// enabled, those without an enabled activation left out.
func connectionsOf(s *workspace.Snapshot, a *workspace.Audience) []*connection {
	types := a.Options.FilterByExternalIDs
	if len(types) == 0 {
		types = defaultTypes
	}
	var all []*connection
	for _, conn := range a.Connections {
		d := s.Destination(conn.DestinationID)
		if d == nil || !d.Enabled {
			continue
		}
		c := &connection{
			pair: pair{audience: a.ID, destination: d.ID}, audience: a, destination: d,
			settings: conn.ConnectionSettings, plain: len(conn.Activations) == 0, types: types,
		}
		for _, act := range conn.Activations {
			if act.Enabled {
				c.activations = append(c.activations, act)
			}
		}
		if c.plain || len(c.activations) > 0 { // what is not sent is not told
			all = append(all, c)
		}
	}
	return all
}

// pairs returns the connected pairs in a fixed order.
func (p *plan) pairs() []pair {
	all := make([]pair, 0, len(p.connections))
	for k := range p.connections {
		all = append(all, k)
	}
	slices.SortFunc(all, comparePairs)
	return all
}

// history reports whether members from before a connection are announced.
func (c *connection) history() bool {
	h := c.audience.Options.IncludeHistoricalData
	return h == nil || *h
}
