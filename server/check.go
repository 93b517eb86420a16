package server

import (
	"context"
	"strings"

	"kith/computation"
	"kith/fault"
	"kith/fql"
	"kith/query"
	"kith/workspace"
)

// checkTrigger refuses a trigger that cannot be read.
func checkTrigger(text string) error {
	_, err := fql.ParseTrigger(text)
	return err
}

// checkURL refuses a URL that requests may not go out to. The guard bounds its
// look-up itself.
func (s *Server) checkURL(raw string) error { return s.egress.CheckURL(context.Background(), raw) }

// checkQuery refuses an audience whose query cannot be read, that depends on
// itself, or that reads an audience which is being taken away.
func (s *Server) checkQuery(next *workspace.Snapshot, a *workspace.Audience) error {
	program, err := query.ParseAudience(a.Query)
	if err != nil {
		return err
	}
	keys, references := map[string]string{}, map[string][]computation.Reference{}
	for i := range next.Audiences {
		other := &next.Audiences[i]
		if other.SpaceID != a.SpaceID {
			continue
		}
		keys[other.ID] = other.Key
		if p, err := query.ParseAudience(other.Query); err == nil { // one that cannot be read is refused by itself
			references[other.ID] = computation.References(next, a.SpaceID, p)
		}
	}
	if way := computation.Cycle(a.ID, references); way != nil {
		for i := range way {
			way[i] = keys[way[i]]
		}
		return fault.New(fault.Invalid, "the audience depends on itself: %s", strings.Join(way, " reads "))
	}
	if s.workspace == nil {
		return nil
	}
	now := s.workspace.Current()
	for _, ref := range computation.References(now, a.SpaceID, program) {
		if gone := now.Audience(ref.Audience); next.Audience(ref.Audience) == nil && gone != nil {
			return fault.New(fault.Invalid, "it reads the audience %s, which would be gone", gone.Key)
		}
	}
	return nil
}
