package inspect

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"kith/clock"
)

// The rhythm of a follower.
const (
	pause      = time.Second // between two looks at the logs, and after a failure
	settleTime = 2 * time.Second
)

// follower is how an Observer and an Insights follow the logs of all spaces
// behind the loops: it looks once a second, holds nobody up, and catches up when
// it was away.
type follower struct {
	clock  clock.Clock
	pace   clock.Clock // by which it rests: the machine's, also where clock stands still
	logger *slog.Logger
	spaces func() []uint32
	// chunk takes the next of a space in one transaction, and reports whether
	// there may be more; failed lets go of what it holds of a space whose chunk
	// came to nothing.
	chunk  func(ctx context.Context, space uint32) (more bool, err error)
	failed func(space uint32)
	// sweep removes what is too old, once in every.
	sweep func(ctx context.Context, now time.Time) error
	every time.Duration
	what  string // cannot be written, when it cannot

	nudge chan struct{}
	flush chan chan struct{}
}

// start gives a follower its channels. There may be something from before.
func (f *follower) start() {
	f.nudge, f.flush = make(chan struct{}, 1), make(chan chan struct{})
	f.Nudge()
}

// Nudge tells that a loop has passed or written something. It never waits.
func (f *follower) Nudge() {
	select {
	case f.nudge <- struct{}{}:
	default:
	}
}

// Run follows the logs until ctx ends, which is no error. A store that fails is
// tried again.
func (f *follower) Run(ctx context.Context) error {
	due := f.clock.Now() // of the next removal of what is too old
	for {
		var done chan struct{}
		reached, stop := f.clock.Until(due)
		select {
		case <-ctx.Done():
			stop()
			return nil
		case <-f.nudge:
		case done = <-f.flush:
		case <-reached:
		}
		stop()
		err := f.catchUp(ctx)
		if now := f.clock.Now(); err == nil && !now.Before(due) {
			if err = f.sweep(ctx, now); err == nil {
				due = now.Add(f.every)
			}
		}
		if done != nil {
			close(done)
		}
		if err != nil && ctx.Err() == nil {
			f.logger.Warn(f.what+" cannot be written; trying again", "error", err)
			f.Nudge()
		}
		f.rest(ctx)
	}
}

// rest waits a while, unless somebody wants to see what there is.
func (f *follower) rest(ctx context.Context) {
	rested, stop := f.pace.Until(f.pace.Now().Add(pause))
	defer stop()
	for {
		select {
		case <-rested:
			return
		case <-ctx.Done():
			return
		case done := <-f.flush:
			if err := f.catchUp(ctx); err != nil {
				f.Nudge()
			}
			close(done)
		}
	}
}

// Settle waits until what the loops had passed and written when it was called
// is counted and can be found, two seconds at most: then what is read is of
// before.
func (f *follower) Settle(ctx context.Context) {
	late, stop := f.pace.Until(f.pace.Now().Add(settleTime))
	defer stop()
	done := make(chan struct{})
	select {
	case f.flush <- done:
	case <-late:
		return
	case <-ctx.Done():
		return
	}
	select {
	case <-done:
	case <-late:
	case <-ctx.Done():
	}
}

// catchUp takes what there is, chunk by chunk. When there is much it rests after
// each chunk for as long as that took: what is behind may wait, what goes on
// beside it may not.
func (f *follower) catchUp(ctx context.Context) error {
	for _, space := range f.spaces() {
		for {
			began := f.pace.Now()
			more, err := f.chunk(ctx, space)
			if err != nil {
				f.failed(space)
				return fmt.Errorf("space %d: %w", space, err)
			}
			if !more {
				break
			}
			now := f.pace.Now()
			rested, stop := f.pace.Until(now.Add(now.Sub(began)))
			select {
			case <-rested:
			case <-ctx.Done():
			}
			stop()
		}
	}
	return nil
}
