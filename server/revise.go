package server

import (
	"context"

	"kith/archive"
	"kith/commitlog"
	"kith/computation"
	"kith/event"
	"kith/identity"
	"kith/kv"
	"kith/kv/memkv"
	"kith/pipeline"
	"kith/profile"
	"kith/revision"
)

// newReviser makes what works out again what standing commands change of the
// past, in the epochs that those loops write.
func (s *Server) newReviser(computed computation.Reader, loop func(uint32) (revision.Loop, error)) *revision.Reviser {
	return revision.New(revision.Config{
		DB: s.db, Archive: s.archive, Snapshots: s.workspace, Computation: computed, Row: scratchRow,
		Loop: loop,
		Redacted: func(r kv.Reader, space uint32, command commitlog.Offset) ([]event.ProfileID, error) {
			e, err := archive.ErasureAt(r, space, command)
			if err != nil || e == nil {
				return nil, err
			}
			return e.Others, nil
		},
		Scratch: func() kv.DB { return memkv.New() },
		Base: func(r kv.Reader, space uint32) (epoch uint32, err error) {
			epoch, _, err = rebuildHouse{s}.Base(r, space)
			return epoch, err
		},
		Logger: s.cfg.Logger, Limits: revision.Limits{MaxEvents: s.cfg.RevisionEvents},
	})
}

// scratchRow returns fresh stages behind intake, up to those that announce.
func scratchRow(given identity.Given) []pipeline.Stage {
	layout := &pipeline.Layout{}
	who := identity.New(layout)
	who.Give(given)
	people := profile.New(layout, who.Slot())
	people.Freeze()
	computed := computation.New(layout, who.Slot(), people.Slot())
	computed.Freeze()
	return []pipeline.Stage{who, people, computed}
}

// runRevisions works out what is due, for all spaces.
func (s *Server) runRevisions(ctx context.Context) error {
	return s.reviser.Run(ctx, s.spaceNumbers)
}

// revising reports whether a revision of a space is on its way.
func (s *Server) revising(r kv.Reader, sp *space) (bool, error) {
	n, err := revision.Open(r, sp.number, sp.epoch())
	return n > 0, err
}

// reviser orders what holds for all time; see api.Reviser.
type reviser struct {
	*revision.Reviser
	s *Server
}

// Order makes a command part of a space's sequence.
func (x reviser) Order(ctx context.Context, space uint32, c *event.Command) (commitlog.Offset, error) {
	done, err := x.s.Order(ctx, space, c)
	return done.Offset, err
}

// Passed waits until the loop has passed an offset.
func (x reviser) Passed(ctx context.Context, space uint32, at commitlog.Offset) error {
	return x.s.Passed(ctx, space, at)
}
