package computation

import (
	"context"
	"fmt"
	"testing"

	"kith/fault"
	"kith/internal/sim/rowtest"
	"kith/pipeline"
	"kith/workspace"
)

// narrow is a loop whose transactions hold few steps.
type narrow struct {
	Loop
	steps int
}

func (n narrow) Do(ctx context.Context, fn pipeline.Work) error {
	return n.Loop.Do(ctx, func(b *pipeline.Batch, step func(*pipeline.Record) error) error {
		left := n.steps
		return fn(b, func(r *pipeline.Record) error {
			if left--; left < 0 {
				return fault.New(fault.Invalid, "the transaction is too large")
			}
			return step(r)
		})
	})
}

// TestBuilderHalvesWhatATransactionRefuses builds an audience of forty people
// from history through a loop that takes three at a time.
func TestBuilderHalvesWhatATransactionRefuses(t *testing.T) {
	w := newWorld(t, memory())
	w.builder.cfg.Loop = narrow{w.row.Loop, 3}
	w.declare() // the source
	for i := range 40 {
		w.row.Append(rowtest.Call{Body: call("track", fmt.Sprintf("u%d", i), `"event":"Booked"`), Source: "web"})
	}
	w.row.Send(rowtest.Call{Body: call("track", "u40", `"event":"Other"`), Source: "web"})
	w.declare(workspace.Audience{Key: "booked", Name: "Booked", Enabled: true, Query: "event('Booked').count() >= 1"})
	w.build()
	if s := w.status("booked"); s.State != Live || s.Size != 40 {
		t.Errorf("the audience is %s with %d members, want it live with 40", s.State, s.Size)
	}
}
