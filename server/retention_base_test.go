package server

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"kith/api"
	"kith/archive"
	"kith/client"
	"kith/commitlog"
	"kith/event"
	"kith/fault"
	"kith/kv/memkv"
	"kith/pipeline"
	"kith/rebuild"
	"kith/revision"
)

// advanced moves the horizon to the first record that was appended at an instant
// or later.
func (n *inn) advanced(before time.Time) archive.Horizon {
	n.t.Helper()
	ctx, cancel := context.WithTimeout(n.t.Context(), 30*time.Second)
	defer cancel()
	id, err := n.s.rebuilds.AdvanceBase(ctx, 1, before)
	if err != nil {
		n.t.Fatal(err)
	}
	for {
		j, err := n.s.jobs.Get(ctx, id)
		if err != nil {
			s, _ := n.s.rebuilds.Base(n.t.Context(), 1)
			n.t.Fatalf("%v; %+v", err, s)
		}
		switch j.State {
		case "finished":
			h, err := n.s.archive.Horizon(ctx, 1)
			if err != nil {
				n.t.Fatal(err)
			}
			return h
		case "failed":
			n.t.Fatalf("the base was not advanced: %s", j.Error)
		}
		rest(ctx, time.Millisecond)
	}
}

// instant returns an instant in the life of the space: that of a record, by
// where it is between the first, 0, and the last, 1.
func (n *inn) instant(part float64) time.Time {
	n.t.Helper()
	at := commitlog.Offset(float64(n.s.space(1).raw.End()-1) * part)
	var ms int64
	_, err := n.s.archive.FollowHeads(n.t.Context(), 1, at, 1<<10, func(j *pipeline.Judged) error {
		if j.Offset == at {
			ms = j.Head.At
		}
		return nil
	})
	if err != nil || ms == 0 {
		n.t.Fatalf("record %d: %v", at, err)
	}
	return time.UnixMilli(ms)
}

// same rebuilds the space and compares the outcome with what was live.
func (n *inn) same(when string) {
	n.t.Helper()
	live := n.s.space(1).epoch()
	was, told := n.derived(live), n.received()
	s := n.rebuilt(rebuild.Request{Note: when})
	if lines := differ(was, n.derived(s.Number)); len(lines) > 0 {
		n.t.Errorf("%s: %d differences, among them:\n%s", when, len(lines), strings.Join(lines[:min(len(lines), 12)], "\n"))
	}
	if more := n.received() - told; more != 0 {
		n.t.Errorf("%s: the destination was told %d more", when, more)
	}
}

// derived is state without what says how it came about: what became of
// revisions, whose records are in place of what was recorded first, how often
// identifiers were refused, which is counted for all who met one, and when timers
// fire, which may be earlier than anything is due after a definition was edited.
func (n *inn) derived(epoch uint32) map[string]string {
	all := n.state(epoch)
	for key := range all {
		for _, room := range []string{`"z`, `"w`, `"iv`, `"t`} {
			if strings.HasPrefix(key, room) {
				delete(all, key)
			}
		}
	}
	return all
}

// After the horizon has moved a rebuild begins with the base, and gives what is
// live, key by key.
func TestBase(t *testing.T) {
	for seed := range uint64(6) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			n := openInn(t, seed, nil)
			n.apply(1, 2, 30, true)
			n.live(150)
			before := n.state(1)
			h := n.advanced(n.instant(0.4))
			for at := range h.Offset { // whose those are is not scanned any more
				delete(before, fmt.Sprintf("record %d", at))
			}
			if lines := differ(before, n.state(1)); h.Offset == 0 || len(lines) > 0 {
				t.Fatalf("horizon %+v; live:\n%s", h, strings.Join(lines, "\n"))
			}
			s, err := n.s.rebuilds.Base(t.Context(), 1)
			if err != nil || s.Epoch == 0 || s.Horizon != h.Offset || s.Advancing {
				t.Fatalf("%+v, %v", s, err)
			}
			n.same("after the first advance")
			n.live(60)
			again := n.advanced(n.instant(0.8))
			if again.Offset <= h.Offset {
				t.Fatalf("from %d to %d", h.Offset, again.Offset)
			}
			n.same("after the second")
			n.live(60)
			n.same("and later")
			if back := n.advanced(n.instant(0.1)); back != again {
				t.Errorf("led back to %+v", back)
			}
			n.gone(s.Epoch)
		})
	}
}

