package server

import (
	"context"
	"fmt"
	"time"

	"kith/commitlog"
	"kith/event"
	"kith/fault"
	"kith/kv"
	"kith/pipeline"
)

// commands orders commands for the API; see api.Commands.
type commands struct{ s *Server }

// Order makes a command part of a space's sequence.
func (c commands) Order(ctx context.Context, space uint32, command *event.Command) (commitlog.Offset, error) {
	done, err := c.s.Order(ctx, space, command)
	return done.Offset, err
}

// Passed waits until the loop has passed an offset.
func (c commands) Passed(ctx context.Context, space uint32, at commitlog.Offset) error {
	return c.s.Passed(ctx, space, at)
}

// waiter lets reads wait for messages; see api.Waiter.
type waiter struct{ s *Server }

// Of the records that the loop has not passed: up to how many are waited for
// without looking which of them the message is, and how many packed bytes are
// looked through beyond that.
const (
	waitShort = 2000
	waitBytes = 32 << 20
)

// WaitFor waits until the loop has passed a message. All that was accepted
// before the question lies before the end of the raw log, so what is neither
// known to dedup nor there was not accepted in this space, or longer ago than
// messageIds are remembered.
func (w waiter) WaitFor(ctx context.Context, number uint32, messageID string) error {
	sp := w.s.space(number)
	if sp == nil {
		return fault.New(fault.NotFound, "there is no space %d", number)
	}
	if sp.loop() == nil {
		return fault.New(fault.Unavailable, "no loop runs in this process: it cannot be waited for here")
	}
	end := sp.raw.End()
	next, found, err := w.known(ctx, sp, messageID)
	if err != nil || found {
		return err
	}
	unknown := fault.New(fault.NotFound, "no message %.100q was accepted in this space, or it is longer ago than messageIds are remembered", messageID)
	last, certain := end, false // exclusive
	if end-min(next, end) > waitShort {
		to, err := w.s.archive.Heads(ctx, number, next, end, waitBytes, func(at commitlog.Offset, h *event.Head) bool {
			if h.MessageID == messageID {
				last, certain = at+1, true
			}
			return !certain
		})
		if err != nil {
			return late(ctx, sp, messageID, err)
		}
		if !certain && to >= end {
			return unknown
		}
	}
	if last > 0 {
		if err := w.s.Passed(ctx, number, last-1); err != nil {
			return late(ctx, sp, messageID, err)
		}
	}
	if certain || w.s.cfg.DedupWindow < time.Millisecond { // without dedup nothing says which messages there were
		return nil
	}
	if _, found, err = w.known(ctx, sp, messageID); err != nil || found {
		return err
	}
	return unknown
}

// known reports whether the loop has passed a message, and how far it is.
func (w waiter) known(ctx context.Context, sp *space, messageID string) (next commitlog.Offset, found bool, err error) {
	err = w.s.db.View(ctx, func(r kv.Reader) error {
		pos, err := pipeline.ReadPosition(r, sp.number, sp.epoch())
		if err != nil {
			return err
		}
		next = pos.Next
		_, found, err = pipeline.FindMessage(r, sp.number, messageID)
		return err
	})
	if err != nil {
		return 0, false, fmt.Errorf("look a message up: %w", err)
	}
	return next, found, nil
}

// late says how far the loop is when the wait is over.
func late(ctx context.Context, sp *space, messageID string, err error) error {
	if ctx.Err() == nil {
		return err
	}
	left := sp.raw.End() - min(sp.raw.End(), sp.loop().Position().Next)
	return fault.New(fault.Unavailable, "the message %.100q is accepted or unknown, and not processed yet: %d records of this space are still to be processed; ask again, or wait longer", messageID, left)
}
