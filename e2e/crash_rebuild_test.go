package e2e

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"kith/api"
	"kith/fault"
	"kith/rebuild"
)

// TestCrashWhileRebuilding rebuilds a space under load again and again, and
// kills the server with kill -9 in the middle of it: while it replays, at the
// swap, while it tells destinations. Then it settles the accounts of TestCrash.
func TestCrashWhileRebuilding(t *testing.T) {
	crashes := 6
	if testing.Short() {
		crashes = 2
	}
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 1000))
	h := newCrashHouse(t, seed, 0)
	interrupted := map[string]int{}
	for i := range crashes {
		h.acknowledged(int64(i+1) * acksPerCrash / 2)
		var one struct {
			Rebuild api.Rebuilding `json:"rebuild"`
		}
		err := h.client().Call(t.Context(), "POST", "/spaces/default/rebuilds", map[string]any{}, &one)
		if err != nil && !fault.Is(err, fault.Conflict) { // the one before goes on
			t.Fatal(err)
		}
		moment := time.NewTimer(time.Duration(random.IntN(500)) * time.Millisecond)
		<-moment.C
		for _, x := range h.rebuilds() {
			if x.ID == one.Rebuild.ID {
				interrupted[x.State]++
			}
		}
		h.process.kill()
		h.start()
	}
	h.stop()
	live := h.rebuilt()
	h.end()
	t.Logf("%d crashes, when the rebuilds were %v; epoch %d is live, %d requests acknowledged", crashes, interrupted, live, h.acks.Load())
	h.compare(live)
	if live < 2 {
		t.Error("no rebuild was swapped")
	}
}

// rebuilds lists the states of the default space.
func (h *crashHouse) rebuilds() []api.Rebuilding {
	h.t.Helper()
	var all struct {
		Rebuilds []api.Rebuilding `json:"rebuilds"`
	}
	if err := h.client().Call(h.t.Context(), "GET", "/spaces/default/rebuilds", nil, &all); err != nil {
		h.t.Fatal(err)
	}
	return all.Rebuilds
}

// rebuilt waits until no rebuild is under way, and returns the live epoch.
func (h *crashHouse) rebuilt() (live uint32) {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(h.t.Context(), patience)
	defer cancel()
	err := until(ctx, func() error {
		for _, x := range h.rebuilds() {
			switch rebuild.State(x.State) {
			case rebuild.Live:
				live = x.ID
				if x.Reconciled == nil || x.Reconciled.State != "finished" {
					return fmt.Errorf("destinations are being told")
				}
			case rebuild.Kept, rebuild.Dropped:
			default:
				return fmt.Errorf("rebuild %d is %s: %s, %d of %d", x.ID, x.State, x.Error, x.Done, x.Total)
			}
		}
		return nil
	})
	if err != nil {
		h.t.Fatalf("%v\n%s", err, h.process.log)
	}
	return live
}