// order orders a standing command and waits until its revision is over.
func (n *inn) order(c *event.Command) revision.State {
	n.t.Helper()
	ctx, cancel := context.WithTimeout(n.t.Context(), 30*time.Second)
	defer cancel()
	done, err := n.s.Order(ctx, 1, c)
	if err == nil {
		err = n.s.Passed(ctx, 1, done.Offset)
	}
	if err != nil {
		n.t.Fatal(err)
	}
	n.orders = append(n.orders, done.Offset)
	state, err := n.s.reviser.Revised(ctx, 1, done.Offset)
	if err != nil {
		n.t.Fatalf("%v: %+v", err, state)
	}
	return state
}

// split parts somebody who has several identifiers, at random; false: nobody
// has.
func (n *inn) split() (revision.State, bool) {
	n.t.Helper()
	var several [][]string
	for names := range n.people(n.s.space(1).epoch()) {
		if ids := strings.Fields(names); len(ids) > 2 && !strings.Contains(names, "group_id") {
			several = append(several, ids)
		}
	}
	if len(several) == 0 {
		return revision.State{}, false
	}
	slices.SortFunc(several, func(a, b []string) int { return slices.Compare(a, b) })
	ids := several[n.dice.IntN(len(several))]
	cut := 1 + n.dice.IntN(len(ids)-1)
	side := func(list []string) (out []event.ExternalID) {
		for _, text := range list {
			name, value, _ := strings.Cut(text, ":")
			out = append(out, event.ExternalID{Type: name, ID: value})
		}
		return out
	}
	return n.order(&event.Command{Separate: &event.Separate{Left: side(ids[:cut]), Right: side(ids[cut:])}}), true
}

// unsettle orders what holds for all time, at random.
func (n *inn) unsettle() {
	n.t.Helper()
	switch n.dice.IntN(5) {
	case 0:
		n.order(&event.Command{Block: &event.ExternalID{Type: "anonymous_id", ID: fmt.Sprintf("d%d", n.dice.IntN(20))}})
	case 1:
		if len(n.orders) > 0 {
			n.order(&event.Command{Lift: &event.Lift{Offset: uint64(n.orders[n.dice.IntN(len(n.orders))])}})
		}
	default:
		n.split()
	}
}

// What was joined before the horizon can be parted after it: the live state and
// a rebuild agree on who keeps what, and the state says so.
func TestUnmergeBehindTheHorizon(t *testing.T) {
	stayed := 0
	for seed := range uint64(6) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			n := openInn(t, seed, nil)
			n.apply(1, 2, 30, true)
			n.open = true // a revision leaves what stands still with somebody
			n.live(150)
			n.unsettle()
			for round := range 3 {
				n.advanced(n.instant(0.8))
				n.live(25)
				for range 3 {
					if s, ok := n.split(); ok && len(s.Stayed) > 0 {
						stayed++
						if s.Horizon == 0 {
							t.Errorf("%+v", s)
						}
					}
					n.unsettle()
					n.live(10)
				}
				n.same(fmt.Sprint("round ", round))
			}
		})
	}
	if stayed < 10 {
		t.Errorf("%d commands left something with somebody: the test proves too little", stayed)
	}
}

