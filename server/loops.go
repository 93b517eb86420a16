package server

import (
	"context"
	"fmt"

	"kith/activation"
	"kith/commitlog"
	"kith/computation"
	"kith/erasure"
	"kith/identity"
	"kith/kv"
	"kith/object"
	"kith/pipeline"
	"kith/profile"
	"kith/trackingplan"
)

// row is the rooms that an event passes, in order. One row serves all spaces.
type row struct {
	object       *object.Stage
	trackingplan *trackingplan.Stage
	identity     *identity.Identity
	profile      *profile.Profiles
	computation  *computation.Engine
	activation   *activation.Activation
	erasure      *erasure.Stage
}

// newRow gives every room its place in the records.
func (s *Server) newRow() *row {
	layout := &pipeline.Layout{}
	r := &row{object: object.New()}
	r.trackingplan = trackingplan.New(layout, s.cfg.Logger)
	r.identity = identity.New(layout)
	r.profile = profile.New(layout, r.identity.Slot())
	r.computation = computation.New(layout, r.identity.Slot(), r.profile.Slot())
	s.syncs = activation.NewSyncs(s.db, r.computation.Reader(), func(number uint32) (activation.Loop, error) { return s.loop(number) })
	r.activation = activation.New(r.identity.Slot(), r.profile.Slot(), r.computation.Slot(), s.syncs.Connected)
	r.erasure = erasure.NewStage(forgetful{s}, s.archive, s.cfg.Logger, s.erasures.Passed)
	return r
}

// stages returns the row's doors in their order.
func (r *row) stages() []pipeline.Stage {
	return []pipeline.Stage{r.object, r.trackingplan, r.identity, r.profile, r.computation, r.activation, r.erasure}
}

// loop returns the loop of a space.
func (s *Server) loop(number uint32) (*pipeline.Loop, error) {
	if sp := s.space(number); sp != nil && sp.loop() != nil {
		return sp.loop(), nil
	}
	return nil, fmt.Errorf("no loop runs for space %d", number)
}

// buildLoop makes the loop of a space, at the position where it was left, and
// what works beside it.
func (s *Server) buildLoop(ctx context.Context, sp *space) (*live, error) {
	loop, err := pipeline.NewLoop(ctx, pipeline.Config{
		DB: s.db, Raw: sp.raw, Resolved: sp.resolved, Clock: s.clock, Random: s.random, Snapshots: s.workspace,
		Stages: s.row.stages(), Recorder: s.archive, Space: sp.number, Epoch: sp.epoch(), Logger: s.cfg.Logger,
		Tap: s.tapCommitted, DedupWindow: max(0, s.cfg.DedupWindow),
	})
	if err != nil {
		return nil, err
	}
	return s.newLive(sp, loop, s.row), nil
}

// startLoops runs the loop of every space, and of those to come, and the work
// beside them.
func (s *Server) startLoops() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.loops, s.beside = newCrew(s.failed), newCrew(s.failed)
	var numbers []uint32
	for _, sp := range s.spaces {
		s.startSpace(sp)
		numbers = append(numbers, sp.number)
	}
	if s.cfg.has(Pipeline) {
		s.beside.run("jobs", s.jobs.Run)
		s.beside.run("revisions", s.runRevisions)
		s.beside.run("former states", func(ctx context.Context) error { return s.rebuilds.Run(ctx, s.spaceNumbers) })
		s.beside.run("erasures", func(ctx context.Context) error { return s.erasures.Run(ctx, s.jobs) })
		s.beside.run("retention", s.retention.Run)
		s.beside.run("first syncs", func(ctx context.Context) error { return s.syncs.Run(ctx, s.jobs, numbers...) })
	}
}

// startSpace runs a space's loop. The caller holds mu.
func (s *Server) startSpace(sp *space) {
	if sp.loop() != nil {
		s.loops.run("space "+sp.slug, s.runSpace(sp))
		s.startBeside(sp.live.Load())
	}
}

// stopLoops stops the work beside the loops, and the loops, after letting them
// finish what is in the logs, for a while, when drain is set.
func (s *Server) stopLoops(drain bool) {
	ctx, cancel := context.WithTimeout(context.Background(), stopLoops)
	defer cancel()
	for _, sp := range s.allSpaces() {
		if end := sp.raw.End(); drain && sp.loop() != nil && end > 0 {
			if err := sp.loop().Passed(ctx, end-1); err != nil {
				s.cfg.Logger.Info("stopping with a backlog; the next start goes on with it", "space", sp.slug)
			}
		}
	}
	s.mu.Lock()
	loops, beside := s.loops, s.beside
	s.loops, s.beside = nil, nil
	s.mu.Unlock()
	beside.stop() // it hands the loops work
	loops.stop()
}

// backlog is how many records of a space wait for its loop, also for one that
// runs elsewhere or later.
func (s *Server) backlog(ctx context.Context, sp *space) (uint64, error) {
	var next commitlog.Offset // first: the loop never passes an end it has not seen
	if l := sp.live.Load(); l.loop != nil {
		next = l.loop.Position().Next
	} else {
		err := s.db.View(ctx, func(r kv.Reader) error {
			position, err := pipeline.ReadPosition(r, sp.number, l.epoch)
			next = position.Next
			return err
		})
		if err != nil {
			return 0, err
		}
	}
	return uint64(sp.raw.End() - next), nil
}
