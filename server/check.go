package server

import (
	"context"

	"kith/audience"
	"kith/fql"
	"kith/workspace"
)

// checkTrigger refuses a trigger that cannot be read.
func checkTrigger(text string) error {
	_, err := fql.ParseTrigger(text)
	return err
}

func checkFilter(condition string) (cost int, err error) {
	e, err := fql.Parse(condition)
	if err != nil {
		return 0, err
	}
	return e.Cost(), nil
}

// checkURL refuses a URL that requests may not go out to. The guard bounds its
// look-up itself.
func (s *Server) checkURL(raw string) error { return s.egress.CheckURL(context.Background(), raw) }

// checkQuery refuses an audience that cannot stand; see audience.Check.
func (s *Server) checkQuery(next *workspace.Snapshot, a *workspace.Audience) error {
	var now *workspace.Snapshot
	if s.workspace != nil {
		now = s.workspace.Current()
	}
	return audience.Check(now, next, a)
}
