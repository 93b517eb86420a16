package server

import (
	"net/http"

	"kith/delivery"
)

// Handler returns what answers the requests, for callers in the same process
// that need no listener: simulations and tests. It answers until Close.
func (s *Server) Handler() http.Handler { return s.http.Handler }

// Fail ends Run with err, as the failure of a part does: at once, and with
// nothing drained. A simulation kills a server with it.
func (s *Server) Fail(err error) {
	select {
	case s.failed <- err:
	default: // something has failed before
	}
}

// Destinations returns how delivery to each destination is doing, by its id;
// see delivery.Delivery.Stats.
func (s *Server) Destinations() []delivery.Status { return s.delivery.Stats() }
