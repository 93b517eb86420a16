package server

import (
	"context"
	"fmt"

	"kith/commitlog"
	"kith/event"
	"kith/fault"
)

// Ordered is a command that has become part of a space's sequence.
type Ordered struct {
	Offset commitlog.Offset
	ID     event.RecordID
}

// Order appends a command to a space's raw log: this is how everything is done
// that changes derived state and is not an event. The command is durable on
// return; Passed of the space's loop says when it is carried out. It fails with
// fault.Invalid for a command that nobody can carry out, and fault.NotFound for
// an unknown space.
func (s *Server) Order(ctx context.Context, number uint32, c *event.Command) (Ordered, error) {
	body, err := c.Encode()
	if err != nil {
		return Ordered{}, err
	}
	sp := s.space(number)
	if sp == nil {
		return Ordered{}, fault.New(fault.NotFound, "there is no space %d", number)
	}
	now := s.clock.Now()
	id, err := event.NewRecordID(now, s.random)
	if err != nil {
		return Ordered{}, fmt.Errorf("id of a command: %w", err)
	}
	record := event.Record{
		Head: event.Head{Kind: event.KindCommand, ID: id, At: now.UnixMilli(), Time: now.UnixMilli(), Name: c.Name()},
		Body: body,
	}
	at, err := sp.raw.Append(ctx, event.EncodeBlock([]event.Record{record}))
	if err != nil {
		return Ordered{}, fmt.Errorf("append a command: %w", err)
	}
	return Ordered{Offset: at, ID: id}, nil
}

// Passed waits until the loop of a space has passed the record at an offset,
// if it runs here, also when another loop takes the place of the one at work
// meanwhile. It fails with fault.Unavailable when the context ends first.
func (s *Server) Passed(ctx context.Context, number uint32, at commitlog.Offset) error {
	sp := s.space(number)
	for {
		if sp == nil || sp.loop() == nil {
			return fault.New(fault.Unavailable, "no loop runs for space %d", number)
		}
		l := sp.live.Load()
		until, cancel := context.WithCancel(ctx)
		stop := make(chan struct{})
		go func() {
			defer close(stop)
			select {
			case <-l.over:
				cancel()
			case <-until.Done():
			}
		}()
		err := l.loop.Passed(until, at)
		cancel()
		<-stop
		select {
		case <-l.over: // its successor is asked
		default:
			return err
		}
		if err == nil || ctx.Err() != nil {
			return err
		}
	}
}
