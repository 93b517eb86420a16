package server

import (
	"context"
	"fmt"
	"sync"
)

// crew is goroutines that end together. Whoever makes one stops it.
type crew struct {
	ctx    context.Context
	cancel context.CancelFunc
	failed chan<- error // takes the first failure; the rest is in the log
	wg     sync.WaitGroup
}

func newCrew(failed chan<- error) *crew { return newCrewIn(context.Background(), failed) }

// newCrewIn makes a crew that ends with ctx too, which stop must still wait for.
func newCrewIn(ctx context.Context, failed chan<- error) *crew {
	ctx, cancel := context.WithCancel(ctx)
	return &crew{ctx: ctx, cancel: cancel, failed: failed}
}

// run runs fn until the crew stops. An error before that is a failure.
func (c *crew) run(name string, fn func(context.Context) error) {
	c.wg.Go(func() {
		err := fn(c.ctx)
		if err == nil || c.ctx.Err() != nil {
			return
		}
		select {
		case c.failed <- fmt.Errorf("%s: %w", name, err):
		default:
		}
	})
}

// begin runs fn until the crew stops or the function it returns is called,
// which waits for its end. An error before that is a failure.
func (c *crew) begin(name string, fn func(context.Context) error) (end func()) {
	ctx, cancel := context.WithCancel(c.ctx)
	ended := make(chan struct{})
	c.run(name, func(context.Context) error {
		defer close(ended)
		if err := fn(ctx); err != nil && ctx.Err() == nil {
			return err
		}
		return nil
	})
	return func() {
		cancel()
		<-ended
	}
}

// stop ends the goroutines and waits for them.
func (c *crew) stop() {
	c.cancel()
	c.wg.Wait()
}
