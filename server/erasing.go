package server

import (
	"context"

	"kith/commitlog"
	"kith/erasure"
	"kith/event"
	"kith/job"
)

// erasing orders and shows erasures; see api.Erasures.
type erasing struct {
	*erasure.Erasures
	s *Server
}

// Erase orders an erasure and waits until the loop has carried it out.
func (x erasing) Erase(ctx context.Context, space uint32, c *event.Command, now bool) (commitlog.Offset, error) {
	done, err := x.s.Order(ctx, space, c)
	if err != nil {
		return 0, err
	}
	if err := x.s.Passed(ctx, space, done.Offset); err != nil {
		return 0, err
	}
	if now {
		x.Now(space)
	}
	return done.Offset, nil
}

// Work returns the job that completes a space's erasures.
func (x erasing) Work(ctx context.Context, space uint32) (*job.Status, error) {
	status, err := x.s.jobs.Get(ctx, erasure.JobID(space))
	if err != nil {
		return nil, err
	}
	return &status, nil
}
