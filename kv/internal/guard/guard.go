package guard

import (
	"context"
	"sync"

	"kith/fault"
	"kith/kv"
)

// Guard counts the calls that run in a store, hands out its fences and closes
// it. All methods are safe for concurrent use.
type Guard struct {
	mu     sync.Mutex
	closed bool
	idle   chan struct{} // closed when the store is closed and nothing runs
	calls  int
	fences map[kv.Fence]*slot
}

// slot is one fence. turn holds a token while an update runs under the fence.
type slot struct {
	turn  chan struct{}
	users int // updates that run or wait
}

// New returns the guard of an open store.
func New() *Guard {
	return &Guard{idle: make(chan struct{}), fences: make(map[kv.Fence]*slot)}
}

// Enter starts a call; Leave ends it. It fails with fault.Unavailable once the
// store is closed, or when ctx is done.
func (g *Guard) Enter(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return fault.Wrap(fault.Unavailable, err)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return fault.New(fault.Unavailable, "the store is closed")
	}
	g.calls++
	return nil
}

// Leave ends a call that Enter has let in.
func (g *Guard) Leave() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.calls--
	if g.closed && g.calls == 0 {
		close(g.idle)
	}
}

// Close refuses new calls, waits for the running ones, and reports whether
// this call was the one that closed the store.
func (g *Guard) Close() bool {
	g.mu.Lock()
	first := !g.closed
	g.closed = true
	if first && g.calls == 0 {
		close(g.idle)
	}
	g.mu.Unlock()
	<-g.idle
	return first
}

// Lock waits for the caller's turn under fence f, in order of arrival. Unlock
// must follow. It fails with fault.Unavailable when ctx is done first.
func (g *Guard) Lock(ctx context.Context, f kv.Fence) error {
	g.mu.Lock()
	s := g.fences[f]
	if s == nil {
		s = &slot{turn: make(chan struct{}, 1)}
		g.fences[f] = s
	}
	s.users++
	g.mu.Unlock()
	select {
	case s.turn <- struct{}{}:
		return nil
	default:
	}
	select {
	case s.turn <- struct{}{}:
		return nil
	case <-ctx.Done():
		g.release(f, s)
		return fault.Wrap(fault.Unavailable, ctx.Err())
	}
}

// Unlock ends the caller's turn.
func (g *Guard) Unlock(f kv.Fence) {
	g.mu.Lock()
	s := g.fences[f]
	g.mu.Unlock()
	<-s.turn
	g.release(f, s)
}

// release forgets the fence when nobody wants it, so that the fences of jobs
// long done do not add up.
func (g *Guard) release(f kv.Fence, s *slot) {
	g.mu.Lock()
	defer g.mu.Unlock()
	s.users--
	if s.users == 0 {
		delete(g.fences, f)
	}
}
