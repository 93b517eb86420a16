package server

import (
	"context"

	"kith/fql"
)

// checkTrigger refuses a trigger that cannot be read.
func checkTrigger(text string) error {
	_, err := fql.ParseTrigger(text)
	return err
}

// checkURL refuses a URL that requests may not go out to. The guard bounds its
// look-up itself.
func (s *Server) checkURL(raw string) error { return s.egress.CheckURL(context.Background(), raw) }
