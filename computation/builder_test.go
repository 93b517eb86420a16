package computation

import (
	"context"
	"fmt"
	"testing"
	"time"

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

// crowded is a loop into which new people come faster than the Builder walks.
type crowded struct {
	Loop
	world *world
	came  int
}

func (c *crowded) Do(ctx context.Context, fn pipeline.Work) error {
	c.world.row.Clock.Set(c.world.row.Clock.Now().Add(2 * time.Second))
	for range 10 {
		c.came++
		c.world.row.Append(rowtest.Call{Body: call("track", fmt.Sprintf("new%d", c.came), `"event":"Booked"`), Source: "web"})
	}
	c.world.row.Send(rowtest.Call{Body: call("track", "u0", `"event":"Other"`), Source: "web"})
	return c.Loop.Do(ctx, fn)
}

// TestBuilderEndsWhilePeopleCome: an audience becomes live though more people
// come between two steps than a step visits, and all of them are in it.
func TestBuilderEndsWhilePeopleCome(t *testing.T) {
	w := newWorld(t, memory())
	c := &crowded{Loop: w.row.Loop, world: w}
	w.builder.cfg.Loop, w.builder.step = c, 5
	w.declare()
	for i := range 20 {
		w.row.Append(rowtest.Call{Body: call("track", fmt.Sprintf("u%d", i), `"event":"Booked"`), Source: "web"})
	}
	w.declare(workspace.Audience{Key: "booked", Name: "Booked", Enabled: true, Query: "event('Booked').count() >= 1"})
	for range 60 {
		w.buildStep()
	}
	if s := w.status("booked"); s.State != Live || s.Size != int64(20+c.came) {
		t.Errorf("the audience is %s with %d members, want it live with %d", s.State, s.Size, 20+c.came)
	}
}
