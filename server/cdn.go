package server

import "kith/collect/cdn"

// openCDN makes what serves settings and analytics.js. Its name for a
// destination is the first of those that an event's integrations object may use.
func (s *Server) openCDN() (err error) {
	s.cdn, err = cdn.New(cdn.Config{
		Workspace: s.workspace, PublicURL: s.cfg.PublicURL, TrustedProxies: s.cfg.TrustedProxies, Logger: s.cfg.Logger, Metrics: s.metrics,
		Integration: func(metadataID string) string {
			c, err := s.connectors.Find(metadataID)
			if err != nil || len(c.Spec.Integrations) == 0 {
				return ""
			}
			return c.Spec.Integrations[0]
		},
	})
	return err
}
