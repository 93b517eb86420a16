package revision_test

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"kith/commitlog"
	"kith/event"
	"kith/internal/sim/rowtest"
	"kith/kv/memkv"
	"kith/workspace"
)

var (
	flagSeeds = flag.Int("revision.seeds", 60, "how many random histories are tried")
	flagEach  = flag.Bool("revision.each", false, "look at what there is after every command")
	flagSeed  = flag.Uint64("revision.seed", 0, "the one random history that is tried; zero tries many")
)

// TestRandomHistories: after any history of events, late ones among them, of
// changes of the rules, of commands and of time passing, the live epoch is key
// by key what a replay from the beginning gives with the standing commands in
// force from its start; and destinations have been told of exactly what is
// true.
func TestRandomHistories(t *testing.T) {
	if *flagSeed != 0 {
		history(t, *flagSeed)
		return
	}
	for seed := range uint64(*flagSeeds) {
		if !t.Run(fmt.Sprint(seed+1), func(t *testing.T) { history(t, seed+1) }) {
			t.Fatalf("run it again with -run TestRandomHistories -revision.seed %d", seed+1)
		}
	}
}

// random is a history being made.
type random struct {
	*world
	log    *testing.T
	chance *rand.Rand
	orders []commitlog.Offset // separates and blocks that are not lifted
}

func (r *random) one(list ...string) string { return list[r.chance.IntN(len(list))] }

func (r *random) id() string {
	switch kind := r.one("user_id", "anonymous_id", "anonymous_id", "email", "card"); kind {
	case "user_id":
		return kind + ":" + r.one("u1", "u2", "u3", "u4")
	case "anonymous_id":
		return kind + ":" + r.one("a1", "a2", "a3", "a4", "a5", "a6")
	case "email":
		return kind + ":" + r.one("e1", "e2", "e3")
	default:
		return kind + ":" + r.one("c1", "c2", "c3")
	}
}

// ids returns up to three identifiers of different types.
func (r *random) ids() string {
	var list []string
	for range 1 + r.chance.IntN(3) {
		id := r.id()
		kind, _, _ := strings.Cut(id, ":")
		if !slices.ContainsFunc(list, func(x string) bool { return strings.HasPrefix(x, kind+":") }) {
			list = append(list, id)
		}
	}
	return strings.Join(list, " ")
}

func (r *random) call() rowtest.Call {
	c := call(r.t, r.one("track Bought ", "track Seen ", "identify city="+r.one("Ulm", "Bonn", "Kiel")+" ",
		"identify tier="+r.one("gold", "silver")+" ", "group "+r.one("g1", "g2")+" ")+r.ids())
	if r.chance.IntN(4) == 0 { // late
		c.Time = r.row.Clock.Now().Add(-time.Duration(r.chance.IntN(72)) * time.Hour)
	}
	return c
}

// command returns an order of one kind or another.
func (r *random) command() *event.Command {
	switch r.chance.IntN(6) {
	case 0:
		return block(r.id())
	case 1:
		return &event.Command{DeleteIdentifier: &event.DeleteIdentifier{Identifier: ext(r.id())}}
	case 2:
		return &event.Command{Leave: &event.Leave{User: ext(r.id()), Account: ext("group_id:" + r.one("g1", "g2"))}}
	case 3:
		if len(r.orders) > 0 {
			i := r.chance.IntN(len(r.orders))
			at := r.orders[i]
			r.orders = slices.Delete(r.orders, i, i+1)
			return lift(at)
		}
	}
	left, right := r.id(), r.id()
	for left == right {
		right = r.id()
	}
	return separate(left, right)
}

func (r *random) send(c rowtest.Call) {
	at := r.row.Send(c)
	if *flagSeed != 0 {
		r.log.Logf("%d: %s", at, c.Body)
	}
}

func (r *random) carryOut(c *event.Command) {
	at := r.row.Order(c)
	if *flagSeed != 0 {
		body, err := c.Encode()
		r.log.Logf("%d: %s (%v)", at, body, err)
	}
	if *flagEach {
		r.settle()
		r.log.Logf("%v", r.people())
		r.same()
		if r.log.Failed() {
			r.log.FailNow()
		}
	}
	if c.Separate != nil || c.Block != nil {
		r.orders = append(r.orders, at)
	}
}

func history(t *testing.T, seed uint64) {
	w := newWorld(t, memkv.New())
	r := &random{world: w, log: t, chance: rand.New(rand.NewPCG(seed, 0))}
	w.declare(func(s *workspace.Snapshot) {
		s.Spaces[0].Identifiers = []workspace.IdentifierRule{
			{Type: "user_id", Limit: 1 + r.chance.IntN(2)}, {Type: "email", Limit: 1 + r.chance.IntN(2)}, {Type: "anonymous_id", Limit: 2 + r.chance.IntN(4)},
		}
	})
	w.audience("buyers", buyers)
	w.audience("recent", `event('Bought').within(2 days).count() >= 1`)
	w.audience("gold", `trait('tier') = 'gold' AND event('Seen').count() >= 1`)
	w.audience("quiet", `NOT buyers AND trait('city') = 'Ulm'`)
	for range 4 {
		for range 10 + r.chance.IntN(15) {
			switch n := r.chance.IntN(20); {
			case n == 0:
				r.row.Clock.Set(r.row.Clock.Now().Add(time.Duration(1+r.chance.IntN(40)) * time.Hour))
			case n == 1 && r.chance.IntN(3) == 0:
				w.declare(func(s *workspace.Snapshot) {
					s.Spaces[0].Identifiers = slices.Clone(s.Spaces[0].Identifiers)
					s.Spaces[0].Identifiers[2].Limit = 2 + r.chance.IntN(4)
				})
			case n < 4:
				r.carryOut(r.command())
			default:
				r.send(r.call())
			}
		}
		r.atOnce()
		w.settle()
		w.same()
		w.upToDate()
	}
	if seed%5 == 0 {
		w.restart()
		w.settle()
		w.same()
		w.upToDate()
	}
}

// atOnce sends events and commands from several sides while revisions run.
func (r *random) atOnce() {
	var calls []rowtest.Call
	for range 20 {
		calls = append(calls, r.call())
	}
	var orders []*event.Command
	for range r.chance.IntN(4) {
		orders = append(orders, r.command())
	}
	var side sync.WaitGroup
	for _, c := range calls {
		at := r.row.Append(c)
		if *flagSeed != 0 {
			r.log.Logf("%d: %s", at, c.Body)
		}
		if len(orders) > 0 && r.chance.IntN(5) == 0 {
			r.carryOut(orders[0])
			r.reviser.Wake()
			orders = orders[1:]
		}
	}
	side.Wait()
	for _, c := range orders {
		r.carryOut(c)
	}
}

// settle waits until everything that was ordered is worked out and told.
func (w *world) settle() {
	w.t.Helper()
	w.row.Send(call(w.t, "track Nothing user_id:bystander")) // the last of what was appended has passed
	w.reviser.Wake()
	list, err := w.reviser.Commands(context.Background(), rowtest.Space)
	if err != nil {
		w.t.Fatal(err)
	}
	for _, c := range list {
		w.revised(c.Offset)
	}
}