// The process dies at some commit of an advance, or of a rebuild that begins
// with the base. The next one goes on, and a rebuild gives what is live.
func TestBaseCrashes(t *testing.T) {
	died := 0
	for at := int64(1); at <= 24; at++ {
		var left atomic.Int64 // commits until the process is dead; zero and below: it is not to die
		left.Store(-1 << 40)
		var dead atomic.Bool
		db := memkv.NewWith(memkv.Options{Fault: func(op string) error {
			if (op == memkv.OpCommit || op == memkv.OpDeleteRange) && left.Add(-1) == 0 {
				dead.Store(true)
			}
			if dead.Load() {
				return fault.New(fault.Unavailable, "the process is dead")
			}
			return nil
		}})
		n := openDying(t, uint64(at), db)
		n.apply(1, 2, 30, true)
		n.open = true
		n.live(80)
		n.advanced(n.instant(0.4))
		n.live(40)
		n.split()
		n.apply(1, 2, 10, true) // an audience is edited: the next base adopts it
		n.live(5)
		target := n.instant(0.7)
		advances := at%3 > 0
		left.Store(1 + at/3*2 + at%3)
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		id, rebuilt := "", &rebuild.Status{}
		var err error
		if advances {
			id, err = n.s.rebuilds.AdvanceBase(ctx, 1, target)
		} else if rebuilt, err = n.s.rebuilds.Start(ctx, 1, rebuild.Request{}); err == nil {
			id = fmt.Sprintf("rebuild/1/%d", rebuilt.Number)
		}
		for err == nil && !dead.Load() && ctx.Err() == nil {
			if j, err := n.s.jobs.Get(ctx, id); err == nil && j.State == "finished" {
				break // it took fewer commits
			}
			rest(ctx, time.Millisecond)
		}
		if dead.Load() {
			died++
		}
		dead.Store(true)
		left.Store(-1 << 40)
		n.die()
		dead.Store(false)

		next := &inn{t: t, sink: n.sink, vars: n.vars, dice: n.dice, fixed: true}
		cfg := innConfig(db.Crash(rand.IntN(db.AtRisk() + 1)))
		cfg.TestClock = n.s.clock.Now()
		var base string
		next.s, base, _ = running(t, cfg)
		if next.c, err = client.New(base, "test-token", nil); err != nil {
			t.Fatal(err)
		}
		if advances {
			if h := next.advanced(target); h.At != target.UnixMilli() {
				t.Errorf("died at commit %d: the horizon is %+v", at, h)
			}
		}
		all, err := next.s.rebuilds.List(ctx, 1)
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range all {
			switch {
			case s.State == rebuild.Running:
				next.becomes(s.Number, rebuild.Live)
			case s.State == rebuild.Failed: // it died before its job was started
				if err := next.s.rebuilds.Cancel(ctx, 1, s.Number); err != nil {
					t.Fatal(err)
				}
			}
		}
		next.same(fmt.Sprintf("died at commit %d, advancing %t", at, advances))
		cancel()
	}
	if died < 12 {
		t.Errorf("the process died in %d cases only: the test proves too little", died)
	}
	t.Logf("the process died in %d cases", died)
}

// Everything together: calls, the clock, edits of definitions and rules,
// commands, a rebuild by today's rules, a simulation; and the horizon moves three
// times. Who is erased at the end is in no state, nor in one that begins with the
// base.
func TestHorizonAmongAll(t *testing.T) {
	for seed := range uint64(4) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			n := openInn(t, 100+seed, nil)
			n.open = true
			n.apply(1, 2, 30, true)
			n.live(120)
			for round := range 3 {
				n.unsettle()
				h := n.advanced(n.instant(0.7))
				n.live(30)
				n.split()
				n.live(10)
				n.same(fmt.Sprint("round ", round))
				if round == 1 {
					n.rebuilt(rebuild.Request{Rules: rebuild.Current})
					n.same("by today's rules from the horizon on")
				}
				n.unsettle()
				if round == 2 {
					report := n.triedRules()
					if report.Horizon == "" || report.Records != uint64(n.s.space(1).loop().Position().Next-h.Offset) {
						t.Errorf("%+v of horizon %+v", report, h)
					}
				}
			}
			address := "m5@example.com"
			if len(n.holds(address)) == 0 {
				t.Fatal("nobody has it")
			}
			n.forget(address)
			for _, when := range []string{"erased", "rebuilt"} {
				for _, key := range n.holds(address) {
					if !strings.Contains(key, `fp\x01`) { // not a trait of somebody else's, of which no event is left
						t.Errorf("%s: found in %s", when, key)
					}
				}
				n.rebuilt(rebuild.Request{})
			}
		})
	}
}

// triedRules tries the rules that are in force on the past.
func (n *inn) triedRules() *api.SimulationReport {
	n.t.Helper()
	ctx, cancel := context.WithTimeout(n.t.Context(), 20*time.Second)
	defer cancel()
	rules, err := json.Marshal(n.s.workspace.Current().SpaceByNumber(1))
	if err != nil {
		n.t.Fatal(err)
	}
	s, err := n.s.rebuilds.Try(ctx, 1, rebuild.Trial{Space: rules})
	for err == nil && s.State == rebuild.Running && ctx.Err() == nil {
		rest(ctx, time.Millisecond)
		s, err = n.s.rebuilds.Trial(ctx, 1, s.Number)
	}
	report := &api.SimulationReport{}
	if err == nil {
		err = json.Unmarshal(s.Report, report)
	}
	if err != nil {
		n.t.Fatalf("%v: %+v", err, s)
	}
	return report
}
