package server

import (
	"context"
	"fmt"

	"kith/identity"
	"kith/pipeline"
	"kith/trackingplan"
)

// row returns the stages of a space, in the order of the row.
func (s *Server) row() []pipeline.Stage {
	layout := &pipeline.Layout{}
	return []pipeline.Stage{
		trackingplan.New(layout, s.cfg.Logger),
		identity.New(layout),
	}
}

// buildLoop makes the loop of a space, at the position where it was left.
func (s *Server) buildLoop(ctx context.Context, sp *space) (err error) {
	sp.loop, err = pipeline.NewLoop(ctx, pipeline.Config{
		DB: s.db, Raw: sp.raw, Resolved: sp.resolved, Clock: s.clock, Random: s.random, Snapshots: s.workspace,
		Stages: s.row(), Recorder: s.archive, Space: sp.number, Epoch: sp.epoch, Logger: s.cfg.Logger,
		Tap: s.tapCommitted,
	})
	return err
}

// startLoops runs the loop of every space, and of those to come.
func (s *Server) startLoops() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.loops = newCrew(s.failed)
	for _, sp := range s.spaces {
		s.startSpace(sp)
	}
}

// startSpace runs a space's loop. The caller holds mu.
func (s *Server) startSpace(sp *space) {
	if sp.loop != nil {
		s.loops.run(fmt.Sprintf("space %s", sp.slug), sp.loop.Run)
	}
}

// stopLoops stops the loops, after letting them finish what is in the logs, for
// a while, when drain is set.
func (s *Server) stopLoops(drain bool) {
	ctx, cancel := context.WithTimeout(context.Background(), stopLoops)
	defer cancel()
	for _, sp := range s.allSpaces() {
		if end := sp.raw.End(); drain && sp.loop != nil && end > 0 {
			if err := sp.loop.Passed(ctx, end-1); err != nil {
				s.cfg.Logger.Info("stopping with a backlog; the next start goes on with it", "space", sp.slug, "records", sp.backlog())
			}
		}
	}
	s.mu.Lock()
	loops := s.loops
	s.loops = nil
	s.mu.Unlock()
	loops.stop()
}

// backlog is how many records wait for the loop.
func (sp *space) backlog() uint64 {
	if sp.loop == nil {
		return 0
	}
	next := sp.loop.Position().Next // first: the loop never passes an end it has not seen
	return uint64(sp.raw.End() - next)
}
