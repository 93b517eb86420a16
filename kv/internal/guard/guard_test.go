package guard

import (
	"context"
	"fmt"
	"sync"
	"testing"

	"kith/fault"
	"kith/kv"
)

// TestFencesAreForgotten: the fences of jobs long done must not add up.
func TestFencesAreForgotten(t *testing.T) {
	g := New()
	var wg sync.WaitGroup
	for i := range 200 {
		wg.Go(func() {
			f := kv.Fence(fmt.Sprint("job/", i%20))
			if err := g.Lock(context.Background(), f); err != nil {
				t.Error(err)
				return
			}
			g.Unlock(f)
		})
	}
	wg.Wait()
	if err := g.Lock(t.Context(), "held"); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := g.Lock(ctx, "held"); !fault.Is(err, fault.Unavailable) {
		t.Errorf("waiting with a context that is done: %v", err)
	}
	g.Unlock("held")
	if len(g.fences) > 0 {
		t.Errorf("%d fences are remembered though nobody wants them", len(g.fences))
	}
}

func TestClose(t *testing.T) {
	g := New()
	if err := g.Enter(t.Context()); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	firsts := make(chan bool, 2)
	for range 2 {
		wg.Go(func() { firsts <- g.Close() })
	}
	for g.Enter(t.Context()) == nil {
		g.Leave()
	}
	g.Leave()
	wg.Wait()
	if a, b := <-firsts, <-firsts; a == b {
		t.Errorf("of two that close one is the first; they were told %v and %v", a, b)
	}
	if g.Close() {
		t.Error("a third was told that it closed the store")
	}
}
