package revision_test

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"kith/internal/sim/rowtest"
	"kith/kv"
	"kith/kv/memkv"
	"kith/workspace"
)

// broken is a store that fails from some update on, as one does whose machine
// goes down.
type broken struct {
	kv.DB
	left atomic.Int64 // updates that succeed; below zero: all
}

var errDown = errors.New("the store is down")

// Update fails once its time has come.
func (b *broken) Update(ctx context.Context, f kv.Fence, d kv.Durability, fn func(kv.Tx) error) error {
	switch left := b.left.Load(); {
	case left == 0:
		return errDown
	case left > 0:
		b.left.Add(-1)
	}
	return b.DB.Update(ctx, f, d, fn)
}

// TestCrashAtEachStep: a revision that is cut off between any two of its steps
// is done after a restart as if nothing had happened: the same state, and the
// hook has been told the same.
func TestCrashAtEachStep(t *testing.T) {
	steps := int64(0)
	for crashed(t, steps) {
		if steps++; steps > 50 {
			t.Fatal("a revision has no end")
		}
	}
	if steps < 2 { // the swap, and what activation looks at
		t.Errorf("there were only %d steps to crash at", steps)
	}
}

// crashed has the loop crash at an update after the command, and reports
// whether there was one.
func crashed(t *testing.T, at int64) bool {
	t.Helper()
	db := &broken{DB: memkv.New()}
	db.left.Store(-1)
	w := newWorld(t, db)
	w.declareFamily()
	w.told()
	w.stop()
	order := w.row.Order(block("email:all@example.com"))
	db.left.Store(at)
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	ended := make(chan error, 1)
	reviser := w.newReviser(db)
	go func() { ended <- reviser.Run(ctx, func() []uint32 { return []uint32{rowtest.Space} }) }()
	revised := make(chan bool, 1)
	go func() {
		_, err := reviser.Revised(ctx, rowtest.Space, order)
		revised <- err == nil
	}()
	down := false
	select {
	case err := <-ended:
		down = err != nil
	case <-revised:
		cancel()
		<-ended
	}
	db.left.Store(-1)
	w.row.Restart(w.stages()...)
	w.start()
	w.reviser.Wake()
	w.revised(order)
	w.same()
	w.upToDate()
	if n := len(w.told()); n != 6 { // five guests have left, and the address
		t.Errorf("after a crash at step %d the hook was told %d things, want 6", at, n)
	}
	return down
}

// declareFamily makes one of five guests who gave the same address.
func (w *world) declareFamily() {
	w.declare(func(s *workspace.Snapshot) {
		s.Spaces[0].Identifiers = []workspace.IdentifierRule{{Type: "user_id", Limit: 100}, {Type: "email"}}
	})
	w.audience("buyers", buyers)
	for i := range 5 {
		w.send(fmt.Sprintf("track Bought user_id:u%d email:all@example.com", i))
	}
}
